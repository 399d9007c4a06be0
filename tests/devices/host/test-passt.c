/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network `user`: this program is the guest's driver, and under the name of
 * passt its own peer, which does what the first byte of a frame's payload says.
 */
#include "devices/host/net.h"

#include "devices/host/passt.h"
#include "tests/tempdir.h"
#include "tests/vdriver.h"
#include "vmm/base/util.h"

#include <endian.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

extern const struct virtio_ops virtio_net;

#define ALL      UINT64_MAX
#define BIT(n)   (UINT64_C(1) << (n))
#define RX       0
#define TX       1
#define HEADER   sizeof(struct virtio_net_hdr_v1)
#define LONGEST  (PASST_MTU_MAX + ETH_HLEN)
#define MODE_VAR "BULKHEAD_TEST_PASST"

/* ---- the peer */

enum command {
	ECHO = 1,
	ECHO_BY_BYTES,
	ARGUMENTS, /* one frame of the command line, a line each */
	BURST,     /* as many frames of 300 bytes as the next byte times 10 */
	SLEEP,     /* does not read for a while */
	COUNT,     /* adds the frame's bytes to a sum */
	SUM,       /* one frame of that sum */
	WHO,       /* the first frame that came, before all commands */
	NONSENSE,  /* the length in the next four bytes, which no frame has */
	QUIT,
};

static void peer_write(const void *data, size_t bytes)
{
	if (util_write_all(3, data, bytes) < 0)
		_exit(0);
}

static void peer_send(const uint8_t *frame, size_t bytes, bool by_bytes)
{
	static uint8_t out[4 + NET_FRAME_MAX];
	const uint32_t length = htobe32((uint32_t)bytes);

	memcpy(out, &length, 4);
	memcpy(out + 4, frame, bytes);
	bytes += 4;
	for (size_t at = 0; at < bytes; at += by_bytes ? 1 : bytes) {
		peer_write(out + at, by_bytes ? 1 : bytes);
		if (by_bytes && at % 50 == 0)
			usleep(100);
	}
}

static void peer_read(void *data, size_t bytes)
{
	for (size_t at = 0; at < bytes;) {
		ssize_t n = read(3, (char *)data + at, bytes - at);

		if (n <= 0)
			_exit(0);
		at += (size_t)n;
	}
}

static void peer_arguments(char **argv, uint8_t *frame)
{
	size_t n = ETH_HLEN;

	for (; *argv; argv++)
		n += (size_t)sprintf((char *)frame + n, "%s\n", *argv);
	peer_send(frame, n, false);
}

static void peer_serve(char **argv)
{
	static uint8_t frame[NET_FRAME_MAX], first[NET_FRAME_MAX];
	uint64_t sum = 0;
	uint32_t bytes, first_bytes = 0;

	for (;;) {
		peer_read(&bytes, 4);
		bytes = be32toh(bytes);
		if (bytes < ETH_HLEN || bytes > LONGEST)
			_exit(1);
		peer_read(frame, bytes);
		if (!first_bytes) {
			first_bytes = bytes;
			memcpy(first, frame, bytes);
			continue;
		}
		switch (frame[ETH_HLEN]) {
		case WHO:
			peer_send(first, first_bytes, false);
			break;
		case ECHO:
		case ECHO_BY_BYTES:
			peer_send(frame, bytes,
				  frame[ETH_HLEN] == ECHO_BY_BYTES);
			break;
		case ARGUMENTS:
			peer_arguments(argv, frame);
			break;
		case BURST:
			for (unsigned i = frame[ETH_HLEN + 1] * 10; i; i--) {
				frame[ETH_HLEN + 1] = (uint8_t)i;
				peer_send(frame, 300, false);
			}
			break;
		case SLEEP:
			usleep(200000);
			break;
		case COUNT:
			for (uint32_t i = 0; i < bytes; i++)
				sum = sum * 31 + frame[i];
			break;
		case SUM:
			memcpy(frame + ETH_HLEN, &sum, sizeof(sum));
			peer_send(frame, ETH_HLEN + sizeof(sum), false);
			break;
		case NONSENSE:
			peer_write(frame + ETH_HLEN + 1, 4);
			peer_write("hello", 5);
			break;
		default:
			_exit(0);
		}
	}
}

