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
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
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
	inode->id = i; /* the root's: FS_ROOT */
	if (inode != &fs->root)
		inode->id |= (uint64_t)++fs->common->generation << 32;
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
	 */
	return inode && (inode->lookups > 0 || inode == &fs->root) ? inode
								   : NULL;
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

/* Those that find no place of their own share the last one. */
static void take_device(struct fs *fs, struct fs_inode *inode)
{
	struct fs_common *common = fs->common;
	struct fs_device *device = common->device;
	unsigned unused = common->ndevices, i = 0;

	for (; i < common->ndevices; i++) {
		if (device[i].inodes > 0 && device[i].dev == inode->key.dev)
			break;
		if (i < unused && device[i].inodes == 0)
			unused = i;
	}
	if (i == common->ndevices)
		i = (unsigned)min_u64(unused, FS_DEVICES - 1);
	if (i == common->ndevices)
		common->ndevices++;
	device[i].dev = inode->key.dev;
	device[i].inodes++;
	inode->device = (uint8_t)i;
}

static void give_device(struct fs *fs, const struct fs_inode *inode)
{
	fs->common->device[inode->device].inodes--;
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
	util_close(&inode->fd);
}

/* Whether something that this request has asked for needs it. */
static bool in_use(const struct fs *fs, const struct fs_inode *inode)
{
	return inode->request == fs->request;
}

/* Closes COUNT of the least recently used, but neither KEEP nor any in use. */
static bool evict(struct fs *fs, unsigned count, const struct fs_inode *keep)
{
	struct fs_inode *inode = TAILQ_FIRST(&fs->used), *next;
	bool any = false;

	for (; inode && count > 0; inode = next) {
		next = TAILQ_NEXT(inode, used);
		if (inode == keep || in_use(fs, inode))
			continue;
		close_fd(fs, inode);
		any = true;
		count--;
	}
	return any;
}

bool fs_inode_make_room(struct fs *fs)
{
	/* The one used last is the directory of what is being opened. */
	return evict(fs, fs->npaths / 2 + 1, TAILQ_LAST(&fs->used, fs_used));
}

int fs_openat(struct fs *fs, int dir_fd, const char *name, int flags,
	      uint32_t mode)
{
	const struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC | O_NOFOLLOW),
		.mode = mode,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS |
			   RESOLVE_NO_SYMLINKS,
	};
	long fd;

	do
		fd = syscall(SYS_openat2, dir_fd, name, &how, sizeof(how));
	while (fd < 0 && (errno == EMFILE || errno == ENFILE) &&
	       fs_inode_make_room(fs));
	return fd < 0 ? -errno : (int)fd;
}

/* PARENT has its descriptor. -ESTALE: another file is there now. */
static int open_inode(struct fs *fs, struct fs_inode *inode)
{
	struct fs_key key;
	struct statx stx;
	int fd, r;

	if (fs->npaths >= fs->max_paths && !evict(fs, 1, inode->parent))
		return -ENFILE;
	fd = fs_openat(fs, inode->parent->fd, inode->name, O_PATH, 0);
	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP ? -ESTALE
								       : fd;
	r = fs_statx(fd, "", &stx);
	if (r == 0) {
		key_from(fs, &stx, &key);
		r = same_key(&key, &inode->key) ? 0 : -ESTALE;
	}
	/*
	 * Another file system begins here. Its number may have been another's
	 * before, so it is asked each time; while the directory is open its own
	 * cannot be.
	 */
	if (r == 0 && inode->key.dev != inode->parent->key.dev)
		r = fs_mount_check(fs, fd, inode->name);
	if (r < 0)
		close(fd);
	else
		set_fd(fs, inode, fd);
	return r;
}

/* Opens it by its name, from the nearest parent that has a descriptor. */
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
		/*
		 * Marks it as used last, so that nothing below closes its
		 * descriptor.
		 */
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
	const struct fs_handle *handle = LIST_FIRST(&inode->open);
	char path[FS_PATH_MAX];
	int fd;

	if (!handle || fs->npinned >= fs->max_paths / 2)
		return -ESTALE;
	fd = open(fs_path(path, handle->fd, NULL), O_PATH | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	fs_inode_unname(fs, inode);
	set_fd(fs, inode, fd);
	return fd;
}

int fs_inode_fd(struct fs *fs, struct fs_inode *inode)
{
	int r = open_by_name(fs, inode);

	if (r == -ESTALE && !LIST_EMPTY(&inode->open))
		r = open_by_handle(fs, inode);
	if (r >= 0)
		inode->request = fs->request;
	return r;
}

