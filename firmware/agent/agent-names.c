/* SPDX-License-Identifier: Apache-2.0 */
/* In the order of their numbers, which are Linux's on x86-64. */
#include "firmware/agent/agent-names.h"

#include "vmm/base/util.h"

#include <stddef.h>

static const char *const capabilities[] = {
	"CHOWN",
	"DAC_OVERRIDE",
	"DAC_READ_SEARCH",
	"FOWNER",
	"FSETID",
	"KILL",
	"SETGID",
	"SETUID",
	"SETPCAP",
	"LINUX_IMMUTABLE",
	"NET_BIND_SERVICE",
	"NET_BROADCAST",
	"NET_ADMIN",
	"NET_RAW",
	"IPC_LOCK",
	"IPC_OWNER",
	"SYS_MODULE",
	"SYS_RAWIO",
	"SYS_CHROOT",
	"SYS_PTRACE",
	"SYS_PACCT",
	"SYS_ADMIN",
	"SYS_BOOT",
	"SYS_NICE",
	"SYS_RESOURCE",
	"SYS_TIME",
	"SYS_TTY_CONFIG",
	"MKNOD",
	"LEASE",
	"AUDIT_WRITE",
	"AUDIT_CONTROL",
	"SETFCAP",
	"MAC_OVERRIDE",
	"MAC_ADMIN",
	"SYSLOG",
	"WAKE_ALARM",
	"BLOCK_SUSPEND",
	"AUDIT_READ",
	"PERFMON",
	"BPF",
	"CHECKPOINT_RESTORE",
};

static const char *const limits[] = {
	"CPU",      "FSIZE",  "DATA",    "STACK",  "CORE",  "RSS",
	"NPROC",    "NOFILE", "MEMLOCK", "AS",     "LOCKS", "SIGPENDING",
	"MSGQUEUE", "NICE",   "RTPRIO",  "RTTIME",
};

const char *agent_capability_name(unsigned number)
{
	return number < ARRAY_LEN(capabilities) ? capabilities[number] : NULL;
}

const char *agent_limit_name(unsigned resource)
{
	return resource < ARRAY_LEN(limits) ? limits[resource] : NULL;
}
