/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FUSE operations on open files and directories. Data is read and written in
 * guest memory directly: the host's kernel copies it once, and nothing here
 * looks at it.
 */
#include "devices/fs/fuse-parts.h"

#include "vmm/base/iov.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* Finds the handle that the request names: 0 or -errno. */
static int opened(const struct fuse_request *r, uint64_t fh, bool is_dir,
		  struct fs_handle **ret_handle)
{
	if (r->f->stateless)
		return fs_handle_implicit(r->fs, r->inode, is_dir, ret_handle);
	*ret_handle = fs_handle(r->fs, fh, r->inode, is_dir);
	return *ret_handle ? 0 : -EBADF;
}

static int file(const struct fuse_request *r, uint64_t fh,
		struct fs_handle **ret_handle)
{
	return opened(r, fh, false, ret_handle);
}

static int directory(const struct fuse_request *r, uint64_t fh,
		     struct fs_handle **ret_handle)
{
	return opened(r, fh, true, ret_handle);
}

/* ---- opening ---- */

/* With write-back the guest's kernel reads around what it writes. */
static int host_flags(const struct fuse *f, uint32_t flags)
{
	if (f->writeback && (flags & O_ACCMODE) == O_WRONLY)
		flags = (flags & ~(uint32_t)O_ACCMODE) | O_RDWR;
	return (int)flags;
}

#define DIRECT (FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES)

/*
 * The guest's cache is right if the file, now STX, is as it was. A file that
 * others write to, too, must not be mapped (MAP_SHARED), as each guest
 * would change pages of its own: direct I/O refuses it, ENODEV, as long as
 * FUSE_DIRECT_IO_ALLOW_MMAP is not offered.
 */
static uint32_t answer_flags(const struct fuse *f,
			     const struct fs_handle *handle,
			     struct fs_inode *inode, const struct statx *stx)
{
	if (fs_is_shared(handle))
		return DIRECT;
	switch (f->cache) {
	case FUSE_CACHE_ALWAYS:
		return FOPEN_KEEP_CACHE;
	case FUSE_CACHE_NEVER:
		return DIRECT;
	default:
		return fs_unchanged(inode, stx) ? FOPEN_KEEP_CACHE : 0;
	}
}

int64_t fuse_open(struct fuse_request *r)
{
	const struct fuse_open_in *arg = r->arg;
	struct fuse_open_out *out = fuse_answer(r, sizeof(*out));
	struct fs_handle *handle;
	struct statx stx = {0};
	int e = 0;

	if (r->f->stateless)
		return -ENOSYS;
	if (((arg->flags & O_ACCMODE) != O_RDONLY || arg->flags & O_TRUNC) &&
	    fs_readonly(r->fs))
		return -EROFS;
	if (arg->flags & O_TRUNC && arg->open_flags & FUSE_OPEN_KILL_SUIDGID)
		e = fs_kill_suid(r->fs, r->inode, NULL);
	if (e == 0)
		e = fs_open_file(r->fs, r->inode, host_flags(r->f, arg->flags),
				 &out->fh);
	if (e < 0)
		return e;
	handle = fs_handle(r->fs, out->fh, r->inode, false);
	if (r->f->cache == FUSE_CACHE_AUTO)
		e = fs_getattr(r->fs, r->inode, handle, &stx);
	if (e < 0) {
		fs_release(r->fs, handle);
		return e;
	}
	out->open_flags = answer_flags(r->f, handle, r->inode, &stx);
	/*
	 * Most files that are read are never locked, so the guest need not send
	 * a request for each close(2). A lock, if there is one, ends with the
	 * open file.
	 */
	if ((arg->flags & O_ACCMODE) == O_RDONLY && !fs_was_locked(r->inode))
		out->open_flags |= FOPEN_NOFLUSH;
	return sizeof(*out);
}

int64_t fuse_opendir(struct fuse_request *r)
{
	struct fuse_open_out *out = fuse_answer(r, sizeof(*out));
	const int e = r->f->stateless ? -ENOSYS
				      : fs_open_dir(r->fs, r->inode, &out->fh);

	if (e < 0)
		return e;
	if (r->f->cache == FUSE_CACHE_ALWAYS)
		out->open_flags = FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR;
	return sizeof(*out);
}

struct created {
	struct fuse_entry_out entry;
	struct fuse_open_out open;
};

