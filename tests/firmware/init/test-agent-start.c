/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent while a process starts. Other sessions do not wait for a process
 * that never executes its program; when its session ends, the agent kills it
 * and all it has forked; a signal is kept until the program runs. And for which
 * processes the agent reports that they were killed for lack of memory.
 */
#include "firmware/init/server.h"
#include "tests/agent.h"
#include "tests/patience.h"
#include "tools/agent/agent.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define TIMEOUT_MS 60000
#define SESSIONS   4

/* Shared with the agent's process. */
static struct shared {
	pid_t orphan; /* a process that another one forked for "hang" */
	pid_t known;  /* "known", which is there before it is started */
	bool go;      /* "late" may become its program */
} * shared;

static int known_report; /* in the agent: what "known" says of itself */

static void begin(struct process_starting *ret, int report_fd)
{
	*ret = PROCESS_STARTING_NONE;
	ret->report_fd = report_fd;
}

static void __attribute__((noreturn)) wait_for_ever(void)
{
	for (;;)
		pause();
}

/* As with crun, the process is not the one that was told to start it. */
static void __attribute__((noreturn)) hang(void)
{
	const pid_t between = fork();

	if (between == 0) {
		const pid_t orphan = fork();

		if (orphan == 0)
			wait_for_ever();
		__atomic_store_n(&shared->orphan, orphan, __ATOMIC_SEQ_CST);
	}
	wait_for_ever();
}

static volatile sig_atomic_t got;

static void take(int signal)
{
	got = signal;
}

/*
 * Like the first process of a namespace it takes no signal until it has a
 * handler.
 */
static void __attribute__((noreturn)) be_late(int report_fd)
{
	const struct process_report ready = {.kind = PROCESS_READY};

	signal(SIGTERM, SIG_IGN);
	process_tell(report_fd, &ready, (const int[]){-1, -1});
	if (!wait_until(__atomic_load_n(&shared->go, __ATOMIC_SEQ_CST)))
		_exit(1);
	signal(SIGTERM, take);
	close(report_fd);
	while (!got)
		patience_sleep_ms(1);
	_exit(7);
}

/* Forked before a test asks for it, so that the test knows its number. */
static void make_known(void)
{
	const struct process_report ready = {.kind = PROCESS_READY};
	const int on = 1;
	int report[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, report) < 0 ||
	    setsockopt(report[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0)
		_exit(1);
	pid = fork();
	if (pid == 0) {
		process_tell(report[1], &ready, (const int[]){-1, -1});
		close(report[1]);
		wait_for_ever();
	}
	close(report[1]);
	shared->known = pid;
	known_report = report[0];
}

/* "hang", "late" and "known" are none of the agent's. */
static int start_or_hang(struct container *box, const struct init_start *start,
			 struct process_starting *ret, struct init_failure *f)
{
	const char *name = start->args.list[0];
	const int on = 1;
	int report[2];

	if (strcmp(name, "known") == 0) {
		begin(ret, known_report);
		ret->pid = shared->known;
		return 0;
	}
	if (strcmp(name, "hang") != 0 && strcmp(name, "late") != 0)
		return process_begin(box, start, ret, f);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, report) < 0 ||
	    setsockopt(report[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0)
		return init_fail(f, INIT_STATUS_SETUP, errno, "socket pair");
	begin(ret, report[0]);
	ret->pid = fork();
	if (ret->pid == 0 && strcmp(name, "hang") == 0)
		hang();
	if (ret->pid == 0)
		be_late(report[1]);
	close(report[1]);
	ret->is_main = start->flags & AGENT_START_MAIN;
	if (ret->is_main)
		box->main_pid = ret->pid;
	return 0;
}

static const struct server_actions actions = {
	.configure = agent_no_configure,
	.start = start_or_hang,
	.set_clock = agent_leave_clock,
	.add_entropy = agent_take_entropy,
	.hold = agent_hold_none,
	.rename = agent_rename_none,
	.kill = agent_send_signal,
};

/* An agent in a process of its own, with its sessions' host sides in FD. */
static pid_t start_agent(int fd[SESSIONS], int log_fd, int kills_fd)
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
	/* Orphans come to it, as they do to the first process of a machine. */
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		_exit(1);
	if (log_fd >= 0)
		make_known();
	if (server_init(&server, &actions, -1) < 0)
		_exit(1);
	if (log_fd >= 0) {
		util_close(&server.kmsg_fd);
		server.kmsg_fd = log_fd;
		server.first.box.group.memory_fd = kills_fd;
	}
	for (unsigned i = 0; i < SESSIONS; i++) {
		close(fd[i]);
		server_add(&server, theirs[i]);
	}
	server.first.box.plain = true;
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

static struct agent_session *open_session(int fd)
{
	struct agent_session *agent;

	assert_int_equal(agent_open(fd, TIMEOUT_MS, &agent), 0);
	return agent;
}

/* A process of the host's that waits for "hang" to start. */
static pid_t wait_for_hang(int fd)
{
	const char *const argv[] = {"hang", NULL};
	const struct spec_process hangs = {AGENT_COMMAND(argv)};
	const struct agent_start_options hangs_options = {.main = false};
	struct agent_failure failure;
	pid_t pid;

	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		agent_start(open_session(fd), &hangs, &hangs_options, &failure,
			    NULL);
		_exit(1);
	}
	return pid;
}

