/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The attributes of the shared tree's files, links' targets, extended
 * attributes.
 *
 * Many system calls refuse an O_PATH descriptor but take a path, and the path
 * /proc/self/fd/N leads to the very file that is open, a symbolic link
 * included: nothing is looked up by name again.
 */
#include "devices/fs/fs-parts.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

/* The guest may not see or set these: they are this program's own. */
#define HIDDEN_PREFIX "user.bulkhead."
/* The host's kernel's own: of these, ACLs only, if the guest honours them. */
#define SYSTEM_PREFIX "system."
#define ACL_PREFIX    "system.posix_acl_"

int fs_getattr(struct fs *fs, struct fs_inode *inode, struct fs_handle *handle,
	       struct statx *ret_stx)
{
	char path[FS_PATH_MAX];
	int fd, r;

	if (!handle && inode->fd < 0) {
		r = fs_inode_stat(fs, inode, ret_stx);
		if (r != -ESTALE || LIST_EMPTY(&inode->open))
			return r;
	}
	fd = handle ? handle->fd : fs_inode_fd(fs, inode);
	if (fd < 0)
		return fd;
	r = fs_statx(fd, "", ret_stx);
	if (r == 0)
		fs_owner_show(fs, fs_path(path, fd, NULL), ret_stx);
	return r;
}

