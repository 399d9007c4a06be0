/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disk images: the queue of requests, those under way in the kernel and those
 * done here. Knows no guest; the format does the requests (block-parts.h).
 */
#include "devices/host/block-parts.h"

#include "vmm/base/log.h"
#include "vmm/base/loop.h"
#include "vmm/base/sandbox.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define EVENTS_AT_ONCE 32

static void list_init(struct block_list *list)
{
	*list = (struct block_list){.end = &list->first};
}

static void list_add(struct block_list *list, struct block_request *request)
{
	request->next = NULL;
	*list->end = request;
	list->end = &request->next;
}

static struct block_request *list_take(struct block_list *list)
{
	struct block_request *request = list->first;

	if (request) {
		list->first = request->next;
		if (!list->first)
			list->end = &list->first;
	}
	return request;
}

/* ---- opening ---- */

static int set_up_aio(struct block *b, const char *path,
		      const struct block_options *options)
{
	int r;

	b->event_fd = loop_eventfd();
	if (b->event_fd < 0)
		return log_ret(b->event_fd, "disk '%s': eventfd: %s", path,
			       strerror(-b->event_fd));
	b->depth = options->depth;
	b->batch = calloc(b->depth, sizeof(*b->batch));
	if (!b->batch)
		return log_ret(-ENOMEM, "disk '%s': out of memory", path);
	/* Reading through the page cache is all a shared image ever does. */
	if (options->readonly && !options->direct)
		return 0;
	r = io_setup((int)b->depth, &b->aio);
	b->has_aio = r == 0;
	if (r == -EAGAIN && options->direct)
		log_warn("disk '%s' will be slow: too much asynchronous I/O on "
			 "this host; raise /proc/sys/fs/aio-max-nr",
			 path);
	return 0;
}

static int open_all(struct block *b, const char *path,
		    const struct block_options *options)
{
	int r = block_file_open(b, path, options);

	if (r == 0)
		r = b->format->open(b, path, options);
	return r < 0 ? r : set_up_aio(b, path, options);
}

int block_open(const char *path, const struct block_options *options,
	       struct block **ret_block)
{
	struct block *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return log_ret(-ENOMEM, "disk '%s': out of memory", path);
	b->fd = b->cached_fd = b->event_fd = -1;
	b->path = strdup(path);
	if (!b->path) {
		free(b);
		return log_ret(-ENOMEM, "disk '%s': out of memory", path);
	}
	b->format = &block_raw;
	b->nowait = true;
	b->info.readonly = options->readonly;
	list_init(&b->queued);
	list_init(&b->finished);
	r = open_all(b, path, options);
	if (r < 0) {
		block_close(b);
		return r;
	}
	*ret_block = b;
	return 0;
}

void block_close(struct block *b)
{
	if (!b)
		return;
	if (b->has_aio)
		io_destroy(b->aio);
	util_close(&b->event_fd);
	util_close(&b->cached_fd);
	util_close(&b->fd);
	free(b->batch);
	free(b->path);
	free(b);
}

int block_look(struct block *b)
{
	uint64_t bytes = 0;

	if (b->format->look(b, b->path, &bytes) < 0 || bytes == b->info.bytes)
		return 0;
	log_info("disk '%s': %llu KiB, was %llu", b->path,
		 (unsigned long long)(bytes / KIB),
		 (unsigned long long)(b->info.bytes / KIB));
	b->info.bytes = bytes;
	return 1;
}

void block_info(const struct block *b, struct block_info *ret_info)
{
	*ret_info = b->info;
}

const struct sandbox_rule *block_syscalls(const struct block *b)
{
	return b->format->syscalls(b);
}

int block_event_fd(const struct block *b)
{
	return b->event_fd;
}

/* ---- requests ---- */

static void finish(struct block *b, struct block_request *request, int result)
{
	request->result = result;
	list_add(&b->finished, request);
}

static void collect(struct block *b, unsigned at_least);

/* Does a request to its end before it returns. */
static int run(struct block *b, const struct block_request *request)
{
	const bool writes =
		request->op == BLOCK_WRITE || request->op == BLOCK_WRITE_ZEROES;

	/*
	 * The page cache and O_DIRECT agree about a page only as long as not
	 * both write to it at the same time.
	 */
	while (writes && b->cached_fd >= 0 && b->under_way > 0)
		collect(b, 1);
	return b->format->run(b, request);
}

/* The kernel's result of an asynchronous request. */
static void completed(struct block *b, const struct io_event *event)
{
	struct block_request *request =
		container_of(event->obj, struct block_request, aio);
	const long res = (long)event->res;
	int result;

	if (res == -EINVAL) /* not possible this way after all */
		result = run(b, request);
	else if (res < 0)
		result = (int)res;
	else if (request->op == BLOCK_FLUSH)
		result = 0;
	else
		result = (uint64_t)res == request->bytes ? 0 : -EIO;
	finish(b, request, result);
}

/* Takes what finished; waits for at least that many first. */
static void collect(struct block *b, unsigned at_least)
{
	struct io_event event[EVENTS_AT_ONCE];
	struct timespec zero = {0};
	int n;

	do {
		n = io_getevents(b->aio, at_least, EVENTS_AT_ONCE, event,
				 at_least ? NULL : &zero);
		/* All at once: completed() may come back here and wait. */
		if (n > 0)
			b->under_way -= (unsigned)n;
		for (int i = 0; i < n; i++)
			completed(b, &event[i]);
		at_least = 0;
	} while (n == EVENTS_AT_ONCE);
}

static void submit_batch(struct block *b, unsigned n)
{
	struct iocb **next = b->batch;

	for (unsigned i = 0; i < n; i++)
		io_set_eventfd(b->batch[i], b->event_fd);
	while (n > 0) {
		int done = io_submit(b->aio, n, next);

		/*
		 * For any reason of the kernel's, the request can be done here.
		 */
		if (done <= 0) {
			struct block_request *request =
				container_of(*next, struct block_request, aio);

			finish(b, request, run(b, request));
			done = 1;
		} else {
			b->under_way += (unsigned)done;
		}
		next += done;
		n -= (unsigned)done;
	}
}

void block_queue(struct block *b, struct block_request *request)
{
	list_add(&b->queued, request);
}

bool block_submit(struct block *b)
{
	struct block_list slow;
	struct block_request *request;
	unsigned n = 0;
	int result;

	list_init(&slow);
	while ((request = list_take(&b->queued))) {
		if (n < b->depth && b->has_aio &&
		    b->format->prepare(b, request))
			b->batch[n++] = &request->aio;
		else if (b->format->run_cached(b, request, &result))
			finish(b, request, result);
		else
			list_add(&slow, request);
	}
	submit_batch(b, n);
	while ((request = list_take(&slow)))
		finish(b, request, run(b, request));
	return b->finished.first != NULL;
}

unsigned block_reap(struct block *b)
{
	struct block_request *request;
	unsigned n = 0;

	/*
	 * The kernel may tell of a request after block_drain() has seen its
	 * end: nothing would read that from the descriptor, and it would be
	 * readable for ever.
	 */
	if (b->under_way > 0 || !b->finished.first)
		loop_drain(b->event_fd);
	if (b->under_way > 0)
		collect(b, 0);
	for (; (request = list_take(&b->finished)); n++)
		request->done(request, request->result);
	return n;
}

void block_drain(struct block *b)
{
	do {
		block_submit(b);
		while (b->under_way > 0)
			collect(b, 1);
		block_reap(b);
	} while (b->queued.first);
}
