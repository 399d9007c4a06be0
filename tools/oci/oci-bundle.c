/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bundle in two: what the host's runtime makes of it is an ordinary container
 * around the monitor; all that is about the process itself is the guest's.
 */
#include "tools/oci/oci.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <jansson.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

/*
 * The monitor has these while it starts: it reads and writes the container's
 * files for whatever user the guest says (CHOWN to SETUID, MKNOD), takes the
 * root without what is mounted on it (SYS_ADMIN), and joins its networks
 * (NET_ADMIN). Before the guest runs it gives up all but the first ones.
 */
static const struct {
	const char *name;
	int number;
} monitor_caps[] = {
	{"CAP_CHOWN", 0},           {"CAP_DAC_OVERRIDE", 1},
	{"CAP_DAC_READ_SEARCH", 2}, {"CAP_FOWNER", 3},
	{"CAP_FSETID", 4},          {"CAP_SETGID", 6},
	{"CAP_SETUID", 7},          {"CAP_LINUX_IMMUTABLE", 9},
	{"CAP_NET_ADMIN", 12},      {"CAP_SYS_ADMIN", 21},
	{"CAP_MKNOD", 27},          {"CAP_SETFCAP", 31},
};

#define KVM_MINOR 232
#define TUN_MINOR 200

/* ---- small things */

/* The object NAME of JSON, made where there is none; borrowed. NULL: no
 * memory. */
static json_t *sub_object(json_t *json, const char *name)
{
	json_t *sub = json_object_get(json, name);

	if (json_is_object(sub))
		return sub;
	sub = json_object();
	return json_object_set_new(json, name, sub) == 0 ? sub : NULL;
}

static json_t *sub_array(json_t *json, const char *name)
{
	json_t *sub = json_object_get(json, name);

	if (json_is_array(sub))
		return sub;
	sub = json_array();
	return json_object_set_new(json, name, sub) == 0 ? sub : NULL;
}

const char *oci_text(json_t *json, const char *name)
{
	const char *text = json_string_value(json_object_get(json, name));

	return text ? text : "";
}

json_t *oci_namespace(json_t *config, const char *type)
{
	json_t *list =
		json_object_get(json_object_get(config, "linux"), "namespaces");
	json_t *ns;
	size_t i;

	json_array_foreach(list, i, ns) {
		if (strcmp(oci_text(ns, "type"), type) == 0)
			return ns;
	}
	return NULL;
}

static void remove_keys(json_t *json, const char *const *names)
{
	for (; *names; names++)
		(void)json_object_del(json, *names);
}

static int no_memory(void)
{
	return log_ret(-ENOMEM, "out of memory");
}

static bool has_option(json_t *mount, const char *option)
{
	json_t *options = json_object_get(mount, "options");
	json_t *value;
	size_t i;

	json_array_foreach(options, i, value) {
		if (json_is_string(value) &&
		    strcmp(json_string_value(value), option) == 0)
			return true;
	}
	return false;
}

static bool is_bind(json_t *mount)
{
	return strcmp(oci_text(mount, "type"), "bind") == 0 ||
	       has_option(mount, "bind") || has_option(mount, "rbind");
}

bool oci_is_below(const char *path, const char *dir)
{
	const size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && (path[n] == '/' || !path[n]);
}

/* One that can be in a machine: no device, but what engines put there. */
static bool is_file_bind(json_t *mount)
{
	const char *source = oci_text(mount, "source");
	struct stat st;

	return is_bind(mount) && stat(source, &st) == 0 &&
	       (S_ISREG(st.st_mode) ||
		(S_ISDIR(st.st_mode) && !oci_is_below(source, "/dev"))) &&
	       strcmp(oci_text(mount, "destination"), "/dev/shm") != 0;
}

/* ---- the host's half */

static json_t *make_caps(void)
{
	json_t *list = json_array();

	for (unsigned i = 0; list && i < ARRAY_LEN(monitor_caps); i++)
		if (prctl(PR_CAPBSET_READ, monitor_caps[i].number) == 1)
			(void)json_array_append_new(
				list, json_string(monitor_caps[i].name));
	return json_pack("{s:O, s:O, s:o}", "bounding", list, "permitted", list,
			 "effective", list);
}

