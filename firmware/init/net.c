/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's interfaces, by rtnetlink(7). Nothing is asked of the network
 * itself: addresses, routes and neighbours come from the host.
 */
#include "firmware/init/net.h"

#include "firmware/init/slots.h"
#include "vmm/base/netlink.h"
#include "vmm/base/util.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static struct ifinfomsg *begin_link(struct netlink_request *r, unsigned index)
{
	struct ifinfomsg *info =
		netlink_begin(r, RTM_NEWLINK, 0, sizeof(*info));

	info->ifi_index = (int)index;
	return info;
}

static int link_up(int fd, unsigned index, uint32_t mtu)
{
	struct netlink_request r;
	struct ifinfomsg *info = begin_link(&r, index);

	info->ifi_flags = IFF_UP;
	info->ifi_change = IFF_UP;
	if (mtu)
		netlink_add(&r, IFLA_MTU, &mtu, sizeof(mtu));
	return netlink_transact(fd, &r);
}

static uint8_t family_of(uint8_t wire)
{
	return wire == 4 ? AF_INET : AF_INET6;
}

static size_t address_bytes(uint8_t wire_family)
{
	return wire_family == 4 ? 4 : 16;
}

/* BARE: without the route to its network that Linux adds by itself. */
static int change_address(int fd, unsigned index, const struct agent_address *a,
			  bool bare)
{
	const size_t bytes = address_bytes(a->family);
	/* Nobody else can have it: usable at once. */
	const uint32_t flags = (a->family == 6 ? IFA_F_NODAD : 0) |
			       (bare ? IFA_F_NOPREFIXROUTE : 0);
	const bool gone = a->flags & AGENT_GONE;
	struct netlink_request r;
	struct ifaddrmsg *m = netlink_begin(
		&r, gone ? RTM_DELADDR : RTM_NEWADDR,
		gone ? 0 : NLM_F_CREATE | NLM_F_REPLACE, sizeof(*m));
	int error;

	m->ifa_family = family_of(a->family);
	m->ifa_prefixlen = a->prefix;
	m->ifa_index = index;
	m->ifa_scope = RT_SCOPE_UNIVERSE;
	netlink_add(&r, IFA_LOCAL, a->address, bytes);
	netlink_add(&r, IFA_ADDRESS, a->address, bytes);
	netlink_add(&r, IFA_FLAGS, &flags, sizeof(flags));
	if (bare && a->family == 4 && a->prefix < 31) {
		uint32_t all;

		memcpy(&all, a->address, sizeof(all));
		all |= htobe32(UINT32_MAX >> a->prefix);
		netlink_add(&r, IFA_BROADCAST, &all, sizeof(all));
	}
	error = netlink_transact(fd, &r);
	/* With an MTU below IPv6's least an interface has nothing of it. */
	return gone && (error == -EADDRNOTAVAIL || error == -ENXIO) ? 0 : error;
}

static struct rtmsg *begin_route(struct netlink_request *r, uint8_t family,
				 uint16_t type, uint16_t flags)
{
	struct rtmsg *m = netlink_begin(r, type, flags, sizeof(*m));

	m->rtm_family = family_of(family);
	m->rtm_table = RT_TABLE_MAIN;
	m->rtm_protocol = RTPROT_BOOT;
	m->rtm_type = RTN_UNICAST;
	m->rtm_scope = RT_SCOPE_UNIVERSE;
	return m;
}

static int add_gateway(int fd, unsigned index, const struct agent_address *a)
{
	struct netlink_request r;
	struct rtmsg *m = begin_route(&r, a->family, RTM_NEWROUTE,
				      NLM_F_CREATE | NLM_F_REPLACE);

	/* It may be outside of the interface's own network. */
	m->rtm_flags = RTNH_F_ONLINK;
	netlink_add(&r, RTA_GATEWAY, a->address, address_bytes(a->family));
	netlink_add(&r, RTA_OIF, &index, sizeof(index));
	return netlink_transact(fd, &r);
}

/*
 * Beside those to the same network by other interfaces, as to fe80::/64: one
 * that replaces would take the place of another interface's.
 */
