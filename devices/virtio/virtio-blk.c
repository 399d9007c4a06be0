/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block device (virtio 1.2, 5.2): requests of one queue become requests of
 * a disk image. Knows no file: block.c does the I/O.
 *
 * It runs on a thread of its own, where waiting for the disk keeps nobody
 * waiting but the disk's user. Everything there is in the queue is taken with
 * kicks off, started at once and answered with one interrupt.
 */
#include "devices/host/block.h"
#include "devices/virtio/virtio.h"
#include "vmm/base/iov.h"
#include "vmm/base/sandbox.h"
#include "vmm/base/util.h"
#include "vmm/base/visit.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_blk.h>
#include <limits.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#define BIT(n) (UINT64_C(1) << (n))

#define BLK_QUEUE   256
#define BLK_IOV     256 /* header, status and segments of one request */
#define BLK_SEG_MAX (BLK_IOV - 2)
#define BLK_DEPTH   64 /* requests under way */
#define BLK_SECTOR  512
#define BLK_HEADER  16

/* A batch ends here, so that the first answer does not wait for the last. */
#define BLK_BATCH_BYTES (512 * KIB)
/* After so many requests others get at the lock. */
#define BLK_ROUND 1024

/* So much in one request takes block.c a moment at worst. */
#define BLK_MAX_DISCARD_SECTORS (UINT32_C(1) << 22)
#define BLK_MAX_ZEROES_SECTORS  (UINT32_C(1) << 17)

struct blk_request {
	struct block_request block;
	struct blk *blk;
	struct blk_request *next_free;
	struct iovec *iov; /* BLK_IOV of them, in struct blk's memory */
	uint8_t *status;   /* in guest RAM */
	uint32_t written;  /* data bytes for the guest, if all goes well */
	uint16_t head;
};

struct blk {
	struct virtio_dev *d;
	struct block *block;
	struct block_info info;
	struct loop_source done;
	/*
	 * Owned; the last one freed is the first one used, so that a guest that
	 * has few requests under way costs few pages.
	 */
	struct blk_request *request;
	struct iovec *iov;
	struct blk_request *free;
	bool stopping;
	bool durable; /* the driver does not flush: 5.2.6.2 */
	struct loop_patience patience;
	unsigned found,
		taken; /* requests in a turn's first batch, and in all */
	char serial[VIRTIO_BLK_ID_BYTES];
};

static const struct config_key blk_keys[] = {
	{.name = "file",
	 .path = true,
	 .kind = CONFIG_TEXT,
	 .required = true,
	 .bare = true,
	 .help = "raw image file or block device"},
	{.name = "readonly",
	 .alias = "ro",
	 .kind = CONFIG_FLAG,
	 .help = "the guest cannot write; several VMs may share the file"},
	{.name = "direct",
	 .kind = CONFIG_FLAG,
	 .help = "bypass this host's page cache (O_DIRECT)"},
	{.name = "format",
	 .kind = CONFIG_CHOICE,
	 .choices = "raw",
	 .help = "image format; if given, the file's content is not checked"},
	{.name = "id",
	 .kind = CONFIG_TEXT,
	 .help = "serial number that the guest sees, up to 20 bytes"},
	{0},
};

/* ---- answers ---- */

static void answer(struct blk_request *r, uint8_t status)
{
	struct blk *k = r->blk;
	struct virtio_dev *d = k->d;

	r->next_free = k->free;
	k->free = r;
	if (k->stopping)
		return;
	*r->status = status;
	vq_push(&d->vq[0], r->head,
		status == VIRTIO_BLK_S_OK ? r->written + 1 : 1);
}

static const char *op_name(enum block_op op)
{
	static const char *const names[] = {
		[BLOCK_READ] = "reading",
		[BLOCK_WRITE] = "writing",
		[BLOCK_FLUSH] = "flushing",
		[BLOCK_DISCARD] = "discarding",
		[BLOCK_WRITE_ZEROES] = "zeroing",
	};

	return names[op];
}

