/* SPDX-License-Identifier: Apache-2.0 */
/* How every subcommand reads its options and answers a wrong command line. */
#ifndef TOOLS_CLI_USAGE_H
#define TOOLS_CLI_USAGE_H

struct option; /* of <getopt.h> */

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
 * Reports an option that usage_next() could not make sense of, after it
 * answered RESULT ('?' or ':'). NAMES are the long options, for a suggestion;
 * ends with NULL.
 */
int usage_getopt(const char *command, int result, char **argv,
		 const char *const *names);

#endif
