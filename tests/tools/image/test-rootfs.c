/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images become trees in a store: what honest ones come to, and who may use and
 * remove them when. See test-rootfs-hostile.c for the others.
 */
#include "tests/images.h"
#include "tests/patience.h"
#include "tools/image/sha256.h"

#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <sys/xattr.h>

/* ---- honest images */

static void a_directory_is_used_in_place(void **state)
{
	struct ctx *ctx = *state;

	assert_int_equal(rootfs_open(ctx->outside, &ctx->options, &ctx->rootfs),
			 0);
	assert_string_equal(ctx->rootfs.path, ctx->outside);
	assert_null(ctx->rootfs.digest);
	assert_int_equal(ctx->rootfs.hold, -1);
	assert_null(ctx->rootfs.config.cmd[0]);
	assert_null(ctx->rootfs.config.workdir);
	rootfs_close(&ctx->rootfs);
	check_outside(ctx);
	assert_int_equal(access(ctx->store, F_OK), -1);
}

static void check_plain_tree(const struct ctx *ctx)
{
	content_is(ctx, "bin/su", "program");
	content_is(ctx, "tmp/file", "content");
	assert_int_equal(look(ctx, "bin/su").st_nlink, 2);
	assert_int_equal(look(ctx, "bin/same").st_ino,
			 look(ctx, "bin/su").st_ino);
	assert_true(S_ISLNK(look(ctx, "bin/sh").st_mode));
	assert_int_equal(look(ctx, "tmp").st_mtim.tv_sec, 1000000000);
	assert_int_equal(look(ctx, "bin/su").st_mtim.tv_sec, 1000000000);
	if (geteuid() != 0)
		return;
	assert_int_equal(look(ctx, "bin/su").st_mode & 07777, 04755);
	assert_int_equal(look(ctx, "bin/su").st_gid, 7);
	assert_int_equal(look(ctx, "tmp").st_mode & 07777, 01777);
	assert_int_equal(look(ctx, "tmp").st_uid, 1000);
	assert_int_equal(look(ctx, "").st_mode & 07777, 0755);
}

static void a_layout_is_unpacked(void **state)
{
	struct ctx *ctx = *state;

	for (enum pack pack = 0; pack < PACKS; pack++) {
		ctx->layout.nlayers = 0;
		add_plain_layer(ctx, pack);
		opens(ctx);
		check_plain_tree(ctx);
		assert_string_equal(ctx->rootfs.name, "img:latest");
		rootfs_close(&ctx->rootfs);
		/* the same layers: the same image */
		check_store(ctx, 1);
	}
}

static void the_configuration_is_read(void **state)
{
	struct ctx *ctx = *state;
	const struct rootfs_config *config = &ctx->rootfs.config;

	add_plain_layer(ctx, 1);
	layout_finish(&ctx->layout,
		      "{\"Entrypoint\":[\"/init\",\"-x\"],\"Cmd\":null,"
		      "\"Env\":[\"A=b\",\"C=\"],\"User\":\"web:www\","
		      "\"WorkingDir\":\"/srv\",\"StopSignal\":\"SIGINT\","
		      "\"ExposedPorts\":{\"80/tcp\":{}},"
		      "\"Volumes\":{\"/data\":{}},\"Labels\":{\"x\":\"y\"}}",
		      "docker.io/library/web:1.2");
	assert_int_equal(open_image(ctx), 0);
	assert_string_equal(ctx->rootfs.name, "web:1.2");
	assert_string_equal(config->entrypoint[0], "/init");
	assert_string_equal(config->entrypoint[1], "-x");
	assert_null(config->entrypoint[2]);
	assert_null(config->cmd[0]);
	assert_string_equal(config->env[1], "C=");
	assert_string_equal(config->user, "web:www");
	assert_string_equal(config->workdir, "/srv");
	assert_string_equal(config->stop_signal, "SIGINT");
	assert_string_equal(config->ports[0], "80/tcp");
	assert_string_equal(config->volumes[0], "/data");
	rootfs_close(&ctx->rootfs);
	/* and again from the store, by name and by digest */
	assert_int_equal(rootfs_open("web:1.2", &ctx->options, &ctx->rootfs),
			 0);
	assert_string_equal(config->entrypoint[0], "/init");
	assert_string_equal(ctx->rootfs.name, "web:1.2");
	check_plain_tree(ctx);
	rootfs_close(&ctx->rootfs);
}