static void blk_done(struct block_request *block, int result)
{
	struct blk_request *r = container_of(block, struct blk_request, block);
	struct virtio_dev *d = r->blk->d;

	if (result < 0)
		log_guest(&d->limit, "%s: %s %llu bytes at %llu: %s%s", d->name,
			  op_name(block->op), (unsigned long long)block->bytes,
			  (unsigned long long)block->offset, strerror(-result),
			  result == -EIO ? " (did the image shrink?)" : "");
	answer(r, result < 0 ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
}

/* ---- requests: each is queued (0), or answered with a status (> 0) ---- */

static int queue(struct blk_request *r, enum block_op op, uint64_t sector,
		 uint64_t bytes)
{
	struct blk *k = r->blk;
	const uint64_t capacity = k->info.bytes / BLK_SECTOR;

	if (bytes % BLK_SECTOR != 0 ||
	    !range_fits(sector, bytes / BLK_SECTOR, capacity))
		return VIRTIO_BLK_S_IOERR;
	r->block.op = op;
	r->block.offset = sector * BLK_SECTOR;
	r->block.bytes = bytes;
	r->block.durable = k->durable;
	block_queue(k->block, &r->block);
	return 0;
}

static int transfer(struct blk_request *r, const struct iov_chain *chain,
		    bool write, uint64_t sector)
{
	struct iovec *data = write ? r->iov : r->iov + chain->nout;
	const unsigned niov = write ? chain->nout : chain->nin;
	const uint32_t bytes =
		write ? chain->out_bytes - BLK_HEADER : chain->in_bytes - 1;

	if (write && r->blk->info.readonly)
		return VIRTIO_BLK_S_IOERR;
	if (bytes == 0)
		return VIRTIO_BLK_S_IOERR;
	/* In place: what iov_slice() writes it has read before. */
	r->block.iov = data;
	r->block.niov =
		iov_slice(data, niov, write ? BLK_HEADER : 0, bytes, data);
	r->written = write ? 0 : bytes;
	return queue(r, write ? BLOCK_WRITE : BLOCK_READ, sector, bytes);
}

/* 5.2.6.2: one segment, as max_discard_seg and max_write_zeroes_seg say. */
static int erase(struct blk_request *r, const struct iov_chain *chain,
		 bool zeroes)
{
	const struct block_info *info = &r->blk->info;
	struct virtio_blk_discard_write_zeroes segment;
	uint32_t sectors, flags, unmap = 0;

	if (zeroes ? !info->can_write_zeroes : !info->can_discard)
		return VIRTIO_BLK_S_UNSUPP;
	if (chain->out_bytes != BLK_HEADER + sizeof(segment))
		return VIRTIO_BLK_S_IOERR;
	iov_read(r->iov, chain->nout, BLK_HEADER, &segment, sizeof(segment));
	sectors = le32toh(segment.num_sectors);
	flags = le32toh(segment.flags);
	if (zeroes)
		unmap = VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	if (flags & ~unmap)
		return VIRTIO_BLK_S_UNSUPP;
	if (sectors == 0 || sectors > (zeroes ? BLK_MAX_ZEROES_SECTORS
					      : BLK_MAX_DISCARD_SECTORS))
		return VIRTIO_BLK_S_IOERR;
	r->block.unmap = flags & unmap;
	return queue(r, zeroes ? BLOCK_WRITE_ZEROES : BLOCK_DISCARD,
		     le64toh(segment.sector), (uint64_t)sectors * BLK_SECTOR);
}

static int get_id(struct blk_request *r, const struct iov_chain *chain)
{
	const size_t room = chain->in_bytes - 1;
	const size_t bytes = min_u64(room, sizeof(r->blk->serial));

	r->written = (uint32_t)iov_write(r->iov + chain->nout, chain->nin, 0,
					 r->blk->serial, bytes);
	answer(r, VIRTIO_BLK_S_OK);
	return 0;
}

static int dispatch(struct blk_request *r, const struct iov_chain *chain)
{
	struct virtio_blk_outhdr header;
	uint64_t sector;

	if (iov_read(r->iov, chain->nout, 0, &header, BLK_HEADER) < BLK_HEADER)
		return VIRTIO_BLK_S_IOERR;
	sector = le64toh(header.sector);
	r->block.iov = NULL;
	r->block.niov = 0;
	r->written = 0;
	switch (le32toh(header.type)) {
	case VIRTIO_BLK_T_IN:
		return transfer(r, chain, false, sector);
	case VIRTIO_BLK_T_OUT:
		return transfer(r, chain, true, sector);
	case VIRTIO_BLK_T_FLUSH:
		return queue(r, BLOCK_FLUSH, 0, 0);
	case VIRTIO_BLK_T_GET_ID:
		return get_id(r, chain);
	case VIRTIO_BLK_T_DISCARD:
		return erase(r, chain, false);
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return erase(r, chain, true);
	}
	return VIRTIO_BLK_S_UNSUPP;
}

/* Takes one request off the queue: its data bytes, or -1 when there is none. */
static int64_t take(struct blk *k)
{
	struct virtio_dev *d = k->d;
	struct blk_request *r = k->free;
	struct iov_chain chain = {.iov_max = BLK_IOV};
	const struct iovec *last;
	int result;

	if (!r)
		return -1;
	chain.iov = r->iov;
	result = vq_pop(&d->vq[0], &chain);
	if (result < 0)
		virtio_broken(d, "malformed request");
	if (result <= 0)
		return -1;
	if (chain.nin == 0) {
		virtio_broken(d, "a request without room for its status");
		return -1;
	}
	/* The status is the last byte, wherever the driver put it (2.7.4.1). */
	last = &chain.iov[chain.nout + chain.nin - 1];
	r->status = (uint8_t *)last->iov_base + last->iov_len - 1;
	r->head = chain.head;
	k->free = r->next_free;
	result = dispatch(r, &chain);
	if (result > 0)
		answer(r, (uint8_t)result);
	return (int64_t)chain.out_bytes + chain.in_bytes;
}

/*
 * Takes, starts and answers one batch. When nothing is free, completions go on
 * with the queue.
 */
static enum virtio_took do_batch(struct virtio_dev *d, unsigned q)
{
	struct blk *k = d->state;
	uint64_t bytes = 0;
	unsigned n = 0;
	int64_t one;

	while (bytes < BLK_BATCH_BYTES && (one = take(k)) >= 0) {
		bytes += (uint64_t)one;
		n++;
	}
	if (n == 0)
		return d->running && k->free ? VIRTIO_EMPTY : VIRTIO_LATER;
	if (block_submit(k->block))
		block_reap(k->block);
	virtio_publish(d, q);
	if (k->found == 0)
		k->found = n;
	k->taken += n;
	if (k->taken < BLK_ROUND)
		return d->running ? VIRTIO_TOOK : VIRTIO_LATER;
	loop_signal(d->kick[q].source.fd);
	return VIRTIO_LATER;
}

/* How many requests the first batch had. */
static unsigned work(struct blk *k)
{
	k->found = k->taken = 0;
	(void)virtio_turn(k->d, 0, UINT_MAX, 1, do_batch);
	return k->found;
}

static void blk_kick(struct virtio_dev *d, unsigned q)
{
	struct blk *k = d->state;

	(void)q;
	if (loop_adapt(&k->patience, work(k)))
		loop_wait_patiently(k->patience.patient);
}

static void blk_event(struct loop_source *source, uint32_t events)
{
	struct blk *k = container_of(source, struct blk, done);
	struct virtio_dev *d = k->d;
	bool was_full;

	(void)events;
	virtio_lock(d);
	was_full = !k->free;
	if (block_reap(k->block) > 0) {
		virtio_publish(d, 0);
		/* work() left the queue alone, with kicks off. */
		if (was_full && d->running)
			work(k);
	}
	virtio_unlock(d);
}

/* ---- life ---- */

static void fill_config(struct virtio_dev *d, const struct block_info *info)
{
	const unsigned unit = info->block_bytes;
	const unsigned ratio = info->physical_bytes / unit;
	const uint32_t sectors = unit / BLK_SECTOR;
	struct virtio_blk_config config = {
		.capacity = htole64(info->bytes / BLK_SECTOR),
		.seg_max = htole32(BLK_SEG_MAX),
		.blk_size = htole32(unit),
		.physical_block_exp = (uint8_t)__builtin_ctz(ratio),
		.min_io_size = htole16((uint16_t)ratio),
	};

	d->features |= BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_BLK_SIZE) |
		       BIT(VIRTIO_BLK_F_TOPOLOGY) | BIT(VIRTIO_BLK_F_FLUSH);
	if (info->readonly)
		d->features |= BIT(VIRTIO_BLK_F_RO);
	if (info->can_discard) {
		d->features |= BIT(VIRTIO_BLK_F_DISCARD);
		config.max_discard_sectors = htole32(BLK_MAX_DISCARD_SECTORS);
		config.max_discard_seg = htole32(1);
		config.discard_sector_alignment = htole32(sectors * ratio);
	}
	if (info->can_write_zeroes) {
		d->features |= BIT(VIRTIO_BLK_F_WRITE_ZEROES);
		config.max_write_zeroes_sectors =
			htole32(BLK_MAX_ZEROES_SECTORS);
		config.max_write_zeroes_seg = htole32(1);
		config.write_zeroes_may_unmap = 1;
	}
	d->config_bytes =
		offsetof(struct virtio_blk_config, write_zeroes_may_unmap) + 4;
	memcpy(d->config, &config, d->config_bytes);
}

