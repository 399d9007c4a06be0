/* SPDX-License-Identifier: Apache-2.0 */
/* The store of templates: who makes one, which are found, which go. */
#include "tools/instance/template-store.h"

#include "tests/tempdir.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define NO_LIMIT UINT64_MAX

struct ctx {
	char top[TEMPDIR_ROOM], boot[9];
	struct template_store store;
};

static int setup(void **state)
{
	struct ctx *ctx = calloc(1, sizeof(*ctx));

	tempdir_name_on_disk(ctx->top);
	assert_non_null(mkdtemp(ctx->top));
	setenv("BULKHEAD_STORE", ctx->top, 1);
	log_setup(LOG_ERROR, false);
	assert_int_equal(templates_boot(ctx->boot), 0);
	assert_int_equal(template_store_open(NULL, true, &ctx->store), 0);
	*state = ctx;
	return 0;
}

static int teardown(void **state)
{
	struct ctx *ctx = *state;
	char command[TEMPDIR_ROOM + 16];

	template_store_close(&ctx->store);
	snprintf(command, sizeof(command), "rm -rf %s", ctx->top);
	assert_int_equal(system(command), 0);
	free(ctx);
	return 0;
}

static const char *name_of(const struct ctx *ctx, unsigned number)
{
	static char name[TEMPLATE_NAME];

	snprintf(name, sizeof(name), "%s-%012x", ctx->boot, number);
	return name;
}

/* Makes the one of that NAME, with BYTES of memory, last used at SECOND. */
static void make(struct ctx *ctx, const char *name, size_t bytes, time_t second)
{
	const struct timespec times[2] = {{.tv_sec = second},
					  {.tv_sec = second}};
	autofree char *data = calloc(1, bytes);
	struct template_part part;

	assert_int_equal(template_begin(&ctx->store, name, &part), 0);
	assert_int_equal(write(part.files[0], "state", 5), 5);
	memset(data, 'm', bytes);
	assert_int_equal(write(part.files[1], data, bytes), bytes);
	assert_int_equal(fsync(part.files[1]), 0); /* it has its blocks */
	assert_int_equal(template_commit(&ctx->store, &part, NO_LIMIT), 0);
	assert_int_equal(utimensat(ctx->store.dir, name, times, 0), 0);
}

static bool is_there(const struct ctx *ctx, const char *name)
{
	return faccessat(ctx->store.dir, name, F_OK, 0) == 0;
}

static void test_find(void **state)
{
	struct ctx *ctx = *state;
	autofree char *name = strdup(name_of(ctx, 1));
	autofree char *path = template_find(&ctx->store, name, NULL);
	char file[TEMPDIR_ROOM + 64], text[8] = "";
	autofd int fd = -1;
	struct stat st;

	assert_null(path);
	make(ctx, name, 4096, 1);
	path = template_find(&ctx->store, name, NULL);
	assert_non_null(path);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_true(st.st_mtim.tv_sec > 1000); /* it was used */
	snprintf(file, sizeof(file), "%s/state", path);
	fd = open(file, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, text, sizeof(text)), 5);
	assert_string_equal(text, "state");
}

/* One process makes it, others go without meanwhile. */
static void test_one_makes_it(void **state)
{
	struct ctx *ctx = *state;
	autofree char *name = strdup(name_of(ctx, 1));
	struct template_part first, second;

	assert_int_equal(template_begin(&ctx->store, name, &first), 0);
	assert_int_equal(template_begin(&ctx->store, name, &second), -EBUSY);
	assert_null(template_find(&ctx->store, name, NULL));
	template_abandon(&ctx->store, &second);
	template_abandon(&ctx->store, &first);
	assert_int_equal(template_begin(&ctx->store, name, &second), 0);
	assert_int_equal(template_commit(&ctx->store, &second, NO_LIMIT), 0);
	assert_int_equal(template_begin(&ctx->store, name, &second), -EBUSY);
	assert_true(is_there(ctx, name));
}

/* The next one takes over what a killed process left, or removes it. */
static void test_left_over(void **state)
{
	struct ctx *ctx = *state;
	struct template_part part;
	char name[TEMPLATE_NAME];

	for (unsigned i = 1; i <= 2; i++) {
		assert_int_equal(
			template_begin(&ctx->store, name_of(ctx, i), &part), 0);
		/* As the end of a process does. */
		close(part.files[0]);
		close(part.files[1]);
		close(part.lock);
	}
	make(ctx, name_of(ctx, 2), 4096, 1);
	assert_true(is_there(ctx, name_of(ctx, 2)));
	snprintf(name, sizeof(name), "%s", name_of(ctx, 1));
	assert_null(template_find(&ctx->store, name, NULL));
	assert_int_equal(template_begin(&ctx->store, name, &part), 0);
	template_abandon(&ctx->store, &part);
	/* Nothing but the one is left. */
	assert_int_equal(unlinkat(ctx->store.dir, name_of(ctx, 1), 0), -1);
	assert_int_equal(errno, ENOENT);
}

