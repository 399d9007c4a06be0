/* SPDX-License-Identifier: Apache-2.0 */
/* Which process of the guest gets the CPU first: sched_setattr(2). */
#include "firmware/init/process.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * glibc has no sched_setattr(2) yet, and its headers clash with Linux's, where
 * this is SCHED_FLAG_RESET_ON_FORK.
 */
#define RESET_ON_FORK 0x01
struct sched_wish {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

static void set_priority(pid_t pid, uint32_t policy, int32_t nice,
			 uint32_t priority)
{
	struct sched_wish wish = {
		.size = sizeof(wish),
		.policy = policy,
		/* Children of the program get an ordinary one in any case. */
		.flags = policy == SCHED_OTHER && nice < 0 ? RESET_ON_FORK : 0,
		.nice = nice,
		.priority = priority,
	};

	(void)syscall(SYS_sched_setattr, pid, &wish, 0U);
}

void process_raise_priority(void)
{
	set_priority(0, SCHED_BATCH, -20, 0);
}

void process_drop_priority(pid_t pid)
{
	set_priority(pid, SCHED_OTHER, 0, 0);
}

void process_hurry(void)
{
	set_priority(0, SCHED_FIFO, 0, 1);
}

void process_slow_down(void)
{
	set_priority(0, SCHED_OTHER, -20, 0);
}
