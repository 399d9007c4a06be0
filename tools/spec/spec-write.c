/* SPDX-License-Identifier: Apache-2.0 */
/* The one writer of OCI's JSON. */
#include "tools/spec/spec-parts.h"

#include "firmware/agent/agent-names.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

/*
 * JSON has only UTF-8: a text with other bytes is {"escaped": TEXT}, where
 * \xNN stands for a byte. spec_get_text() reads it.
 */
static json_t *text_json_string(const char *text)
{
	json_t *json = json_string(text);
	autofree char *escaped = NULL;
	char *to;

	if (json)
		return json;
	escaped = malloc(4 * strlen(text) + 1);
	if (!escaped)
		return NULL;
	to = escaped;
	for (; *text; text++) {
		const unsigned char c = (unsigned char)*text;

		if (c < ' ' || c > '~' || c == '\\')
			to += sprintf(to, "\\x%02x", c);
		else
			*to++ = (char)c;
	}
	*to = '\0';
	return json_pack("{ss}", SPEC_ESCAPED, escaped);
}

/* A text that is not there leaves the key out. */
static void set_text(json_t *object, const char *key, const char *text)
{
	if (text)
		json_object_set_new(object, key, text_json_string(text));
}

static json_t *texts(const struct text_list *list)
{
	json_t *json = json_array();

	for (unsigned i = 0; i < list->count; i++)
		json_array_append_new(json, text_json_string(list->item[i]));
	return json;
}

/* "name=value" each. */
static json_t *map(const struct text_list *list)
{
	json_t *json = json_object();

	for (unsigned i = 0; i < list->count; i++) {
		const char *text = list->item[i];
		const size_t n = strcspn(text, "=");

		/* A name has no other form. */
		if (json_object_setn_new(
			    json, text, n,
			    text_json_string(text + n + (text[n] == '='))) <
		    0) {
			json_decref(json);
			return NULL;
		}
	}
	return json;
}

static json_t *number(uint64_t n)
{
	return json_integer((json_int_t)n);
}

/* ---- process */

static json_t *gids(const struct text_list *list)
{
	json_t *json = json_array();

	for (unsigned i = 0; i < list->count; i++) {
		const char *text = list->item[i];
		uint64_t n;

		json_array_append_new(
			json, text[strspn(text, "0123456789")] == '\0' &&
					      util_parse_number(text, 0,
								UINT32_MAX - 1,
								&n) == 0
				      ? number(n)
				      : text_json_string(text));
	}
	return json;
}

static json_t *user_json(const struct spec_user *user)
{
	json_t *json = json_object();

	json_object_set_new(json, "uid", number(user->uid));
	json_object_set_new(json, "gid", number(user->gid));
	set_text(json, "username", user->username);
	if (user->has_umask)
		json_object_set_new(json, "umask", number(user->umask));
	if (user->additional_gids.count)
		json_object_set_new(json, "additionalGids",
				    gids(&user->additional_gids));
	return json;
}

static json_t *capability_set(uint64_t mask)
{
	json_t *json = json_array();

	for (unsigned i = 0; agent_capability_name(i); i++) {
		if (mask >> i & 1)
			json_array_append_new(
				json, json_sprintf("CAP_%s",
						   agent_capability_name(i)));
	}
	return json;
}

static json_t *capabilities_json(const struct spec_capabilities *c)
{
	json_t *json = json_pack("{so, so, so}", "bounding",
				 capability_set(c->bounding), "effective",
				 capability_set(c->effective), "permitted",
				 capability_set(c->permitted));

	if (c->inheritable)
		json_object_set_new(json, "inheritable",
				    capability_set(c->inheritable));
	if (c->ambient)
		json_object_set_new(json, "ambient",
				    capability_set(c->ambient));
	return json;
}

/* Jansson has no larger numbers; neither has Linux any use for them. */
static json_t *limit(uint64_t n)
{
	return json_integer(n > INT64_MAX ? -1 : (json_int_t)n);
}

static json_t *rlimits_json(const struct spec_process *process)
{
	json_t *json = json_array();

	for (size_t i = 0; i < process->nrlimits; i++) {
		const struct spec_rlimit *l = &process->rlimits[i];

		json_array_append_new(
			json,
			json_pack("{so, so, so}", "type",
				  json_sprintf(
					  "RLIMIT_%s",
					  agent_limit_name((unsigned)l->type)),
				  "soft", limit(l->soft), "hard",
				  limit(l->hard)));
	}
	return json;
}

json_t *spec_process_json(const struct spec_process *p)
{
	json_t *json =
		json_pack("{sb, so, so, so, so, sb}", "terminal",
			  (int)p->terminal, "user", user_json(&p->user), "args",
			  texts(&p->args), "env", texts(&p->env),
			  "capabilities", capabilities_json(&p->capabilities),
			  "noNewPrivileges", (int)p->no_new_privileges);

	if (!json) {
		log_error("out of memory");
		return NULL;
	}
	set_text(json, "cwd", p->cwd);
	set_text(json, "apparmorProfile", p->apparmor_profile);
	set_text(json, "selinuxLabel", p->selinux_label);
	if (p->console_height || p->console_width)
		json_object_set_new(json, "consoleSize",
				    json_pack("{si, si}", "height",
					      (int)p->console_height, "width",
					      (int)p->console_width));
	if (p->nrlimits)
		json_object_set_new(json, "rlimits", rlimits_json(p));
	if (p->has_oom_score_adj)
		json_object_set_new(json, "oomScoreAdj",
				    json_integer(p->oom_score_adj));
	return json;
}

