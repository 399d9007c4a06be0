/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A distribution's kernel: which one is taken, and which of its modules go into
 * a guest, in which order; what damaged and hostile lists do.
 */
#include "tools/guest/distro.h"

#include "tests/descriptors.h"
#include "tests/tempdir.h"
#include "tools/guest/modules.h"
#include "tools/guest/unpack.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"

#include <asm/bootparam.h>
#include <errno.h>
#include <fcntl.h>
#include <lzma.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <cmocka.h>

#define PATH_ROOM (TEMPDIR_ROOM + 128)
#define VERSION   "6.1.0-9-test"

struct context {
	char root[TEMPDIR_ROOM];
	char modules[PATH_ROOM]; /* of VERSION */
	struct initrd_files files;
	unsigned descriptors;
};

static void make_dirs(char *path)
{
	for (char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
		*p = '\0';
		assert_true(mkdir(path, 0755) == 0 || errno == EEXIST);
		*p = '/';
	}
}

static void put_bytes(const char *dir, const char *name, const void *data,
		      size_t bytes)
{
	char path[2 * PATH_ROOM];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	make_dirs(path);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(util_write_all(fd, data, bytes), 0);
	close(fd);
}

static void put(const char *dir, const char *name, const char *text)
{
	put_bytes(dir, name, text, strlen(text));
}

/* Distributions' files have many more such lines. */
static const char usual[] =
	"kernel/drivers/virtio/virtio.ko:\n"
	"kernel/drivers/virtio/virtio_ring.ko:\n"
	"kernel/drivers/virtio/virtio_mmio.ko: "
	"kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko\n"
	"kernel/drivers/block/virtio_blk.ko: "
	"kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko\n"
	"kernel/fs/fuse/fuse.ko:\n"
	"kernel/fs/fuse/virtiofs.ko: kernel/drivers/virtio/virtio.ko "
	"kernel/drivers/virtio/virtio_ring.ko kernel/fs/fuse/fuse.ko\n"
	"kernel/fs/xfs/xfs.ko: kernel/lib/libcrc32c.ko\n"
	"kernel/lib/libcrc32c.ko:\n"
	"kernel/fs/overlayfs/overlay.ko:\n";

/* A file for each line of the list LINES. */
static void put_files(const char *modules, const char *lines)
{
	for (const char *at = lines; *at; at = strchr(at, '\n') + 1) {
		char name[PATH_ROOM];

		snprintf(name, sizeof(name), "%.*s", (int)strcspn(at, ":"), at);
		put(modules, name, name);
	}
}

static int setup(void **state)
{
	struct context *c = calloc(1, sizeof(*c));

	assert_non_null(c);
	log_setup(LOG_ERROR, false);
	c->descriptors = open_descriptors();
	tempdir_name(c->root);
	assert_non_null(mkdtemp(c->root));
	snprintf(c->modules, sizeof(c->modules), "%s/lib/modules/" VERSION,
		 c->root);
	put(c->root, "boot/vmlinuz-" VERSION, "kernel");
	put(c->modules, "modules.dep", usual);
	put(c->modules, "modules.builtin", "kernel/fs/ext4/ext4.ko\n");
	put_files(c->modules, usual);
	*state = c;
	return 0;
}

static int teardown(void **state)
{
	struct context *c = *state;
	char command[TEMPDIR_ROOM + 16];

	initrd_files_done(&c->files);
	assert_int_equal(open_descriptors(), c->descriptors);
	snprintf(command, sizeof(command), "rm -rf '%s'", c->root);
	assert_int_equal(system(command), 0); /* NOLINT: a name of ours */
	unsetenv("BULKHEAD_DISTRO");
	unsetenv("BULKHEAD_CACHE");
	free(c);
	return 0;
}

/* ---- which one */

static void expect_found(const struct context *c, const char *version,
			 const char *image)
{
	struct distro d = {0};
	char why[DISTRO_WHY], path[PATH_ROOM];

	assert_int_equal(distro_find_below(c->root, &d, why), 0);
	assert_string_equal(d.version, version);
	snprintf(path, sizeof(path), "%s/%s", c->root, image);
	assert_string_equal(d.image, path);
	snprintf(path, sizeof(path), "%s/lib/modules/%s", c->root, version);
	assert_string_equal(d.modules, path);
	distro_done(&d);
}

