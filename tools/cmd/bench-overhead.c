/* SPDX-License-Identifier: Apache-2.0 */
/* `bulkhead bench overhead`: what the bench adds to what it measures. */
#include "tools/cmd/bench-parts.h"

#include "tools/cli/usage.h"
#include "vmm/base/log.h"
#include "vmm/base/text.h"
#include "vmm/base/util.h"
#include "vmm/vm.h"

#include <stdio.h>
#include <string.h>

#define RUNS_DEFAULT 200
/* More is not what a figure of milliseconds can bear. */
#define LIMIT_MS 1.0

struct request {
	const char *runs;
};

static const struct option_entry entries[] = {
	{"runs", 'n', "N", OPTION_TEXT, offsetof(struct request, runs), NULL,
	 "run the program N times in each way [200]"},
	{0},
};

static const struct option_table table = {
	.command = "bench",
	.synopsis =
		"usage: bulkhead bench overhead [OPTION]... [[--] COMMAND "
		"[ARGUMENT]...]\n"
		"\n"
		"Says what 'bulkhead bench' adds to its figures: runs a "
		"command (/bin/true) as it\n"
		"measures runs, and by vfork, exec and wait alone, in turns. "
		"Ends with status 1 if\n"
		"it is 1 ms or more.\n",
	.entries = entries,
};

static int measure(char *const *argv, unsigned runs)
{
	autofree char *name = text_printable(argv[0]);
	struct bench_difference d;
	struct bench_signals signals;
	int r;

	bench_signals_take(&signals);
	r = bench_overhead(argv, runs, &signals, &d);
	if (signals.came)
		return 128 + signals.came;
	if (r < 0)
		return VM_EXIT_HOST;
	printf("%s, exec to exit, median of %u runs each, in turns:\n",
	       name ? name : "", runs);
	printf("  vfork, exec and wait alone   %8.3f ms\n", d.from);
	printf("  as bulkhead bench has it     %8.3f ms\n", d.to);
	printf("  it adds                      %+8.3f ms", d.to - d.from);
	if (d.verdict != BENCH_TOO_FEW)
		printf("   (95 %%: %+.3f to %+.3f)", d.low, d.high);
	putchar('\n');
	return d.to - d.from < LIMIT_MS ? VM_EXIT_OK : 1;
}

int bench_overhead_command(int argc, char **argv)
{
	struct request req = {0};
	static char program[] = "/bin/true";
	static char *const usual[] = {program, NULL};
	int n = options_parse(&table, &req, argc, argv);
	uint64_t runs = RUNS_DEFAULT;

	if (n < 0)
		return n == OPTIONS_HELP ? VM_EXIT_OK : VM_EXIT_USAGE;
	if (n < argc && strcmp(argv[n], "--") == 0)
		n++;
	if (req.runs &&
	    util_parse_number(req.runs, 1, BENCH_RUNS_MAX, &runs) < 0)
		return usage_error("bench",
				   "--runs '%s': not a number from 1 to %d",
				   req.runs, BENCH_RUNS_MAX);
	return measure(n < argc ? &argv[n] : usual, (unsigned)runs);
}
