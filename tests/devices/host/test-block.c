/* SPDX-License-Identifier: Apache-2.0 */
/* Disk images, on files made for each test: no guest, no virtio. */
#include "devices/host/block.h"

#include "tests/patience.h"
#include "tests/tempdir.h"
#include "vmm/base/loop.h"
#include "vmm/base/util.h"
#include "vmm/base/visit.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define IMAGE_BYTES (4 * MIB)
#define DEPTH       32

struct fixture {
	char dir[TEMPDIR_ROOM], path[96];
	struct block *block;
};

struct one {
	struct block_request request;
	struct iovec iov;
	int result, calls;
};

static void one_done(struct block_request *request, int result)
{
	struct one *one = container_of(request, struct one, request);

	one->result = result;
	one->calls++;
}

static void fill(uint8_t *data, size_t bytes, unsigned seed)
{
	for (size_t i = 0; i < bytes; i++)
		data[i] = (uint8_t)(i * 7 + i / 512 + seed);
}

static void make_image(const char *path, size_t bytes)
{
	autofree uint8_t *data = malloc(bytes + 1);
	autofd int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	fill(data, bytes, 0);
	assert_int_equal(pwrite(fd, data, bytes, 0), bytes);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	tempdir_name_on_disk(f->dir);
	if (!mkdtemp(f->dir))
		return -1;
	snprintf(f->path, sizeof(f->path), "%s/image", f->dir);
	make_image(f->path, IMAGE_BYTES);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	block_close(f->block);
	unlink(f->path);
	rmdir(f->dir);
	free(f);
	return 0;
}

static int try_open(struct fixture *f, bool readonly, bool direct)
{
	const struct block_options options = {
		.readonly = readonly, .direct = direct, .depth = DEPTH};

	return block_open(f->path, &options, &f->block);
}

static void open_image(struct fixture *f, bool readonly, bool direct)
{
	int r = try_open(f, readonly, direct);

	if (direct && r == -EINVAL) {
		print_message("no O_DIRECT in %s\n", f->dir);
		skip();
	}
	assert_int_equal(r, 0);
}

static void prepare(struct one *one, enum block_op op, uint64_t offset,
		    void *data, size_t bytes)
{
	*one = (struct one){
		.request = {.op = op,
			    .offset = offset,
			    .bytes = bytes,
			    .iov = &one->iov,
			    .niov = data ? 1 : 0,
			    .done = one_done},
		.iov = {.iov_base = data, .iov_len = bytes},
	};
}

/* Waits as a device would: for the event descriptor. */
static void finish_all(struct fixture *f, const struct one *one, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		while (one[i].calls == 0) {
			struct pollfd pfd = {.fd = block_event_fd(f->block),
					     .events = POLLIN};

			assert_int_equal(poll(&pfd, 1, PATIENCE_MS), 1);
			block_reap(f->block);
		}
		assert_int_equal(one[i].calls, 1);
	}
}

static int do_one(struct fixture *f, struct one *one)
{
	block_queue(f->block, &one->request);
	if (block_submit(f->block))
		block_reap(f->block);
	finish_all(f, one, 1);
	return one->result;
}

static int do_op(struct fixture *f, enum block_op op, uint64_t offset,
		 void *data, size_t bytes)
{
	struct one one;

	prepare(&one, op, offset, data, bytes);
	return do_one(f, &one);
}

static uint8_t *pages(size_t bytes)
{
	uint8_t *data = aligned_alloc(4096, align_up(bytes, 4096));

	assert_non_null(data);
	memset(data, 0xee, bytes);
	return data;
}

/* ---- opening */

static void test_info(void **state)
{
	struct fixture *f = *state;
	struct block_info info;

	open_image(f, false, false);
	block_info(f->block, &info);
	assert_int_equal(info.bytes, IMAGE_BYTES);
	assert_int_equal(info.block_bytes, 512);
	assert_int_equal(info.physical_bytes, 4096);
	assert_false(info.readonly);
	assert_true(info.can_write_zeroes);
}

static void test_readonly_info(void **state)
{
	struct fixture *f = *state;
	struct block_info info;

	open_image(f, true, false);
	block_info(f->block, &info);
	assert_true(info.readonly);
	assert_false(info.can_discard);
	assert_false(info.can_write_zeroes);
}

static void test_bad_images(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	assert_int_equal(truncate(f->path, 0), 0);
	assert_int_equal(try_open(f, false, false), -EINVAL);
	assert_int_equal(truncate(f->path, 511), 0);
	assert_int_equal(try_open(f, false, false), -EINVAL);
	unlink(f->path);
	assert_int_equal(try_open(f, false, false), -ENOENT);
	assert_int_equal(stat(f->path, &st), -1); /* and none was made */
	assert_int_equal(mkdir(f->path, 0700), 0);
	assert_int_equal(try_open(f, false, false), -EISDIR);
	rmdir(f->path);
	assert_int_equal(mkfifo(f->path, 0600), 0);
	assert_int_equal(try_open(f, true, false), -EINVAL);
}

