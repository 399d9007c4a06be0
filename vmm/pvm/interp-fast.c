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

/*
 * By what the operands are: registers, memory at r/m, immediates; RX is a
 * register and one at r/m. NONE: there is no handler.
 */
enum { NONE, RR, RI, RM, MR, MI, RX, FORMS };

/* An operation's handlers: by the size's logarithm, and form. */
struct forms {
	interp_fn *run[4][FORMS];
	const struct forms *fused; /* with the branch behind it, or NULL */
};

#define FORMS_OF(name, bits, suffix)                                           \
	{                                                                      \
		[RR] = name##bits##_rr##suffix,                                \
		[RI] = name##bits##_ri##suffix,                                \
		[RM] = name##bits##_rm##suffix,                                \
		[MR] = name##bits##_mr##suffix,                                \
		[MI] = name##bits##_mi##suffix,                                \
	}
#define SIZES_OF(name, suffix)                                                 \
	{                                                                      \
		[0] = FORMS_OF(name, 8, suffix),                               \
		[2] = FORMS_OF(name, 32, suffix),                              \
		[3] = FORMS_OF(name, 64, suffix),                              \
	}

static const struct forms add_forms = {SIZES_OF(add, ), NULL};
static const struct forms or_forms = {SIZES_OF(or, ), NULL};
static const struct forms and_forms = {SIZES_OF(and, ), NULL};
static const struct forms sub_forms = {SIZES_OF(sub, ), NULL};
static const struct forms xor_forms = {SIZES_OF(xor, ), NULL};
static const struct forms cmp_jcc_forms = {SIZES_OF(cmp, _jcc), NULL};
static const struct forms cmp_forms = {SIZES_OF(cmp, ), &cmp_jcc_forms};
static const struct forms test_jcc_forms = {SIZES_OF(test, _jcc), NULL};
static const struct forms test_forms = {SIZES_OF(test, ), &test_jcc_forms};
static const struct forms mov_forms = {SIZES_OF(mov, ), NULL};
static const struct forms mov_back_forms = {
	{[0] = {[RM] = mov8_rm},
	 [2] = {[RM] = mov32_rm, [RX] = mov32_back},
	 [3] = {[RM] = mov64_rm, [RX] = mov64_back}},
	NULL};
static const struct forms movzx8_forms = {
	{[2] = {[RM] = movzx8_rm, [RX] = movzx8_rr},
	 [3] = {[RM] = movzx8_rm, [RX] = movzx8_rr}},
	NULL};
static const struct forms movzx16_forms = {
	{[2] = {[RM] = movzx16_rm, [RX] = movzx16_rr},
	 [3] = {[RM] = movzx16_rm, [RX] = movzx16_rr}},
	NULL};
static const struct forms movsxd_forms = {
	{[3] = {[RM] = movsxd_rm, [RX] = movsxd_rr}}, NULL};
static const struct forms lea_forms = {
	{[2] = {[RM] = lea32}, [3] = {[RM] = lea64}}, NULL};
static const struct forms push_forms = {
	{[2] = {[RR] = push_r}, [3] = {[RR] = push_r}}, NULL};
static const struct forms pop_forms = {
	{[2] = {[RR] = pop_r}, [3] = {[RR] = pop_r}}, NULL};
static const struct forms shl_forms = {
	{[2] = {[RI] = shl32_ri}, [3] = {[RI] = shl64_ri}}, NULL};
static const struct forms shr_forms = {
	{[2] = {[RI] = shr32_ri}, [3] = {[RI] = shr64_ri}}, NULL};
static const struct forms sar_forms = {
	{[2] = {[RI] = sar32_ri}, [3] = {[RI] = sar64_ri}}, NULL};

/* By ModRM's reg field. ADC and SBB are none here. */
static const struct forms *const group1[8] = {
	&add_forms, &or_forms,  NULL,       NULL,
	&and_forms, &sub_forms, &xor_forms, &cmp_forms};
static const struct forms *const group2[8] = {
	[4] = &shl_forms, [5] = &shr_forms, [7] = &sar_forms};
static const struct forms *const group3[8] = {&test_forms, &test_forms};

enum {
	/* AH, CH, DH or BH may be there, which no handler here has. */
	HIGH_REG = 1,
	HIGH_RM = 2,
	IN_RAX = 4, /* the operand that the opcode has is RAX */
	SHIFT = 8,  /* the immediate is a number of bits */
};

/* An opcode. */
struct fast {
	const struct forms *forms;
	const struct forms *const *group; /* instead */
	uint8_t reg, mem; /* the form if mod is 3, and if it is not */
	uint8_t size;     /* of operands; 0: as prefixes say */
	uint8_t flags;
};

