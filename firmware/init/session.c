/* SPDX-License-Identifier: Apache-2.0 */
/* The states and frames of docs/AGENT, and the flow of a process's data. */
#include "firmware/init/session.h"

#include "vmm/util.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define HEADER (sizeof(struct agent_frame))
/* One frame of data, and a short one before or behind it. */
#define OUT_ROOM (2 * HEADER + AGENT_PAYLOAD_MAX + 2048)
/* What a pipe may hold at most when its writer ends (F_SETPIPE_SZ). */
#define DRAIN_MAX (1024 * KIB)
/* Not for each byte a frame that says so. */
#define CREDIT_MIN (AGENT_STDIN_WINDOW / 4)
/* Frames of output in one go, while others wait. */
#define BURST 8

struct session *session_new(struct server *server, int fd)
{
	struct session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->server = server;
	s->fd = fd;
	s->child = INIT_CHILD_NONE;
	s->out = malloc(OUT_ROOM);
	if (agent_reader_init(&s->reader) < 0 || !s->out) {
		s->fd = -1;
		session_free(s);
		return NULL;
	}
	return s;
}

/* The number of the same descriptor is known twice with a terminal. */
static void close_input(struct session *s)
{
	if (s->child.in_fd != s->child.out_fd)
		util_close(&s->child.in_fd);
	s->child.in_fd = -1;
	s->in_start = 0;
	s->in_end = 0;
}

static void close_output(struct session *s, unsigned stream)
{
	int *fd = stream ? &s->child.err_fd : &s->child.out_fd;

	if (!stream && s->child.in_fd == *fd)
		s->child.in_fd = -1;
	util_close(fd);
	*fd = -1;
}

static void close_slave(struct session *s)
{
	util_close(&s->child.slave_fd);
	s->child.slave_fd = -1;
}

void session_free(struct session *s)
{
	close_input(s);
	close_output(s, 0);
	close_output(s, 1);
	close_slave(s);
	util_close(&s->fd);
	agent_reader_done(&s->reader);
	free(s->input);
	free(s->request);
	free(s->out);
	free(s);
}

static bool has_terminal(const struct session *s)
{
	return s->child.slave_fd >= 0;
}

/*
 * The host's end of the session is gone. A process that has a terminal is hung
 * up; another one goes on without input, its output is thrown away.
 */
static void peer_gone(struct session *s)
{
	util_close(&s->fd);
	s->fd = -1;
	s->out_start = 0;
	s->out_end = 0;
	if (!s->has_child || s->exited)
		return;
	close_input(s);
	if (has_terminal(s)) {
		close_output(s, 0);
		close_slave(s);
	}
	if (s->is_main && s->server->config.flags & AGENT_CONFIG_HOST_BOUND)
		server_end(s->server, SIGKILL, 0);
}

/* ---- sending */

/* Whoever calls this has looked that nothing waits (or one short frame). */
static void put(struct session *s, enum agent_type type, const void *payload,
		size_t bytes)
{
	const struct agent_frame frame = agent_frame_make(type, bytes);

	assert(OUT_ROOM - s->out_end >= HEADER + bytes);
	memcpy(s->out + s->out_end, &frame, HEADER);
	if (bytes > 0)
		memcpy(s->out + s->out_end + HEADER, payload, bytes);
	s->out_end += HEADER + bytes;
}

static void flush(struct session *s)
{
	while (s->fd >= 0 && s->out_start < s->out_end) {
		ssize_t n = send(s->fd, s->out + s->out_start,
				 s->out_end - s->out_start,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			peer_gone(s);
			return;
		}
		s->out_start += (size_t)n;
	}
	s->out_start = 0;
	s->out_end = 0;
}

/* The answer to a request: DONE, or FAILED if R is not 0. */
static void answer(struct session *s, int r, const struct init_failure *f)
{
	const size_t text = r ? strlen(f->text) + 1 : 0;
	struct {
		struct agent_failed head;
		char text[AGENT_TEXT_MAX];
	} failed;

	if (!r) {
		put(s, AGENT_DONE, NULL, 0);
		return;
	}
	failed.head.status = htole32((uint32_t)f->status);
	failed.head.error = htole32((uint32_t)f->error);
	memcpy(failed.text, f->text, text);
	put(s, AGENT_FAILED, &failed, sizeof(failed.head) + text);
}

