/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages of a snapshot's memory that the start of a machine touches. The
 * first machine that starts there records them, in a third file beside state
 * and memory. For those that follow, a thread brings these pages in, and no
 * others, while the rest of the machine is built: into the host's cache, and
 * from there into a copy of the machine's own where it is going to write.
 *
 * A record is a hint: without one a machine starts as well, only slower. One
 * that is damaged, or of another snapshot, is said in a line and not used.
 *
 * The caller opens it behind snapshot_open(), as the sandbox opens nothing;
 * snapshot_close() closes it. All else is done by vm_build_restored() and
 * vm_start(), but that the caller can end a record early: vm_end_record().
 */
#ifndef VMM_WORKING_SET_H
#define VMM_WORKING_SET_H

#include "vmm/base/sandbox.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>

struct mem;
struct snapshot;

#define WORKING_SET_FILE "working-set"
#define WORKING_SET_MS   1000 /* a record takes so long */
/* Half of the memory is brought in at most, and never more than this. */
#define WORKING_SET_MAX_BYTES (UINT64_C(1) << 30)

/* Pages of the memory's file. */
struct working_set_range {
	uint32_t first, count;
};

/* A zeroed one is neither brought in nor recorded. */
struct working_set {
	/*
	 * Owned; all pages, and behind them those of them that were written to.
	 * Either part is in order and has no page twice.
	 */
	struct working_set_range *range;
	uint32_t nall, nwritten;
	/* This start is to be recorded, in an empty file, owned and locked. */
	bool records;
	int file_fd;
	unsigned record_ms; /* from vm_start() on; 0: WORKING_SET_MS */
};

enum working_set_mode {
	WORKING_SET_AUTO, /* use it, or record it if there is none */
	WORKING_SET_ANEW, /* record it, whether there is one or not */
};

/*
 * Opens the record in the directory PATH of SNAPSHOT, which is open. A
 * file that cannot be read is not used, which is logged; one that cannot be
 * written stays as it is, which is logged for WORKING_SET_ANEW alone.
 */
void working_set_open(struct snapshot *snapshot, const char *path,
		      enum working_set_mode mode);
void working_set_close(struct working_set *set);

/*
 * A machine's thread for it, which brings in or records. A zeroed one has none.
 */
struct working_set_task {
	struct working_set set; /* its own copy */
	const struct mem *mem;  /* borrowed */
	bool confined;
	uint8_t id[16]; /* the snapshot's */
	int pagemap_fd; /* owned, if set.records */
	uint64_t born_ns;
	pthread_t thread;
	sem_t ready; /* posted once by the thread that brings in */
	bool prepared, started;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool ends; /* with `lock`: the thread is asked to come to its end */
};

/* The calls that it makes, for the sandbox. */
extern const struct sandbox_rule working_set_syscalls[];

/*
 * Begins to bring in pages of MEM, which is SNAPSHOT's memory, or prepares to
 * record which are touched. SNAPSHOT is borrowed for this call only. CONFINED:
 * the thread that brings in enters a sandbox of its own. Where neither can be
 * done that is logged, and the machine starts without.
 */
void working_set_prepare(struct working_set_task *task,
			 const struct snapshot *snapshot, const struct mem *mem,
			 bool confined);
/*
 * A thread that brings in is in its sandbox when this returns: before
 * sandbox_enter(), once. Also of a zeroed one.
 */
void working_set_await(struct working_set_task *task);
/* A record, if one is prepared, begins. */
void working_set_record(struct working_set_task *task);
/*
 * A record ends and is written when this returns; bringing in ends at once, and
 * is over when this returns. One caller at a time, any thread.
 */
void working_set_end(struct working_set_task *task);
/* The same; and frees it. */
void working_set_done(struct working_set_task *task);

#endif
