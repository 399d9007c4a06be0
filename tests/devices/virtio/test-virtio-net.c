/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network device on a real tap: this file is the driver on one side, and on
 * the other a packet socket that sends and sees what passes the tap.
 */
#include "tests/netns.h"
#include "tests/vdriver.h"

#include "devices/host/tap.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

extern const struct virtio_ops virtio_net;

#define ALL       UINT64_MAX
#define BIT(n)    (UINT64_C(1) << (n))
#define RX        0
#define TX        1
#define HEADER    sizeof(struct virtio_net_hdr_v1)
#define ETHERTYPE 0x88b5 /* for local experiments */
#define PLAIN     (BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_RING_F_EVENT_IDX))
#define MERGEABLE (PLAIN | BIT(VIRTIO_NET_F_MRG_RXBUF))

struct fixture {
	struct vdriver *v;
	int socket;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->socket = -1;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	vdriver_free(f->v);
	util_close(&f->socket);
	if (if_nametoindex("tap0"))
		netns_delete("tap0");
	free(f);
	return 0;
}

static void make_tap(struct fixture *f, int mtu)
{
	netns_need();
	netns_add_tap("tap0", 0);
	netns_no_ipv6("tap0");
	netns_set_mtu("tap0", mtu);
	netns_up("tap0");
	f->socket = netns_packet_socket("tap0", ETHERTYPE);
}

static struct vdriver *up(struct fixture *f, const char *options, int mtu,
			  uint64_t features)
{
	char text[64];

	make_tap(f, mtu);
	snprintf(text, sizeof(text), "tap0%s", options);
	f->v = vdriver_new(&virtio_net, text);
	assert_non_null(f->v);
	assert_true(vdriver_up(f->v, features));
	return f->v;
}

/* An Ethernet frame of BYTES that can be told from others. */
static void make_frame(uint8_t *frame, size_t bytes, unsigned number)
{
	memset(frame, 0, ETH_HLEN);
	memset(frame, 0xff, ETH_ALEN);
	frame[ETH_ALEN] = 2;
	frame[12] = ETHERTYPE >> 8;
	frame[13] = ETHERTYPE & 0xff;
	for (size_t i = ETH_HLEN; i < bytes; i++)
		frame[i] = (uint8_t)(i + number + i / 256);
}

static void send_frame(struct fixture *f, size_t bytes, unsigned number)
{
	uint8_t frame[9100];

	make_frame(frame, bytes, number);
	assert_int_equal(send(f->socket, frame, bytes, 0), bytes);
}

/* The frame that left the tap towards the host: bytes, or -1 after a while. */
static ssize_t sniff(struct fixture *f, uint8_t *frame, size_t room,
		     int timeout_ms)
{
	struct pollfd pfd = {.fd = f->socket, .events = POLLIN};

	for (;;) {
		struct sockaddr_ll from;
		socklen_t len = sizeof(from);
		ssize_t n;

		if (poll(&pfd, 1, timeout_ms) != 1)
			return -1;
		n = recvfrom(f->socket, frame, room, MSG_TRUNC, (void *)&from,
			     &len);
		if (n >= 0 && from.sll_pkttype != PACKET_OUTGOING)
			return n;
	}
}

/* A receive buffer in the queue, with its address. */
static uint8_t *post(struct vdriver *v, size_t bytes)
{
	struct iovec in = vdriver_buf(v, NULL, bytes);

	memset(in.iov_base, 0xee, bytes);
	assert_true(vdriver_add(v, RX, NULL, 0, &in, 1) >= 0);
	return in.iov_base;
}

static void expect_frame(const uint8_t *frame, size_t bytes, unsigned number)
{
	uint8_t expected[9100];

	make_frame(expected, bytes, number);
	assert_memory_equal(frame, expected, bytes);
}

