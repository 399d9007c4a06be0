/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file: chunks one after the other, the index, the tail. Numbers are
 * little-endian, as in memory. Where a chunk begins follows from the lengths of
 * those before it, so that no two of them overlap whatever the index says.
 */
#include "vmm/chunks.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#define VERSION 1
/* The fastest: level 6 takes half as long again for 7 % less. */
#define LEVEL  1
#define WINDOW (-15) /* deflate alone: the index has the checksum */

static const char magic[8] = "BULKPACK";

struct tail {
	char magic[8];
	uint8_t id[16];
	uint64_t memory_bytes;
	uint32_t version, chunk_bytes, count;
	uint32_t index_crc;
	uint32_t zero;
	uint32_t crc; /* of all before it */
};

static uint32_t sum_up(const void *data, size_t bytes)
{
	return (uint32_t)crc32_z(0, data, bytes);
}

static bool is_zero(const uint8_t *data, size_t bytes)
{
	return data[0] == 0 && memcmp(data, data + 1, bytes - 1) == 0;
}

size_t chunks_room(const struct chunks *chunks, uint32_t number)
{
	return (size_t)min_u64(CHUNK_BYTES,
			       chunks->memory_bytes -
				       (uint64_t)number * CHUNK_BYTES);
}

static uint64_t count_all(uint64_t memory_bytes)
{
	return (memory_bytes + CHUNK_BYTES - 1) / CHUNK_BYTES;
}

/* ---- writing */

struct writer {
	z_stream stream;
	uint8_t *ram, *packed; /* CHUNK_BYTES each */
	struct chunk *chunk;
	uint32_t count, room;
	int from, to;
	uint64_t offset;
};

static int init_writer(struct writer *w)
{
	w->ram = malloc(CHUNK_BYTES);
	w->packed = malloc(CHUNK_BYTES);
	return w->ram && w->packed &&
			       deflateInit2(&w->stream, LEVEL, Z_DEFLATED,
					    WINDOW, 8,
					    Z_DEFAULT_STRATEGY) == Z_OK
		       ? 0
		       : -ENOMEM;
}

static void done_writer(struct writer *w)
{
	(void)deflateEnd(&w->stream);
	free(w->ram);
	free(w->packed);
	free(w->chunk);
}

/* Compresses BYTES of w->ram: *RET_DATA is what has to be written. */
static uint32_t pack(struct writer *w, size_t bytes, const uint8_t **ret_data)
{
	(void)deflateReset(&w->stream);
	w->stream.next_in = w->ram;
	w->stream.avail_in = (uInt)bytes;
	w->stream.next_out = w->packed;
	/* As many bytes as the chunk has mean that it is not compressed. */
	w->stream.avail_out = (uInt)bytes - 1;
	if (deflate(&w->stream, Z_FINISH) == Z_STREAM_END) {
		*ret_data = w->packed;
		return (uint32_t)w->stream.total_out;
	}
	*ret_data = w->ram;
	return (uint32_t)bytes;
}

static int add_chunk(struct writer *w, const struct chunk *chunk)
{
	if (w->count == w->room) {
		const uint32_t room = w->room ? 2 * w->room : 1024;
		struct chunk *more =
			reallocarray(w->chunk, room, sizeof(*more));

		if (!more)
			return -ENOMEM;
		w->chunk = more;
		w->room = room;
	}
	w->chunk[w->count++] = *chunk;
	return 0;
}

static int write_chunk(struct writer *w, uint64_t at, size_t bytes)
{
	struct chunk chunk = {.number = (uint32_t)(at / CHUNK_BYTES)};
	const uint8_t *data;
	int r = util_read_at(w->from, w->ram, bytes, at);

	if (r < 0 || is_zero(w->ram, bytes))
		return r;
	chunk.crc = sum_up(w->ram, bytes);
	chunk.bytes = pack(w, bytes, &data);
	r = add_chunk(w, &chunk);
	if (r == 0)
		r = util_write_at(w->to, data, chunk.bytes, w->offset);
	w->offset += chunk.bytes;
	return r;
}

