/* SPDX-License-Identifier: Apache-2.0 */
/* `bulkhead bench density`: instances that stay, and the memory that they take.
 */
#include "tools/cmd/bench-parts.h"

#include "tools/cli/usage.h"
#include "vmm/base/util.h"
#include "vmm/vm.h"

#include <string.h>

#define INSTANCES_DEFAULT 8
#define IDLE_DEFAULT_S    10
#define LIMIT_S           120

struct request {
	struct bench_options shared; /* the first one */
	const char *instances, *idle;
	uint64_t count, idle_s;
	const char *root;
	char *const *command;
};

_Static_assert(offsetof(struct request, shared) == 0,
	       "the shared options' offsets are those of the struct itself");

static const struct option_entry entries[] = {
	{"instances", 0, "N", OPTION_TEXT, offsetof(struct request, instances),
	 NULL, "start as many of each runtime [8]"},
	{"idle", 0, "SECS", OPTION_TEXT, offsetof(struct request, idle), NULL,
	 "watch the first one's memory for so long [10]"},
	BENCH_OPTION_ONLY,
	BENCH_OPTION_DRIVER,
	BENCH_OPTION_JSON,
	BENCH_OPTION_HTML,
	{0},
};

static const struct option_table table = {
	.command = "bench",
	.synopsis =
		"usage: bulkhead bench density [OPTION]... ROOT [[--] COMMAND "
		"[ARGUMENT]...]\n"
		"\n"
		"Starts instances of a command that says something and stays, "
		"without a network,\n"
		"one after the other, by each runtime in turn, and says what "
		"memory they take: what\n"
		"they share once, and what each has of its own. Without a "
		"command they are shells\n"
		"of the root that sleep.\n",
	.entries = entries,
};

static char shell[] = "/bin/sh", option[] = "-c",
	    script[] = "echo up; exec sleep 100000";
char *const bench_idle_command[] = {shell, option, script, NULL};

static int parse(struct request *req, int argc, char **argv)
{
	int n = options_parse(&table, req, argc, argv);

	if (n < 0)
		return n;
	req->count = INSTANCES_DEFAULT;
	req->idle_s = IDLE_DEFAULT_S;
	if (!bench_number("instances", req->instances, 1, BENCH_GROUP_MAX,
			  &req->count) ||
	    !bench_number("idle", req->idle, 0, BENCH_IDLE_MAX - 1,
			  &req->idle_s))
		return OPTIONS_ERROR;
	if (n == argc) {
		(void)usage_error("bench", "give a root");
		return OPTIONS_ERROR;
	}
	req->root = argv[n++];
	if (n < argc && strcmp(argv[n], "--") == 0)
		n++;
	req->command = n < argc ? &argv[n] : bench_idle_command;
	return 0;
}

int bench_measure_density(struct bench_setup *setup, unsigned count,
			  unsigned idle_s)
{
	struct bench_peers *peers = &setup->peers;
	int r = bench_peers_make(peers, &setup->drivers, &setup->what);

	for (unsigned i = 0; r == 0 && i < peers->count; i++)
		if (!peers->item[i].why_not)
			r = bench_density(&peers->item[i], &setup->what, count,
					  idle_s, LIMIT_S);
	return r;
}

static int measure(const struct request *req, struct bench_setup *setup)
{
	struct bench_host idle_from, idle_to, end;
	const struct bench_plan plan = {.runs = (unsigned)req->count,
					.group = 1};
	const struct bench_result result = {
		"density",  &setup->what, &plan, &setup->peers,
		&idle_from, &idle_to,     &end,  NULL,
	};
	int r;

	bench_watch_host(&idle_from, &idle_to);
	r = bench_measure_density(setup, (unsigned)req->count,
				  (unsigned)req->idle_s);
	bench_host_look(&end);
	return bench_show_result(&req->shared, setup, &result, r);
}

int bench_density_command(int argc, char **argv)
{
	struct request req = {0};
	struct bench_setup setup = {0};
	const int n = parse(&req, argc, argv);
	int status = n == OPTIONS_HELP ? VM_EXIT_OK : VM_EXIT_USAGE;

	if (n == 0)
		status = bench_setup_find(&setup, &req.shared.drivers,
					  req.shared.only);
	if (n == 0 && status == VM_EXIT_OK)
		status = bench_setup_open(&setup, req.root, req.command);
	if (n == 0 && status == VM_EXIT_OK)
		status = bench_check_files(&req.shared);
	if (n == 0 && status == VM_EXIT_OK)
		status = measure(&req, &setup);
	bench_setup_done(&setup);
	option_list_done(&req.shared.drivers);
	return status;
}