/* ---- requests */

static bool take_hello(struct session *s, const struct agent_message *m)
{
	struct agent_hello hello;
	const struct agent_hello ours = {
		.magic = {'B', 'H', 'A', '1'},
		.major = htole16(AGENT_MAJOR),
		.minor = htole16(AGENT_MINOR),
	};

	if (m->type != AGENT_HELLO ||
	    agent_message_copy(m, &hello, sizeof(hello)) ||
	    memcmp(hello.magic, AGENT_MAGIC, sizeof(hello.magic)) != 0)
		return false;
	/* Also to one of another version: it can say what is wrong. */
	put(s, AGENT_HELLO, &ours, sizeof(ours));
	s->state = SESSION_REQUEST;
	if (hello.major == ours.major)
		return true;
	flush(s);
	return false;
}

static bool take_items(struct session *s, const struct agent_message *m)
{
	uint8_t *more;

	if (m->bytes == 0)
		return true;
	if (m->bytes > AGENT_REQUEST_MAX - s->nrequest)
		return false;
	more = realloc(s->request, s->nrequest + m->bytes);
	if (!more)
		return false;
	memcpy(more + s->nrequest, m->payload, m->bytes);
	s->request = more;
	s->nrequest += m->bytes;
	return true;
}

static int configure(struct session *s, struct init_failure *f)
{
	struct server *server = s->server;
	uint8_t *request = take_ptr(s->request);
	const size_t n = s->nrequest;

	s->nrequest = 0;
	if (server->configured) {
		free(request);
		return init_fail(f, INIT_STATUS_SETUP, EALREADY, "configure");
	}
	if (init_config_parse(request, n, &server->config, f))
		return -1;
	server->configured = true;
	if (server->config.has_time &&
	    server->actions->set_clock(&server->config.time, f))
		return -1;
	return server->actions->configure(&server->config, f);
}

static int start_process(struct session *s, const struct init_start *start,
			 struct init_failure *f)
{
	struct server *server = s->server;
	const bool is_main = start->flags & AGENT_START_MAIN;

	if (is_main && (!server->configured || server->main_started))
		return init_fail(f, INIT_STATUS_SETUP, 0,
				 server->configured
					 ? "the container has started before"
					 : "the guest is not configured");
	if (!is_main && !server->box.main_pid)
		return init_fail(f, INIT_STATUS_SETUP, 0,
				 "the container is not running");
	if (start->flags & AGENT_START_INIT && !is_main)
		return init_fail(f, INIT_STATUS_SETUP, EINVAL, "init");
	s->input = malloc(AGENT_STDIN_WINDOW);
	if (!s->input)
		return init_fail(f, INIT_STATUS_SETUP, ENOMEM, "start");
	if (is_main) {
		/* Even if it fails: this session's end is the machine's. */
		server->main_started = true;
		s->is_main = true;
	}
	if (server->actions->start(&server->box, start, &s->child, f)) {
		free(take_ptr(s->input));
		return -1;
	}
	return 0;
}

static void start(struct session *s)
{
	uint8_t *request = take_ptr(s->request);
	const size_t n = s->nrequest;
	struct init_start what = {0};
	struct init_failure f;
	struct agent_started started;
	int r;

	s->nrequest = 0;
	r = init_start_parse(request, n, &what, &f);
	if (r == 0)
		r = start_process(s, &what, &f);
	if (r == 0) {
		s->has_child = true;
		s->state = SESSION_PROCESS;
		s->window = AGENT_STDIN_WINDOW;
		s->drain[0] = DRAIN_MAX;
		s->drain[1] = DRAIN_MAX;
		if (!(what.flags & AGENT_START_STDIN))
			close_input(s);
		started.pid = htole32((uint32_t)s->child.inside);
		put(s, AGENT_STARTED, &started, sizeof(started));
	} else {
		answer(s, r, &f);
	}
	init_start_done(&what);
}

