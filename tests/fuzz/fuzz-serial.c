/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that does anything to the serial port and the other small devices,
 * with a user who types, reads, or does neither. Whatever it did, buffers stay
 * within bounds and the port works again once the user reads.
 *
 * Input: operations, one byte and its operands each.
 */
#include "devices/platform/platform.h"
#include "tests/fuzz/fuzz.h"
#include "tests/user.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/base/visit.h"

#include <linux/serial_reg.h>

struct rig {
	struct input in;
	struct user *u;
	struct serial s;
	struct i8042 i8042;
};

static void check_invariants(struct rig *r)
{
	struct serial *s = &r->s;

	check(s->rx.count <= SERIAL_FIFO && s->tx.count <= SERIAL_FIFO &&
		      s->ahead.count <= SERIAL_FIFO &&
		      s->rx.head < SERIAL_FIFO && s->tx.head < SERIAL_FIFO,
	      "a FIFO out of bounds");
	check(r->u->t.npending <= TERMINAL_PENDING_MAX, "too much pending");
	check(r->u->t.ninput <= TERMINAL_INPUT_MAX, "too much input");
	check(s->tx.count == 0 || r->u->t.refused, "output nobody will send");
}

static void access_device(struct rig *r, const struct bus_ops *ops, void *dev,
			  unsigned range, bool writes)
{
	const uint8_t how = (uint8_t)take(&r->in, 1);
	unsigned off = how % range;
	unsigned len = 1u << (how >> 5 & 3);
	uint8_t buf[8];

	while (off + len > range)
		len /= 2;
	for (unsigned i = 0; i < len && writes; i++)
		buf[i] = (uint8_t)take(&r->in, 1);
	if (writes)
		ops->write(dev, off, buf, len);
	else
		ops->read(dev, off, buf, len);
}

/* Many at once, as it takes 20 KiB to fill the pipe and the buffer. */
static void send_many(struct rig *r)
{
	const uint8_t c = (uint8_t)take(&r->in, 1);

	for (unsigned i = 0; i < 16u * c; i++)
		serial_bus_ops.write(&r->s, UART_TX, &c, 1);
}

/* A state that somebody else has written, with a checksum that is right. */
static void load_changed(struct rig *r)
{
	struct visitor saves, loads;
	uint8_t *state;

	visit_save(&saves);
	serial_visit(&r->s, &saves);
	i8042_visit(&r->i8042, &saves);
	check(visit_end(&saves) == 0, "not saved");
	state = saves.saved;
	for (unsigned n = (unsigned)take(&r->in, 1) % 4; n > 0; n--) {
		const size_t at = take(&r->in, 2) % saves.bytes;

		state[at] = (uint8_t)take(&r->in, 1);
	}
	visit_load(&loads, state, saves.bytes);
	serial_pause(&r->s);
	serial_visit(&r->s, &loads);
	i8042_visit(&r->i8042, &loads);
	(void)visit_end(&loads);
	serial_resume(&r->s);
	visit_done(&loads);
	visit_done(&saves);
}

static void step(struct rig *r)
{
	const uint8_t op = (uint8_t)take(&r->in, 1);
	uint8_t typed[16];

	switch (op % 12) {
	case 0 ... 2:
		access_device(r, &serial_bus_ops, &r->s, 8, true);
		break;
	case 3 ... 4:
		access_device(r, &serial_bus_ops, &r->s, 8, false);
		break;
	case 5:
		send_many(r);
		break;
	case 6:
		for (unsigned i = 0; i < sizeof(typed); i++)
			typed[i] = (uint8_t)(op + i);
		user_types_now(r->u, typed, op / 12 % sizeof(typed));
		break;
	case 7:
		(void)user_reads_now(r->u, 16u * (uint8_t)take(&r->in, 1));
		break;
	case 8:
		access_device(r, &i8042_bus_ops, &r->i8042, 5, op & 0x80);
		break;
	case 9:
		access_device(r, &pm_bus_ops, &r->u->stop, 4, op & 0x80);
		access_device(r, &pm_mmio_bus_ops, &r->u->stop, 8, op & 0x80);
		break;
	case 10:
		access_device(r, &pvpanic_bus_ops, &r->u->stop, 1, op & 0x80);
		access_device(r, &exit_port_bus_ops, &r->u->stop, 1, op & 0x80);
		break;
	default:
		if (op & 0x80)
			load_changed(r);
		else
			user_poll(r->u);
		break;
	}
	check_invariants(r);
}

/* The user reads everything, and then sees the next byte. */
static void check_alive(struct rig *r)
{
	const uint8_t zero = 0, c = '!';
	uint8_t lsr;

	serial_bus_ops.write(&r->s, UART_LCR, &zero, 1);
	serial_bus_ops.write(&r->s, UART_MCR, &zero, 1);
	do
		user_poll(r->u);
	while (user_reads_now(r->u, SIZE_MAX) > 0 || r->u->t.npending > 0);
	serial_bus_ops.read(&r->s, UART_LSR, &lsr, 1);
	check(lsr & UART_LSR_THRE, "the transmitter is stuck");
	serial_bus_ops.write(&r->s, UART_TX, &c, 1);
	check(user_reads_now(r->u, 2) == 1, "no output");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct rig r = {.in = {data, data + bytes}, .u = user_with_pipes()};

	log_setup(LOG_ERROR, false);
	check(fcntl(r.u->out_fd, F_SETPIPE_SZ, 4096) > 0, "pipe size");
	check(serial_init(&r.s, -1, 4, &r.u->t, true) == 0, "init");
	i8042_init(&r.i8042, &r.u->stop);
	check(terminal_start(&r.u->t) == 0, "start");
	while (r.in.at < r.in.end)
		step(&r);
	check_alive(&r);
	serial_done(&r.s);
	user_free(r.u);
	return 0;
}
