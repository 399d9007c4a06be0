/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saves what a guest knows of a shared tree, for another process to load: its
 * inodes by their names, open files and directories, locks.
 *
 * An inode without a descriptor is opened by its name when it is needed, and
 * refused (ESTALE) if something else is there: so is one that was loaded, and
 * none of them is looked at before. Open files and locks are opened and taken
 * at once, or the tree is not loaded. A file that has no name any more cannot
 * be had again; a guest that has one in use is not saved.
 */
#include "devices/fs/fs-parts.h"

#include "vmm/base/util.h"
#include "vmm/base/visit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

/* An open file or directory, and a lock, as they are saved. */
struct handle_record {
	uint64_t inode;
	uint32_t id;
	int32_t flags;
	uint32_t is_shared;
	uint32_t unused;
};

struct lock_record {
	uint64_t inode, owner, handle;
	uint32_t pid;
	int32_t type;
	uint32_t flock;
	uint32_t unused;
};

static const char *name_of(const struct fs_inode *inode)
{
	return inode->name ? inode->name : ".";
}

/* ---- the tree itself */

/* The root of the tree that was saved, before TREE's. */
static void visit_root(struct fs *fs, struct visitor *v, struct fs_key *ret_key)
{
	const char *only = fs->only ? fs->only : "";
	struct fs_key key = fs->root.key;

	visit_same(v, "readonly", &fs->readonly, sizeof(fs->readonly));
	visit_same(v, "xattr", &fs->xattr, sizeof(fs->xattr));
	visit_same(v, "only", only, strlen(only));
	visit_bytes(v, "root", &key, sizeof(key));
	visit_bytes(v, "lookups", &fs->root.lookups, sizeof(fs->root.lookups));
	visit_bytes(v, "stamp", &fs->root.stamp, sizeof(fs->root.stamp));
	visit_same(v, "device", &fs->root.device, sizeof(fs->root.device));
	if (!visit_goes_on(v))
		return;
	/* Numbers of devices and mounts are new each time. */
	if (key.ino != fs->root.key.ino || key.born_ns != fs->root.key.born_ns)
		visit_wrong(v, "it is another directory than the one it was");
	*ret_key = key;
}

/* ---- inodes */

/* One that is only kept for file handles is not saved. */
static bool is_saved(const struct fs *fs, const struct fs_inode *inode)
{
	return inode && inode != &fs->root && !inode->is_kept;
}

static void save_inode(struct fs_inode *inode, struct visitor *v)
{
	struct fs_inode_record record = {
		.id = inode->id,
		.lookups = inode->lookups,
		.parent = inode->parent ? inode->parent->id : 0,
		.stamp = inode->stamp,
		.key = inode->key,
		.type = inode->type,
		.device = inode->device,
		.was_locked = inode->was_locked,
	};
	uint8_t *name = (uint8_t *)inode->name;
	size_t bytes = name ? strlen(inode->name) : 0;

	if (!inode->parent)
		visit_wrong(v, "the guest still uses a file that was removed, "
			       "which nothing leads to: end what uses it");
	visit_bytes(v, "inode", &record, sizeof(record));
	visit_buffer(v, "name", &name, &bytes, FS_NAME_MAX);
}

static void save_inodes(struct fs *fs, struct visitor *v)
{
	unsigned n = 0;

	for (uint32_t i = 1; i < fs->inodes.count; i++)
		n += is_saved(fs, fs_table_get(&fs->inodes, i));
	visit_count(v, "inodes", &n, UINT32_MAX);
	for (uint32_t i = 1; i < fs->inodes.count && visit_goes_on(v); i++) {
		struct fs_inode *inode = fs_table_get(&fs->inodes, i);

		if (is_saved(fs, inode))
			save_inode(inode, v);
	}
}

/* Inodes that have no place yet, as their parents may come later. */
struct loaded {
	struct fs_inode *inode;
	uint64_t parent;
	uint8_t *name; /* owned */
	size_t name_bytes;
};

