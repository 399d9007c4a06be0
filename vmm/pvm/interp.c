/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interpreter's loop: from block to block of decoded code (interp-code.c),
 * with translations (interp-memory.c) that live for one call.
 */
#include "vmm/pvm/interp.h"

#include "vmm/pvm/interp-operands.h"
#include "vmm/pvm/ptables.h"
#include "vmm/base/util.h"
#include "vmm/pvm/x86.h"

#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>

struct interp *interp_new(const struct mem *mem, struct ptables *ptables)
{
	struct interp *in = calloc(1, sizeof(*in));

	if (!in || !interp_code_init(in)) {
		interp_free(in);
		return NULL;
	}
	in->mmu.mem = mem;
	in->ptables = ptables;
	in->held.gpa = UINT64_MAX;
	in->generation = 1;
	if (ptables)
		ptables_join(ptables, &in->writer);
	return in;
}

void interp_free(struct interp *in)
{
	if (in)
		interp_code_done(in);
	free(in);
}

/* Registers by encoding (SDM 2A 2.2.1) and as KVM has them. */
static void load_regs(struct interp *in, const struct kvm_regs *g)
{
	const uint64_t r[16] = {g->rax, g->rcx, g->rdx, g->rbx, g->rsp, g->rbp,
				g->rsi, g->rdi, g->r8,  g->r9,  g->r10, g->r11,
				g->r12, g->r13, g->r14, g->r15};

	memcpy(in->r, r, sizeof(r));
	in->rip = g->rip;
	put_flags(in, g->rflags);
}

static void store_regs(const struct interp *in, struct kvm_regs *g)
{
	const uint64_t *r = in->r;

	*g = (struct kvm_regs){
		.rax = r[0],
		.rcx = r[1],
		.rdx = r[2],
		.rbx = r[3],
		.rsp = r[4],
		.rbp = r[5],
		.rsi = r[6],
		.rdi = r[7],
		.r8 = r[8],
		.r9 = r[9],
		.r10 = r[10],
		.r11 = r[11],
		.r12 = r[12],
		.r13 = r[13],
		.r14 = r[14],
		.r15 = r[15],
		.rip = in->rip,
		.rflags = get_flags(in),
	};
}

static unsigned epoch(const struct interp *in)
{
	return in->ptables ? atomic_load_explicit(&in->ptables->epoch,
						  memory_order_acquire)
			   : 0;
}

enum interp_cause interp_cause(const struct interp *in)
{
	return in->cause;
}

uint64_t interp_spent(const struct interp *in)
{
	return in->spent;
}

const struct interp_write *interp_held(const struct interp *in)
{
	return &in->held;
}

static int enter(struct interp *in, const struct interp_block *b)
{
	in->block = b;
	return b->uop->run(in, b->uop);
}

/*
 * Finds out what the instruction that KVM is left with will write to a page
 * table: runs it with no effect but on IN's copy of the registers.
 */
static void look_ahead(struct interp *in)
{
	const unsigned repeated = 1024 * 8; /* what KVM does in one step */
	struct interp_block *b;

	in->held = (struct interp_write){.gpa = UINT64_MAX};
	in->writes = false;
	/* Or pages already known would be written to. */
	interp_flush(in);
	b = interp_block(in);
	if (!b || b->n == 0)
		return;
	b = interp_block_alone(in, b, 0);
	in->dry = true;
	if (enter(in, b) == INTERP_STOP)
		in->held.known = false;
	in->dry = false;
	if (interp_is_string(b->uop))
		in->held.bytes = repeated;
}

/*
 * The instruction at in->at writes to code, or to two pages. All code is
 * compared again after it. True when it was done.
 */
static bool write_carefully(struct interp *in, const struct interp_block *b)
{
	int r;

	b = interp_block_alone(in, b, in->at->off);
	interp_charge(in, INTERP_COST_FORGET);
	in->careful_write = false;
	in->parts = (struct interp_parts){0};
	in->careful = true;
	r = enter(in, b);
	in->careful = false;
	if (r == INTERP_END)
		interp_write_across(in);
	interp_forget_code(in);
	return r == INTERP_END;
}

/*
 * Runs as much of B as the budget has left for, which is less than all. B is
 * put back as it was: it is this vCPU's alone.
 */
