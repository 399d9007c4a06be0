/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead boot --on-reboot restart` with VMs that are none: what its process
 * makes of a signal.
 */
#include "tools/boot.h"
#include "vmm/config.h"
#include "vmm/log.h"
#include "vmm/vm.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- a VM that is told to end when its guest has rebooted */

int vm_build(const struct config *cfg, struct vm **ret_vm)
{
	(void)cfg;
	(void)ret_vm;
	return VM_EXIT_OK;
}

int vm_run(struct vm *vm)
{
	sigset_t set;
	int signal;

	(void)vm;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	kill(getppid(), SIGTERM);
	/* Until it is passed on. */
	sigwait(&set, &signal);
	return VM_EXIT_OK;
}

bool vm_rebooted(struct vm *vm)
{
	(void)vm;
	return true;
}

void vm_free(struct vm *vm)
{
	(void)vm;
}

/* ---- the test */

static void test_signal_at_reboot(void **state)
{
	const struct config cfg = {.on_reboot = CONFIG_REBOOT_RESTART};
	int status;
	pid_t pid;

	(void)state;
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(boot_run(&cfg));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 128 + SIGTERM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_signal_at_reboot),
	};

	log_setup(LOG_ERROR, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
