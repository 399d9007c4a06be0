/* SPDX-License-Identifier: Apache-2.0 */
/* The states and frames of docs/AGENT, from the connection's side. */
#include "firmware/init/session.h"

#include "firmware/init/session-parts.h"
#include "vmm/base/util.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct session *session_new(struct server *server, int fd)
{
	struct session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->server = server;
	s->container = &server->first;
	s->fd = fd;
	s->starting = PROCESS_STARTING_NONE;
	s->child = INIT_CHILD_NONE;
	s->out = malloc(SESSION_OUT_ROOM);
	if (agent_reader_init(&s->reader) < 0 || !s->out) {
		s->fd = -1;
		session_free(s);
		return NULL;
	}
	return s;
}

void session_free(struct session *s)
{
	server_forget(s->server, s);
	if (s->state == SESSION_STARTING)
		session_abandon(s);
	session_close_input(s);
	session_close_output(s, 0);
	session_close_output(s, 1);
	session_close_slave(s);
	util_close(&s->fd);
	agent_reader_done(&s->reader);
	free(s->input);
	free(s->request);
	free(s->out);
	free(s);
}

/* The answer to a request: DONE, or FAILED if R is not 0. */
static void answer(struct session *s, int r, const struct init_failure *f)
{
	if (r)
		session_put_failed(s, f);
	else
		session_put(s, AGENT_DONE, NULL, 0);
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
	/*
	 * Answer a host of another version, too: it can then say what is wrong.
	 */
	session_put(s, AGENT_HELLO, &ours, sizeof(ours));
	s->state = SESSION_REQUEST;
	s->host_minor = le16toh(hello.minor);
	if (hello.major == ours.major)
		return true;
	session_send(s);
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

/* They tell what numbers were made of, and are gone when they were taken. */
static int take_entropy(struct server *server, struct agent_entropy **entropy,
			struct init_failure *f)
{
	const int r = *entropy ? server->actions->add_entropy(*entropy, f) : 0;

	if (*entropy)
		explicit_bzero(take_ptr(*entropy), sizeof(**entropy));
	return r;
}

/* The machine's own container, as far as it is known by now. */
static int prepare(struct session *s, struct init_failure *f)
{
	struct server_container *c = &s->server->first;
	uint8_t *request = take_ptr(s->request);
	const size_t n = s->nrequest;
	struct init_config config;

	s->nrequest = 0;
	if (init_prepare_parse(request, n, &config, f))
		return -1;
	if (c->configured || c->config.root_tag) {
		init_config_done(&config);
		return init_fail(f, INIT_STATUS_SETUP, EALREADY, "prepare");
	}
	c->config = config;
	return session_prepare(s, f);
}

/* Both take what they keep of CONFIG. */
static int configure_first(struct session *s, struct init_config *config,
			   struct init_failure *f)
{
	struct server *server = s->server;
	struct server_container *c = &server->first;

	if (c->configured)
		return init_fail(f, INIT_STATUS_SETUP, EALREADY, "configure");
	if (c->box.prepared && !init_config_fits(&c->config, config))
		return init_fail(f, INIT_STATUS_SETUP, EINVAL,
				 "another container than was prepared");
	init_config_done(&c->config);
	c->config = *config;
	*config = (struct init_config){0};
	c->configured = true;
	/* START may have come already, and must not run then. */
	c->failed = true;
	if (c->config.has_time &&
	    server->actions->set_clock(&c->config.time, f))
		return -1;
	if (take_entropy(server, &c->config.entropy, f) ||
	    server->actions->configure(&c->config, f))
		return -1;
	c->failed = false;
	return 0;
}

static int configure_other(struct session *s, struct init_config *config,
			   struct init_failure *f)
{
	struct server *server = s->server;
	struct server_container *c;

	if (s->container != &server->first)
		return init_fail(f, INIT_STATUS_SETUP, EALREADY, "configure");
	c = server_add_container(server, config, f);
	if (!c)
		return -1;
	s->container = c;
	return server->actions->configure(&c->config, f);
}

static int configure(struct session *s, struct init_failure *f)
{
	uint8_t *request = take_ptr(s->request);
	const size_t n = s->nrequest;
	struct init_config config;
	int r;

	s->nrequest = 0;
	if (init_config_parse(request, n, &config, f))
		return -1;
	r = config.container ? configure_other(s, &config, f)
			     : configure_first(s, &config, f);
	init_config_done(&config);
	return r;
}

/* The one that a request is about which has no other items. */
static struct server_container *find_target(struct session *s,
					    struct init_failure *f)
{
	autofree uint8_t *request = take_ptr(s->request);
	const size_t n = s->nrequest;
	struct server_container *c;
	const char *id;

	s->nrequest = 0;
	if (init_target_parse(request, n, &id, f))
		return NULL;
	c = server_find(s->server, id);
	if (!c)
		init_fail(f, INIT_STATUS_SETUP, ESRCH, "container '%s'", id);
	return c;
}

static void start(struct session *s)
{
	uint8_t *request = take_ptr(s->request);
	const size_t n = s->nrequest;
	struct init_start what = {0};
	struct init_failure f;
	int r;

	s->nrequest = 0;
	r = init_start_parse(request, n, &what, &f);
	if (r == 0)
		r = session_begin(s, &what, &f);
	if (r)
		session_put_failed(s, &f);
	init_start_done(&what);
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

static int signal_main(struct server *server, struct server_container *c,
		       int number, struct init_failure *f)
{
	if (!c->box.main_pid)
		return init_fail(f, INIT_STATUS_SETUP, ESRCH, "signal");
	server_signal(server, c, number);
	return 0;
}

static bool take_freeze(struct session *s, const struct agent_message *m)
{
	struct server_container *c;
	struct agent_freeze wire;
	struct init_failure f;
	int r;

	if (agent_message_copy(m, &wire, sizeof(wire)) ||
	    le32toh(wire.frozen) > 1)
		return false;
	c = find_target(s, &f);
	r = c ? cgroup_freeze(&c->box.group, wire.frozen) : -1;
	answer(s,
	       c && r < 0 ? init_fail(&f, INIT_STATUS_SETUP, -r, "freeze") : r,
	       &f);
	return true;
}

static bool take_hold(struct session *s, const struct agent_message *m)
{
	struct agent_freeze wire;
	struct init_failure f;

	if (agent_message_copy(m, &wire, sizeof(wire)) ||
	    le32toh(wire.frozen) > 1)
		return false;
	answer(s,
	       wire.frozen ? server_hold(s->server, s, &f)
			   : server_release(s->server, s, &f),
	       &f);
	return true;
}

/* The connection is MAIN's from now on; S, without one, ends. */
static void hand_over(struct session *s, struct session *main)
{
	const struct agent_reader before = main->reader;

	main->fd = s->fd;
	main->host_minor = s->host_minor;
	s->fd = -1;
	main->reader = s->reader;
	s->reader = before;
	main->watch = s->watch;
	main->memory = s->memory;
	main->is_short = main->told_short = main->tell_killed = false;
	/* Its end was told to a host that cannot have heard of it. */
	if (main->state == SESSION_ENDING)
		main->state = SESSION_PROCESS;
	/* Bytes that have not been taken count in the window. */
	main->window = 0;
	main->taken = AGENT_STDIN_WINDOW - (main->in_end - main->in_start);
	main->tell_closed =
		main->with_input && (main->input_eof || main->child.in_fd < 0);
	s->state = SESSION_HELLO;
}

static int rename_first(struct server *server, const char *hostname,
			struct init_failure *f)
{
	struct server_container *c = &server->first;
	char *copy = strdup(hostname);

	if (!copy)
		return init_fail(f, INIT_STATUS_SETUP, ENOMEM, "hostname");
	if (server->actions->rename(&c->box, copy, f)) {
		free(copy);
		return -1;
	}
	free(c->hostname);
	c->hostname = copy;
	c->config.hostname = copy;
	return 0;
}

static int renew(struct server *server, struct init_config *config,
		 struct init_failure *f)
{
	if (take_entropy(server, &config->entropy, f))
		return -1;
	if (config->has_time && server->actions->set_clock(&config->time, f))
		return -1;
	if (config->hostname && rename_first(server, config->hostname, f))
		return -1;
	if (!config->clone.name)
		return 0;
	if (server->actions->mark(&server->first.box, &config->clone, f))
		return -1;
	if (config->clone.signal)
		server_signal(server, &server->first, config->clone.signal);
	return 0;
}

static int attach(struct session *s, struct init_failure *f)
{
	uint8_t *request = take_ptr(s->request);
	struct session *main = server_main_session(s->server);
	struct agent_started wire;
	const size_t n = s->nrequest;
	struct init_config config;
	int r;

	s->nrequest = 0;
	if (init_attach_parse(request, n, &config, f))
		return -1;
	if (!main || !session_is_kept(main))
		r = init_fail(f, INIT_STATUS_SETUP, ESRCH, "attach");
	else
		r = renew(s->server, &config, f);
	init_config_done(&config);
	if (r == 0)
		r = server_release(s->server, NULL, f);
	if (r)
		return r;
	wire.pid = htole32((uint32_t)main->child.inside);
	hand_over(s, main);
	session_put(main, AGENT_STARTED, &wire, sizeof(wire));
	return 0;
}

static void take_attach(struct session *s)
{
	struct init_failure f;

	if (attach(s, &f))
		session_put_failed(s, &f);
}

static int set_limits(struct session *s, struct init_failure *f)
{
	uint8_t *request = take_ptr(s->request);
	const size_t n = s->nrequest;
	const struct server_container *c;
	struct init_config config;
	int r;

	s->nrequest = 0;
	if (init_limits_parse(request, n, &config, f))
		return -1;
	c = server_find(s->server, config.container);
	r = c ? cgroup_limit(&c->box.group, &config, f)
	      : init_fail(f, INIT_STATUS_SETUP, ESRCH, "container '%s'",
			  config.container);
	init_config_done(&config);
	return r;
}

static bool take_request(struct session *s, const struct agent_message *m)
{
	struct server *server = s->server;
	struct init_failure f;
	struct agent_time time;
	struct agent_usage usage;
	struct agent_info info;
	struct server_container *c;
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
	case AGENT_FREEZE:
		return take_freeze(s, m);
	case AGENT_HOLD:
		return take_hold(s, m);
	case AGENT_PREPARE:
		if (prepare(s, &f))
			session_put_failed(s, &f);
		return m->bytes == 0;
	case AGENT_ATTACH:
		if (m->bytes != 0)
			return false;
		take_attach(s);
		return true;
	case AGENT_LIMIT:
		answer(s, set_limits(s, &f), &f);
		return m->bytes == 0;
	case AGENT_INFO:
		server_facts(server, &info);
		session_put(s, AGENT_INFO, &info, sizeof(info));
		return m->bytes == 0;
	case AGENT_STATS:
		c = find_target(s, &f);
		if (c) {
			server_usage(c, &usage);
			session_put(s, AGENT_STATS, &usage, sizeof(usage));
		} else {
			session_put_failed(s, &f);
		}
		return m->bytes == 0;
	case AGENT_SIGNAL:
		if (!session_read_signal(m, &number))
			return false;
		c = find_target(s, &f);
		answer(s, c ? signal_main(server, c, number, &f) : -1, &f);
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
	case SESSION_STARTING:
		return false;
	default:
		return session_take_process(s, m);
	}
}

/*
 * An answer that nobody takes must not be followed by another one; and while a
 * process starts, the host's next frame is for it, or for none.
 */
static bool is_stalled(const struct session *s)
{
	return s->state == SESSION_STARTING ||
	       (s->state == SESSION_REQUEST && s->out_end > 0);
}

static void receive(struct session *s, bool readable)
{
	while (s->fd >= 0) {
		struct agent_message m;
		ssize_t n;
		int r;

		session_send(s);
		if (s->fd < 0 || is_stalled(s))
			return;
		r = agent_reader_next(&s->reader, &m);
		if (r < 0 || (r > 0 && !take(s, &m))) {
			init_say("the host broke the protocol: session ended");
			session_peer_gone(s);
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
			session_peer_gone(s);
	}
}

/* ---- the loop's side */

bool session_poll(const struct session *s, struct pollfd pfd[SESSION_SOURCES])
{
	const bool idle = s->out_end == 0;
	const bool pending = s->in_start < s->in_end;

	for (unsigned i = 0; i < SESSION_SOURCES; i++)
		pfd[i] = (struct pollfd){.fd = -1};
	if (session_is_kept(s))
		return false;
	pfd[SESSION_PEER].fd = s->fd;
	/* A vsock tells by POLLRDHUP alone that its peer has gone. */
	pfd[SESSION_PEER].events =
		(short)((is_stalled(s) ? 0 : POLLIN) | (idle ? 0 : POLLOUT) |
			(s->state == SESSION_STARTING ? POLLRDHUP : 0));
	if (s->state == SESSION_STARTING) {
		pfd[SESSION_OUT].fd = s->starting.report_fd;
		pfd[SESSION_OUT].events = POLLIN;
	}
	if (s->state != SESSION_PROCESS)
		return false;
	/* Without input only a pipe tells that its reader is gone. */
	if (pending || !session_has_terminal(s))
		pfd[SESSION_IN].fd = s->child.in_fd;
	pfd[SESSION_IN].events = pending ? POLLOUT : 0;
	if (idle) {
		pfd[SESSION_OUT].fd = s->child.out_fd;
		pfd[SESSION_OUT].events = POLLIN;
		pfd[SESSION_ERR].fd = s->child.err_fd;
		pfd[SESSION_ERR].events = POLLIN;
	}
	return idle && (session_has_ended(s) || session_has_event(s));
}

bool session_pump(struct session *s, const struct pollfd pfd[SESSION_SOURCES])
{
	const short peer = pfd[SESSION_PEER].revents;

	if (session_is_kept(s))
		return true;
	if (s->state == SESSION_STARTING &&
	    peer & (POLLHUP | POLLERR | POLLRDHUP))
		session_peer_gone(s);
	session_hear(s);
	receive(s, peer & (POLLIN | POLLHUP | POLLERR));
	if (s->state == SESSION_PROCESS) {
		session_write_input(s, pfd[SESSION_IN].revents & POLLERR);
		session_send_output(s);
	} else if (s->state == SESSION_REQUEST && s->out_end == 0 &&
		   session_tell_event(s)) {
		session_send(s);
	}
	return s->fd >= 0 || (s->has_child && !s->exited) || session_is_kept(s);
}
