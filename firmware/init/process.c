/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's half of starting a process: pipes, namespaces, and the report of
 * how it went, which comes through a socket that exec closes.
 */
#include "firmware/init/process.h"

#include "vmm/base/descriptors.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

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

/*
 * The container's first process is born in its namespaces: nothing else is in
 * there that could look at it. Others, and the first one of a container without
 * a PID namespace of its own, get there through a process of the
 * agent's own namespaces, which drops what the container must not see.
 */
static pid_t fork_process(const struct process_side *side)
{
	const struct container *box = side->box;
	const bool is_main =
		!side->start || side->start->flags & AGENT_START_MAIN;

	if (box->plain || has_crun(box) || !is_main || process_shares_pids(box))
		return fork();
	return cgroup_fork(&box->group, process_namespaces(box), 0);
}

/* The sender and the descriptors that came with a report. */
struct extras {
	pid_t sender;
	int fds[2]; /* owned; -1 */
};

static void take_extra(const struct cmsghdr *c, struct extras *ret)
{
	const size_t bytes = c->cmsg_len - CMSG_LEN(0);
	struct ucred who;

	if (c->cmsg_level != SOL_SOCKET)
		return;
	if (c->cmsg_type == SCM_CREDENTIALS && bytes == sizeof(who)) {
		memcpy(&who, CMSG_DATA(c), sizeof(who));
		ret->sender = who.pid;
	} else if (c->cmsg_type == SCM_RIGHTS && bytes <= sizeof(ret->fds)) {
		memcpy(ret->fds, CMSG_DATA(c), bytes);
	}
}

/* One report: its bytes, 0 when nobody is left to send any, -1. */
static ssize_t receive_report(int fd, struct process_report *ret,
			      struct extras *extras)
{
	union {
		char bytes[CMSG_SPACE(2 * sizeof(int)) +
			   CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {ret, sizeof(*ret)};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n;

	*extras = (struct extras){.fds = {-1, -1}};
	do {
		n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c;
	     c = CMSG_NXTHDR(&msg, c))
		take_extra(c, extras);
	return n;
}

static int watch_main(struct container *box, pid_t pid, struct init_failure *f)
{
	char path[64];

	/* crun finds its containers itself; their mounts are ours, too. */
	if (box->plain || has_crun(box)) {
		box->main_pid = pid;
		return 0;
	}
	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)pid);
	box->main_fd = open_pid(pid);
	/*
	 * One that was born elsewhere may have been reaped before its first
	 * report is read; those that follow say why it ended.
	 */
	if (box->main_fd < 0 && errno == ESRCH && process_shares_pids(box)) {
		box->main_pid = pid;
		return 0;
	}
	/*
	 * The mounts of others go with their processes, which write back what
	 * they owe before their end is known.
	 */
	if (box->main_fd >= 0 && !box->first)
		box->mounts_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (box->main_fd < 0 || (!box->first && box->mounts_fd < 0))
		return fail(f, path);
	box->main_pid = pid;
	return 0;
}

void process_main_ended(struct container *box)
{
	util_close(&box->main_fd);
	util_close(&box->wait_fd);
	box->main_pid = 0;
	box->running = false;
}

void process_abandon(struct container *box, struct process_starting *p)
{
	/* Not one that has been reaped: its number may be another's now. */
	if (p->pid > 0)
		kill(p->pid, SIGKILL);
	if (p->child.pid > 0 && p->child.pid != p->pid && !p->ended)
		kill(p->child.pid, SIGKILL);
	if (p->is_main) {
		process_main_ended(box);
		util_close(&box->mounts_fd);
	}
	util_close(&p->report_fd);
	child_close(&p->child);
	*p = PROCESS_STARTING_NONE;
}

/* Forks the process of SIDE, whose other end P gets. 0 or -1. */
static int start_process(struct container *box, struct process_side *side,
			 struct process_starting *p, struct init_failure *f)
{
	const int on = 1;
	int report[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, report) < 0)
		return fail(f, "socket pair");
	p->report_fd = report[0];
	p->pid = -1;
	if (setsockopt(p->report_fd, SOL_SOCKET, SO_PASSCRED, &on,
		       sizeof(on)) == 0) {
		side->report_fd = report[1];
		p->pid = fork_process(side);
	}
	if (p->pid == 0)
		process_child(side);
	if (p->pid < 0)
		fail(f, "start a process");
	close(report[1]);
	return p->pid < 0 || (p->is_main && !process_shares_pids(box) &&
			      watch_main(box, p->pid, f))
		       ? -1
		       : 0;
}

int process_prepare(struct container *box, struct process_starting *ret,
		    struct init_failure *f)
{
	struct process_starting p = PROCESS_STARTING_NONE;
	struct process_side side = {.box = box, .in = -1, .out = -1, .err = -1};

	p.is_main = true;
	p.prepares = true;
	if (!box->plain && cgroup_make(&box->group, box->config, f))
		return -1;
	if (start_process(box, &side, &p, f)) {
		process_abandon(box, &p);
		return -1;
	}
	*ret = p;
	return 0;
}

/* ---- one that waits */

/* A file without a name, with the items of CONFIGURE and of START. */
static int make_request(const struct init_config *config,
			const struct init_start *start)
{
	autofd int fd = memfd_create("start", MFD_CLOEXEC);

	if (fd < 0 || util_write_all(fd, config->bytes, config->nbytes) < 0 ||
	    util_write_all(fd, start->bytes, start->nbytes) < 0 ||
	    lseek(fd, 0, SEEK_SET) < 0)
		return -1;
	return take_fd(&fd);
}

