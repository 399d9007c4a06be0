/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which machine a container belongs to: by an engine's annotations or by its
 * network namespace; and how large a pod's machine is.
 */
#include "tests/agent.h"
#include "tests/patience.h"
#include "tests/tempdir.h"
#include "tools/agent/agent.h"
#include "tools/oci/oci.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <ftw.h>
#include <jansson.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* A state directory with the container "own", whose machine is this process. */
struct ctx {
	char root[TEMPDIR_ROOM];
	struct oci oci;
	int listen_fd;
};

static int bind_socket(struct ctx *ctx)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};

	ctx->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (snprintf(un.sun_path, sizeof(un.sun_path), "%s/own/vm/%s",
		     ctx->root, OCI_TREES_FILE) >= (int)sizeof(un.sun_path))
		return -1;
	(void)unlink(un.sun_path);
	return bind(ctx->listen_fd, (struct sockaddr *)&un, sizeof(un));
}

static int setup(void **state)
{
	struct ctx *ctx = calloc(1, sizeof(*ctx));
	autofree char *names = NULL;

	tempdir_name(ctx->root);
	if (!mkdtemp(ctx->root))
		return -1;
	ctx->oci.root = ctx->root;
	if (oci_store_make(&ctx->oci, "own") < 0)
		return -1;
	names = oci_path(&ctx->oci, "own", "vm/" OCI_NAMESPACES_FILE);
	if (oci_pod_save_namespaces(names) < 0)
		return -1;
	if (bind_socket(ctx) < 0 || listen(ctx->listen_fd, 16) < 0)
		return -1;
	*state = ctx;
	return 0;
}

static int teardown(void **state)
{
	struct ctx *ctx = *state;

	util_close(&ctx->listen_fd);
	assert_int_equal(oci_store_remove(&ctx->oci, "own"), 0);
	assert_int_equal(rmdir(ctx->root), 0);
	free(ctx);
	return 0;
}

/* With ANNOTATIONS, and the namespaces' paths where SHARED has their types. */
static json_t *config(const char *annotations, const char *shared)
{
	static const char *const types[][2] = {{"network", "net"},
					       {"ipc", "ipc"},
					       {"uts", "uts"},
					       {"pid", "pid"}};
	json_t *json = json_object(), *list = json_array();
	char text[512];

	for (unsigned i = 0; i < ARRAY_LEN(types); i++) {
		char path[32];

		snprintf(path, sizeof(path), "/proc/self/ns/%s", types[i][1]);
		json_array_append_new(
			list,
			strstr(shared, types[i][0])
				? json_pack("{s:s, s:s}", "type", types[i][0],
					    "path", path)
				: json_pack("{s:s}", "type", types[i][0]));
	}
	snprintf(text, sizeof(text), "{%s}", annotations);
	json_object_set_new(json, "annotations", json_loads(text, 0, NULL));
	json_object_set_new(json, "linux",
			    json_pack("{s:o}", "namespaces", list));
	return json;
}

static int find(const struct ctx *ctx, const char *annotations,
		const char *shared, struct oci_pod *ret)
{
	json_t *json = config(annotations, shared);
	int r = oci_pod_find(&ctx->oci, "two", json, ret);

	json_decref(json);
	if (r < 0)
		oci_pod_done(ret);
	return r;
}

static void test_by_annotations(void **state)
{
	static const char *const engines[] = {
		"\"io.kubernetes.cri.container-type\":\"container\","
		"\"io.kubernetes.cri.sandbox-id\":\"%s\"",
		"\"io.kubernetes.cri-o.ContainerType\":\"container\","
		"\"io.kubernetes.cri-o.SandboxID\":\"%s\"",
		"\"io.kubernetes.docker.type\":\"container\","
		"\"io.kubernetes.sandbox.id\":\"%s\"",
	};
	struct ctx *ctx = *state;
	struct oci_pod pod;

	for (unsigned i = 0; i < ARRAY_LEN(engines); i++) {
		char text[256];

		snprintf(text, sizeof(text), engines[i], "own");
		assert_int_equal(find(ctx, text, "network ipc", &pod), 0);
		assert_string_equal(pod.id, "own");
		assert_true(pod.ipc);
		assert_false(pod.uts || pod.pid);
		oci_pod_done(&pod);
		/* A network of its own is not the pod's. */
		assert_int_equal(find(ctx, text, "", &pod), -ENOTSUP);
		snprintf(text, sizeof(text), engines[i], "none");
		assert_int_equal(find(ctx, text, "network", &pod), -ENOENT);
		/* It shares nothing: a pod that no container owns. */
		assert_int_equal(find(ctx, text, "", &pod), 0);
		assert_null(pod.id);
		snprintf(text, sizeof(text), engines[i], "../own");
		assert_int_equal(find(ctx, text, "network", &pod), -EINVAL);
	}
}

