/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rounds of runs: the runtimes take turns, so that what else the machine does
 * hits them alike, and each round begins with another one.
 */
#include "tools/bench/bench-observer.h"
#include "tools/bench/bench.h"

#include "vmm/base/log.h"
#include "vmm/base/text.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* All that one runtime needs to start several runs at once. */
struct slots {
	char (*id)[64];
	struct text_list *argv;
	struct text_list environment; /* all of it */
	struct bench_start *start;
	struct bench_end *end;
	int *err_fd;
	char **why; /* one that was not started; owned */
	unsigned count;
	struct bench_observer *observer; /* borrowed */
	struct bench_took *took;         /* borrowed */
};

void bench_progress(const char *format, ...)
{
	va_list args;

	if (!isatty(STDERR_FILENO))
		return;
	fputs("\r\033[K", stderr);
	va_start(args, format);
	(void)vfprintf(stderr, format, args);
	va_end(args);
	fflush(stderr);
}

/* ---- slots */

static void slots_done(struct slots *slots)
{
	for (unsigned i = 0; i < slots->count; i++) {
		if (slots->argv)
			text_list_done(&slots->argv[i]);
		if (slots->err_fd)
			util_close(&slots->err_fd[i]);
		if (slots->why)
			free(slots->why[i]);
	}
	text_list_done(&slots->environment);
	free(slots->why);
	free(slots->id);
	free(slots->argv);
	free(slots->start);
	free(slots->end);
	free(slots->err_fd);
}

static int make_slot(struct slots *slots, unsigned i,
		     const struct bench_peer *peer,
		     const struct bench_what *what)
{
	int r;

	snprintf(slots->id[i], sizeof(slots->id[i]), "%s-%u", what->tag, i);
	r = bench_peer_words(peer, what, slots->id[i], peer->driver->command,
			     &slots->argv[i]);
	slots->start[i] = (struct bench_start){
		.argv = slots->argv[i].item,
		.environment = slots->environment.item,
		.in_fd = -1,
		.out_fd = -1,
		.err_fd = -1,
		.mount_ns = peer->mount_ns,
		.signals = what->signals,
	};
	return r;
}

static int slots_make(struct slots *slots, const struct bench_peer *peer,
		      const struct bench_what *what, unsigned count)
{
	int r;

	*slots = (struct slots){.count = count};
	slots->id = calloc(count, sizeof(*slots->id));
	slots->argv = calloc(count, sizeof(*slots->argv));
	slots->start = calloc(count, sizeof(*slots->start));
	slots->end = calloc(count, sizeof(*slots->end));
	slots->err_fd = calloc(count, sizeof(*slots->err_fd));
	slots->why = calloc(count, sizeof(*slots->why));
	for (unsigned i = 0; slots->err_fd && i < count; i++)
		slots->err_fd[i] = -1;
	if (!slots->id || !slots->argv || !slots->start || !slots->end ||
	    !slots->err_fd || !slots->why)
		return log_ret(-ENOMEM, "out of memory");
	r = bench_peer_environment(peer, &slots->environment);
	for (unsigned i = 0; r == 0 && i < count; i++)
		r = make_slot(slots, i, peer, what);
	return r;
}

/* ---- one group of one runtime's */

static bool is_ok(const struct bench_peer *peer, const struct bench_end *end)
{
	if (end->late)
		return false;
	return bench_driver_needs(peer->driver, "any-status")
		       ? end->at_ns[BENCH_OUTPUT] != 0
		       : end->status == 0;
}

/* The reason for a failure: its status, and the first line of its messages. */
static char *why_failed(const struct bench_end *end, int err_fd)
{
	char line[160];
	ssize_t n = pread(err_fd, line, sizeof(line) - 1, 0);
	char *why;

	line[n > 0 ? n : 0] = '\0';
	line[strcspn(line, "\r\n")] = '\0';
	text_make_printable(line);
	if (!end->late && end->status == 0)
		return strdup("wrote nothing");
	if (end->late ? asprintf(&why, "did not end in time%s%s",
				 line[0] ? ": " : "", line) < 0
		      : asprintf(&why, "ended with status %d%s%s", end->status,
				 line[0] ? ": " : "", line) < 0)
		return NULL;
	return why;
}

