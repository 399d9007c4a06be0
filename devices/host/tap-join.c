/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tap that is joined to an interface: all that one of them receives is sent
 * out at the other one. Both get an ingress qdisc with one filter (u32, which
 * fits everything) and one action (mirred) that redirects. A packet that is
 * redirected there never gets to this namespace's own stack: nothing here
 * answers for the guest.
 *
 * With RESOLVER the namespace's own programs can ask name servers by the
 * interface: they get ports that a guest's Linux does not use by itself, and
 * what comes from port 53 to those ports is not redirected.
 *
 * Programs of the namespace that connect to its own address are the guest's
 * clients (tap-local.h), so the tap has an address for them.
 *
 * The tap, and what is on it, go with its descriptor. The interface's filter
 * stays when the process is killed; its target is gone then (the kernel shows
 * number 0), which tells it from that of a guest that lives.
 */
#include "devices/host/tap-join.h"

#include "devices/host/net.h"
#include "devices/host/tap-filter.h"
#include "devices/host/tap-local.h"
#include "devices/host/tap.h"
#include "vmm/base/log.h"
#include "vmm/base/netlink.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

/* For the monitor of a guest before, which was killed, to be gone. */
#define GONE_MS 2000
#define LOOK_MS 10
/* Others hold the lock for a few requests to the kernel. */
#define LOCK_MS 10000

#define PORTS_FILE "/proc/sys/net/ipv4/ip_local_port_range"

/*
 * Two who look at an interface and then change its filters would take off each
 * other's: a name that this network namespace has once keeps them apart. The
 * kernel frees it with its process. A descriptor or -errno.
 */
static int lock(void)
{
	const struct sockaddr_un name = {.sun_family = AF_UNIX,
					 .sun_path = "\0"
						     "bulkhead-join"};
	const socklen_t bytes = offsetof(struct sockaddr_un, sun_path) +
				sizeof("\0"
				       "bulkhead-join") -
				1;
	const uint64_t end = util_now_ns() + LOCK_MS * UINT64_C(1000000);
	const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000};
	autofd int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	while (bind(fd, (const void *)&name, bytes) < 0) {
		if (errno != EADDRINUSE || util_now_ns() >= end)
			return -errno;
		nanosleep(&pause, NULL);
	}
	return take_fd(&fd);
}

/* ---- the namespace's ports */

static int write_ports(unsigned first, unsigned last)
{
	autofd int fd = open(PORTS_FILE, O_WRONLY | O_CLOEXEC);
	char text[32];
	const int n = snprintf(text, sizeof(text), "%u %u", first, last);

	return fd < 0 || write(fd, text, (size_t)n) != n ? -errno : 0;
}

/* Gives this namespace the ports that Linux has by default, if it has ours. */
static void free_ports(void)
{
	autofd int fd = open(PORTS_FILE, O_RDONLY | O_CLOEXEC);
	char text[32] = "";
	unsigned first, last;

	if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 &&
	    sscanf(text, "%u %u", &first, &last) == 2 &&
	    first == TAP_FILTER_FIRST && last == TAP_FILTER_LAST)
		(void)write_ports(32768, 60999);
}

static bool is_tap(const char *name)
{
	return strncmp(name, TAP_JOIN_NAME, strlen(TAP_JOIN_NAME)) == 0;
}

static bool has_taps(void)
{
	struct if_nameindex *all = if_nameindex();
	bool found = false;

	for (struct if_nameindex *i = all; i && i->if_name; i++)
		found |= is_tap(i->if_name);
	if_freenameindex(all);
	return found;
}

void tap_join_undo(const char *name)
{
	const unsigned index = if_nametoindex(name);
	autofd int fd = netlink_open();
	autofd int locked = -1;

	if (index == 0 || fd < 0)
		return;
	locked = lock();
	if (locked < 0 || tap_filter_clear(fd, index) < 0)
		return;
	/* The namespace has them: another interface's guest may need them. */
	if (has_taps())
		return;
	free_ports();
	tap_local_close();
}

/* ---- joining */

