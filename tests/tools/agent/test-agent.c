/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent and the host's side of it against each other, over a Unix socket:
 * processes run here, without namespaces and mounts. Then the agent against a
 * host that lies.
 */
#include "firmware/init/server.h"
#include "tests/agent.h"
#include "tests/patience.h"
#include "tests/tempdir.h"
#include "tools/agent/agent-parts.h"
#include "tools/spec/spec.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>

#include <cmocka.h>

/* ---- an agent in a process of its own */

static int no_configure(const struct init_config *config,
			struct init_failure *f)
{
	if (config->hostname && strcmp(config->hostname, "refused") == 0)
		return init_fail(f, INIT_STATUS_SETUP, EPERM, "hostname");
	return 0;
}

/* Memory that the agent's process shares with the test. */
static struct agent_entropy *taken;

static int take_entropy(const struct agent_entropy *entropy,
			struct init_failure *f)
{
	(void)f;
	*taken = *entropy;
	return 0;
}

static const struct server_actions plain_actions = {
	.configure = no_configure,
	.start = process_begin,
	.set_clock = agent_leave_clock,
	.add_entropy = take_entropy,
	.hold = agent_hold_none,
	.rename = agent_rename_none,
	.kill = agent_send_signal,
};

struct fixture {
	pid_t server;
	int listen_fd; /* for the sessions after the first one */
	char path[TEMPDIR_ROOM + 2];
	struct agent_session *agent;
};

static void run_server(int fd, int listen_fd)
{
	struct server server;

	alarm(PATIENCE_MS / 1000);
	if (server_init(&server, &plain_actions, listen_fd) < 0 ||
	    server_add(&server, fd) < 0)
		_exit(1);
	server.first.box.plain = true;
	if (server_run(&server) < 0)
		_exit(2);
	server_done(&server);
	_exit(0);
}

/* PATH is the vsock device's; its listener is the agent itself here. */
static int listen_like_device(char *path, size_t bytes)
{
	char dir[TEMPDIR_ROOM];
	char listening[80];
	int fd;

	tempdir_name(dir);
	assert_non_null(mkdtemp(dir));
	snprintf(path, bytes, "%s/v", dir);
	assert_int_equal(agent_listen(path, &fd), 0);
	snprintf(listening, sizeof(listening), "%s_1024", path);
	/* The "device" has no CONNECT: sessions are opened on connections. */
	assert_int_equal(rename(listening, path), 0);
	return fd;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int fd[2];

	assert_non_null(f);
	f->listen_fd = listen_like_device(f->path, sizeof(f->path));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd),
			 0);
	fflush(NULL);
	f->server = fork();
	assert_true(f->server >= 0);
	if (f->server == 0) {
		close(fd[0]);
		run_server(fd[1], f->listen_fd);
	}
	close(fd[1]);
	assert_int_equal(agent_open(fd[0], PATIENCE_MS, &f->agent), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int status;

	agent_free(f->agent);
	/* Tests without a main process leave it waiting for the next host. */
	kill(f->server, SIGKILL);
	assert_int_equal(waitpid(f->server, &status, 0), f->server);
	close(f->listen_fd);
	unlink(f->path);
	*strrchr(f->path, '/') = 0;
	rmdir(f->path);
	free(f);
	return 0;
}

