/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The main process of a container that is made before it is known what it will
 * run (AGENT_PREPARE): it waits in there for the rest.
 */
#ifndef FIRMWARE_INIT_PREPARE_H
#define FIRMWARE_INIT_PREPARE_H

#include "firmware/init/process.h"

/* All of it owned, and never freed: exec follows, or the process's end. */
struct prepared {
	struct container box;
	struct init_config config;
	struct init_start start;
	struct process_side side; /* what it becomes, of these */
};

/*
 * Makes the container that EARLY's box describes, in the new process; tells the
 * agent; and waits until RET->side is known. 0: it is in its place, as with
 * START. -1 with the failure filled in.
 */
int prepare_wait(const struct process_side *early, struct prepared *ret,
		 struct init_failure *f);

#endif
