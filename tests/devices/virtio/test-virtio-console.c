/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio console between a fake driver and a fake user. */
#include "tests/user.h"
#include "tests/vdriver.h"

#include "vmm/base/util.h"

#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

extern const struct virtio_ops virtio_console;

#define ALL  UINT64_MAX
#define RX   0
#define TX   1
#define SIZE (UINT64_C(1) << VIRTIO_CONSOLE_F_SIZE)

struct rig {
	struct user *u;
	struct vdriver *v;
};

static struct rig *rig_new(struct user *u)
{
	struct rig *r = calloc(1, sizeof(*r));

	r->u = u;
	r->v = vdriver_new_on(&virtio_console, NULL, &u->loop, &u->t);
	assert_non_null(r->v);
	user_run(u);
	return r;
}

static int setup(void **state)
{
	*state = rig_new(user_with_pipes());
	return 0;
}

static int setup_pty(void **state)
{
	*state = rig_new(user_with_pty());
	return 0;
}

static int teardown(void **state)
{
	struct rig *r = *state;

	user_stop_loop(r->u);
	vdriver_free(r->v);
	user_free(r->u);
	free(r);
	return 0;
}

/* ---- output ---- */

static int64_t guest_says(struct vdriver *v, const void *data, size_t bytes)
{
	struct iovec out = vdriver_buf(v, data, bytes);

	return vdriver_request(v, TX, &out, 1, NULL, 0);
}

static void test_identity(void **state)
{
	struct rig *r = *state;

	assert_int_equal(vdriver_read32(r->v, VIRTIO_MMIO_DEVICE_ID),
			 VIRTIO_ID_CONSOLE);
	/* A pipe has no size. */
	assert_int_equal(vdriver_offered(r->v) & SIZE, 0);
}

static void test_output(void **state)
{
	struct rig *r = *state;

	assert_true(vdriver_up(r->v, ALL));
	assert_int_equal(guest_says(r->v, "hello\r\n", 7), 0);
	assert_true(user_sees(r->u, "hello\r\n"));
	assert_true(vdriver_up(r->v, 0));
	assert_int_equal(guest_says(r->v, "again", 5), 0);
	assert_true(user_sees(r->u, "again"));
}

/* No device assumes how a driver splits its buffers (2.6.4). */
static void test_scattered_output(void **state)
{
	struct rig *r = *state;
	struct iovec out[4], in;

	assert_true(vdriver_up(r->v, ALL));
	out[0] = vdriver_buf(r->v, "a", 1);
	out[1] = vdriver_buf(r->v, "", 0);
	out[2] = vdriver_buf(r->v, "bcd", 3);
	out[3] = vdriver_buf(r->v, "e", 1);
	assert_int_equal(vdriver_request(r->v, TX, out, 4, NULL, 0), 0);
	assert_true(user_sees(r->u, "abcde"));
	assert_int_equal(vdriver_add_indirect(r->v, TX, out, 4, NULL, 0) >= 0,
			 true);
	vdriver_kick(r->v, TX);
	assert_true(user_sees(r->u, "abcde"));
	assert_true(vdriver_wait_used(r->v, TX, NULL, PATIENCE_MS) >= 0);
	/* A buffer to write into, on the wrong queue, is given back as is. */
	in = vdriver_buf(r->v, "keep", 4);
	assert_int_equal(vdriver_request(r->v, TX, out, 1, &in, 1), 0);
	assert_memory_equal(in.iov_base, "keep", 4);
	assert_true(user_sees(r->u, "a"));
	/* Nothing at all. */
	assert_int_equal(vdriver_request(r->v, TX, &out[1], 1, NULL, 0), 0);
	assert_true(user_sees_nothing(r->u));
}

static void fill_pattern(uint8_t *data, size_t bytes, size_t from)
{
	for (size_t i = 0; i < bytes; i++)
		data[i] = (uint8_t)((from + i) % 251);
}

static void check_seen(struct rig *r, size_t bytes, size_t from)
{
	autofree uint8_t *data = malloc(bytes), *want = malloc(bytes);

	fill_pattern(want, bytes, from);
	assert_int_equal(user_reads(r->u, data, bytes), bytes);
	assert_memory_equal(data, want, bytes);
}

/*
 * The user does not read: the guest's buffers stay in the queue, and no output
 * is lost.
 */
