/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One entry of a layer becomes a file, or hides one (OCI image-spec layer.md).
 * The layer's author chose every name, link and number. So: the directory an
 * entry is in is resolved by the kernel with the tree as its root, links in it
 * included; what is made in that directory is made anew, following nothing and
 * never writing into something that was there. Device nodes are not made.
 */
#include "tools/image/rootfs-parts.h"
#include "firmware/archive/tar.h"

#include "devices/fs/fs.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define FS_STAT_XATTR "user.bulkhead.stat"
#define WHITEOUT      ".wh."
#define WHITEOUT_META ".wh..wh."
#define WHITEOUT_OPAQ ".wh..wh..opq"
/* How deep a whiteout looks into directories. */
#define HIDE_DEPTH_MAX 256

static int bad(const struct tree *t, const char *path, const char *what)
{
	return log_ret(-EINVAL, "%s: '%.200s': %s", t->name, path, what);
}

static int failed(const struct tree *t, const char *path, int error)
{
	return log_ret(-error, "%s: '%.200s': %s", t->name, path,
		       strerror(error));
}

/* ---- names */

/*
 * PATH as seen from the root, without empty parts and ".": a leading slash is
 * the image's root. ".." is in no honest archive.
 */
static int clean_path(const struct tree *t, const char *path,
		      char ret_path[PATH_MAX])
{
	size_t len = 0;

	for (const char *p = path; *p;) {
		size_t n = strcspn(p, "/");

		if (n == 2 && memcmp(p, "..", 2) == 0)
			return bad(t, path, "a name with '..' is refused");
		if (n > NAME_MAX)
			return bad(t, path, "the name is too long");
		if (n > 0 && !(n == 1 && p[0] == '.')) {
			if (len > 0)
				ret_path[len++] = '/';
			memcpy(ret_path + len, p, n);
			len += n;
		}
		p += n + (p[n] == '/');
	}
	ret_path[len] = '\0';
	return 0;
}

/* A part of a path that begins like a whiteout would name one. */
static bool has_whiteout(const char *dir)
{
	return strncmp(dir, WHITEOUT, strlen(WHITEOUT)) == 0 ||
	       strstr(dir, "/" WHITEOUT);
}

/* ---- attributes */

/* Keeps in an xattr what the guest is to see of FD and the host cannot have. */
static int set_stat_xattr(const struct tree *t, int fd, const char *path,
			  const struct tar_entry *e, mode_t type)
{
	char text[FS_STAT_MAX];
	int len = snprintf(text, sizeof(text), "%u:%u:%o:%ju", e->uid, e->gid,
			   type | e->mode,
			   (uintmax_t)makedev(e->major, e->minor));

	if (fsetxattr(fd, FS_STAT_XATTR, text, (size_t)len, 0) == 0)
		return 0;
	if (errno == EOPNOTSUPP)
		return log_ret(-ENOTSUP,
			       "%s: the store's file system has no user "
			       "xattrs, which hold owners and modes; set "
			       "BULKHEAD_STORE to a directory of one that has",
			       t->name);
	return failed(t, path, errno);
}

/*
 * Those that mean something to the guest's programs. Not trusted.* nor what
 * overlayfs or this program take for their own: they would have a meaning on
 * this side.
 */
static bool xattr_wanted(const struct tree *t, const char *name)
{
	if (strcmp(name, "security.capability") == 0)
		return !t->owner_xattr;
	return strncmp(name, "user.", 5) == 0 &&
	       strncmp(name, "user.bulkhead.", 14) != 0 &&
	       strncmp(name, "user.overlay.", 13) != 0;
}

static int set_xattrs(struct tree *t, int fd, const char *path,
		      const struct tar_entry *e)
{
	for (unsigned i = 0; i < e->nxattrs; i++) {
		const struct tar_xattr *x = &e->xattrs[i];

		if (!xattr_wanted(t, x->name)) {
			log_debug("%s: '%.200s': xattr %s left out", t->name,
				  path, x->name);
			continue;
		}
		if (fsetxattr(fd, x->name, x->value, x->bytes, 0) == 0)
			t->has_xattrs = true;
		else if (errno != EOPNOTSUPP)
			return log_ret(-errno, "%s: '%.200s': xattr %s: %s",
				       t->name, path, x->name, strerror(errno));
	}
	return 0;
}

static int chown_failed(const struct tree *t, const char *path,
			const struct tar_entry *e)
{
	if (errno != EINVAL)
		return failed(t, path, errno);
	return log_ret(-EINVAL,
		       "%s: '%.200s': belongs to %u:%u, which this user "
		       "namespace does not have",
		       t->name, path, e->uid, e->gid);
}

/*
 * Owner, then mode, then capabilities: each takes away what would follow it.
 * In an unprivileged store files are readable by their owner only and never
 * setuid; the guest's view is in the xattr.
 */
