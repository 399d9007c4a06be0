/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one reader of OCI's JSON (config.md, config-linux.md of the runtime
 * specification). Each object has a table of the keys that the specification
 * gives it: a key with a function is read by it, one without is refused unless
 * its value says nothing, as Go's writers leave many.
 */
#include "tools/spec/spec.h"

#include "firmware/agent/agent-names.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

/* 2^63: Jansson's integers end there. */
#define INTEGERS_END 9223372036854775808.0

/* Where in the file something is, for messages. */
struct place {
	const struct place *up; /* NULL: the file itself */
	const char *name;       /* NULL: an item of a list */
	size_t index;
};

typedef int read_fn(const struct place *at, json_t *json, void *to);

struct key {
	const char *name;
	read_fn *read; /* NULL: not done here */
	size_t to;     /* the member's place in the object's structure */
};

static void print_place(const struct place *at, char *text, size_t bytes)
{
	size_t n;

	if (!at->up) {
		text[0] = '\0';
		return;
	}
	print_place(at->up, text, bytes);
	n = strlen(text);
	if (at->name)
		snprintf(text + n, bytes - n, "%s%.40s", n ? "." : "",
			 at->name);
	else
		snprintf(text + n, bytes - n, "[%zu]", at->index);
}

static const char *file_of(const struct place *at)
{
	while (at->up)
		at = at->up;
	return at->name;
}

/* WHAT names the fault. */
static int fail(const struct place *at, int error, const char *what)
{
	char where[256];

	print_place(at, where, sizeof(where));
	return log_ret(error, "'%s': %s%s%s", file_of(at), where,
		       where[0] ? ": " : "", what);
}

static void warn(const struct place *at, const char *what)
{
	char where[256];

	print_place(at, where, sizeof(where));
	log_warn("'%s': %s: %s", file_of(at), where, what);
}

/* Null, false, 0, "", and lists and objects of nothing else. */
static bool says_nothing(json_t *json)
{
	const char *name;
	json_t *value;
	size_t i;

	switch (json_typeof(json)) {
	case JSON_NULL:
	case JSON_FALSE:
		return true;
	case JSON_INTEGER:
		return json_integer_value(json) == 0;
	case JSON_STRING:
		return json_string_length(json) == 0;
	case JSON_ARRAY:
		json_array_foreach(json, i, value) {
			if (!says_nothing(value))
				return false;
		}
		return true;
	case JSON_OBJECT:
		json_object_foreach(json, name, value) {
			if (!says_nothing(value))
				return false;
		}
		return true;
	default:
		return false;
	}
}

static const struct key *find_key(const struct key *keys, const char *name)
{
	for (; keys->name; keys++)
		if (strcmp(keys->name, name) == 0)
			return keys;
	return NULL;
}

/* STRICT: an unknown key might mean less isolation than somebody relies on. */
static int read_object(const struct place *at, json_t *json,
		       const struct key *keys, bool strict, void *to)
{
	const char *name;
	json_t *value;
	int r = 0;

	if (!json_is_object(json))
		return fail(at, -EINVAL, "expected an object");
	json_object_foreach(json, name, value) {
		const struct place here = {at, name, 0};
		const struct key *key = find_key(keys, name);

		if (json_is_null(value))
			continue;
		if (key && key->read)
			r = key->read(&here, value, (char *)to + key->to);
		else if (key && !says_nothing(value))
			r = fail(&here, -ENOTSUP, "is not supported");
		else if (!key && strict)
			r = fail(&here, -EINVAL, "unknown, so refused");
		else if (!key)
			warn(&here, "unknown, so ignored");
		if (r < 0)
			return r;
	}
	return 0;
}

