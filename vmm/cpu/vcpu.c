/* SPDX-License-Identifier: Apache-2.0 */
/* One vCPU: its thread runs the guest and passes exits on. */
#include "vmm/cpu/vcpu.h"

#include "vmm/pvm/assist.h"
#include "vmm/base/bus.h"
#include "vmm/base/kvm.h"
#include "vmm/base/log.h"
#include "vmm/base/stop.h"
#include "vmm/base/thread.h"
#include "vmm/base/trace.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define VCPU_SIGNAL SIGUSR2 /* SIGUSR1 is for vm.c, from outside */

/* vcpu.asked */
#define ASKED_LEAVE 1u
#define ASKED_PAUSE 2u

/*
 * KVM notes the TSC's rate when it is loaded. Where the host measures it better
 * after that and has no TSC scaling, KVM cannot give a vCPU the old rate ("user
 * requested TSC rate below hardware speed"), and no deadline of its timer ever
 * comes: a guest that sleeps sleeps for ever. 0 is the host's rate as of now.
 */
static int set_tsc_rate(const struct vcpu *vcpu)
{
	if (ioctl(vcpu->fd, KVM_SET_TSC_KHZ, 0) < 0)
		return log_ret(-errno,
			       "vCPU %u: KVM_SET_TSC_KHZ: %s; its timers would "
			       "not fire: reload the host's kvm modules",
			       vcpu->id, strerror(errno));
	return 0;
}

int vcpu_init(struct vcpu *vcpu, const struct kvm *kvm, unsigned id,
	      unsigned ncpus)
{
	int r;

	pthread_mutex_init(&vcpu->lock, NULL);
	pthread_cond_init(&vcpu->changed, NULL);
	vcpu->id = id;
	vcpu->run_bytes = kvm->run_bytes;
	vcpu->fd = ioctl(kvm->vm_fd, KVM_CREATE_VCPU, id);
	if (vcpu->fd < 0)
		return log_ret(-errno, "vCPU %u: KVM_CREATE_VCPU: %s", id,
			       strerror(errno));
	vcpu->run = mmap(NULL, vcpu->run_bytes, PROT_READ | PROT_WRITE,
			 MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED) {
		vcpu->run = NULL;
		return log_ret(-errno, "vCPU %u: mmap: %s", id,
			       strerror(errno));
	}
	/* It holds the VM, which memory-copy.c's process must not. */
	(void)madvise(vcpu->run, vcpu->run_bytes, MADV_DONTFORK);
	r = set_tsc_rate(vcpu);
	return r < 0 ? r : cpuid_set(kvm, vcpu->fd, id, ncpus);
}

void vcpu_done(struct vcpu *vcpu)
{
	if (vcpu->run)
		munmap(vcpu->run, vcpu->run_bytes);
	vcpu->run = NULL;
	util_close(&vcpu->fd);
}

static void exit_io(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_IN)
			bus_read(vcpu->bus, BUS_PORT, run->io.port, data,
				 run->io.size);
		else
			bus_write(vcpu->bus, BUS_PORT, run->io.port, data,
				  run->io.size);
	}
}

static void exit_mmio(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	if (run->mmio.is_write)
		bus_write(vcpu->bus, BUS_MMIO, run->mmio.phys_addr,
			  run->mmio.data, run->mmio.len);
	else
		bus_read(vcpu->bus, BUS_MMIO, run->mmio.phys_addr,
			 run->mmio.data, run->mmio.len);
}

static void crashed(struct vcpu *vcpu)
{
	struct kvm_regs regs = {0};

	(void)ioctl(vcpu->fd, KVM_GET_REGS, &regs);
	log_error("the guest crashed: triple fault on vCPU %u, RIP 0x%llx; its "
		  "last words may be on the serial console: --console serial",
		  vcpu->id, (unsigned long long)regs.rip);
	stop_request(vcpu->stop, STOP_CRASH, 1);
}

