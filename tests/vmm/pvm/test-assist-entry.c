/* SPDX-License-Identifier: Apache-2.0 */
/* The first instruction of a guest's kernel after user mode. */
#include "vmm/pvm/assist-entry.h"

#include "tests/assist.h"
#include "vmm/pvm/assist-syscall.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define IDT_PAGE   1
#define STACK_PAGE 2
#define CODE_PAGE  3
#define FAST_PAGE  4

#define IDT       (GUEST_VA + IDT_PAGE * 4096)
#define STACK_TOP (GUEST_VA + (STACK_PAGE + 1) * 4096)
#define HANDLER   UINT64_C(0xffffffff81000000)
#define LSTAR     UINT64_C(0xffffffff81900040)
#define NO_STACK  UINT64_C(0x8000000000000000)

#define KERNEL_CS 0x10
#define USER_CS   0x33
#define USER_SS   0x2b
#define USER      UINT64_C(4) /* of a page-table entry */

struct world {
	struct guest *g;
	uint8_t *ram;
	struct mmu mmu;
};

static uint64_t handler(unsigned vector)
{
	return HANDLER + vector * 16;
}

static void set_gate(struct world *w, unsigned n, uint64_t target, unsigned dpl,
		     unsigned type)
{
	uint64_t *gate = (uint64_t *)(w->ram + GUEST_DATA + IDT_PAGE * 4096) +
			 2 * (size_t)n;

	gate[0] = (target & 0xffff) | KERNEL_CS << 16 |
		  (uint64_t)(0x80 | dpl << 5 | type) << 40 |
		  (target >> 16 & 0xffff) << 48;
	gate[1] = target >> 32;
}

static uint8_t *code(struct world *w)
{
	return w->ram + GUEST_DATA + CODE_PAGE * 4096;
}

/* Where user code is seen: the same page, below. */
#define CODE_VA (GUEST_VA + CODE_PAGE * 4096)

static void setup(struct world *w)
{
	w->g = aligned_alloc(64, align_up(sizeof(*w->g), 64));
	w->ram = aligned_alloc(4096, GUEST_BYTES);
	assert_non_null(w->g);
	assert_non_null(w->ram);
	memset(w->ram, 0, GUEST_BYTES);
	guest_init(w->g, w->ram, NULL);
	((uint64_t *)(w->ram + GUEST_TABLES))[GUEST_PT_PML4] |= USER;
	*guest_pte(w->g, CODE_PAGE) |= USER;
	w->g->sregs.idt.base = IDT;
	w->g->sregs.idt.limit = 0xfff;
	for (unsigned i = 0; i < 256; i++)
		set_gate(w, i, handler(i), i == 3 || i == 4 ? 3 : 0, 14);
	w->mmu = (struct mmu){&w->g->mem, &w->g->sregs, 0};
}

static void teardown(struct world *w)
{
	guest_done(w->g);
	free(w->ram);
	free(w->g);
}

static uint64_t *stack(struct world *w, unsigned words)
{
	return (uint64_t *)(w->ram + GUEST_DATA + (STACK_PAGE + 1) * 4096) -
	       words;
}

/* The processor, or KVM, has entered the handler of VECTOR. */
static void enter(struct world *w, unsigned vector, bool with_code,
		  uint64_t rip, uint64_t rflags, uint64_t rsp)
{
	const uint64_t frame[] = {rip, USER_CS, rflags, rsp, USER_SS};

	memcpy(stack(w, 5), frame, sizeof(frame));
	*stack(w, 6) = 0x55;
	w->g->regs.rsp = STACK_TOP - (with_code ? 48 : 40);
	w->g->regs.rip = handler(vector);
	w->g->regs.rflags = 2;
}

static bool mend(struct world *w)
{
	return entry_mend(&w->mmu, &w->g->regs, LSTAR);
}

/* Nothing is changed. */
static void untouched(struct world *w)
{
	const struct kvm_regs before = w->g->regs;
	uint64_t frame[6];

	memcpy(frame, stack(w, 6), sizeof(frame));
	assert_false(mend(w));
	assert_memory_equal(&before, &w->g->regs, sizeof(before));
	assert_memory_equal(frame, stack(w, 6), sizeof(frame));
}

