/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layers and archives that are packed, with gzip, zstd and xz: what their tools
 * make of one file, and what they would never make.
 */
#include "tests/images.h"

#include <lzma.h>

static const char *const suffixes[PACKS] = {"", ".gz", ".zst", ".xz"};

/* A layer's bytes, ended. */
static struct bytes plain_tar(void)
{
	struct bytes tar = {0};
	char name[16];

	for (unsigned i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "file%u", i);
		tar_file(&tar, name, name);
	}
	tar_end(&tar);
	return tar;
}

static struct bytes part(const struct bytes *b, size_t from, size_t to)
{
	struct bytes out = {0};

	bytes_add(&out, b->data + from, to - from);
	return out;
}

/* Opens a layout with one layer, PACKED, of TAR: the result. */
static int try(struct ctx *ctx, const struct bytes *tar,
	       const struct bytes *packed)
{
	int r;

	ctx->layout.nlayers = 0;
	layout_packed(&ctx->layout, tar, packed);
	layout_finish(&ctx->layout, NULL, NULL);
	r = open_image(ctx);
	if (r == 0) {
		content_is(ctx, "file39", "file39");
		rootfs_close(&ctx->rootfs);
		assert_int_equal(rootfs_remove(ctx->store, "img"), 0);
	}
	check_outside(ctx);
	check_store(ctx, 0);
	return r;
}

static void expect(struct ctx *ctx, const struct bytes *tar,
		   const struct bytes *packed, int result)
{
	assert_int_equal(try(ctx, tar, packed), result);
}

/* ---- what the tools make */

/* In parts that were packed each for itself: pigz, pzstd, xz -T, eStargz. */
static void several_parts_are_one_file(void **state)
{
	struct ctx *ctx = *state;
	struct bytes tar = plain_tar();

	for (enum pack pack = PACK_GZIP; pack < PACKS; pack++) {
		struct bytes all = {0};

		for (unsigned i = 0; i <= 4; i++) {
			/* The last one is empty. */
			struct bytes plain =
				part(&tar, i == 4 ? tar.len : i * tar.len / 4,
				     i == 4 ? tar.len : (i + 1) * tar.len / 4);
			struct bytes packed = bytes_pack(&plain, pack);

			bytes_add(&all, packed.data, packed.len);
			bytes_free(&plain);
			bytes_free(&packed);
		}
		expect(ctx, &tar, &all, 0);
		bytes_free(&all);
	}
	bytes_free(&tar);
}

/* zstd:chunked and pzstd have frames that are not the file's. */
static void skippable_frames_are_skipped(void **state)
{
	static const uint8_t skip[] = {0x5a, 0x2a, 0x4d, 0x18, 3,  0,
				       0,    0,    'a',  'b',  'c'};
	static const uint8_t empty[] = {0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0};
	struct ctx *ctx = *state;
	struct bytes tar = plain_tar(), all = {0};
	struct bytes packed = bytes_pack(&tar, PACK_ZSTD);

	bytes_add(&all, skip, sizeof(skip));
	bytes_add(&all, empty, sizeof(empty));
	bytes_add(&all, packed.data, packed.len);
	bytes_add(&all, empty, sizeof(empty));
	bytes_add(&all, skip, sizeof(skip));
	expect(ctx, &tar, &all, 0);
	/* One that says it is longer than the file. */
	all.data[all.len - 7] = 4;
	expect(ctx, &tar, &all, -EINVAL);
	bytes_free(&all);
	bytes_free(&packed);
	bytes_free(&tar);
}

/* xz pads streams with zeros, in fours. */
static void padding_is_taken(void **state)
{
	static const uint8_t zeros[8] = {0};
	struct ctx *ctx = *state;
	struct bytes tar = plain_tar();
	struct bytes packed = bytes_pack(&tar, PACK_XZ);

	bytes_add(&packed, zeros, 8);
	expect(ctx, &tar, &packed, 0);
	bytes_add(&packed, zeros, 3);
	expect(ctx, &tar, &packed, -EINVAL);
	bytes_free(&packed);
	bytes_free(&tar);
}

/* ---- damage */

static void every_cut_is_seen(void **state)
{
	struct ctx *ctx = *state;
	struct bytes tar = plain_tar();

	for (enum pack pack = PACK_GZIP; pack < PACKS; pack++) {
		struct bytes packed = bytes_pack(&tar, pack);
		const size_t len = packed.len;
		const size_t cuts[] = {6,       7,       13,      len / 3,
				       len / 2, len - 9, len - 4, len - 1};

		for (unsigned i = 0; i < ARRAY_LEN(cuts); i++) {
			packed.len = cuts[i];
			expect(ctx, &tar, &packed, -EINVAL);
		}
		bytes_free(&packed);
	}
	bytes_free(&tar);
}