static void test_permissions(void **state)
{
	struct fixture *f = *state;

	if (geteuid() == 0) {
		print_message("root may open everything\n");
		skip();
	}
	chmod(f->path, 0400);
	assert_int_equal(try_open(f, false, false), -EACCES);
	assert_int_equal(try_open(f, true, false), 0);
}

static void test_tail_is_cut_off(void **state)
{
	struct fixture *f = *state;
	struct block_info info;

	assert_int_equal(truncate(f->path, 4096 + 100), 0);
	open_image(f, false, false);
	block_info(f->block, &info);
	assert_int_equal(info.bytes, 4096);
}

static void test_locks(void **state)
{
	struct fixture *f = *state;
	const struct block_options writer = {.depth = 1};
	const struct block_options reader = {.depth = 1, .readonly = true};
	struct block *other = NULL;

	open_image(f, false, false);
	assert_int_equal(block_open(f->path, &writer, &other), -EBUSY);
	assert_int_equal(block_open(f->path, &reader, &other), -EBUSY);
	block_close(f->block);
	f->block = NULL;
	open_image(f, true, false);
	assert_int_equal(block_open(f->path, &writer, &other), -EBUSY);
	assert_null(other);
	assert_int_equal(block_open(f->path, &reader, &other), 0);
	block_close(other);
}

static void test_other_formats(void **state)
{
	struct fixture *f = *state;
	const struct block_options raw = {.depth = 1, .raw = true};
	autofd int fd = open(f->path, O_RDWR);

	assert_int_equal(pwrite(fd, "QFI\xfb\0\0\0\3", 8, 0), 8);
	assert_int_equal(try_open(f, false, false), -EINVAL);
	assert_int_equal(block_open(f->path, &raw, &f->block), 0);
}

/* ---- requests, through the page cache and past it */

static void check_transfers(struct fixture *f, bool direct)
{
	uint8_t *data = pages(64 * KIB), *expected = pages(64 * KIB);

	open_image(f, false, direct);
	assert_int_equal(do_op(f, BLOCK_READ, 0, data, 64 * KIB), 0);
	fill(expected, 64 * KIB, 0);
	assert_memory_equal(data, expected, 64 * KIB);
	fill(data, 64 * KIB, 99);
	assert_int_equal(
		do_op(f, BLOCK_WRITE, IMAGE_BYTES - 64 * KIB, data, 64 * KIB),
		0);
	assert_int_equal(do_op(f, BLOCK_FLUSH, 0, NULL, 0), 0);
	memset(expected, 0, 64 * KIB);
	assert_int_equal(do_op(f, BLOCK_READ, IMAGE_BYTES - 64 * KIB, expected,
			       64 * KIB),
			 0);
	assert_memory_equal(data, expected, 64 * KIB);
	free(data);
	free(expected);
}

static void test_cached(void **state)
{
	check_transfers(*state, false);
}

static void test_direct(void **state)
{
	check_transfers(*state, true);
}

/* O_DIRECT itself refuses these: odd addresses, odd lengths of a buffer. */
static void test_direct_misaligned(void **state)
{
	struct fixture *f = *state;
	uint8_t *data = pages(16 * KIB), *expected = pages(16 * KIB);
	struct iovec iov[3] = {{data + 1, 100},
			       {data + 300, 4096 - 101},
			       {data + 8192 + 3, 4097}};
	struct one one;

	open_image(f, false, true);
	assert_int_equal(do_op(f, BLOCK_READ, 8192, data + 3, 512), 0);
	fill(expected, 16 * KIB, 0);
	assert_memory_equal(data + 3, expected + 8192, 512);
	fill(data, 16 * KIB, 5);
	prepare(&one, BLOCK_WRITE, 4096, data, 8192);
	one.request.iov = iov;
	one.request.niov = 3;
	iov[2].iov_len = 8192 - 100 - (4096 - 101);
	assert_int_equal(do_one(f, &one), 0);
	assert_int_equal(do_op(f, BLOCK_READ, 4096, expected, 8192), 0);
	assert_memory_equal(expected, data + 1, 100);
	assert_memory_equal(expected + 100, data + 300, 3995);
	assert_memory_equal(expected + 4095, data + 8195, 4097);
	free(data);
	free(expected);
}