/* Looks at INODE's name. The directory's descriptor, if INODE is there. */
static int stat_by_name(struct fs *fs, struct fs_inode *inode,
			struct statx *ret_stx)
{
	const int dir_fd =
		inode->parent ? fs_inode_fd(fs, inode->parent) : -ESTALE;
	struct fs_key key;
	int r;

	if (dir_fd < 0)
		return dir_fd;
	r = fs_statx(dir_fd, inode->name, ret_stx);
	if (r < 0)
		return r == -ENOENT || r == -ENOTDIR ? -ESTALE : r;
	key_from(fs, ret_stx, &key);
	return same_key(&key, &inode->key) ? dir_fd : -ESTALE;
}

int fs_inode_stat(struct fs *fs, struct fs_inode *inode, struct statx *ret_stx)
{
	const int dir_fd = stat_by_name(fs, inode, ret_stx);
	char path[FS_PATH_MAX];

	if (dir_fd < 0)
		return dir_fd;
	fs_owner_show(fs, fs_path(path, dir_fd, inode->name), ret_stx);
	return 0;
}

/* No name leads to it any more, as far as its descriptor tells. */
static bool is_unlinked(const struct fs_inode *inode)
{
	struct statx stx;

	return inode->fd >= 0 && fs_statx(inode->fd, "", &stx) == 0 &&
	       stx.stx_nlink == 0;
}

int fs_inode_confirm(struct fs *fs, struct fs_inode *inode)
{
	struct statx stx;
	int r;

	if (inode->parent) {
		r = stat_by_name(fs, inode, &stx);
		return r < 0 ? r : 0;
	}
	return inode->removed || !is_unlinked(inode) ? 0 : -ESTALE;
}

int fs_inode_missing(const struct fs_inode *dir)
{
	return dir->removed || !is_unlinked(dir) ? -ENOENT : -ESTALE;
}

void fs_inode_removed(struct fs *fs, struct fs_inode *inode)
{
	inode->removed = is_unlinked(inode);
	fs_inode_unname(fs, inode);
}

/* ---- places */

/* fs_settle() is to see whether it is needed. */
static void set_idle(struct fs *fs, struct fs_inode *inode)
{
	if (inode->is_idle)
		return;
	inode->is_idle = true;
	inode->next_idle = fs->idle;
	fs->idle = inode;
}

bool fs_inode_is_at(const struct fs_inode *inode, const struct fs_place *at)
{
	return inode->parent == at->dir && strcmp(inode->name, at->name) == 0;
}

void fs_inode_unname(struct fs *fs, struct fs_inode *inode)
{
	struct fs_inode *parent = inode->parent;

	if (!parent)
		return;
	if (inode->fd >= 0) {
		TAILQ_REMOVE(&fs->used, inode, used);
		fs->npinned++;
	}
	fs_free(fs, inode->name, strlen(inode->name) + 1);
	inode->name = NULL;
	inode->parent = NULL;
	parent->children--;
	fs_inode_drop(fs, parent);
	/* Now there may be one too many without a name. */
	set_idle(fs, inode);
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
	const size_t bytes = strlen(to->name) + 1;
	char *name;

	if (inode == &fs->root || inode == to->dir || fs_inode_is_at(inode, to))
		return;
	name = fs_alloc(fs, bytes);
	if (!name)
		return;
	memcpy(name, to->name, bytes);
	if (inode->children > 0)
		break_circle(fs, inode, to->dir);
	fs_inode_unname(fs, inode);
	inode->parent = to->dir;
	inode->name = name;
	inode->removed = false;
	to->dir->children++;
	if (inode->fd >= 0) {
		fs->npinned--;
		TAILQ_INSERT_TAIL(&fs->used, inode, used);
	}
}

/* ---- life */

int fs_inode_room(struct fs *fs)
{
	const size_t bytes =
		sizeof(struct fs_inode) + FS_NAME_MAX + 1 + 2 * FS_ALLOC;

	if (fs->ninodes >= fs->max_inodes)
		return -ENFILE;
	if (!fs_take(&fs->bytes, bytes))
		return -ENOMEM;
	fs_give(&fs->bytes, bytes);
	return 0;
}

static int inode_new(struct fs *fs, const struct statx *stx,
		     struct fs_inode **ret_inode)
{
	struct fs_inode *inode;

	if (fs->ninodes >= fs->max_inodes)
		return -ENFILE;
	inode = fs_alloc(fs, sizeof(*inode));
	if (!inode || number(fs, inode) < 0) {
		fs_free(fs, inode, sizeof(*inode));
		return -ENOMEM;
	}
	inode->fd = -1;
	inode->type = stx->stx_mode & S_IFMT;
	key_from(fs, stx, &inode->key);
	take_device(fs, inode);
	if (fs->ninodes++ >= fs->nhash)
		hash_grow(fs);
	hash_add(fs, inode);
	*ret_inode = inode;
	return 0;
}

