/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long tests wait. No test measures how fast this machine is, or how busy:
 * what has to come is waited for until it comes, and a limit only ends what
 * hangs; what must not come gets a moment to do so, in which a busy machine
 * can hide a mistake, but not make one up.
 */
#ifndef TESTS_PATIENCE_H
#define TESTS_PATIENCE_H

#include "vmm/base/util.h"

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* A thing that has not come by now hangs. */
#define PATIENCE_MS 300000
/* The moment given to what must not come. */
#define QUIET_MS 50

static inline uint64_t patience_ms_since(uint64_t start_ns)
{
	return (util_now_ns() - start_ns) / 1000000;
}

static inline void patience_sleep_ms(unsigned ms)
{
	const struct timespec t = {.tv_nsec = ms % 1000 * 1000000L,
				   .tv_sec = ms / 1000};

	nanosleep(&t, NULL);
}

/* Waits until COND is true; false: PATIENCE_MS have passed. */
#define wait_until(cond)                                                       \
	({                                                                     \
		const uint64_t start_ = util_now_ns();                         \
		bool is_ = (cond);                                             \
		while (!is_ && patience_ms_since(start_) < PATIENCE_MS) {      \
			patience_sleep_ms(1);                                  \
			is_ = (cond);                                          \
		}                                                              \
		is_;                                                           \
	})

#endif
