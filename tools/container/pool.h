/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Machines that wait for a container: restored from a template, as far as that
 * their agent is there, or an image's container, too. `bulkhead pool` keeps
 * them (pool-keep.c), a start takes one (pool-take.c), and the monitor takes
 * over what that brings (pool-adopt.c).
 *
 *     bulkhead pool -- forks --> keeper of one machine -- forks --> monitor
 *                                     ^                               ^
 *     bulkhead run  -- takes ---------'------------ orders -----------'
 *
 * A keeper listens on the socket TEMPLATE.pool-PID of the templates' directory,
 * where its user alone gets in. One that was taken listens no more: it is the
 * monitor's parent in the place of who took it, to whom it reports the
 * monitor's end. The connection is what binds them: when either of the two is
 * gone, so is the machine.
 */
#ifndef TOOLS_CONTAINER_POOL_H
#define TOOLS_CONTAINER_POOL_H

#include "tools/image/sha256.h"
#include "vmm/base/loop.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct config;
struct instance;
struct run_options;
struct vm;
struct vm_socket;

/* ---- what a process has of its own, and a machine of it (pool-place.c) */

struct pool_place {
	/* User, groups, privileges, limits, scheduling, name spaces. */
	char hash[SHA256_HEX];
	char cgroup[SHA256_HEX]; /* of its control groups */
};

/* This process's. 0 or -errno, logged. */
int pool_place_read(struct pool_place *ret);
/* Whether the process PID is in the control groups of PLACE; false: unknown. */
bool pool_place_has(const struct pool_place *place, pid_t pid);
/*
 * A descriptor by which processes are moved to this process's control group, or
 * -errno, not logged: there is no such way.
 */
int pool_place_open_group(void);
/* Moves PID. 0 or -errno, not logged. */
int pool_place_move(int group_fd, pid_t pid);

/* ---- the start's side */

/* A monitor whose agent has greeted. All descriptors are owned; -1: none. */
struct pool_taken {
	int link_fd; /* to its keeper; -1: no machine was taken */
	int agent_fd, pid_fd, console_fd, messages_fd;
	pid_t pid;
	unsigned agent_minor;
	bool records;  /* its start is the one that is recorded */
	bool prepared; /* it has the container */
};
#define POOL_TAKEN_NONE                                                        \
	((struct pool_taken){-1, -1, -1, -1, -1, 0, 0, false, false})

/*
 * Takes a machine of the template NAME from the templates' directory, and has
 * it become CFG's, of INSTANCE. PREPARED: the template has the container. 0, or
 * -errno, not logged: there is none, or none for this process.
 */
int pool_take(int store_dir, const char *name, bool prepared,
	      const struct config *cfg, const struct instance *instance,
	      struct pool_taken *ret);
void pool_release(struct pool_taken *taken);
/* wait(2)'s status of one that has ended. */
int pool_await_status(int link_fd);

/* For each machine that waits, FN with its template, keeper and monitor. */
int pool_each(int store_dir,
	      void (*fn)(const char *name, pid_t keeper, pid_t monitor));

/* ---- the pool's */

#define POOL_SIZE_MAX 64

/* Words to the pool, of one byte; the end without TAKEN is a failure. */
enum pool_word { POOL_READY = 'r', POOL_TAKEN = 't' };

/* The keeper exits so where there is no template: the pool has none to keep. */
#define POOL_EXIT_NO_TEMPLATE 4

/*
 * The life of a keeper whose machine is one of OPT's, from the template NAME:
 * its exit status. STATUS_FD, owned, is for words to the pool, whose end it
 * tells. For a process of one thread that has just been forked.
 */
int pool_keep(struct run_options *opt, const char *name, int status_fd);
/* Removes the sockets of keepers that are gone. */
void pool_sweep(int store_dir);

/* ---- the monitor's */

struct pool_adopt {
	struct loop_source source; /* of the main loop; fd: owned, -1: none */
	struct vm *vm;             /* borrowed, as the next */
	struct vm_socket *socket;
	struct config *cfg; /* owned: the machine's since it was taken */
	int lock_fd;        /* owned: the instance's lock, held to the end */
};
#define POOL_ADOPT_NONE ((struct pool_adopt){.source.fd = -1, .lock_fd = -1})

/*
 * Has VM, which runs, take over what comes by FD, once, and answer SOCKET's
 * requests from then on. 0 or -errno, logged.
 */
int pool_adopt_start(struct pool_adopt *adopt, int fd, struct vm *vm,
		     struct vm_socket *socket);
/* Before vm_free(), and what is freed behind it. */
void pool_adopt_stop(struct pool_adopt *adopt);
void pool_adopt_done(struct pool_adopt *adopt);

#endif
