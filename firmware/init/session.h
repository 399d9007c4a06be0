/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One session: the frames of a connection, and the process it may have. Nothing
 * here waits, and nothing is kept beyond one frame each way and one window of
 * standard input.
 */
#ifndef FIRMWARE_INIT_SESSION_H
#define FIRMWARE_INIT_SESSION_H

#include "firmware/agent/agent-wire.h"
#include "firmware/init/process.h"
#include "firmware/init/server.h"

#include <poll.h>
#include <stdbool.h>

enum session_state {
	SESSION_HELLO,    /* nothing has been said */
	SESSION_REQUEST,  /* requests are answered */
	SESSION_STARTING, /* a process is on its way; the host waits */
	SESSION_PROCESS,  /* a process was started */
	SESSION_ENDING,   /* EXIT was sent */
};

/* The entries that session_poll() fills in, in this order. */
enum session_source {
	SESSION_PEER,
	SESSION_IN,
	SESSION_OUT,
	SESSION_ERR,
	SESSION_SOURCES,
};

struct session {
	struct session *next;
	struct server *server; /* borrowed */
	/* The one it is about: it stays as long; borrowed. */
	struct server_container *container;
	int fd; /* -1: the host is gone */
	enum session_state state;
	uint16_t host_minor; /* of its protocol */
	struct agent_reader reader;
	uint8_t *out; /* owned: what waits to be sent */
	size_t out_start, out_end;
	uint8_t *request; /* owned: the items so far */
	size_t nrequest;

	struct process_starting starting; /* or one that is to wait: PREPARE */
	uint64_t start_ms; /* SESSION_STARTING: when patience ends */
	struct init_child child;
	bool with_input;       /* AGENT_START_STDIN */
	uint64_t kills_before; /* server_oom_kills() before it began */
	bool is_main, has_child, exited, oom;
	bool bound; /* its process ends with it: AGENT_START_OWN and _BOUND */
	int wait_status;
	size_t drain[2]; /* what is still read after the end, at most */
	uint8_t *input;  /* owned: standard input not yet taken */
	size_t in_start, in_end;
	size_t window;    /* what the host may still send */
	size_t taken;     /* what it has not been told of */
	bool input_eof;   /* the host sent it */
	bool tell_closed; /* STDIN_CLOSED is to be sent */

	unsigned watch; /* percent; 0: no events */
	bool is_short, told_short, tell_killed;
	struct agent_event memory; /* what events say; its kind is 0 */
};

/* FD is taken over. NULL without memory. */
struct session *session_new(struct server *server, int fd);
void session_free(struct session *s);

/* Fills in what it waits for; true: it need not wait. */
bool session_poll(const struct session *s, struct pollfd pfd[SESSION_SOURCES]);

/* Does what can be done. False: the session is over. */
bool session_pump(struct session *s, const struct pollfd pfd[SESSION_SOURCES]);

/*
 * How it is with memory now (KIND is 0), for a session that watches.
 * OWN_VICTIM: its own process was killed, which EXIT tells.
 */
void session_memory(struct session *s, const struct agent_event *now,
		    bool own_victim);

/* SESSION_STARTING: takes what its process says of itself. */
void session_hear(struct session *s);
/* SESSION_STARTING: and has been for too long. */
bool session_is_late(const struct session *s);

/* The process PID, its own or another one, has ended. */
void session_reaped(struct session *s, pid_t pid, int wait_status, bool oom);

#endif
