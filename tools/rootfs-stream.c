/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of a layer: read from a file or an archive, inflated by zlib when
 * they are gzip'd, hashed on both sides, and counted against what the image may
 * use. Knows no tar.
 */
#include "tools/rootfs-parts.h"

#include "vmm/log.h"
#include "vmm/util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#define IN_BYTES (128 * 1024)

struct stream {
	const char *name;
	struct blob left; /* of the blob: what was not read yet */
	struct budget *budget;
	struct sha256 blob_hash, plain_hash;
	bool gzip; /* inflating; between members: expecting one or the end */
	bool between;
	bool started; /* the format is known */
	bool ended;
	z_stream z;
	uint8_t in[IN_BYTES];
};

struct stream *stream_open(const char *name, const struct blob *blob,
			   struct budget *budget)
{
	struct stream *s = calloc(1, sizeof(*s));

	/* 16: gzip's header and trailer, not zlib's. */
	if (!s || inflateInit2(&s->z, 16 + MAX_WBITS) != Z_OK) {
		free(s);
		log_error("%s: no memory", name);
		return NULL;
	}
	s->name = name;
	s->left = *blob;
	s->budget = budget;
	sha256_init(&s->blob_hash);
	sha256_init(&s->plain_hash);
	return s;
}

void stream_close(struct stream *stream)
{
	if (!stream)
		return;
	inflateEnd(&stream->z);
	free(stream);
}

/* More input for zlib: 1, 0 at the blob's end, or -errno. */
static int refill(struct stream *s)
{
	const size_t len = min_u64(s->left.bytes, sizeof(s->in));
	int r;

	if (len == 0)
		return 0;
	r = util_read_at(s->left.fd, s->in, len, s->left.offset);
	if (r < 0)
		return log_ret(r, "%s: %s", s->name,
			       r == -ENODATA ? "the file became shorter"
					     : strerror(-r));
	s->left.offset += len;
	s->left.bytes -= len;
	s->z.next_in = s->in;
	s->z.avail_in = (uInt)len;
	/* What is not inflated need not be hashed twice. */
	if (!s->started || s->gzip)
		sha256_update(&s->blob_hash, s->in, len);
	return 1;
}

static int start(struct stream *s)
{
	static const uint8_t gzip[] = {0x1f, 0x8b};
	static const uint8_t zstd[] = {0x28, 0xb5, 0x2f, 0xfd};
	static const uint8_t xz[] = {0xfd, '7', 'z', 'X', 'Z'};
	static const uint8_t bzip2[] = {'B', 'Z', 'h'};
	const char *other = NULL;
	int r = refill(s);

	if (r < 0)
		return r;
	s->started = true;
	if (s->z.avail_in >= 4 && memcmp(s->in, zstd, sizeof(zstd)) == 0)
		other = "zstd";
	else if (s->z.avail_in >= 5 && memcmp(s->in, xz, sizeof(xz)) == 0)
		other = "xz";
	else if (s->z.avail_in >= 3 && memcmp(s->in, bzip2, 3) == 0)
		other = "bzip2";
	if (other)
		return log_ret(
			-ENOTSUP,
			"%s: compressed with %s, which is not supported; "
			"convert the image with: skopeo copy "
			"--dest-compress-format gzip",
			s->name, other);
	s->gzip = s->z.avail_in >= 2 && memcmp(s->in, gzip, 2) == 0;
	return 0;
}

static ssize_t read_plain(struct stream *s, void *buf, size_t len)
{
	if (s->z.avail_in == 0) {
		int r = refill(s);

		if (r <= 0)
			return r;
	}
	len = min_u64(len, s->z.avail_in);
	memcpy(buf, s->z.next_in, len);
	s->z.next_in += len;
	s->z.avail_in -= (uInt)len;
	return (ssize_t)len;
}

/*
 * One call of inflate(). A file may be several gzip members, one behind the
 * other, which eStargz and pigz make use of (RFC 1952 2.2).
 */
static int inflate_some(struct stream *s)
{
	int r;

	if (s->z.avail_in == 0) {
		r = refill(s);
		if (r < 0)
			return r;
		if (r == 0 && !s->between)
			return log_ret(-EINVAL, "%s: gzip'd data is cut off",
				       s->name);
		s->ended = r == 0;
		if (s->ended)
			return 0;
	}
	if (s->between && inflateReset(&s->z) != Z_OK)
		return log_ret(-EINVAL, "%s: cannot inflate", s->name);
	s->between = false;
	r = inflate(&s->z, Z_NO_FLUSH);
	if (r == Z_STREAM_END)
		s->between = true;
	else if (r == Z_MEM_ERROR)
		return log_ret(-ENOMEM, "%s: no memory", s->name);
	else if (r != Z_OK && r != Z_BUF_ERROR)
		return log_ret(-EINVAL, "%s: damaged gzip'd data: %s", s->name,
			       s->z.msg ? s->z.msg : "bad header");
	return 0;
}

static ssize_t read_gzip(struct stream *s, void *buf, size_t len)
{
	s->z.next_out = buf;
	s->z.avail_out = (uInt)min_u64(len, GIB);
	len = s->z.avail_out;
	while (s->z.avail_out == len && !s->ended) {
		int r = inflate_some(s);

		if (r < 0)
			return r;
	}
	return (ssize_t)(len - s->z.avail_out);
}

static int too_large(const struct stream *s)
{
	if (s->budget->disk)
		return log_ret(-ENOSPC,
			       "%s: unpacks to more than the %" PRIu64
			       " MiB that are left on the store's disk",
			       s->name, s->budget->max_bytes / MIB);
	return log_ret(-EFBIG,
		       "%s: unpacks to more than the limit of %" PRIu64 " MiB",
		       s->name, s->budget->max_bytes / MIB);
}

ssize_t stream_read(void *stream, void *buf, size_t len)
{
	struct stream *s = stream;
	ssize_t n;
	int r = s->started ? 0 : start(s);

	if (r < 0)
		return r;
	if (len == 0)
		return 0;
	n = s->gzip ? read_gzip(s, buf, len) : read_plain(s, buf, len);
	if (n <= 0)
		return n;
	if ((uint64_t)n > s->budget->bytes)
		return too_large(s);
	s->budget->bytes -= (uint64_t)n;
	sha256_update(&s->plain_hash, buf, (size_t)n);
	return n;
}

static void write_digest(struct sha256 *hash, char ret[IMAGE_DIGEST_MAX])
{
	memcpy(ret, "sha256:", 7);
	sha256_final_hex(hash, ret + 7);
}

int stream_finish(struct stream *s, char ret_blob[IMAGE_DIGEST_MAX],
		  char ret_plain[IMAGE_DIGEST_MAX])
{
	char buf[16384];
	ssize_t n;

	do
		n = stream_read(s, buf, sizeof(buf));
	while (n > 0);
	if (n < 0)
		return (int)n;
	write_digest(&s->plain_hash, ret_plain);
	if (s->gzip)
		write_digest(&s->blob_hash, ret_blob);
	else
		memcpy(ret_blob, ret_plain, IMAGE_DIGEST_MAX);
	return 0;
}
