/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile driver of the socket device, and programs of the host that connect,
 * write, read, close, or do none of it. Whatever they did, no buffer is written
 * past its end, and after a reset a connection works in both directions.
 *
 * Input: operations, one byte and its operands each.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/vdriver.h"
#include "tests/tempdir.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <linux/virtio_vsock.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

extern const struct virtio_ops virtio_vsock;

#define RX              0
#define TX              1
#define HEADER          sizeof(struct virtio_vsock_hdr)
#define CID             3
#define MEMORY_USED_MAX (8 * MIB)
#define GUARD           0xa7
#define CLIENTS         8
#define PORTS           16 /* of connections the host made, remembered */
#define LISTENS_ON      1

/* Made once: a reset has to clear what the input before left. */
struct rig {
	struct input in;
	struct loop loop;
	struct vdriver *v;
	char path[TEMPDIR_ROOM + 2];
	int listener;
	int client[CLIENTS]; /* -1: none */
	uint32_t host_port[PORTS];
	unsigned nports;
	struct iovec rx[VQ_MAX_SIZE]; /* by head */
	bool raw; /* such a chain may point at anything, guards included */
};

static void bring_up(struct rig *r, uint64_t features)
{
	r->raw = false;
	r->nports = 0;
	memset(r->rx, 0, sizeof(r->rx));
	check(vdriver_up(r->v, features), "not up");
}

/* ---- the host ---- */

static int unix_socket(const char *path, bool listens)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	const int fd =
		socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	check(fd >= 0, "no socket");
	if (listens)
		check(bind(fd, (void *)&un, sizeof(un)) == 0 &&
			      listen(fd, 16) == 0,
		      "no listener");
	else if (connect(fd, (void *)&un, sizeof(un)) < 0)
		check(errno == EAGAIN, "not connected");
	return fd;
}

static int *client(struct rig *r)
{
	return &r->client[take(&r->in, 1) % CLIENTS];
}

static void host_connects(struct rig *r)
{
	int *fd = client(r);
	const unsigned how = (unsigned)take(&r->in, 1);
	char line[32];
	int n;

	util_close(fd);
	*fd = unix_socket(r->path, false);
	n = snprintf(line, sizeof(line), "CONNECT %u\n", how & 7);
	if (how & 0x80)
		n -= (how >> 4) & 7;
	(void)!send(*fd, line, (size_t)n, MSG_NOSIGNAL);
}

