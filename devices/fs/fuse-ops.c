/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FUSE operations on names and attributes, and the table of all operations.
 * Each turns the protocol's arguments into a call of the tree (fs.h).
 *
 * Operations that are missing are answered with ENOSYS, after which the guest's
 * kernel does without: ACCESS has nothing to do here, nor FLUSH when locks are
 * the guest's.
 */
#include "devices/fs/fuse-parts.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <string.h>
#include <sys/sysmacros.h>

static int64_t answer_entry(struct fuse_request *r, int e,
			    const struct fs_entry *entry)
{
	if (e < 0)
		return e;
	fuse_entry(r, entry, fuse_answer(r, sizeof(struct fuse_entry_out)));
	return sizeof(struct fuse_entry_out);
}

static int64_t lookup(struct fuse_request *r)
{
	const char *name = fuse_text(r);
	struct fs_entry entry;
	struct fuse_entry_out *out;
	int e;

	if (!name)
		return -EINVAL;
	/* From a file handle (FUSE_EXPORT_SUPPORT): the node, or its parent. */
	if (strcmp(name, ".") == 0)
		return answer_entry(r, fs_lookup_again(r->fs, r->node, &entry),
				    &entry);
	if (!r->inode)
		return -ESTALE;
	if (strcmp(name, "..") == 0)
		return answer_entry(r, fs_lookup_above(r->fs, r->inode, &entry),
				    &entry);
	e = fs_lookup(r->fs, r->inode, name, &entry);
	if (e != -ENOENT || r->f->valid_s == 0)
		return answer_entry(r, e, &entry);
	/* The guest may also remember that the name does not exist. */
	out = fuse_answer(r, sizeof(*out));
	out->entry_valid = r->f->valid_s;
	return sizeof(*out);
}

static int64_t forget(struct fuse_request *r)
{
	const struct fuse_forget_in *arg = r->arg;

	if (r->inode)
		fs_forget(r->fs, r->inode, arg->nlookup);
	return 0;
}

static int64_t batch_forget(struct fuse_request *r)
{
	const struct fuse_batch_forget_in *arg = r->arg;
	const uint64_t count = min_u64(
		arg->count, r->rest_bytes / sizeof(struct fuse_forget_one));

	for (uint64_t i = 0; i < count; i++) {
		struct fuse_forget_one one;
		const struct fuse_tree *tree;
		struct fs_inode *inode;
		uint64_t id;

		memcpy(&one, r->rest + i * sizeof(one), sizeof(one));
		tree = fuse_tree_find(r->f, one.nodeid, &id);
		inode = tree ? fs_inode(tree->fs, id) : NULL;
		if (inode)
			fs_forget(tree->fs, inode, one.nlookup);
	}
	/* It was about any tree: all are settled. */
	r->fs = NULL;
	return 0;
}

static int64_t answer_attr(struct fuse_request *r, struct fs_handle *handle)
{
	struct fs_entry entry = {.inode = r->inode};
	struct fuse_attr_out *out;
	const int e = fs_getattr(r->fs, r->inode, handle, &entry.stx);

	if (e < 0)
		return e;
	out = fuse_answer(r, sizeof(*out));
	out->attr_valid = fuse_attr_valid(r->f, r->inode);
	fuse_attr(&entry, &out->attr);
	return sizeof(*out);
}

static int64_t getattr(struct fuse_request *r)
{
	const struct fuse_getattr_in *arg = r->arg;
	struct fs_handle *handle = NULL;

	if (arg->getattr_flags & FUSE_GETATTR_FH)
		handle = fs_handle(r->fs, arg->fh, r->inode, false);
	return answer_attr(r, handle);
}

static struct timespec change_time(bool set, bool now, uint64_t s, uint32_t ns)
{
	if (!set)
		return (struct timespec){.tv_nsec = UTIME_OMIT};
	if (now)
		return (struct timespec){.tv_nsec = UTIME_NOW};
	return (struct timespec){.tv_sec = (time_t)s, .tv_nsec = ns};
}

static int64_t setattr(struct fuse_request *r)
{
	const struct fuse_setattr_in *arg = r->arg;
	const uint32_t valid = arg->valid;
	const struct fs_change change = {
		.mode = valid & FATTR_MODE,
		.uid = valid & FATTR_UID,
		.gid = valid & FATTR_GID,
		.size = valid & FATTR_SIZE,
		.times = valid & (FATTR_ATIME | FATTR_MTIME),
		.kill_suid = valid & FATTR_KILL_SUIDGID,
		.mode_value = arg->mode,
		.uid_value = arg->uid,
		.gid_value = arg->gid,
		.size_value = arg->size,
		.time = {change_time(valid & FATTR_ATIME,
				     valid & FATTR_ATIME_NOW, arg->atime,
				     arg->atimensec),
			 change_time(valid & FATTR_MTIME,
				     valid & FATTR_MTIME_NOW, arg->mtime,
				     arg->mtimensec)},
	};
	struct fs_handle *handle = NULL;
	int e;

	if (valid & FATTR_FH)
		handle = fs_handle(r->fs, arg->fh, r->inode, false);
	e = fs_setattr(r->fs, r->inode, handle, &change);
	return e < 0 ? e : answer_attr(r, handle);
}

