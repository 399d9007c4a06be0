/* SPDX-License-Identifier: Apache-2.0 */
/* The store's third directory, beside images and volumes. */
#include "tools/instance/template-store.h"

#include "tools/image/rootfs-parts.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define FROM_IMAGES "../templates"
#define BOOT_FILE   "/proc/sys/kernel/random/boot_id"
#define PART        ".part"
#define PART_ROOM   (TEMPLATE_NAME + sizeof(PART))
#define KNOWN       ".known"
#define KNOWN_ROOM  (TEMPLATE_NAME + sizeof(KNOWN))
/* Nobody runs as many images in turns. */
#define KNOWN_MAX 1024

static const char *const file_names[2] = {"state", "memory"};

int templates_limit(uint64_t *ret_bytes)
{
	const char *text = getenv("BULKHEAD_TEMPLATES");

	*ret_bytes = TEMPLATES_BYTES_DEFAULT;
	if (!text || !text[0])
		return 0;
	if (strcmp(text, "off") == 0)
		*ret_bytes = 0;
	else if (util_parse_size(text, ret_bytes) < 0)
		return log_ret(-EINVAL,
			       "BULKHEAD_TEMPLATES '%s': neither off nor a "
			       "size: use a number with K, M or G",
			       text);
	else if (*ret_bytes < TEMPLATES_BYTES_LEAST)
		return log_ret(
			-EINVAL,
			"BULKHEAD_TEMPLATES '%s': there would be no room "
			"for one: give %uM or more, or off",
			text, TEMPLATES_BYTES_LEAST >> 20);
	return 0;
}

int templates_boot(char ret[9])
{
	autofd int fd = open(BOOT_FILE, O_RDONLY | O_CLOEXEC);

	ret[8] = '\0';
	if (fd < 0 || read(fd, ret, 8) != 8)
		return log_ret(fd < 0 ? -errno : -EIO, "'" BOOT_FILE "': %s",
			       strerror(fd < 0 ? errno : EIO));
	return 0;
}

/* ---- the directory */

/* A machine that others have written would be run as this user. */
static int check_owner(int dir)
{
	struct stat st;

	if (dir < 0 || fstat(dir, &st) < 0)
		return -errno;
	return st.st_uid != geteuid() || st.st_mode & 077 ? -EPERM : 0;
}

static int open_templates(const struct store *images, bool create,
			  struct template_store *ret)
{
	const int keep = (int)(strrchr(images->path, '/') + 1 - images->path);
	int r;

	if (create && mkdirat(images->dir, FROM_IMAGES, 0700) < 0 &&
	    errno != EEXIST)
		return -errno;
	ret->dir = openat(images->dir, FROM_IMAGES,
			  O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	r = check_owner(ret->dir);
	if (r < 0)
		return r;
	if (asprintf(&ret->path, "%.*stemplates", keep, images->path) < 0) {
		ret->path = NULL;
		return -ENOMEM;
	}
	return 0;
}

int template_store_open_at(const char *path, struct template_store *ret)
{
	int r;

	*ret = (struct template_store){.dir = -1};
	ret->dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	r = check_owner(ret->dir);
	if (r == 0) {
		ret->path = strdup(path);
		r = ret->path ? 0 : -ENOMEM;
	}
	if (r < 0)
		template_store_close(ret);
	return r < 0 ? log_ret(r, "'%s': %s", path, strerror(-r)) : 0;
}

int template_store_open(const char *home, bool create,
			struct template_store *ret)
{
	struct store images;
	int r = store_open(&images, home, create);

