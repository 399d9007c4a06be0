/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interpreter's loop, and the two caches that make it fast: decoded
 * instructions, checked against the code's bytes at each use, and translated
 * pages, which live for one call.
 */
#include "vmm/pvm/interp.h"

#include "vmm/pvm/interp-ops.h"
#include "vmm/pvm/ptables.h"
#include "vmm/base/util.h"
#include "vmm/pvm/x86.h"

#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>

#define PAGE       UINT64_C(4096)
#define CODE_BYTES 16
#define NO_CODE    UINT8_MAX /* as a length: longer than any */

struct interp *interp_new(const struct mem *mem, struct ptables *ptables)
{
	struct interp *in = calloc(1, sizeof(*in));

	if (in) {
		in->mmu.mem = mem;
		in->ptables = ptables;
		in->generation = 1;
		/*
		 * All are zeroed, and this one would pass for the code at RIP
		 * 0.
		 */
		in->cache[0].len = NO_CODE;
		if (ptables)
			ptables_join(ptables, &in->writer);
	}
	return in;
}

void interp_free(struct interp *in)
{
	free(in);
}

/* The host's view of the page of code at VA, or NULL. */
static const uint8_t *code_page(struct interp *in, uint64_t va)
{
	uint64_t page = va & ~(PAGE - 1);
	void *host;

	if (in->code_page == page)
		return in->code;
	in->mmu.rflags = in->flags;
	if (mmu_pointer(&in->mmu, page, PAGE, MMU_FETCH, &host, &in->fault) < 0)
		return NULL;
	in->code_page = page;
	in->code = host;
	return in->code;
}

/*
 * The bytes at RIP, up to CODE_BYTES: fewer only where the next page cannot be
 * fetched from. 0: none.
 */
static unsigned fetch(struct interp *in, uint8_t bytes[CODE_BYTES])
{
	unsigned off = in->rip & (PAGE - 1);
	const uint8_t *code = code_page(in, in->rip);
	unsigned here = PAGE - off < CODE_BYTES ? PAGE - off : CODE_BYTES;

	if (!code)
		return 0;
	memcpy(bytes, code + off, here);
	if (here == CODE_BYTES)
		return here;
	code = code_page(in, in->rip + here);
	if (!code)
		return here;
	memcpy(bytes + here, code, CODE_BYTES - here);
	return CODE_BYTES;
}

/* REX.B where the opcode itself names the register, as bit 3. */
static uint8_t opcode_extension(const struct insn *insn)
{
	unsigned opcode_at = insn->len - insn->imm_bytes - 1u;
	unsigned rex_at = opcode_at - 1 - (insn->map == INSN_0F);

	return insn->rex ? (uint8_t)((insn->bytes[rex_at] & 1) << 3) : 0;
}

static bool decode(struct uop *u, uint64_t rip, const uint8_t *bytes,
		   unsigned n)
{
	struct insn insn;
	interp_fn *run;

	u->len = NO_CODE;
	if (insn_decode(&insn, bytes, n, INSN_64) < 0)
		return false;
	run = interp_find(&insn);
	if (!run)
		return false;
	*u = (struct uop){
		.rip = rip,
		.run = run,
		.imm = insn.imm,
		.disp = insn.disp,
		.len = insn.len,
		.opcode = insn.opcode,
		.prefix = insn.prefix,
		.operand = insn.operand,
		.mod = insn.mod,
		.reg = insn.reg,
		.rm = insn.has_modrm ? insn.rm : opcode_extension(&insn),
		.base = insn.base,
		.index = insn.index,
		.scale = insn.scale,
		.segment = (uint8_t)insn.segment,
		.address = insn.address,
		/* XCHG on memory is locked without saying so. */
		.lock = insn.lock || (insn.map == INSN_ONE_BYTE &&
				      (insn.opcode & 0xfe) == 0x86),
		.rex = insn.rex,
	};
	memcpy(u->bytes, bytes, u->len);
	return true;
}

/* True when the first LEN of the 16 bytes at A and B are the same. */
static bool same(const uint8_t *a, const uint8_t *b, unsigned len)
{
	uint64_t x, y;

	if (len >= 8) {
		memcpy(&x, a, 8);
		memcpy(&y, b, 8);
		if (x != y)
			return false;
		a += 8;
		b += 8;
		len -= 8;
	}
	memcpy(&x, a, 8);
	memcpy(&y, b, 8);
	return len == 0 || (x ^ y) << (64 - 8 * len) == 0;
}

