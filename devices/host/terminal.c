/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The user's terminal, or whatever stands in for it: pipes, files, sockets,
 * closed descriptors. Input is only read when someone has room for it, except
 * from a terminal, where the escape key has to work whatever the guest does.
 */
#include "devices/host/terminal.h"

#include "vmm/base/log.h"
#include "vmm/base/stop.h"
#include "vmm/base/trace.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define ESCAPE 0x01 /* Ctrl-A */
/* How long a driver that starts gets no input: see has_settled(). */
#define TICK_NS      UINT64_C(25000000)
#define QUIET_TICKS  3   /* after output */
#define SILENT_TICKS 40  /* without any: a second */
#define HOLD_TICKS   200 /* at most */

#define FLUSH_NS UINT64_C(250000000)
/* So many bytes n_tty and pipes take without waiting when poll() says so ... */
#define SHARED_MAX 256
/* ... and by others, sockets and devices like /dev/null. */
#define OTHERS_MAX 4096

/* The size, as it changes; the settings, as they were, at the end; a timer. */
const struct sandbox_rule terminal_syscalls[] = {
	SANDBOX_CALL(timerfd_settime),
	SANDBOX_IOCTL(TIOCGWINSZ),
	SANDBOX_IOCTL(TCSETS),
	SANDBOX_END,
};

/* ---- the two ends ---- */

/*
 * A file description of its own, so that O_NONBLOCK stays between us and the
 * kernel. Only for what has no position and no side effect of opening: pipes
 * and terminals. A pseudo-terminal's master would become another one.
 */
static int open_private(int fd, bool writes)
{
	char path[40];
	int number;

	if (ioctl(fd, TIOCGPTN, &number) == 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, (writes ? O_WRONLY : O_RDONLY) | O_NONBLOCK |
				  O_NOCTTY | O_CLOEXEC);
}

void terminal_end_open(struct terminal_end *end, int fd, bool writes)
{
	struct stat st;
	int own;

	*end = (struct terminal_end){.fd = -1, .kind = TERMINAL_NONE};
	if (fd < 0 || fstat(fd, &st) < 0)
		return;
	end->fd = fd;
	end->is_tty = isatty(fd);
	end->kind = S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)
			    ? TERMINAL_FILE
			    : TERMINAL_SHARED;
	end->most = OTHERS_MAX;
	if (!S_ISFIFO(st.st_mode) && !end->is_tty)
		return;
	end->most = SHARED_MAX;
	own = open_private(fd, writes);
	if (own < 0)
		return; /* su: the terminal is another user's */
	end->fd = own;
	end->owned = true;
	end->kind = TERMINAL_PRIVATE;
}

void terminal_end_close(struct terminal_end *end)
{
	if (end->owned)
		close(end->fd);
	*end = (struct terminal_end){.fd = -1, .kind = TERMINAL_NONE};
}

/* False: using the descriptor now would wait. */
static bool end_ready(const struct terminal_end *end, short events)
{
	struct pollfd pfd = {.fd = end->fd, .events = events};

	return poll(&pfd, 1, 0) > 0;
}

/* As read(2) and write(2), but never waits. */
static ssize_t end_read(const struct terminal_end *end, void *buf, size_t len)
{
	if (end->kind == TERMINAL_SHARED && !end_ready(end, POLLIN)) {
		errno = EAGAIN;
		return -1;
	}
	return read(end->fd, buf, len);
}

ssize_t terminal_end_write(const struct terminal_end *end, const void *buf,
			   size_t len)
{
	if (end->kind == TERMINAL_SHARED) {
		if (!end_ready(end, POLLOUT)) {
			errno = EAGAIN;
			return -1;
		}
		len = min_u64(len, end->most);
	}
	return write(end->fd, buf, len);
}

/* ---- output ---- */

