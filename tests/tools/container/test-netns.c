/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a network namespace that the test has made. */
#include "tools/container/netns.h"
#include "tools/container/netns-watch.h"

#include "devices/host/net.h"
#include "devices/host/tap-local.h"
#include "firmware/agent/agent.h"
#include "firmware/init/net.h"
#include "tests/netns.h"
#include "tests/patience.h"
#include "tools/agent/agent.h"
#include "tools/container/run.h"
#include "vmm/base/sandbox.h"
#include "vmm/base/util.h"

#include <arpa/inet.h>
#include <endian.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static const uint8_t mac0[6] = {2, 0x42, 0, 0, 0, 7};
static const uint8_t friend[6] = {2, 0x42, 0, 0, 0, 8};

static const struct agent_route *find_route(const struct netns_link *link,
					    const char *to, unsigned prefix)
{
	uint8_t address[16] = {0};
	size_t bytes;
	const uint8_t family =
		netns_parse(to, address, &bytes) == AF_INET ? 4 : 6;

	for (size_t i = 0; i < link->nroutes; i++) {
		const struct agent_route *r = &link->routes[i];

		if (r->family == family && r->prefix == prefix &&
		    memcmp(r->destination, address, 16) == 0)
			return r;
	}
	return NULL;
}

static bool has_address(const struct netns_link *link, const char *text,
			unsigned prefix)
{
	uint8_t address[16] = {0};
	size_t bytes;

	netns_parse(text, address, &bytes);
	for (size_t i = 0; i < link->naddresses; i++) {
		const struct agent_address *a = &link->addresses[i];

		if (a->prefix == prefix && memcmp(a->address, address, 16) == 0)
			return true;
	}
	return false;
}

/* Only lo, and that not even up. */
static void test_none(void **state)
{
	struct netns n;

	(void)state;
	netns_need();
	assert_false(netns_is_host());
	assert_int_equal(netns_scan(&n), 0);
	assert_int_equal(n.nlinks, 0);
	netns_done(&n);
}

/* It must not become one for all packets. */
static void add_route_of_type(const char *name)
{
	const unsigned index = if_nametoindex(name);
	struct netlink_request r;
	struct rtmsg *m =
		netlink_begin(&r, RTM_NEWROUTE, NLM_F_CREATE, sizeof(*m));

	m->rtm_family = AF_INET;
	m->rtm_dst_len = 8;
	m->rtm_tos = 0x10;
	m->rtm_table = RT_TABLE_MAIN;
	m->rtm_protocol = RTPROT_BOOT;
	m->rtm_type = RTN_UNICAST;
	m->rtm_scope = RT_SCOPE_LINK;
	netlink_add(&r, RTA_DST, (uint8_t[]){10, 0, 0, 0}, 4);
	netlink_add(&r, RTA_OIF, &index, sizeof(index));
	netns_ask(&r, "route");
}

static void make_links(void)
{
	netns_add_veth("eth0", "peer0", -1);
	netns_add_veth("eth1", "peer1", -1);
	netns_set_mac("eth0", mac0);
	netns_set_mtu("eth0", 1400);
	netns_up("eth0");
	netns_up("eth1");
	netns_up("peer0"); /* Ethernet as well; eth1's stays down */
	netns_add_tap("bhtap0", 0);
	netns_up("bhtap0");
	netns_add_tun("tun0");
	netns_up("tun0");
	netns_add_address("eth0", "10.9.0.2", 16);
	netns_add_address("eth0", "fd00::2", 64);
	netns_add_address("eth1", "10.10.0.2", 32);
	netns_add_route("eth0", "0.0.0.0", 0, "10.9.0.1", 0);
	netns_add_route("eth0", "10.20.0.0", 16, "10.9.0.9", 77);
	netns_add_route("eth1", "169.254.1.1", 32, NULL, 0);
	add_route_of_type("eth1");
	netns_add_route("eth0", "::", 0, "fd00::1", 5);
	netns_add_neighbour("eth0", "10.9.0.1", friend);
	netns_add_neighbour("eth0", "fd00::1", friend);
}

