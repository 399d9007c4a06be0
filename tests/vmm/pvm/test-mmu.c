/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page walk: rights, faults and their error codes, accessed and dirty bits,
 * large pages, page crossings; and the pages planted for SYSCALL.
 */
#include "tests/assist.h"
#include "vmm/pvm/assist-syscall.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define P  UINT64_C(1)
#define W  UINT64_C(2)
#define U  UINT64_C(4)
#define A  UINT64_C(0x20)
#define D  UINT64_C(0x40)
#define PS UINT64_C(0x80)
#define NX (UINT64_C(1) << 63)

static struct guest *new_guest(uint8_t **ret_ram)
{
	struct guest *g = aligned_alloc(64, align_up(sizeof(*g), 64));
	uint8_t *ram = aligned_alloc(4096, GUEST_BYTES);

	assert_non_null(g);
	assert_non_null(ram);
	memset(ram, 0, GUEST_BYTES);
	guest_init(g, ram, NULL);
	*ret_ram = ram;
	return g;
}

static void free_guest(struct guest *g, uint8_t *ram)
{
	guest_done(g);
	free(ram);
	free(g);
}

struct right {
	uint64_t pte;
	unsigned access;
	uint64_t cr0_off, cr4_on, rflags;
	int error; /* -1: allowed; else the #PF error code */
};

static const struct right rights[] = {
	{P | W, MMU_READ, 0, 0, 0, -1},
	{P | W, MMU_WRITE, 0, 0, 0, -1},
	{P, MMU_READ, 0, 0, 0, -1},
	{P, MMU_WRITE, 0, 0, 0, 3},
	{P, MMU_WRITE, CR0_WP, 0, 0, -1},
	{0, MMU_READ, 0, 0, 0, 0},
	{W, MMU_WRITE, 0, 0, 0, 2},
	{P | W, MMU_USER, 0, 0, 0, 5},
	{P | W, MMU_USER | MMU_WRITE, 0, 0, 0, 7},
	{0, MMU_USER | MMU_WRITE, 0, 0, 0, 6},
	{P | U, MMU_USER, 0, 0, 0, -1},
	{P | U, MMU_USER | MMU_WRITE, CR0_WP, 0, 0, 7},
	{P | U | W, MMU_READ, 0, 0, 0, -1},
	{P | U | W, MMU_READ, 0, CR4_SMAP, 0, 1},
	{P | U | W, MMU_WRITE, 0, CR4_SMAP, 0, 3},
	{P | U | W, MMU_WRITE, 0, CR4_SMAP, FLAG_AC, -1},
	{P | U | W, MMU_USER, 0, CR4_SMAP, 0, -1},
	{P | NX, MMU_FETCH, 0, 0, 0, 17},
	{P | NX, MMU_READ, 0, 0, 0, -1},
	{P | U, MMU_FETCH, 0, CR4_SMEP, 0, 17},
	{P | U, MMU_FETCH, 0, 0, 0, -1},
};

static void test_rights(void **state)
{
	uint8_t *ram;
	struct guest *g = new_guest(&ram);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rights); i++) {
		const struct right *t = &rights[i];
		struct mmu mmu = {&g->mem, &g->sregs, t->rflags};
		uint64_t before = GUEST_DATA | t->pte, va = GUEST_VA + 0x123;
		uint64_t after;
		struct fault fault;
		gpa_t gpa;
		int r;

		g->sregs.cr0 = CR0_DEFAULT & ~t->cr0_off;
		g->sregs.cr4 = CR4_DEFAULT | t->cr4_on;
		*guest_pte(g, 0) = before;
		r = mmu_translate(&mmu, va, t->access, &gpa, &fault);
		after = *guest_pte(g, 0);
		print_message("right %zu\n", i);
		if (t->error < 0) {
			assert_int_equal(r, 0);
			assert_int_equal(gpa, GUEST_DATA + 0x123);
			assert_int_equal(
				after,
				before | A | (t->access & MMU_WRITE ? D : 0));
			continue;
		}
		assert_int_equal(r, -EFAULT);
		assert_int_equal(fault.vector, EXC_PF);
		assert_true(fault.has_error_code);
		assert_int_equal(fault.error_code, t->error);
		assert_int_equal(fault.cr2, va);
		assert_int_equal(after, before);
	}
	free_guest(g, ram);
}

