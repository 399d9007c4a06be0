/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --network and -p. `user` is passt's: fixed addresses behind the host's. A tap
 * is the host's business; what the guest is called there must be said.
 * `namespace` is run-netns.c's.
 */
#include "tools/container/run.h"

#include "devices/host/net.h"
#include "vmm/base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define INTERFACE "eth0"

/* "tap=NAME,address=A/N,gateway=A,mac=M" in parts; borrowed from a copy. */
struct tap_words {
	const char *tap, *address, *gateway, *mac;
};

static int split_tap(const char *text, char *copy, struct tap_words *words)
{
	const struct {
		const char *key;
		const char **to;
	} keys[] = {
		{"tap=", &words->tap},
		{"address=", &words->address},
		{"gateway=", &words->gateway},
		{"mac=", &words->mac},
	};
	char *rest = NULL;

	for (char *word = strtok_r(copy, ",", &rest); word;
	     word = strtok_r(NULL, ",", &rest)) {
		unsigned i = 0;

		while (i < ARRAY_LEN(keys) &&
		       strncmp(word, keys[i].key, strlen(keys[i].key)) != 0)
			i++;
		if (i == ARRAY_LEN(keys))
			return log_ret(-EINVAL,
				       "--network '%s': '%s': expected tap=, "
				       "address=, gateway= or mac=",
				       text, word);
		*keys[i].to = word + strlen(keys[i].key);
	}
	return 0;
}

/* How the guest sets its interface up; texts are kept. */
static int set_link(struct run_machine *machine, const char *address,
		    const char *gateway, uint32_t mtu)
{
	struct agent_link *link = &machine->link;

	link->name = INTERFACE;
	link->mtu = mtu;
	if (address) {
		machine->addresses[0] = run_keep(machine, address);
		if (!machine->addresses[0])
			return -ENOMEM;
		link->addresses = machine->addresses;
	}
	if (gateway) {
		machine->gateways[0] = run_keep(machine, gateway);
		if (!machine->gateways[0])
			return -ENOMEM;
		link->gateways = machine->gateways;
	}
	machine->agent.links = link;
	machine->agent.nlinks = 1;
	return 0;
}

static int make_tap(struct run_machine *machine, const struct run_options *opt)
{
	autofree char *copy = strdup(opt->network);
	struct tap_words words = {0};
	int r;

	if (!copy)
		return log_ret(-ENOMEM, "out of memory");
	if (opt->publish.count)
		return log_ret(-EINVAL,
			       "--publish needs --network user: on a tap the "
			       "guest has an address of its own");
	r = split_tap(opt->network, copy, &words);
	if (r < 0)
		return r;
	r = run_add_device(&machine->cfg, "net",
			   (const struct config_pair[]){
				   {"tap", words.tap},
				   {"mac", words.mac},
			   },
			   2);
	return r < 0 ? r : set_link(machine, words.address, words.gateway, 0);
}

/* "8080" or "8000-8010". */
static void format_ports(char ret_text[24], unsigned first, unsigned last)
{
	if (last > first)
		snprintf(ret_text, 24, "%u-%u", first, last);
	else
		snprintf(ret_text, 24, "%u", first);
}

/* As `docker ps` writes it: "127.0.0.1:8080->80/tcp". */
static int describe(struct text_list *ports, const struct net_publish *publish)
{
	const unsigned more =
		publish->host_last > publish->host
			? (unsigned)publish->host_last - publish->host
			: 0;
	char text[128], host[24], guest[24];

	format_ports(host, publish->host, publish->host + more);
	format_ports(guest, publish->guest, publish->guest + more);
	snprintf(text, sizeof(text), "%s%s:%s->%s/%s", ports->count ? ", " : "",
		 publish->address[0] ? publish->address : "*", host, guest,
		 publish->udp ? "udp" : "tcp");
	return text_list_add(ports, text);
}

