/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Help for guests on a KVM host that interprets guest kernel code (a "PVM"
 * host: no VT-x, no AMD-V). KVM's emulator does not know every instruction a
 * kernel uses; those it gives up on are finished here. SYSCALL from user mode
 * loses its privilege switch there; it is made good here too.
 *
 * Nothing in this file runs on a host with hardware virtualization.
 *
 * Start reading in assist-table.c (which instruction is which),
 * assist-syscall.c (what becomes of SYSCALL) and assist-entry.c (how the kernel
 * is entered from user mode).
 *
 * Findings on such a host (Linux 6.18, AMD Zen 5), with a 6.12 guest:
 * - Works, with one vCPU and with two: signals under load, ptrace by single
 *   steps and by system calls, x87 and vector registers (AVX-512 included) of
 *   threads that share CPUs, INT3 and INT 4 in user mode, faults of user
 *   programs. A jump to the pages planted for SYSCALL ends in SIGSEGV.
 * - Programs see the host's CPUID. The kernel sees the host's features too,
 *   less PCID, INVPCID and XSAVES, but the vendor of KVM_SET_CPUID2.
 * - INT n in a 64-bit program raises #UD in KVM; assist-entry.c turns that into
 *   the interrupt, or the fault that the gate calls for.
 * - 32-bit programs do not work: KVM interprets their code, and INT 0x80,
 *   SYSENTER and INT3 raise #UD in it. A 32-bit SYSCALL would enter ring 0 at
 *   an address of the program's choice; it is made to raise #UD.
 * - KVM interprets LZCNT as BSR without an error, so its result is wrong. Linux
 *   does not use it in the kernel.
 * - VMCALL and VMMCALL do not work: the emulator writes the host's own one in
 *   their place and has it done again, for ever, or raises #PF where the text
 *   is read-only. CONFIG_PTP_1588_CLOCK_KVM has to be off, and KVM's
 *   paravirtual hypercalls must not be offered: that for IPIs crashes guests.
 * - Breakpoints and watchpoints of the debug registers never fire, a single
 *   step over CPUID is lost, and ES does not keep a selector of the LDT.
 * - SYSCALL and SYSRET cost 11 us of CPU time; with an exit between them 31 us.
 *   An exit from ring 0 costs 10 us, every further ioctl on the vCPU 5 us.
 *
 * docs/HOSTS says to users what follows from that; `bulkhead check` points
 * there.
 */
#ifndef VMM_PVM_ASSIST_H
#define VMM_PVM_ASSIST_H

#include <stdbool.h>
#include <stdint.h>

struct kvm;
struct mem;
struct vcpu;
struct assist; /* one per VM, shared by its vCPUs */

/*
 * Asks KVM to report what its emulator cannot do, and writes of the SYSCALL
 * target MSR. Has to be called right after the VM is created: later the same
 * calls wait for a grace period. Harmless on hardware hosts: there it costs one
 * exit per vCPU, when the kernel sets LSTAR. 0 or -errno (logged).
 */
int assist_prepare(const struct kvm *kvm);

/*
 * Finds out whether this host interprets: runs a few instructions that hardware
 * executes and the emulator does not, on VCPU before the guest starts, at a
 * free page SCRATCH_GPA, then restores registers and page. 1 needs assists,
 * 0 hardware, -errno (logged).
 */
int assist_probe(struct vcpu *vcpu, const struct mem *mem,
		 uint64_t scratch_gpa);

/* NULL when out of memory. MEM is borrowed. */
struct assist *assist_new(const struct mem *mem, unsigned ncpus);
void assist_free(struct assist *assist);

/*
 * Before each KVM_RUN: runs the guest's kernel code here as far as that goes
 * (interp.h), and has KVM come back after the one instruction it is left with.
 * 0 or -errno (logged). On the vCPU's thread.
 */
int assist_before_run(struct assist *assist, struct vcpu *vcpu);
/*
 * Before a KVM_RUN that only finishes what the last exit left (immediate_exit
 * is set): does the same for what KVM has done since, and interprets nothing.
 * When that KVM_RUN is interrupted, all of the guest's state is in KVM. 0 or
 * -errno (logged). On the vCPU's thread.
 */
int assist_settle(struct assist *assist, struct vcpu *vcpu);
/* After each exit: notes what KVM has to finish first. */
void assist_after_exit(struct assist *assist, struct vcpu *vcpu);

/*
 * KVM_EXIT_INTERNAL_ERROR on VCPU: finishes the instruction, or the SYSCALL.
 * 0: run on. -errno: it cannot be finished; logged with the instruction's
 * name if known, bytes, RIP and what to do. On the vCPU's thread.
 */
int assist_emulation_failure(struct assist *assist, struct vcpu *vcpu);

/*
 * KVM_EXIT_X86_RDMSR / _WRMSR on VCPU (the filtered LSTAR and friends). ASSIST
 * is NULL on hardware hosts: the access is passed through. 0 or -errno
 * (logged).
 */
int assist_rdmsr(struct assist *assist, struct vcpu *vcpu);
int assist_wrmsr(struct assist *assist, struct vcpu *vcpu);

/*
 * Words that the guest's command line should carry on such a host; static text,
 * with a leading space. PTI, IA32: the kernel takes nopti, ia32_emulation= (one
 * that does not gives them to its init).
 */
const char *assist_command_line(bool pti, bool ia32);

/*
 * Merges the clearcpuid= of assist_command_line() into the last one of the
 * user's APPEND, as Linux takes only the last of several. *RET_APPEND is for
 * free(), or NULL when there is nothing to merge. 0, -E2BIG or -ENOMEM
 * (logged).
 */
int assist_merge(const char *append, char **ret_append);

/*
 * The first of the user's own parameters that cannot be on such a host, as
 * static text, or NULL. APPEND may be NULL.
 */
const char *assist_conflict(const char *append);

/* How often each kind of assist was needed, at level debug. Main thread. */
void assist_log(const struct assist *assist);

#endif
