/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A FUSE session: takes a request apart, checks what all have in common, has it
 * carried out and writes the answer's header.
 */
#include "devices/fs/fuse-parts.h"

#include "vmm/base/iov.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MINOR_LEAST   31 /* the first with virtio-fs (Linux 5.4) */
#define MAX_READAHEAD (1u << 20)
#define BACKGROUND    64 /* requests of read-ahead and write-back at once */
#define ALWAYS_S      86400

struct fuse *fuse_new(struct fs *fs, const struct fuse_options *options)
{
	const enum fuse_cache cache = options->cache;
	struct fuse *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->has_top = !fs;
	f->options = *options;
	f->cache = cache;
	TAILQ_INIT(&f->waits);
	f->valid_s = cache == FUSE_CACHE_NEVER    ? 0
		     : cache == FUSE_CACHE_ALWAYS ? ALWAYS_S
						  : 1;
	/* Most of it is never touched; one byte is for a zero. */
	f->out = malloc(FUSE_OUT_MAX + FUSE_IN_MAX + 1);
	f->trees = fs ? calloc(1, sizeof(*f->trees)) : NULL;
	if (!f->out || (fs && !f->trees)) {
		free(f->trees);
		free(f->out);
		free(f);
		return NULL;
	}
	if (fs)
		f->trees[f->ntrees++].fs = fs;
	f->in = (char *)f->out + FUSE_OUT_MAX;
	return f;
}

void fuse_free(struct fuse *f)
{
	if (!f)
		return;
	fuse_waits_end(f, false);
	fuse_trees_done(f);
	free(f->out);
	free(f);
}

void fuse_log_requests(const struct fuse *f, const char *what)
{
	char line[1024] = "";
	size_t n = 0;

	if (!log_enabled(LOG_DEBUG))
		return;
	for (uint32_t i = 0; i < FUSE_OPCODES; i++) {
		const char *name = fuse_op_name(i);

		if (f->requests[i] == 0 || !name || n >= sizeof(line))
			continue;
		n += (size_t)snprintf(line + n, sizeof(line) - n, "%s%llu %s",
				      n ? ", " : "",
				      (unsigned long long)f->requests[i], name);
	}
	if (n > 0)
		log_debug("%s: requests: %s", what, line);
}

/* Within a request, which ends later. */
static void start_over(struct fuse *f)
{
	f->initialized = false;
	fuse_waits_end(f, false);
	fuse_trees_reset(f);
}

void fuse_reset(struct fuse *f)
{
	start_over(f);
	fuse_trees_settle(f);
}

void fuse_remove(struct fuse *f, const struct fs *fs)
{
	fuse_waits_leave(f, fs);
	fuse_tree_remove(f, fs);
}

/* ---- requests ---- */

/* Each needs the other: an ACL decides what an umask is worth. */
#define ACL_FLAGS (FUSE_POSIX_ACL | FUSE_DONT_MASK)

static uint64_t wanted_flags(const struct fuse *f)
{
	uint64_t flags = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ASYNC_DIO |
			 FUSE_ATOMIC_O_TRUNC | FUSE_PARALLEL_DIROPS |
			 FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO |
			 FUSE_MAX_PAGES | FUSE_HANDLE_KILLPRIV_V2 |
			 FUSE_SETXATTR_EXT | FUSE_INIT_EXT |
			 FUSE_EXPORT_SUPPORT;

	if (fuse_trees_have_acls(f) && !f->options.no_xattrs)
		flags |= ACL_FLAGS;
	if (f->options.locks)
		flags |= FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS;
	/* FUSE_DIRECT_IO_ALLOW_MMAP never: see fuse-file.c. */
	if (f->cache == FUSE_CACHE_NEVER)
		return flags;
	flags |= FUSE_CACHE_SYMLINKS;
	if (f->cache == FUSE_CACHE_AUTO)
		flags |= FUSE_AUTO_INVAL_DATA;
	else if (!fuse_trees_are_readonly(f))
		flags |= FUSE_WRITEBACK_CACHE;
	return flags;
}

