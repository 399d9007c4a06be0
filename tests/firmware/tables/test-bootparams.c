/* SPDX-License-Identifier: Apache-2.0 */
/* boot_params by the uapi header, PVH by the offsets of Xen's start_info.h. */
#include "firmware/tables/bootparams.h"

#include "firmware/machine.h"

#include <asm/bootparam.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define MIB UINT64_C(0x100000)

static struct machine small_machine(void)
{
	return (struct machine){
		.cpus = 1,
		.ram = {{0, 128 * MIB}},
		.nram = 1,
		.command_line = "quiet",
	};
}

static struct machine large_machine(void)
{
	struct machine m = small_machine();

	m.ram[0].bytes = 3072 * MIB;
	m.ram[1] = (struct machine_range){4096 * MIB, 1024 * MIB};
	m.nram = 2;
	m.initrd_gpa = UINT64_C(0x112345000);
	m.initrd_bytes = 0x23456;
	return m;
}

static void assert_entry(const struct boot_params *bp, unsigned index,
			 uint64_t base, uint64_t bytes, uint32_t type)
{
	assert_int_equal(bp->e820_table[index].addr, base);
	assert_int_equal(bp->e820_table[index].size, bytes);
	assert_int_equal(bp->e820_table[index].type, type);
}

static void test_plain_elf(void **state)
{
	const struct machine m = small_machine();
	struct boot_params bp;

	(void)state;
	memset(&bp, 0xff, sizeof(bp));
	assert_int_equal(bootparams_build(&m, NULL, 0, 0x30000, 0xe0000, &bp),
			 0);
	assert_int_equal(bp.hdr.boot_flag, 0xaa55);
	assert_memory_equal(&bp.hdr.header, "HdrS", 4);
	assert_true(bp.hdr.version >= 0x20c);
	assert_int_equal(bp.hdr.type_of_loader, 0xff);
	assert_int_equal(bp.hdr.loadflags, LOADED_HIGH);
	assert_int_equal(bp.hdr.cmd_line_ptr, MACHINE_CMDLINE);
	assert_int_equal(bp.hdr.setup_data, 0x30000);
	assert_int_equal(bp.acpi_rsdp_addr, 0xe0000);
	assert_int_equal(bp.hdr.ramdisk_size, 0);
	/* Otherwise the kernel thinks the page was not cleared. */
	assert_int_equal(bp.sentinel, 0);
	assert_int_equal(bp.screen_info.orig_video_isVGA, 0);
}

static void test_memory_map(void **state)
{
	struct machine m = small_machine();
	struct boot_params bp;

	(void)state;
	assert_int_equal(bootparams_build(&m, NULL, 0, 0, 0, &bp), 0);
	assert_int_equal(bp.e820_entries, 3);
	assert_entry(&bp, 0, 0, MACHINE_EBDA, 1);
	assert_entry(&bp, 1, MACHINE_EBDA, MIB - MACHINE_EBDA, 2);
	assert_entry(&bp, 2, MIB, 127 * MIB, 1);
	m = large_machine();
	assert_int_equal(bootparams_build(&m, NULL, 0, 0, 0, &bp), 0);
	assert_int_equal(bp.e820_entries, 4);
	assert_entry(&bp, 2, MIB, 3071 * MIB, 1);
	assert_entry(&bp, 3, 4096 * MIB, 1024 * MIB, 1);
}

static void test_initrd_above_4g(void **state)
{
	const struct machine m = large_machine();
	struct boot_params bp;

	(void)state;
	assert_int_equal(bootparams_build(&m, NULL, 0, 0, 0, &bp), 0);
	assert_int_equal(bp.hdr.ramdisk_image, 0x12345000);
	assert_int_equal(bp.ext_ramdisk_image, 1);
	assert_int_equal(bp.hdr.ramdisk_size, 0x23456);
	assert_int_equal(bp.ext_ramdisk_size, 0);
}

static void test_header_of_bzimage(void **state)
{
	const struct machine m = small_machine();
	struct setup_header hdr = {
		.boot_flag = 0xaa55,
		.version = 0x20d,
		.kernel_alignment = 0x200000,
		.setup_data = 0xdead,
		.cmd_line_ptr = 0xdead,
		.init_size = 0x1234,
	};
	uint8_t large[0x100] = {0};
	struct boot_params bp;

	(void)state;
	assert_int_equal(bootparams_build(&m, &hdr, sizeof(hdr), 0, 0, &bp), 0);
	assert_int_equal(bp.hdr.version, 0x20d);
	assert_int_equal(bp.hdr.kernel_alignment, 0x200000);
	assert_int_equal(bp.hdr.init_size, 0x1234);
	assert_int_equal(bp.hdr.setup_data, 0);
	assert_int_equal(bp.hdr.cmd_line_ptr, MACHINE_CMDLINE);
	/* A header that would reach into the fields behind it. */
	assert_int_equal(bootparams_build(&m, large, 0xa0, 0, 0, &bp), -EINVAL);
}