/* Nothing but a single component is ever looked up. */
static bool is_name(const uint8_t *name, size_t bytes)
{
	return bytes > 0 && !memchr(name, '/', bytes) &&
	       !memchr(name, '\0', bytes) &&
	       !(name[0] == '.' &&
		 (bytes == 1 || (bytes == 2 && name[1] == '.')));
}

static void load_inode(struct fs *fs, struct visitor *v,
		       const struct fs_key *root, struct loaded *one)
{
	struct fs_inode_record record = {0};
	int r;

	visit_bytes(v, "inode", &record, sizeof(record));
	visit_buffer(v, "name", &one->name, &one->name_bytes, FS_NAME_MAX);
	if (!visit_goes_on(v))
		return;
	if (record.key.dev == root->dev)
		record.key.dev = fs->root.key.dev;
	if (record.key.mount == root->mount)
		record.key.mount = fs->root.key.mount;
	one->parent = record.parent;
	r = is_name(one->name, one->name_bytes) && record.was_locked <= 1
		    ? fs_inode_restore(fs, &record, &one->inode)
		    : -EINVAL;
	if (r < 0)
		visit_wrong(v, "a file that the guest knows: %s", strerror(-r));
}

static void place_inode(struct fs *fs, struct visitor *v,
			const struct loaded *one)
{
	struct fs_inode *dir = fs_inode_again(fs, one->parent);
	char name[FS_NAME_MAX + 1] = "";

	memcpy(name, one->name, one->name_bytes);
	if (dir && dir->type == S_IFDIR && dir != one->inode)
		fs_inode_move(fs, one->inode,
			      &(struct fs_place){.dir = dir, .name = name});
	if (!one->inode->parent)
		visit_wrong(v, "no directory for a file");
}

static void load_inodes(struct fs *fs, struct visitor *v,
			const struct fs_key *root)
{
	struct loaded *list = NULL;
	unsigned n = 0, done = 0;

	visit_count(v, "inodes", &n, fs->max_inodes);
	if (visit_goes_on(v) && n > 0) {
		list = calloc(n, sizeof(*list));
		if (!list)
			visit_wrong(v, "out of memory");
	}
	for (; done < n && list && visit_goes_on(v); done++)
		load_inode(fs, v, root, &list[done]);
	fs_table_relink(&fs->inodes);
	for (unsigned i = 0; i < n && visit_goes_on(v); i++)
		place_inode(fs, v, &list[i]);
	for (unsigned i = 0; i < done; i++)
		free(list[i].name);
	free(list);
}

/* ---- open files and directories */

static void save_handle(struct fs *fs, struct fs_handle *handle,
			struct visitor *v)
{
	struct handle_record record = {
		.inode = handle->inode->id,
		.id = handle->id,
		.flags = handle->flags,
		.is_shared = handle->is_shared,
	};

	if (fs_inode_confirm(fs, handle->inode) < 0)
		visit_wrong(v,
			    "the guest has '%s' open, which the host has "
			    "removed, moved or replaced",
			    name_of(handle->inode));
	fs_settle(fs);
	visit_bytes(v, "open", &record, sizeof(record));
}

static void save_handles(struct fs *fs, struct visitor *v)
{
	unsigned n = 0;

	for (uint32_t i = 1; i < fs->handles.count; i++) {
		const struct fs_handle *handle = fs_table_get(&fs->handles, i);

		n += handle && !handle->implicit;
	}
	visit_count(v, "handles", &n, UINT32_MAX);
	for (uint32_t i = 1; i < fs->handles.count && visit_goes_on(v); i++) {
		struct fs_handle *handle = fs_table_get(&fs->handles, i);

		if (handle && !handle->implicit)
			save_handle(fs, handle, v);
	}
}

