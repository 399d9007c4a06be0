/* SPDX-License-Identifier: Apache-2.0 */
/* Copies what a directory holds to the file system that is mounted on it. */
#ifndef FIRMWARE_INIT_COPY_UP_H
#define FIRMWARE_INIT_COPY_UP_H

#include "firmware/init/failure.h"

#include <stdbool.h>

/* runc's option of a tmpfs (podman gives it with --tmpfs). */
#define COPY_UP_OPTION "tmpcopyup"

/*
 * Takes that word out of OPTIONS, words with commas between. True: it was
 * among them.
 */
bool copy_up_wanted(char *options);

/*
 * Copies files, directories, links with owners, modes and times from PATH,
 * which is resolved inside of ROOT, to the directory MOUNT, attached or not. No
 * such directory is as good as an empty one. Sockets and devices are left out,
 * hard links become files of their own. MOUNT gets PATH's owner, unless it has
 * another than root. Forks once, and waits for that process.
 * 0, or -1 with the failure filled in.
 */
int copy_up(int root, const char *path, int mount, struct init_failure *f);

#endif
