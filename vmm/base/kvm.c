/* SPDX-License-Identifier: Apache-2.0 */
/* /dev/kvm: capabilities and the VM descriptor (KVM API documentation). */
#include "vmm/base/kvm.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

/* The capabilities that the monitor needs, and why. */
static const struct {
	int capability;
	const char *name, *purpose;
} required[] = {
	{KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY", "guest memory"},
	{KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP", "interrupts"},
	{KVM_CAP_IRQFD, "KVM_CAP_IRQFD", "device interrupts"},
	{KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD", "device notifications"},
	{KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID", "the guest's CPUID"},
	{KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT", "stopping vCPUs"},
};

void kvm_init(struct kvm *kvm)
{
	*kvm = (struct kvm){.fd = -1, .vm_fd = -1};
}

int kvm_check(const struct kvm *kvm, int capability)
{
	int fd = kvm->vm_fd >= 0 ? kvm->vm_fd : kvm->fd;
	int r = ioctl(fd, KVM_CHECK_EXTENSION, capability);

	return r < 0 ? 0 : r;
}

const char *kvm_denied_advice(void)
{
	struct stat st;

	/* An ordinary user's container gives up the groups that he is in. */
	if (util_in_user_namespace())
		return "in a user namespace the user's own rights count, and "
		       "not those of his groups: as root, setfacl -m "
		       "u:USER:rw /dev/kvm";
	/* Joining a group helps where the group may open it, and is not root's.
	 */
	if (stat("/dev/kvm", &st) == 0 &&
	    ((st.st_mode & 0060) != 0060 || st.st_gid == 0))
		return "its group may not open it: as root, chgrp kvm /dev/kvm "
		       "&& chmod 660 /dev/kvm, and join that group (usermod "
		       "-aG kvm USER, then log in again); or run as root";
	return "join the group that owns it (usermod -aG kvm USER, then log "
	       "in again) or run as root";
}

static int open_failed(int error)
{
	switch (error) {
	case ENOENT:
	case ENODEV:
	case ENXIO:
		return log_ret(-error,
			       "/dev/kvm: %s: this host offers no KVM: enable "
			       "virtualization in its firmware or (on a cloud) "
			       "nested virtualization, and load kvm_intel, "
			       "kvm_amd or kvm_pvm",
			       strerror(error));
	case EACCES:
	case EPERM:
		return log_ret(-error, "/dev/kvm: %s: %s", strerror(error),
			       kvm_denied_advice());
	default:
		return log_ret(-error, "/dev/kvm: %s", strerror(error));
	}
}

static int look_at(struct kvm *kvm)
{
	int version, bytes;

	version = ioctl(kvm->fd, KVM_GET_API_VERSION, 0);
	if (version < 0)
		return log_ret(-errno, "/dev/kvm: KVM_GET_API_VERSION: %s",
			       strerror(errno));
	if (version != KVM_API_VERSION)
		return log_ret(
			-EPROTO,
			"/dev/kvm: API version %d, this program needs %d",
			version, KVM_API_VERSION);
	for (unsigned i = 0; i < ARRAY_LEN(required); i++) {
		if (kvm_check(kvm, required[i].capability) > 0)
			continue;
		return log_ret(-EOPNOTSUPP,
			       "/dev/kvm: this host's KVM lacks %s, needed for "
			       "%s: use Linux 4.12 or newer",
			       required[i].name, required[i].purpose);
	}
	bytes = ioctl(kvm->fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (bytes < (int)sizeof(struct kvm_run))
		return log_ret(-EPROTO, "/dev/kvm: KVM_GET_VCPU_MMAP_SIZE: %d",
			       bytes);
	kvm->run_bytes = (size_t)bytes;
	kvm->max_vcpus = kvm_check(kvm, KVM_CAP_MAX_VCPUS);
	kvm->has_readonly_mem = kvm_check(kvm, KVM_CAP_READONLY_MEM) > 0;
	kvm->has_tsc_deadline = kvm_check(kvm, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	kvm->has_emulation_exit =
		kvm_check(kvm, KVM_CAP_EXIT_ON_EMULATION_FAILURE) > 0;
	kvm->has_msr_filter = kvm_check(kvm, KVM_CAP_X86_MSR_FILTER) > 0 &&
			      kvm_check(kvm, KVM_CAP_X86_USER_SPACE_MSR) > 0;
	return 0;
}

int kvm_open(struct kvm *kvm)
{
	kvm->fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	return kvm->fd < 0 ? open_failed(errno) : look_at(kvm);
}

int kvm_use(struct kvm *kvm, int fd)
{
	kvm->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return kvm->fd < 0 ? log_ret(-errno, "/dev/kvm, as descriptor %d: %s",
				     fd, strerror(errno))
			   : look_at(kvm);
}

int kvm_create_vm(struct kvm *kvm)
{
	do
		kvm->vm_fd = ioctl(kvm->fd, KVM_CREATE_VM, 0);
	while (kvm->vm_fd < 0 && errno == EINTR);
	if (kvm->vm_fd < 0)
		return log_ret(-errno, "/dev/kvm: KVM_CREATE_VM: %s",
			       strerror(errno));
	return 0;
}

void kvm_done(struct kvm *kvm)
{
	util_close(&kvm->vm_fd);
	util_close(&kvm->fd);
	kvm_init(kvm);
}

int kvm_add_memory(struct kvm *kvm, uint64_t gpa, void *host, uint64_t bytes,
		   bool readonly)
{
	struct kvm_userspace_memory_region region = {
		.slot = kvm->next_slot++,
		.flags = readonly ? KVM_MEM_READONLY : 0,
		.guest_phys_addr = gpa,
		.memory_size = bytes,
		.userspace_addr = (uintptr_t)host,
	};

	if (ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return log_ret(-errno,
			       "guest memory of %llu MiB at 0x%llx: "
			       "KVM_SET_USER_MEMORY_REGION: %s",
			       (unsigned long long)(bytes / MIB),
			       (unsigned long long)gpa, strerror(errno));
	return 0;
}
