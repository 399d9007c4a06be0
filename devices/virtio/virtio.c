/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts that all virtio devices share: life, feature negotiation, status,
 * queue set-up, kicks. Knows no transport's registers and no device's requests.
 *
 * A device's kicks arrive on its loop's thread only. Its own thread, if it
 * wants one, starts with the first DRIVER_OK: a disk the guest never uses costs
 * no thread, and none delays the guest's start.
 */
#include "devices/virtio/virtio.h"

#include "vmm/base/util.h"
#include "vmm/base/visit.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#define BIT(n) (UINT64_C(1) << (n))

/* Offered by every device: vq.c implements them. */
#define COMMON_FEATURES                                                        \
	(BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_EVENT_IDX) |              \
	 BIT(VIRTIO_RING_F_INDIRECT_DESC))

/*
 * The loop's thread may have fetched this event before a reset: what counts is
 * the device's state now, under its lock.
 */
static void kick_ready(struct loop_source *source, uint32_t events)
{
	struct virtio_queue_kick *kick =
		container_of(source, struct virtio_queue_kick, source);
	struct virtio_dev *d = kick->dev;

	(void)events;
	virtio_lock(d);
	if (d->running && d->vq[kick->index].ready) {
		d->kicks++;
		d->ops->kick(d, kick->index);
	}
	virtio_unlock(d);
}

static int init_kick(struct virtio_dev *d, unsigned q)
{
	struct loop_source *source = &d->kick[q].source;
	int r;

	source->fd = loop_eventfd();
	/* By edges: each kick is one, and the count is of no interest. */
	r = source->fd < 0 ? source->fd
			   : loop_add(d->loop, source, EPOLLIN | EPOLLET);
	if (r < 0)
		return log_ret(r, "%s: queue %u: %s", d->name, q, strerror(-r));
	return 0;
}

static int init_loop(struct virtio_dev *d)
{
	int r;

	if (!d->ops->own_thread)
		return 0;
	r = loop_init(&d->own_loop);
	d->loop = &d->own_loop;
	if (r < 0)
		return log_ret(r, "%s: event loop: %s", d->name, strerror(-r));
	return 0;
}

static int open_device(struct virtio_dev *d, const struct config_device *cfg)
{
	int r = init_loop(d);

	for (unsigned q = 0; q < d->ops->nqueues && r == 0; q++)
		r = init_kick(d, q);
	if (r < 0)
		return r;
	/* From here on close() is due: it relies on what open() set up. */
	d->state = calloc(1, d->ops->state_size + 1);
	if (!d->state)
		return log_ret(-ENOMEM, "%s: out of memory", d->name);
	virtio_lock(d);
	r = d->ops->open(d, cfg);
	virtio_unlock(d);
	return r;
}

int virtio_new(const struct virtio_ops *ops, const struct config_device *cfg,
	       unsigned index, const struct virtio_host *host,
	       struct virtio_dev **ret_dev)
{
	struct virtio_dev *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return log_ret(-ENOMEM, "%s%u: out of memory", ops->type.name,
			       index);
	d->ops = ops;
	snprintf(d->name, sizeof(d->name), "%s%u", ops->type.name, index);
	d->mem = host->mem;
	d->loop = host->loop;
	d->own_loop = (struct loop){.epoll_fd = -1, .wake_fd = -1};
	d->terminal = host->terminal;
	d->files = host->files;
	d->machine = host->machine;
	d->features = ops->features | COMMON_FEATURES;
	pthread_mutex_init(&d->lock, NULL);
	for (unsigned q = 0; q < VIRTIO_QUEUES_MAX; q++) {
		d->kick[q] = (struct virtio_queue_kick){
			.source = {.fd = -1, .fn = kick_ready},
			.dev = d,
			.index = q,
		};
		if (q < ops->nqueues)
			vq_init(&d->vq[q], host->mem, ops->queue_max);
	}
	r = open_device(d, cfg);
	if (r < 0) {
		virtio_free(d);
		return r;
	}
	*ret_dev = d;
	return 0;
}

static void reset(struct virtio_dev *d)
{
	d->running = false;
	if (d->started && d->ops->stop)
		d->ops->stop(d);
	d->started = false;
	d->config_untold = false;
	for (unsigned q = 0; q < d->ops->nqueues; q++)
		vq_reset(&d->vq[q]);
	d->acked = 0;
	d->status = 0;
}

