/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options of the container commands, as tables: `run` has many and shares some
 * with `exec`. Reads the command line into a struct and prints the help.
 * (`boot` has its own way, as its options are those of a configuration.)
 */
#ifndef TOOLS_CLI_OPTIONS_H
#define TOOLS_CLI_OPTIONS_H

#include <stddef.h>

enum option_kind {
	OPTION_FLAG, /* bool; --x, --x=false */
	OPTION_TEXT, /* const char *, borrowed from argv; the last one counts */
	OPTION_LIST, /* struct option_list; adds up */
};

struct option_list {
	const char **item; /* owned list of borrowed texts */
	unsigned count;
};

struct option_entry {
	const char *name; /* NULL ends the table */
	char letter;      /* 0: none */
	const char *arg;  /* what the help calls its argument; NULL: none */
	enum option_kind kind;
	size_t offset;     /* of the member in the struct */
	const char *group; /* heading, where a new one begins */
	const char *help;  /* default in brackets */
};

struct option_table {
	const char *command;                /* "run" */
	const char *synopsis;               /* what --help prints first */
	const struct option_entry *entries; /* --help is there by itself */
	const char *notes;                  /* and last; NULL: nothing */
	/* Says why there is no such option, or NULL. May be NULL itself. */
	const char *(*refused)(const char *name, int letter);
};

#define OPTIONS_ERROR (-1) /* logged */
#define OPTIONS_HELP  (-2) /* printed */

/*
 * Reads options up to the first operand into the struct INTO, which holds the
 * defaults. The first operand's index in ARGV, or one of the above.
 */
int options_parse(const struct option_table *table, void *into, int argc,
		  char **argv);

/* Adds a borrowed text. 0 or -ENOMEM, logged. */
int option_list_add(struct option_list *list, const char *text);
void option_list_done(struct option_list *list);

#endif
