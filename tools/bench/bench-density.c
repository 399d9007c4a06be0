/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instances that stay: they are started one after the other, each is waited for
 * until it says its first byte, and the memory of all is looked at when there
 * are 1, 2, 4 and so on. Before that, the first one's is watched as it idles.
 */
#include "tools/bench/bench.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

/* Setting up that goes on behind the first byte has ended by then. */
#define SETTLE_MS 300
#define GRACE_MS  5000

struct instances {
	struct bench_peer *peer;
	const struct bench_what *what;
	struct bench_running *run; /* of COUNT places */
	struct text_list environment;
	struct bench_pids before; /* other children of this program's */
	bool denied_said;
	unsigned started;
	unsigned limit_s;
};

static void make_id(const struct instances *all, unsigned i, char ret[64])
{
	snprintf(ret, 64, "%s-%u", all->what->tag, i);
}

static void wait_ms(unsigned ms)
{
	const struct timespec time = {.tv_sec = ms / 1000,
				      .tv_nsec = (long)(ms % 1000) * 1000000};

	(void)nanosleep(&time, NULL);
}

/* ---- the start */

/* Until the instance has said something: 0; or -errno, a reason. */
static int await_byte(const struct instances *all, struct bench_running *run,
		      double *ret_ms)
{
	const uint64_t limit_ns = all->limit_s * UINT64_C(1000000000);
	struct pollfd poll_fd[2] = {{.fd = run->out_fd, .events = POLLIN},
				    {.fd = run->end_fd, .events = POLLIN}};

	for (;;) {
		uint64_t now_ns;

		bench_signals_look(all->what->signals);
		if (all->what->signals->came)
			return -EINTR;
		(void)poll(poll_fd, 2, 100);
		now_ns = util_now_ns();
		if (poll_fd[0].revents & POLLIN) {
			*ret_ms = (double)(now_ns - run->exec_ns) / 1e6;
			return 0;
		}
		if (poll_fd[1].revents)
			return -ECHILD;
		if (now_ns - run->exec_ns > limit_ns)
			return -ETIMEDOUT;
	}
}

static int leave_out(struct instances *all, int error, int err_fd)
{
	char line[120], why[200];
	ssize_t n = pread(err_fd, line, sizeof(line) - 1, 0);

	line[n > 0 ? n : 0] = '\0';
	line[strcspn(line, "\r\n")] = '\0';
	snprintf(why, sizeof(why), "instance %u %s%s%s", all->started,
		 error == -ECHILD ? "ended" : "did not come up in time",
		 line[0] ? ": " : "", line);
	return bench_failed(all->peer, why);
}

/* 1; 0: it did not come up, as the peer says; or -errno, logged. */
static int start(struct instances *all, double *ret_ms)
{
	struct bench_running *run = &all->run[all->started];
	autofd int err_fd = bench_messages();
	struct text_list argv = {0};
	struct bench_start start = {.environment = all->environment.item,
				    .in_fd = -1,
				    .out_fd = -1,
				    .err_fd = err_fd,
				    .mount_ns = all->peer->mount_ns,
				    .signals = all->what->signals};
	char id[64];
	int r;

	if (err_fd < 0)
		return bench_no_file("a file for messages");
	make_id(all, all->started, id);
	r = bench_peer_words(all->peer, all->what, id,
			     all->peer->driver->command, &argv);
	start.argv = argv.item;
	if (r == 0)
		r = bench_run_start(&start, run);
	text_list_done(&argv);
	if (r < 0)
		return r;
	all->started++;
	r = await_byte(all, run, ret_ms);
	return r == 0 ? 1 : r == -EINTR ? r : leave_out(all, r, err_fd);
}

/* ---- the memory */

/* Process IDs that the driver's script prints for each instance. */
static unsigned find_roots(const struct instances *all, pid_t *roots,
			   unsigned room)
{
	const char *script = all->peer->driver->processes;
	unsigned n = 0;

	for (unsigned i = 0; script && i < all->started; i++) {
		autofree char *text = NULL;
		char *rest;
		char id[64];

		make_id(all, i, id);
		if (bench_script_text(all->peer, all->what, id, script,
				      &text) != 0)
			continue;
		rest = text;
		for (char *word; (word = strsep(&rest, " \n"));)
			if (n < room && atoi(word) > 1)
				roots[n++] = atoi(word);
	}
	return n;
}

/* The number, from 1 on, of an instance that has ended; 0: all are there. */
static unsigned find_ended(const struct instances *all)
{
	for (unsigned i = 0; i < all->started; i++) {
		struct pollfd end = {.fd = all->run[i].end_fd,
				     .events = POLLIN};

		if (poll(&end, 1, 0) > 0)
			return i + 1;
	}
	return 0;
}