static int64_t readlink_(struct fuse_request *r)
{
	return fs_readlink(r->fs, r->inode, r->out, PATH_MAX);
}

static int64_t symlink_(struct fuse_request *r)
{
	const char *name = fuse_text(r), *target = fuse_text(r);
	const struct fs_who who = fuse_who(r, 0);
	struct fs_entry entry;

	if (!name || !target)
		return -EINVAL;
	return answer_entry(
		r, fs_symlink(r->fs, r->inode, name, target, &who, &entry),
		&entry);
}

static int64_t mknod_(struct fuse_request *r)
{
	const struct fuse_mknod_in *arg = r->arg;
	const struct fs_place at = {r->inode, fuse_text(r)};
	const struct fs_who who = fuse_who(r, arg->umask);
	/* new_encode_dev() of the guest's kernel, the other way round. */
	const struct fs_node node = {
		.mode = arg->mode,
		.rdev = makedev(arg->rdev >> 8 & 0xfff,
				(arg->rdev & 0xff) |
					(arg->rdev >> 12 & 0xfff00)),
	};
	struct fs_entry entry;

	if (!at.name)
		return -EINVAL;
	return answer_entry(r, fs_mknod(r->fs, &at, &node, &who, &entry),
			    &entry);
}

static int64_t mkdir_(struct fuse_request *r)
{
	const struct fuse_mkdir_in *arg = r->arg;
	const char *name = fuse_text(r);
	const struct fs_who who = fuse_who(r, arg->umask);
	struct fs_entry entry;

	if (!name)
		return -EINVAL;
	return answer_entry(
		r, fs_mkdir(r->fs, r->inode, name, arg->mode, &who, &entry),
		&entry);
}

static int64_t unlink_(struct fuse_request *r)
{
	const char *name = fuse_text(r);

	return name ? fs_unlink(r->fs, r->inode, name, false) : -EINVAL;
}

static int64_t rmdir_(struct fuse_request *r)
{
	const char *name = fuse_text(r);

	return name ? fs_unlink(r->fs, r->inode, name, true) : -EINVAL;
}

static int64_t rename_to(struct fuse_request *r, uint64_t new_dir,
			 unsigned flags)
{
	uint64_t id = 0;
	const struct fuse_tree *tree = fuse_tree_find(r->f, new_dir, &id);
	const struct fs_place from = {r->inode, fuse_text(r)};
	const struct fs_place to = {fs_inode(r->fs, id), fuse_text(r)};

	if (!from.name || !to.name)
		return -EINVAL;
	if (tree != r->tree)
		return -EXDEV;
	return to.dir ? fs_rename(r->fs, &from, &to, flags) : -ESTALE;
}

static int64_t rename_(struct fuse_request *r)
{
	const struct fuse_rename_in *arg = r->arg;

	return rename_to(r, arg->newdir, 0);
}

static int64_t rename2(struct fuse_request *r)
{
	const struct fuse_rename2_in *arg = r->arg;

	return rename_to(r, arg->newdir, arg->flags);
}

static int64_t link_(struct fuse_request *r)
{
	const struct fuse_link_in *arg = r->arg;
	uint64_t id = 0;
	const struct fuse_tree *tree =
		fuse_tree_find(r->f, arg->oldnodeid, &id);
	struct fs_inode *inode = fs_inode(r->fs, id);
	const char *name = fuse_text(r);
	struct fs_entry entry;

	if (!name)
		return -EINVAL;
	if (tree != r->tree)
		return -EXDEV;
	if (!inode)
		return -ESTALE;
	return answer_entry(r, fs_link(r->fs, inode, r->inode, name, &entry),
			    &entry);
}

static int64_t statfs_(struct fuse_request *r)
{
	struct fuse_statfs_out *out = fuse_answer(r, sizeof(*out));
	struct statfs stat;
	const int e = fs_statfs(r->fs, r->inode, &stat);

	if (e < 0)
		return e;
	out->st = (struct fuse_kstatfs){
		.blocks = stat.f_blocks,
		.bfree = stat.f_bfree,
		.bavail = stat.f_bavail,
		.files = stat.f_files,
		.ffree = stat.f_ffree,
		.bsize = (uint32_t)stat.f_bsize,
		.namelen = (uint32_t)stat.f_namelen,
		.frsize = (uint32_t)stat.f_frsize,
	};
	return sizeof(*out);
}

