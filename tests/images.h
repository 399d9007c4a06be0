/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the tests of images: a directory with a layout to be filled, a
 * store, and one beside them that nothing may touch.
 */
#ifndef TESTS_IMAGES_H
#define TESTS_IMAGES_H

#include "tests/archive.h"
#include "tests/tempdir.h"
#include "tools/image/rootfs.h"
#include "tools/image/sha256.h"
#include "vmm/base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#define SECRET "untouched"

struct ctx {
	char dir[TEMPDIR_ROOM]; /* everything is below it */
	char layout_path[96], store[96], outside[96];
	struct layout layout;
	struct rootfs_options options;
	struct rootfs rootfs;
};

static inline int remove_entry(const char *path, const struct stat *st,
			       int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

static inline void make_outside(struct ctx *ctx)
{
	const struct timespec past[2] = {{.tv_sec = 5}, {.tv_sec = 5}};

	write_below(ctx->outside, "secret", SECRET, strlen(SECRET));
	write_below(ctx->outside, "sub/file", "x", 1);
	assert_int_equal(utimensat(AT_FDCWD, ctx->outside, past, 0), 0);
}

static inline int setup(void **state)
{
	struct ctx *ctx = calloc(1, sizeof(*ctx));

	assert_non_null(ctx);
	/* Each image that is unpacked syncs the file system it is on. */
	tempdir_name_in_memory(ctx->dir);
	assert_non_null(mkdtemp(ctx->dir));
	snprintf(ctx->layout_path, sizeof(ctx->layout_path), "%s/img",
		 ctx->dir);
	snprintf(ctx->store, sizeof(ctx->store), "%s/store", ctx->dir);
	snprintf(ctx->outside, sizeof(ctx->outside), "%s/outside", ctx->dir);
	assert_int_equal(mkdir(ctx->layout_path, 0755), 0);
	assert_int_equal(mkdir(ctx->outside, 0755), 0);
	make_outside(ctx);
	ctx->layout.path = ctx->layout_path;
	ctx->options.store = ctx->store;
	ctx->rootfs.hold = -1;
	*state = ctx;
	return 0;
}

static inline int teardown(void **state)
{
	struct ctx *ctx = *state;
	char command[128];

	/* Some trees here are deeper than nftw() can remove. */
	snprintf(command, sizeof(command), "rm -rf '%s'", ctx->dir);
	if (nftw(ctx->dir, remove_entry, 32, FTW_DEPTH | FTW_PHYS) != 0)
		assert_int_equal(system(command), 0);
	free(ctx);
	return 0;
}

/* ---- looking */

static inline void check_file(const char *dir, const char *name,
			      const char *content)
{
	char path[512], buf[256] = "";
	autofd int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY | O_NOFOLLOW);
	if (fd < 0)
		fail_msg("%s: %s", path, strerror(errno));
	n = read(fd, buf, sizeof(buf) - 1);
	assert_true(n >= 0);
	buf[n] = '\0';
	assert_string_equal(buf, content);
}

static inline bool exists(const struct ctx *ctx, const char *name)
{
	char path[512];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", ctx->rootfs.path, name);
	return lstat(path, &st) == 0;
}

static inline struct stat look(const struct ctx *ctx, const char *name)
{
	char path[512];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", ctx->rootfs.path, name);
	if (lstat(path, &st) < 0)
		fail_msg("%s: %s", path, strerror(errno));
	return st;
}

static inline void content_is(const struct ctx *ctx, const char *name,
			      const char *content)
{
	check_file(ctx->rootfs.path, name, content);
}

static inline unsigned count_entries(const char *path)
{
	const struct dirent *entry;
	unsigned n = 0;
	DIR *dir = opendir(path);

	if (!dir)
		return 0;
	while ((entry = readdir(dir)))
		n += strcmp(entry->d_name, ".") != 0 &&
		     strcmp(entry->d_name, "..") != 0;
	closedir(dir);
	return n;
}

static inline void check_outside(const struct ctx *ctx)
{
	struct stat st;

	check_file(ctx->outside, "secret", SECRET);
	check_file(ctx->outside, "sub/file", "x");
	assert_int_equal(count_entries(ctx->outside), 2);
	assert_int_equal(stat(ctx->outside, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_int_equal(st.st_mtim.tv_sec, 5);
	/* img, outside, and the store if it got that far */
	assert_in_range(count_entries(ctx->dir), 2, 3);
}

/* The store holds IMAGES of them, and nothing half done. */
static inline void check_store(const struct ctx *ctx, unsigned images)
{
	char path[128];
	unsigned n;

	snprintf(path, sizeof(path), "%s/images", ctx->store);
	n = count_entries(path);
	if (n != 0 || images != 0)
		assert_int_equal(n, images + 1); /* .lock */
}

/* ---- doing */

static inline int open_image(struct ctx *ctx)
{
	return rootfs_open(ctx->layout_path, &ctx->options, &ctx->rootfs);
}

static inline void opens(struct ctx *ctx)
{
	layout_finish(&ctx->layout, NULL, NULL);
	assert_int_equal(open_image(ctx), 0);
	check_outside(ctx);
	check_store(ctx, 1);
}

static inline void refused(struct ctx *ctx, int error)
{
	layout_finish(&ctx->layout, NULL, NULL);
	assert_int_equal(open_image(ctx), error);
	check_outside(ctx);
	check_store(ctx, 0);
}

static inline void add_plain_layer(struct ctx *ctx, enum pack pack)
{
	struct bytes tar = {0};

	tar_dir(&tar, "./");
	tar_dir(&tar, "./bin/");
	tar_add(&tar, &(struct archive_file){.type = '0',
					     .path = "./bin/su",
					     .content = "program",
					     .mode = 04755,
					     .uid = 0,
					     .gid = 7});
	tar_hardlink(&tar, "bin/same", "./bin/su");
	tar_symlink(&tar, "bin/sh", "/bin/su");
	tar_add(&tar, &(struct archive_file){.type = '5',
					     .path = "tmp",
					     .mode = 01777,
					     .uid = 1000});
	tar_file(&tar, "tmp/file", "content");
	layout_layer(&ctx->layout, &tar, pack);
}

/*
 * An archive as docker save makes it, with one file of that CONTENT and one
 * tag; RET_ID: the image's digits, NULL is allowed.
 */
static inline void write_archive(const struct ctx *ctx, const char *name,
				 const char *tag, const char *content,
				 char ret_id[SHA256_HEX])
{
	struct bytes layer = {0}, tar = {0};
	char hex[SHA256_HEX], config[300], text[400];

	tar_file(&layer, "file", content);
	tar_end(&layer);
	sha256_hex(layer.data, layer.len, hex);
	tar_member(&tar, "layer.tar", &layer);
	bytes_free(&layer);
	snprintf(config, sizeof(config),
		 "{\"rootfs\":{\"diff_ids\":[\"sha256:%s\"]}}", hex);
	sha256_hex(config, strlen(config), hex);
	tar_file(&tar, "c.json", config);
	snprintf(text, sizeof(text),
		 "[{\"Config\":\"c.json\",\"RepoTags\":[\"%s\"],"
		 "\"Layers\":[\"layer.tar\"]}]",
		 tag);
	tar_file(&tar, "manifest.json", text);
	tar_end(&tar);
	write_below(ctx->layout_path, name, tar.data, tar.len);
	bytes_free(&tar);
	if (ret_id)
		memcpy(ret_id, hex, sizeof(hex));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
