/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instructions finished in software against the same instructions executed by
 * this processor, on random and on odd values; then what no user program can
 * execute, and the faults, against what the SDM says.
 */
#include "tests/assist.h"

#include <cpuid.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define ROUNDS 300

struct world {
	struct guest *g;
	uint8_t *ram;  /* the guest's */
	uint8_t *data; /* what RSI points to when run natively */
	uint8_t *code; /* executable */
	uint64_t seed;
};

/* Corners as often as anything. */
static uint64_t odd_value(struct world *w)
{
	static const uint64_t corners[] = {
		0,
		1,
		UINT64_MAX,
		UINT32_MAX,
		0x80000000,
		0x7fffffff,
		UINT64_C(1) << 63,
		0x1020,
		0xff00,
		64,
		32,
		0x3f08,
	};
	uint64_t r = guest_random(&w->seed);

	if (r % 3 == 0)
		return corners[r / 3 % ARRAY_LEN(corners)];
	return r % 3 == 1 ? r >> (r % 61) : r;
}

/*
 * Loads RAX, RBX, RCX, RDX, RSI, R8, R9 and the status flags, calls CODE (which
 * ends in RET), and stores them again.
 */
static void run_native(struct kvm_regs *regs, const uint8_t *code)
{
	uint64_t v[8] = {regs->rax, regs->rbx,
			 regs->rcx, regs->rdx,
			 regs->rsi, regs->r8,
			 regs->r9,  (regs->rflags & FLAGS_STATUS) | 0x202};

	__asm__ volatile("pushq %%rbx\n\t"
			 "pushq %[v]\n\t"
			 "movq %[v], %%r15\n\t"
			 "movq %[code], %%r14\n\t"
			 "movq 0(%%r15), %%rax\n\t"
			 "movq 8(%%r15), %%rbx\n\t"
			 "movq 16(%%r15), %%rcx\n\t"
			 "movq 24(%%r15), %%rdx\n\t"
			 "movq 32(%%r15), %%rsi\n\t"
			 "movq 40(%%r15), %%r8\n\t"
			 "movq 48(%%r15), %%r9\n\t"
			 "pushq 56(%%r15)\n\t"
			 "popfq\n\t"
			 "call *%%r14\n\t"
			 "pushfq\n\t"
			 "popq 56(%%r15)\n\t"
			 "movq %%rax, 0(%%r15)\n\t"
			 "movq %%rbx, 8(%%r15)\n\t"
			 "movq %%rcx, 16(%%r15)\n\t"
			 "movq %%rdx, 24(%%r15)\n\t"
			 "movq %%rsi, 32(%%r15)\n\t"
			 "movq %%r8, 40(%%r15)\n\t"
			 "movq %%r9, 48(%%r15)\n\t"
			 "popq %%rax\n\t"
			 "popq %%rbx\n\t"
			 :
			 : [v] "D"(v), [code] "r"(code)
			 : "rax", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11",
			   "r14", "r15", "memory", "cc");
	regs->rax = v[0];
	regs->rbx = v[1];
	regs->rcx = v[2];
	regs->rdx = v[3];
	regs->rsi = v[4];
	regs->r8 = v[5];
	regs->r9 = v[6];
	regs->rflags = v[7];
}

/* Which CPUID bit says that this processor has it. */
enum feature {
	ALWAYS,
	POPCNT,
	LZCNT,
	SSE42,
	MOVBE,
	CX16,
	ADX,
	BMI1,
	BMI2,
	MOVDIRI
};

static bool has(enum feature feature)
{
	unsigned a, b1, c1, d, b7, c7, ce;

	__cpuid(1, a, b1, c1, d);
	__cpuid_count(7, 0, a, b7, c7, d);
	__cpuid(0x80000001, a, b1, ce, d);
	__cpuid(1, a, b1, c1, d);
	switch (feature) {
	case POPCNT:
		return c1 >> 23 & 1;
	case LZCNT:
		return ce >> 5 & 1;
	case SSE42:
		return c1 >> 20 & 1;
	case MOVBE:
		return c1 >> 22 & 1;
	case CX16:
		return c1 >> 13 & 1;
	case ADX:
		return b7 >> 19 & 1;
	case BMI1:
		return b7 >> 3 & 1;
	case BMI2:
		return b7 >> 8 & 1;
	case MOVDIRI:
		return c7 >> 27 & 1;
	default:
		return true;
	}
}