static void test_by_network(void **state)
{
	struct ctx *ctx = *state;
	struct oci_pod pod;

	assert_int_equal(find(ctx, "", "", &pod), 0);
	assert_null(pod.id);
	assert_int_equal(find(ctx, "", "ipc uts pid", &pod), 0);
	assert_null(pod.id);
	assert_int_equal(find(ctx, "", "network uts pid", &pod), 0);
	assert_string_equal(pod.id, "own");
	assert_true(pod.uts && pod.pid);
	assert_false(pod.ipc);
	oci_pod_done(&pod);
	/* The first container of a pod has a machine of its own. */
	assert_int_equal(find(ctx,
			      "\"io.kubernetes.cri.container-type\":"
			      "\"sandbox\"",
			      "network", &pod),
			 0);
	assert_null(pod.id);
}

/* Not the machine's own: a guest could give one of its own instead. */
static void test_others(void **state)
{
	static const char *const types[] = {"ipc", "uts", "pid"};
	struct ctx *ctx = *state;
	struct oci_pod pod;

	for (unsigned i = 0; i < ARRAY_LEN(types); i++) {
		json_t *json = config("", "network");
		json_t *list = json_object_get(json_object_get(json, "linux"),
					       "namespaces");

		/* Behind that of the network. */
		json_array_set_new(list, i + 1,
				   json_pack("{s:s, s:s}", "type", types[i],
					     "path", "/proc/self/ns/mnt"));
		assert_int_equal(oci_pod_find(&ctx->oci, "two", json, &pod),
				 -ENOTSUP);
		oci_pod_done(&pod);
		json_decref(json);
	}
}

static const char in_own[] =
	"\"io.kubernetes.cri.container-type\":\"container\","
	"\"io.kubernetes.cri.sandbox-id\":\"own\"";

/* Its files are there, and it is not. */
static void test_dead(void **state)
{
	struct ctx *ctx = *state;
	json_t *none = json_object();
	struct oci_pod pod;

	util_close(&ctx->listen_fd);
	assert_int_equal(
		oci_store_write(&ctx->oci, "own", "vm/" OCI_STARTED_FILE, none),
		0);
	json_decref(none);
	assert_int_equal(find(ctx, "", "network", &pod), 0);
	assert_null(pod.id);
	assert_int_equal(find(ctx, in_own, "network", &pod), -ENOENT);
}

