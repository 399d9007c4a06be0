/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In the outer container of one that is in another's machine, as its process:
 * brings its files there, has its process run there, and stands for it on the
 * host until its end. These files go with it, and so does that process.
 */
#include "tools/oci/oci.h"

#include "tools/container/life.h"
#include "tools/container/run.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <string.h>

static int run_in(struct agent_session *agent,
		  const struct run_machine *machine,
		  struct spec_process *process, bool *ret_oom)
{
	const struct agent_start_options options = {
		.container = machine->agent.container,
		.main = true,
		.input = oci_has_input(),
		.filter = &machine->filter,
	};
	struct agent_failure failure = {0};
	int r = agent_configure(agent, &machine->agent);

	oci_find_size(process);
	if (r == 0)
		r = agent_start(agent, process, &options, &failure, NULL);
	if (r == -EREMOTEIO)
		return log_ret(failure.status, "%s", failure.text);
	if (r < 0)
		return RUN_EXIT_FAILED;
	oci_note_started();
	return oci_relay(agent, process, oci_has_input(), ret_oom);
}

static int run(struct spec *spec, const struct oci_member *from)
{
	struct rootfs root = {
		.path = strdup("/"), .no_submounts = true, .hold = -1};
	const struct run_member member = {
		.name = from->name,
		.socket = OCI_INSIDE_POD "/" OCI_TREES_FILE,
		.root = &root,
		.share_uts = from->shared.uts,
		.share_ipc = from->shared.ipc,
		.share_pid = from->shared.pid,
	};
	struct run_machine machine = {.initrd_fd = -1, .trees_fd = -1};
	struct agent_session *agent = NULL;
	int status = RUN_EXIT_FAILED;
	bool oom = false;
	sigset_t mask;
	int r;

	/* They are the process's, once it runs. */
	life_hold_signals(&mask);
	r = root.path ? oci_check_sources(spec) : -ENOMEM;
	if (r == 0)
		r = run_member_make(&machine, spec, &member);
	/* An engine may have started the machine just now. */
	if (r == 0)
		r = oci_await_machine(OCI_INSIDE_POD "/" OCI_STARTED_FILE,
				      machine.trees_fd);
	if (r == 0)
		r = agent_connect(OCI_INSIDE_POD "/" OCI_SOCKET_FILE,
				  OCI_MACHINE_MS, &agent);
	if (r == 0)
		status = run_in(agent, &machine, &spec->process, &oom);
	agent_free(agent);
	run_machine_done(&machine);
	rootfs_close(&root);
	/* One of the container's processes was killed. */
	if (oom)
		oci_oom_tell();
	return status;
}

int oci_cmd_join(struct oci *oci, int argc, char **argv)
{
	struct oci_member member = {0};
	struct spec spec = {0};
	int status = RUN_EXIT_FAILED;
	int r;

	(void)oci;
	/* As in init: the container's stderr gets no warnings of create's. */
	log_setup(LOG_ERROR, false);
	if (argc != 1)
		return log_ret(status, "join: '%s' is more than it takes",
			       argv[1]);
	r = oci_pod_read(&member);
	if (r == 0)
		log_error("join: this container is in no other one's machine");
	if (r == 1 &&
	    spec_read_file(OCI_INSIDE_VM "/" OCI_SPEC_FILE, &spec) == 0)
		status = run(&spec, &member);
	spec_done(&spec);
	oci_pod_read_done(&member);
	return status;
}
