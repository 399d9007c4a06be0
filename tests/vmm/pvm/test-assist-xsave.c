/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XSAVE, XSAVEC, XRSTOR: against this processor, and with vector states of
 * other processors, from 576 to 12,288 bytes, against what the SDM says. Each
 * buffer ends where nothing is mapped.
 */
#include "tests/assist.h"

#include <cpuid.h>
#include <stdio.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define X87 UINT64_C(1)
#define SSE UINT64_C(2)
#define AVX UINT64_C(4)

#define COMPACTED (UINT64_C(1) << 63)

static const uint8_t xsave[] = {0x48, 0x0f, 0xae, 0x26};
static const uint8_t xsavec[] = {0x48, 0x0f, 0xc7, 0x26};
static const uint8_t xrstor[] = {0x48, 0x0f, 0xae, 0x2e};
static const uint8_t xrstors[] = {0x48, 0x0f, 0xc7, 0x1e};

struct world {
	struct guest *g;
	uint8_t *ram; /* the guest's */
	uint64_t seed;
};

static uint64_t next_random(struct world *w)
{
	return guest_random(&w->seed);
}

static void put64(uint8_t *to, uint64_t value)
{
	memcpy(to, &value, sizeof(value));
}

/* RSI to the guest's area at VA, EDX:EAX to MASK. */
static int run_at(struct guest *g, const uint8_t *insn, uint64_t va,
		  uint64_t mask)
{
	g->regs.rax = mask & UINT32_MAX;
	g->regs.rdx = mask >> 32;
	g->regs.rsi = va;
	return guest_run(g, insn, 4);
}

/* ---- against this processor ----------------------------------------------
 */

/*
 * A state of this processor: STATE in, and what INSN makes of AREA out. OWN is
 * for this program's state meanwhile.
 */
#define NATIVE_X(insn, own, state, area, mask, out)                            \
	do {                                                                   \
		uint32_t lo_ = (uint32_t)(mask), hi_ = (mask) >> 32;           \
		uint32_t a_ = UINT32_MAX, d_ = UINT32_MAX;                     \
		__asm__ volatile(                                              \
			"xsave64 (%[mine])\n\t"                                \
			"movl $-1, %%eax\n\t"                                  \
			"movl $-1, %%edx\n\t"                                  \
			"xrstor64 (%[st])\n\t"                                 \
			"movl %[lo], %%eax\n\t"                                \
			"movl %[hi], %%edx\n\t" insn " (%[ar])\n\t"            \
			"movl $-1, %%eax\n\t"                                  \
			"movl $-1, %%edx\n\t"                                  \
			"xsave64 (%[o])\n\t"                                   \
			"xrstor64 (%[mine])\n\t"                               \
			: "+a"(a_), "+d"(d_)                                   \
			: [mine] "r"(own), [st] "r"(state), [ar] "r"(area),    \
			  [o] "r"(out), [lo] "r"(lo_), [hi] "r"(hi_)           \
			: "memory");                                           \
	} while (0)

/* BYTES each, as the processor's largest area. */
struct vectors {
	size_t bytes;
	uint8_t *own, *state, *area, *out, *scratch;
};

static void vectors_init(struct vectors *v, size_t bytes)
{
	v->bytes = bytes;
	v->own = guarded_new(bytes);
	v->state = guarded_new(bytes);
	v->area = guarded_new(bytes);
	v->out = guarded_new(bytes);
	v->scratch = guarded_new(bytes);
}

static void vectors_done(struct vectors *v)
{
	guarded_free(v->own, v->bytes);
	guarded_free(v->state, v->bytes);
	guarded_free(v->area, v->bytes);
	guarded_free(v->out, v->bytes);
	guarded_free(v->scratch, v->bytes);
}

static uint64_t host_xcr0(void)
{
	uint32_t lo, hi;

	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return (uint64_t)hi << 32 | lo;
}

static bool has_xsave(void)
{
	unsigned a, b, c, d;

	__cpuid(1, a, b, c, d);
	if (!(c >> 27 & 1))
		return false;
	__cpuid_count(13, 1, a, b, c, d);
	return a & 2; /* XSAVEC */
}