/* Checks each, and says all of them for `ps`. */
static int describe_ports(struct run_machine *machine,
			  const struct text_list *list)
{
	struct text_list ports = {0};
	int r = 0;

	for (unsigned i = 0; r == 0 && i < list->count; i++) {
		struct net_publish publish;
		int n = net_parse_publish(list->item[i], &publish);

		if (n >= 0 && list->item[i][n] != '\0')
			n = log_ret(-EINVAL,
				    "--publish '%s': one port, or one range, "
				    "an option",
				    list->item[i]);
		r = n < 0 ? n : describe(&ports, &publish);
	}
	if (r == 0 && ports.count > 0)
		machine->ports = text_list_join(&ports, "");
	if (r == 0 && ports.count > 0 && !machine->ports)
		r = log_ret(-ENOMEM, "out of memory");
	text_list_done(&ports);
	return r;
}

static int add_user_device(struct run_machine *machine,
			   const struct text_list *publish)
{
	struct config_pair *pairs = calloc(publish->count + 1, sizeof(*pairs));
	int r;

	if (!pairs)
		return log_ret(-ENOMEM, "out of memory");
	pairs[0] = (struct config_pair){"user", "true"};
	for (unsigned i = 0; i < publish->count; i++)
		pairs[i + 1] =
			(struct config_pair){"publish", publish->item[i]};
	r = run_add_device(&machine->cfg, "net", pairs, publish->count + 1);
	free(pairs);
	return r;
}

static int make_user(struct run_machine *machine, const struct run_options *opt)
{
	const struct net_user_facts *facts = net_user_facts();
	struct text_list publish = {0};
	char address[64];
	int r = run_publish_resolve(&opt->publish, &machine->chosen, &publish);

	if (r == 0)
		r = describe_ports(machine, &publish);
	if (r == 0)
		r = add_user_device(machine, &publish);
	text_list_done(&publish);
	if (r == 0 && opt->dns.count == 0)
		r = text_list_add(&machine->dns, facts->dns);
	if (r < 0)
		return r;
	snprintf(address, sizeof(address), "%s/%u", facts->address,
		 facts->prefix_bits);
	return set_link(machine, address, facts->gateway, facts->mtu);
}

/* Docker gives a network unless told otherwise; here that takes passt. */
static const char *default_network(const struct run_options *opt)
{
	autofree char *passt = NULL;
	char why[NET_WHY_BYTES];

	if (opt->publish.count)
		return "user"; /* what is missing is then an error */
	/* A network namespace of OCI's is empty. */
	if (opt->bundle)
		return "none";
	passt = net_find_passt();
	if (!passt || !net_host_has_route())
		return "none";
	if (net_passt_starts(why))
		return "user";
	log_warn("no network: %s; '--network none' is without it and without "
		 "this message",
		 why);
	return "none";
}

static int add_dns(struct run_machine *machine, const char *text)
{
	if (!run_is_address(text))
		return log_ret(-EINVAL, "--dns '%s': not an IP address", text);
	return text_list_add(&machine->dns, text);
}

int run_network_make(struct run_machine *machine, const struct run_options *opt)
{
	const char *network =
		opt->network ? opt->network : default_network(opt);
	int r = 0;

	machine->network = network;
	for (unsigned i = 0; r == 0 && i < opt->dns.count; i++)
		r = add_dns(machine, opt->dns.item[i]);
	if (r < 0)
		return r;
	if (strcmp(network, "user") == 0)
		r = make_user(machine, opt);
	else if (strncmp(network, "tap=", 4) == 0)
		r = make_tap(machine, opt);
	else if (strcmp(network, "none") != 0 &&
		 strcmp(network, "namespace") != 0)
		r = log_ret(-EINVAL,
			    "--network '%s': known are none, user (outbound, "
			    "and ports of -p), namespace (this one's) and "
			    "tap=NAME",
			    network);
	else if (opt->publish.count)
		r = log_ret(-EINVAL, "--publish needs --network user");
	else if (strcmp(network, "namespace") == 0)
		r = run_netns_make(machine);
	machine->agent.dns = text_list_items(&machine->dns);
	return r;
}