/* As many descriptors as there may be: the guest's open files are ours. */
static json_t *make_rlimits(void)
{
	struct rlimit limit = {1024, 1024};

	(void)getrlimit(RLIMIT_NOFILE, &limit);
	return json_pack("[{s:s, s:I, s:I}]", "type", "RLIMIT_NOFILE", "hard",
			 (json_int_t)limit.rlim_max, "soft",
			 (json_int_t)limit.rlim_cur);
}

json_t *oci_bundle_process(json_t *process, const char *const *args)
{
	json_t *host = json_pack(
		"{s:b, s:{s:i, s:i}, s:[s, s], s:[s], s:s, s:o, s:o, s:b}",
		"terminal", json_is_true(json_object_get(process, "terminal")),
		"user", "uid", 0, "gid", 0, "args", OCI_INSIDE_PROGRAM, args[0],
		"env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "cwd", "/",
		"capabilities", make_caps(), "rlimits", make_rlimits(),
		"noNewPrivileges", 1);
	static const char *const kept[] = {"consoleSize", "oomScoreAdj",
					   "selinuxLabel"};
	const char *limit = getenv("BULKHEAD_TEMPLATES");
	json_t *list = json_object_get(host, "args");
	autofree char *variable = NULL;

	if (host && limit &&
	    asprintf(&variable, "BULKHEAD_TEMPLATES=%s", limit) >= 0)
		(void)json_array_append_new(json_object_get(host, "env"),
					    json_string(variable));
	if (!host) {
		(void)no_memory();
		return NULL;
	}
	for (unsigned i = 1; args[i]; i++)
		(void)json_array_append_new(list, json_string(args[i]));
	for (unsigned i = 0; i < ARRAY_LEN(kept); i++) {
		json_t *value = json_object_get(process, kept[i]);

		if (value)
			(void)json_object_set(host, kept[i], value);
	}
	return host;
}

/*
 * In a user namespace a mount has to keep what it is forbidden where it comes
 * from: "noexec", which is usual for /run.
 */
static int add_bind(json_t *mounts, const char *source, const char *to,
		    bool readonly)
{
	json_t *mount =
		json_pack("{s:s, s:s, s:s, s:[s, s, s, s]}", "destination", to,
			  "type", "bind", "source", source, "options", "bind",
			  readonly ? "ro" : "rw", "nosuid", "nodev");
	struct statvfs st;

	if (mount && statvfs(source, &st) == 0 && (st.f_flag & ST_NOEXEC))
		(void)json_array_append_new(json_object_get(mount, "options"),
					    json_string("noexec"));
	return mount && json_array_append_new(mounts, mount) == 0 ? 0
								  : no_memory();
}

/* An own /dev, whatever the bundle has there: the guest has another one. */
static int add_dev(json_t *mounts)
{
	json_t *mount =
		json_pack("{s:s, s:s, s:s, s:[s, s, s, s]}", "destination",
			  "/dev", "type", "tmpfs", "source", "tmpfs", "options",
			  "nosuid", "strictatime", "mode=755", "size=1m");

	return mount && json_array_append_new(mounts, mount) == 0 ? 0
								  : no_memory();
}

/* A relative source is the bundle's, not of the one that is made of it. */
static int complete_source(json_t *mount, const struct oci_bundle *bundle)
{
	const char *source = oci_text(mount, "source");
	autofree char *whole = NULL;

	if (source[0] == '/')
		return 0;
	if (!source[0])
		return log_ret(-EINVAL,
			       "mount on '%s': a bind mount needs a source",
			       oci_text(mount, "destination"));
	if (asprintf(&whole, "%s/%s", bundle->path, source) < 0) {
		whole = NULL;
		return no_memory();
	}
	return json_object_set_new(mount, "source", json_string(whole)) == 0
		       ? 0
		       : no_memory();
}

/*
 * All of the bundle's mounts are made in the outer container, too, so that the
 * root gets its mount points and programs of the host find what they expect;
 * but for those below /dev, the guest's, and for cgroups.
 */
