/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each entry's directory is resolved by the kernel below the one that all goes
 * to; the entry itself is made anew there.
 */
#include "firmware/archive/unpack.h"

#include "firmware/archive/tar.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define DATA_BYTES 65536

/* A directory of the archive, whose attributes wait until it is filled. */
struct open_dir {
	char *path; /* owned */
	uint32_t mode, uid, gid;
	struct timespec mtime;
};

struct unpack {
	const struct unpack_place *place;
	const struct unpack_options *options;
	struct tar *tar;
	uint64_t resolve;
	bool begun;
	struct open_dir *dirs; /* owned: each is below the one before it */
	size_t ndirs, room;
	unsigned devices; /* left out */
	char data[DATA_BYTES];
};

static int failed(const char *path, int error)
{
	return log_ret(-error, "'%.200s': %s", path, strerror(error));
}

static int bad(const char *path, const char *what)
{
	return log_ret(-EINVAL, "'%.200s': %s", path, what);
}

/* ---- the place */

/* DEST without its last name, and that name. 0, or -EINVAL: it has none. */
static int split(const char *dest, char parent[PATH_MAX], char *name)
{
	size_t n = strlen(dest);
	size_t begin;

	if (n >= PATH_MAX)
		return -ENAMETOOLONG;
	while (n > 0 && dest[n - 1] == '/')
		n--;
	for (begin = n; begin > 0 && dest[begin - 1] != '/'; begin--)
		;
	if (n == begin || (n - begin == 1 && dest[begin] == '.') ||
	    (n - begin == 2 && strncmp(dest + begin, "..", 2) == 0))
		return -ENOENT;
	if (n - begin > NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(name, dest + begin, n - begin);
	name[n - begin] = '\0';
	snprintf(parent, PATH_MAX, "%.*s", (int)begin, dest);
	if (begin == 0)
		strcpy(parent, ".");
	return 0;
}

int unpack_find(int root, uint64_t resolve, const char *dest,
		struct unpack_place *ret)
{
	struct unpack_place place = {.dir = -1};
	const size_t n = strlen(dest);
	char parent[PATH_MAX];
	autofd int there = -1;
	int r;

	place.must_be = n > 0 && dest[n - 1] == '/';
	place.dir = util_openat2(root, dest, O_RDONLY | O_DIRECTORY, resolve);
	if (place.dir >= 0) {
		place.into = true;
		*ret = place;
		return 0;
	}
	if (place.dir != -ENOENT && place.dir != -ENOTDIR)
		return failed(dest, -place.dir);
	r = place.must_be && place.dir == -ENOTDIR
		    ? -ENOTDIR
		    : split(dest, parent, place.name);
	if (r < 0)
		return failed(dest, -r);
	place.dir = util_openat2(root, parent, O_RDONLY | O_DIRECTORY, resolve);
	if (place.dir < 0)
		return failed(parent, -place.dir);
	there = openat(place.dir, place.name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	place.is_file = there >= 0;
	*ret = place;
	return 0;
}

/* ---- names */

/* The first name of an entry: N characters at NAME. */
static bool is_asked_for(const struct unpack *u, const char *name, size_t n)
{
	const char *wanted = u->options->first;

	return u->options->as_is || !u->place->into || !wanted ||
	       (strlen(wanted) == n && memcmp(name, wanted, n) == 0);
}

/*
 * PATH from the archive as it is to be, without empty parts and "."; "" is the
 * directory itself. 0 or -errno, logged.
 */
static int map_path(const struct unpack *u, const char *path,
		    char ret[PATH_MAX])
{
	const bool rename = !u->options->as_is && !u->place->into;
	bool first = true;
	size_t len = 0;

	for (const char *p = path; *p;) {
		const size_t n = strcspn(p, "/");
		const bool dot = n == 1 && p[0] == '.';
		const bool renamed = first && rename && n > 0;
		const char *part = renamed ? u->place->name : p;
		const size_t bytes = renamed ? strlen(part) : n;

		if (n == 2 && memcmp(p, "..", 2) == 0)
			return bad(path, "a name with '..' is refused");
		if (first && n > 0 && !is_asked_for(u, p, n))
			return bad(path, "was not asked for: refused");
		if (n > NAME_MAX || len + bytes + 2 > PATH_MAX)
			return bad(path, "the name is too long");
		if (renamed || (n > 0 && !dot)) {
			if (len > 0)
				ret[len++] = '/';
			memcpy(ret + len, part, bytes);
			len += bytes;
		}
		first = first && n == 0;
		p += n + (p[n] == '/');
	}
	ret[len] = '\0';
	return 0;
}

/* The length of the directory's name in PATH, without the slash. */
static size_t parent_length(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? (size_t)(slash - path) : 0;
}

static int open_below(const struct unpack *u, const char *path, size_t length)
{
	char part[PATH_MAX];

	snprintf(part, sizeof(part), "%.*s", (int)length, path);
	return util_openat2(u->place->dir, length ? part : ".",
			    O_RDONLY | O_DIRECTORY, u->resolve);
}

/* The directory that PATH is in; what is missing of it is made. */
static int open_parent(const struct unpack *u, const char *path)
{
	const size_t length = parent_length(path);
	int fd = open_below(u, path, length);

	for (size_t n = 0; fd == -ENOENT && n < length;) {
		autofd int dir = open_below(u, path, n);
		char name[NAME_MAX + 1];
		const char *begin = path + n + (n > 0);
		const size_t bytes = strcspn(begin, "/");

		if (dir < 0)
			return dir;
		snprintf(name, sizeof(name), "%.*s", (int)bytes, begin);
		if (mkdirat(dir, name, 0755) < 0 && errno != EEXIST)
			return -errno;
		n = (size_t)(begin - path) + bytes;
		if (n == length)
			fd = open_below(u, path, length);
	}
	return fd;
}

/* ---- attributes */

static int own(const struct unpack *u, const char *path, int dir,
	       const char *name, uint32_t uid, uint32_t gid)
{
	if (!u->options->owners ||
	    fchownat(dir, name, uid, gid,
		     AT_SYMLINK_NOFOLLOW | (name[0] ? 0 : AT_EMPTY_PATH)) == 0)
		return 0;
	if (errno == EPERM)
		return log_ret(-EPERM,
			       "'%.200s': cannot be given to user %u, group "
			       "%u: that takes root (leave out -a)",
			       path, uid, gid);
	return failed(path, errno);
}

/* Owner, then mode, which chown(2) would change. */
static int set_attributes(const struct unpack *u, const char *path, int fd,
			  uint32_t mode, uint32_t uid, uint32_t gid,
			  struct timespec mtime)
{
	const struct timespec times[2] = {mtime, mtime};
	int r = own(u, path, fd, "", uid, gid);

	if (r == 0 && fchmod(fd, mode & u->options->mode) < 0)
		r = failed(path, errno);
	/* A time that the file system cannot hold is no reason to fail. */
	(void)futimens(fd, times);
	return r;
}

static int leave_dir(struct unpack *u)
{
	struct open_dir *d = &u->dirs[--u->ndirs];
	autofd int fd = open_below(u, d->path, strlen(d->path));
	int r = fd < 0 ? failed(d->path, -fd)
		       : set_attributes(u, d->path, fd, d->mode, d->uid, d->gid,
					d->mtime);

	free(d->path);
	return r;
}

static bool is_below(const char *path, const char *dir)
{
	const size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && path[n] == '/';
}

static int leave_dirs(struct unpack *u, const char *path)
{
	int r = 0;

	while (r == 0 && u->ndirs > 0 &&
	       !(path && is_below(path, u->dirs[u->ndirs - 1].path)))
		r = leave_dir(u);
	return r;
}

static int remember_dir(struct unpack *u, const char *path,
			const struct tar_entry *e)
{
	struct open_dir *d = u->dirs;

	if (u->ndirs == u->room) {
		const size_t room = u->room ? 2 * u->room : 16;

		d = reallocarray(u->dirs, room, sizeof(*d));
		if (!d)
			return log_ret(-ENOMEM, "out of memory");
		u->dirs = d;
		u->room = room;
	}
	d += u->ndirs;
	*d = (struct open_dir){strdup(path), e->mode, e->uid, e->gid, e->mtime};
	if (!d->path)
		return log_ret(-ENOMEM, "out of memory");
	u->ndirs++;
	return 0;
}

/* ---- making */

static int make_dir(struct unpack *u, const char *path, int parent,
		    const char *name, const struct tar_entry *e)
{
	struct stat st;

	if (mkdirat(parent, name, 0700) < 0) {
		if (errno != EEXIST)
			return failed(path, errno);
		if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return failed(path, errno);
		if (!S_ISDIR(st.st_mode))
			return bad(path, "cannot replace what is no directory "
					 "by a directory");
		/* It stays what it was, unless all is to be as it was there. */
		if (!u->options->owners)
			return 0;
	}
	return remember_dir(u, path, e);
}

static int replace_failed(const char *path, int error)
{
	return error == EBUSY ? bad(path, "is a mount point: write to it by "
					  "exec")
			      : failed(path, error);
}

/* A new file beside the one that it is to replace; -errno or the descriptor. */
static int open_beside(int parent, char name[NAME_MAX + 1])
{
	int fd = -1;

	for (unsigned i = 0; i < 1000 && fd < 0; i++) {
		snprintf(name, NAME_MAX + 1, ".bulkhead-cp.%u", i);
		fd = openat(parent, name,
			    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW |
				    O_CLOEXEC,
			    0600);
		if (fd < 0 && errno != EEXIST)
			return -errno;
	}
	return fd < 0 ? -EEXIST : fd;
}

static int fill_file(struct unpack *u, const char *path, int fd,
		     const struct tar_entry *e)
{
	ssize_t n;

	while ((n = tar_read(u->tar, u->data, sizeof(u->data))) > 0) {
		const int r = util_write_all(fd, u->data, (size_t)n);

		if (r < 0)
			return failed(path, -r);
	}
	return n < 0 ? (int)n
		     : set_attributes(u, path, fd, e->mode, e->uid, e->gid,
				      e->mtime);
}

/* A copy that ends early leaves what was there. */
static int make_file(struct unpack *u, const char *path, int parent,
		     const char *name, const struct tar_entry *e)
{
	char beside[NAME_MAX + 1];
	autofd int fd = open_beside(parent, beside);
	int r;

	if (fd < 0)
		return failed(path, -fd);
	r = fill_file(u, path, fd, e);
	if (r == 0 && renameat(parent, beside, parent, name) < 0)
		r = replace_failed(path, errno);
	if (r < 0)
		(void)unlinkat(parent, beside, 0);
	return r;
}

static int make_symlink(const struct unpack *u, const char *path, int parent,
			const char *name, const struct tar_entry *e)
{
	const struct timespec times[2] = {e->mtime, e->mtime};

	if (symlinkat(e->link, parent, name) < 0)
		return failed(path, errno);
	(void)utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW);
	return own(u, path, parent, name, e->uid, e->gid);
}

/* To a file of this archive, or one that is in the directory already. */
static int make_link(const struct unpack *u, const char *path, int parent,
		     const char *name, const struct tar_entry *e)
{
	char target[PATH_MAX];
	const char *slash;
	autofd int dir = -1;
	int r = map_path(u, e->link, target);

	if (r < 0)
		return r;
	dir = open_below(u, target, parent_length(target));
	if (dir < 0)
		return failed(e->link, -dir);
	slash = strrchr(target, '/');
	if (linkat(dir, slash ? slash + 1 : target, parent, name, 0) < 0)
		return failed(path, errno);
	return 0;
}

static int make_fifo(const struct unpack *u, const char *path, int parent,
		     const char *name, const struct tar_entry *e)
{
	if (mkfifoat(parent, name, e->mode & u->options->mode & 0777) < 0)
		return failed(path, errno);
	return own(u, path, parent, name, e->uid, e->gid);
}

/*
 * Whether what is there may go: neither a directory nor what is no file, as
 * /dev/null. Removes it unless it is to be replaced by rename(2).
 */
static int make_way(const char *path, int parent, const char *name,
		    bool is_renamed)
{
	struct stat st;

	if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : failed(path, errno);
	if (S_ISDIR(st.st_mode))
		return bad(path, "cannot replace a directory by what is none");
	if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode))
		return bad(path, "cannot replace a device, FIFO or socket");
	if (is_renamed || unlinkat(parent, name, 0) == 0)
		return 0;
	return replace_failed(path, errno);
}