static uint16_t num_buffers(const uint8_t *header)
{
	struct virtio_net_hdr_v1 h;

	memcpy(&h, header, sizeof(h));
	return le16toh(h.num_buffers);
}

/* Waits for one frame in one buffer. */
static void receive(struct vdriver *v, const uint8_t *buffer, size_t bytes,
		    unsigned number)
{
	uint32_t written = 0;

	assert_true(vdriver_wait_used(v, RX, &written, PATIENCE_MS) >= 0);
	assert_int_equal(written, bytes + HEADER);
	assert_int_equal(num_buffers(buffer), 1);
	expect_frame(buffer + HEADER, bytes, number);
}

/* ---- configuration */

static void test_config(void **state)
{
	static const uint8_t mac[] = {2, 0, 0x5e, 0x10, 0, 1};
	struct vdriver *v = up(*state, ",mac=02:00:5e:10:00:01", 1400, ALL);
	const uint64_t offered = vdriver_offered(v);
	struct virtio_net_config config;

	assert_int_equal(vdriver_read32(v, VIRTIO_MMIO_DEVICE_ID),
			 VIRTIO_ID_NET);
	vdriver_config_read(v, 0, &config, 12);
	assert_memory_equal(config.mac, mac, 6);
	assert_int_equal(le16toh(config.status), VIRTIO_NET_S_LINK_UP);
	assert_int_equal(le16toh(config.mtu), 1400);
	for (unsigned bit = VIRTIO_NET_F_CSUM; bit <= VIRTIO_NET_F_STATUS;
	     bit++) {
		if (bit == VIRTIO_NET_F_CTRL_GUEST_OFFLOADS || bit == 4 ||
		    bit == VIRTIO_NET_F_GSO)
			assert_false(offered & BIT(bit));
		else if (bit != VIRTIO_NET_F_GUEST_UFO)
			assert_true(offered & BIT(bit));
	}
	assert_false(offered & BIT(VIRTIO_NET_F_CTRL_VQ));
	assert_false(offered & BIT(VIRTIO_NET_F_MQ));
}

static void test_default_mac(void **state)
{
	struct fixture *f = *state;
	struct vdriver *v = up(f, ",mtu=1300", 1500, ALL);
	struct virtio_net_config a, b;

	vdriver_config_read(v, 0, &a, 12);
	assert_int_equal(a.mac[0] & 3, 2);
	assert_int_equal(le16toh(a.mtu), 1300);
	vdriver_free(v);
	f->v = v = vdriver_new(&virtio_net, "tap0");
	assert_non_null(v);
	vdriver_config_read(v, 0, &b, 12);
	assert_memory_not_equal(a.mac, b.mac, 6);
}

static void test_bad_options(void **state)
{
	make_tap(*state, 1500);
	assert_null(vdriver_new(&virtio_net, "tap0,mac=01:00:5e:10:00:01"));
	assert_null(vdriver_new(&virtio_net, "nosuchtap"));
}

/* ---- sending */

static struct iovec packet(struct vdriver *v, size_t bytes, unsigned number)
{
	struct iovec out = vdriver_buf(v, NULL, HEADER + bytes);

	make_frame((uint8_t *)out.iov_base + HEADER, bytes, number);
	return out;
}

static void test_transmit(void **state)
{
	struct fixture *f = *state;
	struct vdriver *v = up(f, "", 1500, ALL);
	struct iovec out = packet(v, 1514, 3), part[4];
	uint8_t frame[2000], *base = out.iov_base;

	assert_int_equal(vdriver_request(v, TX, &out, 1, NULL, 0), 0);
	assert_int_equal(sniff(f, frame, sizeof(frame), PATIENCE_MS), 1514);
	expect_frame(frame, 1514, 3);

	/* Header and frame cut anywhere (2.7.4.1). */
	part[0] = (struct iovec){base, 5};
	part[1] = (struct iovec){base + 5, 10};
	part[2] = (struct iovec){base + 15, 1};
	part[3] = (struct iovec){base + 16, HEADER + 1514 - 16};
	assert_int_equal(vdriver_request(v, TX, part, 4, NULL, 0), 0);
	assert_int_equal(sniff(f, frame, sizeof(frame), PATIENCE_MS), 1514);
	expect_frame(frame, 1514, 3);
}