static int make_host_mounts(json_t *host, const struct oci_bundle *bundle)
{
	json_t *given = json_object_get(host, "mounts");
	json_t *mounts = json_array();
	json_t *mount;
	size_t i;
	int r = mounts ? add_dev(mounts) : no_memory();

	if (given && !json_is_array(given))
		r = log_ret(-EINVAL, "mounts: expected a list");

	json_array_foreach(given, i, mount) {
		const char *to = oci_text(mount, "destination");
		const char *type = oci_text(mount, "type");

		if ((oci_is_below(to, "/dev") && strcmp(to, "/dev/pts") != 0 &&
		     !is_file_bind(mount)) ||
		    strcmp(type, "cgroup") == 0 || strcmp(type, "cgroup2") == 0)
			continue;
		if (r == 0 && is_bind(mount))
			r = complete_source(mount, bundle);
		if (r == 0 && json_array_append(mounts, mount) < 0)
			r = no_memory();
	}
	if (r == 0)
		r = add_bind(mounts, bundle->program, OCI_INSIDE_PROGRAM, true);
	if (r == 0)
		r = add_bind(mounts, bundle->kernel, OCI_INSIDE_KERNEL, true);
	if (r == 0)
		r = add_bind(mounts, bundle->vm, OCI_INSIDE_VM, false);
	if (r == 0 && bundle->pod)
		r = add_bind(mounts, bundle->pod, OCI_INSIDE_POD, false);
	if (r == 0 && bundle->templates)
		r = add_bind(mounts, bundle->templates, OCI_INSIDE_TEMPLATES,
			     false);
	if (r == 0 && json_object_set(host, "mounts", mounts) < 0)
		r = no_memory();
	json_decref(mounts);
	return r;
}

static int add_device(json_t *linux_part, json_t *rules, const char *path,
		      int minor)
{
	json_t *devices = sub_array(linux_part, "devices");
	json_t *device =
		json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:i}", "path", path,
			  "type", "c", "major", 10, "minor", minor, "fileMode",
			  0600, "uid", 0, "gid", 0);
	json_t *rule =
		json_pack("{s:b, s:s, s:i, s:i, s:s}", "allow", 1, "type", "c",
			  "major", 10, "minor", minor, "access", "rwm");

	if (!devices || json_array_append_new(devices, device) < 0 ||
	    json_array_append_new(rules, rule) < 0)
		return no_memory();
	return 0;
}

/* NAME of MEMORY, where it limits anything, is by MORE bytes higher. */
static void raise_limit(json_t *memory, const char *name, json_int_t more)
{
	json_t *value = json_object_get(memory, name);
	const json_int_t limit = json_integer_value(value);

	if (limit > 0 && limit < INT64_MAX - more)
		(void)json_object_set_new(memory, name,
					  json_integer(limit + more));
}

void oci_bundle_drop_unset(json_t *resources)
{
	static const struct {
		const char *part, *key;
	} list[] = {
		{"memory", "limit"},       {"memory", "swap"},
		{"memory", "reservation"}, {"memory", "kernel"},
		{"memory", "kernelTCP"},   {"cpu", "shares"},
		{"cpu", "quota"},          {"cpu", "period"},
		{"cpu", "realtimePeriod"}, {"cpu", "realtimeRuntime"},
		{"blockIO", "weight"},     {"blockIO", "leafWeight"},
	};

	for (unsigned i = 0; i < ARRAY_LEN(list); i++) {
		json_t *part = json_object_get(resources, list[i].part);
		json_t *value = json_object_get(part, list[i].key);

		if (json_is_integer(value) && json_integer_value(value) == 0)
			(void)json_object_del(part, list[i].key);
	}
}

void oci_bundle_raise(json_t *memory, bool member)
{
	const json_int_t limit =
		json_integer_value(json_object_get(memory, "limit"));
	json_int_t more = (json_int_t)OCI_OVERHEAD_BYTES;

	if (member)
		more = limit > 0 && limit < more ? more - limit : 0;
	raise_limit(memory, "limit", more);
	raise_limit(memory, "swap", more);
}

