/* SPDX-License-Identifier: Apache-2.0 */
/* The initial RAM disk of a container's VM: one file, /init, made in memory. */
#ifndef TOOLS_INITRD_H
#define TOOLS_INITRD_H

#include <stddef.h>

/*
 * An archive (cpio, "newc": Linux's buffer-format) of the executable /init in a
 * file without a name. Its descriptor, close-on-exec, or -errno (logged).
 */
int initrd_make(const void *init, size_t bytes);

#endif
