/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PC's keyboard controller, with nothing attached to it. It is there for
 * its reset line, and it answers what drivers ask to find that out: a command
 * without its answer costs Linux half a second of polling.
 */
#include "devices/platform/platform.h"

#include "vmm/base/stop.h"
#include "vmm/base/visit.h"

#include <string.h>

/* Offsets from port 0x60. */
#define PORT_DATA    0
#define PORT_SPEAKER 1
#define PORT_STATUS  4 /* read; written: command */

#define STATUS_OUTPUT_FULL 0x01
#define STATUS_SYSTEM      0x04 /* self-test passed */
#define STATUS_COMMAND     0x08 /* the last write was a command's first half */
#define STATUS_UNLOCKED    0x10
#define STATUS_AUX         0x20 /* the output is the mouse port's */

#define CONFIG_SYSTEM       0x04
#define CONFIG_KEYBOARD_OFF 0x10
#define CONFIG_AUX_OFF      0x20

/*
 * KVM's PIT answers port 0x61 where there is one. Where there is none: its
 * output is high, so that a guest that polls for it does not wait for ever, and
 * no NMI is pending.
 */
#define SPEAKER_OUTPUT 0x20

void i8042_init(struct i8042 *k, struct stop *stop)
{
	*k = (struct i8042){.stop = stop};
	k->ram[0] = CONFIG_SYSTEM | CONFIG_KEYBOARD_OFF | CONFIG_AUX_OFF;
	pthread_mutex_init(&k->lock, NULL);
}

void i8042_visit(struct i8042 *k, struct visitor *v)
{
	visit_part(v, "i8042");
	VISIT(v, k, command);
	VISIT(v, k, ram);
	VISIT(v, k, output);
	VISIT(v, k, output_full);
	VISIT(v, k, output_aux);
	VISIT(v, k, expect_data);
	visit_part_end(v);
}

static void answer(struct i8042 *k, uint8_t value, bool aux)
{
	k->output = value;
	k->output_full = true;
	k->output_aux = aux;
}

static void command(struct i8042 *k, uint8_t value)
{
	k->command = 0;
	k->expect_data = false;
	switch (value) {
	case 0x20 ... 0x3f: /* read configuration, RAM */
		answer(k, k->ram[value & 0x1f], false);
		break;
	case 0x60 ... 0x7f: /* write configuration, RAM */
	case 0xd1:          /* write the output port */
	case 0xd2:          /* as if from the keyboard */
	case 0xd3:          /* as if from the mouse */
	case 0xd4:          /* to the mouse */
		k->command = value;
		k->expect_data = true;
		break;
	case 0xa7:
		k->ram[0] |= CONFIG_AUX_OFF;
		break;
	case 0xa8:
		k->ram[0] &= (uint8_t)~CONFIG_AUX_OFF;
		break;
	case 0xa9: /* test the mouse port: its clock is stuck, as nothing is */
		answer(k, 0x01, false);
		break;
	case 0xaa: /* self-test: passed */
		answer(k, 0x55, false);
		break;
	case 0xab: /* test the keyboard port: likewise stuck */
		answer(k, 0x01, false);
		break;
	case 0xad:
		k->ram[0] |= CONFIG_KEYBOARD_OFF;
		break;
	case 0xae:
		k->ram[0] &= (uint8_t)~CONFIG_KEYBOARD_OFF;
		break;
	case 0xc0: /* read the input port: not locked */
		answer(k, 0x80, false);
		break;
	case 0xd0: /* read the output port: A20 on, not in reset */
		answer(k, 0x03, false);
		break;
	case 0xf0 ... 0xff: /* pulse lines low; line 0 is the CPU's reset */
		if (!(value & 1))
			stop_request(k->stop, STOP_RESET, 0);
		break;
	default:
		break;
	}
}

/*
 * The data byte of a command, or a byte for the keyboard, which does not exist.
 */
static void data(struct i8042 *k, uint8_t value)
{
	const uint8_t of = k->command;

	k->expect_data = false;
	k->command = 0;
	switch (of) {
	case 0x60 ... 0x7f:
		k->ram[of & 0x1f] = value;
		break;
	case 0xd1:
		if (!(value & 1))
			stop_request(k->stop, STOP_RESET, 0);
		break;
	case 0xd2:
		answer(k, value, false);
		break;
	case 0xd3:
		/* Without the mouse port's mark: there is no such port. */
		answer(k, 0, false);
		break;
	case 0xd4: /* the mouse does not answer: a time-out */
		answer(k, 0xfe, true);
		break;
	default:
		break;
	}
}

static uint8_t read_port(struct i8042 *k, uint64_t port)
{
	uint8_t status = STATUS_SYSTEM | STATUS_UNLOCKED;

	switch (port) {
	case PORT_DATA:
		k->output_full = false;
		return k->output;
	case PORT_SPEAKER:
		return SPEAKER_OUTPUT;
	case PORT_STATUS:
		if (k->output_full)
			status |= STATUS_OUTPUT_FULL;
		if (k->output_full && k->output_aux)
			status |= STATUS_AUX;
		if (k->expect_data)
			status |= STATUS_COMMAND;
		return status;
	default:
		return 0xff;
	}
}

static void i8042_read(void *dev, uint64_t off, void *buf, unsigned len)
{
	struct i8042 *k = dev;
	uint8_t *byte = buf;

	pthread_mutex_lock(&k->lock);
	for (unsigned i = 0; i < len; i++)
		byte[i] = read_port(k, off + i);
	pthread_mutex_unlock(&k->lock);
}

static void i8042_write(void *dev, uint64_t off, const void *buf, unsigned len)
{
	struct i8042 *k = dev;
	const uint8_t *byte = buf;

	pthread_mutex_lock(&k->lock);
	for (unsigned i = 0; i < len; i++) {
		if (off + i == PORT_DATA)
			data(k, byte[i]);
		else if (off + i == PORT_STATUS)
			command(k, byte[i]);
	}
	pthread_mutex_unlock(&k->lock);
}

const struct bus_ops i8042_bus_ops = {
	.name = "i8042",
	.read = i8042_read,
	.write = i8042_write,
};
