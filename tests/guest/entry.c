/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The test guest enters its kernel in ways that compilers never produce:
 * SYSCALL with a stack pointer that is no address, INT n through a gate that
 * programs may not use. Hosts without hardware virtualization have to make
 * these good one by one; on others the processor does.
 */
#include "guest.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define FLAG_IF 0x200

static sigjmp_buf back;
static volatile sig_atomic_t ticks;

static void on_signal(int sig)
{
	siglongjmp(back, sig);
}

static void on_tick(int sig)
{
	(void)sig;
	ticks++;
}

/* getpid() with RSP non-canonical; RFLAGS as they are afterwards. */
static long odd_getpid(unsigned long *ret_flags)
{
	unsigned long flags;
	long result;

	__asm__ volatile("mov %%rsp, %%r12\n\t"
			 "movabs $0x8000000000000000, %%rsp\n\t"
			 "syscall\n\t"
			 "lea -128(%%r12), %%rsp\n\t" /* red zone */
			 "pushfq\n\t"
			 "popq %1\n\t"
			 "mov %%r12, %%rsp"
			 : "=a"(result), "=r"(flags)
			 : "a"(SYS_getpid)
			 : "rcx", "r11", "r12", "memory", "cc");
	*ret_flags = flags;
	return result;
}

/* Timer interrupts still come: a program without them would spin for ever. */
static int wait_for_tick(void)
{
	const struct itimerval soon = {.it_value.tv_usec = 20000};
	const int before = ticks;

	if (setitimer(ITIMER_REAL, &soon, NULL))
		return 5;
	while (ticks == before)
		;
	return 0;
}

static int odd_syscalls(void)
{
	const struct sigaction tick = {.sa_handler = on_tick};
	static char stack[65536];
	const stack_t other = {.ss_sp = stack, .ss_size = sizeof(stack)};
	const struct sigaction fault = {.sa_handler = on_signal,
					.sa_flags = SA_ONSTACK | SA_NODEFER};
	unsigned long flags = 0;
	int sig;

	sigaltstack(&other, NULL);
	sigaction(SIGALRM, &tick, NULL);
	sigaction(SIGILL, &fault, NULL);
	sigaction(SIGSEGV, &fault, NULL);
	sigaction(SIGBUS, &fault, NULL);
	sig = sigsetjmp(back, 1);
	if (sig) /* frozen here if the handler ran with IF clear */
		return wait_for_tick() ? 5 : 100 + sig;
	for (int i = 0; i < 100; i++) {
		if (odd_getpid(&flags) != getpid())
			return 2;
		if (!(flags & FLAG_IF))
			return 3;
	}
	return wait_for_tick();
}

static int do_oddsyscall(char **arg)
{
	int status = -1;
	pid_t pid = fork();

	(void)arg;
	if (pid == 0)
		_exit(odd_syscalls());
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return guest_fail("oddsyscall: fork");
	errno = 0;
	return status ? guest_fail("oddsyscall: wait status %#x", status) : 0;
}

/* The signal that INT N raises, 0: none. */
static int signal_of_int(int n)
{
	int sig = sigsetjmp(back, 1);

	if (sig)
		return sig;
	if (n == 0x42)
		__asm__ volatile("int $0x42" ::: "memory");
	else
		__asm__ volatile("int $0x80"
				 :
				 : "a"(20)
				 : "r8", "r9", "r10", "r11", "memory");
	return 0;
}

/* Programs may not use vector 0x42: #GP. 0x80 is a system call, or #GP. */
static int do_oddint(char **arg)
{
	const struct sigaction fault = {.sa_handler = on_signal};
	struct sigaction ill, segv;
	int gate, call;

	(void)arg;
	sigaction(SIGILL, &fault, &ill);
	sigaction(SIGSEGV, &fault, &segv);
	gate = signal_of_int(0x42);
	call = signal_of_int(0x80);
	sigaction(SIGILL, &ill, NULL);
	sigaction(SIGSEGV, &segv, NULL);
	errno = 0;
	if (gate != SIGSEGV)
		return guest_fail("oddint: INT 0x42: signal %d", gate);
	return call == 0 || call == SIGSEGV
		       ? 0
		       : guest_fail("oddint: INT 0x80: signal %d", call);
}

const struct action entry_actions[] = {
	{"oddsyscall", 0, do_oddsyscall, ""},
	{"oddint", 0, do_oddint, ""},
	{NULL, 0, NULL, NULL},
};
