/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linux reads 128 KiB ahead, which suits a disk. A read of a share is a message
 * to the host and back, whose price is that of many more bytes: a program of
 * 2 MiB takes a dozen of them to start.
 */
#include "firmware/init/share.h"

#include "firmware/init/mount.h"
#include "vmm/base/util.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define READ_AHEAD_KIB "1024" /* one request carries no more */

/* Where it cannot be set the share works, but slower. */
static void set_read_ahead(int share)
{
	autofd int fd = -1;
	struct stat st;
	char path[80];

	if (fstat(share, &st) < 0)
		return;
	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb",
		 major(st.st_dev), minor(st.st_dev));
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0)
		(void)!write(fd, READ_AHEAD_KIB, strlen(READ_AHEAD_KIB));
}

int share_mount(const char *tag, struct init_failure *f)
{
	int share = mount_make("virtiofs", tag, NULL, f);

	if (share >= 0)
		set_read_ahead(share);
	return share;
}
