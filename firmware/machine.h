/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine a guest sees, as plain data: addresses, interrupt lines, sizes.
 * The device tree, the ACPI tables and the boot parameters are derived from it
 * and from nothing else.
 */
#ifndef FIRMWARE_MACHINE_H
#define FIRMWARE_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Guest-physical layout. Below 1 MiB: what the VMM writes for the kernel. */
#define MACHINE_RESET_FLAG  UINT64_C(0x472) /* 2 bytes: the BIOS data area's */
#define MACHINE_GDT         UINT64_C(0x500)
#define MACHINE_PVH_INFO    UINT64_C(0x6000) /* one page */
#define MACHINE_BOOT_PARAMS UINT64_C(0x7000) /* one page */
#define MACHINE_PAGE_TABLES UINT64_C(0x9000) /* up to MACHINE_CMDLINE */
#define MACHINE_CMDLINE     UINT64_C(0x20000)
#define MACHINE_CMDLINE_MAX UINT64_C(0x1000)  /* bytes, NUL included */
#define MACHINE_DTB         UINT64_C(0x30000) /* setup_data header, then DTB */
#define MACHINE_DTB_MAX     UINT64_C(0x10000)
#define MACHINE_SCRATCH     UINT64_C(0x40000) /* a page, free at start */
#define MACHINE_EBDA        UINT64_C(0x9fc00) /* RAM ends; MP table here */
#define MACHINE_EBDA_BYTES  UINT64_C(0x400)
#define MACHINE_ACPI        UINT64_C(0xe0000) /* RSDP, then the tables */
#define MACHINE_ACPI_MAX    UINT64_C(0x10000)

/* Device addresses, between MEM_LOW_END and 4 GiB. */
#define MACHINE_VIRTIO_BASE   UINT64_C(0xd0000000)
#define MACHINE_VIRTIO_STRIDE UINT64_C(0x1000)
#define MACHINE_VMGENID       UINT64_C(0xd0040000) /* behind all of those */
#define MACHINE_VMGENID_BYTES 16                   /* of its page */
#define MACHINE_IRQ_VMGENID   3                    /* an edge: it has changed */
#define MACHINE_PVPANIC       UINT64_C(0xd1000000) /* one byte, MMIO */
#define MACHINE_PM_MMIO       UINT64_C(0xd1001000) /* the next two registers */
#define MACHINE_IOAPIC        UINT64_C(0xfec00000)
#define MACHINE_LAPIC         UINT64_C(0xfee00000)
#define MACHINE_TSS           UINT64_C(0xfffbd000) /* three pages for KVM */
#define MACHINE_IDENTITY_MAP  UINT64_C(0xfffbc000) /* one page for KVM */

/* Ports. */
#define MACHINE_PORT_SERIAL     0x3f8
#define MACHINE_IRQ_SERIAL      4     /* the line of COM1 */
#define MACHINE_PORT_I8042      0x60  /* and 0x64 */
#define MACHINE_PORT_EXIT       0xf4  /* a byte written ends the VM with it */
#define MACHINE_PORT_PM         0x600 /* ACPI reduced-hardware sleep control */
#define MACHINE_PM_SLEEP_CTRL   (MACHINE_PORT_PM + 0)
#define MACHINE_PM_SLEEP_STATUS (MACHINE_PORT_PM + 1)
#define MACHINE_PM_RESET        (MACHINE_PORT_PM + 2) /* MACHINE_RESET_VALUE */
#define MACHINE_RESET_VALUE     1
#define MACHINE_RESET_WARM      0x1234 /* in MACHINE_RESET_FLAG */
#define MACHINE_S5              5      /* SLP_TYP for power-off */

/*
 * The same for kernels without ACPI, which find it by the device tree: 32-bit
 * registers in MACHINE_PM_MMIO, reading zero. Any other value does nothing.
 */
#define MACHINE_PM_MMIO_BYTES    8
#define MACHINE_PM_MMIO_POWEROFF 0 /* offset; write MACHINE_S5 */
#define MACHINE_PM_MMIO_RESET    4 /* offset; write MACHINE_RESET_VALUE */

struct machine_range {
	uint64_t base, bytes;
};

struct machine_virtio {
	uint64_t base; /* of its MMIO registers */
	uint32_t bytes;
	uint32_t gsi;
};

#define MACHINE_VIRTIO_MAX 64
_Static_assert(MACHINE_VMGENID ==
		       MACHINE_VIRTIO_BASE +
			       MACHINE_VIRTIO_MAX * MACHINE_VIRTIO_STRIDE,
	       "one piece of memory has all pages");

struct machine {
	unsigned cpus;
	struct machine_range ram[2]; /* as mem.h lays it out */
	unsigned nram;
	struct machine_virtio virtio[MACHINE_VIRTIO_MAX];
	unsigned nvirtio;
	bool serial;              /* 16550 at MACHINE_PORT_SERIAL, IRQ 4 */
	const char *command_line; /* NUL-terminated, complete */
	uint64_t initrd_gpa, initrd_bytes; /* 0 bytes: none */
	uint32_t tsc_khz;                  /* 0: unknown */
};

#endif