static void test_stuck_output(void **state)
{
	const size_t each = 50000, bytes = 20 * each;
	struct rig *r = *state;
	unsigned used = 0;

	assert_true(vdriver_up(r->v, ALL));
	for (unsigned i = 0; i < 20; i++) {
		struct iovec out = vdriver_buf(r->v, NULL, each);

		fill_pattern(out.iov_base, each, i * each);
		assert_true(vdriver_add(r->v, TX, &out, 1, NULL, 0) >= 0);
		vdriver_kick(r->v, TX);
	}
	assert_true(vdriver_wait_used(r->v, TX, NULL, PATIENCE_MS) >= 0);
	used++;
	patience_sleep_ms(QUIET_MS);
	while (vdriver_get_used(r->v, TX, NULL) >= 0)
		used++;
	assert_in_range(used, 1, 1 + (65536 + TERMINAL_PENDING_MAX) / each);
	check_seen(r, bytes, 0);
	for (; used < 20; used++)
		assert_true(vdriver_wait_used(r->v, TX, NULL, PATIENCE_MS) >=
			    0);
	assert_int_equal(guest_says(r->v, "end", 3), 0);
	assert_true(user_sees(r->u, "end"));
}

/* More than one turn's work in one chain, and in many. */
static void test_much_output(void **state)
{
	struct rig *r = *state;
	struct iovec big, small;
	unsigned used = 0, added = 0;

	assert_true(vdriver_up(r->v, ALL));
	big = vdriver_buf(r->v, NULL, 4 * MIB);
	small = vdriver_buf(r->v, "s", 1);
	fill_pattern(big.iov_base, big.iov_len, 0);
	assert_true(vdriver_add(r->v, TX, &big, 1, NULL, 0) >= 0);
	vdriver_kick(r->v, TX);
	check_seen(r, big.iov_len, 0);
	assert_true(vdriver_wait_used(r->v, TX, NULL, PATIENCE_MS) >= 0);
	while (added < 5000) {
		while (added < 5000 &&
		       vdriver_add(r->v, TX, &small, 1, NULL, 0) >= 0)
			added++;
		vdriver_kick(r->v, TX);
		assert_true(vdriver_wait_used(r->v, TX, NULL, PATIENCE_MS) >=
			    0);
		used++;
	}
	for (; used < added; used++)
		assert_true(vdriver_wait_used(r->v, TX, NULL, PATIENCE_MS) >=
			    0);
	for (unsigned i = 0; i < added; i++)
		assert_true(user_sees(r->u, "s"));
}

/*
 * A chain that the terminal has taken half of goes back to the queue; the rest
 * of it is sent later, and nothing twice. Input waits for the guest.
 */
static void test_pause(void **state)
{
	const size_t bytes = MIB;
	struct rig *r = *state;
	struct iovec out, in;

	assert_true(vdriver_up(r->v, ALL));
	out = vdriver_buf(r->v, NULL, bytes);
	fill_pattern(out.iov_base, bytes, 0);
	assert_true(vdriver_add(r->v, TX, &out, 1, NULL, 0) >= 0);
	vdriver_kick(r->v, TX);
	assert_true(wait_until(vdriver_held(r->v, TX) == 1));
	for (size_t done = 0; done < bytes; done += bytes / 8) {
		vdriver_pause(r->v);
		/*
		 * The terminal has room again, which a paused device does not
		 * use.
		 */
		check_seen(r, 4096, done);
		assert_int_equal(vdriver_held(r->v, TX), 0);
		virtio_resume(r->v->dev);
		check_seen(r, bytes / 8 - 4096, done + 4096);
	}
	assert_true(vdriver_wait_used(r->v, TX, NULL, PATIENCE_MS) >= 0);
	vdriver_pause(r->v);
	in = vdriver_buf(r->v, NULL, 8);
	assert_true(vdriver_add(r->v, RX, NULL, 0, &in, 1) >= 0);
	user_types(r->u, "abc", 3);
	assert_int_equal(vdriver_wait_used(r->v, RX, NULL, QUIET_MS), -1);
	virtio_resume(r->v->dev);
	assert_true(vdriver_wait_used(r->v, RX, NULL, PATIENCE_MS) >= 0);
	assert_memory_equal(in.iov_base, "abc", 3);
}

