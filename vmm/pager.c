/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parts of RAM where the snapshot is zero are not the pager's: the host gives
 * zeroed memory there by itself. Small gaps between chunks are, so that RAM is
 * not divided into more mappings than a process may have.
 *
 * Linux: Documentation/admin-guide/mm/userfaultfd.
 */
#include "vmm/pager.h"

#include "vmm/base/log.h"
#include "vmm/base/loop.h"
#include "vmm/base/mem.h"
#include "vmm/base/thread.h"
#include "vmm/base/util.h"
#include "vmm/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#define PAGE_BYTES 4096
#define GAP        (2 * MIB / CHUNK_BYTES) /* chunks; a huge page fits in more */
#define RANGES     8192                    /* about as many at most */
#define MESSAGES   16                      /* taken at once */
#define STEP_BYTES MIB /* brought in at once; asked whether to stop */

/* ---- opening */

/* <linux/userfaultfd.h> before 6.1 lacks it. */
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

int pager_open(void)
{
	struct uffdio_api api = {.api = UFFD_API};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	const int error = errno;

	if (fd < 0) {
		autofd int device =
			open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);

		if (device < 0)
			return -error;
		fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
		if (fd < 0)
			return -error;
	}
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0) {
		const int r = -errno;

		util_close(&fd);
		return r;
	}
	return fd;
}

/* Where the chunk NUMBER is in MEM, and how much of it. */
static uint8_t *place_of(const struct mem *mem, uint32_t number)
{
	uint64_t at = (uint64_t)number * CHUNK_BYTES;

	for (unsigned i = 0; i < mem->nregions; i++) {
		if (at < mem->region[i].bytes)
			return mem->region[i].host + at;
		at -= mem->region[i].bytes;
	}
	return NULL;
}

static int say(const char *name, uint32_t number, int error)
{
	const unsigned long long at = (uint64_t)number * CHUNK_BYTES;

	if (error == -EBADMSG)
		return log_ret(error,
			       "'%s': damaged, in the memory at %llu: the "
			       "machine cannot go on",
			       name, at);
	return log_ret(error,
		       "'%s': the memory at %llu: %s: the machine cannot go on",
		       name, at, strerror(-error));
}

int pager_load_all(const struct snapshot *snapshot, const struct mem *mem)
{
	const struct chunks *chunks = &snapshot->chunks;
	struct chunk_reader reader;
	int r = chunk_reader_init(&reader);

	for (uint32_t i = 0; r == 0 && i < chunks->count; i++) {
		const uint32_t number = chunks->chunk[i].number;

		r = chunk_read(&reader, chunks, snapshot->memory_fd, i,
			       place_of(mem, number));
		if (r < 0)
			(void)say(snapshot->name, number, r);
	}
	chunk_reader_done(&reader);
	return r;
}

/* ---- serving */

static const struct sandbox_rule syscalls[] = {
	SANDBOX_IOCTL(UFFDIO_COPY),
	SANDBOX_IOCTL(UFFDIO_ZEROPAGE),
	SANDBOX_IOCTL(UFFDIO_WAKE),
	SANDBOX_IOCTL(UFFDIO_UNREGISTER),
	/* the user's terminal, when the process ends here */
	SANDBOX_IOCTL(TCSETS),
	SANDBOX_END,
};

/* Puts pages of FROM, or zeros for NULL, at HOST; nobody goes on so far. */
static int put(const struct pager *p, uint8_t *host, const uint8_t *from,
	       uint64_t bytes)
{
	for (uint64_t done = 0; done < bytes;) {
		struct uffdio_copy copy = {
			.dst = (uintptr_t)host + done,
			.src = (uintptr_t)from + done,
			.len = bytes - done,
			.mode = UFFDIO_COPY_MODE_DONTWAKE,
		};
		struct uffdio_zeropage zero = {
			.range = {.start = copy.dst, .len = copy.len},
			.mode = UFFDIO_ZEROPAGE_MODE_DONTWAKE,
		};
		const int r = from ? ioctl(p->uffd, UFFDIO_COPY, &copy)
				   : ioctl(p->uffd, UFFDIO_ZEROPAGE, &zero);
		const int64_t put = from ? copy.copy : zero.zeropage;

		if (r < 0 && errno != EAGAIN && errno != EEXIST)
			return -errno;
		/* EEXIST: it is there; EAGAIN: the mappings were changing. */
		if (put > 0)
			done += (uint64_t)put;
		else if (errno == EEXIST)
			done += PAGE_BYTES;
		else
			sched_yield();
	}
	return 0;
}

static bool is_zero(const uint8_t *page)
{
	return page[0] == 0 && memcmp(page, page + 1, PAGE_BYTES - 1) == 0;
}

