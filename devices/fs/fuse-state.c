/* SPDX-License-Identifier: Apache-2.0 */
/* A FUSE session, saved and loaded: what was agreed, and each of its trees. */
#include "devices/fs/fuse-parts.h"

#include "vmm/base/visit.h"

#include <string.h>

static void visit_tree(const struct fuse_tree *tree, struct visitor *v)
{
	const char *name = tree->name ? tree->name : "";

	visit_same(v, "name", name, strlen(name));
	if (!tree->fs)
		visit_wrong(v, "a tree of it was taken away");
	if (visit_goes_on(v))
		fs_visit(tree->fs, v);
}

void fuse_visit(struct fuse *f, struct visitor *v)
{
	bool acls = f->acls;

	VISIT(v, f, initialized);
	/* Not mounted yet, the guest has been told nothing of it. */
	if (!f->initialized)
		return;
	if (f->nwaits > 0)
		visit_wrong(v, "a process of the guest waits for a lock");
	visit_same(v, "cache", &f->cache, sizeof(f->cache));
	visit_same(v, "locks", &f->options.locks, sizeof(f->options.locks));
	visit_same(v, "no_xattrs", &f->options.no_xattrs,
		   sizeof(f->options.no_xattrs));
	visit_same(v, "has_top", &f->has_top, sizeof(f->has_top));
	visit_same(v, "ntrees", &f->ntrees, sizeof(f->ntrees));
	VISIT(v, f, submounts);
	VISIT(v, f, writeback);
	VISIT(v, f, setxattr_ext);
	VISIT(v, f, stateless);
	visit_bool(v, "acls", &acls);
	for (unsigned i = 0; i < f->ntrees && visit_goes_on(v); i++)
		visit_tree(&f->trees[i], v);
	if (visit_loads(v) && visit_goes_on(v)) {
		if (acls && !fuse_trees_have_acls(f))
			visit_wrong(v, "there are no ACLs any more");
		else
			fuse_trees_use_acls(f, acls);
	}
}
