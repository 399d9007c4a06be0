/* SPDX-License-Identifier: Apache-2.0 */
/* `bulkhead bench`: its commands. */
#include "tools/cmd/cmd.h"

#include "tools/cli/usage.h"
#include "tools/cmd/bench-parts.h"
#include "vmm/base/suggest.h"
#include "vmm/base/util.h"
#include "vmm/vm.h"

#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	int (*run)(int, char **);
	const char *help;
} parts[] = {
	{"startup", bench_startup, "measure starts, beside other runtimes"},
	{"list", bench_list, "list the runtimes that can be measured here"},
	{"show", bench_show, "print a result that was kept"},
	{"compare", bench_compare_command, "say what changed between two"},
	{"density", bench_density_command, "measure the memory of many"},
	{"figures", bench_figures_command, "show what others measured"},
	{"overhead", bench_overhead_command, "say what the bench itself adds"},
};

static int help(void)
{
	puts("usage: bulkhead bench COMMAND [ARGUMENT]...\n"
	     "\n"
	     "Measures how long the start of a command takes. Each has "
	     "--help:\n");
	for (unsigned i = 0; i < ARRAY_LEN(parts); i++)
		printf("  %-10s %s\n", parts[i].name, parts[i].help);
	return VM_EXIT_OK;
}

static int unknown(const char *name)
{
	const char *names[ARRAY_LEN(parts) + 1] = {NULL};
	const char *near;

	for (unsigned i = 0; i < ARRAY_LEN(parts); i++)
		names[i] = parts[i].name;
	near = suggest(name, names);
	if (near)
		return usage_error("bench",
				   "'%s': no such command; did you mean '%s'?",
				   name, near);
	return usage_error("bench", "'%s': no such command", name);
}

int cmd_bench(int argc, char **argv)
{
	if (argc > 1 &&
	    (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0))
		return help();
	for (unsigned i = 0; argc > 1 && i < ARRAY_LEN(parts); i++)
		if (strcmp(argv[1], parts[i].name) == 0)
			return parts[i].run(argc - 1, argv + 1);
	if (argc > 1)
		return unknown(argv[1]);
	return usage_error("bench", "say what: bulkhead bench startup (--help "
				    "lists all)");
}
