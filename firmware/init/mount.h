/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File systems and the paths they go to. Mounts are made detached and attached
 * to a descriptor, and paths are resolved inside a root: an image's symbolic
 * links lead nowhere else.
 */
#ifndef FIRMWARE_INIT_MOUNT_H
#define FIRMWARE_INIT_MOUNT_H

#include "firmware/init/failure.h"

#include <stdbool.h>

/*
 * A new file system, not attached. OPTIONS, or NULL, are as in fstab: words of
 * a mount (ro, nosuid, noexec, nodev) are understood here, the rest goes to the
 * file system. A descriptor, or -1 with the failure filled in.
 */
int mount_make(const char *type, const char *source, const char *options,
	       struct init_failure *f);

/* A copy of what is at FD (a bind mount), not attached. -errno. */
int mount_copy(int fd, bool recursive);

/* Attaches a mount at a file or directory. 0 or -errno. Closes nothing. */
int mount_attach(int mount, int target);

/*
 * The same in the caller's own root at PATH, a directory, which is made. 0, or
 * -1 with the failure filled in.
 */
int mount_attach_at(int mount, const char *path, struct init_failure *f);

/* Changes an attached or detached mount: MOUNT_ATTR_* to set. 0 or -errno. */
int mount_set(int mount, uint64_t attributes);

/*
 * The same by words of a mount, as for mount_make(); -EINVAL for any other. The
 * words start from a new mount's attributes.
 */
int mount_set_options(int mount, const char *options);

/* Opens PATH inside of ROOT (O_CLOEXEC is added). -errno. */
int root_open(int root, const char *path, int flags);
/*
 * Opens PATH of a share (O_PATH), "" for the whole of it: a directory or a file
 * to be mounted elsewhere. One tree of several is a directory on which the
 * kernel mounts the tree itself, but only for those who ask for a directory.
 */
int root_open_source(int share, const char *path);

/*
 * Opens PATH (O_PATH), after making what is missing of it, also where its links
 * lead to: directories, and at the end one or an empty file. -errno.
 */
int root_make(int root, const char *path, bool directory);

#endif
