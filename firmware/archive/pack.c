/* SPDX-License-Identifier: Apache-2.0 */
/* Walks a tree by descriptors: whoever moves things in it leads nowhere. */
#include "firmware/archive/pack.h"

#include "firmware/archive/tar-write.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define DEPTH_MAX  400 /* a descriptor each */
#define DATA_BYTES 65536
#define SMALL_MAX  (16u << 20) /* of a file whose size says nothing */
#define TOLD_MAX   10          /* lines about what cannot be read */

struct pack {
	int out;
	char path[TAR_NAME_MAX + 1]; /* in the archive */
	size_t length;
	unsigned skipped; /* files that could not be read whole */
	char data[DATA_BYTES];
};

static int failed(const struct pack *p, int error)
{
	return error == EPIPE
		       ? -EPIPE
		       : log_ret(-error, "'%s': %s", p->path, strerror(error));
}

/*
 * Tells and leaves out what cannot be read, and has the rest go on: 0.
 * Processes and files that ended meanwhile are no loss.
 */
static int skip(struct pack *p, int error)
{
	if (error == ENOENT || error == ESRCH)
		return 0;
	if (p->skipped++ < TOLD_MAX)
		log_error("'%s': left out: %s", p->path, strerror(error));
	return 0;
}

/* ---- entries */

static struct tar_entry entry_of(const struct pack *p, const struct stat *st,
				 enum tar_type type)
{
	return (struct tar_entry){
		.type = type,
		.path = p->path,
		.mode = st->st_mode & 07777,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.mtime = st->st_mtim,
	};
}

static int put(const struct pack *p, const struct tar_entry *e)
{
	int r = tar_write_entry(p->out, e);

	return r < 0 ? failed(p, -r) : 0;
}

/*
 * All that there is now of a file whose size may say nothing, as in /proc. 1:
 * RET has it, allocated; 0: its size is what counts. Or -errno.
 */
static int read_small(int fd, const struct stat *st, char **ret, size_t *ret_n)
{
	autofree char *data = NULL;
	size_t n = 0, room = 0;

	if (st->st_blocks != 0 || st->st_size >= DATA_BYTES)
		return 0;
	for (;;) {
		ssize_t more;

		if (n == room) {
			char *larger;

			room = room ? 4 * room : DATA_BYTES;
			larger = room > SMALL_MAX ? NULL : realloc(data, room);
			if (!larger)
				return room > SMALL_MAX ? -EFBIG : -ENOMEM;
			data = larger;
		}
		more = pread(fd, data + n, room - n, (off_t)n);
		if (more < 0 && errno == EINTR)
			continue;
		if (more < 0)
			return -errno;
		if (more == 0)
			break;
		n += (size_t)more;
	}
	*ret = take_ptr(data);
	*ret_n = n;
	return 1;
}

/* Exactly BYTES of it: zeros stand for what is not there any more. */
static int put_data(struct pack *p, int fd, uint64_t bytes)
{
	bool ends = false;

	for (uint64_t left = bytes; left > 0;) {
		const size_t n = (size_t)min_u64(left, DATA_BYTES);
		ssize_t got = ends ? 0 : read(fd, p->data, n);
		int r;

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			(void)skip(p, errno);
			got = 0;
			ends = true;
		}
		if (got == 0) {
			if (!ends)
				log_warn("'%s': got shorter as it was read",
					 p->path);
			ends = true;
			memset(p->data, 0, n);
			got = (ssize_t)n;
		}
		r = util_write_all(p->out, p->data, (size_t)got);
		if (r < 0)
			return failed(p, -r);
		left -= (uint64_t)got;
	}
	return 0;
}

static int put_file(struct pack *p, int fd)
{
	autofree char *small = NULL;
	struct tar_entry e;
	struct stat st;
	size_t bytes = 0;
	int r;

	if (fstat(fd, &st) < 0)
		return skip(p, errno);
	/* It may have become something else since it was looked at. */
	if (!S_ISREG(st.st_mode))
		return skip(p, ESTALE);
	r = read_small(fd, &st, &small, &bytes);
	if (r < 0)
		return skip(p, -r);
	e = entry_of(p, &st, TAR_FILE);
	e.bytes = small ? bytes : (uint64_t)st.st_size;
	r = put(p, &e);
	if (r == 0 && small)
		r = util_write_all(p->out, small, bytes);
	else if (r == 0)
		r = put_data(p, fd, e.bytes);
	return r < 0 ? r : tar_write_padding(p->out, e.bytes);
}

/* NAME in DIR; "" is DIR itself, which is the link. */
static int put_link(struct pack *p, int dir, const char *name,
		    const struct stat *st)
{
	struct tar_entry e = entry_of(p, st, TAR_SYMLINK);
	char link[TAR_NAME_MAX + 1];
	ssize_t n = readlinkat(dir, name, link, sizeof(link));

	if (n <= 0 || n == sizeof(link))
		return skip(p, n < 0 ? errno : ENAMETOOLONG);
	link[n] = '\0';
	e.link = link;
	return put(p, &e);
}