/* Its machine does not listen yet. */
static void test_starts(void **state)
{
	struct ctx *ctx = *state;
	struct oci_pod pod;
	pid_t pid;

	util_close(&ctx->listen_fd);
	assert_int_equal(bind_socket(ctx), 0);
	pid = fork();
	if (pid == 0) {
		usleep(200000);
		_exit(listen(ctx->listen_fd, 16) < 0);
	}
	assert_int_equal(find(ctx, in_own, "network", &pod), 0);
	assert_string_equal(pod.id, "own");
	oci_pod_done(&pod);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* NAME of the host's runtime's note of "own", which says its PID. */
static void note_process(const struct ctx *ctx, const char *name,
			 const char *key, pid_t pid)
{
	json_t *note = json_pack("{s:i}", key, (int)pid);
	autofree char *dir = oci_path(&ctx->oci, "@host", NULL);

	assert_int_equal(mkdir(dir, 0700), 0);
	assert_int_equal(oci_store_make(&(struct oci){.root = dir}, "own"), 0);
	assert_int_equal(oci_store_write(&ctx->oci, "@host/own", name, note),
			 0);
	json_decref(note);
}

static void forget_process(const struct ctx *ctx)
{
	autofree char *dir = oci_path(&ctx->oci, "@host", NULL);

	assert_int_equal(oci_store_remove(&(struct oci){.root = dir}, "own"),
			 0);
	assert_int_equal(rmdir(dir), 0);
}

/* No annotation tells of it, and it has not told its namespaces yet. */
static void test_starts_there(void **state)
{
	static const char *const notes[][2] = {
		{"state.json", "init_process_pid"}, {"status", "pid"}};
	struct ctx *ctx = *state;
	autofree char *names =
		oci_path(&ctx->oci, "own", "vm/" OCI_NAMESPACES_FILE);
	struct oci_pod pod;
	pid_t pid;

	for (unsigned i = 0; i < ARRAY_LEN(notes); i++) {
		note_process(ctx, notes[i][0], notes[i][1], getpid());
		util_close(&ctx->listen_fd);
		assert_int_equal(unlink(names), 0);
		assert_int_equal(bind_socket(ctx), 0);
		pid = fork();
		if (pid == 0) {
			usleep(200000);
			_exit(oci_pod_save_namespaces(names) < 0 ||
			      listen(ctx->listen_fd, 16) < 0);
		}
		assert_int_equal(find(ctx, "", "network", &pod), 0);
		assert_non_null(pod.id);
		assert_string_equal(pod.id, "own");
		oci_pod_done(&pod);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		forget_process(ctx);
	}
	/* Without that note it is nobody's. */
	assert_int_equal(unlink(names), 0);
	assert_int_equal(find(ctx, "", "network", &pod), 0);
	assert_null(pod.id);
}

/* Its process runs, on a host that has much else to do. */
static void test_starts_slowly(void **state)
{
	struct ctx *ctx = *state;
	const pid_t own = fork();
	struct oci_pod pod;
	pid_t pid;

	if (own == 0) {
		execlp("sleep", OCI_INSIDE_PROGRAM, "1000", NULL);
		_exit(1);
	}
	note_process(ctx, "state.json", "init_process_pid", own);
	util_close(&ctx->listen_fd);
	assert_int_equal(bind_socket(ctx), 0);
	pid = fork();
	if (pid == 0) {
		sleep(6);
		_exit(listen(ctx->listen_fd, 16) < 0);
	}
	assert_int_equal(find(ctx, in_own, "network", &pod), 0);
	assert_string_equal(pod.id, "own");
	oci_pod_done(&pod);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(kill(own, SIGKILL), 0);
	assert_int_equal(waitpid(own, NULL, 0), own);
	forget_process(ctx);
}

/* Its machine hangs: as many wait for it as can. */
static void test_hangs(void **state)
{
	struct ctx *ctx = *state;
	struct oci_pod pod;

	alarm(60);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(find(ctx, in_own, "network", &pod), 0);
		oci_pod_done(&pod);
	}
	alarm(0);
}

/* Odd files in a machine's directory hold up and mislead nobody. */
static void test_odd_files(void **state)
{
	struct ctx *ctx = *state;
	autofree char *names =
		oci_path(&ctx->oci, "own", "vm/" OCI_NAMESPACES_FILE);
	autofree char *other = oci_path(&ctx->oci, "own", "vm/other");
	json_t *json = json_pack("{s:s}", "machine", "../other");
	char *machine = NULL;
	struct oci_pod pod;

	assert_int_equal(rename(names, other), 0);
	assert_int_equal(symlink("other", names), 0);
	assert_int_equal(find(ctx, "", "network", &pod), 0);
	assert_null(pod.id);
	assert_int_equal(unlink(names), 0);
	assert_int_equal(mkfifo(names, 0600), 0);
	alarm(60);
	assert_int_equal(find(ctx, "", "network", &pod), 0);
	alarm(0);
	assert_null(pod.id);
	assert_int_equal(unlink(names), 0);
	assert_int_equal(rename(other, names), 0);
	assert_int_equal(truncate(names, INT64_C(1) << 40), 0);
	assert_int_equal(find(ctx, "", "network", &pod), 0);
	assert_null(pod.id);
	assert_int_equal(
		oci_store_write(&ctx->oci, "own", "vm/" OCI_POD_FILE, json), 0);
	assert_int_equal(oci_pod_machine(&ctx->oci, "own", &machine), -EINVAL);
	assert_null(machine);
	json_decref(json);
}

