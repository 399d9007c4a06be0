/* SPDX-License-Identifier: Apache-2.0 */
/* Where the project's own guest kernel is found. */
#ifndef TOOLS_GUEST_KERNEL_H
#define TOOLS_GUEST_KERNEL_H

/*
 * The kernel to boot when none is named: $BULKHEAD_KERNEL, the newest in the
 * cache, or the installed one. Allocated path, or NULL.
 */
char *kernel_default(void);
#define KERNEL_MISSING                                                         \
	"no guest kernel: give --kernel FILE, or build the project's with "    \
	"'" BULKHEAD_DATADIR                                                   \
	"/kernel/build' (in the source tree: ./bootstrap "                     \
	"kernel)"

#endif