static void test_transmit_burst(void **state)
{
	struct fixture *f = *state;
	struct vdriver *v = up(f, "", 1500, ALL);
	uint8_t frame[2000];

	for (unsigned i = 0; i < 200; i++) {
		struct iovec out = packet(v, 100 + i, i);

		assert_true(vdriver_add(v, TX, &out, 1, NULL, 0) >= 0);
	}
	vdriver_kick(v, TX);
	for (unsigned i = 0; i < 200; i++) {
		assert_true(vdriver_wait_used(v, TX, NULL, PATIENCE_MS) >= 0);
		assert_int_equal(sniff(f, frame, sizeof(frame), PATIENCE_MS),
				 100 + i);
		expect_frame(frame, 100 + i, i);
	}
}

/* Dropped, given back, and no harm to the next one. */
static void test_transmit_garbage(void **state)
{
	static const size_t bad_bytes[] = {1, 11, 12, 13, 12 + 13, 70000};
	struct fixture *f = *state;
	struct vdriver *v = up(f, "", 1500, ALL);
	struct virtio_net_hdr_v1 *header;
	struct iovec out, in;
	uint8_t frame[2000];

	for (size_t i = 0; i < ARRAY_LEN(bad_bytes); i++) {
		out = vdriver_buf(v, NULL, bad_bytes[i]);
		assert_int_equal(vdriver_request(v, TX, &out, 1, NULL, 0), 0);
	}
	for (unsigned i = 0; i < 256; i++) {
		out = packet(v, 200, i);
		header = out.iov_base;
		memset(header, 0xff, sizeof(*header));
		header->gso_type = (uint8_t)i;
		assert_int_equal(vdriver_request(v, TX, &out, 1, NULL, 0), 0);
	}
	in = vdriver_buf(v, NULL, 100);
	assert_int_equal(vdriver_request(v, TX, NULL, 0, &in, 1), 0);
	out = packet(v, 600, 9);
	assert_int_equal(vdriver_request(v, TX, &out, 1, NULL, 0), 0);
	assert_int_equal(sniff(f, frame, sizeof(frame), PATIENCE_MS), 600);
	expect_frame(frame, 600, 9);
}

/* An IPv4 TCP frame to be cut into segments later. */
static size_t make_tso(uint8_t *packet, size_t payload)
{
	const struct virtio_net_hdr_v1 header = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.hdr_len = htole16(ETH_HLEN + 40),
		.gso_size = htole16(1400),
		.csum_start = htole16(ETH_HLEN + 20),
		.csum_offset = htole16(16),
	};
	const struct iphdr ip = {
		.version = 4,
		.ihl = 5,
		.tot_len = htons((uint16_t)(40 + payload)),
		.ttl = 64,
		.protocol = IPPROTO_TCP,
		.saddr = htonl(0x0a000001),
		.daddr = htonl(0x0a000002),
	};
	const struct tcphdr tcp = {.doff = 5, .ack = 1};
	uint8_t *frame = packet + HEADER;

	memcpy(packet, &header, HEADER);
	make_frame(frame, ETH_HLEN + 40 + payload, 1);
	frame[12] = ETH_P_IP >> 8;
	frame[13] = ETH_P_IP & 0xff;
	memcpy(frame + ETH_HLEN, &ip, sizeof(ip));
	memcpy(frame + ETH_HLEN + 20, &tcp, sizeof(tcp));
	return HEADER + ETH_HLEN + 40 + payload;
}

