/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections that come to a socket of the host's, taken to the guest's
 * loopback by a thread: each is a session with a program of the agent's own.
 * The guest is hostile: all that it can do is to send bytes to whoever has
 * connected, or to hold up these connections, which are its own.
 */
#include "tools/agent/agent.h"

#include "firmware/agent/agent.h"
#include "tools/agent/agent-parts.h"
#include "vmm/base/log.h"
#include "vmm/base/thread.h"
#include "vmm/base/util.h"

#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

/* The first minor version that has them. */
#define PORTS_MINOR 9
#define INPUT_BYTES 16384

struct stream {
	int fd;                      /* owned; -1: free */
	struct agent_session *agent; /* owned */
	const uint8_t *data; /* for FD, borrowed from the agent's reader */
	size_t left;
	bool input;  /* FD may give more, and the guest takes it */
	bool ended;  /* the guest's side has */
	bool broken; /* not as it should */
};

struct agent_ports {
	struct agent_ports_options options;
	struct stream streams[AGENT_PORTS_STREAMS];
	int stop_fd; /* owned */
	pthread_t thread;
	bool has_thread;
};

/* The client of one that broke is told so, as its own kernel would. */
static void drop(struct stream *s)
{
	const struct linger reset = {.l_onoff = 1};

	if (s->broken)
		(void)setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &reset,
				 sizeof(reset));
	util_close(&s->fd);
	agent_free(s->agent);
	*s = (struct stream){.fd = -1};
}

static void end(struct stream *s, bool broken)
{
	s->ended = true;
	s->broken |= broken;
}

/* ---- to the guest */

static void take_input(struct stream *s)
{
	uint8_t data[INPUT_BYTES];
	const size_t room = (size_t)min_u64(s->agent->window, sizeof(data));
	const ssize_t n = recv(s->fd, data, room, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		end(s, true);
		return;
	}
	if (n == 0) {
		s->input = false;
		agent_put(s->agent, AGENT_STDIN_EOF, NULL, 0);
		return;
	}
	agent_put(s->agent, AGENT_STDIN, data, (size_t)n);
	s->agent->window -= (size_t)n;
}

/* ---- from the guest */

static int take_end(struct stream *s, const struct agent_message *m)
{
	struct agent_exit wire;

	if (agent_message_copy(m, &wire, sizeof(wire)))
		return agent_violation("an end that is none");
	s->agent->started = false;
	end(s, wire.status || wire.signal);
	return 0;
}

static int take_frame(struct stream *s, const struct agent_message *m)
{
	switch (m->type) {
	case AGENT_STDOUT:
		s->data = m->payload;
		s->left = m->bytes;
		return 0;
	case AGENT_STDERR:
		return 0;
	case AGENT_STDIN_MORE:
		return agent_take_credit(s->agent, m);
	case AGENT_STDIN_CLOSED:
		s->input = false;
		return 0;
	case AGENT_EXIT:
		return take_end(s, m);
	default:
		return agent_violation("a frame out of place");
	}
}

/* Frames that are here, up to one whose data has to be sent first. */
static int take_frames(struct stream *s, bool readable)
{
	struct agent_message m;
	int r = 0;

	while (r >= 0 && s->left == 0 && !s->ended) {
		r = agent_take(s->agent, &readable, &m);
		if (r <= 0)
			break;
		r = take_frame(s, &m);
	}
	return r;
}

static void give_output(struct stream *s)
{
	const ssize_t n =
		send(s->fd, s->data, s->left, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		s->left = 0;
		end(s, false);
		return;
	}
	s->data += n;
	s->left -= (size_t)n;
}

/* ---- the thread */

#define CLIENTS 2
#define SOURCES (CLIENTS + 2 * AGENT_PORTS_STREAMS)

static struct pollfd poll_of(int fd, bool in, bool out)
{
	/* A side that is not looked at would tell of its end all the time. */
	return (struct pollfd){
		.fd = in || out ? fd : -1,
		.events = (short)((in ? POLLIN : 0) | (out ? POLLOUT : 0)),
	};
}

