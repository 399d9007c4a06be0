/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random operations on one file, next to a model of it in memory: what is read,
 * by whatever way, is what the model says. And a tree of files, made, looked
 * through and removed.
 */
#include "fs.h"
#include "guest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX (512u << 10)
#define OP_MAX   (96u << 10)
#define BLOCK    4096u

struct fsx {
	const char *path;
	int fd;
	unsigned char *model, *buf;
	size_t bytes; /* of the file */
	uint64_t random;
	unsigned op; /* count of them, for messages */
};

static uint64_t next(struct fsx *x)
{
	x->random ^= x->random << 13;
	x->random ^= x->random >> 7;
	x->random ^= x->random << 17;
	return x->random;
}

static size_t below(struct fsx *x, size_t limit)
{
	return limit ? next(x) % limit : 0;
}

static int wrong(struct fsx *x, const char *what, size_t at, size_t bytes)
{
	return guest_fail("fsx: operation %u: %s of %zu at %zu, size %zu",
			  x->op, what, bytes, at, x->bytes);
}

static int compare(struct fsx *x, const char *what, size_t at, size_t bytes,
		   const void *got)
{
	if (memcmp(x->model + at, got, bytes) == 0)
		return 0;
	errno = 0;
	for (size_t i = 0; i < bytes; i++) {
		if (x->model[at + i] != ((const unsigned char *)got)[i])
			return wrong(x, what, at + i, bytes);
	}
	return -1;
}

static int op_read(struct fsx *x)
{
	const size_t at = below(x, x->bytes), want = below(x, OP_MAX);
	const size_t bytes = at + want > x->bytes ? x->bytes - at : want;

	if (pread(x->fd, x->buf, want, (off_t)at) != (ssize_t)bytes)
		return wrong(x, "read", at, want);
	return compare(x, "reading", at, bytes, x->buf);
}

static void grow(struct fsx *x, size_t end)
{
	if (end > x->bytes)
		x->bytes = end;
}

static int op_write(struct fsx *x)
{
	const size_t bytes = below(x, OP_MAX);
	const size_t at = below(x, FILE_MAX - bytes);

	for (size_t i = 0; i < bytes; i++)
		x->buf[i] = (unsigned char)next(x);
	if (pwrite(x->fd, x->buf, bytes, (off_t)at) != (ssize_t)bytes)
		return wrong(x, "write", at, bytes);
	if (bytes) {
		memcpy(x->model + at, x->buf, bytes);
		grow(x, at + bytes);
	}
	return 0;
}

static int op_map(struct fsx *x)
{
	const bool write = next(x) & 1;
	const size_t bytes = x->bytes;
	const size_t at = below(x, bytes);
	const size_t some = below(x, bytes - at < OP_MAX ? bytes - at : OP_MAX);
	unsigned char *map;
	int r;

	if (bytes == 0)
		return 0;
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, x->fd, 0);
	if (map == MAP_FAILED && errno == ENODEV)
		return 0;
	if (map == MAP_FAILED)
		return wrong(x, "mmap", 0, bytes);
	r = compare(x, "mapped reading", at, some, map + at);
	if (write) {
		memset(map + at, (int)(x->op & 0xff), some);
		memset(x->model + at, (int)(x->op & 0xff), some);
	}
	munmap(map, bytes);
	return r;
}

static int op_truncate(struct fsx *x)
{
	const size_t bytes = below(x, FILE_MAX);

	if (ftruncate(x->fd, (off_t)bytes))
		return wrong(x, "truncate", bytes, 0);
	if (bytes < x->bytes)
		memset(x->model + bytes, 0, x->bytes - bytes);
	x->bytes = bytes;
	return 0;
}

static int op_allocate(struct fsx *x)
{
	static const int modes[] = {
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_ZERO_RANGE,
		FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
		0,
	};
	const int mode = modes[next(x) & 3];
	const size_t bytes = 1 + below(x, OP_MAX);
	const size_t at = below(x, FILE_MAX - bytes);
	size_t inside;

	if (fallocate(x->fd, mode, (off_t)at, (off_t)bytes))
		return errno == EOPNOTSUPP ? 0
					   : wrong(x, "fallocate", at, bytes);
	inside = at >= x->bytes ? 0 : x->bytes - at;
	if (inside > bytes)
		inside = bytes;
	if (mode)
		memset(x->model + at, 0, inside);
	if (!(mode & FALLOC_FL_KEEP_SIZE))
		grow(x, at + bytes);
	return 0;
}

static int op_copy(struct fsx *x)
{
	const size_t from = below(x, x->bytes);
	const size_t limit =
		x->bytes - from < OP_MAX ? x->bytes - from : OP_MAX;
	const size_t bytes = below(x, limit);
	const size_t to = below(x, FILE_MAX - bytes);
	off_t in = (off_t)from, out = (off_t)to;
	ssize_t n;

	/* Ranges of one file must not overlap. */
	if (bytes == 0 || (from < to + bytes && to < from + bytes))
		return 0;
	n = copy_file_range(x->fd, &in, x->fd, &out, bytes, 0);
	if (n <= 0)
		return wrong(x, "copy", from, bytes);
	memcpy(x->model + to, x->model + from, (size_t)n);
	grow(x, to + (size_t)n);
	return 0;
}

