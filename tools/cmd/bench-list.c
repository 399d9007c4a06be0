/* SPDX-License-Identifier: Apache-2.0 */
/* `bulkhead bench list`: the drivers, and which of them can be measured here.
 */
#include "tools/cmd/bench-parts.h"

#include "tools/cli/usage.h"
#include "vmm/base/log.h"
#include "vmm/base/text.h"
#include "vmm/base/util.h"
#include "vmm/vm.h"

#include <stdio.h>

static const struct option_entry entries[] = {
	BENCH_OPTION_DRIVER,
	{0},
};

static const struct option_table table = {
	.command = "bench",
	.synopsis = "usage: bulkhead bench list [OPTION]...\n"
		    "\n"
		    "Lists the runtimes that 'bulkhead bench startup' knows, "
		    "with their versions, or\n"
		    "with the reason why they cannot be measured here.\n",
	.entries = entries,
};

static int list(struct bench_setup *setup)
{
	static char true_program[] = "/bin/true";
	static char *const command[] = {true_program, NULL};
	int status = bench_setup_open(setup, "/", command);

	if (status != VM_EXIT_OK)
		return status;
	setup->what.look_only = true;
	if (bench_peers_make(&setup->peers, &setup->drivers, &setup->what) < 0)
		return setup->signals.came ? 128 + setup->signals.came
					   : VM_EXIT_HOST;
	printf("%-21s  %-9s  %-22s  %s\n", "NAME", "OPERATION", "ISOLATION",
	       "VERSION");
	for (unsigned i = 0; i < setup->peers.count; i++) {
		const struct bench_peer *peer = &setup->peers.item[i];
		const struct bench_driver *driver = peer->driver;
		const char *version = peer->version ? peer->version : "";

		printf("%-21s  %-9s  %-22s  %s%s\n", driver->name,
		       driver->operation ? driver->operation : "",
		       driver->isolation ? driver->isolation : "",
		       peer->why_not ? "- " : "",
		       peer->why_not ? peer->why_not : version);
	}
	return VM_EXIT_OK;
}

int bench_list(int argc, char **argv)
{
	struct bench_options options = {0};
	struct bench_setup setup = {0};
	const int n = options_parse(&table, &options, argc, argv);
	int status = n == OPTIONS_HELP ? VM_EXIT_OK : VM_EXIT_USAGE;

	if (n >= 0 && n < argc)
		status = usage_error("bench", "list takes no operands");
	else if (n >= 0)
		status = bench_setup_find(&setup, &options.drivers, NULL);
	if (n >= 0 && status == VM_EXIT_OK)
		status = list(&setup);
	bench_setup_done(&setup);
	option_list_done(&options.drivers);
	return status;
}
