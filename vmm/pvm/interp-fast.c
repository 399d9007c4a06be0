/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handlers for single forms of the commonest instructions, without a decision
 * left to make: a processor whose branch predictor has just been emptied, as
 * hosts do at each exit of KVM's, mispredicts most of those. Status flags come
 * from the same instruction, done here. interp-alu.c and interp-flow.c have all
 * forms; what they do is what these have to do.
 */
#include "vmm/pvm/interp-operands.h"

#define NEXT return interp_next(in, u)
/* The next one is a conditional branch. */
#define BRANCH return branch(in, u + 1)

static inline int branch(struct interp *in, const struct uop *u)
{
	if (condition(in, u->opcode))
		return interp_go(in, u, (uint64_t)u->disp);
	NEXT;
}

static inline uint64_t plain_address(const struct interp *in,
				     const struct uop *u)
{
	return in->r[u->base] + (in->r[u->index] << u->scale) +
	       (uint64_t)u->disp;
}

/* ---- arithmetic, as the processor does it -------------------------------- */

/* LAHF and SETO: all status flags in AX. */
#define FLAGS_OF(in, ax)                                                       \
	do {                                                                   \
		(in)->low = (uint8_t)((ax) >> 8);                              \
		(in)->of = (uint8_t)(ax);                                      \
	} while (0)

#define DO(name, bits, suffix, insn)                                           \
	static inline uint##bits##_t name##bits(                               \
		struct interp *in, uint##bits##_t a, uint##bits##_t b)         \
	{                                                                      \
		uint16_t ax;                                                   \
                                                                               \
		__asm__(insn suffix " %2, %0\n\tlahf\n\tseto %%al"             \
			: "+q"(a), "=&a"(ax)                                   \
			: "q"(b)                                               \
			: "cc");                                               \
		FLAGS_OF(in, ax);                                              \
		return a;                                                      \
	}

#define DO_SIZES(name, insn)                                                   \
	DO(name, 64, "q", insn)                                                \
	DO(name, 32, "l", insn)                                                \
	DO(name, 8, "b", insn)

DO_SIZES(do_add, "add")
DO_SIZES(do_or, "or")
DO_SIZES(do_and, "and")
DO_SIZES(do_sub, "sub")
DO_SIZES(do_xor, "xor")
DO_SIZES(do_cmp, "cmp")
DO_SIZES(do_test, "test")

/* By a number of bits that is not 0, in CL. */
#define DO_SHIFT(name, bits, suffix, insn)                                     \
	static inline uint##bits##_t name##bits(struct interp *in,             \
						uint##bits##_t a, uint8_t n)   \
	{                                                                      \
		uint16_t ax;                                                   \
                                                                               \
		__asm__(insn suffix " %2, %0\n\tlahf\n\tseto %%al"             \
			: "+q"(a), "=&a"(ax)                                   \
			: "c"(n)                                               \
			: "cc");                                               \
		FLAGS_OF(in, ax);                                              \
		return a;                                                      \
	}

DO_SHIFT(do_shl, 64, "q", "shl")
DO_SHIFT(do_shl, 32, "l", "shl")
DO_SHIFT(do_shr, 64, "q", "shr")
DO_SHIFT(do_shr, 32, "l", "shr")
DO_SHIFT(do_sar, 64, "q", "sar")
DO_SHIFT(do_sar, 32, "l", "sar")

/* ---- forms --------------------------------------------------------------- */

