/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list of a container's processes, from a procfs of files: which are in it,
 * and what names can do that were chosen to break a line.
 */
#include "firmware/init/top.h"
#include "firmware/agent/agent.h"
#include "tests/tempdir.h"
#include "vmm/base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct ctx {
	char dir[TEMPDIR_ROOM];
};

static int setup(void **state)
{
	struct ctx *ctx = calloc(1, sizeof(*ctx));

	tempdir_name(ctx->dir);
	assert_non_null(mkdtemp(ctx->dir));
	*state = ctx;
	return 0;
}

static int teardown(void **state)
{
	struct ctx *ctx = *state;
	char command[TEMPDIR_ROOM + 16];

	snprintf(command, sizeof(command), "rm -rf '%s'", ctx->dir);
	assert_int_equal(system(command), 0);
	free(ctx);
	return 0;
}

static void write_file(const struct ctx *ctx, const char *name,
		       const char *data, size_t bytes)
{
	char path[TEMPDIR_ROOM + 64];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", ctx->dir, name);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(data, 1, bytes, file), bytes);
	assert_int_equal(fclose(file), 0);
}

/* NSPID: "12\t3". COMMAND has BYTES, NULs among them. */
static void add_process(const struct ctx *ctx, int pid, int parent,
			const char *nspid, const char *name,
			const char *command, size_t bytes)
{
	char path[TEMPDIR_ROOM + 64], text[512];
	int n;

	snprintf(path, sizeof(path), "%s/%d", ctx->dir, pid);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%d/status", pid);
	n = snprintf(text, sizeof(text),
		     "Name:\t%s\nUmask:\t0022\nPid:\t%d\nPPid:\t%d\n"
		     "Uid:\t1000\t1000\t1000\t1000\nNSpid:\t%s\n",
		     "x", pid, parent, nspid);
	write_file(ctx, path, text, (size_t)n);
	snprintf(path, sizeof(path), "%d/stat", pid);
	n = snprintf(text, sizeof(text),
		     "%d (%s) S %d 1 1 34817 1 4194560 1 2 3 4 150 50 0 0 20 0 "
		     "1 0 0 1000 2\n",
		     pid, name, parent);
	write_file(ctx, path, text, (size_t)n);
	snprintf(path, sizeof(path), "%d/cmdline", pid);
	write_file(ctx, path, command, bytes);
}

/* Gives the list as it is written; the caller frees it. */
static char *list_group(const struct ctx *ctx, unsigned level,
			const char *group)
{
	char passwd[TEMPDIR_ROOM + 16];
	char *text = NULL;
	size_t bytes = 0;
	FILE *out = open_memstream(&text, &bytes);

	snprintf(passwd, sizeof(passwd), "%s/passwd", ctx->dir);
	assert_int_equal(top_print(out, ctx->dir, level, group, passwd), 0);
	assert_int_equal(fclose(out), 0);
	return text;
}

static char *list(const struct ctx *ctx, unsigned level)
{
	return list_group(ctx, level, NULL);
}

static void expect_line(const char **text, int pid, int parent,
			const char *user, const char *command)
{
	unsigned long long age, cpu;
	int inside, ppid, used = 0;
	char expected[256], tty[16];
	unsigned uid;
	size_t n;

	assert_int_equal(sscanf(*text, "%d %d %u %llu %llu %15s\t%n", &inside,
				&ppid, &uid, &age, &cpu, tty, &used),
			 6);
	assert_int_equal(inside, pid);
	assert_int_equal(ppid, parent);
	assert_int_equal(uid, 1000);
	assert_int_equal(cpu, 2000);
	assert_string_equal(tty, "pts/1");
	*text += used;
	n = (size_t)snprintf(expected, sizeof(expected), "%s\t%s\n", user,
			     command);
	assert_memory_equal(*text, expected, n);
	*text += n;
}

