/* SPDX-License-Identifier: Apache-2.0 */
/*
 * modules.dep(5): a line for each module, "PATH: PATH...", with what it needs;
 * paths are relative to the file's directory. modules.builtin: a path a line.
 * Both may be a stranger's: an unpacked package is one.
 */
#include "tools/guest/modules.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_MAX  (16 * MIB) /* a kernel of a distribution's has 1 MiB */
#define DEPTH_MAX 64         /* of modules that need one another */
#define FILES_MAX 256        /* that go into one initial RAM disk */
#define NAME_ROOM (NAME_MAX + 1)

/* A piece of a file's text. */
struct piece {
	const char *text;
	size_t len;
};

struct module {
	struct piece path, needs;
	/* The number of the list that it is being added to, or is part of. */
	uint32_t adding, added;
	bool has_file;
};

struct modules {
	char *path; /* of the directory, for messages */
	int dir;
	char *dep, *builtin; /* what the two files have */
	struct module *module;
	/* All of them, sorted, as a list may have a million. */
	struct module **by_path, **by_name;
	size_t count;
	uint32_t lists;
};

/* ---- reading */

/*
 * Opens NAME, a regular file below the directory: no path and no link in a
 * package leads out of it.
 */
static int open_below(int dir, const char *name)
{
	autofd int fd =
		util_openat2(dir, name, O_RDONLY | O_NONBLOCK, RESOLVE_BENEATH);
	struct stat st;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	return S_ISREG(st.st_mode) ? take_fd(&fd) : -EINVAL;
}

/* All of the file NAME as a string. 0 or -errno. */
static int read_text(int dir, const char *name, char **ret)
{
	autofd int fd = open_below(dir, name);
	autofree char *text = NULL;
	size_t bytes;
	int r;

	if (fd < 0)
		return fd;
	r = util_read_file(fd, FILE_MAX, &text, &bytes);
	if (r < 0)
		return r;
	if (strlen(text) != bytes)
		return -EINVAL;
	*ret = take_ptr(text);
	return 0;
}

/* The next line of *AT, without its end; false: there is none. */
static bool next_line(const char **at, struct piece *ret)
{
	if (!**at)
		return false;
	*ret = (struct piece){.text = *at, .len = strcspn(*at, "\n")};
	*at += ret->len + ((*at)[ret->len] == '\n');
	return true;
}

/* The next word of REST, which is shortened by it. */
static bool next_word(struct piece *rest, struct piece *ret)
{
	size_t skip = 0, len = 0;

	while (skip < rest->len && rest->text[skip] == ' ')
		skip++;
	while (skip + len < rest->len && rest->text[skip + len] != ' ')
		len++;
	*ret = (struct piece){.text = rest->text + skip, .len = len};
	rest->text += skip + len;
	rest->len -= skip + len;
	return len > 0;
}

/* ---- sorting */

static char same_dash(char c)
{
	return c == '-' ? '_' : c;
}

/* The file's name in PATH, up to ".ko" and what it is packed with. */
static struct piece name_of(const struct piece *path)
{
	const char *slash = memrchr(path->text, '/', path->len);
	struct piece name = *path;
	const char *end;

	if (slash) {
		name.text = slash + 1;
		name.len = path->len - (size_t)(name.text - path->text);
	}
	end = memmem(name.text, name.len, ".ko", 3);
	if (end)
		name.len = (size_t)(end - name.text);
	return name;
}

/* Orders a shorter piece of text before a longer one. */
static int compare_paths(const struct piece *a, const struct piece *b)
{
	if (a->len != b->len)
		return a->len < b->len ? -1 : 1;
	return memcmp(a->text, b->text, a->len);
}

/* The same of two names, in which '-' and '_' are equal. */
static int compare_names(const struct piece *a, const struct piece *b)
{
	if (a->len != b->len)
		return a->len < b->len ? -1 : 1;
	for (size_t i = 0; i < a->len; i++) {
		const int c = same_dash(a->text[i]) - same_dash(b->text[i]);

		if (c)
			return c;
	}
	return 0;
}

/* Lets the first one of equal lines come first. */
static int in_order(int r, const struct module *a, const struct module *b)
{
	return r ? r : a < b ? -1 : a > b;
}

