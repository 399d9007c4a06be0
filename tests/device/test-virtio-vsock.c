/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket device: this file is the driver in the guest on one side, and the
 * programs of the host on the other.
 */
#include "devices/vsock-conn.h"
#include "tests/tempdir.h"
#include "tests/vdriver.h"
#include "vmm/util.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_vsock.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

extern const struct virtio_ops virtio_vsock;

#define ALL        UINT64_MAX
#define RX         0
#define TX         1
#define HEADER     sizeof(struct virtio_vsock_hdr)
#define CID        7
#define BUFFERS    64
#define BUFFER     4096
#define TIMEOUT_MS 5000
#define QUIET_MS   50

/* Ports of the test's own choice. */
#define GUEST_PORT 52
#define HOST_PORT  1024

struct fixture {
	struct tempdir tmp; /* path: the device's socket */
	struct vdriver *v;
	struct iovec rx[VQ_MAX_SIZE]; /* by head */
	uint32_t guest_buffer;        /* said in each packet */
	uint32_t guest_forwarded;
};

/* ---- the guest ---- */

static void post(struct fixture *f, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct iovec in = vdriver_buf(f->v, NULL, BUFFER);
		const int head = vdriver_add(f->v, RX, NULL, 0, &in, 1);

		assert_true(head >= 0);
		f->rx[head] = in;
	}
	vdriver_kick(f->v, RX);
}

/* A packet from the guest, complete and as the device wants it. */
static struct virtio_vsock_hdr packet(struct fixture *f, uint16_t op,
				      uint32_t guest_port, uint32_t host_port)
{
	return (struct virtio_vsock_hdr){
		.src_cid = CID,
		.dst_cid = 2,
		.src_port = guest_port,
		.dst_port = host_port,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = op,
		.buf_alloc = f->guest_buffer,
		.fwd_cnt = f->guest_forwarded,
	};
}

static void send_packet(struct fixture *f, struct virtio_vsock_hdr header,
			const void *data, uint32_t bytes)
{
	struct iovec out[2];

	header.len = bytes;
	out[0] = vdriver_buf(f->v, &header, HEADER);
	out[1] = vdriver_buf(f->v, data, bytes);
	assert_int_equal(vdriver_request(f->v, TX, out, bytes ? 2 : 1, NULL, 0),
			 0);
}

static void guest(struct fixture *f, uint16_t op, uint32_t guest_port,
		  uint32_t host_port)
{
	send_packet(f, packet(f, op, guest_port, host_port), NULL, 0);
}

static void guest_shuts(struct fixture *f, uint32_t guest_port,
			uint32_t host_port, uint32_t flags)
{
	struct virtio_vsock_hdr h =
		packet(f, VIRTIO_VSOCK_OP_SHUTDOWN, guest_port, host_port);

	h.flags = flags;
	send_packet(f, h, NULL, 0);
}

static void guest_writes(struct fixture *f, uint32_t guest_port,
			 uint32_t host_port, const void *data, uint32_t bytes)
{
	send_packet(f, packet(f, VIRTIO_VSOCK_OP_RW, guest_port, host_port),
		    data, bytes);
}

/* The next packet for the guest; its buffer goes back. False: none comes. */
static bool next_packet(struct fixture *f, struct virtio_vsock_hdr *ret,
			void *data, unsigned timeout_ms)
{
	uint32_t written;
	const int head = vdriver_wait_used(f->v, RX, &written, timeout_ms);
	struct iovec in;

	if (head < 0)
		return false;
	in = f->rx[head];
	memcpy(ret, in.iov_base, HEADER);
	assert_int_equal(written, HEADER + ret->len);
	assert_true(ret->len <= BUFFER - HEADER);
	if (data)
		memcpy(data, (uint8_t *)in.iov_base + HEADER, ret->len);
	assert_int_equal(ret->dst_cid, CID);
	assert_int_equal(vdriver_add(f->v, RX, NULL, 0, &in, 1), head);
	vdriver_kick(f->v, RX);
	return true;
}

/* Besides updates, which the device sends as it likes. */
static struct virtio_vsock_hdr expect(struct fixture *f, uint16_t op)
{
	struct virtio_vsock_hdr h;

