/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interpreter where it differs from a processor: it stops before what it
 * cannot do, remembers code that may change, and works on a budget. That its
 * instructions do what a processor's do is test-interp-cpu.c's.
 */
#include "tests/interp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define CODE  (IG_VA + 0x1000)
#define DATA  (IG_VA + 0x4000)
#define STACK (IG_VA + 0xe000)
#define STOP  0xf4 /* HLT: never known here */

#define FLAG_CF UINT64_C(0x1)
#define FLAG_TF UINT64_C(0x100)
#define FLAG_IF UINT64_C(0x200)
#define FLAG_DF UINT64_C(0x400)
#define FLAG_RF UINT64_C(0x10000)
#define FLAG_AC UINT64_C(0x40000)
#define FLAG_ID UINT64_C(0x200000)

#define CR4_SMAP UINT64_C(0x200000)

static struct iguest *new_guest(void)
{
	struct iguest *g = test_calloc(1, sizeof(*g));

	assert_true(ig_init(g));
	g->regs.rip = CODE;
	g->regs.rsp = STACK;
	return g;
}

static void free_guest(struct iguest *g)
{
	ig_done(g);
	test_free(g);
}

static void code_at(struct iguest *g, uint64_t va, const uint8_t *bytes,
		    size_t n)
{
	memcpy(ig_at(g, va), bytes, n);
	*ig_at(g, va + n) = STOP;
}

/* Places the bytes given at CODE, a HLT behind them, RIP before them. */
#define set_code(g, ...)                                                       \
	do {                                                                   \
		const uint8_t code_[] = {__VA_ARGS__};                         \
		code_at(g, CODE, code_, sizeof(code_));                        \
		(g)->regs.rip = CODE;                                          \
	} while (0)

/* A kernel that calls through a null pointer. */
static void test_rip_zero(void **state)
{
	struct iguest *g = new_guest();
	uint64_t *pt = (uint64_t *)(g->ram + IG_TABLES + 0x3000);
	uint64_t *pd = (uint64_t *)(g->ram + IG_TABLES + 0x2000);

	(void)state;
	g->regs.rip = 0;
	assert_int_equal(ig_run(g, 10), 0);
	/* Page 0 mapped, with nothing and then something to execute. */
	pd[0] = (IG_TABLES + 0x3000) | 3;
	pt[0] = (IG_RAM + 0x8000) | 3;
	g->ram[IG_RAM + 0x8000] = STOP;
	assert_int_equal(ig_run(g, 10), 0);
	g->ram[IG_RAM + 0x8000] = 0x90;
	g->ram[IG_RAM + 0x8001] = STOP;
	assert_int_equal(ig_run(g, 10), 1);
	assert_int_equal(g->regs.rip, 1);
	g->regs.rip = 0;
	*pd = 0;
	assert_int_equal(ig_run(g, 10), 0);
	free_guest(g);
}

/* A counted loop: the same instructions again and again. */
static void test_budget(void **state)
{
	struct iguest *g = new_guest();

	(void)state;
	/* inc %rax; dec %rcx; jnz to the inc */
	set_code(g, 0x48, 0xff, 0xc0, 0x48, 0xff, 0xc9, 0x75, 0xf8);
	g->regs.rcx = 1000;
	assert_int_equal(ig_run(g, 0), 0);
	assert_int_equal(g->regs.rip, CODE);
	assert_int_equal(ig_run(g, 1), 1);
	assert_int_equal(g->regs.rip, CODE + 3);
	assert_int_equal(ig_run(g, 300), 300);
	assert_int_equal(g->regs.rax, 101);
	assert_int_equal(ig_run(g, UINT64_MAX), 2699);
	assert_int_equal(g->regs.rax, 1000);
	assert_int_equal(g->regs.rip, CODE + 8);
	/* At the HLT, which it never does. */
	assert_int_equal(ig_run(g, UINT64_MAX), 0);
	free_guest(g);
}

/* ---- strings ------------------------------------------------------------- */