/* Logs what the host's KVM could not do. The guest may have provoked it. */
static int failed(struct vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;
	struct kvm_regs regs = {0};

	if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR) {
		if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION &&
		    vcpu->assist)
			return assist_emulation_failure(vcpu->assist, vcpu);
		(void)ioctl(vcpu->fd, KVM_GET_REGS, &regs);
		return log_ret(-EIO,
			       "vCPU %u: KVM internal error, suberror %u, at "
			       "RIP 0x%llx",
			       vcpu->id, run->internal.suberror,
			       (unsigned long long)regs.rip);
	}
	if (run->exit_reason == KVM_EXIT_FAIL_ENTRY)
		return log_ret(
			-EIO,
			"vCPU %u: the processor refused to enter the guest, "
			"hardware reason 0x%llx",
			vcpu->id,
			(unsigned long long)
				run->fail_entry.hardware_entry_failure_reason);
	return log_ret(-EIO, "vCPU %u: unexpected KVM exit reason %u", vcpu->id,
		       run->exit_reason);
}

/* 0: go on; else the VM is about to end. */
static int handle_exit(struct vcpu *vcpu)
{
	switch (vcpu->run->exit_reason) {
	case KVM_EXIT_IO:
		exit_io(vcpu);
		return 0;
	case KVM_EXIT_MMIO:
		exit_mmio(vcpu);
		return 0;
	case KVM_EXIT_X86_RDMSR:
		return assist_rdmsr(vcpu->assist, vcpu);
	case KVM_EXIT_X86_WRMSR:
		return assist_wrmsr(vcpu->assist, vcpu);
	case KVM_EXIT_DEBUG: /* assist_before_run() asked for it */
	case KVM_EXIT_INTR:
	case KVM_EXIT_HLT: /* not with an in-kernel APIC */
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		return 0;
	case KVM_EXIT_SHUTDOWN:
		crashed(vcpu);
		return -ESHUTDOWN;
	default:
		return failed(vcpu);
	}
}

int vcpu_run_once(struct vcpu *vcpu)
{
	if (ioctl(vcpu->fd, KVM_RUN, 0) < 0)
		return -errno;
	return (int)vcpu->run->exit_reason;
}

/* Until the next exit, which is handled: 1; 0: KVM_RUN was interrupted. */
static int run(struct vcpu *vcpu)
{
	int r;

	if (ioctl(vcpu->fd, KVM_RUN, 0) < 0) {
		/* EAGAIN: a vCPU waits for its start-up IPI. */
		if (errno == EINTR || errno == EAGAIN)
			return 0;
		return log_ret(-errno, "vCPU %u: KVM_RUN: %s", vcpu->id,
			       strerror(errno));
	}
	if (vcpu->exits++ == 0)
		trace_mark(vcpu->trace, TRACE_EXIT);
	if (vcpu->assist)
		assist_after_exit(vcpu->assist, vcpu);
	r = handle_exit(vcpu);
	return r < 0 ? r : 1;
}

/*
 * Has KVM finish the instruction whose access to a device was handled last: it
 * does so when it is entered again, and with immediate_exit set nothing else
 * (KVM API, "KVM_RUN"). That may be another access of the same instruction; no
 * instruction has more than KVM's emulator does in one go.
 */
static int settle(struct vcpu *vcpu)
{
	int r;

	do {
		r = vcpu->assist ? assist_settle(vcpu->assist, vcpu) : 0;
		if (r == 0)
			r = run(vcpu);
	} while (r > 0);
	return r;
}

/* Waits while the thread is asked to pause, and not to leave. */
static void park(struct vcpu *vcpu)
{
	unsigned asked;

	pthread_mutex_lock(&vcpu->lock);
	while ((asked = atomic_load(&vcpu->asked)) == ASKED_PAUSE) {
		if (vcpu->where != VCPU_PARKED) {
			vcpu->where = VCPU_PARKED;
			pthread_cond_broadcast(&vcpu->changed);
		}
		pthread_cond_wait(&vcpu->changed, &vcpu->lock);
	}
	vcpu->where = VCPU_RUNS;
	pthread_mutex_unlock(&vcpu->lock);
	/* EINVAL: this guest does not use KVM's clock, or not yet. */
	if (asked == 0)
		(void)ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, 0);
}