/* Each item of the list by FN, with the same TO. */
static int read_list(const struct place *at, json_t *json, read_fn *fn,
		     void *to)
{
	json_t *value;
	size_t i;

	if (!json_is_array(json))
		return fail(at, -EINVAL, "expected a list");
	json_array_foreach(json, i, value) {
		const struct place here = {at, NULL, i};
		int r = fn(&here, value, to);

		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- values */

static int read_text(const struct place *at, json_t *json, void *to)
{
	if (!json_is_string(json))
		return fail(at, -EINVAL, "expected a string");
	return spec_set_text(to, json_string_value(json));
}

static int read_flag(const struct place *at, json_t *json, void *to)
{
	if (!json_is_boolean(json))
		return fail(at, -EINVAL, "expected true or false");
	*(bool *)to = json_is_true(json);
	return 0;
}

static int get_number(const struct place *at, json_t *json, int64_t max,
		      uint64_t *ret)
{
	const json_int_t n = json_integer_value(json);

	if (!json_is_integer(json) || n < 0 || n > max)
		return fail(at, -EINVAL, "expected a whole number that fits");
	*ret = (uint64_t)n;
	return 0;
}

static int read_u16(const struct place *at, json_t *json, void *to)
{
	uint64_t n = 0;
	int r = get_number(at, json, UINT16_MAX, &n);

	if (r == 0)
		*(uint16_t *)to = (uint16_t)n;
	return r;
}

static int read_u64(const struct place *at, json_t *json, void *to)
{
	return get_number(at, json, INT64_MAX, to);
}

/* 0 and -1 are no limit. */
static int read_limit(const struct place *at, json_t *json, void *to)
{
	if (json_is_integer(json) && json_integer_value(json) == -1) {
		*(uint64_t *)to = 0;
		return 0;
	}
	return read_u64(at, json, to);
}

/* (uid_t)-1 is none. */
static int read_id(const struct place *at, json_t *json, void *to)
{
	uint64_t n = 0;
	int r = get_number(at, json, UINT32_MAX - 1, &n);

	if (r == 0)
		*(uint32_t *)to = (uint32_t)n;
	return r;
}

static int add_text(const struct place *at, json_t *json, void *to)
{
	if (!json_is_string(json))
		return fail(at, -EINVAL, "expected a string");
	return text_list_add(to, json_string_value(json));
}

static int read_texts(const struct place *at, json_t *json, void *to)
{
	return read_list(at, json, add_text, to);
}

static int add_path(const struct place *at, json_t *json, void *to)
{
	const char *text = json_string_value(json);

	if (!text || text[0] != '/')
		return fail(at, -EINVAL, "expected a path that begins with /");
	return text_list_add(to, text);
}

static int read_paths(const struct place *at, json_t *json, void *to)
{
	return read_list(at, json, add_path, to);
}

/* {"name": "value"} as "name=value". */
static int read_map(const struct place *at, json_t *json, void *to)
{
	const char *name;
	json_t *value;
	int r = 0;

	if (!json_is_object(json))
		return fail(at, -EINVAL, "expected an object");
	json_object_foreach(json, name, value) {
		const struct place here = {at, name, 0};
		autofree char *text = NULL;

		if (!json_is_string(value))
			return fail(&here, -EINVAL, "expected a string");
		if (name[0] == '\0' || strchr(name, '='))
			return fail(&here, -EINVAL, "no such name can be");
		if (asprintf(&text, "%s=%s", name, json_string_value(value)) <
		    0) {
			text = NULL;
			return log_ret(-ENOMEM, "out of memory");
		}
		r = text_list_add(to, text);
		if (r < 0)
			return r;
	}
	return 0;
}

/* For keys that change nothing in a machine of the container's own. */
static int skip(const struct place *at, json_t *json, void *to)
{
	(void)at;
	(void)json;
	(void)to;
	return 0;
}

static int skip_loudly(const struct place *at, json_t *json, void *to)
{
	(void)to;
	if (!says_nothing(json))
		warn(at, "has no effect here");
	return 0;
}

/* ---- process */

#define AT(member) offsetof(struct spec_process, member)

static int add_gid(const struct place *at, json_t *json, void *to)
{
	char number[24];
	uint64_t n = 0;
	int r;

	if (json_is_string(json))
		return text_list_add(to, json_string_value(json));
	r = get_number(at, json, UINT32_MAX - 1, &n);
	snprintf(number, sizeof(number), "%llu",
		 (unsigned long long)(r < 0 ? 0 : n));
	return r < 0 ? r : text_list_add(to, number);
}

static int read_gids(const struct place *at, json_t *json, void *to)
{
	return read_list(at, json, add_gid, to);
}

/* The agent's is 022. */
static int read_umask(const struct place *at, json_t *json, void *to)
{
	(void)to;
	if (json_is_integer(json) && json_integer_value(json) == 022)
		return 0;
	return fail(at, -ENOTSUP, "only 18 (octal 022) is supported");
}

static int read_user(const struct place *at, json_t *json, void *to)
{
	static const struct key keys[] = {
		{"uid", read_id, offsetof(struct spec_user, uid)},
		{"gid", read_id, offsetof(struct spec_user, gid)},
		{"umask", read_umask, 0},
		{"additionalGids", read_gids,
		 offsetof(struct spec_user, additional_gids)},
		{"username", read_text, offsetof(struct spec_user, username)},
		{0},
	};
	struct spec_user *user = to;
	int r = read_object(at, json, keys, true, user);

	if (r == 0 && user->username && user->username[0] == '\0') {
		free(user->username);
		user->username = NULL;
	}
	/* A name says all of it. */
	if (user->username)
		user->uid = user->gid = 0;
	return r;
}

/* The specification has those that are not known left out, with a warning. */
static int add_capability(const struct place *at, json_t *json, void *to)
{
	const char *text = json_string_value(json);

	if (!text)
		return fail(at, -EINVAL, "expected a string");
	for (unsigned i = 0; agent_capability_name(i); i++) {
		if (strncmp(text, "CAP_", 4) == 0 &&
		    strcmp(text + 4, agent_capability_name(i)) == 0) {
			*(uint64_t *)to |= UINT64_C(1) << i;
			return 0;
		}
	}
	warn(at, "no such capability, so left out");
	return 0;
}

static int read_capability_set(const struct place *at, json_t *json, void *to)
{
	return read_list(at, json, add_capability, to);
}

static int read_capabilities(const struct place *at, json_t *json, void *to)
{
	static const struct key keys[] = {
		{"bounding", read_capability_set,
		 offsetof(struct spec_capabilities, bounding)},
		{"effective", read_capability_set,
		 offsetof(struct spec_capabilities, effective)},
		{"inheritable", read_capability_set,
		 offsetof(struct spec_capabilities, inheritable)},
		{"permitted", read_capability_set,
		 offsetof(struct spec_capabilities, permitted)},
		{"ambient", read_capability_set,
		 offsetof(struct spec_capabilities, ambient)},
		{0},
	};

	return read_object(at, json, keys, true, to);
}

/* Up to UINT64_MAX, which is no limit: see parse() for what is a real. */
static int read_rlim(const struct place *at, json_t *json, void *to)
{
	if (json_is_real(json) && json_real_value(json) >= INTEGERS_END)
		*(uint64_t *)to = RLIM_INFINITY;
	else if (json_is_integer(json) && json_integer_value(json) == -1)
		*(uint64_t *)to = RLIM_INFINITY;
	else
		return read_u64(at, json, to);
	return 0;
}

static int read_rlimit_type(const struct place *at, json_t *json, void *to)
{
	const char *text = json_string_value(json);

	for (unsigned i = 0; text && i < SPEC_RLIMITS_MAX; i++) {
		if (strncmp(text, "RLIMIT_", 7) == 0 &&
		    strcmp(text + 7, agent_limit_name(i)) == 0) {
			*(int *)to = (int)i;
			return 0;
		}
	}
	return fail(at, -EINVAL, "expected a limit like RLIMIT_NOFILE");
}

static int add_rlimit(const struct place *at, json_t *json, void *to)
{
	static const struct key keys[] = {
		{"type", read_rlimit_type, offsetof(struct spec_rlimit, type)},
		{"soft", read_rlim, offsetof(struct spec_rlimit, soft)},
		{"hard", read_rlim, offsetof(struct spec_rlimit, hard)},
		{0},
	};
	struct spec_process *process = to;
	struct spec_rlimit limit = {.type = -1};
	int r = read_object(at, json, keys, true, &limit);

	if (r < 0)
		return r;
	if (limit.type < 0)
		return fail(at, -EINVAL, "has no type");
	if (limit.soft > limit.hard)
		return fail(at, -EINVAL,
			    "the soft limit is above the hard one");
	for (size_t i = 0; i < process->nrlimits; i++)
		if (process->rlimits[i].type == limit.type)
			return fail(at, -EINVAL, "is there twice");
	spec_set_rlimit(process, limit);
	return 0;
}

static int read_rlimits(const struct place *at, json_t *json, void *to)
{
	return read_list(at, json, add_rlimit, to);
}

static int read_console(const struct place *at, json_t *json, void *to)
{
	static const struct key keys[] = {
		{"height", read_u16, AT(console_height)},
		{"width", read_u16, AT(console_width)},
		{0},
	};

	return read_object(at, json, keys, false, to);
}

static const struct key process_keys[] = {
	{"terminal", read_flag, AT(terminal)},
	{"consoleSize", read_console, 0},
	{"user", read_user, AT(user)},
	{"args", read_texts, AT(args)},
	{"commandLine", NULL, 0},
	{"env", read_texts, AT(env)},
	{"cwd", read_text, AT(cwd)},
	{"capabilities", read_capabilities, AT(capabilities)},
	{"rlimits", read_rlimits, 0},
	{"noNewPrivileges", read_flag, AT(no_new_privileges)},
	{"apparmorProfile", NULL, 0},
	{"oomScoreAdj", NULL, 0},
	{"scheduler", NULL, 0},
	{"selinuxLabel", NULL, 0},
	{"ioPriority", NULL, 0},
	{"execCPUAffinity", NULL, 0},
	{0},
};

/*
 * The agent gives user 0 all that the bounding set leaves, and others nothing.
 * Where a name stands for the user, the guest alone knows which it is.
 */
static int check_capabilities(const struct place *at,
			      const struct spec_process *p)
{
	const struct spec_capabilities *c = &p->capabilities;

	if (c->ambient)
		return fail(at, -ENOTSUP,
			    "capabilities.ambient: is not supported");
	if (p->user.username)
		return 0;
	if (p->user.uid != 0 && (c->effective || c->permitted))
		return fail(at, -ENOTSUP,
			    "capabilities.effective: is not supported for a "
			    "user other than 0");
	if (p->user.uid == 0 &&
	    (c->effective != c->bounding || c->permitted != c->bounding))
		return fail(at, -ENOTSUP,
			    "capabilities: for user 0 only equal bounding, "
			    "effective and permitted sets are supported");
	return 0;
}

static int check_process(const struct place *at, const struct spec_process *p)
{
	if (p->args.count == 0)
		return fail(at, -EINVAL, "args: names no program");
	if (!p->cwd || p->cwd[0] != '/')
		return fail(at, -EINVAL,
			    "cwd: expected a path that begins with /");
	return check_capabilities(at, p);
}

static int read_process(const struct place *at, json_t *json, void *to)
{
	int r = read_object(at, json, process_keys, true, to);

	return r < 0 ? r : check_process(at, to);
}

#undef AT

/* ---- linux */

#define AT(member) offsetof(struct spec_linux, member)

struct namespace
{
	char *type, *path;
};

static int add_namespace(const struct place *at, json_t *json, void *to)
{
	static const struct key keys[] = {
		{"type", read_text, offsetof(struct namespace, type)},
		{"path", NULL, 0},
		{0},
	};
	static const char *const names[] = {"pid", "network", "mount",
					    "ipc", "uts",     "cgroup"};
	struct namespace ns = {NULL, NULL};
	int r = read_object(at, json, keys, true, &ns);
	unsigned i = 0;

	while (i < ARRAY_LEN(names) &&
	       (!ns.type || strcmp(names[i], ns.type) != 0))
		i++;
	if (r == 0 && i == ARRAY_LEN(names))
		r = fail(at, -ENOTSUP,
			 "supported are pid, network, mount, ipc, uts and "
			 "cgroup");
	else if (r == 0 && (*(unsigned *)to & 1U << i))
		r = fail(at, -EINVAL, "is there twice");
	else if (r == 0)
		*(unsigned *)to |= 1U << i;
	free(ns.type);
	return r;
}

static int read_namespaces(const struct place *at, json_t *json, void *to)
{
	return read_list(at, json, add_namespace, to);
}

/* Every container has these; a rule for making nodes alone gives nothing. */
static bool is_common_device(const char *type, int64_t major, int64_t minor,
			     const char *access)
{
	static const int8_t common[][2] = {{1, 3}, {1, 5}, {1, 7}, {1, 8},
					   {1, 9}, {5, 0}, {5, 1}, {5, 2}};

	if (strcmp(access, "m") == 0)
		return true;
	for (unsigned i = 0; i < ARRAY_LEN(common); i++)
		if (strcmp(type, "c") == 0 && major == common[i][0] &&
		    minor == common[i][1])
			return true;
	return strcmp(type, "c") == 0 && major == 136;
}

static int add_device_rule(const struct place *at, json_t *json, void *to)
{
	int allow = 0;
	const char *type = "a", *access = "rwm";
	json_int_t major = -1, minor = -1;
	bool *all = to;

	if (json_unpack(json, "{s:b, s?s, s?I, s?I, s?s !}", "allow", &allow,
			"type", &type, "major", &major, "minor", &minor,
			"access", &access) < 0)
		return fail(at, -EINVAL,
			    "expected allow, type, major, minor and access");
	if ((type[0] == 'a' || type[0] == '\0') && major < 0 && minor < 0) {
		if (allow && (!strchr(access, 'r') || !strchr(access, 'w') ||
			      !strchr(access, 'm')))
			return fail(at, -ENOTSUP,
				    "all devices can only be allowed with "
				    "access rwm");
		*all = allow;
		return 0;
	}
	if (allow && !*all && !is_common_device(type, major, minor, access))
		return fail(at, -ENOTSUP,
			    "allows a device that a machine of its own does "
			    "not have");
	/* While only the common devices are allowed, others need no denial. */
	if (!allow && (*all || is_common_device(type, major, minor, access)))
		return fail(at, -ENOTSUP,
			    "single devices cannot be taken away");
	return 0;
}

static int read_device_rules(const struct place *at, json_t *json, void *to)
{
	return read_list(at, json, add_device_rule, to);
}

static int read_memory(const struct place *at, json_t *json, void *to)
{
	static const struct key keys[] = {
		{"limit", read_limit, 0},
		{"reservation", skip_loudly, 0},
		{"swap", skip, 0}, /* a guest has none */
		{"kernel", NULL, 0},
		{"kernelTCP", NULL, 0},
		{"swappiness", skip, 0},
		{"disableOOMKiller", NULL, 0},
		{"useHierarchy", skip, 0},
		{"checkBeforeUpdate", skip, 0},
		{0},
	};

	return read_object(at, json, keys, true, to);
}

static int read_cpu(const struct place *at, json_t *json, void *to)
{
	static const struct key keys[] = {
		{"shares", skip_loudly, 0},
		{"quota", read_limit, AT(cpu_quota)},
		{"period", read_u64, AT(cpu_period)},
		{"burst", NULL, 0},
		{"realtimeRuntime", NULL, 0},
		{"realtimePeriod", NULL, 0},
		{"cpus", NULL, 0},
		{"mems", NULL, 0},
		{"idle", NULL, 0},
		{0},
	};

	return read_object(at, json, keys, true, to);
}

static int read_pids(const struct place *at, json_t *json, void *to)
{
	static const struct key keys[] = {{"limit", read_limit, 0}, {0}};

	return read_object(at, json, keys, true, to);
}

static int read_resources(const struct place *at, json_t *json, void *to)
{
	static const struct key keys[] = {
		{"devices", read_device_rules, AT(all_devices)},
		{"memory", read_memory, AT(memory_limit)},
		{"cpu", read_cpu, 0},
		{"pids", read_pids, AT(pids_limit)},
		{"blockIO", NULL, 0},
		{"hugepageLimits", NULL, 0},
		{"network", NULL, 0},
		{"rdma", NULL, 0},
		{"unified", NULL, 0},
		{0},
	};

	return read_object(at, json, keys, true, to);
}

/* A machine's mounts go nowhere. */
static int read_propagation(const struct place *at, json_t *json, void *to)
{
	static const char *const known[] = {"", "private", "rprivate", "slave",
					    "rslave"};
	const char *text = json_string_value(json);

	(void)to;
	for (unsigned i = 0; text && i < ARRAY_LEN(known); i++)
		if (strcmp(text, known[i]) == 0)
			return 0;
	return fail(at, -ENOTSUP, "only private and slave are supported");
}

static int read_seccomp(const struct place *at, json_t *json, void *to)
{
	json_t **seccomp = to;

	if (!json_is_object(json))
		return fail(at, -EINVAL, "expected an object");
	json_decref(*seccomp);
	*seccomp = json_incref(json);
	return 0;
}

static int read_linux(const struct place *at, json_t *json, void *to)
{
	static const struct key keys[] = {
		{"namespaces", read_namespaces, AT(namespaces)},
		{"uidMappings", NULL, 0},
		{"gidMappings", NULL, 0},
		{"timeOffsets", NULL, 0},
		{"devices", NULL, 0},
		{"netDevices", NULL, 0},
		{"cgroupsPath", read_text, AT(cgroups_path)},
		{"resources", read_resources, 0},
		{"intelRdt", NULL, 0},
		{"memoryPolicy", NULL, 0},
		{"sysctl", read_map, AT(sysctl)},
		{"seccomp", read_seccomp, AT(seccomp)},
		{"rootfsPropagation", read_propagation, 0},
		{"maskedPaths", read_paths, AT(masked_paths)},
		{"readonlyPaths", read_paths, AT(readonly_paths)},
		{"mountLabel", NULL, 0},
		{"personality", NULL, 0},
		{0},
	};

	return read_object(at, json, keys, true, to);
}

#undef AT

/* ---- the whole of it */

#define AT(member) offsetof(struct spec, member)

static int read_root(const struct place *at, json_t *json, void *to)
{
	static const struct key keys[] = {
		{"path", read_text, AT(root_path)},
		{"readonly", read_flag, AT(root_readonly)},
		{0},
	};

	return read_object(at, json, keys, true, to);
}

static int add_mount(const struct place *at, json_t *json, void *to)
{
	static const struct key keys[] = {
		{"destination", read_text,
		 offsetof(struct spec_mount, destination)},
		{"type", read_text, offsetof(struct spec_mount, type)},
		{"source", read_text, offsetof(struct spec_mount, source)},
		{"options", read_texts, offsetof(struct spec_mount, options)},
		{"uidMappings", NULL, 0},
		{"gidMappings", NULL, 0},
		{0},
	};
	struct spec_mount *mount = spec_new_mount(to);
	int r = mount ? read_object(at, json, keys, true, mount) : -E2BIG;

	if (r == 0 && (!mount->destination || mount->destination[0] != '/'))
		r = fail(at, -EINVAL,
			 "destination: expected a path that begins with /");
	return r;
}

static int read_mounts(const struct place *at, json_t *json, void *to)
{
	return read_list(at, json, add_mount, to);
}

static int read_own_process(const struct place *at, json_t *json, void *to)
{
	struct spec *spec = to;

	spec->has_process = true;
	return read_process(at, json, &spec->process);
}

static int check_spec(const struct place *at, const struct spec *spec)
{
	if (!spec->oci_version || strncmp(spec->oci_version, "1.", 2) != 0)
		return fail(
			at, -EINVAL,
			"ociVersion: expected a version like " SPEC_VERSION);
	if (!spec->root_path || spec->root_path[0] == '\0')
		return fail(at, -EINVAL, "root.path: expected a directory");
	return 0;
}

static int read_spec(const struct place *at, json_t *json, struct spec *spec)
{
	static const struct key keys[] = {
		{"ociVersion", read_text, AT(oci_version)},
		{"root", read_root, 0},
		{"process", read_own_process, 0},
		{"hostname", read_text, AT(hostname)},
		{"domainname", NULL, 0},
		{"mounts", read_mounts, 0},
		{"hooks", NULL, 0},
		{"annotations", read_map, AT(annotations)},
		{"linux", read_linux, AT(linux_part)},
		{"solaris", NULL, 0},
		{"windows", NULL, 0},
		{"vm", NULL, 0},
		{"zos", NULL, 0},
		{0},
	};
	int r = read_object(at, json, keys, false, spec);

	return r < 0 ? r : check_spec(at, spec);
}

int spec_from_json(const char *name, json_t *json, struct spec *ret)
{
	const struct place at = {NULL, name, 0};
	struct spec spec = {0};
	int r = read_spec(&at, json, &spec);

	if (r < 0)
		spec_done(&spec);
	else
		*ret = spec;
	return r;
}

/* Whole numbers that fit become integers again. A reference to the result. */
static json_t *restore_integers(json_t *json)
{
	const double real = json_real_value(json);
	const char *name;
	json_t *value;
	size_t i;

	if (json_is_real(json) && real > -INTEGERS_END && real < INTEGERS_END &&
	    real == (double)(json_int_t)real)
		return json_integer((json_int_t)real);
	json_array_foreach(json, i, value) {
		json_array_set_new(json, i, restore_integers(value));
	}
	json_object_foreach(json, name, value) {
		json_object_set_new(json, name, restore_integers(value));
	}
	return json_incref(json);
}

/*
 * Go writes "no limit" as the largest number of 64 bits, which Jansson takes as
 * a real alone. NULL: logged.
 */
static json_t *parse(const char *name, const char *text, size_t bytes)
{
	json_error_t error;
	json_t *json = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
	json_t *reals = NULL;

	if (!json && json_error_code(&error) == json_error_numeric_overflow)
		reals = json_loadb(text, bytes,
				   JSON_REJECT_DUPLICATES |
					   JSON_DECODE_INT_AS_REAL,
				   &error);
	if (reals) {
		json = restore_integers(reals);
		json_decref(reals);
	} else if (!json) {
		log_error("'%s': line %d: %s", name, error.line, error.text);
	}
	return json;
}

int spec_read(const char *name, const char *text, size_t bytes,
	      struct spec *ret)
{
	json_t *json = parse(name, text, bytes);
	int r = json ? spec_from_json(name, json, ret) : -EINVAL;

	json_decref(json);
	return r;
}

int spec_process_read(const char *name, const char *text, size_t bytes,
		      struct spec_process *ret)
{
	const struct place at = {NULL, name, 0};
	struct spec_process process = {0};
	json_t *json = parse(name, text, bytes);
	int r = json ? read_process(&at, json, &process) : -EINVAL;

	json_decref(json);
	if (r < 0)
		spec_process_done(&process);
	else
		*ret = process;
	return r;
}
