/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A relay of queries to the host, without a look into them. A client gets the
 * answer to its own query alone: each query has a number until it is answered,
 * or nobody waits for it any more.
 */
#include "firmware/init/names.h"

#include "firmware/agent/agent.h"
#include "firmware/init/request.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define PORT 53
/* Clients by TCP; each asks one thing at a time. */
#define CLIENTS_MAX 16
/* Longer than the host's own patience; clients ask again sooner. */
#define ANSWER_MS 15000
#define CLIENT_MS 30000
#define RECORD    sizeof(struct agent_name)

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

/* A query that has gone to the host. */
struct query {
	uint32_t id; /* 0: free */
	unsigned server;
	int client; /* by TCP; -1: by UDP, from `from` */
	union address from;
	uint64_t end_ns;
};

struct client {
	int fd; /* owned; -1: free */
	unsigned server;
	bool waiting;  /* for an answer; nothing is read meanwhile */
	uint8_t *data; /* owned: the length in two bytes, and the message */
	size_t have;
	size_t left; /* bytes of an answer that are still to be sent */
	uint64_t end_ns;
};

struct names {
	unsigned nservers;
	int udp[AGENT_NAMES_SERVERS], tcp[AGENT_NAMES_SERVERS]; /* owned */
	struct query queries[AGENT_NAMES_MAX];
	struct client clients[CLIENTS_MAX];
	uint32_t last_id;
	uint8_t *answer; /* owned: a record on its way from the host */
	size_t have;
	uint8_t *out; /* owned: room for one record */
};

enum { FROM_HOST, FROM_SERVERS };
#define SOURCES (FROM_SERVERS + 2 * AGENT_NAMES_SERVERS + CLIENTS_MAX)

/* ---- sockets */

static int parse(const char *text, union address *ret)
{
	*ret = (union address){0};
	if (inet_pton(AF_INET, text, &ret->in.sin_addr) == 1) {
		ret->in.sin_family = AF_INET;
		ret->in.sin_port = htons(PORT);
		return 0;
	}
	if (inet_pton(AF_INET6, text, &ret->in6.sin6_addr) != 1)
		return log_ret(-EINVAL, "'%s': not an address", text);
	ret->in6.sin6_family = AF_INET6;
	ret->in6.sin6_port = htons(PORT);
	return 0;
}

static int open_one(const char *text, int type)
{
	union address address;
	autofd int fd = -1;
	const int on = 1;
	int r = parse(text, &address);

	if (r < 0)
		return r;
	fd = socket(address.any.sa_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK,
		    0);
	if (fd >= 0 && type == SOCK_STREAM)
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (fd < 0 || bind(fd, &address.any, sizeof(address)) < 0 ||
	    (type == SOCK_STREAM && listen(fd, CLIENTS_MAX) < 0))
		return log_ret(-errno, "name server '%s': %s", text,
			       strerror(errno));
	return take_fd(&fd);
}

static int open_all(struct names *n, const struct init_strings *args)
{
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		n->clients[i].fd = -1;
	for (size_t i = 1; i < args->n; i++) {
		const unsigned server = n->nservers++;

		n->udp[server] = open_one(args->list[i], SOCK_DGRAM);
		if (n->udp[server] < 0)
			return n->udp[server];
		n->tcp[server] = open_one(args->list[i], SOCK_STREAM);
		if (n->tcp[server] < 0)
			return n->tcp[server];
	}
	n->answer = malloc(RECORD + AGENT_NAMES_BYTES);
	n->out = malloc(RECORD + AGENT_NAMES_BYTES);
	return n->answer && n->out ? 0 : log_ret(-ENOMEM, "out of memory");
}

static void drop_client(struct names *n, unsigned i)
{
	struct client *c = &n->clients[i];

	for (unsigned q = 0; q < AGENT_NAMES_MAX; q++) {
		if (n->queries[q].id && n->queries[q].client == (int)i)
			n->queries[q].id = 0;
	}
	util_close(&c->fd);
	free(c->data);
	*c = (struct client){.fd = -1};
}

/* ---- to the host */

static struct query *free_query(struct names *n)
{
	for (unsigned q = 0; q < AGENT_NAMES_MAX; q++) {
		if (n->queries[q].id == 0)
			return &n->queries[q];
	}
	return NULL;
}

