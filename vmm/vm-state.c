/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM's state, of all its parts, in the order in which it is loaded: what the
 * machine is, vCPUs and chips while it is built, devices when the sandbox is
 * around them, as a device may start its thread then.
 */
#include "vmm/vm-parts.h"

#include "devices/virtio/virtio-mmio.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/base/visit.h"
#include "vmm/config/config.h"
#include "vmm/cpu/irqchip.h"
#include "vmm/memory-copy.h"
#include "vmm/pagemap.h"
#include "vmm/pvm/assist.h"
#include "vmm/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- both ways */

static void visit_machine(struct vm *vm, struct visitor *v, bool *assisted)
{
	visit_part(v, "machine");
	visit_same(v, "cpus", &vm->cfg->cpus, sizeof(vm->cfg->cpus));
	visit_same(v, "memory_bytes", &vm->mem.bytes, sizeof(vm->mem.bytes));
	visit_same(v, "devices", &vm->nvirtio, sizeof(vm->nvirtio));
	visit_same(v, "serial", &vm->has_serial, sizeof(vm->has_serial));
	visit_bool(v, "assisted", assisted);
	visit_part_end(v);
}

/* All that KVM keeps, an interrupt for a guest that is another one now too. */
static void visit_kvm(struct vm *vm, struct visitor *v, uint64_t passed_ns)
{
	irqchip_visit(&vm->kvm, v);
	vcpu_visit(vm->vcpu, vm->nvcpus, &vm->kvm, passed_ns, v);
	irqchip_visit_clock(&vm->kvm, passed_ns, v);
	vmgenid_visit(&vm->vmgenid, v);
}

static void visit_devices(struct vm *vm, struct visitor *v)
{
	i8042_visit(&vm->i8042, v);
	if (vm->has_serial)
		serial_visit(&vm->serial, v);
	for (unsigned i = 0; i < vm->nvirtio; i++)
		virtio_mmio_visit(&vm->mmio[i], v);
}

/* ---- saving */

const struct sandbox_rule vm_save_syscalls[] = {
	SANDBOX_IOCTL(KVM_CHECK_EXTENSION),
	SANDBOX_IOCTL(KVM_GET_MSR_INDEX_LIST),
	SANDBOX_IOCTL(KVM_GET_CPUID2),
	SANDBOX_IOCTL(KVM_GET_TSC_KHZ),
	SANDBOX_IOCTL(KVM_GET_DEVICE_ATTR),
	SANDBOX_IOCTL(KVM_GET_SREGS),
	SANDBOX_IOCTL(KVM_GET_XCRS),
	SANDBOX_IOCTL(KVM_GET_XSAVE),
	SANDBOX_IOCTL(KVM_GET_XSAVE2),
	SANDBOX_IOCTL(KVM_GET_DEBUGREGS),
	SANDBOX_IOCTL(KVM_GET_LAPIC),
	SANDBOX_IOCTL(KVM_GET_VCPU_EVENTS),
	SANDBOX_IOCTL(KVM_GET_MP_STATE),
	SANDBOX_IOCTL(KVM_GET_NESTED_STATE),
	/* snapshot.c: holes of the file that the RAM is from */
	SANDBOX_CALL(lseek),
	/* that file, when it becomes another one */
	SANDBOX_CALL(fdatasync),
	SANDBOX_CALL_IF(fcntl, 1, F_DUPFD_CLOEXEC),
	/* irqchip.c */
	SANDBOX_IOCTL(KVM_GET_IRQCHIP),
	SANDBOX_IOCTL(KVM_GET_PIT2),
	SANDBOX_IOCTL(KVM_GET_CLOCK),
	SANDBOX_END,
};

static uint64_t realtime_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

bool vm_saving_is_over(void *arg)
{
	const struct vm_saving *saving = arg;
	struct pollfd pfd = {.fd = saving->to->gone_fd};

	return stop_reason(&saving->vm->stop, NULL) != STOP_NONE ||
	       (poll(&pfd, 1, 0) == 1 && pfd.revents);
}

static int take_base(struct vm_saving *saving)
{
	const struct vm_base *base = &saving->vm->base;

	if (!base->exists ||
	    memcmp(base->id, saving->to->base_id, sizeof(base->id)))
		return -ESTALE;
	saving->snapshot.has_base = true;
	saving->snapshot.memory_sum = base->memory_sum;
	return 0;
}