	do
		assert_true(next_packet(f, &h, NULL, TIMEOUT_MS));
	while (h.op != op && h.op == VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	assert_int_equal(h.op, op);
	return h;
}

static void expect_nothing(struct fixture *f)
{
	struct virtio_vsock_hdr h;

	while (next_packet(f, &h, NULL, QUIET_MS))
		assert_int_equal(h.op, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
}

/* BYTES of data for the guest, in however many packets. */
static void guest_reads(struct fixture *f, const void *expected, uint32_t bytes)
{
	uint8_t data[BUFFER];

	for (uint32_t at = 0; at < bytes;) {
		struct virtio_vsock_hdr h;

		assert_true(next_packet(f, &h, data, TIMEOUT_MS));
		if (h.op == VIRTIO_VSOCK_OP_CREDIT_UPDATE)
			continue;
		assert_int_equal(h.op, VIRTIO_VSOCK_OP_RW);
		assert_true(h.len > 0 && h.len <= bytes - at);
		assert_memory_equal(data, (const uint8_t *)expected + at,
				    h.len);
		at += h.len;
		f->guest_forwarded += h.len;
	}
}

/* ---- the host ---- */

static int unix_socket(const char *path, bool listens)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const struct timeval tv = {.tv_sec = TIMEOUT_MS / 1000};

	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	if (listens) {
		assert_int_equal(bind(fd, (void *)&un, sizeof(un)), 0);
		assert_int_equal(listen(fd, 1000), 0);
	} else {
		assert_int_equal(connect(fd, (void *)&un, sizeof(un)), 0);
	}
	return fd;
}

static int host_listens(struct fixture *f, uint32_t port)
{
	char path[64];

	snprintf(path, sizeof(path), "%s_%u", f->tmp.path, port);
	return unix_socket(path, true);
}

static void host_writes(int fd, const void *data, size_t bytes)
{
	assert_int_equal(send(fd, data, bytes, MSG_NOSIGNAL), bytes);
}

static int host_says(struct fixture *f, const char *line)
{
	const int fd = unix_socket(f->tmp.path, false);

	host_writes(fd, line, strlen(line));
	return fd;
}

static void host_reads(int fd, const void *expected, size_t bytes)
{
	autofree uint8_t *data = malloc(bytes);

	assert_int_equal(recv(fd, data, bytes, MSG_WAITALL), bytes);
	assert_memory_equal(data, expected, bytes);
}

/* The device closes before anything else comes. */
static void host_at_end(int fd)
{
	char byte;
	const ssize_t n = recv(fd, &byte, 1, 0);

	assert_true(n == 0 || (n < 0 && errno == ECONNRESET));
}

/* A connection the host made. The fd and the host's port. */
static int connect_from_host(struct fixture *f, uint32_t *ret_host_port)
{
	const int fd = host_says(f, "CONNECT 52\n");
	struct virtio_vsock_hdr h;
	char line[32];

	/* Another one may be on its end just now. */
	do
		assert_true(next_packet(f, &h, NULL, TIMEOUT_MS));
	while (h.op != VIRTIO_VSOCK_OP_REQUEST || h.dst_port != GUEST_PORT);
	guest(f, VIRTIO_VSOCK_OP_RESPONSE, GUEST_PORT, h.src_port);
	snprintf(line, sizeof(line), "OK %u\n", h.src_port);
	host_reads(fd, line, strlen(line));
	*ret_host_port = h.src_port;
	return fd;
}

/* A connection the guest made. The host's fd. */
static int connect_from_guest(struct fixture *f, uint32_t guest_port)
{
	const int listener = host_listens(f, HOST_PORT);
	char path[64];
	int fd;

	guest(f, VIRTIO_VSOCK_OP_REQUEST, guest_port, HOST_PORT);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(fd >= 0);
	close(listener);
	snprintf(path, sizeof(path), "%s_%u", f->tmp.path, HOST_PORT);
	unlink(path);
	expect(f, VIRTIO_VSOCK_OP_RESPONSE);
	return fd;
}

/* ---- */

static bool bring_up(struct fixture *f)
{
	f->guest_buffer = 256 * KIB;
	f->guest_forwarded = 0;
	if (!vdriver_up(f->v, ALL))
		return false;
	post(f, BUFFERS);
	return true;
}

static struct vdriver *device(const char *path)
{
	char text[160];

	snprintf(text, sizeof(text), "%s,cid=%u", path, CID);
	return vdriver_new(&virtio_vsock, text);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!tempdir_make(&f->tmp, "v"))
		return -1;
	f->v = device(f->tmp.path);
	*state = f;
	return f->v && bring_up(f) ? 0 : -1;
}

/* A device that left its socket behind fails here, too. */
static int teardown(void **state)
{
	struct fixture *f = *state;
	char path[64];
	bool empty;

	vdriver_free(f->v);
	snprintf(path, sizeof(path), "%s_%u", f->tmp.path, HOST_PORT);
	unlink(path);
	empty = tempdir_remove(&f->tmp);
	free(f);
	return empty ? 0 : -1;
}

static void test_identity(void **state)
{
	struct fixture *f = *state;
	uint64_t cid;

	assert_int_equal(vdriver_read32(f->v, VIRTIO_MMIO_DEVICE_ID),
			 VIRTIO_ID_VSOCK);
	vdriver_config_read(f->v, 0, &cid, sizeof(cid));
	assert_int_equal(cid, CID);
	expect_nothing(f);
}

