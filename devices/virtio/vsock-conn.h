/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connections of a vsock device: which there are, whose turn it is, what
 * each end may still send, and the host's end of each, a Unix socket. Knows
 * packets' names, but no queue they travel in.
 *
 * The guest's data goes to the host's socket at once. Data that it does not
 * take is held, and no more than the connection's `buffer`: as much as the
 * guest may send ahead. The host's data stays in the socket until there is a
 * buffer of the guest's.
 *
 * All functions are called with the device's lock held.
 */
#ifndef DEVICES_VIRTIO_VSOCK_CONN_H
#define DEVICES_VIRTIO_VSOCK_CONN_H

#include "devices/host/vsock-host.h"
#include "vmm/base/loop.h"

#include <linux/virtio_vsock.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <sys/uio.h>

#define VSOCK_CONNS_MAX 1024
/* The guest's own, so that it cannot keep the host from reaching it. */
#define VSOCK_CONNS_FROM_GUEST_MAX 896
/*
 * How much a guest may send ahead, powers of two: enough to keep a stream
 * moving, for the first connections; less for further ones, 88 MiB in the worst
 * case.
 */
#define VSOCK_BUFFER       (256u << 10)
#define VSOCK_BUFFER_LESS  (64u << 10)
#define VSOCK_CONNS_BUFFER 128 /* so many have VSOCK_BUFFER */
/* A program that names no port for so long gives way when places run out. */
#define VSOCK_PATIENCE_MS 1000
#define VSOCK_SHUTDOWN_BOTH                                                    \
	(VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)

enum vsock_state {
	VSOCK_FREE,      /* waits for its next life */
	VSOCK_GREETING,  /* a program of the host has yet to name a port */
	VSOCK_REQUESTED, /* the guest has yet to answer */
	VSOCK_OPEN,
	VSOCK_ABANDONED, /* the host gave up: the guest is owed an RST */
	VSOCK_DRAINING,  /* the guest is done; the host gets what is held */
};

struct vsock_conns;

struct vsock_conn {
	struct vsock_conns *conns;
	struct loop_source source;   /* fd: owned; -1: the host's end is done */
	LIST_ENTRY(vsock_conn) list; /* conns->live or conns->free */

	/* From here on zeroed at the beginning of each life. */
	enum vsock_state state;
	uint64_t born_ns;
	LIST_ENTRY(vsock_conn) by_port; /* if bound */
	TAILQ_ENTRY(vsock_conn) turn;   /* if queued */
	bool bound, queued, from_guest;
	uint32_t host_port, guest_port;
	struct vsock_greeting greeting;
	uint32_t owed; /* bit N: the guest is owed a packet with op N */
	/* The directions that each end has shut: VIRTIO_VSOCK_SHUTDOWN_* */
	uint8_t host_shut, guest_shut;

	/* Guest to host (5.10.6.3). All counters are free-running. */
	uint32_t buffer;    /* bytes the guest may send ahead: our buf_alloc */
	uint32_t received;  /* bytes the guest sent */
	uint32_t forwarded; /* of those, what the host's socket took */
	uint32_t told;      /* of those, what the guest knows of */
	uint8_t *held;      /* the rest: a ring of `buffer`, or NULL; owned */
	uint32_t held_at, held_bytes;

	/* Host to guest. */
	bool readable;     /* until a read says otherwise */
	bool credit_asked; /* a CREDIT_REQUEST was sent or is owed */
	uint8_t burst;     /* packets that the next read is to fill; or 0 */
	uint32_t sent;
	uint32_t guest_buffer;    /* the guest's buf_alloc */
	uint32_t guest_forwarded; /* its fwd_cnt */
};

LIST_HEAD(vsock_conn_list, vsock_conn);

/*
 * A connection is not freed before the device is: the loop's thread may have
 * fetched an event for it just before it ended (loop.h). Such an event, of an
 * earlier life, does no harm: events are hints, and only the results of system
 * calls count.
 */
struct vsock_conns {
	struct loop *loop; /* borrowed */
	void (*event)(struct loop_source *source, uint32_t events);
	unsigned count, from_guest; /* live ones */
	struct vsock_conn_list live, free;
	struct vsock_conn_list by_port[64];
	TAILQ_HEAD(vsock_turns, vsock_conn)
	turns; /* those with something for the guest */
};

/* EVENT gets the events of all connections. */
void vsock_conns_init(struct vsock_conns *conns, struct loop *loop,
		      void (*event)(struct loop_source *, uint32_t));
/* Ends and frees all; no handler runs any more. Accepts a zeroed one. */
void vsock_conns_done(struct vsock_conns *conns);

/* Whether there may be one more. */
bool vsock_conns_room(const struct vsock_conns *conns, bool from_guest);
/*
 * The same; where all places are taken, the program of the host that has been
 * silent the longest loses its own, if that is longer than VSOCK_PATIENCE_MS.
 */
bool vsock_conns_make_room(struct vsock_conns *conns, bool from_guest);
/* Waits until the host has what is held, at most TIMEOUT_MS. */
void vsock_conns_drain(struct vsock_conns *conns, unsigned timeout_ms);
/*
 * A connection whose host's end is FD, which it owns from now on, in any case.
 * NULL: there are too many, or no memory. Begins in VSOCK_GREETING.
 */
struct vsock_conn *vsock_conn_new(struct vsock_conns *conns, int fd,
				  bool from_guest);
/* Gives C its ports, by which vsock_conn_find() finds it. */
void vsock_conn_bind(struct vsock_conn *c, uint32_t host_port,
		     uint32_t guest_port);
struct vsock_conn *vsock_conn_find(struct vsock_conns *conns,
				   uint32_t host_port, uint32_t guest_port);

/* Ends C at once; what is held is lost. */
void vsock_conn_release(struct vsock_conn *c);
/* The same, but the host still gets what is held. */
void vsock_conn_detach(struct vsock_conn *c);
/* The host's end gave up before the guest answered. */
void vsock_conn_abandon(struct vsock_conn *c);

/* True when the host's end is closed, or shut down in both directions. */
bool vsock_conn_hung_up(const struct vsock_conn *c);
/* The host's end will no longer do BITS: the guest is told. */
void vsock_conn_host_shuts(struct vsock_conn *c, unsigned bits);
/* The guest will no longer do BITS: the host's end is told, in time. */
void vsock_conn_guest_shuts(struct vsock_conn *c, unsigned bits);

/*
 * All bytes of IOV for the host. 0, -EPROTO: more than the guest may send;
 * -ENOMEM. Both only end the connection.
 */
int vsock_conn_send(struct vsock_conn *c, const struct iovec *iov,
		    unsigned niov, uint32_t bytes);
/* Sends what is held, as far as it goes. May release C. */
void vsock_conn_flush(struct vsock_conn *c);
/*
 * From the host, into IOV, which is no longer than vsock_conn_credit(). 0: not
 * now, or the host's end is done and the guest owed a SHUTDOWN.
 */
uint32_t vsock_conn_receive(struct vsock_conn *c, const struct iovec *iov,
			    unsigned niov);

/* How many bytes the guest can take, if it wants any. */
uint32_t vsock_conn_credit(const struct vsock_conn *c);
/* Puts C among the turns if it has something for the guest. */
void vsock_conn_schedule(struct vsock_conn *c);
/* The one whose turn it is, no longer among the turns; or NULL. */
struct vsock_conn *vsock_conns_next(struct vsock_conns *conns);

static inline void vsock_conn_owe(struct vsock_conn *c, unsigned op)
{
	c->owed |= 1u << op;
}

#endif