/* Like passt: a process in the background, once everything is ready. */
static int peer_main(char **argv)
{
	const char *mode = getenv(MODE_VAR);
	sigset_t blocked;

	sigprocmask(SIG_BLOCK, NULL, &blocked);
	if (mode && strcmp(mode, "fail") == 0) {
		fprintf(stderr, "a warning\nno such luck\n");
		return 1;
	}
	if (sigismember(&blocked, SIGTERM)) {
		fprintf(stderr, "SIGTERM is blocked\n");
		return 1;
	}
	if (fork() == 0)
		peer_serve(argv);
	return 0;
}

/* ---- the driver */

struct fixture {
	struct vdriver *v;
	struct tempdir tmp; /* path: what takes passt's place */
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char self[512] = "";
	sigset_t set;

	assert_true(tempdir_make(&f->tmp, "passt"));
	assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	assert_int_equal(symlink(self, f->tmp.path), 0);
	setenv("PATH", f->tmp.dir, 1);
	unsetenv(MODE_VAR);
	/* As the monitor does: a peer that is gone is an error, not a death. */
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	bool empty;

	vdriver_free(f->v);
	unlink(f->tmp.path);
	empty = tempdir_remove(&f->tmp);
	free(f);
	return empty ? 0 : -1;
}

static struct vdriver *up(struct fixture *f, const char *options)
{
	f->v = vdriver_new(&virtio_net, options);
	assert_non_null(f->v);
	assert_true(vdriver_up(f->v, ALL));
	return f->v;
}

static struct iovec packet(struct vdriver *v, size_t bytes, enum command c)
{
	struct iovec out = vdriver_buf(v, NULL, HEADER + bytes);
	uint8_t *frame = (uint8_t *)out.iov_base + HEADER;

	for (size_t i = 0; i < bytes; i++)
		frame[i] = (uint8_t)(i + i / 256 + bytes);
	if (bytes > ETH_HLEN)
		frame[ETH_HLEN] = (uint8_t)c;
	return out;
}

static void request(struct vdriver *v, struct iovec out)
{
	assert_int_equal(vdriver_request(v, TX, &out, 1, NULL, 0), 0);
}

static uint8_t *post(struct vdriver *v, size_t bytes)
{
	struct iovec in = vdriver_buf(v, NULL, bytes);

	memset(in.iov_base, 0xee, bytes);
	assert_true(vdriver_add(v, RX, NULL, 0, &in, 1) >= 0);
	return in.iov_base;
}

/* A frame's length, once it has come into the BUFFER posted last. */
static size_t receive(struct vdriver *v, const uint8_t *buffer)
{
	struct virtio_net_hdr_v1 header, plain = {.num_buffers = htole16(1)};
	uint32_t written = 0;

	if (v->features & BIT(VIRTIO_NET_F_GUEST_CSUM))
		plain.flags = VIRTIO_NET_HDR_F_DATA_VALID;
	assert_true(vdriver_wait_used(v, RX, &written, PATIENCE_MS) >= 0);
	assert_true(written >= HEADER + ETH_HLEN);
	memcpy(&header, buffer, HEADER);
	assert_memory_equal(&header, &plain, HEADER);
	return written - HEADER;
}

static void check_echo(struct vdriver *v, size_t bytes, enum command c)
{
	uint8_t *buffer = post(v, HEADER + NET_FRAME_MAX);
	struct iovec out = packet(v, bytes, c);

	vdriver_kick(v, RX);
	request(v, out);
	assert_int_equal(receive(v, buffer), bytes);
	assert_memory_equal(buffer + HEADER, (char *)out.iov_base + HEADER,
			    bytes);
}

/* ---- starting */

static void test_arguments(void **state)
{
	static const char *const wanted[] = {
		"passt\n",
		"\n--fd\n3\n",
		"\n--address\n10.0.2.15\n--netmask\n24\n",
		"\n--gateway\n10.0.2.2\n",
		"\n--dns-forward\n10.0.2.3\n",
		"\n--mtu\n9000\n",
		"\n--no-map-gw\n",
		"\n-t\n127.0.0.1/8080:80\n",
		"\n-u\nnone\n",
	};
	struct vdriver *v =
		up(*state, "user,mtu=9000,publish=127.0.0.1:8080:80");
	uint8_t *buffer = post(v, HEADER + NET_FRAME_MAX);
	struct virtio_net_config config;
	size_t bytes;

	vdriver_kick(v, RX);
	request(v, packet(v, 100, ARGUMENTS));
	bytes = receive(v, buffer);
	buffer[HEADER + bytes] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
		assert_non_null(
			strstr((char *)buffer + HEADER + ETH_HLEN, wanted[i]));
	vdriver_config_read(v, 0, &config, 12);
	assert_int_equal(le16toh(config.mtu), 9000);
	assert_int_equal(le16toh(config.status), VIRTIO_NET_S_LINK_UP);
}

