/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Open files and directories of a shared tree. Data goes between the file and
 * the guest's memory in one system call.
 */
#include "devices/fs/fs-parts.h"

#include "vmm/base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* One request keeps the others waiting no longer than copying this takes. */
#define COPY_MAX (16 * MIB)

/* ---- handles; number 0 is none */

static int pay(struct fs *fs)
{
	if (fs->nhandles < fs->max_handles && fs_take(&fs->files, 1))
		return 0;
	return -ENFILE;
}

int fs_handle_room(struct fs *fs)
{
	const int r = pay(fs);

	if (r == 0)
		fs_give(&fs->files, 1);
	return r;
}

/* Takes FD; ID 0: any number. */
static int add_handle(struct fs *fs, struct fs_inode *inode, int fd, int flags,
		      uint32_t id, struct fs_handle **ret_handle)
{
	struct fs_handle *handle = NULL;
	int r = pay(fs);

	if (r < 0) {
		close(fd);
		return r;
	}
	handle = fs_alloc(fs, sizeof(*handle));
	r = -ENOMEM;
	if (handle) {
		*handle = (struct fs_handle){.inode = inode,
					     .fd = fd,
					     .flags = flags,
					     .id = id,
					     .is_dir = flags & O_DIRECTORY};
		if (id == 0)
			handle->id = fs_table_add(&fs->handles, handle);
		r = id == 0 ? (handle->id ? 0 : -ENOMEM)
			    : fs_table_place(&fs->handles, id, handle);
	}
	if (r < 0) {
		fs_free(fs, handle, sizeof(*handle));
		fs_give(&fs->files, 1);
		close(fd);
		return r;
	}
	fs->nhandles++;
	LIST_INSERT_HEAD(&inode->open, handle, same);
	if ((flags & O_ACCMODE) != O_RDONLY)
		fs_peer_enter(fs, handle);
	*ret_handle = handle;
	return 0;
}

/* Flags that an open file keeps. */
#define KEPT_FLAGS (O_ACCMODE | O_SYNC | O_DSYNC | O_DIRECTORY)

int fs_handle_new(struct fs *fs, struct fs_inode *inode, int fd, int flags,
		  uint64_t *ret_handle)
{
	struct fs_handle *handle;
	const int r = add_handle(fs, inode, fd, flags & KEPT_FLAGS, 0, &handle);

	if (r == 0)
		*ret_handle = handle->id;
	return r;
}

int fs_handle_restore(struct fs *fs, struct fs_inode *inode, uint32_t id,
		      int flags, bool is_shared)
{
	const bool is_dir = flags & O_DIRECTORY;
	struct fs_handle *handle;
	int fd, r;

	if ((flags & ~KEPT_FLAGS) || (flags & O_ACCMODE) == O_ACCMODE ||
	    inode->type != (is_dir ? S_IFDIR : S_IFREG) ||
	    (is_dir && fs_is_sealed(fs, inode)) ||
	    (fs->readonly && (flags & O_ACCMODE) != O_RDONLY))
		return -EINVAL;
	fd = fs_reopen(fs, inode,
		       is_dir ? O_RDONLY | O_DIRECTORY : fs_file_flags(flags));
	if (fd < 0)
		return fd;
	r = add_handle(fs, inode, fd, flags, id, &handle);
	if (r == 0)
		handle->is_shared = handle->is_shared || is_shared;
	return r;
}

static struct fs_handle *by_number(const struct fs *fs, uint64_t id)
{
	return id <= UINT32_MAX ? fs_table_get(&fs->handles, (uint32_t)id)
				: NULL;
}

struct fs_handle *fs_handle(struct fs *fs, uint64_t id,
			    const struct fs_inode *inode, bool is_dir)
{
	struct fs_handle *handle = by_number(fs, id);

	return handle && handle->inode == inode && handle->is_dir == is_dir &&
			       !handle->implicit
		       ? handle
		       : NULL;
}

/*
 * Closes one of the files that are open on this side only; true: there was one.
 */
static bool close_implicit(struct fs *fs)
{
	for (unsigned i = 0; i < FS_IMPLICIT; i++) {
		struct fs_handle *handle = by_number(fs, fs->implicit[i]);

		if (!handle)
			continue;
		fs->implicit[i] = 0;
		fs_release(fs, handle);
		return true;
	}
	return false;
}

