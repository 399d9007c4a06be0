/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between session.c, the requests of a connection, session-process.c, its
 * process, and session-frames.c, below both.
 */
#ifndef FIRMWARE_INIT_SESSION_PARTS_H
#define FIRMWARE_INIT_SESSION_PARTS_H

#include "firmware/init/session.h"
#include "vmm/base/util.h"

#define SESSION_HEADER (sizeof(struct agent_frame))
/* One frame of data, and a short one before or behind it. */
#define SESSION_OUT_ROOM (2 * SESSION_HEADER + AGENT_PAYLOAD_MAX + 2048)
/* How much a pipe may hold when its writer ends (F_SETPIPE_SZ). */
#define SESSION_DRAIN_MAX (1024 * KIB)

/* ---- session-frames.c */

/*
 * The caller has made sure that nothing waits to be sent (or one short frame).
 */
void session_put_failed(struct session *s, const struct init_failure *f);
void session_put(struct session *s, enum agent_type type, const void *payload,
		 size_t bytes);
/* Sends what the host takes now. False: it is gone, see session_send(). */
bool session_flush(struct session *s);

/* The number of a signal; false: it is none. */
bool session_read_signal(const struct agent_message *m, int *ret);

/* ---- session-process.c */

/*
 * The host's end of the session is gone. A process that has a terminal is hung
 * up; another one goes on without input, its output is thrown away.
 */
void session_peer_gone(struct session *s);
/*
 * Whether its process waits for another host (AGENT_HOLD): nothing is read from
 * it, so that its output is there for that one.
 */
bool session_is_kept(const struct session *s);
/* session_flush(), and session_peer_gone() where that says so. */
void session_send(struct session *s);

/* Begins to start the process. 0, or -1 with the failure filled in. */
int session_begin(struct session *s, const struct init_start *start,
		  struct init_failure *f);
/* The same for the one that is to wait: SESSION_STARTING until it does. */
int session_prepare(struct session *s, struct init_failure *f);
/* SESSION_STARTING: the start has failed; ends what was started. */
void session_abandon(struct session *s);

/* Its process has, and all that has to end with it. */
bool session_has_ended(const struct session *s);
bool session_has_terminal(const struct session *s);
void session_close_input(struct session *s);
void session_close_output(struct session *s, unsigned stream);
void session_close_slave(struct session *s);

/*
 * Handles a frame for a session whose process runs. False: the frame is not
 * allowed in this state.
 */
bool session_take_process(struct session *s, const struct agent_message *m);

/* Moves what can be moved. BROKEN: nobody reads its standard input. */
void session_write_input(struct session *s, bool broken);
void session_send_output(struct session *s);

bool session_has_event(const struct session *s);
/* One event, where nothing waits to be sent. True: a frame was put. */
bool session_tell_event(struct session *s);

#endif