static void test_host_connects(void **state)
{
	struct fixture *f = *state;
	const int fd = host_says(f, "CONNECT 52\n");
	const struct virtio_vsock_hdr h = expect(f, VIRTIO_VSOCK_OP_REQUEST);
	char line[32];

	assert_int_equal(h.src_cid, 2);
	assert_int_equal(h.dst_port, 52);
	assert_int_equal(h.type, VIRTIO_VSOCK_TYPE_STREAM);
	assert_int_equal(h.buf_alloc, VSOCK_BUFFER);
	assert_int_equal(h.fwd_cnt, 0);
	guest(f, VIRTIO_VSOCK_OP_RESPONSE, 52, h.src_port);
	snprintf(line, sizeof(line), "OK %u\n", h.src_port);
	host_reads(fd, line, strlen(line));

	host_writes(fd, "from the host", 13);
	guest_reads(f, "from the host", 13);
	guest_writes(f, 52, h.src_port, "from the guest", 14);
	host_reads(fd, "from the guest", 14);
	close(fd);
}

/* Two to the same port of the guest are two connections. */
static void test_host_connects_twice(void **state)
{
	struct fixture *f = *state;
	uint32_t one, two;
	const int fd_one = connect_from_host(f, &one);
	const int fd_two = connect_from_host(f, &two);

	assert_int_not_equal(one, two);
	guest_writes(f, GUEST_PORT, two, "two", 3);
	guest_writes(f, GUEST_PORT, one, "one", 3);
	host_reads(fd_one, "one", 3);
	host_reads(fd_two, "two", 3);
	close(fd_one);
	close(fd_two);
}

/* The line may come in pieces, and the first data with it. */
static void test_greeting_in_pieces(void **state)
{
	struct fixture *f = *state;
	const int fd = host_says(f, "CONN");
	struct virtio_vsock_hdr h;

	expect_nothing(f);
	host_writes(fd, "ECT 4294967294", 14);
	expect_nothing(f);
	host_writes(fd, "\nhello", 6);
	h = expect(f, VIRTIO_VSOCK_OP_REQUEST);
	assert_int_equal(h.dst_port, 4294967294);
	guest(f, VIRTIO_VSOCK_OP_RESPONSE, 4294967294, h.src_port);
	guest_reads(f, "hello", 5);
	close(fd);
}

static void test_bad_greeting(void **state)
{
	struct fixture *f = *state;
	const int fd = host_says(f, "GET / HTTP/1.1\n");

	host_at_end(fd);
	close(fd);
	expect_nothing(f);
}

static void test_guest_refuses(void **state)
{
	struct fixture *f = *state;
	const int fd = host_says(f, "CONNECT 52\n");
	const struct virtio_vsock_hdr h = expect(f, VIRTIO_VSOCK_OP_REQUEST);

	guest(f, VIRTIO_VSOCK_OP_RST, 52, h.src_port);
	host_at_end(fd);
	close(fd);
	expect_nothing(f);
}

/* The host's program ends before the guest answers. */
static void test_host_gives_up(void **state)
{
	struct fixture *f = *state;
	const int fd = host_says(f, "CONNECT 52\n");
	const struct virtio_vsock_hdr h = expect(f, VIRTIO_VSOCK_OP_REQUEST);

	close(fd);
	assert_int_equal(expect(f, VIRTIO_VSOCK_OP_RST).src_port, h.src_port);
	/* An answer on the way meets nobody. */
	guest(f, VIRTIO_VSOCK_OP_RESPONSE, 52, h.src_port);
	expect(f, VIRTIO_VSOCK_OP_RST);
}

static void test_guest_connects(void **state)
{
	struct fixture *f = *state;
	const int fd = connect_from_guest(f, 5000);

	guest_writes(f, 5000, HOST_PORT, "hello", 5);
	host_reads(fd, "hello", 5);
	host_writes(fd, "world", 5);
	guest_reads(f, "world", 5);
	close(fd);
}

static void test_nobody_listens(void **state)
{
	struct fixture *f = *state;
	struct virtio_vsock_hdr h;

	guest(f, VIRTIO_VSOCK_OP_REQUEST, 5000, HOST_PORT);
	h = expect(f, VIRTIO_VSOCK_OP_RST);
	assert_int_equal(h.src_port, HOST_PORT);
	assert_int_equal(h.dst_port, 5000);
	assert_int_equal(h.src_cid, 2);
}

/* ---- ends ---- */

static void test_guest_half_closes(void **state)
{
	struct fixture *f = *state;
	uint32_t port;
	const int fd = connect_from_host(f, &port);

	guest_writes(f, GUEST_PORT, port, "last", 4);
	guest_shuts(f, GUEST_PORT, port, VIRTIO_VSOCK_SHUTDOWN_SEND);
	host_reads(fd, "last", 4);
	host_at_end(fd);
	host_writes(fd, "answer", 6);
	guest_reads(f, "answer", 6);
	/* The host is done as well: so is the connection. */
	close(fd);
	assert_int_equal(expect(f, VIRTIO_VSOCK_OP_SHUTDOWN).flags,
			 VSOCK_SHUTDOWN_BOTH);
	guest(f, VIRTIO_VSOCK_OP_RST, GUEST_PORT, port);
	expect_nothing(f);
}