/* A query of BYTES stands in n->out, behind a record's room. 0 or -errno. */
static int ask(struct names *n, struct query *q, size_t bytes)
{
	struct agent_name record = {
		.bytes = htole16((uint16_t)bytes),
		.server = (uint8_t)q->server,
		.tcp = q->client >= 0,
	};

	n->last_id = n->last_id == UINT32_MAX ? 1 : n->last_id + 1;
	q->id = n->last_id;
	q->end_ns = util_now_ns() + ANSWER_MS * UINT64_C(1000000);
	record.id = htole32(q->id);
	memcpy(n->out, &record, RECORD);
	return util_write_all(STDOUT_FILENO, n->out, RECORD + bytes);
}

static int take_datagram(struct names *n, unsigned server)
{
	struct query *q = free_query(n);
	struct query fresh = {.server = server, .client = -1};
	socklen_t length = sizeof(fresh.from);
	const ssize_t bytes =
		recvfrom(n->udp[server], n->out + RECORD, AGENT_NAMES_BYTES,
			 MSG_TRUNC, &fresh.from.any, &length);

	/* As many as that wait: this one is asked again by its client. */
	if (bytes <= 0 || bytes > AGENT_NAMES_BYTES || !q)
		return 0;
	*q = fresh;
	return ask(n, q, (size_t)bytes);
}

