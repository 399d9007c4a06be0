/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The side of the assists that talks to KVM: fetches what a vCPU's exit is
 * about, has it carried out (assist-table.c, assist-syscall.c), puts the result
 * back. Registers travel in struct kvm_run (KVM_CAP_SYNC_REGS), so that most
 * assists take no system call but KVM_RUN.
 */
#include "vmm/pvm/assist.h"

#include "vmm/pvm/assist-entry.h"
#include "vmm/pvm/assist-exec.h"
#include "vmm/pvm/assist-left.h"
#include "vmm/pvm/assist-quick.h"
#include "vmm/pvm/assist-syscall.h"
#include "vmm/pvm/interp.h"
#include "vmm/base/log.h"
#include "vmm/base/mem.h"
#include "vmm/pvm/ptables.h"
#include "vmm/base/util.h"
#include "vmm/cpu/vcpu.h"
#include "vmm/pvm/x86.h"

#include <errno.h>
#include <linux/kvm.h>
#include <asm/kvm_para.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define SYNC_ALL (KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS)

struct assist_cpu {
	struct syscall_cpu syscall;
	struct quick quick;
	uint8_t *area;         /* the vector state; owned */
	uint64_t *count;       /* per line of the table; owned */
	struct interp *interp; /* owned */
	bool stepping;         /* KVM comes back after one instruction */
	bool completing; /* KVM has an access to finish before anything else */
	bool halted;     /* and nothing that KVM did since is known */
	bool in_user;    /* KVM was last left in user mode, or before it */
	uint64_t to_user_rip; /* of the step there, just asked of KVM, or 0 */
	uint64_t
		features_rip; /* of a CPUID that hide_features() is for, or 0 */
	/* The write that KVM makes to a page table; gpa UINT64_MAX: none. */
	struct interp_write held;
	uint64_t held_old;
	uint64_t interpreted, steps, mended;
	struct left left;
};

struct assist {
	const struct mem *mem;
	unsigned ncpus;
	struct exec_layout layout;
	struct ptables ptables; /* page tables of user mode */
	pthread_mutex_t lock;   /* of stub */
	struct syscall_stub stub;
	struct assist_cpu cpu[];
};

struct assist *assist_new(const struct mem *mem, unsigned ncpus)
{
	struct assist *assist =
		calloc(1, sizeof(*assist) + ncpus * sizeof(assist->cpu[0]));

	if (assist == NULL)
		return NULL;
	pthread_mutex_init(&assist->lock, NULL);
	assist->mem = mem;
	assist->ncpus = ncpus;
	exec_layout_init(&assist->layout);
	if (ptables_init(&assist->ptables, mem) < 0) {
		assist_free(assist);
		return NULL;
	}
	for (unsigned i = 0; i < ncpus; i++) {
		struct assist_cpu *cpu = &assist->cpu[i];

		cpu->area = aligned_alloc(64, assist->layout.bytes);
		cpu->count = calloc(exec_count(), sizeof(cpu->count[0]));
		cpu->interp = interp_new(mem, &assist->ptables);
		cpu->held.gpa = UINT64_MAX;
		if (cpu->area == NULL || cpu->count == NULL ||
		    cpu->interp == NULL) {
			assist_free(assist);
			return NULL;
		}
	}
	return assist;
}

void assist_free(struct assist *assist)
{
	if (assist == NULL)
		return;
	for (unsigned i = 0; i < assist->ncpus; i++) {
		free(assist->cpu[i].area);
		free(assist->cpu[i].count);
		interp_free(assist->cpu[i].interp);
	}
	ptables_done(&assist->ptables);
	pthread_mutex_destroy(&assist->lock);
	free(assist);
}

/* ---- a vCPU's state ------------------------------------------------------ */

/*
 * Registers, special registers and events into the run structure, where KVM
 * leaves them by itself after the first time.
 */
static int load_state(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	if ((run->kvm_valid_regs & SYNC_ALL) == SYNC_ALL)
		return 0;
	if (ioctl(vcpu->fd, KVM_GET_REGS, &run->s.regs.regs) < 0 ||
	    ioctl(vcpu->fd, KVM_GET_SREGS, &run->s.regs.sregs) < 0 ||
	    ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &run->s.regs.events) < 0)
		return log_ret(-errno, "vCPU %u: registers: %s", vcpu->id,
			       strerror(errno));
	run->kvm_valid_regs = SYNC_ALL;
	return 0;
}

/* KVM_GET_MSRS or KVM_SET_MSRS of one: how many were done, or -errno. */
static int msr_call(const struct vcpu *vcpu, unsigned long call,
		    struct kvm_msr_entry *entry)
{
	_Alignas(struct kvm_msrs)
		uint8_t bytes[sizeof(struct kvm_msrs) + sizeof(*entry)] = {0};
	struct kvm_msrs *msrs = (struct kvm_msrs *)bytes;
	int r;

