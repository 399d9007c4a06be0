/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network namespace with taps for tests and fuzzers of network devices: they
 * run against real interfaces, which vanish with the process. Needs root (or
 * user namespaces, and a /dev/net/tun that everyone may open).
 */
#ifndef TESTS_NETNS_H
#define TESTS_NETNS_H

#include "vmm/base/util.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* The calling thread's, so before others start. NULL, or why not. */
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
