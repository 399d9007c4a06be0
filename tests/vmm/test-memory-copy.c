/* SPDX-License-Identifier: Apache-2.0 */
/* RAM that is written by a process while it changes here. */
#include "vmm/memory-copy.h"

#include "tests/tempdir.h"
#include "vmm/base/mem.h"
#include "vmm/base/util.h"
#include "vmm/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define BYTES (32 * MIB)
#define PAGE  4096
#define WORDS (PAGE / sizeof(uint64_t))

struct rig {
	struct mem mem;
	struct tempdir dir; /* its path: the memory's file */
	int fd, pagemap;
	struct snapshot snapshot;
	struct memory_copy copy;
	uint64_t written;
};

static bool goes_on(void *arg)
{
	(void)arg;
	return false;
}

static bool stops(void *arg)
{
	(void)arg;
	return true;
}

/* Every page but each eighth, which nobody touches. */
static void write_round(struct rig *rig, uint64_t round)
{
	uint64_t *ram = (uint64_t *)(void *)rig->mem.region[0].host;

	for (uint64_t page = 0; page < BYTES / PAGE; page++) {
		if (page % 8)
			ram[page * WORDS + page % WORDS] = round << 32 | page;
	}
}

static int setup(void **state)
{
	const struct mem_options none = {0};
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	assert_int_equal(mem_init(&rig->mem, BYTES, &none), 0);
	assert_true(tempdir_make(&rig->dir, SNAPSHOT_MEMORY_FILE));
	rig->fd = open(rig->dir.path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_true(rig->fd >= 0);
	rig->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	write_round(rig, 1);
	memset(rig->snapshot.id, 5, sizeof(rig->snapshot.id));
	rig->snapshot.memory_fd = rig->fd;
	*state = rig;
	return 0;
}

static int teardown(void **state)
{
	struct rig *rig = *state;

	mem_done(&rig->mem);
	close(rig->fd);
	util_close(&rig->pagemap);
	(void)unlink(rig->dir.path);
	assert_true(tempdir_remove(&rig->dir));
	free(rig);
	return 0;
}

static void start(struct rig *rig)
{
	assert_int_equal(memory_copy_start(&rig->copy, &rig->snapshot, rig->fd,
					   &rig->mem, rig->pagemap, -1),
			 0);
}

static int wait_for(struct rig *rig, int gone_fd, bool (*fn)(void *arg))
{
	return memory_copy_wait(&rig->copy, gone_fd, fn, NULL, &rig->snapshot,
				&rig->written);
}

static void expect_round(struct rig *rig, uint64_t round)
{
	autofree uint64_t *page = malloc(PAGE);

	assert_non_null(page);
	for (uint64_t i = 0; i < BYTES / PAGE; i++) {
		assert_int_equal(pread(rig->fd, page, PAGE, (off_t)(i * PAGE)),
				 PAGE);
		assert_int_equal(page[i % WORDS], i % 8 ? round << 32 | i : 0);
	}
	assert_int_equal(snapshot_verify(&rig->snapshot), 0);
}

/* In the file is what was there when it began, of pages old and new. */
static void test_instant(void **state)
{
	struct rig *rig = *state;

	start(rig);
	for (uint64_t round = 2; round < 6; round++)
		write_round(rig, round);
	memset(rig->mem.region[0].host, 0xee, PAGE);
	assert_int_equal(wait_for(rig, -1, goes_on), 0);
	assert_int_equal(rig->written, BYTES / 8 * 7);
	assert_int_equal(rig->snapshot.memory_bytes, BYTES);
	expect_round(rig, 1);
	/* There is none any more. */
	assert_int_equal(wait_for(rig, -1, goes_on), 0);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

/* A machine that was restored has its RAM from a file, partly. */
static void test_of_a_file(void **state)
{
	struct rig *rig = *state;
	struct mem_options from = {.from_file = true};
	char path[2 * TEMPDIR_ROOM];

	start(rig);
	assert_int_equal(wait_for(rig, -1, goes_on), 0);
	from.file_fd = rig->fd;
	mem_done(&rig->mem);
	assert_int_equal(mem_init(&rig->mem, BYTES, &from), 0);
	snprintf(path, sizeof(path), "%s.2", rig->dir.path);
	rig->fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_true(rig->fd >= 0);
	unlink(path);
	rig->snapshot.memory_fd = rig->fd;
	write_round(rig, 7);
	util_close(&rig->pagemap);
	start(rig);
	write_round(rig, 8);
	assert_int_equal(wait_for(rig, -1, goes_on), 0);
	expect_round(rig, 7);
	close(from.file_fd);
}

/* The caller, or the one at the other end of a connection, does not want it. */
static void test_ended(void **state)
{
	struct rig *rig = *state;
	int ends[2];

	start(rig);
	assert_int_equal(wait_for(rig, -1, stops), -EINTR);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);

	assert_int_equal(pipe(ends), 0);
	close(ends[0]);
	start(rig);
	assert_int_equal(wait_for(rig, ends[1], goes_on), -EINTR);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	close(ends[1]);
}

/* Killed, as the host does that has no memory for it; and a full disk. */
static void test_fails(void **state)
{
	struct rig *rig = *state;
	const int kept = rig->fd;

	start(rig);
	kill(rig->copy.pid, SIGKILL);
	/* It may have been done already. */
	assert_in_set(wait_for(rig, -1, goes_on),
		      ((const unsigned long[]){0, (unsigned long)-ECHILD}), 2);
	rig->fd = open("/dev/full", O_RDWR);
	if (rig->fd >= 0) {
		start(rig);
		assert_int_equal(wait_for(rig, -1, goes_on), -ENOSPC);
		close(rig->fd);
	}
	rig->fd = kept;
}

/* Other processes do not have the RAM, before as after. */
static void test_others(void **state)
{
	struct rig *rig = *state;
	unsigned char there;
	int status;
	pid_t pid;

	start(rig);
	assert_int_equal(wait_for(rig, -1, goes_on), 0);
	pid = fork();
	if (pid == 0)
		_exit(mincore(rig->mem.region[0].host, PAGE, &there) < 0 &&
				      errno == ENOMEM
			      ? 0
			      : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/*
 * A lock that this process has open ends when it closes it, though the other
 * process may still write.
 */
static void test_descriptors(void **state)
{
	struct rig *rig = *state;
	char path[2 * TEMPDIR_ROOM];
	int lock, next, ends[2];

	snprintf(path, sizeof(path), "%s.lock", rig->dir.path);
	lock = open(path, O_RDWR | O_CREAT, 0600);
	next = open(path, O_RDWR);
	assert_int_equal(pipe(ends), 0);
	assert_true(lock >= 0 && next >= 0);
	unlink(path);
	assert_int_equal(flock(lock, LOCK_EX), 0);
	start(rig);
	close(lock);
	close(ends[1]);
	/* The end of the pipe comes when nobody else has it. */
	assert_int_equal(read(ends[0], path, 1), 0);
	assert_int_equal(flock(next, LOCK_EX), 0);
	assert_int_equal(wait_for(rig, -1, goes_on), 0);
	close(next);
	close(ends[0]);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_instant), TEST(test_of_a_file),
		TEST(test_ended),   TEST(test_fails),
		TEST(test_others),  TEST(test_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
