/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three shares of one tree in one guest, and the host, which all move, remove,
 * lock and forget what the others know; with hardly any descriptors and memory
 * for tables. Requests are well-formed, so that they get far. Whatever their
 * order, no device breaks, and after a reset everything is given back.
 *
 * Input: steps, one byte and its operands each.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/vdriver.h"

#include "devices/fs/fs.h"
#include "tests/descriptors.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <fcntl.h>
#include <ftw.h>
#include <linux/fuse.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

extern const struct virtio_ops virtio_fs;

#define SIDES     3
#define IDS       16
#define STEPS_MAX 400
#define OUT_BYTES 4096
#define IN_BYTES  2048

struct open_file {
	uint64_t node, handle;
};

struct side {
	struct vdriver *v;
	struct iovec out, in, waits;
	const void *answer; /* behind the header */
	uint64_t unique;
	uint64_t node[IDS];
	struct open_file open[IDS];
	unsigned nnodes, nopen;
};

struct rig {
	struct input in;
	struct virtio_ops ops;
	struct loop loop;
	struct fs_budget budget;
	uint64_t files_left;
	unsigned descriptors;
	char share[64];
	int dir;
	struct side side[SIDES];
};

static const char *const names[] = {
	"a", "b", "c", "d", "a-name-of-another-size-than-all-the-others-have",
};

static unsigned take_below(struct rig *r, unsigned limit)
{
	return (unsigned)take(&r->in, 1) % limit;
}

static const char *take_name(struct rig *r)
{
	return names[take_below(r, ARRAY_LEN(names))];
}

static uint64_t take_node(struct rig *r, const struct side *s)
{
	return s->node[take_below(r, IDS)];
}

static const struct open_file *take_open(struct rig *r, const struct side *s)
{
	return &s->open[take_below(r, IDS)];
}

struct ask {
	uint32_t op;
	uint64_t node;
	const void *arg;
	size_t arg_bytes;
	const char *name[2];
	bool quiet, may_wait;
};

/* Bytes of the answer, or an error; 0, too, for what has to wait. */
static int64_t ask(struct side *s, const struct ask *a)
{
	struct fuse_in_header *header = s->out.iov_base;
	char *at = (char *)(header + 1);
	const struct iovec in = a->may_wait ? s->waits : s->in;
	const struct fuse_out_header *answer = in.iov_base;
	struct iovec out = s->out;
	int head, used;

	if (a->arg_bytes)
		memcpy(at, a->arg, a->arg_bytes);
	at += a->arg_bytes;
	for (unsigned i = 0; i < 2 && a->name[i]; i++) {
		memcpy(at, a->name[i], strlen(a->name[i]) + 1);
		at += strlen(a->name[i]) + 1;
	}
	out.iov_len = (size_t)(at - (char *)out.iov_base);
	*header = (struct fuse_in_header){
		.len = (uint32_t)out.iov_len,
		.opcode = a->op,
		.unique = ++s->unique,
		.nodeid = a->node,
		.uid = geteuid(),
		.gid = getegid(),
	};
	head = vdriver_add(s->v, 1, &out, 1, &in, a->quiet ? 0 : 1);
	/* Too many wait. */
	if (head < 0)
		return -EBUSY;
	vdriver_kick(s->v, 1);
	vdriver_poll(s->v);
	check(!vdriver_needs_reset(s->v), "the device is broken");
	while ((used = vdriver_get_used(s->v, 1, NULL)) >= 0) {
		if (used != head || a->quiet)
			continue;
		check(answer->len >= sizeof(*answer) && answer->len <= IN_BYTES,
		      "an answer of no such size");
		return answer->error ? answer->error
				     : (int64_t)(answer->len - sizeof(*answer));
	}
	check(a->quiet || a->may_wait, "no answer");
	return 0;
}

#define ASK(op_, node_, arg_, ...)                                             \
	ask(s, &(struct ask){.op = (op_),                                      \
			     .node = (node_),                                  \
			     .arg = &(arg_),                                   \
			     .arg_bytes = sizeof(arg_),                        \
			     __VA_ARGS__})

static void know(struct side *s, uint64_t node)
{
	/* The first stays the root. */
	s->node[1 + s->nnodes++ % (IDS - 1)] = node;
}

