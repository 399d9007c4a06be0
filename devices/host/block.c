/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disk images: opening, locking, and the requests themselves. Knows no guest
 * and no image format but raw.
 */
#include "devices/host/block.h"

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

#define SECTOR         512u
#define MAX_BLOCK      4096u
#define EVENTS_AT_ONCE 32
#define ZEROS_AT_ONCE  64 /* iovecs of one page of zeros */

struct block {
	char *path; /* owned; for messages */
	int fd;     /* owned, as are the next two */
	/*
	 * With O_DIRECT: the same file through the page cache, for what
	 * O_DIRECT cannot take, such as buffers at odd addresses.
	 */
	int cached_fd;
	int event_fd;
	io_context_t aio;
	bool has_aio;
	bool is_device;
	bool nowait;    /* the file system knows RWF_NOWAIT */
	uint32_t align; /* of offsets, lengths and addresses for O_DIRECT */
	struct block_info info;

	unsigned depth, under_way;
	struct block_list {
		struct block_request *first, **end;
	} queued, finished;
	struct iocb **batch; /* owned, `depth` of them */
};

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

static int explain_open(const char *path, const struct block_options *options)
{
	const int error = errno;

	if (error == ENOENT)
		return log_ret(-error,
			       "disk '%s' does not exist; 'truncate -s 1G %s' "
			       "makes an empty one",
			       path, path);
	if ((error == EACCES || error == EROFS || error == EPERM) &&
	    !options->readonly)
		return log_ret(
			-error,
			"disk '%s' cannot be opened for writing (%s); if "
			"the guest need not write to it, add ',readonly'",
			path, strerror(error));
	if (error == EINVAL && options->direct)
		return log_ret(-error,
			       "disk '%s': its file system has no direct I/O; "
			       "leave out 'direct'",
			       path);
	if (error == EBUSY)
		return log_ret(-error,
			       "disk '%s' is in use: mounted on this host, or "
			       "another VM's; end that, or add ',readonly'",
			       path);
	return log_ret(-error, "disk '%s' cannot be opened: %s", path,
		       strerror(error));
}

