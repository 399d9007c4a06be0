/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The FUSE protocol (<linux/fuse.h>, version 7.38) between a guest's kernel and
 * a shared tree (fs.h). Knows no virtqueue: a request is a chain of buffers in
 * guest memory, and what is in them is not trusted.
 */
#ifndef DEVICES_FUSE_H
#define DEVICES_FUSE_H

#include "devices/vq.h"

#include <stdint.h>

struct fs;
struct fuse;

/* How long the guest may believe what it has read. */
enum fuse_cache {
	FUSE_CACHE_AUTO,   /* a second; data until the file changes */
	FUSE_CACHE_ALWAYS, /* for ever: nobody else writes */
	FUSE_CACHE_NEVER,
};

/* Buffers of one request: headers, arguments, FUSE_DATA_PAGES of data. */
#define FUSE_IOV        512
#define FUSE_DATA_PAGES 256

struct fuse *fuse_new(struct fs *fs, enum fuse_cache cache); /* or NULL */
void fuse_free(struct fuse *f); /* NULL is fine; FS is the caller's */
/* The guest is gone: forgets what it knew and had open. */
void fuse_reset(struct fuse *f);

/*
 * Carries out the request in CHAIN and writes the answer there. How many bytes
 * that took (none for some requests), or -EPROTO: not a request. On the thread
 * of the tree.
 */
int64_t fuse_handle(struct fuse *f, const struct vq_chain *chain);

#endif
