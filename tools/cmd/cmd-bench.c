/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead bench startup`: how long a command takes from start to end, beside
 * ordinary containers on the same machine with the same root. The runs of all
 * take turns, so that what else the machine does hits them alike.
 */
#include "tools/cmd/cmd.h"

#include "tools/bench/bench.h"
#include "tools/cli/options.h"
#include "tools/image/rootfs.h"
#include "tools/cli/usage.h"
#include "vmm/base/log.h"
#include "vmm/base/text.h"
#include "vmm/base/util.h"
#include "vmm/vm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define RUNS_DEFAULT 20
#define RUNS_MAX     10000

struct request {
	const char *runs_text;
	const char *only;
	bool json;
	uint64_t runs;
	const char *root;
	char *const *command;
};

static const struct option_entry entries[] = {
	{"runs", 'n', "N", OPTION_TEXT, offsetof(struct request, runs_text),
	 NULL, "measure each N times [20], after one run not counted"},
	{"only", 0, "NAMES", OPTION_TEXT, offsetof(struct request, only), NULL,
	 "compare with these alone, commas between: " BENCH_NAMES},
	{"json", 0, NULL, OPTION_FLAG, offsetof(struct request, json), NULL,
	 "print every run's figures as JSON"},
	{0},
};

static const struct option_table table = {
	.command = "bench",
	.synopsis =
		"usage: bulkhead bench startup [OPTION]... ROOT [--] COMMAND "
		"[ARGUMENT]...\n"
		"\n"
		"Measures cold runs of a command, from exec of 'bulkhead run' "
		"to its exit, and\n"
		"beside it bulkhead-runtime, crun, runc, docker and podman "
		"where they are\n"
		"installed (and docker's daemon runs), the engines with "
		"bulkhead-runtime, too:\n"
		"the same root, the same command, no network. They take "
		"turns.\n",
	.entries = entries,
	.notes = "\nExample:\n"
		 "  bulkhead bench startup debian/ /bin/true\n",
};

/* ---- measuring */

/* The first line of its messages, as the reason it takes no part. */
static int leave_out(struct bench_peer *peer, int status, int err_fd)
{
	char line[160];
	ssize_t n = pread(err_fd, line, sizeof(line) - 1, 0);

	line[n > 0 ? n : 0] = '\0';
	line[strcspn(line, "\r\n")] = '\0';
	text_make_printable(line);
	free(peer->why_not);
	if (asprintf(&peer->why_not, "ended with status %d%s%s", status,
		     line[0] ? ": " : "", line) < 0)
		peer->why_not = NULL;
	return peer->why_not ? 0 : log_ret(-ENOMEM, "out of memory");
}

/* The first run fills the page cache, and shows whether it works at all. */
static int run_once(struct bench_peer *peer, struct bench_signals *signals,
		    bool counts)
{
	autofd int err_fd = bench_messages();
	const struct bench_start start = {peer->argv, err_fd, peer->mount_ns,
					  signals};
	struct bench_end end;

	bench_spawn(&start, &end);
	if (signals->came)
		return -EINTR;
	if (end.status != 0)
		return leave_out(peer, end.status, err_fd);
	if (counts) {
		peer->ms[peer->count] = end.ms;
		peer->cpu_ms[peer->count++] = end.cpu_ms;
	}
	return 0;
}

static int measure(struct bench_peer peers[BENCH_PEERS], uint64_t runs,
		   struct bench_signals *signals)
{
	int r = 0;

	for (unsigned i = 0; i < BENCH_PEERS; i++) {
		peers[i].ms = calloc(runs, sizeof(double));
		peers[i].cpu_ms = calloc(runs, sizeof(double));
		if (!peers[i].ms || !peers[i].cpu_ms)
			return log_ret(-ENOMEM, "out of memory");
	}
	for (uint64_t n = 0; n <= runs; n++) {
		for (unsigned i = 0; r == 0 && i < BENCH_PEERS; i++) {
			/* Each round begins with another one. */
			struct bench_peer *peer = &peers[(n + i) % BENCH_PEERS];

			if (!peer->why_not)
				r = run_once(peer, signals, n > 0);
		}
	}
	return r;
}

static int measure_all(const struct request *req, struct bench_result *result)
{
	const struct bench_what *what = result->what;
	int r = bench_peers_make(result->peers, what);

	if (r == 0)
		r = measure(result->peers, req->runs, what->signals);
	if (r == 0 && !result->peers[0].why_not)
		r = bench_phases(what, (unsigned)req->runs, result->phases);
	if (r > 0)
		result->nphases = (unsigned)r;
	for (unsigned i = 0; r >= 0 && i < BENCH_PEERS; i++) {
		bench_sort(result->peers[i].ms, result->peers[i].count);
		bench_sort(result->peers[i].cpu_ms, result->peers[i].count);
	}
	if (what->signals->came)
		return 128 + what->signals->came;
	return r < 0 ? VM_EXIT_HOST : VM_EXIT_OK;
}

static int bench(const struct request *req, const struct rootfs *root)
{
	struct bench_signals signals;
	const struct bench_what what = {req->root, root->path, req->command,
					&signals, req->only};
	struct bench_result result = {.what = &what};
	int status;

	bench_signals_take(&signals);
	status = measure_all(req, &result);
	if (status == VM_EXIT_OK && !req->json)
		bench_print(&result);
	else if (status == VM_EXIT_OK && bench_print_json(&result) < 0)
		status = VM_EXIT_HOST;
	if (status == VM_EXIT_OK && result.peers[0].why_not)
		status = log_ret(VM_EXIT_HOST, "bulkhead run: %s",
				 result.peers[0].why_not);
	bench_peers_done(result.peers, &signals);
	return status;
}

static int parse(struct request *req, int argc, char **argv)
{
	int n = options_parse(&table, req, argc, argv);

	if (n < 0)
		return n;
	req->runs = RUNS_DEFAULT;
	if (req->runs_text &&
	    util_parse_number(req->runs_text, 1, RUNS_MAX, &req->runs) < 0) {
		usage_error("bench", "--runs '%s': not a number from 1 to %d",
			    req->runs_text, RUNS_MAX);
		return OPTIONS_ERROR;
	}
	if (req->only && !bench_knows(req->only)) {
		usage_error("bench", "--only '%s': known are " BENCH_NAMES,
			    req->only);
		return OPTIONS_ERROR;
	}
	if (n < argc)
		req->root = argv[n++];
	if (n < argc && strcmp(argv[n], "--") == 0)
		n++;
	if (n >= argc) {
		usage_error("bench", "give a root and a command");
		return OPTIONS_ERROR;
	}
	req->command = &argv[n];
	return 0;
}

int cmd_bench(int argc, char **argv)
{
	const struct rootfs_options usual = {0};
	struct rootfs root = {.hold = -1};
	struct request req = {0};
	int n, status;

	if (argc > 1 && strcmp(argv[1], "startup") == 0) {
		argc--;
		argv++;
	} else if (argc < 2 || strcmp(argv[1], "--help") != 0) {
		return usage_error("bench", "say what: bulkhead bench startup");
	}
	n = parse(&req, argc, argv);
	if (n == OPTIONS_HELP)
		return VM_EXIT_OK;
	if (n < 0 || rootfs_open(req.root, &usual, &root) < 0)
		return VM_EXIT_USAGE;
	status = bench(&req, &root);
	rootfs_close(&root);
	return status;
}
