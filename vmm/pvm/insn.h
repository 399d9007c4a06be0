/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decodes one x86 instruction: prefixes, opcode, operands' addressing, length.
 * Knows the shape of every instruction, the meaning of none: names and
 * execution are assist-table.c's. Pure: bytes in, struct out.
 */
#ifndef VMM_PVM_INSN_H
#define VMM_PVM_INSN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INSN_MAX_BYTES 15 /* SDM 2B 2.3.11: more raises #GP */

/* The mode that CS.L and CS.D select. */
enum insn_mode { INSN_16, INSN_32, INSN_64 };

enum insn_encoding { INSN_LEGACY, INSN_VEX, INSN_EVEX };

/* Opcode maps, numbered as VEX.mmmmm numbers them. */
enum insn_map { INSN_ONE_BYTE, INSN_0F, INSN_0F38, INSN_0F3A };

/* In the order of the sreg field of MOV; NONE: the addressing's own. */
enum insn_segment {
	INSN_ES,
	INSN_CS,
	INSN_SS,
	INSN_DS,
	INSN_FS,
	INSN_GS,
	INSN_SEGMENT_NONE,
};

#define INSN_NO_REG 16 /* of base and index; scale is 0 then */
#define INSN_RIP    17 /* of base */

struct insn {
	uint8_t bytes[INSN_MAX_BYTES];
	uint8_t len;
	enum insn_mode mode;
	enum insn_encoding encoding;
	enum insn_map map;
	uint8_t opcode;

	/* The prefix that selects an instruction: 0, 0x66, 0xf2 or 0xf3. */
	uint8_t prefix;
	bool lock;
	bool w;          /* REX.W, VEX.W */
	bool rex;        /* a REX prefix: byte registers are SPL.. not AH.. */
	uint8_t operand; /* bytes of a general operand: 2, 4 or 8 */
	uint8_t address; /* bytes of an address: 2, 4 or 8 */
	uint8_t vector;  /* VEX.L, EVEX.L'L: 0 128, 1 256, 2 512 bits */
	uint8_t vvvv;    /* VEX's further register; 0 if none */
	enum insn_segment segment;

	bool has_modrm;
	uint8_t mod;
	uint8_t reg; /* with its extension bit; opcode extensions: reg & 7 */
	/* Likewise; a register if mod is 3. No ModRM: the opcode's, if any. */
	uint8_t rm;

	/* The memory operand, if mod is not 3; else INSN_NO_REG. */
	uint8_t base, index; /* register numbers or INSN_NO_REG, INSN_RIP */
	uint8_t scale;       /* 0..3 */
	int32_t disp;

	uint8_t imm_bytes;
	int64_t imm; /* sign-extended */
};

/*
 * Decodes the instruction at the start of the N bytes. 0; -ENODATA when it is
 * longer than N; -EINVAL when it is none (too long, an encoding that no mode
 * has). INSN is written in full only on 0; on an error map, opcode and mode say
 * how far decoding came.
 */
int insn_decode(struct insn *insn, const uint8_t *bytes, size_t n,
		enum insn_mode mode);

/* The same for BYTES that have as many more behind the N, whatever is there. */
#define INSN_PADDING 48
int insn_decode_padded(struct insn *insn, const uint8_t *bytes, size_t n,
		       enum insn_mode mode);

#endif
