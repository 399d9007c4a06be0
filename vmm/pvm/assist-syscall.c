/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages for SYSCALL: planting them, the stub, and making good what is
 * missing when a CPU arrives the slow way.
 */
#include "vmm/pvm/assist-syscall.h"

#include "vmm/pvm/assist-exec.h"
#include "vmm/base/log.h"
#include "vmm/pvm/x86.h"

#include <errno.h>
#include <string.h>

#define SLOW_GPA UINT64_C(0xfff00000) /* no memory, no device */
#define PAGE     4096

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

/*
 * Only ever fills an empty entry: KVM notices that one appeared, not that one
 * changed, as it does not see our writes.
 */
static int plant(const struct mmu *mmu, uint64_t va, uint64_t pte)
{
	uint64_t *entry = entry_of(mmu, va), old = 0;

	if (entry == NULL)
		return log_ret(
			-ENOENT,
			"the guest's kernel sets up system calls without "
			"Linux's fixmap page table: only 64-bit Linux "
			"runs on this host, whose KVM has no hardware "
			"virtualization");
	if (!__atomic_compare_exchange_n(entry, &old, pte, false,
					 __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST) &&
	    (old & PTE_ADDR) != (pte & PTE_ADDR))
		return log_ret(-ENOENT,
			       "the guest's kernel uses the address 0x%llx, "
			       "which system calls need on this host",
			       (unsigned long long)va);
	return 0;
}

/* Every process shares the page tables of the kernel's half, so once is all. */
int syscall_set_lstar(struct syscall_stub *stub, struct syscall_cpu *cpu,
		      const struct mmu *mmu, uint64_t value)
{
	int r;

	if (!mmu_canonical(mmu->sregs, value))
		return -EINVAL;
	r = plant(mmu, SYSCALL_SLOW_VA, SLOW_GPA | PTE_P | PTE_U | PTE_A);
	if (r == 0)
		r = plant(mmu, SYSCALL_FAST_VA,
			  SYSCALL_FAST_GPA | PTE_P | PTE_U | PTE_A);
	if (r == 0)
		r = plant(mmu, SYSCALL_STUB_VA,
			  SYSCALL_STUB_GPA | PTE_P | PTE_A);
	if (r < 0)
		return r;
	if (cpu->fast)
		stub->users--;
	cpu->fast = false;
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
 * Linux's does: a CPU that arrives with IF clear has executed SYSCALL, and RCX
 * and R11 are the processor's, not forged. Others get the page fault that the
 * address would have raised had nothing been there. The stub checks the same.
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
	cpu->slow_entries++;
	return true;
}

/* ---- the fast way -------------------------------------------------------- */

/* User mode lands here. HLT follows, which raises #GP if it is ever reached. */
static const uint8_t user_code[] = {0xcd, EXC_OF, 0xf4};

/*
 * The stack holds RIP, CS, RFLAGS, RSP, SS. An interrupt from anywhere but the
 * INT 4 above, or with IF set and so without a SYSCALL before it, is the
 * guest's own. RFLAGS are right already: masked by SYSCALL, and the gate clears
 * no more.
 */
static const uint8_t stub_code[] = {
	0x48, 0x81, 0x3c, 0x24, 0x02, 0x10, 0x6f, 0xff, /* cmpq $.., (%rsp) */
	0x75, 0x12,                                     /* jne 1f */
	0xf6, 0x44, 0x24, 0x11, 0x02,                   /* testb $2, 17(%rsp) */
	0x75, 0x0b,                                     /* jnz 1f */
	0x48, 0x8b, 0x64, 0x24, 0x18,                   /* mov 24(%rsp), %rsp */
	0xff, 0x25, 0x0c, 0x00, 0x00, 0x00,             /* jmp *lstar(%rip) */
	0xff, 0x25, 0x0e, 0x00, 0x00, 0x00, /* 1: jmp *overflow(%rip) */
};

#define STUB_LSTAR    40
#define STUB_OVERFLOW 48

_Static_assert(28 + 0x0c == STUB_LSTAR && 34 + 0x0e == STUB_OVERFLOW &&
		       sizeof(stub_code) == 34,
	       "the stub's displacements");
_Static_assert((SYSCALL_FAST_VA + 2) == UINT64_C(0xffffffffff6f1002),
	       "the stub's immediate operand");

static bool write_stub(const struct syscall_stub *stub, const struct mem *mem)
{
	uint8_t page[STUB_OVERFLOW + 8] = {0};

	memcpy(page, stub_code, sizeof(stub_code));
	memcpy(page + STUB_LSTAR, &stub->lstar, 8);
	memcpy(page + STUB_OVERFLOW, &stub->overflow, 8);
	return mem_write(mem, SYSCALL_STUB_GPA, page, sizeof(page)) == 0 &&
	       mem_write(mem, SYSCALL_FAST_GPA, user_code, sizeof(user_code)) ==
		       0;
}

/* The first half of a gate descriptor (SDM 3A figure 6-8). */
static uint64_t gate_low(uint64_t gate, uint64_t va)
{
	return (gate & UINT64_C(0x0000ffffffff0000)) | (va & 0xffff) |
	       (va >> 16 & 0xffff) << 48;
}

static uint64_t gate_target(uint64_t low, uint64_t high)
{
	return (low & 0xffff) | (low >> 48) << 16 | high << 32;
}

/* A present interrupt gate without a stack of its own, near enough the stub. */
static bool gate_fits(uint64_t low, uint64_t high)
{
	return (low >> 40 & 0x9f) == 0x8e && (low >> 32 & 7) == 0 &&
	       (high & UINT32_MAX) == SYSCALL_STUB_VA >> 32;
}

bool syscall_go_fast(struct syscall_stub *stub, struct syscall_cpu *cpu,
		     const struct mmu *mmu)
{
	uint64_t gate_va = mmu->sregs->idt.base + EXC_OF * 16;
	uint64_t low, high, *gate;
	struct fault fault;
	void *host;

	if (mmu_pointer(mmu, gate_va, 16, MMU_READ, &host, &fault) < 0)
		return false;
	gate = host;
	low = __atomic_load_n(&gate[0], __ATOMIC_RELAXED);
	high = __atomic_load_n(&gate[1], __ATOMIC_RELAXED);
	if (!gate_fits(low, high))
		return false;
	if (gate_target(low, high) == SYSCALL_STUB_VA) {
		/*
		 * Another CPU has changed the gate already: CPUs usually share
		 * the table.
		 */
		if (stub->lstar != cpu->lstar)
			return false;
	} else {
		struct syscall_stub wanted = {
			.lstar = cpu->lstar,
			.overflow = gate_target(low, high),
			.users = stub->users,
		};

		if (stub->users > 0 && (stub->lstar != wanted.lstar ||
					stub->overflow != wanted.overflow))
			return false;
		if (!write_stub(&wanted, mmu->mem))
			return false;
		*stub = wanted;
		__atomic_store_n(&gate[0], gate_low(low, SYSCALL_STUB_VA),
				 __ATOMIC_SEQ_CST);
	}
	stub->users++;
	cpu->fast = true;
	return true;
}
