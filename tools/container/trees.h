/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Directories of this process's for a machine that runs (the other side is
 * devices/virtio/fs-trees.h).
 */
#ifndef TOOLS_CONTAINER_TREES_H
#define TOOLS_CONTAINER_TREES_H

#include <stdbool.h>

#define TREES_NAME 16 /* bytes of a name with its NUL */

/*
 * Connects to the socket PATH. The machine has the trees of trees_add() as long
 * as RET_FD, close-on-exec, is open. 0 or -errno, logged.
 */
int trees_connect(const char *path, int *ret_fd);

struct trees_dir {
	const char *path;
	const char *only; /* this one file of it; NULL: all */
	bool readonly;
	bool nested; /* with what is mounted below it, if there is anything */
};

/*
 * Gives the machine a directory; RET_NAME is the tree's, for its guest. 0 or
 * -errno, logged.
 */
int trees_add(int fd, const struct trees_dir *dir, char ret_name[TREES_NAME]);

#endif
