/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the kernel's records of forks, PID namespaces, execs and guest entries
 * from a ring for each processor, and those of page faults from another one.
 * Entries are limited, as a guest may make thousands a second and each record
 * takes its time: the kernel stops by itself after so many, and they are let in
 * again for the next group. One fault in several is recorded.
 */
#include "tools/bench/bench-observer.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

/* A record of a fork and its namespaces takes 250 bytes. */
#define RING_BYTES (UINT64_C(512) << 10)
/* Besides those of one guest: of others on this machine, and of probes. */
#define ENTRIES       64
#define ENTRIES_A_RUN 16
/* 10,000 records, so 80,000 faults a processor; as much for each of a group. */
#define FAULT_RING_BYTES (UINT64_C(256) << 10)
#define FAULT_RINGS_MAX  16
/* More than any record takes. */
#define RECORD_ROOM 256
/* Accesses to devices, which some processors report as faults, are none. */
#define NO_DEVICES "!(error_code & 8)"

static const char *const tracefs[] = {"/sys/kernel/tracing",
				      "/sys/kernel/debug/tracing"};

/* ---- opening */

/* The number of a tracepoint; -1: there is none that can be read. */
static long find_tracepoint(const char *name)
{
	for (unsigned i = 0; i < ARRAY_LEN(tracefs); i++) {
		char path[80];
		long id = -1;
		FILE *f;

		snprintf(path, sizeof(path), "%s/events/kvm/%s/id", tracefs[i],
			 name);
		f = fopen(path, "re");
		if (f && fscanf(f, "%ld", &id) != 1)
			id = -1;
		if (f)
			fclose(f);
		if (id >= 0)
			return id;
	}
	return -1;
}

static struct perf_event_attr attributes(void)
{
	return (struct perf_event_attr){
		.size = sizeof(struct perf_event_attr),
		.sample_type = PERF_SAMPLE_TID | PERF_SAMPLE_TIME,
		.disabled = 1,
		.sample_id_all = 1,
		.use_clockid = 1,
		.clockid = CLOCK_MONOTONIC,
	};
}

static int open_event(const struct perf_event_attr *attr, unsigned cpu)
{
	const int fd = (int)syscall(SYS_perf_event_open, attr, -1, cpu, -1,
				    PERF_FLAG_FD_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static size_t ring_bytes(uint64_t bytes)
{
	return (size_t)sysconf(_SC_PAGESIZE) + (size_t)bytes;
}

/* 0 or -errno. */
static int map_ring(int fd, uint64_t bytes, void **ret_ring)
{
	void *ring = mmap(NULL, ring_bytes(bytes), PROT_READ | PROT_WRITE,
			  MAP_SHARED, fd, 0);

	if (ring == MAP_FAILED)
		return -errno;
	*ret_ring = ring;
	return 0;
}

/* 0 or -errno. -ENODEV: the processor is off. */
static int open_tasks(struct observer_cpu *cpu, unsigned number)
{
	struct perf_event_attr attr = attributes();

	attr.type = PERF_TYPE_SOFTWARE;
	attr.config = PERF_COUNT_SW_DUMMY;
	attr.task = attr.comm = attr.comm_exec = attr.namespaces = 1;
	cpu->tasks_fd = open_event(&attr, number);
	return cpu->tasks_fd < 0
		       ? cpu->tasks_fd
		       : map_ring(cpu->tasks_fd, RING_BYTES, &cpu->ring);
}

static int open_entries(const struct bench_observer *observer, unsigned number)
{
	struct observer_cpu *cpu = &observer->cpu[number];
	struct perf_event_attr attr = attributes();

	attr.type = PERF_TYPE_TRACEPOINT;
	attr.config = (uint64_t)observer->tracepoint;
	attr.sample_period = 1;
	cpu->entry_fd = open_event(&attr, number);
	if (cpu->entry_fd < 0)
		return cpu->entry_fd;
	/* The first group has them all. */
	cpu->taken = observer->entries;
	return ioctl(cpu->entry_fd, PERF_EVENT_IOC_SET_OUTPUT, cpu->tasks_fd) <
			       0
		       ? -errno
		       : 0;
}

static int open_all(const struct bench_observer *observer)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < observer->ncpus; i++) {
		r = open_tasks(&observer->cpu[i], i);
		if (r == -ENODEV)
			r = 0;
		else if (r == 0 && observer->tracepoint >= 0)
			r = open_entries(observer, i);
	}
	return r;
}