	msrs->nmsrs = 1;
	msrs->entries[0] = *entry;
	r = ioctl(vcpu->fd, call, msrs);
	if (r < 0)
		return log_ret(-errno, "vCPU %u: MSR 0x%x: %s", vcpu->id,
			       entry->index, strerror(errno));
	*entry = msrs->entries[0];
	return r;
}

static int get_msr(void *arg, uint32_t index, uint64_t *ret_value)
{
	const struct vcpu *vcpu = arg;
	struct kvm_msr_entry entry = {.index = index};
	int r = msr_call(vcpu, KVM_GET_MSRS, &entry);

	if (r == 0)
		return log_ret(-EIO, "vCPU %u: KVM does not tell MSR 0x%x",
			       vcpu->id, index);
	*ret_value = entry.data;
	return r < 0 ? r : 0;
}

/* 1: done; 0: KVM does not take this value; -errno (logged). */
static int set_msr(const struct vcpu *vcpu, uint32_t index, uint64_t value)
{
	struct kvm_msr_entry entry = {.index = index, .data = value};

	return msr_call(vcpu, KVM_SET_MSRS, &entry);
}

static int get_xcr0(void *arg, uint64_t *ret_xcr0)
{
	const struct vcpu *vcpu = arg;
	struct kvm_xcrs xcrs;

	if (ioctl(vcpu->fd, KVM_GET_XCRS, &xcrs) < 0 || xcrs.nr_xcrs == 0)
		return log_ret(-EIO, "vCPU %u: KVM_GET_XCRS fails", vcpu->id);
	*ret_xcr0 = xcrs.xcrs[0].value;
	return 0;
}

static int get_fpu(void *arg, uint8_t *area)
{
	const struct vcpu *vcpu = arg;
	/* The larger state of AMX needs the newer call. */
	unsigned long call =
		vcpu->assist->layout.bytes > sizeof(struct kvm_xsave)
			? KVM_GET_XSAVE2
			: KVM_GET_XSAVE;

	if (ioctl(vcpu->fd, call, area) < 0)
		return log_ret(-errno, "vCPU %u: KVM_GET_XSAVE: %s", vcpu->id,
			       strerror(errno));
	return 0;
}

static int set_fpu(void *arg, const uint8_t *area)
{
	const struct vcpu *vcpu = arg;

	if (ioctl(vcpu->fd, KVM_SET_XSAVE, area) < 0)
		return log_ret(-errno, "vCPU %u: KVM_SET_XSAVE: %s", vcpu->id,
			       strerror(errno));
	return 0;
}

/* Has KVM forget what it knows of the guest's page tables. */
static int flush_tlb(struct vcpu *vcpu)
{
	enum { CR4_TSD = 4 };
	struct kvm_sregs sregs = vcpu->run->s.regs.sregs;

	/* A change of CR4 does it, whatever the bit. */
	sregs.cr4 ^= CR4_TSD;
	if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) < 0 ||
	    ioctl(vcpu->fd, KVM_SET_SREGS, &vcpu->run->s.regs.sregs) < 0)
		return log_ret(-errno, "vCPU %u: KVM_SET_SREGS: %s", vcpu->id,
			       strerror(errno));
	return 0;
}

static int set_dr6_single_step(struct vcpu *vcpu)
{
	struct kvm_debugregs regs;

	if (ioctl(vcpu->fd, KVM_GET_DEBUGREGS, &regs) < 0)
		return log_ret(-errno, "vCPU %u: KVM_GET_DEBUGREGS: %s",
			       vcpu->id, strerror(errno));
	regs.dr6 |= 1u << 14; /* BS */
	if (ioctl(vcpu->fd, KVM_SET_DEBUGREGS, &regs) < 0)
		return log_ret(-errno, "vCPU %u: KVM_SET_DEBUGREGS: %s",
			       vcpu->id, strerror(errno));
	return 0;
}

/*
 * Has KVM take over what was changed of the events. NMIs that became pending
 * since they were read stay: these are not ours to change.
 */
static void changed_events(struct kvm_run *run)
{
	run->s.regs.events.flags &=
		~(KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SMM);
	run->kvm_dirty_regs |= KVM_SYNC_X86_EVENTS;
}