struct sample {
	const char *text;
	uint8_t code[12];
	uint8_t len;
	enum feature feature;
	uint64_t flags; /* those that the SDM defines */
};

#define ALL FLAGS_STATUS
#define CZ  (FLAG_CF | FLAG_ZF)
#define SZ  (FLAG_SF | FLAG_ZF | FLAG_CF | FLAG_OF)

/* clang-format off */
static const struct sample samples[] = {
	{"popcnt %rax,%rbx", {0xf3,0x48,0x0f,0xb8,0xd8}, 5, POPCNT, ALL},
	{"popcnt %eax,%ebx", {0xf3,0x0f,0xb8,0xd8}, 4, POPCNT, ALL},
	{"popcnt %ax,%bx", {0x66,0xf3,0x0f,0xb8,0xd8}, 5, POPCNT, ALL},
	{"popcnt (%rsi),%rbx", {0xf3,0x48,0x0f,0xb8,0x1e}, 5, POPCNT, ALL},
	{"lzcnt %rax,%rbx", {0xf3,0x48,0x0f,0xbd,0xd8}, 5, LZCNT, CZ},
	{"lzcnt %eax,%ebx", {0xf3,0x0f,0xbd,0xd8}, 4, LZCNT, CZ},
	{"lzcnt %ax,%bx", {0x66,0xf3,0x0f,0xbd,0xd8}, 5, LZCNT, CZ},
	{"tzcnt %rax,%rbx", {0xf3,0x48,0x0f,0xbc,0xd8}, 5, BMI1, CZ},
	{"tzcnt %ax,%bx", {0x66,0xf3,0x0f,0xbc,0xd8}, 5, BMI1, CZ},
	{"crc32b %al,%ebx", {0xf2,0x0f,0x38,0xf0,0xd8}, 5, SSE42, 0},
	{"crc32b %ah,%ebx", {0xf2,0x0f,0x38,0xf0,0xdc}, 5, SSE42, 0},
	{"crc32w %ax,%ebx", {0x66,0xf2,0x0f,0x38,0xf1,0xd8}, 6, SSE42, 0},
	{"crc32l %eax,%ebx", {0xf2,0x0f,0x38,0xf1,0xd8}, 5, SSE42, 0},
	{"crc32q %rax,%rbx", {0xf2,0x48,0x0f,0x38,0xf1,0xd8}, 6, SSE42, 0},
	{"crc32q (%rsi),%rbx", {0xf2,0x48,0x0f,0x38,0xf1,0x1e}, 6, SSE42, 0},
	{"movbe (%rsi),%rax", {0x48,0x0f,0x38,0xf0,0x06}, 5, MOVBE, 0},
	{"movbe (%rsi),%ax", {0x66,0x0f,0x38,0xf0,0x06}, 5, MOVBE, 0},
	{"movbe %eax,8(%rsi)", {0x0f,0x38,0xf1,0x46,0x08}, 5, MOVBE, 0},
	{"movbe %ax,(%rsi)", {0x66,0x0f,0x38,0xf1,0x06}, 5, MOVBE, 0},
	{"adcx %rax,%rbx", {0x66,0x48,0x0f,0x38,0xf6,0xd8}, 6, ADX, ALL},
	{"adcx %eax,%ebx", {0x66,0x0f,0x38,0xf6,0xd8}, 5, ADX, ALL},
	{"adox %rax,%rbx", {0xf3,0x48,0x0f,0x38,0xf6,0xd8}, 6, ADX, ALL},
	{"adox (%rsi),%ebx", {0xf3,0x0f,0x38,0xf6,0x1e}, 5, ADX, ALL},
	{"andn %rax,%rbx,%rcx", {0xc4,0xe2,0xe0,0xf2,0xc8}, 5, BMI1, SZ},
	{"andn %eax,%ebx,%ecx", {0xc4,0xe2,0x60,0xf2,0xc8}, 5, BMI1, SZ},
	{"bextr %rax,%rbx,%rcx", {0xc4,0xe2,0xf8,0xf7,0xcb}, 5, BMI1,
	 FLAG_ZF | FLAG_CF | FLAG_OF},
	{"bextr %eax,%ebx,%ecx", {0xc4,0xe2,0x78,0xf7,0xcb}, 5, BMI1,
	 FLAG_ZF | FLAG_CF | FLAG_OF},
	{"blsi %rax,%rbx", {0xc4,0xe2,0xe0,0xf3,0xd8}, 5, BMI1, SZ},
	{"blsi %eax,%ebx", {0xc4,0xe2,0x60,0xf3,0xd8}, 5, BMI1, SZ},
	{"blsr %rax,%rbx", {0xc4,0xe2,0xe0,0xf3,0xc8}, 5, BMI1, SZ},
	{"blsmsk %rax,%rbx", {0xc4,0xe2,0xe0,0xf3,0xd0}, 5, BMI1, SZ},
	{"blsmsk %eax,%ebx", {0xc4,0xe2,0x60,0xf3,0xd0}, 5, BMI1, SZ},
	{"bzhi %rax,%rbx,%rcx", {0xc4,0xe2,0xf8,0xf5,0xcb}, 5, BMI2, SZ},
	{"bzhi %eax,%ebx,%ecx", {0xc4,0xe2,0x78,0xf5,0xcb}, 5, BMI2, SZ},
	{"mulx %rax,%rbx,%rcx", {0xc4,0xe2,0xe3,0xf6,0xc8}, 5, BMI2, ALL},
	{"mulx %eax,%ebx,%ecx", {0xc4,0xe2,0x63,0xf6,0xc8}, 5, BMI2, ALL},
	{"mulx %rax,%rbx,%rbx", {0xc4,0xe2,0xe3,0xf6,0xd8}, 5, BMI2, ALL},
	{"pdep %rax,%rbx,%rcx", {0xc4,0xe2,0xe3,0xf5,0xc8}, 5, BMI2, ALL},
	{"pext %rax,%rbx,%rcx", {0xc4,0xe2,0xe2,0xf5,0xc8}, 5, BMI2, ALL},
	{"pext (%rsi),%ebx,%ecx", {0xc4,0xe2,0x62,0xf5,0x0e}, 5, BMI2, ALL},
	{"rorx $3,%rax,%rcx", {0xc4,0xe3,0xfb,0xf0,0xc8,0x03}, 6, BMI2, ALL},
	{"rorx $37,%eax,%ecx", {0xc4,0xe3,0x7b,0xf0,0xc8,0x25}, 6, BMI2, ALL},
	{"rorx $0,%rax,%rcx", {0xc4,0xe3,0xfb,0xf0,0xc8,0x00}, 6, BMI2, ALL},
	{"sarx %rax,%rbx,%rcx", {0xc4,0xe2,0xfa,0xf7,0xcb}, 5, BMI2, ALL},
	{"sarx %eax,%ebx,%ecx", {0xc4,0xe2,0x7a,0xf7,0xcb}, 5, BMI2, ALL},
	{"shlx %rax,%rbx,%rcx", {0xc4,0xe2,0xf9,0xf7,0xcb}, 5, BMI2, ALL},
	{"shrx %eax,(%rsi),%ecx", {0xc4,0xe2,0x7b,0xf7,0x0e}, 5, BMI2, ALL},
	{"shrx %r8,%r9,%rcx", {0xc4,0xc2,0xbb,0xf7,0xc9}, 5, BMI2, ALL},
	{"cmpxchg16b (%rsi)", {0x48,0x0f,0xc7,0x0e}, 4, CX16, ALL},
	{"lock cmpxchg16b 16(%rsi)", {0xf0,0x48,0x0f,0xc7,0x4e,0x10}, 6, CX16,
	 ALL},
	{"movnti %rax,8(%rsi)", {0x48,0x0f,0xc3,0x46,0x08}, 5, ALWAYS, ALL},
	{"movdiri %rax,(%rsi)", {0x48,0x0f,0x38,0xf9,0x06}, 5, MOVDIRI, ALL},
};
/* clang-format on */

