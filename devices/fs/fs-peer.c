/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds others that use the files of a shared tree: other virtual machines, and
 * programs of the host that lock them.
 *
 * A guest keeps what it maps (MAP_SHARED) in its own memory, so two of them
 * must not map one file: each would see its own writes only. So monitors tell
 * each other which files their guests have open for writing, and which
 * directories they share. They do it by read locks (F_OFD_SETLK) of single
 * bytes of the topmost directory of the file system, which all find, which
 * needs no right but to read it, and in which nothing is written; the host's
 * kernel drops them with the process. The byte's offset is made of what it is
 * about. Each sets its lock first and then looks for others', so that of two at
 * the same time both see the other.
 */
#include "devices/fs/fs-parts.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* From a share up to its file system's root; deeper ones go unnoticed. */
#define DEPTH_MAX 64

/* The meaning of a lock. */
enum mark {
	MARK_FILE = 1, /* a guest has it open for writing */
	MARK_SHARE,    /* a guest can write to it and to all below */
	MARK_UNTOLD,   /* the same, and nobody said that others may, too */
	MARK_BELOW,    /* MARK_SHARE of something below */
	MARK_BELOW_UNTOLD,
};

static uint64_t mix(uint64_t a, uint64_t b)
{
	a = (a ^ b) * UINT64_C(0x9e3779b97f4a7c15);
	return a ^ a >> 29;
}

static struct flock place(enum mark mark, uint64_t id, short type)
{
	return (struct flock){
		.l_type = type,
		.l_whence = SEEK_SET,
		.l_start = (off_t)(mix(mix(0, id), mark) >> 2),
		.l_len = 1,
	};
}

