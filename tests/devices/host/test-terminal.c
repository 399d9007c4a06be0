/* SPDX-License-Identifier: Apache-2.0 */
/* The terminal on pipes, pseudo-terminals, files, sockets and nothing. */
#include "devices/host/terminal.h"

#include "tests/user.h"
#include "tests/tempdir.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* A device that takes the input; ROOM is how much it takes. */
struct taker {
	pthread_mutex_t lock;
	uint8_t data[65536];
	size_t taken, room;
	unsigned eofs, resizes, wakes;
};

static size_t take_room(void *owner)
{
	struct taker *k = owner;
	size_t room;

	pthread_mutex_lock(&k->lock);
	room = k->room;
	pthread_mutex_unlock(&k->lock);
	return room;
}

static size_t take(void *owner, const uint8_t *data, size_t bytes)
{
	struct taker *k = owner;

	pthread_mutex_lock(&k->lock);
	bytes = min_u64(bytes, k->room);
	bytes = min_u64(bytes, sizeof(k->data) - k->taken);
	memcpy(k->data + k->taken, data, bytes);
	k->taken += bytes;
	k->room -= bytes;
	pthread_mutex_unlock(&k->lock);
	return bytes;
}

static void count(struct taker *k, unsigned *counter)
{
	pthread_mutex_lock(&k->lock);
	(*counter)++;
	pthread_mutex_unlock(&k->lock);
}

static void take_eof(void *owner)
{
	struct taker *k = owner;

	count(k, &k->eofs);
}

static void take_resize(void *owner)
{
	struct taker *k = owner;

	count(k, &k->resizes);
}

static void take_wake(void *owner)
{
	struct taker *k = owner;

	count(k, &k->wakes);
}

static size_t get(struct taker *k, const size_t *field)
{
	size_t value;

	pthread_mutex_lock(&k->lock);
	value = *field;
	pthread_mutex_unlock(&k->lock);
	return value;
}

static unsigned get_count(struct taker *k, const unsigned *field)
{
	unsigned value;

	pthread_mutex_lock(&k->lock);
	value = *field;
	pthread_mutex_unlock(&k->lock);
	return value;
}

static void more_room(struct taker *k, struct terminal *t, size_t room)
{
	pthread_mutex_lock(&k->lock);
	k->room += room;
	pthread_mutex_unlock(&k->lock);
	terminal_resume_input(t);
}

static struct taker *taker_new(struct terminal *t, size_t room)
{
	struct taker *k = calloc(1, sizeof(*k));

	pthread_mutex_init(&k->lock, NULL);
	k->room = room;
	t->owner = k;
	t->input_room = take_room;
	t->input_fn = take;
	t->eof_fn = take_eof;
	t->resize_fn = take_resize;
	return k;
}

static int unread(int fd)
{
	int n = -1;

	assert_int_equal(ioctl(fd, FIONREAD, &n), 0);
	return n;
}

/* ---- output ---- */

static void test_output(void **state)
{
	struct user *u = user_with_pipes();

	(void)state;
	user_run(u);
	assert_int_equal(terminal_write(&u->t, "hello\r\n", 7), 7);
	assert_true(user_sees(u, "hello\r\n"));
	assert_int_equal(terminal_write(&u->t, "", 0), 0);
	assert_null(u->t.pending); /* only needed when the user is slow */
	user_free(u);
}

/* The shell shares these descriptions: they must stay as they are. */
static void test_flags_untouched(void **state)
{
	struct user *u[] = {user_with_pipes(), user_with_pty()};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(u); i++) {
		user_run(u[i]);
		assert_int_equal(u[i]->t.out.kind, TERMINAL_PRIVATE);
		assert_int_equal(u[i]->t.in.kind, TERMINAL_PRIVATE);
		terminal_write(&u[i]->t, "x", 1);
		assert_int_equal(fcntl(u[i]->in_fd, F_GETFL) & O_NONBLOCK, 0);
		assert_int_equal(fcntl(u[i]->out_fd, F_GETFL) & O_NONBLOCK, 0);
		user_free(u[i]);
	}
}

