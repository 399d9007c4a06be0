/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's half of starting a process: pipes, namespaces, and the report of
 * how it went, which comes through a socket that exec closes.
 */
#include "firmware/init/process.h"

#include "vmm/util.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* A root that hangs must not hang the agent. */
#define START_SECONDS 60

#define MAIN_NAMESPACES                                                        \
	(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC |            \
	 CLONE_NEWCGROUP)

static int fail(struct init_failure *f, const char *what)
{
	return init_fail(f, INIT_STATUS_SETUP, errno, "%s", what);
}

static int open_pid(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* A pipe whose end on our side does not wait; FORWARD: we write. */
static int make_pipe(int *ret_ours, int *ret_theirs, bool forward)
{
	int fd[2];

	if (pipe2(fd, O_CLOEXEC) < 0)
		return -1;
	*ret_ours = fd[forward];
	*ret_theirs = fd[!forward];
	return fcntl(*ret_ours, F_SETFL, O_NONBLOCK);
}

static void close_all(int *fd, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		util_close(&fd[i]);
		fd[i] = -1;
	}
}

static void child_close(struct init_child *child)
{
	if (child->in_fd != child->out_fd)
		util_close(&child->in_fd);
	util_close(&child->out_fd);
	util_close(&child->err_fd);
	util_close(&child->slave_fd);
	*child = INIT_CHILD_NONE;
}

/* THEIRS: standard input, output and error of the new process. */
static int make_pipes(const struct init_start *start, struct init_child *child,
		      int theirs[3])
{
	if (start->flags & AGENT_START_TTY)
		return 0;
	if (start->flags & AGENT_START_STDIN &&
	    make_pipe(&child->in_fd, &theirs[0], true) < 0)
		return -1;
	if (make_pipe(&child->out_fd, &theirs[1], false) < 0)
		return -1;
	return make_pipe(&child->err_fd, &theirs[2], false);
}

/* It makes the namespaces then, and enters them. */
static bool has_crun(const struct container *box)
{
	return !box->plain && box->config->oci;
}

/* A fork() into new namespaces, for the container's first process. */
static pid_t fork_main(const struct container *box)
{
	if (box->plain || has_crun(box))
		return fork();
	return (pid_t)syscall(SYS_clone, MAIN_NAMESPACES | SIGCHLD, NULL, NULL,
			      NULL, 0L);
}

/*
 * A fork() whose child is a process of the container's PID namespace, but
 * still the agent's child: that is who has to reap it.
 */
static pid_t fork_other(const struct container *box)
{
	autofd int own = -1;
	pid_t pid;
	int saved;

	if (box->plain || has_crun(box))
		return fork();
	own = open_pid(getpid());
	if (own < 0 || setns(box->main_fd, CLONE_NEWPID) < 0)
		return -1;
	pid = fork();
	saved = errno;
	if (pid != 0 && setns(own, CLONE_NEWPID) < 0)
		init_say("cannot return to the first PID namespace: %s",
			 strerror(errno));
	errno = saved;
	return pid;
}

/* One report: its bytes, 0 when the program runs, -1. */
static ssize_t receive_report(int fd, struct process_report *ret, int fds[2])
{
	union {
		char bytes[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {ret, sizeof(*ret)};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	const struct cmsghdr *c;
	ssize_t n;

	do {
		n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
	if (c && c->cmsg_type == SCM_RIGHTS &&
	    c->cmsg_len == CMSG_LEN(2 * sizeof(int)))
		memcpy(fds, CMSG_DATA(c), 2 * sizeof(int));
	return n;
}

/*
 * Until the new process has become its program, or has had it started. 0, or
 * -1: it has not.
 */
static int await_program(int fd, struct init_child *child,
			 struct init_failure *f)
{
	const struct timeval limit = {.tv_sec = START_SECONDS};
	struct process_report report = {0};

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	for (;;) {
		int fds[2] = {-1, -1};
		ssize_t n = receive_report(fd, &report, fds);

		if (n == 0)
			return 0;
		if (n != sizeof(report)) {
			errno = n < 0 ? errno : EPROTO;
			return init_fail(f, INIT_STATUS_SETUP,
					 errno == EAGAIN ? ETIMEDOUT : errno,
					 "start the process");
		}
		if (report.kind == PROCESS_FAILED) {
			*f = report.failure;
			return -1;
		}
		child->inside = report.inside;
		child->pid = report.pid;
		if (fds[0] < 0)
			continue;
		child->in_fd = fds[0];
		child->out_fd = fds[0];
		child->slave_fd = fds[1];
		if (fcntl(fds[0], F_SETFL, O_NONBLOCK) < 0)
			return fail(f, "terminal");
	}
}

static int watch_main(struct container *box, pid_t pid, struct init_failure *f)
{
	char path[64];

	/* crun finds its containers itself; their mounts are ours, too. */
	if (box->plain || has_crun(box)) {
		box->main_pid = pid;
		return 0;
	}
	box->main_fd = open_pid(pid);
	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)pid);
	box->mounts_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (box->main_fd < 0 || box->mounts_fd < 0)
		return fail(f, path);
	box->main_pid = pid;
	return 0;
}

void process_main_ended(struct container *box)
{
	util_close(&box->main_fd);
	box->main_fd = -1;
	box->main_pid = 0;
}

/* PID has had the process started, which is left to the agent as its parent. */
static void take_orphan(struct container *box, pid_t pid, bool is_main,
			struct init_child *child)
{
	if (child->pid == 0) {
		child->pid = pid;
		return;
	}
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	if (is_main)
		box->main_pid = child->pid;
}

static int start_failed(pid_t pid, struct init_child *child, int theirs[3])
{
	if (pid > 0) {
		kill(pid, SIGKILL);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	close_all(theirs, 3);
	child_close(child);
	return -1;
}

int process_start(struct container *box, const struct init_start *start,
		  struct init_child *ret, struct init_failure *f)
{
	const bool is_main = start->flags & AGENT_START_MAIN;
	struct init_child child = INIT_CHILD_NONE;
	int theirs[3] = {-1, -1, -1};
	autofd int ours = -1;
	int report[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, report) < 0)
		return fail(f, "socket pair");
	ours = report[0];
	pid = -1;
	if (make_pipes(start, &child, theirs) == 0)
		pid = is_main ? fork_main(box) : fork_other(box);
	if (pid == 0) {
		process_child(&(struct process_side){
			.box = box,
			.start = start,
			.report_fd = report[1],
			.in = theirs[0],
			.out = theirs[1],
			.err = theirs[2],
		});
	}
	if (pid < 0)
		fail(f, "start a process");
	close(report[1]);
	if (pid < 0 || (is_main && watch_main(box, pid, f)) ||
	    await_program(ours, &child, f)) {
		if (is_main) {
			process_main_ended(box);
			util_close(&box->mounts_fd);
			box->mounts_fd = -1;
		}
		return start_failed(pid, &child, theirs);
	}
	close_all(theirs, 3);
	take_orphan(box, pid, is_main, &child);
	*ret = child;
	return 0;
}
