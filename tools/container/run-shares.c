/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A spec's mounts: what of the host is shared with the machine, and what the
 * agent mounts where. Options that ask for what is not done are refused.
 */
#include "tools/container/run.h"

#include "tools/container/trees.h"
#include "tools/instance/volume.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define RUN_TAG_ROOM 37 /* of a share (virtio 1.2, 5.11.4) */
#define MOUNTS_FILE  "/proc/self/mountinfo"

/* The words of one mount, sorted by whose they are; borrowed. */
struct words {
	struct text_list guest; /* for the agent */
	const char *cache, *locks, *volume;
	bool readonly;
	bool one; /* "bind": without the mounts below */
};

static bool is_among(const char *word, const char *const *list)
{
	for (; *list; list++)
		if (strcmp(word, *list) == 0)
			return true;
	return false;
}

/*
 * True of words that change nothing: Linux's defaults, and how far a mount
 * spreads, as none leaves the machine.
 */
static bool says_nothing(const char *word)
{
	static const char *const words[] = {
		"",           "defaults",      "async",      "atime",
		"loud",       "bind",          "rbind",      "private",
		"rprivate",   "slave",         "rslave",     "norelatime",
		"silent",     "nomand",        "unbindable", "runbindable",
		"nolazytime", "nostrictatime", NULL,
	};

	return is_among(word, words);
}

static bool is_unsupported(const char *word)
{
	static const char *const words[] = {
		"shared", "rshared", "remount", "idmap", "ridmap", "mand", NULL,
	};

	return is_among(word, words) || strncmp(word, "idmap=", 6) == 0 ||
	       strncmp(word, "ridmap=", 7) == 0;
}

/* A flag of a mount, of whatever it is. */
static bool is_flag(const char *word)
{
	static const char *const words[] = {
		"ro",       "rw",          "nosuid",      "suid",
		"nodev",    "dev",         "noexec",      "exec",
		"noatime",  "relatime",    "strictatime", "nodiratime",
		"diratime", "nosymfollow", "symfollow",   NULL,
	};

	return is_among(word, words);
}

static const char *value_of(const char *word, const char *prefix)
{
	const size_t n = strlen(prefix);

	return strncmp(word, prefix, n) == 0 ? word + n : NULL;
}

/* True: it is one of ours. */
static bool take_own(struct words *words, const char *word)
{
	const struct {
		const char *prefix, **to;
	} own[] = {
		{RUN_MOUNT_CACHE, &words->cache},
		{RUN_MOUNT_LOCKS, &words->locks},
		{RUN_MOUNT_VOLUME, &words->volume},
	};

	for (unsigned i = 0; i < ARRAY_LEN(own); i++) {
		const char *value = value_of(word, own[i].prefix);

		if (value)
			*own[i].to = value;
		if (value)
			return true;
	}
	return false;
}

static int refuse(const struct spec_mount *mount, const char *what,
		  const char *word)
{
	return log_ret(-ENOTSUP, "mount on '%s': %s '%s' is not supported",
		       mount->destination, what, word);
}

static bool is_tmpfs(const struct spec_mount *mount)
{
	return mount->type && strcmp(mount->type, "tmpfs") == 0;
}

/* A share has no mounts below, so "rro" is "ro" there. */
static int sort_word(const struct spec_mount *mount, bool bind,
		     const char *word, struct words *words)
{
	if (word[0] == 'r' && is_flag(word + 1) && !is_flag(word))
		word++;
	if (strcmp(word, "bind") == 0 || strcmp(word, "rbind") == 0)
		words->one = word[0] == 'b';
	if (take_own(words, word) || says_nothing(word))
		return 0;
	if (is_unsupported(word) || (bind && !is_flag(word)) ||
	    (strcmp(word, "tmpcopyup") == 0 && !is_tmpfs(mount)))
		return refuse(mount, "option", word);
	if (strcmp(word, "ro") == 0)
		words->readonly = true;
	else if (strcmp(word, "rw") == 0)
		words->readonly = false;
	return text_list_add(&words->guest, word);
}

/* ---- shares */

/* Keeps it from being removed as long as the machine lives. */
static int find_volume(struct run_machine *machine, struct spec_mount *mount,
		       const char *name)
{
	autofree char *path = NULL;
	int r;

	if (machine->nvolume_fds == RUN_VOLUMES_MAX)
		return log_ret(-E2BIG, "more than %d volumes", RUN_VOLUMES_MAX);
	r = volume_open(name, &path,
			&machine->volume_fds[machine->nvolume_fds]);
	if (r < 0)
		return r;
	machine->nvolume_fds++;
	return spec_set_text(&mount->source, path);
}

