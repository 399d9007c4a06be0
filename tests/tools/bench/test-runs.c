/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs and their marks, from programs that come to them when this test knows;
 * the phases that a run's table tells; the statistics.
 */
#include "tools/bench/bench.h"
#include "tests/tempdir.h"
#include "vmm/base/util.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#define MS UINT64_C(1000000)

static char sh[] = "sh", c[] = "-c";

/* COUNT runs of SCRIPT; the signals are as before afterwards. */
static void run(const char *script, struct bench_group *group)
{
	char *const argv[] = {sh, c, (char *)(uintptr_t)script, NULL};
	struct bench_signals signals;
	struct bench_start start[4];

	bench_signals_take(&signals);
	for (unsigned i = 0; i < group->count; i++)
		start[i] = (struct bench_start){
			.argv = argv,
			.in_fd = -1,
			.out_fd = -1,
			.err_fd = -1,
			.mount_ns = -1,
			.signals = &signals,
		};
	group->start = start;
	assert_int_equal(bench_group_run(group), 0);
	sigprocmask(SIG_SETMASK, &signals.before, NULL);
}

/* Output comes 100 ms after the start, the end 100 after that. */
static void test_marks(void **state)
{
	struct bench_end end;
	struct bench_group group = {.end = &end, .count = 1};

	(void)state;
	run("sleep 0.1; echo hi; echo more; sleep 0.1; exit 7", &group);
	assert_int_equal(end.status, 7);
	assert_false(end.late);
	assert_true(end.at_ns[BENCH_OUTPUT] >= 100 * MS);
	assert_true(end.at_ns[BENCH_EXIT] >=
		    end.at_ns[BENCH_OUTPUT] + 100 * MS);
	run("exit 0", &group);
	assert_int_equal(end.status, 0);
	assert_true(end.at_ns[BENCH_OUTPUT] == 0);
	assert_true(end.at_ns[BENCH_EXIT] > 0);
}

/* More than a pipe takes; and a process that keeps it open is not waited for.
 */
static void test_output(void **state)
{
	struct bench_end end;
	struct bench_group group = {.end = &end, .count = 1};

	(void)state;
	run("head -c 300000 /dev/zero", &group);
	assert_int_equal(end.status, 0);
	run("sleep 2 & echo $!", &group);
	assert_int_equal(end.status, 0);
	assert_true(end.at_ns[BENCH_EXIT] < 2000 * MS);
}

/* Each of three waits for the others: they run at the same time. */
static void test_group(void **state)
{
	const uint64_t begin_ns = util_now_ns();
	struct bench_end end[3];
	struct bench_group group = {
		.end = end, .count = 3, .interval_ns = 50 * MS};
	char file[TEMPDIR_ROOM], script[4 * TEMPDIR_ROOM];
	int fd;

	(void)state;
	tempdir_name(file);
	fd = mkstemp(file);
	assert_true(fd >= 0);
	close(fd);
	snprintf(script, sizeof(script),
		 "echo >>%s; while [ $(wc -l <%s) -lt 3 ]; do sleep 0.02; done",
		 file, file);
	run(script, &group);
	unlink(file);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(end[i].status, 0);
		/* None starts sooner than it was to. */
		assert_true(end[i].exec_ns >= begin_ns + i * 50 * MS);
	}
}

static void test_late(void **state)
{
	struct bench_end end[2];
	struct bench_group group = {
		.end = end, .count = 2, .limit_ns = 100 * MS};

	(void)state;
	run("exec sleep 1000", &group);
	for (unsigned i = 0; i < 2; i++) {
		assert_true(end[i].late);
		assert_int_equal(end[i].status, 255);
	}
}

static void test_no_program(void **state)
{
	static char nothing[] = "/nonexistent";
	char *const argv[] = {nothing, NULL};
	struct bench_signals signals;
	const struct bench_start start = {.argv = argv,
					  .in_fd = -1,
					  .out_fd = -1,
					  .err_fd = -1,
					  .mount_ns = -1,
					  .signals = &signals};
	struct bench_end end;

	(void)state;
	bench_signals_take(&signals);
	assert_int_equal(bench_spawn(&start, 0, &end), 0);
	sigprocmask(SIG_SETMASK, &signals.before, NULL);
	assert_int_equal(end.status, 255);
}

/* ---- phases */

/* As `bulkhead run --trace boot` ends; %s: what the command wrote before. */
#define TABLE                                                                  \
	"printf '%s\\n' 'phase ends with at us took us process' "              \
	"'exec                            0          0  supervisor' "          \
	"'first KVM_RUN               '$((1000*$1))'          1  monitor' "    \
	"'agent greeted               '$((3000*$1))'          1  agent' "      \
	"'STARTED                     '$((4000*$1))'          1  agent' "      \
	"'end                         '$((6000*$1))'          1  supervisor'"  \
	" >&2"

static void make_peer(struct bench_peer *peer, struct bench_driver *driver,
		      const char *script)
{
	*driver = (struct bench_driver){.name = sh};
	assert_true(asprintf(&driver->trace, "sh -c \"%s\"", script) > 0);
	*peer = (struct bench_peer){.driver = driver, .mount_ns = -1};
}