static bool read_signal(const struct agent_message *m, int *ret)
{
	struct agent_signal wire;

	if (agent_message_copy(m, &wire, sizeof(wire)) ||
	    le32toh(wire.signal) < 1 || le32toh(wire.signal) > 64)
		return false;
	*ret = (int)le32toh(wire.signal);
	return true;
}

static bool take_shutdown(struct session *s, const struct agent_message *m)
{
	struct agent_shutdown wire;

	if (agent_message_copy(m, &wire, sizeof(wire)) ||
	    le32toh(wire.signal) > 64)
		return false;
	answer(s, 0, NULL);
	server_end(s->server, (int)le32toh(wire.signal),
		   le32toh(wire.grace_ms));
	return true;
}

static bool take_watch(struct session *s, const struct agent_message *m)
{
	struct agent_watch wire;

	if (agent_message_copy(m, &wire, sizeof(wire)) || wire.percent == 0 ||
	    le32toh(wire.percent) > 99)
		return false;
	s->watch = le32toh(wire.percent);
	server_watch(s->server, s);
	return true;
}

static bool take_request(struct session *s, const struct agent_message *m)
{
	struct server *server = s->server;
	struct init_failure f;
	struct agent_time time;
	struct agent_info info;
	int number;

	switch (m->type) {
	case AGENT_ITEMS:
		return take_items(s, m);
	case AGENT_CONFIGURE:
		answer(s, configure(s, &f), &f);
		return m->bytes == 0;
	case AGENT_START:
		start(s);
		return m->bytes == 0;
	case AGENT_CLOCK:
		if (agent_message_copy(m, &time, sizeof(time)))
			return false;
		answer(s, server->actions->set_clock(&time, &f), &f);
		return true;
	case AGENT_SHUTDOWN:
		return take_shutdown(s, m);
	case AGENT_WATCH:
		return take_watch(s, m);
	case AGENT_INFO:
		server_facts(server, &info);
		put(s, AGENT_INFO, &info, sizeof(info));
		return m->bytes == 0;
	case AGENT_SIGNAL:
		if (!read_signal(m, &number))
			return false;
		if (server->box.main_pid) {
			server->actions->kill(server->box.main_pid, number);
			answer(s, 0, NULL);
		} else {
			answer(s,
			       init_fail(&f, INIT_STATUS_SETUP, ESRCH,
					 "signal"),
			       &f);
		}
		return true;
	default:
		return false;
	}
}

/* ---- a process's frames */

static bool take_stdin(struct session *s, const struct agent_message *m)
{
	if (s->input_eof || m->bytes > s->window)
		return false;
	s->window -= m->bytes;
	/* It was told, or will be, that nobody reads. */
	if (s->child.in_fd < 0)
		return true;
	memmove(s->input, s->input + s->in_start, s->in_end - s->in_start);
	s->in_end -= s->in_start;
	s->in_start = 0;
	memcpy(s->input + s->in_end, m->payload, m->bytes);
	s->in_end += m->bytes;
	return true;
}

static bool take_resize(struct session *s, const struct agent_message *m)
{
	struct agent_size wire;
	struct winsize size = {0};

	if (agent_message_copy(m, &wire, sizeof(wire)))
		return false;
	size.ws_row = le16toh(wire.rows);
	size.ws_col = le16toh(wire.columns);
	if (has_terminal(s))
		ioctl(s->child.slave_fd, TIOCSWINSZ, &size);
	return true;
}

/* Writing to a pipe without a reader ends most programs, as anywhere. */
static bool take_closed(struct session *s, const struct agent_message *m)
{
	struct agent_stream wire;
	uint32_t stream;

	if (agent_message_copy(m, &wire, sizeof(wire)))
		return false;
	stream = le32toh(wire.stream);
	if (stream != 1 && stream != 2)
		return false;
	if (!has_terminal(s))
		close_output(s, stream - 1);
	return true;
}