static int out_of_memory(void)
{
	return log_ret(-ENOMEM, "out of memory");
}

/* ---- page faults */

static int open_faults_of(struct observer_cpu *cpu, uint64_t bytes,
			  unsigned number)
{
	struct perf_event_attr attr = attributes();

	attr.type = PERF_TYPE_SOFTWARE;
	attr.config = PERF_COUNT_SW_PAGE_FAULTS;
	attr.sample_period = OBSERVER_FAULT_PERIOD;
	cpu->fault_fd = open_event(&attr, number);
	return cpu->fault_fd < 0
		       ? cpu->fault_fd
		       : map_ring(cpu->fault_fd, bytes, &cpu->fault_ring);
}

static int open_guest_faults_of(struct observer_cpu *cpu, long tracepoint,
				unsigned number)
{
	struct perf_event_attr attr = attributes();

	attr.type = PERF_TYPE_TRACEPOINT;
	attr.config = (uint64_t)tracepoint;
	attr.sample_period = OBSERVER_FAULT_PERIOD;
	cpu->guest_fault_fd = open_event(&attr, number);
	if (cpu->guest_fault_fd < 0)
		return cpu->guest_fault_fd;
	return ioctl(cpu->guest_fault_fd, PERF_EVENT_IOC_SET_OUTPUT,
		     cpu->fault_fd) < 0 ||
			       ioctl(cpu->guest_fault_fd,
				     PERF_EVENT_IOC_SET_FILTER, NO_DEVICES) < 0
		       ? -errno
		       : 0;
}

static void close_faults(struct bench_observer *observer)
{
	for (unsigned i = 0; i < observer->ncpus; i++) {
		struct observer_cpu *cpu = &observer->cpu[i];

		if (cpu->fault_ring)
			munmap(cpu->fault_ring,
			       ring_bytes(observer->fault_bytes));
		cpu->fault_ring = NULL;
		util_close(&cpu->guest_fault_fd);
		util_close(&cpu->fault_fd);
	}
}

/* Without them the other marks are taken. 0 or -ENOMEM, logged. */
static int open_faults(struct bench_observer *observer)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < observer->ncpus; i++) {
		struct observer_cpu *cpu = &observer->cpu[i];

		if (cpu->tasks_fd < 0)
			continue;
		r = open_faults_of(cpu, observer->fault_bytes, i);
		if (r == 0 && observer->fault_tracepoint >= 0)
			r = open_guest_faults_of(cpu,
						 observer->fault_tracepoint, i);
	}
	if (r == 0)
		return 0;
	close_faults(observer);
	if (asprintf(&observer->why_no_fault,
		     "the kernel's records of page faults: %s%s", strerror(-r),
		     r == -EPERM ? " (root may, and CAP_PERFMON with "
				   "CAP_IPC_LOCK)"
				 : "") < 0) {
		observer->why_no_fault = NULL;
		return out_of_memory();
	}
	return 0;
}

/* ---- all of them */

/* Nothing can be taken because of ERROR. 0 or -ENOMEM, logged. */
static int say_why(struct bench_observer *observer, int error)
{
	const bool denied = error == -EPERM || error == -EACCES;

	if (asprintf(&observer->why_no_init,
		     "perf_event_open(2) for the whole machine: %s%s",
		     strerror(-error),
		     denied ? " (root may, and CAP_PERFMON)" : "") < 0)
		observer->why_no_init = NULL;
	free(observer->why_no_entry);
	observer->why_no_entry =
		observer->why_no_init ? strdup(observer->why_no_init) : NULL;
	observer->why_no_fault =
		observer->why_no_init ? strdup(observer->why_no_init) : NULL;
	return observer->why_no_entry && observer->why_no_fault
		       ? 0
		       : out_of_memory();
}

/* Tracepoint NAME, or -1 and *RET_WHY. 0 or -ENOMEM, logged. */
static int take_tracepoint(const char *name, long *ret, char **ret_why)
{
	*ret = find_tracepoint(name);
	if (*ret >= 0)
		return 0;
	if (asprintf(ret_why,
		     "no tracepoint kvm:%s can be read below "
		     "/sys/kernel/tracing (KVM and tracefs make it; root may "
		     "read it)",
		     name) >= 0)
		return 0;
	*ret_why = NULL;
	return out_of_memory();
}

