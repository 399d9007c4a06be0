/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot_params and hvm_start_info from the machine's description. Fields for
 * hardware that a boot loader would detect (video modes, disks, EFI) stay zero.
 */
#include "firmware/tables/bootparams.h"

#include "firmware/machine.h"

#include <asm/bootparam.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

_Static_assert(sizeof(struct boot_params) == 4096, "the zero page is a page");
_Static_assert(sizeof(struct setup_data) == 16, "the node's header");

#define BOOT_FLAG      0xaa55
#define HEADER_MAGIC   0x53726448 /* "HdrS" */
#define BOOT_PROTOCOL  0x020f     /* 2.15 */
#define LOADER_UNKNOWN 0xff
#define VIDEO_NORMAL   0xffff

#define E820_RAM      1
#define E820_RESERVED 2
#define ONE_MIB       UINT64_C(0x100000)
#define MAP_MAX       4 /* low RAM, the BIOS's hole, RAM, RAM above 4 GiB */

struct map_entry {
	uint64_t base, bytes;
	uint32_t type;
};

/*
 * The memory map, as short as it can be: the kernel walks it many times.
 * Addresses in none of its entries are not RAM; the one reserved entry keeps
 * kernels from putting devices over the tables between MACHINE_EBDA and 1 MiB.
 */
static int build_map(const struct machine *machine,
		     struct map_entry map[MAP_MAX], unsigned *ret_count)
{
	unsigned count = 2;

	if (machine->nram < 1 || machine->nram > 2 ||
	    machine->ram[0].base != 0 || machine->ram[0].bytes <= ONE_MIB)
		return -EINVAL;
	map[0] = (struct map_entry){0, MACHINE_EBDA, E820_RAM};
	map[1] = (struct map_entry){MACHINE_EBDA, ONE_MIB - MACHINE_EBDA,
				    E820_RESERVED};
	for (unsigned i = 0; i < machine->nram; i++) {
		const uint64_t skip = i == 0 ? ONE_MIB : 0;

		map[count++] = (struct map_entry){machine->ram[i].base + skip,
						  machine->ram[i].bytes - skip,
						  E820_RAM};
	}
	*ret_count = count;
	return 0;
}

static bool command_line_fits(const struct machine *machine)
{
	return machine->command_line &&
	       strnlen(machine->command_line, MACHINE_CMDLINE_MAX) <
		       MACHINE_CMDLINE_MAX;
}

/* The fields that a bzImage would have filled itself. */
static void default_header(struct setup_header *hdr)
{
	hdr->boot_flag = BOOT_FLAG;
	hdr->header = HEADER_MAGIC;
	hdr->version = BOOT_PROTOCOL;
	hdr->cmdline_size = MACHINE_CMDLINE_MAX - 1;
}

int bootparams_build(const struct machine *machine, const void *setup_header,
		     size_t header_bytes, uint64_t dtb_gpa, uint64_t rsdp_gpa,
		     void *buf)
{
	struct boot_params *bp = buf;
	struct map_entry map[MAP_MAX];
	unsigned count;
	int r;

	if (header_bytes > offsetof(struct boot_params, edd_mbr_sig_buffer) -
				   offsetof(struct boot_params, hdr) ||
	    !command_line_fits(machine))
		return -EINVAL;
	r = build_map(machine, map, &count);
	if (r < 0)
		return r;

	memset(bp, 0, sizeof(*bp));
	if (header_bytes)
		memcpy(&bp->hdr, setup_header, header_bytes);
	else
		default_header(&bp->hdr);
	bp->hdr.type_of_loader = LOADER_UNKNOWN;
	bp->hdr.loadflags |= LOADED_HIGH;
	bp->hdr.vid_mode = VIDEO_NORMAL;
	bp->hdr.cmd_line_ptr = MACHINE_CMDLINE;
	bp->hdr.setup_data = dtb_gpa;
	bp->acpi_rsdp_addr = rsdp_gpa;
	if (machine->initrd_bytes) {
		bp->hdr.ramdisk_image = (uint32_t)machine->initrd_gpa;
		bp->ext_ramdisk_image = (uint32_t)(machine->initrd_gpa >> 32);
		bp->hdr.ramdisk_size = (uint32_t)machine->initrd_bytes;
		bp->ext_ramdisk_size = (uint32_t)(machine->initrd_bytes >> 32);
	}
	for (unsigned i = 0; i < count; i++) {
		bp->e820_table[i] = (struct boot_e820_entry){
			map[i].base, map[i].bytes, map[i].type};
	}
	bp->e820_entries = (uint8_t)count;
	return 0;
}

void bootparams_dtb_node(void *buf, uint32_t dtb_bytes)
{
	const struct setup_data node = {.type = SETUP_DTB, .len = dtb_bytes};

	memcpy(buf, &node, sizeof(node));
}

/* Xen's public interface, arch-x86/hvm/start_info.h, version 1. */
#define PVH_MAGIC   0x336ec578
#define PVH_VERSION 1

struct pvh_start_info {
	uint32_t magic, version, flags, modules;
	uint64_t module_list, command_line, rsdp, map;
	uint32_t map_entries, reserved;
};

struct pvh_module {
	uint64_t base, bytes, command_line, reserved;
};

struct pvh_map_entry {
	uint64_t base, bytes;
	uint32_t type, reserved;
};

struct pvh_page {
	struct pvh_start_info info;
	struct pvh_module module;
	struct pvh_map_entry map[MAP_MAX];
};
_Static_assert(sizeof(struct pvh_start_info) == 56, "version 1");
_Static_assert(sizeof(struct pvh_module) == 32, "no padding");
_Static_assert(sizeof(struct pvh_map_entry) == 24, "no padding");

int bootparams_pvh(const struct machine *machine, uint64_t gpa,
		   uint64_t rsdp_gpa, void *buf, size_t bytes)
{
	struct pvh_page page = {0};
	struct map_entry map[MAP_MAX];
	unsigned count;
	int r;

	if (bytes < sizeof(page) || !command_line_fits(machine))
		return -EINVAL;
	r = build_map(machine, map, &count);
	if (r < 0)
		return r;

	page.info = (struct pvh_start_info){
		.magic = PVH_MAGIC,
		.version = PVH_VERSION,
		.command_line = MACHINE_CMDLINE,
		.rsdp = rsdp_gpa,
		.map = gpa + offsetof(struct pvh_page, map),
		.map_entries = count,
	};
	if (machine->initrd_bytes) {
		page.info.modules = 1;
		page.info.module_list = gpa + offsetof(struct pvh_page, module);
		page.module = (struct pvh_module){
			.base = machine->initrd_gpa,
			.bytes = machine->initrd_bytes,
		};
	}
	for (unsigned i = 0; i < count; i++) {
		page.map[i] = (struct pvh_map_entry){
			.base = map[i].base,
			.bytes = map[i].bytes,
			.type = map[i].type,
		};
	}
	memcpy(buf, &page, sizeof(page));
	return 0;
}