void virtio_free(struct virtio_dev *d)
{
	if (!d)
		return;
	virtio_lock(d);
	reset(d);
	virtio_unlock(d);
	/* No handler of the device's own thread runs after this. */
	loop_done(&d->own_loop);
	for (unsigned q = 0; q < d->ops->nqueues; q++)
		loop_del(d->loop, &d->kick[q].source);
	if (d->kicks > 0)
		log_debug("%s: %llu kicks, %llu interrupts", d->name,
			  (unsigned long long)d->kicks,
			  (unsigned long long)d->interrupts);
	if (d->state) {
		virtio_lock(d);
		d->ops->close(d);
		virtio_unlock(d);
	}
	for (unsigned q = 0; q < d->ops->nqueues; q++)
		util_close(&d->kick[q].source.fd);
	pthread_mutex_destroy(&d->lock);
	free(d->state);
	free(d);
}

struct thread_start {
	struct virtio_dev *dev;
	int (*confine)(const struct virtio_dev *d);
};

static int begin_thread(void *arg)
{
	const struct thread_start *start = arg;
	struct virtio_dev *d = start->dev;
	int r = d->ops->thread ? d->ops->thread(d) : 0;

	if (r == 0 && start->confine)
		r = start->confine(d);
	return r;
}

int virtio_start_thread(struct virtio_dev *d,
			int (*confine)(const struct virtio_dev *d))
{
	struct thread_start start = {.dev = d, .confine = confine};

	return loop_start_thread_with(&d->own_loop, d->name, begin_thread,
				      &start);
}

void virtio_resized(struct virtio_dev *d)
{
	if (!d->ops->resized)
		return;
	virtio_lock(d);
	d->ops->resized(d);
	virtio_unlock(d);
}

void virtio_set_transport(struct virtio_dev *d,
			  const struct virtio_transport_ops *ops,
			  void *transport)
{
	virtio_lock(d);
	d->transport_ops = ops;
	d->transport = transport;
	if (ops)
		ops->mirror(transport);
	virtio_unlock(d);
}

/* The driver's view changed: an INTERRUPT tells it, or it looks by itself. */
static void tell(struct virtio_dev *d, bool interrupt)
{
	if (!d->transport_ops)
		return;
	d->transport_ops->mirror(d->transport);
	if (interrupt)
		d->transport_ops->config(d->transport);
}

uint8_t virtio_status(struct virtio_dev *d)
{
	uint8_t status;

	virtio_lock(d);
	status = d->status;
	virtio_unlock(d);
	return status;
}

int virtio_plug(struct virtio_dev *d, const struct virtio_plug *plug)
{
	int r = -ENOTSUP;

	virtio_lock(d);
	/* Linux acknowledges again what its driver has left. */
	if (d->absent && !(d->status & VIRTIO_CONFIG_S_DRIVER))
		reset(d);
	if (!d->absent || d->hidden || d->status)
		r = -EBUSY;
	else if (d->ops->plug)
		r = d->ops->plug(d, plug);
	if (r == 0) {
		d->absent = false;
		virtio_config_changed(d);
	}
	virtio_unlock(d);
	return r;
}

int virtio_unplug(struct virtio_dev *d)
{
	int r = -ENOTSUP;

	virtio_lock(d);
	if (d->absent && !d->hidden)
		r = -ENODEV;
	else if (d->ops->unplug)
		r = 0;
	if (r == 0) {
		d->ops->unplug(d);
		d->absent = true;
		d->hidden = false;
		virtio_config_changed(d);
	}
	virtio_unlock(d);
	return r;
}

int virtio_adopt(struct virtio_dev *d, const struct virtio_adoption *a)
{
	int r = 0;

	virtio_lock(d);
	if (a)
		d->machine = a->machine;
	if (d->ops->adopt)
		r = d->ops->adopt(d, a);
	virtio_unlock(d);
	return r;
}

int virtio_hide(struct virtio_dev *d)
{
	int r = -EBUSY;

	virtio_lock(d);
	if (!d->absent && !d->status) {
		d->absent = d->hidden = true;
		virtio_config_changed(d);
		r = 0;
	}
	virtio_unlock(d);
	return r;
}

void virtio_show(struct virtio_dev *d)
{
	virtio_lock(d);
	if (d->hidden) {
		reset(d);
		d->absent = d->hidden = false;
		virtio_config_changed(d);
	}
	virtio_unlock(d);
}

