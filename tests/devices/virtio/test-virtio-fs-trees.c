/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file system device of several trees: what is its own in each, what they
 * have in common, and a guest that mixes them up.
 */
#include "devices/fs/fs.h"
#include "tests/fuse-driver.h"

#include "vmm/config/config.h"

/* Four trees of one directory: "rw", "ro", "file" and "sub". */
struct trees {
	struct rig rig;
	struct config machine;
};

extern const struct config_type virtio_fs_tree;

static void add_tree(struct trees *t, const char *name, const char *below,
		     const char *key)
{
	char dir[TEMPDIR_ROOM + 8];

	snprintf(dir, sizeof(dir), "%s/%s", t->rig.dir, below);
	assert_int_equal(
		config_add_pairs(&t->machine, &virtio_fs_tree,
				 (const struct config_pair[]){
					 {"dir", dir},
					 {"share", "all"},
					 {"name", name},
					 {key, key[0] == 'o' ? "file" : "true"},
				 },
				 4),
		0);
}

static struct vdriver *new_share(struct trees *t, const char *text)
{
	return vdriver_new_of(&virtio_fs, text,
			      &(struct virtio_host){.machine = &t->machine});
}

static int setup_trees(void **state)
{
	struct trees *t = calloc(1, sizeof(*t));
	struct rig *r = &t->rig;
	char sub[TEMPDIR_ROOM + 8];

	tempdir_name_on_disk(r->dir);
	if (!mkdtemp(r->dir))
		return -1;
	snprintf(sub, sizeof(sub), "%s/sub", r->dir);
	if (mkdir(sub, 0755) < 0)
		return -1;
	host_file(r, "file", "some text");
	host_file(r, "sub/low", "deep");
	config_init(&t->machine);
	add_tree(t, "rw", "", "submounts");
	add_tree(t, "ro", "", "readonly");
	add_tree(t, "file", "", "only");
	add_tree(t, "sub", "sub", "submounts");
	r->v = new_share(t, "tag=all");
	if (!r->v || loop_start_thread(r->v->loop, "vdriver") < 0)
		return -1;
	up(r);
	*state = t;
	return start(r) == sizeof(struct fuse_init_out) ? 0 : -1;
}

static int teardown_trees(void **state)
{
	struct trees *t = *state;
	char command[128];

	vdriver_free(t->rig.v);
	config_done(&t->machine);
	snprintf(command, sizeof(command), "rm -rf %s", t->rig.dir);
	assert_int_equal(system(command), 0);
	free(t);
	return 0;
}

static uint64_t tree(struct rig *r, const char *name)
{
	return look(r, FUSE_ROOT_ID, name);
}

static const struct fuse_entry_out *entry(const struct rig *r)
{
	return r->answer;
}

static void test_top(void **state)
{
	struct rig *r = &((struct trees *)*state)->rig;
	const struct fuse_getattr_in get = {0};
	const struct fuse_attr_out *attr = r->answer;
	const char names[] = "...rwrofilesub";
	char seen[32] = "";
	struct fuse_read_in read = {.size = 40};
	int64_t n;

	assert_int_equal(ASK(FUSE_GETATTR, FUSE_ROOT_ID, get), sizeof(*attr));
	assert_int_equal(attr->attr.mode, S_IFDIR | 0555);
	assert_int_equal(ask_name(r, FUSE_LOOKUP, FUSE_ROOT_ID, "no"), -ENOENT);
	assert_int_equal(ask_name(r, FUSE_LOOKUP, FUSE_ROOT_ID, "r"), -ENOENT);
	/* One entry at a time. */
	while ((n = ASK(FUSE_READDIR, FUSE_ROOT_ID, read)) > 0) {
		const struct fuse_dirent *d = r->answer;

		assert_true(strlen(seen) + d->namelen < sizeof(seen));
		strncat(seen, d->name, d->namelen);
		read.offset = d->off;
	}
	assert_int_equal(n, 0);
	assert_string_equal(seen, names);
	read.offset = 0;
	read.size = 4096;
	assert_true(ASK(FUSE_READDIRPLUS, FUSE_ROOT_ID, read) > 0);
	read.offset = UINT64_MAX;
	assert_int_equal(ASK(FUSE_READDIR, FUSE_ROOT_ID, read), 0);
	assert_int_equal(ASK(FUSE_READDIRPLUS, FUSE_ROOT_ID, read), 0);
	(void)look(r, FUSE_ROOT_ID, ".");
	assert_int_equal(entry(r)->nodeid, FUSE_ROOT_ID);
}

