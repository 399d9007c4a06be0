/* SPDX-License-Identifier: Apache-2.0 */
/* A loaded guest is told that its connections are over, before new ones are. */
#include "devices/virtio/vsock-end.h"

#include "devices/virtio/virtio.h"
#include "vmm/base/iov.h"
#include "vmm/base/util.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_vsock.h>

#define EVENTS_MAX 128 /* entries of the queue, at most */

/* New connections wait so long at most. */
#define HOLD_NS UINT64_C(1000000000)

/* Buffers there are; they stay. RET_FIRST: the first one is taken. */
static int count_events(struct vsock_end *e, struct iov_chain *ret_first)
{
	struct vq *vq = &e->d->vq[e->q];
	struct iovec iov[EVENTS_MAX];
	struct iov_chain chain = {.iov = iov, .iov_max = EVENTS_MAX};
	unsigned n = 0;
	int r;

	while (n < EVENTS_MAX && (r = vq_pop(vq, &chain)) > 0)
		n++;
	if (n < EVENTS_MAX && r < 0) {
		virtio_broken(e->d, "malformed event buffer");
		return r;
	}
	for (unsigned i = n; i > 0; i--)
		vq_unpop(vq);
	if (n > 0 && ret_first)
		(void)vq_pop(vq, ret_first);
	return (int)n;
}

static void tell_end(struct vsock_end *e)
{
	const struct virtio_vsock_event event = {
		.id = htole32(VIRTIO_VSOCK_EVENT_TRANSPORT_RESET)};
	struct iovec iov[EVENTS_MAX];
	struct iov_chain chain = {.iov = iov, .iov_max = EVENTS_MAX};
	const int n = count_events(e, &chain);

	if (n <= 0)
		return;
	if (iov_write(iov + chain.nout, chain.nin, 0, &event, sizeof(event)) !=
	    sizeof(event)) {
		virtio_broken(e->d, "event buffer without room");
		return;
	}
	vq_push(&e->d->vq[e->q], chain.head, sizeof(event));
	e->due = false;
	e->buffers = (unsigned)n - 1;
	virtio_publish(e->d, e->q);
}

/* A kick for the next buffer; true: it is there already. */
static bool await_buffer(struct vsock_end *e)
{
	struct vq *vq = &e->d->vq[e->q];
	const unsigned next = e->due ? 1 : e->buffers + 1;

	if (vq->event_idx)
		return vq_enable_kicks_after(vq, (uint16_t)next);
	(void)vq_enable_kicks(vq);
	return count_events(e, NULL) >= (int)next;
}

void vsock_end_take(struct vsock_end *e)
{
	while (e->d->running && (e->due || e->holding)) {
		if (e->due)
			tell_end(e);
		else if (count_events(e, NULL) > (int)e->buffers)
			e->holding = false;
		if (!await_buffer(e))
			return;
	}
}

static void held_for_long(struct loop_timer *timer)
{
	struct vsock_end *e = container_of(timer, struct vsock_end, timer);

	virtio_lock(e->d);
	e->holding = false;
	e->go_on(e->d);
	virtio_unlock(e->d);
}

int vsock_end_open(struct vsock_end *e, struct virtio_dev *d, unsigned q,
		   void (*go_on)(struct virtio_dev *d))
{
	*e = (struct vsock_end){.d = d, .q = q, .go_on = go_on};
	return loop_timer_open(d->loop, &e->timer, held_for_long);
}

void vsock_end_close(struct vsock_end *e)
{
	loop_timer_close(&e->timer);
}

void vsock_end_begin(struct vsock_end *e)
{
	e->due = e->holding = true;
}

void vsock_end_forget(struct vsock_end *e)
{
	e->due = e->holding = false;
}

void vsock_end_resume(struct vsock_end *e)
{
	if (e->holding)
		(void)loop_timer_set(&e->timer, util_now_ns() + HOLD_NS);
}