static void random_registers(struct world *w, const struct sample *s)
{
	struct kvm_regs *r = &w->g->regs;

	*r = (struct kvm_regs){.rax = odd_value(w),
			       .rbx = odd_value(w),
			       .rcx = odd_value(w),
			       .rdx = odd_value(w),
			       .r8 = odd_value(w),
			       .r9 = odd_value(w),
			       .rflags = (odd_value(w) & FLAGS_STATUS) | 0x202};
	for (unsigned i = 0; i < 64; i += 8) {
		uint64_t value = odd_value(w);

		memcpy(w->data + i, &value, 8);
	}
	/* Half of the comparisons are to find what they look for. */
	if (s->feature == CX16 && (guest_random(&w->seed) & 1)) {
		memcpy(w->data, &r->rax, 8);
		memcpy(w->data + 8, &r->rdx, 8);
		memcpy(w->data + 16, &r->rax, 8);
		memcpy(w->data + 24, &r->rdx, 8);
	}
	memcpy(w->ram + GUEST_DATA, w->data, 64);
}

static void compare_once(struct world *w, const struct sample *s)
{
	struct kvm_regs native, *soft = &w->g->regs;
	uint64_t flags = s->flags | ~FLAGS_STATUS;

	random_registers(w, s);
	native = *soft;
	native.rsi = (uintptr_t)w->data;
	soft->rsi = GUEST_VA;
	soft->rip = 0x1000;
	run_native(&native, w->code);
	assert_int_equal(guest_run(w->g, s->code, s->len), 0);
	assert_int_equal(soft->rip, 0x1000 + s->len);
	assert_int_equal(soft->rax, native.rax);
	assert_int_equal(soft->rbx, native.rbx);
	assert_int_equal(soft->rcx, native.rcx);
	assert_int_equal(soft->rdx, native.rdx);
	assert_int_equal(soft->r8, native.r8);
	assert_int_equal(soft->r9, native.r9);
	assert_int_equal(soft->rflags & flags, native.rflags & flags);
	assert_memory_equal(w->ram + GUEST_DATA, w->data, 64);
}

