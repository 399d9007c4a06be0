/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interpreter against this processor: every instruction it knows, on random
 * operands, registers and flags, runs here natively and there interpreted, at
 * the same addresses, on the same memory; then registers, the flags that the
 * SDM defines, and memory have to be the same. Behaviour that only the
 * interpreter has (faults, budget, the code cache) is test-interp.c's.
 */
#include "tests/native.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <cpuid.h>
#include <stdio.h>

/* Any number, and often one at which something overflows. */
static uint64_t value(uint64_t *seed)
{
	static const uint64_t edge[] = {0,
					1,
					2,
					0x7f,
					0x80,
					0xff,
					0x7fff,
					0x8000,
					0xffff,
					0x10,
					0x20,
					0x40,
					0x7fffffff,
					0x80000000,
					~0ULL,
					1ULL << 63,
					(1ULL << 63) - 1,
					0xffffffff,
					~0ULL - 1,
					0x8080808080808080};
	uint64_t pick = rnd(seed);

	if (pick & 3)
		return rnd(seed) >> (pick >> 8 & 3 ? 0 : pick >> 16 & 63);
	return edge[pick / 4 % ARRAY_LEN(edge)];
}

/* ---- instructions -------------------------------------------------------- */

enum {
	BYTE = 1,      /* the lowest bit of the opcode: not bytes */
	LOCK = 2,      /* may be locked when it works on memory */
	NO_REG = 4,    /* memory only */
	NO_MEM = 8,    /* registers only */
	WRITES = 16,   /* the ModRM operand */
	STOPS = 32,    /* may be left to KVM: #DE, or rare */
	OPREG = 64,    /* the register is in the opcode */
	PLAIN = 128,   /* no operand in ModRM, none in the opcode */
	STACKED = 256, /* needs RSP, so no operand has it as base */
	CC = 512,      /* 16 opcodes in a row, one per condition */
};

enum immediate { NONE, IMM8, IMMZ, IMMV };

/* The kinds of instruction that leave flags undefined. */
enum undefined {
	ALL_DEFINED,
	LOGIC,
	SHIFT,
	ROTATE,
	DOUBLE,
	MUL,
	DIV,
	BIT,
	SCAN,
	COUNT,
};

#define S1  1
#define S2  2
#define S4  4
#define S8  8
#define S48 12
#define SW  14
#define SB  15

struct form {
	const char *name;
	uint8_t map, opcode; /* map: 0, or 0x0f */
	int8_t ext;          /* ModRM's reg field, or -1: a register */
	uint8_t sizes;
	uint8_t imm;
	uint16_t traits;
	uint8_t undefined;
	uint8_t prefix;
};

#define ALU_FORMS(name, n, lock, undef)                                        \
	{name " r/m, r", 0, 8 * (n), -1, SB, 0, BYTE | (lock), undef, 0},      \
		{name " r, r/m", 0, 8 * (n) + 2, -1, SB, 0, BYTE, undef, 0},   \
		{name " a, imm", 0, 8 * (n) + 4, 0, SB, IMMZ, BYTE | PLAIN,    \
		 undef,          0},                                           \
		{name " r/m, imm", 0,     0x80, n, SB, IMMZ,                   \
		 BYTE | (lock),    undef, 0},                                  \
	{                                                                      \
		name " r/m, imm8", 0, 0x83, n, SW, IMM8, (lock), undef, 0      \
	}

#define SHIFT_FORMS(name, n, undef)                                            \
	{name " r/m, imm8", 0, 0xc0, n, SB, IMM8, BYTE | WRITES, undef, 0},    \
		{name " r/m, 1", 0, 0xd0, n, SB, 0, BYTE | WRITES, undef, 0},  \
	{                                                                      \
		name " r/m, cl", 0, 0xd2, n, SB, 0, BYTE | WRITES, undef, 0    \
	}

#define BIT_FORMS(name, n, lock)                                               \
	{name " r/m, r", 0x0f, 0x83 + 8 * (n), -1, SW, 0, (lock), BIT, 0},     \
	{                                                                      \
		name " r/m, imm", 0x0f, 0xba, n, SW, IMM8, (lock), BIT, 0      \
	}

