/* SPDX-License-Identifier: Apache-2.0 */
/* Reads driver files, and finds them. */
#include "tools/bench/bench-driver.h"

#include "vmm/base/log.h"
#include "vmm/base/text.h"
#include "vmm/base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define FILE_MAX_BYTES 65536

static const struct key {
	const char *name;
	size_t offset;
} keys[] = {
#define KEY(k)                                                                 \
	{                                                                      \
#k, offsetof(struct bench_driver, k)                           \
	}
	KEY(title),    KEY(operation), KEY(isolation), KEY(needs),
	KEY(programs), KEY(note),      KEY(check),     KEY(version),
	KEY(prepare),  KEY(before),    KEY(stop),      KEY(processes),
	KEY(remove),   KEY(command),   KEY(trace),     KEY(environment),
	KEY(limit),
#undef KEY
};

static const char *const known_needs[] = {"root", "kvm", "kernel", "no-hybrid",
					  "any-status"};

static char **value_of(struct bench_driver *driver, size_t offset)
{
	return (char **)((char *)driver + offset);
}

void bench_driver_done(struct bench_driver *driver)
{
	for (unsigned i = 0; i < ARRAY_LEN(keys); i++)
		free(*value_of(driver, keys[i].offset));
	free(driver->name);
	free(driver->file);
	*driver = (struct bench_driver){0};
}

const char *bench_driver_key(const struct bench_driver *driver,
			     const char *value)
{
	struct bench_driver copy = *driver;

	for (unsigned i = 0; i < ARRAY_LEN(keys); i++)
		if (*value_of(&copy, keys[i].offset) == value)
			return keys[i].name;
	return "script";
}

/* ---- one file */

static bool has_word(const char *text, const char *word, size_t len)
{
	while (text && *text) {
		const size_t n = strcspn(text, " \t\n");

		if (n == len && strncmp(text, word, n) == 0)
			return true;
		text += n + strspn(text + n, " \t\n");
	}
	return false;
}

bool bench_driver_needs(const struct bench_driver *driver, const char *word)
{
	return has_word(driver->needs, word, strlen(word));
}

static const struct key *find_key(const char *name, size_t len)
{
	for (unsigned i = 0; i < ARRAY_LEN(keys); i++)
		if (strlen(keys[i].name) == len &&
		    strncmp(keys[i].name, name, len) == 0)
			return &keys[i];
	return NULL;
}

/* Adds a line to a value; the first one is the value. */
static int append(char **value, const char *line)
{
	char *more;

	if (asprintf(&more, "%s%s%s", *value ? *value : "",
		     *value && **value ? "\n" : "", line) < 0)
		return log_ret(-ENOMEM, "out of memory");
	free(*value);
	*value = more;
	return 0;
}

struct reader {
	struct bench_driver *driver;
	unsigned line;
	char **value; /* that a line with a blank at its head continues */
};

/* A line of KEY = VALUE. 0 or -errno, logged. */
static int read_pair(struct reader *reader, const char *text)
{
	const char *file = reader->driver->file;
	const size_t len = strcspn(text, " \t=");
	const char *rest = text + len + strspn(text + len, " \t");
	const struct key *key = find_key(text, len);

	if (*rest != '=')
		return log_ret(-EINVAL, "'%s' line %u: no 'KEY = VALUE'", file,
			       reader->line);
	if (!key)
		return log_ret(-EINVAL,
			       "'%s' line %u: no key '%.*s' (bulkhead-bench(1) "
			       "has the list)",
			       file, reader->line, (int)len, text);
	reader->value = value_of(reader->driver, key->offset);
	if (*reader->value)
		return log_ret(-EINVAL, "'%s' line %u: '%s' is there twice",
			       file, reader->line, key->name);
	rest++;
	return append(reader->value, rest + strspn(rest, " \t"));
}

