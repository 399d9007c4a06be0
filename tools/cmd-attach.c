/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead attach`: a terminal for an instance that runs. Output is what comes
 * to the log from now on; input goes to the FIFO that the supervisor of an
 * instance of `run -d -i` reads.
 */
#include "tools/cmd.h"

#include "tools/agent.h"
#include "tools/instance.h"
#include "tools/options.h"
#include "tools/runlog.h"
#include "vmm/log.h"
#include "vmm/util.h"
#include "vmm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <termios.h>

#define AGENT_TIMEOUT_MS 3000
/* Nobody tells of a death; what is written is heard of at once. */
#define STEP_MS 100
#define KEY_P   0x10 /* Ctrl-P, Ctrl-Q: to leave, as with Docker */
#define KEY_Q   0x11
#define LEAVE   1
#define SIGNALS 3 /* of those that mean to end it: this program ends */

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
		    "it was started with -d and -i. Ctrl-P Ctrl-Q leaves it to "
		    "itself.\n",
	.entries = entries,
	.notes = "\nExit status: the command's; 0 after Ctrl-P Ctrl-Q.\n",
};

struct attachment {
	const struct request *req;
	const struct instance *instance;
	struct runlog_reader log;
	char *data; /* RUNLOG_RECORD_MAX bytes */
	/* owned; -1: none */
	int status_fd, input_fd, notify_fd, signal_fd;
	bool terminal; /* standard input is one, and raw now */
	struct termios saved;
	bool held; /* a Ctrl-P, which may be the first of two keys */
	uint8_t keys[1024];
	size_t start, end; /* of what waits to be written to input_fd */
	unsigned signals;
};

/* ---- output */

/* What has come; PRINT: or leaves it out. 0 or -errno. */
static int take_log(struct attachment *a, bool print)
{
	struct runlog_record record;
	int r;

	while ((r = runlog_next(&a->log, &record, a->data)) == 1) {
		int fd = record.stream == RUNLOG_STDERR ? STDERR_FILENO
							: STDOUT_FILENO;

		r = print ? util_write_all(fd, a->data, record.bytes) : 0;
		if (r < 0)
			return r;
	}
	return r;
}

static void clear_notes(int fd)
{
	char events[1024];

	while (read(fd, events, sizeof(events)) > 0)
		;
}

/* ---- input */

/* Keys as they are, but for the two that leave: LEAVE or 0. */
static int take_keys(struct attachment *a, const uint8_t *keys, size_t n)
{
	a->start = a->end = 0;
	for (size_t i = 0; i < n; i++) {
		if (a->terminal && a->held && keys[i] == KEY_Q)
			return LEAVE;
		if (a->held)
			a->keys[a->end++] = KEY_P;
		a->held = a->terminal && keys[i] == KEY_P;
		if (!a->held)
			a->keys[a->end++] = keys[i];
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
	/* A terminal that is gone has nobody to show anything to. */
	if (a->terminal)
		return LEAVE;
	util_close(&a->input_fd);
	a->input_fd = -1;
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

static int take_signal(struct attachment *a)
{
	struct signalfd_siginfo info;
	struct agent *agent = NULL;

	if (read(a->signal_fd, &info, sizeof(info)) != sizeof(info))
		return 0;
	a->signals += info.ssi_signo == SIGINT || info.ssi_signo == SIGTERM ||
		      info.ssi_signo == SIGQUIT;
	if (a->signals == SIGNALS)
		return log_ret(-EINTR,
			       "'%s' goes on: it has not ended at %u signals",
			       a->instance->name, a->signals);
	if (agent_connect(a->instance->socket, AGENT_TIMEOUT_MS, &agent) == 0)
		(void)agent_signal(agent, (int)info.ssi_signo);
	agent_free(agent);
	return 0;
}

static int catch_signals(struct attachment *a)
{
	static const int signals[] = {SIGHUP,  SIGINT,  SIGQUIT,
				      SIGTERM, SIGUSR1, SIGUSR2};
	sigset_t set;

	if (!a->req->forward_signals)
		return 0;
	sigemptyset(&set);
	for (unsigned i = 0; i < ARRAY_LEN(signals); i++)
		sigaddset(&set, signals[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	a->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return a->signal_fd < 0
		       ? log_ret(-errno, "signalfd: %s", strerror(errno))
		       : 0;
}

/* ---- the whole */

enum { SOURCE_NOTES, SOURCE_SIGNAL, SOURCE_KEYS, SOURCE_INPUT, SOURCES };

/* 0, LEAVE or -errno. */
static int step(struct attachment *a)
{
	const bool full = a->end > 0;
	struct pollfd pfd[SOURCES] = {
		[SOURCE_NOTES] = {a->notify_fd, POLLIN, 0},
		[SOURCE_SIGNAL] = {a->signal_fd, POLLIN, 0},
		[SOURCE_KEYS] = {a->input_fd < 0 || full ? -1 : STDIN_FILENO,
				 POLLIN, 0},
		[SOURCE_INPUT] = {full ? a->input_fd : -1, POLLOUT, 0},
	};
	int r = 0;

	if (poll(pfd, SOURCES, STEP_MS) < 0)
		return errno == EINTR ? 0 : -errno;
	if (pfd[SOURCE_NOTES].revents)
		clear_notes(a->notify_fd);
	if (pfd[SOURCE_SIGNAL].revents)
		r = take_signal(a);
	if (r == 0 && pfd[SOURCE_KEYS].revents)
		r = take_input(a);
	if (r == 0 && pfd[SOURCE_INPUT].revents)
		write_input(a);
	return r == 0 ? take_log(a, true) : r;
}

/* The exit status. */
static int stay(struct attachment *a)
{
	int r = 0;

	while (r == 0 && instance_is_alive(a->instance))
		r = step(a);
	if (r == 0)
		r = take_log(a, true);
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
	return take_log(a, false);
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
	if (r == 0)
		r = open_all(&a);
	if (r == 0)
		r = catch_signals(&a);
	if (r == 0) {
		set_raw(&a, state->tty);
		r = stay(&a);
		if (a.terminal)
			tcsetattr(STDIN_FILENO, TCSADRAIN, &a.saved);
	} else {
		r = INSTANCE_EXIT_FAILED;
	}
	runlog_reader_done(&a.log);
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
		if (instance_is_alive(&instance))
			status = attach(&req, &instance, &state);
		else
			log_error("'%s' does not run", instance.name);
		instance_state_done(&state);
	}
	instance_done(&instance);
	return status;
}
