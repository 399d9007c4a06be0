/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process inherits much from the one that starts it. A machine that waits has
 * it from the pool, and a start that has another is not to find it changed.
 */
#include "tools/container/pool.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define GROUPS "/sys/fs/cgroup"
/* A process may be in 65536 groups, which are in its status. */
#define TEXT_MAX (1U << 20)

/* All of PATH's text, allocated. 0 or -errno. */
static int read_text(const char *path, char **ret)
{
	autofd int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : util_read_stream(fd, TEXT_MAX, ret);
}

/* ---- the text */

static int say_groups(FILE *to)
{
	const int n = getgroups(0, NULL);
	autofree gid_t *groups = calloc((size_t)n + 1, sizeof(*groups));

	if (n < 0 || !groups || getgroups(n, groups) != n)
		return -ENOMEM;
	fprintf(to, "user %u %u %u %u\n", (unsigned)getuid(),
		(unsigned)geteuid(), (unsigned)getgid(), (unsigned)getegid());
	for (int i = 0; i < n; i++)
		fprintf(to, "group %u\n", (unsigned)groups[i]);
	return 0;
}

/* Which files it would open, and what its process IDs mean. */
static int say_spaces(FILE *to)
{
	static const char *const names[] = {"user",   "mnt", "pid",
					    "cgroup", "net", "time"};

	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		char path[32];
		struct stat st = {.st_ino = 0};

		snprintf(path, sizeof(path), "/proc/self/ns/%s", names[i]);
		if (stat(path, &st) < 0 && errno != ENOENT)
			return -errno;
		fprintf(to, "%s %llu\n", names[i],
			(unsigned long long)st.st_ino);
	}
	return 0;
}

/* A monitor raises how many files it may open as far as that goes. */
static void say_limits(FILE *to)
{
	for (int i = 0; i < RLIM_NLIMITS; i++) {
		struct rlimit limit = {0};

		(void)getrlimit((__rlimit_resource_t)i, &limit);
		fprintf(to, "limit %d %llu %llu\n", i,
			i == RLIMIT_NOFILE ? 0
					   : (unsigned long long)limit.rlim_cur,
			(unsigned long long)limit.rlim_max);
	}
}

static void say_scheduling(FILE *to)
{
	struct sched_param param = {0};
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	(void)sched_getaffinity(0, sizeof(cpus), &cpus);
	(void)sched_getparam(0, &param);
	fprintf(to, "scheduling %d %d %d\n", sched_getscheduler(0),
		param.sched_priority, getpriority(PRIO_PROCESS, 0));
	for (unsigned i = 0; i < CPU_SETSIZE; i++) {
		if (CPU_ISSET(i, &cpus))
			fprintf(to, "cpu %u\n", i);
	}
}

/* Privileges, and what the host's kernel confines it by. */
static int say_walls(FILE *to)
{
	static const char *const lines[] = {
		"CapInh:", "CapPrm:",     "CapEff:",  "CapBnd:",
		"CapAmb:", "NoNewPrivs:", "Seccomp:", "Seccomp_filters:"};
	autofree char *text = NULL, *label = NULL, *oom = NULL;
	int r = read_text("/proc/self/status", &text);

	for (unsigned i = 0; r == 0 && i < ARRAY_LEN(lines); i++) {
		const char *at = strstr(text, lines[i]);

		if (at)
			fprintf(to, "%.*s\n", (int)strcspn(at, "\n"), at);
	}
	if (r == 0 && read_text("/proc/self/attr/current", &label) == 0)
		fprintf(to, "label %s\n", label);
	if (r == 0)
		r = read_text("/proc/self/oom_score_adj", &oom);
	if (r == 0)
		fprintf(to, "oom %s\n", oom);
	return r;
}

int pool_place_read(struct pool_place *ret)
{
	autofree char *text = NULL;
	size_t bytes = 0;
	FILE *to = open_memstream(&text, &bytes);
	autofree char *groups = NULL;
	int r = to ? say_groups(to) : -ENOMEM;

	if (r == 0)
		r = say_spaces(to);
	if (r == 0)
		r = say_walls(to);
	if (r == 0) {
		say_limits(to);
		say_scheduling(to);
		r = read_text("/proc/self/cgroup", &groups);
	}
	if (to && fclose(to) != 0 && r == 0)
		r = -ENOMEM;
	if (r < 0)
		return log_ret(r, "this process's surroundings: %s",
			       strerror(-r));
	sha256_hex(text, bytes, ret->hash);
	sha256_hex(groups, strlen(groups), ret->cgroup);
	return 0;
}

bool pool_place_has(const struct pool_place *place, pid_t pid)
{
	autofree char *groups = NULL;
	char path[32], hash[SHA256_HEX];

	snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
	if (read_text(path, &groups) < 0)
		return false;
	sha256_hex(groups, strlen(groups), hash);
	return strncmp(hash, place->cgroup, SHA256_HEX) == 0;
}

/* ---- control groups: version 2 alone, where there is one for all */

int pool_place_open_group(void)
{
	autofree char *text = NULL, *path = NULL;
	struct statfs st;
	int fd, r = read_text("/proc/self/cgroup", &text);

	if (r < 0)
		return r;
	text[strcspn(text, "\n")] = '\0';
	if (strncmp(text, "0::/", 4) != 0 || statfs(GROUPS, &st) < 0 ||
	    st.f_type != CGROUP2_SUPER_MAGIC)
		return -ENOTSUP;
	if (asprintf(&path, GROUPS "%s/cgroup.procs", text + 3) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int pool_place_move(int group_fd, pid_t pid)
{
	char text[24];
	const int n = snprintf(text, sizeof(text), "%d\n", (int)pid);

	return write(group_fd, text, (size_t)n) == n ? 0 : -errno;
}