static int read_line(struct reader *reader, char *line)
{
	size_t len = strlen(line);
	const char *text;

	while (len > 0 && strchr(" \t\r", line[len - 1]))
		line[--len] = '\0';
	text = line + strspn(line, " \t");
	if (!*text || *line == '#')
		return 0;
	if (text == line)
		return read_pair(reader, line);
	if (!reader->value)
		return log_ret(-EINVAL, "'%s' line %u continues nothing",
			       reader->driver->file, reader->line);
	return append(reader->value, text);
}

static int check_needs(const struct bench_driver *driver)
{
	const char *word = driver->needs;

	while (word && *word) {
		const size_t n = strcspn(word, " \t\n");
		unsigned i = 0;

		while (i < ARRAY_LEN(known_needs) &&
		       (strlen(known_needs[i]) != n ||
			strncmp(known_needs[i], word, n) != 0))
			i++;
		if (i == ARRAY_LEN(known_needs))
			return log_ret(-EINVAL,
				       "'%s': needs '%.*s': known are root, "
				       "kvm, kernel, no-hybrid, any-status",
				       driver->file, (int)n, word);
		word += n + strspn(word + n, " \t\n");
	}
	return 0;
}

static int take_limit(struct bench_driver *driver)
{
	uint64_t seconds = BENCH_DRIVER_LIMIT_S;

	if (driver->limit &&
	    util_parse_number(driver->limit, 1, 86400, &seconds) < 0)
		return log_ret(-EINVAL,
			       "'%s': limit '%s': not a number of seconds from "
			       "1 to 86400",
			       driver->file, driver->limit);
	driver->limit_s = (unsigned)seconds;
	return 0;
}

bool bench_driver_is_name(const char *name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyz"
				      "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789+-_.";

	return *name && *name != '.' && strspn(name, allowed) == strlen(name);
}

/* The file's name without directories and end; it is printed and is a path. */
static int name_it(struct bench_driver *driver, const char *file)
{
	const char *slash = strrchr(file, '/');
	const char *base = slash ? slash + 1 : file;
	size_t len = strlen(base);

	if (len > strlen(BENCH_DRIVER_END) &&
	    strcmp(base + len - strlen(BENCH_DRIVER_END), BENCH_DRIVER_END) ==
		    0)
		len -= strlen(BENCH_DRIVER_END);
	driver->name = strndup(base, len);
	driver->file = strdup(file);
	if (!driver->name || !driver->file)
		return log_ret(-ENOMEM, "out of memory");
	if (!bench_driver_is_name(driver->name))
		return log_ret(-EINVAL,
			       "driver '%s': its name has more than letters, "
			       "digits and +-_.",
			       file);
	return 0;
}

static int read_text(struct bench_driver *driver, char *text)
{
	struct reader reader = {.driver = driver};
	char *rest = text;
	char *line;
	int r = 0;

	while (r == 0 && (line = strsep(&rest, "\n"))) {
		reader.line++;
		r = read_line(&reader, line);
	}
	if (r < 0)
		return r;
	if (!driver->command)
		return log_ret(-EINVAL, "'%s' has no 'command'", driver->file);
	r = check_needs(driver);
	return r < 0 ? r : take_limit(driver);
}

int bench_driver_read(struct bench_driver *driver, const char *file)
{
	autofd int fd = open(file, O_RDONLY | O_CLOEXEC);
	autofree char *text = NULL;
	size_t bytes;
	int r = fd < 0 ? -errno
		       : util_read_file(fd, FILE_MAX_BYTES, &text, &bytes);

	*driver = (struct bench_driver){0};
	if (r < 0)
		return log_ret(r, "driver '%s': %s", file, strerror(-r));
	r = strlen(text) == bytes
		    ? name_it(driver, file)
		    : log_ret(-EINVAL, "driver '%s' is no text", file);
	if (r == 0)
		r = read_text(driver, text);
	if (r < 0)
		bench_driver_done(driver);
	return r;
}

/* ---- all of them */

static int compare(const void *a, const void *b)
{
	const struct bench_driver *x = a, *y = b;

	return strcmp(x->name, y->name);
}

const struct bench_driver *
bench_drivers_get(const struct bench_drivers *drivers, const char *name)
{
	for (unsigned i = 0; i < drivers->count; i++)
		if (strcmp(drivers->item[i].name, name) == 0)
			return &drivers->item[i];
	return NULL;
}

