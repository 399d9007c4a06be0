/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which instruction is which: one line each. The first line that matches wins.
 *
 * The instructions that KVM's emulator refuses were found by running each one
 * in ring 0 on a host that interprets guest kernels. Some others are here
 * because older emulators refuse them. LZCNT and TZCNT never get here: the
 * emulator takes them for BSR and BSF, silently (of TZCNT only a zero operand
 * shows it).
 *
 * To add one: write a handler (assist-exec.h), add its line, and a case to
 * tests/vmm/pvm/test-assist.c.
 */
#include "vmm/pvm/assist-exec.h"

#include "vmm/base/util.h"

#include <stdbool.h>

#define NP        0 /* no prefix */
#define ANY       EXEC_ANY_PREFIX
#define MEM       0, 0, EXEC_MEMORY
#define REG       0, 0, EXEC_REGISTER
#define RM        0, 0, EXEC_EITHER           /* register or memory */
#define NONE      RM                          /* no ModRM byte */
#define MEM_OP(n) 0x38, (n) << 3, EXEC_MEMORY /* /n */
#define REG_OP(n) 0x38, (n) << 3, EXEC_REGISTER
#define RM_OP(n)  0x38, (n) << 3, EXEC_EITHER
#define EXACT(b)  0xff, (b), EXEC_EITHER /* this ModRM byte */
#define LEG       INSN_LEGACY
#define VEX       INSN_VEX
#define ONE       INSN_ONE_BYTE

