/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file system device, driven as a guest's FUSE would: what a well-behaved
 * one asks, and what a hostile one might.
 */
#include "tests/fuse-driver.h"

static void test_identity(void **state)
{
	struct rig *r = *state;
	char tag[36];

	assert_int_equal(vdriver_read32(r->v, VIRTIO_MMIO_DEVICE_ID),
			 VIRTIO_ID_FS);
	vdriver_config_read(r->v, 0, tag, sizeof(tag));
	assert_memory_equal(tag, "a-tag\0\0", 7);
	assert_int_equal(vdriver_read32(r->v, VIRTIO_MMIO_CONFIG + 36), 1);
}

static void test_init(void **state)
{
	struct rig *r = *state;
	struct fuse_init_in in = {.major = 8, .minor = 0};
	const struct fuse_init_out *out = r->answer;

	assert_int_equal(ASK(FUSE_INIT, 0, in), sizeof(*out));
	assert_int_equal(out->major, 7);
	in.major = 6;
	assert_int_equal(ASK(FUSE_INIT, 0, in), -EPROTO);
	in.major = 7;
	in.minor = 26;
	assert_int_equal(ASK(FUSE_INIT, 0, in), -EPROTO);
	/* Nothing that was not offered, not even from a short header. */
	in.minor = 31;
	in.flags = FUSE_ASYNC_READ;
	assert_int_equal(ask(r, &(struct ask){.opcode = FUSE_INIT,
					      .arg = &in,
					      .arg_bytes = 16}),
			 sizeof(*out));
	assert_int_equal(out->flags, FUSE_ASYNC_READ);
	assert_int_equal(out->flags2, 0);
	assert_int_equal(out->max_write, 1 << 20);
	assert_int_equal(ask(r, &(struct ask){.opcode = FUSE_INIT,
					      .arg = &in,
					      .arg_bytes = 15}),
			 -EINVAL);
	/* After DESTROY all is to be begun anew. */
	assert_int_equal(ask(r, &(struct ask){.opcode = FUSE_DESTROY}), 0);
	assert_int_equal(ask_name(r, FUSE_LOOKUP, FUSE_ROOT_ID, "file"),
			 -ENOSYS);
	assert_int_equal(start(r), sizeof(*out));
	assert_true(look(r, FUSE_ROOT_ID, "file") != 0);
}

static void test_lookup(void **state)
{
	struct rig *r = *state;
	const struct fuse_entry_out *out = r->answer;
	const uint64_t file = look(r, FUSE_ROOT_ID, "file");

	assert_int_equal(out->attr.size, 9);
	assert_true(S_ISREG(out->attr.mode));
	assert_int_equal(out->entry_valid, 1);
	assert_int_equal(look(r, FUSE_ROOT_ID, "file"), file);
	/* The guest remembers for a while that a name does not exist. */
	assert_int_equal(look(r, FUSE_ROOT_ID, "none"), 0);
	assert_int_equal(out->entry_valid, 1);
	/* From file handles; nothing is above the root. */
	assert_int_equal(look(r, FUSE_ROOT_ID, ".."), FUSE_ROOT_ID);
	assert_int_equal(look(r, file, "."), file);
	assert_int_equal(ask_name(r, FUSE_LOOKUP, file, ".."), -ENOTDIR);
	assert_int_equal(ask_name(r, FUSE_LOOKUP, file + 1, "."), -ESTALE);
	assert_int_equal(ask_name(r, FUSE_LOOKUP, file + 1, "x"), -ESTALE);
	assert_int_equal(ask_name(r, FUSE_LOOKUP, FUSE_ROOT_ID, "a/b"),
			 -EINVAL);
	assert_int_equal(ask_name(r, FUSE_LOOKUP, file, "x"), -ENOTDIR);
	assert_int_equal(ask(r, &(struct ask){.opcode = FUSE_LOOKUP,
					      .node = FUSE_ROOT_ID,
					      .text = "unterminated",
					      .text_bytes = 12}),
			 -EINVAL);
	assert_int_equal(ask(r, &(struct ask){.opcode = FUSE_LOOKUP,
					      .node = FUSE_ROOT_ID}),
			 -EINVAL);
	assert_int_equal(ask_name(r, FUSE_LOOKUP, 0, "file"), -ESTALE);
	assert_int_equal(ask_name(r, FUSE_LOOKUP, file + 1, "x"), -ESTALE);
	assert_int_equal(ask_name(r, FUSE_LOOKUP, UINT64_MAX, "x"), -ESTALE);
}