static int change_route(int fd, unsigned index, const struct agent_route *w)
{
	const bool gone = w->flags & AGENT_ROUTE_GONE;
	const size_t bytes = address_bytes(w->family);
	const uint32_t metric = le32toh(w->metric), mtu = le32toh(w->mtu);
	struct netlink_request r;
	struct rtmsg *m =
		begin_route(&r, w->family, gone ? RTM_DELROUTE : RTM_NEWROUTE,
			    gone ? 0 : NLM_F_CREATE | NLM_F_APPEND);
	int error;

	m->rtm_dst_len = w->prefix;
	m->rtm_scope = w->scope;
	if (w->flags & AGENT_ROUTE_ONLINK)
		m->rtm_flags = RTNH_F_ONLINK;
	if (w->prefix)
		netlink_add(&r, RTA_DST, w->destination, bytes);
	if (w->flags & AGENT_ROUTE_GATEWAY)
		netlink_add(&r, RTA_GATEWAY, w->gateway, bytes);
	if (w->flags & AGENT_ROUTE_SOURCE)
		netlink_add(&r, RTA_PREFSRC, w->source, bytes);
	if (metric)
		netlink_add(&r, RTA_PRIORITY, &metric, sizeof(metric));
	netlink_add(&r, RTA_OIF, &index, sizeof(index));
	if (mtu) {
		const size_t nest = netlink_nest(&r, RTA_METRICS);

		netlink_add(&r, RTAX_MTU, &mtu, sizeof(mtu));
		netlink_nest_end(&r, nest);
	}
	error = netlink_transact(fd, &r);
	/* With an address that goes the kernel takes what depends on it. */
	return error == (gone ? -ESRCH : -EEXIST) ? 0 : error;
}

static int change_neighbour(int fd, unsigned index,
			    const struct agent_neighbour *w)
{
	const bool gone = w->flags & AGENT_GONE;
	struct netlink_request r;
	struct ndmsg *m = netlink_begin(&r, gone ? RTM_DELNEIGH : RTM_NEWNEIGH,
					gone ? 0 : NLM_F_CREATE | NLM_F_REPLACE,
					sizeof(*m));
	int error;

	m->ndm_family = family_of(w->family);
	m->ndm_ifindex = (int)index;
	m->ndm_state = NUD_PERMANENT;
	netlink_add(&r, NDA_DST, w->address, address_bytes(w->family));
	netlink_add(&r, NDA_LLADDR, w->mac, sizeof(w->mac));
	error = netlink_transact(fd, &r);
	return gone && error == -ENOENT ? 0 : error;
}

/* ---- names */

struct search {
	const uint8_t *mac;
	unsigned index; /* 0: none */
	bool stacked;   /* it is not a device's */
	char name[IFNAMSIZ];
};

/* A device's has no kind, as those have that programs make. */
static bool has_kind(const struct rtattr *linkinfo)
{
	const struct rtattr *table[IFLA_INFO_KIND + 1];

	netlink_parse_nested(linkinfo, table, ARRAY_LEN(table));
	return table[IFLA_INFO_KIND];
}

static int look(void *arg, const struct nlmsghdr *message)
{
	struct search *s = arg;
	const struct rtattr *table[IFLA_LINKINFO + 1];
	const struct ifinfomsg *info =
		netlink_parse(message, sizeof(*info), table, ARRAY_LEN(table));
	uint8_t mac[6];
	bool stacked;

	if (!info || !netlink_get(table[IFLA_ADDRESS], mac, sizeof(mac)) ||
	    memcmp(mac, s->mac, sizeof(mac)) != 0)
		return 0;
	stacked = has_kind(table[IFLA_LINKINFO]);
	if (s->index && (stacked || !s->stacked))
		return 0;
	s->index = (unsigned)info->ifi_index;
	s->stacked = stacked;
	snprintf(s->name, sizeof(s->name), "%s",
		 netlink_text(table[IFLA_IFNAME]));
	return 0;
}

/*
 * The interface of that address: the device, where the guest has put a VLAN or
 * a bridge on it, which have the same. 0 or -errno.
 */
static int find_mac(const uint8_t mac[6], struct search *ret)
{
	autofd int fd = netlink_open();
	struct netlink_request r;
	int error;

	*ret = (struct search){.mac = mac};
	netlink_begin(&r, RTM_GETLINK, 0, sizeof(struct ifinfomsg));
	error = fd < 0 ? fd : netlink_dump(fd, &r, look, ret);
	return error < 0 ? error : ret->index ? 0 : -ENODEV;
}

