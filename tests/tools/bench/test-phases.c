/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The messages of `bulkhead run`, as the bench reads them. It starts the
 * program that it is in, which is this one: a run that does what its command
 * says.
 */
#include "tools/bench/bench.h"
#include "tests/tempdir.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const char *const done[] = {"monitor started", "agent there",
				   "guest set up",    "command started",
				   "command ended",   "monitor ended"};

/* Each phase takes MS, but that one line, LOST, is not there. */
static void tell(unsigned ms, int lost)
{
	for (int i = 0; i < 6; i++)
		if (i != lost)
			fprintf(stderr, "bulkhead: debug: %s after %u us\n",
				done[i], (unsigned)(i + 1) * ms * 1000);
}

/* The file COUNTER has a byte for each run before this one. */
static unsigned count(const char *counter)
{
	FILE *f = fopen(counter, "a");
	long before = f ? ftell(f) : 0;

	if (!f || fseek(f, 0, SEEK_END) < 0)
		abort();
	before = ftell(f);
	fputc('.', f);
	fclose(f);
	return (unsigned)before;
}

static int be_run(const char *what, const char *counter)
{
	static const unsigned ms[] = {50, 10, 40, 20, 30};

	if (strcmp(what, "differ") == 0)
		tell(ms[count(counter) % 5], -1);
	if (strcmp(what, "lose") == 0)
		tell(10, 2);
	if (strcmp(what, "fail") == 0) {
		tell(10, 3);
		fputs("bulkhead: 'x': no room\n", stderr);
		return 125;
	}
	return 0;
}

/* ---- the bench */

static int phases_of(const char *what, struct bench_phase phases[BENCH_PHASES])
{
	char counter[TEMPDIR_ROOM];
	char *const command[] = {(char *)(uintptr_t)what, counter, NULL};
	struct bench_signals signals;
	const struct bench_what bench = {
		.root = "root", .command = command, .signals = &signals};
	int fd, r;

	tempdir_name(counter);
	fd = mkstemp(counter);
	assert_true(fd >= 0);
	close(fd);
	bench_signals_take(&signals);
	r = bench_phases(&bench, 5, phases);
	sigprocmask(SIG_SETMASK, &signals.before, NULL);
	unlink(counter);
	return r;
}

/* Not the third run's, whose number is the largest but one. */
static void test_medians(void **state)
{
	struct bench_phase phases[BENCH_PHASES];

	(void)state;
	assert_int_equal(phases_of("differ", phases), 7);
	for (unsigned i = 0; i < 6; i++)
		assert_true(phases[i].ms > 29.9 && phases[i].ms < 30.1);
}

/* No phases, and why: a message that has WORDS. */
static void expect_none(const char *what, const char *words)
{
	const int saved = dup(STDERR_FILENO);
	struct bench_phase phases[BENCH_PHASES];
	FILE *messages = tempdir_file();
	char text[512];
	size_t n;

	assert_non_null(messages);
	assert_true(saved >= 0 && dup2(fileno(messages), STDERR_FILENO) >= 0);
	assert_int_equal(phases_of(what, phases), 0);
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	close(saved);
	rewind(messages);
	n = fread(text, 1, sizeof(text) - 1, messages);
	text[n] = '\0';
	fclose(messages);
	assert_non_null(strstr(text, words));
}

static void test_a_line_is_missing(void **state)
{
	(void)state;
	expect_none("lose", "does not tell 'guest set up' in its place");
}

/* The reason is the run's own. */
static void test_a_run_fails(void **state)
{
	(void)state;
	expect_none("fail", "ended with status 125: bulkhead: 'x': no room");
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

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_medians),
		cmocka_unit_test(test_a_line_is_missing),
		cmocka_unit_test(test_a_run_fails),
		cmocka_unit_test(test_no_message_is_lost),
	};

	if (argc > 3 && strcmp(argv[1], "run") == 0)
		return be_run(argv[argc - 2], argv[argc - 1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
