/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FUSE's structures from and for this side's own, as the operations need them.
 */
#include "devices/fs/fuse-parts.h"

#include <string.h>

void *fuse_answer(struct fuse_request *r, size_t bytes)
{
	return memset(r->out, 0, bytes);
}

const char *fuse_text(struct fuse_request *r)
{
	const char *text = r->rest;
	const char *end = memchr(text, '\0', r->rest_bytes);

	if (!end)
		return NULL;
	r->rest = end + 1;
	r->rest_bytes -= (size_t)(r->rest - text);
	return text;
}

struct fs_who fuse_who(const struct fuse_request *r, uint32_t umask)
{
	return (struct fs_who){
		.uid = r->in.uid, .gid = r->in.gid, .umask = umask};
}

/* As the guest's kernel encodes a dev_t of 32 bits. */
static uint32_t encode_rdev(uint32_t major, uint32_t minor)
{
	return (minor & 0xff) | (major & 0xfff) << 8 | (minor & 0xfff00) << 12;
}

void fuse_attr(const struct fs_entry *entry, struct fuse_attr *ret_attr)
{
	const struct statx *stx = &entry->stx;

	*ret_attr = (struct fuse_attr){
		.ino = fs_inode_number(entry->inode),
		.size = stx->stx_size,
		.blocks = stx->stx_blocks,
		.atime = (uint64_t)stx->stx_atime.tv_sec,
		.mtime = (uint64_t)stx->stx_mtime.tv_sec,
		.ctime = (uint64_t)stx->stx_ctime.tv_sec,
		.atimensec = stx->stx_atime.tv_nsec,
		.mtimensec = stx->stx_mtime.tv_nsec,
		.ctimensec = stx->stx_ctime.tv_nsec,
		.mode = stx->stx_mode,
		.nlink = stx->stx_nlink,
		.uid = stx->stx_uid,
		.gid = stx->stx_gid,
		.rdev = encode_rdev(stx->stx_rdev_major, stx->stx_rdev_minor),
		.blksize = stx->stx_blksize,
	};
}

/*
 * A process that locks a file has to see what another wrote under its lock:
 * each read then asks first whether the file has changed.
 */
uint64_t fuse_attr_valid(const struct fuse *f, const struct fs_inode *inode)
{
	return fs_was_locked(inode) ? 0 : f->valid_s;
}

void fuse_entry(const struct fuse_request *r, const struct fs_entry *entry,
		struct fuse_entry_out *ret_out)
{
	const struct fuse *f = r->f;

	*ret_out = (struct fuse_entry_out){
		.nodeid = fuse_tree_node(r->tree, fs_inode_id(entry->inode)),
		.entry_valid = f->valid_s,
		.attr_valid = fuse_attr_valid(f, entry->inode),
	};
	fuse_attr(entry, &ret_out->attr);
}

void fuse_dirent(void *at, const struct fs_dirent *entry, uint8_t type)
{
	const struct fuse_dirent head = {
		.ino = entry->number,
		.off = entry->next,
		.namelen = (uint32_t)entry->name_bytes,
		.type = type,
	};

	memcpy(at, &head, FUSE_NAME_OFFSET);
	memcpy((char *)at + FUSE_NAME_OFFSET, entry->name, entry->name_bytes);
}
