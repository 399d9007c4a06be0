/* SPDX-License-Identifier: Apache-2.0 */
/* cgroup2 files, and the one program of BPF that device rules are there. */
#include "firmware/init/cgroup.h"

#include "firmware/init/mount.h"
#include "vmm/base/util.h"

#include <assert.h>
#include <dirent.h>
#include <endian.h>
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
#define RESERVE_MIN  (3 * MIB)
#define RESERVE_MAX  (32 * MIB)
/* A part of that, which hold_compiled() has the kernel take early. */
#define COMPILED_BYTES (2 * MIB)
/* Groups in groups that a container has made, to be removed. */
#define DEPTH_MAX 16

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

/* As the kernel's files have it; the number in TEXT. */
static const char *number_text(uint64_t number, char text[24])
{
	if (number == AGENT_NO_LIMIT)
		return "max";
	snprintf(text, 24, "%llu", (unsigned long long)number);
	return text;
}

static int write_number(int dir, const char *name, uint64_t number,
			struct init_failure *f)
{
	char text[24];

	return write_file(dir, name, number_text(number, text), f);
}

/* The agent has these once, for all groups: the first one's directory; -1. */
static int first_fd = -1;
static int compiled_fd = -1;

/* ---- limits */

/* The container gets from what is free now, without the kernel's own part. */
static int reserve_memory(int dir, struct init_failure *f)
{
	struct sysinfo info = {0};
	uint64_t reserve, left;

	sysinfo(&info);
	reserve = (uint64_t)info.totalram * info.mem_unit / RESERVE_PART;
	reserve = min_u64(reserve + RESERVE_MIN, RESERVE_MAX);
	if (compiled_fd >= 0)
		reserve -= COMPILED_BYTES;
	left = (uint64_t)info.freeram * info.mem_unit;
	return write_number(dir, "memory.max",
			    left > 2 * reserve ? left - reserve : reserve, f);
}

static int limit_memory(int dir, const struct init_config *c,
			struct init_failure *f)
{
	return c->memory_max ? write_number(dir, "memory.max", c->memory_max, f)
			     : 0;
}

static int limit_processes(int dir, const struct init_config *c,
			   struct init_failure *f)
{
	return c->pids_max ? write_number(dir, "pids.max", c->pids_max, f) : 0;
}

static int limit_time(int dir, const struct init_config *c,
		      struct init_failure *f)
{
	char text[48], quota[24];

	if (c->cpu_quota == 0)
		return 0;
	snprintf(text, sizeof(text), "%s %llu",
		 number_text(c->cpu_quota, quota),
		 (unsigned long long)c->cpu_period);
	return write_file(dir, "cpu.max", text, f);
}

int cgroup_limit(const struct cgroup *group, const struct init_config *config,
		 struct init_failure *f)
{
	if (group->fd < 0)
		return fail(f, ENOTSUP, "limits");
	if (limit_memory(group->fd, config, f) ||
	    limit_processes(group->fd, config, f))
		return -1;
	return limit_time(group->fd, config, f);
}

/* ---- devices */

/*
 * The rules as a program, from the last one to the first: the first that fits
 * is the answer. Registers: 0 is the answer, 1 for whatever there is to compute
 * (at first the context), 2 to 5 the access's kind of device, rights, numbers.
 */
#define PROGRAM_HEAD 6
#define PROGRAM_RULE 8
#define PROGRAM_TAIL 2
#define PROGRAM_MAX                                                            \
	(PROGRAM_HEAD + PROGRAM_RULE * AGENT_RULES_MAX + PROGRAM_TAIL)

struct program {
	struct bpf_insn insn[PROGRAM_MAX];
	unsigned n;
};

static void add(struct program *p, int op, unsigned to, unsigned from,
		int16_t offset, int32_t number)
{
	p->insn[p->n++] = (struct bpf_insn){
		.code = (uint8_t)op,
		.dst_reg = to & 0xf,
		.src_reg = from & 0xf,
		.off = offset,
		.imm = number,
	};
}

/* Goes on with the next rule if OP (of BPF_JMP) is true of REG and NUMBER. */
static void add_skip(struct program *p, int op, unsigned reg, uint32_t number)
{
	add(p, BPF_JMP | op | BPF_K, reg, 0, -1, (int32_t)number);
}

