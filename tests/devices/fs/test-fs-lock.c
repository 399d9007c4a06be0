/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locks of a shared tree's files: between the guest's owners, against the
 * host's processes, and requests that wait for one.
 */
#include "devices/fs/fs.h"
#include "tests/vdriver.h"
#include "tests/tempdir.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

extern const struct virtio_ops virtio_fs;

#define LAST   ((uint64_t)INT64_MAX)
#define HIPRIO 0
#define OTHERS 1

struct rig {
	char dir[TEMPDIR_ROOM];
	struct fs *fs;
	struct fs_inode *file;
	int host_fd; /* as if another program had opened it */
	struct vdriver *v;
	uint64_t node, unique;
	struct iovec in; /* of the last request */
};

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct fs_options options = {.ownership = FS_OWNER_HOST,
				     .max_locks = 4};
	struct fs_entry entry;
	char path[128];

	tempdir_name_on_disk(r->dir);
	if (!mkdtemp(r->dir))
		return -1;
	snprintf(path, sizeof(path), "%s/file", r->dir);
	r->host_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	options.path = r->dir;
	if (r->host_fd < 0 || fs_open("test", &options, &r->fs) < 0 ||
	    fs_lookup(r->fs, fs_inode(r->fs, FS_ROOT), "file", &entry) < 0)
		return -1;
	r->file = entry.inode;
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	struct rig *r = *state;
	char command[128];

	vdriver_free(r->v);
	fs_close(r->fs);
	close(r->host_fd);
	snprintf(command, sizeof(command), "rm -rf %s", r->dir);
	assert_int_equal(system(command), 0);
	free(r);
	return 0;
}

/* Bytes START to END for OWNER, who is process OWNER + 100. */
static int lock(struct rig *r, uint64_t owner, int type, uint64_t start,
		uint64_t end)
{
	const struct fs_lock want = {.owner = {.id = owner},
				     .type = type,
				     .start = start,
				     .end = end,
				     .pid = (uint32_t)owner + 100};

	return fs_lock(r->fs, r->file, &want);
}

static int whole(struct rig *r, uint64_t owner, int type)
{
	const struct fs_lock want = {.owner = {.id = owner, .flock = true},
				     .type = type,
				     .end = LAST};

	return fs_lock(r->fs, r->file, &want);
}

static void test_owners(void **state)
{
	struct rig *r = *state;
	const struct fs_lock_owner one = {.id = 1};

	assert_int_equal(lock(r, 1, F_WRLCK, 0, 9), 0);
	assert_int_equal(lock(r, 2, F_WRLCK, 9, 9), -EAGAIN);
	assert_int_equal(lock(r, 2, F_RDLCK, 10, LAST), 0);
	/* Locks of one owner do not conflict with each other; they merge. */
	assert_int_equal(lock(r, 1, F_RDLCK, 5, 30), 0);
	assert_int_equal(lock(r, 3, F_RDLCK, 5, 40), 0);
	assert_int_equal(lock(r, 3, F_WRLCK, 50, 50), -EAGAIN);
	assert_int_equal(lock(r, 2, F_UNLCK, 50, 50), 0);
	assert_int_equal(lock(r, 3, F_WRLCK, 50, 50), 0);
	assert_true(fs_unlock_all(r->fs, r->file, &one));
	assert_false(fs_unlock_all(r->fs, r->file, &one));
	assert_int_equal(lock(r, 2, F_WRLCK, 0, 4), 0);
	assert_int_equal(lock(r, 1, F_UNLCK, 0, LAST), 0);
	/* A request that describes no lock is refused. */
	assert_int_equal(lock(r, 1, 7, 0, 1), -EINVAL);
	assert_int_equal(lock(r, 1, F_RDLCK, 2, 1), -EINVAL);
	assert_int_equal(lock(r, 1, F_RDLCK, 2, LAST + 1), -EINVAL);
	assert_int_equal(lock(r, 1, F_RDLCK, UINT64_MAX, UINT64_MAX), -EINVAL);
}

