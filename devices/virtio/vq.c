/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split virtqueues (virtio 1.2, 2.7), the device's half. The only code that
 * reads or writes a ring. Knows no transport, no device, no lock.
 */
#include "devices/virtio/vq.h"

#include "vmm/base/util.h"
#include "vmm/base/visit.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>

/* 2.7: bytes of the rings of N entries, the event index included. */
#define DESC_BYTES(n)  (UINT64_C(16) * (n))
#define AVAIL_BYTES(n) (6 + UINT64_C(2) * (n))
#define USED_BYTES(n)  (6 + UINT64_C(8) * (n))

/*
 * Every field of a ring that both sides use at once is read and written by one
 * of these, exactly once: the guest may change it between two looks.
 */
static uint16_t load16(const __virtio16 *field)
{
	return le16toh(__atomic_load_n(field, __ATOMIC_RELAXED));
}

static void store16(__virtio16 *field, uint16_t value)
{
	__atomic_store_n(field, htole16(value), __ATOMIC_RELAXED);
}

/* 2.7.13.3: descriptors and avail entries are read after the index. */
static uint16_t load_avail_idx(const struct vq *vq)
{
	return le16toh(__atomic_load_n(&vq->avail->idx, __ATOMIC_ACQUIRE));
}

/* The driver's word on interrupts lies behind the avail ring (2.7.6). */
static const __virtio16 *used_event(const struct vq *vq)
{
	return &vq->avail->ring[vq->size];
}

/* The device's word on kicks lies behind the used ring (2.7.8). */
static __virtio16 *avail_event(const struct vq *vq)
{
	return (__virtio16 *)(void *)&vq->used->ring[vq->size];
}

void vq_init(struct vq *vq, const struct mem *mem, uint16_t max)
{
	assert(max > 0 && max <= VQ_MAX_SIZE && (max & (max - 1)) == 0);
	*vq = (struct vq){.mem = mem, .max = max, .size = max};
}

void vq_reset(struct vq *vq)
{
	vq_init(vq, vq->mem, vq->max);
}

static void *ring_at(const struct vq *vq, gpa_t gpa, uint64_t bytes,
		     uint64_t align)
{
	return gpa % align == 0 ? mem_at(vq->mem, gpa, bytes) : NULL;
}

/* The driver's choice of size and places becomes pointers: 0 or -EINVAL. */
static int map_rings(struct vq *vq)
{
	const uint16_t size = vq->size;

	if (size == 0 || size > vq->max || (size & (size - 1)) != 0)
		return -EINVAL;
	vq->desc = ring_at(vq, vq->desc_gpa, DESC_BYTES(size), 16);
	vq->avail = ring_at(vq, vq->avail_gpa, AVAIL_BYTES(size), 2);
	vq->used = ring_at(vq, vq->used_gpa, USED_BYTES(size), 4);
	return vq->desc && vq->avail && vq->used ? 0 : -EINVAL;
}

int vq_enable(struct vq *vq, uint64_t features)
{
	if (map_rings(vq) < 0)
		return -EINVAL;
	vq->event_idx = features >> VIRTIO_RING_F_EVENT_IDX & 1;
	vq->indirect = features >> VIRTIO_RING_F_INDIRECT_DESC & 1;
	vq->next_avail = vq->next_used = vq->published = 0;
	vq->broken = false;
	vq->ready = true;
	return 0;
}

void vq_visit(struct vq *vq, struct visitor *v)
{
	visit_part(v, "queue");
	visit_same(v, "max", &vq->max, sizeof(vq->max));
	VISIT(v, vq, size);
	VISIT(v, vq, desc_gpa);
	VISIT(v, vq, avail_gpa);
	VISIT(v, vq, used_gpa);
	VISIT(v, vq, ready);
	VISIT(v, vq, event_idx);
	VISIT(v, vq, indirect);
	VISIT(v, vq, next_avail);
	VISIT(v, vq, next_used);
	VISIT(v, vq, published);
	VISIT(v, vq, broken);
	if (visit_loads(v) && visit_goes_on(v) && vq->ready) {
		const uint16_t taken =
			(uint16_t)(vq->next_avail - vq->next_used);

		if (map_rings(vq) < 0)
			visit_wrong(v, "bad size or ring address");
		else if (taken > vq->size)
			visit_wrong(v, "more chains taken than it has");
	}
	/* A ring that was not found is not looked at. */
	if (visit_loads(v) && !visit_goes_on(v))
		vq->ready = false;
	visit_part_end(v);
}

/*
 * The descriptor's bytes, copied once. The barrier keeps the compiler from
 * looking again where it could have kept the copy. An indirect table may lie at
 * any address, so this is no load of an aligned struct.
 */
static struct vring_desc fetch_desc(const struct vring_desc *table, unsigned i)
{
	struct vring_desc desc;

	memcpy(&desc, (const uint8_t *)table + sizeof(desc) * i, sizeof(desc));
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	desc.addr = le64toh(desc.addr);
	desc.len = le32toh(desc.len);
	desc.flags = le16toh(desc.flags);
	desc.next = le16toh(desc.next);
	return desc;
}