/*
 * In the place of the one that asks the host's runtime: all have this process,
 * and "new" has not been started.
 */
int oci_host_state(struct oci *oci, const char *id, json_t **ret)
{
	const bool runs = strcmp(id, "new") != 0;

	(void)oci;
	*ret = json_pack("{s:s, s:i}", "status", runs ? "running" : "created",
			 "pid", getpid());
	return *ret ? 0 : -ENOMEM;
}

static void make_member(struct ctx *ctx, const char *id)
{
	json_t *json = json_pack("{s:s}", "machine", "own");

	assert_int_equal(oci_store_make(&ctx->oci, id), 0);
	assert_int_equal(
		oci_store_write(&ctx->oci, id, "vm/" OCI_POD_FILE, json), 0);
	json_decref(json);
}

/* In a machine that is paused only what runs can be paused, too. */
static void test_pause(void **state)
{
	char word[] = "pause", old[] = "old", new[] = "new";
	char *pause_old[] = {word, old, NULL};
	char *pause_new[] = {word, new, NULL};
	struct ctx *ctx = *state;
	autofree char *paused = oci_path(&ctx->oci, "own", OCI_PAUSED_FILE);

	make_member(ctx, "old");
	make_member(ctx, "new");
	assert_int_equal(mkdir(paused, 0700), 0);
	assert_int_equal(oci_cmd_pause(&ctx->oci, 2, pause_old), 0);
	assert_true(oci_is_paused(&ctx->oci, "old"));
	assert_int_equal(oci_cmd_pause(&ctx->oci, 2, pause_new),
			 OCI_EXIT_FAILED);
	assert_false(oci_is_paused(&ctx->oci, "new"));
	assert_int_equal(oci_store_remove(&ctx->oci, "old"), 0);
	assert_int_equal(oci_store_remove(&ctx->oci, "new"), 0);
}

/* The guest of an agent's socket: "CONNECT" and greetings, once. */
static pid_t start_guest(int listen_fd)
{
	const struct agent_first hello = agent_first_words(AGENT_MAJOR);
	const pid_t pid = fork();
	char text[64];
	int fd;

	if (pid != 0)
		return pid;
	alarm(PATIENCE_MS / 1000);
	fd = accept(listen_fd, NULL, NULL);
	_exit(read(fd, text, sizeof(text)) <= 0 ||
	      util_write_all(fd, "OK 1\n", 5) < 0 ||
	      util_write_all(fd, &hello, sizeof(hello)) < 0 ||
	      read(fd, text, sizeof(text)) <= 0);
}

/* A link in the place of a machine's socket leads nowhere. */
static void test_socket(void **state)
{
	struct ctx *ctx = *state;
	autofree char *started =
		oci_path(&ctx->oci, "own", "vm/" OCI_STARTED_FILE);
	autofree char *name = oci_path(&ctx->oci, "own", "vm/" OCI_SOCKET_FILE);
	autofree char *trees = oci_path(&ctx->oci, "own", "vm/" OCI_TREES_FILE);
	struct pollfd pfd = {.fd = ctx->listen_fd, .events = POLLIN};
	struct agent_session *agent = NULL;
	const char *container;
	int status = -1;
	pid_t pid;

	assert_int_equal(mkdir(started, 0700), 0);
	assert_int_equal(symlink(OCI_TREES_FILE, name), 0);
	assert_int_equal(oci_agent(&ctx->oci, "own", &agent, &container),
			 -ECONNREFUSED);
	assert_int_equal(poll(&pfd, 1, 0), 0);
	assert_int_equal(rename(trees, name), 0);
	pid = start_guest(ctx->listen_fd);
	assert_int_equal(oci_agent(&ctx->oci, "own", &agent, &container), 0);
	assert_null(container);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	agent_free(agent);
}

static json_int_t number(json_t *guest, const char *part, const char *name)
{
	return json_integer_value(json_object_get(
		json_object_get(json_object_get(json_object_get(guest, "linux"),
						"resources"),
				part),
		name));
}