static int queue_fault(struct vcpu *vcpu, const struct fault *fault)
{
	struct kvm_run *run = vcpu->run;
	struct kvm_vcpu_events *events = &run->s.regs.events;

	events->exception.injected = 1;
	events->exception.pending = 0;
	events->exception.nr = fault->vector;
	events->exception.has_error_code = fault->has_error_code;
	events->exception.error_code = fault->error_code;
	changed_events(run);
	if (fault->vector == EXC_PF) {
		run->s.regs.sregs.cr2 = fault->cr2;
		run->kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
	}
	return fault->vector == EXC_DB ? set_dr6_single_step(vcpu) : 0;
}

/* ---- one instruction ----------------------------------------------------- */

static enum insn_mode mode_of(const struct kvm_sregs *sregs)
{
	if (sregs->cs.l)
		return INSN_64;
	return sregs->cs.db ? INSN_32 : INSN_16;
}

/* Decodes what KVM fetched, or what lies at RIP when that was not enough. */
static int decode(struct exec *x, const struct kvm_run *run)
{
	enum insn_mode mode = mode_of(x->sregs);
	unsigned access = MMU_FETCH | (exec_cpl(x) == 3 ? MMU_USER : 0);
	uint64_t rip = x->regs->rip;
	uint8_t bytes[INSN_MAX_BYTES];
	size_t n = 0;

	if (run->emulation_failure.ndata >= 3 &&
	    (run->emulation_failure.flags &
	     KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)) {
		n = min_u64(run->emulation_failure.insn_size, sizeof(bytes));
		memcpy(bytes, run->emulation_failure.insn_bytes, n);
		if (insn_decode(&x->insn, bytes, n, mode) == 0)
			return 0;
	}
	if (mode != INSN_64)
		rip = (rip + x->sregs->cs.base) & UINT32_MAX;
	for (n = 0; n < sizeof(bytes); n++) {
		if (mmu_read(&x->mmu, rip + n, &bytes[n], 1, access,
			     &x->fault) < 0)
			break;
	}
	if (n == 0)
		return -ENXIO;
	return insn_decode(&x->insn, bytes, n, mode);
}

/* Logs the one line about an instruction that cannot be finished. */
static int refuse(const struct vcpu *vcpu, const struct exec *x,
		  const struct exec_op *op, int r)
{
	static const char *const bits[] = {"16-bit", "32-bit", "64-bit"};
	const struct insn *insn = &x->insn;
	char hex[3 * INSN_MAX_BYTES + 1] = "";
	const char *why = "this program does not know it either";

	for (unsigned i = 0; i < insn->len; i++)
		snprintf(hex + 3 * i, 4, "%02x ", insn->bytes[i]);
	if (r == -ENXIO)
		why = "it works on something that is not memory";
	return log_ret(
		-EOPNOTSUPP,
		"vCPU %u: this host's KVM has no hardware virtualization and "
		"cannot run the guest's %s (%sat RIP 0x%llx, %s, ring %u); %s: "
		"run this guest on a host with VT-x or AMD-V, or tell its "
		"kernel to do without, for example with clearcpuid=",
		vcpu->id, op ? op->name : "unknown instruction",
		insn->len ? hex : "", (unsigned long long)x->regs->rip,
		bits[insn->mode], exec_cpl(x), why);
}

static const struct exec_host host_of_kvm = {
	.get_xcr0 = get_xcr0,
	.get_fpu = get_fpu,
	.set_fpu = set_fpu,
	.get_msr = get_msr,
};

/* Marks what an instruction that came to its end has changed. */
static int finish(struct vcpu *vcpu, const struct exec *x)
{
	struct kvm_run *run = vcpu->run;

	run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
	if (x->sregs_changed)
		run->kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
	/* The shadow of STI or MOV SS ends with the next instruction. */
	if (run->s.regs.events.interrupt.shadow) {
		run->s.regs.events.interrupt.shadow = 0;
		changed_events(run);
	}
	return x->flush_tlb ? flush_tlb(vcpu) : 0;
}

/*
 * A guest program must not end the VM by what it executes: it gets the fault
 * that fits best, where the guest's kernel would get the error.
 */
static int give_up(struct vcpu *vcpu, struct exec *x, const struct exec_op *op,
		   int r)
{
	const unsigned fetch_by_user = 0x14; /* I/D and U/S of a #PF */

	if (exec_cpl(x) != 3)
		return refuse(vcpu, x, op, r);
	if (op == NULL && r == -ENXIO) {
		fault_set_code(&x->fault, EXC_PF, fetch_by_user);
		x->fault.cr2 = x->regs->rip;
	} else {
		exec_ud(x);
	}
	return queue_fault(vcpu, &x->fault);
}

