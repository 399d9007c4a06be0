/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the project's own guest kernel is found. firmware/kernel/build puts
 * each build into a directory of the cache named after its configuration.
 */
#include "tools/guest/kernel.h"

#include "tools/guest/cache.h"
#include "vmm/base/util.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool is_newer(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec
				      : a->tv_nsec > b->tv_nsec;
}

/* The newest CACHE/kernel-*\/vmlinux, allocated, or NULL. */
static char *newest_cached(void)
{
	autofree char *cache = cache_dir();
	struct timespec newest = {0};
	const struct dirent *entry;
	char *found = NULL;
	DIR *dir = cache ? opendir(cache) : NULL;

	if (!dir)
		return NULL;
	while ((entry = readdir(dir))) {
		autofree char *path = NULL;
		struct stat st;

		if (strncmp(entry->d_name, "kernel-", 7) != 0 ||
		    asprintf(&path, "%s/%s/vmlinux", cache, entry->d_name) < 0)
			continue;
		if (stat(path, &st) < 0 || !S_ISREG(st.st_mode) ||
		    (found && !is_newer(&st.st_mtim, &newest)))
			continue;
		newest = st.st_mtim;
		free(found);
		found = take_ptr(path);
	}
	closedir(dir);
	return found;
}

char *kernel_default(void)
{
	const char *named = getenv("BULKHEAD_KERNEL");
	char *path;

	if (named && named[0])
		return strdup(named);
	path = newest_cached();
	if (path)
		return path;
	if (access(BULKHEAD_LIBDIR "/vmlinux", R_OK) == 0)
		return strdup(BULKHEAD_LIBDIR "/vmlinux");
	return NULL;
}
