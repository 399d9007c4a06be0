/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs of the agent's own (AGENT_START_OWN): what has to look at the
 * container, and must not hold up the agent where the container makes that take
 * for ever, runs in a process of its own.
 */
#ifndef FIRMWARE_INIT_OWN_H
#define FIRMWARE_INIT_OWN_H

#include "firmware/init/process.h"

/* In the new process: reports, does what is asked for, and ends. */
void own_child(const struct process_side *side) __attribute__((noreturn));

/* Whether START's program looks at the container, which then has to run. */
bool own_needs_container(const struct init_start *start);

#endif