static void check_batch(struct fixture *f, bool direct)
{
	struct one one[DEPTH];
	uint8_t *data = pages(DEPTH * 4096), *expected = pages(IMAGE_BYTES);

	open_image(f, true, direct);
	for (unsigned i = 0; i < DEPTH; i++) {
		prepare(&one[i], BLOCK_READ, i * 37 % 1024 * 4096,
			data + i * 4096, 4096);
		block_queue(f->block, &one[i].request);
	}
	if (block_submit(f->block))
		block_reap(f->block);
	finish_all(f, one, DEPTH);
	fill(expected, IMAGE_BYTES, 0);
	for (unsigned i = 0; i < DEPTH; i++) {
		assert_int_equal(one[i].result, 0);
		assert_memory_equal(data + i * 4096,
				    expected + one[i].request.offset, 4096);
	}
	free(data);
	free(expected);
}

static void test_batch_cached(void **state)
{
	check_batch(*state, false);
}

static void test_batch_direct(void **state)
{
	check_batch(*state, true);
}

/* Reads of what is not in the page cache take the second look. */
static void test_batch_cold(void **state)
{
	struct fixture *f = *state;
	autofd int fd = open(f->path, O_RDONLY);

	fsync(fd);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	check_batch(f, false);
}

static void test_drain(void **state)
{
	struct fixture *f = *state;
	struct one one[DEPTH];
	uint8_t *data = pages(DEPTH * 4096);

	open_image(f, false, true);
	for (unsigned i = 0; i < DEPTH; i++) {
		prepare(&one[i], i % 3 == 0 ? BLOCK_FLUSH : BLOCK_WRITE,
			i * 4096, i % 3 == 0 ? NULL : data + i * 4096,
			i % 3 == 0 ? 0 : 4096);
		block_queue(f->block, &one[i].request);
		if (i == DEPTH / 2)
			block_submit(f->block);
	}
	block_drain(f->block);
	for (unsigned i = 0; i < DEPTH; i++) {
		assert_int_equal(one[i].calls, 1);
		assert_int_equal(one[i].result, 0);
	}
	/* The kernel may tell of the last one only now: that ends, too. */
	loop_signal(block_event_fd(f->block));
	assert_int_equal(block_reap(f->block), 0);
	assert_int_equal(loop_drain(block_event_fd(f->block)), 0);
	free(data);
}

static void test_durable(void **state)
{
	struct fixture *f = *state;
	uint8_t *data = pages(4096);

	for (int direct = 0; direct < 2; direct++) {
		struct one one;

		open_image(f, false, direct);
		prepare(&one, BLOCK_WRITE, 0, data, 4096);
		one.request.durable = true;
		assert_int_equal(do_one(f, &one), 0);
		block_close(f->block);
		f->block = NULL;
	}
	free(data);
}

/* The image shrinks under the guest: an error, not a signal. */
static void test_shrunk(void **state)
{
	struct fixture *f = *state;
	uint8_t *data = pages(8192);

	for (int direct = 0; direct < 2; direct++) {
		make_image(f->path, IMAGE_BYTES);
		open_image(f, false, direct);
		assert_int_equal(truncate(f->path, MIB), 0);
		assert_int_equal(do_op(f, BLOCK_READ, 2 * MIB, data, 8192),
				 -EIO);
		assert_int_equal(do_op(f, BLOCK_READ, MIB - 4096, data, 8192),
				 -EIO);
		assert_int_equal(do_op(f, BLOCK_READ, 0, data, 8192), 0);
		block_close(f->block);
		f->block = NULL;
	}
	free(data);
}

static void test_kernel_errors(void **state)
{
	struct fixture *f = *state;
	uint8_t *data = pages(4096);

	/* A bad address stands in for every error of the kernel's. */
	open_image(f, false, false);
	assert_int_equal(do_op(f, BLOCK_WRITE, 0, (void *)16, 4096), -EFAULT);
	assert_int_equal(do_op(f, BLOCK_READ, 0, (void *)16, 4096), -EFAULT);
	assert_int_equal(do_op(f, BLOCK_READ, 0, data, 4096), 0);
	free(data);
}

/* ---- discard and zeroes */

static void expect_zeroes(struct fixture *f, uint64_t offset, uint64_t bytes)
{
	uint8_t *data = pages(bytes + 1024), *expected = pages(IMAGE_BYTES);

	assert_int_equal(do_op(f, BLOCK_READ, offset - 512, data, bytes + 1024),
			 0);
	fill(expected, IMAGE_BYTES, 0);
	assert_memory_equal(data, expected + offset - 512, 512);
	assert_memory_equal(data + 512 + bytes, expected + offset + bytes, 512);
	for (uint64_t i = 0; i < bytes; i++)
		assert_int_equal(data[512 + i], 0);
	free(data);
	free(expected);
}

