/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-console (virtio 1.2, 5.3) with its one port on the user's terminal.
 *
 * Nothing is dropped and nothing piles up: a chain that the terminal does not
 * take stays where it is until there is room, and input is only taken from the
 * terminal while the guest has buffers for it.
 */
#include "devices/host/terminal.h"
#include "devices/virtio/virtio.h"
#include "vmm/base/iov.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/base/visit.h"

#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>
#include <string.h>

#define RECEIVEQ  0
#define TRANSMITQ 1
#define QUEUE_MAX 128
#define SIZE      (UINT64_C(1) << VIRTIO_CONSOLE_F_SIZE)

/* One turn's work, so that no guest keeps the loop to itself. */
#define TURN_CHAINS 256
#define TURN_BYTES  (64 * KIB)

struct console {
	struct virtio_dev *d; /* borrowed */
	struct terminal_writer writer;
	struct virtio_console_config config; /* what the driver should see */
	/*
	 * The chain being sent, if any, and how much of it has been; or, if
	 * `resent`, of the next one.
	 */
	bool sending, resent;
	struct iov_chain chain;
	size_t sent;
	size_t budget; /* bytes left of this turn */
	/* During a turn: what is still to be given to the guest. */
	struct console_input {
		const uint8_t *data;
		size_t bytes;
	} input;
	struct iovec iov[QUEUE_MAX];
};

/* ---- output ---- */

/* Sends from CHAIN what the terminal takes, within *BUDGET. */
static void send_some(struct console *c, size_t *budget)
{
	const struct iov_chain *chain = &c->chain;
	struct iovec rest[QUEUE_MAX];
	unsigned n = iov_slice(chain->iov, chain->nout, c->sent, *budget, rest);

	for (unsigned i = 0; i < n; i++) {
		size_t taken = terminal_write(c->d->terminal, rest[i].iov_base,
					      rest[i].iov_len);

		c->sent += taken;
		*budget -= taken;
		if (taken < rest[i].iov_len)
			return;
	}
}

/* Takes the next chain to send. */
static enum virtio_took next_chain(struct console *c)
{
	struct virtio_dev *d = c->d;
	int r;

	c->chain.iov = c->iov;
	c->chain.iov_max = QUEUE_MAX;
	r = vq_pop(&d->vq[TRANSMITQ], &c->chain);
	if (r < 0)
		virtio_broken(d, "transmit queue: bad buffers");
	if (r <= 0)
		return r == 0 ? VIRTIO_EMPTY : VIRTIO_LATER;
	if (!c->resent)
		c->sent = 0;
	c->sending = true;
	c->resent = false;
	return VIRTIO_TOOK;
}

/* Sends one chain; has_room() goes on when the terminal takes no more. */
static enum virtio_took send_one(struct virtio_dev *d, unsigned q)
{
	struct console *c = d->state;
	const enum virtio_took took = c->sending ? VIRTIO_TOOK : next_chain(c);

	if (took != VIRTIO_TOOK)
		return took;
	send_some(c, &c->budget);
	if (c->sent < c->chain.out_bytes)
		return VIRTIO_LATER;
	vq_push(&d->vq[q], c->chain.head, 0);
	c->sending = false;
	return VIRTIO_TOOK;
}

static void transmit(struct console *c)
{
	struct virtio_dev *d = c->d;

	c->budget = TURN_BYTES;
	(void)virtio_turn(d, TRANSMITQ, TURN_CHAINS, 1, send_one);
	virtio_publish(d, TRANSMITQ);
	if (d->running && c->budget == 0)
		loop_signal(d->kick[TRANSMITQ].source.fd);
}

static void has_room(void *owner)
{
	struct console *c = owner;

	virtio_lock(c->d);
	if (c->d->running)
		transmit(c);
	virtio_unlock(c->d);
}

/* ---- input ---- */

