/* SPDX-License-Identifier: Apache-2.0 */
/* `bulkhead bench compare`: what changed between two results. */
#include "tools/cmd/bench-parts.h"

#include "tools/cli/usage.h"
#include "vmm/base/util.h"
#include "vmm/vm.h"

#include <jansson.h>

struct request {
	bool fail;
};

static const struct option_entry entries[] = {
	{"fail-if-slower", 0, NULL, OPTION_FLAG, offsetof(struct request, fail),
	 NULL,
	 "end with status 1 if something is slower, fails more, or is gone"},
	{0},
};

static const struct option_table table = {
	.command = "bench",
	.synopsis = "usage: bulkhead bench compare [OPTION]... A.json B.json\n"
		    "\n"
		    "Compares two results of 'bulkhead bench startup --json', "
		    "runtime by runtime, and\n"
		    "says which differences the runs show and which may be "
		    "chance.\n",
	.entries = entries,
};

int bench_compare_command(int argc, char **argv)
{
	struct request req = {0};
	const int n = options_parse(&table, &req, argc, argv);
	json_t *from, *to;
	int r = -1;

	if (n < 0)
		return n == OPTIONS_HELP ? VM_EXIT_OK : VM_EXIT_USAGE;
	if (n != argc - 2)
		return usage_error("bench", "compare takes two files");
	from = bench_document_read(argv[n]);
	to = from ? bench_document_read(argv[n + 1]) : NULL;
	if (to)
		r = bench_compare(from, to);
	json_decref(from);
	json_decref(to);
	if (!to)
		return VM_EXIT_USAGE;
	return r < 0 ? VM_EXIT_HOST : r > 0 && req.fail ? 1 : VM_EXIT_OK;
}
