/* SPDX-License-Identifier: Apache-2.0 */
/* A document as a table on standard output, and as CSV. */
#include "tools/bench/bench.h"

#include "vmm/base/log.h"
#include "vmm/base/text.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define RUNS_USUAL 100

static const char *text_of(const json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text ? text : "";
}

static const json_t *get(const json_t *json, const char *a, const char *b)
{
	return json_object_get(json_object_get(json, a), b);
}

/* A text of the document's is anybody's: only what a terminal may have. */
static void print_text(const char *before, const char *text, const char *after)
{
	autofree char *safe = text_printable(text);

	printf("%s%s%s", before, safe ? safe : "", after);
}

static void print_number(const json_t *value, int width)
{
	if (json_is_number(value))
		printf(" %*.1f", width, json_number_value(value));
	else
		printf(" %*s", width, "-");
}

/* ---- the table */

static void print_interval(const json_t *mark)
{
	const json_t *pair = json_object_get(mark, "p50_interval");
	char text[40] = "-";

	if (json_array_size(pair) == 2)
		snprintf(text, sizeof(text), "%.1f-%.1f",
			 json_number_value(json_array_get(pair, 0)),
			 json_number_value(json_array_get(pair, 1)));
	printf(" %15s", text);
}

static void print_runtime(const json_t *runtime, double reference)
{
	const json_t *exit = get(runtime, "marks_ms", "exit");
	const double median = json_number_value(json_object_get(exit, "p50"));

	if (json_object_get(runtime, "skipped"))
		return;
	printf("%-21s %5lld %4lld", text_of(runtime, "runtime"),
	       json_integer_value(json_object_get(runtime, "runs")),
	       json_integer_value(json_object_get(runtime, "failed")));
	for (unsigned mark = 0; mark < BENCH_MARKS; mark++)
		print_number(json_object_get(get(runtime, "marks_ms",
						 bench_mark_names[mark]),
					     "p50"),
			     8);
	print_interval(exit);
	print_number(json_object_get(exit, "p90"), 8);
	print_number(json_object_get(exit, "p95"), 8);
	print_number(json_object_get(exit, "p99"), 8);
	print_number(json_object_get(exit, "max"), 8);
	print_number(get(runtime, "cpu_ms", "p50"), 7);
	if (reference > 0 && median > 0)
		printf(" %6.2f\n", median / reference);
	else
		printf(" %6s\n", "-");
}

/* The median that is 1.00: bulkhead's, or that of the first one measured. */
static double find_reference(const json_t *runtimes)
{
	double reference = 0;
	size_t i;
	json_t *runtime;

	json_array_foreach(runtimes, i, runtime) {
		const double median = json_number_value(json_object_get(
			get(runtime, "marks_ms", "exit"), "p50"));

		if (median <= 0)
			continue;
		if (strcmp(text_of(runtime, "runtime"), "bulkhead") == 0)
			return median;
		if (reference <= 0)
			reference = median;
	}
	return reference;
}

static void print_method(const json_t *document)
{
	const json_t *method = json_object_get(document, "method");
	const char *mode = text_of(method, "mode");
	const json_int_t group =
		json_integer_value(json_object_get(method, "group"));
	const json_int_t runs =
		json_integer_value(json_object_get(method, "runs"));

	printf("milliseconds from exec, %lld run%s each, ", runs,
	       runs == 1 ? "" : "s");
	if (strcmp(mode, "burst") == 0)
		printf("%lld at once, ", group);
	else if (strcmp(mode, "staggered") == 0)
		printf("%lld at a time, %lld ms apart, ", group,
		       json_integer_value(
			       json_object_get(method, "interval_ms")));
	puts("in turns; the interval is the median's, 95 %:");
	if (runs < RUNS_USUAL)
		printf("fewer than %d runs: percentiles above the median mean "
		       "little\n",
		       RUNS_USUAL);
	puts("");
}

