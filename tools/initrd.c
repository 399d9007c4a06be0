/* SPDX-License-Identifier: Apache-2.0 */
/* A cpio archive in a memfd (driver-api/early-userspace/buffer-format). */
#include "tools/initrd.h"

#include "vmm/log.h"
#include "vmm/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define HEADER_BYTES 110

/* Names and contents begin and end at multiples of 4. */
static int pad(int fd, size_t bytes)
{
	static const char zeros[4];

	return util_write_all(fd, zeros, -bytes & 3);
}

static int add_file(int fd, const char *name, unsigned mode, const void *data,
		    size_t bytes)
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
	if (r == 0)
		r = pad(fd, HEADER_BYTES + name_bytes);
	if (r == 0)
		r = util_write_all(fd, data, bytes);
	return r < 0 ? r : pad(fd, bytes);
}

int initrd_make(const void *init, size_t bytes)
{
	autofd int fd = memfd_create("bulkhead-initrd", MFD_CLOEXEC);
	int r = fd < 0 ? -errno : 0;

	if (r == 0)
		r = add_file(fd, "init", S_IFREG | 0755, init, bytes);
	if (r == 0)
		r = add_file(fd, "TRAILER!!!", 0, NULL, 0);
	return r < 0 ? log_ret(r, "the guest's initial RAM disk: %s",
			       strerror(-r))
		     : take_fd(&fd);
}
