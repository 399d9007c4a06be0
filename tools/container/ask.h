/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A monitor's parent asks it for something while its guest runs: to give the
 * guest a network or take it away, or to save the machine. The parent sends
 * requests, which carry descriptors of what is to be used, over a pair of
 * sockets that the monitor has from its birth on.
 */
#ifndef TOOLS_CONTAINER_ASK_H
#define TOOLS_CONTAINER_ASK_H

#include "vmm/base/sandbox.h"

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

/* The machine has started: see vm_end_record(). */
int ask_end_record(int fd);

/* ---- the monitor's */

/* Calls of ask_serve() besides those of the VM's functions, for vm_allow(). */
extern const struct sandbox_rule ask_syscalls[];
/*
 * Serves one request, when FD is readable. False: there will be no other. Any
 * thread.
 */
bool ask_serve(int fd, struct vm *vm);

#endif
