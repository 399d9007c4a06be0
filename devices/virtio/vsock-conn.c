/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connections of a vsock device: table, turns, credit, and the Unix sockets
 * of the host's end.
 */
#include "devices/virtio/vsock-conn.h"

#include "devices/virtio/vq.h"
#include "vmm/base/iov.h"
#include "vmm/base/util.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/*
 * Edge-triggered: a connection may be readable, or hung up, for as long as the
 * guest gives no buffers, and must not wake the loop all that time.
 */
#define EVENTS (EPOLLIN | EPOLLRDHUP | EPOLLET)

/* ---- table ---- */

static struct vsock_conn_list *bucket(struct vsock_conns *conns,
				      uint32_t host_port, uint32_t guest_port)
{
	const uint32_t hash = (host_port * 31 + guest_port) * 0x9e3779b1u;

	return &conns->by_port[hash >> 16 & (ARRAY_LEN(conns->by_port) - 1)];
}

void vsock_conns_init(struct vsock_conns *conns, struct loop *loop,
		      void (*event)(struct loop_source *, uint32_t))
{
	*conns = (struct vsock_conns){.loop = loop, .event = event};
	TAILQ_INIT(&conns->turns);
}

void vsock_conns_done(struct vsock_conns *conns)
{
	struct vsock_conn *c;

	while ((c = LIST_FIRST(&conns->live)))
		vsock_conn_release(c);
	while ((c = LIST_FIRST(&conns->free))) {
		LIST_REMOVE(c, list);
		free(c);
	}
}

bool vsock_conns_room(const struct vsock_conns *conns, bool from_guest)
{
	return conns->count < VSOCK_CONNS_MAX &&
	       (!from_guest || conns->from_guest < VSOCK_CONNS_FROM_GUEST_MAX);
}

bool vsock_conns_make_room(struct vsock_conns *conns, bool from_guest)
{
	const uint64_t now = util_now_ns();
	struct vsock_conn *c, *silent = NULL;

	if (conns->count < VSOCK_CONNS_MAX)
		return vsock_conns_room(conns, from_guest);
	/* The youngest comes first. */
	LIST_FOREACH(c, &conns->live, list)
		if (c->state == VSOCK_GREETING &&
		    now - c->born_ns >= VSOCK_PATIENCE_MS * UINT64_C(1000000))
			silent = c;
	if (silent)
		vsock_conn_release(silent);
	return vsock_conns_room(conns, from_guest);
}

/* Takes a freed connection, or makes a new one. */
static struct vsock_conn *take_free(struct vsock_conns *conns)
{
	struct vsock_conn *c = LIST_FIRST(&conns->free);

	if (c) {
		LIST_REMOVE(c, list);
		return c;
	}
	c = calloc(1, sizeof(*c));
	if (c) {
		c->conns = conns;
		c->source.fn = conns->event;
	}
	return c;
}

struct vsock_conn *vsock_conn_new(struct vsock_conns *conns, int fd,
				  bool from_guest)
{
	struct vsock_conn *c = NULL;
	const size_t keep = offsetof(struct vsock_conn, state);

	if (vsock_conns_room(conns, from_guest))
		c = take_free(conns);
	if (!c) {
		util_close(&fd);
		return NULL;
	}
	memset((uint8_t *)c + keep, 0, sizeof(*c) - keep);
	c->source.fd = fd;
	c->state = VSOCK_GREETING;
	c->born_ns = util_now_ns();
	c->from_guest = from_guest;
	c->buffer = conns->count < VSOCK_CONNS_BUFFER ? VSOCK_BUFFER
						      : VSOCK_BUFFER_LESS;
	LIST_INSERT_HEAD(&conns->live, c, list);
	conns->count++;
	conns->from_guest += from_guest;
	if (loop_add(conns->loop, &c->source, EVENTS) < 0) {
		vsock_conn_release(c);
		return NULL;
	}
	return c;
}

void vsock_conn_bind(struct vsock_conn *c, uint32_t host_port,
		     uint32_t guest_port)
{
	assert(!c->bound);
	c->host_port = host_port;
	c->guest_port = guest_port;
	c->bound = true;
	LIST_INSERT_HEAD(bucket(c->conns, host_port, guest_port), c, by_port);
}

struct vsock_conn *vsock_conn_find(struct vsock_conns *conns,
				   uint32_t host_port, uint32_t guest_port)
{
	struct vsock_conn *c;

	LIST_FOREACH(c, bucket(conns, host_port, guest_port), by_port)
		if (c->host_port == host_port && c->guest_port == guest_port)
			return c;
	return NULL;
}

/* ---- turns ---- */

static void unqueue(struct vsock_conn *c)
{
	if (c->queued)
		TAILQ_REMOVE(&c->conns->turns, c, turn);
	c->queued = false;
}

/* The host's data goes to the guest, as far as there is any. */
static bool flows(const struct vsock_conn *c)
{
	return c->state == VSOCK_OPEN &&
	       !(c->host_shut & VIRTIO_VSOCK_SHUTDOWN_SEND) &&
	       !(c->guest_shut & VIRTIO_VSOCK_SHUTDOWN_RCV);
}

