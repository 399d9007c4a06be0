/* SPDX-License-Identifier: Apache-2.0 */
/* The program: finds the subcommand and runs it. */
#include "tools/cmd/cmd.h"

#include "tools/cli/usage.h"
#include "vmm/base/log.h"
#include "vmm/vm.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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

/* Output that could not be written is an error, unless its reader is gone. */
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
		return help_unknown(argv[1]);
	return finish(command->run(argc - 1, argv + 1));
}