static void test_usual(void **state)
{
	struct world w;

	(void)state;
	setup(&w);
	enter(&w, 0x20, false, 0x401000, 0x202, 0x7ffe1000);
	untouched(&w);
	enter(&w, 0x20, false, 0x401000, 0x202, 0x7ffe1200);
	untouched(&w);
	enter(&w, EXC_PF, true, 0x401000, 0x202, 0x7ffe1000);
	untouched(&w);
	enter(&w, EXC_PF, true, USER_CS, 0x202, 0x7ffe1200);
	untouched(&w);
	/* UD2 stays that, and so does code that is not there. */
	memcpy(code(&w), "\x0f\x0b", 2);
	enter(&w, EXC_UD, false, CODE_VA, 0x202, 0x7ffe1000);
	untouched(&w);
	enter(&w, EXC_UD, false, 0x401000, 0x202, 0x7ffe1000);
	untouched(&w);
	/* The kernel's own, with IF clear. */
	enter(&w, EXC_PF, true, HANDLER, 2, STACK_TOP);
	stack(&w, 4)[0] = KERNEL_CS;
	untouched(&w);
	/* The stub's frame, which has IF clear rightly. */
	enter(&w, 4, false, SYSCALL_FAST_VA + 2, 2, NO_STACK);
	w.g->regs.rip = SYSCALL_STUB_VA;
	untouched(&w);
	/* No table, no stack: no harm. */
	w.g->sregs.idt.limit = 0;
	enter(&w, EXC_UD, false, CODE_VA, 2, 0x7ffe1000);
	untouched(&w);
	w.g->regs.rsp = 0x1000;
	assert_false(mend(&w));
	teardown(&w);
}

static void test_interrupt(void **state)
{
	struct world w;

	(void)state;
	setup(&w);
	memcpy(code(&w), "\xcd\x80", 2);
	set_gate(&w, 0x80, handler(0x80), 3, 14);
	enter(&w, EXC_UD, false, CODE_VA, 0x202, 0x7ffe1000);
	assert_true(mend(&w));
	assert_int_equal(w.g->regs.rip, handler(0x80));
	assert_int_equal(w.g->regs.rsp, STACK_TOP - 40);
	assert_int_equal(*stack(&w, 5), CODE_VA + 2);
	assert_int_equal(w.g->regs.rflags, 2);
	/* A trap gate leaves interrupts as they were. */
	set_gate(&w, 0x80, handler(0x80), 3, 15);
	enter(&w, EXC_UD, false, CODE_VA, 0x202, 0x7ffe1000);
	assert_true(mend(&w));
	assert_int_equal(w.g->regs.rflags, 0x202);
	teardown(&w);
}

static void refused(struct world *w, unsigned vector, uint64_t error_code)
{
	enter(w, EXC_UD, false, CODE_VA, 0x202, 0x7ffe1000);
	assert_true(mend(w));
	assert_int_equal(w->g->regs.rip, handler(vector));
	assert_int_equal(w->g->regs.rsp, STACK_TOP - 48);
	assert_int_equal(*stack(w, 6), error_code);
	assert_int_equal(*stack(w, 5), CODE_VA);
}

static void test_interrupt_refused(void **state)
{
	struct world w;
	uint8_t *gate;

	(void)state;
	setup(&w);
	memcpy(code(&w), "\xcd\x42", 2);
	refused(&w, EXC_GP, 0x42 * 8 + 2);
	set_gate(&w, 0x42, handler(0x42), 3, 14);
	gate = w.ram + GUEST_DATA + IDT_PAGE * 4096 + 0x42 * 16;
	gate[5] &= 0x7f;
	refused(&w, EXC_NP, 0x42 * 8 + 2);
	w.g->sregs.idt.limit = 0x42 * 16 - 1;
	refused(&w, EXC_GP, 0x42 * 8 + 2);
	teardown(&w);
}

/* A gate with a stack of its own, or other code: #UD it stays. */
static void test_interrupt_elsewhere(void **state)
{
	struct world w;
	uint8_t *gate;

	(void)state;
	setup(&w);
	memcpy(code(&w), "\xcd\x80", 2);
	set_gate(&w, 0x80, handler(0x80), 3, 14);
	gate = w.ram + GUEST_DATA + IDT_PAGE * 4096 + 0x80 * 16;
	gate[4] = 1;
	enter(&w, EXC_UD, false, CODE_VA, 0x202, 0x7ffe1000);
	untouched(&w);
	gate[4] = 0;
	gate[2] = 0x18;
	untouched(&w);
	gate[2] = KERNEL_CS;
	gate[5] = 0xec; /* no gate of 64-bit mode */
	untouched(&w);
	teardown(&w);
}

