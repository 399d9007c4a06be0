/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead bench startup`: who is compared (bench-peers.c), how a run is
 * started and timed (bench-spawn.c), what of bulkhead's own takes how long
 * (bench-phases.c), how it is shown (bench-show.c); cmd-bench.c is the whole.
 */
#ifndef TOOLS_BENCH_BENCH_H
#define TOOLS_BENCH_BENCH_H

#include <signal.h>
#include <stdbool.h>

#define BENCH_PEERS  8
#define BENCH_PHASES 8

/* ---- one run */

/* Signals that end the bench early wait until it has cleaned up. */
struct bench_signals {
	sigset_t before; /* what its children get */
	sigset_t awaited;
	int came; /* 0: none */
};

void bench_signals_take(struct bench_signals *signals);

/*
 * A file in memory for the messages of a program, which may write them from
 * several threads: a descriptor, the caller's, or -1 and errno.
 */
int bench_messages(void);

struct bench_start {
	char *const *argv;
	int err_fd;   /* its messages; -1: nowhere, as its output */
	int mount_ns; /* -1: this program's own */
	struct bench_signals *signals;
};

struct bench_end {
	int status;    /* 255: none */
	double ms;     /* from before fork and exec to the exit */
	double cpu_ms; /* its own and that of those it waited for */
};

/* Starts a program and waits for its end. */
void bench_spawn(const struct bench_start *start, struct bench_end *ret);

/*
 * A mount namespace in which no cgroup2 hierarchy lies beside those of version
 * 1: the descriptor that keeps it, or -errno.
 */
int bench_without_hybrid(void);

/* ---- who is compared */

/* A program that runs the command; prepared once, started many times. */
struct bench_peer {
	const char *name;
	const char *note; /* how it was made to run, or NULL */
	char *why_not;    /* owned; NULL: it takes part */
	char **argv;      /* owned list of owned texts that ends with NULL */
	char *bundle;     /* owned: directory to be removed, or NULL */
	char *image;      /* owned: Docker's image to be removed, or NULL */
	int mount_ns;     /* owned, or -1 */
	double *ms;       /* owned: one a run */
	double *cpu_ms;   /* owned, as many */
	unsigned count;
};

/* The root and the command that all of them run. */
struct bench_what {
	const char *root; /* as the user said it */
	const char *tree; /* the directory it is */
	char *const *command;
	struct bench_signals *signals;
	const char *only; /* who is compared: names, commas between; or NULL */
};

/* The programs that bulkhead is compared with. */
#define BENCH_NAMES                                                            \
	"bulkhead-runtime, crun, runc, docker, docker+bulkhead, podman, "      \
	"podman+bulkhead"

/* Whether all of ONLY are known. */
bool bench_knows(const char *only);

/* All of them, bulkhead first. 0 or -errno, logged. */
int bench_peers_make(struct bench_peer peers[BENCH_PEERS],
		     const struct bench_what *what);
void bench_peers_done(struct bench_peer peers[BENCH_PEERS],
		      struct bench_signals *signals);

/* ---- bulkhead's phases */

struct bench_phase {
	const char *name;
	double ms; /* median */
};

/*
 * Where the time of `bulkhead run` goes, from runs of their own, up to RUNS of
 * them. The number of phases; 0 or -errno (logged): there are none.
 */
int bench_phases(const struct bench_what *what, unsigned runs,
		 struct bench_phase phases[BENCH_PHASES]);

/* ---- the result */

struct bench_result {
	const struct bench_what *what;
	struct bench_peer peers[BENCH_PEERS]; /* their times are sorted */
	struct bench_phase phases[BENCH_PHASES];
	unsigned nphases;
};

void bench_sort(double *values, unsigned count);
/* The quantile of sorted times; 0 if there are none. */
double bench_median(const double *values, unsigned count);
void bench_print(const struct bench_result *result);
/* 0 or -errno. */
int bench_print_json(const struct bench_result *result);

#endif
