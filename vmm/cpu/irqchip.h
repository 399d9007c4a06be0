/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interrupt controllers, the timer and the clock that KVM emulates for a VM
 * (KVM API, KVM_CREATE_IRQCHIP, KVM_CREATE_PIT2, KVM_GET_CLOCK).
 */
#ifndef VMM_CPU_IRQCHIP_H
#define VMM_CPU_IRQCHIP_H

struct kvm;

/*
 * Makes them, before the VM's vCPUs, and leaves the IOAPIC as firmware does. 0
 * or -errno (logged).
 */
int irqchip_create(const struct kvm *kvm);

#endif