static int make(struct unpack *u, const char *path, int parent,
		const char *name, const struct tar_entry *e)
{
	int r;

	if (e->type == TAR_DIR)
		return make_dir(u, path, parent, name, e);
	if (e->type == TAR_CHAR || e->type == TAR_BLOCK) {
		u->devices++;
		return 0;
	}
	r = make_way(path, parent, name, e->type == TAR_FILE);
	if (r < 0)
		return r;
	switch (e->type) {
	case TAR_FILE:
		return make_file(u, path, parent, name, e);
	case TAR_SYMLINK:
		return make_symlink(u, path, parent, name, e);
	case TAR_LINK:
		return make_link(u, path, parent, name, e);
	default:
		return make_fifo(u, path, parent, name, e);
	}
}

/* Whether what is copied can become what was named. */
static int check_first(const struct unpack *u, const struct tar_entry *e)
{
	const struct unpack_place *place = u->place;

	if (u->options->as_is && !place->into)
		return bad(place->name, "must be a directory that exists");
	if (place->is_file && e->type == TAR_DIR)
		return bad(place->name,
			   "cannot copy a directory to what is none");
	if (!place->into && place->must_be && e->type != TAR_DIR)
		return bad(place->name, "no such directory");
	return 0;
}

static int apply(struct unpack *u)
{
	const struct tar_entry *e = &u->tar->entry;
	char path[PATH_MAX];
	const char *slash;
	autofd int parent = -1;
	int r = u->begun ? 0 : check_first(u, e);

	u->begun = true;
	if (r == 0)
		r = map_path(u, e->path, path);
	/* The directory that everything goes to stays as it is. */
	if (r < 0 || (path[0] == '\0' && e->type == TAR_DIR))
		return r;
	if (path[0] == '\0')
		return bad(e->path, "has no name");
	r = leave_dirs(u, path);
	if (r < 0)
		return r;
	parent = open_parent(u, path);
	if (parent < 0)
		return failed(path, -parent);
	slash = strrchr(path, '/');
	return make(u, path, parent, slash ? slash + 1 : path, e);
}

