/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A document as a page that needs nothing else: page.html, put into this
 * program by the assembler, with the document in the place of its mark.
 */
#include "tools/bench/bench.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* With so many runs each, the page is well below 300 KiB. */
#define PAGE_SAMPLES 200

__asm__(".pushsection .rodata\n"
	".hidden bench_page_file\n"
	".global bench_page_file\n"
	"bench_page_file:\n"
	".incbin \"tools/bench/page.html\"\n"
	".byte 0\n"
	".popsection\n");

extern const char bench_page_file[] __attribute__((visibility("hidden")));

static const char mark[] = "@DOCUMENT@";

/* ---- fewer samples */

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The quantiles of LIST, sorted; those that are no numbers are left out. */
static json_t *thin(const json_t *list, const json_t *ok)
{
	const size_t n = json_array_size(list);
	autofree double *values = calloc(n + 1, sizeof(*values));
	json_t *few = json_array();
	unsigned count = 0;

	for (size_t i = 0; values && i < n; i++)
		if (json_is_number(json_array_get(list, i)) &&
		    !json_is_false(json_array_get(ok, i)))
			values[count++] =
				json_number_value(json_array_get(list, i));
	if (count > 0)
		qsort(values, count, sizeof(*values), compare);
	for (unsigned i = 0; i < PAGE_SAMPLES && count > 0; i++)
		json_array_append_new(few,
				      json_real(values[(size_t)i * (count - 1) /
						       (PAGE_SAMPLES - 1)]));
	return few;
}

static void thin_samples(json_t *samples)
{
	static const char *const drawn[] = {"guest", "pid1", "output",
					    "resident", "exit"};
	const json_t *ok = json_object_get(samples, "ok");

	if (json_array_size(ok) > PAGE_SAMPLES) {
		for (unsigned i = 0; i < ARRAY_LEN(drawn); i++)
			json_object_set_new(
				samples, drawn[i],
				thin(json_object_get(samples, drawn[i]), ok));
		json_object_del(samples, "ok");
	}
	/* The page does not show these. */
	json_object_del(samples, "round");
	json_object_del(samples, "status");
	json_object_del(samples, "cpu");
	json_object_del(samples, "faults");
}

static void thin_figures(json_t *samples)
{
	const char *key;
	json_t *list;

	json_object_foreach(samples, key, list) {
		if (json_array_size(list) > PAGE_SAMPLES)
			json_object_set_new(samples, key, thin(list, NULL));
	}
}

/* ---- the page */

/* No text of the document's ends the element that it is in. */
static int write_json(FILE *out, const char *json)
{
	for (; *json; json++)
		if (*json == '<' ? fputs("\\u003c", out) < 0
				 : fputc(*json, out) == EOF)
			return -1;
	return 0;
}

int bench_write_html(const json_t *document, const char *file)
{
	const char *at = strstr(bench_page_file, mark);
	json_t *copy = json_deep_copy(document);
	autofree char *json = NULL;
	size_t i;
	json_t *runtime;
	FILE *out;

	json_array_foreach(json_object_get(copy, "runtimes"), i, runtime) {
		thin_samples(json_object_get(runtime, "samples_ms"));
		thin_figures(json_object_get(runtime, "samples"));
	}
	json = copy ? json_dumps(copy, JSON_COMPACT | JSON_REAL_PRECISION(7))
		    : NULL;
	json_decref(copy);
	if (!at || !json)
		return log_ret(-ENOMEM, "out of memory");
	out = fopen(file, "we");
	if (!out)
		return log_ret(-errno, "'%s': %s", file, strerror(errno));
	fwrite(bench_page_file, 1, (size_t)(at - bench_page_file), out);
	(void)write_json(out, json);
	fputs(at + strlen(mark), out);
	if (fflush(out) != 0 || ferror(out)) {
		fclose(out);
		return log_ret(-EIO, "'%s' cannot be written", file);
	}
	return fclose(out) == 0
		       ? 0
		       : log_ret(-errno, "'%s': %s", file, strerror(errno));
}
