/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Standard input and output of a process in the guest, its terminal and its
 * signals, until it ends. Nothing is kept but the frame at hand: a side that
 * does not read holds up the other, as a pipe would. But nothing waits for
 * output to be read, or for the guest: signals are taken first, always.
 */
#include "tools/agent/agent.h"

#include "devices/host/terminal.h"
#include "tools/agent/agent-parts.h"
#include "vmm/base/log.h"
#include "vmm/base/trace.h"
#include "vmm/base/util.h"

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define ACK_MS 5000
/* From a signal that means an end to a word about what has not ended. */
#define GOES_ON_MS 5000
/* From the terminal's end to that of a process that does not heed SIGHUP. */
#define HANGUP_MS 10000
/* Bytes of standard input at a time, so that signals need not wait for more. */
#define INPUT_BYTES 16384
/* To a terminal that poll() calls writable, and that takes nothing. */
#define STUCK_MS 20
/* The guest's clock drifts about 10 ms between two corrections. */
#define CLOCK_SECONDS 600

struct relay {
	struct agent_session *agent;
	const struct agent_relay *spec;
	int signal_fd;    /* owned */
	int clock_fd;     /* owned; -1: the guest's clock is not looked after */
	uint64_t signals; /* for the guest: bit N is signal N + 1 */
	bool resized;
	struct agent_ends own_ends, *ends;
	bool told_goes_on;
	struct terminal_end out[2]; /* standard output and error */
	bool input;                 /* there may be more */
	uint64_t end_ns; /* not beyond: the terminal has gone; 0: it has not */
	uint64_t closed; /* streams the guest is to be told of, as bits */
	struct {
		unsigned stream;
		const uint8_t *data; /* borrowed from the reader */
		size_t left;
		bool stuck; /* looked at again after STUCK_MS */
	} pending;
	bool raw;
	struct termios saved;
	sigset_t saved_mask;
	struct sigaction saved_pipe;
};

enum {
	RELAY_AGENT,
	RELAY_IN,
	RELAY_OUT,
	RELAY_SIGNAL,
	RELAY_CLOCK,
	RELAY_GONE,
	RELAY_SOURCES
};

/* ---- the host's side of a terminal, and signals */

static void put_size(struct relay *relay)
{
	struct agent_size wire;
	struct winsize size;

	if (!relay->spec->tty || ioctl(relay->spec->in_fd, TIOCGWINSZ, &size))
		return;
	wire.rows = htole16(size.ws_row);
	wire.columns = htole16(size.ws_col);
	agent_put(relay->agent, AGENT_RESIZE, &wire, sizeof(wire));
}

/*
 * But for those that this process's own children and writes raise, and two that
 * the C library keeps for itself. Its own faults end it all the same: for them
 * the kernel, and abort(3), take no notice of what is blocked.
 */
static sigset_t every_signal(void)
{
	static const int kept[] = {SIGCHLD, SIGPIPE};
	sigset_t set;

	sigfillset(&set);
	for (unsigned i = 0; i < ARRAY_LEN(kept); i++)
		sigdelset(&set, kept[i]);
	return set;
}

static sigset_t caught_signals(const struct agent_relay *spec)
{
	static const int forwarded[] = {SIGHUP,  SIGINT,  SIGQUIT,
					SIGTERM, SIGUSR1, SIGUSR2};

	if (spec->every_signal)
		return every_signal();
	return util_signals(forwarded,
			    spec->forward_signals ? ARRAY_LEN(forwarded) : 0);
}

static int catch_signals(struct relay *relay)
{
	const struct sigaction ignore = {.sa_handler = SIG_IGN};
	sigset_t set = caught_signals(relay->spec);

	if (relay->spec->tty)
		sigaddset(&set, SIGWINCH);
	relay->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (relay->signal_fd < 0)
		return log_ret(-errno, "signalfd: %s", strerror(errno));
	sigprocmask(SIG_BLOCK, &set, &relay->saved_mask);
	sigaction(SIGPIPE, &ignore, &relay->saved_pipe);
	return 0;
}

