/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs SWAPGS, WRFSBASE, WRGSBASE and RDTSC. A kernel executes them at each
 * system call and context switch and to read the clock, and the interpreter has
 * no state for them. A step of KVM's instead would cost 10 us and the
 * interpreter's translations.
 */
#ifndef VMM_PVM_ASSIST_QUICK_H
#define VMM_PVM_ASSIST_QUICK_H

#include "vmm/pvm/assist-exec.h"

#include <stdbool.h>
#include <stdint.h>

#define QUICK_BYTES 5 /* of code, at least, that are looked at */

/* One per vCPU. */
struct quick {
	uint64_t kernel_gs;
	bool known; /* until KVM runs again */
	bool changed;
};

/*
 * Runs the instruction that begins with CODE if it is one of those, in 64-bit
 * ring 0: 1. 0: it is not, or would fault, and nothing has happened. -errno of
 * HOST's get_msr(). The bases are SREGS', for the caller to tell KVM, as is
 * KERNEL_GS once it is CHANGED.
 */
int quick_run(struct quick *q, const struct exec_host *host, void *host_arg,
	      struct kvm_regs *regs, struct kvm_sregs *sregs,
	      const uint8_t code[QUICK_BYTES]);

#endif
