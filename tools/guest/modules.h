/* SPDX-License-Identifier: Apache-2.0 */
/* The modules of a kernel: which there are, and in which order they load. */
#ifndef TOOLS_GUEST_MODULES_H
#define TOOLS_GUEST_MODULES_H

#include "tools/guest/initrd.h"

#include <stdbool.h>

struct modules;

/*
 * Reads modules.dep and modules.builtin of the directory PATH, as depmod(8) and
 * the kernel's build write them. Whatever they say, memory and time are bounded
 * by their size. 0 or -errno; ret_why, of MODULES_WHY bytes, then says why
 * without a full stop, so that the caller may go on with another kernel.
 */
#define MODULES_WHY 512
int modules_open(const char *path, struct modules **ret, char *ret_why);
void modules_close(struct modules *m); /* NULL: nothing */

/* Whether there is a module NAME ('-' and '_' are the same), or it is built in.
 */
bool modules_has(const struct modules *m, const char *name);

/*
 * Adds to FILES the file modules/LIST with the names of files, a line each, in
 * the order in which they have to be loaded for NAMES (NULL ends them), and
 * those files as modules/NAME.ko where they were not added before. A packed
 * file is added as it is. A module that is built in takes no file; a name
 * that the kernel does not have is left out. 0 or -errno, logged.
 */
int modules_list(struct modules *m, const char *list, const char *const *names,
		 struct initrd_files *files);

#endif
