/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of `bulkhead boot`'s VM, or of one after the other with --on-reboot
 * restart. Then each VM has a process of its own, which this one waits for: a
 * sandbox cannot be left again, and nothing that a guest could have touched
 * lives on.
 */
#include "tools/cmd/boot.h"

#include "tools/container/vm-socket.h"
#include "vmm/config/config.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/snapshot.h"
#include "vmm/vm.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The user names the snapshot: one that does not fit is a mistake like others.
 */
static int user_status(int status)
{
	return status == VM_EXIT_SNAPSHOT ? VM_EXIT_USAGE : status;
}

/* Until its end; CONTROL: others may ask for something meanwhile; NULL. */
static int start_and_run(struct vm *vm, struct vm_socket *control)
{
	int r;

	if (control)
		vm_allow(vm, vm_socket_syscalls);
	r = vm_start(vm);
	if (r == 0 && control)
		r = vm_socket_start(control, vm);
	return r < 0 ? user_status(vm_exit_status(r)) : vm_run(vm);
}

static int run_once(const struct config *cfg, const struct snapshot *snapshot,
		    bool *ret_rebooted)
{
	struct vm_socket control = VM_SOCKET_NONE;
	struct vm *vm = NULL;
	int status = VM_EXIT_USAGE;

	if (!cfg->control || vm_socket_open(&control, cfg->control) == 0)
		status = snapshot ? vm_build_restored(cfg, snapshot, &vm)
				  : vm_build(cfg, &vm);
	if (status == VM_EXIT_OK)
		status = start_and_run(vm, cfg->control ? &control : NULL);
	else
		status = user_status(status);
	vm_socket_done(&control);
	*ret_rebooted = vm_rebooted(vm);
	vm_free(vm);
	return status;
}

/* The parent's own, for all of its VMs. */
struct keeper {
	sigset_t signals; /* blocked from boot_run() on, here and in children */
	bool *rebooted;   /* shared: the child's last word */
	int ending;       /* the signal that told it to; 0: none */
};

/* A signal to end that came when no VM took it any more; 0: none. */
static int late_signal(const struct keeper *keeper)
{
	const struct timespec at_once = {0};
	int signal;

	do
		signal = sigtimedwait(&keeper->signals, NULL, &at_once);
	while (signal == SIGUSR1 || (signal < 0 && errno == EINTR));
	return signal > 0 ? signal : 0;
}

/*
 * The signal for the parent's death is set before the parent is looked at: it
 * may die at any time.
 */
static int run_child(const struct config *cfg, const struct keeper *keeper,
		     pid_t parent)
{
	int status, signal;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		return VM_EXIT_HOST;
	status = run_once(cfg, NULL, keeper->rebooted);
	signal = *keeper->rebooted ? late_signal(keeper) : 0;
	if (signal == 0)
		return status;
	*keeper->rebooted = false;
	return 128 + signal;
}

static int exit_status(int wait_status)
{
	return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status)
				      : 128 + WTERMSIG(wait_status);
}

/*
 * Passes on every signal. The terminal's go to the child by themselves as well,
 * but not one that came before there was this child; to get one twice is the
 * same as to get it once.
 */
static int wait_child(struct keeper *keeper, pid_t child)
{
	sigset_t awaited = keeper->signals;
	int wait_status;

	sigaddset(&awaited, SIGCHLD);
	for (;;) {
		const int signal = sigwaitinfo(&awaited, NULL);
		const pid_t ended = waitpid(child, &wait_status, WNOHANG);

		if (signal > 0 && signal != SIGCHLD && signal != SIGUSR1)
			keeper->ending = signal;
		if (ended != 0)
			break;
		if (signal > 0 && signal != SIGCHLD)
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

/* VMs one after the other, until one ends otherwise than by a reboot. */
static int run_anew(const struct config *cfg, const sigset_t *signals)
{
	struct keeper keeper = {.signals = *signals};
	sigset_t child_ends;
	int status;

	keeper.rebooted =
		mmap(NULL, sizeof(*keeper.rebooted), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (keeper.rebooted == MAP_FAILED)
		return log_ret(VM_EXIT_HOST, "out of memory");
	/* Ignored, it would have the kernel collect the child unseen. */
	(void)signal(SIGCHLD, SIG_DFL);
	sigemptyset(&child_ends);
	sigaddset(&child_ends, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child_ends, NULL);
	status = keep(cfg, &keeper);
	munmap(keeper.rebooted, sizeof(*keeper.rebooted));
	return status;
}

int boot_run(const struct config *cfg, const struct snapshot *snapshot)
{
	static const int taken[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};
	const sigset_t signals = util_signals(taken, ARRAY_LEN(taken));
	bool rebooted;

	sigprocmask(SIG_BLOCK, &signals, NULL);
	if (snapshot || cfg->on_reboot == CONFIG_REBOOT_EXIT)
		return run_once(cfg, snapshot, &rebooted);
	return run_anew(cfg, &signals);
}
