/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest in place of a namespace's stack. Three namespaces: HERE, whose
 * interface "eth0" is joined; PEER, which has the other end of that pair; and
 * GUEST, a stack behind a tap of its own. A thread carries frames, headers and
 * all, between that and the joined tap, as a monitor does.
 */
#include "devices/host/tap-join.h"

#include "devices/host/net.h"
#include "devices/host/tap.h"
#include "tests/netns.h"
#include "vmm/base/util.h"

#include <errno.h>
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
	const char *why = netns_enter();

	if (why) {
		print_message("%s\n", why);
		skip();
	}
	if (here)
		return;
	here = netns_here();
	peer = netns_new();
	netns_go(here);
	guest = netns_new();
	netns_go(here);
	netns_add_veth("eth0", "veth0", peer);
	netns_set_mac("eth0", mac);
	netns_add_address("eth0", "10.9.0.2", 24);
	netns_up("eth0");
	netns_go(peer);
	netns_add_address("veth0", "10.9.0.1", 24);
	netns_up("veth0");
	netns_go(here);
}

/* ---- the guest */

static int open_guest(void)
{
	char name[IFNAMSIZ];
	int fd;

	netns_go(guest);
	fd = tap_make("gst%d", name);
	assert_true(fd >= 0);
	netns_set_mac(name, mac);
	netns_add_address(name, "10.9.0.2", 24);
	netns_up(name);
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

static void wire_start(struct wire *w)
{
	const uint64_t all = BIT(VIRTIO_NET_F_GUEST_CSUM) |
			     BIT(VIRTIO_NET_F_GUEST_TSO4) |
			     BIT(VIRTIO_NET_F_GUEST_TSO6);
	uint16_t mtu = 0;

	memset(w, 0, sizeof(*w));
	w->joined = tap_join("eth0", &mtu);
	assert_true(w->joined >= 0);
	assert_int_equal(mtu, 1500);
	w->tap = open_guest();
	assert_int_equal(tap_set_offloads(w->joined, all), 0);
	assert_int_equal(tap_set_offloads(w->tap, all), 0);
	assert_int_equal(pipe2(w->stop, O_CLOEXEC), 0);
	assert_int_equal(pthread_create(&w->thread, NULL, run_wire, w), 0);
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
	first = tap_join("eth0", &mtu);
	assert_true(first >= 0);
	mtu = 7;
	assert_int_equal(tap_join("eth0", &mtu), -EBUSY);
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
		if (tap_join("eth0", &mtu) < 0)
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

static void test_refused(void **state)
{
	uint16_t mtu = 7;

	(void)state;
	need_namespaces();
	assert_int_equal(tap_join("nosuch", &mtu), -ENODEV);
	assert_int_equal(tap_join("sixteencharacter", &mtu), -ENODEV);
	assert_int_equal(tap_join("lo", &mtu), -EINVAL);
	netns_add_tun("tun0");
	assert_int_equal(tap_join("tun0", &mtu), -EINVAL);
	tap_join_undo("nosuch");
	assert_int_equal(mtu, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_streams), cmocka_unit_test(test_again),
		cmocka_unit_test(test_busy),    cmocka_unit_test(test_killed),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
