/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest in place of a namespace's stack. Three namespaces: HERE, whose
 * interface "eth0" is joined; PEER, which has the other end of that pair; and
 * GUEST, a stack behind a tap of its own. A thread carries frames, headers and
 * all, between that and the joined tap, as a monitor does.
 */
#include "devices/host/tap-join.h"

#include "devices/host/net.h"
#include "devices/host/tap-filter.h"
#include "devices/host/tap-local.h"
#include "devices/host/tap.h"
#include "tests/netns.h"
#include "tests/patience.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/pkt_sched.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define BIT(n)       (UINT64_C(1) << (n))
#define STREAM_BYTES (8 * MIB)

static const uint8_t mac[6] = {2, 0x42, 0, 0, 0, 7};

static int here, peer, guest; /* namespaces */

struct wire {
	int joined, tap; /* of the guest's own stack */
	int stop[2];
	atomic_size_t longest[2]; /* frames: to the guest, from it */
	pthread_t thread;
};

static void need_namespaces(void)
{
	netns_need();
	if (here)
		return;
	here = netns_here();
	peer = netns_new();
	netns_go(here);
	guest = netns_new();
	netns_go(here);
	netns_up("lo");
	netns_add_veth("eth0", "veth0", peer);
	netns_set_mac("eth0", mac);
	netns_add_address("eth0", "10.9.0.2", 24);
	netns_add_address("eth0", "fd09::2", 64);
	netns_up("eth0");
	netns_go(peer);
	netns_add_address("veth0", "10.9.0.1", 24);
	netns_add_address("veth0", "fd09::1", 64);
	netns_up("veth0");
	netns_go(here);
}

/* ---- the guest */

/* As `run` has them of netns_scan(). */
static void add_programs(const char *name, const struct tap_local *local)
{
	char text[INET6_ADDRSTRLEN];

	inet_ntop(AF_INET, local->ipv4, text, sizeof(text));
	netns_add_route(name, text, 32, NULL, 0);
	netns_add_neighbour(name, text, local->mac);
	inet_ntop(AF_INET6, local->ipv6, text, sizeof(text));
	netns_add_neighbour(name, text, local->mac);
}

static int open_guest(void)
{
	const struct tap_local local = tap_local_of(if_nametoindex("eth0"));
	char name[IFNAMSIZ];
	int fd;

	netns_go(guest);
	fd = tap_make("gst%d", name);
	assert_true(fd >= 0);
	netns_set_mac(name, mac);
	netns_add_address(name, "10.9.0.2", 24);
	netns_add_address(name, "fd09::2", 64);
	netns_up(name);
	add_programs(name, &local);
	netns_go(here);
	return fd;
}

static void carry(int from, int to, atomic_size_t *longest)
{
	static _Thread_local uint8_t frame[NET_HEADER + NET_FRAME_MAX];
	ssize_t n;

	while ((n = read(from, frame, sizeof(frame))) > 0) {
		if ((size_t)n > *longest)
			*longest = (size_t)n;
		(void)!write(to, frame, (size_t)n);
	}
}

static void *run_wire(void *arg)
{
	struct wire *w = arg;
	struct pollfd pfd[3] = {
		{.fd = w->joined, .events = POLLIN},
		{.fd = w->tap, .events = POLLIN},
		{.fd = w->stop[0], .events = POLLIN},
	};

	while (poll(pfd, 3, -1) >= 0 && !pfd[2].revents) {
		if (pfd[0].revents)
			carry(w->joined, w->tap, &w->longest[0]);
		if (pfd[1].revents)
			carry(w->tap, w->joined, &w->longest[1]);
	}
	return NULL;
}

static void wire_start_with(struct wire *w, bool resolver)
{
	const uint64_t all = BIT(VIRTIO_NET_F_GUEST_CSUM) |
			     BIT(VIRTIO_NET_F_GUEST_TSO4) |
			     BIT(VIRTIO_NET_F_GUEST_TSO6);
	uint16_t mtu = 0;

	memset(w, 0, sizeof(*w));
	w->joined = tap_join("eth0", resolver, &mtu);
	assert_true(w->joined >= 0);
	assert_int_equal(mtu, 1500);
	w->tap = open_guest();
	assert_int_equal(tap_set_offloads(w->joined, all), 0);
	assert_int_equal(tap_set_offloads(w->tap, all), 0);
	assert_int_equal(pipe2(w->stop, O_CLOEXEC), 0);
	assert_int_equal(pthread_create(&w->thread, NULL, run_wire, w), 0);
}

