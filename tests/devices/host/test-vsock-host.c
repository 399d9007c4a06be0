/* SPDX-License-Identifier: Apache-2.0 */
/* The host's side of a vsock device: its socket's file, and the first line. */
#include "devices/host/vsock-host.h"

#include "tests/tempdir.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

struct fixture {
	struct tempdir tmp;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	return tempdir_make(&f->tmp, "v") ? 0 : -1;
}

/* Fails when something was left behind. */
static int teardown(void **state)
{
	struct fixture *f = *state;
	const bool empty = tempdir_remove(&f->tmp);

	free(f);
	return empty ? 0 : -1;
}

static bool is_there(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

static void make_file(const char *path)
{
	autofd int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
}

/* One that listens, or is only there. */
static int make_socket(const char *path, bool listens)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	assert_int_equal(bind(fd, (void *)&un, sizeof(un)), 0);
	if (listens)
		assert_int_equal(listen(fd, 1), 0);
	return fd;
}

static void test_file(void **state)
{
	struct fixture *f = *state;
	struct vsock_host host, second;
	struct stat st;

	/* Whatever the umask: never for others. */
	umask(0);
	assert_int_equal(vsock_host_open(&host, f->tmp.path, "vsock0"), 0);
	umask(022);
	assert_int_equal(lstat(f->tmp.path, &st), 0);
	assert_int_equal(st.st_mode, S_IFSOCK | 0600);
	/* In use: a second one is refused, the first one not disturbed. */
	assert_int_equal(vsock_host_open(&second, f->tmp.path, "vsock0"),
			 -EADDRINUSE);
	vsock_host_close(&second);
	assert_true(is_there(f->tmp.path));
	vsock_host_close(&host);
	assert_false(is_there(f->tmp.path));
}

static void test_stale_socket(void **state)
{
	struct fixture *f = *state;
	struct vsock_host host;

	close(make_socket(f->tmp.path, true));
	assert_true(is_there(f->tmp.path));
	assert_int_equal(vsock_host_open(&host, f->tmp.path, "vsock0"), 0);
	vsock_host_close(&host);
	assert_false(is_there(f->tmp.path));
}

static void test_other_file(void **state)
{
	struct fixture *f = *state;
	struct vsock_host host;

	make_file(f->tmp.path);
	assert_int_equal(vsock_host_open(&host, f->tmp.path, "vsock0"),
			 -EEXIST);
	vsock_host_close(&host);
	assert_true(is_there(f->tmp.path));
	unlink(f->tmp.path);
}

/* A process cannot find out whether another user's socket is in use. */
static void test_not_allowed(void **state)
{
	struct fixture *f = *state;
	const bool root = geteuid() == 0;
	struct vsock_host host;

	close(make_socket(f->tmp.path, true));
	assert_int_equal(chmod(f->tmp.path, 0), 0);
	assert_int_equal(chmod(f->tmp.dir, 0755), 0);
	if (root)
		assert_int_equal(seteuid(65534), 0);
	assert_int_equal(vsock_host_open(&host, f->tmp.path, "vsock0"),
			 -EACCES);
	vsock_host_close(&host);
	if (root)
		assert_int_equal(seteuid(0), 0);
	assert_true(is_there(f->tmp.path));
	unlink(f->tmp.path);
}

/* A file that another program put there in the meantime stays. */
static void test_replaced(void **state)
{
	struct fixture *f = *state;
	struct vsock_host host;
	int fd;

	assert_int_equal(vsock_host_open(&host, f->tmp.path, "vsock0"), 0);
	unlink(f->tmp.path);
	fd = make_socket(f->tmp.path, true);
	vsock_host_close(&host);
	assert_int_equal(unlink(f->tmp.path), 0);
	close(fd);
}

static void test_bad_paths(void **state)
{
	struct fixture *f = *state;
	struct vsock_host host;
	char path[128];

	snprintf(path, sizeof(path), "%s/no/such", f->tmp.dir);
	assert_int_equal(vsock_host_open(&host, path, "vsock0"), -ENOENT);
	vsock_host_close(&host);
	/* Room is needed for the longest port behind it. */
	snprintf(path, sizeof(path), "%s/%0*d", f->tmp.dir,
		 (int)(97 - strlen(f->tmp.dir) - 1), 1);
	assert_int_equal(vsock_host_open(&host, path, "vsock0"), -ENAMETOOLONG);
	vsock_host_close(&host);
	path[96] = '\0';
	assert_int_equal(vsock_host_open(&host, path, "vsock0"), 0);
	assert_int_equal(vsock_host_connect(&host, UINT32_MAX), -ENOENT);
	vsock_host_close(&host);
}

