/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inodes of a shared tree that the guest knows, and their descriptors.
 *
 * An inode lives while the guest refers to it, has it open, or knows something
 * below it: a child is found again by way of its parents. One with a name may
 * lose its descriptor at any time; one that was removed keeps it ("pinned"), so
 * that what is still open or is a working directory goes on working, and so
 * that its number is not given to another file meanwhile.
 */
#include "devices/fs-parts.h"

#include "vmm/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define FIRST_SLOTS   64
#define FIRST_BUCKETS 64

/* ---- keys */

static void key_from(const struct fs *fs, const struct statx *stx,
		     struct fs_key *ret_key)
{
	*ret_key = (struct fs_key){
		.dev = makedev(stx->stx_dev_major, stx->stx_dev_minor),
		.ino = stx->stx_ino,
	};
	if (stx->stx_mask & STATX_MNT_ID)
		ret_key->mount = stx->stx_mnt_id;
	if (fs->has_births && (stx->stx_mask & STATX_BTIME))
		ret_key->born_ns = stx->stx_btime.tv_sec * 1000000000 +
				   stx->stx_btime.tv_nsec;
}

static bool same_key(const struct fs_key *a, const struct fs_key *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->mount == b->mount &&
	       a->born_ns == b->born_ns;
}

static uint64_t mix(uint64_t a, uint64_t b)
{
	a = (a ^ b) * UINT64_C(0x9e3779b97f4a7c15);
	return a ^ a >> 32;
}

static struct fs_inode **bucket(const struct fs *fs, const struct fs_key *key)
{
	return &fs->hash[mix(mix(key->dev, key->mount), key->ino) &
			 (fs->nhash - 1)];
}

static struct fs_inode *find(const struct fs *fs, const struct fs_key *key)
{
	struct fs_inode *inode = *bucket(fs, key);

	while (inode && !same_key(&inode->key, key))
		inode = inode->next;
	return inode;
}

struct fs_inode *fs_inode_find(struct fs *fs, const struct statx *stx)
{
	struct fs_key key;

	key_from(fs, stx, &key);
	return find(fs, &key);
}

static void hash_add(struct fs *fs, struct fs_inode *inode)
{
	struct fs_inode **list = bucket(fs, &inode->key);

	inode->next = *list;
	*list = inode;
}

static void hash_del(struct fs *fs, struct fs_inode *inode)
{
	struct fs_inode **link = bucket(fs, &inode->key);

	while (*link != inode)
		link = &(*link)->next;
	*link = inode->next;
}

/* Short lists keep being short; without memory they get longer. */
static void hash_grow(struct fs *fs)
{
	struct fs_inode **old = fs->hash, *inode;
	const uint32_t count = fs->nhash;

	fs->hash = calloc(2 * (size_t)count, sizeof(struct fs_inode *));
	if (!fs->hash) {
		fs->hash = old;
		return;
	}
	fs->nhash = 2 * count;
	for (uint32_t i = 0; i < count; i++) {
		while ((inode = old[i])) {
			old[i] = inode->next;
			hash_add(fs, inode);
		}
	}
	free(old);
}

/* ---- numbers */

/*
 * A free slot holds the number of the next free one, as a pointer that is
 * odd: inodes are not.
 */
static struct fs_inode *free_link(uint32_t next)
{
	return (struct fs_inode *)((uintptr_t)next << 1 | 1);
}

static bool is_free_link(const struct fs_inode *inode)
{
	return (uintptr_t)inode & 1;
}

static int slots_grow(struct fs *fs)
{
	const uint32_t count = fs->nslots ? 2 * fs->nslots : FIRST_SLOTS;
	struct fs_inode **slot;

	slot = reallocarray(fs->slot, count, sizeof(struct fs_inode *));
	if (!slot)
		return -ENOMEM;
	/* Slot 0 is never used: it ends the list. */
	for (uint32_t i = count - 1; i >= fs->nslots && i > 0; i--) {
		slot[i] = free_link(fs->free_slot);
		fs->free_slot = i;
	}
	slot[0] = free_link(0);
	fs->slot = slot;
	fs->nslots = count;
	return 0;
}