static void test_size(void **state)
{
	static const char sized[] =
		"\"io.kubernetes.cri.container-type\":\"sandbox\","
		"\"io.kubernetes.cri.sandbox-memory\":\"%s\","
		"\"io.kubernetes.cri.sandbox-cpu-quota\":\"%s\","
		"\"io.kubernetes.cri.sandbox-cpu-period\":\"100000\"";
	json_t *guest = json_object();
	char text[512];
	json_t *json;

	(void)state;
	snprintf(text, sizeof(text), sized, "1073741824", "150000");
	json = config(text, "");
	assert_true(oci_pod_is_sandbox(json));
	assert_int_equal(oci_pod_size(json, "/none", guest), 0);
	/* Whole CPUs, and room for the guest's kernel. */
	assert_int_equal(number(guest, "memory", "limit"),
			 1073741824 + (96 << 20));
	assert_int_equal(number(guest, "cpu", "quota"), 200000);
	assert_int_equal(number(guest, "cpu", "period"), 100000);
	json_decref(json);

	/* The sum of "500M" twice, and of more CPUs than a machine can have. */
	snprintf(text, sizeof(text), sized, "1000000000", "6400000");
	json = config(text, "");
	assert_int_equal(oci_pod_size(json, "/none", guest), 0);
	assert_int_equal(number(guest, "memory", "limit"),
			 244141 * 4096 + (96 << 20));
	assert_int_equal(number(guest, "cpu", "quota"),
			 CONFIG_CPUS_MAX * 100000);
	json_decref(json);

	/* No limit is known. */
	snprintf(text, sizeof(text), sized, "0", "-1");
	json = config(text, "");
	assert_int_equal(oci_pod_size(json, "/none", guest), 0);
	assert_int_equal(number(guest, "memory", "limit"),
			 (INT64_C(2) << 30) + (96 << 20));
	assert_true(number(guest, "cpu", "quota") >= 100000);
	assert_true(number(guest, "cpu", "quota") <= 400000);
	json_decref(json);

	snprintf(text, sizeof(text), sized, "1G", "0");
	json = config(text, "");
	assert_int_equal(oci_pod_size(json, "/none", guest), -EINVAL);
	json_decref(json);
	json_decref(guest);
}

/* Makes ROOT/PATH, whose last part is a file with TEXT in it. */
static void group_file(const char *root, const char *path, const char *text)
{
	char file[TEMPDIR_ROOM + 128];
	FILE *f;

	snprintf(file, sizeof(file), "%s/%s", root, path);
	for (char *p = file + strlen(root) + 1; (p = strchr(p, '/')); p++) {
		*p = '\0';
		assert_true(mkdir(file, 0755) == 0 || errno == EEXIST);
		*p = '/';
	}
	f = fopen(file, "w");
	assert_non_null(f);
	fprintf(f, "%s\n", text);
	assert_int_equal(fclose(f), 0);
}

static void expect_limits(const char *root, const char *path, uint64_t memory,
			  uint64_t quota, uint64_t period)
{
	struct oci_limits limits;

	oci_group_limits(root, path, &limits);
	assert_int_equal(limits.memory, memory);
	assert_int_equal(limits.quota, quota);
	assert_int_equal(limits.period, period);
}