static int set_up_requests(struct blk *k)
{
	k->request = calloc(BLK_DEPTH, sizeof(*k->request));
	/* Large enough to be untouched pages until a request needs its own. */
	k->iov = calloc((size_t)BLK_DEPTH * BLK_IOV, sizeof(*k->iov));
	if (!k->request || !k->iov)
		return log_ret(-ENOMEM, "%s: out of memory", k->d->name);
	for (unsigned i = BLK_DEPTH; i-- > 0;) {
		struct blk_request *r = &k->request[i];

		r->blk = k;
		r->block.done = blk_done;
		r->iov = k->iov + (size_t)i * BLK_IOV;
		r->next_free = k->free;
		k->free = r;
	}
	return 0;
}

static int blk_open(struct virtio_dev *d, const struct config_device *cfg)
{
	const struct block_options options = {
		.readonly = config_flag(cfg, "readonly"),
		.direct = config_flag(cfg, "direct"),
		.raw = config_text(cfg, "format") != NULL,
		.depth = BLK_DEPTH,
	};
	const char *path = config_text(cfg, "file");
	const char *id = config_text(cfg, "id");
	struct blk *k = d->state;
	int r;

	k->d = d;
	if (id && strlen(id) > sizeof(k->serial))
		return log_ret(-EINVAL,
			       "disk '%s': id '%s' is longer than %zu bytes",
			       path, id, sizeof(k->serial));
	/* 5.2.6: no terminating zero where all 20 bytes are used. */
	if (id)
		memcpy(k->serial, id, strlen(id));
	r = block_open(path, &options, &k->block);
	if (r < 0)
		return r;
	block_info(k->block, &k->info);
	d->more_syscalls = block_syscalls(k->block);
	fill_config(d, &k->info);
	r = set_up_requests(k);
	if (r < 0)
		return r;
	k->done.fd = block_event_fd(k->block);
	k->done.fn = blk_event;
	r = loop_add(d->loop, &k->done, EPOLLIN);
	if (r < 0)
		return log_ret(r, "%s: event loop: %s", d->name, strerror(-r));
	return 0;
}

