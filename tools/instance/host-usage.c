/* SPDX-License-Identifier: Apache-2.0 */
/* Reads /proc/PID: stat, smaps_rollup, io; see proc(5). */
#include "tools/instance/host-usage.h"

#include "tools/instance/instance.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define ROOM 4096

static bool read_file(pid_t pid, const char *name, char text[ROOM])
{
	char path[48];
	autofd int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	do {
		n = read(fd, text, ROOM - 1);
	} while (n < 0 && errno == EINTR);
	text[n > 0 ? n : 0] = '\0';
	return n > 0;
}

/* The number behind NAME at a line's beginning, or 0. */
static uint64_t number_of(const char *text, const char *name)
{
	const size_t n = strlen(name);

	for (; text; text = strchr(text, '\n'), text += text != NULL) {
		if (strncmp(text, name, n) == 0)
			return strtoull(text + n, NULL, 10);
	}
	return 0;
}

bool host_usage_read(pid_t pid, uint64_t start, struct host_usage *ret)
{
	const uint64_t tick_us = 1000000 / (uint64_t)sysconf(_SC_CLK_TCK);
	struct host_usage usage = {0};
	unsigned long user, kernel;
	char text[ROOM];
	const char *name_end;

	if (pid <= 1 || !read_file(pid, "stat", text))
		return false;
	name_end = strrchr(text, ')');
	if (!name_end ||
	    sscanf(name_end + 1,
		   " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
		   &user, &kernel) != 2)
		return false;
	usage.cpu_us = ((uint64_t)user + kernel) * tick_us;
	if (!read_file(pid, "smaps_rollup", text))
		return false;
	usage.rss = number_of(text, "Rss:") * KIB;
	usage.pss = number_of(text, "Pss:") * KIB;
	if (!read_file(pid, "io", text))
		return false;
	usage.read_bytes = number_of(text, "read_bytes:");
	usage.written_bytes = number_of(text, "write_bytes:");
	/* Last: its number may have become another process's. */
	if (instance_process_start(pid) != start)
		return false;
	*ret = usage;
	return true;
}
