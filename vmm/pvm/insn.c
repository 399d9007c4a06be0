/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decoder, in the order of the bytes: prefixes, REX/VEX/EVEX, opcode,
 * ModRM and what it brings, immediate (SDM 2A 2.1 to 2.7). It reads ahead of
 * what it knows to be there, as if zeroes followed, and sees at the end whether
 * that was too far. Most of it takes the same way for all instructions: which
 * one comes next is hard to predict, and a mispredicted branch costs as much as
 * all the rest.
 */
#include "vmm/pvm/insn.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

/* ---- what follows an opcode ---------------------------------------------- */

enum {
	NO_IMM,
	IMM_8,
	IMM_16,
	IMM_24,  /* ENTER imm16, imm8 */
	IMM_Z,   /* the operand's size, at most 4 bytes */
	IMM_V,   /* the operand's size */
	IMM_FAR, /* IMM_Z and a selector */
	IMM_BRANCH,
	/* Those that depend on more: see special_imm(). */
	IMM_ADDRESS,
	IMM_TEST_8,
	IMM_TEST_Z,
	IMM_EXTRQ,
	IMM = 0x0f, /* the bits of the above */
	MODRM = 0x10,
	/* MOV to and from control and debug registers: ModRM has registers. */
	REGISTERS = 0x20,
};

#define ALU(first)                                                             \
	[(first)...(first) + 3] = MODRM, [(first) + 4] = IMM_8,                \
			     [(first) + 5] = IMM_Z

static const uint8_t one_byte[256] = {
	ALU(0x00),
	ALU(0x08),
	ALU(0x10),
	ALU(0x18),
	ALU(0x20),
	ALU(0x28),
	ALU(0x30),
	ALU(0x38),
	[0x62 ... 0x63] = MODRM,
	[0x68] = IMM_Z,
	[0x69] = MODRM | IMM_Z,
	[0x6a] = IMM_8,
	[0x6b] = MODRM | IMM_8,
	[0x70 ... 0x7f] = IMM_8,
	[0x80] = MODRM | IMM_8,
	[0x81] = MODRM | IMM_Z,
	[0x82 ... 0x83] = MODRM | IMM_8,
	[0x84 ... 0x8f] = MODRM,
	[0x9a] = IMM_FAR,
	[0xa0 ... 0xa3] = IMM_ADDRESS,
	[0xa8] = IMM_8,
	[0xa9] = IMM_Z,
	[0xb0 ... 0xb7] = IMM_8,
	[0xb8 ... 0xbf] = IMM_V,
	[0xc0 ... 0xc1] = MODRM | IMM_8,
	[0xc2] = IMM_16,
	[0xc4 ... 0xc5] = MODRM,
	[0xc6] = MODRM | IMM_8,
	[0xc7] = MODRM | IMM_Z,
	[0xc8] = IMM_24,
	[0xca] = IMM_16,
	[0xcd] = IMM_8,
	[0xd0 ... 0xd3] = MODRM,
	[0xd4 ... 0xd5] = IMM_8,
	[0xd8 ... 0xdf] = MODRM,
	[0xe0 ... 0xe7] = IMM_8, /* LOOP, JCXZ, IN, OUT */
	[0xe8 ... 0xe9] = IMM_BRANCH,
	[0xea] = IMM_FAR,
	[0xeb] = IMM_8,
	[0xf6] = MODRM | IMM_TEST_8,
	[0xf7] = MODRM | IMM_TEST_Z,
	[0xfe ... 0xff] = MODRM,
};

static const uint8_t map_0f[256] = {
	[0x00 ... 0x03] = MODRM,
	[0x0d] = MODRM,
	[0x0f] = MODRM | IMM_8, /* 3DNow!: the opcode's last byte comes last */
	[0x10 ... 0x1f] = MODRM,
	[0x20 ... 0x23] = MODRM | REGISTERS,
	[0x28 ... 0x2f] = MODRM,
	[0x40 ... 0x6f] = MODRM,
	[0x70 ... 0x73] = MODRM | IMM_8,
	[0x74 ... 0x76] = MODRM,
	[0x78] = MODRM | IMM_EXTRQ,
	[0x79 ... 0x7f] = MODRM,
	[0x80 ... 0x8f] = IMM_BRANCH,
	[0x90 ... 0x9f] = MODRM,
	[0xa3] = MODRM,
	[0xa4] = MODRM | IMM_8,
	[0xa5] = MODRM,
	[0xab] = MODRM,
	[0xac] = MODRM | IMM_8,
	[0xad ... 0xb9] = MODRM,
	[0xba] = MODRM | IMM_8,
	[0xbb ... 0xc1] = MODRM,
	[0xc2] = MODRM | IMM_8,
	[0xc3] = MODRM,
	[0xc4 ... 0xc6] = MODRM | IMM_8,
	[0xc7] = MODRM,
	[0xd0 ... 0xff] = MODRM,
};

