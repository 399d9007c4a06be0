/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommands of `bulkhead`, one file each, and what they share. */
#ifndef TOOLS_CMD_H
#define TOOLS_CMD_H

struct config_type;
struct option; /* of <getopt.h> */

struct command {
	const char *name; /* NULL ends the table */
	/* argv[0] is the subcommand's name; the exit status */
	int (*run)(int argc, char **argv);
	const char *help; /* one line */
};

/* Every subcommand, in the order of the help. */
const struct command *command_list(void);
const struct command *command_find(const char *name);

int cmd_attach(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_boot(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_exec(int argc, char **argv);
int cmd_help(int argc, char **argv);
int cmd_images(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_kill(int argc, char **argv);
int cmd_logs(int argc, char **argv);
int cmd_ps(int argc, char **argv);
int cmd_rm(int argc, char **argv);
int cmd_rmi(int argc, char **argv);
int cmd_tag(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_stop(int argc, char **argv);
int cmd_version(int argc, char **argv);
int cmd_volume(int argc, char **argv);
int cmd_wait(int argc, char **argv);

/* The short help of `bulkhead` itself; to standard error if STATUS is not 0. */
int help_print(int status);

/*
 * One line about a wrong command line, on standard error, that ends in what to
 * read. Gives the exit status of bad usage.
 */
int usage_error(const char *command, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * getopt_long(3) that takes no abbreviation for an option: one that is added
 * later must not change what an older script means, and Docker's options that
 * do not exist here ("--pid") must not pass for others ("--pids-limit").
 */
int usage_next(int argc, char **argv, const char *letters,
	       const struct option *longs);

/*
 * What usage_next() could not make sense of, after it answered RESULT ('?' or
 * ':'). NAMES are the long options, for a suggestion; ends with NULL.
 */
int usage_getopt(const char *command, int result, char **argv,
		 const char *const *names);

/*
 * The kernel to boot when none is named: $BULKHEAD_KERNEL, the newest in the
 * cache, or the installed one. Allocated path, or NULL.
 */
char *kernel_default(void);
#define KERNEL_MISSING                                                         \
	"no guest kernel: give --kernel FILE, or build the project's with "    \
	"'" BULKHEAD_DATADIR                                                   \
	"/kernel/build' (in the source tree: ./bootstrap "                     \
	"kernel)"

#endif
