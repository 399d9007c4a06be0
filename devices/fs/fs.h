/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tree of the host's files for a guest that is not trusted: nothing outside
 * of it can be named, whatever the guest asks. Knows neither FUSE nor virtio.
 *
 * Names are single components, looked up below an open directory without ever
 * following a symbolic link. Each file that the guest knows is an inode here,
 * found again by device, number, mount and time of birth. Its O_PATH descriptor
 * is opened when needed and closed when others are needed more; opened again by
 * the name it was last seen under, and refused (ESTALE) when something else is
 * there. So the descriptors are bounded, whatever the size of the tree.
 *
 * A request is what happens between two calls of fs_settle(). Within one, no
 * inode and no handle is freed, and no descriptor that was asked for is closed,
 * whatever else is called: a pointer taken at its start is good until its end.
 * An object that nobody refers to any more is only noted; fs_settle() frees it.
 *
 * Every function returns 0 (or a count) or -errno, for the guest; only
 * fs_open() logs, and the first file that turns out to be shared. ENOMEM and
 * ENFILE: the guest has more than the tree's budget allows. One thread at a
 * time.
 */
#ifndef DEVICES_FS_FS_H
#define DEVICES_FS_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <time.h>

struct fs;
struct visitor;
struct fs_inode;
struct fs_handle;

/* Never shown to the guest: owner, mode and device as it set them. */
#define FS_STAT_XATTR "user.bulkhead.stat"
/*
 * The xattr's content: "uid:gid:mode:rdev", decimal, decimal, octal with the
 * type bits, decimal as makedev(3) gives it; no terminating zero. A special
 * file is an empty regular one whose mode says what it is. A symbolic link
 * cannot have such an xattr; it belongs to root.
 */
#define FS_STAT_MAX 64

/*
 * All shares of one VM have one budget of the host's memory, for their tables,
 * and of its descriptors. Half of each is divided among them, and each has
 * its part of that for itself; the other half is for whichever asks first. So
 * a guest gets no more by having several, and none can leave another without.
 */
struct fs_purse {
	uint64_t each; /* each share's own */
	uint64_t left; /* for all; atomic */
};
struct fs_budget {
	struct fs_purse bytes;
	struct fs_purse files; /* descriptors of open files and of locks */
	unsigned paths;        /* descriptors of inodes: each share's own */
	uint64_t all_files;    /* that all of them may have */
};
/*
 * For SHARES (at least one) of a VM with RAM_BYTES of memory: a quarter of
 * that, as a guest's own kernel has four times as much to remember for each
 * file; and what this process may open, but for a quarter (256 to 2048) that
 * others need. RLIMIT_NOFILE is raised as far as it goes. Before any of the
 * shares is opened; not freed before the last is closed.
 */
void fs_budget_init(struct fs_budget *budget, uint64_t ram_bytes,
		    unsigned shares);
/* The same once more, for others, when all shares are closed. */
void fs_budget_again(struct fs_budget *budget, uint64_t ram_bytes,
		     unsigned shares);

/*
 * Shared by the trees of one thread that a guest sees in one file system. All
 * zero at first; not freed before the last of them is closed.
 */
#define FS_DEVICES 256 /* file systems in them, at one time */
struct fs_common {
	struct fs_device {
		uint64_t dev;
		uint32_t
			inodes; /* of it that are known; 0: the place is free */
	} device[FS_DEVICES];
	unsigned ndevices; /* places that were ever taken */
	uint32_t umask;    /* of the thread */
	/* Inodes count on: a tree in another's place has none of its numbers.
	 */
	uint32_t generation;
};

enum fs_ownership {
	FS_OWNER_AUTO,  /* HOST with root's privileges, else XATTR */
	FS_OWNER_HOST,  /* the host's own owners and modes */
	FS_OWNER_XATTR, /* FS_STAT_XATTR; no privilege needed */
};

