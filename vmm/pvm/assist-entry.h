/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How an interpreting host enters a guest's kernel from user mode, made good
 * where it differs from hardware. KVM stops at the first instruction of the
 * kernel after user mode; at that moment the frame that the interrupt or
 * exception has pushed lies at RSP and can still be put right. Needs registers
 * and guest RAM, no KVM.
 */
#ifndef VMM_PVM_ASSIST_ENTRY_H
#define VMM_PVM_ASSIST_ENTRY_H

#include "vmm/pvm/mmu.h"

/*
 * REGS are those before the first instruction of the kernel after user mode;
 * LSTAR is where the vCPU's SYSCALL leads (0: nowhere yet). Mends
 *
 * - INT n of a 64-bit program, which KVM's emulator does not know and raises
 *   #UD for: the kernel gets interrupt n instead, or the #GP or #NP that the
 *   gate calls for (SDM 3A 6.12.1.2, 6.13). A SYSCALL whose RSP is no address
 *   goes this way, too: its INT 4 (assist-syscall.h) is left to the emulator.
 * - a frame that says that user mode ran with IF clear. With IOPL 0 only
 *   SYSCALL does that, on its way through our pages. A program that an IRET
 *   gave such flags would run without interrupts for ever, and a jump of its
 *   to those pages would pass for a SYSCALL.
 *
 * True when REGS were changed; the frame in guest memory may be changed either
 * way. On the vCPU's thread.
 */
bool entry_mend(const struct mmu *mmu, struct kvm_regs *regs, uint64_t lstar);

#endif
