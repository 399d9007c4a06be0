/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interpreter and page tables of user mode: what it leaves to KVM because
 * of them, and what it says of that.
 */
#include "tests/interp-code.h"

#include "vmm/pvm/ptables.h"
#include "vmm/pvm/x86.h"

#define FRAME(n) (IG_RAM + (n)*4096u)
#define PAGE(n)  (IG_VA + (n)*4096u)
#define ENTRY    0x28

/* Pages 8 to 11 are the four levels of an address space that has run. */
static struct iguest *new_with_tables(struct ptables *ptables)
{
	struct iguest *g = new_guest();

	assert_int_equal(ptables_init(ptables, &g->mem), 0);
	interp_free(g->in);
	g->in = interp_new(&g->mem, ptables);
	assert_non_null(g->in);
	for (unsigned n = 8; n < 11; n++)
		*(uint64_t *)ig_at(g, PAGE(n)) = FRAME(n + 1) | 7;
	*(uint64_t *)ig_at(g, PAGE(10) + ENTRY) = UINT64_C(0x1122334455667700);
	ptables_enter(ptables, FRAME(8), 4);
	g->regs.rdi = PAGE(10) + ENTRY;
	g->regs.rsi = DATA;
	g->regs.rax = FRAME(12) | 7;
	return g;
}

static void free_with_tables(struct iguest *g, struct ptables *ptables)
{
	free_guest(g);
	ptables_done(ptables);
}

/* The instruction at RIP is about to write, and nothing of it has happened. */
static void expect_held(struct iguest *g, uint64_t bytes, uint64_t value)
{
	const struct interp_write *held = interp_held(g->in);

	assert_int_equal(held->gpa, FRAME(10) + ENTRY);
	assert_int_equal(held->bytes, bytes);
	assert_int_equal(held->known, value != 0);
	if (value)
		assert_int_equal(held->value, value);
	assert_int_equal(*(uint64_t *)ig_at(g, PAGE(10) + ENTRY),
			 UINT64_C(0x1122334455667700));
}

static void test_held(void **state)
{
	const uint64_t link = FRAME(12) | 7;
	const struct {
		uint8_t code[4];
		uint64_t bytes, value;
	} writes[] = {
		{{0x48, 0x89, 0x07}, 8, link}, /* MOV */
		{{0x48, 0x87, 0x07}, 8, link}, /* XCHG */
		{{0xc6, 0x07, 0x99}, 1, UINT64_C(0x1122334455667799)},
		{{0xff, 0x47, 0x00}, 4, UINT64_C(0x1122334455667701)},
		{{0xf0, 0xff, 0x0f}, 4, UINT64_C(0x11223344556676ff)},
		{{0xf3, 0x48, 0xab}, 8192, 0}, /* STOS */
		{{0x90}, 0, 0},
	};
	struct ptables ptables;
	struct iguest *g = new_with_tables(&ptables);

	(void)state;
	g->regs.rcx = 4;
	for (size_t i = 0; i < ARRAY_LEN(writes); i++) {
		struct kvm_regs before;

		code_at(g, CODE, writes[i].code, sizeof(writes[i].code));
		g->regs.rip = CODE;
		before = g->regs;
		if (writes[i].bytes == 0) {
			ig_run(g, 1);
			assert_true(interp_held(g->in)->gpa == UINT64_MAX);
			continue;
		}
		/* Found when it is come to, and when the budget is none. */
		for (unsigned budget = 0; budget < 2; budget++) {
			assert_int_equal(ig_run(g, budget), 0);
			assert_memory_equal(&g->regs, &before, sizeof(before));
			expect_held(g, writes[i].bytes, writes[i].value);
		}
	}
	free_with_tables(g, &ptables);
}

/* Each reason why a run ends is told. */
static void test_causes(void **state)
{
	struct ptables ptables;
	struct iguest *g = new_with_tables(&ptables);

	(void)state;
	set_code(g, 0x90, 0x90, 0x90);
	assert_int_equal(ig_run(g, 1), 1);
	assert_int_equal(interp_cause(g->in), INTERP_BUDGET);
	assert_int_equal(ig_run(g, 1000), 2);
	assert_int_equal(interp_cause(g->in), INTERP_UNKNOWN);
	set_code(g, 0x90, 0x48, 0x89, 0x07); /* mov to a table */
	assert_int_equal(ig_run(g, 1000), 1);
	assert_int_equal(interp_cause(g->in), INTERP_TABLE);
	set_code(g, 0x90, 0x48, 0x8b, 0x03); /* mov from (%rbx) */
	g->regs.rbx = UINT64_C(1) << 40;
	assert_int_equal(ig_run(g, 1000), 1);
	assert_int_equal(interp_cause(g->in), INTERP_ACCESS);
	/* A form that is KVM's: popf of the trap flag. */
	set_code(g, 0x9d);
	*(uint64_t *)ig_at(g, STACK) = 2 | FLAG_TF;
	assert_int_equal(ig_run(g, 1000), 0);
	assert_int_equal(interp_cause(g->in), INTERP_UNKNOWN);
	g->regs.rip = UINT64_C(1) << 40;
	assert_int_equal(ig_run(g, 1000), 0);
	assert_int_equal(interp_cause(g->in), INTERP_ACCESS);
	free_with_tables(g, &ptables);
}

/* A write of which the second half would go to a table. */
static void test_held_across_pages(void **state)
{
	struct ptables ptables;
	struct iguest *g = new_with_tables(&ptables);

	(void)state;
	set_code(g, 0x48, 0x89, 0x07); /* mov %rax, (%rdi) */
	g->regs.rdi = PAGE(10) - 2;
	for (unsigned budget = 0; budget < 2; budget++) {
		assert_int_equal(ig_run(g, budget), 0);
		/* Page 9 is one, too, and comes first. */
		assert_int_equal(interp_held(g->in)->gpa, FRAME(9) + 4094);
		assert_int_equal(interp_held(g->in)->bytes, 2);
		assert_false(interp_held(g->in)->known);
	}
	g->regs.rdi = PAGE(8) - 2;
	assert_int_equal(ig_run(g, 1), 0);
	assert_int_equal(interp_held(g->in)->gpa, FRAME(8));
	assert_int_equal(interp_held(g->in)->bytes, 6);
	free_with_tables(g, &ptables);
}

/* The instruction after the budget is KVM's, and a write to a table then. */
static void test_held_after_budget(void **state)
{
	struct ptables ptables;
	struct iguest *g = new_with_tables(&ptables);

	(void)state;
	set_code(g, 0x90, 0x48, 0x89, 0x07);
	assert_int_equal(ig_run(g, 1), 1);
	assert_int_equal(g->regs.rip, CODE + 1);
	expect_held(g, 8, FRAME(12) | 7);
	/* No other write is left to KVM: the page could become a table. */
	set_code(g, 0x90, 0x48, 0x89, 0x06, 0xaa, 0x90);
	g->regs.rdi = DATA + 64;
	assert_int_equal(ig_run(g, 1), 3);
	assert_int_equal(g->regs.rip, CODE + 5);
	assert_int_equal(*(uint64_t *)ig_at(g, DATA), FRAME(12) | 7);
	assert_int_equal(*ig_at(g, DATA + 64), 7);
	assert_int_equal(g->regs.rdi, DATA + 65);
	assert_true(interp_held(g->in)->gpa == UINT64_MAX);
	free_with_tables(g, &ptables);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_held),
		cmocka_unit_test(test_causes),
		cmocka_unit_test(test_held_across_pages),
		cmocka_unit_test(test_held_after_budget),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