static void test_native(void **state)
{
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
		const struct sample *s = &samples[i];

		if (!has(s->feature)) {
			print_message("%s: not on this processor\n", s->text);
			continue;
		}
		print_message("%s\n", s->text);
		memcpy(w->code, s->code, s->len);
		w->code[s->len] = 0xc3;
		for (unsigned n = 0; n < ROUNDS; n++)
			compare_once(w, s);
	}
}

/* ---- what only a kernel may, and faults -----------------------------------
 */

static void test_system(void **state)
{
	struct world *w = *state;
	struct guest *g = w->g;

	assert_int_equal(guest_run(g, (uint8_t[]){0x0f, 0x01, 0xcb}, 3), 0);
	assert_true(g->regs.rflags & FLAG_AC);
	assert_int_equal(guest_run(g, (uint8_t[]){0x0f, 0x01, 0xca}, 3), 0);
	assert_false(g->regs.rflags & FLAG_AC);
	assert_int_equal(g->regs.rip, 6);
	/* INT3 is a trap: RIP is past it. */
	assert_int_equal(guest_run(g, (uint8_t[]){0xcc}, 1), EXEC_TRAP);
	assert_int_equal(g->exec.fault.vector, EXC_BP);
	assert_int_equal(g->regs.rip, 7);
	/* Single-stepping goes on after an assist. */
	g->regs.rflags |= FLAG_TF;
	assert_int_equal(guest_run(g, (uint8_t[]){0x9b}, 1), EXEC_TRAP);
	assert_int_equal(g->exec.fault.vector, EXC_DB);
	g->regs.rflags &= ~FLAG_TF;
	/* FWAIT reports what waits. */
	g->fpu[2] = 0x80;
	assert_int_equal(guest_run(g, (uint8_t[]){0x9b}, 1), -EFAULT);
	assert_int_equal(g->exec.fault.vector, 16);
	assert_int_equal(g->regs.rip, 8);
	/* XGETBV, RDTSCP, RDPID. */
	g->regs.rcx = 0;
	g->xcr0 = UINT64_C(0x1000000e7);
	assert_int_equal(guest_run(g, (uint8_t[]){0x0f, 0x01, 0xd0}, 3), 0);
	assert_int_equal(g->regs.rax, 0xe7);
	assert_int_equal(g->regs.rdx, 1);
	g->tsc_aux = 0x1001;
	assert_int_equal(guest_run(g, (uint8_t[]){0x0f, 0x01, 0xf9}, 3), 0);
	assert_int_equal(g->regs.rcx, 0x1001);
	assert_int_equal(guest_run(g, (uint8_t[]){0xf3, 0x0f, 0xc7, 0xfb}, 4),
			 0);
	assert_int_equal(g->regs.rbx, 0x1001);
	/* UD1 is what it says. */
	assert_int_equal(guest_run(g, (uint8_t[]){0x0f, 0xb9, 0xc0}, 3),
			 -EFAULT);
	assert_int_equal(g->exec.fault.vector, EXC_UD);
	/* Known by name only, and not at all. */
	assert_int_equal(guest_run(g, (uint8_t[]){0x66, 0x0f, 0xef, 0xc0}, 4),
			 -ENOSYS);
	assert_int_equal(guest_run(g, (uint8_t[]){0x0f, 0x58, 0xc0}, 3),
			 -ENOSYS);
}

