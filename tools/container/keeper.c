/* SPDX-License-Identifier: Apache-2.0 */
/* Forks without exec: the less a process does, the less can end it early. */
#include "tools/container/keeper.h"

#include "tools/instance/instance.h"
#include "vmm/base/log.h"
#include "vmm/base/streams.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* From the supervisor's death to that of the monitor, which follows it. */
#define MONITOR_TIMEOUT_MS 30000
#define WATCHED_FD         3

/*
 * Nobody waits for the end of this process's streams, no lock is its own, no
 * directory is kept busy by it.
 */
static int let_go(int *watched_fd)
{
	static const int none[3] = {STREAM_NULL, STREAM_NULL, STREAM_NULL};
	/* Signals from the terminal are not meant for this process. */
	const int r = streams_detach(none);

	if (r < 0)
		return r;
	if (*watched_fd != WATCHED_FD && dup2(*watched_fd, WATCHED_FD) < 0)
		return -errno;
	*watched_fd = WATCHED_FD;
	if (syscall(SYS_close_range, WATCHED_FD + 1, ~0U, 0) < 0)
		return -errno;
	return chdir("/") < 0 ? -errno : 0;
}

static void wait_for_end(int watched_fd)
{
	struct pollfd pfd = {.fd = watched_fd, .events = POLLIN};

	while (poll(&pfd, 1, -1) < 0 && errno == EINTR)
		;
}

static int keep(const struct instance *instance, int watched_fd)
{
	sigset_t none;

	(void)prctl(PR_SET_NAME, "bulkhead-keep");
	if (let_go(&watched_fd) < 0)
		return 1;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	wait_for_end(watched_fd);
	instance_sweep_one(instance->name, MONITOR_TIMEOUT_MS);
	return 0;
}

int keeper_start(const struct instance *instance, pid_t *ret_pid)
{
	autofd int self_fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	pid_t pid;

	if (self_fd < 0)
		return log_ret(-errno, "this process: %s", strerror(errno));
	pid = fork();
	if (pid == 0)
		_exit(keep(instance, self_fd));
	if (pid < 0)
		return log_ret(-errno, "cannot fork: %s", strerror(errno));
	*ret_pid = pid;
	return 0;
}

void keeper_stop(pid_t pid)
{
	if (pid <= 0)
		return;
	/* The keeper has nothing to clean up, and may have been stopped. */
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}