static int number(struct fs *fs, struct fs_inode *inode)
{
	uint32_t i;
	int r = fs->free_slot ? 0 : slots_grow(fs);

	if (r < 0)
		return r;
	i = fs->free_slot;
	fs->free_slot = (uint32_t)((uintptr_t)fs->slot[i] >> 1);
	fs->slot[i] = inode;
	inode->id = (uint64_t)fs->generation++ << 32 | i;
	return 0;
}

struct fs_inode *fs_inode(struct fs *fs, uint64_t id)
{
	const uint32_t i = (uint32_t)id;
	struct fs_inode *inode = i < fs->nslots ? fs->slot[i] : free_link(0);

	if (is_free_link(inode) || inode->id != id)
		return NULL;
	/* One that is only there for what is below it the guest has given up.
	 */
	return inode->lookups > 0 || inode == &fs->root ? inode : NULL;
}

uint64_t fs_inode_id(const struct fs_inode *inode)
{
	return inode->id;
}

/* Another file system's numbers may be the same: its index makes them differ.
 */
uint64_t fs_inode_number(const struct fs_inode *inode)
{
	return inode->key.ino ^ (uint64_t)inode->device << 48;
}

static uint8_t device_index(struct fs *fs, uint64_t dev)
{
	unsigned i = 0;

	while (i < fs->ndevices && fs->device[i] != dev)
		i++;
	if (i == fs->ndevices && i < FS_DEVICES)
		fs->device[fs->ndevices++] = dev;
	return (uint8_t)(i < FS_DEVICES ? i : FS_DEVICES - 1);
}

/* ---- descriptors */

static void set_fd(struct fs *fs, struct fs_inode *inode, int fd)
{
	inode->fd = fd;
	fs->npaths++;
	if (inode->parent)
		TAILQ_INSERT_TAIL(&fs->used, inode, used);
	else
		fs->npinned++;
}

static void close_fd(struct fs *fs, struct fs_inode *inode)
{
	if (inode->fd < 0)
		return;
	if (inode->parent)
		TAILQ_REMOVE(&fs->used, inode, used);
	else
		fs->npinned--;
	fs->npaths--;
	close(inode->fd);
	inode->fd = -1;
}

bool fs_inode_make_room(struct fs *fs)
{
	unsigned count = fs->npaths / 2 + 1;
	/* The last one used is in use. */
	const bool any =
		TAILQ_FIRST(&fs->used) != NULL &&
		TAILQ_FIRST(&fs->used) != TAILQ_LAST(&fs->used, fs_used);

	while (count-- > 0 &&
	       TAILQ_FIRST(&fs->used) != TAILQ_LAST(&fs->used, fs_used))
		close_fd(fs, TAILQ_FIRST(&fs->used));
	return any;
}

/* PARENT has its descriptor. ESTALE: what is there is something else. */
static int open_inode(struct fs *fs, struct fs_inode *inode)
{
	struct fs_key key;
	struct statx stx;
	int fd, r;

	if (fs->npaths >= fs->max_paths && TAILQ_FIRST(&fs->used) &&
	    TAILQ_FIRST(&fs->used) != inode->parent)
		close_fd(fs, TAILQ_FIRST(&fs->used));
	fd = fs_openat(fs, inode->parent->fd, inode->name, O_PATH, 0);
	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP ? -ESTALE
								       : fd;
	r = fs_statx(fd, "", &stx);
	if (r == 0) {
		key_from(fs, &stx, &key);
		r = same_key(&key, &inode->key) ? 0 : -ESTALE;
	}
	if (r < 0)
		close(fd);
	else
		set_fd(fs, inode, fd);
	return r;
}

/* By its name, from the nearest parent on that has a descriptor. */
static int open_by_name(struct fs *fs, struct fs_inode *inode)
{
	struct fs_inode *i = inode;
	int r = 0;

	/* Up to the first that has one, leaving the way back. */
	while (i->fd < 0) {
		if (!i->parent)
			return -ESTALE;
		i->parent->down = i;
		i = i->parent;
	}
	while (r == 0) {
		/* Used last, so that nothing below takes its descriptor. */
		if (i->parent) {
			TAILQ_REMOVE(&fs->used, i, used);
			TAILQ_INSERT_TAIL(&fs->used, i, used);
		}
		if (i == inode)
			return i->fd;
		i = i->down;
		r = open_inode(fs, i);
	}
	return r;
}

