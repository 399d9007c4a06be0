/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Engines find out that a container ran out of memory by its control group: by
 * what memory.events counts, or by the event of memory.oom_control. The guest's
 * kernel has killed a process, and the host's knows of nothing. So once the
 * machine is gone, a small process of our own runs out of memory in the group.
 *
 * The group is the container's own, and this process is about to end: nothing
 * else is left in there that its limits could matter to.
 */
#include "tools/oci/oci.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define CGROUPS  OCI_INSIDE "/cgroup"
#define ROOM     (1 << 20) /* for the process and what the kernel needs */
#define EATEN    (64 << 20)
#define TRIES    20
#define TEXT_MAX 4096

/* ---- files of a group */

static int write_file(int dir, const char *name, const char *text)
{
	autofd int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);

	return fd < 0 ? -errno : util_write_all(fd, text, strlen(text));
}

static int write_bytes(int dir, const char *name, uint64_t bytes)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)bytes);
	return write_file(dir, name, text);
}

/* As much as there is room for, as a text. */
static int read_file(int dir, const char *name, char ret[TEXT_MAX])
{
	autofd int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	const ssize_t n = fd < 0 ? -1 : read(fd, ret, TEXT_MAX - 1);

	if (n < 0)
		return -errno;
	ret[n] = '\0';
	return 0;
}

static int open_dir(int dir, const char *name, bool make, int *ret)
{
	if (make && mkdirat(dir, name, 0755) < 0 && errno != EEXIST)
		return -errno;
	*ret = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *ret < 0 ? -errno : 0;
}

/* ---- the process that is killed */

static void eat(int group)
{
	char *memory;

	/* Nobody else in the group is to be chosen. */
	if (write_file(AT_FDCWD, "/proc/self/oom_score_adj", "1000") < 0 ||
	    write_file(group, "cgroup.procs", "0") < 0)
		_exit(1);
	memory = mmap(NULL, EATEN, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		_exit(1);
	for (size_t i = 0; i < EATEN; i += 4096)
		((volatile char *)memory)[i] = 1;
	_exit(2);
}

/* 0: the host's kernel has killed it. */
static int have_killed(int group)
{
	const pid_t pid = fork();
	int status = 0;

	if (pid == 0)
		eat(group);
	if (pid < 0)
		return -errno;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFSIGNALED(status) ? 0 : -ENOTRECOVERABLE;
}

/* ---- version 2: in a group below, as kills count for those above */

/* With processes of its own in it, a group gives none below it a limit. */
static int move_all(int dir, int to)
{
	char text[TEXT_MAX];
	char *rest = text;
	int r = read_file(dir, "cgroup.procs", text);

	for (char *line; r == 0 && (line = strsep(&rest, "\n"));)
		/* One that has ended meanwhile is not there any more. */
		if (line[0] && strcmp(line, "0") != 0)
			(void)write_file(to, "cgroup.procs", line);
	return r;
}

static int tell_v2(int dir)
{
	autofd int rest = -1, group = -1;
	int r = open_dir(dir, "rest", true, &rest);

	if (r == 0)
		r = open_dir(dir, "oom", true, &group);
	for (int i = 0; r == 0 && i < TRIES; i++) {
		r = move_all(dir, rest);
		if (r == 0)
			r = write_file(dir, "cgroup.subtree_control",
				       "+memory");
		if (r != -EBUSY)
			break;
		/* `exec` has put in another one. */
		r = i + 1 < TRIES ? 0 : -EBUSY;
	}
	if (r == 0)
		r = write_bytes(group, "memory.max", ROOM);
	(void)write_file(group, "memory.swap.max", "0");
	return r < 0 ? r : have_killed(group);
}

/* ---- version 1: in the group itself, whose event it is */

static int tell_v1(int dir)
{
	char text[TEXT_MAX], limit[TEXT_MAX];
	uint64_t used;
	int r = read_file(dir, "memory.oom_control", text);

	/* A process would wait there, and not be killed. */
	if (r == 0 && strstr(text, "oom_kill_disable 1"))
		return -ENOTSUP;
	(void)write_file(dir, "memory.force_empty", "0");
	if (r == 0)
		r = read_file(dir, "memory.usage_in_bytes", text);
	if (r == 0)
		r = read_file(dir, "memory.limit_in_bytes", limit);
	if (r < 0)
		return r;
	used = strtoull(text, NULL, 10);
	r = write_bytes(dir, "memory.limit_in_bytes", used + ROOM);
	(void)write_bytes(dir, "memory.memsw.limit_in_bytes", used + ROOM);
	if (r == 0)
		r = have_killed(dir);
	(void)write_file(dir, "memory.memsw.limit_in_bytes", limit);
	(void)write_file(dir, "memory.limit_in_bytes", limit);
	return r;
}

/* ---- finding the group */

/*
 * From a line of /proc/self/cgroup, "ID:CONTROLLERS:PATH": the group that
 * limits memory. False: another one.
 */
static bool take_line(char *line, bool *ret_v2, const char **ret_controllers,
		      const char **ret_path)
{
	char *controllers = strchr(line, ':');
	char *path = controllers ? strchr(controllers + 1, ':') : NULL;
	char list[256];
	char *rest = list;

	if (!path)
		return false;
	*controllers++ = '\0';
	*path++ = '\0';
	*ret_controllers = controllers;
	*ret_path = path;
	*ret_v2 = !controllers[0];
	snprintf(list, sizeof(list), "%s", controllers);
	for (char *name; (name = strsep(&rest, ","));)
		if (strcmp(name, "memory") == 0)
			return true;
	return *ret_v2;
}

static int mount_groups(bool v2, const char *controllers)
{
	const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;

	if (mkdir(CGROUPS, 0700) < 0 && errno != EEXIST)
		return -errno;
	return mount("cgroup", CGROUPS, v2 ? "cgroup2" : "cgroup", flags,
		     v2 ? NULL : controllers) < 0
		       ? -errno
		       : 0;
}

static int tell(void)
{
	const char *controllers = "", *path = NULL, *name, *at;
	char text[TEXT_MAX], whole[TEXT_MAX + 64];
	bool v2 = true, is_v2;
	char *rest = text;
	autofd int dir = -1;
	int r = read_file(AT_FDCWD, "/proc/self/cgroup", text);

	/* Where both versions are there, memory is version 1's. */
	for (char *line; r == 0 && (line = strsep(&rest, "\n"));) {
		if (!take_line(line, &is_v2, &name, &at) || (is_v2 && path))
			continue;
		v2 = is_v2;
		controllers = name;
		path = at;
	}
	if (r == 0 && !path)
		r = -ENOENT;
	if (r == 0)
		r = mount_groups(v2, controllers);
	if (r < 0)
		return r;
	snprintf(whole, sizeof(whole), CGROUPS "%s", path);
	r = open_dir(AT_FDCWD, whole, false, &dir);
	if (r < 0)
		return r;
	return v2 ? tell_v2(dir) : tell_v1(dir);
}

void oci_oom_tell(void)
{
	const int r = tell();

	if (r < 0)
		log_debug("the host's engine is not told that memory ran out: "
			  "%s",
			  strerror(-r));
}
