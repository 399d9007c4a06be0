/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket device: this file is the driver in the guest on one side, and the
 * programs of the host on the other.
 */
#include "tests/vsock.h"

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
	/* The guest's answer finds no connection any more. */
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

/* Made before the guest runs: one connection, to one port, once. */
static void test_connects_ahead(void **state)
{
	struct fixture *f = *state;
	const int listener = host_listens(f, HOST_PORT);
	const int other = host_listens(f, HOST_PORT + 1);
	char path[128], text[160];
	uint32_t port;
	int ahead;

	vdriver_free(f->v);
	snprintf(text, sizeof(text), "%s,cid=%u,connect=%u", f->tmp.path, CID,
		 HOST_PORT);
	f->v = vdriver_new(&virtio_vsock, text);
	ahead = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(ahead >= 0);
	assert_true(bring_up(f));
	/* Data sent before the guest is there waits for it. */
	host_writes(ahead, "early", 5);
	guest(f, VIRTIO_VSOCK_OP_REQUEST, 5000, HOST_PORT + 1);
	expect(f, VIRTIO_VSOCK_OP_RST);
	guest(f, VIRTIO_VSOCK_OP_REQUEST, 5000, HOST_PORT);
	expect(f, VIRTIO_VSOCK_OP_RESPONSE);
	guest_reads(f, "early", 5);
	guest_writes(f, 5000, HOST_PORT, "hello", 5);
	host_reads(ahead, "hello", 5);
	/* The connection made ahead has been used, and no other is made. */
	guest(f, VIRTIO_VSOCK_OP_REQUEST, 5001, HOST_PORT);
	expect(f, VIRTIO_VSOCK_OP_RST);
	close(connect_from_host(f, &port));
	close(ahead);
	close(listener);
	close(other);
	snprintf(path, sizeof(path), "%s_%u", f->tmp.path, HOST_PORT + 1);
	unlink(path);
}

static void test_nobody_ahead(void **state)
{
	struct fixture *f = *state;
	char text[160];

	vdriver_free(f->v);
	snprintf(text, sizeof(text), "%s,connect=%u", f->tmp.path, HOST_PORT);
	f->v = vdriver_new(&virtio_vsock, text);
	assert_null(f->v);
	f->v = device(f->tmp.path);
}

/*
 * Much data comes in packets that fill their buffers; buffers that were looked
 * at for more than there was serve the next packets, in their order.
 */
static void test_bursts(void **state)
{
	struct fixture *f = *state;
	static const uint32_t sizes[] = {1,     5,    4096,  200000, 3,
					 40000, 4052, 16208, 150001, 2};
	uint8_t *data = malloc(200000);
	uint32_t port;
	const int fd = connect_from_host(f, &port);

	for (uint32_t i = 0; i < 200000; i++)
		data[i] = (uint8_t)(i % 251);
	for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
		host_writes(fd, data, sizes[i]);
		guest_reads(f, data, sizes[i]);
		guest_writes(f, GUEST_PORT, port, "ok", 2);
		host_reads(fd, "ok", 2);
	}
	free(data);
	close(fd);
}

/*
 * The guest takes back the room it offered while data waits: the device must
 * not spin.
 */
static void test_credit_taken_back(void **state)
{
	struct fixture *f = *state;
	uint32_t port;
	const int fd = connect_from_host(f, &port);
	struct virtio_vsock_hdr h;

	host_writes(fd, "first", 5);
	guest_reads(f, "first", 5);
	f->guest_buffer = 0;
	guest(f, VIRTIO_VSOCK_OP_CREDIT_UPDATE, GUEST_PORT, port);
	host_writes(fd, "second", 6);
	h = expect(f, VIRTIO_VSOCK_OP_CREDIT_REQUEST);
	assert_int_equal(h.src_port, port);
	expect_nothing(f);
	f->guest_buffer = 256 * KIB;
	guest(f, VIRTIO_VSOCK_OP_CREDIT_UPDATE, GUEST_PORT, port);
	guest_reads(f, "second", 6);
	close(fd);
}

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
	/* Packets that were on the way are dropped, without a word. */
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

