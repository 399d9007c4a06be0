/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bundle in two: what the host's runtime is given, and what the guest gets.
 * The bundles are those that engines have written.
 */
#include "tests/tempdir.h"
#include "tools/oci/oci.h"
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
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct oci_bundle paths = {
	.path = "/bundle",
	.program = "/usr/bin/bulkhead-runtime",
	.kernel = "/usr/lib/bulkhead/vmlinux",
	.vm = "/run/bulkhead-runtime/one/vm",
	.templates = "/var/lib/bulkhead/templates",
};

struct halves {
	json_t *host, *guest;
};

static int split(json_t *config, struct halves *halves)
{
	int r = oci_bundle_split(&paths, config, &halves->host, &halves->guest);

	json_decref(config);
	return r;
}

static void done(struct halves *halves)
{
	json_decref(halves->host);
	json_decref(halves->guest);
}

static json_t *load(const char *name)
{
	char path[512];
	json_t *json;

	snprintf(path, sizeof(path), "%s/tests/fuzz/corpus/spec/%s",
		 getenv("srcdir") ? getenv("srcdir") : ".", name);
	json = json_load_file(path, 0, NULL);
	assert_non_null(json);
	return json;
}

/* "a.b.2": the value there. */
static json_t *at(json_t *json, const char *path)
{
	char part[64];

	while (*path) {
		const size_t n = strcspn(path, ".");

		snprintf(part, sizeof(part), "%.*s", (int)n, path);
		json = json_is_array(json)
			       ? json_array_get(json, (size_t)atoi(part))
			       : json_object_get(json, part);
		path += n + (path[n] == '.');
	}
	return json;
}

static json_t *mount_on(json_t *json, const char *destination)
{
	json_t *mount, *found = NULL;
	size_t i;

	json_array_foreach(at(json, "mounts"), i, mount) {
		if (strcmp(json_string_value(at(mount, "destination")),
			   destination) == 0)
			found = mount;
	}
	return found;
}

static const char *text(json_t *json, const char *path)
{
	const char *value = json_string_value(at(json, path));

	return value ? value : "";
}

/* The guest's reader takes its half of each engine's bundle. */
static void test_engines(void **state)
{
	static const char *const names[] = {"runc.json", "crun.json",
					    "podman.json", "ctr.json"};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		struct halves h = {0};
		struct spec spec = {0};

		assert_int_equal(split(load(names[i]), &h), 0);
		assert_int_equal(spec_from_json(names[i], h.guest, &spec), 0);
		assert_string_equal(spec.root_path, "/");
		assert_true(spec.has_process);
		spec_done(&spec);
		assert_string_equal(text(h.host, "process.args.0"),
				    OCI_INSIDE_PROGRAM);
		assert_string_equal(text(h.host, "process.args.1"), "init");
		assert_int_equal(json_array_size(at(h.host, "process.args")),
				 2);
		assert_null(at(h.host, "linux.seccomp"));
		assert_null(at(h.host, "linux.maskedPaths"));
		assert_string_equal(
			text(mount_on(h.host, OCI_INSIDE_KERNEL), "source"),
			paths.kernel);
		assert_string_equal(
			text(mount_on(h.host, OCI_INSIDE_VM), "source"),
			paths.vm);
		assert_null(mount_on(h.guest, OCI_INSIDE_VM));
		assert_string_equal(
			text(mount_on(h.host, OCI_INSIDE_TEMPLATES), "source"),
			paths.templates);
		assert_null(mount_on(h.guest, OCI_INSIDE_TEMPLATES));
		assert_string_equal(text(mount_on(h.host, "/dev"), "type"),
				    "tmpfs");
		done(&h);
	}
}

static json_t *bundle(const char *rest)
{
	char all[4096];
	json_error_t error;
	json_t *json;

	snprintf(all, sizeof(all),
		 "{\"ociVersion\":\"1.0.2\",\"root\":{\"path\":\"rootfs\"},"
		 "\"process\":{\"args\":[\"sh\"],\"cwd\":\"/\"},%s}",
		 rest);
	json = json_loads(all, 0, &error);
	assert_non_null(json);
	return json;
}