/* 2.2.2: the driver reads back whether the device agrees. */
static bool features_fit(struct virtio_dev *d)
{
	const uint64_t unknown = d->acked & ~d->features;

	if (unknown)
		log_guest(&d->limit,
			  "%s: the driver accepts features that were not "
			  "offered (%#llx)",
			  d->name, (unsigned long long)unknown);
	else if (!virtio_acked(d, VIRTIO_F_VERSION_1))
		log_guest(&d->limit,
			  "%s: the driver does not accept VIRTIO_F_VERSION_1: "
			  "drivers from before virtio 1.0 cannot use it",
			  d->name);
	return !unknown && virtio_acked(d, VIRTIO_F_VERSION_1);
}

/* For those that came while nobody listened. */
static void kick_all(struct virtio_dev *d)
{
	for (unsigned q = 0; q < d->ops->nqueues && d->running; q++) {
		if (d->vq[q].ready)
			loop_signal(d->kick[q].source.fd);
	}
}

/*
 * A driver may have made buffers available before DRIVER_OK: every queue in use
 * is kicked now.
 */
static int ensure_thread(struct virtio_dev *d)
{
	if (!d->ops->own_thread || d->own_loop.has_thread)
		return 0;
	return virtio_start_thread(d, NULL);
}

static void start(struct virtio_dev *d)
{
	const int r = ensure_thread(d);

	if (r < 0) {
		virtio_broken(d, "cannot start its thread: %s", strerror(-r));
		return;
	}
	d->running = true;
	d->started = true;
	if (d->ops->start)
		d->ops->start(d);
	kick_all(d);
}

void virtio_pause(struct virtio_dev *d)
{
	virtio_lock(d);
	d->paused = true;
	if (d->running) {
		if (d->ops->pause)
			d->ops->pause(d);
		virtio_publish_all(d);
		d->running = false;
	}
	virtio_unlock(d);
}

void virtio_resume(struct virtio_dev *d)
{
	virtio_lock(d);
	d->paused = false;
	if (d->started && !(d->status & VIRTIO_CONFIG_S_NEEDS_RESET)) {
		d->running = true;
		if (d->ops->resume)
			d->ops->resume(d);
		kick_all(d);
	}
	if (d->config_untold)
		tell(d, d->running);
	d->config_untold = false;
	virtio_unlock(d);
}

/*
 * A driver that was there when the device was saved: it is here, too, without
 * its DRIVER_OK. The device makes of d->acked what it makes of it then.
 */
static void start_loaded(struct virtio_dev *d, struct visitor *v)
{
	const uint8_t needed =
		VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK;
	const uint8_t status = d->status;
	int r;

	if ((status & needed) != needed) {
		visit_wrong(v, "started by no driver (status %#x)", status);
		return;
	}
	r = ensure_thread(d);
	if (r < 0) {
		visit_wrong(v, "cannot start its thread: %s", strerror(-r));
		return;
	}
	if (d->ops->start)
		d->ops->start(d);
	if (d->status != status)
		visit_wrong(v, "it cannot go on with what its driver accepted");
}

static void check_loaded(struct virtio_dev *d, struct visitor *v)
{
	const uint64_t unknown = d->acked & ~d->features;

	if (!visit_goes_on(v))
		return;
	if (unknown)
		visit_wrong(v,
			    "its driver uses features that are not offered "
			    "here (%#llx)",
			    (unsigned long long)unknown);
	else if (d->started)
		start_loaded(d, v);
}

/* The parts that the type of device knows of. */
static void visit_own(struct virtio_dev *d, struct visitor *v)
{
	if (!d->ops->visit && d->ops->state_size > 0)
		visit_wrong(v, "devices of this type have no state to save");
	if (d->ops->visit_backend && visit_goes_on(v))
		d->ops->visit_backend(d, v);
	if (visit_loads(v))
		check_loaded(d, v);
	if (d->ops->visit && visit_goes_on(v))
		d->ops->visit(d, v);
}

/*
 * There may be a device in a place that had none, for a driver that looks there
 * again; or none any more, as if it had been taken away.
 */
