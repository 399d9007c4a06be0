/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtqueue in memory that the input fills: whatever lies in the rings, a
 * chain only ever has buffers inside RAM, and no more than was asked for.
 *
 * Input: size and features, then operations, one byte and its operands each.
 */
#include "devices/virtio/vq.h"

#include "vmm/base/iov.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>

#define LOW_BYTES  0x8000
#define HIGH_BYTES 0x1000
#define IOV_MAX    12

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

struct input {
	const uint8_t *at, *end;
};

static uint32_t take(struct input *in, unsigned bytes)
{
	uint32_t value = 0;

	for (unsigned i = 0; i < bytes && in->at < in->end; i++)
		value |= (uint32_t)*in->at++ << 8 * i;
	return value;
}

struct run {
	struct input in;
	struct mem mem;
	struct vq vq;
	uint64_t features;
	struct iovec iov[IOV_MAX];
	struct iov_chain chain;
	uint16_t head[VQ_MAX_SIZE]; /* under way */
	unsigned nheads;
};

static void check(bool condition)
{
	if (!condition)
		abort();
}

static bool in_ram(const struct mem *mem, const struct iovec *iov)
{
	for (unsigned i = 0; i < mem->nregions; i++) {
		const struct mem_region *region = &mem->region[i];
		const uint8_t *at = iov->iov_base;

		if (at >= region->host &&
		    at + iov->iov_len <= region->host + region->bytes)
			return true;
	}
	return false;
}

static void check_chain(struct run *run)
{
	struct iov_chain *chain = &run->chain;
	const unsigned n = chain->nout + chain->nin;
	uint64_t out = 0, in = 0;
	uint8_t byte;

	check(n <= chain->iov_max && n <= run->vq.size);
	for (unsigned i = 0; i < n; i++) {
		check(run->iov[i].iov_len > 0);
		check(in_ram(&run->mem, &run->iov[i]));
		*(i < chain->nout ? &out : &in) += run->iov[i].iov_len;
	}
	check(out == chain->out_bytes && in == chain->in_bytes);
	check(chain->head < run->vq.size);
	if (out > 0)
		check(iov_read(run->iov, chain->nout, out - 1, &byte, 9) == 1);
}

static void enable(struct run *run)
{
	struct vq *vq = &run->vq;
	const unsigned shift = take(&run->in, 1);

	vq_reset(vq);
	run->nheads = 0;
	/* Mostly where the rest of the input expects it. */
	vq->size = shift & 0x80 ? take(&run->in, 2) : 1u << shift % 8;
	vq->desc_gpa = shift & 0x40 ? take(&run->in, 4) : 0;
	vq->avail_gpa = shift & 0x40 ? take(&run->in, 4) : 0x1000;
	vq->used_gpa = shift & 0x20 ? take(&run->in, 4) : 0x2000;
	check(!vq->ready);
	if (vq_enable(vq, run->features) < 0)
		check(!vq->ready && vq_pop(vq, &run->chain) == 0);
}

static void pop(struct run *run)
{
	const bool was_broken = run->vq.broken;
	int r;

	run->chain.iov_max = IOV_MAX;
	r = vq_pop(&run->vq, &run->chain);
	check(r == 0 || r == 1 || r == -EPROTO);
	check(!was_broken || !run->vq.ready || r == -EPROTO);
	if (r != 1)
		return;
	check_chain(run);
	check(run->nheads < run->vq.size);
	run->head[run->nheads++] = run->chain.head;
	if (take(&run->in, 1) % 8 == 0) {
		vq_unpop(&run->vq);
		run->nheads--;
	}
}

static void push(struct run *run)
{
	if (run->nheads == 0)
		return;
	vq_push(&run->vq, run->head[--run->nheads], take(&run->in, 2));
}

static void poke(struct run *run)
{
	const gpa_t gpa = take(&run->in, 2);
	const unsigned len = take(&run->in, 1) % 64;

	for (unsigned i = 0; i < len; i++) {
		const uint8_t byte = take(&run->in, 1);

		(void)mem_write(&run->mem, gpa + i, &byte, 1);
	}
}

static void set_desc(struct run *run)
{
	struct vring_desc desc = {0};
	const gpa_t gpa = take(&run->in, 1) * 16;

	desc.addr = take(&run->in, 2);
	desc.len = take(&run->in, 2);
	desc.flags = take(&run->in, 1);
	desc.next = take(&run->in, 1);
	(void)mem_write(&run->mem, gpa, &desc, sizeof(desc));
}

/* A well-behaved driver's part, so that deep states are within reach. */
static void offer(struct run *run)
{
	const struct vq *vq = &run->vq;
	const uint16_t head = take(&run->in, 1);
	uint16_t idx;

	if (!vq->ready || mem_read(&run->mem, vq->avail_gpa + 2, &idx, 2) < 0)
		return;
	(void)mem_write(&run->mem,
			vq->avail_gpa + 4 + 2 * (idx & (vq->size - 1)), &head,
			2);
	idx++;
	(void)mem_write(&run->mem, vq->avail_gpa + 2, &idx, 2);
}

static void step(struct run *run)
{
	switch (take(&run->in, 1) % 10) {
	case 0:
		enable(run);
		break;
	case 1:
	case 2:
		pop(run);
		break;
	case 3:
		push(run);
		break;
	case 4:
		vq_publish(&run->vq);
		check(!vq_publish(&run->vq));
		break;
	case 5:
		vq_disable_kicks(&run->vq);
		break;
	case 6:
		vq_enable_kicks(&run->vq);
		break;
	case 7:
		poke(run);
		break;
	case 8:
		set_desc(run);
		break;
	default:
		offer(run);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct run run = {.in = {data, data + bytes}};
	autofree uint8_t *low = calloc(1, LOW_BYTES);
	autofree uint8_t *high = calloc(1, HIGH_BYTES);

	check(low && high);
	run.mem = (struct mem){
		.region = {{0, LOW_BYTES, low},
			   {MEM_HIGH_START, HIGH_BYTES, high}},
		.nregions = 2,
		.bytes = LOW_BYTES + HIGH_BYTES,
	};
	run.chain.iov = run.iov;
	run.features = (uint64_t)take(&run.in, 1)
		       << VIRTIO_RING_F_INDIRECT_DESC;
	vq_init(&run.vq, &run.mem, 256);
	enable(&run);
	while (run.in.at < run.in.end)
		step(&run);
	return 0;
}
