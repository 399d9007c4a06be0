/* SPDX-License-Identifier: Apache-2.0 */
/* The block device, driven as a guest's driver would, on a real file. */
#include "tests/vdriver.h"
#include "tests/tempdir.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

extern const struct virtio_ops virtio_blk;

#define ALL         UINT64_MAX
#define BIT(n)      (UINT64_C(1) << (n))
#define IMAGE_BYTES (8 * MIB)
#define SECTORS     (IMAGE_BYTES / 512)
#define POISON      0x55

struct fixture {
	char path[TEMPDIR_ROOM];
	int fd;
	struct vdriver *v;
};

static uint8_t content(uint64_t at)
{
	return (uint8_t)(at * 7 + at / 512);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	uint8_t *data = malloc(IMAGE_BYTES);
	ssize_t n;

	tempdir_name_on_disk(f->path);
	f->fd = mkstemp(f->path);
	for (size_t i = 0; i < IMAGE_BYTES; i++)
		data[i] = content(i);
	n = pwrite(f->fd, data, IMAGE_BYTES, 0);
	free(data);
	*state = f;
	return n == IMAGE_BYTES ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	vdriver_free(f->v);
	close(f->fd);
	unlink(f->path);
	free(f);
	return 0;
}

static struct vdriver *up(struct fixture *f, const char *options,
			  uint64_t features)
{
	char text[128];

	snprintf(text, sizeof(text), "%s%s", f->path, options);
	vdriver_free(f->v);
	f->v = vdriver_new(&virtio_blk, text);
	if (!f->v && strstr(options, "direct")) {
		print_message("no O_DIRECT for %s\n", f->path);
		skip();
	}
	assert_non_null(f->v);
	assert_true(vdriver_up(f->v, features));
	return f->v;
}

static struct iovec header(struct vdriver *v, uint32_t type, uint64_t sector)
{
	const struct virtio_blk_outhdr h = {
		.type = htole32(type),
		.sector = htole64(sector),
	};

	return vdriver_buf(v, &h, sizeof(h));
}

static struct iovec status(struct vdriver *v)
{
	const uint8_t poison = POISON;

	return vdriver_buf(v, &poison, 1);
}

/* One request; the status, or -1. RET_WRITTEN may be NULL. */
static int request(struct vdriver *v, uint32_t type, uint64_t sector,
		   const struct iovec *data, int64_t *ret_written)
{
	struct iovec out[2] = {header(v, type, sector)};
	struct iovec in[2];
	unsigned nout = 1, nin = 0;
	int64_t written;

	if (data && (type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID))
		in[nin++] = *data;
	else if (data)
		out[nout++] = *data;
	in[nin] = status(v);
	written = vdriver_request(v, 0, out, nout, in, nin + 1);
	if (ret_written)
		*ret_written = written;
	return written < 0 ? -1 : *(uint8_t *)in[nin].iov_base;
}

static void expect_content(const struct iovec *data, uint64_t at)
{
	for (size_t i = 0; i < data->iov_len; i++)
		assert_int_equal(((uint8_t *)data->iov_base)[i],
				 content(at + i));
}

/* ---- what the driver sees before the first request */

static void test_config(void **state)
{
	struct vdriver *v = up(*state, "", ALL);
	const uint64_t offered = vdriver_offered(v);
	struct virtio_blk_config config;

	assert_int_equal(vdriver_read32(v, VIRTIO_MMIO_DEVICE_ID),
			 VIRTIO_ID_BLOCK);
	vdriver_config_read(v, 0, &config,
			    offsetof(struct virtio_blk_config, unused1));
	assert_int_equal(le64toh(config.capacity), SECTORS);
	assert_int_equal(le32toh(config.seg_max), 254);
	assert_int_equal(le32toh(config.blk_size), 512);
	assert_int_equal(config.physical_block_exp, 3);
	assert_int_equal(le32toh(config.max_write_zeroes_seg), 1);
	assert_int_equal(config.write_zeroes_may_unmap, 1);
	assert_true(offered & BIT(VIRTIO_BLK_F_FLUSH));
	assert_true(offered & BIT(VIRTIO_BLK_F_SEG_MAX));
	assert_true(offered & BIT(VIRTIO_BLK_F_WRITE_ZEROES));
	assert_false(offered & BIT(VIRTIO_BLK_F_RO));
}