static void close_all(struct bench_observer *observer)
{
	close_faults(observer);
	for (unsigned i = 0; i < observer->ncpus; i++) {
		struct observer_cpu *cpu = &observer->cpu[i];

		if (cpu->ring)
			munmap(cpu->ring, ring_bytes(RING_BYTES));
		cpu->ring = NULL;
		util_close(&cpu->entry_fd);
		util_close(&cpu->tasks_fd);
	}
	observer->ncpus = 0;
}

int observer_open(struct bench_observer *observer, unsigned group)
{
	const long ncpus = sysconf(_SC_NPROCESSORS_CONF);
	int r;

	*observer = (struct bench_observer){
		.cpu = calloc(ncpus > 0 ? (size_t)ncpus : 1,
			      sizeof(*observer->cpu)),
		.entries = ENTRIES + ENTRIES_A_RUN * group,
		.fault_bytes = FAULT_RING_BYTES,
	};
	if (!observer->cpu)
		return out_of_memory();
	while (observer->fault_bytes < FAULT_RING_BYTES * group &&
	       observer->fault_bytes < FAULT_RING_BYTES * FAULT_RINGS_MAX)
		observer->fault_bytes *= 2;
	observer->ncpus = ncpus > 0 ? (unsigned)ncpus : 1;
	for (unsigned i = 0; i < observer->ncpus; i++)
		observer->cpu[i] = (struct observer_cpu){.tasks_fd = -1,
							 .entry_fd = -1,
							 .fault_fd = -1,
							 .guest_fault_fd = -1};
	if (take_tracepoint("kvm_entry", &observer->tracepoint,
			    &observer->why_no_entry) < 0 ||
	    take_tracepoint("kvm_page_fault", &observer->fault_tracepoint,
			    &observer->why_no_guest_fault) < 0)
		return -ENOMEM;
	r = open_all(observer);
	if (r == 0)
		return open_faults(observer);
	close_all(observer);
	return say_why(observer, r);
}

void observer_close(struct bench_observer *observer)
{
	close_all(observer);
	free(observer->cpu);
	free(observer->record);
	free(observer->why_no_entry);
	free(observer->why_no_init);
	free(observer->why_no_fault);
	free(observer->why_no_guest_fault);
	*observer = (struct bench_observer){0};
}

/* ---- reading */

static int add_record(struct bench_observer *observer,
		      const struct observer_record *record)
{
	if (observer->nrecords == observer->room) {
		const unsigned room = observer->room ? 2 * observer->room : 256;
		struct observer_record *more =
			reallocarray(observer->record, room, sizeof(*more));

		if (!more)
			return out_of_memory();
		observer->record = more;
		observer->room = room;
	}
	observer->record[observer->nrecords++] = *record;
	return 0;
}

/* As linux/perf_event.h has them, for the sample_type of attributes(). */
struct sample_id {
	uint32_t pid, tid;
	uint64_t time_ns;
};

struct fork_record {
	uint32_t pid, parent, tid, parent_tid;
	uint64_t time_ns;
};

struct namespaces_record {
	uint32_t pid, tid;
	uint64_t count;
	struct perf_ns_link_info link[NR_NAMESPACES];
};

/* Both begin with the process and its thread. */
union body {
	struct sample_id id;
	struct fork_record fork;
	struct namespaces_record ns;
};

/* False: a record that says nothing here. */
static bool decode(const struct perf_event_header *header,
		   const union body *body, size_t bytes,
		   const struct sample_id *last, struct observer_record *ret)
{
	*ret = (struct observer_record){.time_ns = last->time_ns,
					.pid = (pid_t)body->id.pid,
					.tid = (pid_t)body->id.tid};
	switch (header->type) {
	case PERF_RECORD_FORK:
		ret->kind = OBSERVER_FORK;
		ret->tid = (pid_t)body->fork.tid;
		ret->parent = (pid_t)body->fork.parent;
		return bytes >= sizeof(body->fork) && ret->pid == ret->tid &&
		       ret->pid != ret->parent;
	case PERF_RECORD_NAMESPACES:
		if (bytes < sizeof(body->ns) ||
		    body->ns.count <= PID_NS_INDEX || ret->pid != ret->tid)
			return false;
		ret->kind = OBSERVER_NS;
		ret->ns = body->ns.link[PID_NS_INDEX].ino;
		return true;
	case PERF_RECORD_COMM:
		ret->kind = OBSERVER_EXEC;
		return header->misc & PERF_RECORD_MISC_COMM_EXEC;
	case PERF_RECORD_SAMPLE:
		ret->kind = OBSERVER_ENTRY;
		return true;
	default:
		return false;
	}
}

