/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interpreter's budget: how much a guest can have done in one call, by
 * which code it likes.
 */
#include "tests/interp-code.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <time.h>

/* A counted loop: the same instructions again and again. */
static void test_counted_loop(void **state)
{
	struct iguest *g = new_guest();
	uint64_t done;

	(void)state;
	/* inc %rax; dec %rcx; jnz to the inc */
	set_code(g, 0x48, 0xff, 0xc0, 0x48, 0xff, 0xc9, 0x75, 0xf8);
	g->regs.rcx = 1000;
	assert_int_equal(ig_run(g, 0), 0);
	assert_int_equal(g->regs.rip, CODE);
	assert_int_equal(ig_run(g, 1), 1);
	assert_int_equal(g->regs.rip, CODE + 3);
	/* Finding the code, and its page, uses up some of it. */
	done = ig_run(g, 300);
	assert_in_range(done, 200, 300);
	assert_in_range(interp_spent(g->in), 300, 320);
	assert_int_equal(g->regs.rax, 1 + done / 3);
	assert_int_equal(ig_run(g, UINT64_MAX), 2999 - done);
	assert_int_equal(g->regs.rax, 1000);
	assert_int_equal(g->regs.rip, CODE + 8);
	/* At the HLT, which it never does. */
	assert_int_equal(ig_run(g, UINT64_MAX), 0);
	free_guest(g);
}

/* Runs CODE on BUDGET: how many instructions it bought. */
static uint64_t first_run(struct iguest *g, uint64_t budget)
{
	uint64_t done = ig_run(g, budget);

	assert_int_equal(interp_cause(g->in), INTERP_BUDGET);
	assert_in_range(done, 1, budget);
	/* Beyond the budget there is a block at most. */
	assert_in_range(interp_spent(g->in), budget, budget + 1000);
	return done;
}

/*
 * Code that takes long, and no more often than the budget allows for: branches
 * to the next one, behind each of which there is more to decode than runs.
 */
static void test_decoding(void **state)
{
	const uint64_t budget = 10000, pages = 12;
	struct iguest *g = new_guest();
	uint64_t done;

	(void)state;
	for (uint64_t at = IG_VA; at < IG_VA + pages * 4096; at += 2)
		memcpy(ig_at(g, at), "\x72\x00", 2); /* jb 0 */
	g->regs.rip = IG_VA;
	g->regs.rflags |= 1;
	done = first_run(g, budget);
	assert_in_range(done, 1, budget / 6);
	/* Where that is known already, more is done. */
	g->regs.rip = IG_VA;
	assert_in_range(first_run(g, budget), done + 1, budget);
	free_guest(g);
}

/* Forgetting all translations, and code that writes to its own page. */
static void test_translations(void **state)
{
	static const uint8_t flush[] = {0x0f, 0x01, 0x3f, /* invlpg (%rdi) */
					0x48, 0x8b, 0x06, /* mov (%rsi), %rax */
					0xeb, 0xf8};
	static const uint8_t write[] = {0x88, 0x05, 0, 1, 0, 0, 0xeb, 0xf8};
	const uint64_t budget = 10000;
	struct iguest *g = new_guest();

	(void)state;
	code_at(g, CODE, flush, sizeof(flush));
	g->regs.rdi = UINT64_C(0xffff888000000000);
	g->regs.rsi = DATA;
	assert_in_range(first_run(g, budget), 1, budget / 5);
	code_at(g, CODE, write, sizeof(write));
	g->regs.rip = CODE;
	assert_in_range(first_run(g, budget), 1, budget / 5);
	free_guest(g);
}

/* However much a guest asks for, the budget bounds what is done at once. */
static void test_string_bound(void **state)
{
	static const uint8_t strings[][4] = {
		{0xf3, 0xaa}, {0xf3, 0x48, 0xab}, {0xf3, 0xa4}, {0xf2, 0xa4}};
	struct iguest *g = new_guest();
	uint64_t *tables = (uint64_t *)(g->ram + IG_TABLES);

	(void)state;
	/* All of the lower half is one page of RAM, but for the code. */
	for (unsigned i = 0; i < 512; i++) {
		uint64_t *pt = (uint64_t *)(g->ram + 0x100000);

		pt[i] = (IG_RAM + 0x4000) | 3;
		tables[1024 + i] = 0x100000 | 3;
		tables[512 + i] = (IG_TABLES + 0x2000) | 3;
		if (i < 256)
			tables[i] = (IG_TABLES + 0x1000) | 3;
	}
	tables[1024 + (IG_VA >> 21 & 511)] = (IG_TABLES + 0x3000) | 3;
	for (size_t i = 0; i < ARRAY_LEN(strings); i++) {
		uint64_t done;

		code_at(g, CODE, strings[i], sizeof(strings[i]));
		g->regs.rip = CODE;
		g->regs.rcx = UINT64_C(1) << 63;
		g->regs.rdi = UINT64_C(1) << 40;
		g->regs.rsi = (UINT64_C(1) << 40) + 8;
		done = ig_run(g, 30000);
		assert_in_range(done, 1, 30000);
		assert_int_equal(g->regs.rip, CODE);
		/*
		 * Some of it goes to the translation of pages; and source and
		 * destination overlap, so that it is copied in single elements.
		 */
		if (i < 2)
			assert_in_range((UINT64_C(1) << 63) - g->regs.rcx,
					16 * 20000, 16 * 31000);
		else
			assert_in_range((UINT64_C(1) << 63) - g->regs.rcx,
					30000, 30000 * 3);
		/* One part at least, on any budget. */
		assert_int_equal(ig_run(g, 1), 1);
	}
	free_guest(g);
}

/* Seconds for a run through N jumps from one to the next, at VA[] each. */
static double run_around(struct iguest *g, const uint64_t *va, unsigned n)
{
	struct timespec before, after;
	uint64_t done = 0;

	for (unsigned i = 0; i < n; i++) {
		uint64_t to = va[(i + 1) % n] - (va[i] + 5);
		uint8_t *code = ig_at(g, va[i]);

		*code = 0xe9;
		memcpy(code + 1, &to, 4);
	}
	g->regs.rip = va[0];
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
	while (done < 50000)
		done += ig_run(g, 100000);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
	return (double)(after.tv_sec - before.tv_sec) +
	       (double)(after.tv_nsec - before.tv_nsec) / 1e9;
}

/*
 * Code at addresses which the interpreter looks for in one place: it takes no
 * longer where there is more of it, and an interrupt waits for the budget.
 */
static void test_colliding_code(void **state)
{
	const unsigned pages = 480;
	struct iguest *g = new_guest();
	uint64_t va[960];
	unsigned n = 0;
	double few;

	(void)state;
	for (unsigned i = 0; i < pages; i++)
		*ig_pte(g, IG_VA + i * 4096) = (IG_RAM + i * 4096) | 3;
	for (uint64_t at = IG_VA; n < ARRAY_LEN(va); at++) {
		assert_true(at < IG_VA + pages * 4096);
		if (((at ^ at >> 11) & 2047) == 0)
			va[n++] = at;
	}
	run_around(g, va, 64);
	few = run_around(g, va, 64);
	assert_true(run_around(g, va, n) < 8 * few);
	free_guest(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counted_loop),
		cmocka_unit_test(test_decoding),
		cmocka_unit_test(test_translations),
		cmocka_unit_test(test_string_bound),
		cmocka_unit_test(test_colliding_code),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
