/* SPDX-License-Identifier: Apache-2.0 */
/* The machine as a flattened device tree (libfdt; Devicetree spec 0.4). */
#ifndef FIRMWARE_TABLES_FDT_H
#define FIRMWARE_TABLES_FDT_H

#include <stddef.h>

struct machine;

/*
 * Writes the tree to BUF of BYTES. The size used (> 0), -ENOSPC, or -EINVAL.
 * Pure.
 */
int fdt_build(const struct machine *machine, void *buf, size_t bytes);

#endif
