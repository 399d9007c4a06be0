/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Name servers for a guest: its queries are asked of this host's servers by a
 * thread. The guest is hostile: it gets datagrams and streams to port 53 of the
 * addresses given here and to nothing else, so many at once, so long, for so
 * long.
 */
#include "tools/agent/agent.h"

#include "tools/agent/agent-parts.h"
#include "vmm/base/log.h"
#include "vmm/base/thread.h"
#include "vmm/base/util.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* The first minor version that has them. */
#define NAMES_MINOR 7
/* Resolvers give up after 5 s, mostly. */
#define ANSWER_MS 10000
#define PORT      53
#define RECORD    sizeof(struct agent_name)

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

/* One that the guest has asked and that has no answer yet. */
struct query {
	int fd; /* owned; -1: free */
	__le32 id;
	bool tcp;
	bool done;     /* the message is the answer, to be sent */
	bool asked;    /* TCP: the query is written, the answer comes */
	uint8_t *data; /* owned: with TCP's length before it */
	size_t have, left;
	uint64_t end_ns;
};

struct agent_names {
	struct agent_session *agent; /* owned */
	union address servers[AGENT_NAMES_SERVERS];
	unsigned nservers;
	struct query queries[AGENT_NAMES_MAX];
	uint8_t *in; /* owned: a record on its way from the guest */
	size_t have;
	bool ready; /* the guest's side listens */
	pthread_t thread;
	bool has_thread;
};

static void drop(struct query *q)
{
	util_close(&q->fd);
	free(q->data);
	*q = (struct query){.fd = -1};
}

/* ---- from the guest */

/* Asks what stands in q->data. 0, or -errno: it cannot be asked. */
static int open_query(struct query *q, const union address *to, size_t bytes)
{
	const int type = q->tcp ? SOCK_STREAM : SOCK_DGRAM;

	q->fd = socket(to->any.sa_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK,
		       0);
	if (q->fd < 0)
		return -errno;
	if (connect(q->fd, &to->any, sizeof(*to)) < 0 && errno != EINPROGRESS)
		return -errno;
	if (!q->tcp)
		return send(q->fd, q->data + 2, bytes, MSG_NOSIGNAL) < 0
			       ? -errno
			       : 0;
	q->have = q->left = 2 + bytes;
	return 0;
}

static void fail(struct query *q)
{
	q->done = true;
	q->have = 0;
}

static int take_query(struct agent_names *n, const struct agent_name *record)
{
	const size_t bytes = le16toh(record->bytes);
	struct query *q = n->queries;

	if (!n->ready) {
		n->ready = record->id == 0 && bytes == 0;
		return n->ready ? 0 : agent_violation("names before its start");
	}
	if (record->id == 0 || record->server >= n->nservers || bytes == 0 ||
	    bytes > AGENT_NAMES_BYTES || record->tcp > 1)
		return agent_violation("a query that cannot be");
	while (q < n->queries + AGENT_NAMES_MAX && q->data)
		q++;
	if (q == n->queries + AGENT_NAMES_MAX)
		return agent_violation("more queries than there can be");
	q->data = malloc(2 + AGENT_NAMES_BYTES);
	if (!q->data)
		return log_ret(-ENOMEM, "out of memory");
	q->id = record->id;
	q->tcp = record->tcp;
	q->end_ns = util_now_ns() + ANSWER_MS * UINT64_C(1000000);
	q->data[0] = (uint8_t)(bytes >> 8);
	q->data[1] = (uint8_t)bytes;
	memcpy(q->data + 2, n->in + RECORD, bytes);
	/* One that cannot be asked is one without an answer. */
	if (open_query(q, &n->servers[record->server], bytes) < 0)
		fail(q);
	return 0;
}

/* Output of the guest's side, in pieces. */
static int take_output(struct agent_names *n, const uint8_t *data, size_t left)
{
	while (left > 0) {
		struct agent_name record;
		size_t want = RECORD;
		size_t now;

		if (n->have >= RECORD) {
			memcpy(&record, n->in, RECORD);
			want += le16toh(record.bytes);
		}
		now = (size_t)min_u64(want - n->have, left);
		memcpy(n->in + n->have, data, now);
		n->have += now;
		data += now;
		left -= now;
		if (n->have < RECORD)
			continue;
		memcpy(&record, n->in, RECORD);
		if (le16toh(record.bytes) > AGENT_NAMES_BYTES)
			return agent_violation("a query that is too long");
		if (n->have < RECORD + le16toh(record.bytes))
			continue;
		n->have = 0;
		if (take_query(n, &record) < 0)
			return -EPROTO;
	}
	return 0;
}

