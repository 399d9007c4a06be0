/* SPDX-License-Identifier: Apache-2.0 */
/* From fork to the end of a program of the agent's own. */
#include "firmware/init/own.h"

#include "firmware/archive/pack.h"
#include "firmware/archive/unpack.h"
#include "firmware/init/connect.h"
#include "firmware/init/mount.h"
#include "firmware/init/names.h"
#include "firmware/init/net.h"
#include "firmware/init/top.h"
#include "vmm/base/log.h"
#include "vmm/base/streams.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Where the report's socket goes; nothing else of the agent's stays open. */
#define REPORT_FD 3
/* The container's memory can make a look at its processes hang. */
#define TOP_SECONDS 60

static int fail(struct init_failure *f, int error, const char *what)
{
	return init_fail(f, INIT_STATUS_SETUP, error, "%s", what);
}

/* The container's file of names, or -1: there is none that can be read. */
static int open_passwd(const struct container *box)
{
	autofd int root = -1;
	autofd int fd = -1;
	struct stat st;
	char path[40];

	snprintf(path, sizeof(path), "/proc/%d/root", (int)box->main_pid);
	root = open(box->plain ? "/" : path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return -1;
	fd = root_open(root, "/etc/passwd", O_PATH);
	/* A device node must not even be opened. */
	return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)
		       ? take_fd(&fd)
		       : -1;
}

static int run_top(const struct process_side *side)
{
	autofd int passwd = open_passwd(side->box);
	const char *group = side->box->group.path;
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", passwd);
	alarm(TOP_SECONDS);
	return top_print(stdout, "/proc", side->box->plain ? 1 : 2,
			 group[0] ? group : NULL, passwd < 0 ? NULL : path);
}

/* ---- files */

/*
 * Into the container's mounts, below its limits of memory; but not into its PID
 * namespace, where it would be seen.
 */
static int enter_files(const struct process_side *side, struct init_failure *f)
{
	const struct container *box = side->box;
	autofd int pid_fd = -1;
	int r;

	if (box->plain)
		return 0;
	pid_fd = (int)syscall(SYS_pidfd_open, box->main_pid, 0);
	r = pid_fd < 0 ? -errno : cgroup_join(&box->group, box->main_pid);
	if (r < 0)
		return fail(f, -r, "join the container's control group");
	if (setns(pid_fd, CLONE_NEWNS) < 0 || chdir("/") < 0)
		return fail(f, errno, "enter the container");
	return 0;
}

static int open_root(void)
{
	int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? log_ret(-errno, "'/': %s", strerror(errno)) : fd;
}

#define RESOLVE (RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)

static int run_pack(const struct process_side *side)
{
	const struct init_strings *args = &side->start->args;
	autofd int root = open_root();
	const struct pack_source source = {
		.root = root,
		.resolve = RESOLVE,
		.path = args->list[2],
		.follow = strchr(args->list[1], AGENT_OWN_FOLLOW),
	};

	return root < 0 || pack_tree(&source, STDOUT_FILENO) < 0;
}

static int run_unpack(const struct process_side *side)
{
	const struct init_strings *args = &side->start->args;
	const struct unpack_options options = {
		.as_is = strchr(args->list[1], AGENT_OWN_AS_IS),
		.owners = strchr(args->list[1], AGENT_OWN_OWNERS),
		.mode = 07777,
	};
	autofd int root = open_root();
	struct unpack_place place = {.dir = -1};
	int r = root < 0 ? root
			 : unpack_find(root, RESOLVE, args->list[2], &place);

	if (r == 0)
		r = unpack_archive(&place, &options, STDIN_FILENO);
	if (r == -ENODATA)
		log_error("archive: nothing is in it");
	util_close(&place.dir);
	return r < 0;
}

static int run_names(const struct process_side *side)
{
	return names_run(&side->start->args);
}

/* Standard input to its end: bytes, or -errno. */
static ssize_t read_all(uint8_t *bytes, size_t room)
{
	size_t n = 0;
	ssize_t got;

	while ((got = read(STDIN_FILENO, bytes + n, room - n)) != 0) {
		if (got > 0)
			n += (size_t)got;
		else if (errno != EINTR)
			return -errno;
		if (n == room)
			return -E2BIG;
	}
	return (ssize_t)n;
}

