/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the files of the shared tree (fs*.c), and included by no other
 * file.
 */
#ifndef DEVICES_FS_FS_PARTS_H
#define DEVICES_FS_FS_PARTS_H

#include "devices/fs/fs.h"

#include <sys/queue.h>

#define FS_NAME_MAX  255
#define FS_DIR_BYTES (32u << 10) /* read ahead of one directory */
#define FS_IMPLICIT  64          /* open files of a guest that opens none */
#define FS_PATH_MAX  (32 + FS_NAME_MAX) /* of fs_path() */
/*
 * So many inodes are kept after the guest has given them back, for file handles
 * (name_to_handle_at(2)); and none, so that the tables can shrink, where
 * there were so many that they take a megabyte.
 */
#define FS_KEPT        1024
#define FS_KEPT_TABLES (1u << 16)
/*
 * Fewer descriptors of inodes will not do: half are for files without a name,
 * and one request may need four at once, with two more on the way there.
 */
#define FS_PATHS_MIN 16

/* Identifies a file: numbers are used again, times of birth are not. */
struct fs_key {
	uint64_t dev, ino, mount;
	int64_t born_ns;
};

/* The description by which OWNER holds its locks of one file. */
struct fs_holder {
	struct fs_lock_owner owner;
	int fd;
	uint32_t pid;
	uint64_t handle; /* last locked by; 0 for flock(2)'s */
	int whole;       /* the lock of all of it: F_RDLCK, F_WRLCK; or -1 */
	struct fs_holder *next;
};

struct fs_inode {
	struct fs_key key;
	uint64_t id;
	uint64_t lookups;      /* the guest's references */
	struct fs_inode *next; /* with the same hash */
	struct fs_inode *next_idle;
	/*
	 * Where it was last seen. NULL: nowhere (the root; removed), and the
	 * descriptor is all there is.
	 */
	struct fs_inode *parent;
	char *name;                 /* owned */
	struct fs_inode *down;      /* scratch of fs_inode_fd() */
	TAILQ_ENTRY(fs_inode) used; /* with a descriptor and a parent */
	TAILQ_ENTRY(fs_inode) kept; /* if is_kept */
	struct fs_holder *holders;  /* owned */
	uint64_t stamp;             /* of fs_unchanged() */
	LIST_HEAD(fs_handles, fs_handle) open; /* files and directories */
	uint32_t children;                     /* inodes below */
	uint32_t writers; /* handles that fs-peer.c counts */
	int fd;           /* O_PATH, or -1 */
	uint16_t type;    /* S_IFMT bits on the host */
	uint8_t device;   /* index in fs->common->device */
	bool was_locked;
	bool is_marked;   /* others see that it is open for writing */
	bool is_idle;     /* in the list for fs_settle() */
	bool is_kept;     /* for file handles; nothing refers to it */
	uint32_t request; /* the last that asked for its descriptor */
	bool removed; /* the last name of it by the guest, or made without */
};

struct fs_handle {
	struct fs_inode *inode;
	int fd;
	int flags;   /* it is opened again with these */
	uint32_t id; /* index in fs->handle */
	bool is_dir;
	bool implicit;              /* the guest has no number of it */
	bool writes;                /* counted in its inode's writers */
	bool is_shared;             /* not this guest's alone: fs_is_shared() */
	LIST_ENTRY(fs_handle) same; /* of the same inode */
	struct fs_handle *next_closed;
};

/* One share's account; of its thread. */
struct fs_purse_part {
	struct fs_purse *purse; /* borrowed */
	uint64_t used;
};

/* Objects by a number, from 1 on. */
struct fs_table {
	void **slot; /* owned; the objects are not */
	uint32_t count, free;
	struct fs_purse_part *bytes; /* who pays for it; borrowed */
};

/* The part of a directory that was read last, by any handle. */
struct fs_dirbuf {
	uint32_t owner; /* number of the handle; 0: nothing */
	char *data;     /* owned, FS_DIR_BYTES */
	size_t bytes, at;
	uint64_t offset; /* of the entry at `at` */
};

TAILQ_HEAD(fs_used, fs_inode);

struct fs {
	const char *what; /* borrowed, for messages */
	bool readonly, xattr;
	bool devices;    /* the guest may make them on the host */
	bool acls;       /* the guest sees and sets them */
	char *only;      /* owned; the root's one name, or NULL */
	bool as_others;  /* files are made for whom the guest says */
	bool has_births; /* birth times do not change in this tree */
	uid_t uid;       /* the monitor's */
	gid_t gid;
	unsigned max_paths, max_handles, max_inodes, max_locks, max_marks;
	struct fs_budget own_budget; /* if nobody gave one */
	struct fs_common *common;    /* borrowed, or &own_common */
	struct fs_common own_common;
	struct fs_purse_part bytes, files;

