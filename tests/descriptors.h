/* SPDX-License-Identifier: Apache-2.0 */
/* Tests look whether descriptors stay open. */
#ifndef TESTS_DESCRIPTORS_H
#define TESTS_DESCRIPTORS_H

#include <dirent.h>
#include <stdlib.h>

/* Entries of /proc/self/fd: for comparisons, a few more than are open. */
static inline unsigned open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	if (!dir)
		abort();
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

#endif