/* By way of FD, which keeps it until it is closed. */
static bool set_mark(int fd, enum mark mark, uint64_t id)
{
	struct flock lock = place(mark, id, F_RDLCK);

	return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

static void clear_mark(int fd, enum mark mark, uint64_t id)
{
	struct flock lock = place(mark, id, F_UNLCK);

	(void)fcntl(fd, F_OFD_SETLK, &lock);
}

/* Whether another than FD's has set it. */
static bool is_marked(int fd, enum mark mark, uint64_t id)
{
	struct flock lock = place(mark, id, F_WRLCK);

	return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/* ---- files */

/* Whether a program of this host or another guest has locked it. */
static bool is_locked(const struct fs_handle *handle)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	/* The kernel does not tell this guest's locks from others'. */
	return !handle->inode->holders &&
	       fcntl(handle->fd, F_OFD_GETLK, &lock) == 0 &&
	       lock.l_type != F_UNLCK;
}

/* File systems may be mounted below the one whose top has the marks. */
static uint64_t file_id(const struct fs_inode *inode)
{
	return mix(mix(0, inode->key.dev), inode->key.ino);
}

static bool mark_file(struct fs *fs, struct fs_inode *inode)
{
	if (inode->writers == 0 && fs->nmarks < fs->max_marks)
		inode->is_marked =
			set_mark(fs->peer_file_fd, MARK_FILE, file_id(inode));
	if (inode->writers++ == 0)
		fs->nmarks += inode->is_marked;
	return inode->is_marked;
}

void fs_peer_enter(struct fs *fs, struct fs_handle *handle)
{
	struct fs_inode *inode = handle->inode;

	if (fs->peer_fd < 0)
		return;
	fs_reset_tell(fs);
	handle->writes = true;
	handle->is_shared =
		!mark_file(fs, inode) ||
		is_marked(fs->peer_file_fd, MARK_FILE, file_id(inode)) ||
		is_locked(handle);
	if (!handle->is_shared || fs->peer_named)
		return;
	fs->peer_named = true;
	log_warn("%s: '%s' is in use elsewhere, too: programs here cannot map "
		 "it shared (ENODEV); no others are named",
		 fs->what, inode->name ? inode->name : "a file");
}

void fs_peer_leave(struct fs *fs, struct fs_handle *handle)
{
	struct fs_inode *inode = handle->inode;

	if (!handle->writes || --inode->writers > 0 || !inode->is_marked)
		return;
	if (!fs->peer_stale)
		clear_mark(fs->peer_file_fd, MARK_FILE, file_id(inode));
	inode->is_marked = false;
	fs->nmarks--;
}

void fs_reset_tell(struct fs *fs)
{
	struct flock all = {.l_type = F_UNLCK, .l_whence = SEEK_SET};

	if (fs->peer_stale && fs->peer_file_fd >= 0)
		(void)fcntl(fs->peer_file_fd, F_OFD_SETLK, &all);
	fs->peer_stale = false;
}

bool fs_is_shared(const struct fs_handle *handle)
{
	return handle->is_shared;
}

/* ---- directories */

/*
 * A share's marks are of MACHINES bytes, of which each machine has one: two
 * shares of one machine are its own affair.
 */
#define MACHINES (1u << 20)

static struct flock share_place(const struct fs *fs, enum mark mark,
				uint64_t id, short type)
{
	struct flock lock = place(mark, id, type);

	lock.l_start &= ~(off_t)(MACHINES - 1);
	lock.l_start += fs->machine;
	return lock;
}

static bool mark_dir(const struct fs *fs, enum mark mark, uint64_t id)
{
	struct flock lock = share_place(fs, mark, id, F_RDLCK);

	return fcntl(fs->peer_fd, F_OFD_SETLK, &lock) == 0;
}

/* Whether another machine has set it, whose byte may lie before or behind. */
static bool dir_is_marked(const struct fs *fs, enum mark mark, uint64_t id)
{
	struct flock lock = share_place(fs, mark, id, F_WRLCK);
	struct flock before = lock;

	before.l_len = fs->machine;
	before.l_start -= fs->machine;
	lock.l_start++;
	lock.l_len = MACHINES - 1 - fs->machine;
	return (before.l_len > 0 &&
		fcntl(fs->peer_fd, F_OFD_GETLK, &before) == 0 &&
		before.l_type != F_UNLCK) ||
	       (lock.l_len > 0 && fcntl(fs->peer_fd, F_OFD_GETLK, &lock) == 0 &&
		lock.l_type != F_UNLCK);
}

struct above {
	uint64_t ino[DEPTH_MAX]; /* the share's own first */
	unsigned count;
	int top; /* O_PATH, owned; -1 */
};

/* The directories from FD up to the top of its file system. 0 or -errno. */
static int climb(int fd, struct above *ret)
{
	struct statx first, stx;
	int r = fs_statx(fd, "", &first);

	stx = first;
	*ret = (struct above){.top = -1};
	while (r == 0) {
		autofd int up = -1;

		ret->ino[ret->count++] = stx.stx_ino;
		up = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (up < 0)
			return ret->count > 1 ? 0 : -errno;
		r = fs_statx(up, "", &stx);
		if (r < 0 || ret->count == DEPTH_MAX ||
		    stx.stx_dev_major != first.stx_dev_major ||
		    stx.stx_dev_minor != first.stx_dev_minor ||
		    stx.stx_ino == ret->ino[ret->count - 1])
			break;
		util_close(&ret->top);
		ret->top = take_fd(&up);
		fd = ret->top;
	}
	return r;
}

static void mark_share(struct fs *fs, const struct above *above, bool told)
{
	(void)mark_dir(fs, MARK_SHARE, above->ino[0]);
	if (!told)
		(void)mark_dir(fs, MARK_UNTOLD, above->ino[0]);
	for (unsigned i = 1; i < above->count; i++) {
		(void)mark_dir(fs, MARK_BELOW, above->ino[i]);
		if (!told)
			(void)mark_dir(fs, MARK_BELOW_UNTOLD, above->ino[i]);
	}
}

/* Another machine shares it, or something above or below it. */
static bool meets(const struct fs *fs, const struct above *above, bool told)
{
	const enum mark here = told ? MARK_UNTOLD : MARK_SHARE;

	if (dir_is_marked(fs, told ? MARK_BELOW_UNTOLD : MARK_BELOW,
			  above->ino[0]))
		return true;
	for (unsigned i = 0; i < above->count; i++) {
		if (dir_is_marked(fs, here, above->ino[i]))
			return true;
	}
	return false;
}

/* The same for all shares of this process: random bytes of its start. */
static uint32_t this_machine(void)
{
	const void *bytes = (const void *)getauxval(AT_RANDOM);
	uint64_t value = 0;

	if (bytes)
		memcpy(&value, bytes, sizeof(value));
	return (uint32_t)(mix(0, value) % MACHINES);
}

void fs_peer_open(struct fs *fs, const struct fs_options *options)
{
	const char *path = options->path;
	const bool told = options->shared;
	struct above above = {.top = -1};
	autofd int dir = -1;
	int r;

	fs->machine =
		options->machine ? options->machine % MACHINES : this_machine();

	/*
	 * A user who was warned of the share gets no message about a single
	 * file.
	 */
	fs->peer_named = told;
	/* From where it is mounted: the root may be a copy, with no way up. */
	dir = fs_mount_dir(options);
	r = dir < 0 ? dir : climb(dir, &above);
	if (r == 0) {
		const int top = above.top < 0 ? dir : above.top;
		const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;

		fs->peer_fd = openat(top, ".", flags);
		fs->peer_file_fd = openat(top, ".", flags);
		r = fs->peer_fd < 0 || fs->peer_file_fd < 0 ? -errno : 0;
	}
	util_close(&above.top);
	if (r == 0 && !mark_dir(fs, MARK_SHARE, above.ino[0]))
		r = -errno;
	if (r < 0) {
		util_close(&fs->peer_fd);
		util_close(&fs->peer_file_fd);
		log_warn("%s: '%s': cannot see whether other machines use its "
			 "files: %s",
			 fs->what, path, strerror(-r));
		return;
	}
	mark_share(fs, &above, told);
	if (meets(fs, &above, told))
		log_warn("%s: '%s': another machine can write there, too: its "
			 "changes are seen up to a second late, and a file "
			 "that both have open cannot be mapped shared "
			 "(ENODEV), as SQLite's WAL is: ':shared' "
			 "(cache=never) on both makes all reads exact",
			 fs->what, path);
}
