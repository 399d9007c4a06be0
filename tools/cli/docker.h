/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Docker's words that are not supported: a user who types them out of habit is
 * told why, and what to do instead.
 */
#ifndef TOOLS_CLI_DOCKER_H
#define TOOLS_CLI_DOCKER_H

/*
 * An option of `docker run`, by its NAME or (NAME NULL) its LETTER; NULL:
 * unknown.
 */
const char *docker_option(const char *name, int letter);

/* A command of Docker's; NULL: unknown. */
const char *docker_command(const char *name);

#endif
