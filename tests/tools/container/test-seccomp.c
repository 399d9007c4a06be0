/* SPDX-License-Identifier: Apache-2.0 */
/* Profiles of system calls in Docker's format: their conditions. */
#include "tools/container/oci-seccomp.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

static json_t *load_profile(const char *text, uint64_t caps)
{
	int fd = memfd_create("profile", MFD_CLOEXEC);
	char path[32];
	json_t *seccomp;

	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	seccomp = oci_seccomp_load(path, caps);
	close(fd);
	return seccomp;
}

/* The names that are left, in a row. */
static void expect_calls(const char *profile, uint64_t caps, const char *wanted)
{
	json_t *seccomp = load_profile(profile, caps);
	char names[64] = "";
	json_t *call;
	size_t i;

	assert_non_null(seccomp);
	json_array_foreach(json_object_get(seccomp, "syscalls"), i, call) {
		json_t *list = json_object_get(call, "names");

		assert_null(json_object_get(call, "includes"));
		strcat(names, json_string_value(json_array_get(list, 0)));
	}
	assert_string_equal(names, wanted);
	json_decref(seccomp);
}

static void test_seccomp(void **state)
{
	static const char profile[] =
		"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"archMap\":["
		"{\"architecture\":\"SCMP_ARCH_ARM\"},"
		"{\"architecture\":\"SCMP_ARCH_X86_64\","
		"\"subArchitectures\":[\"SCMP_ARCH_X86\"]}],\"syscalls\":["
		"{\"names\":[\"a\"],\"action\":\"SCMP_ACT_ALLOW\"},"
		"{\"name\":\"b\",\"includes\":{\"caps\":[\"CAP_KILL\"]}},"
		"{\"names\":[\"c\"],\"excludes\":{\"caps\":[\"CAP_KILL\"]}},"
		"{\"names\":[\"d\"],\"includes\":{\"arches\":[\"arm\"]}},"
		"{\"names\":[\"e\"],\"excludes\":{\"arches\":[\"amd64\"]}},"
		"{\"names\":[\"f\"],\"includes\":{\"minKernel\":\"4.8\"}},"
		"{\"names\":[\"g\"],\"includes\":{\"minKernel\":\"7.0\"}},"
		"{\"names\":[\"h\"],\"includes\":"
		"{\"arches\":[\"arm\",\"amd64\"]}}]}";
	json_t *seccomp = load_profile(profile, 0);
	json_t *list = json_object_get(seccomp, "architectures");

	(void)state;
	assert_int_equal(json_array_size(list), 2);
	assert_string_equal(json_string_value(json_array_get(list, 1)),
			    "SCMP_ARCH_X86");
	json_decref(seccomp);
	expect_calls(profile, 0, "acfh");
	expect_calls(profile, 1 << 5, "abfh");
	assert_null(load_profile("{}", 0));
	assert_null(load_profile("[", 0));
	assert_null(load_profile("[1]", 0));
	assert_null(oci_seccomp_load("/nonexistent", 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_seccomp)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