/* 5.3.6.1: the receive queue's buffers are there to be written. */
static enum virtio_took pop_input(struct virtio_dev *d, unsigned q,
				  struct iov_chain *chain)
{
	const int r = vq_pop(&d->vq[q], chain);

	if (r == 0)
		return VIRTIO_EMPTY;
	if (r < 0)
		virtio_broken(d, "receive queue: bad buffers");
	else if (chain->in_bytes == 0)
		virtio_broken(d, "receive queue: a buffer without room");
	return d->running ? VIRTIO_TOOK : VIRTIO_LATER;
}

/* Only looks at the first buffer, so one is enough. */
static enum virtio_took measure(struct virtio_dev *d, unsigned q)
{
	struct console *c = d->state;
	struct iovec iov[QUEUE_MAX];
	struct iov_chain chain = {.iov = iov, .iov_max = QUEUE_MAX};
	const enum virtio_took took = pop_input(d, q, &chain);

	if (took != VIRTIO_TOOK)
		return took;
	vq_unpop(&d->vq[q]);
	c->input.bytes = chain.in_bytes;
	return VIRTIO_LATER;
}

static size_t input_room(void *owner)
{
	struct console *c = owner;
	struct virtio_dev *d = c->d;
	size_t room;

	virtio_lock(d);
	c->input = (struct console_input){0};
	if (d->running)
		(void)virtio_turn(d, RECEIVEQ, UINT_MAX, 1, measure);
	room = c->input.bytes;
	virtio_unlock(d);
	return room;
}

static enum virtio_took fill(struct virtio_dev *d, unsigned q)
{
	struct console *c = d->state;
	struct console_input *input = &c->input;
	struct iovec iov[QUEUE_MAX];
	struct iov_chain chain = {.iov = iov, .iov_max = QUEUE_MAX};
	enum virtio_took took;
	size_t n;

	if (input->bytes == 0)
		return VIRTIO_LATER;
	took = pop_input(d, q, &chain);
	if (took != VIRTIO_TOOK)
		return took;
	n = iov_write(chain.iov + chain.nout, chain.nin, 0, input->data,
		      input->bytes);
	vq_push(&d->vq[q], chain.head, (uint32_t)n);
	input->data += n;
	input->bytes -= n;
	return VIRTIO_TOOK;
}

static size_t input_arrived(void *owner, const uint8_t *data, size_t bytes)
{
	struct console *c = owner;
	struct virtio_dev *d = c->d;
	size_t left;

	virtio_lock(d);
	c->input = (struct console_input){data, bytes};
	if (d->running)
		(void)virtio_turn(d, RECEIVEQ, UINT_MAX, 1, fill);
	virtio_publish(d, RECEIVEQ);
	left = c->input.bytes;
	virtio_unlock(d);
	return bytes - left;
}

/* ---- configuration space (5.3.4) ---- */

static void fill_config(struct virtio_dev *d)
{
	struct console *c = d->state;
	uint16_t columns = 0, rows = 0;

	if (terminal_has_size(d->terminal)) {
		terminal_size(d->terminal, &columns, &rows);
		c->config.cols = htole16(columns);
		c->config.rows = htole16(rows);
	}
	c->config.max_nr_ports = htole32(1);
	memcpy(d->config, &c->config, sizeof(c->config));
}

/*
 * The one field for the driver to write is emerg_wr, at any time, even before
 * feature negotiation; whatever else it wrote is put back.
 */
static void console_config_written(struct virtio_dev *d, size_t off, size_t len)
{
	const size_t emerg = offsetof(struct virtio_console_config, emerg_wr);
	const struct console *c = d->state;
	const uint8_t last_word = d->config[emerg];

	/* If the terminal is stuck, nothing could keep it. */
	if (off <= emerg && emerg < off + len)
		(void)terminal_write(d->terminal, &last_word, 1);
	memcpy(d->config, &c->config, sizeof(c->config));
}