/* A page of zeros takes no memory until somebody writes to it. */
static int put_chunk(const struct pager *p, uint8_t *host, uint64_t bytes)
{
	uint64_t from = 0, end;
	int r = 0;

	for (; r == 0 && from < bytes; from = end) {
		const bool zero = is_zero(p->ram + from);

		end = from + PAGE_BYTES;
		while (end < bytes && is_zero(p->ram + end) == zero)
			end += PAGE_BYTES;
		r = put(p, host + from, zero ? NULL : p->ram + from,
			end - from);
	}
	return r;
}

static void wake(const struct pager *p, uint8_t *host, uint64_t bytes)
{
	struct uffdio_range range = {.start = (uintptr_t)host, .len = bytes};

	(void)ioctl(p->uffd, UFFDIO_WAKE, &range);
}

/* Nothing is left to be served: from now on it is memory like any other. */
static void release(const struct pager *p)
{
	for (uint32_t i = 0; i < p->nranges; i++) {
		struct uffdio_range range = {
			.start = (uintptr_t)p->range[i].host,
			.len = p->range[i].bytes,
		};

		(void)ioctl(p->uffd, UFFDIO_UNREGISTER, &range);
	}
	log_debug("pager: all of the snapshot is in memory");
}

static int serve_chunk(struct pager *p, uint32_t number)
{
	const uint64_t bytes = chunks_room(&p->chunks, number);
	uint8_t *host = place_of(p->mem, number);
	uint32_t index;
	int r = 0;

	/* An access that came before release() did may be heard of behind it.
	 */
	if (!chunks_find(&p->chunks, number, &index))
		r = p->left > 0 ? put(p, host, NULL, bytes) : 0;
	else if (!p->served[index]) {
		r = chunk_read(&p->reader, &p->chunks, p->memory_fd, index,
			       p->ram);
		if (r == 0)
			r = put_chunk(p, host, bytes);
		p->served[index] = 1;
		if (r == 0 && --p->left == 0)
			release(p);
	}
	if (r < 0)
		return say(p->name, number, r);
	wake(p, host, bytes);
	return 0;
}

/* The chunk that ADDRESS is in, which is within RAM. */
static uint32_t chunk_at(const struct mem *mem, uint64_t address)
{
	uint64_t before = 0;

	for (unsigned i = 0; i < mem->nregions; i++) {
		const struct mem_region *region = &mem->region[i];
		const uint64_t at = address - (uintptr_t)region->host;

		if (address >= (uintptr_t)region->host && at < region->bytes)
			return (uint32_t)((before + at) / CHUNK_BYTES);
		before += region->bytes;
	}
	return 0;
}

/* 0, or -errno (logged). */
static int serve(struct pager *p)
{
	struct uffd_msg message[MESSAGES];
	const ssize_t n = read(p->uffd, message, sizeof(message));
	int r = 0;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR
			       ? 0
			       : log_ret(-errno, "'%s': userfaultfd: %s",
					 p->name, strerror(errno));
	for (size_t i = 0; r == 0 && i < (size_t)n / sizeof(message[0]); i++) {
		const uint64_t at = message[i].arg.pagefault.address;

		if (message[i].event == UFFD_EVENT_PAGEFAULT)
			r = serve_chunk(p, chunk_at(p->mem, at));
	}
	return r;
}

/* It is there before the machine's sandbox, as working-set.c's is. */
int pager_confine(struct pager *pager, const struct sandbox_rule *rules)
{
	int r = 0;

	(void)prctl(PR_SET_NAME, "pager");
	if (pager->confined)
		r = sandbox_enter_thread(&rules, 1, 0);
	sem_post(&pager->ready);
	return r;
}

void pager_await(struct pager *pager)
{
	if (pager->started)
		thread_await(&pager->ready);
}

int pager_start_thread(struct pager *pager, void *(*fn)(void *))
{
	int r;

	sem_init(&pager->ready, 0, 0);
	r = thread_start(&pager->thread, 0, fn, pager);
	pager->started = r == 0;
	return r < 0 ? log_ret(r, "cannot start a thread: %s", strerror(-r))
		     : 0;
}

static void *serve_thread(void *arg)
{
	struct pager *p = arg;
	struct pollfd pfd[2] = {
		{.fd = p->uffd, .events = POLLIN},
		{.fd = p->stop_fd, .events = POLLIN},
	};
	int r = pager_confine(p, syscalls);

	while (r == 0 && !pfd[1].revents) {
		if (poll(pfd, ARRAY_LEN(pfd), -1) > 0 && pfd[0].revents)
			r = serve(p);
	}
	if (r < 0)
		p->failed();
	return NULL;
}

/* ---- a machine's */

