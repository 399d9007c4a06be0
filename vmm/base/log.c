/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one sink for messages. Its settings are the only mutable file-scope state
 * of the monitor: a message must be possible from anywhere.
 */
#include "vmm/base/log.h"

#include "vmm/base/text.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <time.h>

#define LINE_MAX_BYTES 1024
#define PATIENCE_MS    1000 /* for the reader of messages */

static enum log_level log_level = LOG_WARN;
static bool log_json;
static int copy_fd = -1;
static bool copy_json;
static unsigned lost; /* messages since the last that was read */

static const char *const level_names[] = {"error", "warn", "info", "debug"};

void log_setup(enum log_level level, bool json)
{
	log_level = level;
	log_json = json;
}

void log_copy(int fd, bool json)
{
	copy_fd = fd;
	copy_json = json;
}

int log_parse_level(const char *text, enum log_level *ret_level)
{
	for (unsigned i = 0; i < ARRAY_LEN(level_names); i++) {
		if (strcmp(text, level_names[i]) == 0) {
			*ret_level = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

bool log_enabled(enum log_level level)
{
	return level <= log_level;
}

/* While the console has the terminal in raw mode a newline only goes down. */
static const char *line_end(void)
{
	struct termios termios;

	if (tcgetattr(STDERR_FILENO, &termios) < 0 || (termios.c_oflag & OPOST))
		return "\n";
	return "\r\n";
}

/*
 * A pipe that nobody reads or a stopped terminal must keep neither the monitor
 * from ending nor the guest from running: one message waits, those after it
 * are lost at once.
 */
static bool is_read(void)
{
	const bool is_lost = __atomic_load_n(&lost, __ATOMIC_RELAXED) > 0;
	struct pollfd pfd = {.fd = STDERR_FILENO, .events = POLLOUT};
	int n;

	do
		n = poll(&pfd, 1, is_lost ? 0 : PATIENCE_MS);
	while (n < 0 && errno == EINTR);
	if (n == 0)
		__atomic_fetch_add(&lost, 1, __ATOMIC_RELAXED);
	return n != 0;
}

/* As logrus writes: what engines show is the last line's "msg". */
static void emit_copy(enum log_level level, const char *message)
{
	const char *name = level == LOG_WARN ? "warning" : level_names[level];
	char line[2 * LINE_MAX_BYTES];
	char text[2 * LINE_MAX_BYTES - 256];
	char when[32];
	struct tm tm;
	time_t now = time(NULL);
	int n;

	gmtime_r(&now, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	text_escape(text, sizeof(text), message, true);
	n = snprintf(line, sizeof(line),
		     copy_json ? "{\"level\":\"%s\",\"msg\":\"%s\","
				 "\"time\":\"%s\"}\n"
			       : "level=%s msg=\"%s\" time=\"%s\"\n",
		     name, text, when);
	(void)util_write_all(copy_fd, line, (size_t)n);
}

/* One write(2) a line, so that lines of several threads do not mix. */
static void write_line(enum log_level level, const char *message)
{
	char line[2 * LINE_MAX_BYTES];
	char text[2 * LINE_MAX_BYTES - 256];
	int n;

	text_escape(text, sizeof(text), message, log_json);
	if (log_json) {
		struct timespec now;

		clock_gettime(CLOCK_REALTIME, &now);
		n = snprintf(line, sizeof(line),
			     "{\"level\":\"%s\",\"time\":%lld.%06ld,"
			     "\"msg\":\"%s\"}%s",
			     level_names[level], (long long)now.tv_sec,
			     now.tv_nsec / 1000, text, line_end());
	} else {
		n = snprintf(line, sizeof(line), "bulkhead: %s%s%s%s",
			     level == LOG_ERROR ? "" : level_names[level],
			     level == LOG_ERROR ? "" : ": ", text, line_end());
	}
	/* A failed write cannot be reported anywhere. */
	(void)util_write_all(STDERR_FILENO, line, (size_t)n);
}

static void emit(enum log_level level, const char *message)
{
	char text[80];
	unsigned n;

	if (!is_read())
		return;
	n = __atomic_exchange_n(&lost, 0, __ATOMIC_RELAXED);
	if (n > 0) {
		snprintf(text, sizeof(text),
			 "%u messages were lost: nobody read them", n);
		write_line(LOG_WARN, text);
	}
	/* There was room for one line. */
	if (n == 0 || is_read())
		write_line(level, message);
}

static void log_va(enum log_level level, const char *format, va_list ap)
{
	char message[LINE_MAX_BYTES];
	int saved = errno;

	if (!log_enabled(level))
		return;
	vsnprintf(message, sizeof(message), format, ap);
	emit(level, message);
	if (copy_fd >= 0)
		emit_copy(level, message);
	errno = saved;
}

void log_at(enum log_level level, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	log_va(level, format, ap);
	va_end(ap);
}

int log_ret(int code, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	log_va(LOG_ERROR, format, ap);
	va_end(ap);
	return code;
}

void log_guest(struct log_limit *limit, const char *format, ...)
{
	const uint64_t window = UINT64_C(10000000000);
	const uint32_t lines_per_window = 10;
	uint64_t now = util_now_ns();
	uint64_t start = __atomic_load_n(&limit->window_ns, __ATOMIC_RELAXED);
	va_list ap;

	/*
	 * One thread opens the new window; a thread that loses the race loses
	 * its line.
	 */
	if (now - start > window &&
	    __atomic_compare_exchange_n(&limit->window_ns, &start, now, false,
					__ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
		uint32_t dropped = __atomic_exchange_n(&limit->dropped, 0,
						       __ATOMIC_RELAXED);

		__atomic_store_n(&limit->count, 0, __ATOMIC_RELAXED);
		if (dropped)
			log_warn("%u messages about the guest were dropped",
				 dropped);
	}
	if (__atomic_fetch_add(&limit->count, 1, __ATOMIC_RELAXED) >=
	    lines_per_window) {
		__atomic_fetch_add(&limit->dropped, 1, __ATOMIC_RELAXED);
		return;
	}
	va_start(ap, format);
	log_va(LOG_WARN, format, ap);
	va_end(ap);
}
