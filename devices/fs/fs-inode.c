/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inodes of a shared tree that the guest knows, and their descriptors.
 *
 * An inode lives while the guest refers to it, has it open, or knows something
 * below it: a child is found again by way of its parents. When the last of that
 * ends it is put in a list, and freed at the end of the request unless it was
 * found again meanwhile. Some are kept even then, without a descriptor, as the
 * guest may have a file handle with their number; those kept for the longest
 * time are freed for new ones, and whenever there is no room. An inode with a
 * name may lose its descriptor at any time; one that was removed keeps it
 * ("pinned"), so that what is still open or is a working directory goes on
 * working, and so that its number is not given to another file meanwhile.
 */
#include "devices/fs/fs-parts.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

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

	fs->hash = fs_alloc(fs, 2 * (size_t)count * sizeof(struct fs_inode *));
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
	fs_free(fs, old, count * sizeof(struct fs_inode *));
}

/* ---- numbers */

static int number(struct fs *fs, struct fs_inode *inode)
{
	const uint32_t i = fs_table_add(&fs->inodes, inode);

	if (i == 0)
		return -ENOMEM;
	inode->id = (uint64_t)fs->generation++ << 32 | i;
	return 0;
}

struct fs_inode *fs_inode_again(struct fs *fs, uint64_t id)
{
	struct fs_inode *inode = fs_table_get(&fs->inodes, (uint32_t)id);

	return inode && inode->id == id ? inode : NULL;
}

struct fs_inode *fs_inode(struct fs *fs, uint64_t id)
{
	struct fs_inode *inode = fs_inode_again(fs, id);

	/*
	 * The guest has given up an inode that is only kept for those below it.
