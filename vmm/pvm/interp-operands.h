/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The building blocks of the interpreter's instructions: operands in registers
 * and guest memory, results and their flags. Inline, as they are on the way of
 * every instruction; interp-{alu,flow,table}.c include it.
 */
#ifndef VMM_PVM_INTERP_OPERANDS_H
#define VMM_PVM_INTERP_OPERANDS_H

#include "vmm/pvm/interp-ops.h"

enum {
	CF = 0x001,
	PF = 0x004,
	AF = 0x010,
	ZF = 0x040,
	SF = 0x080,
	TF = 0x100,
	IF = 0x200,
	DF = 0x400,
	OF = 0x800,
	AC = 0x40000,
	STATUS = CF | PF | AF | ZF | SF | OF,
	/*
	 * The flags that POPF may change in ring 0; IOPL, NT, VIF and VIP are
	 * KVM's.
	 */
	POPF_BITS = STATUS | IF | DF | AC | 0x200000,
};

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI };

static inline uint64_t mask_of(unsigned size)
{
	return size == 8 ? UINT64_MAX : (UINT64_C(1) << 8 * size) - 1;
}

static inline uint64_t sign_of(unsigned size)
{
	return UINT64_C(1) << (8 * size - 1);
}

static inline int64_t extend(uint64_t value, unsigned size)
{
	unsigned shift = 64 - 8 * size;

	return (int64_t)(value << shift) >> shift;
}

/* The size of an instruction whose lowest opcode bit tells bytes from more. */
static inline unsigned size_of(const struct uop *u)
{
	return u->opcode & 1 ? u->operand : 1;
}

static inline uint64_t get_reg(const struct interp *in, const struct uop *u,
			       unsigned n, unsigned size)
{
	if (size == 1 && n >= 4 && n < 8 && !u->rex)
		return in->r[n - 4] >> 8 & 0xff;
	return in->r[n] & mask_of(size);
}

static inline void set_reg(struct interp *in, const struct uop *u, unsigned n,
			   unsigned size, uint64_t value)
{
	switch (size) {
	case 8:
		in->r[n] = value;
		break;
	case 4:
		in->r[n] = (uint32_t)value;
		break;
	case 2:
		in->r[n] = (in->r[n] & ~UINT64_C(0xffff)) | (value & 0xffff);
		break;
	default:
		if (n >= 4 && n < 8 && !u->rex)
			in->r[n - 4] = (in->r[n - 4] & ~UINT64_C(0xff00)) |
				       (value & 0xff) << 8;
		else
			in->r[n] =
				(in->r[n] & ~UINT64_C(0xff)) | (value & 0xff);
		break;
	}
}

/* A 32-bit address, or one of base, index and segment. */
static inline uint64_t odd_address(const struct interp *in, const struct uop *u,
				   uint64_t ea)
{
	if (u->address != 8)
		ea = (uint32_t)ea;
	return ea + in->r[u->segment];
}

static inline uint64_t address(const struct interp *in, const struct uop *u)
{
	uint64_t ea = in->r[u->base] + (in->r[u->index] << u->scale) +
		      (uint64_t)u->disp;

	return __builtin_expect(u->odd, 0) ? odd_address(in, u, ea) : ea;
}

/* ---- where to go on ------------------------------------------------------ */

static inline int interp_next(struct interp *in, const struct uop *u)
{
	return u[1].run(in, u + 1);
}

/* U cannot be done here, and nothing of it has been. */
static inline int interp_stop(struct interp *in, const struct uop *u)
{
	in->at = u;
	return INTERP_STOP;
}

/* U is done, and its block is left for RIP. */
static inline int interp_go(struct interp *in, const struct uop *u,
			    uint64_t rip)
{
	in->at = u + 1;
	in->rip = rip;
	return INTERP_END;
}

static inline uint64_t this_rip(const struct interp *in, const struct uop *u)
{
	return in->block->rip + u->off;
}

static inline uint64_t next_rip(const struct interp *in, const struct uop *u)
{
	return in->block->rip + u->off + u->len;
}

/* ---- memory -------------------------------------------------------------- */

/* Guest memory: any alignment, and other vCPUs write it, too. */
typedef uint16_t __attribute__((aligned(1), may_alias)) u16_any;
typedef uint32_t __attribute__((aligned(1), may_alias)) u32_any;
typedef uint64_t __attribute__((aligned(1), may_alias)) u64_any;

static inline uint64_t load(const volatile void *p, unsigned size)
{
	switch (size) {
	case 8:
		return *(const volatile u64_any *)p;
	case 4:
		return *(const volatile u32_any *)p;
	case 2:
		return *(const volatile u16_any *)p;
	default:
		return *(const volatile uint8_t *)p;
	}
}

