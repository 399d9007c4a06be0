/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RAM as it is at one instant, written to a file while the guest goes on: by a
 * process that is forked from this one. The two share all pages; the host
 * copies one when the guest, KVM or a device writes to it, and the process
 * keeps the old one. It reads and writes once through the RAM, however much the
 * guest writes meanwhile, and then ends.
 */
#ifndef VMM_MEMORY_COPY_H
#define VMM_MEMORY_COPY_H

#include "vmm/base/sandbox.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct mem;
struct snapshot;

struct memory_copy {
	pid_t pid;     /* 0: there is none */
	int result_fd; /* owned: a pipe that the process answers on */
};

#define MEMORY_COPY_NONE ((struct memory_copy){.result_fd = -1})

/* The calls that it makes, and the process. */
extern const struct sandbox_rule memory_copy_syscalls[];

/*
 * The process begins to write MEM on FD, as snapshot_write_memory() does, with
 * what SNAPSHOT is identified by: all borrowed until this returns. The guest
 * stands still; it may go on when this returns. PAGEMAP_FD (this process's) and
 * FILE_FD as there; no page of the RAM may be given back to the host until
 * memory_copy_wait(). 0 or -errno, not logged. Any thread.
 */
int memory_copy_start(struct memory_copy *copy, const struct snapshot *snapshot,
		      int fd, const struct mem *mem, int pagemap_fd,
		      int file_fd);

/*
 * Waits for its end, and fills in SNAPSHOT's memory_bytes and memory_sum. STOPS
 * with ARG is asked again and again; true ends the process, and so does GONE_FD
 * (or -1) when its other end is closed. 0; -EINTR: that happened; -ECHILD: it
 * was killed; or -errno of its writing; not logged. 0 where there is none.
 */
int memory_copy_wait(struct memory_copy *copy, int gone_fd,
		     bool (*stops)(void *arg), void *arg,
		     struct snapshot *snapshot, uint64_t *ret_written);

#endif
