/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs of a network namespace as clients of the guest that has taken the
 * place of its stack: an engine's port forwarder enters the namespace and
 * connects to the address there, which is the guest's.
 */
#ifndef DEVICES_HOST_TAP_LOCAL_H
#define DEVICES_HOST_TAP_LOCAL_H

#include <stdint.h>

/* Addresses of these clients, which the guest sees as neighbours. */
struct tap_local {
	uint8_t ipv4[4];
	uint8_t ipv6[16]; /* of the link alone */
	uint8_t mac[6];
};

/* Those of the guest that is joined to the interface INDEX. */
struct tap_local tap_local_of(unsigned index);

/*
 * From now on what this namespace's programs send to an address of the
 * interface INDEX goes to TAP, which is up and has tap_local_of(INDEX).mac, for
 * the guest, whose Ethernet address is MAC; and answers come back. That takes
 * CAP_NET_ADMIN. 0 or -errno, not logged. All of it goes with TAP but for the
 * order in which routes are looked up, see tap_local_close().
 */
int tap_local_open(unsigned index, unsigned tap, const uint8_t mac[6]);

/* Undoes that order. The caller knows that no guest is joined any more. */
void tap_local_close(void);

#endif