static int64_t syncfs_(struct fuse_request *r)
{
	return fs_readonly(r->fs) ? 0 : fs_syncfs(r->fs);
}

/* An ACL set by one who is not in the file's group. */
static int drop_sgid(struct fuse_request *r)
{
	struct fs_change change = {.mode = true};
	struct statx stx;
	const int e = fs_getattr(r->fs, r->inode, NULL, &stx);

	if (e < 0 || !(stx.stx_mode & S_ISGID))
		return e;
	change.mode_value = stx.stx_mode & ~(uint32_t)S_ISGID;
	return fs_setattr(r->fs, r->inode, NULL, &change);
}

static int64_t setxattr_(struct fuse_request *r)
{
	const size_t known = FUSE_COMPAT_SETXATTR_IN_SIZE;
	const size_t more = sizeof(struct fuse_setxattr_in) - known;
	struct fuse_setxattr_in arg = {0};
	const char *name;
	int e;

	if (r->f->options.no_xattrs)
		return -ENOSYS;
	memcpy(&arg, r->arg, known);
	if (r->f->setxattr_ext) {
		if (r->rest_bytes < more)
			return -EINVAL;
		memcpy((char *)&arg + known, r->rest, more);
		r->rest += more;
		r->rest_bytes -= more;
	}
	name = fuse_text(r);
	if (!name || arg.size > r->rest_bytes)
		return -EINVAL;
	e = fs_setxattr(r->fs, r->inode, name, r->rest, arg.size,
			(int)arg.flags);
	if (e == 0 && arg.setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID)
		e = drop_sgid(r);
	return e;
}

/* The xattr's or the list's size, when only that is asked for. */
static int64_t answer_xattr(struct fuse_request *r, int n, uint32_t room)
{
	struct fuse_getxattr_out *out;

	if (n < 0 || room > 0)
		return n > (int64_t)room ? -ERANGE : n;
	out = fuse_answer(r, sizeof(*out));
	out->size = (uint32_t)n;
	return sizeof(*out);
}

static int64_t getxattr_(struct fuse_request *r)
{
	const struct fuse_getxattr_in *arg = r->arg;
	const char *name = fuse_text(r);

	/* Once: the guest's kernel does not ask again. */
	if (r->f->options.no_xattrs)
		return -ENOSYS;
	if (!name)
		return -EINVAL;
	return answer_xattr(r,
			    fs_getxattr(r->fs, r->inode, name, r->out,
					min_u64(arg->size, FUSE_OUT_MAX)),
			    arg->size);
}

static int64_t listxattr_(struct fuse_request *r)
{
	const struct fuse_getxattr_in *arg = r->arg;

	if (r->f->options.no_xattrs)
		return -ENOSYS;
	return answer_xattr(r,
			    fs_listxattr(r->fs, r->inode, r->out, FUSE_OUT_MAX),
			    arg->size);
}

static int64_t removexattr_(struct fuse_request *r)
{
	const char *name = fuse_text(r);

	if (r->f->options.no_xattrs)
		return -ENOSYS;
	return name ? fs_removexattr(r->fs, r->inode, name) : -EINVAL;
}

