/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile driver on one side of the console, on the other a user who types,
 * reads, or does neither. Whatever they did, buffers stay within bounds, and
 * after a reset the console works in both directions.
 *
 * Input: operations, one byte and its operands each. The rings proper are
 * fuzz-vq's; this one is about what the device does with good chains and bad.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/user.h"
#include "tests/vdriver.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <linux/virtio_ring.h>

extern const struct virtio_ops virtio_console;

#define MEMORY_USED_MAX (4 * MIB)

struct rig {
	struct input in;
	struct user *u;
	struct vdriver *v;
	struct iovec pool; /* all good buffers are parts of it */
};

static void bring_up(struct rig *r, uint64_t features)
{
	check(vdriver_up(r->v, features), "not up");
	r->pool = vdriver_buf(r->v, NULL, 128 * KIB);
}

/* A chain of up to three buffers each way. */
static void add_chain(struct rig *r, unsigned q)
{
	const unsigned how = take(&r->in, 1);
	const unsigned nout = how & 3, nin = how >> 2 & 3;
	struct iovec iov[6];

	for (unsigned i = 0; i < nout + nin; i++) {
		iov[i].iov_base = r->pool.iov_base;
		iov[i].iov_len = take(&r->in, 1);
		/* Large ones, as it takes 80 KiB to fill the user's side. */
		if (how & 0x40)
			iov[i].iov_len *= 512;
	}
	if (r->v->next_free > MEMORY_USED_MAX)
		return;
	if (how & 0x80)
		(void)vdriver_add_indirect(r->v, q, iov, nout, iov + nout, nin);
	else if (nout + nin > 0)
		(void)vdriver_add(r->v, q, iov, nout, iov + nout, nin);
}

static void write_config(struct rig *r)
{
	const unsigned how = take(&r->in, 1);
	const uint64_t value = take(&r->in, 4);

	vdriver_config_write(r->v, how % 16, &value, 1u << (how >> 4 & 3));
}

static void turn(struct rig *r)
{
	vdriver_poll(r->v);
	user_poll(r->u);
}

static void step(struct rig *r)
{
	const unsigned op = take(&r->in, 1), q = op & 1;
	static const char typed[] = "0123456789abcdef";

	switch ((op >> 1) % 12) {
	case 0 ... 1:
		add_chain(r, q);
		break;
	case 2:
		add_raw(r->v, &r->in, q);
		break;
	case 3:
		vdriver_kick(r->v, q);
		break;
	case 4:
		(void)vdriver_get_used(r->v, q, NULL);
		break;
	case 5:
		user_types_now(r->u, typed, op >> 4);
		break;
	case 6:
		(void)user_reads_now(r->u, 16 * take(&r->in, 1));
		break;
	case 7:
		write_config(r);
		break;
	case 8:
		bring_up(r, take(&r->in, 1) & 1 ? UINT64_MAX : 0);
		break;
	case 9:
		terminal_resized(&r->u->t);
		break;
	case 11:
		user_settle(r->u);
		break;
	default:
		turn(r);
		break;
	}
	check(r->u->t.npending <= TERMINAL_PENDING_MAX, "too much pending");
	check(r->u->t.ninput <= TERMINAL_INPUT_MAX, "too much input");
}

static void read_everything(struct rig *r)
{
	do
		turn(r);
	while (user_reads_now(r->u, SIZE_MAX) > 0 || r->u->t.npending > 0);
}

static void check_alive(struct rig *r)
{
	struct iovec out, in;
	uint32_t written = 0;

	bring_up(r, UINT64_MAX);
	user_settle(r->u);
	read_everything(r);
	out = vdriver_buf(r->v, "alive", 5);
	check(vdriver_add(r->v, 1, &out, 1, NULL, 0) >= 0, "no descriptor");
	vdriver_kick(r->v, 1);
	turn(r);
	check(vdriver_get_used(r->v, 1, NULL) >= 0, "output not taken");
	check(user_reads_now(r->u, 10) == 5, "output not seen");

	user_types_now(r->u, "!", 1);
	in = vdriver_buf(r->v, NULL, 10);
	check(vdriver_add(r->v, 0, NULL, 0, &in, 1) >= 0, "no descriptor");
	vdriver_kick(r->v, 0);
	for (unsigned i = 0; i < 10 && written == 0; i++) {
		turn(r);
		(void)vdriver_get_used(r->v, 0, &written);
	}
	check(written > 0, "no input");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct rig r = {.in = {data, data + bytes}, .u = user_with_pipes()};

	log_setup(LOG_ERROR, false);
	r.v = vdriver_new_on(&virtio_console, NULL, &r.u->loop, &r.u->t);
	check(r.v != NULL, "no device");
	check(terminal_start(&r.u->t) == 0, "start");
	bring_up(&r, UINT64_MAX);
	while (r.in.at < r.in.end)
		step(&r);
	check_alive(&r);
	vdriver_free(r.v);
	user_free(r.u);
	return 0;
}
