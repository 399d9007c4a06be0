/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtual machine, from configuration to exit status. Start reading in
 * vm-build.c: vm_build() is a table of steps.
 */
#ifndef VMM_VM_H
#define VMM_VM_H

#include "vmm/base/sandbox.h"

#include <stdbool.h>
#include <stdint.h>

struct config;
struct snapshot;
struct vm;

/* Exit statuses of `bulkhead boot`. */
#define VM_EXIT_OK    0
#define VM_EXIT_CRASH 1 /* the guest crashed */
#define VM_EXIT_USAGE 2 /* bad usage or configuration */
#define VM_EXIT_HOST  3 /* the host cannot */
/* The snapshot is damaged, or does not fit; a user's mistake, for whom it is.
 */
#define VM_EXIT_SNAPSHOT 4

/*
 * Builds the machine CFG describes (borrowed, must outlive the VM). 0 and a VM,
 * or the exit status (VM_EXIT_USAGE, VM_EXIT_HOST) after one logged line.
 * Nothing is left behind on failure.
 */
int vm_build(const struct config *cfg, struct vm **ret_vm);
/*
 * The same, but the machine goes on where SNAPSHOT, borrowed until vm_start()
 * has returned, has it: CFG describes the same machine, whose devices may have
 * other things behind them. No kernel is loaded. Where something does not fit,
 * this fails (VM_EXIT_SNAPSHOT), or vm_start() does if it is about a device;
 * with one line.
 */
int vm_build_restored(const struct config *cfg, const struct snapshot *snapshot,
		      struct vm **ret_vm);
/*
 * System calls besides the monitor's own that threads of the caller's make when
 * the sandbox is around them; borrowed. Before vm_start(), once.
 */
void vm_allow(struct vm *vm, const struct sandbox_rule *rules);

struct loop_source;
/*
 * Has the main loop call SOURCE->fn when SOURCE->fd is readable: 0 or -errno.
 * And no longer: where that runs, or before vm_start(), or after vm_run().
 */
int vm_watch(struct vm *vm, struct loop_source *source);
void vm_unwatch(struct vm *vm, struct loop_source *source);

/*
 * Starts the guest: raw mode, the sandbox, a thread for each vCPU. 0 or -errno
 * (logged); then vm_run() is not for it, and vm_free() is. Main thread.
 */
int vm_start(struct vm *vm);
/* The exit status of that failure: VM_EXIT_SNAPSHOT, or VM_EXIT_HOST. */
int vm_exit_status(int error);
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

/*
 * Saves the machine as a snapshot's two files (vmm/snapshot.h), empty ones,
 * whose descriptors are borrowed; ID is random. The guest stands still
 * meanwhile, and goes on unless it was paused before. The configuration has a
 * `control`: else the sandbox does not let this do its work.
 *
 * 0, or -errno, -EINVAL among them for a part that cannot be saved: WHY says
 * what, and only that is logged. -EINTR: GONE_FD, a connection or -1, was
 * closed at its other end, or the machine is at its end. Otherwise as
 * vm_pause().
 */
struct vm_saved {
	uint64_t memory_bytes, state_bytes; /* written */
	uint64_t stood_ns;                  /* how long the guest stood still */
	char why[512];                      /* "": nothing more is known */
};
int vm_save(struct vm *vm, const uint8_t id[16], int state_fd, int memory_fd,
	    int gone_fd, struct vm_saved *saved);

/*
 * The same, as TO has it.
 *
 * With GOES_ON the guest stands still only while its state is read: that is
 * called with ARG, on this thread, when it goes on (or would, but that it was
 * paused before), and SAVED has how long it stood. Its RAM, as it was at that
 * instant, is written behind it by a process (vmm/memory-copy.h), which needs
 * as much memory as the guest writes to meanwhile; this returns when that is
 * done.
 *
 * With BASE_ID, what memory_fd has is a copy of the memory of the snapshot from
 * which this machine was started, or that it tracks since, with that identity:
 * only pages that have changed since are read and written. -ESTALE: that is
 * another one, or there is none.
 *
 * With TRACK_FD, that is the snapshot that is saved now, from here on: both
 * files are brought to the disk, and RAM is mapped from TRACK_FD before the
 * guest goes on. Not with GOES_ON, nor with huge pages: -EINVAL.
 */
struct vm_save_target {
	const uint8_t *id;      /* of 16 bytes */
	const uint8_t *base_id; /* of 16 bytes, or NULL */
	int state_fd, memory_fd, gone_fd;
	int track_fd; /* the file of memory_fd, open for reading; or -1 */
	void (*goes_on)(void *arg, const struct vm_saved *saved); /* or NULL */
	void *arg;
};
int vm_save_to(struct vm *vm, const struct vm_save_target *to,
	       struct vm_saved *saved);

/*
 * The record of which memory this start touches (vmm/working-set.h), if one is
 * made, ends here and not when its time is over: the file is written when this
 * returns. After vm_start(); otherwise as vm_pause().
 */
void vm_end_record(struct vm *vm);

struct virtio_plug;
/*
 * Puts a network behind the device net NUMBER (from 0, in the configuration's
 * order), which is absent (`spare`, or unplugged); or takes it away. See
 * virtio_plug() for what is taken and for errors; -ENOENT: no such device. As
 * with vm_pause(), but also to a guest that is paused.
 */
int vm_plug(struct vm *vm, unsigned number, const struct virtio_plug *plug);
int vm_unplug(struct vm *vm, unsigned number);

/*
 * Hides the network device NUMBER, between vm_build() and vm_start(): its place
 * is empty until vm_show() shows all that are hidden. 0 or -errno, not logged.
 * vm_show(): any thread, within the sandbox as well.
 */
int vm_hide(struct vm *vm, unsigned number);
void vm_show(struct vm *vm);

/*
 * Has a machine whose configuration `adopts`, and which runs, take over what
 * CFG has behind its devices: the same devices, none of which its guest has
 * looked at. CFG is borrowed as long as the VM is; FDS has a descriptor for
 * each device of CFG that vm_adopts() is true for: a directory, or a socket
 * that listens, else -1; the VM owns those that are -1 afterwards. PREPARED:
 * its guest has mounted its shares, which have to be those of CFG, and stay. 0,
 * or -errno, logged: it can only be ended. The main loop's thread.
 */
int vm_adopt(struct vm *vm, const struct config *cfg, int *fds, bool prepared);
struct config_device;
bool vm_adopts(const struct config_device *device, bool prepared);

/* Whether it ended as its guest rebooted. After vm_run(); VM may be NULL. */
bool vm_rebooted(struct vm *vm);

/* Also of one that runs, which ends. NULL is fine. */
void vm_free(struct vm *vm);

#endif