/* Each request there is, on the directory of the trees. */
static void test_top_is_fixed(void **state)
{
	struct rig *r = &((struct trees *)*state)->rig;
	const uint8_t arg[200] = {0};
	const uint32_t writes[] = {
		FUSE_SETATTR, FUSE_SYMLINK,  FUSE_MKNOD,       FUSE_MKDIR,
		FUSE_UNLINK,  FUSE_RMDIR,    FUSE_RENAME,      FUSE_RENAME2,
		FUSE_LINK,    FUSE_SETXATTR, FUSE_REMOVEXATTR, FUSE_CREATE,
		FUSE_TMPFILE, FUSE_WRITE,    FUSE_FALLOCATE,
	};

	for (unsigned i = 0; i < ARRAY_LEN(writes); i++)
		assert_int_equal(ASK(writes[i], FUSE_ROOT_ID, arg), -EROFS);
	/* ENOSYS would end what the trees have, too. */
	for (uint32_t i = 1; i < 64; i++) {
		const int64_t n = i == FUSE_FORGET || i == FUSE_BATCH_FORGET ||
						  i == FUSE_INTERRUPT ||
						  i == FUSE_DESTROY ||
						  i == FUSE_INIT
					  ? 0
					  : ASK(i, FUSE_ROOT_ID, arg);
		const int64_t in_tree =
			n == -ENOSYS ? ASK(i, tree(r, "rw"), arg) : 0;

		assert_true(n != -ENOSYS || in_tree == -ENOSYS);
		assert_true(n != BROKEN);
	}
	(void)tree(r, "rw");
}

static void test_trees(void **state)
{
	struct rig *r = &((struct trees *)*state)->rig;
	const struct fuse_mkdir_in mkdir_in = {.mode = 0755};
	uint64_t rw, ro, file;

	rw = tree(r, "rw");
	assert_true(entry(r)->attr.flags & FUSE_ATTR_SUBMOUNT);
	ro = tree(r, "ro");
	assert_true(rw != ro && rw != FUSE_ROOT_ID && ro != FUSE_ROOT_ID);
	assert_int_equal(ASK(FUSE_MKDIR, rw, mkdir_in, NAME("new")),
			 sizeof(struct fuse_entry_out));
	assert_int_equal(ASK(FUSE_MKDIR, ro, mkdir_in, NAME("more")), -EROFS);
	(void)look(r, ro, "new");
	assert_int_equal(ask_name(r, FUSE_RMDIR, ro, "new"), -EROFS);
	/* The file itself, whichever way. */
	file = tree(r, "file");
	assert_false(entry(r)->attr.flags & FUSE_ATTR_SUBMOUNT);
	assert_true(S_ISREG(entry(r)->attr.mode));
	(void)open_node(r, file, O_RDWR);
	(void)look(r, rw, "file");
	assert_true(entry(r)->nodeid != file);
	assert_int_equal(ask_name(r, FUSE_LOOKUP, file, "x"), -ENOTDIR);
	/* A tree's top is where the way up ends. */
	(void)look(r, rw, "..");
	assert_int_equal(entry(r)->nodeid, rw);
	assert_int_equal(ask_name(r, FUSE_RMDIR, rw, "new"), 0);
}

/* The trees are of one file system: the host's kernel would do it all. */
static void test_across(void **state)
{
	struct rig *r = &((struct trees *)*state)->rig;
	const uint64_t rw = tree(r, "rw"), sub = tree(r, "sub");
	const uint64_t file = look(r, rw, "file"), low = look(r, sub, "low");
	const struct fuse_rename_in rename_in = {.newdir = sub};
	const struct fuse_rename2_in to_top = {.newdir = FUSE_ROOT_ID};
	const struct fuse_link_in link_in = {.oldnodeid = file};
	struct fuse_copy_file_range_in copy = {.nodeid_out = low, .len = 4};
	struct fuse_read_in read = {.size = 16};

	assert_int_equal(ASK(FUSE_RENAME, rw, rename_in, NAME("file\0f")),
			 -EXDEV);
	assert_int_equal(ASK(FUSE_RENAME2, rw, to_top, NAME("file\0f")),
			 -EXDEV);
	assert_int_equal(ASK(FUSE_LINK, sub, link_in, NAME("f")), -EXDEV);
	copy.fh_in = open_node(r, file, O_RDONLY);
	copy.fh_out = open_node(r, low, O_RDWR);
	assert_int_equal(ASK(FUSE_COPY_FILE_RANGE, file, copy), -EXDEV);
	/* Another tree's handle is none, or one of the tree's own. */
	read.fh = copy.fh_in;
	assert_int_equal(ASK(FUSE_READ, file, read), 9);
	read.fh = 77;
	assert_int_equal(ASK(FUSE_READ, low, read), -EBADF);
}

