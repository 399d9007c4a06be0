/* SPDX-License-Identifier: Apache-2.0 */
/* An initial RAM disk in memory: /init, and what else a guest needs at first.
 */
#ifndef TOOLS_GUEST_INITRD_H
#define TOOLS_GUEST_INITRD_H

#include <stddef.h>

/* A file to be copied, executable in the guest. */
struct initrd_file {
	char *name; /* its path in the guest, without a slash in front */
	int fd;
};

/* Zeroed before it is used. Owns names and descriptors. */
struct initrd_files {
	struct initrd_file *file;
	size_t count;
};

/*
 * Adds the open file FD, which it takes in either case. 0 or -ENOMEM, not
 * logged.
 */
int initrd_add(struct initrd_files *files, const char *name, int fd);
/* Adds a file with the BYTES of DATA. 0 or -errno, not logged. */
int initrd_add_data(struct initrd_files *files, const char *name,
		    const void *data, size_t bytes);
void initrd_files_done(struct initrd_files *files);

/*
 * An archive (cpio, "newc": Linux's buffer-format) of the executable /init and
 * FILES, with their directories, in a file without a name. Its descriptor,
 * close-on-exec, or -errno (logged).
 */
int initrd_make(const void *init, size_t bytes,
		const struct initrd_files *files);

#endif
