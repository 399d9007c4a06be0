/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtual machine, from configuration to exit status. Start reading in
 * vm-build.c: vm_build() is a table of steps.
 */
#ifndef VMM_VM_H
#define VMM_VM_H

#include <stdbool.h>
#include <stdint.h>

struct config;
struct vm;

/* Exit statuses of `bulkhead boot`. */
#define VM_EXIT_OK    0
#define VM_EXIT_CRASH 1 /* the guest crashed */
#define VM_EXIT_USAGE 2 /* bad usage or configuration */
#define VM_EXIT_HOST  3 /* the host cannot */

/*
 * Builds the machine CFG describes (borrowed, must outlive the VM). 0 and a VM,
 * or the exit status (VM_EXIT_USAGE, VM_EXIT_HOST) after one logged line.
 * Nothing is left behind on failure.
 */
int vm_build(const struct config *cfg, struct vm **ret_vm);

/*
 * Starts the guest: raw mode, the sandbox, a thread for each vCPU. 0 or -errno
 * (logged); then vm_run() is not for it, and vm_free() is. Main thread.
 */
int vm_start(struct vm *vm);
/* Runs it to its end, after vm_start() if that was not called: the exit status.
 * Main thread. */
int vm_run(struct vm *vm);

/*
 * The guest stands still when vm_pause() returns, until vm_resume(): no vCPU
 * executes, no device touches its memory, holds a buffer of its queues or has
 * I/O under way. All of its state is in KVM, in its memory and in the devices'
 * structures. It does not notice, but that time has passed: its clocks go on,
 * timers that were due meanwhile are due when it goes on, connections and
 * terminals wait. SIGTERM and the terminal's escape key still end it.
 *
 * 0; -EALREADY: it is in that state already; -ESHUTDOWN: it has not started, or
 * is at its end. Any thread but a vCPU's and a device's, holding no lock of
 * theirs; it has to be done with both before vm_free(). Takes as long as the
 * requests that disks have under way.
 */
int vm_pause(struct vm *vm);
int vm_resume(struct vm *vm);

struct virtio_plug;
/*
 * Puts a network behind the device net NUMBER (from 0, in the configuration's
 * order), which is absent (`spare`, or unplugged); or takes it away. See
 * virtio_plug() for what is taken and for errors; -ENOENT: no such device. As
 * with vm_pause(), but also to a guest that is paused.
 */
int vm_plug(struct vm *vm, unsigned number, const struct virtio_plug *plug);
int vm_unplug(struct vm *vm, unsigned number);

/* Whether it ended as its guest rebooted. After vm_run(); VM may be NULL. */
bool vm_rebooted(struct vm *vm);

void vm_free(struct vm *vm); /* NULL is fine */

#endif