int oci_bundle_check_unified(json_t *resources)
{
	json_t *unified = json_object_get(resources, "unified");
	static const struct {
		const char *key, *instead;
	} files[] = {
		{"memory.max", "memory.limit"},
		{"memory.high", "memory.limit"},
		{"pids.max", "pids.limit"},
	};

	for (unsigned i = 0; i < ARRAY_LEN(files); i++)
		if (json_object_get(unified, files[i].key))
			return log_ret(-ENOTSUP,
				       "linux.resources.unified: '%s' is not "
				       "supported, as it does not reach the "
				       "guest: give resources.%s",
				       files[i].key, files[i].instead);
	return 0;
}

/*
 * The monitor is not what the limits are for: its threads are not the
 * container's processes, and its memory comes on top of the guest's.
 */
static int make_host_resources(json_t *linux_part,
			       const struct oci_bundle *bundle)
{
	json_t *resources = sub_object(linux_part, "resources");
	json_t *memory = json_object_get(resources, "memory");
	json_t *rules = resources ? sub_array(resources, "devices") : NULL;
	int r = rules ? 0 : no_memory();

	if (r == 0)
		(void)json_object_del(linux_part, "devices");
	if (r == 0 && !bundle->pod && !bundle->has_kvm)
		r = add_device(linux_part, rules, "/dev/kvm", KVM_MINOR);
	if (r == 0 && !bundle->pod)
		r = add_device(linux_part, rules, "/dev/net/tun", TUN_MINOR);
	(void)json_object_del(resources, "pids");
	oci_bundle_drop_unset(resources);
	oci_bundle_raise(memory, bundle->pod != NULL);
	return r < 0 ? r : oci_bundle_check_unified(resources);
}

/* systemd's scope is the container's group, as runc has it: engines look there.
 */
static int make_host_annotations(json_t *host)
{
	static const char key[] = OCI_SUBGROUP;
	json_t *notes = sub_object(host, "annotations");

	if (!notes)
		return no_memory();
	if (!json_object_get(notes, key) &&
	    json_object_set_new(notes, key, json_string("")) < 0)
		return no_memory();
	return 0;
}

static int make_host(json_t *host, const struct oci_bundle *bundle)
{
	const char *const args[] = {bundle->pod ? "join" : "init",
				    bundle->has_kvm ? "kvm" : NULL, NULL};
	static const char *const guest_only[] = {"seccomp",     "sysctl",
						 "maskedPaths", "readonlyPaths",
						 "personality", NULL};
	json_t *linux_part = sub_object(host, "linux");
	json_t *root = json_object_get(host, "root");
	const char *path = oci_text(root, "path");
	autofree char *whole = NULL;
	json_t *process;
	int r;

	if (!linux_part)
		return no_memory();
	if (!json_is_object(root) || !path[0])
		return log_ret(-EINVAL, "root.path: expected a directory");
	if (path[0] != '/') {
		if (asprintf(&whole, "%s/%s", bundle->path, path) < 0)
			return no_memory();
		(void)json_object_set_new(root, "path", json_string(whole));
	}
	process = oci_bundle_process(json_object_get(host, "process"), args);
	if (!process || json_object_set_new(host, "process", process) < 0)
		return -ENOMEM;
	remove_keys(linux_part, guest_only);
	r = make_host_annotations(host);
	if (r == 0)
		r = make_host_resources(linux_part, bundle);
	return r < 0 ? r : make_host_mounts(host, bundle);
}

/* ---- the guest's half */

/*
 * Memory that processes share is the guest's own, of the size that the engine
 * gave its own at SOURCE. NULL: no memory.
 */
static json_t *make_shm(const char *source)
{
	json_t *mount = json_pack("{s:s, s:s, s:s, s:[s, s, s]}", "destination",
				  "/dev/shm", "type", "tmpfs", "source", "shm",
				  "options", "nosuid", "noexec", "nodev");
	struct statfs st;
	char size[40];

	if (!mount || statfs(source, &st) < 0 || st.f_type != TMPFS_MAGIC ||
	    strcmp(source, "/dev/shm") == 0 || st.f_blocks == 0)
		return mount;
	snprintf(size, sizeof(size), "size=%llu",
		 (unsigned long long)st.f_blocks *
			 (unsigned long long)st.f_bsize);
	(void)json_array_append_new(json_object_get(mount, "options"),
				    json_string(size));
	return mount;
}