/* Past the guest's page cache, which has to know of it all the same. */
static int op_direct(struct fsx *x)
{
	const bool write = next(x) & 1;
	const size_t bytes = (1 + below(x, OP_MAX / BLOCK)) * BLOCK;
	const size_t at = below(x, (FILE_MAX - bytes) / BLOCK) * BLOCK;
	const size_t left = at >= x->bytes ? 0 : x->bytes - at;
	const size_t want = write || left > bytes ? bytes : left;
	const int fd = open(x->path, O_RDWR | O_DIRECT | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return errno == EINVAL ? 0 : wrong(x, "direct open", 0, 0);
	for (size_t i = 0; i < bytes && write; i++)
		x->buf[i] = (unsigned char)next(x);
	n = write ? pwrite(fd, x->buf, bytes, (off_t)at)
		  : pread(fd, x->buf, bytes, (off_t)at);
	close(fd);
	if (n != (ssize_t)want)
		return wrong(x, write ? "direct write" : "direct read", at,
			     bytes);
	if (!write)
		return compare(x, "direct reading", at, want, x->buf);
	memcpy(x->model + at, x->buf, bytes);
	grow(x, at + bytes);
	return 0;
}

static int op_reopen(struct fsx *x)
{
	struct stat st;

	if ((next(x) & 1 && fsync(x->fd)) || close(x->fd))
		return wrong(x, "close", 0, 0);
	x->fd = open(x->path, O_RDWR | O_CLOEXEC);
	if (x->fd < 0 || fstat(x->fd, &st))
		return wrong(x, "open", 0, 0);
	errno = 0;
	return (size_t)st.st_size == x->bytes
		       ? 0
		       : wrong(x, "a size", (size_t)st.st_size, 0);
}

int do_fsx(char **arg)
{
	static int (*const ops[])(struct fsx *) = {
		op_read,  op_read,   op_write,    op_write,
		op_write, op_map,    op_truncate, op_allocate,
		op_copy,  op_direct, op_reopen,
	};
	const unsigned count = (unsigned)guest_number(arg[1]);
	struct fsx x = {
		.path = arg[0],
		.fd = open(arg[0], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC,
			   0600),
		.model = calloc(1, FILE_MAX),
		.buf = aligned_alloc(BLOCK, OP_MAX),
		.random = guest_number(arg[2]) * 2654435761 + 1,
	};
	int r = 0;

	if (x.fd < 0 || !x.model || !x.buf)
		return guest_fail("fsx: %s", arg[0]);
	for (x.op = 0; x.op < count && r == 0; x.op++)
		r = ops[next(&x) % (sizeof(ops) / sizeof(*ops))](&x);
	close(x.fd);
	if (r == 0)
		unlink(x.path);
	free(x.model);
	free(x.buf);
	return r;
}

/* ---- a tree */

static int tree_file(const char *dir, int d, int f, bool check)
{
	char path[PATH_MAX], text[64], have[64] = "";
	int fd, n;

	snprintf(path, sizeof(path), "%s/d%d/f%d", dir, d, f);
	n = snprintf(text, sizeof(text), "file %d of directory %d", f, d);
	fd = open(path, check ? O_RDONLY : O_WRONLY | O_CREAT | O_EXCL, 0644);
	if (fd < 0)
		return guest_fail("tree: %s", path);
	n = check ? read(fd, have, sizeof(have) - 1) != n ||
			    strcmp(have, text) != 0
		  : write(fd, text, (size_t)n) != n;
	close(fd);
	return n ? guest_fail("tree: content of %s", path) : 0;
}

static int tree_pass(const char *dir, int dirs, int files, bool check)
{
	char path[PATH_MAX];
	int r = 0;

	for (int d = 0; d < dirs && r == 0; d++) {
		snprintf(path, sizeof(path), "%s/d%d", dir, d);
		if (!check && mkdir(path, 0755))
			return guest_fail("tree: %s", path);
		for (int f = 0; f < files && r == 0; f++)
			r = tree_file(dir, d, f, check);
	}
	return r;
}

static int tree_remove(const char *dir)
{
	char path[PATH_MAX];
	DIR *d = opendir(dir);
	const struct dirent *e;
	int r = d ? 0 : guest_fail("tree: %s", dir);

	while (r == 0 && (e = readdir(d))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		if (e->d_type == DT_DIR)
			r = tree_remove(path);
		else if (unlink(path))
			r = guest_fail("tree: %s", path);
	}
	if (d)
		closedir(d);
	if (r == 0 && rmdir(dir))
		r = guest_fail("tree: %s", dir);
	return r;
}

int do_tree(char **arg)
{
	const int dirs = (int)guest_number(arg[1]);
	const int files = (int)guest_number(arg[2]);
	int r;

	if (mkdir(arg[0], 0755))
		return guest_fail("tree: %s", arg[0]);
	r = tree_pass(arg[0], dirs, files, false);
	if (r == 0)
		r = tree_pass(arg[0], dirs, files, true);
	return r == 0 ? tree_remove(arg[0]) : r;
}