bool agent_ends_count(struct agent_ends *ends, int signal)
{
	const uint64_t now = util_now_ns();
	const uint64_t apart = AGENT_ENDS_APART_MS * UINT64_C(1000000);

	if (signal != SIGINT && signal != SIGTERM && signal != SIGQUIT)
		return false;
	if (ends->count > 0 && now - ends->last_ns < apart)
		return false;
	ends->last_ns = now;
	return ++ends->count >= 2;
}

/*
 * A command may ignore a signal, as PID 1 does unless it handles it, and the
 * guest may hang: a second signal ends the relay. 0 or -EINTR (logged).
 */
static int take_signals(struct relay *relay)
{
	struct signalfd_siginfo info;

	while (read(relay->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGWINCH && relay->spec->tty) {
			relay->resized = true;
			continue;
		}
		if (!relay->spec->every_signal &&
		    agent_ends_count(relay->ends, (int)info.ssi_signo))
			return log_ret(-EINTR, "a second signal to end came: "
					       "not waiting for the command");
		relay->signals |= UINT64_C(1) << (info.ssi_signo - 1);
	}
	return 0;
}

static void put_signal(struct relay *relay)
{
	const int signal = __builtin_ctzll(relay->signals) + 1;
	const struct agent_signal wire = {htole32((uint32_t)signal)};

	relay->signals &= relay->signals - 1;
	agent_put(relay->agent, AGENT_SIGNAL, &wire, sizeof(wire));
}

/*
 * Gets readable when it is time, and at once when this host's clock is set or
 * the host wakes up: TFD_TIMER_CANCEL_ON_SET.
 */
static int arm_clock(struct relay *relay)
{
	struct itimerspec spec = {.it_value.tv_nsec = 0};
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	spec.it_value.tv_sec = now.tv_sec + CLOCK_SECONDS;
	if (timerfd_settime(relay->clock_fd,
			    TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &spec,
			    NULL) < 0)
		return log_ret(-errno, "timer: %s", strerror(errno));
	return 0;
}

static int watch_clock(struct relay *relay)
{
	if (!relay->spec->clock)
		return 0;
	relay->clock_fd =
		timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	return relay->clock_fd < 0
		       ? log_ret(-errno, "timer: %s", strerror(errno))
		       : arm_clock(relay);
}

static int put_clock(struct relay *relay)
{
	const struct agent_time wire = agent_time_now();
	uint64_t times;

	/* ECANCELED is as good a reason as any. */
	if (read(relay->clock_fd, &times, sizeof(times)) < 0 && errno == EAGAIN)
		return 0;
	agent_put(relay->agent, AGENT_CLOCK, &wire, sizeof(wire));
	return arm_clock(relay);
}

static void set_raw(struct relay *relay)
{
	struct termios raw;

	if (!relay->spec->tty ||
	    tcgetattr(relay->spec->in_fd, &relay->saved) < 0)
		return;
	raw = relay->saved;
	cfmakeraw(&raw);
	relay->raw = tcsetattr(relay->spec->in_fd, TCSANOW, &raw) == 0;
}

static int relay_begin(struct relay *relay, struct agent_session *agent,
		       const struct agent_relay *spec)
{
	int r;

	agent->gone_fd = -1;
	*relay = (struct relay){
		.agent = agent,
		.spec = spec,
		.signal_fd = -1,
		.clock_fd = -1,
		.input = agent->input && spec->in_fd >= 0,
	};
	relay->ends = spec->ends ? spec->ends : &relay->own_ends;
	terminal_end_open(&relay->out[0], spec->out_fd, true);
	terminal_end_open(&relay->out[1], spec->err_fd, true);
	r = catch_signals(relay);
	if (r == 0)
		r = watch_clock(relay);
	if (r < 0)
		return r;
	set_raw(relay);
	put_size(relay);
	/* It waits for input that nobody can give. */
	if (agent->input && !relay->input)
		agent_put(agent, AGENT_STDIN_EOF, NULL, 0);
	return 0;
}