static void test_read(void **state)
{
	struct rig *r = *state;
	const uint64_t file = look(r, FUSE_ROOT_ID, "file");
	const uint64_t fh = open_node(r, file, O_RDONLY);
	struct fuse_read_in in = {.fh = fh, .size = 4096};

	assert_int_equal(ASK(FUSE_READ, file, in), 9);
	assert_memory_equal(r->answer, "some text", 9);
	in.offset = 5;
	assert_int_equal(ASK(FUSE_READ, file, in, .room = 2), 2);
	assert_memory_equal(r->answer, "te", 2);
	in.offset = 9;
	assert_int_equal(ASK(FUSE_READ, file, in), 0);
	in.offset = UINT64_MAX;
	assert_int_equal(ASK(FUSE_READ, file, in), -EINVAL);
	/* More than there is room for, or than any file. */
	in.offset = 0;
	in.size = UINT32_MAX;
	assert_int_equal(ASK(FUSE_READ, file, in, .room = 9), 9);
	in.fh++;
	assert_int_equal(ASK(FUSE_READ, file, in), -EBADF);
	in.fh = fh;
	assert_int_equal(ASK(FUSE_READ, FUSE_ROOT_ID, in), -EBADF);
	assert_int_equal(ASK(FUSE_READDIR, file, in), -EBADF);
	assert_int_equal(ASK(FUSE_WRITE, file,
			     ((struct fuse_write_in){.fh = fh, .size = 1}),
			     NAME("x")),
			 -EBADF);
}

/* Headers, arguments and data cut where no driver would. */
static void test_scattered(void **state)
{
	struct rig *r = *state;
	const uint64_t file = look(r, FUSE_ROOT_ID, "file");
	const uint64_t fh = open_node(r, file, O_RDWR);
	const struct {
		struct fuse_in_header header;
		struct fuse_write_in in;
		char text[20];
	} request = {
		{.len = 40 + 40 + 20, .opcode = FUSE_WRITE, .nodeid = file},
		{.fh = fh, .size = 20, .offset = 5},
		"twenty bytes of text",
	};
	struct iovec out[10], in[24];
	char text[32] = "";
	char path[128];
	FILE *f;

	for (unsigned i = 0; i < 10; i++)
		out[i] = vdriver_buf(r->v, (const char *)&request + 10 * i, 10);
	for (unsigned i = 0; i < 24; i++)
		in[i] = vdriver_buf(r->v, NULL, 1);
	assert_int_equal(vdriver_request(r->v, REQUESTS, out, 10, in, 24), 24);
	assert_int_equal(*(uint8_t *)in[0].iov_base, 24);
	assert_int_equal(*(uint8_t *)in[16].iov_base, 20);
	snprintf(path, sizeof(path), "%s/file", r->dir);
	f = fopen(path, "re");
	assert_non_null(f);
	assert_int_equal(fread(text, 1, 31, f), 25);
	fclose(f);
	assert_string_equal(text, "some twenty bytes of text");
}

static void test_write_sizes(void **state)
{
	struct rig *r = *state;
	const uint64_t file = look(r, FUSE_ROOT_ID, "file");
	struct fuse_write_in in = {.fh = open_node(r, file, O_RDWR)};
	const struct fuse_write_out *out = r->answer;

	/* As many bytes as there are, whatever the guest says. */
	in.size = 1000000;
	assert_int_equal(
		ASK(FUSE_WRITE, file, in, .text = "abc", .text_bytes = 3),
		sizeof(*out));
	assert_int_equal(out->size, 3);
	in.size = 2;
	assert_int_equal(
		ASK(FUSE_WRITE, file, in, .text = "xyz", .text_bytes = 3),
		sizeof(*out));
	assert_int_equal(out->size, 2);
	assert_int_equal(ASK(FUSE_WRITE, file, in, .text = "xyz",
			     .text_bytes = 3, .room = 3),
			 -EIO);
	in.offset = INT64_MAX;
	assert_true(ASK(FUSE_WRITE, file, in, .text = "xyz", .text_bytes = 3) <
		    0);
	/* At the end, wherever the guest thinks that is. */
	in.offset = 0;
	in.flags = O_APPEND;
	assert_int_equal(
		ASK(FUSE_WRITE, file, in, .text = "!!", .text_bytes = 2),
		sizeof(*out));
	assert_int_equal(ASK(FUSE_READ, file,
			     ((struct fuse_read_in){.fh = in.fh, .size = 100})),
			 11);
	assert_memory_equal(r->answer, "xyce text!!", 11);
}