/* A guest need not ask for what no file has. */
static void xattrs_are_known(void **state)
{
	struct ctx *ctx = *state;
	struct bytes tar = {0};

	add_plain_layer(ctx, 0);
	/* One that is not taken over counts for nothing. */
	tar_pax(&tar, "SCHILY.xattr.trusted.x", "y", 1);
	tar_file(&tar, "file", "x");
	layout_layer(&ctx->layout, &tar, 0);
	opens(ctx);
	assert_true(ctx->rootfs.no_xattrs);
	rootfs_close(&ctx->rootfs);
	opens(ctx);
	assert_true(ctx->rootfs.no_xattrs);
	rootfs_close(&ctx->rootfs);
	tar_pax(&tar, "SCHILY.xattr.user.x", "y", 1);
	tar_file(&tar, "file2", "x");
	layout_layer(&ctx->layout, &tar, 0);
	layout_finish(&ctx->layout, NULL, NULL);
	for (unsigned i = 0; i < 2; i++) {
		char path[512];

		assert_int_equal(open_image(ctx), 0);
		snprintf(path, sizeof(path), "%s/file2", ctx->rootfs.path);
		if (getxattr(path, "user.x", NULL, 0) != 1)
			skip(); /* a file system without */
		assert_false(ctx->rootfs.no_xattrs);
		rootfs_close(&ctx->rootfs);
	}
	/* The owner of a directory may set extended attributes at any time. */
	assert_int_equal(rootfs_open(ctx->outside, &ctx->options, &ctx->rootfs),
			 0);
	assert_false(ctx->rootfs.no_xattrs);
	rootfs_close(&ctx->rootfs);
}

static void an_image_in_use_stays(void **state)
{
	struct ctx *ctx = *state;
	char digest[80];
	struct rootfs_image *images;
	size_t count;

	add_plain_layer(ctx, 0);
	opens(ctx);
	snprintf(digest, sizeof(digest), "%.20s", ctx->rootfs.digest);
	assert_int_equal(rootfs_remove(ctx->store, digest), -EBUSY);
	assert_int_equal(rootfs_list(ctx->store, &images, &count), 0);
	assert_int_equal(count, 1);
	assert_true(images[0].used);
	assert_string_equal(images[0].names[0], "img:latest");
	assert_int_equal(images[0].files, 7);
	rootfs_list_free(images, count);
	check_plain_tree(ctx);
	rootfs_close(&ctx->rootfs);
	assert_int_equal(rootfs_list(ctx->store, &images, &count), 0);
	assert_false(images[0].used);
	rootfs_list_free(images, count);
	assert_int_equal(rootfs_remove(ctx->store, "nothing"), -ENOENT);
	assert_int_equal(rootfs_remove(ctx->store, digest), 0);
	check_store(ctx, 0);
	assert_int_equal(rootfs_list(ctx->store, &images, &count), 0);
	assert_int_equal(count, 0);
	rootfs_list_free(images, count);
}

/* ---- archives */

/* An archive as docker save made it: names are directories, links repeat. */
static void docker_save(struct bytes *tar)
{
	struct bytes layer = {0};
	char hex[SHA256_HEX], config[400], name[100], manifest[400];

	tar_file(&layer, "file", "content");
	tar_end(&layer);
	sha256_hex(layer.data, layer.len, hex);
	snprintf(config, sizeof(config),
		 "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":"
		 "{\"Cmd\":[\"sh\"]},\"rootfs\":{\"diff_ids\":"
		 "[\"sha256:%s\",\"sha256:%s\"]}}",
		 hex, hex);
	sha256_hex(config, strlen(config), hex);
	snprintf(name, sizeof(name), "%s.json", hex);
	snprintf(manifest, sizeof(manifest),
		 "[{\"Config\":\"%s\",\"RepoTags\":[\"a:1\",\"b:2\"],"
		 "\"Layers\":[\"aa/layer.tar\",\"bb/layer.tar\"]}]",
		 name);
	tar_file(tar, name, config);
	tar_dir(tar, "aa/");
	tar_member(tar, "aa/layer.tar", &layer);
	tar_symlink(tar, "bb/layer.tar", "../aa/layer.tar");
	tar_file(tar, "manifest.json", manifest);
	tar_end(tar);
	bytes_free(&layer);
}

