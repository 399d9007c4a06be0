/* SPDX-License-Identifier: Apache-2.0 */
/* Split virtqueues on bare rings: no device, no thread, hostile chains. */
#include "devices/virtio/vq.h"

#include "vmm/base/iov.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define SIZE      8
#define DESC_GPA  0x10000
#define AVAIL_GPA 0x20000
#define USED_GPA  0x30000
#define DATA      0x100000
#define IOV_MAX   16

#define NEXT     VRING_DESC_F_NEXT
#define WRITE    VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT

#define EVENT_IDX  (UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX)
#define F_INDIRECT (UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC)

struct fixture {
	struct mem mem;
	struct vq vq;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	struct iovec iov[IOV_MAX];
	struct iov_chain chain;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f || mem_init(&f->mem, MEM_MIN_BYTES, &(struct mem_options){0}))
		return -1;
	f->desc = mem_at(&f->mem, DESC_GPA, 4096);
	f->avail = mem_at(&f->mem, AVAIL_GPA, 4096);
	f->used = mem_at(&f->mem, USED_GPA, 16384);
	f->chain = (struct iov_chain){.iov = f->iov, .iov_max = IOV_MAX};
	vq_init(&f->vq, &f->mem, 256);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	mem_done(&f->mem);
	free(f);
	return 0;
}

static int enable(struct fixture *f, unsigned size, uint64_t features)
{
	vq_reset(&f->vq);
	memset(f->avail, 0, 4096);
	memset(f->used, 0, 16384);
	f->vq.size = size;
	f->vq.desc_gpa = DESC_GPA;
	f->vq.avail_gpa = AVAIL_GPA;
	f->vq.used_gpa = USED_GPA;
	return vq_enable(&f->vq, features);
}

static void set(struct vring_desc *table, unsigned i, uint64_t addr,
		uint32_t len, uint16_t flags, uint16_t next)
{
	table[i] = (struct vring_desc){
		.addr = addr, .len = len, .flags = flags, .next = next};
}

static void offer(struct fixture *f, uint16_t head)
{
	f->avail->ring[f->avail->idx++ % f->vq.size] = head;
}

/* Offers the chain at descriptor 0 to a fresh queue. */
static int pop_one(struct fixture *f, uint64_t features)
{
	assert_int_equal(enable(f, SIZE, features), 0);
	offer(f, 0);
	return vq_pop(&f->vq, &f->chain);
}

/* The guest broke the rules: for good, until the queue is reset. */
static void refused(struct fixture *f, uint64_t features)
{
	assert_int_equal(pop_one(f, features), -EPROTO);
	assert_true(f->vq.broken);
	set(f->desc, 0, DATA, 16, 0, 0);
	offer(f, 0);
	assert_int_equal(vq_pop(&f->vq, &f->chain), -EPROTO);
	assert_false(vq_enable_kicks(&f->vq));
	assert_int_equal(pop_one(f, features), 1);
}

/* ---- set-up */

static void test_enable_sizes(void **state)
{
	struct fixture *f = *state;
	const struct {
		unsigned size;
		int result;
	} cases[] = {{0, -EINVAL},    {1, 0},   {2, 0},          {3, -EINVAL},
		     {255, -EINVAL},  {256, 0}, {257, -EINVAL},  {512, -EINVAL},
		     {1024, -EINVAL}, {8, 0},   {32768, -EINVAL}};

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(enable(f, cases[i].size, 0), cases[i].result);
		assert_int_equal(f->vq.ready, cases[i].result == 0);
	}
}

static void check_place(struct fixture *f, gpa_t *field, gpa_t gpa, int result)
{
	vq_reset(&f->vq);
	f->vq.desc_gpa = DESC_GPA;
	f->vq.avail_gpa = AVAIL_GPA;
	f->vq.used_gpa = USED_GPA;
	*field = gpa;
	assert_int_equal(vq_enable(&f->vq, 0), result);
}

