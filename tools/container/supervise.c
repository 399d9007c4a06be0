/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a container, seen from the host: start the monitor, let the agent
 * in its guest start the command, pass data both ways, keep the status. Every
 * way to end, in whatever order, ends here: nothing is left behind but what `ps
 * -a` shows.
 */
#include "tools/container/run.h"

#include "tools/container/keeper.h"
#include "tools/container/monitor.h"
#include "tools/instance/runlog.h"
#include "vmm/base/util.h"
#include "vmm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

/* A guest on a host that interprets its kernel takes tens of seconds. */
#define START_TIMEOUT_MS 180000
/* How long the guest may take to write back and to power off. */
#define END_TIMEOUT_MS 15000

/* Percent of the guest's memory: less is worth a word. */
#define MEMORY_SHORT 10

struct supervisor {
	struct run *run;
	struct monitor monitor;
	pid_t keeper; /* 0: not started */
	struct agent *agent;
	struct runlog log;
	int listen_fd;
	int signal_fd; /* -1: signals do as they do to any program */
	struct agent_ends ends;
	int input_fd; /* the command's; borrowed where it is standard input */
	int gone_fd;  /* epoll: the monitor ended, or a signal came */
	int ready_fd; /* borrowed; -1: nobody waits, or was told already */
	sigset_t mask_before;
	bool killed;                  /* the monitor, by us */
	bool told_short, told_killed; /* of its memory */
	uint64_t born_ns;
};

static void log_time(const struct supervisor *s, const char *what)
{
	log_debug("%s after %llu us", what,
		  (unsigned long long)(util_now_ns() - s->born_ns) / 1000);
}

/* ---- what others see */

static void save(struct supervisor *s)
{
	(void)instance_save(&s->run->instance, &s->run->state);
}

/*
 * The end of the foreground: who started this has its answer, and nothing of
 * the user's terminal or directory is held any longer.
 */
static void tell_ready(struct supervisor *s, int status)
{
	int null_fd;

	if (s->ready_fd < 0)
		return;
	(void)util_write_all(s->ready_fd, &status, sizeof(status));
	s->ready_fd = -1;
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null_fd >= 0) {
		(void)dup2(null_fd, STDERR_FILENO);
		close(null_fd);
	}
	if (chdir("/") < 0)
		log_debug("chdir '/': %s", strerror(errno));
}

static int keep_error(struct supervisor *s, int status, const char *text)
{
	char *copy = strdup(text);

	free(s->run->state.error);
	s->run->state.error = copy;
	return status;
}

/* Says why there is no status of the command's own, and keeps it for `ps`. */
static int fail(struct supervisor *s, int status, const char *text)
{
	log_error("'%s': %s", s->run->instance.name, text);
	return keep_error(s, status, text);
}

/* ---- start */

static int watch(int epoll_fd, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static sigset_t taken_signals(void)
{
	static const int signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};

	return util_signals(signals, ARRAY_LEN(signals));
}

void run_hold_signals(struct run *run)
{
	const sigset_t set = taken_signals();

	sigprocmask(SIG_BLOCK, &set, &run->mask_before);
	run->signals_held = true;
}

void run_release_signals(const struct run *run)
{
	if (run->signals_held)
		sigprocmask(SIG_SETMASK, &run->mask_before, NULL);
}

/*
 * Until the command runs a signal ends the start; then they are the command's.
 * One that comes between the two waits, and is passed on.
 */
static int take_signals(struct supervisor *s)
{
	const sigset_t set = taken_signals();

	if (!s->run->signals_held)
		run_hold_signals(s->run);
	s->mask_before = s->run->mask_before;
	s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signal_fd < 0)
		return log_ret(-errno, "signals: %s", strerror(errno));
	return 0;
}

static int start_monitor(struct supervisor *s)
{
	struct run *run = s->run;
	const struct monitor_options options = {
		.close_fds = {s->ready_fd, s->listen_fd, s->signal_fd,
			      run->instance.base_fd},
		.sigmask = &s->mask_before,
	};
	int r = monitor_start(&s->monitor, &run->machine.cfg, &options);

	if (r < 0)
		return r;
	run->state.pid = s->monitor.pid;
	run->state.pid_start = instance_process_start(s->monitor.pid);
	s->gone_fd = epoll_create1(EPOLL_CLOEXEC);
	r = s->gone_fd < 0 ? -errno : watch(s->gone_fd, s->monitor.pid_fd);
	if (r == 0)
		r = watch(s->gone_fd, s->signal_fd);
	return r < 0 ? log_ret(r, "waiting for the guest: %s", strerror(-r))
		     : 0;
}

/* One session comes in this way, then nobody may any more. */
static int meet_agent(struct supervisor *s)
{
	autofree char *path = NULL;
	int r = agent_accept(s->listen_fd, s->gone_fd, START_TIMEOUT_MS,
			     &s->agent);

	util_close(&s->listen_fd);
	s->listen_fd = -1;
	if (asprintf(&path, "%s_1024", s->run->instance.socket) < 0)
		path = NULL;
	if (path)
		(void)unlink(path);
	return r;
}

static int give_up(struct supervisor *s, int error);

