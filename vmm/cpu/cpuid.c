/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's CPUID: KVM's table of what this host supports, completed with the
 * parts that KVM leaves to the monitor. Without the hypervisor bit a guest
 * never looks for KVM's clock; without the deadline timer it calibrates the
 * APIC's against a slow clock.
 */
#include "vmm/base/kvm.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/cpu/vcpu.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define ENTRIES_MAX 256

/* Bits of leaf 1 (SDM 2A, CPUID). */
#define LEAF1_ECX_X2APIC       (1u << 21)
#define LEAF1_ECX_TSC_DEADLINE (1u << 24)
#define LEAF1_ECX_HYPERVISOR   (1u << 31)
#define LEAF1_EDX_HTT          (1u << 28)

struct topology {
	const struct kvm *kvm;
	unsigned id, ncpus, shift; /* shift: bits of an APIC id */
};

/* The bits that number NCPUS CPUs. */
static unsigned id_bits(unsigned ncpus)
{
	unsigned bits = 0;

	while (1u << bits < ncpus)
		bits++;
	return bits;
}

static void leaf_1(struct kvm_cpuid_entry2 *e, const struct topology *t)
{
	e->ebx = (e->ebx & 0xffff) | t->ncpus << 16 | t->id << 24;
	e->ecx |= LEAF1_ECX_HYPERVISOR | LEAF1_ECX_X2APIC;
	if (t->kvm->has_tsc_deadline)
		e->ecx |= LEAF1_ECX_TSC_DEADLINE;
	if (t->ncpus > 1)
		e->edx |= LEAF1_EDX_HTT;
	else
		e->edx &= ~LEAF1_EDX_HTT;
}

/* Leaves 0xb and 0x1f: one thread a core, all cores in one package. */
static void leaf_topology(struct kvm_cpuid_entry2 *e, const struct topology *t)
{
	enum { TYPE_INVALID, TYPE_SMT, TYPE_CORE };

	e->edx = t->id;
	switch (e->index) {
	case 0:
		e->eax = 0;
		e->ebx = 1;
		e->ecx = TYPE_SMT << 8 | e->index;
		break;
	case 1:
		e->eax = t->shift;
		e->ebx = t->ncpus;
		e->ecx = TYPE_CORE << 8 | e->index;
		break;
	default:
		e->eax = e->ebx = 0;
		e->ecx = TYPE_INVALID << 8 | e->index;
		break;
	}
}

static void complete(struct kvm_cpuid_entry2 *e, const struct topology *t)
{
	switch (e->function) {
	case 1:
		leaf_1(e, t);
		break;
	case 4: /* Intel: cores in the package share the last level */
		e->eax = (e->eax & 0x3fff) | (t->ncpus - 1) << 26;
		break;
	case 6: /* APERF/MPERF and energy hints are the host's business */
		e->ecx = 0;
		break;
	case 0xa: /* no performance counters: they would be the host's */
		e->eax = e->ebx = e->ecx = e->edx = 0;
		break;
	case 0xb:
	case 0x1f:
		leaf_topology(e, t);
		break;
	case 0x80000001: /* no AMD performance counter extensions */
		e->ecx &= ~(1u << 23 | 1u << 24 | 1u << 28);
		break;
	case 0x80000008:
		e->ecx = (e->ecx & ~0xf0ffu) | t->shift << 12 | (t->ncpus - 1);
		break;
	case 0x8000001e:
		e->eax = t->id;
		e->ebx = t->id; /* core id, one thread a core */
		e->ecx = 0;
		break;
	}
}

/*
 * KVM may list a topology leaf with subleaf 0 only: the others are added, as a
 * guest that sees HTT walks them (SDM 2A, CPUID leaf 0BH).
 */
static void add_topology(struct kvm_cpuid2 *table)
{
	unsigned highest = 0;
	struct kvm_cpuid_entry2 *zero = NULL;

	for (unsigned i = 0; i < table->nent; i++) {
		struct kvm_cpuid_entry2 *e = &table->entries[i];

		if (e->function != 0xb)
			continue;
		if (e->index == 0)
			zero = e;
		if (e->index > highest)
			highest = e->index;
	}
	for (unsigned index = highest + 1;
	     zero && index <= 2 && table->nent < ENTRIES_MAX; index++) {
		struct kvm_cpuid_entry2 *e = &table->entries[table->nent++];

		*e = *zero;
		e->index = index;
	}
}

int cpuid_set(const struct kvm *kvm, int vcpu_fd, unsigned id, unsigned ncpus)
{
	const struct topology t = {kvm, id, ncpus, id_bits(ncpus)};
	autofree struct kvm_cpuid2 *table = calloc(
		1, sizeof(*table) + ENTRIES_MAX * sizeof(table->entries[0]));

	if (!table)
		return log_ret(-ENOMEM, "vCPU %u: out of memory", id);
	table->nent = ENTRIES_MAX;
	if (ioctl(kvm->fd, KVM_GET_SUPPORTED_CPUID, table) < 0)
		return log_ret(-errno, "/dev/kvm: KVM_GET_SUPPORTED_CPUID: %s",
			       strerror(errno));
	add_topology(table);
	for (unsigned i = 0; i < table->nent; i++)
		complete(&table->entries[i], &t);
	if (ioctl(vcpu_fd, KVM_SET_CPUID2, table) < 0)
		return log_ret(-errno, "vCPU %u: KVM_SET_CPUID2: %s", id,
			       strerror(errno));
	return 0;
}
