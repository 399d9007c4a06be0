/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interrupt controllers, the timer and the clock that KVM emulates for a VM
 * (KVM API, KVM_CREATE_IRQCHIP, KVM_CREATE_PIT2, KVM_GET_CLOCK).
 */
#ifndef VMM_CPU_IRQCHIP_H
#define VMM_CPU_IRQCHIP_H

#include <stdint.h>

struct kvm;
struct visitor;

/*
 * Makes them, before the VM's vCPUs, and leaves the IOAPIC as firmware does. 0
 * or -errno (logged).
 */
int irqchip_create(const struct kvm *kvm);

/*
 * Their state, while no vCPU runs. An interrupt that is on its way to them when
 * this is saved is not part of it: devices raise theirs again. Loading: into
 * ones that irqchip_create() made, before the state of vCPUs.
 */
void irqchip_visit(const struct kvm *kvm, struct visitor *v);
/*
 * KVM's clock; after the vCPUs, whose TSC it goes by. It goes on from where it
 * was saved, PASSED_NS later, as their TSCs do.
 */
void irqchip_visit_clock(const struct kvm *kvm, uint64_t passed_ns,
			 struct visitor *v);

#endif