/* 0, or -errno: it is over. */
static int take_frame(struct agent_names *n, const struct agent_message *m)
{
	switch (m->type) {
	case AGENT_STDOUT:
		return take_output(n, m->payload, m->bytes);
	case AGENT_STDERR:
		return log_ret(-EREMOTEIO, "the guest has no name servers: "
					   "nothing listens there");
	case AGENT_STDIN_MORE:
		return agent_take_credit(n->agent, m);
	case AGENT_STDIN_CLOSED:
	case AGENT_EXIT:
		return log_ret(-EREMOTEIO, "the guest's name servers ended");
	default:
		return agent_violation("a frame out of place");
	}
}

/* Frames that are here. 0, or -errno: it is over. */
static int take_frames(struct agent_names *n, bool readable)
{
	struct agent_message m;
	int r;

	/* The machine's end is told elsewhere. */
	while ((r = agent_take(n->agent, &readable, &m)) > 0) {
		r = take_frame(n, &m);
		if (r < 0)
			break;
	}
	return r;
}

/* ---- from the servers */

static void take_datagram(struct query *q)
{
	const ssize_t got = recv(q->fd, q->data + 2, AGENT_NAMES_BYTES, 0);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	q->done = true;
	q->have = got > 0 ? (size_t)got : 0;
}

static void write_stream(struct query *q)
{
	const ssize_t done = send(q->fd, q->data + (q->have - q->left), q->left,
				  MSG_NOSIGNAL);

	if (done < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (done < 0) {
		fail(q);
		return;
	}
	q->left -= (size_t)done;
	if (q->left > 0)
		return;
	q->asked = true;
	q->have = 0;
}

static void read_stream(struct query *q)
{
	size_t want = 2;
	ssize_t got;

	if (q->have >= 2)
		want += (size_t)q->data[0] << 8 | q->data[1];
	got = recv(q->fd, q->data + q->have, want - q->have, 0);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		fail(q);
		return;
	}
	q->have += (size_t)got;
	if (q->have < 2)
		return;
	want = (size_t)q->data[0] << 8 | q->data[1];
	if (want == 0 || want > AGENT_NAMES_BYTES) {
		fail(q);
	} else if (q->have == 2 + want) {
		q->done = true;
		q->have = want;
	}
}

/* Sends an answer if the guest can take it whole. True: it is sent. */
static bool answer(struct agent_names *n, struct query *q)
{
	struct agent_session *agent = n->agent;
	const size_t bytes = RECORD + q->have;
	const struct agent_name record = {
		.id = q->id,
		.bytes = htole16((uint16_t)q->have),
	};
	uint8_t *frame;

	if (agent->out_end > 0 || agent->window < bytes)
		return false;
	frame = malloc(bytes);
	if (!frame)
		return false;
	memcpy(frame, &record, RECORD);
	memcpy(frame + RECORD, q->data + 2, q->have);
	agent_put(agent, AGENT_STDIN, frame, bytes);
	free(frame);
	agent->window -= bytes;
	drop(q);
	return true;
}

/* ---- the thread */

#define SOURCES (1 + AGENT_NAMES_MAX)

static int fill_poll(struct agent_names *n, struct pollfd pfd[SOURCES])
{
	const uint64_t now = util_now_ns();
	uint64_t next = UINT64_MAX;

	pfd[0] = (struct pollfd){
		.fd = n->agent->fd,
		.events = (short)(POLLIN | (n->agent->out_end ? POLLOUT : 0)),
	};
	for (unsigned i = 0; i < AGENT_NAMES_MAX; i++) {
		struct query *q = &n->queries[i];

		if (q->data && !q->done && q->end_ns <= now)
			fail(q);
		if (q->data && q->done)
			(void)answer(n, q);
		if (q->data && !q->done)
			next = min_u64(next, q->end_ns);
		pfd[1 + i] = (struct pollfd){
			.fd = q->data && !q->done ? q->fd : -1,
			.events = q->tcp && !q->asked ? POLLOUT : POLLIN,
		};
	}
	if (n->agent->out_end)
		pfd[0].events |= POLLOUT;
	return next == UINT64_MAX ? -1 : (int)((next - now) / 1000000) + 1;
}

