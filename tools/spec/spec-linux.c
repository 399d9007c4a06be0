/* SPDX-License-Identifier: Apache-2.0 */
/* "linux" of config.json (config-linux.md of the specification). */
#include "tools/spec/spec-parts.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define AT(member) offsetof(struct spec_linux, member)

struct namespace
{
	char *type, *path;
};

static int add_namespace(const struct spec_place *at, json_t *json, void *to)
{
	static const struct spec_key keys[] = {
		{"type", spec_read_text, offsetof(struct namespace, type)},
		{"path", NULL, 0},
		{0},
	};
	static const char *const names[] = {"pid", "network", "mount",
					    "ipc", "uts",     "cgroup"};
	struct namespace ns = {NULL, NULL};
	int r = spec_read_object(at, json, keys, true, &ns);
	unsigned i = 0;

	while (i < ARRAY_LEN(names) &&
	       (!ns.type || strcmp(names[i], ns.type) != 0))
		i++;
	if (r == 0 && i == ARRAY_LEN(names))
		r = spec_fail(at, -ENOTSUP,
			      "supported are pid, network, mount, ipc, uts and "
			      "cgroup");
	else if (r == 0 && (*(unsigned *)to & 1U << i))
		r = spec_fail(at, -EINVAL, "is there twice");
	else if (r == 0)
		*(unsigned *)to |= 1U << i;
	free(ns.type);
	return r;
}

static int read_namespaces(const struct spec_place *at, json_t *json, void *to)
{
	return spec_read_list(at, json, add_namespace, to);
}

/* ---- devices */

static int read_type(const struct spec_place *at, json_t *json, void *to)
{
	const char *text = json_string_value(json);

	/* "u" is an older name for "c"; nothing at all is any. */
	if (text && (text[0] == '\0' || strcmp(text, "a") == 0))
		*(char *)to = 'a';
	else if (text && (strcmp(text, "c") == 0 || strcmp(text, "u") == 0))
		*(char *)to = 'c';
	else if (text && strcmp(text, "b") == 0)
		*(char *)to = 'b';
	else
		return spec_fail(at, -ENOTSUP, "supported are a, b, c and u");
	return 0;
}

/* Linux has 12 bits of one and 20 of the other; -1 is any. */
static int read_major(const struct spec_place *at, json_t *json, void *to)
{
	uint64_t n = 0;
	int r = 0;

	if (!json_is_integer(json) || json_integer_value(json) != -1)
		r = spec_get_number(at, json, 0xfff, &n);
	else
		n = UINT32_MAX;
	if (r == 0)
		*(int32_t *)to = (int32_t)n;
	return r;
}

static int read_minor(const struct spec_place *at, json_t *json, void *to)
{
	uint64_t n = 0;
	int r = 0;

	if (!json_is_integer(json) || json_integer_value(json) != -1)
		r = spec_get_number(at, json, 0xfffff, &n);
	else
		n = UINT32_MAX;
	if (r == 0)
		*(int32_t *)to = (int32_t)n;
	return r;
}

static int read_access(const struct spec_place *at, json_t *json, void *to)
{
	const char *text = json_string_value(json);
	unsigned access = 0;

	for (; text && *text; text++) {
		if (*text != 'r' && *text != 'w' && *text != 'm')
			return spec_fail(at, -EINVAL, "expected r, w and m");
		access |= *text == 'r'   ? SPEC_ACCESS_READ
			  : *text == 'w' ? SPEC_ACCESS_WRITE
					 : SPEC_ACCESS_MKNOD;
	}
	if (!text)
		return spec_fail(at, -EINVAL, "expected a string");
	*(unsigned *)to = access ? access : SPEC_ACCESS_ALL;
	return 0;
}

static int add_rule(const struct spec_place *at, json_t *json, void *to)
{
	static const struct spec_key keys[] = {
		{"allow", spec_read_flag,
		 offsetof(struct spec_device_rule, allow)},
		{"type", read_type, offsetof(struct spec_device_rule, type)},
		{"major", read_major, offsetof(struct spec_device_rule, major)},
		{"minor", read_minor, offsetof(struct spec_device_rule, minor)},
		{"access", read_access,
		 offsetof(struct spec_device_rule, access)},
		{0},
	};
	struct spec_device_rule *rule = spec_new_rule(to);

	if (!rule)
		return -E2BIG;
	*rule = (struct spec_device_rule){false, 'a', -1, -1, SPEC_ACCESS_ALL};
	return spec_read_object(at, json, keys, true, rule);
}

static int read_rules(const struct spec_place *at, json_t *json, void *to)
{
	return spec_read_list(at, json, add_rule, to);
}

/*
 * Numbers that mean the same in every Linux. Others are given out by the kernel
 * that has the device: the host's number would be another device of the guest.
 */
static bool is_fixed_device(const struct spec_device *d)
{
	static const uint8_t fixed[][2] = {
		{1, 3}, {1, 5}, {1, 7},    {1, 8},    {1, 9},
		{5, 0}, {5, 2}, {10, 200}, {10, 229},
	};

	for (unsigned i = 0; i < ARRAY_LEN(fixed); i++)
		if (d->type == 'c' && d->major == fixed[i][0] &&
		    d->minor == fixed[i][1])
			return true;
	return false;
}

static int read_u32(const struct spec_place *at, json_t *json, void *to)
{
	uint64_t n = 0;
	int r = spec_get_number(at, json, UINT32_MAX, &n);

	if (r == 0)
		*(uint32_t *)to = (uint32_t)n;
	return r;
}

