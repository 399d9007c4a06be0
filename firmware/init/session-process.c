/* SPDX-License-Identifier: Apache-2.0 */
/* A session's process: its frames, the flow of its data, events beside it. */
#include "firmware/init/own.h"
#include "firmware/init/session-parts.h"

#include <endian.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Credit is given in steps of so many bytes, not with a frame for each. */
#define CREDIT_MIN (AGENT_STDIN_WINDOW / 4)
/* Frames of output in one go, while others wait. */
#define BURST 8

/* The number of the same descriptor is known twice with a terminal. */
void session_close_input(struct session *s)
{
	if (s->child.in_fd != s->child.out_fd)
		util_close(&s->child.in_fd);
	s->child.in_fd = -1;
	s->in_start = 0;
	s->in_end = 0;
}

void session_close_output(struct session *s, unsigned stream)
{
	int *fd = stream ? &s->child.err_fd : &s->child.out_fd;

	if (!stream && s->child.in_fd == *fd)
		s->child.in_fd = -1;
	util_close(fd);
}

void session_close_slave(struct session *s)
{
	util_close(&s->child.slave_fd);
}

bool session_has_terminal(const struct session *s)
{
	return s->child.slave_fd >= 0;
}

/* ---- its start */

/* A root that hangs must not hang the session for ever. */
#define START_MS 150000

/*
 * A session that has made a container stays with it. NULL with the failure
 * filled in.
 */
static struct server_container *choose_container(struct session *s,
						 const struct init_start *start,
						 struct init_failure *f)
{
	struct server_container *c = server_find(s->server, start->container);

	if (c && (s->container == &s->server->first || s->container == c))
		return c;
	init_fail(f, INIT_STATUS_SETUP, c ? EINVAL : ESRCH, "container '%s'",
		  start->container ? start->container : "");
	return NULL;
}

int session_begin(struct session *s, const struct init_start *start,
		  struct init_failure *f)
{
	struct server *server = s->server;
	const bool is_main = start->flags & AGENT_START_MAIN;
	struct server_container *c = choose_container(s, start, f);

	if (!c)
		return -1;
	if (is_main && (!c->configured || c->main_started))
		return init_fail(f, INIT_STATUS_SETUP, 0,
				 c->configured
					 ? "the container has started before"
					 : "the guest is not configured");
	if (is_main && c->failed)
		return init_fail(f, INIT_STATUS_SETUP, 0,
				 "the guest's configuration has failed");
	/* Others need the machine's own. */
	if (c != &server->first && !server->first.box.running)
		return init_fail(f, INIT_STATUS_SETUP, 0,
				 "the machine's own container is not running");
	if (!is_main && !c->box.running &&
	    (!(start->flags & AGENT_START_OWN) || own_needs_container(start)))
		return init_fail(f, INIT_STATUS_SETUP, 0,
				 "the container is not running");
	if (start->flags & AGENT_START_INIT && !is_main)
		return init_fail(f, INIT_STATUS_SETUP, EINVAL, "init");
	if (start->flags & AGENT_START_OWN &&
	    (is_main || start->flags & AGENT_START_TTY))
		return init_fail(f, INIT_STATUS_SETUP, EINVAL, "own program");
	s->input = malloc(AGENT_STDIN_WINDOW);
	if (!s->input)
		return init_fail(f, INIT_STATUS_SETUP, ENOMEM, "start");
	if (is_main) {
		/* Even if it fails: this session's end is the machine's. */
		c->main_started = true;
		s->is_main = true;
	}
	s->with_input = start->flags & AGENT_START_STDIN;
	s->bound = start->flags & (AGENT_START_OWN | AGENT_START_BOUND);
	s->kills_before = server_oom_kills(server);
	if (server->actions->start(&c->box, start, &s->starting, f)) {
		free(take_ptr(s->input));
		return -1;
	}
	s->container = c;
	s->state = SESSION_STARTING;
	s->start_ms = server_now_ms() + START_MS;
	return 0;
}