static int sort_paths(const void *a, const void *b)
{
	const struct module *x = *(struct module *const *)a;
	const struct module *y = *(struct module *const *)b;

	return in_order(compare_paths(&x->path, &y->path), x, y);
}

static int sort_names(const void *a, const void *b)
{
	const struct module *x = *(struct module *const *)a;
	const struct module *y = *(struct module *const *)b;
	const struct piece p = name_of(&x->path), q = name_of(&y->path);

	return in_order(compare_names(&p, &q), x, y);
}

static int sort_modules(struct modules *m)
{
	const size_t bytes = sizeof(struct module *);

	m->by_path = calloc(m->count + 1, bytes);
	m->by_name = calloc(m->count + 1, bytes);
	if (!m->by_path || !m->by_name)
		return -ENOMEM;
	for (size_t i = 0; i < m->count; i++)
		m->by_path[i] = m->by_name[i] = &m->module[i];
	qsort(m->by_path, m->count, bytes, sort_paths);
	qsort(m->by_name, m->count, bytes, sort_names);
	return 0;
}

/* A line without a colon, or with no path before it, is no module's. */
static int read_modules(struct modules *m)
{
	const char *at = m->dep;
	struct piece line;
	size_t room = 0;

	while (next_line(&at, &line))
		room++;
	m->module = calloc(room ? room : 1, sizeof(*m->module));
	if (!m->module)
		return -ENOMEM;
	for (at = m->dep; next_line(&at, &line);) {
		const char *colon = memchr(line.text, ':', line.len);
		struct module *module = &m->module[m->count];

		if (!colon || colon == line.text)
			continue;
		module->path = (struct piece){
			.text = line.text, .len = (size_t)(colon - line.text)};
		module->needs =
			(struct piece){.text = colon + 1,
				       .len = line.len - module->path.len - 1};
		m->count++;
	}
	return sort_modules(m);
}

static int why_not(char *ret_why, const char *path, const char *name, int error)
{
	snprintf(ret_why, MODULES_WHY, "'%s%s': %s", path, name,
		 error == -EINVAL ? "not such a file" : strerror(-error));
	return error;
}

int modules_open(const char *path, struct modules **ret, char *ret_why)
{
	struct modules *m = calloc(1, sizeof(*m));
	const char *name = "";
	int r;

	if (!m)
		return why_not(ret_why, path, "", -ENOMEM);
	m->dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	m->path = strdup(path);
	r = m->dir < 0 ? -errno : m->path ? 0 : -ENOMEM;
	if (r == 0) {
		name = "/modules.dep";
		r = read_text(m->dir, name + 1, &m->dep);
	}
	if (r == 0)
		r = read_modules(m);
	if (r == 0) {
		name = "/modules.builtin";
		r = read_text(m->dir, name + 1, &m->builtin);
		if (r == -ENOENT)
			r = 0;
	}
	if (r < 0) {
		modules_close(m);
		return why_not(ret_why, path, name, r);
	}
	*ret = m;
	return 0;
}

void modules_close(struct modules *m)
{
	if (!m)
		return;
	util_close(&m->dir);
	free(m->path);
	free(m->dep);
	free(m->builtin);
	free(m->module);
	free(m->by_path);
	free(m->by_name);
	free(m);
}

/* ---- finding */

/* The first of the sorted modules for which COMPARE does not give less than 0.
 */
