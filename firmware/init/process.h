/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting processes of the container: the main one in new namespaces, others
 * in the same ones. process.c is the agent's half; exec.c is what happens in
 * the new process.
 */
#ifndef FIRMWARE_INIT_PROCESS_H
#define FIRMWARE_INIT_PROCESS_H

#include "firmware/init/cgroup.h"
#include "firmware/init/request.h"

#include <stdbool.h>
#include <sys/types.h>

/* Where processes run. */
struct container {
	/* Tests: no namespaces, mounts and users; the caller's root. */
	bool plain;
	const struct init_config *config; /* borrowed */
	/* The machine's own, which it may share namespaces with; NULL: it is
	 * that one; borrowed. */
	const struct container *first;
	struct cgroup group; /* owned */
	pid_t main_pid;      /* 0: none runs */
	bool running;        /* the main one has become its program */
	bool prepared;       /* process_prepare() was done */
	int wait_fd;         /* the main one waits there; owned; -1 */
	int main_fd;         /* pidfd, owned; -1 */
	int mounts_fd; /* owned; keeps them until they are synced; -1; first */
};

#define CONTAINER_NONE                                                         \
	((struct container){.group = CGROUP_NONE,                              \
			    .wait_fd = -1,                                     \
			    .main_fd = -1,                                     \
			    .mounts_fd = -1})

/* A process that was started; its descriptors are owned by the receiver. */
struct init_child {
	pid_t pid;
	int inside;        /* its number in the container */
	int in_fd, out_fd; /* the same one with a terminal; -1: none */
	int err_fd;
	int slave_fd; /* keeps a terminal from hanging up; -1 */
};

#define INIT_CHILD_NONE                                                        \
	((struct init_child){                                                  \
		.in_fd = -1, .out_fd = -1, .err_fd = -1, .slave_fd = -1})

/* One that has not become its program yet. */
struct process_starting {
	bool is_main, ready;
	bool prepares; /* by process_prepare() */
	pid_t pid;     /* what the agent itself has forked; 0: it has ended */
	int report_fd; /* owned; gets readable when there is news; -1: none */
	struct init_child child;
	bool ended; /* the child ended before it was known to run */
	int wait_status;
	bool oom;
};

#define PROCESS_STARTING_NONE                                                  \
	((struct process_starting){.report_fd = -1, .child = INIT_CHILD_NONE})

/*
 * Begins to start the process that START describes, and does not wait; START is
 * not needed afterwards. 0, or -1 with the failure filled in.
 */
int process_begin(struct container *box, const struct init_start *start,
		  struct process_starting *ret, struct init_failure *f);

/*
 * Begins to make the container, and its main process, which waits for
 * process_begin() with AGENT_START_MAIN. process_proceed() says when it does: 1
 * then, and nothing of P is left. 0, or -1 with the failure filled in.
 */
int process_prepare(struct container *box, struct process_starting *ret,
		    struct init_failure *f);

/*
 * Takes the news there are, without waiting: 1 when its program runs, and P's
 * child is the caller's then; 0 when it does not yet; -1 with the failure
 * filled in, and nothing of it is left.
 */
int process_proceed(struct container *box, struct process_starting *p,
		    struct init_failure *f);

/*
 * Ends one that is starting, as far as the agent knows its processes: others
 * become the agent's children when these are gone, strays (server.h).
 */
void process_abandon(struct container *box, struct process_starting *p);

/* Forgets the main process, which has ended. */
void process_main_ended(struct container *box);

/* ---- between process.c and exec.c */

/* Each comes with the sender's number, by the kernel's word. */
enum process_report_kind {
	PROCESS_BORN = 1,  /* the one that sends it will be the program */
	PROCESS_READY = 2, /* with a terminal: master and slave come along */
	PROCESS_FAILED = 3,
	PROCESS_PREPARED = 4, /* it waits for a process_go */
};

/*
 * The agent sends it to a process that waits, with the descriptor of a file
 * that has the items of CONFIGURE and of START, one behind the other. A byte
 * with the descriptor of each stream follows.
 */
struct process_go {
	size_t config_bytes, start_bytes;
	bool has[3]; /* standard input, output, error */
};

struct process_report {
	enum process_report_kind kind;
	int inside;
	pid_t pid; /* by crun: the process, which is not the one that reports */
	struct init_failure failure;
};

/* The new process gets these from the agent. */
struct process_side {
	const struct container *box;
	const struct init_start *start; /* NULL: it is told later */
	int report_fd;                  /* closed by a successful exec */
	int in, out, err;               /* its ends of the pipes; -1 */
};

/*
 * Everything in the new process. Ends it or becomes the program; with crun it
 * only has it started, and ends.
 */
void process_child(const struct process_side *side) __attribute__((noreturn));

/* ---- child.c: on both sides */

/* Whether it has no PID namespace of its own. */
bool process_shares_pids(const struct container *box);

/* Its own ones, CLONE_NEW*: those that it does not share. */
uint64_t process_namespaces(const struct container *box);

/* ---- child.c and exec.c, for crun.c too: in the new process */

/* That may be open, as Docker's service has it. */
#define PROCESS_FILES 1048576

/*
 * The agent is the first of its control group when it wants the CPU, but drives
 * nobody off in the middle of a turn (SCHED_BATCH): output is taken when there
 * is more of it. The container's group has half of what all want together, the
 * kernel's own threads the other half. Programs get an ordinary priority.
 */
void process_raise_priority(void);
void process_drop_priority(pid_t pid); /* 0: the caller */
/*
 * For a program's process before it runs the program. In the container's group
 * it would share the CPU with all others, and with many of them each of its few
 * steps could take long; it hurries until execve(2), the longest of them, which
 * it comes to at the agent's own priority. The agent drops that afterwards.
 */
void process_hurry(void);
void process_slow_down(void);

/* Closes all descriptors above the first three but these; -1 is none. 0 or -1.
 */
int process_keep_only(const int *fds, unsigned n);

/*
 * By the agent's view of processes, for which FD was opened: the container may
 * have covered its own. Most have what the agent has, which is nothing special.
 */
int process_open_oom_score(void); /* owned; -1 */
int process_set_oom_score(const struct init_start *s, int fd,
			  struct init_failure *f);

/* The agent handles none and ignores one. */
void process_reset_signals(void);

/*
 * Sends the report that the agent waits for. FDS, a terminal's master and
 * slave, are sent along unless the first one is negative. 0 or -1.
 */
int process_tell(int fd, const struct process_report *r, const int fds[2]);
void process_tell_failure(int fd, const struct init_failure *f);

/*
 * The environment, with defaults for what is missing. Allocated and never
 * freed, as exec follows. NULL without memory.
 */
const char **process_env(const struct init_start *s,
			 const struct init_config *c, const char *home);
/* The value of NAME in ENV (which may be NULL), or NULL. */
const char *process_env_get(const char *const *env, const char *name);

#endif
