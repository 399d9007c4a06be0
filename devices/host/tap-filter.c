/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tc(8) by netlink: an ingress qdisc, u32 filters, and the action mirred. A
 * guest's filter has a place (priority) of its own; those before it, which
 * leave some packets to this namespace's stack, have others, as one place takes
 * one protocol alone.
 */
#include "devices/host/tap-filter.h"

#include "vmm/base/netlink.h"
#include "vmm/base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/icmpv6.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/tc_act/tc_mirred.h>
#include <netinet/in.h>
#include <string.h>

/* Our filter's place among an interface's; others use low numbers. */
#define PRIORITY 0xb17cU
/* The places of the exceptions from it. */
#define FIRST_PRIORITY      (PRIORITY - EXCEPTION_PROTOCOLS)
#define EXCEPTION_PROTOCOLS 3U

#define NAMES_PORT 53
#define KEYS_MAX   6

/* ---- what is on an interface */

struct filters {
	bool ours, others;
	bool exceptions; /* ours has some */
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
	if (t->tcm_info >> 16 < FIRST_PRIORITY ||
	    t->tcm_info >> 16 > PRIORITY) {
		f->others = true;
		return 0;
	}
	f->ours = true;
	if (t->tcm_info >> 16 != PRIORITY) {
		f->exceptions = true;
		return 0;
	}
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

struct rule {
	uint16_t priority, protocol; /* ETH_P_*; ETH_P_ALL */
	unsigned nkeys;
	struct tc_u32_key keys[KEYS_MAX]; /* none: it fits everything */
	int action;  /* TCA_EGRESS_*; 0: none, the packet goes on */
	uint32_t to; /* of the action: an interface */
};

static void add_action(struct netlink_request *r, const struct rule *rule)
{
	const struct tc_mirred mirred = {
		/* A packet that is copied goes on here as well. */
		.action = rule->action == TCA_EGRESS_MIRROR ? TC_ACT_OK
							    : TC_ACT_STOLEN,
		.eaction = rule->action,
		.ifindex = rule->to,
	};
	const size_t actions = netlink_nest(r, TCA_U32_ACT);
	const size_t action = netlink_nest(r, 1);
	size_t parms;

	netlink_add(r, TCA_ACT_KIND, "mirred", sizeof("mirred"));
	parms = netlink_nest(r, TCA_ACT_OPTIONS);
	netlink_add(r, TCA_MIRRED_PARMS, &mirred, sizeof(mirred));
	netlink_nest_end(r, parms);
	netlink_nest_end(r, action);
	netlink_nest_end(r, actions);
}

static int add_rule(int fd, unsigned from, const struct rule *rule)
{
	struct {
		struct tc_u32_sel head;
		struct tc_u32_key keys[KEYS_MAX];
	} sel = {
		.head = {.flags = TC_U32_TERMINAL,
			 /* One of which no bit counts fits everything. */
			 .nkeys = (unsigned char)(rule->nkeys ? rule->nkeys
							      : 1)},
	};
	struct netlink_request r;
	struct tcmsg *t =
		begin(&r, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, from);
	size_t options;

	memcpy(sel.keys, rule->keys, sizeof(sel.keys));
	t->tcm_info = TC_H_MAKE((uint32_t)rule->priority << 16,
				htons(rule->protocol));
	netlink_add(&r, TCA_KIND, "u32", sizeof("u32"));
	options = netlink_nest(&r, TCA_OPTIONS);
	netlink_add(&r, TCA_U32_SEL, &sel,
		    sizeof(sel.head) + sel.head.nkeys * sizeof(*sel.keys));
	if (rule->action)
		add_action(&r, rule);
	netlink_nest_end(&r, options);
	return netlink_transact(fd, &r);
}

int tap_filter_redirect(int fd, unsigned from, unsigned to)
{
	int r = add_qdisc(fd, from);

	return r < 0 ? r
		     : add_rule(fd, from,
				&(const struct rule){
					.priority = PRIORITY,
					.protocol = ETH_P_ALL,
					.action = TCA_EGRESS_REDIR,
					.to = to,
				});
}

/* ---- this namespace's resolver */

static struct tc_u32_key key(int offset, uint32_t mask, uint32_t value)
{
	return (struct tc_u32_key){
		.mask = htonl(mask), .val = htonl(value), .off = offset};
}

/* From a name server's port to one of those that this namespace uses. */
static struct tc_u32_key ports(int offset)
{
	const uint32_t mask = (uint16_t) ~(TAP_FILTER_LAST - TAP_FILTER_FIRST);

	return key(offset, UINT32_C(0xffff0000) | mask,
		   (uint32_t)NAMES_PORT << 16 | TAP_FILTER_FIRST);
}

/* Not a fragment but the first, without options, as answers are. */
static struct rule rule_ip(uint32_t protocol)
{
	return (struct rule){
		.priority = FIRST_PRIORITY + 1,
		.protocol = ETH_P_IP,
		.nkeys = 4,
		.keys = {key(0, 0xff000000, 0x45000000), key(4, 0x00001fff, 0),
			 key(8, 0x00ff0000, protocol << 16), ports(20)},
	};
}

static struct rule rule_ipv6(uint32_t protocol)
{
	return (struct rule){
		.priority = FIRST_PRIORITY + 2,
		.protocol = ETH_P_IPV6,
		.nkeys = 2,
		.keys = {key(4, 0x0000ff00, protocol << 8), ports(40)},
	};
}

/* Both stacks have asked, and one frame cannot be told from the other's. */
static struct rule rule_neighbour(uint16_t protocol, uint32_t to)
{
	struct rule rule = {
		.priority = FIRST_PRIORITY,
		.protocol = ETH_P_ARP,
		.nkeys = 1,
		.keys = {key(4, 0x0000ffff, ARPOP_REPLY)},
		.action = TCA_EGRESS_MIRROR,
		.to = to,
	};