static int enter_part(struct interp *in, struct interp_block **b)
{
	uint64_t n = in->left;
	struct uop *last;
	interp_fn *run;
	int r;

	/* Two that are done by one handler. */
	if (interp_is_fused(&(*b)->uop[n - 1]))
		n--;
	if (n == 0) {
		*b = interp_block_alone(in, *b, 0);
		return enter(in, *b);
	}
	last = &(*b)->uop[n];
	run = last->run;
	last->run = interp_op_end;
	r = enter(in, *b);
	last->run = run;
	return r;
}

static enum interp_cause cause_of_stop(const struct interp *in)
{
	if (in->held.gpa != UINT64_MAX)
		return INTERP_TABLE;
	return in->no_access ? INTERP_ACCESS : INTERP_UNKNOWN;
}

/* N instructions were done, and what came with them. */
static void spend(struct interp *in, uint64_t n)
{
	n += in->charged;
	in->charged = 0;
	in->spent += n;
	in->left -= min_u64(in->left, n);
}

static uint64_t run_blocks(struct interp *in, uint64_t budget,
			   bool *ret_stopped)
{
	uint64_t done = 0;

	*ret_stopped = true;
	in->no_access = false;
	in->left = budget;
	in->charged = 0;
	while (in->left > 0) {
		struct interp_block *b;
		uint64_t n;
		int r;

		/* Another vCPU's page has become a table: see again which. */
		if (in->epoch != epoch(in)) {
			in->epoch = epoch(in);
			interp_flush(in);
			ptables_seen(&in->writer, in->epoch);
			continue;
		}
		b = interp_block(in);
		if (!b) {
			in->cause = INTERP_ACCESS;
			return done;
		}
		r = b->n > in->left ? enter_part(in, &b) : enter(in, b);
		n = (uint64_t)(in->at - b->uop);
		done += n;
		spend(in, n);
		if (r == INTERP_END)
			continue;
		in->rip = b->rip + in->at->off;
		if (!in->careful_write || !write_carefully(in, b)) {
			in->cause = cause_of_stop(in);
			return done;
		}
		done++;
		spend(in, 1);
	}
	*ret_stopped = false;
	in->cause = INTERP_BUDGET;
	return done;
}

/* Up to BUDGET instructions. *RET_STOPPED: there is one to be left to KVM. */
static uint64_t run(struct interp *in, uint64_t budget, bool *ret_stopped)
{
	uint64_t done = run_blocks(in, budget, ret_stopped);

	if (done > 0)
		in->flags &= ~FLAG_RF;
	return done;
}

/*
 * run(), and what follows from its end for page tables. When it is the budget
 * that ends it, KVM gets an instruction that writes nothing: between this look
 * at it and KVM's step, what it writes to could become a table.
 */
static uint64_t run_held(struct interp *in, struct kvm_regs *regs,
			 uint64_t budget)
{
	unsigned further = budget > 0 ? 64 : 0;
	bool stopped;
	uint64_t done;

	in->held = (struct interp_write){.gpa = UINT64_MAX};
	in->epoch = ptables_begin(in->ptables, &in->writer);
	done = run(in, budget, &stopped);
	store_regs(in, regs);
	while (!stopped || in->held.gpa != UINT64_MAX) {
		look_ahead(in);
		load_regs(in, regs);
		if (stopped || !in->writes || further-- == 0)
			break;
		interp_flush(in);
		done += run(in, 1, &stopped);
		store_regs(in, regs);
	}
	ptables_end(&in->writer);
	return done;
}

uint64_t interp_run(struct interp *in, struct kvm_regs *regs,
		    const struct kvm_sregs *sregs, uint64_t budget)
{
	bool stopped;
	uint64_t done;

	load_regs(in, regs);
	in->mmu.sregs = sregs;
	in->r[INTERP_FS] = sregs->fs.base;
	in->r[INTERP_GS] = sregs->gs.base;
	in->smap = sregs->cr4 & CR4_SMAP;
	in->spent = 0;
	interp_flush(in);
	if (in->ptables)
		return run_held(in, regs, budget);
	done = run(in, budget, &stopped);
	store_regs(in, regs);
	return done;
}
