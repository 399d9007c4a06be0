/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registers, operands, addresses and the step from one instruction to the
 * next: what every handler needs.
 */
#include "vmm/pvm/assist-exec.h"

#include <errno.h>

unsigned exec_cpl(const struct exec *x)
{
	return x->sregs->ss.dpl & 3;
}

uint64_t exec_mask(unsigned bytes)
{
	return bytes >= 8 ? UINT64_MAX : (UINT64_C(1) << (8 * bytes)) - 1;
}

void exec_flags(struct exec *x, uint64_t affected, uint64_t set)
{
	x->regs->rflags = (x->regs->rflags & ~affected) | (set & affected);
}

static __u64 *reg_slot(const struct exec *x, unsigned n)
{
	struct kvm_regs *g = x->regs;

	switch (n & 15) {
	case 0:
		return &g->rax;
	case 1:
		return &g->rcx;
	case 2:
		return &g->rdx;
	case 3:
		return &g->rbx;
	case 4:
		return &g->rsp;
	case 5:
		return &g->rbp;
	case 6:
		return &g->rsi;
	case 7:
		return &g->rdi;
	default: /* r8 to r15 lie in a row */
		return &g->r8 + ((n & 15) - 8);
	}
}

/* AH, CH, DH and BH: the second byte of registers 0 to 3 (SDM 2A 3.1.1.1). */
static bool is_high_byte(const struct exec *x, unsigned n, unsigned bytes)
{
	return bytes == 1 && n >= 4 && n < 8 && !x->insn.rex &&
	       x->insn.encoding == INSN_LEGACY;
}

uint64_t exec_reg(const struct exec *x, unsigned n, unsigned bytes)
{
	if (is_high_byte(x, n, bytes))
		return *reg_slot(x, n - 4) >> 8 & 0xff;
	return *reg_slot(x, n) & exec_mask(bytes);
}

void exec_set_reg(struct exec *x, unsigned n, unsigned bytes, uint64_t value)
{
	__u64 *slot = reg_slot(x, n);
	uint64_t mask = bytes == 4 ? UINT64_MAX : exec_mask(bytes);

	value &= exec_mask(bytes);
	if (is_high_byte(x, n, bytes)) {
		slot = reg_slot(x, n - 4);
		mask = 0xff00;
		value <<= 8;
	}
	*slot = (*slot & ~mask) | value;
}

static enum insn_segment segment_of(const struct insn *insn)
{
	if (insn->segment != INSN_SEGMENT_NONE)
		return insn->segment;
	return insn->base == 4 || insn->base == 5 ? INSN_SS : INSN_DS;
}

static uint64_t segment_base(const struct exec *x)
{
	const struct kvm_sregs *s = x->sregs;
	enum insn_segment segment = segment_of(&x->insn);

	switch (segment) {
	case INSN_FS:
		return s->fs.base;
	case INSN_GS:
		return s->gs.base;
	default:
		break;
	}
	if (x->insn.mode == INSN_64)
		return 0; /* the other segments are flat (SDM 1 3.4.2.1) */
	switch (segment) {
	case INSN_ES:
		return s->es.base;
	case INSN_CS:
		return s->cs.base;
	case INSN_SS:
		return s->ss.base;
	default:
		return s->ds.base;
	}
}

uint64_t exec_address(const struct exec *x)
{
	const struct insn *insn = &x->insn;
	uint64_t ea = (uint64_t)(int64_t)insn->disp;

	if (insn->base == INSN_RIP)
		ea += x->regs->rip + insn->len;
	else if (insn->base != INSN_NO_REG)
		ea += *reg_slot(x, insn->base);
	if (insn->index != INSN_NO_REG)
		ea += *reg_slot(x, insn->index) << insn->scale;
	ea = (ea & exec_mask(insn->address)) + segment_base(x);
	return insn->mode == INSN_64 ? ea : ea & UINT32_MAX;
}

static unsigned access_of(const struct exec *x, unsigned access)
{
	return exec_cpl(x) == 3 ? access | MMU_USER : access;
}

/* A non-canonical address raises #SS instead where SS is used (SDM 3A 6.15). */
static int stack_fault(struct exec *x, int r)
{
	if (r == -EFAULT && x->fault.vector == EXC_GP &&
	    segment_of(&x->insn) == INSN_SS)
		x->fault.vector = EXC_SS;
	return r;
}

int exec_read(struct exec *x, uint64_t va, void *buf, size_t len)
{
	return stack_fault(x, mmu_read(&x->mmu, va, buf, len,
				       access_of(x, MMU_READ), &x->fault));
}

int exec_write(struct exec *x, uint64_t va, const void *buf, size_t len)
{
	return stack_fault(x, mmu_write(&x->mmu, va, buf, len,
					access_of(x, MMU_WRITE), &x->fault));
}

int exec_pointer(struct exec *x, uint64_t va, size_t len, void **ret_host)
{
	return stack_fault(x, mmu_pointer(&x->mmu, va, len,
					  access_of(x, MMU_WRITE), ret_host,
					  &x->fault));
}

int exec_rm(struct exec *x, unsigned bytes, uint64_t *ret_value)
{
	uint64_t value = 0;

	if (x->insn.mod == 3) {
		*ret_value = exec_reg(x, x->insn.rm, bytes);
		return 0;
	}
	int r = exec_read(x, exec_address(x), &value, bytes);

	if (r == 0)
		*ret_value = value;
	return r;
}

int exec_set_rm(struct exec *x, unsigned bytes, uint64_t value)
{
	if (x->insn.mod == 3) {
		exec_set_reg(x, x->insn.rm, bytes, value);
		return 0;
	}
	return exec_write(x, exec_address(x), &value, bytes);
}

int exec_gp(struct exec *x)
{
	return fault_set_code(&x->fault, EXC_GP, 0);
}

int exec_ud(struct exec *x)
{
	return fault_set(&x->fault, EXC_UD);
}

int exec_run(struct exec *x, const struct exec_op *op)
{
	bool step = x->regs->rflags & FLAG_TF;
	int r = op->run ? op->run(x) : -ENOSYS;

	if (r < 0)
		return r;
	x->regs->rip += x->insn.len;
	if (x->insn.mode != INSN_64)
		x->regs->rip &= UINT32_MAX;
	x->regs->rflags &= ~FLAG_RF;
	if (r == 0 && step) {
		fault_set(&x->fault, EXC_DB);
		return EXEC_TRAP;
	}
	return r;
}