struct ring {
	struct perf_event_mmap_page *page;
	const char *data;
	uint64_t bytes;
	enum observer_kind samples; /* the kind of its samples */
	unsigned taken;             /* samples */
	bool lost;                  /* records */
};

/* The ring's bytes FROM on; they may go on at its beginning. */
static void copy(void *to, const struct ring *ring, uint64_t from, size_t bytes)
{
	const uint64_t at = from % ring->bytes;
	const size_t first =
		bytes < ring->bytes - at ? bytes : (size_t)(ring->bytes - at);

	memcpy(to, ring->data + at, first);
	memcpy((char *)to + first, ring->data, bytes - first);
}

static int take_record(struct bench_observer *observer, struct ring *ring,
		       uint64_t from, const struct perf_event_header *header)
{
	const size_t bytes = header->size - sizeof(*header);
	struct observer_record record;
	struct sample_id last;
	union body body = {0};

	if (header->type == PERF_RECORD_SAMPLE)
		ring->taken++;
	if (bytes < sizeof(last))
		return 0;
	copy(&body, ring, from + sizeof(*header),
	     bytes < sizeof(body) ? bytes : sizeof(body));
	copy(&last, ring, from + header->size - sizeof(last), sizeof(last));
	if (!decode(header, &body, bytes, &last, &record))
		return 0;
	if (header->type == PERF_RECORD_SAMPLE)
		record.kind = ring->samples;
	return add_record(observer, &record);
}

static int read_ring(struct bench_observer *observer, struct ring *ring)
{
	struct perf_event_mmap_page *page = ring->page;
	/* Pairs with the kernel's barrier behind the records' bytes. */
	const uint64_t head =
		__atomic_load_n(&page->data_head, __ATOMIC_ACQUIRE);
	uint64_t at = page->data_tail;
	int r = 0;

	ring->data = (const char *)page + sysconf(_SC_PAGESIZE);
	while (r == 0 && at < head) {
		struct perf_event_header header;

		copy(&header, ring, at, sizeof(header));
		if (header.size < sizeof(header) || header.size > head - at)
			break;
		r = take_record(observer, ring, at, &header);
		at += header.size;
	}
	/*
	 * The kernel tells of what it lost when there is room again, so in the
	 * next group: a ring that is full has lost some.
	 */
	ring->lost = ring->bytes - (head - page->data_tail) < RECORD_ROOM;
	__atomic_store_n(&page->data_tail, head, __ATOMIC_RELEASE);
	return r;
}

/* Reads one processor's; RET_LOST: records of faults are missing. */
static int read_rings(struct bench_observer *observer, struct observer_cpu *cpu,
		      bool *ret_lost)
{
	struct ring ring = {.page = cpu->ring,
			    .bytes = RING_BYTES,
			    .samples = OBSERVER_ENTRY};
	struct ring faults = {.page = cpu->fault_ring,
			      .bytes = observer->fault_bytes,
			      .samples = OBSERVER_FAULT};
	int r = cpu->ring ? read_ring(observer, &ring) : 0;

	if (r == 0 && cpu->fault_ring)
		r = read_ring(observer, &faults);
	cpu->taken += ring.taken;
	observer->lost = observer->lost || ring.lost;
	*ret_lost = *ret_lost || faults.lost;
	return r;
}

/* ---- others' guests */

/*
 * Another guest, even one that only waits, would use up what the kernel records
 * before a run's own begins. Its threads are known after a group or two.
 */
static void note_others(struct bench_observer *observer)
{
	for (unsigned i = 0; i < observer->nrecords; i++) {
		const struct observer_record *record = &observer->record[i];
		unsigned k = 0;

		if (record->kind != OBSERVER_OTHER)
			continue;
		while (k < observer->nothers &&
		       observer->other[k] != record->tid)
			k++;
		if (k == observer->nothers && k < OBSERVER_OTHERS)
			observer->other[observer->nothers++] = record->tid;
	}
}

