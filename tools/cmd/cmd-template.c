/* SPDX-License-Identifier: Apache-2.0 */
/* `bulkhead template`: the saved machines that others start from. */
#include "tools/cmd/cmd.h"

#include "devices/virtio/virtio.h"
#include "tools/cli/options.h"
#include "tools/cli/print.h"
#include "tools/cli/usage.h"
#include "tools/instance/instance.h"
#include "tools/instance/template-store.h"
#include "vmm/base/log.h"
#include "vmm/base/text.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/snapshot.h"
#include "vmm/vm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct request {
	bool quiet, all;
};

static const struct option_entry entries[] = {
	{"quiet", 'q', NULL, OPTION_FLAG, offsetof(struct request, quiet), NULL,
	 "ls: print names only"},
	{"all", 'a', NULL, OPTION_FLAG, offsetof(struct request, all), NULL,
	 "rm: all of them"},
	{0},
};

static const struct option_table table = {
	.command = "template",
	.synopsis =
		"usage: bulkhead template [ls] [OPTION]...\n"
		"       bulkhead template make [OPTION-OF-RUN]... ROOT\n"
		"       bulkhead template rm NAME... | --all\n"
		"\n"
		"Lists, makes or removes templates: machines that were saved "
		"when their agent was\n"
		"there, from which 'bulkhead run' goes on instead of booting. "
		"The first run of a\n"
		"machine of that size makes one, too, unless it has --cold.\n",
	.entries = entries,
	.notes = "\nThey are kept in $BULKHEAD_STORE, by default "
		 "/var/lib/bulkhead for root and\n"
		 "~/.local/share/bulkhead for others, until the host boots. "
		 "BULKHEAD_TEMPLATES is\n"
		 "how much they may take there (1G), or off.\n",
};

/* ---- ls */

static const char *network_of(const struct config *cfg)
{
	for (unsigned i = 0; i < cfg->ndevices; i++) {
		const struct config_device *device = &cfg->device[i];

		if (strcmp(device->type, "net") == 0)
			return config_text(device, "user") ? "user" : "other";
	}
	return "none";
}

static unsigned shares_of(const struct config *cfg)
{
	unsigned n = 0;

	for (unsigned i = 0; i < cfg->ndevices; i++)
		n += strcmp(cfg->device[i].type, "fs") == 0;
	return n;
}

static int print_config(const struct template_entry *entry,
			const struct snapshot *snapshot)
{
	autofree char *kernel = NULL;
	struct config cfg;
	char used[32];
	int r;

	config_init(&cfg);
	r = config_read_json_bytes(&cfg, entry->path, snapshot->config,
				   strlen(snapshot->config),
				   virtio_config_types());
	if (r == 0)
		kernel = text_printable(cfg.kernel ? cfg.kernel : "");
	if (r == 0 && kernel) {
		print_format_date(entry->used_s, used);
		printf("%s  %4llu MiB  %4u  %-7s  %6u  %4llu MiB  %-16s  %s\n",
		       entry->name,
		       (unsigned long long)(cfg.memory_bytes / MIB), cfg.cpus,
		       network_of(&cfg), shares_of(&cfg),
		       (unsigned long long)((entry->bytes + MIB / 2) / MIB),
		       used, kernel);
	}
	config_done(&cfg);
	return r < 0 ? r : kernel ? 0 : log_ret(-ENOMEM, "out of memory");
}

/* One that is broken does not hide the others. */
static int print_one(const struct template_entry *entry, void *arg)
{
	const struct request *req = arg;
	struct snapshot snapshot;

	if (req->quiet) {
		puts(entry->name);
		return 0;
	}
	if (snapshot_open(&snapshot, entry->path) == 0)
		(void)print_config(entry, &snapshot);
	snapshot_close(&snapshot);
	return 0;
}

static int list(struct template_store *store, struct request *req)
{
	if (!req->quiet)
		printf("%-21s  %8s  %4s  %-7s  %6s  %8s  %-16s  %s\n", "NAME",
		       "MEMORY", "CPUS", "NETWORK", "SHARES", "ON DISK",
		       "LAST USED", "KERNEL");
	return store->dir < 0 || template_each(store, print_one, req) == 0
		       ? VM_EXIT_OK
		       : VM_EXIT_HOST;
}

/* ---- rm */

static int remove_one(struct template_store *store, const char *name)
{
	const int r = store->dir < 0 ? -ENOENT : template_remove(store, name);

	if (r == -ENOENT)
		return log_ret(r,
			       "template '%s': there is none; 'bulkhead "
			       "template' lists them",
			       name);
	if (r < 0)
		return log_ret(r, "template '%s': %s", name, strerror(-r));
	puts(name);
	return 0;
}

static int remove_entry(const struct template_entry *entry, void *arg)
{
	const int r = template_remove(arg, entry->name);

	/* Another process may have removed it just now. */
	if (r < 0 && r != -ENOENT)
		return log_ret(r, "template '%s': %s", entry->name,
			       strerror(-r));
	puts(entry->name);
	return 0;
}

static int remove_all(struct template_store *store)
{
	return store->dir < 0 || template_each(store, remove_entry, store) == 0
		       ? VM_EXIT_OK
		       : INSTANCE_EXIT_FAILED;
}

static int remove_named(struct template_store *store, char **names)
{
	int status = VM_EXIT_OK;

	for (; *names; names++) {
		if (remove_one(store, *names) < 0)
			status = INSTANCE_EXIT_FAILED;
	}
	return status;
}

/* ---- */

static int do_verb(const char *verb, struct request *req, char **names)
{
	struct template_store store;
	int r = template_store_open(NULL, false, &store);
	int status;

	if (r < 0 && r != -ENOENT)
		return VM_EXIT_HOST;
	if (strcmp(verb, "ls") == 0)
		status = list(&store, req);
	else if (req->all)
		status = remove_all(&store);
	else
		status = remove_named(&store, names);
	template_store_close(&store);
	return status;
}

int cmd_template(int argc, char **argv)
{
	const char *verb = argc > 1 && argv[1][0] != '-' ? argv[1] : "ls";
	const int skip = argc > 1 && argv[1][0] != '-';
	struct request req = {0};
	int n;

	if (strcmp(verb, "make") == 0)
		return cmd_run_template(argc - 1, argv + 1);
	n = options_parse(&table, &req, argc - skip, argv + skip);
	if (n == OPTIONS_HELP)
		return VM_EXIT_OK;
	if (n < 0)
		return VM_EXIT_USAGE;
	n += skip;
	if (strcmp(verb, "ls") != 0 && strcmp(verb, "rm") != 0)
		return usage_error("template", "'%s': neither ls, make nor rm",
				   verb);
	if (strcmp(verb, "ls") == 0 ? n < argc : req.all && n < argc)
		return usage_error("template", "'%s': unexpected argument",
				   argv[n]);
	if (strcmp(verb, "rm") == 0 && !req.all && n == argc)
		return usage_error("template",
				   "give the name of a template, or --all");
	return do_verb(verb, &req, &argv[n]);
}
