/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interpreter where it differs from a processor: it stops before what it
 * cannot do, and remembers code that may change. Its budget is
 * test-interp-budget.c's. That its
 * instructions do what a processor's do is test-interp-cpu.c's.
 */
#include "tests/interp-code.h"

#include "vmm/pvm/x86.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* A kernel that calls through a null pointer. */
static void test_rip_zero(void **state)
{
	struct iguest *g = new_guest();
	uint64_t *pt = (uint64_t *)(g->ram + IG_TABLES + 0x3000);
	uint64_t *pd = (uint64_t *)(g->ram + IG_TABLES + 0x2000);

	(void)state;
	g->regs.rip = 0;
	assert_int_equal(ig_run(g, 1000), 0);
	/* Page 0 mapped, with nothing and then something to execute. */
	pd[0] = (IG_TABLES + 0x3000) | 3;
	pt[0] = (IG_RAM + 0x8000) | 3;
	g->ram[IG_RAM + 0x8000] = STOP;
	assert_int_equal(ig_run(g, 1000), 0);
	g->ram[IG_RAM + 0x8000] = 0x90;
	g->ram[IG_RAM + 0x8001] = STOP;
	assert_int_equal(ig_run(g, 1000), 1);
	assert_int_equal(g->regs.rip, 1);
	g->regs.rip = 0;
	*pd = 0;
	assert_int_equal(ig_run(g, 1000), 0);
	free_guest(g);
}

/* ---- strings ------------------------------------------------------------- */

/* Elements done before a page that is missing show in the registers. */
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
	assert_int_equal(ig_run(g, 1000), 1);
	assert_int_equal(g->regs.rip, CODE);
	assert_int_equal(g->regs.rcx, 36);
	assert_int_equal(g->regs.rsi, DATA + 4096);
	assert_int_equal(g->regs.rdi, DATA + 4096 - 4);
	assert_int_equal(*ig_at(g, DATA + 4096 - 68), 0);
	assert_int_equal(*ig_at(g, DATA + 4096 - 5), 63);
	/* Nothing more happens, and nothing is said to have. */
	assert_int_equal(ig_run(g, 1000), 0);
	assert_int_equal(g->regs.rcx, 36);
	/* Mapped, it goes on. */
	*ig_pte(g, DATA + 4096) = (IG_RAM + 0x5000) | 3;
	assert_in_range(ig_run(g, 1000), 1, 3);
	assert_int_equal(g->regs.rip, CODE + 2);
	assert_int_equal(g->regs.rcx, 0);

	set_code(g, 0xf3, 0x48, 0xab); /* rep stosq */
	g->regs.rdi = before = DATA + 0x2000 - 80;
	*ig_pte(g, DATA + 0x2000) = (IG_RAM + 0x6000) | IG_PRESENT;
	g->regs.rcx = 600;
	g->regs.rax = 0x1122334455667788;
	assert_int_equal(ig_run(g, 1000), 1);
	assert_int_equal(g->regs.rdi, before + 80);
	assert_int_equal(g->regs.rcx, 590);
	/* An element across pages, of which one is read-only, is KVM's. */
	g->regs.rdi = DATA + 0x2000 - 4;
	assert_int_equal(ig_run(g, 1000), 0);
	assert_int_equal(g->regs.rdi, DATA + 0x2000 - 4);
	assert_int_equal(g->regs.rcx, 590);
	/* So is the other direction. */
	g->regs.rdi = DATA;
	g->regs.rflags |= FLAG_DF;
	assert_int_equal(ig_run(g, 1000), 0);
	free_guest(g);
}

static void test_string_short(void **state)
{
	struct iguest *g = new_guest();

	(void)state;
	set_code(g, 0xf3, 0xaa);
	g->regs.rdi = 0xdead; /* not looked at */
	assert_int_equal(ig_run(g, 1000), 1);
	assert_int_equal(g->regs.rip, CODE + 2);
	assert_int_equal(g->regs.rdi, 0xdead);
	/* Without REP, RCX is nothing to it. */
	set_code(g, 0xaa, 0xa4);
	g->regs.rdi = DATA;
	g->regs.rsi = DATA + 8;
	g->regs.rax = 0x5a;
	assert_int_equal(ig_run(g, 1000), 2);
	assert_int_equal(*ig_at(g, DATA), 0x5a);
	assert_int_equal(g->regs.rcx, 0);
	assert_int_equal(g->regs.rdi, DATA + 2);
	free_guest(g);
}

/* ---- what is left to KVM ------------------------------------------------- */

struct bytes {
	uint8_t len, at[11];
};

/* Runs one instruction, which must not happen at all. */
static void assert_stops(struct iguest *g, const struct bytes *b)
{
	static uint8_t ram[IG_PAGES * 4096];
	struct kvm_regs before;
	uint64_t done;

	code_at(g, g->regs.rip, b->at, b->len);
	before = g->regs;
	memcpy(ram, g->ram + IG_RAM, sizeof(ram));
	done = ig_run(g, 1000);
	if (done != 0)
		print_message("%02x %02x %02x ... was done\n", b->at[0],
			      b->at[1], b->at[2]);
	assert_int_equal(done, 0);
	assert_memory_equal(&before, &g->regs, sizeof(before));
	assert_memory_equal(ram, g->ram + IG_RAM, sizeof(ram));
}

