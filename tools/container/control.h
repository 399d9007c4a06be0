/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A running machine is paused, and goes on, at the word of another program: two
 * named pipes in a directory that only this user can enter, for requests and
 * for answers. Pipes need no call that the monitor's sandbox forbids.
 */
#ifndef TOOLS_CONTAINER_CONTROL_H
#define TOOLS_CONTAINER_CONTROL_H

#include <pthread.h>
#include <stdbool.h>

struct vm;

#define CONTROL_REQUEST_FILE "control"
#define CONTROL_ANSWER_FILE  "control-answer"

enum control_what { CONTROL_PAUSE = 1, CONTROL_RESUME = 2 };

/* ---- the monitor's side */

struct control {
	int request_fd, answer_fd; /* owned */
	int stop_fd;               /* owned: an eventfd */
	int plug_fd;   /* owned: requests of plug.h come there; -1: none do */
	struct vm *vm; /* borrowed */
	pthread_t thread;
	bool has_thread;
};

#define CONTROL_NONE                                                           \
	((struct control){.request_fd = -1,                                    \
			  .answer_fd = -1,                                     \
			  .stop_fd = -1,                                       \
			  .plug_fd = -1})

/*
 * Makes the pipes in DIR (NULL: there are none), or takes those that are there.
 * PLUG_FD, or -1, is taken, also on failure. 0 or -errno, logged;
 * control_done() accepts what a failed one left.
 */
int control_open(struct control *control, const char *dir, int plug_fd);
/*
 * Starts a thread that does to VM, which runs, what it is asked for: after
 * vm_start(), so that the sandbox is around it. 0 or -errno, logged.
 */
int control_start(struct control *control, struct vm *vm);
/* Ends the thread. Before vm_free(). */
void control_done(struct control *control);

/* ---- the other program's */

/*
 * Asks the monitor whose directory is DIR, and waits for its answer: 0, or
 * -EALREADY, the machine is in that state. -ECONNRESET: GONE_FD, a descriptor
 * that is readable when the machine has ended, says so. -ETIME: there was no
 * answer; the request was taken back, or a machine that pauses after all goes
 * on at once. Logs other errors alone.
 */
int control_ask(const char *dir, enum control_what what, int gone_fd,
		int timeout_ms);

#endif
