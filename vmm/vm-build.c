/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM from configuration to a machine that can run. vm_build() runs the steps
 * of a table in order; whatever the first failing one leaves, vm_free() takes
 * down.
 *
 * Interrupt controllers and vCPUs are created on a thread of their own (KVM
 * starts threads and waits for grace periods meanwhile) while this one reads
 * the kernel and opens disks.
 */
#include "vmm/vm-parts.h"

#include "vmm/base/log.h"
#include "vmm/base/thread.h"
#include "vmm/base/trace.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/cpu/irqchip.h"
#include "vmm/pvm/assist.h"
#include "vmm/snapshot.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

static int build_kvm(struct vm *vm)
{
	const int fd = vm->cfg->kvm_fd;
	int r = fd > 0 ? kvm_use(&vm->kvm, fd) : kvm_open(&vm->kvm);

	if (r == 0)
		trace_mark(vm->cfg->trace, TRACE_KVM);
	if (r == 0 && (int)vm->cfg->cpus > vm->kvm.max_vcpus)
		return log_ret(-E2BIG,
			       "--cpus %u: this host's KVM allows %d in a VM",
			       vm->cfg->cpus, vm->kvm.max_vcpus);
	if (r == 0)
		r = kvm_create_vm(&vm->kvm);
	/* Cheap only before the VM has memory: see assist.h. */
	if (r == 0 && vm->cfg->assist != CONFIG_ASSIST_OFF)
		r = assist_prepare(&vm->kvm);
	return r;
}

/* Every virtio device's register page and VMGenID's, in one piece. */
static int build_pages(struct vm *vm)
{
	vm->pages_bytes = (MACHINE_VIRTIO_MAX + 1) * VIRTIO_MMIO_BYTES;
	vm->pages = mmap(NULL, vm->pages_bytes, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (vm->pages == MAP_FAILED) {
		vm->pages = NULL;
		return log_ret(-ENOMEM, "device pages: %s", strerror(errno));
	}
	return 0;
}

/*
 * Before the irqchip: that leaves callbacks behind which the first memory slot
 * would wait for, 4 to 11 ms instead of 0.1.
 */
static int register_memory(struct vm *vm)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < vm->mem.nregions; i++) {
		const struct mem_region *region = &vm->mem.region[i];

		r = kvm_add_memory(&vm->kvm, region->base, region->host,
				   region->bytes, false);
	}
	if (r == 0 && vm->kvm.has_readonly_mem)
		r = kvm_add_memory(&vm->kvm, MACHINE_VIRTIO_BASE, vm->pages,
				   vm->pages_bytes, true);
	return r;
}

/* The pager cannot go on: whoever waits for it, a vCPU or the main loop, is
 * not to be waited for. */
static void end_process(void)
{
	terminal_rescue();
	_exit(VM_EXIT_HOST);
}

/* From a memory server, as it is touched. */
static int connect_memory(struct vm *vm)
{
	const char *server = vm->snapshot->memory_server;
	const int uffd = pager_open();
	int r;

	if (uffd < 0)
		return log_ret(uffd,
			       "--memory-server '%s': this user may not use "
			       "userfaultfd: %s: see docs/STARTUP",
			       server, strerror(-uffd));
	r = pager_connect(&vm->pager, server, &vm->mem, vm->cfg->sandbox, uffd,
			  end_process);
	return r == 0 && vm->cfg->prefault ? mem_prefault(&vm->mem) : r;
}

/* From a compressed snapshot: as it is touched, or now. */
static int unpack_memory(struct vm *vm)
{
	const struct snapshot *snapshot = vm->snapshot;
	const int uffd = vm->cfg->prefault ? -1 : pager_open();
	int r;

	if (uffd >= 0)
		return pager_start(&vm->pager, snapshot, &vm->mem,
				   vm->cfg->sandbox, uffd, end_process);
	if (!vm->cfg->prefault)
		log_warn("'%s': all of it is read before the start: this user "
			 "may not use userfaultfd: %s: see docs/STARTUP",
			 snapshot->name, strerror(-uffd));
	r = pager_load_all(snapshot, &vm->mem);
	return r == 0 && vm->cfg->prefault ? mem_prefault(&vm->mem) : r;
}

/* Its working set is brought in where it is not all there. */
static int fill_memory(struct vm *vm)
{
	const struct snapshot *snapshot = vm->snapshot;
	int r = 0;

	if (snapshot->memory_server)
		r = connect_memory(vm);
	else if (snapshot->compressed)
		r = unpack_memory(vm);
	if (r == 0 && !vm->cfg->prefault &&
	    (snapshot_is_mapped(snapshot) || vm->pager.started))
		working_set_prepare(&vm->working_set, snapshot, &vm->mem,
				    vm->cfg->sandbox);
	return r;
}

