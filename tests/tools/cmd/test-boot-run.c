/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead boot` with VMs that are none: what its processes make of a signal
 * in each phase of a VM's life, and between two of them.
 */
#include "tests/patience.h"
#include "tools/cmd/boot.h"
#include "tools/container/vm-socket.h"
#include "vmm/config/config.h"
#include "vmm/base/log.h"
#include "vmm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- VMs: what they are to do is in the configuration's name */

static char is_up = 'u';

static bool does(const char *name, const char *what)
{
	return strcmp(name, what) == 0;
}

/* Begins and ends the handling of signals as a VM does. */
static int await_signal(void)
{
	sigset_t set, before;
	int signal;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, &before);
	sigwait(&set, &signal);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return 128 + signal;
}

int vm_build(const struct config *cfg, struct vm **ret_vm)
{
	/* Before it takes any. */
	if (does(cfg->name, "resized early"))
		kill(getpid(), SIGUSR1);
	*ret_vm = (struct vm *)(uintptr_t)cfg;
	return VM_EXIT_OK;
}

/* None of these VMs is restored, or can be reached. */

const struct sandbox_rule vm_socket_syscalls[] = {SANDBOX_END};

int vm_build_restored(const struct config *cfg, const struct snapshot *snapshot,
		      struct vm **ret_vm)
{
	(void)cfg;
	(void)snapshot;
	(void)ret_vm;
	return VM_EXIT_HOST;
}

void vm_allow(struct vm *vm, const struct sandbox_rule *rules)
{
	(void)vm;
	(void)rules;
}

int vm_start(struct vm *vm)
{
	(void)vm;
	return 0;
}

int vm_exit_status(int error)
{
	(void)error;
	return VM_EXIT_HOST;
}

int vm_socket_open(struct vm_socket *s, const char *path)
{
	(void)s;
	(void)path;
	return -ENOSYS;
}

int vm_socket_start(struct vm_socket *s, struct vm *vm)
{
	(void)s;
	(void)vm;
	return -ENOSYS;
}

void vm_socket_done(struct vm_socket *s)
{
	(void)s;
}

int vm_run(struct vm *vm)
{
	const char *name = ((const struct config *)(void *)vm)->name;

	if (does(name, "told by the parent")) {
		kill(getppid(), SIGTERM);
		(void)await_signal();
	} else if (does(name, "at a terminal")) {
		/* Like a VM that began after the keys were pressed. */
		setpgid(0, 0);
		(void)!write(STDOUT_FILENO, &is_up, 1);
		return await_signal();
	}
	return VM_EXIT_OK;
}

bool vm_rebooted(struct vm *vm)
{
	const char *name = ((const struct config *)(void *)vm)->name;

	return does(name, "told by the parent") || does(name, "told too late");
}

void vm_free(struct vm *vm)
{
	const char *name = ((const struct config *)(void *)vm)->name;

	/* After it took the last. */
	if (does(name, "resized late"))
		kill(getpid(), SIGUSR1);
	if (does(name, "told too late"))
		kill(getpid(), SIGTERM);
}

/* ---- the tests */

static int run_vm(enum config_reboot on_reboot, const char *name)
{
	const struct config cfg = {
		.on_reboot = on_reboot,
		.name = (char *)(uintptr_t)name,
	};

	/* Ends a VM that gets no signal, or that boots for ever. */
	alarm(PATIENCE_MS / 1000);
	return boot_run(&cfg, NULL);
}

static void expect_status(pid_t pid, int wanted)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), wanted);
}

static void check(enum config_reboot on_reboot, const char *name, int wanted)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(run_vm(on_reboot, name));
	expect_status(pid, wanted);
}

static void test_signal_at_reboot(void **state)
{
	(void)state;
	check(CONFIG_REBOOT_RESTART, "told by the parent", 128 + SIGTERM);
}

/* The VM's own process gets it when nobody reads signals any more. */
static void test_signal_after_reboot(void **state)
{
	(void)state;
	check(CONFIG_REBOOT_RESTART, "told too late", 128 + SIGTERM);
}

/* A disk has grown: no VM takes that yet, or any more. */
static void test_growth_in_any_phase(void **state)
{
	static const char *const when[] = {"resized early", "resized late"};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(when); i++) {
		check(CONFIG_REBOOT_EXIT, when[i], VM_EXIT_OK);
		check(CONFIG_REBOOT_RESTART, when[i], VM_EXIT_OK);
	}
}

/*
 * Ctrl-C reaches the processes that the terminal has then: not a VM that is
 * made a moment later.
 */
static void test_terminal_between_boots(void **state)
{
	const uint64_t start_ns = util_now_ns();
	char buf = 0;
	int master;
	pid_t pid;

	(void)state;
	fflush(NULL);
	pid = forkpty(&master, NULL, NULL, NULL);
	assert_true(pid >= 0);
	if (pid == 0) {
		_exit(run_vm(CONFIG_REBOOT_RESTART, "at a terminal"));
	}
	while (buf != is_up && patience_ms_since(start_ns) < PATIENCE_MS)
		assert_int_equal(read(master, &buf, 1), 1);
	assert_int_equal(write(master, "\003", 1), 1);
	expect_status(pid, 128 + SIGINT);
	close(master);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_signal_at_reboot),
		cmocka_unit_test(test_signal_after_reboot),
		cmocka_unit_test(test_growth_in_any_phase),
		cmocka_unit_test(test_terminal_between_boots),
	};

	log_setup(LOG_ERROR, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
