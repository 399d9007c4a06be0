/* SPDX-License-Identifier: Apache-2.0 */
/* --trace boot: the option, and the table that it ends in. */
#ifndef TOOLS_CLI_TRACE_OPTION_H
#define TOOLS_CLI_TRACE_OPTION_H

#include <stdbool.h>
#include <stdio.h>

struct trace;

/*
 * Begins the trace that VALUE asks COMMAND for; NULL: none. As soon as all
 * options are read. 0, or an exit status: there is no such one, as a line says.
 */
int trace_option(const char *command, const char *value, struct trace **ret);

/* A table, or one line of JSON, on TO. */
void trace_print(const struct trace *trace, FILE *to, bool json);

/*
 * Ends TRACE: prints it on standard error, as a table or as one line of JSON,
 * and frees it. NULL is fine.
 */
void trace_finish(struct trace *trace, bool json);

#endif
