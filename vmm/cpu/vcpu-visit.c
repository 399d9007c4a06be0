/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of a vCPU, as KVM has it. The order matters when it is loaded: the
 * CPUID decides what is allowed, the APIC's mode whether its deadline may be
 * set, the special registers which of the others exist.
 */
#include "vmm/cpu/vcpu.h"

#include "vmm/base/kvm.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/base/visit.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define CPUID_MAX     256 /* entries */
#define MSRS_MAX      1024
#define XSAVE_MAX     65536
#define NESTED_MAX    (1u << 16)
#define MSR_TSC       0x10u
#define MSR_DEADLINE  0x6e0u
#define MSR_NONE      UINT32_MAX
#define APIC_LVTT     0x320u
#define LVTT_MASKED   (1u << 16)
#define LVTT_DEADLINE (2u << 17)

/* Saves what KVM gives under GET, or gives KVM by SET what is loaded. */
static void visit_ioctl(struct vcpu *vcpu, struct visitor *v, const char *name,
			unsigned long get, unsigned long set, void *data,
			size_t bytes)
{
	if (!visit_goes_on(v))
		return;
	if (!visit_loads(v) && ioctl(vcpu->fd, get, data) < 0)
		visit_wrong(v, "%s: KVM does not give it: %s", name,
			    strerror(errno));
	visit_bytes(v, name, data, bytes);
	if (visit_loads(v) && visit_goes_on(v) &&
	    ioctl(vcpu->fd, set, data) < 0)
		visit_wrong(v, "%s: KVM does not take it: %s", name,
			    strerror(errno));
}

/* ---- CPUID */

static struct kvm_cpuid2 *new_cpuid(struct visitor *v)
{
	struct kvm_cpuid2 *table = calloc(
		1, sizeof(*table) + CPUID_MAX * sizeof(table->entries[0]));

	if (!table)
		visit_wrong(v, "out of memory");
	else
		table->nent = CPUID_MAX;
	return table;
}

static const struct kvm_cpuid_entry2 *find_leaf(const struct kvm_cpuid2 *table,
						uint32_t leaf, uint32_t index)
{
	for (unsigned i = 0; i < table->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &table->entries[i];

		if (e->function == leaf && e->index == index)
			return e;
	}
	return NULL;
}

enum cpuid_register { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX };

static uint32_t leaf_register(const struct kvm_cpuid2 *table, uint32_t leaf,
			      enum cpuid_register which)
{
	const struct kvm_cpuid_entry2 *e = find_leaf(table, leaf, 0);

	if (!e)
		return 0;
	return which == CPUID_EAX   ? e->eax
	       : which == CPUID_EBX ? e->ebx
	       : which == CPUID_ECX ? e->ecx
				    : e->edx;
}

/*
 * The leaves whose bits are features (SDM 2A CPUID; APM 3 appendix E; KVM's
 * own), less the bits that follow the guest's own registers: OSXSAVE, OSPKE.
 */
static const struct feature_word {
	uint32_t leaf;
	enum cpuid_register which;
	uint32_t except;
} feature_words[] = {
	{0x1, CPUID_ECX, 1u << 27}, {0x1, CPUID_EDX, 0},
	{0x7, CPUID_EBX, 0},        {0x7, CPUID_ECX, 1u << 4},
	{0x7, CPUID_EDX, 0},        {0xd, CPUID_EAX, 0},
	{0x80000001, CPUID_ECX, 0}, {0x80000001, CPUID_EDX, 0},
	{0x80000008, CPUID_EBX, 0}, {0x40000001, CPUID_EAX, 0},
};

