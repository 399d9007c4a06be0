/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 16550A (National Semiconductor PC16550D), as Linux's 8250 driver and
 * simpler ones expect it. Characters take no time, so the transmitter is busy
 * only while the user's terminal takes no more.
 *
 * One exit per character is inherent: the way through here is short.
 */
#include "devices/platform/platform.h"

#include "vmm/base/log.h"
#include "vmm/base/visit.h"

#include <linux/serial_reg.h>
#include <string.h>

/*
 * This many LSR reads in a row that find no data are a guest that polls for
 * input, not one that is about to send: drivers look once before each byte.
 */
#define POLLING 8

/* ---- FIFOs ---- */

static void fifo_clear(struct serial_fifo *f)
{
	f->head = f->count = 0;
}

static bool fifo_put(struct serial_fifo *f, unsigned depth, uint8_t c)
{
	if (f->count >= depth)
		return false;
	f->data[(f->head + f->count++) % SERIAL_FIFO] = c;
	return true;
}

static uint8_t fifo_get(struct serial_fifo *f)
{
	uint8_t c = f->data[f->head];

	if (f->count == 0)
		return 0;
	f->head = (f->head + 1) % SERIAL_FIFO;
	f->count--;
	return c;
}

static unsigned depth(const struct serial *s)
{
	return s->fcr & UART_FCR_ENABLE_FIFO ? SERIAL_FIFO : 1;
}

/*
 * Whether the guest reads input, by interrupt or by polling. In loopback the
 * port hears only itself.
 */
static bool listens(const struct serial *s)
{
	return !(s->mcr & UART_MCR_LOOP) &&
	       ((s->ier & UART_IER_RDI) || s->polls >= POLLING);
}

/*
 * A driver that starts does not listen steadily: Linux's autoconfig() sets all
 * of IER for a moment, and startup() empties the FIFO later. Bytes that came in
 * between, and that the guest was never told of, are kept until it listens
 * again.
 */
static void keep_unseen(struct serial *s)
{
	if (s->rx.count == 0)
		s->rx_seen = false;
	if (listens(s)) {
		if (s->rx.count == 0 && s->ahead.count > 0) {
			s->rx = s->ahead;
			fifo_clear(&s->ahead);
		}
	} else if (s->rx.count > 0 && !s->rx_seen) {
		s->ahead = s->rx;
		fifo_clear(&s->rx);
	}
}

/* ---- interrupts ---- */

static unsigned trigger_level(const struct serial *s)
{
	static const uint8_t levels[] = {1, 4, 8, 14};

	return s->fcr & UART_FCR_ENABLE_FIFO ? levels[s->fcr >> 6] : 1;
}

/*
 * The source of the highest priority (PC16550D table IV). A FIFO below its
 * trigger level times out at once: no more characters are on their way.
 */
static uint8_t interrupt_id(const struct serial *s)
{
	if ((s->ier & UART_IER_RLSI) && s->overrun)
		return UART_IIR_RLSI;
	if ((s->ier & UART_IER_RDI) && s->rx.count > 0)
		return s->rx.count >= trigger_level(s) ? UART_IIR_RDI
						       : UART_IIR_RX_TIMEOUT;
	if ((s->ier & UART_IER_THRI) && s->thri)
		return UART_IIR_THRI;
	if ((s->ier & UART_IER_MSI) && s->msr_changes)
		return UART_IIR_MSI;
	return UART_IIR_NO_INT;
}

/* ISA interrupts are edges: the line going up is one, staying up is none. */
static void update_line(struct serial *s)
{
	bool up = interrupt_id(s) != UART_IIR_NO_INT;

	if (up && !s->line)
		irq_raise(&s->irq);
	s->line = up;
}

/* ---- output ---- */

static void to_terminal(struct serial *s, uint8_t c)
{
	if (!s->terminal)
		return;
	/* The terminal's own buffer is full: THRE tells the guest to wait. */
	if (s->tx.count == 0 && terminal_write(s->terminal, &c, 1) == 1)
		return;
	/* A guest that does not wait loses characters, as on a real one. */
	fifo_put(&s->tx, SERIAL_FIFO, c);
}

static void receive(struct serial *s, uint8_t c)
{
	if (!fifo_put(&s->rx, depth(s), c))
		s->overrun = true;
}

static void transmit(struct serial *s, uint8_t c)
{
	if (s->mcr & UART_MCR_LOOP) {
		receive(s, c);
		s->rx_seen = true;
	} else {
		to_terminal(s, c);
	}
	s->thri = s->tx.count == 0;
}

/* The terminal takes output again. */
static void terminal_has_room(void *owner)
{
	struct serial *s = owner;

	pthread_mutex_lock(&s->lock);
	while (s->tx.count > 0 && !s->paused) {
		const uint8_t c = s->tx.data[s->tx.head];

		if (terminal_write(s->terminal, &c, 1) == 0)
			break;
		fifo_get(&s->tx);
		s->thri |= s->tx.count == 0;
	}
	update_line(s);
	pthread_mutex_unlock(&s->lock);
}

