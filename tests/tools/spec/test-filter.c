/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Profiles of system calls become filters: each is tried by a process that has
 * it. Keys and values that are not supported are refused by their names.
 */
#include "tools/spec/spec.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* No call of Linux has such a number. */
#define NEW_CALL 1000

static struct spec_linux parse(const char *text)
{
	json_error_t error;
	struct spec_linux l = {.seccomp = json_loads(text, 0, &error)};

	if (!l.seccomp)
		fail_msg("%s", error.text);
	return l;
}

static struct spec_filter make(const char *text)
{
	struct spec_filter filter = {0};
	struct spec_linux l = parse(text);

	assert_int_equal(spec_filter_make("test", &l, &filter), 0);
	spec_linux_done(&l);
	return filter;
}

struct call {
	long number;
	unsigned long arg[3];
	int error; /* 0: it is done */
};

#define CALL(name, a, b, c, error)                                             \
	(struct call)                                                          \
	{                                                                      \
		SYS_##name,                                                    \
			{(unsigned long)(a), (unsigned long)(b),               \
			 (unsigned long)(c)},                                  \
			error                                                  \
	}

/*
 * Has a process with the filter make each of the calls. The number of the first
 * one that went otherwise, from 1; 0: all as they should. -N: signal N.
 */
static int try(const struct spec_filter *f, const struct call *calls, size_t n)
{
	const struct sock_fprog program = {(unsigned short)f->count, f->code};
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, f->flags,
			    &program) < 0)
			_exit(255);
		for (size_t i = 0; i < n; i++) {
			const struct call *c = &calls[i];
			const long r = syscall(c->number, c->arg[0], c->arg[1],
					       c->arg[2]);

			if ((r < 0 ? errno : 0) != c->error)
				syscall(SYS_exit_group, (int)i + 1);
		}
		syscall(SYS_exit_group, 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static void expect(const char *text, const struct call *calls, size_t n)
{
	struct spec_filter filter = make(text);

	assert_int_equal(try(&filter, calls, n), 0);
	spec_filter_done(&filter);
}

/* ---- tests */

static void test_errors(void **state)
{
	static const char text[] =
		"{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": ["
		"{\"names\": [\"mkdir\", \"no_such_call\", \"chown32\"], "
		"\"action\": \"SCMP_ACT_ERRNO\", \"errnoRet\": 28}, "
		"{\"names\": [\"rmdir\"], \"action\": \"SCMP_ACT_ERRNO\"}, "
		"{\"names\": [\"getpid\"], \"action\": \"SCMP_ACT_LOG\"}, "
		"{\"names\": [\"getuid\"], \"action\": \"SCMP_ACT_ALLOW\"}]}";
	const struct call calls[] = {
		CALL(mkdir, "/nonexistent/x", 0, 0, ENOSPC),
		CALL(rmdir, "/nonexistent", 0, 0, EPERM),
		CALL(getpid, 0, 0, 0, 0),
		CALL(getuid, 0, 0, 0, 0),
		CALL(unlink, "/nonexistent", 0, 0, ENOENT),
		{NEW_CALL, {0}, ENOSYS},
	};

	(void)state;
	expect(text, calls, ARRAY_LEN(calls));
}

#define ALLOWED                                                                \
	"{\"names\": [\"exit_group\", \"fchmodat\"], "                         \
	"\"action\": \"SCMP_ACT_ALLOW\"}"

/* Calls newer than all that a list of allowed ones has do not exist. */
static void test_default(void **state)
{
	const struct call calls[] = {
		CALL(fchmodat, AT_FDCWD, "/nonexistent", 0, ENOENT),
		CALL(getpid, 0, 0, 0, EPERM),
		CALL(close_range, ~0U, ~0U, 0, ENOSYS),
		{NEW_CALL, {0}, ENOSYS},
	};
	const struct call other[] = {
		CALL(getpid, 0, 0, 0, EXDEV),
		{NEW_CALL, {0}, ENOSYS},
	};

	(void)state;
	expect("{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"syscalls\": [" ALLOWED
	       "]}",
	       calls, ARRAY_LEN(calls));
	expect("{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"defaultErrnoRet\": "
	       "18, \"architectures\": [\"SCMP_ARCH_X86_64\", "
	       "\"SCMP_ARCH_X86\", \"SCMP_ARCH_X32\", \"SCMP_ARCH_RISCV64\", "
	       "\"SCMP_ARCH_X86\"], \"flags\": [\"SECCOMP_FILTER_FLAG_LOG\", "
	       "\"SECCOMP_FILTER_FLAG_TSYNC\", "
	       "\"SECCOMP_FILTER_FLAG_SPEC_ALLOW\"], \"listenerPath\": \"\", "
	       "\"syscalls\": [" ALLOWED "]}",
	       other, ARRAY_LEN(other));
}

static void test_kill(void **state)
{
	const struct call call = CALL(getpid, 0, 0, 0, 0);
	struct spec_filter filter =
		make("{\"defaultAction\": \"SCMP_ACT_KILL_PROCESS\", "
		     "\"syscalls\": [" ALLOWED "]}");

	(void)state;
	assert_int_equal(try(&filter, &call, 1), -SIGSYS);
	spec_filter_done(&filter);
}

#define IF(name, conditions)                                                   \
	"{\"names\": [\"" name "\"], \"action\": \"SCMP_ACT_ERRNO\", "         \
	"\"errnoRet\": 28, \"args\": [" conditions "]}"
#define ARG(index, value, two, op)                                             \
	"{\"index\": " #index ", \"value\": " #value ", \"valueTwo\": " #two   \
	", \"op\": \"SCMP_CMP_" #op "\"}"

/* getsid(2) fails with ESRCH for numbers that no process has. */
static void test_conditions(void **state)
{
	static const char text[] =
		"{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": "
		"[" IF("getsid", ARG(0, 2147483646, 0, GE)) ", " IF(
			"getpgid",
			ARG(0, 2147480000, 0, GE) ", " ARG(
				1, 7, 0,
				EQ)) ", " IF("getpriority",
					     ARG(0, 100, 0, EQ) ", " ARG(
						     0, 101, 0,
						     EQ)) ", " IF("lseek",
								  ARG(1, -1, 0,
								      EQ)) ","
									   " " IF("close",
										  ARG(0,
										      4294967040,
										      4294966784,
										      MASKED_EQ)) "]}";
	const struct call calls[] = {
		CALL(getsid, 2147483645, 0, 0, ESRCH),
		CALL(getsid, 2147483646, 0, 0, ENOSPC),
		CALL(getpgid, 2147483646, 6, 0, ESRCH),
		CALL(getpgid, 2147483646, 7, 0, ENOSPC),
		CALL(getpriority, 99, 0, 0, EINVAL),
		CALL(getpriority, 100, 0, 0, ENOSPC),
		CALL(getpriority, 101, 0, 0, ENOSPC),
		CALL(lseek, -1, 0xffffffffUL, 0, EBADF),
		CALL(lseek, -1, -1L, 0, ENOSPC),
		CALL(close, 0xfffffe05U, 0, 0, ENOSPC),
		CALL(close, 0xfffffd05U, 0, 0, EBADF),
	};

	(void)state;
	expect(text, calls, ARRAY_LEN(calls));
}

/* An engine writes this: hundreds of names, some of them of other machines. */
static void test_engine(void **state)
{
	const struct call calls[] = {
		CALL(getpid, 0, 0, 0, 0),
		CALL(personality, 0xffffffffU, 0, 0, 0),
		CALL(personality, 5, 0, 0, ENOSYS),
		CALL(kexec_load, 0, 0, 0, EPERM),
		CALL(socket, AF_UNIX, SOCK_STREAM, 0, 0),
		CALL(socket, AF_NETLINK, SOCK_RAW, NETLINK_AUDIT, EINVAL),
		{NEW_CALL, {0}, ENOSYS},
	};
	struct spec_filter filter;
	struct spec spec = {0};
	char path[512];

	(void)state;
	snprintf(path, sizeof(path), "%s/tests/fuzz/corpus/spec/podman.json",
		 getenv("srcdir") ? getenv("srcdir") : ".");
	assert_int_equal(spec_read_file(path, &spec), 0);
	assert_int_equal(spec_filter_make("podman", &spec.linux_part, &filter),
			 0);
	assert_int_equal(try(&filter, calls, ARRAY_LEN(calls)), 0);
	spec_filter_done(&filter);
	spec_done(&spec);
}

static void test_none(void **state)
{
	const struct spec_linux l = {0};
	struct spec_filter filter = {.count = 1};

	(void)state;
	assert_int_equal(spec_filter_make("none", &l, &filter), 0);
	assert_null(filter.code);
	assert_int_equal(filter.count, 0);
}

/* ---- refused */

#define FOR(rest)                                                              \
	"{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"syscalls\": [{" rest "}]}"
#define NAMED(rest) FOR("\"names\": [\"getpid\"], " rest)

/* Its one line on standard error. Allocated. */
static char *complaint(const char *text, int result)
{
	autofd int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	autofd int fd = memfd_create("said", MFD_CLOEXEC);
	struct spec_linux l = parse(text);
	char *said = calloc(1, 4096);
	struct spec_filter filter;
	int r;

	assert_true(saved >= 0 && fd >= 0);
	assert_non_null(said);
	assert_true(dup2(fd, STDERR_FILENO) >= 0);
	r = spec_filter_make("file", &l, &filter);
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	assert_true(pread(fd, said, 4095, 0) >= 0);
	spec_linux_done(&l);
	assert_int_equal(r, result);
	return said;
}

static void test_refused(void **state)
{
	static const struct {
		const char *text;
		int result;
		const char *said;
	} cases[] = {
		{"{}", -EINVAL, "linux.seccomp: has no defaultAction"},
		{"{\"defaultAction\": null}", -EINVAL, "has no defaultAction"},
		{"{\"defaultAction\": \"ALLOW\"}", -EINVAL,
		 "seccomp.defaultAction: expected an action"},
		{"{\"defaultAction\": \"SCMP_ACT_ALLOW\", "
		 "\"defaultErrnoRet\": 1}",
		 -EINVAL, "seccomp.defaultErrnoRet: goes with"},
		{"{\"defaultAction\": \"SCMP_ACT_ERRNO\", "
		 "\"defaultErrnoRet\": 65536}",
		 -EINVAL, "expected a whole number that fits"},
		{"{\"defaultAction\": \"SCMP_ACT_ALLOW\", "
		 "\"listenerPath\": \"/x\"}",
		 -ENOTSUP, "seccomp.listenerPath: is not supported"},
		{"{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"flags\": "
		 "[\"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV\"]}",
		 -ENOTSUP, "seccomp.flags[0]: supported are"},
		{"{\"defaultAction\": \"SCMP_ACT_ALLOW\", "
		 "\"architectures\": [\"SCMP_ARCH_X86\", \"amd64\"]}",
		 -EINVAL, "architectures[1]: expected an architecture"},
		{"{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"x\": 0}", -EINVAL,
		 "seccomp.x: unknown"},
		{"{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": {}}",
		 -EINVAL, "seccomp.syscalls: expected a list"},
		{FOR("\"action\": \"SCMP_ACT_ALLOW\""), -EINVAL,
		 "syscalls[0]: has no names"},
		{FOR("\"names\": [1], \"action\": \"SCMP_ACT_ALLOW\""), -EINVAL,
		 "syscalls[0].names[0]: expected a string"},
		{NAMED("\"errnoRet\": 1"), -EINVAL,
		 "syscalls[0]: has no action"},
		{NAMED("\"action\": \"SCMP_ACT_NOTIFY\""), -ENOTSUP,
		 "syscalls[0].action: SCMP_ACT_NOTIFY is not supported"},
		{NAMED("\"action\": \"SCMP_ACT_ALLOW\", \"errnoRet\": 1"),
		 -EINVAL, "syscalls[0].errnoRet: goes with"},
		{NAMED("\"action\": \"SCMP_ACT_ALLOW\", \"args\": "
		       "[{\"index\": 6, \"op\": \"SCMP_CMP_EQ\"}]"),
		 -EINVAL, "args[0].index: expected a whole number that fits"},
		{NAMED("\"action\": \"SCMP_ACT_ALLOW\", \"args\": "
		       "[{\"index\": 0}]"),
		 -EINVAL, "args[0]: has no op"},
		{NAMED("\"action\": \"SCMP_ACT_ALLOW\", \"args\": "
		       "[{\"op\": \"EQ\"}]"),
		 -EINVAL, "args[0].op: expected a comparison"},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		autofree char *said = complaint(cases[i].text, cases[i].result);
		const char *end = strchr(said, '\n');

		if (!strstr(said, cases[i].said) || !end || end[1])
			fail_msg("case %u: '%s'", i, said);
	}
}

/* More steps than Linux takes. */
static void test_too_long(void **state)
{
	json_t *args, *json = json_pack("{ss, s[]}", "defaultAction",
					"SCMP_ACT_ERRNO", "syscalls");
	autofree char *text = NULL, *said = NULL;
	json_t *list = json_object_get(json, "syscalls");

	(void)state;
	for (int i = 1; i < 3000; i++) {
		args = json_pack("[{si, sI, ss}]", "index", 0, "value",
				 (json_int_t)i << 33 | i, "op", "SCMP_CMP_EQ");
		json_array_append_new(list, json_pack("{s[s], ss, so}", "names",
						      "getpriority", "action",
						      "SCMP_ACT_ALLOW", "args",
						      args));
	}
	text = json_dumps(json, 0);
	json_decref(json);
	said = complaint(text, -E2BIG);
	assert_non_null(strstr(said, "more than 4096 steps"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_default),
		cmocka_unit_test(test_kill),
		cmocka_unit_test(test_conditions),
		cmocka_unit_test(test_engine),
		cmocka_unit_test(test_none),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_too_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