static void load_handle(struct fs *fs, struct visitor *v)
{
	struct handle_record record = {0};
	struct fs_inode *inode;
	int r = -EINVAL;

	visit_bytes(v, "open", &record, sizeof(record));
	if (!visit_goes_on(v))
		return;
	inode = fs_inode_again(fs, record.inode);
	if (inode && record.is_shared <= 1)
		r = fs_handle_restore(fs, inode, record.id, record.flags,
				      record.is_shared);
	if (r < 0)
		visit_wrong(v, "opening '%s' again: %s",
			    inode ? name_of(inode) : "a file", strerror(-r));
	fs_inode_settle(fs);
	fs->request++;
}

static void load_handles(struct fs *fs, struct visitor *v)
{
	unsigned n = 0;

	visit_count(v, "handles", &n, fs->max_handles);
	for (unsigned i = 0; i < n && visit_goes_on(v); i++)
		load_handle(fs, v);
	fs_table_relink(&fs->handles);
}

/* ---- locks */

static void save_lock(const struct fs_inode *inode,
		      const struct fs_holder *holder, struct visitor *v)
{
	struct lock_record record = {
		.inode = inode->id,
		.owner = holder->owner.id,
		.handle = holder->handle,
		.pid = holder->pid,
		.type = holder->whole,
		.flock = holder->owner.flock,
	};

	if (holder->whole < 0)
		visit_wrong(v,
			    "the guest has locked a part of '%s', and only "
			    "locks of whole files are saved",
			    name_of(inode));
	visit_bytes(v, "lock", &record, sizeof(record));
}

static void save_locks(struct fs *fs, struct visitor *v)
{
	unsigned n = fs->nholders;

	visit_count(v, "locks", &n, UINT32_MAX);
	for (uint32_t i = 1; i < fs->inodes.count && visit_goes_on(v); i++) {
		const struct fs_inode *inode = fs_table_get(&fs->inodes, i);
		const struct fs_holder *holder = inode ? inode->holders : NULL;

		for (; holder && visit_goes_on(v); holder = holder->next)
			save_lock(inode, holder, v);
	}
}

static void load_lock(struct fs *fs, struct visitor *v)
{
	struct lock_record record = {0};
	struct fs_inode *inode;
	int r = -EINVAL;

	visit_bytes(v, "lock", &record, sizeof(record));
	if (!visit_goes_on(v))
		return;
	inode = fs_inode_again(fs, record.inode);
	if (inode && record.flock <= 1 &&
	    (record.type == F_RDLCK || record.type == F_WRLCK))
		r = fs_lock_again(fs, inode,
				  &(struct fs_holder){
					  .owner = {record.owner, record.flock},
					  .pid = record.pid,
					  .handle = record.handle,
					  .whole = record.type,
				  });
	if (r == -EAGAIN)
		visit_wrong(v, "another has locked '%s' meanwhile",
			    name_of(inode));
	else if (r < 0)
		visit_wrong(v, "locking '%s' again: %s",
			    inode ? name_of(inode) : "a file", strerror(-r));
	fs_settle(fs);
}

static void load_locks(struct fs *fs, struct visitor *v)
{
	unsigned n = 0;

	visit_count(v, "locks", &n, fs->max_locks);
	for (unsigned i = 0; i < n && visit_goes_on(v); i++)
		load_lock(fs, v);
}

void fs_visit(struct fs *fs, struct visitor *v)
{
	uint32_t generation = fs->common->generation;
	struct fs_key root = {0};

	visit_part(v, "tree");
	visit_root(fs, v, &root);
	visit_bytes(v, "generation", &generation, sizeof(generation));
	if (visit_loads(v) && visit_goes_on(v)) {
		if (fs->common->generation < generation)
			fs->common->generation = generation;
		load_inodes(fs, v, &root);
		if (visit_goes_on(v))
			load_handles(fs, v);
		if (visit_goes_on(v))
			load_locks(fs, v);
	} else if (visit_goes_on(v)) {
		save_inodes(fs, v);
		save_handles(fs, v);
		save_locks(fs, v);
	}
	visit_part_end(v);
}
