/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent while a process starts that never gets as far as its program:
 * nobody else waits for it, and it is ended when nobody does.
 */
#include "firmware/init/server.h"
#include "tests/agent.h"
#include "tools/agent.h"
#include "vmm/log.h"
#include "vmm/util.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#define TIMEOUT_MS 60000
#define SESSIONS   4

/* "hang" is the one. */
static int start_or_hang(struct container *box, const struct init_start *start,
			 struct process_starting *ret, struct init_failure *f)
{
	int report[2];

	if (strcmp(start->args.list[0], "hang") != 0)
		return process_begin(box, start, ret, f);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, report) < 0)
		return init_fail(f, INIT_STATUS_SETUP, errno, "socket pair");
	*ret = PROCESS_STARTING_NONE;
	ret->report_fd = report[0];
	ret->pid = fork();
	if (ret->pid == 0) {
		for (;;)
			pause();
	}
	close(report[1]);
	return 0;
}

static int no_configure(const struct init_config *config,
			struct init_failure *f)
{
	(void)config;
	(void)f;
	return 0;
}

static void send_signal(pid_t pid, int number)
{
	kill(pid, number);
}

static const struct server_actions actions = {
	.configure = no_configure,
	.start = start_or_hang,
	.set_clock = agent_leave_clock,
	.kill = send_signal,
};

/* An agent in a process of its own, with its sessions' host sides in FD. */
static pid_t start_agent(int fd[SESSIONS])
{
	int theirs[SESSIONS];
	struct server server;
	pid_t pid;

	for (unsigned i = 0; i < SESSIONS; i++) {
		int pair[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC,
					    0, pair),
				 0);
		fd[i] = pair[0];
		theirs[i] = pair[1];
	}
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid > 0) {
		for (unsigned i = 0; i < SESSIONS; i++)
			close(theirs[i]);
		return pid;
	}
	if (server_init(&server, &actions, -1) < 0)
		_exit(1);
	for (unsigned i = 0; i < SESSIONS; i++) {
		close(fd[i]);
		server_add(&server, theirs[i]);
	}
	server.box.plain = true;
	_exit(server_run(&server) < 0);
}

/* Until the process has so many children. */
static void await_children(pid_t parent, unsigned wanted)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	unsigned n;

	do {
		char path[64];
		FILE *file;
		int pid;

		nanosleep(&pause, NULL);
		snprintf(path, sizeof(path), "/proc/%d/task/%d/children",
			 (int)parent, (int)parent);
		file = fopen(path, "re");
		assert_non_null(file);
		for (n = 0; fscanf(file, "%d", &pid) == 1; n++)
			;
		fclose(file);
	} while (n != wanted);
}

static struct agent *open_session(int fd)
{
	struct agent *agent;

	assert_int_equal(agent_open(fd, TIMEOUT_MS, &agent), 0);
	return agent;
}

/* A process of the host's that waits for "hang" to start. */
static pid_t wait_for_hang(int fd)
{
	const char *const argv[] = {"hang", NULL};
	const struct agent_process hangs = {.argv = argv};
	struct agent_failure failure;
	pid_t pid;

	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		agent_start(open_session(fd), &hangs, &failure, NULL);
		_exit(1);
	}
	return pid;
}

static void test_start_hangs(void **state)
{
	/* It ends with the agent, whose pipe it reads from. */
	const char *const main_argv[] = {"cat", NULL};
	const char *const argv[] = {"sh", "-c", "exit 9", NULL};
	const struct agent_process main_process = {
		.main = true, .input = true, .argv = main_argv};
	const struct agent_process process = {.argv = argv};
	const struct agent_config config = {.root_tag = "rootfs"};
	const struct agent_relay relay = {
		.in_fd = -1, .out_fd = -1, .err_fd = -1, .gone_fd = -1};
	struct agent_failure failure;
	struct agent_status status;
	struct agent_facts facts;
	struct agent *first, *other;
	int fd[SESSIONS];
	pid_t agent, waiting;

	(void)state;
	agent = start_agent(fd);
	first = open_session(fd[0]);
	assert_int_equal(agent_configure(first, &config), 0);
	assert_int_equal(agent_start(first, &main_process, &failure, NULL), 0);
	waiting = wait_for_hang(fd[1]);
	close(fd[1]);
	await_children(agent, 2);
	other = open_session(fd[2]);
	assert_int_equal(agent_get_facts(other, &facts), 0);
	assert_int_equal(facts.processes, 1);
	assert_int_equal(agent_start(other, &process, &failure, NULL), 0);
	assert_int_equal(agent_relay(other, &relay, &status), 0);
	assert_int_equal(status.status, 9);
	agent_free(other);
	/* The one that waited goes away, and the process with it. */
	kill(waiting, SIGKILL);
	assert_int_equal(waitpid(waiting, NULL, 0), waiting);
	await_children(agent, 1);
	/* By what a vsock tells of that: it gives no POLLHUP. */
	waiting = wait_for_hang(fd[3]);
	await_children(agent, 2);
	assert_int_equal(shutdown(fd[3], SHUT_WR), 0);
	await_children(agent, 1);
	close(fd[3]);
	kill(waiting, SIGKILL);
	assert_int_equal(waitpid(waiting, NULL, 0), waiting);
	agent_free(first);
	kill(agent, SIGKILL);
	assert_int_equal(waitpid(agent, NULL, 0), agent);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_start_hangs),
	};

	log_setup(LOG_ERROR, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
