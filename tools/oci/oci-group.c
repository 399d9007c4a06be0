/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's control groups: the limits of those around the one of a container
 * that is about to be, that one, and its end.
 */
#include "tools/oci/oci.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Enough for two numbers. */
#define LINE_BYTES 64

/* Version 1 says "no limit" with the greatest number of whole pages. */
#define NO_LIMIT (UINT64_C(1) << 60)

/* The first line of ROOT/PART PATH/NAME; false: there is none. */
static bool read_line(const char *root, const char *part, const char *path,
		      const char *name, char ret[LINE_BYTES])
{
	char file[PATH_MAX];
	autofd int fd = -1;
	ssize_t n;

	if (snprintf(file, sizeof(file), "%s%s%s/%s", root, part, path, name) >=
	    (int)sizeof(file))
		return false;
	fd = open(file, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, ret, LINE_BYTES - 1);
	if (n <= 0)
		return false;
	ret[n] = '\0';
	ret[strcspn(ret, "\n")] = '\0';
	return true;
}

static void lower_memory(struct oci_limits *limits, const char *text)
{
	uint64_t bytes;

	if (util_parse_number(text, 1, NO_LIMIT, &bytes) == 0 &&
	    (!limits->memory || bytes < limits->memory))
		limits->memory = bytes;
}

static void lower_cpu(struct oci_limits *limits, const char *quota_text,
		      const char *period_text)
{
	uint64_t quota, period;

	if (util_parse_number(quota_text, 1, UINT32_MAX, &quota) < 0 ||
	    util_parse_number(period_text, 1, UINT32_MAX, &period) < 0)
		return;
	if (!limits->quota || quota * limits->period < limits->quota * period) {
		limits->quota = quota;
		limits->period = period;
	}
}

/* The limits of one group, by either version's files. */
static void lower(struct oci_limits *limits, const char *root, const char *path)
{
	char line[LINE_BYTES], period[LINE_BYTES];
	char *space;

	if (read_line(root, "", path, "memory.max", line) ||
	    read_line(root, "/memory", path, "memory.limit_in_bytes", line))
		lower_memory(limits, line);
	if (read_line(root, "", path, "cpu.max", line)) {
		space = strchr(line, ' ');
		if (space) {
			*space = '\0';
			lower_cpu(limits, line, space + 1);
		}
	} else if (read_line(root, "/cpu", path, "cpu.cfs_quota_us", line) &&
		   read_line(root, "/cpu", path, "cpu.cfs_period_us", period)) {
		lower_cpu(limits, line, period);
	}
}

/*
 * systemd's "a-b.slice", the first LEN bytes of NAME, is in "a.slice":
 * "/a.slice/a-b.slice". "-.slice" is the root.
 */
static int slice_path(const char *name, size_t len, char ret[PATH_MAX])
{
	static const char end[] = ".slice";
	const size_t stem = len - strlen(end);
	size_t at = 0;

	if (len <= strlen(end) || strncmp(name + stem, end, strlen(end)) != 0)
		return -EINVAL;
	ret[0] = '\0';
	for (size_t i = 1; i <= stem && name[0] != '-'; i++) {
		if (i < stem && name[i] != '-')
			continue;
		at += (size_t)snprintf(ret + at, PATH_MAX - at, "/%.*s%s",
				       (int)i, name, end);
		if (at >= PATH_MAX)
			return -ENAMETOOLONG;
	}
	return 0;
}

/* The group that the one of CGROUPS_PATH will be in. */
static int parent_path(const char *cgroups_path, char ret[PATH_MAX])
{
	const char *colon = strchr(cgroups_path, ':');
	const char *slash = strrchr(cgroups_path, '/');

	if (cgroups_path[0] != '/')
		return colon && !slash
			       ? slice_path(cgroups_path,
					    (size_t)(colon - cgroups_path), ret)
			       : -EINVAL;
	if (strlen(cgroups_path) >= PATH_MAX)
		return -ENAMETOOLONG;
	snprintf(ret, PATH_MAX, "%.*s", (int)(slash - cgroups_path),
		 cgroups_path);
	return 0;
}

void oci_group_limits(const char *root, const char *cgroups_path,
		      struct oci_limits *ret)
{
	char path[PATH_MAX];
	char *slash;

	*ret = (struct oci_limits){0};
	if (parent_path(cgroups_path, path) < 0)
		return;
	while ((slash = strrchr(path, '/'))) {
		lower(ret, root, path);
		*slash = '\0';
	}
}

/* ---- a container's own */

bool oci_group_is_unified(const char *root)
{
	char file[PATH_MAX];

	return snprintf(file, sizeof(file), "%s/cgroup.controllers", root) <
		       (int)sizeof(file) &&
	       access(file, F_OK) == 0;
}

