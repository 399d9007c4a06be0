/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filters of what an interface receives, for a guest that is joined to it.
 * FD is of netlink_open(), interfaces are numbers. 0 or -errno, not logged.
 */
#ifndef DEVICES_HOST_TAP_FILTER_H
#define DEVICES_HOST_TAP_FILTER_H

#include <stdint.h>

/* The ports that tap_filter_resolver() leaves to this namespace's stack. */
#define TAP_FILTER_FIRST 0xfc00U
#define TAP_FILTER_LAST  0xffffU

/*
 * The kernel sends out at TO all that FROM receives, but for what exceptions,
 * which are added before, leave here.
 */
int tap_filter_redirect(int fd, unsigned from, unsigned to);
/*
 * The exception for programs of this namespace that ask name servers: answers
 * from port 53, by UDP or TCP, to the ports above stay here; of neighbours'
 * answers (ARP, neighbour advertisements) TO gets a copy.
 */
int tap_filter_resolver(int fd, unsigned from, unsigned to);
/* The same for a FROM that is redirected already; where it is not, nothing. */
int tap_filter_open_resolver(int fd, unsigned from);
/* RET_TO: of the redirection; 0: there is none. */
int tap_filter_target(unsigned from, unsigned *ret_to);
/*
 * The exception for programs of this namespace that are clients of the guest
 * at the tap FROM: what the guest sends to IPV4 or IPV6 stays here. Only
 * datagrams, what belongs to a TCP connection that was begun here, and that a
 * port is nobody's: the guest begins nothing.
 */
int tap_filter_local(int fd, unsigned from, const uint8_t ipv4[4],
		     const uint8_t ipv6[16]);
/*
 * Takes these filters off INDEX, if their target is gone; and the qdisc, unless
 * others have filters there. -EBUSY: the target is there.
 */
int tap_filter_clear(int fd, unsigned index);

#endif