static void know_entry(struct side *s, int64_t answer)
{
	const struct fuse_entry_out *out = s->answer;

	if (answer >= (int64_t)sizeof(*out) && out->nodeid)
		know(s, out->nodeid);
}

static void know_open(struct side *s, uint64_t node,
		      const struct fuse_open_out *out)
{
	s->open[s->nopen++ % IDS] = (struct open_file){node, out->fh};
}

/* ---- what a guest asks ---- */

static void make(struct rig *r, struct side *s)
{
	const uint64_t dir = take_node(r, s);
	const char *name = take_name(r);
	const struct fuse_mkdir_in mkdir_in = {.mode = 0755};
	const struct fuse_mknod_in mknod_in = {.mode = S_IFREG | 0644};
	const struct fuse_create_in create = {.flags = O_RDWR, .mode = 0644};
	const unsigned how = take_below(r, 5);
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out;
	int64_t n;

	if (how == 0) {
		know_entry(s, ASK(FUSE_MKDIR, dir, mkdir_in, .name = {name}));
	} else if (how == 1) {
		know_entry(s, ASK(FUSE_MKNOD, dir, mknod_in, .name = {name}));
	} else if (how == 2) {
		know_entry(s, ask(s, &(struct ask){.op = FUSE_SYMLINK,
						   .node = dir,
						   .name = {name, "../a"}}));
	} else {
		n = ASK(how == 3 ? FUSE_CREATE : FUSE_TMPFILE, dir, create,
			.name = {name});
		know_entry(s, n);
		if (n < (int64_t)sizeof(out))
			return;
		memcpy(&out, s->answer, sizeof(out));
		know_open(s, out.entry.nodeid, &out.open);
	}
}

static void look(struct rig *r, struct side *s)
{
	const uint64_t dir = take_node(r, s);

	know_entry(s, ask(s, &(struct ask){.op = FUSE_LOOKUP,
					   .node = dir,
					   .name = {take_name(r)}}));
}

/*
 * The object that a file handle leads to: the node, given back or not, or its
 * parent.
 */
static void look_again(struct rig *r, struct side *s)
{
	const uint64_t node = take_node(r, s);

	know_entry(s, ask(s, &(struct ask){
				     .op = FUSE_LOOKUP,
				     .node = node,
				     .name = {take_below(r, 4) ? "." : ".."}}));
}

static void drop(struct rig *r, struct side *s)
{
	const uint64_t dir = take_node(r, s);
	const char *name = take_name(r);

	(void)ask(s, &(struct ask){.op = take_below(r, 2) ? FUSE_UNLINK
							  : FUSE_RMDIR,
				   .node = dir,
				   .name = {name}});
}

static void move(struct rig *r, struct side *s)
{
	const uint64_t dir = take_node(r, s);
	const struct fuse_rename2_in in = {.newdir = take_node(r, s),
					   .flags = take_below(r, 3)};
	const char *from = take_name(r), *to = take_name(r);

	(void)ASK(FUSE_RENAME2, dir, in, .name = {from, to});
}

static void join(struct rig *r, struct side *s)
{
	const uint64_t dir = take_node(r, s);
	const struct fuse_link_in in = {.oldnodeid = take_node(r, s)};

	know_entry(s, ASK(FUSE_LINK, dir, in, .name = {take_name(r)}));
}

static void forget(struct rig *r, struct side *s)
{
	struct {
		struct fuse_batch_forget_in in;
		struct fuse_forget_one one[4];
	} batch = {.in.count = take_below(r, 6)};
	const struct fuse_forget_in one = {.nlookup = take_below(r, 4)};
	const uint64_t node = take_node(r, s);

	if (batch.in.count == 0) {
		(void)ASK(FUSE_FORGET, node, one, .quiet = true);
		return;
	}
	for (unsigned i = 0; i < 4; i++) {
		batch.one[i].nodeid = take_node(r, s);
		batch.one[i].nlookup = take_below(r, 5);
	}
	(void)ASK(FUSE_BATCH_FORGET, 0, batch, .quiet = true);
}

