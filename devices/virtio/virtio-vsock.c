/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket device (virtio 1.2, 5.10): stream connections between the guest
 * and programs of the host, which see Unix sockets (vsock-host.h). This file is
 * the packets' side of it; vsock-conn.h has the connections.
 *
 * Packets for the guest are not queued. A connection remembers which it owes
 * and makes them when there is a buffer, so that what a guest leaves unread
 * costs nothing. Only RSTs for packets of no connection wait in a list, and
 * when it is full the guest's packets wait, too (5.10.6.1).
 */
#include "devices/host/vsock-reach.h"
#include "devices/virtio/virtio.h"
#include "devices/virtio/vsock-conn.h"
#include "devices/virtio/vsock-end.h"
#include "vmm/base/iov.h"
#include "vmm/base/sandbox.h"
#include "vmm/base/util.h"
#include "vmm/base/visit.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_vsock.h>
#include <linux/vm_sockets.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#define VSOCK_RX     0 /* to the guest */
#define VSOCK_TX     1
#define VSOCK_EVENT  2 /* a guest that is loaded learns of it */
#define VSOCK_QUEUES 3
#define VSOCK_QUEUE  128 /* entries, and so buffers of one packet */
#define VSOCK_BATCH  64  /* packets until other devices have their turn */
#define VSOCK_RESETS 64
#define VSOCK_BURST  32 /* packets of data from one read of a socket */

/* For slow readers on the host, when the VM ends. */
#define VSOCK_LINGER_MS 1000

#define VSOCK_CID_FIRST   3 /* 5.10.4: those below are reserved */
#define VSOCK_CID_LAST    (UINT32_MAX - 1)
#define VSOCK_CID_DEFAULT 3

/* The host's ports of connections that the host makes: 2^30 up to 2^31. */
#define VSOCK_PORTS UINT32_C(0x40000000)

/* An RST for a packet that belongs to no connection. */
struct vsock_reset {
	uint64_t host_cid; /* as the guest has it */
	uint32_t host_port, guest_port;
	uint16_t type;
};

struct vsock {
	struct virtio_dev *d;
	struct vsock_host host;
	struct loop_source listener; /* fd: the host's */
	bool accepting;
	struct vsock_reach reach; /* unless `limited` */
	/* The one connection that the guest may make, made before it runs. */
	bool limited;
	uint32_t ahead_port;
	int ahead_fd;            /* owned; -1: it was made, or there is none */
	struct loop_timer timer; /* set: to look for room again */
	bool exhausted;          /* of descriptors or memory, until then */
	struct vsock_conns conns;
	uint32_t cid;
	uint32_t ports_used;
	struct vsock_reset reset[VSOCK_RESETS]; /* from `first` on, a ring */
	unsigned first, nresets;
	unsigned left; /* packets of this turn for the guest: it takes several
			* buffers at a time */
	bool tx_held;  /* until there is room for another reset */
	struct vsock_end end; /* of all connections that the guest had before */
};

/* From the guest's byte order to the host's, or back: it is the same. */
static struct virtio_vsock_hdr convert_header(const struct virtio_vsock_hdr *h)
{
	return (struct virtio_vsock_hdr){
		.src_cid = le64toh(h->src_cid),
		.dst_cid = le64toh(h->dst_cid),
		.src_port = le32toh(h->src_port),
		.dst_port = le32toh(h->dst_port),
		.len = le32toh(h->len),
		.type = le16toh(h->type),
		.op = le16toh(h->op),
		.flags = le32toh(h->flags),
		.buf_alloc = le32toh(h->buf_alloc),
		.fwd_cnt = le32toh(h->fwd_cnt),
	};
}

/* ---- to the guest ---- */

/* Buffers of the guest's for the next packets. */
struct vsock_room {
	struct iov_chain chain[VSOCK_BURST];
	struct iovec iov[2 * VSOCK_QUEUE]; /* of all chains */
	uint32_t bytes[VSOCK_BURST];       /* of the packets in them */
	unsigned nchains, niov;
};

