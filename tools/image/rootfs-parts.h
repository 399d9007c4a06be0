/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the files of the image store; all others include
 * tools/image/rootfs.h. The way of an image, one file each:
 *
 *   source   a layout's directory, or an archive's members: names -> blobs
 *   meta     index, manifest, configuration (JSON): which blobs are layers
 *   inflate  gzip, zstd, xz (inflate.h)
 *   stream   a blob's bytes: inflated, hashed, counted
 *   walls    a process that can write in one directory only (walls.h)
 *   unpack   layers -> a tree, contained in its directory
 *   store    where trees are kept: locks, names, removal
 *   tree     removing trees, sets of inodes
 *   name     what is a name, and what a digest
 */
#ifndef TOOLS_IMAGE_ROOTFS_PARTS_H
#define TOOLS_IMAGE_ROOTFS_PARTS_H

#include "tools/image/inflate.h"
#include "tools/image/rootfs.h"
#include "tools/image/sha256.h"
#include "tools/image/walls.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct tar_entry;

#define IMAGE_JSON_MAX   (4u << 20) /* an index, manifest or configuration */
#define IMAGE_LAYERS_MAX 512
#define IMAGE_NAME_MAX   255
#define IMAGE_DIGEST_MAX (7 + SHA256_HEX) /* "sha256:", 64 digits, NUL */

/* ---- rootfs-stream.c */

/* A part of an open file; the descriptor is borrowed. */
struct blob {
	int fd;
	uint64_t offset, bytes;
};

/* The space that an image may still use. */
struct budget {
	uint64_t bytes, files;
	uint64_t max_bytes; /* as it was: for the message */
	bool disk;          /* it is the disk's space, not the limit */
};

struct stream;

/* NAME begins messages; borrowed like all else. Logs. NULL: no memory. */
struct stream *stream_open(const char *name, const struct blob *blob,
			   struct budget *budget);
void stream_close(struct stream *stream);

/*
 * Up to LEN bytes of what the blob inflates to (itself, unless it is packed); 0
 * at the end; or -errno, logged. For struct tar_input.
 */
ssize_t stream_read(void *stream, void *buf, size_t len);

/*
 * Reads what is left, and gives the digests of the blob as it is and as it
 * inflates ("sha256:..."). 0 or -errno, logged.
 */
int stream_finish(struct stream *stream, char ret_blob[IMAGE_DIGEST_MAX],
		  char ret_plain[IMAGE_DIGEST_MAX]);

/* ---- rootfs-source.c */

struct source {
	const char *path; /* for messages; borrowed */
	int dir;          /* a layout's directory, or -1 */
	int file;         /* an archive, or -1; not packed any more */
	struct member *members;
	size_t nmembers;
};

/* FD, which becomes the source's, is a directory or a tar archive. */
int source_open(struct source *src, const char *path, int fd);
void source_close(struct source *src);

/*
 * Finds NAME, a path relative to the source. *RET_FD is one to be closed when
 * the blob is no longer needed, or -1. 0, -ENOENT (not logged), or -errno.
 */
int source_find(const struct source *src, const char *name,
		struct blob *ret_blob, int *ret_fd);

/* The text of a small file, allocated. As above; -EINVAL: it is too large. */
int source_text(const struct source *src, const char *name, char **ret_text,
		size_t *ret_len);

/* ---- rootfs-meta.c, rootfs-config.c */

struct layer {
	char *member;                   /* where the source has it */
	char digest[IMAGE_DIGEST_MAX];  /* of it; "": not told */
	char diff_id[IMAGE_DIGEST_MAX]; /* of what it inflates to */
	int64_t bytes;                  /* of it; -1: not told */
};

struct meta {
	char digest[IMAGE_DIGEST_MAX]; /* of the configuration: the image's */
	char *name;                    /* safe to print; NULL: it has none */
	char *config_text;
	size_t config_len;
	struct rootfs_config config;
	struct layer *layers;
	unsigned nlayers;
};

/*
 * Reads what SRC says of the image called NAME (NULL: the only one) up to its
 * layers, which are not looked for. 0 or -errno, logged.
 */
int meta_read(const struct source *src, const char *name, struct meta *ret);
void meta_done(struct meta *meta);

/*
 * Reads a configuration. RET_LAYERS may be NULL; else they get their diff_id,
 * allocated. 0 or -errno, logged.
 */
int config_parse(const char *path, const char *text, size_t len,
		 struct rootfs_config *ret, struct layer **ret_layers,
		 unsigned *ret_nlayers);
/* Empty lists. False: no memory. */
bool config_empty(struct rootfs_config *config);
void rootfs_config_done(struct rootfs_config *config);

/* ---- rootfs-name.c */

/* True for "sha256:" and 64 lower-case hexadecimal digits. */
bool digest_valid(const char *text);

/*
 * The digits of a digest, or the first of them, where TEXT means an image by
 * its digest: "sha256:DIGITS", "NAME@sha256:DIGITS", or 4 to 64 digits alone.
 * "" where it means one that cannot be. NULL: it is a name.
 */
const char *name_digits(const char *text);

/*
 * True where TEXT means a digest even if there is a file of that name: one with
 * "sha256:", or as many digits alone as `images` shows.
 */
bool name_is_digest(const char *text);