/* Random registers, with IN_USE of the components not in initial state. */
static void random_state(struct world *w, const struct vectors *v,
			 uint64_t in_use)
{
	static const uint8_t control[4] = {0x7f, 0x03, 0, 0};
	const struct exec_layout *layout = &w->g->layout;
	uint8_t *state = v->state;
	uint32_t mxcsr = 0x1f80;

	for (size_t i = 32; i < v->bytes; i += 8)
		put64(state + i, next_random(w));
	memset(state, 0, 32);
	memset(state + 416, 0, 160);
	for (unsigned i = 0; i < 8; i++) /* 80-bit registers */
		memset(state + 32 + 16 * i + 10, 0, 6);
	memcpy(state, control, 4);
	memcpy(state + 24, &mxcsr, 4);
	/* PKRU, if there is one, has to let this test run on. */
	memset(state + layout->component[9].offset, 0,
	       layout->component[9].bytes);
	put64(state + 512, in_use);
}

/*
 * KVM hands out initial values for what is not in use; so does XSAVE. In place
 * of MXCSR_MASK KVM hands out 0, once the processor has saved a guest's state
 * with SSE in its initial one.
 */
static void load_fpu(struct guest *g, struct vectors *v, const uint8_t *state)
{
	memset(v->scratch, 0, v->bytes);
	memset(g->fpu, 0, v->bytes);
	NATIVE_X("xsave64", v->own, state, v->scratch, UINT64_MAX, g->fpu);
	memset(g->fpu + 28, 0, 4);
}

static const uint64_t masks[] = {
	UINT64_MAX, 7, 3, 1, 2, 4, 6, 0xe0, 5, 0, UINT64_C(3) << 17,
};

/*
 * Which components are in use is the processor's to track (SDM 1, 13.6), and
 * a task switch between the instructions of NATIVE_X may change it.  So a
 * comparison that fails is made again with the same values: a mistake of ours
 * fails each time, a task switch comes between seldom.
 */
#define TRIES 8

struct vector_case {
	bool compact; /* XSAVEC rather than XSAVE */
	uint64_t in_use;
	uint64_t mask;
};

static bool same_save(struct world *w, struct vectors *v,
		      const struct vector_case *c)
{
	struct guest *g = w->g;
	const uint8_t *soft = w->ram + GUEST_DATA;

	random_state(w, v, c->in_use);
	load_fpu(g, v, v->state);
	memset(v->area, 0xa5, v->bytes);
	memset(v->area + 512, 0, 64);
	memcpy(w->ram + GUEST_DATA, v->area, v->bytes);
	if (c->compact)
		NATIVE_X("xsavec64", v->own, v->state, v->area, c->mask,
			 v->out);
	else
		NATIVE_X("xsave64", v->own, v->state, v->area, c->mask, v->out);
	assert_int_equal(
		run_at(g, c->compact ? xsavec : xsave, GUEST_VA, c->mask), 0);
	/* Bytes 464 to 511 belong to software. */
	return memcmp(soft, v->area, 416) == 0 &&
	       memcmp(soft + 464, v->area + 464, v->bytes - 464) == 0;
}

static void check_save(struct world *w, struct vectors *v,
		       const struct vector_case *c)
{
	uint64_t seed = w->seed;
	bool same = false;

	for (unsigned i = 0; i < TRIES && !same; i++) {
		w->seed = seed;
		same = same_save(w, v, c);
	}
	if (!same) /* again, to say which byte */
		assert_memory_equal(w->ram + GUEST_DATA, v->area, v->bytes);
	assert_true(same);
}

static void test_save_native(void **state)
{
	struct world *w = *state;
	uint64_t xcr0 = has_xsave() ? host_xcr0() : 0;
	struct vectors v;

	vectors_init(&v, w->g->layout.bytes);
	w->g->xcr0 = xcr0;
	for (unsigned n = 0; xcr0 != 0 && n < 40; n++) {
		uint64_t in_use = next_random(w) & xcr0 & 0xe7;

		if (in_use & 0xe0) /* AVX-512's go together with AVX */
			in_use |= 6;
		for (size_t m = 0; m < ARRAY_LEN(masks); m++) {
			struct vector_case c = {false, in_use, masks[m]};

			check_save(w, &v, &c);
			c.compact = true;
			check_save(w, &v, &c);
		}
	}
	vectors_done(&v);
}