/* SYSCALL with an RSP that is no address: its INT 4 ended in an exception. */
static void test_syscall(void **state)
{
	struct world w;

	(void)state;
	setup(&w);
	set_gate(&w, 4, SYSCALL_STUB_VA, 0, 14);
	for (unsigned i = 0; i < 3; i++) {
		static const unsigned vector[] = {EXC_UD, EXC_GP, EXC_SS};

		enter(&w, vector[i], vector[i] != EXC_UD, SYSCALL_FAST_VA,
		      0x10002, NO_STACK);
		assert_true(mend(&w));
		assert_int_equal(w.g->regs.rip, LSTAR);
		assert_int_equal(w.g->regs.rsp, NO_STACK);
		assert_int_equal(w.g->regs.rflags, 2);
	}
	enter(&w, EXC_PF, true, SYSCALL_SLOW_VA, 2, NO_STACK);
	assert_true(mend(&w));
	assert_int_equal(w.g->regs.rip, LSTAR);
	/* An NMI in between returns to the INT 4. */
	enter(&w, EXC_NMI, false, SYSCALL_FAST_VA, 2, NO_STACK);
	untouched(&w);
	enter(&w, EXC_MC, false, SYSCALL_FAST_VA, 2, NO_STACK);
	untouched(&w);
	/* A jump there has IF set and is the program's fault. */
	enter(&w, EXC_GP, true, SYSCALL_FAST_VA, 0x202, NO_STACK);
	untouched(&w);
	teardown(&w);
}

/* The same where the page can be read, so that the INT 4 is done for it. */
static void test_syscall_by_stub(void **state)
{
	struct world w;
	uint64_t *tables;

	(void)state;
	setup(&w);
	tables = (uint64_t *)(w.ram + GUEST_TABLES);
	/* The tables above GUEST_VA serve for the last 2 MiB of fixmap, too. */
	tables[SYSCALL_FAST_VA >> 39 & 511] = (GUEST_TABLES + 0x1000) | 7;
	tables[512 + (SYSCALL_FAST_VA >> 30 & 511)] =
		(GUEST_TABLES + 0x2000) | 7;
	tables[1024 + (SYSCALL_FAST_VA >> 21 & 511)] =
		(GUEST_TABLES + 0x3000) | 7;
	*guest_pte(w.g, SYSCALL_FAST_VA >> 12 & 511) =
		(GUEST_DATA + FAST_PAGE * 4096) | 5;
	memcpy(w.ram + GUEST_DATA + FAST_PAGE * 4096, "\xcd\x04\xf4", 3);
	set_gate(&w, 4, SYSCALL_STUB_VA, 3, 14);
	enter(&w, EXC_UD, false, SYSCALL_FAST_VA, 2, NO_STACK);
	assert_true(mend(&w));
	assert_int_equal(w.g->regs.rip, SYSCALL_STUB_VA);
	assert_int_equal(*stack(&w, 5), SYSCALL_FAST_VA + 2);
	assert_int_equal(*stack(&w, 3), 2);
	teardown(&w);
}

/* No program goes on with IF clear, whatever it is stopped by. */
static void test_flags(void **state)
{
	struct world w;

	(void)state;
	setup(&w);
	enter(&w, EXC_PF, true, 0x401000, 0x46, 0x7ffe1000);
	assert_false(mend(&w));
	assert_int_equal(*stack(&w, 3), 0x246);
	assert_int_equal(w.g->regs.rip, handler(EXC_PF));
	enter(&w, EXC_UD, false, 0x401000, 0x46, 0x7ffe1000);
	assert_false(mend(&w));
	assert_int_equal(*stack(&w, 3), 0x246);
	/* Without an lstar there is no system call to go on with. */
	enter(&w, EXC_UD, false, SYSCALL_FAST_VA, 2, 0x7ffe1000);
	assert_false(entry_mend(&w.mmu, &w.g->regs, 0));
	assert_int_equal(*stack(&w, 3), 0x202);
	teardown(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_usual),
		cmocka_unit_test(test_interrupt),
		cmocka_unit_test(test_interrupt_refused),
		cmocka_unit_test(test_interrupt_elsewhere),
		cmocka_unit_test(test_syscall),
		cmocka_unit_test(test_syscall_by_stub),
		cmocka_unit_test(test_flags),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
