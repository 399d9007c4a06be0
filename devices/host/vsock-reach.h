/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections from a guest to whatever programs listen on PATH_PORT of the host
 * (vsock-host.h), made by a process of their own: a system call filter does not
 * see paths, so a monitor that might connect to these sockets might connect to
 * any. This process can do nothing else, and is told a port, never a path.
 */
#ifndef DEVICES_HOST_VSOCK_REACH_H
#define DEVICES_HOST_VSOCK_REACH_H

#include "devices/host/vsock-host.h"
#include "vmm/base/sandbox.h"

struct vsock_reach {
	int fd;    /* owned; asks the process. -1: it was not started */
	pid_t pid; /* its; a child of this one */
};

/* Calls that the asking side makes once it is confined. */
extern const struct sandbox_rule vsock_reach_syscalls[];

/*
 * Starts the process for HOST, which is copied. It ends with this one, or by
 * vsock_reach_close(). NAME is for messages. 0 or -errno (logged). Main thread.
 */
int vsock_reach_open(struct vsock_reach *reach, const struct vsock_host *host,
		     const char *name);
/* Ends the process and waits for it. Accepts one that was not started. */
void vsock_reach_close(struct vsock_reach *reach);

/*
 * To PATH_PORT, without ever waiting for who listens there. The fd, which does
 * not block, or -errno; -EPIPE: the process is gone.
 */
int vsock_reach_connect(const struct vsock_reach *reach, uint32_t port);

#endif
