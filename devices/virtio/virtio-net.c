/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network device (virtio 1.2, 5.1): frames between the guest's queues and
 * whatever devices/host/net.h found on the host. There is no control queue.
 */
#include "devices/host/net.h"
#include "devices/host/tap.h"
#include "devices/virtio/virtio.h"
#include "vmm/base/iov.h"
#include "vmm/base/util.h"
#include "vmm/base/visit.h"

#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <linux/if_ether.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>

#define BIT(n) (UINT64_C(1) << (n))

#define NET_RX    0
#define NET_TX    1
#define NET_QUEUE 256
#define NET_IOV   256 /* buffers of one chain */
#define NET_BATCH 64  /* frames until other devices have their turn */

/* Newer than Debian 12's kernel headers. */
#ifndef VIRTIO_NET_F_HOST_USO
#define VIRTIO_NET_F_HOST_USO   56
#define VIRTIO_NET_F_GUEST_USO4 54
#define VIRTIO_NET_F_GUEST_USO6 55
#endif

/* The guest may get frames longer than the MTU (5.1.6.3.1). */
#define NET_GUEST_GSO                                                          \
	(BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6) |         \
	 BIT(VIRTIO_NET_F_GUEST_UFO) | BIT(VIRTIO_NET_F_GUEST_USO4) |          \
	 BIT(VIRTIO_NET_F_GUEST_USO6))

/* A driver may have accepted these from any backend. */
#define NET_BACKEND_FEATURES                                                   \
	(NET_GUEST_GSO | BIT(VIRTIO_NET_F_CSUM) |                              \
	 BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_ECN) |          \
	 BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) |           \
	 BIT(VIRTIO_NET_F_HOST_ECN) | BIT(VIRTIO_NET_F_HOST_UFO) |             \
	 BIT(VIRTIO_NET_F_HOST_USO))

struct net_buffer {
	uint16_t head;
	uint16_t niov;
	uint32_t bytes;
};

struct net {
	struct virtio_dev *d;
	struct net_backend backend;
	struct loop_source source;
	uint16_t mtu;
	bool gone;             /* the backend is, for good or until plug() */
	uint64_t features;     /* offered with any backend */
	uint8_t mac[ETH_ALEN]; /* of the interface in the guest */
	bool wants_mac;        /* the configuration says which */
	bool starved;          /* frames wait for the guest's buffers */
	unsigned frames;       /* left of this turn's receiving */
	bool tx_blocked;       /* the backend takes no more now */
	bool mergeable;
	size_t rx_need; /* room for any frame, header included */

	/*
	 * Receive buffers taken off the queue ahead of the frames, so that one
	 * receive() can fill as many as it needs: buffer[first..first + count)
	 * with iov[iov_first..iov_end).
	 */
	struct net_buffer buffer[NET_QUEUE];
	unsigned first, count;
	struct iovec iov[2 * NET_IOV + 1];
	unsigned iov_first, iov_end;
	size_t room; /* bytes in them */
	uint8_t overflow;

	/*
	 * A frame read while there was not room for any frame: it waits here
	 * for more buffers. Owned, NET_FRAME_MAX and header; NULL until needed.
	 */
	uint8_t *held;
	size_t held_bytes;

	struct iovec tx_iov[NET_IOV];
	struct loop_patience rx_patience, tx_patience;
	uint64_t rx_dropped, tx_dropped;
};