static void test_walk(void **state)
{
	uint8_t *ram;
	struct guest *g = new_guest(&ram);
	struct mmu mmu = {&g->mem, &g->sregs, 0};
	uint64_t *tables = (uint64_t *)(ram + GUEST_TABLES);
	struct fault fault;
	gpa_t gpa;

	(void)state;
	/* An upper level can take rights away, not give them. */
	tables[1024] = (GUEST_TABLES + 0x3000) | P;
	assert_int_equal(mmu_translate(&mmu, GUEST_VA, MMU_WRITE, &gpa, &fault),
			 -EFAULT);
	assert_int_equal(fault.error_code, 3);
	/* 2 MiB and 1 GiB pages. */
	tables[1024] = PS | P | W;
	assert_int_equal(mmu_translate(&mmu, GUEST_VA + 0x12345, MMU_WRITE,
				       &gpa, &fault),
			 0);
	assert_int_equal(gpa, 0x12345);
	assert_int_equal(tables[1024], PS | P | W | A | D);
	tables[512] = PS | P | W;
	assert_int_equal(mmu_translate(&mmu, GUEST_VA + 0x1234567, MMU_READ,
				       &gpa, &fault),
			 0);
	assert_int_equal(gpa, 0x1234567);
	/* Address bits within a large page are reserved, but for PAT. */
	tables[512] = 0x3000 | PS | P | W;
	assert_int_equal(mmu_translate(&mmu, GUEST_VA, MMU_READ, &gpa, &fault),
			 -EFAULT);
	assert_int_equal(fault.error_code, 9);
	tables[512] = 0x1000 | PS | P | W;
	assert_int_equal(mmu_translate(&mmu, GUEST_VA + 0x1234567, MMU_READ,
				       &gpa, &fault),
			 0);
	assert_int_equal(gpa, 0x1234567);
	/* Not canonical; five levels make it so. */
	assert_int_equal(
		mmu_translate(&mmu, UINT64_C(1) << 50, MMU_READ, &gpa, &fault),
		-EFAULT);
	assert_int_equal(fault.vector, EXC_GP);
	g->sregs.cr4 |= UINT64_C(1) << 12;
	assert_int_equal(
		mmu_translate(&mmu, UINT64_C(1) << 50, MMU_READ, &gpa, &fault),
		-EFAULT);
	assert_int_equal(fault.vector, EXC_PF);
	/* Tables outside RAM are no guest fault; nor is paging of old. */
	g->sregs.cr3 = UINT64_C(1) << 40;
	assert_int_equal(mmu_translate(&mmu, GUEST_VA, MMU_READ, &gpa, &fault),
			 -ENXIO);
	g->sregs.efer = 0;
	assert_int_equal(mmu_translate(&mmu, GUEST_VA, MMU_READ, &gpa, &fault),
			 -ENXIO);
	g->sregs.cr0 = 1;
	assert_int_equal(mmu_translate(&mmu, 0x5000, MMU_READ, &gpa, &fault),
			 0);
	assert_int_equal(gpa, 0x5000);
	free_guest(g, ram);
}

/* A write over two pages happens whole or not at all. */
static void test_crossing(void **state)
{
	uint8_t *ram;
	struct guest *g = new_guest(&ram);
	struct mmu mmu = {&g->mem, &g->sregs, 0};
	uint8_t data[16], back[16] = {0};
	struct fault fault;

	(void)state;
	memset(data, 0x5a, sizeof(data));
	*guest_pte(g, 1) = (GUEST_DATA + 5 * 4096) | P; /* read only */
	assert_int_equal(mmu_write(&mmu, GUEST_VA + 4088, data, 16, 0, &fault),
			 -EFAULT);
	assert_int_equal(fault.cr2, GUEST_VA + 4096);
	assert_int_equal(fault.error_code, 3);
	assert_int_equal(ram[GUEST_DATA + 4088], 0);
	*guest_pte(g, 1) |= W;
	assert_int_equal(mmu_write(&mmu, GUEST_VA + 4088, data, 16, 0, &fault),
			 0);
	assert_memory_equal(ram + GUEST_DATA + 4088, data, 8);
	assert_memory_equal(ram + GUEST_DATA + 5 * 4096, data, 8);
	assert_int_equal(mmu_read(&mmu, GUEST_VA + 4088, back, 16, 0, &fault),
			 0);
	assert_memory_equal(back, data, 16);
	free_guest(g, ram);
}

