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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rip_zero),
		cmocka_unit_test(test_budget),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