static int run_network(const struct process_side *side)
{
	uint8_t *bytes = malloc(AGENT_REQUEST_MAX);
	struct init_failure f = {0};
	struct init_config config;
	ssize_t n = bytes ? read_all(bytes, AGENT_REQUEST_MAX) : -ENOMEM;
	int r;

	(void)side;
	if (n < 0)
		r = fail(&f, (int)-n, "the request");
	else
		r = init_network_parse(bytes, (size_t)n, &config, &f);
	if (r) {
		free(bytes);
	} else {
		r = net_change(&config, &f);
		init_config_done(&config);
	}
	if (r)
		dprintf(STDERR_FILENO, "%s\n", f.text);
	return r ? INIT_STATUS_SETUP : 0;
}

static int run_connect(const struct process_side *side)
{
	/* A program that closes its connection is no reason to be killed. */
	signal(SIGPIPE, SIG_IGN);
	return connect_run(&side->start->args);
}

static const struct own_program {
	const char *name;
	unsigned nargs; /* its name among them */
	unsigned more;  /* so many more it may have */
	/* Before the agent's descriptors are closed; or NULL. */
	int (*enter)(const struct process_side *side, struct init_failure *f);
	/* The exit status; what goes wrong is told on standard error. */
	int (*run)(const struct process_side *side);
	bool alone; /* the container need not run: it does not look at it */
} programs[] = {
	{AGENT_OWN_TOP, 1, 0, NULL, run_top, false},
	{AGENT_OWN_PACK, 3, 0, enter_files, run_pack, false},
	{AGENT_OWN_UNPACK, 3, 0, enter_files, run_unpack, false},
	{AGENT_OWN_NAMES, 2, AGENT_NAMES_SERVERS - 1, NULL, run_names, true},
	{AGENT_OWN_CONNECT, 2, 0, NULL, run_connect, true},
	{AGENT_OWN_NETWORK, 1, 0, NULL, run_network, true},
};

static const struct own_program *find(const char *name)
{
	for (unsigned i = 0; i < ARRAY_LEN(programs); i++) {
		if (strcmp(programs[i].name, name) == 0)
			return &programs[i];
	}
	return NULL;
}

bool own_needs_container(const struct init_start *start)
{
	const struct own_program *program = find(start->args.list[0]);

	return !program || !program->alone;
}

/* Standard input and output, the report, and no other descriptor. */
static int take_fds(const struct process_side *side, struct init_failure *f)
{
	const int from[3] = {side->in, side->out, side->err};
	const int r = streams_set(from);

	if (r < 0)
		return fail(f, -r, "standard input and output");
	/* The streams have their numbers: they are not in its way. */
	if (side->report_fd != REPORT_FD &&
	    dup2(side->report_fd, REPORT_FD) < 0)
		return fail(f, errno, "standard input and output");
	return 0;
}

static int leave_agent(struct init_failure *f)
{
	return syscall(SYS_close_range, REPORT_FD + 1, ~0U, 0U) < 0
		       ? fail(f, errno, "close_range")
		       : 0;
}

void own_child(const struct process_side *side)
{
	const struct own_program *program = find(side->start->args.list[0]);
	struct process_report ready = {.kind = PROCESS_READY};
	int report_fd = side->report_fd;
	struct init_failure f = {0};
	int r = 0;

	process_reset_signals();
	process_drop_priority(0);
	if (!program)
		r = fail(&f, ENOTSUP, side->start->args.list[0]);
	else if (side->start->args.n < program->nargs ||
		 side->start->args.n > program->nargs + program->more)
		r = fail(&f, EINVAL, program->name);
	else if (program->enter)
		r = program->enter(side, &f);
	if (r == 0)
		r = take_fds(side, &f);
	if (r == 0) {
		report_fd = REPORT_FD;
		r = leave_agent(&f);
	}
	if (r) {
		process_tell_failure(report_fd, &f);
		_exit(f.status);
	}
	ready.pid = getpid();
	if (process_tell(REPORT_FD, &ready, (const int[]){-1, -1}) < 0)
		_exit(INIT_STATUS_SETUP);
	close(REPORT_FD);
	r = program->run(side);
	if (fflush(stdout) != 0 && r == 0)
		r = INIT_STATUS_SETUP;
	_exit(r);
}