/* Size 256: 4096, 518 and 2054 bytes, aligned to 16, 2 and 4 (2.7). */
static void test_enable_places(void **state)
{
	struct fixture *f = *state;
	const gpa_t end = MEM_MIN_BYTES;
	struct vq *vq = &f->vq;
	gpa_t *fields[] = {&vq->desc_gpa, &vq->avail_gpa, &vq->used_gpa};
	const gpa_t last[] = {end - 4096, end - 518, align_down(end - 2054, 4)};
	const gpa_t align[] = {16, 2, 4};

	for (unsigned i = 0; i < 3; i++) {
		check_place(f, fields[i], last[i], 0);
		check_place(f, fields[i], last[i] + align[i], -EINVAL);
		check_place(f, fields[i], DATA + align[i] / 2, -EINVAL);
		check_place(f, fields[i], DATA + align[i], 0);
		check_place(f, fields[i], end, -EINVAL);
		check_place(f, fields[i], MEM_LOW_END, -EINVAL);
		check_place(f, fields[i], UINT64_MAX - 15, -EINVAL);
		check_place(f, fields[i], 0, 0);
	}
}

static void test_not_ready(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(vq_pop(&f->vq, &f->chain), 0);
	assert_false(vq_publish(&f->vq));
	assert_false(vq_enable_kicks(&f->vq));
	vq_disable_kicks(&f->vq);
	vq_push(&f->vq, 3, 4);
	assert_int_equal(f->used->idx, 0);
}

/* ---- chains */

static void test_direct_chain(void **state)
{
	struct fixture *f = *state;

	set(f->desc, 0, DATA, 16, NEXT, 5);
	set(f->desc, 5, DATA + 4096, 100, NEXT, 2);
	set(f->desc, 2, DATA + 8192, 512, NEXT | WRITE, 7);
	set(f->desc, 7, DATA + 12288, 1, WRITE, 0);
	assert_int_equal(pop_one(f, 0), 1);
	assert_int_equal(f->chain.head, 0);
	assert_int_equal(f->chain.nout, 2);
	assert_int_equal(f->chain.nin, 2);
	assert_int_equal(f->chain.out_bytes, 116);
	assert_int_equal(f->chain.in_bytes, 513);
	assert_ptr_equal(f->iov[1].iov_base, mem_at(&f->mem, DATA + 4096, 1));
	assert_int_equal(f->iov[2].iov_len, 512);
	assert_ptr_equal(f->iov[3].iov_base, mem_at(&f->mem, DATA + 12288, 1));
	assert_int_equal(vq_pop(&f->vq, &f->chain), 0);
}

static void test_empty_buffers(void **state)
{
	struct fixture *f = *state;

	/* Their address means nothing either. */
	set(f->desc, 0, UINT64_MAX, 0, NEXT, 1);
	set(f->desc, 1, DATA, 5, NEXT, 2);
	set(f->desc, 2, 0, 0, WRITE, 0);
	assert_int_equal(pop_one(f, 0), 1);
	assert_int_equal(f->chain.nout, 1);
	assert_int_equal(f->chain.nin, 0);
	assert_int_equal(f->chain.out_bytes, 5);
}

static void test_longest_chain(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < SIZE; i++)
		set(f->desc, i, DATA, 1, i + 1 < SIZE ? NEXT : 0, i + 1);
	assert_int_equal(pop_one(f, 0), 1);
	assert_int_equal(f->chain.nout, SIZE);
}

static void test_bad_heads(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(enable(f, SIZE, 0), 0);
	offer(f, SIZE);
	assert_int_equal(vq_pop(&f->vq, &f->chain), -EPROTO);
	assert_int_equal(enable(f, SIZE, 0), 0);
	offer(f, 0xffff);
	assert_int_equal(vq_pop(&f->vq, &f->chain), -EPROTO);
}