/* Whatever follows, however short, is not left unread. */
static void trailing_bytes_are_refused(void **state)
{
	static const char *const tails[] = {
		"x",      "(",       "(\xb5",
		"(\xb5/", "(\xb5/x", "no part of a packed file"};
	struct ctx *ctx = *state;
	struct bytes tar = plain_tar();

	for (enum pack pack = PACK_GZIP; pack < PACKS; pack++) {
		struct bytes packed = bytes_pack(&tar, pack);
		const size_t len = packed.len;

		for (unsigned i = 0; i < ARRAY_LEN(tails); i++) {
			packed.len = len;
			bytes_add(&packed, tails[i], strlen(tails[i]));
			expect(ctx, &tar, &packed, -EINVAL);
		}
		bytes_free(&packed);
	}
	bytes_free(&tar);
}

static void flipped_bits_are_seen(void **state)
{
	struct ctx *ctx = *state;
	struct bytes tar = plain_tar();

	for (enum pack pack = PACK_GZIP; pack < PACKS; pack++) {
		struct bytes packed = bytes_pack(&tar, pack);

		for (size_t at = 12; at < packed.len - 12; at += 97) {
			int r;

			packed.data[at] ^= 0x55;
			r = try(ctx, &tar, &packed);
			/* Data of another kind, or simply wrong. */
			assert_true(r == -EINVAL || r == -ENOTSUP);
			packed.data[at] ^= 0x55;
		}
		bytes_free(&packed);
	}
	bytes_free(&tar);
}

/* Another file's bytes, packed well. */
static void what_is_inside_is_compared(void **state)
{
	struct ctx *ctx = *state;
	struct bytes tar = plain_tar(), other = plain_tar();

	other.data[other.len - 1] = 1;
	for (enum pack pack = PACK_GZIP; pack < PACKS; pack++) {
		struct bytes packed = bytes_pack(&other, pack);

		expect(ctx, &tar, &packed, -EINVAL);
		bytes_free(&packed);
	}
	bytes_free(&tar);
	bytes_free(&other);
}

/* ---- greed */

static void bombs_are_bounded(void **state)
{
	struct ctx *ctx = *state;
	struct bytes zeros = {.data = calloc(1, 16 * MIB), .len = 16 * MIB};

	assert_non_null(zeros.data);
	ctx->options.max_bytes = MIB;
	for (enum pack pack = PACK_GZIP; pack < PACKS; pack++) {
		struct bytes packed = bytes_pack(&zeros, pack);
		struct bytes tar = {0};
		char path[128];

		tar_member(&tar, "zeros", &zeros);
		ctx->layout.nlayers = 0;
		layout_layer(&ctx->layout, &tar, pack);
		refused(ctx, -EFBIG);
		snprintf(path, sizeof(path), "%s/bomb.tar%s", ctx->layout_path,
			 suffixes[pack]);
		write_below(ctx->dir, path + strlen(ctx->dir) + 1, packed.data,
			    packed.len);
		assert_int_equal(rootfs_open(path, &ctx->options, &ctx->rootfs),
				 -EFBIG);
		check_outside(ctx);
		check_store(ctx, 0);
		bytes_free(&packed);
	}
	bytes_free(&zeros);
}

/* A frame by hand, of one raw block; WINDOW: as the header has it (3.1.1.1). */
static struct bytes zstd_by_hand(const struct bytes *tar, uint8_t window)
{
	const uint8_t head[] = {0x28, 0xb5, 0x2f, 0xfd, 0, window};
	struct bytes out = {0};
	uint32_t block = (uint32_t)tar->len << 3 | 1;

	bytes_add(&out, head, sizeof(head));
	bytes_add(&out, &block, 3);
	bytes_add(&out, tar->data, tar->len);
	return out;
}

/* The memory needed to unpack it counts, not its size. */
static void windows_are_bounded(void **state)
{
	static const struct {
		uint8_t window;
		int result;
	} cases[] = {
		{(17 - 10) << 3, 0},
		{(27 - 10) << 3, 0},
		{((27 - 10) << 3) + 1, -ENOTSUP},
		{(28 - 10) << 3, -ENOTSUP},
		{0xff, -ENOTSUP},
	};
	struct ctx *ctx = *state;
	struct bytes tar = plain_tar();

	assert_true(tar.len < 128 * KIB);
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		struct bytes packed = zstd_by_hand(&tar, cases[i].window);

		expect(ctx, &tar, &packed, cases[i].result);
		bytes_free(&packed);
	}
	bytes_free(&tar);
}

