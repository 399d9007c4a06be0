/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether an image lacks the user or a group that a process is to have. The
 * guest's agent decides; this tells its answer apart from a template that is
 * damaged.
 */
#include "tools/container/run.h"

#include "firmware/init/users.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>

#define PATH_ROOM 32

/*
 * RET is a path of the file NAME of the image, whose links stay in it, as long
 * as *RET_FD is open; "": there is none. 0 or -errno, not logged.
 */
static int find_file(int root, const char *name, char ret[PATH_ROOM],
		     int *ret_fd)
{
	const int fd = util_openat2(root, name, O_PATH,
				    RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);

	ret[0] = '\0';
	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR ? 0 : fd;
	snprintf(ret, PATH_ROOM, "/proc/self/fd/%d", fd);
	*ret_fd = fd;
	return 0;
}

bool run_user_is_missing(const struct rootfs *root,
			 const struct spec_process *process)
{
	const struct text_list *groups = &process->user.additional_gids;
	autofd int dir = root->digest ? open(root->path,
					     O_PATH | O_DIRECTORY | O_CLOEXEC)
				      : -1;
	char passwd[PATH_ROOM], group[PATH_ROOM], number[24];
	autofd int passwd_fd = -1, group_fd = -1;
	struct init_failure failure;
	struct init_user user;

	return dir >= 0 &&
	       find_file(dir, "etc/passwd", passwd, &passwd_fd) == 0 &&
	       find_file(dir, "etc/group", group, &group_fd) == 0 &&
	       users_resolve(passwd, group,
			     spec_user_text(&process->user, number),
			     text_list_items(groups), &user, &failure) < 0;
}
