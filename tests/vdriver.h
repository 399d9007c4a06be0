/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plays the guest's driver in plain memory, for tests and fuzzers of virtio
 * devices: no KVM, no guest. The device sits behind its MMIO registers; its
 * rings and buffers lie in 32 MiB of memory that both sides see.
 *
 *	struct vdriver *v = vdriver_new(&virtio_blk, "/tmp/disk,readonly");
 *	struct iovec out = vdriver_buf(v, &header, sizeof(header));
 *	struct iovec in = vdriver_buf(v, NULL, 513);
 *
 *	vdriver_up(v, UINT64_MAX);     // everything offered, DRIVER_OK
 *	vdriver_add(v, 0, &out, 1, &in, 1);
 *	vdriver_kick(v, 0);
 *	head = vdriver_wait_used(v, 0, &written, PATIENCE_MS);
 *	vdriver_free(v);
 *
 * A driver that does wrong on purpose uses vdriver_write32(),
 * vdriver_desc() and vdriver_avail(). A mistake of the test's own (out of
 * memory, no such queue) aborts with a message.
 *
 * All functions belong to the test's one thread. The device's handlers run on
 * the loop's thread; a test that touches the device itself takes its lock.
 */
#ifndef TESTS_VDRIVER_H
#define TESTS_VDRIVER_H

#include "devices/virtio/virtio-mmio.h"
#include "devices/virtio/virtio.h"
#include "tests/patience.h"
#include "vmm/config/config.h"
#include "vmm/base/loop.h"
#include "vmm/base/mem.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct vdriver_queue {
	uint16_t size;
	gpa_t desc, avail, used;
	uint16_t avail_idx; /* made available; as written into the ring */
	uint16_t kicked;    /* avail_idx at the last vdriver_kick() */
	uint16_t seen;      /* used entries taken */
	uint16_t next[VQ_MAX_SIZE]; /* this driver's own copy of the chains */
	bool busy[VQ_MAX_SIZE];
};

struct vdriver {
	struct mem mem;
	struct loop *loop; /* own_loop, or the caller's */
	struct loop own_loop;
	struct config_device cfg;
	struct virtio_dev *dev;
	struct virtio_mmio mmio;
	uint8_t *page;
	gpa_t next_free;
	uint64_t features; /* accepted by both sides */
	struct vdriver_queue queue[VIRTIO_QUEUES_MAX];
};

/*
 * A device of OPS with TEXT as on the command line: "file,readonly,id=x" or
 * NULL. Its loop has a thread. NULL when the device's open() failed.
 */
struct vdriver *vdriver_new(const struct virtio_ops *ops, const char *text);
/*
 * The same on the caller's LOOP, which the caller runs (or leaves alone, and
 * calls vdriver_poll()) and ends before vdriver_free(); TERMINAL for a console.
 */
struct vdriver *vdriver_new_on(const struct virtio_ops *ops, const char *text,
			       struct loop *loop, struct terminal *terminal);
/*
 * The same as one of several devices of a VM: HOST's loop (NULL: its own, with
 * no thread), terminal and files; the memory is the device's alone.
 */
struct vdriver *vdriver_new_of(const struct virtio_ops *ops, const char *text,
			       const struct virtio_host *host);
void vdriver_free(struct vdriver *v); /* NULL is fine */
/* Runs the handlers of kicked queues here; only when no thread runs LOOP. */
void vdriver_poll(struct vdriver *v);

/* ---- registers and configuration space, through virtio_mmio_bus_ops */

uint32_t vdriver_read32(struct vdriver *v, unsigned off);
void vdriver_write32(struct vdriver *v, unsigned off, uint32_t value);
void vdriver_config_read(struct vdriver *v, unsigned off, void *buf,
			 unsigned len);
void vdriver_config_write(struct vdriver *v, unsigned off, const void *buf,
			  unsigned len);

/* ---- set-up (3.1.1); each step alone, or all of them by vdriver_up() */

void vdriver_reset(struct vdriver *v); /* also forgets chains and memory */
uint64_t vdriver_offered(struct vdriver *v);
/*
 * ACKNOWLEDGE, DRIVER, the features of FEATURES that the device offers, and
 * VERSION_1, up to FEATURES_OK. False: the device refused.
 */
bool vdriver_negotiate(struct vdriver *v, uint64_t features);
/* Accepts exactly FEATURES, offered or not. */
bool vdriver_negotiate_exactly(struct vdriver *v, uint64_t features);
/* Rings of SIZE entries (0: as many as offered) for queue Q. True: ready. */
bool vdriver_setup_queue(struct vdriver *v, unsigned q, unsigned size);
/* DRIVER_OK. True: the device runs. */
bool vdriver_start(struct vdriver *v);
/* Reset, negotiation, all queues, DRIVER_OK. True: the device runs. */
bool vdriver_up(struct vdriver *v, uint64_t features);
bool vdriver_needs_reset(struct vdriver *v);