static const struct form forms[] = {
	ALU_FORMS("add", 0, LOCK | WRITES, ALL_DEFINED),
	ALU_FORMS("or", 1, LOCK | WRITES, LOGIC),
	ALU_FORMS("adc", 2, LOCK | WRITES, ALL_DEFINED),
	ALU_FORMS("sbb", 3, LOCK | WRITES, ALL_DEFINED),
	ALU_FORMS("and", 4, LOCK | WRITES, LOGIC),
	ALU_FORMS("sub", 5, LOCK | WRITES, ALL_DEFINED),
	ALU_FORMS("xor", 6, LOCK | WRITES, LOGIC),
	ALU_FORMS("cmp", 7, 0, ALL_DEFINED),
	{"test r/m, r", 0, 0x84, -1, SB, 0, BYTE, LOGIC, 0},
	{"test a, imm", 0, 0xa8, 0, SB, IMMZ, BYTE | PLAIN, LOGIC, 0},
	{"test r/m, imm", 0, 0xf6, 0, SB, IMMZ, BYTE, LOGIC, 0},
	{"inc", 0, 0xfe, 0, SB, 0, BYTE | LOCK | WRITES, 0, 0},
	{"dec", 0, 0xfe, 1, SB, 0, BYTE | LOCK | WRITES, 0, 0},
	{"not", 0, 0xf6, 2, SB, 0, BYTE | LOCK | WRITES, 0, 0},
	{"neg", 0, 0xf6, 3, SB, 0, BYTE | LOCK | WRITES, 0, 0},
	{"mul", 0, 0xf7, 4, SW, 0, 0, MUL, 0},
	{"imul", 0, 0xf7, 5, SW, 0, 0, MUL, 0},
	{"div", 0, 0xf7, 6, SW, 0, STOPS, DIV, 0},
	{"idiv", 0, 0xf7, 7, SW, 0, STOPS, DIV, 0},
	{"mul of bytes", 0, 0xf6, 4, S1, 0, STOPS, MUL, 0},
	{"div of bytes", 0, 0xf6, 6, S1, 0, STOPS, DIV, 0},
	{"imul r, r/m", 0x0f, 0xaf, -1, SW, 0, 0, MUL, 0},
	{"imul r, r/m, imm", 0, 0x69, -1, SW, IMMZ, 0, MUL, 0},
	{"imul r, r/m, imm8", 0, 0x6b, -1, SW, IMM8, 0, MUL, 0},
	SHIFT_FORMS("rol", 0, ROTATE),
	SHIFT_FORMS("ror", 1, ROTATE),
	SHIFT_FORMS("shl", 4, SHIFT),
	SHIFT_FORMS("shr", 5, SHIFT),
	SHIFT_FORMS("sal", 6, SHIFT),
	SHIFT_FORMS("sar", 7, SHIFT),
	{"shld imm8", 0x0f, 0xa4, -1, S48, IMM8, WRITES, DOUBLE, 0},
	{"shld cl", 0x0f, 0xa5, -1, S48, 0, WRITES, DOUBLE, 0},
	{"shrd imm8", 0x0f, 0xac, -1, S48, IMM8, WRITES, DOUBLE, 0},
	{"shrd cl", 0x0f, 0xad, -1, S48, 0, WRITES, DOUBLE, 0},
	BIT_FORMS("bt", 4, 0),
	BIT_FORMS("bts", 5, LOCK | WRITES),
	BIT_FORMS("btr", 6, LOCK | WRITES),
	BIT_FORMS("btc", 7, LOCK | WRITES),
	{"bsf", 0x0f, 0xbc, -1, SW, 0, 0, SCAN, 0},
	{"bsr", 0x0f, 0xbd, -1, SW, 0, 0, SCAN, 0},
	{"tzcnt", 0x0f, 0xbc, -1, SW, 0, 0, COUNT, 0xf3},
	{"lzcnt", 0x0f, 0xbd, -1, SW, 0, 0, COUNT, 0xf3},
	{"popcnt", 0x0f, 0xb8, -1, SW, 0, 0, ALL_DEFINED, 0xf3},
	{"bswap", 0x0f, 0xc8, 0, S48, 0, OPREG, 0, 0},
	{"xadd", 0x0f, 0xc0, -1, SB, 0, BYTE | LOCK | WRITES, 0, 0},
	{"cmpxchg", 0x0f, 0xb0, -1, SB, 0, BYTE | LOCK | WRITES, 0, 0},
	{"xchg", 0, 0x86, -1, SB, 0, BYTE | LOCK | WRITES, 0, 0},
	{"xchg a", 0, 0x90, 0, SW, 0, OPREG, 0, 0},
	{"pause", 0, 0x90, 0, S4, 0, PLAIN, 0, 0xf3},
	{"mov r/m, r", 0, 0x88, -1, SB, 0, BYTE | WRITES, 0, 0},
	{"mov r, r/m", 0, 0x8a, -1, SB, 0, BYTE, 0, 0},
	{"mov r/m, imm", 0, 0xc6, 0, SB, IMMZ, BYTE | WRITES, 0, 0},
	{"mov r8, imm8", 0, 0xb0, 0, S1, IMM8, OPREG, 0, 0},
	{"mov r, imm", 0, 0xb8, 0, SW, IMMV, OPREG, 0, 0},
	{"movzx r8", 0x0f, 0xb6, -1, SW, 0, 0, 0, 0},
	{"movzx r16", 0x0f, 0xb7, -1, SW, 0, 0, 0, 0},
	{"movsx r8", 0x0f, 0xbe, -1, SW, 0, 0, 0, 0},
	{"movsx r16", 0x0f, 0xbf, -1, SW, 0, 0, 0, 0},
	{"movsxd", 0, 0x63, -1, S48, 0, 0, 0, 0},
	{"lea", 0, 0x8d, -1, SW, 0, NO_REG, 0, 0},
	{"setcc", 0x0f, 0x90, 0, S1, 0, CC | WRITES, 0, 0},
	{"cmovcc", 0x0f, 0x40, -1, SW, 0, CC, 0, 0},
	{"cbw cwde cdqe", 0, 0x98, 0, SW, 0, PLAIN, 0, 0},
	{"cwd cdq cqo", 0, 0x99, 0, SW, 0, PLAIN, 0, 0},
	{"push r", 0, 0x50, 0, S4, 0, OPREG, 0, 0},
	{"push imm", 0, 0x68, 0, S4, IMMZ, PLAIN, 0, 0},
	{"push imm8", 0, 0x6a, 0, S4, IMM8, PLAIN, 0, 0},
	{"push r/m", 0, 0xff, 6, S4, 0, STACKED, 0, 0},
	{"pop r", 0, 0x58, 0, S4, 0, OPREG, 0, 0},
	{"pushf", 0, 0x9c, 0, S4, 0, PLAIN, 0, 0},
	{"clc", 0, 0xf8, 0, S4, 0, PLAIN, 0, 0},
	{"stc", 0, 0xf9, 0, S4, 0, PLAIN, 0, 0},
	{"cld", 0, 0xfc, 0, S4, 0, PLAIN, 0, 0},
	{"nop r/m", 0x0f, 0x1f, 0, SW, 0, 0, 0, 0},
	{"prefetch", 0x0f, 0x18, 1, S4, 0, NO_REG, 0, 0},
	{"prefetchw", 0x0f, 0x0d, 1, S4, 0, NO_REG, 0, 0},
	{"endbr64", 0x0f, 0x1e, 7, S4, 0, NO_MEM, 0, 0xf3},
	{"lfence", 0x0f, 0xae, 5, S4, 0, NO_MEM, 0, 0},
	{"mfence", 0x0f, 0xae, 6, S4, 0, NO_MEM, 0, 0},
	{"sfence", 0x0f, 0xae, 7, S4, 0, NO_MEM, 0, 0},
	{"clflush", 0x0f, 0xae, 7, S4, 0, NO_REG, 0, 0},
};

