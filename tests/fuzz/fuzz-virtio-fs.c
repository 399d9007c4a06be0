/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile driver of the file system device. Whatever it asks, what lies
 * beside the shared directory is as it was, an answer is within its buffer, few
 * descriptors are open, and after a reset the share works.
 *
 * Input: operations, one byte and its operands each.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/vdriver.h"
#include "tests/tempdir.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/fuse.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

extern const struct virtio_ops virtio_fs;

#define MEMORY_USED_MAX (8 * MIB)
#define GUARD           0xa7
#define IDS             8 /* remembered, to be asked for again */
#define STEPS_MAX       300
#define DESCRIPTORS_MAX 200

/* Made once: a device per input would be most of the work. */
struct rig {
	struct input in;
	struct virtio_ops ops;
	struct loop loop;
	struct vdriver *v;
	char top[TEMPDIR_ROOM];
	bool raw;
	uint64_t node[IDS], handle[IDS];
	size_t room[2][VQ_MAX_SIZE]; /* for the answer, by queue and head */
	unsigned nnodes, nhandles;
};

/* One that the device gave, most of the time. */
static uint64_t take_id(struct rig *r, const uint64_t *known)
{
	const unsigned i = (unsigned)take(&r->in, 1);

	return i < 224 ? known[i % IDS] : take(&r->in, 8);
}

static const char *take_name(struct rig *r)
{
	static const char *const names[] = {
		"file",
		"dir",
		"link",
		"..",
		".",
		"",
		"new",
		"new2",
		"pipe",
		"../outside",
		"a/b",
		"user.x",
		"up",
		"user.bulkhead.stat",
		"security.capability",
		"out",
	};

	return names[take(&r->in, 1) % ARRAY_LEN(names)];
}

/* The arguments of opcode OP, of plausible shape. */
static size_t make_arguments(struct rig *r, uint32_t op, uint8_t *at)
{
	const unsigned words = (unsigned)take(&r->in, 1) % 12;
	const unsigned names = (unsigned)take(&r->in, 1) % 3;
	size_t bytes = 0;

	for (unsigned i = 0; i < words; i++, bytes += 8) {
		const unsigned how = (unsigned)take(&r->in, 1);
		uint64_t value = how & 1 ? take(&r->in, how & 2 ? 8 : 2) : 0;

		if (i == 0 && how & 4)
			value = take_id(r, r->handle);
		if (how & 8)
			value = take_id(r, r->node);
		memcpy(at + bytes, &value, 8);
	}
	for (unsigned i = 0; i < names; i++) {
		const char *name = take_name(r);

		memcpy(at + bytes, name, strlen(name) + 1);
		bytes += strlen(name) + 1;
	}
	(void)op;
	return bytes;
}

/* Numbers from the device that the driver may send back to it. */
static void remember(struct rig *r, uint32_t op, const void *answer,
		     uint32_t bytes)
{
	const struct fuse_out_header *header = answer;
	const uint64_t *body = (const void *)(header + 1);
	const bool is_open = op == FUSE_OPEN || op == FUSE_OPENDIR;

	if (bytes < sizeof(*header) + sizeof(struct fuse_open_out) ||
	    header->error)
		return;
	if (is_open)
		r->handle[r->nhandles++ % IDS] = body[0];
	else if (op == FUSE_LOOKUP || op == FUSE_MKDIR || op == FUSE_CREATE ||
		 op == FUSE_MKNOD || op == FUSE_SYMLINK || op == FUSE_LINK)
		r->node[r->nnodes++ % IDS] = body[0];
	if (op == FUSE_CREATE)
		r->handle[r->nhandles++ % IDS] =
			body[sizeof(struct fuse_entry_out) / 8];
}

static void add_request(struct rig *r)
{
	const unsigned how = (unsigned)take(&r->in, 1);
	const uint32_t op = (uint32_t)take(&r->in, 1) % 64;
	struct fuse_in_header header = {
		.opcode = op,
		.nodeid = take_id(r, r->node),
		.uid = how & 1 ? 1000 : 0,
		.unique = 77,
	};
	const size_t room = how & 2 ? take(&r->in, 2) : 4096;
	uint8_t arguments[2048];
	const size_t bytes = make_arguments(r, op, arguments);
	const unsigned q = how & 4 ? 0 : 1;
	struct iovec out[2], in;
	uint32_t written;
	uint8_t *end;
	int head, used;

	header.len = (uint32_t)(sizeof(header) + bytes);
	if (how & 8)
		header.len = (uint32_t)take(&r->in, 4);
	out[0] = vdriver_buf(r->v, &header, sizeof(header));
	out[1] = vdriver_buf(r->v, arguments, bytes + 1);
	out[1].iov_len = bytes;
	in = vdriver_buf(r->v, NULL, room + 1);
	in.iov_len = room;
	end = (uint8_t *)in.iov_base + room;
	*end = GUARD;
	head = vdriver_add(r->v, q, out, bytes ? 2 : 1, &in, room ? 1 : 0);
	if (head >= 0)
		r->room[q][head] = room;
	vdriver_kick(r->v, q);
	vdriver_poll(r->v);
	check(r->raw || *end == GUARD, "written behind the answer");
	/* This one's answer, if it need not wait, and others' that did. */
	while ((used = vdriver_get_used(r->v, q, &written)) >= 0) {
		check(r->raw || written <= r->room[q][used],
		      "more written than there is room");
		if (used == head && !r->raw &&
		    written >= sizeof(struct fuse_out_header))
			remember(r, op, in.iov_base, written);
	}
}

