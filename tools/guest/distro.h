/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel that the distribution ships: where it is, and its modules. */
#ifndef TOOLS_GUEST_DISTRO_H
#define TOOLS_GUEST_DISTRO_H

#include "tools/guest/initrd.h"

#include <stdbool.h>

struct config;

/* Allocated; all NULL: there is none. */
struct distro {
	char *version; /* "6.1.0-44-cloud-amd64" */
	char *image;   /* the path of vmlinuz */
	char *modules; /* the directory of its modules */
};

/*
 * The newest kernel that a guest can use, which has virtio_mmio and virtiofs,
 * and an image of that version (where it is a bzImage, which says it): below
 * $BULKHEAD_DISTRO alone, where that is set, else below /, else in the cache's
 * directories distro-*. Below means: lib/modules/VERSION, with its image there
 * as vmlinuz or in boot/. 0, -ENOMEM, or -ENOENT: none; not logged. RET_WHY, of
 * DISTRO_WHY bytes, then says why the newest that was found is none.
 */
#define DISTRO_WHY 1024
int distro_find(struct distro *ret, char *ret_why);
/* The same below the directory ROOT alone. */
int distro_find_below(const char *root, struct distro *ret, char *ret_why);
void distro_done(struct distro *distro);

/*
 * Adds to FILES what bulkhead-init needs of this kernel to drive the devices of
 * CFG: modules/load, the list of modules that it loads at once (modules.h), and
 * either what containers take besides, or, to mount a root (MOUNT_ROOT), the
 * file mount-root and for each file system a list modules/fs-TYPE. Modules that
 * are packed are unpacked. 0 or -errno, logged.
 */
int distro_files(const struct distro *distro, const struct config *cfg,
		 bool mount_root, struct initrd_files *files);

#endif
