/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead run`, in parts: the options (run-options.c); the container that
 * they and the image make, a struct spec (run-spec.c, run-process.c,
 * run-mounts.c); the machine for a spec (run-machine.c, run-shares.c,
 * run-network.c, run-netns.c); and its life (supervise.c). cmd-run.c puts them
 * together.
 */
#ifndef TOOLS_CONTAINER_RUN_H
#define TOOLS_CONTAINER_RUN_H

#include "tools/agent/agent.h"
#include "tools/instance/instance.h"
#include "tools/cli/options.h"
#include "tools/guest/distro.h"
#include "tools/image/rootfs.h"
#include "tools/container/netns.h"
#include "tools/cli/text-list.h"
#include "tools/spec/spec.h"
#include "vmm/config/config.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* A machine's memory where nothing says how much. */
#define RUN_MEMORY_DEFAULT (512 * MIB)

/* Docker's: it could not even be started, and why. */
#define RUN_EXIT_FAILED 125

#define RUN_VOLUMES_MAX 128

/*
 * Options of a spec's mounts that are ours: how a share behaves, and which
 * named volume it is. mount(8) leaves names that begin so to others, too.
 */
#define RUN_MOUNT_CACHE  "x-bulkhead.cache="
#define RUN_MOUNT_LOCKS  "x-bulkhead.locks="
#define RUN_MOUNT_VOLUME "x-bulkhead.volume="

/* The user's options; texts are borrowed from argv. */
struct run_options {
	bool interactive, tty, detach, remove, readonly, rootfs_write;
	bool privileged, init, forward_signals, no_sandbox;
	const char *name, *hostname, *workdir, *user, *entrypoint;
	const char *memory, *cpus, *network, *shm_size, *max_image;
	const char *stop_signal, *kernel, *append, *log_level;
	const char *guest_runtime, *pids_limit, *bundle, *trace;
	struct trace *marks; /* for --trace; owned by the command; NULL */
	bool restored;       /* its machine is a snapshot's, and never boots */
	bool cold;           /* from no template, and none is made of it */
	bool waits;          /* for a container: its own is none */
	bool template_only;  /* its template is made, and nothing is run */
	const char *templates; /* their directory; NULL: the image store's */
	/* For containers that come later, see run_trees_make(); NULL. */
	const char *trees_socket;
	unsigned trees;
	struct option_list env, env_files, volumes, tmpfs, mounts, publish;
	struct option_list labels;
	struct option_list cap_add, cap_drop, groups, ulimits, security;
	struct option_list dns, search, hosts, sysctls;
	const char *root;  /* the image or directory */
	char *const *args; /* what follows it; ends with NULL */
};

/* 0, OPTIONS_ERROR or OPTIONS_HELP. */
int run_options_parse(struct run_options *opt, int argc, char **argv);
void run_options_done(struct run_options *opt);

/* ---- the container */

/*
 * Fills SPEC, zeroed before, with what the options and the image say, but for
 * the host name where no option has one. Touches the host only to find mounts'
 * sources. 0 or -errno, logged.
 */
int run_spec_make(struct spec *spec, const struct run_options *opt,
		  const struct rootfs *root);
/*
 * The same from the bundle OPT->bundle, and its root. Options that say what its
 * config.json says are refused, and so is what a machine of its own cannot do.
 * Sets OPT->tty. ROOT is zeroed but for hold = -1. 0 or -errno, logged.
 */
int run_bundle_load(struct spec *spec, struct run_options *opt,
		    struct rootfs *root);
/*
 * Refuses what PROCESS asks for and no guest does: walls of the host's kernel.
 * OPT, or NULL: its --security-opt may give them up. 0 or -ENOTSUP, logged.
 */
int run_check_walls(const struct spec_process *process,
		    const struct run_options *opt);
/*
 * A namespace that is not among those GIVEN (SPEC_NS_*) would be the host's. 0
 * or -ENOTSUP, logged.
 */
int run_check_namespaces(unsigned given);
/* Whether an option of that name and value is in --security-opt. */
bool run_has_security(const struct run_options *opt, const char *name,
		      const char *value);
/* -m and --cpus, and what is usual, where the limits are not there. */
int run_size_make(struct spec_linux *l, const struct run_options *opt);
/* A name that a line of /etc/hosts can have. WHAT is for messages. */
int run_check_hostname(const char *what, const char *name);
/* The terminal's size. 0 or -ENOTTY, logged: -it without one. */
int run_terminal_make(struct spec_process *process,
		      const struct run_options *opt);
/* -v, --mount and --tmpfs, after the mounts that are there. */
int run_mounts_make(struct spec *spec, const struct run_options *opt);

/*
 * Fills PROCESS, zeroed before, with what the options and the image say. 0 or
 * -errno, logged.
 */
int run_process_make(struct spec_process *process,
		     const struct run_options *opt,
		     const struct rootfs_config *image);
/* The paths where PROCESS's program is looked for. 0 or -ENOMEM, logged. */
int run_process_paths(const struct spec_process *process,
		      struct text_list *ret);
/*
 * Whether ROOT is an image that has not the user of PROCESS, or not one of its
 * groups. False also where that cannot be told.
 */
bool run_user_is_missing(const struct rootfs *root,
			 const struct spec_process *process);
/* The signal that `bulkhead stop` sends. -EINVAL: no such one, logged. */
int run_stop_signal(const struct run_options *opt,
		    const struct rootfs_config *image);

/* The capabilities that OPT leaves. 0 or -EINVAL, logged. */
int run_caps(const struct run_options *opt, uint64_t *ret);
/* "nofile=1024:4096"; one number is both limits. 0 or -errno, logged. */
int run_ulimit_parse(const char *text, struct spec_rlimit *ret);
/* FILE of "--security-opt seccomp=FILE"; NULL: there is none. */
const char *run_seccomp_file(const struct run_options *opt);

/* ---- the machine */

/*
 * Ports of the host's that were chosen: no other start in this network
 * namespace chooses them as long as these are open. A zeroed one has none.
 */
#define RUN_CHOSEN_MAX 32
struct run_chosen {
	int fd[RUN_CHOSEN_MAX]; /* owned */
	unsigned n;
};

struct run_machine {
	struct config cfg;         /* of the VM */
	struct distro distro;      /* where its kernel is a distribution's */
	struct agent_config agent; /* of the guest; points into what follows */
	struct template *template; /* owned; NULL: it has to do with none */
	/* Owned: the file cfg.initrd names; -1: it goes on from a template. */
	int initrd_fd;
	struct agent_mount *mounts; /* owned; one for each of the spec's */
	struct spec_linux devices;  /* owned: devices and their rules */
	struct text_list strings;   /* what mounts and link point to */
	struct agent_link link;
	const char *addresses[2], *gateways[2];
	struct text_list dns, search, hosts;
	struct text_list names;     /* those of dns that the host answers for */
	struct run_chosen chosen;   /* ports */
	char *ports;                /* for `ps`; NULL: none */
	const char *network;        /* which it became; borrowed */
	struct netns netns;         /* with run_netns_make() */
	struct agent_link *links;   /* owned; one for each of its own */
	struct agent_exact *exacts; /* owned; those that the links name */
	int volume_fds[RUN_VOLUMES_MAX]; /* owned: locks of named volumes */
	unsigned nvolume_fds;
	unsigned nshares;          /* besides the root */
	char *oci;                 /* owned: with crun in the guest */
	struct spec_filter filter; /* owned; of the command's system calls */
	/* With run_member_make(): its trees are there as long as it is open. */
	bool is_member;
	int trees_fd;    /* owned, where is_member */
	bool disposable; /* its guest can change nothing of the host's */
};

/*
 * Makes the machine of a container. Zeroed before, but for initrd_fd, which is
 * -1. SPEC is the container, and must stay as long as the machine; sources of
 * named volumes are filled in there. OPT counts where it concerns the machine
 * alone. Needs the instance's paths. 0 or -errno, logged.
 */
int run_machine_make(struct run_machine *machine, struct spec *spec,
		     const struct run_options *opt, const struct rootfs *root,
		     const struct instance *instance);
void run_machine_done(struct run_machine *machine);
/*
 * Makes of one that would go on from a template, which cannot be used and is
 * removed, one that goes on from another one, or boots. 0 or -errno, logged.
 */
int run_machine_make_again(struct run_machine *machine,
			   const struct run_options *opt);
/*
 * Whether run_machine_make() will take SPEC with KERNEL, as far as that can be
 * told before its mounts and networks are there: for those who make it later.
 */
int run_machine_check(const struct spec *spec, const char *kernel);

/* Parts of it: devices, and what the guest does with them. */
bool run_is_address(const char *text); /* IPv4 or IPv6 */
int run_shares_make(struct run_machine *machine, struct spec *spec);
/* Whether its mounts' types and options are ones that are done. */
int run_shares_check(const struct spec *spec);
/*
 * The texts of -p, and where they name no port of the host's, a free one each,
 * which is CHOSEN's until run_chosen_done(). 0 or -errno, logged. Other
 * mistakes in them are left for their parser to tell.
 */
int run_publish_resolve(const struct option_list *list,
			struct run_chosen *chosen, struct text_list *ret);
void run_chosen_done(struct run_chosen *chosen);
/* Whether a text of -p has a free port chosen there. */
bool run_publish_chooses(const char *text);
int run_network_make(struct run_machine *machine,
		     const struct run_options *opt);
/*
 * In place of it: the guest gets the interfaces of the network namespace that
 * this process runs in, as they are now: a device for each, and for the agent
 * names, addresses, routes and neighbours. The monitor joins them when it
 * starts (devices/host/tap-join.h), which takes CAP_NET_ADMIN and /dev/net/tun;
 * run_machine_done() undoes it. None but lo: the guest has none. 0 or -errno,
 * logged; the host's own namespace is refused.
 */
int run_netns_make(struct run_machine *machine);

/* Tells the agent about a container all but root, mounts and network. */
int run_guest_make(struct run_machine *machine, const struct spec *spec,
		   const struct run_options *opt);

/*
 * Has a machine take containers while it runs: their files come by the Unix
 * socket PATH, MOST directories and files at once, as one share. 0 or -errno,
 * logged.
 */
#define RUN_TREES_TAG "containers"
int run_trees_make(struct run_machine *machine, const char *path,
		   unsigned most);

/* One of these containers. */
struct run_member {
	const char *name;
	const char *socket; /* the machine's, for trees */
	const struct rootfs *root;
	bool share_uts, share_ipc, share_pid; /* with the machine's own */
};
/*
 * In place of run_machine_make(): brings SPEC's root and mounts to a machine
 * that runs, and makes MACHINE's agent and filter alone. 0 or -errno, logged.
 */
int run_member_make(struct run_machine *machine, struct spec *spec,
		    const struct run_member *member);

/* Adds a device to the configuration. 0 or -errno, logged. */
int run_add_device(struct config *cfg, const char *type,
		   const struct config_pair *pairs, size_t n);
/* Keeps a copy of TEXT as long as the machine. NULL: no memory, logged. */
const char *run_keep(struct run_machine *machine, const char *text);

/* ---- its life */

struct run {
	const struct run_options *opt;
	struct rootfs root;
	struct instance instance;
	struct instance_state state;
	struct run_machine machine;
	/* Where the container goes on, and its new name there; or NULL. */
	const struct snapshot *snapshot;
	const char *hostname;
	struct agent_clone_facts clone; /* which one it then is; or zeroed */
	bool signals_held;              /* by run_hold_signals() */
	sigset_t mask_before;           /* of that */
};

/*
 * Has the signals wait that end a start, from before the instance is made until
 * supervise() takes them: nobody else would remove the instance. Releasing them
 * lets one that waits do as it does to any program.
 */
void run_hold_signals(struct run *run);
void run_release_signals(const struct run *run);

/*
 * Starts the machine, has the command run in it, waits for
 * its end and leaves of the instance what is to stay. READY_FD, unless -1 (-d):
 * gets an int, 0 or the exit status, once the command has started or could not.
 * The exit status.
 */
int supervise(struct run *run, int ready_fd);

/*
 * The same in a process in the background, to which this returns as well. In
 * the caller's, once the command has started or could not: prints the name, or
 * gives the exit status.
 */
int supervise_detached(struct run *run);
/* Its two halves: in a process that was made for it ... */
int supervise_behind(struct run *run, int ready_fd);
/* ... and in the caller's, at the other end of READY_FD. */
int supervise_await(int fd, const char *name);

/* ---- another run of the same instance */

/*
 * The options that the container's spec does not have, as JSON (jansson's, a
 * new reference) for instance_state.run; paths are absolute. NULL: no
 * memory, or a text is not UTF-8.
 */
struct json_t *run_again_json(const struct run_options *opt,
			      const struct rootfs *root);
/*
 * Fills OPT, zeroed before, with them; texts are borrowed from JSON. 0 or
 * -errno, logged.
 */
int run_again_options(const struct json_t *json, struct run_options *opt);
/*
 * Its streams: in the background unless ATTACH, and given no input there unless
 * INPUT. PROCESS gets the terminal's size. 0 or -ENOTTY, logged.
 */
int run_again_streams(struct run_options *opt, struct spec_process *process,
		      bool attach, bool input);

#endif
