/* SPDX-License-Identifier: Apache-2.0 */
/* Waits for one child, and reaps all orphans meanwhile. */
#include "firmware/init/reaper.h"

#include "firmware/init/failure.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Waits for CHILD and whatever is left to it; passes signals on. */
static void __attribute__((noreturn)) reap_for(pid_t child)
{
	sigset_t all;

	sigfillset(&all);
	for (;;) {
		int n = sigwaitinfo(&all, NULL);
		int status;
		pid_t pid;

		if (n > 0 && n != SIGCHLD)
			kill(child, n);
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
			if (pid != child)
				continue;
			_exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status)
						  : WEXITSTATUS(status));
		}
	}
}

int reaper_leave(bool terminal)
{
	sigset_t all, none;
	pid_t pid;

	sigfillset(&all);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &all, NULL);
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid > 0) {
		syscall(SYS_close_range, 0U, ~0U, 0U);
		reap_for(pid);
	}
	/* Ctrl-C is for the program's group. SIGTTOU is blocked. */
	if (setpgid(0, 0) == 0 && terminal)
		tcsetpgrp(0, getpid());
	sigprocmask(SIG_SETMASK, &none, NULL);
	return 0;
}

int reaper_run(char *const argv[])
{
	int r = reaper_leave(isatty(STDIN_FILENO));

	if (r < 0) {
		dprintf(STDERR_FILENO, "start a process: %s\n", strerror(-r));
		return INIT_STATUS_SETUP;
	}
	execvp(argv[0], argv);
	r = errno;
	dprintf(STDERR_FILENO, "\"%s\": %s\n", argv[0], strerror(r));
	return r == ENOENT ? INIT_STATUS_NOT_FOUND : INIT_STATUS_NOT_RUN;
}
