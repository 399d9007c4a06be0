/* SPDX-License-Identifier: Apache-2.0 */
/* A host's tap interface, as a network's backend (devices/host/net.h) and
 * alone. */
#ifndef DEVICES_HOST_TAP_H
#define DEVICES_HOST_TAP_H

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

struct config_device;
struct net_backend;

/*
 * Attaches to the existing tap NAME, with virtio-net headers (VNET_HDR) of 12
 * bytes in little-endian order. It is never created here: a name that does not
 * exist is an error that says how to make one. Fills the interface's MTU. The
 * fd (owned by the caller, non-blocking) or -errno, logged.
 */
int tap_open(const char *name, uint16_t *ret_mtu);

/*
 * Makes a tap that goes with its descriptor, which is returned, set as that of
 * tap_open(). PATTERN is a name, "tap%d" for the first that is free. -errno,
 * logged.
 */
int tap_make(const char *pattern, char ret_name[IFNAMSIZ]);

/*
 * Which of VIRTIO_NET_F_GUEST_* (checksum and segmentation offloads towards the
 * guest) this tap can do. Before anyone uses it.
 */
uint64_t tap_offloads(int fd);

/*
 * Gives the guest what it accepted, as VIRTIO_NET_F_GUEST_* bits; 0 for plain
 * frames. 0 or -errno.
 */
int tap_set_offloads(int fd, uint64_t acked_features);

/* The tap that CFG names, or one joined to the interface it names. 0 or -errno,
 * logged. DEVICE is for messages. */
int tap_backend_open(struct net_backend *b, const struct config_device *cfg,
		     const char *device);

/*
 * The tap FD, as of tap_open(), which is taken, with its MTU. Any thread, also
 * within a sandbox that allows TUNSETOFFLOAD.
 */
void tap_backend_take(struct net_backend *b, int fd, uint16_t mtu);

#endif
