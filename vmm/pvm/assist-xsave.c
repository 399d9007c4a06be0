/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XSAVE and its relatives (SDM 1 13.7 to 13.12): a kernel runs them at each
 * context switch. KVM hands out the vector state in the standard form; the
 * guest may want the compacted one. Component sizes are the host's, which is
 * what the guest's CPUID shows on the hosts that need this.
 */
#include "vmm/pvm/assist-exec.h"

#include "vmm/base/util.h"
#include "vmm/pvm/x86.h"

#include <cpuid.h>
#include <errno.h>
#include <string.h>

#define COMPACTED  (UINT64_C(1) << 63) /* in XCOMP_BV */
#define X87        UINT64_C(1)
#define SSE        UINT64_C(2)
#define AVX        UINT64_C(4)
#define MXCSR_INIT 0x1f80u

#define AT_MXCSR      24
#define AT_MXCSR_MASK 28

#define LEGACY_BYTES 512
#define HEADER_BYTES 64
#define FIRST_OFFSET (LEGACY_BYTES + HEADER_BYTES)

struct header {
	uint64_t xstate_bv, xcomp_bv, reserved[6];
};

/* One instruction under way. */
struct xs {
	struct exec *x;
	uint64_t va; /* of the guest's area */
	uint64_t xcr0;
	uint64_t rfbm;        /* the requested-feature bitmap */
	struct header header; /* the guest's */
};

static uint32_t get32(const uint8_t *from)
{
	uint32_t value;

	memcpy(&value, from, sizeof(value));
	return value;
}

static uint64_t get64(const uint8_t *from)
{
	uint64_t value;

	memcpy(&value, from, sizeof(value));
	return value;
}

void exec_layout_from(struct exec_layout *layout,
		      const struct exec_xsave_leaf leaf[EXEC_COMPONENTS],
		      uint32_t mxcsr_mask)
{
	memset(layout, 0, sizeof(*layout));
	layout->mxcsr_mask = mxcsr_mask;
	layout->bytes = sizeof(struct kvm_xsave); /* 4096, KVM's least */
	if (leaf[0].ecx > layout->bytes)
		layout->bytes = align_up(leaf[0].ecx, 64);
	for (unsigned i = 2; i < EXEC_COMPONENTS; i++) {
		if (leaf[i].eax == 0 || leaf[i].ebx < FIRST_OFFSET ||
		    !range_fits(leaf[i].ebx, leaf[i].eax, layout->bytes))
			continue;
		layout->component[i].bytes = leaf[i].eax;
		layout->component[i].offset = leaf[i].ebx;
		layout->component[i].aligned = leaf[i].ecx & 2;
	}
}

/* SDM 1 11.6.6: 0 stands for a mask without DAZ. */
static uint32_t host_mxcsr_mask(void)
{
	uint8_t area[LEGACY_BYTES] __attribute__((aligned(16))) = {0};
	uint32_t mask;

	__asm__ volatile("fxsave64 %0" : "+m"(area));
	mask = get32(area + AT_MXCSR_MASK);
	return mask != 0 ? mask : 0xffbf;
}

void exec_layout_init(struct exec_layout *layout)
{
	struct exec_xsave_leaf leaf[EXEC_COMPONENTS] = {0};

	if (__get_cpuid_max(0, NULL) >= 13) {
		for (unsigned i = 0; i < EXEC_COMPONENTS; i++)
			__cpuid_count(13, i, leaf[i].eax, leaf[i].ebx,
				      leaf[i].ecx, leaf[i].edx);
	}
	exec_layout_from(layout, leaf, host_mxcsr_mask());
}

/* Components that have no place here: none of a guest's that KVM supports. */
static bool unknown(const struct exec *x, uint64_t mask)
{
	if (mask >> EXEC_COMPONENTS)
		return true;
	for (unsigned i = 2; i < EXEC_COMPONENTS; i++) {
		if ((mask >> i & 1) && x->layout->component[i].bytes == 0)
			return true;
	}
	return false;
}

/*
 * Goes through the components beyond SSE that have a place in the guest's area
 * (LAYOUT, 0 the standard form) and copies those in MASK, to the guest or from
 * it.
 */
static int copy_components(struct xs *s, uint64_t layout, uint64_t mask,
			   bool save)
{
	struct exec *x = s->x;
	uint64_t at = FIRST_OFFSET;

	if (unknown(x, (layout & ~COMPACTED) | mask))
		return -ENOSYS;
	for (unsigned i = 2; i < EXEC_COMPONENTS; i++) {
		uint32_t bytes = x->layout->component[i].bytes;
		uint8_t *state = x->area + x->layout->component[i].offset;
		int r = 0;

		if (!((layout | mask) >> i & 1))
			continue;
		if (layout == 0)
			at = x->layout->component[i].offset;
		else if (x->layout->component[i].aligned)
			at = align_up(at, 64);
		if (mask >> i & 1)
			r = save ? exec_write(x, s->va + at, state, bytes)
				 : exec_read(x, s->va + at, state, bytes);
		if (r < 0)
			return r;
		at += bytes;
	}
	return 0;
}

