/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trees that somebody hostile has arranged: opening within them, removing them,
 * and remembering which of their inodes are new.
 */
#include "tools/image/rootfs-parts.h"

#include "vmm/base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>

int tree_open(int dir, const char *path, uint64_t flags, uint64_t resolve)
{
	return util_openat2(dir, path, (int)flags,
			    resolve | RESOLVE_NO_MAGICLINKS);
}

/* ---- removal */

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/*
 * Removes what can be removed from a directory: 0 when it is empty now, 1 with
 * a child opened that is not, or -errno.
 */
static int empty_or_descend(int fd, int *ret_child)
{
	const struct dirent *entry;
	DIR *dir;
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = 0;

	if (copy < 0)
		return -errno;
	dir = fdopendir(copy);
	if (!dir) {
		close(copy);
		return -errno;
	}
	while (r == 0 && (entry = readdir(dir))) {
		if (is_dots(entry->d_name) ||
		    unlinkat(fd, entry->d_name, 0) == 0 || errno == ENOENT)
			continue;
		if (errno != EISDIR && errno != EPERM) {
			r = -errno;
			break;
		}
		if (unlinkat(fd, entry->d_name, AT_REMOVEDIR) == 0)
			continue;
		if (errno != ENOTEMPTY && errno != EEXIST) {
			r = -errno;
			break;
		}
		*ret_child =
			openat(fd, entry->d_name,
			       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		r = *ret_child < 0 ? -errno : 1;
	}
	closedir(dir);
	return r;
}

/*
 * Down into the first child that is not empty, and up by "..": one descriptor
 * at a time, however deep it is. The tree is nobody else's, so ".." is where
 * this came from.
 */
static int remove_children(int top)
{
	uint64_t depth = 0;
	autofd int fd = fcntl(top, F_DUPFD_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	for (;;) {
		int next = -1;
		int r = empty_or_descend(fd, &next);

		if (r < 0)
			return r;
		if (r == 0 && depth == 0)
			return 0;
		if (r == 0)
			next = openat(fd, "..",
				      O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (next < 0)
			return -errno;
		depth = r == 0 ? depth - 1 : depth + 1;
		close(fd);
		fd = next;
	}
}

int tree_remove(int dir, const char *name)
{
	autofd int fd = -1;
	int r;

	if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	if (unlinkat(dir, name, AT_REMOVEDIR) == 0)
		return 0;
	if (errno != ENOTEMPTY && errno != EEXIST)
		return -errno;
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = remove_children(fd);
	if (r < 0)
		return r;
	return unlinkat(dir, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

/* ---- sets of inodes: open addressing, 0 is an empty slot */

struct inodes {
	size_t count, slots; /* slots is a power of two */
	ino_t *slot;
};

struct inodes *inodes_new(void)
{
	struct inodes *set = calloc(1, sizeof(*set));

	if (!set)
		return NULL;
	set->slots = 256;
	set->slot = calloc(set->slots, sizeof(*set->slot));
	if (set->slot)
		return set;
	free(set);
	return NULL;
}

void inodes_free(struct inodes *set)
{
	if (!set)
		return;
	free(set->slot);
	free(set);
}

/* Where INO is, or the empty slot where it belongs. */
static ino_t *slot_of(const struct inodes *set, ino_t ino)
{
	/* Fibonacci hashing: inodes are often consecutive */
	size_t i = (ino * UINT64_C(0x9e3779b97f4a7c15)) >> 20;

	for (;; i++) {
		ino_t *slot = &set->slot[i & (set->slots - 1)];

		if (*slot == ino || *slot == 0)
			return slot;
	}
}

static bool grow(struct inodes *set)
{
	struct inodes larger = {.slots = set->slots * 2};

	larger.slot = calloc(larger.slots, sizeof(*larger.slot));
	if (!larger.slot)
		return false;
	for (size_t i = 0; i < set->slots; i++)
		if (set->slot[i])
			*slot_of(&larger, set->slot[i]) = set->slot[i];
	larger.count = set->count;
	free(set->slot);
	*set = larger;
	return true;
}

bool inodes_add(struct inodes *set, ino_t ino)
{
	ino_t *slot = slot_of(set, ino);

	if (*slot == ino)
		return true;
	if (set->count >= set->slots / 2) {
		if (!grow(set))
			return false;
		slot = slot_of(set, ino);
	}
	*slot = ino;
	set->count++;
	return true;
}

bool inodes_has(const struct inodes *set, ino_t ino)
{
	return ino != 0 && *slot_of(set, ino) == ino;
}
