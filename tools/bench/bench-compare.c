/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Says what changed between two documents, and whether the runs show it: the
 * difference of the medians with a bootstrap interval (2,000 resamples, by
 * generators that always begin alike), and the Mann-Whitney test, which assumes
 * nothing of how the times are distributed.
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

#define RESAMPLES 2000
#define SEED      UINT64_C(0x9e3779b97f4a7c15)

/* xorshift64*: enough to choose samples. */
static uint64_t next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717);
}

static double resample(const double *values, unsigned count, double *room,
		       uint64_t *state)
{
	for (unsigned i = 0; i < count; i++)
		room[i] = values[next_random(state) % count];
	bench_sort(room, count);
	return bench_quantile(room, count, 0.5);
}

static int bootstrap(const struct bench_samples *a,
		     const struct bench_samples *b,
		     struct bench_difference *ret)
{
	const unsigned most = a->count > b->count ? a->count : b->count;
	autofree double *room = calloc(most, sizeof(*room));
	autofree double *difference = calloc(RESAMPLES, sizeof(*difference));
	uint64_t state = SEED;

	if (!room || !difference)
		return log_ret(-ENOMEM, "out of memory");
	for (unsigned i = 0; i < RESAMPLES; i++) {
		const double from = resample(a->value, a->count, room, &state);

		difference[i] =
			resample(b->value, b->count, room, &state) - from;
	}
	bench_sort(difference, RESAMPLES);
	ret->low = bench_quantile(difference, RESAMPLES, 0.025);
	ret->high = bench_quantile(difference, RESAMPLES, 0.975);
	return 0;
}

/*
 * The probability of so different ranks if both came from one distribution: the
 * normal approximation, corrected for ties. Both are sorted.
 */
static double mann_whitney(const struct bench_samples *a,
			   const struct bench_samples *b)
{
	const double n = a->count, m = b->count;
	unsigned i = 0, k = 0;
	double rank = 1, sum = 0, ties = 0, mean, variance;

	/* Each turn takes all values that are equal, and gives them one rank.
	 */
	while (i < a->count || k < b->count) {
		const double value =
			k == b->count || (i < a->count &&
					  a->value[i] <= b->value[k])
				? a->value[i]
				: b->value[k];
		double in_a = 0, in_b = 0, all;

		for (; i < a->count && a->value[i] <= value; i++)
			in_a++;
		for (; k < b->count && b->value[k] <= value; k++)
			in_b++;
		all = in_a + in_b;
		sum += in_a * (rank + (all - 1) / 2);
		ties += all * all * all - all;
		rank += all;
	}
	mean = n * m / 2;
	variance = n * m / 12 * (n + m + 1 - ties / ((n + m) * (n + m - 1)));
	if (variance <= 0)
		return 1;
	return erfc(fabs(sum - n * (n + 1) / 2 - mean) / sqrt(2 * variance));
}

int bench_difference(struct bench_samples *a, struct bench_samples *b,
		     struct bench_difference *ret)
{
	int r;

	*ret = (struct bench_difference){.p = 1};
	bench_sort(a->value, a->count);
	bench_sort(b->value, b->count);
	ret->from = bench_quantile(a->value, a->count, 0.5);
	ret->to = bench_quantile(b->value, b->count, 0.5);
	if (a->count < BENCH_COMPARE_LEAST || b->count < BENCH_COMPARE_LEAST) {
		ret->verdict = BENCH_TOO_FEW;
		return 0;
	}
	r = bootstrap(a, b, ret);
	ret->p = mann_whitney(a, b);
	ret->verdict = ret->p >= BENCH_COMPARE_P ? BENCH_SAME
		       : ret->low > 0            ? BENCH_SLOWER
		       : ret->high < 0           ? BENCH_FASTER
						 : BENCH_SAME;
	return r;
}

/* ---- two documents */

static const char *text_of(const json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text ? text : "";
}

static double number_of(const json_t *json, const char *key)
{
	return json_number_value(json_object_get(json, key));
}

