/* SPDX-License-Identifier: Apache-2.0 */
/* Callers of a machine's socket who say nothing, with no machine behind it. */
#include "tools/container/vm-socket.h"

#include "tests/patience.h"
#include "tests/tempdir.h"
#include "vmm/base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SILENCE_MS 8000 /* longer than the monitor waits for a request */

/* ---- in the place of vm.c */

static struct loop_source *watched;

int vm_watch(struct vm *vm, struct loop_source *source)
{
	(void)vm;
	watched = source;
	return 0;
}

void vm_unwatch(struct vm *vm, struct loop_source *source)
{
	(void)vm;
	(void)source;
	watched = NULL;
}

int vm_pause(struct vm *vm)
{
	(void)vm;
	return 0;
}

int vm_resume(struct vm *vm)
{
	(void)vm;
	return -EALREADY;
}

int vm_save(struct vm *vm, const uint8_t id[16], int state_fd, int memory_fd,
	    int gone_fd, struct vm_saved *saved)
{
	(void)vm;
	(void)id;
	(void)state_fd;
	(void)memory_fd;
	(void)gone_fd;
	(void)saved;
	return -ENOSYS;
}

int vm_save_to(struct vm *vm, const struct vm_save_target *to,
	       struct vm_saved *saved)
{
	(void)vm;
	(void)to;
	(void)saved;
	return -ENOSYS;
}

void vm_end_record(struct vm *vm)
{
	(void)vm;
}

void vm_show(struct vm *vm)
{
	(void)vm;
}

/* ---- */

static int connect_to(const char *path)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(un.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	return fd;
}

/* Waits for the answer to a caller who has sent SENT bytes that are nothing. */
static void expect_refused(const char *path, size_t sent)
{
	static const uint8_t nothing[4];
	const int fd = connect_to(path);
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	struct vm_answer answer;

	assert_int_equal(send(fd, nothing, sent, 0), sent);
	assert_int_equal(poll(&pfd, 1, SILENCE_MS), 1);
	assert_int_equal(recv(fd, &answer, sizeof(answer), 0), sizeof(answer));
	assert_int_equal(answer.result, -EPROTO);
	close(fd);
}

/* The monitor keeps its descriptors: the first one, too. */
static void test_silent(void **state)
{
	struct vm_socket s = VM_SOCKET_NONE;
	struct tempdir dir;
	struct vm_answer answer;

	(void)state;
	if (fcntl(STDIN_FILENO, F_GETFD) < 0)
		assert_int_equal(open("/dev/null", O_RDONLY), STDIN_FILENO);
	assert_true(tempdir_make(&dir, "control"));
	assert_int_equal(vm_socket_open(&s, dir.path), 0);
	assert_int_equal(vm_socket_start(&s, NULL), 0);
	watched->fn(watched, 0);
	assert_null(watched);
	expect_refused(dir.path, 4);
	expect_refused(dir.path, 0);
	assert_true(fcntl(STDIN_FILENO, F_GETFD) >= 0);
	/* And is there for the next one. */
	assert_int_equal(vm_socket_ask(dir.path, VM_REQUEST_RESUME, NULL, NULL,
				       PATIENCE_MS, &answer),
			 0);
	assert_int_equal(answer.result, -EALREADY);
	vm_socket_done(&s);
	assert_true(tempdir_remove(&dir));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_silent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
