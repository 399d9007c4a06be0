/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Maps instructions to handlers. KVM runs those that are not listed here.
 */
#include "vmm/pvm/interp-operands.h"

/* The eight operations of the same six forms (SDM 2D A.2). */
#define ALU(first)                                                             \
	[(first) + 0 ...(first) +                                              \
		1] = interp_op_alu_rm_r,                                       \
		[(first) + 2 ...(first) + 3] = interp_op_alu_r_rm,             \
		[(first) + 4 ...(first) + 5] = interp_op_alu_a_imm

static interp_fn *const one_byte[256] = {
	ALU(0x00),
	ALU(0x08),
	ALU(0x10),
	ALU(0x18),
	ALU(0x20),
	ALU(0x28),
	ALU(0x30),
	ALU(0x38),
	[0x50 ... 0x57] = interp_op_push,
	[0x58 ... 0x5f] = interp_op_pop,
	[0x63] = interp_op_movx,
	[0x68] = interp_op_push,
	[0x69] = interp_op_imul,
	[0x6a] = interp_op_push,
	[0x6b] = interp_op_imul,
	[0x70 ... 0x7f] = interp_op_jcc,
	[0x80 ... 0x81] = interp_op_alu_imm,
	[0x83] = interp_op_alu_imm,
	[0x84 ... 0x85] = interp_op_test,
	[0x86 ... 0x87] = interp_op_xchg,
	[0x88 ... 0x89] = interp_op_mov_store,
	[0x8a ... 0x8b] = interp_op_mov_load,
	[0x8c] = interp_op_mov_segment,
	[0x8d] = interp_op_lea,
	[0x90 ... 0x97] = interp_op_xchg_a,
	[0x98 ... 0x99] = interp_op_convert,
	[0x9c] = interp_op_pushf,
	[0x9d] = interp_op_popf,
	[0xa4 ... 0xa5] = interp_op_movs,
	[0xa8 ... 0xa9] = interp_op_test_a,
	[0xaa ... 0xab] = interp_op_stos,
	[0xb0 ... 0xbf] = interp_op_mov_imm,
	[0xc0 ... 0xc1] = interp_op_shift,
	[0xc2 ... 0xc3] = interp_op_ret,
	[0xc6 ... 0xc7] = interp_op_mov_store,
	[0xc9] = interp_op_leave,
	[0xd0 ... 0xd3] = interp_op_shift,
	[0xcf] = interp_op_iret,
	[0xe8] = interp_op_call,
	[0xe9] = interp_op_jmp,
	[0xeb] = interp_op_jmp,
	[0xf8 ... 0xfc] = interp_op_flag,
};

static interp_fn *const two_byte[256] = {
	[0x01] = interp_op_group7,
	[0x0d] = interp_op_nop,
	[0x18 ... 0x1f] = interp_op_nop,
	[0x20] = interp_op_mov_control,
	[0x40 ... 0x4f] = interp_op_cmovcc,
	[0x80 ... 0x8f] = interp_op_jcc,
	[0x90 ... 0x9f] = interp_op_setcc,
	[0xa3] = interp_op_bit,
	[0xa4 ... 0xa5] = interp_op_shift_double,
	[0xab] = interp_op_bit,
	[0xac ... 0xad] = interp_op_shift_double,
	[0xae] = interp_op_fence,
	[0xaf] = interp_op_imul,
	[0xb0 ... 0xb1] = interp_op_cmpxchg,
	[0xb3] = interp_op_bit,
	[0xb6 ... 0xb7] = interp_op_movx,
	[0xb8] = interp_op_popcnt,
	[0xba ... 0xbb] = interp_op_bit,
	[0xbc ... 0xbd] = interp_op_bit_scan,
	[0xbe ... 0xbf] = interp_op_movx,
	[0xc0 ... 0xc1] = interp_op_xadd,
	[0xc8 ... 0xcf] = interp_op_bswap,
};

/* Where ModRM's reg field chooses. */
static interp_fn *group(const struct insn *insn)
{
	static interp_fn *const group3[8] = {
		interp_op_test,    interp_op_test, interp_op_not_neg,
		interp_op_not_neg, interp_op_mul,  interp_op_mul,
		interp_op_div,     interp_op_idiv,
	};
	static interp_fn *const group5[8] = {
		interp_op_inc_dec,  interp_op_inc_dec,
		interp_op_indirect, NULL,
		interp_op_indirect, NULL,
		interp_op_push,     NULL,
	};
	unsigned reg = insn->reg & 7;

	if (insn->opcode == 0xf6 || insn->opcode == 0xf7)
		return group3[reg];
	return insn->opcode == 0xff || reg < 2 ? group5[reg] : NULL;
}

/* LOCK with anything else, or on a register, is #UD (SDM 2A LOCK). */
static bool lockable(const struct insn *insn)
{
	unsigned op = insn->opcode, reg = insn->reg & 7;

	if (!insn->has_modrm || insn->mod == 3)
		return false;
	if (insn->map == INSN_0F)
		return op == 0xab || op == 0xb3 || op == 0xbb ||
		       (op == 0xba && reg >= 5) || op == 0xb0 || op == 0xb1 ||
		       op == 0xc0 || op == 0xc1;
	switch (op) {
	case 0x80:
	case 0x81:
	case 0x83:
		return reg != 7; /* CMP */
	case 0x86:
	case 0x87:
		return true;
	case 0xf6:
	case 0xf7:
		return reg == 2 || reg == 3;
	case 0xfe:
	case 0xff:
		return reg < 2;
	default:
		return op < 0x38 && (op & 7) < 2;
	}
}

/* Forms that processors disagree on, or so rare that they are not worth it. */
static bool odd(const struct insn *insn)
{
	unsigned op = insn->opcode;
	bool map_0f = insn->map == INSN_0F;

	if (insn->operand != 2 && insn->address == 8)
		return false;
	/* The bit number counts before the address is cut to 32 bits. */
	if (insn->address != 8 && map_0f &&
	    (op == 0xa3 || op == 0xab || op == 0xb3 || op == 0xbb))
		return true;
	if (insn->operand != 2)
		return false;
	/* Near branches, MOVSXD, BSWAP. */
	if (map_0f)
		return (op & 0xf0) == 0x80 || (op & 0xf8) == 0xc8;
	return op == 0x63 || (op & 0xf0) == 0x70 || op == 0xc2 || op == 0xc3 ||
	       op == 0xe8 || op == 0xe9 || op == 0xeb ||
	       (op == 0xff && (insn->reg & 7) >= 2);
}

interp_fn *interp_find(const struct insn *insn)
{
	if (insn->encoding != INSN_LEGACY || odd(insn) ||
	    (insn->lock && !lockable(insn)))
		return NULL;
	if (insn->map == INSN_0F) {
		if (insn->opcode == 0xba && (insn->reg & 7) < 4)
			return NULL;
		return two_byte[insn->opcode];
	}
	if (insn->map != INSN_ONE_BYTE)
		return NULL;
	if ((insn->opcode == 0xc6 || insn->opcode == 0xc7) && insn->reg & 7)
		return NULL;
	if (insn->opcode == 0xf6 || insn->opcode == 0xf7 ||
	    insn->opcode == 0xfe || insn->opcode == 0xff)
		return group(insn);
	return one_byte[insn->opcode];
}
