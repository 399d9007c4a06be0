/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine of a container: the struct config of its VM, and what the agent
 * in it has to set up. The root is a share, usually below a file system in the
 * guest's memory, so that nothing of a run is left on the host.
 */
#include "tools/container/run.h"

#include "devices/virtio/virtio.h"
#include "firmware/agent/agent.h"
#include "tools/container/guest-crun.h"
#include "tools/guest/kernel.h"
#include "tools/container/oci-config.h"
#include "tools/container/template.h"
#include "vmm/base/trace.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* cpu.max of Linux takes no others. */
#define CPU_LEAST_US       1000
#define CPU_PERIOD_MOST_US 1000000

/* ---- the root */

/*
 * An image's tree never changes, so the guest may believe what it has seen for
 * as long as it likes. A plain directory is somebody's.
 */
static int make_root(struct run_machine *machine, const struct spec *spec,
		     const struct run_options *opt, const struct rootfs *root)
{
	/* A bundle's root is the container's, unless it says otherwise. */
	const bool write =
		opt->rootfs_write || (opt->bundle && !spec->root_readonly);

	if (write && root->digest)
		return log_ret(-EINVAL,
			       "--rootfs-write: '%s' is an image, which all "
			       "its containers share: use a volume, or a "
			       "directory as root",
			       opt->root);
	if (write && spec->root_readonly)
		return log_ret(-EINVAL,
			       "--rootfs-write and --read-only exclude each "
			       "other");
	machine->agent.root_tag = "rootfs";
	machine->agent.root_overlay = !write;
	machine->agent.root_readonly = spec->root_readonly;
	return run_add_device(
		&machine->cfg, "fs",
		(const struct config_pair[]){
			{"dir", root->path},
			{"tag", "rootfs"},
			{"readonly", write ? NULL : "true"},
			{"cache", root->digest ? "always" : NULL},
			{"ownership", root->owner_xattr ? "xattr" : NULL},
			{"xattrs", root->no_xattrs ? "none" : NULL},
			{"submounts", root->no_submounts ? "false" : NULL},
		},
		7);
}

/* ---- the rest of the guest */

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

int run_guest_make(struct run_machine *machine, const struct spec *spec,
		   const struct run_options *opt)
{
	const struct spec_linux *l = &spec->linux_part;
	struct agent_config *agent = &machine->agent;
	int r = spec_all_devices(l, &machine->devices);

	if (r == 0)
		r = make_hosts(machine, opt);
	for (unsigned i = 0; r == 0 && i < opt->search.count; i++)
		r = text_list_add(&machine->search, opt->search.item[i]);
	agent->hostname = spec->hostname;
	agent->host_bound = true;
	agent->keep_etc = opt->bundle;
	agent->devices = machine->devices.devices;
	agent->ndevices = machine->devices.ndevices;
	agent->rules = machine->devices.rules;
	agent->nrules = machine->devices.nrules;
	agent->pids_max = l->pids_limit;
	agent->sysctls = text_list_items(&l->sysctl);
	agent->masked = text_list_items(&l->masked_paths);
	agent->readonly = text_list_items(&l->readonly_paths);
	agent->hosts = text_list_items(&machine->hosts);
	agent->search = text_list_items(&machine->search);
	return r;
}

/* ---- the VM */

static int set(struct config *cfg, const char *name, const char *value)
{
	return value ? config_set(cfg, "--", name, value) : 0;
}

/*
 * Limits are the machine's size: it has nothing else to do. Less than whole
 * CPUs the container's control group in the guest has.
 */