static const struct config_key net_keys[] = {
	{.name = "tap",
	 .kind = CONFIG_TEXT,
	 .bare = true,
	 .help = "name of an existing tap interface"},
	{.name = "join",
	 .kind = CONFIG_TEXT,
	 .help = "an interface: the guest gets and sends its packets"},
	{.name = "resolver",
	 .kind = CONFIG_FLAG,
	 .help = "answers of name servers to programs here stay, join only"},
	{.name = "user",
	 .kind = CONFIG_FLAG,
	 .help = "no tap: connect as this host does, through passt"},
	{.name = "spare",
	 .kind = CONFIG_FLAG,
	 .help = "a place for one that comes while the guest runs"},
	{.name = "publish",
	 .kind = CONFIG_TEXT,
	 .list = true,
	 .help = "[ADDRESS:]PORT:GUESTPORT[/udp], user only"},
	{.name = "loopback",
	 .kind = CONFIG_FLAG,
	 .help = "the gateway is this host's 127.0.0.1, user only"},
	{.name = "mac",
	 .kind = CONFIG_MAC,
	 .help = "the guest's address; a random one otherwise"},
	{.name = "mtu",
	 .kind = CONFIG_NUMBER,
	 .min = ETH_MIN_MTU,
	 .max = ETH_MAX_MTU,
	 .help = "MTU for the guest; the tap's, or 65520, otherwise"},
	{0},
};

static uint32_t waiting(const struct net *n)
{
	const struct net_backend *b = &n->backend;

	return b->ops->waiting ? b->ops->waiting(b) : 0;
}

/* The events of the backend that the device has to wake up for. */
static void watch(struct net *n)
{
	/* The rest of a frame goes out even when the device rests. */
	uint32_t events = waiting(n) & EPOLLOUT;

	if (n->d->running && !n->starved)
		events |= EPOLLIN;
	if (n->d->running && n->tx_blocked)
		events |= EPOLLOUT;
	/* Fails only for a backend that is gone. */
	if (!n->gone)
		(void)loop_modify(n->d->loop, &n->source, events);
}

/* On the loop's thread only. */
static void backend_gone(struct net *n)
{
	struct virtio_net_config *config = (void *)n->d->config;

	if (n->gone)
		return;
	log_error("%s: %s is gone; the guest's link is down", n->d->name,
		  n->backend.name);
	n->gone = true;
	loop_del(n->d->loop, &n->source);
	config->status = 0;
	virtio_config_changed(n->d);
}

/* ---- receiving ---- */

static void forget_buffers(struct net *n)
{
	n->first = n->count = 0;
	n->iov_first = n->iov_end = 0;
	n->room = 0;
}

/* Room behind iov_end for a whole chain. */
static bool make_iov_room(struct net *n)
{
	const unsigned used = n->iov_end - n->iov_first;

	if (used > NET_IOV)
		return false;
	if (n->iov_end > NET_IOV) {
		memmove(n->iov, n->iov + n->iov_first, used * sizeof(*n->iov));
		n->iov_first = 0;
		n->iov_end = used;
	}
	return true;
}

/* Takes buffers until any frame fits, or there are no more. */
static void take_buffers(struct net *n)
{
	struct virtio_dev *d = n->d;

	while (n->room < n->rx_need && n->count < NET_QUEUE &&
	       (n->mergeable || n->count == 0) && make_iov_room(n)) {
		struct iov_chain chain = {
			.iov = n->iov + n->iov_end,
			.iov_max = NET_IOV,
		};
		const int r = vq_pop(&d->vq[NET_RX], &chain);

		if (r < 0)
			virtio_broken(d, "malformed receive buffer");
		if (r <= 0)
			return;
		/* 5.1.6.3.1: any buffer can hold the header at least. */
		if (chain.nout > 0 || chain.in_bytes < NET_HEADER) {
			virtio_broken(d, "receive buffer without room");
			return;
		}
		n->buffer[(n->first + n->count++) % NET_QUEUE] =
			(struct net_buffer){
				.head = chain.head,
				.niov = (uint16_t)chain.nin,
				.bytes = chain.in_bytes,
			};
		n->iov_end += chain.nin;
		n->room += chain.in_bytes;
	}
}

