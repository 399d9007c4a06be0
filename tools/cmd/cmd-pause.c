/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead pause` and `bulkhead resume`, which Docker calls unpause: an
 * instance or a machine stands still, and goes on.
 */
#include "tools/cmd/cmd.h"

#include "tools/cli/options.h"
#include "tools/cli/usage.h"
#include "tools/container/pause.h"
#include "tools/container/vm-socket.h"
#include "tools/instance/instance.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/vm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct option_entry no_entries[] = {{0}};

static const struct option_table pause_table = {
	.command = "pause",
	.synopsis = "usage: bulkhead pause NAME|SOCKET...\n"
		    "\n"
		    "Has instances of `bulkhead run` stand still, or machines "
		    "of `bulkhead boot\n"
		    "--control SOCKET`: no CPU executes, no device moves. What "
		    "connects to them waits.\n",
	.entries = no_entries,
};

static const struct option_table resume_table = {
	.command = "resume",
	.synopsis = "usage: bulkhead resume NAME|SOCKET...\n"
		    "       bulkhead unpause NAME|SOCKET...\n"
		    "\n"
		    "Has instances and machines go on that `bulkhead pause` "
		    "made stand still.\n",
	.entries = no_entries,
};

static int ask_instance(const char *name, enum vm_request what)
{
	struct instance_state state;
	struct instance instance;
	int r = instance_open_living(name, &instance, &state);

	if (r < 0)
		return r;
	r = what == VM_REQUEST_PAUSE ? pause_instance(&instance)
				     : resume_instance(&instance);
	instance_state_done(&state);
	instance_done(&instance);
	if (r == 0)
		puts(name);
	return r;
}

static int ask_socket(const char *path, enum vm_request what)
{
	struct vm_answer answer;
	int r = vm_socket_ask(path, what, NULL, NULL, 0, &answer);

	if (r == 0 && answer.result == -EALREADY)
		return log_ret(-EALREADY,
			       what == VM_REQUEST_PAUSE ? "'%s': it is paused"
							: "'%s': it runs",
			       path);
	if (r == 0 && answer.result < 0)
		return log_ret(answer.result,
			       answer.result == -ESHUTDOWN
				       ? "'%s': the machine is at its end"
				       : "'%s': %s",
			       path, strerror(-answer.result));
	return r;
}

static int ask_each(const struct option_table *table, enum vm_request what,
		    int argc, char **argv)
{
	int status = VM_EXIT_OK;
	char none;
	int n = options_parse(table, &none, argc, argv);

	if (n < 0)
		return n == OPTIONS_HELP ? VM_EXIT_OK : VM_EXIT_USAGE;
	if (n == argc)
		return usage_error(table->command,
				   "give the name of an instance, or the path "
				   "of a machine's socket");
	instance_sweep();
	for (; n < argc; n++)
		if ((pause_is_path(argv[n]) ? ask_socket(argv[n], what)
					    : ask_instance(argv[n], what)) < 0)
			status = INSTANCE_EXIT_FAILED;
	return status;
}

int cmd_pause(int argc, char **argv)
{
	return ask_each(&pause_table, VM_REQUEST_PAUSE, argc, argv);
}

int cmd_resume(int argc, char **argv)
{
	return ask_each(&resume_table, VM_REQUEST_RESUME, argc, argv);
}