/* The device rests after a reset, and starts again from nothing. */
static void test_reset_while_sending(void **state)
{
	struct rig *r = *state;
	struct iovec out;
	uint8_t buf[4096];

	assert_true(vdriver_up(r->v, ALL));
	out = vdriver_buf(r->v, NULL, MIB);
	memset(out.iov_base, 'x', MIB);
	assert_true(vdriver_add(r->v, TX, &out, 1, NULL, 0) >= 0);
	vdriver_kick(r->v, TX);
	patience_sleep_ms(20);
	assert_true(vdriver_up(r->v, ALL));
	while (!user_sees_nothing(r->u)) {
		ssize_t n = read(r->u->watches, buf, sizeof(buf));

		assert_true(n > 0 && buf[n - 1] == 'x');
	}
	assert_int_equal(guest_says(r->v, "fresh", 5), 0);
	assert_true(user_sees(r->u, "fresh"));
}

/* The reader is gone: the guest does not notice. */
static void test_reader_gone(void **state)
{
	struct rig *r = *state;

	assert_true(vdriver_up(r->v, ALL));
	util_close(&r->u->watches);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(guest_says(r->v, "lost", 4), 0);
}

/* ---- input ---- */

static int unread(struct rig *r)
{
	int n = -1;

	assert_int_equal(ioctl(r->u->in_fd, FIONREAD, &n), 0);
	return n;
}

/* The driver is up and has said something: now it gets input. */
static void settled_with(struct rig *r, uint64_t features)
{
	assert_true(vdriver_up(r->v, features));
	assert_int_equal(guest_says(r->v, "$", 1), 0);
	assert_true(user_sees(r->u, "$"));
}

static void up_and_settled(struct rig *r)
{
	settled_with(r, ALL);
}

/* Input from before the driver, and from before it gives a buffer, waits. */
static void test_early_input(void **state)
{
	struct rig *r = *state;
	struct iovec in;
	uint32_t written;

	user_types(r->u, "early", 5);
	patience_sleep_ms(20);
	assert_int_equal(unread(r), 5);
	up_and_settled(r);
	patience_sleep_ms(20);
	assert_int_equal(unread(r), 5);
	in = vdriver_buf(r->v, NULL, 100);
	assert_true(vdriver_add(r->v, RX, NULL, 0, &in, 1) >= 0);
	vdriver_kick(r->v, RX);
	assert_true(vdriver_wait_used(r->v, RX, &written, PATIENCE_MS) >= 0);
	assert_int_equal(written, 5);
	assert_memory_equal(in.iov_base, "early", 5);
}

static void test_input(void **state)
{
	struct rig *r = *state;
	struct iovec in[3];
	uint32_t written;

	up_and_settled(r);
	for (unsigned i = 0; i < 3; i++)
		in[i] = vdriver_buf(r->v, NULL, 2);
	/* A chain of two buffers, then one of one. */
	assert_true(vdriver_add(r->v, RX, NULL, 0, in, 2) >= 0);
	assert_true(vdriver_add(r->v, RX, NULL, 0, &in[2], 1) >= 0);
	vdriver_kick(r->v, RX);
	vdriver_interrupts(r->v);
	user_types(r->u, "abcdefgh", 8);
	assert_true(vdriver_wait_used(r->v, RX, &written, PATIENCE_MS) >= 0);
	assert_int_equal(written, 4);
	assert_true(vdriver_wait_used(r->v, RX, &written, PATIENCE_MS) >= 0);
	assert_int_equal(written, 2);
	assert_memory_equal(in[0].iov_base, "ab", 2);
	assert_memory_equal(in[1].iov_base, "cd", 2);
	assert_memory_equal(in[2].iov_base, "ef", 2);
	assert_true(wait_until(vdriver_interrupts(r->v) > 0));
	/* The rest waits for buffers. */
	patience_sleep_ms(20);
	assert_int_equal(unread(r), 2);
	assert_true(vdriver_add(r->v, RX, NULL, 0, &in[2], 1) >= 0);
	vdriver_kick(r->v, RX);
	assert_true(vdriver_wait_used(r->v, RX, &written, PATIENCE_MS) >= 0);
	assert_memory_equal(in[2].iov_base, "gh", 2);
}

/* Input from before the buffers is given in one turn: one kick, one interrupt.
 */
