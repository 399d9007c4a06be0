/* SPDX-License-Identifier: Apache-2.0 */
/* -v, --mount and --tmpfs: shares of the VM, and what the agent mounts where.
 */
#include "tools/container/run.h"

#include "tools/instance/volume.h"
#include "vmm/base/util.h"

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

/* One of the user's wishes; texts are borrowed. */
struct wish {
	const char *option, *text; /* for messages: "--volume", its value */
	const char *type;          /* "bind", "volume"; NULL: by the source */
	const char *source, *target;
	const char *cache; /* the share's key; NULL: its default */
	const char *locks; /* the share's; NULL: as it has them */
	bool readonly;
};

/* "shared", or "cache=" and what the share's key takes. */
static bool cache_word(const char *word, const char **ret_cache)
{
	static const char *const known[] = {"auto", "always", "never"};

	if (strcmp(word, "shared") == 0) {
		*ret_cache = "never";
		return true;
	}
	for (unsigned i = 0; i < ARRAY_LEN(known); i++) {
		if (strncmp(word, "cache=", 6) == 0 &&
		    strcmp(word + 6, known[i]) == 0) {
			*ret_cache = known[i];
			return true;
		}
	}
	return false;
}

/* The options behind the second colon; SELinux's "z" and "Z" mean nothing. */
static int volume_options(struct wish *wish, char *list)
{
	char *rest = NULL;

	for (char *word = strtok_r(list, ",", &rest); word;
	     word = strtok_r(NULL, ",", &rest)) {
		if (strcmp(word, "ro") == 0)
			wish->readonly = true;
		else if (strncmp(word, "locks=", 6) == 0)
			wish->locks = word + 6;
		else if (strcmp(word, "rw") != 0 && strcmp(word, "z") != 0 &&
			 strcmp(word, "Z") != 0 &&
			 !cache_word(word, &wish->cache))
			return log_ret(-EINVAL,
				       "--volume '%s': '%s': known are ro, rw, "
				       "shared, cache=auto|always|never and "
				       "locks=host|guest",
				       wish->text, word);
	}
	return 0;
}

static int check_locks(const struct wish *wish)
{
	if (!wish->locks || strcmp(wish->locks, "host") == 0 ||
	    strcmp(wish->locks, "guest") == 0)
		return 0;
	return log_ret(-EINVAL, "%s '%s': locks=%s: it is host or guest",
		       wish->option, wish->text, wish->locks);
}

static bool is_volume(const struct wish *wish)
{
	if (wish->type)
		return strcmp(wish->type, "volume") == 0;
	return !strchr(wish->source, '/') && strcmp(wish->source, ".") != 0 &&
	       strcmp(wish->source, "..") != 0;
}

/* Kept from being removed as long as the machine lives. */
static int find_volume(struct run_machine *machine, const struct wish *wish,
		       char **ret_path)
{
	int r = volume_open(wish->source, ret_path,
			    &machine->volume_fds[machine->nvolume_fds]);

	machine->nvolume_fds += r == 0;
	return r;
}

/*
 * Resolves a path of the host. A file gives its directory, and its name there.
 */
static int find_path(const struct wish *wish, char **ret_path, char **ret_only)
{
	struct stat st;
	char *slash;

	*ret_path = realpath(wish->source, NULL);
	if (!*ret_path || stat(*ret_path, &st) < 0)
		return log_ret(-errno, "%s '%s': '%s': %s", wish->option,
			       wish->text, wish->source, strerror(errno));
	if (S_ISDIR(st.st_mode))
		return 0;
	if (!S_ISREG(st.st_mode))
		return log_ret(-EINVAL,
			       "%s '%s': '%s' is neither a directory nor "
			       "a regular file",
			       wish->option, wish->text, wish->source);
	slash = strrchr(*ret_path, '/');
	*ret_only = strdup(slash + 1);
	slash[slash == *ret_path] = '\0';
	return *ret_only ? 0 : log_ret(-ENOMEM, "out of memory");
}