/* The guest goes on as a guest of the CPU it began on, or not at all. */
static void check_cpuid(struct visitor *v, const struct kvm_cpuid2 *saved,
			const struct kvm_cpuid2 *here)
{
	const struct kvm_cpuid_entry2 *vendor = find_leaf(saved, 0, 0);
	const struct kvm_cpuid_entry2 *own = find_leaf(here, 0, 0);
	const uint32_t model = leaf_register(saved, 1, CPUID_EAX);

	if (!vendor || !own || vendor->ebx != own->ebx ||
	    vendor->ecx != own->ecx || vendor->edx != own->edx ||
	    model != leaf_register(here, 1, CPUID_EAX)) {
		visit_wrong(v,
			    "saved on another model of CPU (%.4s%.4s%.4s "
			    "0x%x, here 0x%x): restore it on that one",
			    vendor ? (const char *)&vendor->ebx : "",
			    vendor ? (const char *)&vendor->edx : "",
			    vendor ? (const char *)&vendor->ecx : "", model,
			    leaf_register(here, 1, CPUID_EAX));
		return;
	}
	for (unsigned i = 0; i < ARRAY_LEN(feature_words); i++) {
		const struct feature_word *w = &feature_words[i];
		const uint32_t lacking =
			leaf_register(saved, w->leaf, w->which) &
			~leaf_register(here, w->leaf, w->which) & ~w->except;

		if (lacking)
			visit_wrong(v,
				    "its guest has features of the CPU that "
				    "this host lacks (CPUID 0x%x, e%cx, "
				    "0x%x)",
				    w->leaf, "abcd"[w->which], lacking);
	}
}

static void visit_cpuid(struct vcpu *vcpu, struct visitor *v)
{
	autofree struct kvm_cpuid2 *here = new_cpuid(v), *saved = new_cpuid(v);
	const size_t size = sizeof(here->entries[0]);
	size_t bytes;

	if (!here || !saved)
		return;
	if (ioctl(vcpu->fd, KVM_GET_CPUID2, here) < 0)
		visit_wrong(v, "KVM_GET_CPUID2: %s", strerror(errno));
	bytes = here->nent * size;
	memcpy(saved->entries, here->entries, bytes);
	visit_room(v, "cpuid", saved->entries, &bytes, CPUID_MAX * size);
	saved->nent = (uint32_t)(bytes / size);
	if (!visit_loads(v) || !visit_goes_on(v))
		return;
	check_cpuid(v, saved, here);
	if (visit_goes_on(v) && ioctl(vcpu->fd, KVM_SET_CPUID2, saved) < 0)
		visit_wrong(v, "KVM_SET_CPUID2: %s", strerror(errno));
}

/* ---- registers of the extended state */

static void visit_xsave(struct vcpu *vcpu, const struct kvm *kvm,
			struct visitor *v)
{
	const int size = kvm_check(kvm, KVM_CAP_XSAVE2);
	const size_t own = size > (int)sizeof(struct kvm_xsave)
				   ? (size_t)size
				   : sizeof(struct kvm_xsave);
	const bool large = own > sizeof(struct kvm_xsave);
	/* Room for another host's, which may be larger. */
	autofree uint8_t *area = calloc(1, XSAVE_MAX);
	size_t bytes = own;

	if (!area || own > XSAVE_MAX) {
		visit_wrong(v, "no memory for %zu bytes of registers", own);
		return;
	}
	if (!visit_loads(v) &&
	    ioctl(vcpu->fd, large ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, area) < 0)
		visit_wrong(v, "KVM_GET_XSAVE: %s", strerror(errno));
	visit_room(v, "xsave", area, &bytes, XSAVE_MAX);
	if (!visit_loads(v) || !visit_goes_on(v))
		return;
	/* The features fit, so the areas do, up to what is unused. */
	if (bytes < sizeof(struct kvm_xsave))
		visit_wrong(v, "xsave: %zu bytes are too few", bytes);
	else if (ioctl(vcpu->fd, KVM_SET_XSAVE, area) < 0)
		visit_wrong(v, "KVM_SET_XSAVE: %s", strerror(errno));
}

/* ---- model-specific registers */

/* All of them, and what of them a call is for. */
struct msrs {
	struct kvm_msr_entry entry[MSRS_MAX];
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry[MSRS_MAX];
	} call;
};

/*
 * KVM keeps the MTRRs, but its list leaves them out (SDM 3A 12.11): a guest
 * that looks at them again, as one does that takes a CPU off and on, has to
 * find what it set.
 */
static const struct {
	uint32_t first, count;
} mtrrs[] = {
	{0x200, 16}, /* base and mask of 8 ranges */
	{0x250, 1},  {0x258, 2}, {0x268, 8}, {0x2ff, 1},
};

static unsigned add_mtrrs(struct msrs *msrs, unsigned n)
{
	for (unsigned i = 0; i < ARRAY_LEN(mtrrs); i++) {
		for (uint32_t k = 0; k < mtrrs[i].count && n < MSRS_MAX; k++)
			msrs->entry[n++] = (struct kvm_msr_entry){
				.index = mtrrs[i].first + k};
	}
	return n;
}

