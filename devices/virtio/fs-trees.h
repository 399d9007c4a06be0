/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trees of a file system device that come and go while its guest runs: a
 * program of this host connects to a Unix socket (SOCK_STREAM) and sends
 * requests, each with the descriptor of a directory; each is answered before
 * the next one is sent. They are the device's as long as the connection is
 * open.
 */
#ifndef DEVICES_VIRTIO_FS_TREES_H
#define DEVICES_VIRTIO_FS_TREES_H

#include "vmm/base/sandbox.h"

#include <assert.h>
#include <stdint.h>

struct config_device;
struct fs_options;
struct fuse;
struct virtio_dev;

#define FS_TREES_MAGIC 0x31544842u /* "BHT1" */
#define FS_TREES_TEXT  256         /* with its NUL */
/* Unless the configuration says how many. */
#define FS_TREES_DEFAULT 64

enum {
	FS_TREES_READONLY = 1,
	/*
	 * No other mount is in the directory: with the same one that is the
	 * device's already, the guest has one tree of both, and one cache.
	 */
	FS_TREES_ALONE = 2,
	FS_TREES_FLAGS = 3,
};

/* Numbers are this host's. */
struct fs_trees_request {
	uint32_t magic;
	uint32_t flags;
	char what[FS_TREES_TEXT]; /* for messages */
	char only[FS_TREES_TEXT]; /* this one file of it; "": all */
};
static_assert(sizeof(struct fs_trees_request) == 8 + 2 * FS_TREES_TEXT,
	      "nothing between");

struct fs_trees_answer {
	int32_t error; /* -errno, or 0 */
	char name[16]; /* of the tree, for the guest */
};

/* ---- for virtio-fs.c; one thread at a time, with the device's lock */

struct fs_trees;

/* The device's thread makes these calls besides. */
extern const struct sandbox_rule fs_trees_syscalls[];

/*
 * Listens on PATH for up to MOST trees of D, which are opened by OPTIONS, the
 * caller's. 0 or -errno, logged.
 */
int fs_trees_open(struct virtio_dev *d, const char *path, unsigned most,
		  const struct fs_options *options, struct fs_trees **ret);
/* To which they are added, before the first one comes. */
void fs_trees_set_session(struct fs_trees *t, struct fuse *fuse);
/* Takes those away whose connections have ended during a pause. */
void fs_trees_sweep(struct fs_trees *t);
/* Leaves the socket's file. After fuse_free(). NULL is fine. */
void fs_trees_close(struct fs_trees *t);

#endif
