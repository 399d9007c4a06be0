/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a container's program is there, as far as the host can tell. */
#include "tests/tempdir.h"
#include "tools/oci/oci.h"
#include "vmm/base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int check(const char *root, const char *program, const char *rest)
{
	char all[1024];
	json_t *config;
	int r;

	snprintf(all, sizeof(all),
		 "{\"process\":{\"args\":[\"%s\"],\"env\":[\"PATH=/no:/bin\"]},"
		 "\"mounts\":[%s]}",
		 program, rest);
	config = json_loads(all, 0, NULL);
	assert_non_null(config);
	r = oci_check_program(config, root);
	json_decref(config);
	return r;
}

/* A program that cannot be there is told before anything is made. */
static void test_program(void **state)
{
	char top[TEMPDIR_ROOM], path[TEMPDIR_ROOM + 32];
	int fd;

	(void)state;
	tempdir_name(top);
	assert_non_null(mkdtemp(top));
	snprintf(path, sizeof(path), "%s/bin", top);
	assert_int_equal(mkdir(path, 0755), 0);
	snprintf(path, sizeof(path), "%s/bin/tool", top);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(check(top, "tool", ""), -EACCES);
	assert_int_equal(chmod(path, 0755), 0);
	assert_int_equal(check(top, "tool", ""), 0);
	assert_int_equal(check(top, "/bin/tool", ""), 0);
	assert_int_equal(check(top, "/bin", ""), -EACCES);
	assert_int_equal(check(top, "none", ""), -ENOENT);
	assert_int_equal(check(top, "/none", ""), -ENOENT);
	/* The host's own are not the container's. */
	assert_int_equal(check(top, "/../../../../bin/true", ""), -ENOENT);
	/* Somebody else may bring it. */
	assert_int_equal(check(top, "/none",
			       "{\"destination\":\"/x\",\"source\":\"/tmp\"}"),
			 0);
	assert_int_equal(check(top, "/none",
			       "{\"destination\":\"/dev/pts\","
			       "\"source\":\"devpts\"}"),
			 -ENOENT);
	assert_int_equal(check(top, "/sbin/none",
			       "{\"destination\":\"/sbin/none\","
			       "\"source\":\"/etc/passwd\"}"),
			 0);
	assert_int_equal(check(top, "/none",
			       "{\"destination\":\"/etc/hosts\","
			       "\"source\":\"/etc/passwd\"}"),
			 -ENOENT);
	assert_int_equal(unlink(path), 0);
	snprintf(path, sizeof(path), "%s/bin", top);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(rmdir(top), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_program),
	};

	log_setup(LOG_ERROR, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
