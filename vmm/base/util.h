/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small things every file needs: cleanup attributes, checked arithmetic, whole
 * reads and writes, sizes with a suffix. Nothing here knows what a VM is.
 */
#ifndef VMM_BASE_UTIL_H
#define VMM_BASE_UTIL_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* A pointer to the object of TYPE whose MEMBER is at PTR. */
#define container_of(ptr, type, member)                                        \
	((type *)((char *)(ptr)-offsetof(type, member)))

static inline void util_free(void *pointer)
{
	free(*(void **)pointer);
}

/* Closes *FD if there is one, and makes it -1. */
static inline void util_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Locals that end with their scope: `autofree char *p = NULL;`. */
#define autofree __attribute__((cleanup(util_free)))
/* `autofd int fd = -1;` closes the descriptor when the scope ends. */
#define autofd __attribute__((cleanup(util_close)))

/* Hands an autofd's descriptor over: the local no longer closes it. */
static inline int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/* Hands an autofree's memory over. */
#define take_ptr(p)                                                            \
	({                                                                     \
		__auto_type taken_ = (p);                                      \
		(p) = NULL;                                                    \
		taken_;                                                        \
	})

/*
 * The set of those N SIGNALS that this process was not started to ignore, as
 * nohup(1) and a script's background job are. Only these may be blocked: a
 * blocked signal arrives even if it is ignored. Any thread.
 */
sigset_t util_signals(const int *signals, size_t n);

/*
 * Gives up the pages of the program's code and constants, most of which only
 * the start needed; the kernel maps those that are used again from the page
 * cache. (A debugger's breakpoints are lost: set them after this, or use
 * hbreak.)
 */
void util_drop_code(void);

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Rounds up to a power of two; the caller has checked it cannot wrap. */
static inline uint64_t align_up(uint64_t value, uint64_t power)
{
	return (value + power - 1) & ~(power - 1);
}

static inline uint64_t align_down(uint64_t value, uint64_t power)
{
	return value & ~(power - 1);
}

/* True when [start, start + len) lies within [0, limit), without wrapping. */
static inline bool range_fits(uint64_t start, uint64_t len, uint64_t limit)
{
	return start <= limit && len <= limit - start;
}

/*
 * Reads exactly LEN bytes at OFFSET. 0, -errno, or -ENODATA when the file ends
 * first. Any thread.
 */
int util_read_at(int fd, void *buf, size_t len, uint64_t offset);

/* Writes all LEN bytes at OFFSET. 0 or -errno. Any thread. */
int util_write_at(int fd, const void *buf, size_t len, uint64_t offset);

/*
 * All of a regular file's bytes, with a NUL behind them; the caller frees them.
 * 0, -errno, -EFBIG when there are more than MAX, -ENODATA when it becomes
 * shorter meanwhile. Any thread.
 */
int util_read_file(int fd, size_t max, char **ret_text, size_t *ret_bytes);

/*
 * All that comes from FD up to its end - a pipe, or a file of /proc, whose size
 * is not known before - as a text; the caller frees it. 0, -errno, or -EFBIG
 * when it has MAX bytes or more. Any thread.
 */
int util_read_stream(int fd, size_t max, char **ret_text);

/*
 * openat2(2) with RESOLVE_* flags, and O_CLOEXEC: the descriptor or -errno. A
 * rename anywhere on the host may make the kernel ask for another try, which it
 * gets. Any thread.
 */
int util_openat2(int dir, const char *path, int flags, uint64_t resolve);
/*
 * The same where PATH is a regular file: whatever else it is, is not opened, as
 * that waits for somebody (a pipe) or acts (a watchdog). -ENXIO: it is
 * something else.
 */
int util_open_regular(int dir, const char *path, int flags, uint64_t resolve);

/* Writes all LEN bytes to FD at its position. 0 or -errno. Any thread. */
int util_write_all(int fd, const void *buf, size_t len);

/*
 * A size: decimal or 0x number, optionally K, M, G or T (powers of 1024, either
 * case, "KiB" and "KB" alike). 0, -EINVAL (not a size) or -ERANGE.
 */
int util_parse_size(const char *text, uint64_t *ret_bytes);

/* A whole number in [min, max]. 0, -EINVAL or -ERANGE. */
int util_parse_number(const char *text, uint64_t min, uint64_t max,
		      uint64_t *ret_value);

/* Six octets as 02:00:5e:10:00:01. 0 or -EINVAL. */
int util_parse_mac(const char *text, uint8_t ret_mac[6]);

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t util_now_ns(void);

/*
 * Whether root is root of a part of the host's users only (user_namespaces(7)),
 * as in the containers of an ordinary user. False where /proc is not there.
 */
bool util_in_user_namespace(void);

#endif
