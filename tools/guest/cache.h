/* SPDX-License-Identifier: Apache-2.0 */
/* The user's cache: guest kernels that were built, or unpacked. */
#ifndef TOOLS_GUEST_CACHE_H
#define TOOLS_GUEST_CACHE_H

#include <stdbool.h>

/*
 * $BULKHEAD_CACHE, else $XDG_CACHE_HOME/bulkhead, else ~/.cache/bulkhead.
 * Allocated; NULL: the environment names none, or no memory.
 */
char *cache_dir(void);

/*
 * The directory NAME of the cache, made where it is missing, for files that are
 * believed because nobody else can have written them: it belongs to this user
 * alone. *RET_PATH is allocated. An open descriptor or -errno, not logged;
 * -EPERM: others may write there.
 */
int cache_open(const char *name, char **ret_path);

/* Whether FD is a regular file that nobody but this user may have written. */
bool cache_is_own(int fd);

#endif
