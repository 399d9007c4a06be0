/* SPDX-License-Identifier: Apache-2.0 */
/* See SDM 2B RDTSC, SWAPGS, 2D WRFSBASE. */
#include "vmm/pvm/assist-quick.h"

#include <string.h>

static int swap_gs(struct quick *q, const struct exec_host *host, void *arg,
		   struct kvm_sregs *sregs)
{
	const uint64_t gs = sregs->gs.base;
	int r = 0;

	if (!q->known)
		r = host->get_msr(arg, MSR_KERNEL_GS_BASE, &q->kernel_gs);
	if (r < 0)
		return r;
	q->known = true;
	q->changed = true;
	sregs->gs.base = q->kernel_gs;
	q->kernel_gs = gs;
	return 1;
}

static int read_tsc(const struct exec_host *host, void *arg,
		    struct kvm_regs *regs)
{
	uint64_t tsc;
	int r = host->get_msr(arg, MSR_TSC, &tsc);

	if (r < 0)
		return r;
	regs->rax = (uint32_t)tsc;
	regs->rdx = tsc >> 32;
	return 1;
}

/* f3 REX.W 0f ae /2, /3, of a register: the forms that kernels use */
static int write_base(const struct kvm_regs *regs, struct kvm_sregs *sregs,
		      const uint8_t code[QUICK_BYTES])
{
	const uint64_t low[] = {regs->rax, regs->rcx, regs->rdx, regs->rbx,
				regs->rsp, regs->rbp, regs->rsi, regs->rdi};
	const uint64_t high[] = {regs->r8,  regs->r9,  regs->r10, regs->r11,
				 regs->r12, regs->r13, regs->r14, regs->r15};
	const uint64_t value =
		code[1] & 1 ? high[code[4] & 7] : low[code[4] & 7];

	if (!(sregs->cr4 & CR4_FSGSBASE) || !mmu_canonical(sregs, value))
		return 0;
	if (code[4] & 8)
		sregs->gs.base = value;
	else
		sregs->fs.base = value;
	return 1;
}

int quick_run(struct quick *q, const struct exec_host *host, void *host_arg,
	      struct kvm_regs *regs, struct kvm_sregs *sregs,
	      const uint8_t code[QUICK_BYTES])
{
	static const uint8_t swapgs[] = {0x0f, 0x01, 0xf8};
	static const uint8_t rdtsc[] = {0x0f, 0x31};
	unsigned len = 0;
	int r = 0;

	if (memcmp(code, swapgs, sizeof(swapgs)) == 0) {
		len = sizeof(swapgs);
		r = swap_gs(q, host, host_arg, sregs);
	} else if (memcmp(code, rdtsc, sizeof(rdtsc)) == 0) {
		len = sizeof(rdtsc);
		r = read_tsc(host, host_arg, regs);
	} else if (code[0] == 0xf3 && (code[1] & 0xf8) == 0x48 &&
		   code[2] == 0x0f && code[3] == 0xae &&
		   (code[4] & 0xf0) == 0xd0) {
		len = QUICK_BYTES;
		r = write_base(regs, sregs, code);
	}
	if (r == 1) {
		regs->rip += len;
		regs->rflags &= ~FLAG_RF;
	}
	return r;
}
