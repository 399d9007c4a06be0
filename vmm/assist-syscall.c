/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The trap page for SYSCALL: planting it, and making good what is missing when
 * the CPU arrives there.
 */
#include "vmm/assist-syscall.h"

#include "vmm/log.h"

#include <errno.h>

#define TRAP_GPA UINT64_C(0xfff00000) /* no memory, no device */

#define CR4_LA57 (UINT64_C(1) << 12)
#define PTE_P    UINT64_C(1)
#define PTE_USER UINT64_C(7) /* present, writable, user */
#define PTE_PS   (UINT64_C(1) << 7)
#define PTE_ADDR UINT64_C(0x000ffffffffff000)
#define FLAG_IF  UINT64_C(0x200)
#define FLAG_RF  UINT64_C(0x10000)

#define PF_USER  4u
#define PF_FETCH 16u

/* The entry for VA in the page table that maps it, or NULL. */
static uint64_t *entry_of(const struct mmu *mmu, uint64_t va)
{
	unsigned shift = mmu->sregs->cr4 & CR4_LA57 ? 48 : 39;
	gpa_t table = mmu->sregs->cr3 & PTE_ADDR;

	for (;; shift -= 9) {
		uint64_t *slot =
			mem_at(mmu->mem, table + (va >> shift & 511) * 8, 8);
		uint64_t entry;

		if (slot == NULL || shift == 12)
			return slot;
		entry = __atomic_load_n(slot, __ATOMIC_RELAXED);
		if (!(entry & PTE_P) || (entry & PTE_PS))
			return NULL;
		table = entry & PTE_ADDR;
	}
}

static bool canonical(const struct mmu *mmu, uint64_t va)
{
	unsigned unused = mmu->sregs->cr4 & CR4_LA57 ? 7 : 16;

	return (uint64_t)((int64_t)(va << unused) >> unused) == va;
}

/* Every process shares the page tables of the kernel's half, so once is all. */
int syscall_set_lstar(struct syscall_cpu *cpu, const struct mmu *mmu,
		      uint64_t value)
{
	uint64_t *entry, old = 0;

	if (!canonical(mmu, value))
		return -EINVAL;
	entry = entry_of(mmu, SYSCALL_TRAP_VA);
	if (entry == NULL)
		return log_ret(
			-ENOENT,
			"the guest's kernel sets up system calls without "
			"Linux's fixmap page table: only 64-bit Linux "
			"runs on this host, whose KVM has no hardware "
			"virtualization");
	if (!__atomic_compare_exchange_n(entry, &old, TRAP_GPA | PTE_USER,
					 false, __ATOMIC_SEQ_CST,
					 __ATOMIC_SEQ_CST) &&
	    (old & PTE_ADDR) != TRAP_GPA)
		return log_ret(-ENOENT, "the guest's kernel uses 0x%llx itself",
			       (unsigned long long)SYSCALL_TRAP_VA);
	cpu->lstar = value;
	return 0;
}

static void set_segment(struct kvm_segment *s, uint16_t selector, bool code)
{
	*s = (struct kvm_segment){
		.limit = UINT32_MAX,
		.selector = selector,
		.type = code ? 11 : 3,
		.present = 1,
		.db = !code,
		.s = 1,
		.l = code,
		.g = 1,
	};
}

/*
 * User code cannot clear IF (its IOPL is 0), SYSCALL does if FMASK says so, and
 * Linux's does: who arrives with IF clear has executed SYSCALL, and RCX and R11
 * are the processor's, not forged. Others get the page fault that the address
 * would have raised had nothing been there.
 */
bool syscall_enter(struct syscall_cpu *cpu, struct kvm_regs *regs,
		   struct kvm_sregs *sregs, uint64_t star, uint64_t fmask,
		   struct fault *fault)
{
	uint16_t selector = star >> 32 & 0xfffc;

	if (sregs->ss.dpl != 3 || (regs->rflags & FLAG_IF) ||
	    !(fmask & FLAG_IF)) {
		fault_set_code(fault, EXC_PF,
			       PF_FETCH | (sregs->ss.dpl == 3 ? PF_USER : 0));
		fault->cr2 = regs->rip;
		return false;
	}
	set_segment(&sregs->cs, selector, true);
	set_segment(&sregs->ss, (uint16_t)(selector + 8), false);
	regs->rip = cpu->lstar;
	regs->rflags &= ~(fmask | FLAG_RF);
	cpu->entered++;
	return true;
}