static const struct uop *lookup(struct interp *in)
{
	unsigned off = in->rip & (PAGE - 1);
	struct uop *u =
		&in->cache[(in->rip ^ in->rip >> 11) & (INTERP_CACHE - 1)];
	uint8_t copy[CODE_BYTES] = {0};
	const uint8_t *bytes = copy;
	unsigned n = CODE_BYTES;

	if (in->code_page == (in->rip & ~(PAGE - 1)) &&
	    off <= PAGE - CODE_BYTES)
		bytes = in->code + off;
	else
		n = fetch(in, copy);
	if (u->rip == in->rip && u->len <= n && same(u->bytes, bytes, u->len))
		return u;
	if (n == 0)
		return NULL;
	/* Once copied: the guest may patch it while it is decoded. */
	if (bytes != copy)
		memcpy(copy, bytes, CODE_BYTES);
	return decode(u, in->rip, copy, n) ? u : NULL;
}

/* Registers by encoding (SDM 2A 2.2.1) and as KVM has them. */
static void load(struct interp *in, const struct kvm_regs *g)
{
	const uint64_t r[16] = {g->rax, g->rcx, g->rdx, g->rbx, g->rsp, g->rbp,
				g->rsi, g->rdi, g->r8,  g->r9,  g->r10, g->r11,
				g->r12, g->r13, g->r14, g->r15};

	memcpy(in->r, r, sizeof(r));
	in->rip = g->rip;
	in->flags = g->rflags;
}

static void store(const struct interp *in, struct kvm_regs *g)
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
		.rflags = in->flags,
	};
}

static unsigned epoch(const struct interp *in)
{
	return in->ptables ? atomic_load_explicit(&in->ptables->epoch,
						  memory_order_acquire)
			   : 0;
}

const struct interp_write *interp_held(const struct interp *in)
{
	return &in->held;
}

/*
 * Finds out what the instruction that KVM is left with will write to a page
 * table: runs it with no effect but on IN's copy of the registers.
 */
static void look_ahead(struct interp *in)
{
	const unsigned repeated = 1024 * 8; /* what KVM does in one step */
	const struct uop *u;

	in->held = (struct interp_write){.gpa = UINT64_MAX};
	in->writes = false;
	/* Or pages already known would be written to. */
	interp_flush(in);
	u = lookup(in);
	if (!u)
		return;
	in->next = in->rip + u->len;
	in->dry = true;
	if (u->run(in, u) == INTERP_STOP)
		in->held.known = false;
	in->dry = false;
	if (interp_is_string(u))
		in->held.bytes = repeated;
}

/* Up to BUDGET instructions. *RET_STOPPED: there is one to be left to KVM. */
static uint64_t run(struct interp *in, uint64_t budget, bool *ret_stopped)
{
	uint64_t done = 0;

	*ret_stopped = true;
	for (;;) {
		const struct uop *u;
		int r;

		if (done >= budget) {
			*ret_stopped = false;
			break;
		}
		u = lookup(in);
		/* Another vCPU's page has become a table: see again which. */
		if (in->epoch != epoch(in)) {
			in->epoch = epoch(in);
			interp_flush(in);
			ptables_seen(&in->writer, in->epoch);
			continue;
		}
		if (!u)
			break;
		in->next = in->rip + u->len;
		r = u->run(in, u);
		if (r != 0) {
			if (r == INTERP_STOP)
				break;
			budget -= min_u64(budget, (unsigned)r);
		}
		in->rip = in->next;
		done++;
	}
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
	store(in, regs);
	while (!stopped || in->held.gpa != UINT64_MAX) {
		look_ahead(in);
		load(in, regs);
		if (stopped || !in->writes || further-- == 0)
			break;
		interp_flush(in);
		done += run(in, 1, &stopped);
		store(in, regs);
	}
	ptables_end(&in->writer);
	return done;
}

uint64_t interp_run(struct interp *in, struct kvm_regs *regs,
		    const struct kvm_sregs *sregs, uint64_t budget)
{
	bool stopped;
	uint64_t done;

	load(in, regs);
	in->mmu.sregs = sregs;
	in->fs = sregs->fs.base;
	in->gs = sregs->gs.base;
	in->smap = sregs->cr4 & CR4_SMAP;
	interp_flush(in);
	if (in->ptables)
		return run_held(in, regs, budget);
	done = run(in, budget, &stopped);
	store(in, regs);
	return done;
}
