/* SPDX-License-Identifier: Apache-2.0 */
/* Tar archives and OCI layouts, made by hand. */
#include "tests/archive.h"

#include "tools/image/sha256.h"

#include <fcntl.h>
#include <lzma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

static void must(int condition)
{
	if (!condition) {
		perror("archive");
		abort();
	}
}

void bytes_add(struct bytes *b, const void *data, size_t len)
{
	if (b->room < b->len + len + 1) {
		/* Twice as much: a sanitizer's realloc() always copies. */
		b->room = 2 * (b->len + len + 1);
		b->data = realloc(b->data, b->room);
		must(b->data != NULL);
	}
	memcpy(b->data + b->len, data, len);
	b->len += len;
}

void bytes_free(struct bytes *b)
{
	free(b->data);
	*b = (struct bytes){0};
}

static struct bytes pack_gzip(const struct bytes *b)
{
	struct bytes out = {.data = malloc(b->len + b->len / 100 + 1024)};
	z_stream z = {0};

	must(out.data && deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8,
				      Z_DEFAULT_STRATEGY) == Z_OK);
	z.next_in = b->data;
	z.avail_in = (uInt)b->len;
	z.next_out = out.data;
	z.avail_out = (uInt)(b->len + b->len / 100 + 1024);
	must(deflate(&z, Z_FINISH) == Z_STREAM_END);
	out.len = z.total_out;
	deflateEnd(&z);
	return out;
}

static struct bytes pack_zstd(const struct bytes *b)
{
	const size_t room = ZSTD_compressBound(b->len);
	struct bytes out = {.data = malloc(room)};

	must(out.data != NULL);
	out.len = ZSTD_compress(out.data, room, b->data, b->len, 3);
	must(!ZSTD_isError(out.len));
	return out;
}

static struct bytes pack_xz(const struct bytes *b)
{
	const size_t room = lzma_stream_buffer_bound(b->len);
	struct bytes out = {.data = malloc(room)};
	lzma_stream s = LZMA_STREAM_INIT;

	must(out.data && lzma_easy_encoder(&s, 6, LZMA_CHECK_CRC64) == LZMA_OK);
	s.next_in = b->data;
	s.avail_in = b->len;
	s.next_out = out.data;
	s.avail_out = room;
	must(lzma_code(&s, LZMA_FINISH) == LZMA_STREAM_END);
	out.len = room - s.avail_out;
	lzma_end(&s);
	return out;
}

struct bytes bytes_pack(const struct bytes *b, enum pack pack)
{
	struct bytes copy = {0};

	switch (pack) {
	case PACK_GZIP:
		return pack_gzip(b);
	case PACK_ZSTD:
		return pack_zstd(b);
	case PACK_XZ:
		return pack_xz(b);
	default:
		bytes_add(&copy, b->data, b->len);
		return copy;
	}
}

/* ---- tar */

static void pad(struct bytes *tar)
{
	static const char zeros[512];

	bytes_add(tar, zeros, -tar->len % 512);
}

static void add_header(struct bytes *tar, const struct archive_file *f,
		       uint64_t size)
{
	char h[512] = {0};
	unsigned sum = 0;

	must(strlen(f->path) <= 100 && (!f->link || strlen(f->link) <= 100));
	memcpy(h, f->path, strlen(f->path));
	snprintf(h + 100, 8, "%07o", f->mode);
	snprintf(h + 108, 8, "%07o", f->uid);
	snprintf(h + 116, 8, "%07o", f->gid);
	snprintf(h + 124, 12, "%011lo", (unsigned long)size);
	snprintf(h + 136, 12, "%011o", 1000000000);
	h[156] = f->type;
	if (f->link)
		memcpy(h + 157, f->link, strlen(f->link));
	memcpy(h + 257,
	       "ustar\0"
	       "00",
	       8);
	snprintf(h + 329, 8, "%07o", f->major);
	snprintf(h + 337, 8, "%07o", f->minor);
	memset(h + 148, ' ', 8);
	for (unsigned i = 0; i < 512; i++)
		sum += (unsigned char)h[i];
	snprintf(h + 148, 8, "%06o", sum);
	bytes_add(tar, h, 512);
}

void tar_add(struct bytes *tar, const struct archive_file *f)
{
	const size_t len = f->content ? strlen(f->content) : 0;

	add_header(tar, f, f->size ? f->size : len);
	bytes_add(tar, f->content ? f->content : "", len);
	pad(tar);
}

void tar_file(struct bytes *tar, const char *path, const char *content)
{
	tar_add(tar, &(struct archive_file){.type = '0',
					    .path = path,
					    .content = content,
					    .mode = 0644});
}

void tar_member(struct bytes *tar, const char *path,
		const struct bytes *content)
{
	add_header(
		tar,
		&(struct archive_file){.type = '0', .path = path, .mode = 0644},
		content->len);
	bytes_add(tar, content->data, content->len);
	pad(tar);
}

