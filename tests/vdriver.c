/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio driver in plain memory: what a guest's kernel would do, as plainly
 * as possible. Shares no code with the device's side, so that both are not
 * wrong together.
 */
#include "tests/vdriver.h"

#include "vmm/base/util.h"
#include "vmm/base/visit.h"

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#define MEMORY_BYTES MEM_MIN_BYTES
#define FIRST_FREE   0x100000 /* nothing of a test's lies at 0 */
#define BASE         0xd0000000

static void must(bool condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "vdriver: the test is wrong: %s\n", what);
	abort();
}

/* ---- life */

static void add_param(struct config_device *cfg, const char *key,
		      const char *value)
{
	must(cfg->nparams < CONFIG_PARAMS_MAX, "too many parameters");
	cfg->param[cfg->nparams].key = strdup(key);
	cfg->param[cfg->nparams++].value = strdup(value);
}

static bool is_key(const struct config_type *type, const char *name)
{
	for (const struct config_key *key = type->keys; key && key->name; key++)
		if (strcmp(key->name, name) == 0)
			return true;
	return false;
}

static const char *bare_key(const struct config_type *type)
{
	for (const struct config_key *key = type->keys; key && key->name; key++)
		if (key->bare)
			return key->name;
	return NULL;
}

/* Does as config_add_device() with TEXT, without its checks and messages. */
static void parse_config(struct config_device *cfg,
			 const struct config_type *type, const char *text)
{
	autofree char *copy = strdup(text ? text : "");
	char *rest = NULL;

	cfg->type = strdup(type->name);
	for (char *item = strtok_r(copy, ",", &rest); item;
	     item = strtok_r(NULL, ",", &rest)) {
		char *equals = strchr(item, '=');

		if (equals)
			*equals = '\0';
		if (equals && is_key(type, item))
			add_param(cfg, item, equals + 1);
		else if (!equals && is_key(type, item))
			add_param(cfg, item, "true");
		else if (bare_key(type) && !equals && cfg->nparams == 0)
			add_param(cfg, bare_key(type), item);
		else
			must(false, item);
	}
}

static void free_config(struct config_device *cfg)
{
	for (unsigned i = 0; i < cfg->nparams; i++) {
		free(cfg->param[i].key);
		free(cfg->param[i].value);
	}
	free(cfg->type);
}

struct vdriver *vdriver_new_of(const struct virtio_ops *ops, const char *text,
			       const struct virtio_host *host)
{
	struct vdriver *v = calloc(1, sizeof(*v));
	struct virtio_host mine = *host;

	must(v != NULL, "out of memory");
	must(mem_init(&v->mem, MEMORY_BYTES, &(struct mem_options){0}) == 0,
	     "no memory for the guest");
	v->page = aligned_alloc(VIRTIO_MMIO_BYTES, VIRTIO_MMIO_BYTES);
	must(v->page != NULL, "out of memory");
	v->next_free = FIRST_FREE;
	v->own_loop = (struct loop){.epoll_fd = -1, .wake_fd = -1};
	v->loop = host->loop;
	if (!v->loop) {
		v->loop = &v->own_loop;
		must(loop_init(v->loop) == 0, "no event loop");
	}
	parse_config(&v->cfg, &ops->type, text);
	mine.mem = &v->mem;
	mine.loop = v->loop;
	if (virtio_new(ops, &v->cfg, 0, &mine, &v->dev) < 0) {
		vdriver_free(v);
		return NULL;
	}
	must(virtio_mmio_init(&v->mmio, v->dev, -1, BASE, 5, NULL, v->page,
			      true) == 0,
	     "no transport");
	return v;
}

struct vdriver *vdriver_new_on(const struct virtio_ops *ops, const char *text,
			       struct loop *loop, struct terminal *terminal)
{
	return vdriver_new_of(
		ops, text,
		&(struct virtio_host){.loop = loop, .terminal = terminal});
}

