/* SPDX-License-Identifier: Apache-2.0 */
/* User namespaces of containers: who on the host is root in one. */
#include "tools/oci/oci.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define OWN "/proc/self/ns/user"

/* ---- one that CONFIG describes */

/* The number on the host that is 0 in the list NAME. */
static int find_mapped(json_t *config, const char *name, unsigned *ret)
{
	json_t *list = json_object_get(json_object_get(config, "linux"), name);
	json_t *mapping;
	size_t i;

	json_array_foreach(list, i, mapping) {
		const json_int_t host =
			json_integer_value(json_object_get(mapping, "hostID"));

		if (json_integer_value(
			    json_object_get(mapping, "containerID")) != 0 ||
		    json_integer_value(json_object_get(mapping, "size")) < 1)
			continue;
		if (host < 0 || host >= UINT32_MAX)
			return log_ret(-EINVAL,
				       "linux.%s: hostID %" JSON_INTEGER_FORMAT
				       " is no user or group",
				       name, host);
		*ret = (unsigned)host;
		return 0;
	}
	return log_ret(-EINVAL,
		       "linux.%s: 0 is not mapped: the container's root, as "
		       "which the monitor runs, has to be somebody on the host",
		       name);
}

/* ---- one that is there already */

/* The number here that is 0 in the map NAME of PID's namespace. */
static int read_map(pid_t pid, const char *name, unsigned *ret)
{
	uint32_t inside, outside, count;
	char path[64];
	FILE *file;
	int r = -ENOENT;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	file = fopen(path, "re");
	if (!file)
		return -errno;
	while (r < 0 && fscanf(file, "%" SCNu32 " %" SCNu32 " %" SCNu32,
			       &inside, &outside, &count) == 3) {
		if (inside != 0)
			continue;
		*ret = outside;
		r = 0;
	}
	(void)fclose(file);
	return r;
}

/* A process in the namespace FD; tells by TOLD_FD whether it got there. */
static pid_t start_inside(int fd, int told_fd)
{
	const pid_t pid = fork();
	int r;

	if (pid != 0)
		return pid;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	r = setns(fd, CLONE_NEWUSER) < 0 ? errno : 0;
	if (write(told_fd, &r, sizeof(r)) != sizeof(r))
		_exit(1);
	for (;;)
		(void)poll(NULL, 0, -1);
}

/* The kernel shows a namespace's maps as those of a process in it. */
static int ask_inside(int fd, uid_t *ret_uid, gid_t *ret_gid)
{
	int ends[2], r = 0;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	pid = start_inside(fd, ends[1]);
	if (pid < 0)
		r = -errno;
	util_close(&ends[1]);
	if (pid > 0) {
		if (read(ends[0], &r, sizeof(r)) != sizeof(r))
			r = EIO;
		r = -r;
		if (r == 0)
			r = read_map(pid, "uid_map", ret_uid);
		if (r == 0)
			r = read_map(pid, "gid_map", ret_gid);
		(void)kill(pid, SIGKILL);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	util_close(&ends[0]);
	return r;
}

static int find_joined(const char *path, uid_t *ret_uid, gid_t *ret_gid)
{
	autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat own, other;
	int r;

	if (fd >= 0 && stat(OWN, &own) == 0 && fstat(fd, &other) == 0 &&
	    own.st_dev == other.st_dev && own.st_ino == other.st_ino)
		return 0;
	r = fd < 0 ? -errno : ask_inside(fd, ret_uid, ret_gid);
	return r < 0 ? log_ret(r,
			       "linux.namespaces: user namespace '%s': cannot "
			       "find out who is root there: %s",
			       path, strerror(-r))
		     : 0;
}

int oci_users_root(json_t *config, uid_t *ret_uid, gid_t *ret_gid)
{
	json_t *ns = oci_namespace(config, "user");
	const char *path = oci_text(ns, "path");
	int r;

	*ret_uid = geteuid();
	*ret_gid = getegid();
	if (!ns)
		return 0;
	/* Mappings beside a path say nothing: it has its own. */
	if (path[0])
		return find_joined(path, ret_uid, ret_gid);
	r = find_mapped(config, "uidMappings", ret_uid);
	return r < 0 ? r : find_mapped(config, "gidMappings", ret_gid);
}
