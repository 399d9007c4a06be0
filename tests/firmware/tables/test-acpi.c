/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ACPI tables: pointers, sums, the fields Linux acts on, and, where iasl is
 * installed, that the DSDT disassembles to the devices it should hold.
 */
#include "firmware/tables/acpi.h"

#include "firmware/machine.h"
#include "tests/tempdir.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct machine make_machine(unsigned cpus, unsigned nvirtio)
{
	struct machine m = {.cpus = cpus, .nvirtio = nvirtio, .serial = true};

	for (unsigned i = 0; i < nvirtio; i++)
		m.virtio[i] = (struct machine_virtio){
			.base = MACHINE_VIRTIO_BASE + i * MACHINE_VIRTIO_STRIDE,
			.bytes = 0x1000,
			.gsi = 5 + (i < 18 ? i : 18), /* the rest share */
		};
	return m;
}

static uint64_t field(const uint8_t *at, size_t bytes)
{
	uint64_t value = 0;

	memcpy(&value, at, bytes);
	return value;
}

static uint8_t sum(const uint8_t *data, size_t len)
{
	uint8_t total = 0;

	while (len-- > 0)
		total += *data++;
	return total;
}

struct tables {
	uint8_t buf[MACHINE_ACPI_MAX];
	int used;
	const uint8_t *fadt, *madt, *dsdt;
};

/* The table at GPA, which has to be whole and of this signature. */
static const uint8_t *table_at(const struct tables *t, uint64_t gpa,
			       const char *signature)
{
	const uint64_t offset = gpa - MACHINE_ACPI;
	const uint8_t *table = t->buf + offset;

	assert_true(gpa >= MACHINE_ACPI && offset + 36 <= (uint64_t)t->used);
	assert_memory_equal(table, signature, 4);
	assert_true(offset + field(table + 4, 4) <= (uint64_t)t->used);
	assert_int_equal(sum(table, field(table + 4, 4)), 0);
	return table;
}

static void build(struct tables *t, const struct machine *machine)
{
	const uint8_t *rsdp = t->buf, *xsdt;

	memset(t->buf, 0xff, sizeof(t->buf));
	t->used = acpi_build(machine, MACHINE_ACPI, t->buf, sizeof(t->buf));
	assert_true(t->used > 0);
	assert_memory_equal(rsdp, "RSD PTR ", 8);
	assert_int_equal(rsdp[15], 2);
	assert_int_equal(field(rsdp + 16, 4), 0); /* no RSDT */
	assert_int_equal(field(rsdp + 20, 4), 36);
	assert_int_equal(sum(rsdp, 20), 0);
	assert_int_equal(sum(rsdp, 36), 0);
	xsdt = table_at(t, field(rsdp + 24, 8), "XSDT");
	assert_int_equal(field(xsdt + 4, 4), 36 + 2 * 8);
	t->fadt = table_at(t, field(xsdt + 36, 8), "FACP");
	t->madt = table_at(t, field(xsdt + 44, 8), "APIC");
	t->dsdt = table_at(t, field(t->fadt + 140, 8), "DSDT");
	assert_int_equal(field(t->fadt + 40, 4), field(t->fadt + 140, 8));
}

static void assert_port(const uint8_t *address, uint64_t number)
{
	assert_int_equal(address[0], 1); /* system I/O */
	assert_int_equal(address[1], 8);
	assert_int_equal(field(address + 4, 8), number);
}

static void test_fadt(void **state)
{
	static struct tables t;
	const struct machine m = make_machine(1, 2);

	(void)state;
	build(&t, &m);
	assert_int_equal(field(t.fadt + 4, 4), 276);
	assert_int_equal(t.fadt[8], 6);
	assert_int_equal(t.fadt[131], 4);
	assert_true(field(t.fadt + 112, 4) & 1u << 20); /* hardware-reduced */
	assert_true(field(t.fadt + 112, 4) & 1u << 10); /* reset register */
	assert_port(t.fadt + 116, MACHINE_PM_RESET);
	assert_int_equal(t.fadt[128], MACHINE_RESET_VALUE);
	assert_port(t.fadt + 244, MACHINE_PM_SLEEP_CTRL);
	assert_port(t.fadt + 256, MACHINE_PM_SLEEP_STATUS);
	/* no VGA, no MSI, no CMOS clock, no 8042 */
	assert_int_equal(field(t.fadt + 109, 2), 0x2c);
}

static void test_madt(void **state)
{
	static struct tables t;
	const struct machine m = make_machine(32, 0);
	unsigned cpus = 0, ioapics = 0, nmis = 0;
	const uint8_t *p, *end;

	(void)state;
	build(&t, &m);
	assert_int_equal(field(t.madt + 36, 4), MACHINE_LAPIC);
	end = t.madt + field(t.madt + 4, 4);
	for (p = t.madt + 44; p < end; p += p[1]) {
		assert_true(p[1] >= 6 && p + p[1] <= end);
		if (p[0] == 0) {
			assert_int_equal(p[3], cpus++);
			assert_int_equal(field(p + 4, 4), 1);
		} else if (p[0] == 1) {
			assert_int_equal(field(p + 4, 4), MACHINE_IOAPIC);
			assert_int_equal(field(p + 8, 4), 0);
			ioapics++;
		} else {
			assert_int_equal(p[0], 4);
			nmis++;
		}
	}
	assert_int_equal(cpus, 32);
	assert_int_equal(ioapics, 1);
	assert_int_equal(nmis, 1);
}

