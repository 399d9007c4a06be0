/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names that images have, and names that they cannot have: an archive takes no
 * other image's name, and a digest means the image that has it or none.
 */
#include "tests/images.h"
#include "tools/image/rootfs-parts.h"

/* ---- helpers */

/* Opens the archive FILE of the layout's directory; what it is called. */
static void run_archive(struct ctx *ctx, const char *file, const char *content,
			const char *name)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/%s", ctx->layout_path, file);
	assert_int_equal(rootfs_open(path, &ctx->options, &ctx->rootfs), 0);
	content_is(ctx, "file", content);
	assert_string_equal(ctx->rootfs.name, name ? name : path);
	rootfs_close(&ctx->rootfs);
}

/*
 * The configuration by which an image of the store is run, and that it is that
 * one.
 */
static void means(struct ctx *ctx, const char *what, const char *content)
{
	if (rootfs_open(what, &ctx->options, &ctx->rootfs) < 0)
		fail_msg("'%s' is not found", what);
	content_is(ctx, "file", content);
	rootfs_close(&ctx->rootfs);
}

static void means_nothing(struct ctx *ctx, const char *what)
{
	assert_int_equal(rootfs_open(what, &ctx->options, &ctx->rootfs),
			 -ENOENT);
}

/* All names in the store, each with a space behind it. */
static void all_names(struct ctx *ctx, char *ret, size_t room)
{
	struct rootfs_image *images;
	size_t count, len = 0;

	ret[0] = '\0';
	assert_int_equal(rootfs_list(ctx->store, &images, &count), 0);
	for (size_t i = 0; i < count; i++)
		for (char **name = images[i].names; *name; name++)
			len += (size_t)snprintf(ret + len, room - len, "%s ",
						*name);
	rootfs_list_free(images, count);
}

static void names_are(struct ctx *ctx, const char *expected)
{
	char names[1000];

	all_names(ctx, names, sizeof(names));
	assert_string_equal(names, expected);
}

/* ---- who gives names */

static void an_archive_takes_no_name(void **state)
{
	struct ctx *ctx = *state;

	write_archive(ctx, "good.tar", "busybox:latest", "good", NULL);
	write_archive(ctx, "evil.tar", "docker.io/library/busybox", "evil",
		      NULL);
	run_archive(ctx, "good.tar", "good", "busybox:latest");
	for (unsigned i = 0; i < 2; i++) {
		run_archive(ctx, "evil.tar", "evil", NULL);
		means(ctx, "busybox", "good");
		means(ctx, "docker.io/library/busybox:latest", "good");
		names_are(ctx, "busybox:latest ");
	}
	/* The same image may say it again, and a free name is free. */
	run_archive(ctx, "good.tar", "good", "busybox:latest");
	assert_int_equal(rootfs_remove(ctx->store, "busybox"), 0);
	run_archive(ctx, "evil.tar", "evil", "busybox:latest");
	run_archive(ctx, "good.tar", "good", NULL);
	means(ctx, "busybox", "evil");
}

/* A layout that is made anew keeps what it was called by its directory. */
static void a_layout_takes_no_name(void **state)
{
	struct ctx *ctx = *state;
	struct bytes tar = {0};

	add_plain_layer(ctx, 0);
	opens(ctx);
	assert_string_equal(ctx->rootfs.name, "img:latest");
	rootfs_close(&ctx->rootfs);
	layout_finish(&ctx->layout, NULL, "other:1");
	assert_int_equal(open_image(ctx), 0);
	rootfs_close(&ctx->rootfs);
	/* Two names: removing one leaves the image. */
	assert_int_equal(rootfs_remove(ctx->store, "other:1"), 0);
	check_store(ctx, 1);
	tar_file(&tar, "new", "new");
	layout_layer(&ctx->layout, &tar, 0);
	layout_finish(&ctx->layout, NULL, NULL);
	assert_int_equal(open_image(ctx), 0);
	assert_string_equal(ctx->rootfs.name, ctx->layout_path);
	rootfs_close(&ctx->rootfs);
	check_store(ctx, 2);
	assert_int_equal(rootfs_open("img", &ctx->options, &ctx->rootfs), 0);
	assert_false(exists(ctx, "new"));
	rootfs_close(&ctx->rootfs);
	ctx->options.name = "img";
	assert_int_equal(open_image(ctx), 0);
	assert_string_equal(ctx->rootfs.name, "img:latest");
	rootfs_close(&ctx->rootfs);
	ctx->options.name = NULL;
	assert_int_equal(rootfs_open("img", &ctx->options, &ctx->rootfs), 0);
	content_is(ctx, "new", "new");
	rootfs_close(&ctx->rootfs);
	names_are(ctx, "img:latest ");
}