static void expect_none(const struct context *c, const char *expected)
{
	struct distro d = {0};
	char why[DISTRO_WHY];

	assert_int_equal(distro_find_below(c->root, &d, why), -ENOENT);
	assert_null(d.version);
	assert_non_null(strstr(why, expected));
}

static void add_version(const struct context *c, const char *version,
			const char *dep)
{
	char name[PATH_ROOM];

	snprintf(name, sizeof(name), "lib/modules/%s/modules.dep", version);
	put(c->root, name, dep);
}

/* By number, not by letter; and only what a guest can use. */
static void test_newest(void **state)
{
	struct context *c = *state;

	expect_found(c, VERSION, "boot/vmlinuz-" VERSION);
	add_version(c, "6.1.0-10-test", usual);
	expect_found(c, VERSION, "boot/vmlinuz-" VERSION);
	put(c->root, "lib/modules/6.1.0-10-test/vmlinuz", "kernel");
	expect_found(c, "6.1.0-10-test", "lib/modules/6.1.0-10-test/vmlinuz");
	add_version(c, "6.2.0-1-virt", usual);
	put(c->root, "boot/vmlinuz-virt", "kernel");
	expect_found(c, "6.2.0-1-virt", "boot/vmlinuz-virt");
	add_version(c, "6.3.0-1-small", "kernel/fs/fuse/virtiofs.ko:\n");
	put(c->root, "boot/vmlinuz-6.3.0-1-small", "kernel");
	expect_found(c, "6.2.0-1-virt", "boot/vmlinuz-virt");
}

/* Writes an image that says which version it is. */
static void put_image(const struct context *c, const char *name,
		      const char *version)
{
	struct setup_header hdr = {.header = 0x53726448,
				   .kernel_version = 0x200};
	char image[0x500] = "";

	memcpy(image + 0x1f1, &hdr, sizeof(hdr));
	snprintf(image + 0x400, 0x100, "%s (builder@host) #1", version);
	put_bytes(c->root, name, image, sizeof(image));
}

/* An image of another version is not taken: no module would load. */
static void test_other_version(void **state)
{
	struct context *c = *state;

	put_image(c, "boot/vmlinuz-" VERSION, VERSION);
	expect_found(c, VERSION, "boot/vmlinuz-" VERSION);
	add_version(c, "6.2.0-1-virt", usual);
	add_version(c, "6.2.0-2-virt", usual);
	put_image(c, "boot/vmlinuz-virt", "6.2.0-1-virt");
	expect_found(c, "6.2.0-1-virt", "boot/vmlinuz-virt");
	put_image(c, "boot/vmlinuz-virt", "6.2.0-3\033-virt");
	expect_found(c, VERSION, "boot/vmlinuz-" VERSION);
	put_image(c, "boot/vmlinuz-" VERSION, "");
	expect_found(c, VERSION, "boot/vmlinuz-" VERSION);
	put_image(c, "boot/vmlinuz-" VERSION, VERSION "1");
	expect_none(c, "boot/vmlinuz-virt' is Linux 6.2.0-3?-virt, and '");
}

/* The reason is that of the newest. */
static void test_none(void **state)
{
	struct context *c = *state;
	char path[PATH_ROOM + 16];

	put(c->modules, "modules.dep", "kernel/fs/fuse/virtiofs.ko:\n");
	expect_none(c, "has no module virtio_mmio");
	put(c->modules, "modules.builtin",
	    "kernel/drivers/virtio/virtio-mmio.ko\n");
	expect_found(c, VERSION, "boot/vmlinuz-" VERSION);
	add_version(c, "5.0", usual);
	snprintf(path, sizeof(path), "%s/modules.dep", c->modules);
	assert_int_equal(unlink(path), 0);
	expect_none(c, VERSION "/modules.dep': No such file");
	assert_int_equal(mkfifo(path, 0644), 0);
	expect_none(c, VERSION "/modules.dep': not such a file");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	expect_none(c, VERSION "/modules.dep': ");
}

