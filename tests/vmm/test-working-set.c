/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory that a start touches: recorded, brought in at the next one, and
 * never trusted.
 */
#include "vmm/working-set.h"

#include "tests/patience.h"
#include "tests/tempdir.h"
#include "vmm/base/mem.h"
#include "vmm/base/util.h"
#include "vmm/pagemap.h"
#include "vmm/snapshot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define BYTES (32 * MIB)
#define PAGE  4096
#define PAGES (BYTES / PAGE)

/* A machine as far as its memory goes, from a file that is all data. */
struct rig {
	struct tempdir dir; /* its path: the record's file */
	struct snapshot snapshot;
	struct mem mem;
	struct working_set_task task;
	int pagemap_fd;
};

static void map(struct rig *rig)
{
	const struct mem_options from = {
		.from_file = true,
		.file_fd = rig->snapshot.memory_fd,
	};

	assert_int_equal(mem_init(&rig->mem, BYTES, &from), 0);
}

static int setup(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	uint8_t *page = malloc(MIB);

	assert_non_null(rig);
	assert_non_null(page);
	memset(page, 0x5a, MIB);
	assert_true(tempdir_make(&rig->dir, WORKING_SET_FILE));
	rig->snapshot.memory_bytes = BYTES;
	memset(rig->snapshot.id, 7, sizeof(rig->snapshot.id));
	rig->snapshot.memory_fd = memfd_create("memory", MFD_CLOEXEC);
	for (unsigned i = 0; i < BYTES / MIB; i++)
		assert_int_equal(
			util_write_all(rig->snapshot.memory_fd, page, MIB), 0);
	free(page);
	rig->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	assert_true(rig->pagemap_fd >= 0);
	map(rig);
	*state = rig;
	return 0;
}

static int teardown(void **state)
{
	struct rig *rig = *state;

	working_set_done(&rig->task);
	mem_done(&rig->mem);
	snapshot_close(&rig->snapshot);
	close(rig->pagemap_fd);
	(void)unlink(rig->dir.path);
	assert_true(tempdir_remove(&rig->dir));
	free(rig);
	return 0;
}

static uint8_t *page_at(const struct rig *rig, unsigned page)
{
	return rig->mem.region[0].host + (size_t)page * PAGE;
}

static uint64_t entry_of(const struct rig *rig, unsigned page)
{
	uint64_t entry;

	assert_int_equal(util_read_at(rig->pagemap_fd, &entry, sizeof(entry),
				      (uintptr_t)page_at(rig, page) / PAGE * 8),
			 0);
	return entry;
}

static bool is_mapped(const struct rig *rig, unsigned page)
{
	return entry_of(rig, page) & PAGEMAP_PRESENT;
}

static bool is_copied(const struct rig *rig, unsigned page)
{
	const uint64_t entry = entry_of(rig, page);

	return entry & PAGEMAP_PRESENT && !(entry & PAGEMAP_FILE);
}

static bool has_page(const struct working_set_range *range, uint32_t n,
		     unsigned page)
{
	for (uint32_t i = 0; i < n; i++) {
		if (page >= range[i].first &&
		    page - range[i].first < range[i].count)
			return true;
	}
	return false;
}

/* A start that touches every page of COUNT from FIRST on. */
static void touch(const struct rig *rig, unsigned first, unsigned count,
		  bool writes)
{
	for (unsigned i = first; i < first + count; i++) {
		volatile uint8_t *page = page_at(rig, i);

		if (writes)
			page[1] = 1;
		else
			(void)page[1];
	}
}

static void open_set(struct rig *rig, enum working_set_mode mode)
{
	working_set_close(&rig->snapshot.working_set);
	working_set_open(&rig->snapshot, rig->dir.dir, mode);
}

static void prepare(struct rig *rig)
{
	working_set_prepare(&rig->task, &rig->snapshot, &rig->mem, false);
	/* The caller may close its own at once. */
	working_set_close(&rig->snapshot.working_set);
}

/* The machine ends, and another one is there. */
static void next_machine(struct rig *rig)
{
	working_set_done(&rig->task);
	mem_done(&rig->mem);
	map(rig);
}

/* The first start. */
static void record(struct rig *rig)
{
	open_set(rig, WORKING_SET_AUTO);
	assert_true(rig->snapshot.working_set.records);
	prepare(rig);
	working_set_record(&rig->task);
	touch(rig, 0, 1, false);
	touch(rig, 1000, 3, true);
	touch(rig, 2000, 40, false);
	touch(rig, 2005, 1, true);
	touch(rig, PAGES - 1, 1, true);
	working_set_end(&rig->task);
}

