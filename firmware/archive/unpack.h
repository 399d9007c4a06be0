/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unpacks an archive that somebody hostile may have made, into a directory in
 * which somebody hostile may have been. Where names go are `docker cp`'s rules.
 *
 * No name leads out of that directory, by "..", by links that were there or
 * that the archive brings, or by hard links. Nothing is written through: what
 * was there is removed and made anew. Device nodes are not made.
 */
#ifndef FIRMWARE_ARCHIVE_UNPACK_H
#define FIRMWARE_ARCHIVE_UNPACK_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

/* Where an archive goes. */
struct unpack_place {
	int dir;                 /* owned: the directory it is made in */
	bool into;               /* that is what was named */
	bool is_file;            /* what was named is there, and none */
	bool must_be;            /* a directory: its name ends with a slash */
	char name[NAME_MAX + 1]; /* the new one, where not into */
};

/*
 * Finds DEST, whose path begins at ROOT and is resolved with RESOLVE_* of
 * openat2(2). 0 or -errno, logged; the caller closes ret->dir.
 */
int unpack_find(int root, uint64_t resolve, const char *dest,
		struct unpack_place *ret);

struct unpack_options {
	/*
	 * The archive's names are kept, and links to directories that were
	 * there are followed, in the directory; else the first name is the
	 * place's to say, and nothing is followed.
	 */
	bool as_is;
	/*
	 * Where the place is a directory that was there: the first name that
	 * every entry must have, as whoever made the archive could otherwise
	 * name any file in it; borrowed. NULL: any.
	 */
	const char *first;
	bool owners;   /* each entry's own, else this process's */
	uint32_t mode; /* the bits of modes that are kept */
};

/*
 * Unpacks what comes from the descriptor IN_FD, and reads to its end. A
 * directory that was there keeps its attributes, unless there are owners. 0 or
 * -errno, logged but for -ENODATA: there was no entry.
 */
int unpack_archive(const struct unpack_place *place,
		   const struct unpack_options *options, int in_fd);

#endif
