/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dumps of rtnetlink(7): links, their addresses, routes and neighbours. Changes
 * nothing.
 */
#include "tools/container/netns.h"

#include "devices/host/tap-join.h"
#include "devices/host/tap-local.h"
#include "firmware/agent/agent.h"
#include "vmm/base/log.h"
#include "vmm/base/netlink.h"
#include "vmm/base/util.h"

#include <endian.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* Tables that change all the time are a reason to give up. */
#define TRIES_MAX 100

bool netns_is_host(void)
{
	/* Linux shows this setting of all of the machine in the first only. */
	return access("/proc/sys/net/core/netdev_max_backlog", F_OK) == 0;
}

/* ARRAY of N elements with one more, zeroed; NULL: no memory, all as it was. */
static void *grow(void *array, size_t n, size_t size)
{
	if ((n & (n - 1)) == 0)
		array = reallocarray(array, n ? 2 * n : 1, size);
	if (array)
		memset((char *)array + n * size, 0, size);
	return array;
}

static struct netns_link *find(const struct netns *n, uint32_t index)
{
	for (size_t i = 0; i < n->nlinks; i++) {
		if (n->links[i].index == index)
			return &n->links[i];
	}
	return NULL;
}

/* 4 or 6; 0: another one. */
static uint8_t wire_family(uint8_t family)
{
	return family == AF_INET ? 4 : family == AF_INET6 ? 6 : 0;
}

static size_t address_bytes(uint8_t wire)
{
	return wire == 4 ? 4 : 16;
}

/* ---- links */

static bool is_own_tap(const char *name)
{
	return strncmp(name, TAP_JOIN_NAME, strlen(TAP_JOIN_NAME)) == 0;
}

/* NULL, or why no guest can be joined to it. "": that needs no word. */
static const char *why_not(const struct ifinfomsg *info,
			   const struct rtattr *const *table, const char *name)
{
	if (info->ifi_flags & IFF_LOOPBACK || !(info->ifi_flags & IFF_UP) ||
	    is_own_tap(name))
		return "";
	if (info->ifi_type != ARPHRD_ETHER)
		return "it has no Ethernet addresses";
	if (info->ifi_flags & IFF_NOARP)
		return "it does no ARP";
	if (table[IFLA_MASTER])
		return "it is a part of another one";
	return NULL;
}

static int take_link(void *arg, const struct nlmsghdr *message)
{
	struct netns *n = arg;
	const struct rtattr *table[IFLA_MASTER + 1];
	const struct ifinfomsg *info =
		netlink_parse(message, sizeof(*info), table, ARRAY_LEN(table));
	const char *name, *why;
	struct netns_link *link;

	if (!info || message->nlmsg_type != RTM_NEWLINK)
		return 0;
	name = netlink_text(table[IFLA_IFNAME]);
	why = why_not(info, table, name);
	if (why && why[0] && !n->quiet)
		log_warn("interface '%s': the guest does not get it: %s", name,
			 why);
	if (why)
		return 0;
	link = grow(n->links, n->nlinks, sizeof(*link));
	if (!link)
		return -ENOMEM;
	n->links = link;
	link += n->nlinks;
	snprintf(link->name, sizeof(link->name), "%s", name);
	link->index = (unsigned)info->ifi_index;
	if (!netlink_get(table[IFLA_ADDRESS], link->mac, sizeof(link->mac)) ||
	    !netlink_get(table[IFLA_MTU], &link->mtu, sizeof(link->mtu)))
		return -EPROTO;
	/* No device of a guest's has a larger one. */
	link->mtu = (uint32_t)min_u64(link->mtu, ETH_MAX_MTU);
	n->nlinks++;
	return 0;
}

/* ---- addresses */

static int take_address(void *arg, const struct nlmsghdr *message)
{
	const struct netns *n = arg;
	const struct rtattr *table[IFA_FLAGS + 1];
	const struct ifaddrmsg *m =
		netlink_parse(message, sizeof(*m), table, ARRAY_LEN(table));
	struct netns_link *link = m ? find(n, m->ifa_index) : NULL;
	struct agent_address *a;
	uint8_t family;

	if (!link || message->nlmsg_type != RTM_NEWADDR)
		return 0;
	family = wire_family(m->ifa_family);
	/* One that another host has is nobody's here either. */
	if (!family || m->ifa_flags & IFA_F_DADFAILED)
		return 0;
	a = grow(link->addresses, link->naddresses, sizeof(*a));
	if (!a)
		return -ENOMEM;
	link->addresses = a;
	a += link->naddresses;
	a->family = family;
	a->prefix = m->ifa_prefixlen;
	/* Where two hosts are a network, ADDRESS is the other one. */
	if (!netlink_get(table[table[IFA_LOCAL] ? IFA_LOCAL : IFA_ADDRESS],
			 a->address, address_bytes(family)))
		return -EPROTO;
	link->naddresses++;
	return 0;
}

/* ---- routes */

