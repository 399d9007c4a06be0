/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's network interfaces: names, addresses, routes, neighbours. */
#ifndef FIRMWARE_INIT_NET_H
#define FIRMWARE_INIT_NET_H

#include "firmware/init/request.h"

/*
 * The loopback interface and those of the configuration. 0, or -1 with the
 * failure filled in.
 */
int net_configure(const struct init_config *config, struct init_failure *f);

/*
 * Changes those of CONFIG (init_network_parse()) while the machine runs, see
 * AGENT_OWN_NETWORK: an interface that the container took to another network
 * namespace is not found. The kernel may wait for those who use an interface
 * that goes: not in the agent's own process. 0, or -1 with the failure.
 */
int net_change(const struct init_config *config, struct init_failure *f);

#endif
