/* SPDX-License-Identifier: Apache-2.0 */
/* -v and --tmpfs: shares of the VM, and what the agent mounts where. */
#include "tools/run.h"

#include "vmm/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* The next mount, or NULL (logged). */
static struct agent_mount *new_mount(struct run_machine *machine)
{
	if (machine->agent.nmounts == RUN_MOUNTS_MAX) {
		log_error("more than %d volumes and tmpfs", RUN_MOUNTS_MAX);
		return NULL;
	}
	return &machine->mounts[machine->agent.nmounts++];
}

static int check_target(const char *option, const char *text,
			const char *target)
{
	if (target && target[0] == '/' && strcmp(target, "/") != 0)
		return 0;
	return log_ret(-EINVAL,
		       "%s '%s': the place in the container must be a path "
		       "that begins with '/', and not '/' itself",
		       option, text);
}

/* The options behind the second colon: "ro", "rw", SELinux's "z" and "Z". */
static int volume_options(const char *text, char *list, bool *ret_readonly)
{
	char *rest = NULL;

	for (char *word = strtok_r(list, ",", &rest); word;
	     word = strtok_r(NULL, ",", &rest)) {
		if (strcmp(word, "ro") == 0)
			*ret_readonly = true;
		else if (strcmp(word, "rw") != 0 && strcmp(word, "z") != 0 &&
			 strcmp(word, "Z") != 0)
			return log_ret(-EINVAL,
				       "--volume '%s': '%s' is neither ro nor "
				       "rw",
				       text, word);
	}
	return 0;
}

/*
 * A real path of the host's; named volumes are Docker's own. Of a file the
 * directory, and its name in there.
 */
static int find_source(const char *text, const char *source, char **ret_path,
		       char **ret_only)
{
	struct stat st;
	char *slash;

	if (!strchr(source, '/') && strcmp(source, ".") != 0 &&
	    strcmp(source, "..") != 0)
		return log_ret(-EINVAL,
			       "--volume '%s': '%s' is the name of a volume, "
			       "which is not supported; a directory here is "
			       "written './%s'",
			       text, source, source);
	*ret_path = realpath(source, NULL);
	if (!*ret_path || stat(*ret_path, &st) < 0)
		return log_ret(-errno, "--volume '%s': '%s': %s", text, source,
			       strerror(errno));
	if (S_ISDIR(st.st_mode))
		return 0;
	if (!S_ISREG(st.st_mode))
		return log_ret(-EINVAL,
			       "--volume '%s': '%s' is neither a directory nor "
			       "a regular file",
			       text, source);
	slash = strrchr(*ret_path, '/');
	*ret_only = strdup(slash + 1);
	slash[slash == *ret_path] = '\0';
	return *ret_only ? 0 : log_ret(-ENOMEM, "out of memory");
}

/* The share's keys behind its tag. Allocated, or NULL (logged). */
static char *share_keys(const struct agent_mount *mount, const char *only)
{
	autofree char *escaped = only ? run_escape(only) : NULL;
	char *keys;

	if ((only && !escaped) ||
	    asprintf(&keys, "%s%s%s", mount->readonly ? ",readonly" : "",
		     only ? ",only=" : "", only ? escaped : "") < 0) {
		log_error("out of memory");
		return NULL;
	}
	return keys;
}

static int add_volume(struct run_machine *machine, const char *text,
		      unsigned index)
{
	autofree char *copy = strdup(text);
	autofree char *source = NULL, *only = NULL, *keys = NULL;
	struct agent_mount *mount = new_mount(machine);
	char *target, *list, tag[16];
	int r;

	if (!mount)
		return -E2BIG;
	if (!copy)
		return log_ret(-ENOMEM, "out of memory");
	target = strchr(copy, ':');
	if (target)
		*target++ = '\0';
	list = target ? strchr(target, ':') : NULL;
	if (list)
		*list++ = '\0';
	r = check_target("--volume", text, target);
	if (r == 0 && list)
		r = volume_options(text, list, &mount->readonly);
	if (r == 0)
		r = find_source(text, copy, &source, &only);
	if (r < 0)
		return r;
	snprintf(tag, sizeof(tag), "vol%u", index);
	mount->tag = run_keep(machine, tag);
	mount->target = run_keep(machine, target);
	mount->subpath = only ? run_keep(machine, only) : NULL;
	keys = share_keys(mount, only);
	if (!mount->tag || !mount->target || (only && !mount->subpath) || !keys)
		return -ENOMEM;
	return run_add_share(machine, source, tag, keys);
}