	struct fs_inode root;
	struct fs_table inodes;
	uint32_t ninodes;
	struct fs_inode *idle;  /* what fs_settle() looks at */
	uint32_t request;       /* how many there were */
	struct fs_inode **hash; /* owned, nhash lists, a power of two */
	uint32_t nhash;
	struct fs_used used; /* least recently used first */
	struct fs_used kept; /* given back last, last */
	unsigned nkept, max_kept;
	unsigned npaths;  /* descriptors of inodes, the pinned included */
	unsigned npinned; /* of those, without a name */

	struct fs_table handles;
	uint32_t nhandles;
	struct fs_handle *closed; /* to be freed by fs_settle() */
	unsigned nholders;        /* of all inodes */
	/* fs-peer.c's, for marks of shares and of files; -1: no marks. */
	int peer_fd, peer_file_fd;
	uint32_t machine;
	bool peer_stale;   /* files' marks are of before fs_reset() */
	unsigned nmarks;   /* files it has marked */
	bool peer_named;   /* one shared with others was logged */
	bool told_kernels; /* so was a mount that the guest may not enter */
	struct fs_dirbuf dirbuf;
	uint32_t implicit[FS_IMPLICIT]; /* numbers of handles, by inode; or 0 */
};

/* INODE is the directory of the one file shared: it only leads there. */
static inline bool fs_is_sealed(const struct fs *fs,
				const struct fs_inode *inode)
{
	return fs->only && inode == &fs->root;
}

/* fs-path.c */
int fs_statx(int fd, const char *name, struct statx *ret_stx);
#define FS_FD_PREFIX "/proc/self/fd/"
/* A path to FD, or to NAME in it, for calls that take no descriptor. */
const char *fs_path(char buf[FS_PATH_MAX], int fd, const char *name);

/* fs-mount.c */
/* The directory that OPTIONS mean, O_PATH. -errno. */
int fs_mount_dir(const struct fs_options *options);
/* O_PATH descriptor of the tree's top, or -errno (logged). */
int fs_mount_open(const char *what, const struct fs_options *options);
/*
 * Before anything is done with the open FD, NAME in the share, whose file
 * system is not its directory's. 0 or -errno: -EACCES where that is one of the
 * host kernel's own, through which there is more to reach than files.
 */
int fs_mount_check(struct fs *fs, int fd, const char *name);

/* fs.c */
/* From here on everything made belongs to WHO, until fs_be_self(). */
int fs_be(struct fs *fs, const struct fs_who *who);
void fs_be_self(const struct fs *fs, const struct fs_who *who);

/* fs-budget.c */
/* True: AMOUNT more is the share's, until fs_give(). */
bool fs_take(struct fs_purse_part *part, uint64_t amount);
void fs_give(struct fs_purse_part *part, uint64_t amount);

/* The C library adds so much to each allocation: header and rounding. */
#define FS_ALLOC 24
/* Pays for BYTES, and allocates them, zeroed. NULL: one of both failed. */
void *fs_alloc(struct fs *fs, size_t bytes);
void fs_free(struct fs *fs, void *memory, size_t bytes);

/* fs-table.c */
/* The object's number, or 0: out of memory. */
uint32_t fs_table_add(struct fs_table *table, void *object);
void fs_table_del(struct fs_table *table, uint32_t i);
/*
 * Gives the object that number, which is to be free: 0, -EINVAL or -ENOMEM.
 * None is added before fs_table_relink().
 */
int fs_table_place(struct fs_table *table, uint32_t i, void *object);
void fs_table_relink(struct fs_table *table);
/* NULL: there is none. */
void *fs_table_get(const struct fs_table *table, uint32_t i);
/* Makes it as small as at first; only the first numbers may be in use. */
void fs_table_shrink(struct fs_table *table);
void fs_table_done(struct fs_table *table);

/* fs-inode.c */
/* openat2(), beneath DIR_FD and through no link; makes room when need be. */
int fs_openat(struct fs *fs, int dir_fd, const char *name, int flags,
	      uint32_t mode);
int fs_inode_init(struct fs *fs, int root_fd, const struct statx *stx);
void fs_inode_done(struct fs *fs); /* also after the above failed */
/* Its O_PATH descriptor, good until fs_settle(), or -errno. */
int fs_inode_fd(struct fs *fs, struct fs_inode *inode);
/*
 * 0: what the guest calls INODE is still found where it was last seen, or the
 * guest itself has removed it and goes on using it. -ESTALE: the host moved,
 * replaced or removed it, so that the guest's kernel looks again.
 */
int fs_inode_confirm(struct fs *fs, struct fs_inode *inode);
/* -ENOENT, but -ESTALE if the host has removed DIR. */
int fs_inode_missing(const struct fs_inode *dir);
/* Its attributes, for which no descriptor is opened. */
int fs_inode_stat(struct fs *fs, struct fs_inode *inode, struct statx *ret_stx);
/* Closes descriptors that can be opened again: true when it did. */
bool fs_inode_make_room(struct fs *fs);
/* The inode at DIR's NAME now, with one more reference; notes its place. */
int fs_inode_get(struct fs *fs, struct fs_inode *dir, const char *name,
		 const struct statx *stx, struct fs_inode **ret_inode);
