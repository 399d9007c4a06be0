/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels that are unpacked into the cache: what is, what is not, and once. */
#include "tools/guest/unpack.h"

#include "tests/tempdir.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <asm/bootparam.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <lz4.h>
#include <lzma.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <cmocka.h>

#define VMLINUX_BYTES (3u << 20)
#define SETUP_BYTES   1024
#define PAYLOAD_AT    512 /* behind them */
#define ROOM          (8u << 20)

struct context {
	char dir[TEMPDIR_ROOM];
	char kernel[TEMPDIR_ROOM + 16];
	char cache[TEMPDIR_ROOM + 32];
	uint8_t *vmlinux;
	uint8_t *file;
	size_t bytes;
};

static int setup(void **state)
{
	struct context *c = calloc(1, sizeof(*c));

	assert_non_null(c);
	tempdir_below(c->dir, "/tmp");
	assert_non_null(mkdtemp(c->dir));
	snprintf(c->cache, sizeof(c->cache), "%s/cache/unpacked", c->dir);
	snprintf(c->kernel, sizeof(c->kernel), "%s/cache", c->dir);
	setenv("BULKHEAD_CACHE", c->kernel, 1);
	snprintf(c->kernel, sizeof(c->kernel), "%s/kernel", c->dir);
	c->vmlinux = malloc(VMLINUX_BYTES);
	c->file = calloc(1, ROOM);
	assert_non_null(c->vmlinux);
	assert_non_null(c->file);
	for (unsigned i = 0; i < VMLINUX_BYTES; i++)
		c->vmlinux[i] = (uint8_t)(i * 7 ^ i >> 9);
	memcpy(c->vmlinux, "\177ELF", 4);
	log_setup(LOG_ERROR, false);
	*state = c;
	return 0;
}

/* The only entry of the cache, or "" for none; more fail. */
static void only_entry(const struct context *c, char ret[256])
{
	DIR *dir = opendir(c->cache);
	const struct dirent *entry;
	unsigned n = 0;

	ret[0] = '\0';
	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(ret, 256, "%s", entry->d_name);
		n++;
	}
	if (dir)
		closedir(dir);
	assert_true(n <= 1);
}

static int teardown(void **state)
{
	struct context *c = *state;
	char command[TEMPDIR_ROOM + 16];

	snprintf(command, sizeof(command), "rm -rf '%s'", c->dir);
	assert_int_equal(system(command), 0); /* NOLINT: a name of ours */
	unsetenv("BULKHEAD_CACHE");
	free(c->vmlinux);
	free(c->file);
	free(c);
	return 0;
}

/* ---- packed files, made by the libraries' other halves */

enum how { XZ, ZSTD, LZ4 };

static size_t pack(const struct context *c, enum how how, uint8_t *to,
		   size_t room)
{
	size_t n = 0;

	if (how == XZ) {
		assert_int_equal(lzma_easy_buffer_encode(
					 1, LZMA_CHECK_CRC32, NULL, c->vmlinux,
					 VMLINUX_BYTES, to, &n, room),
				 LZMA_OK);
	} else if (how == ZSTD) {
		n = ZSTD_compress(to, room, c->vmlinux, VMLINUX_BYTES, 1);
		assert_false(ZSTD_isError(n));
	} else {
		int len = LZ4_compress_default(
			(const char *)c->vmlinux, (char *)to + 8,
			(int)VMLINUX_BYTES, (int)room - 8);

		assert_true(len > 0);
		memcpy(to, "\x02\x21\x4c\x18", 4);
		for (unsigned i = 0; i < 4; i++)
			to[4 + i] = (uint8_t)(len >> (8 * i));
		n = (size_t)len + 8;
	}
	return n;
}

/* SIZE is what the file claims to unpack to. */
static void make_bzimage(struct context *c, enum how how, uint32_t size)
{
	struct setup_header hdr = {
		.setup_sects = SETUP_BYTES / 512 - 1,
		.boot_flag = 0xaa55,
		.header = 0x53726448,
		.version = 0x020f,
		.payload_offset = PAYLOAD_AT,
	};
	uint8_t *payload = c->file + SETUP_BYTES + PAYLOAD_AT;
	size_t n = pack(c, how, payload, ROOM / 2);

	for (unsigned i = 0; i < 4; i++)
		payload[n++] = (uint8_t)(size >> (8 * i));
	hdr.payload_length = (uint32_t)n;
	memcpy(c->file + offsetof(struct boot_params, hdr), &hdr, sizeof(hdr));
	c->bytes = SETUP_BYTES + PAYLOAD_AT + n + 100;
}

