/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead restore`: a machine that goes on where a snapshot has it. Another
 * disk, tap, directory or socket than before can be behind its devices.
 */
#include "tools/cmd/cmd.h"

#include "devices/virtio/virtio.h"
#include "tools/cli/options.h"
#include "tools/cli/trace-option.h"
#include "tools/cli/usage.h"
#include "tools/cmd/boot.h"
#include "tools/cmd/restore.h"
#include "tools/spec/spec.h"
#include "vmm/base/log.h"
#include "vmm/base/trace.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/snapshot.h"
#include "vmm/vm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define RECORD_MAX_S 3600

struct request {
	bool clock_realtime, verify, json, no_sandbox, no_working_set, detach,
		remove;
	const char *control, *name, *log_level, *record, *network, *trace,
		*memory_server;
	struct trace *marks; /* NULL: none */
	uint64_t record_s;   /* 0: as it comes */
	struct option_list disks, nets, shares, vsocks, publish;
};

#define AT(member) offsetof(struct request, member)

static const struct option_entry entries[] = {
	{"control", 0, "SOCKET", OPTION_TEXT, AT(control), "The machine",
	 "Unix socket for pause, resume and snapshot [none]"},
	{"name", 0, "NAME", OPTION_TEXT, AT(name), NULL,
	 "its name [as it was; of an instance: a random one]"},
	{"clock-realtime", 0, NULL, OPTION_FLAG, AT(clock_realtime), NULL,
	 "set its clocks forward by the time since it was saved"},
	{"verify", 0, NULL, OPTION_FLAG, AT(verify), NULL,
	 "read all of the memory first, and check it"},
	{"record", 0, "SECONDS", OPTION_TEXT, AT(record), NULL,
	 "record the memory that is touched for so long [1, the first time]"},
	{"no-working-set", 0, NULL, OPTION_FLAG, AT(no_working_set), NULL,
	 "bring no memory in ahead, and record nothing"},
	{"memory-server", 0, "SOCKET", OPTION_TEXT, AT(memory_server), NULL,
	 "the process that listens there has the memory, and not DIR"},
	{"disk", 0, "FILE[,KEY...]", OPTION_LIST, AT(disks),
	 "Other things behind its devices, in their order",
	 "instead of the first disk, the second ..."},
	{"net", 0, "tap=NAME|user[,KEY...]", OPTION_LIST, AT(nets), NULL,
	 "instead of the first network ..."},
	{"share", 0, "DIR,tag=TAG[,KEY...]", OPTION_LIST, AT(shares), NULL,
	 "instead of the share that has this tag"},
	{"vsock", 0, "PATH[,KEY...]", OPTION_LIST, AT(vsocks), NULL,
	 "instead of the vsock device's sockets"},
	{"detach", 'd', NULL, OPTION_FLAG, AT(detach), "An instance",
	 "run it in the background and print its name"},
	{"rm", 0, NULL, OPTION_FLAG, AT(remove), NULL,
	 "remove it when its command ends"},
	{"network", 0, "NETWORK", OPTION_TEXT, AT(network), NULL,
	 "another network of the same kind: tap=NAME[,KEY...]"},
	{"publish", 'p', "[ADDR:]PORT:PORT", OPTION_LIST, AT(publish), NULL,
	 "these ports instead of those it had"},
	{"no-sandbox", 0, NULL, OPTION_FLAG, AT(no_sandbox), "The host",
	 "do not confine the monitor (for debugging it)"},
	{"trace", 0, "boot", OPTION_TEXT, AT(trace), NULL,
	 "print where its time goes, at the end"},
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
		"Starts an instance or a machine that goes on where `bulkhead "
		"snapshot` saved it\n"
		"in DIR, with its output or console here. Any number of them "
		"can start from it, one\n"
		"after the other or at the same time. The first one records "
		"which memory its start "
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
		r = spec_set_text(&cfg->control, req->control);
	if (r == 0 && req->name)
		r = spec_set_text(&cfg->name, req->name);
	/* The user decides about this, whoever made the snapshot. */
	cfg->sandbox = !req->no_sandbox;
	/* The file's pages are small, whatever the RAM's were. */
	cfg->hugetlb = false;
	cfg->on_reboot = CONFIG_REBOOT_EXIT;
	cfg->trace = req->marks;
	return r == 0 ? config_check(cfg, types) : r;
}