static void console_resized(struct virtio_dev *d)
{
	const struct console *c = d->state;
	const struct virtio_console_config before = c->config;

	fill_config(d);
	if (memcmp(&c->config, &before, sizeof(before)) != 0)
		virtio_config_changed(d);
}

static void terminal_was_resized(void *owner)
{
	struct console *c = owner;

	virtio_lock(c->d);
	console_resized(c->d);
	virtio_unlock(c->d);
}

/* ---- life ---- */

static int console_open(struct virtio_dev *d, const struct config_device *cfg)
{
	struct console *c = d->state;
	struct terminal *t = d->terminal;

	(void)cfg;
	if (!t)
		return log_ret(-EINVAL,
			       "%s: there is no terminal for it: it "
			       "is what --console virtio adds",
			       d->name);
	c->d = d;
	c->writer = (struct terminal_writer){.owner = c, .room_fn = has_room};
	terminal_add_writer(t, &c->writer);
	if (!t->owner) {
		t->owner = c;
		t->input_room = input_room;
		t->input_fn = input_arrived;
		t->eof_fn = NULL;
		t->resize_fn = terminal_was_resized;
	}
	/* The size of a pipe or file is not known, and never will be. */
	if (!terminal_has_size(t))
		d->features &= ~SIZE;
	d->config_bytes = sizeof(struct virtio_console_config);
	fill_config(d);
	return 0;
}

static void console_close(struct virtio_dev *d)
{
	struct console *c = d->state;

	if (!d->terminal || !c->d)
		return;
	terminal_remove_writer(d->terminal, &c->writer);
	if (d->terminal->owner == c)
		d->terminal->owner = NULL;
}

/* One that is loaded has a driver that was up long before. */
static void console_start(struct virtio_dev *d)
{
	const struct console *c = d->state;

	if (d->terminal->owner == c && !d->paused)
		terminal_hold_input(d->terminal);
}

/* The terminal may never take the rest: it goes back, and is sent later. */
static void console_pause(struct virtio_dev *d)
{
	struct console *c = d->state;

	if (!c->sending)
		return;
	vq_unpop(&d->vq[TRANSMITQ]);
	c->sending = false;
	c->resent = true;
}

/*
 * A driver that knows of sizes goes on where there is none: the terminal keeps
 * the one it had.
 */
static void console_visit_backend(struct virtio_dev *d, struct visitor *v)
{
	if (visit_loads(v))
		d->features |= d->acked & SIZE;
}

/*
 * Input that waits belongs to the terminal, and so to this process: another
 * one that loads the device has its own.
 */
static void console_visit(struct virtio_dev *d, struct visitor *v)
{
	struct console *c = d->state;

	VISIT(v, c, resent);
	VISIT(v, c, sent);
	if (!visit_loads(v) || !visit_goes_on(v))
		return;
	memcpy(&c->config, d->config, sizeof(c->config));
	console_resized(d);
}

static void console_stop(struct virtio_dev *d)
{
	struct console *c = d->state;

	c->sending = c->resent = false;
}

static void console_kick(struct virtio_dev *d, unsigned q)
{
	if (q == TRANSMITQ)
		transmit(d->state);
	else
		terminal_resume_input(d->terminal);
}

static const struct config_key console_keys[] = {{.name = NULL}};

const struct virtio_ops virtio_console = {
	.type = {.name = "console",
		 .help = "the guest's console (hvc0) on standard input and "
			 "output",
		 .keys = console_keys},
	.id = VIRTIO_ID_CONSOLE,
	.nqueues = 2,
	.queue_max = QUEUE_MAX,
	.features = SIZE | UINT64_C(1) << VIRTIO_CONSOLE_F_EMERG_WRITE,
	.state_size = sizeof(struct console),
	.open = console_open,
	.close = console_close,
	.start = console_start,
	.stop = console_stop,
	.pause = console_pause,
	.visit = console_visit,
	.visit_backend = console_visit_backend,
	.kick = console_kick,
	.config_written = console_config_written,
};