/* The same for a file without a name, whose O_PATH descriptor is taken. */
int fs_inode_get_pinned(struct fs *fs, int fd, const struct statx *stx,
			struct fs_inode **ret_inode);
/* Whether there may be one more: 0 or -errno. Others may take it, though. */
int fs_inode_room(struct fs *fs);
/*
 * By its number, also one that the guest has given back; it may be another's
 * or nobody's by now. NULL: there is none.
 */
struct fs_inode *fs_inode_again(struct fs *fs, uint64_t id);
/* One more reference; before that it may have been kept only. */
void fs_inode_ref(struct fs *fs, struct fs_inode *inode);
/* The known inode that STX describes, or NULL. */
struct fs_inode *fs_inode_find(struct fs *fs, const struct statx *stx);
bool fs_inode_is_at(const struct fs_inode *inode, const struct fs_place *at);
/* The guest has taken a name of it away, maybe not the last. */
void fs_inode_removed(struct fs *fs, struct fs_inode *inode);
/* It has moved, or (fs_inode_unname) is to be reached by descriptor only. */
void fs_inode_move(struct fs *fs, struct fs_inode *inode,
		   const struct fs_place *to);
void fs_inode_unname(struct fs *fs, struct fs_inode *inode);
/* It has one reference less: fs_settle() frees it if that was the last. */
void fs_inode_drop(struct fs *fs, struct fs_inode *inode);
/* The guest refers to none and has locked nothing. */
void fs_inode_drop_all(struct fs *fs);
void fs_inode_settle(struct fs *fs);

/* An inode as it is saved; its name, if it has one, follows. */
struct fs_inode_record {
	uint64_t id, lookups, parent, stamp;
	struct fs_key key;
	uint16_t type;
	uint8_t device;
	uint8_t was_locked;
	uint8_t unused[4];
};
/*
 * Makes an inode of it, without a place; the tables are to be relinked. 0,
 * -EINVAL: it cannot be, or -errno.
 */
int fs_inode_restore(struct fs *fs, const struct fs_inode_record *record,
		     struct fs_inode **ret_inode);

/* fs-owner.c: FS_STAT_XATTR; does nothing without ownership=xattr */
/* Replaces in STX, of the file PATH, what the guest has set otherwise. */
void fs_owner_show(const struct fs *fs, const char *path, struct statx *stx);
/* The owner and the mode of a new file in the directory at DIR_FD. */
struct fs_owner {
	uint32_t uid, gid, mode;
	dev_t rdev;
};
int fs_owner_store(const char *path, const struct fs_owner *owner);
int fs_owner_of_new(const struct fs *fs, int dir_fd, const struct fs_who *who,
		    uint32_t mode, struct fs_owner *ret_owner);
int fs_owner_change(const char *path, const struct statx *stx,
		    const struct fs_change *change);
/* The mode of a file on the host whose guest wants MODE. */
uint32_t fs_owner_host_mode(uint32_t mode);

/* fs-file.c */
/* open(2)'s flags for a file the guest opens with FLAGS. */
int fs_file_flags(int flags);
/* Opens what the inode's O_PATH descriptor is of. */
int fs_reopen(struct fs *fs, struct fs_inode *inode, int flags);
/* Whether there may be one more: 0 or -errno. Others may take it, though. */
int fs_handle_room(struct fs *fs);
/* Takes FD, opened with FLAGS, also when it fails. */
int fs_handle_new(struct fs *fs, struct fs_inode *inode, int fd, int flags,
		  uint64_t *ret_handle);
/* Opens it again under its number; as fs_inode_restore(). */
int fs_handle_restore(struct fs *fs, struct fs_inode *inode, uint32_t id,
		      int flags, bool is_shared);
void fs_handle_release_all(struct fs *fs);
void fs_handle_settle(struct fs *fs);

/* fs-lock.c */
/* Takes a lock of all of the file anew, as fs_lock(). */
int fs_lock_again(struct fs *fs, struct fs_inode *inode,
		  const struct fs_holder *holder);

/* fs-peer.c */
/*
 * Marks the share as one that can be written, and warns if another machine has
 * it, too. Leaves peer_fd -1 (logged) where it cannot.
 */
void fs_peer_open(struct fs *fs, const struct fs_options *options);
/* HANDLE, open for writing, is new; or is to be closed. */
void fs_peer_enter(struct fs *fs, struct fs_handle *handle);
void fs_peer_leave(struct fs *fs, struct fs_handle *handle);

/* fs-holder.c */
/* Where OWNER's is in the list, or would be: then the place has NULL. */
struct fs_holder **fs_holder_find(struct fs_inode *inode,
				  const struct fs_lock_owner *owner);
/* Frees the one at AT, and with it what it has locked. */
void fs_holder_drop(struct fs *fs, struct fs_holder **at);
void fs_holder_drop_all(struct fs *fs, struct fs_inode *inode);

#endif