/* One instruction as it is built, and what it starts with. */
struct test {
	const struct form *form;
	struct iguest g;
	struct cpu cpu;
	unsigned size, len;
	uint64_t seed;
	uint64_t at;      /* of the code */
	uint64_t operand; /* where it lies, if on_memory */
	uint64_t imm;
	bool on_memory;
	bool lock;
	uint8_t reg, rm;
	uint8_t code[32];
};

static void put(struct test *t, uint64_t bytes, unsigned n)
{
	memcpy(t->code + t->len, &bytes, n);
	t->len += n;
}

/* The bytes that the ModRM operand has. */
static unsigned operand_bytes(const struct test *t)
{
	const struct form *f = t->form;

	if (f->map == 0x0f && (f->opcode & 0xf6) == 0xb6)
		return f->opcode & 1 ? 2 : 1;
	if (f->map == 0 && f->opcode == 0x63)
		return 4;
	return f->opcode == 0xff && f->ext >= 2 ? 8 : t->size;
}

/* Where operands lie: across lines, not across pages. */
static uint64_t target(struct test *t)
{
	unsigned n = operand_bytes(t);
	uint64_t page = DATA + (rnd(&t->seed) % PAGES) * 4096;
	uint64_t off = rnd(&t->seed) % (4096 - n + 1);

	/* Locked ones on one line: the host may forbid others. */
	return page + (t->form->traits & LOCK ? off & ~(uint64_t)(n - 1) : off);
}