static void wire_start(struct wire *w)
{
	wire_start_with(w, false);
}

/* As a killed monitor does it: nothing is undone. */
static void wire_stop(struct wire *w)
{
	close(w->stop[1]);
	pthread_join(w->thread, NULL);
	close(w->stop[0]);
	close(w->joined);
	close(w->tap);
}

/* ---- streams */

static int stream_socket(int namespace)
{
	int fd;

	netns_go(namespace);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	netns_go(here);
	assert_true(fd >= 0);
	return fd;
}

static void *send_all(void *arg)
{
	const int fd = *(int *)arg;
	uint8_t data[65536];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7);
	for (size_t i = 0; i < STREAM_BYTES / sizeof(data); i++) {
		if (util_write_all(fd, data, sizeof(data)) < 0)
			break;
	}
	shutdown(fd, SHUT_WR);
	return NULL;
}

/* From a client to a server that listens at TEXT. */
static void stream(int from, int to, const char *text)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons(5001)};
	autofd int listener = stream_socket(to);
	autofd int client = stream_socket(from);
	autofd int server = -1;
	const int on = 1;
	uint8_t data[65536];
	size_t total = 0;
	pthread_t thread;
	ssize_t n;

	assert_int_equal(inet_pton(AF_INET, text, &address.sin_addr), 1);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	assert_int_equal(bind(listener, (void *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(connect(client, (void *)&address, sizeof(address)), 0);
	server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(server >= 0);
	assert_int_equal(pthread_create(&thread, NULL, send_all, &client), 0);
	while ((n = read(server, data, sizeof(data))) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			const size_t at = (total + (size_t)i) % sizeof(data);

			assert_int_equal(data[i], (uint8_t)(at * 7));
		}
		total += (size_t)n;
	}
	pthread_join(thread, NULL);
	assert_int_equal(total, STREAM_BYTES);
}

/*
 * Both ways, in segments larger than the MTU. HERE has the address as well and
 * nobody who listens: did it get a packet, it would end the connection.
 */
static void test_streams(void **state)
{
	struct wire w;

	(void)state;
	need_namespaces();
	wire_start(&w);
	stream(guest, peer, "10.9.0.1");
	stream(peer, guest, "10.9.0.2");
	assert_true(w.longest[0] > 4 * 1500);
	assert_true(w.longest[1] > 4 * 1500);
	wire_stop(&w);
	tap_join_undo("eth0");
}

/* ---- this namespace's resolver */

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

static union address make_address(const char *text, uint16_t port)
{
	union address a = {
		.in = {.sin_family = AF_INET, .sin_port = htons(port)}};

	if (inet_pton(AF_INET, text, &a.in.sin_addr) == 1)
		return a;
	a.in6 = (struct sockaddr_in6){.sin6_family = AF_INET6,
				      .sin6_port = htons(port)};
	assert_int_equal(inet_pton(AF_INET6, text, &a.in6.sin6_addr), 1);
	return a;
}

static int datagram_socket(int namespace, int family)
{
	int fd;

	netns_go(namespace);
	fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	netns_go(here);
	assert_true(fd >= 0);
	return fd;
}

/* Fails the test where nothing comes. */
static void await(int fd)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	assert_int_equal(poll(&pfd, 1, PATIENCE_MS), 1);
}

