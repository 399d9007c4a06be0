/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registers of virtio over MMIO, version 2 (virtio 1.2, 4.2.2). The guest
 * always reads the page's content: read by the guest itself where it is mapped,
 * or by mmio_read() where not. So every change is written there at once, in
 * aligned 32-bit stores that a reading vCPU never sees torn.
 *
 * InterruptStatus. The plain acknowledgement of a queue interrupt, a write of
 * 1, is what a busy guest does most often; with a mapped page KVM swallows it
 * (datamatch on ack_fd, which nobody reads). The price: once set, the queue bit
 * stays set until an acknowledgement with the configuration bit comes. That is
 * harmless: the line is edge-triggered, so a driver is only called after a new
 * interrupt, of this device or of one that shares the line, and the bit merely
 * makes it look at its queues. The configuration bit always arrives here to be
 * cleared.
 */
#include "devices/virtio/virtio-mmio.h"

#include "devices/virtio/virtio.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/base/visit.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <linux/kvm.h>
#include <linux/virtio_mmio.h>
#include <string.h>
#include <sys/ioctl.h>

#define MAGIC        0x74726976 /* "virt" */
#define VERSION      2
#define VENDOR       0x4b4c5542 /* "BULK" */
#define SHM_NONE     UINT32_MAX /* 4.2.2: both halves, when there is no region */
#define CONFIG_WORDS (VIRTIO_CONFIG_MAX / 4)

static uint32_t *reg(const struct virtio_mmio *t, unsigned off)
{
	return (uint32_t *)(void *)(t->page + off);
}

static uint32_t get(const struct virtio_mmio *t, unsigned off)
{
	return le32toh(__atomic_load_n(reg(t, off), __ATOMIC_ACQUIRE));
}

static void set(struct virtio_mmio *t, unsigned off, uint32_t value)
{
	__atomic_store_n(reg(t, off), htole32(value), __ATOMIC_RELEASE);
}

/*
 * The device's lock is held. 4.2.2.1: a driver that finds the same generation
 * before and after its reads has seen one state. The number changes before and
 * after the bytes do; a read that falls between the two is put right by the
 * configuration interrupt that always follows.
 */
static void mirror_config(struct virtio_mmio *t)
{
	const struct virtio_dev *d = t->dev;
	const uint32_t generation = 2 * d->config_generation;

	if (get(t, VIRTIO_MMIO_CONFIG_GENERATION) != generation)
		set(t, VIRTIO_MMIO_CONFIG_GENERATION, generation - 1);
	for (unsigned i = 0; i < CONFIG_WORDS; i++) {
		uint32_t word;

		memcpy(&word, d->config + 4 * i, sizeof(word));
		set(t, VIRTIO_MMIO_CONFIG + 4 * i, le32toh(word));
	}
	set(t, VIRTIO_MMIO_CONFIG_GENERATION, generation);
}

/* Any thread that holds the device's lock, as the next two. */
static void mirror(void *transport)
{
	struct virtio_mmio *t = transport;

	mirror_config(t);
	set(t, VIRTIO_MMIO_STATUS, t->dev->status);
	set(t, VIRTIO_MMIO_DEVICE_ID, t->dev->absent ? 0 : t->dev->ops->id);
}

static void interrupt(struct virtio_mmio *t, uint32_t bit)
{
	__atomic_fetch_or(reg(t, VIRTIO_MMIO_INTERRUPT_STATUS), htole32(bit),
			  __ATOMIC_SEQ_CST);
	irq_raise(&t->irq);
}

/* All queues have one bit, and the device one line. */
static void interrupt_queues(void *transport, uint32_t queues)
{
	(void)queues;
	interrupt(transport, VIRTIO_INTERRUPT_VRING);
}

static void interrupt_config(void *transport)
{
	interrupt(transport, VIRTIO_INTERRUPT_CONFIG);
}

static const struct virtio_transport_ops transport_ops = {
	.queues = interrupt_queues,
	.config = interrupt_config,
	.mirror = mirror,
};

static void acknowledge(struct virtio_mmio *t, uint32_t bits)
{
	__atomic_fetch_and(reg(t, VIRTIO_MMIO_INTERRUPT_STATUS), htole32(~bits),
			   __ATOMIC_SEQ_CST);
}

static void show_features(struct virtio_mmio *t)
{
	const uint32_t sel = t->features_sel;

	set(t, VIRTIO_MMIO_DEVICE_FEATURES,
	    sel < 2 ? (uint32_t)(t->dev->features >> 32 * sel) : 0);
}

static void show_queue(struct virtio_mmio *t)
{
	struct virtio_dev *d = t->dev;
	const uint32_t q = t->queue_sel;
	uint32_t max = 0;
	bool ready = false;

	if (q < d->ops->nqueues) {
		virtio_lock(d);
		max = d->vq[q].max;
		ready = d->vq[q].ready;
		virtio_unlock(d);
	}
	set(t, VIRTIO_MMIO_QUEUE_NUM_MAX, max);
	set(t, VIRTIO_MMIO_QUEUE_READY, ready);
}