void bench_drivers_done(struct bench_drivers *drivers)
{
	for (unsigned i = 0; i < drivers->count; i++)
		bench_driver_done(&drivers->item[i]);
	free(drivers->item);
	*drivers = (struct bench_drivers){0};
}

static int add_file(struct bench_drivers *drivers, const char *file)
{
	struct bench_driver driver, *more;
	int r = bench_driver_read(&driver, file);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < drivers->count; i++)
		if (strcmp(drivers->item[i].name, driver.name) == 0) {
			bench_driver_done(&drivers->item[i]);
			drivers->item[i] = driver;
			return 0;
		}
	more = reallocarray(drivers->item, drivers->count + 1, sizeof(*more));
	if (!more) {
		bench_driver_done(&driver);
		return log_ret(-ENOMEM, "out of memory");
	}
	drivers->item = more;
	more[drivers->count++] = driver;
	return 0;
}

static bool is_driver(const char *name)
{
	const size_t len = strlen(name), end = strlen(BENCH_DRIVER_END);

	return *name != '.' && len > end &&
	       strcmp(name + len - end, BENCH_DRIVER_END) == 0;
}

/* -ENOENT, not logged: there is no such directory. */
static int add_directory(struct bench_drivers *drivers, const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int r = dir ? 0 : -errno;

	if (r == -ENOENT || r == -ENOTDIR)
		return -ENOENT;
	if (r < 0)
		return log_ret(r, "drivers '%s': %s", path, strerror(-r));
	while (r == 0 && (entry = readdir(dir))) {
		autofree char *file = NULL;

		if (!is_driver(entry->d_name))
			continue;
		if (asprintf(&file, "%s/%s", path, entry->d_name) < 0) {
			file = NULL;
			r = log_ret(-ENOMEM, "out of memory");
		} else {
			r = add_file(drivers, file);
		}
	}
	closedir(dir);
	return r;
}

/* A program that is not installed has its source's, where that is. */
static int add_own(struct bench_drivers *drivers)
{
	static const char *const places[] = {"tools/bench/drivers",
					     "../tools/bench/drivers"};
	const char *told = getenv("BULKHEAD_BENCH_DRIVERS");
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (told && *told)
		return add_directory(drivers, told);
	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	for (unsigned i = 0; slash && i < ARRAY_LEN(places); i++) {
		autofree char *path = NULL;
		int r;

		if (asprintf(&path, "%.*s/%s", (int)(slash - self), self,
			     places[i]) < 0) {
			path = NULL;
			return log_ret(-ENOMEM, "out of memory");
		}
		r = add_directory(drivers, path);
		if (r != -ENOENT)
			return r;
	}
	return add_directory(drivers, BULKHEAD_DATADIR "/bench");
}

static int add_users(struct bench_drivers *drivers)
{
	const char *config = getenv("XDG_CONFIG_HOME");
	const char *home = getenv("HOME");
	const bool usual = !config || config[0] != '/';
	autofree char *path = NULL;
	int r;

	if (usual && (!home || home[0] != '/'))
		return 0;
	if (asprintf(&path, "%s%s/bulkhead/bench", usual ? home : config,
		     usual ? "/.config" : "") < 0) {
		path = NULL;
		return log_ret(-ENOMEM, "out of memory");
	}
	r = add_directory(drivers, path);
	return r == -ENOENT ? 0 : r;
}

int bench_drivers_find(struct bench_drivers *drivers, const char *const *files)
{
	int r = add_own(drivers);

	if (r == -ENOENT)
		r = log_ret(r,
			    "no drivers: neither '%s' nor the directory "
			    "$BULKHEAD_BENCH_DRIVERS is there",
			    BULKHEAD_DATADIR "/bench");
	if (r == 0)
		r = add_users(drivers);
	for (; r == 0 && files && *files; files++)
		r = add_file(drivers, *files);
	if (drivers->count > 0)
		qsort(drivers->item, drivers->count, sizeof(*drivers->item),
		      compare);
	return r;
}