static void test_input_at_once(void **state)
{
	struct rig *r = *state;
	struct iovec in;

	up_and_settled(r);
	user_types(r->u, "abcdefgh", 8);
	assert_true(wait_until(unread(r) == 0));
	in = vdriver_buf(r->v, NULL, 2);
	for (unsigned i = 0; i < 4; i++)
		assert_true(vdriver_add(r->v, RX, NULL, 0, &in, 1) >= 0);
	(void)vdriver_interrupts(r->v);
	vdriver_want_interrupt(r->v, RX, 0);
	assert_true(vdriver_kick(r->v, RX));
	for (unsigned i = 0; i < 4; i++)
		assert_true(vdriver_wait_used(r->v, RX, NULL, PATIENCE_MS) >=
			    0);
	assert_memory_equal(in.iov_base, "gh", 2);
	/* This takes the lock, so the turn is over. */
	assert_int_equal(vdriver_held(r->v, RX), 0);
	assert_int_equal(vdriver_interrupts(r->v), 1);
}

/*
 * A driver need not kick for buffers that it adds while the device has others,
 * and has to once input waits for one: also without EVENT_IDX, by the flag.
 */
static void test_input_kicks(void **state)
{
	struct rig *r = *state;
	struct iovec in;

	assert_true(vdriver_up(r->v, 0));
	in = vdriver_buf(r->v, NULL, 2);
	for (unsigned i = 0; i < 4; i++)
		assert_true(vdriver_add(r->v, RX, NULL, 0, &in, 1) >= 0);
	vdriver_kick(r->v, RX);
	for (unsigned i = 0; i < 3; i++) {
		user_types(r->u, "ab", 2);
		assert_true(vdriver_wait_used(r->v, RX, NULL, PATIENCE_MS) >=
			    0);
		assert_false(vdriver_kick_wanted(r->v, RX));
		assert_true(vdriver_add(r->v, RX, NULL, 0, &in, 1) >= 0);
		assert_false(vdriver_kick(r->v, RX));
	}
	user_types(r->u, "12345678ab", 10);
	for (unsigned i = 0; i < 4; i++)
		assert_true(vdriver_wait_used(r->v, RX, NULL, PATIENCE_MS) >=
			    0);
	assert_true(wait_until(vdriver_kick_wanted(r->v, RX)));
	assert_true(vdriver_add(r->v, RX, NULL, 0, &in, 1) >= 0);
	assert_true(vdriver_kick(r->v, RX));
	assert_true(vdriver_wait_used(r->v, RX, NULL, PATIENCE_MS) >= 0);
	assert_memory_equal(in.iov_base, "ab", 2);
}

/*
 * Linux gives its buffers before it can take input, and loses what comes too
 * early: nothing does.
 */
static void test_driver_not_ready(void **state)
{
	struct rig *r = *state;
	struct iovec in;
	const uint64_t start = util_now_ns();
	int used;

	user_types(r->u, "early", 5);
	assert_true(vdriver_up(r->v, ALL));
	in = vdriver_buf(r->v, NULL, 100);
	assert_true(vdriver_add(r->v, RX, NULL, 0, &in, 1) >= 0);
	vdriver_kick(r->v, RX);
	patience_sleep_ms(100);
	used = vdriver_get_used(r->v, RX, NULL);
	/* After a second of silence it gets it all the same. */
	if (patience_ms_since(start) < 900)
		assert_int_equal(used, -1);
	assert_int_equal(guest_says(r->v, "$", 1), 0);
	assert_true(used >= 0 ||
		    vdriver_wait_used(r->v, RX, NULL, PATIENCE_MS) >= 0);
	assert_memory_equal(in.iov_base, "early", 5);
}

/*
 * The host has no time for the loop's thread, and meanwhile the guest writes:
 * that is no silence, however late the thread comes to see it.
 */
struct stall {
	struct loop_source source;
	struct rig *r;
	struct iovec in;
	unsigned rounds; /* of the loop */
	unsigned early;  /* how often input came in them */
	bool over;       /* atomic */
};

static void stall_loop(struct loop_source *source, uint32_t events)
{
	struct stall *s = container_of(source, struct stall, source);
	struct vdriver *v = s->r->v;
	const struct iovec out = vdriver_buf(v, "x", 1);

	(void)events;
	if (s->rounds == 0) {
		vdriver_up(v, ALL);
		s->in = vdriver_buf(v, NULL, 100);
		(void)vdriver_add(v, RX, NULL, 0, &s->in, 1);
		(void)vdriver_kick(v, RX);
	}
	s->early += vdriver_get_used(v, RX, NULL) >= 0;
	if (s->rounds++ == 5) {
		loop_drain(source->fd);
		__atomic_store_n(&s->over, true, __ATOMIC_RELEASE);
		return;
	}
	patience_sleep_ms(80);
	(void)vdriver_get_used(v, TX, NULL);
	(void)vdriver_add(v, TX, &out, 1, NULL, 0);
	(void)vdriver_kick(v, TX);
}

