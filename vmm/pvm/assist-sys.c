/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instructions that concern the system: traps, flags, segment bases, extended
 * control registers, descriptors. Each by its page in SDM 2A to 2D.
 */
#include "vmm/pvm/assist-exec.h"

#include "vmm/pvm/x86.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <x86intrin.h>

/* Cache hints, fences and markers: nothing of them shows. */
int exec_nop(struct exec *x)
{
	(void)x;
	return 0;
}

int exec_int3(struct exec *x)
{
	fault_set(&x->fault, EXC_BP);
	return EXEC_TRAP;
}

int exec_int1(struct exec *x)
{
	fault_set(&x->fault, EXC_DB);
	return EXEC_TRAP;
}

int exec_clac(struct exec *x)
{
	if (exec_cpl(x) != 0)
		return exec_ud(x);
	exec_flags(x, FLAG_AC, 0);
	return 0;
}

int exec_stac(struct exec *x)
{
	if (exec_cpl(x) != 0)
		return exec_ud(x);
	exec_flags(x, FLAG_AC, FLAG_AC);
	return 0;
}

int exec_clts(struct exec *x)
{
	if (exec_cpl(x) != 0)
		return exec_gp(x);
	x->sregs->cr0 &= ~CR0_TS;
	x->sregs_changed = true;
	return 0;
}

/* F3 0F AE /0../3: RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE. */
int exec_fsgsbase(struct exec *x)
{
	unsigned op = x->insn.reg & 3, bytes = x->insn.w ? 8 : 4;
	struct kvm_segment *segment = op & 1 ? &x->sregs->gs : &x->sregs->fs;
	uint64_t value;

	if (x->insn.mode != INSN_64 || !(x->sregs->cr4 & CR4_FSGSBASE))
		return exec_ud(x);
	if (op < 2) {
		exec_set_reg(x, x->insn.rm, bytes, segment->base);
		return 0;
	}
	value = exec_reg(x, x->insn.rm, bytes);
	if (!mmu_canonical(x->sregs, value))
		return exec_gp(x);
	segment->base = value;
	x->sregs_changed = true;
	return 0;
}

int exec_xgetbv(struct exec *x)
{
	uint32_t index = (uint32_t)x->regs->rcx;
	uint64_t value;
	int r;

	if (!(x->sregs->cr4 & CR4_OSXSAVE))
		return exec_ud(x);
	if (index > 1)
		return exec_gp(x);
	r = x->host->get_xcr0(x->host_arg, &value);
	if (r < 0)
		return r;
	if (index == 1) {
		/* The parts of XCR0's state that are in use: its XSTATE_BV. */
		uint64_t in_use;

		r = x->host->get_fpu(x->host_arg, x->area);
		if (r < 0)
			return r;
		memcpy(&in_use, x->area + 512, sizeof(in_use));
		value &= in_use;
	}
	x->regs->rax = (uint32_t)value;
	x->regs->rdx = value >> 32;
	return 0;
}

int exec_rdtscp(struct exec *x)
{
	uint64_t tsc = __rdtsc(), aux;
	int r = x->host->get_msr(x->host_arg, MSR_TSC_AUX, &aux);

	if (r < 0)
		return r;
	x->regs->rax = (uint32_t)tsc;
	x->regs->rdx = tsc >> 32;
	x->regs->rcx = (uint32_t)aux;
	return 0;
}

int exec_rdpid(struct exec *x)
{
	uint64_t aux;
	int r = x->host->get_msr(x->host_arg, MSR_TSC_AUX, &aux);

	if (r < 0)
		return r;
	exec_set_reg(x, x->insn.rm, x->insn.mode == INSN_64 ? 8 : 4, aux);
	return 0;
}

/* RDRAND and RDSEED: CF says that there was a number. */
int exec_random(struct exec *x)
{
	uint64_t value = 0;
	bool ok = getrandom(&value, sizeof(value), GRND_NONBLOCK) ==
		  (ssize_t)sizeof(value);

	exec_set_reg(x, x->insn.rm, x->insn.operand, ok ? value : 0);
	exec_flags(x, FLAGS_STATUS, ok ? FLAG_CF : 0);
	return 0;
}