static unsigned list_msrs(const struct kvm *kvm, struct visitor *v,
			  struct msrs *msrs)
{
	struct {
		struct kvm_msr_list head;
		uint32_t index[MSRS_MAX];
	} list = {.head.nmsrs = MSRS_MAX};

	if (ioctl(kvm->fd, KVM_GET_MSR_INDEX_LIST, &list) < 0) {
		visit_wrong(v, "KVM_GET_MSR_INDEX_LIST: %s", strerror(errno));
		return 0;
	}
	for (unsigned i = 0; i < list.head.nmsrs; i++)
		msrs->entry[i] = (struct kvm_msr_entry){.index = list.index[i]};
	return add_mtrrs(msrs, list.head.nmsrs);
}

/*
 * Calls REQUEST for N registers. KVM stops at one that it does not take: that
 * one is left out if SKIPS says so. How many are left; those from there on,
 * where *RET_BAD is one that may not be left out.
 */
static unsigned each_msr(struct vcpu *vcpu, struct msrs *msrs, unsigned n,
			 unsigned long request,
			 bool (*skips)(struct vcpu *vcpu,
				       const struct kvm_msr_entry *msr),
			 uint32_t *ret_bad)
{
	struct kvm_msr_entry *entry = msrs->entry;
	unsigned kept = 0;

	*ret_bad = MSR_NONE;
	for (unsigned i = 0; i < n; i++) {
		const unsigned left = n - i;
		int done;

		msrs->call.head.nmsrs = left;
		memcpy(msrs->call.entry, &entry[i], left * sizeof(*entry));
		done = ioctl(vcpu->fd, request, &msrs->call);
		if (done < 0)
			done = 0;
		memmove(&entry[kept], msrs->call.entry,
			(unsigned)done * sizeof(*entry));
		kept += (unsigned)done;
		i += (unsigned)done;
		if (i < n && !skips(vcpu, &msrs->call.entry[done])) {
			*ret_bad = msrs->call.entry[done].index;
			return kept;
		}
	}
	return kept;
}

/* KVM lists registers that the CPU it shows to the guest does not have. */
static bool may_lack(struct vcpu *vcpu, const struct kvm_msr_entry *msr)
{
	(void)vcpu;
	(void)msr;
	return true;
}

/* A register that KVM lets nobody write has to have its value already. */
static bool has_value(struct vcpu *vcpu, const struct kvm_msr_entry *msr)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} one = {.head.nmsrs = 1, .entry.index = msr->index};

	return ioctl(vcpu->fd, KVM_GET_MSRS, &one) == 1 &&
	       one.entry.data == msr->data;
}

static struct kvm_msr_entry *find_msr(struct msrs *msrs, unsigned n,
				      uint32_t index)
{
	for (unsigned i = 0; i < n; i++) {
		if (msrs->entry[i].index == index)
			return &msrs->entry[i];
	}
	return NULL;
}

/*
 * KVM gives 0 for a deadline that has passed, though its interrupt may not have
 * reached the APIC: then it would never come. The TSC's own value is a deadline
 * that passes at once; a guest that gets an interrupt too many looks at its
 * clock and goes on.
 */
static void keep_deadline(struct msrs *msrs, unsigned n,
			  const struct kvm_lapic_state *apic)
{
	struct kvm_msr_entry *deadline = find_msr(msrs, n, MSR_DEADLINE);
	const struct kvm_msr_entry *tsc = find_msr(msrs, n, MSR_TSC);
	uint32_t lvtt;

	memcpy(&lvtt, &apic->regs[APIC_LVTT], sizeof(lvtt));
	if (deadline && tsc && deadline->data == 0 && !(lvtt & LVTT_MASKED) &&
	    (lvtt & LVTT_DEADLINE))
		deadline->data = tsc->data;
}

/* The TSC's own, which its offset stands for, goes out of the list. */
static void load_msrs(struct vcpu *vcpu, struct visitor *v, struct msrs *msrs,
		      unsigned n)
{
	struct kvm_msr_entry *tsc = find_msr(msrs, n, MSR_TSC);
	uint32_t bad;

	if (tsc)
		*tsc = msrs->entry[--n];
	(void)each_msr(vcpu, msrs, n, KVM_SET_MSRS, has_value, &bad);
	if (bad != MSR_NONE)
		visit_wrong(v, "KVM does not take register 0x%x", bad);
}