static ssize_t read_input(void *arg, void *buf, size_t len)
{
	ssize_t n;

	do {
		n = read(*(const int *)arg, buf, len);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? log_ret(-errno, "archive: %s", strerror(errno)) : n;
}

/* The sender would take an end before its last byte for a failure. */
static int read_rest(int fd, char *data)
{
	ssize_t n;

	do {
		n = read_input(&fd, data, DATA_BYTES);
	} while (n > 0);
	return (int)n;
}

int unpack_archive(const struct unpack_place *place,
		   const struct unpack_options *options, int in_fd)
{
	const struct tar_input in = {
		.name = "archive", .arg = &in_fd, .read = read_input};
	struct unpack *u = calloc(1, sizeof(*u));
	struct tar tar;
	int r;

	if (!u)
		return log_ret(-ENOMEM, "out of memory");
	u->place = place;
	u->options = options;
	u->tar = &tar;
	u->resolve = RESOLVE_NO_MAGICLINKS |
		     (options->as_is ? RESOLVE_IN_ROOT
				     : RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
	tar_init(&tar, &in);
	while ((r = tar_next(&tar)) > 0) {
		r = apply(u);
		if (r < 0)
			break;
	}
	if (r == 0)
		r = leave_dirs(u, NULL);
	if (r == 0)
		r = read_rest(in_fd, u->data);
	if (r == 0 && !u->begun)
		r = -ENODATA;
	if (u->devices > 0)
		log_warn("%u device nodes are left out", u->devices);
	while (u->ndirs > 0)
		free(u->dirs[--u->ndirs].path);
	free(u->dirs);
	tar_done(&tar);
	free(u);
	return r;
}
