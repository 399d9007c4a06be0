/* SPDX-License-Identifier: Apache-2.0 */
/* "process" of config.json. */
#include "tools/spec/spec-parts.h"

#include "firmware/agent/agent-names.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#define AT(member) offsetof(struct spec_process, member)

static int add_gid(const struct spec_place *at, json_t *json, void *to)
{
	char number[24];
	uint64_t n = 0;
	int r;

	if (!json_is_integer(json)) {
		autofree char *text = NULL;

		r = spec_get_text(at, json, &text);
		return r < 0 ? r : text_list_add(to, text);
	}
	r = spec_get_number(at, json, UINT32_MAX - 1, &n);
	snprintf(number, sizeof(number), "%llu",
		 (unsigned long long)(r < 0 ? 0 : n));
	return r < 0 ? r : text_list_add(to, number);
}

static int read_gids(const struct spec_place *at, json_t *json, void *to)
{
	return spec_read_list(at, json, add_gid, to);
}

static int read_umask(const struct spec_place *at, json_t *json, void *to)
{
	struct spec_user *user = to;
	uint64_t n = 0;
	int r = spec_get_number(at, json, 0777, &n);

	user->has_umask = r == 0;
	user->umask = (uint16_t)n;
	return r;
}

static int read_user(const struct spec_place *at, json_t *json, void *to)
{
	static const struct spec_key keys[] = {
		{"uid", spec_read_id, offsetof(struct spec_user, uid)},
		{"gid", spec_read_id, offsetof(struct spec_user, gid)},
		{"umask", read_umask, 0},
		{"additionalGids", read_gids,
		 offsetof(struct spec_user, additional_gids)},
		{"username", spec_read_text,
		 offsetof(struct spec_user, username)},
		{0},
	};
	struct spec_user *user = to;
	int r = spec_read_object(at, json, keys, true, user);

	if (r == 0 && user->username && user->username[0] == '\0') {
		free(user->username);
		user->username = NULL;
	}
	/*
	 * The specification has it for Windows only, where it is beside no ids;
	 * here it stands for them, and never for others than they are.
	 */
	if (user->username && (user->uid != 0 || user->gid != 0)) {
		spec_warn(at, "username: left out, as uid and gid say it");
		free(user->username);
		user->username = NULL;
	}
	return r;
}

/* The specification has those that are not known left out, with a warning. */
static int add_capability(const struct spec_place *at, json_t *json, void *to)
{
	const char *text = json_string_value(json);

	if (!text)
		return spec_fail(at, -EINVAL, "expected a string");
	for (unsigned i = 0; agent_capability_name(i); i++) {
		if (strncmp(text, "CAP_", 4) == 0 &&
		    strcmp(text + 4, agent_capability_name(i)) == 0) {
			*(uint64_t *)to |= UINT64_C(1) << i;
			return 0;
		}
	}
	spec_warn(at, "no such capability, so left out");
	return 0;
}

static int read_capability_set(const struct spec_place *at, json_t *json,
			       void *to)
{
	return spec_read_list(at, json, add_capability, to);
}

