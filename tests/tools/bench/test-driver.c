/* SPDX-License-Identifier: Apache-2.0 */
/* Driver files and their templates: what is taken, and what is said of others.
 */
#include "tools/bench/bench-driver.h"
#include "tests/tempdir.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

/* Reads TEXT as the file x.driver. */
static int read_text(struct bench_driver *driver, const char *text)
{
	char dir[TEMPDIR_ROOM], file[TEMPDIR_ROOM + 16];
	FILE *f;
	int r;

	tempdir_name(dir);
	assert_non_null(mkdtemp(dir));
	snprintf(file, sizeof(file), "%s/x.driver", dir);
	f = fopen(file, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	r = bench_driver_read(driver, file);
	unlink(file);
	rmdir(dir);
	return r;
}

static void test_a_file(void **state)
{
	struct bench_driver driver;

	(void)state;
	assert_int_equal(read_text(&driver, "# comment\n"
					    "title = x = y  \n"
					    "needs = root  kvm\n"
					    "\n"
					    "check = one\n"
					    "# in between\n"
					    "\ttwo\n"
					    "note =\n"
					    "\tthree\n"
					    "command = x {command}"),
			 0);
	assert_string_equal(driver.name, "x");
	assert_string_equal(driver.title, "x = y");
	assert_string_equal(driver.check, "one\ntwo");
	assert_string_equal(driver.note, "three");
	assert_string_equal(driver.command, "x {command}");
	assert_true(bench_driver_needs(&driver, "kvm"));
	assert_false(bench_driver_needs(&driver, "kernel"));
	assert_null(driver.version);
	bench_driver_done(&driver);
}

static void test_mistakes(void **state)
{
	static const char *const wrong[] = {
		"",                            /* no command */
		"command = a\ncommand = b\n",  /* twice */
		"commands = a\n",              /* no such key */
		"command\n",                   /* no value */
		"\tmore\ncommand = a\n",       /* continues nothing */
		"needs = luck\ncommand = a\n", /* unknown */
	};
	struct bench_driver driver;

	(void)state;
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		assert_int_equal(read_text(&driver, wrong[i]), -EINVAL);
	assert_int_equal(bench_driver_read(&driver, "/nonexistent"), -ENOENT);
}

/* ---- templates */

static const struct bench_place places[] = {
	{"root", "/a b"}, {"none", NULL}, {NULL, NULL}};

/* TEXT's words with '|' between; "": it is refused. */
static void words_of(const char *text, char ret[256])
{
	static char echo[] = "echo", hi[] = "hi there";
	static char *const command[] = {echo, hi, NULL};
	struct text_list words = {0};

	ret[0] = '\0';
	if (bench_template(&words, "x", text, places, command) == 0)
		for (unsigned i = 0; i < words.count; i++) {
			strcat(ret, i ? "|" : "");
			strcat(ret, words.item[i]);
		}
	text_list_done(&words);
}

static void test_templates(void **state)
{
	static const struct {
		const char *text, *words;
	} cases[] = {
		{"run {command}", "run|echo|hi there"},
		{"run\n  {command} end", "run|echo|hi there|end"},
		/* A value is no template, and its blanks separate nothing. */
		{"--root={root}/x", "--root=/a b/x"},
		{"\"a b\"'c d' e", "a bc d|e"},
		{"'' x", "|x"},
		/* Braces of others, as Docker's templates have. */
		{"{{.ID}} {} {A}", "{{.ID}}|{}|{A}"},
		{"{unknown}", ""},
		{"{none}", ""},
		{"'open", ""},
	};
	char words[256];

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		words_of(cases[i].text, words);
		assert_string_equal(words, cases[i].words);
	}
}

/* ---- which there are */

static void put_driver(const char *dir, const char *name, const char *title)
{
	char path[TEMPDIR_ROOM + 64];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fprintf(f, "title = %s\ncommand = x\n", title);
	fclose(f);
}

/* The user's has the place of one of the same name. */
static void test_the_users(void **state)
{
	char top[TEMPDIR_ROOM], own[TEMPDIR_ROOM + 16], dir[TEMPDIR_ROOM + 32];
	struct bench_drivers drivers = {0};
	char command[3 * TEMPDIR_ROOM];

	(void)state;
	tempdir_name(top);
	assert_non_null(mkdtemp(top));
	snprintf(own, sizeof(own), "%s/bulkhead", top);
	snprintf(dir, sizeof(dir), "%s/bench", own);
	assert_int_equal(mkdir(own, 0700), 0);
	assert_int_equal(mkdir(dir, 0700), 0);
	put_driver(own, "other.driver", "other");
	put_driver(own, "crun.driver", "crun");
	put_driver(dir, "crun.driver", "another crun");
	put_driver(dir, "mine.driver", "mine");
	put_driver(dir, "mine.driver~", "no driver");
	setenv("BULKHEAD_BENCH_DRIVERS", own, 1);
	setenv("XDG_CONFIG_HOME", top, 1);
	assert_int_equal(bench_drivers_find(&drivers, NULL), 0);
	assert_int_equal(drivers.count, 3);
	assert_string_equal(drivers.item[0].title, "another crun");
	assert_string_equal(drivers.item[1].title, "mine");
	assert_string_equal(drivers.item[2].title, "other");
	assert_null(bench_drivers_get(&drivers, "mine.driver~"));
	bench_drivers_done(&drivers);
	snprintf(command, sizeof(command), "rm -r %s", top);
	assert_int_equal(system(command), 0);
	unsetenv("XDG_CONFIG_HOME");
}

/* Those of the source are read, and each says what it measures. */
static void test_the_shipped(void **state)
{
	const char *source = getenv("srcdir");
	struct bench_drivers drivers = {0};
	char dir[4096];

	(void)state;
	snprintf(dir, sizeof(dir), "%s/tools/bench/drivers",
		 source ? source : ".");
	if (access(dir, R_OK) < 0)
		skip();
	setenv("BULKHEAD_BENCH_DRIVERS", dir, 1);
	setenv("HOME", "/nonexistent", 1);
	assert_int_equal(bench_drivers_find(&drivers, NULL), 0);
	assert_true(drivers.count > 10);
	for (unsigned i = 0; i < drivers.count; i++) {
		assert_non_null(drivers.item[i].title);
		assert_non_null(drivers.item[i].operation);
		assert_non_null(drivers.item[i].isolation);
		assert_non_null(drivers.item[i].version);
	}
	bench_drivers_done(&drivers);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_file),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_templates),
		cmocka_unit_test(test_the_users),
		cmocka_unit_test(test_the_shipped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