static void test_whose(void **state)
{
	struct rig *r = *state;
	struct fs_lock find = {
		.owner = {.id = 2}, .type = F_WRLCK, .start = 5, .end = 100};
	bool known = false;

	assert_int_equal(lock(r, 1, F_WRLCK, 8, 9), 0);
	assert_int_equal(lock(r, 3, F_RDLCK, 200, LAST), 0);
	assert_int_equal(fs_lock_find(r->fs, r->file, &find, &known), 0);
	assert_int_equal(find.type, F_WRLCK);
	assert_int_equal(find.start, 8);
	assert_int_equal(find.end, 9);
	assert_int_equal(find.pid, 101);
	assert_true(known && find.owner.id == 1);
	find = (struct fs_lock){
		.owner = {.id = 3}, .type = F_WRLCK, .start = 10, .end = LAST};
	assert_int_equal(fs_lock_find(r->fs, r->file, &find, &known), 0);
	assert_int_equal(find.type, F_UNLCK);
	find = (struct fs_lock){
		.owner = {.id = 2}, .type = F_WRLCK, .start = 300, .end = LAST};
	assert_int_equal(fs_lock_find(r->fs, r->file, &find, &known), 0);
	assert_int_equal(find.type, F_RDLCK);
	assert_int_equal(find.start, 200);
	assert_int_equal(find.end, LAST);
	assert_int_equal(find.pid, 103);
}

static void test_flock(void **state)
{
	struct rig *r = *state;
	const struct fs_lock_owner one = {.id = 1, .flock = true};

	assert_int_equal(whole(r, 1, F_RDLCK), 0);
	assert_int_equal(whole(r, 2, F_RDLCK), 0);
	assert_int_equal(whole(r, 2, F_WRLCK), -EAGAIN);
	assert_int_equal(flock(r->host_fd, LOCK_EX | LOCK_NB), -1);
	/* flock() locks and record locks do not conflict. */
	assert_int_equal(lock(r, 3, F_WRLCK, 0, LAST), 0);
	assert_true(fs_unlock_all(r->fs, r->file, &one));
	assert_int_equal(whole(r, 2, F_WRLCK), 0);
	assert_int_equal(whole(r, 2, F_UNLCK), 0);
	assert_int_equal(flock(r->host_fd, LOCK_EX | LOCK_NB), 0);
	assert_int_equal(whole(r, 1, F_RDLCK), -EAGAIN);
}

static int host_lock(const struct rig *r, short type, off_t start, off_t bytes)
{
	struct flock range = {.l_type = type,
			      .l_whence = SEEK_SET,
			      .l_start = start,
			      .l_len = bytes};

	return fcntl(r->host_fd, F_OFD_SETLK, &range) < 0 ? -errno : 0;
}

static void test_host(void **state)
{
	struct rig *r = *state;
	struct fs_lock find = {
		.owner = {.id = 1}, .type = F_RDLCK, .end = LAST};
	bool known = true;

	assert_int_equal(host_lock(r, F_WRLCK, 0, 10), 0);
	assert_int_equal(lock(r, 1, F_RDLCK, 3, 3), -EAGAIN);
	assert_int_equal(fs_lock_find(r->fs, r->file, &find, &known), 0);
	assert_int_equal(find.type, F_WRLCK);
	assert_int_equal(find.pid, 0);
	assert_false(known);
	assert_int_equal(lock(r, 1, F_WRLCK, 10, LAST), 0);
	assert_int_equal(host_lock(r, F_RDLCK, 10, 1), -EAGAIN);
	/* When the guest goes away, its locks are released. */
	fs_reset(r->fs);
	assert_int_equal(host_lock(r, F_WRLCK, 0, 0), 0);
}

/* The number of owners has a limit; one without locks does not count. */
static void test_limit(void **state)
{
	struct rig *r = *state;

	for (uint64_t owner = 1; owner <= 4; owner++)
		assert_int_equal(lock(r, owner, F_RDLCK, 0, LAST), 0);
	assert_int_equal(lock(r, 5, F_RDLCK, 0, LAST), -ENOLCK);
	assert_int_equal(lock(r, 1, F_WRLCK, 0, LAST), -EAGAIN);
	assert_int_equal(lock(r, 1, F_UNLCK, 0, LAST), 0);
	assert_int_equal(lock(r, 5, F_WRLCK, 0, LAST), -EAGAIN);
	assert_int_equal(lock(r, 5, F_RDLCK, 0, LAST), 0);
	assert_int_equal(lock(r, 6, F_UNLCK, 0, LAST), 0);
}

/* ---- requests ---- */

/* A request's chain; its answer is awaited by used(). */
static int request(struct rig *r, unsigned q, uint32_t opcode, uint64_t node,
		   const void *arg, size_t bytes)
{
	const struct fuse_in_header header = {
		.len = (uint32_t)(sizeof(header) + bytes),
		.opcode = opcode,
		.unique = ++r->unique,
		.nodeid = node,
	};
	const struct iovec out[] = {
		vdriver_buf(r->v, &header, sizeof(header)),
		vdriver_buf(r->v, arg, bytes),
	};
	int head;

	r->in = vdriver_buf(r->v, NULL, 256);
	head = vdriver_add(r->v, q, out, 2, &r->in, 1);
	assert_true(head >= 0);
	vdriver_kick(r->v, q);
	return head;
}

