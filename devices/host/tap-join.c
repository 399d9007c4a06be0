/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tap that is joined to an interface: all that one of them receives is sent
 * out at the other one. Both get an ingress qdisc with one filter (u32, which
 * fits everything) and one action (mirred) that redirects. A packet that is
 * redirected there never gets to this namespace's own stack: nothing here
 * answers for the guest.
 *
 * The tap, and what is on it, go with its descriptor. The interface's filter
 * stays when the process is killed; its target is gone then (the kernel shows
 * number 0), which tells it from that of a guest that lives.
 */
#include "devices/host/tap-join.h"

#include "devices/host/net.h"
#include "devices/host/tap.h"
#include "vmm/base/log.h"
#include "vmm/base/netlink.h"
#include "vmm/base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/tc_act/tc_mirred.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

/* Our filter's place among an interface's; others use low numbers. */
#define PRIORITY 0xb17cU
/* For the monitor of a guest before, which was killed, to be gone. */
#define GONE_MS 2000
#define LOOK_MS 10

/* ---- what is on an interface */

struct filters {
	bool ours, others;
	uint32_t target; /* of ours; 0: it is gone */
};

/* The interface that the action of a u32 filter redirects to; 0: none. */
static uint32_t target_of(const struct rtattr *options)
{
	const struct rtattr *u32[TCA_U32_ACT + 1];
	const struct rtattr *actions[2], *action[TCA_ACT_OPTIONS + 1];
	const struct rtattr *mirred[TCA_MIRRED_PARMS + 1];
	struct tc_mirred parms;

	netlink_parse_nested(options, u32, ARRAY_LEN(u32));
	netlink_parse_nested(u32[TCA_U32_ACT], actions, ARRAY_LEN(actions));
	netlink_parse_nested(actions[1], action, ARRAY_LEN(action));
	netlink_parse_nested(action[TCA_ACT_OPTIONS], mirred,
			     ARRAY_LEN(mirred));
	return netlink_get(mirred[TCA_MIRRED_PARMS], &parms, sizeof(parms))
		       ? parms.ifindex
		       : 0;
}

static int take_filter(void *arg, const struct nlmsghdr *message)
{
	struct filters *f = arg;
	const struct rtattr *table[TCA_OPTIONS + 1];
	const struct tcmsg *t =
		netlink_parse(message, sizeof(*t), table, ARRAY_LEN(table));

	if (!t || message->nlmsg_type != RTM_NEWTFILTER)
		return 0;
	if (t->tcm_info >> 16 != PRIORITY) {
		f->others = true;
		return 0;
	}
	f->ours = true;
	/* A table of hashes is listed beside the filter in it. */
	if (f->target == 0)
		f->target = target_of(table[TCA_OPTIONS]);
	return 0;
}

static struct tcmsg *begin(struct netlink_request *r, uint16_t type,
			   uint16_t flags, unsigned index)
{
	struct tcmsg *t = netlink_begin(r, type, flags, sizeof(*t));

	t->tcm_family = AF_UNSPEC;
	t->tcm_ifindex = (int)index;
	t->tcm_parent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS);
	return t;
}

/* On a socket of its own: a dump that fails leaves a rest in it. */
static int look(unsigned index, struct filters *ret)
{
	int r;

	do {
		autofd int fd = netlink_open();
		struct netlink_request request;

		*ret = (struct filters){0};
		begin(&request, RTM_GETTFILTER, 0, index);
		r = fd < 0 ? fd : netlink_dump(fd, &request, take_filter, ret);
	} while (r == -EINTR);
	return r;
}

/* ---- changing that */

static int add_qdisc(int fd, unsigned index)
{
	struct netlink_request r;
	struct tcmsg *t =
		begin(&r, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, index);
	int error;

	t->tcm_handle = TC_H_MAKE(TC_H_INGRESS, 0);
	t->tcm_parent = TC_H_INGRESS;
	netlink_add(&r, TCA_KIND, "ingress", sizeof("ingress"));
	error = netlink_transact(fd, &r);
	/* clsact, too, has room for filters of what comes in. */
	return error == -EEXIST ? 0 : error;
}

/* Only that kind: clsact is somebody else's. */
static void delete_qdisc(int fd, unsigned index)
{
	struct netlink_request r;
	struct tcmsg *t = begin(&r, RTM_DELQDISC, 0, index);

	t->tcm_handle = TC_H_MAKE(TC_H_INGRESS, 0);
	t->tcm_parent = TC_H_INGRESS;
	netlink_add(&r, TCA_KIND, "ingress", sizeof("ingress"));
	(void)netlink_transact(fd, &r);
}

