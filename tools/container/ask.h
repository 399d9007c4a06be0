/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a monitor does at its parent's word while its guest runs: it gives the
 * guest networks and takes them away, and saves its machine. The parent sends
 * requests, which carry descriptors of what is to be used, over a pair of
 * sockets that the monitor has from its birth on.
 */
#ifndef TOOLS_CONTAINER_ASK_H
#define TOOLS_CONTAINER_ASK_H

#include <stdbool.h>
#include <stdint.h>

struct virtio_plug;
struct vm;

/* The pair: the parent's end, and the monitor's. 0 or -errno, logged. */
int ask_open(int ret_ends[2]);

/*
 * The parent's side; one request at a time. 0 or -errno, not logged: what the
 * monitor's function said; -ECONNRESET: the monitor is gone; -ETIMEDOUT: it
 * does not answer.
 */

/*
 * Puts the tap of PLUG, whose descriptor stays the caller's, behind the
 * monitor's network device NUMBER (vm_plug()); or takes away what is there
 * (vm_unplug()).
 */
int ask_plug(int fd, unsigned number, const struct virtio_plug *plug);
int ask_unplug(int fd, unsigned number);
/*
 * Has the machine saved (vm_save()) as the snapshot ID, in FILES, which are the
 * caller's: of its state, and of its memory. The configuration is `saveable`.
 */
int ask_save(int fd, const uint8_t id[16], const int files[2]);

/* ---- the monitor's */

/*
 * Serves one request, when FD is readable. False: there will be no other. Any
 * thread, within the sandbox where the VM has a network device that is `spare`
 * or that joins an interface, or is saveable.
 */
bool ask_serve(int fd, struct vm *vm);

#endif