#define ALU(first, name)                                                       \
	[first] = {&(name), NULL, RR, MR, 1, HIGH_REG | HIGH_RM},              \
	[(first) + 1] = {&(name), NULL, RR, MR, 0, 0},                         \
	[(first) + 2] = {&(name), NULL, NONE, RM, 1, HIGH_REG},                \
	[(first) + 3] = {&(name), NULL, NONE, RM, 0, 0},                       \
	[(first) + 4] = {&(name), NULL, RI, RI, 1, IN_RAX},                    \
	[(first) + 5] = {&(name), NULL, RI, RI, 0, IN_RAX}

static const struct fast one_byte[256] = {
	ALU(0x00, add_forms),
	ALU(0x08, or_forms),
	ALU(0x20, and_forms),
	ALU(0x28, sub_forms),
	ALU(0x30, xor_forms),
	ALU(0x38, cmp_forms),
	[0x50 ... 0x57] = {&push_forms, NULL, RR, RR, 0, 0},
	[0x58 ... 0x5f] = {&pop_forms, NULL, RR, RR, 0, 0},
	[0x63] = {&movsxd_forms, NULL, RX, RM, 0, 0},
	[0x80] = {NULL, group1, RI, MI, 1, HIGH_RM},
	[0x81] = {NULL, group1, RI, MI, 0, 0},
	[0x83] = {NULL, group1, RI, MI, 0, 0},
	[0x84] = {&test_forms, NULL, RR, MR, 1, HIGH_REG | HIGH_RM},
	[0x85] = {&test_forms, NULL, RR, MR, 0, 0},
	[0x88] = {&mov_forms, NULL, RR, MR, 1, HIGH_REG | HIGH_RM},
	[0x89] = {&mov_forms, NULL, RR, MR, 0, 0},
	[0x8a] = {&mov_back_forms, NULL, RX, RM, 1, HIGH_REG},
	[0x8b] = {&mov_back_forms, NULL, RX, RM, 0, 0},
	[0x8d] = {&lea_forms, NULL, NONE, RM, 0, 0},
	[0xa8] = {&test_forms, NULL, RI, RI, 1, IN_RAX},
	[0xa9] = {&test_forms, NULL, RI, RI, 0, IN_RAX},
	[0xb8 ... 0xbf] = {&mov_forms, NULL, RI, RI, 0, 0},
	[0xc1] = {NULL, group2, RI, NONE, 0, SHIFT},
	[0xc6] = {&mov_forms, NULL, RI, MI, 1, HIGH_RM},
	[0xc7] = {&mov_forms, NULL, RI, MI, 0, 0},
	[0xf6] = {NULL, group3, RI, MI, 1, HIGH_RM},
	[0xf7] = {NULL, group3, RI, MI, 0, 0},
};

static const struct fast map_0f[256] = {
	[0xb6] = {&movzx8_forms, NULL, RX, RM, 0, HIGH_RM},
	[0xb7] = {&movzx16_forms, NULL, RX, RM, 0, 0},
};

/* True for AH, CH, DH and BH. */
static bool is_high(const struct uop *u, unsigned n)
{
	return n >= 4 && n < 8 && !u->rex;
}

/* The operation that U is, as E has its opcode. NULL: there is none here. */
static const struct forms *forms_of(const struct fast *e, const struct uop *u)
{
	return e->group ? e->group[u->reg & 7] : e->forms;
}

static interp_fn *pick(const struct forms *forms, const struct fast *e,
		       const struct uop *u)
{
	unsigned size = e->size ? e->size : u->operand;

	return forms->run[__builtin_ctz(size)][u->mod == 3 ? e->reg : e->mem];
}

interp_fn *interp_fast(struct uop *u, enum insn_map map)
{
	const struct fast *e = &(map == INSN_0F ? map_0f : one_byte)[u->opcode];
	const struct forms *forms = forms_of(e, u);
	interp_fn *run = forms ? pick(forms, e, u) : NULL;

	if (!run || u->odd || u->lock)
		return u->run;
	if (((e->flags & HIGH_REG) && is_high(u, u->reg)) ||
	    ((e->flags & HIGH_RM) && u->mod == 3 && is_high(u, u->rm)))
		return u->run;
	if ((e->flags & SHIFT) && (u->imm <= 0 || u->imm >= 8 * u->operand))
		return u->run;
	if (e->flags & IN_RAX)
		u->rm = RAX;
	return run;
}

interp_fn *interp_fused(const struct uop *u)
{
	const struct fast *e = &one_byte[u->opcode];
	const struct forms *forms = forms_of(e, u);

	/* The handler tells that it is this opcode, of this map. */
	if (!forms || !forms->fused || u->run != pick(forms, e, u))
		return NULL;
	return pick(forms->fused, e, u);
}

bool interp_is_fused(const struct uop *u)
{
	const struct fast *e = &one_byte[u->opcode];
	const struct forms *forms = forms_of(e, u);

	return forms && forms->fused && u->run == pick(forms->fused, e, u);
}