/* A pair's carrier, and with it the kernel's own address, come by and by. */
static void wait_local(void)
{
	const struct timespec pause = {.tv_nsec = 10000000};
	bool local = false;

	while (!local) {
		struct netns n;

		assert_int_equal(netns_scan(&n), 0);
		for (size_t i = 0; i < n.nlinks; i++)
			local |= strcmp(n.links[i].name, "eth0") == 0 &&
				 find_route(&n.links[i], "fe80::", 64);
		netns_done(&n);
		nanosleep(&pause, NULL);
	}
}

/* The namespace's own programs are neighbours of the guest, the last ones. */
static void check_programs(const struct netns_link *link)
{
	const struct tap_local local = tap_local_of(link->index);
	const struct agent_neighbour *w =
		&link->neighbours[link->nneighbours - 2];
	char text[INET_ADDRSTRLEN];

	assert_int_equal(w[0].family, 6);
	assert_memory_equal(w[0].address, local.ipv6, 16);
	assert_int_equal(w[1].family, 4);
	assert_memory_equal(w[1].address, local.ipv4, 4);
	assert_memory_equal(w[1].mac, local.mac, 6);
	inet_ntop(AF_INET, local.ipv4, text, sizeof(text));
	assert_non_null(find_route(link, text, 32));
}

static void check_eth0(const struct netns_link *link)
{
	const struct agent_route *route;
	bool local = false;

	assert_string_equal(link->name, "eth0");
	assert_memory_equal(link->mac, mac0, 6);
	assert_int_equal(link->mtu, 1400);
	assert_true(has_address(link, "10.9.0.2", 16));
	assert_true(has_address(link, "fd00::2", 64));
	for (size_t i = 0; i < link->naddresses; i++)
		local |= link->addresses[i].address[0] == 0xfe;
	assert_true(local);
	route = find_route(link, "0.0.0.0", 0);
	assert_non_null(route);
	assert_int_equal(route->flags, AGENT_ROUTE_GATEWAY);
	assert_memory_equal(route->gateway, ((uint8_t[]){10, 9, 0, 1}), 4);
	route = find_route(link, "10.20.0.0", 16);
	assert_non_null(route);
	assert_int_equal(le32toh(route->metric), 77);
	/* The one that came with the address. */
	route = find_route(link, "10.9.0.0", 16);
	assert_non_null(route);
	assert_int_equal(route->flags, AGENT_ROUTE_SOURCE);
	assert_int_equal(route->scope, RT_SCOPE_LINK);
	assert_non_null(find_route(link, "::", 0));
	assert_non_null(find_route(link, "fe80::", 64));
	assert_int_equal(link->nneighbours, 4);
	assert_memory_equal(link->neighbours[0].mac, friend, 6);
	assert_int_equal(link->neighbours[0].family, 4);
	assert_int_equal(link->neighbours[1].family, 6);
	check_programs(link);
}

static void test_scan(void **state)
{
	struct netns n;
	bool eth0 = false, eth1 = false;

	(void)state;
	netns_need();
	make_links();
	wait_local();
	assert_int_equal(netns_scan(&n), 0);
	assert_int_equal(n.nlinks, 3);
	for (size_t i = 0; i < n.nlinks; i++) {
		const struct netns_link *link = &n.links[i];

		if (strcmp(link->name, "eth0") == 0) {
			eth0 = true;
			check_eth0(link);
		} else if (strcmp(link->name, "eth1") == 0) {
			eth1 = true;
			assert_true(has_address(link, "10.10.0.2", 32));
			/* With that to the namespace's programs. */
			assert_int_equal(link->nroutes, 2);
			assert_non_null(find_route(link, "169.254.1.1", 32));
		} else {
			assert_string_equal(link->name, "peer0");
		}
	}
	assert_true(eth0 && eth1);
	netns_done(&n);
}

/*
 * Two interfaces of a guest, each with routes to the same networks, one of them
 * from the other's address.
 */