/* How much of DATA was written, or is lost for ever. Lock held. */
static size_t push_out(struct terminal *t, const uint8_t *data, size_t bytes)
{
	size_t done = 0;

	while (done < bytes && !t->output_dead) {
		ssize_t n =
			terminal_end_write(&t->out, data + done, bytes - done);

		if (n >= 0)
			done += (size_t)n;
		else if (errno == EAGAIN)
			return done;
		else if (errno != EINTR) {
			log_warn("console: standard output: %s; the guest's "
				 "output is lost from here on",
				 strerror(errno));
			t->output_dead = true;
		}
	}
	return bytes;
}

/* Keeps what fits for output_ready(). Lock held. */
static size_t keep_pending(struct terminal *t, const uint8_t *data,
			   size_t bytes)
{
	int r = 0;

	if (!t->pending)
		t->pending = malloc(TERMINAL_PENDING_MAX);
	bytes = t->pending ? min_u64(bytes, TERMINAL_PENDING_MAX - t->npending)
			   : 0;
	if (bytes > 0)
		memcpy(t->pending + t->npending, data, bytes);
	t->npending += bytes;
	if (!t->output.added)
		r = loop_add(t->loop, &t->output, EPOLLOUT);
	if (r < 0) {
		/* Nobody would ever wake the writers: do not let them wait. */
		log_warn("console: standard output: cannot wait for it: %s",
			 strerror(-r));
		t->output_dead = true;
	}
	return bytes;
}

size_t terminal_write(struct terminal *t, const void *data, size_t bytes)
{
	size_t done = 0;

	trace_mark(t->trace, TRACE_CONSOLE);
	pthread_mutex_lock(&t->lock);
	if (t->held) {
		t->wrote = true;
		t->quiet = 0;
	}
	if (t->npending == 0)
		done = push_out(t, data, bytes);
	if (done < bytes && !t->output_dead) {
		done += keep_pending(t, (const uint8_t *)data + done,
				     bytes - done);
		t->refused |= done < bytes;
	}
	if (t->output_dead)
		done = bytes;
	pthread_mutex_unlock(&t->lock);
	return done;
}

/* Writes what is pending; true when nothing is any more. Lock held. */
static bool flush_pending(struct terminal *t)
{
	size_t done = push_out(t, t->pending, t->npending);

	if (t->output_dead)
		done = t->npending;
	t->npending -= done;
	if (done > 0 && t->npending > 0)
		memmove(t->pending, t->pending + done, t->npending);
	return t->npending == 0;
}

static void output_ready(struct loop_source *source, uint32_t events)
{
	struct terminal *t = container_of(source, struct terminal, output);
	bool tell = false;

	(void)events;
	pthread_mutex_lock(&t->lock);
	if (flush_pending(t)) {
		loop_del(t->loop, &t->output);
		tell = t->refused;
		t->refused = false;
	}
	pthread_mutex_unlock(&t->lock);
	for (struct terminal_writer *w = t->writers; w && tell; w = w->next)
		w->room_fn(w->owner);
}

/* The end of the VM: a reader that is merely slow gets all of it. */
static void flush_for_a_while(struct terminal *t)
{
	const uint64_t end = util_now_ns() + FLUSH_NS;
	bool done;

	do {
		struct pollfd pfd = {.fd = t->out.fd, .events = POLLOUT};

		pthread_mutex_lock(&t->lock);
		done = flush_pending(t);
		pthread_mutex_unlock(&t->lock);
		if (!done)
			poll(&pfd, 1, 10);
	} while (!done && util_now_ns() < end);
}

void terminal_add_writer(struct terminal *t, struct terminal_writer *writer)
{
	writer->next = t->writers;
	t->writers = writer;
}

void terminal_remove_writer(struct terminal *t, struct terminal_writer *writer)
{
	struct terminal_writer **w = &t->writers;

	while (*w && *w != writer)
		w = &(*w)->next;
	if (*w)
		*w = writer->next;
}

/* ---- input ---- */

static void print_help(void)
{
	static const char help[] = "\r\nCtrl-A x  end the virtual machine\r\n"
				   "Ctrl-A a  send Ctrl-A to the guest\r\n"
				   "Ctrl-A h  this help\r\n";

	/* A courtesy: nothing depends on it. */
	(void)util_write_all(STDERR_FILENO, help, sizeof(help) - 1);
}