/* The block's header says how large the dictionary is (xz's format, 5.3.1). */
static void dictionaries_are_bounded(void **state)
{
	static const struct {
		uint8_t size;
		int result;
	} cases[] = {{22, 0}, {28, 0}, {30, -ENOTSUP}, {40, -ENOTSUP}};
	struct ctx *ctx = *state;
	struct bytes tar = plain_tar();
	struct bytes packed = bytes_pack(&tar, PACK_XZ);

	/* 12 bytes of header; size, flags, filter 0x21, one byte: this one. */
	assert_int_equal(packed.data[14], 0x21);
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		uint32_t sum;

		packed.data[16] = cases[i].size;
		sum = lzma_crc32(packed.data + 12, 8, 0);
		memcpy(packed.data + 20, &sum, 4);
		expect(ctx, &tar, &packed, cases[i].result);
	}
	bytes_free(&packed);
	bytes_free(&tar);
}

/* ---- other formats */

static void other_formats_are_named(void **state)
{
	static const char *const heads[] = {
		"BZh91AY&SY", "\x04\x22\x4d\x18 and so on", "LZIP\x01\x0c",
		/* zstd from before its first version, which its library reads
		 */
		"\x27\xb5\x2f\xfd some of it"};
	struct ctx *ctx = *state;
	struct bytes tar = plain_tar();

	for (unsigned i = 0; i < ARRAY_LEN(heads); i++) {
		struct bytes packed = {0};
		const int expected = i < 3 ? -ENOTSUP : -EINVAL;
		char path[128];

		bytes_add(&packed, heads[i], strlen(heads[i]));
		expect(ctx, &tar, &packed, expected);
		write_below(ctx->layout_path, "other", packed.data, packed.len);
		snprintf(path, sizeof(path), "%s/other", ctx->layout_path);
		assert_int_equal(rootfs_open(path, &ctx->options, &ctx->rootfs),
				 expected);
		bytes_free(&packed);
	}
	bytes_free(&tar);
}

/* The library would read it where a frame of today goes before. */
static void old_formats_do_not_follow(void **state)
{
	static const char old[] = "\x27\xb5\x2f\xfd\x00\x00\x00\x00\xc0\x00";
	struct ctx *ctx = *state;
	struct bytes tar = plain_tar();
	struct bytes packed = bytes_pack(&tar, PACK_ZSTD);

	bytes_add(&packed, old, sizeof(old));
	expect(ctx, &tar, &packed, -EINVAL);
	bytes_free(&packed);
	bytes_free(&tar);
}

/* A tar archive may begin with a file of any name. */
static void a_tar_is_a_tar(void **state)
{
	struct ctx *ctx = *state;
	struct bytes tar = {0};

	tar_file(&tar, "BZh9", "x");
	layout_layer(&ctx->layout, &tar, PACK_NONE);
	opens(ctx);
	content_is(ctx, "BZh9", "x");
	rootfs_close(&ctx->rootfs);
}

/* ---- archives */

static void archives_are_unpacked(void **state)
{
	struct ctx *ctx = *state;

	for (enum pack pack = PACK_NONE; pack < PACKS; pack++) {
		char path[200], name[32];
		struct bytes tar = {.data = malloc(100000)}, packed;
		autofd int fd = -1;
		ssize_t n;

		write_archive(ctx, "a.tar", "a:1", "content", NULL);
		snprintf(path, sizeof(path), "%s/a.tar", ctx->layout_path);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		n = read(fd, tar.data, 100000);
		assert_true(n > 0);
		tar.len = (size_t)n;
		packed = bytes_pack(&tar, pack);
		snprintf(name, sizeof(name), "a.tar%s", suffixes[pack]);
		write_below(ctx->layout_path, name, packed.data, packed.len);
		snprintf(path, sizeof(path), "%s/%s", ctx->layout_path, name);
		assert_int_equal(rootfs_open(path, &ctx->options, &ctx->rootfs),
				 0);
		content_is(ctx, "file", "content");
		assert_string_equal(ctx->rootfs.name, "a:1");
		rootfs_close(&ctx->rootfs);
		check_store(ctx, 1);
		bytes_free(&packed);
		bytes_free(&tar);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(several_parts_are_one_file),
		TEST(skippable_frames_are_skipped),
		TEST(padding_is_taken),
		TEST(every_cut_is_seen),
		TEST(trailing_bytes_are_refused),
		TEST(flipped_bits_are_seen),
		TEST(what_is_inside_is_compared),
		TEST(bombs_are_bounded),
		TEST(windows_are_bounded),
		TEST(dictionaries_are_bounded),
		TEST(other_formats_are_named),
		TEST(old_formats_do_not_follow),
		TEST(a_tar_is_a_tar),
		TEST(archives_are_unpacked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
