/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of `bulkhead boot`'s VM, or of one after the other with --on-reboot
 * restart. Then each VM has a process of its own, which this one waits for: a
 * sandbox cannot be left again, and nothing that a guest could have touched
 * lives on.
 */
#include "tools/boot.h"

#include "vmm/config.h"
#include "vmm/log.h"
#include "vmm/util.h"
#include "vmm/vm.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static int run_once(const struct config *cfg, bool *ret_rebooted)
{
	struct vm *vm = NULL;
	int status = vm_build(cfg, &vm);

	if (status == VM_EXIT_OK)
		status = vm_run(vm);
	*ret_rebooted = vm_rebooted(vm);
	vm_free(vm);
	return status;
}

/* The parent's own, for all of its VMs. */
struct keeper {
	sigset_t signals, before; /* taken by this process; its mask before */
	bool *rebooted;           /* shared: the child's last word */
	int ending;               /* the signal that told it to; 0: none */
};

/*
 * The signal for the parent's death is set before the parent is looked at: it
 * may die at any time.
 */
static int run_child(const struct config *cfg, const struct keeper *keeper,
		     pid_t parent)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		return VM_EXIT_HOST;
	sigprocmask(SIG_SETMASK, &keeper->before, NULL);
	return run_once(cfg, keeper->rebooted);
}

static int exit_status(int wait_status)
{
	return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status)
				      : 128 + WTERMSIG(wait_status);
}

/*
 * Passes on what somebody sent to this process alone: the terminal's signals
 * go to the child by themselves.
 */
static int wait_child(struct keeper *keeper, pid_t child)
{
	int wait_status;

	for (;;) {
		siginfo_t info;
		const int signal = sigwaitinfo(&keeper->signals, &info);
		const pid_t ended = waitpid(child, &wait_status, WNOHANG);

		if (signal > 0 && signal != SIGCHLD && signal != SIGUSR1)
			keeper->ending = signal;
		if (ended != 0)
			break;
		if (signal > 0 && signal != SIGCHLD && info.si_code <= 0)
			(void)kill(child, signal);
	}
	return exit_status(wait_status);
}

static int keep(const struct config *cfg, struct keeper *keeper)
{
	const pid_t parent = getpid();
	int status;

	do {
		pid_t child;

		*keeper->rebooted = false;
		child = fork();
		if (child == 0)
			_exit(run_child(cfg, keeper, parent));
		if (child < 0)
			return log_ret(VM_EXIT_HOST,
				       "cannot start the monitor: %s",
				       strerror(errno));
		status = wait_child(keeper, child);
	} while (*keeper->rebooted && !keeper->ending);
	/* The signal came too late for the VM, but not for the next one. */
	return *keeper->rebooted ? 128 + keeper->ending : status;
}

int boot_run(const struct config *cfg)
{
	static const int taken[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};
	struct keeper keeper = {
		.signals = util_signals(taken, ARRAY_LEN(taken)),
	};
	bool rebooted;
	int status;

	if (cfg->on_reboot == CONFIG_REBOOT_EXIT)
		return run_once(cfg, &rebooted);
	keeper.rebooted =
		mmap(NULL, sizeof(*keeper.rebooted), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (keeper.rebooted == MAP_FAILED)
		return log_ret(VM_EXIT_HOST, "out of memory");
	/* Ignored, it would have the kernel collect the child unseen. */
	(void)signal(SIGCHLD, SIG_DFL);
	sigaddset(&keeper.signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &keeper.signals, &keeper.before);
	status = keep(cfg, &keeper);
	sigprocmask(SIG_SETMASK, &keeper.before, NULL);
	munmap(keeper.rebooted, sizeof(*keeper.rebooted));
	return status;
}