static int change_owner(int fd, const struct fs_change *change)
{
	const uid_t uid = change->uid ? change->uid_value : (uid_t)-1;
	const gid_t gid = change->gid ? change->gid_value : (gid_t)-1;

	return fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

/* Owner first: a change of it takes the set-user-ID bit away. */
static int change_host(int fd, const char *path, const struct fs_change *change)
{
	int r = 0;

	if (change->uid || change->gid)
		r = change_owner(fd, change);
	if (r == 0 && change->mode &&
	    fchmodat(AT_FDCWD, path, change->mode_value & 07777, 0) < 0)
		r = -errno;
	return r;
}

static int change_xattr(struct fs *fs, const struct fs_inode *inode, int fd,
			const char *path, const struct fs_change *change)
{
	const uint32_t type = inode->type;
	struct statx stx;
	int r;

	/*
	 * A link cannot have an xattr, so the owner that an archive gives it is
	 * lost.
	 */
	if (type != S_IFREG && type != S_IFDIR)
		return 0;
	r = fs_statx(fd, "", &stx);
	if (r < 0)
		return r;
	fs_owner_show(fs, path, &stx);
	r = fs_owner_change(path, &stx, change);
	if (r == 0 && change->mode &&
	    fchmodat(AT_FDCWD, path,
		     fs_owner_host_mode(type | (change->mode_value & 07777)) &
			     07777,
		     0) < 0)
		r = -errno;
	return r;
}

static int change_size(const struct fs_handle *handle, const char *path,
		       uint64_t bytes)
{
	if (bytes > INT64_MAX)
		return -EFBIG;
	/* The file may be open although its mode forbids to open it. */
	if ((handle ? ftruncate(handle->fd, (off_t)bytes)
		    : truncate(path, (off_t)bytes)) < 0)
		return -errno;
	return 0;
}

/*
 * The guest changes the file that its name leads to now, unless it has the
 * inode open: then it may mean that one, by its descriptor.
 */
static int confirm(struct fs *fs, struct fs_inode *inode)
{
	return LIST_EMPTY(&inode->open) ? fs_inode_confirm(fs, inode) : 0;
}

int fs_setattr(struct fs *fs, struct fs_inode *inode, struct fs_handle *handle,
	       const struct fs_change *change)
{
	int fd, r = handle ? 0 : confirm(fs, inode);
	char path[FS_PATH_MAX];

	if (r < 0)
		return r;
	fd = handle ? handle->fd : fs_inode_fd(fs, inode);
	if (fd < 0)
		return fd;
	if (fs_is_sealed(fs, inode))
		return -EPERM;
	fs_path(path, fd, NULL);
	if (change->mode || change->uid || change->gid)
		r = fs->xattr ? change_xattr(fs, inode, fd, path, change)
			      : change_host(fd, path, change);
	if (r == 0 && change->size && change->kill_suid)
		r = fs_kill_suid(fs, inode, handle);
	if (r == 0 && change->size)
		r = change_size(handle, path, change->size_value);
	if (r == 0 && change->times &&
	    utimensat(AT_FDCWD, path, change->time, 0) < 0)
		r = -errno;
	return r;
}

int fs_kill_suid(struct fs *fs, struct fs_inode *inode,
		 struct fs_handle *handle)
{
	struct fs_change change = {.mode = true};
	struct statx stx;
	int r = fs_getattr(fs, inode, handle, &stx);

	if (r < 0)
		return r;
	change.mode_value = stx.stx_mode & ~(uint32_t)S_ISUID;
	/* Without S_IXGRP it would be mandatory locking's mark. */
	if (stx.stx_mode & S_IXGRP)
		change.mode_value &= ~(uint32_t)S_ISGID;
	if (change.mode_value == stx.stx_mode)
		return 0;
	return fs_setattr(fs, inode, handle, &change);
}

int fs_readlink(struct fs *fs, struct fs_inode *inode, char *buf, size_t bytes)
{
	const int fd = fs_inode_fd(fs, inode);
	ssize_t n;

	if (fd < 0)
		return fd;
	if (inode->type != S_IFLNK)
		return -EINVAL;
	n = readlinkat(fd, "", buf, bytes);
	return n < 0 ? -errno : (int)n;
}

int fs_statfs(struct fs *fs, struct fs_inode *inode, struct statfs *ret_stat)
{
	const int fd = fs_inode_fd(fs, inode);

	if (fd < 0)
		return fd;
	return fstatfs(fd, ret_stat) < 0 ? -errno : 0;
}

int fs_syncfs(struct fs *fs)
{
	autofd int fd =
		fs_openat(fs, fs->root.fd, ".", O_RDONLY | O_DIRECTORY, 0);

	if (fd < 0)
		return fd;
	return syncfs(fd) < 0 ? -errno : 0;
}

/* ---- extended attributes */

static bool has_prefix(const char *name, const char *prefix)
{
	return strncmp(name, prefix, strlen(prefix)) == 0;
}

static bool is_foreign(const struct fs *fs, const char *name)
{
	return has_prefix(name, SYSTEM_PREFIX) &&
	       !(fs->acls && has_prefix(name, ACL_PREFIX));
}

static int xattr_path(struct fs *fs, struct fs_inode *inode, const char *name,
		      int hidden, char path[FS_PATH_MAX])
{
	const int fd = fs_inode_fd(fs, inode);

	if (fd < 0)
		return fd;
	if (fs_is_sealed(fs, inode))
		return -EOPNOTSUPP;
	if (name && has_prefix(name, HIDDEN_PREFIX))
		return hidden;
	if (name && is_foreign(fs, name))
		return -EOPNOTSUPP;
	fs_path(path, fd, NULL);
	return 0;
}

int fs_setxattr(struct fs *fs, struct fs_inode *inode, const char *name,
		const void *value, size_t bytes, int flags)
{
	char path[FS_PATH_MAX];
	int r = confirm(fs, inode);

	if (r == 0)
		r = xattr_path(fs, inode, name, -EPERM, path);
	if (r < 0)
		return r;
	return setxattr(path, name, value, bytes, flags) < 0 ? -errno : 0;
}

int fs_getxattr(struct fs *fs, struct fs_inode *inode, const char *name,
		void *buf, size_t bytes)
{
	char path[FS_PATH_MAX];
	int r = xattr_path(fs, inode, name, -ENODATA, path);
	ssize_t n;

	if (r == 0) {
		n = getxattr(path, name, buf, bytes);
		if (n >= 0)
			return (int)n;
		r = -errno;
	}
	/* A guest that honours ACLs takes any other error for a refusal. */
	return r == -EOPNOTSUPP && fs->acls && has_prefix(name, ACL_PREFIX)
		       ? -ENODATA
		       : r;
}

int fs_listxattr(struct fs *fs, struct fs_inode *inode, char *buf, size_t bytes)
{
	char path[FS_PATH_MAX];
	const int r = xattr_path(fs, inode, NULL, 0, path);
	size_t from = 0, to = 0;
	ssize_t n;

	if (r < 0)
		return r;
	n = listxattr(path, buf, bytes);
	if (n < 0)
		return -errno;
	while (from < (size_t)n) {
		const size_t length = strnlen(buf + from, (size_t)n - from) + 1;

		if (!has_prefix(buf + from, HIDDEN_PREFIX) &&
		    !is_foreign(fs, buf + from)) {
			memmove(buf + to, buf + from, length);
			to += length;
		}
		from += length;
	}
	return (int)to;
}

int fs_removexattr(struct fs *fs, struct fs_inode *inode, const char *name)
{
	char path[FS_PATH_MAX];
	int r = confirm(fs, inode);

	if (r == 0)
		r = xattr_path(fs, inode, name, -ENODATA, path);
	if (r < 0)
		return r;
	return removexattr(path, name) < 0 ? -errno : 0;
}