/* Acts on escape sequences and takes them out: how many bytes remain. */
static size_t filter_escapes(struct terminal *t, uint8_t *data, size_t bytes)
{
	size_t kept = 0;

	for (size_t i = 0; i < bytes; i++) {
		const uint8_t c = data[i];

		if (!t->escaped) {
			t->escaped = c == ESCAPE;
			if (!t->escaped)
				data[kept++] = c;
			continue;
		}
		t->escaped = false;
		if (c == ESCAPE || c == 'a')
			data[kept++] = ESCAPE;
		else if (c == 'x')
			stop_request(t->stop, STOP_USER, 0);
		else if (c == 'h' || c == '?')
			print_help();
	}
	return kept;
}

/* ... and listens: see terminal_hold_input(). */
static bool has_owner(struct terminal *t)
{
	bool held;

	pthread_mutex_lock(&t->lock);
	held = t->held;
	pthread_mutex_unlock(&t->lock);
	return t->owner && !held;
}

static size_t owner_room(struct terminal *t)
{
	return has_owner(t) ? t->input_room(t->owner) : 0;
}

/*
 * How much may be read now. A terminal is read ahead for the sake of the escape
 * key; from all else only what the owner has room for, so that the rest stays
 * with its sender.
 */
static size_t read_room(struct terminal *t)
{
	if (t->input_eof)
		return 0;
	if (t->is_tty)
		return sizeof(t->input_data) - t->ninput;
	return t->ninput ? 0 : min_u64(sizeof(t->input_data), owner_room(t));
}

static void deliver(struct terminal *t)
{
	size_t taken = t->owner ? 0 : t->ninput;

	if (t->ninput > 0 && has_owner(t))
		taken = t->input_fn(t->owner, t->input_data, t->ninput);
	t->ninput -= taken;
	if (taken > 0 && t->ninput > 0)
		memmove(t->input_data, t->input_data + taken, t->ninput);
	if (t->input_eof && t->ninput == 0 && !t->eof_told) {
		t->eof_told = true;
		if (t->owner && t->eof_fn)
			t->eof_fn(t->owner);
	}
}

static void read_more(struct terminal *t)
{
	const size_t room = read_room(t);
	uint8_t *at = t->input_data + t->ninput;
	ssize_t n;

	if (room == 0)
		return;
	n = end_read(&t->in, at, room);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	/* EIO: the terminal hung up. */
	if (n < 0 && errno != EIO)
		log_warn("console: standard input: %s", strerror(errno));
	if (n <= 0) {
		t->input_eof = true;
		return;
	}
	t->ninput += t->is_tty ? filter_escapes(t, at, (size_t)n) : (size_t)n;
}

/*
 * Waits for what is missing: input, or room. A source that nobody wants to read
 * is taken out, as EPOLLHUP cannot be masked.
 */
static void wait_for_more(struct terminal *t)
{
	bool full = read_room(t) == 0;

	if (t->ninput > 0 || (full && !t->input_eof)) {
		/* Set before the last look: see terminal_resume_input(). */
		__atomic_store_n(&t->input_waits, true, __ATOMIC_SEQ_CST);
		if (owner_room(t) > 0)
			terminal_resume_input(t);
	}
	if (full)
		loop_del(t->loop, &t->input);
	else if (t->unpollable)
		loop_signal(t->wake.fd);
	else if (!t->input.added && loop_add(t->loop, &t->input, EPOLLIN) < 0) {
		/* EPERM: a regular file, /dev/null: always ready. */
		t->unpollable = true;
		loop_signal(t->wake.fd);
	}
}

static void input_step(struct terminal *t)
{
	deliver(t);
	read_more(t);
	deliver(t);
	wait_for_more(t);
}

static void input_ready(struct loop_source *source, uint32_t events)
{
	(void)events;
	input_step(container_of(source, struct terminal, input));
}

static void wake_ready(struct loop_source *source, uint32_t events)
{
	(void)events;
	loop_drain(source->fd);
	input_step(container_of(source, struct terminal, wake));
}

/*
 * The owner made room before it looks at the flag; the loop sets the flag
 * before it looks for room. One of the two sees the other's.
 */
