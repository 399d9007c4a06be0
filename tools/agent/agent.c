/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions with the guest's agent: how they begin, frames, small requests. */
#include "tools/agent/agent.h"

#include "tools/agent/agent-parts.h"
#include "vmm/base/log.h"
#include "vmm/base/text.h"
#include "vmm/base/trace.h"
#include "vmm/base/util.h"

#include <assert.h>
#include <ctype.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

/* Small requests: an agent that is there answers at once. */
#define ANSWER_MS 30000
/* Several instances are asked in turn. */
#define STATS_MS    3000
#define STATS_MINOR 5
/* Between two tries to reach an agent that has not started. */
#define RETRY_MS 5
/* From the end of a session to that of its VM, if that is why. */
#define GONE_MS 2000

int agent_violation(const char *what)
{
	return log_ret(-EPROTO, "the guest's agent broke the protocol: %s",
		       what);
}

int agent_take(struct agent_session *agent, bool *readable,
	       struct agent_message *ret)
{
	for (;;) {
		const int r = agent_reader_next(&agent->reader, ret);
		ssize_t n;

		if (r < 0)
			return agent_violation("a frame that cannot be");
		if (r > 0)
			return 1;
		if (!*readable)
			return 0;
		*readable = false;
		n = agent_reader_fill(&agent->reader, agent->fd);
		if (n == -EAGAIN)
			return 0;
		if (n <= 0)
			return -ECONNRESET;
	}
}

int agent_take_credit(struct agent_session *agent,
		      const struct agent_message *m)
{
	struct agent_credit wire;

	if (agent_message_copy(m, &wire, sizeof(wire)) ||
	    le32toh(wire.bytes) > AGENT_STDIN_WINDOW - agent->window)
		return agent_violation("more credit than there is");
	agent->window += le32toh(wire.bytes);
	return 0;
}

/* ---- time */

static uint64_t deadline(int timeout_ms)
{
	return timeout_ms < 0 ? UINT64_MAX
			      : util_now_ns() + (uint64_t)timeout_ms * 1000000;
}

/* For poll(): what is left, rounded up; -1: for ever. */
static int left_ms(uint64_t until)
{
	const uint64_t now = util_now_ns();

	if (until == UINT64_MAX)
		return -1;
	return until <= now ? 0
			    : (int)min_u64((until - now) / 1000000 + 1, 60000);
}

struct agent_time agent_time_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (struct agent_time){
		.seconds = htole64((uint64_t)now.tv_sec),
		.nanoseconds = htole32((uint32_t)now.tv_nsec),
	};
}

/*
 * 1: one of EVENTS; 0: too late; -ECONNRESET: GONE_FD (or -1) is readable and
 * FD not; -errno.
 */
static int wait_for(int fd, int gone_fd, short events, uint64_t until)
{
	struct pollfd pfd[2] = {
		{.fd = fd, .events = events},
		{.fd = gone_fd, .events = POLLIN},
	};
	int r;

	do {
		r = poll(pfd, 2, left_ms(until));
	} while ((r < 0 && errno == EINTR) || (r == 0 && left_ms(until) != 0));
	if (r > 0 && !pfd[0].revents)
		return -ECONNRESET;
	return r < 0 ? -errno : r > 0;
}

/* The connection ended: -ECONNRESET, logged unless the VM's end tells why. */
static int session_ended(const struct agent_session *agent)
{
	const uint64_t until = deadline(GONE_MS);

	if (agent->gone_fd >= 0 &&
	    wait_for(-1, agent->gone_fd, 0, until) == -ECONNRESET)
		return -ECONNRESET;
	return log_ret(-ECONNRESET, "the guest's agent is gone");
}

/* wait_for()'s answer R, other than 1, as an error. */
static int waited_in_vain(int r, const char *what)
{
	if (r == -ECONNRESET)
		return r;
	return log_ret(r ? r : -ETIME, "the guest's agent %s", what);
}

/* ---- frames */

void agent_put(struct agent_session *agent, enum agent_type type,
	       const void *payload, size_t bytes)
{
	const struct agent_frame frame = agent_frame_make(type, bytes);

	assert(sizeof(frame) + bytes <= AGENT_OUT_ROOM - agent->out_end);
	memcpy(agent->out + agent->out_end, &frame, sizeof(frame));
	if (bytes > 0)
		memcpy(agent->out + agent->out_end + sizeof(frame), payload,
		       bytes);
	agent->out_end += sizeof(frame) + bytes;
}

