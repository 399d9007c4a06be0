/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The result as JSON: all runs, and what follows from them.
 * docs/bulkhead-bench.1 (DOCUMENT) describes it; a change that a reader would
 * not understand raises BENCH_VERSION.
 */
#include "tools/bench/bench.h"

#include "vmm/base/log.h"
#include "vmm/base/text.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

const char *const bench_mark_names[BENCH_MARKS] = {"guest", "pid1", "output",
						   "resident", "exit"};

static json_t *words_json(char *const *words)
{
	json_t *list = json_array();

	for (; words && *words; words++) {
		autofree char *word = text_printable(*words);

		json_array_append_new(list, json_string(word ? word : ""));
	}
	return list;
}

/* Milliseconds with three digits, which is what the clock is good for. */
static json_t *ms_json(double ms)
{
	return json_real(round(ms * 1e3) / 1e3);
}

/* ---- one runtime */

static json_t *mark_samples(const struct bench_peer *peer, enum bench_mark mark)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < peer->count; i++)
		json_array_append_new(
			list,
			peer->run[i].at_ns[mark]
				? ms_json((double)peer->run[i].at_ns[mark] /
					  1e6)
				: json_null());
	return list;
}

static json_t *samples_json(const struct bench_peer *peer)
{
	json_t *rounds = json_array(), *status = json_array();
	json_t *ok = json_array(), *cpu = json_array(), *faults = json_array();
	json_t *samples = json_pack("{s:o, s:o, s:o, s:o, s:o}", "round",
				    rounds, "status", status, "ok", ok, "cpu",
				    cpu, "faults", faults);

	for (unsigned i = 0; i < peer->count; i++) {
		const struct bench_run *run = &peer->run[i];

		json_array_append_new(rounds, json_integer(run->round));
		json_array_append_new(status, json_integer(run->status));
		json_array_append_new(ok, json_boolean(run->ok));
		json_array_append_new(cpu, ms_json(run->cpu_ms));
		json_array_append_new(faults,
				      run->faults ? json_integer(run->faults)
						  : json_null());
	}
	for (unsigned mark = 0; mark < BENCH_MARKS; mark++)
		json_object_set_new(samples, bench_mark_names[mark],
				    mark_samples(peer, mark));
	return samples;
}

/* Runs that failed are in none of these. */
static json_t *marks_json(const struct bench_peer *peer, double *values)
{
	json_t *marks = json_object();

	for (unsigned mark = 0; mark < BENCH_MARKS; mark++) {
		unsigned n = 0;

		for (unsigned i = 0; i < peer->count; i++)
			if (peer->run[i].ok && peer->run[i].at_ns[mark])
				values[n++] =
					(double)peer->run[i].at_ns[mark] / 1e6;
		json_object_set_new(marks, bench_mark_names[mark],
				    bench_summary(values, n));
	}
	return marks;
}

/* NULL: all marks are taken. */
static json_t *not_taken_json(const struct bench_peer *peer)
{
	json_t *why = NULL;

	for (unsigned mark = 0; mark < BENCH_MARKS; mark++) {
		if (!peer->not_taken[mark])
			continue;
		if (!why)
			why = json_object();
		json_object_set_new(why, bench_mark_names[mark],
				    json_string(peer->not_taken[mark]));
	}
	return why;
}

static json_t *cpu_json(const struct bench_peer *peer, double *values)
{
	unsigned n = 0;

	for (unsigned i = 0; i < peer->count; i++)
		if (peer->run[i].ok)
			values[n++] = peer->run[i].cpu_ms;
	return bench_summary(values, n);
}

static json_t *faults_json(const struct bench_peer *peer, double *values)
{
	unsigned n = 0;

	for (unsigned i = 0; i < peer->count; i++)
		if (peer->run[i].ok && peer->run[i].faults)
			values[n++] = peer->run[i].faults;
	return bench_summary(values, n);
}

static json_t *phases_json(const struct bench_peer *peer)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < peer->nphases; i++)
		json_array_append_new(
			list,
			json_pack("{s:s, s:o}", "phase", peer->phase[i].name,
				  "median_ms", ms_json(peer->phase[i].ms)));
	return list;
}

