/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead restore`: a machine that goes on where a snapshot has it. Another
 * disk, tap, directory or socket than before can be behind its devices.
 */
#include "tools/cmd/cmd.h"

#include "devices/virtio/virtio.h"
#include "tools/cli/options.h"
#include "tools/cli/usage.h"
#include "tools/cmd/boot.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/snapshot.h"
#include "vmm/vm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define RECORD_MAX_S 3600

struct request {
	bool verify, json, no_sandbox, no_working_set;
	const char *control, *name, *log_level, *record;
	uint64_t record_s; /* 0: as it comes */
	struct option_list disks, nets, shares, vsocks;
};

#define AT(member) offsetof(struct request, member)

static const struct option_entry entries[] = {
	{"control", 0, "SOCKET", OPTION_TEXT, AT(control), "The machine",
	 "Unix socket for pause, resume and snapshot [none]"},
	{"name", 0, "NAME", OPTION_TEXT, AT(name), NULL,
	 "the VM's name in messages [as it was]"},
	{"verify", 0, NULL, OPTION_FLAG, AT(verify), NULL,
	 "read all of the memory first, and check it"},
	{"record", 0, "SECONDS", OPTION_TEXT, AT(record), NULL,
	 "record the memory that is touched for so long [1, the first time]"},
	{"no-working-set", 0, NULL, OPTION_FLAG, AT(no_working_set), NULL,
	 "bring no memory in ahead, and record nothing"},
	{"disk", 0, "FILE[,KEY...]", OPTION_LIST, AT(disks),
	 "Other things behind its devices, in their order",
	 "instead of the first disk, the second ..."},
	{"net", 0, "tap=NAME|user[,KEY...]", OPTION_LIST, AT(nets), NULL,
	 "instead of the first network ..."},
	{"share", 0, "DIR,tag=TAG[,KEY...]", OPTION_LIST, AT(shares), NULL,
	 "instead of the share that has this tag"},
	{"vsock", 0, "PATH[,KEY...]", OPTION_LIST, AT(vsocks), NULL,
	 "instead of the vsock device's sockets"},
	{"no-sandbox", 0, NULL, OPTION_FLAG, AT(no_sandbox), "The host",
	 "do not confine the monitor (for debugging it)"},
	{"log-level", 0, "LEVEL", OPTION_TEXT, AT(log_level), NULL,
	 "error, warn, info or debug [warn]"},
	{"json", 0, NULL, OPTION_FLAG, AT(json), NULL, "messages as JSON"},
	{0},
};

static const struct option_table restore_table = {
	.command = "restore",
	.synopsis =
		"usage: bulkhead restore [OPTION]... DIR\n"
		"\n"
		"Starts a machine that goes on where `bulkhead snapshot` saved "
		"it in DIR, with the\n"
		"console here. Any number of machines can start from it, one "
		"after the other or at\n"
		"the same time. The first one records which memory its start "
		"touches, in\n"
		"DIR/working-set, which is brought in ahead for the others.\n",
	.entries = entries,
	.notes = "\nIts clock goes on from when it was saved. Its kernel draws "
		 "other random numbers\nthan any other machine that was "
		 "started from DIR, but its programs have those of\nbefore: "
		 "see docs/STARTUP. When its guest reboots, it ends.\n",
};

/* ---- other things behind the devices */

/* The place of the device that DEVICE is instead of, or NULL. */
static struct config_device *find_place(struct config *cfg,
					const struct config_device *device,
					unsigned number)
{
	const char *tag = config_text(device, "tag");

	for (unsigned i = 0; i < cfg->ndevices; i++) {
		struct config_device *d = &cfg->device[i];

		if (strcmp(d->type, device->type) != 0)
			continue;
		if (tag ? strcmp(config_text(d, "tag"), tag) == 0
			: number-- == 0)
			return d;
	}
	return NULL;
}

/* The NUMBERth of its option, which takes the place of what CFG has. */
static int replace(struct config *cfg, const char *option, const char *type,
		   const char *text, unsigned number)
{
	struct config_device added, *place;
	int r = config_add_device(cfg, virtio_config_type(type), text);

	if (r < 0)
		return r;
	added = cfg->device[--cfg->ndevices];
	cfg->device[cfg->ndevices] = (struct config_device){0};
	place = find_place(cfg, &added, number);
	if (place) {
		const struct config_device before = *place;

		*place = added;
		added = before;
	}
	config_device_done(&added);
	return place ? 0
		     : log_ret(-EINVAL,
			       "--%s '%s': the machine that was saved has no "
			       "device that this could be",
			       option, text);
}

static int replace_all(struct config *cfg, const char *option, const char *type,
		       const struct option_list *list)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < list->count; i++)
		r = replace(cfg, option, type, list->item[i], i);
	return r;
}

static int set_text(char **to, const char *text)
{
	free(*to);
	*to = text ? strdup(text) : NULL;
	return text && !*to ? log_ret(-ENOMEM, "out of memory") : 0;
}

static int make_config(const struct request *req, const char *path,
		       const struct snapshot *snapshot, struct config *cfg)
{
	const struct config_type *const *types = virtio_config_types();
	int r = config_read_json_bytes(cfg, path, snapshot->config,
				       strlen(snapshot->config), types);

	if (r == 0)
		r = config_set_directory(cfg, snapshot->directory, types);
	if (r == 0)
		r = replace_all(cfg, "disk", "blk", &req->disks);
	if (r == 0)
		r = replace_all(cfg, "net", "net", &req->nets);
	if (r == 0)
		r = replace_all(cfg, "share", "fs", &req->shares);
	if (r == 0)
		r = replace_all(cfg, "vsock", "vsock", &req->vsocks);
	if (r == 0)
		r = set_text(&cfg->control, req->control);
	if (r == 0 && req->name)
		r = set_text(&cfg->name, req->name);
	/* The user decides about this, whoever made the snapshot. */
	cfg->sandbox = !req->no_sandbox;
	/* The file's pages are small, whatever the RAM's were. */
	cfg->hugetlb = false;
	cfg->on_reboot = CONFIG_REBOOT_EXIT;
	return r == 0 ? config_check(cfg, types) : r;
}

/* ---- all of it */

/* Behind what else can fail: a start that fails records nothing. */
static void open_working_set(const struct request *req, const char *path,
			     struct snapshot *snapshot)
{
	if (req->no_working_set)
		return;
	working_set_open(snapshot, path,
			 req->record_s ? WORKING_SET_ANEW : WORKING_SET_AUTO);
	snapshot->working_set.record_ms = (unsigned)req->record_s * 1000;
}

static int restore(const struct request *req, const char *path)
{
	struct snapshot snapshot;
	struct config cfg;
	int status = VM_EXIT_USAGE;
	int r;

	config_init(&cfg);
	r = snapshot_open(&snapshot, path);
	if (r == 0 && req->verify)
		r = snapshot_verify(&snapshot);
	if (r == 0)
		r = make_config(req, path, &snapshot, &cfg);
	if (r == 0) {
		open_working_set(req, path, &snapshot);
		status = boot_run(&cfg, &snapshot);
	}
	config_done(&cfg);
	snapshot_close(&snapshot);
	return status;
}

int cmd_restore(int argc, char **argv)
{
	struct request req = {0};
	enum log_level level = LOG_WARN;
	int n = options_parse(&restore_table, &req, argc, argv);
	int status = n == OPTIONS_HELP ? VM_EXIT_OK : VM_EXIT_USAGE;

	if (n > 0 && req.log_level &&
	    log_parse_level(req.log_level, &level) < 0)
		usage_error("restore",
			    "--log-level '%s': not one of error, warn, info, "
			    "debug",
			    req.log_level);
	else if (n > 0 && req.record &&
		 util_parse_number(req.record, 1, RECORD_MAX_S, &req.record_s) <
			 0)
		usage_error("restore",
			    "--record '%s': not a number from 1 to %d",
			    req.record, RECORD_MAX_S);
	else if (n > 0 && req.record && req.no_working_set)
		usage_error("restore",
			    "--record: not together with --no-working-set");
	else if (n > 0 && argc - n != 1)
		usage_error("restore", "give the directory of a snapshot");
	else if (n > 0) {
		log_setup(level, req.json);
		status = restore(&req, argv[n]);
	}
	option_list_done(&req.disks);
	option_list_done(&req.nets);
	option_list_done(&req.shares);
	option_list_done(&req.vsocks);
	return status;
}
