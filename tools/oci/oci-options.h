/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options as runc has them. Most are the host's runtime's: they are checked by
 * name alone and passed on as they are.
 */
#ifndef TOOLS_OCI_OCI_OPTIONS_H
#define TOOLS_OCI_OCI_OPTIONS_H

#include "tools/cli/text-list.h"

#include <stdbool.h>
#include <stddef.h>

enum oci_option_kind {
	OCI_PASS_FLAG,  /* for the host's runtime */
	OCI_PASS_VALUE, /* the same, with a value */
	OCI_PASS_PATH,  /* a file's, which gets absolute */
	OCI_OWN_FLAG,   /* a bool */
	OCI_OWN_VALUE,  /* a const char *, borrowed from argv */
	OCI_OWN_LIST,   /* a struct text_list */
};

struct oci_option {
	const char *name; /* NULL ends the table */
	char letter;      /* 0: none */
	enum oci_option_kind kind;
	size_t to; /* of an own one: the member's place */
};

/*
 * Reads the options before the first operand, whose index in ARGV it gives, or
 * -errno, logged. INTO has the own ones; PASS gets the others.
 */
int oci_options_parse(const struct oci_option *table, void *into,
		      struct text_list *pass, int argc, char **argv);

/* --preserve-fds N, or NULL: a guest can be given none. 0 or -ENOTSUP. */
int oci_check_fds(const char *fds);

#endif
