/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where tests put their files: below TMPDIR, in a directory of a test's own
 * named bulkhead-test.*, which tests/run knows not to be the monitor's. A test
 * that makes files removes them: tests/run reports files that are left.
 */
#ifndef TESTS_TEMPDIR_H
#define TESTS_TEMPDIR_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The longest name with its end, so that a socket has room beside it. */
#define TEMPDIR_ROOM 64
#define TEMPDIR_MAX  40 /* of TMPDIR */

/*
 * A template for mkdtemp() and mkstemp(), below TMPDIR, or DIR if that is not
 * set. The test ends when TMPDIR is too long.
 */
static inline void tempdir_below(char ret[TEMPDIR_ROOM], const char *dir)
{
	const char *wanted = getenv("TMPDIR");

	if (wanted && wanted[0])
		dir = wanted;
	if (strlen(dir) > TEMPDIR_MAX) {
		fprintf(stderr,
			"TMPDIR='%s': too long for the sockets of tests, "
			"at most %d bytes: set another\n",
			dir, TEMPDIR_MAX);
		exit(99);
	}
	snprintf(ret, TEMPDIR_ROOM, "%s/bulkhead-test.XXXXXX", dir);
}

static inline void tempdir_name(char ret[TEMPDIR_ROOM])
{
	tempdir_below(ret, "/tmp");
}

/* For direct I/O, holes and the like, which a /tmp in memory may not have. */
static inline void tempdir_name_on_disk(char ret[TEMPDIR_ROOM])
{
	tempdir_below(ret, "/var/tmp");
}

/* For what syncs its file system, or makes very many files. */
static inline void tempdir_name_in_memory(char ret[TEMPDIR_ROOM])
{
	tempdir_below(ret, access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
}

/*
 * A file without a name, in memory. NULL: there is none. Writes append: else
 * Linux loses one of two at once there.
 */
static inline FILE *tempdir_file(void)
{
	const int fd = memfd_create("test", MFD_CLOEXEC);

	return fd < 0 || fcntl(fd, F_SETFL, O_APPEND) < 0 ? NULL
							  : fdopen(fd, "a+");
}

/* A directory, and the path of the file in it that the test is about. */
struct tempdir {
	char dir[TEMPDIR_ROOM], path[TEMPDIR_ROOM + 16];
};

/* NAME is the file's; it is not made. False: there is no directory. */
static inline bool tempdir_make(struct tempdir *t, const char *name)
{
	tempdir_name(t->dir);
	if (!mkdtemp(t->dir))
		return false;
	snprintf(t->path, sizeof(t->path), "%s/%s", t->dir, name);
	return true;
}

/* False: it is not empty. */
static inline bool tempdir_remove(const struct tempdir *t)
{
	return rmdir(t->dir) == 0;
}

#endif
