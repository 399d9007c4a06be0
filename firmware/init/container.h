/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container's own view: its root, the file systems below it, its name.
 * Runs in a process that is already in new namespaces, before its command.
 */
#ifndef FIRMWARE_INIT_CONTAINER_H
#define FIRMWARE_INIT_CONTAINER_H

#include "firmware/init/request.h"

/*
 * Makes the container's file systems and makes its root this process's. 0, or
 * -1 with the failure filled in.
 */
int container_enter(const struct init_config *config, struct init_failure *f);

/* Gives /dev/console of the container this terminal. 0 or -errno. */
int container_console(int tty);

#endif
