/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the files of disk images (block*.c), and included by no other file:
 * an image, its file, and what a format has to know.
 */
#ifndef DEVICES_HOST_BLOCK_PARTS_H
#define DEVICES_HOST_BLOCK_PARTS_H

#include "devices/host/block.h"

/*
 * A format: the meaning of an image's bytes. A new one is a file with this, and
 * a line in block.c. All functions are called by block.c only; what they return
 * is 0 or -errno unless they say otherwise.
 */
struct block_format {
	/*
	 * B's file is open and locked: fills b->info and what the format keeps,
	 * or refuses the image (logged, with PATH).
	 */
	int (*open)(struct block *b, const char *path,
		    const struct block_options *options);
	/* How many bytes the guest may see now. Errors are logged. */
	int (*look)(struct block *b, const char *path, uint64_t *ret_bytes);
	/* The calls of its requests, and those of block.c (BLOCK_CALLS). */
	const struct sandbox_rule *(*syscalls)(const struct block *b);
	/*
	 * Fills the request's iocb, if libaio can do it in one go and without
	 * blocking; true: it is to be submitted.
	 */
	bool (*prepare)(const struct block *b, struct block_request *request);
	/*
	 * True: done at once from the page cache, result in *RET. False: it has
	 * to wait; what it waits for has been started.
	 */
	bool (*run_cached)(struct block *b, const struct block_request *request,
			   int *ret);
	/*
	 * Does a request to its end; nothing is under way that writes may not
	 * overtake.
	 */
	int (*run)(struct block *b, const struct block_request *request);
};

/*
 * io_setup() is over by then; io_destroy() ends what is under way. lseek() is
 * block_look()'s, fstat() block_visit()'s.
 */
#define BLOCK_CALLS                                                            \
	SANDBOX_CALL(io_submit), SANDBOX_CALL(io_getevents),                   \
		SANDBOX_CALL(io_destroy), SANDBOX_CALL(lseek),                 \
		SANDBOX_CALL(fstat)

struct block {
	const struct block_format *format;
	char *path; /* owned; for messages */
	int fd;     /* owned, as are the next two */
	/*
	 * With O_DIRECT: the same file through the page cache, for what
	 * O_DIRECT cannot take, such as buffers at odd addresses.
	 */
	int cached_fd;
	int event_fd;
	io_context_t aio;
	bool has_aio;
	bool is_device;
	bool nowait;    /* the file system knows RWF_NOWAIT */
	uint32_t align; /* of offsets, lengths and addresses for O_DIRECT */
	struct block_info info;
	struct block_identity {
		uint64_t device, inode; /* 0, 0: a device, or not known */
		int64_t written_ns;     /* when the file was, last */
	} noted;                        /* before it was opened */

	unsigned depth, under_way;
	struct block_list {
		struct block_request *first, **end;
	} queued, finished;
	struct iocb **batch; /* owned, `depth` of them */
};

extern const struct block_format block_raw;

/* block-file.c */

/* Opens and locks the file at PATH as OPTIONS say. 0 or -errno (logged). */
int block_file_open(struct block *b, const char *path,
		    const struct block_options *options);
/* A file's or a device's size in bytes. 0 or -errno (logged). */
int block_file_size(const struct block *b, const char *path,
		    uint64_t *ret_bytes);
/* Which file it is, and when it was written to last. */
struct block_identity block_file_identity(const struct block *b);
/*
 * Notes that; and has the file look as noted, as far as this process may, after
 * what has changed its time but not its content.
 */
void block_file_note(struct block *b);
void block_file_unchanged(const struct block *b);

#endif