static struct module *find(struct module *const *sorted, size_t count,
			   int (*compare)(const struct module *module,
					  const struct piece *key),
			   const struct piece *key)
{
	size_t low = 0, high = count;

	while (low < high) {
		const size_t middle = low + (high - low) / 2;

		if (compare(sorted[middle], key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low < count && compare(sorted[low], key) == 0 ? sorted[low]
							     : NULL;
}

static int compare_to_path(const struct module *module, const struct piece *key)
{
	return compare_paths(&module->path, key);
}

static int compare_to_name(const struct module *module, const struct piece *key)
{
	const struct piece name = name_of(&module->path);

	return compare_names(&name, key);
}

static struct module *find_path(const struct modules *m,
				const struct piece *path)
{
	return find(m->by_path, m->count, compare_to_path, path);
}

static struct module *find_name(const struct modules *m, const char *name)
{
	const struct piece key = {.text = name, .len = strlen(name)};

	return find(m->by_name, m->count, compare_to_name, &key);
}

static bool is_builtin(const struct modules *m, const char *name)
{
	const struct piece key = {.text = name, .len = strlen(name)};
	const char *at = m->builtin;
	struct piece line;

	while (at && next_line(&at, &line)) {
		const struct piece have = name_of(&line);

		if (compare_names(&have, &key) == 0)
			return true;
	}
	return false;
}

bool modules_has(const struct modules *m, const char *name)
{
	return find_name(m, name) || is_builtin(m, name);
}

/* ---- a list */

struct list {
	struct modules *m;
	struct initrd_files *files;
	FILE *text;
	uint32_t number;
};

static int damaged(const struct modules *m, const struct piece *path,
		   const char *why)
{
	return log_ret(-EINVAL, "'%s/modules.dep': '%.*s' %s", m->path,
		       (int)min_u64(path->len, PATH_MAX), path->text, why);
}

static int add_file(struct list *list, struct module *module,
		    const char name[NAME_ROOM])
{
	struct modules *m = list->m;
	char path[PATH_MAX], in_guest[NAME_ROOM + 16];
	int fd, r;

	if (list->files->count == FILES_MAX)
		return log_ret(-E2BIG, "'%s': more than %d modules are needed",
			       m->path, FILES_MAX);
	if (module->path.len >= sizeof(path))
		return damaged(m, &module->path, "is too long");
	snprintf(path, sizeof(path), "%.*s", (int)module->path.len,
		 module->path.text);
	fd = open_below(m->dir, path);
	if (fd < 0)
		return log_ret(fd, "module '%s/%s': %s", m->path, path,
			       strerror(-fd));
	snprintf(in_guest, sizeof(in_guest), "modules/%s", name);
	r = initrd_add(list->files, in_guest, fd);
	if (r < 0)
		return log_ret(r, "out of memory");
	module->has_file = true;
	return 0;
}

static int append(struct list *list, struct module *module)
{
	const struct piece base = name_of(&module->path);
	char name[NAME_ROOM];

	if (base.len == 0 || base.len + sizeof(".ko") > sizeof(name))
		return damaged(list->m, &module->path, "is no module's path");
	snprintf(name, sizeof(name), "%.*s.ko", (int)base.len, base.text);
	fprintf(list->text, "%s\n", name);
	return module->has_file ? 0 : add_file(list, module, name);
}

/* MODULE behind all that it needs, and that needs in turn. */
static int add(struct list *list, struct module *module, unsigned depth)
{
	struct piece rest = module->needs, word;
	int r = 0;

	if (module->added == list->number)
		return 0;
	if (module->adding == list->number || depth == DEPTH_MAX)
		return damaged(list->m, &module->path,
			       "needs itself, by way of others");
	module->adding = list->number;
	while (r == 0 && next_word(&rest, &word)) {
		struct module *needed = find_path(list->m, &word);

		if (!needed)
			return damaged(list->m, &word,
				       "is needed, and has no line");
		r = add(list, needed, depth + 1);
	}
	module->added = list->number;
	return r < 0 ? r : append(list, module);
}

int modules_list(struct modules *m, const char *name, const char *const *names,
		 struct initrd_files *files)
{
	struct list list = {.m = m, .files = files, .number = ++m->lists};
	char in_guest[NAME_ROOM + 16];
	autofree char *text = NULL;
	size_t bytes = 0;
	int r = 0;

	list.text = open_memstream(&text, &bytes);
	if (!list.text)
		return log_ret(-errno, "out of memory");
	for (; r == 0 && *names; names++) {
		struct module *module = find_name(m, *names);

		if (module)
			r = add(&list, module, 0);
	}
	if (fclose(list.text) != 0 && r == 0)
		r = log_ret(-ENOMEM, "out of memory");
	snprintf(in_guest, sizeof(in_guest), "modules/%s", name);
	if (r == 0) {
		r = initrd_add_data(files, in_guest, text, bytes);
		if (r < 0)
			log_error("a list of modules: %s", strerror(-r));
	}
	return r;
}
