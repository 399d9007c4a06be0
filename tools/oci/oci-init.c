/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In the outer container, as its process: the machine, and the engine's process
 * in it. Standard input and output, the terminal and signals are those of the
 * guest's process, and its exit status is this one's.
 */
#include "tools/oci/oci.h"

#include "tools/container/life.h"
#include "tools/container/run.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Directories and files of containers that come later, at once. */
#define TREES 64

/* ---- hooks: nothing is kept, the engine does that */

static int begin(void *arg)
{
	(void)arg;
	return 0;
}

static void born(void *arg, pid_t monitor)
{
	(void)arg;
	(void)monitor;
}

static void started(void *arg)
{
	(void)arg;
	oci_note_started();
}

static void ready(void *arg)
{
	(void)arg;
}

static void out_of_memory(void *arg)
{
	*(bool *)arg = true;
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
	.killer = killer,
};

/* ---- the machine */

static int run(struct spec *spec, bool has_kvm)
{
	struct run_options opt = {
		.bundle = "/",
		.root = "/",
		.kernel = OCI_INSIDE_KERNEL,
		.network = "namespace",
		/* The store is the host's, which this process does not see. */
		.cold = true,
		.trees_socket = OCI_INSIDE_VM "/" OCI_TREES_FILE,
		.trees = TREES,
	};
	struct rootfs root = {
		.path = strdup("/"), .no_submounts = true, .hold = -1};
	struct instance instance = {.base_fd = -1, .dir_fd = -1};
	struct run_machine machine = {.initrd_fd = -1};
	bool oom = false; /* a process of the guest's was killed */
	struct life life = {
		.name = "container",
		.socket = OCI_INSIDE_VM "/" OCI_SOCKET_FILE,
		.cfg = &machine.cfg,
		.agent = &machine.agent,
		.process = &spec->process,
		.filter = &machine.filter,
		.netns = &machine.netns,
		.ports = access(OCI_INSIDE_VM "/" OCI_SANDBOX_FILE, F_OK) == 0,
		.interactive = oci_has_input(),
		.forward_signals = true,
		.every_signal = true,
		.close_fds = {-1, -1},
		.control_dir = OCI_INSIDE_VM,
		.hooks = &hooks,
		.arg = &oom,
	};
	sigset_t mask;
	int status = RUN_EXIT_FAILED;
	int r;

	life_hold_signals(&mask);
	life.mask_before = &mask;
	snprintf(instance.name, sizeof(instance.name), "container");
	instance.socket = strdup(life.socket);
	r = root.path && instance.socket ? oci_check_sources(spec) : -ENOMEM;
	if (r == 0)
		r = oci_pod_save_namespaces(OCI_INSIDE_VM
					    "/" OCI_NAMESPACES_FILE);
	if (r == 0)
		r = run_size_make(&spec->linux_part, &opt);
	if (r == 0)
		r = run_machine_make(&machine, spec, &opt, &root, &instance);
	if (r == 0 && has_kvm)
		machine.cfg.kvm_fd = OCI_KVM_FD;
	if (r == 0)
		status = life_run(&life);
	run_machine_done(&machine);
	free(instance.socket);
	rootfs_close(&root);
	if (oom)
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
