/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decoder, in the order of the bytes: prefixes, REX/VEX/EVEX, opcode,
 * ModRM and what it brings, immediate (SDM 2A 2.1 to 2.7).
 */
#include "vmm/pvm/insn.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

struct cursor {
	const uint8_t *bytes;
	size_t n, at;
};

static int next_byte(struct cursor *c, uint8_t *ret_byte)
{
	if (c->at == INSN_MAX_BYTES)
		return -EINVAL;
	if (c->at == c->n)
		return -ENODATA;
	*ret_byte = c->bytes[c->at++];
	return 0;
}

/* A little-endian number of LEN (0..8) bytes, sign-extended. */
static int next_number(struct cursor *c, unsigned len, int64_t *ret_value)
{
	uint64_t value = 0;
	uint8_t byte = 0;

	if (len == 0) {
		*ret_value = 0;
		return 0;
	}
	/* Mostly there is enough behind it to look at all at once. */
	if (c->at + 8 <= c->n && c->at + len <= INSN_MAX_BYTES) {
		unsigned shift = 64 - 8 * len;

		memcpy(&value, c->bytes + c->at, 8);
		*ret_value = (int64_t)(le64toh(value) << shift) >> shift;
		c->at += len;
		return 0;
	}
	for (unsigned i = 0; i < len; i++) {
		int r = next_byte(c, &byte);

		if (r < 0)
			return r;
		value |= (uint64_t)byte << (8 * i);
	}
	if (len > 0 && len < 8 && (byte & 0x80))
		value |= ~UINT64_C(0) << (8 * len);
	*ret_value = (int64_t)value;
	return 0;
}

/* Which opcodes of a map carry a ModRM byte, a row of 16 opcodes per word. */
static const uint16_t one_byte_modrm[16] = {
	0x0f0f, 0x0f0f, 0x0f0f, 0x0f0f, 0x0000, 0x0000, 0x0a0c, 0x0000,
	0xffff, 0x0000, 0x0000, 0x0000, 0x00f3, 0xff0f, 0x0000, 0xc0c0,
};

static const uint16_t map_0f_modrm[16] = {
	0xa00f, 0xffff, 0xff0f, 0x0000, 0xffff, 0xffff, 0xffff, 0xff7f,
	0x0000, 0xffff, 0xf838, 0xffff, 0x00ff, 0xffff, 0xffff, 0xffff,
};

static bool opcode_has_modrm(const struct insn *insn)
{
	unsigned op = insn->opcode;

	if (insn->encoding == INSN_VEX && insn->map == INSN_0F && op == 0x77)
		return false; /* VZEROUPPER, VZEROALL */
	if (insn->encoding != INSN_LEGACY)
		return true;
	switch (insn->map) {
	case INSN_ONE_BYTE:
		return one_byte_modrm[op >> 4] >> (op & 15) & 1;
	case INSN_0F:
		return map_0f_modrm[op >> 4] >> (op & 15) & 1;
	default:
		return true;
	}
}

/* Bytes of an immediate whose size follows the operand's, at most 4. */
static unsigned imm_z(const struct insn *insn)
{
	return insn->operand == 2 ? 2 : 4;
}

/* Near branches ignore the operand-size prefix in 64-bit mode (SDM 2A). */
static unsigned imm_branch(const struct insn *insn)
{
	return insn->mode == INSN_64 ? 4 : imm_z(insn);
}

