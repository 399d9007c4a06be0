/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile images, continued: sizes, orders and numbers of layers that are not
 * as told, trees that change between layers, files that no entry counts, and
 * names that a terminal would obey. test-rootfs-hostile.c has the rest.
 */
#include "tests/images.h"
#include "tools/image/sha256.h"

#include <sys/mman.h>

/* ---- what a terminal sees */

/* Refused, with all that was said of it. */
static char *refused_saying(struct ctx *ctx, int error)
{
	const int saved = dup(STDERR_FILENO);
	int fd = memfd_create("messages", MFD_CLOEXEC);
	char *text = calloc(1, 8192);
	int r;

	layout_finish(&ctx->layout, NULL, NULL);
	assert_non_null(text);
	assert_true(saved >= 0 && fd >= 0 && dup2(fd, STDERR_FILENO) >= 0);
	r = open_image(ctx);
	dup2(saved, STDERR_FILENO);
	close(saved);
	assert_true(pread(fd, text, 8191, 0) > 0);
	close(fd);
	assert_int_equal(r, error);
	check_outside(ctx);
	check_store(ctx, 0);
	return text;
}

/* Escape sequences, new lines, the C1 set in one byte and in two. */
static void names_are_not_obeyed(void **state)
{
	static const char *const names[] = {
		"\x1b[2J\x1b]0;owned\x07/../x",
		"one\nbulkhead: all is well\r/../x",
		"\x9b"
		"31m/../x",
		"\xc2\x9b"
		"31m/../x",
		"\x7f\x08\x08\x08/../x",
		"\xff\xfe\xc0\x80\xed\xa0\x80\xf4\x90\x80\x80\xe2\x82/../x",
	};
	struct ctx *ctx = *state;

	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		for (unsigned way = 0; way < 3; way++) {
			struct bytes tar = {0};
			autofree char *text = NULL;

			ctx->layout.nlayers = 0;
			if (way == 0)
				tar_file(&tar, names[i], "x");
			else if (way == 1)
				tar_hardlink(&tar, "link", names[i]);
			else
				tar_pax(&tar, "path", names[i],
					strlen(names[i]));
			if (way == 2)
				tar_dir(&tar, "other");
			layout_layer(&ctx->layout, &tar, 0);
			text = refused_saying(ctx, -EINVAL);
			for (const char *p = text; *p; p++)
				if ((*p < ' ' || *p > '~') && *p != '\n')
					fail_msg("byte %02x in: %s", *p & 0xff,
						 text);
			assert_ptr_equal(strchr(text, '\n'),
					 text + strlen(text) - 1);
		}
	}
}

/* Text stays text. */
static void names_are_readable(void **state)
{
	struct ctx *ctx = *state;
	struct bytes tar = {0};
	autofree char *text = NULL;

	tar_file(&tar, "gr\xc3\xbc\xc3\x9f/\xe2\x82\xac/\xf0\x9f\x98\x80/../x",
		 "x");
	layout_layer(&ctx->layout, &tar, 0);
	text = refused_saying(ctx, -EINVAL);
	assert_non_null(strstr(text, "gr\xc3\xbc\xc3\x9f/\xe2\x82\xac/"
				     "\xf0\x9f\x98\x80/../x"));
}

/* ---- layers that are not as told */

static void add_layer_of(struct ctx *ctx, const char *content)
{
	struct bytes tar = {0};

	tar_file(&tar, "file", content);
	layout_layer(&ctx->layout, &tar, 0);
}

static void layers_have_an_order(void **state)
{
	struct ctx *ctx = *state;
	struct layout *layout = &ctx->layout;
	char digest[72];

	add_layer_of(ctx, "first");
	add_layer_of(ctx, "second");
	memcpy(digest, layout->digest[0], sizeof(digest));
	memcpy(layout->digest[0], layout->digest[1], sizeof(digest));
	memcpy(layout->digest[1], digest, sizeof(digest));
	refused(ctx, -EINVAL);
	/* Both lists the other way round: another image, and a right one. */
	memcpy(digest, layout->diff_id[0], sizeof(digest));
	memcpy(layout->diff_id[0], layout->diff_id[1], sizeof(digest));
	memcpy(layout->diff_id[1], digest, sizeof(digest));
	opens(ctx);
	content_is(ctx, "file", "first");
	rootfs_close(&ctx->rootfs);
}