void terminal_resume_input(struct terminal *t)
{
	if (__atomic_exchange_n(&t->input_waits, false, __ATOMIC_SEQ_CST))
		loop_signal(t->wake.fd);
}

/*
 * Linux's virtio_console fills its receive queue before it knows its own port,
 * and throws away what arrives until then. Nothing tells when it is done, but a
 * guest that reads has been silent for a moment after its first output. That is
 * so many ticks, not so much time: a host with too much else to do has few of
 * them, and the loop looks for output between any two.
 */
static bool has_settled(const struct terminal *t)
{
	return t->ticks >= HOLD_TICKS ||
	       t->quiet >= (t->wrote ? QUIET_TICKS : SILENT_TICKS);
}

static bool set_tick(struct terminal *t)
{
	return loop_timer_set(&t->settle, util_now_ns() + TICK_NS);
}

static void settle_due(struct loop_timer *timer)
{
	struct terminal *t = container_of(timer, struct terminal, settle);
	bool settled;

	pthread_mutex_lock(&t->lock);
	t->ticks++;
	t->quiet++;
	settled = has_settled(t) || !set_tick(t);
	if (settled)
		t->held = false;
	pthread_mutex_unlock(&t->lock);
	if (settled)
		input_step(t);
}

void terminal_hold_input(struct terminal *t)
{
	pthread_mutex_lock(&t->lock);
	t->wrote = false;
	t->ticks = t->quiet = 0;
	/* Without a timer better early than never. */
	t->held = set_tick(t);
	pthread_mutex_unlock(&t->lock);
}

/* ---- size ---- */

void terminal_resized(struct terminal *t)
{
	if (t->owner && t->resize_fn)
		t->resize_fn(t->owner);
}

bool terminal_has_size(const struct terminal *t)
{
	return t->out.is_tty || t->in.is_tty;
}

void terminal_size(const struct terminal *t, uint16_t *ret_columns,
		   uint16_t *ret_rows)
{
	struct winsize size = {0};

	if (!t->out.is_tty || ioctl(t->out.fd, TIOCGWINSZ, &size) < 0) {
		if (t->in.is_tty)
			(void)ioctl(t->in.fd, TIOCGWINSZ, &size);
	}
	*ret_columns = size.ws_col;
	*ret_rows = size.ws_row;
}

/* ---- raw mode, and the way back ---- */

/*
 * The one object a signal handler can find the terminal by: it is given no
 * argument. NULL unless a terminal is in raw mode.
 */
static struct terminal *raw_terminal;

static const int fatal_signals[] = {
	SIGQUIT, SIGILL,  SIGTRAP, SIGABRT, SIGBUS,
	SIGFPE,  SIGSEGV, SIGSYS,  SIGXCPU, SIGXFSZ,
};

void terminal_rescue(void)
{
	struct terminal *t = __atomic_load_n(&raw_terminal, __ATOMIC_ACQUIRE);

	if (t)
		(void)tcsetattr(t->in.fd, TCSANOW, &t->saved);
}

/* SA_RESETHAND: the signal now does what it would have done. */
static void restore_and_die(int signal)
{
	terminal_rescue();
	raise(signal);
}

/* Only where nobody else (a sanitizer) handles the signal. */
static void catch_fatal_signals(void)
{
	struct sigaction ours = {
		.sa_handler = restore_and_die,
		.sa_flags = SA_RESETHAND | SA_NODEFER,
	};

	/* A background process may set the terminal while this is blocked. */
	sigemptyset(&ours.sa_mask);
	sigaddset(&ours.sa_mask, SIGTTOU);
	for (unsigned i = 0; i < ARRAY_LEN(fatal_signals); i++) {
		struct sigaction now;

		if (sigaction(fatal_signals[i], NULL, &now) == 0 &&
		    now.sa_handler == SIG_DFL)
			sigaction(fatal_signals[i], &ours, NULL);
	}
}