static int instruction(struct assist *assist, struct vcpu *vcpu)
{
	struct assist_cpu *cpu = &assist->cpu[vcpu->id];
	struct kvm_sync_regs *s = &vcpu->run->s.regs;
	struct exec x = {
		.regs = &s->regs,
		.sregs = &s->sregs,
		.mmu = {assist->mem, &s->sregs, s->regs.rflags},
		.host = &host_of_kvm,
		.host_arg = vcpu,
		.layout = &assist->layout,
		.area = cpu->area,
	};
	const struct exec_op *op = NULL;
	int r = decode(&x, vcpu->run);

	if (r == 0)
		op = exec_find(&x.insn);
	if (op == NULL)
		return give_up(vcpu, &x, NULL, r);
	cpu->count[exec_index(op)]++;
	r = exec_run(&x, op);
	if (r == -ENOSYS || r == -ENXIO)
		return give_up(vcpu, &x, op, r);
	if (r >= 0 && finish(vcpu, &x) < 0)
		return -EIO;
	if (r == EXEC_TRAP || r == -EFAULT)
		return queue_fault(vcpu, &x.fault);
	return r;
}

/* ---- SYSCALL ------------------------------------------------------------- */

/* A CPU's first system call: the next ones need not come here. */
static int go_fast(struct assist *assist, struct vcpu *vcpu)
{
	struct assist_cpu *cpu = &assist->cpu[vcpu->id];
	struct mmu mmu = {assist->mem, &vcpu->run->s.regs.sregs, FLAG_AC};
	bool fast;
	int r;

	pthread_mutex_lock(&assist->lock);
	fast = syscall_go_fast(&assist->stub, &cpu->syscall, &mmu);
	pthread_mutex_unlock(&assist->lock);
	if (!fast)
		return 0;
	r = set_msr(vcpu, MSR_LSTAR, SYSCALL_FAST_VA);
	return r < 0 ? r : 0;
}

static int system_call(struct assist *assist, struct vcpu *vcpu)
{
	struct assist_cpu *cpu = &assist->cpu[vcpu->id];
	struct kvm_sync_regs *s = &vcpu->run->s.regs;
	struct fault fault;
	uint64_t star = 0, fmask = 0;
	int r = get_msr(vcpu, MSR_STAR, &star);

	if (r == 0)
		r = get_msr(vcpu, MSR_FMASK, &fmask);
	if (r < 0)
		return r;
	if (!syscall_enter(&cpu->syscall, &s->regs, &s->sregs, star, fmask,
			   &fault))
		return queue_fault(vcpu, &fault);
	vcpu->run->kvm_dirty_regs |= KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
	return cpu->syscall.slow_entries == 1 ? go_fast(assist, vcpu) : 0;
}

/* ---- kernel code --------------------------------------------------------- */

/* Half a millisecond or two: how long an interrupt may have to wait. */
#define BUDGET UINT64_C(100000)
/* run_quick() uses up so much of it, with the call of interp_run() after it. */
#define QUICK_COST 100u

static int set_stepping(struct vcpu *vcpu, struct assist_cpu *cpu, bool on)
{
	struct kvm_guest_debug debug = {
		.control =
			on ? KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP : 0};

	if (cpu->stepping == on)
		return 0;
	if (ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &debug) < 0)
		return log_ret(-errno, "vCPU %u: KVM_SET_GUEST_DEBUG: %s",
			       vcpu->id, strerror(errno));
	cpu->stepping = on;
	return 0;
}

/* True when KVM has an event to deliver, which comes before any code. */
static bool event_due(const struct kvm_vcpu_events *e)
{
	return e->exception.injected || e->exception.pending ||
	       e->interrupt.injected || e->nmi.injected || e->nmi.pending;
}

/* 64-bit ring 0, the only code that is looked at here. */
static bool in_kernel(const struct kvm_sync_regs *s)
{
	const uint64_t cr0_pg = UINT64_C(1) << 31;

	return s->sregs.cs.l && (s->sregs.cr0 & cr0_pg) &&
	       (s->sregs.ss.dpl & 3) == 0;
}

/* Not in an NMI's handler: KVM has to see the IRET that ends it. */
static bool interpretable(const struct kvm_sync_regs *s)
{
	return !(s->regs.rflags & FLAG_TF) && !event_due(&s->events) &&
	       !s->events.nmi.masked;
}

/* The instruction that KVM is left with. */
enum last { LAST_OTHER, LAST_HALT, LAST_TO_USER, LAST_FEATURES };

/*
 * KVM does not stop after IRET and SYSRET, but goes on in user mode until the
 * guest is back in its kernel.
 */