static void test_output_unseen(void **state)
{
	struct rig *r = *state;
	struct stall s = {
		.source = {.fd = loop_eventfd(), .fn = stall_loop},
		.r = r,
	};

	user_types(r->u, "early", 5);
	assert_int_equal(loop_add(&r->u->loop, &s.source, EPOLLIN), 0);
	loop_signal(s.source.fd);
	assert_true(wait_until(__atomic_load_n(&s.over, __ATOMIC_ACQUIRE)));
	loop_del(&r->u->loop, &s.source);
	close(s.source.fd);
	assert_int_equal(s.early, 0);
	assert_true(vdriver_wait_used(r->v, RX, NULL, PATIENCE_MS) >= 0);
	assert_memory_equal(s.in.iov_base, "early", 5);
}

/* The end of the input is no end of anything else. */
static void test_end_of_input(void **state)
{
	struct rig *r = *state;
	struct iovec in;

	assert_true(vdriver_up(r->v, ALL));
	in = vdriver_buf(r->v, NULL, 10);
	assert_true(vdriver_add(r->v, RX, NULL, 0, &in, 1) >= 0);
	vdriver_kick(r->v, RX);
	util_close(&r->u->types);
	patience_sleep_ms(20);
	assert_int_equal(vdriver_get_used(r->v, RX, NULL), -1);
	assert_int_equal(guest_says(r->v, "still here", 10), 0);
	assert_true(user_sees(r->u, "still here"));
	assert_int_equal(stop_reason(&r->u->stop, NULL), STOP_NONE);
}

/* Input read ahead for the escape key's sake survives a reset. */
static void test_typed_across_a_reset(void **state)
{
	struct rig *r = *state;
	struct iovec in;
	uint32_t written;

	up_and_settled(r);
	user_types(r->u, "typed", 5);
	patience_sleep_ms(20);
	up_and_settled(r);
	in = vdriver_buf(r->v, NULL, 10);
	assert_true(vdriver_add(r->v, RX, NULL, 0, &in, 1) >= 0);
	vdriver_kick(r->v, RX);
	assert_true(vdriver_wait_used(r->v, RX, &written, PATIENCE_MS) >= 0);
	assert_int_equal(written, 5);
	assert_memory_equal(in.iov_base, "typed", 5);
}

static void check_much_input(struct rig *r, uint64_t features)
{
	const size_t bytes = 200000;
	autofree uint8_t *data = malloc(bytes);
	size_t typed = 0, got = 0;
	struct iovec in;
	int flags = fcntl(r->u->types, F_GETFL);

	settled_with(r, features);
	fcntl(r->u->types, F_SETFL, flags | O_NONBLOCK);
	fill_pattern(data, bytes, 0);
	in = vdriver_buf(r->v, NULL, 777);
	while (got < bytes) {
		ssize_t n = write(r->u->types, data + typed, bytes - typed);
		uint32_t written;

		typed += n > 0 ? (size_t)n : 0;
		assert_true(vdriver_add(r->v, RX, NULL, 0, &in, 1) >= 0);
		vdriver_kick(r->v, RX);
		assert_true(vdriver_wait_used(r->v, RX, &written,
					      PATIENCE_MS) >= 0);
		assert_in_range(written, 1, 777);
		assert_memory_equal(in.iov_base, data + got, written);
		got += written;
	}
}

/* Each buffer is the only one, so that each turn ends with none. */
static void test_much_input(void **state)
{
	check_much_input(*state, ALL);
}

static void test_much_input_by_flag(void **state)
{
	check_much_input(*state, 0);
}

/* ---- configuration ---- */

static void read_size(struct vdriver *v, unsigned *columns, unsigned *rows)
{
	struct virtio_console_config config;

	vdriver_config_read(v, 0, &config, sizeof(config));
	*columns = le16toh(config.cols);
	*rows = le16toh(config.rows);
}

