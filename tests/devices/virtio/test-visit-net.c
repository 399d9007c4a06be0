/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network interface that is loaded where other things are behind it than
 * before, or nothing.
 */
#include "tests/netns.h"
#include "tests/vdriver.h"

#include "devices/host/tap.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <endian.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_net.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

extern const struct virtio_ops virtio_net;

#define ALL UINT64_MAX

static int setup(void **state)
{
	(void)state;
	if (!netns_enter()) {
		netns_add_tap("tap0", 0);
		netns_up("tap0");
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	if (if_nametoindex("tap0"))
		netns_delete("tap0");
	return 0;
}

/* The state of V, which is freed, in a new device as TEXT says; resumed. */
static struct vdriver *reload(struct vdriver *v, const char *text, int error)
{
	struct vdriver_saved saved;

	vdriver_pause(v);
	assert_int_equal(vdriver_save(v, &saved), 0);
	vdriver_free(v);
	v = vdriver_new(&virtio_net, text);
	assert_non_null(v);
	assert_int_equal(vdriver_load(v, &saved), error);
	vdriver_saved_done(&saved);
	virtio_resume(v->dev);
	return v;
}

static struct virtio_net_config config_of(struct vdriver *v)
{
	struct virtio_net_config config = {0};

	vdriver_config_read(v, 0, &config, 12);
	return config;
}

static struct vdriver *new_device(const char *text)
{
	struct vdriver *v = vdriver_new(&virtio_net, text);

	assert_non_null(v);
	return v;
}

/* The guest's address stays; a new one is for the next driver's device. */
static void test_address(void **state)
{
	static const uint8_t mac[] = {2, 0, 0, 0, 0, 1};
	struct vdriver *v;

	(void)state;
	netns_need();
	v = new_device("tap0,mac=02:00:00:00:00:01");
	assert_true(vdriver_up(v, ALL));
	v = reload(v, "tap0,mac=02:00:00:00:00:02", 0);
	assert_memory_equal(config_of(v).mac, mac, sizeof(mac));
	vdriver_free(v);
}

/* Nothing is behind it: as a device that was taken away, until it is reset. */
static void test_taken_away(void **state)
{
	struct virtio_plug plug = {.mac = {2, 0, 0, 0, 0, 3}};
	struct vdriver *v;
	struct iovec out;

	(void)state;
	netns_need();
	v = new_device("tap0,mtu=1300");
	assert_true(vdriver_up(v, ALL));
	vdriver_acknowledge(v);
	v = reload(v, "spare", 0);
	assert_true(v->dev->absent);
	assert_int_equal(config_of(v).status, 0);
	assert_int_equal(le16toh(config_of(v).mtu), 1300);
	assert_true(vdriver_acknowledge(v) & VIRTIO_MMIO_INT_CONFIG);
	out = vdriver_buf(v, NULL, 100);
	assert_int_equal(vdriver_request(v, 1, &out, 1, NULL, 0), 0);
	/* It is saved and loaded as that. */
	v = reload(v, "spare", 0);
	plug.fd = tap_open("tap0", &plug.mtu);
	assert_int_equal(virtio_plug(v->dev, &plug), -EBUSY);
	vdriver_reset(v);
	assert_int_equal(virtio_plug(v->dev, &plug), 0);
	assert_true(vdriver_up(v, ALL));
	assert_memory_equal(config_of(v).mac, plug.mac, 6);
	vdriver_free(v);
}

/* A place, empty or with a driver that did not let go yet, gets a device. */
static void test_put_there(void **state)
{
	static const uint8_t mac[] = {2, 0, 0, 0, 0, 4};
	struct vdriver *v;

	(void)state;
	netns_need();
	v = new_device("spare");
	v = reload(v, "tap0,mac=02:00:00:00:00:04", 0);
	assert_false(v->dev->absent);
	assert_true(vdriver_up(v, ALL));
	assert_memory_equal(config_of(v).mac, mac, sizeof(mac));
	assert_int_equal(le16toh(config_of(v).status), VIRTIO_NET_S_LINK_UP);
	assert_int_equal(virtio_unplug(v->dev), 0);
	v = reload(v, "tap0", -EINVAL);
	vdriver_free(v);
}

static bool link_is_down(struct vdriver *v)
{
	return config_of(v).status == 0;
}

/* The tap was deleted; there is another one. */
static void test_link_again(void **state)
{
	struct vdriver *v;

	(void)state;
	netns_need();
	v = new_device("tap0");
	assert_true(vdriver_up(v, ALL));
	/* With buffers out: one that wants no frames need not notice. */
	for (unsigned i = 0; i < 64; i++) {
		struct iovec in = vdriver_buf(v, NULL, 2048);

		assert_true(vdriver_add(v, 0, NULL, 0, &in, 1) >= 0);
	}
	vdriver_kick(v, 0);
	netns_delete("tap0");
	assert_true(wait_until(link_is_down(v)));
	netns_add_tap("tap0", 0);
	netns_up("tap0");
	vdriver_acknowledge(v);
	v = reload(v, "tap0", 0);
	assert_int_equal(le16toh(config_of(v).status), VIRTIO_NET_S_LINK_UP);
	assert_true(vdriver_acknowledge(v) & VIRTIO_MMIO_INT_CONFIG);
	vdriver_free(v);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

/*
 * Saved while it is hidden, it is an empty place to those that go on; the one
 * that was saved has its device afterwards.
 */
static void test_hidden(void **state)
{
	static const uint8_t mac[] = {2, 0, 0, 0, 0, 5};
	static const uint8_t other[] = {2, 0, 0, 0, 0, 6};
	struct virtio_plug plug = {.fd = -1, .mtu = 1500};
	struct vdriver *v;

	(void)state;
	netns_need();
	v = new_device("tap0,mac=02:00:00:00:00:05");
	assert_int_equal(virtio_hide(v->dev), 0);
	assert_int_equal(virtio_hide(v->dev), -EBUSY);
	assert_int_equal(vdriver_read32(v, VIRTIO_MMIO_DEVICE_ID), 0);
	/* There is a tap behind it already. */
	assert_int_equal(virtio_plug(v->dev, &plug), -EBUSY);
	virtio_show(v->dev);
	assert_int_equal(vdriver_read32(v, VIRTIO_MMIO_DEVICE_ID), 1);
	assert_true(vdriver_up(v, ALL));
	assert_memory_equal(config_of(v).mac, mac, sizeof(mac));
	assert_int_equal(virtio_hide(v->dev), -EBUSY);
	virtio_show(v->dev);
	assert_true(v->dev->running);
	vdriver_free(v);

	v = new_device("tap0,mac=02:00:00:00:00:05,mtu=1300");
	assert_int_equal(virtio_hide(v->dev), 0);
	v = reload(v, "tap0,mac=02:00:00:00:00:06,mtu=1400", 0);
	assert_false(v->dev->absent);
	assert_true(vdriver_up(v, ALL));
	assert_memory_equal(config_of(v).mac, other, sizeof(other));
	assert_int_equal(le16toh(config_of(v).mtu), 1400);
	assert_int_equal(virtio_unplug(v->dev), 0);
	vdriver_free(v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_address),   TEST(test_taken_away),
		TEST(test_put_there), TEST(test_link_again),
		TEST(test_hidden),
	};

	log_setup(LOG_ERROR, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
