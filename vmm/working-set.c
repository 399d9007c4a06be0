/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file: a head with a checksum, ranges of pages. It is written in place by
 * one who has locked it, the head last: a file without a head is none, and the
 * next start makes it.
 *
 * Which pages were touched is what the host has mapped into this process: pages
 * of the file that were read, and copies of those that were written to. The
 * host maps up to 16 pages of the file that are in its cache at one fault
 * (fault-around), so neighbours of a page that was read are in the record: a
 * little more is read from the disk. Copies are recorded exactly.
 */
#include "vmm/working-set.h"

#include "vmm/base/log.h"
#include "vmm/base/mem.h"
#include "vmm/base/thread.h"
#include "vmm/base/util.h"
#include "vmm/pagemap.h"
#include "vmm/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#define PAGE_BYTES 4096
#define VERSION    1
#define RANGES_MAX 65536 /* of both kinds together: 512 KiB */
#define STEP_PAGES 128   /* brought in at once; asked whether to end */

static const char magic[8] = "BULKPAGE";

struct head {
	char magic[8];
	uint32_t version;
	uint32_t crc; /* of all that follows, in the whole file */
	uint8_t id[SNAPSHOT_ID_BYTES];
	uint64_t memory_bytes;
	uint32_t nall, nwritten;
};
#define HEAD_SUMMED offsetof(struct head, id)

static uint64_t pages_max(uint64_t memory_bytes)
{
	return min_u64(memory_bytes / 2, WORKING_SET_MAX_BYTES) / PAGE_BYTES;
}

static uint64_t count_pages(const struct working_set_range *range, uint32_t n)
{
	uint64_t pages = 0;

	for (uint32_t i = 0; i < n; i++)
		pages += range[i].count;
	return pages;
}

static uint32_t sum_up(const struct head *head,
		       const struct working_set_range *range)
{
	const size_t bytes = sizeof(*range) * (head->nall + head->nwritten);
	const uint32_t crc =
		(uint32_t)crc32_z(0, (const uint8_t *)head + HEAD_SUMMED,
				  sizeof(*head) - HEAD_SUMMED);

	return (uint32_t)crc32_z(crc, (const uint8_t *)range, bytes);
}

/* ---- reading */

/* N ranges in order, within the memory, and of no more pages than may be. */
static bool are_ranges(const struct working_set_range *range, uint32_t n,
		       uint64_t memory_bytes)
{
	uint64_t end = 0;

	for (uint32_t i = 0; i < n; i++) {
		if (range[i].first < end || range[i].count == 0)
			return false;
		end = (uint64_t)range[i].first + range[i].count;
	}
	return end <= memory_bytes / PAGE_BYTES &&
	       count_pages(range, n) <= pages_max(memory_bytes);
}

/*
 * Reads the record of SNAPSHOT: 0; -ENOENT: there is none yet; -ESTALE: it is
 * of another snapshot or version; -EBADMSG: it is damaged; -errno. None of them
 * logged.
 */
static int read_set(struct snapshot *snapshot, int fd)
{
	struct working_set *set = &snapshot->working_set;
	autofree struct working_set_range *range = NULL;
	static const char none[sizeof(magic)];
	struct head head;
	int r = util_read_at(fd, &head, sizeof(head), 0);

	if (r == -ENODATA ||
	    (r == 0 && !memcmp(head.magic, none, sizeof(none))))
		return -ENOENT;
	if (r < 0)
		return r;
	if (memcmp(head.magic, magic, sizeof(magic)))
		return -EBADMSG;
	if (head.version != VERSION ||
	    memcmp(head.id, snapshot->id, sizeof(head.id)))
		return -ESTALE;
	if (head.nall > RANGES_MAX || head.nwritten > RANGES_MAX - head.nall)
		return -EBADMSG;
	range = calloc(head.nall + head.nwritten + 1, sizeof(*range));
	if (!range)
		return -ENOMEM;
	r = util_read_at(fd, range,
			 sizeof(*range) * (head.nall + head.nwritten),
			 sizeof(head));
	if (r == -ENODATA ||
	    (r == 0 && (sum_up(&head, range) != head.crc ||
			head.memory_bytes != snapshot->memory_bytes ||
			!are_ranges(range, head.nall, head.memory_bytes) ||
			!are_ranges(range + head.nall, head.nwritten,
				    head.memory_bytes))))
		r = -EBADMSG;
	if (r < 0)
		return r;
	set->range = take_ptr(range);
	set->nall = head.nall;
	set->nwritten = head.nwritten;
	return 0;
}

/* ---- opening */

/*
 * The file, as one that can be written if *RET_WRITABLE, or -errno. It is not
 * followed to another place, as whoever made the directory could have it
 * overwrite a file of this user's.
 */
