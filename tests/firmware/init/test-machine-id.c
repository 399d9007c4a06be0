/* SPDX-License-Identifier: Apache-2.0 */
/* A clone's machine ID: which files get it, in a root that may be odd. */
#include "firmware/init/machine-id.h"

#include "tests/tempdir.h"
#include "vmm/base/util.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <setjmp.h>
#include <cmocka.h>

#define OLD   "0123456789abcdef0123456789abcdef"
#define OTHER "ffffffffffffffffffffffffffffffff"
#define NEW   "ffffffffffff4fffbfffffffffffffff"

struct ctx {
	char dir[TEMPDIR_ROOM];
	int root;
};

static const uint8_t bits[MACHINE_ID_BYTES] = {
	0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
	0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

static void run(const struct ctx *ctx, const char *command)
{
	char line[512];

	snprintf(line, sizeof(line), "cd '%s' && { %s; }", ctx->dir, command);
	assert_int_equal(system(line), 0);
}

/* On a tmpfs, as what else it is on is taken for the host's. */
static int setup(void **state)
{
	struct ctx *ctx = calloc(1, sizeof(*ctx));
	struct statfs fs;

	*state = ctx;
	ctx->root = -1;
	tempdir_name_in_memory(ctx->dir);
	assert_non_null(mkdtemp(ctx->dir));
	run(ctx, "mkdir -p etc run var/lib/dbus");
	if (statfs(ctx->dir, &fs) == 0 && fs.f_type == TMPFS_MAGIC)
		ctx->root = open(ctx->dir, O_PATH | O_DIRECTORY);
	return 0;
}

static int teardown(void **state)
{
	struct ctx *ctx = *state;

	run(ctx, "rm -rf \"$PWD\"");
	util_close(&ctx->root);
	free(ctx);
	return 0;
}

static void expect(const struct ctx *ctx, const char *path, const char *text)
{
	char there[64] = "";
	const int fd = openat(ctx->root, path, O_RDONLY);

	assert_true(fd >= 0);
	assert_true(read(fd, there, sizeof(there) - 1) >= 0);
	close(fd);
	assert_string_equal(there, text);
}

static struct ctx *get(void **state)
{
	struct ctx *ctx = *state;

	if (ctx->root < 0)
		skip();
	return ctx;
}

/* D-Bus' copy as well; a link is what it leads to. */
static void test_renewed(void **state)
{
	const struct ctx *ctx = get(state);

	run(ctx, "echo " OLD " >etc/machine-id; chmod 444 etc/machine-id;"
		 "printf " OLD " >var/lib/dbus/machine-id");
	assert_int_equal(machine_id_renew(ctx->root, bits), 2);
	expect(ctx, "etc/machine-id", NEW "\n");
	expect(ctx, "var/lib/dbus/machine-id", NEW);
	run(ctx, "echo " OLD " >etc/machine-id;"
		 "ln -sf /etc/machine-id var/lib/dbus/machine-id");
	assert_int_equal(machine_id_renew(ctx->root, bits), 1);
	expect(ctx, "etc/machine-id", NEW "\n");
}

/* Another one than the container's is not its machine's. */
static void test_other(void **state)
{
	const struct ctx *ctx = get(state);

	run(ctx, "echo " OLD " >etc/machine-id;"
		 "echo " OTHER " >var/lib/dbus/machine-id");
	assert_int_equal(machine_id_renew(ctx->root, bits), 1);
	expect(ctx, "var/lib/dbus/machine-id", OTHER "\n");
	run(ctx, "rm etc/machine-id; echo " OLD " >var/lib/dbus/machine-id");
	assert_int_equal(machine_id_renew(ctx->root, bits), 1);
	expect(ctx, "var/lib/dbus/machine-id", NEW "\n");
}

/* No ID, or no file; and links that lead out of the root. */
static void test_left_alone(void **state)
{
	const struct ctx *ctx = get(state);
	static const char *const none[] = {
		"true",
		": >etc/machine-id",
		"echo uninitialized >etc/machine-id",
		"echo " OLD "0 >etc/machine-id",
		"echo 0123456789ABCDEF0123456789ABCDEF >etc/machine-id",
		"rm etc/machine-id; mkfifo etc/machine-id",
		"rm etc/machine-id; mkdir etc/machine-id",
		"rmdir etc/machine-id; echo " OLD " >out;"
		"ln -s ../../../..\"$PWD\"/out etc/machine-id",
		"rm -r etc; mkdir out.d; echo " OLD " >out.d/machine-id;"
		"ln -s \"$PWD\"/out.d etc",
	};

	for (unsigned i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		run(ctx, none[i]);
		assert_int_equal(machine_id_renew(ctx->root, bits), 0);
	}
	expect(ctx, "out", OLD "\n");
	expect(ctx, "out.d/machine-id", OLD "\n");
}

/* A file that is not in the guest's memory may be the host's. */
static void test_hosts(void **state)
{
	struct ctx host = {.root = -1};
	struct statfs fs;

	(void)state;
	tempdir_name_on_disk(host.dir);
	assert_non_null(mkdtemp(host.dir));
	run(&host, "mkdir etc; echo " OLD " >etc/machine-id");
	host.root = open(host.dir, O_PATH | O_DIRECTORY);
	if (fstatfs(host.root, &fs) == 0 && fs.f_type != TMPFS_MAGIC &&
	    fs.f_type != OVERLAYFS_SUPER_MAGIC) {
		assert_int_equal(machine_id_renew(host.root, bits), 0);
		expect(&host, "etc/machine-id", OLD "\n");
	}
	close(host.root);
	run(&host, "rm -rf \"$PWD\"");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_renewed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other, setup, teardown),
		cmocka_unit_test_setup_teardown(test_left_alone, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_hosts, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
