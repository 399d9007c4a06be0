/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor as a child of `bulkhead run`: one process with one VM in it, in a
 * session of its own, that dies with its parent. The last output of the guest's
 * console is kept for the case that the guest breaks. The monitor's own
 * messages become this process's, and the last error among them is kept.
 */
#ifndef TOOLS_CONTAINER_MONITOR_H
#define TOOLS_CONTAINER_MONITOR_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct config;
struct snapshot;
struct template;

#define MONITOR_TAIL_BYTES    4096
#define MONITOR_MESSAGE_BYTES 1024

struct monitor {
	pid_t pid;   /* 0: not started, or its end was collected */
	int pid_fd;  /* owned; readable when it has ended */
	int plug_fd; /* owned: our end of plug.h; -1: no network comes */
	/* Owned: to its parent, where that is a pool's keeper; -1: it is our
	 * own child. */
	int link_fd;
	int wait_status;
	/* the reader; all below is its own until it is joined */
	pthread_t thread;
	bool has_thread;
	int console_fd;                   /* owned */
	int messages_fd;                  /* owned */
	char tail[MONITOR_TAIL_BYTES];    /* a ring */
	size_t written;                   /* bytes in all */
	char line[MONITOR_MESSAGE_BYTES]; /* a message that is not whole yet */
	size_t line_bytes;
	char error[MONITOR_MESSAGE_BYTES]; /* the last one; "": there is none */
};

#define MONITOR_NONE                                                           \
	((struct monitor){.pid_fd = -1,                                        \
			  .plug_fd = -1,                                       \
			  .link_fd = -1,                                       \
			  .console_fd = -1,                                    \
			  .messages_fd = -1})

struct monitor_options {
	int close_fds[4];        /* of the parent's; -1: none */
	const sigset_t *sigmask; /* for the child; NULL: as it is */
	/* Where others can ask for a pause (control.h); NULL: nobody can. */
	const char *control_dir;
	/* Where the machine goes on; borrowed until this returns. NULL: it
	 * boots. */
	const struct snapshot *snapshot;
	struct template *template; /* the child closes its files; NULL */
	bool plug;                 /* networks may come and go (plug.h) */
	/*
	 * It waits for a container, which comes by this socket (pool.h); 0: it
	 * has one. Its console and messages wait, too.
	 */
	int order_fd;
};

/*
 * Starts the VM of CFG in a child. Single-threaded callers only, whose thread
 * must live as long as the child shall. 0 or -errno, logged; monitor_done()
 * accepts what a failed start left of MONITOR_NONE.
 */
int monitor_start(struct monitor *monitor, const struct config *cfg,
		  const struct monitor_options *options);

/*
 * The same with a machine of a pool's, whose descriptors are taken. 0 or
 * -errno, logged.
 */
struct pool_taken;
int monitor_take(struct monitor *monitor, struct pool_taken *taken);

void monitor_kill(const struct monitor *monitor);

/*
 * Waits for its end and the console's. 0 and wait(2)'s status in
 * monitor->wait_status, or -ETIME after TIMEOUT_MS (< 0: none).
 */
int monitor_wait(struct monitor *monitor, int timeout_ms);

/*
 * Writes the console's last words to FD, each line behind "guest: ", what could
 * upset a terminal made harmless. After monitor_wait(). True if there were any.
 */
bool monitor_print_tail(const struct monitor *monitor, int fd);

/*
 * Copies what follows the first WORD among the console's last words to RET, up
 * to the end of its line, made harmless. After monitor_wait(). False: there is
 * none.
 */
bool monitor_find_word(const struct monitor *monitor, const char *word,
		       char *ret, size_t bytes);

/* Kills it where it still is. */
void monitor_done(struct monitor *monitor);

#endif