static json_t *memory_json(const struct bench_memory *memory)
{
	return json_pack(
		"{s:i, s:o, s:i, s:I, s:I, s:o}", "count", (int)memory->count,
		"at_ms", ms_json(memory->at_ms), "processes",
		(int)memory->processes, "pss_kib", (json_int_t)memory->pss_kib,
		"shared_kib",
		(json_int_t)(memory->pss_kib > memory->private_kib
				     ? memory->pss_kib - memory->private_kib
				     : 0),
		"private_each_kib",
		ms_json((double)memory->private_kib / memory->count));
}

static json_t *density_json(const struct bench_density *density)
{
	json_t *instances = json_array(), *idle = json_array();

	for (unsigned i = 0; i < density->nmemory; i++)
		json_array_append_new(instances,
				      memory_json(&density->memory[i]));
	for (unsigned i = 0; i < density->nidle; i++)
		json_array_append_new(idle, memory_json(&density->idle[i]));
	return json_pack("{s:o, s:o, s:o}", "up_ms",
			 bench_summary(density->up_ms, density->nup),
			 "instances", instances, "idle", idle);
}

static const char *note_of(const struct bench_peer *peer)
{
	return peer->hybrid_hidden
		       ? "in a mount namespace without /sys/fs/cgroup/unified, "
			 "as it refuses hybrid cgroups"
		       : peer->driver->note;
}

static json_t *peer_json(const struct bench_peer *peer)
{
	const struct bench_driver *driver = peer->driver;
	json_t *json = json_pack("{s:s, s:s*, s:s*, s:s*, s:s*}", "runtime",
				 driver->name, "title", driver->title,
				 "operation", driver->operation, "isolation",
				 driver->isolation, "version", peer->version);
	json_t *not_taken;
	autofree double *values = calloc(peer->count + 1, sizeof(*values));

	if (peer->why_not) {
		json_object_set_new(json, "skipped",
				    json_string(peer->why_not));
		return json;
	}
	if (!values)
		return json;
	not_taken = not_taken_json(peer);
	json_object_set_new(json, "command", words_json(peer->argv.item));
	if (peer->environment.count > 0)
		json_object_set_new(json, "environment",
				    words_json(peer->environment.item));
	if (note_of(peer))
		json_object_set_new(json, "note", json_string(note_of(peer)));
	json_object_set_new(json, "runs", json_integer(peer->count));
	json_object_set_new(json, "failed", json_integer(peer->failed));
	if (peer->density.nup > 0)
		json_object_set_new(json, "memory",
				    density_json(&peer->density));
	if (peer->failure)
		json_object_set_new(json, "failure",
				    json_string(peer->failure));
	json_object_set_new(json, "marks_ms", marks_json(peer, values));
	if (not_taken)
		json_object_set_new(json, "not_taken", not_taken);
	json_object_set_new(json, "cpu_ms", cpu_json(peer, values));
	json_object_set_new(json, "faults", faults_json(peer, values));
	if (peer->nphases > 0)
		json_object_set_new(json, "phases", phases_json(peer));
	json_object_set_new(json, "samples_ms", samples_json(peer));
	return json;
}

/* ---- all */

/* NULL: nothing took any. */
static json_t *took_json(const struct bench_took *took)
{
	if (!took)
		return NULL;
	return json_pack("{s:i, s:o, s:o, s:o}", "runs", (int)took->runs,
			 "all_ms", ms_json((double)took->all_ns / 1e6),
			 "runs_ms", ms_json((double)took->runs_ns / 1e6),
			 "before_ms", ms_json((double)took->before_ns / 1e6));
}

static const char intervals[] =
	"95 %, between order statistics by the binomial distribution";

static json_t *plan_json(const struct bench_plan *plan)
{
	return json_pack("{s:s, s:i, s:i, s:I, s:i, s:b, s:s}", "mode",
			 plan->group == 1         ? "sequential"
			 : plan->interval_ms == 0 ? "burst"
						  : "staggered",
			 "runs", (int)plan->runs, "group", (int)plan->group,
			 "interval_ms", (json_int_t)plan->interval_ms,
			 "first_runs_not_counted", 1, "interleaved", 1,
			 "intervals", intervals);
}

