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
#include <poll.h>
#include <stdio.h>
#include <string.h>

/* As long as a machine on a busy host has to be set up. */
#define CONNECT_TIMEOUT_MS 180000
#define POLL_MS            5
#define KILLED             137 /* as after SIGKILL */

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

static int relay(struct agent *agent, const struct spec_process *process)
{
	const struct agent_relay relay = {
		.in_fd = STDIN_FILENO,
		.out_fd = STDOUT_FILENO,
		.err_fd = STDERR_FILENO,
		.tty = process->terminal,
		.forward_signals = true,
		.every_signal = true,
		.gone_fd = -1,
	};
	struct agent_status status;
	int r = agent_relay(agent, &relay, &status);

	/* The machine has ended, and what ran in it. */
	if (r == -ECONNRESET || r == -EINTR)
		return KILLED;
	return r < 0 ? RUN_EXIT_FAILED : status.status;
}

/*
 * `exec` may follow `start` at once, when the guest has no container yet. This
 * process dies with the container.
 */
static void await_started(void)
{
	for (int ms = 0; ms < CONNECT_TIMEOUT_MS; ms += POLL_MS) {
		if (access(OCI_INSIDE_VM "/" OCI_STARTED_FILE, F_OK) == 0)
			return;
		poll(NULL, 0, POLL_MS);
	}
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
	struct agent *agent = NULL;
	int status = RUN_EXIT_FAILED;
	const char *path = member->name ? OCI_INSIDE_POD "/" OCI_SOCKET_FILE
					: OCI_INSIDE_VM "/" OCI_SOCKET_FILE;
	int r;

	await_started();
	r = agent_connect(path, CONNECT_TIMEOUT_MS, &agent);
	if (r == 0)
		r = agent_start(agent, process, &options, &failure, NULL);
	if (r == -EREMOTEIO)
		status = log_ret(failure.status, "%s", failure.text);
	else if (r == 0)
		status = relay(agent, process);
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