/* Whether the DSDT holds these bytes. */
static bool dsdt_has(const struct tables *t, const void *bytes, size_t len)
{
	return memmem(t->dsdt, field(t->dsdt + 4, 4), bytes, len) != NULL;
}

static void test_dsdt_bytes(void **state)
{
	/* Memory32Fixed at 0xd0001000, then Interrupt 6: edge, high */
	static const uint8_t crs[] = {0x86, 9,    0, 1, 0x00, 0x10, 0x00, 0xd0,
				      0x00, 0x10, 0, 0, 0x89, 6,    0,    3,
				      1,    6,    0, 0, 0,    0x79, 0};
	static const uint8_t com1[] = {0x0c, 0x41, 0xd0, 0x05, 0x01};
	/* Package (2) {0xd0040000, 0}: the address that Linux puts together */
	static const uint8_t number[] = {'A',  'D', 'D',  'R', 0x12, 0x8e, 0,
					 0,    2,   0x0c, 0,   0,    4,    0xd0,
					 0x0c, 0,   0,    0,   0};
	/* Interrupt 3: edge, high, of the Generic Event Device alone */
	static const uint8_t event[] = {0x89, 6, 0, 3, 1, 3, 0, 0, 0};
	static struct tables t;
	struct machine m = make_machine(1, 2);

	(void)state;
	build(&t, &m);
	assert_true(dsdt_has(&t, crs, sizeof(crs)));
	assert_true(dsdt_has(&t, "LNRO0005", 9));
	assert_true(dsdt_has(&t, "QEMU0001", 9));
	assert_true(dsdt_has(&t, com1, sizeof(com1)));
	assert_true(dsdt_has(&t, "VM_Gen_Counter", 15));
	assert_true(dsdt_has(&t, number, sizeof(number)));
	assert_true(dsdt_has(&t, event, sizeof(event)));
	m.serial = false;
	m.nvirtio = 0;
	build(&t, &m);
	assert_false(dsdt_has(&t, com1, sizeof(com1)));
	assert_false(dsdt_has(&t, "LNRO0005", 9));
}

static void test_space(void **state)
{
	static struct tables t;
	const struct machine m = make_machine(32, MACHINE_VIRTIO_MAX);
	const size_t largest = MACHINE_ACPI_MAX;

	(void)state;
	build(&t, &m);
	assert_true(t.used < (int)largest);
	for (int bytes = 0; bytes < t.used; bytes += 37) {
		uint8_t *exact = malloc(bytes ? (size_t)bytes : 1);

		assert_non_null(exact);
		assert_int_equal(
			acpi_build(&m, MACHINE_ACPI, exact, (size_t)bytes),
			-ENOSPC);
		free(exact);
	}
}

static void write_file(const char *dir, const char *name, const uint8_t *data)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(data, field(data + 4, 4), 1, f), 1);
	fclose(f);
}

/* iasl finds the devices again, and compiles what it disassembled. */
static void test_iasl(void **state)
{
	static struct tables t;
	static const char script[] =
		"cd '%s' || exit 1; out=$(iasl -d FACP APIC 2>&1) || exit 2; "
		"case $out in *rror*|*nvalid*) exit 3;; esac; "
		"iasl -d DSDT >/dev/null 2>&1 || exit 4; "
		"test $(grep -c LNRO0005 DSDT.dsl) = %u || exit 5; "
		"test $(grep -c 'ActiveHigh, Exclusive' DSDT.dsl) = 19 ||"
		"	exit 6; "
		"grep -q 'Notify (VGEN, 0x80)' DSDT.dsl || exit 10; "
		"grep -q 'Edge, ActiveHigh, Shared' DSDT.dsl || exit 9; "
		"grep -q 'Name (_S5, Package (0x04)' DSDT.dsl || exit 7; "
		"iasl DSDT.dsl >/dev/null 2>&1 || exit 8";
	const struct machine m = make_machine(32, MACHINE_VIRTIO_MAX);
	char dir[TEMPDIR_ROOM], command[1024];
	int status;

	(void)state;
	if (system("command -v iasl >/dev/null") != 0)
		skip();
	build(&t, &m);
	tempdir_name(dir);
	assert_non_null(mkdtemp(dir));
	write_file(dir, "DSDT", t.dsdt);
	write_file(dir, "FACP", t.fadt);
	write_file(dir, "APIC", t.madt);
	snprintf(command, sizeof(command), script, dir, MACHINE_VIRTIO_MAX);
	status = system(command);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	assert_int_equal(system(command), 0);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fadt),       cmocka_unit_test(test_madt),
		cmocka_unit_test(test_dsdt_bytes), cmocka_unit_test(test_space),
		cmocka_unit_test(test_iasl),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