int session_prepare(struct session *s, struct init_failure *f)
{
	struct container *box = &s->container->box;

	if (!s->server->actions->prepare)
		return init_fail(f, INIT_STATUS_SETUP, ENOSYS, "prepare");
	if (s->server->actions->prepare(box, &s->starting, f))
		return -1;
	s->state = SESSION_STARTING;
	s->start_ms = server_now_ms() + START_MS;
	return 0;
}

void session_abandon(struct session *s)
{
	process_abandon(&s->container->box, &s->starting);
	s->server->strays = SERVER_STRAYS_LOOK;
	free(take_ptr(s->input));
	s->state = SESSION_REQUEST;
}

bool session_has_ended(const struct session *s)
{
	return s->exited &&
	       !(s->is_main && server_is_leaving(s->server, s->container));
}

static void exited(struct session *s, int wait_status, bool oom)
{
	s->exited = true;
	s->wait_status = wait_status;
	s->oom = oom;
	session_close_input(s);
	session_close_slave(s);
}

static void started(struct session *s)
{
	const struct agent_started wire = {
		htole32((uint32_t)s->starting.child.inside)};

	const struct process_starting was = s->starting;

	s->child = was.child;
	s->starting = PROCESS_STARTING_NONE;
	s->has_child = true;
	s->state = SESSION_PROCESS;
	s->window = AGENT_STDIN_WINDOW;
	s->drain[0] = SESSION_DRAIN_MAX;
	s->drain[1] = SESSION_DRAIN_MAX;
	if (!s->with_input)
		session_close_input(s);
	session_put(s, AGENT_STARTED, &wire, sizeof(wire));
	if (was.ended)
		exited(s, was.wait_status, was.oom);
	if (s->is_main)
		server_main_runs(s->server, s->container);
}

bool session_is_late(const struct session *s)
{
	return s->state == SESSION_STARTING && server_now_ms() >= s->start_ms;
}

void session_hear(struct session *s)
{
	const bool prepares = s->starting.prepares;
	struct init_failure f;
	int r;

	if (s->state != SESSION_STARTING)
		return;
	r = process_proceed(&s->container->box, &s->starting, &f);
	if (r == 0 && session_is_late(s)) {
		r = init_fail(&f, INIT_STATUS_SETUP, ETIMEDOUT,
			      "start the process");
	}
	if (r > 0 && prepares) {
		s->state = SESSION_REQUEST;
		session_put(s, AGENT_DONE, NULL, 0);
	} else if (r > 0) {
		started(s);
	} else if (r < 0) {
		session_abandon(s);
		session_put_failed(s, &f);
	}
}

void session_reaped(struct session *s, pid_t pid, int wait_status, bool oom)
{
	if (s->state == SESSION_STARTING && s->starting.child.pid == pid) {
		s->starting.ended = true;
		s->starting.wait_status = wait_status;
		s->starting.oom = oom;
	}
	if (s->state == SESSION_STARTING && s->starting.pid == pid)
		s->starting.pid = 0;
	if (s->has_child && !s->exited && s->child.pid == pid)
		exited(s, wait_status, oom);
}

/* ---- the host */

bool session_is_kept(const struct session *s)
{
	return s->fd < 0 && s->server->held && s->is_main &&
	       s->container == &s->server->first;
}

void session_peer_gone(struct session *s)
{
	util_close(&s->fd);
	s->out_start = 0;
	s->out_end = 0;
	if (session_is_kept(s))
		return;
	if (s->state == SESSION_STARTING)
		session_abandon(s);
	if (!s->has_child || s->exited)
		return;
	session_close_input(s);
	/* It works for nobody else. */
	if (s->bound)
		s->server->actions->kill(s->child.pid, SIGKILL);
	if (session_has_terminal(s)) {
		session_close_output(s, 0);
		session_close_slave(s);
	}
	if (!s->is_main ||
	    !(s->container->config.flags & AGENT_CONFIG_HOST_BOUND))
		return;
	if (s->container == &s->server->first)
		server_end(s->server, SIGKILL, 0);
	else
		s->server->actions->kill(s->child.pid, SIGKILL);
}

void session_send(struct session *s)
{
	if (!session_flush(s))
		session_peer_gone(s);
}

/* ---- a process's frames */

