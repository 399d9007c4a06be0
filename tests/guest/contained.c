/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Acts as a hostile process in a container: as many processes as it can get,
 * and a look into every one that is new there, as soon as it can.
 */
#include "guest.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Prints a line once and forks for ever; each child does the same. */
static int bomb(char **arg)
{
	(void)arg;
	signal(SIGCHLD, SIG_IGN);
	say("bomb");
	for (;;) {
		if (fork() < 0 && errno == ENOSYS)
			return guest_fail("fork");
	}
}

/*
 * Files that the process PID has open and that a process of the container
 * cannot have.
 */
static void look(const char *pid)
{
	char path[300], link[300];
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		ssize_t n = readlinkat(dirfd(dir), entry->d_name, link,
				       sizeof(link) - 1);

		if (n <= 0)
			continue;
		link[n] = 0;
		if (strstr(link, "signalfd") || strstr(link, "kmsg") ||
		    strstr(link, "/console") || strstr(link, "mnt:"))
			say("saw %s", link);
	}
	if (dir)
		closedir(dir);
}

/*
 * spy:SECONDS: looks at all processes but itself. Says how many of them had
 * something open that could be looked at, so that a test knows it has looked.
 */
static int spy(char **arg)
{
	const double end = guest_now() + (double)guest_number(arg[0]);
	const int own = getpid();
	unsigned long looks = 0;

	say("spying");
	while (guest_now() < end) {
		struct dirent *entry;
		DIR *proc = opendir("/proc");

		while (proc && (entry = readdir(proc))) {
			const int pid = atoi(entry->d_name);

			if (pid <= 1 || pid == own)
				continue;
			look(entry->d_name);
			looks++;
		}
		if (proc)
			closedir(proc);
	}
	say("fact looks %lu", looks);
	return 0;
}

const struct action contained_actions[] = {
	{"bomb", 0, bomb, "forks for ever"},
	{"spy", 1, spy, "SECONDS: looks into other processes' descriptors"},
	{NULL, 0, NULL, NULL},
};