/* Those that a table has because of others, or for all hosts at once. */
static bool is_wanted(const struct rtmsg *m, const struct rtattr *const *table)
{
	uint32_t number = m->rtm_table;

	(void)netlink_get(table[RTA_TABLE], &number, sizeof(number));
	return wire_family(m->rtm_family) && number == RT_TABLE_MAIN &&
	       !(m->rtm_flags & (RTM_F_CLONED | RTNH_F_DEAD));
}

static int fill_route(struct agent_route *w, const struct rtmsg *m,
		      const struct rtattr *const *table)
{
	const size_t bytes = address_bytes(wire_family(m->rtm_family));
	const struct rtattr *metrics[RTAX_MTU + 1];
	uint32_t number = 0;

	*w = (struct agent_route){
		.family = wire_family(m->rtm_family),
		.prefix = m->rtm_dst_len,
		.scope = m->rtm_scope,
	};
	if (m->rtm_dst_len &&
	    !netlink_get(table[RTA_DST], w->destination, bytes))
		return -EPROTO;
	if (netlink_get(table[RTA_GATEWAY], w->gateway, bytes))
		w->flags |= AGENT_ROUTE_GATEWAY;
	if (netlink_get(table[RTA_PREFSRC], w->source, bytes))
		w->flags |= AGENT_ROUTE_SOURCE;
	if (m->rtm_flags & RTNH_F_ONLINK)
		w->flags |= AGENT_ROUTE_ONLINK;
	if (netlink_get(table[RTA_PRIORITY], &number, sizeof(number)))
		w->metric = htole32(number);
	netlink_parse_nested(table[RTA_METRICS], metrics, ARRAY_LEN(metrics));
	if (netlink_get(metrics[RTAX_MTU], &number, sizeof(number)))
		w->mtu = htole32(number);
	return 0;
}

static int take_route(void *arg, const struct nlmsghdr *message)
{
	const struct netns *n = arg;
	const struct rtattr *table[RTA_VIA + 1];
	const struct rtmsg *m =
		netlink_parse(message, sizeof(*m), table, ARRAY_LEN(table));
	struct netns_link *link;
	struct agent_route *route;
	uint32_t index;
	int r;

	if (!m || message->nlmsg_type != RTM_NEWROUTE || !is_wanted(m, table))
		return 0;
	if (m->rtm_type != RTN_UNICAST || table[RTA_MULTIPATH] ||
	    table[RTA_VIA]) {
		if (!n->quiet)
			log_warn("a route without one next hop of its own "
				 "family is not given to the guest");
		return 0;
	}
	if (m->rtm_src_len || m->rtm_tos) {
		if (!n->quiet)
			log_warn("a route for packets of one source or type of "
				 "service alone is not given to the guest");
		return 0;
	}
	link = netlink_get(table[RTA_OIF], &index, sizeof(index))
		       ? find(n, index)
		       : NULL;
	if (!link)
		return 0;
	route = grow(link->routes, link->nroutes, sizeof(*route));
	if (!route)
		return -ENOMEM;
	link->routes = route;
	r = fill_route(route + link->nroutes, m, table);
	if (r == 0)
		link->nroutes++;
	return r;
}

/* ---- neighbours */

static int take_neighbour(void *arg, const struct nlmsghdr *message)
{
	const struct netns *n = arg;
	const struct rtattr *table[NDA_LLADDR + 1];
	const struct ndmsg *m =
		netlink_parse(message, sizeof(*m), table, ARRAY_LEN(table));
	struct netns_link *link = m ? find(n, (uint32_t)m->ndm_ifindex) : NULL;
	struct agent_neighbour *w;

	if (!link || message->nlmsg_type != RTM_NEWNEIGH ||
	    !(m->ndm_state & NUD_PERMANENT) || !wire_family(m->ndm_family))
		return 0;
	w = grow(link->neighbours, link->nneighbours, sizeof(*w));
	if (!w)
		return -ENOMEM;
	link->neighbours = w;
	w += link->nneighbours;
	w->family = wire_family(m->ndm_family);
	if (netlink_get(table[NDA_DST], w->address, address_bytes(w->family)) &&
	    netlink_get(table[NDA_LLADDR], w->mac, sizeof(w->mac)))
		link->nneighbours++;
	return 0;
}

/* ---- this namespace's programs */

static int add_program(struct netns_link *link, uint8_t wire,
		       const uint8_t *address, const uint8_t mac[6])
{
	struct agent_neighbour *w =
		grow(link->neighbours, link->nneighbours, sizeof(*w));

	if (!w)
		return -ENOMEM;
	link->neighbours = w;
	w += link->nneighbours++;
	w->family = wire;
	memcpy(w->address, address, address_bytes(wire));
	memcpy(w->mac, mac, sizeof(w->mac));
	return 0;
}

static bool has_family(const struct netns_link *link, uint8_t wire)
{
	for (size_t i = 0; i < link->naddresses; i++) {
		if (link->addresses[i].family == wire)
			return true;
	}
	return false;
}

