/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of `bulkhead bench`; each takes its own name as argv[0]. */
#ifndef TOOLS_CMD_BENCH_PARTS_H
#define TOOLS_CMD_BENCH_PARTS_H

#include "tools/bench/bench.h"
#include "tools/cli/options.h"
#include "tools/image/rootfs.h"

int bench_startup(int argc, char **argv);
int bench_list(int argc, char **argv);
int bench_show(int argc, char **argv);
int bench_compare_command(int argc, char **argv);
int bench_overhead_command(int argc, char **argv);
int bench_density_command(int argc, char **argv);
int bench_figures_command(int argc, char **argv);

/* ---- what several of them share */

struct json_t;

/* The first member of a command's own struct, as the offsets below are its. */
struct bench_options {
	struct option_list drivers;
	const char *only, *csv, *html;
	bool json;
};

#define BENCH_OPTION_ONLY                                                      \
	{                                                                      \
		"only", 0, "NAMES", OPTION_TEXT,                               \
			offsetof(struct bench_options, only), NULL,            \
			"measure these alone, commas between; 'bench list' "   \
			"has the names"                                        \
	}
#define BENCH_OPTION_DRIVER                                                    \
	{                                                                      \
		"driver", 0, "FILE", OPTION_LIST,                              \
			offsetof(struct bench_options, drivers), NULL,         \
			"take the runtime that this file describes, too"       \
	}
#define BENCH_OPTION_JSON                                                      \
	{                                                                      \
		"json", 0, NULL, OPTION_FLAG,                                  \
			offsetof(struct bench_options, json), "Output",        \
			"print all figures as JSON"                            \
	}
#define BENCH_OPTION_CSV                                                       \
	{                                                                      \
		"csv", 0, "FILE", OPTION_TEXT,                                 \
			offsetof(struct bench_options, csv), NULL,             \
			"write a line for every run"                           \
	}
#define BENCH_OPTION_HTML                                                      \
	{                                                                      \
		"html", 0, "FILE", OPTION_TEXT,                                \
			offsetof(struct bench_options, html), NULL,            \
			"write a page with curves, phases and all that is "    \
			"known"                                                \
	}

/* A root, a command, and the runtimes that are to run it. */
struct bench_setup {
	struct bench_drivers drivers;
	struct bench_signals signals;
	struct bench_what what;
	struct bench_peers peers;
	struct rootfs root;
	char tag[32];
	char *self, *runtime, *kernel, *arguments; /* owned */
};

/*
 * Finds the drivers, FILES among them, and those ONLY names (NULL: all). An
 * exit status; not 0: logged.
 */
int bench_setup_find(struct bench_setup *setup, const struct option_list *files,
		     const char *only);
/*
 * Opens ROOT, and blocks the signals, unless .what.signals are already those of
 * another setup. An exit status; not 0: logged.
 */
int bench_setup_open(struct bench_setup *setup, const char *root,
		     char *const *command);
/* Either may have failed, or not have been called on zeroed SETUP. */
void bench_setup_done(struct bench_setup *setup);

/*
 * Whether the files that OPTIONS name can be written, before a measurement of
 * an hour finds that they cannot. An exit status; not 0: logged.
 */
int bench_check_files(const struct bench_options *options);
/* Shows a document in the forms that are asked for. An exit status. */
int bench_show_document(const struct bench_options *options,
			const struct json_t *document);
/*
 * Makes the document of a measurement that has come to R, and shows it. An exit
 * status.
 */
int bench_show_result(const struct bench_options *options,
		      const struct bench_setup *setup,
		      const struct bench_result *result, int r);

/* Looks at the other work of the machine, before anything is measured. */
void bench_watch_host(struct bench_host *from, struct bench_host *to);
/* VM_EXIT_HOST, logged: one that was named, or all, could not be measured. */
int bench_check_measured(const struct bench_setup *setup);
/* A number from MIN to MAX, if TEXT is there. False: usage error, logged. */
bool bench_number(const char *option, const char *text, uint64_t min,
		  uint64_t max, uint64_t *ret);

/* A shell that says something and stays. */
extern char *const bench_idle_command[];
/* Makes the peers and measures their memory. 0 or -errno, logged. */
int bench_measure_density(struct bench_setup *setup, unsigned count,
			  unsigned idle_s);

#endif
