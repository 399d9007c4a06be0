/* SPDX-License-Identifier: Apache-2.0 */
/* A forked process gets its standard streams, and a session of its own. */
#include "vmm/base/streams.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* Runs CHILD in a process of its own: true in all its answers. */
static void in_child(bool (*child)(const int fd[3]))
{
	int fd[3], status = 0;
	pid_t pid;

	for (int i = 0; i < 3; i++) {
		fd[i] = memfd_create("stream", MFD_CLOEXEC);
		assert_true(fd[i] > STDERR_FILENO);
	}
	pid = fork();
	if (pid == 0)
		_exit(child(fd) ? 0 : 1);
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	for (int i = 0; i < 3; i++)
		util_close(&fd[i]);
}

static bool same(int a, int b)
{
	struct stat one, two;

	return fstat(a, &one) == 0 && fstat(b, &two) == 0 &&
	       one.st_dev == two.st_dev && one.st_ino == two.st_ino &&
	       one.st_rdev == two.st_rdev;
}

static bool is_null(int fd)
{
	struct stat null, st;

	return stat("/dev/null", &null) == 0 && fstat(fd, &st) == 0 &&
	       st.st_rdev == null.st_rdev && S_ISCHR(st.st_mode);
}

/* A program that is executed has it. */
static bool is_kept(int fd)
{
	return fcntl(fd, F_GETFD) == 0;
}

static unsigned count_open(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 64; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static bool sets_all(const int fd[3])
{
	const unsigned before = count_open();

	return streams_set(fd) == 0 && count_open() == before &&
	       same(0, fd[0]) && same(1, fd[1]) && same(2, fd[2]) &&
	       is_kept(0) && is_kept(1) && is_kept(2);
}

static bool keeps_and_closes(const int fd[3])
{
	const unsigned before = count_open();
	const int from[3] = {STREAM_NULL, fd[1], STREAM_KEEP};

	return dup2(fd[2], 2) == 2 && streams_set(from) == 0 &&
	       count_open() == before && is_null(0) && same(1, fd[1]) &&
	       same(2, fd[2]);
}

/* Each has the number that another one gets. */
static bool turns_around(const int fd[3])
{
	static const int from[3] = {1, 2, 0};

	return streams_set(fd) == 0 && streams_set(from) == 0 &&
	       same(0, fd[1]) && same(1, fd[2]) && same(2, fd[0]);
}

/* Its own number, close-on-exec or not, and one for two. */
static bool takes_itself(const int fd[3])
{
	static const int from[3] = {0, 0, 2};

	return streams_set(fd) == 0 && fcntl(0, F_SETFD, FD_CLOEXEC) == 0 &&
	       streams_set(from) == 0 && same(0, fd[0]) && same(1, fd[0]) &&
	       same(2, fd[2]) && is_kept(0);
}

static bool opens_closed(const int fd[3])
{
	static const int from[3] = {STREAM_NULL, STREAM_NULL, STREAM_NULL};

	(void)fd;
	close(0);
	close(1);
	close(2);
	return streams_set(from) == 0 && is_null(0) && is_null(1) &&
	       is_null(2) && is_kept(0);
}

static bool tells_failure(const int fd[3])
{
	const int from[3] = {fd[0], 1000000, STREAM_NULL};
	const unsigned before = count_open();

	return streams_set(from) == -EBADF && count_open() == before &&
	       !same(0, fd[0]);
}

static bool detaches(const int fd[3])
{
	return getsid(0) != getpid() && streams_detach(fd) == 0 &&
	       getsid(0) == getpid() && same(0, fd[0]) && is_kept(2) &&
	       streams_detach(fd) == -EPERM;
}

static void test_set(void **state)
{
	(void)state;
	in_child(sets_all);
	in_child(keeps_and_closes);
	in_child(turns_around);
	in_child(takes_itself);
	in_child(opens_closed);
	in_child(tells_failure);
}

static void test_detach(void **state)
{
	(void)state;
	in_child(detaches);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set),
		cmocka_unit_test(test_detach),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
