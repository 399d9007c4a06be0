/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The functions of rootfs-store.c (places and locks) that rootfs-record.c uses.
 */
#ifndef TOOLS_IMAGE_ROOTFS_RECORD_H
#define TOOLS_IMAGE_ROOTFS_RECORD_H

#include "tools/image/rootfs-parts.h"

#define STORE_TRASH_MAX (sizeof("trash-") + 16)

/* ---- rootfs-store.c */

/* For moments only; 0 or -errno, logged. */
int store_lock(struct store *store);
void store_unlock(struct store *store);

/*
 * Opens the directory NAME of the store and takes its hold, HOW as for flock().
 * 0 or -errno, not logged. With the store locked.
 */
int store_get(struct store *store, const char *name, int how,
	      struct stored *ret);

/*
 * Out of sight; tree_remove() of what it is called then does the work, without
 * the lock. 0 or -errno, not logged. With the store locked.
 */
int store_discard(struct store *store, const char *name,
		  char ret_trash[STORE_TRASH_MAX]);

/* Removes what killed processes left. Logs no error: it is not the user's. */
void store_sweep(struct store *store);

#endif