static void archives_are_unpacked(void **state)
{
	struct ctx *ctx = *state;
	struct bytes tar = {0}, packed;
	char path[200];

	docker_save(&tar);
	packed = bytes_pack(&tar, PACK_GZIP);
	write_below(ctx->layout_path, "a.tar", tar.data, tar.len);
	write_below(ctx->layout_path, "a.tgz", packed.data, packed.len);
	for (unsigned i = 0; i < 4; i++) {
		static const char *const names[] = {"a.tar", "a.tgz",
						    "a.tar:b:2", "a.tar:a:1"};

		snprintf(path, sizeof(path), "%s/%s", ctx->layout_path,
			 names[i]);
		assert_int_equal(rootfs_open(path, &ctx->options, &ctx->rootfs),
				 0);
		assert_string_equal(ctx->rootfs.name, i == 2 ? "b:2" : "a:1");
		assert_string_equal(ctx->rootfs.config.cmd[0], "sh");
		content_is(ctx, "file", "content");
		rootfs_close(&ctx->rootfs);
		check_store(ctx, 1);
	}
	snprintf(path, sizeof(path), "%s/a.tar:c:3", ctx->layout_path);
	assert_int_equal(rootfs_open(path, &ctx->options, &ctx->rootfs),
			 -ENOENT);
	bytes_free(&tar);
	bytes_free(&packed);
}

/* A gzip'd archive is inflated once: then its damage is not even seen. */
static void archives_are_remembered(void **state)
{
	struct ctx *ctx = *state;
	struct bytes tar = {0}, packed;
	char path[200];
	struct stat st;

	docker_save(&tar);
	packed = bytes_pack(&tar, PACK_GZIP);
	write_below(ctx->layout_path, "a.tgz", packed.data, packed.len);
	snprintf(path, sizeof(path), "%s/a.tgz", ctx->layout_path);
	sleep(3); /* what was changed just now is not remembered */
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(rootfs_open(path, &ctx->options, &ctx->rootfs),
				 0);
		content_is(ctx, "file", "content");
		assert_string_equal(ctx->rootfs.config.cmd[0], "sh");
		snprintf(path, sizeof(path), "%s/..", ctx->rootfs.path);
		/* tree, hold, two JSON files, from-KEY */
		assert_int_equal(count_entries(path), 5);
		snprintf(path, sizeof(path), "%s/a.tgz", ctx->layout_path);
		rootfs_close(&ctx->rootfs);
	}
	assert_int_equal(stat(path, &st), 0);
	packed.data[packed.len / 2] ^= 0xff;
	write_below(ctx->layout_path, "a.tgz", packed.data, packed.len);
	assert_int_equal(rootfs_open(path, &ctx->options, &ctx->rootfs),
			 -EINVAL);
	bytes_free(&tar);
	bytes_free(&packed);
}

/* ---- layers upon layers */

static void lower_layer(struct ctx *ctx)
{
	struct bytes tar = {0};

	tar_dir(&tar, "d/");
	tar_file(&tar, "d/low", "low");
	tar_dir(&tar, "d/sub/");
	tar_file(&tar, "d/sub/low", "low");
	tar_file(&tar, "d/sub/other", "low");
	tar_file(&tar, "f", "low");
	tar_dir(&tar, "usr/lib/");
	tar_symlink(&tar, "lib", "usr/lib");
	layout_layer(&ctx->layout, &tar, 0);
}

