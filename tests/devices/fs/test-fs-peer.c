/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shares of one directory in several machines: what each is told of the other,
 * and which files must not be mapped.
 */
#include "devices/fs/fs.h"

#include "tests/tempdir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define MACHINES 3

struct rig {
	char top[TEMPDIR_ROOM], file[80], sub[80], log[80];
	struct fs *fs[MACHINES];
	int err; /* standard error, as it was */
};

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	int fd;

	tempdir_name_on_disk(r->top);
	if (!mkdtemp(r->top))
		return -1;
	snprintf(r->file, sizeof(r->file), "%s/sub/file", r->top);
	snprintf(r->sub, sizeof(r->sub), "%s/sub", r->top);
	snprintf(r->log, sizeof(r->log), "%s.log", r->top);
	if (mkdir(r->sub, 0755) < 0)
		return -1;
	fd = open(r->file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	close(fd);
	fd = open(r->log, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	r->err = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	if (r->err < 0 || fd < 0 || dup2(fd, STDERR_FILENO) < 0)
		return -1;
	close(fd);
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	struct rig *r = *state;
	char command[256];

	dup2(r->err, STDERR_FILENO);
	close(r->err);
	for (unsigned i = 0; i < MACHINES; i++)
		fs_close(r->fs[i]);
	snprintf(command, sizeof(command), "rm -rf %s %s", r->top, r->log);
	assert_int_equal(system(command), 0);
	free(r);
	return 0;
}

/* Times TEXT was logged since the last time this was asked. */
static unsigned logged(struct rig *r, const char *text)
{
	FILE *f = fopen(r->log, "r+e");
	char line[1024];
	unsigned n = 0;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		n += strstr(line, text) != NULL;
	assert_int_equal(ftruncate(fileno(f), 0), 0);
	fclose(f);
	return n;
}

static void start(struct rig *r, unsigned i, const char *path, bool shared,
		  bool readonly)
{
	const struct fs_options o = {.path = path,
				     .ownership = FS_OWNER_HOST,
				     .shared = shared,
				     .machine = i + 1,
				     .readonly = readonly};

	fs_close(r->fs[i]);
	assert_int_equal(fs_open("fs0", &o, &r->fs[i]), 0);
}

static struct fs_inode *find(struct rig *r, unsigned i, const char *name)
{
	struct fs_inode *inode = fs_inode(r->fs[i], FS_ROOT);
	struct fs_entry e;

	if (fs_lookup(r->fs[i], inode, "sub", &e) == 0)
		inode = e.inode;
	assert_int_equal(fs_lookup(r->fs[i], inode, name, &e), 0);
	return e.inode;
}

static uint64_t opened(struct rig *r, unsigned i, int flags, bool *ret_shared)
{
	struct fs_inode *inode = find(r, i, "file");
	uint64_t id;

	assert_int_equal(fs_open_file(r->fs[i], inode, flags, &id), 0);
	*ret_shared = fs_is_shared(fs_handle(r->fs[i], id, inode, false));
	fs_settle(r->fs[i]);
	return id;
}

static void closed(struct rig *r, unsigned i, uint64_t id)
{
	struct fs_inode *inode = find(r, i, "file");

	fs_release(r->fs[i], fs_handle(r->fs[i], id, inode, false));
	fs_settle(r->fs[i]);
}

static void expect_shared(struct rig *r, unsigned i, int flags, bool expected)
{
	bool shared;
	const uint64_t id = opened(r, i, flags, &shared);

	assert_int_equal(shared, expected);
	closed(r, i, id);
}

/* The second machine must not map what the first may have mapped. */
static void test_files(void **state)
{
	struct rig *r = *state;
	uint64_t one, two;
	bool shared;

	start(r, 0, r->top, false, false);
	start(r, 1, r->sub, false, false);
	one = opened(r, 0, O_RDWR, &shared);
	assert_false(shared);
	/* Its own processes may map it all. */
	two = opened(r, 0, O_WRONLY, &shared);
	assert_false(shared);
	assert_int_equal(logged(r, "'file' is in use elsewhere"), 0);
	expect_shared(r, 1, O_RDWR, true);
	expect_shared(r, 1, O_WRONLY, true);
	assert_int_equal(logged(r, "'file' is in use elsewhere"), 1);
	expect_shared(r, 1, O_RDONLY, false);
	closed(r, 0, one);
	expect_shared(r, 1, O_RDWR, true);
	closed(r, 0, two);
	expect_shared(r, 1, O_RDWR, false);
	/* A machine that is gone or begins anew has nothing open. */
	(void)opened(r, 0, O_RDWR, &shared);
	expect_shared(r, 1, O_RDWR, true);
	fs_reset(r->fs[0]);
	fs_settle(r->fs[0]);
	fs_reset_tell(r->fs[0]);
	expect_shared(r, 1, O_RDWR, false);
	(void)opened(r, 0, O_RDWR, &shared);
	start(r, 0, r->top, false, false);
	expect_shared(r, 1, O_RDWR, false);
}

static void test_created(void **state)
{
	struct rig *r = *state;
	const struct fs_who me = {geteuid(), getegid(), 0};
	struct fs_entry e;
	uint64_t id;

	start(r, 0, r->sub, false, false);
	start(r, 1, r->sub, false, false);
	assert_int_equal(fs_create(r->fs[0],
				   &(struct fs_place){
					   fs_inode(r->fs[0], FS_ROOT), "new"},
				   O_RDWR, 0600, &me, &e, &id),
			 0);
	assert_false(fs_is_shared(fs_handle(r->fs[0], id, e.inode, false)));
	assert_int_equal(fs_create(r->fs[1],
				   &(struct fs_place){
					   fs_inode(r->fs[1], FS_ROOT), "new"},
				   O_RDWR, 0600, &me, &e, &id),
			 0);
	assert_true(fs_is_shared(fs_handle(r->fs[1], id, e.inode, false)));
}

/* A program of the host's that locks a file has it open, too. */
static void test_locked_on_host(void **state)
{
	struct rig *r = *state;
	struct flock lock = {
		.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 128};
	struct fs_lock own = {
		.owner = {1, false}, .type = F_RDLCK, .end = INT64_MAX};
	const int fd = open(r->file, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	start(r, 0, r->top, false, false);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	expect_shared(r, 0, O_RDWR, true);
	close(fd);
	expect_shared(r, 0, O_RDWR, false);
	/* The guest's own locks do not count as another program's. */
	assert_int_equal(fs_lock(r->fs[0], find(r, 0, "file"), &own), 0);
	expect_shared(r, 0, O_RDWR, false);
}

#define MEETS "another machine"

static void test_directories(void **state)
{
	struct rig *r = *state;

	start(r, 0, r->sub, false, false);
	assert_int_equal(logged(r, MEETS), 0);
	/* The same, one above, one below. */
	start(r, 1, r->sub, false, false);
	assert_int_equal(logged(r, MEETS), 1);
	start(r, 1, r->top, false, false);
	assert_int_equal(logged(r, MEETS), 1);
	start(r, 0, r->sub, false, false);
	assert_int_equal(logged(r, MEETS), 1);
	/* Told to one only; to both; not to a third. */
	start(r, 0, r->sub, true, false);
	assert_int_equal(logged(r, MEETS), 1);
	start(r, 1, r->top, true, false);
	assert_int_equal(logged(r, MEETS), 0);
	start(r, 2, r->sub, false, false);
	assert_int_equal(logged(r, MEETS), 1);
	/* One that only reads. */
	start(r, 2, r->sub, false, true);
	assert_int_equal(logged(r, MEETS), 0);
	expect_shared(r, 2, O_RDONLY, false);
}

/* Two shares of one machine are told apart from two machines. */
static void test_one_machine(void **state)
{
	struct rig *r = *state;
	const struct fs_options a = {.path = r->top,
				     .ownership = FS_OWNER_HOST};
	const struct fs_options b = {.path = r->sub,
				     .ownership = FS_OWNER_HOST};

	assert_int_equal(fs_open("fs0", &a, &r->fs[0]), 0);
	assert_int_equal(fs_open("fs1", &b, &r->fs[1]), 0);
	assert_int_equal(logged(r, MEETS), 0);
	start(r, 2, r->sub, false, false);
	assert_int_equal(logged(r, MEETS), 1);
}

/* More than can be marked: of those left this guest must not map any. */
static void test_many(void **state)
{
	struct rig *r = *state;
	const struct fs_who me = {geteuid(), getegid(), 0};
	const struct fs_options o = {
		.path = r->sub, .ownership = FS_OWNER_HOST, .max_marks = 2};
	struct fs_entry e[3];
	uint64_t id[3];

	assert_int_equal(fs_open("fs0", &o, &r->fs[0]), 0);
	for (unsigned i = 0; i < 3; i++) {
		struct fs_inode *root = fs_inode(r->fs[0], FS_ROOT);
		const char name[] = {'a', (char)('0' + i), '\0'};

		assert_int_equal(fs_create(r->fs[0],
					   &(struct fs_place){root, name},
					   O_RDWR, 0600, &me, &e[i], &id[i]),
				 0);
		assert_int_equal(fs_is_shared(fs_handle(r->fs[0], id[i],
							e[i].inode, false)),
				 i == 2);
	}
	fs_release(r->fs[0], fs_handle(r->fs[0], id[0], e[0].inode, false));
	assert_int_equal(fs_open_file(r->fs[0], e[0].inode, O_RDWR, &id[0]), 0);
	assert_false(
		fs_is_shared(fs_handle(r->fs[0], id[0], e[0].inode, false)));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(test_files),          TEST(test_created),
		TEST(test_locked_on_host), TEST(test_directories),
		TEST(test_many),           TEST(test_one_machine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
