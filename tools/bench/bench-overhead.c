/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The time that the bench adds to its own figures: the same program by
 * bench_group_run(), and by vfork(2), execve(2) and waitpid(2) alone.
 */
#include "tools/bench/bench.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>

/* From exec to the end, in ms, with nothing in between; < 0: logged. */
static double run_bare(char *const *argv)
{
	/* The child has this memory until it executes. */
	volatile uint64_t exec_ns = 0;
	int status = 0;
	const pid_t pid = vfork();

	if (pid == 0) {
		exec_ns = util_now_ns();
		execve(argv[0], argv, environ);
		_exit(255);
	}
	if (pid < 0)
		return log_ret(-1, "cannot fork: %s", strerror(errno));
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return log_ret(-1, "'%s' does not run", argv[0]);
	return (double)(util_now_ns() - exec_ns) / 1e6;
}

static double run_measured(char *const *argv, struct bench_signals *signals)
{
	const struct bench_start start = {.argv = argv,
					  .in_fd = -1,
					  .out_fd = -1,
					  .err_fd = -1,
					  .mount_ns = -1,
					  .signals = signals};
	struct bench_end end;

	bench_spawn(&start, &end);
	return end.status == 0 ? (double)end.at_ns[BENCH_EXIT] / 1e6
			       : log_ret(-1, "'%s' does not run", argv[0]);
}

int bench_overhead(char *const *argv, unsigned runs,
		   struct bench_signals *signals, struct bench_difference *ret)
{
	autofree double *bare = calloc(runs, sizeof(*bare));
	autofree double *measured = calloc(runs, sizeof(*measured));
	struct bench_samples a = {bare, runs}, b = {measured, runs};

	if (!bare || !measured)
		return log_ret(-ENOMEM, "out of memory");
	/* They take turns, and so does the first one of a turn. */
	for (unsigned i = 0; i < runs; i++) {
		if (i % 2)
			bare[i] = run_bare(argv);
		measured[i] = run_measured(argv, signals);
		if (i % 2 == 0)
			bare[i] = run_bare(argv);
		if (signals->came)
			return -EINTR;
		if (bare[i] < 0 || measured[i] < 0)
			return -EIO;
	}
	return bench_difference(&a, &b, ret);
}
