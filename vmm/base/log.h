/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one sink for messages to the user: a line of text, or of JSON, on
 * standard error. An error is logged once, at the lowest place that can name
 * the object; everyone above only returns the code.
 */
#ifndef VMM_BASE_LOG_H
#define VMM_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Sets level and form for the process. Before the first thread starts. */
void log_setup(enum log_level level, bool json);

/*
 * Has each line go to FD, too, in the form that engines read from an OCI
 * runtime (logrus's): JSON, or text. FD is kept. Before the first thread
 * starts.
 */
void log_copy(int fd, bool json);

/* "error", "warn", "info", "debug". 0 or -EINVAL. */
int log_parse_level(const char *text, enum log_level *ret_level);

bool log_enabled(enum log_level level);

/*
 * One line; adds the newline and escapes what text.h does not show. Waits for
 * the reader a second at most; then the line is lost, and so are those that
 * follow, at once, until it reads again: a message says how many.
 */
void log_at(enum log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)

/* Logs an error and returns CODE: `return log_ret(-errno, "...")`. */
int log_ret(int code, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * Logs what the guest does wrong: a misbehaving guest must not fill the host's
 * log. At most 10 lines in 10 s pass for one limit; the next one that passes
 * says how many were dropped. Any thread; the limit needs no lock of its own.
 */
struct log_limit {
	uint64_t window_ns;
	uint32_t count;
	uint32_t dropped;
};
void log_guest(struct log_limit *limit, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
