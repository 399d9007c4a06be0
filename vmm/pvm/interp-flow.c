/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moves, stack, branches and strings (SDM volume 2), for the interpreter. A
 * handler changes nothing before everything it needs is certain; strings come
 * to an end in parts, as the processor's do when they are interrupted.
 */
#include "vmm/pvm/interp-operands.h"

#include "vmm/base/util.h"

#include <stdatomic.h>
#include <string.h>

int interp_op_mov_store(struct interp *in, const struct uop *u)
{
	unsigned size = size_of(u);
	uint64_t value = u->opcode >= 0xc6 ? (uint64_t)u->imm
					   : get_reg(in, u, u->reg, size);
	void *p;

	if (u->mod == 3) {
		set_reg(in, u, u->rm, size, value);
		return interp_next(in, u);
	}
	p = interp_pointer(in, address(in, u), size, true);
	if (!p)
		return interp_stop(in, u);
	store(p, size, value);
	return interp_next(in, u);
}

/* 8c: a selector, of which a register gets all its bytes */
int interp_op_mov_segment(struct interp *in, const struct uop *u)
{
	const struct kvm_sregs *s = in->mmu.sregs;
	const uint16_t selector[] = {s->es.selector, s->cs.selector,
				     s->ss.selector, s->ds.selector,
				     s->fs.selector, s->gs.selector};
	void *p;

	if (u->reg >= ARRAY_LEN(selector))
		return interp_stop(in, u);
	if (u->mod == 3) {
		set_reg(in, u, u->rm, u->operand, selector[u->reg]);
		return interp_next(in, u);
	}
	p = interp_pointer(in, address(in, u), 2, true);
	if (!p)
		return interp_stop(in, u);
	store(p, 2, selector[u->reg]);
	return interp_next(in, u);
}

/* 0f 20: from CR0, CR2, CR3, CR4, which no instruction here changes */
int interp_op_mov_control(struct interp *in, const struct uop *u)
{
	const struct kvm_sregs *s = in->mmu.sregs;
	const uint64_t value[] = {s->cr0, 0, s->cr2, s->cr3, s->cr4};

	/* The prefixes do nothing but make it rare; CR8 is the APIC's. */
	if (u->reg >= ARRAY_LEN(value) || u->reg == 1 || u->prefix != 0)
		return interp_stop(in, u);
	in->r[u->rm] = value[u->reg];
	return interp_next(in, u);
}

int interp_op_mov_load(struct interp *in, const struct uop *u)
{
	unsigned size = size_of(u);
	struct place place;

	if (!get_place(in, u, size, false, &place))
		return interp_stop(in, u);
	set_reg(in, u, u->reg, size, place.value);
	return interp_next(in, u);
}

/* b0..b7, b8..bf: the register is in the opcode, extended by REX.B */
int interp_op_mov_imm(struct interp *in, const struct uop *u)
{
	set_reg(in, u, (u->opcode & 7) | (u->rm & 8),
		u->opcode < 0xb8 ? 1 : u->operand, (uint64_t)u->imm);
	return interp_next(in, u);
}

int interp_op_lea(struct interp *in, const struct uop *u)
{
	if (u->mod == 3)
		return interp_stop(in, u);
	set_reg(in, u, u->reg, u->operand, address(in, u));
	return interp_next(in, u);
}

/* 0f b6 b7 be bf, 63 */
int interp_op_movx(struct interp *in, const struct uop *u)
{
	unsigned size = u->opcode == 0x63 ? 4 : u->opcode & 1 ? 2 : 1;
	struct place place;

	if (!get_place(in, u, size, false, &place))
		return interp_stop(in, u);
	set_reg(in, u, u->reg, u->operand,
		u->opcode == 0xb6 || u->opcode == 0xb7
			? place.value
			: (uint64_t)extend(place.value, size));
	return interp_next(in, u);
}

