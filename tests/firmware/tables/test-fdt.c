/* SPDX-License-Identifier: Apache-2.0 */
/* The device tree, read back by libfdt: what Linux looks for is there. */
#include "firmware/tables/fdt.h"

#include "firmware/machine.h"

#include <errno.h>
#include <libfdt.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct machine large_machine(void)
{
	struct machine m = {
		.cpus = 32,
		.ram = {{0, 0xc0000000}, {UINT64_C(0x100000000), 0x40000000}},
		.nram = 2,
		.nvirtio = MACHINE_VIRTIO_MAX,
		.serial = true,
		.command_line = "root=/dev/vda quiet",
		.initrd_gpa = 0x7f000000,
		.initrd_bytes = 0x123456,
	};

	for (unsigned i = 0; i < m.nvirtio; i++)
		m.virtio[i] = (struct machine_virtio){
			.base = MACHINE_VIRTIO_BASE + i * MACHINE_VIRTIO_STRIDE,
			.bytes = 0x1000,
			.gsi = 5 + i,
		};
	return m;
}

static uint32_t cell_at(const void *fdt, const char *path, const char *name,
			unsigned index)
{
	int len, node = fdt_path_offset(fdt, path);
	const uint32_t *cells = fdt_getprop(fdt, node, name, &len);

	if (!cells || len < (int)((index + 1) * sizeof(*cells)))
		fail_msg("%s has no cell %u of %s", path, index, name);
	return fdt32_to_cpu(cells[index]);
}

static void assert_text(const void *fdt, const char *path, const char *name,
			const char *value)
{
	int node = fdt_path_offset(fdt, path);
	const char *text = fdt_getprop(fdt, node, name, NULL);

	assert_non_null(text);
	assert_string_equal(text, value);
}

static void assert_reg(const void *fdt, const char *path, unsigned pair,
		       uint64_t base, uint64_t bytes)
{
	const unsigned at = pair * 4;

	assert_int_equal(cell_at(fdt, path, "reg", at), base >> 32);
	assert_int_equal(cell_at(fdt, path, "reg", at + 1), base & UINT32_MAX);
	assert_int_equal(cell_at(fdt, path, "reg", at + 2), bytes >> 32);
	assert_int_equal(cell_at(fdt, path, "reg", at + 3), bytes & UINT32_MAX);
}

static int count_compatible(const void *fdt, const char *compatible)
{
	int node = -1, count = 0;

	for (;;) {
		node = fdt_node_offset_by_compatible(fdt, node, compatible);
		if (node < 0)
			return count;
		count++;
	}
}

static void test_fits_and_is_valid(void **state)
{
	static uint8_t buf[MACHINE_DTB_MAX];
	const struct machine m = large_machine();
	const int n = fdt_build(&m, buf, sizeof(buf));

	(void)state;
	assert_true(n > 0);
	assert_int_equal(fdt_check_full(buf, (size_t)n), 0);
	assert_int_equal(fdt_totalsize(buf), n);
	assert_text(buf, "/", "compatible", "bulkhead,microvm");
	assert_int_equal(fdt_address_cells(buf, 0), 2);
	assert_int_equal(fdt_size_cells(buf, 0), 2);
}

static void test_ram_and_chosen(void **state)
{
	static uint8_t buf[MACHINE_DTB_MAX];
	struct machine m = large_machine();

	(void)state;
	assert_true(fdt_build(&m, buf, sizeof(buf)) > 0);
	assert_text(buf, "/memory@0", "device_type", "memory");
	assert_reg(buf, "/memory@0", 0, 0, 0xc0000000);
	assert_reg(buf, "/memory@0", 1, UINT64_C(0x100000000), 0x40000000);
	assert_text(buf, "/chosen", "bootargs", m.command_line);
	assert_int_equal(cell_at(buf, "/chosen", "linux,initrd-start", 1),
			 0x7f000000);
	assert_int_equal(cell_at(buf, "/chosen", "linux,initrd-end", 1),
			 0x7f123456);
	m.initrd_bytes = 0;
	m.nram = 1;
	assert_true(fdt_build(&m, buf, sizeof(buf)) > 0);
	assert_null(fdt_getprop(buf, fdt_path_offset(buf, "/chosen"),
				"linux,initrd-start", NULL));
}

