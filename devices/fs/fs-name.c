/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names in a shared tree: finding, making, moving and removing them. Each is a
 * single component below an open directory; the host's kernel never gets a
 * path from the guest.
 */
#include "devices/fs/fs-parts.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h> /* RENAME_* */
#include <string.h>
#include <unistd.h>

/* DIR's descriptor, if NAME may be a name in it. */
static int place_fd(struct fs *fs, struct fs_inode *dir, const char *name)
{
	const size_t length = strlen(name);

	if (length > FS_NAME_MAX)
		return -ENAMETOOLONG;
	if (length == 0 || strchr(name, '/') || strcmp(name, ".") == 0 ||
	    strcmp(name, "..") == 0)
		return -EINVAL;
	if (dir->type != S_IFDIR)
		return -ENOTDIR;
	if (fs_is_sealed(fs, dir) && strcmp(name, fs->only) != 0)
		return -ENOENT;
	return fs_inode_fd(fs, dir);
}

/* The same before NAME is moved or removed. */
static int change_fd(struct fs *fs, struct fs_inode *dir, const char *name)
{
	return fs_is_sealed(fs, dir) ? -EPERM : place_fd(fs, dir, name);
}

/*
 * The same before NAME is made. It first asks whether the guest may know one
 * more inode, so that nothing is made and then refused.
 */
static int make_fd(struct fs *fs, struct fs_inode *dir, const char *name)
{
	const int r = fs_inode_room(fs);

	return r < 0 ? r : change_fd(fs, dir, name);
}

/* Whether it may know one more and have it open. */
static int open_room(struct fs *fs)
{
	const int r = fs_handle_room(fs);

	return r < 0 ? r : fs_inode_room(fs);
}

int fs_lookup(struct fs *fs, struct fs_inode *dir, const char *name,
	      struct fs_entry *ret_entry)
{
	const int fd = place_fd(fs, dir, name);
	char path[FS_PATH_MAX];
	struct fs_entry entry;
	int r;

	if (fd < 0)
		return fd;
	r = fs_statx(fd, name, &entry.stx);
	if (r < 0)
		return r;
	r = fs_inode_get(fs, dir, name, &entry.stx, &entry.inode);
	if (r < 0)
		return r;
	fs_owner_show(fs, fs_path(path, fd, name), &entry.stx);
	*ret_entry = entry;
	return 0;
}

int fs_lookup_again(struct fs *fs, uint64_t id, struct fs_entry *ret_entry)
{
	struct fs_inode *inode = fs_inode_again(fs, id);
	int r = inode ? fs_getattr(fs, inode, NULL, &ret_entry->stx) : -ESTALE;

	if (r < 0)
		return r;
	fs_inode_ref(fs, inode);
	ret_entry->inode = inode;
	return 0;
}

int fs_lookup_top(struct fs *fs, struct fs_entry *ret_entry)
{
	return fs->only ? fs_lookup(fs, &fs->root, fs->only, ret_entry)
			: fs_lookup_again(fs, FS_ROOT, ret_entry);
}

int fs_lookup_above(struct fs *fs, struct fs_inode *inode,
		    struct fs_entry *ret_entry)
{
	int r = fs_inode_confirm(fs, inode);

	if (inode->type != S_IFDIR)
		return -ENOTDIR;
	if (r < 0)
		return r;
	if (!inode->parent && inode != &fs->root)
		return -ESTALE;
	return fs_lookup_again(
		fs, fs_inode_id(inode->parent ? inode->parent : inode),
		ret_entry);
}

/* ---- making */

/* In DIR; 0 or -errno. */
static int made(const struct fs_inode *dir, int r)
{
	return r == -ENOENT ? fs_inode_missing(dir) : r;
}

/* Something just made at DIR_FD's NAME gets its owner, or goes again. */
static int own_new(struct fs *fs, int dir_fd, const char *name,
		   const struct fs_owner *owner)
{
	char path[FS_PATH_MAX];
	int r;

	if (!fs->xattr)
		return 0;
	r = fs_owner_store(fs_path(path, dir_fd, name), owner);
	if (r < 0)
		(void)unlinkat(dir_fd, name,
			       S_ISDIR(owner->mode) ? AT_REMOVEDIR : 0);
	return r;
}

int fs_mkdir(struct fs *fs, struct fs_inode *dir, const char *name,
	     uint32_t mode, const struct fs_who *who,
	     struct fs_entry *ret_entry)
{
	const int fd = make_fd(fs, dir, name);
	struct fs_owner owner = {0};
	int r = 0;

	if (fd < 0)
		return fd;
	mode = S_IFDIR | (mode & 07777);
	if (fs->xattr) {
		r = fs_owner_of_new(fs, fd, who, mode, &owner);
		mode = fs_owner_host_mode(mode);
	}
	if (r == 0)
		r = fs_be(fs, who);
	if (r < 0)
		return r;
	r = mkdirat(fd, name, mode & 07777) < 0 ? made(dir, -errno) : 0;
	fs_be_self(fs, who);
	if (r == 0)
		r = own_new(fs, fd, name, &owner);
	return r < 0 ? r : fs_lookup(fs, dir, name, ret_entry);
}