static void test_loopback(void **state)
{
	struct vdriver *v =
		up(*state, "user,loopback,publish=53-63:153-163/udp");
	uint8_t *buffer = post(v, HEADER + NET_FRAME_MAX);
	size_t bytes;

	vdriver_kick(v, RX);
	request(v, packet(v, 100, ARGUMENTS));
	bytes = receive(v, buffer);
	buffer[HEADER + bytes] = '\0';
	buffer += HEADER + ETH_HLEN;
	assert_null(strstr((char *)buffer, "map-gw"));
	assert_non_null(strstr((char *)buffer, "\n-u\n53-63:153-163\n"));
	assert_non_null(strstr((char *)buffer, "\n-t\nnone\n"));
}

/* passt takes no frames to be segmented, so the guest must not make them. */
static void test_features(void **state)
{
	const uint64_t offered = vdriver_offered(up(*state, "user"));
	struct fixture *f = *state;
	struct virtio_net_config config;

	for (unsigned bit = 0; bit < 24; bit++) {
		const uint64_t known =
			BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM) |
			BIT(VIRTIO_NET_F_MTU) | BIT(VIRTIO_NET_F_MAC) |
			BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_STATUS);

		assert_int_equal(offered >> bit & 1, known >> bit & 1);
	}
	vdriver_config_read(f->v, 0, &config, 12);
	assert_int_equal(le16toh(config.mtu), PASST_MTU_MAX);
}

/*
 * The device announces the guest's address before the guest sends anything, as
 * passt must know it for connections from outside.
 */
static void test_announced(void **state)
{
	static const uint8_t wanted[] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 3, 4, 5, 6, 7, 8, 6,
		/* Ethernet, IPv4, request; sender, nobody, the same again */
		0, 1, 8, 0, 6, 4, 0, 1, 2, 3, 4, 5, 6, 7, 10, 0, 2, 15, 0, 0, 0,
		0, 0, 0, 10, 0, 2, 15};
	struct vdriver *v = up(*state, "user,mac=02:03:04:05:06:07");
	uint8_t *buffer = post(v, HEADER + NET_FRAME_MAX);

	vdriver_kick(v, RX);
	request(v, packet(v, 100, WHO));
	assert_int_equal(receive(v, buffer), sizeof(wanted));
	assert_memory_equal(buffer + HEADER, wanted, sizeof(wanted));
}

static void test_failures(void **state)
{
	(void)state;
	setenv(MODE_VAR, "fail", 1);
	assert_null(vdriver_new(&virtio_net, "user"));
	unsetenv(MODE_VAR);
	setenv("PATH", "/nonexistent::/proc", 1);
	assert_null(vdriver_new(&virtio_net, "user"));
	assert_null(net_find_passt());
}

/* ---- frames */

static void test_echo(void **state)
{
	static const size_t bytes[] = {15,   60,    64,    1514,   4096,
				       9014, 32768, 65000, LONGEST};
	struct vdriver *v = up(*state, "user");

	for (size_t i = 0; i < ARRAY_LEN(bytes); i++)
		check_echo(v, bytes[i], ECHO);
	check_echo(v, 700, ECHO_BY_BYTES);
	check_echo(v, LONGEST, ECHO);
}

/* As it stands in RFC 1071, 4.1: two bytes at a time. */
static uint16_t slow_sum(const uint8_t *p, size_t bytes)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < bytes; i++)
		sum += (uint32_t)p[i] << (i % 2 ? 0 : 8);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* Sends OUT in three pieces, cut at two places, and gets it back. */