/* The share's keys behind its tag. Allocated, or NULL (logged). */
static char *share_keys(const struct wish *wish, const char *only)
{
	autofree char *escaped = only ? run_escape(only) : NULL;
	char *keys;

	if ((only && !escaped) ||
	    asprintf(&keys, "%s%s%s%s%s%s%s", wish->readonly ? ",readonly" : "",
		     wish->cache ? ",cache=" : "",
		     wish->cache ? wish->cache : "",
		     wish->locks ? ",locks=" : "",
		     wish->locks ? wish->locks : "", only ? ",only=" : "",
		     only ? escaped : "") < 0) {
		log_error("out of memory");
		return NULL;
	}
	return keys;
}

/* For `inspect`: "/source:/target:ro,cache=never". */
static int describe(struct run_machine *machine, const struct wish *wish,
		    const char *source)
{
	autofree char *text = NULL;

	if (asprintf(&text, "%s:%s%s%s%s", source, wish->target,
		     wish->readonly ? ":ro" : "",
		     !wish->cache     ? ""
		     : wish->readonly ? ",cache="
				      : ":cache=",
		     wish->cache ? wish->cache : "") < 0) {
		text = NULL;
		return log_ret(-ENOMEM, "out of memory");
	}
	return text_list_add(&machine->mount_texts, text);
}

static int add_share(struct run_machine *machine, const struct wish *wish)
{
	autofree char *source = NULL, *only = NULL, *keys = NULL;
	struct agent_mount *mount = new_mount(machine);
	char tag[16];
	int r;

	if (!mount)
		return -E2BIG;
	if (machine->nshares == RUN_VOLUMES_MAX)
		return log_ret(-E2BIG, "%s '%s': more than %d of them",
			       wish->option, wish->text, RUN_VOLUMES_MAX);
	r = check_target(wish->option, wish->text, wish->target);
	if (r == 0)
		r = check_locks(wish);
	if (r == 0)
		r = is_volume(wish) ? find_volume(machine, wish, &source)
				    : find_path(wish, &source, &only);
	if (r == 0)
		r = describe(machine, wish,
			     is_volume(wish) ? wish->source : source);
	if (r < 0)
		return r;
	snprintf(tag, sizeof(tag), "vol%u", machine->nshares++);
	mount->readonly = wish->readonly;
	mount->tag = run_keep(machine, tag);
	mount->target = run_keep(machine, wish->target);
	mount->subpath = only ? run_keep(machine, only) : NULL;
	keys = share_keys(wish, only);
	if (!mount->tag || !mount->target || (only && !mount->subpath) || !keys)
		return -ENOMEM;
	return run_add_share(machine, source, tag, keys);
}

static int add_volume(struct run_machine *machine, const char *text)
{
	autofree char *copy = strdup(text);
	struct wish wish = {.option = "--volume", .text = text, .source = copy};
	char *target, *list;
	int r = 0;

	if (!copy)
		return log_ret(-ENOMEM, "out of memory");
	target = strchr(copy, ':');
	if (!target || target == copy)
		return log_ret(-EINVAL,
			       "--volume '%s': expected SOURCE:TARGET; a name "
			       "for SOURCE makes a volume that stays",
			       text);
	*target++ = '\0';
	list = strchr(target, ':');
	if (list)
		*list++ = '\0';
	wish.target = target;
	if (list)
		r = volume_options(&wish, list);
	return r < 0 ? r : add_share(machine, &wish);
}

/*
 * The options of the file system: a number each, some with a unit (tmpfs(5)).
 */
static const struct {
	const char *name, *digits, *units;
} tmpfs_keys[] = {
	{"size=", "0123456789", "kKmMgG%"},
	{"mode=", "01234567", ""},
	{"uid=", "0123456789", ""},
	{"gid=", "0123456789", ""},
	{"nr_inodes=", "0123456789", "kKmMgG"},
};

