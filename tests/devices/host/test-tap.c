/* SPDX-License-Identifier: Apache-2.0 */
/* Taps, on real ones in a network namespace that ends with the test. */
#include "devices/host/tap.h"

#include "tests/netns.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_net.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define BIT(n) (UINT64_C(1) << (n))

static void test_names(void **state)
{
	static const char *const bad[] = {
		"", "a/b", "..", "tap%d", "tap 0", "sixteencharacter", "a:b"};
	uint16_t mtu = 7;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(tap_open(bad[i], &mtu), -EINVAL);
	assert_int_equal(mtu, 7);
}

static void test_missing(void **state)
{
	uint16_t mtu = 7;

	(void)state;
	netns_need();
	assert_int_equal(tap_open("nosuchtap", &mtu), -ENODEV);
	/* Asking twice shows that the first time did not make it. */
	assert_int_equal(tap_open("nosuchtap", &mtu), -ENODEV);
	assert_int_equal(mtu, 7);
}

static void test_open(void **state)
{
	uint16_t mtu = 0;
	autofd int fd = -1;

	(void)state;
	netns_need();
	netns_add_tap("tap0", 0);
	netns_set_mtu("tap0", 1400);
	netns_up("tap0");
	fd = tap_open("tap0", &mtu);
	assert_true(fd >= 0);
	assert_int_equal(mtu, 1400);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(tap_open("tap0", &mtu), -EBUSY);
}

static void test_other_interfaces(void **state)
{
	uint16_t mtu;

	(void)state;
	netns_need();
	assert_int_equal(tap_open("lo", &mtu), -EINVAL);
	netns_add_tap("several", IFF_MULTI_QUEUE);
	assert_int_equal(tap_open("several", &mtu), -EINVAL);
	netns_add_tun("layer3");
	assert_int_equal(tap_open("layer3", &mtu), -EINVAL);
}

static void test_offloads(void **state)
{
	const uint64_t csum = BIT(VIRTIO_NET_F_GUEST_CSUM);
	const uint64_t tso =
		BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6);
	uint16_t mtu;
	autofd int fd = -1;
	uint64_t can;

	(void)state;
	netns_need();
	netns_add_tap("tap1", 0);
	fd = tap_open("tap1", &mtu);
	assert_true(fd >= 0);
	can = tap_offloads(fd);
	assert_int_equal(can & (csum | tso), csum | tso);
	assert_int_equal(tap_set_offloads(fd, can), 0);
	assert_int_equal(tap_set_offloads(fd, csum), 0);
	/* The features that a driver may choose, sensible or not. */
	assert_int_equal(tap_set_offloads(fd, tso), 0);
	for (unsigned bit = 0; bit < 64; bit++) {
		assert_int_equal(tap_set_offloads(fd, can & BIT(bit)), 0);
		assert_int_equal(tap_set_offloads(fd, can & (csum | BIT(bit))),
				 0);
	}
	assert_int_equal(tap_set_offloads(fd, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_missing),
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_other_interfaces),
		cmocka_unit_test(test_offloads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
