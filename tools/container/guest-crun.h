/* SPDX-License-Identifier: Apache-2.0 */
/* The host's crun, for a guest: its file, and those it cannot do without. */
#ifndef TOOLS_CONTAINER_GUEST_CRUN_H
#define TOOLS_CONTAINER_GUEST_CRUN_H

#include "tools/guest/initrd.h"

#include <stddef.h>

#define GUEST_CRUN_FILES 64

struct guest_crun {
	struct initrd_file file[GUEST_CRUN_FILES]; /* names are owned */
	size_t count;
};

/*
 * Finds crun along PATH, and asks its dynamic loader which libraries it takes.
 * 0 or -errno, logged. To be done with in either case.
 */
int guest_crun_find(struct guest_crun *crun);
void guest_crun_done(struct guest_crun *crun);

#endif
