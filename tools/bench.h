/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead bench startup`: who is compared (bench-peers.c), and how the time
 * is taken and shown (cmd-bench.c).
 */
#ifndef TOOLS_BENCH_H
#define TOOLS_BENCH_H

#include <stdbool.h>

#define BENCH_PEERS 4

/* What runs the command; prepared once, started many times. */
struct bench_peer {
	const char *name;
	char *why_not; /* owned; NULL: it takes part */
	char **argv;   /* owned list of owned texts that ends with NULL */
	char *bundle;  /* owned: directory to be removed, or NULL */
	char *image;   /* owned: Docker's image to be removed, or NULL */
	double *ms;    /* owned: one a run */
	unsigned count;
};

/*
 * All of them, bulkhead first. ROOT as the user said it, TREE the directory it
 * is. 0 or -errno, logged.
 */
int bench_peers_make(struct bench_peer peers[BENCH_PEERS], const char *root,
		     const char *tree, char *const *command);
void bench_peers_done(struct bench_peer peers[BENCH_PEERS]);

/*
 * Starts ARGV, its output to nowhere and its messages to ERR_FD (-1: nowhere,
 * too), and waits: its status, 255 if none.
 */
int bench_spawn(char *const *argv, int err_fd);

#endif
