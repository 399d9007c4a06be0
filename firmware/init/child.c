/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A new process does this with either runtime: it reports to the agent, takes
 * ordinary signals, and completes its environment.
 */
#include "firmware/init/process.h"

#include "vmm/base/descriptors.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OOM_SCORE "/proc/self/oom_score_adj"

/* The control group's namespace comes later: it is the group's, then. */
#define MAIN_NAMESPACES                                                        \
	(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC)

bool process_shares_pids(const struct container *box)
{
	return box->config->flags & AGENT_CONFIG_SHARE_PID;
}

uint64_t process_namespaces(const struct container *box)
{
	const uint32_t flags = box->config->flags;
	uint64_t ours = MAIN_NAMESPACES;

	if (flags & AGENT_CONFIG_SHARE_UTS)
		ours &= ~(uint64_t)CLONE_NEWUTS;
	if (flags & AGENT_CONFIG_SHARE_IPC)
		ours &= ~(uint64_t)CLONE_NEWIPC;
	if (flags & AGENT_CONFIG_SHARE_PID)
		ours &= ~(uint64_t)CLONE_NEWPID;
	return ours;
}

int process_tell(int fd, const struct process_report *r, const int fds[2])
{
	return descriptors_send(fd, r, sizeof(*r), fds, fds[0] < 0 ? 0 : 2) < 0
		       ? -1
		       : 0;
}

void process_tell_failure(int fd, const struct init_failure *f)
{
	const struct process_report r = {.kind = PROCESS_FAILED, .failure = *f};

	process_tell(fd, &r, (const int[]){-1, -1});
}

void process_reset_signals(void)
{
	sigset_t none;

	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

const char *process_env_get(const char *const *env, const char *name)
{
	const size_t n = strlen(name);

	for (; env && *env; env++) {
		if (strncmp(*env, name, n) == 0 && (*env)[n] == '=')
			return *env + n + 1;
	}
	return NULL;
}

const char **process_env(const struct init_start *s,
			 const struct init_config *c, const char *home)
{
	const char **env = calloc(s->env.n + 5, sizeof(*env));
	const char *value[] = {
		AGENT_PATH,
		c ? c->hostname : NULL,
		s->flags & AGENT_START_TTY ? "xterm" : NULL,
		home,
	};
	static const char *const name[] = {"PATH", "HOSTNAME", "TERM", "HOME"};
	size_t n = 0;

	if (!env)
		return NULL;
	for (unsigned i = 0; i < ARRAY_LEN(value); i++) {
		char *text;

		if (!value[i] || process_env_get(s->env.list, name[i]))
			continue;
		if (asprintf(&text, "%s=%s", name[i], value[i]) < 0)
			return NULL;
		env[n++] = text;
	}
	for (size_t i = 0; i < s->env.n; i++)
		env[n++] = s->env.list[i];
	return env;
}

/* ---- the agent's own things */

static int compare_fds(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

int process_keep_only(const int *fds, unsigned n)
{
	unsigned next = STDERR_FILENO + 1;
	int sorted[8];

	memcpy(sorted, fds, n * sizeof(*fds));
	qsort(sorted, n, sizeof(*sorted), compare_fds);
	for (unsigned i = 0; i < n; i++) {
		const unsigned fd = (unsigned)sorted[i];

		if (sorted[i] < (int)next)
			continue;
		if (fd > next && syscall(SYS_close_range, next, fd - 1, 0U) < 0)
			return -1;
		next = fd + 1;
	}
	return (int)syscall(SYS_close_range, next, ~0U, 0U);
}

/* ---- */

int process_open_oom_score(void)
{
	return open(OOM_SCORE, O_WRONLY | O_CLOEXEC);
}

int process_set_oom_score(const struct init_start *s, int fd,
			  struct init_failure *f)
{
	if (s->oom_score_adj == 0)
		return 0;
	return fd < 0 || dprintf(fd, "%d", s->oom_score_adj) < 0
		       ? init_fail_path(f, errno, "write", OOM_SCORE)
		       : 0;
}
