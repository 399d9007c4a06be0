/* SPDX-License-Identifier: Apache-2.0 */
/* Prints the measurements as a table and as JSON. */
#include "tools/bench/bench.h"

#include "tools/cli/print.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <sys/utsname.h>

static const char measured[] =
	"wall-clock time of a cold run, from exec to exit";

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

void bench_sort(double *values, unsigned count)
{
	qsort(values, count, sizeof(*values), compare);
}

double bench_median(const double *values, unsigned count)
{
	if (count == 0)
		return 0;
	return count % 2 ? values[count / 2]
			 : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* The nearest rank. */
static double percentile(const struct bench_peer *peer, unsigned percent)
{
	size_t rank = ((size_t)peer->count * percent + 99) / 100;

	return peer->ms[rank > 0 ? rank - 1 : 0];
}

/* ---- the table */

static void print_peer(const struct bench_peer *peer,
		       const struct bench_peer *first)
{
	const double median = bench_median(peer->ms, peer->count);

	if (peer->why_not) {
		printf("%-16s %s\n", peer->name, peer->why_not);
		return;
	}
	printf("%-16s %5u %9.1f %10.1f %9.1f %9.1f %9.1f", peer->name,
	       peer->count, peer->ms[0], median, percentile(peer, 90),
	       peer->ms[peer->count - 1],
	       bench_median(peer->cpu_ms, peer->count));
	if (first->why_not)
		putchar('\n');
	else
		printf(" %7.2f\n",
		       median / bench_median(first->ms, first->count));
}

void bench_print(const struct bench_result *result)
{
	const struct bench_peer *peers = result->peers;

	printf("%s:\n\n", measured);
	printf("%-16s %5s %9s %10s %9s %9s %9s %7s\n", "", "runs", "min ms",
	       "median ms", "p90 ms", "max ms", "CPU ms", "ratio");
	for (unsigned i = 0; i < BENCH_PEERS; i++)
		print_peer(&peers[i], &peers[0]);
	for (unsigned i = 0, n = 0; i < BENCH_PEERS; i++)
		if (peers[i].note && !peers[i].why_not)
			printf("%s%s: %s\n", n++ ? "" : "\n", peers[i].name,
			       peers[i].note);
	if (result->nphases > 0)
		printf("\nphases of bulkhead, medians of further runs, ms:\n");
	for (unsigned i = 0; i < result->nphases; i++)
		printf("  %-32s %8.1f\n", result->phases[i].name,
		       result->phases[i].ms);
}

/* ---- JSON */

static json_t *list_json(const double *values, unsigned count)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < count; i++)
		json_array_append_new(list, json_real(values[i]));
	return list;
}

static json_t *peer_json(const struct bench_peer *peer)
{
	if (peer->why_not)
		return json_pack("{s:s, s:s}", "runtime", peer->name, "skipped",
				 peer->why_not);
	return json_pack("{s:s, s:i, s:f, s:f, s:f, s:f, s:f, s:o, s:s*}",
			 "runtime", peer->name, "runs", (int)peer->count,
			 "min_ms", peer->ms[0], "median_ms",
			 bench_median(peer->ms, peer->count), "p90_ms",
			 percentile(peer, 90), "max_ms",
			 peer->ms[peer->count - 1], "cpu_median_ms",
			 bench_median(peer->cpu_ms, peer->count), "sorted_ms",
			 list_json(peer->ms, peer->count), "note", peer->note);
}

static json_t *phases_json(const struct bench_result *result)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < result->nphases; i++)
		json_array_append_new(list, json_pack("{s:s, s:f}", "phase",
						      result->phases[i].name,
						      "median_ms",
						      result->phases[i].ms));
	return list;
}

int bench_print_json(const struct bench_result *result)
{
	json_t *results = json_array(), *command = json_array(), *root;
	struct utsname host = {0};
	int r;

	(void)uname(&host);
	for (char *const *arg = result->what->command; *arg; arg++)
		json_array_append_new(command, json_string(*arg));
	for (unsigned i = 0; i < BENCH_PEERS; i++)
		json_array_append_new(results, peer_json(&result->peers[i]));
	root = json_pack("{s:s, s:s, s:s, s:s, s:i, s:o, s:o, s:o}",
			 "benchmark", "startup", "measured", measured, "root",
			 result->what->root, "kernel", host.release, "cpus",
			 (int)sysconf(_SC_NPROCESSORS_ONLN), "command", command,
			 "results", results, "bulkhead_phases",
			 phases_json(result));
	r = print_json(root, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
	json_decref(root);
	return r < 0 ? -EIO : 0;
}
