/* SPDX-License-Identifier: Apache-2.0 */
/* Which files are read ahead, of images that may be anything. */
#include "firmware/init/warm.h"

#include "tests/tempdir.h"
#include "vmm/base/util.h"

#include <elf.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <setjmp.h>
#include <cmocka.h>

#define TEXTS 512 /* where an ELF file here has its names */

struct ctx {
	char dir[TEMPDIR_ROOM];
	int root;
};

/* An ELF file as a linker makes it, of what matters here. */
struct image {
	Elf64_Ehdr head;
	Elf64_Phdr part[3];
	Elf64_Dyn entry[8];
	char fill[TEXTS - sizeof(Elf64_Ehdr) - 3 * sizeof(Elf64_Phdr) -
		  8 * sizeof(Elf64_Dyn)];
	char texts[256];
};

static int setup(void **state)
{
	struct ctx *ctx = calloc(1, sizeof(*ctx));

	*state = ctx;
	tempdir_name_in_memory(ctx->dir);
	assert_non_null(mkdtemp(ctx->dir));
	ctx->root = open(ctx->dir, O_PATH | O_DIRECTORY);
	assert_true(ctx->root >= 0);
	return 0;
}

static void run(const struct ctx *ctx, const char *command)
{
	char line[512];

	snprintf(line, sizeof(line), "cd '%s' && { %s; }", ctx->dir, command);
	assert_int_equal(system(line), 0);
}

static int teardown(void **state)
{
	struct ctx *ctx = *state;

	close(ctx->root);
	run(ctx, "rm -rf \"$PWD\"");
	free(ctx);
	return 0;
}

/* Loaded at 1 MiB; INTERPRETER and NEEDED may be NULL. */
static struct image make(const char *interpreter, const char *const *needed)
{
	struct image image = {0};
	const uint64_t base = MIB;
	size_t at = 1;
	unsigned n = 0;

	memcpy(image.head.e_ident, ELFMAG, SELFMAG);
	image.head.e_ident[EI_CLASS] = ELFCLASS64;
	image.head.e_phoff = offsetof(struct image, part);
	image.head.e_phentsize = sizeof(Elf64_Phdr);
	image.head.e_phnum = 3;
	image.part[0] = (Elf64_Phdr){
		.p_type = PT_LOAD, .p_vaddr = base, .p_filesz = sizeof(image)};
	image.part[1] = (Elf64_Phdr){.p_type = PT_DYNAMIC,
				     .p_offset = offsetof(struct image, entry),
				     .p_filesz = sizeof(image.entry)};
	for (; needed && *needed; needed++) {
		image.entry[n++] =
			(Elf64_Dyn){.d_tag = DT_NEEDED, .d_un.d_val = at};
		strcpy(image.texts + at, *needed);
		at += strlen(*needed) + 1;
	}
	image.entry[n] =
		(Elf64_Dyn){.d_tag = DT_STRTAB, .d_un.d_ptr = base + TEXTS};
	if (interpreter) {
		image.part[2] = (Elf64_Phdr){.p_type = PT_INTERP,
					     .p_offset = TEXTS + at};
		strcpy(image.texts + at, interpreter);
	}
	return image;
}

static void put(const struct ctx *ctx, const char *path,
		const struct image *image)
{
	char name[256];
	FILE *file;

	snprintf(name, sizeof(name), "%s/%s", ctx->dir, path);
	file = fopen(name, "we");
	assert_non_null(file);
	assert_int_equal(fwrite(image, sizeof(*image), 1, file), 1);
	assert_int_equal(fclose(file), 0);
}

static unsigned warm(const struct ctx *ctx, const char *path)
{
	const char *list[] = {"/nosuch", path};
	const struct init_strings paths = {.list = list, .n = 2};

	return warm_program(ctx->root, &paths);
}

static void test_none(void **state)
{
	const struct ctx *ctx = *state;

	assert_int_equal(warm(ctx, "/bin/sh"), 0);
	run(ctx, "mkdir etc bin; touch etc/passwd etc/group; mkfifo bin/sh");
	assert_int_equal(warm(ctx, "/bin/sh"), 2);
	run(ctx, "rm bin/sh; echo text >bin/sh");
	assert_int_equal(warm(ctx, "/bin/sh"), 3);
}

/* Nothing but a file is opened: to open a device may be to start it. */
static void test_no_file(void **state)
{
	const struct ctx *ctx = *state;
	autofd int watch = inotify_init1(IN_NONBLOCK);
	struct inotify_event event;
	char path[TEMPDIR_ROOM + 16];

	run(ctx, "mkdir bin etc; mkfifo bin/sh etc/passwd; touch etc/group");
	snprintf(path, sizeof(path), "%s/bin/sh", ctx->dir);
	assert_true(inotify_add_watch(watch, path, IN_OPEN) >= 0);
	snprintf(path, sizeof(path), "%s/etc/passwd", ctx->dir);
	assert_true(inotify_add_watch(watch, path, IN_OPEN) >= 0);
	assert_int_equal(warm(ctx, "/bin/sh"), 1);
	assert_int_equal(read(watch, &event, sizeof(event)), -1);
}

static void test_libraries(void **state)
{
	const struct ctx *ctx = *state;
	const struct image program =
		make("/lib64/ld.so", (const char *const[]){"libb.so", "liba.so",
							   "libnone.so", NULL});
	const struct image a =
		make(NULL, (const char *const[]){"libb.so", "/opt/libc.so",
						 "liba.so", NULL});
	const struct image c = make(NULL, NULL);

	run(ctx, "mkdir -p etc bin lib64 usr/lib opt; echo >lib64/ld.so;"
		 "echo >etc/ld.so.cache; echo no ELF >lib64/libb.so;"
		 "echo '#! /bin/program -x' >bin/script");
	put(ctx, "bin/program", &program);
	put(ctx, "usr/lib/liba.so", &a);
	put(ctx, "opt/libc.so", &c);
	/* It, ld.so, its cache, a, b, c; each once. */
	assert_int_equal(warm(ctx, "/bin/program"), 6);
	assert_int_equal(warm(ctx, "/bin/script"), 7);
	assert_int_equal(warm(ctx, "/opt/libc.so"), 1);
}

/* Whatever byte is another: it ends, and reads nothing outside. */
static void test_damaged(void **state)
{
	const struct ctx *ctx = *state;
	const struct image good =
		make("/lib/ld.so", (const char *const[]){"liba.so", NULL});

	run(ctx, "mkdir lib; echo >lib/ld.so; echo >lib/liba.so");
	put(ctx, "program", &good);
	assert_int_equal(warm(ctx, "/program"), 3);
	for (size_t i = 0; i < TEXTS + 32; i++) {
		for (unsigned value = 0; value < 256; value += 51) {
			struct image bad = good;

			((uint8_t *)&bad)[i] = (uint8_t)value;
			put(ctx, "program", &bad);
			assert_in_range(warm(ctx, "/program"), 1, 3);
		}
	}
	run(ctx, "truncate -s 100 program");
	assert_int_equal(warm(ctx, "/program"), 1);
	run(ctx, "truncate -s 17M program");
	assert_int_equal(warm(ctx, "/program"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_none, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_libraries, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_damaged, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