/* 0, or the exit status. */
static int start_command(struct supervisor *s)
{
	struct run *run = s->run;
	char number[24];
	struct agent_process process =
		run_agent_process(&run->state.spec.process, number);
	struct agent_failure failure;
	int r = agent_watch(s->agent, MEMORY_SHORT);

	process.main = true;
	process.init = run->opt->init;
	process.input = run->opt->interactive;
	if (r == 0)
		r = agent_start(s->agent, &process, &failure, NULL);

	if (r == -EREMOTEIO)
		return fail(s, failure.status, failure.text);
	if (r < 0)
		return give_up(s, r);
	run->state.phase = INSTANCE_RUNNING;
	run->state.started_s = time(NULL);
	save(s);
	return 0;
}

/* ---- the end */

/* The agent is gone: how the monitor ended says why. */
static int explain_end(struct supervisor *s)
{
	const int status = s->monitor.wait_status;
	char killer[INSTANCE_KILLER_MAX + 1];
	char text[128];

	if (s->killed)
		return RUN_EXIT_FAILED;
	instance_read_killer(&s->run->instance, killer);
	if (WIFSIGNALED(status) && killer[0]) {
		snprintf(text, sizeof(text),
			 "ended by 'bulkhead %s': its guest did not end by "
			 "itself",
			 killer);
		return fail(s, 128 + WTERMSIG(status), text);
	}
	if (WIFSIGNALED(status)) {
		snprintf(text, sizeof(text),
			 "its monitor was killed by signal %d",
			 WTERMSIG(status));
		return fail(s, 128 + WTERMSIG(status), text);
	}
	switch (WEXITSTATUS(status)) {
	case VM_EXIT_OK:
		return fail(s, RUN_EXIT_FAILED,
			    "its machine powered off before the command's "
			    "end was known");
	case VM_EXIT_CRASH:
		(void)monitor_print_tail(&s->monitor, STDERR_FILENO);
		return fail(s, RUN_EXIT_FAILED,
			    "its guest crashed; more --memory helps where it "
			    "ran out");
	default: /* said already, by the monitor itself */
		return keep_error(s, RUN_EXIT_FAILED,
				  s->monitor.error[0] ? s->monitor.error
						      : "its monitor gave up");
	}
}

static bool signal_came(struct supervisor *s, int *ret_signal)
{
	struct signalfd_siginfo info;

	if (read(s->signal_fd, &info, sizeof(info)) != sizeof(info))
		return false;
	*ret_signal = (int)info.ssi_signo;
	return true;
}

/*
 * Waits until the monitor ends by itself, up to a limit of time and as long as
 * nobody insists on an end. False: it did not.
 */
static bool await_end(struct supervisor *s)
{
	const uint64_t end = util_now_ns() + END_TIMEOUT_MS * UINT64_C(1000000);
	struct pollfd pfd[2] = {
		{.fd = s->monitor.pid_fd, .events = POLLIN},
		{.fd = s->signal_fd, .events = POLLIN},
	};

	for (uint64_t now; (now = util_now_ns()) < end;) {
		int signal;

		if (poll(pfd, 2, (int)((end - now) / 1000000) + 1) < 0 &&
		    errno != EINTR)
			break;
		if (pfd[0].revents)
			return monitor_wait(&s->monitor, -1) == 0;
		if (pfd[1].revents && signal_came(s, &signal) &&
		    agent_ends_count(&s->ends, signal))
			break;
	}
	return false;
}

/*
 * Something went wrong with the agent. -ECONNRESET is the one error nobody has
 * said anything about: the monitor ended, or a signal came before the command.
 */
static int give_up(struct supervisor *s, int error)
{
	int signal;

	if (error == -ECONNRESET && signal_came(s, &signal)) {
		monitor_kill(&s->monitor);
		(void)monitor_wait(&s->monitor, -1);
		return 128 + signal;
	}
	if (error == -EINTR) {
		monitor_kill(&s->monitor);
		(void)monitor_wait(&s->monitor, -1);
		return INSTANCE_KILLED;
	}
	/* The guest's last output explains a crash: wait for it. */
	if (error != -ECONNRESET || !await_end(s)) {
		s->killed = true;
		monitor_kill(&s->monitor);
		(void)monitor_wait(&s->monitor, -1);
		if (error == -ETIME)
			(void)monitor_print_tail(&s->monitor, STDERR_FILENO);
	}
	return explain_end(s);
}

static int log_output(void *arg, int stream, const void *data, size_t bytes)
{
	struct supervisor *s = arg;

	runlog_write(&s->log, (enum runlog_stream)stream, data, bytes);
	return 0;
}

/* To stderr in the foreground, to the log in the background. */
static void warn(struct supervisor *s, const char *text)
{
	char line[256];
	int n = snprintf(line, sizeof(line), "bulkhead: %s\n", text);

	log_warn("'%s': %s", s->run->instance.name, text);
	if (s->run->opt->detach)
		runlog_write(&s->log, RUNLOG_STDERR, line, (size_t)n);
}