static void test_round(void **state)
{
	struct rig *rig = *state;
	struct working_set *set = &rig->snapshot.working_set;

	record(rig);
	/* Later touches are not in it. */
	touch(rig, 5000, 1, true);
	open_set(rig, WORKING_SET_AUTO);
	assert_false(set->records);
	assert_non_null(set->range);
	assert_true(has_page(set->range, set->nall, 0));
	for (unsigned i = 2000; i < 2040; i++)
		assert_true(has_page(set->range, set->nall, i));
	assert_false(has_page(set->range, set->nall, 500));
	assert_false(has_page(set->range, set->nall, 5000));
	assert_int_equal(set->nwritten, 3);
	assert_memory_equal(set->range + set->nall,
			    ((struct working_set_range[]){
				    {1000, 3}, {2005, 1}, {PAGES - 1, 1}}),
			    3 * sizeof(*set->range));

	next_machine(rig);
	assert_false(is_mapped(rig, 1001));
	prepare(rig);
	assert_true(wait_until(is_copied(rig, PAGES - 1)));
	assert_true(is_copied(rig, 1000));
	assert_true(is_copied(rig, 1002));
	assert_false(is_copied(rig, 2000));
	assert_true(is_copied(rig, 2005));
	assert_false(is_mapped(rig, 500));
	assert_false(is_mapped(rig, 5000));
	assert_int_equal(*page_at(rig, 2005), 0x5a);
}

/* Whether the host's cache has the page of the memory's file. */
static bool is_cached(const struct rig *rig, unsigned page)
{
	unsigned char there = 0;

	assert_int_equal(mincore(page_at(rig, page), PAGE, &there), 0);
	return there & 1;
}

/* A file that is on the disk alone: that much of it is read. */
static void test_cold(void **state)
{
	struct rig *rig = *state;
	char name[TEMPDIR_ROOM];
	autofree uint8_t *page = calloc(1, MIB);

	close(rig->snapshot.memory_fd);
	tempdir_name_on_disk(name);
	rig->snapshot.memory_fd = mkostemp(name, O_CLOEXEC);
	assert_true(rig->snapshot.memory_fd >= 0);
	unlink(name);
	for (unsigned i = 0; i < BYTES / MIB; i++)
		assert_int_equal(
			util_write_all(rig->snapshot.memory_fd, page, MIB), 0);
	next_machine(rig);
	record(rig);
	next_machine(rig);
	fsync(rig->snapshot.memory_fd);
	posix_fadvise(rig->snapshot.memory_fd, 0, 0, POSIX_FADV_DONTNEED);
	if (is_cached(rig, 2030) || is_cached(rig, PAGES - 1))
		skip(); /* a file system in memory */
	open_set(rig, WORKING_SET_AUTO);
	prepare(rig);
	assert_true(wait_until(is_mapped(rig, 2039)));
	assert_true(is_cached(rig, 2000));
	assert_true(is_copied(rig, 2005));
	assert_false(is_copied(rig, 2006));
	assert_false(is_cached(rig, 500));
	assert_false(is_cached(rig, 5000));
}

/* It ends by itself after a time, and its file is unlocked for others. */
static void test_time(void **state)
{
	struct rig *rig = *state;
	struct working_set *set = &rig->snapshot.working_set;

	open_set(rig, WORKING_SET_AUTO);
	set->record_ms = 1;
	prepare(rig);
	touch(rig, 9, 1, true);
	working_set_record(&rig->task);
	assert_true(wait_until((open_set(rig, WORKING_SET_AUTO), set->range)));
	assert_true(has_page(set->range + set->nall, set->nwritten, 9));
	/* It is unlocked behind its last byte. */
	assert_true(
		wait_until((open_set(rig, WORKING_SET_ANEW), set->records)));
	assert_null(set->range);
}

/* One that has more than may be is cut, and can be used. */
static void test_much(void **state)
{
	struct rig *rig = *state;
	struct working_set *set = &rig->snapshot.working_set;
	uint64_t pages = 0;

	open_set(rig, WORKING_SET_AUTO);
	prepare(rig);
	working_set_record(&rig->task);
	touch(rig, 0, PAGES, true);
	working_set_done(&rig->task);
	open_set(rig, WORKING_SET_AUTO);
	assert_non_null(set->range);
	for (uint32_t i = 0; i < set->nall; i++)
		pages += set->range[i].count;
	assert_int_equal(pages, PAGES / 2);
}

/* Many pieces, more than a record has room for. */
static void test_pieces(void **state)
{
	struct rig *rig = *state;
	struct working_set *set = &rig->snapshot.working_set;

	open_set(rig, WORKING_SET_AUTO);
	prepare(rig);
	working_set_record(&rig->task);
	for (unsigned i = 0; i < PAGES; i += 3)
		touch(rig, i, 1, true);
	working_set_done(&rig->task);
	open_set(rig, WORKING_SET_AUTO);
	assert_int_equal(set->nwritten, (PAGES + 2) / 3);
	next_machine(rig);
	prepare(rig);
	assert_true(wait_until(is_copied(rig, (PAGES - 1) / 3 * 3)));
	assert_false(is_mapped(rig, PAGES - 1 - (PAGES - 1) % 3 + 1));
}

