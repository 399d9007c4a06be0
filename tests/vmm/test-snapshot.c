/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot's two files: written, opened, mapped, and what damage says. */
#include "vmm/snapshot.h"

#include "tests/tempdir.h"
#include "vmm/base/mem.h"
#include "vmm/base/util.h"
#include "vmm/pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define BYTES (32 * MIB)

struct rig {
	struct mem mem;
	struct tempdir dir; /* its path: the state's file */
	char memory[2 * TEMPDIR_ROOM];
	uint64_t written;
};

static bool goes_on(void *arg)
{
	(void)arg;
	return false;
}

static bool stops_at_once(void *arg)
{
	(void)arg;
	return true;
}

static int new_file(const char *path)
{
	const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	return fd;
}

/* Saves MEM, which is mapped from FILE_FD or -1, as the machine ID. */
static void save_mem(struct rig *rig, const struct mem *mem, int file_fd,
		     uint8_t id)
{
	autofd int pagemap = open("/proc/self/pagemap", O_RDONLY);
	char config[] = "{}", directory[] = "/where", state[] = "all of it";
	struct snapshot s = {
		.saved_ns = 7,
		.config = config,
		.directory = directory,
		.state = (uint8_t *)state,
		.state_bytes = sizeof(state),
	};
	int fd = new_file(rig->memory);

	memset(s.id, id, sizeof(s.id));
	assert_int_equal(snapshot_write_memory(&s, fd, mem, pagemap, file_fd,
					       goes_on, NULL, &rig->written),
			 0);
	close(fd);
	fd = new_file(rig->dir.path);
	assert_int_equal(snapshot_write_state(&s, fd), 0);
	close(fd);
}

static void save(struct rig *rig, uint8_t id)
{
	save_mem(rig, &rig->mem, -1, id);
}

static int setup(void **state)
{
	const struct mem_options none = {0};
	struct rig *rig = calloc(1, sizeof(*rig));
	uint8_t *ram;

	assert_non_null(rig);
	assert_int_equal(mem_init(&rig->mem, BYTES, &none), 0);
	ram = rig->mem.region[0].host;
	memset(ram, 0x11, 4096);
	memset(ram + 3 * MIB - 4096, 0x22, 8192);
	ram[BYTES - 1] = 0x33;
	assert_true(tempdir_make(&rig->dir, SNAPSHOT_STATE_FILE));
	snprintf(rig->memory, sizeof(rig->memory), "%s/%s", rig->dir.dir,
		 SNAPSHOT_MEMORY_FILE);
	save(rig, 1);
	*state = rig;
	return 0;
}

static int teardown(void **state)
{
	struct rig *rig = *state;

	mem_done(&rig->mem);
	(void)unlink(rig->memory);
	(void)unlink(rig->dir.path);
	assert_true(tempdir_remove(&rig->dir));
	free(rig);
	return 0;
}

static void test_round(void **state)
{
	struct rig *rig = *state;
	struct mem_options from = {.from_file = true};
	struct snapshot s;
	struct mem mem;
	struct stat st;

	assert_int_equal(rig->written, 4 * 4096);
	assert_int_equal(stat(rig->memory, &st), 0);
	assert_int_equal(st.st_size, BYTES + 4096);
	assert_true(st.st_blocks * 512 < (off_t)MIB);
	assert_int_equal(snapshot_open(&s, rig->dir.dir), 0);
	assert_int_equal(s.saved_ns, 7);
	assert_int_equal(s.memory_bytes, BYTES);
	assert_string_equal(s.config, "{}");
	assert_string_equal(s.directory, "/where");
	assert_int_equal(s.state_bytes, sizeof("all of it"));
	assert_memory_equal(s.state, "all of it", s.state_bytes);
	assert_int_equal(snapshot_verify(&s), 0);
	from.file_fd = s.memory_fd;
	assert_int_equal(mem_init(&mem, BYTES, &from), 0);
	assert_memory_equal(mem.region[0].host, rig->mem.region[0].host, BYTES);
	/* A change stays in this process. */
	mem.region[0].host[0] = 0x44;
	assert_int_equal(snapshot_verify(&s), 0);
	mem_done(&mem);
	snapshot_close(&s);
}