/* All that is wrong, or odd, or unknown; operands at RBX are fine. */
static void test_unknown(void **state)
{
	static const struct bytes code[] = {
		{1, {0xf4}},                   /* hlt */
		{2, {0x0f, 0x0b}},             /* ud2 */
		{1, {0xcc}},                   /* int3 */
		{2, {0x0f, 0xa2}},             /* cpuid */
		{3, {0x0f, 0x22, 0xd8}},       /* mov to cr3 */
		{2, {0x48, 0xcf}},             /* iret to nowhere */
		{1, {0xcf}},                   /* iret of 32 bits */
		{2, {0x8c, 0xf0}},             /* no such segment */
		{2, {0x8e, 0xd8}},             /* mov to ds */
		{3, {0x0f, 0x01, 0xf8}},       /* swapgs */
		{1, {0xec}},                   /* in */
		{5, {0xc5, 0xf8, 0x58, 0xc1}}, /* vaddps */
		{3, {0x0f, 0x10, 0x03}},       /* movups */
		{2, {0xd0, 0xd0}},             /* rcl */
		{2, {0xf0, 0x90}},             /* LOCK with what has none */
		{3, {0xf0, 0x01, 0xc0}},
		{3, {0xf0, 0x89, 0x03}},
		{3, {0xf0, 0x8b, 0x03}},
		{3, {0xf0, 0x03, 0x03}},
		{3, {0xf0, 0x39, 0x03}},
		{4, {0xf0, 0x83, 0x3b, 0x01}},
		{3, {0xf0, 0xd1, 0x23}},
		{3, {0xf0, 0xf7, 0x23}},
		{3, {0xf0, 0xff, 0x33}},
		{4, {0xf0, 0x0f, 0xa3, 0x03}},
		{5, {0xf0, 0x0f, 0xba, 0x23, 0x01}},
		{2, {0xf0, 0xab}},
		{2, {0xf0, 0x50}},
		{5, {0x66, 0x0f, 0xae, 0xf0}}, /* tpause */
		{4, {0x66, 0x0f, 0xae, 0x33}}, /* clwb */
		{4, {0x66, 0x0f, 0xae, 0xf8}}, /* pcommit */
		{3, {0x0f, 0xae, 0x03}},       /* fxsave */
		{4, {0xf3, 0x0f, 0xae, 0xc0}}, /* rdfsbase without FSGSBASE */
		{4, {0xf3, 0x0f, 0xae, 0xd0}}, /* wrfsbase */
		{3, {0x66, 0x75, 0x00}},       /* 16-bit branches */
		{5, {0x66, 0xe9, 0, 0, 0}},
		{2, {0x66, 0xc3}},
		{3, {0x66, 0xff, 0xe3}},
		{3, {0x66, 0x63, 0xc3}},       /* movsxd to 16 bits */
		{3, {0x66, 0x0f, 0xc8}},       /* bswap of 16 bits */
		{4, {0x67, 0x0f, 0xa3, 0x03}}, /* bt at a 32-bit address */
		{2, {0x66, 0x50}},             /* 16-bit stack */
		{2, {0x66, 0x58}},
		{2, {0x66, 0x9c}},
		{2, {0x66, 0x9d}},
		{2, {0x66, 0xc9}},
		{2, {0x8d, 0xc0}},       /* lea of a register */
		{2, {0xc6, 0x4b}},       /* c6 /1 */
		{3, {0x0f, 0xb8, 0xc0}}, /* popcnt without f3 */
		{2, {0xf7, 0xf1}},       /* div by 0 */
		{3, {0x48, 0xf7, 0xf9}}, /* idiv by 0 */
		{2, {0x67, 0xaa}},       /* stos to edi */
		{1, {0xfd}},             /* std */
	};
	struct iguest *g = new_guest();

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(code); i++) {
		g->regs.rbx = g->regs.rdi = g->regs.rbp = DATA;
		assert_stops(g, &code[i]);
	}
	free_guest(g);
}

/* A locked operation over a cache line's end is KVM's, any other is not. */
static void test_split_lock(void **state)
{
	static const struct bytes code[] = {
		{4, {0xf0, 0x48, 0x01, 0x03}},       /* add %rax, (%rbx) */
		{3, {0xf0, 0xff, 0x03}},             /* inc */
		{3, {0xf0, 0xf7, 0x1b}},             /* neg */
		{2, {0x87, 0x03}},                   /* xchg */
		{4, {0xf0, 0x0f, 0xc1, 0x03}},       /* xadd */
		{4, {0xf0, 0x0f, 0xb1, 0x03}},       /* cmpxchg */
		{4, {0xf0, 0x0f, 0xab, 0x03}},       /* bts %eax, (%rbx) */
		{5, {0xf0, 0x0f, 0xba, 0x33, 0x01}}, /* btr */
	};
	struct iguest *g = new_guest();

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(code); i++) {
		g->regs.rip = CODE;
		g->regs.rax = 1;
		g->regs.rbx = DATA + 62;
		assert_stops(g, &code[i]);
		g->regs.rbx = DATA + 51;
		assert_int_equal(ig_run(g, 1), 1);
	}
	/* Unlocked: inc (%rbx) */
	set_code(g, 0xff, 0x03);
	g->regs.rbx = DATA + 62;
	assert_int_equal(ig_run(g, 1), 1);
	free_guest(g);
}