static unsigned one_byte_imm(const struct insn *insn)
{
	unsigned op = insn->opcode;

	if (op < 0x40 && (op & 7) == 4)
		return 1; /* ALU AL, imm8 */
	if (op < 0x40 && (op & 7) == 5)
		return imm_z(insn);
	if ((op >= 0x70 && op <= 0x7f) || (op >= 0xb0 && op <= 0xb7))
		return 1;
	if (op >= 0xb8 && op <= 0xbf) /* MOV r, imm: the only imm64 */
		return insn->operand;
	if (op >= 0xa0 && op <= 0xa3) /* MOV AL/eAX, moffs */
		return insn->address;
	if (op >= 0xe0 && op <= 0xe7) /* LOOP, JCXZ, IN, OUT */
		return 1;
	switch (op) {
	case 0x68:
	case 0x69:
	case 0x81:
	case 0xa9:
	case 0xc7:
		return imm_z(insn);
	case 0x6a:
	case 0x6b:
	case 0x80:
	case 0x82:
	case 0x83:
	case 0xa8:
	case 0xc0:
	case 0xc1:
	case 0xc6:
	case 0xcd:
	case 0xd4:
	case 0xd5:
	case 0xeb:
		return 1;
	case 0xe8:
	case 0xe9:
		return imm_branch(insn);
	case 0x9a:
	case 0xea: /* far pointer */
		return imm_z(insn) + 2;
	case 0xc2:
	case 0xca:
		return 2;
	case 0xc8: /* ENTER imm16, imm8 */
		return 3;
	case 0xf6: /* only TEST, /0 and /1, has one */
		return (insn->reg & 7) < 2 ? 1 : 0;
	case 0xf7:
		return (insn->reg & 7) < 2 ? imm_z(insn) : 0;
	default:
		return 0;
	}
}

static unsigned map_0f_imm(const struct insn *insn)
{
	unsigned op = insn->opcode;

	if (op >= 0x80 && op <= 0x8f && insn->encoding == INSN_LEGACY)
		return imm_branch(insn);
	if (op == 0x78 && insn->prefix != 0 && insn->encoding == INSN_LEGACY)
		return 2; /* SSE4A EXTRQ, INSERTQ imm8, imm8 */
	switch (op) {
	case 0x0f: /* 3DNow!: the opcode's last byte comes last */
	case 0x70:
	case 0x71:
	case 0x72:
	case 0x73:
	case 0xa4:
	case 0xac:
	case 0xba:
	case 0xc2:
	case 0xc4:
	case 0xc5:
	case 0xc6:
		return 1;
	default:
		return 0;
	}
}

static unsigned imm_len(const struct insn *insn)
{
	switch (insn->map) {
	case INSN_ONE_BYTE:
		return one_byte_imm(insn);
	case INSN_0F:
		return map_0f_imm(insn);
	case INSN_0F3A:
		return 1;
	default:
		return 0;
	}
}

/* Those of ES, CS, SS and DS are nothing in 64-bit mode (SDM 1 3.4.2.1). */
static void override(struct insn *insn, enum insn_segment segment)
{
	if (insn->mode != INSN_64)
		insn->segment = segment;
}

/*
 * Legacy prefixes, in any order and number. The last of F2 and F3 counts, and
 * either goes before 66 in selecting an instruction (SDM 2A 2.1.2).
 */
static int decode_prefixes(struct insn *insn, struct cursor *c,
			   uint8_t *ret_byte, bool *ret_address_size)
{
	uint8_t repeat = 0;
	bool operand_size = false;
	int r;

	while ((r = next_byte(c, ret_byte)) == 0) {
		switch (*ret_byte) {
		case 0x26:
			override(insn, INSN_ES);
			continue;
		case 0x2e:
			override(insn, INSN_CS);
			continue;
		case 0x36:
			override(insn, INSN_SS);
			continue;
		case 0x3e:
			override(insn, INSN_DS);
			continue;
		case 0x64:
			insn->segment = INSN_FS;
			continue;
		case 0x65:
			insn->segment = INSN_GS;
			continue;
		case 0x66:
			operand_size = true;
			continue;
		case 0x67:
			*ret_address_size = true;
			continue;
		case 0xf0:
			insn->lock = true;
			continue;
		case 0xf2:
		case 0xf3:
			repeat = *ret_byte;
			continue;
		default:
			break;
		}
		break;
	}
	insn->operand = operand_size != (insn->mode == INSN_16) ? 2 : 4;
	insn->prefix = repeat != 0 ? repeat : operand_size ? 0x66 : 0;
	return r;
}

static const uint8_t pp_prefix[4] = {0, 0x66, 0xf3, 0xf2};

/* Extension bits of register numbers, already shifted to bit 3. */
struct extension {
	uint8_t r, x, b;
};

static void set_pp(struct insn *insn, uint8_t byte)
{
	insn->prefix = pp_prefix[byte & 3];
	insn->operand = insn->w && insn->mode == INSN_64 ? 8 : 4;
}

