/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nothing a guest or a reader of its output does keeps `run`, `exec` and
 * `attach` from being ended: signals and the keys that leave come first. The
 * guest is a process that floods, takes nothing or never answers.
 */
#include "firmware/init/server.h"
#include "tests/agent.h"
#include "tests/patience.h"
#include "tools/agent/agent.h"
#include "tools/cmd/cmd.h"
#include "tools/instance/instance.h"
#include "tools/instance/runlog.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define ENDED    42 /* a child's way to say: the relay ended by a signal */
#define BREAK_MS 100
#define TRIES    (PATIENCE_MS / BREAK_MS)

/* ---- processes */

static pid_t start(void (*fn)(void *arg), void *arg)
{
	const pid_t parent = getpid();
	pid_t pid;

	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() == parent)
			fn(arg);
		_exit(1);
	}
	return pid;
}

/* The exit status; -1: it has not ended, however often SIGNAL was sent. */
static int end_by(pid_t pid, int signal)
{
	for (unsigned i = 0; i < TRIES; i++) {
		int status;

		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status)
						 : 128 + WTERMSIG(status);
		if (signal)
			kill(pid, signal);
		poll(NULL, 0, BREAK_MS);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return -1;
}

/* PID has come so far as to take SIGNAL in its own time. */
static bool blocks(pid_t pid, int signal)
{
	unsigned long long mask = 0;
	char path[40], line[128];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file) &&
	       sscanf(line, "SigBlk: %llx", &mask) != 1)
		;
	if (file)
		fclose(file);
	return mask >> (signal - 1) & 1;
}

/*
 * Waits until HOST relays, and gives the others the time to fill what FD writes
 * to. Where that comes later than three looks see, a test shows less, and does
 * not fail.
 */
static void let_fill(pid_t host, int fd)
{
	struct pollfd pfd = {.fd = fd, .events = POLLOUT};
	unsigned full = 0;

	assert_true(wait_until(blocks(host, SIGTERM)));
	for (unsigned i = 0; i < TRIES && full < 3; i++) {
		full += poll(&pfd, 1, 0) == 0;
		poll(NULL, 0, BREAK_MS);
	}
}

/* ---- guests */

struct guest {
	int fd, host_fd;
	int out_fd, in_fd; /* of the relay */
	bool floods;
};

static void put(int fd, uint16_t type, const void *payload, size_t bytes)
{
	const struct agent_frame frame = agent_frame_make(type, bytes);

	if (util_write_all(fd, &frame, sizeof(frame)) < 0 ||
	    util_write_all(fd, payload, bytes) < 0)
		_exit(1);
}

/* Is there, starts the command, and then never reads. */
static void be_guest(void *arg)
{
	const struct guest *g = arg;
	const struct agent_first hello = agent_first_words(AGENT_MAJOR);
	const struct agent_started started = {.pid = htole32(1)};
	static const uint8_t data[AGENT_PAYLOAD_MAX];

	close(g->host_fd);
	if (util_write_all(g->fd, &hello, sizeof(hello)) < 0)
		_exit(1);
	put(g->fd, AGENT_STARTED, &started, sizeof(started));
	while (g->floods)
		put(g->fd, AGENT_STDOUT, data, sizeof(data));
	for (;;)
		pause();
}

static void be_host(void *arg)
{
	const struct guest *g = arg;
	const char *const argv[] = {"x", NULL};
	const struct spec_process process = {AGENT_COMMAND(argv)};
	const struct agent_start_options options = {.input = g->in_fd >= 0};
	const struct agent_relay relay = {
		.in_fd = g->in_fd,
		.out_fd = g->out_fd,
		.err_fd = -1,
		.forward_signals = true,
		.gone_fd = -1,
	};
	struct agent_failure failure;
	struct agent_status status;
	struct agent_session *agent;

	close(g->fd);
	if (agent_open(g->host_fd, PATIENCE_MS, &agent) < 0 ||
	    agent_start(agent, &process, &options, &failure, NULL) < 0)
		_exit(1);
	_exit(agent_relay(agent, &relay, &status) == -EINTR ? ENDED : 1);
}

