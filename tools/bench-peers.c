/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bulkhead, crun, runc and docker, each with the same root and command: for the
 * OCI runtimes a bundle, for docker an image made of the tree.
 */
#include "tools/bench.h"

#include "tools/text-list.h"
#include "vmm/log.h"
#include "vmm/util.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

extern char **environ;

int bench_spawn(char *const *argv, int err_fd)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t usual;
	int status, r;
	pid_t pid;

	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
	if (err_fd >= 0)
		posix_spawn_file_actions_adddup2(&files, err_fd, 2);
	else
		posix_spawn_file_actions_addopen(&files, 2, "/dev/null",
						 O_WRONLY, 0);
	posix_spawnattr_init(&attr);
	/* This program ignores it; others may count on it. */
	sigemptyset(&usual);
	sigaddset(&usual, SIGPIPE);
	posix_spawnattr_setsigdefault(&attr, &usual);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF);
	r = posix_spawnp(&pid, argv[0], &files, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attr);
	if (r != 0)
		return 255;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return 255;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

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

static int make_bulkhead(struct bench_peer *peer, const char *root,
			 char *const *command)
{
	const char *const head[] = {
		"/proc/self/exe", "run",   "--rm", "--network", "none",
		"--log-level",    "error", root,   "--",        NULL};
	struct text_list argv = {0};
	int r = text_list_add_all(&argv, head);

	if (r == 0)
		r = text_list_add_all(&argv, (const char *const *)command);
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
static int make_bundle(struct bench_peer *peer, const char *tree,
		       char *const *command)
{
	autofree char *file = NULL;
	json_t *json;
	int r;

	peer->bundle = strdup("/tmp/bulkhead-bench.XXXXXX");
	if (!peer->bundle || !mkdtemp(peer->bundle)) {
		free(peer->bundle);
		peer->bundle = NULL;
		return log_ret(-errno, "a directory in /tmp: %s",
			       strerror(errno));
	}
	if (asprintf(&file, "%s/config.json", peer->bundle) < 0)
		return log_ret(-ENOMEM, "out of memory");
	json = bundle_json(tree, command);
	r = json ? json_dump_file(json, file, 0) : -1;
	json_decref(json);
	return r < 0 ? log_ret(-EIO, "'%s' cannot be written", file) : 0;
}

static int make_oci(struct bench_peer *peer, const char *tree,
		    char *const *command)
{
	struct text_list argv = {0};
	char id[64];
	int r;

	if (!is_installed(peer->name))
		return leave_out(peer, "not installed");
	if (geteuid() != 0)
		return leave_out(peer, "needs root");
	r = make_bundle(peer, tree, command);
	if (r < 0)
		return r;
	snprintf(id, sizeof(id), "bulkhead-bench-%d", (int)getpid());
	r = text_list_add_all(
		&argv, (const char *const[]){peer->name, "run", "--bundle",
					     peer->bundle, id, NULL});
	peer->argv = argv.item;
	return r;
}

/* ---- docker */

/* tar's output is docker's input. */
static bool import(const char *tree, const char *image)
{
	autofree char *script = NULL;
	static char sh[] = "sh", c[] = "-c", name[] = "bulkhead-bench";

	if (asprintf(&script, "tar -C \"$1\" -c . | docker import - \"$2\"") <
	    0)
		return false;
	return bench_spawn((char *[]){sh, c, script, name, (char *)tree,
				      (char *)image, NULL},
			   -1) == 0;
}

static int make_docker(struct bench_peer *peer, const char *tree,
		       char *const *command)
{
	static char docker[] = "docker", info[] = "info";
	struct text_list argv = {0};
	char image[64];
	int r;

	if (!is_installed("docker"))
		return leave_out(peer, "not installed");
	if (bench_spawn((char *[]){docker, info, NULL}, -1) != 0)
		return leave_out(peer, "its daemon does not answer");
	snprintf(image, sizeof(image), "bulkhead-bench:%d", (int)getpid());
	if (!import(tree, image))
		return leave_out(peer, "'docker import' failed");
	peer->image = strdup(image);
	r = text_list_add_all(
		&argv, (const char *const[]){"docker", "run", "--rm",
					     "--network", "none", image, NULL});
	if (r == 0)
		r = text_list_add_all(&argv, (const char *const *)command);
	peer->argv = argv.item;
	return r;
}

/* ---- all */

int bench_peers_make(struct bench_peer peers[BENCH_PEERS], const char *root,
		     const char *tree, char *const *command)
{
	int r;

	peers[0].name = "bulkhead";
	peers[1].name = "crun";
	peers[2].name = "runc";
	peers[3].name = "docker";
	r = make_bulkhead(&peers[0], root, command);
	if (r == 0)
		r = make_oci(&peers[1], tree, command);
	if (r == 0)
		r = make_oci(&peers[2], tree, command);
	return r < 0 ? r : make_docker(&peers[3], tree, command);
}

static void remove_bundle(const char *dir)
{
	autofree char *file = NULL;

	if (asprintf(&file, "%s/config.json", dir) < 0)
		return;
	(void)unlink(file);
	(void)rmdir(dir);
}

void bench_peers_done(struct bench_peer peers[BENCH_PEERS])
{
	static char docker[] = "docker", rmi[] = "rmi";

	for (unsigned i = 0; i < BENCH_PEERS; i++) {
		struct bench_peer *peer = &peers[i];

		if (peer->bundle)
			remove_bundle(peer->bundle);
		if (peer->image)
			(void)bench_spawn(
				(char *[]){docker, rmi, peer->image, NULL}, -1);
		for (char **arg = peer->argv; arg && *arg; arg++)
			free(*arg);
		free(peer->argv);
		free(peer->why_not);
		free(peer->bundle);
		free(peer->image);
		free(peer->ms);
	}
}
