/* SPDX-License-Identifier: Apache-2.0 */
/* RAM that comes from a compressed snapshot as it is touched, or at once. */
#include "vmm/pager.h"

#include "tests/tempdir.h"
#include "vmm/base/descriptors.h"
#include "vmm/base/mem.h"
#include "vmm/base/util.h"
#include "vmm/memory-copy.h"
#include "vmm/pagemap.h"
#include "vmm/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define BYTES (32 * MIB)
#define PAGE  4096
#define ENDED 77 /* the status of a process whose pager gives up */

struct rig {
	uid_t server_uid;   /* of the process that has the memory */
	struct tempdir dir; /* its path: the state's file */
	char memory[2 * TEMPDIR_ROOM], socket[TEMPDIR_ROOM + 16];
	struct mem was, mem;
	struct snapshot snapshot;
	struct pager pager;
	int pagemap;
};

static bool goes_on(void *arg)
{
	(void)arg;
	return false;
}

static bool stops_at_once(void *arg)
{
	(void)arg;
	return true;
}

static void give_up(void)
{
	_exit(ENDED);
}

/* MEM as it is, in FD, compressed if PACKED is one; in SNAPSHOT's state. */
static void save(struct rig *rig, const struct mem *mem, int pagemap)
{
	char config[] = "{}", directory[] = "/", state[] = "state";
	const int plain = memfd_create("plain", MFD_CLOEXEC);
	struct snapshot s = {
		.config = config,
		.directory = directory,
		.state = (uint8_t *)state,
		.state_bytes = sizeof(state),
		.memory_fd = plain,
	};
	autofd int packed =
		open(rig->memory, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	autofd int file = open(rig->dir.path,
			       O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct memory_copy copy;
	uint64_t bytes;

	memset(s.id, 9, sizeof(s.id));
	/* As a live snapshot does: a process that has no pager. */
	assert_int_equal(memory_copy_start(&copy, &s, plain, mem, pagemap, -1),
			 0);
	assert_int_equal(memory_copy_wait(&copy, -1, goes_on, NULL, &s, &bytes),
			 0);
	assert_int_equal(snapshot_compress(&s, packed, goes_on, NULL, &bytes),
			 0);
	assert_int_equal(snapshot_write_state(&s, file), 0);
	close(plain);
}

static void open_again(struct rig *rig)
{
	const struct mem_options small = {.small_pages = true};

	pager_done(&rig->pager);
	mem_done(&rig->mem);
	snapshot_close(&rig->snapshot);
	assert_int_equal(snapshot_open(&rig->snapshot, rig->dir.dir), 0);
	assert_true(rig->snapshot.compressed);
	assert_int_equal(mem_init(&rig->mem, BYTES, &small), 0);
}

static void start(struct rig *rig, bool confined)
{
	const int uffd = pager_open();

	if (uffd == -EPERM || uffd == -ENOSYS)
		skip();
	assert_true(uffd >= 0);
	assert_int_equal(pager_start(&rig->pager, &rig->snapshot, &rig->mem,
				     confined, uffd, give_up),
			 0);
}

static int setup(void **state)
{
	const struct mem_options none = {0};
	struct rig *rig = calloc(1, sizeof(*rig));
	uint8_t *ram;

	assert_non_null(rig);
	assert_true(tempdir_make(&rig->dir, SNAPSHOT_STATE_FILE));
	snprintf(rig->memory, sizeof(rig->memory), "%s/%s", rig->dir.dir,
		 SNAPSHOT_MEMORY_FILE);
	snprintf(rig->socket, sizeof(rig->socket), "%s/pages", rig->dir.dir);
	assert_int_equal(mem_init(&rig->was, BYTES, &none), 0);
	ram = rig->was.region[0].host;
	/* Pages among zeros, zeros among pages, a gap, and the end. */
	for (size_t at = 0; at < 4 * MIB; at += 3 * PAGE)
		memset(ram + at, (int)(at / PAGE) | 1, PAGE);
	memset(ram + 8 * MIB, 0x77, 4 * CHUNK_BYTES);
	memset(ram + 9 * MIB, 0x78, 1);
	ram[BYTES - 1] = 0x33;
	rig->snapshot.memory_fd = -1;
	rig->pagemap = pagemap_open();
	assert_true(rig->pagemap >= 0);
	save(rig, &rig->was, rig->pagemap);
	open_again(rig);
	rig->server_uid = geteuid();
	*state = rig;
	return 0;
}

static int teardown(void **state)
{
	struct rig *rig = *state;

	pager_done(&rig->pager);
	mem_done(&rig->mem);
	mem_done(&rig->was);
	snapshot_close(&rig->snapshot);
	close(rig->pagemap);
	(void)unlink(rig->memory);
	(void)unlink(rig->socket);
	(void)unlink(rig->dir.path);
	assert_true(tempdir_remove(&rig->dir));
	free(rig);
	return 0;
}

static bool is_there(const struct rig *rig, size_t at)
{
	uint64_t entry;

	assert_int_equal(
		util_read_at(rig->pagemap, &entry, sizeof(entry),
			     ((uintptr_t)rig->mem.region[0].host + at) / PAGE *
				     sizeof(entry)),
		0);
	return entry & PAGEMAP_PRESENT;
}

static void expect_all(const struct rig *rig)
{
	assert_memory_equal(rig->mem.region[0].host, rig->was.region[0].host,
			    BYTES);
}

/* A chunk comes when one of its pages is touched, and no other does. */
static void test_touched(void **state)
{
	struct rig *rig = *state;
	volatile uint8_t *ram = rig->mem.region[0].host;

	assert_int_equal(snapshot_verify(&rig->snapshot), 0);
	start(rig, false);
	/* The caller may close its own at once. */
	snapshot_close(&rig->snapshot);
	assert_false(is_there(rig, 0));
	assert_int_equal(ram[8 * MIB + CHUNK_BYTES + 5], 0x77);
	assert_true(is_there(rig, 8 * MIB + CHUNK_BYTES));
	assert_false(is_there(rig, 8 * MIB));
	ram[0] = 0x99;
	assert_int_equal(ram[3 * PAGE], 3);
	assert_int_equal(ram[PAGE], 0);
	ram[0] = 1;
	expect_all(rig);
	/* It is memory like any other now: a page that is given back is zero.
	 */
	assert_int_equal(madvise(rig->mem.region[0].host, PAGE, MADV_DONTNEED),
			 0);
	assert_int_equal(ram[0], 0);
}

static void *sum_up(void *arg)
{
	const struct rig *rig = arg;
	volatile const uint8_t *ram = rig->mem.region[0].host;
	uintptr_t sum = 0;

	for (size_t at = 0; at < BYTES; at += PAGE)
		sum += ram[at];
	return (void *)sum;
}

/* Several threads at once, and the kernel for one of them. */
static void test_at_once(void **state)
{
	struct rig *rig = *state;
	autofd int to = memfd_create("to", MFD_CLOEXEC);
	pthread_t thread[4];
	void *sum;

	start(rig, false);
	for (unsigned i = 0; i < ARRAY_LEN(thread); i++)
		assert_int_equal(pthread_create(&thread[i], NULL, sum_up, rig),
				 0);
	assert_int_equal(write(to, rig->mem.region[0].host, BYTES), BYTES);
	for (unsigned i = 0; i < ARRAY_LEN(thread); i++) {
		assert_int_equal(pthread_join(thread[i], &sum), 0);
		assert_int_equal((uintptr_t)sum, (uintptr_t)sum_up(rig));
	}
	expect_all(rig);
}

static void test_load_all(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(pager_load_all(&rig->snapshot, &rig->mem), 0);
	expect_all(rig);
}

/* The next snapshot has the pages that nobody has touched, too. */
static void test_saved_again(void **state)
{
	struct rig *rig = *state;

	start(rig, false);
	rig->mem.region[0].host[5 * MIB] = 0x44;
	rig->was.region[0].host[5 * MIB] = 0x44;
	assert_int_equal(pager_bring_in_all(&rig->pager, stops_at_once, NULL),
			 -EINTR);
	assert_int_equal(pager_bring_in_all(&rig->pager, goes_on, NULL), 0);
	assert_int_equal(pager_bring_in_all(&rig->pager, goes_on, NULL), 0);
	assert_true(is_there(rig, 8 * MIB));
	assert_false(is_there(rig, 20 * MIB));
	save(rig, &rig->mem, rig->pagemap);
	open_again(rig);
	start(rig, false);
	expect_all(rig);
}

static bool has_uffd(struct rig *rig)
{
	const int uffd = pager_open();

	if (uffd < 0)
		return false;
	close(uffd);
	return mem_inherit(&rig->mem, true) == 0 &&
	       mem_inherit(&rig->was, true) == 0;
}

/* In a process of its own: how it ends when it touches all. */
static int status_of(struct rig *rig, bool confined)
{
	const pid_t pid = fork();
	int status;

	if (pid == 0) {
		start(rig, confined);
		expect_all(rig);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void test_confined(void **state)
{
	struct rig *rig = *state;

	if (!has_uffd(rig))
		skip();
	assert_int_equal(status_of(rig, true), 0);
}

/*
 * The process's sandbox comes at once, and allows less: a thread that was not
 * in its own yet could not enter that any more.
 */
static void test_confined_soon(void **state)
{
	static const struct sandbox_rule *const none[] = {NULL};
	struct rig *rig = *state;
	int status;
	pid_t pid;

	if (!has_uffd(rig))
		skip();
	for (unsigned i = 0; i < 20; i++) {
		pid = fork();
		if (pid == 0) {
			start(rig, true);
			pager_await(&rig->pager);
			if (sandbox_enter(none, ARRAY_LEN(none)) < 0)
				_exit(1);
			expect_all(rig);
			/* As a machine does whose RAM is other memory now. */
			pager_done(&rig->pager);
			_exit(0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
	}
}

/* The process ends, and nobody finds zeros. */
static void test_damaged(void **state)
{
	struct rig *rig = *state;
	uint8_t was[64], bad[64];

	if (!has_uffd(rig))
		skip();
	memset(bad, 0xff, sizeof(bad));
	for (uint64_t at = 3; at < 3000; at += 1499) {
		autofd int fd = open(rig->memory, O_RDWR);

		assert_int_equal(util_read_at(fd, was, sizeof(was), at), 0);
		assert_int_equal(util_write_at(fd, bad, sizeof(bad), at), 0);
		assert_int_equal(snapshot_verify(&rig->snapshot), -EBADMSG);
		assert_int_equal(status_of(rig, true), ENDED);
		assert_int_equal(pager_load_all(&rig->snapshot, &rig->was),
				 -EBADMSG);
		assert_int_equal(util_write_at(fd, was, sizeof(was), at), 0);
	}
	assert_int_equal(truncate(rig->memory, 100), 0);
	assert_int_equal(status_of(rig, true), ENDED);
}

/* ---- memory of another process */

static void serve(const struct rig *rig, int uffd, int64_t host, unsigned left)
{
	struct pollfd pfd = {.fd = uffd, .events = POLLIN};
	struct uffd_msg message;

	for (; left > 0 && poll(&pfd, 1, -1) > 0; left--) {
		struct uffdio_copy copy = {.len = PAGE};

		if (read(uffd, &message, sizeof(message)) != sizeof(message))
			continue;
		copy.dst = message.arg.pagefault.address & ~(PAGE - 1ull);
		copy.src = (uintptr_t)rig->was.region[0].host + copy.dst -
			   (uint64_t)host;
		(void)ioctl(uffd, UFFDIO_COPY, &copy);
	}
}

/*
 * A process that serves COUNT pages, and then ends; or, with CLOSES, has
 * nothing but the descriptor.
 */
static pid_t serve_pages(const struct rig *rig, unsigned count, bool closes)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	char text[1024] = "";
	int64_t host, bytes;
	int ready[2], uffd;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
		int connection;

		strcpy(un.sun_path, rig->socket);
		(void)unlink(un.sun_path);
		if (bind(fd, (struct sockaddr *)&un, sizeof(un)) < 0 ||
		    setresuid(rig->server_uid, rig->server_uid,
			      rig->server_uid) < 0 ||
		    listen(fd, 1) < 0 || write(ready[1], "", 1) != 1)
			_exit(1);
		connection = accept(fd, NULL, NULL);
		if (descriptors_receive(connection, text, sizeof(text) - 1,
					&uffd, 1, 0) <= 0 ||
		    sscanf(text,
			   "[{\"base_host_virt_addr\":%" SCNi64
			   ",\"size\":%" SCNi64 ",\"offset\":0,"
			   "\"page_size\":4096,\"page_size_kib\":4096}]",
			   &host, &bytes) != 2 ||
		    bytes != (int64_t)BYTES)
			_exit(2);
		if (closes)
			close(connection);
		serve(rig, uffd, host, count);
		_exit(0);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], text, 1), 1);
	close(ready[0]);
	return pid;
}

static int connect_pager(struct rig *rig, bool confined)
{
	return pager_connect(&rig->pager, rig->socket, &rig->mem, confined,
			     pager_open(), give_up);
}

static void test_server(void **state)
{
	struct rig *rig = *state;
	pid_t pid;

	if (!has_uffd(rig))
		skip();
	pid = serve_pages(rig, UINT_MAX, true);
	assert_int_equal(connect_pager(rig, false), 0);
	assert_int_equal(rig->mem.region[0].host[8 * MIB], 0x77);
	assert_false(is_there(rig, 9 * MIB));
	assert_int_equal(pager_bring_in_all(&rig->pager, goes_on, NULL), 0);
	assert_true(is_there(rig, 9 * MIB));
	expect_all(rig);
	pager_done(&rig->pager);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	/* Nobody is there. */
	mem_done(&rig->mem);
	assert_int_equal(mem_init(&rig->mem, BYTES, &(struct mem_options){0}),
			 0);
	assert_int_equal(connect_pager(rig, false), -ECONNREFUSED);
}

/* The process ends with its server, and nobody finds zeros. */
static void test_server_ends(void **state)
{
	struct rig *rig = *state;
	pid_t server, pid;
	int status;

	if (!has_uffd(rig))
		skip();
	for (unsigned i = 0; i < 2; i++) {
		server = serve_pages(rig, 20, i == 1);
		pid = fork();
		if (pid == 0) {
			assert_int_equal(connect_pager(rig, true), 0);
			expect_all(rig);
			_exit(0);
		}
		/* Its end is seen at once, though nobody has waited for it. */
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), ENDED);
		assert_int_equal(waitpid(server, &status, 0), server);
	}
}

