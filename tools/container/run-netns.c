/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network namespace that the program runs in becomes the guest's: one
 * network device for each interface, joined to it, and the same names,
 * addresses, routes and neighbours in the guest.
 */
#include "tools/container/run.h"

#include "firmware/agent/agent.h"
#include "firmware/machine.h"
#include "tools/container/netns.h"
#include "tools/container/resolv-conf.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Each costs a guest's start a few reads of registers. */
#define SPARES 4
/* As many as a network has with one interface: one template serves both. */
#define PLACES_LEAST (SPARES + 1)

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
	*link = (struct agent_link){
		.name = from->name, .mtu = from->mtu, .exact = exact};
	return run_add_device(
		&machine->cfg, "net",
		(const struct config_pair[]){
			{"join", from->name},
			{"mac", mac},
			/* The agent sets it, and may set another one later. */
			{"mtu", "65535"},
			{"resolver", machine->names.count ? "true" : NULL},
		},
		4);
}

/* A share's trees are no devices to the guest. */
static bool has_room(const struct config *cfg)
{
	unsigned n = 1; /* its console */

	for (unsigned i = 0; i < cfg->ndevices; i++)
		n += strcmp(cfg->device[i].type, "tree") != 0;
	return n < MACHINE_VIRTIO_MAX && cfg->ndevices < CONFIG_DEVICES_MAX;
}

/*
 * Places for interfaces that come while the guest runs, as far as the machine
 * has room. All other devices are there by now, but for its console.
 */
static int add_spares(struct run_machine *machine)
{
	const unsigned links = (unsigned)machine->netns.nlinks;
	const unsigned most = links ? links + SPARES : PLACES_LEAST;
	int r = 0;

	machine->netns.places = links;
	while (r == 0 && machine->netns.places < most &&
	       has_room(&machine->cfg)) {
		r = run_add_device(
			&machine->cfg, "net",
			(const struct config_pair[]){{"spare", "true"}}, 1);
		machine->netns.places++;
	}
	return r;
}

/* ---- name servers */

/*
 * A name server of the loopback, as Docker's at 127.0.0.11, is not the guest's:
 * it is relayed. Where the guest has no list of its own it gets this one.
 */
static int make_names(struct run_machine *machine)
{
	const bool see = !machine->agent.keep_etc && machine->dns.count == 0;
	struct resolv_conf conf;
	int r = resolv_conf_read(&conf);

	if (r == 0)
		r = resolv_conf_add_names(&conf, &machine->names);
	for (unsigned i = 0; r == 0 && see && i < conf.servers.count; i++)
		r = text_list_add(&machine->dns, conf.servers.item[i]);
	for (unsigned i = 0; r == 0 && see && i < conf.search.count; i++)
		r = text_list_add(&machine->search, conf.search.item[i]);
	resolv_conf_done(&conf);
	machine->agent.names = text_list_items(&machine->names);
	machine->agent.search = text_list_items(&machine->search);
	machine->agent.dns = text_list_items(&machine->dns);
	return r;
}

int run_netns_make(struct run_machine *machine)
{
	struct netns *n = &machine->netns;
	int r;

	if (netns_is_host())
		return log_ret(-EINVAL,
			       "the host's own network namespace is not given "
			       "to a guest, as the host would be without a "
			       "network: run this in another one");
	r = netns_scan(n);
	if (r < 0)
		return r;
	machine->links = calloc(n->nlinks + 1, sizeof(*machine->links));
	machine->exacts = calloc(n->nlinks + 1, sizeof(*machine->exacts));
	if (!machine->links || !machine->exacts)
		return log_ret(-ENOMEM, "out of memory");
	/* The devices leave a resolver of this namespace its answers. */
	r = make_names(machine);
	for (size_t i = 0; r == 0 && i < n->nlinks; i++)
		r = add_link(machine, &n->links[i], &machine->links[i],
			     &machine->exacts[i]);
	machine->agent.links = machine->links;
	machine->agent.nlinks = n->nlinks;
	return r < 0 ? r : add_spares(machine);
}
