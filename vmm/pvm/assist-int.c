/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Integer instructions: bit counting, BMI, ADX, CRC32, wide compare and
 * exchange. Each by its page in SDM 2A to 2D; flags left undefined there are
 * given the values that processors in use give them.
 */
#include "vmm/pvm/assist-exec.h"

#include <errno.h>
#include <string.h>

static uint64_t sign_bit(unsigned bytes)
{
	return UINT64_C(1) << (8 * bytes - 1);
}

/* SF and ZF of a result. */
static uint64_t sign_zero(uint64_t value, unsigned bytes)
{
	return (value & sign_bit(bytes) ? FLAG_SF : 0) |
	       (value == 0 ? FLAG_ZF : 0);
}

/* BMI instructions have 4 or 8 bytes, whatever the mode says. */
static unsigned vex_bytes(const struct exec *x)
{
	return x->insn.w && x->insn.mode == INSN_64 ? 8 : 4;
}

int exec_popcnt(struct exec *x)
{
	uint64_t value;
	int r = exec_rm(x, x->insn.operand, &value);

	if (r < 0)
		return r;
	exec_set_reg(x, x->insn.reg, x->insn.operand,
		     (uint64_t)__builtin_popcountll(value));
	exec_flags(x, FLAGS_STATUS, value == 0 ? FLAG_ZF : 0);
	return 0;
}

int exec_lzcnt(struct exec *x)
{
	unsigned bytes = x->insn.operand, bits = 8 * bytes;
	uint64_t value, count;
	int r = exec_rm(x, bytes, &value);

	if (r < 0)
		return r;
	count = value == 0 ? bits
			   : (uint64_t)__builtin_clzll(value) - (64 - bits);
	exec_set_reg(x, x->insn.reg, bytes, count);
	exec_flags(x, FLAG_CF | FLAG_ZF,
		   (count == bits ? FLAG_CF : 0) | (count == 0 ? FLAG_ZF : 0));
	return 0;
}

int exec_tzcnt(struct exec *x)
{
	unsigned bytes = x->insn.operand, bits = 8 * bytes;
	uint64_t value, count;
	int r = exec_rm(x, bytes, &value);

	if (r < 0)
		return r;
	count = value == 0 ? bits : (uint64_t)__builtin_ctzll(value);
	exec_set_reg(x, x->insn.reg, bytes, count);
	exec_flags(x, FLAG_CF | FLAG_ZF,
		   (count == bits ? FLAG_CF : 0) | (count == 0 ? FLAG_ZF : 0));
	return 0;
}

/* The Castagnoli polynomial, bits reversed. */
#define CRC32C_POLYNOMIAL 0x82f63b78u

int exec_crc32(struct exec *x)
{
	unsigned bytes = x->insn.opcode == 0xf0 ? 1 : x->insn.operand;
	uint32_t crc = (uint32_t)exec_reg(x, x->insn.reg, 4);
	uint64_t value;
	int r = exec_rm(x, bytes, &value);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < bytes; i++) {
		crc ^= value >> (8 * i) & 0xff;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? CRC32C_POLYNOMIAL : 0);
	}
	exec_set_reg(x, x->insn.reg, x->insn.w ? 8 : 4, crc);
	return 0;
}

static uint64_t swap_bytes(uint64_t value, unsigned bytes)
{
	return __builtin_bswap64(value) >> (64 - 8 * bytes);
}

int exec_movbe_load(struct exec *x)
{
	unsigned bytes = x->insn.operand;
	uint64_t value;
	int r = exec_rm(x, bytes, &value);

	if (r == 0)
		exec_set_reg(x, x->insn.reg, bytes, swap_bytes(value, bytes));
	return r;
}

int exec_movbe_store(struct exec *x)
{
	unsigned bytes = x->insn.operand;
	uint64_t value = exec_reg(x, x->insn.reg, bytes);

	return exec_set_rm(x, bytes, swap_bytes(value, bytes));
}