/* One whose `before` fails is not started. 0 or -errno, logged. */
static int make_ready(struct slots *slots, const struct bench_peer *peer,
		      const struct bench_what *what, unsigned i)
{
	autofree char *line = NULL;
	int r = peer->driver->before ? bench_script(peer, what, slots->id[i],
						    peer->driver->before, &line)
				     : 0;

	if (r < 0)
		return r;
	slots->start[i].argv = r == 0 ? slots->argv[i].item : NULL;
	if (r > 0) {
		slots->why[i] = line;
		line = NULL;
	}
	slots->err_fd[i] = bench_messages();
	slots->start[i].err_fd = slots->err_fd[i];
	return slots->err_fd[i] < 0 ? bench_no_file("a file for messages") : 0;
}

static void group_done(struct slots *slots, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		util_close(&slots->err_fd[i]);
		free(slots->why[i]);
		slots->why[i] = NULL;
	}
}

/* A PID namespace around a guest or a sentry says nothing of its PID 1. */
static bool has_guest(const struct bench_peer *peer)
{
	const char *isolation = peer->driver->isolation;

	return isolation && strcmp(isolation, "namespaces") != 0 &&
	       strcmp(isolation, "none") != 0;
}

static bool is_machine(const struct bench_peer *peer)
{
	return peer->driver->isolation &&
	       strcmp(peer->driver->isolation, "virtual machine") == 0;
}

static bool is_bare(const struct bench_peer *peer)
{
	return peer->driver->isolation &&
	       strcmp(peer->driver->isolation, "none") == 0;
}

/*
 * Whether the page faults of RUN are those of what it started, its guest's
 * included: where the work is a daemon's, they are only those of its client.
 */
static bool has_faults(const struct bench_peer *peer,
		       const struct bench_end *end,
		       const struct bench_observer *observer)
{
	if (is_machine(peer))
		return end->at_ns[BENCH_GUEST] && !observer->why_no_guest_fault;
	return is_bare(peer) || end->at_ns[BENCH_PID1];
}

static void record(struct bench_peer *peer, const struct bench_end *end,
		   const struct bench_observer *observer, unsigned round)
{
	struct bench_run *run = &peer->run[peer->count++];

	*run = (struct bench_run){.round = round,
				  .status = end->status,
				  .ok = is_ok(peer, end),
				  .late = end->late,
				  .faults = end->faults,
				  .cpu_ms = end->cpu_ms};
	memcpy(run->at_ns, end->at_ns, sizeof(run->at_ns));
	if (!has_faults(peer, end, observer)) {
		run->at_ns[BENCH_RESIDENT] = 0;
		run->faults = 0;
	}
	if (has_guest(peer))
		run->at_ns[BENCH_PID1] = 0;
}

static int take_failure(struct bench_peer *peer, const struct bench_what *what,
			const struct slots *slots, unsigned i, bool first)
{
	autofree char *why =
		slots->why[i] ? strdup(slots->why[i])
			      : why_failed(&slots->end[i], slots->err_fd[i]);

	if (!why)
		return log_ret(-ENOMEM, "out of memory");
	bench_clean_up(peer, what, slots->id[i], peer->driver->stop);
	return first ? bench_leave_out(peer, why) : bench_failed(peer, why);
}

/* A signal, or an error of the bench, ended some in the middle. */
static void stop_group(const struct bench_peer *peer,
		       const struct bench_what *what, const struct slots *slots,
		       unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (slots->end[i].exec_ns && !is_ok(peer, &slots->end[i]))
			bench_clean_up(peer, what, slots->id[i],
				       peer->driver->stop);
}

