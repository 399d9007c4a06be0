/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets of a guest that is saved and loaded. The programs of the host are
 * connected to the first device only: the guest learns that its connections
 * are over, and makes new ones.
 */
#include "tests/devices/virtio/visit-kinds.h"
#include "tests/vsock.h"

#define EVENT      2
#define EVENTS     8
#define LEFT_PORT  7000 /* of the guest's connection that is left */
#define ASKED_PORT 7001 /* ... that has no answer yet */

struct sockets {
	struct fixture f;
	struct iovec event[VQ_MAX_SIZE]; /* by head */
	int left[3], nleft;
};

static void vsock_setup(struct visit_rig *r)
{
	struct sockets *s = calloc(1, sizeof(*s));

	assert_true(tempdir_make(&s->f.tmp, "v"));
	r->host = s;
}

static void vsock_teardown(struct visit_rig *r)
{
	struct sockets *s = r->host;
	char path[TEMPDIR_ROOM + 32];

	for (int i = 0; i < s->nleft; i++)
		close(s->left[i]);
	snprintf(path, sizeof(path), "%s_%u", s->f.tmp.path, HOST_PORT);
	unlink(path);
	assert_true(tempdir_remove(&s->f.tmp));
	free(s);
}

static void vsock_open(struct visit_rig *r)
{
	struct sockets *s = r->host;

	r->v = s->f.v = device(s->f.tmp.path);
	assert_non_null(r->v);
}

static void post_event(struct sockets *s)
{
	struct iovec in = vdriver_buf(s->f.v, NULL, 4);
	const int head = vdriver_add(s->f.v, EVENT, NULL, 0, &in, 1);

	assert_true(head >= 0);
	s->event[head] = in;
	vdriver_kick(s->f.v, EVENT);
}

static void vsock_begin(struct visit_rig *r)
{
	struct sockets *s = r->host;

	s->f.guest_buffer = 256 * KIB;
	s->f.guest_forwarded = 0;
	post(&s->f, BUFFERS);
	for (unsigned i = 0; i < EVENTS; i++)
		post_event(s);
}

static void vsock_traffic(struct visit_rig *r)
{
	struct sockets *s = r->host;
	struct fixture *f = &s->f;
	uint32_t port;
	int fd = connect_from_host(f, &port);

	/* Each connection of the guest's counts anew. */
	f->guest_forwarded = 0;
	host_writes(fd, "from the host", 13);
	guest_reads(f, "from the host", 13);
	guest_writes(f, GUEST_PORT, port, "from the guest", 14);
	host_reads(fd, "from the guest", 14);
	guest(f, VIRTIO_VSOCK_OP_RST, GUEST_PORT, port);
	host_at_end(fd);
	close(fd);
	f->guest_forwarded = 0;
	fd = connect_from_guest(f, 8000 + r->round);
	guest_writes(f, 8000 + r->round, HOST_PORT, "hello", 5);
	host_reads(fd, "hello", 5);
	guest(f, VIRTIO_VSOCK_OP_RST, 8000 + r->round, HOST_PORT);
	host_at_end(fd);
	close(fd);
}

/* One from each side; and one that the guest asks for while it stops. */
static void vsock_leave(struct visit_rig *r)
{
	struct sockets *s = r->host;
	struct virtio_vsock_hdr h =
		packet(&s->f, VIRTIO_VSOCK_OP_REQUEST, ASKED_PORT, HOST_PORT);
	struct iovec out = vdriver_buf(r->v, NULL, HEADER);
	uint32_t port;

	s->left[0] = connect_from_host(&s->f, &port);
	s->left[1] = connect_from_guest(&s->f, LEFT_PORT);
	s->nleft = 2;
	memcpy(out.iov_base, &h, HEADER);
	assert_true(vdriver_add(r->v, TX, &out, 1, NULL, 0) >= 0);
}

static void vsock_moved(struct visit_rig *r, const struct vdriver_saved *saved)
{
	struct sockets *s = r->host;
	struct iovec *lists[] = {s->f.rx, s->event};

	for (unsigned i = 0; i < 2 * VQ_MAX_SIZE; i++) {
		struct iovec *iov = &lists[i / VQ_MAX_SIZE][i % VQ_MAX_SIZE];

		if (iov->iov_base)
			iov->iov_base =
				vdriver_moved(r->v, saved, iov->iov_base);
	}
}

static void expect_event(struct sockets *s)
{
	uint32_t written, id;
	const int head =
		vdriver_wait_used(s->f.v, EVENT, &written, PATIENCE_MS);

	assert_true(head >= 0);
	assert_int_equal(written, sizeof(id));
	memcpy(&id, s->event[head].iov_base, sizeof(id));
	assert_int_equal(le32toh(id), VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
	assert_int_equal(vdriver_get_used(s->f.v, EVENT, NULL), -1);
}

static void vsock_take(struct visit_rig *r)
{
	struct sockets *s = r->host;
	const uint64_t start = util_now_ns();
	struct virtio_vsock_hdr h = {0};

	for (; s->nleft > 0; s->nleft--) {
		host_at_end(s->left[s->nleft - 1]);
		close(s->left[s->nleft - 1]);
	}
	expect_event(s);
	/* It was taken before the driver kicked for it, and refused. */
	assert_true(vdriver_wait_used(r->v, TX, NULL, PATIENCE_MS) >= 0);
	/* A device waits a second for a driver that does not answer. */
	if (next_packet(&s->f, &h, NULL, QUIET_MS))
		assert_true(patience_ms_since(start) > 900);
	post_event(s);
	if (h.op == 0)
		h = expect(&s->f, VIRTIO_VSOCK_OP_RST);
	assert_int_equal(h.dst_port, ASKED_PORT);
	guest_writes(&s->f, LEFT_PORT, HOST_PORT, "more", 4);
	h = expect(&s->f, VIRTIO_VSOCK_OP_RST);
	assert_int_equal(h.dst_port, LEFT_PORT);
}

const struct kind visit_vsock = {
	.name = "vsock",
	.setup = vsock_setup,
	.teardown = vsock_teardown,
	.open = vsock_open,
	.begin = vsock_begin,
	.traffic = vsock_traffic,
	.leave = vsock_leave,
	.moved = vsock_moved,
	.take = vsock_take,
	.stride = 9,
};
