/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead bench`: drivers made ready to run a command (bench-peers.c), runs
 * started and timed (bench-spawn.c), rounds of them (bench-rounds.c), the host
 * (bench-host.c); the result is a JSON document (bench-document.c), from which
 * all that is shown is made. tools/cmd/bench-*.c are the commands.
 */
#ifndef TOOLS_BENCH_BENCH_H
#define TOOLS_BENCH_BENCH_H

#include "tools/bench/bench-driver.h"

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>

/* ---- one run */

/*
 * Signals that end the bench early wait until it has cleaned up. Its children
 * get the mask that it was given, and the limit of open files.
 */
struct bench_signals {
	sigset_t before;
	sigset_t awaited;
	int came; /* 0: none */
	struct rlimit files_before;
};

/* Also raises the limit of open files: each run of a group takes five. */
void bench_signals_take(struct bench_signals *signals);
/* One that is there already counts, too. */
void bench_signals_look(struct bench_signals *signals);

/*
 * A file in memory for the messages of a program, which may write them from
 * several threads: a descriptor, the caller's, or -1 and errno.
 */
int bench_messages(void);

/* Says that WHAT could not be made. -errno, as errno has it. */
int bench_no_file(const char *what);

/* Each in nanoseconds after exec; 0: not had. */
enum bench_mark {
	BENCH_GUEST,    /* a thread enters a guest for the first time */
	BENCH_PID1,     /* a container's executes its program */
	BENCH_OUTPUT,   /* the first byte of it arrives */
	BENCH_RESIDENT, /* nearly all of its page faults are taken */
	BENCH_EXIT,
	BENCH_MARKS,
};

/* Their names in documents. */
extern const char *const bench_mark_names[BENCH_MARKS];

struct bench_start {
	char *const *argv;        /* NULL: not started, and has no status */
	char *const *environment; /* NULL: this program's own */
	int in_fd;                /* its input; -1: nothing */
	int out_fd;               /* its output; -1: watched for a first byte */
	int err_fd;               /* its messages; -1: nowhere */
	int mount_ns;             /* -1: this program's own */
	bool own_group;           /* what it starts is ended with it */
	struct bench_signals *signals;
};

struct bench_end {
	int status; /* 255: none */
	bool late;  /* ended for being so long */
	pid_t pid;
	uint64_t exec_ns; /* CLOCK_MONOTONIC, just before exec */
	uint64_t at_ns[BENCH_MARKS];
	unsigned faults; /* about so many, its guest's included; 0: not had */
	double cpu_ms;   /* its own and that of those it waited for */
};

/*
 * Starts a program and waits for its end, or ends it after so long. 0, or
 * -errno, logged: it could not be started.
 */
int bench_spawn(const struct bench_start *start, unsigned limit_s,
		struct bench_end *ret);

struct bench_group {
	const struct bench_start *start; /* COUNT of them */
	struct bench_end *end;           /* as many */
	unsigned count;
	uint64_t interval_ns; /* between their starts; 0: all at once */
	uint64_t limit_ns;    /* for each; 0: none */
	struct bench_observer *observer; /* NULL: BENCH_GUEST, _PID1 and
					    _RESIDENT are not taken */
};

/*
 * Starts all and waits for their ends. 0 or -errno, logged: this program could
 * not start one, so those that ran were ended.
 */
int bench_group_run(struct bench_group *group);

/* One that runs. */
struct bench_running {
	pid_t pid;
	int out_fd; /* its output */
	int end_fd; /* readable when it has ended */
	int pipe_fd;
	uint64_t exec_ns;
};

/* Starts one that is left running. 0 or -errno, logged. */
int bench_run_start(const struct bench_start *start, struct bench_running *ret);
void bench_run_close(struct bench_running *run);

/*
 * A mount namespace in which no cgroup2 hierarchy lies beside those of version
 * 1: the descriptor that keeps it, or -errno.
 */
int bench_without_hybrid(void);

/* ---- who is compared */

struct bench_run;

#define BENCH_PHASES 7

struct bench_phase {
	const char *name; /* a constant */
	double ms;        /* median */
};

/* The memory that COUNT instances take. */
struct bench_memory {
	unsigned count, processes;
	unsigned denied; /* processes that this user may not look at */
	uint64_t pss_kib, private_kib;
	double at_ms; /* since the first one was up */
};

#define BENCH_MEMORY_MAX 12
#define BENCH_IDLE_MAX   601

struct bench_density {
	double *up_ms; /* owned: from exec to the first byte, of each */
	unsigned nup;
	struct bench_memory memory[BENCH_MEMORY_MAX];
	unsigned nmemory;
	struct bench_memory idle[BENCH_IDLE_MAX]; /* of the first one */
	unsigned nidle;
};

/* A driver that is ready to run the command. All of it is owned. */
struct bench_peer {
	const struct bench_driver *driver; /* borrowed */
	char *version;                     /* NULL: not known */
	char *why_not;                     /* NULL: it takes part */
	char *scratch, *bundle;            /* directories of its own */
	struct text_list environment;      /* besides this program's */
	struct text_list argv;             /* to be shown */
	int mount_ns;                      /* owned, or -1 */
	bool hybrid_hidden, prepared;
	struct bench_run *run;
	unsigned count;
	unsigned failed;
	char *failure;                /* the first one's reason */
	char *not_taken[BENCH_MARKS]; /* why no run has such a mark; or NULL */
	struct bench_phase phase[BENCH_PHASES];
	unsigned nphases;
	struct bench_density density;
};

struct bench_peers {
	struct bench_peer *item;
	unsigned count;
};

/* The root and the command that all of them run. */
struct bench_what {
	const char *root; /* as the user said it */
	const char *tree; /* the directory it is */
	char *const *command;
	const char *arguments; /* all but the first, with blanks between */
	const char *self;      /* this program's file */
	const char *runtime;   /* bulkhead-runtime's, or NULL */
	const char *kernel;    /* a guest's, or NULL */
	const char *tag;       /* what may be the name of an image */
	struct bench_signals *signals;
	const char *only; /* who is compared: names, commas between; or NULL */
	bool look_only;   /* nothing is prepared */
	char *scratch;    /* bench_peers_make() makes it */
};

/* Whether NAME is one of NAMES, which have commas between. */
bool bench_is_named(const char *names, const char *name);

/* Makes all drivers' peers. 0 or -errno, logged; to be done with either way. */
int bench_peers_make(struct bench_peers *peers,
		     const struct bench_drivers *drivers,
		     struct bench_what *what);
void bench_peers_done(struct bench_peers *peers, struct bench_what *what);

/* A run failed, for the first time because of WHY. 0 or -ENOMEM, logged. */
int bench_failed(struct bench_peer *peer, const char *why);
/* 0 or -ENOMEM, logged. */
int bench_leave_out(struct bench_peer *peer, const char *why);
/* The words of a template of its driver's for the run ID. */
int bench_peer_words(const struct bench_peer *peer,
		     const struct bench_what *what, const char *id,
		     const char *text, struct text_list *ret);
#define BENCH_SCRIPT_LATE 256

/*
 * Runs a script of its driver's for the run ID. The exit status,
 * BENCH_SCRIPT_LATE after the driver's `limit`, or -errno, logged. RET_LINE is
 * the reason where it is not 0, and the last line that it wrote otherwise;
 * printable, allocated.
 */
int bench_script(const struct bench_peer *peer, const struct bench_what *what,
		 const char *id, const char *script, char **ret_line);

/*
 * Runs a script that removes what a run ID or a driver left; NULL: none. It
 * runs after a signal as well; another signal ends it early.
 */
void bench_clean_up(const struct bench_peer *peer,
		    const struct bench_what *what, const char *id,
		    const char *script);

/* As bench_script(); RET_TEXT is all that it wrote, up to 4 KiB. */
int bench_script_text(const struct bench_peer *peer,
		      const struct bench_what *what, const char *id,
		      const char *script, char **ret_text);

/* This program's environment and PEER's. 0 or -ENOMEM, logged. */
int bench_peer_environment(const struct bench_peer *peer,
			   struct text_list *ret);

/* A bundle's directory DIR for OCI runtimes. 0 or -errno, logged. */
int bench_bundle(const char *dir, const char *tree, char *const *command);

/* ---- rounds */

#define BENCH_RUNS_MAX  10000
#define BENCH_GROUP_MAX 1000

struct bench_run {
	unsigned round; /* from 1 on */
	int status;
	bool ok, late;
	uint64_t at_ns[BENCH_MARKS];
	unsigned faults; /* 0: not had */
	double cpu_ms;
};

struct bench_plan {
	unsigned runs;        /* of each */
	unsigned group;       /* how many of one runtime are started together */
	uint64_t interval_ms; /* between their starts */
	unsigned limit_s;     /* for each run */
	bool is_default;      /* the number of runs */
};

/* How long all runs took that count. */
struct bench_took {
	uint64_t all_ns;    /* from the first one's beginning to the end */
	uint64_t runs_ns;   /* from exec to exit, of each group of them */
	uint64_t before_ns; /* the drivers' `before` */
	unsigned runs;
};

/*
 * Measures all peers that take part, in turns. One that does not come through
 * its first run, which is not counted, is left out. 0 or -errno, logged;
 * -EINTR, not logged: a signal came.
 */
int bench_rounds(struct bench_peers *peers, const struct bench_what *what,
		 const struct bench_plan *plan, struct bench_took *ret);

/*
 * Where the time of a runtime's starts goes, by up to PLAN's runs that tell;
 * there may be no phases, as a line says. 0 or -errno, logged; -EINTR, not
 * logged: a signal came.
 */
int bench_phases(struct bench_peer *peer, const struct bench_what *what,
		 const struct bench_plan *plan);

/* ---- instances that stay */

/*
 * Starts COUNT instances of a command that says something and stays, watches
 * the first one for IDLE_SECONDS, and ends all; PEER gets the figures. 0 or
 * -errno, logged; -EINTR, not logged: a signal came.
 */
int bench_density(struct bench_peer *peer, const struct bench_what *what,
		  unsigned count, unsigned idle_seconds, unsigned limit_s);
struct bench_pids {
	pid_t *item; /* owned */
	unsigned count;
};

/* All processes below this one. 0 or -errno, logged. */
int bench_memory_below(struct bench_pids *ret);
/*
 * The memory of all processes below this one, except for BEFORE, and of those
 * below ROOTS. 0 or -errno, logged.
 */
int bench_memory_look(const struct bench_pids *roots,
		      const struct bench_pids *before,
		      struct bench_memory *ret);

/* ---- statistics */

void bench_sort(double *values, unsigned count);
/* VALUES are sorted: the mean of the two in the middle, or the nearest rank. */
double bench_quantile(const double *values, unsigned count, double q);
/*
 * The ranks (from 0) of two sorted values of COUNT between which the quantile Q
 * is with at least 95 % confidence, whatever the distribution: by the binomial
 * distribution of how many values lie below it. False: too few values.
 */
bool bench_quantile_ranks(unsigned count, double q, unsigned *ret_low,
			  unsigned *ret_high);

/* ---- the host */

struct bench_host {
	uint64_t jiffies, busy, steal; /* of all processors since the boot */
	double load1;
};

void bench_host_look(struct bench_host *host);

/* ---- the document */

#define BENCH_SCHEMA  "bulkhead-bench"
#define BENCH_VERSION 1

struct json_t;

struct bench_result {
	const char *benchmark; /* "startup", "density", "figures" */
	const struct bench_what *what;
	const struct bench_plan *plan;
	const struct bench_peers *peers;
	const struct bench_host *idle_from, *idle_to; /* before the runs */
	const struct bench_host *end;
	const struct bench_took *took; /* NULL: nothing was run in rounds */
};

/* The document; NULL: no memory. The caller has a reference. */
struct json_t *bench_document(const struct bench_result *result);
struct json_t *bench_host_json(const struct bench_result *result);
/* Minimum, quantiles with intervals, ...; sorts VALUES. */
struct json_t *bench_summary(double *values, unsigned count);
/* Reads a document and checks that it is one. NULL, logged. */
struct json_t *bench_document_read(const char *file);

/* ---- figures that another program took (bench-figures.c) */

struct bench_figures {
	struct json_t *runtimes; /* owned, as the next */
	struct json_t *notes;
};

/*
 * Reads lines "NAME<tab>FIGURE<tab>NUMBER" and notes, "# TEXT", to IN's end.
 * RET needs bench_figures_done() in any case. 0 or -errno, logged.
 */
int bench_figures_read(FILE *in, struct bench_figures *ret);
void bench_figures_done(struct bench_figures *figures);
/* FIGURES as a document, of HOST's times alone. NULL: no memory, logged. */
struct json_t *bench_figures_document(const struct bench_result *host,
				      const char *title, char *const *command,
				      const struct bench_figures *figures);
/* Whether DOCUMENT is one of these. */
bool bench_has_figures(const struct json_t *document);
void bench_figures_print(const struct json_t *document);
void bench_figures_csv(const struct json_t *document, FILE *out);

/* ---- what is shown of a document */

/* A table. 0 or -errno. */
int bench_print(const struct json_t *document);
/* One line a run. 0 or -errno, logged. */
int bench_write_csv(const struct json_t *document, const char *file);
/* A page of its own. 0 or -errno, logged. */
int bench_write_html(const struct json_t *document, const char *file);

/* ---- two documents */

#define BENCH_COMPARE_LEAST 8    /* runs on either side */
#define BENCH_COMPARE_P     0.01 /* less is no chance */

enum bench_verdict {
	BENCH_SAME,
	BENCH_FASTER,
	BENCH_SLOWER,
	BENCH_TOO_FEW,
};

struct bench_samples {
	double *value;
	unsigned count;
};

struct bench_difference {
	double from, to;  /* medians */
	double low, high; /* of their difference, 95 % */
	double p;
	enum bench_verdict verdict;
};

/* Sorts both. 0 or -ENOMEM, logged. */
int bench_difference(struct bench_samples *a, struct bench_samples *b,
		     struct bench_difference *ret);
/*
 * Runs ARGV RUNS times without the bench (`from`) and
 * with it (`to`). 0 or -errno, logged; -EINTR, not logged: a signal came.
 */
int bench_overhead(char *const *argv, unsigned runs,
		   struct bench_signals *signals, struct bench_difference *ret);
/*
 * Prints what changed. 1: something is slower, fails more, or is not measured
 * any more; 0; or -errno, logged.
 */
int bench_compare(const struct json_t *from, const struct json_t *to);

/* Progress, on a terminal alone; "" ends it. */
void bench_progress(const char *format, ...)
	__attribute__((format(printf, 1, 2)));

#endif
