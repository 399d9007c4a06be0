/* SPDX-License-Identifier: Apache-2.0 */
/* File handles on the shared tree: inodes that come back by their numbers. */
#include "tests/fs.h"

/* The guest has a file handle of what it has given back (fs_lookup_again()). */
static int revive(struct rig *r, uint64_t id)
{
	struct fs_entry e = {0};
	int got;

	fs_settle(r->fs);
	got = fs_lookup_again(r->fs, id, &e);
	if (got == 0) {
		assert_int_equal(fs_inode_id(e.inode), id);
		fs_forget(r->fs, e.inode, 1);
	}
	fs_settle(r->fs);
	return got;
}

/* Looks at DIR's NAME and forgets it. Its number. */
static uint64_t pass(struct rig *r, struct fs_inode *dir, const char *name)
{
	struct fs_inode *inode = look(r, dir, name);
	const uint64_t id = fs_inode_id(inode);

	fs_forget(r->fs, inode, 1);
	fs_settle(r->fs);
	assert_null(fs_inode(r->fs, id));
	return id;
}

/* The same of a file in a directory, which is forgotten last. */
static uint64_t pass_below(struct rig *r, const char *dir, const char *name)
{
	struct fs_inode *inode = look(r, root(r), dir);
	const uint64_t dir_id = fs_inode_id(inode);
	const uint64_t id = pass(r, inode, name);

	fs_forget(r->fs, fs_inode(r->fs, dir_id), 1);
	fs_settle(r->fs);
	return id;
}

/* Where numbers are used again, and files' births are not known, none is kept.
 */
static void need_births(struct rig *r)
{
	struct statfs fs;
	struct statx stx;

	assert_int_equal(statfs(r->share, &fs), 0);
	assert_int_equal(statx(AT_FDCWD, r->share, 0,
			       STATX_BASIC_STATS | STATX_BTIME, &stx),
			 0);
	if (fs.f_type == OVERLAYFS_SUPER_MAGIC ||
	    !(stx.stx_mask & STATX_BTIME)) {
		print_message("files here have no time of birth\n");
		skip();
	}
}

static void test_again(void **state)
{
	struct rig *r = *state;
	const unsigned before = open_descriptors();
	struct fs_entry e;
	uint64_t dir, file;

	need_births(r);
	assert_int_equal(mkdir(path(r, "d"), 0755), 0);
	host_file(path(r, "d/f"), "f");
	file = pass_below(r, "d", "f");
	dir = pass(r, root(r), "d");
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(revive(r, file), 0);
		assert_int_equal(revive(r, dir), 0);
	}
	/* They cost the host memory only. */
	assert_int_equal(open_descriptors(), before);
	assert_int_equal(fs_lookup_again(r->fs, dir, &e), 0);
	assert_int_equal(fs_lookup_above(r->fs, e.inode, &e), 0);
	assert_int_equal(fs_inode_id(e.inode), FS_ROOT);
	fs_forget(r->fs, fs_inode(r->fs, dir), 1);
	/* Found by name it is the same. */
	assert_int_equal(pass_below(r, "d", "f"), file);
	/* Another file. */
	assert_int_equal(unlink(path(r, "d/f")), 0);
	host_file(path(r, "d/f"), "other");
	assert_int_equal(revive(r, file), -ESTALE);
	file = pass(r, look(r, root(r), "d"), "f");
	assert_int_equal(fs_unlink(r->fs, look(r, root(r), "d"), "f", false),
			 0);
	assert_int_equal(revive(r, file), -ESTALE);
	/* Another guest. */
	assert_int_equal(revive(r, dir), 0);
	fs_reset(r->fs);
	assert_int_equal(revive(r, dir), -ESTALE);
	assert_int_equal(revive(r, FS_ROOT), 0);
	assert_int_equal(revive(r, 0), -ESTALE);
	assert_int_equal(revive(r, UINT64_MAX), -ESTALE);
}

/* They go as others need their room. */
static void test_few_again(void **state)
{
	struct rig *r = *state;
	uint64_t id[40];
	char name[16];

	need_births(r);
	assert_int_equal(open_fs(r, &(struct fs_options){.max_inodes = 32}), 0);
	for (unsigned i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		host_file(path(r, name), "");
		id[i] = pass(r, root(r), name);
	}
	assert_int_equal(revive(r, id[39]), 0);
	assert_int_equal(revive(r, id[36]), 0);
	assert_int_equal(revive(r, id[35]), -ESTALE);
	for (unsigned i = 0; i < 32; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		assert_int_equal(looking(r, root(r), name), 0);
	}
	assert_int_equal(revive(r, id[39]), -ESTALE);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_again),
		TEST(test_few_again),
	};

	log_setup(LOG_ERROR, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