/* Writes until the terminal takes no more: how much it took. */
static size_t fill(struct user *u)
{
	uint8_t data[1000];
	size_t total = 0, n;

	do {
		for (unsigned i = 0; i < sizeof(data); i++)
			data[i] = (uint8_t)((total + i) % 251);
		n = terminal_write(&u->t, data, sizeof(data));
		total += n;
	} while (n == sizeof(data) && total < 10 * MIB);
	return total;
}

static void is_pattern(const uint8_t *data, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		assert_int_equal(data[i], i % 251);
}

static void check_pattern(struct user *u, size_t bytes)
{
	autofree uint8_t *data = malloc(bytes);

	assert_int_equal(user_reads(u, data, bytes), bytes);
	is_pattern(data, bytes);
}

static void check_back_pressure(struct user *u, size_t kernel_max)
{
	struct taker *k = taker_new(&u->t, 0);
	struct terminal_writer w = {.owner = k, .room_fn = take_wake};
	size_t total;

	terminal_add_writer(&u->t, &w);
	user_run(u);
	total = fill(u);
	assert_in_range(total, TERMINAL_PENDING_MAX,
			TERMINAL_PENDING_MAX + kernel_max);
	assert_int_equal(terminal_write(&u->t, "x", 1), 0);
	assert_int_equal(get_count(k, &k->wakes), 0);
	check_pattern(u, total);
	assert_true(wait_until(get_count(k, &k->wakes) == 1));
	assert_int_equal(terminal_write(&u->t, "again", 5), 5);
	assert_true(user_sees(u, "again"));
	user_stop_loop(u);
	terminal_remove_writer(&u->t, &w);
	user_free(u);
	free(k);
}

static void test_slow_reader(void **state)
{
	(void)state;
	check_back_pressure(user_with_pipes(), 65536);
}

static void test_slow_socket(void **state)
{
	int in[2], out[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, in), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, out), 0);
	check_back_pressure(user_new(in[0], in[1], out[1], out[0]), MIB);
}

static void set_raw(int fd)
{
	struct termios raw;

	assert_int_equal(tcgetattr(fd, &raw), 0);
	cfmakeraw(&raw);
	assert_int_equal(tcsetattr(fd, TCSANOW, &raw), 0);
}

/* Ctrl-S, or a window that hangs. */
static void test_slow_pty(void **state)
{
	struct user *u = user_with_pty();

	(void)state;
	check_back_pressure(u, 65536);
}

/*
 * An open file description of its own cannot be had for a pseudo-terminal's
 * master, as opening it again would make a new one.
 */
static void test_shared_description(void **state)
{
	int master, slave;
	struct user *u;

	(void)state;
	assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
	set_raw(slave);
	u = user_new(dup(master), dup(slave), master, slave);
	assert_int_equal(u->t.out.kind, TERMINAL_SHARED);
	check_back_pressure(u, 65536);
}

/* Captures standard error while FN runs: how many lines it got. */
static unsigned logged_lines(void (*fn)(struct user *u), struct user *u)
{
	int saved = dup(STDERR_FILENO);
	FILE *file = tempdir_file();
	unsigned lines = 0;
	int c;

	dup2(fileno(file), STDERR_FILENO);
	fn(u);
	dup2(saved, STDERR_FILENO);
	close(saved);
	rewind(file);
	while ((c = fgetc(file)) != EOF)
		lines += c == '\n';
	fclose(file);
	return lines;
}

static void write_ten(struct user *u)
{
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(terminal_write(&u->t, "lost", 4), 4);
}

/* `bulkhead boot | head -1`: the guest goes on, and the log says it once. */
static void test_reader_gone(void **state)
{
	struct user *u = user_with_pipes();

	(void)state;
	user_run(u);
	util_close(&u->watches);
	assert_int_equal(logged_lines(write_ten, u), 1);
	user_free(u);
}

/* The same while output is pending: the writers are let go. */
static void test_reader_goes_away_later(void **state)
{
	struct user *u = user_with_pipes();
	struct taker *k = taker_new(&u->t, 0);
	struct terminal_writer w = {.owner = k, .room_fn = take_wake};

	(void)state;
	terminal_add_writer(&u->t, &w);
	user_run(u);
	fill(u);
	util_close(&u->watches);
	assert_true(wait_until(get_count(k, &k->wakes) == 1));
	assert_int_equal(terminal_write(&u->t, "lost", 4), 4);
	user_free(u);
	free(k);
}