/* Checks and values common to all; the vector state is in x->area if LOAD. */
static int begin(struct xs *s, struct exec *x, bool load)
{
	int r;

	if (!(x->sregs->cr4 & CR4_OSXSAVE) || x->insn.lock)
		return exec_ud(x);
	if (x->sregs->cr0 & CR0_TS)
		return fault_set(&x->fault, EXC_NM);
	*s = (struct xs){.x = x, .va = exec_address(x)};
	if (s->va & 63)
		return exec_gp(x);
	r = x->host->get_xcr0(x->host_arg, &s->xcr0);
	if (r < 0)
		return r;
	s->rfbm =
		s->xcr0 & ((x->regs->rdx << 32) | (x->regs->rax & UINT32_MAX));
	if (load)
		r = x->host->get_fpu(x->host_arg, x->area);
	return r;
}

/* Bytes 0 to 23 and 32 to 159: x87. 24 to 31: MXCSR. 160 to 415: XMM. */
static int save_legacy(struct xs *s, uint64_t mask, bool mxcsr)
{
	struct exec *x = s->x;
	int r = 0;

	if (mask & X87) {
		r = exec_write(x, s->va, x->area, 24);
		if (r == 0)
			r = exec_write(x, s->va + 32, x->area + 32, 128);
	}
	if (r == 0 && mxcsr) {
		/* KVM leaves the mask 0 where SSE was in its initial state. */
		uint32_t pair[2] = {get32(x->area + AT_MXCSR),
				    x->layout->mxcsr_mask};

		r = exec_write(x, s->va + AT_MXCSR, pair, sizeof(pair));
	}
	if (r == 0 && (mask & SSE)) {
		/* REX.B and friends: XMM8 to 15 exist in 64-bit mode only. */
		size_t len = x->insn.mode == INSN_64 ? 256 : 128;

		r = exec_write(x, s->va + 160, x->area + 160, len);
	}
	return r;
}

/* Components beyond their initial state. */
static uint64_t in_use(const struct exec *x)
{
	uint64_t bv = get64(x->area + LEGACY_BYTES);

	/* Where MXCSR belongs to SSE it counts (SDM 1 13.6). */
	if (get32(x->area + AT_MXCSR) != MXCSR_INIT)
		bv |= SSE;
	return bv;
}

/*
 * The standard form writes every component asked for, in use or not: KVM puts
 * initial values into its area for those that are not. XSAVEOPT may do as XSAVE
 * does.
 */
int exec_xsave(struct exec *x)
{
	struct xs s;
	uint64_t bv;
	int r = begin(&s, x, true);

	if (r < 0)
		return r;
	r = exec_read(x, s.va + LEGACY_BYTES, &bv, sizeof(bv));
	if (r < 0)
		return r;
	r = save_legacy(&s, s.rfbm, s.rfbm & (SSE | AVX));
	if (r == 0)
		r = copy_components(&s, 0, s.rfbm & ~(X87 | SSE), true);
	if (r < 0)
		return r;
	bv = (bv & ~s.rfbm) | (get64(x->area + LEGACY_BYTES) & s.rfbm);
	return exec_write(x, s.va + LEGACY_BYTES, &bv, sizeof(bv));
}

/* The header last, as a fault may end it halfway. */
int exec_xsavec(struct exec *x)
{
	struct xs s;
	uint64_t mask;
	int r = begin(&s, x, true);

	if (r < 0)
		return r;
	mask = s.rfbm & in_use(x);
	r = save_legacy(&s, mask, mask & SSE);
	if (r == 0)
		r = copy_components(&s, s.rfbm | COMPACTED, mask & ~(X87 | SSE),
				    true);
	if (r < 0)
		return r;
	s.header.xstate_bv = mask;
	s.header.xcomp_bv = s.rfbm | COMPACTED;
	/* The other six words of the header are not written. */
	return exec_write(x, s.va + LEGACY_BYTES, &s.header, 16);
}

/* KVM offers the guest no supervisor state here, so IA32_XSS is 0. */
int exec_xsaves(struct exec *x)
{
	return exec_cpl(x) != 0 ? exec_gp(x) : exec_xsavec(x);
}

