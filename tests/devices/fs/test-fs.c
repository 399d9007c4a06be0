/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shared tree (fs.h) itself: what the host's users do to it meanwhile, few
 * descriptors, hostile names and xattrs.
 */
#include "tests/fs.h"

static void test_names(void **state)
{
	struct rig *r = *state;
	char longest[NAME_MAX + 2];
	struct fs_entry e;

	host_file(path(r, "f"), "x");
	assert_int_equal(looking(r, root(r), ""), -EINVAL);
	assert_int_equal(looking(r, root(r), "."), -EINVAL);
	assert_int_equal(looking(r, root(r), ".."), -EINVAL);
	assert_int_equal(looking(r, root(r), "../outside"), -EINVAL);
	assert_int_equal(looking(r, root(r), "/"), -EINVAL);
	assert_int_equal(looking(r, root(r), "f/"), -EINVAL);
	memset(longest, 'x', sizeof(longest));
	longest[NAME_MAX + 1] = '\0';
	assert_int_equal(looking(r, root(r), longest), -ENAMETOOLONG);
	assert_int_equal(looking(r, look(r, root(r), "f"), "x"), -ENOTDIR);
	assert_int_equal(fs_mkdir(r->fs, root(r), "../d", 0700, ME, &e),
			 -EINVAL);
	assert_int_equal(fs_unlink(r->fs, root(r), "..", true), -EINVAL);
	assert_int_equal(fs_rename(r->fs, &(struct fs_place){root(r), "f"},
				   &(struct fs_place){root(r), "../f"}, 0),
			 -EINVAL);
}

/* Links are shown, never gone through; special files are never opened. */
static void test_links_and_pipes(void **state)
{
	struct rig *r = *state;
	char secret[PATH_MAX], buf[PATH_MAX];
	struct fs_inode *link;
	uint64_t id;

	snprintf(secret, sizeof(secret), "%s/secret", r->outside);
	host_file(secret, "secret");
	assert_int_equal(symlink(secret, path(r, "file")), 0);
	assert_int_equal(symlink(r->outside, path(r, "dir")), 0);
	link = look(r, root(r), "file");
	assert_int_equal(contents(r, link, buf), -ENXIO);
	assert_int_equal(fs_open_dir(r->fs, link, &id), -ENOTDIR);
	assert_int_equal(looking(r, look(r, root(r), "dir"), "secret"),
			 -ENOTDIR);
	assert_int_equal(fs_readlink(r->fs, link, buf, 63), strlen(secret));
	assert_int_equal(mkfifo(path(r, "pipe"), 0600), 0);
	assert_int_equal(contents(r, look(r, root(r), "pipe"), buf), -ENXIO);
}

/* A directory becomes a link to one outside. */
static void test_swapped_for_link(void **state)
{
	struct rig *r = *state;
	char buf[64], moved[PATH_MAX];
	struct fs_inode *dir, *file;

	assert_int_equal(mkdir(path(r, "d"), 0755), 0);
	host_file(path(r, "d/f"), "inside");
	snprintf(moved, sizeof(moved), "%s/f", r->outside);
	host_file(moved, "outside");
	dir = look(r, root(r), "d");
	file = look(r, dir, "f");
	snprintf(moved, sizeof(moved), "%s/d2", r->top);
	assert_int_equal(rename(path(r, "d"), moved), 0);
	assert_int_equal(symlink(r->outside, path(r, "d")), 0);
	/* Its descriptor is still that of the directory it was. */
	assert_int_equal(contents(r, file, buf), 6);
	assert_string_equal(buf, "inside");
	/* Without it there is nothing at that name any more. */
	for (unsigned i = 0; i < 2 * FEW; i++) {
		char name[16];

		snprintf(name, sizeof(name), "x%u", i);
		host_file(path(r, name), "");
		assert_int_equal(contents(r, look(r, root(r), name), buf), 0);
	}
	assert_int_equal(contents(r, file, buf), -ESTALE);
	assert_int_equal(looking(r, dir, "f"), -ESTALE);
}