static void test_closed_descriptors(void **state)
{
	struct user *u = user_new(900, -1, 901, -1);

	(void)state;
	user_run(u);
	assert_int_equal(logged_lines(write_ten, u), 0);
	user_free(u);
}

static void test_full_device(void **state)
{
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	struct user *u = user_new(-1, -1, full, -1);

	(void)state;
	user_run(u);
	assert_int_equal(logged_lines(write_ten, u), 1);
	user_free(u);
}

/* >> log: written in order, at the shared position. */
static void test_output_to_a_file(void **state)
{
	FILE *file = tempdir_file();
	struct user *u;
	char buf[16] = {0};

	(void)state;
	fputs("before ", file);
	fflush(file);
	u = user_new(-1, -1, dup(fileno(file)), -1);
	user_run(u);
	assert_int_equal(terminal_write(&u->t, "after", 5), 5);
	user_free(u);
	rewind(file);
	assert_int_equal(fread(buf, 1, sizeof(buf), file), 12);
	assert_string_equal(buf, "before after");
	fclose(file);
}

struct slow_reader {
	struct user *u;
	uint8_t *data;
	size_t room, bytes;
};

static void *slow_reader(void *arg)
{
	struct slow_reader *r = arg;

	patience_sleep_ms(20);
	r->bytes = user_reads(r->u, r->data, r->room);
	return NULL;
}

/* As terminal.c has it. */
#define FLUSH_MS 250

/*
 * The guest's last words, to a reader that is slow but alive. On a busy machine
 * it may be later than the terminal waits, and then nothing can be said.
 */
static void test_flush_at_the_end(void **state)
{
	struct user *u = user_with_pipes();
	struct slow_reader reader = {.u = u};
	pthread_t thread;
	uint64_t start;
	bool in_time;

	(void)state;
	user_run(u);
	reader.room = fill(u);
	reader.data = malloc(reader.room);
	assert_non_null(reader.data);
	user_stop_loop(u);
	pthread_create(&thread, NULL, slow_reader, &reader);
	start = util_now_ns();
	terminal_done(&u->t);
	in_time = patience_ms_since(start) < FLUSH_MS;
	/* The end, for a reader that does not get all. */
	util_close(&u->out_fd);
	pthread_join(thread, NULL);
	assert_true(reader.bytes == reader.room || !in_time);
	is_pattern(reader.data, reader.bytes);
	free(reader.data);
	user_free(u);
}

static void test_flush_ends(void **state)
{
	struct user *u = user_with_pipes();

	(void)state;
	user_run(u);
	fill(u);
	user_stop_loop(u);
	/* terminal_done() returns; a mistake would make it hang. */
	terminal_done(&u->t);
	assert_int_equal(terminal_write(&u->t, "late", 4), 4);
	terminal_done(&u->t);
	user_free(u);
}

/* ---- several threads ---- */

#define THREAD_BYTES 100000

struct thread_writer {
	struct user *u;
	struct terminal_writer w;
	int event_fd;
	uint8_t c;
};

static void wake_thread(void *owner)
{
	struct thread_writer *tw = owner;

	loop_signal(tw->event_fd);
}

static void *write_much(void *arg)
{
	struct thread_writer *tw = arg;
	uint8_t data[100];
	size_t done = 0;

	memset(data, tw->c, sizeof(data));
	while (done < THREAD_BYTES) {
		size_t n = min_u64(sizeof(data), THREAD_BYTES - done);
		size_t taken = terminal_write(&tw->u->t, data, n);
		struct pollfd pfd = {.fd = tw->event_fd, .events = POLLIN};

		done += taken;
		if (taken < n) {
			if (poll(&pfd, 1, PATIENCE_MS) != 1)
				return NULL;
			loop_drain(tw->event_fd);
		}
	}
	return tw;
}