static void test_bad_next(void **state)
{
	struct fixture *f = *state;

	set(f->desc, 0, DATA, 16, NEXT, SIZE);
	refused(f, 0);
	set(f->desc, 0, DATA, 16, NEXT, 0xffff);
	refused(f, 0);
}

static void test_loops(void **state)
{
	struct fixture *f = *state;

	set(f->desc, 0, DATA, 16, NEXT, 0);
	refused(f, 0);
	set(f->desc, 0, DATA, 16, NEXT, 3);
	set(f->desc, 3, DATA, 0, NEXT, 0);
	refused(f, 0);
	set(f->desc, 0, DATA, 0, NEXT, 0);
	refused(f, 0);
}

static void test_buffers_outside_ram(void **state)
{
	struct fixture *f = *state;
	const uint64_t end = MEM_MIN_BYTES;

	set(f->desc, 0, end - 1, 1, 0, 0);
	assert_int_equal(pop_one(f, 0), 1);
	set(f->desc, 0, end - 1, 2, 0, 0);
	refused(f, 0);
	set(f->desc, 0, end, 1, WRITE, 0);
	refused(f, 0);
	set(f->desc, 0, UINT64_MAX, 2, WRITE, 0);
	refused(f, 0);
	set(f->desc, 0, 0, UINT32_MAX, WRITE, 0);
	refused(f, 0);
	set(f->desc, 0, DATA, 16, NEXT, 1);
	set(f->desc, 1, MEM_HIGH_START, 16, 0, 0);
	refused(f, 0);
}

static void test_readable_after_writable(void **state)
{
	struct fixture *f = *state;

	set(f->desc, 0, DATA, 16, NEXT | WRITE, 1);
	set(f->desc, 1, DATA, 16, 0, 0);
	refused(f, 0);
}

static void test_too_many_buffers(void **state)
{
	struct fixture *f = *state;

	set(f->desc, 0, DATA, 16, NEXT, 1);
	set(f->desc, 1, DATA, 16, NEXT, 2);
	set(f->desc, 2, DATA, 16, 0, 0);
	f->chain.iov_max = 3;
	assert_int_equal(pop_one(f, 0), 1);
	f->chain.iov_max = 2;
	refused(f, 0);
	f->chain.iov_max = 1;
	assert_int_equal(pop_one(f, 0), 1);
}

/* 2.7.5.2: with 32 MiB of RAM it takes 128 buffers to reach 4 GiB. */
static void test_over_4_gib(void **state)
{
	struct fixture *f = *state;
	struct iovec iov[200];

	f->chain.iov = iov;
	f->chain.iov_max = ARRAY_LEN(iov);
	for (unsigned i = 0; i < 128; i++)
		set(f->desc, i, 0, MEM_MIN_BYTES, i < 127 ? NEXT : 0, i + 1);
	assert_int_equal(enable(f, 256, 0), 0);
	offer(f, 0);
	assert_int_equal(vq_pop(&f->vq, &f->chain), -EPROTO);
	/* Readable and writable bytes count together. */
	f->desc[127].flags = WRITE;
	assert_int_equal(enable(f, 256, 0), 0);
	offer(f, 0);
	assert_int_equal(vq_pop(&f->vq, &f->chain), -EPROTO);
	f->desc[127].len--;
	assert_int_equal(enable(f, 256, 0), 0);
	offer(f, 0);
	assert_int_equal(vq_pop(&f->vq, &f->chain), 1);
	assert_int_equal(f->chain.out_bytes, 127u * MEM_MIN_BYTES);
	assert_int_equal(f->chain.in_bytes, MEM_MIN_BYTES - 1);
}

/* ---- indirect descriptors */