static void test_create(void **state)
{
	struct rig *r = *state;
	const struct fuse_create_in in = {.flags = O_RDWR, .mode = 0640};
	const struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} *out = r->answer;
	struct stat st;
	char path[128];

	assert_int_equal(ASK(FUSE_CREATE, FUSE_ROOT_ID, in, NAME("new")),
			 sizeof(*out));
	assert_int_equal(out->entry.attr.mode, S_IFREG | 0640);
	assert_int_not_equal(out->open.fh, 0);
	snprintf(path, sizeof(path), "%s/new", r->dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(ASK(FUSE_CREATE, FUSE_ROOT_ID, in, NAME("../new")),
			 -EINVAL);
	/* Room for half of the answer. */
	assert_int_equal(
		ASK(FUSE_CREATE, FUSE_ROOT_ID, in, NAME("more"), .room = 128),
		-EIO);
}

static void test_readdir(void **state)
{
	struct rig *r = *state;
	const struct fuse_open_in open = {0};
	struct fuse_read_in in = {.size = 4096};
	const char *at = r->answer;
	unsigned n = 0;
	int64_t bytes;
	char name[16];

	for (unsigned i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		host_file(r, name, "");
	}
	assert_int_equal(ASK(FUSE_OPENDIR, FUSE_ROOT_ID, open),
			 sizeof(struct fuse_open_out));
	in.fh = ((const struct fuse_open_out *)r->answer)->fh;
	while ((bytes = ASK(FUSE_READDIRPLUS, FUSE_ROOT_ID, in)) > 0) {
		for (int64_t i = 0; i < bytes; n++) {
			const struct fuse_direntplus *e =
				(const void *)(at + i);

			assert_true(e->dirent.namelen > 0);
			if (e->dirent.name[0] != '.')
				assert_true(e->entry_out.nodeid > 1);
			else
				assert_int_equal(e->entry_out.nodeid, 0);
			in.offset = e->dirent.off;
			i += (int64_t)FUSE_DIRENTPLUS_SIZE(e);
		}
	}
	assert_int_equal(bytes, 0);
	assert_int_equal(n, 103);
	/* Too little for one entry; nonsense for an offset. */
	in.offset = 0;
	in.size = 20;
	assert_int_equal(ASK(FUSE_READDIR, FUSE_ROOT_ID, in), 0);
	in.size = UINT32_MAX;
	assert_true(ASK(FUSE_READDIR, FUSE_ROOT_ID, in, .room = 1000) <= 1000);
	in.offset = UINT64_MAX;
	assert_true(ASK(FUSE_READDIR, FUSE_ROOT_ID, in) <= 0);
}

static void test_forget(void **state)
{
	struct rig *r = *state;
	const uint64_t file = look(r, FUSE_ROOT_ID, "file");
	const struct fuse_getattr_in attr = {0};
	const struct {
		struct fuse_batch_forget_in in;
		struct fuse_forget_one one[2];
	} batch = {{.count = 1000}, {{file, 1}, {FUSE_ROOT_ID, 1000}}};

	assert_int_equal(look(r, FUSE_ROOT_ID, "file"), file);
	/* FORGET gets no answer even where its chain has room for one. */
	assert_int_equal(ask(r, &(struct ask){.opcode = FUSE_GETATTR,
					      .node = file,
					      .arg = &attr,
					      .arg_bytes = sizeof(attr)}),
			 sizeof(struct fuse_attr_out));
	r->unique++;
	{
		struct {
			struct fuse_in_header header;
			struct fuse_forget_in in;
		} one = {{.len = 48, .opcode = FUSE_FORGET, .nodeid = file},
			 {.nlookup = 1}};

		memcpy(r->out.iov_base, &one, sizeof(one));
		assert_int_equal(send_raw(r, sizeof(one), 0), 0);
	}
	assert_int_equal(ASK(FUSE_GETATTR, file, attr),
			 sizeof(struct fuse_attr_out));
	{
		struct fuse_in_header header = {
			.len = 40 + sizeof(batch),
			.opcode = FUSE_BATCH_FORGET,
		};

		memcpy(r->out.iov_base, &header, sizeof(header));
		memcpy((char *)r->out.iov_base + 40, &batch, sizeof(batch));
		assert_int_equal(send_raw(r, 40 + sizeof(batch), 0), 0);
	}
	assert_int_equal(ASK(FUSE_GETATTR, file, attr), -ESTALE);
	assert_int_equal(ASK(FUSE_GETATTR, FUSE_ROOT_ID, attr),
			 sizeof(struct fuse_attr_out));
}

