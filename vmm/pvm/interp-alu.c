/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arithmetic, logic, shifts and bits (SDM volume 2), for the interpreter. A
 * handler changes nothing before everything it needs is certain.
 */
#include "vmm/pvm/interp-operands.h"

enum { ADD, OR, ADC, SBB, AND, SUB, XOR, CMP };

static uint64_t alu(struct interp *in, unsigned op, uint64_t a, uint64_t b,
		    unsigned size)
{
	b &= mask_of(size);
	switch (op) {
	case ADD:
		return add(in, a, b, 0, size);
	case OR:
		return logic(in, a | b, size);
	case ADC:
		return add(in, a, b, in->low & CF, size);
	case SBB:
		return sub(in, a, b, in->low & CF, size);
	case AND:
		return logic(in, a & b, size);
	case XOR:
		return logic(in, a ^ b, size);
	default:
		return sub(in, a, b, 0, size);
	}
}

/*
 * Applies OP to the ModRM operand and B; again while a locked one loses a race.
 */
static int alu_place(struct interp *in, const struct uop *u, unsigned op,
		     uint64_t b, unsigned size)
{
	const uint8_t low = in->low;
	struct place place;
	uint64_t value;

	do {
		in->low = low; /* its carry, for ADC and SBB */
		if (!get_place(in, u, size, op != CMP, &place))
			return interp_stop(in, u);
		value = alu(in, op, place.value, b, size);
	} while (op != CMP && !set_place(in, u, &place, value));
	return interp_next(in, u);
}

/* 00 08 .. 38: op r/m, r */
int interp_op_alu_rm_r(struct interp *in, const struct uop *u)
{
	unsigned size = size_of(u);

	return alu_place(in, u, u->opcode >> 3 & 7,
			 get_reg(in, u, u->reg, size), size);
}

/* 02 0a .. 3a: op r, r/m */
int interp_op_alu_r_rm(struct interp *in, const struct uop *u)
{
	unsigned size = size_of(u), op = u->opcode >> 3 & 7;
	struct place place;
	uint64_t value;

	if (!get_place(in, u, size, false, &place))
		return interp_stop(in, u);
	value = alu(in, op, get_reg(in, u, u->reg, size), place.value, size);
	if (op != CMP)
		set_reg(in, u, u->reg, size, value);
	return interp_next(in, u);
}

/* 04 0c .. 3c: op rax, imm */
int interp_op_alu_a_imm(struct interp *in, const struct uop *u)
{
	unsigned size = size_of(u), op = u->opcode >> 3 & 7;
	uint64_t value =
		alu(in, op, in->r[RAX] & mask_of(size), (uint64_t)u->imm, size);

	if (op != CMP)
		set_reg(in, u, RAX, size, value);
	return interp_next(in, u);
}

/* 80 81 83 */
int interp_op_alu_imm(struct interp *in, const struct uop *u)
{
	return alu_place(in, u, u->reg & 7, (uint64_t)u->imm, size_of(u));
}

/* 84 85, f6 f7 /0 */
int interp_op_test(struct interp *in, const struct uop *u)
{
	unsigned size = size_of(u);
	struct place place;

	if (!get_place(in, u, size, false, &place))
		return interp_stop(in, u);
	logic(in,
	      place.value & (u->opcode >= 0xf6 ? (uint64_t)u->imm
					       : get_reg(in, u, u->reg, size)),
	      size);
	return interp_next(in, u);
}

int interp_op_test_a(struct interp *in, const struct uop *u)
{
	logic(in, in->r[RAX] & (uint64_t)u->imm, size_of(u));
	return interp_next(in, u);
}

/* fe ff /0 /1: INC, DEC leave CF alone */
int interp_op_inc_dec(struct interp *in, const struct uop *u)
{
	unsigned size = size_of(u);
	uint64_t carry = in->low & CF, value;
	struct place place;

	do {
		if (!get_place(in, u, size, true, &place))
			return interp_stop(in, u);
		value = u->reg & 1 ? sub(in, place.value, 1, 0, size)
				   : add(in, place.value, 1, 0, size);
		set_flags(in, CF, carry);
	} while (!set_place(in, u, &place, value));
	return interp_next(in, u);
}

/* f6 f7 /2 /3 */
int interp_op_not_neg(struct interp *in, const struct uop *u)
{
	unsigned size = size_of(u);
	struct place place;
	uint64_t value;

	do {
		if (!get_place(in, u, size, true, &place))
			return interp_stop(in, u);
		value = u->reg & 1 ? sub(in, 0, place.value, 0, size)
				   : ~place.value;
	} while (!set_place(in, u, &place, value));
	return interp_next(in, u);
}