/* In the order: BULKHEAD_DISTRO alone; the host's; the cache's newest. */
static void test_places(void **state)
{
	struct context *c = *state;
	struct distro d = {0};
	char why[DISTRO_WHY], path[PATH_ROOM];

	setenv("BULKHEAD_DISTRO", c->root, 1);
	assert_int_equal(distro_find(&d, why), 0);
	assert_string_equal(d.version, VERSION);
	distro_done(&d);
	snprintf(path, sizeof(path), "%s/nothing", c->root);
	setenv("BULKHEAD_DISTRO", path, 1);
	assert_int_equal(distro_find(&d, why), -ENOENT);
	assert_string_equal(why, "");
	unsetenv("BULKHEAD_DISTRO");
	if (access("/lib/modules", F_OK) == 0)
		return;
	put(c->root, "cache/distro-9/lib/modules/9-a/modules.dep", usual);
	put(c->root, "cache/distro-9/boot/vmlinuz-9-a", "kernel");
	put(c->root, "cache/distro-10/lib/modules/10-a/modules.dep", usual);
	put(c->root, "cache/distro-10/boot/vmlinuz-10-a", "kernel");
	put(c->root, "cache/distro-11/x", "");
	snprintf(path, sizeof(path), "%s/cache", c->root);
	setenv("BULKHEAD_CACHE", path, 1);
	assert_int_equal(distro_find(&d, why), 0);
	assert_string_equal(d.version, "10-a");
	distro_done(&d);
}

/* ---- in which order */

static const struct initrd_file *find(const struct context *c, const char *name)
{
	for (size_t i = 0; i < c->files.count; i++)
		if (strcmp(c->files.file[i].name, name) == 0)
			return &c->files.file[i];
	return NULL;
}

static void expect_content(const struct context *c, const char *name,
			   const char *expected)
{
	const struct initrd_file *file = find(c, name);
	char text[1024] = "";

	assert_non_null(file);
	assert_true(pread(file->fd, text, sizeof(text) - 1, 0) >= 0);
	assert_string_equal(text, expected);
}

static int list(struct context *c, const char *const *names)
{
	struct modules *m = NULL;
	char why[MODULES_WHY];
	int r = modules_open(c->modules, &m, why);

	if (r == 0)
		r = modules_list(m, "load", names, &c->files);
	modules_close(m);
	return r;
}

/* A module comes behind those it needs, each once, and none that is built in.
 */
static void test_order(void **state)
{
	static const char *const names[] = {"virtio-mmio", "virtiofs",
					    "ext4",        "no_such",
					    "virtio_ring", NULL};
	struct context *c = *state;

	assert_int_equal(list(c, names), 0);
	expect_content(c, "modules/load",
		       "virtio_ring.ko\nvirtio.ko\nvirtio_mmio.ko\nfuse.ko\n"
		       "virtiofs.ko\n");
	expect_content(c, "modules/fuse.ko", "kernel/fs/fuse/fuse.ko");
	assert_int_equal(c->files.count, 6);
}

static struct config make_config(const char *const *types)
{
	struct config cfg;

	config_init(&cfg);
	for (; *types; types++) {
		cfg.device[cfg.ndevices].type = strdup(*types);
		assert_non_null(cfg.device[cfg.ndevices++].type);
	}
	return cfg;
}

static int make_files(struct context *c, const char *const *types,
		      bool mount_root)
{
	struct config cfg = make_config(types);
	struct distro d = {0};
	char why[DISTRO_WHY];
	int r;

	assert_int_equal(distro_find_below(c->root, &d, why), 0);
	r = distro_files(&d, &cfg, mount_root, &c->files);
	distro_done(&d);
	config_done(&cfg);
	return r;
}

/* A list of each file system's, which has all that it takes. */
static void test_boot(void **state)
{
	static const char *const types[] = {"rng", "blk", NULL};
	struct context *c = *state;

	assert_int_equal(make_files(c, types, true), 0);
	expect_content(c, "modules/load",
		       "virtio_ring.ko\nvirtio.ko\nvirtio_mmio.ko\n"
		       "virtio_blk.ko\n");
	expect_content(c, "modules/fs-xfs", "libcrc32c.ko\nxfs.ko\n");
	expect_content(c, "modules/fs-ext4", "");
	expect_content(c, "mount-root", "");
	assert_null(find(c, "modules/virtiofs.ko"));
}

static void test_container(void **state)
{
	static const char *const types[] = {"fs", NULL};
	static const char *const more[] = {"fs", "net", NULL};
	struct context *c = *state;

	assert_int_equal(make_files(c, types, false), 0);
	assert_non_null(find(c, "modules/overlay.ko"));
	assert_null(find(c, "modules/xfs.ko"));
	assert_null(find(c, "mount-root"));
	/* It lacks a driver that is needed. */
	assert_int_equal(make_files(c, more, false), -ENOENT);
}

