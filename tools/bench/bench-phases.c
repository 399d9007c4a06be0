/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the time of a start goes, by runs of their own whose program tells: the
 * driver's `trace`, which ends in the table of `bulkhead run --trace boot`.
 * Such runs are slower by what they write, so no other figure is taken from
 * them.
 */
#include "tools/bench/bench.h"

#include "vmm/base/log.h"
#include "vmm/base/text.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PHASE_RUNS 5

/* The point of the table, and the phase that ends with it. */
static const struct {
	const char *point, *phase;
} points[BENCH_PHASES] = {
	{"first KVM_RUN", "until the guest's first instruction"},
	{"agent greeted", "the guest, until its PID 1 is there"},
	{"CONFIGURE done", "clock, random numbers, network"},
	{"STARTED", "mounts, and starting the command"},
	{"first output", "the command, until its first output"},
	{"EXIT", "the command, until its end"},
	{"end", "ending the machine"},
};

struct samples {
	double ms[BENCH_PHASES][PHASE_RUNS]; /* < 0: not come to */
	unsigned count;
};

/*
 * When the table in LOG says that POINT was come to, in microseconds; -1: it
 * does not. A line is POINT, AT, TOOK and a process, blanks between.
 */
static double point_us(const char *log, const char *point)
{
	const size_t len = strlen(point);

	for (const char *line = log; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, point, len) == 0 && line[len] == ' ') {
			char *end;
			const double us = strtod(line + len, &end);

			if (end != line + len && *end == ' ')
				return us;
		}
	}
	return -1;
}

/* Whether it has the table; its phases are added then. */
static bool take_run(const char *log, struct samples *s)
{
	double before_us = 0;

	if (point_us(log, points[BENCH_PHASES - 1].point) < 0)
		return false;
	for (unsigned i = 0; i < BENCH_PHASES; i++) {
		const double us = point_us(log, points[i].point);

		s->ms[i][s->count] =
			us < before_us ? -1 : (us - before_us) / 1e3;
		if (us >= before_us)
			before_us = us;
	}
	s->count++;
	return true;
}

/* The first line of a log, printable. */
static void first_line(const char *log, char ret[160])
{
	snprintf(ret, 160, "%.*s", (int)strcspn(log, "\r\n"), log);
	text_make_printable(ret);
}

/* 1; 0: this one has no phases, as a line says; or -errno, logged. */
static int run_once(const struct bench_peer *peer, const struct bench_start *of,
		    unsigned limit_s, struct samples *s)
{
	autofd int fd = bench_messages();
	struct bench_start start = *of;
	struct bench_end end;
	char log[16384], line[160];
	ssize_t n;
	int r;

	if (fd < 0)
		return bench_no_file("a file for messages");
	start.err_fd = fd;
	r = bench_spawn(&start, limit_s, &end);
	if (r < 0)
		return r;
	n = pread(fd, log, sizeof(log) - 1, 0);
	log[n > 0 ? n : 0] = '\0';
	if (start.signals->came)
		return -EINTR;
	if (end.status == 0 && take_run(log, s))
		return 1;
	first_line(log, line);
	if (end.late)
		log_warn("%s: no phases: the run that should tell them did not "
			 "end within %u s: %s",
			 peer->driver->name, limit_s, line);
	else
		log_warn("%s: no phases: the run that should tell them ended "
			 "with status %d: %s",
			 peer->driver->name, end.status, line);
	return 0;
}

/* A point that some runs did not come to has no phase. */
static void take_medians(struct bench_peer *peer, struct samples *s)
{
	for (unsigned i = 0; i < BENCH_PHASES; i++) {
		bench_sort(s->ms[i], s->count);
		if (s->ms[i][0] < 0)
			continue;
		peer->phase[peer->nphases++] = (struct bench_phase){
			.name = points[i].phase,
			.ms = bench_quantile(s->ms[i], s->count, 0.5),
		};
	}
}

int bench_phases(struct bench_peer *peer, const struct bench_what *what,
		 const struct bench_plan *plan)
{
	struct text_list argv = {0}, environment = {0};
	struct samples s = {.count = 0};
	int r = bench_peer_words(peer, what, what->tag, peer->driver->trace,
				 &argv);

	if (r == 0)
		r = bench_peer_environment(peer, &environment);
	if (r == 0) {
		const struct bench_start start = {
			.argv = argv.item,
			.environment = environment.item,
			.in_fd = -1,
			.out_fd = -1,
			.mount_ns = peer->mount_ns,
			.signals = what->signals,
		};

		r = 1;
		for (unsigned n = 0; r == 1 && n < plan->runs && n < PHASE_RUNS;
		     n++)
			r = run_once(peer, &start, plan->limit_s, &s);
		if (r < 1)
			bench_clean_up(peer, what, what->tag,
				       peer->driver->stop);
	}
	text_list_done(&argv);
	text_list_done(&environment);
	if (r == 1 && s.count > 0)
		take_medians(peer, &s);
	return r < 0 ? r : 0;
}
