/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile images: names and links that lead out, devices, bombs, damage and
 * lies. Whatever comes of them, nothing outside of the store is touched, and a
 * refused one leaves nothing in it.
 */
#include "tests/images.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <sys/xattr.h>

/* ---- hostile names and links */

static void names_lead_nowhere_else(void **state)
{
	static const char *const names[] = {
		"../evil",  "a/../../evil", "..",      "a/..", "./../x",
		"/../x",    ".wh..",        ".wh...",  ".wh.", "d/.wh..",
		"d/.wh...", "d/.wh.x/y",    ".wh.x/y",
	};
	struct ctx *ctx = *state;

	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		struct bytes tar = {0};

		ctx->layout.nlayers = 0;
		tar_dir(&tar, "d/");
		tar_file(&tar, names[i], "x");
		layout_layer(&ctx->layout, &tar, 0);
		refused(ctx, -EINVAL);
		/* the same by an extended header, as a directory */
		ctx->layout.nlayers = 0;
		tar_dir(&tar, "d/");
		tar_pax(&tar, "path", names[i], strlen(names[i]));
		tar_dir(&tar, "harmless");
		layout_layer(&ctx->layout, &tar, 1);
		refused(ctx, -EINVAL);
	}
}

static void absolute_names_are_the_images(void **state)
{
	struct ctx *ctx = *state;
	struct bytes tar = {0};
	char evil[128];

	snprintf(evil, sizeof(evil), "%s/evil", ctx->outside);
	tar_file(&tar, evil, "inside");
	tar_file(&tar, "///etc//./passwd", "root");
	layout_layer(&ctx->layout, &tar, 0);
	opens(ctx);
	content_is(ctx, evil + 1, "inside");
	content_is(ctx, "etc/passwd", "root");
	rootfs_close(&ctx->rootfs);
}

/* A link out, and every way to use it. */
static void links_out_are_no_way_out(void **state)
{
	static const char *const targets[] = {
		"%s",
		"../../../../../../../../../..%s",
		"/proc/self/root%s",
	};
	struct ctx *ctx = *state;

	for (unsigned i = 0; i < ARRAY_LEN(targets); i++) {
		char target[200];

		snprintf(target, sizeof(target), targets[i], ctx->outside);
		for (unsigned way = 0; way < 5; way++) {
			struct bytes tar = {0};

			ctx->layout.nlayers = 0;
			tar_symlink(&tar, "esc", target);
			if (way == 0)
				tar_file(&tar, "esc/evil", "x");
			else if (way == 1)
				tar_file(&tar, "esc/.wh.secret", "");
			else if (way == 2)
				tar_file(&tar, "esc/.wh..wh..opq", "");
			else if (way == 3)
				tar_hardlink(&tar, "mine", "esc/secret");
			else
				tar_dir(&tar, "esc/sub/");
			layout_layer(&ctx->layout, &tar, 0);
			refused(ctx, -EINVAL);
		}
	}
}

static void links_up_end_at_the_root(void **state)
{
	struct ctx *ctx = *state;
	struct bytes tar = {0};

	tar_file(&tar, "keep", "x");
	tar_symlink(&tar, "esc", "../../../../../../..");
	tar_file(&tar, "esc/evil", "caught");
	tar_symlink(&tar, "root", "/");
	tar_file(&tar, "root/evil2", "caught");
	layout_layer(&ctx->layout, &tar, 0);
	tar_file(&tar, "esc/.wh.keep", "");
	layout_layer(&ctx->layout, &tar, 0);
	opens(ctx);
	content_is(ctx, "evil", "caught");
	content_is(ctx, "evil2", "caught");
	assert_false(exists(ctx, "keep"));
	rootfs_close(&ctx->rootfs);
}

