/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest for the assists without KVM: 2 MiB of RAM, page tables, registers,
 * and a vector state that lives in an array, as large as the processor's or as
 * that of one that a test makes up. For tests and fuzz targets.
 */
#ifndef TESTS_ASSIST_H
#define TESTS_ASSIST_H

#include "vmm/pvm/assist-exec.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define GUEST_BYTES  (2 * MIB)
#define GUEST_TABLES UINT64_C(0x1000) /* PML4, PDP, PD, PT: a page each */
#define GUEST_DATA   UINT64_C(0x10000)
#define GUEST_PAGES  16 /* of GUEST_DATA, mapped */

/* Where page N of the page table is seen; page 0 is GUEST_DATA's. */
#define GUEST_VA      UINT64_C(0xffff888000000000)
#define GUEST_PT_PML4 ((GUEST_VA >> 39) & 511)

#define CR0_DEFAULT UINT64_C(0x80010033) /* PG, WP, NE, ET, MP, PE */
#define CR4_DEFAULT UINT64_C(0x50620)    /* OSXSAVE, FSGSBASE, SSE, PAE */

struct guest {
	struct mem mem;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	uint64_t xcr0, tsc_aux;
	uint8_t *fpu, *area; /* owned; layout.bytes each */
	unsigned fpu_loads, fpu_stores;
	struct exec_layout layout;
	struct exec exec;
};

static inline uint64_t guest_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static inline int guest_get_xcr0(void *arg, uint64_t *ret_xcr0)
{
	*ret_xcr0 = ((struct guest *)arg)->xcr0;
	return 0;
}

static inline int guest_get_fpu(void *arg, uint8_t *area)
{
	struct guest *g = arg;

	memcpy(area, g->fpu, g->layout.bytes);
	g->fpu_loads++;
	return 0;
}

static inline int guest_set_fpu(void *arg, const uint8_t *area)
{
	static const uint32_t initial = 0x1f80;
	struct guest *g = arg;

	memcpy(g->fpu, area, g->layout.bytes);
	/* As KVM: MXCSR counts with x87, SSE or AVX only. */
	if ((g->fpu[512] & 7) == 0)
		memcpy(g->fpu + 24, &initial, sizeof(initial));
	g->fpu_stores++;
	return 0;
}

static inline int guest_get_msr(void *arg, uint32_t index, uint64_t *ret_value)
{
	(void)index;
	*ret_value = ((struct guest *)arg)->tsc_aux;
	return 0;
}

static inline uint64_t *guest_pte(struct guest *g, unsigned page)
{
	return (uint64_t *)(g->mem.region[0].host + GUEST_TABLES + 0x3000) +
	       page;
}

/*
 * BYTES, a multiple of 64, that end where nothing is mapped: an access beyond
 * is a crash. Zeroed, aligned to 64; without memory the test ends.
 */
static inline uint8_t *guarded_new(size_t bytes)
{
	size_t span = align_up(bytes, 4096);
	uint8_t *base = mmap(NULL, span + 4096, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (base == MAP_FAILED || mprotect(base + span, 4096, PROT_NONE) < 0)
		abort();
	return base + (span - bytes);
}

static inline void guarded_free(uint8_t *buf, size_t bytes)
{
	size_t span = align_up(bytes, 4096);

	if (buf)
		munmap(buf - (span - bytes), span + 4096);
}

/*
 * 64-bit ring 0; GUEST_PAGES of GUEST_DATA mapped, writable, for the kernel.
 * RAM and the vector state's layout stay as they are.
 */
static inline void guest_reset(struct guest *g)
{
	uint64_t *tables = (uint64_t *)(g->mem.region[0].host + GUEST_TABLES);

	memset(&g->regs, 0, sizeof(g->regs));
	memset(&g->sregs, 0, sizeof(g->sregs));
	memset(g->fpu, 0, g->layout.bytes);
	g->fpu_loads = g->fpu_stores = 0;
	g->tsc_aux = 0;
	g->xcr0 = 7;
	g->regs.rflags = 2;
	g->sregs.cr0 = CR0_DEFAULT;
	g->sregs.cr3 = GUEST_TABLES;
	g->sregs.cr4 = CR4_DEFAULT;
	g->sregs.efer = 0xd01; /* NXE, LMA, LME, SCE */
	g->sregs.cs.l = 1;
	memset(tables, 0, 4 * 4096);
	tables[GUEST_PT_PML4] = (GUEST_TABLES + 0x1000) | 7;
	tables[512] = (GUEST_TABLES + 0x2000) | 7;
	tables[1024] = (GUEST_TABLES + 0x3000) | 7;
	for (unsigned i = 0; i < GUEST_PAGES; i++)
		*guest_pte(g, i) = (GUEST_DATA + i * 4096) | 3;
}

/* RAM is GUEST_BYTES, borrowed. LAYOUT is the vector state's; NULL: the host's.
 */
static inline void guest_init(struct guest *g, uint8_t *ram,
			      const struct exec_layout *layout)
{
	memset(g, 0, sizeof(*g));
	g->mem.region[0] = (struct mem_region){0, GUEST_BYTES, ram};
	g->mem.nregions = 1;
	g->mem.bytes = GUEST_BYTES;
	if (layout)
		g->layout = *layout;
	else
		exec_layout_init(&g->layout);
	g->fpu = guarded_new(g->layout.bytes);
	g->area = guarded_new(g->layout.bytes);
	guest_reset(g);
}

static inline void guest_done(struct guest *g)
{
	guarded_free(g->fpu, g->layout.bytes);
	guarded_free(g->area, g->layout.bytes);
}

static const struct exec_host guest_host = {
	.get_xcr0 = guest_get_xcr0,
	.get_fpu = guest_get_fpu,
	.set_fpu = guest_set_fpu,
	.get_msr = guest_get_msr,
};

static inline void guest_exec_init(struct guest *g)
{
	g->exec = (struct exec){
		.regs = &g->regs,
		.sregs = &g->sregs,
		.mmu = {&g->mem, &g->sregs, g->regs.rflags},
		.host = &guest_host,
		.host_arg = g,
		.layout = &g->layout,
		.area = g->area,
	};
}

/* Decodes and executes: the executor's result, or the decoder's error. */
static inline int guest_run(struct guest *g, const uint8_t *code, size_t n)
{
	enum insn_mode mode = g->sregs.cs.l    ? INSN_64
			      : g->sregs.cs.db ? INSN_32
					       : INSN_16;
	const struct exec_op *op;
	int r;

	guest_exec_init(g);
	r = insn_decode(&g->exec.insn, code, n, mode);
	if (r < 0)
		return r;
	op = exec_find(&g->exec.insn);
	return op ? exec_run(&g->exec, op) : -ENOSYS;
}

#endif
