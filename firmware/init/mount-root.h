/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In place of a kernel that has the drivers built in: mounts the root that the
 * kernel's command line names, and becomes its init.
 */
#ifndef FIRMWARE_INIT_MOUNT_ROOT_H
#define FIRMWARE_INIT_MOUNT_ROOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The command line's words about the root, NULL where it has none. Points into
 * it.
 */
struct root_words {
	const char *root, *type, *flags, *init;
	bool write;     /* "rw" came last, not "ro" */
	bool wait;      /* for the device, however long it takes */
	unsigned delay; /* seconds to wait before looking for it */
};

/*
 * Reads the command line TEXT as the kernel does: words, parts of which may be
 * in quotes, up to "--"; the last of two wins. Changes TEXT.
 */
void root_parse(char *text, struct root_words *ret);

/*
 * The file system that HEAD, the first LEN bytes of a device, begins; NULL:
 * none that is known here.
 */
#define ROOT_HEAD_BYTES 65664
const char *root_type(const uint8_t *head, size_t len);

/*
 * As PID 1, with "/modules/load" not loaded yet: does all of it. ARGV is handed
 * on to the root's init. Returns what PID 1 is to end with, on failure only;
 * the kernel's log says why.
 */
int root_mount_and_run(char **argv);

#endif
