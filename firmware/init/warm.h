/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads files that a program's start will read: a machine that is saved
 * afterwards has them in its memory.
 */
#ifndef FIRMWARE_INIT_WARM_H
#define FIRMWARE_INIT_WARM_H

#include "firmware/init/request.h"

/*
 * The first of PATHS that is there below ROOT, the program; its interpreter and
 * the shared libraries that it names (ELF, DT_NEEDED), with theirs, where the
 * usual interpreters look for them; the lists of users and groups. None need be
 * there, nor be what it should be. Returns how many files were read.
 */
unsigned warm_program(int root, const struct init_strings *paths);

#endif