/* NULL: WORD, of BYTES, has none of the keys. */
static const char *tmpfs_value(const char *word, size_t bytes,
			       unsigned *ret_key)
{
	for (unsigned i = 0; i < ARRAY_LEN(tmpfs_keys); i++) {
		const size_t n = strlen(tmpfs_keys[i].name);

		if (bytes < n || strncmp(word, tmpfs_keys[i].name, n) != 0)
			continue;
		*ret_key = i;
		return word + n;
	}
	return NULL;
}

/* The guest's kernel would only say that one of them is wrong. */
static int check_tmpfs(const struct wish *wish, const char *options)
{
	size_t bytes;

	for (const char *word = options; *word;
	     word += bytes + (word[bytes] == ',')) {
		const char *value;
		unsigned key = 0;
		size_t digits;

		bytes = strcspn(word, ",");
		value = tmpfs_value(word, bytes, &key);
		digits = value ? strspn(value, tmpfs_keys[key].digits) : 0;
		if (digits && value[digits] &&
		    strchr(tmpfs_keys[key].units, value[digits]))
			digits++;
		if (!digits || value + digits != word + bytes)
			return log_ret(-EINVAL,
				       "%s '%s': '%.*s' is no such value (as "
				       "size=64m, size=10%%, mode=1777, uid=0)",
				       wish->option, wish->text, (int)bytes,
				       word);
	}
	return 0;
}

/*
 * Docker's --tmpfs takes mount(8)'s options; flags are the agent's to set, what
 * is left goes to the file system. As with Docker nothing on it is executed
 * unless "exec" says so.
 */
static int tmpfs_options(struct wish *wish, bool *ret_noexec, char *list,
			 char *ret_rest)
{
	char *rest = NULL;
	unsigned key;

	for (char *word = strtok_r(list, ",", &rest); word;
	     word = strtok_r(NULL, ",", &rest)) {
		if (strcmp(word, "ro") == 0)
			wish->readonly = true;
		else if (strcmp(word, "exec") == 0)
			*ret_noexec = false;
		else if (tmpfs_value(word, strlen(word), &key))
			ret_rest += sprintf(ret_rest, "%s,", word);
		else if (strcmp(word, "rw") != 0 &&
			 strcmp(word, "noexec") != 0 &&
			 strcmp(word, "nosuid") != 0 &&
			 strcmp(word, "nodev") != 0)
			return log_ret(
				-EINVAL,
				"--tmpfs: option '%s': known are "
				"size=, mode=, uid=, gid=, nr_inodes=, ro, "
				"exec",
				word);
	}
	if (ret_rest[-1] == ',')
		ret_rest[-1] = '\0';
	return 0;
}

static int make_tmpfs(struct run_machine *machine, const struct wish *wish,
		      const char *options)
{
	int r = check_tmpfs(wish, options);
	struct agent_mount *mount = r < 0 ? NULL : new_mount(machine);

	if (!mount)
		return r < 0 ? r : -E2BIG;
	mount->noexec = true;
	mount->readonly = wish->readonly;
	mount->target = run_keep(machine, wish->target);
	mount->options = options[0] ? run_keep(machine, options) : NULL;
	r = describe(machine, wish, "tmpfs");
	return mount->target && (!options[0] || mount->options) ? r : -ENOMEM;
}

static int add_tmpfs(struct run_machine *machine, const char *text)
{
	autofree char *copy = strdup(text);
	/* One byte in front, for tmpfs_options() to look at. */
	autofree char *rest = calloc(1, strlen(text) + 3);
	struct wish wish = {.option = "--tmpfs", .text = text, .target = copy};
	bool noexec = true;
	char none[] = "";
	char *list;
	int r;

	if (!copy || !rest)
		return log_ret(-ENOMEM, "out of memory");
	list = strchr(copy, ':');
	if (list)
		*list++ = '\0';
	r = check_target("--tmpfs", text, copy);
	if (r == 0)
		r = tmpfs_options(&wish, &noexec, list ? list : none, rest + 1);
	if (r == 0)
		r = make_tmpfs(machine, &wish, rest + 1);
	if (r == 0)
		machine->mounts[machine->agent.nmounts - 1].noexec = noexec;
	return r;
}

