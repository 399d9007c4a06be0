/* SPDX-License-Identifier: Apache-2.0 */
/* The table of subcommands. */
#include "tools/cmd/cmd.h"

#include "vmm/base/suggest.h"
#include "vmm/base/util.h"

#include <stddef.h>
#include <string.h>

static const struct command commands[] = {
	{"boot", cmd_boot, "boot a guest from a kernel image"},
	{"pause", cmd_pause, "have an instance or a machine stand still"},
	{"resume", cmd_resume, "have an instance or a machine go on"},
	{"unpause", cmd_resume, "the same, in Docker's word"},
	{"snapshot", cmd_snapshot, "save an instance or a machine"},
	{"restore", cmd_restore, "start what goes on where it was saved"},
	{"clone", cmd_clone, "start what goes on where an instance is"},
	{"run", cmd_run, "run a command in a virtual machine of its own"},
	{"exec", cmd_exec, "run another command in a running instance"},
	{"cp", cmd_cp, "copy files to and from an instance"},
	{"attach", cmd_attach, "show what a command writes, give it input"},
	{"ps", cmd_ps, "list instances"},
	{"top", cmd_top, "list the processes of an instance"},
	{"stats", cmd_stats, "show what instances use, each second"},
	{"logs", cmd_logs, "print what an instance's command wrote"},
	{"stop", cmd_stop, "ask an instance's command to end"},
	{"start", cmd_start, "run an instance that has ended again"},
	{"restart", cmd_restart, "stop an instance and run it again"},
	{"kill", cmd_kill, "send a signal to an instance's command"},
	{"rm", cmd_rm, "remove an instance that has ended"},
	{"wait", cmd_wait, "wait for an instance's end, print its exit status"},
	{"inspect", cmd_inspect, "print all that is known of an instance"},
	{"volume", cmd_volume, "list, make or remove named volumes"},
	{"pool", cmd_pool, "keep machines that wait for run"},
	{"template", cmd_template, "list, make or remove saved machines"},
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

const char *command_suggest(const char *name)
{
	const char *names[ARRAY_LEN(commands)];

	for (unsigned i = 0; i < ARRAY_LEN(commands); i++)
		names[i] = commands[i].name;
	return suggest(name, names);
}
