/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wall around the monitor: once everything is open, the process keeps only
 * the system calls a running VM needs, and no privilege. A guest that takes the
 * monitor over finds no file to open, no program to start, no socket to make.
 */
#ifndef VMM_SANDBOX_H
#define VMM_SANDBOX_H

/*
 * Drops all capabilities, forbids new ones and installs the system call filter
 * on every thread of the process. Cannot be undone. Main thread, before the
 * guest runs. 0 or -errno (logged).
 */
int sandbox_enter(void);

#endif
