/* SPDX-License-Identifier: Apache-2.0 */
/* cgroup2 files, and the one program of BPF that device rules are there. */
#include "firmware/init/cgroup.h"

#include "firmware/init/mount.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/bpf.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>

/*
 * The agent and the kernel keep a part of the memory, as the kernel's own needs
 * grow with it, and RESERVE_MIN in any case.
 */
#define RESERVE_PART 64
#define RESERVE_MIN  (2 * MIB)
#define RESERVE_MAX  (32 * MIB)

static int fail(struct init_failure *f, int error, const char *what)
{
	return init_fail(f, INIT_STATUS_SETUP, error, "control group: %s",
			 what);
}

static int open_file(int dir, const char *name, int flags,
		     struct init_failure *f)
{
	int fd = openat(dir, name, flags | O_CLOEXEC);

	return fd < 0 ? fail(f, errno, name) : fd;
}

static int write_file(int dir, const char *name, const char *text,
		      struct init_failure *f)
{
	autofd int fd = open_file(dir, name, O_WRONLY, f);

	if (fd < 0)
		return -1;
	return write(fd, text, strlen(text)) < 0 ? fail(f, errno, name) : 0;
}

static int write_number(int dir, const char *name, uint64_t number,
			struct init_failure *f)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)number);
	return write_file(dir, name, text, f);
}

/* ---- limits */

/* The container gets from what is free now, without the kernel's own part. */
static int reserve_memory(int dir, struct init_failure *f)
{
	struct sysinfo info = {0};
	uint64_t reserve, left;

	sysinfo(&info);
	reserve = (uint64_t)info.totalram * info.mem_unit / RESERVE_PART;
	reserve = min_u64(reserve + RESERVE_MIN, RESERVE_MAX);
	left = (uint64_t)info.freeram * info.mem_unit;
	return write_number(dir, "memory.max",
			    left > 2 * reserve ? left - reserve : reserve, f);
}

static int limit_processes(int dir, const struct init_config *c,
			   struct init_failure *f)
{
	return c->pids_max ? write_number(dir, "pids.max", c->pids_max, f) : 0;
}

/* ---- devices */

/* struct bpf_insn in words: operation, registers, offset, number. */
#define OP(op, to, from, skip, number)                                         \
	{                                                                      \
		.code = (op), .dst_reg = (to), .src_reg = (from),              \
		.off = (skip), .imm = (number)                                 \
	}
#define LOAD(to, member)                                                       \
	OP(BPF_LDX | BPF_MEM | BPF_W, to, 1,                                   \
	   offsetof(struct bpf_cgroup_dev_ctx, member), 0)
#define SET(to, number) OP(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, number)
#define IF(op, reg, number, skip)                                              \
	OP(BPF_JMP | (op) | BPF_K, reg, 0, skip, number)
#define EXIT() OP(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)

/*
 * Docker's rules: any node may be made, but only those that every container has
 * can be used: null zero full random urandom, tty ptmx, and terminals. Without
 * the one with which Docker allows /dev/console (5:1), too: it leads to the
 * machine's console, and the container's own is a terminal like others.
 */
static const struct bpf_insn device_rules[] = {
	/*  0 */ LOAD(2, access_type),
	/*  1 */ LOAD(3, major),
	/*  2 */ LOAD(4, minor),
	/*  3 */ SET(0, 1),
	/*  4 */ OP(BPF_ALU64 | BPF_MOV | BPF_X, 5, 2, 0, 0),
	/*  5 */ OP(BPF_ALU64 | BPF_RSH | BPF_K, 5, 0, 0, 16),
	/*  6 */ IF(BPF_JEQ, 5, BPF_DEVCG_ACC_MKNOD, 10),
	/*  7 */ OP(BPF_ALU64 | BPF_AND | BPF_K, 2, 0, 0, 0xffff),
	/*  8 */ IF(BPF_JNE, 2, BPF_DEVCG_DEV_CHAR, 9),
	/*  9 */ IF(BPF_JEQ, 3, 136, 7),
	/* 10 */ SET(0, 1 << 3 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9),
	/* 11 */ IF(BPF_JEQ, 3, 1, 2),
	/* 12 */ SET(0, 1 << 0 | 1 << 2),
	/* 13 */ IF(BPF_JNE, 3, 5, 4),
	/* 14 */ IF(BPF_JGT, 4, 31, 3),
	/* 15 */ OP(BPF_ALU64 | BPF_RSH | BPF_X, 0, 4, 0, 0),
	/* 16 */ OP(BPF_ALU64 | BPF_AND | BPF_K, 0, 0, 0, 1),
	/* 17 */ EXIT(),
	/* 18 */ SET(0, 0),
	/* 19 */ EXIT(),
};

static int call_bpf(enum bpf_cmd command, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, command, attr, sizeof(*attr));
}