int fs_inode_restore(struct fs *fs, const struct fs_inode_record *record,
		     struct fs_inode **ret_inode)
{
	struct fs_device *device = &fs->common->device[record->device];
	struct fs_inode *inode;
	int r;

	if (record->id >> 32 == 0 ||
	    record->id >> 32 > fs->common->generation ||
	    (device->inodes > 0 && device->dev != record->key.dev))
		return -EINVAL;
	if (fs->ninodes >= fs->max_inodes)
		return -ENFILE;
	inode = fs_alloc(fs, sizeof(*inode));
	if (!inode)
		return -ENOMEM;
	r = fs_table_place(&fs->inodes, (uint32_t)record->id, inode);
	if (r < 0) {
		fs_free(fs, inode, sizeof(*inode));
		return r;
	}
	*inode = (struct fs_inode){
		.key = record->key,
		.id = record->id,
		.lookups = record->lookups,
		.stamp = record->stamp,
		.fd = -1,
		.type = record->type & S_IFMT,
		.device = record->device,
		.was_locked = record->was_locked,
	};
	device->dev = record->key.dev;
	device->inodes++;
	if (fs->common->ndevices <= record->device)
		fs->common->ndevices = record->device + 1u;
	if (fs->ninodes++ >= fs->nhash)
		hash_grow(fs);
	hash_add(fs, inode);
	*ret_inode = inode;
	return 0;
}

static void unkeep(struct fs *fs, struct fs_inode *inode)
{
	if (!inode->is_kept)
		return;
	TAILQ_REMOVE(&fs->kept, inode, kept);
	inode->is_kept = false;
	fs->nkept--;
}

void fs_inode_ref(struct fs *fs, struct fs_inode *inode)
{
	inode->lookups++;
	unkeep(fs, inode);
}

int fs_inode_get(struct fs *fs, struct fs_inode *dir, const char *name,
		 const struct statx *stx, struct fs_inode **ret_inode)
{
	const struct fs_place place = {dir, name};
	struct fs_inode *inode = fs_inode_find(fs, stx);

	if (!inode) {
		const int r = inode_new(fs, stx, &inode);

		if (r < 0)
			return r;
	}
	fs_inode_ref(fs, inode);
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
	int r;

	if (fs->npinned >= fs->max_paths / 2)
		return -ENFILE;
	r = inode_new(fs, stx, &inode);
	if (r < 0)
		return r;
	inode->lookups = 1;
	inode->removed = true;
	set_fd(fs, inode, fd);
	*ret_inode = inode;
	return 0;
}

static void inode_free(struct fs *fs, struct fs_inode *inode)
{
	unkeep(fs, inode);
	close_fd(fs, inode);
	fs_holder_drop_all(fs, inode);
	hash_del(fs, inode);
	give_device(fs, inode);
	fs_table_del(&fs->inodes, (uint32_t)inode->id);
	fs->ninodes--;
	if (inode->name)
		fs_free(fs, inode->name, strlen(inode->name) + 1);
	fs_free(fs, inode, sizeof(*inode));
}

static bool is_needed(const struct fs *fs, const struct fs_inode *inode)
{
	return inode == &fs->root || inode->lookups > 0 ||
	       inode->children > 0 || !LIST_EMPTY(&inode->open);
}

void fs_inode_drop(struct fs *fs, struct fs_inode *inode)
{
	if (!is_needed(fs, inode))
		set_idle(fs, inode);
}

void fs_forget(struct fs *fs, struct fs_inode *inode, uint64_t count)
{
	inode->lookups -= min_u64(count, inode->lookups);
	if (inode->lookups == 0)
		set_idle(fs, inode);
}

void fs_inode_drop_all(struct fs *fs)
{
	for (uint32_t i = 1; i < fs->inodes.count; i++) {
		struct fs_inode *inode = fs_table_get(&fs->inodes, i);

		if (!inode)
			continue;
		fs_holder_drop_all(fs, inode);
		inode->lookups = 0;
		fs_inode_drop(fs, inode);
	}
	/* Nor has it file handles: another guest, or mount, may follow. */
	fs->max_kept = 0;
}

/* Only the root is left: the tables can be small again. */
static void shrink(struct fs *fs)
{
	const size_t size = sizeof(struct fs_inode *);
	struct fs_inode **hash;

	fs_table_shrink(&fs->inodes);
	if (fs->nhash == FIRST_BUCKETS)
		return;
	hash = fs_alloc(fs, FIRST_BUCKETS * size);
	if (!hash)
		return;
	fs_free(fs, fs->hash, fs->nhash * size);
	fs->hash = hash;
	fs->nhash = FIRST_BUCKETS;
	hash_add(fs, &fs->root);
}

