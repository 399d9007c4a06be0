/* SPDX-License-Identifier: Apache-2.0 */
/* `bulkhead bench figures`: what another program measures, as a document. */
#include "tools/cmd/bench-parts.h"

#include "tools/cli/usage.h"
#include "vmm/vm.h"

#include <jansson.h>
#include <stdio.h>

struct request {
	struct bench_options shared; /* first */
	const char *title;
};

static const struct option_entry entries[] = {
	{"title", 0, "TEXT", OPTION_TEXT, offsetof(struct request, title), NULL,
	 "say what was measured [Figures]"},
	BENCH_OPTION_JSON,
	BENCH_OPTION_CSV,
	BENCH_OPTION_HTML,
	{0},
};

static const struct option_table table = {
	.command = "bench",
	.synopsis =
		"usage: bulkhead bench figures [OPTION]... [COMMAND...]\n"
		"\n"
		"Shows what another program measures as 'bench startup' shows "
		"its own. Standard\n"
		"input has lines: a contestant's name, a figure with its unit, "
		"and a number, with\n"
		"tabs between; a line that begins with # is a note. The host "
		"is looked at before the\n"
		"first line and behind the last one. COMMAND is noted: it "
		"takes the figures again.\n",
	.entries = entries,
};

static int show(const struct request *req, char *const *command,
		struct bench_figures *figures)
{
	struct bench_host from, to, end;
	const struct bench_result host = {
		.benchmark = "figures",
		.idle_from = &from,
		.idle_to = &to,
		.end = &end,
	};
	json_t *document;
	int status;

	bench_watch_host(&from, &to);
	if (bench_figures_read(stdin, figures) < 0)
		return VM_EXIT_USAGE;
	bench_host_look(&end);
	document = bench_figures_document(
		&host, req->title ? req->title : "Figures", command, figures);
	if (!document)
		return VM_EXIT_HOST;
	status = bench_show_document(&req->shared, document);
	json_decref(document);
	return status;
}

int bench_figures_command(int argc, char **argv)
{
	struct request req = {0};
	struct bench_figures figures = {NULL, NULL};
	const int n = options_parse(&table, &req, argc, argv);
	int status;

	if (n < 0)
		return n == OPTIONS_HELP ? VM_EXIT_OK : VM_EXIT_USAGE;
	status = bench_check_files(&req.shared);
	if (status == VM_EXIT_OK)
		status = show(&req, argv + n, &figures);
	bench_figures_done(&figures);
	return status;
}