static void test_transmit_tso(void **state)
{
	struct fixture *f = *state;
	struct vdriver *v = up(f, "", 1500, ALL);
	uint8_t *data = calloc(1, 70000);
	const size_t bytes = make_tso(data, 60000);
	struct iovec out = vdriver_buf(v, data, bytes);

	util_close(&f->socket);
	f->socket = netns_packet_socket("tap0", ETH_P_IP);
	assert_int_equal(vdriver_request(v, TX, &out, 1, NULL, 0), 0);
	/* Unsegmented: the host will do that if it has to. */
	assert_int_equal(sniff(f, data, 70000, PATIENCE_MS), bytes - HEADER);
	free(data);
}

/* ---- receiving */

static void check_receive(struct fixture *f, uint64_t features)
{
	struct vdriver *v = up(f, "", 1500, features);
	uint8_t *buffer[100];

	for (unsigned i = 0; i < 100; i++)
		buffer[i] = post(v, 2048);
	vdriver_kick(v, RX);
	for (unsigned i = 0; i < 100; i++)
		send_frame(f, 60 + i * 14, i);
	for (unsigned i = 0; i < 100; i++)
		receive(v, buffer[i], 60 + i * 14, i);
	assert_int_equal(vdriver_get_used(v, RX, NULL), -1);
}

static void test_receive(void **state)
{
	check_receive(*state, PLAIN);
}

static void test_receive_mergeable(void **state)
{
	check_receive(*state, MERGEABLE);
}

static void test_receive_all_features(void **state)
{
	check_receive(*state, ALL);
}

/* 5.1.6.3.1: 1526 bytes do for 1514 of frame, exactly. */
static void test_exact_fit(void **state)
{
	struct fixture *f = *state;
	struct vdriver *v = up(f, "", 1500, PLAIN);
	uint8_t *buffer = post(v, 1526);

	vdriver_kick(v, RX);
	send_frame(f, 1514, 1);
	receive(v, buffer, 1514, 1);
}

/* One frame over several buffers, each of several descriptors. */
static void test_merged(void **state)
{
	struct fixture *f = *state;
	struct vdriver *v = up(f, "", 9000, MERGEABLE);
	uint8_t frame[9100], *base[20];
	size_t got = 0;

	for (unsigned i = 0; i < 20; i++) {
		struct iovec in = vdriver_buf(v, NULL, 1000), part[2];

		base[i] = in.iov_base;
		part[0] = (struct iovec){base[i], 11};
		part[1] = (struct iovec){base[i] + 11, 989};
		assert_true(vdriver_add(v, RX, NULL, 0, part, 2) >= 0);
	}
	vdriver_kick(v, RX);
	send_frame(f, 9014, 4);
	for (unsigned i = 0; i < 10; i++) {
		uint32_t written = 0;

		assert_true(vdriver_wait_used(v, RX, &written, PATIENCE_MS) >=
			    0);
		assert_int_equal(written, i < 9 ? 1000 : 26);
		memcpy(frame + got, base[i] + (i ? 0 : HEADER),
		       written - (i ? 0 : HEADER));
		got += written - (i ? 0 : HEADER);
	}
	assert_int_equal(num_buffers(base[0]), 10);
	assert_int_equal(got, 9014);
	expect_frame(frame, 9014, 4);
	assert_int_equal(vdriver_get_used(v, RX, NULL), -1);
}