/* How a memory operand is addressed; registers are made to fit. */
struct way {
	uint8_t base, index, scale, mod;
	bool gs, address32, rip, absolute;
	int64_t disp;
};

static void choose_way(struct test *t, struct way *w)
{
	uint64_t bits = rnd(&t->seed);

	*w = (struct way){
		.base = bits & 15,
		.index = bits >> 4 & 15,
		.scale = bits >> 8 & 3,
		.mod = bits >> 10 & 3,
		.gs = (bits >> 12 & 3) == 0,
		.address32 = (bits >> 14 & 7) == 0,
		.rip = (bits >> 17 & 7) == 0,
		.absolute = (bits >> 20 & 7) == 0,
	};
	if (w->mod == 3)
		w->mod = 0;
	if (w->mod == 0 && (w->base & 7) == 5)
		w->mod = 1;
	if (w->index == w->base)
		w->index = 4; /* none */
	w->disp = w->mod == 1   ? (int8_t)(bits >> 24)
		  : w->mod == 2 ? (int32_t)(bits >> 24)
				: 0;
}

/*
 * ModRM and what follows for an operand at TO, whose address needs IMM_BYTES
 * more bytes behind it. Registers get the parts of TO.
 */
static void put_memory(struct test *t, const struct way *w, uint64_t to,
		       unsigned imm_bytes)
{
	uint64_t *r = t->cpu.r, ea = to - (w->gs ? GS : 0);
	uint8_t reg = (uint8_t)((t->reg & 7) << 3);

	if (w->rip) {
		put(t, reg | 5u, 1);
		put(t, ea - (t->at + t->len + 4 + imm_bytes), 4);
		return;
	}
	if (w->absolute) {
		put(t, reg | 4u, 1);
		put(t, 0x25, 1);
		put(t, ea, 4);
		return;
	}
	put(t, (uint64_t)w->mod << 6 | reg | 4u, 1);
	put(t,
	    (uint64_t)w->scale << 6 | (uint64_t)(w->index & 7) << 3 |
		    (w->base & 7),
	    1);
	put(t, (uint64_t)w->disp, w->mod == 0 ? 0 : w->mod == 1 ? 1 : 4);
	ea -= (uint64_t)w->disp;
	if (w->index != 4)
		ea -= r[w->index] << w->scale;
	/* Bits above the lowest 32 must not count then. */
	r[w->base] = w->address32 ? (uint32_t)ea | rnd(&t->seed) << 32 : ea;
}

static unsigned imm_bytes(const struct test *t)
{
	switch (t->form->imm) {
	case IMM8:
		return 1;
	case IMMZ:
		return t->size == 8 ? 4 : t->size;
	case IMMV:
		return t->size;
	default:
		return 0;
	}
}

/* The code into both worlds. */
static void place_code(struct test *t)
{
	memcpy((void *)t->at, t->code, t->len);
	memcpy(ig_at(&t->g, t->at), t->code, t->len);
	put_exit(t->at + t->len);
}