static int open_file(const char *name, bool *ret_writable)
{
	const int flags = O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW;
	int fd = open(name, O_RDWR | O_CREAT | flags, 0600);
	struct stat st;

	*ret_writable = fd >= 0;
	if (fd < 0)
		fd = open(name, O_RDONLY | flags);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1) {
		close(fd);
		return -EBADMSG;
	}
	return fd;
}

static void say(const char *name, int error)
{
	if (error == -ESTALE)
		log_warn("'%s': of another snapshot or version: not used",
			 name);
	else if (error == -EBADMSG)
		log_warn("'%s': damaged: not used", name);
	else if (error < 0 && error != -ENOENT)
		log_warn("'%s': %s: not used", name, strerror(-error));
}

/* Makes FD, which is locked then, the file of a new record. 0 or -errno. */
static int begin_record(struct snapshot *snapshot, int fd,
			enum working_set_mode mode)
{
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	/* Another one may have just made it. */
	if (mode == WORKING_SET_AUTO && read_set(snapshot, fd) == 0)
		return 0;
	if (ftruncate(fd, 0) < 0)
		return -errno;
	snapshot->working_set.records = true;
	return 0;
}

void working_set_open(struct snapshot *snapshot, const char *path,
		      enum working_set_mode mode)
{
	struct working_set *set = &snapshot->working_set;
	autofree char *name = NULL;
	bool writable = false;
	autofd int fd = -1;
	int r;

	if (asprintf(&name, "%s/%s", path, WORKING_SET_FILE) < 0) {
		name = NULL;
		return;
	}
	fd = open_file(name, &writable);
	r = fd;
	if (mode == WORKING_SET_AUTO) {
		if (fd >= 0)
			r = read_set(snapshot, fd);
		say(name, r);
	}
	if (fd >= 0 && !set->range)
		r = writable ? begin_record(snapshot, fd, mode) : -EACCES;
	if (set->records)
		set->file_fd = take_fd(&fd);
	else if (r < 0 && mode == WORKING_SET_ANEW)
		log_warn("'%s': nothing is recorded: %s", name,
			 r == -EWOULDBLOCK ? "another machine records"
			 : r == -EBADMSG   ? "not a file of its own"
					   : strerror(-r));
}

void working_set_close(struct working_set *set)
{
	free(set->range);
	if (set->records)
		util_close(&set->file_fd);
	*set = (struct working_set){0};
}

/* ---- recording */

struct list {
	struct working_set_range *range; /* borrowed: room for RANGES_MAX */
	uint32_t n;
};

/* False: there is no room for it. */
static bool add_page(struct list *list, uint32_t page)
{
	struct working_set_range *last =
		list->n > 0 ? &list->range[list->n - 1] : NULL;

	if (last && last->first + last->count == page) {
		last->count++;
		return true;
	}
	if (list->n == RANGES_MAX / 2)
		return false;
	list->range[list->n++] = (struct working_set_range){page, 1};
	return true;
}

/* A record that is being made. */
struct collection {
	struct list all, written;
	uint64_t pages_left;
	uint32_t next; /* page of the file */
};

/* False: it is full. */
static bool add_entry(struct collection *c, uint64_t entry)
{
	const uint32_t page = c->next++;

	if (!(entry & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)))
		return true;
	if (c->pages_left-- == 0 || !add_page(&c->all, page))
		return false;
	return entry & PAGEMAP_FILE || add_page(&c->written, page);
}

/* 0; 1: it is full; or -errno. */
static int collect_region(struct collection *c, int pagemap_fd,
			  const struct mem_region *region)
{
	const uint64_t first = (uintptr_t)region->host / PAGE_BYTES;
	const uint64_t pages = region->bytes / PAGE_BYTES;
	uint64_t entry[512];

	for (uint64_t at = 0; at < pages; at += ARRAY_LEN(entry)) {
		const uint64_t n = min_u64(ARRAY_LEN(entry), pages - at);
		const int r =
			util_read_at(pagemap_fd, entry, n * sizeof(*entry),
				     (first + at) * sizeof(*entry));

		if (r < 0)
			return r;
		for (uint64_t i = 0; i < n; i++) {
			if (!add_entry(c, entry[i]))
				return 1;
		}
	}
	return 0;
}

static int write_set(const struct working_set_task *task,
		     const struct working_set_range *range, uint32_t nall,
		     uint32_t nwritten)
{
	const int fd = task->set.file_fd;
	struct head head = {
		.version = VERSION,
		.memory_bytes = task->mem->bytes,
		.nall = nall,
		.nwritten = nwritten,
	};
	int r;

	memcpy(head.magic, magic, sizeof(head.magic));
	memcpy(head.id, task->id, sizeof(head.id));
	head.crc = sum_up(&head, range);
	r = util_write_at(fd, range, sizeof(*range) * (nall + nwritten),
			  sizeof(head));
	return r < 0 ? r : util_write_at(fd, &head, sizeof(head), 0);
}