static void write_kernel(const struct context *c)
{
	autofd int fd =
		open(c->kernel, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(util_write_all(fd, c->file, c->bytes), 0);
}

/* The path that comes of the kernel's. */
static char *unpack(const struct context *c, int expected)
{
	struct {
		char *path;
	} kernel = {strdup(c->kernel)};

	assert_int_equal(kernel_unpack(&kernel.path), expected);
	return kernel.path;
}

static void expect_vmlinux(const struct context *c, const char *path)
{
	autofd int fd = open(path, O_RDONLY | O_CLOEXEC);
	autofree uint8_t *got = malloc(VMLINUX_BYTES + 1);

	assert_true(fd >= 0);
	assert_non_null(got);
	assert_int_equal(read(fd, got, VMLINUX_BYTES + 1), VMLINUX_BYTES);
	assert_memory_equal(got, c->vmlinux, VMLINUX_BYTES);
}

/* ---- the tests */

static void test_formats(void **state)
{
	struct context *c = *state;

	for (enum how how = XZ; how <= LZ4; how++) {
		autofree char *path = NULL;
		autofree char *whole = NULL;
		char entry[256];

		make_bzimage(c, how, VMLINUX_BYTES);
		write_kernel(c);
		path = unpack(c, 0);
		assert_non_null(strstr(path, "/cache/unpacked/vmlinux-"));
		expect_vmlinux(c, path);
		only_entry(c, entry);
		assert_non_null(strstr(path, entry));
		assert_int_equal(unlink(path), 0);

		c->bytes = pack(c, how, c->file, ROOM);
		write_kernel(c);
		whole = unpack(c, 0);
		expect_vmlinux(c, whole);
		assert_int_equal(unlink(whole), 0);
	}
}

/* The kernel is unpacked again only when it has changed. */
static void test_once(void **state)
{
	struct context *c = *state;
	autofree char *first = NULL;
	autofree char *second = NULL;
	autofree char *third = NULL;
	struct stat before, after;

	make_bzimage(c, ZSTD, VMLINUX_BYTES);
	write_kernel(c);
	first = unpack(c, 0);
	assert_int_equal(stat(first, &before), 0);
	second = unpack(c, 0);
	assert_string_equal(first, second);
	assert_int_equal(stat(second, &after), 0);
	assert_int_equal(before.st_ino, after.st_ino);

	c->vmlinux[1000] ^= 1;
	make_bzimage(c, ZSTD, VMLINUX_BYTES);
	assert_int_equal(unlink(c->kernel), 0);
	write_kernel(c);
	third = unpack(c, 0);
	assert_string_not_equal(first, third);
	expect_vmlinux(c, third);
}

/* A file that others may have written is not believed. */
static void test_not_believed(void **state)
{
	struct context *c = *state;
	autofree char *first = NULL;
	autofree char *second = NULL;
	autofree char *third = NULL;

	make_bzimage(c, XZ, VMLINUX_BYTES);
	write_kernel(c);
	first = unpack(c, 0);
	/* A file that was cut off, one for others to write, and a link. */
	assert_int_equal(truncate(first, 100), 0);
	second = unpack(c, 0);
	expect_vmlinux(c, second);
	assert_int_equal(chmod(first, 0666), 0);
	assert_int_equal(truncate(first, VMLINUX_BYTES - 1), 0);
	assert_int_equal(truncate(first, VMLINUX_BYTES), 0);
	third = unpack(c, 0);
	expect_vmlinux(c, third);
	free(third);
	assert_int_equal(unlink(first), 0);
	assert_int_equal(symlink(c->kernel, first), 0);
	third = unpack(c, 0);
	expect_vmlinux(c, third);
}

/* Without a cache a bzImage is left to the guest; nothing else can be. */
static void test_no_cache(void **state)
{
	struct context *c = *state;
	autofree char *path = NULL;
	autofree char *whole = NULL;
	char parent[TEMPDIR_ROOM + 16];

	snprintf(parent, sizeof(parent), "%s/cache", c->dir);
	assert_int_equal(mkdir(parent, 0755), 0);
	assert_int_equal(mkdir(c->cache, 0755), 0);
	assert_int_equal(chmod(c->cache, 0777), 0);
	make_bzimage(c, XZ, VMLINUX_BYTES);
	write_kernel(c);
	path = unpack(c, 0);
	assert_string_equal(path, c->kernel);
	c->bytes = pack(c, XZ, c->file, ROOM);
	write_kernel(c);
	whole = unpack(c, -EPERM);
}

static void expect_refused(struct context *c)
{
	char entry[256];

	write_kernel(c);
	free(unpack(c, -EINVAL));
	only_entry(c, entry);
	assert_string_equal(entry, "");
}

static void test_damaged(void **state)
{
	struct context *c = *state;

	for (enum how how = XZ; how <= LZ4; how++) {
		make_bzimage(c, how, VMLINUX_BYTES - 1);
		expect_refused(c);
		make_bzimage(c, how, VMLINUX_BYTES + 1);
		expect_refused(c);
		make_bzimage(c, how, VMLINUX_BYTES);
		memset(c->file + c->bytes - 2000, 0xff, 1000);
		expect_refused(c);
		c->bytes = pack(c, how, c->file, ROOM) - 50;
		expect_refused(c);
		c->vmlinux[1] = 'X';
		make_bzimage(c, how, VMLINUX_BYTES);
		expect_refused(c);
		c->vmlinux[1] = 'E';
	}
}

/* The loader says what is wrong with these. */
static void test_left_alone(void **state)
{
	struct context *c = *state;
	struct setup_header hdr;

	for (unsigned i = 0; i < 5; i++) {
		autofree char *path = NULL;

		make_bzimage(c, ZSTD, VMLINUX_BYTES);
		memcpy(&hdr, c->file + offsetof(struct boot_params, hdr),
		       sizeof(hdr));
		if (i == 0)
			hdr.payload_offset = UINT32_MAX;
		else if (i == 1)
			hdr.payload_length = (uint32_t)c->bytes;
		else if (i == 2)
			hdr.payload_length = 7;
		else if (i == 3)
			hdr.version = 0x0207;
		else
			c->bytes = 600;
		memcpy(c->file + offsetof(struct boot_params, hdr), &hdr,
		       sizeof(hdr));
		write_kernel(c);
		path = unpack(c, 0);
		assert_string_equal(path, c->kernel);
	}
	c->bytes = 0;
	write_kernel(c);
	free(unpack(c, 0));
	assert_int_equal(unlink(c->kernel), 0);
	free(unpack(c, 0));
}

/* The oldest go, and what a process that was killed has left. */
static void test_pruned(void **state)
{
	struct context *c = *state;
	const struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
	char path[sizeof(c->cache) + 64];
	unsigned count = 0;
	const struct dirent *entry;
	DIR *dir;

	for (unsigned i = 0; i < 12; i++) {
		make_bzimage(c, LZ4, VMLINUX_BYTES);
		(void)unlink(c->kernel);
		write_kernel(c);
		free(unpack(c, 0));
		snprintf(path, sizeof(path), "%s/new-abc%u", c->cache, i);
		assert_int_equal(mkdir(path, 0700), 0);
		snprintf(path, sizeof(path), "%s/new-abc%u/vmlinux", c->cache,
			 i);
		close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
		snprintf(path, sizeof(path), "%s/new-abc%u", c->cache, i);
		assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
	}
	dir = opendir(c->cache);
	assert_non_null(dir);
	while ((entry = readdir(dir)))
		count += entry->d_name[0] != '.';
	closedir(dir);
	assert_int_equal(count, 8 + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_formats, setup, teardown),
		cmocka_unit_test_setup_teardown(test_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_believed, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_no_cache, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged, setup, teardown),
		cmocka_unit_test_setup_teardown(test_left_alone, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_pruned, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