/* From the first one's exec to the last one's exit. */
static uint64_t group_ns(const struct bench_end *end, unsigned count)
{
	uint64_t from_ns = UINT64_MAX, to_ns = 0;

	for (unsigned i = 0; i < count; i++) {
		const uint64_t exit_ns =
			end[i].exec_ns + end[i].at_ns[BENCH_EXIT];

		if (!end[i].exec_ns)
			continue;
		if (end[i].exec_ns < from_ns)
			from_ns = end[i].exec_ns;
		if (exit_ns > to_ns)
			to_ns = exit_ns;
	}
	return to_ns > from_ns ? to_ns - from_ns : 0;
}

/* ROUND 0 is the one that does not count. */
static int run_group(struct bench_peer *peer, const struct bench_what *what,
		     const struct bench_plan *plan, struct slots *slots,
		     unsigned count, unsigned round)
{
	struct bench_group group = {
		.start = slots->start,
		.end = slots->end,
		.count = count,
		.interval_ns = plan->interval_ms * 1000000,
		.limit_ns = UINT64_C(1000000000) * plan->limit_s,
		.observer = slots->observer,
	};
	const uint64_t begin_ns = util_now_ns();
	int r = 0;

	for (unsigned i = 0; i < count; i++)
		slots->end[i] = (struct bench_end){.status = 255};
	for (unsigned i = 0; r == 0 && i < count; i++)
		r = make_ready(slots, peer, what, i);
	if (round > 0 && peer->driver->before)
		slots->took->before_ns += util_now_ns() - begin_ns;
	if (r == 0)
		r = bench_group_run(&group);
	if (r == 0 && round > 0) {
		slots->took->runs_ns += group_ns(slots->end, count);
		slots->took->runs += count;
	}
	if (r == 0 && what->signals->came)
		r = -EINTR;
	if (r < 0)
		stop_group(peer, what, slots, count);
	for (unsigned i = 0; r == 0 && i < count; i++) {
		if (round > 0)
			record(peer, &slots->end[i], slots->observer, round);
		if (!is_ok(peer, &slots->end[i]))
			r = take_failure(peer, what, slots, i, round == 0);
	}
	group_done(slots, count);
	return r;
}

/* ---- all rounds */

static void tell(const struct bench_peer *peer, unsigned round, unsigned rounds,
		 uint64_t start_ns)
{
	const uint64_t ns = util_now_ns() - start_ns;

	if (round == 0)
		bench_progress("bench: %s: a first run, not counted",
			       peer->driver->name);
	else if (round == 1)
		bench_progress("bench: round 1 of %u: %s", rounds,
			       peer->driver->name);
	else
		bench_progress("bench: round %u of %u: %s; about %llu s left",
			       round, rounds, peer->driver->name,
			       (unsigned long long)(ns / (round - 1) *
						    (rounds - round + 1) /
						    1000000000));
}

static int run_rounds(struct bench_peers *peers, const struct bench_what *what,
		      const struct bench_plan *plan, struct slots *slots,
		      struct bench_took *took)
{
	const unsigned rounds = (plan->runs + plan->group - 1) / plan->group;
	uint64_t start_ns = util_now_ns();
	int r = 0;

	*took = (struct bench_took){0};
	for (unsigned n = 0; r == 0 && n <= rounds; n++) {
		if (n == 1)
			start_ns = util_now_ns();
		for (unsigned i = 0; r == 0 && i < peers->count; i++) {
			const unsigned at = (n + i) % peers->count;
			struct bench_peer *peer = &peers->item[at];
			const unsigned left = plan->runs - peer->count;

			if (peer->why_not)
				continue;
			tell(peer, n, rounds, start_ns);
			r = run_group(peer, what, plan, &slots[at],
				      n == 0               ? 1
				      : left < plan->group ? left
							   : plan->group,
				      n);
		}
	}
	took->all_ns = util_now_ns() - start_ns;
	bench_progress("%s", "");
	return r;
}

