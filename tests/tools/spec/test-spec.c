/* SPDX-License-Identifier: Apache-2.0 */
/* A container's description: read, written, refused. */
#include "tools/spec/spec.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define CHOWN_KILL ((UINT64_C(1) << 0) | (UINT64_C(1) << 5))

/* FN's messages on standard error. Allocated. */
static char *said_by(int (*fn)(const char *text), const char *text, int result)
{
	autofd int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	autofd int fd = memfd_create("said", MFD_CLOEXEC);
	char *said = calloc(1, 4096);
	int r;

	assert_true(saved >= 0 && fd >= 0);
	assert_non_null(said);
	assert_true(dup2(fd, STDERR_FILENO) >= 0);
	r = fn(text);
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	assert_true(pread(fd, said, 4095, 0) >= 0);
	assert_int_equal(r, result);
	return said;
}

static int read_spec(const char *text)
{
	struct spec spec = {0};
	int r = spec_read("config.json", text, strlen(text), &spec);

	spec_done(&spec);
	return r;
}

static int read_process(const char *text)
{
	struct spec_process process = {0};
	int r = spec_process_read("process.json", text, strlen(text), &process);

	spec_process_done(&process);
	return r;
}

static void load(const char *name, struct spec *ret)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/tests/fuzz/corpus/spec/%s",
		 getenv("srcdir") ? getenv("srcdir") : ".", name);
	assert_int_equal(spec_read_file(path, ret), 0);
}

/* As Docker writes it. */
static void test_docker(void **state)
{
	const struct spec_process *p;
	struct spec spec = {0};

	(void)state;
	load("docker.json", &spec);
	p = &spec.process;
	assert_string_equal(spec.root_path, "/var/lib/rootfs");
	assert_string_equal(spec.hostname, "c1");
	assert_true(spec.has_process && p->terminal);
	assert_int_equal(p->console_height, 24);
	assert_int_equal(p->user.additional_gids.count, 2);
	assert_string_equal(p->user.additional_gids.item[1], "10");
	assert_true(p->capabilities.bounding == CHOWN_KILL);
	assert_int_equal(p->nrlimits, 1);
	assert_int_equal(p->rlimits[0].type, RLIMIT_NOFILE);
	assert_int_equal(p->rlimits[0].soft, 1024);
	assert_true(p->rlimits[0].hard == RLIM_INFINITY);
	assert_int_equal(spec.nmounts, 2);
	assert_string_equal(spec.mounts[1].source, "/h");
	assert_string_equal(spec.mounts[1].options.item[1], "rprivate");
	assert_int_equal(spec.linux_part.namespaces, 0x3f);
	assert_string_equal(spec.linux_part.sysctl.item[0],
			    "net.ipv4.ip_unprivileged_port_start=0");
	assert_false(spec.linux_part.rules[0].allow);
	assert_int_equal(spec.linux_part.pids_limit, 0);
	assert_non_null(spec.linux_part.seccomp);
	spec_done(&spec);
}

/* The reader gets back what the writer was given. */
static void test_round_trip(void **state)
{
	static const char *const names[] = {
		"docker.json", "small.json", "podman.json",
		"ctr.json",    "crun.json",  "runc.json",
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		struct spec spec = {0}, again = {0};
		json_t *first, *second;

		load(names[i], &spec);
		first = spec_json(&spec);
		assert_non_null(first);
		assert_int_equal(spec_from_json("again", first, &again), 0);
		second = spec_json(&again);
		assert_true(json_equal(first, second));
		json_decref(first);
		json_decref(second);
		spec_done(&spec);
		spec_done(&again);
	}
}

/* Names that the container resolves, and bytes that JSON does not have. */
static void test_process(void **state)
{
	static const char text[] =
		"{\"user\": {\"username\": \"web\", \"additionalGids\": "
		"[7, \"audio\"]}, \"args\": [\"x\"], \"cwd\": \"/\"}";
	static const char both[] =
		"{\"user\": {\"uid\": 1000, \"gid\": 0, \"username\": "
		"\"root\"}, \"args\": [\"x\"], \"cwd\": \"/\"}";
	struct spec_process process = {0};
	char number[24];
	json_t *json;

	(void)state;
	assert_int_equal(spec_process_read("p", text, strlen(text), &process),
			 0);
	assert_string_equal(spec_user_text(&process.user, number), "web");
	assert_int_equal(text_list_add(&process.args, "\xff"), 0);
	spec_set_rlimit(&process, (struct spec_rlimit){RLIMIT_CORE, 1, 2});
	spec_set_rlimit(&process, (struct spec_rlimit){RLIMIT_CORE, 3, 4});
	assert_int_equal(process.nrlimits, 1);
	json = spec_process_json(&process);
	spec_process_done(&process);
	assert_string_equal(
		json_string_value(json_object_get(
			json_array_get(json_object_get(json, "args"), 1),
			"escaped")),
		"\\xff");
	assert_int_equal(
		json_integer_value(json_object_get(
			json_array_get(json_object_get(json, "rlimits"), 0),
			"soft")),
		3);
	json_decref(json);
	spec_process_done(&process);
	/* The numbers count, as for other runtimes. */
	assert_int_equal(spec_process_read("p", both, strlen(both), &process),
			 0);
	assert_string_equal(spec_user_text(&process.user, number), "1000:0");
	process.user.uid = 5;
	process.user.gid = 6;
	assert_string_equal(spec_user_text(&process.user, number), "5:6");
	spec_process_done(&process);
}

