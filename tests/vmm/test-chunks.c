/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot's memory that is compressed: the same again, and what damage says.
 */
#include "vmm/chunks.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* The last chunk is shorter than the others. */
#define BYTES (4 * MIB + 8192)
#define LAST  (BYTES / CHUNK_BYTES)

struct rig {
	uint8_t *ram; /* BYTES */
	int plain, packed;
	uint64_t bytes; /* of the packed file */
	uint8_t id[16];
	struct chunks chunks;
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

/* Bytes in which there is nothing to compress. */
static void fill_noise(uint8_t *to, size_t bytes)
{
	uint32_t x = 12345;

	for (size_t i = 0; i < bytes; i++) {
		x = x * 1664525 + 1013904223;
		to[i] = (uint8_t)(x >> 24);
	}
}

static void pack(struct rig *rig)
{
	assert_int_equal(ftruncate(rig->packed, 0), 0);
	assert_int_equal(chunks_write(rig->plain, BYTES, rig->id, rig->packed,
				      goes_on, NULL, &rig->bytes),
			 0);
}

static int setup(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	rig->plain = memfd_create("plain", MFD_CLOEXEC);
	rig->packed = memfd_create("packed", MFD_CLOEXEC);
	rig->ram = calloc(1, BYTES);
	assert_non_null(rig->ram);
	memset(rig->id, 3, sizeof(rig->id));
	memset(rig->ram + 100, 0x11, 5000);
	fill_noise(rig->ram + 2 * CHUNK_BYTES, CHUNK_BYTES);
	memset(rig->ram + 3 * MIB - 1, 0x22, 2);
	fill_noise(rig->ram + BYTES - 4096, 4096);
	assert_int_equal(ftruncate(rig->plain, BYTES + 4096), 0);
	/* Holes stay; the tail of a snapshot's file comes behind them. */
	assert_int_equal(
		util_write_at(rig->plain, rig->ram, 4 * CHUNK_BYTES, 0), 0);
	assert_int_equal(util_write_at(rig->plain, rig->ram + 2 * MIB,
				       BYTES - 2 * MIB, 2 * MIB),
			 0);
	assert_int_equal(util_write_at(rig->plain, "tail", 4, BYTES), 0);
	pack(rig);
	*state = rig;
	return 0;
}

static int teardown(void **state)
{
	struct rig *rig = *state;

	chunks_close(&rig->chunks);
	close(rig->plain);
	close(rig->packed);
	free(rig->ram);
	free(rig);
	return 0;
}

static int open_chunks(struct rig *rig)
{
	chunks_close(&rig->chunks);
	return chunks_open(&rig->chunks, rig->packed, rig->id, BYTES);
}

/* All of it: 0, with RAM as it was, or the first error. */
static int read_all(const struct rig *rig)
{
	autofree uint8_t *ram = calloc(1, BYTES);
	struct chunk_reader reader;
	int r = chunk_reader_init(&reader);

	assert_non_null(ram);
	for (uint32_t i = 0; r == 0 && i < rig->chunks.count; i++)
		r = chunk_read(&reader, &rig->chunks, rig->packed, i,
			       ram + (size_t)rig->chunks.chunk[i].number *
					       CHUNK_BYTES);
	chunk_reader_done(&reader);
	if (r == 0)
		assert_memory_equal(ram, rig->ram, BYTES);
	return r;
}

static void test_round(void **state)
{
	struct rig *rig = *state;
	static const uint32_t there[] = {0, 2, 3 * MIB / CHUNK_BYTES - 1,
					 3 * MIB / CHUNK_BYTES, LAST};
	uint32_t index, known = 0;
	struct chunks copy;
	struct stat st;

	assert_int_equal(open_chunks(rig), 0);
	assert_int_equal(rig->chunks.count, ARRAY_LEN(there));
	for (uint32_t i = 0; i <= LAST + 1; i++) {
		const bool found = chunks_find(&rig->chunks, i, &index);

		assert_int_equal(found,
				 known < ARRAY_LEN(there) && there[known] == i);
		if (found)
			assert_int_equal(index, known++);
	}
	assert_int_equal(chunks_room(&rig->chunks, 0), CHUNK_BYTES);
	assert_int_equal(chunks_room(&rig->chunks, LAST), 8192);
	/* There is nothing to gain with this one. */
	assert_int_equal(rig->chunks.chunk[1].bytes, CHUNK_BYTES);
	assert_int_equal(read_all(rig), 0);
	assert_int_equal(fstat(rig->packed, &st), 0);
	assert_int_equal(st.st_size, rig->bytes);
	assert_true(rig->bytes < 2 * CHUNK_BYTES);

	assert_int_equal(chunks_copy(&copy, &rig->chunks), 0);
	chunks_close(&rig->chunks);
	rig->chunks = copy;
	assert_int_equal(read_all(rig), 0);
}

static void test_nothing(void **state)
{
	struct rig *rig = *state;
	autofd int empty = memfd_create("empty", MFD_CLOEXEC);

	assert_int_equal(ftruncate(empty, BYTES), 0);
	assert_int_equal(ftruncate(rig->packed, 0), 0);
	assert_int_equal(chunks_write(empty, BYTES, rig->id, rig->packed,
				      goes_on, NULL, &rig->bytes),
			 0);
	assert_int_equal(open_chunks(rig), 0);
	assert_int_equal(rig->chunks.count, 0);
	memset(rig->ram, 0, BYTES);
	assert_int_equal(read_all(rig), 0);
	assert_int_equal(chunks_write(rig->plain, BYTES, rig->id, rig->packed,
				      stops_at_once, NULL, &rig->bytes),
			 -EINTR);
}

/* Another machine's, or of another size. */
static void test_foreign(void **state)
{
	struct rig *rig = *state;

	rig->id[15]++;
	assert_int_equal(open_chunks(rig), -ESTALE);
	rig->id[15]--;
	chunks_close(&rig->chunks);
	assert_int_equal(
		chunks_open(&rig->chunks, rig->packed, rig->id, BYTES + 4096),
		-ESTALE);
	chunks_close(&rig->chunks);
	assert_int_equal(chunks_open(&rig->chunks, rig->plain, rig->id, BYTES),
			 -EBADMSG);
}

static void test_cut_off(void **state)
{
	struct rig *rig = *state;

	for (uint64_t n = rig->bytes; n-- > 0; n -= n > 300 ? n / 3 : 0) {
		assert_int_equal(ftruncate(rig->packed, (off_t)n), 0);
		assert_int_equal(open_chunks(rig), -EBADMSG);
	}
	/* And behind its back. */
	pack(rig);
	assert_int_equal(open_chunks(rig), 0);
	assert_int_equal(ftruncate(rig->packed, 10), 0);
	assert_int_equal(read_all(rig), -EBADMSG);
}

/*
 * Each byte that is another one is found, at the latest when it is read, but
 * for those that expand to the same RAM: a reference to another place of a long
 * run.
 */
static void test_damaged(void **state)
{
	struct rig *rig = *state;
	unsigned tried = 0, found = 0;

	for (uint64_t at = 0; at < rig->bytes; at++) {
		uint8_t byte, other;
		int r;

		/* Noise is compared byte by byte: some of it is enough. */
		if (at > 1000 && at < CHUNK_BYTES)
			at += 997;
		assert_int_equal(util_read_at(rig->packed, &byte, 1, at), 0);
		other = byte ^ 0x10;
		assert_int_equal(util_write_at(rig->packed, &other, 1, at), 0);
		r = open_chunks(rig);
		if (r == 0)
			r = read_all(rig);
		assert_true(r == 0 || r == -EBADMSG || r == -ESTALE);
		found += r < 0;
		tried++;
		assert_int_equal(util_write_at(rig->packed, &byte, 1, at), 0);
	}
	assert_true(found > tried / 2);
	assert_int_equal(open_chunks(rig), 0);
	assert_int_equal(read_all(rig), 0);
}

/* An index whose checksum is right may still be anybody's. */
static void test_index(void **state)
{
	struct rig *rig = *state;
	static const struct {
		unsigned entry;
		struct chunk chunk;
	} bad[] = {
		{1, {0, CHUNK_BYTES, 0}},         /* out of order */
		{1, {2, CHUNK_BYTES + 1, 0}},     /* too long */
		{1, {2, 0, 0}},                   /* empty */
		{1, {2, CHUNK_BYTES - 1, 0}},     /* the file is longer */
		{4, {LAST + 1, 4096, 0}},         /* behind the RAM */
		{4, {UINT32_MAX, UINT32_MAX, 0}}, /* far behind */
	};

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		const size_t bytes = 5 * sizeof(struct chunk);
		struct chunk index[5];
		uint32_t tail[14], crc;
		const uint64_t end = rig->bytes - sizeof(tail);

		assert_int_equal(
			util_read_at(rig->packed, tail, sizeof(tail), end), 0);
		assert_int_equal(
			util_read_at(rig->packed, index, bytes, end - bytes),
			0);
		index[bad[i].entry] = bad[i].chunk;
		tail[11] = (uint32_t)crc32_z(0, (const uint8_t *)index, bytes);
		crc = (uint32_t)crc32_z(0, (const uint8_t *)tail, 52);
		tail[13] = crc;
		assert_int_equal(
			util_write_at(rig->packed, index, bytes, end - bytes),
			0);
		assert_int_equal(
			util_write_at(rig->packed, tail, sizeof(tail), end), 0);
		assert_int_equal(open_chunks(rig), -EBADMSG);
		pack(rig);
	}
	assert_int_equal(open_chunks(rig), 0);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_round),   TEST(test_nothing), TEST(test_foreign),
		TEST(test_cut_off), TEST(test_damaged), TEST(test_index),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
