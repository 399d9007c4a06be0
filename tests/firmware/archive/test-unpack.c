/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packing and unpacking: a tree comes out as it was; where it goes to, by
 * docker cp's rules; and archives of hostile authors, which reach nothing
 * outside of the directory.
 */
#include "firmware/archive/pack.h"
#include "firmware/archive/unpack.h"
#include "tests/archive.h"
#include "tests/tempdir.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct ctx {
	char dir[TEMPDIR_ROOM];
	int before; /* the working directory */
};

static int setup(void **state)
{
	struct ctx *ctx = calloc(1, sizeof(*ctx));

	log_setup(LOG_ERROR, false);
	ctx->before = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	tempdir_name(ctx->dir);
	assert_non_null(mkdtemp(ctx->dir));
	assert_int_equal(chdir(ctx->dir), 0);
	umask(022);
	*state = ctx;
	return 0;
}

static int teardown(void **state)
{
	struct ctx *ctx = *state;
	char command[TEMPDIR_ROOM + 16];

	assert_int_equal(fchdir(ctx->before), 0);
	close(ctx->before);
	snprintf(command, sizeof(command), "rm -rf '%s'", ctx->dir);
	assert_int_equal(system(command), 0);
	free(ctx);
	return 0;
}

static void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(fclose(file), 0);
}

static void expect_file(const char *path, const char *text)
{
	char found[256] = "";
	FILE *file = fopen(path, "r");

	assert_non_null(file);
	found[fread(found, 1, sizeof(found) - 1, file)] = 0;
	fclose(file);
	assert_string_equal(found, text);
}

static void expect_none(const char *path)
{
	struct stat st;

	assert_int_equal(lstat(path, &st), -1);
	assert_int_equal(errno, ENOENT);
}

/* ---- both */

static const struct unpack_options plain = {.mode = 0777};

static int unpack_fd(int fd, const char *dest,
		     const struct unpack_options *options)
{
	struct unpack_place place = {.dir = -1};
	int r = unpack_find(AT_FDCWD, 0, dest, &place);

	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	if (r == 0)
		r = unpack_archive(&place, options, fd);
	util_close(&place.dir);
	return r;
}

static int copy_with(const char *from, const char *to, bool follow,
		     const struct unpack_options *options)
{
	const struct pack_source source = {
		.root = AT_FDCWD, .path = from, .follow = follow};
	autofd int fd = memfd_create("archive", MFD_CLOEXEC);
	const int packed = pack_tree(&source, fd);
	const int r = packed < 0 && packed != -EIO ? packed
						   : unpack_fd(fd, to, options);

	return r < 0 ? r : packed;
}

static int copy(const char *from, const char *to)
{
	return copy_with(from, to, false, &plain);
}

/* ---- what is kept */

