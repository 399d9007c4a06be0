/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bits of the processor's registers and page tables, and numbers of its
 * model-specific registers and exceptions, by the SDM's names.
 */
#ifndef VMM_PVM_X86_H
#define VMM_PVM_X86_H

#include <stdint.h>

#define X86_BIT(n) (UINT64_C(1) << (n))

/* RFLAGS (SDM 1, 3.4.3) */
#define FLAG_CF      X86_BIT(0)
#define FLAG_PF      X86_BIT(2)
#define FLAG_AF      X86_BIT(4)
#define FLAG_ZF      X86_BIT(6)
#define FLAG_SF      X86_BIT(7)
#define FLAG_TF      X86_BIT(8)
#define FLAG_IF      X86_BIT(9)
#define FLAG_OF      X86_BIT(11)
#define FLAG_RF      X86_BIT(16)
#define FLAG_AC      X86_BIT(18)
#define FLAGS_STATUS (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

/* Control registers (SDM 3A, 2.5) and IA32_EFER (2.2.1) */
#define CR0_PE       X86_BIT(0)
#define CR0_MP       X86_BIT(1)
#define CR0_EM       X86_BIT(2)
#define CR0_TS       X86_BIT(3)
#define CR0_ET       X86_BIT(4)
#define CR0_NE       X86_BIT(5)
#define CR0_WP       X86_BIT(16)
#define CR0_PG       X86_BIT(31)
#define CR4_PAE      X86_BIT(5)
#define CR4_OSFXSR   X86_BIT(9)
#define CR4_LA57     X86_BIT(12)
#define CR4_FSGSBASE X86_BIT(16)
#define CR4_PCIDE    X86_BIT(17)
#define CR4_OSXSAVE  X86_BIT(18)
#define CR4_SMEP     X86_BIT(20)
#define CR4_SMAP     X86_BIT(21)
#define EFER_LME     X86_BIT(8)
#define EFER_LMA     X86_BIT(10)
#define EFER_NXE     X86_BIT(11)

/* Entries of paging structures (SDM 3A, 4.5) */
#define PTE_P    X86_BIT(0)
#define PTE_W    X86_BIT(1)
#define PTE_U    X86_BIT(2)
#define PTE_A    X86_BIT(5)
#define PTE_D    X86_BIT(6)
#define PTE_PS   X86_BIT(7)
#define PTE_NX   X86_BIT(63)
#define PTE_ADDR UINT64_C(0x000ffffffffff000)

/* Model-specific registers (SDM 4, 2.1) */
#define MSR_TSC                 0x10u
#define MSR_IA32_MISC_ENABLE    0x1a0u
#define MISC_ENABLE_FAST_STRING 1
#define MSR_MTRR_DEF_TYPE       0x2ffu
#define MTRR_ENABLED_WRITEBACK  0xc06
#define MSR_STAR                0xc0000081u
#define MSR_LSTAR               0xc0000082u
#define MSR_FMASK               0xc0000084u
#define MSR_KERNEL_GS_BASE      0xc0000102u
#define MSR_TSC_AUX             0xc0000103u

/* Vectors of exceptions (SDM 3A, 6.3.1) */
enum {
	EXC_DB = 1,
	EXC_NMI = 2,
	EXC_BP = 3,
	EXC_OF = 4,
	EXC_UD = 6,
	EXC_NM = 7,
	EXC_NP = 11,
	EXC_SS = 12,
	EXC_GP = 13,
	EXC_PF = 14,
	EXC_MF = 16,
	EXC_MC = 18,
};

#endif