static void open_it(struct rig *r, struct side *s)
{
	const struct fuse_open_in in = {.flags = O_RDWR};
	const uint64_t node = take_node(r, s);

	if (ASK(take_below(r, 2) ? FUSE_OPEN : FUSE_OPENDIR, node, in) > 0)
		know_open(s, node, s->answer);
}

static void close_it(struct rig *r, struct side *s)
{
	const struct open_file *file = take_open(r, s);
	const struct fuse_release_in in = {.fh = file->handle};

	(void)ASK(take_below(r, 2) ? FUSE_RELEASE : FUSE_RELEASEDIR, file->node,
		  in);
}

/* Entries that come with attributes are known then: some by chance. */
static void list(struct rig *r, struct side *s)
{
	const struct open_file *file = take_open(r, s);
	const unsigned how = take_below(r, 4);
	const struct fuse_read_in in = {
		.fh = file->handle, .offset = take_below(r, 3), .size = 1024};
	const struct fuse_entry_out *entry = s->answer;
	/* Requests that need no handle are made of any inode. */
	const uint64_t node = how & 2 ? file->node : take_node(r, s);
	const int64_t n =
		ASK(how & 1 ? FUSE_READDIR : FUSE_READDIRPLUS, node, in);

	if (!(how & 1) && n >= (int64_t)sizeof(*entry) && entry->nodeid)
		know(s, entry->nodeid);
}

static void use(struct rig *r, struct side *s)
{
	const struct open_file *file = take_open(r, s);
	const struct fuse_read_in read_in = {.fh = file->handle, .size = 100};
	const struct fuse_write_in write_in = {.fh = file->handle};
	const struct fuse_getattr_in getattr = {
		.getattr_flags = take_below(r, 2), .fh = file->handle};
	const struct fuse_setattr_in setattr = {
		.valid = FATTR_MODE | FATTR_SIZE, .mode = 0700, .size = 10};
	const struct fuse_getxattr_in xattrs = {.size = 1000};
	const uint64_t node = take_node(r, s);

	switch (take_below(r, 6)) {
	case 0:
		(void)ASK(FUSE_READ, take_below(r, 2) ? file->node : node,
			  read_in);
		break;
	case 1:
		(void)ASK(FUSE_WRITE, file->node, write_in);
		break;
	case 2:
		(void)ASK(FUSE_GETATTR, node, getattr);
		break;
	case 3:
		(void)ASK(FUSE_SETATTR, node, setattr);
		break;
	case 4:
		(void)ASK(FUSE_LISTXATTR, node, xattrs);
		break;
	default:
		(void)ask(s, &(struct ask){.op = FUSE_READLINK, .node = node});
		break;
	}
}

static void lock(struct rig *r, struct side *s)
{
	static const uint32_t ops[] = {FUSE_SETLK, FUSE_SETLKW, FUSE_GETLK};
	const unsigned how = take_below(r, ARRAY_LEN(ops));
	const struct open_file *file = take_open(r, s);
	const struct fuse_lk_in in = {
		.fh = file->handle,
		.owner = take_below(r, 3),
		.lk = {.end = INT64_MAX, .type = take_below(r, 3)},
		.lk_flags = take_below(r, 2),
	};
	const uint64_t node = take_below(r, 2) ? file->node : take_node(r, s);

	(void)ASK(ops[how], node, in, .may_wait = how == 1);
	(void)turn_loop(&r->loop, 0);
}

/* ---- what the host does ---- */

static void take_path(struct rig *r, char path[PATH_MAX])
{
	const unsigned parts = 1 + take_below(r, 3);

	*path = '\0';
	for (unsigned i = 0; i < parts; i++) {
		strcat(path, i ? "/" : "");
		strcat(path, take_name(r));
	}
}