/* A whole tree with few descriptors. */
static void test_few_descriptors(void **state)
{
	struct rig *r = *state;
	const unsigned before = open_descriptors();
	struct fs_inode *dir[20], *file[20][20];
	char name[64], buf[64];

	for (unsigned d = 0; d < 20; d++) {
		snprintf(name, sizeof(name), "d%u", d);
		assert_int_equal(mkdir(path(r, name), 0755), 0);
		dir[d] = look(r, root(r), name);
		for (unsigned f = 0; f < 20; f++) {
			snprintf(name, sizeof(name), "d%u/f%u", d, f);
			host_file(path(r, name), name);
			file[d][f] = look(r, dir[d], strchr(name, '/') + 1);
		}
	}
	for (unsigned i = 0; i < 400; i++) {
		const unsigned d = i * 7 % 20, f = i * 3 / 20 % 20;
		struct statx stx;

		snprintf(name, sizeof(name), "d%u/f%u", d, f);
		assert_int_equal(fs_getattr(r->fs, file[d][f], NULL, &stx), 0);
		assert_int_equal(contents(r, file[d][f], buf), strlen(name));
		assert_string_equal(buf, name);
		assert_true(open_descriptors() <= before + FEW);
	}
	for (unsigned d = 0; d < 20; d++) {
		for (unsigned f = 0; f < 20; f++)
			fs_forget(r->fs, file[d][f], 1);
		fs_forget(r->fs, dir[d], 1);
	}
	fs_settle(r->fs);
	assert_int_equal(open_descriptors(), before);
}

/* Deeper than there are descriptors, and than a path can be. */
static void test_deep(void **state)
{
	struct rig *r = *state;
	struct fs_inode *dir = root(r), *file;
	struct fs_entry e;
	char buf[64] = "";
	uint64_t id;

	for (unsigned i = 0; i < 2000; i++) {
		assert_int_equal(fs_mkdir(r->fs, dir, "deep", 0755, ME, &e), 0);
		fs_settle(r->fs);
		dir = e.inode;
	}
	assert_int_equal(fs_create(r->fs, &(struct fs_place){dir, "f"}, O_RDWR,
				   0600, ME, &e, &id),
			 0);
	file = e.inode;
	fs_release(r->fs, fs_handle(r->fs, id, file, false));
	for (unsigned i = 0; i < 2 * FEW; i++) {
		snprintf(buf, sizeof(buf), "x%u", i);
		host_file(path(r, buf), "");
		(void)contents(r, look(r, root(r), buf), buf);
	}
	assert_int_equal(contents(r, file, buf), 0);
}

/* The guest keeps what it has open, wherever the host puts it. */
static void test_moved_while_open(void **state)
{
	const struct fs_change change = {.mode = true, .mode_value = 0600};
	struct rig *r = *state;
	struct fs_inode *inode;
	struct statx stx;
	char away[PATH_MAX];
	struct fs_entry e;
	uint64_t id;

	assert_int_equal(fs_create(r->fs, &(struct fs_place){root(r), "f"},
				   O_RDWR, 0644, ME, &e, &id),
			 0);
	inode = e.inode;
	snprintf(away, sizeof(away), "%s/f", r->outside);
	assert_int_equal(rename(path(r, "f"), away), 0);
	assert_int_equal(fs_getattr(r->fs, inode, NULL, &stx), 0);
	assert_int_equal(fs_setattr(r->fs, inode, NULL, &change), 0);
	assert_int_equal(unlink(away), 0);
	assert_int_equal(fs_getattr(r->fs, inode, NULL, &stx), 0);
	assert_int_equal(stx.stx_nlink, 0);
	assert_int_equal(stx.stx_mode, S_IFREG | 0600);
	fs_release(r->fs, fs_handle(r->fs, id, inode, false));
	fs_forget(r->fs, inode, 1);
	assert_int_equal(looking(r, root(r), "f"), -ENOENT);
}

