/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shares of trees that come and go: mounted in the agent's root, seen from
 * there by a container that is being made, and by none that runs.
 */
#include "firmware/init/container.h"

#include "firmware/init/mount.h"
#include "firmware/init/share.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* A tag has up to 36 bytes. */
#define PATH_ROOM 64

static void share_path(const char *tag, char ret[PATH_ROOM])
{
	snprintf(ret, PATH_ROOM, "/share-%s", tag);
}

static int prepare(const char *tag, struct init_failure *f)
{
	autofd int mount = -1;
	char path[PATH_ROOM];
	struct stat st;

	if (strchr(tag, '/') || strlen(tag) > 36)
		return init_fail_path(f, EINVAL, "mount share", tag);
	share_path(tag, path);
	if (stat(path, &st) == 0)
		return 0;
	mount = share_mount(tag, f);
	if (mount < 0)
		return -1;
	if (mount_attach_at(mount, path, f)) {
		(void)rmdir(path);
		return -1;
	}
	return 0;
}

int container_prepare(const struct init_config *c, struct init_failure *f)
{
	if (prepare(c->root_tag, f))
		return -1;
	for (size_t i = 0; i < c->nmounts; i++) {
		if (c->mounts[i].kind == AGENT_MOUNT_SHARE &&
		    prepare(c->mounts[i].type, f))
			return -1;
	}
	return 0;
}

int container_tree(const char *tag, const char *path, struct init_failure *f)
{
	char at[PATH_ROOM];
	autofd int share = -1;
	autofd int tree = -1;
	int copy;

	share_path(tag, at);
	share = open(at, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (share < 0)
		return init_fail_path(f, errno, "open share", tag);
	tree = root_open_source(share, path);
	copy = tree < 0 ? tree : mount_copy(tree, true);
	return copy < 0 ? init_fail_path(f, -copy, "open in the share", path)
			: copy;
}

static void hide(const char *tag)
{
	char path[PATH_ROOM];

	share_path(tag, path);
	(void)umount2(path, MNT_DETACH);
}

void container_hide_trees(const struct init_config *c)
{
	hide(c->root_tag);
	for (size_t i = 0; i < c->nmounts; i++) {
		if (c->mounts[i].kind == AGENT_MOUNT_SHARE)
			hide(c->mounts[i].type);
	}
}