static int refuse_device(const struct spec_place *at,
			 const struct spec_device *device)
{
	char text[256];

	snprintf(text, sizeof(text),
		 "'%s' is a device of the host's, which a machine of its own "
		 "does not have",
		 device->path);
	return spec_fail(at, -ENOTSUP, text);
}

#define DEVICE(member) offsetof(struct spec_device, member)

static int add_device(const struct spec_place *at, json_t *json, void *to)
{
	static const struct spec_key keys[] = {
		{"path", spec_read_text, DEVICE(path)},
		{"type", read_type, DEVICE(type)},
		{"major", read_u32, DEVICE(major)},
		{"minor", read_u32, DEVICE(minor)},
		{"fileMode", read_u32, DEVICE(mode)},
		{"uid", spec_read_id, DEVICE(uid)},
		{"gid", spec_read_id, DEVICE(gid)},
		{0},
	};
	struct spec_device *device = spec_new_device(to);
	int r = device ? 0 : -E2BIG;

	if (r == 0) {
		device->mode = 0666;
		r = spec_read_object(at, json, keys, true, device);
	}
	if (r < 0)
		return r;
	device->mode &= 07777;
	if (!device->path || device->path[0] != '/' ||
	    strcmp(device->path, "/") == 0)
		return spec_fail(at, -EINVAL,
				 "path: expected a path that begins with /");
	return is_fixed_device(device) ? 0 : refuse_device(at, device);
}

#undef DEVICE

static int read_devices(const struct spec_place *at, json_t *json, void *to)
{
	return spec_read_list(at, json, add_device, to);
}

/* ---- resources */

/* Linux's own default is 1024. */
static int read_shares(const struct spec_place *at, json_t *json, void *to)
{
	(void)to;
	if (!spec_says_nothing(json) &&
	    !(json_is_integer(json) && json_integer_value(json) == 1024))
		spec_warn(at,
			  "left out, as it weighs against other containers, "
			  "of which a machine of its own has none");
	return 0;
}

static int read_memory(const struct spec_place *at, json_t *json, void *to)
{
	static const struct spec_key keys[] = {
		{"limit", spec_read_limit, 0},
		{"reservation", NULL, 0},
		{"swap", spec_skip, 0}, /* a guest has none */
		{"kernel", NULL, 0},
		{"kernelTCP", NULL, 0},
		{"swappiness", spec_skip, 0},
		{"disableOOMKiller", NULL, 0},
		{"useHierarchy", spec_skip, 0},
		{"checkBeforeUpdate", spec_skip, 0},
		{0},
	};

	return spec_read_object(at, json, keys, true, to);
}

static int read_cpu(const struct spec_place *at, json_t *json, void *to)
{
	static const struct spec_key keys[] = {
		{"shares", read_shares, 0},
		{"quota", spec_read_limit, AT(cpu_quota)},
		{"period", spec_read_u64, AT(cpu_period)},
		{"burst", NULL, 0},
		{"realtimeRuntime", NULL, 0},
		{"realtimePeriod", NULL, 0},
		{"cpus", NULL, 0},
		{"mems", NULL, 0},
		{"idle", NULL, 0},
		{0},
	};

	return spec_read_object(at, json, keys, true, to);
}

static int read_pids(const struct spec_place *at, json_t *json, void *to)
{
	static const struct spec_key keys[] = {{"limit", spec_read_limit, 0},
					       {0}};

	return spec_read_object(at, json, keys, true, to);
}

static int read_resources(const struct spec_place *at, json_t *json, void *to)
{
	static const struct spec_key keys[] = {
		{"devices", read_rules, 0},
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

	return spec_read_object(at, json, keys, true, to);
}

/* A machine's mounts go nowhere. */
static int read_propagation(const struct spec_place *at, json_t *json, void *to)
{
	static const char *const known[] = {"", "private", "rprivate", "slave",
					    "rslave"};
	const char *text = json_string_value(json);

	(void)to;
	for (unsigned i = 0; text && i < ARRAY_LEN(known); i++)
		if (strcmp(text, known[i]) == 0)
			return 0;
	return spec_fail(at, -ENOTSUP, "only private and slave are supported");
}

static int read_seccomp(const struct spec_place *at, json_t *json, void *to)
{
	json_t **seccomp = to;

	if (!json_is_object(json))
		return spec_fail(at, -EINVAL, "expected an object");
	json_decref(*seccomp);
	*seccomp = json_incref(json);
	return 0;
}

int spec_read_linux_object(const struct spec_place *at, json_t *json, void *to)
{
	static const struct spec_key keys[] = {
		{"namespaces", read_namespaces, AT(namespaces)},
		{"uidMappings", NULL, 0},
		{"gidMappings", NULL, 0},
		{"timeOffsets", NULL, 0},
		{"devices", read_devices, 0},
		{"netDevices", NULL, 0},
		{"cgroupsPath", spec_read_text, AT(cgroups_path)},
		{"resources", read_resources, 0},
		{"intelRdt", NULL, 0},
		{"memoryPolicy", NULL, 0},
		{"sysctl", spec_read_map, AT(sysctl)},
		{"seccomp", read_seccomp, AT(seccomp)},
		{"rootfsPropagation", read_propagation, 0},
		{"maskedPaths", spec_read_paths, AT(masked_paths)},
		{"readonlyPaths", spec_read_paths, AT(readonly_paths)},
		{"mountLabel", NULL, 0},
		{"personality", NULL, 0},
		{0},
	};

	return spec_read_object(at, json, keys, true, to);
}

#undef AT