/* Where a link is the last part of the name, it is replaced or kept. */
static void final_links_are_not_followed(void **state)
{
	struct ctx *ctx = *state;
	struct bytes tar = {0};
	char secret[128];

	snprintf(secret, sizeof(secret), "%s/secret", ctx->outside);
	tar_symlink(&tar, "file", secret);
	tar_file(&tar, "file", "mine");
	tar_symlink(&tar, "dir", ctx->outside);
	tar_add(&tar, &(struct archive_file){
			      .type = '5', .path = "dir", .mode = 0777});
	tar_file(&tar, "dir/secret", "mine");
	tar_symlink(&tar, "fifo", secret);
	tar_add(&tar, &(struct archive_file){
			      .type = '6', .path = "fifo", .mode = 0777});
	tar_symlink(&tar, "link", secret);
	tar_hardlink(&tar, "hard", "link");
	tar_file(&tar, "hard", "mine");
	tar_symlink(&tar, "dir2", ctx->outside);
	layout_layer(&ctx->layout, &tar, 0);
	tar_file(&tar, ".wh.dir2", "");
	layout_layer(&ctx->layout, &tar, 0);
	opens(ctx);
	content_is(ctx, "file", "mine");
	content_is(ctx, "hard", "mine");
	assert_true(S_ISDIR(look(ctx, "dir").st_mode));
	assert_true(S_ISLNK(look(ctx, "link").st_mode));
	assert_false(exists(ctx, "dir2"));
	rootfs_close(&ctx->rootfs);
}

static void hard_links_lead_nowhere_else(void **state)
{
	struct ctx *ctx = *state;
	char secret[128], relative[128];
	const char *const targets[] = {
		secret,
		relative,
		"../../../../../../../../../etc/hostname",
		"/proc/self/exe",
		"missing",
		"d",
		"/",
		".",
		"..",
	};

	snprintf(secret, sizeof(secret), "%s/secret", ctx->outside);
	snprintf(relative, sizeof(relative), "../../../../outside/secret");
	for (unsigned i = 0; i < ARRAY_LEN(targets); i++) {
		struct bytes tar = {0};

		ctx->layout.nlayers = 0;
		tar_dir(&tar, "d/");
		tar_hardlink(&tar, "mine", targets[i]);
		layout_layer(&ctx->layout, &tar, 0);
		refused(ctx, -EINVAL);
	}
}

static void the_root_stays_a_directory(void **state)
{
	static const char types[] = "0236";
	struct ctx *ctx = *state;

	for (unsigned i = 0; types[i]; i++) {
		struct bytes tar = {0};

		ctx->layout.nlayers = 0;
		tar_add(&tar, &(struct archive_file){.type = types[i],
						     .path = ".",
						     .link = ctx->outside});
		tar_file(&tar, "evil", "x");
		layout_layer(&ctx->layout, &tar, 0);
		refused(ctx, -EINVAL);
	}
}

static void devices_are_left_out(void **state)
{
	struct ctx *ctx = *state;
	struct bytes tar = {0};
	struct stat st;

	tar_add(&tar, &(struct archive_file){.type = '4',
					     .path = "dev/vda",
					     .mode = 0666,
					     .major = 254});
	tar_add(&tar, &(struct archive_file){
			      .type = '3', .path = "whiteout", .mode = 0666});
	tar_file(&tar, "file", "x");
	layout_layer(&ctx->layout, &tar, 0);
	opens(ctx);
	content_is(ctx, "file", "x");
	if (geteuid() == 0) {
		assert_false(exists(ctx, "dev/vda"));
		assert_false(exists(ctx, "whiteout"));
	} else {
		st = look(ctx, "dev/vda");
		assert_true(S_ISREG(st.st_mode));
	}
	rootfs_close(&ctx->rootfs);
	/* Only the store's owner can reach an image's set-user-ID programs. */
	assert_int_equal(stat(ctx->store, &st), 0);
	assert_int_equal(st.st_mode & 077, 0);
}

static void xattrs_with_a_meaning_here_are_left_out(void **state)
{
	static const char *const names[] = {
		"user.kept", "user.bulkhead.stat", "user.overlay.opaque",
		"trusted.overlay.opaque", "security.selinux"};
	struct ctx *ctx = *state;
	struct bytes tar = {0};
	char list[512];
	ssize_t n;

	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		char key[64];

		snprintf(key, sizeof(key), "SCHILY.xattr.%s", names[i]);
		tar_pax(&tar, key, "y", 1);
		tar_file(&tar, "f", "x");
	}
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		char key[64], file[8];

		snprintf(key, sizeof(key), "SCHILY.xattr.%s", names[i]);
		snprintf(file, sizeof(file), "f%u", i);
		tar_pax(&tar, key, "y", 1);
		tar_file(&tar, file, "x");
	}
	layout_layer(&ctx->layout, &tar, 0);
	opens(ctx);
	for (unsigned i = 0; i < ARRAY_LEN(names) && geteuid() == 0; i++) {
		char path[512];

		snprintf(path, sizeof(path), "%s/f%u", ctx->rootfs.path, i);
		n = listxattr(path, list, sizeof(list));
		if (i == 0 && n == 0)
			skip(); /* a file system without */
		assert_int_equal(n, i == 0 ? sizeof("user.kept") : 0);
	}
	rootfs_close(&ctx->rootfs);
}