/* Answers a packet that nobody wants with an RST; never answers an RST. */
static void refuse(struct vsock *v, const struct virtio_vsock_hdr *packet)
{
	if (packet->op == VIRTIO_VSOCK_OP_RST)
		return;
	assert(v->nresets < VSOCK_RESETS);
	v->reset[(v->first + v->nresets++) % VSOCK_RESETS] =
		(struct vsock_reset){
			.host_cid = packet->dst_cid,
			.host_port = packet->dst_port,
			.guest_port = packet->src_port,
			.type = packet->type,
		};
}

/* HEADER, its ports, op, flags and length filled in, at the buffer's start. */
static uint32_t write_header(struct vsock *v, const struct iov_chain *chain,
			     struct virtio_vsock_hdr header)
{
	const uint32_t bytes = (uint32_t)sizeof(header) + header.len;

	header.dst_cid = v->cid;
	header = convert_header(&header);
	iov_write(chain->iov, chain->nin, 0, &header, sizeof(header));
	return bytes;
}

static uint32_t give_reset(struct vsock *v, const struct iov_chain *chain)
{
	const struct vsock_reset *reset = &v->reset[v->first];

	v->first = (v->first + 1) % VSOCK_RESETS;
	v->nresets--;
	return write_header(v, chain,
			    (struct virtio_vsock_hdr){
				    .src_cid = reset->host_cid,
				    .src_port = reset->host_port,
				    .dst_port = reset->guest_port,
				    .type = reset->type,
				    .op = VIRTIO_VSOCK_OP_RST,
			    });
}

/* A packet of the connection's into a buffer. Bytes in all. */
static uint32_t give_packet(struct vsock *v, struct vsock_conn *c,
			    const struct iov_chain *chain,
			    struct virtio_vsock_hdr header)
{
	header.src_cid = VMADDR_CID_HOST;
	header.src_port = c->host_port;
	header.dst_port = c->guest_port;
	header.type = VIRTIO_VSOCK_TYPE_STREAM;
	header.buf_alloc = c->buffer;
	header.fwd_cnt = c->forwarded;
	/* Every packet updates the guest's credit. */
	c->told = c->forwarded;
	c->owed &= ~(1u << VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	return write_header(v, chain, header);
}

/* In the order of their numbers: REQUEST and RESPONSE first. */
static uint32_t give_owed(struct vsock *v, struct vsock_conn *c,
			  const struct iov_chain *chain)
{
	struct virtio_vsock_hdr header = {
		.op = (uint16_t)__builtin_ctz(c->owed)};
	uint32_t bytes;

	c->owed &= ~(1u << header.op);
	if (header.op == VIRTIO_VSOCK_OP_SHUTDOWN)
		header.flags = c->host_shut;
	bytes = give_packet(v, c, chain, header);
	if (header.op == VIRTIO_VSOCK_OP_RST)
		vsock_conn_release(c);
	return bytes;
}

static uint32_t data_room(const struct iov_chain *chain)
{
	return chain->in_bytes - (uint32_t)sizeof(struct virtio_vsock_hdr);
}

/* Reads the host's socket once, into all of ROOM. Returns bytes. */
static uint32_t receive_data(struct vsock_conn *c,
			     const struct vsock_room *room)
{
	struct iovec iov[2 * VSOCK_QUEUE];
	uint32_t credit = vsock_conn_credit(c);
	unsigned niov = 0;

	for (unsigned i = 0; i < room->nchains; i++) {
		const struct iov_chain *chain = &room->chain[i];

		niov += iov_slice(chain->iov, chain->nin,
				  sizeof(struct virtio_vsock_hdr), credit,
				  &iov[niov]);
		credit -= (uint32_t)min_u64(credit, data_room(chain));
	}
	return vsock_conn_receive(c, iov, niov);
}

/* Packets of data, none if the host has sent nothing. Returns how many. */
static unsigned give_data(struct vsock *v, struct vsock_conn *c,
			  struct vsock_room *room)
{
	uint32_t left = receive_data(c, room);
	unsigned n = 0;