/* ---- faults -------------------------------------------------------------- */

/* The operand is at RBX, on the stack, or at RSI or RDI. */
enum { READS = 1, WRITES = 2, BYTE = 4, STACKED = 8 };

static const struct {
	struct bytes code;
	int what;
} access_code[] = {
	{{2, {0x01, 0x03}}, WRITES},
	{{2, {0x03, 0x03}}, READS},
	{{2, {0x39, 0x03}}, READS},
	{{3, {0x83, 0x03, 1}}, WRITES},
	{{2, {0x85, 0x03}}, READS},
	{{2, {0x87, 0x03}}, WRITES},
	{{2, {0x88, 0x03}}, WRITES | BYTE},
	{{2, {0x89, 0x03}}, WRITES},
	{{2, {0x8b, 0x03}}, READS},
	{{6, {0xc7, 0x03}}, WRITES},
	{{2, {0xd1, 0x03}}, WRITES},
	{{2, {0xd3, 0x23}}, WRITES},
	{{6, {0xf7, 0x03}}, READS},
	{{2, {0xf7, 0x13}}, WRITES},
	{{2, {0xf7, 0x1b}}, WRITES},
	{{2, {0xf7, 0x23}}, READS},
	{{2, {0xf7, 0x33}}, READS},
	{{2, {0xf7, 0x3b}}, READS},
	{{2, {0xff, 0x03}}, WRITES},
	{{2, {0xff, 0x0b}}, WRITES},
	{{2, {0xff, 0x23}}, READS},
	{{3, {0x48, 0x63, 0x03}}, READS},
	{{6, {0x69, 0x03}}, READS},
	{{3, {0x6b, 0x03, 3}}, READS},
	{{3, {0x0f, 0x42, 0x03}}, READS},
	{{3, {0x0f, 0x90, 0x03}}, WRITES | BYTE},
	{{3, {0x0f, 0xa3, 0x03}}, READS},
	{{3, {0x0f, 0xab, 0x03}}, WRITES},
	{{4, {0x0f, 0xba, 0x3b, 1}}, WRITES},
	{{4, {0x0f, 0xa4, 0x03, 1}}, WRITES},
	{{3, {0x0f, 0xad, 0x03}}, WRITES},
	{{3, {0x0f, 0xaf, 0x03}}, READS},
	{{3, {0x0f, 0xb1, 0x03}}, WRITES},
	{{3, {0x0f, 0xb6, 0x03}}, READS | BYTE},
	{{3, {0x0f, 0xbf, 0x03}}, READS},
	{{3, {0x0f, 0xbc, 0x03}}, READS},
	{{4, {0xf3, 0x0f, 0xb8, 0x03}}, READS},
	{{3, {0x0f, 0xc1, 0x03}}, WRITES},
	{{3, {0x0f, 0xae, 0x3b}}, READS | BYTE},
	{{1, {0x50}}, WRITES | STACKED},
	{{1, {0x58}}, READS | STACKED},
	{{1, {0x9c}}, WRITES | STACKED},
	{{1, {0x9d}}, READS | STACKED},
	{{1, {0xc3}}, READS | STACKED},
	{{1, {0xc9}}, READS | STACKED},
	{{5, {0xe8}}, WRITES | STACKED},
	{{2, {0xff, 0xd0}}, WRITES | STACKED},
	{{1, {0xaa}}, WRITES | BYTE},
	{{2, {0xf3, 0xab}}, WRITES},
	{{1, {0xa4}}, WRITES | BYTE},
	{{1, {0xa5}}, WRITES},
};

static void set_operand(struct iguest *g, uint64_t va, bool push)
{
	g->regs.rip = CODE;
	g->regs.rax = g->regs.rdx = 1;
	g->regs.rcx = 9;
	g->regs.rbx = g->regs.rsi = g->regs.rdi = g->regs.rbp = va;
	g->regs.rsp = push ? va + 8 : va;
}

static void test_faults(void **state)
{
	struct iguest *g = new_guest();
	uint64_t *pte = ig_pte(g, DATA + 4096), mapped = *pte;

	(void)state;
	memset(ig_at(g, DATA), 0x11, 0x3000);
	for (size_t i = 0; i < ARRAY_LEN(access_code); i++) {
		const struct bytes *code = &access_code[i].code;
		int what = access_code[i].what;
		bool push = (what & STACKED) && (what & WRITES);
		/* No page; a device's; not RAM's; read only. */
		const uint64_t bad[] = {0, 0xd0000003, IG_BYTES | 3,
					(IG_RAM + 0x5000) | 1};

		for (size_t n = 0; n < ARRAY_LEN(bad); n++) {
			if (n == 3 && !(what & WRITES))
				continue;
			*pte = bad[n];
			set_operand(g, DATA + 4096, push);
			assert_stops(g, code);
		}
		/* On two pages, of which the second is not there, or is. */
		*pte = 0;
		set_operand(g, DATA + 4095, push);
		if (!(what & BYTE))
			assert_stops(g, code);
		*pte = mapped;
		set_operand(g, DATA + 4095, push);
		code_at(g, g->regs.rip, code->at, code->len);
		memset(ig_at(g, DATA + 4096 - 8), 0x11, 16);
		/* But for XCHG, locked on two lines, and POPF of anything. */
		if (code->at[0] != 0x87 && code->at[0] != 0x9d)
			assert_int_equal(ig_run(g, 1), 1);
		set_operand(g, UINT64_C(1) << 60, push);
		assert_stops(g, code);
		set_operand(g, DATA + 4096, push);
		g->sregs.cr3 = UINT64_C(1) << 40;
		assert_stops(g, code);
		g->sregs.cr3 = IG_TABLES;
	}
	free_guest(g);
}

