/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pods: containers in one machine, which the container that came first owns. An
 * engine says by annotations which one that is, or by the network namespace.
 */
#include "tools/oci/oci.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/un.h>

/* A guest's names of containers: agent.h of firmware/agent. */
#define NAME_MAX_BYTES 200

/*
 * A pod's machine, where its engine does not say how large its containers are
 * together; and what its kernel and agent need beside them.
 */
#define MEMORY_DEFAULT (UINT64_C(2) << 30)
#define MEMORY_GUEST   (UINT64_C(96) << 20)
#define MEMORY_MIN     (UINT64_C(128) << 20)
/* The monitor's own, beside the guest's, in the same control group. */
#define MEMORY_MONITOR (UINT64_C(64) << 20)
#define CPUS_DEFAULT   4
#define CPU_PERIOD     100000
#define PAGE_BYTES     4096

/* One that is created may be about to be started, or never be. */
#define CREATED_MS 5000
#define LOOK_MS    20

static const struct kind {
	const char *type, *sandbox, *container, *id;
} kinds[] = {
	{"io.kubernetes.cri.container-type", "sandbox", "container",
	 "io.kubernetes.cri.sandbox-id"},
	{"io.kubernetes.cri-o.ContainerType", "sandbox", "container",
	 "io.kubernetes.cri-o.SandboxID"},
	{"io.kubernetes.docker.type", "podsandbox", "container",
	 "io.kubernetes.sandbox.id"},
};

static json_t *annotations(json_t *config)
{
	return json_object_get(config, "annotations");
}

/* The engine's way to say it; NULL: it says nothing. */
static const struct kind *find_kind(json_t *config)
{
	for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
		if (oci_text(annotations(config), kinds[i].type)[0])
			return &kinds[i];
	}
	return NULL;
}

bool oci_pod_is_sandbox(json_t *config)
{
	const struct kind *kind = find_kind(config);

	return kind && strcmp(oci_text(annotations(config), kind->type),
			      kind->sandbox) == 0;
}

/* ---- namespaces */

static const char *const types[] = {"network", "ipc", "uts", "pid"};
static const char *const files[] = {"net", "ipc", "uts", "pid"};

/* All at once: who creates another container reads it at any time. */
static int save(json_t *json, const char *path)
{
	autofree char *part = NULL;

	if (asprintf(&part, "%s.part", path) < 0) {
		part = NULL;
		return -ENOMEM;
	}
	if (json_dump_file(json, part, JSON_COMPACT) < 0)
		return -EIO;
	return rename(part, path) < 0 ? -errno : 0;
}

int oci_pod_save_namespaces(const char *path)
{
	json_t *json = json_object();
	int r = json ? 0 : -ENOMEM;

	for (unsigned i = 0; r == 0 && i < ARRAY_LEN(types); i++) {
		char name[32];
		struct stat st;

		snprintf(name, sizeof(name), "/proc/self/ns/%s", files[i]);
		if (stat(name, &st) < 0)
			r = -errno;
		else if (json_object_set_new(
				 json, types[i],
				 json_integer((json_int_t)st.st_ino)) < 0)
			r = -ENOMEM;
	}
	if (r == 0)
		r = save(json, path);
	json_decref(json);
	return r < 0 ? log_ret(r, "'%s': %s", path, strerror(-r)) : 0;
}

static const char *path_of(json_t *config, const char *type)
{
	return oci_text(oci_namespace(config, type), "path");
}

/* Whether CONFIG's namespace of the type I is the one that OWN tells of. */
static bool is_shared(json_t *config, json_t *own, unsigned i)
{
	const char *path = path_of(config, types[i]);
	struct stat st;

	return path[0] && stat(path, &st) == 0 &&
	       json_integer_value(json_object_get(own, types[i])) ==
		       (json_int_t)st.st_ino;
}

/* Whether CONFIG's container is in any namespace that there is already. */
static bool shares_any(json_t *config)
{
	bool found = false;

	for (unsigned i = 0; i < ARRAY_LEN(types); i++)
		found = found || path_of(config, types[i])[0];
	return found;
}

/* ---- machines */

/*
 * Whether the machine of ID takes containers. One that is so busy that others
 * wait at its socket is one.
 */
