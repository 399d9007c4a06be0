/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The limits of all shares of one VM together: many of them, a small VM, few
 * descriptors. None has more than its part and what is for all, none is left
 * without, and what is given back can be had again.
 */
#include "devices/fs/fs.h"
#include "tests/descriptors.h"
#include "tests/tempdir.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define NOFILE 1024 /* descriptors, on every machine */
#define SHARES 11
#define RAM    (32 * MIB)

struct rig {
	char dir[TEMPDIR_ROOM];
	struct fs_budget budget;
	struct fs *fs[SHARES];
	unsigned made[SHARES]; /* files that this one has made */
};

#define ME (&(struct fs_who){geteuid(), getegid(), 0})

static struct fs_inode *root(struct fs *fs)
{
	fs_settle(fs);
	return fs_inode(fs, FS_ROOT);
}

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	const struct fs_options o = {.path = r->dir,
				     .ownership = FS_OWNER_HOST,
				     .budget = &r->budget};

	tempdir_name_on_disk(r->dir);
	if (!mkdtemp(r->dir))
		return -1;
	fs_budget_init(&r->budget, RAM, SHARES);
	for (unsigned i = 0; i < SHARES; i++) {
		if (fs_open("test", &o, &r->fs[i]) < 0)
			return -1;
	}
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	struct rig *r = *state;
	char command[128];

	for (unsigned i = 0; i < SHARES; i++)
		fs_close(r->fs[i]);
	snprintf(command, sizeof(command), "rm -rf %s", r->dir);
	assert_int_equal(system(command), 0);
	free(r);
	return 0;
}

/* One more file with a long name, which the share's guest then knows. */
static int make(struct rig *r, unsigned i, struct fs_entry *ret_entry)
{
	char name[PATH_MAX];
	const struct fs_node node = {.mode = S_IFREG | 0600};
	int e;

	snprintf(name, sizeof(name), "%02u-%0200u", i, r->made[i]);
	e = fs_mknod(r->fs[i], &(struct fs_place){root(r->fs[i]), name}, &node,
		     ME, ret_entry);
	r->made[i] += e == 0;
	return e;
}

/* Makes what it may: how many, and that it ends with ERROR. */
static unsigned fill(struct rig *r, unsigned i, int error)
{
	const unsigned before = r->made[i];
	struct fs_entry entry;
	int e;

	while ((e = make(r, i, &entry)) == 0)
		assert_true(r->made[i] < 100000);
	assert_int_equal(e, error);
	return r->made[i] - before;
}

static size_t allocated(void)
{
	const struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}

static void test_memory(void **state)
{
	struct rig *r = *state;
	const size_t before = allocated();
	struct fs_entry entry;
	unsigned first, last = 0;
	char name[PATH_MAX];

	/* The first has all that is for all; the others have their own. */
	first = fill(r, 0, -ENOMEM);
	for (unsigned i = 1; i < SHARES; i++) {
		last = fill(r, i, -ENOMEM);
		assert_in_range(last, first / 20, first / 5);
	}
	/* (ASan counts what it adds.) */
	assert_true(before == 0 || allocated() - before <= RAM / 4 + 64 * KIB);
	/* Nothing was made and then refused. */
	snprintf(name, sizeof(name), "%s/00-%0200u", r->dir, r->made[0]);
	assert_int_equal(access(name, F_OK), -1);
	/* Inodes that are known stay usable. */
	snprintf(name, sizeof(name), "01-%0200u", 0);
	assert_int_equal(fs_lookup(r->fs[1], root(r->fs[1]), name, &entry), 0);
	assert_int_equal(fs_getattr(r->fs[1], entry.inode, NULL, &entry.stx),
			 0);
	/* Given back by one, it is for the others. */
	fs_reset(r->fs[0]);
	fs_settle(r->fs[0]);
	assert_true(fill(r, 5, -ENOMEM) > last);
	assert_true(fill(r, 0, -ENOMEM) >= last);
	assert_int_equal(
		fs_mkdir(r->fs[3], root(r->fs[3]), "more", 0755, ME, &entry),
		-ENOMEM);
}

static unsigned open_all(struct rig *r, unsigned i, struct fs_inode *inode,
			 int error)
{
	unsigned n = 0;
	uint64_t id;
	int e;

	while ((e = fs_open_file(r->fs[i], inode, O_RDONLY, &id)) == 0) {
		fs_settle(r->fs[i]);
		n++;
		assert_true(n <= NOFILE);
	}
	assert_int_equal(e, error);
	return n;
}