static void test_indirect(void **state)
{
	struct fixture *f = *state;
	struct vring_desc *table = mem_at(&f->mem, DATA, 4096);

	set(table, 0, DATA + 4096, 16, NEXT, 2);
	set(table, 2, DATA + 8192, 32, WRITE, 0);
	/* The WRITE flag of the indirect descriptor is ignored. */
	set(f->desc, 0, DATA, 48, INDIRECT | WRITE, 0);
	assert_int_equal(pop_one(f, F_INDIRECT), 1);
	assert_int_equal(f->chain.nout, 1);
	assert_int_equal(f->chain.nin, 1);
	assert_int_equal(f->chain.in_bytes, 32);
	/* Not negotiated: the same is wrong. */
	refused(f, 0);
}

static void test_indirect_after_direct(void **state)
{
	struct fixture *f = *state;
	struct vring_desc *table = mem_at(&f->mem, DATA, 4096);

	set(table, 0, DATA + 4096, 16, WRITE, 0);
	set(f->desc, 0, DATA + 100, 7, NEXT, 4);
	set(f->desc, 4, DATA, 16, INDIRECT, 0);
	assert_int_equal(pop_one(f, F_INDIRECT), 1);
	assert_int_equal(f->chain.out_bytes, 7);
	assert_int_equal(f->chain.in_bytes, 16);
}

/* A table may be anywhere, and have as many entries as the queue. */
static void test_indirect_longest(void **state)
{
	struct fixture *f = *state;
	uint8_t *table = mem_at(&f->mem, DATA + 1, 4096);

	for (unsigned i = 0; i <= SIZE; i++) {
		struct vring_desc desc = {.addr = DATA + 4096, .len = 1};

		desc.flags = i + 1 < SIZE ? NEXT : 0;
		desc.next = i + 1;
		memcpy(table + 16 * i, &desc, sizeof(desc));
	}
	set(f->desc, 0, DATA + 1, 16 * (SIZE + 1), INDIRECT, 0);
	assert_int_equal(pop_one(f, F_INDIRECT), 1);
	assert_int_equal(f->chain.nout, SIZE);
	table[16 * (SIZE - 1) + offsetof(struct vring_desc, flags)] = NEXT;
	refused(f, F_INDIRECT);
}

static void test_indirect_bad(void **state)
{
	struct fixture *f = *state;
	struct vring_desc *table = mem_at(&f->mem, DATA, 4096);

	set(table, 0, DATA + 4096, 16, 0, 0);
	set(f->desc, 0, DATA, 0, INDIRECT, 0);
	refused(f, F_INDIRECT);
	set(f->desc, 0, DATA, 17, INDIRECT, 0);
	refused(f, F_INDIRECT);
	set(f->desc, 0, DATA, 8, INDIRECT, 0);
	refused(f, F_INDIRECT);
	set(f->desc, 0, DATA, 16, INDIRECT | NEXT, 1);
	refused(f, F_INDIRECT);
	set(f->desc, 0, MEM_MIN_BYTES - 8, 16, INDIRECT, 0);
	refused(f, F_INDIRECT);
	set(f->desc, 0, DATA, 0xfffffff0, INDIRECT, 0);
	refused(f, F_INDIRECT);
	/* Inside the table: nested, beyond its end, a loop. */
	set(f->desc, 0, DATA, 32, INDIRECT, 0);
	set(table, 0, DATA, 32, INDIRECT, 0);
	refused(f, F_INDIRECT);
	set(f->desc, 0, DATA, 32, INDIRECT, 0);
	set(table, 0, DATA + 4096, 16, NEXT, 2);
	refused(f, F_INDIRECT);
	set(f->desc, 0, DATA, 32, INDIRECT, 0);
	set(table, 0, DATA + 4096, 16, NEXT, 0);
	refused(f, F_INDIRECT);
}

/* ---- indices */