static void test_unknown(void **state)
{
	struct rig *r = *state;
	const uint32_t opcodes[] = {0,
				    7,
				    19,
				    FUSE_BMAP,
				    FUSE_IOCTL,
				    FUSE_POLL,
				    FUSE_ACCESS,
				    FUSE_SETUPMAPPING,
				    FUSE_REMOVEMAPPING,
				    52,
				    4096,
				    UINT32_MAX};

	for (unsigned i = 0; i < ARRAY_LEN(opcodes); i++)
		assert_int_equal(ask(r, &(struct ask){.opcode = opcodes[i],
						      .node = FUSE_ROOT_ID}),
				 -ENOSYS);
}

static void test_xattr(void **state)
{
	struct rig *r = *state;
	const uint64_t file = look(r, FUSE_ROOT_ID, "file");
	/* Size, flags, and the longer arguments of FUSE_SETXATTR_EXT. */
	const uint32_t set[4] = {5}, too_long[4] = {UINT32_MAX};
	const uint32_t too_short[2] = {0};
	struct fuse_getxattr_in get = {.size = 0};

	assert_int_equal(ASK(FUSE_SETXATTR, file, set, .text = "user.x\0value",
			     .text_bytes = 12),
			 0);
	assert_int_equal(ASK(FUSE_GETXATTR, file, get, NAME("user.x")), 8);
	assert_int_equal(((const struct fuse_getxattr_out *)r->answer)->size,
			 5);
	get.size = 100;
	assert_int_equal(ASK(FUSE_GETXATTR, file, get, NAME("user.x")), 5);
	assert_memory_equal(r->answer, "value", 5);
	get.size = 4;
	assert_int_equal(ASK(FUSE_GETXATTR, file, get, NAME("user.x")),
			 -ERANGE);
	assert_int_equal(ASK(FUSE_SETXATTR, file, too_long, NAME("user.x")),
			 -EINVAL);
	assert_int_equal(ASK(FUSE_SETXATTR, file, too_short, NAME("u")),
			 -EINVAL);
	get.size = UINT32_MAX;
	assert_int_equal(ASK(FUSE_LISTXATTR, file, get), 7);
	assert_int_equal(ASK(FUSE_LISTXATTR, file, get, .room = 6), -EIO);
}

static void test_readonly(void **state)
{
	struct rig *r = *state;
	const uint32_t refused[] = {
		FUSE_SETATTR,        FUSE_SYMLINK,     FUSE_MKNOD,
		FUSE_MKDIR,          FUSE_UNLINK,      FUSE_RMDIR,
		FUSE_RENAME,         FUSE_RENAME2,     FUSE_LINK,
		FUSE_SETXATTR,       FUSE_REMOVEXATTR, FUSE_CREATE,
		FUSE_FALLOCATE,      FUSE_TMPFILE,     FUSE_WRITE,
		FUSE_COPY_FILE_RANGE};
	const uint8_t arg[128] = {0};
	struct fuse_open_in open = {.flags = O_WRONLY};
	uint64_t file;

	new_device(r, ",readonly");
	for (unsigned i = 0; i < ARRAY_LEN(refused); i++)
		assert_int_equal(ASK(refused[i], FUSE_ROOT_ID, arg), -EROFS);
	file = look(r, FUSE_ROOT_ID, "file");
	assert_int_equal(ASK(FUSE_OPEN, file, open), -EROFS);
	open.flags = O_RDWR;
	assert_int_equal(ASK(FUSE_OPEN, file, open), -EROFS);
	open.flags = O_RDONLY | O_TRUNC;
	assert_int_equal(ASK(FUSE_OPEN, file, open), -EROFS);
	open.flags = O_ACCMODE;
	assert_int_equal(ASK(FUSE_OPEN, file, open), -EROFS);
	(void)open_node(r, file, O_RDONLY | O_CREAT | O_APPEND);
}