static void test_size(void **state)
{
	const struct winsize size = {.ws_col = 80, .ws_row = 24};
	struct rig *r = *state;
	unsigned columns, rows;

	assert_true(vdriver_offered(r->v) & SIZE);
	assert_true(vdriver_up(r->v, ALL));
	read_size(r->v, &columns, &rows);
	assert_int_equal(columns, 100);
	assert_int_equal(rows, 30);
	vdriver_acknowledge(r->v);
	/* No change, no interrupt. */
	terminal_resized(&r->u->t);
	assert_int_equal(vdriver_acknowledge(r->v), 0);
	assert_int_equal(ioctl(r->u->types, TIOCSWINSZ, &size), 0);
	terminal_resized(&r->u->t);
	assert_int_equal(vdriver_acknowledge(r->v), VIRTIO_MMIO_INT_CONFIG);
	read_size(r->v, &columns, &rows);
	assert_int_equal(columns, 80);
	assert_int_equal(rows, 24);
}

/* 5.3.4: at any time, even with nothing set up. */
static void test_emergency_write(void **state)
{
	struct rig *r = *state;
	const uint32_t c = htole32('!');
	unsigned columns, rows;

	vdriver_config_write(r->v, 8, &c, 4);
	assert_true(user_sees(r->u, "!"));
	vdriver_config_write(r->v, 8, &c, 1);
	assert_true(user_sees(r->u, "!"));
	/* Its upper bytes alone, the other fields, or what is not there. */
	vdriver_config_write(r->v, 9, &c, 1);
	vdriver_config_write(r->v, 0, &c, 4);
	vdriver_config_write(r->v, 12, &c, 4);
	assert_true(user_sees_nothing(r->u));
	read_size(r->v, &columns, &rows);
	assert_int_equal(columns, 0);
	assert_true(vdriver_up(r->v, ALL));
	vdriver_config_write(r->v, 8, &c, 4);
	assert_true(user_sees(r->u, "!"));
}

/* An emergency write would be lost, but must not wait either. */
static void test_emergency_while_stuck(void **state)
{
	struct rig *r = *state;
	const uint32_t c = htole32('!');

	for (unsigned i = 0; i < 100000; i++)
		vdriver_config_write(r->v, 8, &c, 4);
}

static void test_needs_a_terminal(void **state)
{
	(void)state;
	assert_null(vdriver_new(&virtio_console, NULL));
}

/* ---- hostile drivers ---- */

static void test_bad_transmit_buffer(void **state)
{
	struct rig *r = *state;

	assert_true(vdriver_up(r->v, ALL));
	vdriver_set_desc(vdriver_desc(r->v, TX, 0), UINT64_MAX - 10, 100, 0, 0);
	vdriver_avail(r->v, TX, 0);
	vdriver_kick(r->v, TX);
	assert_true(vdriver_wait_needs_reset(r->v));
	assert_true(vdriver_up(r->v, ALL));
	assert_int_equal(guest_says(r->v, "well", 4), 0);
	assert_true(user_sees(r->u, "well"));
}

static void test_bad_receive_buffer(void **state)
{
	struct rig *r = *state;
	struct iovec out;

	/* A buffer without a valid address. */
	up_and_settled(r);
	vdriver_set_desc(vdriver_desc(r->v, RX, 0), UINT64_MAX - 10, 100,
			 VRING_DESC_F_WRITE, 0);
	vdriver_avail(r->v, RX, 0);
	vdriver_kick(r->v, RX);
	user_types(r->u, "kept", 4);
	assert_true(vdriver_wait_needs_reset(r->v));
	/* Not to be written. */
	up_and_settled(r);
	out = vdriver_buf(r->v, "xxxx", 4);
	assert_true(vdriver_add(r->v, RX, &out, 1, NULL, 0) >= 0);
	vdriver_kick(r->v, RX);
	assert_true(vdriver_wait_needs_reset(r->v));
	assert_memory_equal(out.iov_base, "xxxx", 4);
	/* And the user's input is still there. */
	up_and_settled(r);
	out = vdriver_buf(r->v, NULL, 4);
	assert_true(vdriver_add(r->v, RX, NULL, 0, &out, 1) >= 0);
	vdriver_kick(r->v, RX);
	assert_true(vdriver_wait_used(r->v, RX, NULL, PATIENCE_MS) >= 0);
	assert_memory_equal(out.iov_base, "kept", 4);
}