/* Behind the hole at AT, if there is one; a multiple of CHUNK_BYTES. */
static uint64_t skip_hole(const struct writer *w, uint64_t at)
{
	const off_t data = lseek(w->from, (off_t)at, SEEK_DATA);

	return data < 0 ? at : align_down((uint64_t)data, CHUNK_BYTES);
}

static int write_end(struct writer *w, uint64_t memory_bytes,
		     const uint8_t id[16])
{
	const size_t bytes = sizeof(*w->chunk) * w->count;
	struct tail tail = {
		.memory_bytes = memory_bytes,
		.version = VERSION,
		.chunk_bytes = CHUNK_BYTES,
		.count = w->count,
		.index_crc = sum_up(w->chunk, bytes),
	};
	int r = util_write_at(w->to, w->chunk, bytes, w->offset);

	memcpy(tail.magic, magic, sizeof(magic));
	memcpy(tail.id, id, sizeof(tail.id));
	tail.crc = sum_up(&tail, offsetof(struct tail, crc));
	w->offset += bytes;
	if (r == 0)
		r = util_write_at(w->to, &tail, sizeof(tail), w->offset);
	w->offset += sizeof(tail);
	return r;
}

int chunks_write(int from, uint64_t memory_bytes, const uint8_t id[16], int to,
		 bool (*stops)(void *arg), void *arg, uint64_t *ret_bytes)
{
	struct writer w = {.from = from, .to = to};
	int r = init_writer(&w);
	uint64_t at = 0;

	for (; r == 0 && at < memory_bytes; at += CHUNK_BYTES) {
		at = skip_hole(&w, at);
		if (at < memory_bytes)
			r = stops(arg)
				    ? -EINTR
				    : write_chunk(&w, at,
						  min_u64(CHUNK_BYTES,
							  memory_bytes - at));
	}
	if (r == 0)
		r = write_end(&w, memory_bytes, id);
	*ret_bytes = w.offset;
	done_writer(&w);
	return r;
}

/* ---- opening */

static int check_tail(const struct tail *tail, const uint8_t id[16],
		      uint64_t memory_bytes)
{
	if (memcmp(tail->magic, magic, sizeof(magic)) ||
	    tail->crc != sum_up(tail, offsetof(struct tail, crc)))
		return -EBADMSG;
	if (memcmp(tail->id, id, sizeof(tail->id)) ||
	    tail->memory_bytes != memory_bytes)
		return -ESTALE;
	return tail->version == VERSION && tail->chunk_bytes == CHUNK_BYTES &&
			       tail->count <= count_all(memory_bytes)
		       ? 0
		       : -EBADMSG;
}

/* Where each begins; in order, with a possible length, up to END. */
static int place_chunks(struct chunks *chunks, uint64_t end)
{
	uint64_t offset = 0, next = 0;

	for (uint32_t i = 0; i < chunks->count; i++) {
		const struct chunk *chunk = &chunks->chunk[i];

		if (chunk->number < next ||
		    chunk->number >= count_all(chunks->memory_bytes) ||
		    chunk->bytes == 0 ||
		    chunk->bytes > chunks_room(chunks, chunk->number))
			return -EBADMSG;
		next = (uint64_t)chunk->number + 1;
		chunks->offset[i] = offset;
		offset += chunk->bytes;
	}
	return offset == end ? 0 : -EBADMSG;
}