/* Each message comes once: the shortage may last. */
static void tell_memory(void *arg, const struct agent_memory *memory)
{
	struct supervisor *s = arg;
	char text[128];

	if (memory->what == AGENT_MEMORY_SHORT && !s->told_short) {
		snprintf(text, sizeof(text),
			 "memory is short: %llu of %llu MiB are left; --memory "
			 "gives more",
			 (unsigned long long)(memory->available / MIB),
			 (unsigned long long)(memory->total / MIB));
		warn(s, text);
		s->told_short = true;
	} else if (memory->what == AGENT_MEMORY_KILLED && !s->told_killed) {
		warn(s, "a process was killed for lack of memory; --memory "
			"gives more");
		s->told_killed = true;
	}
}

/*
 * In the background input comes from `attach`. The FIFO is open for writing,
 * too, so that a client that leaves does not end the input. -1 (logged): there
 * is none.
 */
static int open_input(struct supervisor *s)
{
	const int dir_fd = s->run->instance.dir_fd;
	int fd = -1;

	if (mkfifoat(dir_fd, INSTANCE_INPUT_FILE, 0600) == 0)
		fd = openat(dir_fd, INSTANCE_INPUT_FILE,
			    O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		log_warn("'%s': no input: %s", s->run->instance.name,
			 strerror(errno));
	return fd;
}

/* From the command's start to its status. */
static int relay(struct supervisor *s)
{
	const struct run_options *opt = s->run->opt;
	const struct agent_relay relay = {
		.in_fd = opt->interactive ? s->input_fd : -1,
		.out_fd = opt->detach ? -1 : STDOUT_FILENO,
		.err_fd = opt->detach ? -1 : STDERR_FILENO,
		.tty = opt->tty && opt->interactive && !opt->detach,
		.forward_signals = opt->forward_signals,
		.output = log_output,
		.clock = true,
		.memory = tell_memory,
		.arg = s,
		.gone_fd = s->monitor.pid_fd,
		.ends = &s->ends,
	};
	struct agent_status status;
	int r;

	if (!opt->forward_signals) {
		util_close(&s->signal_fd);
		s->signal_fd = -1;
		sigprocmask(SIG_SETMASK, &s->mask_before, NULL);
	}
	r = agent_relay(s->agent, &relay, &status);
	if (r < 0)
		return give_up(s, r);
	log_time(s, "command ended");
	if (status.oom)
		warn(s, "the command was killed for lack of memory; --memory "
			"gives more");
	/* The guest writes back what volumes are owed, and powers off. */
	if (!await_end(s))
		log_warn("'%s': the guest does not power off: ended",
			 s->run->instance.name);
	log_time(s, "monitor ended");
	return status.status;
}

static int live(struct supervisor *s)
{
	int r = agent_listen(s->run->instance.socket, &s->listen_fd);
	int status;

	if (r == 0)
		r = take_signals(s);
	if (r == 0)
		r = keeper_start(&s->run->instance, &s->keeper);
	if (r == 0)
		r = start_monitor(s);
	if (r < 0)
		return RUN_EXIT_FAILED;
	save(s);
	log_time(s, "monitor started");
	r = meet_agent(s);
	log_time(s, "agent there");
	if (r == 0)
		r = agent_configure(s->agent, &s->run->machine.agent);
	if (r < 0)
		return give_up(s, r);
	log_time(s, "guest set up");
	status = start_command(s);
	if (status != 0)
		return status;
	log_time(s, "command started");
	if (s->run->opt->interactive && s->run->opt->detach)
		s->input_fd = open_input(s);
	tell_ready(s, 0);
	return relay(s);
}

static void finish(struct supervisor *s, int status)
{
	struct run *run = s->run;

	instance_status_write(&run->instance, status);
	run->state.phase = INSTANCE_EXITED;
	run->state.finished_s = time(NULL);
	run->state.status = status;
	run->state.pid = 0;
	/* One that never ran has told the reason, and holds no name. */
	if (run->state.remove || run->state.started_s == 0) {
		(void)instance_remove(&run->instance, true);
	} else {
		(void)unlink(run->instance.socket);
		save(s);
	}
}

int supervise(struct run *run, int ready_fd)
{
	struct supervisor s = {
		.run = run,
		.monitor = {.pid_fd = -1, .console_fd = -1, .messages_fd = -1},
		.listen_fd = -1,
		.signal_fd = -1,
		.input_fd = STDIN_FILENO,
		.gone_fd = -1,
		.ready_fd = ready_fd,
		.born_ns = util_now_ns(),
	};
	int status;

	instance_status_write(&run->instance, INSTANCE_NO_STATUS);
	runlog_open(&s.log, run->instance.dir_fd);
	status = live(&s);
	agent_free(s.agent);
	monitor_done(&s.monitor);
	runlog_close(&s.log);
	util_close(&s.listen_fd);
	util_close(&s.signal_fd);
	if (s.input_fd != STDIN_FILENO)
		util_close(&s.input_fd);
	util_close(&s.gone_fd);
	finish(&s, status);
	keeper_stop(s.keeper);
	/*
	 * Last, so that a command that waits finds everything in its final
	 * state.
	 */
	tell_ready(&s, status);
	return status;
}
