/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The trees of a FUSE session: which of them a node is of, and what concerns
 * all of them.
 */
#include "devices/fs/fuse-parts.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ID_MASK ((UINT64_C(1) << FS_ID_BITS) - 1)

const struct fuse_tree *fuse_tree_find(const struct fuse *f, uint64_t node,
				       uint64_t *ret_id)
{
	const uint32_t number = (uint32_t)node >> FS_ID_BITS;
	/* The only one is number 0, the first of many 1. */
	const uint32_t i = f->has_top ? number - 1 : number;

	if (i >= f->ntrees || !f->trees[i].fs)
		return NULL;
	*ret_id = node & ~(uint64_t)UINT32_MAX;
	*ret_id |= node & ID_MASK;
	return &f->trees[i];
}

uint64_t fuse_tree_node(const struct fuse_tree *tree, uint64_t id)
{
	return id | (uint64_t)tree->number << FS_ID_BITS;
}

static bool is_name(const char *name)
{
	return name[0] && strlen(name) <= NAME_MAX && !strchr(name, '/') &&
	       strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/*
 * A new place as long as there is one, as the guest may know the numbers of
 * those that were used; then the one that is free for the longest time. NULL:
 * there is none, or no memory.
 */
static struct fuse_tree *find_place(struct fuse *f)
{
	struct fuse_tree *trees;

	for (unsigned n = 0; f->ntrees == FUSE_TREES_MAX && n < FUSE_TREES_MAX;
	     n++) {
		struct fuse_tree *tree = &f->trees[f->next];

		f->next = (f->next + 1) % FUSE_TREES_MAX;
		if (!tree->fs)
			return tree;
	}
	if (f->ntrees == FUSE_TREES_MAX)
		return NULL;
	trees = reallocarray(f->trees, f->ntrees + 1, sizeof(*trees));
	if (!trees)
		return NULL;
	f->trees = trees;
	trees[f->ntrees] = (struct fuse_tree){.number = f->ntrees + 1};
	return &trees[f->ntrees++];
}

int fuse_add(struct fuse *f, const char *name, struct fs *fs)
{
	struct fuse_tree *tree;

	if (!is_name(name))
		return -EINVAL;
	for (unsigned i = 0; i < f->ntrees; i++) {
		if (f->trees[i].fs && strcmp(f->trees[i].name, name) == 0)
			return -EEXIST;
	}
	if ((f->acls && !fs_has_acls(fs)) || (f->stateless && !fs_readonly(fs)))
		return -EOPNOTSUPP;
	tree = find_place(f);
	if (!tree)
		return f->ntrees == FUSE_TREES_MAX ? -E2BIG : -ENOMEM;
	tree->name = strdup(name);
	if (!tree->name)
		return -ENOMEM;
	tree->fs = fs;
	if (f->acls)
		fs_use_acls(fs, true);
	return 0;
}

void fuse_tree_remove(struct fuse *f, const struct fs *fs)
{
	for (unsigned i = 0; i < f->ntrees; i++) {
		struct fuse_tree *tree = &f->trees[i];

		if (tree->fs != fs)
			continue;
		tree->fs = NULL;
		free(take_ptr(tree->name));
	}
}

bool fuse_trees_have_acls(const struct fuse *f)
{
	bool all = !f->options.no_acls;

	for (unsigned i = 0; i < f->ntrees; i++)
		all = all && (!f->trees[i].fs || fs_has_acls(f->trees[i].fs));
	return all;
}

bool fuse_trees_are_readonly(const struct fuse *f)
{
	bool all = true;

	for (unsigned i = 0; i < f->ntrees; i++)
		all = all && (!f->trees[i].fs || fs_readonly(f->trees[i].fs));
	return all;
}

void fuse_trees_use_acls(struct fuse *f, bool use)
{
	f->acls = use;
	for (unsigned i = 0; i < f->ntrees; i++) {
		if (f->trees[i].fs)
			fs_use_acls(f->trees[i].fs, use);
	}
}

void fuse_trees_reset(struct fuse *f)
{
	for (unsigned i = 0; i < f->ntrees; i++) {
		if (f->trees[i].fs)
			fs_reset(f->trees[i].fs);
	}
}

void fuse_trees_tell(struct fuse *f)
{
	for (unsigned i = 0; i < f->ntrees; i++) {
		if (f->trees[i].fs)
			fs_reset_tell(f->trees[i].fs);
	}
}

void fuse_trees_settle(struct fuse *f)
{
	for (unsigned i = 0; i < f->ntrees; i++) {
		if (f->trees[i].fs)
			fs_settle(f->trees[i].fs);
	}
}

void fuse_trees_done(struct fuse *f)
{
	for (unsigned i = 0; i < f->ntrees; i++)
		free(f->trees[i].name);
	free(f->trees);
}