	for (; left > 0; n++) {
		const uint32_t len =
			(uint32_t)min_u64(left, data_room(&room->chain[n]));

		room->bytes[n] = give_packet(
			v, c, &room->chain[n],
			(struct virtio_vsock_hdr){.op = VIRTIO_VSOCK_OP_RW,
						  .len = len});
		left -= len;
	}
	/* As much as comes at a time, and twice that while more does. */
	c->burst =
		(uint8_t)min_u64(n == room->nchains ? 2 * n : n, VSOCK_BURST);
	return n;
}

/* The next connection gives what it has. Returns the number of packets. */
static unsigned give_next(struct vsock *v, struct vsock_room *room)
{
	struct vsock_conn *c = vsock_conns_next(&v->conns);
	unsigned n = 1;

	if (c->owed)
		room->bytes[0] = give_owed(v, c, &room->chain[0]);
	else
		n = give_data(v, c, room);
	vsock_conn_schedule(c);
	return n;
}

/* How many buffers the next to give something may fill, and their bytes. */
static unsigned wanted(const struct vsock *v, uint32_t *ret_bytes)
{
	const struct vsock_conn *c = TAILQ_FIRST(&v->conns.turns);

	*ret_bytes = 1;
	if (v->nresets > 0)
		return 1;
	if (!c || c->owed)
		return c != NULL;
	/* One buffer also without credit: its turn must come and go. */
	*ret_bytes = vsock_conn_credit(c) > 0 ? vsock_conn_credit(c) : 1;
	return c->burst > 0 ? c->burst : 1;
}

/* Fills ROOM with up to COUNT buffers for BYTES. 0, -EPROTO: it is broken. */
static int take_room(struct vsock *v, unsigned count, uint32_t bytes,
		     struct vsock_room *room)
{
	struct vq *vq = &v->d->vq[VSOCK_RX];

	room->nchains = room->niov = 0;
	while (room->nchains < count && bytes > 0 &&
	       room->niov <= VSOCK_QUEUE) {
		struct iov_chain *chain = &room->chain[room->nchains];
		int r;

		*chain = (struct iov_chain){.iov = &room->iov[room->niov],
					    .iov_max = VSOCK_QUEUE};
		r = vq_pop(vq, chain);
		if (r == 0)
			break;
		if (r < 0) {
			virtio_broken(v->d, "malformed receive buffer");
			return r;
		}
		if (chain->nout > 0 ||
		    chain->in_bytes <= sizeof(struct virtio_vsock_hdr)) {
			virtio_broken(v->d, "receive buffer without room");
			return -EPROTO;
		}
		room->nchains++;
		room->niov += chain->nin;
		bytes -= (uint32_t)min_u64(bytes, data_room(chain));
	}
	return 0;
}

/* Gives what is next, in the buffers that it needs or as many as there are. */
static enum virtio_took give_some(struct virtio_dev *d, unsigned q)
{
	struct vsock *v = d->state;
	struct vq *vq = &d->vq[q];
	struct vsock_room room;
	uint32_t bytes;
	unsigned n = wanted(v, &bytes);