/* The error in the answer to the chain HEAD, which is the next one. */
static int used(struct rig *r, unsigned q, int head, const struct iovec *in)
{
	const struct fuse_out_header *header = in->iov_base;
	uint32_t written;

	assert_int_equal(vdriver_wait_used(r->v, q, &written, PATIENCE_MS),
			 head);
	assert_true(written >= sizeof(*header));
	assert_int_equal(header->len, written);
	return header->error;
}

static void expect_waiting(struct rig *r)
{
	assert_true(vdriver_wait_used(r->v, OTHERS, NULL, QUIET_MS) < 0);
}

static int ask_lock(struct rig *r, uint32_t opcode, uint64_t owner, int type,
		    uint64_t start)
{
	const struct fuse_lk_in in = {
		.owner = owner,
		.lk = {.start = start,
		       .end = start + 9,
		       .type = (uint32_t)type,
		       .pid = (uint32_t)owner + 100},
	};

	return request(r, OTHERS, opcode, r->node, &in, sizeof(in));
}

static int set(struct rig *r, uint64_t owner, int type, uint64_t start)
{
	return used(r, OTHERS, ask_lock(r, FUSE_SETLK, owner, type, start),
		    &r->in);
}

static void begin(struct rig *r)
{
	const struct fuse_init_in init = {
		.major = 7, .minor = 41, .flags = UINT32_MAX};
	const struct fuse_entry_out *entry;
	int head;

	assert_true(vdriver_up(r->v, UINT64_MAX));
	head = request(r, OTHERS, FUSE_INIT, 0, &init, sizeof(init));
	assert_int_equal(used(r, OTHERS, head, &r->in), 0);
	head = request(r, OTHERS, FUSE_LOOKUP, FUSE_ROOT_ID, "file", 5);
	assert_int_equal(used(r, OTHERS, head, &r->in), 0);
	entry = (const void *)((char *)r->in.iov_base +
			       sizeof(struct fuse_out_header));
	r->node = entry->nodeid;
}

static void new_device(struct rig *r, const char *options)
{
	char text[128];

	snprintf(text, sizeof(text), "%s,tag=t%s", r->dir, options);
	vdriver_free(r->v);
	r->v = vdriver_new(&virtio_fs, text);
	assert_non_null(r->v);
	begin(r);
}

static void test_wait(void **state)
{
	struct rig *r = *state;
	struct iovec in;
	int waits;

	new_device(r, "");
	assert_int_equal(set(r, 1, F_WRLCK, 0), 0);
	assert_int_equal(set(r, 2, F_WRLCK, 5), -EAGAIN);
	waits = ask_lock(r, FUSE_SETLKW, 2, F_WRLCK, 5);
	in = r->in;
	expect_waiting(r);
	/*
	 * Other requests go on meanwhile; a lock that is given up goes to the
	 * waiting request at once.
	 */
	assert_int_equal(set(r, 1, F_WRLCK, 100), 0);
	(void)ask_lock(r, FUSE_SETLK, 1, F_UNLCK, 0);
	assert_int_equal(used(r, OTHERS, waits, &in), 0);
	assert_true(vdriver_wait_used(r->v, OTHERS, NULL, PATIENCE_MS) >= 0);
	assert_int_equal(set(r, 1, F_RDLCK, 0), -EAGAIN);
	assert_int_equal(host_lock(r, F_RDLCK, 14, 1), -EAGAIN);
	assert_int_equal(host_lock(r, F_RDLCK, 15, 1), 0);
}

/*
 * A guest that only reads does not tell of its close: the lock ends with the
 * open file. From then on it is known that there may be one.
 */