static void fill_poll(const struct agent_ports *p, struct pollfd pfd[SOURCES])
{
	bool full = true;

	for (unsigned i = 0; i < AGENT_PORTS_STREAMS; i++) {
		const struct stream *s = &p->streams[i];
		const struct agent_session *agent = s->agent;
		const bool owed = agent && agent->out_end > 0;

		full &= s->fd >= 0;
		pfd[CLIENTS + 2 * i] = poll_of(
			s->fd, agent && s->input && !owed && agent->window > 0,
			s->left > 0);
		pfd[CLIENTS + 2 * i + 1] =
			poll_of(agent ? agent->fd : -1, s->left == 0, owed);
	}
	pfd[0] = poll_of(p->stop_fd, true, false);
	pfd[1] = poll_of(p->options.fd, !full, false);
}

/* Takes what is here, and what can be READ; and ends what has ended. */
static void settle(struct stream *s, bool readable)
{
	if (!s->ended &&
	    (agent_flush(s->agent) < 0 || take_frames(s, readable) < 0))
		end(s, true);
	if (s->ended && s->left == 0)
		drop(s);
}

static void step_stream(struct stream *s, const struct pollfd pfd[2])
{
	if (s->left > 0 && pfd[0].revents & ~POLLIN)
		give_output(s);
	if (!s->ended && pfd[0].events & POLLIN && pfd[0].revents & ~POLLOUT)
		take_input(s);
	settle(s, pfd[1].revents & ~POLLOUT);
}

static int open_session(struct agent_ports *p, struct stream *s)
{
	struct sockaddr_in address = {0};
	socklen_t length = sizeof(address);
	char port[16];
	const char *const argv[] = {AGENT_OWN_CONNECT, port, NULL};
	int r;

	if (getsockname(s->fd, (void *)&address, &length) < 0 ||
	    address.sin_family != AF_INET)
		return -EAFNOSUPPORT;
	snprintf(port, sizeof(port), "%u", ntohs(address.sin_port));
	r = p->options.connect(p->options.arg, &s->agent);
	if (r == 0 && s->agent->minor < PORTS_MINOR)
		r = log_ret(-ENOTSUP, "the guest's agent is an older one");
	if (r < 0)
		return r;
	/* A guest that does not answer holds up no end. */
	s->agent->gone_fd = p->stop_fd;
	r = agent_own(s->agent, argv, true);
	s->agent->gone_fd = -1;
	return r;
}

static void take_client(struct agent_ports *p)
{
	struct stream *s = p->streams;

	while (s->fd >= 0)
		s++;
	s->fd = accept4(p->options.fd, NULL, NULL,
			SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (s->fd < 0)
		return;
	s->input = true;
	if (open_session(p, s) < 0) {
		s->broken = true;
		drop(s);
		return;
	}
	/* Frames that came with the last one are here; poll() does not tell. */
	settle(s, false);
}

static void *run(void *arg)
{
	struct agent_ports *p = arg;
	struct pollfd pfd[SOURCES];

	for (;;) {
		fill_poll(p, pfd);
		if (poll(pfd, SOURCES, -1) < 0 && errno != EINTR)
			break;
		if (pfd[0].revents)
			break;
		for (unsigned i = 0; i < AGENT_PORTS_STREAMS; i++) {
			const struct pollfd *of = &pfd[CLIENTS + 2 * i];

			if (of[0].revents || of[1].revents)
				step_stream(&p->streams[i], of);
		}
		if (pfd[1].revents)
			take_client(p);
	}
	return NULL;
}

/* ---- begin and end */

int agent_ports_open(const struct agent_ports_options *options,
		     struct agent_ports **ret)
{
	struct agent_ports *p = calloc(1, sizeof(*p));
	int r;

	if (!p) {
		close(options->fd);
		return log_ret(-ENOMEM, "out of memory");
	}
	p->options = *options;
	for (unsigned i = 0; i < AGENT_PORTS_STREAMS; i++)
		p->streams[i].fd = -1;
	p->stop_fd = eventfd(0, EFD_CLOEXEC);
	r = p->stop_fd < 0 ? -errno : thread_start(&p->thread, 0, run, p);
	p->has_thread = r == 0;
	if (r < 0) {
		agent_ports_close(p);
		return log_ret(r, "taking connections to the guest: %s",
			       strerror(-r));
	}
	*ret = p;
	return 0;
}

void agent_ports_close(struct agent_ports *p)
{
	if (!p)
		return;
	if (p->has_thread) {
		eventfd_write(p->stop_fd, 1);
		pthread_join(p->thread, NULL);
	}
	for (unsigned i = 0; i < AGENT_PORTS_STREAMS; i++) {
		if (p->streams[i].fd >= 0)
			drop(&p->streams[i]);
	}
	util_close(&p->stop_fd);
	util_close(&p->options.fd);
	free(p);
}