static void say_denied(struct instances *all, unsigned denied)
{
	if (denied == 0 || all->denied_said)
		return;
	all->denied_said = true;
	log_warn("%s: the memory of %u processes is not in its figures, as "
		 "this user may not read it: measure as root",
		 all->peer->driver->name, denied);
}

/* 1; 0: there is no such memory, as the peer says; or -errno, logged. */
static int look(struct instances *all, struct bench_memory *ret)
{
	const unsigned room = 4 * all->started;
	autofree pid_t *pids = calloc(room, sizeof(*pids));
	struct bench_pids roots = {.item = pids};
	unsigned ended;
	int r;

	if (!pids)
		return log_ret(-ENOMEM, "out of memory");
	ret->count = all->started;
	roots.count = find_roots(all, pids, room);
	r = bench_memory_look(&roots, &all->before, ret);
	if (r < 0)
		return r;
	say_denied(all, ret->denied);
	ended = find_ended(all);
	if (ended > 0) {
		char why[80];

		snprintf(why, sizeof(why),
			 "instance %u ended before its memory was read", ended);
		return bench_failed(all->peer, why);
	}
	return ret->processes > 0
		       ? 1
		       : bench_failed(all->peer,
				      "no memory of its processes can be read");
}

/* As look(). */
static int watch_idle(struct instances *all, unsigned seconds)
{
	struct bench_density *density = &all->peer->density;
	const uint64_t start_ns = util_now_ns();

	for (unsigned i = 0; i <= seconds && i < BENCH_IDLE_MAX; i++) {
		struct bench_memory *memory = &density->idle[i];
		int r;

		if (i > 0)
			wait_ms(1000);
		bench_signals_look(all->what->signals);
		if (all->what->signals->came)
			return -EINTR;
		memory->at_ms = (double)(util_now_ns() - start_ns) / 1e6;
		r = look(all, memory);
		if (r <= 0)
			return r;
		density->nidle = i + 1;
	}
	return 1;
}

/* ---- the end */

static void reap(void)
{
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

static void stop(struct instances *all)
{
	const char *script = all->peer->driver->stop;

	for (unsigned i = 0; i < all->started; i++) {
		char id[64];

		make_id(all, i, id);
		if (script)
			bench_clean_up(all->peer, all->what, id, script);
		else
			kill(all->run[i].pid, SIGTERM);
	}
	for (unsigned i = 0; i < all->started; i++) {
		struct bench_running *run = &all->run[i];
		struct pollfd end = {.fd = run->end_fd, .events = POLLIN};

		if (poll(&end, 1, GRACE_MS) == 0)
			kill(run->pid, SIGKILL);
		(void)waitpid(run->pid, NULL, 0);
		bench_run_close(run);
	}
	reap();
}

/* ---- all */

static bool is_stop(unsigned n, unsigned most)
{
	return n == most || (n & (n - 1)) == 0;
}

static int start_all(struct instances *all, unsigned count,
		     unsigned idle_seconds)
{
	struct bench_density *density = &all->peer->density;

	while (all->started < count) {
		double ms = 0;
		int r;

		bench_progress("bench: %s: instance %u of %u",
			       all->peer->driver->name, all->started + 1,
			       count);
		r = start(all, &ms);
		if (r <= 0)
			return r;
		density->up_ms[density->nup++] = ms;
		if (all->started == 1 && idle_seconds > 0) {
			r = watch_idle(all, idle_seconds);
			if (r <= 0)
				return r;
		}
		if (!is_stop(all->started, count) ||
		    density->nmemory == BENCH_MEMORY_MAX)
			continue;
		wait_ms(SETTLE_MS);
		r = look(all, &density->memory[density->nmemory]);
		if (r <= 0)
			return r;
		density->nmemory++;
	}
	return 0;
}

int bench_density(struct bench_peer *peer, const struct bench_what *what,
		  unsigned count, unsigned idle_seconds, unsigned limit_s)
{
	struct instances all = {.peer = peer, .what = what, .limit_s = limit_s};
	int r = 0;

	/* Processes whose parents end are this one's then, and are counted. */
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	all.run = calloc(count, sizeof(*all.run));
	peer->density.up_ms = calloc(count, sizeof(double));
	if (!all.run || !peer->density.up_ms)
		r = log_ret(-ENOMEM, "out of memory");
	if (r == 0)
		r = bench_peer_environment(peer, &all.environment);
	if (r == 0)
		r = bench_memory_below(&all.before);
	if (r == 0)
		r = start_all(&all, count, idle_seconds);
	if (r == 0 && peer->density.nmemory == 0)
		r = bench_leave_out(peer, peer->failure ? peer->failure
							: "nothing was read");
	stop(&all);
	bench_progress("%s", "");
	text_list_done(&all.environment);
	free(all.before.item);
	free(all.run);
	return r;
}