/* 86 87: always locked */
int interp_op_xchg(struct interp *in, const struct uop *u)
{
	unsigned size = size_of(u);
	uint64_t value = get_reg(in, u, u->reg, size);
	struct place place;

	do {
		if (!get_place(in, u, size, true, &place))
			return interp_stop(in, u);
	} while (place.p && !exchange(place.p, size, place.value, value));
	if (!place.p)
		set_reg(in, u, u->rm, size, value);
	set_reg(in, u, u->reg, size, place.value);
	return interp_next(in, u);
}

/* 90..97: XCHG with RAX; 90 itself is NOP or PAUSE unless REX.B is there */
int interp_op_xchg_a(struct interp *in, const struct uop *u)
{
	unsigned n = (u->opcode & 7) | (u->rm & 8);
	uint64_t value = in->r[RAX];

	if (n == RAX) {
		if (u->prefix == 0xf3) {
			interp_charge(in, INTERP_COST_PAUSE);
			__builtin_ia32_pause();
		}
		return interp_next(in, u);
	}
	set_reg(in, u, RAX, u->operand, in->r[n]);
	set_reg(in, u, n, u->operand, value);
	return interp_next(in, u);
}

int interp_op_cmpxchg(struct interp *in, const struct uop *u)
{
	unsigned size = size_of(u);
	struct place place;

	for (;;) {
		uint64_t a = in->r[RAX] & mask_of(size);

		if (!get_place(in, u, size, true, &place))
			return interp_stop(in, u);
		if (place.value != a) {
			sub(in, a, place.value, 0, size);
			set_reg(in, u, RAX, size, place.value);
			return interp_next(in, u);
		}
		if (set_place(in, u, &place, get_reg(in, u, u->reg, size))) {
			sub(in, a, place.value, 0, size);
			return interp_next(in, u);
		}
	}
}

int interp_op_xadd(struct interp *in, const struct uop *u)
{
	unsigned size = size_of(u);
	uint64_t b = get_reg(in, u, u->reg, size), value;
	struct place place;

	do {
		if (!get_place(in, u, size, true, &place))
			return interp_stop(in, u);
		value = add(in, place.value, b, 0, size);
	} while (place.p && !set_place(in, u, &place, value));
	set_reg(in, u, u->reg, size, place.value);
	if (!place.p)
		set_reg(in, u, u->rm, size, value);
	return interp_next(in, u);
}

/* 98: CBW CWDE CDQE; 99: CWD CDQ CQO */
int interp_op_convert(struct interp *in, const struct uop *u)
{
	unsigned size = u->operand;

	if (u->opcode == 0x98)
		set_reg(in, u, RAX, size,
			(uint64_t)extend(in->r[RAX], size / 2));
	else
		set_reg(in, u, RDX, size,
			in->r[RAX] & sign_of(size) ? UINT64_MAX : 0);
	return interp_next(in, u);
}

int interp_op_push(struct interp *in, const struct uop *u)
{
	uint64_t value = (uint64_t)u->imm;
	struct place place;

	if (u->operand == 2)
		return interp_stop(in, u);
	if (u->opcode < 0x58) {
		value = in->r[(u->opcode & 7) | (u->rm & 8)];
	} else if (u->opcode == 0xff) {
		if (!get_place(in, u, 8, false, &place))
			return interp_stop(in, u);
		value = place.value;
	}
	return push(in, value) ? interp_next(in, u) : interp_stop(in, u);
}

int interp_op_pop(struct interp *in, const struct uop *u)
{
	void *p = interp_pointer(in, in->r[RSP], 8, false);

	if (u->operand == 2 || !p)
		return interp_stop(in, u);
	in->r[RSP] += 8;
	in->r[(u->opcode & 7) | (u->rm & 8)] = load(p, 8);
	return interp_next(in, u);
}

int interp_op_leave(struct interp *in, const struct uop *u)
{
	void *p = interp_pointer(in, in->r[RBP], 8, false);

	if (u->operand == 2 || !p)
		return interp_stop(in, u);
	in->r[RSP] = in->r[RBP] + 8;
	in->r[RBP] = load(p, 8);
	return interp_next(in, u);
}

/*
 * STI holds interrupts off for one more instruction. Here they come between
 * calls only; MWAIT and SYSEXIT after it are KVM's, and so is the STI then.
 */
