/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's network namespace, seen from outside of it: whether a guest can
 * be put there, and what a guest's end has left.
 */
#include "tools/oci/oci.h"

#include "tools/container/netns.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* For the monitor of a guest before, which was killed, to be gone. */
#define GONE_MS 2000
/* The same for one that its container's end has killed a moment ago. */
#define LEAVE_MS 5000
#define LOOK_MS  10

#define OWN "/proc/self/ns/net"

const char *oci_network_path(json_t *config)
{
	return oci_text(oci_namespace(config, "network"), "path");
}

static bool is_same(int fd, const char *path)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 && stat(path, &b) == 0 &&
	       a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static int refuse_host(void)
{
	return log_ret(-ENOTSUP,
		       "linux.namespaces: the host's own network is not "
		       "supported: the host would be without it; give the "
		       "container one of its own and publish its ports");
}

/* Those of a guest that was killed go with its process, in a moment. */
static int has_guest_after(unsigned ms)
{
	const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000};
	const uint64_t end = util_now_ns() + ms * UINT64_C(1000000);

	while (netns_has_guest() == 1) {
		if (util_now_ns() >= end)
			return 1;
		nanosleep(&pause, NULL);
	}
	return 0;
}

static int has_guest(void)
{
	return has_guest_after(GONE_MS);
}

static int leave_all(void)
{
	if (has_guest_after(LEAVE_MS) == 0)
		netns_leave_all();
	return 0;
}

static int enter_and_ask(const char *path, int (*ask)(void))
{
	autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	return fd < 0 || setns(fd, CLONE_NEWNET) < 0 ? 0 : ask();
}

/*
 * Has ASK answer, 0 or 1, in the namespace PATH; 0, too, where there is none,
 * or this user may not go there. In a process of its own: from a container's
 * network an ordinary user, root in a user namespace, finds no way back to the
 * host's. -errno, logged.
 */
static int ask_in(const char *path, int (*ask)(void))
{
	const pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(enter_and_ask(path, ask));
	if (pid < 0)
		return log_ret(-errno, "fork: %s", strerror(errno));
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return log_ret(-errno, "waitpid: %s", strerror(errno));
	}
	return WIFEXITED(status) && WEXITSTATUS(status) == 1;
}

int oci_network_check(json_t *config)
{
	const char *path = oci_network_path(config);
	autofd int fd = -1;
	int taken;

	if (!oci_namespace(config, "network"))
		return refuse_host();
	if (!path[0])
		return 0;
	/* The host's runtime says why it cannot be opened. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return 0;
	if (is_same(fd, OWN))
		return refuse_host();
	taken = ask_in(path, has_guest);
	if (taken == 1)
		return log_ret(-EBUSY,
			       "linux.namespaces: the network of '%s' is "
			       "another machine's already: two machines cannot "
			       "share one",
			       path);
	return taken;
}

void oci_network_leave(const char *path)
{
	(void)ask_in(path, leave_all);
}

int oci_forget(const struct oci *oci, const char *id)
{
	json_t *own = oci_store_read(oci, id, "container.json");
	const char *network = oci_text(own, "network");
	int r = 0;

	/* A namespace that others made lives on. */
	if (network[0])
		oci_network_leave(network);
	/*
	 * The host's runtime does not try long, and not again once it has
	 * forgotten the container.
	 */
	if (own)
		r = oci_group_remove(OCI_GROUPS, oci_text(own, "cgroup"));
	json_decref(own);
	return r < 0 ? r : oci_store_remove(oci, id);
}
