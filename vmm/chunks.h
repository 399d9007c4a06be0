/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot's memory, compressed: pieces of CHUNK_BYTES that can each be read
 * without the others (zlib's deflate; one that does not get smaller is there as
 * it is), their index behind them, and a tail that ties all of it to its state.
 * A piece that is all zero is not there.
 *
 * All that is read is checked: the index when it is opened, a chunk when it is
 * read, so that damage is found where the guest meets it at the latest.
 */
#ifndef VMM_CHUNKS_H
#define VMM_CHUNKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHUNK_BYTES 16384

struct z_stream_s;

struct chunk {
	uint32_t number; /* the RAM's, from 0 on */
	uint32_t bytes;  /* in the file */
	uint32_t crc;    /* of the RAM's bytes */
};

/* A zeroed one is of a file that is not compressed. */
struct chunks {
	uint64_t memory_bytes; /* 0: not compressed */
	uint32_t count;
	struct chunk *chunk; /* owned; those that are there, in order */
	uint64_t *offset;    /* owned; where each of them begins in the file */
};

/*
 * Writes the RAM at FROM, a snapshot's file that is not compressed, compressed
 * on TO, an empty file. ID is the snapshot's. STOPS, with ARG, is asked again
 * and again; true ends it. 0, -EINTR (it did), or -errno; not logged.
 * *RET_BYTES: the file's.
 */
int chunks_write(int from, uint64_t memory_bytes, const uint8_t id[16], int to,
		 bool (*stops)(void *arg), void *arg, uint64_t *ret_bytes);

/*
 * Reads and checks the index of FD. 0; -EBADMSG: damaged or cut off; -ESTALE:
 * of another snapshot; or -errno; not logged. chunks_close() accepts what a
 * failed one left.
 */
int chunks_open(struct chunks *chunks, int fd, const uint8_t id[16],
		uint64_t memory_bytes);
/* One of its own, for another owner: 0 or -ENOMEM. */
int chunks_copy(struct chunks *to, const struct chunks *from);
void chunks_close(struct chunks *chunks);

/* The chunk NUMBER is the INDEXth. False: it is zero, or behind the RAM. */
bool chunks_find(const struct chunks *chunks, uint32_t number,
		 uint32_t *ret_index);
/* How much RAM the chunk NUMBER has: less than the others, if it is the last.
 */
size_t chunks_room(const struct chunks *chunks, uint32_t number);

/* One thread's, to read chunks with; nothing is allocated later. */
struct chunk_reader {
	struct z_stream_s *stream; /* owned */
	uint8_t *packed;           /* owned */
};

int chunk_reader_init(struct chunk_reader *reader);
/* Also of one that is zeroed. */
void chunk_reader_done(struct chunk_reader *reader);
/*
 * Reads the INDEXth chunk of FD to RAM, which has chunks_room(): 0; -EBADMSG:
 * damaged; or -errno; not logged.
 */
int chunk_read(struct chunk_reader *reader, const struct chunks *chunks, int fd,
	       uint32_t index, uint8_t *ram);

#endif
