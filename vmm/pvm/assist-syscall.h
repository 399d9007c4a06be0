/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SYSCALL on a host that loses its privilege switch: it arrives at LSTAR with
 * RCX, R11, RFLAGS and RIP right, but CS and SS still the user's. LSTAR is
 * therefore made to point at a page of our own. Needs registers and guest RAM,
 * no KVM.
 *
 * The slow way: that page has no memory, the fetch from it fails, KVM exits,
 * and syscall_enter() does what is missing. The fast way, three times as fast
 * and without an exit: the page holds INT 4, which does switch privilege, and
 * the gate of vector 4 (#OF, which no 64-bit program raises otherwise) leads to
 * a stub in guest memory that turns the interrupt's stack frame into SYSCALL's
 * registers. A CPU's first system call goes the slow way and sets up the fast
 * one, as the guest has its interrupt table ready by then.
 */
#ifndef VMM_PVM_ASSIST_SYSCALL_H
#define VMM_PVM_ASSIST_SYSCALL_H

#include "vmm/pvm/mmu.h"

/*
 * Three pages of Linux's fixmap that it never uses, in a page table that all
 * processes share: what LSTAR may be, and the stub.
 */
#define SYSCALL_SLOW_VA UINT64_C(0xffffffffff6f0000)
#define SYSCALL_FAST_VA UINT64_C(0xffffffffff6f1000)
#define SYSCALL_STUB_VA UINT64_C(0xffffffffff6f2000)

/* Guest RAM for the latter two: PCs have a BIOS there, so no kernel uses it. */
#define SYSCALL_FAST_GPA UINT64_C(0xf0000)
#define SYSCALL_STUB_GPA UINT64_C(0xf1000)

/* The addresses that the stub was made for. One per VM; the caller locks. */
struct syscall_stub {
	uint64_t lstar;    /* where SYSCALL is to go */
	uint64_t overflow; /* where the guest's own gate 4 went */
	unsigned users;    /* vCPUs that go the fast way */
};

/* One vCPU's. Zeroed is how a CPU begins. */
struct syscall_cpu {
	uint64_t lstar; /* as the guest wrote it, and reads it */
	bool fast;
	uint64_t slow_entries;
};

/*
 * The guest kernel sets LSTAR: plants the pages in the page tables that MMU
 * gives. 0: the CPU's LSTAR is to be SYSCALL_SLOW_VA; -EINVAL: VALUE is no
 * address, #GP is due; -ENOENT: no page table for it (logged).
 */
int syscall_set_lstar(struct syscall_stub *stub, struct syscall_cpu *cpu,
		      const struct mmu *mmu, uint64_t value);

/*
 * RIP has come to SYSCALL_SLOW_VA, by SYSCALL or by a jump of hostile code.
 * true: REGS and SREGS are as SYSCALL leaves them. false: a jump; FAULT is what
 * the guest deserves.
 */
bool syscall_enter(struct syscall_cpu *cpu, struct kvm_regs *regs,
		   struct kvm_sregs *sregs, uint64_t star, uint64_t fmask,
		   struct fault *fault);

/*
 * After a first syscall_enter(): opens the fast way for CPU if its interrupt
 * table allows. true: its LSTAR is to be SYSCALL_FAST_VA from now on.
 */
bool syscall_go_fast(struct syscall_stub *stub, struct syscall_cpu *cpu,
		     const struct mmu *mmu);

#endif
