/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot's state that somebody else has written, with a checksum that is
 * right: a device that was saved in the midst of traffic is loaded from it,
 * goes on, and is saved once more. Whatever the state says, nothing outside of
 * the device is touched, and it comes to an end.
 *
 * Input: which device, and changes to the records of what it has saved; then,
 * behind a zero, what a driver does to the one that was loaded.
 */
#include "tests/devices/virtio/visit-kinds.h"
#include "tests/fuzz/fuzz.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/base/visit.h"

#include <linux/virtio_mmio.h>

/* As visit.c writes a record: what it is, its name, its bytes. */
struct head {
	uint8_t record;
	uint8_t name_bytes;
	uint32_t bytes;
} __attribute__((packed));

#define RECORDS_MAX 4096
#define DATA_MAX    4096 /* a record grows to no more */
#define STEPS_MAX   64

struct record {
	struct head head;
	const uint8_t *name;
	uint8_t *data; /* owned */
	unsigned times;
};

/*
 * A kind of device, saved for as many inputs as are refused: one that goes on
 * changes its host's side, which would be another one than was saved.
 */
struct base {
	const struct kind *kind; /* NULL: there is none */
	struct visit_rig rig;
	struct vdriver_saved saved;
};

#define CALL(kind, function, ...)                                              \
	do {                                                                   \
		if ((kind)->function)                                          \
			(kind)->function(__VA_ARGS__);                         \
	} while (0)

static void make_base(struct base *b, const struct kind *kind)
{
	struct visit_rig *r = &b->rig;

	log_setup(LOG_ERROR, false);
	*b = (struct base){.kind = kind};
	CALL(kind, setup, r);
	kind->open(r);
	check(vdriver_up(r->v, UINT64_MAX), "not up");
	CALL(kind, begin, r);
	for (r->round = 1; r->round < 3; r->round++)
		kind->traffic(r);
	CALL(kind, leave, r);
	vdriver_pause(r->v);
	check(vdriver_save(r->v, &b->saved) == 0, "not saved");
	CALL(kind, saved, r);
	CALL(kind, stop, r);
	vdriver_free(r->v);
}

static void drop_base(struct base *b)
{
	CALL(b->kind, teardown, &b->rig);
	vdriver_saved_done(&b->saved);
	b->kind = NULL;
}

/* ---- the state, in records */

static unsigned split(const struct vdriver_saved *saved,
		      struct record list[RECORDS_MAX])
{
	unsigned n = 0;

	for (size_t at = 0; at < saved->bytes && n < RECORDS_MAX; n++) {
		struct record *r = &list[n];

		memcpy(&r->head, saved->state + at, sizeof(r->head));
		r->name = saved->state + at + sizeof(r->head);
		r->times = 1;
		r->data = malloc(r->head.bytes + 1);
		check(r->data != NULL, "out of memory");
		memcpy(r->data, r->name + r->head.name_bytes, r->head.bytes);
		at += sizeof(r->head) + r->head.name_bytes + r->head.bytes;
	}
	return n;
}

static void resize(struct record *r, size_t bytes)
{
	r->data = realloc(r->data, bytes + 1);
	check(r->data != NULL, "out of memory");
	if (bytes > r->head.bytes)
		memset(r->data + r->head.bytes, 0, bytes - r->head.bytes);
	r->head.bytes = (uint32_t)bytes;
}

/* False: there are no more. */
static bool change(struct record *list, unsigned n, struct input *in)
{
	const unsigned op = (unsigned)take(in, 1);
	struct record *r = &list[take(in, 2) % n];
	const unsigned bytes = 1 << op / 8 % 4;
	uint64_t value, at;

	switch (op % 8) {
	case 0:
		return false;
	case 1 ... 4:
		at = r->head.bytes > 0 ? take(in, 2) % r->head.bytes : 0;
		value = take(in, bytes);
		for (unsigned i = 0; i < bytes && at + i < r->head.bytes; i++)
			r->data[at + i] = (uint8_t)(value >> 8 * i);
		break;
	case 5:
		resize(r, take(in, 2) % DATA_MAX);
		break;
	case 6:
		r->times = (unsigned)take(in, 1) % 8;
		break;
	default:
		r->head.record = (uint8_t)take(in, 1);
		break;
	}
	return in->at < in->end;
}

