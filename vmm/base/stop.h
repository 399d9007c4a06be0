/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a VM ends. Devices and vCPUs report; the first report wins; the main loop
 * wakes and ends the VM. Nobody calls exit().
 */
#ifndef VMM_BASE_STOP_H
#define VMM_BASE_STOP_H

#include <pthread.h>

struct loop;

enum stop_reason {
	STOP_NONE,
	STOP_POWEROFF, /* ACPI S5, or the like: exit status 0 */
	STOP_RESET,    /* i8042 or ACPI reset: exit status 0 */
	STOP_EXIT,     /* the guest wrote its status to the exit port */
	STOP_CRASH,    /* panic notice, triple fault: exit status 1 */
	STOP_HOST,     /* the host failed (logged): exit status 3 */
	STOP_USER,     /* a signal or the console's escape key: status is set */
};

struct stop {
	pthread_mutex_t lock;
	enum stop_reason reason;
	int status;
	struct loop
		*loop; /* borrowed: the main loop, woken on the first report */
};

void stop_init(struct stop *stop, struct loop *loop);

/*
 * Reports that the VM has to end with STATUS (0..255) as `bulkhead boot`'s exit
 * status. Later reports are ignored. Any thread, never blocks for long.
 */
void stop_request(struct stop *stop, enum stop_reason reason, int status);

/* The first report, or STOP_NONE. Any thread. */
enum stop_reason stop_reason(struct stop *stop, int *ret_status);

#endif