/* Port 53 of TEXT, which is PEER's, is asked from a port of FROM's. That. */
static uint16_t ask_by_udp(int from, const char *text)
{
	const union address to = make_address(text, 53);
	autofd int server = datagram_socket(peer, to.any.sa_family);
	autofd int client = datagram_socket(from, to.any.sa_family);
	union address by;
	socklen_t bytes = sizeof(by);
	char data[8];

	assert_int_equal(bind(server, &to.any, sizeof(to)), 0);
	assert_int_equal(connect(client, &to.any, sizeof(to)), 0);
	assert_int_equal(send(client, "query", 5, 0), 5);
	await(server);
	assert_int_equal(
		recvfrom(server, data, sizeof(data), 0, &by.any, &bytes), 5);
	assert_int_equal(sendto(server, "answer", 6, 0, &by.any, bytes), 6);
	await(client);
	assert_int_equal(recv(client, data, sizeof(data), 0), 6);
	return ntohs(by.in.sin_port);
}

static void ask_by_tcp(int from, const char *text)
{
	const union address to = make_address(text, 53);
	autofd int listener = -1, client = -1, server = -1;
	const int on = 1;

	netns_go(peer);
	listener = socket(to.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	netns_go(from);
	client = socket(to.any.sa_family,
			SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	netns_go(here);
	assert_true(listener >= 0 && client >= 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	assert_int_equal(bind(listener, &to.any, sizeof(to)), 0);
	assert_int_equal(listen(listener, 1), 0);
	(void)connect(client, &to.any, sizeof(to));
	await(listener);
	server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_int_equal(write(server, "answer", 6), 6);
	await(client);
}

/* Docker's asks outside by the interface that the guest is joined to. */
static void test_resolver(void **state)
{
	static const char *const servers[] = {"10.9.0.1", "fd09::1"};
	struct wire w;

	(void)state;
	need_namespaces();
	wire_start_with(&w, true);
	for (unsigned i = 0; i < ARRAY_LEN(servers); i++) {
		assert_in_range(ask_by_udp(here, servers[i]), TAP_FILTER_FIRST,
				TAP_FILTER_LAST);
		ask_by_tcp(here, servers[i]);
		assert_in_range(ask_by_udp(guest, servers[i]), 1024,
				TAP_FILTER_FIRST - 1);
		ask_by_tcp(guest, servers[i]);
	}
	stream(peer, guest, "10.9.0.2");
	/* As one that is refused leaves, with an interface that is not joined.
	 */
	tap_join_undo("lo");
	assert_in_range(ask_by_udp(here, servers[0]), TAP_FILTER_FIRST,
			TAP_FILTER_LAST);
	wire_stop(&w);
	/* Another guest, without it, finds none of these filters. */
	wire_start(&w);
	stream(guest, peer, "10.9.0.1");
	/* It comes while that one runs, and is there already. */
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(tap_join_open_resolver(), 0);
		assert_in_range(ask_by_udp(here, servers[i]), TAP_FILTER_FIRST,
				TAP_FILTER_LAST);
		ask_by_tcp(here, servers[i]);
		ask_by_tcp(guest, servers[i]);
	}
	wire_stop(&w);
	tap_join_undo("eth0");
	assert_in_range(ask_by_udp(here, servers[0]), 1024,
			TAP_FILTER_FIRST - 1);
}

static void test_mtu(void **state)
{
	struct ifreq ifr = {.ifr_name = TAP_JOIN_NAME "0"};
	uint16_t mtu = 0;
	autofd int fd = -1, tap = -1;

	(void)state;
	need_namespaces();
	assert_int_equal(tap_join_set_mtu("eth0", 1400), -ENODEV);
	tap = tap_join("eth0", false, &mtu);
	assert_true(tap >= 0);
	assert_int_equal(tap_join_set_mtu("eth0", 1400), 0);
	assert_int_equal(tap_join_set_mtu("eth9", 1400), -ENODEV);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(ioctl(fd, SIOCGIFMTU, &ifr), 0);
	assert_int_equal(ifr.ifr_mtu, 1400);
	util_close(&tap);
	tap_join_undo("eth0");
}

/* ---- this namespace's programs as clients */

static int stream_of(int namespace, int family)
{
	int fd;

	netns_go(namespace);
	fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	netns_go(here);
	assert_true(fd >= 0);
	return fd;
}

static int listen_at(int namespace, const union address *at)
{
	const int fd = stream_of(namespace, at->any.sa_family);
	const int on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	assert_int_equal(bind(fd, &at->any, sizeof(*at)), 0);
	assert_int_equal(listen(fd, 4), 0);
	return fd;
}

/* All that comes to FD up to its end is what send_all() sends. */
static void expect_all(int fd)
{
	static uint8_t data[65536];
	size_t total = 0;
	ssize_t n;

	while ((n = read(fd, data, sizeof(data))) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			const size_t at = (total + (size_t)i) % sizeof(data);

			assert_int_equal(data[i], (uint8_t)(at * 7));
		}
		total += (size_t)n;
	}
	assert_int_equal(n, 0);
	assert_int_equal(total, STREAM_BYTES);
}

static void expect_neighbour(const union address *from)
{
	const struct tap_local local = tap_local_of(if_nametoindex("eth0"));

	if (from->any.sa_family == AF_INET)
		assert_memory_equal(&from->in.sin_addr, local.ipv4, 4);
	else
		assert_memory_equal(&from->in6.sin6_addr, local.ipv6, 16);
}

/* There, its end, and then back by the same connection, to its end. */
static void talk_by_tcp(const char *text)
{
	const union address to = make_address(text, 5001);
	autofd int listener = listen_at(guest, &to);
	autofd int client = stream_of(here, to.any.sa_family);
	autofd int server = -1;
	union address by;
	socklen_t bytes = sizeof(by);
	pthread_t thread;

	assert_int_equal(connect(client, &to.any, sizeof(to)), 0);
	server = accept4(listener, &by.any, &bytes, SOCK_CLOEXEC);
	assert_true(server >= 0);
	expect_neighbour(&by);
	assert_int_equal(pthread_create(&thread, NULL, send_all, &client), 0);
	expect_all(server);
	pthread_join(thread, NULL);
	assert_int_equal(pthread_create(&thread, NULL, send_all, &server), 0);
	expect_all(client);
	pthread_join(thread, NULL);
	/* A port that is nobody's. */
	util_close(&listener);
	util_close(&client);
	client = stream_of(here, to.any.sa_family);
	assert_int_equal(connect(client, &to.any, sizeof(to)), -1);
	assert_int_equal(errno, ECONNREFUSED);
}

/* Datagrams of BYTES each way, and one to nobody. */
static void talk_by_udp(const char *text, size_t bytes)
{
	static uint8_t data[8192];
	const union address to = make_address(text, 5003);
	autofd int server = datagram_socket(guest, to.any.sa_family);
	autofd int client = datagram_socket(here, to.any.sa_family);
	union address by;
	socklen_t size = sizeof(by);

	assert_int_equal(bind(server, &to.any, sizeof(to)), 0);
	assert_int_equal(connect(client, &to.any, sizeof(to)), 0);
	assert_int_equal(send(client, data, bytes, 0), bytes);
	await(server);
	assert_int_equal(
		recvfrom(server, data, sizeof(data), 0, &by.any, &size), bytes);
	expect_neighbour(&by);
	assert_int_equal(sendto(server, data, bytes, 0, &by.any, size), bytes);
	await(client);
	assert_int_equal(recv(client, data, sizeof(data), 0), bytes);
	util_close(&server);
	assert_int_equal(send(client, data, 1, 0), 1);
	await(client);
	assert_int_equal(recv(client, data, sizeof(data), 0), -1);
	assert_int_equal(errno, ECONNREFUSED);
}

/* The guest begins no connection to its neighbour, whose ports are HERE's. */
static void expect_no_way_back(int family)
{
	const struct tap_local local = tap_local_of(if_nametoindex("eth0"));
	union address any =
		make_address(family == AF_INET ? "0.0.0.0" : "::", 5002);
	union address to = any;
	autofd int listener = listen_at(here, &any);
	autofd int client = stream_of(guest, family);

	if (family == AF_INET) {
		memcpy(&to.in.sin_addr, local.ipv4, 4);
	} else {
		memcpy(&to.in6.sin6_addr, local.ipv6, 16);
		netns_go(guest);
		to.in6.sin6_scope_id = if_nametoindex("gst0");
		netns_go(here);
	}
	fcntl(client, F_SETFL, O_NONBLOCK);
	assert_int_equal(connect(client, &to.any, sizeof(to)), -1);
	assert_int_equal(errno, EINPROGRESS);
	/* A datagram that came by the wire later is answered before. */
	talk_by_udp(family == AF_INET ? "10.9.0.2" : "fd09::2", 100);
	fcntl(listener, F_SETFL, O_NONBLOCK);
	assert_int_equal(accept4(listener, NULL, NULL, SOCK_CLOEXEC), -1);
	assert_int_equal(errno, EAGAIN);
}

static int count_first(void *arg, const struct nlmsghdr *message)
{
	unsigned *count = arg;
	const struct rtattr *table[FRA_PRIORITY + 1];
	uint32_t priority = 0;

	if (netlink_parse(message, sizeof(struct fib_rule_hdr), table,
			  ARRAY_LEN(table)) &&
	    message->nlmsg_type == RTM_NEWRULE) {
		(void)netlink_get(table[FRA_PRIORITY], &priority,
				  sizeof(priority));
		*count += priority == 0;
	}
	return 0;
}

/* How many tables are looked at first. */
static unsigned first_tables(int family)
{
	struct netlink_request r;
	autofd int fd = netlink_open();
	unsigned count = 0;
	struct fib_rule_hdr *m = netlink_begin(&r, RTM_GETRULE, 0, sizeof(*m));

	m->family = (uint8_t)family;
	assert_int_equal(netlink_dump(fd, &r, count_first, &count), 0);
	return count;
}

/* As a process has left it that was killed while it changed the order. */
static void add_local_table(int family)
{
	const uint32_t first = 0, table = RT_TABLE_LOCAL;
	struct netlink_request r;
	struct fib_rule_hdr *m =
		netlink_begin(&r, RTM_NEWRULE, NLM_F_CREATE, sizeof(*m));

	m->family = (uint8_t)family;
	m->action = FR_ACT_TO_TBL;
	netlink_add(&r, FRA_PRIORITY, &first, sizeof(first));
	netlink_add(&r, FRA_TABLE, &table, sizeof(table));
	netns_ask(&r, "rule");
}

/* An engine's forwarder of ports enters the namespace and connects there. */
static void test_clients(void **state)
{
	struct wire w;

	(void)state;
	need_namespaces();
	add_local_table(AF_INET);
	for (int resolver = 0; resolver < 2; resolver++) {
		/* The second time as Docker has it. */
		if (resolver)
			netns_no_ipv6("default");
		wire_start_with(&w, resolver);
		talk_by_tcp("10.9.0.2");
		talk_by_udp("10.9.0.2", 1000);
		talk_by_udp("10.9.0.2", 4000);
		talk_by_tcp("fd09::2");
		talk_by_udp("fd09::2", 1000);
		expect_no_way_back(AF_INET);
		expect_no_way_back(AF_INET6);
		/* Those from outside are the guest's as ever. */
		stream(peer, guest, "10.9.0.2");
		stream(guest, peer, "10.9.0.1");
		wire_stop(&w);
	}
	tap_join_undo("eth0");
	assert_int_equal(first_tables(AF_INET), 1);
	assert_int_equal(first_tables(AF_INET6), 1);
	stream(here, here, "10.9.0.2");
}

/* ---- ends */

static bool has_qdisc(void)
{
	struct tcmsg *t;
	struct netlink_request r;
	autofd int fd = netlink_open();

	/* Adding it fails where it is. */
	t = netlink_begin(&r, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL,
			  sizeof(*t));
	t->tcm_ifindex = (int)if_nametoindex("eth0");
	t->tcm_handle = TC_H_MAKE(TC_H_INGRESS, 0);
	t->tcm_parent = TC_H_INGRESS;
	netlink_add(&r, TCA_KIND, "ingress", sizeof("ingress"));
	if (netlink_transact(fd, &r) < 0)
		return true;
	r.header.nlmsg_type = RTM_DELQDISC;
	r.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	netns_ask(&r, "qdisc");
	return false;
}

/* This namespace's stack answers PEER again. */
static void expect_answers(void)
{
	stream(peer, here, "10.9.0.2");
}

static void test_again(void **state)
{
	struct wire w;

	(void)state;
	need_namespaces();
	for (int i = 0; i < 2; i++) {
		wire_start(&w);
		stream(peer, guest, "10.9.0.2");
		/* Nothing is undone as long as the guest is there. */
		tap_join_undo("eth0");
		stream(guest, peer, "10.9.0.1");
		wire_stop(&w);
		assert_true(has_qdisc());
	}
	tap_join_undo("eth0");
	assert_false(has_qdisc());
	tap_join_undo("eth0");
	expect_answers();
}

static void test_busy(void **state)
{
	uint16_t mtu = 7;
	autofd int first = -1;

	(void)state;
	need_namespaces();
	first = tap_join("eth0", false, &mtu);
	assert_true(first >= 0);
	mtu = 7;
	assert_int_equal(tap_join("eth0", false, &mtu), -EBUSY);
	assert_int_equal(mtu, 7);
	util_close(&first);
	tap_join_undo("eth0");
	assert_false(has_qdisc());
}

/* Kept as long as another one's process lives, and gone with a kill. */
static void test_killed(void **state)
{
	struct pollfd pfd = {.events = POLLIN};
	int ready[2], status;
	uint16_t mtu;
	pid_t pid;

	(void)state;
	need_namespaces();
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		if (tap_join("eth0", false, &mtu) < 0)
			_exit(1);
		(void)!write(ready[1], "", 1);
		pause();
	}
	close(ready[1]);
	pfd.fd = ready[0];
	assert_int_equal(poll(&pfd, 1, -1), 1);
	assert_int_equal(pfd.revents & POLLIN, POLLIN);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(ready[0]);
	test_streams(state);
	assert_false(has_qdisc());
	expect_answers();
}