static void host_accepts(struct rig *r)
{
	int *fd = client(r);

	util_close(fd);
	*fd = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

static void host_moves(struct rig *r)
{
	static uint8_t data[64 * KIB];
	int *fd = client(r);
	const unsigned how = (unsigned)take(&r->in, 1);
	const size_t bytes = how & 0x80 ? sizeof(data) : how;

	switch (how >> 4 & 7) {
	case 0 ... 2:
		(void)!send(*fd, data, bytes, MSG_NOSIGNAL);
		break;
	case 3 ... 5:
		(void)!recv(*fd, data, bytes, 0);
		break;
	case 6:
		shutdown(*fd, (int)(how % 3));
		break;
	default:
		util_close(fd);
		break;
	}
}

/* ---- the guest ---- */

static void post(struct rig *r)
{
	const size_t first = take(&r->in, 1), second = take(&r->in, 2) % 5000;
	struct iovec in = vdriver_buf(r->v, NULL, first + second + 2), part[2];
	uint8_t *base = in.iov_base;
	int head;

	part[0] = (struct iovec){base, first + 1};
	part[1] = (struct iovec){base + first + 1, second};
	base[first + 1 + second] = GUARD;
	head = vdriver_add(r->v, RX, NULL, 0, part, 2);
	if (head >= 0)
		r->rx[head] = (struct iovec){base, first + 1 + second};
}

/* A packet that could be right, but for what the input does to it. */
static void transmit(struct rig *r)
{
	const unsigned op = (unsigned)take(&r->in, 1);
	const unsigned how = (unsigned)take(&r->in, 1);
	const uint32_t bytes = (uint32_t)take(&r->in, 1) * (how & 1 ? 256 : 1);
	struct virtio_vsock_hdr h = {
		.src_cid = CID,
		.dst_cid = 2,
		.src_port = how >> 1 & 7,
		.dst_port = LISTENS_ON,
		.len = bytes,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = (uint16_t)(op & 7),
		.flags = op >> 3 & 3,
		.buf_alloc = 64 * KIB,
	};
	struct iovec out = vdriver_buf(r->v, NULL, HEADER + bytes);

	if (how & 0x10)
		h.dst_port = r->host_port[take(&r->in, 1) % PORTS];
	if (how & 0x20)
		h.fwd_cnt = (uint32_t)take(&r->in, 4);
	if (how & 0x40)
		h.buf_alloc = (uint32_t)take(&r->in, 2);
	memcpy(out.iov_base, &h, HEADER);
	if (how & 0x80)
		((uint8_t *)out.iov_base)[take(&r->in, 1) % HEADER] ^=
			(uint8_t)take(&r->in, 1);
	(void)vdriver_add(r->v, TX, &out, 1, NULL, 0);
}

/* One packet off the queue, if there is one: checked where that is possible. */
static bool get_packet(struct rig *r, struct virtio_vsock_hdr *ret)
{
	uint32_t written;
	const int head = vdriver_get_used(r->v, RX, &written);
	struct iovec in;

	if (head < 0)
		return false;
	in = r->rx[head];
	memset(ret, 0, sizeof(*ret));
	if (r->raw || !in.iov_base)
		return true;
	check(((uint8_t *)in.iov_base)[in.iov_len] == GUARD,
	      "written behind a buffer");
	check(written >= HEADER && written <= in.iov_len, "odd length");
	memcpy(ret, in.iov_base, HEADER);
	check(ret->len == written - HEADER, "length and header differ");
	check(ret->dst_cid == CID, "not for this guest");
	if (ret->op == VIRTIO_VSOCK_OP_REQUEST)
		r->host_port[r->nports++ % PORTS] = ret->src_port;
	return true;
}

static void step(struct rig *r)
{
	const unsigned op = (unsigned)take(&r->in, 1), q = op >> 4 & 1;
	struct virtio_vsock_hdr h;

	if (r->v->next_free > MEMORY_USED_MAX)
		bring_up(r, UINT64_MAX);
	switch (op % 16) {
	case 0 ... 1:
		post(r);
		break;
	case 2 ... 4:
		transmit(r);
		break;
	case 5:
		add_raw(r->v, &r->in, q);
		r->raw = true;
		break;
	case 6 ... 7:
		vdriver_kick(r->v, q);
		break;
	case 8:
		(void)get_packet(r, &h);
		break;
	case 9:
		(void)vdriver_get_used(r->v, TX, NULL);
		break;
	case 10:
		bring_up(r, op & 32 ? UINT64_MAX : take(&r->in, 8));
		break;
	case 11:
		host_connects(r);
		break;
	case 12:
		host_accepts(r);
		break;
	case 13:
		host_moves(r);
		break;
	default:
		(void)turn_loop(&r->loop, 0);
		break;
	}
}

/* ---- afterwards ---- */

/* The next packet with OP; others may come of what was before. */
static struct virtio_vsock_hdr await(struct rig *r, uint16_t op)
{
	struct virtio_vsock_hdr h;

	for (unsigned i = 0; i < 1000; i++) {
		while (get_packet(r, &h))
			if (h.op == op)
				return h;
		(void)turn_loop(&r->loop, 0);
	}
	check(false, "a packet did not come");
	return h;
}

static void send_back(struct rig *r, uint16_t op, uint32_t host_port,
		      uint32_t bytes)
{
	struct virtio_vsock_hdr h = {
		.src_cid = CID,
		.dst_cid = 2,
		.src_port = 9,
		.dst_port = host_port,
		.len = bytes,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = op,
		.buf_alloc = 64 * KIB,
	};
	struct iovec out = vdriver_buf(r->v, NULL, HEADER + bytes);

	memcpy(out.iov_base, &h, HEADER);
	check(vdriver_add(r->v, TX, &out, 1, NULL, 0) >= 0, "no descriptor");
	vdriver_kick(r->v, TX);
	while (turn_loop(&r->loop, 0) > 0)
		;
}

static void quiet(struct rig *r)
{
	for (unsigned i = 0; i < CLIENTS; i++) {
		util_close(&r->client[i]);
	}
	vdriver_reset(r->v);
	for (int fd = 0; fd >= 0;) {
		fd = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC);
		util_close(&fd);
	}
	for (unsigned i = 0; i < 1000 && turn_loop(&r->loop, 0) > 0; i++)
		;
	check(turn_loop(&r->loop, 0) == 0, "the loop is never at rest");
}

