/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every type of device that this build has is saved in the middle of traffic
 * and loaded into a second one, which goes on: nothing is lost, nothing comes
 * twice. Then what was saved is damaged, cut short, and loaded where it does
 * not fit. A type that no file here knows fails.
 */
#include "tests/devices/virtio/visit-kinds.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <unistd.h>

#define ALL UINT64_MAX

static const struct kind *const kinds[] = {
	&visit_blk, &visit_console, &visit_fs,
	&visit_net, &visit_rng,     &visit_vsock,
};

#define CALL(kind, function, ...)                                              \
	do {                                                                   \
		if ((kind)->function)                                          \
			(kind)->function(__VA_ARGS__);                         \
	} while (0)

/* ---- one device and the next */

static void begin(const struct kind *kind, struct visit_rig *r)
{
	*r = (struct visit_rig){0};
	CALL(kind, setup, r);
	kind->open(r);
}

static void leave_device(const struct kind *kind, struct visit_rig *r)
{
	CALL(kind, stop, r);
	vdriver_free(r->v);
	r->v = NULL;
}

static void end(const struct kind *kind, struct visit_rig *r)
{
	leave_device(kind, r);
	CALL(kind, teardown, r);
}

static void up(const struct kind *kind, struct visit_rig *r)
{
	assert_true(vdriver_up(r->v, ALL));
	CALL(kind, begin, r);
}

static void traffic(const struct kind *kind, struct visit_rig *r)
{
	r->round++;
	kind->traffic(r);
	assert_false(vdriver_needs_reset(r->v));
}

static void save(const struct kind *kind, struct visit_rig *r,
		 struct vdriver_saved *saved)
{
	vdriver_pause(r->v);
	assert_int_equal(vdriver_save(r->v, saved), 0);
	CALL(kind, saved, r);
	leave_device(kind, r);
}

/* Loaded, it saves the same again. */
static void load(const struct kind *kind, struct visit_rig *r,
		 struct vdriver_saved *saved)
{
	struct vdriver_saved again;

	kind->open(r);
	assert_int_equal(vdriver_load(r->v, saved), 0);
	CALL(kind, moved, r, saved);
	assert_int_equal(vdriver_save(r->v, &again), 0);
	if (!kind->changes) {
		assert_int_equal(again.bytes, saved->bytes);
		assert_memory_equal(again.state, saved->state, saved->bytes);
	}
	vdriver_saved_done(&again);
	vdriver_saved_done(saved);
	virtio_resume(r->v->dev);
}

/* ---- tests */

static void test_all_known(void **state)
{
	const struct virtio_ops *const *ops;

	(void)state;
	for (ops = virtio_list(); *ops; ops++) {
		bool known = !(*ops)->visit && (*ops)->state_size > 0;

		for (unsigned i = 0; i < ARRAY_LEN(kinds); i++)
			known |= strcmp((*ops)->type.name, kinds[i]->name) == 0;
		if (!known)
			fail_msg("'%s' is not tested here", (*ops)->type.name);
	}
}

static void test_goes_on(void **state)
{
	const struct kind *kind = *state;
	struct vdriver_saved saved;
	struct visit_rig r;

	begin(kind, &r);
	up(kind, &r);
	for (unsigned n = 0; n < 3; n++) {
		traffic(kind, &r);
		traffic(kind, &r);
		CALL(kind, leave, &r);
		save(kind, &r, &saved);
		load(kind, &r, &saved);
		CALL(kind, take, &r);
		traffic(kind, &r);
	}
	for (unsigned q = 0; q < r.v->dev->ops->nqueues; q++)
		assert_int_equal(vdriver_get_used(r.v, q, NULL), -1);
	end(kind, &r);
}

