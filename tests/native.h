/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Code that this process runs itself, at addresses and with memory that a guest
 * of tests/interp.h has, too, so that the two can be compared.
 */
#ifndef TESTS_NATIVE_H
#define TESTS_NATIVE_H

#include "tests/interp.h"
#include "vmm/pvm/interp-operands.h"

#include <asm/prctl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Process and guest see the same here; the page before is the process's. */
#define STATE UINT64_C(0x0ffff000)
#define CODE  (IG_VA + 0x1000)
#define DATA  (IG_VA + 0x4000)
#define PAGES 3 /* of data, between pages that are not touched */
#define BYTES ((uint64_t)PAGES * 4096)
#define GS    UINT64_C(0x0f000000)
#define STACK (DATA + BYTES - 1024)

/* At STATE; the assembly below knows the offsets. */
struct cpu {
	uint64_t r[16];    /* 0x00 */
	uint64_t flags;    /* 0x80 */
	uint64_t rip;      /* 0x88: where to begin, where it ended */
	uint64_t host_rsp; /* 0x90 */
	uint64_t exit;     /* 0x98: native_exit */
};

void native_run(void);
void native_exit(void);

/*
 * Absolute addresses: all registers are the code's. It leaves by jumping to
 * where STATE says, which changes neither registers nor flags.
 */
__asm__(".text\n"
	".globl native_run, native_exit\n"
	"native_run:\n"
	"	push %rbx; push %rbp; push %r12; push %r13; push %r14\n"
	"	push %r15\n"
	"	pushq 0x0ffff080; popfq\n"
	"	movq %rsp, 0x0ffff090\n"
	"	movq 0x0ffff000, %rax; movq 0x0ffff008, %rcx\n"
	"	movq 0x0ffff010, %rdx; movq 0x0ffff018, %rbx\n"
	"	movq 0x0ffff020, %rsp; movq 0x0ffff028, %rbp\n"
	"	movq 0x0ffff030, %rsi; movq 0x0ffff038, %rdi\n"
	"	movq 0x0ffff040, %r8; movq 0x0ffff048, %r9\n"
	"	movq 0x0ffff050, %r10; movq 0x0ffff058, %r11\n"
	"	movq 0x0ffff060, %r12; movq 0x0ffff068, %r13\n"
	"	movq 0x0ffff070, %r14; movq 0x0ffff078, %r15\n"
	"	jmp *0x0ffff088\n"
	"native_exit:\n"
	"	movq %rsp, 0x0ffff020; movq 0x0ffff090, %rsp\n"
	"	pushfq; popq 0x0ffff080; cld\n"
	"	movq %rax, 0x0ffff000; movq %rcx, 0x0ffff008\n"
	"	movq %rdx, 0x0ffff010; movq %rbx, 0x0ffff018\n"
	"	movq %rbp, 0x0ffff028\n"
	"	movq %rsi, 0x0ffff030; movq %rdi, 0x0ffff038\n"
	"	movq %r8, 0x0ffff040; movq %r9, 0x0ffff048\n"
	"	movq %r10, 0x0ffff050; movq %r11, 0x0ffff058\n"
	"	movq %r12, 0x0ffff060; movq %r13, 0x0ffff068\n"
	"	movq %r14, 0x0ffff070; movq %r15, 0x0ffff078\n"
	"	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
	"	ret\n");

static inline uint64_t rnd(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* Jumps out from AT, which is where the processor then was. */
static inline void put_exit(uint64_t at)
{
	static const uint8_t code[] = {
		0x48, 0xc7, 0x04, 0x25, 0x88, 0xf0, 0xff, 0x0f, /* mov to rip */
		0,    0,    0,    0,                            /* this */
		0xff, 0x24, 0x25, 0x98, 0xf0, 0xff, 0x0f};      /* jmp *exit */
	uint8_t *to = (uint8_t *)at;
	uint32_t rip = (uint32_t)at;

	memcpy(to, code, sizeof(code));
	memcpy(to + 8, &rip, sizeof(rip));
}

/* A group's set-up function. */
static inline int map_worlds(void **state)
{
	void *at =
		mmap((void *)STATE, IG_VA - STATE + IG_PAGES * 4096,
		     PROT_READ | PROT_WRITE | PROT_EXEC,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	(void)state;
	if (at != (void *)STATE)
		return -1;
	return (int)syscall(SYS_arch_prctl, ARCH_SET_GS, GS);
}

#endif