/* Moved by the host into its own former child: no circle, no end of it. */
static void test_circle(void **state)
{
	struct rig *r = *state;
	char a[PATH_MAX], b[PATH_MAX];
	struct fs_inode *ia, *ib;

	assert_int_equal(mkdir(path(r, "a"), 0755), 0);
	assert_int_equal(mkdir(path(r, "a/b"), 0755), 0);
	ia = look(r, root(r), "a");
	ib = look(r, ia, "b");
	(void)looking(r, ib, "open-it");
	snprintf(a, sizeof(a), "%s/a/b", r->share);
	snprintf(b, sizeof(b), "%s/b", r->share);
	assert_int_equal(rename(a, b), 0);
	snprintf(a, sizeof(a), "%s/a", r->share);
	snprintf(b, sizeof(b), "%s/b/a", r->share);
	assert_int_equal(rename(a, b), 0);
	assert_ptr_equal(look(r, ib, "a"), ia);
	assert_int_equal(looking(r, ia, "none"), -ENOENT);
	assert_ptr_equal(look(r, root(r), "b"), ib);
	assert_int_equal(looking(r, ia, "none"), -ENOENT);
	fs_forget(r->fs, ia, 2);
	fs_forget(r->fs, ib, 2);
}

/* Another file with the same name, maybe with the same number. */
static void test_replaced(void **state)
{
	struct rig *r = *state;
	struct fs_inode *was;
	uint64_t id;
	struct statx stx;

	for (unsigned i = 0; i < 20; i++) {
		host_file(path(r, "f"), "x");
		was = look(r, root(r), "f");
		id = fs_inode_id(was);
		assert_int_equal(unlink(path(r, "f")), 0);
		host_file(path(r, "f"), "y");
		assert_int_equal(fs_getattr(r->fs, was, NULL, &stx), -ESTALE);
		assert_int_not_equal(fs_inode_id(look(r, root(r), "f")), id);
	}
	assert_null(fs_inode(r->fs, id + 1));
	assert_null(fs_inode(r->fs, id ^ UINT64_C(1) << 40));
}

static int opening(struct rig *r, struct fs_inode *inode, int flags)
{
	uint64_t id;
	const int e = fs_open_file(r->fs, inode, flags, &id);

	if (e == 0)
		fs_release(r->fs, fs_handle(r->fs, id, inode, false));
	return e;
}

/*
 * The guest has to look up again a file that it has a name for and that the
 * host has removed, moved or replaced: whatever is written to it was lost.
 */
static void test_gone_on_host(void **state)
{
	const struct fs_change mode = {.mode = true, .mode_value = 0600};
	const struct fs_change size = {.size = true};
	struct rig *r = *state;
	struct fs_inode *f, *g, *d;
	struct fs_entry e;
	char away[PATH_MAX];
	uint64_t id;

	host_file(path(r, "f"), "x");
	host_file(path(r, "g"), "x");
	assert_int_equal(mkdir(path(r, "d"), 0755), 0);
	f = look(r, root(r), "f");
	g = look(r, root(r), "g");
	d = look(r, root(r), "d");
	/* With its descriptor at hand. */
	assert_int_equal(opening(r, f, O_WRONLY), 0);
	assert_int_equal(opening(r, g, O_WRONLY), 0);
	assert_int_equal(looking(r, d, "none"), -ENOENT);
	assert_int_equal(unlink(path(r, "f")), 0);
	snprintf(away, sizeof(away), "%s/g~", r->share);
	assert_int_equal(rename(path(r, "g"), away), 0);
	host_file(path(r, "g"), "new");
	assert_int_equal(rmdir(path(r, "d")), 0);

	assert_int_equal(opening(r, f, O_WRONLY | O_TRUNC), -ESTALE);
	assert_int_equal(opening(r, f, O_RDONLY), -ESTALE);
	assert_int_equal(opening(r, g, O_WRONLY), -ESTALE);
	assert_int_equal(fs_setattr(r->fs, f, NULL, &mode), -ESTALE);
	assert_int_equal(fs_setattr(r->fs, g, NULL, &size), -ESTALE);
	assert_int_equal(fs_setxattr(r->fs, f, "user.x", "y", 1, 0), -ESTALE);
	assert_int_equal(fs_removexattr(r->fs, f, "user.x"), -ESTALE);
	assert_int_equal(fs_mkdir(r->fs, d, "x", 0755, ME, &e), -ESTALE);
	assert_int_equal(fs_create(r->fs, &(struct fs_place){d, "x"}, O_WRONLY,
				   0644, ME, &e, &id),
			 -ESTALE);
	/* The second look finds what is there now. */
	assert_int_equal(looking(r, root(r), "f"), -ENOENT);
	assert_ptr_not_equal(look(r, root(r), "g"), g);
	assert_int_equal(opening(r, look(r, root(r), "g~"), O_WRONLY), 0);
}