/* Output, input, resets, resizes at once: for ThreadSanitizer. */
static void *drain_output(void *arg)
{
	struct rig *r = arg;
	uint8_t buf[4096];

	while (read(r->u->watches, buf, sizeof(buf)) > 0)
		user_must(memchr(buf, '.', sizeof(buf)) != NULL, "output");
	return NULL;
}

static void test_threads(void **state)
{
	struct rig *r = *state;
	pthread_t thread;

	pthread_create(&thread, NULL, drain_output, r);
	for (unsigned round = 0; round < 20; round++) {
		struct iovec out, in;

		assert_true(vdriver_up(r->v, round % 2 ? ALL : 0));
		out = vdriver_buf(r->v, NULL, 10000);
		in = vdriver_buf(r->v, NULL, 3);
		memset(out.iov_base, '.', out.iov_len);
		for (unsigned i = 0; i < 50; i++) {
			(void)vdriver_add(r->v, TX, &out, 1, NULL, 0);
			(void)vdriver_add(r->v, RX, NULL, 0, &in, 1);
			vdriver_kick(r->v, i % 2);
			user_types(r->u, "k", 1);
			terminal_resized(&r->u->t);
			(void)vdriver_get_used(r->v, TX, NULL);
			(void)vdriver_get_used(r->v, RX, NULL);
		}
	}
	/* Ends the thread: the monitor's ends are the last writers. */
	user_stop_loop(r->u);
	terminal_done(&r->u->t);
	util_close(&r->u->out_fd);
	pthread_join(thread, NULL);
}

#define TEST(test)   cmocka_unit_test_setup_teardown(test, setup, teardown)
#define ON_PTY(test) cmocka_unit_test_setup_teardown(test, setup_pty, teardown)

static void expect_size(struct vdriver *v, uint16_t columns, uint16_t rows)
{
	struct virtio_console_config config;

	vdriver_config_read(v, 0, &config, sizeof(config));
	assert_int_equal(le16toh(config.cols), columns);
	assert_int_equal(le16toh(config.rows), rows);
}

/* Saves OLD, loads that into a new one on U, which goes on. Frees OLD. */
static struct rig *load_on(struct rig *old, struct user *u)
{
	struct vdriver_saved saved;
	struct rig *r;
	void *state = old;

	vdriver_pause(old->v);
	assert_int_equal(vdriver_save(old->v, &saved), 0);
	teardown(&state);
	r = rig_new(u);
	assert_int_equal(vdriver_load(r->v, &saved), 0);
	vdriver_saved_done(&saved);
	virtio_resume(r->v->dev);
	return r;
}

/* Saved on a terminal, loaded where there is none, and on another again. */
static void test_loaded_elsewhere(void **state)
{
	const struct winsize size = {.ws_col = 90, .ws_row = 20};
	struct rig *r = *state;
	struct user *u;

	assert_true(vdriver_up(r->v, ALL));
	expect_size(r->v, 100, 30);
	r = load_on(r, user_with_pipes());
	expect_size(r->v, 100, 30);
	assert_int_equal(guest_says(r->v, "hello", 5), 0);
	assert_true(user_sees(r->u, "hello"));
	vdriver_acknowledge(r->v);
	u = user_with_pty();
	assert_int_equal(ioctl(u->types, TIOCSWINSZ, &size), 0);
	*state = r = load_on(r, u);
	expect_size(r->v, 90, 20);
	assert_true(vdriver_acknowledge(r->v) & VIRTIO_MMIO_INT_CONFIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_identity),
		TEST(test_output),
		TEST(test_scattered_output),
		TEST(test_stuck_output),
		TEST(test_much_output),
		TEST(test_pause),
		TEST(test_reset_while_sending),
		TEST(test_reader_gone),
		TEST(test_early_input),
		TEST(test_input),
		ON_PTY(test_input_at_once),
		TEST(test_input_kicks),
		TEST(test_driver_not_ready),
		TEST(test_output_unseen),
		TEST(test_end_of_input),
		ON_PTY(test_typed_across_a_reset),
		TEST(test_much_input),
		TEST(test_much_input_by_flag),
		ON_PTY(test_size),
		ON_PTY(test_loaded_elsewhere),
		TEST(test_emergency_write),
		TEST(test_emergency_while_stuck),
		cmocka_unit_test(test_needs_a_terminal),
		TEST(test_bad_transmit_buffer),
		TEST(test_bad_receive_buffer),
		TEST(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
