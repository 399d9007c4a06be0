/* SPDX-License-Identifier: Apache-2.0 */
/*
 * firmware/kernel/build puts each build of the project's kernel into a
 * directory of the cache that is named after its configuration.
 */
#include "tools/guest/kernel.h"

#include "firmware/init/program.h"
#include "tools/guest/cache.h"
#include "tools/guest/unpack.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
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

char *kernel_own(void)
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

/* Names WHY there is none, and the two ways to get one. */
static int no_distro(const char *why)
{
	return log_ret(-ENOENT,
		       "no kernel of the distribution's: %s; install one "
		       "(Debian: apt-get install linux-image-cloud-amd64), or "
		       "run '" BULKHEAD_DATADIR "/kernel/distro', which "
		       "fetches it only (in the source tree: "
		       "firmware/kernel/distro)",
		       why[0] ? why : "none is in /lib/modules or the cache");
}

int kernel_default(struct config *cfg)
{
	struct distro distro = {0};
	char why[DISTRO_WHY];
	int r;

	if (cfg->kernel)
		return 0;
	cfg->kernel = kernel_own();
	if (cfg->kernel)
		return 0;
	r = distro_find(&distro, why);
	if (r == -ENOENT)
		return log_ret(r,
			       "no guest kernel: give --kernel FILE, build the "
			       "project's with '" BULKHEAD_DATADIR
			       "/kernel/build' (in the source tree: "
			       "./bootstrap kernel; for all users, as root: "
			       "make install-kernel), or fetch the "
			       "distribution's with '" BULKHEAD_DATADIR
			       "/kernel/distro' (firmware/kernel/distro)%s%s",
			       why[0] ? "; it cannot be used as it is: " : "",
			       why);
	if (r == 0)
		log_warn("no guest kernel of the project's is here: taking the "
			 "distribution's, Linux %s; '" BULKHEAD_DATADIR
			 "/kernel/build' (./bootstrap kernel) builds one that "
			 "starts faster",
			 distro.version);
	distro_done(&distro);
	cfg->kernel = r == 0 ? strdup(KERNEL_DISTRO) : NULL;
	return cfg->kernel ? 0 : log_ret(-ENOMEM, "out of memory");
}

int kernel_open(struct config *cfg, struct distro *ret)
{
	char why[DISTRO_WHY];
	int r;

	if (strcmp(cfg->kernel, KERNEL_DISTRO) == 0) {
		r = distro_find(ret, why);
		if (r == -ENOENT)
			return no_distro(why);
		if (r < 0)
			return log_ret(r, "out of memory");
		free(cfg->kernel);
		cfg->kernel = strdup(ret->image);
		if (!cfg->kernel)
			return log_ret(-ENOMEM, "out of memory");
		log_info("the distribution's kernel: '%s'", ret->image);
	}
	return kernel_unpack(&cfg->kernel);
}

/*
 * The bytes that were copied from the program's file are not needed again: more
 * than a MiB that each process would keep to itself.
 */
static void drop_pages(const void *data, size_t bytes)
{
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	const uintptr_t from = ((uintptr_t)data + page - 1) / page * page;
	const uintptr_t to = ((uintptr_t)data + bytes) / page * page;

	if (to > from)
		(void)madvise((void *)from, to - from, MADV_DONTNEED);
}

int kernel_initrd(struct config *cfg, const struct distro *distro,
		  bool mount_root, struct initrd_files *files)
{
	autofd int fd = -1;
	char path[40];
	size_t bytes;
	const void *init = init_program(&bytes);
	int r = 0;

	if (distro->version)
		r = distro_files(distro, cfg, mount_root, files);
	if (r < 0)
		return r;
	fd = initrd_make(init, bytes, files);
	drop_pages(init, bytes);
	if (fd < 0)
		return fd;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	r = config_set(cfg, "", "initrd", path);
	cfg->initrd_mounts_root = mount_root;
	return r < 0 ? r : take_fd(&fd);
}
