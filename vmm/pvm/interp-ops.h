/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the interpreter's loop (interp.c), its memory of code and of
 * translations (interp-code.c, interp-memory.c) and its instructions
 * (interp-alu.c, interp-fast.c, interp-flow.c), and included by no other file.
 */
#ifndef VMM_PVM_INTERP_OPS_H
#define VMM_PVM_INTERP_OPS_H

#include "vmm/pvm/mmu.h"
#include "vmm/pvm/insn.h"
#include "vmm/pvm/interp.h"
#include "vmm/pvm/ptables.h"

#include <stdbool.h>
#include <stdint.h>

#define INTERP_TLB        512  /* pages, a power of two */
#define INTERP_LARGE_TLB  16   /* pieces of large pages, a power of two */
#define INTERP_FETCH_TLB  64   /* pages of code, a power of two */
#define INTERP_CODE_PAGES 256  /* whose code may be known to be as decoded */
#define INTERP_BUCKETS    2048 /* of blocks, a power of two */
#define INTERP_FILTER     1024 /* bits, a power of two */

struct interp;
struct uop;

/*
 * Runs U and the rest of its block: each handler ends by calling the next one.
 * INTERP_STOP: nothing of in->at happened, what is before it did. INTERP_END:
 * what is before in->at is done, and in->rip says where to go on. A string
 * instruction does at most a page at a time, and ends with RIP at itself while
 * there is more to do, as if interrupted.
 */
typedef int interp_fn(struct interp *in, const struct uop *u);
enum { INTERP_STOP, INTERP_END };

/* Registers that an address may be made of besides the 16 general ones. */
enum { INTERP_ZERO = 16, INTERP_FS, INTERP_GS, INTERP_REGS };

/* A decoded instruction. */
struct uop {
	interp_fn *run;
	int64_t disp; /* with RIP, if that is the base; a branch's target */
	int64_t imm;
	uint8_t off; /* from the block's first byte */
	uint8_t len, opcode, prefix, operand, mod, reg, rm;
	uint8_t base, index, scale; /* registers as numbered above */
	uint8_t segment;            /* likewise; in INDEX already unless ODD */
	uint8_t address;
	bool odd; /* a 32-bit address, or one of three registers */
	bool lock, rex;
};

/*
 * Instructions that follow one another in a page of code, and may leave by any
 * that branches. The code as it was decoded lies behind the last uop.
 */
struct interp_block {
	uint64_t rip;
	uint64_t checked; /* the code_generation in which it was the same */
	struct interp_block *next; /* of the same bucket */
	uint8_t n;                 /* instructions; 0: an unknown one */
	uint8_t bytes;
	bool crosses;     /* a page: one instruction, compared each time */
	struct uop uop[]; /* N, and one that ends or stops */
};

enum interp_access {
	INTERP_READ,
	INTERP_WRITE,
	INTERP_FETCH,
	INTERP_ACCESSES,
};

struct interp_tlb {
	uint64_t tag;    /* page | generation */
	uintptr_t delta; /* from guest to host */
};

/* 2 MiB of a page that is at least as large. */
struct interp_large {
	uint64_t tag; /* address | generation */
	gpa_t gpa;
};

struct interp_fetch {
	uint64_t tag; /* page | generation */
	const uint8_t *host;
	uint64_t noted; /* the code_generation in which it is among code_page */
};

struct interp {
	uint64_t r[INTERP_REGS]; /* general ones in the order of encoding */
	uint64_t rip;
	uint64_t flags; /* without the status flags, which are these: */
	uint8_t low;    /* SF, ZF, AF, PF, CF as in RFLAGS; other bits: any */
	uint8_t of;     /* 0 or 1 */
	const struct interp_block *block; /* that runs */
	const struct uop *at;             /* where it ended */
	uint64_t left;                    /* of the budget */
	uint64_t charged; /* since BLOCK was looked for, beside instructions */
	uint64_t spent;   /* see interp_spent() */
	uint64_t generation; /* 1..4095, in valid tags */
	struct mmu mmu;
	struct ptables *ptables; /* borrowed, or NULL */
	struct ptables_writer writer;
	unsigned epoch;           /* of ptables, that tlb goes by */
	struct interp_write held; /* see interp_held() */
	struct fault fault;       /* KVM raises it again: not looked at */
	enum interp_cause cause;
	bool no_access; /* memory that an instruction needs: faults, no RAM */
	bool smap;
	bool dry;    /* what is written goes to held.value or nowhere */
	bool writes; /* it would have gone to RAM */
	/*
	 * Stopped before a write to code, or to two pages, which is done alone;
	 * as it is now.
	 */
	bool careful_write, careful;
	struct interp_parts {
		uint8_t *host[2];
		unsigned bytes[2]; /* 0: there is no such write under way */
	} parts;
	uint8_t across[64]; /* instead of bytes on two pages */
	/*
	 * Blocks that were compared with the code in this generation are not
	 * compared again. Pages of such code are not in tlb for writes, so that
	 * this interpreter's own writes there are seen, and end it.
	 */
	uint64_t code_generation;
	unsigned ncode;
	const uint8_t *code_page[INTERP_CODE_PAGES];
	/* A bit for some pages: those of code_page, those written through tlb
	 */
	uint64_t code_filter[INTERP_FILTER / 64];
	uint64_t write_filter[INTERP_FILTER / 64];
	struct interp_block *bucket[INTERP_BUCKETS];
	struct interp_block none;   /* in empty ones */
	struct interp_block *alone; /* owned; room for one instruction */
	uint8_t *arena;             /* owned; where blocks are */
	size_t arena_used;
	struct interp_large large[INTERP_ACCESSES][INTERP_LARGE_TLB];
	struct interp_fetch fetch[INTERP_FETCH_TLB];
	struct interp_tlb tlb[2][INTERP_TLB]; /* for reads, for writes */
};