/* 0 when the thread was asked to leave, or -errno (logged). */
static int run_until_left(struct vcpu *vcpu)
{
	for (;;) {
		const unsigned asked = atomic_load_explicit(
			&vcpu->asked, memory_order_acquire);
		int r = 0;

		if (asked & ASKED_LEAVE)
			return 0;
		if (asked) {
			r = settle(vcpu);
			if (r < 0)
				return r;
			park(vcpu);
			continue;
		}
		if (vcpu->assist)
			r = assist_before_run(vcpu->assist, vcpu);
		if (r == 0)
			r = run(vcpu);
		if (r < 0)
			return r;
	}
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *vcpu = arg;
	char name[16];
	int r;

	/* A thread names itself: the sandbox refuses to name another one. */
	snprintf(name, sizeof(name), "vcpu%u", vcpu->id);
	pthread_setname_np(pthread_self(), name);
	trace_mark(vcpu->trace, TRACE_RUN);
	r = run_until_left(vcpu);
	/* First, so that nobody who sees that it is gone asks in vain why. */
	if (r < 0)
		stop_request(vcpu->stop, STOP_HOST, 3);
	pthread_mutex_lock(&vcpu->lock);
	vcpu->where = VCPU_GONE;
	pthread_cond_broadcast(&vcpu->changed);
	pthread_mutex_unlock(&vcpu->lock);
	return NULL;
}

static void ignore_signal(int signal)
{
	(void)signal;
}

int vcpu_start_thread(struct vcpu *vcpu)
{
	/*
	 * The handler does nothing: the signal only ends KVM_RUN, which never
	 * restarts; what a device is doing on this thread goes on.
	 */
	const struct sigaction action = {.sa_handler = ignore_signal,
					 .sa_flags = SA_RESTART};
	int r;

	sigaction(VCPU_SIGNAL, &action, NULL);
	r = thread_start(&vcpu->thread, VCPU_SIGNAL, vcpu_thread, vcpu);
	if (r < 0)
		return log_ret(r, "vCPU %u: cannot start its thread: %s",
			       vcpu->id, strerror(-r));
	vcpu->started = true;
	return 0;
}

/*
 * The thread looks at `asked` before it enters KVM_RUN. immediate_exit covers
 * the moment between the two, the signal a KVM_RUN under way (KVM API,
 * "immediate_exit"), and the condition a thread that is parked.
 */
static void ask(struct vcpu *vcpu, unsigned bit)
{
	pthread_mutex_lock(&vcpu->lock);
	atomic_fetch_or(&vcpu->asked, bit);
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&vcpu->changed);
	pthread_mutex_unlock(&vcpu->lock);
	pthread_kill(vcpu->thread, VCPU_SIGNAL);
}

void vcpu_stop_thread(struct vcpu *vcpu)
{
	if (!vcpu->started)
		return;
	ask(vcpu, ASKED_LEAVE);
	pthread_join(vcpu->thread, NULL);
	vcpu->started = false;
}

void vcpu_pause(struct vcpu *vcpu)
{
	if (vcpu->started)
		ask(vcpu, ASKED_PAUSE);
}

/* Until the thread, asked to pause, has done so or is gone. Lock held. */
static void wait_parked(struct vcpu *vcpu)
{
	while (vcpu->where == VCPU_RUNS)
		pthread_cond_wait(&vcpu->changed, &vcpu->lock);
}

int vcpu_wait_paused(struct vcpu *vcpu)
{
	int r;

	if (!vcpu->started)
		return -ESHUTDOWN;
	pthread_mutex_lock(&vcpu->lock);
	wait_parked(vcpu);
	r = vcpu->where == VCPU_PARKED ? 0 : -ESHUTDOWN;
	pthread_mutex_unlock(&vcpu->lock);
	return r;
}

void vcpu_resume(struct vcpu *vcpu)
{
	if (!vcpu->started)
		return;
	pthread_mutex_lock(&vcpu->lock);
	if (atomic_load(&vcpu->asked) & ASKED_PAUSE) {
		/* settle() needs immediate_exit, and so does ASKED_LEAVE. */
		wait_parked(vcpu);
		if (atomic_fetch_and(&vcpu->asked, ~ASKED_PAUSE) == ASKED_PAUSE)
			__atomic_store_n(&vcpu->run->immediate_exit, 0,
					 __ATOMIC_RELEASE);
		pthread_cond_broadcast(&vcpu->changed);
	}
	pthread_mutex_unlock(&vcpu->lock);
}
