/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead bench startup`: how long a command takes from its start to its
 * marks and its end, by each runtime that is there, with the same root.
 */
#include "tools/cmd/bench-parts.h"

#include "tools/cli/usage.h"
#include "vmm/base/log.h"
#include "vmm/base/text.h"
#include "vmm/base/util.h"
#include "vmm/vm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define RUNS_DEFAULT    100
#define GROUP_STAGGERED 10
#define LIMIT_DEFAULT_S 120
/* The first instance is watched for so long. */
#define IDLE_S 10

struct request {
	struct bench_options shared; /* the first one */
	const char *runs, *burst, *staggered, *limit, *memory;
	uint64_t instances; /* whose memory is measured; 0: none's */
	struct bench_plan plan;
	const char *root;
	char *const *command;
};

_Static_assert(offsetof(struct request, shared) == 0,
	       "the shared options' offsets are those of the struct itself");

static const struct option_entry entries[] = {
	{"runs", 'n', "N", OPTION_TEXT, offsetof(struct request, runs), NULL,
	 "measure each N times [100], after one run not counted"},
	BENCH_OPTION_ONLY,
	BENCH_OPTION_DRIVER,
	{"burst", 0, "N", OPTION_TEXT, offsetof(struct request, burst), NULL,
	 "start N at once"},
	{"staggered", 0, "MS", OPTION_TEXT, offsetof(struct request, staggered),
	 NULL, "start one each MS milliseconds, ten (or --burst) in a row"},
	{"limit", 0, "SECS", OPTION_TEXT, offsetof(struct request, limit), NULL,
	 "end a run that takes longer; it has failed [120]"},
	{"memory", 0, "N", OPTION_TEXT, offsetof(struct request, memory), NULL,
	 "also measure the memory of N shells of the root that sleep"},
	BENCH_OPTION_JSON,
	BENCH_OPTION_CSV,
	BENCH_OPTION_HTML,
	{0},
};

static const struct option_table table = {
	.command = "bench",
	.synopsis =
		"usage: bulkhead bench startup [OPTION]... ROOT [--] COMMAND "
		"[ARGUMENT]...\n"
		"\n"
		"Measures runs of a command in the same root, without a "
		"network, by bulkhead and\n"
		"by other runtimes that are there: from exec to the first byte "
		"of its output and\n"
		"to its exit. They take turns.\n",
	.entries = entries,
	.notes = "\nExample:\n"
		 "  bulkhead bench startup debian/ /bin/echo hi\n",
};

/* ---- the command line */

static bool parse_plan(struct request *req)
{
	uint64_t runs = RUNS_DEFAULT, limit = LIMIT_DEFAULT_S, interval = 0;
	uint64_t group = req->staggered ? GROUP_STAGGERED : 1;

	if (!bench_number("runs", req->runs, 1, BENCH_RUNS_MAX, &runs) ||
	    !bench_number("burst", req->burst, 1, BENCH_GROUP_MAX, &group) ||
	    !bench_number("staggered", req->staggered, 1, 60000, &interval) ||
	    !bench_number("limit", req->limit, 1, 86400, &limit) ||
	    !bench_number("memory", req->memory, 1, BENCH_GROUP_MAX,
			  &req->instances))
		return false;
	req->plan = (struct bench_plan){
		.runs = (unsigned)runs,
		.group = (unsigned)(group < runs ? group : runs),
		.interval_ms = interval,
		.limit_s = (unsigned)limit,
		.is_default = !req->runs,
	};
	return true;
}

static int parse(struct request *req, int argc, char **argv)
{
	int n = options_parse(&table, req, argc, argv);

	if (n < 0)
		return n;
	if (!parse_plan(req))
		return OPTIONS_ERROR;
	if (n < argc)
		req->root = argv[n++];
	if (n < argc && strcmp(argv[n], "--") == 0)
		n++;
	if (n >= argc) {
		(void)usage_error("bench", "give a root and a command");
		return OPTIONS_ERROR;
	}
	req->command = &argv[n];
	return 0;
}

/* ---- measuring */

static int measure_peers(const struct request *req, struct bench_setup *setup,
			 struct bench_took *took)
{
	struct bench_peers *peers = &setup->peers;
	int r = bench_peers_make(peers, &setup->drivers, &setup->what);

	if (r == 0)
		r = bench_rounds(peers, &setup->what, &req->plan, took);
	for (unsigned i = 0; r == 0 && i < peers->count; i++)
		if (!peers->item[i].why_not && peers->item[i].driver->trace)
			r = bench_phases(&peers->item[i], &setup->what,
					 &req->plan);
	return r;
}

/* By a setup of its own, as the command is another one. */
static int measure_memory(const struct request *req, struct bench_setup *setup)
{
	struct bench_peers *peers = &setup->peers;
	/* Taken again, the signals would stay blocked in what it starts. */
	struct bench_setup idle = {.what = {.signals = &setup->signals}};
	int r = -EINVAL;

	if (bench_setup_find(&idle, &req->shared.drivers, req->shared.only) ==
		    VM_EXIT_OK &&
	    bench_setup_open(&idle, req->root, bench_idle_command) ==
		    VM_EXIT_OK) {
		/* The other one's things of that name are there still.
		 */
		strcat(idle.tag, "-idle");
		r = bench_measure_density(&idle, (unsigned)req->instances,
					  IDLE_S);
	}
	if (r == 0 && setup->signals.came)
		r = -EINTR;
	for (unsigned i = 0; r == 0 && i < peers->count; i++) {
		const struct bench_peer *peer = &idle.peers.item[i];
		const char *why = peer->why_not ? peer->why_not : peer->failure;

		if (why && !peers->item[i].why_not)
			log_warn("%s: --memory %llu: %s", peer->driver->name,
				 (unsigned long long)req->instances, why);
		peers->item[i].density = idle.peers.item[i].density;
		idle.peers.item[i].density = (struct bench_density){0};
	}
	bench_setup_done(&idle);
	return r;
}

static int measure(const struct request *req, struct bench_setup *setup)
{
	struct bench_host idle_from, idle_to, end;
	struct bench_took took = {0};
	const struct bench_result result = {
		"startup",  &setup->what, &req->plan, &setup->peers,
		&idle_from, &idle_to,     &end,       &took,
	};
	int r;

	bench_watch_host(&idle_from, &idle_to);
	r = measure_peers(req, setup, &took);
	if (r == 0 && req->instances > 0)
		r = measure_memory(req, setup);
	bench_host_look(&end);
	return bench_show_result(&req->shared, setup, &result, r);
}

static int run(const struct request *req, struct bench_setup *setup)
{
	int status =
		bench_setup_find(setup, &req->shared.drivers, req->shared.only);

	if (status == VM_EXIT_OK)
		status = bench_setup_open(setup, req->root, req->command);
	if (status == VM_EXIT_OK)
		status = bench_check_files(&req->shared);
	return status == VM_EXIT_OK ? measure(req, setup) : status;
}

int bench_startup(int argc, char **argv)
{
	struct request req = {0};
	struct bench_setup setup = {0};
	const int n = parse(&req, argc, argv);
	const int status = n == 0              ? run(&req, &setup)
			   : n == OPTIONS_HELP ? VM_EXIT_OK
					       : VM_EXIT_USAGE;

	bench_setup_done(&setup);
	option_list_done(&req.shared.drivers);
	return status;
}