static int set_attributes(struct tree *t, int fd, const char *path,
			  const struct tar_entry *e, mode_t type)
{
	const struct timespec times[2] = {e->mtime, e->mtime};
	mode_t mode = e->mode;
	int r = 0;

	if (t->owner_xattr)
		mode = S_ISDIR(type) ? 0700 : 0600;
	else if (fchown(fd, e->uid, e->gid) < 0)
		return chown_failed(t, path, e);
	if (fchmod(fd, mode) < 0)
		return failed(t, path, errno);
	if (t->owner_xattr)
		r = set_stat_xattr(t, fd, path, e, type);
	if (r == 0)
		r = set_xattrs(t, fd, path, e);
	/* A time that the file system cannot hold is no reason to fail. */
	(void)futimens(fd, times);
	return r;
}

int tree_start(struct tree *t)
{
	const struct tar_entry e = {.mode = 0755};

	return set_attributes(t, t->root, "/", &e, S_IFDIR);
}

/* ---- the directory that an entry is in */

void tree_leave_parent(struct tree *t)
{
	if (!t->parent)
		return;
	(void)futimens(t->parent_fd, t->parent_times);
	close(t->parent_fd);
	free(t->parent);
	t->parent = NULL;
	t->parent_fd = -1;
}

int tree_count(struct tree *t)
{
	if (t->files == 0)
		return log_ret(-EFBIG,
			       "%s: the image has more files than the limit "
			       "allows",
			       t->name);
	t->files--;
	return 0;
}

/* A directory that the layer did not mention: root's, as Docker makes it. */
static int make_missing(struct tree *t, int dir, const char *name,
			const char *path)
{
	const struct tar_entry e = {.mode = 0755};
	struct stat st;
	autofd int fd = -1;
	int r = tree_count(t);

	if (r < 0)
		return r;
	if (mkdirat(dir, name, 0700) < 0) {
		/* It is there, but a link to nowhere. */
		if (errno == EEXIST)
			return bad(t, path, "leads through a broken link");
		return failed(t, path, errno);
	}
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return failed(t, path, errno);
	if (!inodes_add(t->made, st.st_ino))
		return log_ret(-ENOMEM, "%s: no memory", t->name);
	return set_attributes(t, fd, path, &e, S_IFDIR);
}

static int open_in_root(const struct tree *t, const char *path)
{
	return tree_open(t->root, path[0] ? path : ".", O_RDONLY | O_DIRECTORY,
			 RESOLVE_IN_ROOT | RESOLVE_NO_XDEV);
}