/* ---- packed modules */

static void expect_unpacked(struct context *c, const void *packed, size_t bytes,
			    const char *plain)
{
	char text[64] = "";

	assert_int_equal(initrd_add_data(&c->files, "m", packed, bytes), 0);
	assert_int_equal(unpack_files(c->files.file, c->files.count), 0);
	assert_true(pread(c->files.file[0].fd, text, sizeof(text), 0) > 0);
	assert_string_equal(text, plain);
	initrd_files_done(&c->files);
}

static void set_cache(const struct context *c)
{
	char path[PATH_ROOM];

	snprintf(path, sizeof(path), "%s/cache", c->root);
	setenv("BULKHEAD_CACHE", path, 1);
}

static void test_packed(void **state)
{
	static const char plain[] = "\177ELF: what a module begins with";
	struct context *c = *state;
	uint8_t packed[1024];
	size_t n = 0;
	z_stream z = {0};

	set_cache(c);
	assert_int_equal(lzma_easy_buffer_encode(1, LZMA_CHECK_CRC32, NULL,
						 (const uint8_t *)plain,
						 sizeof(plain), packed, &n,
						 sizeof(packed)),
			 LZMA_OK);
	expect_unpacked(c, packed, n, plain);
	n = ZSTD_compress(packed, sizeof(packed), plain, sizeof(plain), 1);
	expect_unpacked(c, packed, n, plain);
	assert_int_equal(deflateInit2(&z, 1, Z_DEFLATED, 31, 8, 0), Z_OK);
	z.next_in = (uint8_t *)(uintptr_t)plain;
	z.avail_in = sizeof(plain);
	z.next_out = packed;
	z.avail_out = sizeof(packed);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	n = z.total_out;
	deflateEnd(&z);
	expect_unpacked(c, packed, n, plain);
	expect_unpacked(c, plain, sizeof(plain), plain);
	/* Cut off. */
	assert_int_equal(initrd_add_data(&c->files, "m", packed, n - 9), 0);
	assert_int_equal(unpack_files(c->files.file, 1), -EINVAL);
}

/* All that goes into a guest has one limit, packed or not. */
static void test_much(void **state)
{
	static const char plain[] = "\177ELF: what a module begins with";
	struct context *c = *state;
	uint8_t packed[256];
	const size_t n =
		ZSTD_compress(packed, sizeof(packed), plain, sizeof(plain), 1);
	int fd = memfd_create("large", MFD_CLOEXEC);

	set_cache(c);
	assert_true(fd >= 0);
	assert_int_equal(initrd_add(&c->files, "large", fd), 0);
	assert_int_equal(initrd_add_data(&c->files, "m", packed, n), 0);
	assert_int_equal(
		ftruncate(fd, (off_t)(UNPACK_FILES_MAX - sizeof(plain) + 1)),
		0);
	assert_int_equal(unpack_files(c->files.file, c->files.count), -EFBIG);
	assert_int_equal(
		ftruncate(fd, (off_t)(UNPACK_FILES_MAX - sizeof(plain))), 0);
	assert_int_equal(unpack_files(c->files.file, c->files.count), 0);
	assert_int_equal(ftruncate(fd, (off_t)UNPACK_FILES_MAX + 1), 0);
	assert_int_equal(unpack_files(c->files.file, c->files.count), -EFBIG);
}

/* A packed one has a longer name, and the guest's is that of a module. */
static void test_packed_name(void **state)
{
	static const char *const names[] = {"fuse", NULL};
	struct context *c = *state;

	put(c->modules, "modules.dep", "kernel/fuse.ko.zst:\n");
	put(c->modules, "kernel/fuse.ko.zst", "packed");
	assert_int_equal(list(c, names), 0);
	expect_content(c, "modules/fuse.ko", "packed");
}

/* ---- damaged and hostile lists */

