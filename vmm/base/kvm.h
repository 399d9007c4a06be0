/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /dev/kvm: what this host's KVM can do, and the VM descriptor. Knows nothing
 * of guests, memory layout or devices.
 */
#ifndef VMM_BASE_KVM_H
#define VMM_BASE_KVM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kvm {
	int fd;           /* /dev/kvm, owned */
	int vm_fd;        /* owned; -1 before kvm_create_vm() */
	size_t run_bytes; /* size of struct kvm_run's mapping */
	int max_vcpus;
	bool has_readonly_mem;   /* KVM_CAP_READONLY_MEM */
	bool has_emulation_exit; /* KVM_CAP_EXIT_ON_EMULATION_FAILURE */
	bool has_msr_filter; /* KVM_CAP_X86_MSR_FILTER and _USER_SPACE_MSR */
	bool has_tsc_deadline;
	uint32_t next_slot;
};

/*
 * Opens /dev/kvm and checks everything the monitor cannot do without. 0 or
 * -errno, logged with what is missing and what to do. kvm_done() accepts a
 * zeroed struct after kvm_init().
 */
void kvm_init(struct kvm *kvm);
int kvm_open(struct kvm *kvm);
/* The same with FD, borrowed, which another process has opened. */
int kvm_use(struct kvm *kvm, int fd);
/* Advice for a user who may not open /dev/kvm: a phrase for messages. */
const char *kvm_denied_advice(void);
int kvm_create_vm(struct kvm *kvm);
void kvm_done(struct kvm *kvm);

/*
 * Gives the VM a slot of memory: BYTES at HOST (page-aligned) appear at GPA.
 * The first call of a VM may wait several milliseconds for a grace period.
 * 0 or -errno (logged). READONLY: the guest's writes go to the bus.
 */
int kvm_add_memory(struct kvm *kvm, uint64_t gpa, void *host, uint64_t bytes,
		   bool readonly);

/* KVM_CHECK_EXTENSION on the VM, or on /dev/kvm before there is one. */
int kvm_check(const struct kvm *kvm, int capability);

#endif