/* Requests are checked against k->info under the device's lock. */
static void blk_resized(struct virtio_dev *d)
{
	struct blk *k = d->state;
	const size_t at = offsetof(struct virtio_blk_config, capacity);
	uint64_t capacity;

	if (block_look(k->block) == 0)
		return;
	block_info(k->block, &k->info);
	capacity = htole64(k->info.bytes / BLK_SECTOR);
	memcpy(d->config + at, &capacity, sizeof(capacity));
	virtio_config_changed(d);
}

static void blk_close(struct virtio_dev *d)
{
	struct blk *k = d->state;

	loop_del(d->loop, &k->done);
	block_close(k->block);
	free(k->request);
	free(k->iov);
}

static void blk_start(struct virtio_dev *d)
{
	struct blk *k = d->state;

	k->stopping = false;
	k->durable = !virtio_acked(d, VIRTIO_BLK_F_FLUSH);
}

static void blk_pause(struct virtio_dev *d)
{
	struct blk *k = d->state;

	block_drain(k->block);
}

static void blk_visit_backend(struct virtio_dev *d, struct visitor *v)
{
	struct blk *k = d->state;

	block_visit(k->block, v);
}

/* The guest keeps the serial number by which it may have found the disk. */
static void blk_visit(struct virtio_dev *d, struct visitor *v)
{
	struct blk *k = d->state;

	VISIT(v, k, serial);
}

static void blk_stop(struct virtio_dev *d)
{
	struct blk *k = d->state;

	k->stopping = true;
	block_drain(k->block);
}

const struct virtio_ops virtio_blk = {
	.type = {.name = "blk",
		 .help = "a disk: raw image file or block device",
		 .keys = blk_keys},
	.id = VIRTIO_ID_BLOCK,
	.nqueues = 1,
	.queue_max = BLK_QUEUE,
	.state_size = sizeof(struct blk),
	.own_thread = true,
	.syscalls = loop_patience_syscalls, /* the image's: block_syscalls() */
	.open = blk_open,
	.close = blk_close,
	.start = blk_start,
	.stop = blk_stop,
	.pause = blk_pause,
	.visit = blk_visit,
	.visit_backend = blk_visit_backend,
	.kick = blk_kick,
	.resized = blk_resized,
};