/* ---- bombs */

static void bombs_are_bounded(void **state)
{
	struct ctx *ctx = *state;
	struct bytes tar = {0},
		     zeros = {.data = calloc(1, 32 * MIB), .len = 32 * MIB};

	assert_non_null(zeros.data);
	ctx->options.max_bytes = MIB;
	tar_member(&tar, "zeros", &zeros);
	layout_layer(&ctx->layout, &tar, 1);
	refused(ctx, -EFBIG);
	/* The same behind the archive's end, where no entry says so. */
	ctx->layout.nlayers = 0;
	tar_file(&tar, "f", "x");
	tar_end(&tar);
	bytes_add(&tar, zeros.data, zeros.len);
	layout_layer(&ctx->layout, &tar, 1);
	refused(ctx, -EFBIG);
	/* And spread over layers. */
	ctx->layout.nlayers = 0;
	zeros.len = 700 * KIB;
	for (unsigned i = 0; i < 2; i++) {
		tar_member(&tar, i ? "a" : "b", &zeros);
		layout_layer(&ctx->layout, &tar, 1);
	}
	refused(ctx, -EFBIG);
	bytes_free(&zeros);
}

static void a_bomb_of_files_is_bounded(void **state)
{
	struct ctx *ctx = *state;
	struct bytes tar = {0};

	ctx->options.max_files = 100;
	for (unsigned i = 0; i < 101; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%u", i);
		tar_file(&tar, name, "");
	}
	layout_layer(&ctx->layout, &tar, 1);
	refused(ctx, -EFBIG);
}

/* On a disk that is smaller than the image, within a second. */
static int on_small_disk(struct ctx *ctx, int want)
{
	char path[128];

	if (unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", ctx->store, "tmpfs", 0, "size=1m,mode=0700") < 0)
		return 77;
	if (open_image(ctx) != want)
		return 1;
	snprintf(path, sizeof(path), "%s/images", ctx->store);
	return count_entries(path) == 1 ? 0 : 2;
}

static void a_full_disk_is_said(void **state)
{
	struct ctx *ctx = *state;
	struct bytes tar = {0},
		     zeros = {.data = calloc(1, 4 * MIB), .len = 4 * MIB};
	int status;
	pid_t pid;

	assert_non_null(zeros.data);
	for (unsigned i = 0; i < 2; i++) {
		struct stat st;

		/* The space of the disk is known; files cost more than that. */
		ctx->layout.nlayers = 0;
		if (i == 0)
			tar_member(&tar, "zeros", &zeros);
		for (unsigned n = 0; i == 1 && n < 900; n++) {
			char name[16];

			snprintf(name, sizeof(name), "f%u", n);
			tar_file(&tar, name, "content");
		}
		layout_layer(&ctx->layout, &tar, 1);
		layout_finish(&ctx->layout, NULL, NULL);
		if (stat(ctx->store, &st) < 0)
			assert_int_equal(mkdir(ctx->store, 0700), 0);
		pid = fork();
		if (pid == 0)
			_exit(on_small_disk(ctx, i == 0 ? -EFBIG : -ENOSPC));
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status));
		if (WEXITSTATUS(status) == 77)
			skip();
		assert_int_equal(WEXITSTATUS(status), 0);
	}
	bytes_free(&zeros);
	check_outside(ctx);
}

/*
 * Deeper than any path, than a whiteout looks (HIDE_DEPTH_MAX) and than there
 * are descriptors: made through links, removed all the same.
 */