static void test_same_networks(void **state)
{
	struct init_link links[] = {
		{.name = "eth0", .has_mac = true, .mac = {2, 0, 0, 0, 0, 1}},
		{.name = "eth1", .has_mac = true, .mac = {2, 0, 0, 0, 0, 2}},
	};
	struct init_address address = {
		.link = 1,
		.wire = {.family = 4, .prefix = 32, .address = {10, 9, 8, 7}},
	};
	struct init_route routes[4] = {{.link = 0}};
	const struct init_config c = {
		.links = links,
		.nlinks = 2,
		.addresses = &address,
		.naddresses = 1,
		.routes = routes,
		.nroutes = 4,
	};
	struct init_failure f = {0};
	struct netns n;
	int before;

	(void)state;
	netns_need();
	for (unsigned i = 0; i < 4; i++)
		routes[i] = (struct init_route){
			.link = i / 2,
			.wire = {.family = 6,
				 .prefix = 64,
				 .metric = htole32(256),
				 .destination = {0xfe, 0x80}},
		};
	for (unsigned i = 1; i < 4; i += 2)
		routes[i].wire = (struct agent_route){
			.family = 4,
			.prefix = 24,
			.scope = RT_SCOPE_LINK,
			.destination = {10, 9, 8},
		};
	routes[1].wire.flags = AGENT_ROUTE_SOURCE;
	memcpy(routes[1].wire.source, address.wire.address, 4);
	before = netns_here();
	close(netns_new());
	netns_add_veth("a", "b", -1);
	netns_set_mac("a", links[0].mac);
	netns_set_mac("b", links[1].mac);
	assert_int_equal(net_configure(&c, &f), 0);
	assert_int_equal(netns_scan(&n), 0);
	netns_go(before);
	close(before);
	assert_int_equal(n.nlinks, 2);
	for (unsigned i = 0; i < 2; i++) {
		/* The one with an address has one to programs, too. */
		assert_int_equal(n.links[i].nroutes, 2 + n.links[i].naddresses);
		assert_non_null(find_route(&n.links[i], "fe80::", 64));
		assert_non_null(find_route(&n.links[i], "10.9.8.0", 24));
	}
	netns_done(&n);
}

/* The kernel takes all of IPv6 off an interface with so small an MTU. */
static void test_small_mtu(void **state)
{
	struct init_link link = {.name = "eth0",
				 .has_mac = true,
				 .mac = {2, 0, 0, 0, 0, 1},
				 .mtu = 1200};
	struct init_address address = {
		.wire = {.family = 6,
			 .prefix = 64,
			 .flags = AGENT_GONE,
			 .address = {0xfd, [15] = 2}},
	};
	const struct init_config c = {.links = &link,
				      .nlinks = 1,
				      .addresses = &address,
				      .naddresses = 1};
	struct init_failure f = {0};
	struct netns n;
	int before;

	(void)state;
	netns_need();
	before = netns_here();
	close(netns_new());
	netns_add_veth("eth0", "peer0", -1);
	netns_set_mac("eth0", link.mac);
	netns_add_address("eth0", "fd00::2", 64);
	assert_int_equal(net_configure(&c, &f), 0);
	assert_int_equal(netns_scan(&n), 0);
	netns_go(before);
	close(before);
	assert_int_equal(n.nlinks, 1);
	assert_int_equal(n.links[0].mtu, 1200);
	assert_int_equal(n.links[0].naddresses, 0);
	netns_done(&n);
}

/* A VLAN that the guest has put on an interface has the same address. */
static void test_stacked(void **state)
{
	struct init_link link = {
		.name = "eth7", .has_mac = true, .mac = {2, 0, 0, 0, 0, 1}};
	const struct init_config c = {.links = &link, .nlinks = 1};
	struct init_failure f = {0};
	unsigned device, found;
	int before;

	(void)state;
	netns_need();
	before = netns_here();
	close(netns_new());
	netns_add_veth("a", "b", -1);
	netns_set_mac("a", link.mac);
	device = if_nametoindex("a");
	netns_add_veth("c", "d", -1);
	netns_set_mac("c", link.mac);
	assert_int_equal(net_configure(&c, &f), 0);
	found = if_nametoindex("eth7");
	assert_int_not_equal(if_nametoindex("c"), 0);
	netns_go(before);
	close(before);
	assert_int_equal(found, device);
}