/* SDM 1 13.8.1, 13.12: what makes a header invalid. */
static bool header_ok(const struct xs *s)
{
	const struct header *h = &s->header;
	bool zero = true;

	for (unsigned i = 0; i < ARRAY_LEN(h->reserved); i++)
		zero &= h->reserved[i] == 0;
	if (!(h->xcomp_bv & COMPACTED)) /* bytes 8 to 23 only */
		return h->xcomp_bv == 0 && h->reserved[0] == 0 &&
		       !(h->xstate_bv & ~s->xcr0);
	return zero && !(h->xcomp_bv & ~(s->xcr0 | COMPACTED)) &&
	       !(h->xstate_bv & ~h->xcomp_bv);
}

/* Puts a component of x->area into its initial state, as XRSTOR defines it. */
static int init_components(struct exec *x, uint64_t mask)
{
	static const uint8_t fcw[2] = {0x7f, 0x03};

	if (mask & X87) {
		memset(x->area, 0, 24);
		memset(x->area + 32, 0, 128);
		memcpy(x->area, fcw, sizeof(fcw));
	}
	if (mask & SSE)
		memset(x->area + 160, 0, 256);
	if (unknown(x, mask))
		return -ENOSYS;
	for (unsigned i = 2; i < EXEC_COMPONENTS; i++) {
		if (mask >> i & 1)
			memset(x->area + x->layout->component[i].offset, 0,
			       x->layout->component[i].bytes);
	}
	return 0;
}

static int restore_legacy(struct xs *s, uint64_t mask)
{
	struct exec *x = s->x;
	int r = 0;

	if (mask & X87) {
		r = exec_read(x, s->va, x->area, 24);
		if (r == 0)
			r = exec_read(x, s->va + 32, x->area + 32, 128);
	}
	if (r == 0 && (mask & SSE)) {
		size_t len = x->insn.mode == INSN_64 ? 256 : 128;

		r = exec_read(x, s->va + 160, x->area + 160, len);
	}
	return r;
}

/* MXCSR: with SSE in the compacted form, with SSE or AVX in the standard. */
static int restore_mxcsr(struct xs *s, bool compacted)
{
	struct exec *x = s->x;
	uint32_t mxcsr = MXCSR_INIT;
	int r = 0;

	if (!(s->rfbm & (compacted ? SSE : SSE | AVX)))
		return 0;
	if (!compacted || (s->header.xstate_bv & SSE))
		r = exec_read(x, s->va + AT_MXCSR, &mxcsr, sizeof(mxcsr));
	if (r < 0)
		return r;
	if (mxcsr & ~x->layout->mxcsr_mask)
		return exec_gp(x);
	memcpy(x->area + AT_MXCSR, &mxcsr, sizeof(mxcsr));
	return 0;
}

static int restore(struct xs *s)
{
	struct exec *x = s->x;
	bool compacted = s->header.xcomp_bv & COMPACTED;
	uint64_t mask = s->rfbm & s->header.xstate_bv;
	uint64_t init = s->rfbm & ~s->header.xstate_bv, bv;
	int r;

	r = init_components(x, init);
	if (r == 0)
		r = restore_legacy(s, mask);
	if (r == 0)
		r = restore_mxcsr(s, compacted);
	if (r == 0)
		r = copy_components(s, compacted ? s->header.xcomp_bv : 0,
				    mask & ~(X87 | SSE), false);
	if (r < 0)
		return r;
	bv = (get64(x->area + LEGACY_BYTES) & ~s->rfbm) | mask;
	/* KVM takes no MXCSR without a component it belongs to. */
	if (get32(x->area + AT_MXCSR) != MXCSR_INIT)
		bv |= SSE;
	memcpy(x->area + LEGACY_BYTES, &bv, sizeof(bv));
	return x->host->set_fpu(x->host_arg, x->area);
}

static int xrstor(struct exec *x, bool supervisor)
{
	struct xs s;
	int r = begin(&s, x, false);

	if (r < 0)
		return r;
	r = exec_read(x, s.va + LEGACY_BYTES, &s.header, sizeof(s.header));
	if (r < 0)
		return r;
	if (!header_ok(&s) || (supervisor && !(s.header.xcomp_bv & COMPACTED)))
		return exec_gp(x);
	/*
	 * Usually all of the state is replaced, and the old one need not be
	 * read.
	 */
	if (s.rfbm != s.xcr0)
		r = x->host->get_fpu(x->host_arg, x->area);
	else
		memset(x->area, 0, FIRST_OFFSET);
	return r < 0 ? r : restore(&s);
}

int exec_xrstor(struct exec *x)
{
	return xrstor(x, false);
}

int exec_xrstors(struct exec *x)
{
	return exec_cpl(x) != 0 ? exec_gp(x) : xrstor(x, true);
}
