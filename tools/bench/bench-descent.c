/* SPDX-License-Identifier: Apache-2.0 */
/* Which processes descend from which run, and what they came to. */
#include "tools/bench/bench-observer.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>

struct process {
	pid_t pid; /* 0: another one has its number now */
	unsigned run;
	uint64_t ns, parent_ns; /* 0: not known */
	bool is_init;           /* the first one of a PID namespace */
};

struct tree {
	struct process *item;
	unsigned count, room;
	struct observer_run *runs;
	unsigned nruns;
};

static struct process *find(const struct tree *tree, pid_t pid)
{
	for (unsigned i = tree->count; i-- > 0;)
		if (tree->item[i].pid == pid)
			return &tree->item[i];
	return NULL;
}

/* The run whose own process PID is; the number of runs: none. */
static unsigned run_of(const struct tree *tree, pid_t pid)
{
	unsigned i = 0;

	while (i < tree->nruns && tree->runs[i].pid != pid)
		i++;
	return i;
}

static int add(struct tree *tree, const struct process *process)
{
	if (tree->count == tree->room) {
		const unsigned room = tree->room ? 2 * tree->room : 64;
		struct process *more =
			reallocarray(tree->item, room, sizeof(*more));

		if (!more)
			return log_ret(-ENOMEM, "out of memory");
		tree->item = more;
		tree->room = room;
	}
	tree->item[tree->count++] = *process;
	return 0;
}

static int take_fork(struct tree *tree, const struct observer_record *record)
{
	const struct process *parent = find(tree, record->parent);
	struct process *before = find(tree, record->pid);
	struct process process = {
		.pid = record->pid,
		.run = parent ? parent->run : run_of(tree, record->pid),
		.parent_ns = parent ? parent->ns : 0,
	};

	if (before)
		before->pid = 0;
	return process.run < tree->nruns ? add(tree, &process) : 0;
}

static void take_namespace(struct process *process, uint64_t ns)
{
	if (process->ns == 0 && process->parent_ns != 0)
		process->is_init = ns != process->parent_ns;
	process->ns = ns;
}

static void take_mark(uint64_t *mark, uint64_t time_ns)
{
	if (*mark == 0)
		*mark = time_ns;
}

static void take_fault(struct observer_run *runs, const struct process *process,
		       struct observer_record *record)
{
	struct observer_run *run = &runs[process->run];

	if (record->time_ns < run->from_ns || record->time_ns > run->until_ns)
		return;
	record->run = process->run + 1;
	run->faults++;
}

/* The time of each run's fault with which its share of them is reached. */
static void find_resident(const struct observer_record *records,
			  unsigned nrecords, struct observer_run *runs,
			  unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		const uint64_t share =
			(uint64_t)runs[i].faults * OBSERVER_RESIDENT_PERCENT;
		uint64_t seen = 0;

		if (runs[i].faults < OBSERVER_FAULTS_LEAST)
			continue;
		for (unsigned k = 0; k < nrecords; k++) {
			if (records[k].run != i + 1)
				continue;
			runs[i].resident_ns = records[k].time_ns;
			if (++seen * 100 >= share)
				break;
		}
	}
}

int observer_find(struct observer_record *records, unsigned nrecords,
		  struct observer_run *runs, unsigned count)
{
	struct tree tree = {.runs = runs, .nruns = count};
	int r = 0;

	for (unsigned i = 0; r == 0 && i < nrecords; i++) {
		struct observer_record *record = &records[i];
		struct process *process = find(&tree, record->pid);

		if (record->kind == OBSERVER_FORK)
			r = take_fork(&tree, record);
		else if (process && record->kind == OBSERVER_NS)
			take_namespace(process, record->ns);
		else if (process && record->kind == OBSERVER_EXEC &&
			 process->is_init)
			take_mark(&runs[process->run].init_ns, record->time_ns);
		else if (process && record->kind == OBSERVER_ENTRY &&
			 record->tid != record->pid)
			take_mark(&runs[process->run].entry_ns,
				  record->time_ns);
		else if (process && record->kind == OBSERVER_FAULT)
			take_fault(runs, process, record);
		else if (!process && record->kind == OBSERVER_ENTRY)
			record->kind = OBSERVER_OTHER;
	}
	free(tree.item);
	if (r == 0)
		find_resident(records, nrecords, runs, count);
	return r;
}
