/* SPDX-License-Identifier: Apache-2.0 */
/* `bulkhead bench show`: a document that was kept, in another form. */
#include "tools/cmd/bench-parts.h"

#include "tools/cli/usage.h"
#include "vmm/vm.h"

#include <jansson.h>

static const struct option_entry entries[] = {
	BENCH_OPTION_CSV,
	BENCH_OPTION_HTML,
	{0},
};

static const struct option_table table = {
	.command = "bench",
	.synopsis = "usage: bulkhead bench show [OPTION]... FILE.json\n"
		    "\n"
		    "Prints the table of a run of 'bulkhead bench startup "
		    "--json'.\n",
	.entries = entries,
};

int bench_show(int argc, char **argv)
{
	struct bench_options options = {0};
	const int n = options_parse(&table, &options, argc, argv);
	json_t *document;
	int status;

	if (n < 0)
		return n == OPTIONS_HELP ? VM_EXIT_OK : VM_EXIT_USAGE;
	if (n != argc - 1)
		return usage_error("bench", "show takes one file");
	document = bench_document_read(argv[n]);
	if (!document)
		return VM_EXIT_USAGE;
	status = bench_show_document(&options, document);
	json_decref(document);
	return status;
}
