/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FUSE operations on locks, where locks are the host's (fs-lock.c).
 *
 * A request that waits for a lock must not keep the others waiting: it is set
 * aside and tried again, at once when this guest gives a lock up, else from
 * time to time. The host's kernel wakes only a thread that waits; such threads
 * would have to be bounded, and be stopped at any moment.
 */
#include "devices/fs/fuse-parts.h"

#include "vmm/base/iov.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>

/* Few against the entries of a queue: unlocking must get through. */
#define WAITS_MAX 64

/* Between two tries; else an eighth of what has been waited so far. */
#define TRY_LEAST_NS UINT64_C(1000000)
#define TRY_MOST_NS  UINT64_C(100000000)

struct fuse_wait {
	TAILQ_ENTRY(fuse_wait) all;
	uint64_t unique, node;
	struct fs *fs; /* of which NODE is */
	struct fs_lock lock;
	/* The owner of this guest's it waits for, if it is known. */
	bool blocker_known;
	uint64_t blocker;
	uint64_t since_ns;
	uint32_t ticket;
	/* Where the answer goes, however the guest splits a header. */
	unsigned niov;
	struct iovec iov[sizeof(struct fuse_out_header)];
};

static int take_lock(const struct fuse_request *r, struct fs_lock *ret_lock)
{
	const struct fuse_lk_in *arg = r->arg;

	if (!r->f->options.locks)
		return -ENOSYS;
	if (arg->lk.type > INT16_MAX)
		return -EINVAL;
	*ret_lock = (struct fs_lock){
		.owner = {arg->owner, arg->lk_flags & FUSE_LK_FLOCK},
		.type = (int)arg->lk.type,
		.start = arg->lk.start,
		.end = arg->lk.end,
		.pid = arg->lk.pid,
		.handle = arg->fh,
	};
	return 0;
}

int64_t fuse_getlk(struct fuse_request *r)
{
	struct fuse_lk_out *out;
	struct fs_lock lock;
	bool known;
	int e = take_lock(r, &lock);

	if (e == 0)
		e = fs_lock_find(r->fs, r->inode, &lock, &known);
	if (e < 0)
		return e;
	out = fuse_answer(r, sizeof(*out));
	out->lk = (struct fuse_file_lock){
		.start = lock.start,
		.end = lock.end,
		.type = (uint32_t)lock.type,
		.pid = lock.pid,
	};
	return sizeof(*out);
}

/* A lock given up or made weaker may be what another waits for. */
static int set_lock(struct fuse *f, struct fs *fs, struct fs_inode *inode,
		    const struct fs_lock *lock)
{
	const int e = fs_lock(fs, inode, lock);

	if (e == 0 && lock->type != F_WRLCK)
		f->unlocked = f->nwaits > 0;
	return e;
}

int64_t fuse_setlk(struct fuse_request *r)
{
	struct fs_lock lock;
	const int e = take_lock(r, &lock);

	return e < 0 ? e : set_lock(r->f, r->fs, r->inode, &lock);
}

void fuse_unlock(struct fuse_request *r, uint64_t owner, bool flock)
{
	const struct fs_lock_owner whose = {owner, flock};

	if (fs_unlock_all(r->fs, r->inode, &whose))
		r->f->unlocked = r->f->nwaits > 0;
}

void fuse_unlock_handle(struct fuse_request *r, uint64_t handle)
{
	if (fs_unlock_handle(r->fs, r->inode, handle))
		r->f->unlocked = r->f->nwaits > 0;
}

/* A process closes a file: it has no locks of it any more (fcntl_locking(2)).
 */
int64_t fuse_flush(struct fuse_request *r)
{
	const struct fuse_flush_in *arg = r->arg;

	if (!r->f->options.locks)
		return -ENOSYS;
	fuse_unlock(r, arg->lock_owner, false);
	return 0;
}

/* ---- waiting ---- */

static void wait_end(struct fuse *f, struct fuse_wait *wait, bool tell,
		     int error)
{
	const struct fuse_out_header header = {
		.len = sizeof(header), .error = error, .unique = wait->unique};

	TAILQ_REMOVE(&f->waits, wait, all);
	f->nwaits--;
	if (tell) {
		iov_write(wait->iov, wait->niov, 0, &header, sizeof(header));
		f->options.answered(f->options.arg, wait->ticket,
				    sizeof(header));
	}
	free(wait);
}

