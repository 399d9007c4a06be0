/* SPDX-License-Identifier: Apache-2.0 */
/* vmm/util: sizes, numbers, addresses, whole reads and writes. */
#include "vmm/base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void test_sizes(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{"0", 0},
		{"4096", 4096},
		{"0x1000", 4096},
		{"1k", 1024},
		{"256M", 256 * MIB},
		{"2G", 2 * GIB},
		{"1T", 1024 * GIB},
		{"3GiB", 3 * GIB},
		{"3gb", 3 * GIB},
		{"18446744073709551615", UINT64_MAX},
	};
	static const char *const bad[] = {
		"",    "M",  " 1",  "-1",  "+1",  "1 M", "1X",  "1.5G",
		"1MM", "0x", "1e3", "12 ", "1Mi", "M1",  "0xg", "1KiBs",
	};
	uint64_t bytes;

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(good); i++) {
		bytes = 1;
		assert_int_equal(util_parse_size(good[i].text, &bytes), 0);
		assert_true(bytes == good[i].bytes);
	}
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		bytes = 77;
		if (util_parse_size(bad[i], &bytes) != -EINVAL)
			fail_msg("'%s' was accepted", bad[i]);
		assert_true(bytes == 77);
	}
	assert_int_equal(util_parse_size("18446744073709551616", &bytes),
			 -ERANGE);
	assert_int_equal(util_parse_size("16777216T", &bytes), -ERANGE);
	assert_int_equal(util_parse_size("16777215T", &bytes), 0);
}

static void test_numbers(void **state)
{
	uint64_t value = 5;

	(void)state;
	assert_int_equal(util_parse_number("32", 1, 32, &value), 0);
	assert_int_equal(value, 32);
	assert_int_equal(util_parse_number("33", 1, 32, &value), -ERANGE);
	assert_int_equal(util_parse_number("0", 1, 32, &value), -ERANGE);
	assert_int_equal(util_parse_number("4K", 1, 9000, &value), -EINVAL);
	assert_int_equal(util_parse_number("", 0, 9, &value), -EINVAL);
	assert_int_equal(util_parse_number("-1", 0, 9, &value), -EINVAL);
	assert_int_equal(value, 32);
}

static void test_macs(void **state)
{
	static const char *const bad[] = {
		"",
		"02:00:00:00:00",
		"02:00:00:00:00:01:02",
		"02-00-00-00-00-01",
		"0g:00:00:00:00:01",
		"02:00:00:00:00:1",
		"2:0:0:0:0:1",
		"02:00:00:00:00:01 ",
	};
	static const uint8_t expected[6] = {2, 0, 0x5e, 0x10, 0xab, 0xFF};
	uint8_t mac[6];

	(void)state;
	assert_int_equal(util_parse_mac("02:00:5e:10:aB:Ff", mac), 0);
	assert_memory_equal(mac, expected, 6);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(util_parse_mac(bad[i], mac), -EINVAL);
	assert_memory_equal(mac, expected, 6);
}

static void test_ranges(void **state)
{
	(void)state;
	assert_true(range_fits(0, 10, 10));
	assert_true(range_fits(10, 0, 10));
	assert_false(range_fits(1, 10, 10));
	assert_false(range_fits(11, 0, 10));
	assert_false(range_fits(UINT64_MAX, 2, UINT64_MAX));
	assert_false(range_fits(2, UINT64_MAX, 100));
	assert_int_equal(align_up(4097, 4096), 8192);
	assert_int_equal(align_up(4096, 4096), 4096);
	assert_int_equal(align_down(8191, 4096), 4096);
	assert_int_equal(min_u64(3, 2), 2);
}

static void test_whole_reads_and_writes(void **state)
{
	autofd int fd = memfd_create("test", MFD_CLOEXEC);
	char buf[8] = "";

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(util_write_all(fd, "0123456789", 10), 0);
	assert_int_equal(util_read_at(fd, buf, 4, 3), 0);
	assert_memory_equal(buf, "3456", 4);
	assert_int_equal(util_read_at(fd, buf, 4, 7), -ENODATA);
	assert_int_equal(util_read_at(fd, buf, 1, 10), -ENODATA);
	assert_int_equal(util_read_at(fd, buf, 0, 100), 0);
	assert_int_equal(util_read_at(-1, buf, 1, 0), -EBADF);
	assert_int_equal(util_write_all(-1, buf, 1), -EBADF);
}