static bool same_restore(struct world *w, struct vectors *v,
			 const struct vector_case *c, bool odd_mxcsr)
{
	struct guest *g = w->g;
	uint64_t all = UINT64_MAX;

	/* An area as XSAVE or XSAVEC leaves it... */
	random_state(w, v, next_random(w) & c->in_use);
	v->state[24] = odd_mxcsr ? 0xa0 : 0x80;
	memset(v->area, 0, v->bytes);
	if (c->compact)
		NATIVE_X("xsavec64", v->own, v->state, v->area, all, v->out);
	else
		NATIVE_X("xsave64", v->own, v->state, v->area, all, v->out);
	memcpy(w->ram + GUEST_DATA, v->area, v->bytes);
	/* ... restored in part over another state. */
	random_state(w, v, next_random(w) & c->in_use);
	load_fpu(g, v, v->state);
	memset(v->out, 0, v->bytes);
	NATIVE_X("xrstor64", v->own, v->state, v->area, c->mask, v->out);
	memset(v->out + 28, 0, 4);
	assert_int_equal(run_at(g, xrstor, GUEST_VA, c->mask), 0);
	memcpy(v->state, g->fpu, v->bytes);
	load_fpu(g, v, v->state);
	/* Whether SSE is in use for MXCSR's sake differs by maker. */
	if (odd_mxcsr)
		g->fpu[512] = v->out[512] = (uint8_t)(v->out[512] | 2);
	return memcmp(g->fpu, v->out, 416) == 0 &&
	       memcmp(g->fpu + 512, v->out + 512, v->bytes - 512) == 0;
}

static void test_restore_native(void **state)
{
	struct world *w = *state;
	uint64_t xcr0 = has_xsave() ? host_xcr0() : 0;
	struct vectors v;

	vectors_init(&v, w->g->layout.bytes);
	w->g->xcr0 = xcr0;
	for (unsigned n = 0; xcr0 != 0 && n < 400; n++) {
		struct vector_case c = {n & 1, xcr0 & 7,
					masks[n % ARRAY_LEN(masks)]};
		uint64_t seed = w->seed;
		bool same = false;

		for (unsigned i = 0; i < TRIES && !same; i++) {
			w->seed = seed;
			same = same_restore(w, &v, &c, n % 3 == 0);
		}
		if (!same) /* to say which byte */
			assert_memory_equal(w->g->fpu, v.out, v.bytes);
		assert_true(same);
	}
	vectors_done(&v);
}

static void test_restore_bad(void **state)
{
	struct world *w = *state;
	struct guest *g = w->g;
	uint64_t *header = (uint64_t *)(w->ram + GUEST_DATA + 512);

	g->xcr0 = 7;
	g->regs.rax = g->regs.rdx = UINT32_MAX;
	g->regs.rsi = GUEST_VA;
	memset(w->ram + GUEST_DATA, 0, 8192);
	for (unsigned i = 0; i < 5; i++) {
		static const uint64_t bad[5][3] = {
			{8, 0, 0},                 /* not in XCR0 */
			{0, 1, 0},                 /* XCOMP_BV, no bit 63 */
			{0, 0, 1},                 /* reserved */
			{1, UINT64_C(1) << 63, 0}, /* no place for it */
			{0, UINT64_C(9) << 60, 0}, /* bit 60 */
		};

		memcpy(header, bad[i], sizeof(bad[i]));
		assert_int_equal(guest_run(g, xrstor, 4), -EFAULT);
		assert_int_equal(g->exec.fault.vector, EXC_GP);
	}
	memset(header, 0, 64);
	assert_int_equal(guest_run(g, xrstors, 4), -EFAULT); /* standard form */
	memset(w->ram + GUEST_DATA + 24, 0xff, 4);           /* MXCSR */
	assert_int_equal(guest_run(g, xrstor, 4), -EFAULT);
	g->regs.rsi += 8; /* alignment */
	assert_int_equal(guest_run(g, xrstor, 4), -EFAULT);
	assert_int_equal(g->exec.fault.vector, EXC_GP);
	g->sregs.cr0 |= 8; /* TS */
	assert_int_equal(guest_run(g, xrstor, 4), -EFAULT);
	assert_int_equal(g->exec.fault.vector, EXC_NM);
	g->sregs.cr4 &= ~CR4_OSXSAVE;
	assert_int_equal(guest_run(g, xrstor, 4), -EFAULT);
	assert_int_equal(g->exec.fault.vector, EXC_UD);
}