/* ---- --mount */

struct mount_words {
	const char *type, *source, *target, *size, *mode, *locks;
	const char *cache;
	bool readonly;
};

static int mount_word(const char *text, char *word, struct mount_words *words)
{
	const struct {
		const char *key;
		const char **to;
	} keys[] = {
		{"type", &words->type},       {"src", &words->source},
		{"source", &words->source},   {"dst", &words->target},
		{"target", &words->target},   {"destination", &words->target},
		{"tmpfs-size", &words->size}, {"tmpfs-mode", &words->mode},
		{"locks", &words->locks},
	};
	char *value = strchr(word, '=');

	if (value)
		*value++ = '\0';
	for (unsigned i = 0; value && i < ARRAY_LEN(keys); i++) {
		if (strcmp(word, keys[i].key) != 0)
			continue;
		*keys[i].to = value;
		return 0;
	}
	if (strcmp(word, "readonly") == 0 || strcmp(word, "ro") == 0) {
		words->readonly = !value || strcmp(value, "true") == 0 ||
				  strcmp(value, "1") == 0;
		return 0;
	}
	if (value)
		value[-1] = '=';
	if (cache_word(word, &words->cache))
		return 0;
	return log_ret(-EINVAL,
		       "--mount '%s': '%s': known are type=, src=, dst=, "
		       "readonly, shared, cache=auto|always|never, locks=, "
		       "tmpfs-size= and tmpfs-mode=",
		       text, word);
}

static int add_words(struct run_machine *machine, const char *text,
		     const struct mount_words *words)
{
	const char *type = words->type ? words->type : "volume";
	const struct wish wish = {
		.option = "--mount",
		.text = text,
		.type = type,
		.source = words->source,
		.target = words->target,
		.readonly = words->readonly,
		.locks = words->locks,
		.cache = words->cache,
	};
	autofree char *options = NULL;
	int r = check_target("--mount", text, words->target);

	if (r < 0)
		return r;
	if (strcmp(type, "tmpfs") == 0) {
		r = asprintf(&options, "%s%s%s%s%s", words->size ? "size=" : "",
			     words->size ? words->size : "",
			     words->size && words->mode ? "," : "",
			     words->mode ? "mode=" : "",
			     words->mode ? words->mode : "");
		return r < 0 ? log_ret(-ENOMEM, "out of memory")
			     : make_tmpfs(machine, &wish, options);
	}
	if (strcmp(type, "bind") != 0 && strcmp(type, "volume") != 0)
		return log_ret(-EINVAL,
			       "--mount '%s': type '%s': known are bind, "
			       "volume and tmpfs",
			       text, type);
	if (!words->source)
		return log_ret(-EINVAL, "--mount '%s': src= is missing", text);
	return add_share(machine, &wish);
}

static int add_mount(struct run_machine *machine, const char *text)
{
	autofree char *copy = strdup(text);
	struct mount_words words = {0};
	char *rest = NULL;
	int r = 0;

	if (!copy)
		return log_ret(-ENOMEM, "out of memory");
	for (char *word = strtok_r(copy, ",", &rest); r == 0 && word;
	     word = strtok_r(NULL, ",", &rest))
		r = mount_word(text, word, &words);
	return r < 0 ? r : add_words(machine, text, &words);
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

	for (unsigned i = 0; r == 0 && i < opt->volumes.count; i++)
		r = add_volume(machine, opt->volumes.item[i]);
	for (unsigned i = 0; r == 0 && i < opt->mounts.count; i++)
		r = add_mount(machine, opt->mounts.item[i]);
	for (unsigned i = 0; r == 0 && i < opt->tmpfs.count; i++)
		r = add_tmpfs(machine, opt->tmpfs.item[i]);
	if (r == 0)
		sort_mounts(machine);
	return r;
}