static void visit_msrs(struct vcpu *vcpu, const struct kvm *kvm,
		       const struct kvm_lapic_state *apic, struct visitor *v)
{
	autofree struct msrs *msrs = calloc(1, sizeof(*msrs));
	const size_t size = sizeof(msrs->entry[0]);
	size_t bytes = 0;
	uint32_t bad;

	if (!msrs) {
		visit_wrong(v, "out of memory");
		return;
	}
	if (!visit_loads(v)) {
		unsigned n = list_msrs(kvm, v, msrs);

		n = each_msr(vcpu, msrs, n, KVM_GET_MSRS, may_lack, &bad);
		keep_deadline(msrs, n, apic);
		bytes = n * size;
	}
	visit_room(v, "msrs", msrs->entry, &bytes, sizeof(msrs->entry));
	if (visit_loads(v) && visit_goes_on(v))
		load_msrs(vcpu, v, msrs, (unsigned)(bytes / size));
}

/* ---- a guest's own guests */

static void visit_nested(struct vcpu *vcpu, const struct kvm *kvm,
			 struct visitor *v)
{
	const int size = kvm_check(kvm, KVM_CAP_NESTED_STATE);
	autofree struct kvm_nested_state *nested = calloc(1, NESTED_MAX);
	size_t bytes = 0;

	if (!nested) {
		visit_wrong(v, "out of memory");
		return;
	}
	if (!visit_loads(v) && size > 0) {
		nested->size = NESTED_MAX;
		if (ioctl(vcpu->fd, KVM_GET_NESTED_STATE, nested) < 0)
			visit_wrong(v, "KVM_GET_NESTED_STATE: %s",
				    strerror(errno));
		bytes = nested->size < NESTED_MAX ? nested->size : NESTED_MAX;
	}
	visit_room(v, "nested", nested, &bytes, NESTED_MAX);
	if (!visit_loads(v) || bytes == 0)
		return;
	nested->size = (uint32_t)bytes;
	if (bytes < sizeof(*nested) || size <= 0)
		visit_wrong(v, "this host cannot have guests of guests");
	else if (ioctl(vcpu->fd, KVM_SET_NESTED_STATE, nested) < 0)
		visit_wrong(v, "KVM_SET_NESTED_STATE: %s", strerror(errno));
}

/* ---- all of it */

/*
 * A deadline, or a clock, means another time at another rate. KVM measures the
 * rate with each boot of the host; so much may lie between two times.
 */
static void visit_tsc_rate(struct vcpu *vcpu, struct visitor *v)
{
	const int here = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);
	int32_t khz = here;

	if (here <= 0) {
		visit_wrong(v, "KVM_GET_TSC_KHZ: %s", strerror(errno));
		return;
	}
	visit_bytes(v, "tsc_khz", &khz, sizeof(khz));
	if (!visit_loads(v) || !visit_goes_on(v))
		return;
	/* 250 parts of a million: also what KVM takes for the same rate. */
	if (llabs((long long)khz - here) > here / 4000 &&
	    ioctl(vcpu->fd, KVM_SET_TSC_KHZ, khz) < 0)
		visit_wrong(v,
			    "saved with a TSC of %d kHz, here it has %d, and "
			    "this CPU cannot scale it",
			    khz, here);
}

static int tsc_offset(struct vcpu *vcpu, unsigned long request, int64_t *offset)
{
	const struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uintptr_t)offset,
	};

	return ioctl(vcpu->fd, request, &attr) < 0 ? -errno : 0;
}

static uint64_t read_tsc(struct vcpu *vcpu, struct visitor *v)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} one = {.head.nmsrs = 1, .entry.index = MSR_TSC};

	if (ioctl(vcpu->fd, KVM_GET_MSRS, &one) != 1)
		visit_wrong(v, "KVM does not give the TSC");
	return one.entry.data;
}

/* So much does a TSC count in PASSED_NS. */
static uint64_t tsc_ticks(struct vcpu *vcpu, uint64_t passed_ns)
{
	const int khz = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);

	return (uint64_t)((unsigned __int128)passed_ns *
			  (khz > 0 ? (unsigned)khz : 0) / 1000000);
}

