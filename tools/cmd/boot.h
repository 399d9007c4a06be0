/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The options of `bulkhead boot`, boot-options.c: cmd-boot.c reads them,
 * boot-help.c shows them, boot-run.c runs what they ask for.
 */
#ifndef TOOLS_CMD_BOOT_H
#define TOOLS_CMD_BOOT_H

#include <stdbool.h>

enum boot_action {
	BOOT_SET,    /* config_set(`target`, the argument or `value`) */
	BOOT_DEVICE, /* a device of type `target`; no target: --device */
	BOOT_CONFIG,
	BOOT_NO_RNG,
	BOOT_DUMP_CONFIG,
	BOOT_LIST_DEVICES,
	BOOT_LOG_LEVEL,
	BOOT_TRACE,
	BOOT_JSON,
	BOOT_HELP,
};

struct config;
struct snapshot;

struct boot_option {
	const char *name; /* long option; NULL ends the table */
	char letter;      /* 'm': -m is the same, and has an argument; 0 */
	const char *arg;  /* what the help calls its argument; NULL: none */
	enum boot_action action;
	const char *target, *value;
	const char *group; /* heading, where a new one begins */
	const char *help;  /* default in brackets */
};

/* The table, with its end. */
#define BOOT_OPTIONS_MAX 32
const struct boot_option *boot_options(void);

/* Both print on standard output and give the exit status. */
int boot_help(void);
int boot_list_devices(bool json);

/*
 * Makes the VM and runs it to its end; one more as often as the guest reboots
 * and CFG says so. The exit status. Single-threaded callers only.
 *
 * The signals that a VM takes are blocked from here on, also after it returns:
 * none may end the process by itself before a VM takes it, between two VMs or
 * when the status is known.
 *
 * SNAPSHOT, borrowed, or NULL: the machine goes on there, and none follows it.
 */
int boot_run(const struct config *cfg, const struct snapshot *snapshot);

#endif