static void test_circles(void **state)
{
	static const char *const names[] = {"a", NULL};
	static const char *const wrong[] = {
		"a.ko: a.ko\n",
		"a.ko: b.ko\nb.ko: c.ko\nc.ko: a.ko\n",
		"a.ko: b.ko\n",
		("a.ko: ../../../../../../../etc/passwd\n"
		 "../../../../../../../etc/passwd:\n"),
		"a.ko: /etc/passwd\n/etc/passwd:\n",
		"a.ko: link.ko\nlink.ko:\n",
		"a.ko: dir.ko\ndir.ko:\n",
		"a.ko: .ko\n.ko:\n",
		"a.ko: missing.ko\nmissing.ko:\n",
	};
	struct context *c = *state;
	char path[PATH_ROOM + 16];

	for (const char *p = "abc"; *p; p++) {
		char name[] = {*p, '.', 'k', 'o', '\0'};

		put(c->modules, name, "");
	}
	put(c->modules, ".ko", "");
	put(c->modules, "dir.ko/x", "");
	snprintf(path, sizeof(path), "%s/link.ko", c->modules);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	for (unsigned i = 0; i < ARRAY_LEN(wrong); i++) {
		put(c->modules, "modules.dep", wrong[i]);
		assert_true(list(c, names) < 0);
		initrd_files_done(&c->files);
	}
}

/* A chain of a thousand; names of any length; lines of any form. */
static void test_hostile(void **state)
{
	static const char *const first[] = {"m0", NULL};
	static const char *const odd[] = {"a", "b", "", ":", NULL};
	struct context *c = *state;
	char *text = NULL;
	size_t bytes = 0;
	FILE *file = open_memstream(&text, &bytes);

	for (unsigned i = 0; i < 1000; i++)
		fprintf(file, "m%u.ko: m%u.ko\n", i, i + 1);
	fputs("m1000.ko:\n", file);
	fclose(file);
	put_bytes(c->modules, "modules.dep", text, bytes);
	assert_true(list(c, first) < 0);
	memset(text, 'a', bytes);
	memcpy(text + bytes - 5, ".ko:\n", 5);
	put_bytes(c->modules, "modules.dep", text, bytes);
	assert_int_equal(list(c, odd), 0);
	free(text);
	put(c->modules, "modules.dep", "\n:\n: a.ko\na.ko\n\n   \nb.ko:  ");
	put(c->modules, "b.ko", "");
	initrd_files_done(&c->files);
	assert_int_equal(list(c, odd), 0);
	expect_content(c, "modules/load", "b.ko\n");
	put_bytes(c->modules, "modules.dep", "a.ko:\0b\n", 8);
	assert_int_equal(list(c, odd), -EINVAL);
	/* More than anybody has. */
	{
		char path[PATH_ROOM + 16];

		snprintf(path, sizeof(path), "%s/modules.dep", c->modules);
		assert_int_equal(truncate(path, 17 << 20), 0);
		assert_int_equal(list(c, odd), -EFBIG);
	}
}

/*
 * One of 200,000 modules needs others 200,000 times: looking through all lines
 * for each took minutes.
 */
static void test_many(void **state)
{
	static const char *const names[] = {"m-199999", "m_7", NULL};
	enum { COUNT = 200000, STEP = 4000 };
	struct context *c = *state;
	char *text = NULL;
	size_t bytes = 0;
	FILE *file = open_memstream(&text, &bytes);

	for (unsigned i = 0; i < COUNT; i++) {
		fprintf(file, "m_%u.ko:", i);
		for (unsigned k = 0; i == COUNT - 1 && k < COUNT; k++)
			fprintf(file, " m_%u.ko", k % STEP ? COUNT - 2 : k);
		fputc('\n', file);
		if (i % STEP == 0 || i >= COUNT - 2 || i == 7) {
			char name[32];

			snprintf(name, sizeof(name), "m_%u.ko", i);
			put(c->modules, name, "");
		}
	}
	fclose(file);
	put_bytes(c->modules, "modules.dep", text, bytes);
	free(text);
	assert_int_equal(list(c, names), 0);
	assert_int_equal(c->files.count, COUNT / STEP + 4);
	/* Twice the same: the first line counts. */
	initrd_files_done(&c->files);
	put(c->modules, "modules.dep",
	    "x/m-7.ko: m_0.ko\nm_7.ko:\nm_0.ko:\nm_0.ko: none.ko\n");
	put(c->modules, "x/m-7.ko", "first");
	assert_int_equal(list(c, names), 0);
	expect_content(c, "modules/load", "m_0.ko\nm-7.ko\n");
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_newest),        TEST(test_none),
		TEST(test_places),        TEST(test_order),
		TEST(test_boot),          TEST(test_container),
		TEST(test_packed),        TEST(test_packed_name),
		TEST(test_circles),       TEST(test_hostile),
		TEST(test_other_version), TEST(test_much),
		TEST(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
