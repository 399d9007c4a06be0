/* SPDX-License-Identifier: Apache-2.0 */
/* A container's spec as crun in the guest is to have it (config.json). */
#ifndef TOOLS_CONTAINER_OCI_CONFIG_H
#define TOOLS_CONTAINER_OCI_CONFIG_H

#include <stdbool.h>

struct agent_mount;
struct spec;

/*
 * Writes SPEC as config.json for the guest: paths are the guest's, and what the
 * machine itself does - its network, its size, its sysctls - is left out. So is
 * "process", which the agent puts in (AGENT_ITEM_OCI). MOUNTS are the spec's,
 * one for each, as the agent is told of them. INIT: the agent's program is to
 * be the container's PID 1. Allocated; NULL (logged): no memory, or a text that
 * JSON does not have.
 */
char *oci_config_make(const struct spec *spec, const struct agent_mount *mounts,
		      bool init);

#endif