static void deep_trees_can_be_removed(void **state)
{
	static const char name[] = "d23456789012345678901234/";
	struct rlimit before, few;
	struct ctx *ctx = *state;
	struct bytes tar = {0};
	char deep[50 * (sizeof(name) - 1) + 1], path[1300];

	for (unsigned i = 0; i < sizeof(deep) - 1; i += sizeof(name) - 1)
		memcpy(deep + i, name, sizeof(name) - 1);
	deep[sizeof(deep) - 2] = '\0';
	for (unsigned i = 0; i < 6; i++) {
		char link[8];

		snprintf(path, sizeof(path), i ? "l%u/%s" : "%.0u%s", i, deep);
		tar_pax(&tar, "path", path, strlen(path));
		tar_dir(&tar, "deep");
		snprintf(link, sizeof(link), "l%u", i + 1);
		tar_pax(&tar, "linkpath", path, strlen(path));
		tar_symlink(&tar, link, "deep");
	}
	layout_layer(&ctx->layout, &tar, 1);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = before;
	few.rlim_cur = 64;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	opens(ctx);
	rootfs_close(&ctx->rootfs);
	assert_int_equal(rootfs_remove(ctx->store, "img"), 0);
	check_store(ctx, 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	/* A whiteout that looks into it gives up in time. */
	snprintf(path, sizeof(path), ".wh.%.*s", (int)sizeof(name) - 2, name);
	tar_file(&tar, path, "");
	layout_layer(&ctx->layout, &tar, 0);
	refused(ctx, -EINVAL);
}

/* ---- damage and lies */

static void flip(const struct ctx *ctx, const char *digest, long at)
{
	char path[200];
	FILE *file;
	int c;

	snprintf(path, sizeof(path), "%s/blobs/sha256/%s", ctx->layout_path,
		 digest + 7);
	file = fopen(path, "r+");
	assert_non_null(file);
	assert_int_equal(fseek(file, at, SEEK_SET), 0);
	c = fgetc(file);
	assert_int_equal(fseek(file, at, SEEK_SET), 0);
	fputc(c ^ 1, file);
	fclose(file);
}

static void digests_are_compared(void **state)
{
	struct ctx *ctx = *state;

	/* a file's content: no archive's checksum covers it */
	add_plain_layer(ctx, 0);
	layout_finish(&ctx->layout, NULL, NULL);
	flip(ctx, ctx->layout.digest[0], 1536 + 2);
	assert_int_equal(open_image(ctx), -EINVAL);
	check_store(ctx, 0);
	/* gzip's own header: what it inflates to is right */
	ctx->layout.nlayers = 0;
	add_plain_layer(ctx, 1);
	layout_finish(&ctx->layout, NULL, NULL);
	flip(ctx, ctx->layout.digest[0], 9);
	assert_int_equal(open_image(ctx), -EINVAL);
	check_store(ctx, 0);
	/* a layer that is another one */
	ctx->layout.nlayers = 0;
	add_plain_layer(ctx, 1);
	ctx->layout.diff_id[0][20] ^= 1;
	if (ctx->layout.diff_id[0][20] == '`' ||
	    ctx->layout.diff_id[0][20] == 'g')
		ctx->layout.diff_id[0][20] = '0';
	refused(ctx, -EINVAL);
}

static void cut_off_layers_are_refused(void **state)
{
	struct ctx *ctx = *state;

	for (enum pack pack = 0; pack < PACKS; pack++) {
		char path[200];

		ctx->layout.nlayers = 0;
		add_plain_layer(ctx, pack);
		snprintf(path, sizeof(path), "%s/blobs/sha256/%s",
			 ctx->layout_path, ctx->layout.digest[0] + 7);
		assert_int_equal(truncate(path, 100), 0);
		refused(ctx, -EINVAL);
		assert_int_equal(unlink(path), 0);
		refused(ctx, -EINVAL);
	}
}

/* Documents that are no image, each as the index or as something it names. */
static void odd_documents_are_refused(void **state)
{
	static const char *const documents[] = {
		"",
		"{",
		"[]",
		"null",
		"{}",
		"{\"manifests\":3}",
		"{\"manifests\":[]}",
		"{\"manifests\":[3]}",
		"{\"manifests\":[{}]}",
		"{\"manifests\":[{\"digest\":\"sha256:../../../etc/passwd\"}]}",
		"{\"manifests\":[{\"digest\":\"../../../../etc/passwd\"}]}",
		"{\"manifests\":[{\"digest\":\"sha256:"
		"0000000000000000000000000000000000000000000000000000000000000"
		"000\"}]}",
		"{\"manifests\":[{\"digest\":\"md5:00\"}]}",
		/* two documents in one: CVE-2021-41190 */
		"{\"manifests\":[],\"config\":{},\"layers\":[]}",
		"{\"config\":{},\"layers\":[]}",
		"{\"manifests\":[],\"manifests\":[]}",
	};
	struct ctx *ctx = *state;
	autofree char *deep = malloc(200001);

	write_below(ctx->layout_path, "oci-layout", "{}", 2);
	for (unsigned i = 0; i < ARRAY_LEN(documents); i++) {
		int r;

		write_below(ctx->layout_path, "index.json", documents[i],
			    strlen(documents[i]));
		r = open_image(ctx);
		if (r != -EINVAL && r != -ENOTSUP)
			fail_msg("%s: %d", documents[i], r);
		check_outside(ctx);
		check_store(ctx, 0);
	}
	assert_non_null(deep);
	memset(deep, '[', 200000);
	write_below(ctx->layout_path, "index.json", deep, 200000);
	assert_int_equal(open_image(ctx), -EINVAL);
	snprintf(deep, 200, "%s/index.json", ctx->layout_path);
	assert_int_equal(truncate(deep, 1 << 30), 0);
	assert_int_equal(open_image(ctx), -EINVAL);
}

/* A blob that is a link to a file of the host, or something that blocks. */
static void layouts_are_not_left(void **state)
{
	struct ctx *ctx = *state;
	char path[200], secret[128];

	snprintf(secret, sizeof(secret), "%s/secret", ctx->outside);
	snprintf(path, sizeof(path), "%s/index.json", ctx->layout_path);
	write_below(ctx->layout_path, "oci-layout", "{}", 2);
	assert_int_equal(symlink(secret, path), 0);
	assert_int_equal(open_image(ctx), -EXDEV);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink("../outside/secret", path), 0);
	assert_int_equal(open_image(ctx), -EXDEV);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0644), 0);
	assert_int_equal(open_image(ctx), -EINVAL);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0755), 0);
	assert_int_equal(open_image(ctx), -EINVAL);
	check_outside(ctx);
}