static unsigned shape_of(const struct insn *insn)
{
	unsigned shape = MODRM;

	if (insn->encoding == INSN_LEGACY && insn->map <= INSN_0F)
		return (insn->map == INSN_0F ? map_0f : one_byte)[insn->opcode];
	if (insn->map == INSN_0F3A)
		return MODRM | IMM_8;
	if (insn->map == INSN_0F) {
		if (insn->encoding == INSN_VEX && insn->opcode == 0x77)
			return 0; /* VZEROUPPER, VZEROALL */
		if ((map_0f[insn->opcode] & IMM) == IMM_8)
			shape |= IMM_8;
	}
	return shape;
}

static unsigned special_imm(const struct insn *insn, unsigned kind)
{
	bool is_test = (insn->reg & 7) < 2; /* /0 and /1 of NOT, MUL ... */

	switch (kind) {
	case IMM_ADDRESS: /* MOV AL/eAX, moffs */
		return insn->address;
	case IMM_TEST_8:
		return is_test ? 1 : 0;
	case IMM_TEST_Z:
		return !is_test ? 0 : insn->operand == 2 ? 2 : 4;
	default: /* SSE4A EXTRQ, INSERTQ imm8, imm8 */
		return insn->prefix != 0 ? 2 : 0;
	}
}

static unsigned imm_len(const struct insn *insn, unsigned kind)
{
	static const uint8_t len[][3] = {
		[NO_IMM] = {0, 0, 0},  [IMM_8] = {1, 1, 1},
		[IMM_16] = {2, 2, 2},  [IMM_24] = {3, 3, 3},
		[IMM_Z] = {2, 4, 4},   [IMM_V] = {2, 4, 8},
		[IMM_FAR] = {4, 6, 6}, [IMM_BRANCH] = {2, 4, 4},
	};

	if (kind >= IMM_ADDRESS)
		return special_imm(insn, kind);
	/* Near branches ignore the operand-size prefix there (SDM 2A). */
	if (kind == IMM_BRANCH && insn->mode == INSN_64)
		return 4;
	return len[kind][insn->operand >> 2];
}

/* ---- the parts of an instruction ----------------------------------------- */

/* A little-endian number of LEN (0..8) bytes, sign-extended. */
static int64_t number(const uint8_t *at, unsigned len)
{
	unsigned shift = (64 - 8 * len) & 63;
	uint64_t value;

	memcpy(&value, at, 8);
	value = len == 0 ? 0 : le64toh(value);
	return (int64_t)(value << shift) >> shift;
}

static bool is_prefix(uint8_t byte)
{
	static const bool prefix[256] = {
		[0x26] = true,          [0x2e] = true,          [0x36] = true,
		[0x3e] = true,          [0x64 ... 0x67] = true, [0xf0] = true,
		[0xf2 ... 0xf3] = true,
	};

	return prefix[byte];
}

/*
 * Legacy prefixes, in any order and number. The last of F2 and F3 counts, and
 * either goes before 66 in selecting an instruction (SDM 2A 2.1.2).
 */
static const uint8_t *decode_prefixes(struct insn *insn, const uint8_t *at)
{
	bool operand_size = false, address_size = false;
	uint8_t repeat = 0;

	for (const uint8_t *end = at + INSN_MAX_BYTES;
	     at < end && is_prefix(*at); at++) {
		switch (*at) {
		case 0x66:
			operand_size = true;
			break;
		case 0x67:
			address_size = true;
			break;
		case 0xf0:
			insn->lock = true;
			break;
		case 0xf2:
		case 0xf3:
			repeat = *at;
			break;
		case 0x64:
		case 0x65:
			insn->segment = *at == 0x64 ? INSN_FS : INSN_GS;
			break;
		default: /* nothing in 64-bit mode (SDM 1 3.4.2.1) */
			if (insn->mode != INSN_64)
				insn->segment =
					(enum insn_segment)(*at >> 3 & 3);
			break;
		}
	}
	insn->operand = operand_size != (insn->mode == INSN_16) ? 2 : 4;
	insn->prefix = repeat != 0 ? repeat : operand_size ? 0x66 : 0;
	if (insn->mode == INSN_64)
		insn->address = address_size ? 4 : 8;
	else
		insn->address = address_size != (insn->mode == INSN_16) ? 2 : 4;
	return at;
}

