/* SPDX-License-Identifier: Apache-2.0 */
/* How a guest that was loaded learns that its connections are over. */
#include "tests/vsock.h"

#include "vmm/base/log.h"

#define EVENT 2

static struct vdriver *device_as(struct fixture *f, const char *more)
{
	char text[160];

	snprintf(text, sizeof(text), "%s%s", f->tmp.path, more);
	return vdriver_new(&virtio_vsock, text);
}

/* Saves the device and loads it into another, which goes on. */
static void reload(struct fixture *f, const char *more)
{
	struct vdriver_saved saved;

	vdriver_pause(f->v);
	assert_int_equal(vdriver_save(f->v, &saved), 0);
	vdriver_free(f->v);
	f->v = device_as(f, more);
	assert_non_null(f->v);
	assert_int_equal(vdriver_load(f->v, &saved), 0);
	for (unsigned i = 0; i < VQ_MAX_SIZE; i++)
		if (f->rx[i].iov_base)
			f->rx[i].iov_base =
				vdriver_moved(f->v, &saved, f->rx[i].iov_base);
	vdriver_saved_done(&saved);
	virtio_resume(f->v->dev);
}

static void expect_event(struct fixture *f, const struct iovec *buffer)
{
	uint32_t written, id;

	assert_true(vdriver_wait_used(f->v, EVENT, &written, PATIENCE_MS) >= 0);
	assert_int_equal(written, sizeof(id));
	memcpy(&id, buffer->iov_base, sizeof(id));
	assert_int_equal(id, VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
}

static struct iovec post_event(struct fixture *f)
{
	struct iovec in = vdriver_buf(f->v, "\xee\xee\xee\xee", 4);

	assert_true(vdriver_add(f->v, EVENT, NULL, 0, &in, 1) >= 0);
	vdriver_kick(f->v, EVENT);
	return in;
}

/* A driver without buffers for events is told when it has one. */
static void test_late_buffer(void **state)
{
	struct fixture *f = *state;
	const int fd = connect_from_guest(f, GUEST_PORT);
	struct iovec in;

	/* The guest has another CID than the new device's configuration. */
	reload(f, ",cid=9");
	host_at_end(fd);
	close(fd);
	guest_writes(f, GUEST_PORT, HOST_PORT, "x", 1);
	expect(f, VIRTIO_VSOCK_OP_RST);
	in = post_event(f);
	expect_event(f, &in);
	/* Nothing is due any more. */
	post_event(f);
	reload(f, ",cid=9");
	assert_int_equal(vdriver_wait_used(f->v, EVENT, NULL, QUIET_MS), -1);
	close(connect_from_guest(f, GUEST_PORT));
	expect(f, VIRTIO_VSOCK_OP_SHUTDOWN);
}

/* The guest asked for a connection, and has no answer yet: that is no. */
static void test_unanswered(void **state)
{
	struct fixture *f = *state;
	const int listener = host_listens(f, HOST_PORT);
	int fd;

	assert_true(vdriver_up(f->v, ALL));
	memset(f->rx, 0, sizeof(f->rx));
	guest(f, VIRTIO_VSOCK_OP_REQUEST, GUEST_PORT, HOST_PORT);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(fd >= 0);
	post_event(f);
	reload(f, ",cid=7");
	assert_true(vdriver_wait_used(f->v, EVENT, NULL, PATIENCE_MS) >= 0);
	post_event(f);
	post(f, 1);
	assert_int_equal(expect(f, VIRTIO_VSOCK_OP_RST).dst_port, GUEST_PORT);
	close(fd);
	close(listener);
}

/* The one connection of a guest that may have one can be made again. */
static void test_ahead(void **state)
{
	struct fixture *f = *state;
	const int listener = host_listens(f, HOST_PORT);
	int fd[2];

	for (unsigned i = 0; i < 2; i++) {
		if (i == 0) {
			vdriver_free(f->v);
			f->v = device_as(f, ",cid=7,connect=1024");
			assert_non_null(f->v);
			memset(f->rx, 0, sizeof(f->rx));
			assert_true(bring_up(f));
		} else {
			reload(f, ",connect=1024");
			host_at_end(fd[0]);
			post_event(f);
			post_event(f);
		}
		fd[i] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		assert_true(fd[i] >= 0);
		guest(f, VIRTIO_VSOCK_OP_REQUEST, 100 + i, HOST_PORT);
		expect(f, VIRTIO_VSOCK_OP_RESPONSE);
		guest_writes(f, 100 + i, HOST_PORT, "hello", 5);
		host_reads(fd[i], "hello", 5);
	}
	guest(f, VIRTIO_VSOCK_OP_REQUEST, 200, HOST_PORT);
	expect(f, VIRTIO_VSOCK_OP_RST);
	close(fd[0]);
	close(fd[1]);
	close(listener);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_late_buffer),
		TEST(test_unanswered),
		TEST(test_ahead),
	};

	log_setup(LOG_ERROR, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
