/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page walk of SDM 3A 4.5 (4-level and 5-level paging), and memory access
 * on top of it. Page tables are guest memory: every entry is read once and
 * other vCPUs may change it meanwhile.
 */
#include "vmm/pvm/mmu.h"

#include "vmm/base/util.h"
#include "vmm/pvm/x86.h"

#include <errno.h>
#include <string.h>

#define PAGE 4096

/* Error code bits that are no kind of access. */
#define PF_PRESENT  1u
#define PF_RESERVED 8u

int fault_set(struct fault *fault, unsigned vector)
{
	*fault = (struct fault){.vector = (uint8_t)vector};
	return -EFAULT;
}

int fault_set_code(struct fault *fault, unsigned vector, uint32_t error_code)
{
	fault_set(fault, vector);
	fault->has_error_code = true;
	fault->error_code = error_code;
	return -EFAULT;
}

static int page_fault(const struct mmu *mmu, uint64_t va, unsigned access,
		      uint32_t cause, struct fault *fault)
{
	/* The fetch bit is reported under NX or SMEP only (SDM 3A 4.7). */
	if (!(mmu->sregs->efer & EFER_NXE) && !(mmu->sregs->cr4 & CR4_SMEP))
		access &= ~MMU_FETCH;
	fault_set_code(fault, EXC_PF, cause | access);
	fault->cr2 = va;
	return -EFAULT;
}

/* The rights that all levels of a walk have granted so far. */
struct rights {
	bool write, user, no_execute;
};

/* SDM 3A 4.6.1. */
static bool allowed(const struct mmu *mmu, const struct rights *rights,
		    unsigned access)
{
	uint64_t cr4 = mmu->sregs->cr4;

	if (access & MMU_USER) {
		if (!rights->user)
			return false;
		if ((access & MMU_WRITE) && !rights->write)
			return false;
	} else {
		if (rights->user && (access & MMU_FETCH) && (cr4 & CR4_SMEP))
			return false;
		if (rights->user && !(access & MMU_FETCH) && (cr4 & CR4_SMAP) &&
		    !(mmu->rflags & FLAG_AC))
			return false;
		if ((access & MMU_WRITE) && !rights->write &&
		    (mmu->sregs->cr0 & CR0_WP))
			return false;
	}
	return !((access & MMU_FETCH) && rights->no_execute &&
		 (mmu->sregs->efer & EFER_NXE));
}

/*
 * Bits of the address that a large page's entry has to leave clear (SDM 3A
 * table 4-16 to 4-18); bit 12 is PAT.
 */
static uint64_t reserved_of_large(unsigned shift)
{
	return ((UINT64_C(1) << shift) - 1) & ~UINT64_C(0x1fff);
}

