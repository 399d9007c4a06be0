/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bulkhead, OCI runtimes and engines, each with the same root and command: for
 * the runtimes a bundle, for docker an image made of the tree; podman takes the
 * tree. Engines run it with their own runtime and with bulkhead-runtime.
 */
#include "tools/bench/bench.h"

#include "tools/cli/text-list.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

/* Where an OCI runtime keeps its state, in the bundle's directory. */
#define BUNDLE_STATE "state"

static bool is_installed(const char *program)
{
	const char *path = getenv("PATH");

	while (path && *path) {
		size_t len = strcspn(path, ":");
		autofree char *file = NULL;

		if (asprintf(&file, "%.*s/%s", (int)len, path, program) < 0)
			return false;
		if (access(file, X_OK) == 0)
			return true;
		path += len + (path[len] == ':');
	}
	return false;
}

static int leave_out(struct bench_peer *peer, const char *why)
{
	peer->why_not = strdup(why);
	return peer->why_not ? 0 : log_ret(-ENOMEM, "out of memory");
}

/* ---- bulkhead */

static int make_bulkhead(struct bench_peer *peer, const struct bench_what *what)
{
	const char *const head[] = {
		"/proc/self/exe", "run",  "--cold",      "--rm",
		"--network",      "none", "--log-level", "error",
		what->root,       "--",   NULL};
	struct text_list argv = {0};
	int r = text_list_add_all(&argv, head);

	if (r == 0)
		r = text_list_add_all(&argv,
				      (const char *const *)what->command);
	peer->argv = argv.item;
	return r;
}

/* ---- crun and runc */

static json_t *list_json(const char *const *items)
{
	json_t *list = json_array();

	for (; items && *items; items++)
		json_array_append_new(list, json_string(*items));
	return list;
}

static json_t *process_json(char *const *command)
{
	/* Docker's usual ones. */
	static const char *const caps[] = {"CAP_CHOWN",
					   "CAP_DAC_OVERRIDE",
					   "CAP_FSETID",
					   "CAP_FOWNER",
					   "CAP_MKNOD",
					   "CAP_NET_RAW",
					   "CAP_SETGID",
					   "CAP_SETUID",
					   "CAP_SETFCAP",
					   "CAP_SETPCAP",
					   "CAP_NET_BIND_SERVICE",
					   "CAP_SYS_CHROOT",
					   "CAP_KILL",
					   "CAP_AUDIT_WRITE",
					   NULL};

	return json_pack("{s:b, s:{s:i, s:i}, s:o, s:[s], s:s, s:{s:o, s:o, "
			 "s:o}}",
			 "terminal", 0, "user", "uid", 0, "gid", 0, "args",
			 list_json((const char *const *)command), "env",
			 "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:"
			 "/usr/bin:/sbin:/bin",
			 "cwd", "/", "capabilities", "bounding",
			 list_json(caps), "effective", list_json(caps),
			 "permitted", list_json(caps));
}

static json_t *mounts_json(void)
{
	static const char *const mounts[][4] = {
		{"/proc", "proc", "proc", ""},
		{"/dev", "tmpfs", "tmpfs", "mode=755,size=65536k"},
		{"/dev/pts", "devpts", "devpts", "newinstance,ptmxmode=0666"},
		{"/dev/shm", "tmpfs", "shm", "mode=1777,size=65536k"},
		{"/sys", "sysfs", "sysfs", "ro"},
	};
	json_t *list = json_array();

	for (unsigned i = 0; i < ARRAY_LEN(mounts); i++) {
		autofree char *copy = strdup(mounts[i][3]);
		json_t *options = json_array();
		char *rest = NULL;

		json_array_append_new(options, json_string("nosuid"));
		for (char *word = strtok_r(copy, ",", &rest); word;
		     word = strtok_r(NULL, ",", &rest))
			json_array_append_new(options, json_string(word));
		json_array_append_new(
			list,
			json_pack("{s:s, s:s, s:s, s:o}", "destination",
				  mounts[i][0], "type", mounts[i][1], "source",
				  mounts[i][2], "options", options));
	}
	return list;
}