static void test_cpus(void **state)
{
	static uint8_t buf[MACHINE_DTB_MAX];
	const struct machine m = large_machine();
	char path[32];

	(void)state;
	assert_true(fdt_build(&m, buf, sizeof(buf)) > 0);
	for (unsigned i = 0; i < m.cpus; i++) {
		snprintf(path, sizeof(path), "/cpus/cpu@%x", i);
		assert_int_equal(cell_at(buf, path, "reg", 0), i);
		assert_text(buf, path, "device_type", "cpu");
	}
	assert_true(fdt_path_offset(buf, "/cpus/cpu@20") < 0);
	assert_int_equal(cell_at(buf, "/cpus", "#size-cells", 0), 0);
}

static void test_devices(void **state)
{
	static uint8_t buf[MACHINE_DTB_MAX];
	static const char ioapic[] = "/interrupt-controller@fec00000";
	static const char vmgenid[] = "/vmgenid@d0040000";
	struct machine m = large_machine();
	char path[64];

	(void)state;
	assert_true(fdt_build(&m, buf, sizeof(buf)) > 0);
	for (unsigned i = 0; i < m.nvirtio; i++) {
		snprintf(path, sizeof(path), "/virtio_mmio@%llx",
			 (unsigned long long)m.virtio[i].base);
		assert_text(buf, path, "compatible", "virtio,mmio");
		assert_reg(buf, path, 0, m.virtio[i].base, 0x1000);
		assert_int_equal(cell_at(buf, path, "interrupts", 0), 5 + i);
		/* edge, rising: what an irqfd delivers */
		assert_int_equal(cell_at(buf, path, "interrupts", 1), 3);
	}
	assert_int_equal(count_compatible(buf, "virtio,mmio"), m.nvirtio);
	assert_int_equal(cell_at(buf, ioapic, "#interrupt-cells", 0), 2);
	assert_int_equal(cell_at(buf, ioapic, "phandle", 0),
			 cell_at(buf, "/", "interrupt-parent", 0));
	assert_int_equal(count_compatible(buf, "intel,ce4100-ioapic"), 1);
	assert_int_equal(count_compatible(buf, "qemu,pvpanic-mmio"), 1);
	assert_text(buf, vmgenid, "compatible", "microsoft,vmgenid");
	assert_reg(buf, vmgenid, 0, MACHINE_VMGENID, 16);
	assert_int_equal(cell_at(buf, vmgenid, "interrupts", 0), 3);
	assert_int_equal(cell_at(buf, vmgenid, "interrupts", 1), 3);
	m.nvirtio = 0;
	assert_true(fdt_build(&m, buf, sizeof(buf)) > 0);
	assert_int_equal(count_compatible(buf, "virtio,mmio"), 0);
}

/* The kernel writes the poweroff's value to its register. */
static void test_poweroff(void **state)
{
	static uint8_t buf[MACHINE_DTB_MAX];
	const struct machine m = large_machine();
	int node;

	(void)state;
	assert_true(fdt_build(&m, buf, sizeof(buf)) > 0);
	assert_text(buf, "/poweroff", "compatible", "syscon-poweroff");
	assert_int_equal(cell_at(buf, "/poweroff", "value", 0), MACHINE_S5);
	assert_int_equal(cell_at(buf, "/poweroff", "offset", 0),
			 MACHINE_PM_MMIO_POWEROFF);
	node = fdt_node_offset_by_phandle(
		buf, cell_at(buf, "/poweroff", "regmap", 0));
	assert_int_equal(fdt_node_check_compatible(buf, node, "syscon"), 0);
}

static void test_refusals(void **state)
{
	static uint8_t buf[MACHINE_DTB_MAX];
	struct machine m = large_machine();
	const int n = fdt_build(&m, buf, sizeof(buf));

	(void)state;
	for (int bytes = 0; bytes < n; bytes += 61)
		assert_int_equal(fdt_build(&m, buf, (size_t)bytes), -ENOSPC);
	m.command_line = NULL;
	assert_int_equal(fdt_build(&m, buf, sizeof(buf)), -EINVAL);
	m = large_machine();
	m.cpus = 0;
	assert_int_equal(fdt_build(&m, buf, sizeof(buf)), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fits_and_is_valid),
		cmocka_unit_test(test_ram_and_chosen),
		cmocka_unit_test(test_cpus),
		cmocka_unit_test(test_devices),
		cmocka_unit_test(test_poweroff),
		cmocka_unit_test(test_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