/* A guest that sends wrong counters spoils only what it receives itself. */
uint32_t vsock_conn_credit(const struct vsock_conn *c)
{
	const uint32_t under_way = c->sent - c->guest_forwarded;

	if (!flows(c) || under_way >= c->guest_buffer)
		return 0;
	return c->guest_buffer - under_way;
}

void vsock_conn_schedule(struct vsock_conn *c)
{
	const bool data = c->readable && flows(c);
	const bool credit = vsock_conn_credit(c) > 0;

	if (c->state == VSOCK_FREE || c->state == VSOCK_DRAINING)
		return;
	if (credit) {
		c->credit_asked = false;
	} else if (data && !c->credit_asked) {
		c->credit_asked = true;
		vsock_conn_owe(c, VIRTIO_VSOCK_OP_CREDIT_REQUEST);
	}
	if (!c->queued && (c->owed || (data && credit))) {
		TAILQ_INSERT_TAIL(&c->conns->turns, c, turn);
		c->queued = true;
	}
}

struct vsock_conn *vsock_conns_next(struct vsock_conns *conns)
{
	struct vsock_conn *c = TAILQ_FIRST(&conns->turns);

	if (c)
		unqueue(c);
	return c;
}

/* ---- ends ---- */

static void close_host(struct vsock_conn *c)
{
	if (c->source.fd < 0)
		return;
	loop_del(c->conns->loop, &c->source);
	util_close(&c->source.fd);
}

static void drop_held(struct vsock_conn *c)
{
	free(c->held);
	c->held = NULL;
	c->held_at = c->held_bytes = 0;
}

/* The guest and C no longer know each other. */
static void unbind(struct vsock_conn *c)
{
	unqueue(c);
	c->owed = 0;
	if (c->bound)
		LIST_REMOVE(c, by_port);
	c->bound = false;
}

void vsock_conn_release(struct vsock_conn *c)
{
	unbind(c);
	close_host(c);
	drop_held(c);
	c->state = VSOCK_FREE;
	c->conns->count--;
	c->conns->from_guest -= c->from_guest;
	LIST_REMOVE(c, list);
	LIST_INSERT_HEAD(&c->conns->free, c, list);
}

void vsock_conn_detach(struct vsock_conn *c)
{
	if (c->held_bytes == 0) {
		vsock_conn_release(c);
		return;
	}
	unbind(c);
	c->state = VSOCK_DRAINING;
	/* Nobody would read what the host still writes. */
	(void)shutdown(c->source.fd, SHUT_RD);
}

void vsock_conn_abandon(struct vsock_conn *c)
{
	/* A guest that was not asked yet need not be told. */
	if (c->owed & 1u << VIRTIO_VSOCK_OP_REQUEST) {
		vsock_conn_release(c);
		return;
	}
	close_host(c);
	c->state = VSOCK_ABANDONED;
	c->owed = 1u << VIRTIO_VSOCK_OP_RST;
}

bool vsock_conn_hung_up(const struct vsock_conn *c)
{
	struct pollfd poll_fd = {.fd = c->source.fd};

	return poll(&poll_fd, 1, 0) > 0 &&
	       (poll_fd.revents & (POLLHUP | POLLERR));
}

void vsock_conn_host_shuts(struct vsock_conn *c, unsigned bits)
{
	const unsigned before = c->host_shut;

	c->host_shut |= bits;
	if (c->host_shut == before)
		return;
	vsock_conn_owe(c, VIRTIO_VSOCK_OP_SHUTDOWN);
	if (c->host_shut & VIRTIO_VSOCK_SHUTDOWN_RCV) {
		drop_held(c);
		c->forwarded = c->received;
	}
	if (c->host_shut == VSOCK_SHUTDOWN_BOTH)
		close_host(c);
}

/*
 * Nothing is held any more: do what waited for that, if it is still possible.
 */
static void all_sent(struct vsock_conn *c)
{
	drop_held(c);
	if (c->state == VSOCK_DRAINING)
		vsock_conn_release(c);
	else if (c->guest_shut & VIRTIO_VSOCK_SHUTDOWN_SEND)
		(void)shutdown(c->source.fd, SHUT_WR);
}

void vsock_conn_guest_shuts(struct vsock_conn *c, unsigned bits)
{
	const unsigned added = bits & ~c->guest_shut & VSOCK_SHUTDOWN_BOTH;

	c->guest_shut |= added;
	if (added & VIRTIO_VSOCK_SHUTDOWN_RCV)
		(void)shutdown(c->source.fd, SHUT_RD);
	if ((added & VIRTIO_VSOCK_SHUTDOWN_SEND) && c->held_bytes == 0)
		all_sent(c);
}

/* ---- data ---- */

