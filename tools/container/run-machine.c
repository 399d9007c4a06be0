/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine of a container: the struct config of its VM, and what the agent
 * in it has to set up. The root is a share, usually below a file system in the
 * guest's memory, so that nothing of a run is left on the host.
 */
#include "tools/container/run.h"

#include "devices/virtio/virtio.h"
#include "firmware/agent/agent.h"
#include "firmware/init/program.h"
#include "tools/container/guest-crun.h"
#include "tools/guest/initrd.h"
#include "tools/guest/kernel.h"
#include "tools/guest/unpack.h"
#include "tools/container/oci-config.h"
#include "tools/container/oci-seccomp.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define MEMORY_DEFAULT (512 * MIB)

/* A small process costs the guest so much, roughly. */
#define PIDS_BYTES   (512 * KIB)
#define PIDS_LEAST   64
#define PIDS_MOST    16384
#define PIDS_LARGEST 4194304 /* Linux has no more numbers */

/* ---- the root */

/*
 * An image's tree never changes, so the guest may believe what it has seen for
 * as long as it likes. A plain directory is somebody's.
 */
static int make_root(struct run_machine *machine, const struct run_options *opt,
		     const struct rootfs *root)
{
	bool write = opt->rootfs_write;
	char more[64];

	if (write && root->digest)
		return log_ret(-EINVAL,
			       "--rootfs-write: '%s' is an image, which all "
			       "its containers share: use a volume, or a "
			       "directory as root",
			       opt->root);
	if (write && opt->readonly)
		return log_ret(-EINVAL,
			       "--rootfs-write and --read-only exclude each "
			       "other");
	snprintf(more, sizeof(more), "%s%s%s%s", write ? "" : ",readonly",
		 root->digest ? ",cache=always" : "",
		 root->owner_xattr ? ",ownership=xattr" : "",
		 root->no_xattrs ? ",xattrs=none" : "");
	machine->agent.root_tag = "rootfs";
	machine->agent.root_overlay = !write;
	machine->agent.root_readonly = opt->readonly;
	return run_add_share(machine, root->path, "rootfs", more);
}

/* ---- the rest of the guest */

static int make_shm(struct run_machine *machine, const struct run_options *opt)
{
	if (!opt->shm_size ||
	    util_parse_size(opt->shm_size, &machine->agent.shm_bytes) == 0)
		return 0;
	return log_ret(-EINVAL,
		       "--shm-size '%s': not a size: use a number with K, M "
		       "or G",
		       opt->shm_size);
}

/* Copies of ITEMS with the list's end the agent wants. */
static int keep_list(struct text_list *list, const struct option_list *items)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < items->count; i++)
		r = text_list_add(list, items->item[i]);
	return r;
}

static int make_sysctls(struct run_machine *machine,
			const struct run_options *opt)
{
	for (unsigned i = 0; i < opt->sysctls.count; i++)
		if (!strchr(opt->sysctls.item[i], '='))
			return log_ret(-EINVAL,
				       "--sysctl '%s': expected NAME=VALUE",
				       opt->sysctls.item[i]);
	return keep_list(&machine->sysctls, &opt->sysctls);
}

/* Docker's NAME:ADDRESS as a line of /etc/hosts. */
static int make_hosts(struct run_machine *machine,
		      const struct run_options *opt)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < opt->hosts.count; i++) {
		const char *text = opt->hosts.item[i];
		const char *address = strchr(text, ':');
		autofree char *line = NULL;

		if (!address || address == text || !run_is_address(address + 1))
			return log_ret(-EINVAL,
				       "--add-host '%s': expected "
				       "NAME:ADDRESS, an IP address",
				       text);
		if (asprintf(&line, "%s %.*s", address + 1,
			     (int)(address - text), text) < 0) {
			line = NULL;
			return log_ret(-ENOMEM, "out of memory");
		}
		r = text_list_add(&machine->hosts, line);
	}
	return r;
}

static int check_hostname(const char *name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyz"
				      "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789._-";

	if (name[0] != '\0' && strlen(name) <= HOST_NAME_MAX &&
	    name[0] != '-' && name[strspn(name, allowed)] == '\0')
		return 0;
	return log_ret(-EINVAL,
		       "--hostname '%s': use up to %d letters, digits, '.', "
		       "'_' and '-'",
		       name, HOST_NAME_MAX);
}

/*
 * The machine's memory is what processes cost, and what the agent needs to be
 * able to end them; user 0 is bound by no other limit.
 */
static uint64_t default_pids(uint64_t memory_bytes)
{
	const uint64_t n = memory_bytes / PIDS_BYTES;

	return n < PIDS_LEAST ? PIDS_LEAST : min_u64(n, PIDS_MOST);
}

/* Docker's: 0 and -1 are no limit. */
static int make_pids(struct run_machine *machine, const struct run_options *opt)
{
	const char *text = opt->pids_limit;
	uint64_t *max = &machine->agent.pids_max;

	*max = 0;
	if (!text)
		*max = default_pids(machine->cfg.memory_bytes);
	else if (strcmp(text, "-1") != 0 &&
		 util_parse_number(text, 0, PIDS_LARGEST, max) < 0)
		return log_ret(-EINVAL,
			       "--pids-limit '%s': not a number of processes, "
			       "up to %d, or -1 for any",
			       text, PIDS_LARGEST);
	return 0;
}

