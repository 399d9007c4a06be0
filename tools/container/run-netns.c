/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network namespace that the program runs in becomes the guest's: one
 * network device for each interface, joined to it, and the same names,
 * addresses, routes and neighbours in the guest.
 */
#include "tools/container/run.h"

#include "devices/host/tap-join.h"
#include "tools/container/netns.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct run_netns {
	struct netns netns;
	struct agent_link *links;   /* owned; one for each of its own */
	struct agent_exact *exacts; /* owned; those that the links name */
};

static int add_link(struct run_machine *machine, const struct netns_link *from,
		    struct agent_link *link, struct agent_exact *exact)
{
	const uint8_t *m = from->mac;
	char mac[24];

	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1],
		 m[2], m[3], m[4], m[5]);
	*exact = (struct agent_exact){
		.mac = {m[0], m[1], m[2], m[3], m[4], m[5]},
		.addresses = from->addresses,
		.naddresses = from->naddresses,
		.routes = from->routes,
		.nroutes = from->nroutes,
		.neighbours = from->neighbours,
		.nneighbours = from->nneighbours,
	};
	*link = (struct agent_link){.name = from->name, .exact = exact};
	return run_add_device(&machine->cfg, "net",
			      (const struct config_pair[]){
				      {"join", from->name},
				      {"mac", mac},
			      },
			      2);
}

int run_netns_make(struct run_machine *machine)
{
	struct run_netns *n = calloc(1, sizeof(*n));
	int r;

	if (!n)
		return log_ret(-ENOMEM, "out of memory");
	machine->netns = n;
	if (netns_is_host())
		return log_ret(-EINVAL,
			       "the host's own network namespace is not given "
			       "to a guest, as the host would be without a "
			       "network: run this in another one");
	r = netns_scan(&n->netns);
	if (r < 0)
		return r;
	n->links = calloc(n->netns.nlinks + 1, sizeof(*n->links));
	n->exacts = calloc(n->netns.nlinks + 1, sizeof(*n->exacts));
	if (!n->links || !n->exacts)
		return log_ret(-ENOMEM, "out of memory");
	for (size_t i = 0; r == 0 && i < n->netns.nlinks; i++)
		r = add_link(machine, &n->netns.links[i], &n->links[i],
			     &n->exacts[i]);
	machine->agent.links = n->links;
	machine->agent.nlinks = n->netns.nlinks;
	return r;
}

void run_netns_free(struct run_netns *n)
{
	if (!n)
		return;
	for (size_t i = 0; i < n->netns.nlinks; i++)
		tap_join_undo(n->netns.links[i].name);
	netns_done(&n->netns);
	free(n->links);
	free(n->exacts);
	free(n);
}
