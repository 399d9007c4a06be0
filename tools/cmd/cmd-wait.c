/* SPDX-License-Identifier: Apache-2.0 */
/* `bulkhead wait` and `bulkhead inspect`: what becomes of an instance. */
#include "tools/cmd/cmd.h"

#include "tools/container/inspect.h"
#include "tools/instance/instance.h"
#include "tools/cli/options.h"
#include "tools/cli/print.h"
#include "tools/cli/usage.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

static const struct option_entry no_entries[] = {{0}};

/* ---- wait */

static const struct option_table wait_table = {
	.command = "wait",
	.synopsis = "usage: bulkhead wait NAME...\n"
		    "\n"
		    "Waits until instances have ended, and prints the exit "
		    "status of each.\n",
	.entries = no_entries,
};

/* Its file is there before anybody could know of the instance's process. */
static int wait_one(const char *name)
{
	struct instance instance;
	autofd int fd = -1;
	int r = instance_open(name, &instance);

	if (r < 0)
		return r;
	fd = openat(instance.dir_fd, INSTANCE_STATUS_FILE,
		    O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		r = log_ret(-errno, "'%s' has not started yet", name);
	if (r == 0)
		r = instance_wait(&instance, -1);
	if (r == 0) {
		printf("%d\n", instance_status_read(fd));
		fflush(stdout);
	}
	instance_done(&instance);
	return r;
}

/* The index of the first operand, or an exit status in *RET_STATUS and 0. */
static int first_operand(const struct option_table *table, int argc,
			 char **argv, int *ret_status)
{
	char none;
	int n = options_parse(table, &none, argc, argv);

	if (n > 0 && n < argc)
		return n;
	*ret_status = n == OPTIONS_HELP ? VM_EXIT_OK : VM_EXIT_USAGE;
	if (n == argc)
		usage_error(table->command, "give the name of an instance");
	return 0;
}

int cmd_wait(int argc, char **argv)
{
	int status = VM_EXIT_OK;
	int n = first_operand(&wait_table, argc, argv, &status);

	if (n == 0)
		return status;
	instance_sweep();
	for (; n < argc; n++)
		if (wait_one(argv[n]) < 0)
			status = INSTANCE_EXIT_FAILED;
	return status;
}

/* ---- inspect */

static const struct option_table inspect_table = {
	.command = "inspect",
	.synopsis = "usage: bulkhead inspect NAME...\n"
		    "\n"
		    "Prints all that is known of instances, as a list of JSON "
		    "objects.\n",
	.entries = no_entries,
};

static int inspect_one(const char *name, json_t *list)
{
	struct instance_state state;
	struct instance instance;
	json_t *json;
	bool alive;
	int r = instance_open(name, &instance);

	if (r < 0)
		return r;
	alive = instance_is_alive(&instance);
	r = instance_load(&instance, &state);
	if (r == -ENOENT)
		log_error("'%s' has not started yet", name);
	if (r == 0) {
		json = inspect_json(&instance, &state, alive);
		if (!json || json_array_append_new(list, json) < 0)
			r = log_ret(-ENOMEM, "out of memory");
		instance_state_done(&state);
	}
	instance_done(&instance);
	return r;
}

int cmd_inspect(int argc, char **argv)
{
	int status = VM_EXIT_OK;
	int n = first_operand(&inspect_table, argc, argv, &status);
	json_t *list;

	if (n == 0)
		return status;
	list = json_array();
	instance_sweep();
	for (; n < argc; n++)
		if (inspect_one(argv[n], list) < 0)
			status = INSTANCE_EXIT_FAILED;
	if (print_json(list, JSON_INDENT(2)) < 0)
		status = VM_EXIT_HOST;
	json_decref(list);
	return status;
}