static void test_unflushed(void **state)
{
	struct rig *r = *state;
	struct fuse_open_in in = {.flags = O_RDONLY};
	struct fuse_lk_in lk = {.owner = 1, .lk = {.end = LAST}};
	struct fuse_release_in release = {0};
	const struct fuse_open_out *out;
	int head;

	new_device(r, "");
	for (unsigned i = 0; i < 3; i++) {
		in.flags = i == 0 ? O_RDWR : O_RDONLY;
		head = request(r, OTHERS, FUSE_OPEN, r->node, &in, sizeof(in));
		assert_int_equal(used(r, OTHERS, head, &r->in), 0);
		out = (const void *)((char *)r->in.iov_base +
				     sizeof(struct fuse_out_header));
		assert_int_equal(!!(out->open_flags & FOPEN_NOFLUSH), i == 1);
		lk.fh = out->fh;
		if (i == 0)
			continue;
		head = request(r, OTHERS, FUSE_SETLK, r->node, &lk, sizeof(lk));
		assert_int_equal(used(r, OTHERS, head, &r->in), 0);
		assert_int_equal(host_lock(r, F_WRLCK, 0, 0), -EAGAIN);
		release.fh = lk.fh;
		head = request(r, OTHERS, FUSE_RELEASE, r->node, &release,
			       sizeof(release));
		assert_int_equal(used(r, OTHERS, head, &r->in), 0);
		assert_int_equal(host_lock(r, F_WRLCK, 0, 0), 0);
		assert_int_equal(host_lock(r, F_UNLCK, 0, 0), 0);
	}
}

/* Nothing reports when a program of the host gives up its lock. */
static void test_wait_for_host(void **state)
{
	struct rig *r = *state;
	const struct fuse_flush_in flush = {.lock_owner = 1};
	int waits;

	new_device(r, "");
	assert_int_equal(host_lock(r, F_WRLCK, 0, 0), 0);
	waits = ask_lock(r, FUSE_SETLKW, 1, F_WRLCK, 0);
	expect_waiting(r);
	assert_int_equal(host_lock(r, F_UNLCK, 0, 0), 0);
	assert_int_equal(used(r, OTHERS, waits, &r->in), 0);
	assert_int_equal(host_lock(r, F_WRLCK, 0, 0), -EAGAIN);
	/* A close takes the owner's locks away. */
	waits = request(r, OTHERS, FUSE_FLUSH, r->node, &flush, sizeof(flush));
	assert_int_equal(used(r, OTHERS, waits, &r->in), 0);
	assert_int_equal(host_lock(r, F_WRLCK, 0, 0), 0);
}

/*
 * A request that waits for a lock stays with the device, which does not try the
 * lock while it is paused.
 */
static void test_pause(void **state)
{
	struct rig *r = *state;
	int waits;

	new_device(r, "");
	assert_int_equal(host_lock(r, F_WRLCK, 0, 0), 0);
	waits = ask_lock(r, FUSE_SETLKW, 1, F_WRLCK, 0);
	expect_waiting(r);
	virtio_pause(r->v->dev);
	assert_int_equal(vdriver_held(r->v, OTHERS), 1);
	assert_int_equal(host_lock(r, F_UNLCK, 0, 0), 0);
	expect_waiting(r);
	virtio_resume(r->v->dev);
	assert_int_equal(used(r, OTHERS, waits, &r->in), 0);
}

static void test_interrupt(void **state)
{
	struct rig *r = *state;
	struct fuse_interrupt_in interrupt;
	struct iovec in;
	int waits, head;

	new_device(r, "");
	assert_int_equal(host_lock(r, F_WRLCK, 0, 0), 0);
	waits = ask_lock(r, FUSE_SETLKW, 1, F_WRLCK, 0);
	in = r->in;
	interrupt.unique = r->unique;
	expect_waiting(r);
	head = request(r, HIPRIO, FUSE_INTERRUPT, 0, &interrupt,
		       sizeof(interrupt));
	assert_int_equal(used(r, OTHERS, waits, &in), -EINTR);
	assert_int_equal(vdriver_wait_used(r->v, HIPRIO, NULL, PATIENCE_MS),
			 head);
	/* The request that is to be interrupted may arrive later. */
	head = request(r, HIPRIO, FUSE_INTERRUPT, 0, &interrupt,
		       sizeof(interrupt));
	assert_int_equal(used(r, HIPRIO, head, &r->in), -EAGAIN);
}

/* Two owners wait for each other: the second gets an error. */
static void test_deadlock(void **state)
{
	struct rig *r = *state;
	struct iovec in;
	int waits, head;

	new_device(r, "");
	assert_int_equal(set(r, 1, F_WRLCK, 0), 0);
	assert_int_equal(set(r, 2, F_WRLCK, 100), 0);
	assert_int_equal(set(r, 3, F_RDLCK, 200), 0);
	waits = ask_lock(r, FUSE_SETLKW, 1, F_RDLCK, 100);
	in = r->in;
	head = ask_lock(r, FUSE_SETLKW, 3, F_RDLCK, 0);
	expect_waiting(r);
	(void)head;
	head = ask_lock(r, FUSE_SETLKW, 2, F_WRLCK, 200);
	assert_int_equal(used(r, OTHERS, head, &r->in), -EDEADLK);
	(void)ask_lock(r, FUSE_SETLK, 2, F_UNLCK, 100);
	assert_int_equal(used(r, OTHERS, waits, &in), 0);
}

