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

/* Runs it to its end: the exit status. Main thread. */
int vm_run(struct vm *vm);

/* Whether it ended as its guest rebooted. After vm_run(); VM may be NULL. */
bool vm_rebooted(struct vm *vm);

void vm_free(struct vm *vm); /* NULL is fine */

#endif
