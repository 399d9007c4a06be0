/* SPDX-License-Identifier: Apache-2.0 */
/* The user's cache, and what in it may be believed. */
#include "tools/guest/cache.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char *join(const char *dir, const char *name)
{
	char *path;

	return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

char *cache_dir(void)
{
	const char *dir = getenv("BULKHEAD_CACHE");

	if (dir && dir[0])
		return strdup(dir);
	dir = getenv("XDG_CACHE_HOME");
	if (dir && dir[0])
		return join(dir, "bulkhead");
	dir = getenv("HOME");
	return dir && dir[0] ? join(dir, ".cache/bulkhead") : NULL;
}

static bool is_private(int fd, mode_t type)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (st.st_mode & S_IFMT) == type &&
	       st.st_uid == geteuid() && !(st.st_mode & 022);
}

bool cache_is_own(int fd)
{
	return is_private(fd, S_IFREG);
}

/* PATH's directories, those of the way included. */
static int make_dirs(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash;
	     slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(path, 0777) < 0 && errno != EEXIST) {
			*slash = '/';
			return -errno;
		}
		*slash = '/';
	}
	return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

int cache_open(const char *name, char **ret_path)
{
	autofree char *cache = cache_dir();
	autofree char *path = cache ? join(cache, name) : NULL;
	autofd int fd = -1;
	int r;

	if (!path)
		return -ENOENT;
	r = make_dirs(path);
	if (r < 0)
		return r;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (!is_private(fd, S_IFDIR))
		return -EPERM;
	*ret_path = take_ptr(path);
	return take_fd(&fd);
}