/* Whether the runs' own times make up the time that all took. */
static void print_took(const json_t *document)
{
	const json_t *took = json_object_get(document, "took");
	const double all = json_number_value(json_object_get(took, "all_ms"));
	const double runs = json_number_value(json_object_get(took, "runs_ms"));
	const double before =
		json_number_value(json_object_get(took, "before_ms"));
	const double rest = all - runs - before;

	if (runs <= 0)
		return;
	printf("\n%lld runs took %.1f s: %.1f s their own, ",
	       json_integer_value(json_object_get(took, "runs")), all / 1e3,
	       runs / 1e3);
	if (before > 0)
		printf("%.1f s what drivers do before, ", before / 1e3);
	printf("%.1f s the bench, %.1f %% more\n", rest / 1e3,
	       100 * rest / runs);
}

static void print_notes(const json_t *runtimes)
{
	size_t i;
	json_t *runtime;

	json_array_foreach(runtimes, i, runtime) {
		if (json_object_get(runtime, "skipped"))
			continue;
		if (*text_of(runtime, "note")) {
			print_text("", text_of(runtime, "runtime"), ": ");
			print_text("", text_of(runtime, "note"), "\n");
		}
		if (*text_of(runtime, "failure")) {
			print_text("", text_of(runtime, "runtime"),
				   ": a run failed: ");
			print_text("", text_of(runtime, "failure"), "\n");
		}
	}
}

/* Whether a runtime before the Ith has no such mark, for the same reason. */
static bool is_said(const json_t *runtimes, size_t i, const char *mark,
		    const char *why)
{
	for (size_t k = 0; k < i; k++)
		if (strcmp(text_of(json_object_get(json_array_get(runtimes, k),
						   "not_taken"),
				   mark),
			   why) == 0)
			return true;
	return false;
}

/* One line for a mark, a reason, and all whom it concerns. */
static void print_not_taken(const json_t *runtimes, const char *mark)
{
	size_t i, k;
	json_t *runtime, *other;

	json_array_foreach(runtimes, i, runtime) {
		const char *why =
			text_of(json_object_get(runtime, "not_taken"), mark);
		const char *comma = " (";

		if (!*why || is_said(runtimes, i, mark, why))
			continue;
		print_text(mark, " is not taken: ", "");
		print_text("", why, "");
		json_array_foreach(runtimes, k, other) {
			if (strcmp(text_of(json_object_get(other, "not_taken"),
					   mark),
				   why) != 0)
				continue;
			print_text(comma, text_of(other, "runtime"), "");
			comma = ", ";
		}
		puts(")");
	}
}

static void print_skipped(const json_t *runtimes)
{
	bool any = false;
	size_t i;
	json_t *runtime;

	json_array_foreach(runtimes, i, runtime) {
		if (!json_object_get(runtime, "skipped"))
			continue;
		if (!any)
			puts("\nnot compared:");
		any = true;
		printf("%-21s ", text_of(runtime, "runtime"));
		print_text("", text_of(runtime, "skipped"), "\n");
	}
}

static void print_phases(const json_t *runtimes)
{
	size_t i, k;
	json_t *runtime, *phase;

	json_array_foreach(runtimes, i, runtime) {
		const json_t *phases = json_object_get(runtime, "phases");

		if (json_array_size(phases) == 0)
			continue;
		print_text("\nphases of ", text_of(runtime, "runtime"),
			   ", medians of further runs, ms:\n");
		json_array_foreach(phases, k, phase) {
			print_text("  ", text_of(phase, "phase"), "");
			printf("%*.1f\n",
			       44 - (int)strlen(text_of(phase, "phase")),
			       json_number_value(
				       json_object_get(phase, "median_ms")));
		}
	}
}

static void print_memory(const json_t *runtimes)
{
	bool any = false;
	size_t i;
	json_t *runtime;

	json_array_foreach(runtimes, i, runtime) {
		const json_t *memory = json_object_get(runtime, "memory");
		const json_t *up = json_object_get(memory, "up_ms");
		const json_t *list = json_object_get(memory, "instances");
		const json_t *last =
			json_array_get(list, json_array_size(list) - 1);

		if (!last)
			continue;
		if (!any)
			printf("\nmemory of instances that idle, KiB:\n"
			       "%-21s %9s %8s %8s %11s %12s %13s\n",
			       "", "instances", "up p50", "up max", "all (PSS)",
			       "shared once", "private each");
		any = true;
		printf("%-21s %9lld", text_of(runtime, "runtime"),
		       json_integer_value(json_object_get(last, "count")));
		print_number(json_object_get(up, "p50"), 8);
		print_number(json_object_get(up, "max"), 8);
		print_number(json_object_get(last, "pss_kib"), 11);
		print_number(json_object_get(last, "shared_kib"), 12);
		print_number(json_object_get(last, "private_each_kib"), 13);
		putchar('\n');
	}
}