static void say(struct vm_saving *saving, const char *why)
{
	snprintf(saving->saved->why, sizeof(saving->saved->why), "%s", why);
}

static int check_tracking(struct vm_saving *saving)
{
	const struct vm *vm = saving->vm;

	if (saving->to->goes_on)
		say(saving, "what is tracked cannot be saved live");
	else if (vm->cfg->hugetlb)
		say(saving, "its RAM is in huge pages (--hugetlb), of which "
			    "changes cannot be tracked");
	else if (vm->pagemap_fd < 0)
		say(saving, "changes cannot be tracked: /proc/self/pagemap "
			    "could not be opened");
	else
		return 0;
	return -EINVAL;
}

int vm_saving_begin(struct vm_saving *saving)
{
	struct vm *vm = saving->vm;

	saving->copy = MEMORY_COPY_NONE;
	saving->config = config_json(vm->cfg, virtio_config_types());
	saving->snapshot = (struct snapshot){
		.saved_ns = realtime_ns(),
		.config = saving->config,
		.directory = vm->directory,
		.memory_fd = -1,
	};
	memcpy(saving->snapshot.id, saving->to->id,
	       sizeof(saving->snapshot.id));
	visit_save(&saving->state);
	if (!saving->config)
		return -ENOMEM;
	if (saving->to->track_fd >= 0 && check_tracking(saving) < 0)
		return -EINVAL;
	return saving->to->base_id ? take_base(saving) : 0;
}

static void set_oom_adj(const struct vm *vm, const char *text)
{
	if (vm->oom_fd >= 0)
		(void)!pwrite(vm->oom_fd, text, strlen(text), 0);
}

/*
 * Where memory runs out, the copy goes, and not the machine that it is of,
 * which the host could not tell from each other.
 */
static int copy_memory(struct vm_saving *saving, int fd)
{
	const struct vm *vm = saving->vm;
	int r;

	set_oom_adj(vm, "1000");
	r = memory_copy_start(&saving->copy, &saving->snapshot, fd, &vm->mem,
			      vm->pagemap_fd, vm->file_fd);
	set_oom_adj(vm, vm->oom_adj);
	return r;
}

static int take_memory(struct vm_saving *saving)
{
	const struct vm *vm = saving->vm;
	const int fd = saving->to->memory_fd;

	if (saving->to->goes_on)
		return copy_memory(saving, fd);
	return snapshot_write_memory(
		&saving->snapshot, fd, &vm->mem, vm->pagemap_fd, vm->file_fd,
		vm_saving_is_over, saving, &saving->saved->memory_bytes);
}

/*
 * RAM is mapped from the file of FD: nothing of what it was is left to be
 * brought in, and nobody who brought it in is needed any more.
 */
static void take_as_base(struct vm *vm, const struct snapshot *snapshot,
			 int *fd)
{
	util_close(&vm->file_fd);
	vm->file_fd = take_fd(fd);
	vm->base.exists = true;
	memcpy(vm->base.id, snapshot->id, sizeof(vm->base.id));
	vm->base.memory_sum = snapshot->memory_sum;
	pager_done(&vm->pager);
}

/*
 * The host may drop a page that it has written to the disk, and reads it there
 * when the guest touches it next: so no error of writing may come later.
 */
static int track(struct vm_saving *saving)
{
	const struct vm_save_target *to = saving->to;
	autofd int fd = fcntl(to->track_fd, F_DUPFD_CLOEXEC, 0);
	struct vm *vm = saving->vm;
	int r = fd < 0 ? -errno
		       : snapshot_write_state(&saving->snapshot, to->state_fd);

	if (r == 0 &&
	    (fdatasync(to->state_fd) < 0 || fdatasync(to->memory_fd) < 0))
		r = -errno;
	if (r == 0)
		r = mem_remap(&vm->mem, fd);
	if (r == 0) {
		take_as_base(vm, &saving->snapshot, &fd);
		saving->has_all = true;
	}
	if (r == -ENOTRECOVERABLE) {
		say(saving, "the host had no memory to map what it had saved: "
			    "the machine has lost its RAM, and ends");
		stop_request(&vm->stop, STOP_HOST, VM_EXIT_HOST);
	} else if (r == -ENODEV) {
		say(saving, "its file system cannot map files into memory: "
			    "save it elsewhere, or without --track");
	}
	return r;
}

