/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a container, seen from the host: start the monitor, let the agent
 * in its guest start the command, pass data both ways, wait for the end. Every
 * way to end, in whatever order, ends here. It knows no instance: its hooks
 * keep what is to be kept.
 */
#include "tools/container/life.h"

#include "tools/container/helpers.h"
#include "tools/container/monitor.h"
#include "tools/container/netns-follow.h"
#include "tools/container/netns-ports.h"
#include "tools/container/netns.h"
#include "tools/container/pool.h"
#include "tools/container/run.h"
#include "tools/container/template.h"
#include "vmm/base/trace.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/vm.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

/* A guest on a host that interprets its kernel takes tens of seconds. */
#define START_TIMEOUT_MS 180000
/* How long the guest may take to write back and to power off. */
#define END_TIMEOUT_MS 15000
/* A machine that goes on has nothing to do before its agent greets. */
#define WARM_TIMEOUT_MS 60000
/* From a session's end to its monitor's, where that is the reason. */
#define CRASH_MS 2000
/* For a session that only passes on a connection. */
#define PORT_TIMEOUT_MS 10000

/* passt ends when it finds its machine gone. */
#define HELPERS_END_MS 5000

/* Percent of the guest's memory: less is worth a word. */
#define MEMORY_SHORT 10

struct running {
	const struct life *life;
	struct monitor monitor;
	struct agent_session *agent;
	int listen_fd;
	int signal_fd; /* -1: signals do as they do to any program */
	struct agent_names *names;     /* of the guest's loopback; NULL: none */
	struct netns_ports *ports;     /* NULL: they are not the guest's */
	struct netns_follow *networks; /* NULL: they do not follow any */
	struct agent_ends ends;
	int input_fd; /* the command's; borrowed where it is standard input */
	int gone_fd;  /* epoll: the monitor ended, or a signal came */
	sigset_t mask_before;
	pthread_mutex_t output_lock;  /* of the hook: networks has a thread */
	bool killed;                  /* the monitor, by us */
	bool started;                 /* the command has */
	bool told_short, told_killed; /* of its memory */
	struct helpers others; /* children that are no helpers of a monitor's */
	uint64_t born_ns;
};

static void log_time(const struct running *s, const char *what)
{
	log_debug("%s after %llu us", what,
		  (unsigned long long)(util_now_ns() - s->born_ns) / 1000);
}

/* Says why there is no status of the command's own, and has it kept. */
static int fail(struct running *s, int status, const char *text)
{
	log_error("'%s': %s", s->life->name, text);
	s->life->hooks->error(s->life->arg, text);
	return status;
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

void life_hold_signals(sigset_t *ret_before)
{
	const sigset_t set = taken_signals();

	sigprocmask(SIG_BLOCK, &set, ret_before);
}

/*
 * Until the command runs a signal ends the start; then they are the command's.
 * One that comes between the two waits, and is passed on.
 */
static int take_signals(struct running *s)
{
	const sigset_t set = taken_signals();

	if (s->life->mask_before)
		s->mask_before = *s->life->mask_before;
	else
		life_hold_signals(&s->mask_before);
	s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signal_fd < 0)
		return log_ret(-errno, "signals: %s", strerror(errno));
	return 0;
}

/* Waits for the guest from now on, up to its end or a signal. */
static int watch_monitor(struct running *s)
{
	const struct life *life = s->life;
	int r;

	trace_mark(life->cfg->trace, TRACE_FORKED);
	life->hooks->born(life->arg, s->monitor.pid);
	trace_mark(life->cfg->trace, TRACE_RECORDED);
	s->gone_fd = epoll_create1(EPOLL_CLOEXEC);
	r = s->gone_fd < 0 ? -errno : watch(s->gone_fd, s->monitor.pid_fd);
	if (r == 0)
		r = watch(s->gone_fd, s->signal_fd);
	return r < 0 ? log_ret(r, "waiting for the guest: %s", strerror(-r))
		     : 0;
}

