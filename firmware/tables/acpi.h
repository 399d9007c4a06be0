/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine as ACPI tables (ACPI 6.4, hardware-reduced): RSDP, XSDT, FADT,
 * MADT, DSDT with the virtio-mmio devices as LNRO0005.
 */
#ifndef FIRMWARE_TABLES_ACPI_H
#define FIRMWARE_TABLES_ACPI_H

#include <stddef.h>
#include <stdint.h>

struct machine;

/*
 * Writes the tables to BUF, which the guest will see at GPA; the RSDP comes
 * first. The size used (> 0) or -ENOSPC. Pure.
 */
int acpi_build(const struct machine *machine, uint64_t gpa, void *buf,
	       size_t bytes);

#endif
