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
#include "vmm/base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Each costs a guest's start a few reads of registers. */
#define SPARES 4

#define RESOLV_CONF  "/etc/resolv.conf"
#define RESOLV_BYTES 65536

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
	return run_add_device(
		&machine->cfg, "net",
		(const struct config_pair[]){
			{"join", from->name},
			{"mac", mac},
			{"resolver", machine->names.count ? "true" : NULL},
		},
		3);
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
	int r = 0;

	machine->netns.places = (unsigned)machine->netns.nlinks;
	for (unsigned i = 0; r == 0 && i < SPARES && has_room(&machine->cfg);
	     i++) {
		r = run_add_device(
			&machine->cfg, "net",
			(const struct config_pair[]){{"spare", "true"}}, 1);
		machine->netns.places++;
	}
	return r;
}

/* ---- name servers */

/* A file of whoever made the namespace, or of an image: it may be anything. */
static char *read_resolv_conf(void)
{
	autofd int fd =
		open(RESOLV_CONF, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	autofree char *text = calloc(1, RESOLV_BYTES + 1);
	struct stat st;
	size_t n = 0;
	ssize_t got;

	if (fd < 0 || !text || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return NULL;
	while (n < RESOLV_BYTES &&
	       (got = read(fd, text + n, RESOLV_BYTES - n)) > 0)
		n += (size_t)got;
	return take_ptr(text);
}

static bool is_loopback(const char *text)
{
	struct in6_addr v6;
	struct in_addr v4;

	if (inet_pton(AF_INET, text, &v4) == 1)
		return ntohl(v4.s_addr) >> 24 == 127;
	return inet_pton(AF_INET6, text, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

static bool has_text(const struct text_list *list, const char *text)
{
	for (unsigned i = 0; i < list->count; i++) {
		if (strcmp(list->item[i], text) == 0)
			return true;
	}
	return false;
}

/* SEE: the guest's own file is written, and names what this one does. */
static int take_line(struct run_machine *machine, char *line, bool see)
{
	char *rest = NULL;
	const char *word = strtok_r(line, " \t\r", &rest);
	int r = 0;

	if (word && strcmp(word, "nameserver") == 0) {
		word = strtok_r(NULL, " \t\r", &rest);
		if (!word || !run_is_address(word))
			return 0;
		if (is_loopback(word) && !has_text(&machine->names, word) &&
		    machine->names.count < AGENT_NAMES_SERVERS)
			r = text_list_add(&machine->names, word);
		return r == 0 && see ? text_list_add(&machine->dns, word) : r;
	}
	if (!see || !word ||
	    (strcmp(word, "search") != 0 && strcmp(word, "domain") != 0))
		return 0;
	while (r == 0 && (word = strtok_r(NULL, " \t\r", &rest)))
		r = text_list_add(&machine->search, word);
	return r;
}

/*
 * A name server of the loopback, as Docker's at 127.0.0.11, is not the guest's:
 * it is relayed. Where the guest has no list of its own it gets this one.
 */
static int make_names(struct run_machine *machine)
{
	const bool see = !machine->agent.keep_etc && machine->dns.count == 0;
	autofree char *text = read_resolv_conf();
	char *rest = NULL;
	int r = 0;

	for (char *line = text ? strtok_r(text, "\n", &rest) : NULL;
	     r == 0 && line; line = strtok_r(NULL, "\n", &rest))
		r = take_line(machine, line, see);
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