static void relay_end(struct relay *relay)
{
	/* Not TCSADRAIN: that waits until what is written has been read. */
	if (relay->raw)
		tcsetattr(relay->spec->in_fd, TCSANOW, &relay->saved);
	terminal_end_close(&relay->out[0]);
	terminal_end_close(&relay->out[1]);
	util_close(&relay->clock_fd);
	if (relay->signal_fd < 0)
		return;
	sigaction(SIGPIPE, &relay->saved_pipe, NULL);
	util_close(&relay->signal_fd);
	sigprocmask(SIG_SETMASK, &relay->saved_mask, NULL);
}

/* ---- data */

/*
 * A raw terminal gives no end of file but its own. PID 1 may take no notice of
 * this signal; nobody is left to send another.
 */
static void hang_up(struct relay *relay)
{
	const struct agent_signal wire = {htole32(SIGHUP)};

	relay->end_ns = util_now_ns() + HANGUP_MS * UINT64_C(1000000);
	agent_put(relay->agent, AGENT_SIGNAL, &wire, sizeof(wire));
}

static void take_input(struct relay *relay)
{
	struct agent_session *agent = relay->agent;
	uint8_t data[INPUT_BYTES];
	ssize_t n = read(relay->spec->in_fd, data,
			 (size_t)min_u64(sizeof(data), agent->window));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n > 0) {
		agent->window -= (size_t)n;
		agent_put(agent, AGENT_STDIN, data, (size_t)n);
		return;
	}
	relay->input = false;
	if (relay->spec->tty)
		hang_up(relay);
	else
		agent_put(agent, AGENT_STDIN_EOF, NULL, 0);
}

