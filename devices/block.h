/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disk images: asynchronous reads and writes of a raw file or block device
 * through libaio. Knows no guest.
 */
#ifndef DEVICES_BLOCK_H
#define DEVICES_BLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct block;

enum block_op {
	BLOCK_READ,
	BLOCK_WRITE,
	BLOCK_FLUSH,
	BLOCK_DISCARD,      /* offset, bytes: content becomes undefined */
	BLOCK_WRITE_ZEROES, /* offset, bytes; `unmap`: may deallocate */
};

/* One request, embedded in its owner, who keeps it until it is done. */
struct block_request {
	enum block_op op;
	uint64_t offset, bytes;
	struct iovec *iov; /* BLOCK_READ, BLOCK_WRITE; borrowed until done */
	unsigned niov;
	bool unmap;
	/* 0 or -errno; a short transfer is -EIO. Called by block_reap(). */
	void (*done)(struct block_request *request, int result);
	/* private to block.c */
	uint64_t private_[12];
};

struct block_options {
	bool readonly;
	bool direct;    /* O_DIRECT */
	unsigned depth; /* requests under way at most */
};

struct block_info {
	uint64_t bytes;       /* a multiple of 512; a tail is cut off */
	uint32_t block_bytes; /* preferred (and, if direct, needed) unit */
	bool readonly;
	bool can_discard;
	bool can_write_zeroes;
};

/*
 * Opens the image at PATH and locks it (shared if read-only, else exclusive:
 * two writers destroy a file system). 0 or -errno, logged with PATH.
 */
int block_open(const char *path, const struct block_options *options,
	       struct block **ret_block);
void block_close(struct block *block); /* NULL is fine; nothing under way */
void block_info(const struct block *block, struct block_info *ret_info);

/*
 * Queues requests; block_submit() hands all of them to the kernel at once. The
 * range must be within the image (the caller checked). A failed one is done
 * with its error at the next block_reap().
 */
void block_queue(struct block *block, struct block_request *request);
void block_submit(struct block *block);
/* Readable when block_reap() has something to do. Borrowed. */
int block_event_fd(const struct block *block);
/* Calls done() of every finished request; how many there were. */
unsigned block_reap(struct block *block);
/* Waits until nothing is under way; done() of each is called. */
void block_drain(struct block *block);

#endif
