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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_container),
		cmocka_unit_test(test_machine),
		cmocka_unit_test(test_several),
		cmocka_unit_test(test_reuse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