/* In a block of exactly that size, so that a read behind it is noticed. */
static void join(const struct record *list, unsigned n,
		 struct vdriver_saved *ret)
{
	size_t bytes = 0, at = 0;

	for (unsigned i = 0; i < n; i++)
		bytes += list[i].times *
			 (sizeof(struct head) + list[i].head.name_bytes +
			  list[i].head.bytes);
	ret->state = malloc(bytes + (bytes == 0));
	ret->bytes = bytes;
	check(ret->state != NULL, "out of memory");
	for (unsigned i = 0; i < n; i++) {
		const struct record *r = &list[i];

		for (unsigned t = 0; t < r->times; t++) {
			memcpy(ret->state + at, &r->head, sizeof(r->head));
			at += sizeof(r->head);
			memcpy(ret->state + at, r->name, r->head.name_bytes);
			at += r->head.name_bytes;
			memcpy(ret->state + at, r->data, r->head.bytes);
			at += r->head.bytes;
		}
	}
}

/* ---- a device that goes on from it */

static void step(struct vdriver *v, struct input *in)
{
	const unsigned op = (unsigned)take(in, 1);
	const unsigned q = op / 8 % v->dev->ops->nqueues;
	uint8_t bytes[8] = {0};

	switch (op % 8) {
	case 0 ... 1:
		vdriver_write32(v, VIRTIO_MMIO_QUEUE_NOTIFY, q);
		break;
	case 2:
		vdriver_config_read(v, (unsigned)take(in, 1), bytes,
				    sizeof(bytes));
		break;
	case 3:
		vdriver_config_write(v, (unsigned)take(in, 1), bytes, 4);
		break;
	case 4:
		vdriver_write32(v, (unsigned)take(in, 1) & ~3u,
				(uint32_t)take(in, 4));
		break;
	case 5:
		(void)vdriver_read32(v, (unsigned)take(in, 1) & ~3u);
		break;
	case 6:
		virtio_pause(v->dev);
		virtio_resume(v->dev);
		break;
	default:
		vdriver_acknowledge(v);
		break;
	}
}

static void go_on(struct vdriver *v, struct input *in)
{
	struct vdriver_saved again;

	virtio_resume(v->dev);
	for (unsigned q = 0; q < v->dev->ops->nqueues; q++)
		vdriver_write32(v, VIRTIO_MMIO_QUEUE_NOTIFY, q);
	for (unsigned i = 0; i < STEPS_MAX && in->at < in->end; i++)
		step(v, in);
	virtio_pause(v->dev);
	(void)vdriver_save(v, &again);
	vdriver_saved_done(&again);
	virtio_resume(v->dev);
}

/* Whether it went on. */
static bool load(struct base *b, const struct vdriver_saved *saved,
		 struct input *in)
{
	struct visit_rig r = b->rig;
	bool loaded;

	b->kind->open(&r);
	loaded = vdriver_load(r.v, saved) == 0;
	if (loaded)
		go_on(r.v, in);
	CALL(b->kind, stop, &r);
	vdriver_free(r.v);
	return loaded;
}

static const struct kind *const kinds[] = {
	&visit_blk, &visit_console, &visit_fs, &visit_rng, &visit_vsock,
};
static struct base bases[ARRAY_LEN(kinds)];

/* Files of the last ones. */
static void drop_all(void)
{
	for (unsigned i = 0; i < ARRAY_LEN(bases); i++) {
		if (bases[i].kind)
			drop_base(&bases[i]);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static bool cleans;
	static struct record list[RECORDS_MAX];
	struct input in = {data, data + bytes};
	const size_t which = take(&in, 1) % ARRAY_LEN(kinds);
	struct base *b = &bases[which];
	struct vdriver_saved changed;
	unsigned n;

	if (!cleans)
		cleans = atexit(drop_all) == 0;
	if (!b->kind)
		make_base(b, kinds[which]);
	changed = b->saved;
	n = split(&b->saved, list);
	while (change(list, n, &in))
		;
	join(list, n, &changed);
	for (unsigned i = 0; i < n; i++)
		free(list[i].data);
	if (load(b, &changed, &in))
		drop_base(b);
	free(changed.state);
	return 0;
}