static bool take_stdin(struct session *s, const struct agent_message *m)
{
	if (s->input_eof || m->bytes > s->window)
		return false;
	s->window -= m->bytes;
	/* The host was told, or will be, that nobody reads. */
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
	if (session_has_terminal(s))
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
	if (!session_has_terminal(s))
		session_close_output(s, stream - 1);
	return true;
}

bool session_take_process(struct session *s, const struct agent_message *m)
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
		if (!session_read_signal(m, &number))
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
		session_peer_gone(s);
		return true;
	default:
		return false;
	}
}

/* ---- events */

bool session_has_event(const struct session *s)
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

bool session_tell_event(struct session *s)
{
	struct agent_event wire = s->memory;

	if (!session_has_event(s))
		return false;
	if (s->tell_killed) {
		wire.kind = htole32(AGENT_EVENT_KILLED);
		s->tell_killed = false;
	} else {
		wire.kind = htole32(s->is_short ? AGENT_EVENT_SHORT
						: AGENT_EVENT_ENOUGH);
		s->told_short = s->is_short;
	}
	session_put(s, AGENT_EVENT, &wire, sizeof(wire));
	return true;
}

/* ---- a process's data */

void session_write_input(struct session *s, bool broken)
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
		session_close_input(s);
		s->tell_closed = !s->input_eof;
	} else if (s->input_eof && !session_has_terminal(s)) {
		session_close_input(s);
	}
}

/* Tells the host about standard input. True: a frame was put. */
static bool tell_input(struct session *s)
{
	if (s->tell_closed) {
		s->tell_closed = false;
		session_put(s, AGENT_STDIN_CLOSED, NULL, 0);
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
		session_put(s, AGENT_STDIN_MORE, &credit, sizeof(credit));
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
		n = most ? read(fd, s->out + SESSION_HEADER, most) : 0;
	} while (n < 0 && errno == EINTR);
	/*
	 * After the process's end, only data that is there already is its own.
	 */
	if (n < 0 && errno == EAGAIN && !s->exited)
		return false;
	if (n <= 0) {
		session_close_output(s, stream);
		return false;
	}
	if (s->exited)
		s->drain[stream] -= (size_t)n;
	if (s->fd < 0)
		return true;
	frame = agent_frame_make(stream ? AGENT_STDERR : AGENT_STDOUT,
				 (size_t)n);
	memcpy(s->out, &frame, SESSION_HEADER);
	s->out_end = SESSION_HEADER + (size_t)n;
	return true;
}

/* Whether the machine's main process, which has ended, leaves nobody. */
static bool is_last(const struct session *s)
{
	const struct server *server = s->server;

	if (!s->is_main || s->container != &server->first ||
	    server->ncontainers > 0 || s->host_minor < 13)
		return false;
	for (const struct session *o = server->sessions; o; o = o->next) {
		if (o != s && (o->has_child || o->state == SESSION_STARTING))
			return false;
	}
	return true;
}

static void put_exit(struct session *s)
{
	const int status = s->wait_status;
	struct server_container *c = s->container;
	const bool killed = s->is_main && c != &s->server->first &&
			    cgroup_oom_kills(&c->box.group) > 0;
	const uint32_t flags = (s->oom || killed ? AGENT_EXIT_OOM : 0U) |
			       (is_last(s) ? AGENT_EXIT_LAST : 0U);
	struct agent_exit end = {.flags = htole32(flags)};

	if (WIFSIGNALED(status))
		end.signal = htole32((uint32_t)WTERMSIG(status));
	else
		end.status = htole32((uint32_t)WEXITSTATUS(status));
	session_put(s, AGENT_EXIT, &end, sizeof(end));
	s->state = SESSION_ENDING;
}

void session_send_output(struct session *s)
{
	for (unsigned i = 0; i < BURST; i++) {
		bool more;

		session_send(s);
		if (s->out_end > 0 || s->state != SESSION_PROCESS)
			return;
		more = session_tell_event(s) || tell_input(s);
		if (!more)
			more = read_output(s, i % 2) ||
			       read_output(s, (i + 1) % 2);
		if (more)
			continue;
		if (!session_has_ended(s))
			return;
		put_exit(s);
		session_send(s);
		return;
	}
}
