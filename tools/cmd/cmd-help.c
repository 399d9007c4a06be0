/* SPDX-License-Identifier: Apache-2.0 */
/* `bulkhead help`, `bulkhead version`, and `bulkhead` alone. */
#include "tools/cmd/cmd.h"

#include "tools/cli/docker.h"
#include "tools/cli/usage.h"
#include "vmm/base/log.h"
#include "vmm/vm.h"

#include <stdio.h>
#include <string.h>

int help_print(int status)
{
	FILE *out = status == VM_EXIT_OK ? stdout : stderr;

	fputs("bulkhead: boot virtual machines under KVM, each in a process of "
	      "its own\n\n"
	      "usage: bulkhead COMMAND [OPTION]...\n\n"
	      "commands:\n",
	      out);
	for (const struct command *c = command_list(); c->name; c++)
		fprintf(out, "  %-9s %s\n", c->name, c->help);
	fputs("\n"
	      "start here:\n"
	      "  bulkhead check                          is this host fit?\n"
	      "  bulkhead boot --disk root.img           boot a disk's system\n"
	      "  bulkhead run --rm -it alpine.tar sh     a shell in an image\n"
	      "  bulkhead help boot                      all options, "
	      "examples\n"
	      "\n"
	      "manual pages: bulkhead(1), bulkhead-run(1), "
	      "bulkhead-config(5)\n",
	      out);
	return status;
}

int help_unknown(const char *name)
{
	const char *near;

	if (docker_command(name))
		return log_ret(VM_EXIT_USAGE, "'%s' is not supported: %s", name,
			       docker_command(name));
	near = command_suggest(name);
	if (near)
		return usage_error(NULL,
				   "'%s': no such command; did you mean "
				   "'%s'?",
				   name, near);
	return usage_error(NULL, "'%s': no such command", name);
}

int cmd_help(int argc, char **argv)
{
	char help_option[] = "--help";
	const struct command *command;

	if (argc < 2 || strcmp(argv[1], "--help") == 0 ||
	    strcmp(argv[1], "help") == 0)
		return help_print(VM_EXIT_OK);
	command = command_find(argv[1]);
	if (!command)
		return help_unknown(argv[1]);
	return command->run(2, (char *[]){argv[1], help_option, NULL});
}

int cmd_version(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "--help") == 0)
		puts("usage: bulkhead version\n\nPrints the program's "
		     "version.");
	else if (argc > 1)
		return usage_error("version", "'%s': unexpected argument",
				   argv[1]);
	else
		puts("bulkhead " BULKHEAD_VERSION);
	return VM_EXIT_OK;
}