static void test_two_writers(void **state)
{
	struct user *u = user_with_pipes();
	struct thread_writer tw[2];
	pthread_t thread[2];
	size_t seen[256] = {0};
	void *result;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		tw[i] = (struct thread_writer){.u = u, .c = (uint8_t)i};
		tw[i].event_fd = loop_eventfd();
		tw[i].w = (struct terminal_writer){.owner = &tw[i],
						   .room_fn = wake_thread};
		terminal_add_writer(&u->t, &tw[i].w);
	}
	user_run(u);
	for (unsigned i = 0; i < 2; i++)
		pthread_create(&thread[i], NULL, write_much, &tw[i]);
	for (size_t n = 0; n < 2 * THREAD_BYTES;) {
		uint8_t buf[1000];
		size_t got = user_reads(
			u, buf, min_u64(sizeof(buf), 2 * THREAD_BYTES - n));

		assert_int_not_equal(got, 0);
		for (size_t i = 0; i < got; i++)
			seen[buf[i]]++;
		n += got;
	}
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(thread[i], &result);
		assert_ptr_equal(result, &tw[i]);
	}
	user_stop_loop(u);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(seen[i], THREAD_BYTES);
		close(tw[i].event_fd);
	}
	user_free(u);
}

/* ---- input ---- */

/* Input that nobody has room for stays in the pipe, for a later reader. */
static void test_input_waits_outside(void **state)
{
	struct user *u = user_with_pipes();
	struct taker *k = taker_new(&u->t, 0);

	(void)state;
	user_types(u, "0123456789", 10);
	user_run(u);
	patience_sleep_ms(30);
	assert_int_equal(unread(u->in_fd), 10);
	more_room(k, &u->t, 3);
	assert_true(wait_until(get(k, &k->taken) == 3));
	patience_sleep_ms(20);
	assert_int_equal(unread(u->in_fd), 7);
	more_room(k, &u->t, 100);
	assert_true(wait_until(get(k, &k->taken) == 10));
	assert_memory_equal(k->data, "0123456789", 10);
	/* And from here on it waits for the user. */
	user_types(u, "more", 4);
	assert_true(wait_until(get(k, &k->taken) == 14));
	user_free(u);
	free(k);
}

/* Says something all the time for 200 ms; the longest silence between. */
static uint64_t chatter(struct user *u)
{
	const uint64_t start = util_now_ns();
	uint64_t longest = 0, said = start;

	while (patience_ms_since(start) < 200) {
		uint64_t silence = patience_ms_since(said);

		longest = silence > longest ? silence : longest;
		said = util_now_ns();
		terminal_write(&u->t, ".", 1);
		patience_sleep_ms(5);
	}
	return longest;
}

/*
 * A driver that starts gets its input when it has said something and been
 * silent for 50 ms, or after a second. On a busy machine chatter() may be
 * silent for as long itself: then it is tried again.
 */
static void test_input_held(void **state)
{
	struct user *u = user_with_pipes();
	struct taker *k = taker_new(&u->t, 100);
	size_t before = 0, early = 0;
	uint64_t start, longest = UINT64_MAX;

	(void)state;
	user_run(u);
	for (unsigned i = 0; i < 20 && longest >= 40; i++) {
		before = get(k, &k->taken);
		terminal_hold_input(&u->t);
		user_types(u, "abc", 3);
		longest = chatter(u);
		early = get(k, &k->taken) - before;
		assert_true(wait_until(get(k, &k->taken) == before + 3));
	}
	if (longest < 40)
		assert_int_equal(early, 0);

	before = get(k, &k->taken);
	start = util_now_ns();
	terminal_hold_input(&u->t);
	user_types(u, "def", 3);
	assert_true(wait_until(get(k, &k->taken) == before + 3));
	assert_true(patience_ms_since(start) >= 1000);
	user_free(u);
	free(k);
}

/* Ctrl-A means nothing where there is no keyboard. */
static void test_pipe_has_no_escape(void **state)
{
	struct user *u = user_with_pipes();
	struct taker *k = taker_new(&u->t, 100);

	(void)state;
	user_run(u);
	user_types(u, "\001x\001a", 4);
	assert_true(wait_until(get(k, &k->taken) == 4));
	assert_memory_equal(k->data, "\001x\001a", 4);
	assert_int_equal(stop_reason(&u->stop, NULL), STOP_NONE);
	user_free(u);
	free(k);
}