static void add_raw_request(struct rig *r)
{
	add_raw(r->v, &r->in, 1);
	r->raw = true;
	vdriver_kick(r->v, 1);
	vdriver_poll(r->v);
}

static void start(struct rig *r)
{
	const struct {
		struct fuse_in_header header;
		struct fuse_init_in in;
	} init = {
		{.len = sizeof(init), .opcode = FUSE_INIT, .unique = 1},
		{.major = 7, .minor = 40, .flags = UINT32_MAX},
	};
	struct iovec out, in;

	check(vdriver_up(r->v, UINT64_MAX), "not up");
	r->raw = false;
	out = vdriver_buf(r->v, &init, sizeof(init));
	in = vdriver_buf(r->v, NULL, 256);
	check(vdriver_add(r->v, 1, &out, 1, &in, 1) >= 0, "no descriptor");
	vdriver_kick(r->v, 1);
	vdriver_poll(r->v);
	check(vdriver_get_used(r->v, 1, NULL) >= 0, "no answer to INIT");
	for (unsigned i = 0; i < IDS; i++) {
		r->node[i] = FUSE_ROOT_ID;
		r->handle[i] = i;
	}
}

static void step(struct rig *r)
{
	const unsigned op = (unsigned)take(&r->in, 1);

	if (r->v->next_free > MEMORY_USED_MAX)
		start(r);
	switch (op % 16) {
	case 0:
		add_raw_request(r);
		break;
	case 1:
		start(r);
		break;
	default:
		add_request(r);
		break;
	}
}

static int remove_one(const char *path, const struct stat *st, int type,
		      struct FTW *ftw)
{
	(void)st;
	(void)type;
	return ftw->level ? remove(path) : 0;
}

/* The same tree for each input. */
static void fill(const struct rig *r)
{
	char path[128];
	int dir;

	/* On this thread the device takes on its guest's. */
	umask(0);
	snprintf(path, sizeof(path), "%s/share", r->top);
	(void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	check(mkdir(path, 0755) == 0 || chmod(path, 0755) == 0, "no share");
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	check(dir >= 0, "no share");
	close(openat(dir, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
	check(mkdirat(dir, "dir", 0755) == 0, "no dir");
	check(symlinkat("../outside", dir, "up") == 0, "no link");
	check(symlinkat("../outside/secret", dir, "out") == 0, "no link");
	check(mkfifoat(dir, "pipe", 0600) == 0, "no pipe");
	close(dir);
}

static void check_outside(const struct rig *r)
{
	char path[128], text[16] = "";
	struct stat st;
	DIR *dir;
	unsigned n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/outside/secret", r->top);
	f = fopen(path, "re");
	check(f && fread(text, 1, 15, f) == 6 && strcmp(text, "secret") == 0,
	      "the secret was changed");
	fclose(f);
	check(stat(path, &st) == 0 && st.st_nlink == 1 &&
		      st.st_mode == (S_IFREG | 0600),
	      "the secret's attributes were changed");
	snprintf(path, sizeof(path), "%s/outside", r->top);
	dir = opendir(path);
	while (dir && readdir(dir))
		n++;
	closedir(dir);
	check(n == 3, "something was made outside");
	dir = opendir("/proc/self/fd");
	for (n = 0; dir && readdir(dir);)
		n++;
	closedir(dir);
	check(n < DESCRIPTORS_MAX, "too many descriptors");
}

static struct rig *rig_new(void)
{
	struct rig *r = calloc(1, sizeof(*r));
	char text[128];
	FILE *f;

	check(r != NULL, "out of memory");
	log_setup(LOG_ERROR, false);
	umask(0);
	tempdir_name(r->top);
	check(mkdtemp(r->top) != NULL, "no directory");
	snprintf(text, sizeof(text), "%s/outside", r->top);
	check(mkdir(text, 0755) == 0, "no directory");
	snprintf(text, sizeof(text), "%s/outside/secret", r->top);
	f = fopen(text, "we");
	check(f && fputs("secret", f) >= 0 && fclose(f) == 0, "no secret");
	check(chmod(text, 0600) == 0, "no secret");
	fill(r);
	r->ops = virtio_fs;
	r->ops.own_thread = false;
	check(loop_init(&r->loop) == 0, "no loop");
	snprintf(text, sizeof(text), "%s/share,tag=t", r->top);
	r->v = vdriver_new_on(&r->ops, text, &r->loop, NULL);
	check(r->v != NULL, "no device");
	return r;
}

static struct rig *rig;

static void clean_up(void)
{
	char command[96];

	snprintf(command, sizeof(command), "rm -rf %s", rig->top);
	(void)!system(command);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	if (!rig) {
		rig = rig_new();
		atexit(clean_up);
	}
	rig->in = (struct input){data, data + bytes};
	fill(rig);
	start(rig);
	for (unsigned i = 0; i < STEPS_MAX && rig->in.at < rig->in.end; i++)
		step(rig);
	start(rig);
	check_outside(rig);
	return 0;
}
