/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data that a kernel's first registers point to: Linux's boot_params ("zero
 * page", Documentation/arch/x86/boot.rst) or PVH's hvm_start_info.
 */
#ifndef FIRMWARE_TABLES_BOOTPARAMS_H
#define FIRMWARE_TABLES_BOOTPARAMS_H

#include <stddef.h>
#include <stdint.h>

struct machine;

/*
 * Writes boot_params (4096 bytes) to BUF. SETUP_HEADER: HEADER_BYTES of the
 * image's own setup header from offset 0x1f1 on, or 0 for a plain ELF. DTB_GPA:
 * where a setup_data node of type SETUP_DTB lies, or 0. RSDP_GPA: or 0. 0 or
 * -EINVAL. Pure.
 */
int bootparams_build(const struct machine *machine, const void *setup_header,
		     size_t header_bytes, uint64_t dtb_gpa, uint64_t rsdp_gpa,
		     void *buf);

/*
 * Writes a setup_data node of type SETUP_DTB around the DTB_BYTES that already
 * lie at BUF + sizeof(struct setup_data).
 */
void bootparams_dtb_node(void *buf, uint32_t dtb_bytes);

/*
 * Writes hvm_start_info, its module list and memory map (one page) to BUF, seen
 * by the guest at GPA. 0 or -EINVAL. Pure.
 */
int bootparams_pvh(const struct machine *machine, uint64_t gpa,
		   uint64_t rsdp_gpa, void *buf, size_t bytes);

#endif
