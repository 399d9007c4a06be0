/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels and modules that are packed in a way that nobody else unpacks. */
#ifndef TOOLS_GUEST_UNPACK_H
#define TOOLS_GUEST_UNPACK_H

#include "tools/guest/initrd.h"
#include "vmm/base/util.h"

/*
 * Where the kernel *PATH (allocated) is a bzImage whose payload is packed with
 * xz, zstd or lz4, or a vmlinux packed like that, *PATH becomes that of the
 * vmlinux in it, in the user's cache: unpacked now, or before. A line (warning)
 * says so when it is now. Every other file is left to the loader, and so is a
 * bzImage for which there is no cache (a warning): the guest unpacks it itself.
 * Forks for as long as it unpacks. 0 or -errno, logged; -EINTR: a signal is
 * pending.
 */
int kernel_unpack(char **path);

/* The limit for all files of unpack_files() together, unpacked. */
#define UNPACK_FILES_MAX (256 * MIB)

/*
 * Replaces those of the N files that are packed with xz, zstd or gzip, as some
 * distributions' modules are, by what is in them, in memory. Forks, and needs
 * the user's cache for a moment, where there is such a file. 0 or -errno,
 * logged; -EFBIG: they have more than UNPACK_FILES_MAX; -EINTR: a signal is
 * pending.
 */
int unpack_files(struct initrd_file *files, size_t n);

#endif