/*
 * The host moved or removed what the guest has open: from now on it has a
 * descriptor and no name, as if the guest had removed it.
 */
static int open_by_handle(struct fs *fs, struct fs_inode *inode)
{
	char path[FS_PATH_MAX];
	uint32_t i = 1;
	int fd;

	while (i < fs->nhandles && fs->handle[i].inode != inode)
		i++;
	if (i >= fs->nhandles || fs->npinned >= fs->max_paths / 2)
		return -ESTALE;
	fd = open(fs_path(path, fs->handle[i].fd, NULL), O_PATH | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	fs_inode_unname(fs, inode);
	set_fd(fs, inode, fd);
	return fd;
}

int fs_inode_fd(struct fs *fs, struct fs_inode *inode)
{
	const int r = open_by_name(fs, inode);

	return r == -ESTALE && inode->handles > 0 ? open_by_handle(fs, inode)
						  : r;
}

int fs_inode_stat(struct fs *fs, struct fs_inode *inode, struct statx *ret_stx)
{
	char path[FS_PATH_MAX];
	struct fs_key key;
	int dir_fd, r;

	if (!inode->parent)
		return -ESTALE;
	dir_fd = fs_inode_fd(fs, inode->parent);
	if (dir_fd < 0)
		return dir_fd;
	r = fs_statx(dir_fd, inode->name, ret_stx);
	if (r < 0)
		return r == -ENOENT || r == -ENOTDIR ? -ESTALE : r;
	key_from(fs, ret_stx, &key);
	if (!same_key(&key, &inode->key))
		return -ESTALE;
	fs_owner_show(fs, fs_path(path, dir_fd, inode->name), ret_stx);
	return 0;
}

/* ---- places */

bool fs_inode_is_at(const struct fs_inode *inode, const struct fs_place *at)
{
	return inode->parent == at->dir && strcmp(inode->name, at->name) == 0;
}

/* Takes the name away and gives the parent back, which the caller drops. */
static struct fs_inode *take_place(struct fs *fs, struct fs_inode *inode)
{
	struct fs_inode *parent = inode->parent;

	if (!parent)
		return NULL;
	if (inode->fd >= 0) {
		TAILQ_REMOVE(&fs->used, inode, used);
		fs->npinned++;
	}
	free(inode->name);
	inode->name = NULL;
	inode->parent = NULL;
	parent->children--;
	return parent;
}

void fs_inode_unname(struct fs *fs, struct fs_inode *inode)
{
	struct fs_inode *parent = take_place(fs, inode);

	/* What a guest removes and keeps open may use half of all. */
	if (fs->npinned > fs->max_paths / 2 && inode != &fs->root)
		close_fd(fs, inode);
	if (parent)
		fs_inode_drop(fs, parent);
}

/*
 * The host may have moved a directory to below what was below it: the old
 * places must not become a circle, in which no way up ends.
 */
static void break_circle(struct fs *fs, struct fs_inode *inode,
			 struct fs_inode *dir)
{
	for (; dir; dir = dir->parent) {
		if (dir->parent == inode) {
			fs_inode_unname(fs, dir);
			return;
		}
	}
}

void fs_inode_move(struct fs *fs, struct fs_inode *inode,
		   const struct fs_place *to)
{
	struct fs_inode *parent;
	char *name;

	if (inode == &fs->root || inode == to->dir || fs_inode_is_at(inode, to))
		return;
	name = strdup(to->name);
	if (!name)
		return;
	inode->lookups++; /* not to be dropped on the way */
	if (inode->children > 0)
		break_circle(fs, inode, to->dir);
	parent = take_place(fs, inode);
	inode->parent = to->dir;
	inode->name = name;
	to->dir->children++;
	if (inode->fd >= 0) {
		fs->npinned--;
		TAILQ_INSERT_TAIL(&fs->used, inode, used);
	}
	if (parent)
		fs_inode_drop(fs, parent);
	inode->lookups--;
}

/* ---- life */

static struct fs_inode *inode_new(struct fs *fs, const struct statx *stx)
{
	struct fs_inode *inode;

	if (fs->ninodes >= fs->max_inodes)
		return NULL;
	inode = calloc(1, sizeof(*inode));
	if (!inode || number(fs, inode) < 0) {
		free(inode);
		return NULL;
	}
	inode->fd = -1;
	inode->type = stx->stx_mode & S_IFMT;
	key_from(fs, stx, &inode->key);
	inode->device = device_index(fs, inode->key.dev);
	if (fs->ninodes++ >= fs->nhash)
		hash_grow(fs);
	hash_add(fs, inode);
	return inode;
}

int fs_inode_get(struct fs *fs, struct fs_inode *dir, const char *name,
		 const struct statx *stx, struct fs_inode **ret_inode)
{
	const struct fs_place place = {dir, name};
	struct fs_inode *inode = fs_inode_find(fs, stx);

	if (!inode)
		inode = inode_new(fs, stx);
	if (!inode)
		return -ENFILE;
	inode->lookups++;
	fs_inode_move(fs, inode, &place);
	if (!inode->parent && inode->fd < 0) {
		fs_forget(fs, inode, 1);
		return -ENOMEM;
	}
	*ret_inode = inode;
	return 0;
}

int fs_inode_get_pinned(struct fs *fs, int fd, const struct statx *stx,
			struct fs_inode **ret_inode)
{
	struct fs_inode *inode;

	if (fs->npinned >= fs->max_paths / 2)
		return -ENFILE;
	inode = inode_new(fs, stx);
	if (!inode)
		return -ENFILE;
	inode->lookups = 1;
	set_fd(fs, inode, fd);
	*ret_inode = inode;
	return 0;
}

static void inode_free(struct fs *fs, struct fs_inode *inode)
{
	const uint32_t i = (uint32_t)inode->id;

	close_fd(fs, inode);
	fs_lock_free_all(fs, inode);
	hash_del(fs, inode);
	fs->slot[i] = free_link(fs->free_slot);
	fs->free_slot = i;
	fs->ninodes--;
	free(inode->name);
	free(inode);
}

/* A loop, not a recursion: a guest may nest directories as it likes. */
void fs_inode_drop(struct fs *fs, struct fs_inode *inode)
{
	while (inode && inode != &fs->root && inode->lookups == 0 &&
	       inode->children == 0 && inode->handles == 0) {
		struct fs_inode *parent = inode->parent;

		inode_free(fs, inode);
		if (parent)
			parent->children--;
		inode = parent;
	}
}

void fs_forget(struct fs *fs, struct fs_inode *inode, uint64_t count)
{
	inode->lookups -= min_u64(count, inode->lookups);
	fs_inode_drop(fs, inode);
}

void fs_inode_free_all(struct fs *fs)
{
	for (uint32_t i = 1; i < fs->nslots; i++) {
		if (!is_free_link(fs->slot[i]) && fs->slot[i] != &fs->root)
			inode_free(fs, fs->slot[i]);
	}
	fs->root.children = 0;
}

int fs_inode_init(struct fs *fs, int root_fd, const struct statx *stx)
{
	struct fs_inode *root = &fs->root;
	int r;

	TAILQ_INIT(&fs->used);
	root->fd = root_fd;
	root->type = S_IFDIR;
	fs->hash = calloc(FIRST_BUCKETS, sizeof(struct fs_inode *));
	if (!fs->hash)
		return -ENOMEM;
	fs->nhash = FIRST_BUCKETS;
	/* The first number is FS_ROOT. */
	r = number(fs, root);
	if (r < 0)
		return r;
	key_from(fs, stx, &root->key);
	root->device = device_index(fs, root->key.dev);
	hash_add(fs, root);
	return 0;
}

bool fs_unchanged(struct fs_inode *inode, const struct statx *stx)
{
	const uint64_t before = inode->stamp;
	uint64_t now = mix(stx->stx_size, (uint64_t)stx->stx_mtime.tv_sec);

	now = mix(now, stx->stx_mtime.tv_nsec);
	now = mix(now, (uint64_t)stx->stx_ctime.tv_sec);
	inode->stamp = mix(now, stx->stx_ctime.tv_nsec);
	return inode->stamp == before;
}