/* The guest and the user were told this, a word for each thing. */
struct followed {
	pthread_mutex_t lock;
	char text[1024];
	atomic_bool refuse; /* the guest does */
	atomic_bool hang;   /* it does, until nobody waits */
};

static void note(struct followed *f, const char *format, ...)
{
	const size_t n = strlen(f->text);
	va_list ap;

	va_start(ap, format);
	vsnprintf(f->text + n, sizeof(f->text) - n, format, ap);
	va_end(ap);
}

static void take_look(void *arg, int stop_fd)
{
	(void)arg;
	(void)stop_fd;
}

static void take_resize(void *arg, const struct netns_link *link)
{
	struct followed *f = arg;

	pthread_mutex_lock(&f->lock);
	note(f, "resize %s %u;", link->name, link->mtu);
	pthread_mutex_unlock(&f->lock);
}

static int take_join(void *arg, const struct netns_link *link, unsigned place)
{
	struct followed *f = arg;

	pthread_mutex_lock(&f->lock);
	note(f, "join %s %u;", link->name, place);
	pthread_mutex_unlock(&f->lock);
	return 0;
}

/* "eth0 +10.1.0.2 -10.1.0.3", without addresses that IPv6 makes itself. */
static void note_link(struct followed *f, const struct agent_link *link)
{
	const struct agent_exact *e = link->exact;
	char text[INET6_ADDRSTRLEN];

	note(f, "%s%s", e->gone ? "gone " : "", link->name);
	if (link->mtu && link->mtu != 1500)
		note(f, " mtu %u", link->mtu);
	for (size_t i = 0; i < e->naddresses; i++) {
		const struct agent_address *a = &e->addresses[i];

		if (a->family != 4)
			continue;
		inet_ntop(AF_INET, a->address, text, sizeof(text));
		note(f, " %c%s", a->flags & AGENT_GONE ? '-' : '+', text);
	}
	for (size_t i = 0; i < e->nroutes; i++) {
		const struct agent_route *r = &e->routes[i];

		if (r->family != 4 || r->metric != htole32(77))
			continue;
		inet_ntop(AF_INET, r->destination, text, sizeof(text));
		note(f, " %c%s/%u", r->flags & AGENT_ROUTE_GONE ? '-' : '+',
		     text, r->prefix);
	}
	note(f, ";");
}

static int take_change(void *arg, const struct agent_link *links, size_t nlinks,
		       int stop_fd)
{
	struct pollfd stop = {.fd = stop_fd, .events = POLLIN};
	struct followed *f = arg;

	pthread_mutex_lock(&f->lock);
	for (size_t i = 0; i < nlinks; i++)
		note_link(f, &links[i]);
	pthread_mutex_unlock(&f->lock);
	if (f->hang)
		(void)poll(&stop, 1, -1);
	return f->refuse || f->hang ? -EREMOTEIO : 0;
}

static void take_leave(void *arg, unsigned place)
{
	struct followed *f = arg;

	pthread_mutex_lock(&f->lock);
	note(f, "leave %u;", place);
	pthread_mutex_unlock(&f->lock);
}

static void take_text(void *arg, const char *text)
{
	struct followed *f = arg;

	pthread_mutex_lock(&f->lock);
	note(f, "(%s);", text);
	pthread_mutex_unlock(&f->lock);
}

static const struct netns_watch_ops watch_ops = {
	take_look, take_join, take_resize, take_change, take_leave, take_text};

static bool has_followed(struct followed *f, const char *text)
{
	bool has;

	pthread_mutex_lock(&f->lock);
	has = strstr(f->text, text);
	pthread_mutex_unlock(&f->lock);
	return has;
}