static bool is_null_device(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(1, 3);
}

/*
 * A guest can be given files and directories. The host's runtime reports a
 * source that is not there. 0; 1: it is /dev/null, which hides a file;
 * -ENOTSUP.
 */
static int check_bind(json_t *mount, const struct oci_bundle *bundle)
{
	const char *source = oci_text(mount, "source");
	autofree char *whole = NULL;
	struct stat st;

	if (asprintf(&whole, "%s%s%s", source[0] == '/' ? "" : bundle->path,
		     source[0] == '/' ? "" : "/", source) < 0) {
		whole = NULL;
		return no_memory();
	}
	if (stat(whole, &st) < 0 || S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))
		return 0;
	if (is_null_device(&st))
		return 1;
	return log_ret(-ENOTSUP,
		       "mount on '%s': '%s' is a %s of the host's: a virtual "
		       "machine can be given files and directories alone",
		       oci_text(mount, "destination"), source,
		       S_ISSOCK(st.st_mode)   ? "socket"
		       : S_ISFIFO(st.st_mode) ? "named pipe"
					      : "device");
}

/* As a masked path: the guest's own /dev/null is there. */
static int mask(json_t *guest, json_t *mount)
{
	json_t *linux_part = sub_object(guest, "linux");
	json_t *paths = sub_array(linux_part, "maskedPaths");
	json_t *to = json_object_get(mount, "destination");

	return paths && json_array_append(paths, to) == 0 ? 0 : no_memory();
}

/*
 * The guest's mount for MOUNT, a new reference; NULL: none, if that is no
 * error. In the outer container a bind mount's source is what is mounted there.
 */
static int make_guest_mount(json_t *guest, json_t *mount,
			    const struct oci_bundle *bundle, json_t **ret)
{
	const char *to = oci_text(mount, "destination");
	int r;

	*ret = NULL;
	if (!is_bind(mount)) {
		*ret = json_incref(mount);
		return 0;
	}
	if (strcmp(to, "/dev/shm") == 0) {
		*ret = make_shm(oci_text(mount, "source"));
		return *ret ? 0 : no_memory();
	}
	if (oci_is_below(to, "/dev") && !is_file_bind(mount))
		return log_ret(-ENOTSUP,
			       "mount on '%s': a machine of its own has other "
			       "devices",
			       to);
	r = check_bind(mount, bundle);
	if (r > 0)
		return mask(guest, mount);
	if (r == 0 &&
	    json_object_set(mount, "source",
			    json_object_get(mount, "destination")) < 0)
		r = no_memory();
	if (r == 0)
		*ret = json_incref(mount);
	return r;
}

static int make_guest_mounts(json_t *guest, const struct oci_bundle *bundle)
{
	json_t *given = json_object_get(guest, "mounts");
	json_t *mounts = json_array();
	json_t *mount;
	size_t i;
	int r = mounts ? 0 : no_memory();

	json_array_foreach(given, i, mount) {
		json_t *made = NULL;

		if (r == 0)
			r = make_guest_mount(guest, mount, bundle, &made);
		if (made && json_array_append_new(mounts, made) < 0)
			r = no_memory();
	}
	if (r == 0 && json_object_set(guest, "mounts", mounts) < 0)
		r = no_memory();
	json_decref(mounts);
	return r;
}

static bool allows_all(json_t *resources)
{
	json_t *rules = json_object_get(resources, "devices");
	json_t *rule = json_array_get(rules, json_array_size(rules) - 1);
	const char *type = oci_text(rule, "type");

	return rule && json_is_true(json_object_get(rule, "allow")) &&
	       (!type[0] || type[0] == 'a') &&
	       !json_is_integer(json_object_get(rule, "major"));
}