static void check_sum(struct vdriver *v, struct iovec out, size_t start,
		      size_t offset, size_t cut)
{
	struct virtio_net_hdr_v1 header = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.csum_start = htole16((uint16_t)start),
		.csum_offset = htole16((uint16_t)offset),
	};
	uint8_t *buffer = post(v, HEADER + NET_FRAME_MAX), *base = out.iov_base;
	const size_t bytes = out.iov_len - HEADER;
	const struct iovec part[] = {
		{base, cut},
		{base + cut, 5},
		{base + cut + 5, out.iov_len - cut - 5},
	};
	uint8_t *wanted = malloc(bytes);
	uint16_t sum = slow_sum(base + HEADER + start, bytes - start);

	memcpy(base, &header, HEADER);
	memcpy(wanted, base + HEADER, bytes);
	sum = htobe16(sum ? sum : 0xffff);
	memcpy(wanted + start + offset, &sum, sizeof(sum));
	vdriver_kick(v, RX);
	assert_int_equal(vdriver_request(v, TX, part, 3, NULL, 0), 0);
	assert_int_equal(receive(v, buffer), bytes);
	assert_memory_equal(buffer + HEADER, wanted, bytes);
	free(wanted);
}

/* passt gets whole sums where the guest leaves them to be computed. */
static void test_checksum(void **state)
{
	struct vdriver *v = up(*state, "user");
	struct iovec out;

	for (size_t cut = 1; cut < 60; cut++)
		check_sum(v, packet(v, 61 + cut % 2, ECHO), 34, 16, cut);
	check_sum(v, packet(v, LONGEST, ECHO), 34, 16, 700);
	check_sum(v, packet(v, LONGEST, ECHO), 35, 6, 50);
	check_sum(v, packet(v, 100, ECHO), 14, 84, 96);
	/* A sum of 0 is written as the other zero. */
	out = packet(v, 60, ECHO);
	memset((char *)out.iov_base + HEADER + 34, 0xff, 26);
	check_sum(v, out, 34, 16, 20);
	/* A driver that checks sums itself is told nothing of them. */
	assert_true(vdriver_up(v, ALL & ~BIT(VIRTIO_NET_F_GUEST_CSUM)));
	check_echo(v, 100, ECHO);
}

/* Each field of a header may be anything: the frame is lost, no more. */
static void test_bad_headers(void **state)
{
	static const struct {
		uint8_t flags, gso_type;
		uint16_t start, offset;
	} bad[] = {
		{1, 0, 0, 0},      {1, 0, 13, 6},     {1, 0, 99, 0},
		{1, 0, 98, 1},     {1, 0, 100, 0},    {1, 0, 65535, 65535},
		{1, 0, 34, 65535}, {1, 0, 65535, 16}, {1, 0, 14, 85},
		{0, 1, 0, 0},      {1, 1, 34, 16},    {0, 255, 0, 0},
	};
	struct vdriver *v = up(*state, "user");

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		const struct virtio_net_hdr_v1 header = {
			.flags = bad[i].flags,
			.gso_type = bad[i].gso_type,
			.csum_start = htole16(bad[i].start),
			.csum_offset = htole16(bad[i].offset),
		};
		struct iovec out = packet(v, 100, QUIT);

		memcpy(out.iov_base, &header, HEADER);
		request(v, out);
	}
	check_echo(v, 1514, ECHO);
}

/* Many frames come in one read: none waits for the next one. */
static void test_burst(void **state)
{
	struct vdriver *v = up(*state, "user");
	struct iovec out = packet(v, 300, BURST);
	unsigned left = 1000;

	((uint8_t *)out.iov_base)[HEADER + ETH_HLEN + 1] = 100;
	request(v, out);
	usleep(20000);
	while (left > 0) {
		uint8_t *buffer[100];

		for (unsigned i = 0; i < 100; i++)
			buffer[i] = post(v, 2000);
		vdriver_kick(v, RX);
		for (unsigned i = 0; i < 100; i++, left--) {
			assert_int_equal(receive(v, buffer[i]), 300);
			assert_int_equal(buffer[i][HEADER + ETH_HLEN + 1],
					 left & 0xff);
		}
	}
	usleep(1000);
	assert_int_equal(vdriver_get_used(v, RX, NULL), -1);
	check_echo(v, 100, ECHO);
}