/* Another thread may get the number of one that has ended. */
static void forget_ended(struct bench_observer *observer)
{
	unsigned n = 0;

	for (unsigned i = 0; i < observer->nothers; i++) {
		char path[40];

		snprintf(path, sizeof(path), "/proc/%d",
			 (int)observer->other[i]);
		if (access(path, F_OK) == 0)
			observer->other[n++] = observer->other[i];
	}
	observer->nothers = n;
}

static void leave_out_others(struct bench_observer *observer)
{
	char filter[32 * OBSERVER_OTHERS] = "";
	size_t n = 0;

	if (observer->nothers == 0)
		return;
	forget_ended(observer);
	for (unsigned i = 0; i < observer->nothers; i++)
		n += (size_t)snprintf(filter + n, sizeof(filter) - n,
				      "%scommon_pid != %d", i > 0 ? " && " : "",
				      (int)observer->other[i]);
	/* "0" takes the filter away. */
	for (unsigned i = 0; i < observer->ncpus; i++)
		if (observer->cpu[i].entry_fd >= 0)
			(void)ioctl(observer->cpu[i].entry_fd,
				    PERF_EVENT_IOC_SET_FILTER,
				    n > 0 ? filter : "0");
}

/* ---- a group */

static void enable(int fd)
{
	if (fd >= 0)
		(void)ioctl(fd, PERF_EVENT_IOC_ENABLE, 0);
}

static void disable(int fd)
{
	if (fd >= 0)
		(void)ioctl(fd, PERF_EVENT_IOC_DISABLE, 0);
}

void observer_begin(struct bench_observer *observer)
{
	if (observer)
		leave_out_others(observer);
	for (unsigned i = 0; observer && i < observer->ncpus; i++) {
		struct observer_cpu *cpu = &observer->cpu[i];

		enable(cpu->tasks_fd);
		enable(cpu->fault_fd);
		enable(cpu->guest_fault_fd);
		if (cpu->entry_fd < 0)
			continue;
		/* Those that were not taken are still to come. */
		(void)(cpu->taken > 0
			       ? ioctl(cpu->entry_fd, PERF_EVENT_IOC_REFRESH,
				       cpu->taken)
			       : ioctl(cpu->entry_fd, PERF_EVENT_IOC_ENABLE,
				       0));
		cpu->taken = 0;
	}
}

static int compare(const void *a, const void *b)
{
	const struct observer_record *x = a, *y = b;

	if (x->time_ns != y->time_ns)
		return x->time_ns < y->time_ns ? -1 : 1;
	/* A process is made before anything else is said of it. */
	return (int)x->kind - (int)y->kind;
}

/* How many entries are still to be recorded is not known any more. */
static int renew_entries(struct bench_observer *observer)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < observer->ncpus; i++) {
		if (observer->cpu[i].entry_fd < 0)
			continue;
		util_close(&observer->cpu[i].entry_fd);
		r = open_entries(observer, i);
	}
	return r < 0 ? log_ret(r, "perf_event_open: %s", strerror(-r)) : 0;
}

int observer_end(struct bench_observer *observer, struct observer_run *runs,
		 unsigned count)
{
	bool faults_lost = false;
	int r = 0;

	if (!observer)
		return 0;
	observer->nrecords = 0;
	observer->lost = false;
	for (unsigned i = 0; i < observer->ncpus; i++) {
		struct observer_cpu *cpu = &observer->cpu[i];

		disable(cpu->guest_fault_fd);
		disable(cpu->fault_fd);
		disable(cpu->entry_fd);
		disable(cpu->tasks_fd);
	}
	for (unsigned i = 0; r == 0 && i < observer->ncpus; i++)
		r = read_rings(observer, &observer->cpu[i], &faults_lost);
	/* One that is missing may be the one that a mark hangs on. */
	if (r == 0 && observer->lost)
		return renew_entries(observer);
	if (r < 0 || observer->nrecords == 0)
		return r;
	qsort(observer->record, observer->nrecords, sizeof(*observer->record),
	      compare);
	r = observer_find(observer->record, observer->nrecords, runs, count);
	/* The latest ones are those that were lost. */
	for (unsigned i = 0; faults_lost && i < count; i++)
		runs[i].resident_ns = runs[i].faults = 0;
	observer->faults_lost = observer->faults_lost || faults_lost;
	if (r == 0)
		note_others(observer);
	return r;
}