static int start_monitor(struct running *s)
{
	const struct life *life = s->life;
	const struct monitor_options options = {
		.close_fds = {s->listen_fd, s->signal_fd, life->close_fds[0],
			      life->close_fds[1]},
		.sigmask = &s->mask_before,
		.control_dir = life->control_dir,
		.template = life->template,
		.snapshot = life->snapshot ? life->snapshot
					   : template_snapshot(life->template),
		.plug = life->netns && life->netns->places > 0,
	};
	int r = monitor_start(&s->monitor, life->cfg, &options);

	/* The monitor has its own, and its lock ends with the record. */
	template_close_record(life->template);
	return r < 0 ? r : watch_monitor(s);
}

/* One that has waited for this: its agent has greeted. */
static int take_machine(struct running *s, struct pool_taken *taken)
{
	int r = monitor_take(&s->monitor, taken);

	if (r == 0)
		r = watch_monitor(s);
	return r < 0 ? r
		     : agent_given(take_fd(&taken->agent_fd), s->gone_fd,
				   taken->agent_minor, s->life->cfg->trace,
				   &s->agent);
}

/* One session comes in this way, then nobody may any more. */
static int meet_agent(struct running *s)
{
	autofree char *path = NULL;
	const int timeout_ms = template_snapshot(s->life->template)
				       ? WARM_TIMEOUT_MS
				       : START_TIMEOUT_MS;
	int r = agent_accept(s->listen_fd, s->gone_fd, timeout_ms,
			     s->life->cfg->trace, &s->agent);

	util_close(&s->listen_fd);
	if (asprintf(&path, "%s_1024", s->life->socket) < 0)
		path = NULL;
	if (path)
		(void)unlink(path);
	return r;
}

/* The guest's name servers, where its own loopback has some of the host's. */
static int start_names(struct running *s)
{
	const char *const *names = s->life->agent->names;
	struct agent_session *agent;
	int r;

	if (!names || !*names)
		return 0;
	r = agent_connect(s->life->socket, START_TIMEOUT_MS, &agent);
	return r < 0 ? r : agent_names_open(agent, names, &s->names);
}

/*
 * The answer comes with the start's, which saves the guest from being woken for
 * each; unless there is more to do between.
 */
static int configure(struct running *s)
{
	const struct agent_config *config = s->life->agent;

	return config->names && *config->names
		       ? agent_configure(s->agent, config)
		       : agent_configure_begin(s->agent, config);
}

static int connect_agent(void *arg, struct agent_session **ret)
{
	const struct running *s = arg;

	return agent_connect(s->life->socket, PORT_TIMEOUT_MS, ret);
}

/* A guest that is paused hears of its networks when it goes on. */
static int connect_agent_unless(void *arg, int gone_fd,
				struct agent_session **ret)
{
	const struct running *s = arg;

	return agent_connect_unless(s->life->socket, gone_fd, -1, ret);
}

static int give_up(struct running *s, int error);

/* A start's result instead of an exit status, of which none is negative. */
#define START_AGAIN (-1)

static bool is_signalled(const struct running *s)
{
	struct pollfd pfd = {.fd = s->signal_fd, .events = POLLIN};

	return poll(&pfd, 1, 0) != 0;
}

/*
 * Has the guest make as much of its container as does not depend on this run.
 * 0, the exit status, or START_AGAIN: the run can do without.
 */
static int prepare_container(struct running *s)
{
	const struct life *life = s->life;
	struct agent_failure failure;
	const int r =
		agent_prepare(s->agent, life->agent, life->warm, &failure);

	trace_mark(life->cfg->trace, TRACE_PREPARED);
	log_time(s, "container prepared");
	if (r == 0)
		return 0;
	template_distrust(life->template);
	if (r == -EREMOTEIO && life->template_only)
		return fail(s, failure.status, failure.text);
	if (r == -EREMOTEIO)
		log_warn("'%s': no template has its container: %s", life->name,
			 failure.text);
	if (r == -EINTR || life->template_only || is_signalled(s))
		return give_up(s, r == -EREMOTEIO ? -ECONNRESET : r);
	return START_AGAIN;
}