static int open_implicit(struct fs *fs, struct fs_inode *inode, bool is_dir,
			 uint64_t *ret_handle)
{
	return is_dir ? fs_open_dir(fs, inode, ret_handle)
		      : fs_open_file(fs, inode, O_RDONLY, ret_handle);
}

int fs_handle_implicit(struct fs *fs, struct fs_inode *inode, bool is_dir,
		       struct fs_handle **ret_handle)
{
	uint32_t *place = &fs->implicit[(uint32_t)inode->id % FS_IMPLICIT];
	struct fs_handle *handle = by_number(fs, *place);
	uint64_t id;
	int r;

	if (handle && handle->inode == inode && handle->is_dir == is_dir) {
		*ret_handle = handle;
		return 0;
	}
	*place = 0;
	if (handle)
		fs_release(fs, handle);
	r = open_implicit(fs, inode, is_dir, &id);
	if (r == -ENFILE && close_implicit(fs))
		r = open_implicit(fs, inode, is_dir, &id);
	if (r < 0)
		return r;
	*place = (uint32_t)id;
	*ret_handle = by_number(fs, id);
	(*ret_handle)->implicit = true;
	return 0;
}

void fs_release(struct fs *fs, struct fs_handle *handle)
{
	struct fs_inode *inode = handle->inode;

	fs_peer_leave(fs, handle);
	if (fs->dirbuf.owner == handle->id)
		fs->dirbuf.owner = 0;
	fs_table_del(&fs->handles, handle->id);
	handle->next_closed = fs->closed;
	fs->closed = handle;
	/* It is closed at the end of the request, but may be replaced now. */
	fs_give(&fs->files, 1);
	fs->nhandles--;
	LIST_REMOVE(handle, same);
	fs_inode_drop(fs, inode);
}

void fs_handle_release_all(struct fs *fs)
{
	for (uint32_t i = 1; i < fs->handles.count; i++) {
		struct fs_handle *handle = by_number(fs, i);

		if (handle)
			fs_release(fs, handle);
	}
	memset(fs->implicit, 0, sizeof(fs->implicit));
}

void fs_handle_settle(struct fs *fs)
{
	struct fs_handle *handle;

	while ((handle = fs->closed)) {
		fs->closed = handle->next_closed;
		close(handle->fd);
		fs_free(fs, handle, sizeof(*handle));
	}
	if (fs->nhandles == 0)
		fs_table_shrink(&fs->handles);
}

/* ---- opening */

int fs_file_flags(int flags)
{
	/*
	 * The guest's kernel creates and appends by itself, and its direct I/O
	 * is direct as far as the host's page cache. Nothing here may wait, or
	 * make a terminal the monitor's.
	 */
	return (flags & (O_ACCMODE | O_TRUNC | O_SYNC | O_DSYNC)) | O_NONBLOCK |
	       O_NOCTTY;
}

int fs_reopen(struct fs *fs, struct fs_inode *inode, int flags)
{
	const int path_fd = fs_inode_fd(fs, inode);
	char path[FS_PATH_MAX];
	int fd;

	if (path_fd < 0)
		return path_fd;
	fs_path(path, path_fd, NULL);
	do
		fd = open(path, flags | O_CLOEXEC);
	while (fd < 0 && (errno == EMFILE || errno == ENFILE) &&
	       fs_inode_make_room(fs) && inode->fd >= 0);
	return fd < 0 ? -errno : fd;
}

int fs_open_file(struct fs *fs, struct fs_inode *inode, int flags,
		 uint64_t *ret_handle)
{
	int fd, r;

	/* To open a device or a pipe may do something, or wait. */
	if (inode->type != S_IFREG)
		return inode->type == S_IFDIR ? -EISDIR : -ENXIO;
	/* Data in a file that has no name any more would be lost. */
	r = fs_inode_confirm(fs, inode);
	if (r < 0)
		return r;
	fd = fs_reopen(fs, inode, fs_file_flags(flags));
	return fd < 0 ? fd
		      : fs_handle_new(fs, inode, fd, flags & ~O_DIRECTORY,
				      ret_handle);
}

int fs_open_dir(struct fs *fs, struct fs_inode *inode, uint64_t *ret_handle)
{
	int fd;

	if (inode->type != S_IFDIR)
		return -ENOTDIR;
	if (fs_is_sealed(fs, inode))
		return -EACCES;
	fd = fs_reopen(fs, inode, O_RDONLY | O_DIRECTORY);
	return fd < 0 ? fd
		      : fs_handle_new(fs, inode, fd, O_DIRECTORY, ret_handle);
}

