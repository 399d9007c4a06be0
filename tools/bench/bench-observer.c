/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the kernel's records of forks, PID namespaces, execs and guest entries,
 * from a ring for each processor. Entries are limited, as a guest may make
 * thousands a second and each record takes its time: the kernel stops by itself
 * after so many, and they are let in again for the next group.
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

static const char *const tracefs[] = {"/sys/kernel/tracing",
				      "/sys/kernel/debug/tracing"};

/* ---- opening */

/* The number of the tracepoint; -1: there is none that can be read. */
static long find_tracepoint(void)
{
	for (unsigned i = 0; i < ARRAY_LEN(tracefs); i++) {
		char path[80];
		long id = -1;
		FILE *f;

		snprintf(path, sizeof(path), "%s/events/kvm/kvm_entry/id",
			 tracefs[i]);
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

/* 0 or -errno. -ENODEV: the processor is off. */
static int open_tasks(struct observer_cpu *cpu, unsigned number)
{
	struct perf_event_attr attr = attributes();

	attr.type = PERF_TYPE_SOFTWARE;
	attr.config = PERF_COUNT_SW_DUMMY;
	attr.task = attr.comm = attr.comm_exec = attr.namespaces = 1;
	cpu->tasks_fd = open_event(&attr, number);
	if (cpu->tasks_fd < 0)
		return cpu->tasks_fd;
	cpu->ring = mmap(NULL, (size_t)(sysconf(_SC_PAGESIZE) + RING_BYTES),
			 PROT_READ | PROT_WRITE, MAP_SHARED, cpu->tasks_fd, 0);
	if (cpu->ring != MAP_FAILED)
		return 0;
	cpu->ring = NULL;
	return -errno;
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
	return observer->why_no_entry ? 0 : out_of_memory();
}

static void close_all(struct bench_observer *observer)
{
	const size_t bytes = (size_t)(sysconf(_SC_PAGESIZE) + RING_BYTES);

	for (unsigned i = 0; i < observer->ncpus; i++) {
		struct observer_cpu *cpu = &observer->cpu[i];

		if (cpu->ring)
			munmap(cpu->ring, bytes);
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
		.tracepoint = find_tracepoint(),
		.entries = ENTRIES + ENTRIES_A_RUN * group,
	};
	if (!observer->cpu)
		return out_of_memory();
	observer->ncpus = ncpus > 0 ? (unsigned)ncpus : 1;
	for (unsigned i = 0; i < observer->ncpus; i++)
		observer->cpu[i] =
			(struct observer_cpu){.tasks_fd = -1, .entry_fd = -1};
	if (observer->tracepoint < 0) {
		observer->why_no_entry =
			strdup("no tracepoint kvm:kvm_entry can be read below "
			       "/sys/kernel/tracing (KVM and tracefs make it; "
			       "root may read it)");
		if (!observer->why_no_entry)
			return out_of_memory();
	}
	r = open_all(observer);
	if (r == 0)
		return 0;
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

/* The ring's bytes FROM on; they may go on at its beginning. */
static void copy(void *to, const char *ring, uint64_t from, size_t bytes)
{
	const uint64_t at = from % RING_BYTES;
	const size_t first =
		bytes < RING_BYTES - at ? bytes : (size_t)(RING_BYTES - at);

	memcpy(to, ring + at, first);
	memcpy((char *)to + first, ring, bytes - first);
}

static int take_record(struct bench_observer *observer,
		       struct observer_cpu *cpu, const char *ring,
		       uint64_t from, const struct perf_event_header *header)
{
	const size_t bytes = header->size - sizeof(*header);
	struct observer_record record;
	struct sample_id last;
	union body body = {0};

	if (header->type == PERF_RECORD_LOST)
		observer->lost = true;
	if (header->type == PERF_RECORD_SAMPLE)
		cpu->taken++;
	if (bytes < sizeof(last))
		return 0;
	copy(&body, ring, from + sizeof(*header),
	     bytes < sizeof(body) ? bytes : sizeof(body));
	copy(&last, ring, from + header->size - sizeof(last), sizeof(last));
	return decode(header, &body, bytes, &last, &record)
		       ? add_record(observer, &record)
		       : 0;
}

static int read_ring(struct bench_observer *observer, struct observer_cpu *cpu)
{
	struct perf_event_mmap_page *page = cpu->ring;
	const char *ring = (const char *)cpu->ring + sysconf(_SC_PAGESIZE);
	/* Pairs with the kernel's barrier behind the records' bytes. */
	const uint64_t head =
		__atomic_load_n(&page->data_head, __ATOMIC_ACQUIRE);
	uint64_t at = page->data_tail;
	int r = 0;

	while (r == 0 && at < head) {
		struct perf_event_header header;

		copy(&header, ring, at, sizeof(header));
		if (header.size < sizeof(header) || header.size > head - at)
			break;
		r = take_record(observer, cpu, ring, at, &header);
		at += header.size;
	}
	__atomic_store_n(&page->data_tail, head, __ATOMIC_RELEASE);
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

void observer_begin(struct bench_observer *observer)
{
	if (observer)
		leave_out_others(observer);
	for (unsigned i = 0; observer && i < observer->ncpus; i++) {
		struct observer_cpu *cpu = &observer->cpu[i];

		if (cpu->tasks_fd >= 0)
			(void)ioctl(cpu->tasks_fd, PERF_EVENT_IOC_ENABLE, 0);
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
	int r = 0;

	if (!observer)
		return 0;
	observer->nrecords = 0;
	observer->lost = false;
	for (unsigned i = 0; i < observer->ncpus; i++) {
		struct observer_cpu *cpu = &observer->cpu[i];

		if (cpu->entry_fd >= 0)
			(void)ioctl(cpu->entry_fd, PERF_EVENT_IOC_DISABLE, 0);
		if (cpu->tasks_fd >= 0)
			(void)ioctl(cpu->tasks_fd, PERF_EVENT_IOC_DISABLE, 0);
	}
	for (unsigned i = 0; r == 0 && i < observer->ncpus; i++)
		if (observer->cpu[i].ring)
			r = read_ring(observer, &observer->cpu[i]);
	/* One that is missing may be the one that a mark hangs on. */
	if (r == 0 && observer->lost)
		return renew_entries(observer);
	if (r < 0 || observer->nrecords == 0)
		return r;
	qsort(observer->record, observer->nrecords, sizeof(*observer->record),
	      compare);
	r = observer_find(observer->record, observer->nrecords, runs, count);
	if (r == 0)
		note_others(observer);
	return r;
}
