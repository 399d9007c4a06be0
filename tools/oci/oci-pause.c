/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `pause` and `resume`. The machine stands still, and so does all that runs in
 * it; the processes around it on the host wait for it. The control group is not
 * frozen: version 2 never calls one frozen that has a kernel thread of KVM's in
 * it.
 */
#include "tools/oci/oci.h"

#include "tools/agent/agent.h"
#include "tools/container/control.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

/* An engine that asks waits as long. */
#define TIMEOUT_MS 60000
#define LOOK_MS    20

#define CONNECT_TIMEOUT_MS 10000

/* Its process on the host, in RET. 0 or -errno, logged. */
static int open_process(json_t *state, int *ret)
{
	const json_int_t pid =
		json_integer_value(json_object_get(state, "pid"));
	const char *status = oci_text(state, "status");

	if (strcmp(status, "running") != 0)
		return log_ret(-ESRCH, "container not running: it is %s",
			       status);
	*ret = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
	return *ret < 0 ? log_ret(-errno,
				  "container not running: process "
				  "%lld: %s",
				  (long long)pid, strerror(errno))
			: 0;
}

int oci_await_started(struct oci *oci, const char *id, int *ret_process_fd)
{
	autofree char *file = oci_path(oci, id, "vm/" OCI_STARTED_FILE);
	json_t *state = NULL;
	autofd int fd = -1;
	struct pollfd pfd;
	int r = file ? oci_check_id(id) : -ENOMEM;

	if (r == 0 && oci_host_state(oci, id, &state) != 0)
		r = -ENOENT;
	if (r == 0)
		r = open_process(state, &fd);
	json_decref(state);
	pfd = (struct pollfd){.fd = fd, .events = POLLIN};
	for (int left = TIMEOUT_MS / LOOK_MS; r == 0; left--) {
		if (access(file, F_OK) == 0)
			break;
		if (left == 0)
			r = log_ret(-ETIME,
				    "container '%s': its machine still "
				    "starts",
				    id);
		else if (poll(&pfd, 1, LOOK_MS) > 0)
			r = log_ret(-ESRCH, "container not running: it ended "
					    "as it started");
	}
	if (r == 0)
		*ret_process_fd = take_fd(&fd);
	return r;
}

int oci_agent(struct oci *oci, const char *id, struct agent **ret,
	      const char **ret_container)
{
	autofree char *machine = NULL, *dir = NULL;
	autofd int dir_fd = -1, process_fd = -1;
	char path[64];
	int r = oci_await_started(oci, id, &process_fd);

	if (r == 0)
		r = oci_pod_machine(oci, id, &machine);
	if (r < 0)
		return r;
	*ret_container = machine ? id : NULL;
	dir = oci_path(oci, machine ? machine : id, "vm");
	if (!dir)
		return -ENOMEM;
	/* A socket's address has no room for a long path. */
	dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0)
		return log_ret(-errno, "'%s': %s", dir, strerror(errno));
	snprintf(path, sizeof(path), "/proc/self/fd/%d/" OCI_SOCKET_FILE,
		 dir_fd);
	return agent_connect(path, CONNECT_TIMEOUT_MS, ret);
}

static int ask_machine(struct oci *oci, const char *id, enum control_what what)
{
	autofree char *dir = oci_path(oci, id, "vm");
	autofd int process_fd = -1;
	int r = dir ? oci_await_started(oci, id, &process_fd) : -ENOMEM;

	if (r < 0)
		return r;
	r = control_ask(dir, what, process_fd, TIMEOUT_MS);
	if (r == -ECONNRESET || r == -ESHUTDOWN)
		return log_ret(r, "container not running: it has just ended");
	if (r == -ETIME)
		return log_ret(r, "container '%s': its machine does not answer",
			       id);
	return r == -EALREADY ? 0 : r;
}

/* It alone, in a machine of several; or the machine. */
static int ask(struct oci *oci, const char *id, enum control_what what)
{
	autofree char *machine = NULL;
	struct agent *agent = NULL;
	const char *container;
	int r = oci_pod_machine(oci, id, &machine);

	if (r == 0)
		return ask_machine(oci, id, what);
	if (r > 0)
		r = oci_agent(oci, id, &agent, &container);
	if (r == 0)
		r = agent_freeze(agent, container, what == CONTROL_PAUSE);
	agent_free(agent);
	return r;
}

/* The mark is there whenever the machine stands still, whatever happens. */
static int pause_it(struct oci *oci, const char *id)
{
	autofree char *mark = oci_path(oci, id, OCI_PAUSED_FILE);
	autofd int fd = -1;
	int r = mark ? oci_check_id(id) : -ENOMEM;

	if (r < 0)
		return r;
	if (oci_is_paused(oci, id))
		return log_ret(-EALREADY,
			       "container not running: '%s' is paused", id);
	fd = open(mark, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 && errno == ENOENT)
		return log_ret(-ENOENT, "container '%s' does not exist", id);
	if (fd < 0)
		return log_ret(-errno, "'%s': %s", mark, strerror(errno));
	r = ask(oci, id, CONTROL_PAUSE);
	if (r < 0)
		(void)unlink(mark);
	return r;
}

static int resume(struct oci *oci, const char *id)
{
	autofree char *mark = oci_path(oci, id, OCI_PAUSED_FILE);
	int r = mark ? oci_check_container(oci, id) : -ENOMEM;

	if (r < 0)
		return r;
	if (!oci_is_paused(oci, id))
		return log_ret(-EALREADY, "container not paused: '%s'", id);
	r = ask(oci, id, CONTROL_RESUME);
	if (r == 0 && unlink(mark) < 0)
		r = log_ret(-errno, "'%s': %s", mark, strerror(errno));
	return r;
}

int oci_cmd_pause(struct oci *oci, int argc, char **argv)
{
	const bool pauses = strcmp(argv[0], "pause") == 0;
	int r;

	if (argc != 2)
		return log_ret(OCI_EXIT_FAILED, "%s: give one container id",
			       argv[0]);
	r = pauses ? pause_it(oci, argv[1]) : resume(oci, argv[1]);
	return r < 0 ? OCI_EXIT_FAILED : 0;
}
