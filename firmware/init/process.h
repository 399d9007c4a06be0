/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting processes of the container: the main one in new namespaces, others
 * in the same ones. process.c is the agent's half; exec.c is what happens in
 * the new process.
 */
#ifndef FIRMWARE_INIT_PROCESS_H
#define FIRMWARE_INIT_PROCESS_H

#include "firmware/init/request.h"

#include <stdbool.h>
#include <sys/types.h>

/* Where processes run. */
struct container {
	/* Tests: no namespaces, mounts and users; the caller's root. */
	bool plain;
	const struct init_config *config; /* borrowed */
	pid_t main_pid;                   /* 0: none runs */
	int main_fd;                      /* pidfd, owned; -1 */
	int mounts_fd; /* owned; keeps them until they are synced; -1 */
};

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

/*
 * Starts what START says; waits until its program runs. 0, or -1 with the
 * failure filled in.
 */
int process_start(struct container *box, const struct init_start *start,
		  struct init_child *ret, struct init_failure *f);

/* Forgets the main process, which has ended. */
void process_main_ended(struct container *box);

/* ---- between process.c and exec.c */

enum process_report_kind {
	PROCESS_READY = 1, /* with a terminal: master and slave come along */
	PROCESS_FAILED = 2,
};

struct process_report {
	enum process_report_kind kind;
	int inside;
	pid_t pid; /* the process, unless it is the one that reports: 0 */
	struct init_failure failure;
};

/* What the new process has of the old one. */
struct process_side {
	const struct container *box;
	const struct init_start *start;
	int report_fd;    /* closed by a successful exec */
	int in, out, err; /* its ends of the pipes; -1 */
};

/*
 * Everything in the new process. Ends it or becomes the program; with crun it
 * only has it started, and ends.
 */
void process_child(const struct process_side *side) __attribute__((noreturn));

/* ---- between exec.c and crun.c, in the new process */

/* That may be open, as Docker's service has it. */
#define PROCESS_FILES 1048576

/* The agent handles none and ignores one. */
void process_reset_signals(void);

/*
 * What the agent waits for. FDS, a terminal's master and slave, are sent along
 * unless the first one is negative. 0 or -1.
 */
int process_tell(int fd, const struct process_report *r, const int fds[2]);
void process_tell_failure(int fd, const struct init_failure *f);

/*
 * The environment, with what nobody gave. Allocated and never freed, as exec
 * follows. NULL without memory.
 */
const char **process_env(const struct init_start *s,
			 const struct init_config *c, const char *home);

#endif
