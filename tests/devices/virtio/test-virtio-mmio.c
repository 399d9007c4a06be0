/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MMIO registers: what a driver reads after what it wrote, in the page and
 * through the bus; interrupts; garbage of every width at every offset.
 */
#include "tests/vdriver.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/ioctl.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define ALL   UINT64_MAX
#define VRING VIRTIO_INTERRUPT_VRING
#define CONF  VIRTIO_INTERRUPT_CONFIG

/* A device that answers every chain and lets its configuration be written. */
static int echo_open(struct virtio_dev *d, const struct config_device *cfg)
{
	(void)cfg;
	memcpy(d->config, "0123456789", 10);
	d->config_bytes = 10;
	return 0;
}

static void echo_close(struct virtio_dev *d)
{
	(void)d;
}

static void echo_kick(struct virtio_dev *d, unsigned q)
{
	struct iovec iov[16];
	struct iov_chain chain = {.iov = iov, .iov_max = 16};
	int r;

	while ((r = vq_pop(&d->vq[q], &chain)) > 0)
		vq_push(&d->vq[q], chain.head, 0);
	virtio_publish(d, q);
	if (r < 0)
		virtio_broken(d, "queue %u: malformed chain", q);
}

static void echo_written(struct virtio_dev *d, size_t off, size_t len)
{
	/* Upper case, so that the page is seen to show the device's bytes. */
	for (size_t i = off; i < off + len; i++)
		if (d->config[i] >= 'a' && d->config[i] <= 'z')
			d->config[i] -= 'a' - 'A';
}

static const struct virtio_ops echo = {
	.type = {.name = "echo"},
	.id = 42,
	.nqueues = 2,
	.queue_max = 16,
	.features = UINT64_C(1) << 3 | UINT64_C(1) << 40,
	.open = echo_open,
	.close = echo_close,
	.kick = echo_kick,
	.config_written = echo_written,
};

/* The loop never runs: vdriver_poll() plays its thread. */
struct fixture {
	struct loop loop;
	struct vdriver *v;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	if (!f || loop_init(&f->loop) < 0)
		return -1;
	f->v = vdriver_new_on(&echo, NULL, &f->loop, NULL);
	return f->v ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	vdriver_free(f->v);
	loop_done(&f->loop);
	free(f);
	return 0;
}

static struct vdriver *driver(void **state)
{
	return ((struct fixture *)*state)->v;
}

/* The guest's view: the page, and the bus must say the same. */
static uint32_t reads(struct vdriver *v, unsigned off)
{
	uint32_t in_page;

	memcpy(&in_page, v->page + off, sizeof(in_page));
	assert_int_equal(le32toh(in_page), vdriver_read32(v, off));
	return le32toh(in_page);
}

static void config_change(struct vdriver *v, char c)
{
	virtio_lock(v->dev);
	v->dev->config[0] = (uint8_t)c;
	virtio_config_changed(v->dev);
	virtio_unlock(v->dev);
}

