/* SPDX-License-Identifier: Apache-2.0 */
/* Which kernel a guest gets, and the initial RAM disk that goes with it. */
#ifndef TOOLS_GUEST_KERNEL_H
#define TOOLS_GUEST_KERNEL_H

#include "tools/guest/distro.h"
#include "tools/guest/initrd.h"

#include <stdbool.h>

struct config;

/* Instead of a path: the kernel that the distribution ships. */
#define KERNEL_DISTRO "distro"

/*
 * Finds the kernel that $BULKHEAD_KERNEL names, else the newest of the
 * project's in the cache, else the installed one. Its path, allocated; NULL:
 * there is none.
 */
char *kernel_own(void);

/*
 * Where CFG names no kernel, it gets the one that is taken then:
 * kernel_own(), or, with a line (warning), the distribution's. 0, -ENOENT:
 * there is none, or -ENOMEM; logged.
 */
int kernel_default(struct config *cfg);

/*
 * Makes the kernel that CFG names one that can be loaded: in place of
 * KERNEL_DISTRO comes the path of the newest of the distribution's, and in
 * place of a packed one what is in it (unpack.h). RET, zeroed before, to be
 * done with in either case, says which it is when it is the distribution's. 0
 * or -errno, logged.
 */
int kernel_open(struct config *cfg, struct distro *ret);

/*
 * Makes an initial RAM disk of bulkhead-init, of FILES, and of what DISTRO's
 * kernel needs for the devices of CFG, if it is one; CFG gets its name as
 * --initrd. MOUNT_ROOT: bulkhead-init is to mount the root and start its init,
 * as the project's kernel does by itself; else it is the agent. An open
 * descriptor, to be kept as long as VMs are made of CFG, or -errno, logged.
 */
int kernel_initrd(struct config *cfg, const struct distro *distro,
		  bool mount_root, struct initrd_files *files);

#endif
