/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split virtqueues (virtio 1.2, 2.7), seen from the device. A device pops
 * chains of checked buffers and pushes them back; it never sees a ring, a
 * descriptor or a guest address. All that the guest writes into its rings is
 * copied once, then checked.
 *
 * A queue is used by one thread at a time: the caller holds the device's lock.
 */
#ifndef DEVICES_VIRTIO_VQ_H
#define DEVICES_VIRTIO_VQ_H

#include "vmm/base/iov.h"
#include "vmm/base/mem.h"

#include <stdbool.h>
#include <stdint.h>

#define VQ_MAX_SIZE 1024

struct vring_desc;
struct vring_avail;
struct vring_used;
struct visitor;

struct vq {
	const struct mem *mem; /* borrowed */
	uint16_t max;          /* entries offered, a power of two */
	/* the driver's choice; addresses become pointers in vq_enable() */
	uint16_t size;
	gpa_t desc_gpa, avail_gpa, used_gpa;
	bool ready;
	bool event_idx, indirect; /* negotiated */

	struct vring_desc *desc; /* in guest RAM, as are the next two */
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t next_avail; /* the next avail entry to pop */
	uint16_t next_used;  /* where the next push goes */
	uint16_t published;  /* next_used at the last vq_publish() */
	bool broken;         /* the guest broke the rules; pops give -EPROTO */
};

void vq_init(struct vq *vq, const struct mem *mem, uint16_t max);
void vq_reset(struct vq *vq);

/*
 * The driver set QueueReady: checks size, alignment and that all three rings
 * lie in RAM. 0 or -EINVAL (the caller marks the device as needing reset).
 */
int vq_enable(struct vq *vq, uint64_t features);

/*
 * Its state, on which a device has no chain; loading checks it as vq_enable()
 * does, and against what a device may have under way.
 */
void vq_visit(struct vq *vq, struct visitor *v);

/*
 * Takes the next available chain. 1: CHAIN is filled. 0: nothing there.
 * -EPROTO: the guest broke the rules (bad index, loop, buffer outside RAM, more
 * than iov_max buffers, readable after writable, zero-length indirect table);
 * the queue stays broken until reset.
 */
int vq_pop(struct vq *vq, struct iov_chain *chain);

/* Puts the last popped chain back as if never popped. */
void vq_unpop(struct vq *vq);

/*
 * Returns the chain with HEAD, of which the device wrote WRITTEN bytes. The
 * guest sees it after vq_publish().
 */
void vq_push(struct vq *vq, uint16_t head, uint32_t written);

/*
 * Publishes all pushes so far. True: the driver wants an interrupt (2.7.7).
 */
bool vq_publish(struct vq *vq);

/*
 * Suppresses or asks for kicks. vq_enable_kicks() returns true when chains
 * arrived meanwhile: the caller has to pop again (2.7.10).
 */
void vq_disable_kicks(struct vq *vq);
bool vq_enable_kicks(struct vq *vq);
/*
 * The same for a device that looks by itself, too: asks for a kick when COUNT
 * more chains are there; for none, if the driver has no EVENT_IDX.
 */
bool vq_enable_kicks_after(struct vq *vq, uint16_t count);

#endif
