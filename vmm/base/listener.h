/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Unix socket that listens at a path, for its owner only, and connections to
 * such sockets. They do not block.
 */
#ifndef VMM_BASE_LISTENER_H
#define VMM_BASE_LISTENER_H

#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

/* The type of every socket here. */
#define LISTENER_SOCKET (SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK)

struct listener {
	char *path; /* owned */
	int fd;     /* owned; -1: not open */
	/* which file that made: what is at PATH later may be another's */
	dev_t device;
	ino_t inode;
};

/*
 * Listens on PATH (mode 0600), in place of a socket that nobody listens on any
 * more. ROOM: so many bytes may be put behind the path for other sockets. NAME
 * is for messages. 0 or -errno (logged).
 */
int listener_open(struct listener *listener, const char *path, size_t room,
		  const char *name);
/*
 * Takes over the socket FD, which another process listens on at PATH. 0; or
 * -errno, not logged, and FD is still the caller's.
 */
int listener_adopt(struct listener *listener, const char *path, int fd);
/* Removes the socket, if it is still the one that was made. Accepts what a
 * failed listener_open() left. */
void listener_close(struct listener *listener);

/* The next connection. The fd or -errno. */
int listener_accept(const struct listener *listener);
/* To PATH, which fits into an address, without ever waiting. The fd or -errno.
 */
int listener_connect(const char *path);

#endif
