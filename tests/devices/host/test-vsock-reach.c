/* SPDX-License-Identifier: Apache-2.0 */
/* The process that connects for a vsock device: where to, and what it holds. */
#include "devices/host/vsock-reach.h"

#include "tests/patience.h"
#include "tests/tempdir.h"
#include "vmm/base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define PORT 1024

struct fixture {
	struct tempdir tmp;
	struct vsock_host host;
	struct vsock_reach reach;
	char peer[TEMPDIR_ROOM + 32]; /* where PORT leads */
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	if (!tempdir_make(&f->tmp, "v") ||
	    vsock_host_open(&f->host, f->tmp.path, "vsock0") < 0 ||
	    vsock_reach_open(&f->reach, &f->host, "vsock0") < 0)
		return -1;
	snprintf(f->peer, sizeof(f->peer), "%s_%u", f->tmp.path, PORT);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	bool clean;

	vsock_reach_close(&f->reach);
	vsock_host_close(&f->host);
	unlink(f->peer);
	clean = tempdir_remove(&f->tmp) && waitpid(-1, NULL, WNOHANG) < 0;
	free(f);
	return clean ? 0 : -1;
}

static int listen_at(const char *path)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	assert_int_equal(bind(fd, (const void *)&un, sizeof(un)), 0);
	assert_int_equal(listen(fd, 1), 0);
	return fd;
}

static void test_connects(void **state)
{
	struct fixture *f = *state;
	const int listener = listen_at(f->peer);
	const int fd = vsock_reach_connect(&f->reach, PORT);
	char byte = 0;
	int peer;

	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_int_equal(write(fd, "x", 1), 1);
	assert_int_equal(read(peer, &byte, 1), 1);
	/* The process has closed its own copy: this end's end is the end. */
	close(fd);
	assert_int_equal(read(peer, &byte, 1), 0);
	close(peer);
	close(listener);
}

static void test_refusals(void **state)
{
	struct fixture *f = *state;
	const int listener = listen_at(f->peer);

	assert_int_equal(vsock_reach_connect(&f->reach, PORT + 1), -ENOENT);
	assert_int_equal(vsock_reach_connect(&f->reach, UINT32_MAX), -ENOENT);
	/* A full backlog is no reason to wait. */
	for (int r = 0; r >= 0;) {
		r = vsock_reach_connect(&f->reach, PORT);
		assert_true(r >= 0 || r == -EAGAIN);
		util_close(&r);
	}
	close(listener);
	assert_int_equal(vsock_reach_connect(&f->reach, PORT), -ECONNREFUSED);
}

/* Counts what the process has open; it must be its socket alone. */
static void test_holds_nothing(void **state)
{
	struct fixture *f = *state;
	char path[64];
	unsigned count = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)f->reach.pid);
	dir = opendir(path);
	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	assert_int_equal(count, 2 + 1); /* "." and ".." */
}

/* A line of /proc/PID/status. */
static uint64_t status_of(pid_t pid, const char *key, int base)
{
	char path[64], line[256];
	uint64_t value = UINT64_MAX;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file = fopen(path, "re");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		if (strncmp(line, key, strlen(key)) == 0)
			value = strtoull(line + strlen(key), NULL, base);
	fclose(file);
	return value;
}

static void test_is_confined(void **state)
{
	struct fixture *f = *state;
	const pid_t pid = f->reach.pid;

	assert_int_equal(status_of(pid, "Seccomp:", 10), 2);
	assert_int_equal(status_of(pid, "NoNewPrivs:", 10), 1);
	assert_int_equal(status_of(pid, "CapEff:", 16), 0);
	assert_int_equal(status_of(pid, "CapPrm:", 16), 0);
	/* Signals of the user's terminal are the monitor's. */
	assert_int_equal(kill(pid, SIGINT), 0);
	assert_int_equal(kill(pid, SIGTERM), 0);
	assert_int_equal(vsock_reach_connect(&f->reach, PORT), -ENOENT);
}

static void test_is_killed(void **state)
{
	struct fixture *f = *state;
	siginfo_t info;

	assert_int_equal(kill(f->reach.pid, SIGKILL), 0);
	assert_int_equal(
		waitid(P_PID, (id_t)f->reach.pid, &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(vsock_reach_connect(&f->reach, PORT), -EPIPE);
	assert_int_equal(vsock_reach_connect(&f->reach, PORT), -EPIPE);
}

/* Starts another one, writes its process ID, and is killed. */
static _Noreturn void be_killed(const struct vsock_host *host, int out)
{
	struct vsock_reach reach;

	if (vsock_reach_open(&reach, host, "vsock0") < 0 ||
	    write(out, &reach.pid, sizeof(reach.pid)) != sizeof(reach.pid))
		_exit(1);
	for (;;)
		pause();
}

/* However the monitor ends, the process does not outlive it. */
static void test_ends_with_monitor(void **state)
{
	struct fixture *f = *state;
	pid_t parent, pid;
	int status, ends[2];

	/* Orphans come to this process, which can wait for them then. */
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	parent = fork();
	if (parent == 0)
		be_killed(&f->host, ends[1]);
	assert_int_equal(read(ends[0], &pid, sizeof(pid)), sizeof(pid));
	assert_int_equal(kill(parent, SIGKILL), 0);
	assert_int_equal(waitpid(parent, &status, 0), parent);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0), 0);
	close(ends[0]);
	close(ends[1]);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_connects),      TEST(test_refusals),
		TEST(test_holds_nothing), TEST(test_is_confined),
		TEST(test_is_killed),     TEST(test_ends_with_monitor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
