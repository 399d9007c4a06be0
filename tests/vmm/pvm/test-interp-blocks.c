/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interpreter against this processor, by whole programs: random sequences
 * of instructions with branches, loops, calls and stores into the code itself,
 * run in one go and in parts, again after the code was changed from outside.
 * Single instructions are test-interp-cpu.c's, in all their forms.
 *
 * INTERP_BLOCKS=N in the environment: so many programs, with another seed each
 * time, and not the few of `make check`.
 */
#include "tests/native.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SUBROUTINE (CODE + 0x2000)
#define HLT        0xf4
#define ROOM       1024u

struct program {
	struct iguest g;
	struct cpu cpu;
	uint64_t seed, first_seed;
	uint64_t at; /* of its first byte */
	uint64_t end;
	unsigned len;
	unsigned start[96], n; /* of instructions, where one can branch to */
	uint8_t code[ROOM];
};

static void put(struct program *p, uint64_t bytes, unsigned n)
{
	memcpy(p->code + p->len, &bytes, n);
	p->len += n;
}

/* A register that programs may change: not RSP, RDI (data), R15 (a counter). */
static unsigned reg(struct program *p)
{
	static const uint8_t regs[] = {0, 1,  2,  3,  5,  6, 8,
				       9, 10, 11, 12, 13, 14};

	return regs[rnd(&p->seed) % sizeof(regs)];
}

static void put_rex(struct program *p, bool wide, unsigned r, unsigned rm)
{
	unsigned rex = (wide ? 8u : 0) | (r & 8 ? 4u : 0) | (rm & 8 ? 1u : 0);

	if (rex || (rnd(&p->seed) & 7) == 0)
		put(p, 0x40 | rex, 1);
}

static void put_modrm(struct program *p, unsigned r, unsigned rm)
{
	put(p, 0xc0 | (r & 7) << 3 | (rm & 7), 1);
}

/* disp32(%rdi), now and then across a page's end. */
static void put_data(struct program *p, unsigned r)
{
	uint64_t bits = rnd(&p->seed), off = bits % (BYTES - 2048);

	if ((bits >> 32 & 15) == 0)
		off = 4096 - 1 - (bits & 7);
	put(p, 0x87 | (r & 7) << 3, 1);
	put(p, off, 4);
}

/* A register or memory as r/m operand of OPCODE. */
static void put_operands(struct program *p, unsigned opcode, unsigned r)
{
	bool wide = rnd(&p->seed) & 1;
	unsigned rm = reg(p);

	if (rnd(&p->seed) & 1) {
		put_rex(p, wide, r, 7);
		put(p, opcode, opcode > 255 ? 2 : 1);
		put_data(p, r);
		return;
	}
	put_rex(p, wide, r, rm);
	put(p, opcode, opcode > 255 ? 2 : 1);
	put_modrm(p, r, rm);
}

/* ADD to CMP in all forms, MOV, TEST, bytes and more. */
static void put_alu(struct program *p)
{
	uint64_t bits = rnd(&p->seed);
	unsigned op = bits & 7, byte = bits >> 8 & 1;

	switch (bits >> 16 & 3) {
	case 0:
		put_operands(p, op << 3 | (bits >> 9 & 2) | byte, reg(p));
		break;
	case 1:
		put_operands(p, byte ? 0x83 : 0x80, op);
		put(p, bits >> 20, 1);
		break;
	case 2:
		put_operands(p, 0x81, op);
		put(p, bits >> 20, 4);
		break;
	default:
		put_operands(p, 0x84 + byte, reg(p));
		break;
	}
}

static void put_move(struct program *p)
{
	static const uint16_t moves[] = {0x88,   0x89,   0x8a,   0x8b, 0xb60f,
					 0xb70f, 0xbe0f, 0xbf0f, 0x63};
	uint64_t bits = rnd(&p->seed);
	unsigned r = reg(p);

	switch (bits & 3) {
	case 0:
		put_rex(p, bits & 8, 0, r);
		put(p, 0xb8 | (r & 7), 1);
		put(p, bits >> 8, bits & 8 ? 8 : 4); /* REX.W: 8 bytes */
		break;
	case 1:
		put_operands(p, 0xc7, 0);
		put(p, bits >> 8, 4);
		break;
	case 2: /* LEA disp8(r, r, scale) */
		put_rex(p, bits & 8, r, 0);
		put(p, 0x8d, 1);
		put(p, 0x44 | (r & 7) << 3, 1);
		put(p, (bits >> 8 & 0xc0) | (reg(p) & 3) << 3 | 3, 1);
		put(p, bits >> 20, 1);
		break;
	default:
		put_operands(p, moves[(bits >> 8) % ARRAY_LEN(moves)], r);
		break;
	}
}

