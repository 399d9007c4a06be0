/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile driver of the block device, on an image in memory. Whatever it
 * asks, the image keeps its size, nothing is written behind a buffer, a request
 * gets a status there is, and after a reset the disk works.
 *
 * Input: operations, one byte and its operands each.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/vdriver.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <linux/virtio_blk.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

extern const struct virtio_ops virtio_blk;

#define IMAGE_BYTES     MIB
#define MEMORY_USED_MAX (8 * MIB)
#define GUARD           0xa7

/* Made once: a device per input would be most of the work. */
struct rig {
	struct input in;
	struct virtio_ops ops;
	struct loop loop;
	struct vdriver *v;
	int image_fd;
	bool raw; /* such a chain may point at anything, guards included */
};

static void add(struct rig *r, const struct iovec *iov, unsigned nout,
		unsigned nin, bool indirect)
{
	if (indirect)
		(void)vdriver_add_indirect(r->v, 0, iov, nout, iov + nout, nin);
	else if (nout + nin > 0)
		(void)vdriver_add(r->v, 0, iov, nout, iov + nout, nin);
}

/* Header, data and status, cut and sized as the input says. */
static void add_request(struct rig *r, bool erase)
{
	const unsigned how = (unsigned)take(&r->in, 1);
	const uint32_t type = (uint32_t)take(&r->in, 1);
	const uint64_t sector = take(&r->in, how & 1 ? 8 : 2);
	const size_t bytes = take(&r->in, 1) * (how & 2 ? 512 : 7);
	const struct virtio_blk_outhdr header = {
		.type = htole32(how & 4 ? type << 24 : type & 15),
		.sector = htole64(sector),
	};
	const struct virtio_blk_discard_write_zeroes segment = {
		.sector = erase ? htole64(take(&r->in, how & 8 ? 8 : 2)) : 0,
		.num_sectors = erase ? htole32((uint32_t)take(&r->in, 4)) : 0,
		.flags = erase ? htole32((uint32_t)take(&r->in, 1)) : 0,
	};
	struct iovec iov[4];
	unsigned nout = 1, nin = 0;
	uint8_t *end;

	iov[0] = vdriver_buf(r->v, &header, sizeof(header));
	if (erase)
		iov[nout++] = vdriver_buf(r->v, &segment, sizeof(segment));
	else if (how & 8)
		iov[nout++] = vdriver_buf(r->v, NULL, bytes + 1);
	else
		iov[nout + nin++] = vdriver_buf(r->v, NULL, bytes + 1);
	if (nout == 2 && !erase)
		iov[1].iov_len = bytes;
	iov[nout + nin++] = vdriver_buf(r->v, "\xee", 1);
	/* Lies past the chain, in the gap that vdriver leaves. */
	end = (uint8_t *)iov[nout + nin - 1].iov_base + 1;
	*end = GUARD;
	if (how & 16)
		iov[0].iov_len = take(&r->in, 1) % 17;
	add(r, iov, nout, nin, how & 32);
	vdriver_kick(r->v, 0);
	turn_loop(&r->loop, 0);
	check(r->raw || *end == GUARD, "written behind the status");
	check(r->raw || end[-1] == 0xee || end[-1] <= VIRTIO_BLK_S_UNSUPP,
	      "no such status");
}

static void bring_up(struct rig *r, uint64_t features)
{
	check(vdriver_up(r->v, features), "not up");
	r->raw = false;
}

static void step(struct rig *r)
{
	const unsigned op = (unsigned)take(&r->in, 1);

	if (r->v->next_free > MEMORY_USED_MAX)
		bring_up(r, UINT64_MAX);
	switch (op % 8) {
	case 0 ... 1:
		add_request(r, false);
		break;
	case 2:
		add_request(r, true);
		break;
	case 3:
		add_raw(r->v, &r->in, 0);
		r->raw = true;
		break;
	case 4:
		vdriver_kick(r->v, 0);
		break;
	case 5:
		(void)vdriver_get_used(r->v, 0, NULL);
		break;
	case 6:
		bring_up(r, op & 8 ? UINT64_MAX : 0);
		break;
	default:
		turn_loop(&r->loop, 0);
		break;
	}
}

static void check_alive(struct rig *r)
{
	const struct virtio_blk_outhdr header = {.type = VIRTIO_BLK_T_FLUSH};
	struct iovec out, in;
	struct stat st;

	bring_up(r, UINT64_MAX);
	out = vdriver_buf(r->v, &header, sizeof(header));
	in = vdriver_buf(r->v, "\xee", 1);
	check(vdriver_add(r->v, 0, &out, 1, &in, 1) >= 0, "no descriptor");
	vdriver_kick(r->v, 0);
	for (unsigned i = 0; i < 50 && vdriver_get_used(r->v, 0, NULL) < 0; i++)
		turn_loop(&r->loop, 100);
	check(*(uint8_t *)in.iov_base == VIRTIO_BLK_S_OK, "no flush");
	check(fstat(r->image_fd, &st) == 0 && st.st_size == IMAGE_BYTES,
	      "the image's size changed");
}

static struct rig *rig_new(void)
{
	struct rig *r = calloc(1, sizeof(*r));
	char path[64];

	check(r != NULL, "out of memory");
	log_setup(LOG_ERROR, false);
	r->ops = virtio_blk;
	r->ops.own_thread = false;
	r->image_fd = memfd_create("image", MFD_CLOEXEC);
	check(ftruncate(r->image_fd, IMAGE_BYTES) == 0, "no image");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", r->image_fd);
	check(loop_init(&r->loop) == 0, "no loop");
	r->v = vdriver_new_on(&r->ops, path, &r->loop, NULL);
	check(r->v != NULL, "no device");
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static struct rig *r;

	if (!r)
		r = rig_new();
	r->in = (struct input){data, data + bytes};
	bring_up(r, UINT64_MAX);
	while (r->in.at < r->in.end)
		step(r);
	check_alive(r);
	return 0;
}