static enum last last_of(const struct assist *assist,
			 const struct kvm_sync_regs *s,
			 uint8_t code[LEFT_BYTES])
{
	const struct mmu mmu = {assist->mem, &s->sregs, s->regs.rflags};
	struct fault fault;
	unsigned operand = 4, at = 0;
	uint16_t cs = 0;

	for (unsigned i = 0; i < LEFT_BYTES; i++) {
		if (mmu_read(&mmu, s->regs.rip + i, &code[i], 1, MMU_FETCH,
			     &fault) < 0)
			break;
	}
	if (code[0] == 0xf4)
		return LAST_HALT;
	if (code[0] == 0x0f && code[1] == 0xa2 &&
	    (uint32_t)s->regs.rax == KVM_CPUID_FEATURES)
		return LAST_FEATURES;
	if (code[at] == 0x66) {
		operand = 2;
		at++;
	}
	if ((code[at] & 0xf0) == 0x40) { /* REX */
		if (code[at] & 8)
			operand = 8;
		at++;
	}
	if (code[at] == 0x0f) /* SYSRET, SYSEXIT */
		return code[at + 1] == 0x07 || code[at + 1] == 0x35
			       ? LAST_TO_USER
			       : LAST_OTHER;
	/* IRET and far RET: CS comes after RIP. */
	if ((code[at] == 0xcf || (code[at] & 0xfe) == 0xca) &&
	    mmu_read(&mmu, s->regs.rsp + operand, &cs, sizeof(cs), MMU_READ,
		     &fault) == 0 &&
	    (cs & 3) == 3)
		return LAST_TO_USER;
	return LAST_OTHER;
}

/*
 * Halts the vCPU from here: KVM, asked for HLT as a single step, comes back
 * with the halt still to be done, and does it in some later instruction. Its
 * wait ends when an interrupt is due, which it looks for first.
 */
static int halt(struct vcpu *vcpu)
{
	struct kvm_mp_state state = {.mp_state = KVM_MP_STATE_HALTED};
	struct kvm_run *run = vcpu->run;

	run->s.regs.regs.rip++;
	run->s.regs.events.interrupt.shadow = 0;
	run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
	changed_events(run);
	if (ioctl(vcpu->fd, KVM_SET_MP_STATE, &state) < 0)
		return log_ret(-errno, "vCPU %u: KVM_SET_MP_STATE: %s",
			       vcpu->id, strerror(errno));
	return 0;
}

/* KVM_RUN was interrupted: 1 when the halt goes on, 0, or -errno (logged). */
static int still_halted(const struct vcpu *vcpu)
{
	struct kvm_mp_state state;

	if (ioctl(vcpu->fd, KVM_GET_MP_STATE, &state) < 0)
		return log_ret(-errno, "vCPU %u: KVM_GET_MP_STATE: %s",
			       vcpu->id, strerror(errno));
	return state.mp_state == KVM_MP_STATE_HALTED;
}

static void enter_user(struct assist *assist, const struct kvm_sregs *sregs)
{
	const uint64_t cr4_la57 = UINT64_C(1) << 12;
	const uint64_t efer_lma = UINT64_C(1) << 10;

	if (sregs->efer & efer_lma)
		ptables_enter(&assist->ptables, sregs->cr3,
			      sregs->cr4 & cr4_la57 ? 5 : 4);
}

/* Takes note that KVM has made the write that it was left with, or has not. */
static void end_held(struct assist *assist, struct assist_cpu *cpu)
{
	if (cpu->held.gpa != UINT64_MAX)
		ptables_written(&assist->ptables, cpu->held.gpa,
				cpu->held.bytes, cpu->held_old);
	cpu->held.gpa = UINT64_MAX;
}

static void begin_held(struct assist *assist, struct assist_cpu *cpu)
{
	struct interp_write *held = &cpu->held;

	*held = *interp_held(cpu->interp);
	if (held->gpa == UINT64_MAX)
		return;
	held->bytes += held->gpa & 7;
	held->gpa &= ~UINT64_C(7);
	cpu->held_old = ptables_entry(&assist->ptables, held->gpa);
	if (held->known)
		ptables_writing(&assist->ptables, held->gpa, held->value);
}

/*
 * KVM's paravirtual features that a guest uses by hypercalls are not for a
 * guest that is interpreted: KVM's emulator rewrites each hypercall instruction
 * to the host's own in place, which ends in a page fault on text that is
 * read-only and in the same again where it is not; and a TLB flush left to KVM
 * would not be noticed here. On other hosts they stay, so this is not in
 * cpuid.c: when it fills its table the host's kind is not known yet.
 */
