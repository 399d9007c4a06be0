/* SPDX-License-Identifier: Apache-2.0 */
/* passt (https://passt.top) as a network's backend; see devices/host/net.h. */
#ifndef DEVICES_HOST_PASST_H
#define DEVICES_HOST_PASST_H

#include <stdint.h>

struct config_device;
struct net_backend;

/* An Ethernet frame as passt sends and takes it has 65535 bytes at most. */
#define PASST_MTU_MAX     65520
#define PASST_PUBLISH_MAX 32

/*
 * Starts passt, waits until its ports are open, and tells it that the guest has
 * the address MAC. It ends when the descriptor
 * is closed, however that happens, and leaves nothing in the file system. 0 or
 * -errno, logged.
 */
int passt_open(struct net_backend *b, const struct config_device *cfg,
	       const uint8_t *mac, const char *device);

#endif