/*
 * A guest can have more done than instructions. So many of those, which the
 * budget counts, take as long. `make bench-interpreter` shows whether this is
 * true.
 */
enum {
	INTERP_COST_DECODE = 6,   /* an instruction */
	INTERP_COST_COMPARE = 6,  /* a block with the code as it is */
	INTERP_COST_WALK = 8,     /* of page tables, for a translation */
	INTERP_COST_FORGET = 20,  /* code, or translations for writes */
	INTERP_COST_PAUSE = 10,   /* 40 ns and more on some processors */
	INTERP_COPIED_SINGLY = 2, /* elements, where one overlaps the next */
};

static inline void interp_charge(struct interp *in, uint64_t cost)
{
	in->charged += cost;
}

/* interp-flow.c: true when U is one that KVM may do many times in a step. */
bool interp_is_string(const struct uop *u);
/* ... when the code behind it may not be what runs after it. */
bool interp_is_last(const struct uop *u);
interp_fn interp_op_end;
interp_fn interp_op_unknown;

/* interp-table.c: what runs INSN, or NULL. */
interp_fn *interp_find(const struct insn *insn);

/* interp-fast.c: a handler for just the form that U has; or the same. */
interp_fn *interp_fast(struct uop *u, enum insn_map map);
/* One that does the conditional branch behind U, too. NULL: there is none. */
interp_fn *interp_fused(const struct uop *u);
bool interp_is_fused(const struct uop *u);

/* interp-code.c */

/* False: no memory. */
bool interp_code_init(struct interp *in);
void interp_code_done(struct interp *in);
/* The block at in->rip, as the code is now; NULL: there is no code. */
struct interp_block *interp_block_slow(struct interp *in);
/* The instruction at OFF in B, as a block of its own until the next call. */
struct interp_block *interp_block_alone(struct interp *in,
					const struct interp_block *b,
					unsigned off);

static inline struct interp_block *interp_block(struct interp *in)
{
	struct interp_block *b =
		in->bucket[(in->rip ^ in->rip >> 11) & (INTERP_BUCKETS - 1)];

	if (__builtin_expect(((b->rip ^ in->rip) |
			      (b->checked ^ in->code_generation)) == 0,
			     1))
		return b;
	return interp_block_slow(in);
}

/* interp-memory.c */

/* Where VA is for the guest. False: there is no access, and in->fault. */
bool interp_translate(struct interp *in, uint64_t va, enum interp_access access,
		      gpa_t *ret_gpa);
/* Has all code compared again before it runs. */
void interp_forget_code(struct interp *in);
/* Forgets translations, and that code was compared. */
void interp_flush(struct interp *in);
/* Forgets translations for writes to a page of RAM. */
void interp_flush_writes(struct interp *in, const uint8_t *host);
/* Has a write to two pages reach them, at the end of a careful one. */
void interp_write_across(struct interp *in);
/*
 * SIZE bytes at VA, which are RAM's, or NULL. Those on two pages are a copy,
 * for writing only if careful.
 */
void *interp_pointer_slow(struct interp *in, uint64_t va, unsigned size,
			  bool write);

static inline void *interp_pointer(struct interp *in, uint64_t va,
				   unsigned size, bool write)
{
	const struct interp_tlb *e =
		&in->tlb[write][va >> 12 & (INTERP_TLB - 1)];

	/* Where the last byte is on the next page, the tag is another one. */
	if (__builtin_expect(e->tag == (((va + size - 1) & ~UINT64_C(4095)) |
					in->generation),
			     1))
		return (void *)(va + e->delta);
	return interp_pointer_slow(in, va, size, write);
}

static inline bool interp_filter(const uint64_t *filter, const uint8_t *host)
{
	unsigned bit = (uintptr_t)host >> 12 & (INTERP_FILTER - 1);

	return filter[bit / 64] >> bit % 64 & 1;
}

static inline void interp_filter_add(uint64_t *filter, const uint8_t *host)
{
	unsigned bit = (uintptr_t)host >> 12 & (INTERP_FILTER - 1);

	filter[bit / 64] |= UINT64_C(1) << bit % 64;
}

#endif
