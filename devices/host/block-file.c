/* SPDX-License-Identifier: Apache-2.0 */
/* The file or device that an image is in: opening, locking, its size. */
#include "devices/host/block-parts.h"

#include "vmm/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NS_PER_S INT64_C(1000000000)

static int explain_open(const char *path, const struct block_options *options)
{
	const int error = errno;

	if (error == ENOENT)
		return log_ret(-error,
			       "disk '%s' does not exist; 'truncate -s 1G %s' "
			       "makes an empty one",
			       path, path);
	if ((error == EACCES || error == EROFS || error == EPERM) &&
	    !options->readonly)
		return log_ret(
			-error,
			"disk '%s' cannot be opened for writing (%s); if "
			"the guest need not write to it, add ',readonly'",
			path, strerror(error));
	if (error == EINVAL && options->direct)
		return log_ret(-error,
			       "disk '%s': its file system has no direct I/O; "
			       "leave out 'direct'",
			       path);
	if (error == EBUSY)
		return log_ret(-error,
			       "disk '%s' is in use: mounted on this host, or "
			       "another VM's; end that, or add ',readonly'",
			       path);
	return log_ret(-error, "disk '%s' cannot be opened: %s", path,
		       strerror(error));
}

static int open_files(struct block *b, const char *path,
		      const struct block_options *options)
{
	const int mode = (options->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC;
	struct stat st, again;
	int flags = mode;

	if (stat(path, &st) < 0)
		return explain_open(path, options);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return log_ret(S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL,
			       "disk '%s' is %s; it has to be a raw image file "
			       "or a block device",
			       path,
			       S_ISDIR(st.st_mode) ? "a directory"
						   : "neither file nor disk");
	b->is_device = S_ISBLK(st.st_mode);
	/* A mounted device must not be written behind its file system. */
	if (b->is_device && !options->readonly)
		flags |= O_EXCL;
	if (options->direct)
		flags |= O_DIRECT;
	b->fd = open(path, flags);
	if (b->fd < 0)
		return explain_open(path, options);
	if (!options->direct)
		return 0;
	b->cached_fd = open(path, mode);
	if (b->cached_fd < 0)
		return explain_open(path, options);
	if (fstat(b->fd, &st) < 0 || fstat(b->cached_fd, &again) < 0 ||
	    st.st_ino != again.st_ino || st.st_dev != again.st_dev)
		return log_ret(-ESTALE,
			       "disk '%s' was replaced while it was opened",
			       path);
	return 0;
}

/*
 * Open file description locks: unlike POSIX locks they are not lost when some
 * other descriptor of the file is closed, and QEMU's conflict with them.
 */
static int lock_file(const struct block *b, const char *path, bool readonly)
{
	struct flock lock = {
		.l_type = readonly ? F_RDLCK : F_WRLCK,
		.l_whence = SEEK_SET,
	};

	if (fcntl(b->fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return log_ret(-EBUSY,
			       "disk '%s' is in use by another VM; stop that, "
			       "or pass ',readonly' to both to share it",
			       path);
	log_warn("disk '%s' cannot be locked (%s): make sure that no other VM "
		 "uses it",
		 path, strerror(errno));
	return 0;
}

/* Nothing else uses the descriptor's position. */
int block_file_size(const struct block *b, const char *path,
		    uint64_t *ret_bytes)
{
	const off_t end = lseek(b->fd, 0, SEEK_END);

	if (end < 0)
		return log_ret(-errno, "disk '%s': cannot tell its size: %s",
			       path, strerror(errno));
	*ret_bytes = (uint64_t)end;
	return 0;
}

/*
 * The number and the time of a device's node say nothing of what is on it. The
 * call that glibc's fstat() makes could have a path, so it is not allowed once
 * the guest runs.
 */
struct block_identity block_file_identity(const struct block *b)
{
	struct stat st;

	if (b->is_device || syscall(SYS_fstat, b->fd, &st) < 0)
		return (struct block_identity){0};
	return (struct block_identity){
		.device = st.st_dev,
		.inode = st.st_ino,
		.written_ns = st.st_mtim.tv_sec * NS_PER_S + st.st_mtim.tv_nsec,
	};
}

void block_file_note(struct block *b)
{
	b->noted = block_file_identity(b);
}

void block_file_unchanged(const struct block *b)
{
	const struct timespec times[] = {
		{.tv_nsec = UTIME_OMIT},
		{.tv_sec = b->noted.written_ns / NS_PER_S,
		 .tv_nsec = b->noted.written_ns % NS_PER_S},
	};

	if (b->noted.inode != 0 && !b->info.readonly)
		(void)futimens(b->fd, times);
}

int block_file_open(struct block *b, const char *path,
		    const struct block_options *options)
{
	const int r = open_files(b, path, options);

	return r < 0 ? r : lock_file(b, path, options->readonly);
}