static void test_connect(void **state)
{
	struct fixture *f = *state;
	struct vsock_host host;
	char path[TEMPDIR_ROOM + 32];
	int listener, fd;

	assert_int_equal(vsock_host_open(&host, f->tmp.path, "vsock0"), 0);
	snprintf(path, sizeof(path), "%s_1024", f->tmp.path);
	assert_int_equal(vsock_host_connect(&host, 1024), -ENOENT);
	listener = make_socket(path, true);
	fd = vsock_host_connect(&host, 1024);
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	/* A full backlog is no reason to wait. */
	for (int r = 0; r >= 0;) {
		r = vsock_host_connect(&host, 1024);
		assert_true(r >= 0 || r == -EAGAIN);
		util_close(&r);
	}
	close(fd);
	close(listener);
	assert_int_equal(vsock_host_connect(&host, 1024), -ECONNREFUSED);
	assert_int_equal(vsock_host_accept(&host), -EAGAIN);
	unlink(path);
	vsock_host_close(&host);
}

/* ---- the first line ---- */

/* The result of TEXT, written at once, and then the end. */
static int greeting(const char *text, uint32_t *ret_port)
{
	struct vsock_greeting g = {.len = 0};
	int fd[2], r;

	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	assert_int_equal(write(fd[0], text, strlen(text)), strlen(text));
	close(fd[0]);
	r = vsock_greeting_read(&g, fd[1], ret_port);
	close(fd[1]);
	return r;
}

static void test_good_lines(void **state)
{
	uint32_t port = 0;

	(void)state;
	assert_int_equal(greeting("CONNECT 1024\n", &port), 1);
	assert_int_equal(port, 1024);
	assert_int_equal(greeting("CONNECT 0\nabc", &port), 1);
	assert_int_equal(port, 0);
	assert_int_equal(greeting("CONNECT 4294967294\n", &port), 1);
	assert_int_equal(port, 4294967294);
}

/* Lines that people and their tools write to Firecracker. */
static void test_loose_lines(void **state)
{
	static const char *const lines[] = {
		"connect 52\n",   "Connect 52\n",  "CONNECT  52\n",
		"CONNECT\t52 \n", " CONNECT 52\n", "CONNECT 52\r\n",
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(lines); i++) {
		uint32_t port = 0;

		assert_int_equal(greeting(lines[i], &port), 1);
		assert_int_equal(port, 52);
	}
}

static void test_bad_lines(void **state)
{
	static const char *const lines[] = {
		"\n",
		"HELLO\n",
		"CONNECT\n",
		"CONNECT \n",
		"CONNECT -1\n",
		"CONNECT +1\n",
		"CONNECT 0x10\n",
		"CONNECT52\n",
		"CONNECT 52 53\n",
		"CONNECTED 52\n",
		" \n",
		"CONNECT 4294967295\n", /* "any port" */
		"CONNECT 99999999999\n",
		"CONNECT 0000000000000000000000052\n",
		"GET / HTTP/1.1 and so on, without an end",
		"CONNECT 52",
		"",
	};
	uint32_t port = 77;

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(lines); i++)
		assert_true(greeting(lines[i], &port) < 0);
	assert_int_equal(port, 77);
}

/* In any pieces; what stands behind the line is not touched. */
static void test_pieces(void **state)
{
	static const char text[] = "CONNECT 123\nrest";
	struct vsock_greeting g = {.len = 0};
	uint32_t port = 0;
	char rest[8];
	int fd[2];

	(void)state;
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	for (unsigned i = 0; i < 11; i++) {
		assert_int_equal(vsock_greeting_read(&g, fd[1], &port), 0);
		assert_int_equal(write(fd[0], text + i, 1), 1);
	}
	assert_int_equal(write(fd[0], text + 11, 5), 5);
	assert_int_equal(vsock_greeting_read(&g, fd[1], &port), 1);
	assert_int_equal(port, 123);
	assert_int_equal(read(fd[1], rest, sizeof(rest)), 4);
	assert_memory_equal(rest, "rest", 4);
	assert_int_equal(vsock_greeting_answer(fd[1], 4294967295), 0);
	assert_int_equal(read(fd[0], rest, 3), 3);
	assert_memory_equal(rest, "OK ", 3);
	close(fd[0]);
	/*
	 * The program that asked has ended: the write gives an error and no
	 * signal.
	 */
	assert_int_equal(vsock_greeting_answer(fd[1], 1), -EPIPE);
	close(fd[1]);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_file),
		TEST(test_stale_socket),
		TEST(test_other_file),
		TEST(test_not_allowed),
		TEST(test_replaced),
		TEST(test_bad_paths),
		TEST(test_connect),
		cmocka_unit_test(test_good_lines),
		cmocka_unit_test(test_loose_lines),
		cmocka_unit_test(test_bad_lines),
		cmocka_unit_test(test_pieces),
	};

	log_setup(LOG_ERROR, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
