/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommands of `bulkhead`, one file each. */
#ifndef TOOLS_CMD_CMD_H
#define TOOLS_CMD_CMD_H

struct command {
	const char *name; /* NULL ends the table */
	/* argv[0] is the subcommand's name; the exit status */
	int (*run)(int argc, char **argv);
	const char *help; /* one line */
};

/* Every subcommand, in the order of the help. */
const struct command *command_list(void);
/* NULL: there is none of that name. */
const struct command *command_find(const char *name);
/* The one whose name is most like NAME, or NULL. */
const char *command_suggest(const char *name);

int cmd_attach(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_boot(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_clone(int argc, char **argv);
int cmd_cp(int argc, char **argv);
int cmd_exec(int argc, char **argv);
int cmd_help(int argc, char **argv);
int cmd_images(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_kill(int argc, char **argv);
int cmd_logs(int argc, char **argv);
int cmd_pause(int argc, char **argv);
int cmd_pool(int argc, char **argv);
int cmd_ps(int argc, char **argv);
int cmd_rm(int argc, char **argv);
int cmd_rmi(int argc, char **argv);
int cmd_tag(int argc, char **argv);
int cmd_run(int argc, char **argv);
/* The same, but for the template of its machine, as far as that. */
int cmd_run_template(int argc, char **argv);
/* And that has no container in it, whatever the root is. */
int cmd_run_template_waiting(int argc, char **argv);
int cmd_restart(int argc, char **argv);
int cmd_restore(int argc, char **argv);
int cmd_resume(int argc, char **argv);
int cmd_snapshot(int argc, char **argv);
int cmd_start(int argc, char **argv);
int cmd_stats(int argc, char **argv);
int cmd_stop(int argc, char **argv);
int cmd_template(int argc, char **argv);
int cmd_top(int argc, char **argv);
int cmd_version(int argc, char **argv);
int cmd_volume(int argc, char **argv);
int cmd_wait(int argc, char **argv);

/* The short help of `bulkhead` itself; to standard error if STATUS is not 0. */
int help_print(int status);
/* One line that NAME is no command, and which one could be meant: the status.
 */
int help_unknown(const char *name);

#endif
