/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In the new process, from fork to exec: its place, its standard input and
 * output, its limits, its user, its program. Every failure is reported to the
 * agent, and then nothing of it stays.
 */
#include "firmware/init/container.h"
#include "firmware/init/crun.h"
#include "firmware/init/mount.h"
#include "firmware/init/own.h"
#include "firmware/init/prepare.h"
#include "firmware/init/process.h"
#include "firmware/init/reaper.h"
#include "firmware/init/users.h"

#include "vmm/base/streams.h"
#include "vmm/base/util.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fail(struct init_failure *f, int error, const char *what)
{
	return init_fail(f, INIT_STATUS_SETUP, error, "%s", what);
}

/* ---- standard input and output */

/* A terminal of the container's own; its user may open it by name. */
static int open_terminal(const struct init_start *s, int fds[2],
			 struct init_failure *f)
{
	const struct winsize size = {
		.ws_row = le16toh(s->size.rows),
		.ws_col = le16toh(s->size.columns),
	};
	int unlock = 0;

	fds[0] = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (fds[0] < 0 || ioctl(fds[0], TIOCSPTLCK, &unlock) < 0)
		return fail(f, errno, "open a terminal");
	fds[1] = ioctl(fds[0], TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (fds[1] < 0)
		return fail(f, errno, "open a terminal");
	if (size.ws_row && size.ws_col)
		ioctl(fds[1], TIOCSWINSZ, &size);
	return 0;
}

static int take_stdio(const struct process_side *side, int slave,
		      struct init_failure *f)
{
	const int from[3] = {
		slave < 0 ? side->in : slave,
		slave < 0 ? side->out : slave,
		slave < 0 ? side->err : slave,
	};
	const int r = streams_detach(from);

	if (r < 0)
		return fail(f, -r, "standard input and output");
	if (slave >= 0 && ioctl(slave, TIOCSCTTY, 0) < 0)
		return fail(f, errno, "take the terminal");
	/* Nothing of the agent's gets into the container. */
	if (syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		return fail(f, errno, "close_range");
	return 0;
}

/* ---- limits and privileges */

static int set_limits(const struct init_start *s, struct init_failure *f)
{
	const struct rlimit files = {PROCESS_FILES, PROCESS_FILES};
	const struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};

	setrlimit(RLIMIT_NOFILE, &files);
	setrlimit(RLIMIT_NPROC, &all);
	for (size_t i = 0; i < s->nrlimits; i++) {
		if (setrlimit(s->rlimits[i].resource, &s->rlimits[i].limit) < 0)
			return init_fail(f, INIT_STATUS_SETUP, errno,
					 "limit %d", s->rlimits[i].resource);
	}
	return 0;
}

/* Bounds the capabilities that a program of user 0 gets back at exec. */
static int bound_caps(uint64_t mask, struct init_failure *f)
{
	/* EINVAL: the kernel knows no such capability, nor higher ones. */
	for (unsigned cap = 0; cap < 64; cap++) {
		if (mask >> cap & 1)
			continue;
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			return errno == EINVAL && cap > CAP_SETFCAP
				       ? 0
				       : fail(f, errno, "drop a capability");
	}
	return 0;
}

static int set_caps(const struct init_caps *caps, struct init_failure *f)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[2];

	/* A mask may have more than this kernel knows. */
	if (syscall(SYS_capget, &header, data) < 0)
		return fail(f, errno, "read capabilities");
	for (int i = 0; i < 2; i++) {
		const uint32_t known = data[i].permitted;

		data[i].permitted &= (uint32_t)(caps->permitted >> (32 * i));
		data[i].effective =
			known & (uint32_t)(caps->effective >> (32 * i));
		data[i].inheritable =
			known & (uint32_t)(caps->inheritable >> (32 * i));
	}
	if (syscall(SYS_capset, &header, data) < 0)
		return fail(f, errno, "set capabilities");
	for (unsigned cap = 0; cap < 64; cap++) {
		if (caps->ambient >> cap & 1 &&
		    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0)
			return fail(f, errno, "set ambient capabilities");
	}
	return 0;
}