/* Says more where the kernel's word alone would not tell. */
static int explain(int r, const char *name, const char *what)
{
	if (r == -EPERM)
		return log_ret(r,
			       "interface '%s': no permission to join a guest "
			       "to it: that takes CAP_NET_ADMIN in its network "
			       "namespace",
			       name);
	if (r == -ENOENT || r == -EOPNOTSUPP)
		return log_ret(
			r,
			"interface '%s': %s: %s; the host's kernel needs "
			"sch_ingress, cls_u32 and act_mirred",
			name, what, strerror(-r));
	return log_ret(r, "interface '%s': %s: %s", name, what, strerror(-r));
}

struct interface {
	const char *name;
	unsigned index;
	uint8_t mac[6];
	uint16_t mtu;
};

static int find_interface(const char *name, struct interface *ret)
{
	autofd int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = {0};

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	ret->name = name;
	if (strlen(name) >= IFNAMSIZ || !(ret->index = if_nametoindex(name)))
		return log_ret(-ENODEV,
			       "interface '%s' does not exist in this network "
			       "namespace",
			       name);
	if (fd < 0 || ioctl(fd, SIOCGIFHWADDR, &ifr) < 0)
		return log_ret(-errno, "interface '%s': %s", name,
			       strerror(errno));
	if (ifr.ifr_hwaddr.sa_family != ARPHRD_ETHER)
		return log_ret(-EINVAL,
			       "interface '%s' has no Ethernet addresses: no "
			       "guest can be joined to it",
			       name);
	memcpy(ret->mac, ifr.ifr_hwaddr.sa_data, sizeof(ret->mac));
	if (ioctl(fd, SIOCGIFMTU, &ifr) < 0)
		return log_ret(-errno, "interface '%s': its MTU: %s", name,
			       strerror(errno));
	ret->mtu = (uint16_t)min_u64((uint64_t)ifr.ifr_mtu, UINT16_MAX);
	return 0;
}

/*
 * The interface's MTU, an address that the guest knows it by; and none that
 * Linux makes, or this namespace's stack would speak there.
 */
static int set_up_tap(int fd, unsigned index, const struct interface *to)
{
	const struct tap_local local = tap_local_of(to->index);
	const uint32_t mtu = to->mtu;
	const uint8_t none = IN6_ADDR_GEN_MODE_NONE;
	struct netlink_request r;
	struct ifinfomsg *info =
		netlink_begin(&r, RTM_NEWLINK, 0, sizeof(*info));
	size_t spec, inet6;
	int error;

	info->ifi_index = (int)index;
	spec = netlink_nest(&r, IFLA_AF_SPEC);
	inet6 = netlink_nest(&r, AF_INET6);
	netlink_add(&r, IFLA_INET6_ADDR_GEN_MODE, &none, sizeof(none));
	netlink_nest_end(&r, inet6);
	netlink_nest_end(&r, spec);
	error = netlink_transact(fd, &r);
	/* A host without IPv6 gives it none. */
	if (error < 0 && error != -EAFNOSUPPORT)
		return error;
	info = netlink_begin(&r, RTM_NEWLINK, 0, sizeof(*info));
	info->ifi_index = (int)index;
	info->ifi_flags = IFF_UP;
	info->ifi_change = IFF_UP;
	netlink_add(&r, IFLA_MTU, &mtu, sizeof(mtu));
	netlink_add(&r, IFLA_ADDRESS, local.mac, sizeof(local.mac));
	return netlink_transact(fd, &r);
}

/* The guest does without: a kernel may know one table of routes alone. */
static void open_local(const struct interface *to, unsigned tap)
{
	const int r = tap_local_open(to->index, tap, to->mac);

	if (r < 0)
		log_warn("interface '%s': programs of this network namespace "
			 "do not reach the guest by its address: %s",
			 to->name, strerror(-r));
}

/* 0, or -errno; -EBUSY: another guest is there. */
static int redirect(int fd, const struct interface *to, unsigned tap,
		    bool resolver)
{
	autofd int locked = lock();
	int r = locked < 0 ? locked : tap_filter_clear(fd, to->index);

	if (r == 0 && resolver)
		r = tap_filter_resolver(fd, to->index, tap);
	if (r == 0)
		r = tap_filter_redirect(fd, to->index, tap);
	if (r == 0)
		open_local(to, tap);
	return r;
}

