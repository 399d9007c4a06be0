/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Networks that a monitor's guest gets and loses while it runs: its parent
 * sends requests, each of which may carry a tap's descriptor, over a pair of
 * sockets that the monitor has from its birth on.
 */
#ifndef TOOLS_CONTAINER_PLUG_H
#define TOOLS_CONTAINER_PLUG_H

#include <stdbool.h>

struct virtio_plug;
struct vm;

/* The pair: the parent's end, and the monitor's. 0 or -errno, logged. */
int plug_open(int ret_ends[2]);

/* ---- the parent's side; one request at a time */

/*
 * Puts the tap of PLUG, whose descriptor stays the caller's, behind the
 * monitor's network device NUMBER; or takes away what is there. 0 or -errno,
 * not logged: vm_plug()'s and vm_unplug()'s; -ECONNRESET: the monitor is gone;
 * -ETIMEDOUT: it does not answer.
 */
int plug_add(int fd, unsigned number, const struct virtio_plug *plug);
int plug_remove(int fd, unsigned number);

/* ---- the monitor's */

/*
 * Serves one request, when FD is readable. False: there will be no other. Any
 * thread, within the sandbox where the VM has a network device that is `spare`
 * or that joins an interface.
 */
bool plug_serve(int fd, struct vm *vm);

#endif
