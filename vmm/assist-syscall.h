/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SYSCALL on a host that loses its privilege switch: it arrives at LSTAR with
 * RCX, R11, RFLAGS and RIP right, CS and SS still the user's. LSTAR is
 * therefore made to point at a page of our own. Needs registers and guest RAM,
 * no KVM.
 */
#ifndef VMM_ASSIST_SYSCALL_H
#define VMM_ASSIST_SYSCALL_H

#include "vmm/assist-mmu.h"

/* Where LSTAR really points to: in Linux's fixmap, at a place it never uses. */
#define SYSCALL_TRAP_VA UINT64_C(0xffffffffff6f0000)

/* One vCPU's. Zeroed is how a CPU begins. */
struct syscall_cpu {
	uint64_t lstar; /* as the guest wrote it, and reads it */
	uint64_t entered;
};

/*
 * The guest kernel sets LSTAR: plants the trap page in the page tables that MMU
 * gives. 0: the CPU's LSTAR is to be SYSCALL_TRAP_VA; -EINVAL: VALUE is no
 * address, #GP is due; -ENOENT: no page table for it (logged).
 */
int syscall_set_lstar(struct syscall_cpu *cpu, const struct mmu *mmu,
		      uint64_t value);

/*
 * RIP has come to SYSCALL_TRAP_VA, by SYSCALL or by a jump of hostile code.
 * true: REGS and SREGS are as SYSCALL leaves them. false: a jump; FAULT is what
 * the guest deserves.
 */
bool syscall_enter(struct syscall_cpu *cpu, struct kvm_regs *regs,
		   struct kvm_sregs *sregs, uint64_t star, uint64_t fmask,
		   struct fault *fault);

#endif
