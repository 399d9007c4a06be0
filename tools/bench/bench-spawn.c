/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts programs and takes the times at which they come to their marks. The
 * clock is read by the child just before exec, and by this process when poll(2)
 * says that output or an end is there.
 */
#include "tools/bench/bench-observer.h"
#include "tools/bench/bench.h"

#include "vmm/base/log.h"
#include "vmm/base/streams.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define STATUS_NONE 255
/* From the request to end until it is not a request any more. */
#define GRACE_NS (UINT64_C(5) * 1000000000)

void bench_signals_take(struct bench_signals *signals)
{
	static const int list[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};

	sigemptyset(&signals->awaited);
	for (unsigned i = 0; i < ARRAY_LEN(list); i++)
		sigaddset(&signals->awaited, list[i]);
	sigprocmask(SIG_BLOCK, &signals->awaited, &signals->before);
	signals->came = 0;
	if (getrlimit(RLIMIT_NOFILE, &signals->files_before) == 0) {
		struct rlimit most = signals->files_before;

		most.rlim_cur = most.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &most);
	}
}

void bench_signals_look(struct bench_signals *signals)
{
	const struct timespec now = {0};
	int n = sigtimedwait(&signals->awaited, NULL, &now);

	if (n > 0)
		signals->came = n;
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

/* This process's memory is the child's, too: nothing of it is changed. */
static void become(const struct bench_start *start, int out_fd,
		   volatile uint64_t *exec_ns)
{
	const int from[3] = {
		start->in_fd < 0 ? STREAM_NULL : start->in_fd,
		out_fd < 0 ? STREAM_NULL : out_fd,
		start->err_fd < 0 ? STREAM_NULL : start->err_fd,
	};

	/* This program ignores it; others may count on it. */
	(void)signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_SETMASK, &start->signals->before, NULL);
	if (start->own_group)
		(void)setpgid(0, 0);
	if (start->mount_ns >= 0 && setns(start->mount_ns, CLONE_NEWNS) < 0)
		_exit(STATUS_NONE);
	if (streams_set(from) < 0)
		_exit(STATUS_NONE);
	/* Some programs take longer the more files they could have open. */
	if (start->signals->files_before.rlim_max > 0)
		(void)setrlimit(RLIMIT_NOFILE, &start->signals->files_before);
	*exec_ns = util_now_ns();
	execvpe(start->argv[0], start->argv,
		start->environment ? start->environment : environ);
	_exit(STATUS_NONE);
}

/* ---- the parent */

enum { WATCH_END, WATCH_OUTPUT, WATCHES };

struct running {
	struct bench_running run; /* .pid 0: not started, or ended */
	uint64_t started_ns;
	bool asked; /* to end */
};

struct loop {
	struct bench_group *group;
	struct bench_signals *signals;
	struct running *running;
	struct pollfd *poll; /* WATCHES for each, then the signals' */
	unsigned started, ended;
	int error;        /* of this program's: no more are started */
	uint64_t next_ns; /* the next one is to start */
};

static double ms_of(const struct timeval *time)
{
	return (double)time->tv_sec * 1e3 + (double)time->tv_usec / 1e3;
}

/*
 * vfork() neither copies page tables nor lets this process run before the child
 * executes: less of what is measured waits for less of what is not.
 */
static pid_t start_child(const struct bench_start *start, int pipe_fd,
			 volatile uint64_t *exec_ns)
{
	const uint64_t now_ns = util_now_ns();
	const pid_t pid = vfork();

	if (pid == 0)
		become(start, pipe_fd >= 0 ? pipe_fd : start->out_fd, exec_ns);
	/* Where vfork() is fork(), as with ThreadSanitizer, it cannot tell. */
	if (*exec_ns == 0)
		*exec_ns = now_ns;
	return pid;
}

int bench_no_file(const char *what)
{
	const int error = errno;
	const bool many = error == EMFILE || error == ENFILE;

	return log_ret(
		-error, "cannot make %s: %s%s", what, strerror(error),
		many ? ": raise the limit of open files (ulimit -Hn), or "
		       "start fewer at once"
		     : "");
}

