/* SPDX-License-Identifier: Apache-2.0 */
/* The initial RAM disk of a container's VM: /init, and rarely more, in memory.
 */
#ifndef TOOLS_GUEST_INITRD_H
#define TOOLS_GUEST_INITRD_H

#include <stddef.h>

/* An executable file to be copied. */
struct initrd_file {
	char *name; /* its path in the guest, without a slash in front */
	int fd;
};

/*
 * An archive (cpio, "newc": Linux's buffer-format) of the executable /init and
 * the N files of MORE, with their directories, in a file without a name. Its
 * descriptor, close-on-exec, or -errno (logged).
 */
int initrd_make(const void *init, size_t bytes, const struct initrd_file *more,
		size_t n);

#endif