/*
 * The guest goes on using a file that it removed itself, or made without a
 * name.
 */
static void test_gone_in_guest(void **state)
{
	const struct fs_change mode = {.mode = true, .mode_value = 0600};
	struct rig *r = *state;
	struct fs_inode *f, *two;
	struct fs_entry e;
	char second[PATH_MAX];
	uint64_t id;

	host_file(path(r, "f"), "x");
	host_file(path(r, "over"), "x");
	host_file(path(r, "two"), "x");
	snprintf(second, sizeof(second), "%s/second", r->share);
	assert_int_equal(link(path(r, "two"), second), 0);
	f = look(r, root(r), "f");
	assert_int_equal(fs_unlink(r->fs, root(r), "f", false), 0);
	assert_int_equal(opening(r, f, O_RDWR), 0);
	assert_int_equal(fs_setattr(r->fs, f, NULL, &mode), 0);

	host_file(path(r, "f"), "y");
	f = look(r, root(r), "f");
	(void)look(r, root(r), "over");
	assert_int_equal(fs_rename(r->fs, &(struct fs_place){root(r), "over"},
				   &(struct fs_place){root(r), "f"}, 0),
			 0);
	assert_int_equal(opening(r, f, O_RDWR), 0);

	assert_int_equal(fs_tmpfile(r->fs, root(r), O_RDWR, 0600, ME, &e, &id),
			 0);
	assert_int_equal(opening(r, e.inode, O_RDWR), 0);
	assert_int_equal(fs_link(r->fs, e.inode, root(r), "named", &e), 0);
	assert_int_equal(opening(r, e.inode, O_RDWR), 0);
	assert_int_equal(unlink(path(r, "named")), 0);
	assert_int_equal(opening(r, e.inode, O_RDWR), -ESTALE);

	/* Another name is left, until the host takes that. */
	two = look(r, root(r), "two");
	assert_int_equal(fs_unlink(r->fs, root(r), "two", false), 0);
	assert_int_equal(opening(r, two, O_RDWR), 0);
	assert_int_equal(unlink(second), 0);
	assert_int_equal(opening(r, two, O_RDWR), -ESTALE);

	/* Both names are the guest's to take. */
	host_file(path(r, "two"), "x");
	assert_int_equal(link(path(r, "two"), second), 0);
	(void)look(r, root(r), "second");
	two = look(r, root(r), "two");
	assert_int_equal(fs_unlink(r->fs, root(r), "two", false), 0);
	assert_int_equal(fs_unlink(r->fs, root(r), "second", false), 0);
	assert_int_equal(opening(r, two, O_RDWR), 0);
}

static void test_limits(void **state)
{
	struct rig *r = *state;
	struct fs_inode *inode[8];
	uint64_t id[4], one_more;
	char name[16];

	assert_int_equal(open_fs(r, &(struct fs_options){.max_inodes = 8,
							 .max_handles = 4}),
			 0);
	for (unsigned i = 0; i < 9; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		host_file(path(r, name), "");
		if (i < 8)
			inode[i] = look(r, root(r), name);
	}
	assert_int_equal(looking(r, root(r), "f8"), -ENFILE);
	fs_forget(r->fs, inode[7], 1000);
	inode[7] = look(r, root(r), "f8");
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(
			fs_open_file(r->fs, inode[i], O_RDONLY, &id[i]), 0);
	assert_int_equal(fs_open_file(r->fs, inode[4], O_RDONLY, &one_more),
			 -ENFILE);
	assert_null(fs_handle(r->fs, id[0], inode[1], false));
	assert_null(fs_handle(r->fs, id[0], inode[0], true));
	assert_null(fs_handle(r->fs, 0, inode[0], false));
	assert_null(fs_handle(r->fs, UINT64_MAX, inode[0], false));
	fs_release(r->fs, fs_handle(r->fs, id[0], inode[0], false));
	assert_null(fs_handle(r->fs, id[0], inode[0], false));
	assert_int_equal(fs_open_file(r->fs, inode[4], O_RDONLY, &one_more), 0);
}

