/* SPDX-License-Identifier: Apache-2.0 */
/* The test guest's longer runs on a file system; for fs.c. */
#ifndef TESTS_GUEST_FS_H
#define TESTS_GUEST_FS_H

#include "guest.h"

#include <errno.h>

/* A promise: COND is true. */
#define MUST(cond)                                                             \
	do {                                                                   \
		if (!(cond))                                                   \
			return guest_fail("%s: line %d: %s", __func__,         \
					  __LINE__, #cond);                    \
	} while (0)
/* A promise: CALL fails with ERROR. */
#define REFUSED(call, error)                                                   \
	do {                                                                   \
		errno = 0;                                                     \
		if ((call) != -1 || errno != (error))                          \
			return guest_fail("%s: line %d: %s, not %s", __func__, \
					  __LINE__, #call, #error);            \
	} while (0)

/* fsx:FILE:OPERATIONS:SEED */
int do_fsx(char **arg);
/* tree:DIR:DIRECTORIES:FILES */
int do_tree(char **arg);

#endif
