/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container's control group: how many processes it may have, what it leaves
 * of the memory to the agent, which devices it may use; and what the kernel
 * counts there, which no process of the container can forge.
 *
 * The agent stays in the group above. Its descriptors come from a mount that is
 * attached nowhere, so no path leads to it.
 */
#ifndef FIRMWARE_INIT_CGROUP_H
#define FIRMWARE_INIT_CGROUP_H

#include "firmware/init/request.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Its name below the first group, whoever makes it; crun's config.json has it.
 */
#define CGROUP_NAME "container"
/* Other containers have groups in this one. */
#define CGROUP_OTHERS "containers"
#define CGROUP_PATH   (sizeof(CGROUP_OTHERS) + AGENT_CONTAINER_NAME + 1)

/*
 * With this a container that mounts cgroup2 (CAP_SYS_ADMIN) cannot change the
 * limits of its own group, the root of its namespace. The option belongs to the
 * hierarchy, not to a mount: each mount that is made in the first namespace has
 * to repeat it, or takes it away.
 */
#define CGROUP_OPTIONS "nsdelegate"

struct cgroup {
	char path[CGROUP_PATH]; /* below the first group */
	int fd;                 /* owned: the directory; -1: there is none */
	int view_fd;   /* owned: the first group; nothing changes by it; -1 */
	int procs_fd;  /* owned: who is in it, to be written; -1 */
	int memory_fd; /* owned: memory.events; -1 */
	uint64_t oom_kills; /* what it said when it was read last */
};

#define CGROUP_NONE                                                            \
	((struct cgroup){                                                      \
		.fd = -1, .view_fd = -1, .procs_fd = -1, .memory_fd = -1})

/*
 * Does what groups need and no container decides: mounts the hierarchy, divides
 * its controllers, and has the kernel make room for compiled programs. A
 * machine that is saved afterwards has it done. cgroup_make() calls it as well;
 * the second time it does nothing. 0, or -1 with the failure filled in.
 */
int cgroup_begin(struct init_failure *f);

/*
 * Makes the group, with limits and rules, for a container that the agent makes
 * itself. 0, or -1 with the failure filled in.
 */
int cgroup_make(struct cgroup *group, const struct init_config *config,
		struct init_failure *f);

/*
 * The group of a container that crun has made, below PATH: takes what is
 * counted, and leaves memory to the agent. 0, or -1 with the failure filled in.
 */
int cgroup_adopt(struct cgroup *group, const char *path,
		 struct init_failure *f);

/*
 * Gives it those limits that CONFIG has, AGENT_NO_LIMIT among them. 0, or -1
 * with the failure filled in.
 */
int cgroup_limit(const struct cgroup *group, const struct init_config *config,
		 struct init_failure *f);

/* Kills all its processes. */
void cgroup_kill(const struct cgroup *group);
/* Has all its processes stand still, in a moment, or go on. 0 or -errno. */
int cgroup_freeze(const struct cgroup *group, bool frozen);
/* Whether they do. */
bool cgroup_is_frozen(const struct cgroup *group);
/* Whether a process is in it, or in one below. */
bool cgroup_has_processes(const struct cgroup *group);
/* Removes it, which has no processes, and those below. */
void cgroup_remove(const struct cgroup *group);

/* Also one that was never made. */
void cgroup_done(struct cgroup *group);

/*
 * A fork(2) with Linux's FLAGS of clone(2) beside, whose child begins its life
 * in the group, or, with NULL, in the caller's. MAIN_PID, unless 0: where that
 * one is when the group itself has been divided up by the container. -1 with
 * errno: EAGAIN when it has as many processes as it may have.
 */
pid_t cgroup_fork(const struct cgroup *group, uint64_t flags, pid_t main_pid);

/*
 * Moves the calling process into the group, whose limits are its own then; it
 * gets in however many there are. MAIN_PID as above. 0 or -errno.
 */
int cgroup_join(const struct cgroup *group, pid_t main_pid);

struct cgroup_usage {
	uint64_t cpu_us, memory, memory_max, pids; /* UINT64_MAX: no limit */
};
/* Counts what its processes use: without a group nothing, and no limit. */
struct cgroup_usage cgroup_usage(const struct cgroup *group);

/*
 * How many of its processes were killed for lack of memory, by its own limit or
 * the machine's, as the kernel counts them.
 */
uint64_t cgroup_oom_kills(struct cgroup *group);

#endif