static void visit_place(struct virtio_dev *d, struct visitor *v,
			bool was_absent)
{
	if (was_absent == d->absent)
		return;
	if (was_absent && (d->status & VIRTIO_CONFIG_S_DRIVER)) {
		visit_wrong(v, "a driver is in the place of a device that was "
			       "taken away");
		return;
	}
	if (was_absent)
		reset(d);
	else
		d->ops->unplug(d);
	virtio_config_changed(d);
}

void virtio_visit(struct virtio_dev *d, struct visitor *v)
{
	uint8_t own[VIRTIO_CONFIG_MAX];
	bool absent;

	virtio_lock(d);
	assert(d->paused && !d->running);
	absent = d->absent;
	visit_part(v, d->name);
	visit_same(v, "id", &d->ops->id, sizeof(d->ops->id));
	VISIT(v, d, acked);
	VISIT(v, d, status);
	VISIT(v, d, started);
	visit_bool(v, "absent", &absent);
	VISIT(v, d, config_untold);
	VISIT(v, d, config_generation);
	visit_same(v, "config_bytes", &d->config_bytes,
		   sizeof(d->config_bytes));
	visit_bytes(v, "config", absent && !d->absent ? own : d->config,
		    sizeof(d->config));
	for (unsigned q = 0; q < d->ops->nqueues; q++)
		vq_visit(&d->vq[q], v);
	visit_own(d, v);
	if (visit_loads(v) && visit_goes_on(v))
		visit_place(d, v, absent);
	/* Half loaded, it has no driver to stop for. */
	if (visit_loads(v) && !visit_goes_on(v))
		d->started = false;
	visit_part_end(v);
	virtio_unlock(d);
}

/* Takes the bits that are the driver's to set (2.1), and no others. */
static void add_status(struct virtio_dev *d, uint8_t added)
{
	/* 4.2.2: a driver ignores what has the number 0. */
	if (d->absent && !d->started)
		return;
	d->status |= added & (VIRTIO_CONFIG_S_ACKNOWLEDGE |
			      VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FAILED);
	if ((added & VIRTIO_CONFIG_S_FEATURES_OK) && features_fit(d))
		d->status |= VIRTIO_CONFIG_S_FEATURES_OK;
	if (!(added & VIRTIO_CONFIG_S_DRIVER_OK))
		return;
	if (!(d->status & VIRTIO_CONFIG_S_FEATURES_OK)) {
		log_guest(&d->limit, "%s: DRIVER_OK without FEATURES_OK",
			  d->name);
		return;
	}
	d->status |= VIRTIO_CONFIG_S_DRIVER_OK;
	/* Broken during set-up: now the driver may be told (2.1.2). */
	if (d->status & VIRTIO_CONFIG_S_NEEDS_RESET)
		tell(d, true);
	else
		start(d);
}

void virtio_set_status(struct virtio_dev *d, uint8_t status)
{
	virtio_lock(d);
	if (status == 0)
		reset(d);
	else
		add_status(d, status & ~d->status);
	tell(d, false);
	virtio_unlock(d);
}

/* 3.1.1: once FEATURES_OK is set the choice is final. */
void virtio_set_features(struct virtio_dev *d, uint64_t features)
{
	virtio_lock(d);
	if (!(d->status & VIRTIO_CONFIG_S_FEATURES_OK))
		d->acked = features;
	virtio_unlock(d);
}

/* The queue, if it is there and may still be configured. */
static struct vq *unset_queue(struct virtio_dev *d, unsigned q)
{
	if (q >= d->ops->nqueues || d->vq[q].ready)
		return NULL;
	return &d->vq[q];
}

void virtio_queue_set_size(struct virtio_dev *d, unsigned q, uint32_t size)
{
	struct vq *vq;

	virtio_lock(d);
	vq = unset_queue(d, q);
	if (vq)
		vq->size = size <= vq->max ? (uint16_t)size : 0;
	virtio_unlock(d);
}

void virtio_queue_set_address(struct virtio_dev *d, unsigned q,
			      enum virtio_ring ring, bool high, uint32_t half)
{
	struct vq *vq;
	gpa_t *gpa;

	virtio_lock(d);
	vq = unset_queue(d, q);
	if (vq) {
		gpa = ring == VIRTIO_RING_DESC    ? &vq->desc_gpa
		      : ring == VIRTIO_RING_AVAIL ? &vq->avail_gpa
						  : &vq->used_gpa;
		if (high)
			*gpa = (*gpa & UINT32_MAX) | (gpa_t)half << 32;
		else
			*gpa = (*gpa & ~(gpa_t)UINT32_MAX) | half;
	}
	virtio_unlock(d);
}

