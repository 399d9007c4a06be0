/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs that a monitor has put in the background (passt). They end when the
 * monitor does, a little later, and have ports of the host's until then. A
 * process that reaps what is left over below it is their parent.
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
 * they do; one that does not within TIMEOUT_MS is killed.
 */
void helpers_await(const struct helpers *before, int timeout_ms);

#endif