/* Odd settings that `run` accepts are readable when they were written. */
static void test_odd(void **state)
{
	struct spec_process process = {0}, again = {0};
	autofree char *text = NULL;
	json_t *json;

	(void)state;
	assert_int_equal(text_list_add(&process.args, ""), 0);
	process.user.has_umask = true;
	process.user.umask = 077;
	process.has_oom_score_adj = true;
	process.oom_score_adj = -7;
	assert_int_equal(text_list_add(&process.args, "b\xe4r \\xe4\n"), 0);
	assert_int_equal(text_list_add(&process.args, "\\xe4"), 0);
	assert_int_equal(text_list_add(&process.env, "A=\x01\xff"), 0);
	assert_int_equal(spec_set_text(&process.cwd, "/\xff"), 0);
	assert_int_equal(text_list_add(&process.user.additional_gids, ""), 0);
	assert_int_equal(text_list_add(&process.user.additional_gids, "0x10"),
			 0);
	spec_set_rlimit(&process,
			(struct spec_rlimit){RLIMIT_CORE, UINT64_C(1) << 63,
					     UINT64_MAX - 1});
	json = spec_process_json(&process);
	text = json_dumps(json, 0);
	assert_int_equal(spec_process_read("p", text, strlen(text), &again), 0);
	assert_string_equal(again.user.additional_gids.item[1], "0x10");
	assert_true(again.user.has_umask && again.has_oom_score_adj);
	assert_int_equal(again.user.umask, 077);
	assert_int_equal(again.oom_score_adj, -7);
	assert_string_equal(again.args.item[1], "b\xe4r \\xe4\n");
	assert_string_equal(again.args.item[2], "\\xe4");
	assert_string_equal(again.env.item[0], "A=\x01\xff");
	assert_string_equal(again.cwd, "/\xff");
	assert_true(again.rlimits[0].soft == RLIM_INFINITY);
	json_decref(json);
	spec_process_done(&process);
	spec_process_done(&again);
}

/* Large numbers change no others, and come back as they were. */
static void test_numbers(void **state)
{
	static const char text[] =
		"{\"ociVersion\": \"1.0.2\", \"root\": {\"path\": "
		"\"18446744073709551615, \\\"18446744073709551615\"}, "
		"\"process\": {\"args\": [\"x\"], \"cwd\": \"/\", "
		"\"rlimits\": [{\"type\": \"RLIMIT_CORE\", \"soft\": "
		"9007199254740993, \"hard\": 18446744073709551615}]}, "
		"\"linux\": {\"resources\": {\"memory\": {\"limit\": "
		"9007199254740995}}, \"seccomp\": {\"a\": "
		"9223372036854775807, \"b\": 9223372036854775808, \"c\": "
		"18446744073709551615, \"d\": -9223372036854775808}}}";
	const char *const large[] = {"9223372036854775808",
				     "18446744073709551615",
				     "9223372036854775807"};
	struct spec spec = {0};
	autofree char *written = NULL;
	autofree char *wide = NULL;
	json_t *json;

	(void)state;
	assert_int_equal(spec_read("f", text, strlen(text), &spec), 0);
	assert_string_equal(spec.root_path,
			    "18446744073709551615, \"18446744073709551615");
	assert_true(spec.process.rlimits[0].soft == 9007199254740993);
	assert_true(spec.process.rlimits[0].hard == RLIM_INFINITY);
	assert_true(spec.linux_part.memory_limit == 9007199254740995);
	json = json_object_get(spec.linux_part.seccomp, "c");
	assert_int_equal(json_integer_value(json), -1);
	written = json_dumps(spec.linux_part.seccomp, JSON_COMPACT);
	wide = spec_widen(written);
	for (unsigned i = 0; i < ARRAY_LEN(large); i++)
		assert_non_null(strstr(wide, large[i]));
	assert_null(strchr(wide, '-'));
	spec_done(&spec);
}