static void test_avail_runs_ahead(void **state)
{
	struct fixture *f = *state;

	set(f->desc, 0, DATA, 16, 0, 0);
	assert_int_equal(enable(f, SIZE, 0), 0);
	f->avail->idx = SIZE + 1;
	assert_int_equal(vq_pop(&f->vq, &f->chain), -EPROTO);
	assert_int_equal(enable(f, SIZE, 0), 0);
	f->avail->idx = 0xffff;
	assert_int_equal(vq_pop(&f->vq, &f->chain), -EPROTO);
	assert_int_equal(enable(f, SIZE, 0), 0);
	f->avail->idx = SIZE;
	for (unsigned i = 0; i < SIZE; i++)
		assert_int_equal(vq_pop(&f->vq, &f->chain), 1);
	assert_int_equal(vq_pop(&f->vq, &f->chain), 0);
}

/* No guest makes a device hold more chains than the queue has entries. */
static void test_under_way_is_bounded(void **state)
{
	struct fixture *f = *state;

	set(f->desc, 0, DATA, 16, 0, 0);
	assert_int_equal(enable(f, SIZE, 0), 0);
	for (unsigned i = 0; i < SIZE; i++) {
		offer(f, 0);
		assert_int_equal(vq_pop(&f->vq, &f->chain), 1);
	}
	offer(f, 0);
	assert_int_equal(vq_pop(&f->vq, &f->chain), -EPROTO);
	/* Backwards is no better. */
	assert_int_equal(enable(f, SIZE, 0), 0);
	offer(f, 0);
	assert_int_equal(vq_pop(&f->vq, &f->chain), 1);
	f->avail->idx = 0;
	assert_int_equal(vq_pop(&f->vq, &f->chain), -EPROTO);
	/* After a push there is room again. */
	assert_int_equal(enable(f, 1, 0), 0);
	for (unsigned i = 0; i < 10; i++) {
		offer(f, 0);
		assert_int_equal(vq_pop(&f->vq, &f->chain), 1);
		vq_push(&f->vq, 0, 0);
	}
}

static void test_unpop(void **state)
{
	struct fixture *f = *state;

	set(f->desc, 0, DATA, 16, 0, 0);
	set(f->desc, 3, DATA, 48, 0, 0);
	assert_int_equal(enable(f, SIZE, 0), 0);
	offer(f, 3);
	offer(f, 0);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(vq_pop(&f->vq, &f->chain), 1);
		assert_int_equal(f->chain.head, 3);
		vq_unpop(&f->vq);
	}
	assert_int_equal(vq_pop(&f->vq, &f->chain), 1);
	assert_int_equal(vq_pop(&f->vq, &f->chain), 1);
	assert_int_equal(f->chain.head, 0);
	assert_int_equal(vq_pop(&f->vq, &f->chain), 0);
}

static void test_used_ring(void **state)
{
	struct fixture *f = *state;

	set(f->desc, 2, DATA, 16, WRITE, 0);
	assert_int_equal(enable(f, SIZE, 0), 0);
	for (unsigned i = 0; i < 70000; i++) {
		const unsigned slot = i % SIZE;

		offer(f, 2);
		assert_int_equal(vq_pop(&f->vq, &f->chain), 1);
		assert_int_equal(vq_pop(&f->vq, &f->chain), 0);
		vq_push(&f->vq, 2, i);
		/* Nothing is visible before it is published. */
		assert_int_equal(f->used->idx, (uint16_t)i);
		assert_true(vq_publish(&f->vq));
		assert_int_equal(f->used->idx, (uint16_t)(i + 1));
		assert_int_equal(f->used->ring[slot].id, 2);
		assert_int_equal(f->used->ring[slot].len, i);
	}
}

/* ---- suppression */

static void push_one(struct fixture *f)
{
	offer(f, 0);
	assert_int_equal(vq_pop(&f->vq, &f->chain), 1);
	vq_push(&f->vq, 0, 0);
}

static void test_interrupt_flag(void **state)
{
	struct fixture *f = *state;

	set(f->desc, 0, DATA, 16, 0, 0);
	assert_int_equal(enable(f, SIZE, 0), 0);
	assert_false(vq_publish(&f->vq));
	push_one(f);
	assert_true(vq_publish(&f->vq));
	assert_false(vq_publish(&f->vq));
	f->avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	push_one(f);
	assert_false(vq_publish(&f->vq));
	assert_int_equal(f->used->idx, 2);
	f->avail->flags = 0;
	push_one(f);
	assert_true(vq_publish(&f->vq));
}

