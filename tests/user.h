/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plays the user at the other side of the guest's console: pipes, a
 * pseudo-terminal or any two descriptors, a terminal on top of them, and a loop
 * on a thread of its own. For tests of the terminal and of what uses it.
 */
#ifndef TESTS_USER_H
#define TESTS_USER_H

#include "devices/host/terminal.h"
#include "tests/patience.h"
#include "vmm/base/loop.h"
#include "vmm/base/stop.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct user {
	struct loop loop;
	struct stop stop;
	struct terminal t;
	int in_fd, out_fd;  /* the monitor's; -1: closed */
	int types, watches; /* the user's ends of them */
};

static inline void user_must(bool condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "user: %s: %s\n", what, strerror(errno));
	abort();
}

/* On the four descriptors, of which it becomes the owner. */
static inline struct user *user_new(int in_fd, int types, int out_fd,
				    int watches)
{
	struct user *u = calloc(1, sizeof(*u));

	user_must(u != NULL, "calloc");
	signal(SIGPIPE, SIG_IGN);
	u->in_fd = in_fd;
	u->out_fd = out_fd;
	u->types = types;
	u->watches = watches;
	user_must(loop_init(&u->loop) == 0, "loop");
	stop_init(&u->stop, &u->loop);
	user_must(terminal_init_fds(&u->t, &u->loop, &u->stop, in_fd, out_fd) ==
			  0,
		  "terminal");
	return u;
}

static inline struct user *user_with_pipes(void)
{
	int in[2], out[2];

	user_must(pipe2(in, O_CLOEXEC) == 0, "pipe");
	user_must(pipe2(out, O_CLOEXEC) == 0, "pipe");
	return user_new(in[0], in[1], out[1], out[0]);
}

/* The monitor has the slave, the user the master. 100 columns, 30 rows. */
static inline struct user *user_with_pty(void)
{
	const struct winsize size = {.ws_col = 100, .ws_row = 30};
	int master, slave;

	user_must(openpty(&master, &slave, NULL, NULL, &size) == 0, "openpty");
	return user_new(slave, master, dup(slave), dup(master));
}

/* The VM starts. */
static inline void user_run(struct user *u)
{
	user_must(terminal_start(&u->t) == 0, "terminal_start");
	user_must(loop_start_thread(&u->loop, "user") == 0, "thread");
}

static inline void user_stop_loop(struct user *u)
{
	if (!u->loop.has_thread)
		return;
	loop_stop(&u->loop);
	pthread_join(u->loop.thread, NULL);
	u->loop.has_thread = false;
}

static inline void user_free(struct user *u)
{
	user_stop_loop(u);
	terminal_done(&u->t);
	loop_done(&u->loop);
	util_close(&u->in_fd);
	util_close(&u->out_fd);
	util_close(&u->types);
	util_close(&u->watches);
	free(u);
}

static inline void user_types(struct user *u, const void *data, size_t bytes)
{
	user_must(write(u->types, data, bytes) == (ssize_t)bytes, "write");
}

/* Reads until BYTES are there, the end, or PATIENCE_MS without any. How many.
 */
static inline size_t user_reads(struct user *u, void *buf, size_t bytes)
{
	size_t done = 0;

	while (done < bytes) {
		struct pollfd pfd = {.fd = u->watches, .events = POLLIN};
		ssize_t n = poll(&pfd, 1, PATIENCE_MS) == 1
				    ? read(u->watches, (uint8_t *)buf + done,
					   bytes - done)
				    : 0;

		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return done;
}

/* True when the user sees exactly TEXT next. */
static inline bool user_sees(struct user *u, const char *text)
{
	char buf[256] = {0};
	size_t bytes = strlen(text);

	return user_reads(u, buf, bytes) == bytes &&
	       memcmp(buf, text, bytes) == 0;
}

/* True when nothing is to be seen for a while. */
static inline bool user_sees_nothing(struct user *u)
{
	struct pollfd pfd = {.fd = u->watches, .events = POLLIN};

	return poll(&pfd, 1, QUIET_MS) == 0;
}

/*
 * Does what the loop would do now, on this thread: for fuzzers, whose runs have
 * to be the same each time. In place of user_run().
 */
static inline void user_poll(struct user *u)
{
	struct loop_source *source[] = {&u->t.wake, &u->t.input, &u->t.output};

	for (unsigned i = 0; i < 3; i++) {
		struct pollfd pfd = {.fd = source[i]->fd,
				     .events = i < 2 ? POLLIN : POLLOUT};

		if (source[i]->added && poll(&pfd, 1, 0) == 1)
			source[i]->fn(source[i], (uint32_t)pfd.revents);
	}
}

/* The driver has been up for long enough to get input. With user_poll(). */
static inline void user_settle(struct user *u)
{
	u->t.held = false;
	(void)loop_timer_set(&u->t.settle, 0);
	terminal_resume_input(&u->t);
}

/* Reads what is there, at most BYTES. How many. */
static inline size_t user_reads_now(struct user *u, size_t bytes)
{
	struct pollfd pfd = {.fd = u->watches, .events = POLLIN};
	uint8_t buf[4096];
	ssize_t n = 0;

	if (bytes > sizeof(buf))
		bytes = sizeof(buf);
	if (bytes > 0 && poll(&pfd, 1, 0) == 1)
		n = read(u->watches, buf, bytes);
	return n > 0 ? (size_t)n : 0;
}

/* The user's pipe may be full: then nothing is typed. */
static inline void user_types_now(struct user *u, const void *data,
				  size_t bytes)
{
	struct pollfd pfd = {.fd = u->types, .events = POLLOUT};

	if (poll(&pfd, 1, 0) == 1)
		(void)!write(u->types, data, bytes);
}

#endif