static bool take_process(struct session *s, const struct agent_message *m)
{
	struct init_failure ignored;
	struct agent_time time;
	int number;

	switch (m->type) {
	case AGENT_STDIN:
		return take_stdin(s, m);
	case AGENT_STDIN_EOF:
		s->input_eof = true;
		return m->bytes == 0;
	case AGENT_RESIZE:
		return take_resize(s, m);
	case AGENT_SIGNAL:
		if (!read_signal(m, &number))
			return false;
		if (!s->exited)
			s->server->actions->kill(s->child.pid, number);
		return true;
	case AGENT_CLOSED:
		return take_closed(s, m);
	case AGENT_CLOCK:
		if (agent_message_copy(m, &time, sizeof(time)))
			return false;
		(void)s->server->actions->set_clock(&time, &ignored);
		return true;
	case AGENT_EXIT_ACK:
		if (s->state != SESSION_ENDING || m->bytes != 0)
			return false;
		peer_gone(s);
		return true;
	default:
		return false;
	}
}

static bool take(struct session *s, const struct agent_message *m)
{
	switch (s->state) {
	case SESSION_HELLO:
		return take_hello(s, m);
	case SESSION_REQUEST:
		return take_request(s, m);
	default:
		return take_process(s, m);
	}
}

/* An answer that nobody takes must not be followed by another one. */
static bool is_stalled(const struct session *s)
{
	return s->state == SESSION_REQUEST && s->out_end > 0;
}

static void receive(struct session *s, bool readable)
{
	while (s->fd >= 0) {
		struct agent_message m;
		ssize_t n;
		int r;

		flush(s);
		if (s->fd < 0 || is_stalled(s))
			return;
		r = agent_reader_next(&s->reader, &m);
		if (r < 0 || (r > 0 && !take(s, &m))) {
			init_say("the host broke the protocol: session ended");
			peer_gone(s);
			return;
		}
		if (r > 0)
			continue;
		if (!readable)
			return;
		readable = false;
		n = agent_reader_fill(&s->reader, s->fd);
		if (n == -EAGAIN)
			return;
		if (n <= 0)
			peer_gone(s);
	}
}

/* ---- events */

static bool has_event(const struct session *s)
{
	return s->fd >= 0 && (s->is_short != s->told_short || s->tell_killed);
}

void session_memory(struct session *s, const struct agent_event *now,
		    bool own_victim)
{
	const uint64_t available = le64toh(now->memory_available);
	const uint64_t low = le64toh(now->memory_total) / 100 * s->watch;

	s->is_short = available < (s->is_short ? 2 * low : low);
	s->tell_killed |= !own_victim && le64toh(now->oom_kills) >
						 le64toh(s->memory.oom_kills);
	s->memory = *now;
}

/* One event, where nothing waits to be sent. True: a frame was put. */
static bool tell_event(struct session *s)
{
	struct agent_event wire = s->memory;

	if (!has_event(s))
		return false;
	if (s->tell_killed) {
		wire.kind = htole32(AGENT_EVENT_KILLED);
		s->tell_killed = false;
	} else {
		wire.kind = htole32(s->is_short ? AGENT_EVENT_SHORT
						: AGENT_EVENT_ENOUGH);
		s->told_short = s->is_short;
	}
	put(s, AGENT_EVENT, &wire, sizeof(wire));
	return true;
}

/* ---- a process's data */

static void write_input(struct session *s, bool broken)
{
	while (s->child.in_fd >= 0 && s->in_start < s->in_end) {
		ssize_t n = write(s->child.in_fd, s->input + s->in_start,
				  s->in_end - s->in_start);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			broken = true;
			break;
		}
		s->in_start += (size_t)n;
		s->taken += (size_t)n;
	}
	if (s->child.in_fd < 0)
		return;
	if (broken) {
		close_input(s);
		s->tell_closed = !s->input_eof;
	} else if (s->input_eof && !has_terminal(s)) {
		close_input(s);
	}
}

/* What the host is to know about standard input. True: a frame was put. */
static bool tell_input(struct session *s)
{
	if (s->tell_closed) {
		s->tell_closed = false;
		put(s, AGENT_STDIN_CLOSED, NULL, 0);
		return true;
	}
	if (s->child.in_fd >= 0 && !s->input_eof &&
	    (s->taken >= CREDIT_MIN ||
	     (s->taken > 0 && s->in_start == s->in_end))) {
		const struct agent_credit credit = {
			.bytes = htole32((uint32_t)s->taken),
		};

		s->window += s->taken;
		s->taken = 0;
		put(s, AGENT_STDIN_MORE, &credit, sizeof(credit));
		return true;
	}
	return false;
}