/* Operands on two pages that lie apart in RAM. */
static void test_across_pages(void **state)
{
	struct iguest *g = new_guest();
	uint8_t *first = ig_at(g, DATA + 4096 - 8), *second;
	uint64_t want = UINT64_C(0x1122334455667788);

	(void)state;
	*ig_pte(g, DATA + 4096) = (IG_RAM + 0x9000) | 3;
	second = g->ram + IG_RAM + 0x9000;
	for (uint64_t va = DATA + 4096 - 7; va < DATA + 4096; va++) {
		unsigned here = (unsigned)(DATA + 4096 - va);

		memset(first, 0, 8);
		memset(second, 0, 8);
		/* mov %rax, (%rbx); mov (%rbx), %rcx */
		set_code(g, 0x48, 0x89, 0x03, 0x48, 0x8b, 0x0b);
		g->regs.rax = want;
		g->regs.rbx = va;
		g->regs.rcx = 0;
		assert_int_equal(ig_run(g, 1000), 2);
		assert_memory_equal(first + 8 - here, &want, here);
		assert_memory_equal(second, (uint8_t *)&want + here, 8 - here);
		assert_true(g->regs.rcx == want);
		assert_int_equal(first[7 - here], 0);
		assert_int_equal(second[8 - here], 0);
		set_code(g, 0x48, 0x01, 0x03); /* add %rax, (%rbx) */
		assert_int_equal(ig_run(g, 1000), 1);
		set_code(g, 0x48, 0x8b, 0x0b);
		assert_int_equal(ig_run(g, 1000), 1);
		assert_true(g->regs.rcx == 2 * want);
		/* rep movsq, whose elements lie across at both ends */
		set_code(g, 0xf3, 0x48, 0xa5);
		g->regs.rsi = va;
		g->regs.rdi = va - 0x800;
		g->regs.rcx = 3;
		while (g->regs.rip == CODE)
			assert_in_range(ig_run(g, 1000), 1, 3);
		assert_int_equal(g->regs.rsi, va + 24);
		want = want << 1 | 1;
		set_code(g, 0x48, 0xab); /* stosq */
		g->regs.rdi = va;
		g->regs.rax = want;
		assert_int_equal(ig_run(g, 1000), 1);
		assert_memory_equal(second, (uint8_t *)&want + here, 8 - here);
	}
	/* A write across the border of code sees to that code, too. */
	set_code(g, 0xc7, 0x03, 0x90, 0x90, 0x90, 0xb0);
	memset(ig_at(g, CODE + 6), 0x90, 4096 - 6);
	memcpy(ig_at(g, CODE + 4096), (uint8_t[]){0xb0, 1, STOP}, 3);
	g->regs.rbx = CODE + 4096 - 3;
	assert_int_equal(ig_run(g, UINT64_MAX), 1 + 4096 - 6 + 1);
	assert_int_equal(g->regs.rax & 0xff, 1);
	free_guest(g);
}

/* Kernels read CR2 at each page fault. */
static void test_control_registers(void **state)
{
	struct iguest *g = new_guest();

	(void)state;
	g->sregs.cr2 = UINT64_C(0x123456789000);
	/* mov %cr2, %rax; mov %cr3, %r9; mov %cr0, %rbx; mov %cr4, %rsi */
	set_code(g, 0x0f, 0x20, 0xd0, 0x41, 0x0f, 0x20, 0xd9, 0x0f, 0x20, 0xc3,
		 0x0f, 0x20, 0xe6);
	assert_int_equal(ig_run(g, 1000), 4);
	assert_true(g->regs.rax == g->sregs.cr2);
	assert_true(g->regs.r9 == g->sregs.cr3);
	assert_true(g->regs.rbx == g->sregs.cr0);
	assert_true(g->regs.rsi == g->sregs.cr4);
	/* No such register, the APIC's, and none but a prefix. */
	assert_stops(g, &(struct bytes){3, {0x0f, 0x20, 0xc8}});
	assert_stops(g, &(struct bytes){4, {0x44, 0x0f, 0x20, 0xc0}});
	assert_stops(g, &(struct bytes){4, {0xf0, 0x0f, 0x20, 0xc0}});
	free_guest(g);
}

