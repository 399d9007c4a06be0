/* SPDX-License-Identifier: Apache-2.0 */
/* How instances are ended, for `stop` and `restart`. */
#ifndef TOOLS_CMD_STOP_H
#define TOOLS_CMD_STOP_H

#include "tools/instance/instance.h"

#define STOP_TIME_S 10 /* as Docker's */

struct stop_request {
	const char *command; /* ours: "stop" */
	int signal;          /* 0: the instance's own */
	uint64_t time_s;     /* then it is killed */
};

/*
 * Ends the instance's command, and waits for its machine's end. Already stopped
 * counts as success. 0 or -errno, logged.
 */
int stop_instance(const struct instance *instance,
		  const struct instance_state *state,
		  const struct stop_request *how);

#endif