/* It would have the monitor's memory in its hands. */
static void test_server_of_another(void **state)
{
	struct rig *rig = *state;
	pid_t server;
	int status;

	if (!has_uffd(rig) || geteuid() != 0)
		skip();
	rig->server_uid = 65534;
	server = serve_pages(rig, UINT_MAX, false);
	assert_int_equal(connect_pager(rig, false), -EPERM);
	pager_done(&rig->pager);
	/* It got nothing. */
	assert_int_equal(waitpid(server, &status, 0), server);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 2);
}

/* A server that lives and does not answer is not waited for for ever. */
static void test_server_stuck(void **state)
{
	struct rig *rig = *state;
	pid_t server, pid;
	sigset_t set;
	int status;

	if (!has_uffd(rig))
		skip();
	server = serve_pages(rig, UINT_MAX, false);
	pid = fork();
	if (pid == 0) {
		sigemptyset(&set);
		sigaddset(&set, SIGTERM);
		sigprocmask(SIG_BLOCK, &set, NULL);
		assert_int_equal(connect_pager(rig, true), 0);
		pager_await(&rig->pager);
		kill(server, SIGSTOP);
		kill(getpid(), SIGTERM);
		expect_all(rig);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	kill(server, SIGKILL);
	assert_int_equal(waitpid(server, NULL, 0), server);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), ENDED);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_touched),       TEST(test_at_once),
		TEST(test_load_all),      TEST(test_saved_again),
		TEST(test_confined),      TEST(test_damaged),
		TEST(test_server),        TEST(test_server_ends),
		TEST(test_confined_soon), TEST(test_server_of_another),
		TEST(test_server_stuck),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
