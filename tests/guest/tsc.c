/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prints the rate of this machine's time stamp counter in kHz, however busy the
 * machine is: each of two readings of the clock is the one of many that the
 * counter says took the least time, so that nothing came between.
 */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

#define TRIES    1000
#define APART_NS 100000000

struct reading {
	uint64_t tsc, ns;
};

static struct reading take(void)
{
	struct reading best = {0};
	uint64_t least = UINT64_MAX;

	for (unsigned i = 0; i < TRIES; i++) {
		struct timespec now;
		uint64_t before, took;

		before = __rdtsc();
		clock_gettime(CLOCK_MONOTONIC_RAW, &now);
		took = __rdtsc() - before;
		if (took >= least)
			continue;
		least = took;
		best.tsc = before + took / 2;
		best.ns = (uint64_t)now.tv_sec * 1000000000 +
			  (uint64_t)now.tv_nsec;
	}
	return best;
}

int main(void)
{
	const struct timespec pause = {.tv_nsec = APART_NS};
	const struct reading first = take();
	struct reading last;

	nanosleep(&pause, NULL);
	last = take();
	printf("%" PRIu64 "\n",
	       (last.tsc - first.tsc) * 1000000 / (last.ns - first.ns));
	return 0;
}
