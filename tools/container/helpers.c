/* SPDX-License-Identifier: Apache-2.0 */
/* Finding a monitor's helpers, and waiting for their end. */
#include "tools/container/helpers.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Each round kills all that were there when it began. */
#define ROUNDS_MAX 1000

void helpers_find(struct helpers *ret)
{
	char path[64];
	FILE *from;
	int pid;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children",
		 (int)getpid());
	ret->n = 0;
	ret->known = true;
	from = fopen(path, "re");
	while (from && ret->n < HELPERS_MAX && fscanf(from, "%d", &pid) == 1)
		ret->pid[ret->n++] = pid;
	if (from)
		fclose(from);
}

void helpers_begin(struct helpers *ret)
{
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	helpers_find(ret);
	/* There may be more that are nobody's helpers. */
	ret->known = ret->n < HELPERS_MAX;
}

static bool has(const struct helpers *all, pid_t pid)
{
	for (unsigned i = 0; i < all->n; i++) {
		if (all->pid[i] == pid)
			return true;
	}
	return false;
}

static void await_one(pid_t pid, uint64_t end_ns)
{
	autofd int fd = pidfd_open(pid, 0);
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	int n = fd < 0;

	while (n == 0 || (n < 0 && errno == EINTR)) {
		const uint64_t now = util_now_ns();

		if (now >= end_ns)
			break;
		n = poll(&pfd, 1, (int)((end_ns - now) / 1000000) + 1);
	}
	/* Also where it cannot be waited for: there is no process to spare. */
	if (n <= 0 || fd < 0)
		kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/* How many there were. */
static unsigned await_all(const struct helpers *before, uint64_t end_ns)
{
	struct helpers now;
	unsigned others = 0;

	helpers_find(&now);
	for (unsigned i = 0; i < now.n; i++) {
		if (has(before, now.pid[i]))
			continue;
		await_one(now.pid[i], end_ns);
		others++;
	}
	return others;
}

void helpers_await(const struct helpers *before, int timeout_ms)
{
	const uint64_t end =
		util_now_ns() + (uint64_t)timeout_ms * UINT64_C(1000000);
	unsigned rounds = 0;

	if (!before->known)
		return;
	/* One that was about to go to the background has left another one. */
	while (await_all(before, end) > 0) {
		if (++rounds == ROUNDS_MAX) {
			log_warn("its monitor leaves processes that cannot be "
				 "ended");
			return;
		}
	}
}
