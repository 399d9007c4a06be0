/* SPDX-License-Identifier: Apache-2.0 */
/* The test guest's longer runs on a file system; for fs.c. */
#ifndef TESTS_GUEST_FS_H
#define TESTS_GUEST_FS_H

#include "guest.h"

#include <errno.h>
#include <sys/types.h>

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

/* An ordinary user. */
#define USER  1000u
#define GROUP 2000u
/* Runs FN as that user, in a process of its own. */
int as_user(int (*fn)(void));

/* A new file with TEXT in it. 0 or -1. */
int make_file(const char *name, mode_t mode, const char *text);
/* 0: there is none. */
mode_t mode_of(const char *name);

/* Run in a fresh directory. */
struct fs_test {
	const char *name;
	int (*run)(void);
};
/* Ends with a NULL name. */
extern const struct fs_test fs_more_tests[];

/* list:DIR:COUNT: files 1 to COUNT are there */
int do_list(char **arg);
/* handles:DIR */
int do_handles(char **arg);
/* acl:DIR */
int do_acl(char **arg);
/* noacl:DIR */
int do_noacl(char **arg);
/* fsx:FILE:OPERATIONS:SEED */
int do_fsx(char **arg);
/* tree:DIR:DIRECTORIES:FILES */
int do_tree(char **arg);

#endif
