/* SPDX-License-Identifier: Apache-2.0 */
/* The store's second directory, beside the images. */
#include "tools/instance/volume.h"

#include "tools/instance/instance.h"
#include "tools/image/rootfs-parts.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define FROM_IMAGES "../volumes"

/* The directory of all volumes; -ENOENT, not logged, unless CREATE. */
static int open_all(bool create, char **ret_path)
{
	struct store store;
	int fd, r = store_open(&store, NULL, create);

	if (r < 0)
		return r;
	if (create && mkdirat(store.dir, FROM_IMAGES, 0700) < 0 &&
	    errno != EEXIST)
		r = -errno;
	fd = r < 0 ? -1
		   : openat(store.dir, FROM_IMAGES,
			    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r == 0 && fd < 0)
		r = -errno;
	if (r == 0 && asprintf(ret_path, "%.*svolumes",
			       (int)(strrchr(store.path, '/') + 1 - store.path),
			       store.path) < 0) {
		close(fd);
		*ret_path = NULL;
		r = -ENOMEM;
	}
	if (r < 0 && (r != -ENOENT || create))
		log_error("volumes beside '%s': %s", store.path, strerror(-r));
	store_close(&store);
	return r < 0 ? r : fd;
}

/* Open and locked; -EAGAIN: it was removed meanwhile. */
static int open_locked(int all_fd, const char *name, int how)
{
	autofd int fd = openat(all_fd, name,
			       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat ours, there;

	if (fd < 0)
		return -errno;
	if (flock(fd, how | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	if (fstatat(all_fd, name, &there, AT_SYMLINK_NOFOLLOW) < 0 ||
	    fstat(fd, &ours) < 0 || there.st_ino != ours.st_ino)
		return -EAGAIN;
	return take_fd(&fd);
}

int volume_open(const char *name, char **ret_path, int *ret_fd)
{
	autofree char *all = NULL;
	autofd int all_fd = -1;
	int r = instance_check_name("volume", name);

	if (r < 0)
		return r;
	all_fd = open_all(true, &all);
	if (all_fd < 0)
		return all_fd;
	do {
		/* As the root of a file system that others may look at. */
		if (mkdirat(all_fd, name, 0755) < 0 && errno != EEXIST)
			r = -errno;
		else
			r = open_locked(all_fd, name, LOCK_SH);
	} while (r == -ENOENT || r == -EAGAIN);
	if (r == -EBUSY)
		return log_ret(r, "volume '%s' is being removed", name);
	if (r < 0)
		return log_ret(r, "volume '%s/%s': %s", all, name,
			       strerror(-r));
	if (asprintf(ret_path, "%s/%s", all, name) < 0) {
		*ret_path = NULL;
		close(r);
		return log_ret(-ENOMEM, "out of memory");
	}
	*ret_fd = r;
	return 0;
}

int volume_remove(const char *name)
{
	autofree char *all = NULL;
	autofd int all_fd = -1, fd = -1;
	int r = instance_check_name("volume", name);

	if (r < 0)
		return r;
	all_fd = open_all(false, &all);
	fd = all_fd < 0 ? all_fd : open_locked(all_fd, name, LOCK_EX);
	if (fd == -ENOENT || fd == -EAGAIN)
		return log_ret(-ENOENT,
			       "volume '%s': no such volume; 'bulkhead volume' "
			       "lists them",
			       name);
	if (fd == -EBUSY)
		return log_ret(fd, "volume '%s' is used by an instance", name);
	r = fd < 0 ? fd : tree_remove(all_fd, name);
	return r < 0 ? log_ret(r, "volume '%s': %s", name, strerror(-r)) : 0;
}

static int is_name(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

int volume_each(int (*fn)(const char *name, const char *path, void *arg),
		void *arg)
{
	autofree char *all = NULL;
	struct dirent **names = NULL;
	int fd = open_all(false, &all);
	int n, r = 0;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	close(fd);
	n = scandir(all, &names, is_name, alphasort);
	if (n < 0)
		return log_ret(-errno, "'%s': %s", all, strerror(errno));
	for (int i = 0; i < n; i++) {
		autofree char *path = NULL;

		if (r == 0 &&
		    asprintf(&path, "%s/%s", all, names[i]->d_name) < 0) {
			path = NULL;
			r = log_ret(-ENOMEM, "out of memory");
		}
		if (r == 0)
			r = fn(names[i]->d_name, path, arg);
		free(names[i]);
	}
	free(names);
	return r;
}
