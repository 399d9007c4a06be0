/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file system device whose trees come and go while its guest runs: by two
 * clients, with the same directory or others, and by ones that lie.
 */
#include "devices/virtio/fs-trees.h"
#include "devices/fs/fs.h"
#include "tests/fuse-driver.h"

#include "vmm/base/sandbox.h"

#include <linux/capability.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>

#define MOST 3

/* "T", "T/a" and "T/b" are directories, the socket is "T.socket". */
struct come {
	struct rig rig;
	char socket[TEMPDIR_ROOM + 8];
};

static int confine(const struct virtio_dev *d)
{
	const struct sandbox_rule *const lists[] = {d->ops->syscalls,
						    d->more_syscalls};

	return sandbox_enter_thread(lists, ARRAY_LEN(lists),
				    d->ops->capabilities);
}

static int setup_come(void **state)
{
	struct come *c = calloc(1, sizeof(*c));
	struct rig *r = &c->rig;
	char text[2 * TEMPDIR_ROOM + 64];

	tempdir_name_on_disk(r->dir);
	if (!mkdtemp(r->dir))
		return -1;
	for (const char *name = "ab"; *name; name++) {
		snprintf(text, sizeof(text), "%s/%c", r->dir, *name);
		if (mkdir(text, 0755) < 0)
			return -1;
	}
	host_file(r, "a/in-a", "of a");
	host_file(r, "b/in-b", "of b");
	snprintf(c->socket, sizeof(c->socket), "%s.socket", r->dir);
	snprintf(text, sizeof(text), "tag=all,trees=%d,socket=%s", MOST,
		 c->socket);
	r->v = vdriver_new_of(&virtio_fs, text, &(struct virtio_host){0});
	/* As in a VM: confined before its guest runs. */
	if (!r->v || virtio_start_thread(r->v->dev, confine) < 0)
		return -1;
	up(r);
	*state = c;
	return start(r) == sizeof(struct fuse_init_out) ? 0 : -1;
}

static int teardown_come(void **state)
{
	struct come *c = *state;
	char command[2 * TEMPDIR_ROOM + 32];

	vdriver_free(c->rig.v);
	snprintf(command, sizeof(command), "rm -rf %s %s", c->rig.dir,
		 c->socket);
	assert_int_equal(system(command), 0);
	free(c);
	return 0;
}

/* ---- the host's program */

static int connect_to(const struct come *c)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", c->socket);
	assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	return fd;
}

