/* SPDX-License-Identifier: Apache-2.0 */
/* `bulkhead boot`: options to struct config, and the VM's life. */
#include "devices/virtio/virtio.h"
#include "tools/cmd/boot.h"
#include "tools/cmd/cmd.h"
#include "tools/guest/kernel.h"
#include "tools/cli/trace-option.h"
#include "tools/cli/usage.h"
#include "vmm/config/config.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/vm.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#define OPTION_FIRST 256 /* getopt's value of the first option in the table */

/* Requests of the command line besides the configuration. */
struct request {
	struct config cfg;
	bool has_config, no_rng, dump_config, list_devices, json, help;
	enum log_level level;
	int initrd_fd; /* of one that is made in memory, or -1 */
	const char *trace;
};

static const struct config_type *find_type(const char *name)
{
	return virtio_config_type(name);
}

static int unknown_type(const char *name)
{
	const struct config_type *const *types = virtio_config_types();
	char list[256] = "";
	size_t n = 0;

	for (; *types && n < sizeof(list); types++)
		n += (size_t)snprintf(list + n, sizeof(list) - n, " %s",
				      (*types)->name);
	return usage_error("boot", "--device '%s': no such type; known are:%s",
			   name, list);
}

/* --disk, --net, --vsock and --device; 0 or an exit status. */
static int add_device(struct request *req, const struct boot_option *option,
		      const char *arg)
{
	const char *name = option->target;
	const struct config_type *type;
	char head[32];
	int r;

	if (name && strcmp(name, "net") == 0 && strcmp(arg, "none") == 0)
		return 0;
	if (!name) {
		size_t length = strcspn(arg, ",");

		if (length >= sizeof(head))
			return unknown_type(arg);
		memcpy(head, arg, length);
		head[length] = '\0';
		arg += length + (arg[length] == ',');
		name = head;
	}
	type = find_type(name);
	if (!type)
		return unknown_type(name);
	r = config_add_device(&req->cfg, type, arg);
	return r == -ENOMEM ? VM_EXIT_HOST : r < 0 ? VM_EXIT_USAGE : 0;
}

static int set(struct request *req, const struct boot_option *option,
	       const char *arg)
{
	const char *value = option->value ? option->value : arg;
	int r = config_set(&req->cfg, "--", option->target, value);

	return r == -ENOMEM ? VM_EXIT_HOST : r < 0 ? VM_EXIT_USAGE : 0;
}

static int set_level(struct request *req, const char *arg)
{
	if (log_parse_level(arg, &req->level) == 0)
		return 0;
	return usage_error("boot",
			   "--log-level '%s': not one of error, warn, info, "
			   "debug",
			   arg);
}

/* One option of the first pass: how messages look, and --help. */
static void apply_early(struct request *req, const struct boot_option *option,
			const char *arg)
{
	if (option->action == BOOT_JSON)
		req->json = true;
	else if (option->action == BOOT_HELP)
		req->help = true;
	else if (option->action == BOOT_LOG_LEVEL)
		(void)log_parse_level(arg, &req->level);
}

static int apply(struct request *req, const struct boot_option *option,
		 const char *arg)
{
	switch (option->action) {
	case BOOT_SET:
		return set(req, option, arg);
	case BOOT_DEVICE:
		return add_device(req, option, arg);
	case BOOT_CONFIG:
		req->has_config = true;
		return config_read_json(&req->cfg, arg, virtio_config_types()) <
				       0
			       ? VM_EXIT_USAGE
			       : 0;
	case BOOT_NO_RNG:
		req->no_rng = true;
		return 0;
	case BOOT_DUMP_CONFIG:
		req->dump_config = true;
		return 0;
	case BOOT_LIST_DEVICES:
		req->list_devices = true;
		return 0;
	case BOOT_TRACE:
		req->trace = arg;
		return 0;
	case BOOT_LOG_LEVEL:
		return set_level(req, arg);
	default:
		return 0;
	}
}

/*
 * One pass over the command line. There are two: how messages look must be
 * known before the first of them.
 */
