/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wall around the monitor: once everything is open, the process keeps only
 * the system calls a running VM needs, and no privilege. A guest that takes the
 * monitor over finds no file to open, no program to start, no socket to make,
 * no process to signal but this one.
 */
#ifndef VMM_BASE_SANDBOX_H
#define VMM_BASE_SANDBOX_H

#include <stdint.h>
#include <sys/syscall.h>

enum sandbox_test {
	SANDBOX_ANYTHING,
	SANDBOX_EQUALS, /* the argument is `value` */
	SANDBOX_WITHIN, /* it has no bits but those of `value` */
};

/*
 * A system call that is allowed where each of its conditions holds. They see
 * the low 32 bits of an argument, which is all the kernel reads of a number, a
 * command or flags. Several rules for one call: any of them is enough.
 */
struct sandbox_rule {
	uint32_t call; /* SYS_* */
	struct sandbox_condition {
		uint8_t test;     /* enum sandbox_test */
		uint8_t argument; /* 0 up to 5 */
		uint32_t value;
	} when[3];
};

/* Allows the call with any arguments. */
#define SANDBOX_CALL(name)                                                     \
	{                                                                      \
		.call = SYS_##name                                             \
	}
/* Where argument number N is VALUE. */
#define SANDBOX_CALL_IF(name, n, number)                                       \
	{                                                                      \
		.call = SYS_##name,                                            \
		.when[0] = {SANDBOX_EQUALS, (n), (uint32_t)(number)},          \
	}
#define SANDBOX_IOCTL(request) SANDBOX_CALL_IF(ioctl, 1, request)
/* Ends a list. */
#define SANDBOX_END                                                            \
	{                                                                      \
		.call = UINT32_MAX                                             \
	}

/* More ioctls of KVM, for assists, which finish a guest's instructions here. */
extern const struct sandbox_rule sandbox_assists[];

/*
 * Drops all capabilities, forbids new ones and installs the system call filter
 * on every thread of the process. LISTS are what devices need besides the calls
 * that every VM needs: NLISTS of them, each up to SANDBOX_END, or NULL. Cannot
 * be undone. Main thread, before the guest runs. 0 or -errno (logged).
 */
int sandbox_enter(const struct sandbox_rule *const *lists, unsigned nlists);
/*
 * The same for the calling thread alone, before sandbox_enter(), which leaves
 * it as it is then. It keeps those of CAPABILITIES (bits by CAP_*) that it has,
 * and may make the calls of LISTS besides.
 */
int sandbox_enter_thread(const struct sandbox_rule *const *lists,
			 unsigned nlists, uint64_t capabilities);

#endif
