/* SPDX-License-Identifier: Apache-2.0 */
/* `bulkhead bench show`: a document that was kept, in another form. */
#include "tools/cmd/bench-parts.h"

#include "tools/cli/print.h"
#include "tools/cli/usage.h"
#include "vmm/base/log.h"
#include "vmm/vm.h"

#include <jansson.h>

struct request {
	const char *csv, *html;
};

static const struct option_entry entries[] = {
	{"csv", 0, "FILE", OPTION_TEXT, offsetof(struct request, csv), NULL,
	 "write a line for every run"},
	{"html", 0, "FILE", OPTION_TEXT, offsetof(struct request, html), NULL,
	 "write a page with curves, phases and all that is known"},
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
	struct request req = {0};
	const int n = options_parse(&table, &req, argc, argv);
	json_t *document;
	int r;

	if (n < 0)
		return n == OPTIONS_HELP ? VM_EXIT_OK : VM_EXIT_USAGE;
	if (n != argc - 1)
		return usage_error("bench", "show takes one file");
	document = bench_document_read(argv[n]);
	if (!document)
		return VM_EXIT_USAGE;
	r = req.csv ? bench_write_csv(document, req.csv) : 0;
	if (r == 0 && req.html)
		r = bench_write_html(document, req.html);
	if (r == 0)
		r = bench_print(document);
	json_decref(document);
	return r < 0 ? VM_EXIT_HOST : VM_EXIT_OK;
}
