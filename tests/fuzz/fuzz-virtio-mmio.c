/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile driver in front of a whole device: its registers, its rings, its
 * buffers. Whatever it did, after a reset the device works.
 *
 * Input: which device, then operations, one byte and its operands each. The
 * main loop has no thread, so that a run is the same each time; the disk's own
 * thread it has.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/vdriver.h"

#include "devices/host/terminal.h"
#include "vmm/base/util.h"

#include <fcntl.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define MEMORY_USED_MAX (4 * MIB) /* an input may not use the memory up */
#define DISK_BYTES      MIB

/* The options that a device needs besides the driver. */
struct host {
	struct loop loop;
	struct terminal terminal;
	int null, disk, input[2];
};

static void host_init(struct host *h)
{
	h->null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	h->disk = memfd_create("disk", MFD_CLOEXEC);
	check(h->null >= 0 && h->disk >= 0 &&
		      ftruncate(h->disk, DISK_BYTES) == 0 &&
		      pipe2(h->input, O_CLOEXEC) == 0 &&
		      loop_init(&h->loop) == 0 &&
		      terminal_init_fds(&h->terminal, &h->loop, NULL,
					h->input[0], h->null) == 0,
	      "no descriptors");
}

/*
 * The devices that can be opened anywhere; a network needs a tap. Each is made
 * once and lives as long as the process, since the kernel takes many
 * milliseconds to end an aio context; a reset is a new beginning.
 */
static struct vdriver *device(unsigned which)
{
	static const char *const types[] = {"rng", "blk", "console"};
	static struct vdriver *devices[ARRAY_LEN(types)];
	static struct host host;
	struct vdriver **v = &devices[which % ARRAY_LEN(types)];
	const char *type = types[which % ARRAY_LEN(types)];
	const struct virtio_ops *ops = virtio_find(type);
	char disk[64];

	if (!host.null)
		host_init(&host);
	check(ops != NULL, type);
	snprintf(disk, sizeof(disk), "/proc/self/fd/%d", host.disk);
	if (!*v)
		*v = vdriver_new_on(ops, ops->id == VIRTIO_ID_BLOCK ? disk : "",
				    &host.loop, &host.terminal);
	check(*v != NULL, "the device does not open");
	vdriver_reset(*v);
	return *v;
}

static void poll(struct vdriver *v)
{
	if (!v->dev->ops->own_thread)
		vdriver_poll(v);
}

static void access_any(struct vdriver *v, struct input *in)
{
	const unsigned how = take(in, 1);
	const unsigned len = 1u << how % 4;
	uint64_t off = take(in, how & 0x10 ? 2 : 1);
	uint64_t value = take(in, len);

	off = min_u64(off % VIRTIO_MMIO_BYTES, VIRTIO_MMIO_BYTES - len);
	if (how & 0x20)
		virtio_mmio_bus_ops.read(&v->mmio, off, &value, len);
	else
		virtio_mmio_bus_ops.write(&v->mmio, off, &value, len);
}

static unsigned take_queue(const struct vdriver *v, struct input *in)
{
	return take(in, 1) % v->dev->ops->nqueues;
}

static void add_chain(struct vdriver *v, struct input *in)
{
	const unsigned q = take_queue(v, in);
	const unsigned shape = take(in, 1);
	const unsigned nout = shape & 3, nin = shape >> 2 & 3;
	struct iovec iov[6];

	if (v->queue[q].size == 0)
		return;
	for (unsigned i = 0; i < nout + nin; i++) {
		const unsigned len = take(in, shape & 0x40 ? 2 : 1);

		iov[i] = vdriver_buf(v, NULL, len ? len : 1);
		/* The content of a request comes from the input, too. */
		for (unsigned n = 0; i < nout && n < len && n < 16; n++)
			((uint8_t *)iov[i].iov_base)[n] = take(in, 1);
	}
	if (shape & 0x80)
		vdriver_add_indirect(v, q, iov, nout, iov + nout, nin);
	else
		vdriver_add(v, q, iov, nout, iov + nout, nin);
}

static void set_desc(struct vdriver *v, struct input *in)
{
	const unsigned q = take_queue(v, in);
	const unsigned i = take(in, 1);
	const uint16_t flags = take(in, 1);
	const uint32_t len = take(in, 2);
	uint64_t addr = take(in, 4);

	if (v->queue[q].size == 0)
		return;
	if (flags & 0x80)
		addr = v->queue[q].desc + addr % 0x10000;
	vdriver_set_desc(vdriver_desc(v, q, i % v->queue[q].size), addr, len,
			 flags & 7, take(in, 1));
}

static void offer(struct vdriver *v, struct input *in)
{
	const unsigned q = take_queue(v, in);
	const unsigned what = take(in, 1);

	if (v->queue[q].size == 0)
		return;
	if (what == 0xff)
		vdriver_set_avail_idx(v, q, take(in, 2));
	else
		vdriver_avail(v, q, what);
}

static void poke(struct vdriver *v, struct input *in)
{
	const gpa_t gpa = 0x100000 + take(in, 2);
	const unsigned len = take(in, 1) % 32;

	for (unsigned i = 0; i < len; i++) {
		const uint8_t byte = take(in, 1);

		mem_write(&v->mem, gpa + i, &byte, 1);
	}
}

static void step(struct vdriver *v, struct input *in)
{
	switch (take(in, 1) % 9) {
	case 0:
		access_any(v, in);
		break;
	case 1: {
		const unsigned off = take(in, 1) & ~3u;

		vdriver_write32(v, off, take(in, 4));
		break;
	}
	case 2:
		vdriver_up(v, take(in, 4) | (uint64_t)take(in, 1) << 32);
		break;
	case 3:
		add_chain(v, in);
		break;
	case 4:
		set_desc(v, in);
		break;
	case 5:
		offer(v, in);
		break;
	case 6:
		poke(v, in);
		break;
	case 7:
		vdriver_acknowledge(v);
		break;
	default:
		vdriver_write32(v, VIRTIO_MMIO_QUEUE_NOTIFY, take(in, 1));
		poll(v);
		break;
	}
}

/*
 * A request that the device answers: a read of sector 0 for the disk, 513
 * random bytes, 16 characters on the console's transmit queue.
 */
static void check_alive(struct vdriver *v)
{
	const uint32_t header[4] = {0};
	const bool console = v->dev->ops->id == VIRTIO_ID_CONSOLE;
	const unsigned q = console ? 1 : 0;
	struct iovec out, in[2];
	uint32_t written = 0;
	int head;

	check(vdriver_up(v, UINT64_MAX), "does not start after a reset");
	out = vdriver_buf(v, header, sizeof(header));
	in[0] = vdriver_buf(v, NULL, 512);
	in[1] = vdriver_buf(v, NULL, 1);
	head = vdriver_add(v, q, &out, 1, in, console ? 0 : 2);
	vdriver_kick(v, q);
	poll(v);
	check(vdriver_wait_used(v, q, &written, 5000) == head,
	      "does not answer after a reset");
	check(written == (console ? 0 : 513), "answers wrongly after a reset");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct input in = {data, data + bytes};
	const unsigned which = take(&in, 1);
	struct vdriver *v;

	log_setup(LOG_ERROR, false);
	v = device(which & 0x7f);
	if (which & 0x80)
		vdriver_up(v, UINT64_MAX);
	while (in.at < in.end && v->next_free < MEMORY_USED_MAX)
		step(v, &in);
	check_alive(v);
	return 0;
}
