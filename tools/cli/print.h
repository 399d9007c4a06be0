/* SPDX-License-Identifier: Apache-2.0 */
/* How commands print JSON: for programs, and safe on a terminal. */
#ifndef TOOLS_CLI_PRINT_H
#define TOOLS_CLI_PRINT_H

#include <stddef.h>

struct json_t;

/*
 * Prints JSON (jansson's) and a newline on standard output, FLAGS as for
 * json_dumps(). 0, or -1 when there is none or no memory. A write that fails is
 * for main() to see.
 */
int print_json(const struct json_t *json, size_t flags);

#endif
