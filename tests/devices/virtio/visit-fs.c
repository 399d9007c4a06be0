/* SPDX-License-Identifier: Apache-2.0 */
/* A share whose guest has files open, read half a directory, and locked one. */
#include "tests/devices/virtio/visit-kinds.h"
#include "tests/fuse-driver.h"

#include <sys/file.h>

#define LISTED 60

struct share_end {
	struct rig f;
	uint64_t node, fh, dir, list; /* "left" and "dir", open */
	uint64_t at;                  /* in the directory, and */
	unsigned nlisted;
};

static void fs_setup(struct visit_rig *r)
{
	struct share_end *end = calloc(1, sizeof(*end));

	tempdir_name_on_disk(end->f.dir);
	assert_non_null(mkdtemp(end->f.dir));
	host_file(&end->f, "file", "some text");
	r->host = end;
}

static void fs_teardown(struct visit_rig *r)
{
	struct share_end *end = r->host;
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", end->f.dir);
	assert_int_equal(system(command), 0);
	free(end);
}

static void fs_open_device(struct visit_rig *r)
{
	struct share_end *end = r->host;
	char text[TEMPDIR_ROOM + 16];

	snprintf(text, sizeof(text), "%s,tag=a-tag", end->f.dir);
	r->v = end->f.v = vdriver_new(&virtio_fs, text);
	assert_non_null(r->v);
}

static void point(struct rig *f)
{
	f->answer = (char *)f->in.iov_base + sizeof(struct fuse_out_header);
}

static void fs_begin(struct visit_rig *r)
{
	struct share_end *end = r->host;
	struct rig *f = &end->f;

	f->out = vdriver_buf(f->v, NULL, OUT_MAX);
	f->in = vdriver_buf(f->v, NULL, IN_MAX);
	point(f);
	assert_int_equal(start(f), sizeof(struct fuse_init_out));
}

static void fs_moved(struct visit_rig *r, const struct vdriver_saved *saved)
{
	struct share_end *end = r->host;
	struct rig *f = &end->f;

	if (!f->out.iov_base)
		return;
	f->out.iov_base = vdriver_moved(f->v, saved, f->out.iov_base);
	f->in.iov_base = vdriver_moved(f->v, saved, f->in.iov_base);
	point(f);
}

struct created {
	struct fuse_entry_out entry;
	struct fuse_open_out open;
};

static struct created create(struct rig *r, uint64_t dir, const char *name)
{
	const struct fuse_create_in in = {.flags = O_RDWR | O_CREAT,
					  .mode = 0640};

	assert_int_equal(ask(r, &(struct ask){.opcode = FUSE_CREATE,
					      .node = dir,
					      .arg = &in,
					      .arg_bytes = sizeof(in),
					      .text = name,
					      .text_bytes = strlen(name) + 1}),
			 sizeof(struct created));
	return *(const struct created *)r->answer;
}

static void write_at(struct rig *r, uint64_t node, uint64_t fh, uint64_t at,
		     const char *text)
{
	const struct fuse_write_in in = {
		.fh = fh, .offset = at, .size = (uint32_t)strlen(text)};

	assert_int_equal(ASK(FUSE_WRITE, node, in, .text = text,
			     .text_bytes = strlen(text)),
			 sizeof(struct fuse_write_out));
}

static void reads(struct rig *r, uint64_t node, uint64_t fh, const char *text)
{
	const struct fuse_read_in in = {.fh = fh, .size = 100};

	assert_int_equal(ASK(FUSE_READ, node, in), strlen(text));
	assert_memory_equal(r->answer, text, strlen(text));
}

static void release(struct rig *r, uint64_t node, uint64_t fh, bool is_dir)
{
	const struct fuse_release_in in = {.fh = fh};

	assert_int_equal(ASK(is_dir ? FUSE_RELEASEDIR : FUSE_RELEASE, node, in),
			 0);
}

static void fs_traffic(struct visit_rig *r)
{
	struct share_end *end = r->host;
	struct rig *f = &end->f;
	const uint64_t file = look(f, FUSE_ROOT_ID, "file");
	const uint64_t fh = open_node(f, file, O_RDONLY);
	struct created made;
	char name[16];

	reads(f, file, fh, "some text");
	release(f, file, fh, false);
	snprintf(name, sizeof(name), "n%u", r->round);
	made = create(f, FUSE_ROOT_ID, name);
	write_at(f, made.entry.nodeid, made.open.fh, 0, name);
	reads(f, made.entry.nodeid, made.open.fh, name);
	release(f, made.entry.nodeid, made.open.fh, false);
	assert_int_equal(ask_name(f, FUSE_UNLINK, FUSE_ROOT_ID, name), 0);
	{
		struct {
			struct fuse_in_header header;
			struct fuse_forget_in in;
		} one = {{.len = 48,
			  .opcode = FUSE_FORGET,
			  .nodeid = made.entry.nodeid},
			 {.nlookup = 1}};

		memcpy(f->out.iov_base, &one, sizeof(one));
		assert_int_equal(send_raw(f, sizeof(one), 0), 0);
	}
}