/* A relative root is the bundle's; limits have room for the monitor. */
static void test_limits(void **state)
{
	struct halves h = {0};
	const json_int_t more = (json_int_t)OCI_OVERHEAD_BYTES;
	json_t *config = bundle(
		"\"linux\":{\"resources\":{\"memory\":{\"limit\":268435456,"
		"\"swap\":-1,\"reservation\":5},\"pids\":{\"limit\":7},"
		"\"cpu\":{\"shares\":512,\"quota\":200000,\"period\":100000}}"
		"}");

	(void)state;
	assert_int_equal(split(config, &h), 0);
	assert_string_equal(text(h.host, "root.path"), "/bundle/rootfs");
	assert_int_equal(
		json_integer_value(at(h.host, "linux.resources.memory.limit")),
		268435456 + more);
	assert_int_equal(
		json_integer_value(at(h.host, "linux.resources.memory.swap")),
		-1);
	assert_null(at(h.host, "linux.resources.pids"));
	assert_int_equal(
		json_integer_value(at(h.host, "linux.resources.cpu.shares")),
		512);
	assert_int_equal(
		json_integer_value(at(h.guest, "linux.resources.memory.limit")),
		268435456);
	assert_int_equal(
		json_integer_value(at(h.guest, "linux.resources.pids.limit")),
		7);
	assert_null(at(h.guest, "linux.resources.memory.reservation"));
	assert_null(at(h.guest, "linux.resources.cpu.shares"));
	done(&h);
}

static json_int_t raised(const char *memory, const char *key, bool member)
{
	json_error_t error;
	json_t *json = json_loads(memory, 0, &error);
	json_int_t n;

	assert_non_null(json);
	oci_bundle_raise(json, member);
	n = json_integer_value(json_object_get(json, key));
	json_decref(json);
	return n;
}

/* In another's machine only what is too little for this side's processes. */
static void test_raise(void **state)
{
	const json_int_t more = (json_int_t)OCI_OVERHEAD_BYTES;
	static const char small[] = "{\"limit\":8388608,\"swap\":16777216}";
	static const char large[] = "{\"limit\":536870912,\"swap\":536870912}";
	static const char none[] = "{\"limit\":-1,\"swap\":-1}";

	(void)state;
	assert_int_equal(raised(small, "limit", false), 8388608 + more);
	assert_int_equal(raised(small, "swap", false), 16777216 + more);
	assert_int_equal(raised(small, "limit", true), more);
	assert_int_equal(raised(small, "swap", true), 8388608 + more);
	assert_int_equal(raised(large, "limit", false), 536870912 + more);
	assert_int_equal(raised(large, "limit", true), 536870912);
	assert_int_equal(raised(large, "swap", true), 536870912);
	assert_int_equal(raised(none, "limit", true), -1);
	assert_int_equal(raised(none, "swap", false), -1);
	oci_bundle_raise(NULL, true);
}

/* As `docker update` sends it. */
static void test_drop_unset(void **state)
{
	json_t *resources = json_loads(
		"{\"memory\":{\"limit\":0,\"swap\":-1,\"kernel\":0,"
		"\"swappiness\":0},\"cpu\":{\"quota\":50000,\"shares\":0,"
		"\"cpus\":\"\"}}",
		0, NULL);
	json_t *left = json_loads("{\"memory\":{\"swap\":-1,\"swappiness\":0},"
				  "\"cpu\":{\"quota\":50000,\"cpus\":\"\"}}",
				  0, NULL);

	(void)state;
	oci_bundle_drop_unset(resources);
	assert_true(json_equal(resources, left));
	oci_bundle_drop_unset(NULL);
	json_decref(resources);
	json_decref(left);
}