/* The guest has ended: the program reads what it wrote, and then the end. */
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
		assert_true(vdriver_wait_used(f->v, TX, NULL, PATIENCE_MS) >=
			    0);
	assert_int_equal(vdriver_wait_used(f->v, TX, NULL, QUIET_MS), -1);
	post(f, 32);
	for (unsigned i = 0; i < count; i++)
		expect(f, VIRTIO_VSOCK_OP_RST);
	for (unsigned i = 64; i < count; i++)
		assert_true(vdriver_wait_used(f->v, TX, NULL, PATIENCE_MS) >=
			    0);
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
	/*
	 * The program gives up at once: the guest may never see the connection.
	 */
	if (vdriver_wait_used(f->v, RX, &written, QUIET_MS) >= 0)
		assert_int_equal(written, HEADER);
}

/*
 * Data that waits for the guest's buffers goes there in one turn: one kick, one
 * interrupt. While there are buffers no kick is wanted.
 */
static void test_receive_kicks(void **state)
{
	struct fixture *f = *state;
	enum { N = 5 };
	struct iovec in;
	uint64_t kicks;
	bool kicked;
	uint32_t port;
	char *data;
	int fd;

	assert_true(vdriver_up(f->v, 0));
	post(f, 1);
	fd = connect_from_host(f, &port);
	host_writes(fd, "a", 1);
	assert_true(vdriver_wait_used(f->v, RX, NULL, PATIENCE_MS) >= 0);
	/* One skb, and so one event. */
	data = calloc(N, BUFFER - HEADER);
	host_writes(fd, data, N * (BUFFER - HEADER));
	free(data);
	in = vdriver_buf(f->v, NULL, BUFFER);
	/* Without EVENT_IDX a flag says so. */
	assert_true(wait_until(vdriver_kick_wanted(f->v, RX)));
	/* This takes the lock: the turn before has given its interrupt. */
	kicks = vdriver_kicks(f->v);
	(void)vdriver_interrupts(f->v);
	/*
	 * A turn that has just begun, for the rest of the host's data, sees all
	 * of them or none; then there may be nothing left to kick it for.
	 */
	virtio_lock(f->v->dev);
	for (unsigned i = 0; i < N; i++)
		assert_true(vdriver_add(f->v, RX, NULL, 0, &in, 1) >= 0);
	virtio_unlock(f->v->dev);
	kicked = vdriver_kick(f->v, RX);
	for (unsigned i = 0; i < N; i++)
		assert_true(vdriver_wait_used(f->v, RX, NULL, PATIENCE_MS) >=
			    0);
	assert_int_equal(vdriver_kicks(f->v), kicks + kicked);
	assert_int_equal(vdriver_interrupts(f->v), 1);
	/* The next packet takes one of two buffers. */
	(void)vdriver_add(f->v, RX, NULL, 0, &in, 1);
	(void)vdriver_add(f->v, RX, NULL, 0, &in, 1);
	(void)vdriver_kick(f->v, RX);
	host_writes(fd, "b", 1);
	assert_true(vdriver_wait_used(f->v, RX, NULL, PATIENCE_MS) >= 0);
	assert_true(vdriver_add(f->v, RX, NULL, 0, &in, 1) >= 0);
	assert_false(vdriver_kick(f->v, RX));
	close(fd);
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
		TEST(test_connects_ahead),
		TEST(test_bursts),
		TEST(test_credit_taken_back),
		TEST(test_nobody_ahead),
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
		TEST(test_receive_kicks),
		TEST(test_malformed),
		TEST(test_malformed_receive),
		TEST(test_scattered),
	};

	log_setup(LOG_ERROR, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
