/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Marks that the host's kernel tells, whatever a runtime says:
 * perf_event_open(2) records forks, PID namespaces and execs of all processes,
 * the first entries into guests, and one page fault in OBSERVER_FAULT_PERIOD,
 * of processes and of guests, while a group of runs is under way. From the
 * records this finds which processes descend from a run's, when the first
 * thread of those entered a guest, when the first process of a PID namespace
 * executed a program, and by when nearly all page faults were taken.
 */
#ifndef TOOLS_BENCH_BENCH_OBSERVER_H
#define TOOLS_BENCH_BENCH_OBSERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* ---- the records, in the order of their times */

enum observer_kind {
	OBSERVER_FORK,  /* of a process; its threads have none */
	OBSERVER_NS,    /* the PID namespace of a process */
	OBSERVER_EXEC,  /* a process executes a program */
	OBSERVER_ENTRY, /* a thread enters a guest */
	OBSERVER_FAULT, /* a thread, or the guest it runs, waits for memory */
	OBSERVER_OTHER,
};

struct observer_record {
	uint64_t time_ns; /* CLOCK_MONOTONIC */
	enum observer_kind kind;
	pid_t pid, tid;
	pid_t parent; /* OBSERVER_FORK */
	uint64_t ns;  /* OBSERVER_NS: its inode */
	unsigned run; /* OBSERVER_FAULT: whose it is, from 1 on; 0: nobody's */
};

/*
 * The processor's counter makes a record when it has counted as many: a record
 * takes 0.5 us, and a start may have tens of thousands of faults.
 */
#define OBSERVER_FAULT_PERIOD 8
/* So many in a hundred are taken when memory is called resident. */
#define OBSERVER_RESIDENT_PERCENT 95
/* Fewer records do not tell 95 in a hundred from all. */
#define OBSERVER_FAULTS_LEAST 20

/* A run: its process, and what is found; 0: nothing. */
struct observer_run {
	pid_t pid;
	uint64_t from_ns, until_ns; /* faults at other times do not count */
	unsigned faults;            /* records of them */
	uint64_t resident_ns;
	uint64_t entry_ns; /* a thread other than a process's first one: that
			      one may have tried what the host's KVM can do */
	uint64_t init_ns;
};

/*
 * Finds the marks of COUNT runs. Entries of processes that descend from none of
 * them become of kind OBSERVER_OTHER. 0 or -ENOMEM, logged.
 */
int observer_find(struct observer_record *records, unsigned nrecords,
		  struct observer_run *runs, unsigned count);

/* ---- where they come from */

struct observer_cpu {
	/* -1: none. Those of faults have a ring of their own: they are many,
	   and others' may fill it. */
	int tasks_fd, entry_fd, fault_fd, guest_fault_fd;
	void *ring, *fault_ring; /* NULL: none */
	unsigned taken;          /* entries that were recorded */
};

/* Threads of others' guests, whose entries the kernel is not to record. */
#define OBSERVER_OTHERS 24

struct bench_observer {
	struct observer_cpu *cpu; /* owned */
	unsigned ncpus;
	long tracepoint, fault_tracepoint; /* < 0: none */
	uint64_t fault_bytes;              /* of a ring, a power of two */
	unsigned entries; /* that a processor records for a group */
	pid_t other[OBSERVER_OTHERS];
	unsigned nothers;
	/* Owned; NULL: they are taken. */
	char *why_no_entry, *why_no_init, *why_no_fault, *why_no_guest_fault;
	struct observer_record *record; /* owned */
	unsigned nrecords, room;
	bool lost;        /* records, in this group */
	bool faults_lost; /* the same, in any group */
};

/*
 * For groups of up to GROUP runs. Marks that are not permitted are not taken,
 * and why_no_* say it. 0 or -ENOMEM, logged; observer_close() either way.
 */
int observer_open(struct bench_observer *observer, unsigned group);
void observer_close(struct bench_observer *observer);

/* Around a group; OBSERVER may be NULL. */
void observer_begin(struct bench_observer *observer);
/* 0 or -ENOMEM, logged. */
int observer_end(struct bench_observer *observer, struct observer_run *runs,
		 unsigned count);

#endif