/* The runs of MARK of PART that succeeded. 0 or -ENOMEM, logged. */
static int take_samples(const json_t *runtime, const char *part,
			const char *mark, struct bench_samples *ret)
{
	const json_t *samples = json_object_get(runtime, part);
	const json_t *list = json_object_get(samples, mark);
	const json_t *ok = json_object_get(samples, "ok");
	size_t i;
	json_t *value;

	*ret = (struct bench_samples){
		.value = calloc(json_array_size(list) + 1, sizeof(double))};
	if (!ret->value)
		return log_ret(-ENOMEM, "out of memory");
	json_array_foreach(list, i, value) {
		if (json_is_number(value) &&
		    !json_is_false(json_array_get(ok, i)))
			ret->value[ret->count++] = json_number_value(value);
	}
	return 0;
}

static void print_difference(const char *name, const char *mark,
			     const struct bench_difference *d)
{
	static const char *const verdicts[] = {
		[BENCH_SAME] = "no difference is shown",
		[BENCH_FASTER] = "faster",
		[BENCH_SLOWER] = "SLOWER",
		[BENCH_TOO_FEW] = "too few runs to say",
	};
	char interval[48] = "-", p[16] = "-";

	if (d->verdict != BENCH_TOO_FEW) {
		snprintf(interval, sizeof(interval), "%+.1f to %+.1f", d->low,
			 d->high);
		snprintf(p, sizeof(p), d->p < 0.0001 ? "<0.0001" : "%.4f",
			 d->p);
	}
	printf("%-21s %-8s %9.1f %9.1f %+7.1f%% %19s %8s  %s\n", name, mark,
	       d->from, d->to,
	       d->from > 0 ? 100 * (d->to - d->from) / d->from : 0, interval, p,
	       verdicts[d->verdict]);
}

typedef void print_fn(const char *name, const char *mark,
		      const struct bench_difference *difference);

/*
 * The runs of MARK of PART, which PRINT shows. 1: more time is taken; 0; or
 * -errno, logged.
 */
static int compare_samples(const json_t *from, const json_t *to,
			   const char *part, const char *mark, print_fn *print)
{
	struct bench_samples a = {0}, b = {0};
	struct bench_difference difference;
	autofree char *name = text_printable(text_of(from, "runtime"));
	autofree char *safe = text_printable(mark);
	int r = take_samples(from, part, mark, &a);

	if (r == 0)
		r = take_samples(to, part, mark, &b);
	if (r == 0 && a.count > 0 && b.count > 0) {
		r = bench_difference(&a, &b, &difference);
		if (r == 0) {
			print(name ? name : "", safe ? safe : "", &difference);
			r = difference.verdict == BENCH_SLOWER;
		}
	}
	free(a.value);
	free(b.value);
	return r;
}

static const json_t *find_runtime(const json_t *document, const char *name)
{
	size_t i;
	json_t *runtime;

	json_array_foreach(json_object_get(document, "runtimes"), i, runtime) {
		if (strcmp(text_of(runtime, "runtime"), name) == 0)
			return runtime;
	}
	return NULL;
}

/* Whether there is a figure of it. */
static bool is_measured(const json_t *runtime)
{
	return runtime && !json_object_get(runtime, "skipped") &&
	       (number_of(runtime, "failed") < number_of(runtime, "runs") ||
		json_object_get(runtime, "memory"));
}

/* Says what became of one that was measured: 1: it is worse; 0. */
static int compare_failures(const json_t *from, const json_t *to)
{
	const double failed_from = number_of(from, "failed"),
		     failed_to = number_of(to, "failed");
	const double runs_from = number_of(from, "runs"),
		     runs_to = number_of(to, "runs");
	autofree char *name = text_printable(text_of(from, "runtime"));
	autofree char *why = NULL;

	if (!is_measured(from))
		return 0;
	why = text_printable(*text_of(to, "skipped") ? text_of(to, "skipped")
						     : text_of(to, "failure"));
	if (!is_measured(to)) {
		printf("%-21s NOT MEASURED AFTER: %s\n", name ? name : "",
		       !to           ? "it is not there"
		       : why && *why ? why
				     : "no run succeeded");
		return 1;
	}
	/* Density has no runs, but instances that may fail. */
	if (failed_to * (runs_from > 0 ? runs_from : 1) <=
	    failed_from * (runs_to > 0 ? runs_to : 1))
		return 0;
	printf("%-21s MORE FAILURES: %.0f of %.0f before, %.0f of %.0f "
	       "after%s%s\n",
	       name ? name : "", failed_from, runs_from, failed_to, runs_to,
	       why && *why ? ": " : "", why ? why : "");
	return 1;
}

