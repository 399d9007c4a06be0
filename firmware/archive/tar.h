/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads tar archives: ustar, pax and GNU's long names and numbers. Reads from
 * front to back and keeps one entry; writes no file and trusts no name.
 */
#ifndef FIRMWARE_ARCHIVE_TAR_H
#define FIRMWARE_ARCHIVE_TAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

/* Longer names than the kernel takes are refused. */
#define TAR_NAME_MAX   4095
#define TAR_XATTRS_MAX 64

enum tar_type {
	TAR_FILE,
	TAR_LINK, /* a hard link */
	TAR_SYMLINK,
	TAR_DIR,
	TAR_CHAR,
	TAR_BLOCK,
	TAR_FIFO,
};

struct tar_xattr {
	const char *name;
	const void *value;
	size_t bytes;
};

/*
 * Names are as they are in the archive: not empty, without NUL, but absolute or
 * full of ".." if it pleases the author. Valid until the next tar_next().
 */
struct tar_entry {
	enum tar_type type;
	const char *path;
	const char *link; /* of a link or symlink; else NULL */
	uint64_t bytes;   /* of a file; else 0 */
	uint32_t mode;    /* 07777 at most */
	uint32_t uid, gid;
	uint32_t major, minor;
	struct timespec mtime;
	const struct tar_xattr *xattrs;
	unsigned nxattrs;
};

struct tar_input {
	const char *name; /* begins every message */
	void *arg;
	/* Up to LEN bytes; 0 at the end; or -errno, logged. */
	ssize_t (*read)(void *arg, void *buf, size_t len);
	/* Passes over LEN bytes, all or -errno, logged. NULL: they are read. */
	int (*skip)(void *arg, uint64_t len);
};

struct tar {
	struct tar_input in; /* borrowed */
	struct tar_entry entry;
	uint64_t left;    /* bytes of the entry's data that were not read */
	unsigned padding; /* behind them */
	uint64_t number;  /* of headers read, for messages */
	/* From extended headers, for the entry that follows; owned. */
	char *path, *link, *pax;
	int64_t size, uid, gid; /* -1: not given */
	struct timespec mtime;
	bool has_mtime;
	struct tar_xattr xattr[TAR_XATTRS_MAX];
};

void tar_init(struct tar *tar, const struct tar_input *in);
void tar_done(struct tar *tar);

/*
 * Goes to the next entry: 1, tar->entry is filled in; 0 at the archive's end
 * (after it there may be more input, which is not an archive's); or -errno,
 * logged: -EINVAL damaged, -ENOTSUP of a kind that is not understood.
 */
int tar_next(struct tar *tar);

/* The entry's data: up to LEN bytes, 0 at its end, or -errno, logged. */
ssize_t tar_read(struct tar *tar, void *buf, size_t len);

#endif
