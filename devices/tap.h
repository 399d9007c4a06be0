/* SPDX-License-Identifier: Apache-2.0 */
/* A host's tap interface. Knows no guest. */
#ifndef DEVICES_TAP_H
#define DEVICES_TAP_H

#include <stdint.h>

/*
 * Attaches to the existing tap NAME, with virtio-net headers (VNET_HDR) of 12
 * bytes in little-endian order. It is never created here: a name that does not
 * exist is an error that says how to make one. Fills the interface's MTU. The
 * fd (owned by the caller, non-blocking) or -errno, logged.
 */
int tap_open(const char *name, uint16_t *ret_mtu);

/* Offloads as VIRTIO_NET_F_GUEST_* bits accepted by the guest. 0 or -errno. */
int tap_set_offloads(int fd, uint64_t acked_features);

/* Whether the host's tap can do UDP segmentation offload (USO). */
#endif