static void test_whole_files(void **state)
{
	const int fd = memfd_create("test-util", MFD_CLOEXEC);
	const int dir = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char *text = NULL;
	size_t bytes = 7;

	(void)state;
	assert_true(fd >= 0 && dir >= 0);
	assert_int_equal(util_read_file(fd, 0, &text, &bytes), 0);
	assert_int_equal(bytes, 0);
	assert_string_equal(text, "");
	free(text);
	text = NULL;
	bytes = 7;
	assert_int_equal(util_write_all(fd, "a\0bc", 4), 0);
	assert_int_equal(util_read_file(fd, 3, &text, &bytes), -EFBIG);
	assert_true(util_read_file(dir, 1 << 20, &text, &bytes) < 0);
	assert_int_equal(util_read_file(-1, 4, &text, &bytes), -EBADF);
	assert_null(text);
	assert_int_equal(bytes, 7);
	assert_int_equal(util_read_file(fd, 4, &text, &bytes), 0);
	assert_int_equal(bytes, 4);
	assert_memory_equal(text, "a\0bc", 5);
	free(text);
	close(fd);
	close(dir);
}

static void test_hand_over(void **state)
{
	int fd = memfd_create("test", MFD_CLOEXEC);
	char *text = strdup("x");

	(void)state;
	assert_true(fd >= 0);
	{
		autofd int mine = fd;
		autofree char *p = text;

		assert_int_equal(take_fd(&mine), fd);
		assert_int_equal(mine, -1);
		assert_ptr_equal(take_ptr(p), text);
		assert_null(p);
	}
	assert_true(fcntl(fd, F_GETFD) >= 0);
	{
		autofd int mine = fd;

		(void)mine;
	}
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	free(text);
}

static void test_clock(void **state)
{
	uint64_t a = util_now_ns();

	(void)state;
	usleep(2000);
	assert_true(util_now_ns() - a >= 2000000);
}

/* Signals that the process was started to ignore stay ignored. */
static void test_signals(void **state)
{
	static const int asked[] = {SIGHUP, SIGINT, SIGTERM};
	sigset_t set;

	(void)state;
	assert_true(signal(SIGHUP, SIG_IGN) != SIG_ERR);
	assert_true(signal(SIGINT, SIG_DFL) != SIG_ERR);
	set = util_signals(asked, 2);
	assert_false(sigismember(&set, SIGHUP));
	assert_true(sigismember(&set, SIGINT));
	assert_false(sigismember(&set, SIGTERM));
	assert_true(signal(SIGHUP, SIG_DFL) != SIG_ERR);
	set = util_signals(asked, ARRAY_LEN(asked));
	assert_true(sigismember(&set, SIGHUP));
}

/* A size that a buffer has when it is full, one more, and too many. */
static void test_read_stream(void **state)
{
	static const size_t sizes[] = {0, 1, 4094, 4095, 4096, 8191, 20000};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
		char data[20000], *text = NULL;
		int ends[2];

		memset(data, 'a' + (int)i, sizeof(data));
		assert_int_equal(pipe(ends), 0);
		assert_int_equal(write(ends[1], data, sizes[i]), sizes[i]);
		close(ends[1]);
		assert_int_equal(util_read_stream(ends[0], 20001, &text), 0);
		assert_int_equal(strlen(text), sizes[i]);
		assert_memory_equal(text, data, sizes[i]);
		free(text);
		close(ends[0]);
		assert_int_equal(util_read_stream(ends[0], 20001, &text),
				 -EBADF);
		assert_int_equal(pipe(ends), 0);
		assert_int_equal(write(ends[1], data, sizes[i]), sizes[i]);
		close(ends[1]);
		assert_int_equal(util_read_stream(ends[0], sizes[i], &text),
				 -EFBIG);
		close(ends[0]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read_stream),
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_macs),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_whole_reads_and_writes),
		cmocka_unit_test(test_whole_files),
		cmocka_unit_test(test_hand_over),
		cmocka_unit_test(test_clock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
