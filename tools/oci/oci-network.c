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
#include <time.h>

/* For the monitor of a guest before, which was killed, to be gone. */
#define GONE_MS 2000
#define LOOK_MS 10

#define OWN "/proc/self/ns/net"

/* The namespace of the type "network"; NULL: there is none. */
static json_t *find(json_t *config)
{
	json_t *namespaces =
		json_object_get(json_object_get(config, "linux"), "namespaces");
	json_t *ns;
	size_t i;

	json_array_foreach(namespaces, i, ns) {
		if (strcmp(oci_text(ns, "type"), "network") == 0)
			return ns;
	}
	return NULL;
}

const char *oci_network_path(json_t *config)
{
	return oci_text(find(config), "path");
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
static bool has_guest(void)
{
	const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000};
	const uint64_t end = util_now_ns() + GONE_MS * UINT64_C(1000000);

	while (netns_has_guest() == 1) {
		if (util_now_ns() >= end)
			return true;
		nanosleep(&pause, NULL);
	}
	return false;
}

/*
 * Goes to the namespace PATH. A descriptor of the one before, or -errno: there
 * is none, or this user may not.
 */
static int enter(const char *path)
{
	autofd int own = open(OWN, O_RDONLY | O_CLOEXEC);
	autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (own < 0 || fd < 0 || setns(fd, CLONE_NEWNET) < 0)
		return -errno;
	return take_fd(&own);
}

/* 0 or -errno, logged. */
static int leave(int own)
{
	return setns(own, CLONE_NEWNET) < 0
		       ? log_ret(-errno, "'%s': %s", OWN, strerror(errno))
		       : 0;
}

int oci_network_check(json_t *config)
{
	const char *path = oci_network_path(config);
	autofd int fd = -1, own = -1;
	bool taken;
	int r;

	if (!find(config))
		return refuse_host();
	if (!path[0])
		return 0;
	/* The host's runtime says why it cannot be opened. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return 0;
	if (is_same(fd, OWN))
		return refuse_host();
	own = enter(path);
	if (own < 0)
		return 0;
	taken = has_guest();
	r = leave(own);
	if (r == 0 && taken)
		r = log_ret(-EBUSY,
			    "linux.namespaces: the network of '%s' is another "
			    "machine's already: two machines cannot share one",
			    path);
	return r;
}

void oci_network_leave(const char *path)
{
	autofd int own = enter(path);

	if (own < 0)
		return;
	if (netns_has_guest() == 0)
		netns_leave_all();
	(void)leave(own);
}