/* With DIR so often, at most twice. */
static void send_times(int fd, const struct fs_trees_request *req, size_t bytes,
		       int dir, unsigned times)
{
	const int dirs[2] = {dir, dir};
	union {
		char bytes[CMSG_SPACE(sizeof(dirs))];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {(void *)(uintptr_t)req, bytes};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (times > 0) {
		struct cmsghdr *m;

		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(times * sizeof(int));
		m = CMSG_FIRSTHDR(&msg);
		m->cmsg_level = SOL_SOCKET;
		m->cmsg_type = SCM_RIGHTS;
		m->cmsg_len = CMSG_LEN(times * sizeof(int));
		memcpy(CMSG_DATA(m), dirs, times * sizeof(int));
	}
	assert_int_equal(sendmsg(fd, &msg, MSG_NOSIGNAL), (ssize_t)bytes);
}

static void send_request(int fd, const struct fs_trees_request *req,
			 size_t bytes, int dir)
{
	send_times(fd, req, bytes, dir, dir >= 0);
}

static struct fs_trees_request request(uint32_t flags, const char *only)
{
	struct fs_trees_request req = {
		.magic = FS_TREES_MAGIC, .flags = flags, .what = "a test's"};

	snprintf(req.only, sizeof(req.only), "%s", only ? only : "");
	return req;
}

static int add(const struct come *c, int fd, const char *below, uint32_t flags,
	       const char *only, char name[16])
{
	const struct fs_trees_request req = request(flags, only);
	struct fs_trees_answer answer;
	char path[TEMPDIR_ROOM + 8];
	int dir;

	snprintf(path, sizeof(path), "%s/%s", c->rig.dir, below);
	dir = open(path, O_PATH | O_CLOEXEC);
	assert_true(dir >= 0);
	send_request(fd, &req, sizeof(req), dir);
	close(dir);
	assert_int_equal(recv(fd, &answer, sizeof(answer), MSG_WAITALL),
			 sizeof(answer));
	if (answer.error == 0)
		memcpy(name, answer.name, sizeof(answer.name));
	return answer.error;
}

static int64_t lookup(struct rig *r, const char *name)
{
	return ask_name(r, FUSE_LOOKUP, FUSE_ROOT_ID, name);
}

/* ---- tests */

static void test_come_and_go(void **state)
{
	struct come *c = *state;
	struct rig *r = &c->rig;
	const struct fuse_getattr_in get = {0};
	const struct fuse_mkdir_in mkdir_in = {.mode = 0755};
	int one = connect_to(c), two = connect_to(c);
	char a[16], b[16], again[16];
	uint64_t in_a, in_b;

	assert_int_equal(add(c, one, "a", FS_TREES_READONLY, NULL, a), 0);
	assert_int_equal(add(c, two, "b", 0, NULL, b), 0);
	in_a = look(r, look(r, FUSE_ROOT_ID, a), "in-a");
	in_b = look(r, look(r, FUSE_ROOT_ID, b), "in-b");
	assert_int_equal(ASK(FUSE_MKDIR, look(r, FUSE_ROOT_ID, a), mkdir_in,
			     NAME("new")),
			 -EROFS);
	assert_true(ASK(FUSE_MKDIR, look(r, FUSE_ROOT_ID, b), mkdir_in,
			NAME("new")) > 0);
	/* The one goes, and nothing of the other with it. */
	close(one);
	assert_true(wait_until(lookup(r, a) == -ENOENT));
	assert_int_equal(ASK(FUSE_GETATTR, in_a, get), -ESTALE);
	assert_true(ASK(FUSE_GETATTR, in_b, get) > 0);
	/* Another one has neither its name nor its nodes. */
	assert_int_equal(add(c, two, "a", 0, NULL, again), 0);
	assert_string_not_equal(again, a);
	assert_true(look(r, look(r, FUSE_ROOT_ID, again), "in-a") != in_a);
	assert_int_equal(ASK(FUSE_GETATTR, in_a, get), -ESTALE);
	close(two);
	assert_true(wait_until(lookup(r, again) == -ENOENT));
}

/* A directory that two have is one tree, as long as one of them is there. */
static void test_same(void **state)
{
	struct come *c = *state;
	struct rig *r = &c->rig;
	int one = connect_to(c), two = connect_to(c);
	char a[16], b[16], other[16];

	assert_int_equal(add(c, one, "a", FS_TREES_ALONE, NULL, a), 0);
	assert_int_equal(add(c, two, "a", FS_TREES_ALONE, NULL, b), 0);
	assert_string_equal(a, b);
	assert_int_equal(add(c, two, "a", FS_TREES_ALONE | FS_TREES_READONLY,
			     NULL, other),
			 0);
	assert_string_not_equal(a, other);
	/* Something is mounted in this one: it may be another one. */
	assert_int_equal(add(c, two, "a", 0, NULL, other), 0);
	assert_string_not_equal(a, other);
	/* That was the third. */
	assert_int_equal(add(c, two, "b", 0, NULL, other), -E2BIG);
	close(one);
	assert_int_equal(add(c, two, "a", FS_TREES_ALONE, NULL, b), 0);
	assert_string_equal(a, b);
	assert_true(look(r, FUSE_ROOT_ID, a));
	close(two);
	assert_true(wait_until(lookup(r, a) == -ENOENT));
	two = connect_to(c);
	assert_int_equal(add(c, two, "b", 0, NULL, other), 0);
	close(two);
}

/* On a mount that the host has read-only it is not the one that changes. */
static void test_same_elsewhere(void **state)
{
	struct come *c = *state;
	const struct fs_trees_request req = request(FS_TREES_ALONE, NULL);
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
	int one = connect_to(c), two = connect_to(c), dir;
	struct fs_trees_answer answer = {0};
	char path[TEMPDIR_ROOM + 8], a[16];

	snprintf(path, sizeof(path), "%s/a", c->rig.dir);
	dir = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (dir < 0 ||
	    mount_setattr(dir, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0) {
		print_message("no right to mount\n");
		skip();
	}
	assert_int_equal(add(c, one, "a", FS_TREES_ALONE, NULL, a), 0);
	send_request(two, &req, sizeof(req), dir);
	close(dir);
	assert_int_equal(recv(two, &answer, sizeof(answer), MSG_WAITALL),
			 sizeof(answer));
	assert_int_equal(answer.error, 0);
	assert_string_not_equal(answer.name, a);
	close(one);
	close(two);
}

static void test_one_file(void **state)
{
	struct come *c = *state;
	struct rig *r = &c->rig;
	int one = connect_to(c);
	char a[16];

	assert_int_equal(add(c, one, "a", FS_TREES_ALONE, "in-a", a), 0);
	(void)look(r, FUSE_ROOT_ID, a);
	assert_true(
		S_ISREG(((const struct fuse_entry_out *)r->answer)->attr.mode));
	assert_int_equal(add(c, one, "", 0, "a/in-a", a), -EINVAL);
	assert_int_equal(add(c, one, "a/in-a", 0, NULL, a), -ENOTDIR);
	close(one);
}

/* A request that waits for a lock in a tree that goes is answered. */
static void test_lock_goes(void **state)
{
	struct come *c = *state;
	struct rig *r = &c->rig;
	struct fuse_lk_in lock = {.owner = 1,
				  .lk = {.end = 1, .type = F_WRLCK}};
	int one = connect_to(c);
	struct fuse_in_header *header = r->out.iov_base;
	struct iovec out = {r->out.iov_base, sizeof(*header) + sizeof(lock)};
	const struct fuse_out_header *answer = r->in.iov_base;
	uint64_t node;
	uint32_t n;
	char a[16];

	assert_int_equal(add(c, one, "a", 0, NULL, a), 0);
	node = look(r, look(r, FUSE_ROOT_ID, a), "in-a");
	lock.fh = open_node(r, node, O_RDWR);
	assert_int_equal(ASK(FUSE_SETLK, node, lock), 0);
	lock.owner = 2;
	*header = (struct fuse_in_header){.len = (uint32_t)out.iov_len,
					  .opcode = FUSE_SETLKW,
					  .unique = ++r->unique,
					  .nodeid = node};
	memcpy(header + 1, &lock, sizeof(lock));
	vdriver_add(r->v, REQUESTS, &out, 1, &r->in, 1);
	vdriver_kick(r->v, REQUESTS);
	assert_true(vdriver_wait_used(r->v, REQUESTS, &n, QUIET_MS) < 0);
	close(one);
	assert_true(vdriver_wait_used(r->v, REQUESTS, &n, PATIENCE_MS) >= 0);
	assert_int_equal(answer->error, -ESTALE);
}

static void expect_cut(int fd)
{
	char byte;

	assert_int_equal(recv(fd, &byte, 1, 0), 0);
	close(fd);
}

static int refused(int fd, const struct fs_trees_request *req, int dir)
{
	struct fs_trees_answer answer = {0};

	send_request(fd, req, sizeof(*req), dir);
	assert_int_equal(recv(fd, &answer, sizeof(answer), MSG_WAITALL),
			 sizeof(answer));
	return answer.error;
}

static void test_lies(void **state)
{
	struct come *c = *state;
	const struct fs_trees_request good = request(0, NULL);
	struct fs_trees_request bad;
	int fd = connect_to(c), proc = open("/proc", O_PATH | O_CLOEXEC);

	assert_int_equal(refused(fd, &good, -1), -EBADF);
	assert_int_equal(refused(fd, &good, proc), -EACCES);
	bad = good;
	bad.magic++;
	assert_int_equal(refused(fd, &bad, proc), -EINVAL);
	bad = good;
	bad.flags = 4;
	assert_int_equal(refused(fd, &bad, proc), -EINVAL);
	memset(bad.only, 'x', sizeof(bad.only));
	bad.flags = 0;
	assert_int_equal(refused(fd, &bad, proc), -EINVAL);
	bad = good;
	bad.what[0] = '\0';
	assert_int_equal(refused(fd, &bad, proc), -EINVAL);
	close(proc);
	send_request(fd, &good, 12, -1);
	expect_cut(fd);
	/* One that goes at once, and the next one is served all the same. */
	close(connect_to(c));
	fd = connect_to(c);
	assert_int_equal(refused(fd, &good, -1), -EBADF);
	close(fd);
}

/* None of them is taken, and none is kept. */
static void test_two_at_once(void **state)
{
	struct come *c = *state;
	const struct fs_trees_request req = request(0, NULL);
	struct fs_trees_answer answer = {0};
	int fd = connect_to(c), ends[2];
	char byte;

	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	send_times(fd, &req, sizeof(req), ends[1], 2);
	close(ends[1]);
	assert_int_equal(recv(fd, &answer, sizeof(answer), MSG_WAITALL),
			 sizeof(answer));
	assert_int_equal(answer.error, -EBADF);
	/* The end: nobody has the other one open. */
	assert_int_equal(read(ends[0], &byte, 1), 0);
	close(ends[0]);
	close(fd);
}

static int check(const char *share)
{
	struct config cfg;
	int r;

	config_init(&cfg);
	assert_int_equal(config_add_device(&cfg, &virtio_fs.type, share), 0);
	r = virtio_fs.type.check_all(&cfg, &cfg.device[0]);
	config_done(&cfg);
	return r;
}

static void test_bad_configs(void **state)
{
	const char *const bad[] = {
		"/tmp,tag=a,socket=s", "tag=a,socket=s,cache=always",
		"tag=a,socket=s,ownership=host", "tag=a,socket=s,xattrs=none",
		"tag=a,trees=4"};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(check(bad[i]), -EINVAL);
	assert_int_equal(check("tag=a,socket=s,cache=never"), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup_come, teardown_come)
	const struct CMUnitTest tests[] = {
		TEST(test_come_and_go),    TEST(test_same),
		TEST(test_same_elsewhere), TEST(test_one_file),
		TEST(test_lock_goes),      TEST(test_lies),
		TEST(test_two_at_once),    cmocka_unit_test(test_bad_configs),
	};

	log_setup(LOG_ERROR, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
