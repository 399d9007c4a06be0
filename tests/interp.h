/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest for the interpreter: 2 MiB of RAM, page tables that put some of it at
 * low addresses, where a test can have the same memory in its own process. For
 * tests and fuzz targets.
 */
#ifndef TESTS_INTERP_H
#define TESTS_INTERP_H

#include "vmm/pvm/interp.h"
#include "vmm/base/mem.h"
#include "vmm/base/util.h"

#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>

#define IG_BYTES  (2 * MIB)
#define IG_TABLES UINT64_C(0x1000) /* PML4, PDP, PD, PT: a page each */
#define IG_RAM    UINT64_C(0x10000)

/* Page N of IG_PAGES is seen at IG_VA + N pages, and lies N after IG_RAM. */
#define IG_VA    UINT64_C(0x10000000)
#define IG_PAGES 16

#define IG_PRESENT UINT64_C(1)
#define IG_WRITE   UINT64_C(2)

struct iguest {
	struct mem mem;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct interp *in; /* owned */
	uint8_t *ram;      /* owned */
};

/* The page table's entry of the page at VA. */
static inline uint64_t *ig_pte(const struct iguest *g, uint64_t va)
{
	return (uint64_t *)(g->ram + IG_TABLES + 0x3000) + (va >> 12 & 511);
}

/* The memory at VA as ig_map() maps it. */
static inline uint8_t *ig_at(const struct iguest *g, uint64_t va)
{
	return g->ram + IG_RAM + (va - IG_VA);
}

/* 64-bit ring 0 with WP and NX, all IG_PAGES writable. */
static inline void ig_map(struct iguest *g)
{
	uint64_t *tables = (uint64_t *)(g->ram + IG_TABLES);

	memset(tables, 0, 4 * 4096);
	tables[IG_VA >> 39 & 511] = (IG_TABLES + 0x1000) | 3;
	tables[512 + (IG_VA >> 30 & 511)] = (IG_TABLES + 0x2000) | 3;
	tables[1024 + (IG_VA >> 21 & 511)] = (IG_TABLES + 0x3000) | 3;
	for (unsigned i = 0; i < IG_PAGES; i++)
		*ig_pte(g, IG_VA + i * 4096) = (IG_RAM + i * 4096) | 3;
	memset(&g->regs, 0, sizeof(g->regs));
	memset(&g->sregs, 0, sizeof(g->sregs));
	g->regs.rflags = 2;
	g->sregs.cr0 = UINT64_C(0x80010033);
	g->sregs.cr3 = IG_TABLES;
	g->sregs.cr4 = UINT64_C(0x20); /* PAE */
	g->sregs.efer = 0xd01;         /* NXE, LMA, LME, SCE */
	g->sregs.cs.l = 1;
}

/* False: no memory. */
static inline bool ig_init(struct iguest *g)
{
	memset(g, 0, sizeof(*g));
	g->ram = aligned_alloc(4096, IG_BYTES);
	if (!g->ram)
		return false;
	memset(g->ram, 0, IG_BYTES);
	g->mem.region[0] = (struct mem_region){0, IG_BYTES, g->ram};
	g->mem.nregions = 1;
	g->mem.bytes = IG_BYTES;
	g->in = interp_new(&g->mem, NULL);
	ig_map(g);
	return g->in != NULL;
}

static inline void ig_done(struct iguest *g)
{
	interp_free(g->in);
	free(g->ram);
}

static inline uint64_t ig_run(struct iguest *g, uint64_t budget)
{
	return interp_run(g->in, &g->regs, &g->sregs, budget);
}

/* Registers by the numbers of their encoding (SDM 2A 2.2.1). */
static inline void ig_get(const struct kvm_regs *g, uint64_t r[16])
{
	const uint64_t in_order[16] = {
		g->rax, g->rcx, g->rdx, g->rbx, g->rsp, g->rbp, g->rsi, g->rdi,
		g->r8,  g->r9,  g->r10, g->r11, g->r12, g->r13, g->r14, g->r15};

	memcpy(r, in_order, sizeof(in_order));
}

static inline void ig_set(struct kvm_regs *g, const uint64_t r[16])
{
	g->rax = r[0];
	g->rcx = r[1];
	g->rdx = r[2];
	g->rbx = r[3];
	g->rsp = r[4];
	g->rbp = r[5];
	g->rsi = r[6];
	g->rdi = r[7];
	memcpy(&g->r8, r + 8, 8 * sizeof(r[0])); /* R8 to R15 lie in a row */
}

#endif
