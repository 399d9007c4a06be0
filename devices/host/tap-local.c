/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The namespace has the same addresses as its guest, and Linux looks for an
 * address of its own first. So a table of routes is looked at before, for
 * packets that are made here alone (iif lo): it says that these addresses are
 * behind the tap, and from which address, one that the guest can answer, such
 * packets come. Packets from outside find their way as before.
 *
 * A rule cannot be put before the first one, only after those of the same
 * number. So a second one for the namespace's own addresses is added after
 * ours, and then the first one is taken away.
 */
#include "devices/host/tap-local.h"

#include "devices/host/tap-filter.h"
#include "vmm/base/netlink.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* The table's number: nobody else's. */
#define TABLE 0xb17cU

struct tap_local tap_local_of(unsigned index)
{
	/*
	 * Hosts choose no address of 169.254.255.0/24 by themselves (RFC 3927,
	 * 2.1). Two interfaces of one guest may have the same.
	 */
	struct tap_local l = {
		.ipv4 = {169, 254, 255, (uint8_t)(1 + index % 254)},
		.ipv6 = {0xfe, 0x80, [8] = 0xb1, 0x7c},
		.mac = {0x0a, 0xb1, 0x7c, 0, 0, 1},
	};

	for (unsigned i = 0; i < 4; i++)
		l.ipv6[15 - i] = (uint8_t)(index >> (8 * i));
	return l;
}

static size_t address_bytes(int family)
{
	return family == AF_INET ? 4 : 16;
}

/* ---- the order of tables */

struct rules {
	unsigned ours, local; /* among the first ones, those with number 0 */
	bool ours_first;
};

static int take_rule(void *arg, const struct nlmsghdr *message)
{
	struct rules *rules = arg;
	const struct rtattr *attributes[FRA_TABLE + 1];
	const struct fib_rule_hdr *m = netlink_parse(
		message, sizeof(*m), attributes, ARRAY_LEN(attributes));
	uint32_t priority = 0, table;

	if (!m || message->nlmsg_type != RTM_NEWRULE)
		return 0;
	(void)netlink_get(attributes[FRA_PRIORITY], &priority,
			  sizeof(priority));
	table = m->table;
	(void)netlink_get(attributes[FRA_TABLE], &table, sizeof(table));
	if (priority != 0)
		return 0;
	if (table == TABLE && rules->local == 0)
		rules->ours_first = true;
	rules->ours += table == TABLE;
	rules->local += table == RT_TABLE_LOCAL;
	return 0;
}

static int look(int family, struct rules *ret)
{
	int r;

	do {
		autofd int fd = netlink_open();
		struct netlink_request request;
		struct fib_rule_hdr *m =
			netlink_begin(&request, RTM_GETRULE, 0, sizeof(*m));

		m->family = (uint8_t)family;
		*ret = (struct rules){0};
		r = fd < 0 ? fd : netlink_dump(fd, &request, take_rule, ret);
	} while (r == -EINTR);
	return r;
}

/* TYPE: RTM_NEWRULE, RTM_DELRULE. */
static int change_rule(int fd, uint16_t type, int family, uint32_t table)
{
	const uint32_t first = 0;
	struct netlink_request r;
	struct fib_rule_hdr *m = netlink_begin(
		&r, type, type == RTM_NEWRULE ? NLM_F_CREATE : 0, sizeof(*m));

	m->family = (uint8_t)family;
	m->action = FR_ACT_TO_TBL;
	netlink_add(&r, FRA_PRIORITY, &first, sizeof(first));
	netlink_add(&r, FRA_TABLE, &table, sizeof(table));
	if (table == TABLE)
		netlink_add(&r, FRA_IIFNAME, "lo", sizeof("lo"));
	return netlink_transact(fd, &r);
}

static int put_first(int fd, int family)
{
	struct rules rules;
	int r = look(family, &rules);

	if (r < 0 || rules.ours_first)
		return r;
	r = change_rule(fd, RTM_NEWRULE, family, TABLE);
	/* None: others have given it a place further on, behind ours. */
	if (r == 0 && rules.local > 0)
		r = change_rule(fd, RTM_NEWRULE, family, RT_TABLE_LOCAL);
	/* More than one where a process was killed in the midst of this. */
	while (r == 0 && rules.local-- > 0)
		r = change_rule(fd, RTM_DELRULE, family, RT_TABLE_LOCAL);
	return r;
}

void tap_local_close(void)
{
	static const int families[] = {AF_INET, AF_INET6};
	autofd int fd = netlink_open();

	for (unsigned i = 0; fd >= 0 && i < ARRAY_LEN(families); i++) {
		struct rules rules;

		if (look(families[i], &rules) < 0)
			continue;
		while (rules.ours-- > 0)
			(void)change_rule(fd, RTM_DELRULE, families[i], TABLE);
		while (rules.local-- > 1)
			(void)change_rule(fd, RTM_DELRULE, families[i],
					  RT_TABLE_LOCAL);
	}
}

/* ---- an interface's addresses */

struct way {
	int fd; /* borrowed */
	unsigned index, tap;
	const uint8_t *mac;
	struct tap_local local;
	bool has[2]; /* IPv4, IPv6: done for the family */
};