/* Files that have no name any more, as a clone's; those of two do not go. */
static void test_take(void **state)
{
	struct rig *rig = *state;
	autofd int state_fd = open(rig->dir.path, O_RDONLY);
	int memory_fd = open(rig->memory, O_RDONLY);
	struct snapshot s;

	assert_int_equal(unlink(rig->memory), 0);
	assert_int_equal(unlink(rig->dir.path), 0);
	assert_int_equal(snapshot_take(&s, "name", state_fd, memory_fd), 0);
	assert_int_equal(s.memory_fd, memory_fd);
	assert_int_equal(s.memory_bytes, BYTES);
	assert_string_equal(s.config, "{}");
	assert_int_equal(snapshot_verify(&s), 0);
	snapshot_close(&s);
	save(rig, 2);
	memory_fd = open(rig->memory, O_RDONLY);
	assert_int_equal(snapshot_take(&s, "name", state_fd, memory_fd),
			 -EBADMSG);
	snapshot_close(&s);
	assert_int_equal(fcntl(memory_fd, F_GETFD), -1);
}

static bool is_present(const uint8_t *host)
{
	autofd int pagemap = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry = 0;

	assert_int_equal(pread(pagemap, &entry, sizeof(entry),
			       (off_t)((uintptr_t)host / 4096 * sizeof(entry))),
			 sizeof(entry));
	return entry & PAGEMAP_PRESENT;
}

/*
 * Memory that is from a snapshot: what changed of it, also where that has a
 * hole, and what nobody has touched. Its holes are not read.
 */
static void test_saved_again(void **state)
{
	struct rig *rig = *state;
	struct mem_options from = {.from_file = true};
	struct snapshot s;
	struct mem mem, again;
	uint8_t *ram;

	assert_int_equal(snapshot_open(&s, rig->dir.dir), 0);
	from.file_fd = s.memory_fd;
	assert_int_equal(mem_init(&mem, BYTES, &from), 0);
	ram = mem.region[0].host;
	ram[MIB] = 0x55;
	ram[0] = 0x66;
	memset(ram + 3 * MIB, 0, 4096);
	assert_int_equal(unlink(rig->memory), 0);
	save_mem(rig, &mem, s.memory_fd, 2);
	assert_false(is_present(ram + 2 * MIB));
	snapshot_close(&s);
	assert_int_equal(snapshot_open(&s, rig->dir.dir), 0);
	assert_int_equal(snapshot_verify(&s), 0);
	from.file_fd = s.memory_fd;
	assert_int_equal(mem_init(&again, BYTES, &from), 0);
	assert_memory_equal(again.region[0].host, ram, BYTES);
	mem_done(&again);
	mem_done(&mem);
	snapshot_close(&s);
}

static void test_stopped(void **state)
{
	struct rig *rig = *state;
	struct snapshot s = {.memory_fd = -1};
	int fd = new_file(rig->memory);

	assert_int_equal(snapshot_write_memory(&s, fd, &rig->mem, -1, -1,
					       stops_at_once, NULL,
					       &rig->written),
			 -EINTR);
	close(fd);
	assert_true(snapshot_open(&s, rig->dir.dir) < 0);
	snapshot_close(&s);
}

/*
 * A machine that was started from a snapshot is saved onto a copy of that:
 * pages that have changed are written, and it is as whole as any other.
 */
static void test_base(void **state)
{
	struct rig *rig = *state;
	autofd int pagemap = open("/proc/self/pagemap", O_RDONLY);
	struct mem_options from = {.from_file = true};
	struct snapshot base, next = {.memory_fd = -1};
	char path[3 * TEMPDIR_ROOM];
	struct mem mem;
	uint8_t *ram;

	assert_int_equal(snapshot_open(&base, rig->dir.dir), 0);
	from.file_fd = base.memory_fd;
	assert_int_equal(mem_init(&mem, BYTES, &from), 0);
	ram = mem.region[0].host;
	memset(ram, 0, 4096);                       /* is no more */
	ram[9 * MIB] = 0x55;                        /* was not */
	ram[3 * MIB] = 0x66;                        /* another */
	ram[3 * MIB - 4096] = 0x22;                 /* the same, of its own */
	(void)*(volatile uint8_t *)&ram[BYTES - 1]; /* read only */

	snprintf(path, sizeof(path), "%s.next", rig->memory);
	next.memory_fd = new_file(path);
	unlink(path);
	assert_int_equal(snapshot_copy_memory(&base, next.memory_fd,
					      stops_at_once, NULL),
			 -EINTR);
	assert_int_equal(
		snapshot_copy_memory(&base, next.memory_fd, goes_on, NULL), 0);
	next.has_base = true;
	next.memory_sum = base.memory_sum;
	assert_int_equal(snapshot_write_memory(&next, next.memory_fd, &mem,
					       pagemap, -1, goes_on, NULL,
					       &rig->written),
			 0);
	assert_int_equal(rig->written, 3 * 4096);
	assert_int_equal(snapshot_verify(&next), 0);
	mem_done(&mem);
	from.file_fd = next.memory_fd;
	assert_int_equal(mem_init(&mem, BYTES, &from), 0);
	ram = mem.region[0].host;
	assert_int_equal(ram[0], 0);
	assert_int_equal(ram[9 * MIB], 0x55);
	assert_int_equal(ram[3 * MIB], 0x66);
	assert_int_equal(ram[3 * MIB + 1], 0x22);
	assert_int_equal(ram[BYTES - 1], 0x33);
	/* The base is what it was; and what has changed has to be known. */
	assert_int_equal(snapshot_verify(&base), 0);
	assert_true(snapshot_write_memory(&next, next.memory_fd, &mem, -1, -1,
					  goes_on, NULL, &rig->written) < 0);
	mem_done(&mem);
	util_close(&next.memory_fd);
	snapshot_close(&base);
}

