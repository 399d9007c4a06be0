/* SPDX-License-Identifier: Apache-2.0 */
/* The interpreter's view of the guest's memory: pages that it has translated.
 */
#include "vmm/pvm/interp-ops.h"
#include "vmm/pvm/ptables.h"

#include <string.h>

#define PAGE UINT64_C(4096)

void interp_forget_code(struct interp *in)
{
	in->code_generation++;
	in->ncode = 0;
	memset(in->code_filter, 0, sizeof(in->code_filter));
}

void interp_flush(struct interp *in)
{
	memset(in->write_filter, 0, sizeof(in->write_filter));
	interp_forget_code(in);
	if (++in->generation < PAGE)
		return;
	memset(in->tlb, 0, sizeof(in->tlb));
	memset(in->fetch, 0, sizeof(in->fetch));
	in->generation = 1;
}

void interp_flush_writes(struct interp *in, const uint8_t *host)
{
	if (!interp_filter(in->write_filter, host))
		return;
	for (unsigned i = 0; i < INTERP_TLB; i++) {
		struct interp_tlb *e = &in->tlb[true][i];

		if ((e->tag & (PAGE - 1)) == in->generation &&
		    (e->tag & ~(PAGE - 1)) + e->delta == (uintptr_t)host)
			e->tag = 0;
	}
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

/* True when code of the page at HOST is taken to be as it was decoded. */
static bool has_code(const struct interp *in, const uint8_t *host)
{
	if (!interp_filter(in->code_filter, host))
		return false;
	for (unsigned i = 0; i < in->ncode; i++) {
		if (in->code_page[i] == host)
			return true;
	}
	return false;
}

void *interp_pointer_slow(struct interp *in, uint64_t va, unsigned size,
			  bool write)
{
	struct interp_tlb *e = &in->tlb[write][va >> 12 & (INTERP_TLB - 1)];
	uint64_t page = va & ~(PAGE - 1);
	gpa_t gpa;
	uint8_t *host;

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
			    host + (va & (PAGE - 1)), size);
	if (write && in->dry) {
		in->writes = true;
		return NULL;
	}
	if (write && has_code(in, host)) {
		in->code_write = !in->patching;
		return in->patching ? host + (va & (PAGE - 1)) : NULL;
	}
	if (write)
		interp_filter_add(in->write_filter, host);
	e->tag = page | in->generation;
	e->delta = (uintptr_t)host - page;
	return host + (va & (PAGE - 1));
}