static void was_forwarded(struct vsock_conn *c, uint32_t bytes)
{
	c->forwarded += bytes;
	/* Well before the guest has to wait. */
	if (c->forwarded - c->told >= c->buffer / 2)
		vsock_conn_owe(c, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
}

/* How much the host's socket takes now, or -errno: it takes no more, ever. */
static ssize_t send_now(int fd, struct iovec *iov, unsigned niov)
{
	const struct msghdr message = {.msg_iov = iov, .msg_iovlen = niov};
	const ssize_t n = sendmsg(fd, &message, MSG_NOSIGNAL);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	return n < 0 ? -errno : n;
}

/* The bytes of IOV behind OFFSET: there is room for what the guest may send. */
static int hold(struct vsock_conn *c, const struct iovec *iov, unsigned niov,
		size_t offset, uint32_t bytes)
{
	const uint32_t at = (c->held_at + c->held_bytes) % c->buffer;
	const uint32_t first = (uint32_t)min_u64(bytes, c->buffer - at);

	if (!c->held)
		c->held = malloc(c->buffer);
	if (!c->held)
		return -ENOMEM;
	iov_read(iov, niov, offset, c->held + at, first);
	iov_read(iov, niov, offset + first, c->held, bytes - first);
	c->held_bytes += bytes;
	return loop_modify(c->conns->loop, &c->source, EVENTS | EPOLLOUT);
}

int vsock_conn_send(struct vsock_conn *c, const struct iovec *iov,
		    unsigned niov, uint32_t bytes)
{
	ssize_t n = 0;

	if (bytes > c->buffer - (c->received - c->forwarded) ||
	    (c->guest_shut & VIRTIO_VSOCK_SHUTDOWN_SEND))
		return -EPROTO;
	c->received += bytes;
	if (c->host_shut & VIRTIO_VSOCK_SHUTDOWN_RCV) {
		was_forwarded(c, bytes);
		return 0;
	}
	if (c->held_bytes == 0)
		n = send_now(c->source.fd, (struct iovec *)iov, niov);
	if (n < 0) {
		vsock_conn_host_shuts(c, VIRTIO_VSOCK_SHUTDOWN_RCV);
		return 0;
	}
	was_forwarded(c, (uint32_t)n);
	if (n == bytes)
		return 0;
	return hold(c, iov, niov, (size_t)n, bytes - (uint32_t)n);
}

void vsock_conn_flush(struct vsock_conn *c)
{
	ssize_t n = 1;

	if (c->held_bytes == 0)
		return;
	while (c->held_bytes > 0 && n > 0) {
		const uint32_t first = (uint32_t)min_u64(
			c->held_bytes, c->buffer - c->held_at);
		struct iovec iov[2] = {
			{c->held + c->held_at, first},
			{c->held, c->held_bytes - first},
		};

		n = send_now(c->source.fd, iov, 2);
		if (n > 0) {
			c->held_at = (c->held_at + (uint32_t)n) % c->buffer;
			c->held_bytes -= (uint32_t)n;
			was_forwarded(c, (uint32_t)n);
		}
	}
	if (n < 0)
		vsock_conn_host_shuts(c, VIRTIO_VSOCK_SHUTDOWN_RCV);
	if (c->held_bytes > 0)
		return;
	if (c->source.fd >= 0)
		(void)loop_modify(c->conns->loop, &c->source, EVENTS);
	all_sent(c);
}

/* Lists the connections that hold something for the host. Returns how many. */
static unsigned holders(const struct vsock_conns *conns, struct pollfd *ret)
{
	const struct vsock_conn *c;
	unsigned n = 0;

	LIST_FOREACH(c, &conns->live, list)
		if (c->held_bytes > 0)
			ret[n++] = (struct pollfd){c->source.fd, POLLOUT, 0};
	return n;
}

void vsock_conns_drain(struct vsock_conns *conns, unsigned timeout_ms)
{
	const uint64_t end = util_now_ns() + timeout_ms * UINT64_C(1000000);
	struct pollfd pfd[VSOCK_CONNS_MAX];
	unsigned n = holders(conns, pfd);

	for (uint64_t now; n > 0 && (now = util_now_ns()) < end;
	     n = holders(conns, pfd)) {
		struct vsock_conn *c = LIST_FIRST(&conns->live);

		if (poll(pfd, n, (int)((end - now) / 1000000) + 1) <= 0)
			continue;
		while (c) {
			struct vsock_conn *next = LIST_NEXT(c, list);

			vsock_conn_flush(c);
			c = next;
		}
	}
}

uint32_t vsock_conn_receive(struct vsock_conn *c, const struct iovec *iov,
			    unsigned niov)
{
	ssize_t n;

	if (niov == 0)
		return 0;
	n = readv(c->source.fd, iov, (int)niov);
	if (n > 0) {
		c->sent += (uint32_t)n;
		return (uint32_t)n;
	}
	if (n < 0 && errno == EINTR)
		return 0;
	c->readable = false;
	if (n < 0 && errno == EAGAIN)
		return 0;
	/* The host sends no more; if it hung up, it reads no more, either. */
	vsock_conn_host_shuts(c, n < 0 || vsock_conn_hung_up(c)
					 ? VSOCK_SHUTDOWN_BOTH
					 : VIRTIO_VSOCK_SHUTDOWN_SEND);
	return 0;
}