/* Shifts, INC and DEC, NOT and NEG, conditional ones, the stack. */
static void put_other(struct program *p)
{
	uint64_t bits = rnd(&p->seed);
	static const uint8_t shift[] = {4, 5, 7};
	unsigned r = reg(p), wide = bits & 8;

	switch (bits & 7) {
	case 0: /* registers: memory ones leave OF undefined elsewhere */
		put_rex(p, wide, 0, r);
		put(p, 0xc1, 1);
		put_modrm(p, shift[(bits >> 8) % 3], r);
		put(p, 1 + (bits >> 16) % 31, 1);
		break;
	case 1:
		put_operands(p, 0xd1, shift[(bits >> 8) % 3]);
		break;
	case 2:
		put_operands(p, 0xff, bits >> 8 & 1);
		break;
	case 3:
		put_operands(p, 0xf7, 2 + (bits >> 8 & 1));
		break;
	case 4:
		put_operands(p, 0x400f | (bits & 0xf00), r);
		break;
	case 5:
		put_operands(p, 0x900f | (bits & 0xf00), 0);
		break;
	case 6:
		put_rex(p, false, 0, r);
		put(p, 0x50 | (r & 7), 1);
		r = reg(p);
		put_alu(p);
		put_rex(p, false, 0, r);
		put(p, 0x58 | (r & 7), 1);
		break;
	default: /* the flags into EAX, less those that may be undefined */
		put(p, 0x9c, 1);
		put(p, UINT64_C(0x8c524248148), 8); /* and $.., (%rsp) */
		put(p, 0x58, 1);
		break;
	}
}

/* Writes a byte of an instruction further on, or of one before. */
static void put_store_into_code(struct program *p)
{
	unsigned r = reg(p);

	/* mov %r8, 1(%rip): the immediate of mov $imm8, %bl behind it */
	put_rex(p, false, r, 5);
	put(p, 0x88, 1);
	put(p, 5 | (r & 7) << 3, 1);
	if (rnd(&p->seed) & 1) {
		put(p, 1, 4);
		put(p, 0xb3, 1);
		put(p, 0, 1);
	} else { /* with a block's end between */
		put(p, 3, 4);
		put(p, 0x00eb, 2);
		put(p, 0xb3, 1);
		put(p, 0, 1);
	}
}

/* A branch over some of what follows; the distance comes in patch(). */
static void put_branch(struct program *p)
{
	uint64_t bits = rnd(&p->seed);

	if (bits & 3) {
		put_alu(p);
		p->start[p->n++] = p->len;
	}
	put(p, 0x70 | (bits >> 8 & 15), 1);
	put(p, 0, 1);
}

static void put_call(struct program *p)
{
	uint64_t from = p->at + p->len + 5;

	put(p, 0xe8, 1);
	put(p, SUBROUTINE - from, 4);
}

static void build(struct program *p)
{
	unsigned count = 4 + rnd(&p->seed) % 60, top = 0;

	p->len = p->n = 0;
	p->at = CODE + 0x1000 - rnd(&p->seed) % 600;
	while (p->n < count && p->len < ROOM - 64) {
		unsigned kind = rnd(&p->seed) % 32;

		p->start[p->n++] = p->len;
		if (kind < 10)
			put_alu(p);
		else if (kind < 19)
			put_move(p);
		else if (kind < 26)
			put_other(p);
		else if (kind < 29)
			put_branch(p);
		else if (kind == 29)
			put_call(p);
		else if (kind == 30)
			put_store_into_code(p);
		else if (top == 0)
			top = p->len + 1;
	}
	/* dec %r15d; jnz to somewhere before: loops, a few times */
	p->start[p->n++] = p->len;
	put(p, 0xcfff41, 3);
	put(p, 0x850f, 2);
	put(p, (uint64_t)0 - (p->len + 4 - (top ? top - 1 : 0)), 4);
	p->start[p->n++] = p->len;
}

/* Short branches get targets: instructions further on. */
static void aim(struct program *p)
{
	for (unsigned i = 0; i + 1 < p->n; i++) {
		unsigned here = p->start[i], to;

		if ((p->code[here] & 0xf0) != 0x70 ||
		    p->start[i + 1] != here + 2)
			continue;
		to = p->start[i + 1 + rnd(&p->seed) % min_u64(6, p->n - i - 1)];
		p->code[here + 1] = (uint8_t)(to - (here + 2));
	}
}