/*
 * By its offset to the host's: a TSC that is written may be taken for an
 * attempt to make it equal to the other vCPUs', which are new, and be ignored
 * (KVM API, KVM_VCPU_TSC_OFFSET). *SHIFT is the difference between an offset
 * here and the one that was saved, the same for all: the first vCPU finds it.
 */
static void visit_tsc(struct vcpu *vcpu, struct visitor *v, uint64_t passed_ns,
		      int64_t *shift)
{
	int64_t here = 0, offset;
	uint64_t now, tsc;
	int r = tsc_offset(vcpu, KVM_GET_DEVICE_ATTR, &here);

	if (r < 0) {
		visit_wrong(v, "KVM_VCPU_TSC_OFFSET: %s: it needs Linux 5.16",
			    strerror(-r));
		return;
	}
	now = tsc = read_tsc(vcpu, v);
	offset = here;
	visit_bytes(v, "tsc", &tsc, sizeof(tsc));
	visit_bytes(v, "tsc_offset", &offset, sizeof(offset));
	if (!visit_loads(v) || !visit_goes_on(v))
		return;
	if (vcpu->id == 0)
		*shift = (int64_t)((uint64_t)here + tsc - now -
				   (uint64_t)offset +
				   tsc_ticks(vcpu, passed_ns));
	offset = (int64_t)((uint64_t)offset + (uint64_t)*shift);
	r = tsc_offset(vcpu, KVM_SET_DEVICE_ATTR, &offset);
	if (r < 0)
		visit_wrong(v, "KVM_VCPU_TSC_OFFSET: %s", strerror(-r));
}

static void visit_one(struct vcpu *vcpu, const struct kvm *kvm,
		      uint64_t passed_ns, struct visitor *v, int64_t *tsc_shift)
{
	struct kvm_mp_state mp = {0};
	struct kvm_regs regs = {0};
	struct kvm_sregs sregs = {0};
	struct kvm_xcrs xcrs = {0};
	struct kvm_debugregs debug = {0};
	struct kvm_lapic_state apic = {0};
	struct kvm_vcpu_events events = {0};
	char name[16];

	snprintf(name, sizeof(name), "vcpu%u", vcpu->id);
	visit_part(v, name);
	visit_cpuid(vcpu, v);
	visit_tsc_rate(vcpu, v);
	/* First: KVM takes a start-up IPI that waits when it is asked this. */
	visit_ioctl(vcpu, v, "mp_state", KVM_GET_MP_STATE, KVM_SET_MP_STATE,
		    &mp, sizeof(mp));
	visit_ioctl(vcpu, v, "regs", KVM_GET_REGS, KVM_SET_REGS, &regs,
		    sizeof(regs));
	visit_ioctl(vcpu, v, "sregs", KVM_GET_SREGS, KVM_SET_SREGS, &sregs,
		    sizeof(sregs));
	visit_xsave(vcpu, kvm, v);
	visit_ioctl(vcpu, v, "xcrs", KVM_GET_XCRS, KVM_SET_XCRS, &xcrs,
		    sizeof(xcrs));
	visit_ioctl(vcpu, v, "debugregs", KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS,
		    &debug, sizeof(debug));
	visit_ioctl(vcpu, v, "lapic", KVM_GET_LAPIC, KVM_SET_LAPIC, &apic,
		    sizeof(apic));
	/* Before the deadline, whose wait KVM counts when it is set. */
	visit_tsc(vcpu, v, passed_ns, tsc_shift);
	visit_msrs(vcpu, kvm, &apic, v);
	visit_nested(vcpu, kvm, v);
	visit_ioctl(vcpu, v, "events", KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS,
		    &events, sizeof(events));
	visit_part_end(v);
	/* The guest's watchdogs see a pause. EINVAL: it has no such clock. */
	if (visit_loads(v) && visit_goes_on(v))
		(void)ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, 0);
}

void vcpu_visit(struct vcpu *vcpu, unsigned count, const struct kvm *kvm,
		uint64_t passed_ns, struct visitor *v)
{
	int64_t tsc_shift = 0;

	for (unsigned i = 0; i < count; i++)
		visit_one(&vcpu[i], kvm, passed_ns, v, &tsc_shift);
}