/* The end comes after the last byte has been taken, and once. */
static void test_input_ends(void **state)
{
	struct user *u = user_with_pipes();
	struct taker *k = taker_new(&u->t, 2);

	(void)state;
	user_types(u, "last", 4);
	util_close(&u->types);
	user_run(u);
	assert_true(wait_until(get(k, &k->taken) == 2));
	patience_sleep_ms(20);
	assert_int_equal(get_count(k, &k->eofs), 0);
	more_room(k, &u->t, 1);
	more_room(k, &u->t, 99);
	assert_true(wait_until(get_count(k, &k->eofs) == 1));
	assert_int_equal(get(k, &k->taken), 4);
	more_room(k, &u->t, 99);
	patience_sleep_ms(20);
	assert_int_equal(get_count(k, &k->eofs), 1);
	user_free(u);
	free(k);
}

/* epoll refuses regular files (EPERM). */
static void test_input_from_a_file(void **state)
{
	FILE *file = tempdir_file();
	struct user *u;
	struct taker *k;

	(void)state;
	for (unsigned i = 0; i < 20000; i++)
		fputc((int)(i % 251), file);
	rewind(file);
	u = user_new(dup(fileno(file)), -1, -1, -1);
	k = taker_new(&u->t, 5000);
	user_run(u);
	assert_true(wait_until(get(k, &k->taken) == 5000));
	patience_sleep_ms(20);
	assert_int_equal(lseek(fileno(file), 0, SEEK_CUR), 5000);
	more_room(k, &u->t, 50000);
	assert_true(wait_until(get_count(k, &k->eofs) == 1));
	assert_int_equal(get(k, &k->taken), 20000);
	for (unsigned i = 0; i < 20000; i++)
		assert_int_equal(k->data[i], i % 251);
	user_free(u);
	free(k);
	fclose(file);
}

static void test_input_from_nothing(void **state)
{
	struct user *u = user_new(open("/dev/null", O_RDONLY), -1, -1, -1);
	struct taker *k = taker_new(&u->t, 100);

	(void)state;
	user_run(u);
	assert_true(wait_until(get_count(k, &k->eofs) == 1));
	user_free(u);
	free(k);
}

/*
 * No device takes input: the terminal does not read the pipe, and the loop
 * sleeps.
 */
static void test_input_without_owner(void **state)
{
	struct user *u = user_with_pipes();

	(void)state;
	user_types(u, "abc", 3);
	user_run(u);
	patience_sleep_ms(30);
	assert_int_equal(unread(u->in_fd), 3);
	user_free(u);
}

/* ---- a real terminal ---- */

static void test_raw_and_back(void **state)
{
	struct user *u = user_with_pty();
	struct termios before = {0}, raw = {0}, after = {0};

	(void)state;
	assert_int_equal(tcgetattr(u->in_fd, &before), 0);
	user_run(u);
	assert_int_equal(tcgetattr(u->in_fd, &raw), 0);
	assert_int_equal(raw.c_lflag & (ICANON | ECHO | ISIG | IEXTEN), 0);
	assert_int_equal(raw.c_iflag & (ICRNL | IXON), 0);
	assert_int_equal(raw.c_oflag & OPOST, 0);
	assert_int_not_equal(before.c_lflag & ICANON, 0);
	user_stop_loop(u);
	terminal_done(&u->t);
	assert_int_equal(tcgetattr(u->in_fd, &after), 0);
	assert_memory_equal(&before, &after, sizeof(before));
	user_free(u);
}

static void test_bytes_pass_unchanged(void **state)
{
	struct user *u = user_with_pty();
	struct taker *k = taker_new(&u->t, 1000);
	uint8_t typed[255], seen[256];

	(void)state;
	for (unsigned i = 0; i < 255; i++)
		typed[i] = i ? (uint8_t)(i + 1) : 0; /* all but Ctrl-A */
	user_run(u);
	user_types(u, typed, sizeof(typed));
	assert_true(wait_until(get(k, &k->taken) == 255));
	assert_memory_equal(k->data, typed, 255);
	assert_int_equal(terminal_write(&u->t, typed, 255), 255);
	assert_int_equal(user_reads(u, seen, 255), 255);
	assert_memory_equal(seen, typed, 255);
	user_free(u);
	free(k);
}