static int record(const struct working_set_task *task)
{
	autofree struct working_set_range *range =
		calloc(RANGES_MAX, sizeof(*range));
	struct collection c = {.pages_left = pages_max(task->mem->bytes)};
	int r = 0;

	if (!range)
		return -ENOMEM;
	c.all.range = range;
	c.written.range = range + RANGES_MAX / 2;
	for (unsigned i = 0; r == 0 && i < task->mem->nregions; i++)
		r = collect_region(&c, task->pagemap_fd, &task->mem->region[i]);
	if (r < 0)
		return r;
	log_debug("working set: recorded %llu pages, %llu of them written to%s",
		  (unsigned long long)count_pages(c.all.range, c.all.n),
		  (unsigned long long)count_pages(c.written.range, c.written.n),
		  r == 1 ? "; there are more" : "");
	memmove(range + c.all.n, c.written.range, c.written.n * sizeof(*range));
	return write_set(task, range, c.all.n, c.written.n);
}

/* Waits until MS have passed or the task is to end. */
static void wait_for_end(struct working_set_task *task, unsigned ms)
{
	struct timespec due;

	clock_gettime(CLOCK_MONOTONIC, &due);
	due.tv_sec += ms / 1000;
	due.tv_nsec += (long)(ms % 1000) * 1000000;
	if (due.tv_nsec >= 1000000000) {
		due.tv_nsec -= 1000000000;
		due.tv_sec++;
	}
	pthread_mutex_lock(&task->lock);
	while (!task->ends &&
	       pthread_cond_timedwait(&task->changed, &task->lock, &due) == 0)
		;
	pthread_mutex_unlock(&task->lock);
}

static void *record_thread(void *arg)
{
	struct working_set_task *task = arg;
	int r;

	(void)prctl(PR_SET_NAME, "record");
	wait_for_end(task, task->set.record_ms ? task->set.record_ms
					       : WORKING_SET_MS);
	r = record(task);
	if (r < 0)
		log_warn("the working set is not recorded: %s", strerror(-r));
	/* Others may read it, or make another. */
	close(task->set.file_fd);
	task->set.records = false;
	return NULL;
}

/* ---- bringing in */

const struct sandbox_rule working_set_syscalls[] = {
	SANDBOX_CALL(mincore),
	SANDBOX_END,
};

static bool ends(struct working_set_task *task)
{
	bool ends;

	pthread_mutex_lock(&task->lock);
	ends = task->ends;
	pthread_mutex_unlock(&task->lock);
	return ends;
}

enum step {
	STEP_ASK,  /* has the disk read what is not in the host's cache */
	STEP_COPY, /* for pages that will be written to */
	STEP_WAIT, /* for what was asked for */
};

/* PAGES at HOST, STEP_PAGES at most: 1: some have to be read; 0; or -errno. */
static int bring_in_piece(enum step step, uint8_t *host, uint64_t pages)
{
	static const int advice[] = {
		[STEP_ASK] = MADV_WILLNEED,
		[STEP_COPY] = MADV_POPULATE_WRITE,
		[STEP_WAIT] = MADV_POPULATE_READ,
	};
	const size_t bytes = pages * PAGE_BYTES;
	unsigned char there[STEP_PAGES];
	bool all = step == STEP_ASK;

	if (step == STEP_ASK) {
		if (mincore(host, bytes, there) < 0)
			return -errno;
		for (uint64_t i = 0; i < pages; i++)
			all = all && there[i] & 1;
	}
	if (!all && madvise(host, bytes, advice[step]) < 0)
		return -errno;
	return !all;
}

/* As that; -EINTR: it is to end. */
static int bring_in_range(struct working_set_task *task, enum step step,
			  const struct working_set_range *range)
{
	uint64_t page = range->first, left = range->count;
	int any = 0;

	for (unsigned i = 0; left > 0 && i < task->mem->nregions; i++) {
		const struct mem_region *region = &task->mem->region[i];
		const uint64_t pages = region->bytes / PAGE_BYTES;

		while (left > 0 && page < pages) {
			const uint64_t n = min_u64(min_u64(left, pages - page),
						   STEP_PAGES);
			const int r =
				ends(task) ? -EINTR
					   : bring_in_piece(
						     step,
						     region->host +
							     page * PAGE_BYTES,
						     n);

			if (r < 0)
				return r;
			any |= r;
			page += n;
			left -= n;
		}
		page -= page < pages ? page : pages;
	}
	return any;
}

/*
 * Pages that are in the cache and only read are left to the guest: one of its
 * faults maps 16 of them, and to do so here costs more than it saves where
 * there is one CPU.
 */
