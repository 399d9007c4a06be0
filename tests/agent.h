/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by tests of the agent's protocol: its first words, no clock, and a
 * signal.
 */
#ifndef TESTS_AGENT_H
#define TESTS_AGENT_H

#include "firmware/agent/agent-wire.h"
#include "firmware/init/server.h"

#include "tools/spec/spec.h"
#include "vmm/base/util.h"

#include <endian.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

/* The args of a struct spec_process from an array that ends with NULL. */
#define AGENT_COMMAND(argv)                                                    \
	.args = {(char **)(uintptr_t)(argv), ARRAY_LEN(argv) - 1}

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

/*
 * server_actions.set_clock: leaves the clock of the machine that runs the test.
 */
static inline int agent_leave_clock(const struct agent_time *time,
				    struct init_failure *f)
{
	(void)time;
	(void)f;
	return 0;
}

/*
 * In a process of its own: once something comes from FD, and its parent's input
 * has had the time to fill all buffers, the parent gets SIGTERM.
 */
static inline pid_t agent_signal_later(const int fd[2])
{
	pid_t pid;
	char c;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		close(fd[1]);
		if (read(fd[0], &c, 1) == 1) {
			usleep(300000);
			kill(getppid(), SIGTERM);
		}
		_exit(0);
	}
	return pid;
}

/* server_actions.add_entropy: the machine's random numbers stay its own. */
static inline int agent_take_entropy(const struct agent_entropy *entropy,
				     struct init_failure *f)
{
	(void)entropy;
	(void)f;
	return 0;
}

/* server_actions.hold */
static inline int agent_hold_none(struct container *box, bool held,
				  struct init_failure *f)
{
	(void)box;
	(void)held;
	(void)f;
	return 0;
}

/* server_actions.rename */
static inline int agent_rename_none(struct container *box, const char *hostname,
				    struct init_failure *f)
{
	(void)box;
	(void)hostname;
	(void)f;
	return 0;
}

/* server_actions.configure: nothing of this machine's is changed. */
static inline int agent_no_configure(const struct init_config *config,
				     struct init_failure *f)
{
	(void)config;
	(void)f;
	return 0;
}

/* server_actions.kill */
static inline void agent_send_signal(pid_t pid, int number)
{
	kill(pid, number);
}

#endif