/* A new mount: forget what an earlier one knew. */
static int64_t init(struct fuse_request *r)
{
	const struct fuse_init_in *arg = r->arg;
	struct fuse_init_out *out = fuse_answer(r, sizeof(*out));
	const uint32_t no_open = FUSE_NO_OPEN_SUPPORT | FUSE_NO_OPENDIR_SUPPORT;
	uint64_t flags = arg->flags;

	out->major = FUSE_KERNEL_VERSION;
	out->minor = FUSE_KERNEL_MINOR_VERSION;
	/* A guest of a newer version asks again, with ours. */
	if (arg->major > FUSE_KERNEL_VERSION)
		return sizeof(*out);
	if (arg->major < FUSE_KERNEL_VERSION || arg->minor < MINOR_LEAST)
		return -EPROTO;
	if (flags & FUSE_INIT_EXT && r->rest_bytes >= sizeof(arg->flags2))
		flags |= (uint64_t)arg->flags2 << 32;
	/* Files that never change can be read without being opened. */
	r->f->stateless = (arg->flags & no_open) == no_open &&
			  r->f->cache == FUSE_CACHE_ALWAYS &&
			  fuse_trees_are_readonly(r->f);
	/* Not answered: the guest does it when an entry asks for it. */
	r->f->submounts = arg->flags & FUSE_SUBMOUNTS;
	flags &= wanted_flags(r->f);
	if ((flags & ACL_FLAGS) != ACL_FLAGS)
		flags &= ~(uint64_t)ACL_FLAGS;
	fuse_waits_end(r->f, true);
	start_over(r->f);
	r->fs = NULL; /* all are settled */
	fuse_trees_tell(r->f);
	r->f->initialized = true;
	r->f->writeback = flags & FUSE_WRITEBACK_CACHE;
	r->f->setxattr_ext = flags & FUSE_SETXATTR_EXT;
	fuse_trees_use_acls(r->f, flags & FUSE_POSIX_ACL);
	out->flags = (uint32_t)flags;
	out->flags2 = (uint32_t)(flags >> 32);
	out->max_readahead =
		(uint32_t)min_u64(arg->max_readahead, MAX_READAHEAD);
	out->max_background = BACKGROUND;
	out->congestion_threshold = BACKGROUND * 3 / 4;
	out->max_write = FUSE_DATA_PAGES * 4096;
	out->max_pages = FUSE_DATA_PAGES;
	out->time_gran = 1;
	return sizeof(*out);
}

static int64_t destroy(struct fuse_request *r)
{
	fuse_waits_end(r->f, true);
	start_over(r->f);
	r->fs = NULL;
	fuse_trees_tell(r->f);
	return 0;
}

static const struct fuse_op session_ops[] = {
	[FUSE_INIT] = {init, offsetof(struct fuse_init_in, flags2), 0},
	[FUSE_DESTROY] = {destroy, 0, 0},
};

static const struct fuse_op *find_op(uint32_t opcode)
{
	if (opcode < ARRAY_LEN(session_ops) && session_ops[opcode].run)
		return &session_ops[opcode];
	return fuse_op_find(opcode);
}

/* The request's arguments, copied once; checked from here on. */
static int take_arguments(struct fuse_request *r, const struct fuse_op *op)
{
	const struct iov_chain *chain = r->chain;
	const size_t bytes = r->in.len - sizeof(r->in);
	size_t want = bytes;

	if (op->flags & FUSE_OP_DATA && want > op->arg_bytes)
		want = op->arg_bytes;
	if (bytes < op->arg_bytes)
		return -EINVAL;
	if (want > FUSE_IN_MAX)
		return -E2BIG;
	r->arg = r->f->in;
	iov_read(chain->iov, chain->nout, sizeof(r->in), r->f->in, want);
	((char *)r->f->in)[want] = '\0';
	r->rest = (const char *)r->f->in + op->arg_bytes;
	r->rest_bytes = want - op->arg_bytes;
	return 0;
}