/* C4 and C5, the escape byte already taken (SDM 2A 2.3.5). */
static int decode_vex(struct insn *insn, struct cursor *c, uint8_t escape,
		      struct extension *ext)
{
	uint8_t p0, p1;
	int r = next_byte(c, &p0);

	if (r < 0)
		return r;
	insn->encoding = INSN_VEX;
	ext->r = p0 & 0x80 ? 0 : 8;
	insn->map = INSN_0F;
	p1 = p0;
	if (escape == 0xc4) {
		r = next_byte(c, &p1);
		if (r < 0)
			return r;
		ext->x = p0 & 0x40 ? 0 : 8;
		ext->b = p0 & 0x20 ? 0 : 8;
		insn->w = p1 & 0x80;
		if ((p0 & 0x1f) < INSN_0F || (p0 & 0x1f) > INSN_0F3A)
			return -EINVAL;
		insn->map = (enum insn_map)(p0 & 0x1f);
	}
	insn->vvvv = ~p1 >> 3 & 15;
	insn->vector = p1 >> 2 & 1;
	set_pp(insn, p1);
	return next_byte(c, &insn->opcode);
}

/* 62, the escape byte already taken (SDM 2A 2.7.1). */
static int decode_evex(struct insn *insn, struct cursor *c,
		       struct extension *ext)
{
	uint8_t p0, p1, p2;
	int r;

	if ((r = next_byte(c, &p0)) < 0 || (r = next_byte(c, &p1)) < 0 ||
	    (r = next_byte(c, &p2)) < 0)
		return r;
	insn->encoding = INSN_EVEX;
	if ((p0 & 7) < INSN_0F || (p0 & 7) > INSN_0F3A || !(p1 & 4))
		return -EINVAL; /* maps 5 and 6 are AVX512-FP16's */
	insn->map = (enum insn_map)(p0 & 7);
	ext->r = p0 & 0x80 ? 0 : 8;
	ext->x = p0 & 0x40 ? 0 : 8;
	ext->b = p0 & 0x20 ? 0 : 8;
	insn->w = p1 & 0x80;
	insn->vvvv = ~p1 >> 3 & 15;
	insn->vector = p2 >> 5 & 3;
	set_pp(insn, p1);
	return next_byte(c, &insn->opcode);
}

/*
 * Outside 64-bit mode C4, C5 and 62 are LES, LDS and BOUND unless the next byte
 * would make their operand a register, which those have not.
 */
static bool is_vector_escape(const struct insn *insn, const struct cursor *c,
			     uint8_t byte)
{
	if (byte != 0xc4 && byte != 0xc5 && byte != 0x62)
		return false;
	if (insn->mode == INSN_64)
		return true;
	return c->at < c->n && c->bytes[c->at] >= 0xc0;
}

static int decode_opcode(struct insn *insn, struct cursor *c, uint8_t byte,
			 struct extension *ext)
{
	int r;

	if (insn->mode == INSN_64 && (byte & 0xf0) == 0x40) {
		insn->rex = true;
		insn->w = byte & 8;
		ext->r = byte & 4 ? 8 : 0;
		ext->x = byte & 2 ? 8 : 0;
		ext->b = byte & 1 ? 8 : 0;
		if (insn->w)
			insn->operand = 8;
		r = next_byte(c, &byte);
		if (r < 0)
			return r;
	}
	if (is_vector_escape(insn, c, byte)) {
		if (insn->rex)
			return -EINVAL; /* #UD, SDM 2A 2.3.2 */
		return byte == 0x62 ? decode_evex(insn, c, ext)
				    : decode_vex(insn, c, byte, ext);
	}
	insn->map = INSN_ONE_BYTE;
	insn->opcode = byte;
	if (byte != 0x0f)
		return 0;
	insn->map = INSN_0F;
	r = next_byte(c, &insn->opcode);
	if (r < 0 || (insn->opcode != 0x38 && insn->opcode != 0x3a))
		return r;
	insn->map = insn->opcode == 0x38 ? INSN_0F38 : INSN_0F3A;
	return next_byte(c, &insn->opcode);
}