/* A guest that takes unsegmented frames gets them. */
static void test_receive_tso(void **state)
{
	struct fixture *f = *state;
	struct vdriver *v = up(f, "", 1500, ALL);
	uint8_t *data = calloc(1, 70000), *base[100];
	const size_t bytes = make_tso(data, 60000);
	const int on = 1;
	size_t got = 0;
	unsigned n = 0;

	for (unsigned i = 0; i < 100; i++)
		base[i] = post(v, 1024);
	vdriver_kick(v, RX);
	util_close(&f->socket);
	f->socket = netns_packet_socket("tap0", ETH_P_IP);
	assert_int_equal(setsockopt(f->socket, SOL_PACKET, PACKET_VNET_HDR, &on,
				    sizeof(on)),
			 0);
	/* The socket's header is the old one, two bytes shorter. */
	memmove(data + 2, data, 10);
	assert_int_equal(send(f->socket, data + 2, bytes - 2, 0), bytes - 2);
	while (got < bytes) {
		uint32_t written = 0;

		assert_true(vdriver_wait_used(v, RX, &written, PATIENCE_MS) >=
			    0);
		n++;
		got += written;
	}
	assert_int_equal(got, bytes);
	assert_int_equal(num_buffers(base[0]), n);
	assert_int_equal(base[0][1], VIRTIO_NET_HDR_GSO_TCPV4);
	free(data);
}

/*
 * However many frames wait for the guest's buffers: one kick for all of them,
 * and one interrupt a turn. While there are buffers, no kick is wanted.
 */
static void check_receive_kicks(struct fixture *f, uint64_t features)
{
	static const unsigned frames[] = {1, 60, 150};
	struct vdriver *v = up(f, "", 1500, features);
	uint64_t kicks = 2; /* each queue once, when the driver is there */
	uint8_t *spare;

	for (unsigned i = 0; i < ARRAY_LEN(frames); i++) {
		const unsigned n = frames[i];

		assert_true(wait_until(vdriver_kicks(v) == kicks));
		for (unsigned k = 0; k < n; k++)
			send_frame(f, 500, k);
		(void)vdriver_interrupts(v);
		if (features & BIT(VIRTIO_RING_F_EVENT_IDX))
			vdriver_want_interrupt(v, RX, v->queue[RX].seen);
		for (unsigned k = 0; k < n; k++)
			(void)post(v, 2048);
		assert_true(vdriver_kick(v, RX));
		for (unsigned k = 0; k < n; k++)
			assert_true(vdriver_wait_used(v, RX, NULL,
						      PATIENCE_MS) >= 0);
		/* This takes the lock, so the last turn is over. */
		assert_int_equal(vdriver_kicks(v), ++kicks);
		/* A turn is 64 frames; the tap says that there is more. */
		assert_in_range(vdriver_interrupts(v), 1, (n + 63) / 64);
	}
	spare = post(v, 2048);
	(void)post(v, 2048);
	(void)vdriver_kick(v, RX);
	send_frame(f, 500, 1);
	receive(v, spare, 500, 1);
	(void)post(v, 2048);
	assert_false(vdriver_kick(v, RX));
}

static void test_receive_kicks(void **state)
{
	check_receive_kicks(*state, BIT(VIRTIO_NET_F_MAC));
}

static void test_receive_kicks_event_idx(void **state)
{
	check_receive_kicks(*state, PLAIN);
}

/* Nothing is lost while the guest has no buffers. */
static void test_starvation(void **state)
{
	struct fixture *f = *state;
	struct vdriver *v = up(f, "", 1500, MERGEABLE);

	for (unsigned round = 0; round < 10; round++) {
		for (unsigned i = 0; i < 30; i++)
			send_frame(f, 500, i);
		usleep(round * 100);
		for (unsigned i = 0; i < 30; i++) {
			uint8_t *buffer = post(v, 2000);

			vdriver_kick(v, RX);
			receive(v, buffer, 500, i);
		}
	}
	assert_int_equal(vdriver_get_used(v, RX, NULL), -1);
}

