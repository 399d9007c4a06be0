/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The test guest: one static program that is PID 1 of the guests the
 * integration tests boot, and, started on the host, the other end of their
 * network. It runs a list of actions; each says "ok NAME" or "FAIL NAME: why".
 */
#ifndef TESTS_GUEST_GUEST_H
#define TESTS_GUEST_GUEST_H

#include <stddef.h>
#include <stdint.h>

#define GUEST_ARGS 8
/* An action that takes longer hangs; machines are slow, and do other things. */
#define PATIENCE_S 300

struct action {
	const char *name;
	int nargs; /* at least so many arguments besides the name */
	/* 0, or -1 after guest_fail(); a fact to report goes to say(). */
	int (*run)(char **arg);
	const char *help;
};

/* Each ends with a NULL name. */
extern const struct action machine_actions[];
extern const struct action process_actions[];
extern const struct action entry_actions[];
extern const struct action block_actions[];
extern const struct action fs_actions[];
extern const struct action fsbench_actions[];
extern const struct action fslock_actions[];
extern const struct action net_actions[];
extern const struct action stream_actions[];
extern const struct action vsock_actions[];
extern const struct action bench_actions[];
extern const struct action offer_actions[];
extern const struct action contained_actions[];

/* One line of output, in one write. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Says why an action failed (errno is appended if not 0); returns -1. */
int guest_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

uint64_t guest_number(const char *text); /* takes K, M and G */
void guest_mounts(void);                 /* proc, sys, dev; once */
/* Reads a small file, without the newline at its end. 0 or -1. */
int guest_read(const char *path, char *buf, size_t bytes);
double guest_now(void); /* seconds, monotonic */

/*
 * The byte pattern that belongs at OFFSET (a multiple of 8) of a disk or stream
 * called SEED.
 */
void pattern_fill(void *buf, size_t bytes, uint64_t offset, uint64_t seed);
/* -1 if all of it is right, else the index of the first wrong byte. */
long pattern_check(const void *buf, size_t bytes, uint64_t offset,
		   uint64_t seed);

#endif