struct fs_options {
	const char *path;
	/*
	 * In place of PATH, which is for messages then: a descriptor of the
	 * directory, borrowed, which need be good for nothing else (O_PATH).
	 */
	bool has_fd;
	int fd;
	/*
	 * The one file of PATH there is for the guest, which then can change
	 * nothing of PATH itself; NULL: all of it.
	 */
	const char *only;
	/*
	 * Mount points show the directories that they hide on the host, not
	 * what is mounted on them. Needs CAP_SYS_ADMIN when it is opened.
	 */
	bool no_submounts;
	bool readonly;
	enum fs_ownership ownership;
	/* Others change files, too, and the user knows it: no warning. */
	bool shared;
	uint32_t machine; /* for tests: another's, not this process's; or 0 */
	bool devices;     /* real ones are made, with FS_OWNER_HOST */
	struct fs_budget *budget; /* borrowed; NULL: that of a VM of 4 GiB */
	struct fs_common *common; /* borrowed; NULL: it is the only one */
	/* A limit below the budget's; 0: none. */
	unsigned max_paths, max_handles, max_inodes, max_locks, max_marks;
};

/* On whose behalf something is made. */
struct fs_who {
	uint32_t uid, gid;
	uint32_t umask; /* if fs_use_acls(), else the guest has applied it */
};

/* An inode that gained a reference, and what it looks like now. */
struct fs_entry {
	struct fs_inode *inode;
	struct statx stx;
};

/* 0 or -errno (logged with WHAT, "fs0", which is borrowed, and the path). */
int fs_open(const char *what, const struct fs_options *options,
	    struct fs **ret_fs);
void fs_close(struct fs *fs); /* NULL is fine */
/*
 * Makes the calling thread one that may use FS: no umask, and with root's
 * privileges the right to create files for others, but devices only if FS says
 * so. Others are not affected.
 */
int fs_thread_init(struct fs *fs);
/*
 * The same for trees that are opened later, on that thread, with FS_OWNER_AUTO
 * and without devices. fs_open() then makes no system calls but
 * those of the other functions, geteuid, getegid and capget.
 */
int fs_thread_init_ahead(void);
bool fs_readonly(const struct fs *fs);
/*
 * The guest's kernel honours POSIX ACLs, which the host's keeps. False: there
 * are none, as modes are not the host's (FS_OWNER_XATTR).
 */
bool fs_has_acls(const struct fs *fs);
/* The same for a tree that FS_OWNER_AUTO will choose for. */
bool fs_will_have_acls(void);
void fs_use_acls(struct fs *fs, bool use);
/* Forgets every inode but the root, and every handle; fs_settle() is due. */
void fs_reset(struct fs *fs);
/*
 * Other machines may have what fs_reset() closed. On the thread of the tree,
 * which fs_reset() need not be called on; the next opening does it otherwise.
 */
void fs_reset_tell(struct fs *fs);
/*
 * Saves what the guest knows of FS, or loads it into a new one on the same
 * directory; vmm/base/visit.h. On the thread of the tree, between two requests.
 */
void fs_visit(struct fs *fs, struct visitor *v);
/*
 * The end of a request: frees what it left without a reference. No inode and no
 * handle is held by the caller; numbers of them may be.
 */
void fs_settle(struct fs *fs);

/* ---- inodes */

#define FS_ROOT 1
/* Bits that are used in the lower half of a number. */
#define FS_ID_BITS 22

/* By its number, which no other will have; NULL when there is none. */
struct fs_inode *fs_inode(struct fs *fs, uint64_t id);
uint64_t fs_inode_id(const struct fs_inode *inode);
/* For the guest: unique in all trees with the same fs_common, and mounts. */
uint64_t fs_inode_number(const struct fs_inode *inode);
/* Gives COUNT references back. */
void fs_forget(struct fs *fs, struct fs_inode *inode, uint64_t count);
/*
 * Whether the file is as it was when this was last asked for: then what the
 * guest has cached of it is right.
 */
bool fs_unchanged(struct fs_inode *inode, const struct statx *stx);