static void put_prefixes(struct test *t, const struct way *w, bool memory)
{
	unsigned rex = (t->size == 8 ? 8 : 0) | (t->reg & 8 ? 4 : 0);

	if (t->lock)
		put(t, 0xf0, 1);
	if (memory && w->gs)
		put(t, 0x65, 1);
	if (memory && w->address32)
		put(t, 0x67, 1);
	if (t->size == 2)
		put(t, 0x66, 1);
	if (t->form->prefix)
		put(t, t->form->prefix, 1);
	if (memory && !w->rip && !w->absolute)
		rex |= (w->index & 8 ? 2 : 0) | (w->base & 8 ? 1 : 0);
	else if (!memory)
		rex |= t->rm & 8 ? 1 : 0;
	if (rex || (rnd(&t->seed) & 3) == 0)
		put(t, 0x40 | rex, 1);
}

static void put_opcode(struct test *t)
{
	const struct form *f = t->form;
	unsigned opcode = f->opcode;

	if ((f->traits & BYTE) && t->size > 1)
		opcode |= 1;
	if (f->traits & CC)
		opcode |= rnd(&t->seed) & 15;
	if (f->traits & OPREG)
		opcode |= t->rm & 7;
	if (f->map)
		put(t, 0x0f, 1);
	put(t, opcode, 1);
}

/* BT's number reaches up to a page beyond its operand, either way. */
static void set_bit_number(struct test *t, struct way *w)
{
	uint64_t number = (uint64_t)(int16_t)rnd(&t->seed);

	if (t->reg == w->base)
		t->reg ^= 1;
	w->address32 = false;
	t->operand = DATA + 4096 + rnd(&t->seed) % 64 * t->size;
	t->cpu.r[t->reg] = t->size == 8 ? number
			   : t->size == 4
				   ? (uint32_t)number | rnd(&t->seed) << 32
				   : (number & 0xffff) | rnd(&t->seed) << 16;
}

static void build(struct test *t)
{
	const struct form *f = t->form;
	bool none = f->traits & (PLAIN | OPREG);
	struct way w;

	t->len = 0;
	t->on_memory = !none && !(f->traits & NO_MEM) &&
		       ((f->traits & NO_REG) || (rnd(&t->seed) & 1));
	t->lock = t->on_memory && (f->traits & LOCK) && (rnd(&t->seed) & 1);
	t->reg = f->ext >= 0 ? (uint8_t)f->ext : rnd(&t->seed) & 15;
	t->rm = f->traits & PLAIN ? 0 : rnd(&t->seed) & 15;
	t->imm = value(&t->seed);
	t->at = CODE + rnd(&t->seed) % 6000;
	t->operand = target(t);
	choose_way(t, &w);
	if ((f->traits & STACKED) && w.base == 4)
		w.base = w.index == 3 ? 2 : 3;
	if (t->on_memory && f->undefined == BIT && f->ext < 0)
		set_bit_number(t, &w);
	put_prefixes(t, &w, t->on_memory);
	put_opcode(t);
	if (t->on_memory)
		put_memory(t, &w, t->operand, imm_bytes(t));
	else if (!none)
		put(t, 0xc0u | (t->reg & 7u) << 3 | (t->rm & 7u), 1);
	put(t, t->imm, imm_bytes(t));
}

/* ---- comparison ---------------------------------------------------------- */

/* Flags that the SDM leaves undefined, from the registers before. */
static uint64_t undefined_flags(const struct test *t)
{
	const struct form *f = t->form;
	unsigned n = (unsigned)t->imm;

	if (f->undefined == SHIFT || f->undefined == ROTATE ||
	    f->undefined == DOUBLE) {
		if (f->imm == NONE)
			n = f->opcode == 0xd0 ? 1 : (unsigned)t->cpu.r[1];
		n &= t->size == 8 ? 63 : 31;
		if (n == 0)
			return 0;
	}
	switch (f->undefined) {
	case LOGIC:
		return AF;
	case SHIFT:
		return AF | (n == 1 ? 0 : OF) | (n >= 8 * t->size ? CF : 0);
	case ROTATE:
		return n == 1 ? 0 : OF;
	case DOUBLE:
		return AF | (n == 1 ? 0 : OF);
	case MUL:
		return SF | ZF | AF | PF;
	case DIV:
		return STATUS;
	case BIT:
		return OF | SF | AF | PF;
	case SCAN:
		return CF | OF | SF | AF | PF;
	case COUNT:
		return OF | SF | AF | PF;
	default:
		return 0;
	}
}