/* The first BYTES of the buffers hold a frame with its header. */
static void give_frame(struct net *n, size_t bytes)
{
	const struct iovec *header = n->iov + n->iov_first;
	const unsigned header_niov = n->iov_end - n->iov_first;
	uint16_t used = 0;

	while (bytes > 0) {
		const struct net_buffer *b = &n->buffer[n->first];
		const uint32_t written = (uint32_t)min_u64(bytes, b->bytes);

		vq_push(&n->d->vq[NET_RX], b->head, written);
		n->first = (n->first + 1) % NET_QUEUE;
		n->count--;
		n->iov_first += b->niov;
		n->room -= b->bytes;
		bytes -= written;
		used++;
	}
	/* Backends leave this field alone (5.1.6.4). */
	used = htole16(used);
	iov_write(header, header_niov,
		  offsetof(struct virtio_net_hdr_v1, num_buffers), &used,
		  sizeof(used));
}

enum received { GOT_FRAME, NO_FRAME, NO_BUFFERS };

static enum received receive_failed(struct net *n, ssize_t error)
{
	if (error == -ENOTCONN)
		backend_gone(n);
	else if (error != -EAGAIN && error != -EINTR)
		log_guest(&n->d->limit, "%s: reading from %s: %s", n->d->name,
			  n->backend.name, strerror((int)-error));
	return NO_FRAME;
}

static enum received give_held(struct net *n)
{
	/* 5.1.6.4: without MRG_RXBUF a frame has one buffer or none. */
	const bool all = !n->mergeable || n->count == n->d->vq[NET_RX].size ||
			 n->iov_end - n->iov_first > NET_IOV;

	if (n->held_bytes <= n->room) {
		iov_write(n->iov + n->iov_first, n->iov_end - n->iov_first, 0,
			  n->held, n->held_bytes);
		give_frame(n, n->held_bytes);
	} else if (n->count > 0 && all) {
		n->rx_dropped++;
	} else {
		return NO_BUFFERS;
	}
	n->held_bytes = 0;
	return GOT_FRAME;
}

/* There is room for some frames, but maybe not for the next. */
static enum received hold_frame(struct net *n)
{
	struct iovec to = {
		.iov_base = &n->overflow,
		.iov_len = sizeof(n->overflow),
	};
	ssize_t got;

	if (!n->held)
		n->held = malloc(NET_HEADER + NET_FRAME_MAX);
	if (n->held)
		to = (struct iovec){n->held, NET_HEADER + NET_FRAME_MAX};
	got = n->backend.ops->receive(&n->backend, &to, 1);
	if (got < 0)
		return receive_failed(n, got);
	if (!n->held) {
		n->rx_dropped++;
		return GOT_FRAME;
	}
	n->held_bytes = (size_t)got;
	return give_held(n);
}

static enum received receive_frame(struct net *n)
{
	ssize_t got;

	take_buffers(n);
	if (!n->d->running)
		return NO_FRAME;
	if (n->held_bytes > 0)
		return give_held(n);
	if (n->count == 0)
		return NO_BUFFERS;
	if (n->room < n->rx_need)
		return hold_frame(n);
	/* One byte more than there is: a frame that was cut short shows. */
	n->iov[n->iov_end] =
		(struct iovec){.iov_base = &n->overflow, .iov_len = 1};
	got = n->backend.ops->receive(&n->backend, n->iov + n->iov_first,
				      n->iov_end - n->iov_first + 1);
	if (got < 0)
		return receive_failed(n, got);
	if (got < NET_HEADER || (size_t)got > n->room)
		n->rx_dropped++;
	else
		give_frame(n, (size_t)got);
	return GOT_FRAME;
}

/*
 * No chain is taken without a frame for it, so `frames` is the limit of a turn,
 * not virtio_turn()'s: the device need not kick itself where the backend's
 * descriptor says that there is more.
 */
static enum virtio_took receive(struct virtio_dev *d, unsigned q)
{
	struct net *n = d->state;
	enum received r;

	(void)q;
	n->starved = false;
	if (n->frames == 0)
		return VIRTIO_LATER;
	r = receive_frame(n);
	n->starved = r == NO_BUFFERS;
	n->frames -= r == GOT_FRAME;
	return r == GOT_FRAME    ? VIRTIO_TOOK
	       : r == NO_BUFFERS ? VIRTIO_EMPTY
				 : VIRTIO_LATER;
}

