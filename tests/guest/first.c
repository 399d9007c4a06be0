/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first program of the test guest: writes the line that measurements wait
 * for and becomes the test program (init.c). It is one page without a libc, so
 * that starting it costs next to nothing beside booting the kernel.
 */
#define SYS_WRITE  1
#define SYS_EXECVE 59
#define SYS_EXIT   60

static const char marker[] = "bulkhead-test: user space\n";
static const char program[] = "/sbin/test-guest";

/* x86-64 psABI A.2.1: what SYSCALL takes, and what it changes. */
static long call(long number, long a, long b, long c)
{
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c)
			 : "rcx", "r11", "memory");
	return result;
}

/* STACK: argc, argv[], NULL, envp[], NULL (psABI 3.4.1). */
__attribute__((noreturn, used)) static void first(long *stack)
{
	char **argv = (char **)(stack + 1);

	call(SYS_WRITE, 1, (long)marker, sizeof(marker) - 1);
	call(SYS_EXECVE, (long)program, (long)argv,
	     (long)(argv + stack[0] + 1));
	call(SYS_EXIT, 127, 0, 0);
	__builtin_unreachable();
}

__asm__(".globl _start\n"
	"_start:\n"
	"	mov %rsp, %rdi\n"
	"	and $-16, %rsp\n"
	"	call first\n");
