/* SPDX-License-Identifier: Apache-2.0 */
/* Raw images: the image's bytes are the file's, or the device's. */
#include "devices/host/block-parts.h"

#include "vmm/base/log.h"
#include "vmm/base/sandbox.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>

#define SECTOR        512u
#define MAX_BLOCK     4096u
#define ZEROS_AT_ONCE 64 /* iovecs of one page of zeros */

/* ---- opening ---- */

static int measure(struct block *b, const char *path)
{
	uint64_t bytes = 0;
	unsigned physical = MAX_BLOCK;
	int logical = SECTOR;
	int r = block_file_size(b, path, &bytes);

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

/* The hole lies behind the file's end, where there is nothing to be lost. */
static bool can_punch_holes(const struct block *b)
{
	return fallocate(b->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 (off_t)align_up(b->info.bytes, MAX_BLOCK),
			 MAX_BLOCK) == 0;
}

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
		b->info.can_discard = can_punch_holes(b);
}

#define WRITE_CALLS SANDBOX_CALL(fdatasync), SANDBOX_CALL(fallocate)

static const struct sandbox_rule *raw_syscalls(const struct block *b)
{
	static const struct sandbox_rule readonly[] = {BLOCK_CALLS,
						       SANDBOX_END};
	static const struct sandbox_rule file[] = {BLOCK_CALLS, WRITE_CALLS,
						   SANDBOX_END};
	static const struct sandbox_rule device[] = {BLOCK_CALLS, WRITE_CALLS,
						     SANDBOX_IOCTL(BLKDISCARD),
						     SANDBOX_END};

	if (b->info.readonly)
		return readonly;
	return b->is_device ? device : file;
}

/* ---- requests ---- */

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
static bool raw_run_cached(struct block *b, const struct block_request *request,
			   int *ret)
{
	ssize_t n;

	if (request->op != BLOCK_READ || b->cached_fd >= 0 || !b->nowait)
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

static bool aligned(const struct block *b, const struct block_request *request)
{
	uintptr_t all = (uintptr_t)(request->offset | request->bytes);

	for (unsigned i = 0; i < request->niov; i++)
		all |= (uintptr_t)request->iov[i].iov_base |
		       request->iov[i].iov_len;
	return all % b->align == 0;
}

static bool raw_prepare(const struct block *b, struct block_request *request)
{
	struct iocb *aio = &request->aio;
	const int niov = (int)request->niov;
	const long long at = (long long)request->offset;

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
	return true;
}

/* ---- the format ---- */

static int raw_open(struct block *b, const char *path,
		    const struct block_options *options)
{
	int r = measure(b, path);

	if (r == 0 && options->direct)
		r = probe_direct(b, path);
	if (r == 0 && !options->raw)
		r = refuse_formats(b, path);
	if (r < 0)
		return r;
	block_file_note(b);
	probe_discard(b);
	/* To the file system that was a write: the image is as it was. */
	block_file_unchanged(b);
	return 0;
}

static int raw_look(struct block *b, const char *path, uint64_t *ret_bytes)
{
	const int r = block_file_size(b, path, ret_bytes);

	*ret_bytes = align_down(*ret_bytes, b->info.block_bytes);
	return r;
}

static int raw_run(struct block *b, const struct block_request *request)
{
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

const struct block_format block_raw = {
	.open = raw_open,
	.look = raw_look,
	.syscalls = raw_syscalls,
	.prepare = raw_prepare,
	.run_cached = raw_run_cached,
	.run = raw_run,
};