static void sizes_are_compared(void **state)
{
	static const size_t lies[] = {0, 1, 1023, 1025, SIZE_MAX / 2};
	struct ctx *ctx = *state;

	add_layer_of(ctx, "content");
	for (unsigned i = 0; i < ARRAY_LEN(lies); i++) {
		const size_t truth = ctx->layout.size[0];

		ctx->layout.size[0] = lies[i];
		refused(ctx, -EINVAL);
		/* beyond what JSON's numbers have */
		ctx->layout.size[0] = SIZE_MAX;
		refused(ctx, -EINVAL);
		ctx->layout.size[0] = truth;
	}
	opens(ctx);
	rootfs_close(&ctx->rootfs);
}

/* A member that says it is longer than what follows, in a layer. */
static void members_end_with_the_layer(void **state)
{
	static const uint64_t lies[] = {2048, 65536, UINT64_C(1) << 33,
					INT64_MAX / 2};
	struct ctx *ctx = *state;

	for (unsigned i = 0; i < ARRAY_LEN(lies); i++) {
		struct bytes tar = {0};

		ctx->layout.nlayers = 0;
		tar_add(&tar,
			&(struct archive_file){.type = '0',
					       .path = "f",
					       .content = "x",
					       .mode = 0644,
					       .size = lies[i] & 0777777});
		if (i >= 2) {
			char number[24];

			tar.len = 0;
			snprintf(number, sizeof(number), "%ju",
				 (uintmax_t)lies[i]);
			tar_pax(&tar, "size", number, strlen(number));
			tar_file(&tar, "f", "x");
		}
		layout_layer(&ctx->layout, &tar, i & 1);
		refused(ctx, -EINVAL);
	}
}

static void put(struct bytes *b, const char *text)
{
	bytes_add(b, text, strlen(text));
}

/* A layout's directory with a manifest of `docker save`, COUNT layers. */
static void write_docker(struct ctx *ctx, unsigned count, uint64_t config_bytes)
{
	struct bytes tar = {0}, manifest = {0}, config = {0};
	char hex[65], text[100], path[128];

	tar_file(&tar, "file", "content");
	tar_end(&tar);
	sha256_hex(tar.data, tar.len, hex);
	put(&manifest, "[{\"Config\":\"c.json\",\"Layers\":[");
	put(&config, "{\"config\":{},\"rootfs\":{\"diff_ids\":[");
	for (unsigned i = 0; i < count; i++) {
		snprintf(text, sizeof(text), "%s\"layer\"", i ? "," : "");
		put(&manifest, text);
		snprintf(text, sizeof(text), "%s\"sha256:%s\"", i ? "," : "",
			 hex);
		put(&config, text);
	}
	put(&manifest, "]}]");
	put(&config, "]}}");
	write_below(ctx->layout_path, "oci-layout", "{}", 2);
	write_below(ctx->layout_path, "layer", tar.data, tar.len);
	write_below(ctx->layout_path, "manifest.json", manifest.data,
		    manifest.len);
	write_below(ctx->layout_path, "c.json", config.data, config.len);
	if (config_bytes > 0) {
		snprintf(path, sizeof(path), "%s/c.json", ctx->layout_path);
		assert_int_equal(truncate(path, (off_t)config_bytes), 0);
	}
	bytes_free(&tar);
	bytes_free(&manifest);
	bytes_free(&config);
}

static void layers_are_bounded(void **state)
{
	static const unsigned too_many[] = {513, 1000, 40000};
	struct ctx *ctx = *state;

	for (unsigned i = 0; i < ARRAY_LEN(too_many); i++) {
		write_docker(ctx, too_many[i], 0);
		assert_int_equal(open_image(ctx), -EINVAL);
		check_store(ctx, 0);
	}
	write_docker(ctx, 512, 0);
	assert_int_equal(open_image(ctx), 0);
	content_is(ctx, "file", "content");
	rootfs_close(&ctx->rootfs);
	check_outside(ctx);
}