static inline void store(volatile void *p, unsigned size, uint64_t value)
{
	switch (size) {
	case 8:
		*(volatile u64_any *)p = value;
		break;
	case 4:
		*(volatile u32_any *)p = (uint32_t)value;
		break;
	case 2:
		*(volatile u16_any *)p = (uint16_t)value;
		break;
	default:
		*(volatile uint8_t *)p = (uint8_t)value;
		break;
	}
}

/* True when *P was OLD and is VALUE now, in one step for all vCPUs. */
static inline bool exchange(void *p, unsigned size, uint64_t old,
			    uint64_t value)
{
	unsigned char done;

	switch (size) {
	case 8:
		__asm__ volatile("lock cmpxchgq %3, %1; sete %0"
				 : "=q"(done), "+m"(*(u64_any *)p), "+a"(old)
				 : "r"(value)
				 : "cc", "memory");
		break;
	case 4:
		__asm__ volatile("lock cmpxchgl %k3, %1; sete %0"
				 : "=q"(done), "+m"(*(u32_any *)p), "+a"(old)
				 : "r"(value)
				 : "cc", "memory");
		break;
	case 2:
		__asm__ volatile("lock cmpxchgw %w3, %1; sete %0"
				 : "=q"(done), "+m"(*(u16_any *)p), "+a"(old)
				 : "r"(value)
				 : "cc", "memory");
		break;
	default:
		__asm__ volatile("lock cmpxchgb %b3, %1; sete %0"
				 : "=q"(done), "+m"(*(uint8_t *)p), "+a"(old)
				 : "q"(value)
				 : "cc", "memory");
		break;
	}
	return done;
}

/*
 * The ModRM operand for reading and then writing: P is NULL for a register.
 */
struct place {
	void *p;
	unsigned size;
	uint64_t value;
};

/*
 * A locked operation over two cache lines may stall the whole host, or raise
 * SIGBUS here (split_lock_detect): left to KVM, which knows the host's rules.
 */
static inline bool splits_line(uint64_t va, unsigned size)
{
	const unsigned line = 64;

	return va % line + size > line;
}

static inline bool get_place(struct interp *in, const struct uop *u,
			     unsigned size, bool write, struct place *ret)
{
	uint64_t va;

	ret->size = size;
	ret->p = NULL;
	if (u->mod == 3) {
		ret->value = get_reg(in, u, u->rm, size);
		return true;
	}
	va = address(in, u);
	if (write && u->lock && splits_line(va, size))
		return false;
	ret->p = interp_pointer(in, va, size, write);
	if (!ret->p)
		return false;
	ret->value = load(ret->p, size);
	return true;
}

/* False: a locked operation lost a race and has to be done again. */
static inline bool set_place(struct interp *in, const struct uop *u,
			     const struct place *place, uint64_t value)
{
	if (!place->p) {
		set_reg(in, u, u->rm, place->size, value);
		return true;
	}
	if (u->lock)
		return exchange(place->p, place->size, place->value, value);
	store(place->p, place->size, value);
	return true;
}

static inline bool push(struct interp *in, uint64_t value)
{
	void *p = interp_pointer(in, in->r[RSP] - 8, 8, true);

	if (!p)
		return false;
	store(p, 8, value);
	in->r[RSP] -= 8;
	return true;
}

/* ---- flags --------------------------------------------------------------- */

/* Changes the status flags AFFECTED to what SET has of them. */
static inline void set_flags(struct interp *in, uint64_t affected, uint64_t set)
{
	in->low = (uint8_t)((in->low & ~affected) | (set & (STATUS & 0xff)));
	if (affected & OF)
		in->of = set & OF ? 1 : 0;
}

static inline uint64_t get_flags(const struct interp *in)
{
	return in->flags | (in->low & STATUS) | (in->of ? OF : 0);
}

/* All but the status flags go to in->flags. */
static inline void put_flags(struct interp *in, uint64_t flags)
{
	in->flags = flags & ~(uint64_t)STATUS;
	in->low = (uint8_t)flags;
	in->of = flags & OF ? 1 : 0;
}

/* The conditions (SDM 1 appendix B) that hold with some flags: a bit each. */
#define CONDITION(c, p, z, s, o)                                               \
	((o) ? 1u : 2u) | ((c) ? 4u : 8u) | ((z) ? 16u : 32u) |                \
		((c) || (z) ? 64u : 128u) | ((s) ? 256u : 512u) |              \
		((p) ? 1024u : 2048u) | ((s) != (o) ? 4096u : 8192u) |         \
		((z) || (s) != (o) ? 16384u : 32768u)
