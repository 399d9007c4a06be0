/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the tests of the vsock device: the guest's driver on one side of
 * it, the programs of the host on the other.
 */
#ifndef TESTS_VSOCK_H
#define TESTS_VSOCK_H

#include "devices/virtio/vsock-conn.h"
#include "tests/tempdir.h"
#include "tests/vdriver.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_vsock.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

extern const struct virtio_ops virtio_vsock;

#define ALL     UINT64_MAX
#define RX      0
#define TX      1
#define HEADER  sizeof(struct virtio_vsock_hdr)
#define CID     7
#define BUFFERS 64
#define BUFFER  4096

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

static inline void post(struct fixture *f, unsigned count)
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
static inline struct virtio_vsock_hdr
packet(struct fixture *f, uint16_t op, uint32_t guest_port, uint32_t host_port)
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

static inline void send_packet(struct fixture *f,
			       struct virtio_vsock_hdr header, const void *data,
			       uint32_t bytes)
{
	struct iovec out[2];

	header.len = bytes;
	out[0] = vdriver_buf(f->v, &header, HEADER);
	out[1] = vdriver_buf(f->v, data, bytes);
	assert_int_equal(vdriver_request(f->v, TX, out, bytes ? 2 : 1, NULL, 0),
			 0);
}

static inline void guest(struct fixture *f, uint16_t op, uint32_t guest_port,
			 uint32_t host_port)
{
	send_packet(f, packet(f, op, guest_port, host_port), NULL, 0);
}

static inline void guest_shuts(struct fixture *f, uint32_t guest_port,
			       uint32_t host_port, uint32_t flags)
{
	struct virtio_vsock_hdr h =
		packet(f, VIRTIO_VSOCK_OP_SHUTDOWN, guest_port, host_port);

	h.flags = flags;
	send_packet(f, h, NULL, 0);
}

static inline void guest_writes(struct fixture *f, uint32_t guest_port,
				uint32_t host_port, const void *data,
				uint32_t bytes)
{
	send_packet(f, packet(f, VIRTIO_VSOCK_OP_RW, guest_port, host_port),
		    data, bytes);
}

/* The next packet for the guest; its buffer goes back. False: none comes. */
static inline bool next_packet(struct fixture *f, struct virtio_vsock_hdr *ret,
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
static inline struct virtio_vsock_hdr expect(struct fixture *f, uint16_t op)
{
	struct virtio_vsock_hdr h = {0};

	do
		assert_true(next_packet(f, &h, NULL, PATIENCE_MS));
	while (h.op != op && h.op == VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	assert_int_equal(h.op, op);
	return h;
}

static inline void expect_nothing(struct fixture *f)
{
	struct virtio_vsock_hdr h = {0};

	while (next_packet(f, &h, NULL, QUIET_MS))
		assert_int_equal(h.op, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
}

/* BYTES of data for the guest, in however many packets. */
static inline void guest_reads(struct fixture *f, const void *expected,
			       uint32_t bytes)
{
	uint8_t data[BUFFER];

	for (uint32_t at = 0; at < bytes;) {
		struct virtio_vsock_hdr h = {0};

		assert_true(next_packet(f, &h, data, PATIENCE_MS));
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

static inline int unix_socket(const char *path, bool listens)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const struct timeval tv = {.tv_sec = PATIENCE_MS / 1000};

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

static inline int host_listens(struct fixture *f, uint32_t port)
{
	char path[TEMPDIR_ROOM + 32];

	snprintf(path, sizeof(path), "%s_%u", f->tmp.path, port);
	return unix_socket(path, true);
}

static inline void host_writes(int fd, const void *data, size_t bytes)
{
	assert_int_equal(send(fd, data, bytes, MSG_NOSIGNAL), bytes);
}

static inline int host_says(struct fixture *f, const char *line)
{
	const int fd = unix_socket(f->tmp.path, false);

	host_writes(fd, line, strlen(line));
	return fd;
}

static inline void host_reads(int fd, const void *expected, size_t bytes)
{
	autofree uint8_t *data = malloc(bytes);

	assert_int_equal(recv(fd, data, bytes, MSG_WAITALL), bytes);
	assert_memory_equal(data, expected, bytes);
}

/* The device closes before anything else comes. */
static inline void host_at_end(int fd)
{
	char byte;
	const ssize_t n = recv(fd, &byte, 1, 0);

	assert_true(n == 0 || (n < 0 && errno == ECONNRESET));
}

/* A connection the host made. The fd and the host's port. */
static inline int connect_from_host(struct fixture *f, uint32_t *ret_host_port)
{
	const int fd = host_says(f, "CONNECT 52\n");
	struct virtio_vsock_hdr h = {0};
	char line[32];

	/* Another one may be on its end just now. */
	do
		assert_true(next_packet(f, &h, NULL, PATIENCE_MS));
	while (h.op != VIRTIO_VSOCK_OP_REQUEST || h.dst_port != GUEST_PORT);
	guest(f, VIRTIO_VSOCK_OP_RESPONSE, GUEST_PORT, h.src_port);
	snprintf(line, sizeof(line), "OK %u\n", h.src_port);
	host_reads(fd, line, strlen(line));
	*ret_host_port = h.src_port;
	return fd;
}

/* A connection the guest made. The host's fd. */
static inline int connect_from_guest(struct fixture *f, uint32_t guest_port)
{
	const int listener = host_listens(f, HOST_PORT);
	char path[TEMPDIR_ROOM + 32];
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

static inline bool bring_up(struct fixture *f)
{
	f->guest_buffer = 256 * KIB;
	f->guest_forwarded = 0;
	if (!vdriver_up(f->v, ALL))
		return false;
	post(f, BUFFERS);
	return true;
}

static inline struct vdriver *device(const char *path)
{
	char text[160];

	snprintf(text, sizeof(text), "%s,cid=%u", path, CID);
	return vdriver_new(&virtio_vsock, text);
}

static inline int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!tempdir_make(&f->tmp, "v"))
		return -1;
	f->v = device(f->tmp.path);
	*state = f;
	return f->v && bring_up(f) ? 0 : -1;
}

/* A device that left its socket behind fails here, too. */
static inline int teardown(void **state)
{
	struct fixture *f = *state;
	char path[TEMPDIR_ROOM + 32];
	bool empty;

	vdriver_free(f->v);
	snprintf(path, sizeof(path), "%s_%u", f->tmp.path, HOST_PORT);
	unlink(path);
	empty = tempdir_remove(&f->tmp);
	free(f);
	return empty ? 0 : -1;
}

/* Fills the host's socket, and then what the device holds. Bytes sent. */
static inline uint32_t fill_up(struct fixture *f, uint32_t port,
			       uint32_t packet_bytes)
{
	uint32_t sent = 0, known = 0;

	for (;;) {
		autofree uint8_t *data = malloc(packet_bytes);
		struct virtio_vsock_hdr h = {0};

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

static inline void host_reads_pattern(int fd, uint32_t bytes)
{
	autofree uint8_t *data = malloc(bytes);

	assert_int_equal(recv(fd, data, bytes, MSG_WAITALL), bytes);
	for (uint32_t i = 0; i < bytes; i++)
		assert_int_equal(data[i], i % 251);
}

#endif