static int filter_calls(const struct init_start *s, struct init_failure *f)
{
	const struct sock_fprog program = {s->nfilter, s->filter};

	if (s->filter && syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
				 s->filter_flags, &program) < 0)
		return fail(f, errno, "filter system calls");
	return 0;
}

/* Those that the permitted ones allow; a change of the user has taken them. */
static int regain_caps(struct init_failure *f)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data) < 0)
		return fail(f, errno, "read capabilities");
	for (int i = 0; i < 2; i++)
		data[i].effective = data[i].permitted;
	if (syscall(SYS_capset, &header, data) < 0)
		return fail(f, errno, "keep capabilities");
	return 0;
}

/*
 * The permitted ones outlive the change of the user, to be limited after it.
 */
static int change_user(const struct init_user *user, struct init_failure *f)
{
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		return fail(f, errno, "keep capabilities");
	if (setgroups(user->ngroups, user->groups) < 0 ||
	    setresgid(user->gid, user->gid, user->gid) < 0 ||
	    setresuid(user->uid, user->uid, user->uid) < 0)
		return init_fail(f, INIT_STATUS_SETUP, errno,
				 "become user %u, group %u", user->uid,
				 user->gid);
	if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0)
		return fail(f, errno, "keep capabilities");
	return 0;
}

/*
 * Without no_new_privs a filter of system calls takes CAP_SYS_ADMIN, so it
 * comes before the capabilities go; with it, last. In both cases the one who
 * reaps has it, too: the container's processes may trace that one.
 */
static int confine(const struct process_side *side,
		   const struct init_user *user, struct init_failure *f)
{
	const struct init_start *s = side->start;
	const bool no_new_privs = s->flags & AGENT_START_NO_NEW_PRIVS;
	const struct init_caps caps = init_start_caps(s, user->uid);

	if (!side->box->plain &&
	    (bound_caps(caps.bounding, f) || change_user(user, f)))
		return -1;
	if (!no_new_privs && s->filter &&
	    ((!side->box->plain && regain_caps(f)) || filter_calls(s, f)))
		return -1;
	if (!side->box->plain && set_caps(&caps, f))
		return -1;
	if (!no_new_privs)
		return 0;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return fail(f, errno, "no_new_privs");
	return filter_calls(s, f);
}

/* Makes a missing one, as Docker does for the main process. */
static int enter_directory(const struct process_side *side,
			   struct init_failure *f)
{
	const char *cwd = side->start->cwd ? side->start->cwd : "/";

	if (side->start->flags & AGENT_START_MAIN && !side->box->plain) {
		autofd int root = open("/", O_PATH | O_CLOEXEC);
		int fd = root_make(root, cwd, true);

		util_close(&fd);
	}
	if (chdir(cwd) < 0)
		return init_fail(f,
				 errno == ENOENT ? INIT_STATUS_NOT_FOUND
						 : INIT_STATUS_NOT_RUN,
				 errno, "change to directory '%s'", cwd);
	return 0;
}

/* ---- the program */

/* Says in `docker run`'s words why an execve() of PATH failed. */
static int fail_exec(const char *path, int error, struct init_failure *f)
{
	if (error == ENOENT && access(path, F_OK) == 0)
		return init_fail(f, INIT_STATUS_NOT_FOUND, error,
				 "\"%s\": its interpreter", path);
	if (error == ENOENT || error == ENOTDIR)
		return init_fail(f, INIT_STATUS_NOT_FOUND, error, "\"%s\"",
				 path);
	return init_fail(f, INIT_STATUS_NOT_RUN, error, "\"%s\"", path);
}

static int exec_path(const char *path, const struct init_start *s,
		     const char **env, struct init_failure *f)
{
	execve(path, (char *const *)(uintptr_t)s->args.list,
	       (char *const *)(uintptr_t)env);
	return fail_exec(path, errno, f);
}

/*
 * Tries the files of that name along PATH, as execvp(3) does: one that may not
 * be run is passed over, and only told of when there is no other. -1, or 0:
 * there is none.
 */
