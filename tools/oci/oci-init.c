/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In the outer container, as its process: the machine, and the engine's process
 * in it. Standard input and output, the terminal and signals are those of the
 * guest's process, and its exit status is this one's.
 */
#include "tools/oci/oci.h"

#include "tools/container/life.h"
#include "tools/container/run.h"
#include "tools/container/template.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

/* Directories and files of containers that come later, at once. */
#define TREES 64

struct init {
	struct run_machine machine;
	struct run_options options;
	bool oom;  /* a process of the guest's was killed */
	bool left; /* the templates' directory */
};

/* ---- hooks: nothing is kept, the engine does that */

static int begin(void *arg)
{
	(void)arg;
	return 0;
}

/*
 * The template's files are open here. The monitor, whose share could reach the
 * directory by its path, sees it no more when the guest's process starts.
 */
static void born(void *arg, pid_t monitor)
{
	struct init *init = arg;

	/* The machine may be another one, that boots. */
	if (init->options.cold || init->left)
		return;
	init->left = umount2(OCI_INSIDE_TEMPLATES, MNT_DETACH) == 0;
	if (init->left)
		return;
	log_error("'" OCI_INSIDE_TEMPLATES "': %s", strerror(errno));
	(void)kill(monitor, SIGKILL);
}

/* From now on others than the kernel and the agent are in the guest. */
static void started(void *arg)
{
	struct init *init = arg;

	template_leave(init->machine.template);
	oci_note_started();
	/* Its end may be that of this process, too. */
	oci_trace_keep(init->options.marks);
}

/* By which it is saved, or its record ends; there is nothing else to ask. */
static void leave_control(struct run_machine *machine)
{
	if (template_is_wanted(machine->template) ||
	    template_records(machine->template))
		return;
	free(machine->cfg.control);
	machine->cfg.control = NULL;
}

static int cold(void *arg)
{
	struct init *init = arg;

	return run_machine_make_again(&init->machine, &init->options);
}

static void ready(void *arg)
{
	(void)arg;
}

static void out_of_memory(void *arg)
{
	struct init *init = arg;

	init->oom = true;
}

static int no_input(void *arg)
{
	(void)arg;
	return -1;
}

static int output(void *arg, int stream, const void *data, size_t bytes)
{
	(void)arg;
	(void)stream;
	(void)data;
	(void)bytes;
	return 0;
}

static void error(void *arg, const char *text)
{
	(void)arg;
	(void)text;
}

static void killer(void *arg, char ret[LIFE_KILLER_BYTES])
{
	(void)arg;
	ret[0] = '\0';
}

static const struct life_hooks hooks = {
	.begin = begin,
	.born = born,
	.started = started,
	.input = no_input,
	.ready = ready,
	.output = output,
	.out_of_memory = out_of_memory,
	.error = error,
	.cold = cold,
	.killer = killer,
};

/* ---- the machine */

static int make(struct init *init, struct spec *spec, const struct rootfs *root,
		const struct instance *instance)
{
	int r = root->path && instance->socket ? oci_check_sources(spec)
					       : -ENOMEM;

	if (r == 0)
		r = oci_pod_save_namespaces(OCI_INSIDE_VM
					    "/" OCI_NAMESPACES_FILE);
	if (r == 0)
		r = run_size_make(&spec->linux_part, &init->options);
	return r < 0 ? r
		     : run_machine_make(&init->machine, spec, &init->options,
					root, instance);
}

static int run(struct spec *spec, bool has_kvm)
{
	struct init init = {
		.options =
			{
				.bundle = "/",
				.root = "/",
				.kernel = OCI_INSIDE_KERNEL,
				.network = "namespace",
				/* The store is the host's, which this process
				 * does not see. */
				.cold = access(OCI_INSIDE_TEMPLATES, F_OK) < 0,
				.templates = OCI_INSIDE_TEMPLATES,
				.trees_socket =
					OCI_INSIDE_VM "/" OCI_TREES_FILE,
				.trees = TREES,
				.marks = oci_trace_inside(),
			},
		.machine = {.initrd_fd = -1},
	};
	struct run_machine *machine = &init.machine;
	struct rootfs root = {
		.path = strdup("/"), .no_submounts = true, .hold = -1};
	struct instance instance = {.base_fd = -1, .dir_fd = -1};
	struct life life = {
		.name = "container",
		.socket = OCI_INSIDE_VM "/" OCI_SOCKET_FILE,
		.cfg = &machine->cfg,
		.agent = &machine->agent,
		.process = &spec->process,
		.filter = &machine->filter,
		.netns = &machine->netns,
		.ports = access(OCI_INSIDE_VM "/" OCI_SANDBOX_FILE, F_OK) == 0,
		.interactive = oci_has_input(),
		.forward_signals = true,
		.every_signal = true,
		.close_fds = {-1, -1},
		.control_dir = OCI_INSIDE_VM,
		.hooks = &hooks,
		.arg = &init,
	};
	sigset_t mask;
	int status = RUN_EXIT_FAILED;

	life_hold_signals(&mask);
	life.mask_before = &mask;
	snprintf(instance.name, sizeof(instance.name), "container");
	instance.socket = strdup(life.socket);
	/* By which `init` has it saved; nobody else asks. */
	if (!init.options.cold)
		instance.control = strdup(OCI_INSIDE_VM "/" OCI_CONTROL_FILE);
	if (make(&init, spec, &root, &instance) == 0) {
		if (has_kvm)
			machine->cfg.kvm_fd = OCI_KVM_FD;
		life.template = machine->template;
		leave_control(machine);
		status = life_run(&life);
	}
	trace_mark(init.options.marks, TRACE_END);
	oci_trace_keep(init.options.marks);
	trace_free(init.options.marks);
	run_machine_done(machine);
	free(instance.socket);
	free(instance.control);
	rootfs_close(&root);
	if (init.oom)
		oci_oom_tell();
	return status;
}

int oci_cmd_init(struct oci *oci, int argc, char **argv)
{
	struct spec spec = {0};
	const bool has_kvm = argc == 2 && strcmp(argv[1], "kvm") == 0;
	int status;

	(void)oci;
	/*
	 * Warnings about the file have been given by `create`; this is the
	 * container's stderr. Those about its networks and memory come here.
	 */
	log_setup(LOG_ERROR, false);
	if (argc != 1 + has_kvm)
		return log_ret(RUN_EXIT_FAILED,
			       "init: '%s' is not what it takes", argv[1]);
	if ((has_kvm && fcntl(OCI_KVM_FD, F_SETFD, FD_CLOEXEC) < 0) ||
	    spec_read_file(OCI_INSIDE_VM "/" OCI_SPEC_FILE, &spec) < 0)
		return RUN_EXIT_FAILED;
	log_setup(LOG_WARN, false);
	status = run(&spec, has_kvm);
	spec_done(&spec);
	return status;
}