/* ---- other processors ----------------------------------------------------
 */

#define MOST 10 /* components beyond SSE */

struct part {
	unsigned number;
	uint32_t bytes, offset;
	uint32_t flags;   /* CPUID's ECX: 2 is aligned to 64 when compacted */
	uint32_t compact; /* offset when all components are there */
};

struct processor {
	const char *name;
	uint32_t bytes;
	uint32_t mxcsr_mask;
	struct part part[MOST]; /* number 0 ends */
};

#define AVX_PART                                                               \
	{                                                                      \
		2, 256, 576, 0, 576                                            \
	}
#define INTEL_AVX512                                                           \
	AVX_PART, {5, 64, 1088, 0, 832}, {6, 512, 1152, 0, 896},               \
		{7, 1024, 1664, 0, 1408},                                      \
	{                                                                      \
		9, 8, 2688, 0, 2432                                            \
	}
#define AMX_PARTS                                                              \
	{17, 64, 2752, 2, 2496},                                               \
	{                                                                      \
		18, 8192, 2816, 2, 2560                                        \
	}

static const struct processor processors[] = {
	{"x87 and SSE", 576, 0xffbf, {{0}}},
	{"AVX", 832, 0xffff, {AVX_PART}},
	{"MPX",
	 1088,
	 0xffff,
	 {AVX_PART, {3, 64, 960, 0, 832}, {4, 64, 1024, 0, 896}}},
	{"AVX-512 of AMD",
	 2440,
	 0x2ffff,
	 {AVX_PART,
	  {5, 64, 832, 0, 832},
	  {6, 512, 896, 0, 896},
	  {7, 1024, 1408, 0, 1408},
	  {9, 8, 2432, 0, 2432}}},
	{"AVX-512 of Intel", 2696, 0xffff, {INTEL_AVX512}},
	{"AMX", 11008, 0xffff, {INTEL_AVX512, AMX_PARTS}},
	{"larger than any",
	 12288,
	 0x2ffff,
	 {INTEL_AVX512,
	  AMX_PARTS,
	  {19, 128, 960, 0, 10752},
	  {20, 1280, 11008, 2, 10880}}},
};

static uint64_t all_parts(const struct processor *p)
{
	uint64_t all = X87 | SSE;

	for (unsigned i = 0; i < MOST && p->part[i].number; i++)
		all |= UINT64_C(1) << p->part[i].number;
	return all;
}

static void layout_of(const struct processor *p, struct exec_layout *ret)
{
	struct exec_xsave_leaf leaf[EXEC_COMPONENTS] = {0};

	leaf[0].ecx = leaf[0].ebx = p->bytes;
	leaf[0].eax = (uint32_t)all_parts(p);
	for (unsigned i = 0; i < MOST && p->part[i].number; i++)
		leaf[p->part[i].number] = (struct exec_xsave_leaf){
			p->part[i].bytes, p->part[i].offset, p->part[i].flags,
			0};
	exec_layout_from(ret, leaf, p->mxcsr_mask);
}

/* One area in the making: the standard form of what a guest is to find. */
struct image {
	const struct processor *p;
	uint8_t *bytes; /* p->bytes */
	uint64_t in_use;
};

/* As KVM's: initial values where a component is not in use, no MXCSR_MASK. */
static void image_fill(struct world *w, struct image *m, uint64_t in_use,
		       uint16_t mxcsr)
{
	static const uint8_t fcw[2] = {0x7f, 0x03};
	const struct processor *p = m->p;

	m->in_use = in_use;
	memset(m->bytes, 0, p->bytes);
	memcpy(m->bytes, fcw, sizeof(fcw));
	for (unsigned i = 32; (in_use & X87) && i < 160; i++)
		m->bytes[i] = (uint8_t)next_random(w);
	for (unsigned i = 160; (in_use & SSE) && i < 416; i++)
		m->bytes[i] = (uint8_t)next_random(w);
	for (unsigned i = 0; i < MOST && p->part[i].number; i++) {
		if (!(in_use >> p->part[i].number & 1))
			continue;
		for (unsigned k = 0; k < p->part[i].bytes; k++)
			m->bytes[p->part[i].offset + k] =
				(uint8_t)next_random(w);
	}
	memcpy(m->bytes + 24, &mxcsr, sizeof(mxcsr));
	put64(m->bytes + 512, in_use);
}

