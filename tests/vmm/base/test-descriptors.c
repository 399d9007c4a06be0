/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors over a pair of sockets: as many as wanted, or none is kept. */
#include "vmm/base/descriptors.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define WORD "word"

static int pair[2], given[2];

static int setup(void **state)
{
	(void)state;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	given[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	given[1] = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	return given[0] < 0 || given[1] < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		util_close(&pair[i]);
		util_close(&given[i]);
	}
	return 0;
}

/* The lowest number that is free: the same where nothing was kept. */
static int next_free(void)
{
	const int fd = dup(given[0]);

	close(fd);
	return fd;
}

static void expect_same_file(int a, int b)
{
	struct stat of_a, of_b;

	assert_int_equal(fstat(a, &of_a), 0);
	assert_int_equal(fstat(b, &of_b), 0);
	assert_int_equal(of_a.st_rdev, of_b.st_rdev);
}

/* SENT descriptors to one who wants WANTED. */
static void pass(unsigned sent, unsigned wanted)
{
	const int before = next_free();
	int got[2] = {99, 99};
	char word[16];

	assert_int_equal(
		descriptors_send(pair[0], WORD, sizeof(WORD), given, sent),
		sizeof(WORD));
	assert_int_equal(descriptors_receive(pair[1], word, sizeof(word), got,
					     wanted, MSG_DONTWAIT),
			 sizeof(WORD));
	assert_string_equal(word, WORD);
	for (unsigned i = 0; i < wanted; i++) {
		if (sent != wanted) {
			assert_int_equal(got[i], -1);
			continue;
		}
		expect_same_file(got[i], given[i]);
		assert_int_equal(fcntl(got[i], F_GETFD), FD_CLOEXEC);
		close(got[i]);
	}
	assert_int_equal(next_free(), before);
}

static void test_as_many_as_wanted(void **state)
{
	(void)state;
	pass(0, 0);
	pass(1, 1);
	pass(2, 2);
}

static void test_another_number(void **state)
{
	(void)state;
	for (unsigned sent = 0; sent <= 2; sent++) {
		for (unsigned wanted = 0; wanted <= 2; wanted++)
			pass(sent, wanted);
	}
}

static void test_ends(void **state)
{
	int fd;
	char word[4];

	(void)state;
	assert_int_equal(descriptors_receive(pair[1], word, sizeof(word), &fd,
					     1, MSG_DONTWAIT),
			 -EAGAIN);
	assert_int_equal(fd, -1);
	util_close(&pair[0]);
	assert_int_equal(
		descriptors_receive(pair[1], word, sizeof(word), &fd, 1, 0), 0);
	assert_int_equal(descriptors_send(pair[1], WORD, 1, given, 1), -EPIPE);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_as_many_as_wanted),
		TEST(test_another_number),
		TEST(test_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