static void test_tree(void **state)
{
	const struct timespec times[2] = {{1000000000, 123456789},
					  {1000000000, 123456789}};
	const struct timespec old[2] = {{-2, 250000000}, {-2, 250000000}};
	const struct unpack_options all = {.mode = 07777};
	char name[160], link[256];
	struct stat st;
	char *text;

	(void)state;
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	assert_int_equal(mkdir("a", 0750), 0);
	assert_int_equal(mkdir("a/deep", 0500), 0);
	assert_int_equal(chdir("a"), 0);
	write_file(name, "long");
	write_file("set", "uid");
	assert_int_equal(chmod("set", 04711), 0);
	assert_int_equal(symlink("/etc/passwd", "link"), 0);
	assert_int_equal(mkfifo("fifo", 0600), 0);
	write_file("empty", "");
	assert_int_equal(truncate("empty", 3000000), 0);
	assert_int_equal(utimensat(AT_FDCWD, name, old, 0), 0);
	assert_int_equal(utimensat(AT_FDCWD, "deep", times, 0), 0);
	assert_int_equal(chdir(".."), 0);
	assert_int_equal(utimensat(AT_FDCWD, "a", times, 0), 0);
	assert_int_equal(copy_with("a", "b", false, &all), 0);
	assert_int_equal(stat("b", &st), 0);
	assert_int_equal(st.st_mode, S_IFDIR | 0750);
	assert_int_equal(st.st_mtim.tv_nsec, 123456789);
	assert_int_equal(stat("b/deep", &st), 0);
	assert_int_equal(st.st_mode, S_IFDIR | 0500);
	assert_int_equal(st.st_mtim.tv_sec, 1000000000);
	assert_int_equal(stat("b/set", &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 04711);
	assert_true(asprintf(&text, "b/%s", name) > 0);
	expect_file(text, "long");
	assert_int_equal(stat(text, &st), 0);
	assert_int_equal(st.st_mtim.tv_sec, -2);
	assert_int_equal(st.st_mtim.tv_nsec, 250000000);
	free(text);
	assert_int_equal(readlink("b/link", link, sizeof(link)), 11);
	assert_int_equal(lstat("b/fifo", &st), 0);
	assert_true(S_ISFIFO(st.st_mode));
	assert_int_equal(stat("b/empty", &st), 0);
	assert_int_equal(st.st_size, 3000000);
	/* Without the bits that give rights away. */
	assert_int_equal(copy("a/set", "c"), 0);
	assert_int_equal(stat("c", &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0711);
}

/* Its size says 0. */
static void test_proc(void **state)
{
	char text[4096] = "";
	FILE *file;

	(void)state;
	assert_int_equal(copy("/proc/self/status", "status"), 0);
	file = fopen("status", "r");
	assert_true(fread(text, 1, sizeof(text) - 1, file) > 100);
	fclose(file);
	assert_non_null(strstr(text, "test-unpack"));
}

/* One whose size says 0, and is larger than what is read at once. */
static void test_large_proc(void **state)
{
	struct stat st;

	(void)state;
	if (access("/proc/kallsyms", R_OK) < 0)
		skip();
	assert_int_equal(copy("/proc/kallsyms", "symbols"), 0);
	assert_int_equal(stat("symbols", &st), 0);
	assert_true(st.st_size > 65536);
}

/* A file that cannot be read is told, and the rest is there. */
static void test_unreadable(void **state)
{
	struct stat st;

	(void)state;
	if (access("/sys/bus/platform/uevent", F_OK) < 0 ||
	    access("/sys/bus/platform/drivers_autoprobe", R_OK) < 0)
		skip();
	assert_int_equal(copy("/sys/bus/platform", "bus"), -EIO);
	assert_int_equal(stat("bus/drivers_autoprobe", &st), 0);
	expect_none("bus/uevent");
}

/* ---- docker cp's rules */

static void test_file_to(void **state)
{
	(void)state;
	write_file("f", "new");
	write_file("old", "old");
	assert_int_equal(mkdir("d", 0700), 0);
	assert_int_equal(copy("f", "made"), 0);
	expect_file("made", "new");
	assert_int_equal(copy("f", "old"), 0);
	expect_file("old", "new");
	assert_int_equal(copy("f", "d"), 0);
	expect_file("d/f", "new");
	assert_int_equal(copy("f", "d/other"), 0);
	expect_file("d/other", "new");
	assert_int_equal(copy("f", "none/"), -EINVAL);
	assert_int_equal(copy("f", "none/x"), -ENOENT);
	assert_int_equal(copy("f", "old/"), -ENOTDIR);
	assert_int_equal(copy("f/", "x"), -ENOTDIR);
	assert_int_equal(copy("f/.", "x"), -ENOTDIR);
	assert_int_equal(copy("none", "x"), -ENOENT);
	expect_none("x");
}

static void test_dir_to(void **state)
{
	(void)state;
	assert_int_equal(mkdir("s", 0700), 0);
	write_file("s/f", "f");
	write_file("file", "file");
	assert_int_equal(mkdir("d", 0700), 0);
	assert_int_equal(copy("s", "made"), 0);
	expect_file("made/f", "f");
	assert_int_equal(copy("s/", "made2/"), 0);
	expect_file("made2/f", "f");
	assert_int_equal(copy("s/.", "made3"), 0);
	expect_file("made3/f", "f");
	assert_int_equal(copy("s", "d"), 0);
	expect_file("d/s/f", "f");
	assert_int_equal(copy("s/.", "d"), 0);
	expect_file("d/f", "f");
	assert_int_equal(copy("s", "file"), -EINVAL);
	expect_file("file", "file");
	/* A directory and what is none never take each other's place. */
	assert_int_equal(mkdir("d2", 0700), 0);
	assert_int_equal(mkdir("d2/f", 0700), 0);
	assert_int_equal(copy("s/.", "d2"), -EINVAL);
	write_file("d2/s", "s");
	assert_int_equal(copy("s", "d2"), -EINVAL);
	expect_file("d2/s", "s");
}

static void test_links(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(mkdir("s", 0700), 0);
	write_file("s/f", "f");
	assert_int_equal(symlink("s", "l"), 0);
	assert_int_equal(copy("l", "m"), 0);
	assert_int_equal(lstat("m", &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(copy_with("l", "n", true, &plain), 0);
	expect_file("n/f", "f");
	assert_int_equal(copy("l/.", "o"), 0);
	expect_file("o/f", "f");
}

/* ---- hostile archives */

static int unpack_bytes(struct bytes *tar, const char *dest, bool as_is)
{
	const struct unpack_options options = {.mode = 0777, .as_is = as_is};
	autofd int fd = memfd_create("archive", MFD_CLOEXEC);
	int r;

	tar_end(tar);
	assert_int_equal(util_write_all(fd, tar->data, tar->len), 0);
	r = unpack_fd(fd, dest, &options);
	bytes_free(tar);
	return r;
}

/* Each in a directory of its own, with its way out beside it. */
static void begin_hostile(void)
{
	assert_int_equal(system("rm -rf in out; mkdir in out"), 0);
	write_file("out/file", "mine");
}

static void expect_unharmed(void)
{
	expect_file("out/file", "mine");
	expect_none("out/x");
	expect_none("x");
}

static void test_hostile_names(void **state)
{
	static const char *const names[] = {
		"../x", "a/../../x", "..", "a/..", "./../x",
	};
	struct ctx *ctx = *state;
	char absolute[TEMPDIR_ROOM + 16];

	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		for (int as_is = 0; as_is < 2; as_is++) {
			struct bytes tar = {0};

			begin_hostile();
			tar_dir(&tar, "a");
			tar_file(&tar, names[i], "x");
			assert_int_equal(unpack_bytes(&tar, "in", as_is),
					 -EINVAL);
			expect_unharmed();
		}
	}
	/* A leading slash is the directory. */
	for (int as_is = 0; as_is < 2; as_is++) {
		struct bytes tar = {0};

		begin_hostile();
		snprintf(absolute, sizeof(absolute), "%s/out/x", ctx->dir);
		tar_file(&tar, absolute, "x");
		assert_int_equal(unpack_bytes(&tar, "in", as_is), 0);
		expect_unharmed();
	}
}

/* A link that the archive brings, and what is to go through it. */
static void test_hostile_links(void **state)
{
	struct ctx *ctx = *state;
	char out[TEMPDIR_ROOM + 16];

	snprintf(out, sizeof(out), "%s/out", ctx->dir);
	for (int as_is = 0; as_is < 2; as_is++) {
		for (unsigned i = 0; i < 6; i++) {
			struct bytes tar = {0};

			begin_hostile();
			tar_dir(&tar, "a");
			tar_symlink(&tar, "a/l", i % 2 ? out : "../../out");
			if (i < 2)
				tar_file(&tar, "a/l/x", "x");
			else if (i < 4)
				tar_hardlink(&tar, "a/h", "a/l/file");
			else
				tar_dir(&tar, "a/l");
			assert_true(unpack_bytes(&tar, "in", as_is) < 0 ||
				    as_is);
			expect_unharmed();
			expect_none("in/a/h");
		}
	}
}

/* A link to a file: what has its name comes in its place. */
static void test_hostile_replace(void **state)
{
	struct bytes tar = {0};

	(void)state;
	begin_hostile();
	assert_int_equal(symlink("../out/file", "in/l"), 0);
	assert_int_equal(link("out/file", "in/h"), 0);
	tar_file(&tar, "in/l", "not");
	tar_file(&tar, "in/h", "not");
	tar_symlink(&tar, "in/s", "../out/file");
	tar_file(&tar, "in/s", "not");
	assert_int_equal(unpack_bytes(&tar, "in", false), 0);
	expect_unharmed();
	expect_file("in/in/l", "not");
	expect_file("in/l", "mine");
	tar = (struct bytes){0};
	tar_file(&tar, "./l", "not");
	tar_file(&tar, "./h", "not");
	assert_int_equal(unpack_bytes(&tar, "in", false), 0);
	expect_unharmed();
	expect_file("in/l", "not");
	expect_file("in/h", "not");
}

/* A container that packs a file must not name others beside it. */
static void test_not_asked_for(void **state)
{
	static const struct {
		const char *name, *link;
		int r;
	} cases[] = {
		{"log", NULL, 0},
		{"./log", NULL, -EINVAL},
		{"/log", NULL, 0},
		{".bashrc", NULL, -EINVAL},
		{"log2", NULL, -EINVAL},
		{"lo", NULL, -EINVAL},
		{".ssh/keys", NULL, -EINVAL},
		{"log/x", NULL, 0},
		{"log", ".bashrc", -EINVAL},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		const struct unpack_options options = {.mode = 0777,
						       .first = "log"};
		struct bytes tar = {0};
		autofd int fd = memfd_create("archive", MFD_CLOEXEC);

		assert_int_equal(system("rm -rf in; mkdir in; echo mine "
					"| tr -d '\\n' >in/.bashrc"),
				 0);
		if (cases[i].link)
			tar_hardlink(&tar, cases[i].name, cases[i].link);
		else
			tar_file(&tar, cases[i].name, "x");
		tar_end(&tar);
		assert_int_equal(write(fd, tar.data, tar.len), tar.len);
		bytes_free(&tar);
		assert_int_equal(unpack_fd(fd, "in", &options), cases[i].r);
		expect_file("in/.bashrc", "mine");
		expect_none("in/.ssh");
	}
}

/* A FIFO stays, as does a file of which only a part comes. */
static void test_stays(void **state)
{
	struct bytes tar = {0};
	struct stat st;
	int fd;

	(void)state;
	assert_int_equal(mkdir("in", 0700), 0);
	assert_int_equal(mkfifo("in/f", 0600), 0);
	write_file("in/whole", "all of it");
	write_file("x", "x");
	assert_int_equal(copy("x", "in/f"), -EINVAL);
	assert_int_equal(lstat("in/f", &st), 0);
	assert_true(S_ISFIFO(st.st_mode));
	tar_file(&tar, "whole", "new");
	fd = memfd_create("archive", MFD_CLOEXEC);
	/* Two of its three bytes. */
	assert_int_equal(util_write_all(fd, tar.data, 512 + 2), 0);
	bytes_free(&tar);
	assert_true(unpack_fd(fd, "in", &plain) < 0);
	close(fd);
	expect_file("in/whole", "all of it");
	expect_none("in/.bulkhead-cp.0");
}

/* In a container links as /lib to usr/lib are followed, inside. */
static void test_as_is(void **state)
{
	struct bytes tar = {0};

	(void)state;
	assert_int_equal(system("mkdir -p in/usr/lib; ln -s usr/lib in/lib; "
				"ln -s /usr in/abs"),
			 0);
	tar_file(&tar, "lib/a", "a");
	tar_file(&tar, "abs/lib/b", "b");
	tar_file(&tar, "new/deep/c", "c");
	assert_int_equal(unpack_bytes(&tar, "in", true), 0);
	expect_file("in/usr/lib/a", "a");
	expect_file("in/usr/lib/b", "b");
	expect_file("in/new/deep/c", "c");
	tar = (struct bytes){0};
	tar_file(&tar, "a", "a");
	assert_int_equal(unpack_bytes(&tar, "none", true), -EINVAL);
	expect_none("none");
}

static void test_nodes(void **state)
{
	const struct archive_file device = {
		.type = '3', .path = "d", .mode = 0666, .major = 1, .minor = 3};
	struct bytes tar = {0};

	(void)state;
	assert_int_equal(mkdir("in", 0700), 0);
	tar_add(&tar, &device);
	assert_int_equal(unpack_bytes(&tar, "in", false), 0);
	expect_none("in/d");
	tar = (struct bytes){0};
	assert_int_equal(unpack_bytes(&tar, "in", false), -ENODATA);
}

#define WITH_DIR(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_DIR(test_tree),          WITH_DIR(test_proc),
		WITH_DIR(test_large_proc),    WITH_DIR(test_unreadable),
		WITH_DIR(test_file_to),       WITH_DIR(test_dir_to),
		WITH_DIR(test_links),         WITH_DIR(test_hostile_names),
		WITH_DIR(test_hostile_links), WITH_DIR(test_hostile_replace),
		WITH_DIR(test_as_is),         WITH_DIR(test_nodes),
		WITH_DIR(test_not_asked_for), WITH_DIR(test_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