static pid_t orphan(void)
{
	return __atomic_load_n(&shared->orphan, __ATOMIC_SEQ_CST);
}

static void test_start_hangs(void **state)
{
	/* It ends with the agent, whose pipe it reads from. */
	const char *const main_argv[] = {"cat", NULL};
	const char *const argv[] = {"sh", "-c", "exit 9", NULL};
	const struct spec_process main_process = {AGENT_COMMAND(main_argv)};
	const struct agent_start_options main_options = {.main = true,
							 .input = true};
	const struct spec_process process = {AGENT_COMMAND(argv)};
	const struct agent_start_options options = {.main = false};
	const struct agent_config config = {.root_tag = "rootfs"};
	const struct agent_relay relay = {
		.in_fd = -1, .out_fd = -1, .err_fd = -1, .gone_fd = -1};
	struct agent_failure failure;
	struct agent_status status;
	struct agent_facts facts;
	struct agent_session *first, *other;
	int fd[SESSIONS];
	pid_t agent, waiting;

	(void)state;
	agent = start_agent(fd, -1, -1);
	first = open_session(fd[0]);
	assert_int_equal(agent_configure(first, &config), 0);
	assert_int_equal(agent_start(first, &main_process, &main_options,
				     &failure, NULL),
			 0);
	waiting = wait_for_hang(fd[1]);
	close(fd[1]);
	await_children(agent, 2);
	assert_true(wait_until(orphan() > 0));
	other = open_session(fd[2]);
	assert_int_equal(agent_get_facts(other, &facts), 0);
	assert_int_equal(facts.processes, 1);
	assert_int_equal(agent_start(other, &process, &options, &failure, NULL),
			 0);
	assert_int_equal(agent_relay(other, &relay, &status), 0);
	assert_int_equal(status.status, 9);
	agent_free(other);
	/* The one that waited goes away, and the process with it. */
	kill(waiting, SIGKILL);
	assert_int_equal(waitpid(waiting, NULL, 0), waiting);
	await_children(agent, 1);
	/* The process that another one forked for it is gone, too. */
	assert_true(wait_until(kill(orphan(), 0) < 0 && errno == ESRCH));
	/* A vsock reports this without POLLHUP. */
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

static const struct agent_relay no_relay = {
	.in_fd = -1, .out_fd = -1, .err_fd = -1, .gone_fd = -1};

/* `bulkhead stop` while the container is being set up. */
static void test_signal_waits_for_program(void **state)
{
	const char *const argv[] = {"late", NULL};
	const struct spec_process process = {AGENT_COMMAND(argv)};
	const struct agent_start_options options = {.main = true};
	const struct agent_config config = {.root_tag = "rootfs"};
	struct agent_failure failure;
	struct agent_status status;
	struct agent_session *first, *other;
	int fd[SESSIONS];
	pid_t agent, host;

	(void)state;
	agent = start_agent(fd, -1, -1);
	host = fork();
	assert_true(host >= 0);
	if (host == 0) {
		first = open_session(fd[0]);
		if (agent_configure(first, &config) < 0 ||
		    agent_start(first, &process, &options, &failure, NULL) <
			    0 ||
		    agent_relay(first, &no_relay, &status) < 0)
			_exit(1);
		agent_free(first);
		_exit(status.status);
	}
	close(fd[0]);
	await_children(agent, 1);
	other = open_session(fd[1]);
	assert_int_equal(agent_signal(other, NULL, SIGTERM), 0);
	__atomic_store_n(&shared->go, true, __ATOMIC_SEQ_CST);
	assert_int_equal(waitpid(host, &host, 0) > 0, 1);
	assert_int_equal(WEXITSTATUS(host), 7);
	agent_free(other);
	kill(agent, SIGKILL);
	assert_int_equal(waitpid(agent, NULL, 0), agent);
}

static void say_killed(int log_fd, pid_t pid)
{
	assert_true(dprintf(log_fd,
			    "6,1,1,-;Out of memory: Killed process %d (known)",
			    (int)pid) > 0);
}

/*
 * The kernel killed a process for lack of memory. A later process with the same
 * number is killed by a signal, which must not count as lack of memory.
 */
static void check_number(bool before)
{
	const char *const main_argv[] = {"cat", NULL};
	const char *const argv[] = {"known", NULL};
	const struct spec_process main_process = {AGENT_COMMAND(main_argv)};
	const struct agent_start_options main_options = {.main = true,
							 .input = true};
	const struct spec_process process = {AGENT_COMMAND(argv)};
	const struct agent_start_options options = {.main = false};
	const struct agent_config config = {.root_tag = "rootfs"};
	autofd int kills = memfd_create("memory.events", MFD_CLOEXEC);
	struct agent_failure failure;
	struct agent_status status;
	struct agent_session *first, *other;
	int fd[SESSIONS], log[2];
	pid_t agent;

	assert_int_equal(pipe2(log, O_CLOEXEC | O_NONBLOCK), 0);
	assert_true(dprintf(kills, "oom 1\noom_kill 1\n") > 0);
	agent = start_agent(fd, log[0], kills);
	first = open_session(fd[0]);
	assert_int_equal(agent_configure(first, &config), 0);
	assert_int_equal(agent_start(first, &main_process, &main_options,
				     &failure, NULL),
			 0);
	if (before)
		say_killed(log[1], shared->known);
	other = open_session(fd[1]);
	assert_int_equal(agent_start(other, &process, &options, &failure, NULL),
			 0);
	if (!before)
		say_killed(log[1], shared->known);
	kill(shared->known, SIGKILL);
	assert_int_equal(agent_relay(other, &no_relay, &status), 0);
	assert_int_equal(status.status, 128 + SIGKILL);
	assert_int_equal(status.oom, !before);
	agent_free(other);
	agent_free(first);
	close(log[0]);
	close(log[1]);
	kill(agent, SIGKILL);
	assert_int_equal(waitpid(agent, NULL, 0), agent);
}

static void test_killed_for_memory(void **state)
{
	(void)state;
	check_number(false);
	check_number(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_start_hangs),
		cmocka_unit_test(test_signal_waits_for_program),
		cmocka_unit_test(test_killed_for_memory),
	};

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 1;

	log_setup(LOG_ERROR, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