static int lock_by(struct share_end *end, uint64_t owner, uint32_t type)
{
	struct rig *r = &end->f;
	const struct fuse_lk_in in = {
		.fh = end->fh,
		.owner = owner,
		.lk = {.end = INT64_MAX, .type = type, .pid = 5},
	};

	return (int)ASK(FUSE_SETLK, end->node, in);
}

static int flock_by(struct share_end *end, uint64_t owner, uint32_t type)
{
	struct rig *r = &end->f;
	const struct fuse_lk_in in = {
		.fh = end->fh,
		.owner = owner,
		.lk_flags = FUSE_LK_FLOCK,
		.lk = {.end = INT64_MAX, .type = type, .pid = 5},
	};

	return (int)ASK(FUSE_SETLK, end->node, in);
}

/* Entries of the directory from where it is; true: there were some. */
static bool list_some(struct share_end *end, uint32_t bytes)
{
	struct rig *r = &end->f;
	const struct fuse_read_in in = {
		.fh = end->list, .offset = end->at, .size = bytes};
	const int64_t n = ASK(FUSE_READDIR, end->dir, in);

	assert_true(n >= 0);
	for (int64_t i = 0; i < n;) {
		const struct fuse_dirent *e =
			(const void *)((const char *)r->answer + i);

		end->nlisted++;
		end->at = e->off;
		i += (int64_t)FUSE_DIRENT_SIZE(e);
	}
	return n > 0;
}

static void fs_leave(struct visit_rig *r)
{
	struct share_end *end = r->host;
	struct rig *f = &end->f;
	const struct fuse_open_in open = {0};
	struct created made;
	char path[128];

	snprintf(path, sizeof(path), "left-%u", r->round);
	made = create(f, FUSE_ROOT_ID, path);
	end->node = made.entry.nodeid;
	end->fh = made.open.fh;
	write_at(f, end->node, end->fh, 0, "before");
	assert_int_equal(lock_by(end, 1, F_WRLCK), 0);
	assert_int_equal(flock_by(end, 2, F_RDLCK), 0);
	snprintf(path, sizeof(path), "%s/dir", f->dir);
	(void)mkdir(path, 0755);
	for (unsigned i = 0; i < LISTED; i++) {
		snprintf(path, sizeof(path), "dir/entry-%u", i);
		host_file(f, path, "");
	}
	end->dir = look(f, FUSE_ROOT_ID, "dir");
	assert_int_equal(ask(f, &(struct ask){.opcode = FUSE_OPENDIR,
					      .node = end->dir,
					      .arg = &open,
					      .arg_bytes = sizeof(open)}),
			 sizeof(struct fuse_open_out));
	end->list = ((const struct fuse_open_out *)f->answer)->fh;
	end->at = end->nlisted = 0;
	assert_true(list_some(end, 500));
	assert_in_range(end->nlisted, 1, LISTED);
	/* A file below, which is found by way of two names. */
	(void)look(f, end->dir, "entry-7");
}

static void fs_take(struct visit_rig *r)
{
	struct share_end *end = r->host;
	struct rig *f = &end->f;

	reads(f, end->node, end->fh, "before");
	write_at(f, end->node, end->fh, 6, " and after");
	reads(f, end->node, end->fh, "before and after");
	assert_int_equal(lock_by(end, 3, F_RDLCK), -EAGAIN);
	assert_int_equal(flock_by(end, 3, F_WRLCK), -EAGAIN);
	assert_int_equal(lock_by(end, 1, F_UNLCK), 0);
	assert_int_equal(flock_by(end, 2, F_UNLCK), 0);
	assert_int_equal(lock_by(end, 3, F_WRLCK), 0);
	assert_int_equal(lock_by(end, 3, F_UNLCK), 0);
	while (list_some(end, 4096))
		;
	/* Two more are the directory and the one above. */
	assert_int_equal(end->nlisted, LISTED + 2);
	release(f, end->dir, end->list, true);
	release(f, end->node, end->fh, false);
}

const struct kind visit_fs = {
	.name = "fs",
	.setup = fs_setup,
	.teardown = fs_teardown,
	.open = fs_open_device,
	.begin = fs_begin,
	.traffic = fs_traffic,
	.leave = fs_leave,
	.moved = fs_moved,
	.take = fs_take,
	.stride = 13,
};