static void hide_features(struct assist_cpu *cpu, struct kvm_run *run)
{
	const uint64_t by_hypercall = 1u << KVM_FEATURE_PV_UNHALT |
				      1u << KVM_FEATURE_PV_TLB_FLUSH |
				      1u << KVM_FEATURE_PV_SEND_IPI |
				      1u << KVM_FEATURE_PV_SCHED_YIELD;
	struct kvm_regs *regs = &run->s.regs.regs;

	/* Not if an interrupt came first: then CPUID is still to be done. */
	if (regs->rip == cpu->features_rip + 2) {
		regs->rax &= ~by_hypercall;
		run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
	}
	cpu->features_rip = 0;
}

/* One of quick_run()'s instructions: 1, 0: it is none, -errno. */
static int run_quick(struct assist *assist, struct vcpu *vcpu)
{
	struct kvm_sync_regs *s = &vcpu->run->s.regs;
	const struct mmu mmu = {assist->mem, &s->sregs, s->regs.rflags};
	uint8_t code[QUICK_BYTES];
	struct fault fault;

	return mmu_read(&mmu, s->regs.rip, code, sizeof(code), MMU_FETCH,
			&fault) < 0
		       ? 0
		       : quick_run(&assist->cpu[vcpu->id].quick, &host_of_kvm,
				   vcpu, &s->regs, &s->sregs, code);
}

/* Tells KVM the bases that differ from those before. 0 or -errno. */
static int settle_bases(struct vcpu *vcpu, struct quick *q, uint64_t fs,
			uint64_t gs)
{
	const struct kvm_sregs *sregs = &vcpu->run->s.regs.sregs;
	int r = 1;

	if (sregs->fs.base != fs || sregs->gs.base != gs)
		vcpu->run->kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
	if (q->changed)
		r = set_msr(vcpu, MSR_KERNEL_GS_BASE, q->kernel_gs);
	q->known = q->changed = false;
	if (r == 0)
		return log_ret(-EIO, "vCPU %u: KVM does not take a base",
			       vcpu->id);
	return r < 0 ? r : 0;
}

/*
 * As much as BUDGET allows. The last look is always the interpreter's: it
 * knows what KVM may be left with. How many were done, or -errno.
 */
static int64_t run_budget(struct assist *assist, struct vcpu *vcpu)
{
	struct assist_cpu *cpu = &assist->cpu[vcpu->id];
	struct kvm_sync_regs *s = &vcpu->run->s.regs;
	const uint64_t fs = s->sregs.fs.base, gs = s->sregs.gs.base;
	uint64_t done = 0, spent = 0;
	int r;

	do {
		done += interp_run(cpu->interp, &s->regs, &s->sregs,
				   BUDGET - spent);
		spent += interp_spent(cpu->interp) + QUICK_COST;
		r = spent < BUDGET ? run_quick(assist, vcpu) : 0;
		done += r == 1;
	} while (r == 1);
	if (r == 0)
		r = settle_bases(vcpu, &cpu->quick, fs, gs);
	return r < 0 ? r : (int64_t)done;
}

/* KVM has stopped at the kernel's first instruction after user mode. */
static void mend_entry(const struct assist *assist, struct assist_cpu *cpu,
		       struct kvm_run *run)
{
	struct kvm_sync_regs *s = &run->s.regs;
	const struct mmu mmu = {assist->mem, &s->sregs, s->regs.rflags};

	if (entry_mend(&mmu, &s->regs, cpu->syscall.lstar)) {
		run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
		cpu->mended++;
	}
}

/*
 * Runs kernel code here as far as possible, then tells KVM how to go on. 0 or
 * -errno.
 */
static int run_kernel(struct assist *assist, struct vcpu *vcpu)
{
	struct assist_cpu *cpu = &assist->cpu[vcpu->id];
	struct kvm_run *run = vcpu->run;
	struct kvm_sync_regs *s = &run->s.regs;
	bool may_run = interpretable(s);
	uint8_t code[LEFT_BYTES] = {0};
	int64_t done = 0;
	enum last last;

	if (may_run)
		done = run_budget(assist, vcpu);
	else
		(void)interp_run(cpu->interp, &s->regs, &s->sregs, 0);
	if (done < 0)
		return (int)done;
	if (done > 0) {
		run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
		if (s->events.interrupt.shadow) {
			s->events.interrupt.shadow = 0;
			changed_events(run);
		}
	}
	cpu->interpreted += (uint64_t)done;
	cpu->steps++;
	last = last_of(assist, s, code);
	left_count(&cpu->left,
		   may_run ? interp_cause(cpu->interp) : INTERP_EVENT, code);
	switch (last) {
	case LAST_HALT:
		cpu->halted = may_run;
		return may_run ? halt(vcpu) : 0;
	case LAST_TO_USER:
		cpu->in_user = true;
		cpu->to_user_rip = s->regs.rip;
		enter_user(assist, &s->sregs);
		break;
	case LAST_FEATURES:
		cpu->features_rip = s->regs.rip;
		break;
	case LAST_OTHER:
		break;
	}
	begin_held(assist, cpu);
	return 0;
}

