/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent: one thread that serves all sessions and reaps all processes. Its
 * actions on the machine are behind struct server_actions, so that tests and
 * fuzzers run the rest as it is.
 */
#ifndef FIRMWARE_INIT_SERVER_H
#define FIRMWARE_INIT_SERVER_H

#include "firmware/init/process.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct session;

#define SERVER_VICTIMS 16

/*
 * Children of the agent's that no session has: what a start that came to
 * nothing had forked, or had somebody else fork, on its way.
 */
enum server_strays {
	SERVER_STRAYS_NONE,
	SERVER_STRAYS_LOOK, /* there may be some now */
	SERVER_STRAYS_WAIT, /* they are killed; their end may leave others */
};

/*
 * A container and what the host said of it. The machine's own comes first and
 * stays; another one goes once it is over and no session is about it.
 */
struct server_container {
	struct server_container *next;
	struct container box;
	struct init_config config;
	char *hostname; /* owned: config's, where it got another one */
	bool configured;
	bool failed;       /* its CONFIGURE has: it is never started */
	bool main_started; /* there is no second one */
	uint64_t held;     /* bit N - 1: signal N waits for the main process */
};

struct server_actions {
	/* 0, or -1 with the failure filled in. */
	int (*configure)(const struct init_config *config,
			 struct init_failure *f);
	/* As process_prepare(). NULL: there is no way. */
	int (*prepare)(struct container *box, struct process_starting *ret,
		       struct init_failure *f);
	/* As process_begin(). */
	int (*start)(struct container *box, const struct init_start *start,
		     struct process_starting *ret, struct init_failure *f);
	int (*set_clock)(const struct agent_time *time, struct init_failure *f);
	/* The kernel's generators make no number of the old keys any more. */
	int (*add_entropy)(const struct agent_entropy *entropy,
			   struct init_failure *f);
	void (*kill)(pid_t pid, int signal);
	/*
	 * BOX stands still, or goes on: 0 once it does. -1 with the failure
	 * filled in, and it goes on.
	 */
	int (*hold)(struct container *box, bool held, struct init_failure *f);
	/* Another host name, for a BOX that stands still. */
	int (*rename)(struct container *box, const char *hostname,
		      struct init_failure *f);
	/* A BOX that stands still is told that it is a clone. */
	int (*mark)(struct container *box, const struct init_clone *clone,
		    struct init_failure *f);
	/* A new connection to the host, or -errno. NULL: there is no way. */
	int (*report)(void);
};

/* The actions of the program itself. */
extern const struct server_actions server_actions;

struct server {
	const struct server_actions *actions;
	int listen_fd; /* owned; -1: no more sessions come */
	int signal_fd; /* owned: SIGCHLD */
	struct session *sessions;
	const struct session *reporter; /* of server_report(), while it lasts */
	unsigned nsessions;
	struct server_container first; /* others follow */
	unsigned ncontainers;          /* besides the first */
	bool ending;      /* the machine goes once the main process is gone */
	uint64_t kill_ms; /* while ending: when patience ends; 0: no more */
	uint64_t end_ms;  /* while ending: when the machine goes anyway */
	int kmsg_fd;      /* owned: the kernel's log; -1 */
	pid_t victim[SERVER_VICTIMS]; /* processes killed for memory, a ring */
	uint64_t oom_kills;           /* how many so far */
	uint64_t look_ms;    /* when to look at memory again, for watchers */
	uint64_t gone_kills; /* of them, in containers that are gone */
	enum server_strays strays;
	/* AGENT_HOLD: the container stands still. */
	bool held;
	bool reported;   /* since, to another host */
	bool report_due; /* server_report() is to be called */
	/* That asked for it; NULL: it has ended, and at release_ms... */
	const struct session *holder;
	uint64_t release_ms; /* ...the container goes on, with its old host */
};

/*
 * LISTEN_FD, or -1, is taken over. SIGCHLD is blocked, SIGPIPE ignored, from
 * here on. 0 or -errno.
 */
int server_init(struct server *server, const struct server_actions *actions,
		int listen_fd);
void server_done(struct server *server);

/* A session on a connection, which is taken over. 0 or -errno. */
int server_add(struct server *server, int fd);
/*
 * Tells the host that the agent is there, and has a session with it. If that
 * ends before the host has said what the machine is for, the machine goes on
 * elsewhere, from a snapshot: it is told once more. 0 or -errno.
 */
int server_report(struct server *server);

/* Until the machine is to end. 0 or -errno. */
int server_run(struct server *server);

/*
 * Waits for something and does it: 1, 0 when the machine is to end, -errno.
 * TIMEOUT_MS -1: as long as it takes.
 */
int server_step(struct server *server, int timeout_ms);

/* ---- server-container.c, for sessions too */

/* The one that ID, or NULL, means; NULL: there is none. */
struct server_container *server_find(struct server *server, const char *id);
/*
 * A new one, to which *CONFIG goes on success. NULL with the failure filled in.
 */
struct server_container *server_add_container(struct server *server,
					      struct init_config *config,
					      struct init_failure *f);
/*
 * Whether the main process of C, which has ended, has left others that are
 * about to: those of a container without a PID namespace of its own.
 */
bool server_is_leaving(const struct server *server,
		       const struct server_container *c);
/* PID has ended: what follows for the containers. */
void server_container_ended(struct server *server, pid_t pid);
/* Removes those that are over. */
void server_sweep(struct server *server);
/* Whether one waits for its processes' ends, of which nobody tells. */
bool server_is_sweeping(const struct server *server);
/* At the server's own end. */
void server_free_containers(struct server *server);

/* ---- server-machine.c, for sessions too */

/* CLOCK_MONOTONIC */
uint64_t server_now_ms(void);

/*
 * Sends the main process of C SIGNAL; once its program runs, if it does not
 * yet: before that a process which is the first of its namespace takes none but
 * SIGKILL. Nothing happens without a main process.
 */
void server_signal(struct server *server, struct server_container *c,
		   int signal);
/* The main process's program runs. */
void server_main_runs(struct server *server, struct server_container *c);

/* The machine's own main process gets SIGNAL, then SIGKILL; then the machine
 * ends. */
void server_end(struct server *server, int signal, uint32_t grace_ms);

/*
 * The machine's own container stands still for S, so that the machine can be
 * saved; or goes on. 0, or -1 with the failure filled in.
 */
int server_hold(struct server *server, const struct session *s,
		struct init_failure *f);
int server_release(struct server *server, const struct session *s,
		   struct init_failure *f);
/* S ends: if the machine was not saved meanwhile, its hold does. */
void server_forget(struct server *server, const struct session *s);
/* The session of the machine's own main process; NULL: there is none. */
struct session *server_main_session(const struct server *server);

/* How many processes the kernel has killed for lack of memory until now. */
uint64_t server_oom_kills(struct server *server);

/* The session watches memory from now on. */
void server_watch(struct server *server, struct session *s);

/* The number behind NAME in a file of lines "NAME number"; 0: none. */
uint64_t server_proc_number(const char *path, const char *name);

/* Facts of /proc; zero where there are none. */
void server_facts(struct server *server, struct agent_info *ret);
/* Fills in what C uses. */
void server_usage(const struct server_container *c, struct agent_usage *ret);

#endif