int bench_run_start(const struct bench_start *start, struct bench_running *ret)
{
	/*
	 * The pipe's other end stays open here: when the child closes its own,
	 * it would wake this process once more, in the middle of its exit.
	 */
	int pipe_fd[2] = {-1, -1};
	int r;

	*ret = (struct bench_running){
		.out_fd = -1, .end_fd = -1, .pipe_fd = -1};
	if (start->out_fd < 0 && pipe2(pipe_fd, O_CLOEXEC) < 0)
		return bench_no_file("a pipe");
	if (pipe_fd[0] >= 0)
		(void)fcntl(pipe_fd[0], F_SETFL, O_NONBLOCK);
	ret->out_fd = pipe_fd[0];
	ret->pipe_fd = pipe_fd[1];
	ret->pid = start_child(start, pipe_fd[1], &ret->exec_ns);
	if (ret->pid < 0) {
		r = log_ret(-errno, "cannot fork: %s", strerror(errno));
		ret->pid = 0;
		bench_run_close(ret);
		return r;
	}
	ret->end_fd = (int)syscall(SYS_pidfd_open, ret->pid, 0);
	if (ret->end_fd >= 0)
		return 0;
	r = bench_no_file("a watch of a process");
	kill(ret->pid, SIGKILL);
	(void)waitpid(ret->pid, NULL, 0);
	ret->pid = 0;
	bench_run_close(ret);
	return r;
}

void bench_run_close(struct bench_running *run)
{
	util_close(&run->out_fd);
	util_close(&run->end_fd);
	util_close(&run->pipe_fd);
}

/* ---- several, until their ends */

static struct pollfd *watch(struct loop *loop, unsigned i, unsigned what)
{
	return &loop->poll[i * WATCHES + what];
}

/* 0 or -errno, logged. */
static int start_one(struct loop *loop, unsigned i)
{
	struct running *running = &loop->running[i];
	int r;

	running->started_ns = util_now_ns();
	r = bench_run_start(&loop->group->start[i], &running->run);
	loop->group->end[i].pid = running->run.pid;
	watch(loop, i, WATCH_OUTPUT)->fd = running->run.out_fd;
	watch(loop, i, WATCH_END)->fd = running->run.end_fd;
	return r;
}

static void close_watches(struct loop *loop, unsigned i)
{
	watch(loop, i, WATCH_OUTPUT)->fd = -1;
	watch(loop, i, WATCH_END)->fd = -1;
	bench_run_close(&loop->running[i].run);
}

static uint64_t since(uint64_t now_ns, uint64_t exec_ns)
{
	return exec_ns && now_ns > exec_ns ? now_ns - exec_ns : 0;
}

static void take_output(struct loop *loop, unsigned i, uint64_t now_ns)
{
	struct bench_end *end = &loop->group->end[i];
	struct pollfd *poll = watch(loop, i, WATCH_OUTPUT);
	char buf[4096];
	ssize_t n;

	while ((n = read(poll->fd, buf, sizeof(buf))) > 0)
		if (!end->at_ns[BENCH_OUTPUT])
			end->at_ns[BENCH_OUTPUT] =
				since(now_ns, loop->running[i].run.exec_ns);
}

static void take_end(struct loop *loop, unsigned i, uint64_t now_ns)
{
	struct bench_end *end = &loop->group->end[i];
	struct bench_running *run = &loop->running[i].run;
	struct rusage usage = {0};
	int status = 0;

	if (watch(loop, i, WATCH_OUTPUT)->fd >= 0)
		take_output(loop, i, now_ns);
	/* Nobody can have its number as long as it is not waited for. */
	if (loop->running[i].asked && loop->group->start[i].own_group)
		kill(-run->pid, SIGKILL);
	if (wait4(run->pid, &status, 0, &usage) == run->pid) {
		end->exec_ns = run->exec_ns;
		end->at_ns[BENCH_EXIT] = since(now_ns, end->exec_ns);
		end->cpu_ms = ms_of(&usage.ru_utime) + ms_of(&usage.ru_stime);
		if (WIFEXITED(status))
			end->status = WEXITSTATUS(status);
	}
	run->pid = 0;
	close_watches(loop, i);
	loop->ended++;
}

