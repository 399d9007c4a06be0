/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead stats`: what instances use, again and again. The container's
 * figures are the guest's word, by its agent; those of the host are the
 * monitor's process, which is all that the host gives to the machine.
 */
#include "tools/cmd/cmd.h"

#include "tools/agent/agent.h"
#include "tools/cli/options.h"
#include "tools/cli/print.h"
#include "tools/cli/usage.h"
#include "tools/instance/host-usage.h"
#include "tools/instance/instance.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/vm.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#define CONNECT_TIMEOUT_MS 3000
#define INTERVAL_MS        1000

struct request {
	bool no_stream, json;
	const char *format;
	char *const *names; /* ends with NULL; none: all that run */
};

static const struct option_entry entries[] = {
	{"no-stream", 0, NULL, OPTION_FLAG, offsetof(struct request, no_stream),
	 NULL, "print one table, a second's, and end"},
	{"json", 0, NULL, OPTION_FLAG, offsetof(struct request, json), NULL,
	 "print lists of JSON objects"},
	{"format", 0, "json", OPTION_TEXT, offsetof(struct request, format),
	 NULL, "print a JSON object per line"},
	{0},
};

static const struct option_table table = {
	.command = "stats",
	.synopsis = "usage: bulkhead stats [OPTION]... [NAME]...\n"
		    "\n"
		    "Shows each second what running instances use; all of them "
		    "unless named.\n",
	.entries = entries,
	.notes =
		"\n"
		"CPU %, MEM USAGE / LIMIT, MEM %, NET I/O and PIDS are the "
		"container's, as its\n"
		"guest tells. BLOCK I/O, HOST CPU %, HOST RSS and HOST PSS are "
		"those of the\n"
		"machine's process on this host: its memory is what the guest "
		"has touched.\n"
		"100 % is one CPU.\n",
};

/* An instance that is looked at. */
struct watched {
	struct instance instance;
	struct instance_state state;
	struct agent_session
		*agent; /* owned; NULL: the guest does not answer */
	bool paused;
	bool silent;      /* the guest did not answer: it is not asked again */
	bool guest, host; /* there is a figure of it now */
	bool seen;        /* this round */
	bool measured;    /* there is one before it */
	uint64_t time_ns, before_ns;
	struct agent_stats now, before;
	struct host_usage host_now, host_before;
};

struct stats {
	const struct request *req;
	struct watched *list; /* owned */
	size_t count;
	int error;
};

/* ---- which there are */

static void forget(struct watched *w)
{
	agent_free(w->agent);
	instance_state_done(&w->state);
	instance_done(&w->instance);
}

static struct watched *find(struct stats *stats, const char *name)
{
	for (size_t i = 0; i < stats->count; i++)
		if (strcmp(stats->list[i].instance.name, name) == 0)
			return &stats->list[i];
	return NULL;
}

/* Takes the instance and its state over. */
static int add(struct stats *stats, const struct instance *instance,
	       const struct instance_state *state)
{
	struct watched *more =
		reallocarray(stats->list, stats->count + 1, sizeof(*more));

	if (!more)
		return log_ret(-ENOMEM, "out of memory");
	stats->list = more;
	more += stats->count++;
	*more = (struct watched){
		.instance = *instance, .state = *state, .seen = true};
	return 0;
}

/* One that is paused does not answer, and is not to be waited for. */
static void meet_agent(struct watched *w)
{
	struct instance_state state;

	if (instance_load(&w->instance, &state) < 0)
		return;
	w->paused = state.phase == INSTANCE_PAUSED;
	instance_state_done(&state);
	if (w->paused) {
		agent_free(take_ptr(w->agent));
	} else if (!w->agent && !w->silent &&
		   agent_connect(w->instance.socket, CONNECT_TIMEOUT_MS,
				 &w->agent) < 0) {
		w->agent = NULL;
		w->silent = true;
	}
}

/* By its name, as the walk's own object does not stay. */
static int add_running(const struct instance *instance, void *arg)
{
	struct stats *stats = arg;
	struct instance_state state;
	struct watched *known = find(stats, instance->name);
	struct instance own;
	bool runs;
	int r;

	if (known) {
		known->seen = instance_is_alive(&known->instance);
		return 0;
	}
	if (!instance_is_alive(instance) || instance_load(instance, &state) < 0)
		return 0;
	runs = state.phase == INSTANCE_RUNNING ||
	       state.phase == INSTANCE_PAUSED;
	instance_state_done(&state);
	if (!runs || instance_open_living(instance->name, &own, &state) < 0)
		return 0;
	r = add(stats, &own, &state);
	if (r < 0) {
		instance_state_done(&state);
		instance_done(&own);
	}
	return r;
}

/* 0 or -errno, logged. */
static int find_named(struct stats *stats)
{
	char *const *name = stats->req->names;
	int r = 0;

	for (; r == 0 && *name; name++) {
		struct instance_state state;
		struct instance instance;

		if (find(stats, *name))
			continue;
		r = instance_open_living(*name, &instance, &state);
		if (r == 0)
			r = add(stats, &instance, &state);
	}
	return r;
}

static int look_again(struct stats *stats, bool first)
{
	size_t kept = 0;
	int r = 0;

	for (size_t i = 0; i < stats->count; i++)
		stats->list[i].seen = false;
	if (!stats->req->names[0])
		r = instance_each(add_running, stats);
	else if (first)
		r = find_named(stats);
	for (size_t i = 0; !first && stats->req->names[0] && i < stats->count;
	     i++)
		stats->list[i].seen =
			instance_is_alive(&stats->list[i].instance);
	for (size_t i = 0; i < stats->count; i++) {
		if (stats->list[i].seen || r < 0)
			stats->list[kept++] = stats->list[i];
		else
			forget(&stats->list[i]);
	}
	stats->count = kept;
	return r;
}

/* ---- figures */

static void measure(struct watched *w)
{
	meet_agent(w);
	w->measured = w->time_ns != 0;
	w->before_ns = w->time_ns;
	w->before = w->now;
	w->host_before = w->host_now;
	if (w->agent && agent_get_stats(w->agent, &w->now) < 0) {
		agent_free(take_ptr(w->agent));
		w->silent = true;
	}
	w->guest = w->agent;
	w->host =
		host_usage_read(w->state.pid, w->state.pid_start, &w->host_now);
	w->time_ns = util_now_ns();
}

/* Percent of one CPU, of US in that time. */
static double percent(uint64_t us, uint64_t before_us, uint64_t span_us)
{
	return us > before_us && span_us > 0
		       ? 100.0 * (double)(us - before_us) / (double)span_us
		       : 0;
}

static double guest_cpu(const struct watched *w)
{
	return w->measured ? percent(w->now.cpu_us, w->before.cpu_us,
				     w->now.time_us - w->before.time_us)
			   : 0;
}

static double host_cpu(const struct watched *w)
{
	return w->measured ? percent(w->host_now.cpu_us, w->host_before.cpu_us,
				     (w->time_ns - w->before_ns) / 1000)
			   : 0;
}

/* Without a limit of its own it has the machine's. */
static double memory_percent(const struct agent_stats *s)
{
	return s->memory_limit
		       ? 100.0 * (double)s->memory / (double)s->memory_limit
		       : 0;
}

/* ---- how they are shown */

/* "12.3MiB", "4.56kB": as Docker has memory and transfers. */
static const char *size_text(uint64_t bytes, bool binary, char text[16])
{
	static const char *const units[2][5] = {
		{"B", "kB", "MB", "GB", "TB"},
		{"B", "KiB", "MiB", "GiB", "TiB"},
	};
	const double step = binary ? 1024 : 1000;
	double value = (double)bytes;
	unsigned i = 0;

	for (; value >= step && i < 4; i++)
		value /= step;
	snprintf(text, 16, "%.*f%s", i == 0 || value >= 100 ? 0 : 1, value,
		 units[binary][i]);
	return text;
}

static void print_head(FILE *out, int width, const char *end)
{
	fprintf(out, "%-*s  %8s  %21s  %7s  %19s  %19s  %5s  %10s  %9s  %9s%s",
		width, "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O",
		"BLOCK I/O", "PIDS", "HOST CPU %", "HOST RSS", "HOST PSS", end);
}

static void print_row(FILE *out, const struct watched *w, int width,
		      const char *end)
{
	char a[16], b[16], pair[40];

	fprintf(out, "%-*s  ", width, w->instance.name);
	if (w->guest) {
		snprintf(pair, sizeof(pair), "%s / %s",
			 size_text(w->now.memory, true, a),
			 size_text(w->now.memory_limit, true, b));
		fprintf(out, "%7.2f%%  %21s  %6.2f%%  ", guest_cpu(w), pair,
			memory_percent(&w->now));
		snprintf(pair, sizeof(pair), "%s / %s",
			 size_text(w->now.net_rx, false, a),
			 size_text(w->now.net_tx, false, b));
		fprintf(out, "%19s  ", pair);
	} else {
		fprintf(out, "%8s  %21s  %7s  %19s  ", "--", "-- / --", "--",
			"-- / --");
	}
	snprintf(pair, sizeof(pair), "%s / %s",
		 size_text(w->host_now.read_bytes, false, a),
		 size_text(w->host_now.written_bytes, false, b));
	fprintf(out, "%19s  ", w->host ? pair : "-- / --");
	if (w->guest)
		fprintf(out, "%5llu  ", (unsigned long long)w->now.pids);
	else
		fprintf(out, "%5s  ", "--");
	if (w->host)
		fprintf(out, "%9.2f%%  %9s  %9s%s", host_cpu(w),
			size_text(w->host_now.rss, true, a),
			size_text(w->host_now.pss, true, b), end);
	else
		fprintf(out, "%10s  %9s  %9s%s", "--", "--", "--", end);
}

/* In place: each line's rest is cleared, and what is below. */
static int print_table(const struct stats *stats, bool live)
{
	const char *end = live ? "\033[K\n" : "\n";
	int width = (int)strlen("NAME");
	char *text = NULL;
	size_t bytes = 0;
	FILE *out = open_memstream(&text, &bytes);

	if (!out)
		return log_ret(-ENOMEM, "out of memory");
	for (size_t i = 0; i < stats->count; i++) {
		const int n = (int)strlen(stats->list[i].instance.name);

		width = n > width ? n : width;
	}
	fputs(live ? "\033[H" : "", out);
	print_head(out, width, end);
	for (size_t i = 0; i < stats->count; i++)
		print_row(out, &stats->list[i], width, end);
	fputs(live ? "\033[J" : "", out);
	if (fclose(out) == 0)
		fwrite(text, 1, bytes, stdout);
	free(text);
	return 0;
}

static json_t *guest_json(const struct watched *w)
{
	if (!w->guest)
		return json_null();
	return json_pack("{s:f, s:I, s:I, s:I, s:I, s:I, s:I}", "cpu_percent",
			 guest_cpu(w), "cpu_us", (json_int_t)w->now.cpu_us,
			 "memory", (json_int_t)w->now.memory, "memory_limit",
			 (json_int_t)w->now.memory_limit, "net_received",
			 (json_int_t)w->now.net_rx, "net_sent",
			 (json_int_t)w->now.net_tx, "pids",
			 (json_int_t)w->now.pids);
}

static json_t *host_json(const struct watched *w)
{
	const struct host_usage *h = &w->host_now;

	if (!w->host)
		return json_null();
	return json_pack("{s:i, s:f, s:I, s:I, s:I, s:I, s:I}", "pid",
			 (int)w->state.pid, "cpu_percent", host_cpu(w),
			 "cpu_us", (json_int_t)h->cpu_us, "rss",
			 (json_int_t)h->rss, "pss", (json_int_t)h->pss,
			 "block_read", (json_int_t)h->read_bytes,
			 "block_written", (json_int_t)h->written_bytes);
}

static int print_as_json(const struct stats *stats)
{
	const bool lines = stats->req->format != NULL;
	json_t *list = json_array();
	int r = 0;

	for (size_t i = 0; r == 0 && i < stats->count; i++) {
		const struct watched *w = &stats->list[i];
		json_t *one =
			json_pack("{s:s, s:o, s:o}", "name", w->instance.name,
				  "guest", guest_json(w), "host", host_json(w));

		if (lines)
			r = print_json(one, 0);
		if (r == 0 && json_array_append(list, one) < 0)
			r = log_ret(-ENOMEM, "out of memory");
		json_decref(one);
	}
	if (r == 0 && !lines)
		r = print_json(list,
			       stats->req->no_stream ? JSON_INDENT(2) : 0);
	json_decref(list);
	return r;
}

/* ---- rounds */

/* The first one is only there for what comes after it. */
static int one_round(struct stats *stats, bool first, bool live)
{
	int r = look_again(stats, first);

	if (r < 0)
		return r;
	for (size_t i = 0; i < stats->count; i++)
		measure(&stats->list[i]);
	if (first)
		return 0;
	r = stats->req->json || stats->req->format ? print_as_json(stats)
						   : print_table(stats, live);
	fflush(stdout);
	return r < 0 || ferror(stdout) ? (r < 0 ? r : -EIO) : 0;
}

static int watch(struct stats *stats)
{
	const bool live = !stats->req->no_stream && !stats->req->json &&
			  !stats->req->format && isatty(STDOUT_FILENO);
	bool first = true;
	int r;

	if (live)
		fputs("\033[2J", stdout);
	for (;;) {
		r = one_round(stats, first, live);
		if (r < 0 || (!first && stats->req->no_stream))
			return r;
		/* Those that were named have ended. */
		if (stats->count == 0 && stats->req->names[0])
			return 0;
		first = false;
		poll(NULL, 0, INTERVAL_MS);
	}
}

int cmd_stats(int argc, char **argv)
{
	struct request req = {0};
	struct stats stats = {.req = &req};
	int n = options_parse(&table, &req, argc, argv);
	int r;

	if (n == OPTIONS_HELP)
		return VM_EXIT_OK;
	if (n < 0)
		return VM_EXIT_USAGE;
	if (req.format && strcmp(req.format, "json") != 0)
		return usage_error("stats", "--format '%s': only json is known",
				   req.format);
	req.names = argv + n;
	instance_sweep();
	r = watch(&stats);
	for (size_t i = 0; i < stats.count; i++)
		forget(&stats.list[i]);
	free(stats.list);
	return r < 0 ? INSTANCE_EXIT_FAILED : VM_EXIT_OK;
}