/* The end of a machine does not wait for pages that are still to come. */
static void test_ends(void **state)
{
	struct rig *rig = *state;

	record(rig);
	for (unsigned i = 0; i < 200; i++) {
		open_set(rig, WORKING_SET_AUTO);
		next_machine(rig);
		prepare(rig);
		if (i % 2)
			working_set_end(&rig->task);
	}
	/* One that was to record, and never came to start. */
	open_set(rig, WORKING_SET_ANEW);
	next_machine(rig);
	prepare(rig);
	working_set_end(&rig->task);
	next_machine(rig);
	open_set(rig, WORKING_SET_AUTO);
	assert_true(rig->snapshot.working_set.records);
}

/* Only one machine at a time records; the others start without. */
static void test_one_records(void **state)
{
	struct rig *rig = *state;
	struct snapshot other = {.memory_bytes = BYTES, .memory_fd = -1};

	memset(other.id, 7, sizeof(other.id));
	open_set(rig, WORKING_SET_AUTO);
	for (unsigned i = 0; i < 2; i++) {
		working_set_open(&other, rig->dir.dir,
				 i ? WORKING_SET_ANEW : WORKING_SET_AUTO);
		assert_false(other.working_set.records);
		assert_null(other.working_set.range);
		/* The machine keeps the lock when its caller has closed. */
		if (i == 0)
			prepare(rig);
	}
	next_machine(rig);
	record(rig);
	working_set_open(&other, rig->dir.dir, WORKING_SET_AUTO);
	assert_non_null(other.working_set.range);
	snapshot_close(&other);
}

/* ---- files that say something else */

static void expect_unused(struct rig *rig)
{
	open_set(rig, WORKING_SET_AUTO);
	assert_null(rig->snapshot.working_set.range);
	working_set_close(&rig->snapshot.working_set);
}

static size_t load(const struct rig *rig, uint8_t *file, size_t room)
{
	autofd int fd = open(rig->dir.path, O_RDONLY);
	const ssize_t n = read(fd, file, room);

	assert_true(n > 0 && (size_t)n < room);
	return (size_t)n;
}

