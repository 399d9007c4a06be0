/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPUs and IOAPIC as an Intel MultiProcessor table (MP spec 1.4), for kernels
 * without ACPI that take neither from the device tree.
 */
#ifndef FIRMWARE_TABLES_MPTABLE_H
#define FIRMWARE_TABLES_MPTABLE_H

#include <stddef.h>
#include <stdint.h>

struct machine;

/*
 * Writes the floating pointer and the table to BUF, which the guest will see at
 * GPA (16-byte aligned). The size used (> 0) or -ENOSPC. Pure.
 */
int mptable_build(const struct machine *machine, uint64_t gpa, void *buf,
		  size_t bytes);

#endif
