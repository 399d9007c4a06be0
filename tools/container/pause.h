/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine of an instance stands still, and goes on: what connects to it
 * waits, its clocks go on (vm_pause()). A mark in its directory tells other
 * commands, which would wait for an answer.
 */
#ifndef TOOLS_CONTAINER_PAUSE_H
#define TOOLS_CONTAINER_PAUSE_H

#include <stdbool.h>

struct instance;

/*
 * Whether TEXT is the path of a machine's socket: an instance's name has no
 * '/', but a socket may have none either.
 */
bool pause_is_path(const char *text);

/*
 * INSTANCE runs. 0; -EALREADY: it is paused; or -errno; all logged. Takes as
 * long as its disks have requests under way, but not for ever.
 */
int pause_instance(const struct instance *instance);
/* The same of one that is paused. */
int resume_instance(const struct instance *instance);

#endif