/* On the directory that the trees are in. */
static int64_t run_on_top(struct fuse_request *r, const struct fuse_op *op)
{
	const struct fuse_op *own = fuse_top_op(r->in.opcode);

	/* Not ENOSYS, after which the guest would not ask the trees either. */
	if (!own)
		return op->flags & FUSE_OP_WRITES ? -EROFS : -EINVAL;
	return own->run(r);
}

static int64_t run(struct fuse_request *r, const struct fuse_op *op)
{
	int e;

	if (!op || (op->flags & FUSE_OP_NODE && !r->f->initialized))
		return -ENOSYS;
	e = take_arguments(r, op);
	if (e < 0)
		return e;
	if (op->flags & FUSE_OP_NODE && fuse_is_top(r->f, r->in.nodeid))
		return run_on_top(r, op);
	r->tree = fuse_tree_find(r->f, r->in.nodeid, &r->node);
	r->fs = r->tree ? r->tree->fs : NULL;
	r->inode = r->fs ? fs_inode(r->fs, r->node) : NULL;
	if (op->flags & FUSE_OP_NODE && !r->inode &&
	    !(r->fs && op->flags & FUSE_OP_AGAIN))
		return -ESTALE;
	if (op->flags & FUSE_OP_WRITES && fs_readonly(r->fs))
		return -EROFS;
	return op->run(r);
}

/* Writes the answer that is in `out`, or an error, with the header before it.
 */
static int64_t answer(struct fuse_request *r, int64_t result, bool is_written)
{
	const struct iov_chain *chain = r->chain;
	const struct iovec *in = chain->iov + chain->nout;
	struct fuse_out_header header = {.len = sizeof(header),
					 .unique = r->in.unique};

	/*
	 * An answer that does not fit into the guest's buffers becomes an
	 * error.
	 */
	if (result > 0 && !is_written) {
		if ((uint64_t)result > r->out_room)
			result = -EIO;
		else
			iov_write(in, chain->nin, sizeof(header), r->out,
				  (size_t)result);
	}
	if (result < 0)
		header.error = (int32_t)result;
	else
		header.len += (uint32_t)result;
	iov_write(in, chain->nin, 0, &header, sizeof(header));
	return header.len;
}

int64_t fuse_handle(struct fuse *f, const struct iov_chain *chain,
		    uint32_t ticket)
{
	struct fuse_request r = {.f = f, .chain = chain, .ticket = ticket};
	const bool has_room = chain->in_bytes >= sizeof(struct fuse_out_header);
	const struct fuse_op *op;
	int64_t result;

	if (iov_read(chain->iov, chain->nout, 0, &r.in, sizeof(r.in)) <
		    sizeof(r.in) ||
	    r.in.len < sizeof(r.in) || r.in.len > chain->out_bytes)
		return -EPROTO;
	if (r.in.opcode < FUSE_OPCODES)
		f->requests[r.in.opcode]++;
	op = find_op(r.in.opcode);
	f->awaited = !(op && op->flags & FUSE_OP_QUIET);
	if (!has_room && !(op && op->flags & FUSE_OP_QUIET))
		return -EPROTO;
	r.out = f->out;
	if (has_room)
		r.out_room = min_u64(chain->in_bytes -
					     sizeof(struct fuse_out_header),
				     FUSE_OUT_MAX);
	result = run(&r, op);
	/*
	 * Before the answer, so that what the guest has given back is free by
	 * then.
	 */
	r.inode = NULL;
	if (r.fs)
		fs_settle(r.fs);
	else
		fuse_trees_settle(f);
	if (f->unlocked)
		fuse_retry(f);
	if (result == FUSE_LATER)
		return FUSE_LATER;
	if (op && op->flags & FUSE_OP_QUIET && (result == 0 || !has_room))
		return 0;
	return answer(&r, result, op && op->flags & FUSE_OP_DATA);
}

bool fuse_is_mounted(const struct fuse *f)
{
	return f->initialized;
}

bool fuse_is_awaited(const struct fuse *f)
{
	return f->awaited;
}