/* Numbers that nobody gave the guest. */
static void test_made_up_nodes(void **state)
{
	struct rig *r = &((struct trees *)*state)->rig;
	const struct fuse_getattr_in get = {0};
	const uint64_t rw = tree(r, "rw");
	const uint64_t made_up[] = {
		0,
		2,
		rw + 1,
		rw << 8,
		UINT32_MAX,
		UINT64_MAX,
		rw | UINT64_C(1) << 63,
		(rw & ~UINT64_C(0xff)) | 0xff,
		UINT64_C(5) << FS_ID_BITS | 1,
		UINT64_C(1023) << FS_ID_BITS | 1,
	};
	const struct fuse_rename_in rename_in = {.newdir = UINT32_MAX};

	for (unsigned i = 0; i < ARRAY_LEN(made_up); i++) {
		assert_int_equal(ASK(FUSE_GETATTR, made_up[i], get), -ESTALE);
		assert_int_equal(ask_name(r, FUSE_LOOKUP, made_up[i], "."),
				 -ESTALE);
	}
	assert_int_equal(ASK(FUSE_RENAME, rw, rename_in, NAME("file\0f")),
			 -EXDEV);
	/* The directory of a single file leads there only, as ever. */
	assert_int_equal(
		look(r, UINT64_C(3) << FS_ID_BITS | FUSE_ROOT_ID, "sub"), 0);
}

static void test_forget(void **state)
{
	struct rig *r = &((struct trees *)*state)->rig;
	const struct fuse_getattr_in get = {0};
	const uint64_t low = look(r, tree(r, "sub"), "low");
	const uint64_t file = look(r, tree(r, "ro"), "file");
	struct {
		struct fuse_batch_forget_in head;
		struct fuse_forget_one one[4];
	} batch = {
		.head.count = 4,
		.one = {{low, 1},
			{FUSE_ROOT_ID, 9},
			{file, 1},
			{UINT64_MAX, 1}},
	};

	assert_int_equal(ASK(FUSE_BATCH_FORGET, 0, batch, .no_answer = true),
			 0);
	assert_int_equal(ASK(FUSE_GETATTR, low, get), -ESTALE);
	assert_int_equal(ASK(FUSE_GETATTR, file, get), -ESTALE);
	(void)look(r, tree(r, "sub"), "low");
	/* A new mount: nothing of the old one is left in any tree. */
	assert_int_equal(start(r), sizeof(struct fuse_init_out));
	assert_int_equal(ASK(FUSE_GETATTR, low, get), -ESTALE);
	(void)look(r, tree(r, "sub"), "low");
}

static void test_locks(void **state)
{
	struct rig *r = &((struct trees *)*state)->rig;
	const uint64_t here = look(r, tree(r, "rw"), "file");
	const uint64_t there = look(r, tree(r, "ro"), "file");
	struct fuse_lk_in lock = {.owner = 1,
				  .lk = {.end = 1, .type = F_WRLCK}};

	lock.fh = open_node(r, here, O_RDWR);
	assert_int_equal(ASK(FUSE_SETLK, here, lock), 0);
	/* The same file by way of another tree. */
	lock.owner = 2;
	lock.lk.type = F_RDLCK;
	lock.fh = open_node(r, there, O_RDONLY);
	assert_int_equal(ASK(FUSE_SETLK, there, lock), -EAGAIN);
	lock.owner = 1;
	lock.lk.type = F_UNLCK;
	assert_int_equal(ASK(FUSE_SETLK, here, lock), 0);
	lock.owner = 2;
	lock.lk.type = F_RDLCK;
	assert_int_equal(ASK(FUSE_SETLKW, there, lock), 0);
}

/* A configuration with one tree of "all" and the SHARE, if not NULL. */
static int check(const char *share)
{
	struct config cfg;
	int r = 0;

	config_init(&cfg);
	assert_int_equal(config_add_device(&cfg, &virtio_fs_tree,
					   "/tmp,share=all,name=x"),
			 0);
	if (share)
		assert_int_equal(
			config_add_device(&cfg, &virtio_fs.type, share), 0);
	r = virtio_fs_tree.check_all(&cfg, &cfg.device[0]);
	if (r == 0 && share)
		r = virtio_fs.type.check_all(&cfg, &cfg.device[1]);
	config_done(&cfg);
	return r;
}

static void test_bad_configs(void **state)
{
	const char *const bad[] = {NULL,
				   "tag=other",
				   "tag=all,readonly",
				   "tag=all,only=file",
				   "tag=all,submounts=false",
				   "/tmp,tag=all"};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(check(bad[i]), -EINVAL);
	assert_int_equal(check("tag=all,cache=never"), 0);
}

static void test_bad_trees(void **state)
{
	struct trees *t = *state;
	struct config_param *param;

	add_tree(t, "rw", "", "readonly");
	assert_null(new_share(t, "tag=all"));
	param = t->machine.device[4].param;
	free(param[2].value);
	param[2].value = strdup("a/b");
	assert_null(new_share(t, "tag=all"));
	free(param[0].value);
	param[0].value = strdup("/nonexistent");
	assert_null(new_share(t, "tag=all"));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup_trees, teardown_trees)
	const struct CMUnitTest tests[] = {
		TEST(test_top),           TEST(test_top_is_fixed),
		TEST(test_trees),         TEST(test_across),
		TEST(test_made_up_nodes), TEST(test_forget),
		TEST(test_locks),         TEST(test_bad_configs),
		TEST(test_bad_trees),
	};

	log_setup(LOG_ERROR, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