/* In the outer container a bind's source is where it is mounted. */
static void test_mounts(void **state)
{
	struct halves h = {0};
	json_t *config = bundle(
		"\"mounts\":["
		"{\"destination\":\"/data\",\"type\":\"bind\",\"source\":\"/"
		"srv\","
		"\"options\":[\"rbind\",\"ro\"]},"
		"{\"destination\":\"/dev/shm\",\"type\":\"bind\","
		"\"source\":\"/x/shm\",\"options\":[\"rbind\"]},"
		"{\"destination\":\"/sys/fs/cgroup\",\"type\":\"cgroup\","
		"\"source\":\"cgroup\"}]");

	(void)state;
	assert_int_equal(split(config, &h), 0);
	assert_string_equal(text(mount_on(h.host, "/data"), "source"), "/srv");
	assert_string_equal(text(mount_on(h.guest, "/data"), "source"),
			    "/data");
	assert_null(mount_on(h.host, "/dev/shm"));
	assert_string_equal(text(mount_on(h.guest, "/dev/shm"), "type"),
			    "tmpfs");
	assert_null(mount_on(h.host, "/sys/fs/cgroup"));
	assert_non_null(mount_on(h.guest, "/sys/fs/cgroup"));
	done(&h);

	config = bundle("\"mounts\":[{\"destination\":\"/dev/snd\",\"type\":"
			"\"bind\",\"source\":\"/dev/snd\",\"options\":"
			"[\"bind\"]}]");
	assert_int_equal(split(config, &h), -ENOTSUP);
}

/* The engine's shared memory has a size, which the guest's has, too. */
static void test_shared_memory(void **state)
{
	static const char mount[] = "\"mounts\":[{\"destination\":\"/dev/shm\","
				    "\"type\":\"bind\",\"source\":\"%s\"}]";
	struct halves h = {0};
	struct statfs st;
	char wanted[64], part[256];

	(void)state;
	if (statfs("/dev/shm", &st) < 0 || st.f_type != TMPFS_MAGIC)
		skip();
	snprintf(wanted, sizeof(wanted), "size=%llu",
		 (unsigned long long)st.f_blocks *
			 (unsigned long long)st.f_bsize);
	/* A host's own says nothing about a container's. */
	snprintf(part, sizeof(part), mount, "/dev/shm");
	assert_int_equal(split(bundle(part), &h), 0);
	assert_string_equal(text(at(h.guest, "mounts.0"), "type"), "tmpfs");
	assert_null(at(h.guest, "mounts.0.options.3"));
	done(&h);
	snprintf(part, sizeof(part), mount, "/dev/shm/.");
	assert_int_equal(split(bundle(part), &h), 0);
	assert_string_equal(
		json_string_value(at(h.guest, "mounts.0.options.3")), wanted);
	done(&h);
}

static json_t *bind_of(const char *source)
{
	char text[512];

	snprintf(text, sizeof(text),
		 "\"mounts\":[{\"destination\":\"/data\",\"source\":\"%s\","
		 "\"options\":[\"bind\"]}]",
		 source);
	return bundle(text);
}

/* A guest is given files and directories; /dev/null hides a file. */
static void test_binds(void **state)
{
	char fifo[TEMPDIR_ROOM];
	struct halves h = {0};

	(void)state;
	assert_int_equal(split(bind_of("rel"), &h), 0);
	assert_string_equal(text(mount_on(h.host, "/data"), "source"),
			    "/bundle/rel");
	assert_string_equal(text(mount_on(h.guest, "/data"), "source"),
			    "/data");
	done(&h);
	assert_int_equal(split(bind_of("/dev/null"), &h), 0);
	assert_null(mount_on(h.guest, "/data"));
	assert_string_equal(text(h.guest, "linux.maskedPaths.0"), "/data");
	done(&h);
	assert_int_equal(split(bind_of("/dev/zero"), &h), -ENOTSUP);
	assert_int_equal(split(bind_of(""), &h), -EINVAL);
	tempdir_name(fifo);
	assert_non_null(mkdtemp(fifo));
	assert_int_equal(rmdir(fifo), 0);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_int_equal(split(bind_of(fifo), &h), -ENOTSUP);
	assert_int_equal(unlink(fifo), 0);
	assert_int_equal(split(bundle("\"mounts\":5"), &h), -EINVAL);
}