static int remove_one(const char *path, const struct stat *st, int type,
		      struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int groups_setup(void **state)
{
	char *root = malloc(TEMPDIR_ROOM);

	tempdir_name(root);
	*state = root;
	return mkdtemp(root) ? 0 : -1;
}

static int groups_teardown(void **state)
{
	const int r = nftw(*state, remove_one, 8, FTW_DEPTH | FTW_PHYS);

	free(*state);
	return r;
}

static void test_groups(void **state)
{
	const char *root = *state;

	group_file(root, "g/pods/memory.max", "1000000000");
	group_file(root, "g/pods/cpu.max", "max 100000");
	group_file(root, "g/pods/one/memory.max", "200000000");
	group_file(root, "g/pods/one/cpu.max", "150000 100000");
	group_file(root, "g/pods/two/memory.max", "max");
	group_file(root, "g/pods/two/memory.high", "1");
	/* Its own group is not the one that says it. */
	group_file(root, "g/pods/one/id/memory.max", "1000");
	expect_limits(root, "/g/pods/one/id", 200000000, 150000, 100000);
	expect_limits(root, "/g/pods/two/id", 1000000000, 0, 0);
	expect_limits(root, "/g/pods/none/id", 1000000000, 0, 0);
	expect_limits(root, "/id", 0, 0, 0);
	expect_limits(root, "id", 0, 0, 0);
	expect_limits(root, "", 0, 0, 0);

	group_file(root, "a.slice/a-b.slice/memory.max", "300000000");
	group_file(root, "a.slice/a-b.slice/a-b-c.slice/cpu.max", "1 2");
	expect_limits(root, "a-b-c.slice:cri-containerd:id", 300000000, 1, 2);
	expect_limits(root, "a.slice:cri-containerd:id", 0, 0, 0);
	expect_limits(root, "-.slice:cri-containerd:id", 0, 0, 0);
	expect_limits(root, ":cri-containerd:id", 0, 0, 0);

	group_file(root, "memory/v1/memory.limit_in_bytes", "400000000");
	group_file(root, "memory/v1/x/memory.limit_in_bytes",
		   "9223372036854771712");
	group_file(root, "cpu/v1/x/cpu.cfs_quota_us", "50000");
	group_file(root, "cpu/v1/x/cpu.cfs_period_us", "100000");
	group_file(root, "cpu/v1/cpu.cfs_quota_us", "-1");
	group_file(root, "cpu/v1/cpu.cfs_period_us", "100000");
	expect_limits(root, "/v1/x/id", 400000000, 50000, 100000);
}

static void expect_size(const char *root, const char *group, int64_t memory,
			int64_t quota)
{
	static const char type[] =
		"\"io.kubernetes.cri.container-type\":\"sandbox\"";
	json_t *json = config(type, ""), *guest = json_object();
	json_t *part = json_object_get(json, "linux");

	assert_int_equal(
		json_object_set_new(part, "cgroupsPath", json_string(group)),
		0);
	assert_int_equal(oci_pod_size(json, root, guest), 0);
	assert_int_equal(number(guest, "memory", "limit"), memory);
	if (quota)
		assert_int_equal(number(guest, "cpu", "quota"), quota);
	json_decref(json);
	json_decref(guest);
}

/* An engine that says no size, but whose groups have limits. */
static void test_size_of_group(void **state)
{
	const int64_t whole = (INT64_C(2) << 30) + (96 << 20);
	const char *root = *state;

	group_file(root, "pod/memory.max", "268435456");
	group_file(root, "pod/cpu.max", "50000 100000");
	/* The monitor has its part of it. */
	expect_size(root, "/pod/id", (256 - 64) << 20, 100000);
	group_file(root, "pod/memory.max", "1048576");
	expect_size(root, "/pod/id", 128 << 20, 100000);
	group_file(root, "pod/memory.max", "1099511627776");
	expect_size(root, "/pod/id", whole, 100000);
	group_file(root, "pod/cpu.max", "6400000 100000");
	expect_size(root, "/pod/id", whole, 0);
}

static bool is_there(const char *root, const char *path)
{
	char file[TEMPDIR_ROOM + 128];

	snprintf(file, sizeof(file), "%s/%s", root, path);
	return access(file, F_OK) == 0;
}

static void make_dirs(const char *root, const char *path)
{
	char file[TEMPDIR_ROOM + 128];

	snprintf(file, sizeof(file), "%s/none", path);
	group_file(root, file, "");
	snprintf(file, sizeof(file), "%s/%s/none", root, path);
	assert_int_equal(unlink(file), 0);
}

/* Directories in place of groups: the kernel's have no files to speak of. */
/* The group is found in a process's list, /proc/PID/cgroup. */
static void test_group_opened(void **state)
{
	static const struct {
		const char *list;
		int r;
	} cases[] = {
		{"0::/one\n", 0},
		{"12:cpu:/other\n1:name=systemd:/\n0::/one\n", 0},
		{"0::/\n", -EXDEV},
		{"0::/../one\n", -EXDEV},
		{"0::/..\n", -EXDEV},
		{"0::/one (deleted)\n", -ENOENT},
		{"0::\n", -ENOENT},
		{"12:cpu:/one\n", -ENOENT},
		{"", -ENOENT},
	};
	const char *root = *state;
	char list[PATH_MAX];

	snprintf(list, sizeof(list), "%s/list", root);
	make_dirs(root, "one");
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		int fd = -1;

		group_file(root, "list", cases[i].list);
		assert_int_equal(oci_group_open(root, list, &fd), cases[i].r);
		assert_int_equal(fd >= 0, cases[i].r == 0);
		util_close(&fd);
	}
}