static int add_filter(int fd, unsigned from, unsigned to)
{
	const struct {
		struct tc_u32_sel head;
		struct tc_u32_key key; /* no bit of it counts */
	} all = {.head = {.flags = TC_U32_TERMINAL, .nkeys = 1}};
	const struct tc_mirred redirect = {
		.action = TC_ACT_STOLEN,
		.eaction = TCA_EGRESS_REDIR,
		.ifindex = to,
	};
	struct netlink_request r;
	struct tcmsg *t =
		begin(&r, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, from);
	size_t options, actions, action, parms;

	t->tcm_info = TC_H_MAKE(PRIORITY << 16, htons(ETH_P_ALL));
	netlink_add(&r, TCA_KIND, "u32", sizeof("u32"));
	options = netlink_nest(&r, TCA_OPTIONS);
	netlink_add(&r, TCA_U32_SEL, &all, sizeof(all));
	actions = netlink_nest(&r, TCA_U32_ACT);
	action = netlink_nest(&r, 1);
	netlink_add(&r, TCA_ACT_KIND, "mirred", sizeof("mirred"));
	parms = netlink_nest(&r, TCA_ACT_OPTIONS);
	netlink_add(&r, TCA_MIRRED_PARMS, &redirect, sizeof(redirect));
	netlink_nest_end(&r, parms);
	netlink_nest_end(&r, action);
	netlink_nest_end(&r, actions);
	netlink_nest_end(&r, options);
	return netlink_transact(fd, &r);
}

static void delete_filter(int fd, unsigned index)
{
	struct netlink_request r;
	struct tcmsg *t = begin(&r, RTM_DELTFILTER, 0, index);

	t->tcm_info = TC_H_MAKE(PRIORITY << 16, htons(ETH_P_ALL));
	(void)netlink_transact(fd, &r);
}

/*
 * Takes our filter off, if its target is gone; and the qdisc, unless others
 * have filters there. 0, or -EBUSY: the target is there.
 */
static int clear(int fd, unsigned index)
{
	struct filters f;
	int r = look(index, &f);

	if (r < 0 || !f.ours)
		return r;
	if (f.target)
		return -EBUSY;
	delete_filter(fd, index);
	if (!f.others)
		delete_qdisc(fd, index);
	return 0;
}

void tap_join_undo(const char *name)
{
	const unsigned index = if_nametoindex(name);
	autofd int fd = netlink_open();

	if (index > 0 && fd >= 0)
		(void)clear(fd, index);
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

static int find_interface(const char *name, unsigned *ret_index,
			  uint16_t *ret_mtu)
{
	autofd int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = {0};

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	if (strlen(name) >= IFNAMSIZ || !(*ret_index = if_nametoindex(name)))
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
	if (ioctl(fd, SIOCGIFMTU, &ifr) < 0)
		return log_ret(-errno, "interface '%s': its MTU: %s", name,
			       strerror(errno));
	*ret_mtu = (uint16_t)min_u64((uint64_t)ifr.ifr_mtu, UINT16_MAX);
	return 0;
}

/* Another guest's filter stays as long as that guest. */
static int make_room(int fd, const char *name, unsigned index)
{
	const uint64_t end = util_now_ns() + GONE_MS * UINT64_C(1000000);
	const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000};
	int r;

	while ((r = clear(fd, index)) == -EBUSY && util_now_ns() < end)
		nanosleep(&pause, NULL);
	if (r == -EBUSY)
		return log_ret(r, "interface '%s' is joined to another guest",
			       name);
	return r < 0 ? explain(r, name, "list its filters") : 0;
}

/* Its MTU; and no addresses, or this namespace's stack would speak there. */
static int set_up_tap(int fd, unsigned index, uint32_t mtu)
{
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
	return netlink_transact(fd, &r);
}

static int join(int fd, const char *name, unsigned index, unsigned tap)
{
	int r = add_qdisc(fd, tap);

	if (r == 0)
		r = add_filter(fd, tap, index);
	if (r == 0)
		r = add_qdisc(fd, index);
	if (r < 0)
		return explain(r, name, "redirect its packets");
	r = add_filter(fd, index, tap);
	return r == -EEXIST ? log_ret(-EBUSY,
				      "interface '%s' is joined to another "
				      "guest",
				      name)
	       : r < 0      ? explain(r, name, "redirect its packets")
			    : 0;
}

int tap_join(const char *name, uint16_t *ret_mtu)
{
	char tap_name[IFNAMSIZ];
	autofd int tap = -1;
	autofd int fd = netlink_open();
	unsigned index = 0, tap_index;
	uint16_t mtu = 0;
	int r;

	if (fd < 0)
		return log_ret(fd, "interface '%s': netlink: %s", name,
			       strerror(-fd));
	r = find_interface(name, &index, &mtu);
	if (r == 0)
		r = make_room(fd, name, index);
	if (r < 0)
		return r;
	tap = tap_make(TAP_JOIN_NAME "%d", tap_name);
	if (tap < 0)
		return tap;
	tap_index = if_nametoindex(tap_name);
	r = set_up_tap(fd, tap_index, mtu);
	if (r < 0)
		return explain(r, name, "set its tap up");
	r = join(fd, name, index, tap_index);
	if (r < 0)
		return r;
	*ret_mtu = mtu;
	return take_fd(&tap);
}
