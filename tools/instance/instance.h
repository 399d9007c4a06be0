/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's record of a container while there is one: a directory of the
 * user's runtime directory, named after the instance, with its state, its
 * agent's socket and its log.
 *
 * Whether an instance lives is told by a lock on its directory and by nothing
 * else: `bulkhead run` and the monitor it starts share the lock, and the kernel
 * gives it up when the last of the two is gone, however it went.
 *
 * The directory of all instances is locked while one is made, listed or
 * removed, and vanishes with the last one.
 */
#ifndef TOOLS_INSTANCE_INSTANCE_H
#define TOOLS_INSTANCE_INSTANCE_H

#include "tools/spec/spec.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct json_t;

#define INSTANCE_NAME_MAX  63
#define INSTANCE_KILLED    137 /* status of one that could not leave one */
#define INSTANCE_NO_STATUS (-1)

/* Exit status of commands that did not find or move an instance. */
#define INSTANCE_EXIT_FAILED 1

struct instance {
	char name[INSTANCE_NAME_MAX + 1];
	char *path;   /* owned: its directory */
	char *socket; /* owned: the vsock device's Unix socket */
	/* owned: where its machine is asked for a pause, or to be saved */
	char *control;
	int base_fd; /* owned: the directory of all instances */
	int dir_fd;  /* owned: its directory */
};

enum instance_phase {
	INSTANCE_CREATED, /* its command has not started yet */
	INSTANCE_RUNNING,
	INSTANCE_PAUSED, /* running, as the file has it, but standing still */
	INSTANCE_EXITED,
};

/* The content of state.json. All texts are owned; NULL where there is none. */
struct instance_state {
	enum instance_phase phase;
	char *name;         /* whose it is, or was */
	pid_t pid;          /* the monitor's */
	uint64_t pid_start; /* its start, see instance_process_start() */
	int64_t created_s;  /* seconds since 1970 */
	int64_t started_s;  /* 0: never */
	int64_t finished_s; /* 0: not yet */
	int status;         /* exit status, or INSTANCE_NO_STATUS */
	bool remove;        /* --rm */
	int stop_signal;    /* what `bulkhead stop` sends */
	char *image;        /* as the user sees it in `ps` */
	char *ports;        /* "0.0.0.0:8080->80/tcp, ..." */
	char *error;        /* why it did not start, or how it broke */
	char *network;      /* as --network has it */
	char **labels;      /* "name=value"; owned, ends with NULL, or NULL */
	/*
	 * The container, whole: its command, mounts, limits (which are the
	 * machine's size). Empty where the file has none. `exec` starts here.
	 */
	struct spec spec;
	/*
	 * owned: what `start` has to know of `run`'s options beside it, by
	 * tools/container/run-again.c; NULL: it cannot start again
	 */
	struct json_t *run;
};

/*
 * Whether NAME can name a WHAT ("name", "volume"): 0 or -EINVAL, logged.
 */
int instance_check_name(const char *what, const char *name);

/* An empty object that instance_done() takes. */
void instance_init(struct instance *instance);
/* Closes; the lock, where held, goes when nobody else holds it. */
void instance_done(struct instance *instance);
void instance_state_done(struct instance_state *state);

/*
 * Makes the directory of a new instance and takes its lock. NAME NULL: a random
 * one of 12 digits. 0, -EEXIST, -EINVAL or -errno, all logged.
 */
int instance_create(const char *name, struct instance *ret);
/* The same with the first of PREFIX-*NUMBER and so on that is free. */
int instance_create_numbered(const char *prefix, unsigned *number,
			     struct instance *ret);

/* Opens an existing one, without its lock. 0 or -errno, -ENOENT logged too. */
int instance_open(const char *name, struct instance *ret);

/*
 * Reads or replaces state.json. 0 or -errno, logged; -ENOENT, not logged, where
 * `bulkhead run` has not got as far as writing it.
 */
int instance_load(const struct instance *instance, struct instance_state *ret);
int instance_save(const struct instance *instance,
		  const struct instance_state *state);

/*
 * The same with the file NAME of the directory DIR_FD, whose PATH is for
 * messages: a copy, which is never that of an instance that is paused.
 * -ENOENT: there is none, not logged.
 */