/* One that the namespace's programs send from. */
static int add_source(const struct way *w, int family, const void *source)
{
	const size_t bytes = address_bytes(family);
	const uint32_t flags = family == AF_INET6 ? IFA_F_NODAD : 0;
	struct netlink_request r;
	struct ifaddrmsg *m = netlink_begin(
		&r, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*m));

	m->ifa_family = (uint8_t)family;
	m->ifa_prefixlen = (uint8_t)(8 * bytes);
	m->ifa_index = w->tap;
	/* Never chosen for packets that go elsewhere. */
	m->ifa_scope = RT_SCOPE_LINK;
	netlink_add(&r, IFA_LOCAL, source, bytes);
	netlink_add(&r, IFA_ADDRESS, source, bytes);
	netlink_add(&r, IFA_FLAGS, &flags, sizeof(flags));
	return netlink_transact(w->fd, &r);
}

/* An engine switches IPv6 off for interfaces that it does not know. */
static int switch_ipv6_on(unsigned tap)
{
	char name[IFNAMSIZ], path[80];
	autofd int fd = -1;

	if (!if_indextoname(tap, name))
		return -errno;
	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6",
		 name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 || write(fd, "0", 1) != 1 ? -errno : 0;
}

static int add_route(const struct way *w, int family, const void *address,
		     const void *source)
{
	const uint32_t table = TABLE, tap = w->tap;
	struct netlink_request r;
	struct rtmsg *m = netlink_begin(
		&r, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*m));

	m->rtm_family = (uint8_t)family;
	m->rtm_dst_len = (uint8_t)(8 * address_bytes(family));
	m->rtm_table = RT_TABLE_COMPAT;
	m->rtm_protocol = RTPROT_BOOT;
	m->rtm_type = RTN_UNICAST;
	m->rtm_scope = RT_SCOPE_LINK;
	netlink_add(&r, RTA_DST, address, address_bytes(family));
	netlink_add(&r, RTA_PREFSRC, source, address_bytes(family));
	netlink_add(&r, RTA_OIF, &tap, sizeof(tap));
	netlink_add(&r, RTA_TABLE, &table, sizeof(table));
	return netlink_transact(w->fd, &r);
}

/* The guest is not asked for its Ethernet address, which is known. */
static int add_neighbour(const struct way *w, int family, const void *address)
{
	struct netlink_request r;
	struct ndmsg *m = netlink_begin(
		&r, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*m));

	m->ndm_family = (uint8_t)family;
	m->ndm_ifindex = (int)w->tap;
	m->ndm_state = NUD_PERMANENT;
	netlink_add(&r, NDA_DST, address, address_bytes(family));
	netlink_add(&r, NDA_LLADDR, w->mac, 6);
	return netlink_transact(w->fd, &r);
}

static int add_way(struct way *w, int family, const void *address)
{
	const bool four = family == AF_INET;
	const void *source = four ? (const void *)w->local.ipv4 : w->local.ipv6;
	int r = 0;

	if (!w->has[!four]) {
		r = add_source(w, family, source);
		if (r == -EACCES && !four && switch_ipv6_on(w->tap) == 0)
			r = add_source(w, family, source);
		if (r == 0)
			r = put_first(w->fd, family);
		w->has[!four] = r == 0;
	}
	if (r == 0)
		r = add_neighbour(w, family, address);
	return r < 0 ? r : add_route(w, family, address, source);
}

static int take_address(void *arg, const struct nlmsghdr *message)
{
	struct way *w = arg;
	const struct rtattr *table[IFA_LOCAL + 1];
	const struct ifaddrmsg *m =
		netlink_parse(message, sizeof(*m), table, ARRAY_LEN(table));
	uint8_t address[16];

	if (!m || message->nlmsg_type != RTM_NEWADDR ||
	    m->ifa_index != w->index ||
	    (m->ifa_family != AF_INET && m->ifa_family != AF_INET6) ||
	    !netlink_get(table[table[IFA_LOCAL] ? IFA_LOCAL : IFA_ADDRESS],
			 address, address_bytes(m->ifa_family)))
		return 0;
	/* One of the link alone says nothing without the link's name. */
	if (m->ifa_family == AF_INET6 && m->ifa_scope != RT_SCOPE_UNIVERSE)
		return 0;
	return add_way(w, m->ifa_family, address);
}

int tap_local_open(unsigned index, unsigned tap, const uint8_t mac[6])
{
	autofd int own = netlink_open();
	struct way w = {.fd = own,
			.index = index,
			.tap = tap,
			.mac = mac,
			.local = tap_local_of(index)};
	int r = own < 0 ? own
			: tap_filter_local(own, tap, w.local.ipv4,
					   w.local.ipv6);

	if (r < 0)
		return r;
	do {
		autofd int fd = netlink_open();
		struct netlink_request request;

		netlink_begin(&request, RTM_GETADDR, 0,
			      sizeof(struct ifaddrmsg));
		r = fd < 0 ? fd : netlink_dump(fd, &request, take_address, &w);
	} while (r == -EINTR);
	return r;
}