static void begin(struct guest *g, pid_t *ret_guest, pid_t *ret_host)
{
	const int small = 4096;
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd),
			 0);
	g->host_fd = fd[0];
	g->fd = fd[1];
	setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	*ret_guest = start(be_guest, g);
	*ret_host = start(be_host, g);
}

static void end(const struct guest *g, pid_t guest)
{
	kill(guest, SIGKILL);
	assert_int_equal(waitpid(guest, NULL, 0), guest);
	close(g->fd);
	close(g->host_fd);
}

/* ---- relays */

static void test_count(void **state)
{
	struct agent_ends ends = {0};

	(void)state;
	assert_false(agent_ends_count(&ends, SIGHUP));
	assert_false(agent_ends_count(&ends, SIGINT));
	/* timeout(1) sends it twice. */
	assert_false(agent_ends_count(&ends, SIGINT));
	assert_int_equal(ends.count, 1);
	ends.last_ns -= AGENT_ENDS_APART_MS * UINT64_C(1000000);
	assert_false(agent_ends_count(&ends, SIGUSR1));
	assert_true(agent_ends_count(&ends, SIGTERM));
	ends.last_ns -= AGENT_ENDS_APART_MS * UINT64_C(1000000);
	assert_true(agent_ends_count(&ends, SIGQUIT));
}

/* The guest floods, and no program reads the output. */
static void test_nobody_reads(void **state)
{
	struct guest g = {.floods = true, .in_fd = -1};
	pid_t guest, host;
	int out[2];

	(void)state;
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	g.out_fd = out[1];
	begin(&g, &guest, &host);
	let_fill(host, g.fd);
	assert_int_equal(end_by(host, SIGTERM), ENDED);
	end(&g, guest);
	close(out[0]);
	close(out[1]);
}

/* The same with output to a terminal that is stopped. */
static void test_stopped_terminal(void **state)
{
	struct guest g = {.floods = true, .in_fd = -1};
	const int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	pid_t guest, host;

	(void)state;
	assert_int_equal(grantpt(master), 0);
	assert_int_equal(unlockpt(master), 0);
	g.out_fd = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(g.out_fd >= 0);
	begin(&g, &guest, &host);
	let_fill(host, g.fd);
	assert_int_equal(end_by(host, SIGTERM), ENDED);
	end(&g, guest);
	close(g.out_fd);
	close(master);
}

/* The guest hangs: it reads neither input nor signals. */
static void test_guest_hangs(void **state)
{
	struct guest g = {.out_fd = -1};
	pid_t guest, host;

	(void)state;
	g.in_fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	begin(&g, &guest, &host);
	let_fill(host, g.host_fd);
	assert_int_equal(end_by(host, SIGINT), ENDED);
	end(&g, guest);
	close(g.in_fd);
}

/* ---- attach */

struct attached {
	char top[64], base[96];
	struct instance instance;
	struct runlog log;
	int master, slave, input_fd, listen_fd;
	pid_t pid;
};

static void be_attached(void *arg)
{
	const struct attached *a = arg;
	char name[] = "attach", one[] = "one";
	char *argv[] = {name, one, NULL};

	for (int fd = 0; fd < 3; fd++)
		if (dup2(a->slave, fd) < 0)
			_exit(1);
	_exit(cmd_attach(2, argv));
}

static void save_state(const struct instance *instance)
{
	char image[] = "image";
	char *env[] = {NULL};
	char root[] = "/root", cwd[] = "/", arg[] = "x";
	char *args[] = {arg, NULL};
	const struct instance_state state = {
		.phase = INSTANCE_RUNNING,
		.pid = getpid(),
		.created_s = 1000,
		.status = INSTANCE_NO_STATUS,
		.spec.root_path = root,
		.spec.has_process = true,
		.spec.process.terminal = true,
		.spec.process.cwd = cwd,
		.spec.process.args = {args, 1},
		.image = image,
		.spec.process.env = {env, ARRAY_LEN(env) - 1},
	};

	assert_int_equal(instance_save(instance, &state), 0);
	instance_status_write(instance, INSTANCE_NO_STATUS);
}

/* An agent's socket that takes connections and never answers. */
static int listen_silently(const char *path)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(listen(fd, 100), 0);
	return fd;
}

