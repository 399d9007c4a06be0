/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the files of the FUSE protocol (fuse*.c), and included by no other
 * file.
 */
#ifndef DEVICES_FS_FUSE_PARTS_H
#define DEVICES_FS_FUSE_PARTS_H

#include "devices/fs/fs.h"
#include "devices/fs/fuse.h"

#include <linux/fuse.h>
#include <linux/limits.h>
#include <sys/queue.h>

/* The longest arguments besides data: an xattr with its value. */
#define FUSE_IN_MAX  (XATTR_SIZE_MAX + 4096)
#define FUSE_OUT_MAX XATTR_SIZE_MAX

TAILQ_HEAD(fuse_waits, fuse_wait);

#define FUSE_OPCODES 64 /* Linux's are smaller */

/*
 * A node's number for the guest is the tree's own with the tree's number in the
 * bits that are left of its lower half: 0 if it is the only one.
 */
#define FUSE_TREES_MAX ((1u << (32 - FS_ID_BITS)) - 1)

struct fuse_tree {
	char *name;    /* owned; NULL: it is the only one */
	struct fs *fs; /* borrowed; NULL: it was taken away */
	uint32_t number;
};

struct fuse {
	struct fuse_tree *trees; /* owned */
	unsigned ntrees;         /* places, used or not */
	unsigned next;           /* place to be looked at first for the next */
	bool has_top;   /* the guest's root is the directory of the trees */
	bool submounts; /* the guest gives each tree a device number */
	bool acls;      /* it honours ACLs, in all trees */
	struct fuse_options options;
	enum fuse_cache cache;
	bool initialized;
	struct fuse_waits waits; /* owned, the first to wait first */
	unsigned nwaits;
	bool unlocked; /* somebody who waits may go on */
	bool writeback;
	bool setxattr_ext; /* FUSE_SETXATTR has flags of its own */
	bool awaited;      /* fuse_is_awaited() */
	bool stateless;    /* the guest opens nothing, it just reads */
	uint64_t valid_s;  /* what the guest reads is valid so long */
	void *in, *out;    /* owned, one allocation */
	uint64_t requests[FUSE_OPCODES]; /* how many there were of each */
	struct iovec iov[FUSE_IOV];
};

/* A request; all of it is this side's copy, but for the data of a write. */
struct fuse_request {
	struct fuse *f;
	const struct fuse_tree *tree; /* of in.nodeid; NULL: of none */
	struct fs *fs;                /* the tree's, or NULL */
	uint64_t node;                /* in.nodeid, as the tree has it */
	const struct iov_chain *chain;
	uint32_t ticket;
	struct fuse_in_header in;
	struct fs_inode *inode; /* of that number */
	const void *arg;        /* the operation's fuse_*_in */
	const char *rest;       /* what follows it; a zero follows that */
	size_t rest_bytes;
	void *out;       /* FUSE_OUT_MAX bytes for the answer */
	size_t out_room; /* what of them the guest has room for */
};

enum {
	FUSE_OP_NODE = 1,   /* needs an inode the guest knows */
	FUSE_OP_WRITES = 2, /* not on a read-only share */
	FUSE_OP_QUIET = 4,  /* is not answered, but for an error */
	FUSE_OP_DATA = 8,   /* data in guest memory follows the arguments, or
			       is the answer: not copied here */
	FUSE_OP_AGAIN = 16, /* or one that it has given back: no `inode` */
};

struct fuse_op {
	/* Bytes of the answer in `out`, -errno or FUSE_LATER. */
	int64_t (*run)(struct fuse_request *r);
	uint16_t arg_bytes;
	uint8_t flags;
};

/* By opcode; those without run() are not offered. */
const struct fuse_op *fuse_op_find(uint32_t opcode);
/* "LOOKUP", also if it is not offered; NULL: no version has it. */
const char *fuse_op_name(uint32_t opcode);

/* fuse-answer.c */

/* Zeroed, at the start of `out`. */
void *fuse_answer(struct fuse_request *r, size_t bytes);
/* The next zero-terminated text of `rest`, or NULL. */
const char *fuse_text(struct fuse_request *r);
void fuse_attr(const struct fs_entry *entry, struct fuse_attr *ret_attr);
/* For how many seconds the guest may believe its attributes. */
uint64_t fuse_attr_valid(const struct fuse *f, const struct fs_inode *inode);
void fuse_entry(const struct fuse_request *r, const struct fs_entry *entry,
		struct fuse_entry_out *ret_out);
/* FUSE_NAME_OFFSET bytes and the name, at AT, which is aligned. */
void fuse_dirent(void *at, const struct fs_dirent *entry, uint8_t type);
struct fs_who fuse_who(const struct fuse_request *r, uint32_t umask);

/* fuse-tree.c */

/* The tree that NODE, the guest's number, is of, or NULL. */
const struct fuse_tree *fuse_tree_find(const struct fuse *f, uint64_t node,
				       uint64_t *ret_id);
/* The guest's number for the tree's own. */
uint64_t fuse_tree_node(const struct fuse_tree *tree, uint64_t id);
/* Frees FS's place. */
void fuse_tree_remove(struct fuse *f, const struct fs *fs);
/* For all of them, or the only one. */
bool fuse_trees_have_acls(const struct fuse *f);
bool fuse_trees_are_readonly(const struct fuse *f);
void fuse_trees_use_acls(struct fuse *f, bool use);
void fuse_trees_reset(struct fuse *f);
void fuse_trees_tell(struct fuse *f);
void fuse_trees_settle(struct fuse *f);
void fuse_trees_done(struct fuse *f);

/* fuse-top.c */

/* Whether NODE is the directory that the trees are in. */
bool fuse_is_top(const struct fuse *f, uint64_t node);
/* The same operation on that; NULL: there is none. */
const struct fuse_op *fuse_top_op(uint32_t opcode);

/* fuse-file.c */
int64_t fuse_open(struct fuse_request *r);
int64_t fuse_opendir(struct fuse_request *r);
int64_t fuse_create(struct fuse_request *r);
int64_t fuse_tmpfile(struct fuse_request *r);
int64_t fuse_release(struct fuse_request *r);
int64_t fuse_releasedir(struct fuse_request *r);
int64_t fuse_read(struct fuse_request *r);
int64_t fuse_write(struct fuse_request *r);
int64_t fuse_fsync(struct fuse_request *r);
int64_t fuse_fsyncdir(struct fuse_request *r);
int64_t fuse_fallocate(struct fuse_request *r);
int64_t fuse_lseek(struct fuse_request *r);
int64_t fuse_copy_file_range(struct fuse_request *r);
int64_t fuse_readdir(struct fuse_request *r);
int64_t fuse_readdirplus(struct fuse_request *r);

/* fuse-lock.c */
int64_t fuse_flush(struct fuse_request *r);
int64_t fuse_getlk(struct fuse_request *r);
int64_t fuse_setlk(struct fuse_request *r);
int64_t fuse_setlkw(struct fuse_request *r);
int64_t fuse_interrupt(struct fuse_request *r);
/* All of the owner's locks of the request's inode. */
void fuse_unlock(struct fuse_request *r, uint64_t owner, bool flock);
/* Those that were set by way of an open file that is closed for good. */
void fuse_unlock_handle(struct fuse_request *r, uint64_t handle);
/* Drops all requests that wait; with TELL they are answered. */
void fuse_waits_end(struct fuse *f, bool tell);
/* Answers those that wait for a lock in FS, which goes: ESTALE. */
void fuse_waits_leave(struct fuse *f, const struct fs *fs);

#endif
