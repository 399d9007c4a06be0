/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps for an instance what its container's life is: state.json, the log, the
 * status, an input for `attach`; and tells whoever waits for the start.
 * Whatever way it ends, nothing is left behind but what `ps -a` shows.
 */
#include "tools/container/run.h"

#include "tools/container/keeper.h"
#include "tools/container/life.h"
#include "tools/container/template.h"
#include "tools/instance/runlog.h"
#include "vmm/base/streams.h"
#include "vmm/base/util.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

static_assert(LIFE_KILLER_BYTES == INSTANCE_KILLER_MAX + 1 &&
		      LIFE_KILLED == INSTANCE_KILLED,
	      "the same, of rooms that do not know each other");

struct supervisor {
	struct run *run;
	pid_t keeper; /* 0: not started */
	struct runlog log;
	int ready_fd; /* borrowed; -1: nobody waits, or was told already */
};

void run_hold_signals(struct run *run)
{
	life_hold_signals(&run->mask_before);
	run->signals_held = true;
}

void run_release_signals(const struct run *run)
{
	if (run->signals_held)
		sigprocmask(SIG_SETMASK, &run->mask_before, NULL);
}

static void save(struct supervisor *s)
{
	(void)instance_save(&s->run->instance, &s->run->state);
}

/*
 * The end of the foreground: who started this has its answer, and nothing of
 * the user's terminal or directory is held any longer.
 */
static void tell_ready(struct supervisor *s, int status)
{
	static const int from[3] = {STREAM_KEEP, STREAM_KEEP, STREAM_NULL};

	if (s->ready_fd < 0)
		return;
	(void)util_write_all(s->ready_fd, &status, sizeof(status));
	s->ready_fd = -1;
	(void)streams_set(from);
	if (chdir("/") < 0)
		log_debug("chdir '/': %s", strerror(errno));
}

/* ---- hooks */

static int begin(void *arg)
{
	struct supervisor *s = arg;

	return keeper_start(&s->run->instance, &s->keeper);
}

static void keep_monitor(void *arg, pid_t monitor)
{
	struct supervisor *s = arg;

	s->run->state.pid = monitor;
	s->run->state.pid_start = instance_process_start(monitor);
	save(s);
}

static void keep_start(void *arg)
{
	struct supervisor *s = arg;

	s->run->state.phase = INSTANCE_RUNNING;
	s->run->state.started_s = time(NULL);
	save(s);
}

/*
 * In the background input comes from `attach`. The FIFO is open for writing,
 * too, so that a client that leaves does not end the input. -1 (logged): there
 * is none.
 */
static int open_input(void *arg)
{
	const struct supervisor *s = arg;
	const int dir_fd = s->run->instance.dir_fd;
	int fd = -1;

	if (mkfifoat(dir_fd, INSTANCE_INPUT_FILE, 0600) == 0)
		fd = openat(dir_fd, INSTANCE_INPUT_FILE,
			    O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		log_warn("'%s': no input: %s", s->run->instance.name,
			 strerror(errno));
	return fd;
}

static void be_ready(void *arg)
{
	tell_ready(arg, 0);
}

static int keep_output(void *arg, int stream, const void *data, size_t bytes)
{
	struct supervisor *s = arg;

	runlog_write(&s->log, (enum runlog_stream)stream, data, bytes);
	return 0;
}

/* For `ps` and `inspect`. */
static void keep_error(void *arg, const char *text)
{
	struct supervisor *s = arg;
	char *copy = strdup(text);

	free(s->run->state.error);
	s->run->state.error = copy;
}

static int be_cold(void *arg)
{
	const struct supervisor *s = arg;

	return run_machine_make_again(&s->run->machine, s->run->opt);
}

static bool is_vain(void *arg)
{
	const struct supervisor *s = arg;

	return run_user_is_missing(&s->run->root, &s->run->state.spec.process);
}

static void read_killer(void *arg, char ret[LIFE_KILLER_BYTES])
{
	const struct supervisor *s = arg;

	instance_read_killer(&s->run->instance, ret);
}

static const struct life_hooks hooks = {
	.begin = begin,
	.born = keep_monitor,
	.started = keep_start,
	.input = open_input,
	.ready = be_ready,
	.output = keep_output,
	.error = keep_error,
	.cold = be_cold,
	.is_vain = is_vain,
	.killer = read_killer,
};

/* ---- the end */

static void finish(struct supervisor *s, int status)
{
	struct run *run = s->run;

	instance_status_write(&run->instance, status);
	run->state.phase = INSTANCE_EXITED;
	run->state.finished_s = time(NULL);
	run->state.status = status;
	run->state.pid = 0;
	/* One that never ran has told the reason, and holds no name. */
	if (run->state.remove || run->state.started_s == 0) {
		(void)instance_remove(&run->instance, true);
	} else {
		(void)unlink(run->instance.socket);
		(void)unlink(run->instance.control);
		save(s);
	}
}

/* For a template that has it in its memory. */
static struct text_list find_program(const struct run *run)
{
	struct text_list paths = {0};

	if (template_is_prepared(run->machine.template))
		(void)run_process_paths(&run->state.spec.process, &paths);
	return paths;
}

int supervise(struct run *run, int ready_fd)
{
	struct supervisor s = {.run = run, .ready_fd = ready_fd};
	struct text_list warm = find_program(run);
	const struct life life = {
		.name = run->instance.name,
		.socket = run->instance.socket,
		.cfg = &run->machine.cfg,
		.template = run->machine.template,
		.warm = text_list_items(&warm),
		.disposable = run->machine.disposable,
		.template_only = run->opt->template_only,
		.snapshot = run->snapshot,
		.hostname = run->hostname,
		.clone = run->clone.source ? &run->clone : NULL,
		.agent = &run->machine.agent,
		.process = &run->state.spec.process,
		.filter = &run->machine.filter,
		.netns = &run->machine.netns,
		.init = run->opt->init,
		.interactive = run->opt->interactive,
		.detach = run->opt->detach,
		.forward_signals = run->opt->forward_signals,
		.close_fds = {ready_fd, run->instance.base_fd},
		.mask_before = run->signals_held ? &run->mask_before : NULL,
		.hooks = &hooks,
		.arg = &s,
	};
	int status;

	instance_status_write(&run->instance, INSTANCE_NO_STATUS);
	runlog_open(&s.log, run->instance.dir_fd);
	status = life_run(&life);
	text_list_done(&warm);
	runlog_close(&s.log);
	finish(&s, status);
	keeper_stop(s.keeper);
	/*
	 * Last, so that a command that waits finds everything in its final
	 * state.
	 */
	tell_ready(&s, status);
	return status;
}