/* The key reaches the tree, which does the rest (test-fs-mount). */
static void test_submounts(void **state)
{
	struct rig *r = *state;
	char at[TEMPDIR_ROOM + 8];

	if (unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		skip();
	snprintf(at, sizeof(at), "%s/dir", r->dir);
	assert_int_equal(mkdir(at, 0755), 0);
	host_file(r, "dir/under", "");
	assert_int_equal(mount("none", at, "tmpfs", 0, "size=1m"), 0);
	new_device(r, "");
	assert_int_equal(
		ask_name(r, FUSE_LOOKUP, look(r, FUSE_ROOT_ID, "dir"), "under"),
		sizeof(struct fuse_entry_out));
	new_device(r, ",submounts");
	assert_int_equal(
		ask_name(r, FUSE_LOOKUP, look(r, FUSE_ROOT_ID, "dir"), "under"),
		sizeof(struct fuse_entry_out));
	assert_int_equal(((const struct fuse_entry_out *)r->answer)->nodeid, 0);
	new_device(r, ",submounts=false");
	(void)look(r, look(r, FUSE_ROOT_ID, "dir"), "under");
	assert_int_equal(umount(at), 0);
}

/* Said once, and not asked for again. */
static void test_no_xattrs(void **state)
{
	struct rig *r = *state;
	const struct fuse_getxattr_in get = {.size = 100};
	const uint32_t set[4] = {5};
	uint64_t file;

	new_device(r, ",xattrs=none");
	file = look(r, FUSE_ROOT_ID, "file");
	assert_int_equal(ASK(FUSE_GETXATTR, file, get, NAME("user.x")),
			 -ENOSYS);
	assert_int_equal(ASK(FUSE_LISTXATTR, file, get), -ENOSYS);
	assert_int_equal(ASK(FUSE_SETXATTR, file, set, .text = "user.x\0value",
			     .text_bytes = 12),
			 -ENOSYS);
	assert_int_equal(ask_name(r, FUSE_REMOVEXATTR, file, "user.x"),
			 -ENOSYS);
}

/* Files that never change are read without being opened. */
static void test_stateless(void **state)
{
	struct rig *r = *state;
	const struct fuse_open_in open = {.flags = O_RDONLY};
	const struct fuse_release_in release = {.fh = 1};
	struct fuse_read_in in = {.size = 100};
	uint64_t file, other;

	host_file(r, "other", "more text");
	new_device(r, ",readonly,cache=always");
	file = look(r, FUSE_ROOT_ID, "file");
	other = look(r, FUSE_ROOT_ID, "other");
	assert_int_equal(ASK(FUSE_OPEN, file, open), -ENOSYS);
	assert_int_equal(ASK(FUSE_OPENDIR, FUSE_ROOT_ID, open), -ENOSYS);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(ASK(FUSE_READ, file, in), 9);
		assert_memory_equal(r->answer, "some text", 9);
		/* The handle there is inside is not the guest's. */
		assert_int_equal(ASK(FUSE_RELEASE, file, release), -EBADF);
		assert_int_equal(ASK(FUSE_READ, other, in), 9);
		assert_memory_equal(r->answer, "more text", 9);
		assert_true(ASK(FUSE_READDIRPLUS, FUSE_ROOT_ID, in) >= 0);
	}
	assert_int_equal(ASK(FUSE_READ, FUSE_ROOT_ID, in), -EISDIR);
	assert_int_equal(ASK(FUSE_READDIR, file, in), -ENOTDIR);
	/* More files than are kept open. */
	for (unsigned i = 0; i < 200; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%u", i);
		host_file(r, name, name);
		file = look(r, FUSE_ROOT_ID, name);
		assert_int_equal(ASK(FUSE_READ, file, in), strlen(name));
		assert_memory_equal(r->answer, name, strlen(name));
	}
	/* An O_PATH one each, and those 64. */
	assert_true(open_descriptors() < 300);
}

