/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the interpreter's loop and caches (interp.c) and its instructions
 * (interp-alu.c, interp-flow.c), and included by no other file.
 */
#ifndef VMM_PVM_INTERP_OPS_H
#define VMM_PVM_INTERP_OPS_H

#include "vmm/pvm/mmu.h"
#include "vmm/pvm/insn.h"
#include "vmm/pvm/interp.h"
#include "vmm/pvm/ptables.h"

#include <stdbool.h>
#include <stdint.h>

#define INTERP_TLB   512  /* pages, a power of two */
#define INTERP_CACHE 2048 /* decoded instructions, a power of two */

struct interp;
struct uop;

/*
 * 0: done. INTERP_STOP: nothing happened. More: done, and it took as long as
 * that many others. A string instruction does at most a page at a time, and
 * leaves NEXT at itself while there is more to do, as if interrupted.
 */
typedef int interp_fn(struct interp *in, const struct uop *u);
#define INTERP_STOP 1

/* A decoded instruction, in one cache line. */
struct uop {
	uint64_t rip;
	uint8_t bytes[16]; /* as decoded: the kernel patches its own code */
	interp_fn *run;
	int64_t imm;
	int32_t disp;
	uint8_t len, opcode, prefix, operand;
	uint8_t mod, reg, rm, base;
	uint8_t index, scale, segment, address;
	bool lock, rex;
};

struct interp_tlb {
	uint64_t tag; /* page | generation */
	uint8_t *host;
};

struct interp {
	uint64_t r[16]; /* in the order of their encoding */
	uint64_t rip, next, flags;
	uint64_t fs, gs; /* bases */
	struct mmu mmu;
	struct ptables *ptables; /* borrowed, or NULL */
	struct ptables_writer writer;
	unsigned epoch;           /* of ptables, that tlb goes by */
	struct interp_write held; /* see interp_held() */
	struct fault fault;       /* KVM raises it again: not looked at */
	bool smap;
	bool dry;            /* what is written goes to held.value or nowhere */
	bool writes;         /* it would have gone to RAM */
	uint64_t generation; /* 1..4095, in the tags of valid entries */
	uint64_t code_page;  /* with generation, as a tag */
	const uint8_t *code;
	struct interp_tlb tlb[2][INTERP_TLB]; /* for reads, for writes */
	struct uop cache[INTERP_CACHE];
};

/* interp-flow.c: true when U is one that KVM may do many times in a step. */
bool interp_is_string(const struct uop *u);

/* interp-table.c: what runs INSN, or NULL. */
interp_fn *interp_find(const struct insn *insn);

/* interp-memory.c */

/* Forgets translations. */
void interp_flush(struct interp *in);
/* SIZE bytes at VA, all in one page of RAM, or NULL. */
void *interp_pointer_slow(struct interp *in, uint64_t va, unsigned size,
			  bool write);

static inline void *interp_pointer(struct interp *in, uint64_t va,
				   unsigned size, bool write)
{
	const struct interp_tlb *e =
		&in->tlb[write][va >> 12 & (INTERP_TLB - 1)];

	if (__builtin_expect(
		    e->tag == ((va & ~UINT64_C(4095)) | in->generation) &&
			    (va & 4095) + size <= 4096,
		    1))
		return e->host + (va & 4095);
	return interp_pointer_slow(in, va, size, write);
}

#endif
