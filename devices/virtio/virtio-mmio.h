/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MMIO transport, version 2 (virtio 1.2, 4.2). Knows no device.
 *
 * Where KVM can (KVM_CAP_READONLY_MEM), a device's register page is a read-only
 * memory slot whose bytes this file keeps up to date: the driver's reads
 * (identification, features, configuration, InterruptStatus) cost no exit.
 * Writes still arrive here, except QueueNotify and InterruptACK of a plain
 * queue interrupt, which end in ioeventfds inside KVM.
 */
#ifndef DEVICES_VIRTIO_VIRTIO_MMIO_H
#define DEVICES_VIRTIO_VIRTIO_MMIO_H

#include "vmm/base/bus.h"
#include "vmm/base/irq.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define VIRTIO_MMIO_BYTES 0x1000

struct virtio_dev;
struct visitor;

/* InterruptStatus (4.2.2). */
#define VIRTIO_INTERRUPT_VRING  1u
#define VIRTIO_INTERRUPT_CONFIG 2u

struct virtio_mmio {
	struct virtio_dev *dev; /* borrowed */
	uint64_t base;
	struct irq irq;
	uint8_t *page; /* borrowed: VIRTIO_MMIO_BYTES, what reads see */
	bool has_doorbells;
	int ack_fd; /* swallows InterruptACK writes of 1; -1 when unused */
	/* Register writes, one at a time; taken before the device's lock. */
	pthread_mutex_t lock;
	uint32_t features_sel, driver_features_sel, queue_sel;
	uint64_t driver_features;
};

/*
 * Puts DEV behind registers at BASE with interrupt GSI, which is SHARED's where
 * that is not NULL. PAGE: one page that the caller maps read-only for the guest
 * if MAPPED, and that outlives the transport. VM_FD is -1 in tests. Registers
 * ioeventfds when VM_FD is a VM and DEV not absent. 0 or -errno (logged).
 */
int virtio_mmio_init(struct virtio_mmio *t, struct virtio_dev *dev, int vm_fd,
		     uint64_t base, uint32_t gsi, const struct irq *shared,
		     uint8_t *page, bool mapped);
/*
 * Registers them, if they are not, for a device that was absent, before it is
 * there: without them its kicks would end in this program one by one. With the
 * same VM_FD. 0 or -errno (logged).
 */
int virtio_mmio_add_doorbells(struct virtio_mmio *t, int vm_fd);
/* Accepts a zeroed or half-made one. Before the device is freed. */
void virtio_mmio_done(struct virtio_mmio *t);

/*
 * The state of the registers and of the device behind them, which is paused. A
 * driver is interrupted once more after loading, in case the interrupt was
 * under way when this was saved: it finds nothing new then.
 */
void virtio_mmio_visit(struct virtio_mmio *t, struct visitor *v);

extern const struct bus_ops virtio_mmio_bus_ops; /* DEV: struct virtio_mmio */

#endif