static bool may_set_if(struct interp *in, const struct uop *u)
{
	const uint8_t *next = interp_pointer(in, next_rip(in, u), 1, false);

	return next && *next != 0x0f;
}

int interp_op_flag(struct interp *in, const struct uop *u)
{
	switch (u->opcode) {
	case 0xfa:
		in->flags &= ~(uint64_t)IF;
		break;
	case 0xfb:
		if (!may_set_if(in, u))
			return interp_stop(in, u);
		in->flags |= IF;
		break;
	case 0xfc:
		in->flags &= ~(uint64_t)DF;
		break;
	case 0xf8:
		in->low &= (uint8_t)~CF;
		break;
	case 0xf9:
		in->low |= CF;
		break;
	default:
		return interp_stop(in, u);
	}
	return interp_next(in, u);
}

int interp_op_pushf(struct interp *in, const struct uop *u)
{
	const uint64_t hidden = 0x30000; /* RF and VM read as 0 */

	if (u->operand == 2)
		return interp_stop(in, u);
	return push(in, get_flags(in) & ~hidden) ? interp_next(in, u)
						 : interp_stop(in, u);
}

int interp_op_popf(struct interp *in, const struct uop *u)
{
	void *p = interp_pointer(in, in->r[RSP], 8, false);
	uint64_t value;

	if (u->operand == 2 || !p)
		return interp_stop(in, u);
	value = load(p, 8);
	if (((value ^ in->flags) & ~(uint64_t)POPF_BITS & 0x3fffff) ||
	    (in->smap && (value ^ in->flags) & AC))
		return interp_stop(in, u);
	in->r[RSP] += 8;
	put_flags(in, (in->flags & ~(uint64_t)POPF_BITS) | (value & POPF_BITS));
	return interp_next(in, u);
}

int interp_op_jcc(struct interp *in, const struct uop *u)
{
	if (condition(in, u->opcode))
		return interp_go(in, u, (uint64_t)u->disp);
	return interp_next(in, u);
}

int interp_op_jmp(struct interp *in, const struct uop *u)
{
	return interp_go(in, u, (uint64_t)u->disp);
}

int interp_op_call(struct interp *in, const struct uop *u)
{
	if (!push(in, next_rip(in, u)))
		return interp_stop(in, u);
	return interp_go(in, u, (uint64_t)u->disp);
}

/* ff /2 /4 */
int interp_op_indirect(struct interp *in, const struct uop *u)
{
	struct place place;

	if (!get_place(in, u, 8, false, &place))
		return interp_stop(in, u);
	if ((u->reg & 7) == 2 && !push(in, next_rip(in, u)))
		return interp_stop(in, u);
	return interp_go(in, u, place.value);
}

int interp_op_ret(struct interp *in, const struct uop *u)
{
	void *p = interp_pointer(in, in->r[RSP], 8, false);
	uint64_t rip;

	if (!p)
		return interp_stop(in, u);
	rip = load(p, 8);
	in->r[RSP] += 8 + (u->opcode == 0xc2 ? (uint16_t)u->imm : 0);
	return interp_go(in, u, rip);
}

/*
 * cf: back to where the kernel is, as its way to serialize has it: same
 * segments and interrupt flag. To user mode, or after an interrupt, is KVM's.
 */
int interp_op_iret(struct interp *in, const struct uop *u)
{
	const uint64_t mine = STATUS | DF | AC, nt = 0x4000;
	const struct kvm_sregs *s = in->mmu.sregs;
	const void *p = interp_pointer(in, in->r[RSP], 5 * 8, false);
	uint64_t frame[5], change; /* RIP, CS, RFLAGS, RSP, SS */

	if (u->operand != 8 || !p)
		return interp_stop(in, u);
	for (unsigned i = 0; i < 5; i++)
		frame[i] = load((const uint64_t *)p + i, 8);
	change = frame[2] ^ get_flags(in);
	if (frame[1] != s->cs.selector || frame[4] != s->ss.selector ||
	    change & ~mine & 0x3fffff || in->flags & nt ||
	    (in->smap && change & AC) || !mmu_canonical(s, frame[0]))
		return interp_stop(in, u);
	put_flags(in, get_flags(in) ^ (change & mine));
	in->r[RSP] = frame[3];
	/* It is what kernels run before code that they have changed. */
	interp_forget_code(in);
	return interp_go(in, u, frame[0]);
}

