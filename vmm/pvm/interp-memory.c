/* SPDX-License-Identifier: Apache-2.0 */
/* The interpreter's view of the guest's memory: pages that it has translated.
 */
#include "vmm/pvm/interp-ops.h"
#include "vmm/pvm/ptables.h"

#include <string.h>

#define PAGE         UINT64_C(4096)
#define NO_CODE_PAGE UINT64_MAX

void interp_flush(struct interp *in)
{
	in->code_page = NO_CODE_PAGE;
	if (++in->generation < PAGE)
		return;
	memset(in->tlb, 0, sizeof(in->tlb));
	in->generation = 1;
}

/* A write of SIZE bytes at GPA, which lies at HOST, that KVM has to make. */
static void *hold(struct interp *in, gpa_t gpa, const uint8_t *host,
		  unsigned size)
{
	unsigned off = gpa & 7;

	in->held = (struct interp_write){.gpa = gpa, .bytes = size};
	if (!in->dry || off + size > 8)
		return NULL;
	in->held.known = true;
	memcpy(&in->held.value, host - off, 8);
	return (uint8_t *)&in->held.value + off;
}

void *interp_pointer_slow(struct interp *in, uint64_t va, unsigned size,
			  bool write)
{
	struct interp_tlb *e = &in->tlb[write][va >> 12 & (INTERP_TLB - 1)];
	uint64_t page = va & ~(PAGE - 1);
	gpa_t gpa;
	void *host;

	if ((va & (PAGE - 1)) + size > PAGE)
		return NULL;
	in->mmu.rflags = in->flags;
	if (mmu_translate(&in->mmu, page, write ? MMU_WRITE : MMU_READ, &gpa,
			  &in->fault) < 0)
		return NULL;
	host = mem_at(in->mmu.mem, gpa, PAGE);
	if (!host)
		return NULL;
	if (write && in->ptables && ptables_holds(in->ptables, gpa))
		return hold(in, gpa + (va & (PAGE - 1)),
			    (uint8_t *)host + (va & (PAGE - 1)), size);
	if (write && in->dry) {
		in->writes = true;
		return NULL;
	}
	e->tag = page | in->generation;
	e->host = host;
	return e->host + (va & (PAGE - 1));
}
