/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side of the guest's agent (bulkhead-init): sessions over the VM's
 * vsock socket. The bytes are described in firmware/agent/agent.h, the order of
 * things in docs/AGENT. The guest is hostile: everything it sends is checked,
 * and what is wrong ends the session with one line that says so.
 *
 * One thread, no callbacks from elsewhere. Functions return 0 or -errno, logged
 * once: -EPROTO the guest broke the rules, -ETIME it did not answer in time,
 * -ECONNRESET it (or its VM) went away.
 */
#ifndef TOOLS_AGENT_AGENT_H
#define TOOLS_AGENT_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct agent_session; /* one session */
struct spec_device;
struct spec_device_rule;
struct spec_filter;
struct spec_process;
struct trace;

/*
 * For the code that starts a VM, before it does: makes a socket beside the
 * vsock device's (VSOCK_PATH with "_1024" behind it) on which the guest's agent
 * reports. Mode 0600; a stale one is replaced. The descriptor is close-on-exec.
 */
int agent_listen(const char *vsock_path, int *ret_fd);

/*
 * Takes the first connection, which may be made before the guest runs, and
 * waits until the agent has started and greets. GONE_FD, unless -1, is a
 * descriptor that gets readable (a pidfd, a pipe) when the VM ended:
 * -ECONNRESET then, not logged, here and from what waits in this session until
 * agent_relay(). Borrowed as long. Closes nothing; the caller closes FD and
 * unlinks the socket now: one session comes in this way. TRACE, borrowed, or
 * NULL, gets what this session comes to.
 */
int agent_accept(int fd, int gone_fd, int timeout_ms, struct trace *trace,
		 struct agent_session **ret_agent);

/*
 * A session goes to another process of this program, before it was told
 * anything: its connection, owned, and the agent's version; AGENT is freed. And
 * there: FD is taken, also on failure.
 */
int agent_give(struct agent_session *agent, unsigned *ret_minor);
int agent_given(int fd, int gone_fd, unsigned minor, struct trace *trace,
		struct agent_session **ret_agent);

/* For everyone later: a session through the vsock device's socket. */
int agent_connect(const char *vsock_path, int timeout_ms,
		  struct agent_session **ret_agent);
/* GONE_FD as in agent_accept(). TIMEOUT_MS < 0: none. */
int agent_connect_unless(const char *vsock_path, int gone_fd, int timeout_ms,
			 struct agent_session **ret_agent);

/* On a connection that exists already (tests). FD is taken, also on failure. */
int agent_open(int fd, int timeout_ms, struct agent_session **ret_agent);

/* Ends the session. NULL is fine. */
void agent_free(struct agent_session *agent);

/* The connection's descriptor, to be watched for its end only. */
int agent_fd(const struct agent_session *agent);

/* ---- the machine: once, before the first process */

struct agent_mount {
	const char *tag;     /* of the share; NULL: a file system of TYPE */
	const char *type;    /* as the guest's kernel calls it */
	const char *subpath; /* in the share; NULL: its root; may be a file */
	const char *target;  /* absolute path in the container */
	const char *options; /* "ro,nosuid,size=64m"; or NULL */
};

/* All that an interface has, in the protocol's own structures. */
struct agent_exact {
	uint8_t mac[6]; /* finds the interface, which gets the link's name */
	bool gone;      /* for agent_change_network() only, as their flags */
	const struct agent_address *addresses;
	const struct agent_route *routes; /* all: addresses bring none */
	const struct agent_neighbour *neighbours;
	size_t naddresses, nroutes, nneighbours;
};

struct agent_link {
	const char *name;             /* "eth0" */
	uint32_t mtu;                 /* 0: as the device says */
	const char *const *addresses; /* "10.0.2.15/24", "fd00::2/64"; NULL */
	const char *const *gateways;  /* "10.0.2.2", "fe80::1"; NULL */
	const struct agent_exact *exact; /* in place of those; NULL */
};