static int make_size(struct run_machine *machine, const struct spec_linux *l)
{
	const uint64_t period = l->cpu_period ? l->cpu_period : 100000;
	const uint64_t cpus = (l->cpu_quota + period - 1) / period;
	struct config *cfg = &machine->cfg;

	cfg->memory_bytes =
		l->memory_limit ? l->memory_limit : RUN_MEMORY_DEFAULT;
	if (l->cpu_quota == 0)
		return 0;
	if (l->cpu_quota < CPU_LEAST_US || period < CPU_LEAST_US ||
	    period > CPU_PERIOD_MOST_US || cpus > CONFIG_CPUS_MAX)
		return log_ret(-ENOTSUP,
			       "linux.resources.cpu: quota %llu, period %llu: "
			       "a virtual machine has up to %d CPUs, and Linux "
			       "takes a quota from %d and a period from %d to "
			       "%d us",
			       (unsigned long long)l->cpu_quota,
			       (unsigned long long)period, CONFIG_CPUS_MAX,
			       CPU_LEAST_US, CPU_LEAST_US, CPU_PERIOD_MOST_US);
	cfg->cpus = (unsigned)cpus;
	if (l->cpu_quota % period) {
		machine->agent.cpu_quota = l->cpu_quota;
		machine->agent.cpu_period = period;
	}
	return 0;
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

/* A template that cannot be had is no reason not to run. */
static int find_template(struct run_machine *machine,
			 const struct run_options *opt,
			 const struct rootfs *root,
			 const struct instance *instance,
			 const struct initrd_files *files)
{
	/* An engine's monitor is in the container that it makes. */
	const bool takes =
		!opt->template_only && !opt->waits && !opt->templates;

	return template_new(
		&(const struct template_wish){
			.cfg = &machine->cfg,
			.distro = machine->distro.version,
			.files = files,
			/* A directory may be another one the next time. */
			.container = {root->digest, root->path,
				      &machine->agent},
			.dir = opt->templates,
			.instance = takes ? instance : NULL,
			.now = opt->template_only,
		},
		&machine->template);
}

/* Files that crun needs. 0 or -errno, logged. */
static int find_files(const struct run_options *opt, struct initrd_files *files)
{
	const int r = wants_crun(opt);

	return r > 0 ? guest_crun_find(files) : r;
}

/* Where no template is, the machine boots. */
static int make_initrd(struct run_machine *machine, struct initrd_files *files)
{
	const int r =
		kernel_initrd(&machine->cfg, &machine->distro, false, files);

	machine->initrd_fd = r < 0 ? -1 : r;
	trace_mark(machine->cfg.trace, TRACE_INITRD);
	return r < 0 ? r : 0;
}

/* After all devices: a distribution's kernel has modules for them. */
static int make_start(struct run_machine *machine,
		      const struct run_options *opt, const struct rootfs *root,
		      const struct instance *instance)
{
	struct initrd_files files = {0};
	int r = find_files(opt, &files);

	if (r == 0 && !opt->cold)
		r = find_template(machine, opt, root, instance, &files);
	if (r == 0 && template_taken(machine->template))
		trace_mark(machine->cfg.trace, TRACE_TAKEN);
	else if (r == 0 && !template_snapshot(machine->template))
		r = make_initrd(machine, &files);
	else
		trace_mark(machine->cfg.trace, TRACE_SNAPSHOT);
	initrd_files_done(&files);
	return r;
}

int run_machine_make_again(struct run_machine *machine,
			   const struct run_options *opt)
{
	struct initrd_files files = {0};
	int r = 0;

	if (template_fall_back(machine->template))
		return 0;
	r = find_files(opt, &files);
	if (r == 0)
		r = make_initrd(machine, &files);
	initrd_files_done(&files);
	return r;
}

/* Last, as config.json repeats all that is above. */
static int make_oci(struct run_machine *machine, const struct spec *spec,
		    const struct run_options *opt)
{
	const int r = wants_crun(opt);

	if (r <= 0)
		return r;
	machine->oci = oci_config_make(spec, machine->mounts, opt->init);
	machine->agent.oci = machine->oci;
	return machine->oci ? 0 : -EINVAL;
}

/* NAME: of the instance, where it is another run of one. */
static int make_filter(struct run_machine *machine, const struct spec *spec,
		       const struct run_options *opt, const char *name)
{
	const char *file = opt->bundle ? opt->bundle : run_seccomp_file(opt);

	return spec_filter_make(file ? file : name, &spec->linux_part,
				&machine->filter);
}

/*
 * Each process has a little memory per CPU, which Linux divides up in chunks.
 * One of its usual size, 2 MiB, costs 4 MiB more of notes about it, which are
 * in no control group: a container with 250 processes would use up what is kept
 * for the agent. Chunks of pages are as large as what is used of them.
 */
static int add_parameters(struct config *cfg, const char *append)
{
	static const char own[] = "percpu_alloc=page";
	char *all = NULL;
	int r;

	if (asprintf(&all, "%s%s%s", own, append ? " " : "",
		     append ? append : "") < 0)
		return log_ret(-ENOMEM, "out of memory");
	r = set(cfg, "append", all);
	free(all);
	return r;
}

static int make_kernel(struct run_machine *machine,
		       const struct run_options *opt)
{
	struct config *cfg = &machine->cfg;
	int r = set(cfg, "kernel", opt->kernel);

	if (r == 0)
		r = add_parameters(cfg, opt->append);
	if (r == 0)
		r = kernel_default(cfg);
	if (r == 0)
		r = kernel_open(cfg, &machine->distro);
	/* Its virtio console comes with a module, after much that can fail. */
	if (r == 0 && machine->distro.version)
		cfg->console = CONFIG_CONSOLE_AUTO;
	return r;
}

static int make_vsock(struct run_machine *machine,
		      const struct instance *instance)
{
	char port[16];

	/* The agent reports once; the container has nobody to connect to. */
	snprintf(port, sizeof(port), "%d", AGENT_PORT);
	return run_add_device(&machine->cfg, "vsock",
			      (const struct config_pair[]){
				      {"path", instance->socket},
				      {"connect", port},
			      },
			      2);
}

/*
 * A network is the host's, too: packets may be on their way after the last
 * process has ended.
 */
static bool is_disposable(const struct config *cfg)
{
	for (unsigned i = 0; i < cfg->ndevices; i++) {
		const struct config_device *d = &cfg->device[i];
		const bool share = strcmp(d->type, "fs") == 0;

		if (strcmp(d->type, "net") == 0 ||
		    (share && config_text(d, "socket")))
			return false;
		/* One without a directory has trees, which say it themselves.
		 */
		if ((strcmp(d->type, "tree") == 0 ||
		     (share && config_text(d, "dir"))) &&
		    !config_flag(d, "readonly"))
			return false;
	}
	return true;
}

int run_machine_make(struct run_machine *machine, struct spec *spec,
		     const struct run_options *opt, const struct rootfs *root,
		     const struct instance *instance)
{
	struct config *cfg = &machine->cfg;
	int r;

	config_init(cfg);
	cfg->trace = opt->marks;
	/* Its output is the kernel's and the agent's words, if any. */
	cfg->console = CONFIG_CONSOLE_VIRTIO;
	cfg->sandbox = !opt->no_sandbox;
	r = set(cfg, "name", instance->name);
	/* An engine's container has its own way (control.h). */
	if (r == 0)
		r = set(cfg, "control", instance->control);
	if (r == 0)
		r = make_size(machine, &spec->linux_part);
	if (r == 0)
		r = make_filter(machine, spec, opt, instance->name);
	if (r == 0)
		r = make_kernel(machine, opt);
	if (r == 0)
		r = make_vsock(machine, instance);
	if (r == 0)
		r = run_add_device(cfg, "rng", NULL, 0);
	if (r == 0)
		r = make_root(machine, spec, opt, root);
	if (r == 0)
		r = run_shares_make(machine, spec);
	if (r == 0 && opt->trees_socket)
		r = run_trees_make(machine, opt->trees_socket, opt->trees);
	if (r == 0)
		r = run_guest_make(machine, spec, opt);
	if (r == 0)
		r = run_network_make(machine, opt);
	if (r == 0)
		r = make_oci(machine, spec, opt);
	if (r == 0 && !opt->restored)
		r = make_start(machine, opt, root, instance);
	machine->disposable = is_disposable(cfg);
	/* All that go on from one memory have the same ones otherwise. */
	machine->agent.entropy = true;
	return r < 0 ? r : config_check(cfg, virtio_config_types());
}

int run_machine_check(const struct spec *spec, const char *kernel)
{
	struct run_machine machine = {.initrd_fd = -1};
	int r;

	config_init(&machine.cfg);
	r = set(&machine.cfg, "kernel", kernel);
	if (r == 0 && spec->hostname && spec->hostname[0])
		r = run_check_hostname("hostname", spec->hostname);
	if (r == 0)
		r = make_size(&machine, &spec->linux_part);
	if (r == 0)
		r = run_shares_check(spec);
	if (r == 0)
		r = config_check(&machine.cfg, virtio_config_types());
	run_machine_done(&machine);
	return r;
}
