/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead-runtime`, an OCI runtime whose containers are virtual machines. The
 * host's half of a container - namespaces, cgroups, hooks, mounts, the console
 * - is made by an ordinary runtime, runc or crun ("the host's runtime"), from a
 * bundle that is written here: its process is this program, which starts the
 * machine and has the process that the engine asked for run in it.
 *
 * Below --root: ID/ (of a container: bundle/, vm/, container.json), @host/ (the
 * host's runtime's own).
 *
 * Functions return 0 or -errno, logged, unless they say otherwise. One thread.
 */
#ifndef TOOLS_OCI_OCI_H
#define TOOLS_OCI_OCI_H

#include "tools/cli/text-list.h"
#include "vmm/base/trace.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct agent_session;
struct json_t;

/* runc's and crun's exit status for errors of their own. */
#define OCI_EXIT_FAILED 1

/* In the outer container: a tmpfs of its own, which no guest sees. */
#define OCI_INSIDE         "/dev/.bulkhead"
#define OCI_INSIDE_PROGRAM OCI_INSIDE "/program"
#define OCI_INSIDE_KERNEL  OCI_INSIDE "/kernel"
#define OCI_INSIDE_VM      OCI_INSIDE "/vm"
#define OCI_INSIDE_POD     OCI_INSIDE "/pod" /* the machine's, if another's */
/* Until its process runs; not there: it boots. */
#define OCI_INSIDE_TEMPLATES OCI_INSIDE "/templates"

/*
 * /dev/kvm, in the outer container's process where `init` is called with the
 * word "kvm". Its root may be a user who may not open that.
 */
#define OCI_KVM_FD 3

/* Names in a container's directory `vm`, which is OCI_INSIDE_VM there. */
#define OCI_SPEC_FILE       "spec.json" /* the guest's half of config.json */
#define OCI_SOCKET_FILE     "vsock"
#define OCI_TREES_FILE      "trees"    /* socket: files of other containers */
#define OCI_POD_FILE        "pod.json" /* of a container in another's machine */
#define OCI_SANDBOX_FILE    "sandbox.json"    /* there: a pod's own one */
#define OCI_NAMESPACES_FILE "namespaces.json" /* of a machine's own one */
#define OCI_EXEC_PREFIX     "exec-" /* processes of `exec`, until they start */
#define OCI_STARTED_FILE    "started"      /* the process runs */
#define OCI_TRACE_FILE      "trace.json"   /* see oci_trace_begin() */
#define OCI_CONTROL_FILE    "control.sock" /* socket: `init` has it saved */
/* In the container's directory: its machine stands still. */
#define OCI_PAUSED_FILE "paused"
/* There, too: who makes it; see oci_host_await_maker(). */
#define OCI_MAKER_FILE "maker"

/* Memory that the monitor and its caches need beside the guest's. */
#define OCI_OVERHEAD_BYTES (UINT64_C(128) << 20)

/* The global options. */
struct oci {
	const char *command;    /* for messages */
	char *root;             /* owned */
	char *host;             /* owned: path of the host's runtime; or NULL */
	const char *log;        /* where errors go as well, or NULL */
	struct text_list pass;  /* what the host's runtime gets, too */
	const char *maker;      /* see oci_host_await_maker(); or NULL */
	bool maker_stays;       /* the same */
	bool bound;             /* the host's runtime is killed with us */
	bool cold;              /* no machine goes on from a template */
	struct trace *trace;    /* owned: of this process; NULL: none */
	const char *trace_file; /* where it is printed; NULL: standard error */
	int kvm_fd; /* > 0: that one's container gets it, as OCI_KVM_FD */
};

/* ---- the host's runtime */

/*
 * Finds the host's runtime, unless one is named already, in PATH and where
 * Debian has them: crun, which starts faster, then runc; the other way round
 * where control groups are not of version 2 alone, as crun refuses some such
 * hosts. -ENOENT: there is none.
 */
int oci_host_find(struct oci *oci);
/*
 * Its command line up to the subcommand, which NAME is: the program, --root,
 * and what it gets of the global options. ID: a container's, whose command it
 * is for: the program is the one that made that, where it is noted; or NULL.
 */
int oci_host_command(struct oci *oci, const char *name, const char *id,
		     struct text_list *ret);
/* Becomes it. Returns on errors only, with an exit status. */
int oci_host_exec(const struct text_list *command);
/*
 * Runs it; its exit status, or -errno. RET_OUTPUT, unless NULL: what it wrote
 * to standard output, a text to be freed.
 */
int oci_host_run(const struct text_list *command, char **ret_output);
/*
 * Has it do NAME to the container ID, with ARGS (which ends with NULL) and what
 * PASS has of the options. An exit status.
 */
int oci_host_call(struct oci *oci, const char *name, const char *const *args,
		  const struct text_list *pass, const char *id);

/*
 * Its state of the container ID: a new reference. An exit status; the host's
 * runtime has said why there is none.
 */
int oci_host_state(struct oci *oci, const char *id, struct json_t **ret);
/*
 * The process of the container ID, a pidfd, and the directory of the control
 * group that it is in, on a host that has them in version 2 alone. The caller
 * closes both. 0 or -errno, logged: -ESRCH is one that has ended.
 */
int oci_host_group(struct oci *oci, const char *id, int *ret_process_fd,
		   int *ret_group);
/*
 * Whether ID has the status NAME ("created", "running" ...) for the host's
 * runtime. False, too, where that cannot be told, which is logged.
 */
bool oci_host_is(struct oci *oci, const char *id, const char *name);

/*
 * A `create` or `run` that is killed leaves the host's runtime at work, which
 * has noted itself in the file that oci->maker named: waits for its end, or, if
 * it stays as long as its container, until it can be deleted. FORCE: does not
 * wait for ever, but kills it. 0 or -errno, logged.
 */
int oci_host_await_maker(const struct oci *oci, const char *id, bool force);

/* ---- --trace boot (oci-trace.c) */

/* VALUE: "boot", or "boot=FILE". 0 or -errno, logged. */
int oci_trace_begin(struct oci *oci, const char *value);
/* ID's start has come to POINT: `init` and oci_trace_print() find it. */
void oci_trace_note(const struct oci *oci, const char *id,
		    enum trace_point point);
/* ID has ended, and its directory is there still. */
void oci_trace_print(const struct oci *oci, const char *id);
/* `init`: what `create` has begun, or NULL; and what the others find. */
struct trace *oci_trace_inside(void);
void oci_trace_keep(const struct trace *trace);

/* ---- a container's directory */

/* Whether ID can name a container: letters, digits and "_+-.". */
int oci_check_id(const char *id);
/* ID's directory, or a file NAME in it; allocated. NULL: no memory, logged. */
char *oci_path(const struct oci *oci, const char *id, const char *name);
/* Whether there is the file NAME in ID's directory. */
bool oci_store_has(const struct oci *oci, const char *id, const char *name);
/* -EINVAL: no id; -ENOENT: no such container, in the words engines look for. */
int oci_check_container(const struct oci *oci, const char *id);
/* Makes the directories. -EEXIST: there is such a container. */
int oci_store_make(const struct oci *oci, const char *id);
/*
 * Removes all there is of ID; what is not there is fine. -EEXIST: that is
 * something else's directory.
 */
int oci_store_remove(const struct oci *oci, const char *id);
/*
 * Gives the directory `vm`, and what is written there from now on, to the user
 * and group that are the container's root on the host. 0 or -errno, logged.
 */
int oci_store_give(const struct oci *oci, const char *id, uid_t uid, gid_t gid);
/* Writes JSON to the file NAME of ID's directory, mode 0600. */
int oci_store_write(const struct oci *oci, const char *id, const char *name,
		    struct json_t *json);
/*
 * This program's notes of ID (container.json): a new reference in *RET, NULL:
 * there are none. 0, or -EBADMSG or -errno, which is logged if TELLS: what is
 * there are no such notes, so that nobody knows whose container it is.
 */
int oci_store_own(const struct oci *oci, const char *id, bool tells,
		  struct json_t **ret);
/* The other way; a new reference, NULL: -errno, logged but for -ENOENT. */
struct json_t *oci_store_read(const struct oci *oci, const char *id,
			      const char *name);

/* By `pause` of this one. */
bool oci_is_paused(const struct oci *oci, const char *id);
/* That, or its machine is paused, which is another's. */
bool oci_stands_still(const struct oci *oci, const char *id);
/*
 * Waits until the process of the container ID runs in its guest, and gives a
 * descriptor that is readable when the container has ended. 0 or -errno,
 * logged: it does not run, or there is none.
 */
int oci_await_started(struct oci *oci, const char *id, int *ret_process_fd);
/*
 * Its guest's agent, once it runs, and its name there: NULL, or ID where it is
 * in another's machine.
 */
int oci_agent(struct oci *oci, const char *id, struct agent_session **ret,
	      const char **ret_container);

/*
 * Removes all there is of ID, the filters in a network namespace that lives on
 * included. As oci_store_remove().
 */
int oci_forget(const struct oci *oci, const char *id);

/* ---- bundles */

/* The text NAME of JSON, or "". */
const char *oci_text(struct json_t *json, const char *name);
/* The entry of linux.namespaces that is of TYPE; borrowed. NULL: none. */
struct json_t *oci_namespace(struct json_t *config, const char *type);
/* Whether PATH is DIR or below it. */
bool oci_is_below(const char *path, const char *dir);

struct oci_bundle {
	const char *path;      /* absolute */
	const char *program;   /* this program's file */
	const char *kernel;    /* the guest's, a file */
	const char *vm;        /* the container's directory `vm` */
	const char *pod;       /* that of the machine's own; NULL: it is this */
	const char *templates; /* a directory; NULL: the machine boots */
	bool has_kvm;          /* OCI_KVM_FD is passed */
};

/*
 * Takes CONFIG, a bundle's config.json, apart: RET_HOST is for the host's
 * runtime, RET_GUEST is what the guest does. New references. A
 * key that neither can do is refused by its name.
 */
int oci_bundle_split(const struct oci_bundle *bundle, struct json_t *config,
		     struct json_t **ret_host, struct json_t **ret_guest);
/*
 * Takes numbers out of RESOURCES, which may be NULL, that are 0: to engines and
 * runc that is none at all, crun sets or refuses it.
 */
void oci_bundle_drop_unset(struct json_t *resources);
/*
 * Adds what this side's processes need to the limits that MEMORY, which may be
 * NULL, has. MEMBER: the container is in another's machine, whose control group
 * has the memory of both, so that less than that is raised alone.
 */
void oci_bundle_raise(struct json_t *memory, bool member);
/*
 * Refuses files of RESOURCES' "unified" that would limit the monitor, which
 * needs more than the guest, and would not reach the guest. RESOURCES may be
 * NULL. 0 or -ENOTSUP, logged.
 */
int oci_bundle_check_unified(struct json_t *resources);
/*
 * In the outer container: whether the guest may have what is at PATH, which has
 * no links any more, for the mount on DESTINATION. An image's links lead mounts
 * elsewhere. -EPERM: it is what no guest sees.
 */
int oci_bundle_check_source(const char *destination, const char *path);
/*
 * A process of `exec` as the host's runtime gets it: PROGRAM and ARGS in place
 * of the command, with the monitor's privileges. A new reference; NULL: no
 * memory, logged.
 */
struct json_t *oci_bundle_process(struct json_t *process,
				  const char *const *args);

/*
 * Whether the program of CONFIG's process is in the directory ROOT, as far as
 * that can be told. -ENOENT, -EACCES: in words that engines know.
 */
int oci_check_program(struct json_t *config, const char *root);

/* ---- pods: containers in the machine of another one */

struct oci_pod {
	char *id; /* owned: the machine's own container; NULL: it is this one */
	bool ipc, uts, pid; /* shared with that one */
};

/* Whether CONFIG's container is the first of a pod, by its annotations. */
bool oci_pod_is_sandbox(struct json_t *config);
/*
 * Finds the machine that the container ID with CONFIG belongs to: by
 * annotations, or as it has the network of that one. RET needs oci_pod_done().
 */
int oci_pod_find(const struct oci *oci, const char *id, struct json_t *config,
		 struct oci_pod *ret);
void oci_pod_done(struct oci_pod *pod);
/* For OCI_POD_FILE; a new reference. NULL: no memory. */
struct json_t *oci_pod_json(const struct oci_pod *pod, const char *id);

/* In the outer container: what that file says. */
struct oci_member {
	struct json_t *json; /* owned */
	const char *name;    /* in the guest; of JSON */
	struct oci_pod shared;
};
/* 1, 0: it has a machine of its own, -errno (logged). */
int oci_pod_read(struct oci_member *ret);
void oci_pod_read_done(struct oci_member *member);
/*
 * On the host: 1 and the id of the machine's own container, allocated, where ID
 * is in another's machine; else 0. -errno, logged.
 */
int oci_pod_machine(const struct oci *oci, const char *id, char **ret);
/* Tells PATH which namespaces the machine's own container is in. */
int oci_pod_save_namespaces(const char *path);

/*
 * Gives GUEST, of a pod's first container with CONFIG, the limits that are the
 * machine's size: what the engine's annotations say, else a default that fits
 * into the host's control groups, which are mounted at GROUPS. 0, -EINVAL (an
 * annotation is no number) or -ENOMEM, logged.
 */
int oci_pod_size(struct json_t *config, const char *groups,
		 struct json_t *guest);

/* ---- control groups of the host */

#define OCI_GROUPS "/sys/fs/cgroup"
/* crun's annotation: the group in systemd's scope that a container is in. */
#define OCI_SUBGROUP "run.oci.systemd.subgroup"

/* 0: there is none. */
struct oci_limits {
	uint64_t memory;        /* bytes */
	uint64_t quota, period; /* microseconds of CPU time, and of real time */
};

/*
 * The lowest limits of the groups around a container's own, which need not be
 * there yet: CGROUPS_PATH as in config.json, a path from the root or systemd's
 * SLICE:PREFIX:NAME. ROOT is where version 2 is mounted, or the directory of
 * version 1's controllers. A limit that cannot be read
 * is none.
 */
void oci_group_limits(const char *root, const char *cgroups_path,
		      struct oci_limits *ret);

/* Whether any hierarchy has that group, with ROOT and CGROUPS_PATH as above. */
bool oci_group_exists(const char *root, const char *cgroups_path);

/*
 * Removes the groups of a container whose processes have ended or are about to,
 * with ROOT and CGROUPS_PATH as above; one that systemd made is systemd's to
 * remove. None is as good. 0 or -errno, logged.
 */
int oci_group_remove(const char *root, const char *cgroups_path);

/* Whether the groups mounted at ROOT are of version 2 alone. */
bool oci_group_is_unified(const char *root);
/*
 * The directory of the group, of version 2, that a process is in: LIST_FILE is
 * its /proc/PID/cgroup. 0 or -errno, not logged: -EXDEV is a container without
 * one of its own, in the host's topmost or out of sight.
 */
int oci_group_open(const char *root, const char *list_file, int *ret);

/* As runc tells: an ordinary user's engine is root in a user namespace. */
bool oci_is_for_root(void);

/* ---- templates */

/*
 * The directory of templates that the container of CONFIG may start from, and
 * add to: allocated, or NULL where it is to boot, as the user says or its root
 * is another user. 0, -EINVAL or -ENOMEM, logged.
 */
int oci_templates_find(const struct oci *oci, struct json_t *config,
		       char **ret_path);

/* ---- users */

/*
 * The host's user and group that are root in CONFIG's container: this process's
 * own where it has no user namespace. 0 or -errno, logged.
 */
int oci_users_root(struct json_t *config, uid_t *ret_uid, gid_t *ret_gid);

/* ---- networks */

/* The path of CONFIG's network namespace; "": it gets one of its own. */
const char *oci_network_path(struct json_t *config);
/*
 * Whether a guest can have the network that CONFIG says: not the host's, and
 * none that another guest has. 0 or -errno, logged.
 */
int oci_network_check(struct json_t *config);
/*
 * Takes off the interfaces of the namespace PATH, which may be gone, what a
 * guest has left there whose monitor was killed.
 */
void oci_network_leave(const char *path);

/* ---- commands: the exit status; argv[0] is the command */

struct oci_command {
	const char *name; /* NULL ends the table */
	int (*run)(struct oci *oci, int argc, char **argv);
	const char *help; /* NULL: internal */
};

int oci_cmd_create(struct oci *oci, int argc, char **argv); /* and run */
int oci_cmd_delete(struct oci *oci, int argc, char **argv);
int oci_cmd_events(struct oci *oci, int argc, char **argv);
int oci_cmd_exec(struct oci *oci, int argc, char **argv);
int oci_cmd_features(struct oci *oci, int argc, char **argv);
int oci_cmd_kill(struct oci *oci, int argc, char **argv);
int oci_cmd_list(struct oci *oci, int argc, char **argv);
int oci_cmd_pause(struct oci *oci, int argc, char **argv); /* and resume */
int oci_cmd_ps(struct oci *oci, int argc, char **argv);
int oci_cmd_state(struct oci *oci, int argc, char **argv);
int oci_cmd_update(struct oci *oci, int argc, char **argv);
int oci_cmd_start(struct oci *oci, int argc, char **argv);
/* The host's runtime does it. */
int oci_cmd_pass(struct oci *oci, int argc, char **argv);

/* In the outer container: its process, and one of `exec`. */
int oci_cmd_init(struct oci *oci, int argc, char **argv);
int oci_cmd_join(struct oci *oci, int argc, char **argv);
int oci_cmd_relay(struct oci *oci, int argc, char **argv);
/*
 * In there, by `init`, which has no threads and is about to end: has engines
 * see that memory ran out. Does what it can, and says nothing.
 */
void oci_oom_tell(void);

/* ---- for those three */

struct spec;
struct spec_process;

/* `docker run` without -i gives /dev/null: the guest has one of its own. */
bool oci_has_input(void);
/* The terminal's size, where it has one. */
void oci_find_size(struct spec_process *process);
/* As long as a machine on a busy host has to be set up. */
#define OCI_MACHINE_MS 180000
/*
 * Waits until the machine's own container runs, which oci_note_started() tells
 * by the file STARTED, or until GONE_FD (-1: none) is readable: it has ended. 0
 * or -errno, logged.
 */
int oci_await_machine(const char *started, int gone_fd);
/*
 * Stands for PROCESS, which AGENT has started, until its end; INPUT: and gives
 * it this one's. Its exit status, or 137: the machine has ended. Sets *ret_oom,
 * if not NULL, where it was killed for lack of memory.
 */
int oci_relay(struct agent_session *agent, const struct spec_process *process,
	      bool input, bool *ret_oom);
/* The process runs in the guest: `pause` and `kill` wait for this. */
void oci_note_started(void);
/* Whether the guest may have the sources of all mounts. */
int oci_check_sources(const struct spec *spec);

#endif