/* Both directions have one thread: either's patience is the thread's. */
static void adapt(struct net *n, struct loop_patience *p, unsigned found)
{
	const bool before = n->rx_patience.patient || n->tx_patience.patient;
	bool now;

	if (!loop_adapt(p, found))
		return;
	now = n->rx_patience.patient || n->tx_patience.patient;
	if (now != before)
		loop_wait_patiently(now);
}

static void receive_all(struct net *n)
{
	struct virtio_dev *d = n->d;
	unsigned got;

	if (!d->vq[NET_RX].ready || n->gone)
		return;
	n->frames = NET_BATCH;
	got = virtio_turn(d, NET_RX, UINT_MAX, 1, receive);
	virtio_publish(d, NET_RX);
	if (got > 0)
		adapt(n, &n->rx_patience, got);
	watch(n);
	/* The descriptor does not tell of frames that were read from it. */
	if ((n->held_bytes > 0 || waiting(n) & EPOLLIN) && !n->starved)
		loop_signal(d->kick[NET_RX].source.fd);
}

/* ---- sending ---- */

static enum virtio_took transmit(struct virtio_dev *d, unsigned q)
{
	struct net *n = d->state;
	struct iov_chain chain = {.iov = n->tx_iov, .iov_max = NET_IOV};
	int r = vq_pop(&d->vq[q], &chain);

	if (r < 0)
		virtio_broken(d, "malformed packet");
	if (r <= 0)
		return r == 0 ? VIRTIO_EMPTY : VIRTIO_LATER;
	r = -EMSGSIZE;
	if (chain.out_bytes <= NET_HEADER + NET_FRAME_MAX)
		r = n->backend.ops->send(&n->backend, chain.iov, chain.nout);
	if (r == -EAGAIN && !n->gone) {
		vq_unpop(&d->vq[q]);
		n->tx_blocked = true;
		return VIRTIO_LATER;
	}
	if (r < 0) {
		n->tx_dropped++;
		if (r == -EINVAL || r == -EMSGSIZE)
			log_guest(&d->limit, "%s: bad packet of %u bytes: %s",
				  d->name, chain.out_bytes, strerror(-r));
	}
	vq_push(&d->vq[q], chain.head, 0);
	return VIRTIO_TOOK;
}

static void transmit_all(struct net *n)
{
	struct virtio_dev *d = n->d;
	unsigned sent;

	if (!d->vq[NET_TX].ready || n->tx_blocked)
		return;
	sent = virtio_turn(d, NET_TX, NET_BATCH, 1, transmit);
	virtio_publish(d, NET_TX);
	if (sent > 0)
		adapt(n, &n->tx_patience, sent);
	watch(n);
}

/* ---- life ---- */

static void net_kick(struct virtio_dev *d, unsigned q)
{
	if (q == NET_RX)
		receive_all(d->state);
	else
		transmit_all(d->state);
}

/* It, and not the one that was there before. */
static bool is_broken(const struct net *n)
{
	struct pollfd pfd = {.fd = n->backend.fd};

	return poll(&pfd, 1, 0) != 0;
}

static void net_event(struct loop_source *source, uint32_t events)
{
	struct net *n = container_of(source, struct net, source);

	virtio_lock(n->d);
	/* The loop may have fetched this before the backend was taken away. */
	if (n->gone)
		events = 0;
	if (events & (EPOLLERR | EPOLLHUP) && is_broken(n))
		backend_gone(n);
	if (!n->gone && (events & EPOLLOUT) && n->backend.ops->flush)
		n->backend.ops->flush(&n->backend);
	if (n->d->running && (events & EPOLLOUT)) {
		n->tx_blocked = false;
		transmit_all(n);
	}
	if (n->d->running && (events & EPOLLIN))
		receive_all(n);
	watch(n);
	virtio_unlock(n->d);
}