static int attach(void **state)
{
	struct attached *a = calloc(1, sizeof(*a));
	const char *tmp = getenv("TMPDIR");

	snprintf(a->top, sizeof(a->top), "%.30s/bulkhead-patience.XXXXXX",
		 tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(a->top));
	snprintf(a->base, sizeof(a->base), "%s/base", a->top);
	setenv("BULKHEAD_RUNTIME_DIR", a->base, 1);
	assert_int_equal(instance_create("one", &a->instance), 0);
	save_state(&a->instance);
	runlog_open(&a->log, a->instance.dir_fd);
	a->listen_fd = listen_silently(a->instance.socket);
	assert_int_equal(
		mkfifoat(a->instance.dir_fd, INSTANCE_INPUT_FILE, 0600), 0);
	a->input_fd = openat(a->instance.dir_fd, INSTANCE_INPUT_FILE,
			     O_RDWR | O_NONBLOCK | O_CLOEXEC);
	assert_true(a->input_fd >= 0);
	a->master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	assert_int_equal(grantpt(a->master), 0);
	assert_int_equal(unlockpt(a->master), 0);
	a->slave = open(ptsname(a->master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(a->slave >= 0);
	a->pid = start(be_attached, a);
	*state = a;
	return 0;
}

static int detach(void **state)
{
	struct attached *a = *state;

	runlog_close(&a->log);
	close(a->master);
	close(a->slave);
	close(a->input_fd);
	close(a->listen_fd);
	assert_int_equal(instance_remove(&a->instance, true), 0);
	instance_done(&a->instance);
	assert_int_equal(rmdir(a->top), 0);
	free(a);
	return 0;
}

/* The instance writes until `attach` shows something, and then far too much. */
static void flood(struct attached *a)
{
	static char data[RUNLOG_RECORD_MAX];
	struct pollfd pfd = {.fd = a->master, .events = POLLIN};

	for (unsigned i = 0; i < TRIES && poll(&pfd, 1, BREAK_MS) == 0; i++)
		runlog_write(&a->log, RUNLOG_STDOUT, "x", 1);
	assert_true(pfd.revents & POLLIN);
	for (unsigned i = 0; i < 20; i++)
		runlog_write(&a->log, RUNLOG_STDERR, data, sizeof(data));
	poll(NULL, 0, 5 * BREAK_MS);
}

static void test_keys_leave(void **state)
{
	struct attached *a = *state;

	flood(a);
	assert_int_equal(write(a->master, "\x10\x11", 2), 2);
	assert_int_equal(end_by(a->pid, 0), 0);
}

static void test_signals_leave(void **state)
{
	struct attached *a = *state;

	flood(a);
	assert_int_equal(end_by(a->pid, SIGINT), INSTANCE_EXIT_FAILED);
}

/* Keys that the command does not take must not keep those from being seen. */
static void test_input_is_full(void **state)
{
	struct attached *a = *state;
	struct pollfd pfd = {.fd = a->input_fd, .events = POLLOUT};
	char keys[512];

	memset(keys, 'x', sizeof(keys));
	assert_true(fcntl(a->input_fd, F_SETPIPE_SZ, 4096) >= 0);
	/* Before it is raw a terminal takes one line, and no more. */
	for (unsigned i = 0; i < TRIES && poll(&pfd, 1, BREAK_MS) != 0; i++) {
		(void)!write(a->master, keys, sizeof(keys));
		(void)!write(a->master, "\n", 1);
		poll(NULL, 0, BREAK_MS / 10);
	}
	for (unsigned i = 0; i < 8; i++) {
		(void)!write(a->master, keys, sizeof(keys));
		poll(NULL, 0, BREAK_MS);
	}
	for (unsigned i = 0; i < TRIES; i++)
		if (write(a->master, "\x10\x11", 2) == 2)
			break;
		else
			poll(NULL, 0, BREAK_MS);
	assert_int_equal(end_by(a->pid, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_count),
		cmocka_unit_test(test_nobody_reads),
		cmocka_unit_test(test_stopped_terminal),
		cmocka_unit_test(test_guest_hangs),
		cmocka_unit_test_setup_teardown(test_keys_leave, attach,
						detach),
		cmocka_unit_test_setup_teardown(test_signals_leave, attach,
						detach),
		cmocka_unit_test_setup_teardown(test_input_is_full, attach,
						detach),
	};

	log_setup(LOG_ERROR, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
