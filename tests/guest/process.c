/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The test guest's processes: memory that a parent and its child share until
 * one writes, programs that start, faults that become signals. Page tables
 * change all the time here, which is where a KVM host without hardware paging
 * has to follow.
 */
#include "guest.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define BYTES (64u << 10)

/* In the child: what was there at fork(), then its own. An exit status. */
static int use_memory(char *mem, uint64_t before, uint64_t own)
{
	if (pattern_check(mem, BYTES, 0, before) >= 0)
		return 2;
	pattern_fill(mem, BYTES, 0, own);
	return pattern_check(mem, BYTES, 0, own) >= 0 ? 3 : 0;
}

static int child(char *mem, unsigned round)
{
	const int status = use_memory(mem, round, 1000 + round);

	if (status == 0 && round % 2)
		execl("/proc/self/exe", "guest", "nothing", (char *)NULL);
	return status;
}

/* Parent and child write the same pages at the same time. */
static int one_round(char *mem, unsigned round)
{
	int status = -1;
	pid_t pid;

	pattern_fill(mem, BYTES, 0, round);
	pid = fork();
	if (pid == 0)
		_exit(child(mem, round));
	if (pid < 0)
		return guest_fail("processes: fork");
	if (pattern_check(mem, BYTES, 0, round) >= 0)
		return guest_fail("processes: the child's write came through");
	pattern_fill(mem, BYTES, 0, 2000 + round);
	if (waitpid(pid, &status, 0) != pid)
		return guest_fail("processes: waitpid");
	errno = 0;
	if (status != 0)
		return guest_fail("processes: child %u: wait status %#x", round,
				  status);
	if (pattern_check(mem, BYTES, 0, 2000 + round) >= 0)
		return guest_fail("processes: memory changed, round %u", round);
	return 0;
}

static int do_processes(char **arg)
{
	const unsigned rounds = (unsigned)guest_number(arg[0]);
	char *mem = mmap(NULL, BYTES, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int r = 0;

	if (mem == MAP_FAILED)
		return guest_fail("processes: memory");
	guest_mounts();
	for (unsigned i = 0; r == 0 && i < rounds; i++)
		r = one_round(mem, i);
	munmap(mem, BYTES);
	return r;
}

static sigjmp_buf after_fault;

static void on_fault(int signal)
{
	(void)signal;
	siglongjmp(after_fault, 1);
}

/* A page is taken away and given back; each time the access must notice. */
static int do_faults(char **arg)
{
	const unsigned rounds = (unsigned)guest_number(arg[0]);
	struct sigaction action = {.sa_handler = on_fault}, before;
	volatile unsigned faults = 0;
	volatile char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return guest_fail("faults: memory");
	sigaction(SIGSEGV, &action, &before);
	for (volatile unsigned i = 0; i < rounds; i++) {
		*page = (char)i;
		mprotect((void *)page, 4096, i % 2 ? PROT_READ : PROT_NONE);
		if (sigsetjmp(after_fault, 1) == 0)
			*page = 77;
		else
			faults++;
		mprotect((void *)page, 4096, PROT_READ | PROT_WRITE);
		if (*page != (char)i)
			break;
	}
	sigaction(SIGSEGV, &before, NULL);
	munmap((void *)page, 4096);
	errno = 0;
	return faults == rounds ? 0 : guest_fail("faults: %u", faults);
}

static int do_nothing(char **arg)
{
	(void)arg;
	return 0;
}

const struct action process_actions[] = {
	{"processes", 1, do_processes, "ROUNDS"},
	{"faults", 1, do_faults, "ROUNDS"},
	{"nothing", 0, do_nothing, ""},
	{NULL, 0, NULL, NULL},
};