/*
 * The users of a device node on the host would get what the guest's root wants
 * them to have: it is made only where the host's user has said so. Character
 * device 0:0 is no device: it marks what an overlay hides.
 */
static int check_node(const struct fs *fs, const struct fs_node *node)
{
	switch (node->mode & S_IFMT) {
	case S_IFREG:
	case S_IFIFO:
	case S_IFSOCK:
		return 0;
	case S_IFCHR:
		return fs->xattr || fs->devices || node->rdev == 0 ? 0 : -EPERM;
	case S_IFBLK:
		return fs->xattr || fs->devices ? 0 : -EPERM;
	}
	return -EINVAL;
}

int fs_mknod(struct fs *fs, const struct fs_place *at,
	     const struct fs_node *node, const struct fs_who *who,
	     struct fs_entry *ret_entry)
{
	const int fd = make_fd(fs, at->dir, at->name);
	const dev_t rdev = fs->devices ? node->rdev : 0;
	uint32_t mode = node->mode;
	struct fs_owner owner = {0};
	int r = check_node(fs, node);

	if (fd < 0)
		return fd;
	if (r == 0 && fs->xattr) {
		r = fs_owner_of_new(fs, fd, who, mode, &owner);
		owner.rdev = node->rdev;
		mode = fs_owner_host_mode(mode) | S_IFREG;
	}
	if (r == 0)
		r = fs_be(fs, who);
	if (r < 0)
		return r;
	r = mknodat(fd, at->name, mode, rdev) < 0 ? made(at->dir, -errno) : 0;
	fs_be_self(fs, who);
	if (r == 0)
		r = own_new(fs, fd, at->name, &owner);
	return r < 0 ? r : fs_lookup(fs, at->dir, at->name, ret_entry);
}

int fs_symlink(struct fs *fs, struct fs_inode *dir, const char *name,
	       const char *target, const struct fs_who *who,
	       struct fs_entry *ret_entry)
{
	const int fd = make_fd(fs, dir, name);
	int r;

	if (fd < 0)
		return fd;
	r = fs_be(fs, who);
	if (r < 0)
		return r;
	r = symlinkat(target, fd, name) < 0 ? made(dir, -errno) : 0;
	fs_be_self(fs, who);
	return r < 0 ? r : fs_lookup(fs, dir, name, ret_entry);
}

int fs_link(struct fs *fs, struct fs_inode *inode, struct fs_inode *dir,
	    const char *name, struct fs_entry *ret_entry)
{
	char path[FS_PATH_MAX];
	int from, to;

	to = change_fd(fs, dir, name);
	if (to < 0)
		return to;
	from = fs_inode_fd(fs, inode);
	if (from < 0)
		return from;
	if (linkat(AT_FDCWD, fs_path(path, from, NULL), to, name,
		   AT_SYMLINK_FOLLOW) < 0)
		return -errno;
	return fs_lookup(fs, dir, name, ret_entry);
}

/* A new, open file in the directory at DIR_FD; its descriptor or -errno. */
static int make_file(struct fs *fs, int dir_fd, const char *name, int flags,
		     uint32_t mode, const struct fs_who *who)
{
	const uint32_t made =
		fs->xattr ? fs_owner_host_mode(S_IFREG | mode) : mode;
	struct fs_owner owner = {0};
	char path[FS_PATH_MAX];
	int fd, r = 0;

	if (fs->xattr)
		r = fs_owner_of_new(fs, dir_fd, who, S_IFREG | mode, &owner);
	if (r == 0)
		r = fs_be(fs, who);
	if (r < 0)
		return r;
	fd = fs_openat(fs, dir_fd, name, fs_file_flags(flags) | flags,
		       made & 07777);
	fs_be_self(fs, who);
	if (fd < 0 || !fs->xattr)
		return fd;
	r = fs_owner_store(fs_path(path, fd, NULL), &owner);
	if (r < 0) {
		close(fd);
		if (flags & O_CREAT)
			(void)unlinkat(dir_fd, name, 0);
		return r;
	}
	return fd;
}

/* Once opened, the guest gets ENTRY; after a failure it has no reference. */
static int given(struct fs *fs, int r, const struct fs_entry *entry,
		 struct fs_entry *ret_entry)
{
	if (r < 0)
		fs_forget(fs, entry->inode, 1);
	else
		*ret_entry = *entry;
	return r;
}

int fs_create(struct fs *fs, const struct fs_place *at, int flags,
	      uint32_t mode, const struct fs_who *who,
	      struct fs_entry *ret_entry, uint64_t *ret_handle)
{
	char path[FS_PATH_MAX];
	struct fs_entry entry;
	int dir_fd, fd, r;

