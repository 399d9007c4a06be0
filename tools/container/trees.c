/* SPDX-License-Identifier: Apache-2.0 */
/* One request after the other, each with a directory's descriptor. */
#include "tools/container/trees.h"

#include "devices/virtio/fs-trees.h"
#include "vmm/base/descriptors.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static_assert(sizeof(((struct fs_trees_answer *)0)->name) == TREES_NAME,
	      "as on the wire");

/* The monitor does nothing else with the share meanwhile. */
#define ANSWER_S 60

int trees_connect(const char *path, int *ret_fd)
{
	const struct timeval limit = {.tv_sec = ANSWER_S};
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (snprintf(un.sun_path, sizeof(un.sun_path), "%s", path) >=
	    (int)sizeof(un.sun_path))
		return log_ret(-ENAMETOOLONG, "'%s': too long for a socket",
			       path);
	if (fd < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) <
		    0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) <
		    0 ||
	    connect(fd, (const struct sockaddr *)&un, sizeof(un)) < 0)
		return log_ret(-errno, "'%s': %s", path, strerror(errno));
	*ret_fd = take_fd(&fd);
	return 0;
}

/*
 * A copy of the mount stays as it is when this process's mounts go; it takes
 * CAP_SYS_ADMIN in their user namespace. -errno.
 */
static int open_dir(const struct trees_dir *dir)
{
	const unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
	int fd;

	/* The file may be a mount of its own, in the directory. */
	if (dir->only)
		fd = open(dir->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	else
		fd = open_tree(AT_FDCWD, dir->path,
			       flags | (dir->nested ? AT_RECURSIVE : 0));
	return fd < 0 ? -errno : fd;
}

/* 0 or -errno: all of it goes at once, or the other side is gone. */
static int send_request(int fd, const struct fs_trees_request *req, int dir)
{
	const ssize_t n = descriptors_send(fd, req, sizeof(*req), &dir, 1);

	return n < 0 ? (int)n : n == sizeof(*req) ? 0 : -EPIPE;
}

static int receive_answer(int fd, struct fs_trees_answer *ret)
{
	ssize_t n;

	do {
		n = recv(fd, ret, sizeof(*ret), MSG_WAITALL);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? -ETIMEDOUT : -errno;
	if (n != sizeof(*ret))
		return -ECONNRESET;
	ret->name[sizeof(ret->name) - 1] = '\0';
	return ret->error;
}

int trees_add(int fd, const struct trees_dir *dir, char ret_name[TREES_NAME])
{
	struct fs_trees_request req = {
		.magic = FS_TREES_MAGIC,
		.flags = (dir->readonly ? FS_TREES_READONLY : 0U) |
			 (dir->nested ? 0U : FS_TREES_ALONE),
	};
	struct fs_trees_answer answer = {0};
	autofd int tree = -1;
	int r = 0;

	snprintf(req.what, sizeof(req.what), "%s", dir->path);
	if (dir->only && snprintf(req.only, sizeof(req.only), "%s",
				  dir->only) >= (int)sizeof(req.only))
		r = -ENAMETOOLONG;
	if (r == 0)
		r = tree = open_dir(dir);
	if (r >= 0)
		r = send_request(fd, &req, tree);
	if (r == 0)
		r = receive_answer(fd, &answer);
	if (r < 0)
		return log_ret(r, "'%s%s%s' for the running machine: %s%s",
			       dir->path, dir->only ? "/" : "",
			       dir->only ? dir->only : "", strerror(-r),
			       r == -E2BIG ? ": it has as many directories and "
					     "files of its containers as it can"
					   : "");
	memcpy(ret_name, answer.name, TREES_NAME);
	return 0;
}