/* It may come in several steps. */
static void expect_followed(struct followed *f, const char *text)
{
	if (!wait_until(has_followed(f, text)))
		fail_msg("no '%s' in '%s'", text, f->text);
	pthread_mutex_lock(&f->lock);
	f->text[0] = '\0';
	pthread_mutex_unlock(&f->lock);
}

static const uint8_t eth0_mac[] = {2, 0, 0, 0, 0, 1};

/* To a namespace whose eth0 a machine with so many devices has; the former. */
static int enter_with_eth0(const uint8_t mac[6], struct netns *ret,
			   unsigned places)
{
	int before;

	netns_need();
	before = netns_here();
	close(netns_new());
	netns_add_veth("eth0", "peer0", -1);
	netns_set_mac("eth0", mac);
	netns_up("eth0");
	assert_int_equal(netns_scan(ret), 0);
	assert_int_equal(ret->nlinks, 1);
	ret->places = places;
	return before;
}

/* As `docker network connect` and `disconnect` while a guest runs. */
static void test_watch(void **state)
{
	struct followed f = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct netns_watch *watch = NULL;
	struct netns n;
	int before;

	(void)state;
	before = enter_with_eth0(mac0, &n, 2);
	/* Between the look at it and the guest's start. */
	netns_add_address("eth0", "10.1.0.2", 24);
	assert_int_equal(netns_watch_start(&n, &watch_ops, &f, &watch), 0);
	netns_done(&n);
	expect_followed(&f, "eth0 +10.1.0.2;");

	netns_add_veth("eth1", "peer1", -1);
	netns_add_tap("bhtap0", 0);
	netns_up("bhtap0");
	netns_add_address("eth1", "10.2.0.2", 24);
	assert_false(has_followed(&f, "eth1"));
	netns_up("eth1");
	expect_followed(&f, "join eth1 1;eth1 +10.2.0.2;");
	netns_add_address("eth1", "10.2.0.3", 24);
	netns_add_route("eth1", "10.7.0.0", 16, "10.2.0.1", 77);
	expect_followed(&f, "+10.2.0.3 +10.7.0.0/16;");
	netns_set_mac("eth1", (const uint8_t[]){2, 0, 0, 0, 0, 1});
	/* Another one to the guest. */
	expect_followed(&f, "gone eth1;leave 1;join eth1 1;eth1 +10.2.0.2");

	netns_add_veth("eth2", "peer2", -1);
	netns_up("eth2");
	expect_followed(&f,
			"(interface 'eth2' came while the guest runs, which "
			"has no place left");
	/* It gets the place that becomes free, with all that it has by then. */
	netns_add_address("eth2", "10.3.0.2", 24);
	netns_set_mtu("eth2", 1400);
	netns_delete("eth1");
	expect_followed(&f, "gone eth1;leave 1;join eth2 1;eth2 mtu 1400 "
			    "+10.3.0.2;");
	netns_set_mtu("eth2", 1450);
	expect_followed(&f, "resize eth2 1450;eth2 mtu 1450 +10.3.0.2;");
	netns_add_veth("eth4", "peer4", -1);
	netns_up("eth4");
	expect_followed(&f, "(interface 'eth4' came");
	/* The guest never had that one. */
	netns_delete("eth4");
	netns_delete("eth2");
	expect_followed(&f, "gone eth2;leave 1;");
	netns_add_veth("eth3", "peer3", -1);
	netns_up("eth3");
	expect_followed(&f, "join eth3 1;");
	f.refuse = true;
	netns_delete("eth0");
	expect_followed(&f, "gone eth0;(interface 'eth0' is gone; the guest's "
			    "leads nowhere);leave 0;");
	netns_watch_stop(watch);
	netns_watch_stop(NULL);
	assert_false(has_followed(&f, "eth4"));
	netns_go(before);
	close(before);
}