int assist_settle(struct assist *assist, struct vcpu *vcpu)
{
	struct assist_cpu *cpu = &assist->cpu[vcpu->id];
	int r = load_state(vcpu);

	cpu->completing = false;
	if (r < 0)
		return r;
	end_held(assist, cpu);
	if (cpu->features_rip)
		hide_features(cpu, vcpu->run);
	/* Interrupted before it did the step to user mode. */
	if (cpu->to_user_rip && cpu->to_user_rip == vcpu->run->s.regs.regs.rip)
		cpu->in_user = false;
	cpu->to_user_rip = 0;
	return 0;
}

int assist_before_run(struct assist *assist, struct vcpu *vcpu)
{
	struct assist_cpu *cpu = &assist->cpu[vcpu->id];
	struct kvm_sync_regs *s = &vcpu->run->s.regs;
	bool completing = cpu->completing;
	int r = assist_settle(assist, vcpu);

	if (r < 0)
		return r;
	if (cpu->halted) {
		r = still_halted(vcpu);
		if (r != 0)
			return r < 0 ? r : 0;
		cpu->halted = false;
	}
	if (completing)
		return 0;
	if ((s->sregs.ss.dpl & 3) == 3) {
		cpu->in_user = true;
		enter_user(assist, &s->sregs);
		return 0;
	}
	r = set_stepping(vcpu, cpu, true);
	if (r < 0 || !in_kernel(s))
		return r;
	if (cpu->in_user)
		mend_entry(assist, cpu, vcpu->run);
	cpu->in_user = false;
	return run_kernel(assist, vcpu);
}

void assist_after_exit(struct assist *assist, struct vcpu *vcpu)
{
	uint32_t reason = vcpu->run->exit_reason;

	assist->cpu[vcpu->id].halted = false;
	assist->cpu[vcpu->id].completing =
		reason == KVM_EXIT_IO || reason == KVM_EXIT_MMIO ||
		reason == KVM_EXIT_X86_RDMSR || reason == KVM_EXIT_X86_WRMSR;
}

int assist_emulation_failure(struct assist *assist, struct vcpu *vcpu)
{
	int r = load_state(vcpu);

	if (r < 0)
		return r;
	if (vcpu->run->s.regs.regs.rip == SYSCALL_SLOW_VA)
		return system_call(assist, vcpu);
	return instruction(assist, vcpu);
}

int assist_rdmsr(struct assist *assist, struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint64_t value = 0;
	int r = 0;

	if (assist && run->msr.index == MSR_LSTAR)
		value = assist->cpu[vcpu->id].syscall.lstar;
	else
		r = get_msr(vcpu, run->msr.index, &value);
	run->msr.data = value;
	run->msr.error = 0;
	return r;
}

/*
 * A 32-bit SYSCALL is interpreted, wrongly: in ring 0 it goes to CSTAR's lower
 * half, an address that the user program chooses what to put at. With EFER.SCE
 * clear it raises #UD; 64-bit SYSCALL and SYSRET work regardless here.
 */
static void close_compat_syscall(struct vcpu *vcpu)
{
	enum { EFER_SCE = 1 };

	vcpu->run->s.regs.sregs.efer &= ~(uint64_t)EFER_SCE;
	vcpu->run->kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
}

/* The value that the CPU's LSTAR gets instead. -EINVAL: #GP for the guest. */
static int trap_lstar(struct assist *assist, struct vcpu *vcpu, uint64_t *value)
{
	struct assist_cpu *cpu = &assist->cpu[vcpu->id];
	struct mmu mmu = {assist->mem, &vcpu->run->s.regs.sregs, 0};
	int r = load_state(vcpu);

	if (r < 0)
		return r;
	pthread_mutex_lock(&assist->lock);
	r = syscall_set_lstar(&assist->stub, &cpu->syscall, &mmu, *value);
	pthread_mutex_unlock(&assist->lock);
	if (r == 0) {
		close_compat_syscall(vcpu);
		cpu->syscall.slow_entries = 0;
		*value = SYSCALL_SLOW_VA;
	}
	return r;
}

int assist_wrmsr(struct assist *assist, struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint64_t value = run->msr.data;
	int r = 0;

	if (assist && run->msr.index == MSR_LSTAR)
		r = trap_lstar(assist, vcpu, &value);
	if (r == 0)
		r = set_msr(vcpu, run->msr.index, value);
	else if (r == -EINVAL)
		r = 0;
	run->msr.error = r == 0; /* 0 of 1 set */
	return r < 0 ? r : 0;
}