/* Which of those that start in the same moment the interface is joined to. */
static void test_at_once(void **state)
{
	enum { CHILDREN = 6 };
	pid_t pids[CHILDREN];
	int go[2], told[2], status;
	unsigned joined = 0;
	uint16_t mtu;
	struct wire w;
	char c;

	(void)state;
	need_namespaces();
	/* One that is dead has left its filter. */
	wire_start(&w);
	wire_stop(&w);
	assert_int_equal(pipe2(go, O_CLOEXEC), 0);
	assert_int_equal(pipe2(told, O_CLOEXEC), 0);
	for (unsigned i = 0; i < CHILDREN; i++) {
		pids[i] = fork();
		if (pids[i] > 0)
			continue;
		close(go[1]);
		(void)!read(go[0], &c, 1);
		c = tap_join("eth0", true, &mtu) >= 0 ? 'y' : 'n';
		(void)!write(told[1], &c, 1);
		pause();
	}
	close(go[0]);
	close(go[1]);
	for (unsigned i = 0; i < CHILDREN; i++) {
		assert_int_equal(read(told[0], &c, 1), 1);
		joined += c == 'y';
	}
	assert_int_equal(joined, 1);
	/* It was not cut off by the others. */
	assert_int_equal(tap_join("eth0", false, &mtu), -EBUSY);
	for (unsigned i = 0; i < CHILDREN; i++) {
		kill(pids[i], SIGKILL);
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
	}
	close(told[0]);
	close(told[1]);
	tap_join_undo("eth0");
	assert_false(has_qdisc());
	expect_answers();
}

static void test_refused(void **state)
{
	uint16_t mtu = 7;

	(void)state;
	need_namespaces();
	assert_int_equal(tap_join("nosuch", false, &mtu), -ENODEV);
	assert_int_equal(tap_join("sixteencharacter", false, &mtu), -ENODEV);
	assert_int_equal(tap_join("lo", false, &mtu), -EINVAL);
	netns_add_tun("tun0");
	assert_int_equal(tap_join("tun0", false, &mtu), -EINVAL);
	tap_join_undo("nosuch");
	assert_int_equal(mtu, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_resolver), cmocka_unit_test(test_mtu),
		cmocka_unit_test(test_streams),  cmocka_unit_test(test_clients),
		cmocka_unit_test(test_again),    cmocka_unit_test(test_busy),
		cmocka_unit_test(test_killed),   cmocka_unit_test(test_at_once),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