/* ---- input ---- */

/*
 * Input waits outside until the guest listens: a driver that starts clears the
 * FIFOs, and what was typed before must not be lost.
 */
static unsigned input_space(const struct serial *s)
{
	if (s->paused || !listens(s) || s->ahead.count > 0)
		return 0;
	return s->rx.count < depth(s) ? depth(s) - s->rx.count : 0;
}

static size_t input_room(void *owner)
{
	struct serial *s = owner;
	size_t room;

	pthread_mutex_lock(&s->lock);
	room = input_space(s);
	pthread_mutex_unlock(&s->lock);
	return room;
}

static size_t input_arrived(void *owner, const uint8_t *data, size_t bytes)
{
	struct serial *s = owner;
	size_t n = 0;

	pthread_mutex_lock(&s->lock);
	while (n < bytes && input_space(s) > 0)
		receive(s, data[n++]);
	update_line(s);
	pthread_mutex_unlock(&s->lock);
	return n;
}

/* ---- registers ---- */

/* The modem's lines: connected, or MCR's own outputs in loopback. */
static uint8_t modem_lines(const struct serial *s)
{
	uint8_t lines = 0;

	if (!(s->mcr & UART_MCR_LOOP))
		return UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS;
	lines |= s->mcr & UART_MCR_RTS ? UART_MSR_CTS : 0;
	lines |= s->mcr & UART_MCR_DTR ? UART_MSR_DSR : 0;
	lines |= s->mcr & UART_MCR_OUT1 ? UART_MSR_RI : 0;
	lines |= s->mcr & UART_MCR_OUT2 ? UART_MSR_DCD : 0;
	return lines;
}

static uint8_t read_iir(struct serial *s)
{
	uint8_t id = interrupt_id(s);

	/* Reading it is what acknowledges this one. */
	if (id == UART_IIR_THRI)
		s->thri = false;
	else if (id == UART_IIR_RDI || id == UART_IIR_RX_TIMEOUT)
		s->rx_seen = true;
	return id | (s->fcr & UART_FCR_ENABLE_FIFO ? 0xc0 : 0);
}

static uint8_t read_lsr(struct serial *s)
{
	uint8_t lsr = 0;

	if (s->tx.count == 0)
		lsr |= UART_LSR_THRE | UART_LSR_TEMT;
	if (s->rx.count > 0) {
		lsr |= UART_LSR_DR;
		s->rx_seen = true;
	} else if (s->tx.count == 0 && s->polls < POLLING) {
		s->polls++;
	}
	if (s->overrun)
		lsr |= UART_LSR_OE;
	s->overrun = false;
	return lsr;
}

static uint8_t read_msr(struct serial *s)
{
	uint8_t msr = modem_lines(s) | s->msr_changes;

	s->msr_changes = 0;
	return msr;
}

static uint8_t read_register(struct serial *s, unsigned reg)
{
	bool dlab = s->lcr & UART_LCR_DLAB;

	switch (reg) {
	case UART_RX:
		return dlab ? s->dll : fifo_get(&s->rx);
	case UART_IER:
		return dlab ? s->dlm : s->ier;
	case UART_IIR:
		return read_iir(s);
	case UART_LCR:
		return s->lcr;
	case UART_MCR:
		return s->mcr;
	case UART_LSR:
		return read_lsr(s);
	case UART_MSR:
		return read_msr(s);
	default:
		return s->scr;
	}
}

static void write_ier(struct serial *s, uint8_t value)
{
	uint8_t added = value & ~s->ier;

	/* Enabled while the transmitter is empty, it is due at once. */
	if ((added & UART_IER_THRI) && s->tx.count == 0)
		s->thri = true;
	s->ier = value & 0x0f;
}

/*
 * Only a clear bit clears: a real one also does when the FIFOs are switched on
 * or off, which would cost what was typed ahead.
 */
static void write_fcr(struct serial *s, uint8_t value)
{
	if (value & UART_FCR_CLEAR_RCVR)
		fifo_clear(&s->rx);
	if (value & UART_FCR_CLEAR_XMIT) {
		s->thri |= s->tx.count > 0;
		fifo_clear(&s->tx);
	}
	/* The other bits only count together with this one. */
	s->fcr = value & UART_FCR_ENABLE_FIFO ? value & 0xc9 : 0;
}

static void write_mcr(struct serial *s, uint8_t value)
{
	uint8_t before = modem_lines(s), changed;

	s->mcr = value & 0x1f;
	changed = before ^ modem_lines(s);
	s->msr_changes |=
		changed >> 4 & (UART_MSR_DCTS | UART_MSR_DDSR | UART_MSR_DDCD);
	/* TERI: the ring line's trailing edge only. */
	if (changed & before & UART_MSR_RI)
		s->msr_changes |= UART_MSR_TERI;
}

