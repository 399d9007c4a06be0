/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine that stands still, as a directory of two files. "state" has its
 * configuration and the state of all parts (visit.h) behind a head with a
 * checksum; "memory" is the RAM, byte for byte, with holes where it is zero,
 * and one page that ties it to its state; or the same compressed (chunks.h).
 * Both are written once and then only read: any number of machines can start
 * from them at the same time.
 *
 * A memory page is read when the guest touches it, so a damaged one is found by
 * snapshot_verify() alone, which reads all of them; in a compressed file, also
 * when the guest touches it.
 */
#ifndef VMM_SNAPSHOT_H
#define VMM_SNAPSHOT_H

#include "vmm/chunks.h"
#include "vmm/working-set.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mem;

#define SNAPSHOT_STATE_FILE  "state"
#define SNAPSHOT_MEMORY_FILE "memory"
/* A container's tools write and read it: how the instance was started. */
#define SNAPSHOT_INSTANCE_FILE "instance.json"
#define SNAPSHOT_ID_BYTES      16

struct snapshot {
	uint8_t id[SNAPSHOT_ID_BYTES]; /* in both files; random */
	uint64_t saved_ns;             /* when, since 1970 */
	uint64_t memory_bytes;
	uint64_t memory_sum; /* of all that is not zero; see snapshot.c */
	/* Being written: the file has the RAM of another one, with its sum. */
	bool has_base;
	char *name;      /* owned: of the memory's file, for messages */
	char *config;    /* owned; JSON, as config_write_json() has it */
	char *directory; /* owned; its relative paths begin there */
	uint8_t *state;  /* owned; what the visitor saved */
	size_t state_bytes;
	int memory_fd;                  /* owned; -1 */
	bool compressed;                /* the memory's file; see chunks.h */
	struct chunks chunks;           /* owned: its index */
	struct working_set working_set; /* owned; see working_set_open() */
	/* The caller's: the socket of a process that has the memory; or NULL.
	 */
	const char *memory_server;
	/* The caller's: the guest's clocks count the time since saved_ns. */
	bool catches_up;
};

/*
 * Opens what is in the directory PATH and checks all but the memory's content.
 * 0, or -errno, logged; snapshot_close() accepts what a failed one left.
 */
int snapshot_open(struct snapshot *snapshot, const char *path);
/* The same of its state alone: a memory's file need not be there. */
int snapshot_open_state(struct snapshot *snapshot, const char *path);
void snapshot_close(struct snapshot *snapshot);
/*
 * The same from files that are open and may have no name: NAME is for messages.
 * MEMORY_FD is the snapshot's from here on, also where this fails.
 */
int snapshot_take(struct snapshot *snapshot, const char *name, int state_fd,
		  int memory_fd);

/* Whether RAM can be a private mapping of its file. */
static inline bool snapshot_is_mapped(const struct snapshot *snapshot)
{
	return !snapshot->memory_server && !snapshot->compressed;
}

/* Reads all of the memory: 0; -EBADMSG: it is damaged; -errno; logged. */
int snapshot_verify(const struct snapshot *snapshot);

/*
 * Copies the RAM in BASE's file to FD, an empty file; the two share their
 * blocks where the file system can (reflink). STOPS as below. 0, -EINTR, or
 * -errno; not logged.
 */
int snapshot_copy_memory(const struct snapshot *base, int fd,
			 bool (*stops)(void *arg), void *arg);

/*
 * Writes the memory of SNAPSHOT, which is not compressed, compressed on FD, an
 * empty file; SNAPSHOT is what snapshot_write_state() has to write then. STOPS
 * as below. 0, -EINTR, or -errno; not logged. *RET_BYTES: the file's.
 */
int snapshot_compress(struct snapshot *snapshot, int fd,
		      bool (*stops)(void *arg), void *arg, uint64_t *ret_bytes);

/*
 * Writes the pages of MEM that are not zero, and the last page, on FD, which is
 * an empty file; the guest stands still. Fills in memory_bytes and memory_sum.
 * PAGEMAP_FD is this process's /proc/self/pagemap, or -1, and FILE_FD the file
 * that MEM is mapped from, or -1: pages that nobody has touched, and that have
 * no data there, are not read, which would cost the host a fault for each.
 *
 * Where SNAPSHOT has a base, MEM is mapped privately from a file of the same
 * content as FD (one that its machine was started from, or was saved in), and
 * memory_sum is of that: only pages of MEM that have changed since are read, by
 * PAGEMAP_FD, which has to be there. STOPS, with ARG, is asked again and again;
 * true ends it. 0, -EINTR (it did), or -errno; not logged. *RET_WRITTEN: bytes
 * of RAM in the file.
 */
int snapshot_write_memory(struct snapshot *snapshot, int fd,
			  const struct mem *mem, int pagemap_fd, int file_fd,
			  bool (*stops)(void *arg), void *arg,
			  uint64_t *ret_written);
/*
 * Writes all the rest on FD, an empty file, or one of its own that was as
 * large. 0 or -errno, not logged.
 */
int snapshot_write_state(const struct snapshot *snapshot, int fd);

#endif