void tar_dir(struct bytes *tar, const char *path)
{
	tar_add(tar, &(struct archive_file){
			     .type = '5', .path = path, .mode = 0755});
}

void tar_symlink(struct bytes *tar, const char *path, const char *target)
{
	tar_add(tar, &(struct archive_file){.type = '2',
					    .path = path,
					    .link = target,
					    .mode = 0777});
}

void tar_hardlink(struct bytes *tar, const char *path, const char *target)
{
	tar_add(tar, &(struct archive_file){.type = '1',
					    .path = path,
					    .link = target,
					    .mode = 0644});
}

void tar_pax(struct bytes *tar, const char *key, const void *value, size_t len)
{
	const struct archive_file f = {
		.type = 'x', .path = "pax", .mode = 0644};
	size_t total = strlen(key) + len + 3;
	char number[24];

	/* The length counts its own digits. */
	while (snprintf(number, sizeof(number), "%zu", total) + strlen(key) +
		       len + 3 !=
	       total)
		total++;
	add_header(tar, &f, total);
	bytes_add(tar, number, strlen(number));
	bytes_add(tar, " ", 1);
	bytes_add(tar, key, strlen(key));
	bytes_add(tar, "=", 1);
	bytes_add(tar, value, len);
	bytes_add(tar, "\n", 1);
	pad(tar);
}

void tar_end(struct bytes *tar)
{
	static const char zeros[1024];

	bytes_add(tar, zeros, sizeof(zeros));
}

/* ---- OCI layouts */

void write_below(const char *dir, const char *name, const void *data,
		 size_t len)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	for (char *p = path + strlen(dir) + 1; (p = strchr(p, '/'));
	     *p++ = '/') {
		*p = '\0';
		mkdir(path, 0755);
	}
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	must(fd >= 0 && write(fd, data, len) == (ssize_t)len);
	close(fd);
}

void layout_blob(const struct layout *layout, const struct bytes *blob,
		 char ret_digest[72])
{
	char name[100];

	memcpy(ret_digest, "sha256:", 7);
	sha256_hex(blob->data, blob->len, ret_digest + 7);
	snprintf(name, sizeof(name), "blobs/sha256/%s", ret_digest + 7);
	write_below(layout->path, name, blob->data, blob->len);
}

void layout_packed(struct layout *layout, const struct bytes *tar,
		   const struct bytes *packed)
{
	const unsigned n = layout->nlayers++;

	must(n < LAYOUT_LAYERS);
	memcpy(layout->diff_id[n], "sha256:", 7);
	sha256_hex(tar->data, tar->len, layout->diff_id[n] + 7);
	layout_blob(layout, packed, layout->digest[n]);
	layout->size[n] = packed->len;
}

void layout_layer(struct layout *layout, struct bytes *tar, enum pack pack)
{
	struct bytes packed;

	tar_end(tar);
	packed = bytes_pack(tar, pack);
	layout_packed(layout, tar, &packed);
	bytes_free(&packed);
	bytes_free(tar);
}

static void put(struct bytes *b, const char *text)
{
	bytes_add(b, text, strlen(text));
}

void layout_finish(struct layout *layout, const char *config, const char *ref)
{
	struct bytes c = {0}, m = {0}, i = {0};
	char digest[72], text[400];

	put(&c, "{\"os\":\"linux\",\"architecture\":\"amd64\",\"config\":");
	put(&c, config ? config : "{}");
	put(&c, ",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[");
	for (unsigned n = 0; n < layout->nlayers; n++) {
		snprintf(text, sizeof(text), "%s\"%s\"", n ? "," : "",
			 layout->diff_id[n]);
		put(&c, text);
	}
	put(&c, "]}}");
	layout_blob(layout, &c, digest);
	snprintf(text, sizeof(text),
		 "{\"schemaVersion\":2,\"config\":{\"mediaType\":"
		 "\"application/vnd.oci.image.config.v1+json\",\"digest\":"
		 "\"%s\",\"size\":%zu},\"layers\":[",
		 digest, c.len);
	put(&m, text);
	for (unsigned n = 0; n < layout->nlayers; n++) {
		snprintf(text, sizeof(text),
			 "%s{\"digest\":\"%s\",\"size\":%zu}", n ? "," : "",
			 layout->digest[n], layout->size[n]);
		put(&m, text);
	}
	put(&m, "]}");
	layout_blob(layout, &m, digest);
	snprintf(text, sizeof(text),
		 "{\"schemaVersion\":2,\"manifests\":[{\"digest\":\"%s\","
		 "\"size\":%zu,\"annotations\":{"
		 "\"org.opencontainers.image.ref.name\":\"%s\"}}]}",
		 digest, m.len, ref ? ref : "latest");
	put(&i, text);
	write_below(layout->path, "index.json", i.data, i.len);
	write_below(layout->path, "oci-layout",
		    "{\"imageLayoutVersion\":\"1.0.0\"}", 30);
	bytes_free(&c);
	bytes_free(&m);
	bytes_free(&i);
}
