/* SPDX-License-Identifier: Apache-2.0 */
/* The 16550A, driven as Linux's 8250 driver and simpler ones do. */
#include "devices/platform/platform.h"

#include "tests/user.h"
#include "vmm/base/util.h"
#include "vmm/base/visit.h"

#include <linux/serial_reg.h>
#include <sys/ioctl.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void out(struct serial *s, unsigned reg, uint8_t value)
{
	serial_bus_ops.write(s, reg, &value, 1);
}

static uint8_t in(struct serial *s, unsigned reg)
{
	uint8_t value;

	serial_bus_ops.read(s, reg, &value, 1);
	return value;
}

static unsigned edges(struct serial *s)
{
	return (unsigned)loop_drain(s->irq.event_fd);
}

struct rig {
	struct user *u;
	struct serial s;
};

static struct rig *rig_new(struct user *u)
{
	struct rig *r = calloc(1, sizeof(*r));

	r->u = u;
	assert_int_equal(serial_init(&r->s, -1, 4, u ? &u->t : NULL, true), 0);
	return r;
}

static int setup(void **state)
{
	struct rig *r = rig_new(user_with_pipes());

	user_run(r->u);
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	struct rig *r = *state;

	if (r->u)
		user_stop_loop(r->u);
	serial_done(&r->s);
	if (r->u)
		user_free(r->u);
	free(r);
	return 0;
}

static int setup_alone(void **state)
{
	*state = rig_new(NULL);
	return 0;
}

/* ---- detection, as Linux's autoconfig() does it ---- */

