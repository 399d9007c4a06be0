/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Docker's default specification, less what a machine of its own has no use
 * for: no network namespace (the machine's network is the container's), no user
 * namespace, no limits of memory and CPUs; and no seccomp filter but one that
 * is given.
 */
#include "tools/container/oci-config.h"

#include "firmware/agent/agent-defaults.h"
#include "firmware/agent/agent.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

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

static json_t *strings(const char *const *text)
{
	json_t *list = json_array();

	for (; *text; text++)
		json_array_append_new(list, json_string(*text));
	return list;
}

/* ---- mounts */

static void add_mount(json_t *list, const char *type, const char *source,
		      const char *target, json_t *options)
{
	json_array_append_new(list, json_pack("{ss, ss, ss, so}", "destination",
					      target, "type", type, "source",
					      source, "options", options));
}

static void add_filesystems(json_t *list, const struct agent_config *c)
{
	const struct agent_filesystem *fs;
	char shm[80];

	for (fs = agent_filesystems; fs->type; fs++) {
		const bool cgroups = strcmp(fs->type, "cgroup2") == 0;
		const char *type = cgroups ? "cgroup" : fs->type;
		json_t *options = words(fs->options);

		if (fs->guarded && !c->privileged)
			json_array_append_new(options, json_string("ro"));
		add_mount(list, type, type, fs->target, options);
	}
	snprintf(shm, sizeof(shm), AGENT_SHM_OPTIONS ",size=%llu",
		 (unsigned long long)(c->shm_bytes ? c->shm_bytes
						   : AGENT_SHM_MIB * MIB));
	add_mount(list, "tmpfs", "shm", "/dev/shm", words(shm));
}

static void add_volume(json_t *list, const struct agent_mount *m, size_t number)
{
	char *source = NULL;
	json_t *options, *more;

	if (!m->tag) {
		options = words("nosuid,nodev");
		json_array_append_new(
			options, json_string(m->noexec ? "noexec" : "exec"));
		json_array_append_new(options,
				      json_string(m->readonly ? "ro" : "rw"));
		more = words(m->options);
		json_array_extend(options, more);
		json_decref(more);
		add_mount(list, "tmpfs", "tmpfs", m->target, options);
		return;
	}
	if (asprintf(&source, AGENT_OCI_VOLUME "%zu%s%s", number,
		     m->subpath ? "/" : "", m->subpath ? m->subpath : "") < 0)
		return;
	options = words("rbind,rprivate");
	json_array_append_new(options, json_string(m->readonly ? "ro" : "rw"));
	add_mount(list, "bind", source, m->target, options);
	free(source);
}

static json_t *make_mounts(const struct agent_config *c, bool init)
{
	json_t *list = json_array();

	add_filesystems(list, c);
	for (size_t i = 0; i < c->nmounts; i++)
		add_volume(list, &c->mounts[i], i);
	if (init)
		add_mount(list, "bind", AGENT_OCI_INIT, AGENT_OCI_REAPER,
			  words("bind,ro"));
	return list;
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

static json_t *make_sysctls(const struct agent_config *c)
{
	const char *const *p = c->sysctls;
	json_t *all = json_object();

	for (; p && *p; p++) {
		const char *value = strchr(*p, '=');

		if (value && is_namespaced(*p))
			json_object_setn_new(all, *p, (size_t)(value - *p),
					     json_string(value + 1));
	}
	return all;
}

static json_t *make_namespaces(void)
{
	static const char *const name[] = {"pid", "mount", "uts", "ipc",
					   "cgroup"};
	json_t *list = json_array();

	for (unsigned i = 0; i < ARRAY_LEN(name); i++)
		json_array_append_new(list, json_pack("{ss}", "type", name[i]));
	return list;
}

static json_t *make_resources(const struct agent_config *c)
{
	json_t *all = json_pack("{s[{sb, ss}]}", "devices", "allow",
				(int)c->privileged, "access", "rwm");

	if (c->pids_max)
		json_object_set_new(
			all, "pids",
			json_pack("{sI}", "limit", (json_int_t)c->pids_max));
	return all;
}

static json_t *make_linux(const struct agent_config *c)
{
	static const char *const none[] = {NULL};

	return json_pack("{so, so, so, ss, so, so}", "namespaces",
			 make_namespaces(), "sysctl", make_sysctls(c),
			 "resources", make_resources(c), "cgroupsPath",
			 "/container", "maskedPaths",
			 strings(c->privileged ? none : agent_masked_paths),
			 "readonlyPaths",
			 strings(c->privileged ? none : agent_readonly_paths));
}

/* JSON has no other texts: what is not UTF-8 would silently be missing. */
static bool is_text(const char *text)
{
	json_t *value = json_string(text ? text : "");
	const bool valid = value;

	json_decref(value);
	if (!valid)
		log_error("'%s' is not UTF-8, which crun needs", text);
	return valid;
}

static bool all_texts(const struct agent_config *c)
{
	const char *const *p = c->sysctls;
	bool valid = is_text(c->hostname);

	for (; valid && p && *p; p++)
		valid = is_text(*p);
	for (size_t i = 0; valid && i < c->nmounts; i++)
		valid = is_text(c->mounts[i].target) &&
			is_text(c->mounts[i].subpath) &&
			is_text(c->mounts[i].options);
	return valid;
}

char *oci_config_make(const struct agent_config *c, bool init, json_t *seccomp)
{
	json_t *config;
	char *text = NULL;

	if (!all_texts(c)) {
		json_decref(seccomp);
		return NULL;
	}
	config = json_pack("{ss, s{ss, sb}, so, so}", "ociVersion", "1.0.2",
			   "root", "path", AGENT_OCI_ROOT, "readonly",
			   (int)c->root_readonly, "mounts",
			   make_mounts(c, init), "linux", make_linux(c));
	if (seccomp && json_object_set_new(json_object_get(config, "linux"),
					   "seccomp", seccomp) < 0) {
		json_decref(config);
		config = NULL;
	}
	if (config && c->hostname)
		json_object_set_new(config, "hostname",
				    json_string(c->hostname));
	if (config)
		text = json_dumps(config, JSON_COMPACT);
	json_decref(config);
	if (!text)
		log_error("the container's config.json: out of memory");
	return text;
}