static json_t *bundle_json(const char *tree, char *const *command)
{
	static const char *const masked[] = {"/proc/kcore", "/proc/keys",
					     "/proc/timer_list",
					     "/sys/firmware", NULL};
	static const char *const readonly[] = {
		"/proc/bus",           "/proc/fs", "/proc/irq", "/proc/sys",
		"/proc/sysrq-trigger", NULL};

	return json_pack(
		"{s:s, s:o, s:{s:s, s:b}, s:s, s:o, s:{s:[{s:s},{s:s},{s:s},"
		"{s:s},{s:s}], s:o, s:o}}",
		"ociVersion", "1.0.2", "process", process_json(command), "root",
		"path", tree, "readonly", 1, "hostname", "bench", "mounts",
		mounts_json(), "linux", "namespaces", "type", "pid", "type",
		"network", "type", "ipc", "type", "uts", "type", "mount",
		"maskedPaths", list_json(masked), "readonlyPaths",
		list_json(readonly));
}

/* 0, or -errno, logged. */
static int make_bundle(struct bench_peer *peer, const struct bench_what *what)
{
	const char *tmp = getenv("TMPDIR");
	autofree char *file = NULL;
	json_t *json;
	int r;

	/* An absolute path, as crun starts in another mount namespace. */
	if (asprintf(&peer->bundle, "%s/bulkhead-bundle.XXXXXX",
		     tmp && tmp[0] == '/' ? tmp : "/tmp") < 0)
		peer->bundle = NULL;
	if (!peer->bundle || !mkdtemp(peer->bundle)) {
		free(peer->bundle);
		peer->bundle = NULL;
		return log_ret(-errno, "a temporary directory: %s",
			       strerror(errno));
	}
	if (asprintf(&file, "%s/config.json", peer->bundle) < 0)
		return log_ret(-ENOMEM, "out of memory");
	json = bundle_json(what->tree, what->command);
	r = json ? json_dump_file(json, file, 0) : -1;
	json_decref(json);
	return r < 0 ? log_ret(-EIO, "'%s' cannot be written", file) : 0;
}

/*
 * crun does not run where version 2 of cgroups is mounted beside version 1 and
 * has controllers; without that mount it does as on any host of version 1.
 */
static bool is_hybrid(void)
{
	static const char unified[] = "/sys/fs/cgroup/unified";
	autofd int fd = open("/sys/fs/cgroup/unified/cgroup.controllers",
			     O_RDONLY | O_CLOEXEC);
	struct statfs fs;
	char byte;

	return fd >= 0 && statfs(unified, &fs) == 0 &&
	       fs.f_type == CGROUP2_SUPER_MAGIC && read(fd, &byte, 1) == 1;
}

static int make_runtime(struct bench_peer *peer, const struct bench_what *what,
			const char *program, const char *option)
{
	autofree char *state = NULL;
	struct text_list argv = {0};
	char id[64];
	int r;

	if (geteuid() != 0)
		return leave_out(peer, "needs root");
	r = make_bundle(peer, what);
	if (r < 0)
		return r;
	if (asprintf(&state, "%s/" BUNDLE_STATE, peer->bundle) < 0) {
		state = NULL;
		return log_ret(-ENOMEM, "out of memory");
	}
	snprintf(id, sizeof(id), "bulkhead-bench-%d", (int)getpid());
	r = text_list_add_all(
		&argv, (const char *const[]){program, "--root", state, NULL});
	if (r == 0 && option)
		r = text_list_add(&argv, option);
	if (r == 0)
		r = text_list_add_all(
			&argv, (const char *const[]){"run", "--bundle",
						     peer->bundle, id, NULL});
	peer->argv = argv.item;
	return r;
}

static int make_oci(struct bench_peer *peer, const struct bench_what *what)
{
	return is_installed(peer->name)
		       ? make_runtime(peer, what, peer->name, NULL)
		       : leave_out(peer, "not installed");
}

/* The file of bulkhead-runtime beside this program's, or NULL. Allocated. */
static char *find_runtime(void)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *path;

	if (n <= 0)
		return NULL;
	self[n] = '\0';
	if (asprintf(&path, "%s-runtime", self) < 0)
		return NULL;
	if (access(path, X_OK) == 0)
		return path;
	free(path);
	return NULL;
}