static void end_one(const struct loop *loop, unsigned i, int signo)
{
	const pid_t pid = loop->running[i].run.pid;

	if (!loop->group->start[i].own_group || kill(-pid, signo) < 0)
		kill(pid, signo);
}

/* A signal or an error that ends the bench also ends what it runs. */
static void ask_all_to_end(struct loop *loop)
{
	for (unsigned i = 0; i < loop->started; i++)
		if (loop->running[i].run.pid > 0) {
			end_one(loop, i, SIGTERM);
			loop->running[i].asked = true;
			loop->running[i].started_ns = util_now_ns();
		}
}

static void take_signal(struct loop *loop)
{
	struct signalfd_siginfo info;
	struct pollfd *poll = &loop->poll[loop->group->count * WATCHES];

	if (read(poll->fd, &info, sizeof(info)) == sizeof(info))
		loop->signals->came = (int)info.ssi_signo;
	if (loop->signals->came)
		ask_all_to_end(loop);
}

/* Ends those that take too long; when to look again, or UINT64_MAX. */
static uint64_t enforce_limits(struct loop *loop, uint64_t now_ns)
{
	const uint64_t limit_ns = loop->group->limit_ns;
	uint64_t next_ns = UINT64_MAX;

	for (unsigned i = 0; i < loop->started; i++) {
		struct running *run = &loop->running[i];
		uint64_t due_ns =
			run->started_ns + (run->asked ? GRACE_NS : limit_ns);

		if (run->run.pid == 0 || (!run->asked && limit_ns == 0))
			continue;
		if (now_ns >= due_ns) {
			end_one(loop, i, run->asked ? SIGKILL : SIGTERM);
			loop->group->end[i].late = true;
			run->asked = true;
			run->started_ns = now_ns;
			due_ns = now_ns + GRACE_NS;
		}
		if (due_ns < next_ns)
			next_ns = due_ns;
	}
	return next_ns;
}

static bool starts_more(const struct loop *loop)
{
	return loop->started < loop->group->count && loop->error == 0 &&
	       !loop->signals->came;
}

/* Starts those whose time has come; when the next one's has. */
static uint64_t start_due(struct loop *loop, uint64_t now_ns)
{
	struct bench_group *group = loop->group;

	while (starts_more(loop) && now_ns >= loop->next_ns) {
		const unsigned i = loop->started++;

		loop->next_ns += group->interval_ns;
		if (group->start[i].argv)
			loop->error = start_one(loop, i);
		if (loop->running[i].run.pid == 0) {
			close_watches(loop, i);
			loop->ended++;
		}
		if (loop->error < 0)
			ask_all_to_end(loop);
	}
	return starts_more(loop) ? loop->next_ns : UINT64_MAX;
}

static bool is_over(const struct loop *loop)
{
	return loop->ended == loop->started && !starts_more(loop);
}

static void turn(struct loop *loop)
{
	const unsigned count = loop->group->count;
	uint64_t now_ns = util_now_ns();
	const uint64_t start_ns = start_due(loop, now_ns);
	const uint64_t limit_ns = enforce_limits(loop, now_ns);
	const uint64_t due_ns = start_ns < limit_ns ? start_ns : limit_ns;
	struct timespec wait = {0};

	/* None of the last ones may have been started. */
	if (is_over(loop))
		return;
	if (due_ns > now_ns) {
		wait.tv_sec = (time_t)((due_ns - now_ns) / 1000000000);
		wait.tv_nsec = (long)((due_ns - now_ns) % 1000000000);
	}
	if (ppoll(loop->poll, count * WATCHES + 1,
		  due_ns == UINT64_MAX ? NULL : &wait, NULL) < 0)
		return;
	now_ns = util_now_ns();
	for (unsigned i = 0; i < loop->started; i++) {
		if (watch(loop, i, WATCH_OUTPUT)->fd >= 0 &&
		    watch(loop, i, WATCH_OUTPUT)->revents)
			take_output(loop, i, now_ns);
		if (watch(loop, i, WATCH_END)->fd >= 0 &&
		    watch(loop, i, WATCH_END)->revents)
			take_end(loop, i, now_ns);
	}
	if (loop->poll[count * WATCHES].revents)
		take_signal(loop);
}