/* As much as is taken without waiting. */
static void write_output(struct relay *relay)
{
	const unsigned stream = relay->pending.stream;
	struct terminal_end *out = &relay->out[stream];
	const ssize_t done = terminal_end_write(out, relay->pending.data,
						relay->pending.left);

	relay->pending.stuck = done < 0 && errno == EAGAIN;
	if (done < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (done < 0) {
		if (errno != EPIPE)
			log_error("standard %s: %s",
				  stream ? "error" : "output", strerror(errno));
		terminal_end_close(out);
		relay->closed |= UINT64_C(1) << stream;
		relay->pending.left = 0;
		return;
	}
	relay->pending.data += done;
	relay->pending.left -= (size_t)done;
}

static int take_output(struct relay *relay, unsigned stream,
		       const struct agent_message *m)
{
	int r = 0;

	if (m->bytes == 0)
		return agent_violation("output of no bytes");
	trace_mark(relay->agent->trace, TRACE_OUTPUT);
	if (relay->spec->output)
		r = relay->spec->output(relay->spec->arg, (int)stream + 1,
					m->payload, m->bytes);
	relay->pending.stream = stream;
	relay->pending.data = m->payload;
	relay->pending.left = relay->out[stream].fd < 0 ? 0 : m->bytes;
	return r < 0 ? r : 0;
}

/* 1: it is over. */
static int take_exit(struct relay *relay, const struct agent_message *m,
		     struct agent_status *ret)
{
	struct agent_session *agent = relay->agent;
	struct agent_exit wire;
	uint32_t status, signal;
	int r;

	if (agent_message_copy(m, &wire, sizeof(wire)))
		return agent_violation("an end that is none");
	status = le32toh(wire.status);
	signal = le32toh(wire.signal);
	if (status > 255 || signal > 64 || (status && signal))
		return agent_violation("an exit status that cannot be");
	trace_mark(agent->trace, TRACE_ENDED);
	*ret = (struct agent_status){
		.status = (int)(signal ? 128 + signal : status),
		.signal = (int)signal,
		.oom = le32toh(wire.flags) & AGENT_EXIT_OOM,
		.last = le32toh(wire.flags) & AGENT_EXIT_LAST,
	};
	agent->started = false;
	/* A signal ends the wait for the guest to take this. */
	agent->gone_fd = relay->signal_fd;
	r = agent_flush_all(agent, ACK_MS);
	if (r == 0)
		agent_put(agent, AGENT_EXIT_ACK, NULL, 0);
	/* The status counts, whether or not the guest hears of it. */
	if (r == 0)
		agent_flush_all(agent, ACK_MS);
	agent->gone_fd = -1;
	return 1;
}

/* The last event there was, which may have come before the process. */
static void tell_event(struct relay *relay)
{
	struct agent_session *agent = relay->agent;

	if (agent->memory.what && relay->spec->memory)
		relay->spec->memory(relay->spec->arg, &agent->memory);
	agent->memory = (struct agent_memory){0};
}

/* 0, 1 when the process is over, or -errno (logged). */
static int take_frame(struct relay *relay, const struct agent_message *m,
		      struct agent_status *ret)
{
	int r;

	switch (m->type) {
	case AGENT_STDOUT:
		return take_output(relay, 0, m);
	case AGENT_STDERR:
		return take_output(relay, 1, m);
	case AGENT_STDIN_MORE:
		return agent_take_credit(relay->agent, m);
	case AGENT_STDIN_CLOSED:
		if (m->bytes != 0)
			return agent_violation("a frame that cannot be");
		relay->input = false;
		return 0;
	case AGENT_EXIT:
		return take_exit(relay, m, ret);
	case AGENT_EVENT:
		r = agent_take_event(relay->agent, m);
		tell_event(relay);
		return r;
	default:
		return agent_violation("a frame out of place");
	}
}

/* Frames, until one of them has to be written out first. */
static int take_frames(struct relay *relay, bool readable,
		       struct agent_status *ret)
{
	struct agent_message m;

	while (relay->pending.left == 0) {
		int r = agent_take(relay->agent, &readable, &m);

		/* The code that watches the VM says how it ended. */
		if (r == -ECONNRESET && relay->spec->gone_fd < 0)
			log_error("the guest ended before its command");
		if (r <= 0)
			return r;
		r = take_frame(relay, &m, ret);
		if (r != 0)
			return r;
	}
	return 0;
}

/* ---- the loop */

static void fill_poll(const struct relay *relay, struct pollfd *pfd)
{
	const struct agent_session *agent = relay->agent;
	const bool idle = agent->out_end == 0;

	for (unsigned i = 0; i < RELAY_SOURCES; i++)
		pfd[i] = (struct pollfd){.fd = -1, .events = POLLIN};
	pfd[RELAY_AGENT].events = (short)((relay->pending.left ? 0 : POLLIN) |
					  (idle ? 0 : POLLOUT));
	if (pfd[RELAY_AGENT].events)
		pfd[RELAY_AGENT].fd = agent->fd;
	if (idle && relay->input && (agent->window > 0 || relay->spec->tty))
		pfd[RELAY_IN].fd = relay->spec->in_fd;
	/* Its end is seen all the same. */
	if (agent->window == 0)
		pfd[RELAY_IN].events = 0;
	if (relay->pending.left && !relay->pending.stuck) {
		pfd[RELAY_OUT].fd = relay->out[relay->pending.stream].fd;
		pfd[RELAY_OUT].events = POLLOUT;
	}
	pfd[RELAY_SIGNAL].fd = relay->signal_fd;
	if (idle)
		pfd[RELAY_CLOCK].fd = relay->clock_fd;
	if (!relay->pending.left)
		pfd[RELAY_GONE].fd = relay->spec->gone_fd;
}

/*
 * Something short for the guest; only while nothing waits to be sent. 0 or
 * -errno (logged).
 */
static int put_next(struct relay *relay, const struct pollfd *pfd)
{
	if (relay->closed) {
		const unsigned stream = relay->closed & 1 ? 0 : 1;
		const struct agent_stream wire = {htole32(stream + 1)};

		relay->closed &= ~(UINT64_C(1) << stream);
		agent_put(relay->agent, AGENT_CLOSED, &wire, sizeof(wire));
	} else if (relay->signals) {
		put_signal(relay);
	} else if (relay->resized) {
		relay->resized = false;
		put_size(relay);
	} else if (pfd[RELAY_CLOCK].revents) {
		return put_clock(relay);
	} else if (pfd[RELAY_IN].revents) {
		take_input(relay);
	}
	return 0;
}

/*
 * PID 1 takes no signal that it does not handle, and a shell at a terminal
 * ignores the usual ones: says so when one had its time. Until then, in ms; -1:
 * there is nothing to say.
 */
static int tell_goes_on(struct relay *relay)
{
	const uint64_t then =
		relay->ends->last_ns + GOES_ON_MS * UINT64_C(1000000);
	const uint64_t now = util_now_ns();

	if (relay->ends->count != 1 || relay->told_goes_on)
		return -1;
	if (now < then)
		return (int)((then - now) / 1000000) + 1;
	relay->told_goes_on = true;
	log_warn("the command goes on after the signal: a second signal to end "
		 "it stops waiting for it");
	return -1;
}

static int sooner(int a_ms, int b_ms)
{
	return b_ms < 0 || (a_ms >= 0 && a_ms < b_ms) ? a_ms : b_ms;
}

/* For poll(2); -EINTR (logged): what should have ended has not. */
static int time_left(const struct relay *relay)
{
	const bool stuck = relay->pending.left && relay->pending.stuck;
	const uint64_t now = util_now_ns();

	if ((relay->closed || relay->signals || relay->resized) &&
	    !relay->agent->out_end)
		return 0;
	if (relay->end_ns == 0)
		return stuck ? STUCK_MS : -1;
	if (now >= relay->end_ns)
		return log_ret(-EINTR, "the terminal has gone: not waiting for "
				       "the command");
	return stuck ? STUCK_MS : (int)((relay->end_ns - now) / 1000000) + 1;
}

/* 0, 1 when the process is over, or -errno. */
static int relay_step(struct relay *relay, struct agent_status *ret)
{
	struct agent_session *agent = relay->agent;
	struct pollfd pfd[RELAY_SOURCES];
	const bool waited = relay->pending.stuck;
	int timeout_ms, r;

	r = agent_flush(agent);
	if (r < 0)
		return r;
	timeout_ms = time_left(relay);
	if (timeout_ms == -EINTR)
		return timeout_ms;
	timeout_ms = sooner(timeout_ms, tell_goes_on(relay));
	fill_poll(relay, pfd);
	if (poll(pfd, RELAY_SOURCES, timeout_ms) < 0)
		return errno == EINTR
			       ? 0
			       : log_ret(-errno, "poll: %s", strerror(errno));
	if (pfd[RELAY_SIGNAL].revents)
		r = take_signals(relay);
	if (r == 0 && agent->out_end == 0)
		r = put_next(relay, pfd);
	if (r < 0)
		return r;
	if (pfd[RELAY_OUT].revents || (relay->pending.left && waited))
		write_output(relay);
	r = take_frames(relay, pfd[RELAY_AGENT].revents & ~POLLOUT, ret);
	if (r == 0 && pfd[RELAY_GONE].revents && !pfd[RELAY_AGENT].revents)
		return -ECONNRESET;
	return r;
}

int agent_relay(struct agent_session *agent, const struct agent_relay *spec,
		struct agent_status *ret_status)
{
	struct relay relay;
	int r;

	if (!agent->started)
		return log_ret(-EINVAL, "the session has no process");
	r = relay_begin(&relay, agent, spec);
	/*
	 * Frames that came together with STARTED are here: poll() does not see
	 * them.
	 */
	if (r == 0) {
		tell_event(&relay);
		r = take_frames(&relay, false, ret_status);
	}
	while (r == 0)
		r = relay_step(&relay, ret_status);
	relay_end(&relay);
	return r < 0 ? r : 0;
}