static void store(const struct rig *rig, const void *file, size_t bytes)
{
	autofd int fd = open(rig->dir.path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_int_equal(util_write_all(fd, file, bytes), 0);
}

/* Each byte that changes, and each length. */
static void test_damaged(void **state)
{
	struct rig *rig = *state;
	uint8_t file[512];
	size_t bytes;

	record(rig);
	bytes = load(rig, file, sizeof(file));
	for (size_t i = 0; i < bytes; i++) {
		file[i] ^= 0x40;
		store(rig, file, bytes);
		expect_unused(rig);
		file[i] ^= 0x40;
	}
	for (size_t n = 0; n < bytes; n++) {
		store(rig, file, n);
		expect_unused(rig);
	}
	store(rig, file, bytes);
	rig->snapshot.id[3]++;
	expect_unused(rig);
	rig->snapshot.id[3]--;
	store(rig, file, bytes);
	rig->snapshot.memory_bytes *= 2;
	expect_unused(rig);
	rig->snapshot.memory_bytes /= 2;
	store(rig, file, bytes);
	open_set(rig, WORKING_SET_AUTO);
	assert_non_null(rig->snapshot.working_set.range);
}

/* As in working-set.c. */
struct file {
	char magic[8];
	uint32_t version, crc;
	uint8_t id[16];
	uint64_t memory_bytes;
	uint32_t nall, nwritten;
	struct working_set_range range[4];
};

static void store_sound(const struct rig *rig, uint32_t nall, uint32_t nwritten,
			const struct working_set_range range[4])
{
	struct file file = {
		.version = 1,
		.memory_bytes = BYTES,
		.nall = nall,
		.nwritten = nwritten,
	};
	const size_t bytes = offsetof(struct file, range) +
			     (nall + nwritten) * sizeof(file.range[0]);

	memcpy(file.magic, "BULKPAGE", 8);
	memcpy(file.id, rig->snapshot.id, 16);
	memcpy(file.range, range, sizeof(file.range));
	file.crc = (uint32_t)crc32_z(
		0, (uint8_t *)&file + offsetof(struct file, id),
		(bytes < sizeof(file) ? bytes : sizeof(file)) -
			offsetof(struct file, id));
	store(rig, &file, bytes < sizeof(file) ? bytes : sizeof(file));
}

/* Its sum is right, but no record says this. */
static void test_lies(void **state)
{
	struct rig *rig = *state;
	static const struct {
		uint32_t nall, nwritten;
		struct working_set_range range[4];
	} lie[] = {
		{1, 0, {{0, PAGES}}},         /* too much */
		{1, 0, {{0, PAGES / 2 + 1}}}, /* by one */
		{2, 0, {{0, PAGES / 4}, {5000, PAGES / 4 + 1}}},
		{1, 0, {{PAGES, 1}}}, /* not in there */
		{1, 0, {{PAGES - 1, 2}}},
		{1, 0, {{UINT32_MAX, 1}}},
		{1, 0, {{1, UINT32_MAX}}},
		{1, 0, {{8, 0}}},             /* nothing */
		{2, 0, {{8, 2}, {9, 1}}},     /* twice */
		{2, 0, {{8, 2}, {2, 1}}},     /* not in order */
		{1, 1, {{8, 2}, {PAGES, 1}}}, /* in the other list */
		{0, 1, {{0, UINT32_MAX}}},
		{UINT32_MAX, 2, {{0, 1}}}, /* more than there are */
		{5, 0, {{0, 1}, {2, 1}, {4, 1}, {6, 1}}},
	};

	store_sound(rig, 1, 1,
		    (struct working_set_range[4]){{0, PAGES / 2}, {8, 1}});
	open_set(rig, WORKING_SET_AUTO);
	assert_non_null(rig->snapshot.working_set.range);
	for (unsigned i = 0; i < ARRAY_LEN(lie); i++) {
		store_sound(rig, lie[i].nall, lie[i].nwritten, lie[i].range);
		expect_unused(rig);
	}
}

/* Its name leads to a file of somebody else's, which is not touched. */
static void test_elsewhere(void **state)
{
	struct rig *rig = *state;
	char other[TEMPDIR_ROOM + 16];
	struct stat st;

	snprintf(other, sizeof(other), "%s/other", rig->dir.dir);
	for (unsigned i = 0; i < 2; i++) {
		autofd int fd = open(other, O_WRONLY | O_CREAT, 0600);

		assert_int_equal(util_write_all(fd, "dear", 4), 0);
		assert_int_equal(i ? link(other, rig->dir.path)
				   : symlink(other, rig->dir.path),
				 0);
		open_set(rig, WORKING_SET_ANEW);
		assert_false(rig->snapshot.working_set.records);
		expect_unused(rig);
		assert_int_equal(fstat(fd, &st), 0);
		assert_int_equal(st.st_size, 4);
		unlink(rig->dir.path);
		unlink(other);
	}
	assert_int_equal(mkfifo(rig->dir.path, 0600), 0);
	expect_unused(rig);
	unlink(rig->dir.path);
	assert_int_equal(mkdir(rig->dir.path, 0700), 0);
	expect_unused(rig);
	rmdir(rig->dir.path);
}

/* The mode of seccomp(2) that the thread which brings in has; -1: it is gone.
 */
static int seccomp_of_thread(void)
{
	DIR *tasks = opendir("/proc/self/task");
	const struct dirent *entry;
	int mode = -1;

	assert_non_null(tasks);
	while ((entry = readdir(tasks))) {
		char path[300], line[128];
		bool ours = false;
		FILE *file;

		snprintf(path, sizeof(path), "/proc/self/task/%s/status",
			 entry->d_name);
		file = fopen(path, "re");
		while (file && fgets(line, sizeof(line), file)) {
			ours |= strcmp(line, "Name:\tbring in\n") == 0;
			if (ours)
				(void)sscanf(line, "Seccomp:\t%d", &mode);
		}
		if (file)
			fclose(file);
	}
	closedir(tasks);
	return mode;
}

/* It is there before the machine's sandbox, and the guest runs beside it. */
static void test_confined(void **state)
{
	struct rig *rig = *state;
	int last = -1;

	/* It is gone within milliseconds: another one, until one was seen. */
	for (unsigned i = 0; i < 1000 && last != 2; i++) {
		struct working_set *set = &rig->snapshot.working_set;
		int now;

		set->range = calloc(2, sizeof(*set->range));
		set->range[0].count = set->range[1].count = PAGES / 2;
		set->nall = set->nwritten = 1;
		working_set_prepare(&rig->task, &rig->snapshot, &rig->mem,
				    true);
		working_set_close(set);
		while ((now = seccomp_of_thread()) >= 0)
			last = now;
		next_machine(rig);
	}
	assert_int_equal(last, 2);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_confined), TEST(test_round),       TEST(test_time),
		TEST(test_cold),     TEST(test_much),        TEST(test_pieces),
		TEST(test_ends),     TEST(test_one_records), TEST(test_damaged),
		TEST(test_lies),     TEST(test_elsewhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
