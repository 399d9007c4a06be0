/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the fuzz targets that drive a device: the input as a sequence of
 * little-endian operands, an assertion that NDEBUG leaves, and a turn of the
 * event loop without a thread.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include "tests/vdriver.h"
#include "vmm/base/loop.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

struct input {
	const uint8_t *at, *end;
};

/* The next operand, of BYTES, at most 8; past the input's end it is zeroes. */
static inline uint64_t take(struct input *in, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes && in->at < in->end; i++)
		value |= (uint64_t)*in->at++ << 8 * i;
	return value;
}

/* Ends the program, with WHAT on standard error, unless CONDITION holds. */
static inline void check(bool condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "%s: %s\n", program_invocation_short_name, what);
	abort();
}

/* Handlers of everything that is ready, here and now. How many, or -1. */
static inline int turn_loop(const struct loop *loop, int timeout_ms)
{
	struct epoll_event event[16];
	const int n = epoll_wait(loop->epoll_fd, event, 16, timeout_ms);

	for (int i = 0; i < n; i++) {
		struct loop_source *source = event[i].data.ptr;

		if (source && source->added)
			source->fn(source, event[i].events);
	}
	return n;
}

/*
 * A descriptor of queue Q as the input has it, made available. The driver's own
 * books know nothing of it.
 */
static inline void add_raw(struct vdriver *v, struct input *in, unsigned q)
{
	const unsigned i = (unsigned)take(in, 1) % v->queue[q].size;
	const uint64_t addr = take(in, 4);
	const uint32_t len = (uint32_t)take(in, 3);
	const uint16_t flags = (uint16_t)take(in, 1);

	vdriver_set_desc(vdriver_desc(v, q, i), addr, len, flags,
			 (uint16_t)take(in, 1));
	vdriver_avail(v, q, (uint16_t)i);
}

#endif