static void answer_one(struct vdriver *v)
{
	struct iovec in = vdriver_buf(v, NULL, 16);

	assert_true(vdriver_add(v, 0, NULL, 0, &in, 1) >= 0);
	vdriver_write32(v, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	vdriver_poll(v);
	assert_true(vdriver_get_used(v, 0, NULL) >= 0);
}

/* ---- registers */

static void test_identity(void **state)
{
	struct vdriver *v = driver(state);

	assert_int_equal(reads(v, VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
	assert_memory_equal(v->page, "virt", 4);
	assert_int_equal(reads(v, VIRTIO_MMIO_VERSION), 2);
	assert_int_equal(reads(v, VIRTIO_MMIO_DEVICE_ID), 42);
	assert_int_not_equal(reads(v, VIRTIO_MMIO_VENDOR_ID), 0);
	assert_int_equal(reads(v, VIRTIO_MMIO_STATUS), 0);
	assert_int_equal(reads(v, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	vdriver_write32(v, VIRTIO_MMIO_SHM_SEL, 1);
	assert_int_equal(reads(v, VIRTIO_MMIO_SHM_LEN_LOW), UINT32_MAX);
	assert_int_equal(reads(v, VIRTIO_MMIO_SHM_LEN_HIGH), UINT32_MAX);
}

static void test_features(void **state)
{
	struct vdriver *v = driver(state);

	vdriver_write32(v, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	assert_int_equal(reads(v, VIRTIO_MMIO_DEVICE_FEATURES), 1 | 1 << 8);
	vdriver_write32(v, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
	assert_int_equal(reads(v, VIRTIO_MMIO_DEVICE_FEATURES), 0);
	vdriver_write32(v, VIRTIO_MMIO_DEVICE_FEATURES_SEL, UINT32_MAX);
	assert_int_equal(reads(v, VIRTIO_MMIO_DEVICE_FEATURES), 0);
	vdriver_write32(v, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	assert_int_equal(reads(v, VIRTIO_MMIO_DEVICE_FEATURES),
			 1 << 3 | 1 << 28 | 1 << 29);
	vdriver_write32(v, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 3);
	vdriver_write32(v, VIRTIO_MMIO_DRIVER_FEATURES, UINT32_MAX);
	assert_int_equal(v->dev->acked, 0);
	assert_true(vdriver_negotiate(v, ALL));
	assert_int_equal(v->dev->acked, vdriver_offered(v));
	/* A reset forgets both halves. */
	vdriver_write32(v, VIRTIO_MMIO_STATUS, 0);
	vdriver_write32(v, VIRTIO_MMIO_DRIVER_FEATURES, 8);
	assert_int_equal(v->dev->acked, 8);
}

static void test_queues(void **state)
{
	struct vdriver *v = driver(state);

	assert_true(vdriver_negotiate(v, ALL));
	assert_true(vdriver_setup_queue(v, 1, 4));
	assert_int_equal(v->dev->vq[1].size, 4);
	assert_int_equal(v->dev->vq[1].desc_gpa, v->queue[1].desc);
	assert_int_equal(v->dev->vq[1].avail_gpa, v->queue[1].avail);
	assert_int_equal(v->dev->vq[1].used_gpa, v->queue[1].used);
	vdriver_write32(v, VIRTIO_MMIO_QUEUE_SEL, 0);
	assert_int_equal(reads(v, VIRTIO_MMIO_QUEUE_NUM_MAX), 16);
	assert_int_equal(reads(v, VIRTIO_MMIO_QUEUE_READY), 0);
	vdriver_write32(v, VIRTIO_MMIO_QUEUE_SEL, 1);
	assert_int_equal(reads(v, VIRTIO_MMIO_QUEUE_READY), 1);
	vdriver_write32(v, VIRTIO_MMIO_QUEUE_SEL, 2);
	assert_int_equal(reads(v, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
	assert_int_equal(reads(v, VIRTIO_MMIO_QUEUE_READY), 0);
	vdriver_write32(v, VIRTIO_MMIO_QUEUE_READY, 1);
	assert_int_equal(reads(v, VIRTIO_MMIO_QUEUE_READY), 0);
	vdriver_write32(v, VIRTIO_MMIO_QUEUE_SEL, 1);
	vdriver_write32(v, VIRTIO_MMIO_QUEUE_READY, 0);
	assert_int_equal(reads(v, VIRTIO_MMIO_QUEUE_READY), 0);
	vdriver_write32(v, VIRTIO_MMIO_QUEUE_READY, 1);
	assert_int_equal(reads(v, VIRTIO_MMIO_QUEUE_READY), 1);
	vdriver_write32(v, VIRTIO_MMIO_STATUS, 0);
	vdriver_write32(v, VIRTIO_MMIO_QUEUE_SEL, 1);
	assert_int_equal(reads(v, VIRTIO_MMIO_QUEUE_READY), 0);
	assert_int_equal(v->dev->vq[1].desc_gpa, 0);
}

/* The high halves, beyond 4 GiB. */
static void test_queue_addresses(void **state)
{
	struct vdriver *v = driver(state);
	const unsigned low[] = {VIRTIO_MMIO_QUEUE_DESC_LOW,
				VIRTIO_MMIO_QUEUE_AVAIL_LOW,
				VIRTIO_MMIO_QUEUE_USED_LOW};
	const struct vq *vq = &v->dev->vq[0];

	for (unsigned i = 0; i < 3; i++) {
		vdriver_write32(v, low[i] + 4, 0xa0 + i);
		vdriver_write32(v, low[i], 0xfffff000 + i);
	}
	assert_int_equal(vq->desc_gpa, UINT64_C(0xa0fffff000));
	assert_int_equal(vq->avail_gpa, UINT64_C(0xa1fffff001));
	assert_int_equal(vq->used_gpa, UINT64_C(0xa2fffff002));
}

static void test_status(void **state)
{
	struct vdriver *v = driver(state);

	vdriver_write32(v, VIRTIO_MMIO_STATUS, 1);
	assert_int_equal(reads(v, VIRTIO_MMIO_STATUS), 1);
	vdriver_write32(v, VIRTIO_MMIO_STATUS, 2);
	assert_int_equal(reads(v, VIRTIO_MMIO_STATUS), 3);
	vdriver_write32(v, VIRTIO_MMIO_STATUS, 8);
	assert_int_equal(reads(v, VIRTIO_MMIO_STATUS), 3);
	vdriver_write32(v, VIRTIO_MMIO_STATUS, 4);
	assert_int_equal(reads(v, VIRTIO_MMIO_STATUS), 3);
	assert_true(vdriver_up(v, ALL));
	assert_int_equal(reads(v, VIRTIO_MMIO_STATUS), 15);
	/* The device breaks by itself: the page says so. */
	vdriver_avail(v, 0, 0xffff);
	vdriver_write32(v, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	vdriver_poll(v);
	assert_int_equal(reads(v, VIRTIO_MMIO_STATUS), 64 | 15);
	vdriver_write32(v, VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(reads(v, VIRTIO_MMIO_STATUS), 0);
}

/* ---- interrupts */

/* vdriver has no VM: every acknowledgement arrives and clears its bits. */
static void test_interrupts(void **state)
{
	struct vdriver *v = driver(state);

	assert_true(vdriver_up(v, 0));
	answer_one(v);
	assert_int_equal(vdriver_interrupts(v), 1);
	assert_int_equal(reads(v, VIRTIO_MMIO_INTERRUPT_STATUS), VRING);
	config_change(v, 'x');
	assert_int_equal(vdriver_interrupts(v), 1);
	assert_int_equal(reads(v, VIRTIO_MMIO_INTERRUPT_STATUS), VRING | CONF);
	vdriver_write32(v, VIRTIO_MMIO_INTERRUPT_ACK, VRING);
	assert_int_equal(reads(v, VIRTIO_MMIO_INTERRUPT_STATUS), CONF);
	vdriver_write32(v, VIRTIO_MMIO_INTERRUPT_ACK, 0xf0);
	assert_int_equal(reads(v, VIRTIO_MMIO_INTERRUPT_STATUS), CONF);
	answer_one(v);
	vdriver_write32(v, VIRTIO_MMIO_INTERRUPT_ACK, CONF);
	assert_int_equal(reads(v, VIRTIO_MMIO_INTERRUPT_STATUS), VRING);
	config_change(v, 'y');
	assert_int_equal(vdriver_acknowledge(v), VRING | CONF);
	assert_int_equal(reads(v, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	answer_one(v);
	assert_int_equal(reads(v, VIRTIO_MMIO_INTERRUPT_STATUS), VRING);
	vdriver_write32(v, VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(reads(v, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
}

/*
 * With KVM an acknowledgement of 1 never arrives, so the queue bit stays: a
 * driver that handles what it reads and acknowledges it loses nothing.
 */
static void test_sticky_queue_bit(void **state)
{
	struct vdriver *v = driver(state);

	assert_true(vdriver_up(v, 0));
	answer_one(v);
	answer_one(v);
	assert_int_equal(vdriver_interrupts(v), 2);
	assert_int_equal(reads(v, VIRTIO_MMIO_INTERRUPT_STATUS), VRING);
	config_change(v, 'x');
	assert_int_equal(vdriver_acknowledge(v), VRING | CONF);
	assert_int_equal(reads(v, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	answer_one(v);
	assert_int_equal(vdriver_interrupts(v), 2);
	assert_int_equal(reads(v, VIRTIO_MMIO_INTERRUPT_STATUS), VRING);
}

static void test_event_idx(void **state)
{
	struct vdriver *v = driver(state);

	assert_true(vdriver_up(v, ALL));
	vdriver_want_interrupt(v, 0, 2);
	answer_one(v);
	answer_one(v);
	assert_int_equal(vdriver_interrupts(v), 0);
	assert_int_equal(reads(v, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	answer_one(v);
	assert_int_equal(vdriver_interrupts(v), 1);
	assert_true(vdriver_up(v, 0));
	vdriver_no_interrupts(v, 0, true);
	answer_one(v);
	assert_int_equal(vdriver_interrupts(v), 0);
}

static void test_notify_garbage(void **state)
{
	struct vdriver *v = driver(state);

	assert_true(vdriver_up(v, ALL));
	vdriver_write32(v, VIRTIO_MMIO_QUEUE_NOTIFY, 2);
	vdriver_write32(v, VIRTIO_MMIO_QUEUE_NOTIFY, UINT32_MAX);
	vdriver_poll(v);
	answer_one(v);
}

/* KVM takes the ioeventfds: one a queue, and the acknowledgement's. */
static void test_with_kvm(void **state)
{
	struct vdriver *v = driver(state);
	autofd int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	autofd int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0UL);

	if (vm < 0 || ioctl(vm, KVM_CREATE_IRQCHIP, 0) < 0) {
		print_message("no usable /dev/kvm: skipped\n");
		skip();
	}
	virtio_mmio_done(&v->mmio);
	assert_int_equal(virtio_mmio_init(&v->mmio, v->dev, vm, 0xd0000000, 5,
					  NULL, v->page, true),
			 0);
	assert_true(v->mmio.ack_fd >= 0);
	virtio_mmio_done(&v->mmio);
	/* The addresses are taken for as long as the VM lives. */
	assert_int_equal(virtio_mmio_init(&v->mmio, v->dev, vm, 0xd0000000, 6,
					  NULL, v->page, false),
			 -EEXIST);
	virtio_mmio_done(&v->mmio);
	/* The guest's reads come as exits: then its acknowledgements, too. */
	assert_int_equal(virtio_mmio_init(&v->mmio, v->dev, vm, 0xd0001000, 7,
					  NULL, v->page, false),
			 0);
	assert_int_equal(v->mmio.ack_fd, -1);
}

/* ---- configuration space */

static void test_config_space(void **state)
{
	struct vdriver *v = driver(state);
	char text[16];
	uint64_t word;

	assert_memory_equal(v->page + 0x100, "0123456789\0\0", 12);
	vdriver_config_read(v, 0, text, 12);
	assert_memory_equal(text, "0123456789\0\0", 12);
	virtio_mmio_bus_ops.read(&v->mmio, 0x101, &word, 8);
	assert_memory_equal(&word, "12345678", 8);
	virtio_mmio_bus_ops.read(&v->mmio, 0xffc, &word, 4);
	assert_int_equal((uint32_t)word, 0);
	virtio_mmio_bus_ops.write(&v->mmio, 0x100, "abcdefgh", 8);
	assert_memory_equal(v->page + 0x100, "ABCDEFGH89", 10);
	vdriver_config_write(v, 8, "yz", 2);
	assert_memory_equal(v->page + 0x100, "ABCDEFGHYZ\0\0", 12);
	vdriver_config_write(v, 9, "xx", 2);
	vdriver_config_write(v, 0xe00, "xx", 2);
	assert_memory_equal(v->page + 0x100, "ABCDEFGHYZ\0\0", 12);
	/* The driver is not told of changes that it wrote itself. */
	assert_int_equal(vdriver_interrupts(v), 0);
	assert_int_equal(reads(v, VIRTIO_MMIO_CONFIG_GENERATION), 0);
}

static void test_config_generation(void **state)
{
	struct vdriver *v = driver(state);
	uint32_t last = reads(v, VIRTIO_MMIO_CONFIG_GENERATION);

	for (char c = 'a'; c < 'f'; c++) {
		uint32_t now;

		config_change(v, c);
		now = reads(v, VIRTIO_MMIO_CONFIG_GENERATION);
		assert_int_not_equal(now, last);
		assert_int_equal(v->page[0x100], c);
		last = now;
	}
	/* The driver was not told: DRIVER_OK was not set. */
	assert_int_equal(vdriver_interrupts(v), 0);
	assert_true(vdriver_up(v, ALL));
	assert_int_equal(reads(v, VIRTIO_MMIO_CONFIG_GENERATION), last);
	config_change(v, 'g');
	assert_int_equal(vdriver_interrupts(v), 1);
	assert_int_not_equal(reads(v, VIRTIO_MMIO_CONFIG_GENERATION), last);
}

/* ---- accesses no driver makes */

static void test_widths(void **state)
{
	struct vdriver *v = driver(state);
	const uint8_t ones[8] = {1, 1, 1, 1, 1, 1, 1, 1};
	uint64_t word;

	for (unsigned off = 0; off + 8 <= 0x100; off++) {
		for (unsigned len = 1; len <= 8; len *= 2) {
			if (len == 4 && off % 4 == 0)
				continue;
			word = UINT64_MAX;
			virtio_mmio_bus_ops.read(&v->mmio, off, &word, len);
			assert_int_equal(word, len == 8 ? 0 : ALL << 8 * len);
			virtio_mmio_bus_ops.write(&v->mmio, off, ones, len);
		}
	}
	assert_int_equal(reads(v, VIRTIO_MMIO_STATUS), 0);
	assert_int_equal(v->mmio.queue_sel, 0);
	assert_int_equal(v->dev->vq[0].desc_gpa, 0);
	vdriver_write32(v, VIRTIO_MMIO_MAGIC_VALUE, 0);
	vdriver_write32(v, VIRTIO_MMIO_QUEUE_NUM_MAX, 7);
	vdriver_write32(v, VIRTIO_MMIO_INTERRUPT_STATUS, 3);
	vdriver_write32(v, VIRTIO_MMIO_CONFIG_GENERATION, 3);
	assert_int_equal(reads(v, VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
	assert_int_equal(reads(v, VIRTIO_MMIO_QUEUE_NUM_MAX), 16);
	assert_int_equal(reads(v, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	assert_int_equal(reads(v, VIRTIO_MMIO_CONFIG_GENERATION), 0);
}

static uint64_t next_random(uint64_t *seed)
{
	*seed = *seed * UINT64_C(6364136223846793005) + 1442695040888963407;
	return *seed >> 16;
}

/* After any writes whatsoever a reset gives a working device. */
static void test_garbage(void **state)
{
	struct vdriver *v = driver(state);
	uint64_t seed = 1;

	for (unsigned round = 0; round < 300; round++) {
		for (unsigned i = 0; i < 300; i++) {
			const unsigned len = 1u << next_random(&seed) % 4;
			uint64_t off = next_random(&seed) % 0x1000;
			uint64_t value = next_random(&seed);

			if (i % 4)
				off = off % 0x110 / len * len;
			if (i % 3 == 0)
				value &= 0xf;
			off = min_u64(off, 0x1000 - len);
			virtio_mmio_bus_ops.write(&v->mmio, off, &value, len);
			virtio_mmio_bus_ops.read(&v->mmio, off, &value, len);
			if (i % 16 == 0)
				vdriver_poll(v);
		}
		assert_true(vdriver_up(v, round % 2 ? ALL : 0));
		answer_one(v);
		assert_int_equal(vdriver_interrupts(v), 1);
		if (round % 2) /* leave it running, or not */
			vdriver_reset(v);
	}
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_identity),         TEST(test_features),
		TEST(test_queues),           TEST(test_queue_addresses),
		TEST(test_status),           TEST(test_interrupts),
		TEST(test_sticky_queue_bit), TEST(test_event_idx),
		TEST(test_notify_garbage),   TEST(test_with_kvm),
		TEST(test_config_space),     TEST(test_config_generation),
		TEST(test_widths),           TEST(test_garbage),
	};

	log_setup(LOG_ERROR, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