static void print_value(const json_t *value)
{
	char *json = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT)
			   : NULL;
	autofree char *safe = text_json(json);

	fputs(safe ? safe : "nothing", stdout);
	free(json);
}

/* Where the two were not measured alike, the difference may be that. */
static void print_circumstances(const json_t *from, const json_t *to)
{
	static const char *const parts[][2] = {
		{NULL, "command"},  {"method", "mode"}, {"method", "group"},
		{"host", "kernel"}, {"host", "cpu"},    {"host", "cpus"},
		{"host", "kvm"},    {"host", "busy"},
	};

	for (unsigned i = 0; i < ARRAY_LEN(parts); i++) {
		const json_t *a = from, *b = to;

		if (parts[i][0]) {
			a = json_object_get(a, parts[i][0]);
			b = json_object_get(b, parts[i][0]);
		}
		a = json_object_get(a, parts[i][1]);
		b = json_object_get(b, parts[i][1]);
		if (strcmp(parts[i][1], "busy") == 0
			    ? !json_is_string(a) && !json_is_string(b)
			    : (!a && !b) || json_equal(a, b))
			continue;
		printf("mind: %s: ", parts[i][1]);
		print_value(a);
		fputs(" before, ", stdout);
		print_value(b);
		puts(" after");
	}
}

/* Whether more of a figure is better, nobody has said. */
static void print_figure(const char *name, const char *figure,
			 const struct bench_difference *d)
{
	static const char *const verdicts[] = {
		[BENCH_SAME] = "no difference is shown",
		[BENCH_FASTER] = "LESS",
		[BENCH_SLOWER] = "MORE",
		[BENCH_TOO_FEW] = "too few to say",
	};

	printf("%-21s %-36s %9.5g %9.5g %+7.1f%%  %s\n", name, figure, d->from,
	       d->to, d->from != 0 ? 100 * (d->to - d->from) / d->from : 0,
	       verdicts[d->verdict]);
}

static int compare_figures(const json_t *from, const json_t *to)
{
	json_t *runtime, *list;
	const char *key;
	bool worse = false;
	size_t i;
	int r = 0;

	printf("medians; whether a change is chance, Mann-Whitney's test "
	       "says:\n\n%-58s %9s %9s %8s\n",
	       "", "before", "after", "change");
	json_array_foreach(json_object_get(from, "runtimes"), i, runtime) {
		const json_t *other =
			find_runtime(to, text_of(runtime, "runtime"));
		const json_t *samples = json_object_get(other, "samples");

		if (compare_failures(runtime, other))
			worse = true;
		json_object_foreach(json_object_get(runtime, "samples"), key,
				    list) {
			autofree char *safe = text_printable(key);

			if (r >= 0)
				r = compare_samples(runtime, other, "samples",
						    key, print_figure);
			if (!other || json_object_get(samples, key))
				continue;
			printf("%-21s %-36s NOT MEASURED AFTER\n",
			       text_of(runtime, "runtime"), safe ? safe : "");
			worse = true;
		}
	}
	puts("");
	print_circumstances(from, to);
	return r < 0 ? r : worse;
}

int bench_compare(const json_t *from, const json_t *to)
{
	static const char *const marks[] = {"guest",    "pid1", "output",
					    "resident", "exit", "cpu"};
	bool slower = false;
	size_t i;
	json_t *runtime;
	int r = 0;

	if (bench_has_figures(from) != bench_has_figures(to))
		return log_ret(-EINVAL, "one of the two has figures that "
					"another program took, the other one "
					"has starts");
	if (bench_has_figures(from))
		return compare_figures(from, to);
	puts("medians in ms; the change's interval, 95 %, is a bootstrap's; p "
	     "is Mann-Whitney's:\n");
	printf("%-21s %-8s %9s %9s %8s %19s %8s\n", "", "", "before", "after",
	       "change", "interval, ms", "p");
	json_array_foreach(json_object_get(from, "runtimes"), i, runtime) {
		const json_t *other =
			find_runtime(to, text_of(runtime, "runtime"));

		for (unsigned k = 0; r >= 0 && k < ARRAY_LEN(marks); k++) {
			r = compare_samples(runtime, other, "samples_ms",
					    marks[k], print_difference);
			slower = slower || r == 1;
		}
		if (compare_failures(runtime, other))
			slower = true;
	}
	puts("");
	print_circumstances(from, to);
	return r < 0 ? r : slower;
}
