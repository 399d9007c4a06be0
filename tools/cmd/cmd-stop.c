/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead stop`, `kill` and `rm`: how instances are ended and forgotten by
 * somebody else than their command.
 */
#include "tools/cmd/cmd.h"
#include "tools/cmd/stop.h"

#include "tools/agent/agent.h"
#include "tools/container/pause.h"
#include "tools/instance/instance.h"
#include "tools/cli/options.h"
#include "tools/cli/usage.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/vm.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define AGENT_TIMEOUT_MS 3000
/* From SIGKILL to a machine that has powered off. */
#define END_TIMEOUT_MS 5000

struct request {
	const char *command; /* "stop" */
	const char *time_text, *signal_text;
	bool force;
	uint64_t time_s;
	int signal; /* 0: the instance's own */
};

#define AT(member) offsetof(struct request, member)

static const struct option_entry stop_entries[] = {
	{"time", 't', "SECONDS", OPTION_TEXT, AT(time_text), NULL,
	 "seconds to wait before killing it [10]"},
	{"signal", 's', "SIGNAL", OPTION_TEXT, AT(signal_text), NULL,
	 "signal to send [the instance's, else TERM]"},
	{0},
};

static const struct option_table stop_table = {
	.command = "stop",
	.synopsis = "usage: bulkhead stop [OPTION]... NAME...\n"
		    "\n"
		    "Asks the commands of instances to end, and waits for "
		    "it.\n",
	.entries = stop_entries,
};

static const struct option_entry kill_entries[] = {
	{"signal", 's', "SIGNAL", OPTION_TEXT, AT(signal_text), NULL,
	 "signal to send [KILL]"},
	{0},
};

static const struct option_table kill_table = {
	.command = "kill",
	.synopsis = "usage: bulkhead kill [OPTION]... NAME...\n"
		    "\n"
		    "Sends a signal to the commands of instances.\n",
	.entries = kill_entries,
};

static const struct option_entry rm_entries[] = {
	{"force", 'f', NULL, OPTION_FLAG, AT(force), NULL,
	 "also kill and remove running instances"},
	{0},
};

static const struct option_table rm_table = {
	.command = "rm",
	.synopsis = "usage: bulkhead rm [OPTION]... NAME...\n"
		    "\n"
		    "Removes instances that have ended, with their status and "
		    "their log.\n",
	.entries = rm_entries,
};

/* Through the agent. 0 or -errno (logged). */
static int send_signal(const struct instance *instance, int signal)
{
	struct agent_session *agent = NULL;
	int r = agent_connect(instance->socket, AGENT_TIMEOUT_MS, &agent);

	if (r == 0)
		r = agent_signal(agent, NULL, signal);
	agent_free(agent);
	return r;
}

/* With the guest's help, if it ANSWERS, or without. */
static int kill_now(const char *command, const struct instance *instance,
		    const struct instance_state *state, bool answers)
{
	if (answers && send_signal(instance, SIGKILL) == 0 &&
	    instance_wait(instance, END_TIMEOUT_MS) == 0)
		return 0;
	instance_kill_monitor(instance, state, command);
	if (instance_wait(instance, END_TIMEOUT_MS) == 0)
		return 0;
	return log_ret(-ETIME, "'%s': process %d does not end", instance->name,
		       (int)state->pid);
}

/*
 * Whether the guest can be asked: one that is paused goes on, as it does with
 * Docker, to hear of its end. One that is being saved goes on by itself, which
 * PATIENT waits for, though not for ever: then it is asked all the same.
 */
static bool wake(const struct instance *instance,
		 const struct instance_state *state, bool patient)
{
	int r = 0;

	if (state->phase == INSTANCE_PAUSED) {
		r = resume_instance(instance);
	} else if (patient) {
		int lock = instance_lock_pause(instance, NULL);

		util_close(&lock);
	}
	return r == 0 || r == -EALREADY;
}

int stop_instance(const struct instance *instance,
		  const struct instance_state *state,
		  const struct stop_request *how)
{
	const int signal = how->signal ? how->signal : state->stop_signal;
	const int timeout_ms = (int)(how->time_s * 1000);
	bool answers;

	if (!instance_is_alive(instance))
		return 0;
	answers = wake(instance, state, true) &&
		  send_signal(instance, signal) == 0;
	if (answers && instance_wait(instance, timeout_ms) == 0)
		return 0;
	return kill_now(how->command, instance, state, answers);
}

static int stop_one(const struct request *req, const struct instance *instance,
		    const struct instance_state *state)
{
	const struct stop_request how = {
		.command = req->command,
		.signal = req->signal,
		.time_s = req->time_s,
	};

	return stop_instance(instance, state, &how);
}

static int kill_one(const struct request *req, const struct instance *instance,
		    const struct instance_state *state)
{
	int signal = req->signal ? req->signal : SIGKILL;

	if (!instance_is_alive(instance))
		return log_ret(-ESRCH, "'%s' does not run", instance->name);
	if (signal == SIGKILL)
		return kill_now(req->command, instance, state,
				wake(instance, state, false));
	return wake(instance, state, true) ? send_signal(instance, signal)
					   : -ETIME;
}

static int rm_one(const struct request *req, const struct instance *instance,
		  const struct instance_state *state)
{
	int r;

	if (req->force && instance_is_alive(instance)) {
		r = kill_now(req->command, instance, state,
			     wake(instance, state, false));
		if (r < 0)
			return r;
	}
	r = instance_remove(instance, false);
	if (r == -EBUSY)
		return log_ret(r, "'%s' runs: stop it first, or use rm --force",
			       instance->name);
	return r;
}

typedef int (*action)(const struct request *req,
		      const struct instance *instance,
		      const struct instance_state *state);

static int act_on(const struct request *req, const char *name, action act)
{
	struct instance_state state = {0};
	struct instance instance;
	int r = instance_open(name, &instance);

	if (r < 0)
		return r;
	r = instance_load(&instance, &state);
	/* Without a state it has only just begun, or is damaged: rm helps. */
	if (r == 0 || act == rm_one)
		r = act(req, &instance, &state);
	else if (r == -ENOENT)
		log_error("'%s' has not started yet", name);
	instance_state_done(&state);
	instance_done(&instance);
	return r;
}

static int read_values(struct request *req, const char *command)
{
	req->time_s = 10;
	if (req->time_text &&
	    util_parse_number(req->time_text, 0, 1000000, &req->time_s) < 0)
		return usage_error(command,
				   "--time '%s': not a number of seconds",
				   req->time_text);
	if (!req->signal_text)
		return 0;
	req->signal = agent_signal_number(req->signal_text);
	return req->signal > 0
		       ? 0
		       : usage_error(command, "--signal '%s': no such signal",
				     req->signal_text);
}

static int each(const struct option_table *table, action act, int argc,
		char **argv)
{
	struct request req = {.command = table->command};
	int n = options_parse(table, &req, argc, argv);
	int status = VM_EXIT_OK;

	if (n == OPTIONS_HELP)
		return VM_EXIT_OK;
	if (n < 0 || read_values(&req, table->command) != 0)
		return VM_EXIT_USAGE;
	if (n == argc)
		return usage_error(table->command,
				   "give the name of an instance");
	instance_sweep();
	for (; n < argc; n++) {
		if (act_on(&req, argv[n], act) < 0)
			status = INSTANCE_EXIT_FAILED;
		else
			puts(argv[n]);
	}
	return status;
}

int cmd_stop(int argc, char **argv)
{
	return each(&stop_table, stop_one, argc, argv);
}

int cmd_kill(int argc, char **argv)
{
	return each(&kill_table, kill_one, argc, argv);
}

int cmd_rm(int argc, char **argv)
{
	return each(&rm_table, rm_one, argc, argv);
}
