/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtual CPU: its KVM descriptor, its thread, and the loop that runs the
 * guest and hands its exits to the bus.
 */
#ifndef VMM_CPU_VCPU_H
#define VMM_CPU_VCPU_H

#include "vmm/base/mem.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct assist;
struct bus;
struct kvm;
struct kvm_run;
struct stop;
struct trace;
struct visitor;

struct vcpu {
	unsigned id;
	int fd; /* owned */
	struct kvm_run *run;
	size_t run_bytes;
	pthread_t thread;
	bool started;
	uint64_t exits; /* to user space; written by the thread only */

	/*
	 * Requests of other threads, as bits; this one looks at them after each
	 * exit. They change with `lock` held, and so does `where`.
	 */
	atomic_uint asked;
	enum vcpu_where {
		VCPU_RUNS,
		VCPU_PARKED, /* paused: all that it did is in KVM's state */
		VCPU_GONE,   /* the thread has left its loop */
	} where;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* either of the two */

	const struct bus *bus; /* borrowed, all of these */
	const struct mem *mem;
	struct stop *stop;
	struct assist *assist; /* NULL on hosts that need none */
	struct trace *trace;   /* NULL: none */
};

/* How the boot CPU begins. */
enum vcpu_mode {
	VCPU_LONG,      /* 64-bit, paging, RSI = boot_params */
	VCPU_PROTECTED, /* 32-bit flat, no paging, EBX = PVH start info */
};

struct vcpu_start {
	enum vcpu_mode mode;
	gpa_t entry;
	gpa_t info; /* boot_params or hvm_start_info */
	gpa_t gdt;  /* regs.c wrote these tables there */
	gpa_t page_tables;
};

/* Creates the vCPU and tells it its CPUID. 0 or -errno (logged). */
int vcpu_init(struct vcpu *vcpu, const struct kvm *kvm, unsigned id,
	      unsigned ncpus);
void vcpu_done(struct vcpu *vcpu);

/* regs.c: writes GDT and identity page tables into RAM (VCPU_LONG). */
int regs_write_tables(const struct mem *mem, struct vcpu_start *start);
/* regs.c: sets the boot CPU's registers; for others nothing is to be set. */
int regs_set(struct vcpu *vcpu, const struct vcpu_start *start);

/*
 * cpuid.c: KVM's CPUID table completed for this vCPU: hypervisor bit, TSC
 * deadline timer, APIC id, topology. 0 or -errno (logged).
 */
int cpuid_set(const struct kvm *kvm, int vcpu_fd, unsigned id, unsigned ncpus);

int vcpu_start_thread(struct vcpu *vcpu);
/*
 * Makes the thread leave KVM_RUN and return, and joins it; also a paused one.
 * Main thread.
 */
void vcpu_stop_thread(struct vcpu *vcpu);

/*
 * Asks the thread to pause and does not wait, so that all vCPUs of a VM can be
 * asked before the first is waited for. It leaves KVM_RUN, finishes the access
 * to a device that is under way, and then waits for vcpu_resume(): no register
 * and no memory of the guest changes by this vCPU any more. Any thread but a
 * vCPU's; one thread at a time pauses and resumes, and none while a lock is
 * held that devices take.
 */
void vcpu_pause(struct vcpu *vcpu);
/*
 * Waits until it has paused. 0; -ESHUTDOWN: its thread has returned, as the VM
 * ends, or has not been started.
 */
int vcpu_wait_paused(struct vcpu *vcpu);
/*
 * Lets one that was asked go on, as soon as it has paused. The guest's kernel
 * is told that it was paused (KVM_KVMCLOCK_CTRL), so that its watchdogs do not
 * take the time for a CPU that hangs.
 */
void vcpu_resume(struct vcpu *vcpu);

/*
 * vcpu-visit.c: the state of a VM's COUNT vCPUs, which are paused. Loading:
 * into ones of vcpu_init() that have not run, on a host whose CPU is the same
 * model and has all features that the guest saw; each difference is an error
 * that names it. Their TSCs go on from where they were saved, PASSED_NS later,
 * as far from each other as they were. Needs Linux 5.16. No system call but
 * ioctl.
 */
void vcpu_visit(struct vcpu *vcpu, unsigned count, const struct kvm *kvm,
		uint64_t passed_ns, struct visitor *v);

/* One KVM_RUN, for probes: the exit reason or -errno. No other thread. */
int vcpu_run_once(struct vcpu *vcpu);

#endif