static int parse(struct request *req, int argc, char **argv, bool early)
{
	const struct boot_option *options = boot_options();
	struct option long_options[BOOT_OPTIONS_MAX + 1] = {0};
	const char *names[BOOT_OPTIONS_MAX + 1] = {NULL};
	char letters[2 * BOOT_OPTIONS_MAX + 4] = "+:h";
	size_t nletters = 3;
	int c, status = 0;

	for (int i = 0; options[i].name; i++) {
		names[i] = options[i].name;
		long_options[i] = (struct option){
			options[i].name,
			options[i].arg ? required_argument : no_argument, NULL,
			OPTION_FIRST + i};
		if (options[i].letter) {
			letters[nletters++] = options[i].letter;
			letters[nletters++] = ':';
		}
	}
	optind = 0; /* glibc: begin anew */
	opterr = 0;
	while (status == 0 &&
	       (c = usage_next(argc, argv, letters, long_options)) != -1) {
		const struct boot_option *option = options;

		if (c == 'h') {
			req->help = true;
			continue;
		}
		if (c == '?' || c == ':') {
			if (early)
				continue;
			return usage_getopt("boot", c, argv, names);
		}
		if (c >= OPTION_FIRST)
			option += c - OPTION_FIRST;
		else
			while (option->letter != c)
				option++;
		if (early)
			apply_early(req, option, optarg);
		else
			status = apply(req, option, optarg);
	}
	if (status == 0 && !early && optind < argc)
		return usage_error("boot",
				   "'%s': unexpected argument; the kernel is "
				   "given as --kernel FILE",
				   argv[optind]);
	return status;
}

/*
 * A guest without entropy waits for it, so the device is there unless left out.
 * A configuration file's list of devices is complete as it is.
 */
static int add_rng(struct request *req)
{
	const struct config_type *type = find_type("rng");

	if (req->no_rng || req->has_config || !type)
		return 0;
	for (unsigned i = 0; i < req->cfg.ndevices; i++)
		if (strcmp(req->cfg.device[i].type, "rng") == 0)
			return 0;
	return config_add_device(&req->cfg, type, "") < 0 ? VM_EXIT_USAGE : 0;
}

/* Something that a kernel could mount as its root, or unpack. */
static bool has_root(const struct config *cfg)
{
	for (unsigned i = 0; i < cfg->ndevices; i++)
		if (strcmp(cfg->device[i].type, "blk") == 0 ||
		    strcmp(cfg->device[i].type, "fs") == 0)
			return true;
	return cfg->initrd && !cfg->initrd_mounts_root;
}

/* The user's error, unless the host has no memory. */
static int exit_status(int error)
{
	return error == -ENOMEM ? VM_EXIT_HOST : VM_EXIT_USAGE;
}

/*
 * Puts in place what the kernel needs of the host. An initial RAM disk of the
 * user's is left as it is: it loads the modules that it needs itself.
 */
static int prepare(struct request *req)
{
	struct initrd_files files = {0};
	struct distro distro = {0};
	int r = kernel_open(&req->cfg, &distro);

	if (r == 0 && distro.version && !req->cfg.initrd) {
		r = kernel_initrd(&req->cfg, &distro, true, &files);
		req->initrd_fd = r;
	}
	initrd_files_done(&files);
	distro_done(&distro);
	return r < 0 ? exit_status(r) : VM_EXIT_OK;
}

static int boot(struct request *req, int argc, char **argv)
{
	const struct config_type *const *types = virtio_config_types();
	int status, r;

	(void)parse(req, argc, argv, true);
	if (req->help)
		return boot_help();
	log_setup(req->level, req->json);
	status = parse(req, argc, argv, false);
	if (status != 0)
		return status;
	status = trace_option("boot", req->trace, &req->cfg.trace);
	if (status != 0)
		return status;
	if (req->list_devices)
		return boot_list_devices(req->json);
	r = kernel_default(&req->cfg);
	status = r < 0 ? exit_status(r) : add_rng(req);
	if (status != 0)
		return status;
	if (config_check(&req->cfg, types) < 0)
		return VM_EXIT_USAGE;
	if (req->dump_config)
		return config_write_json(&req->cfg, STDOUT_FILENO, types) < 0
			       ? VM_EXIT_HOST
			       : VM_EXIT_OK;
	status = prepare(req);
	if (status != 0)
		return status;
	status = boot_run(&req->cfg, NULL);
	/* A kernel without a root panics, and says so in its own words. */
	if (status == VM_EXIT_CRASH && !has_root(&req->cfg))
		log_error("the guest crashed, and it was given no root: add "
			  "--disk FILE or --initrd FILE");
	return status;
}

int cmd_boot(int argc, char **argv)
{
	struct request req = {.level = LOG_WARN, .initrd_fd = -1};
	int status;

	config_init(&req.cfg);
	status = boot(&req, argc, argv);
	util_close(&req.initrd_fd);
	trace_finish(req.cfg.trace, req.json);
	config_done(&req.cfg);
	return status;
}
