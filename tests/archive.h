/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes tar archives and OCI layouts for tests, honest ones and others: it
 * checks nothing. Fails the test by abort() when the host does not help.
 */
#ifndef TESTS_ARCHIVE_H
#define TESTS_ARCHIVE_H

#include <stddef.h>
#include <stdint.h>

struct bytes {
	uint8_t *data; /* owned */
	size_t len;
	size_t room; /* of bytes_add(); less than LEN where others made DATA */
};

void bytes_add(struct bytes *b, const void *data, size_t len);
void bytes_free(struct bytes *b);
/* Allocated; by the usual tools' default settings. */
enum pack { PACK_NONE, PACK_GZIP, PACK_ZSTD, PACK_XZ, PACKS };
struct bytes bytes_pack(const struct bytes *b, enum pack pack);

/* ---- tar */

struct archive_file {
	char type; /* as in the header: '0', '2', ... */
	const char *path, *link;
	const char *content; /* of a file */
	unsigned mode, uid, gid, major, minor;
	uint64_t
		size; /* what the header says, if not 0 and not the content's */
};

/* A header that ends with a right checksum, and data. */
void tar_add(struct bytes *tar, const struct archive_file *file);
/* The same, in short. */
void tar_file(struct bytes *tar, const char *path, const char *content);
void tar_member(struct bytes *tar, const char *path,
		const struct bytes *content);
void tar_dir(struct bytes *tar, const char *path);
void tar_symlink(struct bytes *tar, const char *path, const char *target);
void tar_hardlink(struct bytes *tar, const char *path, const char *target);
/* An extended header with one record, for what follows. */
void tar_pax(struct bytes *tar, const char *key, const void *value, size_t len);
void tar_end(struct bytes *tar);

/* ---- OCI layouts and docker save */

#define LAYOUT_LAYERS 8

struct layout {
	const char *path; /* an existing directory; borrowed */
	char diff_id[LAYOUT_LAYERS][72];
	char digest[LAYOUT_LAYERS][72];
	size_t size[LAYOUT_LAYERS];
	unsigned nlayers;
};

/* Writes BLOB into the layout; its digest, "sha256:...". */
void layout_blob(const struct layout *layout, const struct bytes *blob,
		 char ret_digest[72]);
/* A layer: frees TAR after ending it. */
void layout_layer(struct layout *layout, struct bytes *tar, enum pack pack);
/* A layer that PACKED is said to unpack to. Frees nothing. */
void layout_packed(struct layout *layout, const struct bytes *tar,
		   const struct bytes *packed);
/* Configuration, manifest and index. CONFIG: of the process, JSON; NULL: {}. */
void layout_finish(struct layout *layout, const char *config, const char *ref);

/* A file below DIR, made with its directories. */
void write_below(const char *dir, const char *name, const void *data,
		 size_t len);

#endif
