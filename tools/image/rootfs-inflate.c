/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The formats that layers and archives are packed with, each by the library
 * that knows it: gzip (RFC 1952), zstd (RFC 8878), xz. Strangers wrote the
 * data, so this runs behind walls (rootfs-walls.c), and a format gets no more
 * memory than its usual tools ask for.
 */
#include "tools/image/inflate.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <lzma.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

/* 128 MiB, which `zstd -d` allows, and `zstd --ultra -22` needs. */
#define ZSTD_WINDOW_LOG 27
/* `xz -9` needs 65 MiB. */
#define XZ_MEMORY (128 * MIB)

struct inflater {
	const char *name;
	const struct packing *packing;
	/* Between two members, frames or streams, or before the first one. */
	bool between;
	union {
		z_stream gzip;
		lzma_stream xz;
		ZSTD_DStream *zstd;
	};
	uint8_t magic[4]; /* of zstd's next frame: what there is of it */
	size_t nmagic;
};

struct packing {
	const char *name;
	uint8_t magic[6];
	size_t magic_len;
	/* NULL: not supported. False: no memory. */
	bool (*open)(struct inflater *i);
	void (*close)(struct inflater *i);
	/* As inflater_run(), but for the end of input. */
	int (*run)(struct inflater *i, struct flow *f);
};

static int damaged(const struct inflater *i, const char *why)
{
	return log_ret(-EINVAL, "%s: damaged %s data: %s", i->name,
		       i->packing->name, why ? why : "bad header");
}

static int no_memory(const struct inflater *i)
{
	return log_ret(-ENOMEM, "%s: no memory", i->name);
}

/* ---- gzip */

static bool gzip_open(struct inflater *i)
{
	/* 16: gzip's header and trailer, not zlib's. */
	return inflateInit2(&i->gzip, 16 + MAX_WBITS) == Z_OK;
}

static void gzip_close(struct inflater *i)
{
	inflateEnd(&i->gzip);
}

/*
 * A file may be several gzip members, one behind the other, which eStargz and
 * pigz make use of (RFC 1952 2.2).
 */
static int gzip_run(struct inflater *i, struct flow *f)
{
	z_stream *z = &i->gzip;
	int r;

	if (i->between && inflateReset(z) != Z_OK)
		return damaged(i, "cannot go on");
	i->between = false;
	z->next_in = (uint8_t *)f->in;
	z->avail_in = (uInt)f->in_len;
	z->next_out = f->out;
	z->avail_out = (uInt)f->out_len;
	r = inflate(z, Z_NO_FLUSH);
	f->in = z->next_in;
	f->in_len = z->avail_in;
	f->out = z->next_out;
	f->out_len = z->avail_out;
	if (r == Z_STREAM_END)
		i->between = true;
	else if (r == Z_MEM_ERROR)
		return no_memory(i);
	else if (r != Z_OK && r != Z_BUF_ERROR)
		return damaged(i, z->msg);
	return 0;
}

/* ---- zstd */

static bool zstd_open(struct inflater *i)
{
	i->zstd = ZSTD_createDStream();
	return i->zstd &&
	       !ZSTD_isError(ZSTD_DCtx_setParameter(
		       i->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG));
}

static void zstd_close(struct inflater *i)
{
	ZSTD_freeDStream(i->zstd);
}

static int zstd_failed(const struct inflater *i, size_t error)
{
	switch (ZSTD_getErrorCode(error)) {
	case ZSTD_error_memory_allocation:
		return no_memory(i);
	case ZSTD_error_frameParameter_windowTooLarge:
		return log_ret(-ENOTSUP,
			       "%s: zstd data that needs more than %u MiB of "
			       "memory; pack it with --long=%d at most",
			       i->name, 1u << (ZSTD_WINDOW_LOG - 20),
			       ZSTD_WINDOW_LOG);
	case ZSTD_error_dictionary_wrong:
		return log_ret(-ENOTSUP,
			       "%s: zstd data that needs a dictionary, which "
			       "is not supported",
			       i->name);
	default:
		return damaged(i, ZSTD_getErrorName(error));
	}
}

static int zstd_feed(struct inflater *i, ZSTD_inBuffer *in, struct flow *f)
{
	ZSTD_outBuffer out = {.dst = f->out, .size = f->out_len};
	size_t r = ZSTD_decompressStream(i->zstd, &out, in);

	f->out += out.pos;
	f->out_len -= out.pos;
	if (ZSTD_isError(r))
		return zstd_failed(i, r);
	i->between = r == 0;
	return 0;
}

/*
 * A frame's first bytes, looked at before the library does: it also reads the
 * formats from before RFC 8878, whose decoders nobody needs or tests any more.
 */
static int zstd_begin(struct inflater *i, struct flow *f)
{
	ZSTD_inBuffer in = {
		.src = i->magic,
		.size = sizeof(i->magic),
	};
	uint32_t magic;

	while (i->nmagic < in.size && f->in_len > 0) {
		i->magic[i->nmagic++] = *f->in++;
		f->in_len--;
	}
	if (i->nmagic < in.size)
		return 0;
	i->nmagic = 0;
	memcpy(&magic, i->magic, sizeof(magic));
	magic = le32toh(magic);
	if (magic != ZSTD_MAGICNUMBER &&
	    (magic & ZSTD_MAGIC_SKIPPABLE_MASK) != ZSTD_MAGIC_SKIPPABLE_START)
		return damaged(i, "something else follows a frame");
	return zstd_feed(i, &in, f);
}

