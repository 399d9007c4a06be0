/* SPDX-License-Identifier: Apache-2.0 */
/* `bulkhead check`: is this host fit, and what to do if not. */
#include "tools/cmd/cmd.h"

#include "devices/host/net.h"
#include "tools/cli/print.h"
#include "tools/cli/usage.h"
#include "vmm/cpu/hostcheck.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/vm.h"

#include <getopt.h>
#include <jansson.h>
#include <stdio.h>

static const char *const states[] = {
	[HOSTCHECK_OK] = "ok",
	[HOSTCHECK_LOSS] = "loss",
	[HOSTCHECK_BAD] = "bad",
};

static const char *const kinds[] = {
	[HOSTCHECK_UNKNOWN] = "unknown",
	[HOSTCHECK_HARDWARE] = "hardware",
	[HOSTCHECK_INTERPRETING] = "interpreting",
};

static const char usage[] =
	"usage: bulkhead check [--json]\n"
	"\n"
	"Says what this host's KVM can do, what is lost without the rest, and\n"
	"what to do about it. Makes a small VM for a moment; changes nothing.\n"
	"\n"
	"  --json  print the result as JSON\n"
	"  --help  print this\n"
	"\n"
	"Each line begins with: ok; loss (guests run, something is slower or\n"
	"missing); bad (no guest runs).\n"
	"\n"
	"Exit status: 0 guests can run; 2 bad usage; 3 they cannot.\n"
	"\n"
	"Examples:\n"
	"  bulkhead check\n"
	"  bulkhead check --json | jq -r .kind\n";

/* Not hostcheck's: it knows no devices. */
static void check_passt(struct hostcheck *check)
{
	autofree char *path = net_find_passt();
	struct hostcheck_line *line = &check->line[check->nlines];
	char why[NET_WHY_BYTES];
	bool starts = path && net_try_passt(why) == 0;

	if (check->nlines == HOSTCHECK_LINES_MAX)
		return;
	*line = (struct hostcheck_line){
		.topic = "passt",
		.state = starts ? HOSTCHECK_OK : HOSTCHECK_LOSS,
		.advice = starts ? NULL
			  : path ? "without it use --network none with run, "
				   "or a tap; nothing else needs passt"
				 : "install passt (Debian: apt install "
				   "passt)",
	};
	if (starts)
		snprintf(line->found, sizeof(line->found), "'%s' starts", path);
	else
		snprintf(line->found, sizeof(line->found),
			 "%s: --net user does not work",
			 path ? why : "not in PATH");
	check->nlines++;
}

static void print_text(const struct hostcheck *check)
{
	static const char *const verdicts[] = {
		[HOSTCHECK_UNKNOWN] = "guests run here",
		[HOSTCHECK_HARDWARE] = "guests run here, with hardware "
				       "virtualization",
		[HOSTCHECK_INTERPRETING] = "guests run here, their kernels "
					   "interpreted",
	};

	for (unsigned i = 0; i < check->nlines; i++) {
		const struct hostcheck_line *line = &check->line[i];

		printf("%-5s %s: %s\n", states[line->state], line->topic,
		       line->found);
		if (line->advice)
			printf("      -> %s\n", line->advice);
	}
	printf("\n%s\n",
	       check->usable ? verdicts[check->kind] : "no guest can run here");
}

static int print_checks(const struct hostcheck *check)
{
	json_t *lines = json_array();
	json_t *root;
	int r;

	for (unsigned i = 0; i < check->nlines; i++) {
		const struct hostcheck_line *line = &check->line[i];

		json_array_append_new(
			lines,
			json_pack("{s:s, s:s, s:s, s:s?}", "topic", line->topic,
				  "state", states[line->state], "found",
				  line->found, "advice", line->advice));
	}
	root = json_pack("{s:b, s:s, s:o}", "usable", check->usable, "kind",
			 kinds[check->kind], "checks", lines);
	r = print_json(root, JSON_INDENT(2));
	json_decref(root);
	return r;
}

int cmd_check(int argc, char **argv)
{
	static const struct option options[] = {
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	static const char *const names[] = {"json", "help", NULL};
	struct hostcheck check;
	bool json = false;
	int c;

	opterr = 0;
	while ((c = usage_next(argc, argv, "+:h", options)) != -1) {
		if (c == 'h') {
			fputs(usage, stdout);
			return VM_EXIT_OK;
		}
		if (c != 'j')
			return usage_getopt("check", c, argv, names);
		json = true;
	}
	if (optind < argc)
		return usage_error("check", "'%s': unexpected argument",
				   argv[optind]);
	log_setup(LOG_WARN, json);
	hostcheck_run(&check);
	check_passt(&check);
	if (!json)
		print_text(&check);
	else if (print_checks(&check) < 0)
		return VM_EXIT_HOST;
	return check.usable ? VM_EXIT_OK : VM_EXIT_HOST;
}
