/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Docker's profiles have conditions ("includes", "excludes", "archMap") that
 * OCI's do not; what an OCI runtime reads, crun, decides whether the rest is
 * right.
 */
#include "tools/container/oci-seccomp.h"

#include "tools/agent/agent.h"
#include "vmm/base/log.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* The guest's: the oldest kernel that firmware/kernel builds. */
#define KERNEL_MAJOR 6
#define KERNEL_MINOR 1

#define ARCHITECTURE "SCMP_ARCH_X86_64"

static bool is_text(json_t *value, const char *text)
{
	return json_is_string(value) &&
	       strcmp(json_string_value(value), text) == 0;
}

static bool has_cap(json_t *name, uint64_t caps)
{
	const int n = json_is_string(name)
			      ? agent_capability(json_string_value(name))
			      : -EINVAL;

	return n >= 0 && caps >> n & 1;
}

static bool is_kernel_older(json_t *version)
{
	unsigned major = 0, minor = 0;

	if (!json_is_string(version) ||
	    sscanf(json_string_value(version), "%u.%u", &major, &minor) != 2)
		return false;
	return KERNEL_MAJOR < major ||
	       (KERNEL_MAJOR == major && KERNEL_MINOR < minor);
}

/* All of its conditions hold; there are none where RULE is NULL. */
static bool is_included(json_t *rule, uint64_t caps)
{
	json_t *arches = json_object_get(rule, "arches");
	bool ours = json_array_size(arches) == 0;
	json_t *value;
	size_t i;

	json_array_foreach(arches, i, value)
		ours |= is_text(value, "amd64");
	json_array_foreach(json_object_get(rule, "caps"), i, value) {
		if (!has_cap(value, caps))
			return false;
	}
	return ours && !is_kernel_older(json_object_get(rule, "minKernel"));
}

/* One of them does. */
static bool is_excluded(json_t *rule, uint64_t caps)
{
	json_t *kernel = json_object_get(rule, "minKernel");
	json_t *value;
	size_t i;

	json_array_foreach(json_object_get(rule, "arches"), i, value) {
		if (is_text(value, "amd64"))
			return true;
	}
	json_array_foreach(json_object_get(rule, "caps"), i, value) {
		if (has_cap(value, caps))
			return true;
	}
	return kernel && !is_kernel_older(kernel);
}

static void copy(json_t *from, json_t *to, const char *name)
{
	json_t *value = json_object_get(from, name);

	if (value && !json_is_null(value))
		json_object_set(to, name, value);
}

static json_t *make_syscalls(json_t *profile, uint64_t caps)
{
	json_t *all = json_array();
	json_t *call;
	size_t i;

	json_array_foreach(json_object_get(profile, "syscalls"), i, call) {
		json_t *out, *name = json_object_get(call, "name");

		if (!is_included(json_object_get(call, "includes"), caps) ||
		    is_excluded(json_object_get(call, "excludes"), caps))
			continue;
		out = json_object();
		copy(call, out, "names");
		if (name) /* of older profiles */
			json_object_set_new(out, "names",
					    json_pack("[O]", name));
		copy(call, out, "action");
		copy(call, out, "errnoRet");
		copy(call, out, "args");
		json_array_append_new(all, out);
	}
	return all;
}

static json_t *make_architectures(json_t *profile)
{
	json_t *list = json_object_get(profile, "architectures");
	json_t *entry;
	size_t i;

	if (json_array_size(list) > 0)
		return json_incref(list);
	list = json_array();
	json_array_foreach(json_object_get(profile, "archMap"), i, entry) {
		json_t *more = json_object_get(entry, "subArchitectures");

		if (!is_text(json_object_get(entry, "architecture"),
			     ARCHITECTURE))
			continue;
		json_array_append_new(list, json_string(ARCHITECTURE));
		json_array_extend(list, more);
	}
	return list;
}

json_t *oci_seccomp_load(const char *path, uint64_t caps)
{
	json_error_t error;
	json_t *profile = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
	json_t *seccomp;

	if (!profile ||
	    !json_is_string(json_object_get(profile, "defaultAction"))) {
		log_error("seccomp profile '%s': %s", path,
			  profile ? "it has no defaultAction" : error.text);
		json_decref(profile);
		return NULL;
	}
	seccomp = json_object();
	copy(profile, seccomp, "defaultAction");
	copy(profile, seccomp, "defaultErrnoRet");
	copy(profile, seccomp, "flags");
	json_object_set_new(seccomp, "architectures",
			    make_architectures(profile));
	json_object_set_new(seccomp, "syscalls", make_syscalls(profile, caps));
	json_decref(profile);
	return seccomp;
}