static void test_invpcid(void **state)
{
	static const uint8_t invpcid[] = {0x66, 0x0f, 0x38, 0x82, 0x1e};
	struct world *w = *state;
	struct guest *g = w->g;

	memset(w->ram + GUEST_DATA, 0, 16);
	g->regs.rsi = GUEST_VA;
	g->regs.rbx = 2;
	assert_int_equal(guest_run(g, invpcid, 5), 0);
	assert_true(g->exec.flush_tlb);
	g->regs.rbx = 4;
	assert_int_equal(guest_run(g, invpcid, 5), -EFAULT);
	g->regs.rbx = 0;
	w->ram[GUEST_DATA] = 1; /* a PCID while CR4.PCIDE is clear */
	assert_int_equal(guest_run(g, invpcid, 5), -EFAULT);
	assert_int_equal(g->exec.fault.vector, EXC_GP);
}

/* VERW %ax, LSL %ax,%ebx and LAR %ax,%ebx on a GDT in guest memory. */
static void test_descriptors(void **state)
{
	static const uint8_t verw[] = {0x0f, 0x00, 0xe8};
	static const uint8_t verr[] = {0x0f, 0x00, 0xe0};
	static const uint8_t lsl[] = {0x0f, 0x03, 0xd8};
	static const uint8_t lar[] = {0x0f, 0x02, 0xd8};
	struct world *w = *state;
	struct guest *g = w->g;
	uint64_t *gdt = (uint64_t *)(w->ram + GUEST_DATA + 0x1000);

	gdt[1] = UINT64_C(0x00af9b000000ffff); /* code */
	gdt[2] = UINT64_C(0x00cf93000000ffff); /* data */
	gdt[3] = UINT64_C(0x0040f2000000010f); /* data, by bytes */
	g->sregs.gdt.base = GUEST_VA + 0x1000;
	g->sregs.gdt.limit = 31;
	g->regs.rax = 0x10;
	assert_int_equal(guest_run(g, verw, 3), 0);
	assert_true(g->regs.rflags & FLAG_ZF);
	g->regs.rax = 8;
	assert_int_equal(guest_run(g, verw, 3), 0);
	assert_false(g->regs.rflags & FLAG_ZF);
	assert_int_equal(guest_run(g, verr, 3), 0);
	assert_true(g->regs.rflags & FLAG_ZF);
	g->regs.rax = 0x18;
	assert_int_equal(guest_run(g, lsl, 3), 0);
	assert_int_equal(g->regs.rbx, 0x10f);
	assert_int_equal(guest_run(g, lar, 3), 0);
	assert_int_equal(g->regs.rbx, 0x40f200);
	g->regs.rax = 0x20; /* beyond the limit */
	assert_int_equal(guest_run(g, lsl, 3), 0);
	assert_false(g->regs.rflags & FLAG_ZF);
	assert_int_equal(g->regs.rbx, 0x40f200);
}