static void write_driver_features(struct virtio_mmio *t, uint32_t value)
{
	const uint32_t shift = 32 * t->driver_features_sel;

	/* Nothing is offered beyond bit 63. */
	if (t->driver_features_sel >= 2)
		return;
	t->driver_features &= ~((uint64_t)UINT32_MAX << shift);
	t->driver_features |= (uint64_t)value << shift;
	virtio_set_features(t->dev, t->driver_features);
}

static void write_status(struct virtio_mmio *t, uint32_t value)
{
	/* The register has 8 bits that mean anything (2.1). */
	const uint8_t status = (uint8_t)value;

	virtio_set_status(t->dev, status);
	if (status != 0)
		return;
	/* 4.2.2.1: a reset device has no interrupt pending, no queue ready. */
	acknowledge(t, UINT32_MAX);
	t->driver_features = 0;
	t->features_sel = t->driver_features_sel = t->queue_sel = 0;
	show_features(t);
	show_queue(t);
}

static void write_ring(struct virtio_mmio *t, uint64_t off, uint32_t value)
{
	static const struct {
		uint16_t off;
		uint8_t ring;
		bool high;
	} half[] = {
		{VIRTIO_MMIO_QUEUE_DESC_LOW, VIRTIO_RING_DESC, false},
		{VIRTIO_MMIO_QUEUE_DESC_HIGH, VIRTIO_RING_DESC, true},
		{VIRTIO_MMIO_QUEUE_AVAIL_LOW, VIRTIO_RING_AVAIL, false},
		{VIRTIO_MMIO_QUEUE_AVAIL_HIGH, VIRTIO_RING_AVAIL, true},
		{VIRTIO_MMIO_QUEUE_USED_LOW, VIRTIO_RING_USED, false},
		{VIRTIO_MMIO_QUEUE_USED_HIGH, VIRTIO_RING_USED, true},
	};

	for (unsigned i = 0; i < ARRAY_LEN(half); i++) {
		if (half[i].off == off)
			virtio_queue_set_address(t->dev, t->queue_sel,
						 half[i].ring, half[i].high,
						 value);
	}
}

static void write_register(struct virtio_mmio *t, uint64_t off, uint32_t value)
{
	switch (off) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		t->features_sel = value;
		show_features(t);
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		t->driver_features_sel = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		write_driver_features(t, value);
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		t->queue_sel = value;
		show_queue(t);
		break;
	case VIRTIO_MMIO_QUEUE_NUM:
		virtio_queue_set_size(t->dev, t->queue_sel, value);
		break;
	case VIRTIO_MMIO_QUEUE_READY:
		virtio_queue_set_ready(t->dev, t->queue_sel, value & 1);
		show_queue(t);
		break;
	case VIRTIO_MMIO_QUEUE_NOTIFY:
		virtio_queue_kick(t->dev, value);
		break;
	case VIRTIO_MMIO_INTERRUPT_ACK:
		acknowledge(t, value);
		break;
	case VIRTIO_MMIO_STATUS:
		write_status(t, value);
		break;
	default: /* a ring's address, or nothing that can be written */
		write_ring(t, off, value);
		break;
	}
}

/* 4.2.2.2: registers are 32 bits wide; a driver uses no other access. */
static void mmio_write(void *dev, uint64_t off, const void *buf, unsigned len)
{
	struct virtio_mmio *t = dev;
	uint32_t value;

	if (off >= VIRTIO_MMIO_CONFIG) {
		virtio_config_write(t->dev, off - VIRTIO_MMIO_CONFIG, buf, len);
		return;
	}
	if (len != sizeof(value) || off % sizeof(value) != 0)
		return;
	memcpy(&value, buf, sizeof(value));
	pthread_mutex_lock(&t->lock);
	write_register(t, off, le32toh(value));
	pthread_mutex_unlock(&t->lock);
}

/* Configuration fields are read in their own width, of any alignment. */
static void mmio_read(void *dev, uint64_t off, void *buf, unsigned len)
{
	struct virtio_mmio *t = dev;
	uint8_t *out = buf;

	memset(out, 0, len);
	if (off < VIRTIO_MMIO_CONFIG && (len != 4 || off % 4 != 0))
		return;
	for (unsigned i = 0; i < len && off + i < VIRTIO_MMIO_BYTES; i++) {
		const unsigned at = (unsigned)off + i;

		out[i] = (uint8_t)(get(t, at & ~3u) >> 8 * (at & 3));
	}
}

const struct bus_ops virtio_mmio_bus_ops = {
	.name = "virtio-mmio",
	.read = mmio_read,
	.write = mmio_write,
};