static void test_host_half_closes(void **state)
{
	struct fixture *f = *state;
	uint32_t port;
	const int fd = connect_from_host(f, &port);

	host_writes(fd, "last", 4);
	shutdown(fd, SHUT_WR);
	guest_reads(f, "last", 4);
	assert_int_equal(expect(f, VIRTIO_VSOCK_OP_SHUTDOWN).flags,
			 VIRTIO_VSOCK_SHUTDOWN_SEND);
	guest_writes(f, GUEST_PORT, port, "answer", 6);
	host_reads(fd, "answer", 6);
	/* Both directions end, from the guest's side this time. */
	guest_shuts(f, GUEST_PORT, port, VSOCK_SHUTDOWN_BOTH);
	assert_int_equal(expect(f, VIRTIO_VSOCK_OP_RST).src_port, port);
	host_at_end(fd);
	close(fd);
}

static void test_host_closes(void **state)
{
	struct fixture *f = *state;
	uint32_t port;
	const int fd = connect_from_host(f, &port);

	host_writes(fd, "last", 4);
	close(fd);
	guest_reads(f, "last", 4);
	assert_int_equal(expect(f, VIRTIO_VSOCK_OP_SHUTDOWN).flags,
			 VSOCK_SHUTDOWN_BOTH);
	/* What was on the way is dropped, without a word. */
	guest_writes(f, GUEST_PORT, port, "too late", 8);
	guest_shuts(f, GUEST_PORT, port, VSOCK_SHUTDOWN_BOTH);
	assert_int_equal(expect(f, VIRTIO_VSOCK_OP_RST).src_port, port);
	expect_nothing(f);
}

