/* SPDX-License-Identifier: Apache-2.0 */
/* Files of a shared tree by descriptor and name: what they are, and a path. */
#include "devices/fs/fs-parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

int fs_statx(int fd, const char *name, struct statx *ret_stx)
{
	const int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT |
			  (*name ? 0 : AT_EMPTY_PATH);

	return statx(fd, name, flags,
		     STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID,
		     ret_stx) < 0
		       ? -errno
		       : 0;
}

const char *fs_path(char buf[FS_PATH_MAX], int fd, const char *name)
{
	snprintf(buf, FS_PATH_MAX, FS_FD_PREFIX "%d%s%s", fd, name ? "/" : "",
		 name ? name : "");
	return buf;
}