static void ask_for_help(struct user *u)
{
	struct taker *k = u->t.owner;

	user_run(u);
	user_types(u, "\001h!", 3);
	assert_true(wait_until(get(k, &k->taken) == 1));
	user_stop_loop(u);
}

static void test_help(void **state)
{
	struct user *u = user_with_pty();
	struct taker *k = taker_new(&u->t, 10);

	(void)state;
	assert_in_range(logged_lines(ask_for_help, u), 3, 9);
	assert_int_equal(k->data[0], '!');
	assert_int_equal(stop_reason(&u->stop, NULL), STOP_NONE);
	user_free(u);
	free(k);
}

static void test_escape_key(void **state)
{
	struct user *u = user_with_pty();
	struct taker *k = taker_new(&u->t, 1000);

	(void)state;
	user_run(u);
	user_types(u, "a\001a\001\001", 5);
	user_types(u, "\001", 1);
	patience_sleep_ms(20); /* so that the sequence arrives in two reads */
	user_types(u, "zb\001", 3);
	user_types(u, "ac", 2);
	assert_true(wait_until(get(k, &k->taken) == 6));
	assert_memory_equal(k->data, "a\001\001b\001c", 6);
	assert_int_equal(stop_reason(&u->stop, NULL), STOP_NONE);
	user_types(u, "\001x", 2);
	assert_true(wait_until(stop_reason(&u->stop, NULL) == STOP_USER));
	user_free(u);
	free(k);
}

/* A guest that hangs takes no input, but can be ended. */
static void test_escape_from_a_deaf_guest(void **state)
{
	struct user *u = user_with_pty();
	struct taker *k = taker_new(&u->t, 0);
	int status = -1;

	(void)state;
	user_run(u);
	user_types(u, "hello?\r", 7);
	user_types(u, "\001x", 2);
	assert_true(wait_until(stop_reason(&u->stop, &status) == STOP_USER));
	assert_int_equal(status, 0);
	user_free(u);
	free(k);
}

static void test_typed_ahead(void **state)
{
	struct user *u = user_with_pty();
	struct taker *k = taker_new(&u->t, 0);
	char line[100];

	(void)state;
	memset(line, '.', sizeof(line));
	user_run(u);
	for (unsigned i = 0; i < 20; i++)
		user_types(u, line, sizeof(line));
	patience_sleep_ms(30);
	more_room(k, &u->t, 10);
	assert_true(wait_until(get(k, &k->taken) == 10));
	more_room(k, &u->t, 60000);
	assert_true(wait_until(get(k, &k->taken) == 2000));
	user_free(u);
	free(k);
}

static void test_size(void **state)
{
	const struct winsize size = {.ws_col = 132, .ws_row = 50};
	struct user *u = user_with_pty(), *pipes = user_with_pipes();
	struct taker *k = taker_new(&u->t, 0);
	uint16_t columns, rows;

	(void)state;
	assert_true(terminal_has_size(&u->t));
	terminal_size(&u->t, &columns, &rows);
	assert_int_equal(columns, 100);
	assert_int_equal(rows, 30);
	assert_int_equal(ioctl(u->types, TIOCSWINSZ, &size), 0);
	terminal_resized(&u->t);
	assert_int_equal(k->resizes, 1);
	terminal_size(&u->t, &columns, &rows);
	assert_int_equal(columns, 132);
	assert_int_equal(rows, 50);

	assert_false(terminal_has_size(&pipes->t));
	terminal_size(&pipes->t, &columns, &rows);
	assert_int_equal(columns, 0);
	assert_int_equal(rows, 0);
	terminal_resized(&pipes->t);
	user_free(u);
	user_free(pipes);
	free(k);
}

/* The window is closed. */
static void test_hang_up(void **state)
{
	struct user *u = user_with_pty();
	struct taker *k = taker_new(&u->t, 100);

	(void)state;
	user_run(u);
	util_close(&u->types);
	util_close(&u->watches);
	assert_true(wait_until(get_count(k, &k->eofs) == 1));
	assert_int_equal(logged_lines(write_ten, u), 1);
	user_free(u);
	free(k);
}