/* Less room than the longest frame needs: what fits comes, the rest waits. */
static void test_little_room(void **state)
{
	struct fixture *f = *state;
	struct vdriver *v = up(f, "", 1500, ALL);
	uint8_t *buffer = post(v, 600), *second;
	uint32_t written;

	vdriver_kick(v, RX);
	send_frame(f, 300, 1);
	receive(v, buffer, 300, 1);
	buffer = post(v, 600);
	vdriver_kick(v, RX);
	send_frame(f, 1100, 2);
	send_frame(f, 80, 3);
	assert_int_equal(vdriver_wait_used(v, RX, NULL, QUIET_MS), -1);
	second = post(v, 600);
	assert_true(vdriver_kick(v, RX));
	assert_true(vdriver_wait_used(v, RX, &written, PATIENCE_MS) >= 0);
	assert_int_equal(written, 600);
	assert_true(vdriver_wait_used(v, RX, &written, PATIENCE_MS) >= 0);
	assert_int_equal(written, 512);
	assert_int_equal(num_buffers(buffer), 2);
	memmove(buffer + 600, second, 512);
	expect_frame(buffer + HEADER, 1100, 2);
	buffer = post(v, 600);
	vdriver_kick(v, RX);
	receive(v, buffer, 80, 3);
}

/* Without MRG_RXBUF what does not fit its buffer is dropped. */
static void test_small_buffers(void **state)
{
	struct fixture *f = *state;
	struct vdriver *v = up(f, "", 1500, PLAIN);
	uint8_t *first = post(v, 600), *second = post(v, 600);

	vdriver_kick(v, RX);
	send_frame(f, 1514, 1);
	send_frame(f, 588, 2);
	send_frame(f, 589, 3);
	send_frame(f, 100, 4);
	receive(v, first, 588, 2);
	receive(v, second, 100, 4);
}

static void test_bad_buffers(void **state)
{
	struct vdriver *v = up(*state, "", 1500, MERGEABLE);
	struct iovec buffer = vdriver_buf(v, NULL, 2000);

	vdriver_add(v, RX, &buffer, 1, NULL, 0);
	vdriver_kick(v, RX);
	assert_true(vdriver_wait_needs_reset(v));
	assert_true(vdriver_up(v, MERGEABLE));
	post(v, 11);
	vdriver_kick(v, RX);
	assert_true(vdriver_wait_needs_reset(v));
	assert_true(vdriver_up(v, MERGEABLE));
	vdriver_avail(v, TX, 1000);
	vdriver_kick(v, TX);
	assert_true(vdriver_wait_needs_reset(v));
}

/* ---- life */

static void test_tap_deleted(void **state)
{
	struct fixture *f = *state;
	struct vdriver *v = up(f, "", 1500, ALL);
	struct virtio_net_config config;
	struct iovec out;

	/* With buffers out: a device that wants no frames need not notice. */
	for (unsigned i = 0; i < 200; i++)
		post(v, 2000);
	vdriver_kick(v, RX);
	usleep(10000);
	netns_delete("tap0");
	assert_true(wait_until(
		(vdriver_config_read(v, 0, &config, 12), config.status == 0)));
	assert_true(vdriver_wait_config_change(v));
	/* The guest may go on as if nothing had happened. */
	out = packet(v, 100, 1);
	assert_int_equal(vdriver_request(v, TX, &out, 1, NULL, 0), 0);
	assert_true(vdriver_up(v, ALL));
	post(v, 2000);
	vdriver_kick(v, RX);
	out = packet(v, 100, 1);
	assert_int_equal(vdriver_request(v, TX, &out, 1, NULL, 0), 0);
}