/* Lists end with NULL; a NULL list is an empty one. */
struct agent_config {
	/*
	 * A container besides the machine's own (agent.h of firmware/agent,
	 * AGENT_ITEM_CONTAINER); NULL: that one. -ENOTSUP where the guest's
	 * agent is of an older bulkhead.
	 */
	const char *container;
	/* With it: its root's tree; limit in bytes, 0: none; what it shares. */
	const char *root_tree;
	uint64_t memory_max;
	bool share_uts, share_ipc, share_pid;
	const char *hostname; /* NULL: none is set */
	const char *root_tag; /* of the share that is the root */
	bool root_overlay;    /* changes stay in the guest's memory */
	bool root_readonly;
	/*
	 * The guest was restored, and so may others have been: its kernel gets
	 * random bytes of this host's. -ENOTSUP as with CONTAINER.
	 */
	bool entropy;
	bool host_bound; /* the VM ends when the main process's session does */
	bool keep_etc;   /* /etc/hosts and hostname stay the root's */
	const struct agent_mount *mounts; /* in this order: outer ones first */
	size_t nmounts;
	const struct agent_link *links;
	size_t nlinks;
	const char *const *dns;     /* addresses */
	const char *const *search;  /* domains */
	const char *const *hosts;   /* lines of /etc/hosts: "10.0.0.1 name" */
	const char *const *sysctls; /* "net.ipv4.ip_forward=1" */
	const char *const *masked, *const *readonly; /* paths */
	const struct spec_device *devices;           /* nodes */
	size_t ndevices;
	const struct spec_device_rule *rules; /* none: any may be used */
	size_t nrules;
	uint64_t pids_max; /* processes at most; 0: any number */
	/* So many us of all CPUs' time in each period; 0: all of it. */
	uint64_t cpu_quota, cpu_period;
	const char *oci; /* config.json without process: crun runs it; NULL */
	/* For agent_names_open(), which agent_configure() does not call. */
	const char *const *names;
};

/* Also sets the guest's clock. -EINVAL: CONFIG cannot be; logged. */
int agent_configure(struct agent_session *agent,
		    const struct agent_config *config);
/*
 * The same, but it is sent by agent_start() in this session, with that one's
 * request, so that the guest is woken once; which takes the answer, too.
 * Nothing but agent_watch() comes between.
 */
int agent_configure_begin(struct agent_session *agent,
			  const struct agent_config *config);

/* Why it did not start: what the user is told and `run` exits with. */
struct agent_failure {
	int status;      /* 125, 126 or 127 */
	int error;       /* errno in the guest, or 0 */
	char text[1024]; /* printable; without "bulkhead:" and newline */
};

/* ---- a container that is made before its run: AGENT_PREPARE */

/*
 * Whether the container of CONFIG can be: it has no shares but its root, whose
 * changes stay in the guest's memory, and nothing that waits for a network.
 */
bool agent_can_prepare(const struct agent_config *config);
/*
 * Tells the containers apart that agent_prepare() makes: the same bytes for
 * each run that one of them fits. Allocated. 0 or -errno, logged.
 */
int agent_prepare_bytes(const struct agent_config *config, uint8_t **ret,
			size_t *ret_bytes);
/*
 * Before agent_configure(), which has to have the same CONFIG but for names and
 * addresses. WARM, or NULL, are paths in the container, which end with NULL:
 * the first file that is there is read. As agent_start().
 */
int agent_prepare(struct agent_session *agent,
		  const struct agent_config *config, const char *const *warm,
		  struct agent_failure *ret_failure);

/* ---- a process: at most one in a session */

/* The process's part in its container and session; zeroed: one more program. */
struct agent_start_options {
	const char *container; /* NULL: the machine's own */
	bool main;  /* the container's own; its end ends the container */
	bool init;  /* main: below a small PID 1 that reaps (docker's --init) */
	bool input; /* standard input is given (-i), else /dev/null */
	bool own;   /* a program of the agent's own, see agent_own() */
	bool bound; /* killed when the session ends before it */
	const struct spec_filter *filter; /* of system calls; or NULL */
};

/*
 * Starts PROCESS, whose args name at least a program. Its directory (NULL: "/")
 * is made where it is missing (main); PATH, HOME, HOSTNAME and, with a
 * terminal, TERM are set by the agent where env has none. -EREMOTEIO: the guest
 * refused, RET_FAILURE says why (nothing is logged then). RET_PID, may be NULL:
 * its number in the container.
 */
int agent_start(struct agent_session *agent, const struct spec_process *process,
		const struct agent_start_options *options,
		struct agent_failure *ret_failure, int *ret_pid);

/*
 * A capability's number by name, "NET_ADMIN" or "cap_net_admin". -EINVAL, not
 * logged.
 */
int agent_capability(const char *name);
/* A signal's number: "TERM", "SIGTERM", "15". -EINVAL, not logged. */
int agent_signal_number(const char *name);

/* ---- standard input and output, until the process ends */