static int rename_link(int fd, unsigned index, const char *name)
{
	struct netlink_request r;

	begin_link(&r, index);
	netlink_add(&r, IFLA_IFNAME, name, strlen(name) + 1);
	return netlink_transact(fd, &r);
}

/*
 * Names by addresses. Two may have each other's, so all get one of our own
 * before.
 */
static int rename_links(int fd, const struct init_config *c,
			struct init_failure *f)
{
	for (int last = 0; last < 2; last++) {
		for (unsigned i = 0; i < c->nlinks; i++) {
			const struct init_link *link = &c->links[i];
			struct search found;
			char name[IFNAMSIZ];
			int r;

			if (!link->has_mac || link->gone)
				continue;
			r = find_mac(link->mac, &found);
			/* One that kept such a name, as its own was taken. */
			snprintf(name, sizeof(name), "bulkhead%u", found.index);
			if (last)
				snprintf(name, sizeof(name), "%s", link->name);
			if (r == 0 && strcmp(found.name, name) != 0 &&
			    (last || strcmp(found.name, link->name) != 0))
				r = rename_link(fd, found.index, name);
			if (r < 0)
				return init_fail(f, INIT_STATUS_SETUP, -r,
						 "name network interface '%s'",
						 link->name);
		}
	}
	return 0;
}

/* ---- an interface */

/* The kernel makes no address of IPv6 itself. */
static int make_bare(int fd, unsigned index)
{
	const uint8_t none = IN6_ADDR_GEN_MODE_NONE;
	struct netlink_request r;
	size_t spec, inet6;
	int error;

	begin_link(&r, index);
	spec = netlink_nest(&r, IFLA_AF_SPEC);
	inet6 = netlink_nest(&r, AF_INET6);
	netlink_add(&r, IFLA_INET6_ADDR_GEN_MODE, &none, sizeof(none));
	netlink_nest_end(&r, inet6);
	netlink_nest_end(&r, spec);
	error = netlink_transact(fd, &r);
	return error == -EAFNOSUPPORT ? 0 : error; /* a kernel without IPv6 */
}

static int fail_part(struct init_failure *f, int r, const char *what,
		     const struct init_link *link)
{
	return init_fail(f, INIT_STATUS_SETUP, -r, "%s of interface '%s'", what,
			 link->name);
}

/* A gateway is reached by what is on the link: that comes first. */
static int add_routes(int fd, unsigned index, const struct init_config *c,
		      unsigned n, struct init_failure *f)
{
	for (int gateways = 0; gateways < 2; gateways++) {
		for (size_t i = 0; i < c->nroutes; i++) {
			const struct init_route *route = &c->routes[i];
			const bool gateway =
				route->wire.flags & AGENT_ROUTE_GATEWAY;
			int r;

			if (route->link != n || gateway != (bool)gateways)
				continue;
			r = change_route(fd, index, &route->wire);
			if (r < 0)
				return fail_part(f, r, "route", &c->links[n]);
		}
	}
	return 0;
}

static int add_neighbours(int fd, unsigned index, const struct init_config *c,
			  unsigned n, struct init_failure *f)
{
	for (size_t i = 0; i < c->nneighbours; i++) {
		int r;

		if (c->neighbours[i].link != n)
			continue;
		r = change_neighbour(fd, index, &c->neighbours[i].wire);
		if (r < 0)
			return fail_part(f, r, "neighbour", &c->links[n]);
	}
	return 0;
}

/* A gateway is reached from an address: those come first. */
static int add_addresses(int fd, unsigned index, const struct init_config *c,
			 unsigned n, struct init_failure *f)
{
	for (int gateways = 0; gateways < 2; gateways++) {
		for (size_t i = 0; i < c->naddresses; i++) {
			const struct init_address *a = &c->addresses[i];
			int r;

			if (a->link != n || a->gateway != (bool)gateways)
				continue;
			r = gateways ? add_gateway(fd, index, &a->wire)
				     : change_address(fd, index, &a->wire,
						      c->links[n].has_mac);
			if (r < 0)
				return fail_part(
					f, r, gateways ? "gateway" : "address",
					&c->links[n]);
		}
	}
	return 0;
}

