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

/* ---- what several of them share */

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
/* Opens ROOT, and blocks the signals. An exit status; not 0: logged. */
int bench_setup_open(struct bench_setup *setup, const char *root,
		     char *const *command);
/* Either may have failed, or not have been called on zeroed SETUP. */
void bench_setup_done(struct bench_setup *setup);

#endif