static int search_program(const char *path, const struct init_start *s,
			  const char **env, struct init_failure *f)
{
	const char *name = s->args.list[0];
	int found = 0;

	while (path && name[0]) {
		const size_t n = strcspn(path, ":");
		char file[PATH_MAX];
		struct stat st;
		const int bytes =
			snprintf(file, sizeof(file), "%.*s/%s", n ? (int)n : 1,
				 n ? path : ".", name);

		path = path[n] ? path + n + 1 : NULL;
		if (bytes >= PATH_MAX || stat(file, &st) < 0 ||
		    !S_ISREG(st.st_mode))
			continue;
		found = exec_path(file, s, env, f);
		if (f->error != EACCES)
			break;
	}
	return found;
}

/* Returns only when there is no program to become: -1. */
static int exec_program(const struct init_start *s, const char **env,
			struct init_failure *f)
{
	const char *name = s->args.list[0];

	if (strchr(name, '/'))
		return exec_path(name, s, env, f);
	if (search_program(process_env_get(env, "PATH"), s, env, f))
		return -1;
	return init_fail(f, INIT_STATUS_NOT_FOUND, 0,
			 "\"%s\": executable file not found in $PATH", name);
}

/* ---- all of it */

/*
 * In its first process, which may share namespaces with the machine's own.
 */
static int make_container(const struct container *box, struct init_failure *f)
{
	const uint64_t own = process_namespaces(box);
	const int shared = (int)(~own & (CLONE_NEWUTS | CLONE_NEWIPC));
	autofd int root = -1;

	if (box->first && shared && setns(box->first->main_fd, shared) < 0)
		return fail(f, errno, "enter the machine's own container");
	/* Else it was born in its own. */
	if (process_shares_pids(box) && unshare((int)own) < 0)
		return fail(f, errno, "a container's namespaces");
	if (unshare(CLONE_NEWCGROUP) < 0)
		return fail(f, errno, "a control group's namespace");
	root = container_make(box->config, f);
	return root < 0 ? -1 : container_finish(root, NULL, box->config, f);
}

static int enter(const struct process_side *side, struct init_failure *f)
{
	const struct container *box = side->box;

	if (box->plain)
		return 0;
	if (side->start->flags & AGENT_START_MAIN)
		return make_container(box, f);
	if (setns(box->main_fd, CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC |
					CLONE_NEWCGROUP) < 0)
		return fail(f, errno, "enter the container");
	return 0;
}

static int set_up_terminal(const struct process_side *side,
			   const struct init_user *user, int tty[2],
			   struct init_failure *f)
{
	int r;

	if (!(side->start->flags & AGENT_START_TTY))
		return 0;
	if (open_terminal(side->start, tty, f))
		return -1;
	if (side->box->plain)
		return 0;
	if (fchown(tty[1], user->uid, (gid_t)-1) < 0)
		return fail(f, errno, "give the terminal to its user");
	r = side->start->flags & AGENT_START_MAIN ? container_console(tty[1])
						  : 0;
	return r < 0 ? fail(f, -r, "make '/dev/console'") : 0;
}

/* In its place already. */
static int become(const struct process_side *side, struct init_failure *f)
{
	const struct init_start *s = side->start;
	struct process_report ready = {.kind = PROCESS_READY};
	struct init_user user = {.home = "/"};
	int tty[2] = {-1, -1};
	const char **env;

	if (!side->box->plain &&
	    users_resolve("/etc/passwd", "/etc/group", s->user, s->groups.list,
			  &user, f))
		return -1;
	if (set_up_terminal(side, &user, tty, f) || enter_directory(side, f) ||
	    take_stdio(side, tty[1], f))
		return -1;
	env = process_env(s, side->box->config, user.home);
	if (!env)
		return fail(f, ENOMEM, "environment");
	ready.inside = s->flags & AGENT_START_INIT ? 2 : getpid();
	if (process_tell(side->report_fd, &ready, tty) < 0)
		return fail(f, errno, "report");
	if (s->flags & AGENT_START_MAIN)
		process_drop_priority(0);
	else if (!side->box->plain)
		process_slow_down();
	umask(s->umask);
	if (set_limits(s, f) || confine(side, &user, f))
		return -1;
	if (s->flags & AGENT_START_INIT) {
		int r = reaper_leave(s->flags & AGENT_START_TTY);

		if (r < 0)
			return fail(f, -r, "start a process");
	}
	return exec_program(s, env, f);
}