int agent_flush(struct agent_session *agent)
{
	while (agent->out_start < agent->out_end) {
		ssize_t n = send(agent->fd, agent->out + agent->out_start,
				 agent->out_end - agent->out_start,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0)
			return session_ended(agent);
		agent->out_start += (size_t)n;
	}
	agent->out_start = 0;
	agent->out_end = 0;
	return 0;
}

int agent_flush_all(struct agent_session *agent, int timeout_ms)
{
	const uint64_t until = deadline(timeout_ms);
	int r;

	while ((r = agent_flush(agent)) == 0 && agent->out_end > 0) {
		r = wait_for(agent->fd, agent->gone_fd, POLLOUT, until);
		if (r <= 0)
			return waited_in_vain(r, "takes no request");
	}
	return r;
}

int agent_take_event(struct agent_session *agent, const struct agent_message *m)
{
	struct agent_event wire;
	uint32_t kind;

	if (!agent->watched || agent_message_copy(m, &wire, sizeof(wire)))
		return agent_violation("an event nobody asked for");
	kind = le32toh(wire.kind);
	if (kind < AGENT_EVENT_SHORT || kind > AGENT_EVENT_KILLED)
		return agent_violation("an event of unknown kind");
	agent->memory = (struct agent_memory){
		.what = (int)kind,
		.total = le64toh(wire.memory_total),
		.available = le64toh(wire.memory_available),
		.oom_kills = le64toh(wire.oom_kills),
	};
	return 0;
}

int agent_await(struct agent_session *agent, int timeout_ms,
		struct agent_message *ret)
{
	const uint64_t until = deadline(timeout_ms);

	for (;;) {
		int r = agent_reader_next(&agent->reader, ret);
		ssize_t n;

		if (r < 0)
			return agent_violation("a frame that cannot be");
		if (r > 0 && ret->type != AGENT_EVENT)
			return 0;
		if (r > 0) {
			r = agent_take_event(agent, ret);
			if (r < 0)
				return r;
			continue;
		}
		/* A peer that sends without an end does not answer, either. */
		r = left_ms(until)
			    ? wait_for(agent->fd, agent->gone_fd, POLLIN, until)
			    : 0;
		if (r == 0)
			return log_ret(-ETIME,
				       "the guest's agent does not answer "
				       "within %d s: the guest hangs, or has "
				       "too little memory or time",
				       timeout_ms / 1000);
		if (r < 0)
			return waited_in_vain(r, "does not answer");
		n = agent_reader_fill(&agent->reader, agent->fd);
		if (n == -EAGAIN)
			continue;
		if (n <= 0)
			return session_ended(agent);
	}
}

static int make_room(struct agent_session *agent, size_t bytes)
{
	return sizeof(struct agent_frame) + bytes >
			       AGENT_OUT_ROOM - agent->out_end
		       ? agent_flush_all(agent, ANSWER_MS)
		       : 0;
}

static int put_items(struct agent_session *agent,
		     const struct agent_items *items, const char *what)
{
	size_t at = 0;

	if (items->error)
		return log_ret(items->error, "%s: %s", what,
			       items->error == -E2BIG
				       ? "more than 1 MiB of settings"
				       : "out of memory");
	do {
		const size_t n =
			(size_t)min_u64(items->bytes - at, AGENT_PAYLOAD_MAX);
		const int r = make_room(agent, n);

		if (r < 0)
			return r;
		agent_put(agent, AGENT_ITEMS, items->data + at, n);
		at += n;
	} while (at < items->bytes);
	return 0;
}

int agent_put_items(struct agent_session *agent,
		    const struct agent_items *items, enum agent_type type,
		    const char *what)
{
	int r = put_items(agent, items, what);

	if (r == 0)
		r = make_room(agent, 0);
	if (r == 0)
		agent_put(agent, type, NULL, 0);
	return r;
}

int agent_send_items(struct agent_session *agent,
		     const struct agent_items *items, enum agent_type type,
		     const char *what)
{
	const int r = agent_put_items(agent, items, type, what);

	return r < 0 ? r : agent_flush_all(agent, ANSWER_MS);
}

int agent_send_target(struct agent_session *agent, const char *container)
{
	struct agent_items items = {0};
	int r = 0;

	if (!container)
		return 0;
	agent_items_add(&items, AGENT_ITEM_CONTAINER, NULL, 0, &container, 1);
	r = put_items(agent, &items, container);
	agent_items_done(&items);
	return r;
}

