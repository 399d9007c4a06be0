/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes the JSON that tools/spec writes and changes it where the guest differs
 * from the host. crun sets up the container's own namespaces there; all else is
 * the machine.
 */
#include "tools/container/oci-config.h"

#include "firmware/agent/agent.h"
#include "tools/agent/agent.h"
#include "tools/spec/spec.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* TEXT: words with commas between. */
static json_t *words(const char *text)
{
	json_t *list = json_array();

	while (text && *text) {
		const size_t n = strcspn(text, ",");

		json_array_append_new(list, json_stringn(text, n));
		text += n + (text[n] == ',');
	}
	return list;
}

/* ---- mounts */

/* Below another mount crun makes the place itself; see AGENT_OCI_VOLUME. */
static void set_mount(json_t *json, const struct agent_mount *m, size_t number)
{
	json_t *options = words(m->options);
	json_t *source;

	if (m->tag) {
		source = json_sprintf(AGENT_OCI_VOLUME "%zu%s%s", number,
				      m->subpath ? "/" : "",
				      m->subpath ? m->subpath : "");
		json_object_set_new(json, "source", source);
		json_object_set_new(json, "type", json_string("bind"));
		json_array_append_new(options, json_string("rbind"));
		json_array_append_new(options, json_string("rprivate"));
	}
	json_object_set_new(json, "options", options);
}

static void set_mounts(json_t *config, const struct agent_mount *mounts,
		       bool init)
{
	json_t *list = json_object_get(config, "mounts");
	json_t *json;
	size_t i;

	json_array_foreach(list, i, json) {
		set_mount(json, &mounts[i], i);
	}
	if (init)
		json_array_append_new(
			list,
			json_pack("{ss, ss, ss, so}", "destination",
				  AGENT_OCI_REAPER, "type", "bind", "source",
				  AGENT_OCI_INIT, "options", words("bind,ro")));
}

/* ---- "linux" */

/* Sysctls of the container's own namespaces; all others are the machine's. */
static bool is_namespaced(const char *sysctl)
{
	static const char *const prefix[] = {"kernel.shm", "kernel.msg",
					     "kernel.sem", "fs.mqueue."};

	for (unsigned i = 0; i < ARRAY_LEN(prefix); i++) {
		if (strncmp(sysctl, prefix[i], strlen(prefix[i])) == 0)
			return true;
	}
	return false;
}

static void keep_namespaced(json_t *sysctls)
{
	const char *name;
	json_t *value;
	void *next;

	json_object_foreach_safe(sysctls, next, name, value) {
		if (!is_namespaced(name))
			json_object_del(sysctls, name);
	}
}

/* The machine's network is the container's. */
static json_t *make_namespaces(void)
{
	static const char *const name[] = {"pid", "mount", "uts", "ipc",
					   "cgroup"};
	json_t *list = json_array();

	for (unsigned i = 0; i < ARRAY_LEN(name); i++)
		json_array_append_new(list, json_pack("{ss}", "type", name[i]));
	return list;
}

static void set_linux(json_t *linux_part, const struct spec_linux *l)
{
	json_t *resources = json_object_get(linux_part, "resources");

	keep_namespaced(json_object_get(linux_part, "sysctl"));
	json_object_set_new(linux_part, "namespaces", make_namespaces());
	json_object_set_new(linux_part, "cgroupsPath",
			    json_string("/container"));
	json_object_del(resources, "memory");
	/* Whole CPUs are the machine's. */
	if (!l->cpu_period || l->cpu_quota % l->cpu_period == 0)
		json_object_del(resources, "cpu");
}

/* ---- texts */

/* JSON has no other texts: the writer would put signs in their place. */
static bool is_text(const char *text)
{
	json_t *value = json_string(text ? text : "");
	const bool valid = value;

	json_decref(value);
	if (!valid)
		log_error("'%s' is not UTF-8, which crun needs", text);
	return valid;
}

static bool are_texts(const struct text_list *list)
{
	bool valid = true;

	for (unsigned i = 0; valid && i < list->count; i++)
		valid = is_text(list->item[i]);
	return valid;
}

static bool all_texts(const struct spec *spec, const struct agent_mount *mounts)
{
	const struct spec_linux *l = &spec->linux_part;
	bool valid = is_text(spec->hostname) && are_texts(&l->sysctl) &&
		     are_texts(&l->masked_paths) &&
		     are_texts(&l->readonly_paths);

	for (size_t i = 0; valid && i < spec->nmounts; i++)
		valid = is_text(spec->mounts[i].destination) &&
			is_text(mounts[i].subpath) &&
			are_texts(&spec->mounts[i].options);
	for (size_t i = 0; valid && i < l->ndevices; i++)
		valid = is_text(l->devices[i].path);
	return valid;
}

char *oci_config_make(const struct spec *spec, const struct agent_mount *mounts,
		      bool init)
{
	json_t *config = all_texts(spec, mounts) ? spec_json(spec) : NULL;
	autofree char *text = NULL;
	char *wide;

	if (!config)
		return NULL;
	json_object_del(config, "process");
	json_object_del(config, "annotations");
	json_object_set_new(json_object_get(config, "root"), "path",
			    json_string(AGENT_OCI_ROOT));
	set_mounts(config, mounts, init);
	set_linux(json_object_get(config, "linux"), &spec->linux_part);
	text = json_dumps(config, JSON_COMPACT);
	json_decref(config);
	wide = text ? spec_widen(text) : NULL;
	if (!wide)
		log_error("the container's config.json: out of memory");
	return wide;
}
