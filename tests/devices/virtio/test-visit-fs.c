/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shares whose guest cannot be saved, or cannot go on with what is there now:
 * either is an error, and never another file.
 */
#include "tests/fuse-driver.h"

#include "vmm/base/log.h"

#include <sys/stat.h>

static int save(struct rig *r, struct vdriver_saved *saved)
{
	int error;

	vdriver_pause(r->v);
	error = vdriver_save(r->v, saved);
	if (error < 0)
		vdriver_saved_done(saved);
	virtio_resume(r->v->dev);
	return error;
}

/* Into a new device, as OPTIONS say, of DIR; the first one is gone. */
static int load_from(struct rig *r, struct vdriver_saved *saved,
		     const char *dir)
{
	char text[128];
	int error;

	snprintf(text, sizeof(text), "%s,tag=a-tag", dir);
	vdriver_free(r->v);
	r->v = vdriver_new(&virtio_fs, text);
	assert_non_null(r->v);
	error = vdriver_load(r->v, saved);
	r->out.iov_base = vdriver_moved(r->v, saved, r->out.iov_base);
	r->in.iov_base = vdriver_moved(r->v, saved, r->in.iov_base);
	r->answer = (char *)r->in.iov_base + sizeof(struct fuse_out_header);
	vdriver_saved_done(saved);
	virtio_resume(r->v->dev);
	return error;
}

static int load(struct rig *r, struct vdriver_saved *saved)
{
	return load_from(r, saved, r->dir);
}

static const char *path_of(const struct rig *r, const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", r->dir, name);
	return path;
}

/* Another file in the place of NAME, never with the same number. */
static void replace(struct rig *r, const char *name)
{
	char other[128];

	host_file(r, "other", "another text");
	snprintf(other, sizeof(other), "%s/other", r->dir);
	assert_int_equal(rename(other, path_of(r, name)), 0);
}

/* FORGET, for which the driver does not kick. */
static void forget_unkicked(struct rig *r, uint64_t node)
{
	const struct {
		struct fuse_in_header header;
		struct fuse_forget_in in;
	} one = {{.len = 48, .opcode = FUSE_FORGET, .nodeid = node},
		 {.nlookup = 1}};
	struct iovec out = vdriver_buf(r->v, &one, sizeof(one));

	assert_true(vdriver_add(r->v, 0, &out, 1, NULL, 0) >= 0);
}

static void test_removed(void **state)
{
	struct rig *r = *state;
	const uint64_t node = look(r, FUSE_ROOT_ID, "file");
	const struct fuse_release_in in = {.fh = open_node(r, node, O_RDONLY)};
	struct vdriver_saved saved;

	assert_int_equal(ask_name(r, FUSE_UNLINK, FUSE_ROOT_ID, "file"), 0);
	assert_int_equal(save(r, &saved), -EINVAL);
	/* The guest goes on, and lets go of it. */
	assert_int_equal(ASK(FUSE_RELEASE, node, in), 0);
	assert_int_equal(save(r, &saved), -EINVAL);
	forget_unkicked(r, node);
	assert_int_equal(save(r, &saved), 0);
	assert_int_equal(load(r, &saved), 0);
	/* No node: there is no such file. */
	assert_int_equal(look(r, FUSE_ROOT_ID, "file"), 0);
}

static void test_replaced_before(void **state)
{
	struct rig *r = *state;
	struct vdriver_saved saved;

	(void)open_node(r, look(r, FUSE_ROOT_ID, "file"), O_RDONLY);
	replace(r, "file");
	assert_int_equal(save(r, &saved), -EINVAL);
}

static void test_replaced_after(void **state)
{
	struct rig *r = *state;
	struct vdriver_saved saved;

	(void)open_node(r, look(r, FUSE_ROOT_ID, "file"), O_RDONLY);
	assert_int_equal(save(r, &saved), 0);
	replace(r, "file");
	assert_int_equal(load(r, &saved), -EINVAL);
}

/* A file that is only known: the guest's kernel looks for its name again. */
static void test_known_replaced(void **state)
{
	struct rig *r = *state;
	const uint64_t node = look(r, FUSE_ROOT_ID, "file");
	const struct fuse_getattr_in attr = {0};
	struct vdriver_saved saved;

	assert_int_equal(save(r, &saved), 0);
	replace(r, "file");
	assert_int_equal(load(r, &saved), 0);
	assert_int_equal(ASK(FUSE_GETATTR, node, attr), -ESTALE);
	assert_int_not_equal(look(r, FUSE_ROOT_ID, "file"), node);
}

