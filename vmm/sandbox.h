/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wall around the monitor: once everything is open, the process keeps only
 * the system calls a running VM needs, and no privilege. A guest that takes the
 * monitor over finds no file to open, no program to start, no socket to make.
 */
#ifndef VMM_SANDBOX_H
#define VMM_SANDBOX_H

#include <stdint.h>

/* Ends a list of system calls. */
#define SANDBOX_END UINT32_MAX

/*
 * Drops all capabilities, forbids new ones and installs the system call filter
 * on every thread of the process. LISTS are what devices need besides the calls
 * that every VM needs: NLISTS of them, each SYS_* up to SANDBOX_END, or NULL.
 * Cannot be undone. Main thread, before the guest runs. 0 or -errno (logged).
 */
int sandbox_enter(const uint32_t *const *lists, unsigned nlists);
/*
 * The same for the calling thread alone, before sandbox_enter(), which leaves
 * it as it is then. What of CAPABILITIES (bits by CAP_*) it has, it keeps; what
 * is on LIST (or NULL) it may call without regard to arguments.
 */
int sandbox_enter_thread(const uint32_t *list, uint64_t capabilities);

#endif
