/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile driver of the network device on a real tap, with frames coming in
 * from the host. Whatever it does, no receive buffer is written past its end,
 * and after a reset frames arrive again. Without root there is no tap: skipped.
 *
 * Input: operations, one byte and its operands each.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/netns.h"
#include "tests/vdriver.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <string.h>

extern const struct virtio_ops virtio_net;

#define RX              0
#define TX              1
#define MEMORY_USED_MAX (8 * MIB)
#define GUARD           0xa7
#define SKIPPED         77

/* Made once: a tap per input would be most of the work. */
struct rig {
	struct input in;
	struct virtio_ops ops; /* without the thread */
	struct loop loop;
	struct vdriver *v;
	int socket;
	uint8_t *guard; /* behind the last receive buffer */
	bool raw; /* such a chain may point at anything, guards included */
};

/* Handlers of everything that is ready, here and now. */
static void turn(struct rig *r)
{
	(void)turn_loop(&r->loop, 0);
	check(r->raw || !r->guard || *r->guard == GUARD,
	      "written behind a buffer");
}

static void bring_up(struct rig *r, uint64_t features)
{
	r->guard = NULL;
	r->raw = false;
	check(vdriver_up(r->v, features), "not up");
}

static void send_frame(struct rig *r, size_t bytes)
{
	uint8_t frame[1514] = {0xff, 0xff, 0xff,        0xff,       0xff,
			       0xff, 2,    [12] = 0x88, [13] = 0xb5};

	/* Refused when the tap's queue is full. */
	(void)!send(r->socket, frame, bytes < 14 ? 14 : bytes % 1515, 0);
}

static void post(struct rig *r)
{
	const unsigned how = (unsigned)take(&r->in, 1);
	const size_t first = take(&r->in, 1), second = take(&r->in, 2);
	struct iovec in = vdriver_buf(r->v, NULL, first + second + 2), part[2];
	uint8_t *base = in.iov_base;

	part[0] = (struct iovec){base, first + 1};
	part[1] = (struct iovec){base + first + 1, second};
	r->guard = base + first + 1 + second;
	*r->guard = GUARD;
	if (how & 1)
		(void)vdriver_add_indirect(r->v, RX, NULL, 0, part, 2);
	else if (how & 2)
		(void)vdriver_add(r->v, RX, part, 1, part + 1, 1);
	else
		(void)vdriver_add(r->v, RX, NULL, 0, part, 2);
}

/* A header made of the input, and a frame. */
static void transmit(struct rig *r)
{
	const unsigned how = (unsigned)take(&r->in, 1);
	const size_t bytes = take(&r->in, 1) * (how & 1 ? 300 : 1);
	struct iovec out = vdriver_buf(r->v, NULL, 12 + bytes), part[2];
	uint8_t *base = out.iov_base;
	const unsigned given = (unsigned)take(&r->in, 1) % 64;

	for (unsigned i = 0; i < given && i < 12 + bytes; i++)
		base[i] = (uint8_t)take(&r->in, 1);
	part[0] = (struct iovec){base, how >> 4};
	part[1] = (struct iovec){base + (how >> 4), out.iov_len - (how >> 4)};
	if (out.iov_len < how >> 4 || how & 2)
		(void)vdriver_add(r->v, TX, &out, 1, NULL, 0);
	else
		(void)vdriver_add_indirect(r->v, TX, part, 2, NULL, 0);
}

static void step(struct rig *r)
{
	const unsigned op = (unsigned)take(&r->in, 1), q = op >> 3 & 1;

	if (r->v->next_free > MEMORY_USED_MAX)
		bring_up(r, UINT64_MAX);
	switch (op % 8) {
	case 0:
		post(r);
		break;
	case 1:
		transmit(r);
		break;
	case 2:
		send_frame(r, take(&r->in, 2));
		break;
	case 3:
		add_raw(r->v, &r->in, q);
		r->raw = true;
		break;
	case 4:
		vdriver_kick(r->v, q);
		break;
	case 5:
		(void)vdriver_get_used(r->v, q, NULL);
		break;
	case 6:
		bring_up(r, op & 16 ? UINT64_MAX : take(&r->in, 8));
		break;
	default:
		turn(r);
		break;
	}
}

/* Frames of the input's may still wait in the tap: any arrival will do. */
static void check_alive(struct rig *r)
{
	struct iovec in;

	bring_up(r, UINT64_MAX);
	in = vdriver_buf(r->v, NULL, 2000);
	check(vdriver_add(r->v, RX, NULL, 0, &in, 1) >= 0, "no descriptor");
	vdriver_kick(r->v, RX);
	send_frame(r, 100);
	for (unsigned i = 0; i < 20; i++) {
		turn(r);
		if (vdriver_get_used(r->v, RX, NULL) >= 0)
			return;
	}
	check(false, "no frame");
}

static struct rig *rig_new(void)
{
	struct rig *r = calloc(1, sizeof(*r));
	const char *why = netns_enter();

	if (why) {
		printf("%s\n", why);
		exit(SKIPPED);
	}
	check(r != NULL, "out of memory");
	log_setup(LOG_ERROR, false);
	netns_add_tap("tap0", 0);
	netns_no_ipv6("tap0");
	netns_up("tap0");
	check(loop_init(&r->loop) == 0, "no loop");
	r->ops = virtio_net;
	r->ops.own_thread = false;
	r->v = vdriver_new_on(&r->ops, "tap0", &r->loop, NULL);
	check(r->v != NULL, "no device");
	/* Has no type: it only sends. */
	r->socket = netns_packet_socket("tap0", 0);
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