static void the_user_gives_names(void **state)
{
	static const char *const bad[] = {"",
					  "sha256:0123456789ab",
					  "0123456789ab",
					  "a b",
					  "a@b",
					  "a:b:c",
					  "a:",
					  "a/",
					  "\x1b[m"};
	struct ctx *ctx = *state;
	char id[SHA256_HEX], path[200];

	write_archive(ctx, "one.tar", "app:1", "one", id);
	write_archive(ctx, "two.tar", "app:1", "two", NULL);
	run_archive(ctx, "one.tar", "one", "app:1");
	snprintf(path, sizeof(path), "%s/two.tar", ctx->layout_path);
	ctx->options.name = "app:1";
	means(ctx, path, "two");
	ctx->options.name = NULL;
	means(ctx, "app:1", "two");
	/* The first one has no name left, but its digest. */
	ctx->options.name = "docker.io/library/other";
	means(ctx, id, "one");
	ctx->options.name = "third";
	means(ctx, "other", "one");
	ctx->options.name = NULL;
	means(ctx, "other:latest", "one");
	means(ctx, "third", "one");
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		ctx->options.name = bad[i];
		assert_int_equal(rootfs_open(path, &ctx->options, &ctx->rootfs),
				 -EINVAL);
	}
	ctx->options.name = "x";
	assert_int_equal(rootfs_open(ctx->outside, &ctx->options, &ctx->rootfs),
			 -EINVAL);
	means_nothing(ctx, "nothing");
	check_outside(ctx);
}

/* ---- digests */

/* The ways to say the image ID, for FORM from 0; false: there are no more. */
static bool say_digest(unsigned form, const char *id, char ret[160])
{
	static const char *const forms[] = {
		"sha256:%s",
		"sha256:%.12s",
		"sha256:%.4s",
		"%s",
		"%.12s",
		"%.8s",
		"%.4s",
		"busybox@sha256:%s",
		"docker.io/library/busybox:1@sha256:%s",
	};

	if (form >= ARRAY_LEN(forms))
		return false;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(ret, 160, forms[form], id);
#pragma GCC diagnostic pop
	return true;
}

static void a_digest_is_no_name(void **state)
{
	struct ctx *ctx = *state;
	char id[SHA256_HEX], tag[160], file[32], content[16];

	write_archive(ctx, "good.tar", "good:1", "good", id);
	run_archive(ctx, "good.tar", "good", "good:1");
	for (unsigned i = 0; say_digest(i, id, tag); i++) {
		snprintf(file, sizeof(file), "evil%u.tar", i);
		snprintf(content, sizeof(content), "evil%u", i);
		write_archive(ctx, file, tag, content, NULL);
		snprintf(tag, sizeof(tag), "%s/%s", ctx->layout_path, file);
		means(ctx, tag, content);
	}
	for (unsigned i = 0; say_digest(i, id, tag); i++)
		means(ctx, tag, "good");
	/* Where the image is gone, its digest means none. */
	assert_int_equal(rootfs_remove(ctx->store, tag), 0);
	for (unsigned i = 0; say_digest(i, id, tag); i++) {
		means_nothing(ctx, tag);
		assert_int_equal(rootfs_remove(ctx->store, tag), -ENOENT);
	}
}

/* Words of few digits are names, too, but not without a tag. */
static void short_names_of_digits_need_a_tag(void **state)
{
	struct ctx *ctx = *state;

	write_archive(ctx, "a.tar", "cafe:latest", "cafe", NULL);
	write_archive(ctx, "b.tar", "2048:1", "2048", NULL);
	run_archive(ctx, "a.tar", "cafe", "cafe:latest");
	run_archive(ctx, "b.tar", "2048", "2048:1");
	means(ctx, "cafe:latest", "cafe");
	means(ctx, "2048:1", "2048");
	means_nothing(ctx, "cafe");
	means_nothing(ctx, "2048");
	assert_int_equal(rootfs_remove(ctx->store, "cafe"), -ENOENT);
	assert_int_equal(rootfs_remove(ctx->store, "cafe:latest"), 0);
}

