/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by tests of the agent's protocol: its first words, and no clock. */
#ifndef TESTS_AGENT_H
#define TESTS_AGENT_H

#include "firmware/agent/agent-wire.h"
#include "firmware/init/server.h"

#include <endian.h>

struct agent_first {
	struct agent_frame frame;
	struct agent_hello hello;
};

/* A HELLO as either side says it, of that major version. */
static inline struct agent_first agent_first_words(uint16_t major)
{
	return (struct agent_first){
		agent_frame_make(AGENT_HELLO, sizeof(struct agent_hello)),
		{.magic = {'B', 'H', 'A', '1'}, .major = htole16(major)},
	};
}

/* server_actions.set_clock: that of who runs the test stays as it is. */
static inline int agent_leave_clock(const struct agent_time *time,
				    struct init_failure *f)
{
	(void)time;
	(void)f;
	return 0;
}

#endif
