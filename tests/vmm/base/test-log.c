/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of messages in the forms that engines read from an OCI runtime. */
#include "vmm/base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* RET: the line that a message leaves in the copy, up to its time. */
static void copy_of(bool json, enum log_level level, const char *message,
		    char ret[512])
{
	const int fd = memfd_create("log", MFD_CLOEXEC);
	char *end;
	ssize_t n;

	assert_true(fd >= 0);
	log_copy(fd, json);
	log_at(level, "%s", message);
	log_copy(-1, false);
	n = pread(fd, ret, 511, 0);
	assert_true(n > 0);
	ret[n] = '\0';
	assert_int_equal(ret[n - 1], '\n');
	assert_ptr_equal(strchr(ret, '\n'), ret + n - 1);
	end = strstr(ret, json ? ",\"time\":\"20" : " time=\"20");
	assert_non_null(end);
	*end = '\0';
	close(fd);
}

static void test_json(void **state)
{
	char line[512];

	(void)state;
	copy_of(true, LOG_ERROR, "a \"b\"\n\\", line);
	assert_string_equal(line, "{\"level\":\"error\",\"msg\":"
				  "\"a \\\"b\\\"\\u000a\\\\\"");
	copy_of(true, LOG_WARN, "x", line);
	assert_string_equal(line, "{\"level\":\"warning\",\"msg\":\"x\"");
}

static void test_text(void **state)
{
	char line[512];

	(void)state;
	copy_of(false, LOG_ERROR, "a b", line);
	assert_string_equal(line, "level=error msg=\"a b\"");
}

/* ---- nobody reads */

#define FILL   4096
#define TRIED  2000
#define WITHIN 60 /* seconds: they would wait 2,000 */

static void fill(int fd)
{
	const char page[FILL] = {0};

	assert_true(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
	while (write(fd, page, sizeof(page)) > 0)
		;
	assert_true(fcntl(fd, F_SETFL, 0) == 0);
}

/* As a guest's monitor does whose log has no reader. */
static void test_nobody_reads(void **state)
{
	const int saved = dup(STDERR_FILENO);
	static char text[2 * FILL];
	time_t begin;
	int ends[2];
	ssize_t n;

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	fill(ends[1]);
	assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
	begin = time(NULL);
	for (unsigned i = 0; i < TRIED; i++)
		log_warn("number %u", i);
	assert_true(time(NULL) - begin < WITHIN);
	assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
	while (read(ends[0], text, FILL) == FILL)
		;
	log_warn("the last");
	n = read(ends[0], text, sizeof(text) - 1);
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	assert_true(n > 0);
	text[n] = '\0';
	assert_string_equal(text, "bulkhead: warn: 2000 messages were lost: "
				  "nobody read them\n"
				  "bulkhead: warn: the last\n");
	close(saved);
	close(ends[0]);
	close(ends[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_nobody_reads),
	};

	log_setup(LOG_WARN, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
