/* SPDX-License-Identifier: Apache-2.0 */
/* Makes the drivers' programs ready to run the command: checks, preparations.
 */
#include "tools/bench/bench.h"

#include "vmm/base/log.h"
#include "vmm/base/text.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define LINE_MAX_BYTES 160
#define TEXT_MAX_BYTES 4096

static int out_of_memory(void)
{
	return log_ret(-ENOMEM, "out of memory");
}

int bench_leave_out(struct bench_peer *peer, const char *why)
{
	free(peer->why_not);
	peer->why_not = strdup(why);
	return peer->why_not ? 0 : out_of_memory();
}

int bench_failed(struct bench_peer *peer, const char *why)
{
	peer->failed++;
	if (peer->failure)
		return 0;
	peer->failure = text_printable(why);
	return peer->failure ? 0 : out_of_memory();
}

static bool is_installed(const char *program, size_t bytes)
{
	const char *path = getenv("PATH");

	while (path && *path) {
		size_t len = strcspn(path, ":");
		autofree char *file = NULL;

		if (asprintf(&file, "%.*s/%.*s", (int)len, path, (int)bytes,
			     program) < 0)
			return false;
		if (access(file, X_OK) == 0)
			return true;
		path += len + (path[len] == ':');
	}
	return false;
}

/* ---- scripts */

/* A driver's templates and scripts are told this. */
struct places {
	struct bench_place place[16];
	unsigned count;
};

static void add_place(struct places *places, const char *name,
		      const char *value)
{
	places->place[places->count++] = (struct bench_place){name, value};
}

static struct places places_of(const struct bench_peer *peer,
			       const struct bench_what *what, const char *id)
{
	struct places places = {.count = 0};

	add_place(&places, "self", what->self);
	add_place(&places, "runtime", what->runtime);
	add_place(&places, "kernel", what->kernel);
	add_place(&places, "root", what->root);
	add_place(&places, "tree", what->tree);
	add_place(&places, "program", what->command[0]);
	add_place(&places, "arguments", what->arguments);
	add_place(&places, "tag", what->tag);
	add_place(&places, "scratch", peer->scratch);
	add_place(&places, "bundle", peer->bundle);
	add_place(&places, "id", id);
	return places;
}

int bench_peer_environment(const struct bench_peer *peer, struct text_list *ret)
{
	int r = text_list_add_all(ret, (const char *const *)environ);

	for (unsigned i = 0; r == 0 && i < peer->environment.count; i++)
		r = text_list_set(ret, peer->environment.item[i]);
	return r;
}

static int script_environment(const struct bench_peer *peer,
			      const struct places *places,
			      struct text_list *list)
{
	int r = bench_peer_environment(peer, list);

	for (unsigned i = 0; r == 0 && i < places->count; i++) {
		const struct bench_place *place = &places->place[i];
		autofree char *pair = NULL;

		if (asprintf(&pair, "%s=%s", place->name,
			     place->value ? place->value : "") < 0) {
			pair = NULL;
			r = out_of_memory();
		} else {
			r = text_list_set(list, pair);
		}
	}
	return r;
}

/* The last line of what a script wrote; "": nothing. */
static void last_line(int fd, char ret[LINE_MAX_BYTES])
{
	off_t end = lseek(fd, 0, SEEK_END);
	off_t from = end > LINE_MAX_BYTES - 1 ? end - (LINE_MAX_BYTES - 1) : 0;
	ssize_t n = pread(fd, ret, LINE_MAX_BYTES - 1, from);
	const char *line;

	ret[n > 0 ? n : 0] = '\0';
	n = (ssize_t)strlen(ret);
	while (n > 0 && strchr("\r\n", ret[n - 1]))
		ret[--n] = '\0';
	line = strrchr(ret, '\n');
	if (line)
		memmove(ret, line + 1, strlen(line));
	text_make_printable(ret);
}

/*
 * Its output and messages go to FD. The exit status, BENCH_SCRIPT_LATE, or
 * -errno, logged.
 */
static int call(const struct bench_peer *peer, const struct bench_what *what,
		const char *id, const char *script, int fd)
{
	const struct places places = places_of(peer, what, id);
	struct text_list argv = {0}, environment = {0};
	struct bench_end end = {.status = 255};
	int r = fd < 0 ? bench_no_file("a file for messages") : 0;

	if (r == 0)
		r = text_list_add_all(
			&argv, (const char *const[]){"/bin/sh", "-c", script,
						     peer->driver->name, NULL});
	if (r == 0)
		r = text_list_add_all(&argv,
				      (const char *const *)what->command);
	if (r == 0)
		r = script_environment(peer, &places, &environment);
	if (r == 0) {
		const struct bench_start start = {
			.argv = argv.item,
			.environment = environment.item,
			.out_fd = fd,
			.err_fd = fd,
			.mount_ns = -1,
			.own_group = true,
			.signals = what->signals,
		};

		r = bench_spawn(&start, peer->driver->limit_s, &end);
		if (r == 0)
			r = end.late ? BENCH_SCRIPT_LATE : end.status;
	}
	text_list_done(&argv);
	text_list_done(&environment);
	return r;
}

