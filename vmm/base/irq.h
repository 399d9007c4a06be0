/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupt lines into the in-kernel IOAPIC. Edge lines go through an irqfd, so
 * that raising one is a write to an eventfd from any thread, without an ioctl
 * on the VM and without an exit.
 */
#ifndef VMM_BASE_IRQ_H
#define VMM_BASE_IRQ_H

#include <stdint.h>

/*
 * GSIs of the machine: VMGenID has 3 (firmware/machine.h); 5 up to IRQ_LAST are
 * handed out to virtio devices, and from the twentieth device on each is a
 * second device's, too.
 */
#define IRQ_SERIAL       4
#define IRQ_SCI          9
#define IRQ_VIRTIO_FIRST 5
#define IRQ_LAST         23
#define IRQ_VIRTIO_LINES (IRQ_LAST - IRQ_VIRTIO_FIRST + 1)

struct irq {
	int event_fd; /* owned; -1: none */
	uint32_t gsi;
};

/*
 * VM_FD is KVM's VM descriptor, or -1 in tests: then raising only counts in the
 * eventfd. 0 or -errno (logged).
 */
int irq_init(struct irq *irq, int vm_fd, uint32_t gsi);
/*
 * The line OF for one more device. Both raise it through one irqfd: of two
 * irqfds on a line, KVM may take an edge that one raises while the other holds
 * the line high for the same edge, and a device would wait for ever. Through
 * one, each raise is followed by an edge. 0 or -errno (logged).
 */
int irq_share(struct irq *irq, const struct irq *of);
void irq_done(struct irq *irq);

/* One edge. Any thread. */
void irq_raise(const struct irq *irq);

#endif
