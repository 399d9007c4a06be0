/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of a layer: read from a file or an archive, unpacked when they are
 * packed, hashed on both sides, and counted against what the image may use.
 * Knows no tar.
 */
#include "tools/image/rootfs-parts.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define IN_BYTES (128 * 1024)

struct stream {
	const char *name;
	struct blob left; /* of the blob: what was not read yet */
	struct budget *budget;
	struct sha256 blob_hash, plain_hash;
	struct inflater *inflater; /* NULL: it is not packed */
	bool started;              /* it is known which */
	bool ended;
	const uint8_t *next; /* of what was read: AVAIL bytes */
	size_t avail;
	uint8_t in[IN_BYTES];
};

struct stream *stream_open(const char *name, const struct blob *blob,
			   struct budget *budget)
{
	struct stream *s = calloc(1, sizeof(*s));

	if (!s) {
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
	inflater_close(stream->inflater);
	free(stream);
}

/* More input, where the last was used up; none at the blob's end. */
static int refill(struct stream *s)
{
	const size_t len = min_u64(s->left.bytes, sizeof(s->in));
	int r;

	if (s->avail > 0 || len == 0)
		return 0;
	r = util_read_at(s->left.fd, s->in, len, s->left.offset);
	if (r < 0)
		return log_ret(r, "%s: %s", s->name,
			       r == -ENODATA ? "the file became shorter"
					     : strerror(-r));
	s->left.offset += len;
	s->left.bytes -= len;
	s->next = s->in;
	s->avail = len;
	/* Data that is not packed need not be hashed twice. */
	if (!s->started || s->inflater)
		sha256_update(&s->blob_hash, s->in, len);
	return 0;
}

static int start(struct stream *s)
{
	const struct packing *packing;
	int r = refill(s);

	if (r < 0)
		return r;
	s->started = true;
	packing = packing_find(s->in, s->avail);
	if (!packing)
		return 0;
	if (!packing_supported(packing))
		return log_ret(
			-ENOTSUP,
			"%s: compressed with %s, which is not supported; "
			"convert the image with: skopeo copy "
			"--dest-compress-format gzip",
			s->name, packing_name(packing));
	s->inflater = inflater_open(s->name, packing);
	return s->inflater ? 0 : log_ret(-ENOMEM, "%s: no memory", s->name);
}

static ssize_t read_plain(struct stream *s, void *buf, size_t len)
{
	int r = refill(s);

	if (r < 0)
		return r;
	len = min_u64(len, s->avail);
	if (len > 0)
		memcpy(buf, s->next, len);
	s->next += len;
	s->avail -= len;
	return (ssize_t)len;
}

static ssize_t read_packed(struct stream *s, void *buf, size_t len)
{
	struct flow f = {.out = buf, .out_len = min_u64(len, GIB)};

	len = f.out_len;
	while (f.out_len == len && !s->ended) {
		int r = refill(s);

		if (r < 0)
			return r;
		f.in = s->next;
		f.in_len = s->avail;
		f.last = s->left.bytes == 0;
		r = inflater_run(s->inflater, &f);
		if (r < 0)
			return r;
		s->next = f.in;
		s->avail = f.in_len;
		s->ended = r > 0;
	}
	return (ssize_t)(len - f.out_len);
}

static int too_large(const struct stream *s)
{
	if (s->budget->disk)
		return log_ret(-EFBIG,
			       "%s: unpacks to more than the %" PRIu64
			       " MiB that are left on the store's disk: "
			       "'bulkhead rmi' removes images, BULKHEAD_STORE "
			       "names another place",
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
	n = s->inflater ? read_packed(s, buf, len) : read_plain(s, buf, len);
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
	if (s->inflater)
		write_digest(&s->blob_hash, ret_blob);
	else
		memcpy(ret_blob, ret_plain, IMAGE_DIGEST_MAX);
	return 0;
}