/* With indexes that went round, and each queue's next answer interrupts. */
static void test_interrupts(void **state)
{
	const struct kind *kind = *state;
	struct vdriver_saved saved;
	struct visit_rig r;

	begin(kind, &r);
	up(kind, &r);
	for (unsigned n = 0; n < 150; n++)
		traffic(kind, &r);
	save(kind, &r, &saved);
	load(kind, &r, &saved);
	/* The driver may have missed one: it is told to look. */
	assert_int_equal(vdriver_interrupts(r.v), 1);
	for (unsigned q = 0; q < r.v->dev->ops->nqueues; q++)
		vdriver_want_interrupt(r.v, q, r.v->queue[q].seen);
	traffic(kind, &r);
	assert_true(wait_until(vdriver_interrupts(r.v) > 0));
	assert_true(vdriver_acknowledge(r.v) & VIRTIO_MMIO_INT_VRING);
	end(kind, &r);
}

/* A driver that starts anew finds a device like any. */
static void test_reset(void **state)
{
	const struct kind *kind = *state;
	struct vdriver_saved saved;
	struct visit_rig r;

	begin(kind, &r);
	up(kind, &r);
	traffic(kind, &r);
	save(kind, &r, &saved);
	load(kind, &r, &saved);
	up(kind, &r);
	traffic(kind, &r);
	end(kind, &r);
}

/* Saved before there was a driver, or while one was being set up. */
static void test_without_driver(void **state)
{
	const struct kind *kind = *state;
	struct vdriver_saved saved;
	struct visit_rig r;

	begin(kind, &r);
	save(kind, &r, &saved);
	load(kind, &r, &saved);
	assert_int_equal(virtio_status(r.v->dev), 0);
	assert_true(vdriver_negotiate(r.v, ALL));
	assert_true(vdriver_setup_queue(r.v, 0, 64));
	save(kind, &r, &saved);
	load(kind, &r, &saved);
	for (unsigned q = 1; q < r.v->dev->ops->nqueues; q++)
		assert_true(vdriver_setup_queue(r.v, q, 0));
	assert_true(vdriver_start(r.v));
	CALL(kind, begin, &r);
	traffic(kind, &r);
	end(kind, &r);
}

/* A device that its driver has broken is broken, until the driver resets it. */
static void test_broken(void **state)
{
	const struct kind *kind = *state;
	struct vdriver_saved saved;
	struct visit_rig r;

	begin(kind, &r);
	up(kind, &r);
	virtio_lock(r.v->dev);
	virtio_broken(r.v->dev, "by the test");
	virtio_unlock(r.v->dev);
	vdriver_interrupts(r.v);
	vdriver_acknowledge(r.v);
	save(kind, &r, &saved);
	load(kind, &r, &saved);
	assert_true(vdriver_needs_reset(r.v));
	up(kind, &r);
	traffic(kind, &r);
	end(kind, &r);
}

/* ---- what does not fit */

static int silence(void)
{
	const int was = dup(STDERR_FILENO);
	const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	assert_true(was >= 0 && null >= 0);
	assert_true(dup2(null, STDERR_FILENO) >= 0);
	close(null);
	return was;
}

static void speak(int was)
{
	assert_true(dup2(was, STDERR_FILENO) >= 0);
	close(was);
}

/* Whatever was loaded: the device goes on, or stays as it is, and can go. */
static int try(const struct kind *kind, struct visit_rig *r,
	       const struct vdriver_saved *saved)
{
	int error;

	kind->open(r);
	error = vdriver_load(r->v, saved);
	virtio_resume(r->v->dev);
	for (unsigned q = 0; q < r->v->dev->ops->nqueues; q++)
		virtio_queue_kick(r->v->dev, q);
	if (error == 0)
		(void)vdriver_wait_used(r->v, 0, NULL, 0);
	leave_device(kind, r);
	return error;
}

static void prepare(const struct kind *kind, struct visit_rig *r,
		    struct vdriver_saved *saved)
{
	begin(kind, r);
	up(kind, r);
	traffic(kind, r);
	CALL(kind, leave, r);
	save(kind, r, saved);
}

static void finish(const struct kind *kind, struct visit_rig *r,
		   struct vdriver_saved *saved)
{
	vdriver_saved_done(saved);
	kind->open(r); /* for end() to free */
	end(kind, r);
}