/* 2.7.7.1: an interrupt when the index passes used_event, not before. */
static void test_interrupt_event(void **state)
{
	struct fixture *f = *state;
	uint16_t *event;

	set(f->desc, 0, DATA, 16, 0, 0);
	assert_int_equal(enable(f, SIZE, EVENT_IDX), 0);
	event = &f->avail->ring[SIZE];
	/* With event_idx the device ignores the flag. */
	f->avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	push_one(f);
	assert_true(vq_publish(&f->vq)); /* 0 -> 1 passes 0 */
	push_one(f);
	assert_false(vq_publish(&f->vq)); /* still at 0 */
	*event = 4;
	push_one(f);
	assert_false(vq_publish(&f->vq)); /* 2 -> 3 */
	push_one(f);
	assert_false(vq_publish(&f->vq)); /* 3 -> 4 */
	push_one(f);
	assert_true(vq_publish(&f->vq)); /* 4 -> 5 */
	*event = 7;
	for (unsigned i = 0; i < 4; i++)
		push_one(f);
	assert_true(vq_publish(&f->vq)); /* 5 -> 9 at once */
	*event = 9;
	assert_false(vq_publish(&f->vq)); /* nothing new */
}

static void test_interrupt_event_wraps(void **state)
{
	struct fixture *f = *state;
	uint16_t *event;
	unsigned raised = 0;

	set(f->desc, 0, DATA, 16, 0, 0);
	assert_int_equal(enable(f, SIZE, EVENT_IDX), 0);
	event = &f->avail->ring[SIZE];
	*event = 0xfffe;
	for (unsigned i = 0; i < 0xfffe; i++) {
		push_one(f);
		raised += vq_publish(&f->vq);
	}
	assert_int_equal(raised, 0);
	for (unsigned i = 0; i < 3; i++)
		push_one(f);
	assert_true(vq_publish(&f->vq)); /* 0xfffe -> 1 */
	*event = 1;
	push_one(f);
	assert_true(vq_publish(&f->vq));
}

static void test_kick_flag(void **state)
{
	struct fixture *f = *state;

	set(f->desc, 0, DATA, 16, 0, 0);
	assert_int_equal(enable(f, SIZE, 0), 0);
	vq_disable_kicks(&f->vq);
	assert_int_equal(f->used->flags, VRING_USED_F_NO_NOTIFY);
	assert_false(vq_enable_kicks(&f->vq));
	assert_int_equal(f->used->flags, 0);
	vq_disable_kicks(&f->vq);
	offer(f, 0);
	assert_true(vq_enable_kicks(&f->vq));
	assert_int_equal(vq_pop(&f->vq, &f->chain), 1);
	assert_false(vq_enable_kicks(&f->vq));
}

static void test_kick_event(void **state)
{
	struct fixture *f = *state;
	const uint16_t *event;

	set(f->desc, 0, DATA, 16, 0, 0);
	assert_int_equal(enable(f, SIZE, EVENT_IDX), 0);
	event = (const uint16_t *)(const void *)&f->used->ring[SIZE];
	for (unsigned i = 0; i < 3; i++)
		push_one(f);
	assert_int_equal(*event, 0);
	vq_disable_kicks(&f->vq);
	assert_int_equal(*event, 0);
	assert_int_equal(f->used->flags, 0);
	assert_false(vq_enable_kicks(&f->vq));
	assert_int_equal(*event, 3);
	offer(f, 0);
	assert_true(vq_enable_kicks(&f->vq));
	assert_int_equal(*event, 3);
	/* Chains that were taken count, answered or not. */
	assert_int_equal(vq_pop(&f->vq, &f->chain), 1);
	assert_false(vq_enable_kicks(&f->vq));
	assert_int_equal(*event, 4);
	/* A kick for the third from now on. */
	assert_false(vq_enable_kicks_after(&f->vq, 3));
	assert_int_equal(*event, 6);
	offer(f, 0);
	offer(f, 0);
	assert_false(vq_enable_kicks_after(&f->vq, 3));
	assert_int_equal(*event, 6);
	offer(f, 0);
	assert_true(vq_enable_kicks_after(&f->vq, 3));
}

