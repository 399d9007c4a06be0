/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Before the guest runs: what KVM is asked to report, and whether this host
 * needs assists at all.
 */
#include "vmm/pvm/assist.h"

#include "vmm/base/kvm.h"
#include "vmm/base/log.h"
#include "vmm/base/mem.h"
#include "vmm/cpu/vcpu.h"
#include "vmm/pvm/x86.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

static int enable(const struct kvm *kvm, uint32_t cap, uint64_t arg)
{
	struct kvm_enable_cap enable_cap = {.cap = cap, .args = {arg}};

	if (ioctl(kvm->vm_fd, KVM_ENABLE_CAP, &enable_cap) < 0)
		return log_ret(-errno, "KVM_ENABLE_CAP %u: %s", cap,
			       strerror(errno));
	return 0;
}

int assist_prepare(const struct kvm *kvm)
{
	/* Eight MSRs from 0xc0000080; a zero bit is one that exits. */
	uint8_t allowed = (uint8_t) ~(1u << (MSR_LSTAR & 7));
	struct kvm_msr_filter filter = {
		.ranges = {{.flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE,
			    .base = MSR_LSTAR & ~7u,
			    .nmsrs = 8,
			    .bitmap = &allowed}},
	};
	int r;

	if (!kvm->has_emulation_exit || !kvm->has_msr_filter)
		return 0; /* an old KVM, hence on hardware */
	r = enable(kvm, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1);
	if (r == 0)
		r = enable(kvm, KVM_CAP_X86_USER_SPACE_MSR,
			   KVM_MSR_EXIT_REASON_FILTER);
	if (r < 0)
		return r;
	if (ioctl(kvm->vm_fd, KVM_X86_SET_MSR_FILTER, &filter) < 0)
		return log_ret(-errno, "KVM_X86_SET_MSR_FILTER: %s",
			       strerror(errno));
	return 0;
}

/* Runs until the OUT or the failure; then lets KVM finish the OUT. */
static int probe_run(struct vcpu *vcpu)
{
	int reason = -EAGAIN;

	for (int i = 0; i < 10 && (reason == -EAGAIN || reason == -EINTR); i++)
		reason = vcpu_run_once(vcpu);
	if (reason == KVM_EXIT_IO) {
		vcpu->run->immediate_exit = 1;
		(void)vcpu_run_once(vcpu);
		vcpu->run->immediate_exit = 0;
	}
	return reason;
}

static int probe_reason(const struct vcpu *vcpu, int reason)
{
	if (reason == KVM_EXIT_IO)
		return 0;
	if (reason == KVM_EXIT_INTERNAL_ERROR &&
	    vcpu->run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION)
		return 1;
	return log_ret(reason < 0 ? reason : -EIO,
		       "this host's KVM fails a first instruction (exit %d)",
		       reason);
}

int assist_probe(struct vcpu *vcpu, const struct mem *mem, uint64_t scratch_gpa)
{
	/* FWAIT; OUT 0x80, AL: in any mode; the port is written only here. */
	static const uint8_t code[] = {0x9b, 0xe6, 0x80};
	uint8_t saved[sizeof(code)];
	struct kvm_regs regs, probe;
	struct kvm_sregs sregs;
	int r = mem_read(mem, scratch_gpa, saved, sizeof(saved));

	if (r < 0 || mem_write(mem, scratch_gpa, code, sizeof(code)) < 0)
		return log_ret(-EFAULT, "no memory to probe the host with");
	if (ioctl(vcpu->fd, KVM_GET_REGS, &regs) < 0 ||
	    ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0)
		return log_ret(-errno, "vCPU registers: %s", strerror(errno));
	probe = regs;
	probe.rip = scratch_gpa - sregs.cs.base;
	probe.rflags = 2;
	if (ioctl(vcpu->fd, KVM_SET_REGS, &probe) < 0)
		return log_ret(-errno, "KVM_SET_REGS: %s", strerror(errno));
	r = probe_reason(vcpu, probe_run(vcpu));
	if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) < 0 ||
	    ioctl(vcpu->fd, KVM_SET_REGS, &regs) < 0)
		return log_ret(-errno, "vCPU registers: %s", strerror(errno));
	(void)mem_write(mem, scratch_gpa, saved, sizeof(saved));
	return r;
}
