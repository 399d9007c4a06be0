/* SPDX-License-Identifier: Apache-2.0 */
/* The entropy device, driven as a guest's driver would. */
#include "tests/vdriver.h"

#include "vmm/base/util.h"

#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

extern const struct virtio_ops virtio_rng;

#define ALL UINT64_MAX

static int setup(void **state)
{
	struct vdriver *v = vdriver_new(&virtio_rng, NULL);

	*state = v;
	return v && vdriver_up(v, ALL) ? 0 : -1;
}

static int teardown(void **state)
{
	vdriver_free(*state);
	return 0;
}

/* 64 random bytes are all zero once in 2^512 times. */
static bool is_random(const void *data, size_t bytes)
{
	const uint8_t *p = data;
	unsigned zeroes = 0;

	for (size_t i = 0; i < bytes; i++)
		zeroes += p[i] == 0;
	return zeroes < bytes / 4;
}

static void test_identity(void **state)
{
	struct vdriver *v = *state;

	assert_int_equal(vdriver_read32(v, VIRTIO_MMIO_DEVICE_ID),
			 VIRTIO_ID_RNG);
	assert_ptr_equal(virtio_find("rng"), &virtio_rng);
	assert_null(virtio_find("rn"));
	assert_string_equal(v->dev->name, "rng0");
}

static void test_fills_a_buffer(void **state)
{
	struct vdriver *v = *state;
	struct iovec in = vdriver_buf(v, NULL, 64);

	assert_int_equal(vdriver_request(v, 0, NULL, 0, &in, 1), 64);
	assert_true(is_random(in.iov_base, 64));
	/* Nothing behind the buffer was touched. */
	assert_int_equal(((uint8_t *)in.iov_base)[64], 0);
}

static void test_two_requests_differ(void **state)
{
	struct vdriver *v = *state;
	struct iovec a = vdriver_buf(v, NULL, 64);
	struct iovec b = vdriver_buf(v, NULL, 64);

	assert_int_equal(vdriver_request(v, 0, NULL, 0, &a, 1), 64);
	assert_int_equal(vdriver_request(v, 0, NULL, 0, &b, 1), 64);
	assert_memory_not_equal(a.iov_base, b.iov_base, 64);
}

static void test_scattered_buffers(void **state)
{
	struct vdriver *v = *state;
	struct iovec in[5];
	const size_t bytes[5] = {1, 63, 4096, 7, 200};

	for (unsigned i = 0; i < 5; i++)
		in[i] = vdriver_buf(v, NULL, bytes[i]);
	assert_int_equal(vdriver_request(v, 0, NULL, 0, in, 5), 4367);
	for (unsigned i = 1; i < 5; i += 1)
		if (bytes[i] > 60)
			assert_true(is_random(in[i].iov_base, bytes[i]));
}

/* The device claims no bytes that it has not written. */
static void test_caps_a_chain(void **state)
{
	struct vdriver *v = *state;
	struct iovec in[2] = {vdriver_buf(v, NULL, 65000),
			      vdriver_buf(v, NULL, 1 << 20)};
	const uint8_t *second = in[1].iov_base;

	assert_int_equal(vdriver_request(v, 0, NULL, 0, in, 2), 65536);
	for (unsigned i = 536; i < in[1].iov_len; i++)
		assert_int_equal(second[i], 0);
}

/* 5.4.6.1 forbids readable buffers: they are left alone. */
static void test_readable_buffers(void **state)
{
	struct vdriver *v = *state;
	struct iovec out = vdriver_buf(v, "hello", 6);
	struct iovec in = vdriver_buf(v, NULL, 64);

	assert_int_equal(vdriver_request(v, 0, &out, 1, &in, 1), 64);
	assert_string_equal(out.iov_base, "hello");
	assert_int_equal(vdriver_request(v, 0, &out, 1, NULL, 0), 0);
	assert_string_equal(out.iov_base, "hello");
}

/* More than one turn's worth, kicked once. */
static void test_full_queue(void **state)
{
	struct vdriver *v = *state;
	struct iovec in[64];
	bool seen[64] = {false};

	for (unsigned i = 0; i < 64; i++) {
		in[i] = vdriver_buf(v, NULL, 64);
		assert_int_equal(vdriver_add(v, 0, NULL, 0, &in[i], 1), i);
	}
	assert_true(vdriver_kick(v, 0));
	for (unsigned i = 0; i < 64; i++) {
		uint32_t written;
		int head = vdriver_wait_used(v, 0, &written, PATIENCE_MS);

		assert_in_range(head, 0, 63);
		assert_false(seen[head]);
		seen[head] = true;
		assert_int_equal(written, 64);
		assert_true(is_random(in[head].iov_base, 64));
	}
	assert_int_equal(vdriver_get_used(v, 0, NULL), -1);
}

/* 16-bit ring indices wrap, with and without event_idx. */
static void many_requests(struct vdriver *v, uint64_t features)
{
	struct iovec in;

	assert_true(vdriver_up(v, features));
	in = vdriver_buf(v, NULL, 8);
	for (unsigned i = 0; i < 66000; i += 33) {
		for (unsigned n = 0; n < 33; n++)
			assert_true(vdriver_add(v, 0, NULL, 0, &in, 1) >= 0);
		vdriver_kick(v, 0);
		for (unsigned n = 0; n < 33; n++) {
			uint32_t written = 0;

			assert_true(vdriver_wait_used(v, 0, &written,
						      PATIENCE_MS) >= 0);
			assert_int_equal(written, 8);
		}
	}
}

static void test_indices_wrap(void **state)
{
	many_requests(*state, ALL);
	many_requests(*state, 0);
}

static void test_malformed_chain(void **state)
{
	struct vdriver *v = *state;
	struct iovec in;

	vdriver_avail(v, 0, 1000);
	vdriver_kick(v, 0);
	assert_true(vdriver_wait_needs_reset(v));
	assert_true(vdriver_wait_config_change(v));
	assert_true(vdriver_up(v, ALL));
	in = vdriver_buf(v, NULL, 64);
	assert_int_equal(vdriver_request(v, 0, NULL, 0, &in, 1), 64);
}

/* Resets at any moment of a busy queue; run under ThreadSanitizer, too. */
static void test_reset_while_busy(void **state)
{
	struct vdriver *v = *state;

	for (unsigned round = 0; round < 200; round++) {
		struct iovec in = vdriver_buf(v, NULL, 32768);

		for (unsigned i = 0; i < 64; i++)
			vdriver_add(v, 0, NULL, 0, &in, 1);
		vdriver_kick(v, 0);
		for (unsigned i = 0; i < round % 20; i++)
			vdriver_get_used(v, 0, NULL);
		/* After this returns nothing is written any more. */
		vdriver_write32(v, VIRTIO_MMIO_STATUS, 0);
		memset(in.iov_base, 0, in.iov_len);
		for (unsigned i = 0; i < in.iov_len; i += 64)
			assert_int_equal(((uint8_t *)in.iov_base)[i], 0);
		assert_true(vdriver_up(v, round % 2 ? ALL : 0));
	}
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_identity),
		TEST(test_fills_a_buffer),
		TEST(test_two_requests_differ),
		TEST(test_scattered_buffers),
		TEST(test_caps_a_chain),
		TEST(test_readable_buffers),
		TEST(test_full_queue),
		TEST(test_indices_wrap),
		TEST(test_malformed_chain),
		TEST(test_reset_while_busy),
	};

	log_setup(LOG_ERROR, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