static void take_client(struct names *n, unsigned server)
{
	autofd int fd = -1;
	unsigned i = 0;

	while (i < CLIENTS_MAX && n->clients[i].fd >= 0)
		i++;
	if (i == CLIENTS_MAX)
		return;
	fd = accept4(n->tcp[server], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	n->clients[i].data = malloc(2 + AGENT_NAMES_BYTES);
	if (!n->clients[i].data)
		return;
	n->clients[i].fd = take_fd(&fd);
	n->clients[i].server = server;
	n->clients[i].end_ns = util_now_ns() + CLIENT_MS * UINT64_C(1000000);
}

/* How long the message is; 0: not known yet. */
static size_t client_wants(const struct client *c)
{
	return c->have < 2 ? 0 : (size_t)c->data[0] << 8 | c->data[1];
}

/* 0, or -errno: the host does not listen any more. */
static int read_client(struct names *n, unsigned i)
{
	struct client *c = &n->clients[i];
	const size_t room =
		c->have < 2 ? 2 - c->have : 2 + client_wants(c) - c->have;
	const ssize_t got = recv(c->fd, c->data + c->have, room, 0);
	struct query *q;

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (got <= 0) {
		drop_client(n, i);
		return 0;
	}
	c->have += (size_t)got;
	if (c->have < 2 || c->have < 2 + client_wants(c))
		return 0;
	q = free_query(n);
	if (!q || client_wants(c) == 0 || client_wants(c) > AGENT_NAMES_BYTES) {
		drop_client(n, i);
		return 0;
	}
	*q = (struct query){.server = c->server, .client = (int)i};
	c->waiting = true;
	memcpy(n->out + RECORD, c->data + 2, client_wants(c));
	return ask(n, q, client_wants(c));
}

static void write_client(struct names *n, unsigned i)
{
	struct client *c = &n->clients[i];
	const ssize_t done = send(c->fd, c->data + (c->have - c->left), c->left,
				  MSG_NOSIGNAL);

	if (done < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (done < 0) {
		drop_client(n, i);
		return;
	}
	c->left -= (size_t)done;
	if (c->left > 0)
		return;
	/* It may ask for more. */
	c->have = 0;
	c->end_ns = util_now_ns() + CLIENT_MS * UINT64_C(1000000);
}

/* ---- from the host */

static void give(struct names *n, struct query *q, const uint8_t *data,
		 size_t bytes)
{
	struct client *c = q->client < 0 ? NULL : &n->clients[q->client];

	q->id = 0;
	if (bytes == 0 && c) {
		drop_client(n, (unsigned)q->client);
	} else if (bytes > 0 && c) {
		c->data[0] = (uint8_t)(bytes >> 8);
		c->data[1] = (uint8_t)bytes;
		memcpy(c->data + 2, data, bytes);
		c->have = c->left = 2 + bytes;
		c->waiting = false;
	} else if (bytes > 0) {
		/* A client that does not read loses the answer. */
		(void)sendto(n->udp[q->server], data, bytes, MSG_DONTWAIT,
			     &q->from.any, sizeof(q->from));
	}
}

/* 0, -ENODATA at the end of all, or -EPROTO. */
static int take_answer(struct names *n)
{
	struct agent_name record;
	size_t want = RECORD;
	ssize_t got;

	if (n->have >= RECORD) {
		memcpy(&record, n->answer, RECORD);
		want += le16toh(record.bytes);
	}
	got = read(STDIN_FILENO, n->answer + n->have, want - n->have);
	if (got < 0 && errno == EINTR)
		return 0;
	if (got <= 0)
		return -ENODATA;
	n->have += (size_t)got;
	if (n->have < RECORD)
		return 0;
	memcpy(&record, n->answer, RECORD);
	if (le16toh(record.bytes) > AGENT_NAMES_BYTES)
		return log_ret(-EPROTO, "an answer that is too long");
	if (n->have < RECORD + le16toh(record.bytes))
		return 0;
	n->have = 0;
	for (unsigned q = 0; q < AGENT_NAMES_MAX; q++) {
		if (n->queries[q].id && n->queries[q].id == le32toh(record.id))
			give(n, &n->queries[q], n->answer + RECORD,
			     le16toh(record.bytes));
	}
	return 0;
}

/* ---- the loop */

/* Gives up what has waited for too long. Until the next such time, in ms. */
static int expire(struct names *n)
{
	const uint64_t now = util_now_ns();
	uint64_t next = UINT64_MAX;

	for (unsigned q = 0; q < AGENT_NAMES_MAX; q++) {
		if (n->queries[q].id && n->queries[q].end_ns <= now)
			give(n, &n->queries[q], NULL, 0);
		if (n->queries[q].id)
			next = min_u64(next, n->queries[q].end_ns);
	}
	for (unsigned i = 0; i < CLIENTS_MAX; i++) {
		struct client *c = &n->clients[i];

		if (c->fd >= 0 && !c->waiting && c->end_ns <= now)
			drop_client(n, i);
		if (c->fd >= 0 && !c->waiting)
			next = min_u64(next, c->end_ns);
	}
	return next == UINT64_MAX ? -1 : (int)((next - now) / 1000000) + 1;
}

static void fill_poll(const struct names *n, struct pollfd pfd[SOURCES])
{
	bool full = true;

	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		full &= n->clients[i].fd >= 0;
	for (unsigned i = 0; i < SOURCES; i++)
		pfd[i] = (struct pollfd){.fd = -1, .events = POLLIN};
	pfd[FROM_HOST].fd = STDIN_FILENO;
	pfd += FROM_SERVERS;
	for (unsigned i = 0; i < n->nservers; i++) {
		pfd[2 * i].fd = n->udp[i];
		pfd[2 * i + 1].fd = full ? -1 : n->tcp[i];
	}
	pfd += 2 * AGENT_NAMES_SERVERS;
	for (unsigned i = 0; i < CLIENTS_MAX; i++) {
		const struct client *c = &n->clients[i];

		pfd[i].fd = c->waiting ? -1 : c->fd;
		pfd[i].events = c->left ? POLLOUT : POLLIN;
	}
}

static int step(struct names *n)
{
	struct pollfd all[SOURCES], *pfd = all;
	const int timeout_ms = expire(n);
	int r = 0;

	fill_poll(n, all);
	if (poll(all, SOURCES, timeout_ms) < 0)
		return errno == EINTR ? 0 : -errno;
	if (pfd[FROM_HOST].revents)
		r = take_answer(n);
	pfd += FROM_SERVERS;
	for (unsigned i = 0; r == 0 && i < n->nservers; i++) {
		if (pfd[2 * i].revents)
			r = take_datagram(n, i);
		if (pfd[2 * i + 1].revents)
			take_client(n, i);
	}
	pfd += 2 * AGENT_NAMES_SERVERS;
	for (unsigned i = 0; r == 0 && i < CLIENTS_MAX; i++) {
		if (!pfd[i].revents || n->clients[i].fd != pfd[i].fd)
			continue;
		if (n->clients[i].left)
			write_client(n, i);
		else
			r = read_client(n, i);
	}
	return r;
}

int names_run(const struct init_strings *args)
{
	struct names *n = calloc(1, sizeof(*n));
	const struct agent_name ready = {0};
	int r;

	if (!n)
		return 1;
	/* It ends with its process: nothing is freed. */
	r = open_all(n, args);
	if (r == 0)
		r = util_write_all(STDOUT_FILENO, &ready, sizeof(ready));
	while (r == 0)
		r = step(n);
	return r != -ENODATA && r != -EPIPE;
}
