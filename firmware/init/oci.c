/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON is only written here. Bytes that are not UTF-8 are passed on as they
 * are: it is for its reader to refuse them.
 */
#include "firmware/init/oci.h"

#include "firmware/agent/agent-names.h"
#include "firmware/init/process.h"
#include "vmm/base/util.h"

#include <endian.h>
#include <stdbool.h>

static void print_text(FILE *file, const char *text)
{
	fputc('"', file);
	for (; *text; text++) {
		const unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			fputc('\\', file);
		if (c < ' ')
			fprintf(file, "\\u%04x", c);
		else
			fputc(c, file);
	}
	fputc('"', file);
}

static void print_list(FILE *file, const char *name, const char *const *list,
		       const char *const *first)
{
	const char *comma = "";

	fprintf(file, ",\"%s\":[", name);
	for (unsigned i = 0; i < 2; i++) {
		const char *const *p = i == 0 ? first : list;

		for (; p && *p; p++) {
			fputs(comma, file);
			print_text(file, *p);
			comma = ",";
		}
	}
	fputc(']', file);
}

static void print_caps(FILE *file, const char *name, uint64_t mask)
{
	const char *comma = "";

	fprintf(file, "\"%s\":[", name);
	for (unsigned i = 0; agent_capability_name(i); i++) {
		if (!(mask >> i & 1))
			continue;
		fprintf(file, "%s\"CAP_%s\"", comma, agent_capability_name(i));
		comma = ",";
	}
	fputc(']', file);
}

static void print_privileges(FILE *file, const struct init_start *s,
			     const struct init_user *user)
{
	const struct init_caps caps = init_start_caps(s, user->uid);

	fputs(",\"capabilities\":{", file);
	print_caps(file, "bounding", caps.bounding);
	fputc(',', file);
	print_caps(file, "effective", caps.effective);
	fputc(',', file);
	print_caps(file, "permitted", caps.permitted);
	fputc(',', file);
	print_caps(file, "inheritable", caps.inheritable);
	fputc(',', file);
	print_caps(file, "ambient", caps.ambient);
	fprintf(file, "},\"noNewPrivileges\":%s",
		s->flags & AGENT_START_NO_NEW_PRIVS ? "true" : "false");
}

static void print_limit(FILE *file, int resource, struct rlimit limit)
{
	fprintf(file, "{\"type\":\"RLIMIT_%s\",\"soft\":%llu,\"hard\":%llu}",
		agent_limit_name((unsigned)resource),
		(unsigned long long)limit.rlim_cur,
		(unsigned long long)limit.rlim_max);
}

static bool has_limit(const struct init_start *s, int resource)
{
	for (size_t i = 0; i < s->nrlimits; i++) {
		if (s->rlimits[i].resource == resource)
			return true;
	}
	return false;
}

/* Docker's service has these, unless START has its own. */
static void print_limits(FILE *file, const struct init_start *s)
{
	static const struct init_rlimit defaults[] = {
		{RLIMIT_NOFILE, {PROCESS_FILES, PROCESS_FILES}},
		{RLIMIT_NPROC, {RLIM_INFINITY, RLIM_INFINITY}},
	};
	const char *comma = "";

	fputs(",\"rlimits\":[", file);
	for (size_t i = 0; i < ARRAY_LEN(defaults); i++) {
		if (has_limit(s, defaults[i].resource))
			continue;
		fputs(comma, file);
		print_limit(file, defaults[i].resource, defaults[i].limit);
		comma = ",";
	}
	for (size_t i = 0; i < s->nrlimits; i++) {
		fputs(comma, file);
		print_limit(file, s->rlimits[i].resource, s->rlimits[i].limit);
		comma = ",";
	}
	fputc(']', file);
}

static void print_user(FILE *file, const struct init_start *s,
		       const struct init_user *user)
{
	fprintf(file, ",\"user\":{\"uid\":%u,\"gid\":%u,\"umask\":%u",
		user->uid, user->gid, s->umask);
	fputs(",\"additionalGids\":[", file);
	for (size_t i = 0; i < user->ngroups; i++)
		fprintf(file, "%s%u", i ? "," : "", user->groups[i]);
	fputs("]}", file);
}

void oci_print_process(FILE *file, const struct init_start *s,
		       const struct init_user *user, const char *const *env)
{
	static const char *const reaper[] = {AGENT_OCI_REAPER, "--", NULL};

	fprintf(file, "{\"terminal\":%s",
		s->flags & AGENT_START_TTY ? "true" : "false");
	if (s->size.rows && s->size.columns)
		fprintf(file, ",\"consoleSize\":{\"height\":%u,\"width\":%u}",
			le16toh(s->size.rows), le16toh(s->size.columns));
	print_user(file, s, user);
	print_list(file, "args", s->args.list,
		   s->flags & AGENT_START_INIT ? reaper : NULL);
	print_list(file, "env", env, NULL);
	fputs(",\"cwd\":", file);
	print_text(file, s->cwd ? s->cwd : "/");
	print_privileges(file, s, user);
	print_limits(file, s);
	if (s->oom_score_adj)
		fprintf(file, ",\"oomScoreAdj\":%d", s->oom_score_adj);
	fputc('}', file);
}

void oci_print_config(FILE *file, const char *config,
		      const struct init_start *start,
		      const struct init_user *user, const char *const *env)
{
	fputs("{\"process\":", file);
	oci_print_process(file, start, user, env);
	/* It begins with a brace and a name, as was looked at. */
	fprintf(file, ",%s", config + 1);
}
