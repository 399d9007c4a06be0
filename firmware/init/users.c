/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A reader of passwd(5) and group(5) that cannot be held up: regular files
 * only, lines of bounded length. libc's own would want shared libraries.
 */
#include "firmware/init/users.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_BYTES 8192
#define FIELDS_MAX 7
/* Where a name is only for show, no more than this is read. */
#define NAMES_BYTES (4L << 20)

/* NULL when there is no such file, which is an empty one. */
static FILE *open_regular(const char *path)
{
	const int fd = util_open_regular(AT_FDCWD, path, O_RDONLY, 0);
	FILE *file;

	if (fd < 0)
		return NULL;
	file = fdopen(fd, "r");
	if (!file)
		close(fd);
	return file;
}

/* One line in fields; longer ones are skipped whole. False at the end. */
static bool next_line(FILE *file, char *line, char *field[FIELDS_MAX])
{
	bool whole = true;

	while (fgets(line, LINE_BYTES, file)) {
		const size_t n = strcspn(line, "\n");
		const bool ends = line[n] == '\n' || feof(file);
		char *save = line;
		const bool skip = !whole || !ends;

		whole = ends;
		if (skip)
			continue;
		line[n] = 0;
		for (unsigned i = 0; i < FIELDS_MAX; i++)
			field[i] = save ? strsep(&save, ":") : NULL;
		return true;
	}
	return false;
}

/* A whole number that is an id. */
static bool parse_id(const char *text, uint32_t *ret)
{
	char *end;
	unsigned long value;

	if (!text || text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	value = strtoul(text, &end, 10);
	/* All ones means "leave it" to the kernel. */
	if (*end || errno || value >= UINT_MAX)
		return false;
	*ret = (uint32_t)value;
	return true;
}

/*
 * True when the name in a file is WANTED, or its number is. A number is never a
 * name: an image could give root the name of the user that it is run as.
 */
static bool matches(const char *wanted, const char *name, uint32_t id)
{
	uint32_t number;

	if (parse_id(wanted, &number))
		return number == id;
	return name && strcmp(wanted, name) == 0;
}

static bool is_member(char *members, const char *name)
{
	char *member;

	while (members && (member = strsep(&members, ","))) {
		if (strcmp(member, name) == 0)
			return true;
	}
	return false;
}

/* A group that is left out may be one that files refuse: none is. */
static int add_group(struct init_user *user, gid_t gid, struct init_failure *f)
{
	for (size_t i = 0; i < user->ngroups; i++) {
		if (user->groups[i] == gid)
			return 0;
	}
	if (user->ngroups == USERS_GROUPS_MAX)
		return init_fail(f, INIT_STATUS_SETUP, 0,
				 "the user is in more than %d groups",
				 USERS_GROUPS_MAX);
	user->groups[user->ngroups++] = gid;
	return 0;
}

/*
 * The first entry of that name or number whose IDS fields from the third one on
 * are ids. True with its fields, which are in LINE.
 */
static bool find_entry(const char *path, const char *wanted, unsigned ids,
		       char line[LINE_BYTES], char *field[FIELDS_MAX])
{
	FILE *file = open_regular(path);
	bool found = false;

	while (file && !found && next_line(file, line, field)) {
		uint32_t id, other;

		found = parse_id(field[2], &id) &&
			(ids == 1 || parse_id(field[3], &other)) &&
			matches(wanted, field[0], id);
	}
	if (file)
		fclose(file);
	return found;
}

static int no_entry(const char *what, const char *wanted, const char *file,
		    struct init_failure *f)
{
	return init_fail(f, INIT_STATUS_SETUP, 0,
			 "unable to find %s %s: no matching entries in %s file",
			 what, wanted, file);
}

/* Sets uid, gid, home; copies the name when there is one. */
static int find_user(const char *path, const char *wanted,
		     struct init_user *ret, char *name, size_t name_bytes,
		     struct init_failure *f)
{
	char line[LINE_BYTES];
	char *field[FIELDS_MAX];

	if (!find_entry(path, wanted, 2, line, field))
		return parse_id(wanted, &ret->uid)
			       ? 0
			       : no_entry("user", wanted, "passwd", f);
	(void)parse_id(field[2], &ret->uid);
	(void)parse_id(field[3], &ret->gid);
	snprintf(name, name_bytes, "%s", field[0]);
	if (field[5] && field[5][0] == '/')
		snprintf(ret->home, sizeof(ret->home), "%s", field[5]);
	return 0;
}

static int find_group(const char *path, const char *wanted, gid_t *ret,
		      struct init_failure *f)
{
	char line[LINE_BYTES];
	char *field[FIELDS_MAX];
	const bool found = find_entry(path, wanted, 1, line, field);

	return parse_id(found ? field[2] : wanted, ret)
		       ? 0
		       : no_entry("group", wanted, "group", f);
}

/* The groups that name the user as a member. */
static int add_memberships(const char *path, const char *name,
			   struct init_user *ret, struct init_failure *f)
{
	FILE *file = open_regular(path);
	char line[LINE_BYTES];
	char *field[FIELDS_MAX];
	int r = 0;

	while (file && r == 0 && next_line(file, line, field)) {
		uint32_t gid;

		if (parse_id(field[2], &gid) && is_member(field[3], name))
			r = add_group(ret, gid, f);
	}
	if (file)
		fclose(file);
	return r;
}

int users_resolve(const char *passwd_path, const char *group_path,
		  const char *spec, const char *const *more,
		  struct init_user *ret, struct init_failure *f)
{
	struct init_user user = {.home = "/"};
	char wanted[256], name[256] = "";
	char *group;

	if (snprintf(wanted, sizeof(wanted), "%s", spec ? spec : "") >=
	    (int)sizeof(wanted))
		return init_fail(f, INIT_STATUS_SETUP, ENAMETOOLONG, "user");
	group = strchr(wanted, ':');
	if (group)
		*group++ = 0;
	if (find_user(passwd_path, wanted[0] ? wanted : "0", &user, name,
		      sizeof(name), f))
		return -1;
	if (group && group[0]) {
		if (find_group(group_path, group, &user.gid, f))
			return -1;
	} else if (name[0] && add_memberships(group_path, name, &user, f)) {
		return -1;
	}
	if (add_group(&user, user.gid, f))
		return -1;
	for (; more && *more; more++) {
		gid_t gid;

		if (find_group(group_path, *more, &gid, f) ||
		    add_group(&user, gid, f))
			return -1;
	}
	*ret = user;
	return 0;
}

bool users_name(const char *passwd_path, uint32_t uid,
		char ret[USERS_NAME_MAX + 1])
{
	FILE *file = open_regular(passwd_path);
	char line[LINE_BYTES];
	char *field[FIELDS_MAX];
	bool found = false;

	while (file && !found && ftell(file) < NAMES_BYTES &&
	       next_line(file, line, field)) {
		uint32_t id;

		found = parse_id(field[2], &id) && id == uid && field[0][0];
		if (found)
			snprintf(ret, USERS_NAME_MAX + 1, "%.*s",
				 USERS_NAME_MAX, field[0]);
	}
	if (file)
		fclose(file);
	return found;
}