/* Whether the container in the template may be why no program was started. */
static bool is_suspect(struct running *s, const struct agent_failure *failure)
{
	const struct life *life = s->life;

	if (failure->status != RUN_EXIT_FAILED || is_signalled(s) ||
	    !template_made_container(life->template) ||
	    (life->hooks->is_vain && life->hooks->is_vain(life->arg)))
		return false;
	return template_suspect(life->template);
}

/* 0, the exit status, or START_AGAIN: the template was to blame. */
static int start_command(struct running *s)
{
	const struct life *life = s->life;
	const struct agent_start_options options = {
		.main = true,
		.init = life->init,
		.input = life->interactive,
		.filter = life->filter,
	};
	struct agent_failure failure;
	int r = agent_watch(s->agent, MEMORY_SHORT);

	if (r == 0)
		r = agent_start(s->agent, life->process, &options, &failure,
				NULL);
	if (r == -EREMOTEIO) {
		/* No program has run. */
		if (is_suspect(s, &failure)) {
			log_debug("'%s': once more, from no template that has "
				  "its container: %s",
				  life->name, failure.text);
			return START_AGAIN;
		}
		return fail(s, failure.status, failure.text);
	}
	if (r < 0)
		return give_up(s, r);
	template_blame(life->template);
	/* The rest is the command's, and not the start's. */
	if (template_records(life->template))
		template_end_record(life->cfg->control, s->gone_fd);
	s->started = true;
	life->hooks->started(life->arg);
	return 0;
}

/* The same where the command runs already, and stands still. */
static int attach_command(struct running *s)
{
	const struct life *life = s->life;
	const struct agent_start_options options = {
		.main = true,
		.input = life->interactive,
	};
	int r = agent_watch(s->agent, MEMORY_SHORT);

	if (r == 0)
		r = agent_attach(s->agent, life->hostname, life->clone,
				 &options, NULL);
	if (r < 0)
		return give_up(s, r);
	s->started = true;
	life->hooks->started(life->arg);
	return 0;
}

/* ---- the end */

/* The machine is off, and nobody ended it. */
static int explain_power_off(struct running *s)
{
	char text[256] = "its agent did not start: ";
	const size_t n = strlen(text);

	/* Until the agent is met, all words are the kernel's and the agent's.
	 */
	if (!s->agent && monitor_find_word(&s->monitor, "bulkhead-init: ",
					   text + n, sizeof(text) - n))
		return fail(s, RUN_EXIT_FAILED, text);
	return fail(s, RUN_EXIT_FAILED,
		    "its machine powered off before the command's end was "
		    "known");
}

/* The agent is gone: how the monitor ended says why. */
static int explain_end(struct running *s)
{
	const int status = s->monitor.wait_status;
	char killer[LIFE_KILLER_BYTES];
	char text[128];

	if (s->killed)
		return RUN_EXIT_FAILED;
	s->life->hooks->killer(s->life->arg, killer);
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
		return explain_power_off(s);
	case VM_EXIT_CRASH:
		(void)monitor_print_tail(&s->monitor, STDERR_FILENO);
		return fail(s, RUN_EXIT_FAILED,
			    "its guest crashed; more --memory helps where it "
			    "ran out");
	default: /* said already, by the monitor itself */
		s->life->hooks->error(s->life->arg,
				      s->monitor.error[0]
					      ? s->monitor.error
					      : "its monitor gave up");
		return RUN_EXIT_FAILED;
	}
}