static bool is_alive(const struct oci *oci, const char *id)
{
	autofree char *dir = oci_path(oci, id, "vm");
	autofd int dir_fd =
		dir ? open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	autofd int fd =
		socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un un = {.sun_family = AF_UNIX};

	/* The whole path may be too long for a socket. */
	snprintf(un.sun_path, sizeof(un.sun_path), "/proc/self/fd/%d/%s",
		 dir_fd, OCI_TREES_FILE);
	return dir_fd >= 0 && fd >= 0 &&
	       (connect(fd, (const struct sockaddr *)&un, sizeof(un)) == 0 ||
		errno == EAGAIN);
}

/* The process of ID as the host's runtime notes it; 0: it does not, yet. */
static json_int_t read_pid(const struct oci *oci, const char *id)
{
	static const struct {
		const char *file, *key;
	} notes[] = {{"state.json", "init_process_pid"}, {"status", "pid"}};
	autofree char *dir = oci_path(oci, "@host", id);
	json_int_t pid = 0;

	for (unsigned i = 0; dir && !pid && i < ARRAY_LEN(notes); i++) {
		autofree char *path = NULL;
		json_t *json = NULL;

		if (asprintf(&path, "%s/%s", dir, notes[i].file) < 0)
			path = NULL;
		if (path)
			json = json_load_file(path, 0, NULL);
		pid = json_integer_value(json_object_get(json, notes[i].key));
		json_decref(json);
	}
	return pid;
}

/* Whether ID has been started: its process is this program then. */
static bool is_started(const struct oci *oci, const char *id)
{
	static const char program[] = OCI_INSIDE_PROGRAM;
	char path[64], name[sizeof(program)] = "";
	autofd int fd = -1;

	snprintf(path, sizeof(path), "/proc/%lld/cmdline",
		 (long long)read_pid(oci, id));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd >= 0 && read(fd, name, sizeof(name)) == sizeof(name) &&
	       memcmp(name, program, sizeof(program)) == 0;
}

/*
 * An engine creates a pod's next container as soon as the start of the first
 * one has returned: waits until its machine is there.
 */
static bool await_alive(const struct oci *oci, const char *id)
{
	bool has_run;

	for (int ms = 0; ms < OCI_MACHINE_MS; ms += LOOK_MS) {
		has_run = oci_store_has(oci, id, "vm/" OCI_STARTED_FILE);
		if (is_alive(oci, id))
			return true;
		/* It has ended, or was never there. */
		if (has_run || !oci_store_has(oci, id, "vm"))
			return false;
		if (ms >= CREATED_MS && !is_started(oci, id))
			return false;
		poll(NULL, 0, LOOK_MS);
	}
	return false;
}

/*
 * Whether ID has been started just now, so that it has told no namespaces yet,
 * and its process is in the network of CONFIG.
 */
static bool starts_there(const struct oci *oci, const char *id, json_t *config)
{
	struct stat wanted, its;
	json_int_t pid;
	char path[64];

	if (!oci_store_has(oci, id, "vm") ||
	    oci_store_has(oci, id, "vm/" OCI_POD_FILE) ||
	    oci_store_has(oci, id, "vm/" OCI_STARTED_FILE))
		return false;
	pid = read_pid(oci, id);
	snprintf(path, sizeof(path), "/proc/%lld/ns/net", (long long)pid);
	return pid > 0 && stat(path, &its) == 0 &&
	       stat(path_of(config, "network"), &wanted) == 0 &&
	       its.st_dev == wanted.st_dev && its.st_ino == wanted.st_ino;
}

/* A machine that has the network of CONFIG, or NULL; allocated. */
static char *find_by_network(const struct oci *oci, json_t *config)
{
	DIR *dir = path_of(config, "network")[0] ? opendir(oci->root) : NULL;
	const struct dirent *entry;
	char *found = NULL;

	while (dir && !found && (entry = readdir(dir))) {
		json_t *own;

		if (entry->d_name[0] == '.' || entry->d_name[0] == '@')
			continue;
		own = oci_store_read(oci, entry->d_name,
				     "vm/" OCI_NAMESPACES_FILE);
		if ((own ? is_shared(config, own, 0)
			 : starts_there(oci, entry->d_name, config)) &&
		    await_alive(oci, entry->d_name))
			found = strdup(entry->d_name);
		json_decref(own);
	}
	if (dir)
		closedir(dir);
	return found;
}

