/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of messages in the forms that engines read from an OCI runtime. */
#include "vmm/base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_text),
	};

	log_setup(LOG_WARN, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