static int make_own_runtime(struct bench_peer *peer,
			    const struct bench_what *what)
{
	autofree char *program = find_runtime();

	if (!program)
		return leave_out(peer, "not installed beside this program");
	if (!is_installed("runc") && !is_installed("crun"))
		return leave_out(peer, "neither runc nor crun is installed");
	return make_runtime(peer, what, program, "--cold");
}

static int make_crun(struct bench_peer *peer, const struct bench_what *what)
{
	int r = make_oci(peer, what);

	if (r < 0 || peer->why_not || !is_hybrid())
		return r;
	r = bench_without_hybrid();
	if (r < 0)
		return leave_out(peer, "does not run beside hybrid cgroups");
	peer->mount_ns = r;
	peer->note = "in a mount namespace without /sys/fs/cgroup/unified, as "
		     "it refuses hybrid cgroups";
	return 0;
}

/* ---- docker */

/* Output goes nowhere. The exit status. */
static int call(char *const *argv, struct bench_signals *signals)
{
	const struct bench_start start = {argv, -1, -1, signals};
	struct bench_end end;

	bench_spawn(&start, &end);
	return end.status;
}

/* tar's output is docker's input. */
static bool import(const struct bench_what *what, const char *image)
{
	static char script[] = "tar -C \"$1\" -c . | docker import - \"$2\"";
	static char sh[] = "sh", c[] = "-c", name[] = "bulkhead-bench";

	return call((char *[]){sh, c, script, name, (char *)what->tree,
			       (char *)image, NULL},
		    what->signals) == 0;
}

static int no_daemon(struct bench_peer *peer)
{
	const char *host = getenv("DOCKER_HOST");

	if (asprintf(&peer->why_not, "no daemon at %s: start it to compare",
		     host ? host : "unix:///var/run/docker.sock") < 0)
		peer->why_not = NULL;
	return peer->why_not ? 0 : log_ret(-ENOMEM, "out of memory");
}

/* Whether the daemon calls a runtime of this name. */
static bool knows_runtime(const char *name, struct bench_signals *signals)
{
	static char script[] =
		"docker info --format '{{range $n, $r := .Runtimes}}{{$n}}\n"
		"{{end}}' | grep -qx \"$1\"";
	static char sh[] = "sh", c[] = "-c", self[] = "bulkhead-bench";

	return call((char *[]){sh, c, script, self, (char *)name, NULL},
		    signals) == 0;
}

/* RUNTIME: the name that the daemon has for it; NULL: its own. */
static int make_docker_with(struct bench_peer *peer,
			    const struct bench_what *what, const char *runtime)
{
	static char docker[] = "docker", version[] = "version";
	struct text_list argv = {0};
	char image[64];
	int r;

	if (!is_installed("docker"))
		return leave_out(peer, "not installed");
	if (call((char *[]){docker, version, NULL}, what->signals) != 0)
		return no_daemon(peer);
	if (runtime && !knows_runtime(runtime, what->signals))
		return leave_out(peer, "its daemon has no runtime 'bulkhead' "
				       "(docs/ENGINES)");
	snprintf(image, sizeof(image), "bulkhead-bench%s:%d",
		 runtime ? "-runtime" : "", (int)getpid());
	if (!import(what, image))
		return leave_out(peer, "'docker import' failed");
	peer->image = strdup(image);
	peer->note = "its daemon does the work: the CPU time is its client's";
	r = text_list_add_all(&argv,
			      (const char *const[]){"docker", "run", "--rm",
						    "--network", "none", NULL});
	if (r == 0 && runtime)
		r = text_list_add_all(
			&argv,
			(const char *const[]){"--runtime", runtime, NULL});
	if (r == 0)
		r = text_list_add(&argv, image);
	if (r == 0)
		r = text_list_add_all(&argv,
				      (const char *const *)what->command);
	peer->argv = argv.item;
	return r;
}

static int make_docker(struct bench_peer *peer, const struct bench_what *what)
{
	return make_docker_with(peer, what, NULL);
}

static int make_docker_bulkhead(struct bench_peer *peer,
				const struct bench_what *what)
{
	return make_docker_with(peer, what, "bulkhead");
}

/* ---- podman */