/* A read-only page without WP; translations do not outlive a call. */
static void test_rights(void **state)
{
	struct iguest *g = new_guest();

	(void)state;
	set_code(g, 0x89, 0x03); /* mov %eax, (%rbx) */
	g->regs.rbx = DATA;
	assert_int_equal(ig_run(g, 1), 1);
	assert_int_equal(*ig_pte(g, DATA) & 0x60, 0x60);
	*ig_pte(g, DATA) &= ~IG_WRITE;
	g->regs.rip = CODE;
	assert_int_equal(ig_run(g, 1), 0);
	g->sregs.cr0 &= ~UINT64_C(0x10000); /* WP */
	assert_int_equal(ig_run(g, 1), 1);
	/* The next fetch finds NX, and then nothing. */
	*ig_pte(g, CODE) |= UINT64_C(1) << 63;
	g->regs.rip = CODE;
	assert_int_equal(ig_run(g, 1), 0);
	*ig_pte(g, CODE) = 0;
	assert_int_equal(ig_run(g, 1), 0);
	free_guest(g);
}

/* STAC and CLAC take effect within a call. */
static void test_smap(void **state)
{
	struct iguest *g = new_guest();
	uint64_t *tables = (uint64_t *)(g->ram + IG_TABLES);

	(void)state;
	tables[IG_VA >> 39 & 511] |= 4;
	tables[512 + (IG_VA >> 30 & 511)] |= 4;
	tables[1024 + (IG_VA >> 21 & 511)] |= 4;
	*ig_pte(g, DATA) |= 4;
	g->sregs.cr4 |= CR4_SMAP;
	/* stac; mov (%rbx), %eax; clac; mov (%rbx), %eax */
	set_code(g, 0x0f, 0x01, 0xcb, 0x8b, 0x03, 0x0f, 0x01, 0xca, 0x8b, 0x03);
	g->regs.rbx = DATA;
	assert_int_equal(ig_run(g, 1000), 3);
	assert_int_equal(g->regs.rip, CODE + 8);
	assert_int_equal(g->regs.rflags & FLAG_AC, 0);
	/* POPF that would do the same is KVM's. */
	set_code(g, 0x9d);
	*(uint64_t *)ig_at(g, STACK) = 2 | FLAG_AC;
	assert_int_equal(ig_run(g, 1000), 0);
	g->sregs.cr4 = 0x20;
	assert_int_equal(ig_run(g, 1000), 1);
	assert_int_equal(g->regs.rflags, 2 | FLAG_AC);
	free_guest(g);
}

/* ---- code ---------------------------------------------------------------- */

/* Patched by itself, by the guest's other CPUs, by remapping. */
static void test_code_changes(void **state)
{
	struct iguest *g = new_guest();

	(void)state;
	/* movb $2, 1(%rip), which is the immediate after; mov $1, %al */
	set_code(g, 0xc6, 0x05, 1, 0, 0, 0, 2, 0xb0, 1);
	assert_int_equal(ig_run(g, 1000), 2);
	assert_int_equal(g->regs.rax, 2);
	for (unsigned i = 0; i < 256; i++) {
		*ig_at(g, CODE + 8) = (uint8_t)i;
		g->regs.rip = CODE + 7;
		assert_int_equal(ig_run(g, 1), 1);
		assert_int_equal(g->regs.rax & 0xff, i);
	}
	/* Another instruction there, and then none. */
	*ig_at(g, CODE + 7) = 0xb4; /* mov to %ah */
	g->regs.rip = CODE + 7;
	assert_int_equal(ig_run(g, 1), 1);
	assert_int_equal(g->regs.rax, 0xffff);
	*ig_at(g, CODE + 7) = STOP;
	g->regs.rip = CODE + 7;
	assert_int_equal(ig_run(g, 1), 0);
	*ig_pte(g, CODE) = (IG_RAM + 0x8000) | 3;
	g->ram[IG_RAM + 0x8007] = 0x90;
	assert_int_equal(ig_run(g, 1), 1);
	free_guest(g);
}

static void test_page_border(void **state)
{
	/* mov $0x1122334455667788, %r8 */
	static const uint8_t code[] = {0x49, 0xb8, 0x88, 0x77, 0x66,
				       0x55, 0x44, 0x33, 0x22, 0x11};
	struct iguest *g = new_guest();
	uint64_t next = *ig_pte(g, CODE + 4096);

	(void)state;
	for (uint64_t va = CODE + 4096 - 20; va <= CODE + 4096; va++) {
		uint64_t here = CODE + 4096 - va;

		memset(ig_at(g, CODE), STOP, 0x2000);
		code_at(g, va, code, sizeof(code));
		for (unsigned i = 0; i < 3; i++) {
			bool whole = i != 1 || here >= sizeof(code);

			*ig_pte(g, CODE + 4096) = i == 1 ? 0 : next;
			g->regs.rip = va;
			g->regs.r8 = i;
			assert_int_equal(ig_run(g, 1), whole);
			assert_int_equal(g->regs.r8,
					 whole ? 0x1122334455667788 : i);
			assert_int_equal(g->regs.rip, whole ? va + 10 : va);
		}
	}
	free_guest(g);
}

/*
 * Three times a byte at TARGET is written and then the code at FUNCTION called,
 * all in one run. The three results, the last in the lowest byte.
 */