static void test_waits_are_few(void **state)
{
	struct rig *r = *state;
	unsigned waiting = 0;
	uint32_t written;

	new_device(r, "");
	assert_int_equal(host_lock(r, F_WRLCK, 0, 0), 0);
	for (unsigned i = 0; i < 64; i++)
		(void)ask_lock(r, FUSE_SETLKW, i, F_RDLCK, 0);
	expect_waiting(r);
	assert_int_equal(used(r, OTHERS,
			      ask_lock(r, FUSE_SETLKW, 99, F_RDLCK, 0), &r->in),
			 -ENOLCK);
	assert_int_equal(host_lock(r, F_UNLCK, 0, 0), 0);
	while (waiting < 64 &&
	       vdriver_wait_used(r->v, OTHERS, &written, PATIENCE_MS) >= 0)
		waiting++;
	assert_int_equal(waiting, 64);
}

/* A guest that goes away while it waits, or mounts anew. */
static void test_reset(void **state)
{
	struct rig *r = *state;
	struct iovec in;
	int waits;

	new_device(r, "");
	assert_int_equal(set(r, 1, F_WRLCK, 100), 0);
	assert_int_equal(host_lock(r, F_WRLCK, 0, 10), 0);
	(void)ask_lock(r, FUSE_SETLKW, 1, F_WRLCK, 0);
	expect_waiting(r);
	vdriver_reset(r->v);
	assert_int_equal(host_lock(r, F_WRLCK, 100, 10), 0);
	begin(r);
	waits = ask_lock(r, FUSE_SETLKW, 1, F_WRLCK, 0);
	in = r->in;
	expect_waiting(r);
	(void)request(r, OTHERS, FUSE_DESTROY, 0, "", 0);
	assert_int_equal(used(r, OTHERS, waits, &in), -EINTR);
	assert_int_equal(host_lock(r, F_UNLCK, 0, 0), 0);
	(void)ask_lock(r, FUSE_SETLKW, 1, F_WRLCK, 0);
}

/* Left to the guest's kernel, which then does not ask. */
static void test_guests_own(void **state)
{
	struct rig *r = *state;
	static const struct {
		const char *options;
		bool hosts;
	} cases[] = {
		{"", true},
		{",cache=always", false},
		{",cache=always,locks=host", true},
		{",locks=guest", false},
		{",readonly", false},
		{",readonly,cache=never", false},
		{",readonly,locks=host", true},
	};
	static const uint32_t asked[] = {FUSE_SETLK, FUSE_SETLKW, FUSE_GETLK};
	const struct fuse_init_in init = {
		.major = 7, .minor = 41, .flags = UINT32_MAX};
	const struct fuse_init_out *out;
	int head;

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		new_device(r, cases[i].options);
		head = request(r, OTHERS, FUSE_INIT, 0, &init, sizeof(init));
		assert_int_equal(used(r, OTHERS, head, &r->in), 0);
		out = (const void *)((char *)r->in.iov_base +
				     sizeof(struct fuse_out_header));
		assert_int_equal(
			!!(out->flags & (FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS)),
			cases[i].hosts);
	}
	for (unsigned j = 0; j < 2; j++) {
		new_device(r, j ? ",readonly" : ",locks=guest");
		for (unsigned i = 0; i < ARRAY_LEN(asked); i++)
			assert_int_equal(
				used(r, OTHERS,
				     ask_lock(r, asked[i], 1, F_RDLCK, 0),
				     &r->in),
				-ENOSYS);
	}
	/* Nor by the other kind, of which a read-only descriptor is enough. */
	assert_int_equal(host_lock(r, F_WRLCK, 0, 0), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_unflushed), TEST(test_owners),
		TEST(test_whose),     TEST(test_flock),
		TEST(test_host),      TEST(test_limit),
		TEST(test_wait),      TEST(test_interrupt),
		TEST(test_pause),     TEST(test_wait_for_host),
		TEST(test_deadlock),  TEST(test_waits_are_few),
		TEST(test_reset),     TEST(test_guests_own),
	};

	log_setup(LOG_ERROR, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
