/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the vsock device comes to an end: of its places, of the descriptors, of
 * the driver's time and of its own.
 */
#include "tests/patience.h"
#include "tests/vsock.h"

#include <pthread.h>
#include <sys/resource.h>

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
	/* The host can still connect. */
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

/* A program that connects and names no port keeps nobody else out. */
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
	/* All places are taken: the first connection gives way in a moment. */
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

/* Data that a guest sent before it reset the device counts. */
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

/* As virtio-vsock.c has it. */
#define LINGER_MS 1000

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

/*
 * The VM ends; what is held still arrives. On a busy machine the reader may be
 * later than the device waits, and then nothing can be said.
 */
static void test_end_while_held(void **state)
{
	struct fixture *f = *state;
	struct late_reader reader = {.all = false};
	uint64_t start;
	uint32_t port;
	pthread_t thread;
	bool in_time;

	reader.fd = connect_from_host(f, &port);
	reader.bytes = fill_up(f, port, 4096);
	assert_int_equal(pthread_create(&thread, NULL, read_late, &reader), 0);
	start = util_now_ns();
	vdriver_free(f->v);
	in_time = patience_ms_since(start) < LINGER_MS;
	f->v = NULL;
	pthread_join(thread, NULL);
	assert_true(reader.all || !in_time);
	close(reader.fd);
}

/* ... unless nobody reads: there is no waiting for ever. */
static void test_end_unread(void **state)
{
	struct fixture *f = *state;
	uint32_t port;
	const int fd = connect_from_host(f, &port);

	(void)fill_up(f, port, 4096);
	vdriver_free(f->v);
	f->v = NULL;
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
		TEST(test_limits),
		TEST(test_silent_programs),
		TEST(test_no_descriptors),
		TEST(test_reset),
		TEST(test_reset_after_sending),
		TEST(test_end_while_held),
		TEST(test_end_unread),
		TEST(test_reset_while_busy),
	};

	log_setup(LOG_ERROR, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