/* Removed files keep their descriptors, but not all of them. */
static void test_removed(void **state)
{
	struct rig *r = *state;
	struct fs_inode *inode[2 * FEW];
	unsigned there = 0;
	char name[16];

	for (unsigned i = 0; i < 2 * FEW; i++) {
		struct statx stx;

		snprintf(name, sizeof(name), "f%u", i);
		host_file(path(r, name), "");
		inode[i] = look(r, root(r), name);
		assert_int_equal(fs_unlink(r->fs, root(r), name, false), 0);
		fs_settle(r->fs);
		there += fs_getattr(r->fs, inode[i], NULL, &stx) == 0;
	}
	assert_int_equal(there, FEW / 2);
	for (unsigned i = 0; i < 2 * FEW; i++)
		fs_forget(r->fs, inode[i], 1);
}

/* Descriptors that are needed less than others are closed. */
static void use_descriptors(struct rig *r)
{
	for (unsigned i = 0; i < 2 * FEW; i++) {
		struct fs_entry e;
		char name[16];
		uint64_t id;

		snprintf(name, sizeof(name), "x%u", i);
		assert_int_equal(fs_mkdir(r->fs, root(r), name, 0755, ME, &e),
				 0);
		assert_int_equal(fs_open_dir(r->fs, e.inode, &id), 0);
		fs_release(r->fs, fs_handle(r->fs, id, e.inode, true));
	}
	fs_settle(r->fs);
}

/*
 * The directory that NAME_D is renamed into was below NAME_D, and only that
 * kept NAME_D known; the host has moved it since. It loses its old place while
 * NAME_D is being renamed.
 */
static void test_rename_drops(void **state)
{
	static const char *const new_names[] = {"x", "a-longer-name-than-x"};
	struct rig *r = *state;
	struct fs_entry d, c;
	char moved[PATH_MAX];
	uint64_t id;

	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(
			open_fs(r, &(struct fs_options){.max_paths = FEW}), 0);
		assert_int_equal(fs_mkdir(r->fs, root(r), "D", 0755, ME, &d),
				 0);
		assert_int_equal(fs_mkdir(r->fs, d.inode, "c", 0755, ME, &c),
				 0);
		assert_int_equal(fs_open_dir(r->fs, c.inode, &id), 0);
		fs_forget(r->fs, d.inode, 1);
		snprintf(moved, sizeof(moved), "%s/c%u", r->share, i);
		assert_int_equal(rename(path(r, "D/c"), moved), 0);
		use_descriptors(r);
		assert_int_equal(
			fs_rename(r->fs, &(struct fs_place){root(r), "D"},
				  &(struct fs_place){c.inode, new_names[i]}, 0),
			0);
		fs_settle(r->fs);
		assert_int_equal(looking(r, root(r), "D"), -ENOENT);
		assert_int_equal(looking(r, c.inode, new_names[i]), 0);
		snprintf(moved, sizeof(moved), "rm -rf %s/*", r->share);
		assert_int_equal(system(moved), 0);
	}
}

/* Within a request what was looked up stays, whatever else it does. */
static void test_request(void **state)
{
	struct rig *r = *state;
	const unsigned before = open_descriptors();
	struct fs_inode *inode, *dir;
	struct fs_handle *handle;
	struct fs_entry e;
	char byte;
	uint64_t id;

	host_file(path(r, "f"), "f");
	inode = look(r, root(r), "f");
	dir = root(r);
	assert_int_equal(fs_open_file(r->fs, inode, O_RDONLY, &id), 0);
	handle = fs_handle(r->fs, id, inode, false);
	fs_release(r->fs, handle);
	fs_forget(r->fs, inode, 1);
	assert_null(fs_handle(r->fs, id, inode, false));
	assert_null(fs_inode(r->fs, fs_inode_id(inode)));
	assert_int_equal(fs_read(handle, &(struct iovec){&byte, 1}, 1, 0), 1);
	/* Found again before it went: the same. */
	assert_int_equal(fs_lookup(r->fs, dir, "f", &e), 0);
	assert_ptr_equal(e.inode, inode);
	fs_settle(r->fs);
	assert_ptr_equal(fs_inode(r->fs, fs_inode_id(inode)), inode);
	fs_reset(r->fs);
	assert_int_equal(fs_lookup(r->fs, dir, "f", &e), 0);
	assert_ptr_equal(e.inode, inode);
	fs_forget(r->fs, inode, 1);
	id = fs_inode_id(inode);
	fs_settle(r->fs);
	assert_null(fs_inode(r->fs, id));
	assert_int_equal(open_descriptors(), before);
}