/* ADCX (66) carries through CF, ADOX (F3) through OF. */
int exec_adx(struct exec *x)
{
	uint64_t flag = x->insn.prefix == 0x66 ? FLAG_CF : FLAG_OF;
	unsigned bytes = vex_bytes(x);
	uint64_t a = exec_reg(x, x->insn.reg, bytes), b;
	unsigned __int128 sum;
	int r = exec_rm(x, bytes, &b);

	if (r < 0)
		return r;
	sum = (unsigned __int128)a + b + (x->regs->rflags & flag ? 1 : 0);
	exec_set_reg(x, x->insn.reg, bytes, (uint64_t)sum);
	exec_flags(x, flag, sum >> (8 * bytes) ? flag : 0);
	return 0;
}

int exec_andn(struct exec *x)
{
	unsigned bytes = vex_bytes(x);
	uint64_t value;
	int r = exec_rm(x, bytes, &value);

	if (r < 0)
		return r;
	value &= ~exec_reg(x, x->insn.vvvv, bytes);
	exec_set_reg(x, x->insn.reg, bytes, value);
	exec_flags(x, FLAG_SF | FLAG_ZF | FLAG_OF | FLAG_CF,
		   sign_zero(value, bytes));
	return 0;
}

int exec_bextr(struct exec *x)
{
	unsigned bytes = vex_bytes(x);
	uint64_t control = exec_reg(x, x->insn.vvvv, bytes), value;
	unsigned start = control & 0xff, len = control >> 8 & 0xff;
	int r = exec_rm(x, bytes, &value);

	if (r < 0)
		return r;
	value = start < 64 ? value >> start : 0;
	if (len < 64)
		value &= (UINT64_C(1) << len) - 1;
	exec_set_reg(x, x->insn.reg, bytes, value);
	exec_flags(x, FLAG_ZF | FLAG_CF | FLAG_OF, value == 0 ? FLAG_ZF : 0);
	return 0;
}

/* VEX.0F38 F3 /1 BLSR, /2 BLSMSK, /3 BLSI. */
int exec_bls(struct exec *x)
{
	unsigned bytes = vex_bytes(x), op = x->insn.reg & 7;
	uint64_t value, result;
	int r = exec_rm(x, bytes, &value);

	if (r < 0)
		return r;
	if (op == 1)
		result = value & (value - 1);
	else if (op == 2)
		result = value ^ (value - 1);
	else
		result = value & -value;
	result &= exec_mask(bytes);
	exec_set_reg(x, x->insn.vvvv, bytes, result);
	/* CF: BLSI says "was not zero", the others "was zero". */
	exec_flags(x, FLAG_SF | FLAG_ZF | FLAG_CF | FLAG_OF,
		   sign_zero(result, bytes) |
			   ((value == 0) != (op == 3) ? FLAG_CF : 0));
	return 0;
}

int exec_bzhi(struct exec *x)
{
	unsigned bytes = vex_bytes(x);
	unsigned start = exec_reg(x, x->insn.vvvv, bytes) & 0xff;
	bool beyond = start >= 8 * bytes;
	uint64_t value;
	int r = exec_rm(x, bytes, &value);

	if (r < 0)
		return r;
	if (!beyond)
		value &= (UINT64_C(1) << start) - 1;
	exec_set_reg(x, x->insn.reg, bytes, value);
	exec_flags(x, FLAG_SF | FLAG_ZF | FLAG_CF | FLAG_OF,
		   sign_zero(value, bytes) | (beyond ? FLAG_CF : 0));
	return 0;
}

int exec_mulx(struct exec *x)
{
	unsigned bytes = vex_bytes(x);
	unsigned __int128 product = exec_reg(x, 2, bytes); /* RDX */
	uint64_t value;
	int r = exec_rm(x, bytes, &value);

	if (r < 0)
		return r;
	product *= value;
	/* The high half last: it stays when both are one register. */
	exec_set_reg(x, x->insn.vvvv, bytes, (uint64_t)product);
	exec_set_reg(x, x->insn.reg, bytes, (uint64_t)(product >> (8 * bytes)));
	return 0;
}