static void die_in_raw_mode(struct user *u, int signal)
{
	const struct rlimit no_core = {0};
	struct termios now;

	/* cmocka and the sanitizers have handlers of their own. */
	for (int i = 1; i < SIGRTMIN; i++)
		(void)sigaction(i, &(struct sigaction){.sa_handler = SIG_DFL},
				NULL);
	setrlimit(RLIMIT_CORE, &no_core);
	user_must(terminal_start(&u->t) == 0, "start");
	user_must(tcgetattr(u->in_fd, &now) == 0, "tcgetattr");
	user_must(!(now.c_lflag & ICANON), "not raw");
	raise(signal);
	_exit(77);
}

/* The wait status of a child that died of SIGNAL while the pty was raw. */
static void check_death(int signal)
{
	struct user *u = user_with_pty();
	struct termios before = {0}, after = {0};
	int status;
	pid_t pid;

	assert_int_equal(tcgetattr(u->in_fd, &before), 0);
	pid = fork();
	if (pid == 0)
		die_in_raw_mode(u, signal);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), signal);
	assert_int_equal(tcgetattr(u->in_fd, &after), 0);
	assert_memory_equal(&before, &after, sizeof(before));
	user_free(u);
}

static void test_restored_on_fatal_signals(void **state)
{
	static const int signals[] = {SIGABRT, SIGQUIT, SIGSYS, SIGTRAP,
				      SIGSEGV, SIGBUS,  SIGXFSZ};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(signals); i++)
		check_death(signals[i]);
}

/* After an orderly end the signals are the program's own again. */
static void test_signals_given_back(void **state)
{
	struct user *u = user_with_pty();
	struct sigaction before, now;

	(void)state;
	assert_int_equal(sigaction(SIGXFSZ, NULL, &before), 0);
	user_run(u);
	assert_int_equal(sigaction(SIGXFSZ, NULL, &now), 0);
	assert_ptr_not_equal(now.sa_handler, before.sa_handler);
	user_free(u);
	assert_int_equal(sigaction(SIGXFSZ, NULL, &now), 0);
	assert_ptr_equal(now.sa_handler, before.sa_handler);
}

static void test_never_started(void **state)
{
	struct terminal t = {0};
	struct user *u = user_with_pty();

	(void)state;
	terminal_done(&t);
	user_free(u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_output),
		cmocka_unit_test(test_flags_untouched),
		cmocka_unit_test(test_slow_reader),
		cmocka_unit_test(test_slow_socket),
		cmocka_unit_test(test_slow_pty),
		cmocka_unit_test(test_shared_description),
		cmocka_unit_test(test_reader_gone),
		cmocka_unit_test(test_reader_goes_away_later),
		cmocka_unit_test(test_closed_descriptors),
		cmocka_unit_test(test_full_device),
		cmocka_unit_test(test_output_to_a_file),
		cmocka_unit_test(test_flush_at_the_end),
		cmocka_unit_test(test_flush_ends),
		cmocka_unit_test(test_two_writers),
		cmocka_unit_test(test_input_waits_outside),
		cmocka_unit_test(test_input_held),
		cmocka_unit_test(test_pipe_has_no_escape),
		cmocka_unit_test(test_input_ends),
		cmocka_unit_test(test_input_from_a_file),
		cmocka_unit_test(test_input_from_nothing),
		cmocka_unit_test(test_input_without_owner),
		cmocka_unit_test(test_raw_and_back),
		cmocka_unit_test(test_bytes_pass_unchanged),
		cmocka_unit_test(test_help),
		cmocka_unit_test(test_escape_key),
		cmocka_unit_test(test_escape_from_a_deaf_guest),
		cmocka_unit_test(test_typed_ahead),
		cmocka_unit_test(test_size),
		cmocka_unit_test(test_hang_up),
		cmocka_unit_test(test_restored_on_fatal_signals),
		cmocka_unit_test(test_signals_given_back),
		cmocka_unit_test(test_never_started),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
