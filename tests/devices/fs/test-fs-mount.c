/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File systems that are mounted below a shared tree: shown or not, and those
 * that a guest never gets into. In a mount name space of its own.
 */
#include "tests/fs.h"

#include "vmm/base/util.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

static void place(const struct rig *r, const char *name, char ret[PATH_MAX])
{
	snprintf(ret, PATH_MAX, "%s/%s", r->share, name);
}

static void put(const struct rig *r, const char *name, const char *text)
{
	char at[PATH_MAX];

	place(r, name, at);
	host_file(at, text);
}

/* A memory file system on NAME, with the file "above"; "under" is below it. */
static void mount_over(const struct rig *r, const char *name)
{
	char at[PATH_MAX], file[NAME_MAX];

	place(r, name, at);
	assert_int_equal(mkdir(at, 0755), 0);
	snprintf(file, sizeof(file), "%s/under", name);
	put(r, file, "u");
	assert_int_equal(mount("none", at, "tmpfs", 0, "size=1m"), 0);
	snprintf(file, sizeof(file), "%s/above", name);
	put(r, file, "a");
}

static void bind_over(const struct rig *r, const char *source, const char *name)
{
	char at[PATH_MAX];

	place(r, name, at);
	assert_int_equal(mount(source, at, NULL, MS_BIND | MS_REC, NULL), 0);
}

static void let_go(const struct rig *r, const char *name)
{
	char at[PATH_MAX];

	place(r, name, at);
	assert_int_equal(umount2(at, MNT_DETACH), 0);
}

/* A test that failed left something: nothing is to be removed through it. */
static int teardown_mounts(void **state)
{
	static const char *const names[] = {"m/p", "m", "later", "mem", "p"};
	char at[PATH_MAX];

	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		place(*state, names[i], at);
		(void)umount2(at, MNT_DETACH);
	}
	return teardown(state);
}

static void test_shown(void **state)
{
	struct rig *r = *state;
	struct fs_inode *dir, *file;
	char buf[64];

	mount_over(r, "m");
	dir = look(r, root(r), "m");
	assert_int_equal(looking(r, dir, "under"), -ENOENT);
	file = look(r, dir, "above");
	assert_int_equal(contents(r, file, buf), 1);
	assert_true(fs_inode_number(file) != fs_inode_number(root(r)));
	let_go(r, "m");
}

/*
 * As a machine for a pod sees it, whose containers come and go: a file system
 * that is gone gives its place to the next.
 */
static void test_come_and_go(void **state)
{
	struct rig *r = *state;
	struct fs_common common = {0};
	const struct fs_options options = {.max_paths = FEW, .common = &common};
	struct fs *stays = NULL;
	uint64_t number;
	char at[PATH_MAX];

	place(r, "m", at);
	mount_over(r, "m");
	assert_int_equal(
		fs_open("test",
			&(struct fs_options){.path = at,
					     .ownership = FS_OWNER_HOST,
					     .common = &common},
			&stays),
		0);
	number = fs_inode_number(fs_inode(stays, FS_ROOT));
	for (unsigned i = 0; i < FS_DEVICES + 10; i++) {
		/* Those below stay mounted, so that each has a new number. */
		assert_int_equal(mount("none", r->share, "tmpfs", 0, "size=1m"),
				 0);
		mount_over(r, "m");
		assert_int_equal(open_fs(r, &options), 0);
		(void)look(r, look(r, root(r), "m"), "above");
		assert_true(common.ndevices <= 3);
		assert_int_equal(fs_inode_number(fs_inode(stays, FS_ROOT)),
				 number);
	}
	fs_close(stays);
	fs_close(r->fs);
	r->fs = NULL;
	for (unsigned i = 0; i < FS_DEVICES; i++)
		assert_int_equal(common.device[i].inodes, 0);
	for (unsigned i = 0; i < FS_DEVICES + 10; i++) {
		let_go(r, "m");
		assert_int_equal(umount2(r->share, MNT_DETACH), 0);
	}
	let_go(r, "m");
}

/* One mounted before, and one mounted while the guest runs. */
static void test_hidden(void **state)
{
	const struct fs_options options = {.no_submounts = true,
					   .max_paths = FEW};
	struct rig *r = *state;
	struct fs_inode *dir, *file;
	char buf[64];

	mount_over(r, "m");
	assert_int_equal(open_fs(r, &options), 0);
	dir = look(r, root(r), "m");
	assert_int_equal(looking(r, dir, "above"), -ENOENT);
	file = look(r, dir, "under");
	assert_int_equal(contents(r, file, buf), 1);
	assert_string_equal(buf, "u");
	mount_over(r, "later");
	dir = look(r, root(r), "later");
	assert_int_equal(looking(r, dir, "above"), -ENOENT);
	file = look(r, dir, "under");
	assert_int_equal(contents(r, file, buf), 1);
	assert_string_equal(buf, "u");
	let_go(r, "later");
	let_go(r, "m");
}

