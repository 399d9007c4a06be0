/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead start` and `restart`: another run of an instance that has ended.
 * state.json describes its container and its machine; the image and the volumes
 * are opened anew.
 */
#include "tools/cmd/cmd.h"

#include "tools/agent/agent.h"
#include "tools/cli/options.h"
#include "tools/cli/usage.h"
#include "tools/cmd/stop.h"
#include "tools/container/run.h"
#include "tools/instance/instance.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/vm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

struct request {
	bool restart, attach, interactive;
	const char *time_text, *signal_text;
	struct stop_request stop;
};

#define AT(member) offsetof(struct request, member)

static const struct option_entry start_entries[] = {
	{"attach", 'a', NULL, OPTION_FLAG, AT(attach), NULL,
	 "stay in the foreground, with its output and signals"},
	{"interactive", 'i', NULL, OPTION_FLAG, AT(interactive), NULL,
	 "the same, and give it this standard input"},
	{0},
};

static const char lost[] =
	"\nIt has the options of its `run`. Its root begins as the image has "
	"it: changes of\n"
	"the last run were in the guest's memory. Volumes, and a directory "
	"with\n"
	"--rootfs-write, keep theirs. An instance of `run --rm` is gone once "
	"it ends.\n";

static const struct option_table start_table = {
	.command = "start",
	.synopsis = "usage: bulkhead start [OPTION]... NAME...\n"
		    "\n"
		    "Runs the commands of instances that have ended again.\n",
	.entries = start_entries,
	.notes = lost,
};

static const struct option_entry restart_entries[] = {
	{"time", 't', "SECONDS", OPTION_TEXT, AT(time_text), NULL,
	 "seconds to wait before killing it [10]"},
	{"signal", 's', "SIGNAL", OPTION_TEXT, AT(signal_text), NULL,
	 "signal to send [the instance's, else TERM]"},
	{0},
};

static const struct option_table restart_table = {
	.command = "restart",
	.synopsis = "usage: bulkhead restart [OPTION]... NAME...\n"
		    "\n"
		    "Stops instances, where they run, and runs their commands "
		    "again, in the\n"
		    "background.\n",
	.entries = restart_entries,
	.notes = lost,
};

/* ---- one of them */

static int copy_text(const char *text, char **to)
{
	free(*to);
	*to = text ? strdup(text) : NULL;
	return text && !*to ? log_ret(-ENOMEM, "out of memory") : 0;
}

/* Forgets how the last run went. */
static int renew_state(struct run *run)
{
	struct instance_state *state = &run->state;
	int r;

	state->phase = INSTANCE_CREATED;
	state->status = INSTANCE_NO_STATUS;
	state->finished_s = 0;
	state->pid = 0;
	state->pid_start = 0;
	r = copy_text(NULL, &state->error);
	if (r == 0)
		r = copy_text(run->machine.ports, &state->ports);
	if (r == 0)
		r = copy_text(run->machine.network, &state->network);
	return r < 0 ? r : instance_save(&run->instance, state);
}

static int prepare(struct run *run, struct run_options *opt,
		   const struct request *req)
{
	const struct rootfs_options options = {0};
	const char *name = run->instance.name;
	enum log_level level = LOG_WARN;
	int r;

	if (!run->state.run)
		return log_ret(-EINVAL,
			       "'%s': its state.json does not say how it was "
			       "started: by an older bulkhead, or with paths "
			       "that are not UTF-8",
			       name);
	r = run_again_options(run->state.run, opt);
	if (r == 0)
		r = run_again_streams(opt, &run->state.spec.process,
				      req->attach, req->interactive);
	if (r < 0)
		return r;
	if (opt->log_level && log_parse_level(opt->log_level, &level) == 0)
		log_setup(level, false);
	r = rootfs_open(opt->root, &options, &run->root);
	if (r == 0)
		r = run_machine_make(&run->machine, &run->state.spec, opt,
				     &run->root, &run->instance);
	/* From here on it is another run; until now the last one's end counts.
	 */
	if (r == 0) {
		instance_forget(&run->instance);
		r = renew_state(run);
	}
	if (r == 0 && !run->state.spec.root_readonly && !opt->rootfs_write &&
	    !opt->bundle)
		log_warn("'%s': its root begins as '%s' has it: what its last "
			 "run wrote there is gone",
			 name, run->state.image ? run->state.image : "");
	return r;
}

/*
 * The instance has ended. The exit status, also of the process in the
 * background that this returns to.
 */
static int run_again(const struct request *req, struct run *run,
		     struct run_options *opt)
{
	int status = RUN_EXIT_FAILED;
	int r = instance_again(&run->instance);

	if (r < 0)
		log_error("'%s': somebody else has just started it",
			  run->instance.name);
	else if (prepare(run, opt, req) == 0)
		status = opt->detach ? supervise_detached(run)
				     : supervise(run, -1);
	run_machine_done(&run->machine);
	rootfs_close(&run->root);
	run_options_done(opt);
	return status;
}

/* 0: it has ended; 1: it runs, which is as wanted; -errno, logged. */
static int make_ended(const struct request *req, struct run *run)
{
	const char *name = run->instance.name;
	int r;

	if (!instance_is_alive(&run->instance))
		return 0;
	if (!req->restart && req->attach)
		return log_ret(-EBUSY, "'%s' runs: 'bulkhead attach %s'", name,
			       name);
	if (!req->restart)
		return 1;
	if (run->state.remove)
		return log_ret(-EINVAL,
			       "'%s' was started with --rm: it is gone once it "
			       "ends",
			       name);
	r = stop_instance(&run->instance, &run->state, &req->stop);
	if (r < 0)
		return r;
	instance_state_done(&run->state);
	return instance_load(&run->instance, &run->state);
}

static int start_one(const struct request *req, const char *name)
{
	struct run_options opt = {0};
	struct run run = {
		.opt = &opt,
		.root.hold = -1,
		.machine.initrd_fd = -1,
	};
	int status = RUN_EXIT_FAILED;
	int r;

	instance_init(&run.instance);
	if (instance_open(name, &run.instance) < 0)
		return status;
	r = instance_load(&run.instance, &run.state);
	if (r == -ENOENT)
		log_error("'%s' has not started yet", name);
	if (r == 0)
		r = make_ended(req, &run);
	if (r == 0)
		status = run_again(req, &run, &opt);
	if (r > 0) {
		puts(name);
		status = VM_EXIT_OK;
	}
	instance_state_done(&run.state);
	instance_done(&run.instance);
	return status;
}

/*
 * Each in a process of its own, which becomes that of the instance in the
 * background. RET_STATUS is for the process that this returns to.
 */
static void start_each(const struct request *req, int n, char **names,
		       int *ret_status)
{
	*ret_status = VM_EXIT_OK;
	for (int i = 0; i < n; i++) {
		int status;
		pid_t pid;

		fflush(stdout);
		pid = fork();
		if (pid == 0) {
			*ret_status = start_one(req, names[i]);
			return;
		}
		if (pid < 0) {
			*ret_status =
				log_ret(INSTANCE_EXIT_FAILED, "cannot fork: %s",
					strerror(errno));
			return;
		}
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		if (status != 0)
			*ret_status = INSTANCE_EXIT_FAILED;
	}
}

/* ---- both commands */

static int read_values(struct request *req, const char *command)
{
	req->stop = (struct stop_request){
		.command = command,
		.time_s = STOP_TIME_S,
	};
	if (req->time_text && util_parse_number(req->time_text, 0, 1000000,
						&req->stop.time_s) < 0)
		return usage_error(command,
				   "--time '%s': not a number of seconds",
				   req->time_text);
	if (!req->signal_text)
		return 0;
	req->stop.signal = agent_signal_number(req->signal_text);
	return req->stop.signal > 0
		       ? 0
		       : usage_error(command, "--signal '%s': no such signal",
				     req->signal_text);
}

static int each(const struct option_table *table, struct request *req, int argc,
		char **argv)
{
	int n = options_parse(table, req, argc, argv);
	int status;

	if (n == OPTIONS_HELP)
		return VM_EXIT_OK;
	if (n < 0 || read_values(req, table->command) != 0)
		return VM_EXIT_USAGE;
	if (n == argc)
		return usage_error(table->command,
				   "give the name of an instance");
	req->attach |= req->interactive;
	if (req->attach && n < argc - 1)
		return usage_error(table->command,
				   "-a and -i are for one instance");
	instance_sweep();
	if (req->attach)
		return start_one(req, argv[n]);
	start_each(req, argc - n, argv + n, &status);
	return status;
}

int cmd_start(int argc, char **argv)
{
	struct request req = {.restart = false};

	return each(&start_table, &req, argc, argv);
}

int cmd_restart(int argc, char **argv)
{
	struct request req = {.restart = true};

	return each(&restart_table, &req, argc, argv);
}