	if (protocol == ETH_P_IPV6) {
		rule.priority = FIRST_PRIORITY + 2;
		rule.protocol = ETH_P_IPV6;
		rule.nkeys = 2;
		rule.keys[0] = key(4, 0x0000ff00, IPPROTO_ICMPV6 << 8);
		rule.keys[1] = key(40, 0xff000000, UINT32_C(136) << 24);
	}
	return rule;
}

int tap_filter_resolver(int fd, unsigned from, unsigned to)
{
	const struct rule rules[] = {
		rule_neighbour(ETH_P_ARP, to), rule_neighbour(ETH_P_IPV6, to),
		rule_ip(IPPROTO_UDP),          rule_ip(IPPROTO_TCP),
		rule_ipv6(IPPROTO_UDP),        rule_ipv6(IPPROTO_TCP),
	};
	int r = add_qdisc(fd, from);

	for (unsigned i = 0; r == 0 && i < ARRAY_LEN(rules); i++)
		r = add_rule(fd, from, &rules[i]);
	return r;
}

int tap_filter_open_resolver(int fd, unsigned from)
{
	struct filters f;
	int r = look(from, &f);

	return r < 0 || !f.target || f.exceptions
		       ? r
		       : tap_filter_resolver(fd, from, f.target);
}

int tap_filter_target(unsigned from, unsigned *ret_to)
{
	struct filters f;
	int r = look(from, &f);

	if (r == 0)
		*ret_to = f.target;
	return r;
}

/* ---- this namespace's programs as the guest's clients */

#define TCP_RST 0x00040000U
#define TCP_ACK 0x00100000U

/* To IPV4, PROTOCOL; and a part of what comes after a header of 20 bytes. */
static struct rule rule_to_ipv4(const uint8_t ipv4[4], uint32_t protocol,
				struct tc_u32_key part)
{
	uint32_t address;

	memcpy(&address, ipv4, sizeof(address));
	return (struct rule){
		.priority = FIRST_PRIORITY + 1,
		.protocol = ETH_P_IP,
		.nkeys = 5,
		.keys = {key(8, 0x00ff0000, protocol << 16),
			 {.mask = UINT32_MAX, .val = address, .off = 16},
			 part,
			 key(0, 0xff000000, 0x45000000),
			 key(4, 0x00001fff, 0)},
	};
}

static struct rule rule_to_ipv6(const uint8_t ipv6[16], uint32_t protocol,
				struct tc_u32_key part)
{
	struct rule rule = {
		.priority = FIRST_PRIORITY + 2,
		.protocol = ETH_P_IPV6,
		.nkeys = 6,
		.keys = {key(4, 0x0000ff00, protocol << 8), part},
	};

	for (int i = 0; i < 4; i++) {
		struct tc_u32_key *k = &rule.keys[2 + i];

		*k = (struct tc_u32_key){.mask = UINT32_MAX, .off = 24 + 4 * i};
		memcpy(&k->val, ipv6 + 4 * (size_t)i, 4);
	}
	return rule;
}

int tap_filter_local(int fd, unsigned from, const uint8_t ipv4[4],
		     const uint8_t ipv6[16])
{
	const struct tc_u32_key any = {0};
	struct rule rules[] = {
		rule_to_ipv4(ipv4, IPPROTO_UDP, any),
		rule_to_ipv4(ipv4, IPPROTO_TCP, key(32, TCP_ACK, TCP_ACK)),
		rule_to_ipv4(ipv4, IPPROTO_TCP, key(32, TCP_RST, TCP_RST)),
		/* That a port is nobody's. */
		rule_to_ipv4(ipv4, IPPROTO_ICMP,
			     key(20, 0xffff0000, 0x03030000)),
		rule_to_ipv6(ipv6, IPPROTO_UDP, any),
		rule_to_ipv6(ipv6, IPPROTO_TCP, key(52, TCP_ACK, TCP_ACK)),
		rule_to_ipv6(ipv6, IPPROTO_TCP, key(52, TCP_RST, TCP_RST)),
		rule_to_ipv6(ipv6, IPPROTO_ICMPV6,
			     key(40, 0xffff0000, 0x01040000)),
	};
	int r = add_qdisc(fd, from);

	/* All fragments of a datagram: these keys do not look at ports. */
	rules[0].nkeys = 3;
	for (unsigned i = 0; r == 0 && i < ARRAY_LEN(rules); i++)
		r = add_rule(fd, from, &rules[i]);
	return r;
}

/* ---- the end */

static void delete_filters(int fd, unsigned index)
{
	static const uint16_t protocols[] = {ETH_P_ARP, ETH_P_IP, ETH_P_IPV6,
					     ETH_P_ALL};
	struct netlink_request r;

	for (unsigned i = 0; i < ARRAY_LEN(protocols); i++) {
		struct tcmsg *t = begin(&r, RTM_DELTFILTER, 0, index);

		t->tcm_info = TC_H_MAKE((FIRST_PRIORITY + i) << 16,
					htons(protocols[i]));
		(void)netlink_transact(fd, &r);
	}
}

int tap_filter_clear(int fd, unsigned index)
{
	struct filters f;
	int r = look(index, &f);

	if (r < 0 || !f.ours)
		return r;
	if (f.target)
		return -EBUSY;
	delete_filters(fd, index);
	if (!f.others)
		delete_qdisc(fd, index);
	return 0;
}