/* The directory to share, and of a file, which is shared alone, its name. */
static int find_source(const struct spec_mount *mount, char **ret_dir,
		       char **ret_only)
{
	struct stat st;
	char *slash;

	if (!mount->source || mount->source[0] != '/')
		return log_ret(-EINVAL,
			       "mount on '%s': its source is not a path",
			       mount->destination);
	*ret_dir = realpath(mount->source, NULL);
	if (!*ret_dir || stat(*ret_dir, &st) < 0)
		return log_ret(-errno, "mount on '%s': '%s': %s",
			       mount->destination, mount->source,
			       strerror(errno));
	if (S_ISDIR(st.st_mode))
		return 0;
	if (!S_ISREG(st.st_mode))
		return log_ret(-ENOTSUP,
			       "mount on '%s': '%s' is neither a directory nor "
			       "a regular file, which alone are supported",
			       mount->destination, mount->source);
	slash = strrchr(*ret_dir, '/');
	*ret_only = strdup(slash + 1);
	slash[slash == *ret_dir] = '\0';
	return *ret_only ? 0 : log_ret(-ENOMEM, "out of memory");
}

/* A path of mountinfo: "\\040" is a blank (proc_pid_mountinfo(5)). */
static void unescape(char *path)
{
	char *to = path;

	for (const char *p = path; *p; to++) {
		unsigned c;

		if (p[0] == '\\' && sscanf(p + 1, "%3o", &c) == 1) {
			*to = (char)c;
			p += 4;
		} else {
			*to = *p++;
		}
	}
	*to = '\0';
}

/* Whether anything is mounted below DIR: 1, 0 or -errno (logged). */
static int has_below(const char *dir)
{
	FILE *file = fopen(MOUNTS_FILE, "re");
	const size_t n = strcmp(dir, "/") == 0 ? 0 : strlen(dir);
	autofree char *line = NULL;
	size_t room = 0;
	int r = 0;

	if (!file)
		return log_ret(-errno, "'" MOUNTS_FILE "': %s",
			       strerror(errno));
	while (r == 0 && getline(&line, &room, file) > 0) {
		autofree char *path = NULL;

		if (sscanf(line, "%*s %*s %*s %*s %ms", &path) != 1)
			continue;
		unescape(path);
		r = strncmp(path, dir, n) == 0 && path[n] == '/' && path[n + 1];
	}
	fclose(file);
	return r;
}

/* A lock in what the guest cannot change would keep the host from its files. */
static const char *locks_of(const struct words *words)
{
	const bool own = words->readonly ||
			 (words->cache && strcmp(words->cache, "always") == 0);

	if (words->locks && strcmp(words->locks, "auto") != 0)
		return words->locks;
	return own ? "guest" : "host";
}

/*
 * The device that has the trees of such words, which its guest is told once for
 * all of them: made for the first. Its TAG; 0 or -errno.
 */
static int find_device(struct run_machine *machine, const struct words *words,
		       char tag[RUN_TAG_ROOM])
{
	const char *cache = words->cache ? words->cache : "auto";
	const char *locks = locks_of(words);

	snprintf(tag, RUN_TAG_ROOM, "volumes-%s-%s", cache, locks);
	for (unsigned i = 0; i < machine->cfg.ndevices; i++) {
		const struct config_device *device = &machine->cfg.device[i];

		if (strcmp(device->type, "fs") == 0 &&
		    strcmp(config_text(device, "tag"), tag) == 0)
			return 0;
	}
	return run_add_device(&machine->cfg, "fs",
			      (const struct config_pair[]){
				      {"tag", tag},
				      {"cache", cache},
				      {"locks", locks},
			      },
			      3);
}

/* One mount's directory on the host; ONLY is a file of it, or NULL. */
struct source {
	char *dir, *only;
};

