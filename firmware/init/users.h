/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names and numbers of users and groups, from a container's own /etc/passwd
 * and /etc/group, which may hold anything.
 */
#ifndef FIRMWARE_INIT_USERS_H
#define FIRMWARE_INIT_USERS_H

#include "firmware/init/failure.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define USERS_GROUPS_MAX 128
#define USERS_NAME_MAX   63

struct init_user {
	uid_t uid;
	gid_t gid;
	gid_t groups[USERS_GROUPS_MAX]; /* supplementary */
	size_t ngroups;
	char home[256];
};

/*
 * SPEC is "user[:group]", names or numbers; NULL is root. MORE are further
 * groups, ending with NULL, or NULL. 0, or -1 with the failure filled in.
 */
int users_resolve(const char *passwd_path, const char *group_path,
		  const char *spec, const char *const *more,
		  struct init_user *ret, struct init_failure *f);

/*
 * The first name of that number, cut to its length. False: there is none, or it
 * is behind more than a reasonable file has.
 */
bool users_name(const char *passwd_path, uint32_t uid,
		char ret[USERS_NAME_MAX + 1]);

#endif