/* A guest has no namespace of a container that is not in it. */
static int check_others(json_t *config, json_t *own, const char *id)
{
	for (unsigned i = 0; i < ARRAY_LEN(types); i++) {
		const char *path = path_of(config, types[i]);

		if (path[0] && !is_shared(config, own, i))
			return log_ret(-ENOTSUP,
				       "linux.namespaces: '%s' of another one "
				       "('%s') is not supported: a container "
				       "in the machine of '%s' can share that "
				       "of this one alone",
				       types[i], path, id);
	}
	return 0;
}

/* Finds the namespaces that it shares with its machine's own container. */
static int find_shared(const struct oci *oci, json_t *config,
		       struct oci_pod *pod)
{
	json_t *own = oci_store_read(oci, pod->id, "vm/" OCI_NAMESPACES_FILE);
	int r = 0;

	if (!own)
		return log_ret(-ENOENT, "container '%s': not running", pod->id);
	if (!is_shared(config, own, 0))
		r = log_ret(-ENOTSUP,
			    "linux.namespaces: a container in the machine of "
			    "'%s' has the network of that one, and no other",
			    pod->id);
	if (r == 0)
		r = check_others(config, own, pod->id);
	pod->ipc = is_shared(config, own, 1);
	pod->uts = is_shared(config, own, 2);
	pod->pid = is_shared(config, own, 3);
	json_decref(own);
	return r;
}

int oci_pod_find(const struct oci *oci, const char *id, json_t *config,
		 struct oci_pod *ret)
{
	const struct kind *kind = find_kind(config);
	json_t *notes = annotations(config);

	*ret = (struct oci_pod){0};
	if (kind && strcmp(oci_text(notes, kind->type), kind->container) == 0) {
		const char *owner = oci_text(notes, kind->id);

		if (oci_check_id(owner) < 0)
			return -EINVAL;
		if (!await_alive(oci, owner)) {
			/* Podman's pod need not have a container of its own. */
			if (!shares_any(config))
				return 0;
			return log_ret(-ENOENT,
				       "pod's sandbox '%s': not running here",
				       owner);
		}
		ret->id = strdup(owner);
		if (!ret->id)
			return log_ret(-ENOMEM, "out of memory");
	} else if (!kind) {
		ret->id = find_by_network(oci, config);
	}
	if (!ret->id)
		return 0;
	if (oci_is_paused(oci, ret->id))
		return log_ret(-EBUSY,
			       "container '%s', in whose machine it would be, "
			       "is paused",
			       ret->id);
	if (strlen(id) > NAME_MAX_BYTES)
		return log_ret(-ENAMETOOLONG,
			       "'%s': a container of a pod has an id of at "
			       "most %d bytes",
			       id, NAME_MAX_BYTES);
	return find_shared(oci, config, ret);
}

void oci_pod_done(struct oci_pod *pod)
{
	free(pod->id);
	*pod = (struct oci_pod){0};
}

/* ---- what a container's process in the outer container has to know */

json_t *oci_pod_json(const struct oci_pod *pod, const char *id)
{
	return json_pack("{s:s, s:s, s:b, s:b, s:b}", "machine", pod->id,
			 "name", id, "ipc", pod->ipc, "uts", pod->uts, "pid",
			 pod->pid);
}

int oci_pod_read(struct oci_member *ret)
{
	json_error_t error;
	const char *name;
	int ipc, uts, pid;

	*ret = (struct oci_member){0};
	if (access(OCI_INSIDE_VM "/" OCI_POD_FILE, F_OK) < 0)
		return 0;
	ret->json = json_load_file(OCI_INSIDE_VM "/" OCI_POD_FILE, 0, &error);
	if (!ret->json ||
	    json_unpack(ret->json, "{s:s, s:b, s:b, s:b}", "name", &name, "ipc",
			&ipc, "uts", &uts, "pid", &pid) < 0) {
		oci_pod_read_done(ret);
		return log_ret(-EINVAL, "'%s': not what was written there",
			       OCI_INSIDE_VM "/" OCI_POD_FILE);
	}
	ret->name = name;
	ret->shared = (struct oci_pod){.ipc = ipc, .uts = uts, .pid = pid};
	return 1;
}