/* ---- memory: valid until vdriver_reset() */

/* BYTES of zeroed guest memory. */
void *vdriver_alloc(struct vdriver *v, size_t bytes);
/* The same as an iovec, with a copy of DATA if that is not NULL. */
struct iovec vdriver_buf(struct vdriver *v, const void *data, size_t bytes);
gpa_t vdriver_gpa(const struct vdriver *v, const void *host);

/* ---- buffers */

/*
 * Makes a chain available: OUT is readable for the device, IN writable, all
 * within guest memory. The head, or -1 when there are not enough descriptors.
 */
int vdriver_add(struct vdriver *v, unsigned q, const struct iovec *out,
		unsigned nout, const struct iovec *in, unsigned nin);
/* The same behind one indirect descriptor. */
int vdriver_add_indirect(struct vdriver *v, unsigned q, const struct iovec *out,
			 unsigned nout, const struct iovec *in, unsigned nin);
/* Kicks unless the device asked for none. Whether it did. */
bool vdriver_kick(struct vdriver *v, unsigned q);
/* Whether it would; with EVENT_IDX for what was added since the last kick. */
bool vdriver_kick_wanted(struct vdriver *v, unsigned q);
/* How often the device has woken up for a kick, the driver's or its own. */
uint64_t vdriver_kicks(struct vdriver *v);
/* Takes one used chain: its head, or -1; RET_WRITTEN may be NULL. */
int vdriver_get_used(struct vdriver *v, unsigned q, uint32_t *ret_written);
/* The same, but waits for it. -1: not within PATIENCE_MS. */
int vdriver_wait_used(struct vdriver *v, unsigned q, uint32_t *ret_written,
		      unsigned timeout_ms);
/*
 * One request from end to end: adds, kicks, waits 5 s. The number of bytes that
 * the device says it wrote, or -1.
 */
int64_t vdriver_request(struct vdriver *v, unsigned q, const struct iovec *out,
			unsigned nout, const struct iovec *in, unsigned nin);
/* Waits until COND's device state is SET: NEEDS_RESET. False: not in 5 s. */
bool vdriver_wait_needs_reset(struct vdriver *v);

/*
 * How many chains of queue Q the device has taken and not published, or has
 * published without having taken them. For devices that rest: takes the lock.
 */
unsigned vdriver_held(struct vdriver *v, unsigned q);
/* virtio_pause(), after which no queue may hold a chain. */
void vdriver_pause(struct vdriver *v);

/* ---- saved, and loaded into another */

/* A device's state, and its guest: memory, and what the driver knows. */
struct vdriver_saved {
	uint8_t *state;      /* owned, as is the next */
	uint8_t *ram;        /* up to next_free */
	size_t bytes;        /* of the state */
	const uint8_t *host; /* where the RAM was */
	gpa_t next_free;
	uint64_t features;
	struct vdriver_queue queue[VIRTIO_QUEUES_MAX];
};

/* Saves a device that vdriver_pause() has paused. 0 or -errno (logged). */
int vdriver_save(struct vdriver *v, struct vdriver_saved *ret);
/*
 * Into a new one, which is paused, and rests until virtio_resume(). 0 or -errno
 * (logged): it is good for vdriver_free() then.
 */
int vdriver_load(struct vdriver *v, const struct vdriver_saved *saved);
/* Where in the guest's memory of V that is which was at HOST. */
void *vdriver_moved(struct vdriver *v, const struct vdriver_saved *saved,
		    const void *host);
void vdriver_saved_done(struct vdriver_saved *saved);

/* ---- interrupts */

/* How many were raised since the last call. */
unsigned vdriver_interrupts(struct vdriver *v);
/* InterruptStatus, acknowledged. */
uint32_t vdriver_acknowledge(struct vdriver *v);
/*
 * Waits for the interrupt of a configuration change, and acknowledges it. A
 * test that has read the new value must wait, too: the device's thread raises
 * the interrupt after it has changed the configuration.
 */
bool vdriver_wait_config_change(struct vdriver *v);
/* With EVENT_IDX: interrupt when the used index passes IDX. Else a flag. */
void vdriver_want_interrupt(struct vdriver *v, unsigned q, uint16_t idx);
void vdriver_no_interrupts(struct vdriver *v, unsigned q, bool none);

/* ---- for hostile drivers: raw ring contents, no checks */

struct vring_desc;
struct vring_desc *vdriver_desc(struct vdriver *v, unsigned q, unsigned i);
void vdriver_set_desc(struct vring_desc *desc, uint64_t addr, uint32_t len,
		      uint16_t flags, uint16_t next);
/* Puts HEAD into the avail ring and moves the index on by one. */
void vdriver_avail(struct vdriver *v, unsigned q, uint16_t head);
void vdriver_set_avail_idx(struct vdriver *v, unsigned q, uint16_t idx);

#endif
