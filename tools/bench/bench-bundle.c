/* SPDX-License-Identifier: Apache-2.0 */
/* The bundle that OCI runtimes get: as Docker would make it, but no network. */
#include "tools/bench/bench.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

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

int bench_bundle(const char *dir, const char *tree, char *const *command)
{
	autofree char *file = NULL;
	json_t *json;
	int r;

	if (mkdir(dir, 0700) < 0)
		return log_ret(-errno, "'%s': %s", dir, strerror(errno));
	if (asprintf(&file, "%s/config.json", dir) < 0) {
		file = NULL;
		return log_ret(-ENOMEM, "out of memory");
	}
	json = bundle_json(tree, command);
	r = json ? json_dump_file(json, file, 0) : -1;
	json_decref(json);
	return r < 0 ? log_ret(-EIO, "'%s' cannot be written", file) : 0;
}