/* ---- marks that no run has */

static bool has_mark(const struct bench_peer *peer, enum bench_mark mark)
{
	for (unsigned i = 0; i < peer->count; i++)
		if (peer->run[i].at_ns[mark])
			return true;
	return false;
}

static const char *why_no_guest(const struct bench_peer *peer,
				const struct bench_observer *observer)
{
	if (!is_machine(peer))
		return "there is no guest";
	return observer->why_no_entry
		       ? observer->why_no_entry
		       : "no process below the one that was started entered a "
			 "guest: a daemon's are not below it";
}

static const char *why_no_pid1(const struct bench_peer *peer,
			       const struct bench_observer *observer)
{
	if (has_guest(peer))
		return "PID 1 is the guest's, which this kernel does not see";
	if (is_bare(peer))
		return "there is no container";
	return observer->why_no_init
		       ? observer->why_no_init
		       : "no process below the one that was started was the "
			 "first of a PID namespace: a daemon's are not below "
			 "it";
}

static bool has_any_faults(const struct bench_peer *peer)
{
	for (unsigned i = 0; i < peer->count; i++)
		if (peer->run[i].faults)
			return true;
	return false;
}

static const char *why_no_resident(const struct bench_peer *peer,
				   const struct bench_observer *observer)
{
	if (observer->why_no_fault)
		return observer->why_no_fault;
	if (is_machine(peer) && observer->why_no_entry)
		return observer->why_no_entry;
	if (is_machine(peer) && observer->why_no_guest_fault)
		return observer->why_no_guest_fault;
	if (has_any_faults(peer))
		return "there are too few page faults to tell 95 in a hundred "
		       "of them";
	if (observer->faults_lost)
		return "the kernel lost records of page faults: this machine "
		       "has other work, or too many are started at once";
	return "page faults of what was started are not known: a daemon's "
	       "processes are not below the one that was started";
}

static int say_not_taken(struct bench_peer *peer,
			 const struct bench_observer *observer)
{
	const char *why[BENCH_MARKS] = {
		[BENCH_GUEST] = why_no_guest(peer, observer),
		[BENCH_PID1] = why_no_pid1(peer, observer),
		[BENCH_OUTPUT] = "no run wrote anything",
		[BENCH_RESIDENT] = why_no_resident(peer, observer),
		[BENCH_EXIT] = "no run ended",
	};

	for (unsigned mark = 0; mark < BENCH_MARKS; mark++) {
		if (has_mark(peer, mark))
			continue;
		peer->not_taken[mark] = strdup(why[mark]);
		if (!peer->not_taken[mark])
			return log_ret(-ENOMEM, "out of memory");
	}
	return 0;
}

int bench_rounds(struct bench_peers *peers, const struct bench_what *what,
		 const struct bench_plan *plan, struct bench_took *ret)
{
	autofree struct slots *slots = calloc(peers->count, sizeof(*slots));
	struct bench_observer observer = {0};
	int r = slots ? observer_open(&observer, plan->group)
		      : log_ret(-ENOMEM, "out of memory");

	for (unsigned i = 0; r == 0 && i < peers->count; i++) {
		struct bench_peer *peer = &peers->item[i];

		if (peer->why_not)
			continue;
		peer->run = calloc(plan->runs, sizeof(*peer->run));
		r = peer->run ? slots_make(&slots[i], peer, what, plan->group)
			      : log_ret(-ENOMEM, "out of memory");
		slots[i].observer = &observer;
		slots[i].took = ret;
	}
	if (r == 0)
		r = run_rounds(peers, what, plan, slots, ret);
	for (unsigned i = 0; r == 0 && i < peers->count; i++)
		if (!peers->item[i].why_not)
			r = say_not_taken(&peers->item[i], &observer);
	observer_close(&observer);
	for (unsigned i = 0; slots && i < peers->count; i++)
		slots_done(&slots[i]);
	return r;
}