static int open_files(struct block *b, const char *path,
		      const struct block_options *options)
{
	const int mode = (options->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC;
	struct stat st, again;
	int flags = mode;

	if (stat(path, &st) < 0)
		return explain_open(path, options);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return log_ret(S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL,
			       "disk '%s' is %s; it has to be a raw image file "
			       "or a block device",
			       path,
			       S_ISDIR(st.st_mode) ? "a directory"
						   : "neither file nor disk");
	b->is_device = S_ISBLK(st.st_mode);
	/* A mounted device must not be written behind its file system. */
	if (b->is_device && !options->readonly)
		flags |= O_EXCL;
	if (options->direct)
		flags |= O_DIRECT;
	b->fd = open(path, flags);
	if (b->fd < 0)
		return explain_open(path, options);
	if (!options->direct)
		return 0;
	b->cached_fd = open(path, mode);
	if (b->cached_fd < 0)
		return explain_open(path, options);
	if (fstat(b->fd, &st) < 0 || fstat(b->cached_fd, &again) < 0 ||
	    st.st_ino != again.st_ino || st.st_dev != again.st_dev)
		return log_ret(-ESTALE,
			       "disk '%s' was replaced while it was opened",
			       path);
	return 0;
}

/*
 * Open file description locks: unlike POSIX locks they are not lost when some
 * other descriptor of the file is closed, and QEMU's conflict with them.
 */
static int lock_file(const struct block *b, const char *path, bool readonly)
{
	struct flock lock = {
		.l_type = readonly ? F_RDLCK : F_WRLCK,
		.l_whence = SEEK_SET,
	};

	if (fcntl(b->fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return log_ret(-EBUSY,
			       "disk '%s' is in use by another VM; stop that, "
			       "or pass ',readonly' to both to share it",
			       path);
	log_warn("disk '%s' cannot be locked (%s): make sure that no other VM "
		 "uses it",
		 path, strerror(errno));
	return 0;
}

/*
 * A file's or a device's; nothing else uses the descriptor's position. 0 or
 * -errno (logged).
 */
static int tell_size(const struct block *b, const char *path,
		     uint64_t *ret_bytes)
{
	const off_t end = lseek(b->fd, 0, SEEK_END);

	if (end < 0)
		return log_ret(-errno, "disk '%s': cannot tell its size: %s",
			       path, strerror(errno));
	*ret_bytes = (uint64_t)end;
	return 0;
}

static int measure(struct block *b, const char *path)
{
	uint64_t bytes = 0;
	unsigned physical = MAX_BLOCK;
	int logical = SECTOR;
	int r = tell_size(b, path, &bytes);

	if (r < 0)
		return r;
	if (b->is_device && (ioctl(b->fd, BLKSSZGET, &logical) < 0 ||
			     ioctl(b->fd, BLKPBSZGET, &physical) < 0))
		return log_ret(-errno, "disk '%s': cannot tell its blocks: %s",
			       path, strerror(errno));
	if (bytes < SECTOR)
		return log_ret(-EINVAL,
			       "disk '%s' is %s; 'truncate -s 1G %s' gives it "
			       "a size",
			       path,
			       bytes == 0 ? "empty" : "less than one sector",
			       path);
	b->info.block_bytes = (uint32_t)logical;
	b->info.physical_bytes =
		physical < b->info.block_bytes ? b->info.block_bytes : physical;
	b->info.bytes = align_down(bytes, b->info.block_bytes);
	if (b->info.bytes != bytes)
		log_warn("disk '%s': its size of %llu bytes is not a "
			 "multiple of %u; the guest does not see the last %llu",
			 path, (unsigned long long)bytes, b->info.block_bytes,
			 (unsigned long long)(bytes - b->info.bytes));
	return 0;
}

/*
 * Which alignment O_DIRECT takes here is found by reading: the only answer that
 * holds on every file system and kernel.
 */
static int probe_direct(struct block *b, const char *path)
{
	uint8_t buffer[2 * MAX_BLOCK];
	uint8_t *page = (uint8_t *)align_up((uintptr_t)buffer, MAX_BLOCK);

	for (b->align = b->info.block_bytes; b->align <= MAX_BLOCK;
	     b->align *= 2) {
		ssize_t n = pread(b->fd, page, b->align, b->align);

		if (n >= 0) {
			b->info.block_bytes = b->align;
			b->info.bytes = align_down(b->info.bytes, b->align);
			if (b->info.physical_bytes < b->align)
				b->info.physical_bytes = b->align;
			return 0;
		}
		if (errno != EINVAL)
			break;
	}
	return log_ret(-errno, "disk '%s': direct reading fails: %s", path,
		       strerror(errno));
}

/* A header means nothing in a raw image, and a guest would overwrite it. */
static int refuse_formats(const struct block *b, const char *path)
{
	static const struct {
		unsigned offset;
		char magic[9];
		const char *name;
	} formats[] = {
		{0, "QFI\xfb", "qcow2"},         {0, "KDMV", "vmdk"},
		{0, "vhdxfile", "vhdx"},         {0, "conectix", "vpc"},
		{64, "\x7f\x10\xda\xbe", "vdi"},
	};
	uint8_t head[SECTOR];
	int r;

	r = util_read_at(b->cached_fd >= 0 ? b->cached_fd : b->fd, head,
			 sizeof(head), 0);
	if (r < 0)
		return log_ret(r, "disk '%s' cannot be read: %s", path,
			       strerror(-r));
	for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
		if (memcmp(head + formats[i].offset, formats[i].magic,
			   strlen(formats[i].magic)) == 0)
			return log_ret(-EINVAL,
				       "disk '%s' looks like a %s image, only "
				       "raw ones work: 'qemu-img convert -f %s "
				       "-O raw' makes one; if it is raw, say "
				       "'format=raw'",
				       path, formats[i].name, formats[i].name);
	}
	return 0;
}

/* Asks without changing anything: the hole lies behind the file's end. */
static void probe_discard(struct block *b)
{
	const uint64_t nowhere[2] = {1, 0};

	if (b->info.readonly)
		return;
	b->info.can_write_zeroes = true; /* by writing, if need be */
	if (b->is_device)
		/* An odd start is refused after support was checked. */
		b->info.can_discard = ioctl(b->fd, BLKDISCARD, nowhere) == 0 ||
				      errno == EINVAL;
	else
		b->info.can_discard =
			fallocate(b->fd,
				  FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				  (off_t)align_up(b->info.bytes, MAX_BLOCK),
				  MAX_BLOCK) == 0;
}

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
	int r = open_files(b, path, options);

	if (r == 0)
		r = lock_file(b, path, options->readonly);
	if (r == 0)
		r = measure(b, path);
	if (r == 0 && options->direct)
		r = probe_direct(b, path);
	if (r == 0 && !options->raw)
		r = refuse_formats(b, path);
	if (r == 0)
		r = set_up_aio(b, path, options);
	if (r == 0)
		probe_discard(b);
	return r;
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

	if (tell_size(b, b->path, &bytes) < 0)
		return 0;
	bytes = align_down(bytes, b->info.block_bytes);
	if (bytes == b->info.bytes)
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

/*
 * io_setup() is over; io_destroy() ends what is under way. lseek() is
 * block_look()'s.
 */
#define AIO_CALLS                                                              \
	SANDBOX_CALL(io_submit), SANDBOX_CALL(io_getevents),                   \
		SANDBOX_CALL(io_destroy), SANDBOX_CALL(lseek)
#define WRITE_CALLS SANDBOX_CALL(fdatasync), SANDBOX_CALL(fallocate)

const struct sandbox_rule *block_syscalls(const struct block *b)
{
	static const struct sandbox_rule readonly[] = {AIO_CALLS, SANDBOX_END};
	static const struct sandbox_rule file[] = {AIO_CALLS, WRITE_CALLS,
						   SANDBOX_END};
	static const struct sandbox_rule device[] = {
		AIO_CALLS, WRITE_CALLS, SANDBOX_IOCTL(BLKDISCARD), SANDBOX_END};

	if (b->info.readonly)
		return readonly;
	return b->is_device ? device : file;
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

static int whole(const struct block_request *request, ssize_t n)
{
	if (n < 0)
		return -errno;
	return (uint64_t)n == request->bytes ? 0 : -EIO;
}

static int cached_fd(const struct block *b)
{
	return b->cached_fd >= 0 ? b->cached_fd : b->fd;
}

/* A single buffer is cheaper without a vector. */
static int read_now(const struct block *b, const struct block_request *request)
{
	const off_t at = (off_t)request->offset;
	const struct iovec *iov = request->iov;

	if (request->niov == 1)
		return whole(request, pread(cached_fd(b), iov->iov_base,
					    iov->iov_len, at));
	return whole(request,
		     preadv(cached_fd(b), iov, (int)request->niov, at));
}

static int write_now(const struct block *b, const struct block_request *request)
{
	const off_t at = (off_t)request->offset;
	const struct iovec *iov = request->iov;

	if (request->niov == 1 && !request->durable)
		return whole(request, pwrite(cached_fd(b), iov->iov_base,
					     iov->iov_len, at));
	return whole(request, pwritev2(cached_fd(b), iov, (int)request->niov,
				       at, request->durable ? RWF_DSYNC : 0));
}

/*
 * True: done, result in *RET. False: the data is not in the page cache; the
 * kernel has begun to read it, a second look will wait for it.
 */
static bool read_cached(struct block *b, const struct block_request *request,
			int *ret)
{
	ssize_t n;

	if (!b->nowait)
		return false;
	n = preadv2(b->fd, request->iov, (int)request->niov,
		    (off_t)request->offset, RWF_NOWAIT);
	if (n < 0 && errno == EOPNOTSUPP)
		b->nowait = false; /* tmpfs, for one: nothing to wait for */
	if (n < 0 || (uint64_t)n != request->bytes)
		return false;
	*ret = 0;
	return true;
}

static int discard(const struct block *b, const struct block_request *request)
{
	const uint64_t unit = b->info.block_bytes;
	uint64_t range[2] = {request->offset, request->bytes};
	uint64_t end;

	if (!b->is_device)
		return fallocate(b->fd,
				 FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				 (off_t)request->offset,
				 (off_t)request->bytes) < 0
			       ? -errno
			       : 0;
	/* Whole blocks only; the content of the rest may stay. */
	end = align_down(request->offset + request->bytes, unit);
	range[0] = align_up(request->offset, unit);
	if (range[0] >= end)
		return 0;
	range[1] = end - range[0];
	return ioctl(b->fd, BLKDISCARD, range) < 0 ? -errno : 0;
}

static int write_zeros(const struct block *b,
		       const struct block_request *request)
{
	static const uint8_t zeros[MAX_BLOCK];
	struct iovec iov[ZEROS_AT_ONCE];
	uint64_t done = 0;

	while (done < request->bytes) {
		uint64_t left = request->bytes - done;
		int n = 0;
		ssize_t r;

		while (left > 0 && n < ZEROS_AT_ONCE) {
			iov[n].iov_base = (void *)(uintptr_t)zeros;
			iov[n].iov_len = min_u64(left, sizeof(zeros));
			left -= iov[n++].iov_len;
		}
		r = pwritev(cached_fd(b), iov, n,
			    (off_t)(request->offset + done));
		if (r < 0)
			return -errno;
		if (r == 0)
			return -EIO;
		done += (uint64_t)r;
	}
	return 0;
}

static int write_zeroes(const struct block *b,
			const struct block_request *request)
{
	int mode = FALLOC_FL_KEEP_SIZE;

	mode |= request->unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;
	if (fallocate(b->fd, mode, (off_t)request->offset,
		      (off_t)request->bytes) == 0)
		return 0;
	/* EINVAL: a block device's answer to odd boundaries. */
	if (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL)
		return -errno;
	return write_zeros(b, request);
}

static int flush(const struct block *b)
{
	if (b->info.readonly)
		return 0;
	return fdatasync(b->fd) < 0 ? -errno : 0;
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
	switch (request->op) {
	case BLOCK_READ:
		return read_now(b, request);
	case BLOCK_WRITE:
		return write_now(b, request);
	case BLOCK_FLUSH:
		return flush(b);
	case BLOCK_DISCARD:
		return discard(b, request);
	case BLOCK_WRITE_ZEROES:
		return write_zeroes(b, request);
	}
	return -EINVAL;
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

static bool aligned(const struct block *b, const struct block_request *request)
{
	uintptr_t all = (uintptr_t)(request->offset | request->bytes);

	for (unsigned i = 0; i < request->niov; i++)
		all |= (uintptr_t)request->iov[i].iov_base |
		       request->iov[i].iov_len;
	return all % b->align == 0;
}

/* Fills the request's iocb if libaio can do it without blocking. */
static bool prepare(const struct block *b, struct block_request *request)
{
	struct iocb *aio = &request->aio;
	const int niov = (int)request->niov;
	const long long at = (long long)request->offset;

	if (!b->has_aio)
		return false;
	if (request->op == BLOCK_FLUSH && !b->info.readonly) {
		io_prep_fdsync(aio, b->fd);
	} else if (b->cached_fd < 0 || !aligned(b, request)) {
		return false;
	} else if (request->op == BLOCK_READ) {
		io_prep_preadv(aio, b->fd, request->iov, niov, at);
	} else if (request->op == BLOCK_WRITE) {
		io_prep_pwritev(aio, b->fd, request->iov, niov, at);
		aio->aio_rw_flags = request->durable ? RWF_DSYNC : 0;
	} else {
		return false;
	}
	io_set_eventfd(aio, b->event_fd);
	return true;
}

static void submit_batch(struct block *b, unsigned n)
{
	struct iocb **next = b->batch;

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
		if (n < b->depth && prepare(b, request))
			b->batch[n++] = &request->aio;
		else if (request->op == BLOCK_READ && b->cached_fd < 0 &&
			 read_cached(b, request, &result))
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