static void release_fatal_signals(void)
{
	const struct sigaction dfl = {.sa_handler = SIG_DFL};

	for (unsigned i = 0; i < ARRAY_LEN(fatal_signals); i++) {
		struct sigaction now;

		if (sigaction(fatal_signals[i], NULL, &now) == 0 &&
		    now.sa_handler == restore_and_die)
			sigaction(fatal_signals[i], &dfl, NULL);
	}
}

/*
 * Every byte reaches the guest as typed, Ctrl-C too, and the guest's output
 * reaches the terminal as sent: its own tty layer has turned LF into CR LF, and
 * what a full-screen program sends must not be turned twice.
 */
static int make_raw(struct terminal *t)
{
	struct termios raw;

	if (tcgetattr(t->in.fd, &t->saved) < 0)
		return log_ret(-errno, "console: standard input: tcgetattr: %s",
			       strerror(errno));
	raw = t->saved;
	cfmakeraw(&raw);
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	__atomic_store_n(&raw_terminal, t, __ATOMIC_RELEASE);
	catch_fatal_signals();
	t->raw = true;
	if (tcsetattr(t->in.fd, TCSANOW, &raw) < 0)
		return log_ret(-errno, "console: standard input: tcsetattr: %s",
			       strerror(errno));
	return 0;
}

static void restore(struct terminal *t)
{
	sigset_t ttou, before;

	if (!t->raw)
		return;
	sigemptyset(&ttou);
	sigaddset(&ttou, SIGTTOU);
	pthread_sigmask(SIG_BLOCK, &ttou, &before);
	(void)tcsetattr(t->in.fd, TCSANOW, &t->saved);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	release_fatal_signals();
	__atomic_store_n(&raw_terminal, NULL, __ATOMIC_RELEASE);
	t->raw = false;
}

/* ---- life ---- */

int terminal_init_fds(struct terminal *t, struct loop *loop, struct stop *stop,
		      int in_fd, int out_fd)
{
	int r;

	*t = (struct terminal){.loop = loop, .stop = stop};
	pthread_mutex_init(&t->lock, NULL);
	terminal_end_open(&t->in, in_fd, false);
	terminal_end_open(&t->out, out_fd, true);
	t->is_tty = t->in.is_tty;
	t->input_eof = t->in.kind == TERMINAL_NONE;
	t->output_dead = t->out.kind == TERMINAL_NONE;
	t->input = (struct loop_source){.fd = t->in.fd, .fn = input_ready};
	t->output = (struct loop_source){.fd = t->out.fd, .fn = output_ready};
	t->wake = (struct loop_source){.fn = wake_ready};
	t->wake.fd = loop_eventfd();
	r = t->wake.fd < 0 ? t->wake.fd : loop_add(loop, &t->wake, EPOLLIN);
	if (r == 0)
		r = loop_timer_open(loop, &t->settle, settle_due);
	if (r == 0)
		return 0;
	terminal_done(t);
	return log_ret(r, "console: event: %s", strerror(-r));
}

int terminal_init(struct terminal *t, struct loop *loop, struct stop *stop)
{
	return terminal_init_fds(t, loop, stop, STDIN_FILENO, STDOUT_FILENO);
}

int terminal_start(struct terminal *t)
{
	int r = t->is_tty ? make_raw(t) : 0;

	if (r < 0)
		return r;
	/* The first step, on the loop's thread, finds out what to wait for. */
	loop_signal(t->wake.fd);
	return 0;
}

/* The mutex stays: a device that is freed later may still write. */
void terminal_done(struct terminal *t)
{
	if (!t->loop)
		return;
	flush_for_a_while(t);
	restore(t);
	pthread_mutex_lock(&t->lock);
	t->output_dead = true;
	t->npending = 0;
	free(t->pending);
	t->pending = NULL;
	pthread_mutex_unlock(&t->lock);
	__atomic_store_n(&t->input_waits, false, __ATOMIC_SEQ_CST);
	loop_del(t->loop, &t->input);
	loop_del(t->loop, &t->output);
	loop_del(t->loop, &t->wake);
	util_close(&t->wake.fd);
	loop_timer_close(&t->settle);
	terminal_end_close(&t->in);
	terminal_end_close(&t->out);
	t->loop = NULL;
}