static int make_guest(struct run_machine *machine,
		      const struct run_options *opt,
		      const struct instance *instance)
{
	struct agent_config *agent = &machine->agent;
	int r = make_shm(machine, opt);

	if (r == 0)
		r = make_pids(machine, opt);
	if (r == 0 && opt->hostname)
		r = check_hostname(opt->hostname);
	if (r == 0)
		r = make_sysctls(machine, opt);
	if (r == 0)
		r = make_hosts(machine, opt);
	if (r == 0)
		r = keep_list(&machine->search, &opt->search);
	agent->hostname = opt->hostname ? opt->hostname : instance->name;
	agent->host_bound = true;
	agent->privileged = opt->privileged;
	agent->mounts = machine->mounts;
	agent->sysctls = text_list_items(&machine->sysctls);
	agent->hosts = text_list_items(&machine->hosts);
	agent->search = text_list_items(&machine->search);
	return r;
}

/* ---- the VM */

static int set(struct config *cfg, const char *name, const char *value)
{
	return value ? config_set(cfg, "--", name, value) : 0;
}

static int make_size(struct config *cfg, const struct run_options *opt)
{
	int r;

	cfg->memory_bytes = MEMORY_DEFAULT;
	r = set(cfg, "memory", opt->memory);
	if (r == 0 && opt->cpus && strchr(opt->cpus, '.'))
		return log_ret(
			-EINVAL,
			"--cpus '%s': a virtual machine has whole CPUs; "
			"their time can be limited around it, as in "
			"'systemd-run --scope -p CPUQuota=150%% bulkhead "
			"run ...'",
			opt->cpus);
	return r < 0 ? r : set(cfg, "cpus", opt->cpus);
}

/* 0, 1: crun is wanted, -EINVAL (logged). */
static int wants_crun(const struct run_options *opt)
{
	if (!opt->guest_runtime || strcmp(opt->guest_runtime, "direct") == 0)
		return 0;
	if (strcmp(opt->guest_runtime, "crun") == 0)
		return 1;
	return log_ret(-EINVAL, "--guest-runtime '%s': neither direct nor crun",
		       opt->guest_runtime);
}

static int make_initrd(const struct run_options *opt)
{
	struct guest_crun crun = {.count = 0};
	size_t bytes;
	const void *init = init_program(&bytes);
	int r = wants_crun(opt);

	if (r > 0)
		r = guest_crun_find(&crun);
	if (r == 0)
		r = initrd_make(init, bytes, crun.file, crun.count);
	guest_crun_done(&crun);
	return r;
}

/* Last, as config.json repeats all that is above. */
static int make_oci(struct run_machine *machine, const struct run_options *opt)
{
	const char *filter = run_seccomp_file(opt);
	json_t *seccomp = NULL;
	int r = wants_crun(opt);
	uint64_t caps;

	if (r == 0 && filter)
		return log_ret(-EINVAL,
			       "--security-opt seccomp=%s: it takes "
			       "--guest-runtime crun",
			       filter);
	if (r <= 0)
		return r;
	r = run_caps(opt, &caps);
	if (r < 0)
		return r;
	if (filter && !(seccomp = oci_seccomp_load(filter, caps)))
		return -EINVAL;
	machine->oci = oci_config_make(&machine->agent, opt->init, seccomp);
	machine->agent.oci = machine->oci;
	return machine->oci ? 0 : -EINVAL;
}

static int make_kernel(struct run_machine *machine,
		       const struct run_options *opt)
{
	struct config *cfg = &machine->cfg;
	char path[40];
	int r = set(cfg, "kernel", opt->kernel);

	if (r == 0)
		r = set(cfg, "append", opt->append);
	if (r < 0)
		return r;
	if (!cfg->kernel)
		cfg->kernel = kernel_default();
	if (!cfg->kernel)
		return log_ret(-ENOENT, KERNEL_MISSING);
	r = kernel_unpack(&cfg->kernel);
	if (r < 0)
		return r;
	machine->initrd_fd = make_initrd(opt);
	if (machine->initrd_fd < 0)
		return machine->initrd_fd;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", machine->initrd_fd);
	return config_set(cfg, "", "initrd", path);
}

static int make_vsock(struct run_machine *machine,
		      const struct instance *instance)
{
	autofree char *path = run_escape(instance->socket);
	autofree char *text = NULL;

	/* The agent reports once; the container has nobody to connect to. */
	if (!path || asprintf(&text, "%s,connect=%d", path, AGENT_PORT) < 0) {
		text = NULL;
		return log_ret(-ENOMEM, "out of memory");
	}
	return run_add_device(&machine->cfg, "vsock", text);
}

int run_machine_make(struct run_machine *machine, const struct run_options *opt,
		     const struct rootfs *root, const struct instance *instance)
{
	struct config *cfg = &machine->cfg;
	int r;

	config_init(cfg);
	/* Its output is the kernel's and the agent's words, if any. */
	cfg->console = CONFIG_CONSOLE_VIRTIO;
	cfg->sandbox = !opt->no_sandbox;
	r = set(cfg, "name", instance->name);
	if (r == 0)
		r = make_size(cfg, opt);
	if (r == 0)
		r = make_kernel(machine, opt);
	if (r == 0)
		r = make_vsock(machine, instance);
	if (r == 0)
		r = run_add_device(cfg, "rng", "");
	if (r == 0)
		r = make_root(machine, opt, root);
	if (r == 0)
		r = run_mounts_make(machine, opt);
	if (r == 0)
		r = make_guest(machine, opt, instance);
	if (r == 0)
		r = run_network_make(machine, opt);
	if (r == 0)
		r = make_oci(machine, opt);
	return r < 0 ? r : config_check(cfg, virtio_config_types());
}