/* Sets accessed and dirty bits; false when the guest changed the entry. */
static bool mark_entry(uint64_t *slot, uint64_t entry, uint64_t bits)
{
	if ((entry & bits) == bits)
		return true;
	return __atomic_compare_exchange_n(slot, &entry, entry | bits, false,
					   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* The page table entry at GPA, or NULL. Mostly it lies in the first region. */
static uint64_t *entry_at(const struct mem *mem, gpa_t gpa)
{
	const struct mem_region *first = &mem->region[0];

	if (gpa >= first->base &&
	    range_fits(gpa - first->base, 8, first->bytes))
		return (uint64_t *)(first->host + (gpa - first->base));
	return mem_at(mem, gpa, 8);
}

/* One walk. -EAGAIN: an entry changed under it, walk again. */
static int walk(const struct mmu *mmu, uint64_t va, unsigned access,
		gpa_t *ret_gpa, unsigned *ret_shift, struct fault *fault)
{
	int level = mmu->sregs->cr4 & CR4_LA57 ? 5 : 4;
	gpa_t table = mmu->sregs->cr3 & PTE_ADDR;
	struct rights rights = {.write = true, .user = true};

	for (;; level--) {
		unsigned shift = 12 + 9 * ((unsigned)level - 1);
		gpa_t at = table + (va >> shift & 511) * 8;
		uint64_t *slot = entry_at(mmu->mem, at), entry, bits = PTE_A;
		bool leaf;

		if (slot == NULL)
			return -ENXIO;
		entry = __atomic_load_n(slot, __ATOMIC_RELAXED);
		if (!(entry & PTE_P))
			return page_fault(mmu, va, access, 0, fault);
		leaf = level == 1 || (level <= 3 && (entry & PTE_PS));
		if ((level > 3 && (entry & PTE_PS)) ||
		    ((entry & PTE_NX) && !(mmu->sregs->efer & EFER_NXE)) ||
		    (leaf && level > 1 && (entry & reserved_of_large(shift))))
			return page_fault(mmu, va, access,
					  PF_PRESENT | PF_RESERVED, fault);
		rights.write &= (entry & PTE_W) != 0;
		rights.user &= (entry & PTE_U) != 0;
		rights.no_execute |= (entry & PTE_NX) != 0;
		if (leaf && !allowed(mmu, &rights, access))
			return page_fault(mmu, va, access, PF_PRESENT, fault);
		if (leaf && (access & MMU_WRITE))
			bits |= PTE_D;
		if (!mark_entry(slot, entry, bits))
			return -EAGAIN;
		table = entry & PTE_ADDR;
		if (leaf) {
			uint64_t mask = (UINT64_C(1) << shift) - 1;

			*ret_gpa = (table & ~mask) | (va & mask);
			*ret_shift = shift;
			return 0;
		}
	}
}

bool mmu_canonical(const struct kvm_sregs *sregs, uint64_t va)
{
	unsigned unused = sregs->cr4 & CR4_LA57 ? 7 : 16;

	return (uint64_t)((int64_t)(va << unused) >> unused) == va;
}

int mmu_translate_page(const struct mmu *mmu, uint64_t va, unsigned access,
		       gpa_t *ret_gpa, unsigned *ret_shift, struct fault *fault)
{
	int r = -EAGAIN;

	if (!(mmu->sregs->cr0 & CR0_PG)) {
		*ret_gpa = va & UINT32_MAX;
		*ret_shift = 12;
		return 0;
	}
	if (!(mmu->sregs->efer & EFER_LMA))
		return -ENXIO; /* 32-bit or PAE paging */
	if (!mmu_canonical(mmu->sregs, va))
		return fault_set_code(fault, EXC_GP, 0);
	/*
	 * Stop after some tries: no sane guest rewrites its tables all the
	 * time.
	 */
	for (int i = 0; i < 100 && r == -EAGAIN; i++)
		r = walk(mmu, va, access, ret_gpa, ret_shift, fault);
	return r == -EAGAIN ? -ENXIO : r;
}

int mmu_translate(const struct mmu *mmu, uint64_t va, unsigned access,
		  gpa_t *ret_gpa, struct fault *fault)
{
	unsigned shift;

	return mmu_translate_page(mmu, va, access, ret_gpa, &shift, fault);
}

int mmu_pointer(const struct mmu *mmu, uint64_t va, size_t len, unsigned access,
		void **ret_host, struct fault *fault)
{
	gpa_t gpa;
	int r;

	if (len > PAGE - (va & (PAGE - 1)))
		return -ENXIO;
	r = mmu_translate(mmu, va, access, &gpa, fault);
	if (r < 0)
		return r;
	*ret_host = mem_at(mmu->mem, gpa, len);
	return *ret_host == NULL ? -ENXIO : 0;
}

/* Raises the faults of every page of an access before any of it is done. */
static int probe(const struct mmu *mmu, uint64_t va, size_t len,
		 unsigned access, struct fault *fault)
{
	uint64_t next = align_down(va, PAGE) + PAGE;
	void *host;

	if (len == 0 || len > PAGE || len <= next - va)
		return 0;
	return mmu_pointer(mmu, next, 1, access, &host, fault);
}

int mmu_read(const struct mmu *mmu, uint64_t va, void *buf, size_t len,
	     unsigned access, struct fault *fault)
{
	uint8_t *to = buf;

	while (len > 0) {
		size_t n = min_u64(len, PAGE - (va & (PAGE - 1)));
		void *host;
		int r = mmu_pointer(mmu, va, n, access, &host, fault);

		if (r < 0)
			return r;
		memcpy(to, host, n);
		va += n;
		to += n;
		len -= n;
	}
	return 0;
}

int mmu_write(const struct mmu *mmu, uint64_t va, const void *buf, size_t len,
	      unsigned access, struct fault *fault)
{
	const uint8_t *from = buf;
	int r = probe(mmu, va, len, access | MMU_WRITE, fault);

	if (r < 0)
		return r;
	while (len > 0) {
		size_t n = min_u64(len, PAGE - (va & (PAGE - 1)));
		void *host;

		r = mmu_pointer(mmu, va, n, access | MMU_WRITE, &host, fault);
		if (r < 0)
			return r;
		memcpy(host, from, n);
		va += n;
		from += n;
		len -= n;
	}
	return 0;
}