/* VEX.0F38 F5: F2 PDEP, F3 PEXT. */
int exec_pdep_pext(struct exec *x)
{
	unsigned bytes = vex_bytes(x), n = 0;
	uint64_t value = exec_reg(x, x->insn.vvvv, bytes), mask, result = 0;
	int r = exec_rm(x, bytes, &mask);

	if (r < 0)
		return r;
	for (unsigned bit = 0; bit < 8 * bytes; bit++) {
		if (!(mask >> bit & 1))
			continue;
		if (x->insn.prefix == 0xf2)
			result |= (value >> n & 1) << bit;
		else
			result |= (value >> bit & 1) << n;
		n++;
	}
	exec_set_reg(x, x->insn.reg, bytes, result);
	return 0;
}

int exec_rorx(struct exec *x)
{
	unsigned bytes = vex_bytes(x), bits = 8 * bytes;
	unsigned count = (unsigned)x->insn.imm & (bits - 1);
	uint64_t value;
	int r = exec_rm(x, bytes, &value);

	if (r < 0)
		return r;
	if (count != 0)
		value = value >> count | value << (bits - count);
	exec_set_reg(x, x->insn.reg, bytes, value);
	return 0;
}

/* VEX.0F38 F7: 66 SHLX, F3 SARX, F2 SHRX. */
int exec_shift_x(struct exec *x)
{
	unsigned bytes = vex_bytes(x);
	unsigned count = exec_reg(x, x->insn.vvvv, bytes) & (8 * bytes - 1);
	uint64_t value;
	int r = exec_rm(x, bytes, &value);

	if (r < 0)
		return r;
	if (x->insn.prefix == 0x66)
		value <<= count;
	else if (x->insn.prefix == 0xf2)
		value >>= count;
	else if (bytes == 8)
		value = (uint64_t)((int64_t)value >> count);
	else
		value = (uint64_t)((int64_t)(int32_t)value >> count);
	exec_set_reg(x, x->insn.reg, bytes, value);
	return 0;
}

/*
 * On guest RAM itself and atomic, as other vCPUs run meanwhile. It writes (back
 * what it found) whether or not it finds what it compares with, so that the
 * page has to be writable in any case (SDM 2A).
 */
int exec_cmpxchg16b(struct exec *x)
{
	uint64_t va = exec_address(x);
	uint64_t found[2] = {x->regs->rax, x->regs->rdx};
	uint64_t wanted[2] = {x->regs->rbx, x->regs->rcx};
	void *host;
	bool equal;
	int r;

	if (!x->insn.w || x->insn.mode != INSN_64)
		return -ENOSYS; /* CMPXCHG8B, which KVM knows */
	if (va & 15)
		return exec_gp(x);
	r = exec_pointer(x, va, 16, &host);
	if (r < 0)
		return r;
	__asm__ volatile("lock cmpxchg16b %[mem]"
			 : [mem] "+m"(*(unsigned __int128 *)host),
			   "=@ccz"(equal), "+a"(found[0]), "+d"(found[1])
			 : "b"(wanted[0]), "c"(wanted[1])
			 : "memory");
	if (!equal) {
		x->regs->rax = found[0];
		x->regs->rdx = found[1];
	}
	exec_flags(x, FLAG_ZF, equal ? FLAG_ZF : 0);
	return 0;
}

/* MOVNTI and MOVDIRI: stores that bypass the cache. */
int exec_store_reg(struct exec *x)
{
	unsigned bytes = vex_bytes(x);

	return exec_set_rm(x, bytes, exec_reg(x, x->insn.reg, bytes));
}

/* 64 bytes from the memory operand to where the register points. */
int exec_movdir64b(struct exec *x)
{
	uint8_t line[64];
	uint64_t to = exec_reg(x, x->insn.reg, x->insn.address);
	int r;

	if (x->insn.mode != INSN_64)
		to = (to + x->sregs->es.base) & UINT32_MAX;
	if (to & 63)
		return exec_gp(x);
	r = exec_read(x, exec_address(x), line, sizeof(line));
	return r < 0 ? r : exec_write(x, to, line, sizeof(line));
}

/* AMD: the cache line at RAX becomes zero. */
int exec_clzero(struct exec *x)
{
	static const uint8_t zero[64];
	uint64_t at = exec_reg(x, 0, x->insn.address) & ~UINT64_C(63);

	return exec_write(x, at, zero, sizeof(zero));
}