/* All that a guest does with a tree it can do with a copy of its mount. */
static void test_hidden_is_a_tree(void **state)
{
	const struct fs_options options = {.no_submounts = true,
					   .max_paths = FEW};
	struct rig *r = *state;
	const struct fs_change mode = {.mode = true, .mode_value = 0640};
	const struct iovec two = {(char[]){"22"}, 2};
	struct fs_inode *dir, *file, *found;
	struct fs_handle *handle;
	struct fs_place from, to;
	struct fs_lock lock;
	struct fs_entry e;
	struct statfs fs;
	char buf[64], at[PATH_MAX];
	uint64_t id, known;

	assert_int_equal(open_fs(r, &options), 0);
	assert_int_equal(fs_mkdir(r->fs, root(r), "d", 0755, ME, &e), 0);
	dir = e.inode;
	fs_settle(r->fs);
	assert_int_equal(fs_create(r->fs, &(struct fs_place){dir, "f"}, O_RDWR,
				   0600, ME, &e, &id),
			 0);
	file = e.inode;
	known = fs_inode_id(file);
	handle = fs_handle(r->fs, id, file, false);
	assert_int_equal(fs_write(handle, &two, 1, 0, false), 2);
	lock = (struct fs_lock){.owner.id = 1, .type = F_WRLCK, .end = 1};
	assert_int_equal(fs_lock(r->fs, file, &lock), 0);
	assert_int_equal(fs_setattr(r->fs, file, NULL, &mode), 0);
	if (fs_setxattr(r->fs, file, "user.x", "y", 1, 0) != -EOPNOTSUPP)
		assert_int_equal(fs_getxattr(r->fs, file, "user.x", buf, 8), 1);
	assert_int_equal(fs_statfs(r->fs, file, &fs), 0);
	assert_int_equal(fs_syncfs(r->fs), 0);
	fs_release(r->fs, handle);
	/* So many that its descriptor is closed. */
	for (unsigned i = 0; i < 3 * FEW; i++) {
		snprintf(buf, sizeof(buf), "d%u", i);
		fs_settle(r->fs);
		assert_int_equal(fs_mkdir(r->fs, root(r), buf, 0755, ME, &e),
				 0);
		assert_int_equal(fs_open_dir(r->fs, e.inode, &id), 0);
		fs_release(r->fs, fs_handle(r->fs, id, e.inode, true));
	}
	found = look(r, look(r, root(r), "d"), "f");
	assert_int_equal(fs_inode_id(found), known);
	assert_int_equal(contents(r, found, buf), 2);
	from = (struct fs_place){look(r, root(r), "d"), "f"};
	to = (struct fs_place){look(r, root(r), "d1"), "g"};
	assert_int_equal(fs_rename(r->fs, &from, &to, 0), 0);
	fs_settle(r->fs);
	assert_int_equal(fs_link(r->fs, found, root(r), "h", &e), 0);
	assert_int_equal(e.stx.stx_nlink, 2);
	/* The host sees all of it. */
	place(r, "d1/g", at);
	assert_int_equal(access(at, F_OK), 0);
	fs_settle(r->fs);
	assert_int_equal(fs_lookup_above(r->fs, to.dir, &e), 0);
	assert_ptr_equal(e.inode, root(r));
	fs_settle(r->fs);
	assert_int_equal(fs_lookup_above(r->fs, root(r), &e), 0);
	assert_ptr_equal(e.inode, root(r));
}

/* Machines find each other whichever way each has the tree. */
static void test_hidden_has_peers(void **state)
{
	struct fs_options options = {.no_submounts = true, .shared = true};
	struct rig *r = *state, other = *r;
	struct fs_inode *file[2];
	uint64_t id[2];

	put(r, "f", "1");
	options.machine = 1;
	assert_int_equal(open_fs(r, &options), 0);
	options.machine = 2;
	options.no_submounts = false;
	other.fs = NULL;
	assert_int_equal(open_fs(&other, &options), 0);
	file[0] = look(r, root(r), "f");
	assert_int_equal(fs_open_file(r->fs, file[0], O_RDWR, &id[0]), 0);
	file[1] = look(&other, root(&other), "f");
	assert_int_equal(fs_open_file(other.fs, file[1], O_RDWR, &id[1]), 0);
	assert_false(fs_is_shared(fs_handle(r->fs, id[0], file[0], false)));
	assert_true(fs_is_shared(fs_handle(other.fs, id[1], file[1], false)));
	fs_close(other.fs);
}