static int bring_up(int fd, const struct init_config *c, unsigned n,
		    struct init_failure *f)
{
	const struct init_link *link = &c->links[n];
	const unsigned index = if_nametoindex(link->name);
	int r;

	if (index == 0)
		return init_fail(f, INIT_STATUS_SETUP, ENODEV,
				 "network interface '%s'", link->name);
	r = link->has_mac ? make_bare(fd, index) : 0;
	if (r == 0)
		r = link_up(fd, index, link->mtu);
	if (r < 0)
		return init_fail(f, INIT_STATUS_SETUP, -r,
				 "bring up interface '%s'", link->name);
	return add_addresses(fd, index, c, n, f);
}

/* Once all addresses are there: a route may be from another interface's. */
static int add_ways(int fd, const struct init_config *c, unsigned n,
		    struct init_failure *f)
{
	const unsigned index = if_nametoindex(c->links[n].name);

	return add_routes(fd, index, c, n, f) ||
			       add_neighbours(fd, index, c, n, f)
		       ? -1
		       : 0;
}

static int configure_links(int fd, const struct init_config *c,
			   struct init_failure *f)
{
	if (rename_links(fd, c, f))
		return -1;
	for (unsigned i = 0; i < c->nlinks; i++) {
		if (!c->links[i].gone && bring_up(fd, c, i, f))
			return -1;
	}
	for (unsigned i = 0; i < c->nlinks; i++) {
		if (!c->links[i].gone && add_ways(fd, c, i, f))
			return -1;
	}
	return 0;
}

/* A device that is not found by its address is by its name. */
static bool is_missing(const struct init_link *link)
{
	struct search found;

	return link->has_mac ? find_mac(link->mac, &found) == -ENODEV
			     : if_nametoindex(link->name) == 0;
}

static int open_sysfs(struct init_failure *f)
{
	int fd = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? init_fail_path(f, errno, "open", "/sys") : fd;
}

/*
 * A machine that goes on from where another one was saved has devices in places
 * that were empty when its kernel looked.
 */
static int take_missing(const struct init_config *c, struct init_failure *f)
{
	autofd int sys = -1;

	for (size_t i = 0; i < c->nlinks; i++) {
		if (!is_missing(&c->links[i]))
			continue;
		sys = open_sysfs(f);
		return sys < 0 ? -1 : slots_take(sys, f);
	}
	return 0;
}

int net_configure(const struct init_config *c, struct init_failure *f)
{
	autofd int fd = netlink_open();
	int r;

	if (fd < 0)
		return init_fail(f, INIT_STATUS_SETUP, -fd, "netlink");
	r = link_up(fd, if_nametoindex("lo"), 0);
	if (r < 0)
		return init_fail(f, INIT_STATUS_SETUP, -r,
				 "bring up interface 'lo'");
	return take_missing(c, f) ? -1 : configure_links(fd, c, f);
}

/* ---- while the machine runs */

/* Those of CONFIG that are there lose their devices; are others missing? */
static int take_away(int sys, const struct init_config *c, bool *ret_missing,
		     struct init_failure *f)
{
	*ret_missing = false;
	for (size_t i = 0; i < c->nlinks; i++) {
		const struct init_link *link = &c->links[i];
		struct search found;
		int r = find_mac(link->mac, &found);

		if (r == -ENODEV) {
			*ret_missing |= !link->gone;
			continue;
		}
		if (r == 0 && link->gone)
			r = slots_release(sys, found.name);
		if (r < 0)
			return init_fail(f, INIT_STATUS_SETUP, -r,
					 "network interface '%s'", link->name);
	}
	return 0;
}

int net_change(const struct init_config *c, struct init_failure *f)
{
	autofd int fd = netlink_open();
	autofd int sys = open_sysfs(f);
	bool missing;

	if (sys < 0)
		return -1;
	if (fd < 0)
		return init_fail(f, INIT_STATUS_SETUP, -fd, "netlink");
	if (take_away(sys, c, &missing, f) || (missing && slots_take(sys, f)))
		return -1;
	return configure_links(fd, c, f);
}