/* Everything the guest had open is closed when it resets the device. */
static void test_reset(void **state)
{
	struct rig *r = *state;
	unsigned before;

	vdriver_reset(r->v);
	before = open_descriptors();
	up(r);
	assert_int_equal(start(r), sizeof(struct fuse_init_out));
	for (unsigned i = 0; i < 50; i++)
		(void)open_node(r, look(r, FUSE_ROOT_ID, "file"), O_RDONLY);
	assert_true(open_descriptors() > before + 40);
	vdriver_reset(r->v);
	assert_int_equal(open_descriptors(), before);
	up(r);
	assert_int_equal(ask_name(r, FUSE_LOOKUP, FUSE_ROOT_ID, "file"),
			 -ENOSYS);
}

/* Adds a request with no arguments but ARG; its answer is not looked at. */
static void add(struct rig *r, unsigned q, struct fuse_in_header header,
		const void *arg, size_t arg_bytes, bool is_answered)
{
	const size_t bytes = sizeof(header) + arg_bytes;
	const struct iovec out = vdriver_buf(r->v, NULL, bytes);
	const struct iovec in = vdriver_buf(r->v, NULL, 256);

	header.len = (uint32_t)bytes;
	memcpy(out.iov_base, &header, sizeof(header));
	memcpy((char *)out.iov_base + sizeof(header), arg, arg_bytes);
	assert_true(vdriver_add(r->v, q, &out, 1, &in, is_answered) >= 0);
}

/* FORGET gives no interrupt: the driver is told of it with the next answer. */
static void test_not_awaited(void **state)
{
	struct rig *r = *state;
	struct fuse_in_header header = {.opcode = FUSE_FORGET};
	const struct fuse_forget_in forget = {.nlookup = 1};
	const struct fuse_getattr_in attr = {0};

	/* Else it would be told when to interrupt. */
	up_with(r, ~(UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX));
	assert_int_equal(start(r), sizeof(struct fuse_init_out));
	/* This takes the lock: the turn before has given its interrupt. */
	(void)vdriver_kicks(r->v);
	(void)vdriver_interrupts(r->v);
	for (unsigned i = 0; i < 3; i++)
		add(r, REQUESTS, header, &forget, sizeof(forget), false);
	header = (struct fuse_in_header){.opcode = FUSE_GETATTR,
					 .nodeid = FUSE_ROOT_ID};
	add(r, REQUESTS, header, &attr, sizeof(attr), true);
	vdriver_kick(r->v, REQUESTS);
	for (unsigned i = 0; i < 4; i++)
		assert_true(vdriver_wait_used(r->v, REQUESTS, NULL,
					      PATIENCE_MS) >= 0);
	(void)vdriver_kicks(r->v);
	assert_int_equal(vdriver_interrupts(r->v), 1);
	/* Without a next answer the device tells the driver some time later. */
	header = (struct fuse_in_header){.opcode = FUSE_FORGET};
	add(r, REQUESTS, header, &forget, sizeof(forget), false);
	vdriver_kick(r->v, REQUESTS);
	assert_true(vdriver_wait_used(r->v, REQUESTS, NULL, PATIENCE_MS) >= 0);
}

/* An answer that could wait for the next one does not wait across a pause. */
static void test_pause(void **state)
{
	struct rig *r = *state;
	const struct fuse_in_header header = {.opcode = FUSE_FORGET};
	const struct fuse_forget_in forget = {.nlookup = 1};

	for (unsigned round = 0; round < 50; round++) {
		for (unsigned i = 0; i < 5; i++)
			add(r, REQUESTS, header, &forget, sizeof(forget),
			    false);
		vdriver_kick(r->v, REQUESTS);
		vdriver_pause(r->v);
		virtio_resume(r->v->dev);
		for (unsigned i = 0; i < 5; i++)
			assert_true(vdriver_wait_used(r->v, REQUESTS, NULL,
						      PATIENCE_MS) >= 0);
	}
	(void)look(r, FUSE_ROOT_ID, "file");
}

/* As long as other requests come, FORGET needs no kick to be heard. */
static void test_forget_unkicked(void **state)
{
	struct rig *r = *state;
	const struct fuse_in_header header = {.opcode = FUSE_FORGET};
	const struct fuse_forget_in in = {.nlookup = 1};
	bool kicked = true;

	/* Unless the device has slept meanwhile. */
	while (kicked) {
		(void)look(r, FUSE_ROOT_ID, "file");
		add(r, 0, header, &in, sizeof(in), false);
		kicked = vdriver_kick(r->v, 0);
		assert_true(vdriver_wait_used(r->v, 0, NULL, PATIENCE_MS) >= 0);
	}
}

