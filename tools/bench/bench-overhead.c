/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The time that the bench adds to its own figures: the same program by
 * bench_group_run(), and by vfork(2), execve(2) and waitpid(2) alone.
 */
#include "tools/bench/bench-observer.h"
#include "tools/bench/bench.h"

#include "vmm/base/log.h"
#include "vmm/base/text.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>

static double does_not_run(const char *program, int status)
{
	autofree char *name = text_printable(program);

	return log_ret(-1, "'%s' does not run: status %d", name ? name : "",
		       status);
}

static double not_executed(const char *program, int error)
{
	autofree char *name = text_printable(program);

	return log_ret(-1, "'%s' cannot be executed: %s: give a program's path",
		       name ? name : "", strerror(error));
}

/* From exec to the end, in ms, with nothing in between; < 0: logged. */
static double run_bare(char *const *argv, int null_fd)
{
	/* The child has this memory until it executes. */
	volatile uint64_t exec_ns = 0;
	volatile int error = 0;
	int status = 0;
	const pid_t pid = vfork();

	if (pid == 0) {
		for (int fd = 0; fd < 3; fd++)
			(void)dup2(null_fd, fd);
		exec_ns = util_now_ns();
		execvp(argv[0], argv);
		error = errno;
		_exit(255);
	}
	if (pid < 0)
		return log_ret(-1, "cannot fork: %s", strerror(errno));
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (error)
		return not_executed(argv[0], error);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return does_not_run(
			argv[0], WIFEXITED(status) ? WEXITSTATUS(status) : 255);
	return (double)(util_now_ns() - exec_ns) / 1e6;
}

static double run_measured(char *const *argv, struct bench_signals *signals,
			   struct bench_observer *observer)
{
	const struct bench_start start = {.argv = argv,
					  .in_fd = -1,
					  .out_fd = -1,
					  .err_fd = -1,
					  .mount_ns = -1,
					  .signals = signals};
	struct bench_end end = {.status = 255};
	struct bench_group group = {
		.start = &start, .end = &end, .count = 1, .observer = observer};

	if (bench_group_run(&group) < 0)
		return -1;
	return end.status == 0 ? (double)end.at_ns[BENCH_EXIT] / 1e6
			       : does_not_run(argv[0], end.status);
}

/* They take turns, and so does the first one of a turn. */
static int run_both(char *const *argv, unsigned runs,
		    struct bench_signals *signals,
		    struct bench_observer *observer, double *bare,
		    double *measured)
{
	autofd int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null_fd < 0)
		return bench_no_file("a run's input");
	for (unsigned i = 0; i < runs; i++) {
		/* It begins, as it knows why a program is not executed. */
		if (i % 2 == 0)
			bare[i] = run_bare(argv, null_fd);
		if (bare[i] >= 0)
			measured[i] = run_measured(argv, signals, observer);
		if (i % 2 && measured[i] >= 0)
			bare[i] = run_bare(argv, null_fd);
		if (signals->came)
			return -EINTR;
		if (bare[i] < 0 || measured[i] < 0)
			return -EIO;
	}
	return 0;
}

int bench_overhead(char *const *argv, unsigned runs,
		   struct bench_signals *signals, struct bench_difference *ret)
{
	autofree double *bare = calloc(runs, sizeof(*bare));
	autofree double *measured = calloc(runs, sizeof(*measured));
	struct bench_samples a = {bare, runs}, b = {measured, runs};
	struct bench_observer observer = {0};
	int r = bare && measured ? observer_open(&observer, 1)
				 : log_ret(-ENOMEM, "out of memory");

	if (r == 0)
		r = run_both(argv, runs, signals, &observer, bare, measured);
	observer_close(&observer);
	return r < 0 ? r : bench_difference(&a, &b, ret);
}