static void explain(const struct test *t, const char *what, uint64_t guest,
		    uint64_t cpu)
{
	print_message("%s, %u bytes:", t->form ? t->form->name : "code",
		      t->size);
	for (unsigned i = 0; i < t->len; i++)
		print_message(" %02x", t->code[i]);
	print_message(": %s 0x%llx, the processor's 0x%llx\n", what,
		      (unsigned long long)guest, (unsigned long long)cpu);
}

/* After both have run: the same but for the flags UNDEFINED. */
static void compare(const struct test *t, uint64_t undefined)
{
	static const char *const names[16] = {
		"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
		"r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
	const uint64_t flags = (STATUS | DF) & ~undefined;
	uint64_t r[16];

	ig_get(&t->g.regs, r);
	for (unsigned i = 0; i < 16; i++) {
		if (r[i] != t->cpu.r[i])
			explain(t, names[i], r[i], t->cpu.r[i]);
		assert_true(r[i] == t->cpu.r[i]);
	}
	if ((t->g.regs.rflags ^ t->cpu.flags) & flags)
		explain(t, "flags", t->g.regs.rflags & flags,
			t->cpu.flags & flags);
	assert_int_equal(t->g.regs.rflags & flags, t->cpu.flags & flags);
	if (t->g.regs.rip != t->cpu.rip)
		explain(t, "rip", t->g.regs.rip, t->cpu.rip);
	assert_int_equal(t->g.regs.rip, t->cpu.rip);
	if (memcmp((void *)DATA, ig_at(&t->g, DATA), BYTES) != 0)
		explain(t, "memory", 0, 0);
	assert_memory_equal((void *)DATA, ig_at(&t->g, DATA), BYTES);
}

static void run_native(struct test *t)
{
	struct cpu *state = (struct cpu *)STATE;

	t->cpu.rip = t->at;
	t->cpu.exit = (uintptr_t)native_exit;
	*state = t->cpu;
	native_run();
	t->cpu = *state;
}

/* The guest's registers as T's, and one instruction. How many were done. */
static uint64_t run_guest(struct test *t)
{
	ig_set(&t->g.regs, t->cpu.r);
	t->g.regs.rip = t->at;
	t->g.regs.rflags = t->cpu.flags;
	return ig_run(&t->g, 1);
}

static void random_state(struct test *t)
{
	for (unsigned i = 0; i < 16; i++)
		t->cpu.r[i] = value(&t->seed);
	t->cpu.r[4] = STACK + (rnd(&t->seed) & 0xff);
	t->cpu.flags = (rnd(&t->seed) & (STATUS | DF)) | 0x202;
}

/* Sets what lies at VA in both worlds. */
static void poke(struct test *t, uint64_t va, uint64_t word)
{
	memcpy((void *)va, &word, sizeof(word));
	memcpy(ig_at(&t->g, va), &word, sizeof(word));
}

/* One random instruction of T's form and size; true when both ran it. */
static bool one(struct test *t)
{
	uint64_t undefined;

	random_state(t);
	if (t->form->undefined == DIV && (rnd(&t->seed) & 1))
		t->cpu.r[2] = rnd(&t->seed) & 1 ? 0 : UINT64_MAX;
	build(t);
	if (t->operand + 8 <= DATA + BYTES && (rnd(&t->seed) & 1))
		poke(t, t->operand, value(&t->seed));
	place_code(t);
	undefined = undefined_flags(t);
	if (run_guest(t) == 0) {
		t->cpu.rip = t->at;
		if (!(t->form->traits & STOPS))
			explain(t, "stopped", t->g.regs.rip, t->at);
		assert_true(t->form->traits & STOPS);
		compare(t, 0);
		return false;
	}
	run_native(t);
	compare(t, undefined);
	return true;
}

/* ---- tests --------------------------------------------------------------- */

static struct test *new_test(void)
{
	struct test *t = test_calloc(1, sizeof(*t));

	assert_true(ig_init(&t->g));
	t->g.sregs.gs.base = GS;
	t->seed = UINT64_C(0x9e3779b97f4a7c15);
	for (uint64_t va = DATA; va < DATA + BYTES; va += 8)
		poke(t, va, rnd(&t->seed));
	return t;
}

static void free_test(struct test *t)
{
	ig_done(&t->g);
	test_free(t);
}

static bool cpu_has(const struct form *f)
{
	unsigned a, b = 0, c = 0, d;

	if (f->undefined == COUNT && f->opcode == 0xbd) /* LZCNT */
		return __get_cpuid(0x80000001, &a, &b, &c, &d) && c & 1u << 5;
	if (f->undefined == COUNT) /* TZCNT: BMI1 */
		return __get_cpuid_count(7, 0, &a, &b, &c, &d) && b & 1u << 3;
	if (f->map && f->opcode == 0xb8) /* POPCNT */
		return __get_cpuid(1, &a, &b, &c, &d) && c & 1u << 23;
	return true;
}

static void test_forms(void **state)
{
	enum { TIMES = 400 };
	struct test *t = new_test();

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
		t->form = &forms[i];
		if (!cpu_has(t->form))
			continue;
		for (t->size = 1; t->size <= 8; t->size *= 2) {
			unsigned done = 0;

			if (!(t->form->sizes & t->size))
				continue;
			for (unsigned n = 0; n < TIMES; n++)
				done += one(t);
			/* Most divisions divide. */
			if (!(t->form->traits & STOPS))
				assert_int_equal(done, TIMES);
			else if (t->size >= 4)
				assert_in_range(done, TIMES / 8, TIMES);
		}
	}
	free_test(t);
}

