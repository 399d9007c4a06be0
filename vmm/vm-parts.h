/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtual machine's state, for the files that make it: vm-build.c (the steps,
 * KVM, memory, vCPUs), vm-devices.c, vm-boot.c (what the guest finds when it
 * starts) and vm.c (its life). Nothing else includes this.
 */
#ifndef VMM_VM_PARTS_H
#define VMM_VM_PARTS_H

#include "vmm/vm.h"

#include "devices/fs/fs.h"
#include "devices/host/terminal.h"
#include "devices/platform/platform.h"
#include "devices/virtio/virtio-mmio.h"
#include "devices/virtio/virtio.h"
#include "firmware/machine.h"
#include "vmm/base/bus.h"
#include "vmm/base/kvm.h"
#include "vmm/base/loop.h"
#include "vmm/base/mem.h"
#include "vmm/base/stop.h"
#include "vmm/base/visit.h"
#include "vmm/cpu/vcpu.h"
#include "vmm/kernel/kimage.h"
#include "vmm/memory-copy.h"
#include "vmm/pager.h"
#include "vmm/snapshot.h"
#include "vmm/working-set.h"

#include <pthread.h>
#include <signal.h>

struct vm {
	const struct config *cfg; /* borrowed */
	/* Borrowed; NULL: it boots a kernel. */
	const struct snapshot *snapshot;
	struct visitor loading;           /* of the snapshot's state */
	const struct sandbox_rule *allow; /* borrowed; vm_allow() */
	char *directory; /* owned: where relative paths began */
	int pagemap_fd;  /* owned: for vm_save_to(), or -1 */
	int file_fd;     /* owned, too: what RAM is mapped from, or -1 */
	int oom_fd;      /* owned: this process's oom_score_adj, or -1 */
	char oom_adj[8]; /* what it was */
	/* The snapshot that RAM is mapped from, privately, if any. */
	struct vm_base {
		bool exists;
		uint8_t id[SNAPSHOT_ID_BYTES];
		uint64_t memory_sum;
	} base;
	uint64_t born_ns;

	struct kvm kvm;
	struct mem mem;
	struct pager pager; /* of RAM that is not a snapshot's file, mapped */
	struct working_set_task working_set;
	struct bus bus;
	struct loop loop;
	struct loop_timer started; /* the start is over: see vm_start() */
	struct stop stop;
	struct loop_source signals; /* fd: signalfd, owned */
	sigset_t signals_before;
	bool signals_blocked;

	pthread_t cpu_thread; /* creates irqchip and vCPUs */
	bool cpu_thread_started;
	int cpu_result;

	struct machine machine;
	char command_line[MACHINE_CMDLINE_MAX];
	struct kimage image;
	struct vcpu_start start;
	gpa_t rsdp_gpa;

	struct terminal terminal;
	bool has_terminal, has_serial;
	struct serial serial;
	struct i8042 i8042;
	struct vmgenid vmgenid;
	struct fs_budget files; /* of all shares */
	struct virtio_dev *virtio[MACHINE_VIRTIO_MAX];
	struct virtio_mmio mmio[MACHINE_VIRTIO_MAX];
	unsigned nvirtio;
	/* Mapped for the guest: virtio register pages, then VMGenID's. */
	uint8_t *pages;
	size_t pages_bytes;

	struct vcpu *vcpu; /* cfg->cpus of them */
	unsigned nvcpus;
	struct assist *assist; /* on interpreting hosts only */

	pthread_mutex_t life_lock; /* of `life`, held while it changes */
	enum vm_life {
		VM_BUILT, /* no vCPU runs */
		VM_RUNS,
		VM_PAUSED,
		VM_ENDED, /* the threads of the vCPUs are gone for good */
	} life;
	bool rebooted;
};

/*
 * Steps of vm_build(), in vm-build.c's order, on the main thread. Each returns
 * 0 or -errno (logged) and may leave half of its work: vm_free() takes it down.
 */

/* vm.c: signals become events of the main loop. */
int vm_build_signals(struct vm *vm);
/* Undoes that; also where it was never done. */
void vm_done_signals(struct vm *vm);

/* vm-state.c: opens now what the sandbox lets vm_save() not open later. */
int vm_build_saving(struct vm *vm);

/*
 * vm.c: the threads of the vCPUs are gone when it returns, also from a pause.
 * Nothing pauses after it, nor goes on.
 */
void vm_end(struct vm *vm);

/* vm-boot.c: kernel and initrd into guest memory. */
int vm_build_kernel(struct vm *vm);
int vm_build_initrd(struct vm *vm);
/* The boot CPU's registers; whether this host interprets guest kernels. */
int vm_build_assist(struct vm *vm);
/* This host does. */
int vm_use_assist(struct vm *vm);
/* The command line, and the tables that describe the finished machine. */
int vm_build_firmware(struct vm *vm);

/* vm-devices.c: the user's terminal, if the guest has a console. */
int vm_build_terminal(struct vm *vm);
/* The devices that are not virtio, on the bus. */
int vm_build_platform(struct vm *vm);
/* Opens the files of virtio devices; memory is in place. */
int vm_build_virtio(struct vm *vm);
/* Puts them behind their registers; the irqchip is there. */
int vm_attach_virtio(struct vm *vm);
/* All devices of a guest whose vCPUs stand still; and back again. */
void vm_pause_devices(struct vm *vm);
void vm_resume_devices(struct vm *vm);

/* vm-state.c: vm_save() and vm_save_to() in three steps. */
struct vm_saving {
	struct vm *vm;
	const struct vm_save_target *to; /* borrowed */
	struct vm_saved *saved;          /* borrowed */
	struct snapshot snapshot;        /* its parts borrowed from here */
	char *config;                    /* owned */
	struct visitor state;            /* owned */
	struct memory_copy copy;
	bool has_all; /* in both files */
};
/* The calls that they make. */
extern const struct sandbox_rule vm_save_syscalls[];
/* Whether nobody wants the rest of SAVING, which ARG is, any more. */
bool vm_saving_is_over(void *saving);
/* While the guest may still run. vm_saving_done() takes what this left. */
int vm_saving_begin(struct vm_saving *saving);
/* It is paused; life_lock is held. All that it takes is taken then. */
int vm_saving_take(struct vm_saving *saving);
/* The guest may run: the rest. */
int vm_saving_finish(struct vm_saving *saving);
void vm_saving_done(struct vm_saving *saving);

/*
 * vm-state.c: the state that vm->snapshot has of vCPUs and chips, when they are
 * made; and of the devices, behind the sandbox, which go on. 0 or -errno
 * (logged).
 */
int vm_load_kvm(struct vm *vm);
int vm_load_devices(struct vm *vm);

/* Ends them all; no vCPU and no main loop runs any more. */
void vm_done_devices(struct vm *vm);

#endif