/* A user who may not copy a mount gets an error, not the mounts. */
static void test_needs_a_privilege(void **state)
{
	struct rig *r = *state;
	const struct fs_options options = {.no_submounts = true};
	int status;
	pid_t pid;

	assert_int_equal(chmod(r->top, 0755), 0);
	log_setup(LOG_ERROR, false);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(setresuid(65534, 65534, 65534) < 0 ? 1
		      : open_fs(r, &options) == -EPERM   ? 0
							 : 2);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void refuses_dir(struct rig *r, struct fs_inode *dir, const char *name)
{
	const struct fs_change mode = {.mode = true, .mode_value = 0777};
	struct fs_entry e;
	struct statx stx;
	struct statfs fs;
	char buf[64];
	uint64_t id;

	assert_int_equal(fs_getattr(r->fs, dir, NULL, &stx), 0);
	fs_settle(r->fs);
	assert_int_equal(fs_open_dir(r->fs, dir, &id), -EACCES);
	assert_int_equal(looking(r, dir, name), -EACCES);
	assert_int_equal(fs_mkdir(r->fs, dir, "new", 0755, ME, &e), -EACCES);
	assert_int_equal(fs_setattr(r->fs, dir, NULL, &mode), -EACCES);
	assert_int_equal(fs_getxattr(r->fs, dir, "user.x", buf, 8), -EACCES);
	assert_int_equal(fs_statfs(r->fs, dir, &fs), -EACCES);
	assert_int_equal(fs_tmpfile(r->fs, dir, O_RDWR, 0600, ME, &e, &id),
			 -EACCES);
	fs_settle(r->fs);
}

/* /proc/self is the monitor, whose memory is a file there. */
static void test_kernels_own(void **state)
{
	struct rig *r = *state;
	struct fs_inode *file, *dir;
	struct fs_lock lock = {.owner.id = 1, .type = F_RDLCK, .end = 1};
	struct fs_entry e;
	char at[PATH_MAX], buf[64];

	log_setup(LOG_ERROR, false);
	place(r, "p", at);
	assert_int_equal(mkdir(at, 0755), 0);
	bind_over(r, "/proc", "p");
	refuses_dir(r, look(r, root(r), "p"), "self");
	/* So is a file of it, and a tree of it below another mount. */
	put(r, "mem", "");
	bind_over(r, "/proc/self/mem", "mem");
	file = look(r, root(r), "mem");
	assert_int_equal(contents(r, file, buf), -EACCES);
	assert_int_equal(fs_lock(r->fs, file, &lock), -EACCES);
	fs_settle(r->fs);
	assert_int_equal(fs_link(r->fs, file, root(r), "l", &e), -EACCES);
	mount_over(r, "m");
	place(r, "m/p", at);
	assert_int_equal(mkdir(at, 0755), 0);
	bind_over(r, "/proc/self", "m/p");
	dir = look(r, root(r), "m");
	refuses_dir(r, look(r, dir, "p"), "mem");
	/* Hidden, it is not there at all. */
	assert_int_equal(open_fs(r, &(struct fs_options){.no_submounts = true}),
			 0);
	assert_int_equal(looking(r, look(r, root(r), "p"), "self"), -ENOENT);
	assert_int_equal(contents(r, look(r, root(r), "mem"), buf), 0);
	let_go(r, "m");
	let_go(r, "mem");
	let_go(r, "p");
}

/*
 * One that the guest knew as an ordinary directory: what it has open stays, and
 * nothing else is reached, with whatever number its file system has.
 */
static void test_kernels_own_later(void **state)
{
	struct rig *r = *state;
	struct fs_inode *dir;
	char at[PATH_MAX];
	uint64_t id;

	log_setup(LOG_ERROR, false);
	mount_over(r, "m");
	dir = look(r, root(r), "m");
	assert_int_equal(fs_open_dir(r->fs, dir, &id), 0);
	fs_release(r->fs, fs_handle(r->fs, id, dir, true));
	let_go(r, "m");
	place(r, "m", at);
	assert_int_equal(mount("none", at, "sysfs", MS_RDONLY, NULL), 0);
	fs_reset(r->fs);
	refuses_dir(r, look(r, root(r), "m"), "kernel");
	let_go(r, "m");
}

static void test_kernels_own_as_root(void **state)
{
	const char *const paths[] = {"/proc", "/proc/self", "/proc/sys/kernel"};
	struct fs *fs = NULL;

	(void)state;
	log_setup(LOG_ERROR, false);
	for (unsigned i = 0; i < ARRAY_LEN(paths); i++) {
		struct fs_options options = {.path = paths[i]};

		assert_int_equal(fs_open("(expected)", &options, &fs), -EACCES);
		options.no_submounts = true;
		assert_int_equal(fs_open("(expected)", &options, &fs), -EACCES);
	}
	assert_null(fs);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown_mounts)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_shown),
		TEST(test_come_and_go),
		TEST(test_hidden),
		TEST(test_hidden_is_a_tree),
		TEST(test_hidden_has_peers),
		TEST(test_needs_a_privilege),
		TEST(test_kernels_own),
		TEST(test_kernels_own_later),
		cmocka_unit_test(test_kernels_own_as_root),
	};

	if (unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		printf("no mount name space; run this as root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