static int64_t answer_created(struct fuse_request *r, int e,
			      const struct fs_entry *entry, uint64_t fh)
{
	struct created *out = fuse_answer(r, sizeof(*out));

	if (e < 0)
		return e;
	fuse_entry(r, entry, &out->entry);
	out->open.fh = fh;
	out->open.open_flags =
		answer_flags(r->f, fs_handle(r->fs, fh, entry->inode, false),
			     entry->inode, &entry->stx);
	return sizeof(*out);
}

int64_t fuse_create(struct fuse_request *r)
{
	const struct fuse_create_in *arg = r->arg;
	const struct fs_place at = {r->inode, fuse_text(r)};
	const struct fs_who who = fuse_who(r, arg->umask);
	struct fs_entry entry;
	uint64_t fh = 0;
	int e;

	if (!at.name)
		return -EINVAL;
	e = fs_create(r->fs, &at, host_flags(r->f, arg->flags), arg->mode, &who,
		      &entry, &fh);
	return answer_created(r, e, &entry, fh);
}

int64_t fuse_tmpfile(struct fuse_request *r)
{
	const struct fuse_create_in *arg = r->arg;
	const struct fs_who who = fuse_who(r, arg->umask);
	struct fs_entry entry;
	uint64_t fh = 0;
	const int e = fs_tmpfile(r->fs, r->inode, host_flags(r->f, arg->flags),
				 arg->mode, &who, &entry, &fh);

	return answer_created(r, e, &entry, fh);
}

static int64_t release(struct fuse_request *r, bool is_dir)
{
	const struct fuse_release_in *arg = r->arg;
	struct fs_handle *handle = fs_handle(r->fs, arg->fh, r->inode, is_dir);

	if (!handle)
		return -EBADF;
	if (arg->release_flags & FUSE_RELEASE_FLOCK_UNLOCK)
		fuse_unlock(r, arg->lock_owner, true);
	fuse_unlock_handle(r, arg->fh);
	fs_release(r->fs, handle);
	return 0;
}

int64_t fuse_release(struct fuse_request *r)
{
	return release(r, false);
}

int64_t fuse_releasedir(struct fuse_request *r)
{
	return release(r, true);
}

/* ---- data ---- */

int64_t fuse_read(struct fuse_request *r)
{
	const struct fuse_read_in *arg = r->arg;
	const struct iov_chain *chain = r->chain;
	const size_t room = chain->in_bytes - sizeof(struct fuse_out_header);
	struct fs_handle *handle;
	const int e = file(r, arg->fh, &handle);
	unsigned niov;

	if (e < 0)
		return e;
	niov = iov_slice(chain->iov + chain->nout, chain->nin,
			 sizeof(struct fuse_out_header),
			 min_u64(arg->size, room), r->f->iov);
	return fs_read(handle, r->f->iov, niov, arg->offset);
}

int64_t fuse_write(struct fuse_request *r)
{
	const struct fuse_write_in *arg = r->arg;
	const struct iov_chain *chain = r->chain;
	const size_t before = sizeof(r->in) + sizeof(*arg);
	const bool delayed = arg->write_flags & FUSE_WRITE_CACHE;
	struct fuse_write_out out = {0};
	struct fs_handle *handle;
	int e = file(r, arg->fh, &handle);
	unsigned niov;
	ssize_t n;

	if (e == 0 && arg->write_flags & FUSE_WRITE_KILL_SUIDGID)
		e = fs_kill_suid(r->fs, r->inode, handle);
	if (e < 0)
		return e;
	niov = iov_slice(chain->iov, chain->nout, before,
			 min_u64(arg->size, r->in.len - before), r->f->iov);
	n = fs_write(handle, r->f->iov, niov, arg->offset,
		     arg->flags & O_APPEND && !delayed && !r->f->writeback);
	if (n < 0)
		return n;
	out.size = (uint32_t)n;
	if (r->out_room < sizeof(out))
		return -EIO;
	iov_write(chain->iov + chain->nout, chain->nin,
		  sizeof(struct fuse_out_header), &out, sizeof(out));
	return sizeof(out);
}