	*ret = (struct template_store){.dir = -1};
	if (r < 0)
		return r;
	r = open_templates(&images, create, ret);
	if (r == -EPERM)
		log_error("templates beside '%s': they are not this user's "
			  "alone: remove them",
			  images.path);
	else if (r < 0 && (r != -ENOENT || create))
		log_error("templates beside '%s': %s", images.path,
			  strerror(-r));
	if (r < 0)
		template_store_close(ret);
	store_close(&images);
	return r;
}

void template_store_close(struct template_store *store)
{
	util_close(&store->dir);
	free(store->path);
	store->path = NULL;
}

int template_store_unnamed(void)
{
	struct template_store store;
	char name[32];
	int fd, r = template_store_open(NULL, true, &store);

	if (r < 0)
		return r;
	fd = openat(store.dir, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
	/* Not every file system can have a file without a name at once. */
	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
		snprintf(name, sizeof(name), ".unnamed-%d", (int)getpid());
		(void)unlinkat(store.dir, name, 0);
		fd = openat(store.dir, name,
			    O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd >= 0)
			(void)unlinkat(store.dir, name, 0);
	}
	if (fd < 0)
		r = log_ret(-errno, "'%s': a file for memory: %s", store.path,
			    strerror(errno));
	template_store_close(&store);
	return fd < 0 ? r : fd;
}

/* Nothing that was named by a user leaves the directory. */
static bool is_name(const char *name)
{
	return strlen(name) == TEMPLATE_NAME - 1 &&
	       strspn(name, "0123456789abcdef-") == TEMPLATE_NAME - 1;
}

char *template_find(const struct template_store *store, const char *name,
		    int *ret_fd)
{
	autofd int fd = openat(store->dir, name,
			       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char *path;

	/* It may be removed at any time: then it is as if it were not there. */
	if (fd < 0 || futimens(fd, NULL) < 0 ||
	    asprintf(&path, "%s/%s", store->path, name) < 0)
		return NULL;
	if (ret_fd)
		*ret_fd = take_fd(&fd);
	return path;
}

/* ---- what was looked for */

static void known_name(const char *name, char ret[KNOWN_ROOM])
{
	snprintf(ret, KNOWN_ROOM, "%.*s" KNOWN, TEMPLATE_NAME - 1, name);
}

bool template_is_known(const struct template_store *store, const char *name)
{
	char known[KNOWN_ROOM];

	known_name(name, known);
	return faccessat(store->dir, known, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Where that cannot be, it is as if it were the first time, each time. */
void template_make_known(const struct template_store *store, const char *name)
{
	char known[KNOWN_ROOM];
	int fd;

	known_name(name, known);
	fd = openat(store->dir, known,
		    O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	util_close(&fd);
}

void template_forget(const struct template_store *store, const char *name)
{
	char known[KNOWN_ROOM];

	known_name(name, known);
	(void)unlinkat(store->dir, known, 0);
}

/* ---- making one */

static void part_name(const struct template_part *part, char ret[PART_ROOM])
{
	snprintf(ret, PART_ROOM, "%s" PART, part->name);
}

static int open_files(struct template_part *part)
{
	for (unsigned i = 0; i < 2; i++) {
		part->files[i] = openat(part->lock, file_names[i],
					O_RDWR | O_CREAT | O_TRUNC |
						O_NOFOLLOW | O_CLOEXEC,
					0600);
		if (part->files[i] < 0)
			return -errno;
	}
	return 0;
}

/* Whether what is there by that name now is what FD is. */
static bool is_same(int dir, const char *name, int fd)
{
	struct stat ours, there;

	return fstatat(dir, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
	       fstat(fd, &ours) == 0 && there.st_ino == ours.st_ino &&
	       there.st_dev == ours.st_dev;
}

/* 0, -EBUSY, or -errno; not logged. */
static int take_part(const struct template_store *store,
		     struct template_part *part)
{
	char name[PART_ROOM];

	part_name(part, name);
	if (mkdirat(store->dir, name, 0700) < 0 && errno != EEXIST)
		return -errno;
	part->lock = openat(store->dir, name,
			    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (part->lock < 0)
		return errno == ENOENT ? -EBUSY : -errno;
	if (flock(part->lock, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	/* The process that had it may have ended just now. */
	if (!is_same(store->dir, name, part->lock))
		return -EBUSY;
	if (faccessat(store->dir, part->name, F_OK, 0) == 0) {
		(void)unlinkat(store->dir, name, AT_REMOVEDIR);
		return -EBUSY;
	}
	return open_files(part);
}

static void close_part(struct template_part *part)
{
	for (unsigned i = 0; i < 2; i++)
		util_close(&part->files[i]);
	util_close(&part->lock);
}

int template_begin(const struct template_store *store, const char *name,
		   struct template_part *ret)
{
	int r;

	*ret = TEMPLATE_PART_NONE;
	snprintf(ret->name, sizeof(ret->name), "%.*s", TEMPLATE_NAME - 1, name);
	r = take_part(store, ret);
	if (r < 0)
		close_part(ret);
	if (r < 0 && r != -EBUSY)
		log_error("'%s/%s': %s", store->path, name, strerror(-r));
	return r;
}

void template_abandon(const struct template_store *store,
		      struct template_part *part)
{
	char name[PART_ROOM];

	part_name(part, name);
	if (part->lock >= 0 && is_same(store->dir, name, part->lock))
		(void)tree_remove(store->dir, name);
	close_part(part);
}

/* ---- all of them */

struct found {
	char name[TEMPLATE_NAME];
	uint64_t bytes;
	int64_t used_s, used_ns;
};

struct all {
	struct found *list; /* owned */
	size_t count;
};

static uint64_t disk_bytes(int dir)
{
	uint64_t bytes = 0;
	struct stat st;

	for (unsigned i = 0; i < 2; i++) {
		if (fstatat(dir, file_names[i], &st, AT_SYMLINK_NOFOLLOW) == 0)
			bytes += (uint64_t)st.st_blocks * 512;
	}
	return bytes;
}

static int add_found(const struct template_store *store, const char *name,
		     struct all *all)
{
	struct found *grown =
		reallocarray(all->list, all->count + 1, sizeof(struct found));
	autofd int fd = openat(store->dir, name,
			       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct found *f;
	struct stat st;

	if (!grown)
		return -ENOMEM;
	all->list = grown;
	/* It may be gone meanwhile. */
	if (fd < 0 || fstat(fd, &st) < 0)
		return 0;
	f = &grown[all->count++];
	snprintf(f->name, sizeof(f->name), "%.*s", TEMPLATE_NAME - 1, name);
	f->bytes = disk_bytes(fd);
	f->used_s = st.st_mtim.tv_sec;
	f->used_ns = st.st_mtim.tv_nsec;
	return 0;
}

static int by_use(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	if (x->used_s != y->used_s)
		return x->used_s < y->used_s ? 1 : -1;
	return x->used_ns < y->used_ns ? 1 : x->used_ns > y->used_ns ? -1 : 0;
}

/* Its path may be out of sight by now. NULL: errno says why. */
static DIR *read_store(const struct template_store *store)
{
	const int fd =
		openat(store->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (fd >= 0 && !dir)
		close(fd);
	return dir;
}

/* The last one that was used first. 0 or -errno, logged. */
static int find_all(const struct template_store *store, struct all *ret)
{
	DIR *dir = read_store(store);
	const struct dirent *entry;
	int r = 0;

	*ret = (struct all){0};
	if (!dir)
		return log_ret(-errno, "'%s': %s", store->path,
			       strerror(errno));
	while (r == 0 && (entry = readdir(dir))) {
		if (is_name(entry->d_name))
			r = add_found(store, entry->d_name, ret);
	}
	closedir(dir);
	if (r < 0) {
		free(ret->list);
		return log_ret(r, "out of memory");
	}
	if (ret->count > 0)
		qsort(ret->list, ret->count, sizeof(*ret->list), by_use);
	return 0;
}

int template_each(const struct template_store *store,
		  int (*fn)(const struct template_entry *entry, void *arg),
		  void *arg)
{
	struct all all;
	int r = find_all(store, &all);

	for (size_t i = 0; r >= 0 && i < all.count; i++) {
		const struct found *f = &all.list[i];
		autofree char *path = NULL;
		struct template_entry entry = {
			.name = f->name,
			.bytes = f->bytes,
			.used_s = f->used_s,
		};

		if (asprintf(&path, "%s/%s", store->path, f->name) < 0) {
			path = NULL;
			r = log_ret(-ENOMEM, "out of memory");
			break;
		}
		entry.path = path;
		r = fn(&entry, arg);
	}
	free(all.list);
	return r < 0 ? r : 0;
}

int template_remove(const struct template_store *store, const char *name)
{
	if (!is_name(name) ||
	    faccessat(store->dir, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return -ENOENT;
	return tree_remove(store->dir, name);
}

/*
 * It is moved first, and looked at under a name that nobody else uses: what was
 * another one by then goes back. A process that is killed between leaves a
 * part, which goes with those.
 */
int template_remove_that(const struct template_store *store, const char *name,
			 int fd)
{
	char moved[PART_ROOM + 16];

	if (!is_name(name) || !is_same(store->dir, name, fd))
		return -ENOENT;
	snprintf(moved, sizeof(moved), "%s.%d" PART, name, (int)getpid());
	if (renameat(store->dir, name, store->dir, moved) < 0)
		return -errno;
	if (is_same(store->dir, moved, fd))
		return tree_remove(store->dir, moved);
	if (renameat2(store->dir, moved, store->dir, name, RENAME_NOREPLACE) <
	    0)
		(void)tree_remove(store->dir, moved);
	return -ENOENT;
}

/* ---- not too many */

/* A part that nobody makes any more. */
static void remove_left_over(const struct template_store *store,
			     const char *name)
{
	autofd int fd = openat(store->dir, name,
			       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 &&
	    is_same(store->dir, name, fd))
		(void)tree_remove(store->dir, name);
}

static bool ends_with(const char *name, const char *end)
{
	const size_t n = strlen(name), m = strlen(end);

	return n > m && strcmp(name + n - m, end) == 0;
}

static void remove_parts(const struct template_store *store, const char *boot)
{
	DIR *dir = read_store(store);
	const struct dirent *entry;
	unsigned known = 0;

	while (dir && (entry = readdir(dir))) {
		if (ends_with(entry->d_name, PART))
			remove_left_over(store, entry->d_name);
		else if (ends_with(entry->d_name, KNOWN) &&
			 (strncmp(entry->d_name, boot, 8) != 0 ||
			  ++known > KNOWN_MAX))
			(void)unlinkat(store->dir, entry->d_name, 0);
	}
	if (dir)
		closedir(dir);
}

/* Whatever cannot be removed now is tried again the next time. */
static void prune(const struct template_store *store, uint64_t limit)
{
	char boot[9];
	uint64_t bytes = 0;
	struct all all;

	if (templates_boot(boot) < 0)
		return;
	remove_parts(store, boot);
	if (find_all(store, &all) < 0)
		return;
	for (size_t i = 0; i < all.count; i++) {
		const struct found *f = &all.list[i];

		bytes += f->bytes;
		if (bytes > limit || strncmp(f->name, boot, 8) != 0) {
			log_info("template %s: removed", f->name);
			(void)template_remove(store, f->name);
			bytes -= f->bytes;
		}
	}
	free(all.list);
}

int template_commit(const struct template_store *store,
		    struct template_part *part, uint64_t limit)
{
	char name[PART_ROOM];
	int r = 0;

	part_name(part, name);
	if (renameat(store->dir, name, store->dir, part->name) < 0)
		r = log_ret(-errno, "'%s/%s': %s", store->path, part->name,
			    strerror(errno));
	if (r < 0)
		template_abandon(store, part);
	close_part(part);
	prune(store, limit);
	return r;
}