static void test_damaged(void **state)
{
	static const uint8_t damage[] = {0xff, 1, 0x80};
	const struct kind *kind = *state;
	struct vdriver_saved saved;
	const unsigned stride = kind->stride ? kind->stride : 1;
	unsigned refused = 0;
	struct visit_rig r;
	int was;

	prepare(kind, &r, &saved);
	was = silence();
	for (size_t i = 0; i < saved.bytes; i += stride) {
		const uint8_t good = saved.state[i];

		saved.state[i] ^= damage[i % ARRAY_LEN(damage)];
		refused += try(kind, &r, &saved) < 0;
		saved.state[i] = good;
	}
	speak(was);
	/* Names and lengths are most of it, and each of them is looked at. */
	assert_true(refused > saved.bytes / stride / 3);
	finish(kind, &r, &saved);
}

static void test_cut(void **state)
{
	const struct kind *kind = *state;
	struct vdriver_saved saved;
	struct visit_rig r;
	uint8_t *whole;
	size_t bytes;
	int was;

	prepare(kind, &r, &saved);
	whole = saved.state;
	bytes = saved.bytes;
	was = silence();
	for (saved.bytes = 0; saved.bytes < bytes; saved.bytes += 29) {
		/* Exactly as long as it is, so that a read beyond shows. */
		saved.state = malloc(saved.bytes + 1);
		memcpy(saved.state, whole, saved.bytes);
		assert_int_equal(try(kind, &r, &saved), -EINVAL);
		free(saved.state);
	}
	speak(was);
	saved.state = whole;
	saved.bytes = bytes;
	finish(kind, &r, &saved);
}

/* The bytes behind the first record of that name. */
static uint8_t *field(const struct vdriver_saved *saved, const char *name)
{
	uint8_t *at = memmem(saved->state, saved->bytes, name, strlen(name));

	assert_non_null(at);
	return at + strlen(name);
}

static void test_other_device(void **state)
{
	const struct kind *kind = *state;
	struct vdriver_saved saved;
	struct visit_rig r;
	uint8_t *at;
	int was;

	prepare(kind, &r, &saved);
	was = silence();
	at = field(&saved, "acked");
	at[7] ^= 0x80; /* 63: no device offers that */
	assert_int_equal(try(kind, &r, &saved), -EINVAL);
	at[7] ^= 0x80;
	at = field(&saved, "max");
	at[0] ^= 0x10;
	assert_int_equal(try(kind, &r, &saved), -EINVAL);
	at[0] ^= 0x10;
	at = field(&saved, "id");
	at[0] ^= 0x20;
	assert_int_equal(try(kind, &r, &saved), -EINVAL);
	at[0] ^= 0x20;
	speak(was);
	assert_int_equal(try(kind, &r, &saved), 0);
	finish(kind, &r, &saved);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*function)(void **state);
	} each[] = {
		{"goes on", test_goes_on},
		{"interrupts", test_interrupts},
		{"reset", test_reset},
		{"without driver", test_without_driver},
		{"broken", test_broken},
		{"damaged", test_damaged},
		{"cut", test_cut},
		{"other device", test_other_device},
	};
	struct CMUnitTest tests[1 + ARRAY_LEN(each) * ARRAY_LEN(kinds)] = {
		cmocka_unit_test(test_all_known),
	};
	char name[ARRAY_LEN(tests)][64];

	log_setup(LOG_ERROR, false);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	for (unsigned i = 1; i < ARRAY_LEN(tests); i++) {
		const struct kind *kind = kinds[(i - 1) / ARRAY_LEN(each)];
		const unsigned n = (i - 1) % ARRAY_LEN(each);

		snprintf(name[i], sizeof(name[i]), "%s: %s", kind->name,
			 each[n].name);
		tests[i] = (struct CMUnitTest){
			.name = name[i],
			.test_func = each[n].function,
			.initial_state = (void *)(uintptr_t)kind,
		};
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
