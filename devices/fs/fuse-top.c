/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory that the trees of a session are in, each by its name. There is
 * nothing else in it, and the guest can change nothing of it.
 *
 * A guest's kernel that can (FUSE_SUBMOUNTS) mounts a tree that is a directory
 * there, as a file system with a device number of its own.
 */
#include "devices/fs/fuse-parts.h"

#include "vmm/base/util.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* No file of a tree has such a number (fs_inode_number()). */
#define TOP_NUMBER (UINT64_C(1) << 62)

bool fuse_is_top(const struct fuse *f, uint64_t node)
{
	return f->has_top && node == FUSE_ROOT_ID;
}

static void put_attr(const struct fuse *f, struct fuse_attr *ret_attr)
{
	*ret_attr = (struct fuse_attr){
		.ino = TOP_NUMBER,
		.mode = S_IFDIR | 0555,
		.nlink = 2 + f->ntrees,
		.blksize = 4096,
	};
}

static int64_t answer_top(struct fuse_request *r)
{
	struct fuse_entry_out *out = fuse_answer(r, sizeof(*out));

	out->nodeid = FUSE_ROOT_ID;
	put_attr(r->f, &out->attr);
	return sizeof(*out);
}

static bool is_tree(const struct fuse_tree *tree, const char *name)
{
	return tree->fs && strcmp(tree->name, name) == 0;
}

static int64_t lookup(struct fuse_request *r)
{
	const char *name = fuse_text(r);
	struct fuse_entry_out *out;
	struct fs_entry entry;
	unsigned i = 0;
	int e;

	if (!name)
		return -EINVAL;
	/* From a file handle. */
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return answer_top(r);
	while (i < r->f->ntrees && !is_tree(&r->f->trees[i], name))
		i++;
	/* Not remembered: it may be added. */
	if (i == r->f->ntrees)
		return -ENOENT;
	r->tree = &r->f->trees[i];
	r->fs = r->tree->fs;
	e = fs_lookup_top(r->fs, &entry);
	if (e < 0)
		return e;
	out = fuse_answer(r, sizeof(*out));
	fuse_entry(r, &entry, out);
	if (r->f->submounts && S_ISDIR(entry.stx.stx_mode))
		out->attr.flags |= FUSE_ATTR_SUBMOUNT;
	return sizeof(*out);
}

static int64_t getattr(struct fuse_request *r)
{
	struct fuse_attr_out *out = fuse_answer(r, sizeof(*out));

	out->attr_valid = r->f->valid_s;
	put_attr(r->f, &out->attr);
	return sizeof(*out);
}

static int64_t statfs_(struct fuse_request *r)
{
	struct fuse_statfs_out *out = fuse_answer(r, sizeof(*out));

	out->st.bsize = out->st.frsize = 4096;
	out->st.namelen = NAME_MAX;
	return sizeof(*out);
}

/* The guest's kernel asks the root for all that it has mounted. */
static int64_t syncfs_(struct fuse_request *r)
{
	int e = 0;

	for (unsigned i = 0; i < r->f->ntrees; i++) {
		struct fs *fs = r->f->trees[i].fs;
		const int one = !fs || fs_readonly(fs) ? 0 : fs_syncfs(fs);

		e = e < 0 ? e : one;
	}
	return e;
}

static int64_t nothing(struct fuse_request *r)
{
	(void)r;
	return 0;
}

static int64_t opendir_(struct fuse_request *r)
{
	if (r->f->stateless)
		return -ENOSYS;
	(void)fuse_answer(r, sizeof(struct fuse_open_out));
	return sizeof(struct fuse_open_out);
}

/* Entry I: the directory itself twice, then the trees. */
static bool find_entry(const struct fuse *f, uint64_t i,
		       struct fs_dirent *ret_entry)
{
	const char *name = i == 0 ? "." : "..";

	while (i >= 2 && i - 2 < f->ntrees && !f->trees[i - 2].fs)
		i++;
	if (i >= 2 && i - 2 >= f->ntrees)
		return false;
	if (i >= 2)
		name = f->trees[i - 2].name;
	*ret_entry = (struct fs_dirent){
		.name = name,
		.name_bytes = strlen(name),
		.number = TOP_NUMBER + (i < 2 ? 0 : i),
		.next = i + 1,
		.type = i < 2 ? DT_DIR : DT_UNKNOWN,
	};
	return true;
}

/* With PLUS the node is left out, so that the guest looks up what it needs. */
static int64_t read_entries(struct fuse_request *r, bool plus)
{
	const struct fuse_read_in *arg = r->arg;
	const size_t room = min_u64(arg->size, r->out_room);
	const size_t before = plus ? sizeof(struct fuse_entry_out) : 0;
	uint64_t i = arg->offset;
	struct fs_dirent entry;
	size_t bytes = 0;

	for (; find_entry(r->f, i, &entry); i = entry.next) {
		const size_t size = FUSE_REC_ALIGN(before + FUSE_NAME_OFFSET +
						   entry.name_bytes);
		char *at = (char *)r->out + bytes;

		if (size > room - bytes)
			break;
		memset(at, 0, size);
		fuse_dirent(at + before, &entry, entry.type);
		bytes += size;
	}
	return (int64_t)bytes;
}

static int64_t readdir_(struct fuse_request *r)
{
	return read_entries(r, false);
}

static int64_t readdirplus(struct fuse_request *r)
{
	return read_entries(r, true);
}

static int64_t getxattr_(struct fuse_request *r)
{
	return r->f->options.no_xattrs ? -ENOSYS : -ENODATA;
}

static int64_t listxattr_(struct fuse_request *r)
{
	const struct fuse_getxattr_in *arg = r->arg;

	if (r->f->options.no_xattrs)
		return -ENOSYS;
	if (arg->size > 0)
		return 0;
	(void)fuse_answer(r, sizeof(struct fuse_getxattr_out));
	return sizeof(struct fuse_getxattr_out);
}

static const struct fuse_op ops[] = {
	[FUSE_LOOKUP] = {.run = lookup},
	[FUSE_GETATTR] = {.run = getattr},
	[FUSE_STATFS] = {.run = statfs_},
	[FUSE_SYNCFS] = {.run = syncfs_},
	[FUSE_OPENDIR] = {.run = opendir_},
	[FUSE_READDIR] = {.run = readdir_},
	[FUSE_READDIRPLUS] = {.run = readdirplus},
	[FUSE_RELEASEDIR] = {.run = nothing},
	[FUSE_FSYNCDIR] = {.run = nothing},
	[FUSE_GETXATTR] = {.run = getxattr_},
	[FUSE_LISTXATTR] = {.run = listxattr_},
};

const struct fuse_op *fuse_top_op(uint32_t opcode)
{
	return opcode < ARRAY_LEN(ops) && ops[opcode].run ? &ops[opcode] : NULL;
}