static int run(const struct process_side *side, struct init_failure *f)
{
	autofd int oom_fd = process_open_oom_score();

	process_reset_signals();
	if (process_set_oom_score(side->start, oom_fd, f) || enter(side, f))
		return -1;
	return become(side, f);
}

static void __attribute__((noreturn))
fail_child(const struct process_side *side, const struct init_failure *f)
{
	process_tell_failure(side->report_fd, f);
	_exit(f->status);
}

/* The process whose PID namespace the new one is born in: a pidfd. */
static int way_in(const struct process_side *side)
{
	return side->start->flags & AGENT_START_MAIN ? side->box->first->main_fd
						     : side->box->main_fd;
}

/*
 * The process that becomes the program, in the container's PID namespace, where
 * others may look into it at once: it has nothing of the agent's but a view of
 * control groups that changes nothing, a way into the container's own, and its
 * end of the report's socket, with which it can only speak of itself. FULL: it
 * is not in the container's group yet, which has as many processes as it may
 * have; but this one may join.
 */
static void __attribute__((noreturn))
run_neighbour(const struct process_side *side, bool full)
{
	const struct container *box = side->box;
	const struct process_report born = {.kind = PROCESS_BORN};
	const int ours[] = {side->report_fd, side->in, side->out, side->err,
			    way_in(side)};
	struct init_failure f = {0};

	if (full && write(box->group.procs_fd, "0", 1) < 0)
		fail(&f, errno, "join the container's control group");
	else if (process_keep_only(ours, ARRAY_LEN(ours)) < 0 ||
		 process_tell(side->report_fd, &born, (const int[]){-1, -1}) <
			 0)
		fail(&f, errno, "start a process");
	else
		run(side, &f);
	fail_child(side, &f);
}

/*
 * A process of the container's PID namespace, but the agent's child, who has to
 * reap it: CLONE_PARENT. This one stays outside, unseen, and ends.
 */
static void __attribute__((noreturn))
send_neighbour(const struct process_side *side)
{
	const struct container *box = side->box;
	/* The agent's own lead to the machine's console. */
	static const int none[3] = {STREAM_NULL, STREAM_NULL, STREAM_NULL};
	const int ours[] = {side->report_fd,    side->in,
			    side->out,          side->err,
			    way_in(side),       box->group.view_fd,
			    box->group.procs_fd};
	struct init_failure f = {0};
	bool full = false;
	pid_t pid = -1;

	process_hurry();
	if (streams_set(none) == 0 &&
	    process_keep_only(ours, ARRAY_LEN(ours)) == 0 &&
	    setns(way_in(side), CLONE_NEWPID) == 0)
		pid = cgroup_fork(&box->group, CLONE_PARENT, box->main_pid);
	if (pid < 0 && errno == EAGAIN) {
		full = true;
		pid = cgroup_fork(NULL, CLONE_PARENT, 0);
	}
	if (pid == 0)
		run_neighbour(side, full);
	if (pid > 0)
		_exit(0);
	fail(&f, errno, "start a process");
	fail_child(side, &f);
}

void process_child(const struct process_side *side)
{
	const struct container *box = side->box;
	struct init_failure f = {0};

	if (!side->start) {
		struct prepared p;

		if (prepare_wait(side, &p, &f) == 0)
			become(&p.side, &f);
		fail_child(side, &f);
	}
	if (side->start->flags & AGENT_START_OWN)
		own_child(side);
	if (!box->plain && box->config->oci) {
		process_drop_priority(0);
		if (crun_start(side, &f) == 0)
			_exit(0);
		fail_child(side, &f);
	}
	if (!box->plain && (!(side->start->flags & AGENT_START_MAIN) ||
			    process_shares_pids(box)))
		send_neighbour(side);
	run(side, &f);
	fail_child(side, &f);
}