/*
 * Below ROOT, as LINE of a list has it. -EXDEV: it is the host's own, or one
 * outside of what this process sees: whatever else is in it would be taken for
 * the container's.
 */
static int open_listed(const char *root, const char *line, int *ret)
{
	const char *group = line + strlen("0::");
	char path[PATH_MAX];

	if (!group[strspn(group, "/")] || strncmp(group, "/..", 3) == 0)
		return -EXDEV;
	if (snprintf(path, sizeof(path), "%s%s", root, group) >=
	    (int)sizeof(path))
		return -ENAMETOOLONG;
	*ret = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *ret < 0 ? -errno : 0;
}

int oci_group_open(const char *root, const char *list_file, int *ret)
{
	char line[PATH_MAX];
	FILE *list = fopen(list_file, "re");
	int r = list ? -ENOENT : -errno;
	bool found = false;

	while (list && !found && fgets(line, sizeof(line), list)) {
		line[strcspn(line, "\n")] = '\0';
		found = strncmp(line, "0::/", 4) == 0;
	}
	if (list)
		(void)fclose(list);
	return found ? open_listed(root, line, ret) : r;
}

/* ---- the end */

/* For processes that were killed to be gone. */
#define GONE_MS 10000
#define LOOK_MS 20
/* Groups within groups, which the container's root may have made. */
#define DEPTH_MAX 32

static bool is_dir(int dir, const struct dirent *entry)
{
	struct stat st;

	return strcmp(entry->d_name, ".") != 0 &&
	       strcmp(entry->d_name, "..") != 0 &&
	       fstatat(dir, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       S_ISDIR(st.st_mode);
}

/* NAME of DIR and all that is in it. 0; -EBUSY: a process is; -errno. */
static int remove_group(int dir, const char *name, unsigned depth)
{
	struct dirent *entry;
	DIR *list;
	int fd, r = 0;

	/* Nobody can have made one where nothing can be written. */
	if (unlinkat(dir, name, AT_REMOVEDIR) == 0 || errno == ENOENT ||
	    errno == EROFS)
		return 0;
	if ((errno != EBUSY && errno != ENOTEMPTY) || depth == 0)
		return -errno;
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	list = fdopendir(fd);
	if (!list) {
		close(fd);
		return -ENOMEM;
	}
	while (r == 0 && (entry = readdir(list))) {
		if (is_dir(fd, entry))
			r = remove_group(fd, entry->d_name, depth - 1);
	}
	closedir(list);
	if (r == 0 && unlinkat(dir, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		r = -errno;
	return r;
}

/* ROOT/PART PATH; PATH_MAX and more: it is too long. */
static int join_path(char ret[PATH_MAX], const char *root, const char *part,
		     const char *path)
{
	return snprintf(ret, PATH_MAX, "%s%s%s%s", root, part[0] ? "/" : "",
			part, path);
}

static int remove_path(const char *root, const char *part, const char *path)
{
	const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000};
	const uint64_t end = util_now_ns() + GONE_MS * UINT64_C(1000000);
	char file[PATH_MAX];
	int r;

	if (join_path(file, root, part, path) >= (int)sizeof(file))
		return 0;
	while ((r = remove_group(AT_FDCWD, file, DEPTH_MAX)) == -EBUSY &&
	       util_now_ns() < end)
		nanosleep(&pause, NULL);
	return r < 0 ? log_ret(r, "control group '%s': %s", file, strerror(-r))
		     : 0;
}

/* 1: it is; 0: it is not, or its path is too long. */
static int is_there(const char *root, const char *part, const char *path)
{
	char file[PATH_MAX];

	return join_path(file, root, part, path) < (int)sizeof(file) &&
	       access(file, F_OK) == 0;
}

/*
 * Has TAKE look at PATH in each hierarchy, until its answer is not 0. Paths
 * that say no group of their own, as "/", "//" and "/a/..", are in none.
 */
static int each_hierarchy(const char *root, const char *path,
			  int (*take)(const char *root, const char *part,
				      const char *path))
{
	struct dirent *entry;
	DIR *list;
	int r = 0;

	if (path[0] != '/' || !path[strspn(path, "/")] || strstr(path, "/."))
		return 0;
	if (oci_group_is_unified(root))
		return take(root, "", path);
	list = opendir(root);
	while (r == 0 && list && (entry = readdir(list))) {
		/* Two controllers are one hierarchy, with links to it. */
		if (is_dir(dirfd(list), entry))
			r = take(root, entry->d_name, path);
	}
	if (list)
		closedir(list);
	return r;
}

bool oci_group_exists(const char *root, const char *path)
{
	return each_hierarchy(root, path, is_there) != 0;
}

int oci_group_remove(const char *root, const char *path)
{
	return each_hierarchy(root, path, remove_path);
}