int interp_op_setcc(struct interp *in, const struct uop *u)
{
	uint64_t value = condition(in, u->opcode);
	void *p;

	if (u->mod == 3) {
		set_reg(in, u, u->rm, 1, value);
		return interp_next(in, u);
	}
	p = interp_pointer(in, address(in, u), 1, true);
	if (!p)
		return interp_stop(in, u);
	store(p, 1, value);
	return interp_next(in, u);
}

/* The load happens, and a 32-bit register is extended, in any case. */
int interp_op_cmovcc(struct interp *in, const struct uop *u)
{
	struct place place;

	if (!get_place(in, u, u->operand, false, &place))
		return interp_stop(in, u);
	set_reg(in, u, u->reg, u->operand,
		condition(in, u->opcode) ? place.value
					 : get_reg(in, u, u->reg, u->operand));
	return interp_next(in, u);
}

/* How many elements of SIZE fit before VA's page ends, at most COUNT. */
static uint64_t in_page(uint64_t va, unsigned size, uint64_t count)
{
	return min_u64((4096 - (va & 4095)) / size, count);
}

static void fill(uint8_t *p, unsigned size, uint64_t n, uint64_t value)
{
	if (size == 1 || value == 0) {
		memset(p, (int)(value & 0xff), n * size);
		return;
	}
	for (; n > 0; n--, p += size)
		store(p, size, value);
}

/* Stores in RCX how far it came (SDM REP), and counts how long that took. */
static int repeated(struct interp *in, const struct uop *u, uint64_t done)
{
	const unsigned elements_at_a_time = 16; /* as long as others take */

	if (u->prefix != 0xf3 && u->prefix != 0xf2)
		return interp_next(in, u);
	in->r[RCX] -= done;
	interp_charge(in, done / elements_at_a_time);
	return interp_go(in, u,
			 in->r[RCX] > 0 ? this_rip(in, u) : next_rip(in, u));
}

/* How many elements to do at most. */
static uint64_t repetitions(const struct interp *in, const struct uop *u)
{
	return u->prefix == 0xf3 || u->prefix == 0xf2 ? in->r[RCX] : 1;
}

/* aa ab */
int interp_op_stos(struct interp *in, const struct uop *u)
{
	unsigned size = size_of(u);
	uint64_t n = repetitions(in, u);
	void *p;

	if ((in->flags & DF) || u->address != 8)
		return interp_stop(in, u);
	if (n == 0)
		return interp_next(in, u);
	/* One that lies on two pages goes alone. */
	n = in_page(in->r[RDI], size, n);
	if (n == 0)
		n = 1;
	p = interp_pointer(in, in->r[RDI], size, true);
	if (!p || in->dry)
		return interp_stop(in, u);
	fill(p, size, n, in->r[RAX] & mask_of(size));
	in->r[RDI] += n * size;
	return repeated(in, u, n);
}

static void copy(struct interp *in, uint8_t *to, const uint8_t *from,
		 unsigned size, uint64_t n)
{
	uint64_t bytes = n * size;

	/* Overlapping forwards repeats a pattern, as byte by byte it would. */
	if (to + bytes <= from || from + bytes <= to) {
		memcpy(to, from, bytes);
		return;
	}
	interp_charge(in, n / INTERP_COPIED_SINGLY);
	for (; n > 0; n--, to += size, from += size)
		store(to, size, load(from, size));
}