/* The guest's report about its memory, after agent_watch(). */
struct agent_memory {
	enum {
		AGENT_MEMORY_SHORT = 1,
		AGENT_MEMORY_ENOUGH = 2, /* again */
		AGENT_MEMORY_KILLED = 3, /* a process, not the session's own */
	} what;
	uint64_t total, available; /* bytes */
	uint64_t oom_kills;
};

/*
 * Signals that mean to end a process: SIGINT, SIGQUIT and SIGTERM. The first
 * one is the process's; the second one is meant for whoever waits for it.
 */
struct agent_ends {
	unsigned count;
	uint64_t last_ns;
};
/* timeout(1) sends its signal twice, the terminal's Ctrl-C may be a repeat. */
#define AGENT_ENDS_APART_MS 500
/*
 * Counts SIGNAL, unless it is another one, or comes less than that behind the
 * last one counted. True: it is the second, or one behind that.
 */
bool agent_ends_count(struct agent_ends *ends, int signal);

struct agent_relay {
	int in_fd;  /* -1: none; only used when the process has input */
	int out_fd; /* -1: output vanishes */
	int err_fd;
	/*
	 * IN_FD is a terminal: raw while this runs, its size passed on. Only
	 * with a process that has one. When the terminal goes away the process
	 * gets SIGHUP; if it does not end within 10 s, the relay does with
	 * -EINTR.
	 */
	bool tty;
	/*
	 * SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1 and SIGUSR2 to this process
	 * go to the guest's one; where agent_ends_count() says so, the relay
	 * ends with -EINTR, whatever the guest or a reader of the output does.
	 * (The VMM must not get the terminal's Ctrl-C: give it a process group
	 * of its own.)
	 */
	bool forward_signals;
	/*
	 * Instead: every signal that a process can catch goes to the guest's,
	 * and none ends the relay, as whoever sends them has SIGKILL, too.
	 */
	bool every_signal;
	struct agent_ends *ends; /* borrowed; NULL: one of the relay's own */
	/*
	 * The guest's clock follows this host's: when that is set or was
	 * suspended, and every few minutes.
	 */
	bool clock;
	/*
	 * Called with all output (STREAM 1 or 2) before it is written, for a
	 * log; NULL: nobody. A negative result ends the relay with it.
	 */
	int (*output)(void *arg, int stream, const void *data, size_t bytes);
	/* After agent_watch(); NULL: nobody cares. */
	void (*memory)(void *arg, const struct agent_memory *memory);
	void *arg;
	int gone_fd; /* as in agent_accept() */
};

struct agent_status {
	int status; /* what `run` exits with: 0..255; 128 + N after signal N */
	int signal; /* that ended it, or 0 */
	bool oom;   /* the guest, or its container, ran out of memory */
	/* The main one, and no session has another: nobody hears the rest. */
	bool last;
};

/*
 * Relays until the process has ended, all its output is written and its end is
 * acknowledged (the VM then powers off if it was the main one). Never waits for
 * input that nobody takes. Where output cannot be written any more (EPIPE) the
 * process in the guest gets SIGPIPE, too.
 */
int agent_relay(struct agent_session *agent, const struct agent_relay *relay,
		struct agent_status *ret_status);

/* ---- single requests, each in a session without a process */

/*
 * Before a process is started: have its relay told when less than PERCENT of
 * the guest's memory is left.
 */
int agent_watch(struct agent_session *agent, unsigned percent);

/*
 * To the main process of CONTAINER, as agent_start_options has it. -ESRCH:
 * there is none (logged).
 */
int agent_signal(struct agent_session *agent, const char *container,
		 int signal);
/* Has CONTAINER stand still, or go on. */
int agent_freeze(struct agent_session *agent, const char *container,
		 bool frozen);
/*
 * Has the machine's own container stand still so that the machine can be saved,
 * as long as this session is or until it is told to go on. Where the machine
 * goes on from what was saved, it waits for agent_attach(). -ENOTSUP: the
 * instance was started by an older bulkhead, or has several containers (both
 * logged).
 */
int agent_hold(struct agent_session *agent, bool held);
/* Facts for one of several containers that go on from there. */
struct agent_clone_facts {
	const char *name, *source; /* its own; of the one that was saved */
	unsigned number;           /* from 1 on */
	int signal;                /* that its main process gets; 0: none */
};
/*
 * In place of agent_configure() and agent_start() where that is: gives the
 * guest the host's time and random bytes, and HOSTNAME (NULL: as it was), tells
 * the container that it is CLONE (NULL: none), has the container go on and
 * makes its main process this session's. OPTIONS: of its start; only `input`
 * matters. RET_PID as in agent_start(). 0 or -errno, logged.
 */
