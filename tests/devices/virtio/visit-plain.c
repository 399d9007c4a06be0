/* SPDX-License-Identifier: Apache-2.0 */
/* Disks, consoles and random numbers that are saved and loaded. */
#include "tests/devices/virtio/visit-kinds.h"
#include "tests/user.h"

#include <linux/virtio_blk.h>

extern const struct virtio_ops virtio_blk, virtio_console, virtio_rng;

/* ---- rng */

static void rng_open(struct visit_rig *r)
{
	r->v = vdriver_new(&virtio_rng, NULL);
	assert_non_null(r->v);
}

static void rng_traffic(struct visit_rig *r)
{
	struct iovec in = vdriver_buf(r->v, NULL, 64);
	const uint8_t zeros[64] = {0};

	assert_int_equal(vdriver_request(r->v, 0, NULL, 0, &in, 1), 64);
	assert_memory_not_equal(in.iov_base, zeros, 64);
}

static void rng_leave(struct visit_rig *r)
{
	struct iovec in = vdriver_buf(r->v, NULL, 32);

	/* Not kicked for: the driver was stopped between the two. */
	assert_true(vdriver_add(r->v, 0, NULL, 0, &in, 1) >= 0);
}

static void rng_take(struct visit_rig *r)
{
	uint32_t written;

	assert_true(vdriver_wait_used(r->v, 0, &written, PATIENCE_MS) >= 0);
	assert_int_equal(written, 32);
}

const struct kind visit_rng = {
	.name = "rng",
	.open = rng_open,
	.traffic = rng_traffic,
	.leave = rng_leave,
	.take = rng_take,
};

/* ---- blk */

#define IMAGE_BYTES (4 * MIB)
#define LEFT        24

struct disk {
	char path[TEMPDIR_ROOM];
	int fd;
	uint8_t *status[LEFT];
	struct iovec read;
	unsigned sector; /* the next to be written */
};

static void blk_setup(struct visit_rig *r)
{
	struct disk *disk = calloc(1, sizeof(*disk));

	tempdir_name_on_disk(disk->path);
	disk->fd = mkstemp(disk->path);
	assert_int_equal(ftruncate(disk->fd, IMAGE_BYTES), 0);
	r->host = disk;
}

static void blk_teardown(struct visit_rig *r)
{
	struct disk *disk = r->host;

	close(disk->fd);
	unlink(disk->path);
	free(disk);
}

static void blk_open(struct visit_rig *r)
{
	const struct disk *disk = r->host;
	char text[TEMPDIR_ROOM + 16];

	snprintf(text, sizeof(text), "%s,id=a-disk", disk->path);
	r->v = vdriver_new(&virtio_blk, text);
	assert_non_null(r->v);
}

/* A chain for one sector of BYTES; the status byte. */
static uint8_t *add_sector(struct visit_rig *r, uint32_t type, unsigned sector,
			   const struct iovec *data)
{
	const struct virtio_blk_outhdr header = {
		.type = htole32(type),
		.sector = htole64(sector),
	};
	const bool write = type == VIRTIO_BLK_T_OUT;
	struct iovec out[2], in[2];

	out[0] = vdriver_buf(r->v, &header, sizeof(header));
	out[1] = in[0] = *data;
	in[!write] = vdriver_buf(r->v, "\x55", 1);
	assert_true(vdriver_add(r->v, 0, out, write ? 2 : 1, in,
				write ? 1 : 2) >= 0);
	return in[!write].iov_base;
}

static struct iovec sector_of(struct visit_rig *r, unsigned n)
{
	struct iovec data = vdriver_buf(r->v, NULL, 512);

	memset(data.iov_base, (int)(n % 255 + 1), 512);
	return data;
}

static void on_disk(struct visit_rig *r, unsigned sector, unsigned n)
{
	const struct disk *disk = r->host;
	uint8_t data[512], expected[512];

	memset(expected, (int)(n % 255 + 1), 512);
	assert_int_equal(pread(disk->fd, data, 512, sector * 512), 512);
	assert_memory_equal(data, expected, 512);
}

static void blk_traffic(struct visit_rig *r)
{
	struct disk *disk = r->host;
	const unsigned sector = disk->sector++;
	struct iovec data = sector_of(r, sector + r->round);
	const uint8_t *status = add_sector(r, VIRTIO_BLK_T_OUT, sector, &data);

	vdriver_kick(r->v, 0);
	assert_true(vdriver_wait_used(r->v, 0, NULL, PATIENCE_MS) >= 0);
	assert_int_equal(*status, VIRTIO_BLK_S_OK);
	on_disk(r, sector, sector + r->round);
	data = vdriver_buf(r->v, NULL, 20);
	status = add_sector(r, VIRTIO_BLK_T_GET_ID, 0, &data);
	vdriver_kick(r->v, 0);
	assert_true(vdriver_wait_used(r->v, 0, NULL, PATIENCE_MS) >= 0);
	assert_int_equal(*status, VIRTIO_BLK_S_OK);
	assert_string_equal(data.iov_base, "a-disk");
}

/* Half of them are kicked for: these are answered before the pause ends. */
static void blk_leave(struct visit_rig *r)
{
	struct disk *disk = r->host;

	for (unsigned i = 0; i < LEFT; i++) {
		struct iovec data = sector_of(r, i);

		disk->status[i] =
			add_sector(r, VIRTIO_BLK_T_OUT, 1000 + i, &data);
		if (i == LEFT / 2)
			vdriver_kick(r->v, 0);
	}
}