/* One frame of output from stream 0 or 1. True: there was some. */
static bool read_output(struct session *s, unsigned stream)
{
	const int fd = stream ? s->child.err_fd : s->child.out_fd;
	size_t most = AGENT_PAYLOAD_MAX;
	struct agent_frame frame;
	ssize_t n;

	if (fd < 0)
		return false;
	if (s->exited)
		most = (size_t)min_u64(most, s->drain[stream]);
	do {
		n = most ? read(fd, s->out + HEADER, most) : 0;
	} while (n < 0 && errno == EINTR);
	/* After its end, what is not there now was written by others. */
	if (n < 0 && errno == EAGAIN && !s->exited)
		return false;
	if (n <= 0) {
		close_output(s, stream);
		return false;
	}
	if (s->exited)
		s->drain[stream] -= (size_t)n;
	if (s->fd < 0)
		return true;
	frame = agent_frame_make(stream ? AGENT_STDERR : AGENT_STDOUT,
				 (size_t)n);
	memcpy(s->out, &frame, HEADER);
	s->out_end = HEADER + (size_t)n;
	return true;
}

static void put_exit(struct session *s)
{
	const int status = s->wait_status;
	struct agent_exit end = {.oom = htole32(s->oom)};

	if (WIFSIGNALED(status))
		end.signal = htole32((uint32_t)WTERMSIG(status));
	else
		end.status = htole32((uint32_t)WEXITSTATUS(status));
	put(s, AGENT_EXIT, &end, sizeof(end));
	s->state = SESSION_ENDING;
}

static void send_output(struct session *s)
{
	for (unsigned i = 0; i < BURST; i++) {
		bool more;

		flush(s);
		if (s->out_end > 0 || s->state != SESSION_PROCESS)
			return;
		more = tell_event(s) || tell_input(s);
		if (!more)
			more = read_output(s, i % 2) ||
			       read_output(s, (i + 1) % 2);
		if (more)
			continue;
		if (!s->exited)
			return;
		put_exit(s);
		flush(s);
		return;
	}
}

void session_exited(struct session *s, int wait_status, bool oom)
{
	s->exited = true;
	s->wait_status = wait_status;
	s->oom = oom;
	close_input(s);
	close_slave(s);
}

/* ---- the loop's side */

bool session_poll(const struct session *s, struct pollfd pfd[SESSION_SOURCES])
{
	const bool idle = s->out_end == 0;
	const bool pending = s->in_start < s->in_end;

	for (unsigned i = 0; i < SESSION_SOURCES; i++)
		pfd[i] = (struct pollfd){.fd = -1};
	pfd[SESSION_PEER].fd = s->fd;
	pfd[SESSION_PEER].events =
		(short)((is_stalled(s) ? 0 : POLLIN) | (idle ? 0 : POLLOUT));
	if (s->state != SESSION_PROCESS)
		return false;
	/* Without input only a pipe tells that its reader is gone. */
	if (pending || !has_terminal(s))
		pfd[SESSION_IN].fd = s->child.in_fd;
	pfd[SESSION_IN].events = pending ? POLLOUT : 0;
	if (idle) {
		pfd[SESSION_OUT].fd = s->child.out_fd;
		pfd[SESSION_OUT].events = POLLIN;
		pfd[SESSION_ERR].fd = s->child.err_fd;
		pfd[SESSION_ERR].events = POLLIN;
	}
	return idle && (s->exited || has_event(s));
}

bool session_pump(struct session *s, const struct pollfd pfd[SESSION_SOURCES])
{
	receive(s, pfd[SESSION_PEER].revents & (POLLIN | POLLHUP | POLLERR));
	if (s->state == SESSION_PROCESS) {
		write_input(s, pfd[SESSION_IN].revents & POLLERR);
		send_output(s);
	} else if (s->state == SESSION_REQUEST && s->out_end == 0 &&
		   tell_event(s)) {
		flush(s);
	}
	return s->fd >= 0 || (s->has_child && !s->exited);
}