/* The socket fills up in the middle of a frame. */
static void test_slow_peer(void **state)
{
	struct vdriver *v = up(*state, "user");
	const struct iovec last = packet(v, 100, SUM);
	uint8_t *buffer = post(v, 2000);
	uint64_t sum = 0, got;

	vdriver_kick(v, RX);
	request(v, packet(v, 100, SLEEP));
	for (unsigned i = 0; i < 200; i++) {
		const size_t bytes = 40000 + i * 100;
		struct iovec out = packet(v, bytes, COUNT);
		const uint8_t *frame = (uint8_t *)out.iov_base + HEADER;

		for (size_t k = 0; k < bytes; k++)
			sum = sum * 31 + frame[k];
		assert_true(vdriver_add(v, TX, &out, 1, NULL, 0) >= 0);
	}
	assert_true(vdriver_add(v, TX, &last, 1, NULL, 0) >= 0);
	vdriver_kick(v, TX);
	for (unsigned i = 0; i < 201; i++)
		assert_true(vdriver_wait_used(v, TX, NULL, PATIENCE_MS) >= 0);
	assert_int_equal(receive(v, buffer), ETH_HLEN + sizeof(got));
	memcpy(&got, buffer + HEADER + ETH_HLEN, sizeof(got));
	assert_int_equal(got, sum);
}

/* Dropped, given back, and no harm to the next one. */
static void test_bad_frames(void **state)
{
	static const size_t bytes[] = {0, 1, 13, LONGEST + 1, 70000};
	struct vdriver *v = up(*state, "user");
	struct iovec in = vdriver_buf(v, NULL, 100);

	for (size_t i = 0; i < ARRAY_LEN(bytes); i++)
		request(v, packet(v, bytes[i], QUIT));
	request(v, vdriver_buf(v, NULL, 1));
	assert_int_equal(vdriver_request(v, TX, NULL, 0, &in, 1), 0);
	check_echo(v, 1514, ECHO);
}

/* Buffers too small for the frame: it is dropped, or spread over several. */
static void test_small_buffers(void **state)
{
	struct vdriver *v = up(*state, "user");
	uint32_t written, got = 0;
	uint8_t *buffer;
	unsigned n = 0;

	for (unsigned i = 0; i < 100; i++)
		post(v, 1000);
	vdriver_kick(v, RX);
	request(v, packet(v, 50000, ECHO));
	while (got < HEADER + 50000) {
		assert_true(vdriver_wait_used(v, RX, &written, PATIENCE_MS) >=
			    0);
		got += written;
		n++;
	}
	assert_int_equal(got, HEADER + 50000);
	assert_int_equal(n, 51);
	assert_true(vdriver_up(v, ALL & ~BIT(VIRTIO_NET_F_MRG_RXBUF)));
	buffer = post(v, 1000);
	vdriver_kick(v, RX);
	request(v, packet(v, 50000, ECHO));
	request(v, packet(v, 500, ECHO));
	assert_int_equal(receive(v, buffer), 500);
}

/* ---- life */

static void expect_link_down(struct vdriver *v)
{
	struct virtio_net_config config = {.status = 1};

	assert_true(wait_until(
		(vdriver_config_read(v, 0, &config, 12), config.status == 0)));
	assert_true(vdriver_wait_config_change(v));
	/* The guest may go on as if nothing had happened. */
	request(v, packet(v, 100, ECHO));
	assert_true(vdriver_up(v, ALL));
	post(v, 2000);
	vdriver_kick(v, RX);
	request(v, packet(v, 100, ECHO));
}

static void test_peer_ends(void **state)
{
	struct vdriver *v = up(*state, "user");

	check_echo(v, 100, ECHO);
	request(v, packet(v, 100, QUIT));
	expect_link_down(v);
}

static void test_nonsense(void **state)
{
	static const uint32_t lengths[] = {
		0, 5, ETH_HLEN - 1, NET_FRAME_MAX + 1, INT32_MAX, UINT32_MAX,
	};
	struct fixture *f = *state;

	for (unsigned i = 0; i < ARRAY_LEN(lengths); i++) {
		struct vdriver *v = up(f, "user");
		struct iovec out = packet(v, 100, NONSENSE);
		const uint32_t length = htobe32(lengths[i]);

		memcpy((uint8_t *)out.iov_base + HEADER + ETH_HLEN + 1, &length,
		       sizeof(length));
		post(v, 2000);
		vdriver_kick(v, RX);
		request(v, out);
		expect_link_down(v);
		vdriver_free(v);
		f->v = NULL;
	}
}