int bench_script(const struct bench_peer *peer, const struct bench_what *what,
		 const char *id, const char *script, char **ret_line)
{
	autofd int fd = bench_messages();
	char line[LINE_MAX_BYTES], reason[LINE_MAX_BYTES];
	int r = call(peer, what, id, script, fd);

	if (r < 0)
		return r;
	last_line(fd, line);
	if (r == BENCH_SCRIPT_LATE)
		snprintf(reason, sizeof(reason),
			 "its driver's '%s' did not end within %u s",
			 bench_driver_key(peer->driver, script),
			 peer->driver->limit_s);
	else
		snprintf(reason, sizeof(reason),
			 "its driver's '%s' ended with status %d",
			 bench_driver_key(peer->driver, script), r);
	*ret_line = strdup(
		r == BENCH_SCRIPT_LATE || (r != 0 && !line[0]) ? reason : line);
	return *ret_line ? r : out_of_memory();
}

void bench_clean_up(const struct bench_peer *peer,
		    const struct bench_what *what, const char *id,
		    const char *script)
{
	/* After a signal nothing is started any more, except for this. */
	struct bench_signals signals = *what->signals;
	struct bench_what now = *what;
	autofree char *line = NULL;

	if (!script)
		return;
	signals.came = 0;
	now.signals = &signals;
	/* There may be nothing to clean up: only a limit is worth a line. */
	if (bench_script(peer, &now, id, script, &line) == BENCH_SCRIPT_LATE)
		log_warn("%s: %s", peer->driver->name, line);
	if (!what->signals->came)
		what->signals->came = signals.came;
}

int bench_script_text(const struct bench_peer *peer,
		      const struct bench_what *what, const char *id,
		      const char *script, char **ret_text)
{
	autofd int fd = bench_messages();
	char text[TEXT_MAX_BYTES + 1];
	int r = call(peer, what, id, script, fd);
	ssize_t n;

	if (r < 0)
		return r;
	n = pread(fd, text, TEXT_MAX_BYTES, 0);
	text[n > 0 ? n : 0] = '\0';
	*ret_text = strdup(text);
	return *ret_text ? r : out_of_memory();
}

/* Runs one of the driver's scripts if there is one; its failure is the reason
 * to leave it out. */
static int run_script(struct bench_peer *peer, const struct bench_what *what,
		      const char *script)
{
	autofree char *line = NULL;
	int r = script ? bench_script(peer, what, what->tag, script, &line) : 0;

	return r > 0 ? bench_leave_out(peer, line) : r;
}

/* ---- what it needs */

/*
 * Version 2 of cgroups is mounted beside version 1 and has controllers. crun
 * does not run there; without that mount it does as on any host of version 1.
 */
static bool is_hybrid(void)
{
	static const char unified[] = "/sys/fs/cgroup/unified";
	autofd int fd = open("/sys/fs/cgroup/unified/cgroup.controllers",
			     O_RDONLY | O_CLOEXEC);
	struct statfs fs;
	char byte;

	return fd >= 0 && statfs(unified, &fs) == 0 &&
	       fs.f_type == CGROUP2_SUPER_MAGIC && read(fd, &byte, 1) == 1;
}

static int hide_hybrid(struct bench_peer *peer)
{
	if (!is_hybrid())
		return 0;
	peer->mount_ns = bench_without_hybrid();
	if (peer->mount_ns < 0)
		return bench_leave_out(peer, "does not run beside hybrid "
					     "cgroups");
	peer->hybrid_hidden = true;
	return 0;
}

static int check_programs(struct bench_peer *peer)
{
	const char *word = peer->driver->programs;

	while (word && *word) {
		const size_t n = strcspn(word, " \t\n");

		if (!is_installed(word, n)) {
			autofree char *why = NULL;

			if (asprintf(&why, "not installed: %.*s", (int)n,
				     word) < 0) {
				why = NULL;
				return out_of_memory();
			}
			return bench_leave_out(peer, why);
		}
		word += n + strspn(word + n, " \t\n");
	}
	return 0;
}

static int check_needs(struct bench_peer *peer, const struct bench_what *what)
{
	const struct bench_driver *driver = peer->driver;

	if (bench_driver_needs(driver, "root") && geteuid() != 0)
		return bench_leave_out(peer, "needs root");
	if (bench_driver_needs(driver, "kvm") &&
	    access("/dev/kvm", R_OK | W_OK) < 0)
		return bench_leave_out(peer, errno == ENOENT
						     ? "no /dev/kvm here"
						     : "/dev/kvm is not this "
						       "user's to use");
	if (bench_driver_needs(driver, "kernel") && !what->kernel)
		return bench_leave_out(peer, "no guest kernel: see 'bulkhead "
					     "check'");
	return bench_driver_needs(driver, "no-hybrid") ? hide_hybrid(peer) : 0;
}

/* ---- one */

