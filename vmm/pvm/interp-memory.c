/* SPDX-License-Identifier: Apache-2.0 */
/* The interpreter's view of the guest's memory: pages that it has translated.
 */
#include "vmm/pvm/interp-ops.h"
#include "vmm/pvm/ptables.h"

#include <string.h>

#define PAGE UINT64_C(4096)

/* The smallest large pages are of 2 MiB. */
#define LARGE_SHIFT 21

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
	memset(in->large, 0, sizeof(in->large));
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

bool interp_translate(struct interp *in, uint64_t va, enum interp_access access,
		      gpa_t *ret_gpa)
{
	static const unsigned kind[INTERP_ACCESSES] = {MMU_READ, MMU_WRITE,
						       MMU_FETCH};
	struct interp_large *l =
		&in->large[access][va >> LARGE_SHIFT & (INTERP_LARGE_TLB - 1)];
	uint64_t mask = (UINT64_C(1) << LARGE_SHIFT) - 1;
	unsigned shift;

	interp_charge(in, INTERP_COST_WALK);
	if (l->tag == ((va & ~mask) | in->generation)) {
		*ret_gpa = l->gpa | (va & mask);
		return true;
	}
	in->mmu.rflags = in->flags;
	if (mmu_translate_page(&in->mmu, va, kind[access], ret_gpa, &shift,
			       &in->fault) < 0)
		return false;
	if (shift >= LARGE_SHIFT)
		*l = (struct interp_large){(va & ~mask) | in->generation,
					   *ret_gpa & ~mask};
	return true;
}

static uint8_t *translate(struct interp *in, uint64_t va, bool write,
			  gpa_t *ret_gpa)
{
	uint8_t *host = NULL;

	if (interp_translate(in, va, write ? INTERP_WRITE : INTERP_READ,
			     ret_gpa))
		host = mem_at(in->mmu.mem, *ret_gpa, 1);
	in->no_access |= !host;
	return host;
}

/* A copy of what is on two pages; writes to it go to both in the end. */
static void *pointer_across(struct interp *in, uint64_t va, unsigned size,
			    bool write)
{
	unsigned first = (unsigned)(PAGE - (va & (PAGE - 1)));
	gpa_t gpa[2];
	uint8_t *host[2] = {translate(in, va, write, &gpa[0]),
			    translate(in, va + first, write, &gpa[1])};

	if (!host[0] || !host[1] || size > sizeof(in->across))
		return NULL;
	for (unsigned i = 0; write && in->ptables && i < 2; i++) {
		if (!ptables_holds(in->ptables, gpa[i]))
			continue;
		in->held = (struct interp_write){
			.gpa = gpa[i], .bytes = i ? size - first : first};
		return NULL;
	}
	if (write && in->dry) {
		in->writes = true;
		return NULL;
	}
	if (write && !in->careful) {
		in->careful_write = true;
		return NULL;
	}
	memcpy(in->across, host[0], first);
	memcpy(in->across + first, host[1], size - first);
	if (write)
		in->parts = (struct interp_parts){{host[0], host[1]},
						  {first, size - first}};
	return in->across;
}

void interp_write_across(struct interp *in)
{
	const struct interp_parts *p = &in->parts;

	if (p->bytes[0] == 0)
		return;
	memcpy(p->host[0], in->across, p->bytes[0]);
	memcpy(p->host[1], in->across + p->bytes[0], p->bytes[1]);
}

void *interp_pointer_slow(struct interp *in, uint64_t va, unsigned size,
			  bool write)
{
	struct interp_tlb *e = &in->tlb[write][va >> 12 & (INTERP_TLB - 1)];
	uint64_t page = va & ~(PAGE - 1);
	unsigned off = va & (PAGE - 1);
	gpa_t gpa;
	uint8_t *host;

	if (off + size > PAGE)
		return pointer_across(in, va, size, write);
	host = translate(in, page, write, &gpa);
	if (!host)
		return NULL;
	if (write && in->ptables && ptables_holds(in->ptables, gpa))
		return hold(in, gpa + off, host + off, size);
	if (write && in->dry) {
		in->writes = true;
		return NULL;
	}
	if (write && has_code(in, host)) {
		in->careful_write = !in->careful;
		return in->careful ? host + off : NULL;
	}
	if (write)
		interp_filter_add(in->write_filter, host);
	e->tag = page | in->generation;
	e->delta = (uintptr_t)host - page;
	return host + off;
}
