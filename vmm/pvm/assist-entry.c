/* SPDX-License-Identifier: Apache-2.0 */
/* See SDM 3A 6.12 (gates), 6.13 (error codes), 6.14 (64-bit mode). */
#include "vmm/pvm/assist-entry.h"

#include "vmm/pvm/assist-exec.h"
#include "vmm/pvm/assist-syscall.h"

#include <stddef.h>

#define EXCEPTIONS 32
#define GATE_BYTES 16

/* Exceptions that push an error code: #DF, #TS to #PF, #AC, #CP, #VC, #SX. */
#define WITH_CODE UINT32_C(0x60227d00)

/* Error code of what a gate raises: the gate's place in the IDT. */
#define CODE_IDT 2u

/* The frame of an interrupt without an error code, in the order of memory. */
struct frame {
	uint64_t rip, cs, rflags, rsp, ss;
};

struct gate {
	uint64_t target;
	unsigned selector, type, dpl, stack;
	bool present;
};

static void decode_gate(uint64_t low, uint64_t high, struct gate *ret)
{
	*ret = (struct gate){
		.target = (low & 0xffff) | low >> 48 << 16 | high << 32,
		.selector = low >> 16 & 0xffff,
		.type = low >> 40 & 15,
		.dpl = low >> 45 & 3,
		.stack = low >> 32 & 7,
		.present = low >> 47 & 1,
	};
}

/* False where the table has no gate N, or its memory cannot be read. */
static bool read_gate(const struct mmu *mmu, unsigned n, struct gate *ret)
{
	const struct kvm_dtable *idt = &mmu->sregs->idt;
	uint64_t half[2];
	struct fault fault;

	if ((n + 1) * GATE_BYTES - 1 > idt->limit ||
	    mmu_read(mmu, idt->base + n * GATE_BYTES, half, sizeof(half),
		     MMU_READ, &fault) < 0)
		return false;
	decode_gate(half[0], half[1], ret);
	return true;
}

/* The exception whose handler begins at RIP, or EXCEPTIONS. */
static unsigned exception_at(const struct mmu *mmu, uint64_t rip)
{
	unsigned n = 0;

	for (; n < EXCEPTIONS; n++) {
		struct gate gate;

		if (!read_gate(mmu, n, &gate))
			return EXCEPTIONS;
		if (gate.present && gate.target == rip)
			break;
	}
	return n;
}

/* Starts the handler of gate N in place of the handler of #UD. */
static bool go_to(const struct gate *gate, const struct gate *from)
{
	enum { INTERRUPT_GATE = 14, TRAP_GATE = 15 };

	return gate->present &&
	       (gate->type == INTERRUPT_GATE || gate->type == TRAP_GATE) &&
	       gate->stack == from->stack && gate->selector == from->selector;
}

/* #GP or #NP instead of #UD, with the code that names gate N. */
static bool raise_instead(const struct mmu *mmu, struct kvm_regs *regs,
			  const struct gate *ud, unsigned vector, unsigned n)
{
	const uint64_t code = n << 3 | CODE_IDT;
	struct gate gate;
	struct fault fault;

	if (!read_gate(mmu, vector, &gate) || !go_to(&gate, ud) ||
	    mmu_write(mmu, regs->rsp - 8, &code, sizeof(code), MMU_WRITE,
		      &fault) < 0)
		return false;
	regs->rsp -= 8;
	regs->rip = gate.target;
	return true;
}

/* The #UD whose FRAME lies at RSP: was it INT n of 64-bit code? */
static bool interrupt(const struct mmu *mmu, struct kvm_regs *regs,
		      const struct frame *frame)
{
	enum { TRAP_GATE = 15 };
	const uint64_t after = frame->rip + 2;
	struct gate ud, gate;
	struct fault fault;
	uint8_t code[2];

	if (mmu_read(mmu, frame->rip, code, sizeof(code), MMU_FETCH | MMU_USER,
		     &fault) < 0 ||
	    code[0] != 0xcd || !read_gate(mmu, EXC_UD, &ud))
		return false;
	if (!read_gate(mmu, code[1], &gate) || gate.dpl < 3)
		return raise_instead(mmu, regs, &ud, EXC_GP, code[1]);
	if (!gate.present)
		return raise_instead(mmu, regs, &ud, EXC_NP, code[1]);
	if (!go_to(&gate, &ud) ||
	    mmu_write(mmu, regs->rsp, &after, sizeof(after), MMU_WRITE,
		      &fault) < 0)
		return false;
	regs->rip = gate.target;
	if (gate.type == TRAP_GATE)
		regs->rflags |= frame->rflags & FLAG_IF;
	return true;
}

/* Puts right a SYSCALL that reached our pages and raised an exception there. */
static bool to_lstar(struct kvm_regs *regs, const struct frame *frame,
		     uint64_t lstar)
{
	regs->rsp = frame->rsp;
	regs->rip = lstar;
	regs->rflags = frame->rflags & ~FLAG_RF;
	return true;
}

static bool from_user(const struct frame *frame)
{
	/* Selectors have 16 bits: a forged RIP in their place seldom fits. */
	return frame->cs <= UINT16_MAX && (frame->cs & 3) == 3;
}

/*
 * RFLAGS of the frame at FRAME, with an error code before it or without, told
 * apart by what RFLAGS never have and the selectors of 64-bit code do. Only to
 * spare nearly every entry the search for its vector.
 */
static uint64_t likely_flags(const struct frame *frame)
{
	const uint64_t always_zero = 0x28;

	return frame->rflags & always_zero ? frame->rsp : frame->rflags;
}

bool entry_mend(const struct mmu *mmu, struct kvm_regs *regs, uint64_t lstar)
{
	struct frame frame;
	uint64_t at = regs->rsp, set;
	struct gate ud;
	struct fault fault;
	unsigned vector;

	/*
	 * The stub is under way: INT 4 is the switch of privilege, and stays.
	 */
	if (regs->rip == SYSCALL_STUB_VA ||
	    mmu_read(mmu, at, &frame, sizeof(frame), MMU_READ, &fault) < 0)
		return false;
	if (read_gate(mmu, EXC_UD, &ud) && ud.present &&
	    ud.target == regs->rip && from_user(&frame) &&
	    interrupt(mmu, regs, &frame))
		return true;
	if (likely_flags(&frame) & FLAG_IF)
		return false;
	vector = exception_at(mmu, regs->rip);
	if (vector == EXCEPTIONS || vector == EXC_NMI || vector == EXC_MC)
		return false;
	if (WITH_CODE >> vector & 1)
		at += 8;
	if (at != regs->rsp &&
	    mmu_read(mmu, at, &frame, sizeof(frame), MMU_READ, &fault) < 0)
		return false;
	if (!from_user(&frame) || (frame.rflags & FLAG_IF))
		return false;
	if (lstar &&
	    (frame.rip == SYSCALL_FAST_VA || frame.rip == SYSCALL_SLOW_VA))
		return to_lstar(regs, &frame, lstar);
	set = frame.rflags | FLAG_IF;
	(void)mmu_write(mmu, at + offsetof(struct frame, rflags), &set,
			sizeof(set), MMU_WRITE, &fault);
	return false;
}