static void expect_owner(struct rig *r, const char *name, uint32_t uid,
			 uint32_t gid, uint32_t mode)
{
	struct fs_entry e;

	assert_int_equal(fs_lookup(r->fs, root(r), name, &e), 0);
	assert_int_equal(e.stx.stx_uid, uid);
	assert_int_equal(e.stx.stx_gid, gid);
	assert_int_equal(e.stx.stx_mode, mode);
	assert_int_equal(fs_getattr(r->fs, e.inode, NULL, &e.stx), 0);
	assert_int_equal(e.stx.stx_uid, uid);
	assert_int_equal(e.stx.stx_mode, mode);
	fs_forget(r->fs, e.inode, 1);
}

static void set(struct rig *r, const char *name, const char *text)
{
	assert_int_equal(
		setxattr(path(r, name), FS_STAT_XATTR, text, strlen(text), 0),
		0);
}

static void test_xattr_owner(void **state)
{
	static const char *const wrong[] = {
		"1",
		"1:2",
		"1:2:3",
		":2:100644:0",
		"1:2:100648:0",
		"1:2:100644:0x",
		"-1:2:100644:0",
		"4294967296:2:100644:0",
		"1:2:777777:0",
		"1:2:100644:99999999999999999999",
		"1:2:100644:0:",
		" 1:2:100644:0",
	};
	struct rig *r = *state;
	struct fs_entry e;

	assert_int_equal(
		open_fs(r, &(struct fs_options){.ownership = FS_OWNER_XATTR}),
		0);
	host_file(path(r, "f"), "");
	assert_int_equal(chmod(path(r, "f"), 0644), 0);
	assert_int_equal(mkdir(path(r, "d"), 0755), 0);
	expect_owner(r, "f", 0, 0, S_IFREG | 0644);
	set(r, "f", "12:34:104755:0");
	expect_owner(r, "f", 12, 34, S_IFREG | 04755);
	set(r, "f", "0:0:60660:2049");
	expect_owner(r, "f", 0, 0, S_IFBLK | 0660);
	assert_int_equal(fs_lookup(r->fs, root(r), "f", &e), 0);
	assert_int_equal(e.stx.stx_rdev_major, 8);
	assert_int_equal(e.stx.stx_rdev_minor, 1);
	/* It cannot make a directory of a file, or the other way round. */
	set(r, "f", "1:1:40755:0");
	expect_owner(r, "f", 1, 1, S_IFREG | 0755);
	set(r, "d", "1:1:120777:0");
	expect_owner(r, "d", 1, 1, S_IFDIR | 0777);
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		set(r, "f", wrong[i]);
		expect_owner(r, "f", 0, 0, S_IFREG | 0644);
	}
}

static void test_xattr_made(void **state)
{
	struct rig *r = *state;
	const struct fs_who user = {1000, 100, 0};
	const struct fs_node node = {S_IFCHR | 0666, makedev(1, 3)};
	struct stat st;
	struct fs_entry e;
	char buf[FS_STAT_MAX];

	assert_int_equal(
		open_fs(r, &(struct fs_options){.ownership = FS_OWNER_XATTR}),
		0);
	assert_int_equal(fs_mknod(r->fs, &(struct fs_place){root(r), "null"},
				  &node, &user, &e),
			 0);
	assert_int_equal(e.stx.stx_mode, S_IFCHR | 0666);
	assert_int_equal(stat(path(r, "null"), &st), 0);
	assert_int_equal(st.st_mode & (S_IFMT | 07022), S_IFREG);
	assert_int_equal(
		getxattr(path(r, "null"), FS_STAT_XATTR, buf, sizeof(buf)), 18);
	assert_memory_equal(buf, "1000:100:20666:259", 18);
	/* The guest neither sees nor sets it. */
	assert_int_equal(fs_getxattr(r->fs, e.inode, FS_STAT_XATTR, buf, 64),
			 -ENODATA);
	assert_int_equal(
		fs_setxattr(r->fs, e.inode, FS_STAT_XATTR, "0:0:0:0", 7, 0),
		-EPERM);
	assert_int_equal(fs_removexattr(r->fs, e.inode, FS_STAT_XATTR),
			 -ENODATA);
	assert_int_equal(fs_listxattr(r->fs, e.inode, buf, sizeof(buf)), 0);
	assert_int_equal(fs_setxattr(r->fs, e.inode, "system.posix_acl_access",
				     "", 0, 0),
			 -EOPNOTSUPP);
}