static bool any_measured(const json_t *runtimes)
{
	size_t i;
	json_t *runtime;

	json_array_foreach(runtimes, i, runtime) {
		if (!json_object_get(runtime, "skipped"))
			return true;
	}
	return false;
}

static void print_table(const json_t *document, const json_t *runtimes)
{
	const double reference = find_reference(runtimes);
	size_t i;
	json_t *runtime;

	/* Heads of columns with nothing below them say nothing. */
	if (!any_measured(runtimes))
		return;
	print_method(document);
	printf("%-21s %5s %4s %8s %8s %8s %8s %8s %15s %8s %8s %8s %8s %7s "
	       "%6s\n",
	       "", "runs", "bad", "guest", "PID 1", "output", "resident",
	       "exit p50", "interval", "p90", "p95", "p99", "max", "CPU",
	       "ratio");
	json_array_foreach(runtimes, i, runtime) {
		print_runtime(runtime, reference);
	}
	print_took(document);
}

static void print_starts(const json_t *document, const json_t *runtimes)
{
	if (strcmp(text_of(document, "benchmark"), "density") != 0)
		print_table(document, runtimes);
	print_memory(runtimes);
	print_skipped(runtimes);
	puts("");
	print_notes(runtimes);
	for (unsigned mark = 0; mark < BENCH_MARKS; mark++)
		print_not_taken(runtimes, bench_mark_names[mark]);
	print_phases(runtimes);
}

int bench_print(const json_t *document)
{
	const json_t *runtimes = json_object_get(document, "runtimes");
	const char *busy = text_of(json_object_get(document, "host"), "busy");

	if (bench_has_figures(document))
		bench_figures_print(document);
	else
		print_starts(document, runtimes);
	if (*busy && any_measured(runtimes))
		print_text("\nTHIS MACHINE IS BUSY: ", busy,
			   ": compare nothing with these figures\n");
	return 0;
}

/* ---- CSV */

/* As RFC 4180 has it; names of drivers need no quotes. */
static void write_row(FILE *out, const json_t *runtime, size_t i)
{
	static const char *const columns[] = {
		"round",  "status",   "ok",   "guest", "pid1",
		"output", "resident", "exit", "cpu",   "faults"};
	const json_t *samples = json_object_get(runtime, "samples_ms");

	fputs(text_of(runtime, "runtime"), out);
	for (unsigned c = 0; c < ARRAY_LEN(columns); c++) {
		const json_t *value =
			json_array_get(json_object_get(samples, columns[c]), i);

		fputc(',', out);
		if (json_is_integer(value))
			fprintf(out, "%lld", json_integer_value(value));
		else if (json_is_boolean(value))
			fputc(json_is_true(value) ? '1' : '0', out);
		else if (json_is_number(value))
			fprintf(out, "%.3f", json_number_value(value));
	}
	fputs("\r\n", out);
}

static void write_starts(const json_t *document, FILE *out)
{
	const json_t *runtimes = json_object_get(document, "runtimes");
	size_t i;
	json_t *runtime;

	fputs("runtime,round,status,ok,guest_ms,pid1_ms,output_ms,resident_ms,"
	      "exit_ms,cpu_ms,faults\r\n",
	      out);
	json_array_foreach(runtimes, i, runtime) {
		const size_t n =
			json_array_size(get(runtime, "samples_ms", "round"));

		for (size_t k = 0; k < n; k++)
			write_row(out, runtime, k);
	}
}

int bench_write_csv(const json_t *document, const char *file)
{
	FILE *out = fopen(file, "we");

	if (!out)
		return log_ret(-errno, "'%s': %s", file, strerror(errno));
	if (bench_has_figures(document))
		bench_figures_csv(document, out);
	else
		write_starts(document, out);
	if (fflush(out) != 0 || ferror(out)) {
		fclose(out);
		return log_ret(-EIO, "'%s': %s", file, strerror(errno));
	}
	return fclose(out) == 0
		       ? 0
		       : log_ret(-errno, "'%s': %s", file, strerror(errno));
}