/* A buffer without bytes is legal and means nothing: no device sees it. */
static int add_buffer(const struct vq *vq, struct iov_chain *chain,
		      const struct vring_desc *desc)
{
	const bool writable = desc->flags & VRING_DESC_F_WRITE;
	const unsigned n = chain->nout + chain->nin;
	uint32_t *sum = writable ? &chain->in_bytes : &chain->out_bytes;
	void *host;

	/* 2.7.4.2: readable ones come first. */
	if (!writable && chain->nin > 0)
		return -EPROTO;
	if (desc->len == 0)
		return 0;
	host = mem_at(vq->mem, desc->addr, desc->len);
	/* 2.7.5.2: a chain never has more than 2^32 bytes. */
	if (!host || n >= chain->iov_max ||
	    (uint64_t)chain->in_bytes + chain->out_bytes + desc->len >
		    UINT32_MAX)
		return -EPROTO;
	*sum += desc->len;
	chain->iov[n] = (struct iovec){.iov_base = host, .iov_len = desc->len};
	if (writable)
		chain->nin++;
	else
		chain->nout++;
	return 0;
}

/*
 * Follows a chain from the head. 2.7.5.2: it has at most `size` buffers, in an
 * indirect table too (2.7.5.3.1), which is also what ends a loop. 2.7.5.3.2: an
 * indirect descriptor may follow ordinary ones, and is the last; inside its
 * table there is none, as `indirect` is over then. Its WRITE flag means
 * nothing.
 */
static int walk(const struct vq *vq, struct iov_chain *chain)
{
	const struct vring_desc *table = vq->desc;
	bool indirect = vq->indirect;
	uint32_t entries = vq->size;
	uint32_t i = chain->head;

	for (unsigned left = vq->size; left > 0; left--) {
		struct vring_desc desc;
		int r;

		if (i >= entries)
			return -EPROTO;
		desc = fetch_desc(table, i);
		if (desc.flags & VRING_DESC_F_INDIRECT) {
			if (!indirect || (desc.flags & VRING_DESC_F_NEXT) ||
			    desc.len == 0 || desc.len % sizeof(desc) != 0)
				return -EPROTO;
			table = mem_at(vq->mem, desc.addr, desc.len);
			if (!table)
				return -EPROTO;
			entries = desc.len / sizeof(desc);
			indirect = false;
			i = 0;
			left++; /* this one is no buffer; there is only one */
			continue;
		}
		r = add_buffer(vq, chain, &desc);
		if (r < 0)
			return r;
		if (!(desc.flags & VRING_DESC_F_NEXT))
			return 0;
		i = desc.next;
	}
	return -EPROTO;
}

int vq_pop(struct vq *vq, struct iov_chain *chain)
{
	uint16_t waiting, under_way;

	if (!vq->ready)
		return 0;
	if (vq->broken)
		return -EPROTO;
	waiting = (uint16_t)(load_avail_idx(vq) - vq->next_avail);
	if (waiting == 0)
		return 0;
	/*
	 * 2.7.5: what the driver offers and what the device still has are
	 * different descriptors, so together no more than the queue's size.
	 * This also bounds what a device ever has under way.
	 */
	under_way = (uint16_t)(vq->next_avail - vq->next_used);
	vq->broken = (uint32_t)waiting + under_way > vq->size;
	if (vq->broken)
		return -EPROTO;
	chain->nout = chain->nin = 0;
	chain->out_bytes = chain->in_bytes = 0;
	chain->head = load16(&vq->avail->ring[vq->next_avail & (vq->size - 1)]);
	vq->broken = walk(vq, chain) < 0;
	if (vq->broken)
		return -EPROTO;
	vq->next_avail++;
	return 1;
}

void vq_unpop(struct vq *vq)
{
	vq->next_avail--;
}

void vq_push(struct vq *vq, uint16_t head, uint32_t written)
{
	struct vring_used_elem *elem;

	/* The driver may have disabled the queue under a request. */
	if (!vq->ready)
		return;
	elem = &vq->used->ring[vq->next_used & (vq->size - 1)];
	elem->id = htole32(head);
	elem->len = htole32(written);
	vq->next_used++;
}

bool vq_publish(struct vq *vq)
{
	const uint16_t before = vq->published;

	if (!vq->ready || vq->next_used == before)
		return false;
	/* 2.7.8.2: entries, and the data, are visible before the index. */
	__atomic_store_n(&vq->used->idx, htole16(vq->next_used),
			 __ATOMIC_RELEASE);
	vq->published = vq->next_used;
	/*
	 * The driver writes its word and then looks at the index again; this
	 * side writes the index and then looks at the word. With full fences
	 * on both sides, one of them sees the other's (2.7.7.2).
	 */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (vq->event_idx)
		return vring_need_event(load16(used_event(vq)), vq->published,
					before);
	return !(load16(&vq->avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
}

void vq_disable_kicks(struct vq *vq)
{
	/* With event_idx an index left behind means no kicks (2.7.10). */
	if (vq->ready && !vq->event_idx)
		store16(&vq->used->flags, VRING_USED_F_NO_NOTIFY);
}

bool vq_enable_kicks(struct vq *vq)
{
	if (!vq->ready || vq->broken)
		return false;
	if (vq->event_idx)
		store16(avail_event(vq), vq->next_avail);
	else
		store16(&vq->used->flags, 0);
	/* As in vq_publish(): ask first, then look once more. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return load_avail_idx(vq) != vq->next_avail;
}

bool vq_enable_kicks_after(struct vq *vq, uint16_t count)
{
	if (!vq->ready || vq->broken)
		return false;
	if (!vq->event_idx) {
		vq_disable_kicks(vq);
		return false;
	}
	/* 2.7.10: the driver kicks when its index passes this one. */
	store16(avail_event(vq), (uint16_t)(vq->next_avail + count - 1));
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return (uint16_t)(load_avail_idx(vq) - vq->next_avail) >= count;
}