static void test_group_removed(void **state)
{
	const char *root = *state;

	make_dirs(root, "memory/a/id/inner/most");
	make_dirs(root, "memory/a/other");
	make_dirs(root, "cpu/a/id");
	assert_int_equal(oci_group_remove(root, "/a/id"), 0);
	assert_false(is_there(root, "memory/a/id"));
	assert_false(is_there(root, "cpu/a/id"));
	assert_true(is_there(root, "memory/a/other"));
	assert_int_equal(oci_group_remove(root, "/a/id"), 0);
	/* None that it says of its own. */
	assert_int_equal(oci_group_remove(root, ""), 0);
	assert_int_equal(oci_group_remove(root, "/"), 0);
	assert_int_equal(oci_group_remove(root, "a.slice:b:c"), 0);
	assert_int_equal(oci_group_remove(root, "/x/../a/other"), 0);
	assert_int_equal(oci_group_remove(root, "//"), 0);
	assert_int_equal(oci_group_remove(root, "/./"), 0);
	assert_int_equal(oci_group_remove(root, "/a/other/."), 0);
	assert_true(is_there(root, "memory/a/other"));
	assert_true(oci_group_exists(root, "/a/other"));
	assert_false(oci_group_exists(root, "/a/id"));
	assert_false(oci_group_exists(root, "//"));
	group_file(root, "cgroup.controllers", "memory");
	make_dirs(root, "a/id/inner");
	assert_true(oci_group_exists(root, "/a/id"));
	assert_false(oci_group_exists(root, "/a/other"));
	assert_int_equal(oci_group_remove(root, "/a/id"), 0);
	assert_false(is_there(root, "a/id"));
	assert_true(is_there(root, "memory/a/other"));
	/* A directory is not removed with a file in it. */
	group_file(root, "b/id/file", "");
	assert_int_equal(oci_group_remove(root, "/b/id"), -ENOTEMPTY);
}

/* One whose last process is killed meanwhile. */
static void test_group_busy(void **state)
{
	static const char *const roots[] = {"/sys/fs/cgroup",
					    "/sys/fs/cgroup/unified"};
	char name[64], dir[128] = "", file[160];
	const char *root = NULL;
	pid_t sleeper, killer;
	FILE *f;

	(void)state;
	snprintf(name, sizeof(name), "/bulkhead-test-%d", (int)getpid());
	for (unsigned i = 0; i < ARRAY_LEN(roots) && !root; i++) {
		if (!is_there(roots[i], "cgroup.controllers"))
			continue;
		snprintf(dir, sizeof(dir), "%s%s", roots[i], name);
		root = mkdir(dir, 0755) == 0 ? roots[i] : NULL;
	}
	if (!root)
		skip();
	sleeper = fork();
	if (sleeper == 0) {
		pause();
		_exit(0);
	}
	snprintf(file, sizeof(file), "%s/cgroup.procs", dir);
	f = fopen(file, "w");
	assert_non_null(f);
	fprintf(f, "%d\n", (int)sleeper);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(rmdir(dir), -1);
	killer = fork();
	if (killer == 0) {
		usleep(100000);
		kill(sleeper, SIGKILL);
		_exit(0);
	}
	assert_int_equal(oci_group_remove(root, name), 0);
	assert_int_equal(access(dir, F_OK), -1);
	assert_int_equal(waitpid(killer, NULL, 0), killer);
	assert_int_equal(waitpid(sleeper, NULL, 0), sleeper);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define GROUPS(f)                                                              \
	cmocka_unit_test_setup_teardown(f, groups_setup, groups_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_by_annotations),
		TEST(test_by_network),
		TEST(test_others),
		TEST(test_dead),
		TEST(test_starts),
		TEST(test_starts_there),
		TEST(test_starts_slowly),
		TEST(test_hangs),
		TEST(test_odd_files),
		TEST(test_pause),
		TEST(test_socket),
		cmocka_unit_test(test_size),
		GROUPS(test_groups),
		GROUPS(test_size_of_group),
		GROUPS(test_group_opened),
		GROUPS(test_group_removed),
		cmocka_unit_test(test_group_busy),
	};

	log_setup(LOG_ERROR, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
