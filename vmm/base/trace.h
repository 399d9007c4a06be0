/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When a start came to each of its points, for --trace boot: one page that the
 * processes of a start share, with a time for each point. It is made before
 * they fork, so that marking a point takes no system call that a sandbox would
 * have to allow. All of it can be NULL: then nothing is traced.
 *
 * A monitor may be its guest's by the time when this is read: nothing is in the
 * page but times, and no decision is made by them.
 */
#ifndef VMM_BASE_TRACE_H
#define VMM_BASE_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In the order in which a start usually comes to them; names: trace.c. */
enum trace_point {
	TRACE_EXEC, /* trace_new() finds out when that was */
	TRACE_OPTIONS,
	TRACE_BUNDLE,
	TRACE_CREATED,
	TRACE_BEGUN,
	TRACE_INIT,
	TRACE_ROOT,
	TRACE_SAVED,
	TRACE_SNAPSHOT,
	TRACE_CLONE,
	TRACE_TAKEN,
	TRACE_INITRD,
	TRACE_INSTANCE,
	TRACE_KEEPER,
	TRACE_FORKED,
	TRACE_RECORDED,
	TRACE_MONITOR,
	TRACE_RAM,
	TRACE_KVM,
	TRACE_VM,
	TRACE_REGISTERED,
	TRACE_KERNEL,
	TRACE_DEVICES,
	TRACE_VCPUS,
	TRACE_ATTACHED,
	TRACE_FIRMWARE,
	TRACE_LOADED_VCPUS,
	TRACE_SANDBOX,
	TRACE_LOADED_DEVICES,
	TRACE_RUN,
	TRACE_EXIT,
	TRACE_CONSOLE,
	TRACE_CONNECTED,
	TRACE_GREETED,
	TRACE_PREPARED,
	TRACE_TEMPLATE,
	TRACE_CONFIGURE,
	TRACE_CONFIGURED,
	TRACE_START,
	TRACE_ATTACH,
	TRACE_STARTED,
	TRACE_OUTPUT,
	TRACE_ENDED,
	TRACE_GONE,
	TRACE_END,
	TRACE_POINTS,
};

struct trace;

/*
 * Begins a trace at this process's exec, as far back as the CPU time that it
 * has used: the first thing that a command does when it has read its options.
 * NULL: no memory, logged.
 */
struct trace *trace_new(void);
void trace_free(struct trace *trace); /* NULL is fine */
/*
 * One that has the points of OF so far, and then others: of one of several
 * starts that begin alike. NULL of NULL, or as trace_new().
 */
struct trace *trace_copy(const struct trace *of);

/* Any thread of any process; the first time that a point is come to counts. */
void trace_mark_now(struct trace *trace, enum trace_point point);

static inline void trace_mark(struct trace *trace, enum trace_point point)
{
	if (trace)
		trace_mark_now(trace, point);
}

/* For one that goes on in another program: by its name; 0: not come to. */
const char *trace_name(enum trace_point point);
uint64_t trace_get(const struct trace *trace, enum trace_point point);
void trace_set(struct trace *trace, enum trace_point point, uint64_t at_ns);

/* The machine is made once more: forgets all from the monitor's fork on. */
void trace_restart(struct trace *trace);

struct trace_line {
	const char *name;
	const char *process; /* that came to it: "monitor" */
	uint64_t at_us;      /* since exec */
	uint64_t took_us;    /* since the line before */
};

/* All points that were come to, by their times. How many. */
size_t trace_lines(const struct trace *trace, struct trace_line *ret);

#endif