/*
 * Writes of VALUE to the register at OFF end in FD inside KVM, without an exit.
 * The assignment ends with the VM.
 */
static int add_ioeventfd(struct virtio_mmio *t, int vm_fd, unsigned off,
			 uint32_t value, int fd)
{
	struct kvm_ioeventfd request = {
		.datamatch = value,
		.addr = t->base + off,
		.len = 4,
		.fd = fd,
		.flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
	};

	if (ioctl(vm_fd, KVM_IOEVENTFD, &request) < 0)
		return log_ret(-errno, "%s: KVM_IOEVENTFD at %#llx: %s",
			       t->dev->name, (unsigned long long)request.addr,
			       strerror(errno));
	return 0;
}

/* The sandbox lets none be made later. */
static int make_ack_fd(struct virtio_mmio *t)
{
	t->ack_fd = loop_eventfd();
	return t->ack_fd < 0 ? log_ret(t->ack_fd, "%s: eventfd: %s",
				       t->dev->name, strerror(-t->ack_fd))
			     : 0;
}

int virtio_mmio_add_doorbells(struct virtio_mmio *t, int vm_fd)
{
	struct virtio_dev *d = t->dev;
	int r = 0;

	if (vm_fd < 0 || t->has_doorbells)
		return 0;
	for (unsigned q = 0; q < d->ops->nqueues && r == 0; q++)
		r = add_ioeventfd(t, vm_fd, VIRTIO_MMIO_QUEUE_NOTIFY, q,
				  d->kick[q].source.fd);
	if (r == 0 && t->ack_fd >= 0)
		r = add_ioeventfd(t, vm_fd, VIRTIO_MMIO_INTERRUPT_ACK,
				  VIRTIO_INTERRUPT_VRING, t->ack_fd);
	t->has_doorbells = r == 0;
	return r;
}

int virtio_mmio_init(struct virtio_mmio *t, struct virtio_dev *dev, int vm_fd,
		     uint64_t base, uint32_t gsi, const struct irq *shared,
		     uint8_t *page, bool mapped)
{
	int r;

	assert((uintptr_t)page % VIRTIO_MMIO_BYTES == 0);
	*t = (struct virtio_mmio){
		.dev = dev,
		.base = base,
		.irq = {.event_fd = -1},
		.page = page,
		.ack_fd = -1,
	};
	pthread_mutex_init(&t->lock, NULL);
	memset(page, 0, VIRTIO_MMIO_BYTES);
	set(t, VIRTIO_MMIO_MAGIC_VALUE, MAGIC);
	set(t, VIRTIO_MMIO_VERSION, VERSION);
	set(t, VIRTIO_MMIO_VENDOR_ID, VENDOR);
	set(t, VIRTIO_MMIO_SHM_LEN_LOW, SHM_NONE);
	set(t, VIRTIO_MMIO_SHM_LEN_HIGH, SHM_NONE);
	set(t, VIRTIO_MMIO_SHM_BASE_LOW, SHM_NONE);
	set(t, VIRTIO_MMIO_SHM_BASE_HIGH, SHM_NONE);
	show_features(t);
	show_queue(t);
	r = shared ? irq_share(&t->irq, shared) : irq_init(&t->irq, vm_fd, gsi);
	if (r == 0 && vm_fd >= 0 && mapped)
		r = make_ack_fd(t);
	if (r == 0 && !dev->absent)
		r = virtio_mmio_add_doorbells(t, vm_fd);
	if (r < 0)
		return r;
	virtio_set_transport(dev, &transport_ops, t);
	return 0;
}

void virtio_mmio_visit(struct virtio_mmio *t, struct visitor *v)
{
	uint32_t pending = get(t, VIRTIO_MMIO_INTERRUPT_STATUS);

	pthread_mutex_lock(&t->lock);
	virtio_visit(t->dev, v);
	visit_part(v, "virtio-mmio");
	VISIT(v, t, features_sel);
	VISIT(v, t, driver_features_sel);
	VISIT(v, t, queue_sel);
	VISIT(v, t, driver_features);
	visit_bytes(v, "interrupt_status", &pending, sizeof(pending));
	visit_part_end(v);
	if (visit_loads(v) && visit_goes_on(v)) {
		set(t, VIRTIO_MMIO_INTERRUPT_STATUS, pending);
		show_features(t);
		show_queue(t);
		virtio_lock(t->dev);
		mirror(t);
		virtio_unlock(t->dev);
		if (t->dev->started)
			irq_raise(&t->irq);
	}
	pthread_mutex_unlock(&t->lock);
}

void virtio_mmio_done(struct virtio_mmio *t)
{
	if (!t->dev)
		return;
	virtio_set_transport(t->dev, NULL, NULL);
	irq_done(&t->irq);
	util_close(&t->ack_fd);
	pthread_mutex_destroy(&t->lock);
	t->dev = NULL;
}
