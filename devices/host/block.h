/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disk images: reads and writes of a raw file or block device, without a thread
 * per request. Knows no guest.
 *
 * With O_DIRECT requests are under way in the kernel through libaio. Through
 * the page cache, where libaio would do the work inside io_submit() anyway,
 * block_submit() copies what is cached at once and starts the disk's work on
 * everything else before it waits for the first of it. All calls for one image
 * come from one thread at a time.
 */
#ifndef DEVICES_HOST_BLOCK_H
#define DEVICES_HOST_BLOCK_H

#include <libaio.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct block;
struct sandbox_rule;
struct visitor;

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
	bool durable; /* BLOCK_WRITE: done only when on stable storage */
	/* 0 or -errno; a short transfer is -EIO. Called by block_reap(). */
	void (*done)(struct block_request *request, int result);
	/* private to block.c */
	struct iocb aio;
	struct block_request *next;
	int result;
};

struct block_options {
	bool readonly;
	bool direct;    /* O_DIRECT */
	bool raw;       /* really raw, even if it looks like another format */
	unsigned depth; /* requests under way at most */
};

struct block_info {
	uint64_t bytes;          /* a multiple of 512; a tail is cut off */
	uint32_t block_bytes;    /* logical block: smallest sensible unit */
	uint32_t physical_bytes; /* smaller writes are read-modify-write */
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
 * Looks for the image's size anew, and puts it into its info. 1 if it changed,
 * 0 if not or if it cannot be told (logged). Any thread, if no other one looks
 * at the info meanwhile.
 */
int block_look(struct block *block);
/*
 * The state of an image with nothing under way: none of its content, but by
 * what it is found out, when it is loaded, that this is not what it was. It has
 * to have the same size and be as writable. If it is still the same file, it
 * must not have been written to since: the guest's memory would be older than
 * its disk. Any other file is taken for a copy.
 */
void block_visit(struct block *block, struct visitor *v);
/* The system calls that its requests take (vmm/base/sandbox.h). */
const struct sandbox_rule *block_syscalls(const struct block *block);

/*
 * Queues requests, at most options.depth until they are done; block_submit()
 * starts all of them at once. The range must be within the image, a multiple of
 * 512 (the caller checked). block_submit() returns true when some are done
 * already: block_reap() is due now, the event descriptor will not tell.
 */
void block_queue(struct block *block, struct block_request *request);
bool block_submit(struct block *block);
/* Readable when more became done after block_submit(). Borrowed. */
int block_event_fd(const struct block *block);
/* Calls done() of every finished request; how many there were. */
unsigned block_reap(struct block *block);
/* Waits until nothing is queued or under way; done() of each is called. */
void block_drain(struct block *block);

#endif
