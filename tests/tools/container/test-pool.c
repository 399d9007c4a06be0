/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets of machines that wait, as a start finds them. */
#include "tests/tempdir.h"
#include "tools/container/pool.h"
#include "vmm/base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAME    "00000000-000000000000.pool-1"
#define BACKLOG 8

/* A keeper that was stopped listens still: nobody waits for it. */
static void test_stopped_keeper(void **state)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	char top[TEMPDIR_ROOM];
	int dir;

	(void)state;
	tempdir_name(top);
	assert_non_null(mkdtemp(top));
	dir = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(dir >= 0 && fd >= 0);
	snprintf(un.sun_path, sizeof(un.sun_path), "%s/" NAME, top);
	assert_int_equal(bind(fd, (const struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(listen(fd, BACKLOG), 0);
	alarm(20);
	for (unsigned i = 0; i < 3 * BACKLOG; i++)
		pool_sweep(dir);
	alarm(0);
	assert_int_equal(faccessat(dir, NAME, F_OK, 0), 0);
	close(fd);
	/* Nobody listens any more. */
	pool_sweep(dir);
	assert_int_not_equal(faccessat(dir, NAME, F_OK, 0), 0);
	close(dir);
	assert_int_equal(rmdir(top), 0);
}

static void test_place(void **state)
{
	struct pool_place place, other;
	const pid_t pid = fork();

	(void)state;
	if (pid == 0)
		_exit(0);
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(pool_place_read(&place), 0);
	assert_true(pool_place_has(&place, getpid()));
	/* It is gone. */
	assert_false(pool_place_has(&place, pid));
	other = place;
	other.cgroup[0] = other.cgroup[0] == '0' ? '1' : '0';
	assert_false(pool_place_has(&other, getpid()));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stopped_keeper),
		cmocka_unit_test(test_place),
	};

	log_setup(LOG_ERROR, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