static void test_readonly(void **state)
{
	struct fixture *f = *state;
	struct vdriver *v = up(f, ",readonly", ALL);
	struct iovec data = vdriver_buf(v, NULL, 512);
	uint8_t byte;

	assert_true(vdriver_offered(v) & BIT(VIRTIO_BLK_F_RO));
	assert_false(vdriver_offered(v) & BIT(VIRTIO_BLK_F_DISCARD));
	assert_int_equal(request(v, VIRTIO_BLK_T_OUT, 0, &data, NULL),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(pread(f->fd, &byte, 1, 1), 1);
	assert_int_equal(byte, content(1));
	assert_int_equal(request(v, VIRTIO_BLK_T_IN, 1, &data, NULL),
			 VIRTIO_BLK_S_OK);
	expect_content(&data, 512);
	assert_int_equal(request(v, VIRTIO_BLK_T_FLUSH, 0, NULL, NULL),
			 VIRTIO_BLK_S_OK);
}

static void test_id(void **state)
{
	struct vdriver *v = up(*state, ",id=12345678901234567890", ALL);
	struct iovec data = vdriver_buf(v, NULL, 20);
	int64_t written;

	assert_int_equal(request(v, VIRTIO_BLK_T_GET_ID, 0, &data, &written),
			 VIRTIO_BLK_S_OK);
	assert_memory_equal(data.iov_base, "12345678901234567890", 20);
	assert_int_equal(written, 21);
	data = vdriver_buf(v, NULL, 4);
	assert_int_equal(request(v, VIRTIO_BLK_T_GET_ID, 0, &data, &written),
			 VIRTIO_BLK_S_OK);
	assert_memory_equal(data.iov_base, "1234", 4);
	assert_int_equal(written, 5);
}

static void test_bad_options(void **state)
{
	struct fixture *f = *state;
	char text[128];

	snprintf(text, sizeof(text), "%s,id=123456789012345678901", f->path);
	assert_null(vdriver_new(&virtio_blk, text));
	assert_null(vdriver_new(&virtio_blk, "/nonexistent/disk"));
	assert_null(vdriver_new(&virtio_blk, "/var/tmp"));
}

/* ---- reading and writing */

static void check_read_write(struct fixture *f, const char *options,
			     uint64_t features)
{
	struct vdriver *v = up(f, options, features);
	struct iovec data = vdriver_buf(v, NULL, 64 * KIB + 512);
	uint8_t *seen = malloc(8192);
	int64_t written;

	/* Page-aligned, as a page cache's buffers are. */
	data.iov_base = (void *)align_up((uintptr_t)data.iov_base, 4096);
	data.iov_len = 32 * KIB;
	assert_int_equal(request(v, VIRTIO_BLK_T_IN, 16, &data, &written),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(written, 32 * KIB + 1);
	expect_content(&data, 16 * 512);
	data.iov_len = 8192;
	memset(data.iov_base, 0xa5, 8192);
	assert_int_equal(
		request(v, VIRTIO_BLK_T_OUT, SECTORS - 16, &data, &written),
		VIRTIO_BLK_S_OK);
	assert_int_equal(written, 1);
	assert_int_equal(request(v, VIRTIO_BLK_T_FLUSH, 0, NULL, &written),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(written, 1);
	assert_int_equal(pread(f->fd, seen, 8192, IMAGE_BYTES - 8192), 8192);
	assert_memory_equal(seen, data.iov_base, 8192);
	free(seen);
}

static void test_read_write(void **state)
{
	check_read_write(*state, "", ALL);
}

static void test_direct(void **state)
{
	check_read_write(*state, ",direct", ALL);
}

/* 5.2.6.2: a driver that cannot flush gets a disk that need not be. */
static void test_without_flush(void **state)
{
	check_read_write(*state, "", 0);
	check_read_write(*state, ",direct", 0);
}

/* 2.7.4.1: how the driver cuts its buffers means nothing. */
static void check_framing(struct fixture *f, const char *options)
{
	struct vdriver *v = up(f, options, ALL);
	struct iovec whole = header(v, VIRTIO_BLK_T_IN, 3);
	struct iovec out[3], in[4];
	uint8_t *base = whole.iov_base, *last;
	int64_t written;

	out[0] = (struct iovec){base, 1};
	out[1] = (struct iovec){base + 1, 8};
	out[2] = (struct iovec){base + 9, 7};
	in[0] = vdriver_buf(v, NULL, 1);
	in[1] = vdriver_buf(v, NULL, 700);
	in[2] = vdriver_buf(v, NULL, 322);
	in[3] = vdriver_buf(v, NULL, 2); /* the last data byte and status */
	last = in[3].iov_base;
	last[1] = POISON;
	written = vdriver_request(v, 0, out, 3, in, 4);
	assert_int_equal(written, 1025);
	expect_content(&in[0], 1536);
	expect_content(&in[1], 1537);
	expect_content(&in[2], 2237);
	assert_int_equal(last[0], content(2559));
	assert_int_equal(last[1], VIRTIO_BLK_S_OK);

	/* Header and data in one buffer, through an indirect table. */
	out[0] = vdriver_buf(v, NULL, 16 + 512);
	memset((uint8_t *)out[0].iov_base + 16, 0x77, 512);
	((uint8_t *)out[0].iov_base)[0] = VIRTIO_BLK_T_OUT;
	in[0] = status(v);
	assert_true(vdriver_add_indirect(v, 0, out, 1, in, 1) >= 0);
	vdriver_kick(v, 0);
	assert_true(vdriver_wait_used(v, 0, NULL, PATIENCE_MS) >= 0);
	assert_int_equal(*(uint8_t *)in[0].iov_base, VIRTIO_BLK_S_OK);
	assert_int_equal(pread(f->fd, base, 1, 511), 1);
	assert_int_equal(*base, 0x77);
}

static void test_framing(void **state)
{
	check_framing(*state, "");
	check_framing(*state, ",direct");
}

/* The longest request there is, and one buffer more. */
static void test_many_segments(void **state)
{
	struct vdriver *v = up(*state, "", ALL);
	struct iovec out = header(v, VIRTIO_BLK_T_IN, 0);
	struct iovec in[256];

	for (unsigned i = 0; i < 256; i++)
		in[i] = vdriver_buf(v, NULL, 512);
	in[254] = status(v);
	assert_int_equal(vdriver_request(v, 0, &out, 1, in, 255),
			 254 * 512 + 1);
	for (unsigned i = 0; i < 254; i++)
		expect_content(&in[i], i * 512);
	in[254] = vdriver_buf(v, NULL, 512);
	in[255] = status(v);
	assert_true(vdriver_add_indirect(v, 0, &out, 1, in, 256) >= 0);
	vdriver_kick(v, 0);
	assert_true(vdriver_wait_needs_reset(v));
}

/* More requests than the device has under way at once, in one kick. */
static void check_many(struct fixture *f, const char *options)
{
	struct vdriver *v = up(f, options, ALL);
	struct iovec out[85], in[85][2];
	bool seen[256] = {false};

	for (unsigned i = 0; i < 85; i++) {
		out[i] = header(v, VIRTIO_BLK_T_IN, i * 8);
		in[i][0] = vdriver_buf(v, NULL, 4096);
		in[i][1] = status(v);
		assert_true(vdriver_add(v, 0, &out[i], 1, in[i], 2) >= 0);
	}
	assert_true(vdriver_kick(v, 0));
	for (unsigned i = 0; i < 85; i++) {
		uint32_t written;
		int head = vdriver_wait_used(v, 0, &written, PATIENCE_MS);

		assert_in_range(head, 0, 255);
		assert_false(seen[head]);
		seen[head] = true;
		assert_int_equal(written, 4097);
	}
	for (unsigned i = 0; i < 85; i++) {
		assert_int_equal(*(uint8_t *)in[i][1].iov_base,
				 VIRTIO_BLK_S_OK);
		expect_content(&in[i][0], i * 4096);
	}
	assert_int_equal(vdriver_get_used(v, 0, NULL), -1);
}

static void test_many(void **state)
{
	check_many(*state, "");
	check_many(*state, ",direct");
}

/* One interrupt answers a batch. */
static void test_one_interrupt(void **state)
{
	struct fixture *f = *state;
	struct vdriver *v = up(f, "", ALL);
	struct iovec in[2];
	struct iovec out = header(v, VIRTIO_BLK_T_IN, 0);

	in[0] = vdriver_buf(v, NULL, 4096);
	in[1] = status(v);
	vdriver_interrupts(v);
	for (unsigned i = 0; i < 32; i++)
		vdriver_add(v, 0, &out, 1, in, 2);
	vdriver_kick(v, 0);
	for (unsigned i = 0; i < 32; i++)
		assert_true(vdriver_wait_used(v, 0, NULL, PATIENCE_MS) >= 0);
	/* The interrupt comes after the used index. */
	assert_true(wait_until(vdriver_acknowledge(v)));
	assert_int_equal(vdriver_interrupts(v), 1);
}

/* ---- what a driver may not do */

static void test_out_of_range(void **state)
{
	static const struct {
		uint64_t sector;
		size_t bytes;
	} bad[] = {
		{SECTORS, 512},
		{SECTORS - 1, 1024},
		{UINT64_MAX, 512},
		{UINT64_MAX / 512 + 1, 512},
		{UINT64_MAX - 1, 1024},
		{0, 511},
		{0, 513},
	};
	struct vdriver *v = up(*state, "", ALL);

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct iovec data = vdriver_buf(v, NULL, bad[i].bytes);
		int64_t written;

		assert_int_equal(request(v, VIRTIO_BLK_T_IN, bad[i].sector,
					 &data, &written),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(written, 1);
		assert_int_equal(request(v, VIRTIO_BLK_T_OUT, bad[i].sector,
					 &data, NULL),
				 VIRTIO_BLK_S_IOERR);
	}
	assert_int_equal(request(v, VIRTIO_BLK_T_IN, 0, NULL, NULL),
			 VIRTIO_BLK_S_IOERR);
}

static void test_unknown_types(void **state)
{
	static const uint32_t types[] = {2,  3,  5,  6,          7,         9,
					 10, 14, 16, 0x80000000, UINT32_MAX};
	struct vdriver *v = up(*state, "", ALL);

	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		assert_int_equal(request(v, types[i], 0, NULL, NULL),
				 VIRTIO_BLK_S_UNSUPP);
}

static void test_short_header(void **state)
{
	struct vdriver *v = up(*state, "", ALL);
	struct iovec out = vdriver_buf(v, NULL, 15);
	struct iovec in = status(v);

	assert_int_equal(vdriver_request(v, 0, &out, 1, &in, 1), 1);
	assert_int_equal(*(uint8_t *)in.iov_base, VIRTIO_BLK_S_IOERR);
	*(uint8_t *)in.iov_base = POISON;
	assert_int_equal(vdriver_request(v, 0, NULL, 0, &in, 1), 1);
	assert_int_equal(*(uint8_t *)in.iov_base, VIRTIO_BLK_S_IOERR);
}

static void test_no_status(void **state)
{
	struct vdriver *v = up(*state, "", ALL);
	struct iovec out = header(v, VIRTIO_BLK_T_FLUSH, 0);

	vdriver_add(v, 0, &out, 1, NULL, 0);
	vdriver_kick(v, 0);
	assert_true(vdriver_wait_needs_reset(v));
	assert_true(vdriver_up(v, ALL));
	assert_int_equal(request(v, VIRTIO_BLK_T_FLUSH, 0, NULL, NULL),
			 VIRTIO_BLK_S_OK);
}

static void test_shrunk_image(void **state)
{
	struct fixture *f = *state;
	struct vdriver *v = up(f, "", ALL);
	struct iovec data = vdriver_buf(v, NULL, 4096);

	assert_int_equal(ftruncate(f->fd, 4096), 0);
	assert_int_equal(request(v, VIRTIO_BLK_T_IN, 1000, &data, NULL),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(v, VIRTIO_BLK_T_IN, 0, &data, NULL),
			 VIRTIO_BLK_S_OK);
	expect_content(&data, 0);
}

static uint64_t capacity(struct vdriver *v)
{
	struct virtio_blk_config config;

	vdriver_config_read(v, 0, &config, sizeof(config.capacity));
	return le64toh(config.capacity);
}

/* The driver is told of a new size once, and may use all of it, no more. */
static void test_resized(void **state)
{
	struct fixture *f = *state;
	struct vdriver *v = up(f, "", ALL);
	struct iovec data = vdriver_buf(v, NULL, 512);

	virtio_resized(v->dev);
	assert_int_equal(vdriver_interrupts(v), 0);
	assert_int_equal(ftruncate(f->fd, IMAGE_BYTES + 4096 + 100), 0);
	assert_int_equal(capacity(v), SECTORS);
	assert_int_equal(request(v, VIRTIO_BLK_T_IN, SECTORS, &data, NULL),
			 VIRTIO_BLK_S_IOERR);
	/* This takes the lock: the turn before has given its interrupt. */
	(void)vdriver_kicks(v);
	(void)vdriver_interrupts(v);
	virtio_resized(v->dev);
	assert_int_equal(vdriver_interrupts(v), 1);
	assert_true(vdriver_read32(v, VIRTIO_MMIO_INTERRUPT_STATUS) &
		    VIRTIO_INTERRUPT_CONFIG);
	assert_int_equal(capacity(v), SECTORS + 8);
	assert_int_equal(request(v, VIRTIO_BLK_T_IN, SECTORS + 7, &data, NULL),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(request(v, VIRTIO_BLK_T_IN, SECTORS + 8, &data, NULL),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(ftruncate(f->fd, 4096), 0);
	virtio_resized(v->dev);
	assert_int_equal(capacity(v), 8);
}

/* ---- discard and zeroes */

static int erase(struct vdriver *v, uint32_t type, uint64_t sector,
		 uint32_t sectors, uint32_t flags)
{
	const struct virtio_blk_discard_write_zeroes segment = {
		.sector = htole64(sector),
		.num_sectors = htole32(sectors),
		.flags = htole32(flags),
	};
	struct iovec data = vdriver_buf(v, &segment, sizeof(segment));

	return request(v, type, 0, &data, NULL);
}

static void test_write_zeroes(void **state)
{
	struct fixture *f = *state;
	struct vdriver *v = up(f, "", ALL);
	uint8_t seen[2048];

	for (unsigned unmap = 0; unmap < 2; unmap++) {
		const unsigned at = 100 + unmap * 1000;

		assert_int_equal(
			erase(v, VIRTIO_BLK_T_WRITE_ZEROES, at, 2, unmap),
			VIRTIO_BLK_S_OK);
		assert_int_equal(pread(f->fd, seen, 2048, (at - 1) * 512),
				 2048);
		for (unsigned i = 0; i < 2048; i++)
			assert_int_equal(seen[i],
					 i < 512 || i >= 1536
						 ? content((at - 1) * 512 + i)
						 : 0);
	}
}

static void test_discard(void **state)
{
	struct fixture *f = *state;
	struct vdriver *v = up(f, "", ALL);
	uint8_t byte;

	if (!(v->features & BIT(VIRTIO_BLK_F_DISCARD)))
		skip();
	assert_int_equal(erase(v, VIRTIO_BLK_T_DISCARD, 8, SECTORS - 16, 0),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(pread(f->fd, &byte, 1, 8 * 512 - 1), 1);
	assert_int_equal(byte, content(8 * 512 - 1));
	assert_int_equal(pread(f->fd, &byte, 1, IMAGE_BYTES - 4096 - 1), 1);
	assert_int_equal(byte, 0);
}

static void test_bad_erase(void **state)
{
	static const uint32_t types[] = {VIRTIO_BLK_T_DISCARD,
					 VIRTIO_BLK_T_WRITE_ZEROES};
	struct vdriver *v = up(*state, "", ALL);

	if (!(v->features & BIT(VIRTIO_BLK_F_DISCARD)))
		skip();
	for (unsigned i = 0; i < 2; i++) {
		struct iovec data = vdriver_buf(v, NULL, 32);

		assert_int_equal(erase(v, types[i], SECTORS, 1, 0),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(erase(v, types[i], SECTORS - 1, 2, 0),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(erase(v, types[i], UINT64_MAX, 1, 0),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(erase(v, types[i], 0, UINT32_MAX, 0),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(erase(v, types[i], 0, 0, 0),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(erase(v, types[i], 0, 1, 2),
				 VIRTIO_BLK_S_UNSUPP);
		/* Two segments where one is allowed; and none. */
		assert_int_equal(request(v, types[i], 0, &data, NULL),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(request(v, types[i], 0, NULL, NULL),
				 VIRTIO_BLK_S_IOERR);
	}
	/* 5.2.6.2: discard has no unmap flag. */
	assert_int_equal(erase(v, VIRTIO_BLK_T_DISCARD, 0, 1, 1),
			 VIRTIO_BLK_S_UNSUPP);
}

/* Resets at any moment; nothing is written into guest memory afterwards. */
static void check_reset(struct fixture *f, const char *options)
{
	struct vdriver *v = up(f, options, ALL);

	for (unsigned round = 0; round < 100; round++) {
		struct iovec out = header(v, VIRTIO_BLK_T_IN, round);
		struct iovec in[2] = {vdriver_buf(v, NULL, 16384), status(v)};
		uint8_t *data = in[0].iov_base;

		for (unsigned i = 0; i < 80; i++)
			vdriver_add(v, 0, &out, 1, in, 2);
		vdriver_kick(v, 0);
		for (unsigned i = 0; i < round % 20; i++)
			vdriver_get_used(v, 0, NULL);
		vdriver_write32(v, VIRTIO_MMIO_STATUS, 0);
		memset(data, 0, in[0].iov_len);
		usleep(round % 4 * 100);
		for (unsigned i = 0; i < in[0].iov_len; i++)
			assert_int_equal(data[i], 0);
		assert_true(vdriver_up(v, ALL));
	}
}

static void test_reset_while_busy(void **state)
{
	check_reset(*state, ",readonly");
	check_reset(*state, ",direct");
}

/*
 * Pauses with requests in the queue and under way: those taken are answered,
 * the others wait, and all are there in the end, each once.
 */
static void check_pause(struct fixture *f, const char *options)
{
	struct vdriver *v = up(f, options, ALL);

	for (unsigned round = 0; round < 40; round++) {
		struct iovec out[60], in[60][2];
		unsigned answered = 0, later = 0;
		bool seen[256] = {false};
		int head;

		for (unsigned i = 0; i < 60; i++) {
			out[i] = header(v, VIRTIO_BLK_T_IN, i * 8);
			in[i][0] = vdriver_buf(v, NULL, 4096);
			in[i][1] = status(v);
			assert_true(vdriver_add(v, 0, &out[i], 1, in[i], 2) >=
				    0);
		}
		vdriver_kick(v, 0);
		usleep(round % 4 * 100);
		vdriver_pause(v);
		while ((head = vdriver_get_used(v, 0, NULL)) >= 0) {
			assert_false(seen[head]);
			seen[head] = true;
			answered++;
		}
		virtio_queue_kick(v->dev, 0);
		usleep(round % 3 * 100);
		assert_int_equal(vdriver_get_used(v, 0, NULL), -1);
		virtio_resume(v->dev);
		for (; answered + later < 60; later++) {
			head = vdriver_wait_used(v, 0, NULL, PATIENCE_MS);
			assert_in_range(head, 0, 255);
			assert_false(seen[head]);
			seen[head] = true;
		}
		for (unsigned i = 0; i < 60; i++) {
			assert_int_equal(*(uint8_t *)in[i][1].iov_base,
					 VIRTIO_BLK_S_OK);
			expect_content(&in[i][0], i * 4096);
		}
		assert_true(vdriver_up(v, ALL));
	}
}

static void test_pause(void **state)
{
	check_pause(*state, "");
	check_pause(*state, ",direct");
}

#define FIXTURE_TEST(test)                                                     \
	cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		FIXTURE_TEST(test_config),
		FIXTURE_TEST(test_readonly),
		FIXTURE_TEST(test_id),
		FIXTURE_TEST(test_bad_options),
		FIXTURE_TEST(test_read_write),
		FIXTURE_TEST(test_direct),
		FIXTURE_TEST(test_without_flush),
		FIXTURE_TEST(test_framing),
		FIXTURE_TEST(test_many_segments),
		FIXTURE_TEST(test_many),
		FIXTURE_TEST(test_one_interrupt),
		FIXTURE_TEST(test_out_of_range),
		FIXTURE_TEST(test_unknown_types),
		FIXTURE_TEST(test_short_header),
		FIXTURE_TEST(test_no_status),
		FIXTURE_TEST(test_shrunk_image),
		FIXTURE_TEST(test_resized),
		FIXTURE_TEST(test_write_zeroes),
		FIXTURE_TEST(test_discard),
		FIXTURE_TEST(test_bad_erase),
		FIXTURE_TEST(test_reset_while_busy),
		FIXTURE_TEST(test_pause),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