int agent_attach(struct agent_session *agent, const char *hostname,
		 const struct agent_clone_facts *clone,
		 const struct agent_start_options *options, int *ret_pid);
/* 0: as it is. */
#define AGENT_LIMITS_NONE UINT64_MAX
struct agent_limits {
	uint64_t memory_max;            /* bytes */
	uint64_t pids_max;              /* processes */
	uint64_t cpu_quota, cpu_period; /* us of CPU time in each period */
};
/*
 * Gives CONTAINER, one besides the machine's own, other limits while it runs.
 * -ENOTSUP: the guest's agent is of an older bulkhead (logged).
 */
int agent_limit(struct agent_session *agent, const char *container,
		const struct agent_limits *limits);
/* SIGNAL (0: SIGTERM), after GRACE_MS SIGKILL, then power-off; does not wait.
 */
int agent_shutdown(struct agent_session *agent, int signal, uint32_t grace_ms);
/* Gives the guest the host's time: after a pause or a restore. */
int agent_set_clock(struct agent_session *agent);

/*
 * Starts a program of the agent's own (AGENT_START_OWN) to be relayed. INPUT:
 * it gets standard input. 0 or -errno, logged; -ENOTSUP: the instance was
 * started by an older bulkhead.
 */
int agent_own(struct agent_session *agent, const char *const *argv, bool input);

struct agent_names;
/*
 * Name servers in the guest, at port 53 of the addresses SERVERS (a list that
 * ends with NULL, 3 at most, of its loopback), whose queries a thread asks at
 * port 53 of the same addresses in this process's network namespace, and
 * nowhere else. Before the main process starts, or later. AGENT, a session
 * without a process, is taken, also on failure. 0 or -errno, logged.
 */
int agent_names_open(struct agent_session *agent, const char *const *servers,
		     struct agent_names **ret);
/* Ends them, before the machine is to end. NULL is fine. */
void agent_names_close(struct agent_names *names);

/* So many connections at once; more wait. */
#define AGENT_PORTS_STREAMS 16

struct agent_ports_options {
	int fd; /* a TCP socket that listens; taken, also on failure */
	/* Opens a session for one; called by the thread. 0 or -errno, logged.
	 */
	int (*connect)(void *arg, struct agent_session **ret_agent);
	void *arg;
};

struct agent_ports;
/*
 * A thread that takes the connections that come at OPTIONS->fd to the guest:
 * each to the port of the guest's loopback that it came to here. One to a port
 * where nothing listens there is reset. 0 or -errno, logged.
 */
int agent_ports_open(const struct agent_ports_options *options,
		     struct agent_ports **ret);
/* Ends them, before the machine is to end. NULL is fine. */
void agent_ports_close(struct agent_ports *ports);

/*
 * Changes LINKS, each of which has `exact`, while the machine runs: those that
 * are gone lose their devices, others get what is given, or lose what is marked
 * as gone (AGENT_GONE); what is not given stays. An interface that the guest
 * does not have is looked for among devices that have come. -ENOTSUP: as
 * agent_own(). 0 or -errno, logged.
 */
int agent_change_network(struct agent_session *agent,
			 const struct agent_link *links, size_t nlinks);

/* A process of the container. Texts are printable and owned. */
struct agent_top_process {
	unsigned pid, ppid, uid;
	uint64_t age_ms, cpu_ms;
	char tty[16];
	char *user, *command;
};

struct agent_top {
	struct agent_top_process *list; /* owned; by ascending pid */
	size_t count;
};

/* The container's processes. 0 or -errno, logged. RET needs agent_top_done().
 */
int agent_get_top(struct agent_session *agent, struct agent_top *ret);
void agent_top_done(struct agent_top *top);

/* The container's use of the machine, as the guest tells. */
struct agent_stats {
	uint64_t time_us, cpu_us;      /* for differences */
	uint64_t memory, memory_limit; /* bytes; cache that can go is free */
	uint64_t net_rx, net_tx;       /* bytes */
	uint64_t pids;                 /* processes and threads */
};
/* -ENOTSUP: the instance was started by an older bulkhead; logged. */
int agent_get_stats(struct agent_session *agent, struct agent_stats *ret);

struct agent_facts {
	uint64_t memory_total, memory_available; /* bytes */
	uint64_t oom_kills, uptime_ms;
	uint32_t processes; /* that sessions have started and that run */
	bool running;       /* the main one does */
};
int agent_get_facts(struct agent_session *agent, struct agent_facts *ret_facts);

#endif
