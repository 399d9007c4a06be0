/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's lock owners of a file, each with the open file description that
 * holds its locks (fs-lock.c). When that is closed the locks are gone.
 */
#include "devices/fs/fs-parts.h"

#include <unistd.h>

struct fs_holder **fs_holder_find(struct fs_inode *inode,
				  const struct fs_lock_owner *owner)
{
	struct fs_holder **at = &inode->holders;

	while (*at && ((*at)->owner.id != owner->id ||
		       (*at)->owner.flock != owner->flock))
		at = &(*at)->next;
	return at;
}

void fs_holder_drop(struct fs *fs, struct fs_holder **at)
{
	struct fs_holder *holder = *at;

	*at = holder->next;
	close(holder->fd);
	fs_free(fs, holder, sizeof(*holder));
	fs_give(&fs->files, 1);
	fs->nholders--;
}

void fs_holder_drop_all(struct fs *fs, struct fs_inode *inode)
{
	while (inode->holders)
		fs_holder_drop(fs, &inode->holders);
}