static void place(struct program *p)
{
	/* add %rcx, %rax; lea 3(%rax,%rdx), %rsi; xor %ebx, %ebx; ret */
	static const uint8_t subroutine[] = {0x48, 0x01, 0xc8, 0x48, 0x8d, 0x74,
					     0x10, 3,    0x31, 0xdb, 0xc3};

	memcpy((void *)p->at, p->code, p->len);
	memcpy(ig_at(&p->g, p->at), p->code, p->len);
	memcpy((void *)SUBROUTINE, subroutine, sizeof(subroutine));
	memcpy(ig_at(&p->g, SUBROUTINE), subroutine, sizeof(subroutine));
	p->end = p->at + p->len;
	put_exit(p->end);
	*ig_at(&p->g, p->end) = HLT;
}

static void explain(const struct program *p, const char *what, uint64_t guest,
		    uint64_t cpu)
{
	print_message("seed 0x%llx: at 0x%llx",
		      (unsigned long long)p->first_seed,
		      (unsigned long long)p->at);
	for (unsigned i = 0; i < p->len; i++)
		print_message(" %02x", p->code[i]);
	print_message(": %s 0x%llx, the processor's 0x%llx\n", what,
		      (unsigned long long)guest, (unsigned long long)cpu);
}

static void compare(const struct program *p)
{
	const uint64_t flags = CF | PF | ZF | SF | OF; /* AF may be undefined */
	static const char *const names[16] = {
		"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
		"r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
	uint64_t r[16];

	ig_get(&p->g.regs, r);
	if (p->g.regs.rip != p->end)
		explain(p, "rip", p->g.regs.rip, p->end);
	assert_true(p->g.regs.rip == p->end);
	for (unsigned i = 0; i < 16; i++) {
		if (r[i] != p->cpu.r[i])
			explain(p, names[i], r[i], p->cpu.r[i]);
		assert_true(r[i] == p->cpu.r[i]);
	}
	if ((p->g.regs.rflags ^ p->cpu.flags) & flags)
		explain(p, "flags", p->g.regs.rflags & flags,
			p->cpu.flags & flags);
	assert_int_equal(p->g.regs.rflags & flags, p->cpu.flags & flags);
	if (memcmp((void *)DATA, ig_at(&p->g, DATA), BYTES) != 0)
		explain(p, "memory", 0, 0);
	assert_memory_equal((void *)DATA, ig_at(&p->g, DATA), BYTES);
	assert_memory_equal((void *)p->at, ig_at(&p->g, p->at), p->len);
}

static void run_both(struct program *p)
{
	struct cpu *state = (struct cpu *)STATE;
	uint64_t bits = rnd(&p->seed), budget, done;

	for (unsigned i = 0; i < 16; i++)
		p->cpu.r[i] = rnd(&p->seed) >> (rnd(&p->seed) & 63);
	p->cpu.r[4] = STACK + (bits & 0xf8);
	p->cpu.r[7] = DATA;
	p->cpu.r[15] = 1 + (bits >> 8 & 7);
	p->cpu.flags = (rnd(&p->seed) & STATUS) | 0x202;
	p->cpu.rip = p->at;
	p->cpu.exit = (uintptr_t)native_exit;
	ig_set(&p->g.regs, p->cpu.r);
	p->g.regs.rip = p->at;
	p->g.regs.rflags = p->cpu.flags;
	*state = p->cpu;
	native_run();
	p->cpu = *state;
	do {
		budget = bits & 0x10000 ? 1 + rnd(&p->seed) % 50 : 100000;
		done = ig_run(&p->g, budget);
		assert_in_range(done, 0, budget);
	} while (done > 0);
	compare(p);
}

/* Another byte where the program has an immediate, in both worlds. */
static void change_code(struct program *p)
{
	for (unsigned i = 0; i + 1 < p->n; i++) {
		unsigned here = p->start[i];

		if (p->code[here] < 0xb8 || p->code[here] > 0xbf ||
		    p->start[i + 1] != here + 5)
			continue;
		p->code[here + 2] = (uint8_t)rnd(&p->seed);
	}
	place(p);
}

static void test_programs(void **state)
{
	const char *many = getenv("INTERP_BLOCKS");
	uint64_t count = many ? strtoull(many, NULL, 0) : 4000;
	struct program *p = test_calloc(1, sizeof(*p));

	(void)state;
	assert_true(ig_init(&p->g));
	p->seed = many ? (uint64_t)time(NULL) << 20 | 1
		       : UINT64_C(0x9e3779b97f4a7c15);
	for (uint64_t i = 0; i < count; i++) {
		p->first_seed = p->seed;
		for (uint64_t va = DATA; va < DATA + BYTES; va += 8) {
			uint64_t word = rnd(&p->seed);

			memcpy((void *)va, &word, 8);
			memcpy(ig_at(&p->g, va), &word, 8);
		}
		build(p);
		aim(p);
		place(p);
		run_both(p);
		run_both(p);
		change_code(p);
		run_both(p);
	}
	ig_done(&p->g);
	test_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_programs),
	};

	return cmocka_run_group_tests(tests, map_worlds, NULL);
}