/* f6 f7 /4 /5: MUL, IMUL into RDX:RAX; of bytes it is not worth it */
int interp_op_mul(struct interp *in, const struct uop *u)
{
	unsigned size = size_of(u), bits = 8 * size;
	struct place place;
	__int128 product;
	bool high;

	if (size == 1 || !get_place(in, u, size, false, &place))
		return interp_stop(in, u);
	if (u->reg & 1) {
		product = (__int128)extend(in->r[RAX], size) *
			  extend(place.value, size);
		high = product != extend((uint64_t)product, size);
	} else {
		unsigned __int128 p =
			(unsigned __int128)(in->r[RAX] & mask_of(size)) *
			place.value;

		product = (__int128)p;
		high = p >> bits != 0;
	}
	set_reg(in, u, RAX, size, (uint64_t)product);
	set_reg(in, u, RDX, size,
		(uint64_t)((unsigned __int128)product >> bits));
	set_flags(in, STATUS,
		  result_flags((uint64_t)product, size) | (high ? CF | OF : 0));
	return interp_next(in, u);
}

/* f7 /6: DIV; whatever would raise #DE is left to KVM */
int interp_op_div(struct interp *in, const struct uop *u)
{
	unsigned size = size_of(u), bits = 8 * size;
	unsigned __int128 dividend, quotient;
	struct place place;

	if (size == 1 || !get_place(in, u, size, false, &place) ||
	    place.value == 0)
		return interp_stop(in, u);
	dividend = (unsigned __int128)(in->r[RDX] & mask_of(size)) << bits |
		   (in->r[RAX] & mask_of(size));
	quotient = dividend / place.value;
	if (quotient >> bits != 0)
		return interp_stop(in, u);
	set_reg(in, u, RAX, size, (uint64_t)quotient);
	set_reg(in, u, RDX, size, (uint64_t)(dividend % place.value));
	return interp_next(in, u);
}

/* f7 /7 */
int interp_op_idiv(struct interp *in, const struct uop *u)
{
	unsigned size = size_of(u);
	struct place place;
	__int128 dividend, quotient;
	int64_t divisor;

	if (size < 4 || !get_place(in, u, size, false, &place))
		return interp_stop(in, u);
	divisor = extend(place.value, size);
	if (size == 8)
		dividend = (__int128)((unsigned __int128)in->r[RDX] << 64 |
				      in->r[RAX]);
	else
		dividend = (int64_t)(in->r[RDX] << 32 | (uint32_t)in->r[RAX]);
	/* -1 apart: the most negative number has no positive counterpart. */
	if (divisor == 0 || divisor == -1)
		return interp_stop(in, u);
	quotient = dividend / divisor;
	if (quotient != extend((uint64_t)quotient, size))
		return interp_stop(in, u);
	set_reg(in, u, RAX, size, (uint64_t)quotient);
	set_reg(in, u, RDX, size, (uint64_t)(dividend % divisor));
	return interp_next(in, u);
}

/* 69 6b, 0f af */
int interp_op_imul(struct interp *in, const struct uop *u)
{
	unsigned size = u->operand;
	struct place place;
	int64_t factor;
	__int128 product;

	if (!get_place(in, u, size, false, &place))
		return interp_stop(in, u);
	factor = u->opcode == 0xaf ? extend(in->r[u->reg], size) : u->imm;
	product = (__int128)extend(place.value, size) * factor;
	set_reg(in, u, u->reg, size, (uint64_t)product);
	set_flags(in, STATUS,
		  result_flags((uint64_t)product, size) |
			  (product != extend((uint64_t)product, size) ? CF | OF
								      : 0));
	return interp_next(in, u);
}

enum { ROL, ROR, RCL, RCR, SHL, SHR, SAL, SAR };

static uint64_t rotate(struct interp *in, bool right, uint64_t a, unsigned n,
		       unsigned size)
{
	unsigned bits = 8 * size, left = right ? bits - n % bits : n;
	uint64_t value, set = 0;

	left %= bits;
	value = left ? (a << left | a >> (bits - left)) & mask_of(size) : a;
	if (right) {
		set |= value & sign_of(size) ? CF : 0;
		/* OF: the two highest bits differ; defined for one bit. */
		set |= (value ^ value << 1) & sign_of(size) ? OF : 0;
	} else {
		set |= value & 1;
		set |= !!(value & sign_of(size)) != (value & 1) ? OF : 0;
	}
	set_flags(in, CF | OF, set);
	return value;
}

static uint64_t shift(struct interp *in, unsigned op, uint64_t a, unsigned n,
		      unsigned size)
{
	unsigned bits = 8 * size;
	uint64_t value, set = 0;

	if (op == SHL || op == SAL) {
		value = n < bits ? a << n & mask_of(size) : 0;
		set |= n <= bits && a >> (bits - n) & 1 ? CF : 0;
		set |= !!(value & sign_of(size)) != !!(set & CF) ? OF : 0;
	} else if (op == SHR) {
		value = n < bits ? a >> n : 0;
		set |= n <= bits && a >> (n - 1) & 1 ? CF : 0;
		set |= a & sign_of(size) ? OF : 0;
	} else {
		int64_t s = extend(a, size);

		value = (uint64_t)(s >> (n < 64 ? n : 63)) & mask_of(size);
		set |= s >> (n <= 64 ? n - 1 : 63) & 1 ? CF : 0;
	}
	set_flags(in, STATUS, set | result_flags(value, size));
	return value;
}