static int step(struct agent_names *n)
{
	struct pollfd pfd[SOURCES];
	const int timeout_ms = fill_poll(n, pfd);
	int r;

	if (poll(pfd, SOURCES, timeout_ms) < 0)
		return errno == EINTR ? 0 : -errno;
	for (unsigned i = 0; i < AGENT_NAMES_MAX; i++) {
		struct query *q = &n->queries[i];

		if (pfd[1 + i].fd < 0 || !pfd[1 + i].revents)
			continue;
		if (!q->tcp)
			take_datagram(q);
		else if (q->asked)
			read_stream(q);
		else
			write_stream(q);
	}
	r = agent_flush(n->agent);
	return r < 0 ? r : take_frames(n, pfd[0].revents & ~POLLOUT);
}

static void *run(void *arg)
{
	struct agent_names *n = arg;

	/* Frames that came with the last one are here; poll() does not tell. */
	int r = take_frames(n, false);

	while (r == 0)
		r = step(n);
	/* The guest's side ends with its session. */
	shutdown(n->agent->fd, SHUT_RDWR);
	return NULL;
}

/* ---- begin and end */

static int add_server(struct agent_names *n, const char *text)
{
	union address *a = &n->servers[n->nservers];

	if (n->nservers == AGENT_NAMES_SERVERS)
		return log_ret(-E2BIG, "more than %d name servers",
			       AGENT_NAMES_SERVERS);
	n->nservers++;
	if (inet_pton(AF_INET, text, &a->in.sin_addr) == 1) {
		a->in.sin_family = AF_INET;
		a->in.sin_port = htons(PORT);
		return 0;
	}
	if (inet_pton(AF_INET6, text, &a->in6.sin6_addr) != 1)
		return log_ret(-EINVAL, "name server '%s': not an address",
			       text);
	a->in6.sin6_family = AF_INET6;
	a->in6.sin6_port = htons(PORT);
	return 0;
}

/* Until the guest's side listens. */
static int await_ready(struct agent_names *n)
{
	const uint64_t end =
		util_now_ns() + AGENT_MACHINE_MS * UINT64_C(1000000);

	while (!n->ready) {
		const uint64_t now = util_now_ns();
		struct agent_message m;
		int r = agent_await(
			n->agent, now < end ? (int)((end - now) / 1000000) : 0,
			&m);

		if (r == 0)
			r = take_frame(n, &m);
		if (r < 0)
			return r;
	}
	return 0;
}

int agent_names_open(struct agent_session *agent, const char *const *servers,
		     struct agent_names **ret)
{
	const char *argv[AGENT_NAMES_SERVERS + 2] = {AGENT_OWN_NAMES};
	struct agent_names *n = calloc(1, sizeof(*n));
	int r;

	if (!n) {
		agent_free(agent);
		return log_ret(-ENOMEM, "out of memory");
	}
	n->agent = agent;
	for (unsigned i = 0; i < AGENT_NAMES_MAX; i++)
		n->queries[i].fd = -1;
	n->in = malloc(RECORD + AGENT_NAMES_BYTES);
	r = n->in ? 0 : log_ret(-ENOMEM, "out of memory");
	if (r == 0 && agent->minor < NAMES_MINOR)
		r = log_ret(-ENOTSUP, "the guest's agent is an older one");
	for (unsigned i = 0; r == 0 && servers[i]; i++) {
		r = add_server(n, servers[i]);
		argv[i + 1] = servers[i];
	}
	if (r == 0)
		r = agent_own(agent, argv, true);
	if (r == 0)
		r = await_ready(n);
	if (r == 0)
		r = thread_start(&n->thread, 0, run, n);
	n->has_thread = r == 0;
	if (r < 0) {
		agent_names_close(n);
		return r;
	}
	*ret = n;
	return 0;
}

void agent_names_close(struct agent_names *n)
{
	if (!n)
		return;
	if (n->has_thread) {
		shutdown(n->agent->fd, SHUT_RDWR);
		pthread_join(n->thread, NULL);
	}
	for (unsigned i = 0; i < AGENT_NAMES_MAX; i++)
		drop(&n->queries[i]);
	agent_free(n->agent);
	free(n->in);
	free(n);
}