static int connect_to(const struct fixture *f)
{
	struct sockaddr_un {
		sa_family_t family;
		char path[108];
	} address = {.family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.path, sizeof(address.path), "%s", f->path);
	assert_int_equal(
		connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static struct agent_session *another(const struct fixture *f)
{
	struct agent_session *agent;

	assert_int_equal(agent_open(connect_to(f), PATIENCE_MS, &agent), 0);
	return agent;
}

/* ---- what a process said */

struct capture {
	char text[2][4096];
	size_t n[2], total[2];
};

static int capture(void *arg, int stream, const void *data, size_t bytes)
{
	struct capture *c = arg;
	size_t *n = &c->n[stream - 1];
	const size_t room = sizeof(c->text[0]) - 1 - *n;

	c->total[stream - 1] += bytes;
	memcpy(c->text[stream - 1] + *n, data, bytes < room ? bytes : room);
	*n += bytes < room ? bytes : room;
	return 0;
}

static void configure(struct fixture *f)
{
	const struct agent_config config = {.root_tag = "rootfs"};

	assert_int_equal(agent_configure(f->agent, &config), 0);
}

static struct agent_status run_in(struct agent_session *agent,
				  const struct spec_process *process,
				  const struct agent_start_options *options,
				  struct agent_relay *relay, struct capture *c)
{
	struct agent_failure failure;
	struct agent_status status;

	memset(c, 0, sizeof(*c));
	relay->output = capture;
	relay->arg = c;
	relay->gone_fd = -1;
	assert_int_equal(agent_start(agent, process, options, &failure, NULL),
			 0);
	assert_int_equal(agent_relay(agent, relay, &status), 0);
	return status;
}

#define NO_FDS ((struct agent_relay){.in_fd = -1, .out_fd = -1, .err_fd = -1})

static struct agent_status run_shell(struct fixture *f, const char *script,
				     struct capture *c)
{
	const char *const argv[] = {"sh", "-c", script, NULL};
	const struct spec_process process = {AGENT_COMMAND(argv)};
	const struct agent_start_options options = {.main = true};
	struct agent_relay relay = NO_FDS;

	configure(f);
	return run_in(f->agent, &process, &options, &relay, c);
}

/* The agent ends by itself after its main process. */
static void expect_end(struct fixture *f)
{
	siginfo_t info = {0};

	agent_free(f->agent);
	f->agent = NULL;
	assert_int_equal(
		waitid(P_PID, (id_t)f->server, &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(info.si_code, CLD_EXITED);
	assert_int_equal(info.si_status, 0);
}

/* ---- tests */

static void test_output_and_status(void **state)
{
	struct capture c;
	struct agent_status s;

	s = run_shell(*state, "echo out; echo err >&2; exit 42", &c);
	assert_int_equal(s.status, 42);
	assert_int_equal(s.signal, 0);
	assert_string_equal(c.text[0], "out\n");
	assert_string_equal(c.text[1], "err\n");
	expect_end(*state);
}

static void test_killed_by_signal(void **state)
{
	struct capture c;
	struct agent_status s = run_shell(*state, "kill -KILL $$", &c);

	assert_int_equal(s.status, 128 + SIGKILL);
	assert_int_equal(s.signal, SIGKILL);
	expect_end(*state);
}

/* All that was written before the end arrives, more than any buffer holds. */
static void test_much_output(void **state)
{
	struct capture c;
	struct agent_status s = run_shell(
		*state,
		"head -c 3000000 /dev/zero; head -c 70000 /dev/zero >&2", &c);

	assert_int_equal(s.status, 0);
	assert_int_equal(c.total[0], 3000000);
	assert_int_equal(c.total[1], 70000);
}

/* A grandchild that holds the pipe open does not hold up the end. */
static void test_background_process(void **state)
{
	struct capture c;
	struct agent_status s = run_shell(*state, "sleep 900 & echo $!", &c);

	assert_int_equal(s.status, 0);
	/* It still runs: its end was not waited for. */
	assert_int_equal(kill(atoi(c.text[0]), SIGKILL), 0);
}

static void test_input(void **state)
{
	struct fixture *f = *state;
	const char *const argv[] = {"sh", "-c", "wc -c; echo end", NULL};
	const struct spec_process process = {AGENT_COMMAND(argv)};
	const struct agent_start_options options = {.main = true,
						    .input = true};
	struct agent_relay relay = NO_FDS;
	struct agent_status s;
	struct capture c;
	FILE *file = tempdir_file();

	configure(f);
	assert_non_null(file);
	assert_int_equal(ftruncate(fileno(file), 1000000), 0);
	relay.in_fd = fileno(file);
	s = run_in(f->agent, &process, &options, &relay, &c);
	fclose(file);
	assert_int_equal(s.status, 0);
	assert_string_equal(c.text[0], "1000000\nend\n");
}

static void test_umask_and_oom(void **state)
{
	struct fixture *f = *state;
	const char *const argv[] = {
		"sh", "-c", "umask; cat /proc/self/oom_score_adj", NULL};
	const struct spec_process process = {
		AGENT_COMMAND(argv), .user = {.has_umask = true, .umask = 07},
		.has_oom_score_adj = true, .oom_score_adj = 900};
	const struct agent_start_options options = {.main = true};
	struct agent_relay relay = NO_FDS;
	struct capture c;

	configure(f);
	assert_int_equal(
		run_in(f->agent, &process, &options, &relay, &c).status, 0);
	assert_string_equal(c.text[0], "0007\n900\n");
}

static const struct sock_filter no_mkdir[] = {
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mkdir, 0, 1),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSPC),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

static void test_filter(void **state)
{
	struct fixture *f = *state;
	const char *const argv[] = {"sh", "-c",
				    "mkdir /nonexistent/x 2>&1; "
				    "grep Seccomp: /proc/self/status",
				    NULL};
	const struct spec_filter filter = {
		(struct sock_filter *)(uintptr_t)no_mkdir, ARRAY_LEN(no_mkdir),
		0};
	const struct spec_process process = {AGENT_COMMAND(argv),
					     .no_new_privileges = true};
	const struct agent_start_options options = {.main = true,
						    .filter = &filter};
	struct agent_relay relay = NO_FDS;
	struct capture c;

	configure(f);
	assert_int_equal(
		run_in(f->agent, &process, &options, &relay, &c).status, 0);
	assert_non_null(strstr(c.text[0], "No space left"));
	assert_non_null(strstr(c.text[0], "Seccomp:\t2\n"));
}

/* Linux looks at the program: this one does not end. */
static void test_filter_refused(void **state)
{
	struct fixture *f = *state;
	const char *const argv[] = {"true", NULL};
	const struct spec_filter filter = {
		(struct sock_filter *)(uintptr_t)no_mkdir, 1, 0};
	const struct spec_process process = {AGENT_COMMAND(argv),
					     .no_new_privileges = true};
	const struct agent_start_options options = {.main = true,
						    .filter = &filter};
	struct agent_failure failure;

	configure(f);
	assert_int_equal(
		agent_start(f->agent, &process, &options, &failure, NULL),
		-EREMOTEIO);
	assert_int_equal(failure.status, 125);
	assert_int_equal(failure.error, EINVAL);
	assert_non_null(strstr(failure.text, "filter system calls"));
}

/* Input that nobody reads: a signal still gets through. */
static void test_signal_past_input(void **state)
{
	struct fixture *f = *state;
	const char *const argv[] = {"sh", "-c",
				    "trap 'exit 7' TERM; echo up; "
				    "while :; do sleep 0.05; done",
				    NULL};
	const struct spec_process process = {AGENT_COMMAND(argv)};
	const struct agent_start_options options = {.main = true,
						    .input = true};
	struct agent_relay relay = NO_FDS;
	struct agent_failure failure;
	struct agent_status s;
	int up[2];
	pid_t pid;

	configure(f);
	assert_int_equal(pipe2(up, O_CLOEXEC), 0);
	pid = agent_signal_later(up);
	relay.in_fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	relay.out_fd = up[1];
	relay.gone_fd = -1;
	relay.forward_signals = true;
	assert_int_equal(
		agent_start(f->agent, &process, &options, &failure, NULL), 0);
	assert_int_equal(agent_relay(f->agent, &relay, &s), 0);
	close(relay.in_fd);
	close(up[0]);
	close(up[1]);
	waitpid(pid, NULL, 0);
	assert_int_equal(s.status, 7);
}

/* From the process itself, which knows when it can take it. */
static void test_every_signal(void **state)
{
	static const int signals[] = {SIGABRT};
	struct fixture *f = *state;
	const sigset_t set = util_signals(signals, ARRAY_LEN(signals));
	char self[16];
	const char *const argv[] = {"sh", "-c",
				    "trap 'exit 7' ABRT; kill -s ABRT $0; "
				    "while :; do sleep 0.05; done",
				    self, NULL};
	const struct spec_process process = {AGENT_COMMAND(argv)};
	const struct agent_start_options options = {.main = true};
	struct agent_relay relay = NO_FDS;
	struct agent_status s;
	struct capture c;
	sigset_t before;

	snprintf(self, sizeof(self), "%d", (int)getpid());
	/* It may come before the relay waits for it. */
	sigprocmask(SIG_BLOCK, &set, &before);
	configure(f);
	relay.every_signal = true;
	s = run_in(f->agent, &process, &options, &relay, &c);
	sigprocmask(SIG_SETMASK, &before, NULL);
	assert_int_equal(s.status, 7);
}

/* A reader that goes away: its writer hears of it, as on the host. */
static void test_closed_output(void **state)
{
	struct fixture *f = *state;
	const char *const argv[] = {"sh", "-c", "exec yes", NULL};
	const struct spec_process process = {AGENT_COMMAND(argv)};
	const struct agent_start_options options = {.main = true};
	struct agent_relay relay = NO_FDS;
	struct agent_status s;
	struct capture c;
	int fd[2];

	configure(f);
	assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
	close(fd[0]);
	relay.out_fd = fd[1];
	s = run_in(f->agent, &process, &options, &relay, &c);
	close(fd[1]);
	assert_int_equal(s.signal, SIGPIPE);
}

static void test_closed_input(void **state)
{
	struct fixture *f = *state;
	const char *const argv[] = {"sh", "-c", "exec <&-; sleep 0.3; exit 3",
				    NULL};
	const struct spec_process process = {AGENT_COMMAND(argv)};
	const struct agent_start_options options = {.main = true,
						    .input = true};
	struct agent_relay relay = NO_FDS;
	struct agent_status s;
	struct capture c;

	configure(f);
	relay.in_fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	s = run_in(f->agent, &process, &options, &relay, &c);
	close(relay.in_fd);
	assert_int_equal(s.status, 3);
}

static void test_terminal(void **state)
{
	struct fixture *f = *state;
	const char *const argv[] = {
		"sh", "-c", "test -t 0 && stty size; echo $TERM; exit 5", NULL};
	const struct spec_process process = {
		AGENT_COMMAND(argv), .terminal = true, .console_height = 33,
		.console_width = 99};
	const struct agent_start_options options = {.main = true,
						    .input = true};
	struct agent_relay relay = NO_FDS;
	struct agent_status s;
	struct capture c;
	int in[2];

	configure(f);
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	relay.in_fd = in[0];
	s = run_in(f->agent, &process, &options, &relay, &c);
	close(in[0]);
	close(in[1]);
	assert_int_equal(s.status, 5);
	assert_string_equal(c.text[0], "33 99\r\nxterm\r\n");
}

static void expect_failure(struct fixture *f, const char *program, int status)
{
	const char *const argv[] = {program, NULL};
	const struct spec_process process = {AGENT_COMMAND(argv)};
	const struct agent_start_options options = {.main = true};
	struct agent_failure failure;

	configure(f);
	assert_int_equal(
		agent_start(f->agent, &process, &options, &failure, NULL),
		-EREMOTEIO);
	assert_int_equal(failure.status, status);
	assert_non_null(strstr(failure.text, program));
	expect_end(f);
}

static void test_not_found(void **state)
{
	expect_failure(*state, "no-such-program-here", 127);
}

static void test_no_such_path(void **state)
{
	expect_failure(*state, "/no/such/program", 127);
}

static void test_not_executable(void **state)
{
	expect_failure(*state, "/etc/passwd", 126);
}

static void test_directory(void **state)
{
	expect_failure(*state, "/etc", 126);
}

static void test_exec_beside_main(void **state)
{
	struct fixture *f = *state;
	const char *const main_argv[] = {"sleep", "60", NULL};
	const char *const argv[] = {"sh", "-c", "cat; exit 9", NULL};
	const struct spec_process main_process = {AGENT_COMMAND(main_argv)};
	const struct agent_start_options main_options = {.main = true};
	const struct spec_process process = {AGENT_COMMAND(argv)};
	const struct agent_start_options options = {.input = true};
	struct agent_relay relay = NO_FDS;
	struct agent_failure failure;
	struct agent_facts facts;
	struct agent_status s;
	struct agent_session *second;
	struct capture c;
	int in[2];

	configure(f);
	assert_int_equal(agent_start(f->agent, &main_process, &main_options,
				     &failure, NULL),
			 0);
	second = another(f);
	assert_int_equal(agent_get_facts(second, &facts), 0);
	assert_true(facts.running);
	assert_true(facts.memory_total > 0);
	assert_int_equal(facts.processes, 1);
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(write(in[1], "hello", 5), 5);
	close(in[1]);
	relay.in_fd = in[0];
	s = run_in(second, &process, &options, &relay, &c);
	close(in[0]);
	agent_free(second);
	assert_int_equal(s.status, 9);
	assert_string_equal(c.text[0], "hello");

	second = another(f);
	assert_int_equal(agent_shutdown(second, SIGTERM, 10000), 0);
	agent_free(second);
	relay = NO_FDS;
	relay.gone_fd = -1;
	assert_int_equal(agent_relay(f->agent, &relay, &s), 0);
	assert_int_equal(s.signal, SIGTERM);
	expect_end(f);
}

/* The host's side of one is killed: its process ends, another's goes on. */
static void test_bound(void **state)
{
	struct fixture *f = *state;
	const char *const argv[] = {"sleep", "60", NULL};
	const struct spec_process process = {AGENT_COMMAND(argv)};
	const struct agent_start_options main_options = {.main = true};
	struct agent_failure failure;
	struct agent_session *second[2];
	int pid[2];

	configure(f);
	assert_int_equal(
		agent_start(f->agent, &process, &main_options, &failure, NULL),
		0);
	for (int i = 0; i < 2; i++) {
		const struct agent_start_options options = {.bound = i == 1};

		second[i] = another(f);
		assert_int_equal(agent_start(second[i], &process, &options,
					     &failure, &pid[i]),
				 0);
	}
	agent_free(second[0]);
	agent_free(second[1]);
	assert_true(wait_until(kill(pid[1], 0) < 0));
	assert_int_equal(kill(pid[0], SIGKILL), 0);
}

/* SIGTERM is ignored: patience ends. */
static void test_shutdown_kills(void **state)
{
	struct fixture *f = *state;
	struct tempdir up;
	const char *const argv[] = {
		"sh", "-c",
		"trap '' TERM; : >\"$0\"; while :; do sleep 1; done", up.path,
		NULL};
	const struct spec_process process = {AGENT_COMMAND(argv)};
	const struct agent_start_options options = {.main = true};
	struct agent_relay relay = NO_FDS;
	struct agent_failure failure;
	struct agent_status s;
	struct agent_session *second;

	assert_true(tempdir_make(&up, "up"));
	configure(f);
	relay.gone_fd = -1;
	assert_int_equal(
		agent_start(f->agent, &process, &options, &failure, NULL), 0);
	assert_true(wait_until(access(up.path, F_OK) == 0));
	unlink(up.path);
	assert_true(tempdir_remove(&up));
	second = another(f);
	assert_int_equal(agent_shutdown(second, 0, 100), 0);
	agent_free(second);
	assert_int_equal(agent_relay(f->agent, &relay, &s), 0);
	assert_int_equal(s.signal, SIGKILL);
	expect_end(f);
}

static void test_refusals(void **state)
{
	struct fixture *f = *state;
	const char *const argv[] = {"true", NULL};
	const struct spec_process process = {AGENT_COMMAND(argv)};
	const struct agent_start_options options = {.main = true};
	const struct agent_config config = {.hostname = "refused",
					    .root_tag = "rootfs"};
	struct agent_failure failure;

	/* Not configured, or wrongly, or twice. */
	assert_int_equal(
		agent_start(f->agent, &process, &options, &failure, NULL),
		-EREMOTEIO);
	assert_int_equal(failure.status, 125);
	assert_int_equal(agent_configure(f->agent, &config), -EPERM);
	assert_int_equal(agent_configure(f->agent, &config), -EALREADY);
	assert_int_equal(agent_signal(f->agent, NULL, SIGTERM), -ESRCH);
	assert_int_equal(agent_set_clock(f->agent), 0);
}

/* An agent that has not been configured. */
static struct agent_session *begin_again(void **state)
{
	struct fixture *f;

	teardown(state);
	setup(state);
	f = *state;
	return f->agent;
}

/* Each machine gets numbers of its own, before it is configured. */
static void test_entropy(void **state)
{
	struct agent_session *agent = begin_again(state);
	const struct agent_config none = {.hostname = "refused"};
	const struct agent_config some = {.hostname = "refused",
					  .entropy = true};
	const struct agent_entropy zero = {{0}};
	struct agent_entropy first;

	assert_int_equal(agent_configure(agent, &some), -EPERM);
	first = *taken;
	assert_memory_not_equal(&first, &zero, sizeof(zero));
	*taken = zero;
	agent = begin_again(state);
	assert_int_equal(agent_configure(agent, &none), -EPERM);
	assert_memory_equal(taken, &zero, sizeof(zero));
	agent = begin_again(state);
	assert_int_equal(agent_configure(agent, &some), -EPERM);
	assert_memory_not_equal(taken, &zero, sizeof(zero));
	assert_memory_not_equal(taken, &first, sizeof(first));
	/* One that does not know the item is not believed to have mixed. */
	agent = begin_again(state);
	agent->minor = 11;
	assert_int_equal(agent_configure(agent, &some), -ENOTSUP);
}

/* The action itself: this machine's kernel mixes random bytes in. */
static void test_kernel_takes_entropy(void **state)
{
	struct init_failure failure = {0};
	struct agent_entropy entropy;

	(void)state;
	assert_int_equal(getrandom(&entropy, sizeof(entropy), 0),
			 sizeof(entropy));
	if (server_actions.add_entropy(&entropy, &failure) == 0)
		return;
	print_message("%s\n", failure.text);
	/* Not everybody may, nor in every sandbox. */
	assert_true(failure.error == EPERM || failure.error == EACCES ||
		    failure.error == ENOTTY);
	skip();
}

static void test_host_gone(void **state)
{
	struct fixture *f = *state;
	const char *const argv[] = {"sleep", "60", NULL};
	const struct agent_config config = {.root_tag = "r",
					    .host_bound = true};
	const struct spec_process process = {AGENT_COMMAND(argv)};
	const struct agent_start_options options = {.main = true};
	struct agent_failure failure;

	assert_int_equal(agent_configure(f->agent, &config), 0);
	assert_int_equal(
		agent_start(f->agent, &process, &options, &failure, NULL), 0);
	expect_end(f);
}

/* The time may be told at any time; it is no answer's turn then. */
static void test_clock_beside_process(void **state)
{
	const struct agent_time now = agent_time_now();
	struct fixture *f = *state;
	const char *const argv[] = {"sh", "-c", "sleep 0.3; exit 4", NULL};
	const struct spec_process process = {AGENT_COMMAND(argv)};
	const struct agent_start_options options = {.main = true};
	struct agent_relay relay = NO_FDS;
	struct agent_failure failure;
	struct agent_status s;

	configure(f);
	assert_int_equal(
		agent_start(f->agent, &process, &options, &failure, NULL), 0);
	agent_put(f->agent, AGENT_CLOCK, &now, sizeof(now));
	relay.clock = true;
	relay.gone_fd = -1;
	assert_int_equal(agent_relay(f->agent, &relay, &s), 0);
	assert_int_equal(s.status, 4);
	expect_end(f);
}

/* There are as many sessions as there may be; the next one has to wait. */
static void test_session_limit(void **state)
{
	struct fixture *f = *state;
	const struct agent_first hello = agent_first_words(AGENT_MAJOR);
	struct agent_session *many[AGENT_SESSIONS_MAX];
	struct agent_facts facts;
	struct pollfd pfd = {.events = POLLIN};

	for (unsigned i = 1; i < AGENT_SESSIONS_MAX; i++)
		many[i] = another(f);
	pfd.fd = connect_to(f);
	assert_int_equal(send(pfd.fd, &hello, sizeof(hello), MSG_NOSIGNAL),
			 sizeof(hello));
	assert_int_equal(poll(&pfd, 1, QUIET_MS), 0);
	assert_int_equal(agent_get_facts(f->agent, &facts), 0);
	agent_free(many[1]);
	assert_int_equal(poll(&pfd, 1, PATIENCE_MS), 1);
	close(pfd.fd);
	for (unsigned i = 2; i < AGENT_SESSIONS_MAX; i++)
		agent_free(many[i]);
}

struct watched {
	struct capture capture;
	unsigned events;
	struct agent_memory last;
};

static void count_event(void *arg, const struct agent_memory *memory)
{
	struct watched *w = arg;

	w->events++;
	w->last = *memory;
}

/* Nobody has 99 % of all memory free; that is said once. */
static void test_memory_short(void **state)
{
	struct fixture *f = *state;
	const char *const argv[] = {"sleep", "2.5", NULL};
	const struct spec_process process = {AGENT_COMMAND(argv)};
	const struct agent_start_options options = {.main = true};
	struct agent_relay relay = NO_FDS;
	struct agent_failure failure;
	struct agent_status s;
	struct watched w = {0};

	configure(f);
	assert_int_equal(agent_watch(f->agent, 99), 0);
	assert_int_equal(
		agent_start(f->agent, &process, &options, &failure, NULL), 0);
	relay.memory = count_event;
	relay.arg = &w;
	relay.gone_fd = -1;
	assert_int_equal(agent_relay(f->agent, &relay, &s), 0);
	assert_int_equal(s.status, 0);
	assert_int_equal(w.events, 1);
	assert_int_equal(w.last.what, AGENT_MEMORY_SHORT);
	assert_true(w.last.total > 0);
	assert_true(w.last.available < w.last.total);
}

/* ---- a host that lies: the agent ends that session, and no other */

static void expect_cut(struct fixture *f, const void *bytes, size_t n)
{
	struct agent_session *liar = another(f);
	struct agent_facts facts;
	struct agent_message m;

	assert_int_equal(send(agent_fd(liar), bytes, n, MSG_NOSIGNAL), n);
	assert_int_equal(agent_await(liar, PATIENCE_MS, &m), -ECONNRESET);
	agent_free(liar);
	assert_int_equal(agent_get_facts(f->agent, &facts), 0);
}

static void test_lying_host(void **state)
{
	static const struct {
		struct agent_frame frame;
		uint32_t word[2];
		size_t bytes;
	} lies[] = {
		{{.bytes = 65537, .type = AGENT_ITEMS}, {0}, 8},
		{{.type = AGENT_ITEMS, .reserved = 1}, {0}, 8},
		{{.type = 99}, {0}, 8},
		{{.type = AGENT_HELLO}, {0}, 8},
		{{.bytes = 4, .type = AGENT_STDIN}, {0}, 12},
		{{.type = AGENT_EXIT_ACK}, {0}, 8},
		{{.bytes = 4, .type = AGENT_SIGNAL}, {65}, 12},
		{{.bytes = 4, .type = AGENT_SIGNAL}, {0}, 12},
		{{.bytes = 8, .type = AGENT_SIGNAL}, {15}, 16},
		{{.bytes = 4, .type = AGENT_CLOCK}, {0}, 12},
		{{.bytes = 8, .type = AGENT_SHUTDOWN}, {77, 1}, 16},
		{{.bytes = 4, .type = AGENT_WATCH}, {0}, 12},
		{{.bytes = 4, .type = AGENT_WATCH}, {100}, 12},
		{{.bytes = 8, .type = AGENT_WATCH}, {10, 0}, 16},
		{{.bytes = 4, .type = AGENT_STATS}, {0}, 12},
		{{.bytes = 4, .type = AGENT_FREEZE}, {2}, 12},
		{{.bytes = 8, .type = AGENT_FREEZE}, {0}, 16},
		{{.bytes = 4, .type = AGENT_LIMIT}, {0}, 12},
	};

	for (unsigned i = 0; i < ARRAY_LEN(lies); i++)
		expect_cut(*state, &lies[i], lies[i].bytes);
}

/* A guest that hangs lets nobody in, and holds up no one who goes. */
static void test_connect_unless(void **state)
{
	struct agent_session *agent;
	char path[TEMPDIR_ROOM + 2];
	int gone[2];
	int fd = listen_like_device(path, sizeof(path));

	(void)state;
	assert_int_equal(pipe(gone), 0);
	close(gone[1]);
	assert_int_equal(agent_connect_unless(path, gone[0], -1, &agent),
			 -ECONNRESET);
	close(fd);
	/* Nobody is there to answer. */
	assert_int_equal(
		agent_connect_unless(path, gone[0], PATIENCE_MS, &agent),
		-ECONNREFUSED);
	close(gone[0]);
	unlink(path);
	*strrchr(path, '/') = 0;
	rmdir(path);
}

#define WITH_AGENT(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_AGENT(test_output_and_status),
		WITH_AGENT(test_killed_by_signal),
		WITH_AGENT(test_much_output),
		WITH_AGENT(test_background_process),
		WITH_AGENT(test_umask_and_oom),
		WITH_AGENT(test_filter),
		WITH_AGENT(test_filter_refused),
		WITH_AGENT(test_input),
		WITH_AGENT(test_signal_past_input),
		WITH_AGENT(test_every_signal),
		WITH_AGENT(test_closed_output),
		WITH_AGENT(test_closed_input),
		WITH_AGENT(test_terminal),
		WITH_AGENT(test_not_found),
		WITH_AGENT(test_no_such_path),
		WITH_AGENT(test_not_executable),
		WITH_AGENT(test_directory),
		WITH_AGENT(test_exec_beside_main),
		WITH_AGENT(test_bound),
		WITH_AGENT(test_shutdown_kills),
		WITH_AGENT(test_refusals),
		WITH_AGENT(test_entropy),
		cmocka_unit_test(test_kernel_takes_entropy),
		WITH_AGENT(test_host_gone),
		WITH_AGENT(test_clock_beside_process),
		WITH_AGENT(test_session_limit),
		WITH_AGENT(test_memory_short),
		WITH_AGENT(test_lying_host),
		cmocka_unit_test(test_connect_unless),
	};

	taken = mmap(NULL, sizeof(*taken), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (taken == MAP_FAILED)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