/* A disk that is full: the error comes out, and no head is written. */
static void test_full(void **state)
{
	struct rig *rig = *state;
	struct snapshot s = {.memory_fd = -1};
	int fd = open("/dev/full", O_RDWR), pagemap = -1;

	if (fd < 0)
		skip();
	assert_true(snapshot_write_memory(&s, fd, &rig->mem, pagemap, -1,
					  goes_on, NULL, &rig->written) < 0);
	close(fd);
}

static int opened(const struct rig *rig)
{
	struct snapshot s;
	const int r = snapshot_open(&s, rig->dir.dir);

	snapshot_close(&s);
	return r;
}

/* Each byte of the state file that changes, and each length, is found. */
static void test_damaged_state(void **state)
{
	struct rig *rig = *state;
	struct stat st;
	int fd = open(rig->dir.path, O_RDWR);

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	for (off_t at = 0; at < st.st_size; at++) {
		uint8_t byte, other;

		assert_int_equal(pread(fd, &byte, 1, at), 1);
		other = byte ^ 0x40;
		assert_int_equal(pwrite(fd, &other, 1, at), 1);
		assert_true(opened(rig) < 0);
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	}
	assert_int_equal(opened(rig), 0);
	for (off_t n = st.st_size - 1; n >= 0; n--) {
		assert_int_equal(ftruncate(fd, n), 0);
		assert_true(opened(rig) < 0);
	}
	close(fd);
}

static void test_damaged_memory(void **state)
{
	struct rig *rig = *state;
	struct snapshot s;
	const uint8_t byte = 1;
	int fd = open(rig->memory, O_RDWR);

	assert_true(fd >= 0);
	/* In a page, and in a hole. */
	for (off_t at = 100; at < (off_t)BYTES; at += (off_t)(9 * MIB)) {
		uint8_t before;

		assert_int_equal(pread(fd, &before, 1, at), 1);
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		assert_int_equal(snapshot_open(&s, rig->dir.dir), 0);
		assert_int_equal(snapshot_verify(&s), -EBADMSG);
		snapshot_close(&s);
		assert_int_equal(pwrite(fd, &before, 1, at), 1);
	}
	assert_int_equal(ftruncate(fd, (off_t)BYTES), 0);
	assert_int_equal(opened(rig), -EBADMSG);
	assert_int_equal(ftruncate(fd, (off_t)BYTES + 4096), 0);
	assert_int_equal(opened(rig), -EBADMSG);
	close(fd);
}

/* One machine's memory with another one's state. */
static void test_mixed(void **state)
{
	struct rig *rig = *state;
	char kept[3 * TEMPDIR_ROOM];

	snprintf(kept, sizeof(kept), "%s.kept", rig->memory);
	assert_int_equal(rename(rig->memory, kept), 0);
	save(rig, 2);
	assert_int_equal(opened(rig), 0);
	assert_int_equal(rename(kept, rig->memory), 0);
	assert_int_equal(opened(rig), -EBADMSG);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_round), TEST(test_saved_again),
		TEST(test_take),  TEST(test_stopped),
		TEST(test_full),  TEST(test_damaged_state),
		TEST(test_mixed), TEST(test_damaged_memory),
		TEST(test_base),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