static int bring_in(struct working_set_task *task)
{
	const struct working_set *set = &task->set;
	autofree bool *asked = calloc(set->nall + 1, sizeof(*asked));
	int r = asked ? 0 : -ENOMEM;

	for (uint32_t i = 0; r >= 0 && i < set->nall; i++) {
		r = bring_in_range(task, STEP_ASK, &set->range[i]);
		asked[i] = r > 0;
	}
	for (uint32_t i = 0; r >= 0 && i < set->nwritten; i++)
		r = bring_in_range(task, STEP_COPY, &set->range[set->nall + i]);
	for (uint32_t i = 0; r >= 0 && i < set->nall; i++) {
		if (asked[i])
			r = bring_in_range(task, STEP_WAIT, &set->range[i]);
	}
	return r;
}

/*
 * The thread is there before the machine's sandbox, which does not reach one
 * that exists; and the guest may run beside it.
 */
static int confine(const struct working_set_task *task)
{
	static const struct sandbox_rule *const lists[] = {
		working_set_syscalls};

	return task->confined ? sandbox_enter_thread(lists, ARRAY_LEN(lists), 0)
			      : 0;
}

static void *bring_in_thread(void *arg)
{
	struct working_set_task *task = arg;
	const struct working_set *set = &task->set;
	uint64_t begun_ns = util_now_ns();
	int r;

	(void)prctl(PR_SET_NAME, "bring in");
	r = confine(task);
	sem_post(&task->ready);
	if (r == 0)
		r = bring_in(task);
	if (r < 0)
		log_debug("working set: not all of it: %s", strerror(-r));
	else
		log_debug(
			"working set: resident after %llu us: %llu pages, "
			"%llu of them to be written to, within %llu us",
			(unsigned long long)(util_now_ns() - task->born_ns) /
				1000,
			(unsigned long long)count_pages(set->range, set->nall),
			(unsigned long long)count_pages(set->range + set->nall,
							set->nwritten),
			(unsigned long long)(util_now_ns() - begun_ns) / 1000);
	return NULL;
}

/* ---- a machine's */

/* It makes starts faster, and no more: without it the machine starts, too. */
static void start(struct working_set_task *task, void *(*fn)(void *))
{
	const int r = thread_start(&task->thread, 0, fn, task);

	task->started = r == 0;
	if (r < 0)
		log_warn("no working set: cannot start a thread: %s",
			 strerror(-r));
}

/* Its own file and its own list; where that is not possible, nothing. */
static void copy_set(struct working_set_task *task, const struct working_set *s)
{
	const size_t bytes = sizeof(*s->range) * (s->nall + s->nwritten);

	if (s->records) {
		task->pagemap_fd = pagemap_open();
		task->set.file_fd = fcntl(s->file_fd, F_DUPFD_CLOEXEC, 0);
		task->set.records =
			task->pagemap_fd >= 0 && task->set.file_fd >= 0;
		task->set.record_ms = s->record_ms;
		if (!task->set.records) {
			util_close(&task->pagemap_fd);
			util_close(&task->set.file_fd);
		}
	} else if (s->range) {
		task->set.range = malloc(bytes + 1);
		if (!task->set.range)
			return;
		memcpy(task->set.range, s->range, bytes);
		task->set.nall = s->nall;
		task->set.nwritten = s->nwritten;
	}
}

void working_set_prepare(struct working_set_task *task,
			 const struct snapshot *snapshot, const struct mem *mem,
			 bool confined)
{
	pthread_condattr_t attr;

	*task = (struct working_set_task){
		.mem = mem, .pagemap_fd = -1, .confined = confined};
	task->born_ns = util_now_ns();
	memcpy(task->id, snapshot->id, sizeof(task->id));
	copy_set(task, &snapshot->working_set);
	pthread_mutex_init(&task->lock, NULL);
	sem_init(&task->ready, 0, 0);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&task->changed, &attr);
	pthread_condattr_destroy(&attr);
	task->prepared = true;
	if (task->set.range)
		start(task, bring_in_thread);
}

void working_set_await(struct working_set_task *task)
{
	if (task->started)
		thread_await(&task->ready);
}

void working_set_record(struct working_set_task *task)
{
	if (task->set.records)
		start(task, record_thread);
}

void working_set_end(struct working_set_task *task)
{
	if (!task->started)
		return;
	pthread_mutex_lock(&task->lock);
	task->ends = true;
	pthread_cond_signal(&task->changed);
	pthread_mutex_unlock(&task->lock);
	pthread_join(task->thread, NULL);
	task->started = false;
}

void working_set_done(struct working_set_task *task)
{
	if (!task->prepared)
		return;
	working_set_end(task);
	working_set_close(&task->set);
	util_close(&task->pagemap_fd);
	pthread_cond_destroy(&task->changed);
	pthread_mutex_destroy(&task->lock);
	sem_destroy(&task->ready);
	task->prepared = false;
}