static int count(const struct template_entry *entry, void *arg)
{
	unsigned *n = arg;

	assert_true(entry->used_s == 9 - (int64_t)*n);
	assert_true(entry->bytes >= 8192);
	(*n)++;
	return 0;
}

static void test_not_too_many(void **state)
{
	struct ctx *ctx = *state;
	struct template_part part;
	unsigned n = 0;

	for (unsigned i = 1; i <= 9; i++)
		make(ctx, name_of(ctx, i), 8192, (time_t)i);
	/* One of another boot goes with the next one that comes. */
	assert_int_equal(mkdirat(ctx->store.dir, "00000000-000000000001", 0700),
			 0);
	assert_int_equal(template_begin(&ctx->store, name_of(ctx, 10), &part),
			 0);
	template_abandon(&ctx->store, &part);
	assert_int_equal(template_begin(&ctx->store, name_of(ctx, 10), &part),
			 0);
	assert_int_equal(template_commit(&ctx->store, &part, NO_LIMIT), 0);
	assert_false(is_there(ctx, "00000000-000000000001"));
	assert_int_equal(template_remove(&ctx->store, name_of(ctx, 10)), 0);
	assert_int_equal(template_each(&ctx->store, count, &n), 0);
	assert_int_equal(n, 9);
	/* Room for some of them, the last ones that were used. */
	assert_int_equal(template_begin(&ctx->store, name_of(ctx, 11), &part),
			 0);
	assert_int_equal(template_commit(&ctx->store, &part, 40960), 0);
	assert_true(is_there(ctx, name_of(ctx, 11)));
	assert_true(is_there(ctx, name_of(ctx, 9)));
	assert_false(is_there(ctx, name_of(ctx, 2)));
	assert_false(is_there(ctx, name_of(ctx, 1)));
}

static void test_names(void **state)
{
	struct ctx *ctx = *state;

	assert_int_equal(template_remove(&ctx->store, "../images"), -ENOENT);
	assert_int_equal(template_remove(&ctx->store, ""), -ENOENT);
	assert_int_equal(template_remove(&ctx->store, name_of(ctx, 1)),
			 -ENOENT);
}

/* One that was judged is removed, and not the one that has come in its place.
 */
static void test_remove_that(void **state)
{
	struct ctx *ctx = *state;
	autofree char *name = strdup(name_of(ctx, 1));
	autofree char *first = NULL, *second = NULL;
	autofd int first_fd = -1, second_fd = -1;
	struct template_part part;

	make(ctx, name, 4096, 1);
	first = template_find(&ctx->store, name, &first_fd);
	assert_non_null(first);
	assert_int_equal(template_remove(&ctx->store, name), 0);
	make(ctx, name, 4096, 1);
	second = template_find(&ctx->store, name, &second_fd);
	assert_int_equal(template_remove_that(&ctx->store, name, first_fd),
			 -ENOENT);
	assert_true(is_there(ctx, name));
	assert_int_equal(template_remove_that(&ctx->store, name, -1), -ENOENT);
	assert_int_equal(template_remove_that(&ctx->store, "..", second_fd),
			 -ENOENT);
	assert_int_equal(template_remove_that(&ctx->store, name, second_fd), 0);
	assert_false(is_there(ctx, name));
	assert_int_equal(template_remove_that(&ctx->store, name, second_fd),
			 -ENOENT);
	/* Nor is anything left that the next one would find. */
	assert_int_equal(template_begin(&ctx->store, name, &part), 0);
	template_abandon(&ctx->store, &part);
}

/* A directory that others can read or write is not used. */
static void test_others(void **state)
{
	struct ctx *ctx = *state;
	struct template_store again;

	assert_int_equal(fchmod(ctx->store.dir, 0755), 0);
	assert_int_equal(template_store_open(NULL, true, &again), -EPERM);
	assert_int_equal(fchmod(ctx->store.dir, 0700), 0);
	assert_int_equal(template_store_open(NULL, false, &again), 0);
	template_store_close(&again);
}

static void test_limit(void **state)
{
	uint64_t bytes;

	(void)state;
	unsetenv("BULKHEAD_TEMPLATES");
	assert_int_equal(templates_limit(&bytes), 0);
	assert_int_equal(bytes, TEMPLATES_BYTES_DEFAULT);
	setenv("BULKHEAD_TEMPLATES", "off", 1);
	assert_int_equal(templates_limit(&bytes), 0);
	assert_int_equal(bytes, 0);
	setenv("BULKHEAD_TEMPLATES", "128M", 1);
	assert_int_equal(templates_limit(&bytes), 0);
	assert_int_equal(bytes, 128 * MIB);
	setenv("BULKHEAD_TEMPLATES", "127M", 1);
	assert_int_equal(templates_limit(&bytes), -EINVAL);
	setenv("BULKHEAD_TEMPLATES", "some", 1);
	assert_int_equal(templates_limit(&bytes), -EINVAL);
	unsetenv("BULKHEAD_TEMPLATES");
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_find),      TEST(test_one_makes_it),
		TEST(test_left_over), TEST(test_not_too_many),
		TEST(test_names),     TEST(test_remove_that),
		TEST(test_others),    cmocka_unit_test(test_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