static bool signal_came(struct running *s, int *ret_signal)
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
static bool await_end(struct running *s)
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
static int give_up(struct running *s, int error)
{
	int signal;

	/* Before the command a signal ends the start, whatever else fails. */
	if ((error == -ECONNRESET || !s->started) && signal_came(s, &signal)) {
		monitor_kill(&s->monitor);
		(void)monitor_wait(&s->monitor, -1);
		return 128 + signal;
	}
	if (error == -EINTR) {
		monitor_kill(&s->monitor);
		(void)monitor_wait(&s->monitor, -1);
		return LIFE_KILLED;
	}
	/* The guest's last output explains a crash: wait for it. */
	if (error != -ECONNRESET || !await_end(s)) {
		s->killed = true;
		monitor_kill(&s->monitor);
		(void)monitor_wait(&s->monitor, -1);
		if (error == -ETIME) {
			(void)monitor_print_tail(&s->monitor, STDERR_FILENO);
			s->life->hooks->error(s->life->arg,
					      "its guest did not answer in "
					      "time, and was ended");
		}
	}
	/* It came as far as its agent, and no container can be the reason. */
	if (!s->started && template_snapshot(s->life->template) &&
	    WIFEXITED(s->monitor.wait_status) &&
	    WEXITSTATUS(s->monitor.wait_status) == VM_EXIT_CRASH) {
		log_warn("'%s': its template is no good, and removed: run it "
			 "once more",
			 s->life->name);
		template_drop(s->life->template);
	}
	return explain_end(s);
}

static int give_output(struct running *s, int stream, const void *data,
		       size_t bytes)
{
	int r;

	pthread_mutex_lock(&s->output_lock);
	r = s->life->hooks->output(s->life->arg, stream, data, bytes);
	pthread_mutex_unlock(&s->output_lock);
	return r;
}

/* To stderr in the foreground, to the hooks' log in the background. */
static void warn(struct running *s, const char *text)
{
	char line[256];
	int n = snprintf(line, sizeof(line), "bulkhead: %s\n", text);

	log_warn("'%s': %s", s->life->name, text);
	if (s->life->detach)
		(void)give_output(s, STDERR_FILENO, line, (size_t)n);
}

static void tell_killed(struct running *s)
{
	if (s->life->hooks->out_of_memory)
		s->life->hooks->out_of_memory(s->life->arg);
}

/* Each message comes once: the shortage may last. */
static void tell_memory(void *arg, const struct agent_memory *memory)
{
	struct running *s = arg;
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
		tell_killed(s);
		s->told_killed = true;
	}
}

/* On the watching thread. */
static void tell_network(void *arg, const char *text)
{
	warn(arg, text);
}

/* Changes that came while the guest started are looked at now. */
static int follow_networks(struct running *s)
{
	const struct netns_follow_options options = {
		.netns = s->life->netns,
		.plug_fd = s->monitor.plug_fd,
		.names = s->life->agent->names,
		.connect = connect_agent_unless,
		.tell = tell_network,
		.arg = s,
	};

	return options.netns && options.netns->places > 0
		       ? netns_follow_start(&options, &s->networks)
		       : 0;
}

static int pass_output(void *arg, int stream, const void *data, size_t bytes)
{
	return give_output(arg, stream, data, bytes);
}

/*
 * The guest writes back what volumes are owed, and powers off: unless it owes
 * nothing, and nobody (LAST) waits for other ends.
 */
static void end_machine(struct running *s, bool last)
{
	if (last && s->life->disposable &&
	    !template_records(s->life->template)) {
		monitor_kill(&s->monitor);
		(void)monitor_wait(&s->monitor, -1);
	} else if (!await_end(s)) {
		log_warn("'%s': the guest does not power off: ended",
			 s->life->name);
	}
}