/* ---- the end of a request */

/*
 * The memory that any request but a listing takes: a handle, a lock, a longer
 * name.
 */
#define KEPT_ROOM 4096

static unsigned most_kept(const struct fs *fs)
{
	return (unsigned)min_u64(FS_KEPT, fs->max_inodes / 8);
}

static void free_idle(struct fs *fs, struct fs_inode *inode)
{
	struct fs_inode *parent = inode->parent;

	inode_free(fs, inode);
	if (parent) {
		parent->children--;
		fs_inode_drop(fs, parent);
	}
}

/*
 * Nothing refers to INODE. Without a time of birth a number could be another
 * file's by the time it is asked for again; without a name nothing leads to it.
 */
static bool is_worth_keeping(const struct fs *fs, const struct fs_inode *inode)
{
	return inode->parent && inode->key.born_ns != 0 && fs->max_kept > 0;
}

/* It takes memory, and nothing else that is the host's. */
static void keep(struct fs *fs, struct fs_inode *inode)
{
	if (inode->is_kept)
		return;
	close_fd(fs, inode);
	fs_holder_drop_all(fs, inode);
	inode->was_locked = false;
	inode->stamp = 0;
	TAILQ_INSERT_TAIL(&fs->kept, inode, kept);
	inode->is_kept = true;
	fs->nkept++;
}

static void settle_idle(struct fs *fs)
{
	struct fs_inode *inode;

	while ((inode = fs->idle)) {
		fs->idle = inode->next_idle;
		inode->is_idle = false;
		if (!is_needed(fs, inode)) {
			if (is_worth_keeping(fs, inode))
				keep(fs, inode);
			else
				free_idle(fs, inode);
		} else if (!inode->parent && inode != &fs->root &&
			   fs->npinned > fs->max_paths / 2) {
			/* Removed inodes may keep half of all paths open. */
			close_fd(fs, inode);
		} else if (inode->parent && inode->lookups == 0 &&
			   LIST_EMPTY(&inode->open)) {
			/* Opened again for what is below, if ever. */
			close_fd(fs, inode);
		}
	}
}

/* The next request is to find as much room as if none were kept. */
static bool are_too_many_kept(struct fs *fs)
{
	const uint64_t grow =
		fs->inodes.free ? 0 : fs->inodes.count * sizeof(void *);

	if (fs->nkept == 0)
		return false;
	if (fs->nkept > fs->max_kept || fs->nhash > FS_KEPT_TABLES ||
	    fs_inode_room(fs) < 0)
		return true;
	if (!fs_take(&fs->bytes, grow + KEPT_ROOM))
		return true;
	fs_give(&fs->bytes, grow + KEPT_ROOM);
	return false;
}

/*
 * The one place where inodes are freed. Loops, not a recursion: a guest may
 * nest directories as it likes.
 */
void fs_inode_settle(struct fs *fs)
{
	settle_idle(fs);
	while (are_too_many_kept(fs)) {
		struct fs_inode *inode = TAILQ_FIRST(&fs->kept);

		unkeep(fs, inode);
		if (!is_needed(fs, inode))
			free_idle(fs, inode);
		settle_idle(fs);
	}
	fs->max_kept = most_kept(fs);
	if (fs->ninodes == 0)
		shrink(fs);
}

int fs_inode_init(struct fs *fs, int root_fd, const struct statx *stx)
{
	struct fs_inode *root = &fs->root;
	int r;

	TAILQ_INIT(&fs->used);
	TAILQ_INIT(&fs->kept);
	fs->max_kept = most_kept(fs);
	fs->request = 1;
	root->fd = root_fd;
	root->type = S_IFDIR;
	fs->hash = fs_alloc(fs, FIRST_BUCKETS * sizeof(struct fs_inode *));
	if (!fs->hash)
		return -ENOMEM;
	fs->nhash = FIRST_BUCKETS;
	/* The first number is FS_ROOT. */
	r = number(fs, root);
	if (r < 0)
		return r;
	key_from(fs, stx, &root->key);
	take_device(fs, root);
	hash_add(fs, root);
	return 0;
}

void fs_inode_done(struct fs *fs)
{
	util_close(&fs->root.fd);
	if (fs->root.id)
		give_device(fs, &fs->root);
	fs_table_done(&fs->inodes);
	fs_free(fs, fs->hash, fs->nhash * sizeof(struct fs_inode *));
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
