/* SPDX-License-Identifier: Apache-2.0 */
/* The visitor: both ways, and what it says to bytes that do not fit. */
#include "vmm/base/visit.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fifo {
	uint8_t data[4];
	unsigned count;
};

struct part {
	uint8_t small;
	uint64_t large;
	bool flag;
	enum { PART_IDLE, PART_BUSY } phase;
	struct fifo fifo;
	uint8_t *text; /* owned */
	size_t text_bytes;
	char word[8];
	size_t word_bytes;
};

static void visit_fifo(struct fifo *fifo, struct visitor *v)
{
	visit_part(v, "fifo");
	VISIT(v, fifo, data);
	visit_count(v, "count", &fifo->count, sizeof(fifo->data));
	visit_part_end(v);
}

static void visit_all(struct part *part, struct visitor *v)
{
	static const char kind[] = "a part";

	visit_part(v, "part");
	visit_same(v, "kind", kind, sizeof(kind));
	VISIT(v, part, small);
	VISIT(v, part, large);
	VISIT(v, part, flag);
	VISIT(v, part, phase);
	visit_fifo(&part->fifo, v);
	visit_buffer(v, "text", &part->text, &part->text_bytes, 16);
	visit_room(v, "word", part->word, &part->word_bytes,
		   sizeof(part->word));
	visit_part_end(v);
}

static struct part example(void)
{
	return (struct part){
		.small = 7,
		.large = UINT64_C(0x1122334455667788),
		.flag = true,
		.phase = PART_BUSY,
		.fifo = {.data = {1, 2, 3, 4}, .count = 3},
		.text = (uint8_t *)strdup("words"),
		.text_bytes = 5,
		.word = "room",
		.word_bytes = 4,
	};
}

/* Saves the example: bytes for free(). */
static uint8_t *saved(size_t *ret_bytes)
{
	struct part part = example();
	struct visitor v;
	uint8_t *bytes;

	visit_save(&v);
	assert_false(visit_loads(&v));
	visit_all(&part, &v);
	assert_int_equal(visit_end(&v), 0);
	*ret_bytes = v.bytes;
	bytes = malloc(v.bytes);
	assert_non_null(bytes);
	memcpy(bytes, v.saved, v.bytes);
	visit_done(&v);
	free(part.text);
	return bytes;
}

/* Loads BYTES at FROM: what visit_end() says. */
static int load(const uint8_t *from, size_t bytes, struct part *part)
{
	struct visitor v;
	int r;

	*part = (struct part){0};
	visit_load(&v, from, bytes);
	visit_all(part, &v);
	r = visit_end(&v);
	visit_done(&v);
	return r;
}

static void test_both_ways(void **arg)
{
	size_t bytes;
	uint8_t *from = saved(&bytes);
	struct part part, wanted = example();

	(void)arg;
	assert_int_equal(load(from, bytes, &part), 0);
	assert_int_equal(part.small, wanted.small);
	assert_int_equal(part.large, wanted.large);
	assert_true(part.flag);
	assert_int_equal(part.phase, PART_BUSY);
	assert_memory_equal(&part.fifo, &wanted.fifo, sizeof(part.fifo));
	assert_int_equal(part.text_bytes, 5);
	assert_memory_equal(part.text, "words", 5);
	assert_int_equal(part.word_bytes, 4);
	assert_string_equal(part.word, "room");
	free(part.text);
	free(wanted.text);
	free(from);
}

/* At each length but the whole one, and with something behind it. */
static void test_truncated(void **arg)
{
	size_t bytes;
	uint8_t *from = saved(&bytes);
	struct part part;
	uint8_t *more;

	(void)arg;
	for (size_t n = 0; n < bytes; n++) {
		/* Its own piece of memory: a read behind its end is seen. */
		uint8_t *piece = malloc(n + 1);

		assert_non_null(piece);
		memcpy(piece, from, n);
		assert_int_equal(load(piece, n, &part), -EINVAL);
		free(part.text);
		free(piece);
	}
	more = realloc(from, bytes + 1);
	assert_non_null(more);
	more[bytes] = 0;
	assert_int_equal(load(more, bytes + 1, &part), -EINVAL);
	free(part.text);
	free(more);
}

/*
 * Any one byte that changes is found, or it is a value: then the bounds of
 * values hold.
 */
static void test_damaged(void **arg)
{
	size_t bytes;
	uint8_t *from = saved(&bytes);

	(void)arg;
	for (size_t n = 0; n < bytes; n++) {
		struct part part;
		uint8_t flag;

		from[n] ^= 0xff;
		if (load(from, bytes, &part) == 0) {
			memcpy(&flag, &part.flag, sizeof(flag));
			assert_true(flag <= 1);
			assert_true(part.fifo.count <= sizeof(part.fifo.data));
			assert_true(part.text_bytes <= 16);
			assert_true(part.word_bytes <= sizeof(part.word));
		}
		free(part.text);
		from[n] ^= 0xff;
	}
	free(from);
}

/* The first error stays, and nothing is copied after it. */
static void test_first_error(void **arg)
{
	struct part part = example();
	struct visitor v;

	(void)arg;
	visit_save(&v);
	visit_part(&v, "part");
	assert_true(visit_goes_on(&v));
	visit_wrong(&v, "cannot be saved");
	assert_false(visit_goes_on(&v));
	VISIT(&v, &part, small);
	visit_part_end(&v);
	assert_int_equal(visit_end(&v), -EINVAL);
	visit_done(&v);
	free(part.text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_ways),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_first_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
