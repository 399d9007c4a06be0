/* SPDX-License-Identifier: Apache-2.0 */
/* The sandbox: what still works inside, and what ends the process. */
#include "vmm/base/sandbox.h"

#include "devices/host/terminal.h"
#include "devices/virtio/virtio.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* Runs FN in a child whose sandbox has LIST besides: its wait status. */
static int sandboxed(void (*fn)(void), const struct sandbox_rule *list)
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

#define ALLOCATING 32

static pthread_barrier_t allocated;

static void *allocates(void *arg)
{
	void *volatile p = malloc(100);

	(void)arg;
	pthread_barrier_wait(&allocated);
	free(p);
	return NULL;
}

/* As the threads of many shares do, each of which gets an arena. */
static void do_allocate_in_threads(void)
{
	pthread_t thread[ALLOCATING];

	pthread_barrier_init(&allocated, NULL, ALLOCATING);
	for (unsigned i = 0; i < ALLOCATING; i++) {
		if (pthread_create(&thread[i], NULL, allocates, NULL))
			_exit(1);
	}
	for (unsigned i = 0; i < ALLOCATING; i++)
		pthread_join(thread[i], NULL);
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

/* Calls that only a device needs, or nobody. */
static void do_set_terminal(void)
{
	(void)ioctl(0, TCSETS, NULL);
}

static void do_discard(void)
{
	(void)ioctl(0, BLKDISCARD, NULL);
}

static void do_zero_out(void)
{
	(void)ioctl(0, BLKZEROOUT, NULL);
}

static void do_set_offload(void)
{
	(void)ioctl(0, TUNSETOFFLOAD, 0);
}

static void do_make_vm(void)
{
	(void)ioctl(0, KVM_CREATE_VM, 0);
}

static void do_submit(void)
{
	(void)syscall(SYS_io_submit, 0, 0, NULL);
}

static void do_allocate(void)
{
	(void)fallocate(0, 0, 0, 1);
}

static void do_own_signals(void)
{
	signal(SIGUSR1, SIG_IGN);
	if (raise(SIGUSR1) || pthread_kill(pthread_self(), SIGUSR1))
		_exit(1);
}

/* The parent is another process of this user. */
static pid_t parent;

static void do_foreign_signal(void)
{
	(void)syscall(SYS_tgkill, parent, parent, 0);
}

static void do_foreign_signal_by_thread(void)
{
	(void)syscall(SYS_tkill, parent, 0);
}

static void do_owner_of_signals(void)
{
	(void)fcntl(0, F_SETOWN, parent);
}

static void do_schedule(void)
{
	const struct sched_param param = {0};

	(void)syscall(SYS_sched_setscheduler, 0, SCHED_BATCH, &param);
}

static void do_foreign_schedule(void)
{
	const struct sched_param param = {0};

	(void)syscall(SYS_sched_setscheduler, parent, SCHED_BATCH, &param);
}

static void do_datagram_socket(void)
{
	(void)socket(AF_UNIX, SOCK_DGRAM, 0);
}

static void do_connect(void)
{
	const struct sockaddr_un un = {.sun_family = AF_UNIX};

	(void)connect(0, (const struct sockaddr *)&un, sizeof(un));
}

/* A thread, but in a network of its own. */
static void do_thread_in_namespace(void)
{
	(void)syscall(SYS_clone,
		      CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | CLONE_NEWNET, 0,
		      0, 0, 0);
}

static void do_foreign_limits(void)
{
	(void)syscall(SYS_prlimit64, parent, RLIMIT_CPU, NULL, NULL);
}

static bool exits_with_0(void (*fn)(void), const struct sandbox_rule *list)
{
	const int status = sandboxed(fn, list);

	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool dies(void (*fn)(void), const struct sandbox_rule *list)
{
	const int status = sandboxed(fn, list);

	return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}

static void test_allowed(void **state)
{
	(void)state;
	assert_true(exits_with_0(do_allowed, NULL));
	assert_true(exits_with_0(do_allocate_in_threads, NULL));
	assert_true(exits_with_0(do_own_signals, NULL));
}

#define NAMED(fn)                                                              \
	{                                                                      \
		fn, #fn                                                        \
	}

static void test_forbidden(void **state)
{
	static const struct {
		void (*fn)(void);
		const char *name;
	} forbidden[] = {
		NAMED(do_socket),
		NAMED(do_unix_socket),
		NAMED(do_fork),
		NAMED(do_exec),
		NAMED(do_executable_memory),
		NAMED(do_type_into_terminal),
		NAMED(do_set_terminal),
		NAMED(do_discard),
		NAMED(do_zero_out),
		NAMED(do_set_offload),
		NAMED(do_make_vm),
		NAMED(do_submit),
		NAMED(do_allocate),
		NAMED(do_foreign_signal),
		NAMED(do_foreign_signal_by_thread),
		NAMED(do_owner_of_signals),
		NAMED(do_schedule),
		NAMED(do_foreign_schedule),
		NAMED(do_thread_in_namespace),
		NAMED(do_foreign_limits),
	};

	(void)state;
	parent = getpid();
	for (unsigned i = 0; i < sizeof(forbidden) / sizeof(*forbidden); i++)
		if (!dies(forbidden[i].fn, NULL))
			fail_msg("%s() is allowed", forbidden[i].name);
}

/* Calls that a device's lists allow, and no more of the same call. */
static void test_lists(void **state)
{
	static const struct sandbox_rule list[] = {
		{.call = SYS_socket,
		 .when = {{SANDBOX_EQUALS, 0, AF_UNIX},
			  {SANDBOX_EQUALS, 1, SOCK_STREAM},
			  {SANDBOX_EQUALS, 2, 0}}},
		{.call = SYS_sched_setscheduler,
		 .when = {{SANDBOX_EQUALS, 0, 0},
			  {SANDBOX_WITHIN, 1, SCHED_BATCH}}},
		SANDBOX_CALL(shutdown),
		SANDBOX_IOCTL(BLKDISCARD),
		SANDBOX_END,
	};

	(void)state;
	parent = getpid();
	assert_true(exits_with_0(do_unix_socket, list));
	assert_true(exits_with_0(do_schedule, list));
	assert_true(exits_with_0(do_discard, list));
	assert_true(dies(do_socket, list));
	assert_true(dies(do_datagram_socket, list));
	assert_true(dies(do_foreign_schedule, list));
	assert_true(dies(do_zero_out, list));
	assert_true(dies(do_fork, list));
}

/* A device's own rules, as it has them: of one kind of device, not all. */
static void test_devices(void **state)
{
	const struct sandbox_rule *blk = virtio_find("blk")->syscalls;
	const struct sandbox_rule *vsock = virtio_find("vsock")->syscalls;

	(void)state;
	parent = getpid();
	assert_true(exits_with_0(do_schedule, blk));
	assert_true(dies(do_foreign_schedule, blk));
	assert_true(dies(do_discard, blk)); /* a disk that is a device only */
	assert_true(dies(do_zero_out, blk));
	assert_true(dies(do_schedule, vsock));
	assert_true(dies(do_unix_socket, vsock)); /* connect= does without */
	assert_true(dies(do_connect, vsock));
	assert_true(exits_with_0(do_set_terminal, terminal_syscalls));
	assert_true(dies(do_type_into_terminal, terminal_syscalls));
	assert_true(dies(do_owner_of_signals, virtio_find("fs")->syscalls));
}

static sem_t confined, opened;

static void *thread_opens(void *arg)
{
	static const struct sandbox_rule rules[] = {SANDBOX_CALL(openat),
						    SANDBOX_END};
	static const struct sandbox_rule *const list = rules;

	(void)arg;
	if (sandbox_enter_thread(&list, 1, 0) < 0)
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
	const struct sandbox_rule *none = NULL;
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
		cmocka_unit_test(test_devices),
		cmocka_unit_test(test_thread),
	};

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	/* The sanitizers' own system calls are not on the list. */
	puts("skipped: sanitizers need system calls the sandbox forbids");
	return 77;
#endif
	return cmocka_run_group_tests(tests, NULL, NULL);
}
