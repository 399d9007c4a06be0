/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RAM that comes from a compressed snapshot, or from another process (see
 * pager_connect()). A thread waits for accesses to
 * pages that are not there yet - the guest's, KVM's, the devices' - and puts
 * the chunk that the page is in there (userfaultfd(2)); whoever made the access
 * waits for it. The thread itself never touches RAM, and takes no lock.
 *
 * KVM accesses RAM in the kernel, for which the host has to allow userfaultfd:
 * CAP_SYS_PTRACE, /dev/userfaultfd, or the sysctl vm.unprivileged_userfaultfd.
 * Where it does not, all chunks are read before the machine starts, which is
 * logged.
 */
#ifndef VMM_PAGER_H
#define VMM_PAGER_H

#include "vmm/base/sandbox.h"
#include "vmm/chunks.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>

struct mem;
struct snapshot;

/* A part of RAM that accesses are waited for in. */
struct pager_range {
	uint8_t *host;
	uint64_t bytes;
};

/* A zeroed one has nothing to do. */
struct pager {
	const struct mem *mem;  /* borrowed */
	char *name;             /* owned: of file or socket, for messages */
	int uffd;               /* owned */
	int stop_fd, memory_fd; /* owned */
	struct chunks chunks;
	struct chunk_reader reader;
	uint8_t *ram;    /* owned: a chunk */
	uint8_t *served; /* owned: for each that is there, whether it is in RAM
			  */
	uint32_t left;   /* so many are not */
	struct pager_range *range; /* owned */
	uint32_t nranges;
	int server_fd, server_pid_fd; /* owned: of a memory server */
	int signals_fd; /* owned: one that ends the process is pending */
	bool confined;
	void (*failed)(void);
	pthread_t thread;
	sem_t ready; /* if `started`: posted once by the thread */
	bool prepared, started;
};

/*
 * A descriptor of userfaultfd(2) that serves the kernel's accesses as well, or
 * -errno, not logged: -EPERM, the host does not allow it.
 */
int pager_open(void);

/*
 * Begins to serve MEM, anonymous memory that nobody has touched, from SNAPSHOT,
 * which is compressed and borrowed for this call. UFFD is from pager_open(),
 * and owned from here on. CONFINED: the thread enters a sandbox of its own.
 * FAILED is called by that thread, after a line, when a chunk cannot be had:
 * those who wait for it would wait for ever, so it has to end the process. 0 or
 * -errno (logged); pager_done() accepts what a failed one left.
 */
int pager_start(struct pager *pager, const struct snapshot *snapshot,
		const struct mem *mem, bool confined, int uffd,
		void (*failed)(void));

/*
 * The same, but the process that listens at the Unix socket SERVER has the
 * RAM's content, and serves accesses by UFFD until the machine ends; the thread
 * calls FAILED, after a line, when that process has ended, or when nobody has
 * taken a signal to end for some seconds, as happens where all wait for it.
 */
int pager_connect(struct pager *pager, const char *server,
		  const struct mem *mem, bool confined, int uffd,
		  void (*failed)(void));

/* Reads all of SNAPSHOT, compressed, to MEM instead. 0 or -errno (logged). */
int pager_load_all(const struct snapshot *snapshot, const struct mem *mem);

/*
 * All of the snapshot is in RAM when this returns. STOPS with ARG is asked
 * again and again; true ends it. 0, -EINTR (it did), or -errno; not logged. Any
 * thread but the pager's.
 */
int pager_bring_in_all(const struct pager *pager, bool (*stops)(void *arg),
		       void *arg);

/*
 * The thread is in its sandbox when this returns: before sandbox_enter(), once.
 * Also of a zeroed one.
 */
void pager_await(struct pager *pager);

/* Nobody touches RAM any more, or it is other memory now. Also of a zeroed one.
 */
void pager_done(struct pager *pager);

/* ---- between the two files of it */

#define PAGER_PREPARED(m, c, u, f)                                             \
	((struct pager){                                                       \
		.mem = (m),                                                    \
		.confined = (c),                                               \
		.uffd = (u),                                                   \
		.failed = (f),                                                 \
		.stop_fd = -1,                                                 \
		.memory_fd = -1,                                               \
		.server_fd = -1,                                               \
		.server_pid_fd = -1,                                           \
		.signals_fd = -1,                                              \
		.prepared = true,                                              \
	})

int pager_start_thread(struct pager *pager, void *(*fn)(void *));
/* The thread's first act: 0, or -errno (logged). */
int pager_confine(struct pager *pager, const struct sandbox_rule *rules);

/* The thread's sandbox, where another process serves. */
extern const struct sandbox_rule pager_remote_syscalls[];

#endif
