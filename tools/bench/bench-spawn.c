/* SPDX-License-Identifier: Apache-2.0 */
/* One timed run of a program, and the mounts it is to see. */
#include "tools/bench/bench.h"

#include "vmm/base/log.h"
#include "vmm/base/streams.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define STATUS_NONE 255

void bench_signals_take(struct bench_signals *signals)
{
	static const int list[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGCHLD};

	sigemptyset(&signals->awaited);
	for (unsigned i = 0; i < ARRAY_LEN(list); i++)
		sigaddset(&signals->awaited, list[i]);
	sigprocmask(SIG_BLOCK, &signals->awaited, &signals->before);
	signals->came = 0;
}

/*
 * Linux takes no lock for the position in such a file: of two lines written at
 * once one was lost. Those that are appended exclude each other.
 */
int bench_messages(void)
{
	autofd int fd = memfd_create("bench-messages", MFD_CLOEXEC);

	if (fd < 0 || fcntl(fd, F_SETFL, O_APPEND) < 0)
		return -1;
	return take_fd(&fd);
}

/* ---- the child */

static void become(const struct bench_start *start)
{
	const int from[3] = {STREAM_NULL, STREAM_NULL,
			     start->err_fd < 0 ? STREAM_NULL : start->err_fd};

	/* This program ignores it; others may count on it. */
	(void)signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_SETMASK, &start->signals->before, NULL);
	if (start->mount_ns >= 0 && setns(start->mount_ns, CLONE_NEWNS) < 0)
		_exit(STATUS_NONE);
	if (streams_set(from) < 0)
		_exit(STATUS_NONE);
	execvp(start->argv[0], start->argv);
	_exit(STATUS_NONE);
}

/* ---- the parent */

/* A signal that ends the bench also ends the program that it runs. */
static pid_t await(pid_t pid, struct bench_signals *signals, int *ret_status,
		   struct rusage *ret_usage)
{
	for (;;) {
		pid_t done = wait4(pid, ret_status, WNOHANG, ret_usage);
		int n;

		if (done != 0)
			return done;
		n = sigwaitinfo(&signals->awaited, NULL);
		if (n > 0 && n != SIGCHLD) {
			signals->came = n;
			kill(pid, SIGTERM);
		}
	}
}

static double ms_of(const struct timeval *time)
{
	return (double)time->tv_sec * 1e3 + (double)time->tv_usec / 1e3;
}

void bench_spawn(const struct bench_start *start, struct bench_end *ret)
{
	const uint64_t start_ns = util_now_ns();
	struct rusage usage = {0};
	int status = 0;
	pid_t pid = fork();

	*ret = (struct bench_end){.status = STATUS_NONE};
	if (pid == 0)
		become(start);
	if (pid < 0) {
		log_error("cannot fork: %s", strerror(errno));
		return;
	}
	if (await(pid, start->signals, &status, &usage) != pid)
		return;
	ret->ms = (double)(util_now_ns() - start_ns) / 1e6;
	ret->cpu_ms = ms_of(&usage.ru_utime) + ms_of(&usage.ru_stime);
	if (WIFEXITED(status))
		ret->status = WEXITSTATUS(status);
}

/* ---- a host whose cgroups are of both versions */

/* In a child of its own: tells by a byte that its mounts are made. */
static void make_mounts(int ready_fd, int end_fd)
{
	char byte = 0;

	if (unshare(CLONE_NEWNS) == 0 &&
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	    umount2("/sys/fs/cgroup/unified", MNT_DETACH) == 0)
		(void)util_write_all(ready_fd, &byte, 1);
	close(ready_fd);
	/* Until the namespace is held elsewhere. */
	(void)!read(end_fd, &byte, 1);
	_exit(0);
}

static int open_namespace(pid_t pid, int ready_fd)
{
	char path[40];
	char byte;
	int fd;

	if (read(ready_fd, &byte, 1) != 1)
		return -EPERM;
	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int bench_without_hybrid(void)
{
	int ready[2], end[2];
	pid_t pid;
	int fd;

	if (pipe2(ready, O_CLOEXEC) < 0)
		return -errno;
	if (pipe2(end, O_CLOEXEC) < 0) {
		fd = -errno;
		close(ready[0]);
		close(ready[1]);
		return fd;
	}
	pid = fork();
	if (pid == 0) {
		close(end[1]);
		make_mounts(ready[1], end[0]);
	}
	close(ready[1]);
	close(end[0]);
	fd = pid < 0 ? -errno : open_namespace(pid, ready[0]);
	close(ready[0]);
	close(end[1]);
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return fd;
}