/*
 * AREA as XSAVE, or with COMPACT XSAVEC, of the components RFBM leaves it (SDM
 * 1 13.7, 13.10). Returns the area's length in 64s.
 */
static size_t expected(const struct image *m, uint64_t rfbm, bool compact,
		       uint8_t *area)
{
	const struct processor *p = m->p;
	uint32_t mxcsr;
	uint64_t saved = compact ? rfbm & m->in_use : rfbm;
	size_t at = 576, end = 576;

	memcpy(&mxcsr, m->bytes + 24, sizeof(mxcsr));
	if (compact && mxcsr != 0x1f80)
		saved |= rfbm & SSE;
	if (saved & X87) {
		memcpy(area, m->bytes, 24);
		memcpy(area + 32, m->bytes + 32, 128);
	}
	if (compact ? saved & SSE : rfbm & (SSE | AVX)) {
		memcpy(area + 24, &mxcsr, 4);
		memcpy(area + 28, &p->mxcsr_mask, 4);
	}
	if (saved & SSE)
		memcpy(area + 160, m->bytes + 160, 256);
	for (unsigned i = 0; i < MOST && p->part[i].number; i++) {
		const struct part *t = &p->part[i];

		if (!(rfbm >> t->number & 1))
			continue;
		at = compact && (t->flags & 2) ? align_up(at, 64) : at;
		if (compact && rfbm == all_parts(p))
			assert_int_equal(at, t->compact);
		at = compact ? at : t->offset;
		if (saved >> t->number & 1)
			memcpy(area + at, m->bytes + t->offset, t->bytes);
		at += t->bytes;
		end = at > end ? at : end;
	}
	put64(area + 512, compact ? saved : m->in_use & rfbm);
	if (compact)
		put64(area + 520, rfbm | COMPACTED);
	return align_up(end, 64);
}

/* The last 64-byte boundary where LEN bytes fit before the unmapped page. */
static uint64_t last_place(size_t len)
{
	return GUEST_PAGES * 4096 - len;
}

static void save_once(struct world *w, struct image *m, uint64_t rfbm,
		      bool compact)
{
	struct guest *g = w->g;
	uint8_t *wanted = guarded_new(align_up(m->p->bytes, 64));
	uint8_t *there;
	size_t len;
	uint64_t at;

	memset(wanted, 0xa5, m->p->bytes);
	memset(wanted + 512, 0, 64);
	len = expected(m, rfbm, compact, wanted);
	/* Just before the end of what is mapped: not a byte more. */
	at = last_place(len);
	there = w->ram + GUEST_DATA + at;
	memset(w->ram + GUEST_DATA, 0xa5, GUEST_PAGES * 4096);
	memset(there + 512, 0, 64);
	memcpy(g->fpu, m->bytes, m->p->bytes);
	assert_int_equal(
		run_at(g, compact ? xsavec : xsave, GUEST_VA + at, rfbm), 0);
	assert_memory_equal(there, wanted, min_u64(len, m->p->bytes));
	for (uint64_t i = 0; i < at; i++)
		assert_int_equal(w->ram[GUEST_DATA + i], 0xa5);
	guarded_free(wanted, align_up(m->p->bytes, 64));
}

/* The result of XRSTOR of M's area over the state of OLD. */
static void restore_once(struct world *w, const struct image *m,
			 const struct image *old, uint64_t rfbm, bool compact)
{
	struct guest *g = w->g;
	const struct processor *p = m->p;
	uint8_t *area = guarded_new(align_up(p->bytes, 64));
	uint64_t all = all_parts(p), at;
	size_t len = expected(m, all, compact, area);

	at = last_place(compact ? len : align_up(p->bytes, 64));
	memcpy(w->ram + GUEST_DATA + at, area, min_u64(len, p->bytes));
	memcpy(g->fpu, old->bytes, p->bytes);
	assert_int_equal(run_at(g, xrstor, GUEST_VA + at, rfbm), 0);
	assert_memory_equal(g->fpu + 32, (rfbm & X87 ? m : old)->bytes + 32,
			    128);
	assert_memory_equal(g->fpu + 160, (rfbm & SSE ? m : old)->bytes + 160,
			    256);
	for (unsigned i = 0; i < MOST && p->part[i].number; i++) {
		const struct part *t = &p->part[i];
		const struct image *from = rfbm >> t->number & 1 ? m : old;

		assert_memory_equal(g->fpu + t->offset, from->bytes + t->offset,
				    t->bytes);
	}
	guarded_free(area, align_up(p->bytes, 64));
}