int agent_read_failed(const struct agent_message *m, struct agent_failure *ret)
{
	struct agent_failed wire;
	size_t n;

	if (m->bytes <= sizeof(wire) ||
	    m->bytes > sizeof(wire) + sizeof(ret->text) ||
	    m->payload[m->bytes - 1] != 0)
		return agent_violation("a failure that is none");
	memcpy(&wire, m->payload, sizeof(wire));
	*ret = (struct agent_failure){
		.status = (int)le32toh(wire.status),
		.error = (int)(le32toh(wire.error) & 0xfff),
	};
	if (ret->status < 125 || ret->status > 127)
		return agent_violation("a failure of unknown status");
	n = m->bytes - sizeof(wire);
	memcpy(ret->text, m->payload + sizeof(wire), n);
	text_make_printable(ret->text);
	return 0;
}

int agent_await_done(struct agent_session *agent, int timeout_ms,
		     const char *what)
{
	struct agent_failure failure;
	struct agent_message m;
	int r = agent_await(agent, timeout_ms, &m);

	if (r < 0)
		return r;
	if (m.type == AGENT_DONE && m.bytes == 0)
		return 0;
	if (m.type != AGENT_FAILED)
		return agent_violation("an answer to no question");
	r = agent_read_failed(&m, &failure);
	if (r < 0)
		return r;
	return log_ret(failure.error ? -failure.error : -EREMOTEIO, "%s: %s",
		       what, failure.text);
}

/* ---- how sessions begin */

static int say_hello(struct agent_session *agent, int timeout_ms)
{
	const struct agent_hello ours = {
		.magic = {'B', 'H', 'A', '1'},
		.major = htole16(AGENT_MAJOR),
		.minor = htole16(AGENT_MINOR),
	};
	struct agent_hello hello;
	struct agent_message m;
	int r;

	agent_put(agent, AGENT_HELLO, &ours, sizeof(ours));
	r = agent_flush_all(agent, timeout_ms);
	if (r == 0)
		r = agent_await(agent, timeout_ms, &m);
	if (r < 0)
		return r;
	if (m.type != AGENT_HELLO ||
	    agent_message_copy(&m, &hello, sizeof(hello)) ||
	    memcmp(hello.magic, AGENT_MAGIC, sizeof(hello.magic)) != 0)
		return agent_violation("its first word is not HELLO");
	if (hello.major != ours.major)
		return log_ret(-EPROTO,
			       "the guest's agent speaks version %u, not %u",
			       le16toh(hello.major), AGENT_MAJOR);
	agent->minor = le16toh(hello.minor);
	return 0;
}

/* FD is taken, also on failure. */
static int make_session(int fd, int gone_fd, struct agent_session **ret_agent)
{
	struct agent_session *agent = calloc(1, sizeof(*agent));
	int r = 0;

	if (!agent) {
		close(fd);
		return log_ret(-ENOMEM, "agent: out of memory");
	}
	agent->fd = fd;
	agent->gone_fd = gone_fd;
	agent->out = malloc(AGENT_OUT_ROOM);
	if (agent_reader_init(&agent->reader) < 0 || !agent->out)
		r = log_ret(-ENOMEM, "agent: out of memory");
	else if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		r = log_ret(-errno, "agent: socket: %s", strerror(errno));
	if (r < 0)
		agent_free(agent);
	else
		*ret_agent = agent;
	return r;
}

static int open_session(int fd, int gone_fd, int timeout_ms,
			struct agent_session **ret_agent)
{
	struct agent_session *agent;
	int r = make_session(fd, gone_fd, &agent);

	if (r < 0)
		return r;
	r = say_hello(agent, timeout_ms);
	if (r < 0)
		agent_free(agent);
	else
		*ret_agent = agent;
	return r;
}

int agent_open(int fd, int timeout_ms, struct agent_session **ret_agent)
{
	return open_session(fd, -1, timeout_ms, ret_agent);
}

void agent_free(struct agent_session *agent)
{
	if (!agent)
		return;
	util_close(&agent->fd);
	agent_reader_done(&agent->reader);
	free(agent->out);
	free(agent);
}

int agent_fd(const struct agent_session *agent)
{
	return agent->fd;
}

/* A Unix socket and its address. 0 or -errno, logged. */
static int unix_socket(const char *path, const char *suffix,
		       struct sockaddr_un *ret_address, int *ret_fd)
{
	int fd;

