/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest virtual memory as the guest's own page tables give it, with the faults
 * they raise. KVM_TRANSLATE does not do: it checks no permissions. Needs
 * registers and guest RAM, no KVM.
 */
#ifndef VMM_PVM_MMU_H
#define VMM_PVM_MMU_H

#include "vmm/base/mem.h"
#include "vmm/pvm/x86.h"

#include <linux/kvm.h>

struct fault {
	uint8_t vector;
	bool has_error_code;
	uint32_t error_code;
	uint64_t cr2; /* of EXC_PF */
};

/* Kinds of access, in the places of the page-fault error code's bits. */
#define MMU_READ  0u
#define MMU_WRITE 2u
#define MMU_USER  4u
#define MMU_FETCH 16u

struct mmu {
	const struct mem *mem;
	const struct kvm_sregs *sregs;
	uint64_t rflags; /* AC lifts SMAP */
};

/*
 * All return 0; -EFAULT with FAULT filled in: the guest's own fault; -ENXIO:
 * the address is no RAM's (a device), or the paging mode is one that no 64-bit
 * kernel uses. Accessed and dirty bits are set as the CPU sets them.
 */
int mmu_translate(const struct mmu *mmu, uint64_t va, unsigned access,
		  gpa_t *ret_gpa, struct fault *fault);
/* The same; all of the 1 << *RET_SHIFT bytes around VA are translated so. */
int mmu_translate_page(const struct mmu *mmu, uint64_t va, unsigned access,
		       gpa_t *ret_gpa, unsigned *ret_shift,
		       struct fault *fault);

/*
 * Across pages if need be. On a fault nothing has been read or written when
 * LEN is at most 4096; longer accesses may have been done in part, as XSAVE's
 * may on hardware.
 */
int mmu_read(const struct mmu *mmu, uint64_t va, void *buf, size_t len,
	     unsigned access, struct fault *fault);
int mmu_write(const struct mmu *mmu, uint64_t va, const void *buf, size_t len,
	      unsigned access, struct fault *fault);

/* Whether VA is sign-extended, as all addresses are (SDM 1 3.3.7.1). */
bool mmu_canonical(const struct kvm_sregs *sregs, uint64_t va);

/* A host pointer to LEN bytes within one page, for atomic operations. */
int mmu_pointer(const struct mmu *mmu, uint64_t va, size_t len, unsigned access,
		void **ret_host, struct fault *fault);

/* Fills FAULT in and returns -EFAULT. */
int fault_set(struct fault *fault, unsigned vector);
int fault_set_code(struct fault *fault, unsigned vector, uint32_t error_code);

#endif
