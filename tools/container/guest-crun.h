/* SPDX-License-Identifier: Apache-2.0 */
/* The host's crun, for a guest: its file, and those it cannot do without. */
#ifndef TOOLS_CONTAINER_GUEST_CRUN_H
#define TOOLS_CONTAINER_GUEST_CRUN_H

#include "tools/guest/initrd.h"

#include <stddef.h>

/*
 * Finds crun along PATH, and asks its dynamic loader which libraries it takes.
 * It and they are added to FILES. 0 or -errno, logged.
 */
int guest_crun_find(struct initrd_files *files);

#endif