struct vdriver *vdriver_new(const struct virtio_ops *ops, const char *text)
{
	struct vdriver *v = vdriver_new_on(ops, text, NULL, NULL);

	if (v)
		must(loop_start_thread(v->loop, "vdriver") == 0, "no thread");
	return v;
}

/* As vm.c does: no loop runs any more when the devices go. */
void vdriver_free(struct vdriver *v)
{
	if (!v)
		return;
	if (v->own_loop.has_thread) {
		loop_stop(&v->own_loop);
		pthread_join(v->own_loop.thread, NULL);
		v->own_loop.has_thread = false;
	}
	virtio_mmio_done(&v->mmio);
	virtio_free(v->dev);
	loop_done(&v->own_loop);
	mem_done(&v->mem);
	free_config(&v->cfg);
	free(v->page);
	free(v);
}

void vdriver_poll(struct vdriver *v)
{
	for (unsigned q = 0; q < v->dev->ops->nqueues; q++) {
		struct loop_source *source = &v->dev->kick[q].source;
		uint64_t count = loop_drain(source->fd);

		if (count > 0)
			source->fn(source, EPOLLIN);
	}
}

/* ---- registers */

uint32_t vdriver_read32(struct vdriver *v, unsigned off)
{
	uint32_t value;

	virtio_mmio_bus_ops.read(&v->mmio, off, &value, sizeof(value));
	return le32toh(value);
}

void vdriver_write32(struct vdriver *v, unsigned off, uint32_t value)
{
	const uint32_t le = htole32(value);

	virtio_mmio_bus_ops.write(&v->mmio, off, &le, sizeof(le));
}

void vdriver_config_read(struct vdriver *v, unsigned off, void *buf,
			 unsigned len)
{
	for (unsigned i = 0; i < len; i++)
		virtio_mmio_bus_ops.read(&v->mmio, VIRTIO_MMIO_CONFIG + off + i,
					 (uint8_t *)buf + i, 1);
}

void vdriver_config_write(struct vdriver *v, unsigned off, const void *buf,
			  unsigned len)
{
	virtio_mmio_bus_ops.write(&v->mmio, VIRTIO_MMIO_CONFIG + off, buf, len);
}

/* ---- set-up */

void vdriver_reset(struct vdriver *v)
{
	vdriver_write32(v, VIRTIO_MMIO_STATUS, 0);
	v->next_free = FIRST_FREE;
	v->features = 0;
	memset(v->queue, 0, sizeof(v->queue));
	vdriver_interrupts(v);
}

