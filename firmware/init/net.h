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

#endif