/* ---- data */

ssize_t fs_read(struct fs_handle *handle, const struct iovec *iov,
		unsigned niov, uint64_t offset)
{
	const ssize_t n = preadv(handle->fd, iov, (int)niov, (off_t)offset);

	return n < 0 ? -errno : n;
}

ssize_t fs_write(struct fs_handle *handle, const struct iovec *iov,
		 unsigned niov, uint64_t offset, bool append)
{
	const ssize_t n = pwritev2(handle->fd, iov, (int)niov, (off_t)offset,
				   append ? RWF_APPEND : 0);

	return n < 0 ? -errno : n;
}

int fs_fsync(struct fs_handle *handle, bool data_only)
{
	return (data_only ? fdatasync : fsync)(handle->fd) < 0 ? -errno : 0;
}

int fs_fallocate(struct fs_handle *handle, int mode, uint64_t offset,
		 uint64_t bytes)
{
	if (offset > INT64_MAX || bytes > INT64_MAX)
		return -EFBIG;
	return fallocate(handle->fd, mode, (off_t)offset, (off_t)bytes) < 0
		       ? -errno
		       : 0;
}

int64_t fs_lseek(struct fs_handle *handle, uint64_t offset, int whence)
{
	off_t at;

	/* The guest's kernel does all the others. */
	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	at = lseek(handle->fd, (off_t)offset, whence);
	return at < 0 ? -errno : at;
}

ssize_t fs_copy(const struct fs_range *from, const struct fs_range *to,
		uint64_t bytes)
{
	off_t in = (off_t)from->offset, out = (off_t)to->offset;
	const ssize_t n = copy_file_range(from->handle->fd, &in, to->handle->fd,
					  &out, min_u64(bytes, COPY_MAX), 0);

	return n < 0 ? -errno : n;
}

/* ---- directories */

static struct dirent64 *current(const struct fs_dirbuf *buf)
{
	return (struct dirent64 *)(buf->data + buf->at);
}

/* Reads on from where the descriptor is. */
static int fill(struct fs_dirbuf *buf, const struct fs_handle *handle)
{
	ssize_t n;

	if (!buf->data)
		buf->data = malloc(FS_DIR_BYTES);
	if (!buf->data)
		return -ENOMEM;
	n = getdents64(handle->fd, buf->data, FS_DIR_BYTES);
	buf->at = 0;
	buf->bytes = n > 0 ? (size_t)n : 0;
	return n < 0 ? -errno : 0;
}

/* Makes the entry at OFFSET the current one, if there is one. */
static int seek(struct fs *fs, const struct fs_handle *handle, uint64_t offset)
{
	struct fs_dirbuf *buf = &fs->dirbuf;
	const uint32_t id = handle->id;
	bool follows = buf->owner == id && buf->offset == offset;

	if (follows && buf->at < buf->bytes)
		return 0;
	if (!follows && buf->owner == id && buf->at < buf->bytes &&
	    (uint64_t)current(buf)->d_off == offset) {
		buf->at += current(buf)->d_reclen;
		follows = true;
	}
	if (!follows || buf->at >= buf->bytes) {
		int r;

		buf->owner = 0;
		if (!follows && lseek(handle->fd, (off_t)offset, SEEK_SET) < 0)
			return -errno;
		r = fill(buf, handle);
		if (r < 0)
			return r;
		buf->owner = id;
	}
	buf->offset = offset;
	return 0;
}

int fs_readdir(struct fs *fs, struct fs_handle *handle, uint64_t offset,
	       struct fs_dirent *ret_entry)
{
	const struct dirent64 *entry;
	const int r = seek(fs, handle, offset);

	if (r < 0 || fs->dirbuf.at >= fs->dirbuf.bytes)
		return r;
	entry = current(&fs->dirbuf);
	*ret_entry = (struct fs_dirent){
		.name = entry->d_name,
		.name_bytes = strlen(entry->d_name),
		.number = entry->d_ino ^ (uint64_t)handle->inode->device << 48,
		.next = (uint64_t)entry->d_off,
		.type = entry->d_type,
	};
	/* It may be any special file (FS_STAT_XATTR). */
	if (fs->xattr && entry->d_type == DT_REG)
		ret_entry->type = DT_UNKNOWN;
	return 1;
}