/* From the command's start to its status. */
static int relay(struct running *s)
{
	const struct life *life = s->life;
	const struct agent_relay relay = {
		.in_fd = life->interactive ? s->input_fd : -1,
		.out_fd = life->detach ? -1 : STDOUT_FILENO,
		.err_fd = life->detach ? -1 : STDERR_FILENO,
		.tty = life->process->terminal && life->interactive &&
		       !life->detach,
		.forward_signals = life->forward_signals,
		.every_signal = life->every_signal,
		.output = pass_output,
		.clock = true,
		.memory = tell_memory,
		.arg = s,
		.gone_fd = s->monitor.pid_fd,
		.ends = &s->ends,
	};
	struct agent_status status;
	int r;

	if (!life->forward_signals) {
		util_close(&s->signal_fd);
		sigprocmask(SIG_SETMASK, &s->mask_before, NULL);
	}
	r = follow_networks(s);
	if (r == 0)
		r = agent_relay(s->agent, &relay, &status);
	netns_follow_stop(take_ptr(s->networks));
	/* The guest's agent would wait for them. */
	agent_names_close(take_ptr(s->names));
	netns_ports_close(take_ptr(s->ports));
	if (r < 0)
		return give_up(s, r);
	log_time(s, "command ended");
	if (status.oom) {
		warn(s, "the command was killed for lack of memory; --memory "
			"gives more");
		tell_killed(s);
	}
	end_machine(s, status.last);
	trace_mark(life->cfg->trace, TRACE_GONE);
	log_time(s, "monitor ended");
	return status.status;
}

/* *RET_STARTED: the monitor was, so there is something to explain. */
static int start_machine(struct running *s, bool *ret_started)
{
	struct pool_taken *taken = template_taken(s->life->template);
	int r;

	if (taken) {
		*ret_started = true;
		r = take_machine(s, taken);
		log_time(s, "machine taken");
		return r;
	}
	r = agent_listen(s->life->socket, &s->listen_fd);
	if (r == 0)
		r = start_monitor(s);
	*ret_started = r == 0;
	log_time(s, "monitor started");
	if (r == 0)
		r = meet_agent(s);
	log_time(s, "agent there");
	return r;
}

/*
 * A machine that its template does not fit ends by itself and says so; one that
 * is broken crashes, or stays silent. Its command was not asked for yet.
 */
static bool is_unfit(struct running *s, int error)
{
	int status;

	if ((!template_snapshot(s->life->template) &&
	     !template_taken(s->life->template)) ||
	    is_signalled(s))
		return false;
	if (error == -ETIME)
		return true;
	if (error != -ECONNRESET || monitor_wait(&s->monitor, CRASH_MS) < 0)
		return false;
	status = s->monitor.wait_status;
	return WIFEXITED(status) && (WEXITSTATUS(status) == VM_EXIT_SNAPSHOT ||
				     WEXITSTATUS(status) == VM_EXIT_CRASH);
}

/* 0, the exit status, or START_AGAIN: something came before the command. */
static int answer_error(struct running *s, int error)
{
	if (!is_unfit(s, error))
		return give_up(s, error);
	log_warn(template_taken(s->life->template)
			 ? "'%s': its machine of a pool is no good, and is "
			   "given up"
			 : "'%s': its template is no good any more, and "
			   "removed",
		 s->life->name);
	return START_AGAIN;
}

/* The machine, before it has been told anything of this run. */
static int keep_template(struct running *s)
{
	const struct life *life = s->life;
	const int saved =
		template_save(life->template, life->cfg->control, s->gone_fd);

	trace_mark(life->cfg->trace, TRACE_TEMPLATE);
	log_time(s, "template kept");
	return saved;
}

/* All that the command needs, short of itself. 0 or -errno. */
static int set_up_guest(struct running *s)
{
	const struct life *life = s->life;
	int r = life->snapshot ? 0 : configure(s);

	if (r == 0)
		r = start_names(s);
	/* The monitor runs already, and has none of its descriptors. */
	if (r == 0 && life->ports)
		(void)netns_ports_open(connect_agent, s, &s->ports);
	log_time(s, "guest set up");
	return r;
}

/*
 * From nothing to the command: *RET_DONE, if the run ends here. 0, the exit
 * status, or START_AGAIN.
 */