static void test_descriptors(void **state)
{
	struct rig *r = *state;
	struct fs_inode *inode[SHARES];
	unsigned n[SHARES];

	for (unsigned i = 0; i < SHARES; i++) {
		struct fs_entry entry;

		assert_int_equal(make(r, i, &entry), 0);
		inode[i] = entry.inode;
		/* Descriptors of inodes are each share's own. */
		for (unsigned k = 0; k < 2 * r->budget.paths; k++)
			assert_int_equal(make(r, i, &entry), 0);
	}
	for (unsigned i = 0; i < SHARES; i++)
		n[i] = open_all(r, i, inode[i], -ENFILE);
	assert_true(n[0] > NOFILE / 4);
	for (unsigned i = 1; i < SHARES; i++)
		assert_true(n[i] >= NOFILE / 4 / SHARES);
	/* There are some for the rest of the monitor. */
	assert_true(open_descriptors() < NOFILE - 200);
	for (unsigned i = 0; i < SHARES; i++) {
		struct fs_lock lock = {
			.owner = {1, false}, .type = F_RDLCK, .end = INT64_MAX};
		struct statx stx;

		assert_int_equal(fs_lock(r->fs[i], inode[i], &lock), -ENOLCK);
		assert_int_equal(fs_getattr(r->fs[i], inode[i], NULL, &stx), 0);
		fs_settle(r->fs[i]);
	}
	fs_reset(r->fs[0]);
	fs_settle(r->fs[0]);
	assert_in_range(open_all(r, 7, inode[7], -ENFILE), n[0] - n[7] - 1,
			n[0]);
}

/* Files that a guest reads without opening them are closed for others. */
static void test_implicit(void **state)
{
	struct rig *r = *state;
	struct fs_inode *inode[100];
	struct fs_handle *handle;

	for (unsigned i = 0; i < ARRAY_LEN(inode); i++) {
		struct fs_entry entry;

		assert_int_equal(make(r, 0, &entry), 0);
		inode[i] = entry.inode;
	}
	for (unsigned i = 1; i < SHARES; i++) {
		struct fs_entry entry;

		assert_int_equal(make(r, i, &entry), 0);
		(void)open_all(r, i, entry.inode, -ENFILE);
	}
	for (unsigned i = 0; i < ARRAY_LEN(inode); i++) {
		assert_int_equal(
			fs_handle_implicit(r->fs[0], inode[i], false, &handle),
			0);
		fs_settle(r->fs[0]);
	}
}

struct worker {
	struct rig *rig;
	unsigned share;
	bool failed;
};

/* Takes and gives back, while others do. */
static void *work(void *arg)
{
	struct worker *w = arg;
	struct fs *fs = w->rig->fs[w->share];
	struct fs_entry entry;

	if (fs_thread_init(fs) < 0)
		w->failed = true;
	for (unsigned round = 0; round < 4 && !w->failed; round++) {
		const unsigned before = w->rig->made[w->share];

		while (make(w->rig, w->share, &entry) == 0 &&
		       w->rig->made[w->share] < before + 3000)
			;
		w->failed = w->rig->made[w->share] == before;
		fs_reset(fs);
		fs_settle(fs);
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct rig *r = *state;
	const uint64_t left = r->budget.bytes.left;
	struct worker w[4];
	pthread_t thread[4];

	for (unsigned i = 0; i < 4; i++) {
		w[i] = (struct worker){r, i, false};
		assert_int_equal(pthread_create(&thread[i], NULL, work, &w[i]),
				 0);
	}
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(thread[i], NULL), 0);
		assert_false(w[i].failed);
	}
	for (unsigned i = 0; i < 4; i++) {
		fs_close(r->fs[i]);
		r->fs[i] = NULL;
	}
	assert_int_equal(r->budget.bytes.left, left);
}

/* So many shares that no file could be opened: a line says so. */
static void test_too_many(void **state)
{
	const struct rlimit few = {.rlim_cur = 1024, .rlim_max = 1024};
	FILE *said;
	int fds[2];
	struct fs_budget budget;
	char text[256] = "";
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		log_setup(LOG_WARN, false);
		if (dup2(fds[1], 2) < 0 || setrlimit(RLIMIT_NOFILE, &few) < 0)
			_exit(1);
		fs_budget_init(&budget, RAM, 10);
		fs_budget_init(&budget, RAM, 48);
		_exit(budget.files.each + budget.files.left == 0 ? 0 : 2);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(fds[1]);
	said = fdopen(fds[0], "r");
	assert_non_null(said);
	assert_non_null(fgets(text, sizeof(text), said));
	assert_non_null(strstr(text, "48 shared directories"));
	assert_non_null(strstr(text, "ulimit -Hn"));
	assert_null(fgets(text, sizeof(text), said));
	fclose(said);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_memory),
		TEST(test_descriptors),
		TEST(test_implicit),
		TEST(test_threads),
		cmocka_unit_test(test_too_many),
	};

	log_setup(LOG_ERROR, false);
	if (setrlimit(RLIMIT_NOFILE, &(struct rlimit){NOFILE, NOFILE}) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