static void test_guest_stops_reading(void **state)
{
	struct fixture *f = *state;
	uint32_t port;
	const int fd = connect_from_host(f, &port);

	guest_shuts(f, GUEST_PORT, port, VIRTIO_VSOCK_SHUTDOWN_RCV);
	assert_int_equal(send(fd, "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	guest_writes(f, GUEST_PORT, port, "still", 5);
	host_reads(fd, "still", 5);
	close(fd);
	expect(f, VIRTIO_VSOCK_OP_SHUTDOWN);
}

static void test_guest_aborts(void **state)
{
	struct fixture *f = *state;
	uint32_t port;
	const int fd = connect_from_host(f, &port);

	guest(f, VIRTIO_VSOCK_OP_RST, GUEST_PORT, port);
	host_at_end(fd);
	close(fd);
	expect_nothing(f);
}

/* ---- credit ---- */

/* The guest says how much; then it is asked, once. */
static void test_guest_credit(void **state)
{
	struct fixture *f = *state;
	uint32_t port;
	uint8_t data[1000];
	int fd;

	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7);
	f->guest_buffer = 100;
	fd = connect_from_host(f, &port);
	host_writes(fd, data, sizeof(data));
	guest_reads(f, data, 100);
	expect(f, VIRTIO_VSOCK_OP_CREDIT_REQUEST);
	expect_nothing(f);
	f->guest_buffer = 300;
	guest(f, VIRTIO_VSOCK_OP_CREDIT_UPDATE, GUEST_PORT, port);
	guest_reads(f, data + 100, 300);
	expect(f, VIRTIO_VSOCK_OP_CREDIT_REQUEST);
	/* Less than is under way, or counters that cannot be: nothing. */
	f->guest_buffer = 0;
	f->guest_forwarded = 0x80000000;
	guest(f, VIRTIO_VSOCK_OP_CREDIT_UPDATE, GUEST_PORT, port);
	expect_nothing(f);
	f->guest_buffer = 600;
	f->guest_forwarded = 400;
	guest(f, VIRTIO_VSOCK_OP_CREDIT_UPDATE, GUEST_PORT, port);
	guest_reads(f, data + 400, 600);
	close(fd);
}

/* Fills the host's socket, and then what the device holds. Bytes sent. */
static uint32_t fill_up(struct fixture *f, uint32_t port, uint32_t packet_bytes)
{
	uint32_t sent = 0, known = 0;

	for (;;) {
		autofree uint8_t *data = malloc(packet_bytes);
		struct virtio_vsock_hdr h;

		/* Updates come at their own pace: wait for the last. */
		while (sent - known > VSOCK_BUFFER - packet_bytes) {
			guest(f, VIRTIO_VSOCK_OP_CREDIT_REQUEST, GUEST_PORT,
			      port);
			h = expect(f, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
			assert_int_equal(h.buf_alloc, VSOCK_BUFFER);
			if (h.fwd_cnt == known)
				return sent;
			known = h.fwd_cnt;
		}
		for (uint32_t i = 0; i < packet_bytes; i++)
			data[i] = (uint8_t)((sent + i) % 251);
		guest_writes(f, GUEST_PORT, port, data, packet_bytes);
		sent += packet_bytes;
		while (next_packet(f, &h, NULL, 0)) {
			assert_int_equal(h.op, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
			known = h.fwd_cnt;
		}
	}
}

static void host_reads_pattern(int fd, uint32_t bytes)
{
	autofree uint8_t *data = malloc(bytes);

	assert_int_equal(recv(fd, data, bytes, MSG_WAITALL), bytes);
	for (uint32_t i = 0; i < bytes; i++)
		assert_int_equal(data[i], i % 251);
}

static void test_host_is_slow(void **state)
{
	struct fixture *f = *state;
	struct virtio_vsock_hdr h;
	uint32_t port, sent;
	const int fd = connect_from_host(f, &port);

	sent = fill_up(f, port, 1000);
	assert_true(sent > VSOCK_BUFFER);
	host_reads_pattern(fd, sent);
	/* There is credit again, without being asked for. */
	do
		h = expect(f, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	while (sent - h.fwd_cnt > VSOCK_BUFFER / 2);
	guest_writes(f, GUEST_PORT, port, "more", 4);
	host_reads(fd, "more", 4);
	close(fd);
}

/* The guest is gone; what it wrote arrives, and then the end. */
static void test_drains(void **state)
{
	struct fixture *f = *state;
	uint32_t port, sent;
	const int fd = connect_from_host(f, &port);

	sent = fill_up(f, port, 4096);
	guest_shuts(f, GUEST_PORT, port, VSOCK_SHUTDOWN_BOTH);
	expect(f, VIRTIO_VSOCK_OP_RST);
	vdriver_write32(f->v, VIRTIO_MMIO_STATUS, 0);
	host_reads_pattern(fd, sent);
	host_at_end(fd);
	close(fd);
}

/* Half-closed behind what is held. */
static void test_drains_half(void **state)
{
	struct fixture *f = *state;
	uint32_t port, sent;
	const int fd = connect_from_host(f, &port);

	sent = fill_up(f, port, 4096);
	guest_shuts(f, GUEST_PORT, port, VIRTIO_VSOCK_SHUTDOWN_SEND);
	host_reads_pattern(fd, sent);
	host_at_end(fd);
	host_writes(fd, "answer", 6);
	guest_reads(f, "answer", 6);
	close(fd);
}

static void test_more_than_credit(void **state)
{
	struct fixture *f = *state;
	static const uint8_t data[4096];
	uint32_t port;
	const int fd = connect_from_host(f, &port);

	(void)fill_up(f, port, 4096);
	guest_writes(f, GUEST_PORT, port, data, sizeof(data));
	assert_int_equal(expect(f, VIRTIO_VSOCK_OP_RST).src_port, port);
	close(fd);
	expect_nothing(f);
}

/* ---- misuse ---- */

static void test_misuse(void **state)
{
	static const uint16_t ops[] = {
		VIRTIO_VSOCK_OP_INVALID,
		VIRTIO_VSOCK_OP_REQUEST,
		VIRTIO_VSOCK_OP_RESPONSE,
		8,
		0xffff,
	};
	struct fixture *f = *state;

	for (unsigned i = 0; i < ARRAY_LEN(ops); i++) {
		uint32_t port;
		const int fd = connect_from_host(f, &port);

		guest(f, ops[i], GUEST_PORT, port);
		assert_int_equal(expect(f, VIRTIO_VSOCK_OP_RST).src_port, port);
		host_at_end(fd);
		close(fd);
	}
}

static void test_data_after_shutdown(void **state)
{
	struct fixture *f = *state;
	uint32_t port;
	const int fd = connect_from_host(f, &port);

	guest_shuts(f, GUEST_PORT, port, VIRTIO_VSOCK_SHUTDOWN_SEND);
	guest_writes(f, GUEST_PORT, port, "x", 1);
	expect(f, VIRTIO_VSOCK_OP_RST);
	host_at_end(fd);
	close(fd);
}

static void test_data_before_response(void **state)
{
	struct fixture *f = *state;
	const int fd = host_says(f, "CONNECT 52\n");
	const struct virtio_vsock_hdr h = expect(f, VIRTIO_VSOCK_OP_REQUEST);

	guest_writes(f, 52, h.src_port, "x", 1);
	expect(f, VIRTIO_VSOCK_OP_RST);
	host_at_end(fd);
	close(fd);
}

/* 5.10.6.4: other types are refused as what they are. */
static void test_addresses(void **state)
{
	struct fixture *f = *state;
	struct virtio_vsock_hdr h;

	h = packet(f, VIRTIO_VSOCK_OP_REQUEST, 5000, HOST_PORT);
	h.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
	send_packet(f, h, NULL, 0);
	assert_int_equal(expect(f, VIRTIO_VSOCK_OP_RST).type,
			 VIRTIO_VSOCK_TYPE_SEQPACKET);

	h = packet(f, VIRTIO_VSOCK_OP_REQUEST, 5000, HOST_PORT);
	h.dst_cid = 99;
	send_packet(f, h, NULL, 0);
	assert_int_equal(expect(f, VIRTIO_VSOCK_OP_RST).src_cid, 99);

	h = packet(f, VIRTIO_VSOCK_OP_REQUEST, 5000, HOST_PORT);
	h.src_cid = 2;
	send_packet(f, h, NULL, 0);
	guest(f, VIRTIO_VSOCK_OP_RST, 5000, HOST_PORT);
	expect_nothing(f);

	guest(f, VIRTIO_VSOCK_OP_RW, 5000, HOST_PORT);
	expect(f, VIRTIO_VSOCK_OP_RST);
}

/* 5.10.6.1: a guest that does not read its answers is not answered. */
static void test_answers_unread(void **state)
{
	struct fixture *f = *state;
	const unsigned count = 120;
	struct iovec out;
	struct virtio_vsock_hdr h;

	assert_true(vdriver_up(f->v, ALL));
	h = packet(f, VIRTIO_VSOCK_OP_RW, 5000, HOST_PORT);
	out = vdriver_buf(f->v, &h, HEADER);
	for (unsigned i = 0; i < count; i++)
		assert_true(vdriver_add(f->v, TX, &out, 1, NULL, 0) >= 0);
	vdriver_kick(f->v, TX);
	for (unsigned i = 0; i < 64; i++)
		assert_true(vdriver_wait_used(f->v, TX, NULL, TIMEOUT_MS) >= 0);
	assert_int_equal(vdriver_wait_used(f->v, TX, NULL, QUIET_MS), -1);
	post(f, 32);
	for (unsigned i = 0; i < count; i++)
		expect(f, VIRTIO_VSOCK_OP_RST);
	for (unsigned i = 64; i < count; i++)
		assert_true(vdriver_wait_used(f->v, TX, NULL, TIMEOUT_MS) >= 0);
	expect_nothing(f);
}

/* Packets wait for buffers, in order. */
static void test_no_buffers(void **state)
{
	struct fixture *f = *state;
	struct virtio_vsock_hdr h;
	int fd;

	assert_true(vdriver_up(f->v, ALL));
	fd = host_says(f, "CONNECT 52\nhello");
	usleep(QUIET_MS * 1000);
	post(f, 1);
	h = expect(f, VIRTIO_VSOCK_OP_REQUEST);
	guest(f, VIRTIO_VSOCK_OP_RESPONSE, 52, h.src_port);
	guest_reads(f, "hello", 5);
	close(fd);
	expect(f, VIRTIO_VSOCK_OP_SHUTDOWN);
}

static void test_limits(void **state)
{
	struct fixture *f = *state;
	const int listener = host_listens(f, HOST_PORT);
	int fd[VSOCK_CONNS_FROM_GUEST_MAX];
	uint32_t port;
	int one;

	for (unsigned i = 0; i < ARRAY_LEN(fd); i++) {
		guest(f, VIRTIO_VSOCK_OP_REQUEST, 10000 + i, HOST_PORT);
		assert_int_equal(expect(f, VIRTIO_VSOCK_OP_RESPONSE).buf_alloc,
				 i < VSOCK_CONNS_BUFFER ? VSOCK_BUFFER
							: VSOCK_BUFFER_LESS);
		fd[i] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		assert_true(fd[i] >= 0);
	}
	guest(f, VIRTIO_VSOCK_OP_REQUEST, 9999, HOST_PORT);
	expect(f, VIRTIO_VSOCK_OP_RST);
	/* The host still gets through. */
	one = connect_from_host(f, &port);
	close(one);
	expect(f, VIRTIO_VSOCK_OP_SHUTDOWN);
	guest(f, VIRTIO_VSOCK_OP_RST, GUEST_PORT, port);
	/* Each is alive, and each one that ends makes room. */
	for (unsigned i = 0; i < ARRAY_LEN(fd); i++) {
		guest_writes(f, 10000 + i, HOST_PORT, &i, sizeof(i));
		host_reads(fd[i], &i, sizeof(i));
	}
	guest(f, VIRTIO_VSOCK_OP_RST, 10000, HOST_PORT);
	guest(f, VIRTIO_VSOCK_OP_REQUEST, 9999, HOST_PORT);
	expect(f, VIRTIO_VSOCK_OP_RESPONSE);
	for (unsigned i = 0; i < ARRAY_LEN(fd); i++)
		close(fd[i]);
	close(listener);
}

/* Who connects and names no port keeps nobody else out. */
static void test_silent_programs(void **state)
{
	struct fixture *f = *state;
	const int listener = host_listens(f, HOST_PORT);
	int fd[VSOCK_CONNS_MAX];
	struct rlimit limit;
	uint32_t port;
	int one;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	for (unsigned i = 0; i < ARRAY_LEN(fd); i++)
		fd[i] = host_says(f, "CONNECT ");
	/* All places taken: the first one gives way, in a moment. */
	one = connect_from_host(f, &port);
	host_at_end(fd[0]);
	guest(f, VIRTIO_VSOCK_OP_REQUEST, 5000, HOST_PORT);
	expect(f, VIRTIO_VSOCK_OP_RESPONSE);
	/* The others may still speak. */
	host_writes(fd[VSOCK_CONNS_MAX - 1], "77\n", 3);
	assert_int_equal(expect(f, VIRTIO_VSOCK_OP_REQUEST).dst_port, 77);
	for (unsigned i = 0; i < ARRAY_LEN(fd); i++)
		close(fd[i]);
	close(one);
	close(listener);
}

/* Descriptors run out and come back; meanwhile the program waits. */
static void test_no_descriptors(void **state)
{
	struct fixture *f = *state;
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct rlimit limit, none;

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", f->tmp.path);
	getrlimit(RLIMIT_NOFILE, &limit);
	none = limit;
	none.rlim_cur = (rlim_t)fd;
	setrlimit(RLIMIT_NOFILE, &none);
	assert_int_equal(connect(fd, (void *)&un, sizeof(un)), 0);
	host_writes(fd, "CONNECT 52\n", 11);
	expect_nothing(f);
	setrlimit(RLIMIT_NOFILE, &limit);
	expect(f, VIRTIO_VSOCK_OP_REQUEST);
	close(fd);
}

/* ---- malformed ---- */

static void expect_broken(struct fixture *f)
{
	uint32_t port;
	int fd;

	assert_true(vdriver_wait_needs_reset(f->v));
	assert_true(bring_up(f));
	fd = connect_from_host(f, &port);
	close(fd);
}

static void test_malformed(void **state)
{
	struct fixture *f = *state;
	struct virtio_vsock_hdr h = packet(f, VIRTIO_VSOCK_OP_RW, 1, 2);
	struct iovec out;

	out = vdriver_buf(f->v, &h, HEADER - 1);
	vdriver_add(f->v, TX, &out, 1, NULL, 0);
	vdriver_kick(f->v, TX);
	expect_broken(f);

	h.len = 1;
	out = vdriver_buf(f->v, &h, HEADER);
	vdriver_add(f->v, TX, &out, 1, NULL, 0);
	vdriver_kick(f->v, TX);
	expect_broken(f);

	h.len = UINT32_MAX;
	out = vdriver_buf(f->v, NULL, HEADER + 10);
	memcpy(out.iov_base, &h, HEADER);
	vdriver_add(f->v, TX, &out, 1, NULL, 0);
	vdriver_kick(f->v, TX);
	expect_broken(f);
}

static void test_malformed_receive(void **state)
{
	struct fixture *f = *state;
	struct iovec small;
	int fd;

	assert_true(vdriver_up(f->v, ALL));
	small = vdriver_buf(f->v, NULL, HEADER);
	vdriver_add(f->v, RX, NULL, 0, &small, 1);
	vdriver_kick(f->v, RX);
	fd = host_says(f, "CONNECT 52\n");
	expect_broken(f);
	host_at_end(fd);
	close(fd);
}

/* Header and data anyhow cut up, both ways. */
static void test_scattered(void **state)
{
	struct fixture *f = *state;
	struct virtio_vsock_hdr h;
	struct iovec out[3], in[3];
	uint32_t port, written;
	const int fd = connect_from_host(f, &port);
	uint8_t flat[HEADER + 5];

	h = packet(f, VIRTIO_VSOCK_OP_RW, GUEST_PORT, port);
	h.len = 5;
	memcpy(flat, &h, HEADER);
	memcpy(flat + HEADER, "hello", 5);
	out[0] = vdriver_buf(f->v, flat, 10);
	out[1] = vdriver_buf(f->v, flat + 10, HEADER - 8);
	out[2] = vdriver_buf(f->v, flat + HEADER + 2, 3);
	assert_int_equal(vdriver_request(f->v, TX, out, 3, NULL, 0), 0);
	host_reads(fd, "hello", 5);
	close(fd);

	assert_true(vdriver_up(f->v, ALL));
	in[0] = vdriver_buf(f->v, NULL, 1);
	in[1] = vdriver_buf(f->v, NULL, HEADER);
	in[2] = vdriver_buf(f->v, NULL, 100);
	vdriver_add(f->v, RX, NULL, 0, in, 3);
	vdriver_kick(f->v, RX);
	close(host_says(f, "CONNECT 77\n"));
	/* Given up at once: it may be that the guest never hears of it. */
	if (vdriver_wait_used(f->v, RX, &written, QUIET_MS) >= 0)
		assert_int_equal(written, HEADER);
}

static void test_reset(void **state)
{
	struct fixture *f = *state;
	uint32_t port;
	const int one = connect_from_host(f, &port);
	const int two = connect_from_guest(f, 5000);

	vdriver_write32(f->v, VIRTIO_MMIO_STATUS, 0);
	host_at_end(one);
	host_at_end(two);
	close(one);
	close(two);
	assert_true(bring_up(f));
	close(connect_from_host(f, &port));
}

/* What a guest sent before it reset the device counts. */
static void test_reset_after_sending(void **state)
{
	struct fixture *f = *state;
	struct virtio_vsock_hdr h;
	struct iovec out[2];
	uint32_t port;
	const int fd = connect_from_host(f, &port);

	h = packet(f, VIRTIO_VSOCK_OP_RW, GUEST_PORT, port);
	h.len = 4;
	out[0] = vdriver_buf(f->v, &h, HEADER);
	out[1] = vdriver_buf(f->v, "last", 4);
	assert_true(vdriver_add(f->v, TX, out, 2, NULL, 0) >= 0);
	vdriver_write32(f->v, VIRTIO_MMIO_STATUS, 0);
	host_reads(fd, "last", 4);
	host_at_end(fd);
	close(fd);
}

struct late_reader {
	int fd;
	uint32_t bytes;
	bool all; /* came, and the end after it */
};

static void *read_late(void *arg)
{
	struct late_reader *r = arg;
	autofree uint8_t *data = malloc(r->bytes);
	char more;

	usleep(200000);
	r->all = recv(r->fd, data, r->bytes, MSG_WAITALL) == r->bytes &&
		 data[r->bytes - 1] == (r->bytes - 1) % 251 &&
		 recv(r->fd, &more, 1, 0) == 0;
	return NULL;
}

/* The VM ends; what is held still arrives. */
static void test_end_while_held(void **state)
{
	struct fixture *f = *state;
	struct late_reader reader = {.all = false};
	uint32_t port;
	pthread_t thread;

	reader.fd = connect_from_host(f, &port);
	reader.bytes = fill_up(f, port, 4096);
	assert_int_equal(pthread_create(&thread, NULL, read_late, &reader), 0);
	vdriver_free(f->v);
	f->v = NULL;
	pthread_join(thread, NULL);
	assert_true(reader.all);
	close(reader.fd);
}

/* ... unless nobody reads: there is no waiting for ever. */
static void test_end_unread(void **state)
{
	struct fixture *f = *state;
	uint32_t port;
	const int fd = connect_from_host(f, &port);
	uint64_t begin;

	(void)fill_up(f, port, 4096);
	begin = util_now_ns();
	vdriver_free(f->v);
	f->v = NULL;
	assert_true(util_now_ns() - begin < UINT64_C(4000000000));
	close(fd);
}

/* Resets while data flows; run under ThreadSanitizer, too. */
static void test_reset_while_busy(void **state)
{
	struct fixture *f = *state;

	for (unsigned round = 0; round < 100; round++) {
		static uint8_t data[20000];
		uint32_t port;
		const int fd = connect_from_host(f, &port);
		const int other = host_says(f, "CONNECT 53\n");

		(void)!send(fd, data, sizeof(data),
			    MSG_NOSIGNAL | MSG_DONTWAIT);
		if (round % 3 == 0)
			close(other);
		vdriver_write32(f->v, VIRTIO_MMIO_STATUS, 0);
		if (round % 3)
			close(other);
		close(fd);
		assert_true(bring_up(f));
	}
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_identity),
		TEST(test_host_connects),
		TEST(test_host_connects_twice),
		TEST(test_greeting_in_pieces),
		TEST(test_bad_greeting),
		TEST(test_guest_refuses),
		TEST(test_host_gives_up),
		TEST(test_guest_connects),
		TEST(test_nobody_listens),
		TEST(test_guest_half_closes),
		TEST(test_host_half_closes),
		TEST(test_host_closes),
		TEST(test_guest_stops_reading),
		TEST(test_guest_aborts),
		TEST(test_guest_credit),
		TEST(test_host_is_slow),
		TEST(test_drains),
		TEST(test_drains_half),
		TEST(test_more_than_credit),
		TEST(test_misuse),
		TEST(test_data_after_shutdown),
		TEST(test_data_before_response),
		TEST(test_addresses),
		TEST(test_answers_unread),
		TEST(test_no_buffers),
		TEST(test_limits),
		TEST(test_silent_programs),
		TEST(test_no_descriptors),
		TEST(test_malformed),
		TEST(test_malformed_receive),
		TEST(test_scattered),
		TEST(test_reset),
		TEST(test_reset_after_sending),
		TEST(test_end_while_held),
		TEST(test_end_unread),
		TEST(test_reset_while_busy),
	};

	log_setup(LOG_ERROR, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
