/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network namespace with taps for tests and fuzzers of network devices: they
 * run against real interfaces, which vanish with the process. Needs root (or
 * user namespaces, and a /dev/net/tun that everyone may open).
 */
#ifndef TESTS_NETNS_H
#define TESTS_NETNS_H

#include "vmm/base/netlink.h"
#include "vmm/base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/neighbour.h>
#include <linux/veth.h>
#include <linux/sockios.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/*
 * Moves the calling thread, so call it before others start. NULL, or the reason
 * why not.
 */
static inline const char *netns_enter(void)
{
	static bool entered;
	autofd int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (entered)
		return NULL;
	if (tun < 0)
		return "/dev/net/tun cannot be opened; run this as root";
	if (unshare(CLONE_NEWNET) < 0 &&
	    unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		return "no network namespace; run this as root";
	entered = true;
	return NULL;
}

/* The same for a test of cmocka's, which is skipped where it cannot be. */
#define netns_need()                                                           \
	do {                                                                   \
		const char *why_not = netns_enter();                           \
                                                                               \
		if (why_not) {                                                 \
			print_message("%s\n", why_not);                        \
			skip();                                                \
		}                                                              \
	} while (0)

static inline void netns_must(bool condition, const char *what)
{
	if (condition)
		return;
	perror(what);
	abort();
}

static inline void netns_ioctl(const char *name, unsigned long request,
			       struct ifreq *ifr)
{
	autofd int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(ifr->ifr_name, IFNAMSIZ, "%s", name);
	netns_must(fd >= 0 && ioctl(fd, request, ifr) == 0, name);
}

static inline void netns_add(const char *name, int flags)
{
	autofd int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	struct ifreq ifr = {.ifr_flags = (short)(flags | IFF_NO_PI)};

	snprintf(ifr.ifr_name, IFNAMSIZ, "%s", name);
	netns_must(fd >= 0 && ioctl(fd, TUNSETIFF, &ifr) == 0 &&
			   ioctl(fd, TUNSETPERSIST, 1) == 0,
		   name);
}

static inline void netns_add_tap(const char *name, int more_flags)
{
	netns_add(name, IFF_TAP | more_flags);
}

static inline void netns_add_tun(const char *name)
{
	netns_add(name, IFF_TUN);
}

/* Even while someone is attached to it, as 'ip link del' does. */
static inline void netns_delete(const char *name)
{
	autofd int fd =
		socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	struct {
		struct nlmsghdr header;
		struct ifinfomsg info;
	} ask = {
		.header = {.nlmsg_len = sizeof(ask),
			   .nlmsg_type = RTM_DELLINK,
			   .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
		.info = {.ifi_index = (int)if_nametoindex(name)},
	};
	char answer[256];

	netns_must(fd >= 0 && send(fd, &ask, sizeof(ask), 0) == sizeof(ask) &&
			   recv(fd, answer, sizeof(answer), 0) > 0 &&
			   if_nametoindex(name) == 0,
		   name);
}

/* Nothing on it but what a test sends. Before netns_up(). */
static inline void netns_no_ipv6(const char *name)
{
	char path[128];
	autofd int fd = -1;

	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6",
		 name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	netns_must(fd < 0 || write(fd, "1", 1) == 1, path);
}

static inline void netns_set_mtu(const char *name, int mtu)
{
	struct ifreq ifr = {.ifr_mtu = mtu};

	netns_ioctl(name, SIOCSIFMTU, &ifr);
}

static inline void netns_up(const char *name)
{
	struct ifreq ifr = {0};

	netns_ioctl(name, SIOCGIFFLAGS, &ifr);
	ifr.ifr_flags |= IFF_UP;
	netns_ioctl(name, SIOCSIFFLAGS, &ifr);
}

/* ---- several namespaces; the thread goes from one to the other */

/* A descriptor of the one that the thread is in. */
static inline int netns_here(void)
{
	const int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	netns_must(fd >= 0, "namespace");
	return fd;
}

static inline void netns_go(int fd)
{
	netns_must(setns(fd, CLONE_NEWNET) == 0, "setns");
}

/* Goes to a new one. Its descriptor. */
static inline int netns_new(void)
{
	netns_must(unshare(CLONE_NEWNET) == 0, "unshare");
	return netns_here();
}

static inline void netns_ask(const struct netlink_request *r, const char *what)
{
	autofd int fd = netlink_open();

	errno = fd < 0 ? errno : -netlink_transact(fd, r);
	netns_must(fd >= 0 && errno == 0, what);
}

/* A pair, NAME here and PEER in the namespace THERE (-1: here, too). */
static inline void netns_add_veth(const char *name, const char *peer, int there)
{
	struct netlink_request r;
	size_t link, data, other;

	netlink_begin(&r, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL,
		      sizeof(struct ifinfomsg));
	netlink_add(&r, IFLA_IFNAME, name, strlen(name) + 1);
	link = netlink_nest(&r, IFLA_LINKINFO);
	netlink_add(&r, IFLA_INFO_KIND, "veth", sizeof("veth"));
	data = netlink_nest(&r, IFLA_INFO_DATA);
	other = netlink_nest(&r, VETH_INFO_PEER);
	/* Its fixed part stands before its attributes. */
	memset((char *)&r + r.header.nlmsg_len, 0, sizeof(struct ifinfomsg));
	r.header.nlmsg_len += sizeof(struct ifinfomsg);
	netlink_add(&r, IFLA_IFNAME, peer, strlen(peer) + 1);
	if (there >= 0)
		netlink_add(&r, IFLA_NET_NS_FD, &there, sizeof(there));
	netlink_nest_end(&r, other);
	netlink_nest_end(&r, data);
	netlink_nest_end(&r, link);
	netns_ask(&r, name);
}

static inline void netns_set_mac(const char *name, const uint8_t mac[6])
{
	struct netlink_request r;
	struct ifinfomsg *info =
		netlink_begin(&r, RTM_NEWLINK, 0, sizeof(*info));

	info->ifi_index = (int)if_nametoindex(name);
	netlink_add(&r, IFLA_ADDRESS, mac, 6);
	netns_ask(&r, name);
}

/* 4 or 16 bytes of TEXT; the family. */
static inline uint8_t netns_parse(const char *text, uint8_t to[16],
				  size_t *ret_bytes)
{
	const int family = strchr(text, ':') ? AF_INET6 : AF_INET;

	netns_must(inet_pton(family, text, to) == 1, text);
	*ret_bytes = family == AF_INET ? 4 : 16;
	return (uint8_t)family;
}

static inline void netns_add_address(const char *name, const char *text,
				     unsigned char prefix)
{
	uint8_t address[16];
	size_t bytes;
	struct netlink_request r;
	struct ifaddrmsg *m = netlink_begin(
		&r, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, sizeof(*m));

	m->ifa_family = netns_parse(text, address, &bytes);
	m->ifa_prefixlen = prefix;
	m->ifa_index = if_nametoindex(name);
	m->ifa_flags = m->ifa_family == AF_INET6 ? IFA_F_NODAD : 0;
	netlink_add(&r, IFA_LOCAL, address, bytes);
	netlink_add(&r, IFA_ADDRESS, address, bytes);
	netns_ask(&r, text);
}

/* GATEWAY NULL: TO is on the link. PREFIX 0: the default route. */
static inline void netns_add_route(const char *name, const char *to,
				   unsigned char prefix, const char *gateway,
				   uint32_t metric)
{
	const unsigned index = if_nametoindex(name);
	uint8_t address[16];
	size_t bytes;
	struct netlink_request r;
	struct rtmsg *m = netlink_begin(&r, RTM_NEWROUTE,
					NLM_F_CREATE | NLM_F_EXCL, sizeof(*m));

	m->rtm_family = netns_parse(to, address, &bytes);
	m->rtm_dst_len = prefix;
	m->rtm_table = RT_TABLE_MAIN;
	m->rtm_protocol = RTPROT_BOOT;
	m->rtm_type = RTN_UNICAST;
	m->rtm_scope = gateway ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
	if (prefix)
		netlink_add(&r, RTA_DST, address, bytes);
	if (gateway) {
		netns_parse(gateway, address, &bytes);
		netlink_add(&r, RTA_GATEWAY, address, bytes);
	}
	if (metric)
		netlink_add(&r, RTA_PRIORITY, &metric, sizeof(metric));
	netlink_add(&r, RTA_OIF, &index, sizeof(index));
	netns_ask(&r, to);
}

static inline void netns_add_neighbour(const char *name, const char *text,
				       const uint8_t mac[6])
{
	uint8_t address[16];
	size_t bytes;
	struct netlink_request r;
	struct ndmsg *m = netlink_begin(&r, RTM_NEWNEIGH,
					NLM_F_CREATE | NLM_F_EXCL, sizeof(*m));

	m->ndm_family = netns_parse(text, address, &bytes);
	m->ndm_ifindex = (int)if_nametoindex(name);
	m->ndm_state = NUD_PERMANENT;
	netlink_add(&r, NDA_DST, address, bytes);
	netlink_add(&r, NDA_LLADDR, mac, 6);
	netns_ask(&r, text);
}

/*
 * A socket that sends and receives NAME's frames of type ETHERTYPE. Without the
 * queueing discipline, which drops everything until the kernel gets round to
 * noticing that someone attached to the tap.
 */
static inline int netns_packet_socket(const char *name, uint16_t ethertype)
{
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
			htons(ethertype));
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ethertype),
		.sll_ifindex = (int)if_nametoindex(name),
	};

	const int on = 1;

	netns_must(fd >= 0 &&
			   setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on,
				      sizeof(on)) == 0 &&
			   bind(fd, (void *)&address, sizeof(address)) == 0,
		   name);
	return fd;
}

#endif
