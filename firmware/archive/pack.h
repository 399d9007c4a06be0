/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file or a tree as a tar archive, while others may change it. Links below
 * the one that is named are never followed.
 */
#ifndef FIRMWARE_ARCHIVE_PACK_H
#define FIRMWARE_ARCHIVE_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pack_source {
	int root;         /* borrowed: where PATH begins */
	uint64_t resolve; /* RESOLVE_* for it, see openat2(2) */
	/*
	 * Its last name is the archive's first; that is "." for what ends with
	 * "/.", whose content is meant, or has no name, as "/".
	 */
	const char *path;
	bool follow; /* PATH, where it is a symbolic link */
};

/*
 * The archive's first name for PATH, of TAR_NAME_MAX bytes at most; true: PATH
 * must be a directory.
 */
bool pack_first_name(const char *path, char *ret, size_t room);

/*
 * Writes it to the descriptor OUT. Sockets are left out, and so is
 * what cannot be read, which the archive is complete without: -EIO then. 0 or
 * -errno, logged but for -EPIPE: nobody reads it any more.
 */
int pack_tree(const struct pack_source *source, int out);

#endif