static int read_capabilities(const struct spec_place *at, json_t *json,
			     void *to)
{
	static const struct spec_key keys[] = {
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

	return spec_read_object(at, json, keys, true, to);
}

/* From 2^63 it is no limit; see spec_narrow() for such numbers. */
static int read_rlim(const struct spec_place *at, json_t *json, void *to)
{
	const json_int_t n = json_integer_value(json);

	if (n != -1 && n > INT64_MIN / 2)
		return spec_read_u64(at, json, to);
	*(uint64_t *)to = RLIM_INFINITY;
	return 0;
}

static int read_rlimit_type(const struct spec_place *at, json_t *json, void *to)
{
	const char *text = json_string_value(json);

	for (unsigned i = 0; text && i < SPEC_RLIMITS_MAX; i++) {
		if (strncmp(text, "RLIMIT_", 7) == 0 &&
		    strcmp(text + 7, agent_limit_name(i)) == 0) {
			*(int *)to = (int)i;
			return 0;
		}
	}
	return spec_fail(at, -EINVAL, "expected a limit like RLIMIT_NOFILE");
}

static int add_rlimit(const struct spec_place *at, json_t *json, void *to)
{
	static const struct spec_key keys[] = {
		{"type", read_rlimit_type, offsetof(struct spec_rlimit, type)},
		{"soft", read_rlim, offsetof(struct spec_rlimit, soft)},
		{"hard", read_rlim, offsetof(struct spec_rlimit, hard)},
		{0},
	};
	struct spec_process *process = to;
	struct spec_rlimit limit = {.type = -1};
	int r = spec_read_object(at, json, keys, true, &limit);

	if (r < 0)
		return r;
	if (limit.type < 0)
		return spec_fail(at, -EINVAL, "has no type");
	if (limit.soft > limit.hard)
		return spec_fail(at, -EINVAL,
				 "the soft limit is above the hard one");
	for (size_t i = 0; i < process->nrlimits; i++)
		if (process->rlimits[i].type == limit.type)
			return spec_fail(at, -EINVAL, "is there twice");
	spec_set_rlimit(process, limit);
	return 0;
}

static int read_rlimits(const struct spec_place *at, json_t *json, void *to)
{
	return spec_read_list(at, json, add_rlimit, to);
}

static int read_console(const struct spec_place *at, json_t *json, void *to)
{
	static const struct spec_key keys[] = {
		{"height", spec_read_u16, AT(console_height)},
		{"width", spec_read_u16, AT(console_width)},
		{0},
	};

	return spec_read_object(at, json, keys, false, to);
}

/* It is for this guest's processes; the machine's own is the host's. */
static int read_oom_score(const struct spec_place *at, json_t *json, void *to)
{
	struct spec_process *process = to;
	const json_int_t n = json_integer_value(json);

	if (!json_is_integer(json) || n < -1000 || n > 1000)
		return spec_fail(at, -EINVAL, "expected -1000 to 1000");
	process->has_oom_score_adj = true;
	process->oom_score_adj = (int)n;
	return 0;
}

static const struct spec_key process_keys[] = {
	{"terminal", spec_read_flag, AT(terminal)},
	{"consoleSize", read_console, 0},
	{"user", read_user, AT(user)},
	{"args", spec_read_texts, AT(args)},
	{"commandLine", NULL, 0},
	{"env", spec_read_texts, AT(env)},
	{"cwd", spec_read_text, AT(cwd)},
	{"capabilities", read_capabilities, AT(capabilities)},
	{"rlimits", read_rlimits, 0},
	{"noNewPrivileges", spec_read_flag, AT(no_new_privileges)},
	{"apparmorProfile", spec_read_text, AT(apparmor_profile)},
	{"oomScoreAdj", read_oom_score, 0},
	{"scheduler", NULL, 0},
	{"selinuxLabel", spec_read_text, AT(selinux_label)},
	{"ioPriority", NULL, 0},
	{"execCPUAffinity", NULL, 0},
	{0},
};

/* As capset(2) has it. */
static int check_capabilities(const struct spec_place *at,
			      const struct spec_process *p)
{
	const struct spec_capabilities *c = &p->capabilities;

	if (c->effective & ~c->permitted)
		return spec_fail(at, -EINVAL,
				 "capabilities.effective: has more than "
				 "permitted");
	if (c->inheritable & ~c->bounding)
		return spec_fail(at, -EINVAL,
				 "capabilities.inheritable: has more than "
				 "bounding");
	return 0;
}

/*
 * Linux makes ambient only what is permitted and inheritable. The default files
 * of runtimes have more for user 0, to whom it makes no difference.
 */
static void limit_ambient(const struct spec_place *at, struct spec_process *p)
{
	struct spec_capabilities *c = &p->capabilities;
	const uint64_t possible = c->permitted & c->inheritable;

	if (c->ambient & ~possible && p->user.uid != 0)
		spec_warn(at, "capabilities.ambient: those that are not "
			      "permitted and inheritable are left out, as "
			      "Linux does");
	c->ambient &= possible;
}

static int check_process(const struct spec_place *at,
			 const struct spec_process *p)
{
	if (p->args.count == 0)
		return spec_fail(at, -EINVAL, "args: names no program");
	if (!p->cwd || p->cwd[0] != '/')
		return spec_fail(at, -EINVAL,
				 "cwd: expected a path that begins with /");
	return check_capabilities(at, p);
}

int spec_read_process_object(const struct spec_place *at, json_t *json,
			     void *to)
{
	int r = spec_read_object(at, json, process_keys, true, to);

	if (r == 0)
		r = check_process(at, to);
	if (r == 0)
		limit_ambient(at, to);
	return r;
}

#undef AT
