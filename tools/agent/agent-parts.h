/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of tools/agent/, and included by no other file. */
#ifndef TOOLS_AGENT_AGENT_PARTS_H
#define TOOLS_AGENT_AGENT_PARTS_H

#include "firmware/agent/agent-wire.h"
#include "tools/agent/agent.h"

/*
 * As long as each step of a machine's start may take: its host may have much
 * else to do. Longer than the agent's own patience with a process.
 */
#define AGENT_MACHINE_MS 180000

/* The first version that holds a container, and attaches to it. */
#define HOLD_MINOR  14
#define CLONE_MINOR 15

struct agent_session {
	int fd;      /* owned */
	int gone_fd; /* borrowed; waiting ends when it is readable; -1: none */
	struct agent_reader reader;
	uint8_t *out; /* owned: one frame of data, or a few short ones */
	size_t out_start, out_end;
	unsigned minor;  /* the guest's version, as it says */
	bool configures; /* the answer to CONFIGURE is to come */
	bool started;    /* it has a process */
	bool input;      /* whose standard input is open */
	size_t window;
	bool watched;               /* events may come */
	struct agent_memory memory; /* the last one not told; what 0: none */
	struct trace *trace;        /* borrowed; NULL: none */
};

#define AGENT_OUT_ROOM (2 * sizeof(struct agent_frame) + AGENT_PAYLOAD_MAX)

/* The guest broke the rules: one line, and -EPROTO. */
int agent_violation(const char *what);

/* One frame more to be sent; there is room, as nothing or little waits. */
void agent_put(struct agent_session *agent, enum agent_type type,
	       const void *payload, size_t bytes);
/* This host's time, now. */
struct agent_time agent_time_now(void);

/* Sends what can be sent now. 0 (look at out_end), or -errno, logged. */
int agent_flush(struct agent_session *agent);
/* Sends all of it. 0 or -errno, logged. */
int agent_flush_all(struct agent_session *agent, int timeout_ms);

/* An AGENT_EVENT goes to agent->memory. 0 or -EPROTO, logged. */
int agent_take_event(struct agent_session *agent,
		     const struct agent_message *m);

/*
 * A frame that is here: 1. 0: none is; where READABLE, after what had come was
 * read, which is done once. -EPROTO, logged; -ECONNRESET: the guest is gone.
 */
int agent_take(struct agent_session *agent, bool *readable,
	       struct agent_message *ret);
/* An AGENT_STDIN_MORE: the window is larger. 0 or -EPROTO, logged. */
int agent_take_credit(struct agent_session *agent,
		      const struct agent_message *m);

/* The next frame that is no event. 0 or -errno, logged. */
int agent_await(struct agent_session *agent, int timeout_ms,
		struct agent_message *ret);

/*
 * A request's items and the frame that ends them are to be sent, with what
 * comes next: agent_flush_all(). 0 or -errno, logged.
 */
int agent_put_items(struct agent_session *agent,
		    const struct agent_items *items, enum agent_type type,
		    const char *what);
/* The same, and sends them. */
int agent_send_items(struct agent_session *agent,
		     const struct agent_items *items, enum agent_type type,
		     const char *what);

/* Items of an interface, as CONFIGURE and AGENT_OWN_NETWORK have them. */
void agent_add_exact_link(struct agent_items *items,
			  const struct agent_link *link);

/*
 * Names the container that the next request is about; NULL: the machine's own.
 * 0 or -errno, logged.
 */
int agent_send_target(struct agent_session *agent, const char *container);

/* The answer DONE, or FAILED, which is logged. WHAT is for the log. 0, -errno.
 */
int agent_await_done(struct agent_session *agent, int timeout_ms,
		     const char *what);

/* An AGENT_FAILED, taken apart. 0 or -EPROTO, logged. */
int agent_read_failed(const struct agent_message *m, struct agent_failure *ret);

#endif