/* What was done before a page that is missing is in the registers. */
static void test_string_fault(void **state)
{
	struct iguest *g = new_guest();
	uint64_t before;

	(void)state;
	/* Downwards onto itself: doing a part twice would not do. */
	set_code(g, 0xf3, 0xa4); /* rep movsb */
	*ig_pte(g, DATA + 4096) = 0;
	for (unsigned i = 0; i < 64; i++)
		*ig_at(g, DATA + 4096 - 64 + i) = (uint8_t)i;
	g->regs.rsi = DATA + 4096 - 64;
	g->regs.rdi = DATA + 4096 - 68;
	g->regs.rcx = 100;
	assert_int_equal(ig_run(g, 100), 1);
	assert_int_equal(g->regs.rip, CODE);
	assert_int_equal(g->regs.rcx, 36);
	assert_int_equal(g->regs.rsi, DATA + 4096);
	assert_int_equal(g->regs.rdi, DATA + 4096 - 4);
	assert_int_equal(*ig_at(g, DATA + 4096 - 68), 0);
	assert_int_equal(*ig_at(g, DATA + 4096 - 5), 63);
	/* Nothing more happens, and nothing is said to have. */
	assert_int_equal(ig_run(g, 100), 0);
	assert_int_equal(g->regs.rcx, 36);
	/* Mapped, it goes on. */
	*ig_pte(g, DATA + 4096) = (IG_RAM + 0x5000) | 3;
	assert_in_range(ig_run(g, 100), 1, 3);
	assert_int_equal(g->regs.rip, CODE + 2);
	assert_int_equal(g->regs.rcx, 0);

	set_code(g, 0xf3, 0x48, 0xab); /* rep stosq */
	g->regs.rdi = before = DATA + 0x2000 - 80;
	*ig_pte(g, DATA + 0x2000) = (IG_RAM + 0x6000) | IG_PRESENT;
	g->regs.rcx = 600;
	g->regs.rax = 0x1122334455667788;
	assert_int_equal(ig_run(g, 100), 1);
	assert_int_equal(g->regs.rdi, before + 80);
	assert_int_equal(g->regs.rcx, 590);
	/* An element across pages is KVM's. */
	g->regs.rdi = DATA + 4092;
	assert_int_equal(ig_run(g, 100), 0);
	assert_int_equal(g->regs.rdi, DATA + 4092);
	assert_int_equal(g->regs.rcx, 590);
	/* So is the other direction. */
	g->regs.rdi = DATA;
	g->regs.rflags |= FLAG_DF;
	assert_int_equal(ig_run(g, 100), 0);
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
		assert_in_range((UINT64_C(1) << 63) - g->regs.rcx, 16 * 29000,
				16 * 31000);
		/* One part at least, on any budget. */
		assert_int_equal(ig_run(g, 1), 1);
	}
	free_guest(g);
}

static void test_string_short(void **state)
{
	struct iguest *g = new_guest();

	(void)state;
	set_code(g, 0xf3, 0xaa);
	g->regs.rdi = 0xdead; /* not looked at */
	assert_int_equal(ig_run(g, 100), 1);
	assert_int_equal(g->regs.rip, CODE + 2);
	assert_int_equal(g->regs.rdi, 0xdead);
	/* Without REP, RCX is nothing to it. */
	set_code(g, 0xaa, 0xa4);
	g->regs.rdi = DATA;
	g->regs.rsi = DATA + 8;
	g->regs.rax = 0x5a;
	assert_int_equal(ig_run(g, 100), 2);
	assert_int_equal(*ig_at(g, DATA), 0x5a);
	assert_int_equal(g->regs.rcx, 0);
	assert_int_equal(g->regs.rdi, DATA + 2);
	free_guest(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rip_zero),
		cmocka_unit_test(test_budget),
		cmocka_unit_test(test_string_fault),
		cmocka_unit_test(test_string_bound),
		cmocka_unit_test(test_string_short),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