/* A frame that was begun is ended: the next driver finds the stream whole. */
static void test_reset_while_busy(void **state)
{
	struct vdriver *v = up(*state, "user");

	for (unsigned round = 0; round < 30; round++) {
		struct iovec out = packet(v, 60000, COUNT);

		if (round % 10 == 0)
			request(v, packet(v, 100, SLEEP));
		for (unsigned i = 0; i < 20; i++)
			vdriver_add(v, TX, &out, 1, NULL, 0);
		vdriver_kick(v, TX);
		usleep(round % 4 * 100);
		assert_true(vdriver_up(v, ALL));
	}
	check_echo(v, 60000, ECHO);
}

/* ---- the configuration */

static void test_publish(void **state)
{
	static const char *const bad[] = {
		"",          "80",          ":80",         "80:",
		"0:80",      "80:0",        "65536:80",    "80:80/sctp",
		"80-90:80",  "90-80:90-80", "80-90:80-91", "80:80/",
		"x:80",      "80:80 ",      "1.2.3:80:80", "::1:80:80",
		"[::1]:1:1", "-1:80",       "80-90-95:1",  "1.2.3.4:80",
		"80:80:80",  "999999:1",    "+80:80",      "080000:80",
	};
	struct net_publish p;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(net_parse_publish(bad[i], &p), -EINVAL);
	assert_int_equal(net_parse_publish("8080:80", &p), 7);
	assert_string_equal(p.address, "");
	assert_int_equal(p.host, 8080);
	assert_int_equal(p.host_last, 8080);
	assert_int_equal(p.guest, 80);
	assert_false(p.udp);
	assert_int_equal(
		net_parse_publish("127.0.0.1:5-7:65533-65535/udp,x:", &p), 29);
	assert_string_equal(p.address, "127.0.0.1");
	assert_int_equal(p.host, 5);
	assert_int_equal(p.host_last, 7);
	assert_int_equal(p.guest, 65533);
	assert_true(p.udp);
	assert_int_equal(net_parse_publish("1:65535/tcp", &p), 11);
	assert_false(p.udp);
}

static int check_text(const char *text)
{
	struct config cfg;
	int r;

	config_init(&cfg);
	r = config_add_device(&cfg, &virtio_net.type, text);
	if (r == 0)
		r = net_check(&cfg.device[0]);
	config_done(&cfg);
	return r;
}

static void test_check(void **state)
{
	static const char *const good[] = {
		"tap0",
		"tap=user",
		"user",
		"user=false,tap=x",
		"user,publish=1:2",
		"user,publish=1:2,publish=3:4/udp",
		"user,publish=1:2,,3:4",
		"user,loopback,mtu=65520",
		"tap0,mtu=65535",
	};
	static const char *const bad[] = {
		"",
		"mtu=1500",
		"tap0,user",
		"user=false",
		"tap0,publish=1:2",
		"tap0,loopback",
		"user,publish=1:2,,",
		"user,publish=1:2,publish=x",
		"user,mtu=65521",
		"user,user",
	};
	char many[1000] = "user,publish=1:1";

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_int_equal(check_text(good[i]), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(check_text(bad[i]), -EINVAL);
	for (unsigned i = 1; i < PASST_PUBLISH_MAX; i++)
		strcat(many, ",,1:1");
	assert_int_equal(check_text(many), 0);
	strcat(many, ",,1:1");
	assert_int_equal(check_text(many), -EINVAL);
}

#define FIXTURE_TEST(test)                                                     \
	cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		FIXTURE_TEST(test_arguments),
		FIXTURE_TEST(test_loopback),
		FIXTURE_TEST(test_features),
		FIXTURE_TEST(test_announced),
		FIXTURE_TEST(test_failures),
		FIXTURE_TEST(test_echo),
		FIXTURE_TEST(test_checksum),
		FIXTURE_TEST(test_bad_headers),
		FIXTURE_TEST(test_burst),
		FIXTURE_TEST(test_slow_peer),
		FIXTURE_TEST(test_bad_frames),
		FIXTURE_TEST(test_small_buffers),
		FIXTURE_TEST(test_peer_ends),
		FIXTURE_TEST(test_nonsense),
		FIXTURE_TEST(test_reset_while_busy),
		cmocka_unit_test(test_publish),
		cmocka_unit_test(test_check),
	};

	if (argc > 0 && strcmp(argv[0], "passt") == 0)
		return peer_main(argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