/* A device that comes, goes and comes again while the driver looks on. */
static void test_spare(void **state)
{
	static const uint8_t mac[] = {2, 0, 0x5e, 0x10, 0, 7};
	struct fixture *f = *state;
	struct virtio_plug plug = {.mac = {2, 0, 0x5e, 0x10, 0, 7}};
	struct virtio_net_config config;
	uint8_t frame[2000], *buffer;
	struct vdriver *v;
	struct iovec out;

	make_tap(f, 1400);
	f->v = v = vdriver_new(&virtio_net, "spare");
	assert_non_null(v);
	assert_int_equal(vdriver_read32(v, VIRTIO_MMIO_MAGIC_VALUE),
			 0x74726976);
	assert_int_equal(vdriver_read32(v, VIRTIO_MMIO_DEVICE_ID), 0);
	/* A driver that takes it for one all the same has no device. */
	assert_false(vdriver_up(v, ALL));
	assert_int_equal(virtio_unplug(v->dev), -ENODEV);
	for (unsigned i = 0; i < 3; i++) {
		plug.fd = tap_open("tap0", &plug.mtu);
		assert_true(plug.fd >= 0);
		assert_int_equal(virtio_plug(v->dev, &plug), 0);
		assert_int_equal(virtio_plug(v->dev, &plug), -EBUSY);
		assert_int_equal(vdriver_read32(v, VIRTIO_MMIO_DEVICE_ID),
				 VIRTIO_ID_NET);
		assert_true(vdriver_up(v, MERGEABLE | BIT(VIRTIO_NET_F_MTU)));
		vdriver_config_read(v, 0, &config, sizeof(config));
		assert_memory_equal(config.mac, mac, sizeof(mac));
		assert_int_equal(le16toh(config.mtu), 1400);
		assert_int_equal(le16toh(config.status), VIRTIO_NET_S_LINK_UP);
		out = packet(v, 600, i);
		assert_int_equal(vdriver_request(v, TX, &out, 1, NULL, 0), 0);
		assert_int_equal(sniff(f, frame, sizeof(frame), PATIENCE_MS),
				 600);
		expect_frame(frame, 600, i);
		buffer = post(v, 2000);
		vdriver_kick(v, RX);
		send_frame(f, 700, i);
		receive(v, buffer, 700, i);

		(void)vdriver_interrupts(v);
		assert_int_equal(virtio_unplug(v->dev), 0);
		assert_true(vdriver_interrupts(v) > 0);
		assert_int_equal(vdriver_read32(v, VIRTIO_MMIO_DEVICE_ID), 0);
		vdriver_config_read(v, 0, &config, sizeof(config));
		assert_int_equal(le16toh(config.status), 0);
		/* The driver sends in vain now, and its place is busy. */
		out = packet(v, 600, i);
		assert_int_equal(vdriver_request(v, TX, &out, 1, NULL, 0), 0);
		assert_int_equal(sniff(f, frame, sizeof(frame), 0), -1);
		assert_int_equal(virtio_plug(v->dev, &plug), -EBUSY);
		/* It lets go, and Linux says that it has seen a device. */
		vdriver_reset(v);
		virtio_lock(v->dev);
		v->dev->status = VIRTIO_CONFIG_S_ACKNOWLEDGE;
		virtio_unlock(v->dev);
	}
}

static void test_reset_while_busy(void **state)
{
	struct fixture *f = *state;
	struct vdriver *v = up(f, "", 1500, ALL);
	uint8_t frame[1000];

	make_frame(frame, sizeof(frame), 0);
	for (unsigned round = 0; round < 100; round++) {
		struct iovec out = packet(v, 1000, round);
		uint8_t *buffer = post(v, 16384);

		for (unsigned i = 0; i < 50; i++) {
			vdriver_add(v, TX, &out, 1, NULL, 0);
			/* Refused when the tap's queue is full. */
			(void)!send(f->socket, frame, sizeof(frame), 0);
		}
		vdriver_kick(v, RX);
		vdriver_kick(v, TX);
		usleep(round % 4 * 50);
		vdriver_write32(v, VIRTIO_MMIO_STATUS, 0);
		memset(buffer, 0, 16384);
		usleep(round % 3 * 50);
		for (unsigned i = 0; i < 16384; i++)
			assert_int_equal(buffer[i], 0);
		assert_true(vdriver_up(v, round % 2 ? ALL : PLAIN));
	}
}

/*
 * Frames come and go on while the device is paused and goes on: the buffers it
 * took ahead go back and are used in their order, and no frame is lost, the one
 * that it holds among them.
 */
