/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `events`: what the monitor uses of the host, as its control group says, in
 * the form of runc's. crun has no such command. A group of version 1 is spread
 * over hierarchies: there the host's runtime is asked.
 */
#include "tools/oci/oci.h"

#include "tools/oci/oci-options.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FILE_MAX_BYTES (1 << 20)
#define INTERVAL_MS    5000 /* runc's */
#define NS_PER_US      1000
#define NS_PER_MS      1000000

struct request {
	const char *interval; /* as given, or NULL */
	bool stats;
	const char *id;
	int group; /* the group's directory */
};

static const struct oci_option options[] = {
	{"interval", 0, OCI_OWN_VALUE, offsetof(struct request, interval)},
	{"stats", 0, OCI_OWN_FLAG, offsetof(struct request, stats)},
	{0},
};

/* ---- files of the group */

/* Allocated; NULL: the group has no such file, or is gone. */
static char *read_file(int group, const char *name)
{
	autofd int fd = openat(group, name, O_RDONLY | O_CLOEXEC);
	char *text = NULL;

	return fd >= 0 && util_read_stream(fd, FILE_MAX_BYTES, &text) == 0
		       ? text
		       : NULL;
}

/* A file with one number. 0: there is none, or it is "max". */
static json_int_t number_in(int group, const char *name)
{
	autofree char *text = read_file(group, name);

	return text ? (json_int_t)strtoll(text, NULL, 10) : 0;
}

/* "max" is the greatest number, as where version 1 has no limit. */
static json_int_t limit_in(int group, const char *name)
{
	autofree char *text = read_file(group, name);

	if (!text)
		return 0;
	return strncmp(text, "max", 3) == 0
		       ? INT64_MAX
		       : (json_int_t)strtoll(text, NULL, 10);
}

/* KEY's number in lines "KEY NUMBER", or NULL. 0: none has that key. */
static json_int_t find(const char *text, const char *key)
{
	const size_t n = strlen(key);

	while (text && *text) {
		if (strncmp(text, key, n) == 0 && text[n] == ' ')
			return (json_int_t)strtoll(text + n, NULL, 10);
		text = strchr(text, '\n');
		text += text ? 1 : 0;
	}
	return 0;
}

/* ---- what they say */

static json_t *cpu(int group)
{
	autofree char *stat = read_file(group, "cpu.stat");

	return json_pack("{s:{s:I, s:I, s:I}, s:{s:I, s:I, s:I}}", "usage",
			 "total", find(stat, "usage_usec") * NS_PER_US,
			 "kernel", find(stat, "system_usec") * NS_PER_US,
			 "user", find(stat, "user_usec") * NS_PER_US,
			 "throttling", "periods", find(stat, "nr_periods"),
			 "throttledPeriods", find(stat, "nr_throttled"),
			 "throttledTime",
			 find(stat, "throttled_usec") * NS_PER_US);
}

/* Each line of memory.stat. */
static json_t *raw_memory(const char *stat)
{
	json_t *raw = json_object();
	char key[64];
	long long n;

	while (stat && sscanf(stat, "%63s %lld", key, &n) == 2) {
		(void)json_object_set_new(raw, key, json_integer(n));
		stat = strchr(stat, '\n');
		stat += stat ? 1 : 0;
	}
	return raw;
}

/* As version 1 counts: swap has the memory in it. */
static json_int_t add(json_int_t a, json_int_t b)
{
	return a > INT64_MAX - b ? INT64_MAX : a + b;
}

static json_t *memory(int group)
{
	autofree char *stat = read_file(group, "memory.stat");
	autofree char *events = read_file(group, "memory.events");
	const json_int_t usage = number_in(group, "memory.current");
	const json_int_t limit = limit_in(group, "memory.max");

	return json_pack(
		"{s:I, s:{s:I, s:I, s:I, s:I}, s:{s:I, s:I, s:i}, "
		"s:{s:i, s:I, s:i}, s:o}",
		"cache", find(stat, "file"), "usage", "limit", limit, "usage",
		usage, "max", number_in(group, "memory.peak"), "failcnt",
		find(events, "max"), "swap", "limit",
		add(limit, limit_in(group, "memory.swap.max")), "usage",
		add(usage, number_in(group, "memory.swap.current")), "failcnt",
		0, "kernel", "limit", 0, "usage", find(stat, "kernel"),
		"failcnt", 0, "raw", raw_memory(stat));
}

/* Notes of LINE, one device's of io.stat, those numbers that LIST names. */
static void add_device(json_t *to, const char *line, const char *const list[3])
{
	static const char *const ops[] = {"Read", "Write", "Discard"};
	unsigned major, minor;

	if (sscanf(line, "%u:%u", &major, &minor) != 2)
		return;
	for (unsigned i = 0; i < ARRAY_LEN(ops); i++) {
		const char *at = strstr(line, list[i]);

		if (at)
			(void)json_array_append_new(
				to, json_pack("{s:i, s:i, s:s, s:I}", "major",
					      (int)major, "minor", (int)minor,
					      "op", ops[i], "value",
					      (json_int_t)strtoll(
						      at + strlen(list[i]),
						      NULL, 10)));
	}
}

static json_t *block(int group)
{
	static const char *const bytes[] = {" rbytes=", " wbytes=", " dbytes="};
	static const char *const requests[] = {" rios=", " wios=", " dios="};
	autofree char *stat = read_file(group, "io.stat");
	json_t *by_bytes = json_array(), *by_requests = json_array();
	char *rest = stat;

	for (char *line; rest && (line = strsep(&rest, "\n"));) {
		add_device(by_bytes, line, bytes);
		add_device(by_requests, line, requests);
	}
	return json_pack("{s:o, s:o}", "ioServiceBytesRecursive", by_bytes,
			 "ioServicedRecursive", by_requests);
}