/* The host's kernel would make one for root. */
static void test_no_device(void **state)
{
	struct rig *r = *state;
	const struct fs_place at = {root(r), "x"};
	struct fs_node node = {S_IFBLK | 0600, makedev(8, 0)};
	struct fs_entry e;

	assert_int_equal(fs_mknod(r->fs, &at, &node, ME, &e), -EPERM);
	node = (struct fs_node){S_IFDIR | 0600, 0};
	assert_int_equal(fs_mknod(r->fs, &at, &node, ME, &e), -EINVAL);
	node = (struct fs_node){0, 0};
	assert_int_equal(fs_mknod(r->fs, &at, &node, ME, &e), -EINVAL);
	node = (struct fs_node){S_IFIFO | 0600, 0};
	assert_int_equal(fs_mknod(r->fs, &at, &node, ME, &e), 0);
}

/* Real ones where the host's said so, but they are never opened here. */
static void test_devices(void **state)
{
	struct rig *r = *state;
	const struct fs_node node = {S_IFCHR | 0640, makedev(1, 3)};
	struct fs_options options = {.devices = true};
	struct fs_place at;
	struct fs_entry e;
	struct stat st;
	uint64_t id;

	log_setup(LOG_ERROR, false);
	options.ownership = FS_OWNER_XATTR;
	assert_int_equal(open_fs(r, &options), -EINVAL);
	options.ownership = FS_OWNER_HOST;
	if (geteuid() != 0) {
		assert_int_equal(open_fs(r, &options), -EPERM);
		skip();
	}
	assert_int_equal(open_fs(r, &options), 0);
	at = (struct fs_place){root(r), "null"};
	if (fs_mknod(r->fs, &at, &node, ME, &e) == -EPERM)
		skip(); /* a host that lets nobody */
	assert_int_equal(stat(path(r, "null"), &st), 0);
	assert_true(S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3));
	assert_int_equal(e.stx.stx_rdev_minor, 3);
	assert_int_equal(fs_open_file(r->fs, e.inode, O_RDWR, &id), -ENXIO);
	assert_int_equal(fs_create(r->fs, &at, O_RDWR, 0600, ME, &e, &id),
			 -ENXIO);
	/* The option is gone, the device is not; and another is refused. */
	assert_int_equal(open_fs(r, &(struct fs_options){0}), 0);
	assert_int_equal(
		fs_open_file(r->fs, look(r, root(r), "null"), O_RDONLY, &id),
		-ENXIO);
	assert_int_equal(fs_mknod(r->fs, &(struct fs_place){root(r), "zero"},
				  &node, ME, &e),
			 -EPERM);
}

static void test_readdir(void **state)
{
	struct rig *r = *state;
	uint64_t id, at[1000], offset = 0;
	struct fs_dirent e;
	struct fs_handle *h;
	unsigned n = 0;
	char name[32];

	for (unsigned i = 0; i < 900; i++) {
		snprintf(name, sizeof(name), "some-longer-name-%u", i);
		host_file(path(r, name), "");
	}
	assert_int_equal(fs_open_dir(r->fs, root(r), &id), 0);
	h = fs_handle(r->fs, id, root(r), true);
	assert_non_null(h);
	for (; fs_readdir(r->fs, h, offset, &e) == 1; offset = e.next)
		at[n++] = offset;
	assert_int_equal(n, 902);
	/* The same offset, the same entry, from wherever. */
	for (unsigned i = 0; i < n; i += 97) {
		assert_int_equal(fs_readdir(r->fs, h, at[n - 1 - i], &e), 1);
		snprintf(name, sizeof(name), "%s", e.name);
		assert_int_equal(fs_readdir(r->fs, h, at[i], &e), 1);
		assert_int_equal(fs_readdir(r->fs, h, at[n - 1 - i], &e), 1);
		assert_string_equal(e.name, name);
	}
	assert_int_equal(fs_readdir(r->fs, h, offset, &e), 0);
	assert_true(fs_readdir(r->fs, h, UINT64_MAX, &e) <= 0);
}