static uint64_t patch_and_call(struct iguest *g, uint64_t target,
			       uint64_t function, unsigned shift)
{
	for (unsigned i = 0; i < 3; i++) {
		/* movb $i, (%rdi); call; shr $shift, %eax; shl, or to %rbx */
		uint8_t code[] = {0xc6, 0x07,           (uint8_t)(i + 1),
				  0xff, 0xd1,           0xc1,
				  0xe8, (uint8_t)shift, 0x48,
				  0xc1, 0xe3,           8,
				  0x48, 0x09,           0xc3};

		code_at(g, CODE + i * sizeof(code), code, sizeof(code));
	}
	g->regs.rip = CODE;
	g->regs.rbx = 0;
	g->regs.rdi = target;
	g->regs.rcx = function;
	assert_int_equal(ig_run(g, 1000), 21);
	return g->regs.rbx;
}

/* Written before it has run and after, by this and by another address. */
static void test_code_written(void **state)
{
	static const uint8_t function[] = {0xb8, 0, 0, 0, 0, 0xc3};
	const uint64_t alias = 32 * 4096;
	struct iguest *g = new_guest();

	(void)state;
	for (unsigned i = 0; i < IG_PAGES; i++)
		*ig_pte(g, IG_VA + alias + i * 4096) =
			*ig_pte(g, IG_VA + i * 4096);
	for (unsigned i = 0; i < 2; i++) {
		uint64_t here = DATA + 0x100, end = DATA + 0x2000;

		code_at(g, here, function, sizeof(function));
		assert_int_equal(
			patch_and_call(g, here + 1 + i * alias, here, 0),
			0x010203);
		/* On two pages, of which the second one changes. */
		code_at(g, end - 3, function, sizeof(function));
		assert_int_equal(
			patch_and_call(g, end + i * alias, end - 3, 16),
			0x010203);
	}
	free_guest(g);
}

/* The kernel maps another page where it has run code, in one run. */
static void test_code_remapped(void **state)
{
	const uint64_t high = UINT64_C(0xffff800000000000);
	struct iguest *g = new_guest();
	uint64_t *tables = (uint64_t *)(g->ram + IG_TABLES);

	(void)state;
	tables[256] = tables[0];
	*ig_pte(g, IG_VA + 32 * 4096) = (IG_TABLES + 0x3000) | 3;
	code_at(g, DATA, (const uint8_t[]){0xb3, 1, 0xc3}, 3);
	code_at(g, DATA + 4096, (const uint8_t[]){0xb7, 2, 0xc3}, 3);
	/* call *%rcx; mov %rsi, (%rdi); invlpg (%rcx); call *%rcx */
	set_code(g, 0xff, 0xd1, 0x48, 0x89, 0x37, 0x0f, 0x01, 0x39, 0xff, 0xd1);
	g->regs.rcx = high | DATA;
	g->regs.rsi = *ig_pte(g, DATA + 4096);
	g->regs.rdi = IG_VA + 32 * 4096 + (DATA >> 12 & 511) * 8;
	assert_int_equal(ig_run(g, 1000), 8);
	assert_int_equal(g->regs.rbx, 0x0201);
	/* And one that it may not execute. */
	g->regs.rip = CODE;
	g->regs.rsi |= UINT64_C(1) << 63;
	assert_int_equal(ig_run(g, 1000), 6);
	assert_int_equal(g->regs.rip, high | DATA);
	free_guest(g);
}

/* ---- large pages --------------------------------------------------------- */

#define LARGE (IG_VA + 2 * MIB) /* all of RAM, in one page */

static uint64_t *large_entry(const struct iguest *g)
{
	return (uint64_t *)(g->ram + IG_TABLES + 0x2000) + (LARGE >> 21 & 511);
}

/* Reads of a large page say nothing of writes, nor of execution. */
static void test_large_rights(void **state)
{
	const uint64_t large = 0x80, nx = UINT64_C(1) << 63;
	struct iguest *g = new_guest();

	(void)state;
	*large_entry(g) = IG_PRESENT | large;
	/* mov (%rbx), %rax; mov 4096(%rbx), %rcx; mov %rax, (%rbx) */
	set_code(g, 0x48, 0x8b, 0x03, 0x48, 0x8b, 0x8b, 0, 0x10, 0, 0, 0x48,
		 0x89, 0x03);
	g->regs.rbx = LARGE + 0x8000;
	g->ram[0x8000] = 0x12;
	g->ram[0x9000] = 0x34;
	assert_int_equal(ig_run(g, 1000), 2);
	assert_int_equal(g->regs.rax, 0x12);
	assert_int_equal(g->regs.rcx, 0x34);
	*large_entry(g) = IG_PRESENT | IG_WRITE | large | nx;
	/* mov %rax, (%rbx); jmp *%rbx */
	set_code(g, 0x48, 0x89, 0x03, 0xff, 0xe3);
	assert_int_equal(ig_run(g, 1000), 2);
	assert_int_equal(g->regs.rip, LARGE + 0x8000);
	assert_int_equal(interp_cause(g->in), INTERP_ACCESS);
	free_guest(g);
}

