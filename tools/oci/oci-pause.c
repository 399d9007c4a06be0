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

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

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

int oci_agent(struct oci *oci, const char *id, struct agent_session **ret,
	      const char **ret_container)
{
	autofree char *machine = NULL, *name = NULL;
	autofd int socket_fd = -1, process_fd = -1;
	char path[64];
	int r = oci_await_started(oci, id, &process_fd);

	if (r == 0)
		r = oci_pod_machine(oci, id, &machine);
	if (r < 0)
		return r;
	*ret_container = machine ? id : NULL;
	name = oci_path(oci, machine ? machine : id, "vm/" OCI_SOCKET_FILE);
	if (!name)
		return -ENOMEM;
	/*
	 * A socket's address has no room for a long path; and a monitor that
	 * was taken over can make it a link to another container's.
	 */
	socket_fd = open(name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (socket_fd < 0)
		return log_ret(-errno, "'%s': %s", name, strerror(errno));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", socket_fd);
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

/* ---- in a machine of several */

/*
 * Noted for a container that is paused or resumed while its machine stands
 * still, as the guest has not heard of it: when the machine goes on, it gets
 * the state that its mark says.
 */
#define OWED_FILE "owed"

/* One at a time asks a machine and those in it. A descriptor, or -errno. */
static int lock(const struct oci *oci, const char *machine)
{
	autofree char *dir = oci_path(oci, machine, NULL);
	autofd int fd = -1;

	if (!dir)
		return -ENOMEM;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return log_ret(-ENOENT, "container '%s' does not exist",
			       machine);
	while (fd >= 0 && flock(fd, LOCK_EX) < 0) {
		if (errno != EINTR)
			util_close(&fd);
	}
	return fd < 0 ? log_ret(-errno, "'%s': %s", dir, strerror(errno))
		      : take_fd(&fd);
}

static int freeze(struct oci *oci, const char *id, bool frozen)
{
	struct agent_session *agent = NULL;
	const char *container;
	int r = oci_agent(oci, id, &agent, &container);

	if (r == 0)
		r = agent_freeze(agent, container, frozen);
	agent_free(agent);
	return r;
}

static int note(const struct oci *oci, const char *id, const char *name)
{
	autofree char *path = oci_path(oci, id, name);
	autofd int fd = -1;

	if (!path)
		return -ENOMEM;
	fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 && errno == ENOENT)
		return log_ret(-ENOENT, "container '%s' does not exist", id);
	return fd < 0 ? log_ret(-errno, "'%s': %s", path, strerror(errno)) : 0;
}

static void take_note(const struct oci *oci, const char *id, const char *name)
{
	autofree char *path = oci_path(oci, id, name);

	if (path && unlink(path) < 0 && errno != ENOENT)
		log_warn("'%s': %s", path, strerror(errno));
}

/* The machine goes on: the guest hears what it has not heard. */
static void settle(struct oci *oci, const char *machine)
{
	DIR *dir = opendir(oci->root);
	const struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		const char *id = entry->d_name;
		autofree char *its = NULL;

		if (id[0] == '.' || id[0] == '@' ||
		    !oci_store_has(oci, id, OWED_FILE) ||
		    oci_pod_machine(oci, id, &its) <= 0 ||
		    strcmp(its, machine) != 0)
			continue;
		take_note(oci, id, OWED_FILE);
		/* It says what has failed: the container has ended. */
		(void)freeze(oci, id, oci_is_paused(oci, id));
	}
	if (dir)
		closedir(dir);
}

/* The guest hears of it later; it would say whether there is anything. */
static int owe(struct oci *oci, const char *id)
{
	json_t *state = NULL;
	autofd int fd = -1;
	int r = oci_host_state(oci, id, &state) == 0 ? 0 : -ENOENT;

	if (r == 0)
		r = open_process(state, &fd);
	json_decref(state);
	return r < 0 ? r : note(oci, id, OWED_FILE);
}

/* MACHINE: another's that it is in, or NULL: it is its own. */
static int ask(struct oci *oci, const char *id, const char *machine,
	       enum control_what what)
{
	if (!machine)
		return ask_machine(oci, id, what);
	return oci_is_paused(oci, machine)
		       ? owe(oci, id)
		       : freeze(oci, id, what == CONTROL_PAUSE);
}

bool oci_stands_still(const struct oci *oci, const char *id)
{
	autofree char *machine = NULL;

	return oci_is_paused(oci, id) ||
	       (oci_pod_machine(oci, id, &machine) > 0 &&
		oci_is_paused(oci, machine));
}

/* The mark is there whenever the machine stands still, whatever happens. */
static int pause_it(struct oci *oci, const char *id, const char *machine)
{
	int r;

	if (oci_is_paused(oci, id))
		return log_ret(-EALREADY,
			       "container not running: '%s' is paused", id);
	r = note(oci, id, OCI_PAUSED_FILE);
	if (r < 0)
		return r;
	r = ask(oci, id, machine, CONTROL_PAUSE);
	if (r < 0)
		take_note(oci, id, OCI_PAUSED_FILE);
	return r;
}

static int resume(struct oci *oci, const char *id, const char *machine)
{
	int r;

	if (!oci_is_paused(oci, id))
		return log_ret(-EALREADY, "container not paused: '%s'", id);
	r = ask(oci, id, machine, CONTROL_RESUME);
	if (r < 0)
		return r;
	take_note(oci, id, OCI_PAUSED_FILE);
	if (!machine)
		settle(oci, id);
	return 0;
}

static int change(struct oci *oci, const char *id, bool pauses)
{
	autofree char *machine = NULL;
	autofd int lock_fd = -1;
	int r = oci_check_container(oci, id);

	if (r == 0)
		r = oci_pod_machine(oci, id, &machine);
	if (r < 0)
		return r;
	lock_fd = lock(oci, machine ? machine : id);
	if (lock_fd < 0)
		return lock_fd;
	return pauses ? pause_it(oci, id, machine) : resume(oci, id, machine);
}

int oci_cmd_pause(struct oci *oci, int argc, char **argv)
{
	const bool pauses = strcmp(argv[0], "pause") == 0;

	if (argc != 2)
		return log_ret(OCI_EXIT_FAILED, "%s: give one container id",
			       argv[0]);
	return change(oci, argv[1], pauses) < 0 ? OCI_EXIT_FAILED : 0;
}