/* The guest refuses what it cannot do, and the host keeps what it can. */
static void test_kept(void **state)
{
	static const char *const refused[] = {
		"\"vm\":{\"kernel\":{\"path\":\"/x\"}}",
		"\"linux\":{\"personality\":{\"domain\":\"LINUX32\"}}",
		"\"linux\":{\"timeOffsets\":{\"boottime\":{\"secs\":1}}}",
		"\"domainname\":\"x\"",
	};
	struct halves h = {0};
	struct spec spec = {0};

	(void)state;
	assert_int_equal(
		split(bundle("\"linux\":{\"intelRdt\":{\"closID\":\"x\"}}"),
		      &h),
		0);
	assert_string_equal(text(h.host, "linux.intelRdt.closID"), "x");
	assert_null(at(h.guest, "linux.intelRdt"));
	done(&h);
	for (unsigned i = 0; i < ARRAY_LEN(refused); i++) {
		assert_int_equal(split(bundle(refused[i]), &h), 0);
		assert_int_equal(spec_from_json("x", h.guest, &spec), -ENOTSUP);
		done(&h);
	}
}

/* A file of an engine's is no device, wherever it is. */
static void test_file_in_dev(void **state)
{
	char file[TEMPDIR_ROOM], rest[512];
	struct halves h = {0};
	autofd int fd = -1;

	(void)state;
	tempdir_name(file);
	fd = mkstemp(file);
	assert_true(fd >= 0);
	snprintf(rest, sizeof(rest),
		 "\"mounts\":[{\"destination\":\"/dev/termination-log\","
		 "\"type\":\"bind\",\"source\":\"%s\",\"options\":"
		 "[\"rbind\"]}]",
		 file);
	assert_int_equal(split(bundle(rest), &h), 0);
	assert_string_equal(
		text(mount_on(h.host, "/dev/termination-log"), "source"), file);
	assert_string_equal(
		text(mount_on(h.guest, "/dev/termination-log"), "source"),
		"/dev/termination-log");
	done(&h);
	assert_int_equal(unlink(file), 0);
}

/* In another's machine: that one's files, namespaces, and no devices. */
static void test_pod(void **state)
{
	static const char joined[] =
		"\"linux\":{\"namespaces\":[{\"type\":\"pid\",\"path\":"
		"\"/proc/1/ns/pid\"}]}";
	const struct oci_bundle plain = paths;
	struct oci_bundle member = paths;
	struct halves h = {0};
	json_t *config = bundle(joined);

	(void)state;
	assert_int_equal(oci_bundle_split(&plain, config, &h.host, &h.guest),
			 -ENOTSUP);
	member.pod = "/run/bulkhead-runtime/own/vm";
	assert_int_equal(oci_bundle_split(&member, config, &h.host, &h.guest),
			 0);
	json_decref(config);
	assert_string_equal(text(h.host, "process.args.1"), "join");
	assert_string_equal(text(mount_on(h.host, OCI_INSIDE_POD), "source"),
			    member.pod);
	assert_string_equal(text(h.host, "linux.namespaces.0.path"),
			    "/proc/1/ns/pid");
	assert_null(at(h.guest, "linux.namespaces.0.path"));
	assert_null(at(h.host, "linux.devices"));
	assert_null(mount_on(h.guest, OCI_INSIDE_POD));
	done(&h);
}

/* An image has a link in a volume's place. */
static void test_sources(void **state)
{
	static const char *const bad[] = {
		"/",     "/dev",         OCI_INSIDE,        OCI_INSIDE_VM,
		"/proc", "/proc/1/attr", OCI_INSIDE_KERNEL, "/sys"};
	static const char *const good[] = {"/data", "/dev/shm/x", "/dev/.bulk",
					   "/proc2"};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(oci_bundle_check_source("/data", bad[i]),
				 -EPERM);
	for (unsigned i = 0; i < ARRAY_LEN(good); i++)
		assert_int_equal(oci_bundle_check_source("/data", good[i]), 0);
	assert_int_equal(
		oci_bundle_check_source("/proc/meminfo", "/proc/meminfo"), 0);
}