/* Both worlds run the bytes from AT; the processor may also end at OTHER. */
static void both(struct test *t, const uint8_t *bytes, unsigned len,
		 uint64_t other)
{
	t->form = NULL;
	t->len = 0;
	memcpy(t->code, bytes, len);
	t->len = len;
	place_code(t);
	if (other)
		put_exit(other);
	assert_int_equal(run_guest(t), 1);
	run_native(t);
	compare(t, 0);
}

/* All conditions with all flags there are. */
static void test_conditions(void **state)
{
	static const uint16_t flag[6] = {CF, PF, AF, ZF, SF, OF};
	struct test *t = new_test();

	(void)state;
	for (unsigned i = 0; i < 16 * 64; i++) {
		const uint8_t cc = i & 15;
		const uint8_t short_jump[] = {0x70 | cc, 0x40};
		const uint8_t back_jump[] = {0x70 | cc, 0x80};
		const uint8_t near_jump[] = {0x0f, 0x80 | cc, 0x10, 3, 0, 0};
		const uint8_t set[] = {0x0f, 0x90 | cc, 0xc3};
		const uint8_t move[] = {0x0f, 0x40 | cc, 0xc1};

		random_state(t);
		t->at = CODE + 0x300;
		t->cpu.flags = 0x202;
		for (unsigned bit = 0; bit < 6; bit++)
			t->cpu.flags |= i >> (4 + bit) & 1 ? flag[bit] : 0;
		both(t, short_jump, sizeof(short_jump), t->at + 0x42);
		both(t, back_jump, sizeof(back_jump), t->at + 2 - 0x80);
		both(t, near_jump, sizeof(near_jump), t->at + 0x316);
		both(t, set, sizeof(set), 0);
		both(t, move, sizeof(move), 0);
	}
	free_test(t);
}

