/* SPDX-License-Identifier: Apache-2.0 */
/* A process's environment as the options -e and --env-file have it. */
#ifndef TOOLS_CLI_ENV_H
#define TOOLS_CLI_ENV_H

#include "tools/cli/text-list.h"

/* -e: "NAME" alone takes this program's, if it has one. 0 or -errno, logged. */
int env_set_option(struct text_list *env, const char *text);
/*
 * --env-file: lines of the same, as Docker's command line reads them. 0 or
 * -errno, logged with the file's name and the line's number.
 */
int env_set_file(struct text_list *env, const char *path);

#endif