/* A page short: the fault is the guest's, at the page that is missing. */
static void check_cut(struct world *w, const struct processor *p)
{
	struct guest *g = w->g;
	uint64_t at = last_place(align_up(p->bytes, 64)) + 64;

	memset(w->ram + GUEST_DATA + at + 512, 0, 64);
	if (p->bytes <= 576)
		return;
	assert_int_equal(run_at(g, xsave, GUEST_VA + at, UINT64_MAX), -EFAULT);
	assert_int_equal(g->exec.fault.vector, EXC_PF);
	assert_int_equal(g->exec.fault.cr2, GUEST_VA + GUEST_PAGES * 4096);
}

static void check_processor(struct world *w, const struct processor *p)
{
	uint64_t all = all_parts(p);
	struct image m = {p, guarded_new(align_up(p->bytes, 64)), 0};
	struct image old = {p, guarded_new(align_up(p->bytes, 64)), 0};
	struct exec_layout layout;

	print_message("%s: %u bytes\n", p->name, p->bytes);
	layout_of(p, &layout);
	guest_done(w->g);
	guest_init(w->g, w->ram, &layout);
	w->g->xcr0 = all;
	for (unsigned n = 0; n < 200; n++) {
		uint64_t in_use = n % 4 ? next_random(w) & all : all;
		uint64_t rfbm = n % 3 ? next_random(w) & all : all;
		uint16_t mxcsr = n % 5 ? 0x1f80 : 0x1fa0;

		image_fill(w, &m, in_use, mxcsr);
		save_once(w, &m, rfbm, n & 1);
		image_fill(w, &old, next_random(w) & all, 0x1f80);
		restore_once(w, &m, &old, rfbm, n & 1);
	}
	check_cut(w, p);
	guarded_free(m.bytes, align_up(p->bytes, 64));
	guarded_free(old.bytes, align_up(p->bytes, 64));
}

static void test_processors(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(processors); i++)
		check_processor(*state, &processors[i]);
}

/* Components that CPUID puts beyond its own size are left out, not believed. */
static void test_lying_leaf(void **state)
{
	struct exec_xsave_leaf leaf[EXEC_COMPONENTS] = {
		[0] = {.ecx = 4200},
		[2] = {256, 576, 0, 0},
		[3] = {64, 64, 0, 0},             /* in the legacy region */
		[4] = {8192, 2816, 0, 0},         /* beyond the end */
		[5] = {UINT32_MAX, 4160, 0, 0},   /* wraps */
		[6] = {64, UINT32_MAX - 8, 0, 0}, /* wraps */
		[7] = {64, 4160, 0, 0},           /* the last that fits */
	};
	struct exec_layout layout;

	(void)state;
	exec_layout_from(&layout, leaf, 0xffff);
	assert_int_equal(layout.bytes, 4224);
	for (unsigned i = 0; i < EXEC_COMPONENTS; i++)
		assert_int_equal(layout.component[i].bytes, i == 2   ? 256
							    : i == 7 ? 64
								     : 0);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->g = calloc(1, sizeof(*w->g));
	w->ram = aligned_alloc(4096, GUEST_BYTES);
	assert_non_null(w->g);
	assert_non_null(w->ram);
	w->seed = UINT64_C(0x9e3779b97f4a7c15);
	memset(w->ram, 0, GUEST_BYTES);
	guest_init(w->g, w->ram, NULL);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	guest_done(w->g);
	free(w->ram);
	free(w->g);
	free(w);
	return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_save_native), TEST(test_restore_native),
		TEST(test_restore_bad), TEST(test_processors),
		TEST(test_lying_leaf),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