static int start(struct running *s, bool *ret_done)
{
	const struct life *life = s->life;
	bool started = false;
	int status = 0;
	int r = start_machine(s, &started);

	if (r < 0)
		return started ? answer_error(s, r) : RUN_EXIT_FAILED;
	if (template_is_prepared(life->template))
		status = prepare_container(s);
	if (status != 0)
		return status;
	if (template_is_wanted(life->template)) {
		r = keep_template(s);
		*ret_done = life->template_only;
		if (life->template_only && r != -ECONNRESET)
			return r < 0 ? RUN_EXIT_FAILED : 0;
		if (r != -ECONNRESET)
			r = template_show(life->cfg->control, s->gone_fd);
	}
	if (r == 0)
		r = set_up_guest(s);
	if (r < 0)
		return answer_error(s, r);
	return life->snapshot ? attach_command(s) : start_command(s);
}

/* Whether ports of the host's are the guest's, by a helper of its monitor's. */
static bool publishes(const struct config *cfg)
{
	for (unsigned i = 0; i < cfg->ndevices; i++) {
		if (config_text(&cfg->device[i], "publish"))
			return true;
	}
	return false;
}

/*
 * Nothing is left of a machine: those who start another one with the same ports
 * of the host's find them free, and no process of a monitor that its guest has
 * broken into is there any more. It may fork, to be saved alive.
 */
static void clear(struct running *s)
{
	agent_names_close(take_ptr(s->names));
	netns_ports_close(take_ptr(s->ports));
	agent_free(take_ptr(s->agent));
	monitor_done(&s->monitor);
	s->monitor = MONITOR_NONE;
	util_close(&s->listen_fd);
	util_close(&s->gone_fd);
	helpers_await(&s->others, publishes(s->life->cfg) ? HELPERS_END_MS : 0);
}

/* Without the template, or the part of it, that cannot be used. */
static int start_again(struct running *s)
{
	const struct life *life = s->life;

	clear(s);
	trace_restart(life->cfg->trace);
	if (life->hooks->cold(life->arg) < 0)
		return RUN_EXIT_FAILED;
	/* One that only makes a template has no command to run. */
	if (life->template_only && !template_is_wanted(life->template))
		return fail(s, RUN_EXIT_FAILED,
			    "no template was made: the one that it begins "
			    "from was no good: make it once more");
	return 0;
}

static int live(struct running *s)
{
	const struct life *life = s->life;
	bool done = false;
	struct helpers first;
	int status;
	int r = take_signals(s);

	helpers_find(&first);
	if (r == 0)
		r = life->hooks->begin(life->arg);
	/*
	 * Only where all that is left over is a monitor's: a shell that has
	 * executed this program may have others in the background.
	 */
	if (first.n == 0)
		helpers_begin(&s->others);
	trace_mark(life->cfg->trace, TRACE_KEEPER);
	if (r < 0)
		return RUN_EXIT_FAILED;
	while ((status = start(s, &done)) == START_AGAIN) {
		status = start_again(s);
		if (status != 0)
			break;
	}
	if (status != 0 || done)
		return status;
	log_time(s, "command started");
	if (life->interactive && life->detach)
		s->input_fd = life->hooks->input(life->arg);
	life->hooks->ready(life->arg);
	return relay(s);
}

int life_run(const struct life *life)
{
	struct running s = {
		.life = life,
		.monitor = MONITOR_NONE,
		.listen_fd = -1,
		.signal_fd = -1,
		.input_fd = STDIN_FILENO,
		.gone_fd = -1,
		.output_lock = PTHREAD_MUTEX_INITIALIZER,
		.born_ns = util_now_ns(),
	};
	const int status = live(&s);

	clear(&s);
	util_close(&s.signal_fd);
	if (s.input_fd != STDIN_FILENO)
		util_close(&s.input_fd);
	return status;
}