static void test_registers(void **state)
{
	struct serial *s = &((struct rig *)*state)->s;

	out(s, UART_IER, 0xff);
	assert_int_equal(in(s, UART_IER), 0x0f);
	assert_int_equal(edges(s), 1); /* the transmitter is empty */
	out(s, UART_IER, 0);
	assert_int_equal(in(s, UART_IER), 0);
	out(s, UART_SCR, 0x5a);
	assert_int_equal(in(s, UART_SCR), 0x5a);
	out(s, UART_MCR, 0xff);
	assert_int_equal(in(s, UART_MCR), 0x1f);
	out(s, UART_MCR, 0);
	out(s, UART_LCR, UART_LCR_DLAB | UART_LCR_WLEN8);
	out(s, UART_DLL, 0x34);
	out(s, UART_DLM, 0x12);
	assert_int_equal(in(s, UART_DLL), 0x34);
	assert_int_equal(in(s, UART_DLM), 0x12);
	out(s, UART_LCR, UART_LCR_WLEN8);
	assert_int_equal(in(s, UART_LCR), UART_LCR_WLEN8);
	assert_int_equal(in(s, UART_IER), 0);
	assert_int_equal(in(s, UART_RX), 0);
	assert_int_equal(in(s, UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
	assert_int_equal(in(s, UART_MSR) & 0xf0,
			 UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS);
	/* Read-only ones. */
	out(s, UART_LSR, 0xff);
	out(s, UART_MSR, 0xff);
	assert_int_equal(in(s, UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
	assert_int_equal(edges(s), 0);
}

static void test_modem_loopback(void **state)
{
	struct serial *s = &((struct rig *)*state)->s;

	(void)in(s, UART_MSR);
	out(s, UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_RTS);
	assert_int_equal(in(s, UART_MSR) & 0xf0, UART_MSR_DCD | UART_MSR_CTS);
	out(s, UART_MCR, UART_MCR_LOOP | UART_MCR_OUT1 | UART_MCR_DTR);
	assert_int_equal(in(s, UART_MSR) & 0xf0, UART_MSR_RI | UART_MSR_DSR);
	/* The changes: the ring line counts when it ends. */
	out(s, UART_MCR, UART_MCR_LOOP | UART_MCR_DTR | UART_MCR_RTS);
	assert_int_equal(in(s, UART_MSR) & 0x0f, UART_MSR_TERI | UART_MSR_DCTS);
	assert_int_equal(in(s, UART_MSR) & 0x0f, 0);
}

static void test_is_a_16550a(void **state)
{
	struct serial *s = &((struct rig *)*state)->s;

	assert_int_equal(in(s, UART_IIR), UART_IIR_NO_INT);
	out(s, UART_FCR, UART_FCR_ENABLE_FIFO);
	assert_int_equal(in(s, UART_IIR) >> 6, 3);
	/* Not one with enhanced features behind the divisor latch ... */
	out(s, UART_LCR, UART_LCR_CONF_MODE_A);
	assert_int_not_equal(in(s, UART_EFR), 0);
	out(s, UART_LCR, UART_LCR_CONF_MODE_B);
	assert_int_not_equal(in(s, UART_EFR), 0);
	/* ... nor with a 64-byte FIFO (16750). */
	out(s, UART_LCR, 0);
	out(s, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR7_64BYTE);
	assert_int_equal(in(s, UART_IIR) >> 5, 6);
	out(s, UART_LCR, UART_LCR_CONF_MODE_A);
	out(s, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR7_64BYTE);
	assert_int_equal(in(s, UART_IIR) >> 5, 6);
	/* Without its first bit FCR's other ones do not count. */
	out(s, UART_FCR, UART_FCR_TRIGGER_14);
	assert_int_equal(in(s, UART_IIR) >> 6, 0);
}

/* size_fifo(): what comes back of 256 bytes in loopback. */
static void test_fifo_size(void **state)
{
	struct serial *s = &((struct rig *)*state)->s;
	unsigned n = 0;

	out(s, UART_FCR,
	    UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR | UART_FCR_CLEAR_XMIT);
	out(s, UART_MCR, UART_MCR_LOOP);
	for (unsigned i = 0; i < 256; i++)
		out(s, UART_TX, (uint8_t)i);
	assert_true(in(s, UART_LSR) & UART_LSR_OE);
	assert_false(in(s, UART_LSR) & UART_LSR_OE);
	while ((in(s, UART_LSR) & UART_LSR_DR) && n < 256)
		assert_int_equal(in(s, UART_RX), n++);
	assert_int_equal(n, 16);
	/* Without FIFO: one. */
	out(s, UART_FCR, 0);
	out(s, UART_TX, 'a');
	out(s, UART_TX, 'b');
	assert_int_equal(in(s, UART_RX), 'a');
	assert_false(in(s, UART_LSR) & UART_LSR_DR);
}

static void test_fifo_clear(void **state)
{
	struct serial *s = &((struct rig *)*state)->s;

	out(s, UART_FCR, UART_FCR_ENABLE_FIFO);
	out(s, UART_MCR, UART_MCR_LOOP);
	out(s, UART_TX, 'a');
	out(s, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR);
	assert_false(in(s, UART_LSR) & UART_LSR_DR);
}

/* ---- transmitting ---- */

static void test_output(void **state)
{
	struct rig *r = *state;

	out(&r->s, UART_TX, 'h');
	assert_true(in(&r->s, UART_LSR) & UART_LSR_THRE);
	out(&r->s, UART_TX, 'i');
	assert_true(user_sees(r->u, "hi"));
	/* Loopback keeps it inside. */
	out(&r->s, UART_MCR, UART_MCR_LOOP);
	out(&r->s, UART_TX, 'x');
	assert_true(user_sees_nothing(r->u));
}

/* serial8250_do_startup() looks for two bugs; neither is here. */
static void test_thri(void **state)
{
	struct serial *s = &((struct rig *)*state)->s;

	for (unsigned i = 0; i < 2; i++) {
		out(s, UART_IER, UART_IER_THRI);
		assert_int_equal(edges(s), 1);
		assert_int_equal(in(s, UART_IIR), UART_IIR_THRI);
		/* Reading it acknowledges it. */
		assert_int_equal(in(s, UART_IIR), UART_IIR_NO_INT);
		out(s, UART_IER, 0);
	}
	/* Each byte sent empties the transmitter again. */
	out(s, UART_IER, UART_IER_THRI);
	assert_int_equal(in(s, UART_IIR), UART_IIR_THRI);
	assert_int_equal(edges(s), 1);
	out(s, UART_TX, 'a');
	assert_int_equal(edges(s), 1);
	/* A burst is one edge: the line stays up. */
	for (unsigned i = 0; i < 15; i++)
		out(s, UART_TX, 'b');
	assert_int_equal(edges(s), 0);
	assert_int_equal(in(s, UART_IIR), UART_IIR_THRI);
	/* Enabled already: no new cause. */
	out(s, UART_IER, UART_IER_THRI);
	assert_int_equal(in(s, UART_IIR), UART_IIR_NO_INT);
	assert_int_equal(edges(s), 0);
}

/* Until the user's side is full. Bounded, as a guest must not fill us. */
static unsigned fill(struct serial *s)
{
	unsigned n = 0;

	while ((in(s, UART_LSR) & UART_LSR_THRE) && n < 1000000)
		out(s, UART_TX, (uint8_t)(n++ % 251));
	return n;
}

static void test_stuck_output(void **state)
{
	struct rig *r = *state;
	struct serial *s = &r->s;
	uint8_t *data;
	unsigned n;

	out(s, UART_FCR, UART_FCR_ENABLE_FIFO);
	n = fill(s);
	assert_in_range(n, 65536, 65536 + TERMINAL_PENDING_MAX + 1);
	assert_int_equal(in(s, UART_LSR) & UART_LSR_TEMT, 0);
	/* Room for a FIFO's worth, as the guest saw THRE before. */
	for (unsigned i = 0; i < 15; i++)
		out(s, UART_TX, (uint8_t)(n++ % 251));
	/* The UART drops further bytes, and nothing worse happens. */
	out(s, UART_TX, 'X');
	out(s, UART_TX, 'X');
	out(s, UART_IER, UART_IER_THRI);
	assert_int_equal(in(s, UART_IIR) & 0x0f, UART_IIR_NO_INT);
	assert_int_equal(edges(s), 0);

	data = malloc(n);
	assert_int_equal(user_reads(r->u, data, n), n);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(data[i], i % 251);
	free(data);
	assert_true(user_sees_nothing(r->u));
	assert_true(wait_until(edges(s) == 1));
	assert_int_equal(in(s, UART_IIR) & 0x0f, UART_IIR_THRI);
	assert_true(in(s, UART_LSR) & UART_LSR_TEMT);
}

/* The guest may throw away what it cannot send. */
static void test_stuck_output_cleared(void **state)
{
	struct serial *s = &((struct rig *)*state)->s;

	out(s, UART_FCR, UART_FCR_ENABLE_FIFO);
	fill(s);
	out(s, UART_IER, UART_IER_THRI);
	out(s, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_XMIT);
	assert_true(in(s, UART_LSR) & UART_LSR_THRE);
	assert_int_equal(edges(s), 1);
}

static void test_without_terminal(void **state)
{
	struct serial *s = &((struct rig *)*state)->s;

	for (unsigned i = 0; i < 1000; i++)
		out(s, UART_TX, 'x');
	assert_true(in(s, UART_LSR) & UART_LSR_THRE);
	out(s, UART_IER, UART_IER_RDI);
	for (unsigned i = 0; i < 100; i++)
		assert_false(in(s, UART_LSR) & UART_LSR_DR);
}

/* ---- receiving ---- */

static bool data_ready(struct serial *s)
{
	return in(s, UART_LSR) & UART_LSR_DR;
}

static void test_input(void **state)
{
	struct rig *r = *state;
	struct serial *s = &r->s;

	out(s, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_8);
	out(s, UART_IER, UART_IER_RDI);
	user_types(r->u, "abc", 3);
	assert_true(wait_until(edges(s) == 1));
	/* Below the trigger level: the time-out. */
	assert_int_equal(in(s, UART_IIR) & 0x0f, UART_IIR_RX_TIMEOUT);
	assert_int_equal(in(s, UART_RX), 'a');
	assert_int_equal(in(s, UART_RX), 'b');
	assert_int_equal(in(s, UART_IIR) & 0x0f, UART_IIR_RX_TIMEOUT);
	assert_int_equal(in(s, UART_RX), 'c');
	assert_int_equal(in(s, UART_IIR) & 0x0f, UART_IIR_NO_INT);
	user_types(r->u, "0123456789", 10);
	assert_true(wait_until(edges(s) == 1));
	assert_int_equal(in(s, UART_IIR) & 0x0f, UART_IIR_RDI);
}

/* More than the FIFO holds waits outside; nothing overruns. */
/* The terminal's input and its room reach the guest when it goes on. */
static void test_pause(void **state)
{
	struct rig *r = *state;
	struct serial *s = &r->s;

	out(s, UART_FCR, UART_FCR_ENABLE_FIFO);
	out(s, UART_IER, UART_IER_RDI);
	edges(s);
	serial_pause(s);
	user_types(r->u, "abc", 3);
	patience_sleep_ms(QUIET_MS);
	assert_int_equal(edges(s), 0);
	assert_int_equal(s->rx.count, 0);
	serial_resume(s);
	assert_true(wait_until(in(s, UART_LSR) & UART_LSR_DR));
	for (unsigned i = 0; i < 3; i++) {
		assert_true(wait_until(in(s, UART_LSR) & UART_LSR_DR));
		assert_int_equal(in(s, UART_RX), "abc"[i]);
	}
	/* Full outside: the last characters stay in the FIFO. */
	while (in(s, UART_LSR) & UART_LSR_THRE)
		out(s, UART_TX, 'x');
	serial_pause(s);
	while (!user_sees_nothing(r->u)) {
		char buf[4096];

		assert_true(read(r->u->watches, buf, sizeof(buf)) > 0);
	}
	assert_true(s->tx.count > 0);
	serial_resume(s);
	assert_true(user_sees(r->u, "x"));
	assert_true(in(s, UART_LSR) & UART_LSR_THRE);
}

static void test_much_input(void **state)
{
	struct rig *r = *state;
	struct serial *s = &r->s;
	char text[1000], seen[1000];

	for (unsigned i = 0; i < sizeof(text); i++)
		text[i] = (char)('a' + i % 26);
	out(s, UART_FCR, UART_FCR_ENABLE_FIFO);
	out(s, UART_IER, UART_IER_RDI | UART_IER_RLSI);
	user_types(r->u, text, sizeof(text));
	for (unsigned i = 0; i < sizeof(text); i++) {
		assert_true(wait_until(data_ready(s)));
		seen[i] = (char)in(s, UART_RX);
	}
	assert_memory_equal(seen, text, sizeof(text));
	assert_int_equal(in(s, UART_LSR) & UART_LSR_OE, 0);
}

static int unread(struct rig *r)
{
	int n = -1;

	assert_int_equal(ioctl(r->u->in_fd, FIONREAD, &n), 0);
	return n;
}

/*
 * Typed before the driver is there: detection, console output and start-up do
 * not lose it.
 */
static void test_typed_ahead(void **state)
{
	struct rig *r = *state;
	struct serial *s = &r->s;

	user_types(r->u, "early", 5);
	for (unsigned i = 0; i < 100; i++) {
		(void)in(s, UART_LSR);
		out(s, UART_TX, '.');
	}
	out(s, UART_MCR, UART_MCR_LOOP);
	(void)in(s, UART_MSR);
	out(s, UART_MCR, UART_MCR_OUT2);
	out(s, UART_FCR, UART_FCR_ENABLE_FIFO);
	out(s, UART_FCR,
	    UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR | UART_FCR_CLEAR_XMIT);
	out(s, UART_FCR, 0);
	(void)in(s, UART_LSR);
	(void)in(s, UART_RX);
	patience_sleep_ms(20);
	assert_int_equal(unread(r), 5);
	out(s, UART_IER, UART_IER_RDI | UART_IER_RLSI);
	patience_sleep_ms(20);
	out(s, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_8);
	for (unsigned i = 0; i < 5; i++) {
		assert_true(wait_until(data_ready(s)));
		assert_int_equal(in(s, UART_RX), "early"[i]);
	}
}

/*
 * Typed while Linux's autoconfig() tries IER, which looks like a guest that
 * listens, before startup() empties the FIFO.
 */
static void test_typed_while_probed(void **state)
{
	struct rig *r = *state;
	struct serial *s = &r->s;

	user_types(r->u, "early", 5);
	out(s, UART_IER, 0);
	out(s, UART_IER, 0x0f);
	assert_true(wait_until(unread(r) < 5));
	patience_sleep_ms(20);
	assert_int_equal(in(s, UART_IER), 0x0f);
	out(s, UART_IER, 0);
	assert_int_equal(in(s, UART_IIR) & 0x0f, UART_IIR_NO_INT);
	out(s, UART_FCR, UART_FCR_ENABLE_FIFO);
	/* The FIFO's size, found in loopback, is not the input's business. */
	out(s, UART_MCR, UART_MCR_LOOP);
	assert_false(data_ready(s));
	out(s, UART_TX, 'x');
	assert_true(data_ready(s));
	assert_int_equal(in(s, UART_RX), 'x');
	out(s, UART_TX, 'y');
	out(s, UART_MCR, UART_MCR_OUT2);
	out(s, UART_FCR,
	    UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR | UART_FCR_CLEAR_XMIT);
	out(s, UART_FCR, 0);
	assert_false(data_ready(s));
	assert_int_equal(in(s, UART_RX), 0);
	(void)edges(s);
	out(s, UART_IER, UART_IER_RDI | UART_IER_RLSI);
	assert_int_equal(edges(s), 1);
	out(s, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_8);
	for (unsigned i = 0; i < 5; i++) {
		assert_true(wait_until(data_ready(s)));
		assert_int_equal(in(s, UART_RX), "early"[i]);
	}
}

/* The guest may throw away the bytes that it knows of. */
static void test_seen_input(void **state)
{
	struct rig *r = *state;
	struct serial *s = &r->s;

	out(s, UART_FCR, UART_FCR_ENABLE_FIFO);
	out(s, UART_IER, UART_IER_RDI);
	user_types(r->u, "old", 3);
	assert_true(wait_until(data_ready(s)));
	out(s, UART_IER, 0);
	assert_int_equal(in(s, UART_RX), 'o');
	out(s, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR);
	assert_false(data_ready(s));
	out(s, UART_IER, UART_IER_RDI);
	user_types(r->u, "new", 3);
	assert_true(wait_until(data_ready(s)));
	assert_int_equal(in(s, UART_RX), 'n');
}

/* A guest without interrupts gets its input too. */
static void test_polled_input(void **state)
{
	struct rig *r = *state;

	user_types(r->u, "ok", 2);
	assert_true(wait_until(data_ready(&r->s)));
	assert_int_equal(in(&r->s, UART_RX), 'o');
	assert_true(wait_until(data_ready(&r->s)));
	assert_int_equal(in(&r->s, UART_RX), 'k');
	assert_int_equal(edges(&r->s), 0);
}

/* 16-bit accesses are two of 8 bits, as on the ISA bus. */
static void test_wide_access(void **state)
{
	struct serial *s = &((struct rig *)*state)->s;
	uint8_t both[2] = {UART_LCR_DLAB, 0};
	uint8_t four[4];

	serial_bus_ops.write(s, UART_LCR, both, 2);
	both[0] = 0x12;
	both[1] = 0x34;
	serial_bus_ops.write(s, UART_DLL, both, 2);
	assert_int_equal(in(s, UART_DLL), 0x12);
	assert_int_equal(in(s, UART_DLM), 0x34);
	serial_bus_ops.read(s, UART_DLL, four, 4);
	assert_int_equal(four[0], 0x12);
	assert_int_equal(four[3], UART_LCR_DLAB);
}

/* Two vCPUs and the user at once: for ThreadSanitizer. */
/* Bytes in its FIFO; another thread puts them there. */
static unsigned received(struct serial *s)
{
	unsigned count;

	pthread_mutex_lock(&s->lock);
	count = s->rx.count;
	pthread_mutex_unlock(&s->lock);
	return count;
}

/* Another port that goes on where S stood, without a terminal. */
static struct rig *moved(struct serial *s)
{
	struct rig *r = rig_new(NULL);
	struct visitor save, load;

	serial_pause(s);
	visit_save(&save);
	serial_visit(s, &save);
	assert_int_equal(visit_end(&save), 0);
	serial_pause(&r->s);
	visit_load(&load, save.saved, save.bytes);
	serial_visit(&r->s, &load);
	assert_int_equal(visit_end(&load), 0);
	visit_done(&load);
	visit_done(&save);
	serial_resume(&r->s);
	return r;
}

/* Registers, what was received and not read, and the interrupt that is due. */
static void test_moved(void **state)
{
	struct rig *r = *state, *to;
	struct serial *s = &r->s;

	out(s, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_8);
	out(s, UART_LCR, UART_LCR_DLAB);
	out(s, UART_DLL, 0x34);
	out(s, UART_DLM, 0x12);
	out(s, UART_LCR, UART_LCR_WLEN8);
	out(s, UART_SCR, 0x5a);
	out(s, UART_IER, UART_IER_RDI | UART_IER_THRI);
	user_types(r->u, "abc", 3);
	assert_true(wait_until(received(s) == 3));
	to = moved(s);
	s = &to->s;
	assert_int_equal(edges(s), 1);
	assert_int_equal(in(s, UART_SCR), 0x5a);
	assert_int_equal(in(s, UART_IER), UART_IER_RDI | UART_IER_THRI);
	out(s, UART_LCR, UART_LCR_DLAB);
	assert_int_equal(in(s, UART_DLL), 0x34);
	assert_int_equal(in(s, UART_DLM), 0x12);
	out(s, UART_LCR, UART_LCR_WLEN8);
	assert_int_equal(in(s, UART_IIR) & 0x0f, UART_IIR_RX_TIMEOUT);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(in(s, UART_RX), "abc"[i]);
	assert_int_equal(in(s, UART_IIR) & 0x0f, UART_IIR_THRI);
	assert_int_equal(in(s, UART_IIR) & 0x0f, UART_IIR_NO_INT);
	serial_done(&to->s);
	free(to);
	serial_resume(&r->s);
}

/* Output that the terminal had not taken goes to the next one's. */
static void test_moved_output(void **state)
{
	struct rig *r = *state, *to;

	r->s.tx = (struct serial_fifo){.data = "xyz", .count = 3};
	to = moved(&r->s);
	assert_int_equal(to->s.tx.count, 3);
	assert_memory_equal(to->s.tx.data, "xyz", 3);
	assert_int_equal(in(&to->s, UART_LSR) & UART_LSR_THRE, 0);
	serial_done(&to->s);
	free(to);
}

/* Each byte of a saved state changed: refused, or within the FIFOs. */
static void test_damaged(void **state)
{
	struct rig *r = *state;
	struct visitor save;

	visit_save(&save);
	serial_visit(&r->s, &save);
	for (size_t i = 0; i < save.bytes; i++) {
		struct visitor load;

		save.saved[i] ^= 0xff;
		visit_load(&load, save.saved, save.bytes);
		serial_visit(&r->s, &load);
		visit_done(&load);
		save.saved[i] ^= 0xff;
		assert_true(r->s.rx.count <= SERIAL_FIFO);
		assert_true(r->s.tx.head < SERIAL_FIFO);
		(void)in(&r->s, UART_RX);
	}
	visit_done(&save);
}

static void *hammer(void *arg)
{
	struct rig *r = arg;

	for (unsigned i = 0; i < 20000; i++) {
		out(&r->s, i % 4 ? UART_TX : UART_IER, (uint8_t)i);
		(void)in(&r->s, i % 8);
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct rig *r = *state;
	pthread_t thread[2];
	struct pollfd pfd = {.fd = r->u->watches, .events = POLLIN};
	uint8_t buf[4096];

	for (unsigned i = 0; i < 2; i++)
		pthread_create(&thread[i], NULL, hammer, r);
	for (unsigned i = 0; i < 100; i++)
		user_types(r->u, "type", 4);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	while (poll(&pfd, 1, QUIET_MS) == 1 &&
	       read(pfd.fd, buf, sizeof(buf)) > 0)
		;
	out(&r->s, UART_MCR, 0);
	assert_true(wait_until(in(&r->s, UART_LSR) & UART_LSR_THRE));
}

#define WITH_USER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
#define ALONE(test)     cmocka_unit_test_setup_teardown(test, setup_alone, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ALONE(test_registers),
		ALONE(test_modem_loopback),
		ALONE(test_is_a_16550a),
		ALONE(test_fifo_size),
		ALONE(test_fifo_clear),
		WITH_USER(test_output),
		ALONE(test_thri),
		WITH_USER(test_stuck_output),
		WITH_USER(test_stuck_output_cleared),
		ALONE(test_without_terminal),
		WITH_USER(test_input),
		WITH_USER(test_pause),
		WITH_USER(test_much_input),
		WITH_USER(test_typed_ahead),
		WITH_USER(test_typed_while_probed),
		WITH_USER(test_seen_input),
		WITH_USER(test_polled_input),
		ALONE(test_wide_access),
		WITH_USER(test_threads),
		WITH_USER(test_moved),
		ALONE(test_moved_output),
		ALONE(test_damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
