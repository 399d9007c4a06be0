/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locks of a shared tree's files, kept by the host's kernel, so that they hold
 * against its processes and other guests too.
 *
 * Each of the guest's lock owners has an open file description of its own for
 * every file it locks something of: what F_OFD_SETLK and flock(2) know an owner
 * by (fcntl_locking(2)). It takes no other's locks along when it is closed,
 * whatever else this process has open of the file.
 */
#include "devices/fs/fs-parts.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#define LOCK_END INT64_MAX /* of a range without an end */

/* Owners asked whether a lock is theirs, when someone wants to know whose. */
#define ASKED_MAX 32

/*
 * To lock for writing a file has to be open for writing. Where it cannot be,
 * the guest could not open it so either.
 */
static int open_to_lock(struct fs *fs, struct fs_inode *inode)
{
	int fd = -EROFS;

	/*
	 * A guest keeps locks of directories to itself; other kinds are never
	 * opened.
	 */
	if (inode->type != S_IFREG)
		return -EINVAL;
	if (!fs->readonly)
		fd = fs_reopen(fs, inode, fs_file_flags(O_RDWR));
	if (fd == -EACCES || fd == -EPERM || fd == -EROFS || fd == -ETXTBSY)
		fd = fs_reopen(fs, inode, fs_file_flags(O_RDONLY));
	return fd;
}

/* OWNER's place at INODE, made when there is none. */
static int holder_at(struct fs *fs, struct fs_inode *inode,
		     const struct fs_lock_owner *owner,
		     struct fs_holder ***ret_at)
{
	struct fs_holder **at = fs_holder_find(inode, owner), *holder;
	int r;

	*ret_at = at;
	if (*at)
		return 0;
	if (fs->nholders >= fs->max_locks || !fs_take(&fs->files, 1))
		return -ENOLCK;
	holder = fs_alloc(fs, sizeof(*holder));
	r = holder ? open_to_lock(fs, inode) : -ENOLCK;
	if (r < 0) {
		fs_free(fs, holder, sizeof(*holder));
		fs_give(&fs->files, 1);
		return r;
	}
	*holder = (struct fs_holder){.owner = *owner, .fd = r};
	*at = holder;
	fs->nholders++;
	return 0;
}

static int check(const struct fs_lock *lock)
{
	if (lock->type != F_RDLCK && lock->type != F_WRLCK &&
	    lock->type != F_UNLCK)
		return -EINVAL;
	return lock->start <= lock->end && lock->end <= LOCK_END ? 0 : -EINVAL;
}

static bool is_all(const struct fs_lock *lock)
{
	return lock->owner.flock || (lock->start == 0 && lock->end == LOCK_END);
}

static struct flock range_of(const struct fs_lock *lock)
{
	return (struct flock){
		.l_type = (short)lock->type,
		.l_whence = SEEK_SET,
		.l_start = (off_t)lock->start,
		.l_len = lock->end == LOCK_END
				 ? 0
				 : (off_t)(lock->end - lock->start + 1),
	};
}

static int set_whole(int fd, int type)
{
	const int operation = type == F_WRLCK   ? LOCK_EX
			      : type == F_RDLCK ? LOCK_SH
						: LOCK_UN;

	return flock(fd, operation | LOCK_NB) < 0 ? -errno : 0;
}

static int set_range(int fd, const struct fs_lock *lock)
{
	struct flock range = range_of(lock);

	if (fcntl(fd, F_OFD_SETLK, &range) == 0)
		return 0;
	/* Open for reading only, where the guest has it open for writing. */
	if (errno == EBADF)
		return -ENOLCK;
	return errno == EACCES ? -EAGAIN : -errno;
}