static void host(struct rig *r, struct side *s)
{
	char path[PATH_MAX], other[PATH_MAX];
	int fd;

	(void)s;
	take_path(r, path);
	switch (take_below(r, 4)) {
	case 0:
		(void)!mkdirat(r->dir, path, 0755);
		break;
	case 1:
		(void)!unlinkat(r->dir, path,
				take_below(r, 2) ? AT_REMOVEDIR : 0);
		break;
	case 2:
		fd = openat(r->dir, path,
			    O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
		util_close(&fd);
		break;
	default:
		take_path(r, other);
		(void)!renameat(r->dir, path, r->dir, other);
		break;
	}
}

/* ---- */

static void start(struct side *s)
{
	const struct fuse_init_in init = {
		.major = 7, .minor = 40, .flags = UINT32_MAX};

	check(vdriver_up(s->v, UINT64_MAX), "not up");
	s->out = vdriver_buf(s->v, NULL, OUT_BYTES);
	s->in = vdriver_buf(s->v, NULL, IN_BYTES);
	s->waits = vdriver_buf(s->v, NULL, IN_BYTES);
	s->answer = (char *)s->in.iov_base + sizeof(struct fuse_out_header);
	check(ASK(FUSE_INIT, 0, init) > 0, "no session");
	for (unsigned i = 0; i < IDS; i++) {
		s->node[i] = FUSE_ROOT_ID;
		s->open[i] = (struct open_file){FUSE_ROOT_ID, i};
	}
	s->nnodes = s->nopen = 0;
}

static void again(struct rig *r, struct side *s)
{
	const struct fuse_init_in init = {
		.major = 7, .minor = 40, .flags = UINT32_MAX};

	if (take_below(r, 2))
		start(s);
	else
		(void)ASK(FUSE_INIT, 0, init);
}

static int remove_one(const char *path, const struct stat *st, int type,
		      struct FTW *ftw)
{
	(void)st;
	(void)type;
	return ftw->level ? remove(path) : 0;
}

static void restart(struct rig *r)
{
	for (unsigned i = 0; i < SIDES; i++)
		start(&r->side[i]);
	(void)nftw(r->share, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static struct rig *rig;

static void clean_up(void)
{
	char command[96];

	snprintf(command, sizeof(command), "rm -rf %s", rig->share);
	(void)!system(command);
}

static struct rig *rig_new(void)
{
	static const char *const options[SIDES] = {"", ",cache=never",
						   ",readonly,cache=always"};
	struct rig *r = calloc(1, sizeof(*r));
	const char *tmp = getenv("TMPDIR");
	char text[128];

	check(r != NULL, "out of memory");
	log_setup(LOG_ERROR, false);
	umask(0);
	snprintf(r->share, sizeof(r->share), "%s/fuzz-fs-pair-XXXXXX",
		 tmp && strlen(tmp) < 40 ? tmp : "/tmp");
	check(mkdtemp(r->share) != NULL, "no directory");
	r->dir = open(r->share, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	check(r->dir >= 0, "no directory");
	r->ops = virtio_fs;
	r->ops.own_thread = false;
	check(loop_init(&r->loop) == 0, "no loop");
	r->budget = (struct fs_budget){
		.bytes = {.each = 8 * KIB, .left = 8 * KIB},
		.files = {.each = 4, .left = 4},
		.paths = 1, /* raised to the least there can be */
	};
	r->files_left = r->budget.files.left;
	for (unsigned i = 0; i < SIDES; i++) {
		snprintf(text, sizeof(text), "%s,tag=t%s", r->share,
			 options[i]);
		r->side[i].v = vdriver_new_of(
			&r->ops, text,
			&(struct virtio_host){.loop = &r->loop,
					      .files = &r->budget});
		check(r->side[i].v != NULL, "no device");
	}
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static void (*const steps[])(struct rig *, struct side *) = {
		make, make, look, look,    move,     move, drop, forget,
		join, use,  list, open_it, close_it, host, host, lock,
	};

	if (!rig) {
		rig = rig_new();
		atexit(clean_up);
		restart(rig);
		rig->descriptors = open_descriptors();
	}
	rig->in = (struct input){data, data + bytes};
	for (unsigned i = 0; i < STEPS_MAX && rig->in.at < rig->in.end; i++) {
		const unsigned op = (unsigned)take(&rig->in, 1);
		struct side *s = &rig->side[op / 16 % 4 % SIDES];

		if (op == 255)
			again(rig, s);
		else if (op % 16 == 3 && op >= 192)
			look_again(rig, s);
		else
			steps[op % ARRAY_LEN(steps)](rig, s);
	}
	restart(rig);
	check(open_descriptors() == rig->descriptors, "descriptors are left");
	check(rig->budget.files.left == rig->files_left,
	      "the budget is not what it was");
	return 0;
}
