/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store: a directory with one directory an image, named by the digest:
 *
 *   .lock           held for the moments in which something comes or goes
 *   ID/tree         the root file system
 *   ID/config.json  the image's configuration, as it came
 *   ID/image.json   names, size, date (rootfs-record.c)
 *   ID/hold         shared lock: the image is used; exclusive: being unpacked
 *   ID/from-KEY     this image came from the archive of that key
 *   ID.part         being unpacked; left over, when nobody has its hold
 *   trash-*         being removed, or left over
 *
 * Trees have set-user-ID files of strangers: only the owner gets in.
 */
#include "tools/image/rootfs-parts.h"
#include "tools/image/rootfs-record.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>

#define PART_NAME_MAX (SHA256_HEX + sizeof(".part"))

static int failed(const struct store *store, const char *what)
{
	return log_ret(-errno, "image store '%s': %s: %s", store->path, what,
		       strerror(errno));
}

/* ---- opening */

char *rootfs_store_path(void)
{
	const char *named = getenv("BULKHEAD_STORE");
	const char *data = getenv("XDG_DATA_HOME");
	const char *home = getenv("HOME");
	char *path;

	if (named && named[0])
		return strdup(named);
	if (geteuid() == 0)
		return strdup("/var/lib/bulkhead");
	/* The XDG specification has relative paths ignored. */
	if (data && data[0] == '/')
		return asprintf(&path, "%s/bulkhead", data) < 0 ? NULL : path;
	if (home && home[0])
		return asprintf(&path, "%s/.local/share/bulkhead", home) < 0
			       ? NULL
			       : path;
	return NULL;
}

static int make_dirs(const char *path)
{
	autofree char *copy = strdup(path);

	if (!copy)
		return -ENOMEM;
	for (char *p = copy + 1;; p++) {
		const char c = *p;

		if (c != '/' && c != '\0')
			continue;
		*p = '\0';
		if (mkdir(copy, 0700) < 0 && errno != EEXIST)
			return -errno;
		if (c == '\0')
			return 0;
		*p = c;
	}
}

/* Others who can write there could put anything under our names. */
static int check_owner(int fd, const char *path)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return log_ret(-errno, "image store '%s': %s", path,
			       strerror(errno));
	if (st.st_uid != geteuid() || st.st_mode & 022)
		return log_ret(-EPERM,
			       "image store '%s': belongs to another user or "
			       "can be written by others; set BULKHEAD_STORE "
			       "to a directory of your own",
			       path);
	return 0;
}

