/* SPDX-License-Identifier: Apache-2.0 */
/* Use of this host by a process: an instance's monitor is its machine. */
#ifndef TOOLS_INSTANCE_HOST_USAGE_H
#define TOOLS_INSTANCE_HOST_USAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct host_usage {
	uint64_t cpu_us;
	uint64_t rss, pss; /* bytes; PSS counts what is shared in parts */
	uint64_t read_bytes, written_bytes; /* from and to disks */
};

/*
 * Reads it for process PID, which has started at START, as
 * instance_process_start() has it. False: there is none any more, or it may not
 * be looked at.
 */
bool host_usage_read(pid_t pid, uint64_t start, struct host_usage *ret);

#endif