/* Its entry becomes a page table while the guest runs. */
static void test_large_remapped(void **state)
{
	const uint64_t high = UINT64_C(0xffff800000000000);
	struct iguest *g = new_guest();
	uint64_t *tables = (uint64_t *)(g->ram + IG_TABLES);

	(void)state;
	tables[256] = tables[0];
	*large_entry(g) = IG_PRESENT | IG_WRITE | 0x80;
	/* mov (%rbx), %rax; mov %rsi, (%rdi); invlpg (%rbx); mov (%rbx), %rcx
	 */
	set_code(g, 0x48, 0x8b, 0x03, 0x48, 0x89, 0x37, 0x0f, 0x01, 0x3b, 0x48,
		 0x8b, 0x0b);
	g->regs.rbx = high | (LARGE + 0x8000);
	g->regs.rdi = LARGE + (uint64_t)((uint8_t *)large_entry(g) - g->ram);
	g->regs.rsi = (IG_TABLES + 0x3000) | IG_PRESENT;
	g->ram[0x8000] = 0x12;
	g->ram[IG_RAM + 0x8000] = 0x34;
	assert_int_equal(ig_run(g, 1000), 4);
	assert_int_equal(g->regs.rax, 0x12);
	assert_int_equal(g->regs.rcx, 0x34);
	/* From outside it needs no INVLPG: translations live for one call. */
	*large_entry(g) = 0;
	set_code(g, 0x48, 0x8b, 0x03);
	assert_int_equal(ig_run(g, 1000), 0);
	free_guest(g);
}

/* ---- flags --------------------------------------------------------------- */

static void test_interrupt_flag(void **state)
{
	struct iguest *g = new_guest();

	(void)state;
	set_code(g, 0xfb, 0x90);
	assert_int_equal(ig_run(g, 1000), 2);
	assert_int_equal(g->regs.rflags, 2 | FLAG_IF);
	set_code(g, 0xfa);
	assert_int_equal(ig_run(g, 1000), 1);
	assert_int_equal(g->regs.rflags, 2);
	/* STI before MWAIT or SYSEXIT, or before what cannot be seen. */
	set_code(g, 0xfb, 0x0f, 0x01, 0xc9);
	assert_int_equal(ig_run(g, 2), 0);
	*ig_at(g, CODE + 4095) = 0xfb;
	*ig_pte(g, CODE + 4096) = 0;
	g->regs.rip = CODE + 4095;
	assert_int_equal(ig_run(g, 2), 0);
	assert_int_equal(g->regs.rflags, 2);
	free_guest(g);
}

static void test_popf(void **state)
{
	static const struct {
		uint64_t before, popped, after; /* 0: KVM's */
	} flags[] = {
		{2, 0x8d7, 0x8d7},
		{0x8d7, 2, 2},
		{2, 2 | FLAG_IF, 2 | FLAG_IF},
		{2 | FLAG_IF, 2, 2},
		{2, 2 | FLAG_DF | FLAG_ID | FLAG_AC,
		 2 | FLAG_DF | FLAG_ID | FLAG_AC},
		{2 | FLAG_ID, 2, 2},
		{2, UINT64_C(0xffffffff00000003), 3},
		{2, 2 | FLAG_TF, 0},
		{2, 0x3002, 0},   /* IOPL */
		{2, 0x4002, 0},   /* NT */
		{2, 0x80002, 0},  /* VIF */
		{2, 0x100002, 0}, /* VIP */
		{2 | FLAG_RF, 2, 0},
		{2, 0, 0},                /* reserved */
		{0x3002, 0x3003, 0x3003}, /* IOPL as it was */
	};
	struct iguest *g = new_guest();

	(void)state;
	set_code(g, 0x9d);
	for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
		uint64_t after = flags[i].after;

		g->regs.rip = CODE;
		g->regs.rsp = STACK;
		g->regs.rflags = flags[i].before;
		*(uint64_t *)ig_at(g, STACK) = flags[i].popped;
		assert_int_equal(ig_run(g, 1), after != 0);
		assert_int_equal(g->regs.rflags,
				 after ? after : flags[i].before);
		assert_int_equal(g->regs.rsp, after ? STACK + 8 : STACK);
	}
	/* RF and VM are not pushed; RF ends with an instruction. */
	set_code(g, 0x9c);
	g->regs.rflags = 0x30003 | FLAG_ID;
	assert_int_equal(ig_run(g, 1), 1);
	assert_int_equal(*(uint64_t *)ig_at(g, g->regs.rsp), 3 | FLAG_ID);
	assert_int_equal(g->regs.rflags, 0x20003 | FLAG_ID);
	free_guest(g);
}

/* ---- segments ------------------------------------------------------------ */