/* As a part of the machine that is being made. */
static int make_tree(struct run_machine *machine, const struct source *from,
		     const struct words *words, struct agent_mount *to)
{
	char tag[RUN_TAG_ROOM], name[16];
	int r = 0, alone = 0;

	/* A mount below may hide just what "bind" without the r asks for. */
	if (words->one && !from->only)
		alone = r = has_below(from->dir);
	if (r >= 0)
		r = find_device(machine, words, tag);
	if (r < 0)
		return r;
	snprintf(name, sizeof(name), "%u", machine->nshares);
	to->tag = run_keep(machine, tag);
	to->subpath = run_keep(machine, name);
	if (!to->tag || !to->subpath)
		return -ENOMEM;
	return run_add_device(
		&machine->cfg, "tree",
		(const struct config_pair[]){
			{"dir", from->dir},
			{"share", tag},
			{"name", name},
			{"readonly", words->readonly ? "true" : NULL},
			{"only", from->only},
			/* It takes a privilege: only where it matters. */
			{"submounts", alone ? "false" : NULL},
		},
		6);
}

/* For a machine that runs, whose share is as it is. */
static int bring_tree(struct run_machine *machine, const struct source *from,
		      const struct words *words, struct agent_mount *to)
{
	const int below = words->one || from->only ? 0 : has_below(from->dir);
	const struct trees_dir dir = {
		.path = from->dir,
		.only = from->only,
		.readonly = words->readonly,
		.nested = below > 0,
	};
	char name[TREES_NAME];
	int r = below < 0 ? below : trees_add(machine->trees_fd, &dir, name);

	if (r < 0)
		return r;
	to->tag = RUN_TREES_TAG;
	to->subpath = run_keep(machine, name);
	return to->subpath ? 0 : -ENOMEM;
}

static int make_share(struct run_machine *machine, struct spec_mount *mount,
		      const struct words *words, struct agent_mount *to)
{
	struct source from = {NULL, NULL};
	int r = 0;

	if (machine->nshares == RUN_VOLUMES_MAX)
		return log_ret(-E2BIG,
			       "mount on '%s': more than %d directories and "
			       "files of the host",
			       mount->destination, RUN_VOLUMES_MAX);
	if (words->volume)
		r = find_volume(machine, mount, words->volume);
	if (r == 0)
		r = find_source(mount, &from.dir, &from.only);
	if (r == 0)
		r = machine->is_member ? bring_tree(machine, &from, words, to)
				       : make_tree(machine, &from, words, to);
	machine->nshares++;
	free(from.dir);
	free(from.only);
	return r;
}

/* ---- file systems */

static int make_filesystem(const struct spec_mount *mount,
			   struct agent_mount *to)
{
	static const char *const known[] = {
		"proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup2", NULL,
	};
	const char *type = mount->type;

	if (!type)
		return log_ret(-EINVAL, "mount on '%s': it has no type",
			       mount->destination);
	if (strcmp(type, "cgroup") == 0)
		type = "cgroup2"; /* the guest has no other */
	if (!is_among(type, known))
		return refuse(mount, "type", type);
	to->type = type;
	return 0;
}

static int make_mount(struct run_machine *machine, struct spec_mount *mount,
		      struct agent_mount *to)
{
	const bool bind = spec_is_bind(mount);
	struct words words = {0};
	autofree char *joined = NULL;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < mount->options.count; i++)
		r = sort_word(mount, bind, mount->options.item[i], &words);
	if (r == 0)
		r = bind ? make_share(machine, mount, &words, to)
			 : make_filesystem(mount, to);
	if (r == 0) {
		to->target = mount->destination;
		joined = text_list_join(&words.guest, ",");
		to->options = joined ? run_keep(machine, joined) : NULL;
		r = to->options ? 0 : -ENOMEM;
	}
	text_list_done(&words.guest);
	return r;
}

int run_shares_check(const struct spec *spec)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < spec->nmounts; i++) {
		const struct spec_mount *mount = &spec->mounts[i];
		const bool bind = spec_is_bind(mount);
		struct agent_mount to = {0};
		struct words words = {0};

		for (unsigned n = 0; r == 0 && n < mount->options.count; n++)
			r = sort_word(mount, bind, mount->options.item[n],
				      &words);
		if (r == 0 && !bind)
			r = make_filesystem(mount, &to);
		text_list_done(&words.guest);
	}
	return r;
}

int run_shares_make(struct run_machine *machine, struct spec *spec)
{
	int r = 0;

	machine->mounts = calloc(spec->nmounts + 1, sizeof(*machine->mounts));
	if (!machine->mounts)
		return log_ret(-ENOMEM, "out of memory");
	for (size_t i = 0; r == 0 && i < spec->nmounts; i++)
		r = make_mount(machine, &spec->mounts[i], &machine->mounts[i]);
	machine->agent.mounts = machine->mounts;
	machine->agent.nmounts = spec->nmounts;
	return r;
}
