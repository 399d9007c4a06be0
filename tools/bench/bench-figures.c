/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Figures that another program took, as a document like those of starts: the
 * same host, the same statistics, the same page. Contestants are its runtimes.
 */
#include "tools/bench/bench.h"

#include "tools/bench/bench-driver.h"
#include "vmm/base/log.h"
#include "vmm/base/text.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- lines in */

/* The member NAME of OBJECT, made if it is not there. Borrowed; NULL: none. */
static json_t *need(json_t *object, const char *name, json_t *(*make)(void))
{
	json_t *value = json_object_get(object, name);

	if (!value && json_object_set_new(object, name, make()) == 0)
		value = json_object_get(object, name);
	return value;
}

static json_t *find_contestant(json_t *runtimes, const char *name)
{
	size_t i;
	json_t *one;

	json_array_foreach(runtimes, i, one) {
		if (strcmp(json_string_value(json_object_get(one, "runtime")),
			   name) == 0)
			return one;
	}
	one = json_pack("{s:s}", "runtime", name);
	return json_array_append_new(runtimes, one) == 0 ? one : NULL;
}

static int add_sample(json_t *runtimes, const char *name, const char *figure,
		      double value)
{
	autofree char *safe = text_printable(figure);
	json_t *list =
		need(find_contestant(runtimes, name), "samples", json_object);

	list = need(list, safe ? safe : "", json_array);
	return json_array_append_new(list, json_real(value)) == 0 ? 0 : -ENOMEM;
}

static int add_note(json_t *notes, const char *text)
{
	autofree char *safe = text_printable(text + strspn(text, "# "));

	return json_array_append_new(notes, json_string(safe)) == 0 ? 0
								    : -ENOMEM;
}

/* 0, -ENOMEM, or -EINVAL: it is no line of such a text. */
static int take_line(struct bench_figures *figures, char *line)
{
	const char *name, *figure;
	char *end = line;
	double value;

	if (!line[0])
		return 0;
	if (line[0] == '#')
		return add_note(figures->notes, line);
	name = strsep(&line, "\t");
	figure = line ? strsep(&line, "\t") : "";
	value = line ? strtod(line, &end) : NAN;
	if (!line || end == line || *end || !isfinite(value) || !*figure ||
	    !bench_driver_is_name(name))
		return -EINVAL;
	return add_sample(figures->runtimes, name, figure, value);
}

/* Each contestant's statistics, behind the last sample. */
static int summarize(json_t *runtime)
{
	json_t *figures = json_object(), *list;
	const char *key;
	size_t most = 0;

	json_object_foreach(json_object_get(runtime, "samples"), key, list) {
		const size_t n = json_array_size(list);
		autofree double *values = calloc(n, sizeof(*values));

		for (size_t i = 0; values && i < n; i++)
			values[i] = json_number_value(json_array_get(list, i));
		if (!values ||
		    json_object_set_new(figures, key,
					bench_summary(values, (unsigned)n)) < 0)
			return -ENOMEM;
		most = n > most ? n : most;
	}
	(void)json_object_set_new(runtime, "runs",
				  json_integer((json_int_t)most));
	(void)json_object_set_new(runtime, "failed", json_integer(0));
	return json_object_set_new(runtime, "figures", figures);
}

int bench_figures_read(FILE *in, struct bench_figures *ret)
{
	autofree char *line = NULL;
	size_t room = 0, i;
	unsigned number = 0;
	json_t *runtime;
	int r = 0;

	*ret = (struct bench_figures){json_array(), json_array()};
	while (r == 0 && getline(&line, &room, in) >= 0) {
		number++;
		line[strcspn(line, "\n")] = '\0';
		r = take_line(ret, line);
	}
	json_array_foreach(ret->runtimes, i, runtime) {
		if (r == 0 && summarize(runtime) < 0)
			r = -ENOMEM;
	}
	if (r == 0 && ferror(in))
		r = -EIO;
	if (r == 0 && json_array_size(ret->runtimes) == 0)
		return log_ret(-ENODATA,
			       "there is no figure to read: give lines "
			       "of a name, a figure and a number, "
			       "with tabs between");
	if (r == -EINVAL)
		return log_ret(r,
			       "line %u is not a name, a figure and a number, "
			       "with tabs between, nor a note that begins with "
			       "#",
			       number);
	return r < 0 ? log_ret(r, "reading figures: %s", strerror(-r)) : 0;
}

