/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which networks a container can have, by descriptors of namespaces that the
 * test makes: HERE is its own, THERE another one with an interface.
 */
#include "tools/oci/oci.h"

#include "devices/host/tap-join.h"
#include "tests/netns.h"
#include "tools/container/netns.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <jansson.h>
#include <linux/pkt_sched.h>
#include <stdio.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static int here, there;

static void need_namespaces(void)
{
	netns_need();
	if (here)
		return;
	here = netns_here();
	there = netns_new();
	netns_add_veth("eth0", "peer0", -1);
	netns_up("eth0");
	netns_go(here);
}

static int check(const char *type, const char *path)
{
	json_t *config =
		json_pack("{s:{s:[{s:s}, {s:s, s:s}]}}", "linux", "namespaces",
			  "type", "pid", "type", type, "path", path);
	const int r = oci_network_check(config);

	assert_non_null(config);
	json_decref(config);
	return r;
}

static void test_host(void **state)
{
	(void)state;
	assert_int_equal(check("uts", ""), -ENOTSUP);
	assert_int_equal(check("network", "/proc/self/ns/net"), -ENOTSUP);
	assert_int_equal(check("network", ""), 0);
	/* The host's runtime says that. */
	assert_int_equal(check("network", "/nonexistent"), 0);
}

/* Interfaces with an ingress qdisc, in THERE. */
static int count_qdisc(void *arg, const struct nlmsghdr *message)
{
	unsigned *n = arg;
	const struct rtattr *table[TCA_KIND + 1];

	if (netlink_parse(message, sizeof(struct tcmsg), table,
			  ARRAY_LEN(table)) &&
	    strcmp(netlink_text(table[TCA_KIND]), "ingress") == 0)
		++*n;
	return 0;
}

static unsigned qdiscs(void)
{
	struct netlink_request r;
	unsigned n = 0;
	int fd;

	netns_go(there);
	fd = netlink_open();
	netlink_begin(&r, RTM_GETQDISC, 0, sizeof(struct tcmsg));
	assert_int_equal(netlink_dump(fd, &r, count_qdisc, &n), 0);
	close(fd);
	netns_go(here);
	return n;
}

static void test_other(void **state)
{
	char path[40];
	uint16_t mtu;
	int tap;

	(void)state;
	need_namespaces();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", there);
	assert_int_equal(check("network", path), 0);
	netns_go(there);
	tap = tap_join("eth0", true, &mtu);
	netns_go(here);
	assert_true(tap >= 0);
	assert_int_equal(check("network", path), -EBUSY);
	/* Nothing is taken from a guest that lives. */
	oci_network_leave(path);
	assert_int_equal(qdiscs(), 2);
	/* As a monitor ends that is killed. */
	close(tap);
	assert_int_equal(qdiscs(), 1);
	assert_int_equal(check("network", path), 0);
	oci_network_leave(path);
	assert_int_equal(qdiscs(), 0);
	oci_network_leave("/nonexistent");
	assert_true(netns_has_guest() == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_host),
		cmocka_unit_test(test_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