static int map_memory(struct vm *vm)
{
	const bool restored = vm->snapshot != NULL;
	const bool mapped = restored && snapshot_is_mapped(vm->snapshot);
	const struct mem_options options = {
		.hugetlb = vm->cfg->hugetlb,
		.small_pages = restored,
		.prefault = vm->cfg->prefault && mapped == restored,
		.from_file = mapped,
		.file_fd = restored ? vm->snapshot->memory_fd : -1,
	};
	int r = mem_init(&vm->mem, vm->cfg->memory_bytes, &options);

	if (r == 0 && restored)
		r = fill_memory(vm);
	if (r == 0)
		r = build_pages(vm);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < vm->mem.nregions; i++)
		vm->machine.ram[i] = (struct machine_range){
			vm->mem.region[i].base, vm->mem.region[i].bytes};
	vm->machine.nram = vm->mem.nregions;
	return 0;
}

static int build_memory(struct vm *vm)
{
	const int r = map_memory(vm);

	trace_mark(vm->cfg->trace, TRACE_RAM);
	return r < 0 ? r : register_memory(vm);
}

static int create_vcpus(struct vm *vm)
{
	for (unsigned i = 0; i < vm->cfg->cpus; i++) {
		struct vcpu *vcpu = &vm->vcpu[i];
		int r;

		vcpu->fd = -1;
		vcpu->bus = &vm->bus;
		vcpu->mem = &vm->mem;
		vcpu->stop = &vm->stop;
		vcpu->trace = vm->cfg->trace;
		vm->nvcpus++;
		r = vcpu_init(vcpu, &vm->kvm, i, vm->cfg->cpus);
		if (r < 0)
			return r;
	}
	return 0;
}

static void *cpu_thread(void *arg)
{
	struct vm *vm = arg;

	vm->cpu_result = irqchip_create(&vm->kvm);
	if (vm->cpu_result == 0)
		vm->cpu_result = create_vcpus(vm);
	return NULL;
}

static int start_vcpus(struct vm *vm)
{
	int r;

	vm->vcpu = calloc(vm->cfg->cpus, sizeof(*vm->vcpu));
	if (!vm->vcpu)
		return log_ret(-ENOMEM, "out of memory");
	vm->machine.cpus = vm->cfg->cpus;
	r = thread_start(&vm->cpu_thread, 0, cpu_thread, vm);
	if (r < 0)
		return log_ret(r, "cannot start a thread: %s", strerror(-r));
	vm->cpu_thread_started = true;
	return 0;
}

static int wait_vcpus(struct vm *vm)
{
	if (vm->cpu_thread_started) {
		pthread_join(vm->cpu_thread, NULL);
		vm->cpu_thread_started = false;
	}
	return vm->cpu_result;
}

/*
 * Shaped by two facts: irqchip and vCPUs are created in the background from
 * start_vcpus() to wait_vcpus(), and whether the host interprets (which the
 * command line depends on) is known only when a vCPU has run.
 */
struct step {
	const char *what; /* NULL ends the table */
	int (*run)(struct vm *vm);
	int status; /* whose fault a failure is, unless its errno says */
	enum trace_point done; /* to which it comes; 0: to none */
};

static const struct step boot_steps[] = {
	{"take signals", vm_build_signals, VM_EXIT_HOST, 0},
	{"prepare to be saved", vm_build_saving, VM_EXIT_HOST, 0},
	{"open KVM", build_kvm, VM_EXIT_HOST, TRACE_VM},
	{"map guest memory", build_memory, VM_EXIT_HOST, TRACE_REGISTERED},
	{"start to create vCPUs", start_vcpus, VM_EXIT_HOST, 0},
	{"load kernel", vm_build_kernel, VM_EXIT_USAGE, TRACE_KERNEL},
	{"load initrd", vm_build_initrd, VM_EXIT_USAGE, 0},
	{"open terminal", vm_build_terminal, VM_EXIT_HOST, 0},
	{"open virtio devices", vm_build_virtio, VM_EXIT_USAGE, TRACE_DEVICES},
	{"wait for vCPUs", wait_vcpus, VM_EXIT_HOST, TRACE_VCPUS},
	{"add platform devices", vm_build_platform, VM_EXIT_HOST, 0},
	{"attach virtio devices", vm_attach_virtio, VM_EXIT_HOST,
	 TRACE_ATTACHED},
	{"probe the host", vm_build_assist, VM_EXIT_HOST, 0},
	{"write firmware tables", vm_build_firmware, VM_EXIT_USAGE,
	 TRACE_FIRMWARE},
	{0},
};

/*
 * Kernel, registers and tables are in the snapshot. Its working set comes in
 * while KVM waits for a grace period when it creates the VM.
 */