int fs_lock(struct fs *fs, struct fs_inode *inode, const struct fs_lock *lock)
{
	struct fs_holder **at = fs_holder_find(inode, &lock->owner);
	const bool is_new = !*at;
	int r = check(lock);

	if (r < 0 || (is_new && lock->type == F_UNLCK))
		return r;
	r = holder_at(fs, inode, &lock->owner, &at);
	if (r < 0)
		return r;
	r = lock->owner.flock ? set_whole((*at)->fd, lock->type)
			      : set_range((*at)->fd, lock);
	if (r == 0) {
		(*at)->pid = lock->pid;
		(*at)->handle = lock->owner.flock ? 0 : lock->handle;
		(*at)->whole = is_all(lock) ? lock->type : -1;
		inode->was_locked = true;
	}
	if ((r < 0 && is_new) ||
	    (r == 0 && lock->type == F_UNLCK && is_all(lock)))
		fs_holder_drop(fs, at);
	return r;
}

int fs_lock_again(struct fs *fs, struct fs_inode *inode,
		  const struct fs_holder *holder)
{
	return fs_lock(fs, inode,
		       &(struct fs_lock){
			       .owner = holder->owner,
			       .type = holder->whole,
			       .end = LOCK_END,
			       .pid = holder->pid,
			       .handle = holder->handle,
		       });
}

bool fs_was_locked(const struct fs_inode *inode)
{
	return inode->was_locked;
}

bool fs_unlock_all(struct fs *fs, struct fs_inode *inode,
		   const struct fs_lock_owner *owner)
{
	struct fs_holder **at = fs_holder_find(inode, owner);

	if (!*at)
		return false;
	fs_holder_drop(fs, at);
	return true;
}

bool fs_unlock_handle(struct fs *fs, struct fs_inode *inode, uint64_t handle)
{
	struct fs_holder **at = &inode->holders;
	bool any = false;

	while (*at && handle != 0) {
		if ((*at)->handle == handle) {
			fs_holder_drop(fs, at);
			any = true;
		} else {
			at = &(*at)->next;
		}
	}
	return any;
}

/*
 * The host's kernel does not name the owner of a lock that belongs to an open
 * file description. It is the owner for whom the same range is free. Several
 * may hold a read lock: then none of them is named.
 */
static const struct fs_holder *whose(const struct fs_inode *inode,
				     const struct flock *found)
{
	const struct fs_holder *holder = inode->holders;

	for (unsigned i = 0; holder && i < ASKED_MAX; holder = holder->next) {
		struct flock range = *found;

		if (holder->owner.flock)
			continue;
		i++;
		range.l_type = F_WRLCK;
		range.l_whence = SEEK_SET;
		range.l_pid = 0;
		if (fcntl(holder->fd, F_OFD_GETLK, &range) == 0 &&
		    range.l_type == F_UNLCK)
			return holder;
	}
	return NULL;
}

int fs_lock_find(struct fs *fs, struct fs_inode *inode, struct fs_lock *lock,
		 bool *ret_known)
{
	const struct fs_holder *holder = *fs_holder_find(inode, &lock->owner),
			       *other;
	autofd int opened = -1;
	struct flock range;
	const int r = check(lock);

	if (r < 0 || lock->type == F_UNLCK || lock->owner.flock)
		return r < 0 ? r : -EINVAL;
	if (!holder) {
		opened = open_to_lock(fs, inode);
		if (opened < 0)
			return opened;
	}
	range = range_of(lock);
	if (fcntl(holder ? holder->fd : opened, F_OFD_GETLK, &range) < 0)
		return -errno;
	*ret_known = false;
	lock->type = range.l_type;
	if (range.l_type == F_UNLCK)
		return 0;
	lock->start = (uint64_t)range.l_start;
	lock->end = range.l_len ? (uint64_t)range.l_start +
					  (uint64_t)range.l_len - 1
				: LOCK_END;
	lock->pid = 0;
	/* A process of the host's, or a description: ours, or another's. */
	other = range.l_pid > 0 ? NULL : whose(inode, &range);
	if (other) {
		lock->pid = other->pid;
		lock->owner = other->owner;
		*ret_known = true;
	}
	return 0;
}
