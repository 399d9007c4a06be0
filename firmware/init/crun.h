/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Containers that crun runs (AGENT_ITEM_OCI). It makes them; their processes
 * are the agent's children afterwards, as all orphans are, and what is said of
 * signals, terminals and ends goes for them as for others.
 */
#ifndef FIRMWARE_INIT_CRUN_H
#define FIRMWARE_INIT_CRUN_H

#include "firmware/init/process.h"

/*
 * Prepares the machine as crun expects it. 0, or -1 with the failure filled in.
 */
int crun_prepare(struct init_failure *f);

/*
 * In a new process of the agent's: has crun start the main process or another
 * one, and reports it. 0, or -1 with the failure filled in.
 */
int crun_start(const struct process_side *side, struct init_failure *f);

/* ---- crun-root.c */

/*
 * Mounts the root and the shares where
 * AGENT_ITEM_OCI says, in the agent's own root, and sets the sysctls. The
 * root's descriptor (O_PATH), or -1 with the failure filled in.
 */
int crun_root(const struct init_config *config, struct init_failure *f);

#endif