static void test_segments(void **state)
{
	struct iguest *g = new_guest();
	struct kvm_segment *const segment[] = {&g->sregs.es, &g->sregs.cs,
					       &g->sregs.ss, &g->sregs.ds,
					       &g->sregs.fs, &g->sregs.gs};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(segment); i++) {
		const uint8_t modrm = (uint8_t)(0xc0 | i << 3); /* EAX */

		segment[i]->selector = (uint16_t)(0x8001 + i * 0x10);
		g->regs.rax = g->regs.rbx = UINT64_MAX;
		set_code(g, 0x8c, modrm);
		assert_int_equal(ig_run(g, 1), 1);
		assert_int_equal(g->regs.rax, segment[i]->selector);
		g->regs.rax = UINT64_MAX;
		set_code(g, 0x66, 0x8c, modrm);
		assert_int_equal(ig_run(g, 1), 1);
		assert_true(g->regs.rax ==
			    ((UINT64_MAX << 16) | segment[i]->selector));
		/* To memory it is 16 bits, whatever the operand's size. */
		g->regs.rbx = DATA;
		*(uint64_t *)ig_at(g, DATA) = UINT64_MAX;
		set_code(g, 0x48, 0x8c, (uint8_t)(i << 3 | 3));
		assert_int_equal(ig_run(g, 1), 1);
		assert_true(*(uint64_t *)ig_at(g, DATA) ==
			    ((UINT64_MAX << 16) | segment[i]->selector));
	}
	*ig_pte(g, DATA) = 0;
	assert_stops(g, &(struct bytes){2, {0x8c, 0x1b}});
	free_guest(g);
}

static void test_bases(void **state)
{
	struct iguest *g = new_guest();

	(void)state;
	g->sregs.cr4 |= CR4_FSGSBASE;
	g->sregs.fs.base = UINT64_C(0x1122334455667788);
	g->sregs.gs.base = UINT64_C(0xffff888000000000);
	set_code(g, 0xf3, 0x48, 0x0f, 0xae, 0xc0, 0xf3, 0x49, 0x0f, 0xae, 0xc9,
		 0xf3, 0x0f, 0xae, 0xc3);
	g->regs.rbx = UINT64_MAX;
	assert_int_equal(ig_run(g, 1000), 3);
	assert_true(g->regs.rax == g->sregs.fs.base);
	assert_true(g->regs.r9 == g->sregs.gs.base);
	assert_int_equal(g->regs.rbx, 0x55667788);
	free_guest(g);
}

/* An IRET that changes nothing but RIP, RSP and ordinary flags; or KVM's. */
static void test_iret(void **state)
{
	const uint64_t to = CODE + 64, sp = STACK - 512;
	const struct {
		uint64_t flags, frame[5];
		bool known;
	} cases[] = {
		{2, {to, 0x10, 2, sp, 0x18}, true},
		{0x8d7, {to, 0x10, 2, sp, 0x18}, true},
		{2, {to, 0x10, 0x8d7 | FLAG_DF, sp, 0x18}, true},
		{2 | FLAG_IF, {to, 0x10, 2 | FLAG_IF, sp, 0x18}, true},
		{2, {to, 0x10, 2 | FLAG_IF, sp, 0x18}, false},
		{2 | FLAG_IF, {to, 0x10, 2, sp, 0x18}, false},
		{2, {to, 0x10, 2 | FLAG_TF, sp, 0x18}, false},
		{2, {to, 0x10, 2 | FLAG_RF, sp, 0x18}, false},
		{2, {to, 0x10, 2 | FLAG_ID, sp, 0x18}, false},
		{2, {to, 0x10, 0x20002, sp, 0x18}, false},     /* VM */
		{0x4002, {to, 0x10, 0x4002, sp, 0x18}, false}, /* NT */
		{2, {to, 0x33, 2, sp, 0x18}, false},
		{2, {to, 0x13, 2, sp, 0x18}, false},
		{2, {to, 0x10, 2, sp, 0x2b}, false},
		{2, {UINT64_C(1) << 47, 0x10, 2, sp, 0x18}, false},
	};
	struct iguest *g = new_guest();

	(void)state;
	g->sregs.cs.selector = 0x10;
	g->sregs.ss.selector = 0x18;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		set_code(g, 0x48, 0xcf);
		*ig_at(g, to) = STOP;
		g->regs.rsp = STACK - 40;
		g->regs.rflags = cases[i].flags;
		memcpy(ig_at(g, g->regs.rsp), cases[i].frame,
		       sizeof(cases[i].frame));
		assert_int_equal(ig_run(g, 1000), cases[i].known);
		assert_true(g->regs.rip == (cases[i].known ? to : CODE));
		assert_true(g->regs.rsp == (cases[i].known ? sp : STACK - 40));
		assert_true(
			g->regs.rflags ==
			(cases[i].known ? cases[i].frame[2] : cases[i].flags));
	}
	/* A frame that is not all there. */
	*ig_pte(g, STACK) = 0;
	g->regs.rsp = STACK - 32;
	assert_stops(g, &(struct bytes){2, {0x48, 0xcf}});
	free_guest(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rip_zero),
		cmocka_unit_test(test_string_fault),
		cmocka_unit_test(test_string_short),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_split_lock),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_across_pages),
		cmocka_unit_test(test_control_registers),
		cmocka_unit_test(test_rights),
		cmocka_unit_test(test_smap),
		cmocka_unit_test(test_code_changes),
		cmocka_unit_test(test_page_border),
		cmocka_unit_test(test_code_written),
		cmocka_unit_test(test_code_remapped),
		cmocka_unit_test(test_large_rights),
		cmocka_unit_test(test_large_remapped),
		cmocka_unit_test(test_interrupt_flag),
		cmocka_unit_test(test_popf),
		cmocka_unit_test(test_segments),
		cmocka_unit_test(test_bases),
		cmocka_unit_test(test_iret),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