/*
 * 3.1.1 has queues set up between FEATURES_OK and DRIVER_OK. Setting one up
 * later would be VIRTIO_F_RING_RESET, which is not offered; the device may
 * still have chains of the queue's former life.
 */
static void enable_queue(struct virtio_dev *d, unsigned q)
{
	const uint8_t set_up = d->status & (VIRTIO_CONFIG_S_FEATURES_OK |
					    VIRTIO_CONFIG_S_DRIVER_OK);

	if (set_up != VIRTIO_CONFIG_S_FEATURES_OK)
		log_guest(&d->limit, "%s: queue %u enabled %s", d->name, q,
			  set_up ? "after DRIVER_OK" : "before FEATURES_OK");
	else if (vq_enable(&d->vq[q], d->acked) < 0)
		virtio_broken(d, "queue %u: bad size or ring address", q);
}

void virtio_queue_set_ready(struct virtio_dev *d, unsigned q, bool ready)
{
	virtio_lock(d);
	if (q < d->ops->nqueues && !ready)
		d->vq[q].ready = false;
	else if (unset_queue(d, q))
		enable_queue(d, q);
	virtio_unlock(d);
}

/* No lock: the handler decides whether the kick means anything. */
void virtio_queue_kick(struct virtio_dev *d, unsigned q)
{
	if (q < d->ops->nqueues)
		loop_signal(d->kick[q].source.fd);
}

/* 2.5: what the device does not take from the driver is read-only. */
void virtio_config_write(struct virtio_dev *d, size_t off, const void *buf,
			 size_t len)
{
	virtio_lock(d);
	if (d->ops->config_written && range_fits(off, len, d->config_bytes)) {
		memcpy(d->config + off, buf, len);
		d->ops->config_written(d, off, len);
		tell(d, false);
	}
	virtio_unlock(d);
}

static void interrupt(struct virtio_dev *d, uint32_t queues)
{
	d->interrupts++;
	if (d->transport_ops)
		d->transport_ops->queues(d->transport, queues);
}

void virtio_publish(struct virtio_dev *d, unsigned q)
{
	if (d->running && vq_publish(&d->vq[q]))
		interrupt(d, UINT32_C(1) << q);
}

void virtio_publish_all(struct virtio_dev *d)
{
	uint32_t wanted = 0;

	for (unsigned q = 0; q < d->ops->nqueues && d->running; q++)
		wanted |= (uint32_t)vq_publish(&d->vq[q]) << q;
	if (wanted)
		interrupt(d, wanted);
}

unsigned virtio_turn(struct virtio_dev *d, unsigned q, unsigned most,
		     uint16_t after,
		     enum virtio_took (*take)(struct virtio_dev *d, unsigned q))
{
	struct vq *vq = &d->vq[q];
	enum virtio_took took;
	unsigned n = 0;

	do {
		vq_disable_kicks(vq);
		do {
			if (n == most) {
				loop_signal(d->kick[q].source.fd);
				return n;
			}
			took = take(d, q);
			n += took == VIRTIO_TOOK;
		} while (took == VIRTIO_TOOK);
	} while (took == VIRTIO_EMPTY && d->running &&
		 (after > 1 ? vq_enable_kicks_after(vq, after)
			    : vq_enable_kicks(vq)));
	return n;
}

void virtio_config_changed(struct virtio_dev *d)
{
	d->config_generation++;
	d->config_untold = d->paused;
	/* A transport may mirror it in the guest's memory. */
	if (!d->paused)
		tell(d, d->running);
}

void virtio_broken(struct virtio_dev *d, const char *format, ...)
{
	char why[160];
	va_list ap;

	/* One mistake is told once, however often the device meets it. */
	if (d->status & VIRTIO_CONFIG_S_NEEDS_RESET)
		return;
	va_start(ap, format);
	vsnprintf(why, sizeof(why), format, ap);
	va_end(ap);
	log_guest(&d->limit, "%s: stopped until its driver resets it: %s",
		  d->name, why);
	d->running = false;
	for (unsigned q = 0; q < d->ops->nqueues; q++)
		d->vq[q].broken = true;
	d->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	tell(d, d->status & VIRTIO_CONFIG_S_DRIVER_OK);
}