	*ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (snprintf(ret_address->sun_path, sizeof(ret_address->sun_path),
		     "%s%s", path,
		     suffix) >= (int)sizeof(ret_address->sun_path))
		return log_ret(-ENAMETOOLONG,
			       "socket '%s%s': longer than %zu bytes", path,
			       suffix, sizeof(ret_address->sun_path) - 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return log_ret(-errno, "socket '%s%s': %s", path, suffix,
			       strerror(errno));
	*ret_fd = fd;
	return 0;
}

int agent_listen(const char *vsock_path, int *ret_fd)
{
	struct sockaddr_un address;
	autofd int fd = -1;
	char suffix[16];
	int r;

	snprintf(suffix, sizeof(suffix), "_%d", AGENT_PORT);
	r = unix_socket(vsock_path, suffix, &address, &fd);
	if (r < 0)
		return r;
	unlink(address.sun_path);
	/* bind() gives the file the mode of the socket. */
	if (fchmod(fd, 0600) < 0 ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(fd, 1) < 0)
		return log_ret(-errno, "socket '%s': %s", address.sun_path,
			       strerror(errno));
	*ret_fd = take_fd(&fd);
	return 0;
}

int agent_accept(int fd, int gone_fd, int timeout_ms, struct trace *trace,
		 struct agent_session **ret_agent)
{
	const uint64_t until = deadline(timeout_ms);
	int r = wait_for(fd, gone_fd, POLLIN, until);
	int connection;

	if (r <= 0)
		return waited_in_vain(r, "has not started");
	connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	if (connection < 0)
		return log_ret(-errno, "agent: accept: %s", strerror(errno));
	trace_mark(trace, TRACE_CONNECTED);
	r = open_session(connection, gone_fd, left_ms(until), ret_agent);
	if (r < 0)
		return r;
	(*ret_agent)->trace = trace;
	trace_mark(trace, TRACE_GREETED);
	return 0;
}

int agent_give(struct agent_session *agent, unsigned *ret_minor)
{
	const int fd = take_fd(&agent->fd);

	*ret_minor = agent->minor;
	agent_free(agent);
	return fd;
}

int agent_given(int fd, int gone_fd, unsigned minor, struct trace *trace,
		struct agent_session **ret_agent)
{
	int r = make_session(fd, gone_fd, ret_agent);