static int make_scratch(struct bench_peer *peer, const struct bench_what *what)
{
	const char *name = peer->driver->name;

	if (asprintf(&peer->scratch, "%s/%s", what->scratch, name) < 0)
		peer->scratch = NULL;
	if (peer->scratch &&
	    asprintf(&peer->bundle, "%s/bundle", peer->scratch) < 0)
		peer->bundle = NULL;
	if (!peer->scratch || !peer->bundle)
		return out_of_memory();
	if (mkdir(peer->scratch, 0700) < 0)
		return log_ret(-errno, "'%s': %s", peer->scratch,
			       strerror(errno));
	return bench_bundle(peer->bundle, what->tree, what->command);
}

int bench_peer_words(const struct bench_peer *peer,
		     const struct bench_what *what, const char *id,
		     const char *text, struct text_list *ret)
{
	const struct places places = places_of(peer, what, id);

	return bench_template(ret, peer->driver->name, text, places.place,
			      what->command);
}

static int make_environment(struct bench_peer *peer,
			    const struct bench_what *what)
{
	return peer->driver->environment
		       ? bench_peer_words(peer, what, what->tag,
					  peer->driver->environment,
					  &peer->environment)
		       : 0;
}

static int find_version(struct bench_peer *peer, const struct bench_what *what)
{
	int r;

	if (!peer->driver->version)
		return 0;
	r = bench_script(peer, what, what->tag, peer->driver->version,
			 &peer->version);
	if (peer->version && (r != 0 || !peer->version[0])) {
		free(peer->version);
		peer->version = NULL;
	}
	return r < 0 ? r : 0;
}

static int make(struct bench_peer *peer, const struct bench_what *what)
{
	const struct bench_driver *driver = peer->driver;
	int r = make_scratch(peer, what);

	if (r == 0)
		r = check_programs(peer);
	if (r == 0 && !peer->why_not)
		r = check_needs(peer, what);
	if (r == 0 && !peer->why_not)
		r = make_environment(peer, what);
	if (r == 0 && !peer->why_not)
		r = run_script(peer, what, driver->check);
	if (r == 0 && !peer->why_not)
		r = find_version(peer, what);
	if (r == 0 && !peer->why_not && !what->look_only) {
		r = run_script(peer, what, driver->prepare);
		peer->prepared = true;
	}
	if (r == 0 && !peer->why_not)
		r = bench_peer_words(peer, what, what->tag, driver->command,
				     &peer->argv);
	return r;
}

/* ---- all */

bool bench_is_named(const char *names, const char *name)
{
	const size_t n = strlen(name);

	while (*names) {
		const size_t len = strcspn(names, ",");

		if (len == n && strncmp(names, name, n) == 0)
			return true;
		names += len + (names[len] == ',');
	}
	return false;
}

static int make_top(struct bench_what *what)
{
	const char *tmp = getenv("TMPDIR");

	/* An absolute path, as crun starts in another mount namespace. */
	if (asprintf(&what->scratch, "%s/bulkhead-bench.XXXXXX",
		     tmp && tmp[0] == '/' ? tmp : "/tmp") < 0)
		what->scratch = NULL;
	if (!what->scratch)
		return out_of_memory();
	if (!mkdtemp(what->scratch)) {
		free(what->scratch);
		what->scratch = NULL;
		return log_ret(-errno, "a temporary directory: %s",
			       strerror(errno));
	}
	return 0;
}

int bench_peers_make(struct bench_peers *peers,
		     const struct bench_drivers *drivers,
		     struct bench_what *what)
{
	int r = make_top(what);

	if (r < 0)
		return r;
	peers->item = calloc(drivers->count, sizeof(*peers->item));
	if (!peers->item)
		return out_of_memory();
	for (unsigned i = 0; r == 0 && i < drivers->count; i++) {
		struct bench_peer *peer = &peers->item[peers->count++];

		peer->driver = &drivers->item[i];
		peer->mount_ns = -1;
		r = what->only && !bench_is_named(what->only,
						  peer->driver->name)
			    ? bench_leave_out(peer, "left out by --only")
			    : make(peer, what);
		if (what->signals->came)
			r = -EINTR;
	}
	return r;
}

static int remove_one(const char *path, const struct stat *st, int type,
		      struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	(void)remove(path);
	return 0;
}

void bench_peers_done(struct bench_peers *peers, struct bench_what *what)
{
	for (unsigned i = 0; i < peers->count; i++) {
		struct bench_peer *peer = &peers->item[i];

		if (peer->prepared)
			bench_clean_up(peer, what, what->tag,
				       peer->driver->remove);
		text_list_done(&peer->argv);
		text_list_done(&peer->environment);
		util_close(&peer->mount_ns);
		free(peer->version);
		free(peer->why_not);
		free(peer->scratch);
		free(peer->bundle);
		free(peer->run);
		free(peer->failure);
		for (unsigned mark = 0; mark < BENCH_MARKS; mark++)
			free(peer->not_taken[mark]);
		free(peer->density.up_ms);
	}
	/* A mount there is not this program's to remove. */
	if (what->scratch)
		(void)nftw(what->scratch, remove_one, 16,
			   FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	free(what->scratch);
	what->scratch = NULL;
	free(peers->item);
	*peers = (struct bench_peers){0};
}
