/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead attach`: a terminal for an instance that runs. Output is what comes
 * to the log from now on; input goes to the FIFO that the supervisor of an
 * instance of `run -d -i` reads. Keys and signals come first: nothing here
 * waits for output to be read, for input to be taken or for the guest to
 * answer.
 */
#include "tools/cmd/cmd.h"

#include "devices/host/terminal.h"
#include "tools/agent/agent.h"
#include "tools/instance/instance.h"
#include "tools/cli/options.h"
#include "tools/instance/runlog.h"
#include "tools/cli/usage.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>

#define AGENT_TIMEOUT_MS 3000
/* inotify reports writes but not a process's death, so look as well. */
#define STEP_MS 100
/* Keys and signals are looked at again after so much output. */
#define STUCK_MS        20
#define RECORDS_AT_ONCE 16
#define KEY_P           0x10 /* Ctrl-P, Ctrl-Q: to leave, as with Docker */
#define KEY_Q           0x11
#define LEAVE           1

struct request {
	bool no_stdin, forward_signals;
};

static const struct option_entry entries[] = {
	{"no-stdin", 0, NULL, OPTION_FLAG, offsetof(struct request, no_stdin),
	 NULL, "give it no input"},
	{"sig-proxy", 0, NULL, OPTION_FLAG,
	 offsetof(struct request, forward_signals), NULL,
	 "pass signals on to the command [true]"},
	{0},
};

static const struct option_table table = {
	.command = "attach",
	.synopsis = "usage: bulkhead attach [OPTION]... NAME\n"
		    "\n"
		    "Shows what an instance's command writes from now on, and "
		    "gives it input if\n"
		    "it was started with -d and -i. Ctrl-P Ctrl-Q detaches and "
		    "leaves it running.\n",
	.entries = entries,
	.notes = "\nExit status: the command's; 0 after Ctrl-P Ctrl-Q.\n",
};

struct attachment {
	const struct request *req;
	const struct instance *instance;
	struct runlog_reader log;
	char *data;                  /* RUNLOG_RECORD_MAX bytes */
	size_t data_at, data_left;   /* of them, still to be written to ... */
	bool stuck;                  /* it was writable, and took nothing */
	struct terminal_end *to;     /* ... this end */
	struct terminal_end ends[2]; /* standard output, standard error */
	/* owned; -1: none */
	int status_fd, input_fd, notify_fd, signal_fd;
	bool terminal; /* standard input is one, and raw now */
	struct termios saved;
	bool held; /* a Ctrl-P, which may be the first of two keys */
	uint8_t keys[1024];
	size_t start, end; /* of what waits to be written to input_fd */
	struct agent_ends signals;
};

/* ---- output */

/* Leaves out what has come so far. 0 or -errno. */
static int skip_log(struct attachment *a)
{
	struct runlog_record record;
	int r;

	while ((r = runlog_next(&a->log, &record, a->data)) == 1)
		;
	return r;
}

/*
 * As far as nobody has to be waited for. 1: all of it, 0 or -errno. A terminal
 * may be called writable by poll() and yet take nothing.
 */
static int write_record(struct attachment *a)
{
	const size_t before = a->data_left;

	while (a->data_left > 0) {
		const ssize_t n = terminal_end_write(
			a->to, a->data + a->data_at, a->data_left);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break;
		a->data_at += (size_t)n;
		a->data_left -= (size_t)n;
	}
	if (a->data_left == 0)
		return 1;
	if (errno != EAGAIN)
		return -errno;
	a->stuck = a->data_left == before;
	return 0;
}

/*
 * Some of what has come. 1: there is no more for now, 0: there may be, or the
 * reader is slow (data_left); -errno.
 */
static int take_log(struct attachment *a)
{
	struct runlog_record record;
	int r = 1;

	for (unsigned i = 0; r == 1 && i < RECORDS_AT_ONCE; i++) {
		r = write_record(a);
		if (r != 1)
			return r;
		r = runlog_next(&a->log, &record, a->data);
		if (r == 0)
			return 1;
		a->to = &a->ends[record.stream == RUNLOG_STDERR];
		a->data_at = 0;
		/* A closed descriptor wants none of it. */
		a->data_left = r == 1 && a->to->fd >= 0 ? record.bytes : 0;
	}
	return r < 0 ? r : 0;
}

static void clear_notes(int fd)
{
	char events[1024];

	while (read(fd, events, sizeof(events)) > 0)
		;
}

/* ---- input */

static void put_key(struct attachment *a, uint8_t key)
{
	/* As a terminal does whose input nobody reads. */
	if (a->end < sizeof(a->keys))
		a->keys[a->end++] = key;
}

/* Keys as they are, but for the two that leave: LEAVE or 0. */
static int take_keys(struct attachment *a, const uint8_t *keys, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (a->terminal && a->held && keys[i] == KEY_Q)
			return LEAVE;
		if (a->held)
			put_key(a, KEY_P);
		a->held = a->terminal && keys[i] == KEY_P;
		if (!a->held)
			put_key(a, keys[i]);
	}
	return 0;
}

static int take_input(struct attachment *a)
{
	uint8_t keys[sizeof(a->keys) / 2 - 1];
	ssize_t n = read(STDIN_FILENO, keys, sizeof(keys));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n > 0)
		return take_keys(a, keys, (size_t)n);
	/* Nobody would see what is written to a terminal that is gone. */
	if (a->terminal)
		return LEAVE;
	util_close(&a->input_fd);
	return 0;
}

static void write_input(struct attachment *a)
{
	ssize_t n = write(a->input_fd, a->keys + a->start, a->end - a->start);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	a->start += n > 0 ? (size_t)n : a->end - a->start;
	if (a->start == a->end)
		a->start = a->end = 0;
}

/* ---- signals */

/*
 * To the command, by a process of its own: a guest that hangs does not answer.
 * It ends with this one, or by its own limits of time.
 */
static void pass_on(struct attachment *a, int signal)
{
	const pid_t parent = getpid();
	const pid_t pid = fork();
	struct agent_session *agent = NULL;

	if (pid < 0)
		log_error("cannot pass on signal %d: %s", signal,
			  strerror(errno));
	if (pid != 0)
		return;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent &&
	    agent_connect(a->instance->socket, AGENT_TIMEOUT_MS, &agent) == 0)
		(void)agent_signal(agent, NULL, signal);
	_exit(0);
}

static int take_signals(struct attachment *a)
{
	struct signalfd_siginfo info;

	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	while (read(a->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		const int signal = (int)info.ssi_signo;

		if (agent_ends_count(&a->signals, signal))
			return log_ret(-EINTR,
				       "'%s' goes on: a second signal to end "
				       "came before it did",
				       a->instance->name);
		pass_on(a, signal);
	}
	return 0;
}

static int catch_signals(struct attachment *a)
{
	static const int signals[] = {SIGHUP,  SIGINT,  SIGQUIT,
				      SIGTERM, SIGUSR1, SIGUSR2};
	const sigset_t set = util_signals(signals, ARRAY_LEN(signals));

	if (!a->req->forward_signals)
		return 0;
	sigprocmask(SIG_BLOCK, &set, NULL);
	a->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return a->signal_fd < 0
		       ? log_ret(-errno, "signalfd: %s", strerror(errno))
		       : 0;
}

/* ---- the whole */

enum {
	SOURCE_NOTES,
	SOURCE_SIGNAL,
	SOURCE_KEYS,
	SOURCE_INPUT,
	SOURCE_OUTPUT,
	SOURCES
};

/* 0, LEAVE or -errno. */
static int step(struct attachment *a, bool more)
{
	const bool waits = a->end > 0 && a->input_fd >= 0;
	/* A terminal's keys may be those that leave, taken or not. */
	const bool keys = a->input_fd >= 0 && (a->terminal || !waits);
	struct pollfd pfd[SOURCES] = {
		[SOURCE_NOTES] = {a->notify_fd, POLLIN, 0},
		[SOURCE_SIGNAL] = {a->signal_fd, POLLIN, 0},
		[SOURCE_KEYS] = {keys ? STDIN_FILENO : -1, POLLIN, 0},
		[SOURCE_INPUT] = {waits ? a->input_fd : -1, POLLOUT, 0},
		[SOURCE_OUTPUT] = {a->data_left && !a->stuck ? a->to->fd : -1,
				   POLLOUT, 0},
	};
	int timeout_ms = more && !a->data_left ? 0 : STEP_MS;
	int r = 0;

	if (a->stuck)
		timeout_ms = STUCK_MS;
	a->stuck = false;
	if (poll(pfd, SOURCES, timeout_ms) < 0)
		return errno == EINTR ? 0 : -errno;
	if (pfd[SOURCE_NOTES].revents)
		clear_notes(a->notify_fd);
	if (pfd[SOURCE_SIGNAL].revents)
		r = take_signals(a);
	if (r == 0 && pfd[SOURCE_KEYS].revents)
		r = take_input(a);
	if (r == 0 && pfd[SOURCE_INPUT].revents)
		write_input(a);
	return r;
}

/* Until the instance has ended and all is written, or somebody leaves. */
static int relay(struct attachment *a)
{
	bool alive = true, all = false;
	int r;

	do {
		alive = alive && instance_is_alive(a->instance);
		r = step(a, !all);
		if (r != 0)
			return r;
		r = take_log(a);
		all = r == 1;
	} while (r >= 0 && (alive || !all));
	return r < 0 ? r : 0;
}

/* The exit status. */
static int stay(struct attachment *a)
{
	const int r = relay(a);

	if (r == LEAVE)
		return VM_EXIT_OK;
	if (r < 0 && r != -EPIPE && r != -EINTR)
		log_error("'%s': %s", a->instance->name, strerror(-r));
	return r < 0 ? INSTANCE_EXIT_FAILED
		     : instance_status_read(a->status_fd);
}

static void set_raw(struct attachment *a, bool tty)
{
	struct termios raw;

	if (!tty || a->input_fd < 0 || tcgetattr(STDIN_FILENO, &a->saved) < 0)
		return;
	raw = a->saved;
	cfmakeraw(&raw);
	a->terminal = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
}

static int open_all(struct attachment *a)
{
	const int dir_fd = a->instance->dir_fd;
	char path[40];

	a->status_fd = openat(dir_fd, INSTANCE_STATUS_FILE,
			      O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (a->status_fd < 0)
		return log_ret(-errno, "'%s' has not started yet",
			       a->instance->name);
	if (!a->req->no_stdin)
		a->input_fd =
			openat(dir_fd, INSTANCE_INPUT_FILE,
			       O_WRONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
	a->notify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", dir_fd);
	if (a->notify_fd < 0 ||
	    inotify_add_watch(a->notify_fd, path,
			      IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0)
		return log_ret(-errno, "'%s': %s", a->instance->path,
			       strerror(errno));
	return skip_log(a);
}

static int attach(const struct request *req, const struct instance *instance,
		  const struct instance_state *state)
{
	struct attachment a = {
		.req = req,
		.instance = instance,
		.data = malloc(RUNLOG_RECORD_MAX),
		.status_fd = -1,
		.input_fd = -1,
		.notify_fd = -1,
		.signal_fd = -1,
	};
	int r = a.data ? 0 : log_ret(-ENOMEM, "out of memory");

	runlog_reader_init(&a.log, instance->dir_fd);
	terminal_end_open(&a.ends[0], STDOUT_FILENO, true);
	terminal_end_open(&a.ends[1], STDERR_FILENO, true);
	if (r == 0)
		r = open_all(&a);
	if (r == 0)
		r = catch_signals(&a);
	if (r == 0) {
		set_raw(&a, state->spec.process.terminal);
		r = stay(&a);
		/* Not TCSADRAIN, which waits for the terminal's reader. */
		if (a.terminal)
			tcsetattr(STDIN_FILENO, TCSANOW, &a.saved);
	} else {
		r = INSTANCE_EXIT_FAILED;
	}
	runlog_reader_done(&a.log);
	terminal_end_close(&a.ends[0]);
	terminal_end_close(&a.ends[1]);
	util_close(&a.status_fd);
	util_close(&a.input_fd);
	util_close(&a.notify_fd);
	util_close(&a.signal_fd);
	free(a.data);
	return r;
}

int cmd_attach(int argc, char **argv)
{
	struct request req = {.forward_signals = true};
	int n = options_parse(&table, &req, argc, argv);
	int status = INSTANCE_EXIT_FAILED;
	struct instance_state state;
	struct instance instance;

	if (n == OPTIONS_HELP)
		return VM_EXIT_OK;
	if (n < 0)
		return VM_EXIT_USAGE;
	if (n != argc - 1)
		return usage_error("attach", "give the name of one instance");
	instance_sweep();
	if (instance_open(argv[n], &instance) < 0)
		return status;
	if (instance_load(&instance, &state) == 0) {
		if (instance_is_alive(&instance) &&
		    state.phase == INSTANCE_PAUSED)
			log_error("'%s' is paused: 'bulkhead resume %s' first",
				  instance.name, instance.name);
		else if (instance_is_alive(&instance))
			status = attach(&req, &instance, &state);
		else
			log_error("'%s' does not run", instance.name);
		instance_state_done(&state);
	}
	instance_done(&instance);
	return status;
}
