/* SPDX-License-Identifier: Apache-2.0 */
/* The processes of a container, as AGENT_OWN_TOP has them. */
#ifndef FIRMWARE_INIT_TOP_H
#define FIRMWARE_INIT_TOP_H

#include <stdio.h>

/*
 * Writes them to OUT: all processes of PROC, a mounted procfs, that have a
 * number in the LEVELth PID namespace, counted from PROC's own, 1, and are in
 * the control group GROUP ("a/b"; NULL: in any) or one below. PASSWD: a
 * path to the file of users' names, or NULL. An exit status; what went wrong is
 * told on standard error.
 */
int top_print(FILE *out, const char *proc, unsigned level, const char *group,
	      const char *passwd);

#endif
