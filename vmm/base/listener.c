/* SPDX-License-Identifier: Apache-2.0 */
/* A listening Unix socket, which is removed if it is still its own. */
#include "vmm/base/listener.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define BACKLOG 128

static int stream_socket(void)
{
	const int fd = socket(AF_UNIX, LISTENER_SOCKET, 0);

	return fd < 0 ? -errno : fd;
}

static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	return un;
}

/*
 * connect() on a Unix socket is done when it returns: a socket that does not
 * block gives EAGAIN where the listener's backlog is full.
 */
int listener_connect(const char *path)
{
	const struct sockaddr_un un = address(path);
	autofd int fd = stream_socket();

	if (fd < 0)
		return fd;
	if (connect(fd, (const struct sockaddr *)&un, sizeof(un)) < 0)
		return -errno;
	return take_fd(&fd);
}

/* Removes a socket that a killed monitor left behind. */
static int remove_stale(const char *path, const char *name)
{
	struct stat st;
	int fd;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return log_ret(-EEXIST,
			       "%s: '%s' is there already, and is no socket",
			       name, path);
	fd = listener_connect(path);
	if (fd == -ECONNREFUSED)
		return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
	/*
	 * It is another user's: there is no way to tell whether it is in use.
	 */
	if (fd == -EACCES || fd == -EPERM)
		return fd;
	util_close(&fd);
	return log_ret(-EADDRINUSE, "%s: socket '%s' is in use", name, path);
}

static int listen_on(struct listener *listener)
{
	const struct sockaddr_un un = address(listener->path);
	struct stat st;

	listener->fd = stream_socket();
	if (listener->fd < 0)
		return listener->fd;
	/* The file gets the socket's own mode: at no time may others connect.
	 */
	if (fchmod(listener->fd, 0600) < 0 ||
	    bind(listener->fd, (const struct sockaddr *)&un, sizeof(un)) < 0)
		return -errno;
	if (lstat(listener->path, &st) < 0)
		return -errno;
	listener->device = st.st_dev;
	listener->inode = st.st_ino;
	return listen(listener->fd, BACKLOG) < 0 ? -errno : 0;
}

int listener_open(struct listener *listener, const char *path, size_t room,
		  const char *name)
{
	const size_t most = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;
	int r;

	*listener = (struct listener){.fd = -1};
	if (strlen(path) + room > most)
		return log_ret(-ENAMETOOLONG,
			       "%s: '%s' is too long for a socket: use at most "
			       "%zu bytes",
			       name, path, most - room);
	listener->path = strdup(path);
	if (!listener->path)
		return log_ret(-ENOMEM, "%s: out of memory", name);
	r = remove_stale(path, name);
	if (r == -EEXIST || r == -EADDRINUSE)
		return r;
	if (r == 0)
		r = listen_on(listener);
	return r < 0 ? log_ret(r, "%s: socket '%s': %s", name, path,
			       strerror(-r))
		     : 0;
}

int listener_adopt(struct listener *listener, const char *path, int fd)
{
	char *copy = strdup(path);
	struct stat st;

	if (!copy)
		return -ENOMEM;
	if (lstat(path, &st) < 0) {
		free(copy);
		return -errno;
	}
	*listener = (struct listener){
		.path = copy,
		.fd = fd,
		.device = st.st_dev,
		.inode = st.st_ino,
	};
	return 0;
}

void listener_close(struct listener *listener)
{
	struct stat st;

	if (listener->inode != 0 && lstat(listener->path, &st) == 0 &&
	    st.st_dev == listener->device && st.st_ino == listener->inode)
		(void)unlink(listener->path);
	util_close(&listener->fd);
	free(listener->path);
	*listener = (struct listener){.fd = -1};
}

int listener_accept(const struct listener *listener)
{
	const int fd =
		accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	return fd < 0 ? -errno : fd;
}