/* Messages name the key that is wrong, or that is not supported. */
#define SPEC "\"ociVersion\": \"1.0.2\", \"root\": {\"path\": \"r\"}"
#define RUNS "\"args\": [\"x\"], \"cwd\": \"/\""
static const struct refused {
	const char *text, *said;
	bool process;
	int result;
} refused[] = {
	{"{" SPEC "}", "", false, 0},
	{"{" SPEC ", \"hooks\": {\"prestart\": []}}", "", false, 0},
	{"{" SPEC ", \"domainname\": \"\"}", "", false, 0},
	{"{" SPEC ", \"hooks\": {\"prestart\": [{\"path\": \"/x\"}]}}",
	 "'config.json': hooks: is not supported", false, -ENOTSUP},
	{"{" SPEC ", \"linux\": {\"namespaces\": [{\"type\": "
	 "\"user\"}]}}",
	 "linux.namespaces[0]: supported are", false, -ENOTSUP},
	{"{" SPEC ", \"linux\": {\"namespaces\": [{\"type\": \"pid\", "
	 "\"path\": \"/proc/1/ns/pid\"}]}}",
	 "linux.namespaces[0].path: is not", false, -ENOTSUP},
	{"{" SPEC ", \"linux\": {\"resources\": {\"unified\": "
	 "{\"memory.high\": \"1\"}}}}",
	 "linux.resources.unified: is not", false, -ENOTSUP},
	{"{" SPEC ", \"linux\": {\"resources\": {\"devices\": "
	 "[{\"allow\": true, \"type\": \"c\", \"major\": 10, "
	 "\"minor\": 229, \"access\": \"rw\"}]}}}",
	 "", false, 0},
	{"{" SPEC ", \"linux\": {\"resources\": {\"devices\": "
	 "[{\"allow\": true, \"type\": \"p\"}]}}}",
	 "linux.resources.devices[0].type: supported", false, -ENOTSUP},
	{"{" SPEC ", \"linux\": {\"resources\": {\"devices\": "
	 "[{\"allow\": true, \"major\": 4096}]}}}",
	 "linux.resources.devices[0].major: expected", false, -EINVAL},
	{"{" SPEC ", \"linux\": {\"devices\": [{\"path\": "
	 "\"/dev/sda\", \"type\": \"b\", \"major\": 8, "
	 "\"minor\": 0}]}}",
	 "linux.devices[0]: '/dev/sda' is a device of", false, -ENOTSUP},
	{"{" SPEC ", \"linux\": {\"devices\": [{\"path\": "
	 "\"/dev/fuse\", \"type\": \"c\", \"major\": 10, "
	 "\"minor\": 229, \"fileMode\": 384, \"uid\": 5}]}}",
	 "", false, 0},
	{"{" SPEC ", \"linux\": {\"resources\": {\"cpu\": "
	 "{\"shares\": 512}}}}",
	 "linux.resources.cpu.shares: left out", false, 0},
	{"{" SPEC ", \"linux\": {\"resources\": {\"devices\": "
	 "[{\"allow\": false, \"access\": \"rwm\"}, "
	 "{\"allow\": false, \"type\": \"c\", \"major\": 1, "
	 "\"minor\": 3, \"access\": \"rwm\"}]}}}",
	 "", false, 0},
	{"{" SPEC ", \"linux\": {\"resources\": {\"devices\": "
	 "[{\"allow\": true, \"access\": \"rx\"}]}}}",
	 "linux.resources.devices[0].access: expected r", false, -EINVAL},
	{"{" SPEC ", \"linux\": {\"wall\": true}}",
	 "linux.wall: unknown, so refused", false, -EINVAL},
	{"{" SPEC ", \"new\": 1}", "new: unknown, so ignored", false, 0},
	{"{" SPEC ", \"mounts\": [{\"destination\": \"x\"}]}",
	 "mounts[0]: destination:", false, -EINVAL},
	{"{" SPEC ", \"mounts\": [{\"destination\": \"//.\"}]}",
	 "is not the root", false, -EINVAL},
	{"{" SPEC ", \"mounts\": [{\"destination\": \"/a/../b\"}]}",
	 "has no '..'", false, -EINVAL},
	{"{\"root\": {\"path\": \"r\"}}", "ociVersion", false, -EINVAL},
	{"{\"ociVersion\": \"1.0.2\"}", "root.path", false, -EINVAL},
	{"{" SPEC ", " SPEC "}", "line 1: duplicate", false, -EINVAL},
	{"[]", "'config.json': expected an object", false, -EINVAL},
	{"{", "'config.json': line 1:", false, -EINVAL},
	{"{" SPEC ", \"linux\": {\"resources\": {\"memory\": "
	 "{\"limit\": 18446744073709551616}}}}",
	 "'config.json': line 1:", false, -EINVAL},
	{"{" SPEC ", \"linux\": {\"resources\": {\"memory\": "
	 "{\"limit\": 9223372036854775808}}}}",
	 "memory.limit: expected a whole", false, -EINVAL},
	{"{" SPEC ", \"hostname\": {\"escaped\": \"a\\\\x00\"}}",
	 "hostname: expected \\xNN", false, -EINVAL},
	{"{" SPEC ", \"hostname\": {\"escaped\": \"a\", \"x\": 1}}",
	 "hostname: expected a string", false, -EINVAL},
	{"{" RUNS "}", "", true, 0},
	{"{\"cwd\": \"/\"}", "'process.json': args:", true, -EINVAL},
	{"{\"args\": [\"x\"], \"cwd\": \"y\"}", "cwd:", true, -EINVAL},
	{"{" RUNS ", \"apparmorProfile\": \"p\"}", "", true, 0},
	{"{" RUNS ", \"oomScoreAdj\": -500}", "", true, 0},
	{"{" RUNS ", \"oomScoreAdj\": 1001}",
	 "oomScoreAdj: expected -1000 to 1000", true, -EINVAL},
	{"{" RUNS ", \"ioPriority\": {\"class\": \"IOPRIO_CLASS_IDLE\"}}",
	 "ioPriority: is not", true, -ENOTSUP},
	{"{" RUNS ", \"user\": {\"uid\": 1, \"umask\": 63}}", "", true, 0},
	{"{" RUNS ", \"user\": {\"uid\": 1, \"umask\": 512}}",
	 "user.umask: expected a whole", true, -EINVAL},
	{"{" RUNS ", \"user\": {\"uid\": 4294967295}}", "user.uid:", true,
	 -EINVAL},
	{"{" RUNS ", \"capabilities\": {\"ambient\": [\"CAP_KILL\"]}}", "",
	 true, 0},
	{"{" RUNS ", \"user\": {\"uid\": 9}, \"capabilities\": "
	 "{\"ambient\": [\"CAP_KILL\"]}}",
	 "capabilities.ambient: those that are not", true, 0},
	{"{" RUNS ", \"capabilities\": {\"inheritable\": "
	 "[\"CAP_KILL\"]}}",
	 "capabilities.inheritable: has more", true, -EINVAL},
	{"{" RUNS ", \"user\": {\"uid\": 9}, \"capabilities\": "
	 "{\"effective\": [\"CAP_KILL\"]}}",
	 "capabilities.effective: has more", true, -EINVAL},
	{"{" RUNS ", \"capabilities\": {\"bounding\": [\"CAP_X\"]}}",
	 "capabilities.bounding[0]: no such", true, 0},
	{"{" RUNS ", \"rlimits\": [{\"type\": \"RLIMIT_CORE\", "
	 "\"soft\": 2, \"hard\": 1}]}",
	 "rlimits[0]: the soft limit", true, -EINVAL},
	{"{" RUNS ", \"rlimits\": [{\"type\": \"RLIMIT_X\"}]}",
	 "rlimits[0].type:", true, -EINVAL},
	{"{" RUNS ", \"rlimits\": [{\"type\": \"RLIMIT_CORE\"}, "
	 "{\"type\": \"RLIMIT_CORE\"}]}",
	 "rlimits[1]: is there twice", true, -EINVAL},
	{"{" RUNS ", \"terminal\": 1}", "terminal: expected", true, -EINVAL},
};