static void test_branches(void **state)
{
	static const struct {
		uint8_t len, bytes[8];
		int to; /* of relative ones, from the end */
	} branch[] = {
		{2, {0xeb, 0x7f}, 0x7f},
		{2, {0xeb, 0x80}, -0x80},
		{5, {0xe9, 0x00, 0x08}, 0x800},
		{5, {0xe8, 0x00, 0x08}, 0x800},
		{5, {0xe8, 0x00, 0xff, 0xff, 0xff}, -0x100},
		{2, {0xff, 0xd3}, 0},          /* call *%rbx */
		{2, {0xff, 0xe3}, 0},          /* jmp *%rbx */
		{2, {0xff, 0x16}, 0},          /* call *(%rsi) */
		{2, {0xff, 0x26}, 0},          /* jmp *(%rsi) */
		{4, {0xff, 0x54, 0x24, 8}, 0}, /* call *8(%rsp) */
		{3, {0x65, 0xff, 0x17}, 0},    /* call *%gs:(%rdi) */
		{1, {0xc3}, 0},
		{2, {0xf3, 0xc3}, 0},
		{3, {0xc2, 0x10, 0x00}, 0},
		{3, {0xc2, 0x00, 0x80}, 0}, /* unsigned */
	};
	struct test *t = new_test();

	(void)state;
	for (unsigned n = 0; n < 50; n++) {
		for (size_t i = 0; i < ARRAY_LEN(branch); i++) {
			unsigned len = branch[i].len;
			uint64_t to = CODE + 0x80 + (rnd(&t->seed) & 0xff);

			random_state(t);
			t->at = CODE + 0x700 + (rnd(&t->seed) & 0xff);
			if (branch[i].to)
				to = t->at + len + (uint64_t)branch[i].to;
			t->cpu.r[3] = to;
			t->cpu.r[6] = DATA + 0x123;
			t->cpu.r[7] = DATA + 0x123 - GS;
			poke(t, DATA + 0x123, to);
			poke(t, t->cpu.r[4], to);
			poke(t, t->cpu.r[4] + 8, to);
			both(t, branch[i].bytes, len, to);
		}
	}
	free_test(t);
}

/* LEAVE, and POPF of what any program may change. */
static void test_stack(void **state)
{
	static const uint8_t leave[] = {0xc9}, popf[] = {0x9d};
	struct test *t = new_test();

	(void)state;
	t->at = CODE + 5;
	for (unsigned n = 0; n < 500; n++) {
		random_state(t);
		t->cpu.r[5] = DATA + rnd(&t->seed) % (BYTES - 8) / 8 * 8;
		both(t, leave, sizeof(leave), 0);
		random_state(t);
		poke(t, t->cpu.r[4], (rnd(&t->seed) & (STATUS | DF)) | 0x202);
		both(t, popf, sizeof(popf), 0);
	}
	free_test(t);
}

/* A string instruction in as many parts as the interpreter likes. */
static void string(struct test *t, const uint8_t *bytes, unsigned len)
{
	unsigned runs = 0;

	t->form = NULL;
	memcpy(t->code, bytes, len);
	t->len = len;
	place_code(t);
	ig_set(&t->g.regs, t->cpu.r);
	t->g.regs.rip = t->at;
	t->g.regs.rflags = t->cpu.flags;
	do
		assert_int_equal(ig_run(&t->g, 1), 1);
	while (t->g.regs.rip == t->at && ++runs < 200);
	run_native(t);
	compare(t, 0);
}

static void test_strings(void **state)
{
	struct test *t = new_test();

	(void)state;
	for (unsigned n = 0; n < 4000; n++) {
		uint64_t bits = rnd(&t->seed);
		unsigned size = 1u << (bits & 3), len = 0;
		uint64_t count = bits >> 8 & (bits & 0x10 ? 0x3ff : 0x1f);
		uint64_t room = DATA + BYTES - 1024 * size;
		uint8_t code[4];

		random_state(t);
		t->cpu.flags &= ~(uint64_t)DF;
		t->at = CODE + (bits >> 20 & 0xff);
		if (bits & 4)
			code[len++] = bits & 0x20 ? 0xf3 : 0xf2;
		if (size == 2)
			code[len++] = 0x66;
		if (size == 8)
			code[len++] = 0x48;
		code[len++] = (bits & 8 ? 0xa4 : 0xaa) | (size > 1);
		t->cpu.r[1] = count;
		t->cpu.r[6] = DATA + (bits >> 32) % (room - DATA);
		t->cpu.r[7] = DATA + rnd(&t->seed) % (room - DATA);
		if ((bits & 0xc0) == 0x40) /* overlapping */
			t->cpu.r[7] = t->cpu.r[6] + (bits >> 40 & 7) * size;
		if (bits & 0x200000000)
			t->cpu.r[0] = 0;
		if (t->cpu.r[7] + count * size > DATA + BYTES)
			continue;
		string(t, code, len);
	}
	free_test(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms),
		cmocka_unit_test(test_conditions),
		cmocka_unit_test(test_branches),
		cmocka_unit_test(test_stack),
		cmocka_unit_test(test_strings),
	};

	return cmocka_run_group_tests(tests, map_worlds, NULL);
}