/* ModRM's 16-bit forms (SDM 2A table 2-1). */
static int decode_memory_16(struct insn *insn, struct cursor *c)
{
	static const uint8_t base[8] = {3, 3, 5, 5, 6, 7, 5, 3};
	static const uint8_t index[8] = {
		6, 7, 6, 7, INSN_NO_REG, INSN_NO_REG, INSN_NO_REG, INSN_NO_REG};
	unsigned rm = insn->rm & 7, len = insn->mod;
	int64_t disp;
	int r;

	insn->base = base[rm];
	insn->index = index[rm];
	if (insn->mod == 0 && rm == 6) {
		insn->base = INSN_NO_REG;
		len = 2;
	}
	r = next_number(c, len, &disp);
	insn->disp = (int32_t)disp;
	return r;
}

static int decode_sib(struct insn *insn, struct cursor *c,
		      const struct extension *ext)
{
	uint8_t sib, index;
	int r = next_byte(c, &sib);

	if (r < 0)
		return r;
	index = (sib >> 3 & 7) | ext->x;
	insn->index = index == 4 ? INSN_NO_REG : index;
	insn->scale = sib >> 6;
	if ((sib & 7) == 5 && insn->mod == 0)
		insn->base = INSN_NO_REG;
	else
		insn->base = (sib & 7) | ext->b;
	return 0;
}

/* Tables 2-2 and 2-3. EVEX scales disp8; no one needs that here. */
static int decode_memory(struct insn *insn, struct cursor *c,
			 const struct extension *ext)
{
	static const uint8_t disp_len[3] = {0, 1, 4};
	unsigned len = disp_len[insn->mod];
	int64_t disp;
	int r;

	insn->base = insn->rm;
	insn->index = INSN_NO_REG;
	if ((insn->rm & 7) == 4) {
		r = decode_sib(insn, c, ext);
		if (r < 0)
			return r;
	} else if ((insn->rm & 7) == 5 && insn->mod == 0) {
		insn->base = insn->mode == INSN_64 ? INSN_RIP : INSN_NO_REG;
		len = 4;
	}
	if (insn->base == INSN_NO_REG && insn->mod == 0)
		len = 4;
	r = next_number(c, len, &disp);
	insn->disp = (int32_t)disp;
	return r;
}

static int decode_modrm(struct insn *insn, struct cursor *c,
			const struct extension *ext)
{
	uint8_t modrm;
	int r = next_byte(c, &modrm);

	if (r < 0)
		return r;
	insn->has_modrm = true;
	insn->mod = modrm >> 6;
	insn->reg = (modrm >> 3 & 7) | ext->r;
	insn->rm = (modrm & 7) | ext->b;
	insn->base = insn->index = INSN_NO_REG;
	if (insn->mod == 3)
		return 0;
	/* MOV to and from control and debug registers: always registers. */
	if (insn->encoding == INSN_LEGACY && insn->map == INSN_0F &&
	    insn->opcode >= 0x20 && insn->opcode <= 0x23)
		return 0;
	if (insn->address == 2)
		return decode_memory_16(insn, c);
	return decode_memory(insn, c, ext);
}

int insn_decode(struct insn *insn, const uint8_t *bytes, size_t n,
		enum insn_mode mode)
{
	struct cursor c = {.bytes = bytes, .n = n};
	struct extension ext = {0};
	bool address_size = false;
	uint8_t byte = 0;
	int r;

	memset(insn, 0, sizeof(*insn));
	insn->mode = mode;
	insn->segment = INSN_SEGMENT_NONE;
	r = decode_prefixes(insn, &c, &byte, &address_size);
	if (r < 0)
		return r;
	insn->address = mode == INSN_64 ? (address_size ? 4 : 8)
			: address_size != (mode == INSN_16) ? 2
							    : 4;
	r = decode_opcode(insn, &c, byte, &ext);
	if (r < 0)
		return r;
	if (opcode_has_modrm(insn)) {
		r = decode_modrm(insn, &c, &ext);
		if (r < 0)
			return r;
	}
	insn->imm_bytes = (uint8_t)imm_len(insn);
	r = next_number(&c, insn->imm_bytes, &insn->imm);
	if (r < 0)
		return r;
	insn->len = (uint8_t)c.at;
	memcpy(insn->bytes, bytes, insn->len);
	return 0;
}