static void check_alive(struct rig *r)
{
	struct virtio_vsock_hdr h;
	char text[32];
	int fd;

	quiet(r);
	bring_up(r, UINT64_MAX);
	for (unsigned i = 0; i < 8; i++) {
		struct iovec in = vdriver_buf(r->v, NULL, 101);

		((uint8_t *)in.iov_base)[100] = GUARD;
		in.iov_len = 100;
		r->rx[vdriver_add(r->v, RX, NULL, 0, &in, 1)] = in;
	}
	vdriver_kick(r->v, RX);
	fd = unix_socket(r->path, false);
	check(send(fd, "CONNECT 9\nhello", 15, MSG_NOSIGNAL) == 15, "greeting");
	h = await(r, VIRTIO_VSOCK_OP_REQUEST);
	check(h.dst_port == 9, "port");
	send_back(r, VIRTIO_VSOCK_OP_RESPONSE, h.src_port, 0);
	check(await(r, VIRTIO_VSOCK_OP_RW).len == 5, "data for the guest");
	send_back(r, VIRTIO_VSOCK_OP_RW, h.src_port, 7);
	check(recv(fd, text, sizeof(text), 0) ==
		      snprintf(text, sizeof(text), "OK %u\n", h.src_port) + 7,
	      "data for the host");
	close(fd);
	check(await(r, VIRTIO_VSOCK_OP_SHUTDOWN).flags == 3, "end");
	quiet(r);
}

static struct rig *rig_new(void)
{
	struct rig *r = calloc(1, sizeof(*r));
	char dir[TEMPDIR_ROOM], text[80];

	check(r != NULL, "out of memory");
	log_setup(LOG_ERROR, false);
	check(loop_init(&r->loop) == 0, "no loop");
	tempdir_name(dir);
	check(mkdtemp(dir) != NULL, "no directory");
	snprintf(r->path, sizeof(r->path), "%s/v", dir);
	r->v = vdriver_new_on(&virtio_vsock, r->path, &r->loop, NULL);
	check(r->v != NULL, "no device");
	snprintf(text, sizeof(text), "%s_%d", r->path, LISTENS_ON);
	r->listener = unix_socket(text, true);
	for (unsigned i = 0; i < CLIENTS; i++)
		r->client[i] = -1;
	return r;
}

/* By path and not by name: nothing is left. */
static void remove_files(const struct rig *r)
{
	char path[80];

	snprintf(path, sizeof(path), "%s_%d", r->path, LISTENS_ON);
	unlink(path);
	snprintf(path, sizeof(path), "%s", r->path);
	unlink(path);
	path[strlen(path) - 2] = '\0';
	rmdir(path);
}

static struct rig *the_rig;

static void at_end(void)
{
	remove_files(the_rig);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct rig *r = the_rig;

	if (!r) {
		r = the_rig = rig_new();
		atexit(at_end);
	}
	r->in = (struct input){data, data + bytes};
	bring_up(r, UINT64_MAX);
	while (r->in.at < r->in.end)
		step(r);
	check_alive(r);
	return 0;
}