static const struct step restore_steps[] = {
	{"take signals", vm_build_signals, VM_EXIT_HOST, 0},
	{"prepare to be saved", vm_build_saving, VM_EXIT_HOST, 0},
	{"map saved memory", map_memory, VM_EXIT_HOST, TRACE_RAM},
	{"open KVM", build_kvm, VM_EXIT_HOST, TRACE_VM},
	{"register memory", register_memory, VM_EXIT_HOST, TRACE_REGISTERED},
	{"start to create vCPUs", start_vcpus, VM_EXIT_HOST, 0},
	{"open terminal", vm_build_terminal, VM_EXIT_HOST, 0},
	{"open virtio devices", vm_build_virtio, VM_EXIT_USAGE, TRACE_DEVICES},
	{"wait for vCPUs", wait_vcpus, VM_EXIT_HOST, TRACE_VCPUS},
	{"add platform devices", vm_build_platform, VM_EXIT_HOST, 0},
	{"attach virtio devices", vm_attach_virtio, VM_EXIT_HOST,
	 TRACE_ATTACHED},
	{"load vCPUs", vm_load_kvm, VM_EXIT_SNAPSHOT, TRACE_LOADED_VCPUS},
	{0},
};

/* Running out of something is the host's fault wherever it happens. */
static int exit_status(int error, int status)
{
	switch (-error) {
	case ENOMEM:
	case EMFILE:
	case ENFILE:
		return VM_EXIT_HOST;
	default:
		return status;
	}
}

static int build(const struct config *cfg, const struct snapshot *snapshot,
		 const struct step *steps, struct vm **ret_vm)
{
	uint64_t start_ns = util_now_ns();
	struct vm *vm = calloc(1, sizeof(*vm));
	int r;

	if (!vm)
		return log_ret(VM_EXIT_HOST, "out of memory");
	vm->cfg = cfg;
	vm->snapshot = snapshot;
	if (snapshot && snapshot_is_mapped(snapshot)) {
		vm->base.exists = true;
		memcpy(vm->base.id, snapshot->id, sizeof(vm->base.id));
		vm->base.memory_sum = snapshot->memory_sum;
	}
	vm->pagemap_fd = -1;
	vm->file_fd = -1;
	vm->oom_fd = -1;
	vm->born_ns = start_ns;
	pthread_mutex_init(&vm->life_lock, NULL);
	kvm_init(&vm->kvm);
	vm->signals.fd = -1;
	vm->serial.irq.event_fd = -1;
	r = loop_init(&vm->loop);
	if (r < 0) {
		log_error("event loop: %s", strerror(-r));
		vm_free(vm);
		return VM_EXIT_HOST;
	}
	stop_init(&vm->stop, &vm->loop);
	for (unsigned i = 0; steps[i].what; i++) {
		uint64_t before_ns = util_now_ns();

		r = steps[i].run(vm);
		if (r < 0) {
			vm_free(vm);
			return exit_status(r, steps[i].status);
		}
		if (steps[i].done)
			trace_mark(cfg->trace, steps[i].done);
		log_debug("%s: %llu us", steps[i].what,
			  (unsigned long long)(util_now_ns() - before_ns) /
				  1000);
	}
	bus_freeze(&vm->bus);
	*ret_vm = vm;
	return 0;
}

int vm_build(const struct config *cfg, struct vm **ret_vm)
{
	return build(cfg, NULL, boot_steps, ret_vm);
}

int vm_build_restored(const struct config *cfg, const struct snapshot *snapshot,
		      struct vm **ret_vm)
{
	if (cfg->hugetlb)
		return log_ret(VM_EXIT_USAGE,
			       "--hugetlb: a restored machine has its RAM from "
			       "a file, which no huge pages are in");
	/* Behind the file's end every access would be SIGBUS. */
	if (cfg->memory_bytes != snapshot->memory_bytes)
		return log_ret(VM_EXIT_SNAPSHOT,
			       "the snapshot has %llu bytes of memory, its "
			       "configuration %llu",
			       (unsigned long long)snapshot->memory_bytes,
			       (unsigned long long)cfg->memory_bytes);
	return build(cfg, snapshot, restore_steps, ret_vm);
}

void vm_free(struct vm *vm)
{
	if (!vm)
		return;
	(void)wait_vcpus(vm);
	vm_end(vm);
	working_set_done(&vm->working_set);
	for (unsigned i = 0; i < vm->nvcpus; i++)
		vcpu_done(&vm->vcpu[i]);
	free(vm->vcpu);
	vm_done_devices(vm);
	if (vm->assist)
		assist_free(vm->assist);
	kvm_done(&vm->kvm);
	if (vm->pages)
		munmap(vm->pages, vm->pages_bytes);
	pager_done(&vm->pager);
	mem_done(&vm->mem);
	vm_done_signals(vm);
	loop_timer_close(&vm->started);
	loop_done(&vm->loop);
	pthread_mutex_destroy(&vm->life_lock);
	visit_done(&vm->loading);
	free(vm->directory);
	util_close(&vm->pagemap_fd);
	util_close(&vm->file_fd);
	util_close(&vm->oom_fd);
	free(vm);
}
