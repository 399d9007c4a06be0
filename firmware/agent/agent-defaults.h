/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Docker's default specification, for every container, whether the agent makes
 * it by hand or crun does.
 */
#ifndef FIRMWARE_AGENT_AGENT_DEFAULTS_H
#define FIRMWARE_AGENT_AGENT_DEFAULTS_H

#include <stdbool.h>

struct agent_filesystem {
	const char *type, *target, *options;
	bool guarded; /* read-only, unless the container is privileged */
};

/* In the order in which they are mounted; ends with a type of NULL. */
extern const struct agent_filesystem agent_filesystems[];

/* The options of /dev/shm, but for its size. */
#define AGENT_SHM_OPTIONS "nosuid,nodev,noexec,mode=1777"
#define AGENT_SHM_MIB     64

/* Paths that are hidden, and that are read-only, unless privileged; NULL. */
extern const char *const agent_masked_paths[];
extern const char *const agent_readonly_paths[];

#endif