/* c0 c1 d0 d1 d2 d3 */
int interp_op_shift(struct interp *in, const struct uop *u)
{
	unsigned size = size_of(u), op = u->reg & 7;
	unsigned n = 1;
	struct place place;
	uint64_t value;

	if (u->opcode <= 0xc1)
		n = (unsigned)u->imm;
	else if (u->opcode >= 0xd2)
		n = (unsigned)in->r[RCX];
	n &= size == 8 ? 63 : 31;
	if (op == RCL || op == RCR || !get_place(in, u, size, true, &place))
		return interp_stop(in, u);
	if (n == 0 && place.p)
		return interp_next(in, u);
	if (n == 0)
		value = place.value; /* a 32-bit register is extended */
	else if (op == ROL || op == ROR)
		value = rotate(in, op == ROR, place.value, n, size);
	else
		value = shift(in, op, place.value, n, size);
	set_place(in, u, &place, value);
	return interp_next(in, u);
}

/* 0f a4 a5 ac ad: SHLD, SHRD of 32 and 64 bits */
int interp_op_shift_double(struct interp *in, const struct uop *u)
{
	unsigned size = u->operand, bits = 8 * size;
	unsigned n = u->opcode & 1 ? (unsigned)in->r[RCX] : (unsigned)u->imm;
	uint64_t other = get_reg(in, u, u->reg, size), value, set;
	struct place place;

	n &= size == 8 ? 63 : 31;
	if (size == 2 || !get_place(in, u, size, true, &place))
		return interp_stop(in, u);
	if (n == 0) {
		if (!place.p)
			set_reg(in, u, u->rm, size, place.value);
		return interp_next(in, u);
	}
	if (u->opcode < 0xa8) {
		value = place.value << n | other >> (bits - n);
		set = place.value >> (bits - n) & 1;
	} else {
		value = place.value >> n | other << (bits - n);
		set = place.value >> (n - 1) & 1;
	}
	value &= mask_of(size);
	set |= (value ^ place.value) & sign_of(size) ? OF : 0;
	set_flags(in, STATUS, set | result_flags(value, size));
	set_place(in, u, &place, value);
	return interp_next(in, u);
}

/* 0f a3 ab b3 bb (bit number in a register), 0f ba (immediate) */
int interp_op_bit(struct interp *in, const struct uop *u)
{
	unsigned size = u->operand;
	unsigned op = u->opcode == 0xba ? u->reg & 3 : u->opcode >> 3 & 3;
	int64_t bit = u->opcode == 0xba ? u->imm & (8 * size - 1)
					: extend(in->r[u->reg], size);
	struct place place = {.size = size};
	uint64_t one, value;

	for (;;) {
		if (u->mod == 3) {
			place.value = get_reg(in, u, u->rm, size);
		} else {
			/* The number reaches beyond the operand (SDM BT). */
			uint64_t va = address(in, u) +
				      (uint64_t)(bit >> (size == 8   ? 6
							 : size == 4 ? 5
								     : 4)) *
					      size;

			place.p = interp_pointer(in, va, size, op != 0);
			if (!place.p || (u->lock && splits_line(va, size)))
				return interp_stop(in, u);
			place.value = load(place.p, size);
		}
		one = UINT64_C(1) << (bit & (8 * size - 1));
		value = op == 1   ? place.value | one
			: op == 2 ? place.value & ~one
				  : place.value ^ one;
		if (op == 0 || set_place(in, u, &place, value))
			break;
	}
	set_flags(in, CF, place.value & one ? CF : 0);
	return interp_next(in, u);
}

/* 0f bc, 0f bd; with f3 TZCNT, LZCNT */
int interp_op_bit_scan(struct interp *in, const struct uop *u)
{
	unsigned size = u->operand, bits = 8 * size, n;
	bool count = u->prefix == 0xf3, reverse = u->opcode & 1;
	struct place place;

	if (!get_place(in, u, size, false, &place))
		return interp_stop(in, u);
	if (place.value == 0) {
		if (count)
			set_reg(in, u, u->reg, size, bits);
		set_flags(in, ZF | CF, count ? CF : ZF);
		return interp_next(in, u);
	}
	n = reverse ? 63 - (unsigned)__builtin_clzll(place.value)
		    : (unsigned)__builtin_ctzll(place.value);
	if (count && reverse)
		n = bits - 1 - n;
	set_reg(in, u, u->reg, size, n);
	set_flags(in, ZF | CF, count && n == 0 ? ZF : 0);
	return interp_next(in, u);
}

int interp_op_popcnt(struct interp *in, const struct uop *u)
{
	struct place place;

	if (u->prefix != 0xf3 || !get_place(in, u, u->operand, false, &place))
		return interp_stop(in, u);
	set_reg(in, u, u->reg, u->operand,
		(uint64_t)__builtin_popcountll(place.value));
	set_flags(in, STATUS, place.value ? 0 : ZF);
	return interp_next(in, u);
}

int interp_op_bswap(struct interp *in, const struct uop *u)
{
	unsigned n = (u->opcode & 7) | (u->rm & 8);

	if (u->operand == 8)
		in->r[n] = __builtin_bswap64(in->r[n]);
	else
		in->r[n] = __builtin_bswap32((uint32_t)in->r[n]);
	return interp_next(in, u);
}