void oci_pod_read_done(struct oci_member *member)
{
	json_decref(member->json);
	*member = (struct oci_member){0};
}

/* ---- on the host */

int oci_pod_machine(const struct oci *oci, const char *id, char **ret)
{
	json_t *json = oci_store_read(oci, id, "vm/" OCI_POD_FILE);
	const char *machine = oci_text(json, "machine");

	*ret = NULL;
	if (!machine[0]) {
		json_decref(json);
		return 0;
	}
	/* Its monitor may have written all that is in `vm`. */
	if (oci_check_id(machine) < 0) {
		json_decref(json);
		return -EINVAL;
	}
	*ret = strdup(machine);
	json_decref(json);
	return *ret ? 1 : log_ret(-ENOMEM, "out of memory");
}

/* ---- its size */

/* A number in an annotation; 0: it is not there, or says no limit. */
static int read_number(json_t *notes, const char *name, uint64_t *ret)
{
	const char *text = oci_text(notes, name);

	*ret = 0;
	if (!text[0] || text[0] == '-')
		return 0;
	return util_parse_number(text, 0, INT64_MAX / 2, ret) < 0
		       ? log_ret(-EINVAL, "annotation '%s': '%s'", name, text)
		       : 0;
}

static json_t *part(json_t *json, const char *name)
{
	json_t *sub = json_object_get(json, name);

	if (json_is_object(sub))
		return sub;
	sub = json_object();
	return json_object_set_new(json, name, sub) == 0 ? sub : NULL;
}

/* No more than the groups above leave: else the host kills the machine. */
static uint64_t default_memory(const struct oci_limits *limits)
{
	const uint64_t bytes = MEMORY_DEFAULT + MEMORY_GUEST;

	if (!limits->memory || limits->memory >= bytes + MEMORY_MONITOR)
		return bytes;
	return limits->memory > MEMORY_MIN + MEMORY_MONITOR
		       ? limits->memory - MEMORY_MONITOR
		       : MEMORY_MIN;
}

static uint64_t default_cpus(const struct oci_limits *limits)
{
	const int online = get_nprocs();
	const uint64_t cpus =
		(uint64_t)(online < CPUS_DEFAULT ? online : CPUS_DEFAULT);

	return limits->quota ? min_u64(cpus, (limits->quota + limits->period -
					      1) / limits->period)
			     : cpus;
}

int oci_pod_size(json_t *config, const char *groups, json_t *guest)
{
	json_t *notes = annotations(config);
	json_t *resources = part(part(guest, "linux"), "resources");
	json_t *memory = part(resources, "memory");
	json_t *cpu = part(resources, "cpu");
	struct oci_limits limits;
	uint64_t bytes, quota, period;
	int r = read_number(notes, "io.kubernetes.cri.sandbox-memory", &bytes);

	if (r == 0)
		r = read_number(notes, "io.kubernetes.cri.sandbox-cpu-quota",
				&quota);
	if (r == 0)
		r = read_number(notes, "io.kubernetes.cri.sandbox-cpu-period",
				&period);
	if (r < 0)
		return r;
	oci_group_limits(
		groups,
		oci_text(json_object_get(config, "linux"), "cgroupsPath"),
		&limits);
	bytes = bytes ? bytes + MEMORY_GUEST : default_memory(&limits);
	/* "500M" is no whole number of pages. */
	bytes = (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
	if (!quota || !period) {
		period = CPU_PERIOD;
		quota = default_cpus(&limits) * period;
	}
	/*
	 * The machine has whole CPUs, as many as it can; its containers have
	 * their own limits, whose sum may be more than any host has.
	 */
	quota = min_u64((quota + period - 1) / period, CONFIG_CPUS_MAX) *
		period;
	if (!memory || !cpu ||
	    json_object_set_new(memory, "limit",
				json_integer((json_int_t)bytes)) < 0 ||
	    json_object_set_new(cpu, "quota", json_integer((json_int_t)quota)) <
		    0 ||
	    json_object_set_new(cpu, "period",
				json_integer((json_int_t)period)) < 0)
		return log_ret(-ENOMEM, "out of memory");
	return 0;
}