/* Byte registers here are the lowest bytes: not AH to BH. */
#define SET(bits, n, value)                                                    \
	do {                                                                   \
		if ((bits) == 8)                                               \
			in->r[n] = (in->r[n] & ~UINT64_C(0xff)) |              \
				   (uint8_t)(value);                           \
		else                                                           \
			in->r[n] = (uint##bits##_t)(value);                    \
	} while (0)

#define AT(p, bits, write)                                                     \
	do {                                                                   \
		(p) = interp_pointer(in, plain_address(in, u), (bits) / 8,     \
				     write);                                   \
		if (__builtin_expect(!(p), 0))                                 \
			return interp_stop(in, u);                             \
	} while (0)

#define HANDLER(name) static int name(struct interp *in, const struct uop *u)

/* OP with a result: register and register, immediate, memory; memory and ... */
#define ALU_FORMS(name, bits)                                                  \
	HANDLER(name##bits##_rr)                                               \
	{                                                                      \
		SET(bits, u->rm,                                               \
		    do_##name##bits(in, (uint##bits##_t)in->r[u->rm],          \
				    (uint##bits##_t)in->r[u->reg]));           \
		NEXT;                                                          \
	}                                                                      \
	HANDLER(name##bits##_ri)                                               \
	{                                                                      \
		SET(bits, u->rm,                                               \
		    do_##name##bits(in, (uint##bits##_t)in->r[u->rm],          \
				    (uint##bits##_t)u->imm));                  \
		NEXT;                                                          \
	}                                                                      \
	HANDLER(name##bits##_rm)                                               \
	{                                                                      \
		const void *p;                                                 \
                                                                               \
		AT(p, bits, false);                                            \
		SET(bits, u->reg,                                              \
		    do_##name##bits(in, (uint##bits##_t)in->r[u->reg],         \
				    (uint##bits##_t)load(p, (bits) / 8)));     \
		NEXT;                                                          \
	}                                                                      \
	HANDLER(name##bits##_mr)                                               \
	{                                                                      \
		void *p;                                                       \
                                                                               \
		AT(p, bits, true);                                             \
		store(p, (bits) / 8,                                           \
		      do_##name##bits(in, (uint##bits##_t)load(p, (bits) / 8), \
				      (uint##bits##_t)in->r[u->reg]));         \
		NEXT;                                                          \
	}                                                                      \
	HANDLER(name##bits##_mi)                                               \
	{                                                                      \
		void *p;                                                       \
                                                                               \
		AT(p, bits, true);                                             \
		store(p, (bits) / 8,                                           \
		      do_##name##bits(in, (uint##bits##_t)load(p, (bits) / 8), \
				      (uint##bits##_t)u->imm));                \
		NEXT;                                                          \
	}

/* OP that sets flags alone, and what becomes of them: THEN. */
#define COMPARE_FORMS(name, bits, suffix, then)                                \
	HANDLER(name##bits##_rr##suffix)                                       \
	{                                                                      \
		do_##name##bits(in, (uint##bits##_t)in->r[u->rm],              \
				(uint##bits##_t)in->r[u->reg]);                \
		then;                                                          \
	}                                                                      \
	HANDLER(name##bits##_ri##suffix)                                       \
	{                                                                      \
		do_##name##bits(in, (uint##bits##_t)in->r[u->rm],              \
				(uint##bits##_t)u->imm);                       \
		then;                                                          \
	}                                                                      \
	HANDLER(name##bits##_rm##suffix)                                       \
	{                                                                      \
		const void *p;                                                 \
                                                                               \
		AT(p, bits, false);                                            \
		do_##name##bits(in, (uint##bits##_t)in->r[u->reg],             \
				(uint##bits##_t)load(p, (bits) / 8));          \
		then;                                                          \
	}                                                                      \
	HANDLER(name##bits##_mr##suffix)                                       \
	{                                                                      \
		const void *p;                                                 \
                                                                               \
		AT(p, bits, false);                                            \
		do_##name##bits(in, (uint##bits##_t)load(p, (bits) / 8),       \
				(uint##bits##_t)in->r[u->reg]);                \
		then;                                                          \
	}                                                                      \
	HANDLER(name##bits##_mi##suffix)                                       \
	{                                                                      \
		const void *p;                                                 \
                                                                               \
		AT(p, bits, false);                                            \
		do_##name##bits(in, (uint##bits##_t)load(p, (bits) / 8),       \
				(uint##bits##_t)u->imm);                       \
		then;                                                          \
	}

#define ALU_SIZES(name)                                                        \
	ALU_FORMS(name, 64)                                                    \
	ALU_FORMS(name, 32)                                                    \
	ALU_FORMS(name, 8)

#define COMPARE_SIZES(name, suffix, then)                                      \
	COMPARE_FORMS(name, 64, suffix, then)                                  \
	COMPARE_FORMS(name, 32, suffix, then)                                  \
	COMPARE_FORMS(name, 8, suffix, then)

ALU_SIZES(add)
ALU_SIZES(or)
ALU_SIZES(and)
ALU_SIZES(sub)
ALU_SIZES(xor)
COMPARE_SIZES(cmp, , NEXT)
COMPARE_SIZES(cmp, _jcc, BRANCH)
COMPARE_SIZES(test, , NEXT)
COMPARE_SIZES(test, _jcc, BRANCH)

/* u->imm has been cut to the bits that count, and is not 0. */
#define SHIFTS(name, bits)                                                     \
	HANDLER(name##bits##_ri)                                               \
	{                                                                      \
		in->r[u->rm] = do_##name##bits(                                \
			in, (uint##bits##_t)in->r[u->rm], (uint8_t)u->imm);    \
		NEXT;                                                          \
	}

SHIFTS(shl, 64)
SHIFTS(shl, 32)
SHIFTS(shr, 64)
SHIFTS(shr, 32)
SHIFTS(sar, 64)
SHIFTS(sar, 32)

/* ---- moves --------------------------------------------------------------- */

#define MOVES(bits)                                                            \
	HANDLER(mov##bits##_rr) /* r/m, r */                                   \
	{                                                                      \
		SET(bits, u->rm, in->r[u->reg]);                               \
		NEXT;                                                          \
	}                                                                      \
	HANDLER(mov##bits##_ri)                                                \
	{                                                                      \
		SET(bits, u->rm, u->imm);                                      \
		NEXT;                                                          \
	}                                                                      \
	HANDLER(mov##bits##_rm)                                                \
	{                                                                      \
		const void *p;                                                 \
                                                                               \
		AT(p, bits, false);                                            \
		SET(bits, u->reg, load(p, (bits) / 8));                        \
		NEXT;                                                          \
	}                                                                      \
	HANDLER(mov##bits##_mr)                                                \
	{                                                                      \
		void *p;                                                       \
                                                                               \
		AT(p, bits, true);                                             \
		store(p, (bits) / 8, in->r[u->reg]);                           \
		NEXT;                                                          \
	}                                                                      \
	HANDLER(mov##bits##_mi)                                                \
	{                                                                      \
		void *p;                                                       \
                                                                               \
		AT(p, bits, true);                                             \
		store(p, (bits) / 8, (uint64_t)u->imm);                        \
		NEXT;                                                          \
	}

MOVES(64)
MOVES(32)
MOVES(8)

/* r, r/m */
HANDLER(mov64_back)
{
	in->r[u->reg] = in->r[u->rm];
	NEXT;
}

HANDLER(mov32_back)
{
	in->r[u->reg] = (uint32_t)in->r[u->rm];
	NEXT;
}

/* The 32-bit and the 64-bit form do the same: zeroes go above. */
#define MOVZX(bits)                                                            \
	HANDLER(movzx##bits##_rr)                                              \
	{                                                                      \
		in->r[u->reg] = (uint##bits##_t)in->r[u->rm];                  \
		NEXT;                                                          \
	}                                                                      \
	HANDLER(movzx##bits##_rm)                                              \
	{                                                                      \
		const void *p;                                                 \
                                                                               \
		AT(p, bits, false);                                            \
		in->r[u->reg] = load(p, (bits) / 8);                           \
		NEXT;                                                          \
	}

MOVZX(8)
MOVZX(16)

HANDLER(movsxd_rr)
{
	in->r[u->reg] = (uint64_t)(int32_t)in->r[u->rm];
	NEXT;
}

HANDLER(movsxd_rm)
{
	const void *p;

	AT(p, 32, false);
	in->r[u->reg] = (uint64_t)(int32_t)load(p, 4);
	NEXT;
}

HANDLER(lea64)
{
	in->r[u->reg] = plain_address(in, u);
	NEXT;
}

HANDLER(lea32)
{
	in->r[u->reg] = (uint32_t)plain_address(in, u);
	NEXT;
}

HANDLER(push_r)
{
	if (!push(in, in->r[u->rm]))
		return interp_stop(in, u);
	NEXT;
}

HANDLER(pop_r)
{
	const void *p = interp_pointer(in, in->r[RSP], 8, false);

	if (__builtin_expect(!p, 0))
		return interp_stop(in, u);
	in->r[RSP] += 8;
	in->r[u->rm] = load(p, 8);
	NEXT;
}

/* ---- which handler ------------------------------------------------------- */

enum { RR, RI, RM, MR, MI, FORMS };

#define FORMS_OF(name, bits, suffix)                                           \
	{                                                                      \
		name##bits##_rr##suffix, name##bits##_ri##suffix,              \
			name##bits##_rm##suffix, name##bits##_mr##suffix,      \
			name##bits##_mi##suffix                                \
	}
#define SIZES_OF(name, suffix)                                                 \
	{                                                                      \
		FORMS_OF(name, 8, suffix), FORMS_OF(name, 32, suffix),         \
			FORMS_OF(name, 64, suffix)                             \
	}

/* By operation as the opcode has it, size, form. ADC and SBB are none here. */
static interp_fn *const alu[8][3][FORMS] = {
	[0] = SIZES_OF(add, ), [1] = SIZES_OF(or, ),  [4] = SIZES_OF(and, ),
	[5] = SIZES_OF(sub, ), [6] = SIZES_OF(xor, ), [7] = SIZES_OF(cmp, ),
};
static interp_fn *const test[3][FORMS] = SIZES_OF(test, );
static interp_fn *const cmp_jcc[3][FORMS] = SIZES_OF(cmp, _jcc);
static interp_fn *const test_jcc[3][FORMS] = SIZES_OF(test, _jcc);
static interp_fn *const mov[3][FORMS] = SIZES_OF(mov, );

/* In the tables above; 3: none there. */
static unsigned size_index(unsigned size)
{
	return size == 8 ? 2 : size == 4 ? 1 : size == 1 ? 0 : 3;
}

/* True for AH, CH, DH and BH. */
static bool is_high(const struct uop *u, unsigned n)
{
	return n >= 4 && n < 8 && !u->rex;
}

/* Which form U's operands are, for those whose ModRM has them. FORMS: none. */
static unsigned form_of(const struct uop *u, unsigned size, bool imm,
			bool to_reg)
{
	if (u->odd || u->lock || size_index(size) > 2)
		return FORMS;
	if (size == 1 && ((!imm && is_high(u, u->reg)) ||
			  (u->mod == 3 && is_high(u, u->rm))))
		return FORMS;
	if (u->mod != 3)
		return imm ? MI : to_reg ? RM : MR;
	/* Those of two registers are of one form only. */
	return imm ? RI : to_reg ? FORMS : RR;
}

static interp_fn *pick(interp_fn *const table[3][FORMS], const struct uop *u,
		       unsigned size, unsigned form)
{
	return form < FORMS && table[size_index(size)][form]
		       ? table[size_index(size)][form]
		       : u->run;
}

static interp_fn *pick_mov(const struct uop *u)
{
	unsigned size = size_of(u);

	switch (u->opcode & 0xfe) {
	case 0x88:
		return pick(mov, u, size, form_of(u, size, false, false));
	case 0x8a:
		if (u->mod == 3 && size > 2)
			return size == 8 ? mov64_back : mov32_back;
		return pick(mov, u, size, form_of(u, size, false, true));
	default:
		return pick(mov, u, size, form_of(u, size, true, false));
	}
}

static interp_fn *pick_shift(const struct uop *u)
{
	static interp_fn *const shifts[8][2] = {
		[4] = {shl32_ri, shl64_ri},
		[5] = {shr32_ri, shr64_ri},
		[7] = {sar32_ri, sar64_ri},
	};
	bool wide = u->operand == 8;
	interp_fn *run = shifts[u->reg & 7][wide];

	if (u->opcode != 0xc1 || u->mod != 3 || u->operand == 2 || !run ||
	    u->imm <= 0 || u->imm > (wide ? 63 : 31))
		return u->run;
	return run;
}

static interp_fn *fast_0f(const struct uop *u)
{
	bool is_reg = u->mod == 3;

	if (u->odd || u->operand == 2)
		return u->run;
	switch (u->opcode) {
	case 0xb6:
		if (is_reg && is_high(u, u->rm))
			return u->run;
		return is_reg ? movzx8_rr : movzx8_rm;
	case 0xb7:
		return is_reg ? movzx16_rr : movzx16_rm;
	default:
		return u->run;
	}
}

static interp_fn *fast_one_byte(struct uop *u)
{
	unsigned op = u->opcode, size = size_of(u);

	if (op < 0x40 && (op & 7) < 4)
		return pick(alu[op >> 3], u, size,
			    form_of(u, size, false, op & 2));
	if (op < 0x40 || op == 0xa8 || op == 0xa9) { /* RAX, immediate */
		u->rm = RAX;
		return pick(op < 0x40 ? alu[op >> 3] : test, u, size,
			    size == 2 ? FORMS : RI);
	}
	if (op >= 0x80 && op <= 0x83)
		return pick(alu[u->reg & 7], u, size,
			    form_of(u, size, true, false));
	if (op >= 0x50 && op <= 0x5f)
		return u->operand == 2 ? u->run : op < 0x58 ? push_r : pop_r;
	if (op >= 0xb8 && op <= 0xbf)
		return u->operand == 2   ? u->run
		       : u->operand == 8 ? mov64_ri
					 : mov32_ri;
	switch (op) {
	case 0x63:
		if (u->odd || u->operand != 8)
			return u->run;
		return u->mod == 3 ? movsxd_rr : movsxd_rm;
	case 0x84:
	case 0x85:
		return pick(test, u, size, form_of(u, size, false, false));
	case 0xf6:
	case 0xf7:
		return (u->reg & 7) < 2 ? pick(test, u, size,
					       form_of(u, size, true, false))
					: u->run;
	case 0x88 ... 0x8b:
	case 0xc6 ... 0xc7:
		return pick_mov(u);
	case 0x8d:
		if (u->mod == 3 || u->odd || u->operand == 2)
			return u->run;
		return u->operand == 8 ? lea64 : lea32;
	case 0xc1:
		return pick_shift(u);
	default:
		return u->run;
	}
}

interp_fn *interp_fast(struct uop *u, enum insn_map map)
{
	return map == INSN_0F ? fast_0f(u) : fast_one_byte(u);
}

interp_fn *interp_fused(const struct uop *u)
{
	for (unsigned size = 0; size < 3; size++) {
		for (unsigned form = 0; form < FORMS; form++) {
			if (u->run == alu[7][size][form])
				return cmp_jcc[size][form];
			if (u->run == test[size][form])
				return test_jcc[size][form];
		}
	}
	return NULL;
}

bool interp_is_fused(const struct uop *u)
{
	for (unsigned size = 0; size < 3; size++) {
		for (unsigned form = 0; form < FORMS; form++) {
			if (u->run == cmp_jcc[size][form] ||
			    u->run == test_jcc[size][form])
				return true;
		}
	}
	return false;
}