/*
 * Docker's --tmpfs takes mount(8)'s options; flags are the agent's to set, what
 * is left goes to the file system. As with Docker nothing on it is executed
 * unless "exec" says so.
 */
static int tmpfs_options(struct agent_mount *mount, char *list, char *ret_rest)
{
	char *rest = NULL;

	mount->noexec = true;
	for (char *word = strtok_r(list, ",", &rest); word;
	     word = strtok_r(NULL, ",", &rest)) {
		if (strcmp(word, "ro") == 0)
			mount->readonly = true;
		else if (strcmp(word, "exec") == 0)
			mount->noexec = false;
		else if (strchr(word, '='))
			ret_rest += sprintf(ret_rest, "%s,", word);
		else if (strcmp(word, "rw") != 0 &&
			 strcmp(word, "noexec") != 0 &&
			 strcmp(word, "nosuid") != 0 &&
			 strcmp(word, "nodev") != 0)
			return log_ret(-EINVAL,
				       "--tmpfs: option '%s': known are "
				       "size=, mode=, uid=, gid=, ro, exec",
				       word);
	}
	if (ret_rest[-1] == ',')
		ret_rest[-1] = '\0';
	return 0;
}

static int add_tmpfs(struct run_machine *machine, const char *text)
{
	autofree char *copy = strdup(text);
	/* One byte in front, for tmpfs_options() to look at. */
	autofree char *rest = calloc(1, strlen(text) + 3);
	struct agent_mount *mount = new_mount(machine);
	char none[] = "";
	char *list;
	int r;

	if (!mount)
		return -E2BIG;
	if (!copy || !rest)
		return log_ret(-ENOMEM, "out of memory");
	list = strchr(copy, ':');
	if (list)
		*list++ = '\0';
	r = check_target("--tmpfs", text, copy);
	if (r == 0)
		r = tmpfs_options(mount, list ? list : none, rest + 1);
	if (r < 0)
		return r;
	mount->target = run_keep(machine, copy);
	mount->options = rest[1] ? run_keep(machine, rest + 1) : NULL;
	return mount->target ? 0 : -ENOMEM;
}

static unsigned depth_of(const char *path)
{
	unsigned depth = 0;

	for (; *path; path++)
		depth += path[0] == '/' && path[1] != '/' && path[1] != '\0';
	return depth;
}

/* Outer ones first; as on the command line where they are beside each other. */
static void sort_mounts(struct run_machine *machine)
{
	for (size_t i = 1; i < machine->agent.nmounts; i++) {
		const struct agent_mount m = machine->mounts[i];
		const unsigned depth = depth_of(m.target);
		size_t at = i;

		for (;
		     at > 0 && depth_of(machine->mounts[at - 1].target) > depth;
		     at--)
			machine->mounts[at] = machine->mounts[at - 1];
		machine->mounts[at] = m;
	}
}

int run_mounts_make(struct run_machine *machine, const struct run_options *opt)
{
	int r = 0;

	if (opt->volumes.count > RUN_VOLUMES_MAX)
		return log_ret(-E2BIG, "--volume: more than %d of them",
			       RUN_VOLUMES_MAX);
	for (unsigned i = 0; r == 0 && i < opt->volumes.count; i++)
		r = add_volume(machine, opt->volumes.item[i], i);
	for (unsigned i = 0; r == 0 && i < opt->tmpfs.count; i++)
		r = add_tmpfs(machine, opt->tmpfs.item[i]);
	sort_mounts(machine);
	return r;
}