static int send_go(const struct container *box, const struct init_start *start,
		   const int theirs[3])
{
	const struct process_go go = {
		.config_bytes = box->config->nbytes,
		.start_bytes = start->nbytes,
		.has = {theirs[0] >= 0, theirs[1] >= 0, theirs[2] >= 0},
	};
	autofd int request = make_request(box->config, start);
	ssize_t n;

	if (request < 0)
		return -1;
	n = descriptors_send(box->wait_fd, &go, sizeof(go), &request, 1);
	for (unsigned i = 0; n >= 0 && i < 3; i++) {
		if (theirs[i] >= 0)
			n = descriptors_send(box->wait_fd, "", 1, &theirs[i],
					     1);
	}
	errno = n < 0 ? (int)-n : 0;
	return n < 0 ? -1 : 0;
}

/* Has it become P. 0 or -1. */
static int wake(struct container *box, const struct init_start *start,
		const int theirs[3], struct process_starting *p,
		struct init_failure *f)
{
	if (box->wait_fd < 0)
		return init_fail(f, INIT_STATUS_SETUP, 0,
				 "start the process: it was killed");
	if (send_go(box, start, theirs) < 0)
		return fail(f, "wake the process");
	p->pid = box->main_pid;
	p->report_fd = box->wait_fd;
	box->wait_fd = -1;
	return 0;
}

/* ---- */

int process_begin(struct container *box, const struct init_start *start,
		  struct process_starting *ret, struct init_failure *f)
{
	struct process_starting p = PROCESS_STARTING_NONE;
	struct process_side side = {.box = box, .start = start};
	int theirs[3] = {-1, -1, -1};
	int r;

	p.is_main = start->flags & AGENT_START_MAIN;
	if (p.is_main && !box->plain && !has_crun(box) && !box->prepared &&
	    cgroup_make(&box->group, box->config, f))
		return -1;
	r = make_pipes(start, &p.child, theirs);
	side.in = theirs[0];
	side.out = theirs[1];
	side.err = theirs[2];
	if (r < 0)
		r = fail(f, "start a process");
	else if (p.is_main && box->prepared)
		r = wake(box, start, theirs, &p, f);
	else
		r = start_process(box, &side, &p, f);
	close_all(theirs, 3);
	if (r < 0) {
		process_abandon(box, &p);
		return -1;
	}
	*ret = p;
	return 0;
}

/* The terminal's two ends, or none. 0 or -1. */
static int take_terminal(struct process_starting *p, struct extras *extras)
{
	if (extras->fds[0] < 0)
		return 0;
	p->child.in_fd = extras->fds[0];
	p->child.out_fd = extras->fds[0];
	p->child.slave_fd = extras->fds[1];
	extras->fds[0] = -1;
	extras->fds[1] = -1;
	if (p->child.slave_fd < 0)
		return -1;
	return fcntl(p->child.out_fd, F_SETFL, O_NONBLOCK);
}

/*
 * With crun the report names the process: crun's caller sends it, from outside
 * of the container. Otherwise the sender is the process.
 */
static int take_ready(struct container *box, struct process_starting *p,
		      const struct process_report *report,
		      struct extras *extras, struct init_failure *f)
{
	if (p->ready || extras->sender <= 0) {
		errno = EPROTO;
		return fail(f, "start the process");
	}
	p->ready = true;
	p->child.inside = report->inside;
	p->child.pid = has_crun(box) ? report->pid : extras->sender;
	if (p->is_main)
		box->main_pid = p->child.pid;
	if (take_terminal(p, extras) < 0)
		return fail(f, "terminal");
	if (p->is_main && has_crun(box))
		return cgroup_adopt(&box->group, "/sys/fs/cgroup", f);
	return 0;
}

static int take_report(struct container *box, struct process_starting *p,
		       struct process_report *report, struct extras *extras,
		       struct init_failure *f)
{
	switch (report->kind) {
	case PROCESS_BORN:
		p->child.pid = extras->sender;
		return p->is_main ? watch_main(box, p->child.pid, f) : 0;
	case PROCESS_READY:
		return take_ready(box, p, report, extras, f);
	case PROCESS_PREPARED:
		if (!p->prepares)
			break;
		p->ready = true;
		return 0;
	case PROCESS_FAILED:
		*f = report->failure;
		f->text[sizeof(f->text) - 1] = 0;
		if (f->status < INIT_STATUS_SETUP ||
		    f->status > INIT_STATUS_NOT_FOUND)
			f->status = INIT_STATUS_SETUP;
		return -1;
	}
	errno = EPROTO;
	return fail(f, "start the process");
}

int process_proceed(struct container *box, struct process_starting *p,
		    struct init_failure *f)
{
	for (;;) {
		struct process_report report = {0};
		struct extras extras;
		ssize_t n = receive_report(p->report_fd, &report, &extras);
		int r = 0;

		if (n < 0 && errno == EAGAIN)
			return 0;
		/* Its end of the socket goes with exec, or with the process. */
		if (n == 0 && p->ready)
			break;
		if (n == 0) {
			r = init_fail(f, INIT_STATUS_SETUP, 0,
				      "start the process: it was killed");
		} else if (n == sizeof(report)) {
			r = take_report(box, p, &report, &extras, f);
		} else {
			errno = n < 0 ? errno : EPROTO;
			r = fail(f, "start the process");
		}
		util_close(&extras.fds[0]);
		util_close(&extras.fds[1]);
		if (r < 0) {
			process_abandon(box, p);
			return -1;
		}
		if (p->prepares && p->ready) {
			box->wait_fd = p->report_fd;
			box->prepared = true;
			*p = PROCESS_STARTING_NONE;
			return 1;
		}
	}
	util_close(&p->report_fd);
	if (!p->is_main && !p->ended && !box->plain && !has_crun(box))
		process_drop_priority(p->child.pid);
	if (p->is_main)
		box->running = !p->ended;
	return 1;
}
