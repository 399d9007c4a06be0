/* SPDX-License-Identifier: Apache-2.0 */
/* The number by which systemd, D-Bus and others tell machines (machine-id(5)).
 */
#ifndef FIRMWARE_INIT_MACHINE_ID_H
#define FIRMWARE_INIT_MACHINE_ID_H

#include <stdint.h>

#define MACHINE_ID_BYTES 16

/*
 * The container at ROOT, a clone that stands still, gets one that is made of
 * RANDOM, in all of its places that have the same one now; see machine-id.c.
 * How many files were written. Each stays as it is where the container has
 * none, where it is no machine ID, where it is the host's, or read-only.
 */
unsigned machine_id_renew(int root, const uint8_t random[MACHINE_ID_BYTES]);

#endif