/* ---- words --------------------------------------------------------------- */

/*
 * nopti is needed: with page-table isolation user mode does not see the pages
 * that assist-syscall.c plants. ia32_emulation=off (Linux 6.7) has 32-bit
 * programs refused when they are started: see assist.h.
 *
 * Features go by number (word * 32 + bit, as in Linux's cpufeatures.h), as each
 * name costs a search of some hundred strings. Without SMAP, POPCNT, CX16,
 * INVPCID, ERMS and FSRM the kernel executes less that exits or is slow.
 * Without SSSE3, PCLMULQDQ, AES, SSE4.2, SHA_NI and AVX2 it does not choose
 * vector code for hashes and ciphers, which the table does not cover.
 *
 * XSAVE must not be among them, nor AVX or AVX512F: guest programs see those in
 * CPUID whatever the kernel thinks, and would lose their vector registers at
 * context switches. Nor SMEP.
 */
#define CLEARED "308,151,141,298,297,580,137,129,153,148,317,293"

const char *assist_command_line(bool pti, bool ia32)
{
	static const char *const lines[2][2] = {
		{" clearcpuid=" CLEARED,
		 " ia32_emulation=off clearcpuid=" CLEARED},
		{" nopti clearcpuid=" CLEARED,
		 " nopti ia32_emulation=off clearcpuid=" CLEARED},
	};

	return lines[pti][ia32];
}

/* The value of the last WORD (with its '='), or NULL. */
static const char *last_value(const char *append, const char *word)
{
	const char *found = NULL;

	for (const char *p = strstr(append, word); p; p = strstr(p + 1, word)) {
		if (p == append || p[-1] == ' ')
			found = p + strlen(word);
	}
	return found;
}

int assist_merge(const char *append, char **ret_append)
{
	const size_t linux_max = 127; /* cpu_parse_early_param() */
	const char *value = append ? last_value(append, "clearcpuid=") : NULL;

	*ret_append = NULL;
	if (value == NULL)
		return 0;
	if (strlen(CLEARED ",") + strcspn(value, " ") > linux_max)
		return log_ret(
			-E2BIG,
			"--append: 'clearcpuid=' is too long: this host, "
			"which has no hardware virtualization, needs %zu "
			"of the %zu characters that Linux reads of it",
			strlen(CLEARED ","), linux_max);
	if (asprintf(ret_append, "%.*s" CLEARED ",%s", (int)(value - append),
		     append, value) < 0) {
		*ret_append = NULL;
		return log_ret(-ENOMEM, "out of memory");
	}
	return 0;
}

const char *assist_conflict(const char *append)
{
	/*
	 * Page-table isolation hides the pages of system calls; without XSAVE
	 * in the kernel programs lose the vector registers they find in CPUID.
	 */
	static const char *const words[] = {"pti=on", "pti=auto", "noxsave"};

	for (size_t i = 0; append && i < ARRAY_LEN(words); i++) {
		size_t len = strlen(words[i]);

		for (const char *p = strstr(append, words[i]); p;
		     p = strstr(p + 1, words[i])) {
			if ((p == append || p[-1] == ' ') &&
			    (p[len] == ' ' || p[len] == '\0'))
				return words[i];
		}
	}
	return NULL;
}

void assist_log(const struct assist *assist)
{
	if (!log_enabled(LOG_DEBUG))
		return;
	for (unsigned i = 0; i < exec_count(); i++) {
		uint64_t sum = 0;

		for (unsigned cpu = 0; cpu < assist->ncpus; cpu++)
			sum += assist->cpu[cpu].count[i];
		if (sum > 0)
			log_debug("assists: %s %llu", exec_name(i),
				  (unsigned long long)sum);
	}
	for (unsigned cpu = 0; cpu < assist->ncpus; cpu++)
		log_debug("assists: vCPU %u: %llu instructions interpreted "
			  "here, %llu left to KVM, %llu entries mended",
			  cpu, (unsigned long long)assist->cpu[cpu].interpreted,
			  (unsigned long long)assist->cpu[cpu].steps,
			  (unsigned long long)assist->cpu[cpu].mended);
	for (unsigned cpu = 0; cpu < assist->ncpus; cpu++)
		left_log(&assist->cpu[cpu].left, cpu);
	for (unsigned cpu = 0; cpu < assist->ncpus; cpu++)
		log_debug("assists: vCPU %u: system calls that exited %llu, "
			  "the others %s",
			  cpu,
			  (unsigned long long)assist->cpu[cpu]
				  .syscall.slow_entries,
			  assist->cpu[cpu].syscall.fast ? "do not exit"
							: "do too");
}