static void blk_moved(struct visit_rig *r, const struct vdriver_saved *saved)
{
	struct disk *disk = r->host;

	for (unsigned i = 0; i < LEFT && disk->status[i]; i++)
		disk->status[i] = vdriver_moved(r->v, saved, disk->status[i]);
}

static void blk_take(struct visit_rig *r)
{
	struct disk *disk = r->host;

	for (unsigned i = 0; i < LEFT; i++)
		assert_true(vdriver_wait_used(r->v, 0, NULL, PATIENCE_MS) >= 0);
	for (unsigned i = 0; i < LEFT; i++) {
		assert_int_equal(*disk->status[i], VIRTIO_BLK_S_OK);
		on_disk(r, 1000 + i, i);
		disk->status[i] = NULL;
	}
}

const struct kind visit_blk = {
	.name = "blk",
	.setup = blk_setup,
	.teardown = blk_teardown,
	.open = blk_open,
	.traffic = blk_traffic,
	.leave = blk_leave,
	.moved = blk_moved,
	.stride = 4,
	.take = blk_take,
};

/* ---- console */

#define RX          0
#define TX          1
#define LEFT_OUTPUT (256 * KIB)

struct console_end {
	struct user *u;
	uint8_t *seen; /* of what was left */
	size_t nseen;
	bool left;
};

static void console_setup(struct visit_rig *r)
{
	struct console_end *end = calloc(1, sizeof(*end));

	end->seen = malloc(LEFT_OUTPUT);
	r->host = end;
}

/* The user is the process's: each has its own, with the device's loop. */
static void console_end_user(struct visit_rig *r)
{
	struct console_end *end = r->host;

	if (end->u)
		user_free(end->u);
	end->u = NULL;
}

static void console_teardown(struct visit_rig *r)
{
	struct console_end *end = r->host;

	console_end_user(r);
	free(end->seen);
	free(end);
}

static void console_open(struct visit_rig *r)
{
	struct console_end *end = r->host;

	console_end_user(r);
	end->u = user_with_pipes();
	r->v = vdriver_new_on(&virtio_console, NULL, &end->u->loop, &end->u->t);
	assert_non_null(r->v);
	user_run(end->u);
}

static void console_traffic(struct visit_rig *r)
{
	struct console_end *end = r->host;
	struct iovec in = vdriver_buf(r->v, NULL, 64), out;
	char text[32];
	uint32_t written;

	snprintf(text, sizeof(text), "line %u\n", r->round);
	out = vdriver_buf(r->v, text, strlen(text));
	assert_int_equal(vdriver_request(r->v, TX, &out, 1, NULL, 0), 0);
	assert_true(user_sees(end->u, text));
	assert_true(vdriver_add(r->v, RX, NULL, 0, &in, 1) >= 0);
	vdriver_kick(r->v, RX);
	user_types(end->u, text, strlen(text));
	assert_true(vdriver_wait_used(r->v, RX, &written, PATIENCE_MS) >= 0);
	assert_int_equal(written, strlen(text));
	assert_memory_equal(in.iov_base, text, written);
}

static uint8_t output_at(size_t at)
{
	return (uint8_t)(at % 251);
}

/* More than the terminal and its pipe take. */
static void console_leave(struct visit_rig *r)
{
	struct console_end *end = r->host;
	struct iovec out = vdriver_buf(r->v, NULL, LEFT_OUTPUT);

	for (size_t i = 0; i < LEFT_OUTPUT; i++)
		((uint8_t *)out.iov_base)[i] = output_at(i);
	assert_true(vdriver_add(r->v, TX, &out, 1, NULL, 0) >= 0);
	vdriver_kick(r->v, TX);
	assert_true(wait_until(vdriver_held(r->v, TX) == 1));
	end->left = true;
}

static bool all_written(struct terminal *t)
{
	bool all;

	pthread_mutex_lock(&t->lock);
	all = t->npending == 0;
	pthread_mutex_unlock(&t->lock);
	return all;
}

/* The first user sees what the first device has sent. */
static void console_saved(struct visit_rig *r)
{
	struct console_end *end = r->host;
	int waiting = 1;

	if (!end->left)
		return;
	while (!all_written(&end->u->t) || waiting > 0) {
		struct pollfd pfd = {.fd = end->u->watches, .events = POLLIN};

		waiting = poll(&pfd, 1, 1);
		if (waiting == 1) {
			ssize_t n = read(pfd.fd, end->seen + end->nseen,
					 LEFT_OUTPUT - end->nseen);

			assert_true(n > 0);
			end->nseen += (size_t)n;
		}
	}
	assert_in_range(end->nseen, 1, LEFT_OUTPUT - 1);
	end->left = false;
}

static void console_stop(struct visit_rig *r)
{
	struct console_end *end = r->host;

	user_stop_loop(end->u);
}

/* The second user sees the rest, and no byte again. */
static void console_take(struct visit_rig *r)
{
	struct console_end *end = r->host;

	end->nseen += user_reads(end->u, end->seen + end->nseen,
				 LEFT_OUTPUT - end->nseen);
	assert_int_equal(end->nseen, LEFT_OUTPUT);
	for (size_t i = 0; i < LEFT_OUTPUT; i++)
		assert_int_equal(end->seen[i], output_at(i));
	assert_true(vdriver_wait_used(r->v, TX, NULL, PATIENCE_MS) >= 0);
	assert_true(user_sees_nothing(end->u));
	end->nseen = 0;
}

const struct kind visit_console = {
	.name = "console",
	.setup = console_setup,
	.teardown = console_teardown,
	.open = console_open,
	.traffic = console_traffic,
	.leave = console_leave,
	.saved = console_saved,
	.stop = console_stop,
	.stride = 5,
	.take = console_take,
};
