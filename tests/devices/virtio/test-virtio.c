/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio core with a device of this file's own: status, negotiation, life
 * of a queue, kicks, breaking and resetting.
 */
#include "tests/vdriver.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdatomic.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define ALL       UINT64_MAX
#define BIT(n)    (UINT64_C(1) << (n))
#define VERSION_1 BIT(VIRTIO_F_VERSION_1)
#define FEATURES_OK                                                            \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |                \
	 VIRTIO_CONFIG_S_FEATURES_OK)
#define DRIVER_OK   VIRTIO_CONFIG_S_DRIVER_OK
#define NEEDS_RESET VIRTIO_CONFIG_S_NEEDS_RESET

/* A record of calls to the device; the driver's key says how it behaves. */
struct probe {
	unsigned starts, stops, pauses, resumes, kicks[3];
	unsigned writes;
	size_t write_off, write_len;
	pthread_t thread; /* of the last kick */
	bool hold;        /* keep chains, do not answer */
	bool break_at_start;
	unsigned held;
	atomic_uint *closed; /* counted in the test */
};

static const struct config_key probe_keys[] = {
	{.name = "mode", .kind = CONFIG_TEXT},
	{0},
};

static atomic_uint *closes(void)
{
	static atomic_uint count;

	return &count;
}

static int probe_open(struct virtio_dev *d, const struct config_device *cfg)
{
	struct probe *p = d->state;
	const char *mode = cfg->nparams ? cfg->param[0].value : "";

	p->closed = closes();
	p->hold = strcmp(mode, "hold") == 0;
	p->break_at_start = strcmp(mode, "break") == 0;
	memcpy(d->config, "0123456789", 10);
	d->config_bytes = 10;
	return strcmp(mode, "fail") == 0 ? -ENODEV : 0;
}

static void probe_close(struct virtio_dev *d)
{
	struct probe *p = d->state;

	atomic_fetch_add(p->closed, 1);
}

static void probe_start(struct virtio_dev *d)
{
	struct probe *p = d->state;

	p->starts++;
	if (p->break_at_start)
		virtio_broken(d, "as the test wants it");
}

static void probe_stop(struct virtio_dev *d)
{
	struct probe *p = d->state;

	p->stops++;
	p->held = 0;
}

/* Answers what it holds, which are the first chains of queue 0. */
static void probe_pause(struct virtio_dev *d)
{
	struct probe *p = d->state;

	p->pauses++;
	for (unsigned i = 0; i < p->held; i++)
		vq_push(&d->vq[0], (uint16_t)i, 0);
	p->held = 0;
}

static void probe_resume(struct virtio_dev *d)
{
	struct probe *p = d->state;

	p->resumes++;
}

/* Answers with the number of readable bytes. */
static void probe_kick(struct virtio_dev *d, unsigned q)
{
	struct probe *p = d->state;
	struct iovec iov[16];
	struct iov_chain chain = {.iov = iov, .iov_max = 16};
	int r;

	p->kicks[q]++;
	p->thread = pthread_self();
	while ((r = vq_pop(&d->vq[q], &chain)) > 0) {
		if (p->hold)
			p->held++;
		else
			vq_push(&d->vq[q], chain.head, chain.out_bytes);
	}
	virtio_publish(d, q);
	if (r < 0)
		virtio_broken(d, "queue %u: malformed chain", q);
}

static void probe_written(struct virtio_dev *d, size_t off, size_t len)
{
	struct probe *p = d->state;

	p->writes++;
	p->write_off = off;
	p->write_len = len;
}

#define PROBE_OPS                                                              \
	.type = {.name = "probe", .keys = probe_keys}, .id = 42, .nqueues = 3, \
	.queue_max = 16, .features = BIT(0) | BIT(5) | BIT(50),                \
	.state_size = sizeof(struct probe), .open = probe_open,                \
	.close = probe_close, .start = probe_start, .stop = probe_stop,        \
	.pause = probe_pause, .resume = probe_resume, .kick = probe_kick

static const struct virtio_ops probe = {
	PROBE_OPS,
	.config_written = probe_written,
};
static const struct virtio_ops threaded = {
	PROBE_OPS,
	.own_thread = true,
};

/* The loop never runs: vdriver_poll() plays its thread. */
struct fixture {
	struct loop loop;
	struct vdriver *v;
	struct virtio_dev *d;
	struct probe *p;
};