static void test_refusals(void **state)
{
	char line[MACHINE_CMDLINE_MAX + 1];
	struct machine m = small_machine();
	struct boot_params bp;
	uint8_t page[4096];

	(void)state;
	memset(line, 'x', sizeof(line));
	line[MACHINE_CMDLINE_MAX] = 0;
	m.command_line = line;
	assert_int_equal(bootparams_build(&m, NULL, 0, 0, 0, &bp), -EINVAL);
	assert_int_equal(bootparams_pvh(&m, MACHINE_PVH_INFO, 0, page, 4096),
			 -EINVAL);
	line[MACHINE_CMDLINE_MAX - 1] = 0;
	assert_int_equal(bootparams_build(&m, NULL, 0, 0, 0, &bp), 0);
	assert_int_equal(bootparams_pvh(&m, MACHINE_PVH_INFO, 0, page, 64),
			 -EINVAL);
	m.nram = 0;
	assert_int_equal(bootparams_build(&m, NULL, 0, 0, 0, &bp), -EINVAL);
	m.nram = 3;
	assert_int_equal(bootparams_build(&m, NULL, 0, 0, 0, &bp), -EINVAL);
}

static void test_dtb_node(void **state)
{
	uint8_t buf[sizeof(struct setup_data) + 4];
	struct setup_data node;

	(void)state;
	memset(buf, 0xee, sizeof(buf));
	bootparams_dtb_node(buf, 4);
	memcpy(&node, buf, sizeof(node));
	assert_int_equal(node.next, 0);
	assert_int_equal(node.type, SETUP_DTB);
	assert_int_equal(node.len, 4);
	assert_int_equal(buf[sizeof(node)], 0xee);
}

static uint64_t field(const uint8_t *page, size_t offset, size_t bytes)
{
	uint64_t value = 0;

	memcpy(&value, page + offset, bytes);
	return value;
}

static void test_pvh(void **state)
{
	const struct machine m = large_machine();
	const uint64_t gpa = MACHINE_PVH_INFO;
	uint8_t page[4096];
	const uint8_t *module, *map;

	(void)state;
	assert_int_equal(bootparams_pvh(&m, gpa, 0xe0000, page, sizeof(page)),
			 0);
	assert_int_equal(field(page, 0, 4), 0x336ec578); /* magic */
	assert_int_equal(field(page, 4, 4), 1);          /* version */
	assert_int_equal(field(page, 8, 4), 0);          /* flags */
	assert_int_equal(field(page, 12, 4), 1);         /* modules */
	assert_int_equal(field(page, 24, 8), MACHINE_CMDLINE);
	assert_int_equal(field(page, 32, 8), 0xe0000); /* RSDP */
	assert_int_equal(field(page, 48, 4), 4);       /* map entries */
	assert_in_range(field(page, 16, 8), gpa + 56, gpa + 4096 - 32);
	assert_in_range(field(page, 40, 8), gpa + 56, gpa + 4096 - 4 * 24);
	module = page + (field(page, 16, 8) - gpa);
	assert_int_equal(field(module, 0, 8), m.initrd_gpa);
	assert_int_equal(field(module, 8, 8), m.initrd_bytes);
	map = page + (field(page, 40, 8) - gpa);
	assert_int_equal(field(map, 0, 8), 0);
	assert_int_equal(field(map, 8, 8), MACHINE_EBDA);
	assert_int_equal(field(map, 16, 4), 1);
	assert_int_equal(field(map, 24 + 16, 4), 2);
	assert_int_equal(field(map, 3 * 24, 8), 4096 * MIB);
}

static void test_pvh_without_initrd(void **state)
{
	const struct machine m = small_machine();
	uint8_t page[4096];

	(void)state;
	assert_int_equal(
		bootparams_pvh(&m, MACHINE_PVH_INFO, 0, page, sizeof(page)), 0);
	assert_int_equal(field(page, 12, 4), 0);
	assert_int_equal(field(page, 16, 8), 0);
	assert_int_equal(field(page, 48, 4), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain_elf),
		cmocka_unit_test(test_memory_map),
		cmocka_unit_test(test_initrd_above_4g),
		cmocka_unit_test(test_header_of_bzimage),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_dtb_node),
		cmocka_unit_test(test_pvh),
		cmocka_unit_test(test_pvh_without_initrd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