#define OP(run, type, flags)                                                   \
	{                                                                      \
		run, sizeof(struct fuse_##type), FUSE_OP_NODE | (flags)        \
	}
#define OP_BARE(run, flags)                                                    \
	{                                                                      \
		run, 0, FUSE_OP_NODE | (flags)                                 \
	}
#define WRITES FUSE_OP_WRITES
#define DATA   FUSE_OP_DATA

static const struct fuse_op ops[] = {
	[FUSE_LOOKUP] = OP_BARE(lookup, FUSE_OP_AGAIN),
	[FUSE_FORGET] = {forget, sizeof(struct fuse_forget_in), FUSE_OP_QUIET},
	[FUSE_BATCH_FORGET] = {batch_forget,
			       sizeof(struct fuse_batch_forget_in),
			       FUSE_OP_QUIET},
	[FUSE_GETATTR] = OP(getattr, getattr_in, 0),
	[FUSE_SETATTR] = OP(setattr, setattr_in, WRITES),
	[FUSE_READLINK] = OP_BARE(readlink_, 0),
	[FUSE_SYMLINK] = OP_BARE(symlink_, WRITES),
	[FUSE_MKNOD] = OP(mknod_, mknod_in, WRITES),
	[FUSE_MKDIR] = OP(mkdir_, mkdir_in, WRITES),
	[FUSE_UNLINK] = OP_BARE(unlink_, WRITES),
	[FUSE_RMDIR] = OP_BARE(rmdir_, WRITES),
	[FUSE_RENAME] = OP(rename_, rename_in, WRITES),
	[FUSE_RENAME2] = OP(rename2, rename2_in, WRITES),
	[FUSE_LINK] = OP(link_, link_in, WRITES),
	[FUSE_STATFS] = OP_BARE(statfs_, 0),
	[FUSE_SYNCFS] = OP(syncfs_, syncfs_in, 0),
	[FUSE_SETXATTR] = {setxattr_, FUSE_COMPAT_SETXATTR_IN_SIZE,
			   FUSE_OP_NODE | WRITES},
	[FUSE_GETXATTR] = OP(getxattr_, getxattr_in, 0),
	[FUSE_LISTXATTR] = OP(listxattr_, getxattr_in, 0),
	[FUSE_REMOVEXATTR] = OP_BARE(removexattr_, WRITES),

	[FUSE_OPEN] = OP(fuse_open, open_in, 0),
	[FUSE_OPENDIR] = OP(fuse_opendir, open_in, 0),
	[FUSE_CREATE] = OP(fuse_create, create_in, WRITES),
	[FUSE_TMPFILE] = OP(fuse_tmpfile, create_in, WRITES),
	[FUSE_RELEASE] = OP(fuse_release, release_in, 0),
	[FUSE_RELEASEDIR] = OP(fuse_releasedir, release_in, 0),
	[FUSE_READ] = OP(fuse_read, read_in, DATA),
	[FUSE_WRITE] = OP(fuse_write, write_in, DATA | WRITES),
	[FUSE_FSYNC] = OP(fuse_fsync, fsync_in, 0),
	[FUSE_FSYNCDIR] = OP(fuse_fsyncdir, fsync_in, 0),
	[FUSE_FALLOCATE] = OP(fuse_fallocate, fallocate_in, WRITES),
	[FUSE_LSEEK] = OP(fuse_lseek, lseek_in, 0),
	[FUSE_COPY_FILE_RANGE] =
		OP(fuse_copy_file_range, copy_file_range_in, WRITES),
	[FUSE_FLUSH] = OP(fuse_flush, flush_in, 0),
	[FUSE_GETLK] = OP(fuse_getlk, lk_in, 0),
	[FUSE_SETLK] = OP(fuse_setlk, lk_in, 0),
	[FUSE_SETLKW] = OP(fuse_setlkw, lk_in, 0),
	[FUSE_INTERRUPT] = {fuse_interrupt, sizeof(struct fuse_interrupt_in),
			    FUSE_OP_QUIET},
	[FUSE_READDIR] = OP(fuse_readdir, read_in, 0),
	[FUSE_READDIRPLUS] = OP(fuse_readdirplus, read_in, 0),
};

const struct fuse_op *fuse_op_find(uint32_t opcode)
{
	return opcode < ARRAY_LEN(ops) && ops[opcode].run ? &ops[opcode] : NULL;
}

#define NAME(opcode) [FUSE_##opcode] = #opcode

const char *fuse_op_name(uint32_t opcode)
{
	static const char *const names[] = {
		NAME(LOOKUP),       NAME(FORGET),
		NAME(GETATTR),      NAME(SETATTR),
		NAME(READLINK),     NAME(SYMLINK),
		NAME(MKNOD),        NAME(MKDIR),
		NAME(UNLINK),       NAME(RMDIR),
		NAME(RENAME),       NAME(LINK),
		NAME(OPEN),         NAME(READ),
		NAME(WRITE),        NAME(STATFS),
		NAME(RELEASE),      NAME(FSYNC),
		NAME(SETXATTR),     NAME(GETXATTR),
		NAME(LISTXATTR),    NAME(REMOVEXATTR),
		NAME(FLUSH),        NAME(INIT),
		NAME(OPENDIR),      NAME(READDIR),
		NAME(RELEASEDIR),   NAME(FSYNCDIR),
		NAME(GETLK),        NAME(SETLK),
		NAME(SETLKW),       NAME(ACCESS),
		NAME(CREATE),       NAME(INTERRUPT),
		NAME(BMAP),         NAME(DESTROY),
		NAME(IOCTL),        NAME(POLL),
		NAME(BATCH_FORGET), NAME(FALLOCATE),
		NAME(READDIRPLUS),  NAME(RENAME2),
		NAME(LSEEK),        NAME(COPY_FILE_RANGE),
		NAME(SYNCFS),       NAME(TMPFILE),
	};

	return opcode < ARRAY_LEN(names) ? names[opcode] : NULL;
}