static int add_range(struct pager *p, uint32_t first, uint32_t last)
{
	struct pager_range *more =
		reallocarray(p->range, p->nranges + 1, sizeof(*more));
	struct uffdio_register area = {
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	if (!more)
		return -ENOMEM;
	p->range = more;
	more += p->nranges++;
	more->host = place_of(p->mem, first);
	more->bytes = (uint64_t)(last - first) * CHUNK_BYTES +
		      chunks_room(&p->chunks, last);
	area.range.start = (uintptr_t)more->host;
	area.range.len = more->bytes;
	return ioctl(p->uffd, UFFDIO_REGISTER, &area) < 0 ? -errno : 0;
}

static bool same_region(const struct mem *mem, uint32_t first, uint32_t last)
{
	return (uintptr_t)place_of(mem, last) -
		       (uintptr_t)place_of(mem, first) ==
	       (uintptr_t)(last - first) * CHUNK_BYTES;
}

static int add_ranges(struct pager *p)
{
	const struct chunk *chunk = p->chunks.chunk;
	const uint32_t gap =
		(uint32_t)(GAP + p->mem->bytes / CHUNK_BYTES / RANGES);
	int r = 0;

	for (uint32_t i = 0, next; r == 0 && i < p->chunks.count; i = next) {
		next = i + 1;
		while (next < p->chunks.count &&
		       chunk[next].number - chunk[next - 1].number <= gap &&
		       same_region(p->mem, chunk[i].number, chunk[next].number))
			next++;
		r = add_range(p, chunk[i].number, chunk[next - 1].number);
	}
	return r < 0 ? log_ret(r, "'%s': userfaultfd: %s", p->name,
			       strerror(-r))
		     : 0;
}

static int prepare(struct pager *p, const struct snapshot *snapshot)
{
	int r = chunks_copy(&p->chunks, &snapshot->chunks);

	if (r == 0)
		r = chunk_reader_init(&p->reader);
	p->left = p->chunks.count;
	p->ram = malloc(CHUNK_BYTES);
	p->served = calloc(p->left + 1, 1);
	if (asprintf(&p->name, "%s", snapshot->name) < 0)
		p->name = NULL;
	if (r < 0 || !p->ram || !p->served || !p->name)
		return log_ret(-ENOMEM, "out of memory");
	p->memory_fd = fcntl(snapshot->memory_fd, F_DUPFD_CLOEXEC, 0);
	p->stop_fd = p->memory_fd < 0 ? -1 : loop_eventfd();
	return p->stop_fd < 0
		       ? log_ret(-errno, "'%s': %s", p->name, strerror(errno))
		       : 0;
}

int pager_start(struct pager *pager, const struct snapshot *snapshot,
		const struct mem *mem, bool confined, int uffd,
		void (*failed)(void))
{
	int r;

	*pager = PAGER_PREPARED(mem, confined, uffd, failed);
	r = prepare(pager, snapshot);
	if (r == 0)
		r = add_ranges(pager);
	return r < 0 ? r : pager_start_thread(pager, serve_thread);
}

/* Pages that are there cost nothing. Linux before 5.14 has no MADV_POPULATE. */
static int bring_in(uint8_t *host, uint64_t bytes)
{
	if (madvise(host, bytes, MADV_POPULATE_READ) == 0)
		return 0;
	if (errno != EINVAL)
		return -errno;
	for (uint64_t at = 0; at < bytes; at += PAGE_BYTES)
		(void)*(volatile uint8_t *)(host + at);
	return 0;
}

int pager_bring_in_all(const struct pager *pager, bool (*stops)(void *arg),
		       void *arg)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < pager->nranges; i++) {
		const struct pager_range *range = &pager->range[i];

		for (uint64_t at = 0; r == 0 && at < range->bytes;
		     at += STEP_BYTES)
			r = stops(arg) ? -EINTR
				       : bring_in(range->host + at,
						  min_u64(STEP_BYTES,
							  range->bytes - at));
	}
	return r;
}

void pager_done(struct pager *pager)
{
	if (!pager->prepared)
		return;
	if (pager->started) {
		loop_signal(pager->stop_fd);
		pthread_join(pager->thread, NULL);
		sem_destroy(&pager->ready);
	}
	chunks_close(&pager->chunks);
	chunk_reader_done(&pager->reader);
	free(pager->ram);
	free(pager->served);
	free(pager->name);
	free(pager->range);
	util_close(&pager->memory_fd);
	util_close(&pager->stop_fd);
	util_close(&pager->server_fd);
	util_close(&pager->server_pid_fd);
	util_close(&pager->signals_fd);
	util_close(&pager->uffd);
	*pager = (struct pager){0};
}
