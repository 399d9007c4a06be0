/* SPDX-License-Identifier: Apache-2.0 */
/* `bulkhead pause` and `bulkhead resume`: a machine stands still, and goes on.
 */
#include "tools/cmd/cmd.h"

#include "tools/cli/options.h"
#include "tools/cli/usage.h"
#include "tools/container/vm-socket.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/vm.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static const struct option_entry no_entries[] = {{0}};

static const struct option_table pause_table = {
	.command = "pause",
	.synopsis = "usage: bulkhead pause SOCKET...\n"
		    "\n"
		    "Has machines of `bulkhead boot --control SOCKET` stand "
		    "still: no CPU executes, no\n"
		    "device moves. What connects to them waits.\n",
	.entries = no_entries,
};

static const struct option_table resume_table = {
	.command = "resume",
	.synopsis = "usage: bulkhead resume SOCKET...\n"
		    "\n"
		    "Has machines go on that `bulkhead pause` made stand "
		    "still.\n",
	.entries = no_entries,
};

/* Docker's users have a container's name in mind. */
static int check_socket(const char *path, enum vm_request what)
{
	struct stat st;

	if (strchr(path, '/') || lstat(path, &st) == 0 || errno != ENOENT)
		return 0;
	return log_ret(-ENOENT,
		       "'%s': no such socket: give that of boot's --control; "
		       "for a container of run: 'bulkhead kill -s %s %s'",
		       path, what == VM_REQUEST_PAUSE ? "STOP" : "CONT", path);
}

static int ask_one(const char *path, enum vm_request what)
{
	struct vm_answer answer;
	int r = check_socket(path, what);

	if (r == 0)
		r = vm_socket_ask(path, what, NULL, NULL, &answer);
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
				   "give the path of a machine's socket");
	for (; n < argc; n++)
		if (ask_one(argv[n], what) < 0)
			status = 1;
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
