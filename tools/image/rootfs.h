/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Root file systems of containers, and the store of unpacked images. An image
 * is unpacked once, under the digest of its configuration, and shared by all
 * runs. Knows no VM and no guest; fetches nothing.
 *
 * Images are hostile: whatever they say, nothing outside of the store is read,
 * written or removed, and digests are compared before anything is used.
 */
#ifndef TOOLS_IMAGE_ROOTFS_H
#define TOOLS_IMAGE_ROOTFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Limits of one unpacked image, where the options say nothing else. */
#define ROOTFS_MAX_BYTES (UINT64_C(32) << 30)
#define ROOTFS_MAX_FILES UINT64_C(2000000)

/* All zero is a good start. */
struct rootfs_options {
	const char *store;  /* directory; NULL: rootfs_store_path() */
	uint64_t max_bytes; /* 0: ROOTFS_MAX_BYTES */
	uint64_t max_files; /* 0: ROOTFS_MAX_FILES */
	/*
	 * The user's word for what the image is called from now on, whichever
	 * image was called so before. NULL: as the image says, unless another
	 * one is called so, which stays.
	 */
	const char *name;
};

/*
 * How the image wants its process to run; a plain directory says nothing. Lists
 * end with NULL and are never NULL; texts are NULL where nothing is said. They
 * are the image's word: free of NUL, otherwise any bytes of UTF-8, not checked.
 */
struct rootfs_config {
	char **entrypoint;
	char **cmd;
	char **env;     /* "NAME=value", usually */
	char **ports;   /* "80/tcp" */
	char **volumes; /* paths in the guest */
	char *workdir;
	char *user;        /* "name", "uid", "name:group", "uid:gid" */
	char *stop_signal; /* "SIGTERM", "15" */
};

struct rootfs {
	char *path;   /* the tree: absolute */
	char *name;   /* for `ps`: the image's name, else WHAT; safe to print */
	char *digest; /* "sha256:..." of the image; NULL: a plain directory */
	/*
	 * The tree's owners, modes and devices are in xattrs, to be shared with
	 * ownership=xattr: it belongs to an unprivileged user's store.
	 */
	bool owner_xattr;
	/* No file has xattrs besides: to be shared with xattrs=none. */
	bool no_xattrs;
	/* To be shared with submounts=false: mounts in it are not part of it.
	 */
	bool no_submounts;
	struct rootfs_config config;
	/*
	 * While a descriptor of this (a copy from dup() or fork() counts) is
	 * open, the image cannot be removed from the store. Close-on-exec. -1
	 * for a plain directory.
	 */
	int hold;
};

/*
 * WHAT is one of:
 *   a directory with an OCI layout (oci-layout, index.json), "DIR[:NAME]";
 *   an archive of such, or of `docker save`, "FILE.tar[.gz|.zst|.xz]
 *   [:NAME]";
 *   any other directory: the root itself, used in place;
 *   when no such file exists: an image of the store, by name or by digest (the
 *   start of it is enough);
 *   whatever files exist: an image of the store by its digest, where that is
 *   written as "sha256:...", "NAME@sha256:..." or as 12 digits or more.
 * A text that can be a digest is never looked for among the names. NAME chooses
 * among several images. An image that is not in the store yet is unpacked into
 * it; the tree must not be written to by anybody then.
 *
 * 0 with RET filled in, for rootfs_close(); or -errno, logged: -ENOENT (no such
 * thing), -EINVAL (not an image, or one that is damaged or malicious),
 * -ENOTSUP (an image of a kind that is not understood), -EFBIG (larger than the
 * options or the store's disk allow), -ENOSPC, and what the host says.
 */
int rootfs_open(const char *what, const struct rootfs_options *options,
		struct rootfs *ret);

/* Gives up the hold and frees. Also for a zeroed struct with hold = -1. */
void rootfs_close(struct rootfs *rootfs);

/*
 * The caller's store: $BULKHEAD_STORE; else /var/lib/bulkhead for root; else
 * $XDG_DATA_HOME/bulkhead or ~/.local/share/bulkhead. Allocated, or NULL when
 * there is no home. Creates nothing.
 */
char *rootfs_store_path(void);

/* An image of the store, as `bulkhead images` shows it. */
struct rootfs_image {
	char *digest; /* "sha256:..." */
	char **names; /* ends with NULL; may be empty */
	uint64_t bytes, files;
	int64_t unpacked; /* seconds since the epoch */
	bool used;        /* somebody holds it */
};

/*
 * The images of a store (NULL: the caller's), newest first; none when there is
 * no store. 0 or -errno, logged.
 */
int rootfs_list(const char *store, struct rootfs_image **ret_images,
		size_t *ret_count);
void rootfs_list_free(struct rootfs_image *images, size_t count);

/*
 * Removes an image, given by name or digest; by a name of several only that
 * name. 0; or -errno, logged: -ENOENT, -EBUSY (held), -ENOTUNIQ (a digest's
 * start that fits several).
 */
int rootfs_remove(const char *store, const char *name);

#endif
