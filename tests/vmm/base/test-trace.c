/* SPDX-License-Identifier: Apache-2.0 */
/* Points of several processes in one trace, by their times. */
#include "vmm/base/trace.h"

#include "vmm/base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

static void pass_ms(unsigned ms)
{
	const uint64_t end = util_now_ns() + ms * UINT64_C(1000000);

	while (util_now_ns() < end)
		;
}

static void expect(const struct trace_line *line, const char *name,
		   const char *process)
{
	assert_string_equal(line->name, name);
	assert_string_equal(line->process, process);
}

/* Its parent's trace has a child's points in their places. */
static void test_processes(void **state)
{
	struct trace_line lines[TRACE_POINTS];
	struct trace *trace = trace_new();
	pid_t child;

	(void)state;
	assert_non_null(trace);
	trace_mark(trace, TRACE_OPTIONS);
	pass_ms(2);
	trace_mark(trace, TRACE_FORKED);
	child = fork();
	if (child == 0) {
		pass_ms(2);
		trace_mark(trace, TRACE_RUN);
		_exit(0);
	}
	assert_int_equal(waitpid(child, NULL, 0), child);
	pass_ms(2);
	trace_mark(trace, TRACE_GREETED);
	/* It was there before. */
	trace_mark(trace, TRACE_FORKED);
	assert_int_equal(trace_lines(trace, lines), 5);
	expect(&lines[0], "exec", "supervisor");
	expect(&lines[1], "options read", "supervisor");
	expect(&lines[2], "monitor forked", "supervisor");
	expect(&lines[3], "first KVM_RUN", "monitor");
	expect(&lines[4], "agent greeted", "agent");
	assert_int_equal(lines[0].at_us, 0);
	for (unsigned i = 2; i < 5; i++) {
		assert_true(lines[i].took_us >= 2000);
		assert_int_equal(lines[i].at_us,
				 lines[i - 1].at_us + lines[i].took_us);
	}
	trace_free(trace);
}

/* Two that have begun alike: neither has what the other comes to then. */
static void test_copy(void **state)
{
	struct trace_line lines[TRACE_POINTS];
	struct trace *trace = trace_new();
	struct trace *copy;

	(void)state;
	assert_null(trace_copy(NULL));
	trace_mark(trace, TRACE_SAVED);
	copy = trace_copy(trace);
	assert_non_null(copy);
	pass_ms(1);
	trace_mark(trace, TRACE_OPTIONS);
	trace_mark(copy, TRACE_CLONE);
	assert_int_equal(trace_lines(copy, lines), 3);
	expect(&lines[1], "source saved", "monitor");
	expect(&lines[2], "clone forked", "monitor");
	assert_int_equal(trace_lines(trace, lines), 3);
	expect(&lines[2], "options read", "monitor");
	trace_free(copy);
	trace_free(trace);
}

/* Another program goes on with it, by the names of its points. */
static void test_taken(void **state)
{
	struct trace_line lines[TRACE_POINTS];
	struct trace *trace = trace_new(), *other = trace_new();

	(void)state;
	trace_mark(trace, TRACE_BUNDLE);
	for (unsigned i = 0; i < TRACE_POINTS; i++) {
		assert_non_null(trace_name(i));
		for (unsigned k = 0; k < i; k++)
			assert_string_not_equal(trace_name(i), trace_name(k));
		trace_set(other, i, trace_get(trace, i));
	}
	trace_mark(other, TRACE_INIT);
	trace_mark(other, TRACE_FORKED);
	assert_int_equal(trace_lines(other, lines), 4);
	expect(&lines[0], "exec", "runtime");
	expect(&lines[1], "bundle written", "runtime");
	expect(&lines[2], "init executed", "supervisor");
	assert_int_equal(lines[0].at_us, 0);
	trace_free(other);
	trace_free(trace);
}

/* Exec is as far back as the CPU time that the process has used. */
static void test_exec(void **state)
{
	struct trace_line lines[TRACE_POINTS];
	struct trace *trace;

	(void)state;
	while (clock() < CLOCKS_PER_SEC / 20)
		;
	trace = trace_new();
	assert_non_null(trace);
	trace_mark(trace, TRACE_OPTIONS);
	assert_int_equal(trace_lines(trace, lines), 2);
	assert_true(lines[1].at_us >= 50000);
	trace_free(trace);
}

/* The machine that is made once more has its own times; `boot` forks none. */
static void test_restart(void **state)
{
	struct trace_line lines[TRACE_POINTS];
	struct trace *trace = trace_new();

	(void)state;
	assert_non_null(trace);
	trace_mark(trace, TRACE_KEEPER);
	trace_mark(trace, TRACE_FORKED);
	trace_mark(trace, TRACE_RECORDED);
	trace_mark(trace, TRACE_RUN);
	trace_mark(trace, TRACE_GREETED);
	trace_restart(trace);
	assert_int_equal(trace_lines(trace, lines), 2);
	expect(&lines[0], "exec", "monitor");
	expect(&lines[1], "keeper started", "monitor");
	trace_free(trace);
	/* None is asked for. */
	trace_mark(NULL, TRACE_RUN);
	trace_restart(NULL);
	trace_free(NULL);
}

/* Each point has a name of its own. */
static void test_names(void **state)
{
	struct trace_line lines[TRACE_POINTS];
	struct trace *trace = trace_new();

	(void)state;
	assert_non_null(trace);
	for (unsigned i = 0; i < TRACE_POINTS; i++)
		trace_mark(trace, i);
	assert_int_equal(trace_lines(trace, lines), TRACE_POINTS);
	for (unsigned i = 0; i < TRACE_POINTS; i++) {
		assert_non_null(lines[i].name);
		for (unsigned j = 0; j < i; j++)
			assert_string_not_equal(lines[i].name, lines[j].name);
	}
	trace_free(trace);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_processes), cmocka_unit_test(test_copy),
		cmocka_unit_test(test_taken),     cmocka_unit_test(test_exec),
		cmocka_unit_test(test_restart),   cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