static void test_write_zeroes(void **state)
{
	struct fixture *f = *state;

	for (int unmap = 0; unmap < 2; unmap++) {
		struct one one;

		open_image(f, false, false);
		prepare(&one, BLOCK_WRITE_ZEROES, 512 + MIB * unmap, NULL,
			512 * 1001);
		one.request.unmap = unmap;
		assert_int_equal(do_one(f, &one), 0);
		expect_zeroes(f, 512 + MIB * unmap, 512 * 1001);
		block_close(f->block);
		f->block = NULL;
	}
}

static void test_discard(void **state)
{
	struct fixture *f = *state;
	struct block_info info;
	struct stat before, after;

	open_image(f, false, false);
	block_info(f->block, &info);
	if (!info.can_discard) {
		print_message("no holes in %s\n", f->dir);
		skip();
	}
	stat(f->path, &before);
	assert_int_equal(do_op(f, BLOCK_DISCARD, MIB, NULL, 2 * MIB), 0);
	stat(f->path, &after);
	assert_int_equal(after.st_size, before.st_size);
	assert_true(after.st_blocks < before.st_blocks);
	expect_zeroes(f, MIB, 2 * MIB);
}

/* Opens the image, loads what another one saved (NULL: nothing), saves. */
static int reload(struct fixture *f, bool readonly, struct visitor *saved,
		  struct visitor *ret_saved)
{
	struct visitor v;
	int r = 0;

	block_close(f->block);
	f->block = NULL;
	open_image(f, readonly, false);
	if (saved) {
		visit_load(&v, saved->saved, saved->bytes);
		block_visit(f->block, &v);
		r = visit_end(&v);
	}
	if (ret_saved) {
		visit_save(ret_saved);
		block_visit(f->block, ret_saved);
		assert_int_equal(visit_end(ret_saved), 0);
	}
	return r;
}

/* Opening tries things, but leaves the image as it was, as often as it may. */
static void test_visit(void **state)
{
	struct fixture *f = *state;
	struct visitor saved;

	assert_int_equal(reload(f, false, NULL, &saved), 0);
	assert_int_equal(reload(f, false, &saved, NULL), 0);
	assert_int_equal(reload(f, true, &saved, NULL), -EINVAL);
	assert_int_equal(reload(f, false, &saved, NULL), 0);
	visit_done(&saved);
}

/* The guest that goes on has in memory what was on the disk before. */
static void test_visit_written(void **state)
{
	struct fixture *f = *state;
	struct visitor saved;
	char command[256];

	assert_int_equal(reload(f, false, NULL, &saved), 0);
	snprintf(command, sizeof(command), "cp -p %s %s.copy", f->path,
		 f->path);
	assert_int_equal(system(command), 0);
	/* A clock of the file system's may tick slowly. */
	patience_sleep_ms(20);
	assert_int_equal(do_op(f, BLOCK_WRITE_ZEROES, 0, NULL, 4096), 0);
	assert_int_equal(reload(f, false, &saved, NULL), -EINVAL);
	/* The copy in its place is another file. */
	snprintf(command, sizeof(command), "mv %s.copy %s", f->path, f->path);
	assert_int_equal(system(command), 0);
	assert_int_equal(reload(f, false, &saved, NULL), 0);
	assert_int_equal(truncate(f->path, IMAGE_BYTES / 2), 0);
	assert_int_equal(reload(f, false, &saved, NULL), -EINVAL);
	visit_done(&saved);
}

#define FIXTURE_TEST(test)                                                     \
	cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		FIXTURE_TEST(test_info),
		FIXTURE_TEST(test_readonly_info),
		FIXTURE_TEST(test_bad_images),
		FIXTURE_TEST(test_permissions),
		FIXTURE_TEST(test_tail_is_cut_off),
		FIXTURE_TEST(test_locks),
		FIXTURE_TEST(test_other_formats),
		FIXTURE_TEST(test_cached),
		FIXTURE_TEST(test_direct),
		FIXTURE_TEST(test_direct_misaligned),
		FIXTURE_TEST(test_batch_cached),
		FIXTURE_TEST(test_batch_direct),
		FIXTURE_TEST(test_batch_cold),
		FIXTURE_TEST(test_drain),
		FIXTURE_TEST(test_durable),
		FIXTURE_TEST(test_shrunk),
		FIXTURE_TEST(test_kernel_errors),
		FIXTURE_TEST(test_write_zeroes),
		FIXTURE_TEST(test_discard),
		FIXTURE_TEST(test_visit),
		FIXTURE_TEST(test_visit_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
