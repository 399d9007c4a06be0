/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that was loaded: the programs at the other ends of its connections
 * are another process's. The guest is told by an event (5.10.6.7), so that its
 * sockets end (ECONNRESET in Linux) and do not hang.
 *
 * Linux's driver then ends all connections that it has, new ones, too, which
 * the packets in the receive queue may have made meanwhile. So none is given
 * before it has put another buffer into the event queue, which it does after
 * the event was handled; or before a moment has passed, for drivers that do
 * not.
 */
#ifndef DEVICES_VIRTIO_VSOCK_END_H
#define DEVICES_VIRTIO_VSOCK_END_H

#include "vmm/base/loop.h"

#include <stdbool.h>

struct virtio_dev;

struct vsock_end {
	struct virtio_dev *d; /* borrowed */
	unsigned q;           /* the event queue */
	void (*go_on)(struct virtio_dev *d);
	bool due;                /* the guest is to learn of it */
	bool holding;            /* nothing is given before it has */
	unsigned buffers;        /* left in the queue when it was told */
	struct loop_timer timer; /* ends `holding` */
};

/*
 * GO_ON is called, with D's lock held, when time alone has ended `holding`. 0
 * or -errno. A zeroed one may be closed.
 */
int vsock_end_open(struct vsock_end *e, struct virtio_dev *d, unsigned q,
		   void (*go_on)(struct virtio_dev *d));
void vsock_end_close(struct vsock_end *e);
/* The guest is to be told when it goes on: vsock_end_resume(), then a kick. */
void vsock_end_begin(struct vsock_end *e);
void vsock_end_resume(struct vsock_end *e);
/* It need not: its driver has reset the device. */
void vsock_end_forget(struct vsock_end *e);
/* The event queue was kicked. May end `holding`. */
void vsock_end_take(struct vsock_end *e);

#endif