static void test_faults(void **state)
{
	static const uint8_t cx16[] = {0xf0, 0x48, 0x0f, 0xc7, 0x0e};
	static const uint8_t xsave[] = {0x48, 0x0f, 0xae, 0x26};
	struct world *w = *state;
	struct guest *g = w->g;
	struct kvm_regs before;

	g->regs.rsi = GUEST_VA + 8; /* not aligned */
	assert_int_equal(guest_run(g, cx16, 5), -EFAULT);
	assert_int_equal(g->exec.fault.vector, EXC_GP);
	/* Copy on write: the page is there, and read only. */
	*guest_pte(g, 0) &= ~UINT64_C(2);
	g->regs.rsi = GUEST_VA;
	before = g->regs;
	assert_int_equal(guest_run(g, cx16, 5), -EFAULT);
	assert_int_equal(g->exec.fault.vector, EXC_PF);
	assert_int_equal(g->exec.fault.error_code, 3);
	assert_int_equal(g->exec.fault.cr2, GUEST_VA);
	assert_memory_equal(&before, &g->regs, sizeof(before));
	/* A user's page: SMAP forbids it without AC. */
	*guest_pte(g, 0) |= 6;
	g->sregs.cr4 |= CR4_SMAP;
	g->regs.rax = g->regs.rdx = UINT32_MAX;
	assert_int_equal(guest_run(g, xsave, 4), -EFAULT);
	assert_int_equal(g->exec.fault.vector, EXC_PF);
	g->regs.rflags |= FLAG_AC;
	g->xcr0 = 3;
	assert_int_equal(guest_run(g, xsave, 4), 0);
	/* Its second page is not there. */
	*guest_pte(g, 1) = 0;
	g->regs.rsi = GUEST_VA + 4096 - 512;
	assert_int_equal(guest_run(g, xsave, 4), -EFAULT);
	assert_int_equal(g->exec.fault.cr2, GUEST_VA + 4096);
	/* Not canonical: #GP, and #SS with a stack register. */
	g->regs.rsi = UINT64_C(1) << 62;
	assert_int_equal(guest_run(g, cx16, 5), -EFAULT);
	assert_int_equal(g->exec.fault.vector, EXC_GP);
	g->regs.rbp = UINT64_C(1) << 62;
	assert_int_equal(
		guest_run(g, (uint8_t[]){0x48, 0x0f, 0xc7, 0x4d, 0x00}, 5),
		-EFAULT);
	assert_int_equal(g->exec.fault.vector, EXC_SS);
	/* A device's memory is no one's fault. */
	*guest_pte(g, 0) = UINT64_C(0xd0000003);
	g->regs.rsi = GUEST_VA;
	assert_int_equal(guest_run(g, cx16, 5), -ENXIO);
}

/* LDMXCSR and STMXCSR. */
static void test_mxcsr(void **state)
{
	static const uint8_t ld[] = {0x0f, 0xae, 0x16};
	static const uint8_t st[] = {0x0f, 0xae, 0x5e, 0x04};
	struct world *w = *state;
	struct guest *g = w->g;
	uint32_t value = 0x1fa0, back;

	g->regs.rsi = GUEST_VA;
	memcpy(w->ram + GUEST_DATA, &value, 4);
	assert_int_equal(guest_run(g, ld, 3), 0);
	assert_int_equal(g->fpu_stores, 1);
	assert_int_equal(guest_run(g, st, 4), 0);
	memcpy(&back, w->ram + GUEST_DATA + 4, 4);
	assert_int_equal(back, value);
	/* Denormals are zeros: a bit of its own, whatever KVM's area says. */
	value = 0x1f80 | (g->layout.mxcsr_mask & 0x40);
	memcpy(w->ram + GUEST_DATA, &value, 4);
	assert_int_equal(guest_run(g, ld, 3), 0);
	value = ~g->layout.mxcsr_mask & 0x80000000;
	memcpy(w->ram + GUEST_DATA, &value, 4);
	assert_int_equal(guest_run(g, ld, 3), -EFAULT);
	assert_int_equal(g->exec.fault.vector, EXC_GP);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->g = aligned_alloc(64, align_up(sizeof(*w->g), 64));
	w->ram = aligned_alloc(4096, GUEST_BYTES);
	w->data = aligned_alloc(64, 4096);
	w->code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_non_null(w->g);
	assert_non_null(w->ram);
	assert_non_null(w->data);
	assert_ptr_not_equal(w->code, MAP_FAILED);
	w->seed = UINT64_C(0x9e3779b97f4a7c15);
	memset(w->ram, 0, GUEST_BYTES);
	guest_init(w->g, w->ram, NULL);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	munmap(w->code, 4096);
	free(w->data);
	guest_done(w->g);
	free(w->ram);
	free(w->g);
	free(w);
	return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_native),      TEST(test_system), TEST(test_invpcid),
		TEST(test_descriptors), TEST(test_faults), TEST(test_mxcsr),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
