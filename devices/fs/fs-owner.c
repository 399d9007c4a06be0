/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owners, modes and devices without privilege: what the guest sets is kept in
 * an extended attribute (FS_STAT_XATTR, see fs.h). On the host every file
 * belongs to the monitor's user, who can always read and write it, and nothing
 * is a device or set-user-ID.
 */
#include "devices/fs/fs-parts.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define OVERFLOW_ID 65534 /* "nobody": host users that the guest has not */

/* A decimal or octal number that ends with END, within MAX. */
static bool take_number(const char **text, unsigned base, char end,
			uint64_t max, uint64_t *ret_value)
{
	const char *p = *text;
	uint64_t value = 0;

	if (*p == end)
		return false;
	for (; *p != end; p++) {
		const unsigned digit = (unsigned)*p - '0';

		if (digit >= base || value > max)
			return false;
		value = value * base + digit;
	}
	*text = p + 1;
	*ret_value = value;
	return value <= max;
}

static bool parse(const char *text, struct fs_owner *ret_owner)
{
	uint64_t uid, gid, mode, rdev;

	if (!take_number(&text, 10, ':', UINT32_MAX, &uid) ||
	    !take_number(&text, 10, ':', UINT32_MAX, &gid) ||
	    !take_number(&text, 8, ':', 0177777, &mode) ||
	    !take_number(&text, 10, '\0', UINT64_MAX / 16, &rdev))
		return false;
	*ret_owner = (struct fs_owner){
		.uid = (uint32_t)uid,
		.gid = (uint32_t)gid,
		.mode = (uint32_t)mode,
		.rdev = rdev,
	};
	return true;
}

/*
 * A path of fs_path() with a name: not to be followed through a link that was
 * put there meanwhile. Without one, /proc's own link is meant.
 */
static bool by_name(const char *path)
{
	return strchr(path + sizeof(FS_FD_PREFIX) - 1, '/') != NULL;
}

static bool read_stat(const char *path, struct fs_owner *ret_owner)
{
	char text[FS_STAT_MAX + 1];
	const ssize_t n = (by_name(path) ? lgetxattr : getxattr)(
		path, FS_STAT_XATTR, text, FS_STAT_MAX);

	if (n <= 0)
		return false;
	text[n] = '\0';
	return strlen(text) == (size_t)n && parse(text, ret_owner);
}

/* A file says what it is; a directory is one whatever the xattr says. */
static uint32_t shown_type(uint32_t real, uint32_t said)
{
	switch (said & S_IFMT) {
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		return (real & S_IFMT) == S_IFREG ? said & S_IFMT
						  : real & S_IFMT;
	}
	return real & S_IFMT;
}

void fs_owner_show(const struct fs *fs, const char *path, struct statx *stx)
{
	struct fs_owner owner;

	if (!fs->xattr)
		return;
	if ((S_ISREG(stx->stx_mode) || S_ISDIR(stx->stx_mode)) &&
	    read_stat(path, &owner)) {
		stx->stx_uid = owner.uid;
		stx->stx_gid = owner.gid;
		stx->stx_mode =
			(uint16_t)(shown_type(stx->stx_mode, owner.mode) |
				   (owner.mode & 07777));
		stx->stx_rdev_major = major(owner.rdev);
		stx->stx_rdev_minor = minor(owner.rdev);
		return;
	}
	/* The user's own files are root's in the user's guest. */
	stx->stx_uid = stx->stx_uid == fs->uid ? 0 : OVERFLOW_ID;
	stx->stx_gid = stx->stx_gid == fs->gid ? 0 : OVERFLOW_ID;
}

int fs_owner_store(const char *path, const struct fs_owner *owner)
{
	char text[FS_STAT_MAX];
	const int n = snprintf(text, sizeof(text), "%u:%u:%o:%llu", owner->uid,
			       owner->gid, owner->mode,
			       (unsigned long long)owner->rdev);

	return (by_name(path) ? lsetxattr : setxattr)(path, FS_STAT_XATTR, text,
						      (size_t)n, 0) < 0
		       ? -errno
		       : 0;
}

int fs_owner_of_new(const struct fs *fs, int dir_fd, const struct fs_who *who,
		    uint32_t mode, struct fs_owner *ret_owner)
{
	char path[FS_PATH_MAX];
	struct statx dir;
	int r = fs_statx(dir_fd, "", &dir);

	if (r < 0)
		return r;
	fs_owner_show(fs, fs_path(path, dir_fd, NULL), &dir);
	*ret_owner = (struct fs_owner){
		.uid = who->uid, .gid = who->gid, .mode = mode};
	/* inode(7): such a directory's group is inherited, and so is the bit.
	 */
	if (dir.stx_mode & S_ISGID) {
		ret_owner->gid = dir.stx_gid;
		if (S_ISDIR(mode))
			ret_owner->mode |= S_ISGID;
	}
	return 0;
}

uint32_t fs_owner_host_mode(uint32_t mode)
{
	/*
	 * On the host only the user may write, whatever the guest's mode says.
	 */
	return (mode & 0755) | (S_ISDIR(mode) ? 0700 : 0600);
}

int fs_owner_change(const char *path, const struct statx *stx,
		    const struct fs_change *change)
{
	struct fs_owner owner = {
		.uid = change->uid ? change->uid_value : stx->stx_uid,
		.gid = change->gid ? change->gid_value : stx->stx_gid,
		.mode = stx->stx_mode,
		.rdev = makedev(stx->stx_rdev_major, stx->stx_rdev_minor),
	};

	/* As chown(2) does for everybody. */
	if ((change->uid || change->gid) && !S_ISDIR(owner.mode)) {
		owner.mode &= ~(uint32_t)S_ISUID;
		if (owner.mode & S_IXGRP)
			owner.mode &= ~(uint32_t)S_ISGID;
	}
	if (change->mode)
		owner.mode =
			(owner.mode & S_IFMT) | (change->mode_value & 07777);
	return fs_owner_store(path, &owner);
}
