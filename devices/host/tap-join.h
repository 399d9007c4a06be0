/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest in place of this network namespace's stack: a tap is made that gets
 * all that an interface receives, and whose frames that interface sends.
 */
#ifndef DEVICES_HOST_TAP_JOIN_H
#define DEVICES_HOST_TAP_JOIN_H

#include <stdbool.h>
#include <stdint.h>

/* How the names of these taps begin. */
#define TAP_JOIN_NAME "bhtap"

/*
 * Joins a tap to the interface NAME, an Ethernet one, of the calling thread's
 * network namespace: the tap's descriptor, as of tap_open(), and the MTU that
 * both have; or -errno, logged. Both go with the descriptor, but for a filter
 * on NAME, see tap_join_undo(); one that a killed process left there is
 * replaced. -EBUSY: another guest is joined. Needs CAP_NET_ADMIN.
 *
 * Programs of this namespace that connect to an address of NAME, as it has them
 * now, reach the guest, to which they are neighbours (tap-local.h).
 *
 * RESOLVER: programs of this namespace can go on asking name servers by NAME,
 * from the ports that they get for it (TAP_FILTER_FIRST and on; of the whole
 * namespace, until tap_join_undo() finds no guest there).
 */
int tap_join(const char *name, bool resolver, uint16_t *ret_mtu);

/*
 * As RESOLVER does, for all interfaces that taps are joined to by now. 0 or
 * -errno, logged.
 */
int tap_join_open_resolver(void);

/*
 * Gives the tap that is joined to NAME this MTU, which NAME has. 0 or -errno,
 * not logged.
 */
int tap_join_set_mtu(const char *name, uint32_t mtu);

/*
 * Takes off NAME what a guest's end has left, so that this namespace's stack
 * can receive again. Does nothing where a guest is still joined, or none was.
 */
void tap_join_undo(const char *name);

#endif
