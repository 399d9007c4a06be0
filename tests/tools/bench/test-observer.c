/* SPDX-License-Identifier: Apache-2.0 */
/* Which processes descend from a run's, and the marks that they come to. */
#include "tools/bench/bench-observer.h"
#include "vmm/base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define FORK(t, p, of)                                                         \
	{                                                                      \
		.time_ns = (t), .kind = OBSERVER_FORK, .pid = (p), .tid = (p), \
		.parent = (of)                                                 \
	}
#define NS(t, p, inode)                                                        \
	{                                                                      \
		.time_ns = (t), .kind = OBSERVER_NS, .pid = (p), .tid = (p),   \
		.ns = (inode)                                                  \
	}
#define EXEC(t, p)                                                             \
	{                                                                      \
		.time_ns = (t), .kind = OBSERVER_EXEC, .pid = (p), .tid = (p)  \
	}
#define ENTRY(t, p, thread)                                                    \
	{                                                                      \
		.time_ns = (t), .kind = OBSERVER_ENTRY, .pid = (p),            \
		.tid = (thread)                                                \
	}

static void find(struct observer_record *records, unsigned nrecords,
		 struct observer_run *run, unsigned count)
{
	assert_int_equal(observer_find(records, nrecords, run, count), 0);
}

/* As runc has it: the runtime, its init in the same namespace, PID 1. */
static void test_container(void **state)
{
	struct observer_record records[] = {
		FORK(1, 10, 1),  NS(1, 10, 7), EXEC(2, 10),
		FORK(3, 11, 10), NS(3, 11, 7), EXEC(4, 11),
		FORK(5, 12, 11), NS(5, 12, 8), EXEC(6, 12),
		FORK(7, 13, 12), NS(7, 13, 8), EXEC(8, 13),
		EXEC(9, 12),
	};
	struct observer_run run = {.pid = 10};

	(void)state;
	find(records, ARRAY_LEN(records), &run, 1);
	assert_int_equal(run.init_ns, 6);
	assert_int_equal(run.entry_ns, 0);
}

/* A monitor below a supervisor: its first thread only tries KVM. */
static void test_machine(void **state)
{
	struct observer_record records[] = {
		FORK(1, 10, 1),    NS(1, 10, 7),     EXEC(2, 10),
		FORK(3, 11, 10),   NS(3, 11, 7),     ENTRY(4, 11, 11),
		ENTRY(5, 99, 100), ENTRY(6, 11, 12), ENTRY(7, 11, 12),
	};
	struct observer_run run = {.pid = 10};

	(void)state;
	find(records, ARRAY_LEN(records), &run, 1);
	assert_int_equal(run.entry_ns, 6);
	assert_int_equal(run.init_ns, 0);
	/* Another's guest is known from then on. */
	assert_int_equal(records[5].kind, OBSERVER_ENTRY);
	assert_int_equal(records[6].kind, OBSERVER_OTHER);
}

/* Two at once, and another program's container beside them. */
static void test_several(void **state)
{
	struct observer_record records[] = {
		FORK(1, 10, 1),  NS(1, 10, 7),    FORK(2, 20, 1),  NS(2, 20, 7),
		FORK(3, 30, 2),  NS(3, 30, 7),    FORK(4, 31, 30), NS(4, 31, 9),
		EXEC(5, 31),     FORK(6, 21, 20), NS(6, 21, 8),    EXEC(7, 21),
		FORK(8, 11, 10), NS(8, 11, 6),    EXEC(9, 11),
	};
	struct observer_run run[] = {{.pid = 10}, {.pid = 20}};

	(void)state;
	find(records, ARRAY_LEN(records), run, 2);
	assert_int_equal(run[0].init_ns, 9);
	assert_int_equal(run[1].init_ns, 7);
}

/* A number that another program's process has now is not a run's any more. */
static void test_reuse(void **state)
{
	struct observer_record records[] = {
		FORK(1, 10, 1), NS(1, 10, 7), FORK(2, 11, 10),  NS(2, 11, 7),
		FORK(3, 11, 5), NS(3, 11, 7), ENTRY(4, 11, 12), FORK(5, 13, 11),
		NS(5, 13, 8),   EXEC(6, 13),
	};
	struct observer_run run = {.pid = 10};

	(void)state;
	find(records, ARRAY_LEN(records), &run, 1);
	assert_int_equal(run.entry_ns, 0);
	assert_int_equal(run.init_ns, 0);
}

/* A fault of process P, or of the guest that its thread runs. */
#define FAULT(t, p)                                                            \
	{                                                                      \
		.time_ns = (t), .kind = OBSERVER_FAULT, .pid = (p),            \
		.tid = (p) + 1                                                 \
	}

static unsigned add_faults(struct observer_record *records, unsigned count,
			   uint64_t from_ns, pid_t pid)
{
	for (unsigned i = 0; i < count; i++)
		records[i] = (struct observer_record)FAULT(from_ns + i, pid);
	return count;
}

/*
 * 100 faults from 1000 on, and another four at 5000: the 99th of 104 is the
 * first one after which 95 in a hundred are taken. Others' do not count, nor
 * those before exec and after the end.
 */
static void test_resident(void **state)
{
	struct observer_record records[256] = {FORK(1, 10, 1), FORK(2, 20, 1),
					       FORK(3, 11, 10)};
	struct observer_run run[] = {
		{.pid = 10, .from_ns = 500, .until_ns = 6000},
		{.pid = 20, .from_ns = 500, .until_ns = 6000},
	};
	unsigned n = 3;

	(void)state;
	n += add_faults(records + n, 20, 400, 10);
	n += add_faults(records + n, 50, 1000, 10);
	n += add_faults(records + n, 50, 1050, 11);
	n += add_faults(records + n, 50, 2000, 99);
	n += add_faults(records + n, OBSERVER_FAULTS_LEAST - 1, 4000, 20);
	n += add_faults(records + n, 4, 5000, 11);
	n += add_faults(records + n, 20, 7000, 10);
	find(records, n, run, 2);
	assert_int_equal(run[0].faults, 104);
	assert_int_equal(run[0].resident_ns, 1098);
	/* So few do not tell. */
	assert_int_equal(run[1].faults, OBSERVER_FAULTS_LEAST - 1);
	assert_int_equal(run[1].resident_ns, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_container),
		cmocka_unit_test(test_machine),
		cmocka_unit_test(test_several),
		cmocka_unit_test(test_reuse),
		cmocka_unit_test(test_resident),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