/* All devices are all of the guest's; one that is named is the reader's. */
static void test_devices(void **state)
{
	static const char all[] =
		"\"linux\":{\"devices\":[{\"path\":\"/dev/sda\",\"type\":\"b\","
		"\"major\":8,\"minor\":0}],\"resources\":{\"devices\":"
		"[{\"allow\":%s,\"access\":\"rwm\"}]}}";
	char some[512];
	struct halves h = {0};
	struct spec spec = {0};
	json_t *device;
	size_t i, kvm = 0;

	(void)state;
	snprintf(some, sizeof(some), all, "true");
	assert_int_equal(split(bundle(some), &h), 0);
	json_array_foreach(at(h.host, "linux.devices"), i, device) {
		assert_string_not_equal(text(device, "path"), "/dev/sda");
		kvm += strcmp(text(device, "path"), "/dev/kvm") == 0;
	}
	assert_int_equal(kvm, 1);
	assert_null(at(h.guest, "linux.devices"));
	done(&h);

	snprintf(some, sizeof(some), all, "false");
	assert_int_equal(split(bundle(some), &h), 0);
	assert_int_equal(spec_from_json("x", h.guest, &spec), -ENOTSUP);
	done(&h);
}

/* Engines write no limit as 2^64 - 1; `exec` finds it in the guest's half. */
static void test_numbers(void **state)
{
	static const char unlimited[] =
		"{\"ociVersion\":\"1.0.2\",\"root\":{\"path\":\"rootfs\"},"
		"\"process\":{\"args\":[\"sh\"],\"cwd\":\"/\",\"rlimits\":"
		"[{\"type\":\"RLIMIT_MEMLOCK\",\"hard\":18446744073709551615,"
		"\"soft\":18446744073709551615}]}}";
	char path[TEMPDIR_ROOM];
	struct halves h = {0};
	struct spec spec = {0};
	autofd int fd = -1;
	json_t *config;

	(void)state;
	tempdir_name(path);
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(util_write_all(fd, unlimited, strlen(unlimited)), 0);
	config = spec_load_file(path);
	assert_int_equal(unlink(path), 0);
	assert_non_null(config);
	assert_int_equal(split(config, &h), 0);
	assert_int_equal(spec_from_json("x", h.guest, &spec), 0);
	assert_int_equal(spec.process.nrlimits, 1);
	assert_true(spec.process.rlimits[0].hard == RLIM_INFINITY);
	assert_int_equal(
		json_integer_value(at(h.guest, "process.rlimits.0.hard")), -1);
	spec_done(&spec);
	done(&h);
	assert_null(spec_load_file(path));
}

/* Others' directories below --root stay, whatever an engine's id is. */
static void test_store(void **state)
{
	char root[TEMPDIR_ROOM];
	const struct oci oci = {.root = root};
	char path[512];

	(void)state;
	tempdir_name(root);
	assert_non_null(mkdtemp(root));
	assert_int_equal(oci_store_make(&oci, "one"), 0);
	assert_int_equal(oci_store_make(&oci, "one"), -EEXIST);
	snprintf(path, sizeof(path), "%s/one/vm/exec-1", root);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(oci_store_remove(&oci, "one"), 0);
	assert_int_equal(oci_store_remove(&oci, "one"), 0);

	snprintf(path, sizeof(path), "%s/two", root);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/two/file", root);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(oci_store_remove(&oci, "two"), -EEXIST);
	assert_int_equal(rmdir(path), 0);
	/* As `create` leaves it when it is killed early. */
	assert_int_equal(oci_store_remove(&oci, "two"), 0);
	assert_int_equal(rmdir(root), 0);
}

/* A process that is killed at the system call number CALL; false: it ended. */
static bool remove_until(const struct oci *oci, unsigned call)
{
	const pid_t pid = fork();
	int status;

	if (pid == 0) {
		(void)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		(void)raise(SIGSTOP);
		_exit(oci_store_remove(oci, "one") < 0);
	}
	assert_true(pid > 0);
	/* A call has two stops, before it and after it. */
	for (unsigned i = 0; i <= 2 * call; i++) {
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (WIFEXITED(status)) {
			assert_int_equal(WEXITSTATUS(status), 0);
			return false;
		}
		assert_true(WIFSTOPPED(status));
		assert_int_equal(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0);
	}
	(void)kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	while (!WIFEXITED(status) && !WIFSIGNALED(status))
		assert_int_equal(waitpid(pid, &status, 0), pid);
	return true;
}

