/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead bench startup`: how long a command takes from start to end, beside
 * ordinary containers on the same machine with the same root. The runs of all
 * take turns, so that what else the machine does hits them alike.
 */
#include "tools/cmd.h"

#include "tools/bench.h"
#include "tools/options.h"
#include "tools/rootfs.h"
#include "vmm/log.h"
#include "vmm/util.h"
#include "vmm/vm.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>

#define RUNS_DEFAULT 20
#define RUNS_MAX     10000

struct request {
	const char *runs_text;
	bool json;
	uint64_t runs;
	const char *root;
	char *const *command;
};

static const struct option_entry entries[] = {
	{"runs", 'n', "N", OPTION_TEXT, offsetof(struct request, runs_text),
	 NULL, "runs of each [20], after one that is not counted"},
	{"json", 0, NULL, OPTION_FLAG, offsetof(struct request, json), NULL,
	 "the result as JSON, every run in it"},
	{0},
};

static const struct option_table table = {
	.command = "bench",
	.synopsis =
		"usage: bulkhead bench startup [OPTION]... ROOT [--] COMMAND "
		"[ARGUMENT]...\n"
		"\n"
		"Measures 'bulkhead run' of a command, from start to end, and "
		"beside it crun,\n"
		"runc and docker where they are installed: the same root, the "
		"same command, no\n"
		"network.\n",
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
	for (char *p = line; *p; p++)
		if (*p < ' ' || *p > '~')
			*p = '?';
	free(peer->why_not);
	if (asprintf(&peer->why_not, "ended with status %d%s%s", status,
		     line[0] ? ": " : "", line) < 0)
		peer->why_not = NULL;
	return peer->why_not ? 0 : log_ret(-ENOMEM, "out of memory");
}

/* The first run fills the page cache, and shows whether it works at all. */
static int warm_up(struct bench_peer *peer)
{
	autofd int err_fd = memfd_create("bench-messages", MFD_CLOEXEC);
	int status = bench_spawn(peer->argv, err_fd);

	return status == 0 ? 0 : leave_out(peer, status, err_fd);
}

static int run_once(struct bench_peer *peer)
{
	const uint64_t start_ns = util_now_ns();
	const int status = bench_spawn(peer->argv, -1);

	if (status != 0)
		return leave_out(peer, status, -1);
	peer->ms[peer->count++] = (double)(util_now_ns() - start_ns) / 1e6;
	return 0;
}

static int measure(struct bench_peer peers[BENCH_PEERS], uint64_t runs)
{
	for (unsigned i = 0; i < BENCH_PEERS; i++) {
		peers[i].ms = calloc(runs, sizeof(double));
		if (!peers[i].ms)
			return log_ret(-ENOMEM, "out of memory");
	}
	for (uint64_t n = 0; n <= runs; n++) {
		for (unsigned i = 0; i < BENCH_PEERS; i++) {
			int r = 0;

			if (!peers[i].why_not && n == 0)
				r = warm_up(&peers[i]);
			else if (!peers[i].why_not)
				r = run_once(&peers[i]);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Of sorted numbers; the nearest rank. */
static double percentile(const struct bench_peer *peer, unsigned percent)
{
	size_t rank = ((size_t)peer->count * percent + 99) / 100;

	return peer->ms[rank > 0 ? rank - 1 : 0];
}

static double median(const struct bench_peer *peer)
{
	unsigned n = peer->count;

	return n % 2 ? peer->ms[n / 2]
		     : (peer->ms[n / 2 - 1] + peer->ms[n / 2]) / 2;
}

/* ---- showing */

static void print_table(const struct bench_peer peers[BENCH_PEERS])
{
	printf("%-10s %6s %10s %10s %10s %10s %8s\n", "", "runs", "min ms",
	       "median ms", "p90 ms", "max ms", "ratio");
	for (unsigned i = 0; i < BENCH_PEERS; i++) {
		const struct bench_peer *peer = &peers[i];

		if (peer->why_not) {
			printf("%-10s %s\n", peer->name, peer->why_not);
			continue;
		}
		printf("%-10s %6u %10.1f %10.1f %10.1f %10.1f", peer->name,
		       peer->count, peer->ms[0], median(peer),
		       percentile(peer, 90), peer->ms[peer->count - 1]);
		if (peers[0].why_not)
			putchar('\n');
		else
			printf(" %8.2f\n", median(peer) / median(&peers[0]));
	}
}

static json_t *peer_json(const struct bench_peer *peer)
{
	json_t *runs;

	if (peer->why_not)
		return json_pack("{s:s, s:s}", "runtime", peer->name, "skipped",
				 peer->why_not);
	runs = json_array();
	for (unsigned i = 0; i < peer->count; i++)
		json_array_append_new(runs, json_real(peer->ms[i]));
	return json_pack("{s:s, s:i, s:f, s:f, s:f, s:f, s:o}", "runtime",
			 peer->name, "runs", (int)peer->count, "min_ms",
			 peer->ms[0], "median_ms", median(peer), "p90_ms",
			 percentile(peer, 90), "max_ms",
			 peer->ms[peer->count - 1], "sorted_ms", runs);
}

static int print_json(const struct request *req,
		      const struct bench_peer peers[BENCH_PEERS])
{
	json_t *results = json_array(), *command = json_array(), *root;
	struct utsname host = {0};
	int r;

	(void)uname(&host);
	for (char *const *arg = req->command; *arg; arg++)
		json_array_append_new(command, json_string(*arg));
	for (unsigned i = 0; i < BENCH_PEERS; i++)
		json_array_append_new(results, peer_json(&peers[i]));
	root = json_pack("{s:s, s:s, s:s, s:i, s:o, s:o}", "benchmark",
			 "startup", "root", req->root, "kernel", host.release,
			 "cpus", (int)sysconf(_SC_NPROCESSORS_ONLN), "command",
			 command, "results", results);
	r = root ? json_dumpf(root, stdout,
			      JSON_INDENT(2) | JSON_REAL_PRECISION(6))
		 : -1;
	putchar('\n');
	json_decref(root);
	return r < 0 ? VM_EXIT_HOST : VM_EXIT_OK;
}

static int bench(const struct request *req, const struct rootfs *root)
{
	struct bench_peer peers[BENCH_PEERS] = {0};
	int r = bench_peers_make(peers, req->root, root->path, req->command);
	int status = VM_EXIT_HOST;

	if (r == 0)
		r = measure(peers, req->runs);
	for (unsigned i = 0; r == 0 && i < BENCH_PEERS; i++)
		qsort(peers[i].ms, peers[i].count, sizeof(double), compare);
	if (r == 0 && req->json)
		status = print_json(req, peers);
	else if (r == 0)
		print_table(peers);
	if (r == 0 && !req->json)
		status = VM_EXIT_OK;
	if (r == 0 && peers[0].why_not) {
		log_error("bulkhead run: %s", peers[0].why_not);
		status = VM_EXIT_HOST;
	}
	bench_peers_done(peers);
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