/* a4 a5 */
int interp_op_movs(struct interp *in, const struct uop *u)
{
	unsigned size = size_of(u);
	uint64_t n = repetitions(in, u);
	const void *from;
	uint64_t value;
	void *to;

	if ((in->flags & DF) || u->address != 8 || u->segment != INTERP_ZERO)
		return interp_stop(in, u);
	if (n == 0)
		return interp_next(in, u);
	n = in_page(in->r[RSI], size, in_page(in->r[RDI], size, n));
	from = interp_pointer(in, in->r[RSI], size, false);
	if (!from)
		return interp_stop(in, u);
	/* One that lies on two pages goes alone, and may be read no more after.
	 */
	value = load(from, size);
	to = interp_pointer(in, in->r[RDI], size, true);
	if (!to || in->dry)
		return interp_stop(in, u);
	if (n > 0) {
		copy(in, to, from, size, n);
	} else {
		store(to, size, value);
		n = 1;
	}
	in->r[RSI] += n * size;
	in->r[RDI] += n * size;
	return repeated(in, u, n);
}

bool interp_is_string(const struct uop *u)
{
	return u->run == interp_op_stos || u->run == interp_op_movs;
}

/* A loop's end is mostly followed by its beginning. */
static bool jumps_back(const struct uop *u)
{
	return u->run == interp_op_jcc && u->imm < 0;
}

bool interp_is_last(const struct uop *u)
{
	return interp_is_string(u) || jumps_back(u) ||
	       u->run == interp_op_jmp || u->run == interp_op_call ||
	       u->run == interp_op_indirect || u->run == interp_op_ret ||
	       u->run == interp_op_iret || u->run == interp_op_group7;
}

int interp_op_end(struct interp *in, const struct uop *u)
{
	in->at = u;
	in->rip = this_rip(in, u);
	return INTERP_END;
}

int interp_op_unknown(struct interp *in, const struct uop *u)
{
	return interp_stop(in, u);
}

int interp_op_nop(struct interp *in, const struct uop *u)
{
	(void)in;
	(void)u;
	return interp_next(in, u);
}

/* 0f ae: fences, CLFLUSH, bases; vector state and TPAUSE are left to KVM */
int interp_op_fence(struct interp *in, const struct uop *u)
{
	unsigned op = u->reg & 7;

	/* RDFSBASE, RDGSBASE */
	if (u->prefix == 0xf3 && u->mod == 3 && op < 2 && u->operand != 2 &&
	    in->mmu.sregs->cr4 & CR4_FSGSBASE) {
		set_reg(in, u, u->rm, u->operand,
			in->r[op == 0 ? INTERP_FS : INTERP_GS]);
		return interp_next(in, u);
	}
	if (u->prefix == 0xf3 || u->prefix == 0xf2)
		return interp_stop(in, u);
	if (u->mod == 3 && op >= 5 && u->prefix == 0) {
		atomic_thread_fence(memory_order_seq_cst);
		return interp_next(in, u);
	}
	/* Faults as a load does; RAM is never out of a guest's caches. */
	return u->mod != 3 && op == 7 &&
			       interp_pointer(in, address(in, u), 1, false)
		       ? interp_next(in, u)
		       : interp_stop(in, u);
}

/*
 * 0f 01 /7: INVLPG. Only this interpreter has translations of kernel addresses:
 * KVM's shadows are of user mode's.
 */
static int invlpg(struct interp *in, const struct uop *u)
{
	if (address(in, u) >> 63 == 0)
		return interp_stop(in, u);
	interp_flush(in);
	return interp_go(in, u, next_rip(in, u));
}

/* 0f 01: INVLPG; ca, cb: CLAC, STAC */
int interp_op_group7(struct interp *in, const struct uop *u)
{
	if (u->mod != 3 && (u->reg & 7) == 7 && u->address == 8 && !u->prefix)
		return invlpg(in, u);
	if (u->mod != 3 || (u->reg & 7) != 1 ||
	    ((u->rm & 7) != 2 && (u->rm & 7) != 3) || u->prefix)
		return interp_stop(in, u);
	in->flags =
		(u->rm & 7) == 2 ? in->flags & ~(uint64_t)AC : in->flags | AC;
	/* These instructions change which pages may be accessed. */
	if (in->smap)
		interp_flush(in);
	return interp_go(in, u, next_rip(in, u));
}