static void test_refused(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(refused); i++) {
		autofree char *said =
			said_by(refused[i].process ? read_process : read_spec,
				refused[i].text, refused[i].result);

		if (!strstr(said, refused[i].said) ||
		    (!refused[i].said[0] && said[0]))
			fail_msg("%s: said: %s", refused[i].text, said);
	}
}

static void test_files(void **state)
{
	struct spec spec = {0};

	(void)state;
	assert_int_equal(spec_read_file("/nowhere/config.json", &spec),
			 -ENOENT);
	assert_int_equal(spec_read_file("/dev/zero", &spec), -EFBIG);
	assert_int_equal(spec_read_file("/", &spec), -EISDIR);
}

static int setup(void **state)
{
	(void)state;
	log_setup(LOG_WARN, false);
	return 0;
}

static void test_destinations(void **state)
{
	static const char text[] =
		"{" SPEC ", \"mounts\": [{\"destination\": \"/dev/\"}, "
		"{\"destination\": \"//a/./b//c/.\"}]}";
	struct spec spec = {0};

	(void)state;
	assert_int_equal(spec_read("c", text, strlen(text), &spec), 0);
	assert_string_equal(spec.mounts[0].destination, "/dev");
	assert_string_equal(spec.mounts[1].destination, "/a/b/c");
	spec_done(&spec);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_docker),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_process),
		cmocka_unit_test(test_destinations),
		cmocka_unit_test(test_odd),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_files),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