static void whiteouts_hide_what_is_below(void **state)
{
	struct ctx *ctx = *state;
	struct bytes tar = {0};

	lower_layer(ctx);
	tar_file(&tar, "d/.wh.low", "");
	tar_file(&tar, "d/.wh.sub", "");
	tar_file(&tar, ".wh.f", "");
	tar_file(&tar, ".wh.nothing", "");
	tar_dir(&tar, ".wh..wh.plnk/");
	layout_layer(&ctx->layout, &tar, 0);
	opens(ctx);
	assert_true(exists(ctx, "d"));
	assert_false(exists(ctx, "d/low"));
	assert_false(exists(ctx, "d/sub"));
	assert_false(exists(ctx, "f"));
	assert_false(exists(ctx, "d/.wh.low"));
	assert_int_equal(count_entries(ctx->rootfs.path), 3);
	rootfs_close(&ctx->rootfs);
}

/* Entries that the same layer brings stay, whichever comes first. */
static void opaque_directories_keep_their_own(void **state)
{
	struct ctx *ctx = *state;

	for (int first = 0; first < 2; first++) {
		struct bytes tar = {0};

		ctx->layout.nlayers = 0;
		lower_layer(ctx);
		if (first)
			tar_file(&tar, "d/.wh..wh..opq", "");
		tar_file(&tar, "d/sub/new", "new");
		tar_file(&tar, "d/own", "own");
		if (!first)
			tar_file(&tar, "d/.wh..wh..opq", "");
		tar_file(&tar, "f", "upper");
		tar_file(&tar, ".wh.f", "");
		layout_layer(&ctx->layout, &tar, 0);
		layout_finish(&ctx->layout, NULL, NULL);
		assert_int_equal(open_image(ctx), 0);
		content_is(ctx, "d/own", "own");
		content_is(ctx, "d/sub/new", "new");
		assert_false(exists(ctx, "d/low"));
		assert_false(exists(ctx, "d/sub/low"));
		content_is(ctx, "f", "upper");
		rootfs_close(&ctx->rootfs);
	}
	check_outside(ctx);
}

/* Debian's /lib is a link, and layers put files through it. */
static void links_in_the_tree_are_followed(void **state)
{
	struct ctx *ctx = *state;
	struct bytes tar = {0};

	lower_layer(ctx);
	tar_file(&tar, "lib/x.so", "x");
	tar_file(&tar, "var/made/by/itself", "x");
	layout_layer(&ctx->layout, &tar, 0);
	opens(ctx);
	content_is(ctx, "usr/lib/x.so", "x");
	assert_true(S_ISLNK(look(ctx, "lib").st_mode));
	content_is(ctx, "var/made/by/itself", "x");
	rootfs_close(&ctx->rootfs);
}

static void later_entries_replace_earlier(void **state)
{
	struct ctx *ctx = *state;
	struct bytes tar = {0};

	lower_layer(ctx);
	tar_file(&tar, "d", "a file now");
	tar_dir(&tar, "f/");
	tar_file(&tar, "f/in", "1");
	tar_file(&tar, "f/in", "2");
	tar_symlink(&tar, "s", "f/in");
	tar_file(&tar, "s", "no link");
	tar_file(&tar, "h", "original");
	tar_hardlink(&tar, "h2", "h");
	tar_hardlink(&tar, "h2", "h2");
	tar_file(&tar, "h2", "changed");
	tar_dir(&tar, "lib/");
	layout_layer(&ctx->layout, &tar, 0);
	opens(ctx);
	content_is(ctx, "d", "a file now");
	content_is(ctx, "f/in", "2");
	content_is(ctx, "s", "no link");
	content_is(ctx, "h", "original");
	content_is(ctx, "h2", "changed");
	assert_true(S_ISDIR(look(ctx, "lib").st_mode));
	rootfs_close(&ctx->rootfs);
}

/* ---- several at once, and sudden ends */