static void test_pause(void **state)
{
	struct fixture *f = *state;
	struct vdriver *v = up(f, "", 1500, MERGEABLE);
	uint8_t *buffer[8], frame[2000];

	for (unsigned round = 0; round < 50; round++) {
		struct iovec out = packet(v, 300, round);

		for (unsigned i = 0; i < 8; i++)
			buffer[i] = post(v, 2000);
		vdriver_kick(v, RX);
		send_frame(f, 500, 0);
		receive(v, buffer[0], 500, 0);
		vdriver_pause(v);
		vdriver_add(v, TX, &out, 1, NULL, 0);
		virtio_queue_kick(v->dev, TX);
		for (unsigned i = 1; i < 9; i++)
			send_frame(f, 500, i);
		usleep(round % 4 * 100);
		assert_int_equal(vdriver_get_used(v, RX, NULL), -1);
		assert_int_equal(vdriver_get_used(v, TX, NULL), -1);
		virtio_resume(v->dev);
		for (unsigned i = 1; i < 8; i++)
			receive(v, buffer[i], 500, i);
		assert_true(vdriver_wait_used(v, TX, NULL, PATIENCE_MS) >= 0);
		assert_int_equal(sniff(f, frame, sizeof(frame), PATIENCE_MS),
				 300);
		/* The ninth has no buffer yet. */
		vdriver_pause(v);
		buffer[0] = post(v, 2000);
		virtio_resume(v->dev);
		receive(v, buffer[0], 500, 8);
		assert_true(vdriver_up(v, MERGEABLE));
	}
}

/* A frame longer than the one buffer waits for a second across a pause. */
static void test_pause_holding(void **state)
{
	struct fixture *f = *state;
	struct vdriver *v = up(f, "", 1500, ALL);
	uint8_t *buffer = post(v, 600), *second;
	uint32_t written;

	vdriver_kick(v, RX);
	send_frame(f, 1100, 2);
	assert_int_equal(vdriver_wait_used(v, RX, NULL, QUIET_MS), -1);
	vdriver_pause(v);
	virtio_resume(v->dev);
	vdriver_pause(v);
	second = post(v, 600);
	virtio_resume(v->dev);
	assert_true(vdriver_wait_used(v, RX, &written, PATIENCE_MS) >= 0);
	assert_int_equal(written, 600);
	assert_true(vdriver_wait_used(v, RX, &written, PATIENCE_MS) >= 0);
	assert_int_equal(written, 512);
	memmove(buffer + 600, second, 512);
	expect_frame(buffer + HEADER, 1100, 2);
}

#define FIXTURE_TEST(test)                                                     \
	cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		FIXTURE_TEST(test_config),
		FIXTURE_TEST(test_default_mac),
		FIXTURE_TEST(test_bad_options),
		FIXTURE_TEST(test_transmit),
		FIXTURE_TEST(test_transmit_burst),
		FIXTURE_TEST(test_transmit_garbage),
		FIXTURE_TEST(test_transmit_tso),
		FIXTURE_TEST(test_receive),
		FIXTURE_TEST(test_receive_mergeable),
		FIXTURE_TEST(test_receive_all_features),
		FIXTURE_TEST(test_exact_fit),
		FIXTURE_TEST(test_merged),
		FIXTURE_TEST(test_receive_tso),
		FIXTURE_TEST(test_receive_kicks),
		FIXTURE_TEST(test_receive_kicks_event_idx),
		FIXTURE_TEST(test_starvation),
		FIXTURE_TEST(test_little_room),
		FIXTURE_TEST(test_small_buffers),
		FIXTURE_TEST(test_bad_buffers),
		FIXTURE_TEST(test_tap_deleted),
		FIXTURE_TEST(test_spare),
		FIXTURE_TEST(test_reset_while_busy),
		FIXTURE_TEST(test_pause),
		FIXTURE_TEST(test_pause_holding),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
