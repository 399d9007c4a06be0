/* SPDX-License-Identifier: Apache-2.0 */
/* The program: finds the subcommand and runs it. */
#include "tools/cmd.h"

#include "tools/refused.h"
#include "vmm/log.h"
#include "vmm/suggest.h"
#include "vmm/util.h"
#include "vmm/vm.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct command commands[] = {
	{"boot", cmd_boot, "boot a guest from a kernel image"},
	{"run", cmd_run, "run a command in a virtual machine of its own"},
	{"exec", cmd_exec, "run one more in an instance that runs"},
	{"attach", cmd_attach, "show what a command writes, give it input"},
	{"ps", cmd_ps, "list instances"},
	{"logs", cmd_logs, "print what an instance's command wrote"},
	{"stop", cmd_stop, "ask an instance's command to end"},
	{"kill", cmd_kill, "send a signal to an instance's command"},
	{"rm", cmd_rm, "forget an instance that has ended"},
	{"wait", cmd_wait, "wait for an instance's end, print its exit status"},
	{"inspect", cmd_inspect, "print all that is known of an instance"},
	{"volume", cmd_volume, "list, make or remove named volumes"},
	{"images", cmd_images, "list the images that were unpacked"},
	{"tag", cmd_tag, "give an image another name"},
	{"rmi", cmd_rmi, "remove images"},
	{"bench", cmd_bench, "measure start-up beside ordinary containers"},
	{"check", cmd_check, "say what this host's KVM can do, and what to do"},
	{"help", cmd_help, "explain a command: bulkhead help boot"},
	{"version", cmd_version, "print the version"},
	{NULL, NULL, NULL},
};

const struct command *command_list(void)
{
	return commands;
}

const struct command *command_find(const char *name)
{
	for (const struct command *c = commands; c->name; c++)
		if (strcmp(c->name, name) == 0)
			return c;
	return NULL;
}

static int unknown_command(const char *name)
{
	const char *names[ARRAY_LEN(commands)];
	const char *near;

	for (unsigned i = 0; i < ARRAY_LEN(commands); i++)
		names[i] = commands[i].name;
	if (refused_command(name))
		return log_ret(VM_EXIT_USAGE, "'%s' is not there: %s", name,
			       refused_command(name));
	near = suggest(name, names);
	if (near)
		return usage_error(NULL,
				   "'%s': no such command; did you mean "
				   "'%s'?",
				   name, near);
	return usage_error(NULL, "'%s': no such command", name);
}

/*
 * A closed standard descriptor would be the number of the next file opened,
 * and guest output would go into a disk image.
 */
static bool open_standard_fds(void)
{
	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			return false;
	return true;
}

/* What could not be printed was not done; that nobody reads it is no error. */
static int finish(int status)
{
	struct pollfd out = {.fd = STDOUT_FILENO};
	bool failed = fflush(stdout) != 0;

	if ((!failed && !ferror(stdout)) || status != VM_EXIT_OK ||
	    (poll(&out, 1, 0) == 1 && (out.revents & POLLERR)))
		return status;
	return log_ret(VM_EXIT_HOST, "standard output: cannot write");
}

int main(int argc, char **argv)
{
	const struct command *command;

	if (!open_standard_fds())
		return VM_EXIT_HOST;
	/* A reader that went away is a write error, not a death. */
	signal(SIGPIPE, SIG_IGN);
	/* Nor is a limit of the size of files. */
	signal(SIGXFSZ, SIG_IGN);
	if (argc < 2)
		return help_print(VM_EXIT_USAGE);
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return finish(help_print(VM_EXIT_OK));
	if (strcmp(argv[1], "--version") == 0)
		return finish(cmd_version(1, argv + 1));
	if (argv[1][0] == '-')
		return usage_error(NULL, "'%s': options come after a command",
				   argv[1]);
	command = command_find(argv[1]);
	if (!command)
		return unknown_command(argv[1]);
	return finish(command->run(argc - 1, argv + 1));
}