/* Extension bits of register numbers, already shifted to bit 3. */
struct extension {
	uint8_t r, x, b;
};

static void set_pp(struct insn *insn, uint8_t byte)
{
	static const uint8_t prefix[4] = {0, 0x66, 0xf3, 0xf2};

	insn->prefix = prefix[byte & 3];
	insn->operand = insn->w && insn->mode == INSN_64 ? 8 : 4;
}

/* C5, and C4 with another byte before (SDM 2A 2.3.5). NULL: there is no such.
 */
static const uint8_t *decode_vex(struct insn *insn, const uint8_t *at,
				 struct extension *ext)
{
	uint8_t escape = *at++, p0 = *at++, p1 = p0;

	insn->encoding = INSN_VEX;
	insn->map = INSN_0F;
	ext->r = p0 & 0x80 ? 0 : 8;
	if (escape == 0xc4) {
		p1 = *at++;
		ext->x = p0 & 0x40 ? 0 : 8;
		ext->b = p0 & 0x20 ? 0 : 8;
		insn->w = p1 & 0x80;
		if ((p0 & 0x1f) < INSN_0F || (p0 & 0x1f) > INSN_0F3A)
			return NULL;
		insn->map = (enum insn_map)(p0 & 0x1f);
	}
	insn->vvvv = ~p1 >> 3 & 15;
	insn->vector = p1 >> 2 & 1;
	set_pp(insn, p1);
	insn->opcode = *at++;
	return at;
}

/* 62 (SDM 2A 2.7.1). NULL: there is no such. */
static const uint8_t *decode_evex(struct insn *insn, const uint8_t *at,
				  struct extension *ext)
{
	uint8_t p0 = at[1], p1 = at[2], p2 = at[3];

	insn->encoding = INSN_EVEX;
	if ((p0 & 7) < INSN_0F || (p0 & 7) > INSN_0F3A || !(p1 & 4))
		return NULL; /* maps 5 and 6 are AVX512-FP16's */
	insn->map = (enum insn_map)(p0 & 7);
	ext->r = p0 & 0x80 ? 0 : 8;
	ext->x = p0 & 0x40 ? 0 : 8;
	ext->b = p0 & 0x20 ? 0 : 8;
	insn->w = p1 & 0x80;
	insn->vvvv = ~p1 >> 3 & 15;
	insn->vector = p2 >> 5 & 3;
	set_pp(insn, p1);
	insn->opcode = at[4];
	return at + 5;
}

/*
 * Outside 64-bit mode C4, C5 and 62 are LES, LDS and BOUND unless the next byte
 * would make their operand a register, which those have not.
 */
static bool is_vector_escape(const struct insn *insn, const uint8_t *at)
{
	if (*at != 0xc4 && *at != 0xc5 && *at != 0x62)
		return false;
	return insn->mode == INSN_64 || at[1] >= 0xc0;
}

/* Up to the opcode's end. NULL: there is no such instruction. */
static const uint8_t *decode_opcode(struct insn *insn, const uint8_t *at,
				    struct extension *ext)
{
	uint8_t rex = insn->mode == INSN_64 && (*at & 0xf0) == 0x40 ? *at : 0;
	bool escape;

	at += rex != 0;
	insn->rex = rex != 0;
	insn->w = rex & 8;
	insn->operand = rex & 8 ? 8 : insn->operand;
	*ext = (struct extension){(rex & 4) << 1, (uint8_t)((rex & 2) << 2),
				  (rex & 1) << 3};
	if (is_vector_escape(insn, at)) {
		if (rex)
			return NULL; /* #UD, SDM 2A 2.3.2 */
		return *at == 0x62 ? decode_evex(insn, at, ext)
				   : decode_vex(insn, at, ext);
	}
	escape = *at == 0x0f;
	at += escape;
	insn->map = escape ? INSN_0F : INSN_ONE_BYTE;
	insn->opcode = *at++;
	if (escape && (insn->opcode == 0x38 || insn->opcode == 0x3a)) {
		insn->map = insn->opcode == 0x38 ? INSN_0F38 : INSN_0F3A;
		insn->opcode = *at++;
	}
	return at;
}

