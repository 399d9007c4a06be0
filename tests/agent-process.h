/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An agent in a process of its own, without namespaces, and sessions with it: a
 * fixture of cmocka's.
 */
#ifndef TESTS_AGENT_PROCESS_H
#define TESTS_AGENT_PROCESS_H

#include "tests/agent.h"
#include "tests/patience.h"
#include "tools/agent/agent.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define SESSIONS 8

struct fixture {
	pid_t server;               /* 0: its end was waited for */
	int fd[SESSIONS];           /* the host's ends; -1: taken */
	struct agent_session *main; /* the first one */
};

/* The next session that is free. */
static inline struct agent_session *session(struct fixture *f)
{
	struct agent_session *agent;
	unsigned i = 0;

	while (f->fd[i] < 0)
		i++;
	assert_int_equal(agent_open(f->fd[i], PATIENCE_MS, &agent), 0);
	f->fd[i] = -1;
	return agent;
}

static inline void __attribute__((noreturn))
fixture_serve(const struct server_actions *actions, const int fd[SESSIONS])
{
	struct server server;

	alarm(PATIENCE_MS / 1000);
	if (server_init(&server, actions, -1) < 0)
		_exit(1);
	for (unsigned i = 0; i < SESSIONS; i++) {
		if (server_add(&server, fd[i]) < 0)
			_exit(1);
	}
	server.first.box.plain = true;
	if (server_run(&server) < 0)
		_exit(2);
	server_done(&server);
	_exit(0);
}

static inline struct fixture *fixture_new(const struct server_actions *actions)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int theirs[SESSIONS];

	assert_non_null(f);
	for (unsigned i = 0; i < SESSIONS; i++) {
		int pair[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC,
					    0, pair),
				 0);
		f->fd[i] = pair[0];
		theirs[i] = pair[1];
	}
	fflush(NULL);
	f->server = fork();
	assert_true(f->server >= 0);
	if (f->server == 0) {
		for (unsigned i = 0; i < SESSIONS; i++)
			close(f->fd[i]);
		fixture_serve(actions, theirs);
	}
	for (unsigned i = 0; i < SESSIONS; i++)
		close(theirs[i]);
	f->main = session(f);
	return f;
}

/* Ends the sessions; SIGNAL, unless 0, the agent. Its status of wait(2). */
static inline int fixture_free(struct fixture *f, int signal)
{
	int status = 0;

	agent_free(f->main);
	for (unsigned i = 0; i < SESSIONS; i++)
		util_close(&f->fd[i]);
	if (f->server && signal)
		kill(f->server, signal);
	if (f->server)
		assert_int_equal(waitpid(f->server, &status, 0), f->server);
	free(f);
	return status;
}

#endif