/* Several frames, and some to be passed over, make one file (3.1). */
static int zstd_run(struct inflater *i, struct flow *f)
{
	ZSTD_inBuffer in;
	int r;

	if (i->between)
		return zstd_begin(i, f);
	in = (ZSTD_inBuffer){.src = f->in, .size = f->in_len};
	r = zstd_feed(i, &in, f);
	f->in += in.pos;
	f->in_len -= in.pos;
	return r;
}

/* ---- xz */

/* One thread: only liblzma's other decoder ever had a hole of its own. */
static bool xz_open(struct inflater *i)
{
	i->xz = (lzma_stream)LZMA_STREAM_INIT;
	return lzma_stream_decoder(&i->xz, XZ_MEMORY, LZMA_CONCATENATED) ==
	       LZMA_OK;
}

static void xz_close(struct inflater *i)
{
	lzma_end(&i->xz);
}

static int xz_failed(struct inflater *i, lzma_ret error)
{
	switch (error) {
	case LZMA_MEM_ERROR:
		return no_memory(i);
	case LZMA_MEMLIMIT_ERROR:
		return log_ret(-ENOTSUP,
			       "%s: xz data that needs %" PRIu64
			       " MiB of memory, more than the %" PRIu64
			       " MiB there are; pack it with -9 at most",
			       i->name, lzma_memusage(&i->xz) / MIB,
			       (uint64_t)XZ_MEMORY / MIB);
	case LZMA_OPTIONS_ERROR:
		return log_ret(
			-ENOTSUP,
			"%s: xz data with filters that are not supported",
			i->name);
	default:
		return damaged(i, error == LZMA_FORMAT_ERROR
					  ? "something else follows a stream"
					  : "it does not add up");
	}
}

static int xz_run(struct inflater *i, struct flow *f)
{
	lzma_stream *s = &i->xz;
	lzma_ret r;

	s->next_in = f->in;
	s->avail_in = f->in_len;
	s->next_out = f->out;
	s->avail_out = f->out_len;
	r = lzma_code(s, f->last ? LZMA_FINISH : LZMA_RUN);
	f->in = s->next_in;
	f->in_len = s->avail_in;
	f->out = s->next_out;
	f->out_len = s->avail_out;
	/* Only after the last of all streams. */
	i->between = r == LZMA_STREAM_END;
	return r == LZMA_OK || r == LZMA_STREAM_END || r == LZMA_BUF_ERROR
		       ? 0
		       : xz_failed(i, r);
}

/* ---- all of them */

static const struct packing packings[] = {
	{"gzip", {0x1f, 0x8b}, 2, gzip_open, gzip_close, gzip_run},
	{"zstd", {0x28, 0xb5, 0x2f, 0xfd}, 4, zstd_open, zstd_close, zstd_run},
	{"xz", {0xfd, '7', 'z', 'X', 'Z', 0}, 6, xz_open, xz_close, xz_run},
	{"bzip2", {'B', 'Z', 'h'}, 3, NULL, NULL, NULL},
	{"lz4", {0x04, 0x22, 0x4d, 0x18}, 4, NULL, NULL, NULL},
	{"lzip", {'L', 'Z', 'I', 'P'}, 4, NULL, NULL, NULL},
};

const struct packing *packing_find(const uint8_t *head, size_t len)
{
	static const uint8_t skip[] = {0x2a, 0x4d, 0x18};
	/* The first file's name may be anything. */
	const bool is_tar = len >= TAR_MAGIC_AT + 5 &&
			    memcmp(head + TAR_MAGIC_AT, "ustar", 5) == 0;

	if (is_tar)
		return NULL;
	for (unsigned i = 0; i < ARRAY_LEN(packings); i++)
		if (len >= packings[i].magic_len &&
		    memcmp(head, packings[i].magic, packings[i].magic_len) == 0)
			return &packings[i];
	/* pzstd begins with a frame to be passed over. */
	if (len >= 4 && (head[0] & 0xf0) == 0x50 &&
	    memcmp(head + 1, skip, sizeof(skip)) == 0)
		return &packings[1];
	return NULL;
}

bool packing_supported(const struct packing *packing)
{
	return packing->open != NULL;
}

const char *packing_name(const struct packing *packing)
{
	return packing->name;
}

struct inflater *inflater_open(const char *name, const struct packing *packing)
{
	struct inflater *i = calloc(1, sizeof(*i));

	if (!i)
		return NULL;
	i->name = name;
	i->packing = packing;
	i->between = true;
	if (packing->open(i))
		return i;
	packing->close(i);
	free(i);
	return NULL;
}

void inflater_close(struct inflater *i)
{
	if (!i)
		return;
	i->packing->close(i);
	free(i);
}

int inflater_run(struct inflater *i, struct flow *f)
{
	const size_t room = f->out_len;
	const bool at_end = f->last && f->in_len == 0;
	int r;

	if (at_end && i->between && i->nmagic == 0)
		return 1;
	r = i->packing->run(i, f);
	if (r == 0 && at_end && f->out_len == room &&
	    (!i->between || i->nmagic > 0))
		return log_ret(-EINVAL, "%s: %s data is cut off", i->name,
			       i->packing->name);
	return r;
}