/*
 * Whether COUNT runs can be started when OPEN is the number of a file that was
 * opened just now: a pipe and a pidfd for each, and those that a child has for
 * a moment. poll(2) takes no more of them than may be open, either.
 */
static bool has_files(unsigned open, unsigned count)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_NOFILE, &limit) < 0 ||
	       open + 3 * (rlim_t)count + 8 <= limit.rlim_cur;
}

/* 0 or -ENOMEM, logged. */
static int take_observed(struct bench_group *group)
{
	autofree struct observer_run *runs =
		calloc(group->count, sizeof(*runs));
	int r = 0;

	if (!group->observer)
		return 0;
	if (!runs)
		return log_ret(-ENOMEM, "out of memory");
	for (unsigned i = 0; i < group->count; i++) {
		const struct bench_end *end = &group->end[i];

		runs[i] = (struct observer_run){
			.pid = end->pid,
			.from_ns = end->exec_ns,
			.until_ns = end->exec_ns + end->at_ns[BENCH_EXIT],
		};
	}
	r = observer_end(group->observer, runs, group->count);
	for (unsigned i = 0; r == 0 && i < group->count; i++) {
		struct bench_end *end = &group->end[i];

		end->at_ns[BENCH_GUEST] = since(runs[i].entry_ns, end->exec_ns);
		end->at_ns[BENCH_PID1] = since(runs[i].init_ns, end->exec_ns);
		end->at_ns[BENCH_RESIDENT] =
			since(runs[i].resident_ns, end->exec_ns);
		end->faults = runs[i].faults * OBSERVER_FAULT_PERIOD;
	}
	return r;
}

int bench_group_run(struct bench_group *group)
{
	const unsigned count = group->count;
	struct loop loop = {.group = group, .signals = group->start[0].signals};
	autofd int signal_fd = signalfd(-1, &loop.signals->awaited,
					SFD_CLOEXEC | SFD_NONBLOCK);
	autofree struct pollfd *poll =
		calloc(count * WATCHES + 1, sizeof(*poll));
	autofree struct running *running = calloc(count, sizeof(*running));
	int r;

	for (unsigned i = 0; i < count; i++)
		group->end[i] = (struct bench_end){.status = STATUS_NONE};
	if (signal_fd < 0)
		return bench_no_file("a watch of signals");
	if (!has_files((unsigned)signal_fd, count)) {
		errno = EMFILE;
		return bench_no_file("so many runs at once");
	}
	if (!poll || !running)
		return log_ret(-ENOMEM, "out of memory");
	loop.poll = poll;
	loop.running = running;
	for (unsigned i = 0; i < count; i++)
		running[i].run = (struct bench_running){
			.out_fd = -1, .end_fd = -1, .pipe_fd = -1};
	for (unsigned i = 0; i < count * WATCHES; i++)
		poll[i] = (struct pollfd){.fd = -1, .events = POLLIN};
	poll[count * WATCHES] =
		(struct pollfd){.fd = signal_fd, .events = POLLIN};
	observer_begin(group->observer);
	loop.next_ns = util_now_ns();
	while (!is_over(&loop))
		turn(&loop);
	r = take_observed(group);
	return loop.error < 0 ? loop.error : r;
}

int bench_spawn(const struct bench_start *start, unsigned limit_s,
		struct bench_end *ret)
{
	struct bench_group group = {
		.start = start,
		.end = ret,
		.count = 1,
		.limit_ns = limit_s * UINT64_C(1000000000),
	};

	*ret = (struct bench_end){.status = STATUS_NONE};
	return bench_group_run(&group);
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
