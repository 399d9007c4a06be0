/* SPDX-License-Identifier: Apache-2.0 */
/* The sandbox: what still works inside, and what ends the process. */
#include "vmm/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* Runs FN in a child whose sandbox has LIST besides: its wait status. */
static int sandboxed(void (*fn)(void), const uint32_t *list)
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0) {
		signal(SIGSYS, SIG_DFL); /* cmocka catches it */
		if (sandbox_enter(&list, 1) < 0)
			_exit(99);
		fn();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

static void *nothing(void *arg)
{
	return arg;
}

static void do_allowed(void)
{
	pthread_t thread;
	char *p = malloc(1 << 20);

	if (!p || pthread_create(&thread, NULL, nothing, NULL) ||
	    pthread_join(thread, NULL))
		_exit(1);
	free(p);
	if (open("/etc/passwd", O_RDONLY) >= 0 || errno != EACCES)
		_exit(2);
}

static void do_socket(void)
{
	(void)socket(AF_INET, SOCK_STREAM, 0);
}

static void do_unix_socket(void)
{
	if (socket(AF_UNIX, SOCK_STREAM, 0) < 0)
		_exit(1);
}

static void do_fork(void)
{
	(void)fork();
}

static void do_exec(void)
{
	execl("/bin/true", "true", (char *)NULL);
}

static void do_executable_memory(void)
{
	(void)mmap(NULL, 4096, PROT_READ | PROT_EXEC,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void do_type_into_terminal(void)
{
	(void)ioctl(0, TIOCSTI, "x");
}

static void test_allowed(void **state)
{
	int status = sandboxed(do_allowed, NULL);

	(void)state;
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_forbidden(void **state)
{
	void (*const forbidden[])(void) = {
		do_socket, do_unix_socket,       do_fork,
		do_exec,   do_executable_memory, do_type_into_terminal};

	(void)state;
	for (unsigned i = 0; i < sizeof(forbidden) / sizeof(*forbidden); i++) {
		int status = sandboxed(forbidden[i], NULL);

		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), SIGSYS);
	}
}

/* What a device may do besides; sockets of the network never. */
static void test_lists(void **state)
{
	static const uint32_t list[] = {SYS_socket, SYS_shutdown, SANDBOX_END};
	int status = sandboxed(do_unix_socket, list);

	(void)state;
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	status = sandboxed(do_socket, list);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSYS);
	status = sandboxed(do_fork, list);
	assert_true(WIFSIGNALED(status));
}

static sem_t confined, opened;

static void *thread_opens(void *arg)
{
	static const uint32_t list[] = {SYS_openat, SANDBOX_END};

	(void)arg;
	if (sandbox_enter_thread(list, 0) < 0)
		_exit(3);
	sem_post(&confined);
	sem_wait(&opened); /* the main thread is confined, too */
	if (open("/etc/passwd", O_RDONLY) < 0)
		_exit(4);
	sem_post(&confined);
	return NULL;
}

/* In the child: one thread may open files, the others may not. */
static int with_thread(void)
{
	const uint32_t *none = NULL;
	pthread_t thread;

	sem_init(&confined, 0, 0);
	sem_init(&opened, 0, 0);
	if (pthread_create(&thread, NULL, thread_opens, NULL))
		return 5;
	sem_wait(&confined);
	if (sandbox_enter(&none, 1) < 0)
		return 6;
	if (open("/etc/passwd", O_RDONLY) >= 0 || errno != EACCES)
		return 7;
	sem_post(&opened);
	pthread_join(thread, NULL);
	do_socket();
	return 8;
}

static void test_thread(void **state)
{
	const pid_t child = fork();
	int status;

	(void)state;
	assert_true(child >= 0);
	if (child == 0) {
		signal(SIGSYS, SIG_DFL);
		_exit(with_thread());
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_allowed),
		cmocka_unit_test(test_forbidden),
		cmocka_unit_test(test_lists),
		cmocka_unit_test(test_thread),
	};

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	/* The sanitizers' own system calls are not on the list. */
	puts("skipped: sanitizers need system calls the sandbox forbids");
	return 77;
#endif
	return cmocka_run_group_tests(tests, NULL, NULL);
}