static void phases_of(struct bench_peer *peer, const char *script)
{
	static char nothing[] = "true";
	char *const command[] = {nothing, NULL};
	struct bench_signals signals;
	const struct bench_what what = {.command = command,
					.tag = "tag",
					.arguments = "",
					.signals = &signals};
	const struct bench_plan plan = {.runs = 3, .limit_s = 60};
	struct bench_driver driver;

	make_peer(peer, &driver, script);
	bench_signals_take(&signals);
	assert_int_equal(bench_phases(peer, &what, &plan), 0);
	sigprocmask(SIG_SETMASK, &signals.before, NULL);
	free(driver.trace);
}

/* Points that were not come to have no phase; their time is the next one's. */
static void test_phases(void **state)
{
	static const double ms[] = {2, 4, 2, 4};
	struct bench_peer peer;

	(void)state;
	phases_of(&peer, "set 2; " TABLE);
	assert_int_equal(peer.nphases, 4);
	for (unsigned i = 0; i < 4; i++)
		assert_true(fabs(peer.phase[i].ms - ms[i]) < 1e-9);
}

static void test_no_phases(void **state)
{
	struct bench_peer peer;

	(void)state;
	phases_of(&peer, "echo no table >&2");
	assert_int_equal(peer.nphases, 0);
	phases_of(&peer, "set 1; " TABLE "; exit 3");
	assert_int_equal(peer.nphases, 0);
}

/* ---- statistics */

static void test_quantiles(void **state)
{
	const double values[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};

	(void)state;
	assert_true(bench_quantile(values, 10, 0.5) == 5.5);
	assert_true(bench_quantile(values, 9, 0.5) == 5);
	assert_true(bench_quantile(values, 10, 0.9) == 9);
	assert_true(bench_quantile(values, 10, 0.95) == 10);
	assert_true(bench_quantile(values, 1, 0.99) == 1);
}

/* Ranks (from 1) as tables of the binomial distribution have them. */
static void test_ranks(void **state)
{
	unsigned low, high;

	(void)state;
	assert_true(bench_quantile_ranks(100, 0.5, &low, &high));
	assert_int_equal(low + 1, 40);
	assert_int_equal(high + 1, 61);
	assert_true(bench_quantile_ranks(10, 0.5, &low, &high));
	assert_int_equal(low + 1, 2);
	assert_int_equal(high + 1, 9);
	assert_true(bench_quantile_ranks(6, 0.5, &low, &high));
	assert_int_equal(low + 1, 1);
	assert_int_equal(high + 1, 6);
	/* Five runs say nothing at 95 %, nor 100 of the 99th percentile. */
	assert_false(bench_quantile_ranks(5, 0.5, &low, &high));
	assert_false(bench_quantile_ranks(100, 0.99, &low, &high));
	assert_true(bench_quantile_ranks(10000, 0.99, &low, &high));
}

/* ---- two results */

static struct bench_difference differ(double *from, double *to, unsigned n)
{
	struct bench_samples a = {from, n}, b = {to, n};
	struct bench_difference d;

	assert_int_equal(bench_difference(&a, &b, &d), 0);
	return d;
}

static void test_differences(void **state)
{
	double a[20], b[20];
	struct bench_difference d;

	(void)state;
	for (unsigned i = 0; i < 20; i++) {
		a[i] = 100 + i;
		b[i] = 110 + i;
	}
	d = differ(a, b, 20);
	assert_int_equal(d.verdict, BENCH_SLOWER);
	assert_true(d.from == 109.5 && d.to == 119.5);
	assert_true(d.low > 0 && d.low <= 10 && d.high >= 10 && d.high < 20);
	/* U is 50, its variance 1,365.38 with the ties: by hand. */
	assert_true(fabs(d.p - 4.92e-5) < 2e-6);
	assert_int_equal(differ(b, a, 20).verdict, BENCH_FASTER);
	assert_int_equal(differ(a, a, 20).verdict, BENCH_SAME);
	assert_int_equal(differ(a, b, 7).verdict, BENCH_TOO_FEW);
	for (unsigned i = 0; i < 20; i++) {
		a[i] = 5;
		b[i] = i % 2 ? 4 : 6;
	}
	d = differ(a, b, 20);
	assert_int_equal(d.verdict, BENCH_SAME);
	assert_true(d.p > 0.99);
}

/* ---- their messages */

#define LINES 20000
#define LINE  "bulkhead: debug: some text\n"

static void *write_lines(void *fd)
{
	for (unsigned i = 0; i < LINES; i++)
		if (write(*(int *)fd, LINE, strlen(LINE)) < 0)
			break;
	return NULL;
}

/* As a run's two threads, and its monitor, write them. */
static void test_no_message_is_lost(void **state)
{
	int fd = bench_messages();
	pthread_t thread[2];
	struct stat st;

	(void)state;
	assert_true(fd >= 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(
			pthread_create(&thread[i], NULL, write_lines, &fd), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 2 * LINES * strlen(LINE));
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_marks),
		cmocka_unit_test(test_output),
		cmocka_unit_test(test_group),
		cmocka_unit_test(test_late),
		cmocka_unit_test(test_no_program),
		cmocka_unit_test(test_phases),
		cmocka_unit_test(test_no_phases),
		cmocka_unit_test(test_quantiles),
		cmocka_unit_test(test_ranks),
		cmocka_unit_test(test_differences),
		cmocka_unit_test(test_no_message_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
