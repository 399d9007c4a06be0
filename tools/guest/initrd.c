/* SPDX-License-Identifier: Apache-2.0 */
/* A cpio archive in a memfd (driver-api/early-userspace/buffer-format). */
#include "tools/guest/initrd.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#define HEADER_BYTES 110
#define COPY_MAX     (256 * MIB) /* of one of the host's */

/* Names and contents begin and end at multiples of 4. */
static int pad(int fd, size_t bytes)
{
	static const char zeros[4];

	return util_write_all(fd, zeros, -bytes & 3);
}

static int add_header(int fd, const char *name, unsigned mode, size_t bytes)
{
	const size_t name_bytes = strlen(name) + 1;
	char header[HEADER_BYTES + 1];
	int r;

	/* magic, ino, mode, uid, gid, nlink, mtime, size, 4 devices, name,
	 * checksum */
	snprintf(header, sizeof(header),
		 "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		 0u, mode, 0u, 0u, 1u, 0u, (unsigned)bytes, 0u, 0u, 0u, 0u,
		 (unsigned)name_bytes, 0u);
	r = util_write_all(fd, header, HEADER_BYTES);
	if (r == 0)
		r = util_write_all(fd, name, name_bytes);
	return r < 0 ? r : pad(fd, HEADER_BYTES + name_bytes);
}

static int add_file(int fd, const char *name, unsigned mode, const void *data,
		    size_t bytes)
{
	int r = add_header(fd, name, mode, bytes);

	if (r == 0)
		r = util_write_all(fd, data, bytes);
	return r < 0 ? r : pad(fd, bytes);
}

/* The directories of NAME; the kernel does not mind one that is there. */
static int add_parents(int fd, const char *name)
{
	const char *slash = strchr(name, '/');
	char path[PATH_MAX];
	int r = 0;

	for (; r == 0 && slash; slash = strchr(slash + 1, '/')) {
		snprintf(path, sizeof(path), "%.*s", (int)(slash - name), name);
		r = add_header(fd, path, S_IFDIR | 0755, 0);
	}
	return r;
}

static int copy_file(int fd, const struct initrd_file *file)
{
	struct stat st;
	off_t at = 0;
	int r = fstat(file->fd, &st) < 0 ? -errno : add_parents(fd, file->name);

	if (r == 0 && st.st_size > (off_t)COPY_MAX)
		r = -EFBIG;
	if (r == 0)
		r = add_header(fd, file->name, S_IFREG | 0755,
			       (size_t)st.st_size);
	while (r == 0 && at < st.st_size) {
		ssize_t n =
			sendfile(fd, file->fd, &at, (size_t)(st.st_size - at));

		if (n < 0 && errno != EINTR)
			r = -errno;
		else if (n == 0)
			r = -EIO; /* it got shorter */
	}
	return r < 0 ? r : pad(fd, (size_t)st.st_size);
}

int initrd_add(struct initrd_files *files, const char *name, int fd)
{
	const size_t n = files->count;
	struct initrd_file *grown =
		realloc(files->file, (n + 1) * sizeof(*files->file));
	char *copy = grown ? strdup(name) : NULL;

	if (grown)
		files->file = grown;
	if (!copy) {
		util_close(&fd);
		return -ENOMEM;
	}
	files->file[n] = (struct initrd_file){.name = copy, .fd = fd};
	files->count++;
	return 0;
}

int initrd_add_data(struct initrd_files *files, const char *name,
		    const void *data, size_t bytes)
{
	autofd int fd = memfd_create("bulkhead-initrd-file", MFD_CLOEXEC);
	int r = fd < 0 ? -errno : util_write_all(fd, data, bytes);

	return r < 0 ? r : initrd_add(files, name, take_fd(&fd));
}

void initrd_files_done(struct initrd_files *files)
{
	for (size_t i = 0; i < files->count; i++) {
		free(files->file[i].name);
		util_close(&files->file[i].fd);
	}
	free(files->file);
	*files = (struct initrd_files){0};
}

int initrd_make(const void *init, size_t bytes,
		const struct initrd_files *files)
{
	autofd int fd = memfd_create("bulkhead-initrd", MFD_CLOEXEC);
	int r = fd < 0 ? -errno : 0;

	if (r == 0)
		r = add_file(fd, "init", S_IFREG | 0755, init, bytes);
	for (size_t i = 0; r == 0 && i < files->count; i++)
		r = copy_file(fd, &files->file[i]);
	if (r == 0)
		r = add_file(fd, "TRAILER!!!", 0, NULL, 0);
	return r < 0 ? log_ret(r, "the guest's initial RAM disk: %s",
			       strerror(-r))
		     : take_fd(&fd);
}