	dir_fd = open_room(fs);
	if (dir_fd == 0)
		dir_fd = change_fd(fs, at->dir, at->name);
	if (dir_fd < 0)
		return dir_fd;
	/*
	 * Always exclusive: a file that another process made there meanwhile is
	 * opened like any other, once it is known not to be a device.
	 */
	fd = make_file(fs, dir_fd, at->name,
		       (flags & O_ACCMODE) | O_CREAT | O_EXCL |
			       (flags & (O_SYNC | O_DSYNC)),
		       mode & 07777, who);
	if (fd < 0 && (fd != -EEXIST || flags & O_EXCL))
		return made(at->dir, fd);
	if (fd < 0) {
		r = fs_lookup(fs, at->dir, at->name, &entry);
		if (r < 0)
			return r;
		r = fs_open_file(fs, entry.inode, flags, ret_handle);
	} else {
		r = fs_statx(fd, "", &entry.stx);
		if (r == 0)
			r = fs_inode_get(fs, at->dir, at->name, &entry.stx,
					 &entry.inode);
		if (r < 0) {
			close(fd);
			return r;
		}
		fs_owner_show(fs, fs_path(path, fd, NULL), &entry.stx);
		r = fs_handle_new(fs, entry.inode, fd, flags & ~O_DIRECTORY,
				  ret_handle);
	}
	return given(fs, r, &entry, ret_entry);
}

int fs_tmpfile(struct fs *fs, struct fs_inode *dir, int flags, uint32_t mode,
	       const struct fs_who *who, struct fs_entry *ret_entry,
	       uint64_t *ret_handle)
{
	char path[FS_PATH_MAX];
	struct fs_entry entry;
	autofd int fd = -1;
	int dir_fd, path_fd, r;

	dir_fd = open_room(fs);
	if (dir_fd == 0)
		dir_fd = fs_is_sealed(fs, dir) ? -EPERM : fs_inode_fd(fs, dir);
	if (dir_fd < 0)
		return dir_fd;
	fd = make_file(fs, dir_fd, ".",
		       (flags & (O_ACCMODE | O_EXCL)) | O_TMPFILE, mode & 07777,
		       who);
	if (fd < 0)
		return made(dir, fd);
	r = fs_statx(fd, "", &entry.stx);
	if (r < 0)
		return r;
	path_fd = open(fs_path(path, fd, NULL), O_PATH | O_CLOEXEC);
	if (path_fd < 0)
		return -errno;
	r = fs_inode_get_pinned(fs, path_fd, &entry.stx, &entry.inode);
	if (r < 0) {
		close(path_fd);
		return r;
	}
	fs_owner_show(fs, path, &entry.stx);
	/* Nobody else can find it: O_RDONLY needs no mark. */
	r = fs_handle_new(fs, entry.inode, take_fd(&fd), O_RDONLY, ret_handle);
	return given(fs, r, &entry, ret_entry);
}

/* ---- moving and removing */

/*
 * The inode that the guest knows as AT, or NULL. An inode whose last known name
 * the guest took away may have this name, too.
 */
static struct fs_inode *known(struct fs *fs, int dir_fd,
			      const struct fs_place *at)
{
	struct fs_inode *inode;
	struct statx stx;

	if (fs_statx(dir_fd, at->name, &stx) < 0)
		return NULL;
	inode = fs_inode_find(fs, &stx);
	return inode && (!inode->parent || fs_inode_is_at(inode, at)) ? inode
								      : NULL;
}

/* The same with its descriptor open, which is all that will be left of it. */
static struct fs_inode *hold(struct fs *fs, int dir_fd,
			     const struct fs_place *at)
{
	struct fs_inode *inode = known(fs, dir_fd, at);

	/* The guest does not know one that is only kept. */
	if (inode && !inode->is_kept)
		(void)fs_inode_fd(fs, inode);
	return inode;
}

int fs_unlink(struct fs *fs, struct fs_inode *dir, const char *name,
	      bool is_dir)
{
	const struct fs_place at = {dir, name};
	const int fd = change_fd(fs, dir, name);
	struct fs_inode *inode;

	if (fd < 0)
		return fd;
	inode = hold(fs, fd, &at);
	if (unlinkat(fd, name, is_dir ? AT_REMOVEDIR : 0) < 0)
		return -errno;
	if (inode)
		fs_inode_removed(fs, inode);
	return 0;
}

static void renamed(struct fs *fs, struct fs_inode *moved,
		    struct fs_inode *other, const struct fs_place *from,
		    const struct fs_place *to, unsigned flags)
{
	if (moved == other)
		return;
	if (other && flags & RENAME_EXCHANGE)
		fs_inode_move(fs, other, from);
	else if (other)
		fs_inode_removed(fs, other);
	if (moved)
		fs_inode_move(fs, moved, to);
}

int fs_rename(struct fs *fs, const struct fs_place *from,
	      const struct fs_place *to, unsigned flags)
{
	struct fs_inode *moved, *other;
	int from_fd, to_fd;

	if (flags &
	    ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT))
		return -EINVAL;
	from_fd = change_fd(fs, from->dir, from->name);
	if (from_fd < 0)
		return from_fd;
	moved = known(fs, from_fd, from);
	to_fd = change_fd(fs, to->dir, to->name);
	if (to_fd < 0)
		return to_fd;
	other = hold(fs, to_fd, to);
	if (renameat2(from_fd, from->name, to_fd, to->name, flags) < 0)
		return -errno;
	renamed(fs, moved, other, from, to, flags);
	return 0;
}