/* ---- all of it */

/* Options that are for the other kind of thing. */
static int refuse(const char *what, bool given, const char *why)
{
	return given ? usage_error("restore", "--%s: %s", what, why) : 0;
}

static int check_machine(const struct request *req)
{
	static const char why[] = "this is a snapshot of a machine of boot, "
				  "not of an instance of run";
	int r = refuse("detach", req->detach, why);

	if (r == 0)
		r = refuse("rm", req->remove, why);
	if (r == 0)
		r = refuse("network", req->network, why);
	return r ? r : refuse("publish", req->publish.count, why);
}

static int check_instance(const struct request *req)
{
	static const char why[] = "this is a snapshot of an instance of run, "
				  "not of a machine of boot";
	int r = refuse("control", req->control, why);

	/* An instance's guest gets the time from its agent. */
	if (r == 0)
		r = refuse("clock-realtime", req->clock_realtime, why);
	if (r == 0)
		r = refuse("disk", req->disks.count, why);
	if (r == 0)
		r = refuse("net", req->nets.count, why);
	if (r == 0)
		r = refuse("share", req->shares.count, why);
	return r ? r : refuse("vsock", req->vsocks.count, why);
}

static bool is_instance(const char *path)
{
	autofree char *file = NULL;
	struct stat st;

	if (asprintf(&file, "%s/" SNAPSHOT_INSTANCE_FILE, path) < 0)
		file = NULL;
	return file && lstat(file, &st) == 0;
}

static int restore(const struct request *req, const char *path)
{
	struct snapshot snapshot;
	struct config cfg;
	int status = VM_EXIT_USAGE;
	int r;

	if (is_instance(path)) {
		const struct restore_request instance = {
			.path = path,
			.name = req->name,
			.network = req->network,
			.publish = &req->publish,
			.memory_server = req->memory_server,
			.verify = req->verify,
			.detach = req->detach,
			.remove = req->remove,
			.no_sandbox = req->no_sandbox,
			.no_working_set = req->no_working_set,
			.record_s = req->record_s,
			.trace = req->marks,
		};

		return check_instance(req) ? status
					   : restore_instance(&instance);
	}
	if (check_machine(req))
		return status;
	config_init(&cfg);
	r = restore_open(&snapshot, path, req->memory_server);
	snapshot.catches_up = req->clock_realtime;
	if (r == 0 && req->verify)
		r = snapshot_verify(&snapshot);
	trace_mark(req->marks, TRACE_SNAPSHOT);
	if (r == 0)
		r = make_config(req, path, &snapshot, &cfg);
	if (r == 0) {
		restore_working_set(&snapshot, path, req->no_working_set,
				    req->record_s);
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
	int r;

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
	else if (n > 0 && req.verify && req.memory_server)
		usage_error("restore",
			    "--verify: not together with --memory-server");
	else if (n > 0 && req.trace && req.detach)
		usage_error("restore", "--trace: not together with --detach, "
				       "which prints nothing at the end");
	else if (n > 0 && argc - n != 1)
		usage_error("restore", "give the directory of a snapshot");
	else if (n > 0) {
		log_setup(level, req.json);
		r = trace_option("restore", req.trace, &req.marks);
		status = r ? r : restore(&req, argv[n]);
		trace_finish(req.marks, req.json);
	}
	option_list_done(&req.disks);
	option_list_done(&req.nets);
	option_list_done(&req.shares);
	option_list_done(&req.vsocks);
	option_list_done(&req.publish);
	return status;
}