/* ModRM's 16-bit forms (SDM 2A table 2-1). */
static const uint8_t *decode_memory_16(struct insn *insn, const uint8_t *at)
{
	static const uint8_t base[8] = {3, 3, 5, 5, 6, 7, 5, 3};
	static const uint8_t index[8] = {
		6, 7, 6, 7, INSN_NO_REG, INSN_NO_REG, INSN_NO_REG, INSN_NO_REG};
	unsigned rm = insn->rm & 7, len = insn->mod;

	insn->base = base[rm];
	insn->index = index[rm];
	if (insn->mod == 0 && rm == 6) {
		insn->base = INSN_NO_REG;
		len = 2;
	}
	insn->disp = (int32_t)number(at, len);
	return at + len;
}

/* Tables 2-2 and 2-3. EVEX scales disp8; no one needs that here. */
static const uint8_t *decode_memory(struct insn *insn, const uint8_t *at,
				    const struct extension *ext)
{
	static const uint8_t disp_len[3] = {0, 1, 4};
	bool has_sib = (insn->rm & 7) == 4, has_index;
	uint8_t sib = *at, index = (sib >> 3 & 7) | ext->x;
	unsigned base = has_sib ? (sib & 7) | ext->b : insn->rm;
	unsigned len = disp_len[insn->mod];

	at += has_sib;
	has_index = has_sib && index != 4;
	insn->index = has_index ? index : INSN_NO_REG;
	insn->scale = has_index ? sib >> 6 : 0;
	if ((base & 7) == 5 && insn->mod == 0) {
		base = !has_sib && insn->mode == INSN_64 ? INSN_RIP
							 : INSN_NO_REG;
		len = 4;
	}
	insn->base = (uint8_t)base;
	insn->disp = (int32_t)number(at, len);
	return at + len;
}

static const uint8_t *decode_modrm(struct insn *insn, const uint8_t *at,
				   const struct extension *ext, unsigned shape)
{
	uint8_t modrm = *at++;

	insn->has_modrm = true;
	insn->mod = modrm >> 6;
	insn->reg = (modrm >> 3 & 7) | ext->r;
	insn->rm = (modrm & 7) | ext->b;
	if (insn->mod == 3 || (shape & REGISTERS))
		return at;
	if (insn->address == 2)
		return decode_memory_16(insn, at);
	return decode_memory(insn, at, ext);
}

/* There is nothing after the N bytes, of which those before AT were read. */
static int no_insn(const uint8_t *bytes, size_t n, const uint8_t *at)
{
	return (size_t)(at - bytes) > n && n < INSN_MAX_BYTES ? -ENODATA
							      : -EINVAL;
}

int insn_decode_padded(struct insn *insn, const uint8_t *bytes, size_t n,
		       enum insn_mode mode)
{
	const uint8_t *at, *opcode;
	struct extension ext;
	unsigned shape;

	*insn = (struct insn){.mode = mode,
			      .segment = INSN_SEGMENT_NONE,
			      .base = INSN_NO_REG,
			      .index = INSN_NO_REG};
	opcode = decode_prefixes(insn, bytes);
	at = decode_opcode(insn, opcode, &ext);
	if (!at)
		return no_insn(bytes, n,
			       opcode + (insn->rex                    ? 2
					 : insn->encoding == INSN_VEX ? 3
								      : 4));
	shape = shape_of(insn);
	if (shape & MODRM)
		at = decode_modrm(insn, at, &ext, shape);
	else
		insn->rm = (insn->opcode & 7) | ext.b;
	insn->imm_bytes = (uint8_t)imm_len(insn, shape & IMM);
	insn->imm = number(at, insn->imm_bytes);
	at += insn->imm_bytes;
	if (at > bytes + (n < INSN_MAX_BYTES ? n : INSN_MAX_BYTES))
		return no_insn(bytes, n, at);
	insn->len = (uint8_t)(at - bytes);
	memcpy(insn->bytes, bytes, INSN_MAX_BYTES);
	return 0;
}

int insn_decode(struct insn *insn, const uint8_t *bytes, size_t n,
		enum insn_mode mode)
{
	uint8_t padded[INSN_MAX_BYTES + INSN_PADDING] = {0};

	n = n < INSN_MAX_BYTES ? n : INSN_MAX_BYTES;
	memcpy(padded, bytes, n);
	return insn_decode_padded(insn, padded, n, mode);
}
