/* SPDX-License-Identifier: Apache-2.0 */
/* Tables. */
#include "firmware/agent/agent-defaults.h"

#include <stddef.h>

const struct agent_filesystem agent_filesystems[] = {
	{"proc", "/proc", "nosuid,nodev,noexec", false},
	{"tmpfs", "/dev", "nosuid,strictatime,mode=755,size=64m", false},
	{"devpts", "/dev/pts",
	 "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5", false},
	{"mqueue", "/dev/mqueue", "nosuid,nodev,noexec", false},
	{"sysfs", "/sys", "nosuid,nodev,noexec", true},
	{"cgroup2", "/sys/fs/cgroup", "nosuid,nodev,noexec", true},
	{NULL, NULL, NULL, false},
};

const char *const agent_masked_paths[] = {
	"/proc/acpi",
	"/proc/asound",
	"/proc/interrupts",
	"/proc/kcore",
	"/proc/keys",
	"/proc/latency_stats",
	"/proc/sched_debug",
	"/proc/scsi",
	"/proc/timer_list",
	"/proc/timer_stats",
	"/sys/firmware",
	"/sys/devices/virtual/powercap",
	NULL,
};

const char *const agent_readonly_paths[] = {
	"/proc/bus",           "/proc/fs", "/proc/irq", "/proc/sys",
	"/proc/sysrq-trigger", NULL,
};