/* Which of the machine's devices those get that come, and which get none. */
static void test_watch_places(void **state)
{
	struct followed f = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct netns_watch *watch = NULL;
	struct netns n;
	int before;

	(void)state;
	before = enter_with_eth0(eth0_mac, &n, 3);
	assert_int_equal(netns_watch_start(&n, &watch_ops, &f, &watch), 0);
	netns_done(&n);

	/* As a VLAN of it has. */
	netns_add_veth("eth1", "peer1", -1);
	netns_set_mac("eth1", eth0_mac);
	netns_up("eth1");
	expect_followed(&f,
			"(interface 'eth1' came while the guest runs, which "
			"gets it when another one, that has its Ethernet "
			"address, is gone);");
	/* A device that the guest holds on to is tried last. */
	f.refuse = true;
	netns_delete("eth0");
	expect_followed(&f, "leave 0;join eth1 1;");
	f.refuse = false;
	netns_delete("eth1");
	expect_followed(&f, "leave 1;");
	netns_add_veth("eth2", "peer2", -1);
	netns_up("eth2");
	expect_followed(&f, "join eth2 1;");
	netns_add_veth("eth3", "peer3", -1);
	netns_up("eth3");
	expect_followed(&f, "join eth3 2;");
	netns_add_veth("eth4", "peer4", -1);
	netns_up("eth4");
	expect_followed(&f, "join eth4 0;");
	/* The end, while the guest is asked: nothing is told or begun. */
	f.hang = true;
	netns_delete("eth2");
	expect_followed(&f, "gone eth2;");
	netns_add_veth("eth5", "peer5", -1);
	netns_add_address("eth3", "10.1.0.3", 24);
	netns_watch_stop(watch);
	assert_false(has_followed(&f, "eth"));
	netns_go(before);
	close(before);
}

static bool allows(const struct sandbox_rule *rule, uint32_t call)
{
	while (rule->call != UINT32_MAX && rule->call != call)
		rule++;
	return rule->call == call;
}

static unsigned count_nets(const struct config *cfg, const char *key)
{
	unsigned n = 0;

	for (unsigned i = 0; i < cfg->ndevices; i++)
		n += strcmp(cfg->device[i].type, "net") == 0 &&
		     config_text(&cfg->device[i], key);
	return n;
}

/* Volumes by the dozen are one device; by others the machine may be full. */
static void test_spares(void **state)
{
	static const struct config_pair tree[] = {
		{"dir", "/"}, {"share", "x"}, {"name", "y"}};
	static const uint8_t mac[ETH_ALEN] = {2, 0, 0, 0, 0, 1};
	int before;

	(void)state;
	netns_need();
	before = netns_here();
	close(netns_new());
	netns_add_veth("eth0", "peer0", -1);
	netns_up("eth0");
	for (unsigned full = 0; full < 2; full++) {
		struct run_machine machine = {.initrd_fd = -1};
		struct config *cfg = &machine.cfg;
		struct net_backend b;

		config_init(cfg);
		for (unsigned i = 0; i < 62; i++)
			assert_int_equal(run_add_device(cfg,
							full ? "rng" : "tree",
							tree, full ? 0 : 3),
					 0);
		assert_int_equal(run_netns_make(&machine), 0);
		assert_int_equal(count_nets(cfg, "join"), 1);
		assert_int_equal(count_nets(cfg, "spare"), full ? 0 : 4);
		assert_int_equal(machine.netns.places, full ? 1 : 5);
		/* The monitor hears that it goes, whatever else there is. */
		assert_int_equal(
			net_backend_open(&b, &cfg->device[62], mac, "net0"), 0);
		assert_true(allows(b.ops->syscalls, SYS_recvmsg));
		net_backend_close(&b);
		run_machine_done(&machine);
	}
	netns_go(before);
	close(before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_none),
		cmocka_unit_test(test_scan),
		cmocka_unit_test(test_same_networks),
		cmocka_unit_test(test_small_mtu),
		cmocka_unit_test(test_stacked),
		cmocka_unit_test(test_watch),
		cmocka_unit_test(test_watch_places),
		cmocka_unit_test(test_spares),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
