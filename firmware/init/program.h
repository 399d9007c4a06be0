/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bulkhead-init, the static program that is PID 1 and agent in a container's
 * VM, as part of `bulkhead` itself: there is no file to install or to lose.
 */
#ifndef FIRMWARE_INIT_PROGRAM_H
#define FIRMWARE_INIT_PROGRAM_H

#include <stddef.h>

/* The executable file's bytes; constant, part of the program's image. */
const void *init_program(size_t *ret_bytes);

#endif