/* All types flush everything: more than asked for is allowed (SDM 3A 4.10.4).
 */
int exec_invpcid(struct exec *x)
{
	unsigned bytes = x->insn.mode == INSN_64 ? 8 : 4;
	uint64_t type = exec_reg(x, x->insn.reg, bytes), descriptor[2];
	int r;

	if (exec_cpl(x) != 0)
		return exec_gp(x);
	r = exec_read(x, exec_address(x), descriptor, sizeof(descriptor));
	if (r < 0)
		return r;
	if (type > 3 || (type < 2 && descriptor[0] >> 12 != 0))
		return exec_gp(x);
	if (type < 2 && !(x->sregs->cr4 & CR4_PCIDE) && descriptor[0] != 0)
		return exec_gp(x);
	x->flush_tlb = true;
	return 0;
}

/* Eight bytes of descriptor from GDT or LDT; -ENOENT: there is none. */
static int descriptor_of(struct exec *x, uint16_t selector, uint64_t *ret)
{
	uint64_t base = x->sregs->gdt.base, limit = x->sregs->gdt.limit;

	if ((selector & ~3) == 0)
		return -ENOENT;
	if (selector & 4) {
		base = x->sregs->ldt.base;
		limit = x->sregs->ldt.limit;
	}
	if ((selector | 7u) > limit)
		return -ENOENT;
	/* Tables are read with the kernel's right, whoever asks. */
	return mmu_read(&x->mmu, base + (selector & ~7u), ret, 8, MMU_READ,
			&x->fault);
}

/* CPL and RPL against DPL; conforming code is open to all. */
static bool reachable(const struct exec *x, uint64_t descriptor, uint16_t rpl)
{
	unsigned dpl = descriptor >> 45 & 3, type = descriptor >> 40 & 31;

	if ((type & 0x1c) == 0x1c) /* conforming code */
		return true;
	return exec_cpl(x) <= dpl && (rpl & 3u) <= dpl;
}

static bool system_type_ok(unsigned type, bool lsl)
{
	/* LDT, available and busy 64-bit TSS; LAR knows call gates too. */
	return type == 2 || type == 9 || type == 11 || (!lsl && type == 12);
}

/* 0F 02 and 0F 03. */
int exec_lar_lsl(struct exec *x)
{
	bool lsl = x->insn.opcode == 0x03, ok;
	uint64_t selector, d = 0, value;
	int r = exec_rm(x, 2, &selector);

	if (r < 0)
		return r;
	r = descriptor_of(x, (uint16_t)selector, &d);
	if (r < 0 && r != -ENOENT)
		return r;
	ok = r == 0 && reachable(x, d, (uint16_t)selector) &&
	     ((d >> 44 & 1) || system_type_ok(d >> 40 & 15, lsl));
	exec_flags(x, FLAG_ZF, ok ? FLAG_ZF : 0);
	if (!ok)
		return 0;
	value = d >> 32 & 0x00f0ff00;
	if (lsl) {
		value = (d & 0xffff) | (d >> 32 & 0xf0000);
		if (d >> 55 & 1)
			value = value << 12 | 0xfff;
	}
	exec_set_reg(x, x->insn.reg, x->insn.operand, value);
	return 0;
}

/* 0F 00 /4 VERR, /5 VERW: is the segment readable, writable? */
int exec_ver(struct exec *x)
{
	bool verw = (x->insn.reg & 7) == 5, ok;
	uint64_t selector, d = 0;
	unsigned type;
	int r = exec_rm(x, 2, &selector);

	if (r < 0)
		return r;
	r = descriptor_of(x, (uint16_t)selector, &d);
	if (r < 0 && r != -ENOENT)
		return r;
	type = d >> 40 & 15;
	ok = r == 0 && (d >> 44 & 1) && reachable(x, d, (uint16_t)selector);
	if (verw)
		ok = ok && (type & 10) == 2; /* data, writable */
	else
		ok = ok && (type & 10) != 8; /* not execute-only */
	exec_flags(x, FLAG_ZF, ok ? FLAG_ZF : 0);
	return 0;
}
