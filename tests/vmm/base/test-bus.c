/* SPDX-License-Identifier: Apache-2.0 */
/* The bus: ranges, overlaps, accesses that miss or straddle. */
#include "vmm/base/bus.h"

#include <errno.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

struct probe {
	uint64_t off;
	unsigned len, reads, writes;
	uint8_t data[8];
};

static void probe_read(void *dev, uint64_t off, void *buf, unsigned len)
{
	struct probe *p = dev;

	p->off = off;
	p->len = len;
	p->reads++;
	memset(buf, 0x42, len);
}

static void probe_write(void *dev, uint64_t off, const void *buf, unsigned len)
{
	struct probe *p = dev;

	p->off = off;
	p->len = len;
	p->writes++;
	memcpy(p->data, buf, len);
}

static const struct bus_ops ops = {"probe", probe_read, probe_write};
static const struct bus_ops write_only = {"mute", NULL, probe_write};

static void test_dispatch(void **state)
{
	struct bus bus = {0};
	struct probe a = {0}, b = {0}, c = {0};
	uint32_t value = 0x01020304, back = 0;

	(void)state;
	assert_int_equal(bus_add(&bus, BUS_MMIO, 0x2000, 0x100, &ops, &b), 0);
	assert_int_equal(bus_add(&bus, BUS_MMIO, 0x1000, 0x1000, &ops, &a), 0);
	assert_int_equal(bus_add(&bus, BUS_PORT, 0x1000, 8, &ops, &c), 0);
	bus_freeze(&bus);
	bus_write(&bus, BUS_MMIO, 0x1ffc, &value, 4);
	assert_int_equal(a.writes, 1);
	assert_int_equal(a.off, 0xffc);
	assert_memory_equal(a.data, &value, 4);
	bus_read(&bus, BUS_MMIO, 0x2000, &back, 4);
	assert_int_equal(b.reads, 1);
	assert_int_equal(back, 0x42424242);
	bus_read(&bus, BUS_PORT, 0x1007, &back, 1);
	assert_int_equal(c.reads, 1);
	assert_int_equal(c.off, 7);
	assert_int_equal(a.reads, 0);
}

static void test_miss_reads_ones(void **state)
{
	struct bus bus = {0};
	struct probe a = {0};
	uint64_t back = 0;

	(void)state;
	bus_read(&bus, BUS_MMIO, 0, &back, 8); /* an empty bus */
	assert_true(back == UINT64_MAX);
	assert_int_equal(bus_add(&bus, BUS_MMIO, 0x1000, 8, &ops, &a), 0);
	assert_int_equal(bus_add(&bus, BUS_PORT, 0x10, 1, &write_only, &a), 0);
	for (uint64_t addr = 0xff9; addr < 0x1010; addr++) {
		back = 0;
		if (addr == 0x1000)
			continue;
		bus_read(&bus, BUS_MMIO, addr, &back, 8);
		bus_write(&bus, BUS_MMIO, addr, &back, 8);
		assert_true(back == UINT64_MAX);
	}
	bus_read(&bus, BUS_MMIO, UINT64_MAX, &back, 8);
	back = 0;
	bus_read(&bus, BUS_PORT, 0x10, &back, 1); /* no read handler */
	assert_int_equal(back, 0xff);
	assert_int_equal(a.reads + a.writes, 0);
}

static void test_overlap(void **state)
{
	struct bus bus = {0};
	struct probe a = {0};

	(void)state;
	assert_int_equal(bus_add(&bus, BUS_PORT, 0x100, 0x10, &ops, &a), 0);
	assert_int_equal(bus_add(&bus, BUS_PORT, 0x100, 1, &ops, &a), -EEXIST);
	assert_int_equal(bus_add(&bus, BUS_PORT, 0x10f, 1, &ops, &a), -EEXIST);
	assert_int_equal(bus_add(&bus, BUS_PORT, 0xf8, 9, &ops, &a), -EEXIST);
	assert_int_equal(bus_add(&bus, BUS_PORT, 0xf8, 8, &ops, &a), 0);
	assert_int_equal(bus_add(&bus, BUS_PORT, 0x110, 1, &ops, &a), 0);
	assert_int_equal(bus_add(&bus, BUS_MMIO, 0x100, 0x10, &ops, &a), 0);
}

static void test_full(void **state)
{
	struct bus bus = {0};
	struct probe a = {0};

	(void)state;
	for (unsigned i = 0; i < BUS_MAX_RANGES; i++)
		assert_int_equal(bus_add(&bus, BUS_PORT, i, 1, &ops, &a), 0);
	assert_int_equal(bus_add(&bus, BUS_PORT, 0x8000, 1, &ops, &a), -ENOSPC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dispatch),
		cmocka_unit_test(test_miss_reads_ones),
		cmocka_unit_test(test_overlap),
		cmocka_unit_test(test_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