/* Another guest's filter stays as long as that guest. */
static int join(int fd, const struct interface *to, unsigned tap, bool resolver)
{
	const uint64_t end = util_now_ns() + GONE_MS * UINT64_C(1000000);
	const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000};
	const char *name = to->name;
	int r = tap_filter_redirect(fd, tap, to->index);

	if (r < 0)
		return explain(r, name, "redirect its packets");
	while ((r = redirect(fd, to, tap, resolver)) == -EBUSY &&
	       util_now_ns() < end)
		nanosleep(&pause, NULL);
	if (r == -EBUSY)
		return log_ret(r, "interface '%s' is joined to another guest",
			       name);
	if (r == -EADDRINUSE)
		return log_ret(r,
			       "interface '%s': somebody holds the socket "
			       "'@bulkhead-join' of this network namespace",
			       name);
	return r < 0 ? explain(r, name, "redirect its packets") : 0;
}

/* Names outside are not found then; those that the resolver knows are. */
static void take_ports(void)
{
	const int r = write_ports(TAP_FILTER_FIRST, TAP_FILTER_LAST);

	if (r < 0)
		log_warn("'%s': %s: names outside of this network namespace "
			 "are not found by its resolver",
			 PORTS_FILE, strerror(-r));
}

int tap_join(const char *name, bool resolver, uint16_t *ret_mtu)
{
	char tap_name[IFNAMSIZ];
	autofd int tap = -1;
	autofd int fd = netlink_open();
	struct interface to = {0};
	unsigned tap_index;
	int r;

	if (fd < 0)
		return log_ret(fd, "interface '%s': netlink: %s", name,
			       strerror(-fd));
	r = find_interface(name, &to);
	if (r < 0)
		return r;
	tap = tap_make(TAP_JOIN_NAME "%d", tap_name);
	if (tap < 0)
		return tap;
	tap_index = if_nametoindex(tap_name);
	r = set_up_tap(fd, tap_index, &to);
	if (r < 0)
		return explain(r, name, "set its tap up");
	r = join(fd, &to, tap_index, resolver);
	if (r < 0)
		return r;
	if (resolver)
		take_ports();
	*ret_mtu = to.mtu;
	return take_fd(&tap);
}

/* ---- joined ones */

int tap_join_open_resolver(void)
{
	struct if_nameindex *all = if_nameindex();
	autofd int fd = netlink_open();
	autofd int locked = fd < 0 ? fd : lock();
	int r = !all ? -ENOMEM : locked < 0 ? locked : 0;

	if (r < 0)
		log_error("interfaces of the network namespace: %s",
			  strerror(-r));
	for (struct if_nameindex *i = all; r == 0 && i->if_name; i++) {
		if (is_tap(i->if_name))
			continue;
		r = tap_filter_open_resolver(fd, i->if_index);
		/* One that has just gone. */
		if (r == -ENODEV || r == -EINVAL)
			r = 0;
		if (r < 0)
			(void)explain(r, i->if_name, "leave answers to names");
	}
	if (all)
		if_freenameindex(all);
	if (r == 0)
		take_ports();
	return r;
}

int tap_join_set_mtu(const char *name, uint32_t mtu)
{
	const unsigned index = if_nametoindex(name);
	autofd int fd = netlink_open();
	struct netlink_request r;
	struct ifinfomsg *info;
	unsigned tap = 0;
	int error = index ? fd : -ENODEV;

	if (error >= 0)
		error = tap_filter_target(index, &tap);
	if (error < 0 || tap == 0)
		return error < 0 ? error : -ENODEV;
	info = netlink_begin(&r, RTM_NEWLINK, 0, sizeof(*info));
	info->ifi_index = (int)tap;
	netlink_add(&r, IFLA_MTU, &mtu, sizeof(mtu));
	return netlink_transact(fd, &r);
}