/* Records that an older program, or somebody else, wrote for an image. */
static void old_names_are_not_believed(void **state)
{
	struct ctx *ctx = *state;
	const char *head = "{\"names\":[1,\"\\u009b31m\"";
	const char *tail = ",\"evil:1\"]}";
	char good[SHA256_HEX], evil[SHA256_HEX], tag[160], path[200];
	struct bytes record = {0};
	struct rootfs_image *images;
	size_t count;

	write_archive(ctx, "good.tar", "good:1", "good", good);
	write_archive(ctx, "evil.tar", "evil:1", "evil", evil);
	run_archive(ctx, "good.tar", "good", "good:1");
	run_archive(ctx, "evil.tar", "evil", "evil:1");
	bytes_add(&record, head, strlen(head));
	for (unsigned i = 0; say_digest(i, good, tag); i++) {
		bytes_add(&record, ",\"", 2);
		bytes_add(&record, tag, strlen(tag));
		bytes_add(&record, "\"", 1);
	}
	bytes_add(&record, tail, strlen(tail));
	snprintf(path, sizeof(path), "images/%s/image.json", evil);
	write_below(ctx->store, path, record.data, record.len);
	bytes_free(&record);
	for (unsigned i = 0; say_digest(i, good, tag); i++)
		means(ctx, tag, "good");
	means(ctx, "evil:1", "evil");
	assert_int_equal(rootfs_list(ctx->store, &images, &count), 0);
	for (size_t i = 0; i < count; i++) {
		assert_non_null(images[i].names[0]);
		assert_null(images[i].names[1]);
	}
	rootfs_list_free(images, count);
	/* By its only name, so that no image is left without one. */
	assert_int_equal(rootfs_remove(ctx->store, "evil:1"), 0);
	names_are(ctx, "good:1 ");
	assert_int_equal(rootfs_remove(ctx->store, "good:1"), 0);
	for (unsigned i = 0; say_digest(i, good, tag); i++)
		means_nothing(ctx, tag);
}

/* The directory that a user happens to be in says nothing about digests. */
static void files_are_no_digests(void **state)
{
	struct ctx *ctx = *state;
	char id[SHA256_HEX], text[160], file[200], here[4096];

	write_archive(ctx, "good.tar", "good:1", "good", id);
	run_archive(ctx, "good.tar", "good", "good:1");
	for (unsigned i = 0; say_digest(i, id, text); i++) {
		/* A file of fewer digits is one. */
		if (strlen(text) < 12)
			continue;
		snprintf(file, sizeof(file), "%s/file", text);
		write_below(ctx->layout_path, file, "evil", 4);
	}
	write_below(ctx->layout_path, "sha256/file", "evil", 4);
	assert_non_null(getcwd(here, sizeof(here)));
	assert_int_equal(chdir(ctx->layout_path), 0);
	for (unsigned i = 0; say_digest(i, id, text); i++)
		means(ctx, text, "good");
	snprintf(text, sizeof(text), "./%.12s", id);
	means(ctx, text, "evil");
	assert_int_equal(chdir(here), 0);
}

/* ---- forms */

static void names_have_one_form(void **state)
{
	static const struct {
		const char *text, *name;
	} cases[] = {
		{"a", "a:latest"},
		{"a:1", "a:1"},
		{"docker.io/library/a", "a:latest"},
		{"docker.io/library/docker.io/library/a:1", "a:1"},
		{"library/docker.io/x/a", "x/a:latest"},
		{"localhost:5000/x/a", "localhost:5000/x/a:latest"},
		{"localhost:5000/0123456789ab:1",
		 "localhost:5000/0123456789ab:1"},
		{"0123456789a", "0123456789a:latest"},
		{"0123456789ag", "0123456789ag:latest"},
		{"0123456789ab", NULL},
		{"0123456789ab:1", NULL},
		{"docker.io/0123456789ab", NULL},
		{"library/sha256:0123", NULL},
		{"sha256", NULL},
		{"sha512:a", NULL},
		{"a@sha256:0123", NULL},
		{"a:b:c", NULL},
		{"a:", NULL},
		{"a/", NULL},
		{"a/:b", NULL},
		{"-a", NULL},
		{"", NULL},
		{"docker.io/", NULL},
		{"a\xc2\x9b", NULL},
		{"a b", NULL},
	};
	char name[IMAGE_NAME_MAX + 1], again[IMAGE_NAME_MAX + 1];

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		if (name_normalize(cases[i].text, name) !=
		    (cases[i].name != NULL))
			fail_msg("'%s'", cases[i].text);
		if (!cases[i].name)
			continue;
		assert_string_equal(name, cases[i].name);
		assert_true(name_normalize(name, again));
		assert_string_equal(name, again);
		assert_true(name_is_normal(name));
		/* With its tag, it is a name to whoever looks for it. */
		assert_null(name_digits(name));
		assert_false(name_is_digest(name));
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(an_archive_takes_no_name),
		TEST(a_layout_takes_no_name),
		TEST(the_user_gives_names),
		TEST(a_digest_is_no_name),
		TEST(short_names_of_digits_need_a_tag),
		TEST(old_names_are_not_believed),
		TEST(files_are_no_digests),
		cmocka_unit_test(names_have_one_form),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