/* ---- the rest */

static json_t *mounts_json(const struct spec *spec)
{
	json_t *list = json_array();

	for (size_t i = 0; i < spec->nmounts; i++) {
		const struct spec_mount *m = &spec->mounts[i];
		json_t *json = json_object();

		set_text(json, "destination", m->destination);
		set_text(json, "type", m->type);
		set_text(json, "source", m->source);
		if (m->options.count)
			json_object_set_new(json, "options",
					    texts(&m->options));
		json_array_append_new(list, json);
	}
	return list;
}

static json_t *namespaces_json(unsigned namespaces)
{
	static const char *const names[] = {"pid", "network", "mount",
					    "ipc", "uts",     "cgroup"};
	json_t *list = json_array();

	for (unsigned i = 0; i < ARRAY_LEN(names); i++)
		if (namespaces & 1U << i)
			json_array_append_new(
				list, json_pack("{ss}", "type", names[i]));
	return list;
}

static const char *type_text(char type)
{
	return type == 'c' ? "c" : type == 'b' ? "b" : "a";
}

static json_t *rules_json(const struct spec_linux *l)
{
	json_t *list = json_array();

	for (size_t i = 0; i < l->nrules; i++) {
		const struct spec_device_rule *r = &l->rules[i];
		json_t *json = json_pack(
			"{sb, ss, so}", "allow", (int)r->allow, "type",
			type_text(r->type), "access",
			json_sprintf("%s%s%s",
				     r->access & SPEC_ACCESS_READ ? "r" : "",
				     r->access & SPEC_ACCESS_WRITE ? "w" : "",
				     r->access & SPEC_ACCESS_MKNOD ? "m" : ""));

		if (r->major >= 0)
			json_object_set_new(json, "major",
					    json_integer(r->major));
		if (r->minor >= 0)
			json_object_set_new(json, "minor",
					    json_integer(r->minor));
		json_array_append_new(list, json);
	}
	return list;
}

static json_t *devices_json(const struct spec_linux *l)
{
	json_t *list = json_array();

	for (size_t i = 0; i < l->ndevices; i++) {
		const struct spec_device *d = &l->devices[i];

		json_array_append_new(
			list,
			json_pack("{so, ss, so, so, so, so, so}", "path",
				  text_json_string(d->path), "type",
				  type_text(d->type), "major", number(d->major),
				  "minor", number(d->minor), "fileMode",
				  number(d->mode), "uid", number(d->uid), "gid",
				  number(d->gid)));
	}
	return list;
}

static json_t *resources_json(const struct spec_linux *l)
{
	json_t *json = json_pack("{so}", "devices", rules_json(l));
	json_t *cpu = json_object();

	if (l->memory_limit)
		json_object_set_new(
			json, "memory",
			json_pack("{so}", "limit", number(l->memory_limit)));
	if (l->pids_limit)
		json_object_set_new(
			json, "pids",
			json_pack("{so}", "limit", number(l->pids_limit)));
	if (l->cpu_quota)
		json_object_set_new(cpu, "quota", number(l->cpu_quota));
	if (l->cpu_period)
		json_object_set_new(cpu, "period", number(l->cpu_period));
	if (json_object_size(cpu))
		json_object_set(json, "cpu", cpu);
	json_decref(cpu);
	return json;
}

static json_t *linux_json(const struct spec_linux *l)
{
	json_t *json = json_pack(
		"{so, so, so, so, so}", "namespaces",
		namespaces_json(l->namespaces), "resources", resources_json(l),
		"maskedPaths", texts(&l->masked_paths), "readonlyPaths",
		texts(&l->readonly_paths), "sysctl", map(&l->sysctl));

	set_text(json, "cgroupsPath", l->cgroups_path);
	if (l->ndevices)
		json_object_set_new(json, "devices", devices_json(l));
	if (l->seccomp)
		json_object_set(json, "seccomp", l->seccomp);
	return json;
}

json_t *spec_json(const struct spec *spec)
{
	json_t *root = json_object();
	json_t *json;

	set_text(root, "path", spec->root_path);
	json_object_set_new(root, "readonly",
			    json_boolean(spec->root_readonly));
	json = json_pack("{so, so, so}", "root", root, "mounts",
			 mounts_json(spec), "linux",
			 linux_json(&spec->linux_part));
	if (!json) {
		log_error("out of memory");
		return NULL;
	}
	set_text(json, "ociVersion",
		 spec->oci_version ? spec->oci_version : SPEC_VERSION);
	set_text(json, "hostname", spec->hostname);
	if (spec->has_process)
		json_object_set_new(json, "process",
				    spec_process_json(&spec->process));
	if (spec->annotations.count)
		json_object_set_new(json, "annotations",
				    map(&spec->annotations));
	return json;
}