static void odd_names_are_not_shown(void **state)
{
	struct ctx *ctx = *state;

	add_plain_layer(ctx, 0);
	layout_finish(&ctx->layout, NULL, "evil:\\u001b[2J");
	assert_int_equal(open_image(ctx), 0);
	assert_null(strchr(ctx->rootfs.name, 0x1b));
	rootfs_close(&ctx->rootfs);
}

static void what_is_no_image_is_said(void **state)
{
	struct ctx *ctx = *state;
	char path[200];

	write_below(ctx->layout_path, "text", "hello, world", 12);
	snprintf(path, sizeof(path), "%s/text", ctx->layout_path);
	assert_int_equal(rootfs_open(path, &ctx->options, &ctx->rootfs),
			 -EINVAL);
	snprintf(path, sizeof(path), "%s/missing", ctx->layout_path);
	assert_int_equal(rootfs_open(path, &ctx->options, &ctx->rootfs),
			 -ENOENT);
	assert_int_equal(rootfs_open("", &ctx->options, &ctx->rootfs), -ENOENT);
	assert_int_equal(rootfs_open(":", &ctx->options, &ctx->rootfs),
			 -ENOENT);
	assert_int_equal(rootfs_open("/dev/null", &ctx->options, &ctx->rootfs),
			 -EINVAL);
	assert_int_equal(access(ctx->store, F_OK), -1);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(names_lead_nowhere_else),
		TEST(absolute_names_are_the_images),
		TEST(links_out_are_no_way_out),
		TEST(links_up_end_at_the_root),
		TEST(final_links_are_not_followed),
		TEST(hard_links_lead_nowhere_else),
		TEST(the_root_stays_a_directory),
		TEST(devices_are_left_out),
		TEST(xattrs_with_a_meaning_here_are_left_out),
		TEST(bombs_are_bounded),
		TEST(a_bomb_of_files_is_bounded),
		TEST(a_full_disk_is_said),
		TEST(deep_trees_can_be_removed),
		TEST(digests_are_compared),
		TEST(cut_off_layers_are_refused),
		TEST(odd_documents_are_refused),
		TEST(layouts_are_not_left),
		TEST(odd_names_are_not_shown),
		TEST(what_is_no_image_is_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
