/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side of a vsock device: Unix sockets, by Firecracker's convention.
 * A program of the host connects to PATH, writes "CONNECT <port>\n" and reads
 * "OK <port of its own>\n"; a guest that connects to the host's port P reaches
 * the program that listens on PATH_P. Knows no guest and no packets.
 */
#ifndef DEVICES_HOST_VSOCK_HOST_H
#define DEVICES_HOST_VSOCK_HOST_H

#include "vmm/base/listener.h"

#include <stdint.h>

struct vsock_host {
	struct listener listener;
};

/*
 * Listens on PATH, for its owner only (mode 0600), in place of a socket that
 * nobody listens on any more. NAME is for messages. 0 or -errno (logged).
 */
int vsock_host_open(struct vsock_host *host, const char *path,
		    const char *name);
/* Removes the socket, if it is still the one that was made. */
void vsock_host_close(struct vsock_host *host);

/* The next connection, which does not block. The fd or -errno. */
int vsock_host_accept(const struct vsock_host *host);
/* To PATH_PORT, without ever waiting. The fd, not blocking, or -errno. */
int vsock_host_connect(const struct vsock_host *host, uint32_t port);

/* The first line of a connection, as far as it has come. */
struct vsock_greeting {
	char text[32]; /* "CONNECT 4294967295\n" and some room */
	uint8_t len;
};

/*
 * Reads on, and nothing behind the line. 1: the line is there, with its port.
 * 0: not yet. -errno: it is no such line, or there will be none.
 */
int vsock_greeting_read(struct vsock_greeting *greeting, int fd,
			uint32_t *ret_port);
/* Answers with "OK PORT\n". 0 or -errno. */
int vsock_greeting_answer(int fd, uint32_t port);

#endif