/* Groups below may add rules of their own: a runtime in the container does. */
static int set_devices(int dir, struct init_failure *f)
{
	union bpf_attr load = {
		.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
		.insn_cnt = ARRAY_LEN(device_rules),
		.insns = (uintptr_t)device_rules,
		.license = (uintptr_t) "Apache-2.0",
	};
	autofd int program = call_bpf(BPF_PROG_LOAD, &load);
	union bpf_attr attach = {
		.target_fd = (uint32_t)dir,
		.attach_bpf_fd = (uint32_t)program,
		.attach_type = BPF_CGROUP_DEVICE,
		.attach_flags = BPF_F_ALLOW_MULTI,
	};

	if (program < 0 || call_bpf(BPF_PROG_ATTACH, &attach) < 0)
		return fail(f, errno, "device rules");
	return 0;
}

/* ---- making and taking it */

static int open_group(struct cgroup *group, int root, struct init_failure *f)
{
	group->fd = open_file(root, CGROUP_NAME, O_DIRECTORY, f);
	if (group->fd >= 0)
		group->memory_fd =
			open_file(group->fd, "memory.events", O_RDONLY, f);
	return group->memory_fd < 0 ? -1 : reserve_memory(group->fd, f);
}

int cgroup_make(struct cgroup *group, const struct init_config *config,
		struct init_failure *f)
{
	autofd int root = mount_make("cgroup2", "cgroup2", CGROUP_OPTIONS, f);

	if (root < 0)
		return -1;
	/* Before there is a group below: then no process has to be moved. */
	if (write_file(root, "cgroup.subtree_control", "+cpu +memory +pids", f))
		return -1;
	if (mkdirat(root, CGROUP_NAME, 0755) < 0)
		return fail(f, errno, CGROUP_NAME);
	if (open_group(group, root, f) || limit_processes(group->fd, config, f))
		return -1;
	group->procs_fd = open_file(group->fd, "cgroup.procs", O_WRONLY, f);
	/*
	 * A process that the container could look into may hold this
	 * descriptor.
	 */
	if (group->procs_fd >= 0)
		group->view_fd = mount_make("cgroup2", "cgroup2",
					    "ro," CGROUP_OPTIONS, f);
	if (group->view_fd < 0)
		return -1;
	return config->flags & AGENT_CONFIG_PRIVILEGED
		       ? 0
		       : set_devices(group->fd, f);
}

int cgroup_adopt(struct cgroup *group, const char *path, struct init_failure *f)
{
	autofd int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	return root < 0 ? fail(f, errno, path) : open_group(group, root, f);
}

void cgroup_done(struct cgroup *group)
{
	util_close(&group->fd);
	util_close(&group->view_fd);
	util_close(&group->procs_fd);
	util_close(&group->memory_fd);
	*group = CGROUP_NONE;
}

/* ---- processes */

/* As the kernel has it after that of the first group: "0::/container/x". */
static int find_place(const struct cgroup *group, pid_t pid)
{
	char path[64], text[PATH_MAX];
	FILE *file;
	int fd = -1;

	snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
	file = fopen(path, "re");
	while (file && fgets(text, sizeof(text), file)) {
		text[strcspn(text, "\n")] = 0;
		if (strncmp(text, "0::/", 4) == 0)
			fd = openat(group->view_fd, text + 4,
				    O_PATH | O_DIRECTORY | O_CLOEXEC);
	}
	if (file)
		fclose(file);
	return fd;
}

/* DIR -1: into the caller's own. */
static pid_t clone_into(int dir, uint64_t flags)
{
	struct clone_args args = {
		.flags = flags | (dir < 0 ? 0 : CLONE_INTO_CGROUP),
		/* With CLONE_PARENT it is the caller's own. */
		.exit_signal = flags & CLONE_PARENT ? 0 : SIGCHLD,
		.cgroup = dir < 0 ? 0 : (uint32_t)dir,
	};

	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

pid_t cgroup_fork(const struct cgroup *group, uint64_t flags, pid_t main_pid)
{
	autofd int dir = -1;
	pid_t pid;

	if (!group)
		return clone_into(-1, flags);
	dir = openat(group->view_fd, CGROUP_NAME,
		     O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -1;
	pid = clone_into(dir, flags);
	/* Processes are where a group is not divided any further. */
	if (pid < 0 && errno == EBUSY && main_pid) {
		autofd int place = find_place(group, main_pid);

		if (place >= 0)
			pid = clone_into(place, flags);
	}
	return pid;
}

/* ---- what the kernel counts */

uint64_t cgroup_oom_kills(struct cgroup *group)
{
	static const char name[] = "\noom_kill ";
	char text[256];
	const char *at;
	ssize_t n;

	if (group->memory_fd < 0)
		return 0;
	n = pread(group->memory_fd, text, sizeof(text) - 1, 0);
	text[n > 0 ? n : 0] = 0;
	at = strstr(text, name);
	if (at)
		group->oom_kills = strtoull(at + sizeof(name) - 1, NULL, 10);
	return group->oom_kills;
}