/* ---- attributes; HANDLE may be NULL everywhere */

int fs_getattr(struct fs *fs, struct fs_inode *inode, struct fs_handle *handle,
	       struct statx *ret_stx);

struct fs_change {
	bool mode, uid, gid, size, times;
	bool kill_suid; /* with `size`: as a writer without privilege */
	uint32_t mode_value, uid_value, gid_value;
	uint64_t size_value;
	struct timespec time[2]; /* as for utimensat(2) */
};
int fs_setattr(struct fs *fs, struct fs_inode *inode, struct fs_handle *handle,
	       const struct fs_change *change);
/* Removes set-user-ID and set-group-ID as a write by anyone does. */
int fs_kill_suid(struct fs *fs, struct fs_inode *inode,
		 struct fs_handle *handle);

int fs_readlink(struct fs *fs, struct fs_inode *inode, char *buf, size_t bytes);
int fs_statfs(struct fs *fs, struct fs_inode *inode, struct statfs *ret_stat);
int fs_syncfs(struct fs *fs);

int fs_setxattr(struct fs *fs, struct fs_inode *inode, const char *name,
		const void *value, size_t bytes, int flags);
/* BYTES 0: how many there are. */
int fs_getxattr(struct fs *fs, struct fs_inode *inode, const char *name,
		void *buf, size_t bytes);
/* BYTES: room for any list there can be (XATTR_LIST_MAX). */
int fs_listxattr(struct fs *fs, struct fs_inode *inode, char *buf,
		 size_t bytes);
int fs_removexattr(struct fs *fs, struct fs_inode *inode, const char *name);

/* ---- names */

int fs_lookup(struct fs *fs, struct fs_inode *dir, const char *name,
	      struct fs_entry *ret_entry);
/*
 * The inode of that number, once more: the guest may have given it back since
 * (fs_forget()), and still have a file handle of it. -ESTALE: it is not known
 * any more, or something else has its name.
 */
int fs_lookup_again(struct fs *fs, uint64_t id, struct fs_entry *ret_entry);
/* The root; of a tree that has one file only, that. */
int fs_lookup_top(struct fs *fs, struct fs_entry *ret_entry);
/* The directory that the directory INODE is in; of the root itself. */
int fs_lookup_above(struct fs *fs, struct fs_inode *inode,
		    struct fs_entry *ret_entry);
int fs_mkdir(struct fs *fs, struct fs_inode *dir, const char *name,
	     uint32_t mode, const struct fs_who *who,
	     struct fs_entry *ret_entry);
int fs_symlink(struct fs *fs, struct fs_inode *dir, const char *name,
	       const char *target, const struct fs_who *who,
	       struct fs_entry *ret_entry);
int fs_link(struct fs *fs, struct fs_inode *inode, struct fs_inode *dir,
	    const char *name, struct fs_entry *ret_entry);
int fs_unlink(struct fs *fs, struct fs_inode *dir, const char *name,
	      bool is_dir);
struct fs_place {
	struct fs_inode *dir;
	const char *name;
};
/* FLAGS as for renameat2(2). */
int fs_rename(struct fs *fs, const struct fs_place *from,
	      const struct fs_place *to, unsigned flags);

struct fs_node {
	uint32_t mode; /* with the type */
	dev_t rdev;
};
int fs_mknod(struct fs *fs, const struct fs_place *at,
	     const struct fs_node *node, const struct fs_who *who,
	     struct fs_entry *ret_entry);

/* ---- handles: open files and directories */

/* Checked: that of INODE, and of a directory as IS_DIR says, or NULL. */
struct fs_handle *fs_handle(struct fs *fs, uint64_t id,
			    const struct fs_inode *inode, bool is_dir);

/*
 * The same without a number, for reading, by a guest that does not open files:
 * some are kept open here, the others opened again. 0 or -errno.
 */
int fs_handle_implicit(struct fs *fs, struct fs_inode *inode, bool is_dir,
		       struct fs_handle **ret_handle);