/*
 * An image's name as it is kept: without docker.io/library/, with a tag. False
 * when it has other characters than names have, or could be taken for a digest.
 */
bool name_normalize(const char *text, char ret_name[IMAGE_NAME_MAX + 1]);

/* True for what name_normalize() gives. */
bool name_is_normal(const char *text);

/* ---- rootfs-unpack.c, rootfs-entry.c */

struct unpacked {
	uint64_t bytes, files;
	bool has_xattrs; /* for the guest to see */
};

/*
 * Unpacks the layers into the empty directory TREE, in a process of its own
 * that can write nowhere else. 0 or -errno, logged; -EINTR: a signal is
 * pending.
 */
int unpack(const struct source *src, const struct meta *meta, int tree,
	   bool owner_xattr, const struct budget *budget, struct unpacked *ret);

/* One layer's entries; see rootfs-entry.c. */
struct tree {
	const char *name; /* begins messages */
	int root;
	bool owner_xattr;
	struct inodes *made; /* by this layer */
	uint64_t devices;    /* left out */
	uint64_t files;      /* how many more there may be */
	bool has_xattrs;     /* for the guest to see */
	char *parent;        /* path of the directory open as parent_fd */
	int parent_fd;
	struct timespec parent_times[2];
	char *buf; /* of TREE_BUF_BYTES, to copy with */
};
#define TREE_BUF_BYTES (256u << 10)

struct tar;

/* The root, before a layer says what it is: of root, for all to read. */
int tree_start(struct tree *tree);
/* One more file or directory, if the limit allows. 0 or -EFBIG, logged. */
int tree_count(struct tree *tree);
/* Applies the archive's current entry to the tree. 0 or -errno, logged. */
int tree_apply(struct tree *tree, struct tar *tar);
/* Gives a directory back the times it had before entries were made in it. */
void tree_leave_parent(struct tree *tree);

/* ---- rootfs-tree.c */

/*
 * openat2() with O_CLOEXEC and no magic links besides RESOLVE (RESOLVE_BENEATH:
 * nothing may lead out; RESOLVE_IN_ROOT: DIR is the root). A descriptor or
 * -errno, not logged.
 */
int tree_open(int dir, const char *path, uint64_t flags, uint64_t resolve);

/*
 * Removes NAME in the directory DIR, with all that is in it: not recursive, on
 * any depth, through no symlink and into no mount. 0 (also when there is none)
 * or -errno, not logged.
 */
int tree_remove(int dir, const char *name);

/* A set of inodes of one file system. */
struct inodes *inodes_new(void);
void inodes_free(struct inodes *set);
bool inodes_add(struct inodes *set, ino_t ino); /* false: no memory */
bool inodes_has(const struct inodes *set, ino_t ino);

/* ---- rootfs-store.c */

struct store {
	char *path; /* of the store's images; absolute */
	int dir;    /* the same, open */
	int lock;   /* locked while something is entered or taken out */
	bool owner_xattr;
};

/*
 * Opens the store at PATH (NULL: the caller's). -ENOENT, not logged, when there
 * is none and CREATE is false; else 0 or -errno, logged.
 */
int store_open(struct store *store, const char *path, bool create);
void store_close(struct store *store);

/* One image of the store, held. */
struct stored {
	char id[SHA256_HEX];
	int dir;
	int hold;
	sigset_t mask; /* of a new one: to be restored at its end */
};
void stored_close(struct stored *image);

/* Writes what is known of a new image. 0 or -errno, logged. */
int record_create(const struct store *store, const struct stored *image,
		  const struct meta *meta, const struct unpacked *unpacked);

/*
 * Finds and holds an image by its digest, or enters a new one: *RET_NEW says
 * that RET->dir is to be filled, and nobody else sees it before store_commit(),
 * before which record_create() has written what is known of it. store_abort()
 * undoes. Until either is done unpack_signals() are blocked, so that they leave
 * nothing half done. 0 or -errno, logged; after a failed commit, too, abort.
 */
int store_enter(struct store *store, const char *digest, struct stored *ret,
		bool *ret_new);
int store_commit(struct store *store, struct stored *image);
void store_abort(struct store *store, struct stored *image);

/*
 * An empty directory without a name: nothing can be made in it. A descriptor or
 * -errno, logged.
 */
int store_nowhere(struct store *store);

/* By name or start of the digest. -ENOENT is not logged. */
int store_find(struct store *store, const char *name, struct stored *ret);

/*
 * The image gets another name, a normal one. Where it is another image's, that
 * one loses it (MOVE), or it is -EEXIST, not logged. Else 0 or -errno, logged.
 */
int store_name(struct store *store, const struct stored *image,
	       const char *name, bool move);

/*
 * An archive that has to be inflated to be read is remembered by KEY (64
 * digits), so that it is not inflated again. -ENOENT is not logged.
 */
int store_recall(struct store *store, const char *key, struct stored *ret);
void store_remember(struct store *store, const struct stored *image,
		    const char *key);

/* False: no file of its tree has xattrs for the guest to see. */
bool stored_has_xattrs(const struct stored *image);
/* A stored image's configuration, and its first name or NULL. */
int stored_read(const struct store *store, const struct stored *image,
		struct rootfs_config *ret_config, char **ret_name);

#endif