/* One step down, through whatever link NAME is; PATH is up to it. */
static int step(struct tree *t, int dir, const char *name, const char *path)
{
	int fd = openat(dir, name,
			O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int r;

	if (fd >= 0)
		return fd;
	/* Anything but a directory is for the kernel to resolve. */
	if (errno != ENOENT) {
		fd = open_in_root(t, path);
		if (fd >= 0 || fd != -ENOENT)
			return fd < 0 ? failed(t, path, -fd) : fd;
	}
	r = make_missing(t, dir, name, path);
	if (r < 0)
		return r;
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? failed(t, path, errno) : fd;
}

/* The same, with the directories made that are missing. */
static int open_making(struct tree *t, const char *path)
{
	char part[PATH_MAX];
	size_t len = 0;
	int dir = open_in_root(t, "");

	while (dir >= 0 && path[len]) {
		const char *name = path + len + (len > 0);
		int next;

		len = (size_t)(name - path) + strcspn(name, "/");
		memcpy(part, path, len);
		part[len] = '\0';
		next = step(t, dir, part + (name - path), part);
		close(dir);
		dir = next;
	}
	return dir;
}

/*
 * Entries of one directory follow each other, so the last is kept open. Only an
 * entry in a directory above can make it another directory, and that leaves
 * this one first.
 */
static int enter_parent(struct tree *t, const char *path)
{
	struct stat st;
	int fd;

	if (t->parent && strcmp(t->parent, path) == 0)
		return 0;
	tree_leave_parent(t);
	fd = open_in_root(t, path);
	if (fd < 0)
		fd = fd == -ENOENT ? open_making(t, path)
				   : failed(t, path, -fd);
	if (fd < 0)
		return fd;
	t->parent = strdup(path);
	if (!t->parent || fstat(fd, &st) < 0) {
		free(take_ptr(t->parent));
		close(fd);
		return log_ret(-ENOMEM, "%s: no memory", t->name);
	}
	t->parent_fd = fd;
	t->parent_times[0] = st.st_atim;
	t->parent_times[1] = st.st_mtim;
	return 0;
}

/* ---- whiteouts */

static int hide(struct tree *t, int dir, const char *name, unsigned depth);

/* Hides what the layers below have in the directory FD. */
static int hide_children(struct tree *t, int fd, unsigned depth)
{
	const struct dirent *entry;
	DIR *dir;
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = 0;

	if (copy < 0)
		return failed(t, "whiteout", errno);
	dir = fdopendir(copy);
	if (!dir) {
		r = failed(t, "whiteout", errno);
		close(copy);
		return r;
	}
	while (r == 0 && (entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") != 0 &&
		    strcmp(entry->d_name, "..") != 0)
			r = hide(t, fd, entry->d_name, depth);
	closedir(dir);
	return r;
}

/*
 * Removes NAME if it comes from a layer below; what this layer made stays,
 * whichever of the two came first in the archive.
 */
static int hide(struct tree *t, int dir, const char *name, unsigned depth)
{
	struct stat st;
	autofd int fd = -1;
	int r;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : failed(t, name, errno);
	if (!S_ISDIR(st.st_mode)) {
		if (inodes_has(t->made, st.st_ino) ||
		    unlinkat(dir, name, 0) == 0)
			return 0;
		return failed(t, name, errno);
	}
	if (depth == HIDE_DEPTH_MAX)
		return bad(t, name, "directories are nested too deep");
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return failed(t, name, errno);
	r = hide_children(t, fd, depth + 1);
	if (r < 0 || inodes_has(t->made, st.st_ino))
		return r;
	/* Something of this layer may be left in it. */
	if (unlinkat(dir, name, AT_REMOVEDIR) < 0 && errno != ENOTEMPTY &&
	    errno != EEXIST)
		return failed(t, name, errno);
	return 0;
}

static int apply_whiteout(struct tree *t, const char *path, const char *name)
{
	const char *hidden = name + strlen(WHITEOUT);

	if (strcmp(name, WHITEOUT_OPAQ) == 0)
		return hide_children(t, t->parent_fd, 0);
	/* aufs's own: nothing of the image */
	if (strncmp(name, WHITEOUT_META, strlen(WHITEOUT_META)) == 0)
		return 0;
	if (hidden[0] == '\0' || strcmp(hidden, ".") == 0 ||
	    strcmp(hidden, "..") == 0)
		return bad(t, path, "a whiteout of no name is refused");
	return hide(t, t->parent_fd, hidden, 0);
}

/* ---- making */

static int copy_data(const struct tree *t, struct tar *tar, int fd,
		     const char *path)
{
	ssize_t n;

	while ((n = tar_read(tar, t->buf, TREE_BUF_BYTES)) > 0) {
		int r = util_write_all(fd, t->buf, (size_t)n);

		if (r < 0)
			return failed(t, path, -r);
	}
	return (int)n;
}

static int make_file(struct tree *t, struct tar *tar, const char *path,
		     const char *name)
{
	/* A node that is none on the host: an empty file with an xattr. */
	static const mode_t types[] = {
		[TAR_FILE] = S_IFREG,
		[TAR_CHAR] = S_IFCHR,
		[TAR_BLOCK] = S_IFBLK,
		[TAR_FIFO] = S_IFIFO,
	};
	const struct tar_entry *e = &tar->entry;
	autofd int fd = openat(
		t->parent_fd, name,
		O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r = fd < 0 ? failed(t, path, errno) : 0;

	if (r == 0 && e->type == TAR_FILE)
		r = copy_data(t, tar, fd, path);
	return r < 0 ? r : set_attributes(t, fd, path, e, types[e->type]);
}

static int make_dir(struct tree *t, const char *path, const char *name,
		    const struct tar_entry *e)
{
	autofd int fd = -1;

	if (mkdirat(t->parent_fd, name, 0700) < 0 && errno != EEXIST)
		return failed(t, path, errno);
	fd = openat(t->parent_fd, name,
		    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return failed(t, path, errno);
	return set_attributes(t, fd, path, e, S_IFDIR);
}

/* The text is the guest's to follow; nothing here does. */
static int make_symlink(struct tree *t, const char *path, const char *name,
			const struct tar_entry *e)
{
	const struct timespec times[2] = {e->mtime, e->mtime};

	if (symlinkat(e->link, t->parent_fd, name) < 0)
		return failed(t, path, errno);
	if (!t->owner_xattr && fchownat(t->parent_fd, name, e->uid, e->gid,
					AT_SYMLINK_NOFOLLOW) < 0)
		return chown_failed(t, path, e);
	(void)utimensat(t->parent_fd, name, times, AT_SYMLINK_NOFOLLOW);
	return 0;
}

static int make_node(struct tree *t, struct tar *tar, const char *path,
		     const char *name)
{
	const struct tar_entry *e = &tar->entry;

	if (t->owner_xattr)
		return make_file(t, tar, path, name);
	if (e->type != TAR_FIFO) {
		t->devices++;
		return 0;
	}
	if (mkfifoat(t->parent_fd, name, 0600) < 0 ||
	    fchownat(t->parent_fd, name, e->uid, e->gid, AT_SYMLINK_NOFOLLOW) <
		    0 ||
	    fchmodat(t->parent_fd, name, e->mode, 0) < 0)
		return failed(t, path, errno);
	return 0;
}

/* The directory and the name of a hard link's target, which has to be there. */
static int find_target(struct tree *t, const struct tar_entry *e,
		       char target[PATH_MAX], const char **ret_name,
		       struct stat *ret_st)
{
	char *slash;
	int dir, r = clean_path(t, e->link, target);

	if (r < 0)
		return r;
	slash = strrchr(target, '/');
	*ret_name = slash ? slash + 1 : target;
	if (slash)
		*slash = '\0';
	dir = open_in_root(t, slash ? target : "");
	if (dir >= 0 &&
	    fstatat(dir, *ret_name, ret_st, AT_SYMLINK_NOFOLLOW) == 0)
		return dir;
	r = dir < 0 ? dir : -errno;
	util_close(&dir);
	return log_ret(r == -ENOENT || r == -ENOTDIR || r == -ELOOP ? -EINVAL
								    : r,
		       "%s: '%.200s': is a hard link to '%.200s': %s", t->name,
		       e->path, e->link, strerror(-r));
}

static int make_link(struct tree *t, const char *path, const char *name,
		     const struct tar_entry *e)
{
	char target[PATH_MAX];
	const char *target_name;
	struct stat st, old;
	autofd int dir = find_target(t, e, target, &target_name, &st);
	int r;

	if (dir < 0)
		return dir;
	if (S_ISDIR(st.st_mode))
		return bad(t, path, "a hard link to a directory is refused");
	if (fstatat(t->parent_fd, name, &old, AT_SYMLINK_NOFOLLOW) == 0) {
		/* A link to itself: removing it first would lose the file. */
		if (old.st_ino == st.st_ino)
			return 0;
		r = tree_remove(t->parent_fd, name);
		if (r < 0)
			return failed(t, path, -r);
	}
	if (linkat(dir, target_name, t->parent_fd, name, 0) < 0)
		return failed(t, path, errno);
	return 0;
}

/* Removes what was there, unless both are directories. */
static int make_way(struct tree *t, const char *path, const char *name,
		    const struct tar_entry *e)
{
	struct stat st;
	int r;

	if (e->type == TAR_LINK)
		return 0;
	if (fstatat(t->parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : failed(t, path, errno);
	if (e->type == TAR_DIR && S_ISDIR(st.st_mode))
		return 0;
	r = tree_remove(t->parent_fd, name);
	return r < 0 ? failed(t, path, -r) : 0;
}

static int make(struct tree *t, struct tar *tar, const char *path,
		const char *name)
{
	const struct tar_entry *e = &tar->entry;
	int r = make_way(t, path, name, e);

	if (r < 0)
		return r;
	switch (e->type) {
	case TAR_FILE:
		return make_file(t, tar, path, name);
	case TAR_LINK:
		return make_link(t, path, name, e);
	case TAR_SYMLINK:
		return make_symlink(t, path, name, e);
	case TAR_DIR:
		return make_dir(t, path, name, e);
	default:
		return make_node(t, tar, path, name);
	}
}

/* "./": only its attributes are of use. */
static int apply_root(struct tree *t, const struct tar_entry *e)
{
	if (e->type != TAR_DIR)
		return bad(t, e->path, "the root can only be a directory");
	tree_leave_parent(t);
	return set_attributes(t, t->root, "/", e, S_IFDIR);
}

int tree_apply(struct tree *t, struct tar *tar)
{
	char path[PATH_MAX];
	const char *name = path;
	struct stat st;
	char *slash;
	int r = clean_path(t, tar->entry.path, path);

	if (r < 0)
		return r;
	if (path[0] == '\0')
		return apply_root(t, &tar->entry);
	slash = strrchr(path, '/');
	if (slash) {
		*slash = '\0';
		name = slash + 1;
	}
	if (slash && has_whiteout(path))
		return bad(t, tar->entry.path, "a name below a whiteout");
	r = enter_parent(t, slash ? path : "");
	if (r < 0)
		return r;
	if (strncmp(name, WHITEOUT, strlen(WHITEOUT)) == 0)
		return apply_whiteout(t, tar->entry.path, name);
	r = make(t, tar, tar->entry.path, name);
	if (r == 0 &&
	    fstatat(t->parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    !inodes_add(t->made, st.st_ino))
		return log_ret(-ENOMEM, "%s: no memory", t->name);
	return r;
}