static void configurations_are_bounded(void **state)
{
	struct ctx *ctx = *state;

	write_docker(ctx, 1, GIB);
	assert_int_equal(open_image(ctx), -EINVAL);
	write_docker(ctx, 1, 4 * MIB + 1);
	assert_int_equal(open_image(ctx), -EINVAL);
	check_store(ctx, 0);
	check_outside(ctx);
}

/* ---- trees that change under what comes later */

/* A directory that the next layer turns into a link out. */
static void links_between_layers_lead_nowhere(void **state)
{
	struct ctx *ctx = *state;

	for (unsigned way = 0; way < 4; way++) {
		struct bytes tar = {0};

		ctx->layout.nlayers = 0;
		tar_dir(&tar, "d/");
		tar_file(&tar, "d/secret", "mine");
		layout_layer(&ctx->layout, &tar, 0);
		tar_symlink(&tar, "d", ctx->outside);
		layout_layer(&ctx->layout, &tar, 0);
		if (way == 0)
			tar_file(&tar, "d/secret", "theirs");
		else if (way == 1)
			tar_file(&tar, "d/.wh.secret", "");
		else if (way == 2)
			tar_hardlink(&tar, "mine", "d/secret");
		else
			tar_file(&tar, "d/.wh..wh..opq", "");
		layout_layer(&ctx->layout, &tar, 1);
		refused(ctx, -EINVAL);
	}
}

/* The directory that was written to last, replaced, and written to again. */
static void links_within_a_layer_are_looked_at_again(void **state)
{
	struct ctx *ctx = *state;
	struct bytes tar = {0};

	tar_file(&tar, "d/e/one", "1");
	tar_symlink(&tar, "d", "/other");
	tar_file(&tar, "other/e/two", "2");
	tar_file(&tar, "d/e/three", "3");
	tar_symlink(&tar, "other/e", ctx->outside);
	layout_layer(&ctx->layout, &tar, 0);
	opens(ctx);
	assert_true(S_ISLNK(look(ctx, "other/e").st_mode));
	assert_true(S_ISLNK(look(ctx, "d").st_mode));
	rootfs_close(&ctx->rootfs);
}

static void the_last_of_one_name_counts(void **state)
{
	struct ctx *ctx = *state;
	struct bytes tar = {0};

	tar_file(&tar, "a", "1");
	tar_file(&tar, "a/b/c", "2");
	layout_layer(&ctx->layout, &tar, 0);
	refused(ctx, -ENOTDIR);
	ctx->layout.nlayers = 0;
	tar_file(&tar, "a", "1");
	tar_dir(&tar, "a");
	tar_file(&tar, "a/b/c", "2");
	tar_symlink(&tar, "a", "/nowhere");
	tar_file(&tar, "a", "3");
	tar_file(&tar, "a", "4");
	tar_hardlink(&tar, "a", "a");
	tar_file(&tar, "b", "5");
	tar_hardlink(&tar, "a", "b");
	tar_file(&tar, "b", "6");
	layout_layer(&ctx->layout, &tar, 0);
	opens(ctx);
	content_is(ctx, "a", "5");
	content_is(ctx, "b", "6");
	rootfs_close(&ctx->rootfs);
}

/* One entry makes as many directories as its name has slashes. */
static void directories_that_nobody_mentions_count(void **state)
{
	struct ctx *ctx = *state;
	struct bytes tar = {0};
	char name[256];

	for (unsigned i = 0; i < 120; i++)
		memcpy(name + 2 * i, "d/", 3);
	tar_pax(&tar, "path", name, strlen(name));
	tar_dir(&tar, "deep");
	ctx->options.max_files = 100;
	layout_layer(&ctx->layout, &tar, 0);
	refused(ctx, -EFBIG);
	ctx->options.max_files = 120;
	opens(ctx);
	rootfs_close(&ctx->rootfs);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(names_are_not_obeyed),
		TEST(names_are_readable),
		TEST(layers_have_an_order),
		TEST(sizes_are_compared),
		TEST(members_end_with_the_layer),
		TEST(layers_are_bounded),
		TEST(configurations_are_bounded),
		TEST(links_between_layers_lead_nowhere),
		TEST(links_within_a_layer_are_looked_at_again),
		TEST(the_last_of_one_name_counts),
		TEST(directories_that_nobody_mentions_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
