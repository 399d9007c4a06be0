/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM's life: signals, the sandbox, vCPUs and the main loop, and how it ended.
 * vm-build.c makes the machine that runs here.
 */
#include "vmm/vm-parts.h"

#include "vmm/base/log.h"
#include "vmm/base/sandbox.h"
#include "vmm/base/trace.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/pvm/assist.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>

/* The longest that a start takes, but for one that is not worth the haste. */
#define START_NS UINT64_C(1000000000)

/*
 * SIGTERM and its like end the VM in order; SIGWINCH resizes the console, and
 * SIGUSR1 has the disks look for a new size.
 */
static void on_signal(struct loop_source *source, uint32_t events)
{
	struct vm *vm = container_of(source, struct vm, signals);
	struct signalfd_siginfo info;

	(void)events;
	if (read(source->fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGWINCH) {
		if (vm->has_terminal)
			terminal_resized(&vm->terminal);
		return;
	}
	if (info.ssi_signo == SIGUSR1) {
		for (unsigned i = 0; i < vm->nvirtio; i++)
			virtio_resized(vm->virtio[i]);
		return;
	}
	log_info("ended by signal %u", info.ssi_signo);
	stop_request(&vm->stop, STOP_USER, 128 + (int)info.ssi_signo);
}

int vm_build_signals(struct vm *vm)
{
	static const int handled[] = {SIGTERM, SIGINT,   SIGHUP,
				      SIGQUIT, SIGWINCH, SIGUSR1};
	const sigset_t set = util_signals(handled, ARRAY_LEN(handled));
	int r;

	pthread_sigmask(SIG_BLOCK, &set, &vm->signals_before);
	vm->signals_blocked = true;
	vm->signals.fn = on_signal;
	vm->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	r = vm->signals.fd < 0 ? -errno
			       : loop_add(&vm->loop, &vm->signals, EPOLLIN);
	return r < 0 ? log_ret(r, "signals: %s", strerror(-r)) : 0;
}

void vm_done_signals(struct vm *vm)
{
	if (vm->signals.fd >= 0) {
		loop_del(&vm->loop, &vm->signals);
		close(vm->signals.fd);
	}
	if (vm->signals_blocked)
		pthread_sigmask(SIG_SETMASK, &vm->signals_before, NULL);
}

static void report(struct vm *vm)
{
	uint64_t exits = 0;

	for (unsigned i = 0; i < vm->nvcpus; i++)
		exits += vm->vcpu[i].exits;
	log_debug("exits to user space: %llu, ran for %llu us",
		  (unsigned long long)exits,
		  (unsigned long long)(util_now_ns() - vm->born_ns) / 1000);
	if (vm->assist)
		assist_log(vm->assist);
}

static int confine_thread(const struct virtio_dev *d)
{
	const struct sandbox_rule *const lists[] = {d->ops->syscalls,
						    d->more_syscalls};

	return sandbox_enter_thread(lists, ARRAY_LEN(lists),
				    d->ops->capabilities);
}

/*
 * A device with privileges has a thread of its own, and only that keeps them.
 */
static int enter_sandbox(struct vm *vm)
{
	const struct sandbox_rule *lists[2 * MACHINE_VIRTIO_MAX + 6];
	unsigned n = 0;

	/* One that is not in its own yet would be in this one. */
	pager_await(&vm->pager);
	working_set_await(&vm->working_set);
	for (unsigned i = 0; i < vm->nvirtio; i++) {
		const struct virtio_ops *ops = vm->virtio[i]->ops;
		int r = 0;

		lists[n++] = ops->capabilities ? NULL : ops->syscalls;
		lists[n++] =
			ops->capabilities ? NULL : vm->virtio[i]->more_syscalls;
		if (ops->capabilities)
			r = virtio_start_thread(vm->virtio[i], confine_thread);
		if (r < 0)
			return r;
	}
	lists[n++] = vm->has_terminal ? terminal_syscalls : NULL;
	lists[n++] = vm->assist ? sandbox_assists : NULL;
	lists[n++] = vm->cfg->control ? vm_save_syscalls : NULL;
	lists[n++] = vm->cfg->control ? memory_copy_syscalls : NULL;
	lists[n++] = vm->working_set.set.range ? working_set_syscalls : NULL;
	lists[n++] = vm->allow;
	return sandbox_enter(lists, n);
}

/*
 * Linux resets the machine for a panic as for a reboot. It leaves in the BIOS
 * data area how the reset is meant, and by our command line only a panic's is
 * warm. pvpanic says the same where its driver is not a module.
 */
static bool reset_by_panic(const struct vm *vm)
{
	uint16_t flag = 0;

	(void)mem_read(&vm->mem, MACHINE_RESET_FLAG, &flag, sizeof(flag));
	return le16toh(flag) == MACHINE_RESET_WARM;
}

/*
 * Logs how the guest ended, after all vCPUs stopped. Errors were logged before.
 */
static int end_status(struct vm *vm)
{
	int status = VM_EXIT_HOST;

	switch (stop_reason(&vm->stop, &status)) {
	case STOP_POWEROFF:
		log_info("the guest powered off");
		break;
	case STOP_RESET:
		if (reset_by_panic(vm)) {
			log_warn("the guest panicked");
			return VM_EXIT_CRASH;
		}
		log_info("the guest rebooted");
		vm->rebooted = true;
		return (int)vm->cfg->reboot_status;
	case STOP_EXIT:
		log_info("the guest ended with status %d", status);
		break;
	default:
		break;
	}
	return status;
}

bool vm_rebooted(struct vm *vm)
{
	return vm && vm->rebooted;
}

void vm_allow(struct vm *vm, const struct sandbox_rule *rules)
{
	vm->allow = rules;
}

int vm_watch(struct vm *vm, struct loop_source *source)
{
	return loop_add(&vm->loop, source, EPOLLIN);
}

void vm_unwatch(struct vm *vm, struct loop_source *source)
{
	loop_del(&vm->loop, source);
}

static void start_is_over(struct loop_timer *timer)
{
	(void)timer;
	util_drop_code();
}

/*
 * The code that the start alone needed is given up when that is over, and not
 * in its midst, where it costs some ms in the lab: many a container has ended
 * by then. The timer is set before the sandbox, which has no such call.
 */
static void drop_code_later(struct vm *vm)
{
	const uint64_t due_ns = util_now_ns() + START_NS;

	if (loop_timer_open(&vm->loop, &vm->started, start_is_over) < 0 ||
	    !loop_timer_set(&vm->started, due_ns))
		util_drop_code();
}

int vm_start(struct vm *vm)
{
	int r = 0;

	drop_code_later(vm);
	if (vm->has_terminal)
		r = terminal_start(&vm->terminal);
	if (r == 0 && vm->cfg->sandbox)
		r = enter_sandbox(vm);
	trace_mark(vm->cfg->trace, TRACE_SANDBOX);
	if (r == 0 && vm->snapshot) {
		r = vm_load_devices(vm);
		trace_mark(vm->cfg->trace, TRACE_LOADED_DEVICES);
	}
	if (r == 0)
		working_set_record(&vm->working_set);
	log_debug("first KVM_RUN after %llu us",
		  (unsigned long long)(util_now_ns() - vm->born_ns) / 1000);
	pthread_mutex_lock(&vm->life_lock);
	for (unsigned i = 0; r == 0 && i < vm->nvcpus; i++)
		r = vcpu_start_thread(&vm->vcpu[i]);
	vm->life = VM_RUNS;
	pthread_mutex_unlock(&vm->life_lock);
	return r;
}

void vm_end(struct vm *vm)
{
	pthread_mutex_lock(&vm->life_lock);
	vm->life = VM_ENDED;
	for (unsigned i = 0; i < vm->nvcpus; i++)
		vcpu_stop_thread(&vm->vcpu[i]);
	pthread_mutex_unlock(&vm->life_lock);
}

int vm_exit_status(int error)
{
	return error == -EINVAL ? VM_EXIT_SNAPSHOT : VM_EXIT_HOST;
}

int vm_run(struct vm *vm)
{
	int r = vm->life == VM_BUILT ? vm_start(vm) : 0;

	if (r == 0)
		r = loop_run(&vm->loop);
	vm_end(vm);
	report(vm);
	return r < 0 ? vm_exit_status(r) : end_status(vm);
}

/* ---- pausing ---- */

static void resume_vcpus(struct vm *vm)
{
	for (unsigned i = 0; i < vm->nvcpus; i++)
		vcpu_resume(&vm->vcpu[i]);
}

/*
 * All are asked first, so that they stop at about the same time: one that waits
 * for another would go on waiting for as long as this takes. A guest that has
 * just ended itself (one vCPU wrote to the reset register, and pauses like the
 * others) goes on to its end instead.
 */
static int pause_vcpus(struct vm *vm)
{
	int r = 0;

	for (unsigned i = 0; i < vm->nvcpus; i++)
		vcpu_pause(&vm->vcpu[i]);
	for (unsigned i = 0; i < vm->nvcpus; i++) {
		if (vcpu_wait_paused(&vm->vcpu[i]) < 0)
			r = -ESHUTDOWN;
	}
	if (stop_reason(&vm->stop, NULL) != STOP_NONE)
		r = -ESHUTDOWN;
	if (r < 0)
		resume_vcpus(vm);
	return r;
}

/* The vCPUs first: a device that rests could be reset or kicked otherwise. */
int vm_pause(struct vm *vm)
{
	const uint64_t start_ns = util_now_ns();
	int r = -ESHUTDOWN;

	pthread_mutex_lock(&vm->life_lock);
	if (vm->life == VM_PAUSED)
		r = -EALREADY;
	else if (vm->life == VM_RUNS)
		r = pause_vcpus(vm);
	if (r == 0) {
		vm_pause_devices(vm);
		vm->life = VM_PAUSED;
		log_debug("paused within %llu us",
			  (unsigned long long)(util_now_ns() - start_ns) /
				  1000);
	}
	pthread_mutex_unlock(&vm->life_lock);
	return r;
}

int vm_resume(struct vm *vm)
{
	int r = -ESHUTDOWN;

	pthread_mutex_lock(&vm->life_lock);
	if (vm->life == VM_RUNS)
		r = -EALREADY;
	if (vm->life == VM_PAUSED) {
		vm_resume_devices(vm);
		resume_vcpus(vm);
		vm->life = VM_RUNS;
		r = 0;
	}
	pthread_mutex_unlock(&vm->life_lock);
	return r;
}

void vm_end_record(struct vm *vm)
{
	pthread_mutex_lock(&vm->life_lock);
	working_set_end(&vm->working_set);
	pthread_mutex_unlock(&vm->life_lock);
}

static int save(struct vm_saving *saving)
{
	const struct vm_save_target *to = saving->to;
	const uint64_t start_ns = util_now_ns();
	struct vm *vm = saving->vm;
	const int paused = vm_pause(vm);
	int r = -ESHUTDOWN;

	if (paused < 0 && paused != -EALREADY)
		return paused;
	pthread_mutex_lock(&vm->life_lock);
	if (vm->life == VM_PAUSED)
		r = vm_saving_take(saving);
	pthread_mutex_unlock(&vm->life_lock);
	if (paused == 0)
		(void)vm_resume(vm);
	saving->saved->stood_ns = util_now_ns() - start_ns;
	if (r == 0 && to->goes_on)
		to->goes_on(to->arg, saving->saved);
	return r < 0 ? r : vm_saving_finish(saving);
}

int vm_save_to(struct vm *vm, const struct vm_save_target *to,
	       struct vm_saved *saved)
{
	struct vm_saving saving = {.vm = vm, .to = to, .saved = saved};
	int r;

	/* Before any step says why it fails. */
	*saved = (struct vm_saved){0};
	r = vm_saving_begin(&saving);
	/* All pages are read now, which the start did not touch. */
	vm_end_record(vm);
	/* While the guest runs; a process that is forked has no pager. */
	if (r == 0)
		r = pager_bring_in_all(&vm->pager, vm_saving_is_over, &saving);
	if (r == 0)
		r = save(&saving);
	vm_saving_done(&saving);
	return r;
}

int vm_save(struct vm *vm, const uint8_t id[16], int state_fd, int memory_fd,
	    int gone_fd, struct vm_saved *saved)
{
	const struct vm_save_target to = {
		.id = id,
		.state_fd = state_fd,
		.memory_fd = memory_fd,
		.gone_fd = gone_fd,
		.track_fd = -1,
	};

	return vm_save_to(vm, &to, saved);
}