static void one_unpacks_and_all_use(void **state)
{
	struct ctx *ctx = *state;
	pid_t pids[4];

	add_plain_layer(ctx, 1);
	layout_finish(&ctx->layout, NULL, NULL);
	for (unsigned i = 0; i < ARRAY_LEN(pids); i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			_exit(open_image(ctx) == 0 && access(ctx->rootfs.path,
							     F_OK) == 0
				      ? 0
				      : 1);
	}
	for (unsigned i = 0; i < ARRAY_LEN(pids); i++) {
		int status;

		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	check_store(ctx, 1);
	assert_int_equal(open_image(ctx), 0);
	check_plain_tree(ctx);
	rootfs_close(&ctx->rootfs);
}

/* The unpacker's child dies with it, which takes a moment on a busy disk. */
static void swept(const struct ctx *ctx)
{
	struct rootfs_image *images;
	char path[128];
	size_t count;

	snprintf(path, sizeof(path), "%s/images", ctx->store);
	for (unsigned i = 0; i < PATIENCE_MS / 10; i++) {
		assert_int_equal(rootfs_list(ctx->store, &images, &count), 0);
		rootfs_list_free(images, count);
		if (count_entries(path) <= count + 1)
			return;
		usleep(10000);
	}
	fail_msg("something is left in %s", path);
}

static void check_no_parts(const char *path)
{
	const struct dirent *entry;
	DIR *dir = opendir(path);

	while (dir && (entry = readdir(dir)))
		if (strstr(entry->d_name, ".part") ||
		    strstr(entry->d_name, "trash"))
			fail_msg("%s is left over", entry->d_name);
	if (dir)
		closedir(dir);
}

static void many_files(struct ctx *ctx)
{
	struct bytes tar = {0};

	for (unsigned i = 0; i < 3000; i++) {
		char name[32];

		snprintf(name, sizeof(name), "d%u/f%u", i % 10, i);
		tar_file(&tar, name, "some content");
	}
	layout_layer(&ctx->layout, &tar, 1);
	layout_finish(&ctx->layout, NULL, NULL);
}

/* SIGTERM and the like take effect after everything has been undone. */
static void signals_leave_nothing(void **state)
{
	struct ctx *ctx = *state;
	char images[128];
	bool early = false;

	many_files(ctx);
	snprintf(images, sizeof(images), "%s/images", ctx->store);
	for (unsigned i = 0; i < 10; i++) {
		pid_t pid = fork();
		int status;

		if (pid == 0)
			_exit(open_image(ctx) == 0 ? 0 : 1);
		usleep(i * 5000);
		assert_int_equal(kill(pid, SIGTERM), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (WIFSIGNALED(status))
			assert_int_equal(WTERMSIG(status), SIGTERM);
		else
			assert_int_equal(status, 0);
		early |= WIFSIGNALED(status);
		/* .lock, and the image if it was done by then */
		assert_in_range(count_entries(images), 0, 2);
		check_no_parts(images);
	}
	assert_true(early);
	check_outside(ctx);
}

/* The process that makes the store may be killed halfway, or be slow. */
static void half_made_store_is_empty(void **state)
{
	struct ctx *ctx = *state;
	struct rootfs_image *images;
	size_t count = 1;

	assert_int_equal(mkdir(ctx->store, 0700), 0);
	assert_int_equal(rootfs_list(ctx->store, &images, &count), 0);
	assert_int_equal(count, 0);
	rootfs_list_free(images, count);
	assert_int_equal(rootfs_remove(ctx->store, "nothing"), -ENOENT);
}

static void killed_unpackers_leave_nothing(void **state)
{
	struct ctx *ctx = *state;

	many_files(ctx);
	for (unsigned i = 0; i < 10; i++) {
		pid_t pid = fork();
		int status;

		if (pid == 0)
			_exit(open_image(ctx) == 0 ? 0 : 1);
		usleep(i * 5000);
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		swept(ctx);
	}
	assert_int_equal(open_image(ctx), 0);
	assert_int_equal(count_entries(ctx->rootfs.path), 10);
	rootfs_close(&ctx->rootfs);
}

static void work_of_others_is_not_swept(void **state)
{
	struct ctx *ctx = *state;
	char part[300], hold[320];
	autofd int fd = -1;
	struct rootfs_image *images;
	size_t count;

	add_plain_layer(ctx, 0);
	opens(ctx);
	rootfs_close(&ctx->rootfs);
	snprintf(part, sizeof(part), "%s/images/%064d.part", ctx->store, 7);
	snprintf(hold, sizeof(hold), "%s/hold", part);
	assert_int_equal(mkdir(part, 0700), 0);
	fd = open(hold, O_RDWR | O_CREAT, 0600);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_int_equal(rootfs_list(ctx->store, &images, &count), 0);
	assert_int_equal(count, 1);
	rootfs_list_free(images, count);
	assert_int_equal(access(hold, F_OK), 0);
	util_close(&fd);
	assert_int_equal(rootfs_list(ctx->store, &images, &count), 0);
	rootfs_list_free(images, count);
	check_store(ctx, 1);
}

static void a_store_of_others_is_refused(void **state)
{
	struct ctx *ctx = *state;

	add_plain_layer(ctx, 0);
	layout_finish(&ctx->layout, NULL, NULL);
	assert_int_equal(mkdir(ctx->store, 0700), 0);
	assert_int_equal(chmod(ctx->store, 0777), 0);
	assert_int_equal(open_image(ctx), -EPERM);
	assert_int_equal(count_entries(ctx->store), 0);
}

/* ---- without privilege */

static int as_nobody(struct ctx *ctx)
{
	char path[512], text[64] = "";
	struct stat st;

	if (setgid(65534) < 0 || setuid(65534) < 0)
		return 10;
	/* A file system without user xattrs has to say so, and is one. */
	if (open_image(ctx) < 0)
		return 77;
	if (!ctx->rootfs.owner_xattr)
		return 11;
	snprintf(path, sizeof(path), "%s/bin/su", ctx->rootfs.path);
	if (getxattr(path, "user.bulkhead.stat", text, sizeof(text) - 1) < 0 ||
	    strcmp(text, "0:7:104755:0") != 0)
		return 12;
	if (stat(path, &st) < 0 || (st.st_mode & 07777) != 0600)
		return 13;
	memset(text, 0, sizeof(text));
	snprintf(path, sizeof(path), "%s/null", ctx->rootfs.path);
	if (getxattr(path, "user.bulkhead.stat", text, sizeof(text) - 1) < 0 ||
	    strcmp(text, "3:4:20666:259") != 0)
		return 14;
	memset(text, 0, sizeof(text));
	if (getxattr(ctx->rootfs.path, "user.bulkhead.stat", text,
		     sizeof(text) - 1) < 0 ||
	    strcmp(text, "0:0:40755:0") != 0)
		return 15;
	rootfs_close(&ctx->rootfs);
	return rootfs_remove(ctx->store, "img") < 0 ? 16 : 0;
}

static void owners_are_kept_without_privilege(void **state)
{
	struct ctx *ctx = *state;
	struct bytes tar = {0};
	int status;
	pid_t pid;

	if (geteuid() != 0)
		skip();
	add_plain_layer(ctx, 1);
	tar_add(&tar, &(struct archive_file){.type = '3',
					     .path = "null",
					     .mode = 0666,
					     .uid = 3,
					     .gid = 4,
					     .major = 1,
					     .minor = 3});
	tar_add(&tar, &(struct archive_file){
			      .type = '5', .path = "closed", .mode = 0});
	tar_file(&tar, "closed/file", "x");
	layout_layer(&ctx->layout, &tar, 1);
	layout_finish(&ctx->layout, NULL, NULL);
	assert_int_equal(chmod(ctx->dir, 0755), 0);
	assert_int_equal(mkdir(ctx->store, 0700), 0);
	assert_int_equal(chown(ctx->store, 65534, 65534), 0);
	pid = fork();
	if (pid == 0)
		_exit(as_nobody(ctx));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
	check_outside(ctx);
	check_store(ctx, 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(a_directory_is_used_in_place),
		TEST(a_layout_is_unpacked),
		TEST(the_configuration_is_read),
		TEST(xattrs_are_known),
		TEST(an_image_in_use_stays),
		TEST(archives_are_unpacked),
		TEST(archives_are_remembered),
		TEST(whiteouts_hide_what_is_below),
		TEST(opaque_directories_keep_their_own),
		TEST(links_in_the_tree_are_followed),
		TEST(later_entries_replace_earlier),
		TEST(one_unpacks_and_all_use),
		TEST(signals_leave_nothing),
		TEST(half_made_store_is_empty),
		TEST(killed_unpackers_leave_nothing),
		TEST(work_of_others_is_not_swept),
		TEST(a_store_of_others_is_refused),
		TEST(owners_are_kept_without_privilege),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