int instance_read_copy(int dir_fd, const char *path, const char *name,
		       struct instance_state *ret);
int instance_write_copy(int dir_fd, const char *path, const char *name,
			const struct instance *instance,
			const struct instance_state *state);

/*
 * Opens one whose command runs, with its state, which the caller frees. 0 or
 * -errno, logged; -ESRCH: it does not run; -EBUSY: it is paused, and so nothing
 * in it answers.
 */
int instance_open_running(const char *name, struct instance *ret,
			  struct instance_state *ret_state);
/* The same for one of which this does not matter. */
int instance_open_living(const char *name, struct instance *ret,
			 struct instance_state *ret_state);

/*
 * One at a time pauses an instance, has it go on or saves it: a descriptor that
 * the caller closes, or -errno, logged; -EBUSY: another has it for a minute.
 * STOPS, or NULL, is asked again and again; true ends it: -EINTR.
 */
int instance_lock_pause(const struct instance *instance,
			bool (*stops)(void *arg));
/* Notes whether it stands still. 0 or -errno, logged. */
int instance_note_paused(const struct instance *instance, bool paused);

/*
 * Takes the lock of one that has ended, for another run. 0; -EBUSY, not logged:
 * somebody has it.
 */
int instance_again(const struct instance *instance);
/* Removes what is left of the last run: its status, and who ended it. */
void instance_forget(const struct instance *instance);

/* True while `bulkhead run` or the monitor lives. Not for these two. */
bool instance_is_alive(const struct instance *instance);

/* Waits until it is gone: 0, or -ETIME after TIMEOUT_MS (< 0: none). */
int instance_wait(const struct instance *instance, int timeout_ms);

/*
 * A state as JSON (jansson's, a new reference; NULL: no memory, or a text that
 * is not UTF-8), as state.json has it.
 */
struct json_t *instance_state_json(const struct instance *instance,
				   const struct instance_state *state);

/* The command as one line, safe to print. Allocated, or NULL. */
char *instance_command(const struct instance_state *state);

/*
 * The exit status where the end of an instance is waited for: a descriptor of a
 * file that outlives the directory, opened before. INSTANCE_KILLED where nobody
 * was left to write it.
 */
#define INSTANCE_STATUS_FILE "status"
#define INSTANCE_PAUSED_FILE "paused" /* while it stands still */
#define INSTANCE_INPUT_FILE  "input"  /* a FIFO: with `run -d -i` */
int instance_status_read(int fd);
void instance_status_write(const struct instance *instance, int status);

/*
 * Sends SIGKILL to the monitor that STATE names, if it still is that one. The
 * process that waits for the monitor finds COMMAND ("stop") in
 * INSTANCE_KILLER_FILE then.
 */
void instance_kill_monitor(const struct instance *instance,
			   const struct instance_state *state,
			   const char *command);
#define INSTANCE_KILLER_FILE "killer"
#define INSTANCE_KILLER_MAX  15
/* The command of ours that has killed it, or "". */
void instance_read_killer(const struct instance *instance,
			  char ret[INSTANCE_KILLER_MAX + 1]);

/*
 * Takes the directory away. For whoever holds its lock (OWNED), or for an
 * instance nobody holds; -EBUSY (not logged) if somebody does. 0 or -errno.
 */
int instance_remove(const struct instance *instance, bool owned);

/*
 * Every instance in turn, in the order of their names. FN may remove it; a
 * result other than 0 ends the walk. FN's result, or -errno (logged).
 */
int instance_each(int (*fn)(const struct instance *instance, void *arg),
		  void *arg);

/*
 * Ends what killed ones left: directories of --rm go, others are marked as
 * exited. Every command that looks at instances begins with it.
 */
void instance_sweep(void);

/*
 * The same with one of them, once nobody holds it any more; does nothing if
 * that takes longer than TIMEOUT_MS.
 */
void instance_sweep_one(const char *name, int timeout_ms);

/* When the process PID started, in clock ticks since boot; 0: no such one. */
uint64_t instance_process_start(pid_t pid);

#endif
