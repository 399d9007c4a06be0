/* SPDX-License-Identifier: Apache-2.0 */
/* A container as OCI's runtime specification describes it (config.json). */
#ifndef TOOLS_CONTAINER_OCI_CONFIG_H
#define TOOLS_CONTAINER_OCI_CONFIG_H

#include "tools/agent/agent.h"

#include <jansson.h>
#include <stdbool.h>

/*
 * Writes CONFIG as config.json for crun in the guest, with Docker's defaults.
 * Without "process", which the agent puts in (AGENT_ITEM_OCI). INIT: the
 * agent's program is to be the container's PID 1. Allocated; NULL without
 * memory, logged.
 */
char *oci_config_make(const struct agent_config *config, bool init,
		      json_t *seccomp);

#endif