static int choose_mac(struct virtio_dev *d, const struct config_device *cfg,
		      uint8_t mac[ETH_ALEN])
{
	const char *text = config_text(cfg, "mac");

	if (config_mac(cfg, "mac", mac)) {
		if (mac[0] & 1)
			return log_ret(-EINVAL,
				       "%s: mac '%s' is a group address: its "
				       "first byte must be even",
				       d->name, text);
		return 0;
	}
	if (getrandom(mac, ETH_ALEN, 0) != ETH_ALEN)
		return log_ret(-EIO, "%s: no random numbers for a mac",
			       d->name);
	/* One interface's, locally administered. */
	mac[0] = (uint8_t)((mac[0] & ~1u) | 2u);
	return 0;
}

/* The backend is open. 0 or -errno. */
static int begin(struct virtio_dev *d, const uint8_t mac[ETH_ALEN],
		 uint16_t mtu)
{
	struct virtio_net_config config = {
		.status = htole16(VIRTIO_NET_S_LINK_UP),
		.mtu = htole16(mtu),
	};
	struct net *n = d->state;

	memcpy(config.mac, mac, sizeof(config.mac));
	memcpy(n->mac, mac, sizeof(n->mac));
	n->mtu = mtu > n->backend.mtu ? mtu : n->backend.mtu;
	d->features = n->features | n->backend.features;
	memcpy(d->config, &config, d->config_bytes);
	n->source.fd = n->backend.fd;
	n->source.fn = net_event;
	n->gone = false;
	return loop_add(d->loop, &n->source, 0);
}

static int net_open(struct virtio_dev *d, const struct config_device *cfg)
{
	struct net *n = d->state;
	uint8_t mac[ETH_ALEN];
	int r;

	n->d = d;
	n->features = d->features;
	d->config_bytes = offsetof(struct virtio_net_config, mtu) + 2;
	r = choose_mac(d, cfg, mac);
	n->wants_mac = config_text(cfg, "mac") != NULL;
	memcpy(n->mac, mac, sizeof(n->mac));
	if (r == 0)
		r = net_backend_open(&n->backend, cfg, mac, d->name);
	if (r < 0)
		return r;
	d->more_syscalls = n->backend.ops->syscalls;
	d->absent = n->gone = n->backend.fd < 0;
	if (d->absent)
		return 0;
	r = begin(d, mac, (uint16_t)config_number(cfg, "mtu", n->backend.mtu));
	return r < 0 ? log_ret(r, "%s: event loop: %s", d->name, strerror(-r))
		     : 0;
}

static int net_plug(struct virtio_dev *d, const struct virtio_plug *plug)
{
	struct net *n = d->state;
	int r;

	tap_backend_take(&n->backend, plug->fd, plug->mtu);
	r = begin(d, plug->mac, plug->mtu);
	if (r < 0) {
		net_backend_none(&n->backend);
		n->gone = true;
	}
	return r;
}

static void net_unplug(struct virtio_dev *d)
{
	struct virtio_net_config *config = (void *)d->config;
	struct net *n = d->state;

	loop_del(d->loop, &n->source);
	net_backend_close(&n->backend);
	net_backend_none(&n->backend);
	n->gone = true;
	n->held_bytes = 0;
	n->tx_blocked = false;
	config->status = 0;
}

static void net_close(struct virtio_dev *d)
{
	struct net *n = d->state;

	if (!n->d)
		return;
	loop_del(d->loop, &n->source);
	net_backend_close(&n->backend);
	free(n->held);
	if (n->rx_dropped || n->tx_dropped)
		log_info("%s: %llu frames to and %llu from the guest were "
			 "dropped",
			 d->name, (unsigned long long)n->rx_dropped,
			 (unsigned long long)n->tx_dropped);
}

static void net_start(struct virtio_dev *d)
{
	struct net *n = d->state;

	n->mergeable = virtio_acked(d, VIRTIO_NET_F_MRG_RXBUF);
	n->rx_need = NET_HEADER;
	n->rx_need += d->acked & NET_GUEST_GSO ? NET_FRAME_MAX
					       : n->mtu + ETH_HLEN + 8u;
	n->tx_blocked = false;
	n->starved = true; /* until the first kick of the receive queue */
	if (!n->gone && n->backend.ops->set_offloads(&n->backend, d->acked) < 0)
		virtio_broken(d, "%s refuses these offloads", n->backend.name);
}

