/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The FUSE protocol (<linux/fuse.h>, version 7.38) between a guest's kernel and
 * one shared tree (fs.h) or several. Knows no virtqueue: a request is a chain
 * of buffers in guest memory, and what is in them is not trusted.
 */
#ifndef DEVICES_FS_FUSE_H
#define DEVICES_FS_FUSE_H

#include "vmm/base/iov.h"

#include <stdbool.h>
#include <stdint.h>

struct fs;
struct fuse;
struct visitor;

/* How long the guest may believe what it has read. */
enum fuse_cache {
	FUSE_CACHE_AUTO,   /* a second; data until the file changes */
	FUSE_CACHE_ALWAYS, /* for ever: nobody else writes */
	FUSE_CACHE_NEVER,
};

/* Buffers of one request: headers, arguments, FUSE_DATA_PAGES of data. */
#define FUSE_IOV        512
#define FUSE_DATA_PAGES 256

struct fuse_options {
	enum fuse_cache cache;
	bool locks; /* locks are the host's; without, the guest's own affair */
	bool no_acls;   /* a tree may be added that has none */
	bool no_xattrs; /* it need not ask for any: there are none */
	/*
	 * The answer to a request that had to wait is written: so many bytes.
	 * Called within fuse_handle() and fuse_retry().
	 */
	void (*answered)(void *arg, uint32_t ticket, uint32_t written);
	void *arg;
};

/*
 * A session about FS, the caller's; or, with NULL, about the trees that are
 * added, each by its name in a directory that nobody can change. NULL: no
 * memory.
 */
struct fuse *fuse_new(struct fs *fs, const struct fuse_options *options);
void fuse_free(struct fuse *f); /* NULL is fine */
/*
 * Adds FS, the caller's, to a session of many trees, all of one fs_common. On
 * the thread of the trees, or before the guest runs. 0 or -errno: -EINVAL for a
 * NAME that is none, -EEXIST, -E2BIG, -ENOMEM; -EOPNOTSUPP: the guest was told
 * that all trees honour ACLs, or that none changes, and FS is not like that.
 */
int fuse_add(struct fuse *f, const char *name, struct fs *fs);
/*
 * Takes FS away again, on the thread of the trees: the guest's nodes of it are
 * stale, and requests that wait for its locks are answered. The caller closes
 * it.
 */
void fuse_remove(struct fuse *f, const struct fs *fs);
/* Logs what the guest has asked for so far, with --log-level debug. */
void fuse_log_requests(const struct fuse *f, const char *what);
/* The guest is gone: forgets what it knew, had open and waits for. */
void fuse_reset(struct fuse *f);

/*
 * Saves or loads what the session and its guest know of each other, and each
 * tree of it (fs_visit()). On the thread of the trees, between two requests.
 */
void fuse_visit(struct fuse *f, struct visitor *v);

/*
 * Carries out the request in CHAIN and writes the answer there. How many bytes
 * that took (none for some requests), -EPROTO: not a request, or FUSE_LATER:
 * answered() will be called with TICKET. On the thread of the tree.
 */
#define FUSE_LATER INT64_MIN
int64_t fuse_handle(struct fuse *f, const struct iov_chain *chain,
		    uint32_t ticket);

/* Whether the guest has begun a session (FUSE_INIT), which it has not ended. */
bool fuse_is_mounted(const struct fuse *f);

/*
 * Whether anybody in the guest waits for the answer that fuse_handle() has just
 * written. Else it may be given to the guest later, along with others.
 */
bool fuse_is_awaited(const struct fuse *f);

/* Sees whether those who wait for the host may go on. */
void fuse_retry(struct fuse *f);
/* When that is due, by util_now_ns(); 0: nobody waits. */
uint64_t fuse_retry_at(const struct fuse *f);

#endif