/* Wherever `delete` is killed, the next one removes what is left. */
static void test_store_killed(void **state)
{
	static const char *const files[] = {"maker", "container.json", "exec-1",
					    "vm/spec.json",
					    "bundle/config.json"};
	char root[TEMPDIR_ROOM];
	const struct oci oci = {.root = root};
	unsigned call = 0;
	bool again;

	(void)state;
	tempdir_name(root);
	assert_non_null(mkdtemp(root));
	do {
		assert_int_equal(oci_store_make(&oci, "one"), 0);
		for (unsigned i = 0; i < ARRAY_LEN(files); i++) {
			char path[512];

			snprintf(path, sizeof(path), "%s/one/%s", root,
				 files[i]);
			close(creat(path, 0600));
		}
		again = remove_until(&oci, call++);
		assert_int_equal(oci_store_remove(&oci, "one"), 0);
	} while (again);
	assert_true(call > 10);
	assert_int_equal(rmdir(root), 0);
}

/* Engines look for the control group where runc has it; users may say where. */
static void test_group_of_systemd(void **state)
{
	static const char key[] = "run.oci.systemd.subgroup";
	struct halves h = {0};

	(void)state;
	assert_int_equal(split(bundle("\"annotations\":{\"a\":\"b\"}"), &h), 0);
	assert_string_equal(
		oci_text(json_object_get(h.host, "annotations"), "a"), "b");
	assert_non_null(
		json_object_get(json_object_get(h.host, "annotations"), key));
	assert_string_equal(
		oci_text(json_object_get(h.host, "annotations"), key), "");
	done(&h);
	assert_int_equal(
		split(bundle("\"annotations\":"
			     "{\"run.oci.systemd.subgroup\":\"mine\"}"),
		      &h),
		0);
	assert_string_equal(
		oci_text(json_object_get(h.host, "annotations"), key), "mine");
	done(&h);
}

/* One by one: refused by name, as no guest has them. */
static void test_refused(void **state)
{
	static const char *const parts[] = {
		"\"linux\":{\"namespaces\":[{\"type\":\"pid\",\"path\":"
		"\"/proc/7/ns/pid\"}]}",
		"\"linux\":{\"namespaces\":[{\"type\":\"ipc\",\"path\":"
		"\"/proc/7/ns/ipc\"}]}",
		"\"linux\":{\"resources\":{\"unified\":"
		"{\"memory.max\":\"1000000\"}}}",
		"\"linux\":{\"resources\":{\"unified\":"
		"{\"pids.max\":\"9\"}}}",
	};
	struct halves h = {0};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(parts); i++)
		assert_int_equal(split(bundle(parts[i]), &h), -ENOTSUP);
	assert_int_equal(split(bundle("\"linux\":{\"namespaces\":[{\"type\":"
				      "\"network\",\"path\":\"/x\"}]}"),
			       &h),
			 0);
	done(&h);
}

static void test_ids(void **state)
{
	char longest[257];

	(void)state;
	assert_int_equal(oci_check_id("a_b-c.D+9"), 0);
	assert_int_equal(oci_check_id(""), -EINVAL);
	assert_int_equal(oci_check_id(".."), -EINVAL);
	assert_int_equal(oci_check_id("a/b"), -EINVAL);
	assert_int_equal(oci_check_id("@host"), -EINVAL);
	memset(longest, 'x', sizeof(longest));
	longest[256] = '\0';
	assert_int_equal(oci_check_id(longest), -EINVAL);
	assert_int_equal(oci_check_id(longest + 1), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_engines),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_raise),
		cmocka_unit_test(test_drop_unset),
		cmocka_unit_test(test_mounts),
		cmocka_unit_test(test_devices),
		cmocka_unit_test(test_shared_memory),
		cmocka_unit_test(test_file_in_dev),
		cmocka_unit_test(test_pod),
		cmocka_unit_test(test_sources),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_store),
		cmocka_unit_test(test_store_killed),
		cmocka_unit_test(test_group_of_systemd),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_ids),
		cmocka_unit_test(test_binds),
		cmocka_unit_test(test_kept),
	};

	log_setup(LOG_ERROR, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