	if (n == 0 || v->left == 0 ||
	    take_room(v, (unsigned)min_u64(n, v->left), bytes, &room) < 0)
		return VIRTIO_LATER;
	if (room.nchains == 0)
		return VIRTIO_EMPTY;
	n = 1;
	if (v->nresets > 0)
		room.bytes[0] = give_reset(v, &room.chain[0]);
	else
		n = give_next(v, &room);
	for (unsigned i = 0; i < n; i++)
		vq_push(vq, room.chain[i].head, room.bytes[i]);
	for (unsigned i = n; i < room.nchains; i++)
		vq_unpop(vq);
	v->left -= n > 0 ? n : 1;
	return VIRTIO_TOOK;
}

static void give_all(struct vsock *v)
{
	struct virtio_dev *d = v->d;

	if (!d->running || v->end.holding)
		return;
	v->left = VSOCK_BATCH;
	(void)virtio_turn(d, VSOCK_RX, UINT_MAX, 1, give_some);
	virtio_publish(d, VSOCK_RX);
	if (v->left == 0)
		loop_signal(d->kick[VSOCK_RX].source.fd);
	if (v->tx_held && v->nresets < VSOCK_RESETS)
		loop_signal(d->kick[VSOCK_TX].source.fd);
}

/* ---- from the guest ---- */

/* Resets a connection whose state does not allow the guest's packet. */
static void reset(struct vsock *v, struct vsock_conn *c,
		  const struct virtio_vsock_hdr *packet)
{
	refuse(v, packet);
	vsock_conn_release(c);
}

static void misused(struct vsock *v, struct vsock_conn *c,
		    const struct virtio_vsock_hdr *packet)
{
	log_guest(&v->d->limit,
		  "%s: packet out of place (op %u) from port %" PRIu32
		  " to port %" PRIu32 ": connection reset",
		  v->d->name, packet->op, packet->src_port, packet->dst_port);
	reset(v, c, packet);
}

/*
 * Connects to the program that the guest reaches at PORT: the fd, which does
 * not block, or -errno.
 */
static int reach_host(struct vsock *v, uint32_t port)
{
	int fd = v->ahead_fd;

	if (!v->limited)
		return vsock_reach_connect(&v->reach, port);
	if (fd < 0 || port != v->ahead_port)
		return -ECONNREFUSED;
	v->ahead_fd = -1;
	return fd;
}

static void guest_connects(struct vsock *v,
			   const struct virtio_vsock_hdr *packet)
{
	const int fd = vsock_conns_make_room(&v->conns, true)
			       ? reach_host(v, packet->dst_port)
			       : -ENFILE;
	struct vsock_conn *c = NULL;

	if (fd >= 0)
		c = vsock_conn_new(&v->conns, fd, true);
	else if (fd != -ENOENT && fd != -ECONNREFUSED)
		log_guest(&v->d->limit, "%s: connect to '%s_%" PRIu32 "': %s",
			  v->d->name, v->host.listener.path, packet->dst_port,
			  strerror(-fd));
	if (!c) {
		refuse(v, packet);
		return;
	}
	vsock_conn_bind(c, packet->dst_port, packet->src_port);
	c->state = VSOCK_OPEN;
	c->guest_buffer = packet->buf_alloc;
	c->guest_forwarded = packet->fwd_cnt;
	vsock_conn_owe(c, VIRTIO_VSOCK_OP_RESPONSE);
	vsock_conn_schedule(c);
}

/* The guest answers to a REQUEST: by RESPONSE, or by RST if nobody listens. */
static void guest_answers(struct vsock *v, struct vsock_conn *c,
			  const struct virtio_vsock_hdr *packet)
{
	const bool asked = !(c->owed & 1u << VIRTIO_VSOCK_OP_REQUEST);

	if (packet->op == VIRTIO_VSOCK_OP_RST) {
		vsock_conn_release(c);
	} else if (packet->op != VIRTIO_VSOCK_OP_RESPONSE || !asked) {
		misused(v, c, packet);
	} else if (vsock_greeting_answer(c->source.fd, c->host_port) < 0) {
		reset(v, c, packet);
	} else {
		c->state = VSOCK_OPEN;
		c->readable = true; /* events so far meant the greeting */
	}
}

static void guest_sends(struct vsock *v, struct vsock_conn *c,
			const struct virtio_vsock_hdr *packet,
			const struct iov_chain *chain)
{
	struct iovec iov[VSOCK_QUEUE];
	const unsigned niov = iov_slice(chain->iov, chain->nout,
					sizeof(*packet), packet->len, iov);
	const int r = vsock_conn_send(c, iov, niov, packet->len);

	if (r == -EPROTO)
		misused(v, c, packet);
	else if (r < 0)
		reset(v, c, packet);
}

/*
 * 5.10.6.5: after both ends of a connection are shut it is over for the guest
 * when the RST comes. The host may read what is held for as long as it likes.
 */
static void guest_shuts(struct vsock *v, struct vsock_conn *c,
			const struct virtio_vsock_hdr *packet)
{
	vsock_conn_guest_shuts(c, packet->flags);
	if (c->guest_shut == VSOCK_SHUTDOWN_BOTH) {
		refuse(v, packet);
		vsock_conn_detach(c);
	}
}

static void take_open(struct vsock *v, struct vsock_conn *c,
		      const struct virtio_vsock_hdr *packet,
		      const struct iov_chain *chain)
{
	switch (packet->op) {
	case VIRTIO_VSOCK_OP_RW:
		guest_sends(v, c, packet, chain);
		break;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		vsock_conn_owe(c, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
		break;
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
		break;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		guest_shuts(v, c, packet);
		break;
	case VIRTIO_VSOCK_OP_RST:
		vsock_conn_detach(c);
		break;
	default:
		misused(v, c, packet);
		break;
	}
}

/* A packet for connection C. */
static void take_for(struct vsock *v, struct vsock_conn *c,
		     const struct virtio_vsock_hdr *packet,
		     const struct iov_chain *chain)
{
	c->guest_buffer = packet->buf_alloc;
	c->guest_forwarded = packet->fwd_cnt;
	if (c->state == VSOCK_OPEN)
		take_open(v, c, packet, chain);
	else if (c->state == VSOCK_REQUESTED)
		guest_answers(v, c, packet);
	else if (packet->op == VIRTIO_VSOCK_OP_RST)
		vsock_conn_release(c); /* abandoned; else its RST is due */
	vsock_conn_schedule(c);
}

static void take_packet(struct vsock *v, const struct virtio_vsock_hdr *packet,
			const struct iov_chain *chain)
{
	struct vsock_conn *c;

	/* 5.10.6.4: nobody could be answered. */
	if (packet->src_cid != v->cid) {
		log_guest(&v->d->limit,
			  "%s: packet from CID %" PRIu64 " dropped", v->d->name,
			  (uint64_t)packet->src_cid);
		return;
	}
	/* Other types than streams must be refused, other guests may be. */
	if (packet->type != VIRTIO_VSOCK_TYPE_STREAM ||
	    packet->dst_cid != VMADDR_CID_HOST) {
		refuse(v, packet);
		return;
	}
	c = vsock_conn_find(&v->conns, packet->dst_port, packet->src_port);
	if (c)
		take_for(v, c, packet, chain);
	else if (packet->op == VIRTIO_VSOCK_OP_REQUEST)
		guest_connects(v, packet);
	else
		refuse(v, packet);
}

/* The header, copied once, in the host's byte order. False: it is not whole. */
static bool read_header(const struct iov_chain *chain,
			struct virtio_vsock_hdr *ret)
{
	struct virtio_vsock_hdr raw;

	if (iov_read(chain->iov, chain->nout, 0, &raw, sizeof(raw)) !=
	    sizeof(raw))
		return false;
	*ret = convert_header(&raw);
	return ret->len <= chain->out_bytes - sizeof(raw);
}

/* VIRTIO_LATER, too, when there is no room for an answer. */
static enum virtio_took take_one(struct virtio_dev *d, unsigned q)
{
	struct vsock *v = d->state;
	struct iovec iov[VSOCK_QUEUE];
	struct iov_chain chain = {.iov = iov, .iov_max = ARRAY_LEN(iov)};
	struct virtio_vsock_hdr packet;
	int r;

	v->tx_held = v->nresets == VSOCK_RESETS;
	if (v->tx_held)
		return VIRTIO_LATER;
	r = vq_pop(&d->vq[q], &chain);
	if (r < 0)
		virtio_broken(d, "malformed packet");
	if (r <= 0)
		return r == 0 ? VIRTIO_EMPTY : VIRTIO_LATER;
	if (!read_header(&chain, &packet)) {
		virtio_broken(d, "packet shorter than it says");
		return VIRTIO_LATER;
	}
	take_packet(v, &packet, &chain);
	vq_push(&d->vq[q], chain.head, 0);
	return VIRTIO_TOOK;
}

static void take_all(struct vsock *v)
{
	(void)virtio_turn(v->d, VSOCK_TX, VSOCK_BATCH, 1, take_one);
	virtio_publish(v->d, VSOCK_TX);
}

/* ---- from the host ---- */

/* At the limit, programs of the host wait in the socket's backlog. */
static void accept_while_room(struct vsock *v)
{
	v->accepting = !v->exhausted && vsock_conns_make_room(&v->conns, false);
	(void)loop_modify(v->d->loop, &v->listener, v->accepting ? EPOLLIN : 0);
	if (!v->accepting && loop_timer_due(&v->timer) == 0)
		(void)loop_timer_set(&v->timer,
				     util_now_ns() + VSOCK_PATIENCE_MS *
							     UINT64_C(1000000));
}

/* Somebody may have been silent for too long, or descriptors come back. */
static void time_passes(struct loop_timer *timer)
{
	struct vsock *v = container_of(timer, struct vsock, timer);

	virtio_lock(v->d);
	v->exhausted = false;
	accept_while_room(v);
	virtio_unlock(v->d);
}

static void host_connects(struct loop_source *source, uint32_t events)
{
	struct vsock *v = container_of(source, struct vsock, listener);
	int fd = 0;

	(void)events;
	virtio_lock(v->d);
	while (v->accepting && fd >= 0) {
		fd = vsock_host_accept(&v->host);
		if (fd >= 0)
			(void)vsock_conn_new(&v->conns, fd, false);
		accept_while_room(v);
	}
	if (fd < 0 && fd != -EAGAIN && fd != -ECONNABORTED) {
		log_guest(&v->d->limit, "%s: accept: %s", v->d->name,
			  strerror(-fd));
		v->exhausted = true;
		accept_while_room(v);
	}
	virtio_unlock(v->d);
}

static uint32_t new_port(struct vsock *v, uint32_t guest_port)
{
	uint32_t port;

	/* Fewer connections than ports: one is free. */
	do
		port = VSOCK_PORTS + v->ports_used++ % VSOCK_PORTS;
	while (vsock_conn_find(&v->conns, port, guest_port));
	return port;
}

static void greet(struct vsock *v, struct vsock_conn *c)
{
	uint32_t guest_port;
	const int r =
		vsock_greeting_read(&c->greeting, c->source.fd, &guest_port);

	if (r == 0)
		return;
	if (r < 0 || vsock_conn_hung_up(c)) {
		vsock_conn_release(c);
		return;
	}
	vsock_conn_bind(c, new_port(v, guest_port), guest_port);
	c->state = VSOCK_REQUESTED;
	vsock_conn_owe(c, VIRTIO_VSOCK_OP_REQUEST);
}

static void host_moves(struct vsock_conn *c)
{
	const bool nothing_to_read =
		(c->host_shut & VIRTIO_VSOCK_SHUTDOWN_SEND) ||
		(c->guest_shut & VIRTIO_VSOCK_SHUTDOWN_RCV);

	c->readable = true;
	vsock_conn_flush(c);
	if (c->state == VSOCK_OPEN && nothing_to_read && vsock_conn_hung_up(c))
		vsock_conn_host_shuts(c, VSOCK_SHUTDOWN_BOTH);
}

/* EVENTS may belong to an earlier life: only results of system calls count. */
static void host_event(struct loop_source *source, uint32_t events)
{
	struct vsock_conn *c = container_of(source, struct vsock_conn, source);
	struct vsock *v = container_of(c->conns, struct vsock, conns);

	(void)events;
	virtio_lock(v->d);
	if (c->state == VSOCK_GREETING)
		greet(v, c);
	else if (c->state == VSOCK_REQUESTED && vsock_conn_hung_up(c))
		vsock_conn_abandon(c);
	else if (c->state == VSOCK_OPEN || c->state == VSOCK_DRAINING)
		host_moves(c);
	vsock_conn_schedule(c);
	give_all(v);
	accept_while_room(v);
	virtio_unlock(v->d);
}

/* ---- a guest that was loaded ---- */

static void give_more(struct virtio_dev *d)
{
	give_all(d->state);
}

static void vsock_resume(struct virtio_dev *d)
{
	struct vsock *v = d->state;

	vsock_end_resume(&v->end);
}

static void visit_reset(struct vsock_reset *reset, struct visitor *v)
{
	VISIT(v, reset, host_cid);
	VISIT(v, reset, host_port);
	VISIT(v, reset, guest_port);
	VISIT(v, reset, type);
}

/*
 * The RSTs that the guest is owed, at RET. To those for packets of no
 * connection come those for the guest's own requests that it has no answer to
 * yet: they are no connections to its driver, which would let them time out.
 */
static unsigned list_resets(struct vsock *v, struct vsock_reset *ret)
{
	const struct vsock_conn *c = NULL;
	unsigned n = 0;

	for (; n < v->nresets; n++)
		ret[n] = v->reset[(v->first + n) % VSOCK_RESETS];
	LIST_FOREACH(c, &v->conns.live, list) {
		if (n < VSOCK_RESETS &&
		    (c->owed & (1u << VIRTIO_VSOCK_OP_RESPONSE)))
			ret[n++] = (struct vsock_reset){
				.host_cid = VMADDR_CID_HOST,
				.host_port = c->host_port,
				.guest_port = c->guest_port,
				.type = VIRTIO_VSOCK_TYPE_STREAM,
			};
	}
	return n;
}

/* Whether the guest has any connection, as far as it knows. */
static bool is_connected(const struct vsock *v)
{
	const struct vsock_conn *c;

	LIST_FOREACH(c, &v->conns.live, list)
		if (c->bound)
			return true;
	return false;
}

/* The guest keeps its CID, which may be in the addresses of its sockets. */
static void visit_cid(struct vsock *v, struct visitor *visitor)
{
	uint64_t cid;

	memcpy(&cid, v->d->config, sizeof(cid));
	cid = le64toh(cid);
	if (cid < VSOCK_CID_FIRST || cid > VSOCK_CID_LAST)
		visit_wrong(visitor, "no guest has the CID %" PRIu64, cid);
	else
		v->cid = (uint32_t)cid;
}

/*
 * The host's ports are counted on: the guest may still have a socket of an
 * earlier connection, and take a new one with its ports for it.
 */
static void vsock_visit(struct virtio_dev *d, struct visitor *visitor)
{
	struct vsock *v = d->state;
	struct vsock_reset resets[VSOCK_RESETS];
	bool due = v->end.due || is_connected(v);
	unsigned n = list_resets(v, resets);

	VISIT(visitor, v, ports_used);
	visit_bool(visitor, "connected", &due);
	visit_count(visitor, "resets", &n, VSOCK_RESETS);
	for (unsigned i = 0; i < n && visit_goes_on(visitor); i++)
		visit_reset(&resets[i], visitor);
	if (!visit_loads(visitor) || !visit_goes_on(visitor))
		return;
	memcpy(v->reset, resets, n * sizeof(*resets));
	v->first = 0;
	v->nresets = n;
	if (due && d->started)
		vsock_end_begin(&v->end);
	visit_cid(v, visitor);
}

/* ---- system calls ---- */

/* For the host's programs, which come and go while the guest runs. */
static const struct sandbox_rule vsock_syscalls[] = {
	SANDBOX_CALL(accept4),
	SANDBOX_CALL(recvfrom),
	SANDBOX_CALL(sendto),
	SANDBOX_CALL(sendmsg),
	SANDBOX_CALL(shutdown),
	SANDBOX_CALL(timerfd_settime),
	/* at the end, to remove the socket */
	SANDBOX_CALL(newfstatat),
	SANDBOX_CALL(unlink),
	SANDBOX_END,
};

/* ---- life ---- */

static void vsock_kick(struct virtio_dev *d, unsigned q)
{
	struct vsock *v = d->state;

	if (q == VSOCK_TX)
		take_all(v);
	if (q == VSOCK_EVENT)
		vsock_end_take(&v->end);
	give_all(v);
	accept_while_room(v);
}

/* A soft limit of 1024 files would not even do for the connections. */
static void raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur =
		min_u64(limit.rlim_cur + VSOCK_CONNS_MAX, limit.rlim_max);
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

static int connect_ahead(struct vsock *v, uint32_t port)
{
	v->limited = true;
	v->ahead_port = port;
	v->ahead_fd = vsock_host_connect(&v->host, port);
	if (v->ahead_fd >= 0)
		return 0;
	return log_ret(v->ahead_fd,
		       "%s: connect to '%s_%" PRIu32 "': %s; who listens there "
		       "has to be started first",
		       v->d->name, v->host.listener.path, port,
		       strerror(-v->ahead_fd));
}

static int vsock_open(struct virtio_dev *d, const struct config_device *cfg)
{
	struct vsock *v = d->state;
	struct virtio_vsock_config config;
	int r;

	v->d = d;
	v->host.listener.fd = v->ahead_fd = v->reach.fd = -1;
	v->cid = (uint32_t)config_number(cfg, "cid", VSOCK_CID_DEFAULT);
	config.guest_cid = htole64(v->cid);
	memcpy(d->config, &config, sizeof(config));
	d->config_bytes = sizeof(config);
	vsock_conns_init(&v->conns, d->loop, host_event);
	raise_file_limit();
	r = vsock_host_open(&v->host, config_text(cfg, "path"), d->name);
	if (r < 0)
		return r;
	if (config_text(cfg, "connect"))
		r = connect_ahead(v,
				  (uint32_t)config_number(cfg, "connect", 0));
	else
		r = vsock_reach_open(&v->reach, &v->host, d->name);
	if (r < 0)
		return r;
	d->more_syscalls = v->limited ? NULL : vsock_reach_syscalls;
	v->accepting = true;
	v->listener.fd = v->host.listener.fd;
	v->listener.fn = host_connects;
	r = loop_timer_open(d->loop, &v->timer, time_passes);
	if (r == 0)
		r = vsock_end_open(&v->end, d, VSOCK_EVENT, give_more);
	if (r == 0)
		r = loop_add(d->loop, &v->listener, EPOLLIN);
	if (r < 0)
		return log_ret(r, "%s: event loop: %s", d->name, strerror(-r));
	return 0;
}

static void vsock_close(struct virtio_dev *d)
{
	struct vsock *v = d->state;

	if (!v->d)
		return;
	loop_del(d->loop, &v->listener);
	loop_timer_close(&v->timer);
	vsock_end_close(&v->end);
	util_close(&v->ahead_fd);
	vsock_conns_drain(&v->conns, VSOCK_LINGER_MS);
	vsock_conns_done(&v->conns);
	vsock_reach_close(&v->reach);
	vsock_host_close(&v->host);
}

/* The socket that others connect to; its connections stay. */
static int vsock_adopt(struct virtio_dev *d, const struct virtio_adoption *a)
{
	struct vsock *v = d->state;
	const char *path;
	struct listener host;
	int *fd, r;

	if (!a)
		return 0;
	path = config_text(&a->machine->device[a->index], "path");
	fd = &a->fds[a->index];
	r = *fd < 0 ? -EBADF : listener_adopt(&host, path, *fd);
	if (r < 0)
		return log_ret(r, "%s: socket '%s': %s", d->name, path,
			       strerror(-r));
	*fd = -1;
	loop_del(d->loop, &v->listener);
	vsock_host_close(&v->host);
	v->host.listener = host;
	v->listener.fd = host.fd;
	r = loop_add(d->loop, &v->listener, v->accepting ? EPOLLIN : 0);
	return r < 0 ? log_ret(r, "%s: event loop: %s", d->name, strerror(-r))
		     : 0;
}

/* Data that the guest sent still reaches the host; all else is over. */
static void vsock_stop(struct virtio_dev *d)
{
	struct vsock *v = d->state;
	struct vsock_conn *c;
	unsigned left = VSOCK_QUEUE;

	/* Also what it kicked for, and the loop had no time to fetch. */
	do
		v->nresets = 0; /* nobody reads answers */
	while (left-- > 0 && take_one(d, VSOCK_TX) == VIRTIO_TOOK);
	c = LIST_FIRST(&v->conns.live);
	while (c) {
		struct vsock_conn *next = LIST_NEXT(c, list);

		if (c->state != VSOCK_GREETING && c->state != VSOCK_DRAINING)
			vsock_conn_detach(c);
		c = next;
	}
	v->nresets = 0;
	v->tx_held = false;
	vsock_end_forget(&v->end);
	accept_while_room(v);
}

static const struct config_key vsock_keys[] = {
	{.name = "path",
	 .path = true,
	 .kind = CONFIG_TEXT,
	 .required = true,
	 .bare = true,
	 .help = "Unix socket for programs of the host, made and removed"},
	{.name = "cid",
	 .kind = CONFIG_NUMBER,
	 .min = VSOCK_CID_FIRST,
	 .max = VSOCK_CID_LAST,
	 .help = "the guest's address; 3 otherwise"},
	{.name = "connect",
	 .kind = CONFIG_NUMBER,
	 .max = UINT32_MAX - 1,
	 .help = "the host's port that the guest may reach, once, and no "
		 "other"},
	{0},
};

const struct virtio_ops virtio_vsock = {
	.type = {.name = "vsock",
		 .help = "sockets between the guest and programs of this host",
		 .keys = vsock_keys},
	.id = VIRTIO_ID_VSOCK,
	.nqueues = VSOCK_QUEUES,
	.queue_max = VSOCK_QUEUE,
	.state_size = sizeof(struct vsock),
	.syscalls = vsock_syscalls,
	.open = vsock_open,
	.close = vsock_close,
	.stop = vsock_stop,
	.resume = vsock_resume,
	.visit = vsock_visit,
	.adopt = vsock_adopt,
	.kick = vsock_kick,
};
