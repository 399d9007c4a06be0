/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A directory of a test's own, and the path of the file in it that the test is
 * about. Whoever makes more files removes them: what is left behind shows.
 */
#ifndef TESTS_TEMPDIR_H
#define TESTS_TEMPDIR_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct tempdir {
	char dir[32], path[48];
};

/* NAME is the file's; it is not made. False: there is no directory. */
static inline bool tempdir_make(struct tempdir *t, const char *name)
{
	snprintf(t->dir, sizeof(t->dir), "/tmp/bulkhead-test.XXXXXX");
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