static json_t *date_json(void)
{
	const time_t now = time(NULL);
	struct tm tm;
	char text[40] = "";

	if (gmtime_r(&now, &tm))
		(void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
	return json_string(text);
}

json_t *bench_document(const struct bench_result *result)
{
	json_t *runtimes = json_array();
	autofree char *root = NULL;

	root = text_printable(result->what->root);
	for (unsigned i = 0; i < result->peers->count; i++)
		json_array_append_new(runtimes,
				      peer_json(&result->peers->item[i]));
	return json_pack(
		"{s:s, s:i, s:s, s:s, s:o, s:s, s:o, s:o, s:o*, s:o, "
		"s:o}",
		"schema", BENCH_SCHEMA, "version", BENCH_VERSION, "benchmark",
		result->benchmark, "bulkhead", BULKHEAD_VERSION, "date",
		date_json(), "root", root ? root : "", "command",
		words_json(result->what->command), "method",
		plan_json(result->plan), "took", took_json(result->took),
		"host", bench_host_json(result), "runtimes", runtimes);
}

json_t *bench_figures_document(const struct bench_result *host,
			       const char *title, char *const *command,
			       const struct bench_figures *figures)
{
	autofree char *safe = text_printable(title);
	json_t *json = json_pack(
		"{s:s, s:i, s:s, s:s, s:s, s:o, s:o, s:{s:s}, s:O, s:o, "
		"s:O}",
		"schema", BENCH_SCHEMA, "version", BENCH_VERSION, "benchmark",
		host->benchmark, "title", safe ? safe : "", "bulkhead",
		BULKHEAD_VERSION, "date", date_json(), "command",
		words_json(command), "method", "intervals", intervals, "notes",
		figures->notes, "host", bench_host_json(host), "runtimes",
		figures->runtimes);

	if (!json)
		log_error("out of memory");
	return json;
}

/* They are printed as they are, and are the first column of a CSV. */
static bool has_names(const json_t *runtimes)
{
	size_t i;
	json_t *runtime;

	json_array_foreach(runtimes, i, runtime) {
		const char *name =
			json_string_value(json_object_get(runtime, "runtime"));

		if (!name || !bench_driver_is_name(name))
			return false;
	}
	return true;
}

/* False, logged. */
static bool is_document(const json_t *json, const char *file)
{
	const char *schema = json_string_value(json_object_get(json, "schema"));
	const json_int_t version =
		json_integer_value(json_object_get(json, "version"));
	const json_t *runtimes = json_object_get(json, "runtimes");

	if (!schema || strcmp(schema, BENCH_SCHEMA) != 0 || version < 1)
		log_error("'%s' is no result of 'bulkhead bench': give a file "
			  "that --json has written",
			  file);
	else if (version != BENCH_VERSION)
		log_error("'%s' is a result of version %lld, and this bulkhead "
			  "reads version %d: take the bulkhead that wrote it, "
			  "or measure again",
			  file, version, BENCH_VERSION);
	else if (!json_is_array(runtimes))
		log_error("'%s' has no list of runtimes: it is damaged", file);
	else if (!has_names(runtimes))
		log_error("'%s': the name of a runtime has more than letters, "
			  "digits and +-_.",
			  file);
	else
		return true;
	return false;
}

json_t *bench_document_read(const char *file)
{
	json_error_t error;
	json_t *json = json_load_file(file, 0, &error);

	/* It has no line where the file was not read at all. */
	if (!json && error.line < 0) {
		log_error("'%s': %s: give a file that --json has written", file,
			  strerror(errno));
		return NULL;
	}
	if (!json) {
		log_error("'%s' is no JSON (line %d: %s): give a file that "
			  "--json has written",
			  file, error.line, error.text);
		return NULL;
	}
	if (is_document(json, file))
		return json;
	json_decref(json);
	return NULL;
}