static int open_images(struct store *store, const char *path, bool create)
{
	autofd int top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	autofree char *real = NULL;
	int r;

	if (top < 0)
		return errno == ENOENT && !create
			       ? -ENOENT
			       : log_ret(-errno, "image store '%s': %s", path,
					 strerror(errno));
	r = check_owner(top, path);
	if (r < 0)
		return r;
	if (create && mkdirat(top, "images", 0700) < 0 && errno != EEXIST)
		return log_ret(-errno, "image store '%s': %s", path,
			       strerror(errno));
	store->dir = openat(top, "images",
			    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	/* realpath() may change errno even where it succeeds. */
	if (store->dir >= 0)
		real = realpath(path, NULL);
	if (!real)
		return errno == ENOENT && !create
			       ? -ENOENT
			       : log_ret(-errno, "image store '%s': %s", path,
					 strerror(errno));
	if (asprintf(&store->path, "%s/images", real) < 0) {
		store->path = NULL;
		return log_ret(-ENOMEM, "image store '%s': no memory", path);
	}
	return check_owner(store->dir, store->path);
}

int store_open(struct store *store, const char *path, bool create)
{
	autofree char *own = path ? strdup(path) : rootfs_store_path();
	int r = 0;

	*store = (struct store){
		.dir = -1, .lock = -1, .owner_xattr = geteuid() != 0};
	if (!own || !own[0])
		return log_ret(-ENOENT, "no place for images: set "
					"BULKHEAD_STORE or HOME");
	if (create)
		r = make_dirs(own);
	if (r < 0)
		return log_ret(r, "image store '%s': %s", own, strerror(-r));
	r = open_images(store, own, create);
	if (r == 0 && fchmod(store->dir, 0700) < 0)
		r = failed(store, "chmod");
	if (r == 0) {
		store->lock =
			openat(store->dir, ".lock",
			       O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (store->lock < 0)
			r = failed(store, ".lock");
	}
	if (r < 0)
		store_close(store);
	return r;
}

void store_close(struct store *store)
{
	util_close(&store->dir);
	util_close(&store->lock);
	free(store->path);
	*store = (struct store){.dir = -1, .lock = -1};
}

/* ---- locks */

static int lock_fd(int fd, int how)
{
	while (flock(fd, how) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

int store_lock(struct store *store)
{
	int r = lock_fd(store->lock, LOCK_EX);

	return r < 0 ? log_ret(r, "image store '%s': lock: %s", store->path,
			       strerror(-r))
		     : 0;
}

void store_unlock(struct store *store)
{
	(void)lock_fd(store->lock, LOCK_UN);
}

void stored_close(struct stored *image)
{
	util_close(&image->dir);
	util_close(&image->hold);
}

int store_get(struct store *store, const char *name, int how,
	      struct stored *ret)
{
	struct stored image = {.dir = -1, .hold = -1};
	int r;

	image.dir = openat(store->dir, name,
			   O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (image.dir < 0)
		return -errno;
	image.hold =
		openat(image.dir, "hold", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	r = image.hold < 0 ? -errno : lock_fd(image.hold, how);
	if (r < 0) {
		stored_close(&image);
		return r;
	}
	snprintf(image.id, sizeof(image.id), "%.64s", name);
	*ret = image;
	return 0;
}

/* ---- removing */

int store_discard(struct store *store, const char *name,
		  char ret_trash[STORE_TRASH_MAX])
{
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return -EIO;
	snprintf(ret_trash, STORE_TRASH_MAX, "trash-%016jx", (uintmax_t)random);
	return renameat(store->dir, name, store->dir, ret_trash) < 0 ? -errno
								     : 0;
}

int store_nowhere(struct store *store)
{
	char name[STORE_TRASH_MAX];
	uint64_t random;
	int fd;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return failed(store, "random name");
	/* Should this process die now, the next sweep removes it. */
	snprintf(name, sizeof(name), "trash-%016jx", (uintmax_t)random);
	do {
		/* Another process that sweeps may have been faster. */
		if (mkdirat(store->dir, name, 0500) < 0 && errno != EEXIST)
			return failed(store, "mkdir");
		fd = openat(store->dir, name,
			    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	} while (fd < 0 && errno == ENOENT);
	if (fd < 0)
		fd = failed(store, "open");
	(void)unlinkat(store->dir, name, AT_REMOVEDIR);
	return fd;
}

static bool has_prefix(const char *name, const char *prefix)
{
	return strncmp(name, prefix, strlen(prefix)) == 0;
}

static bool is_part(const char *name)
{
	return strlen(name) == 64 + strlen(".part") &&
	       strcmp(name + 64, ".part") == 0;
}

/* Makes trash of what a killed process left. With the store locked. */
static void discard_part(struct store *store, const char *name)
{
	char trash[STORE_TRASH_MAX];
	struct stored part;
	int r = store_get(store, name, LOCK_EX | LOCK_NB, &part);

	if (r == -EWOULDBLOCK)
		return;
	/* Without a hold it was killed between two system calls. */
	if (store_discard(store, name, trash) == 0)
		log_debug("image store: left over: %s", name);
	if (r == 0)
		stored_close(&part);
}

/* Twice: what is stale becomes trash, and then, unlocked, trash goes. */
static void sweep(struct store *store, bool locked)
{
	const struct dirent *entry;
	int copy = openat(store->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);

	if (!dir) {
		util_close(&copy);
		return;
	}
	while ((entry = readdir(dir))) {
		if (locked && is_part(entry->d_name))
			discard_part(store, entry->d_name);
		else if (!locked && has_prefix(entry->d_name, "trash-"))
			(void)tree_remove(store->dir, entry->d_name);
	}
	closedir(dir);
}

void store_sweep(struct store *store)
{
	if (store_lock(store) < 0)
		return;
	sweep(store, true);
	store_unlock(store);
	sweep(store, false);
}

/* ---- entering */

/* A new directory with its hold locked. With the store locked. */
static int begin(struct store *store, const char *part, struct stored *ret)
{
	struct stored image = {.dir = -1, .hold = -1};

	if (mkdirat(store->dir, part, 0700) < 0)
		return errno == EEXIST ? -EEXIST : failed(store, "mkdir");
	image.dir = openat(store->dir, part,
			   O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (image.dir >= 0)
		image.hold =
			openat(image.dir, "hold",
			       O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (image.hold < 0 || flock(image.hold, LOCK_EX | LOCK_NB) < 0) {
		int r = failed(store, "hold");

		stored_close(&image);
		return r;
	}
	snprintf(image.id, sizeof(image.id), "%.64s", part);
	*ret = image;
	return 0;
}

/*
 * -EEXIST: another process is making it, and *RET_WAIT is the lock that it
 * holds.
 */
static int enter_locked(struct store *store, const char *id, struct stored *ret,
			bool *ret_new, int *ret_wait)
{
	char part[PART_NAME_MAX];
	int r = store_get(store, id, LOCK_SH | LOCK_NB, ret);

	*ret_new = false;
	if (r == 0)
		return 0;
	if (r != -ENOENT)
		return log_ret(r, "image store '%s': '%s': %s", store->path, id,
			       strerror(-r));
	snprintf(part, sizeof(part), "%s.part", id);
	r = begin(store, part, ret);
	*ret_new = r == 0;
	if (r == -EEXIST) {
		autofd int dir =
			openat(store->dir, part,
			       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

		*ret_wait =
			openat(dir, "hold", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (*ret_wait < 0)
			return failed(store, "hold");
	}
	return r;
}

int store_enter(struct store *store, const char *digest, struct stored *ret,
		bool *ret_new)
{
	const sigset_t signals = unpack_signals();

	for (;;) {
		autofd int wait = -1;
		sigset_t mask;
		int r;

		store_sweep(store);
		r = store_lock(store);
		if (r < 0)
			return r;
		sigprocmask(SIG_BLOCK, &signals, &mask);
		r = enter_locked(store, digest + strlen("sha256:"), ret,
				 ret_new, &wait);
		store_unlock(store);
		ret->mask = mask;
		if (r < 0 || !*ret_new)
			sigprocmask(SIG_SETMASK, &mask, NULL);
		if (r != -EEXIST)
			return r;
		log_info("image %.19s is being unpacked by another process",
			 digest);
		r = lock_fd(wait, LOCK_SH);
		if (r < 0)
			return log_ret(r, "image store '%s': lock: %s",
				       store->path, strerror(-r));
	}
}

int store_commit(struct store *store, struct stored *image)
{
	char part[PART_NAME_MAX];
	int r = 0;

	/* After a power failure the image is complete, or not there. */
	if (syncfs(image->dir) < 0)
		r = failed(store, "sync");
	if (r == 0)
		r = store_lock(store);
	if (r < 0)
		return r;
	snprintf(part, sizeof(part), "%s.part", image->id);
	if (renameat(store->dir, part, store->dir, image->id) < 0)
		r = failed(store, "rename");
	else
		r = lock_fd(image->hold, LOCK_SH);
	store_unlock(store);
	if (r == 0)
		sigprocmask(SIG_SETMASK, &image->mask, NULL);
	return r;
}

void store_abort(struct store *store, struct stored *image)
{
	char part[PART_NAME_MAX], trash[STORE_TRASH_MAX];

	snprintf(part, sizeof(part), "%s.part", image->id);
	if (store_lock(store) == 0) {
		int r = store_discard(store, part, trash);

		store_unlock(store);
		if (r == 0)
			(void)tree_remove(store->dir, trash);
	}
	stored_close(image);
	sigprocmask(SIG_SETMASK, &image->mask, NULL);
}
