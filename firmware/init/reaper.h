/* SPDX-License-Identifier: Apache-2.0 */
/* A PID 1 for programs that are none (AGENT_START_INIT). */
#ifndef FIRMWARE_INIT_REAPER_H
#define FIRMWARE_INIT_REAPER_H

#include <stdbool.h>

/*
 * The caller goes on as a child of this process, which stays to reap and to
 * pass signals on, and ends as the child does. TERMINAL: standard input is one,
 * and becomes the child's. 0 or -errno.
 */
int reaper_leave(bool terminal);

/*
 * The same for a program that is not ours: what the agent's own program does in
 * a container when its first argument is "--". The exit status.
 */
int reaper_run(char *const argv[]);

#endif