static struct fixture *new_fixture(const char *mode)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_int_equal(loop_init(&f->loop), 0);
	f->v = vdriver_new_on(&probe, mode, &f->loop, NULL);
	assert_non_null(f->v);
	f->d = f->v->dev;
	f->p = f->d->state;
	return f;
}

static int setup(void **state)
{
	*state = new_fixture(NULL);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	vdriver_free(f->v);
	loop_done(&f->loop);
	free(f);
	return 0;
}

/* ---- the table of devices */

static void test_lists_agree(void **state)
{
	unsigned n = 0;

	(void)state;
	for (; virtio_list()[n]; n++) {
		const struct virtio_ops *ops = virtio_list()[n];

		assert_ptr_equal(virtio_config_types()[n], &ops->type);
		assert_ptr_equal(virtio_find(ops->type.name), ops);
		assert_true(ops->nqueues <= VIRTIO_QUEUES_MAX);
		assert_non_null(ops->type.help);
	}
	assert_true(n > 0);
	/* Behind the devices stand parts of devices, which are none. */
	for (; virtio_config_types()[n]; n++)
		assert_null(virtio_find(virtio_config_types()[n]->name));
	assert_null(virtio_find("nonsense"));
}

static void test_open_fails(void **state)
{
	struct fixture *f = *state;
	const unsigned before = atomic_load(closes());

	assert_null(vdriver_new_on(&probe, "mode=fail", &f->loop, NULL));
	assert_int_equal(atomic_load(closes()), before + 1);
}

/* ---- negotiation */

static void test_offer(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(vdriver_offered(f->v),
			 BIT(0) | BIT(5) | BIT(50) | VERSION_1 |
				 BIT(VIRTIO_RING_F_EVENT_IDX) |
				 BIT(VIRTIO_RING_F_INDIRECT_DESC));
}

static void test_unknown_features(void **state)
{
	struct fixture *f = *state;
	const uint64_t bad[] = {VERSION_1 | BIT(1),
				VERSION_1 | BIT(63),
				VERSION_1 | BIT(VIRTIO_F_RING_RESET),
				BIT(0),
				0,
				ALL};

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		vdriver_reset(f->v);
		assert_false(vdriver_negotiate_exactly(f->v, bad[i]));
		assert_false(vdriver_start(f->v));
		assert_int_equal(virtio_status(f->d) & DRIVER_OK, 0);
	}
	assert_int_equal(f->p->starts, 0);
	/* The driver may think again without a reset. */
	assert_true(vdriver_negotiate_exactly(f->v, VERSION_1 | BIT(50)));
	assert_true(virtio_acked(f->d, 50));
	assert_false(virtio_acked(f->d, 0));
}

static void test_features_are_final(void **state)
{
	struct fixture *f = *state;

	assert_true(vdriver_negotiate_exactly(f->v, VERSION_1 | BIT(0)));
	virtio_set_features(f->d, VERSION_1 | BIT(5));
	assert_int_equal(f->d->acked, VERSION_1 | BIT(0));
	vdriver_reset(f->v);
	assert_int_equal(f->d->acked, 0);
}

static void test_driver_ok_needs_features_ok(void **state)
{
	struct fixture *f = *state;

	virtio_set_status(f->d, DRIVER_OK);
	assert_int_equal(virtio_status(f->d), 0);
	virtio_set_status(f->d, VIRTIO_CONFIG_S_ACKNOWLEDGE | DRIVER_OK);
	assert_int_equal(virtio_status(f->d), VIRTIO_CONFIG_S_ACKNOWLEDGE);
	assert_int_equal(f->p->starts, 0);
	assert_false(f->d->running);
}