int chunks_open(struct chunks *chunks, int fd, const uint8_t id[16],
		uint64_t memory_bytes)
{
	uint64_t at, bytes;
	struct tail tail;
	struct stat st;
	int r;

	*chunks = (struct chunks){.memory_bytes = memory_bytes};
	if (fstat(fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size < sizeof(tail))
		return -EBADMSG;
	at = (uint64_t)st.st_size - sizeof(tail);
	r = util_read_at(fd, &tail, sizeof(tail), at);
	if (r == 0)
		r = check_tail(&tail, id, memory_bytes);
	bytes = sizeof(struct chunk) * (uint64_t)tail.count;
	if (r < 0 || bytes > at)
		return r < 0 ? r : -EBADMSG;
	chunks->chunk = malloc(bytes + 1);
	chunks->offset = calloc(tail.count + 1, sizeof(*chunks->offset));
	if (!chunks->chunk || !chunks->offset)
		return -ENOMEM;
	chunks->count = tail.count;
	r = util_read_at(fd, chunks->chunk, bytes, at - bytes);
	if (r == 0 && sum_up(chunks->chunk, bytes) != tail.index_crc)
		r = -EBADMSG;
	return r < 0 ? r : place_chunks(chunks, at - bytes);
}

int chunks_copy(struct chunks *to, const struct chunks *from)
{
	const size_t chunks = sizeof(*to->chunk) * from->count,
		     offsets = sizeof(*to->offset) * from->count;

	*to = (struct chunks){.memory_bytes = from->memory_bytes};
	to->chunk = malloc(chunks + 1);
	to->offset = malloc(offsets + 1);
	if (!to->chunk || !to->offset) {
		chunks_close(to);
		return -ENOMEM;
	}
	to->count = from->count;
	memcpy(to->chunk, from->chunk, chunks);
	memcpy(to->offset, from->offset, offsets);
	return 0;
}

void chunks_close(struct chunks *chunks)
{
	free(chunks->chunk);
	free(chunks->offset);
	*chunks = (struct chunks){0};
}

/* ---- reading */

bool chunks_find(const struct chunks *chunks, uint32_t number,
		 uint32_t *ret_index)
{
	uint32_t from = 0, end = chunks->count;

	while (from < end) {
		const uint32_t middle = from + (end - from) / 2;

		if (chunks->chunk[middle].number < number)
			from = middle + 1;
		else
			end = middle;
	}
	*ret_index = from;
	return from < chunks->count && chunks->chunk[from].number == number;
}

int chunk_reader_init(struct chunk_reader *reader)
{
	*reader = (struct chunk_reader){
		.stream = calloc(1, sizeof(*reader->stream)),
		.packed = malloc(CHUNK_BYTES),
	};
	return reader->stream && reader->packed &&
			       inflateInit2(reader->stream, WINDOW) == Z_OK
		       ? 0
		       : -ENOMEM;
}

void chunk_reader_done(struct chunk_reader *reader)
{
	if (reader->stream)
		(void)inflateEnd(reader->stream);
	free(reader->stream);
	free(reader->packed);
	*reader = (struct chunk_reader){0};
}

/* BYTES from reader->packed become ROOM at RAM. */
static int unpack(struct chunk_reader *reader, uint32_t bytes, uint8_t *ram,
		  size_t room)
{
	z_stream *stream = reader->stream;

	(void)inflateReset(stream);
	stream->next_in = reader->packed;
	stream->avail_in = bytes;
	stream->next_out = ram;
	stream->avail_out = (uInt)room;
	return inflate(stream, Z_FINISH) == Z_STREAM_END &&
			       stream->avail_in == 0 && stream->avail_out == 0
		       ? 0
		       : -EBADMSG;
}

int chunk_read(struct chunk_reader *reader, const struct chunks *chunks, int fd,
	       uint32_t index, uint8_t *ram)
{
	const struct chunk *chunk = &chunks->chunk[index];
	const size_t room = chunks_room(chunks, chunk->number);
	const bool packed = chunk->bytes < room;
	int r = util_read_at(fd, packed ? reader->packed : ram, chunk->bytes,
			     chunks->offset[index]);

	if (r == 0 && packed)
		r = unpack(reader, chunk->bytes, ram, room);
	/* -ENODATA: the file has become shorter. */
	if (r == -ENODATA || (r == 0 && sum_up(ram, room) != chunk->crc))
		r = -EBADMSG;
	return r;
}
