/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Driver files: one for each runtime that `bulkhead bench` can measure. A line
 * is KEY = VALUE; lines that begin with a blank continue the value; '#' begins
 * a comment. docs/bulkhead-bench.1 (DRIVERS) has the keys.
 */
#ifndef TOOLS_BENCH_BENCH_DRIVER_H
#define TOOLS_BENCH_BENCH_DRIVER_H

#include "tools/cli/text-list.h"

#include <stdbool.h>

#define BENCH_DRIVER_END ".driver"
/* In the lab the slowest one, of an engine's image, takes a fifth of it. */
#define BENCH_DRIVER_LIMIT_S 300

/* All owned; NULL: the file does not say. */
struct bench_driver {
	char *name; /* the file's, without its end */
	char *file;
	char *title;
	char *operation; /* "cold", "warm", "clone", "restore", "pool" */
	char *isolation; /* "virtual machine", "namespaces", ... */
	char *needs;     /* words: root, kvm, kernel, no-hybrid, any-status */
	char *programs;  /* that have to be installed */
	char *note;
	char *limit;      /* see limit_s */
	unsigned limit_s; /* of each script */
	/* Scripts for sh. */
	char *check, *version, *prepare, *before, *stop, *processes, *remove;
	/* Templates: words with {PLACES} in them. */
	char *environment, *command, *trace;
};

/* Whether it has no more than letters, digits and +-_., and no '.' first. */
bool bench_driver_is_name(const char *name);

/* Reads a file. 0 or -errno, logged, with the line. */
int bench_driver_read(struct bench_driver *driver, const char *file);
void bench_driver_done(struct bench_driver *driver);
/* The key whose value VALUE is: one of DRIVER's pointers. */
const char *bench_driver_key(const struct bench_driver *driver,
			     const char *value);
/* Whether WORD is one of NEEDS. */
bool bench_driver_needs(const struct bench_driver *driver, const char *word);

/* ---- all of them */

struct bench_drivers {
	struct bench_driver *item;
	unsigned count;
};

/*
 * The drivers of the installation and of the user, one of the user's in place
 * of the installation's of the same name, and FILES (ends with NULL; may be
 * NULL), sorted by name. 0 or -errno, logged.
 */
int bench_drivers_find(struct bench_drivers *drivers, const char *const *files);
void bench_drivers_done(struct bench_drivers *drivers);
const struct bench_driver *
bench_drivers_get(const struct bench_drivers *drivers, const char *name);

/* ---- templates */

/* VALUE stands in a template for {NAME}. */
struct bench_place {
	const char *name;
	const char
		*value; /* NULL: there is none; a template that has it fails */
};

/*
 * Adds TEMPLATE's words to WORDS. They are separated by blanks; "..." and '...'
 * keep blanks in a word. Places end with one without a name. The word {command}
 * becomes the words of COMMAND. 0, -ENOMEM, or -EINVAL: a place is not known,
 * or a quotation does not end (logged, with WHAT, the driver's name).
 */
int bench_template(struct text_list *words, const char *what, const char *text,
		   const struct bench_place *places, char *const *command);

#endif