/* They are neighbours to the guest: see devices/host/tap-local.h. */
static int add_programs(struct netns_link *link)
{
	const struct tap_local local = tap_local_of(link->index);
	struct agent_route *route;
	int r = 0;

	if (has_family(link, 6))
		r = add_program(link, 6, local.ipv6, local.mac);
	if (r < 0 || !has_family(link, 4))
		return r;
	route = grow(link->routes, link->nroutes, sizeof(*route));
	if (!route)
		return -ENOMEM;
	link->routes = route;
	route += link->nroutes++;
	*route = (struct agent_route){
		.family = 4, .prefix = 32, .scope = RT_SCOPE_LINK};
	memcpy(route->destination, local.ipv4, sizeof(local.ipv4));
	return add_program(link, 4, local.ipv4, local.mac);
}

/* ---- all */

static int dump(struct netns *n, uint16_t type, uint8_t family,
		int (*take)(void *arg, const struct nlmsghdr *message))
{
	autofd int fd = netlink_open();
	struct netlink_request r;
	/* The family is the first byte of each kind's fixed part. */
	uint8_t *fixed = netlink_begin(&r, type, 0, sizeof(struct ifinfomsg));

	fixed[0] = family;
	return fd < 0 ? fd : netlink_dump(fd, &r, take, n);
}

static int scan(struct netns *n)
{
	int r = dump(n, RTM_GETLINK, AF_UNSPEC, take_link);

	if (r == 0)
		r = dump(n, RTM_GETADDR, AF_UNSPEC, take_address);
	if (r == 0)
		r = dump(n, RTM_GETROUTE, AF_INET, take_route);
	if (r == 0)
		r = dump(n, RTM_GETROUTE, AF_INET6, take_route);
	if (r == 0)
		r = dump(n, RTM_GETNEIGH, AF_INET, take_neighbour);
	if (r == 0)
		r = dump(n, RTM_GETNEIGH, AF_INET6, take_neighbour);
	for (size_t i = 0; r == 0 && i < n->nlinks; i++)
		r = add_programs(&n->links[i]);
	return r;
}

static int scan_until_whole(struct netns *ret, bool quiet)
{
	int r = -EINTR;

	*ret = (struct netns){0};
	for (unsigned i = 0; r == -EINTR && i < TRIES_MAX; i++) {
		netns_done(ret);
		ret->quiet = quiet;
		r = scan(ret);
	}
	return r;
}

int netns_scan(struct netns *ret)
{
	const int r = scan_until_whole(ret, false);

	return r < 0 ? log_ret(r, "interfaces of the network namespace: %s",
			       strerror(-r))
		     : 0;
}

int netns_scan_again(struct netns *ret)
{
	return scan_until_whole(ret, true);
}

/* NULL: no memory. */
static void *copy(const void *list, size_t n, size_t size)
{
	void *ret = calloc(n + 1, size);

	if (ret && n > 0)
		memcpy(ret, list, n * size);
	return ret;
}

int netns_copy(const struct netns *from, struct netns *ret)
{
	*ret = (struct netns){.places = from->places, .quiet = from->quiet};
	ret->links = calloc(from->nlinks + 1, sizeof(*ret->links));
	if (!ret->links)
		return -ENOMEM;
	for (size_t i = 0; i < from->nlinks; i++) {
		const struct netns_link *l = &from->links[i];
		struct netns_link *to = &ret->links[ret->nlinks++];

		*to = *l;
		to->addresses = copy(l->addresses, l->naddresses,
				     sizeof(*l->addresses));
		to->routes = copy(l->routes, l->nroutes, sizeof(*l->routes));
		to->neighbours = copy(l->neighbours, l->nneighbours,
				      sizeof(*l->neighbours));
		if (!to->addresses || !to->routes || !to->neighbours)
			return -ENOMEM;
	}
	return 0;
}

void netns_done(struct netns *n)
{
	for (size_t i = 0; i < n->nlinks; i++) {
		free(n->links[i].addresses);
		free(n->links[i].routes);
		free(n->links[i].neighbours);
	}
	free(n->links);
	*n = (struct netns){0};
}

static int look_for_tap(void *arg, const struct nlmsghdr *message)
{
	int *found = arg;
	const struct rtattr *table[IFLA_IFNAME + 1];
	const struct ifinfomsg *info =
		netlink_parse(message, sizeof(*info), table, ARRAY_LEN(table));

	if (info && is_own_tap(netlink_text(table[IFLA_IFNAME])))
		*found = 1;
	return 0;
}

int netns_has_guest(void)
{
	int found = 0, r;

	do {
		autofd int fd = netlink_open();
		struct netlink_request request;

		netlink_begin(&request, RTM_GETLINK, 0,
			      sizeof(struct ifinfomsg));
		r = fd < 0 ? fd
			   : netlink_dump(fd, &request, look_for_tap, &found);
	} while (r == -EINTR);
	return r < 0 ? r : found;
}

void netns_leave_all(void)
{
	struct if_nameindex *all = if_nameindex();

	for (struct if_nameindex *i = all; i && i->if_name; i++)
		tap_join_undo(i->if_name);
	if_freenameindex(all);
}
