/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's life: its process, its machine, and hooks that hear what
 * happens. supervise.c has those that keep it for an instance.
 */
#ifndef TOOLS_CONTAINER_LIFE_H
#define TOOLS_CONTAINER_LIFE_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct agent_clone_facts;
struct agent_config;
struct config;
struct netns;
struct spec_filter;
struct snapshot;
struct spec_process;
struct template;

/* The status after a second signal to end, as after SIGKILL. */
#define LIFE_KILLED 137
/* A command's name with its NUL; see life_hooks.killer. */
#define LIFE_KILLER_BYTES 16

/* Each is called with life->arg, by the thread of life_run(). */
struct life_hooks {
	/*
	 * Before there is a monitor; signals wait already. 0 or -errno, logged,
	 * which ends it.
	 */
	int (*begin)(void *arg);
	void (*born)(void *arg, pid_t monitor);
	void (*started)(void *arg); /* the command has */
	/*
	 * With interactive and detach: a descriptor of its input, which is
	 * closed in the end; -1: none.
	 */
	int (*input)(void *arg);
	void (*ready)(void *arg); /* whoever waits for the start need not */
	/* STREAM is 1 or 2. A negative result ends it. */
	int (*output)(void *arg, int stream, const void *data, size_t bytes);
	/* A process was killed for lack of memory; said already. Or NULL. */
	void (*out_of_memory)(void *arg);
	/* Why there is no status of the command's own; said already. */
	void (*error)(void *arg, const char *text);
	/*
	 * The template cannot be used: makes CFG the configuration of a machine
	 * that boots. 0 or -errno, logged. Needed with a template alone.
	 */
	int (*cold)(void *arg);
	/*
	 * The command cannot be started whatever the template has: the image
	 * lacks what it asks for. Or NULL.
	 */
	bool (*is_vain)(void *arg);
	/* Our own command that has killed the monitor, or "". */
	void (*killer)(void *arg, char ret[LIFE_KILLER_BYTES]);
};

/* All borrowed. */
struct life {
	const char *name;   /* for messages */
	const char *socket; /* path of the vsock device's, of CFG */
	const struct config *cfg;
	/* From which it goes on, or which it is to become; NULL: neither. */
	struct template *template;
	/* Where its program may be, for one with its container; NULL. */
	const char *const *warm;
	bool disposable;    /* the guest can change nothing of the host's */
	bool template_only; /* it ends once it is that; no command is run */
	/*
	 * Where its container goes on, as HOSTNAME (NULL: as it was), instead
	 * of beginning; NULL: it begins.
	 */
	const struct snapshot *snapshot;
	const char *hostname;
	const struct agent_clone_facts *clone; /* that it then is; NULL: none */
	const struct agent_config *agent;
	const struct spec_process *process;
	const struct spec_filter *filter; /* of its system calls */
	const struct netns *netns; /* that the guest is joined to; NULL */
	/* Connections to this network's 127.0.0.1 are the guest's. */
	bool ports;
	bool init;        /* below a small PID 1 that reaps */
	bool interactive; /* with input */
	bool detach;      /* standard input and output are not the command's */
	bool forward_signals;
	bool every_signal;       /* see struct agent_relay */
	int close_fds[2];        /* the monitor's child closes them; -1: none */
	const char *control_dir; /* see struct monitor_options; or NULL */
	/* life_hold_signals() was called; NULL: it was not. */
	const sigset_t *mask_before;
	const struct life_hooks *hooks;
	void *arg;
};

/*
 * Has the signals that mean to end a program wait until life_run() takes them.
 * RET_BEFORE: the mask as it was.
 */
void life_hold_signals(sigset_t *ret_before);

/*
 * Starts the machine, has the command run in it and waits for the end of both.
 * Single-threaded callers only. The exit status, as `run` has it.
 */
int life_run(const struct life *life);

#endif