/* ---- SYSCALL ------------------------------------------------------------- */

#define LSTAR UINT64_C(0xffffffff81000080)
#define STAR  (UINT64_C(0x0023001000000000))
#define FMASK UINT64_C(0x47700)
#define IDT   UINT64_C(0x8000) /* guest-physical */

/* The fixmap's page table at 0x6000, below tables at 0x4000 and 0x5000. */
static void map_fixmap(struct guest *g, uint8_t *ram)
{
	uint64_t *tables = (uint64_t *)(ram + GUEST_TABLES);

	*guest_pte(g, 15) = IDT | P; /* read only, as Linux has it */
	tables[511] = 0x6000 | 7;
	*(uint64_t *)(ram + 0x6000 + 511 * 8) = 0x7000 | 7;
	*(uint64_t *)(ram + 0x7000 + 507 * 8) = 0x9000 | 7;
	g->sregs.idt.base = GUEST_VA + 15 * 4096;
	g->sregs.idt.limit = 4095;
}

static uint64_t *fixmap_pte(uint8_t *ram, uint64_t va)
{
	return (uint64_t *)(ram + 0x9000) + (va >> 12 & 511);
}

static void user_state(struct guest *g, uint64_t rflags)
{
	g->regs.rip = SYSCALL_SLOW_VA;
	g->regs.rflags = rflags;
	g->regs.rcx = 0x401000;
	g->sregs.cs.dpl = g->sregs.ss.dpl = 3;
	g->sregs.cs.selector = 0x33;
	g->sregs.ss.selector = 0x2b;
}

static void test_syscall_slow(void **state)
{
	uint8_t *ram;
	struct guest *g = new_guest(&ram);
	struct mmu mmu = {&g->mem, &g->sregs, 0};
	struct syscall_stub stub = {0};
	struct syscall_cpu cpu = {0};
	struct fault fault;

	(void)state;
	assert_int_equal(syscall_set_lstar(&stub, &cpu, &mmu, 1ULL << 50),
			 -EINVAL);
	assert_int_equal(syscall_set_lstar(&stub, &cpu, &mmu, LSTAR), -ENOENT);
	map_fixmap(g, ram);
	assert_int_equal(syscall_set_lstar(&stub, &cpu, &mmu, LSTAR), 0);
	assert_int_equal(cpu.lstar, LSTAR);
	assert_int_equal(*fixmap_pte(ram, SYSCALL_SLOW_VA) & 7, P | U);
	assert_int_equal(*fixmap_pte(ram, SYSCALL_FAST_VA) & 7, P | U);
	assert_int_equal(*fixmap_pte(ram, SYSCALL_STUB_VA) & 7, P);
	/* Again, as a second CPU does. */
	assert_int_equal(syscall_set_lstar(&stub, &cpu, &mmu, LSTAR), 0);

	user_state(g, 0x10003);
	assert_true(
		syscall_enter(&cpu, &g->regs, &g->sregs, STAR, FMASK, &fault));
	assert_int_equal(g->regs.rip, LSTAR);
	assert_int_equal(g->regs.rflags, 3);
	assert_int_equal(g->sregs.cs.selector, 0x10);
	assert_int_equal(g->sregs.cs.dpl, 0);
	assert_int_equal(g->sregs.cs.l, 1);
	assert_int_equal(g->sregs.ss.selector, 0x18);
	assert_int_equal(g->sregs.ss.dpl, 0);
	free_guest(g, ram);
}

