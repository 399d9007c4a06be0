/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes that a monitor leaves: programs that it has put in the background
 * (passt), which end a little after it, and have ports of the host's until
 * then; and the one that writes a live snapshot. A process that reaps what is
 * left over below it is their parent.
 */
#ifndef TOOLS_CONTAINER_HELPERS_H
#define TOOLS_CONTAINER_HELPERS_H

#include <stdbool.h>
#include <sys/types.h>

#define HELPERS_MAX 16

/* A zeroed one is of nobody: helpers_await() does nothing then. */
struct helpers {
	pid_t pid[HELPERS_MAX];
	unsigned n;
	bool known;
};

/*
 * The children that this process's first thread has. None, where the host does
 * not tell.
 */
void helpers_find(struct helpers *ret);

/*
 * The monitors that this process starts from now on leave it their helpers.
 * RET: the children before.
 */
void helpers_begin(struct helpers *ret);

/*
 * Waits for the end of all children but those BEFORE. The monitor has ended, so
 * they do; one that does not within TIMEOUT_MS is killed. Some that make others
 * faster than that are logged, and stay.
 */
void helpers_await(const struct helpers *before, int timeout_ms);

#endif