static int64_t sync_opened(struct fuse_request *r, bool is_dir)
{
	const struct fuse_fsync_in *arg = r->arg;
	struct fs_handle *handle;
	const int e = opened(r, arg->fh, is_dir, &handle);

	return e < 0 ? e
		     : fs_fsync(handle,
				arg->fsync_flags & FUSE_FSYNC_FDATASYNC);
}

int64_t fuse_fsync(struct fuse_request *r)
{
	return sync_opened(r, false);
}

int64_t fuse_fsyncdir(struct fuse_request *r)
{
	return sync_opened(r, true);
}

int64_t fuse_fallocate(struct fuse_request *r)
{
	const struct fuse_fallocate_in *arg = r->arg;
	struct fs_handle *handle;
	const int e = file(r, arg->fh, &handle);

	return e < 0 ? e
		     : fs_fallocate(handle, (int)arg->mode, arg->offset,
				    arg->length);
}

int64_t fuse_lseek(struct fuse_request *r)
{
	const struct fuse_lseek_in *arg = r->arg;
	struct fuse_lseek_out *out;
	struct fs_handle *handle;
	int64_t at = file(r, arg->fh, &handle);

	if (at < 0)
		return at;
	at = fs_lseek(handle, arg->offset, (int)arg->whence);
	if (at < 0)
		return at;
	out = fuse_answer(r, sizeof(*out));
	out->offset = (uint64_t)at;
	return sizeof(*out);
}

int64_t fuse_copy_file_range(struct fuse_request *r)
{
	const struct fuse_copy_file_range_in *arg = r->arg;
	uint64_t id = 0;
	const struct fuse_tree *tree =
		fuse_tree_find(r->f, arg->nodeid_out, &id);
	const struct fs_inode *to_inode = fs_inode(r->fs, id);
	const struct fs_range from = {
		fs_handle(r->fs, arg->fh_in, r->inode, false), arg->off_in};
	const struct fs_range to = {
		fs_handle(r->fs, arg->fh_out, to_inode, false), arg->off_out};
	struct fuse_write_out *out;
	ssize_t n;

	/* The guest's kernel copies by itself then. */
	if (tree != r->tree)
		return -EXDEV;
	if (!from.handle || !to.handle)
		return -EBADF;
	n = fs_copy(&from, &to, arg->len);
	if (n < 0)
		return n;
	out = fuse_answer(r, sizeof(*out));
	out->size = (uint32_t)n;
	return sizeof(*out);
}

/* ---- directories ---- */

static bool is_dots(const struct fs_dirent *entry)
{
	return strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0;
}

/*
 * An entry with its attributes counts as a lookup. One that just went, or that
 * there is no room for in the tables, is named all the same.
 */
static void put_direntplus(struct fuse_request *r, void *at,
			   struct fs_dirent *entry)
{
	struct fuse_entry_out out = {0};
	struct fs_entry found;

	if (!is_dots(entry) &&
	    fs_lookup(r->fs, r->inode, entry->name, &found) == 0) {
		fuse_entry(r, &found, &out);
		entry->type = (uint8_t)(found.stx.stx_mode >> 12);
	}
	memcpy(at, &out, sizeof(out));
	fuse_dirent((char *)at + sizeof(out), entry, entry->type);
}

static int64_t read_entries(struct fuse_request *r, bool plus)
{
	const struct fuse_read_in *arg = r->arg;
	const size_t head =
		plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET;
	const size_t room = min_u64(arg->size, r->out_room);
	uint64_t offset = arg->offset;
	struct fs_handle *handle;
	struct fs_dirent entry;
	size_t bytes = 0;
	int n = directory(r, arg->fh, &handle);

	if (n < 0)
		return n;
	while ((n = fs_readdir(r->fs, handle, offset, &entry)) > 0) {
		const size_t size = FUSE_REC_ALIGN(head + entry.name_bytes);
		char *at = (char *)r->out + bytes;

		if (size > room - bytes)
			break;
		memset(at, 0, size);
		if (plus)
			put_direntplus(r, at, &entry);
		else
			fuse_dirent(at, &entry, entry.type);
		bytes += size;
		offset = entry.next;
	}
	/* An error comes after what was read before it. */
	if (n < 0 && bytes == 0)
		return n;
	return (int64_t)bytes;
}

int64_t fuse_readdir(struct fuse_request *r)
{
	return read_entries(r, false);
}

int64_t fuse_readdirplus(struct fuse_request *r)
{
	return read_entries(r, true);
}
