/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network interface that is saved and loaded, on a real tap that stays, and a
 * packet socket at its other side.
 */
#include "tests/devices/virtio/visit-kinds.h"
#include "tests/netns.h"

#include <endian.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <stdio.h>

extern const struct virtio_ops virtio_net;

#define RX        0
#define TX        1
#define HEADER    sizeof(struct virtio_net_hdr_v1)
#define ETHERTYPE 0x88b5 /* for local experiments */
#define FRAME     900
#define SENT      6   /* frames of the guest's, left */
#define SMALL     256 /* buffers of the guest's for the frame that is left */
#define NSMALL    4

struct wire {
	int socket;
	uint8_t *small[NSMALL];
};

static void make_frame(uint8_t *frame, unsigned number)
{
	memset(frame, 0, ETH_HLEN);
	memset(frame, 0xff, ETH_ALEN);
	frame[ETH_ALEN] = 2;
	frame[12] = ETHERTYPE >> 8;
	frame[13] = ETHERTYPE & 0xff;
	for (size_t i = ETH_HLEN; i < FRAME; i++)
		frame[i] = (uint8_t)(i + number * 3 + i / 256);
}

static void net_setup(struct visit_rig *r)
{
	struct wire *wire;

	netns_need();
	wire = calloc(1, sizeof(*wire));
	netns_add_tap("tap0", 0);
	netns_no_ipv6("tap0");
	netns_set_mtu("tap0", 1500);
	netns_up("tap0");
	wire->socket = netns_packet_socket("tap0", ETHERTYPE);
	r->host = wire;
}

static void net_teardown(struct visit_rig *r)
{
	struct wire *wire = r->host;

	close(wire->socket);
	netns_delete("tap0");
	free(wire);
}

static bool is_running(void)
{
	struct ifreq ifr = {0};

	netns_ioctl("tap0", SIOCGIFFLAGS, &ifr);
	return ifr.ifr_flags & IFF_RUNNING;
}

/* Each has another address by itself: the guest keeps its own. */
static void net_open(struct visit_rig *r)
{
	r->v = vdriver_new(&virtio_net, "tap0");
	assert_non_null(r->v);
	/* The kernel notices the new reader in its own time. */
	assert_true(wait_until(is_running()));
}

static uint8_t *post(struct visit_rig *r, size_t bytes)
{
	struct iovec in = vdriver_buf(r->v, NULL, bytes);

	assert_true(vdriver_add(r->v, RX, NULL, 0, &in, 1) >= 0);
	return in.iov_base;
}

static void host_sends(struct visit_rig *r, unsigned number)
{
	const struct wire *wire = r->host;
	uint8_t frame[FRAME];

	make_frame(frame, number);
	assert_int_equal(send(wire->socket, frame, FRAME, 0), FRAME);
}

/* Exactly that frame is next. */
static void host_sees(struct visit_rig *r, unsigned number)
{
	const struct wire *wire = r->host;
	uint8_t frame[2048], expected[FRAME];
	struct sockaddr_ll from = {0};
	ssize_t n;

	do {
		struct pollfd pfd = {.fd = wire->socket, .events = POLLIN};
		socklen_t len = sizeof(from);

		assert_int_equal(poll(&pfd, 1, PATIENCE_MS), 1);
		n = recvfrom(wire->socket, frame, sizeof(frame), 0,
			     (void *)&from, &len);
	} while (n < 0 || from.sll_pkttype == PACKET_OUTGOING);
	make_frame(expected, number);
	assert_int_equal(n, FRAME);
	assert_memory_equal(frame, expected, FRAME);
}

static void guest_sends(struct visit_rig *r, unsigned number)
{
	struct iovec out = vdriver_buf(r->v, NULL, HEADER + FRAME);

	make_frame((uint8_t *)out.iov_base + HEADER, number);
	assert_true(vdriver_add(r->v, TX, &out, 1, NULL, 0) >= 0);
}

static void net_traffic(struct visit_rig *r)
{
	const unsigned number = 100 + r->round;
	const uint8_t *buffer = post(r, 2048);
	uint8_t expected[FRAME];
	uint32_t written;

	guest_sends(r, number);
	vdriver_kick(r->v, TX);
	assert_true(vdriver_wait_used(r->v, TX, NULL, PATIENCE_MS) >= 0);
	host_sees(r, number);
	vdriver_kick(r->v, RX);
	host_sends(r, number);
	assert_true(vdriver_wait_used(r->v, RX, &written, PATIENCE_MS) >= 0);
	assert_int_equal(written, HEADER + FRAME);
	make_frame(expected, number);
	assert_memory_equal(buffer + HEADER, expected, FRAME);
}

/* Packets that the device has read from the tap. */
static unsigned long read_from_tap(void)
{
	FILE *f = fopen("/proc/thread-self/net/dev", "re");
	unsigned long n = 0;
	char line[512];

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		(void)sscanf(line,
			     " tap0: %*u %*u %*u %*u %*u %*u %*u %*u %*u "
			     "%lu",
			     &n);
	fclose(f);
	return n;
}

/*
 * Frames to send, of which it was told of half; and one that it has read and
 * found too little room for.
 */
static void net_leave(struct visit_rig *r)
{
	struct wire *wire = r->host;
	const unsigned long before = read_from_tap();

	wire->small[0] = post(r, SMALL);
	vdriver_kick(r->v, RX);
	assert_true(wait_until(vdriver_held(r->v, RX) == 1));
	host_sends(r, 50);
	assert_true(wait_until(read_from_tap() > before));
	for (unsigned i = 0; i < SENT; i++) {
		guest_sends(r, i);
		if (i == SENT / 2)
			vdriver_kick(r->v, TX);
	}
}

static void net_moved(struct visit_rig *r, const struct vdriver_saved *saved)
{
	struct wire *wire = r->host;

	if (wire->small[0])
		wire->small[0] = vdriver_moved(r->v, saved, wire->small[0]);
}

static void net_take(struct visit_rig *r)
{
	struct wire *wire = r->host;
	uint8_t frame[NSMALL * SMALL], expected[FRAME];
	uint32_t written, all = 0;

	for (unsigned i = 0; i < SENT; i++) {
		assert_true(vdriver_wait_used(r->v, TX, NULL, PATIENCE_MS) >=
			    0);
		host_sees(r, i);
	}
	for (unsigned i = 1; i < NSMALL; i++)
		wire->small[i] = post(r, SMALL);
	vdriver_kick(r->v, RX);
	for (unsigned i = 0; i < NSMALL; i++) {
		assert_true(vdriver_wait_used(r->v, RX, &written,
					      PATIENCE_MS) >= 0);
		memcpy(frame + all, wire->small[i], written);
		all += written;
	}
	assert_int_equal(all, HEADER + FRAME);
	make_frame(expected, 50);
	assert_memory_equal(frame + HEADER, expected, FRAME);
	wire->small[0] = NULL;
}

const struct kind visit_net = {
	.name = "net",
	.setup = net_setup,
	.teardown = net_teardown,
	.open = net_open,
	.traffic = net_traffic,
	.leave = net_leave,
	.moved = net_moved,
	.take = net_take,
	.stride = 7,
};