/* Without EVENT_IDX the device can only say "no kicks". */
static void test_kicks_after_flag(void **state)
{
	struct fixture *f = *state;

	set(f->desc, 0, DATA, 16, 0, 0);
	assert_int_equal(enable(f, SIZE, 0), 0);
	assert_false(vq_enable_kicks_after(&f->vq, 1));
	assert_int_equal(f->used->flags, VRING_USED_F_NO_NOTIFY);
	offer(f, 0);
	assert_false(vq_enable_kicks_after(&f->vq, 1));
	assert_true(vq_enable_kicks(&f->vq));
	assert_int_equal(f->used->flags, 0);
}

/* ---- iovec helpers */

static void test_iov(void **state)
{
	char a[] = "abc", b[] = "", c[] = "defgh", d[] = "ij";
	const struct iovec iov[] = {{a, 3}, {b, 0}, {c, 5}, {d, 2}};
	struct iovec part[4];
	char text[16];

	(void)state;
	for (size_t off = 0; off <= 12; off++) {
		for (size_t len = 0; len <= 12; len++) {
			const size_t want =
				off < 10 ? min_u64(len, 10 - off) : 0;
			const size_t n = iov_read(iov, 4, off, text, len);
			unsigned nparts;

			assert_int_equal(n, want);
			if (n > 0)
				assert_memory_equal(text, &"abcdefghij"[off],
						    n);
			nparts = iov_slice(iov, 4, off, len, part);
			memset(text, 0, sizeof(text));
			assert_int_equal(iov_read(part, nparts, 0, text, 16),
					 want);
			if (n > 0)
				assert_memory_equal(text, &"abcdefghij"[off],
						    n);
		}
	}
	assert_int_equal(iov_write(iov, 4, 2, "CDEFGHIJKL", 10), 8);
	assert_string_equal(a, "abC");
	assert_string_equal(c, "DEFGH");
	assert_string_equal(d, "IJ");
	assert_int_equal(iov_write(iov, 4, 9, "xyz", 1), 1);
	assert_string_equal(d, "Ix");
	assert_int_equal(iov_write(iov, 4, 10, "xyz", 3), 0);
	assert_int_equal(iov_slice(iov, 4, 4, 3, part), 1);
	assert_ptr_equal(part[0].iov_base, c + 1);
	assert_int_equal(part[0].iov_len, 3);
	assert_int_equal(iov_slice(iov, 0, 0, 3, part), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_enable_sizes),
		TEST(test_enable_places),
		TEST(test_not_ready),
		TEST(test_direct_chain),
		TEST(test_empty_buffers),
		TEST(test_longest_chain),
		TEST(test_bad_heads),
		TEST(test_bad_next),
		TEST(test_loops),
		TEST(test_buffers_outside_ram),
		TEST(test_readable_after_writable),
		TEST(test_too_many_buffers),
		TEST(test_over_4_gib),
		TEST(test_indirect),
		TEST(test_indirect_after_direct),
		TEST(test_indirect_longest),
		TEST(test_indirect_bad),
		TEST(test_avail_runs_ahead),
		TEST(test_under_way_is_bounded),
		TEST(test_unpop),
		TEST(test_used_ring),
		TEST(test_interrupt_flag),
		TEST(test_interrupt_event),
		TEST(test_interrupt_event_wraps),
		TEST(test_kick_flag),
		TEST(test_kick_event),
		TEST(test_kicks_after_flag),
		TEST(test_iov),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