/*
 * The buffers taken ahead are the last ones that were popped. A frame that is
 * held stays: it is a copy.
 */
static void net_pause(struct virtio_dev *d)
{
	struct net *n = d->state;

	for (; n->count > 0; n->count--)
		vq_unpop(&d->vq[NET_RX]);
	forget_buffers(n);
}

static void net_resume(struct virtio_dev *d)
{
	watch(d->state);
}

/* A driver goes on where nothing is behind its device any more. */
static void net_visit_backend(struct virtio_dev *d, struct visitor *v)
{
	if (visit_loads(v) && d->absent)
		d->features |= d->acked & NET_BACKEND_FEATURES;
}

/*
 * The guest keeps the address that it has, and another backend may have to be
 * told of it. Its link is up where it was down, as there is a backend now.
 */
static void adopt(struct net *n)
{
	struct virtio_dev *d = n->d;
	struct virtio_net_config *config = (void *)d->config;

	if (memcmp(n->mac, config->mac, sizeof(n->mac)) != 0) {
		if (n->wants_mac)
			log_warn("%s: its mac stays that of the loaded guest, "
				 "%02x:%02x:%02x:%02x:%02x:%02x",
				 d->name, config->mac[0], config->mac[1],
				 config->mac[2], config->mac[3], config->mac[4],
				 config->mac[5]);
		memcpy(n->mac, config->mac, sizeof(n->mac));
		if (n->backend.ops->set_mac)
			n->backend.ops->set_mac(&n->backend, n->mac);
	}
	if (le16toh(config->mtu) > n->mtu)
		log_warn("%s: the mtu of the loaded guest is %u, that of %s "
			 "%u: longer packets are lost",
			 d->name, le16toh(config->mtu), n->backend.name,
			 n->mtu);
	if (config->status == 0) {
		config->status = htole16(VIRTIO_NET_S_LINK_UP);
		virtio_config_changed(d);
	}
}

/* A frame that was read and not yet given; nothing else is under way. */
static void net_visit(struct virtio_dev *d, struct visitor *v)
{
	struct net *n = d->state;
	uint8_t *frame = n->held;
	size_t bytes = n->held_bytes;

	visit_buffer(v, "held", &frame, &bytes, NET_HEADER + NET_FRAME_MAX);
	if (!visit_loads(v) || !visit_goes_on(v))
		return;
	n->held = bytes > 0 ? realloc(frame, NET_HEADER + NET_FRAME_MAX) : NULL;
	if (!n->held)
		free(frame);
	/* Buffers are never taken for more, so a longer one would wait on. */
	n->held_bytes = n->held && bytes <= n->rx_need ? bytes : 0;
	if (!n->gone)
		adopt(n);
}

static void net_stop(struct virtio_dev *d)
{
	struct net *n = d->state;

	forget_buffers(n);
	n->held_bytes = 0;
	n->tx_blocked = false;
	n->starved = true;
	watch(n);
}

const struct virtio_ops virtio_net = {
	.type = {.name = "net",
		 .help = "a network interface, on a tap or through passt",
		 .keys = net_keys,
		 .check = net_check},
	.id = VIRTIO_ID_NET,
	.nqueues = 2,
	.queue_max = NET_QUEUE,
	.features = BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_MAC) |
		    BIT(VIRTIO_NET_F_MTU) | BIT(VIRTIO_NET_F_STATUS),
	.state_size = sizeof(struct net),
	.own_thread = true,
	.syscalls = loop_patience_syscalls,
	.open = net_open,
	.close = net_close,
	.start = net_start,
	.stop = net_stop,
	.pause = net_pause,
	.resume = net_resume,
	.visit = net_visit,
	.visit_backend = net_visit_backend,
	.kick = net_kick,
	.plug = net_plug,
	.unplug = net_unplug,
};