	if (r < 0)
		return r;
	(*ret_agent)->minor = (uint16_t)minor;
	(*ret_agent)->trace = trace;
	trace_mark(trace, TRACE_GREETED);
	return 0;
}

/*
 * Asks the device for the agent's port, and reads its answer ("OK 1073741824")
 * no further than its end. 0, -ENOTCONN: nobody listens there yet, -errno.
 */
static int ask_for_port(int fd, int gone_fd, uint64_t until)
{
	char text[32];
	size_t have = 0;
	const int n = snprintf(text, sizeof(text), "CONNECT %d\n", AGENT_PORT);

	if (send(fd, text, (size_t)n, MSG_NOSIGNAL) != n)
		return -ENOTCONN;
	while (have < sizeof(text)) {
		int r = wait_for(fd, gone_fd, POLLIN, until);
		ssize_t got;

		if (r <= 0)
			return r ? r : -ETIME;
		got = recv(fd, text + have, 1, 0);
		if (got < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (got <= 0)
			return -ENOTCONN;
		if (text[have++] == '\n')
			return strncmp(text, "OK ", 3) == 0 ? 0 : -EPROTO;
	}
	return -EPROTO;
}

int agent_connect(const char *vsock_path, int timeout_ms,
		  struct agent_session **ret_agent)
{
	return agent_connect_unless(vsock_path, -1, timeout_ms, ret_agent);
}

int agent_connect_unless(const char *vsock_path, int gone_fd, int timeout_ms,
			 struct agent_session **ret_agent)
{
	const uint64_t until = deadline(timeout_ms);
	int r;

	for (;;) {
		struct sockaddr_un address;
		autofd int fd = -1;

		r = unix_socket(vsock_path, "", &address, &fd);
		if (r < 0)
			return r;
		if (connect(fd, (struct sockaddr *)&address, sizeof(address)) <
			    0 &&
		    errno != EAGAIN)
			return log_ret(-errno, "socket '%s': %s", vsock_path,
				       strerror(errno));
		r = ask_for_port(fd, gone_fd, until);
		if (r == 0)
			return open_session(take_fd(&fd), gone_fd,
					    left_ms(until), ret_agent);
		if (r == -ENOTCONN)
			r = wait_for(-1, gone_fd, 0, deadline(RETRY_MS));
		if (r == -ECONNRESET)
			return r;
		if (r < 0)
			break;
		r = -ENOTCONN;
		if (left_ms(until) == 0)
			break;
	}
	return log_ret(r == -ENOTCONN ? -ETIME : r,
		       "socket '%s': no agent answers there: %s", vsock_path,
		       strerror(-r));
}

/* ---- small requests */

/* Sends one frame; expects DONE. WHAT is for the log. */
static int simple_request(struct agent_session *agent, enum agent_type type,
			  const void *payload, size_t bytes, const char *what)
{
	int r;

	agent_put(agent, type, payload, bytes);
	r = agent_flush_all(agent, ANSWER_MS);
	return r < 0 ? r : agent_await_done(agent, ANSWER_MS, what);
}

int agent_watch(struct agent_session *agent, unsigned percent)
{
	const struct agent_watch wire = {.percent = htole32(percent)};
	const int r = make_room(agent, sizeof(wire));

	if (r < 0)
		return r;
	agent->watched = true;
	agent_put(agent, AGENT_WATCH, &wire, sizeof(wire));
	return agent->configures ? 0 : agent_flush_all(agent, ANSWER_MS);
}

int agent_signal(struct agent_session *agent, const char *container, int signal)
{
	const struct agent_signal wire = {.signal = htole32((uint32_t)signal)};
	int r = agent_send_target(agent, container);

	return r < 0 ? r
		     : simple_request(agent, AGENT_SIGNAL, &wire, sizeof(wire),
				      "the container");
}

int agent_freeze(struct agent_session *agent, const char *container,
		 bool frozen)
{
	const struct agent_freeze wire = {.frozen = htole32(frozen)};
	int r = agent_send_target(agent, container);

	return r < 0 ? r
		     : simple_request(agent, AGENT_FREEZE, &wire, sizeof(wire),
				      "the container");
}

int agent_hold(struct agent_session *agent, bool held)
{
	const struct agent_freeze wire = {.frozen = htole32(held)};

	if (agent->minor < HOLD_MINOR)
		return log_ret(-ENOTSUP,
			       "the instance was started by an older bulkhead, "
			       "whose agent cannot hold it: start it again");
	return simple_request(agent, AGENT_HOLD, &wire, sizeof(wire),
			      "the container");
}

int agent_shutdown(struct agent_session *agent, int signal, uint32_t grace_ms)
{
	const struct agent_shutdown wire = {
		.signal = htole32((uint32_t)signal),
		.grace_ms = htole32(grace_ms),
	};

	return simple_request(agent, AGENT_SHUTDOWN, &wire, sizeof(wire),
			      "the container");
}

int agent_set_clock(struct agent_session *agent)
{
	const struct agent_time wire = agent_time_now();

	return simple_request(agent, AGENT_CLOCK, &wire, sizeof(wire),
			      "the guest");
}

int agent_get_stats(struct agent_session *agent, struct agent_stats *ret)
{
	struct agent_message m;
	struct agent_usage wire;
	int r;

	if (agent->minor < STATS_MINOR)
		return log_ret(-ENOTSUP,
			       "the instance was started by an older bulkhead, "
			       "whose agent does not tell: start it again");
	agent_put(agent, AGENT_STATS, NULL, 0);
	r = agent_flush_all(agent, STATS_MS);
	if (r == 0)
		r = agent_await(agent, STATS_MS, &m);
	if (r < 0)
		return r;
	if (m.type != AGENT_STATS ||
	    agent_message_copy(&m, &wire, sizeof(wire)))
		return agent_violation("an answer to no question");
	*ret = (struct agent_stats){
		.time_us = le64toh(wire.time_us),
		.cpu_us = le64toh(wire.cpu_us),
		.memory = le64toh(wire.memory),
		.memory_limit = le64toh(wire.memory_limit),
		.net_rx = le64toh(wire.net_rx),
		.net_tx = le64toh(wire.net_tx),
		.pids = le64toh(wire.pids),
	};
	return 0;
}

int agent_get_facts(struct agent_session *agent, struct agent_facts *ret_facts)
{
	struct agent_message m;
	struct agent_info info;
	int r;

	agent_put(agent, AGENT_INFO, NULL, 0);
	r = agent_flush_all(agent, ANSWER_MS);
	if (r == 0)
		r = agent_await(agent, ANSWER_MS, &m);
	if (r < 0)
		return r;
	if (m.type != AGENT_INFO || agent_message_copy(&m, &info, sizeof(info)))
		return agent_violation("an answer to no question");
	*ret_facts = (struct agent_facts){
		.memory_total = le64toh(info.memory_total),
		.memory_available = le64toh(info.memory_available),
		.oom_kills = le64toh(info.oom_kills),
		.uptime_ms = le64toh(info.uptime_ms),
		.processes = le32toh(info.processes),
		.running = le32toh(info.running) != 0,
	};
	return 0;
}
