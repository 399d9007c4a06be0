/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Named volumes: directories of the user's store, made when they are first
 * named and kept until they are removed. A process that uses one holds a shared
 * lock on it.
 */
#ifndef TOOLS_INSTANCE_VOLUME_H
#define TOOLS_INSTANCE_VOLUME_H

/*
 * Opens the volume NAME, making it where it is missing. RET_PATH is allocated.
 * While RET_FD (a copy from fork() counts) is open it cannot be removed. 0 or
 * -errno, logged.
 */
int volume_open(const char *name, char **ret_path, int *ret_fd);

/* 0; -ENOENT, -EBUSY (it is used) or other -errno, all logged. */
int volume_remove(const char *name);

/*
 * Each of them in turn, in the order of their names. A result of FN other than
 * 0 ends that. FN's result or -errno (logged).
 */
int volume_each(int (*fn)(const char *name, const char *path, void *arg),
		void *arg);

#endif
