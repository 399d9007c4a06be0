/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A little of rtnetlink(7): one request, one acknowledgement. Nothing is asked
 * of the network itself; all addresses come from the host.
 */
#include "firmware/init/net.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define REQUEST_BYTES 256

struct request {
	struct nlmsghdr header;
	char body[REQUEST_BYTES];
};

static void *begin(struct request *r, uint16_t type, uint16_t flags,
		   size_t bytes)
{
	memset(r, 0, sizeof(*r));
	r->header.nlmsg_type = type;
	r->header.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
	r->header.nlmsg_len = (uint32_t)NLMSG_LENGTH(bytes);
	return NLMSG_DATA(&r->header);
}

static void add(struct request *r, uint16_t type, const void *data,
		size_t bytes)
{
	const size_t at = NLMSG_ALIGN(r->header.nlmsg_len);
	struct rtattr *a = (struct rtattr *)(void *)((char *)r + at);

	a->rta_type = type;
	a->rta_len = (uint16_t)RTA_LENGTH(bytes);
	memcpy(RTA_DATA(a), data, bytes);
	r->header.nlmsg_len = (uint32_t)(at + RTA_ALIGN(a->rta_len));
}

/* 0 or -errno, as the kernel acknowledges it. */
static int transact(int fd, const struct request *r)
{
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char rest[REQUEST_BYTES];
	} answer;
	ssize_t n;

	if (send(fd, r, r->header.nlmsg_len, 0) < 0)
		return -errno;
	n = recv(fd, &answer, sizeof(answer), 0);
	if (n < 0)
		return -errno;
	if ((size_t)n < sizeof(answer.header) + sizeof(answer.error) ||
	    answer.header.nlmsg_type != NLMSG_ERROR)
		return -EPROTO;
	return answer.error.error;
}

static int link_up(int fd, unsigned index, uint32_t mtu)
{
	struct request r;
	struct ifinfomsg *info = begin(&r, RTM_NEWLINK, 0, sizeof(*info));

	info->ifi_index = (int)index;
	info->ifi_flags = IFF_UP;
	info->ifi_change = IFF_UP;
	if (mtu)
		add(&r, IFLA_MTU, &mtu, sizeof(mtu));
	return transact(fd, &r);
}

static size_t address_bytes(const struct agent_address *a)
{
	return a->family == 4 ? 4 : 16;
}

static int add_address(int fd, unsigned index, const struct agent_address *a)
{
	struct request r;
	struct ifaddrmsg *m = begin(&r, RTM_NEWADDR,
				    NLM_F_CREATE | NLM_F_REPLACE, sizeof(*m));

	m->ifa_family = a->family == 4 ? AF_INET : AF_INET6;
	m->ifa_prefixlen = a->prefix;
	m->ifa_index = index;
	/* Nobody else can have it: usable at once. */
	m->ifa_flags = a->family == 6 ? IFA_F_NODAD : 0;
	add(&r, IFA_LOCAL, a->address, address_bytes(a));
	add(&r, IFA_ADDRESS, a->address, address_bytes(a));
	return transact(fd, &r);
}

static int add_gateway(int fd, unsigned index, const struct agent_address *a)
{
	struct request r;
	struct rtmsg *m = begin(&r, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE,
				sizeof(*m));

	m->rtm_family = a->family == 4 ? AF_INET : AF_INET6;
	m->rtm_table = RT_TABLE_MAIN;
	m->rtm_protocol = RTPROT_BOOT;
	m->rtm_type = RTN_UNICAST;
	m->rtm_scope = RT_SCOPE_UNIVERSE;
	/* It may be outside of the interface's own network. */
	m->rtm_flags = RTNH_F_ONLINK;
	add(&r, RTA_GATEWAY, a->address, address_bytes(a));
	add(&r, RTA_OIF, &index, sizeof(index));
	return transact(fd, &r);
}

static int configure_link(int fd, const struct init_config *c, unsigned n,
			  struct init_failure *f)
{
	const struct init_link *link = &c->links[n];
	const unsigned index = if_nametoindex(link->name);
	int r;

	if (index == 0)
		return init_fail(f, INIT_STATUS_SETUP, ENODEV,
				 "network interface '%s'", link->name);
	r = link_up(fd, index, link->mtu);
	if (r < 0)
		return init_fail(f, INIT_STATUS_SETUP, -r,
				 "bring up interface '%s'", link->name);
	/* A gateway is reached from an address: those come first. */
	for (int gateways = 0; gateways < 2; gateways++) {
		for (size_t i = 0; i < c->naddresses; i++) {
			const struct init_address *a = &c->addresses[i];

			if (a->link != n || a->gateway != (bool)gateways)
				continue;
			r = gateways ? add_gateway(fd, index, &a->wire)
				     : add_address(fd, index, &a->wire);
			if (r < 0)
				return init_fail(f, INIT_STATUS_SETUP, -r,
						 "%s of interface '%s'",
						 gateways ? "gateway"
							  : "address",
						 link->name);
		}
	}
	return 0;
}

int net_configure(const struct init_config *c, struct init_failure *f)
{
	autofd int fd =
		socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	int r;

	if (fd < 0)
		return init_fail(f, INIT_STATUS_SETUP, errno, "netlink");
	r = link_up(fd, if_nametoindex("lo"), 0);
	if (r < 0)
		return init_fail(f, INIT_STATUS_SETUP, -r,
				 "bring up interface 'lo'");
	for (unsigned i = 0; i < c->nlinks; i++) {
		if (configure_link(fd, c, i, f))
			return -1;
	}
	return 0;
}