/* Those outside have no second number; one number more is a PID 1 inside. */
static void test_members(void **state)
{
	const struct ctx *ctx = *state;
	const char *at;
	char *text;

	write_file(ctx, "passwd", "root:x:0:0\nme:x:1000:1000::/:\n", 31);
	add_process(ctx, 1, 0, "1", "agent", "agent", 5);
	add_process(ctx, 50, 1, "50\t1", "sh", "sh\0-c\0a b\0", 10);
	add_process(ctx, 40, 50, "40\t7\t1", "inner", "inner\0", 6);
	add_process(ctx, 60, 50, "60\t6", "zombie", "", 0);
	text = list(ctx, 2);
	at = text;
	expect_line(&at, 1, 0, "me", "sh -c a b");
	expect_line(&at, 6, 1, "me", "[zombie]");
	expect_line(&at, 7, 1, "me", "inner");
	assert_string_equal(at, "");
	free(text);
}

static void put_in_group(const struct ctx *ctx, int pid, const char *group)
{
	char path[32], text[64];
	const int n = snprintf(text, sizeof(text), "1:x:/%s\n0::/%s\n",
			       pid == 9 ? "c/a" : "", group);

	snprintf(path, sizeof(path), "%d/cgroup", pid);
	write_file(ctx, path, text, (size_t)n);
}

/* One of several containers: those of its control group, and below. */
static void test_group(void **state)
{
	static const char *const groups[] = {"c/a", "c/a/sub", "c/ab", "c",
					     "c/b"};
	const struct ctx *ctx = *state;
	const char *at;
	char *text;

	write_file(ctx, "passwd", "", 0);
	for (int i = 0; i < (int)ARRAY_LEN(groups); i++) {
		char nspid[32];

		snprintf(nspid, sizeof(nspid), "%d\t%d", 5 + i, 1 + i);
		add_process(ctx, 5 + i, 0, nspid, "x", "x", 1);
		put_in_group(ctx, 5 + i, groups[i]);
	}
	text = list_group(ctx, 2, "c/a");
	at = text;
	expect_line(&at, 1, 0, "1000", "x");
	expect_line(&at, 2, 0, "1000", "x");
	assert_string_equal(at, "");
	free(text);
}

/* A name that looks like the end of it; commands with ends of lines. */
static void test_hostile(void **state)
{
	const struct ctx *ctx = *state;
	char large[8192];
	const char *at;
	char *text;

	memset(large, 'x', sizeof(large));
	write_file(ctx, "passwd", "a\tb\x1b:x:1000:1000::/:\n", 21);
	add_process(ctx, 5, 0, "5\t1", "a) S 1 (b", "a\nb\tc\x1b[2J\x7f\0", 12);
	add_process(ctx, 6, 5, "6\t2", "y\nz", "", 0);
	add_process(ctx, 7, 5, "7\t3", "big", large, sizeof(large));
	text = list(ctx, 2);
	at = text;
	expect_line(&at, 1, 0, "a?b?", "a?b?c?[2J?");
	expect_line(&at, 2, 1, "a?b?", "[y?z]");
	assert_non_null(strstr(at, "xxxx"));
	assert_int_equal(strspn(strchr(at, 'x'), "x"), AGENT_TOP_COMMAND - 1);
	free(text);
}

static void test_no_name(void **state)
{
	const struct ctx *ctx = *state;
	const char *at;
	char *text;

	write_file(ctx, "passwd", ":x:1000:1000::/:\nme:x:1001:\n", 28);
	add_process(ctx, 5, 0, "5\t1", "a", "a", 1);
	text = list(ctx, 2);
	at = text;
	expect_line(&at, 1, 0, "1000", "a");
	free(text);
}

#define WITH_DIR(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

/* A process in as many groups as Linux allows is listed all the same. */
static void test_many_groups(void **state)
{
	const struct ctx *ctx = *state;
	char *status = NULL, *text;
	size_t bytes = 0;
	FILE *file = open_memstream(&status, &bytes);

	fputs("Name:\tx\nPPid:\t1\nUid:\t0\t0\t0\t0\nGroups:\t", file);
	for (unsigned i = 0; i < 65536; i++)
		fprintf(file, "%u ", 4000000000u + i);
	fputs("\nNSpid:\t12\t3\n", file);
	assert_int_equal(fclose(file), 0);
	add_process(ctx, 12, 1, "12\t3", "x", "x", 2);
	write_file(ctx, "12/status", status, bytes);
	text = list(ctx, 2);
	assert_int_equal(strncmp(text, "3 ", 2), 0);
	free(status);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_DIR(test_members),     WITH_DIR(test_group),
		WITH_DIR(test_hostile),     WITH_DIR(test_no_name),
		WITH_DIR(test_many_groups),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