static void test_unchanged(void **state)
{
	struct rig *r = *state;
	struct fs_inode *inode;
	struct statx stx;

	host_file(path(r, "f"), "one");
	inode = look(r, root(r), "f");
	assert_int_equal(fs_getattr(r->fs, inode, NULL, &stx), 0);
	assert_false(fs_unchanged(inode, &stx));
	assert_true(fs_unchanged(inode, &stx));
	host_file(path(r, "f"), "three");
	assert_int_equal(fs_getattr(r->fs, inode, NULL, &stx), 0);
	assert_false(fs_unchanged(inode, &stx));
}

static void test_bad_roots(void **state)
{
	struct rig *r = *state;
	const char *const paths[] = {"/nonexistent", "/etc/passwd", ""};
	struct fs *fs;

	(void)r;
	for (unsigned i = 0; i < 3; i++) {
		const struct fs_options o = {.path = paths[i]};

		log_setup(LOG_ERROR, false);
		assert_true(fs_open("(expected)", &o, &fs) < 0);
	}
}

/* One file of a directory: it can be changed, the directory can not. */
static void test_only(void **state)
{
	const struct fs_options options = {.only = "one"};
	struct rig *r = *state;
	struct fs_change mode = {.mode = true, .mode_value = 0777};
	struct fs_place one, other;
	struct fs_inode *inode;
	struct fs_entry e;
	char buf[64];
	uint64_t id;

	host_file(path(r, "one"), "1");
	host_file(path(r, "two"), "2");
	assert_int_equal(open_fs(r, &options), 0);
	inode = look(r, root(r), "one");
	assert_int_equal(contents(r, inode, buf), 1);
	assert_int_equal(fs_setattr(r->fs, inode, NULL, &mode), 0);
	assert_int_equal(looking(r, root(r), "two"), -ENOENT);
	assert_int_equal(fs_open_dir(r->fs, root(r), &id), -EACCES);
	assert_int_equal(fs_setattr(r->fs, root(r), NULL, &mode), -EPERM);
	assert_true(fs_setxattr(r->fs, root(r), "user.x", "y", 1, 0) < 0);
	one = (struct fs_place){root(r), "one"};
	other = (struct fs_place){root(r), "new"};
	assert_int_equal(fs_mkdir(r->fs, root(r), "new", 0755, ME, &e), -EPERM);
	assert_int_equal(fs_symlink(r->fs, root(r), "new", "x", ME, &e),
			 -EPERM);
	assert_int_equal(fs_link(r->fs, inode, root(r), "new", &e), -EPERM);
	assert_int_equal(fs_create(r->fs, &other, O_RDWR, 0644, ME, &e, &id),
			 -EPERM);
	assert_int_equal(fs_tmpfile(r->fs, root(r), O_RDWR, 0644, ME, &e, &id),
			 -EPERM);
	assert_int_equal(fs_unlink(r->fs, root(r), "one", false), -EPERM);
	assert_int_equal(fs_rename(r->fs, &one, &other, 0), -EPERM);
	assert_int_equal(access(path(r, "one"), F_OK), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_names),
		TEST(test_links_and_pipes),
		TEST(test_swapped_for_link),
		TEST(test_few_descriptors),
		TEST(test_deep),
		TEST(test_moved_while_open),
		TEST(test_circle),
		TEST(test_replaced),
		TEST(test_limits),
		TEST(test_gone_on_host),
		TEST(test_gone_in_guest),
		TEST(test_removed),
		TEST(test_rename_drops),
		TEST(test_request),
		TEST(test_xattr_owner),
		TEST(test_xattr_made),
		TEST(test_no_device),
		TEST(test_devices),
		TEST(test_readdir),
		TEST(test_unchanged),
		TEST(test_bad_roots),
		TEST(test_only),
	};

	log_setup(LOG_ERROR, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
