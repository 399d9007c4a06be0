/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gzip'd ELF kernels: inflated in one pass, straight into guest RAM. The host
 * needs a window of input, one of output for what no segment wants, and zlib's
 * state, whatever the kernel's size; how much is inflated is bounded by RAM.
 */
#include "vmm/kernel/kimage-parts.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <string.h>
#include <zlib.h>

#define IN_BYTES  (128 * 1024)
#define OUT_BYTES (128 * 1024)

/* Padding between segments: no more than this is inflated for nothing. */
#define GAPS_MAX (64 * MIB)
/*
 * After the last segment: section headers and relocations, before the checksum.
 * When more follows (debugging information), the checksum is not waited for.
 */
#define TAIL_MAX (8 * MIB)

/* Allocated as one, large enough for malloc() to give it back to the host. */
struct stream {
	z_stream z;
	const struct kimage_source *src;
	uint64_t next; /* file offset of what was not read yet */
	uint64_t done; /* bytes inflated */
	bool ended;
	uint8_t in[IN_BYTES];
	uint8_t out[OUT_BYTES];
};

static int stream_refill(struct stream *s)
{
	const size_t len = min_u64(s->src->bytes - s->next, sizeof(s->in));
	int r;

	if (len == 0)
		return kimage_bad(s->src, "ends within its gzip stream: the "
					  "file is truncated");
	r = kimage_read(s->src, s->in, len, s->next);
	if (r < 0)
		return r;
	s->next += len;
	s->z.next_in = s->in;
	s->z.avail_in = (uInt)len;
	return 0;
}

/* Inflates LEN bytes to DEST, fewer only where the stream ends. */
static int stream_read(struct stream *s, uint8_t *dest, size_t len,
		       size_t *ret_done)
{
	s->z.next_out = dest;
	s->z.avail_out = (uInt)len;
	while (s->z.avail_out > 0 && !s->ended) {
		int r = s->z.avail_in ? 0 : stream_refill(s);

		if (r < 0)
			return r;
		r = inflate(&s->z, Z_NO_FLUSH);
		if (r == Z_MEM_ERROR)
			return log_ret(-ENOMEM,
				       "kernel '%s': no memory to "
				       "inflate it",
				       s->src->name);
		s->ended = r == Z_STREAM_END;
		if (r != Z_OK && r != Z_STREAM_END && r != Z_BUF_ERROR)
			return kimage_bad(s->src,
					  "has a damaged gzip stream: %s",
					  s->z.msg ? s->z.msg : "bad header");
	}
	*ret_done = len - s->z.avail_out;
	s->done += *ret_done;
	return 0;
}

/* Gives every piece its part of the BYTES at FROM, which lie at OFFSET. */
static void scatter(const struct elf_plan *plan, const uint8_t *from,
		    uint64_t offset, uint64_t bytes)
{
	for (unsigned i = 0; i < plan->npieces; i++) {
		const struct elf_piece *p = &plan->piece[i];
		uint64_t first = offset > p->offset ? offset : p->offset;
		uint64_t last = min_u64(offset + bytes, p->offset + p->bytes);
		uint8_t *dest;

		if (first >= last)
			continue;
		dest = p->dest + (first - p->offset);
		if (dest != from + (first - offset))
			memcpy(dest, from + (first - offset), last - first);
	}
}

/*
 * Where the byte at OFFSET belongs, and how many after it may go there with it:
 * into a segment's memory, or NULL for a gap before the next piece.
 */
static uint8_t *destination(const struct elf_plan *plan, uint64_t offset,
			    uint64_t *ret_len)
{
	uint64_t gap_end = plan->file_end;

	for (unsigned i = 0; i < plan->npieces; i++) {
		const struct elf_piece *p = &plan->piece[i];

		if (offset >= p->offset && offset - p->offset < p->bytes) {
			*ret_len = p->bytes - (offset - p->offset);
			return p->dest + (offset - p->offset);
		}
		if (p->offset > offset)
			gap_end = min_u64(gap_end, p->offset);
	}
	*ret_len = gap_end - offset;
	return NULL;
}

static int inflate_pieces(struct stream *s, const struct elf_plan *plan)
{
	while (s->done < plan->file_end) {
		const uint64_t offset = s->done;
		uint64_t len;
		uint8_t *dest = destination(plan, offset, &len);
		size_t done;
		int r;

		if (!dest) {
			dest = s->out;
			len = min_u64(len, sizeof(s->out));
		}
		r = stream_read(s, dest, min_u64(len, GIB), &done);
		if (r < 0)
			return r;
		scatter(plan, dest, offset, done);
		if (s->ended && s->done < plan->file_end)
			return kimage_bad(s->src, "inflates to less than its "
						  "segments need: it is "
						  "truncated");
	}
	return 0;
}

/* To the stream's end, where zlib compares the checksum, if that is near. */
static int inflate_tail(struct stream *s)
{
	for (unsigned i = 0; i < TAIL_MAX / OUT_BYTES && !s->ended; i++) {
		size_t done;
		int r = stream_read(s, s->out, sizeof(s->out), &done);

		if (r < 0)
			return r;
	}
	return 0;
}

static int load_stream(struct kimage *image, struct stream *s,
		       enum config_entry want, const struct mem *mem)
{
	struct elf_plan plan;
	size_t head_bytes;
	int r = stream_read(s, s->out, ELF_HEAD_BYTES, &head_bytes);

	if (r < 0)
		return r;
	if (head_bytes < 4 || memcmp(s->out, "\177ELF", 4) != 0)
		return kimage_bad(s->src, "holds no ELF file in its gzip "
					  "stream");
	r = kimage_elf_plan(&plan, s->src, s->out, head_bytes, mem);
	if (r < 0)
		return r;
	if (plan.file_end > mem->bytes + GAPS_MAX)
		return kimage_bad(s->src, "has segments too far apart in its "
					  "gzip stream");
	scatter(&plan, s->out, 0, head_bytes);
	r = inflate_pieces(s, &plan);
	if (r < 0)
		return r;
	r = inflate_tail(s);
	if (r < 0)
		return r;
	return kimage_elf_finish(&plan, s->src, want, image);
}

int kimage_load_gzip(struct kimage *image, const struct kimage_source *src,
		     uint64_t offset, enum config_entry want,
		     const struct mem *mem)
{
	autofree struct stream *s = malloc(sizeof(*s));
	int r = Z_MEM_ERROR;

	if (s) {
		memset(&s->z, 0, sizeof(s->z));
		s->src = src;
		s->next = offset;
		s->done = 0;
		s->ended = false;
		/* 16: expect gzip's header and trailer, not zlib's. */
		r = inflateInit2(&s->z, 16 + MAX_WBITS);
	}
	if (r != Z_OK)
		return log_ret(-ENOMEM, "kernel '%s': no memory to inflate it",
			       src->name);
	r = load_stream(image, s, want, mem);
	inflateEnd(&s->z);
	return r;
}
