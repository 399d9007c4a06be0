/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures what users notice of a file system's speed: looking through a tree,
 * reading all of it, reading here and there in a large file, making and
 * removing small ones, running a command that does all of that. Each says "fact
 * fs NAME NUMBER UNIT".
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BLOCK 4096u

static unsigned long entries, bytes;
static char buffer[128u << 10];

static int count_entry(const char *path, const struct stat *st, int type,
		       struct FTW *ftw)
{
	(void)path;
	(void)st;
	(void)type;
	(void)ftw;
	entries++;
	return 0;
}

static int read_entry(const char *path, const struct stat *st, int type,
		      struct FTW *ftw)
{
	int fd;
	ssize_t n;

	(void)ftw;
	if (type != FTW_F || !S_ISREG(st->st_mode))
		return 0;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 1;
	while ((n = read(fd, buffer, sizeof(buffer))) > 0)
		bytes += (unsigned long)n;
	close(fd);
	entries++;
	return n < 0;
}

static int walk(const char *dir, const char *name, __nftw_func_t fn)
{
	const double start = guest_now();

	entries = bytes = 0;
	if (nftw(dir, fn, 32, FTW_PHYS))
		return guest_fail("fsbench: %s", dir);
	say("fact fs %s %.3f s, %lu entries, %lu KiB", name,
	    guest_now() - start, entries, bytes >> 10);
	return 0;
}

/* As find(1) and tar(1) go through a tree; the second time what is cached. */
static int do_fswalk(char **arg)
{
	if (walk(arg[0], "find", count_entry) ||
	    walk(arg[0], "find_again", count_entry) ||
	    walk(arg[0], "tar", read_entry))
		return -1;
	return walk(arg[0], "tar_again", read_entry);
}

/* fsrandom:FILE:READS */
static int do_fsrandom(char **arg)
{
	const int fd = open(arg[0], O_RDONLY | O_DIRECT | O_CLOEXEC);
	const unsigned count = (unsigned)guest_number(arg[1]);
	void *block = aligned_alloc(BLOCK, BLOCK);
	uint64_t random = 88172645463325252;
	struct stat st;
	double start;

	if (fd < 0 || !block || fstat(fd, &st))
		return guest_fail("fsrandom: %s", arg[0]);
	start = guest_now();
	for (unsigned i = 0; i < count; i++) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		if (pread(fd, block, BLOCK,
			  (off_t)(random % ((uint64_t)st.st_size / BLOCK) *
				  BLOCK)) != BLOCK)
			return guest_fail("fsrandom: read");
	}
	say("fact fs random %.0f IOPS", count / (guest_now() - start));
	close(fd);
	free(block);
	return 0;
}

/* fsread:FILE, from its begin to its end */
static int do_fsread(char **arg)
{
	const int fd = open(arg[0], O_RDONLY | O_CLOEXEC);
	const double start = guest_now();
	double seconds;
	ssize_t n;

	if (fd < 0)
		return guest_fail("fsread: %s", arg[0]);
	bytes = 0;
	while ((n = read(fd, buffer, sizeof(buffer))) > 0)
		bytes += (unsigned long)n;
	seconds = guest_now() - start;
	close(fd);
	say("fact fs read %.1f MiB/s", (double)bytes / 1048576 / seconds);
	return n < 0 ? guest_fail("fsread: read") : 0;
}

/* fsmake:DIR:FILES */
static int do_fsmake(char **arg)
{
	const int count = (int)guest_number(arg[1]);
	double start = guest_now();
	char path[PATH_MAX];

	if (mkdir(arg[0], 0755))
		return guest_fail("fsmake: %s", arg[0]);
	for (int i = 0; i < count; i++) {
		int fd;

		snprintf(path, sizeof(path), "%s/%d", arg[0], i);
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		if (fd < 0 || write(fd, buffer, BLOCK) != BLOCK || close(fd))
			return guest_fail("fsmake: %s", path);
	}
	say("fact fs make %.0f files/s", count / (guest_now() - start));
	start = guest_now();
	for (int i = 0; i < count; i++) {
		snprintf(path, sizeof(path), "%s/%d", arg[0], i);
		if (unlink(path))
			return guest_fail("fsmake: %s", path);
	}
	say("fact fs remove %.0f files/s", count / (guest_now() - start));
	return rmdir(arg[0]);
}

/* fsfiles:make|read|remove:DIR:FILES, each of 4 KiB, named from 0 on */
static int do_fsfiles(char **arg)
{
	const bool makes = strcmp(arg[0], "make") == 0;
	const int count = (int)guest_number(arg[2]);
	char path[PATH_MAX];

	for (int i = 0; i < count; i++) {
		ssize_t n;
		int fd;

		snprintf(path, sizeof(path), "%s/%d", arg[1], i);
		if (strcmp(arg[0], "remove") == 0) {
			if (unlink(path))
				return guest_fail("fsfiles: %s", path);
			continue;
		}
		fd = open(path,
			  O_CLOEXEC | (makes ? O_WRONLY | O_CREAT | O_EXCL
					     : O_RDONLY),
			  0644);
		n = makes ? write(fd, buffer, BLOCK) : read(fd, buffer, BLOCK);
		if (n != BLOCK || close(fd))
			return guest_fail("fsfiles: %s", path);
	}
	return 0;
}

/*
 * fstime:NAME:ROOT:PROGRAM:ARGUMENT...: how long it takes with ROOT as its
 * root; what it says is written, but nowhere to
 */
static int do_fstime(char **arg)
{
	const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	const double start = guest_now();
	int status = -1;
	const pid_t pid = fork();

	if (pid == 0) {
		setenv("PATH", "/usr/bin:/bin", 1);
		if (dup2(null, 1) == 1 && chroot(arg[1]) == 0 &&
		    chdir("/") == 0)
			execv(arg[2], arg + 2);
		_exit(127);
	}
	close(null);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		return guest_fail("%s: wait status %#x", arg[2], status);
	say("fact fs %s %.3f s", arg[0], guest_now() - start);
	return 0;
}

static int do_fsrun(char **arg)
{
	char name[] = "run", *named[GUEST_ARGS + 2] = {name};

	for (unsigned i = 0; i < GUEST_ARGS && arg[i]; i++)
		named[i + 1] = arg[i];
	return do_fstime(named);
}

const struct action fsbench_actions[] = {
	{"fswalk", 1, do_fswalk, "DIR"},
	{"fsread", 1, do_fsread, "FILE"},
	{"fsrandom", 2, do_fsrandom, "FILE:READS"},
	{"fsmake", 2, do_fsmake, "DIR:FILES"},
	{"fsfiles", 3, do_fsfiles, "make|read|remove:DIR:FILES"},
	{"fsrun", 2, do_fsrun, "ROOT:PROGRAM[:ARGUMENT]..."},
	{"fstime", 3, do_fstime, "NAME:ROOT:PROGRAM[:ARGUMENT]..."},
	{NULL, 0, NULL, NULL},
};