uint64_t vdriver_offered(struct vdriver *v)
{
	uint64_t features;

	vdriver_write32(v, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	features = (uint64_t)vdriver_read32(v, VIRTIO_MMIO_DEVICE_FEATURES)
		   << 32;
	vdriver_write32(v, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	return features | vdriver_read32(v, VIRTIO_MMIO_DEVICE_FEATURES);
}

static void add_status(struct vdriver *v, uint32_t bit)
{
	vdriver_write32(v, VIRTIO_MMIO_STATUS,
			vdriver_read32(v, VIRTIO_MMIO_STATUS) | bit);
}

bool vdriver_negotiate_exactly(struct vdriver *v, uint64_t features)
{
	add_status(v, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	add_status(v, VIRTIO_CONFIG_S_DRIVER);
	vdriver_write32(v, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	vdriver_write32(v, VIRTIO_MMIO_DRIVER_FEATURES, features >> 32);
	vdriver_write32(v, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	vdriver_write32(v, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)features);
	add_status(v, VIRTIO_CONFIG_S_FEATURES_OK);
	v->features = features;
	return vdriver_read32(v, VIRTIO_MMIO_STATUS) &
	       VIRTIO_CONFIG_S_FEATURES_OK;
}

bool vdriver_negotiate(struct vdriver *v, uint64_t features)
{
	const uint64_t version_1 = UINT64_C(1) << VIRTIO_F_VERSION_1;

	return vdriver_negotiate_exactly(v, (features | version_1) &
						    vdriver_offered(v));
}

static void write_address(struct vdriver *v, unsigned low_register, gpa_t gpa)
{
	vdriver_write32(v, low_register, (uint32_t)gpa);
	vdriver_write32(v, low_register + 4, gpa >> 32);
}

bool vdriver_setup_queue(struct vdriver *v, unsigned q, unsigned size)
{
	struct vdriver_queue *queue = &v->queue[q];

	must(q < VIRTIO_QUEUES_MAX, "no such queue");
	vdriver_write32(v, VIRTIO_MMIO_QUEUE_SEL, q);
	if (size == 0)
		size = vdriver_read32(v, VIRTIO_MMIO_QUEUE_NUM_MAX);
	must(size > 0 && size <= VQ_MAX_SIZE, "no such queue size");
	*queue = (struct vdriver_queue){.size = size};
	queue->desc = vdriver_gpa(v, vdriver_alloc(v, 16 * size));
	queue->avail = vdriver_gpa(v, vdriver_alloc(v, 6 + 2 * size));
	queue->used = vdriver_gpa(v, vdriver_alloc(v, 6 + 8 * size));
	vdriver_write32(v, VIRTIO_MMIO_QUEUE_NUM, size);
	write_address(v, VIRTIO_MMIO_QUEUE_DESC_LOW, queue->desc);
	write_address(v, VIRTIO_MMIO_QUEUE_AVAIL_LOW, queue->avail);
	write_address(v, VIRTIO_MMIO_QUEUE_USED_LOW, queue->used);
	vdriver_write32(v, VIRTIO_MMIO_QUEUE_READY, 1);
	return vdriver_read32(v, VIRTIO_MMIO_QUEUE_READY) == 1;
}

bool vdriver_start(struct vdriver *v)
{
	add_status(v, VIRTIO_CONFIG_S_DRIVER_OK);
	return (vdriver_read32(v, VIRTIO_MMIO_STATUS) &
		(VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET)) ==
	       VIRTIO_CONFIG_S_DRIVER_OK;
}

bool vdriver_up(struct vdriver *v, uint64_t features)
{
	vdriver_reset(v);
	if (!vdriver_negotiate(v, features))
		return false;
	for (unsigned q = 0; q < v->dev->ops->nqueues; q++)
		if (!vdriver_setup_queue(v, q, 0))
			return false;
	return vdriver_start(v);
}

bool vdriver_needs_reset(struct vdriver *v)
{
	return vdriver_read32(v, VIRTIO_MMIO_STATUS) &
	       VIRTIO_CONFIG_S_NEEDS_RESET;
}

/* ---- memory */

void *vdriver_alloc(struct vdriver *v, size_t bytes)
{
	const gpa_t gpa = v->next_free;
	void *host = mem_at(&v->mem, gpa, bytes + 64);

	must(host != NULL, "more memory than there is");
	memset(host, 0, bytes + 64);
	/* A gap, so that writing one byte too many shows. */
	v->next_free = align_up(gpa + bytes + 1, 64);
	return host;
}

struct iovec vdriver_buf(struct vdriver *v, const void *data, size_t bytes)
{
	struct iovec iov = {.iov_base = vdriver_alloc(v, bytes),
			    .iov_len = bytes};

	if (data)
		memcpy(iov.iov_base, data, bytes);
	return iov;
}

gpa_t vdriver_gpa(const struct vdriver *v, const void *host)
{
	const uint8_t *start = v->mem.region[0].host;
	const uint8_t *at = host;

	must(at >= start && at < start + v->mem.region[0].bytes,
	     "a buffer outside guest memory");
	return (gpa_t)(at - start);
}

/* ---- rings */

static void *in_ring(struct vdriver *v, gpa_t ring, size_t off, size_t len)
{
	void *at = mem_at(&v->mem, ring + off, len);

	must(at != NULL, "a ring outside guest memory");
	return at;
}

static uint16_t *avail16(struct vdriver *v, unsigned q, size_t off)
{
	return in_ring(v, v->queue[q].avail, off, 2);
}

static uint16_t *used16(struct vdriver *v, unsigned q, size_t off)
{
	return in_ring(v, v->queue[q].used, off, 2);
}

static bool event_idx(const struct vdriver *v)
{
	return v->features >> VIRTIO_RING_F_EVENT_IDX & 1;
}

struct vring_desc *vdriver_desc(struct vdriver *v, unsigned q, unsigned i)
{
	return in_ring(v, v->queue[q].desc, 16 * i, 16);
}

void vdriver_set_desc(struct vring_desc *desc, uint64_t addr, uint32_t len,
		      uint16_t flags, uint16_t next)
{
	desc->addr = htole64(addr);
	desc->len = htole32(len);
	desc->flags = htole16(flags);
	desc->next = htole16(next);
}

void vdriver_set_avail_idx(struct vdriver *v, unsigned q, uint16_t idx)
{
	v->queue[q].avail_idx = idx;
	__atomic_store_n(avail16(v, q, 2), htole16(idx), __ATOMIC_RELEASE);
}

void vdriver_avail(struct vdriver *v, unsigned q, uint16_t head)
{
	const struct vdriver_queue *queue = &v->queue[q];
	const unsigned slot = queue->avail_idx & (queue->size - 1);

	__atomic_store_n(avail16(v, q, 4 + 2 * slot), htole16(head),
			 __ATOMIC_RELAXED);
	vdriver_set_avail_idx(v, q, queue->avail_idx + 1);
}

/* N free descriptors, linked in queue->next. The first, or -1. */
static int take_descs(struct vdriver_queue *queue, unsigned n)
{
	uint16_t found[VQ_MAX_SIZE];
	unsigned nfound = 0;

	for (unsigned i = 0; i < queue->size && nfound < n; i++)
		if (!queue->busy[i])
			found[nfound++] = i;
	if (n == 0 || nfound < n)
		return -1;
	for (unsigned i = 0; i < n; i++) {
		queue->busy[found[i]] = true;
		queue->next[found[i]] = i + 1 < n ? found[i + 1] : found[i];
	}
	return found[0];
}

static void give_descs(struct vdriver_queue *queue, uint16_t head)
{
	uint16_t i = head;

	for (;;) {
		const uint16_t next = queue->next[i];

		queue->busy[i] = false;
		if (next == i)
			return;
		i = next;
	}
}

int vdriver_add(struct vdriver *v, unsigned q, const struct iovec *out,
		unsigned nout, const struct iovec *in, unsigned nin)
{
	struct vdriver_queue *queue = &v->queue[q];
	const int head = take_descs(queue, nout + nin);
	uint16_t i = head;

	if (head < 0)
		return -1;
	for (unsigned n = 0; n < nout + nin; n++) {
		const struct iovec *iov = n < nout ? &out[n] : &in[n - nout];

		vdriver_set_desc(
			vdriver_desc(v, q, i), vdriver_gpa(v, iov->iov_base),
			iov->iov_len,
			(n < nout ? 0 : VRING_DESC_F_WRITE) |
				(n + 1 < nout + nin ? VRING_DESC_F_NEXT : 0),
			queue->next[i]);
		i = queue->next[i];
	}
	vdriver_avail(v, q, head);
	return head;
}

int vdriver_add_indirect(struct vdriver *v, unsigned q, const struct iovec *out,
			 unsigned nout, const struct iovec *in, unsigned nin)
{
	const unsigned n = nout + nin;
	const int head = take_descs(&v->queue[q], 1);
	struct vring_desc *table;

	if (head < 0)
		return -1;
	table = vdriver_alloc(v, 16 * n);
	for (unsigned i = 0; i < n; i++) {
		const struct iovec *iov = i < nout ? &out[i] : &in[i - nout];

		vdriver_set_desc(&table[i], vdriver_gpa(v, iov->iov_base),
				 iov->iov_len,
				 (i < nout ? 0 : VRING_DESC_F_WRITE) |
					 (i + 1 < n ? VRING_DESC_F_NEXT : 0),
				 i + 1);
	}
	vdriver_set_desc(vdriver_desc(v, q, head), vdriver_gpa(v, table),
			 16 * n, VRING_DESC_F_INDIRECT, 0);
	vdriver_avail(v, q, head);
	return head;
}

/* 2.7.10: the flag, or the index the device waits for. */
bool vdriver_kick_wanted(struct vdriver *v, unsigned q)
{
	const struct vdriver_queue *queue = &v->queue[q];
	uint16_t event;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!event_idx(v))
		return !(le16toh(__atomic_load_n(used16(v, q, 0),
						 __ATOMIC_RELAXED)) &
			 VRING_USED_F_NO_NOTIFY);
	event = le16toh(__atomic_load_n(used16(v, q, 4 + 8 * queue->size),
					__ATOMIC_RELAXED));
	return (uint16_t)(queue->avail_idx - event - 1) <
	       (uint16_t)(queue->avail_idx - queue->kicked);
}

bool vdriver_kick(struct vdriver *v, unsigned q)
{
	const bool wanted = vdriver_kick_wanted(v, q);

	v->queue[q].kicked = v->queue[q].avail_idx;
	if (wanted)
		vdriver_write32(v, VIRTIO_MMIO_QUEUE_NOTIFY, q);
	return wanted;
}

uint64_t vdriver_kicks(struct vdriver *v)
{
	uint64_t kicks;

	virtio_lock(v->dev);
	kicks = v->dev->kicks;
	virtio_unlock(v->dev);
	return kicks;
}

int vdriver_get_used(struct vdriver *v, unsigned q, uint32_t *ret_written)
{
	struct vdriver_queue *queue = &v->queue[q];
	const uint32_t *entry;
	uint32_t head;

	if (le16toh(__atomic_load_n(used16(v, q, 2), __ATOMIC_ACQUIRE)) ==
	    queue->seen)
		return -1;
	entry = in_ring(v, queue->used,
			4 + 8 * (queue->seen & (queue->size - 1)), 8);
	head = le32toh(entry[0]);
	queue->seen++;
	if (ret_written)
		*ret_written = le32toh(entry[1]);
	if (head >= queue->size) {
		fprintf(stderr, "vdriver: the device used chain %u\n", head);
		abort();
	}
	if (queue->busy[head])
		give_descs(queue, head);
	return (int)head;
}

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
}

int vdriver_wait_used(struct vdriver *v, unsigned q, uint32_t *ret_written,
		      unsigned timeout_ms)
{
	const uint64_t end = util_now_ns() + timeout_ms * UINT64_C(1000000);

	for (;;) {
		/* The clock first: a slow test gets one look after it. */
		const bool late = util_now_ns() > end;
		const int head = vdriver_get_used(v, q, ret_written);

		if (head >= 0 || late)
			return head;
		nap();
	}
}

int64_t vdriver_request(struct vdriver *v, unsigned q, const struct iovec *out,
			unsigned nout, const struct iovec *in, unsigned nin)
{
	const int head = vdriver_add(v, q, out, nout, in, nin);
	uint32_t written = 0;

	if (head < 0)
		return -1;
	vdriver_kick(v, q);
	if (vdriver_wait_used(v, q, &written, PATIENCE_MS) != head)
		return -1;
	return written;
}

bool vdriver_wait_needs_reset(struct vdriver *v)
{
	const uint64_t end = util_now_ns() + PATIENCE_MS * UINT64_C(1000000);

	while (!vdriver_needs_reset(v)) {
		if (util_now_ns() > end)
			return false;
		nap();
	}
	return true;
}

unsigned vdriver_held(struct vdriver *v, unsigned q)
{
	const struct vq *vq = &v->dev->vq[q];
	unsigned held;

	virtio_lock(v->dev);
	held = (uint16_t)(vq->next_avail - vq->published);
	virtio_unlock(v->dev);
	return held;
}

void vdriver_pause(struct vdriver *v)
{
	virtio_pause(v->dev);
	for (unsigned q = 0; q < v->dev->ops->nqueues; q++)
		must(vdriver_held(v, q) == 0, "a paused device holds a chain");
}

/* ---- saved */

int vdriver_save(struct vdriver *v, struct vdriver_saved *ret)
{
	const size_t ram_bytes = v->next_free;
	struct visitor visitor;
	int r;

	*ret = (struct vdriver_saved){
		.ram = malloc(ram_bytes),
		.host = v->mem.region[0].host,
		.next_free = v->next_free,
		.features = v->features,
	};
	must(ret->ram != NULL, "out of memory");
	memcpy(ret->ram, ret->host, ram_bytes);
	memcpy(ret->queue, v->queue, sizeof(ret->queue));
	visit_save(&visitor);
	virtio_mmio_visit(&v->mmio, &visitor);
	r = visit_end(&visitor);
	ret->bytes = visitor.bytes;
	/* Exactly as long as it is, so that a read beyond it is noticed. */
	ret->state = malloc(ret->bytes);
	must(ret->state != NULL, "out of memory");
	memcpy(ret->state, visitor.saved, ret->bytes);
	visit_done(&visitor);
	return r;
}

int vdriver_load(struct vdriver *v, const struct vdriver_saved *saved)
{
	struct visitor visitor;
	int r;

	memcpy(v->mem.region[0].host, saved->ram, saved->next_free);
	v->next_free = saved->next_free;
	v->features = saved->features;
	memcpy(v->queue, saved->queue, sizeof(v->queue));
	virtio_pause(v->dev);
	visit_load(&visitor, saved->state, saved->bytes);
	virtio_mmio_visit(&v->mmio, &visitor);
	r = visit_end(&visitor);
	visit_done(&visitor);
	return r;
}

void *vdriver_moved(struct vdriver *v, const struct vdriver_saved *saved,
		    const void *host)
{
	const size_t at = (size_t)((const uint8_t *)host - saved->host);

	must(at < saved->next_free, "not in the guest's memory");
	return v->mem.region[0].host + at;
}

void vdriver_saved_done(struct vdriver_saved *saved)
{
	free(saved->ram);
	free(saved->state);
	*saved = (struct vdriver_saved){0};
}

/* ---- interrupts */

unsigned vdriver_interrupts(struct vdriver *v)
{
	return (unsigned)loop_drain(v->mmio.irq.event_fd);
}

uint32_t vdriver_acknowledge(struct vdriver *v)
{
	const uint32_t bits = vdriver_read32(v, VIRTIO_MMIO_INTERRUPT_STATUS);

	vdriver_write32(v, VIRTIO_MMIO_INTERRUPT_ACK, bits);
	return bits;
}

bool vdriver_wait_config_change(struct vdriver *v)
{
	return wait_until(vdriver_acknowledge(v) & VIRTIO_MMIO_INT_CONFIG);
}

void vdriver_want_interrupt(struct vdriver *v, unsigned q, uint16_t idx)
{
	__atomic_store_n(avail16(v, q, 4 + 2 * v->queue[q].size), htole16(idx),
			 __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void vdriver_no_interrupts(struct vdriver *v, unsigned q, bool none)
{
	__atomic_store_n(avail16(v, q, 0),
			 htole16(none ? VRING_AVAIL_F_NO_INTERRUPT : 0),
			 __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}