static int make_podman_with(struct bench_peer *peer,
			    const struct bench_what *what, const char *runtime)
{
	struct text_list argv = {0};
	int r;

	if (!is_installed("podman"))
		return leave_out(peer, "not installed");
	r = text_list_add(&argv, "podman");
	if (r == 0 && runtime)
		r = text_list_add_all(
			&argv,
			(const char *const[]){"--runtime", runtime,
					      "--runtime-flag", "cold", NULL});
	if (r == 0)
		r = text_list_add_all(
			&argv,
			(const char *const[]){"run", "--rm", "--network",
					      "none", "--read-only", "--rootfs",
					      what->tree, NULL});
	if (r == 0)
		r = text_list_add_all(&argv,
				      (const char *const *)what->command);
	peer->argv = argv.item;
	return r;
}

static int make_podman(struct bench_peer *peer, const struct bench_what *what)
{
	return make_podman_with(peer, what, NULL);
}

static int make_podman_bulkhead(struct bench_peer *peer,
				const struct bench_what *what)
{
	autofree char *program = find_runtime();

	return program ? make_podman_with(peer, what, program)
		       : leave_out(peer, "bulkhead-runtime is not installed "
					 "beside this program");
}

/* ---- all */

static const struct {
	const char *name;
	int (*make)(struct bench_peer *, const struct bench_what *);
} makers[BENCH_PEERS] = {
	{"bulkhead", make_bulkhead}, {"bulkhead-runtime", make_own_runtime},
	{"crun", make_crun},         {"runc", make_oci},
	{"docker", make_docker},     {"docker+bulkhead", make_docker_bulkhead},
	{"podman", make_podman},     {"podman+bulkhead", make_podman_bulkhead},
};

bool bench_knows(const char *only)
{
	while (*only) {
		const size_t len = strcspn(only, ",");
		unsigned i = 0;

		while (i < BENCH_PEERS &&
		       (strlen(makers[i].name) != len ||
			strncmp(only, makers[i].name, len) != 0))
			i++;
		if (i == BENCH_PEERS)
			return false;
		only += len + (only[len] == ',');
	}
	return true;
}

/* ONLY: names with commas between; NULL: all. Bulkhead is what it is about. */
static bool is_wanted(const char *only, const char *name)
{
	const size_t n = strlen(name);

	if (!only || strcmp(name, "bulkhead") == 0)
		return true;
	for (; *only; only += only[0] == ',') {
		const size_t len = strcspn(only, ",");

		if (len == n && strncmp(only, name, n) == 0)
			return true;
		only += len;
	}
	return false;
}

int bench_peers_make(struct bench_peer peers[BENCH_PEERS],
		     const struct bench_what *what)
{
	int r = 0;

	for (unsigned i = 0; i < BENCH_PEERS; i++)
		peers[i] = (struct bench_peer){
			.name = makers[i].name,
			.mount_ns = -1,
		};
	for (unsigned i = 0; r == 0 && i < BENCH_PEERS; i++)
		r = is_wanted(what->only, makers[i].name)
			    ? makers[i].make(&peers[i], what)
			    : leave_out(&peers[i], "left out by --only");
	return r;
}

static void remove_bundle(const char *dir)
{
	autofd int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

	(void)unlinkat(fd, "config.json", 0);
	/* bulkhead-runtime's has the host's runtime's in it. */
	(void)unlinkat(fd, BUNDLE_STATE "/@host", AT_REMOVEDIR);
	(void)unlinkat(fd, BUNDLE_STATE, AT_REMOVEDIR);
	(void)rmdir(dir);
}

void bench_peers_done(struct bench_peer peers[BENCH_PEERS],
		      struct bench_signals *signals)
{
	static char docker[] = "docker", rmi[] = "rmi";

	for (unsigned i = 0; i < BENCH_PEERS; i++) {
		struct bench_peer *peer = &peers[i];

		if (peer->bundle)
			remove_bundle(peer->bundle);
		if (peer->image)
			(void)call((char *[]){docker, rmi, peer->image, NULL},
				   signals);
		for (char **arg = peer->argv; arg && *arg; arg++)
			free(*arg);
		util_close(&peer->mount_ns);
		free(peer->argv);
		free(peer->why_not);
		free(peer->bundle);
		free(peer->image);
		free(peer->ms);
		free(peer->cpu_ms);
	}
}