/* A guest has processes, memory and a name of its own. */
static int check_joined(json_t *ns, bool in_pod)
{
	static const char *const own[] = {"pid", "ipc", "uts"};
	const char *type = oci_text(ns, "type");

	for (unsigned i = 0; i < ARRAY_LEN(own); i++)
		if (!in_pod && strcmp(type, own[i]) == 0 &&
		    oci_text(ns, "path")[0])
			return log_ret(-ENOTSUP,
				       "linux.namespaces: '%s' of another "
				       "container ('%s') is not supported: a "
				       "machine has its own",
				       type, oci_text(ns, "path"));
	return 0;
}

/*
 * A container that may use all devices gets all of the guest's: the list of
 * the host's says nothing there.
 */
static int make_guest_linux(json_t *linux_part, bool in_pod)
{
	static const char *const host_only[] = {
		"uidMappings", "gidMappings",       "cgroupsPath", "mountLabel",
		"intelRdt",    "rootfsPropagation", NULL};
	static const char *const host_limits[] = {"blockIO", "hugepageLimits",
						  "network", "rdma",
						  "unified", NULL};
	static const char *const host_memory[] = {
		"reservation", "kernel", "kernelTCP", "disableOOMKiller", NULL};
	static const char *const host_cpu[] = {
		"shares",         "cpus",  "mems", "realtimeRuntime",
		"realtimePeriod", "burst", "idle", NULL};
	json_t *resources = json_object_get(linux_part, "resources");
	json_t *namespaces = json_object_get(linux_part, "namespaces");
	size_t i;
	int r = 0;

	remove_keys(linux_part, host_only);
	remove_keys(resources, host_limits);
	remove_keys(json_object_get(resources, "memory"), host_memory);
	remove_keys(json_object_get(resources, "cpu"), host_cpu);
	if (allows_all(resources))
		(void)json_object_del(linux_part, "devices");
	for (i = json_array_size(namespaces); r == 0 && i-- > 0;) {
		json_t *ns = json_array_get(namespaces, i);

		r = check_joined(ns, in_pod);
		if (strcmp(oci_text(ns, "type"), "user") == 0)
			(void)json_array_remove(namespaces, i);
		else
			(void)json_object_del(ns, "path");
	}
	return r;
}

static int make_guest(json_t *guest, const struct oci_bundle *bundle)
{
	static const char *const host_only[] = {"hooks", NULL};
	static const char *const walls[] = {"oomScoreAdj", "selinuxLabel",
					    "apparmorProfile", NULL};
	json_t *root = json_object_get(guest, "root");
	int r;

	remove_keys(guest, host_only);
	remove_keys(json_object_get(guest, "process"), walls);
	r = make_guest_linux(json_object_get(guest, "linux"), bundle->pod);
	if (r < 0)
		return r;
	if (json_object_set_new(root, "path", json_string("/")) < 0)
		return no_memory();
	return make_guest_mounts(guest, bundle);
}

int oci_bundle_split(const struct oci_bundle *bundle, json_t *config,
		     json_t **ret_host, json_t **ret_guest)
{
	json_t *host = json_deep_copy(config);
	json_t *guest = json_deep_copy(config);
	int r = host && guest ? make_host(host, bundle) : no_memory();

	if (r == 0)
		r = make_guest(guest, bundle);
	if (r < 0) {
		json_decref(host);
		json_decref(guest);
		return r;
	}
	*ret_host = host;
	*ret_guest = guest;
	return 0;
}

int oci_bundle_check_source(const char *destination, const char *path)
{
	static const char *const hosts[] = {"/proc", "/sys"};
	bool seen = !path[1] || oci_is_below(OCI_INSIDE, path) ||
		    oci_is_below(path, OCI_INSIDE);

	for (unsigned i = 0; !seen && i < ARRAY_LEN(hosts); i++)
		seen = oci_is_below(path, hosts[i]) &&
		       !oci_is_below(destination, hosts[i]);
	return seen ? log_ret(-EPERM,
			      "mount on '%s': the image's links lead it to "
			      "'%s', which no guest has",
			      destination, path)
		    : 0;
}