/* FLAGS as for open(2); those that make no sense here are left out. */
int fs_open_file(struct fs *fs, struct fs_inode *inode, int flags,
		 uint64_t *ret_handle);
int fs_open_dir(struct fs *fs, struct fs_inode *inode, uint64_t *ret_handle);
/* Without O_EXCL in FLAGS a file that is there is opened. */
int fs_create(struct fs *fs, const struct fs_place *at, int flags,
	      uint32_t mode, const struct fs_who *who,
	      struct fs_entry *ret_entry, uint64_t *ret_handle);
/* A file in DIR without a name (O_TMPFILE). */
int fs_tmpfile(struct fs *fs, struct fs_inode *dir, int flags, uint32_t mode,
	       const struct fs_who *who, struct fs_entry *ret_entry,
	       uint64_t *ret_handle);
void fs_release(struct fs *fs, struct fs_handle *handle);
/*
 * HANDLE is open for writing, and another guest has the file open for writing,
 * too, or a program outside of this guest has locked it: the guest has to read
 * and write it directly and must not map it.
 */
bool fs_is_shared(const struct fs_handle *handle);

ssize_t fs_read(struct fs_handle *handle, const struct iovec *iov,
		unsigned niov, uint64_t offset);
/* APPEND: at the end, wherever that is by now. */
ssize_t fs_write(struct fs_handle *handle, const struct iovec *iov,
		 unsigned niov, uint64_t offset, bool append);
int fs_fsync(struct fs_handle *handle, bool data_only);
int fs_fallocate(struct fs_handle *handle, int mode, uint64_t offset,
		 uint64_t bytes);
int64_t fs_lseek(struct fs_handle *handle, uint64_t offset, int whence);
struct fs_range {
	struct fs_handle *handle;
	uint64_t offset;
};
ssize_t fs_copy(const struct fs_range *from, const struct fs_range *to,
		uint64_t bytes);

/* ---- locks, of regular files; nothing here waits for one */

struct fs_lock_owner {
	uint64_t id; /* whatever the guest says */
	bool flock;  /* as flock(2) has it: another's than fcntl(2)'s */
};
struct fs_lock {
	struct fs_lock_owner owner;
	int type;            /* F_RDLCK, F_WRLCK, F_UNLCK */
	uint64_t start, end; /* end included; INT64_MAX: no end */
	uint32_t pid;        /* in the guest; for fs_lock_find() only */
	uint64_t handle;     /* of the file by which the owner asks, or 0 */
};
/* 0, -EAGAIN: another's is in the way, or -errno (-ENOLCK: too many). */
int fs_lock(struct fs *fs, struct fs_inode *inode, const struct fs_lock *lock);
/*
 * Replaces LOCK (not flock(2)'s) with the lock that is in its way: type F_UNLCK
 * when nothing is. KNOWN: it is a lock of this guest's, by that owner and pid.
 */
int fs_lock_find(struct fs *fs, struct fs_inode *inode, struct fs_lock *lock,
		 bool *ret_known);
/* Whether any owner of the guest's ever had a lock: others change it, too. */
bool fs_was_locked(const struct fs_inode *inode);
/* Drops all locks of OWNER. True when it may have had any. */
bool fs_unlock_all(struct fs *fs, struct fs_inode *inode,
		   const struct fs_lock_owner *owner);
/*
 * The same for all owners who last locked by HANDLE, which is to be released.
 */
bool fs_unlock_handle(struct fs *fs, struct fs_inode *inode, uint64_t handle);

/* One entry of a directory; NAME is valid until the next call. */
struct fs_dirent {
	const char *name;
	size_t name_bytes;
	uint64_t number;
	uint64_t next; /* offset of the entry after this one */
	uint8_t type;  /* DT_* */
};
/* The entry at OFFSET, 0 for the first: 1, 0 at the end, or -errno. */
int fs_readdir(struct fs *fs, struct fs_handle *handle, uint64_t offset,
	       struct fs_dirent *ret_entry);

#endif