/* One line, which a reader gets at once. DATA is taken; NULL: it has none. */
static int print_event(const struct request *req, const char *type,
		       json_t *data)
{
	json_t *event = json_pack("{s:s, s:s, s:o*}", "type", type, "id",
				  req->id, "data", data);
	const bool is_out = event &&
			    json_dumpf(event, stdout, JSON_COMPACT) == 0 &&
			    putchar('\n') >= 0 && fflush(stdout) == 0;

	json_decref(event);
	return is_out ? 0
		      : log_ret(-EIO, "events: standard output: cannot write");
}

static int print_stats(const struct request *req)
{
	const int group = req->group;
	const json_int_t limit = limit_in(group, "pids.max");

	return print_event(req, "stats",
			   json_pack("{s:o, s:o, s:{s:I, s:I}, s:o}", "cpu",
				     cpu(group), "memory", memory(group),
				     "pids", "current",
				     number_in(group, "pids.current"), "limit",
				     limit == INT64_MAX ? 0 : limit, "blkio",
				     block(group)));
}

/* ---- until the container ends */

static json_int_t count_kills(int group)
{
	autofree char *events = read_file(group, "memory.events");

	return find(events, "oom_kill");
}

/* inotify(7) says that there is something; the group's file says what. */
static void drain(int fd)
{
	char events[4096];

	while (read(fd, events, sizeof(events)) > 0)
		;
}

static int watch_group(int group)
{
	autofd int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d/memory.events", group);
	/* A group without that controller has no such events. */
	if (fd >= 0 && inotify_add_watch(fd, path, IN_MODIFY) < 0 &&
	    errno != ENOENT)
		return -errno;
	return fd < 0 ? -errno : take_fd(&fd);
}

static int follow(const struct request *req, int process_fd, uint64_t interval)
{
	autofd int watch_fd = watch_group(req->group);
	struct pollfd pfd[3] = {
		{.fd = process_fd, .events = POLLIN},
		{.fd = STDOUT_FILENO}, /* for its reader's end */
		{.fd = watch_fd, .events = POLLIN},
	};
	json_int_t known = count_kills(req->group);
	uint64_t next = util_now_ns() + interval * NS_PER_MS;
	int r = watch_fd < 0 ? log_ret(watch_fd, "events: inotify: %s",
				       strerror(-watch_fd))
			     : 0;

	while (r == 0) {
		const uint64_t now = util_now_ns();
		const int wait =
			now < next ? (int)((next - now) / NS_PER_MS) + 1 : 0;
		json_int_t kills;

		if (poll(pfd, ARRAY_LEN(pfd), wait) < 0 && errno != EINTR)
			return log_ret(-errno, "events: poll: %s",
				       strerror(errno));
		drain(watch_fd);
		kills = count_kills(req->group);
		if (kills > known && !pfd[1].revents)
			r = print_event(req, "oom", NULL);
		known = kills;
		if (pfd[0].revents || pfd[1].revents)
			break;
		if (r == 0 && util_now_ns() >= next) {
			r = print_stats(req);
			next += interval * NS_PER_MS;
		}
	}
	return r;
}

/* ---- the command */

/* As Go writes times: "5s", "1m30s", "250ms"; in ms. */
static int parse_interval(const char *text, uint64_t *ret)
{
	static const struct {
		const char *name;
		uint64_t ms;
	} units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
	const char *at = text;
	uint64_t sum = 0;

	while (*at) {
		char *unit;
		const unsigned long n = strtoul(at, &unit, 10);
		const size_t len = strcspn(unit, "0123456789");
		unsigned i = 0;

		while (i < ARRAY_LEN(units) &&
		       (strlen(units[i].name) != len ||
			strncmp(units[i].name, unit, len) != 0))
			i++;
		if (unit == at || i == ARRAY_LEN(units) || n > INT32_MAX)
			break;
		sum += n * units[i].ms;
		at = unit + len;
	}
	if (*at || sum == 0 || sum > INT32_MAX)
		return log_ret(-EINVAL,
			       "events: --interval '%s': give a time as 5s or "
			       "250ms, greater than 0",
			       text);
	*ret = sum;
	return 0;
}

static int print(struct oci *oci, struct request *req)
{
	uint64_t interval = INTERVAL_MS;
	autofd int process_fd = -1, group = -1;
	int r = req->interval ? parse_interval(req->interval, &interval) : 0;

	if (r == 0)
		r = oci_host_group(oci, req->id, &process_fd, &group);
	if (r < 0)
		return r;
	req->group = group;
	return req->stats ? print_stats(req)
			  : follow(req, process_fd, interval);
}

int oci_cmd_events(struct oci *oci, int argc, char **argv)
{
	struct request req = {0};
	struct text_list pass = {0};
	int n;

	if (!oci_group_is_unified(OCI_GROUPS))
		return oci_cmd_pass(oci, argc, argv);
	n = oci_options_parse(options, &req, &pass, argc, argv);
	if (n < 0)
		return OCI_EXIT_FAILED;
	if (argc - n != 1)
		return log_ret(OCI_EXIT_FAILED,
			       "events: give one container id");
	req.id = argv[n];
	return print(oci, &req) < 0 ? OCI_EXIT_FAILED : 0;
}
