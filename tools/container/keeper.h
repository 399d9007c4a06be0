/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process that waits for the death of the one that supervises a container,
 * and then does what that one no longer can: take the instance's directory
 * away, or mark it as killed. It holds nothing but a descriptor of that
 * process.
 *
 * If it is killed, too, the next bulkhead command does the same.
 */
#ifndef TOOLS_CONTAINER_KEEPER_H
#define TOOLS_CONTAINER_KEEPER_H

#include <sys/types.h>

struct instance;

/*
 * Starts it for the calling process, which has one thread, is INSTANCE's owner,
 * and ends it with keeper_stop() once it has cleaned up itself. 0 or -errno,
 * logged.
 */
int keeper_start(const struct instance *instance, pid_t *ret_pid);

/* 0 is none. */
void keeper_stop(pid_t pid);

#endif