/* A jump to the page must not gain ring 0. */
static void test_syscall_forged(void **state)
{
	uint8_t *ram;
	struct guest *g = new_guest(&ram);
	struct syscall_cpu cpu = {.lstar = LSTAR};
	struct kvm_regs before;
	struct fault fault;

	(void)state;
	user_state(g, 0x202);
	before = g->regs;
	assert_false(
		syscall_enter(&cpu, &g->regs, &g->sregs, STAR, FMASK, &fault));
	assert_memory_equal(&before, &g->regs, sizeof(before));
	assert_int_equal(g->sregs.cs.dpl, 3);
	assert_int_equal(fault.vector, EXC_PF);
	assert_int_equal(fault.error_code, 0x14);
	assert_int_equal(fault.cr2, SYSCALL_SLOW_VA);
	/* Without IF in FMASK there would be no telling. */
	user_state(g, 2);
	assert_false(syscall_enter(&cpu, &g->regs, &g->sregs, STAR,
				   FMASK & ~FLAG_IF, &fault));
	g->sregs.ss.dpl = 0;
	assert_false(
		syscall_enter(&cpu, &g->regs, &g->sregs, STAR, FMASK, &fault));
	assert_int_equal(fault.error_code, 0x10);
	free_guest(g, ram);
}

#define GATE_LOW  UINT64_C(0x8100ee0000101234) /* to 0xffffffff81001234 */
#define GATE_HIGH UINT64_C(0x00000000ffffffff)

static void test_syscall_fast(void **state)
{
	uint8_t *ram;
	struct guest *g = new_guest(&ram);
	struct mmu mmu = {&g->mem, &g->sregs, 0};
	struct syscall_stub stub = {0};
	struct syscall_cpu cpu[2] = {{0}, {0}};
	uint64_t *gate = (uint64_t *)(ram + IDT) + 8, word;

	(void)state;
	map_fixmap(g, ram);
	for (int i = 0; i < 2; i++)
		assert_int_equal(syscall_set_lstar(&stub, &cpu[i], &mmu, LSTAR),
				 0);
	assert_false(syscall_go_fast(&stub, &cpu[0], &mmu)); /* no gate */
	gate[0] = GATE_LOW | UINT64_C(1) << 32;              /* a stack */
	gate[1] = GATE_HIGH;
	assert_false(syscall_go_fast(&stub, &cpu[0], &mmu));
	gate[0] = GATE_LOW;
	assert_true(syscall_go_fast(&stub, &cpu[0], &mmu));
	assert_int_equal(gate[0], UINT64_C(0xff6fee0000102000));
	assert_int_equal(gate[1], GATE_HIGH);
	assert_int_equal(ram[SYSCALL_FAST_GPA], 0xcd);
	assert_int_equal(ram[SYSCALL_FAST_GPA + 1], 4);
	memcpy(&word, ram + SYSCALL_STUB_GPA + 40, 8);
	assert_int_equal(word, LSTAR);
	memcpy(&word, ram + SYSCALL_STUB_GPA + 48, 8);
	assert_int_equal(word, UINT64_C(0xffffffff81001234));
	assert_true(syscall_go_fast(&stub, &cpu[1], &mmu));
	assert_int_equal(stub.users, 2);
	/* One that goes elsewhere stays slow as long as others are fast. */
	assert_int_equal(syscall_set_lstar(&stub, &cpu[1], &mmu, LSTAR + 64),
			 0);
	assert_int_equal(stub.users, 1);
	assert_false(syscall_go_fast(&stub, &cpu[1], &mmu));
	/* A new kernel: new table, new LSTAR. */
	assert_int_equal(syscall_set_lstar(&stub, &cpu[0], &mmu, LSTAR + 64),
			 0);
	gate[0] = GATE_LOW;
	assert_true(syscall_go_fast(&stub, &cpu[1], &mmu));
	memcpy(&word, ram + SYSCALL_STUB_GPA + 40, 8);
	assert_int_equal(word, LSTAR + 64);
	free_guest(g, ram);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rights),
		cmocka_unit_test(test_walk),
		cmocka_unit_test(test_crossing),
		cmocka_unit_test(test_syscall_slow),
		cmocka_unit_test(test_syscall_forged),
		cmocka_unit_test(test_syscall_fast),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
