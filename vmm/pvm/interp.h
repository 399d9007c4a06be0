/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs 64-bit kernel code of a guest in user space. A KVM host that interprets
 * guest kernels does about a million instructions a second: it fetches, decodes
 * and walks page tables anew for each. This interpreter remembers decoded
 * instructions and translations, and does fifty times as many. It knows what
 * kernels execute all the time - integer arithmetic, branches, strings, locked
 * operations - and leaves everything else to KVM, one instruction at a time.
 *
 * Needs registers and guest RAM, no KVM.
 */
#ifndef VMM_PVM_INTERP_H
#define VMM_PVM_INTERP_H

#include <stdbool.h>
#include <stdint.h>

struct interp;
struct kvm_regs;
struct kvm_sregs;
struct mem;
struct ptables;

/*
 * One per vCPU, used on its thread only, made before any of them runs. MEM and
 * SHADOW are borrowed; writes to what SHADOW holds are left to KVM (NULL: none
 * are). NULL: no memory.
 */
struct interp *interp_new(const struct mem *mem, struct ptables *ptables);
void interp_free(struct interp *in);

/*
 * Runs from REGS on, in ring 0 and 64-bit mode with paging as SREGS say, until
 * an instruction is not known here, faults, or touches what is not RAM, or
 * BUDGET instructions are done. REGS are then those before that instruction;
 * nothing of it has happened. The number of instructions done; of a repeated
 * one each part done in one go counts. BUDGET bounds the time, too: whatever
 * takes longer than most instructions - decoding, page walks, long parts of
 * repeated ones - uses up more of it. One is done on any BUDGET but 0. At its
 * end some more may be done: up to one that writes nothing.
 *
 * Translations are forgotten at each call: whatever KVM or another vCPU did
 * meanwhile is seen.
 */
uint64_t interp_run(struct interp *in, struct kvm_regs *regs,
		    const struct kvm_sregs *sregs, uint64_t budget);

/* How much of its budget the last interp_run() used up; it may be more. */
uint64_t interp_spent(const struct interp *in);

/* The reasons why interp_run() ends, the last one apart. */
enum interp_cause {
	INTERP_BUDGET,  /* it was used up */
	INTERP_UNKNOWN, /* an instruction, or a form of one */
	INTERP_ACCESS,  /* a fault, or no RAM */
	INTERP_TABLE,   /* a write to what SHADOW holds */
	INTERP_EVENT,   /* it could not be called */
	INTERP_CAUSES,
};
enum interp_cause interp_cause(const struct interp *in);

/* A write to what SHADOW holds. */
struct interp_write {
	uint64_t gpa;   /* UINT64_MAX: there is none */
	uint64_t bytes; /* at most, in KVM's next step */
	bool known;     /* what the 8 bytes around GPA will be: */
	uint64_t value;
};

/*
 * Tells what the instruction before which the last interp_run() stopped is
 * about to write, for whichever reason it stopped.
 */
const struct interp_write *interp_held(const struct interp *in);

#endif