void fuse_waits_end(struct fuse *f, bool tell)
{
	while (!TAILQ_EMPTY(&f->waits))
		wait_end(f, TAILQ_FIRST(&f->waits), tell, -EINTR);
}

void fuse_waits_leave(struct fuse *f, const struct fs *fs)
{
	struct fuse_wait *wait = TAILQ_FIRST(&f->waits), *next;

	for (; wait; wait = next) {
		next = TAILQ_NEXT(wait, all);
		if (wait->fs == fs)
			wait_end(f, wait, true, -ESTALE);
	}
}

/*
 * Whether WAIT's owner would, by way of others who wait, wait for itself; as
 * far as this guest's own locks can tell.
 */
static bool is_deadlock(const struct fuse *f, const struct fuse_wait *wait)
{
	const struct fuse_wait *at = wait;

	for (unsigned i = 0; i <= f->nwaits && at && at->blocker_known; i++) {
		const uint64_t next = at->blocker;

		if (next == wait->lock.owner.id)
			return true;
		TAILQ_FOREACH(at, &f->waits, all) {
			if (!at->lock.owner.flock && at->lock.owner.id == next)
				break;
		}
	}
	return false;
}

/* 0, -EAGAIN: to be tried again, or what it failed with. Part of a request. */
static int try(struct fuse *f, struct fuse_wait *wait)
{
	struct fs_inode *inode = fs_inode(wait->fs, wait->node);
	struct fs_lock found = wait->lock;
	int e;

	if (!inode)
		return -ESTALE;
	e = set_lock(f, wait->fs, inode, &wait->lock);
	wait->blocker_known = false;
	if (e != -EAGAIN || wait->lock.owner.flock)
		return e;
	e = fs_lock_find(wait->fs, inode, &found, &wait->blocker_known);
	wait->blocker = found.owner.id;
	return e == 0 && is_deadlock(f, wait) ? -EDEADLK : -EAGAIN;
}

int64_t fuse_setlkw(struct fuse_request *r)
{
	struct fuse *f = r->f;
	const struct iov_chain *chain = r->chain;
	struct fuse_wait wait = {
		.unique = r->in.unique,
		.fs = r->fs,
		.node = r->node,
		.since_ns = util_now_ns(),
		.ticket = r->ticket,
	};
	struct fuse_wait *kept;
	int e = take_lock(r, &wait.lock);

	if (e == 0)
		e = try(f, &wait);
	if (e != -EAGAIN)
		return e;
	kept = f->nwaits < WAITS_MAX ? malloc(sizeof(*kept)) : NULL;
	if (!kept)
		return -ENOLCK;
	*kept = wait;
	kept->niov = iov_slice(chain->iov + chain->nout, chain->nin, 0,
			       sizeof(struct fuse_out_header), kept->iov);
	TAILQ_INSERT_TAIL(&f->waits, kept, all);
	f->nwaits++;
	return FUSE_LATER;
}

void fuse_retry(struct fuse *f)
{
	/* A weaker lock that was waited for may let others go on, too. */
	do {
		struct fuse_wait *wait = TAILQ_FIRST(&f->waits), *next;

		f->unlocked = false;
		for (; wait; wait = next) {
			const int e = try(f, wait);

			fs_settle(wait->fs);
			next = TAILQ_NEXT(wait, all);
			if (e != -EAGAIN)
				wait_end(f, wait, true, e);
		}
	} while (f->unlocked);
}

uint64_t fuse_retry_at(const struct fuse *f)
{
	const uint64_t now = util_now_ns();
	const struct fuse_wait *wait;
	uint64_t least = TRY_MOST_NS;

	if (f->nwaits == 0)
		return 0;
	TAILQ_FOREACH(wait, &f->waits, all)
		least = min_u64(least, (now - wait->since_ns) / 8);
	return now + (least > TRY_LEAST_NS ? least : TRY_LEAST_NS);
}

/*
 * Not there (yet, or any more): the guest asks again if it still matters, as
 * the request may be on another queue.
 */
int64_t fuse_interrupt(struct fuse_request *r)
{
	const struct fuse_interrupt_in *arg = r->arg;
	struct fuse_wait *wait = TAILQ_FIRST(&r->f->waits);

	while (wait && wait->unique != arg->unique)
		wait = TAILQ_NEXT(wait, all);
	if (!wait)
		return -EAGAIN;
	wait_end(r->f, wait, true, -EINTR);
	return 0;
}
