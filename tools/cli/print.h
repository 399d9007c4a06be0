/* SPDX-License-Identifier: Apache-2.0 */
/* How commands print JSON, for programs and safe on a terminal; and a date. */
#ifndef TOOLS_CLI_PRINT_H
#define TOOLS_CLI_PRINT_H

#include <stddef.h>
#include <stdint.h>

struct json_t;

/*
 * Prints JSON (jansson's) and a newline on standard output, FLAGS as for
 * json_dumps(). 0, or -ENOMEM, logged, when JSON is NULL, as it is where there
 * was no memory to make it, or when there is none now. A write that fails is
 * for main() to see.
 */
int print_json(const struct json_t *json, size_t flags)
	__attribute__((warn_unused_result));

/* "2026-11-30 09:30" of the SECONDS since 1970, here; "?": no such date. */
#define PRINT_DATE 32
void print_format_date(int64_t seconds, char ret[PRINT_DATE]);

#endif