#define CONDITIONS(n)                                                          \
	[n] = CONDITION((n)&1, (n)&4, (n)&8, ((n)&16) != 0, ((n)&2) != 0)
#define CONDITIONS_8(n)                                                        \
	CONDITIONS(n), CONDITIONS((n) + 1), CONDITIONS((n) + 2),               \
		CONDITIONS((n) + 3), CONDITIONS((n) + 4), CONDITIONS((n) + 5), \
		CONDITIONS((n) + 6), CONDITIONS((n) + 7)

static inline bool condition(const struct interp *in, unsigned cc)
{
	static const uint16_t holds[32] = {CONDITIONS_8(0), CONDITIONS_8(8),
					   CONDITIONS_8(16), CONDITIONS_8(24)};
	/* CF, OF, PF, ZF, SF from the lowest bit up. */
	unsigned flags = (in->low & (CF | PF)) | (in->low & (ZF | SF)) >> 3 |
			 (unsigned)in->of << 1;

	return holds[flags] >> (cc & 15) & 1;
}

/* SF, ZF and PF of a result (SDM 1 3.4.3.1). */
static inline uint64_t result_flags(uint64_t value, unsigned size)
{
	uint64_t set = 0;

	value &= mask_of(size);
	if (value == 0)
		set |= ZF;
	if (value & sign_of(size))
		set |= SF;
	if (!__builtin_parity((unsigned)(value & 0xff)))
		set |= PF;
	return set;
}

static inline uint64_t add(struct interp *in, uint64_t a, uint64_t b,
			   unsigned carry, unsigned size)
{
	uint64_t value = (a + b + carry) & mask_of(size);
	uint64_t set = result_flags(value, size) | ((a ^ b ^ value) & AF);

	if (value < a || (carry && value == a))
		set |= CF;
	if ((a ^ value) & (b ^ value) & sign_of(size))
		set |= OF;
	set_flags(in, STATUS, set);
	return value;
}

static inline uint64_t sub(struct interp *in, uint64_t a, uint64_t b,
			   unsigned borrow, unsigned size)
{
	uint64_t value = (a - b - borrow) & mask_of(size);
	uint64_t set = result_flags(value, size) | ((a ^ b ^ value) & AF);

	if (a < b || (borrow && a == b))
		set |= CF;
	if ((a ^ b) & (a ^ value) & sign_of(size))
		set |= OF;
	set_flags(in, STATUS, set);
	return value;
}

static inline uint64_t logic(struct interp *in, uint64_t value, unsigned size)
{
	value &= mask_of(size);
	set_flags(in, STATUS, result_flags(value, size));
	return value;
}

/* interp-alu.c */
interp_fn interp_op_alu_rm_r;
interp_fn interp_op_alu_r_rm;
interp_fn interp_op_alu_a_imm;
interp_fn interp_op_alu_imm;
interp_fn interp_op_test;
interp_fn interp_op_test_a;
interp_fn interp_op_inc_dec;
interp_fn interp_op_not_neg;
interp_fn interp_op_mul;
interp_fn interp_op_div;
interp_fn interp_op_idiv;
interp_fn interp_op_imul;
interp_fn interp_op_shift;
interp_fn interp_op_shift_double;
interp_fn interp_op_bit;
interp_fn interp_op_bit_scan;
interp_fn interp_op_popcnt;
interp_fn interp_op_bswap;

/* interp-flow.c */
interp_fn interp_op_mov_store;
interp_fn interp_op_mov_load;
interp_fn interp_op_mov_imm;
interp_fn interp_op_lea;
interp_fn interp_op_movx;
interp_fn interp_op_xchg;
interp_fn interp_op_xchg_a;
interp_fn interp_op_cmpxchg;
interp_fn interp_op_xadd;
interp_fn interp_op_convert;
interp_fn interp_op_push;
interp_fn interp_op_pop;
interp_fn interp_op_leave;
interp_fn interp_op_flag;
interp_fn interp_op_pushf;
interp_fn interp_op_popf;
interp_fn interp_op_iret;
interp_fn interp_op_mov_segment;
interp_fn interp_op_mov_control;
interp_fn interp_op_jcc;
interp_fn interp_op_jmp;
interp_fn interp_op_call;
interp_fn interp_op_indirect;
interp_fn interp_op_ret;
interp_fn interp_op_setcc;
interp_fn interp_op_cmovcc;
interp_fn interp_op_stos;
interp_fn interp_op_movs;
interp_fn interp_op_nop;
interp_fn interp_op_fence;
interp_fn interp_op_group7;

#endif
