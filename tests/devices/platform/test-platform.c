/* SPDX-License-Identifier: Apache-2.0 */
/* i8042, power management, exit port, pvpanic, VMGenID: what each one reports.
 */
#include "devices/platform/platform.h"

#include "firmware/machine.h"
#include "tests/tempdir.h"
#include "vmm/base/bus.h"
#include "vmm/base/log.h"
#include "vmm/base/stop.h"
#include "vmm/base/util.h"
#include "vmm/base/visit.h"

#include <stdio.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define DATA   0x60
#define STATUS 0x64
#define FULL   0x01

/* Puts the devices on the bus as vm.c does. */
struct machine_rig {
	struct bus bus;
	struct stop stop;
	struct i8042 i8042;
	struct vmgenid vmgenid;
	uint8_t page[4096]; /* VMGenID's */
};

static int setup(void **state)
{
	struct machine_rig *m = calloc(1, sizeof(*m));

	stop_init(&m->stop, NULL);
	i8042_init(&m->i8042, &m->stop);
	assert_int_equal(bus_add(&m->bus, BUS_PORT, MACHINE_PORT_I8042, 5,
				 &i8042_bus_ops, &m->i8042),
			 0);
	assert_int_equal(bus_add(&m->bus, BUS_PORT, MACHINE_PORT_EXIT, 1,
				 &exit_port_bus_ops, &m->stop),
			 0);
	assert_int_equal(bus_add(&m->bus, BUS_PORT, MACHINE_PORT_PM, 4,
				 &pm_bus_ops, &m->stop),
			 0);
	assert_int_equal(bus_add(&m->bus, BUS_MMIO, MACHINE_PM_MMIO,
				 MACHINE_PM_MMIO_BYTES, &pm_mmio_bus_ops,
				 &m->stop),
			 0);
	assert_int_equal(bus_add(&m->bus, BUS_MMIO, MACHINE_PVPANIC, 1,
				 &pvpanic_bus_ops, &m->stop),
			 0);
	assert_int_equal(vmgenid_init(&m->vmgenid, -1, m->page), 0);
	assert_int_equal(bus_add(&m->bus, BUS_MMIO, MACHINE_VMGENID,
				 sizeof(m->page), &vmgenid_bus_ops,
				 &m->vmgenid),
			 0);
	bus_freeze(&m->bus);
	*state = m;
	return 0;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

static void out(struct machine_rig *m, uint64_t port, uint8_t value)
{
	bus_write(&m->bus, BUS_PORT, port, &value, 1);
}

static uint8_t in(struct machine_rig *m, uint64_t port)
{
	uint8_t value = 0xee;

	bus_read(&m->bus, BUS_PORT, port, &value, 1);
	return value;
}

static void check_stop(struct machine_rig *m, enum stop_reason want, int status)
{
	int is = -1;

	assert_int_equal(stop_reason(&m->stop, &is), want);
	if (want != STOP_NONE)
		assert_int_equal(is, status);
}

/* ---- i8042 ---- */

static uint8_t ask(struct machine_rig *m, uint8_t command)
{
	out(m, STATUS, command);
	assert_true(in(m, STATUS) & FULL);
	return in(m, DATA);
}

/* The commands of Linux's i8042 driver, in its order. */
static void test_detection(void **state)
{
	struct machine_rig *m = *state;
	uint8_t config;

	/* Not all ones (no controller), nothing to flush, never busy. */
	assert_int_equal(in(m, STATUS) & 0xe3, 0);
	config = ask(m, 0x20);
	assert_int_equal(ask(m, 0x20), config);
	assert_int_equal(ask(m, 0xaa), 0x55);
	out(m, STATUS, 0x60);
	out(m, DATA, config & (uint8_t)~0x01);
	assert_int_equal(ask(m, 0x20), config & ~0x01);
	/* The loop through the mouse port does not come back marked so. */
	out(m, STATUS, 0xd3);
	out(m, DATA, 0x5a);
	assert_int_equal(in(m, STATUS) & (FULL | 0x20), FULL);
	assert_int_not_equal(in(m, DATA), 0x5a);
	/* And its test says it is not there. */
	config = ask(m, 0xa9);
	assert_true(config != 0 && config != 0xfa && config != 0xff);
	assert_int_not_equal(ask(m, 0xab), 0);
	assert_false(in(m, STATUS) & FULL);
	check_stop(m, STOP_NONE, 0);
}

/* Between a command and its byte, with an answer that was not read. */
static void test_moved(void **state)
{
	struct machine_rig *m = *state;
	struct visitor save, load;

	out(m, STATUS, 0x7f);
	out(m, DATA, 0xab);
	out(m, STATUS, 0x3f); /* the answer waits */
	out(m, STATUS, 0x61); /* and so does this one's byte */
	visit_save(&save);
	i8042_visit(&m->i8042, &save);
	assert_int_equal(visit_end(&save), 0);
	i8042_init(&m->i8042, &m->stop);
	visit_load(&load, save.saved, save.bytes);
	i8042_visit(&m->i8042, &load);
	assert_int_equal(visit_end(&load), 0);
	visit_done(&load);
	visit_done(&save);
	assert_true(in(m, STATUS) & 0x08);
	assert_true(in(m, STATUS) & FULL);
	assert_int_equal(in(m, DATA), 0xab);
	out(m, DATA, 0xcd);
	assert_int_equal(ask(m, 0x21), 0xcd);
	assert_int_equal(ask(m, 0x3f), 0xab);
}

static void test_controller_commands(void **state)
{
	struct machine_rig *m = *state;

	out(m, STATUS, 0xa8);
	assert_int_equal(ask(m, 0x20) & 0x20, 0);
	out(m, STATUS, 0xa7);
	assert_int_equal(ask(m, 0x20) & 0x20, 0x20);
	out(m, STATUS, 0xae);
	assert_int_equal(ask(m, 0x20) & 0x10, 0);
	out(m, STATUS, 0xad);
	assert_int_equal(ask(m, 0x20) & 0x10, 0x10);
	out(m, STATUS, 0x7f);
	out(m, DATA, 0xab);
	assert_int_equal(ask(m, 0x3f), 0xab);
	out(m, STATUS, 0xd2);
	assert_true(in(m, STATUS) & 0x08);
	out(m, DATA, 0x77);
	assert_false(in(m, STATUS) & 0x08);
	assert_int_equal(in(m, DATA), 0x77);
	assert_int_equal(ask(m, 0xd0) & 1, 1);
	/* A20 on, no reset. */
	out(m, STATUS, 0xd1);
	out(m, DATA, 0xdf);
	/* A byte for the keyboard that is not there. */
	out(m, DATA, 0xfe);
	check_stop(m, STOP_NONE, 0);
}

static void test_keyboard_reset(void **state)
{
	struct machine_rig *m = *state;

	/* Pulsing no line, or others, does nothing. */
	out(m, STATUS, 0xff);
	out(m, STATUS, 0xfd);
	check_stop(m, STOP_NONE, 0);
	out(m, STATUS, 0xfe);
	check_stop(m, STOP_RESET, 0);
}

static void test_output_port_reset(void **state)
{
	struct machine_rig *m = *state;

	out(m, STATUS, 0xd1);
	out(m, DATA, 0xfe);
	check_stop(m, STOP_RESET, 0);
}

static void test_ports_between(void **state)
{
	struct machine_rig *m = *state;
	uint8_t wide[4];

	out(m, 0x61, 0xff);
	out(m, 0x62, 0xff);
	/* Bit 5 is what a loop on the PIT's output waits for. */
	assert_int_equal(in(m, 0x61), 0x20);
	assert_int_equal(in(m, 0x62), 0xff);
	bus_read(&m->bus, BUS_PORT, 0x61, wide, 4);
	assert_int_equal(wide[0], 0x20);
	assert_int_equal(wide[3] & FULL, 0);
}

/* Every command, with every kind of data after it: it answers or not. */
static void test_any_command(void **state)
{
	struct machine_rig *m = *state;

	for (unsigned command = 0; command < 256; command++) {
		for (unsigned data = 0; data < 256; data += 15) {
			out(m, STATUS, (uint8_t)command);
			out(m, DATA, (uint8_t)data);
			(void)in(m, DATA);
			(void)in(m, STATUS);
		}
	}
	check_stop(m, STOP_RESET, 0);
}

/* ---- power management ---- */

static void test_power_off(void **state)
{
	struct machine_rig *m = *state;

	assert_int_equal(in(m, MACHINE_PM_SLEEP_CTRL), 0);
	assert_int_equal(in(m, MACHINE_PM_SLEEP_STATUS), 0);
	/* Linux clears the wake status first. */
	out(m, MACHINE_PM_SLEEP_STATUS, 0x80);
	/* The type without SLP_EN, and another type, do nothing. */
	out(m, MACHINE_PM_SLEEP_CTRL, MACHINE_S5 << 2);
	out(m, MACHINE_PM_SLEEP_CTRL, 1 << 2 | 0x20);
	check_stop(m, STOP_NONE, 0);
	out(m, MACHINE_PM_SLEEP_CTRL, MACHINE_S5 << 2 | 0x20);
	check_stop(m, STOP_POWEROFF, 0);
}

static void test_acpi_reset(void **state)
{
	struct machine_rig *m = *state;

	out(m, MACHINE_PM_RESET, MACHINE_RESET_VALUE + 1);
	out(m, MACHINE_PM_RESET + 1, MACHINE_RESET_VALUE);
	check_stop(m, STOP_NONE, 0);
	out(m, MACHINE_PM_RESET, MACHINE_RESET_VALUE);
	check_stop(m, STOP_RESET, 0);
}

static void write32(struct machine_rig *m, uint64_t addr, uint32_t value)
{
	bus_write(&m->bus, BUS_MMIO, addr, &value, sizeof(value));
}

/* As Linux's syscon-poweroff does it: read, change, write 32 bits. */
static void test_mmio_power_off(void **state)
{
	struct machine_rig *m = *state;
	uint32_t value = 1;

	bus_read(&m->bus, BUS_MMIO, MACHINE_PM_MMIO, &value, sizeof(value));
	assert_int_equal(value, 0);
	write32(m, MACHINE_PM_MMIO + MACHINE_PM_MMIO_POWEROFF, MACHINE_S5 + 1);
	write32(m, MACHINE_PM_MMIO + MACHINE_PM_MMIO_RESET, MACHINE_S5);
	check_stop(m, STOP_NONE, 0);
	write32(m, MACHINE_PM_MMIO + MACHINE_PM_MMIO_POWEROFF, MACHINE_S5);
	check_stop(m, STOP_POWEROFF, 0);
}

static void test_mmio_reset(void **state)
{
	struct machine_rig *m = *state;

	write32(m, MACHINE_PM_MMIO + MACHINE_PM_MMIO_RESET,
		MACHINE_RESET_VALUE);
	check_stop(m, STOP_RESET, 0);
}

/* ---- exit port, pvpanic ---- */

static void test_exit_port(void **state)
{
	struct machine_rig *m = *state;

	assert_int_equal(in(m, MACHINE_PORT_EXIT), 0xff);
	check_stop(m, STOP_NONE, 0);
	out(m, MACHINE_PORT_EXIT, 42);
	out(m, MACHINE_PORT_EXIT, 43);
	check_stop(m, STOP_EXIT, 42);
}

static void test_exit_port_wide(void **state)
{
	struct machine_rig *m = *state;
	const uint32_t status = 0x12345607;

	/* A range of one port: the device itself takes what it is given. */
	exit_port_bus_ops.write(&m->stop, 0, &status, 4);
	check_stop(m, STOP_EXIT, 7);
}

static void panic(struct machine_rig *m, uint8_t events)
{
	bus_write(&m->bus, BUS_MMIO, MACHINE_PVPANIC, &events, 1);
}

static void test_panic(void **state)
{
	struct machine_rig *m = *state;
	uint8_t supported = 0;

	bus_read(&m->bus, BUS_MMIO, MACHINE_PVPANIC, &supported, 1);
	assert_int_equal(supported, 0x07);
	panic(m, 0x00);
	panic(m, 0x80); /* of a later version: ignored */
	panic(m, 0x02); /* the guest handles it itself */
	check_stop(m, STOP_NONE, 0);
	panic(m, 0x01);
	check_stop(m, STOP_CRASH, 1);
}

static void test_panic_logged_once(void **state)
{
	struct machine_rig *m = *state;
	int saved = dup(STDERR_FILENO);
	FILE *file = tempdir_file();
	char text[200] = {0};

	fflush(stderr);
	dup2(fileno(file), STDERR_FILENO);
	for (unsigned i = 0; i < 100; i++)
		panic(m, 0x01 | 0x02);
	dup2(saved, STDERR_FILENO);
	close(saved);
	rewind(file);
	assert_int_not_equal(fread(text, 1, sizeof(text) - 1, file), 0);
	fclose(file);
	assert_string_equal(text, "bulkhead: warn: the guest panicked\n");
}

static void test_shut_down(void **state)
{
	struct machine_rig *m = *state;

	panic(m, 0x04);
	check_stop(m, STOP_POWEROFF, 0);
}

/* ---- VMGenID ---- */

/* The guest reads it, by accesses of WIDTH bytes. */
static void read_number(struct machine_rig *m, unsigned width,
			uint8_t number[MACHINE_VMGENID_BYTES])
{
	for (unsigned i = 0; i < MACHINE_VMGENID_BYTES; i += width)
		bus_read(&m->bus, BUS_MMIO, MACHINE_VMGENID + i, number + i,
			 width);
}

static void test_number(void **state)
{
	struct machine_rig *m = *state;
	uint8_t first[MACHINE_VMGENID_BYTES], again[sizeof(first)];
	uint64_t value = 0;

	read_number(m, 1, first);
	assert_memory_equal(first, m->page, sizeof(first));
	/* It cannot be written, and there is nothing behind it. */
	for (unsigned i = 0; i < sizeof(m->page); i += sizeof(value))
		bus_write(&m->bus, BUS_MMIO, MACHINE_VMGENID + i, &value, 8);
	read_number(m, 8, again);
	assert_memory_equal(again, first, sizeof(first));
	for (unsigned i = sizeof(first); i < sizeof(m->page); i += 8) {
		bus_read(&m->bus, BUS_MMIO, MACHINE_VMGENID + i, &value, 8);
		assert_int_equal(value, 0);
	}
}

/* The number is neither saved nor loaded. */
static void test_number_moved(void **state)
{
	struct machine_rig *m = *state;
	struct vmgenid other;
	uint8_t page[4096] = {0}, made[MACHINE_VMGENID_BYTES];
	struct visitor save, load;

	visit_save(&save);
	vmgenid_visit(&m->vmgenid, &save);
	assert_int_equal(visit_end(&save), 0);
	assert_null(memmem(save.saved, save.bytes, m->page, sizeof(made)));
	assert_int_equal(vmgenid_init(&other, -1, page), 0);
	memcpy(made, page, sizeof(made));
	assert_memory_not_equal(made, m->page, sizeof(made));
	visit_load(&load, save.saved, save.bytes);
	vmgenid_visit(&other, &load);
	assert_int_equal(visit_end(&load), 0);
	visit_done(&load);
	visit_done(&save);
	assert_memory_equal(made, page, sizeof(made));
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_detection),
		TEST(test_controller_commands),
		TEST(test_moved),
		TEST(test_keyboard_reset),
		TEST(test_output_port_reset),
		TEST(test_ports_between),
		TEST(test_any_command),
		TEST(test_power_off),
		TEST(test_acpi_reset),
		TEST(test_mmio_power_off),
		TEST(test_mmio_reset),
		TEST(test_exit_port),
		TEST(test_exit_port_wide),
		TEST(test_panic),
		TEST(test_panic_logged_once),
		TEST(test_shut_down),
		TEST(test_number),
		TEST(test_number_moved),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