static int put_node(const struct pack *p, const struct stat *st)
{
	struct tar_entry e = entry_of(p, st, TAR_FIFO);

	if (S_ISSOCK(st->st_mode)) {
		log_warn("'%s': a socket is left out", p->path);
		return 0;
	}
	if (!S_ISFIFO(st->st_mode)) {
		e.type = S_ISCHR(st->st_mode) ? TAR_CHAR : TAR_BLOCK;
		e.major = major(st->st_rdev);
		e.minor = minor(st->st_rdev);
	}
	return put(p, &e);
}

/* ---- the walk */

static int put_dir(struct pack *p, int fd, unsigned depth);

/* The name that NAME has in the archive; what was there before is returned. */
static int append(struct pack *p, const char *name, size_t *ret_before)
{
	const size_t n = strlen(name);

	*ret_before = p->length;
	if (n + 1 > TAR_NAME_MAX - p->length)
		return failed(p, ENAMETOOLONG);
	p->path[p->length++] = '/';
	memcpy(p->path + p->length, name, n + 1);
	p->length += n;
	return 0;
}

static int put_child(struct pack *p, int dir, const char *name, unsigned depth)
{
	autofd int fd = -1;
	size_t before;
	struct stat st;
	int r = append(p, name, &before);

	if (r < 0)
		return r;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		r = skip(p, errno);
	} else if (S_ISLNK(st.st_mode)) {
		r = put_link(p, dir, name, &st);
	} else if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) {
		fd = openat(dir, name,
			    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY |
				    O_CLOEXEC);
		if (fd < 0)
			r = skip(p, errno);
		else if (S_ISREG(st.st_mode))
			r = put_file(p, fd);
		else
			r = put_dir(p, fd, depth + 1);
	} else {
		r = put_node(p, &st);
	}
	p->length = before;
	p->path[before] = '\0';
	return r;
}

static int put_children(struct pack *p, int fd, unsigned depth)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	const struct dirent *entry;
	int r = 0;

	if (!dir) {
		r = skip(p, errno);
		util_close(&copy);
		return r;
	}
	while (r == 0 && (entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") != 0 &&
		    strcmp(entry->d_name, "..") != 0)
			r = put_child(p, fd, entry->d_name, depth);
	}
	closedir(dir);
	return r;
}

static int put_dir(struct pack *p, int fd, unsigned depth)
{
	struct tar_entry e;
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return skip(p, errno);
	if (!S_ISDIR(st.st_mode))
		return skip(p, ESTALE);
	if (depth == DEPTH_MAX)
		return log_ret(-ELOOP, "'%s': directories are nested too deep",
			       p->path);
	e = entry_of(p, &st, TAR_DIR);
	r = put(p, &e);
	return r < 0 ? r : put_children(p, fd, depth);
}

/* ---- what is named */

/* The last name of PATH, or "."; true: PATH can only be a directory. */
bool pack_first_name(const char *path, char *ret, size_t room)
{
	size_t n = strlen(path);
	size_t begin;
	bool slash = n > 0 && path[n - 1] == '/';

	while (n > 0 && path[n - 1] == '/')
		n--;
	for (begin = n; begin > 0 && path[begin - 1] != '/'; begin--)
		;
	snprintf(ret, room, "%.*s", (int)(n - begin), path + begin);
	if (strcmp(ret, ".") != 0 && strcmp(ret, "..") != 0 && ret[0])
		return slash;
	strcpy(ret, ".");
	return true;
}

int pack_tree(const struct pack_source *source, int out)
{
	struct pack *p = calloc(1, sizeof(*p));
	bool directory;
	int flags = 0;
	autofd int fd = -1;
	struct stat st;
	int r;

	if (!p)
		return log_ret(-ENOMEM, "out of memory");
	p->out = out;
	directory = pack_first_name(source->path, p->path, sizeof(p->path));
	p->length = strlen(p->path);
	if (directory)
		flags |= O_DIRECTORY;
	else if (!source->follow)
		flags |= O_NOFOLLOW;
	fd = util_openat2(source->root, source->path, O_PATH | flags,
			  source->resolve);
	r = fd < 0 ? fd : fstat(fd, &st) < 0 ? -errno : 0;
	if (r == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))) {
		close(fd);
		fd = util_openat2(source->root, source->path,
				  O_RDONLY | O_NOCTTY | O_NONBLOCK | flags,
				  source->resolve);
		r = fd < 0 ? fd : 0;
	}
	if (r < 0)
		log_error("'%s': %s", source->path, strerror(-r));
	else if (S_ISREG(st.st_mode))
		r = put_file(p, fd);
	else if (S_ISDIR(st.st_mode))
		r = put_dir(p, fd, 0);
	else if (S_ISLNK(st.st_mode))
		r = put_link(p, fd, "", &st);
	else
		r = put_node(p, &st);
	if (r == 0)
		r = tar_write_end(out);
	if (r == 0 && p->skipped > TOLD_MAX)
		log_error("%u more files are left out", p->skipped - TOLD_MAX);
	if (r == 0 && p->skipped > 0)
		r = -EIO;
	free(p);
	return r;
}
