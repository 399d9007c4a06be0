/* SPDX-License-Identifier: Apache-2.0 */
/* A container's life behind the back of who has started it: -d. */
#include "tools/container/run.h"

#include "vmm/base/streams.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static int to_background(void)
{
	static const int from[3] = {STREAM_NULL, STREAM_NULL, STREAM_KEEP};
	const int r = streams_detach(from);

	return r < 0 ? log_ret(r, "going to the background: %s", strerror(-r))
		     : 0;
}

int supervise_behind(struct run *run, int ready_fd)
{
	return to_background() < 0 ? RUN_EXIT_FAILED : supervise(run, ready_fd);
}

int supervise_await(int fd, const char *name)
{
	int status;
	ssize_t n;

	do {
		n = read(fd, &status, sizeof(status));
	} while (n < 0 && errno == EINTR);
	if (n != sizeof(status))
		return log_ret(RUN_EXIT_FAILED,
			       "'%s': what started it was killed", name);
	if (status == 0)
		puts(name);
	return status;
}

int supervise_detached(struct run *run)
{
	int ends[2];
	int status;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return log_ret(RUN_EXIT_FAILED, "pipe: %s", strerror(errno));
	pid = fork();
	if (pid == 0) {
		close(ends[0]);
		return supervise_behind(run, ends[1]);
	}
	run_release_signals(run);
	close(ends[1]);
	status = pid < 0 ? log_ret(RUN_EXIT_FAILED, "cannot fork: %s",
				   strerror(errno))
			 : supervise_await(ends[0], run->instance.name);
	close(ends[0]);
	return status;
}
