/* SPDX-License-Identifier: Apache-2.0 */
/* The MP table, walked as a kernel walks it (MP spec 1.4, chapter 4). */
#include "firmware/tables/mptable.h"

#include "firmware/machine.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define EBDA_BYTES 1024

static uint8_t sum(const uint8_t *data, size_t len)
{
	uint8_t total = 0;

	while (len-- > 0)
		total += *data++;
	return total;
}

static uint32_t field(const uint8_t *at, size_t bytes)
{
	uint32_t value = 0;

	memcpy(&value, at, bytes);
	return value;
}

struct found {
	unsigned cpus, boot_cpus, buses, ioapics, interrupts, locals;
	uint32_t pins; /* a bit for each line of the IOAPIC */
	uint8_t ioapic_id;
};

static void note_entry(const uint8_t *entry, struct found *found)
{
	switch (entry[0]) {
	case 0:
		assert_int_equal(entry[1], found->cpus);
		assert_true(entry[3] & 1);
		found->boot_cpus += entry[3] >> 1 & 1;
		found->cpus++;
		break;
	case 1:
		assert_memory_equal(entry + 2, "ISA   ", 6);
		found->buses++;
		break;
	case 2:
		assert_int_equal(field(entry + 4, 4), MACHINE_IOAPIC);
		assert_int_equal(entry[3], 1);
		found->ioapic_id = entry[1];
		found->ioapics++;
		break;
	case 3:
		assert_int_equal(entry[1], 0);
		assert_int_equal(field(entry + 2, 2), 5); /* high, edge */
		assert_int_equal(entry[5], entry[7]);
		assert_int_equal(entry[6], found->ioapic_id);
		found->pins |= UINT32_C(1) << entry[7];
		found->interrupts++;
		break;
	case 4:
		found->locals++;
		break;
	default:
		fail_msg("entry of type %u", entry[0]);
	}
}

static void walk(const uint8_t *buf, uint64_t gpa, size_t used,
		 struct found *found)
{
	const uint8_t *table = buf + 16, *entry = table + 44;
	const size_t length = field(table + 4, 2);

	assert_memory_equal(buf, "_MP_", 4);
	assert_int_equal(field(buf + 4, 4), gpa + 16);
	assert_int_equal(buf[8], 1);
	assert_int_equal(buf[9], 4);
	assert_int_equal(sum(buf, 16), 0);
	assert_int_equal(buf[11], 0); /* no default configuration */
	assert_memory_equal(table, "PCMP", 4);
	assert_int_equal(16 + length, used);
	assert_int_equal(sum(table, length), 0);
	assert_int_equal(field(table + 36, 4), MACHINE_LAPIC);
	*found = (struct found){0};
	for (unsigned i = 0; i < field(table + 34, 2); i++) {
		assert_true(entry < table + length);
		note_entry(entry, found);
		entry += entry[0] == 0 ? 20 : 8;
	}
	assert_ptr_equal(entry, table + length);
}

static void test_tables(void **state)
{
	static const unsigned counts[] = {1, 2, 32};
	uint8_t buf[EBDA_BYTES];
	struct found found;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		const struct machine m = {.cpus = counts[i]};
		int n;

		memset(buf, 0xff, sizeof(buf));
		n = mptable_build(&m, MACHINE_EBDA, buf, sizeof(buf));
		assert_true(n > 0);
		walk(buf, MACHINE_EBDA, (size_t)n, &found);
		assert_int_equal(found.cpus, counts[i]);
		assert_int_equal(found.boot_cpus, 1);
		assert_int_equal(found.buses, 1);
		assert_int_equal(found.ioapics, 1);
		assert_int_equal(found.locals, 2);
		/* every line but the cascade */
		assert_int_equal(found.pins, 0xfffffb);
		assert_int_equal(found.interrupts, 23);
		assert_true(found.ioapic_id >= counts[i]);
	}
}

/* As many CPUs as there can be still fit between the EBDA and 640 KiB. */
static void test_space(void **state)
{
	const struct machine m = {.cpus = 32};
	uint8_t buf[EBDA_BYTES];
	const int n = mptable_build(&m, MACHINE_EBDA, buf, sizeof(buf));

	(void)state;
	assert_true(MACHINE_EBDA + (uint64_t)n <= 0xa0000);
	assert_int_equal(mptable_build(&m, MACHINE_EBDA, buf, (size_t)n), n);
	assert_int_equal(mptable_build(&m, MACHINE_EBDA, buf, (size_t)n - 1),
			 -ENOSPC);
	assert_int_equal(mptable_build(&m, MACHINE_EBDA, buf, 0), -ENOSPC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tables),
		cmocka_unit_test(test_space),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
