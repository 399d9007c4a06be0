/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In the outer container, as a process of `exec`: has the guest's agent start
 * what the file says, and stands for it on the host until its end.
 */
#include "tools/oci/oci.h"

#include "tools/container/run.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The file is for one process: nobody else is to find it. */
static int take_process(const char *name, struct spec_process *ret)
{
	autofree char *path = NULL;
	int r;

	if (strncmp(name, OCI_EXEC_PREFIX, strlen(OCI_EXEC_PREFIX)) != 0 ||
	    strchr(name, '/'))
		return log_ret(-EINVAL, "'%s': not a process of exec", name);
	if (asprintf(&path, "%s/%s", OCI_INSIDE_VM, name) < 0) {
		path = NULL;
		return log_ret(-ENOMEM, "out of memory");
	}
	r = spec_process_read_file(path, ret);
	(void)unlink(path);
	return r;
}

/* With the container's filter of system calls. */
static int run(const struct spec_process *process,
	       const struct spec_filter *filter,
	       const struct oci_member *member)
{
	const struct agent_start_options options = {
		.container = member->name,
		.input = true,
		/* An engine that has had enough of it kills this process. */
		.bound = true,
		.filter = filter,
	};
	struct agent_failure failure = {0};
	struct agent_session *agent = NULL;
	int status = RUN_EXIT_FAILED;
	const char *path = member->name ? OCI_INSIDE_POD "/" OCI_SOCKET_FILE
					: OCI_INSIDE_VM "/" OCI_SOCKET_FILE;
	int r;

	/* `exec` may follow `start` at once, when the guest has no container.
	 */
	r = oci_await_machine(OCI_INSIDE_VM "/" OCI_STARTED_FILE, -1);
	if (r == 0)
		r = agent_connect(path, OCI_MACHINE_MS, &agent);
	if (r == 0)
		r = agent_start(agent, process, &options, &failure, NULL);
	if (r == -EREMOTEIO)
		status = log_ret(failure.status, "%s", failure.text);
	else if (r == 0)
		status = oci_relay(agent, process, true, NULL);
	agent_free(agent);
	return status;
}

int oci_cmd_relay(struct oci *oci, int argc, char **argv)
{
	struct spec_process process = {0};
	struct oci_member member = {0};
	struct spec_filter filter = {0};
	struct spec spec = {0};
	int status = RUN_EXIT_FAILED;

	(void)oci;
	log_setup(LOG_ERROR, false);
	if (argc != 2)
		return log_ret(status, "relay: give one file");
	if (take_process(argv[1], &process) == 0 &&
	    oci_pod_read(&member) >= 0 &&
	    spec_read_file(OCI_INSIDE_VM "/" OCI_SPEC_FILE, &spec) == 0 &&
	    spec_filter_make("config.json", &spec.linux_part, &filter) == 0) {
		oci_find_size(&process);
		status = run(&process, &filter, &member);
	}
	oci_pod_read_done(&member);
	spec_filter_done(&filter);
	spec_done(&spec);
	spec_process_done(&process);
	return status;
}