/* False: it fits everything, so that no other one would ever be reached. */
static bool add_rule(struct program *p, const struct agent_device_rule *r)
{
	const unsigned start = p->n;
	const uint32_t type = le32toh(r->type), access = le32toh(r->access);
	const uint32_t major = le32toh(r->major), minor = le32toh(r->minor);
	const bool allow = le32toh(r->allow);
	unsigned end;

	if (type != 'a')
		add_skip(p, BPF_JNE, 2,
			 type == 'c' ? BPF_DEVCG_DEV_CHAR
				     : BPF_DEVCG_DEV_BLOCK);
	if (access != AGENT_ACCESS_ALL) {
		add(p, BPF_ALU64 | BPF_MOV | BPF_X, 1, 3, 0, 0);
		add(p, BPF_ALU64 | BPF_AND | BPF_K, 1, 0, 0,
		    (int32_t)(allow ? AGENT_ACCESS_ALL & ~access : access));
		add_skip(p, allow ? BPF_JNE : BPF_JEQ, 1, 0);
	}
	if (major != UINT32_MAX)
		add_skip(p, BPF_JNE, 4, major);
	if (minor != UINT32_MAX)
		add_skip(p, BPF_JNE, 5, minor);
	end = p->n;
	add(p, BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, allow);
	add(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	for (unsigned i = start; i < end; i++) {
		if (p->insn[i].off == -1)
			p->insn[i].off = (int16_t)(p->n - i - 1);
	}
	return end > start;
}

static_assert(AGENT_ACCESS_MKNOD == BPF_DEVCG_ACC_MKNOD &&
		      AGENT_ACCESS_READ == BPF_DEVCG_ACC_READ &&
		      AGENT_ACCESS_WRITE == BPF_DEVCG_ACC_WRITE,
	      "the kernel's bits");

static void make_program(struct program *p, const struct init_config *c)
{
	const int load = BPF_LDX | BPF_MEM | BPF_W;

	p->n = 0;
	add(p, load, 2, 1, offsetof(struct bpf_cgroup_dev_ctx, access_type), 0);
	add(p, load, 4, 1, offsetof(struct bpf_cgroup_dev_ctx, major), 0);
	add(p, load, 5, 1, offsetof(struct bpf_cgroup_dev_ctx, minor), 0);
	add(p, BPF_ALU64 | BPF_MOV | BPF_X, 3, 2, 0, 0);
	add(p, BPF_ALU64 | BPF_RSH | BPF_K, 3, 0, 0, 16);
	add(p, BPF_ALU64 | BPF_AND | BPF_K, 2, 0, 0, 0xffff);
	/* The kernel takes no program with a part that cannot be reached. */
	for (size_t i = c->nrules; i > 0; i--) {
		if (!add_rule(p, &c->rules[i - 1]))
			return;
	}
	add(p, BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0);
	add(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

static int call_bpf(enum bpf_cmd command, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, command, attr, sizeof(*attr));
}

static int load_program(const struct bpf_insn *insn, unsigned n)
{
	union bpf_attr load = {
		.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
		.license = (uintptr_t) "Apache-2.0",
		.insns = (uintptr_t)insn,
		.insn_cnt = n,
	};

	return call_bpf(BPF_PROG_LOAD, &load);
}

/* Groups below may add rules of their own: a runtime in the container does. */
static int set_devices(int dir, const struct init_config *c,
		       struct init_failure *f)
{
	autofree struct program *p = malloc(sizeof(*p));
	autofd int program = -1;
	union bpf_attr attach = {
		.target_fd = (uint32_t)dir,
		.attach_type = BPF_CGROUP_DEVICE,
		.attach_flags = BPF_F_ALLOW_MULTI,
	};

	if (!p)
		return fail(f, ENOMEM, "device rules");
	make_program(p, c);
	program = load_program(p->insn, p->n);
	attach.attach_bpf_fd = (uint32_t)program;
	if (program < 0 || call_bpf(BPF_PROG_ATTACH, &attach) < 0)
		return fail(f, errno, "device rules");
	return 0;
}

/*
 * Linux (5.18 and later) puts compiled programs, those of seccomp too, into a
 * region of 2 MiB, which it fills when the first one comes and frees with the
 * last one: a fifth of a container's start in the lab, and 2 MiB that no two
 * machines of one template would share. This program, which nothing runs, holds
 * the region. Where it cannot be loaded all works, but slower.
 */
static int hold_compiled(void)
{
	static const struct bpf_insn deny[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K},
		{.code = BPF_JMP | BPF_EXIT},
	};

	return load_program(deny, ARRAY_LEN(deny));
}

/* ---- making and taking it */

static const char controllers[] = "+cpu +memory +pids";

int cgroup_begin(struct init_failure *f)
{
	autofd int fd = -1;

	if (first_fd >= 0)
		return 0;
	fd = mount_make("cgroup2", "cgroup2", CGROUP_OPTIONS, f);
	/* Before there is a group below: then no process has to be moved. */
	if (fd < 0 || write_file(fd, "cgroup.subtree_control", controllers, f))
		return -1;
	compiled_fd = hold_compiled();
	first_fd = take_fd(&fd);
	return 0;
}

/*
 * All others together may have what the machine's own container may have.
 * Later than at its start, little may be free: the page cache takes the rest.
 */
static int copy_memory(int root, int dir, struct init_failure *f)
{
	autofd int fd = open_file(root, CGROUP_NAME "/memory.max", O_RDONLY, f);
	char text[32];
	ssize_t n;

	if (fd < 0)
		return -1;
	n = read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return fail(f, errno, "memory.max");
	text[n] = 0;
	return write_file(dir, "memory.max", text, f);
}

/* The group that all others but the machine's own are in. */
static int make_others(int root, struct init_failure *f)
{
	autofd int fd = -1;

	if (mkdirat(root, CGROUP_OTHERS, 0755) < 0)
		return errno == EEXIST ? 0 : fail(f, errno, CGROUP_OTHERS);
	fd = open_file(root, CGROUP_OTHERS, O_DIRECTORY, f);
	if (fd < 0 || write_file(fd, "cgroup.subtree_control", controllers, f))
		return -1;
	return copy_memory(root, fd, f);
}

static int open_group(struct cgroup *group, int root, struct init_failure *f)
{
	group->fd = open_file(root, group->path, O_DIRECTORY, f);
	if (group->fd >= 0)
		group->memory_fd =
			open_file(group->fd, "memory.events", O_RDONLY, f);
	return group->memory_fd < 0 ? -1 : 0;
}

/* The directory alone, for CONFIG's container. */
static int make_group(struct cgroup *group, int root,
		      const struct init_config *config, struct init_failure *f)
{
	const char *name = config->container;

	if (name && make_others(root, f))
		return -1;
	snprintf(group->path, sizeof(group->path), "%s%s%s",
		 name ? CGROUP_OTHERS : CGROUP_NAME, name ? "/" : "",
		 name ? name : "");
	if (mkdirat(root, group->path, 0755) < 0)
		return fail(f, errno, group->path);
	if (open_group(group, root, f))
		return -1;
	return name ? limit_memory(group->fd, config, f)
		    : reserve_memory(group->fd, f);
}

int cgroup_make(struct cgroup *group, const struct init_config *config,
		struct init_failure *f)
{
	if (cgroup_begin(f) || make_group(group, first_fd, config, f) ||
	    limit_processes(group->fd, config, f) ||
	    limit_time(group->fd, config, f))
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
	return config->nrules ? set_devices(group->fd, config, f) : 0;
}

int cgroup_adopt(struct cgroup *group, const char *path, struct init_failure *f)
{
	autofd int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (root < 0)
		return fail(f, errno, path);
	strcpy(group->path, CGROUP_NAME);
	return open_group(group, root, f) ? -1 : reserve_memory(group->fd, f);
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
	dir = openat(group->view_fd, group->path,
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

static int join_at(int dir, const char *path)
{
	autofd int fd = openat(dir, path, O_WRONLY | O_CLOEXEC);

	return fd < 0 || write(fd, "0", 1) < 0 ? -errno : 0;
}

int cgroup_join(const struct cgroup *group, pid_t main_pid)
{
	char path[64], own[CGROUP_PATH + 8], text[PATH_MAX];
	int r = join_at(group->fd, "cgroup.procs");
	FILE *file;

	if (r != -EBUSY)
		return r;
	/* It is divided up: where the main process is. */
	snprintf(own, sizeof(own), "0::/%s/", group->path);
	snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)main_pid);
	file = fopen(path, "re");
	while (file && fgets(text, sizeof(text), file)) {
		const size_t n = strcspn(text, "\n");

		if (strncmp(text, own, strlen(own)) != 0 ||
		    n + sizeof("/cgroup.procs") > sizeof(text))
			continue;
		strcpy(text + n, "/cgroup.procs");
		r = join_at(group->fd, text + strlen(own));
	}
	if (file)
		fclose(file);
	return r;
}

/* ---- its end */

void cgroup_kill(const struct cgroup *group)
{
	struct init_failure ignored;

	if (group->fd >= 0)
		(void)write_file(group->fd, "cgroup.kill", "1", &ignored);
}

int cgroup_freeze(const struct cgroup *group, bool frozen)
{
	autofd int fd = -1;

	if (group->fd < 0)
		return -ENOTSUP;
	fd = openat(group->fd, "cgroup.freeze", O_WRONLY | O_CLOEXEC);
	return fd < 0 || write(fd, frozen ? "1" : "0", 1) < 0 ? -errno : 0;
}

bool cgroup_is_frozen(const struct cgroup *group)
{
	char text[256];
	autofd int fd = -1;
	ssize_t n;

	if (group->fd < 0)
		return false;
	fd = openat(group->fd, "cgroup.events", O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	return strstr(text, "frozen 1") != NULL;
}

/* Its own directories first, as far as a container goes that makes some. */
static void remove_below(int dir, unsigned depth)
{
	int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = copy < 0 ? NULL : fdopendir(copy);
	const struct dirent *entry;

	if (!list) {
		util_close(&copy);
		return;
	}
	while ((entry = readdir(list))) {
		autofd int fd = -1;

		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		fd = openat(dir, entry->d_name,
			    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0 && depth > 0)
			remove_below(fd, depth - 1);
		(void)unlinkat(dir, entry->d_name, AT_REMOVEDIR);
	}
	closedir(list);
}

void cgroup_remove(const struct cgroup *group)
{
	autofd int above = -1;

	if (group->fd < 0)
		return;
	remove_below(group->fd, DEPTH_MAX);
	above = openat(group->fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (above >= 0)
		(void)unlinkat(above, strrchr(group->path, '/') + 1,
			       AT_REMOVEDIR);
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

/*
 * The number behind NAME at a line's beginning in a file of the group's, or,
 * with "", its first; "max" is UINT64_MAX, and 0 what is not there.
 */
static uint64_t read_number(const struct cgroup *group, const char *file,
			    const char *name)
{
	autofd int fd = openat(group->fd, file, O_RDONLY | O_CLOEXEC);
	const size_t n = strlen(name);
	char text[4096];
	const char *at = text;
	ssize_t bytes;

	bytes = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	text[bytes > 0 ? bytes : 0] = 0;
	while (strncmp(at, name, n) != 0) {
		at = strchr(at, '\n');
		if (!at)
			return 0;
		at++;
	}
	return strncmp(at + n, "max", 3) == 0 ? UINT64_MAX
					      : strtoull(at + n, NULL, 10);
}

bool cgroup_has_processes(const struct cgroup *group)
{
	return group->fd >= 0 &&
	       read_number(group, "cgroup.events", "populated ") > 0;
}

struct cgroup_usage cgroup_usage(const struct cgroup *group)
{
	struct cgroup_usage usage = {.memory_max = UINT64_MAX};
	uint64_t cache;

	if (group->fd < 0)
		return usage;
	usage.cpu_us = read_number(group, "cpu.stat", "usage_usec ");
	usage.memory = read_number(group, "memory.current", "");
	usage.memory_max = read_number(group, "memory.max", "");
	usage.pids = read_number(group, "pids.current", "");
	/* As Docker: pages that the kernel takes first are free ones. */
	cache = read_number(group, "memory.stat", "inactive_file ");
	usage.memory -= cache < usage.memory ? cache : usage.memory;
	return usage;
}
