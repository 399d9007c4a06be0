/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tmpfs gets the content of the directory that it is mounted on, which an
 * image's author made: links that lead out, and a path that is none.
 */
#include "firmware/init/copy-up.h"
#include "tests/tempdir.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <fcntl.h>

struct ctx {
	char dir[TEMPDIR_ROOM];
	int root, to;
};

static void run(const struct ctx *ctx, const char *command)
{
	char line[512];

	snprintf(line, sizeof(line), "cd '%s' && { %s; }", ctx->dir, command);
	assert_int_equal(system(line), 0);
}

static int setup(void **state)
{
	struct ctx *ctx = calloc(1, sizeof(*ctx));

	tempdir_name(ctx->dir);
	assert_non_null(mkdtemp(ctx->dir));
	run(ctx, "mkdir -m 755 root to out");
	ctx->root = open(ctx->dir, O_PATH | O_DIRECTORY);
	ctx->to = openat(ctx->root, "to", O_PATH | O_DIRECTORY);
	assert_true(ctx->to >= 0);
	close(ctx->root);
	*state = ctx;
	return 0;
}

static int teardown(void **state)
{
	struct ctx *ctx = *state;

	close(ctx->to);
	run(ctx, "chmod -R u+rwX . && rm -rf \"$PWD\"");
	free(ctx);
	return 0;
}

static int copy(const struct ctx *ctx, const char *path)
{
	char root_path[TEMPDIR_ROOM + 8];
	struct init_failure f = {0};
	int root, r;

	snprintf(root_path, sizeof(root_path), "%s/root", ctx->dir);
	root = open(root_path, O_PATH | O_DIRECTORY);
	assert_true(root >= 0);
	r = copy_up(root, path, ctx->to, &f);
	close(root);
	return r;
}

static void test_tree(void **state)
{
	struct ctx *ctx = *state;
	struct stat st;

	run(ctx, "mkdir -p root/var/d && echo x >root/var/d/f && "
		 "ln root/var/d/f root/var/g && ln -s d/f root/var/l && "
		 "chmod 640 root/var/g && touch -d @77 root/var/d/f");
	assert_int_equal(copy(ctx, "/var"), 0);
	run(ctx, "cmp root/var/g to/d/f && "
		 "[ \"$(readlink to/l)\" = d/f ]");
	assert_int_equal(fstatat(ctx->to, "g", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(st.st_mtime, 77);
	if (geteuid() != 0)
		return;
	run(ctx, "chown 3:4 root/var");
	assert_int_equal(copy(ctx, "/var"), 0);
	assert_int_equal(fstatat(ctx->to, "", &st, AT_EMPTY_PATH), 0);
	assert_int_equal(st.st_uid, 3);
	assert_int_equal(st.st_gid, 4);
}

/* A path through a link is the container's, and so are links below it. */
static void test_links(void **state)
{
	struct ctx *ctx = *state;

	run(ctx, "echo secret >out/s && mkdir root/out && "
		 "ln -s /out root/var && ln -s ../../out/s root/out/s");
	assert_int_equal(copy(ctx, "/var"), 0);
	run(ctx, "[ -L to/s ] && ! grep -rs secret to");
}

static void test_nothing(void **state)
{
	struct ctx *ctx = *state;

	run(ctx, "mkdir root/empty && echo x >root/file");
	assert_int_equal(copy(ctx, "/empty"), 0);
	assert_int_equal(copy(ctx, "/missing/way"), 0);
	assert_int_equal(copy(ctx, "/file"), 0);
	run(ctx, "[ -z \"$(ls -A to)\" ]");
}

/* The tree is more than a pipe holds: its writer has to end, too. */
static void test_full(void **state)
{
	struct ctx *ctx = *state;

	static const struct rlimit small = {4096, RLIM_INFINITY};
	struct rlimit before;

	run(ctx, "mkdir root/big && head -c 300000 /dev/zero >root/big/f");
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	assert_true(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_int_equal(copy(ctx, "/big"), -1);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_true(signal(SIGXFSZ, SIG_DFL) != SIG_ERR);
}

static void test_words(void **state)
{
	static const struct {
		const char *before, *after;
		bool wanted;
	} cases[] = {
		{"", "", false},
		{"tmpcopyup", "", true},
		{"tmpcopyup,ro", "ro", true},
		{"ro,tmpcopyup", "ro", true},
		{"ro,tmpcopyup,size=1m", "ro,size=1m", true},
		{"tmpcopyup,tmpcopyup", "", true},
		{"tmpcopyups,size=1m", "tmpcopyups,size=1m", false},
	};
	char text[64];

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		strcpy(text, cases[i].before);
		assert_int_equal(copy_up_wanted(text), cases[i].wanted);
		assert_string_equal(text, cases[i].after);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_tree),
		TEST(test_links),
		TEST(test_nothing),
		TEST(test_full),
		cmocka_unit_test(test_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
