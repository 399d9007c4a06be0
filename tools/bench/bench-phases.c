/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the time of `bulkhead run` goes: it says so itself, with --log-level
 * debug, in lines "... WHAT after N us", counted from when it begins to start
 * the monitor. Such runs are slower by what they write, so they are apart.
 */
#include "tools/bench/bench.h"

#include "tools/cli/text-list.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PHASE_RUNS 5

/* The text of a line, and the phase that ends when it is written. */
static const struct {
	const char *done, *name;
} marks[] = {
	{"monitor started", "starting the monitor"},
	{"agent there", "the guest's boot, until its agent"},
	{"guest set up", "setting up the guest"},
	{"command started", "mounts, and starting the command"},
	{"command ended", "the command"},
	{"monitor ended", "power-off"},
};

#define MARKS ARRAY_LEN(marks)

struct samples {
	double ms[MARKS + 1][PHASE_RUNS];
	unsigned count;
};

/* Microseconds at which DONE was, or -1. */
static double mark_us(const char *log, const char *done)
{
	autofree char *text = NULL;
	const char *at;

	if (asprintf(&text, ": %s after ", done) < 0) {
		text = NULL;
		return -1;
	}
	at = strstr(log, text);
	return at ? strtod(at + strlen(text), NULL) : -1;
}

/* The last line of a log, without its end. */
static const char *last_line(char *log)
{
	size_t n = strlen(log);
	const char *end;

	while (n > 0 && strchr("\r\n", log[n - 1]))
		log[--n] = '\0';
	end = strrchr(log, '\n');
	return end ? end + 1 : log;
}

/* One run's messages. 0, or -ENODATA (logged): something is not there. */
static int take_run(const char *log, double total_ms, struct samples *s)
{
	double before_us = 0;

	for (unsigned i = 0; i < MARKS; i++) {
		const double us = mark_us(log, marks[i].done);

		if (us < before_us) {
			log_warn("no phases: 'bulkhead run --log-level debug' "
				 "does not tell '%s' in its place",
				 marks[i].done);
			return -ENODATA;
		}
		s->ms[i][s->count] = (us - before_us) / 1e3;
		before_us = us;
	}
	s->ms[MARKS][s->count++] = total_ms - before_us / 1e3;
	return 0;
}

static int run_once(const struct bench_what *what, char *const *argv,
		    struct samples *s)
{
	autofd int fd = bench_messages();
	const struct bench_start start = {argv, fd, -1, what->signals};
	struct bench_end end;
	char log[16384];
	ssize_t n;

	if (fd < 0)
		return -errno;
	bench_spawn(&start, &end);
	n = pread(fd, log, sizeof(log) - 1, 0);
	if (n < 0)
		return log_ret(-errno, "cannot read a run's messages: %s",
			       strerror(errno));
	log[n] = '\0';
	if (what->signals->came)
		return -ENODATA;
	if (end.status != 0) {
		log_warn("no phases: 'bulkhead run --log-level debug' ended "
			 "with status %d: %s",
			 end.status, last_line(log));
		return -ENODATA;
	}
	return take_run(log, end.ms, s);
}

static int make_argv(const struct bench_what *what, struct text_list *argv)
{
	const char *const head[] = {
		"/proc/self/exe", "run",  "--cold",      "--rm",
		"--network",      "none", "--log-level", "debug",
		what->root,       "--",   NULL};
	int r = text_list_add_all(argv, head);

	return r < 0 ? r
		     : text_list_add_all(argv,
					 (const char *const *)what->command);
}

int bench_phases(const struct bench_what *what, unsigned runs,
		 struct bench_phase phases[BENCH_PHASES])
{
	struct text_list argv = {0};
	struct samples s = {.count = 0};
	int r = make_argv(what, &argv);

	_Static_assert(MARKS + 1 <= BENCH_PHASES, "a place for each");
	for (unsigned n = 0; r == 0 && n < runs && n < PHASE_RUNS; n++) {
		r = run_once(what, argv.item, &s);
		if (what->signals->came)
			break;
	}
	text_list_done(&argv);
	if (r < 0 || s.count == 0)
		return r == -ENODATA ? 0 : r;
	for (unsigned i = 0; i <= MARKS; i++) {
		phases[i].name =
			i < MARKS ? marks[i].name : "before and after that";
		bench_sort(s.ms[i], s.count);
		phases[i].ms = bench_median(s.ms[i], s.count);
	}
	return (int)MARKS + 1;
}