/* clang-format off */
static const struct exec_op table[] = {
	/* map	     op	   prefix enc  ModRM	   name		handler */
	{ONE,	     0xcc, ANY,	  LEG, NONE,	   "INT3",	exec_int3},
	{ONE,	     0xf1, ANY,	  LEG, NONE,	   "INT1",	exec_int1},
	{ONE,	     0x9b, ANY,	  LEG, NONE,	   "FWAIT",	exec_fwait},
	{ONE,	     0xcd, ANY,	  LEG, NONE,	   "INT n",	NULL},

	{INSN_0F,    0x01, NP,	  LEG, EXACT(0xca), "CLAC",	exec_clac},
	{INSN_0F,    0x01, NP,	  LEG, EXACT(0xcb), "STAC",	exec_stac},
	{INSN_0F,    0x01, NP,	  LEG, EXACT(0xd0), "XGETBV",	exec_xgetbv},
	{INSN_0F,    0x01, NP,	  LEG, EXACT(0xd1), "XSETBV",	NULL},
	{INSN_0F,    0x01, NP,	  LEG, EXACT(0xd6), "XTEST",	exec_ud},
	{INSN_0F,    0x01, NP,	  LEG, EXACT(0xc5), "PCONFIG",	exec_ud},
	{INSN_0F,    0x01, NP,	  LEG, EXACT(0xe8), "SERIALIZE", exec_nop},
	{INSN_0F,    0x01, NP,	  LEG, EXACT(0xee), "RDPKRU",	exec_ud},
	{INSN_0F,    0x01, NP,	  LEG, EXACT(0xef), "WRPKRU",	exec_ud},
	{INSN_0F,    0x01, ANY,	  LEG, EXACT(0xf9), "RDTSCP",	exec_rdtscp},
	{INSN_0F,    0x01, ANY,	  LEG, EXACT(0xfc), "CLZERO",	exec_clzero},
	{INSN_0F,    0x01, ANY,	  LEG, EXACT(0xc8), "MONITOR",	exec_ud},
	{INSN_0F,    0x01, ANY,	  LEG, EXACT(0xc9), "MWAIT",	exec_ud},
	{INSN_0F,    0x01, ANY,	  LEG, EXACT(0xfa), "MONITORX", exec_ud},
	{INSN_0F,    0x01, ANY,	  LEG, EXACT(0xfb), "MWAITX",	exec_ud},
	{INSN_0F,    0x01, ANY,	  LEG, EXACT(0xc1), "VMCALL",	NULL},
	{INSN_0F,    0x01, ANY,	  LEG, EXACT(0xd9), "VMMCALL",	NULL},

	{INSN_0F,    0x00, ANY,	  LEG, RM_OP(4),   "VERR",	exec_ver},
	{INSN_0F,    0x00, ANY,	  LEG, RM_OP(5),   "VERW",	exec_ver},
	{INSN_0F,    0x02, ANY,	  LEG, RM,	   "LAR",	exec_lar_lsl},
	{INSN_0F,    0x03, ANY,	  LEG, RM,	   "LSL",	exec_lar_lsl},
	{INSN_0F,    0x06, ANY,	  LEG, NONE,	   "CLTS",	exec_clts},
	{INSN_0F,    0x0d, ANY,	  LEG, MEM,	   "PREFETCHW",	exec_nop},
	{INSN_0F,    0x18, ANY,	  LEG, MEM,	   "PREFETCH",	exec_nop},
	{INSN_0F,    0x1c, ANY,	  LEG, MEM_OP(0),  "CLDEMOTE",	exec_nop},
	{INSN_0F,    0x1e, 0xf3,  LEG, EXACT(0xfa), "ENDBR64",	exec_nop},
	{INSN_0F,    0x1e, 0xf3,  LEG, EXACT(0xfb), "ENDBR32",	exec_nop},
	{INSN_0F,    0x1e, 0xf3,  LEG, REG_OP(1),  "RDSSP",	exec_nop},
	{INSN_0F,    0x34, ANY,	  LEG, NONE,	   "SYSENTER",	NULL},
	{INSN_0F,    0x37, ANY,	  LEG, NONE,	   "GETSEC",	exec_ud},
	{INSN_0F,    0x77, ANY,	  LEG, NONE,	   "EMMS",	exec_emms},
	{INSN_0F,    0xb9, ANY,	  LEG, RM,	   "UD1",	exec_ud},
	{INSN_0F,    0xff, ANY,	  LEG, RM,	   "UD0",	exec_ud},

	/* The XSAVE family, at each context switch. */
	{INSN_0F,    0xae, NP,	  LEG, MEM_OP(4),  "XSAVE",	exec_xsave},
	{INSN_0F,    0xae, NP,	  LEG, MEM_OP(5),  "XRSTOR",	exec_xrstor},
	{INSN_0F,    0xae, NP,	  LEG, MEM_OP(6),  "XSAVEOPT",	exec_xsave},
	{INSN_0F,    0xc7, NP,	  LEG, MEM_OP(3),  "XRSTORS",	exec_xrstors},
	{INSN_0F,    0xc7, NP,	  LEG, MEM_OP(4),  "XSAVEC",	exec_xsavec},
	{INSN_0F,    0xc7, NP,	  LEG, MEM_OP(5),  "XSAVES",	exec_xsaves},

	{INSN_0F,    0xae, NP,	  LEG, MEM_OP(2),  "LDMXCSR",	exec_ldmxcsr},
	{INSN_0F,    0xae, NP,	  LEG, MEM_OP(3),  "STMXCSR",	exec_stmxcsr},
	{INSN_0F,    0xae, 0x66,  LEG, MEM_OP(6),  "CLWB",	exec_nop},
	{INSN_0F,    0xae, ANY,	  LEG, MEM_OP(7),  "CLFLUSH",	exec_nop},
	{INSN_0F,    0xae, ANY,	  LEG, REG_OP(7),  "SFENCE",	exec_nop},
	{INSN_0F,    0xae, 0x66,  LEG, REG_OP(6),  "TPAUSE",	exec_nop},
	{INSN_0F,    0xae, 0xf2,  LEG, REG_OP(6),  "UMWAIT",	exec_nop},
	{INSN_0F,    0xae, 0xf3,  LEG, REG_OP(6),  "UMONITOR",	exec_nop},
	{INSN_0F,    0xae, 0xf3,  LEG, REG_OP(0),  "RDFSBASE",	exec_fsgsbase},
	{INSN_0F,    0xae, 0xf3,  LEG, REG_OP(1),  "RDGSBASE",	exec_fsgsbase},
	{INSN_0F,    0xae, 0xf3,  LEG, REG_OP(2),  "WRFSBASE",	exec_fsgsbase},
	{INSN_0F,    0xae, 0xf3,  LEG, REG_OP(3),  "WRGSBASE",	exec_fsgsbase},
	{INSN_0F,    0xae, 0xf3,  LEG, REG_OP(5),  "INCSSP",	exec_ud},
	{INSN_0F,    0xc7, ANY,	  LEG, MEM_OP(1),  "CMPXCHG16B", exec_cmpxchg16b},
	{INSN_0F,    0xc7, 0xf3,  LEG, REG_OP(7),  "RDPID",	exec_rdpid},
	{INSN_0F,    0xc7, ANY,	  LEG, REG_OP(6),  "RDRAND",	exec_random},
	{INSN_0F,    0xc7, ANY,	  LEG, REG_OP(7),  "RDSEED",	exec_random},

	/* x87 control. */
	{ONE,	     0xd9, ANY,	  LEG, MEM_OP(5),  "FLDCW",	exec_fldcw},
	{ONE,	     0xd9, ANY,	  LEG, MEM_OP(7),  "FNSTCW",	exec_fnstcw},
	{ONE,	     0xdd, ANY,	  LEG, MEM_OP(7),  "FNSTSW",	exec_fnstsw},
	{ONE,	     0xdf, ANY,	  LEG, EXACT(0xe0), "FNSTSW AX", exec_fnstsw_ax},
	{ONE,	     0xdb, ANY,	  LEG, EXACT(0xe2), "FNCLEX",	exec_fnclex},

	/* Integers. */
	{INSN_0F,    0xb8, 0xf3,  LEG, RM,	   "POPCNT",	exec_popcnt},
	{INSN_0F,    0xbc, 0xf3,  LEG, RM,	   "TZCNT",	exec_tzcnt},
	{INSN_0F,    0xbd, 0xf3,  LEG, RM,	   "LZCNT",	exec_lzcnt},
	{INSN_0F,    0xc3, NP,	  LEG, MEM,	   "MOVNTI",	exec_store_reg},
	{INSN_0F38,  0x82, 0x66,  LEG, MEM,	   "INVPCID",	exec_invpcid},
	{INSN_0F38,  0xf0, 0xf2,  LEG, RM,	   "CRC32",	exec_crc32},
	{INSN_0F38,  0xf1, 0xf2,  LEG, RM,	   "CRC32",	exec_crc32},
	{INSN_0F38,  0xf0, NP,	  LEG, MEM,	   "MOVBE",	exec_movbe_load},
	{INSN_0F38,  0xf0, 0x66,  LEG, MEM,	   "MOVBE",	exec_movbe_load},
	{INSN_0F38,  0xf1, NP,	  LEG, MEM,	   "MOVBE",	exec_movbe_store},
	{INSN_0F38,  0xf1, 0x66,  LEG, MEM,	   "MOVBE",	exec_movbe_store},
	{INSN_0F38,  0xf5, 0x66,  LEG, MEM,	   "WRUSS",	exec_ud},
	{INSN_0F38,  0xf6, NP,	  LEG, MEM,	   "WRSS",	exec_ud},
	{INSN_0F38,  0xf6, 0x66,  LEG, RM,	   "ADCX",	exec_adx},
	{INSN_0F38,  0xf6, 0xf3,  LEG, RM,	   "ADOX",	exec_adx},
	{INSN_0F38,  0xf8, 0x66,  LEG, MEM,	   "MOVDIR64B",	exec_movdir64b},
	{INSN_0F38,  0xf8, 0xf2,  LEG, MEM,	   "ENQCMD",	exec_ud},
	{INSN_0F38,  0xf8, 0xf3,  LEG, MEM,	   "ENQCMDS",	exec_ud},
	{INSN_0F38,  0xf9, NP,	  LEG, MEM,	   "MOVDIRI",	exec_store_reg},
	{INSN_0F38,  0xf2, NP,	  VEX, RM,	   "ANDN",	exec_andn},
	{INSN_0F38,  0xf3, NP,	  VEX, RM_OP(1),   "BLSR",	exec_bls},
	{INSN_0F38,  0xf3, NP,	  VEX, RM_OP(2),   "BLSMSK",	exec_bls},
	{INSN_0F38,  0xf3, NP,	  VEX, RM_OP(3),   "BLSI",	exec_bls},
	{INSN_0F38,  0xf5, NP,	  VEX, RM,	   "BZHI",	exec_bzhi},
	{INSN_0F38,  0xf5, 0xf2,  VEX, RM,	   "PDEP",	exec_pdep_pext},
	{INSN_0F38,  0xf5, 0xf3,  VEX, RM,	   "PEXT",	exec_pdep_pext},
	{INSN_0F38,  0xf6, 0xf2,  VEX, RM,	   "MULX",	exec_mulx},
	{INSN_0F38,  0xf7, NP,	  VEX, RM,	   "BEXTR",	exec_bextr},
	{INSN_0F38,  0xf7, 0x66,  VEX, RM,	   "SHLX",	exec_shift_x},
	{INSN_0F38,  0xf7, 0xf3,  VEX, RM,	   "SARX",	exec_shift_x},
	{INSN_0F38,  0xf7, 0xf2,  VEX, RM,	   "SHRX",	exec_shift_x},
	{INSN_0F3A,  0xf0, 0xf2,  VEX, RM,	   "RORX",	exec_rorx},
	{INSN_0F3A,  0xf0, 0xf3,  LEG, EXACT(0xc0), "HRESET",	exec_ud},

	/*
	 * Known by name only: the user has to keep the kernel from using these.
	 */
	{INSN_0F,    0x6e, 0x66,  LEG, RM,	   "MOVD/MOVQ",	NULL},
	{INSN_0F,    0x7e, 0x66,  LEG, RM,	   "MOVD/MOVQ",	NULL},
	{INSN_0F,    0x7e, 0xf3,  LEG, RM,	   "MOVQ",	NULL},
	{INSN_0F,    0xd6, 0x66,  LEG, RM,	   "MOVQ",	NULL},
	{INSN_0F,    0x10, 0xf2,  LEG, RM,	   "MOVSD",	NULL},
	{INSN_0F,    0x57, NP,	  LEG, RM,	   "XORPS",	NULL},
	{INSN_0F,    0xef, 0x66,  LEG, RM,	   "PXOR",	NULL},
	{INSN_0F38,  0x2a, 0x66,  LEG, RM,	   "MOVNTDQA",	NULL},
	{INSN_0F38,  0x00, 0x66,  LEG, RM,	   "PSHUFB",	NULL},
	{INSN_0F38,  0xdc, 0x66,  LEG, RM,	   "AESENC",	NULL},
	{INSN_0F38,  0xcb, NP,	  LEG, RM,	   "SHA256RNDS2", NULL},
	{INSN_0F3A,  0x44, 0x66,  LEG, RM,	   "PCLMULQDQ",	NULL},
	{INSN_0F,    0x77, NP,	  VEX, NONE,	   "VZEROUPPER", NULL},
	{INSN_0F,    0x6f, 0x66,  VEX, RM,	   "VMOVDQA",	NULL},
	{INSN_0F,    0x6f, 0xf3,  VEX, RM,	   "VMOVDQU",	NULL},
	{INSN_0F,    0x7f, 0x66,  VEX, RM,	   "VMOVDQA",	NULL},
	{INSN_0F,    0x7f, 0xf3,  VEX, RM,	   "VMOVDQU",	NULL},
	{INSN_0F,    0xef, 0x66,  VEX, RM,	   "VPXOR",	NULL},
};
/* clang-format on */

static bool matches(const struct exec_op *op, const struct insn *insn)
{
	uint8_t modrm;

	if (op->opcode != insn->opcode || op->map != insn->map ||
	    op->encoding != insn->encoding)
		return false;
	if (op->prefix != EXEC_ANY_PREFIX && op->prefix != insn->prefix)
		return false;
	modrm = (uint8_t)(insn->mod << 6 | (insn->reg & 7) << 3 |
			  (insn->rm & 7));
	if ((modrm & op->modrm_mask) != op->modrm)
		return false;
	return op->form == EXEC_EITHER ||
	       (op->form == EXEC_REGISTER) == (insn->mod == 3);
}

const struct exec_op *exec_find(const struct insn *insn)
{
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		if (matches(&table[i], insn))
			return &table[i];
	}
	return NULL;
}

unsigned exec_index(const struct exec_op *op)
{
	return (unsigned)(op - table);
}

unsigned exec_count(void)
{
	return ARRAY_LEN(table);
}

const char *exec_name(unsigned index)
{
	return table[index].name;
}