void bench_figures_done(struct bench_figures *figures)
{
	json_decref(figures->runtimes);
	json_decref(figures->notes);
	*figures = (struct bench_figures){NULL, NULL};
}

bool bench_has_figures(const json_t *document)
{
	const char *kind =
		json_string_value(json_object_get(document, "benchmark"));

	return kind && strcmp(kind, "figures") == 0;
}

/* ---- the table */

static void print_cell(const json_t *summary)
{
	const json_t *median = json_object_get(summary, "p50");

	if (json_is_number(median))
		printf(" %17.6g", json_number_value(median));
	else
		printf(" %17s", "-");
}

/* Where there are too few for an interval, the lowest and the highest. */
static void print_spread(const json_t *summary)
{
	const json_t *pair = json_object_get(summary, "p50_interval");
	const json_t *low = json_array_get(pair, 0);
	const json_t *high = json_array_get(pair, 1);
	char text[40] = "";

	if (!low) {
		low = json_object_get(summary, "min");
		high = json_object_get(summary, "max");
	}
	if (json_is_number(low) && json_is_number(high))
		snprintf(text, sizeof(text), "%.4g-%.4g",
			 json_number_value(low), json_number_value(high));
	printf(" %17s", text);
}

static void print_row(const json_t *runtimes, const char *figure,
		      void (*cell)(const json_t *summary))
{
	size_t i;
	json_t *runtime;

	json_array_foreach(runtimes, i, runtime) {
		cell(json_object_get(json_object_get(runtime, "figures"),
				     figure));
	}
	putchar('\n');
}

/* Whether a contestant before the Ith has that figure, too. */
static bool is_printed(const json_t *runtimes, size_t i, const char *figure)
{
	for (size_t k = 0; k < i; k++)
		if (json_object_get(json_object_get(json_array_get(runtimes, k),
						    "figures"),
				    figure))
			return true;
	return false;
}

void bench_figures_print(const json_t *document)
{
	const json_t *runtimes = json_object_get(document, "runtimes");
	const char *key,
		*title = json_string_value(json_object_get(document, "title"));
	autofree char *safe = text_printable(title);
	json_t *runtime, *value;
	size_t i;

	printf("%s; medians, below them 95 %% intervals of the medians, or of "
	       "few runs the lowest and the highest:\n\n%-40s",
	       safe ? safe : "", "");
	json_array_foreach(runtimes, i, runtime) {
		printf(" %17s",
		       json_string_value(json_object_get(runtime, "runtime")));
	}
	putchar('\n');
	json_array_foreach(runtimes, i, runtime) {
		json_object_foreach(json_object_get(runtime, "figures"), key,
				    value) {
			autofree char *name = text_printable(key);

			if (is_printed(runtimes, i, key))
				continue;
			printf("%-40s", name ? name : "");
			print_row(runtimes, key, print_cell);
			printf("%-40s", "");
			print_row(runtimes, key, print_spread);
		}
	}
	json_array_foreach(json_object_get(document, "notes"), i, value) {
		autofree char *note = text_printable(json_string_value(value));

		printf("%s%s\n", i == 0 ? "\n" : "", note ? note : "");
	}
}

/* ---- CSV, as RFC 4180 has it */

static void write_quoted(FILE *out, const char *text)
{
	fputc('"', out);
	for (; *text; text++) {
		if (*text == '"')
			fputc('"', out);
		fputc(*text, out);
	}
	fputc('"', out);
}

void bench_figures_csv(const json_t *document, FILE *out)
{
	json_t *runtime, *list, *value;
	const char *key;
	size_t i, k;

	fputs("runtime,round,figure,value\r\n", out);
	json_array_foreach(json_object_get(document, "runtimes"), i, runtime) {
		json_object_foreach(json_object_get(runtime, "samples"), key,
				    list) {
			json_array_foreach(list, k, value) {
				fprintf(out, "%s,%zu,",
					json_string_value(json_object_get(
						runtime, "runtime")),
					k + 1);
				write_quoted(out, key);
				fprintf(out, ",%.9g\r\n",
					json_number_value(value));
			}
		}
	}
}