static void write_register(struct serial *s, unsigned reg, uint8_t value)
{
	bool dlab = s->lcr & UART_LCR_DLAB;

	switch (reg) {
	case UART_TX:
		if (dlab)
			s->dll = value;
		else
			transmit(s, value);
		break;
	case UART_IER:
		if (dlab)
			s->dlm = value;
		else
			write_ier(s, value);
		break;
	case UART_FCR:
		write_fcr(s, value);
		break;
	case UART_LCR:
		s->lcr = value;
		break;
	case UART_MCR:
		write_mcr(s, value);
		break;
	case UART_SCR:
		s->scr = value;
		break;
	default: /* LSR, MSR: for factory tests only */
		break;
	}
}

/* The guest's access may have made room; ask before the lock is gone. */
static bool wants_input(const struct serial *s, unsigned before)
{
	return s->input && before == 0 && input_space(s) > 0;
}

static void serial_read(void *dev, uint64_t off, void *buf, unsigned len)
{
	struct serial *s = dev;
	uint8_t *byte = buf;
	unsigned before;
	bool resume;

	pthread_mutex_lock(&s->lock);
	before = input_space(s);
	for (unsigned i = 0; i < len; i++) {
		unsigned reg = (unsigned)(off + i) & 7;

		byte[i] = read_register(s, reg);
		if (reg != UART_LSR && reg != UART_RX)
			s->polls = 0;
		keep_unseen(s);
	}
	update_line(s);
	resume = wants_input(s, before);
	pthread_mutex_unlock(&s->lock);
	if (resume)
		terminal_resume_input(s->terminal);
}

static void serial_write(void *dev, uint64_t off, const void *buf, unsigned len)
{
	struct serial *s = dev;
	const uint8_t *byte = buf;
	unsigned before;
	bool resume;

	pthread_mutex_lock(&s->lock);
	before = input_space(s);
	s->polls = 0;
	for (unsigned i = 0; i < len; i++) {
		write_register(s, (unsigned)(off + i) & 7, byte[i]);
		keep_unseen(s);
	}
	update_line(s);
	resume = wants_input(s, before);
	pthread_mutex_unlock(&s->lock);
	if (resume)
		terminal_resume_input(s->terminal);
}

const struct bus_ops serial_bus_ops = {
	.name = "serial",
	.read = serial_read,
	.write = serial_write,
};

/* ---- life ---- */

int serial_init(struct serial *s, int vm_fd, uint32_t gsi,
		struct terminal *terminal, bool input)
{
	*s = (struct serial){
		.irq.event_fd = -1,
		.terminal = terminal,
		.writer = {.owner = s, .room_fn = terminal_has_room},
		.input = input && terminal,
		.dll = 1, /* 115200 baud */
	};
	pthread_mutex_init(&s->lock, NULL);
	if (terminal)
		terminal_add_writer(terminal, &s->writer);
	if (s->input) {
		terminal->owner = s;
		terminal->input_room = input_room;
		terminal->input_fn = input_arrived;
		terminal->eof_fn = NULL;
		terminal->resize_fn = NULL;
	}
	return irq_init(&s->irq, vm_fd, gsi);
}

void serial_pause(struct serial *s)
{
	pthread_mutex_lock(&s->lock);
	s->paused = true;
	pthread_mutex_unlock(&s->lock);
}

/* The terminal may have told of room, or found none, meanwhile. */
void serial_resume(struct serial *s)
{
	pthread_mutex_lock(&s->lock);
	s->paused = false;
	pthread_mutex_unlock(&s->lock);
	if (!s->terminal)
		return;
	terminal_has_room(s);
	if (s->input)
		terminal_resume_input(s->terminal);
}

static void visit_fifo(struct serial_fifo *f, struct visitor *v,
		       const char *name)
{
	visit_part(v, name);
	VISIT(v, f, data);
	visit_count(v, "head", &f->head, SERIAL_FIFO - 1);
	visit_count(v, "count", &f->count, SERIAL_FIFO);
	visit_part_end(v);
}

void serial_visit(struct serial *s, struct visitor *v)
{
	pthread_mutex_lock(&s->lock);
	visit_part(v, "serial");
	VISIT(v, s, ier);
	VISIT(v, s, lcr);
	VISIT(v, s, mcr);
	VISIT(v, s, scr);
	VISIT(v, s, fcr);
	VISIT(v, s, dll);
	VISIT(v, s, dlm);
	VISIT(v, s, msr_changes);
	VISIT(v, s, thri);
	VISIT(v, s, line);
	VISIT(v, s, overrun);
	VISIT(v, s, polls);
	visit_fifo(&s->rx, v, "rx");
	VISIT(v, s, rx_seen);
	visit_fifo(&s->ahead, v, "ahead");
	visit_fifo(&s->tx, v, "tx");
	visit_part_end(v);
	if (visit_loads(v) && visit_goes_on(v) && s->line)
		irq_raise(&s->irq);
	pthread_mutex_unlock(&s->lock);
}

void serial_done(struct serial *s)
{
	if (s->terminal) {
		terminal_remove_writer(s->terminal, &s->writer);
		if (s->terminal->owner == s)
			s->terminal->owner = NULL;
	}
	irq_done(&s->irq);
}