static uint64_t make_dir(struct rig *r, uint64_t dir, const char *name)
{
	const struct fuse_mkdir_in in = {.mode = 0755};

	assert_int_equal(ASK(FUSE_MKDIR, dir, in, .text = name,
			     .text_bytes = strlen(name) + 1),
			 sizeof(struct fuse_entry_out));
	return ((const struct fuse_entry_out *)r->answer)->nodeid;
}

/*
 * A directory that is known only for what was below it is renamed into just
 * that, which another share has moved: its old place goes meanwhile.
 */
static void test_two_shares(void **state)
{
	struct rig *r = *state, other = {0};
	const struct fuse_forget_in forget = {.nlookup = 1};
	const struct fuse_open_in open_in = {0};
	const struct fuse_getxattr_in list = {0};
	struct fuse_rename2_in rename_in = {0};
	uint64_t d, c;
	char name[16];

	snprintf(other.dir, sizeof(other.dir), "%s", r->dir);
	new_device(&other, "");
	d = make_dir(r, FUSE_ROOT_ID, "D");
	c = make_dir(r, d, "c");
	assert_int_equal(ASK(FUSE_OPENDIR, c, open_in),
			 sizeof(struct fuse_open_out));
	assert_int_equal(ASK(FUSE_FORGET, d, forget, .no_answer = true), 0);
	rename_in.newdir = FUSE_ROOT_ID;
	d = look(&other, FUSE_ROOT_ID, "D");
	r = &other;
	assert_int_equal(ASK(FUSE_RENAME2, d, rename_in, NAME("c\0c2")), 0);
	r = *state;
	/* More than there are descriptors (main()): that of c goes. */
	for (unsigned i = 0; i < NOFILE / 4; i++) {
		snprintf(name, sizeof(name), "x%u", i);
		assert_true(ASK(FUSE_LISTXATTR, make_dir(r, FUSE_ROOT_ID, name),
				list) >= 0);
	}
	rename_in.newdir = c;
	assert_int_equal(
		ASK(FUSE_RENAME2, FUSE_ROOT_ID, rename_in, NAME("D\0x")), 0);
	(void)look(r, c, "x");
	vdriver_free(other.v);
}

static void test_malformed(void **state)
{
	struct rig *r = *state;
	struct fuse_in_header header = {.opcode = FUSE_STATFS,
					.nodeid = FUSE_ROOT_ID};
	const struct {
		uint32_t len;
		size_t bytes, room;
	} cases[] = {
		{40, 39, 100}, /* no header */
		{39, 40, 100}, /* too short by its own word */
		{41, 40, 100}, /* too long */
		{UINT32_MAX, 40, 100}, {40, 40, 15}, /* no room for a header */
	};

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		header.len = cases[i].len;
		memcpy(r->out.iov_base, &header, sizeof(header));
		assert_int_equal(send_raw(r, cases[i].bytes, cases[i].room),
				 BROKEN);
		up(r);
		assert_int_equal(start(r), sizeof(struct fuse_init_out));
	}
	/* Arguments longer than any are an error of that request only. */
	header.len = OUT_MAX;
	header.opcode = FUSE_LOOKUP;
	header.unique = ++r->unique;
	memcpy(r->out.iov_base, &header, sizeof(header));
	assert_int_equal(send_raw(r, OUT_MAX, 1000), -E2BIG);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_identity),  TEST(test_init),
		TEST(test_lookup),    TEST(test_read),
		TEST(test_scattered), TEST(test_write_sizes),
		TEST(test_create),    TEST(test_readdir),
		TEST(test_forget),    TEST(test_unknown),
		TEST(test_xattr),     TEST(test_no_xattrs),
		TEST(test_readonly),  TEST(test_stateless),
		TEST(test_reset),     TEST(test_not_awaited),
		TEST(test_pause),     TEST(test_forget_unkicked),
		TEST(test_malformed), TEST(test_two_shares),
		TEST(test_submounts),
	};

	log_setup(LOG_ERROR, false);
	if (setrlimit(RLIMIT_NOFILE, &(struct rlimit){NOFILE, NOFILE}) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
