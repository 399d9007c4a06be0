/* SPDX-License-Identifier: Apache-2.0 */
/* -v, --mount and --tmpfs as mounts of a spec. */
#include "tools/container/run.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

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
	bool readonly, noexec;
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
		if (strcmp(word, "ro") == 0 || strcmp(word, "readonly") == 0)
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

/* The new mount's words: those that are not NULL. 0 or -errno, logged. */
static int add_options(struct spec *spec, const char *const *words, unsigned n)
{
	struct spec_mount *mount = &spec->mounts[spec->nmounts - 1];
	int r = 0;

	for (unsigned i = 0; r == 0 && i < n; i++)
		if (words[i])
			r = text_list_add(&mount->options, words[i]);
	return r;
}

/* PREFIX and VALUE as one word in *RET, which stays NULL without a VALUE. */
static int make_word(const char *prefix, const char *value, char **ret)
{
	if (!value || asprintf(ret, "%s%s", prefix, value) >= 0)
		return 0;
	*ret = NULL;
	return log_ret(-ENOMEM, "out of memory");
}

static int check_source(const struct wish *wish, char **ret_path)
{
	struct stat st;

	*ret_path = realpath(wish->source, NULL);
	if (!*ret_path || stat(*ret_path, &st) < 0)
		return log_ret(-errno, "%s '%s': '%s': %s", wish->option,
			       wish->text, wish->source, strerror(errno));
	if (S_ISDIR(st.st_mode) || S_ISREG(st.st_mode))
		return 0;
	return log_ret(-EINVAL,
		       "%s '%s': '%s' is neither a directory nor a regular "
		       "file",
		       wish->option, wish->text, wish->source);
}

/* A volume is looked for when the machine is made, which holds it. */
static int add_bind(struct spec *spec, const struct wish *wish)
{
	const bool volume = is_volume(wish);
	autofree char *source = NULL, *cache = NULL, *locks = NULL;
	autofree char *name = NULL;
	int r = check_target(wish->option, wish->text, wish->target);

	if (r == 0)
		r = check_locks(wish);
	if (r == 0)
		r = volume ? instance_check_name("volume", wish->source)
			   : check_source(wish, &source);
	if (r == 0)
		r = make_word(RUN_MOUNT_CACHE, wish->cache, &cache);
	if (r == 0)
		r = make_word(RUN_MOUNT_LOCKS, wish->locks, &locks);
	if (r == 0)
		r = make_word(RUN_MOUNT_VOLUME, volume ? wish->source : NULL,
			      &name);
	if (r == 0)
		r = spec_add_mount(spec, wish->target, "bind", source,
				   wish->readonly ? "rbind,rprivate,ro"
						  : "rbind,rprivate,rw");
	if (r == 0)
		r = add_options(spec, (const char *const[]){cache, locks, name},
				3);
	return r;
}

static int add_volume(struct spec *spec, const char *text)
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
	return r < 0 ? r : add_bind(spec, &wish);
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
static int tmpfs_options(struct wish *wish, char *list, char *ret_rest)
{
	char *rest = NULL;
	unsigned key;

	for (char *word = strtok_r(list, ",", &rest); word;
	     word = strtok_r(NULL, ",", &rest)) {
		if (strcmp(word, "ro") == 0)
			wish->readonly = true;
		else if (strcmp(word, "exec") == 0)
			wish->noexec = false;
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

static int make_tmpfs(struct spec *spec, const struct wish *wish,
		      const char *options)
{
	autofree char *all = NULL;
	int r = check_tmpfs(wish, options);

	if (r < 0)
		return r;
	if (asprintf(&all, "nosuid,nodev,%s,%s%s%s",
		     wish->noexec ? "noexec" : "exec",
		     wish->readonly ? "ro" : "rw", options[0] ? "," : "",
		     options) < 0) {
		all = NULL;
		return log_ret(-ENOMEM, "out of memory");
	}
	return spec_add_mount(spec, wish->target, "tmpfs", "tmpfs", all);
}

static int add_tmpfs(struct spec *spec, const char *text)
{
	autofree char *copy = strdup(text);
	/* One byte in front, for tmpfs_options() to look at. */
	autofree char *rest = calloc(1, strlen(text) + 3);
	struct wish wish = {.option = "--tmpfs",
			    .text = text,
			    .target = copy,
			    .noexec = true};
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
		r = tmpfs_options(&wish, list ? list : none, rest + 1);
	return r < 0 ? r : make_tmpfs(spec, &wish, rest + 1);
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

static int add_words(struct spec *spec, const char *text,
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
		.noexec = true,
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
			     : make_tmpfs(spec, &wish, options);
	}
	if (strcmp(type, "bind") != 0 && strcmp(type, "volume") != 0)
		return log_ret(-EINVAL,
			       "--mount '%s': type '%s': known are bind, "
			       "volume and tmpfs",
			       text, type);
	if (!words->source)
		return log_ret(-EINVAL, "--mount '%s': src= is missing", text);
	return add_bind(spec, &wish);
}

static int add_mount(struct spec *spec, const char *text)
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
	return r < 0 ? r : add_words(spec, text, &words);
}

static unsigned depth_of(const char *path)
{
	unsigned depth = 0;

	for (; *path; path++)
		depth += path[0] == '/' && path[1] != '/' && path[1] != '\0';
	return depth;
}

/*
 * Outer ones first; as on the command line where they are beside each other.
 * Those before FIRST stay in front.
 */
static void sort_mounts(struct spec *spec, size_t first)
{
	struct spec_mount *mounts = spec->mounts;

	for (size_t i = first + 1; i < spec->nmounts; i++) {
		const struct spec_mount m = mounts[i];
		const unsigned depth = depth_of(m.destination);
		size_t at = i;

		for (;
		     at > first && depth_of(mounts[at - 1].destination) > depth;
		     at--)
			mounts[at] = mounts[at - 1];
		mounts[at] = m;
	}
}

int run_mounts_make(struct spec *spec, const struct run_options *opt)
{
	const size_t first = spec->nmounts;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < opt->volumes.count; i++)
		r = add_volume(spec, opt->volumes.item[i]);
	for (unsigned i = 0; r == 0 && i < opt->mounts.count; i++)
		r = add_mount(spec, opt->mounts.item[i]);
	for (unsigned i = 0; r == 0 && i < opt->tmpfs.count; i++)
		r = add_tmpfs(spec, opt->tmpfs.item[i]);
	if (r == 0)
		sort_mounts(spec, first);
	return r;
}