static void test_other_directory(void **state)
{
	struct rig *r = *state;
	struct vdriver_saved saved;

	assert_int_equal(mkdir(path_of(r, "below"), 0755), 0);
	assert_int_equal(save(r, &saved), 0);
	assert_int_equal(load_from(r, &saved, path_of(r, "below")), -EINVAL);
}

/* One that the guest has not mounted can be anything when it does. */
static void test_not_mounted(void **state)
{
	struct rig *r = *state;
	char other[160];
	struct vdriver_saved saved;

	assert_int_equal(mkdir(path_of(r, "below"), 0755), 0);
	host_file(r, "below/inside", "text");
	snprintf(other, sizeof(other), "%s,readonly,cache=always",
		 path_of(r, "below"));
	vdriver_reset(r->v);
	up(r);
	assert_int_equal(save(r, &saved), 0);
	assert_int_equal(load_from(r, &saved, other), 0);
	assert_true(start(r) > 0);
	assert_int_not_equal(look(r, FUSE_ROOT_ID, "inside"), 0);
	assert_int_equal(look(r, FUSE_ROOT_ID, "file"), 0);
}

static int64_t lock(struct rig *r, uint64_t node, uint64_t fh, uint32_t opcode,
		    uint64_t owner, uint64_t end)
{
	const struct fuse_lk_in in = {
		.fh = fh,
		.owner = owner,
		.lk = {.end = end, .type = F_WRLCK, .pid = 5},
	};

	return ask(r, &(struct ask){.opcode = opcode,
				    .node = node,
				    .arg = &in,
				    .arg_bytes = sizeof(in)});
}

static void test_locked_by_another(void **state)
{
	struct rig *r = *state;
	const uint64_t node = look(r, FUSE_ROOT_ID, "file");
	const uint64_t fh = open_node(r, node, O_RDWR);
	struct flock theirs = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
	struct vdriver_saved saved;
	int fd;

	assert_int_equal(lock(r, node, fh, FUSE_SETLK, 1, INT64_MAX), 0);
	assert_int_equal(save(r, &saved), 0);
	vdriver_free(r->v);
	r->v = NULL;
	fd = open(path_of(r, "file"), O_RDWR | O_CLOEXEC);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &theirs), 0);
	assert_int_equal(load(r, &saved), -EINVAL);
	close(fd);
}

static void test_part_locked(void **state)
{
	struct rig *r = *state;
	const uint64_t node = look(r, FUSE_ROOT_ID, "file");
	const uint64_t fh = open_node(r, node, O_RDWR);
	struct vdriver_saved saved;

	assert_int_equal(lock(r, node, fh, FUSE_SETLK, 1, 7), 0);
	assert_int_equal(save(r, &saved), -EINVAL);
}

/* One process of the guest waits for the lock of another. */
static void test_waits(void **state)
{
	struct rig *r = *state;
	const uint64_t node = look(r, FUSE_ROOT_ID, "file");
	const uint64_t fh = open_node(r, node, O_RDWR);
	const struct {
		struct fuse_in_header header;
		struct fuse_lk_in in;
	} request = {
		{.len = sizeof(request),
		 .opcode = FUSE_SETLKW,
		 .unique = 77,
		 .nodeid = node},
		{.fh = fh,
		 .owner = 2,
		 .lk = {.end = INT64_MAX, .type = F_WRLCK}},
	};
	struct iovec out = vdriver_buf(r->v, &request, sizeof(request));
	struct iovec in = vdriver_buf(r->v, NULL, 16);
	struct vdriver_saved saved;

	assert_int_equal(lock(r, node, fh, FUSE_SETLK, 1, INT64_MAX), 0);
	assert_true(vdriver_add(r->v, REQUESTS, &out, 1, &in, 1) >= 0);
	vdriver_kick(r->v, REQUESTS);
	assert_true(wait_until(vdriver_held(r->v, REQUESTS) == 1));
	virtio_pause(r->v->dev);
	assert_int_equal(vdriver_save(r->v, &saved), -EINVAL);
	vdriver_saved_done(&saved);
	virtio_resume(r->v->dev);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_removed),
		TEST(test_replaced_before),
		TEST(test_replaced_after),
		TEST(test_known_replaced),
		TEST(test_other_directory),
		TEST(test_not_mounted),
		TEST(test_locked_by_another),
		TEST(test_part_locked),
		TEST(test_waits),
	};

	log_setup(LOG_ERROR, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