static void test_status_is_only_added(void **state)
{
	struct fixture *f = *state;

	virtio_set_status(f->d, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	virtio_set_status(f->d, VIRTIO_CONFIG_S_DRIVER);
	assert_int_equal(virtio_status(f->d), 3);
	/* NEEDS_RESET and the unnamed bits are not the driver's. */
	virtio_set_status(f->d, NEEDS_RESET | 0x30);
	assert_int_equal(virtio_status(f->d), 3);
	virtio_set_status(f->d, VIRTIO_CONFIG_S_FAILED);
	assert_int_equal(virtio_status(f->d), 3 | VIRTIO_CONFIG_S_FAILED);
	virtio_set_status(f->d, 0);
	assert_int_equal(virtio_status(f->d), 0);
}

/* ---- start, stop */

static void test_start_once(void **state)
{
	struct fixture *f = *state;

	assert_true(vdriver_up(f->v, ALL));
	assert_int_equal(f->p->starts, 1);
	assert_int_equal(virtio_status(f->d), FEATURES_OK | DRIVER_OK);
	virtio_set_status(f->d, FEATURES_OK | DRIVER_OK);
	assert_int_equal(f->p->starts, 1);
	vdriver_reset(f->v);
	assert_int_equal(f->p->stops, 1);
	vdriver_reset(f->v);
	assert_int_equal(f->p->stops, 1);
	assert_true(vdriver_up(f->v, 0));
	assert_int_equal(f->p->starts, 2);
}

/* Buffers made available before DRIVER_OK are found at DRIVER_OK. */
static void test_start_kicks_ready_queues(void **state)
{
	struct fixture *f = *state;
	struct iovec out;

	assert_true(vdriver_negotiate(f->v, ALL));
	assert_true(vdriver_setup_queue(f->v, 0, 4));
	assert_true(vdriver_setup_queue(f->v, 2, 0));
	out = vdriver_buf(f->v, "abc", 3);
	vdriver_add(f->v, 2, &out, 1, NULL, 0);
	virtio_queue_kick(f->d, 2);
	vdriver_poll(f->v);
	assert_int_equal(f->p->kicks[2], 0);
	assert_int_equal(vdriver_get_used(f->v, 2, NULL), -1);
	assert_int_equal(vdriver_interrupts(f->v), 0);

	assert_true(vdriver_start(f->v));
	vdriver_poll(f->v);
	assert_int_equal(f->p->kicks[0], 1);
	assert_int_equal(f->p->kicks[1], 0);
	assert_int_equal(f->p->kicks[2], 1);
	assert_int_equal(vdriver_get_used(f->v, 2, NULL), 0);
	assert_int_equal(vdriver_interrupts(f->v), 1);
}

static void test_kicks_that_mean_nothing(void **state)
{
	struct fixture *f = *state;

	assert_true(vdriver_negotiate(f->v, ALL));
	assert_true(vdriver_setup_queue(f->v, 0, 0));
	assert_true(vdriver_start(f->v));
	vdriver_poll(f->v);
	virtio_queue_kick(f->d, 1);
	virtio_queue_kick(f->d, 3);
	virtio_queue_kick(f->d, UINT32_MAX);
	vdriver_poll(f->v);
	assert_int_equal(f->p->kicks[0], 1);
	assert_int_equal(f->p->kicks[1], 0);
	/* Fetched before the reset, run after it. */
	virtio_queue_kick(f->d, 0);
	vdriver_write32(f->v, VIRTIO_MMIO_STATUS, 0);
	vdriver_poll(f->v);
	assert_int_equal(f->p->kicks[0], 1);
}

static void test_breaks_at_start(void **state)
{
	struct fixture *f = new_fixture("mode=break");

	(void)state;
	assert_false(vdriver_up(f->v, ALL));
	assert_int_equal(f->p->starts, 1);
	vdriver_poll(f->v);
	assert_int_equal(f->p->kicks[0], 0);
	vdriver_reset(f->v);
	assert_int_equal(f->p->stops, 1);
	teardown((void **)&f);
}

/* ---- queues */

static void test_queue_at_the_wrong_time(void **state)
{
	struct fixture *f = *state;

	assert_false(vdriver_setup_queue(f->v, 0, 0));
	vdriver_reset(f->v);
	assert_true(vdriver_negotiate(f->v, ALL));
	assert_true(vdriver_setup_queue(f->v, 0, 0));
	assert_true(vdriver_start(f->v));
	assert_false(vdriver_setup_queue(f->v, 1, 0));
	/* A queue stays off: the device may still hold its chains. */
	virtio_queue_set_ready(f->d, 0, false);
	assert_false(f->d->vq[0].ready);
	virtio_queue_set_ready(f->d, 0, true);
	assert_false(f->d->vq[0].ready);
	virtio_queue_set_ready(f->d, 3, true);
	virtio_queue_set_ready(f->d, UINT32_MAX, false);
	assert_int_equal(virtio_status(f->d), FEATURES_OK | DRIVER_OK);
}

/* 4.2.2.2: a ready queue's registers are fixed. */
static void test_ready_queue_is_fixed(void **state)
{
	struct fixture *f = *state;
	struct vq before;

	assert_true(vdriver_negotiate(f->v, ALL));
	assert_true(vdriver_setup_queue(f->v, 0, 8));
	before = f->d->vq[0];
	virtio_queue_set_size(f->d, 0, 4);
	virtio_queue_set_size(f->d, 3, 4);
	for (int ring = VIRTIO_RING_DESC; ring <= VIRTIO_RING_USED; ring++) {
		virtio_queue_set_address(f->d, 0, ring, false, 0x1000);
		virtio_queue_set_address(f->d, 0, ring, true, 0x1000);
		virtio_queue_set_address(f->d, 77, ring, true, 0x1000);
	}
	virtio_queue_set_ready(f->d, 0, true);
	assert_memory_equal(&before, &f->d->vq[0], sizeof(before));
	virtio_queue_set_ready(f->d, 0, false);
	virtio_queue_set_size(f->d, 0, 4);
	virtio_queue_set_address(f->d, 0, VIRTIO_RING_AVAIL, true, 0x12);
	virtio_queue_set_address(f->d, 0, VIRTIO_RING_AVAIL, false, 0x3456);
	assert_int_equal(f->d->vq[0].size, 4);
	assert_int_equal(f->d->vq[0].avail_gpa, UINT64_C(0x1200003456));
}

static void bad_queue(struct fixture *f, uint32_t size, gpa_t avail)
{
	vdriver_reset(f->v);
	assert_true(vdriver_negotiate(f->v, ALL));
	assert_true(vdriver_setup_queue(f->v, 1, 0));
	virtio_queue_set_ready(f->d, 1, false);
	virtio_queue_set_size(f->d, 1, size);
	virtio_queue_set_address(f->d, 1, VIRTIO_RING_AVAIL, false,
				 (uint32_t)avail);
	virtio_queue_set_address(f->d, 1, VIRTIO_RING_AVAIL, true, avail >> 32);
	virtio_queue_set_ready(f->d, 1, true);
	assert_false(f->d->vq[1].ready);
	assert_int_equal(virtio_status(f->d), FEATURES_OK | NEEDS_RESET);
	/*
	 * The device sends no interrupt before DRIVER_OK, and one with it
	 * (2.1.2).
	 */
	assert_int_equal(vdriver_interrupts(f->v), 0);
	assert_false(vdriver_start(f->v));
	assert_int_equal(vdriver_interrupts(f->v), 1);
	assert_int_equal(vdriver_acknowledge(f->v), VIRTIO_INTERRUPT_CONFIG);
	assert_int_equal(f->p->starts, 0);
	assert_false(f->d->running);
}

static void test_bad_queues(void **state)
{
	struct fixture *f = *state;

	bad_queue(f, 0, 0x1000);
	bad_queue(f, 3, 0x1000);
	bad_queue(f, 32, 0x1000);
	bad_queue(f, 65536 + 8, 0x1000);
	bad_queue(f, UINT32_MAX, 0x1000);
	bad_queue(f, 8, 0x1001);
	bad_queue(f, 8, MEM_MIN_BYTES);
	bad_queue(f, 8, MEM_HIGH_START);
	assert_true(vdriver_up(f->v, ALL));
}

/* ---- buffers */

static void test_request(void **state)
{
	struct fixture *f = *state;
	struct iovec out, in;
	uint32_t written;

	for (unsigned i = 0; i < 2; i++) {
		assert_true(vdriver_up(f->v, i ? ALL : 0));
		out = vdriver_buf(f->v, "abcd", 4);
		in = vdriver_buf(f->v, NULL, 4);
		vdriver_add(f->v, 1, &out, 1, &in, 1);
		if (i)
			vdriver_add_indirect(f->v, 1, &out, 1, &in, 1);
		vdriver_kick(f->v, 1);
		vdriver_poll(f->v);
		for (unsigned n = 0; n <= i; n++) {
			/* The first chain has descriptors 0 and 1. */
			assert_int_equal(vdriver_get_used(f->v, 1, &written),
					 2 * n);
			assert_int_equal(written, 4);
		}
		assert_int_equal(vdriver_get_used(f->v, 1, &written), -1);
		assert_int_equal(vdriver_interrupts(f->v), 1);
		assert_int_equal(vdriver_acknowledge(f->v),
				 VIRTIO_INTERRUPT_VRING);
	}
}

static void test_malformed_chain(void **state)
{
	struct fixture *f = *state;

	assert_true(vdriver_up(f->v, ALL));
	vdriver_poll(f->v);
	vdriver_avail(f->v, 1, 16);
	virtio_queue_kick(f->d, 1);
	vdriver_poll(f->v);
	assert_true(vdriver_needs_reset(f->v));
	assert_int_equal(vdriver_interrupts(f->v), 1);
	assert_int_equal(vdriver_acknowledge(f->v), VIRTIO_INTERRUPT_CONFIG);
	assert_int_equal(f->p->kicks[1], 2);
	/* At rest: no queue is served any more, none is answered. */
	virtio_lock(f->d);
	vq_push(&f->d->vq[1], 0, 0);
	virtio_publish(f->d, 1);
	virtio_unlock(f->d);
	assert_int_equal(vdriver_get_used(f->v, 1, NULL), -1);
	vdriver_avail(f->v, 0, 0);
	virtio_queue_kick(f->d, 0);
	virtio_queue_kick(f->d, 1);
	vdriver_poll(f->v);
	assert_int_equal(f->p->kicks[0], 1);
	assert_int_equal(f->p->kicks[1], 2);
	assert_int_equal(vdriver_interrupts(f->v), 0);
	/* Setting bits again does not wake it, a reset does. */
	virtio_set_status(f->d, FEATURES_OK | DRIVER_OK);
	assert_false(f->d->running);
	assert_true(vdriver_up(f->v, ALL));
	assert_int_equal(f->p->stops, 1);
	assert_int_equal(f->p->starts, 2);
	test_request(state);
}

static void test_reset_with_chains_under_way(void **state)
{
	struct fixture *f = new_fixture("mode=hold");
	struct iovec out;

	(void)state;
	assert_true(vdriver_up(f->v, ALL));
	out = vdriver_buf(f->v, "abcd", 4);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(vdriver_add(f->v, 0, &out, 1, NULL, 0), i);
	assert_int_equal(vdriver_add(f->v, 0, &out, 1, NULL, 0), -1);
	vdriver_kick(f->v, 0);
	vdriver_poll(f->v);
	assert_int_equal(f->p->held, 16);
	assert_int_equal(vdriver_get_used(f->v, 0, NULL), -1);
	vdriver_reset(f->v);
	assert_int_equal(f->p->held, 0);
	f->p->hold = false;
	test_request((void **)&f);
	teardown((void **)&f);
}

/* A second transport: a count for each interrupt. */
struct vectors {
	unsigned queue[3], config, mirrors;
};

static void vector_queues(void *transport, uint32_t queues)
{
	struct vectors *v = transport;

	for (unsigned q = 0; q < 3; q++)
		v->queue[q] += queues >> q & 1;
	assert_int_equal(queues >> 3, 0);
}

static void vector_config(void *transport)
{
	struct vectors *v = transport;

	v->config++;
}

static void vector_mirror(void *transport)
{
	struct vectors *v = transport;

	v->mirrors++;
}

/* Any other transport fits: one with an interrupt for each queue does. */
static void test_transport(void **state)
{
	static const struct virtio_transport_ops ops = {
		.queues = vector_queues,
		.config = vector_config,
		.mirror = vector_mirror,
	};
	struct fixture *f = *state;
	struct vectors v = {0};
	struct iovec out;

	assert_true(vdriver_up(f->v, 0));
	vdriver_poll(f->v);
	virtio_set_transport(f->d, &ops, &v);
	assert_int_equal(v.mirrors, 1);
	out = vdriver_buf(f->v, "abcd", 4);
	for (unsigned q = 0; q < 3; q += 2) {
		vdriver_add(f->v, q, &out, 1, NULL, 0);
		vdriver_kick(f->v, q);
	}
	vdriver_poll(f->v);
	assert_int_equal(v.queue[0], 1);
	assert_int_equal(v.queue[1], 0);
	assert_int_equal(v.queue[2], 1);
	virtio_lock(f->d);
	vq_push(&f->d->vq[0], 0, 0);
	vq_push(&f->d->vq[1], 0, 0);
	virtio_publish_all(f->d);
	virtio_config_changed(f->d);
	virtio_unlock(f->d);
	assert_int_equal(v.queue[0], 2);
	assert_int_equal(v.queue[1], 1);
	assert_int_equal(v.queue[2], 1);
	assert_int_equal(v.config, 1);
	assert_int_equal(v.mirrors, 2);
	virtio_set_transport(f->d, NULL, NULL);
	virtio_lock(f->d);
	virtio_broken(f->d, "nobody is told");
	virtio_unlock(f->d);
	assert_int_equal(v.config, 1);
}

/* Chains held come back, those that come meanwhile wait, and none is lost. */
static void test_pause(void **state)
{
	struct fixture *f = new_fixture("mode=hold");
	struct iovec out;

	(void)state;
	assert_true(vdriver_up(f->v, ALL));
	vdriver_poll(f->v);
	out = vdriver_buf(f->v, "abcd", 4);
	for (unsigned i = 0; i < 3; i++)
		vdriver_add(f->v, 0, &out, 1, NULL, 0);
	vdriver_kick(f->v, 0);
	vdriver_poll(f->v);
	assert_int_equal(f->p->held, 3);
	assert_int_equal(vdriver_held(f->v, 0), 3);
	vdriver_pause(f->v);
	assert_int_equal(f->p->pauses, 1);
	assert_int_equal(vdriver_interrupts(f->v), 1);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(vdriver_get_used(f->v, 0, NULL), i);
	/* A kick that was on its way, and the event that tells of it. */
	vdriver_add(f->v, 0, &out, 1, NULL, 0);
	virtio_queue_kick(f->d, 0);
	vdriver_poll(f->v);
	assert_int_equal(f->p->held, 0);
	assert_int_equal(f->p->kicks[0], 2);
	f->p->hold = false;
	virtio_resume(f->d);
	assert_int_equal(f->p->resumes, 1);
	vdriver_poll(f->v);
	assert_true(vdriver_get_used(f->v, 0, NULL) >= 0);
	/* Each of the three, as with DRIVER_OK. */
	assert_int_equal(f->p->kicks[0], 3);
	assert_int_equal(f->p->kicks[2], 2);
	assert_int_equal(f->p->starts, 1);
	assert_int_equal(f->p->stops, 0);
	teardown((void **)&f);
}

/* The driver learns of a change when the guest goes on, and once. */
static void test_config_changes_while_paused(void **state)
{
	struct fixture *f = *state;

	assert_true(vdriver_up(f->v, ALL));
	vdriver_poll(f->v);
	for (unsigned i = 0; i < 2; i++) {
		virtio_pause(f->d);
		virtio_lock(f->d);
		virtio_config_changed(f->d);
		virtio_config_changed(f->d);
		virtio_unlock(f->d);
		assert_int_equal(vdriver_interrupts(f->v), 0);
		virtio_resume(f->d);
		assert_int_equal(vdriver_acknowledge(f->v),
				 VIRTIO_INTERRUPT_CONFIG);
		assert_int_equal(vdriver_interrupts(f->v), 1);
		virtio_pause(f->d);
		virtio_resume(f->d);
		assert_int_equal(vdriver_interrupts(f->v), 0);
	}
}

/* A device without a driver, a broken one, and one that ends while paused. */
static void test_pause_at_any_time(void **state)
{
	struct fixture *f = *state;

	virtio_pause(f->d);
	virtio_resume(f->d);
	assert_false(f->d->running);
	assert_int_equal(f->p->pauses + f->p->resumes, 0);
	assert_true(vdriver_up(f->v, ALL));
	vdriver_avail(f->v, 1, 16);
	virtio_queue_kick(f->d, 1);
	vdriver_poll(f->v);
	assert_true(vdriver_needs_reset(f->v));
	virtio_pause(f->d);
	virtio_resume(f->d);
	assert_false(f->d->running);
	assert_int_equal(f->p->pauses + f->p->resumes, 0);
	assert_true(vdriver_up(f->v, ALL));
	assert_int_equal(f->p->stops, 1);
	virtio_pause(f->d);
	/* teardown() frees it. */
}

/* Answers to a queue that the driver took away go nowhere. */
static void test_queue_vanishes_under_a_chain(void **state)
{
	struct fixture *f = new_fixture("mode=hold");
	struct iovec out;

	(void)state;
	assert_true(vdriver_up(f->v, ALL));
	out = vdriver_buf(f->v, "abcd", 4);
	vdriver_add(f->v, 0, &out, 1, NULL, 0);
	vdriver_kick(f->v, 0);
	vdriver_poll(f->v);
	virtio_queue_set_ready(f->d, 0, false);
	virtio_lock(f->d);
	vq_push(&f->d->vq[0], 0, 4);
	virtio_publish(f->d, 0);
	virtio_unlock(f->d);
	assert_int_equal(vdriver_get_used(f->v, 0, NULL), -1);
	assert_int_equal(vdriver_interrupts(f->v), 0);
	teardown((void **)&f);
}

/* ---- configuration space */

static void test_config_writes(void **state)
{
	struct fixture *f = *state;

	virtio_config_write(f->d, 2, "ab", 2);
	assert_memory_equal(f->d->config, "01ab456789", 10);
	assert_int_equal(f->p->writes, 1);
	assert_int_equal(f->p->write_off, 2);
	assert_int_equal(f->p->write_len, 2);
	virtio_config_write(f->d, 9, "xy", 2);
	virtio_config_write(f->d, 10, "x", 1);
	virtio_config_write(f->d, SIZE_MAX, "xy", 2);
	assert_int_equal(f->p->writes, 1);
	assert_memory_equal(f->d->config, "01ab456789\0\0", 12);
}

static void test_config_changes(void **state)
{
	struct fixture *f = *state;

	/* No driver listens yet: it can read the change, but is not told. */
	virtio_lock(f->d);
	f->d->config[0] = 'X';
	virtio_config_changed(f->d);
	virtio_unlock(f->d);
	assert_int_equal(vdriver_interrupts(f->v), 0);
	assert_true(vdriver_up(f->v, ALL));
	virtio_lock(f->d);
	f->d->config[0] = 'Y';
	virtio_config_changed(f->d);
	virtio_unlock(f->d);
	assert_int_equal(vdriver_interrupts(f->v), 1);
	assert_int_equal(vdriver_acknowledge(f->v), VIRTIO_INTERRUPT_CONFIG);
	assert_int_equal(f->d->config_generation, 2);
}

/* ---- a thread of the device's own */

static void test_own_thread(void **state)
{
	struct fixture *f = *state;
	struct vdriver *v = vdriver_new_on(&threaded, NULL, &f->loop, NULL);
	const struct probe *p = v->dev->state;
	struct iovec out;

	assert_ptr_equal(v->dev->loop, &v->dev->own_loop);
	assert_true(vdriver_negotiate(v, ALL));
	assert_false(v->dev->own_loop.has_thread);
	vdriver_reset(v);
	for (unsigned i = 0; i < 50; i++) {
		assert_true(vdriver_up(v, ALL));
		assert_true(v->dev->own_loop.has_thread);
		out = vdriver_buf(v, "abcd", 4);
		assert_int_equal(vdriver_request(v, 1, &out, 1, NULL, 0), 4);
		virtio_lock(v->dev);
		assert_false(pthread_equal(p->thread, pthread_self()));
		virtio_unlock(v->dev);
		vdriver_add(v, 1, &out, 1, NULL, 0);
		vdriver_kick(v, 1);
	}
	/* Configuration is read-only where the device takes no writes. */
	vdriver_config_write(v, 0, "abcd", 4);
	assert_memory_equal(v->dev->config, "0123", 4);
	vdriver_free(v);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_lists_agree),
		TEST(test_open_fails),
		TEST(test_offer),
		TEST(test_unknown_features),
		TEST(test_features_are_final),
		TEST(test_driver_ok_needs_features_ok),
		TEST(test_status_is_only_added),
		TEST(test_start_once),
		TEST(test_start_kicks_ready_queues),
		TEST(test_kicks_that_mean_nothing),
		TEST(test_breaks_at_start),
		TEST(test_queue_at_the_wrong_time),
		TEST(test_ready_queue_is_fixed),
		TEST(test_bad_queues),
		TEST(test_request),
		TEST(test_malformed_chain),
		TEST(test_reset_with_chains_under_way),
		TEST(test_transport),
		TEST(test_pause),
		TEST(test_config_changes_while_paused),
		TEST(test_pause_at_any_time),
		TEST(test_queue_vanishes_under_a_chain),
		TEST(test_config_writes),
		TEST(test_config_changes),
		TEST(test_own_thread),
	};

	log_setup(LOG_ERROR, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