int vm_saving_take(struct vm_saving *saving)
{
	bool assisted = saving->vm->assist != NULL;
	struct visitor *v = &saving->state;
	int r;

	saving->snapshot.saved_ns = realtime_ns();
	visit_machine(saving->vm, v, &assisted);
	visit_kvm(saving->vm, v, 0);
	visit_devices(saving->vm, v);
	r = visit_end(v);
	if (r < 0)
		say(saving, v->why);
	saving->snapshot.state = v->saved;
	saving->snapshot.state_bytes = v->bytes;
	saving->saved->state_bytes = v->bytes;
	if (r == 0)
		r = take_memory(saving);
	return r == 0 && saving->to->track_fd >= 0 ? track(saving) : r;
}

int vm_saving_finish(struct vm_saving *saving)
{
	const int r = memory_copy_wait(
		&saving->copy, saving->to->gone_fd, vm_saving_is_over, saving,
		&saving->snapshot, &saving->saved->memory_bytes);

	if (r == -ECHILD)
		say(saving,
		    "the process that wrote the memory was killed: the host, "
		    "or a limit of its control group, may have too little "
		    "memory for the pages that the guest writes meanwhile: "
		    "free some");
	return r < 0 || saving->has_all
		       ? r
		       : snapshot_write_state(&saving->snapshot,
					      saving->to->state_fd);
}

void vm_saving_done(struct vm_saving *saving)
{
	visit_done(&saving->state);
	free(saving->config);
}

/* -1 where /proc has none, or it is not this user's. */
static void open_oom_adj(struct vm *vm)
{
	ssize_t n;

	vm->oom_fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
	n = vm->oom_fd < 0 ? 0
			   : pread(vm->oom_fd, vm->oom_adj,
				   sizeof(vm->oom_adj) - 1, 0);
	if (n <= 0)
		util_close(&vm->oom_fd);
}

int vm_build_saving(struct vm *vm)
{
	/* Nobody can ask for it, and the directory may be gone. */
	if (!vm->cfg->control)
		return 0;
	/* Without it, all of the RAM is read. */
	vm->pagemap_fd = pagemap_open();
	open_oom_adj(vm);
	if (vm->snapshot && snapshot_is_mapped(vm->snapshot)) {
		vm->file_fd =
			fcntl(vm->snapshot->memory_fd, F_DUPFD_CLOEXEC, 0);
		if (vm->file_fd < 0)
			return log_ret(-errno, "the snapshot's memory: %s",
				       strerror(errno));
	}
	vm->directory = get_current_dir_name();
	return vm->directory ? 0
			     : log_ret(-errno, "the working directory: %s",
				       strerror(errno));
}

/* ---- loading */

/* For how long it stood still, if its clocks are to know; see snapshot.h. */
static uint64_t passed_ns(const struct snapshot *snapshot)
{
	const uint64_t now = realtime_ns();

	return snapshot->catches_up && now > snapshot->saved_ns
		       ? now - snapshot->saved_ns
		       : 0;
}

int vm_load_kvm(struct vm *vm)
{
	struct visitor *v = &vm->loading;
	bool assisted = false;

	visit_load(v, vm->snapshot->state, vm->snapshot->state_bytes);
	visit_machine(vm, v, &assisted);
	if (visit_goes_on(v) && assisted && vm_use_assist(vm) < 0)
		return -ENOMEM;
	visit_kvm(vm, v, passed_ns(vm->snapshot));
	return visit_goes_on(v) ? 0 : -EINVAL;
}

/* A network that was plugged in is there, though it was opened as absent. */
static int add_doorbells(struct vm *vm)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < vm->nvirtio; i++) {
		if (!vm->virtio[i]->absent)
			r = virtio_mmio_add_doorbells(&vm->mmio[i],
						      vm->kvm.vm_fd);
	}
	return r;
}

int vm_load_devices(struct vm *vm)
{
	struct visitor *v = &vm->loading;
	int r;

	vm_pause_devices(vm);
	visit_devices(vm, v);
	r = visit_end(v);
	visit_done(v);
	if (r == 0)
		r = add_doorbells(vm);
	if (r == 0)
		vm_resume_devices(vm);
	return r;
}
