/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interfaces of a network namespace, as a guest that takes the place of its
 * stack is to have them.
 */
#ifndef TOOLS_CONTAINER_NETNS_H
#define TOOLS_CONTAINER_NETNS_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct agent_address;
struct agent_neighbour;
struct agent_route;

struct netns_link {
	char name[IFNAMSIZ];
	unsigned index;
	uint8_t mac[6];
	uint32_t mtu;
	struct agent_address *addresses; /* owned, as the next two */
	struct agent_route *routes;      /* of the main table, one next hop */
	struct agent_neighbour *neighbours; /* permanent ones */
	size_t naddresses, nroutes, nneighbours;
};

struct netns {
	struct netns_link *links; /* owned */
	size_t nlinks;
	/*
	 * The machine's network devices, the first of which are the links': 0:
	 * no guest is in the place of this namespace's stack.
	 */
	unsigned places;
	bool quiet; /* netns_scan_again() */
};

/*
 * Reads those of the calling thread's network namespace that a guest can be
 * joined to: Ethernet, up, and no part of another one. Warns of those that are
 * up and cannot be joined, and of routes that are left out. 0 or -errno,
 * logged. netns_done() accepts what a failure leaves.
 */
int netns_scan(struct netns *ret);
void netns_done(struct netns *netns);
/* The same, without a word. 0 or -errno, not logged. */
int netns_scan_again(struct netns *ret);
/* 0 or -ENOMEM; netns_done() accepts what that leaves. */
int netns_copy(const struct netns *netns, struct netns *ret);

/*
 * Whether a guest is joined to an interface of the calling thread's network
 * namespace. 1, 0, or -errno, not logged.
 */
int netns_has_guest(void);
/*
 * Once a guest that was joined to them is gone: the interfaces' own stack
 * receives again. Others are as they were.
 */
void netns_leave_all(void);

/* Whether the calling thread's is the first one, the host's own. */
bool netns_is_host(void);

#endif
