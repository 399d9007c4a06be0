/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM from configuration to exit status. vm_build() runs the steps of a table
 * in order; whatever the first failing one leaves, vm_free() takes down.
 *
 * This is the one file that knows all parts: KVM, memory, devices, firmware
 * tables, vCPUs. Interrupt controllers and vCPUs are created on a thread of
 * their own (KVM starts threads and waits for grace periods meanwhile) while
 * this one reads the kernel and opens disks.
 */
#include "vmm/vm.h"

#include "devices/fs/fs.h"
#include "devices/platform/platform.h"
#include "devices/host/terminal.h"
#include "devices/virtio/virtio-mmio.h"
#include "devices/virtio/virtio.h"
#include "firmware/tables/acpi.h"
#include "firmware/tables/bootparams.h"
#include "firmware/tables/fdt.h"
#include "firmware/machine.h"
#include "firmware/tables/mptable.h"
#include "vmm/pvm/assist.h"
#include "vmm/base/bus.h"
#include "vmm/config/cmdline.h"
#include "vmm/config/config.h"
#include "vmm/kernel/image.h"
#include "vmm/base/kvm.h"
#include "vmm/base/log.h"
#include "vmm/base/loop.h"
#include "vmm/base/mem.h"
#include "vmm/base/sandbox.h"
#include "vmm/base/stop.h"
#include "vmm/base/util.h"
#include "vmm/cpu/vcpu.h"

#include <asm/bootparam.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>

#define CPU_THREAD_STACK (128 * KIB)

struct vm {
	const struct config *cfg; /* borrowed */
	uint64_t born_ns;

	struct kvm kvm;
	struct mem mem;
	struct bus bus;
	struct loop loop;
	struct stop stop;
	struct loop_source signals; /* fd: signalfd, owned */
	sigset_t signals_before;
	bool signals_blocked;

	pthread_t cpu_thread; /* creates irqchip and vCPUs */
	bool cpu_thread_started;
	int cpu_result;

	struct machine machine;
	char command_line[MACHINE_CMDLINE_MAX];
	struct image image;
	struct vcpu_start start;
	gpa_t rsdp_gpa;

	struct terminal terminal;
	bool has_terminal, has_serial;
	struct serial serial;
	struct i8042 i8042;
	struct fs_budget files; /* of all shares */
	struct virtio_dev *virtio[MACHINE_VIRTIO_MAX];
	struct virtio_mmio mmio[MACHINE_VIRTIO_MAX];
	unsigned nvirtio;
	uint8_t *pages; /* nvirtio register pages, mapped for the guest */
	size_t pages_bytes;

	struct vcpu *vcpu; /* cfg->cpus of them */
	unsigned nvcpus;
	struct assist *assist; /* on interpreting hosts only */
	bool rebooted;
};

/* ---- steps ---- */

static int build_kvm(struct vm *vm)
{
	int r = kvm_open(&vm->kvm);

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

/* Every virtio device's register page, in one piece. */
static int build_pages(struct vm *vm)
{
	vm->pages_bytes = MACHINE_VIRTIO_MAX * VIRTIO_MMIO_BYTES;
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

static int build_memory(struct vm *vm)
{
	const struct mem_options options = {
		.hugetlb = vm->cfg->hugetlb,
		.prefault = vm->cfg->prefault,
	};
	int r = mem_init(&vm->mem, vm->cfg->memory_bytes, &options);

	if (r == 0)
		r = build_pages(vm);
	if (r == 0)
		r = register_memory(vm);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < vm->mem.nregions; i++)
		vm->machine.ram[i] = (struct machine_range){
			vm->mem.region[i].base, vm->mem.region[i].bytes};
	vm->machine.nram = vm->mem.nregions;
	return 0;
}

#define IOAPIC_SMI 2 /* delivery mode: 82093AA 3.2.4 */

/*
 * All pins masked and in SMI mode, as firmware leaves pins it uses itself:
 * Linux reads these once and leaves them alone until it gives one to a device,
 * instead of writing each of them and reading it again, 8 exits a pin.
 */
static int rest_ioapic(int fd)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};

	if (ioctl(fd, KVM_GET_IRQCHIP, &chip) < 0)
		return log_ret(-errno, "KVM_GET_IRQCHIP: %s", strerror(errno));
	for (unsigned i = 0; i < KVM_IOAPIC_NUM_PINS; i++) {
		chip.chip.ioapic.redirtbl[i].fields.mask = 1;
		chip.chip.ioapic.redirtbl[i].fields.delivery_mode = IOAPIC_SMI;
	}
	if (ioctl(fd, KVM_SET_IRQCHIP, &chip) < 0)
		return log_ret(-errno, "KVM_SET_IRQCHIP: %s", strerror(errno));
	return 0;
}

static int create_irqchip(struct vm *vm)
{
	const struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
	uint64_t identity_map = MACHINE_IDENTITY_MAP;
	int fd = vm->kvm.vm_fd;

	if (ioctl(fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0 ||
	    ioctl(fd, KVM_SET_TSS_ADDR, MACHINE_TSS) < 0)
		return log_ret(-errno, "KVM_SET_TSS_ADDR: %s", strerror(errno));
	if (ioctl(fd, KVM_CREATE_IRQCHIP, 0) < 0)
		return log_ret(-errno, "KVM_CREATE_IRQCHIP: %s",
			       strerror(errno));
	if (ioctl(fd, KVM_CREATE_PIT2, &pit) < 0)
		return log_ret(-errno, "KVM_CREATE_PIT2: %s", strerror(errno));
	return rest_ioapic(fd);
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

	vm->cpu_result = create_irqchip(vm);
	if (vm->cpu_result == 0)
		vm->cpu_result = create_vcpus(vm);
	return NULL;
}

static int start_vcpus(struct vm *vm)
{
	pthread_attr_t attr;
	int r;

	vm->vcpu = calloc(vm->cfg->cpus, sizeof(*vm->vcpu));
	if (!vm->vcpu)
		return log_ret(-ENOMEM, "out of memory");
	vm->machine.cpus = vm->cfg->cpus;
	/* In the usual 8 MiB the first touch may get a page of 2 MiB. */
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, CPU_THREAD_STACK);
	r = pthread_create(&vm->cpu_thread, &attr, cpu_thread, vm);
	pthread_attr_destroy(&attr);
	if (r)
		return log_ret(-r, "cannot start a thread: %s", strerror(r));
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

static int build_kernel(struct vm *vm)
{
	const struct config *cfg = vm->cfg;
	autofd int fd = open(cfg->kernel, O_RDONLY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return log_ret(-errno, "kernel '%s': %s", cfg->kernel,
			       strerror(errno));
	r = image_load(&vm->image, fd, cfg->kernel, cfg->entry, &vm->mem);
	if (r < 0)
		return r;
	log_debug("kernel '%s': %s, entry 0x%llx (%s)", cfg->kernel,
		  vm->image.kind, (unsigned long long)vm->image.entry,
		  vm->image.pvh ? "PVH" : "64-bit");
	vm->start = (struct vcpu_start){
		.mode = vm->image.pvh ? VCPU_PROTECTED : VCPU_LONG,
		.entry = vm->image.entry,
		.info = vm->image.pvh ? MACHINE_PVH_INFO : MACHINE_BOOT_PARAMS,
		.gdt = MACHINE_GDT,
		.page_tables = MACHINE_PAGE_TABLES,
	};
	return 0;
}

/* The highest address the kernel accepts for an initrd (boot protocol). */
static gpa_t initrd_limit(const struct image *image)
{
	const size_t at = offsetof(struct setup_header, initrd_addr_max);
	uint32_t limit = 0x7fffffff;

	if (image->header_bytes >= at + sizeof(limit))
		memcpy(&limit, image->setup_header + at, sizeof(limit));
	return limit;
}

static int build_initrd(struct vm *vm)
{
	const char *path = vm->cfg->initrd;
	autofd int fd = -1;

	if (!path)
		return 0;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return log_ret(-errno, "--initrd '%s': %s", path,
			       strerror(errno));
	return image_load_initrd(
		fd, path, &vm->mem, vm->image.end, initrd_limit(&vm->image),
		&vm->machine.initrd_gpa, &vm->machine.initrd_bytes);
}

static int build_terminal(struct vm *vm)
{
	int r;

	if (vm->cfg->console == CONFIG_CONSOLE_NONE)
		return 0;
	r = terminal_init(&vm->terminal, &vm->loop, &vm->stop);
	vm->has_terminal = r == 0;
	return r;
}

static int add_platform(struct vm *vm, enum bus_space space, uint64_t base,
			uint64_t bytes, const struct bus_ops *ops, void *dev)
{
	int r = bus_add(&vm->bus, space, base, bytes, ops, dev);

	return r < 0 ? log_ret(r, "%s: no room on the bus", ops->name) : 0;
}

static int build_platform(struct vm *vm)
{
	enum config_console console = vm->cfg->console;
	struct stop *stop = &vm->stop;
	int r = 0;

	i8042_init(&vm->i8042, stop);
	r = add_platform(vm, BUS_PORT, MACHINE_PORT_I8042, 5, &i8042_bus_ops,
			 &vm->i8042);
	if (r == 0)
		r = add_platform(vm, BUS_PORT, MACHINE_PORT_EXIT, 1,
				 &exit_port_bus_ops, stop);
	if (r == 0)
		r = add_platform(vm, BUS_PORT, MACHINE_PORT_PM, 4, &pm_bus_ops,
				 stop);
	if (r == 0)
		r = add_platform(vm, BUS_MMIO, MACHINE_PM_MMIO,
				 MACHINE_PM_MMIO_BYTES, &pm_mmio_bus_ops, stop);
	if (r == 0)
		r = add_platform(vm, BUS_MMIO, MACHINE_PVPANIC, 1,
				 &pvpanic_bus_ops, stop);
	if (r < 0 || (console != CONFIG_CONSOLE_AUTO &&
		      console != CONFIG_CONSOLE_SERIAL))
		return r;
	vm->machine.serial = true;
	vm->has_serial = true;
	r = serial_init(&vm->serial, vm->kvm.vm_fd, IRQ_SERIAL, &vm->terminal,
			console == CONFIG_CONSOLE_SERIAL);
	if (r < 0)
		return r;
	return add_platform(vm, BUS_PORT, MACHINE_PORT_SERIAL, 8,
			    &serial_bus_ops, &vm->serial);
}

/* Opens one device's files; its registers come when memory is in place. */
static int open_virtio(struct vm *vm, const struct config_device *device)
{
	const struct virtio_ops *ops = virtio_find(device->type);
	const struct virtio_host host = {
		.mem = &vm->mem,
		.loop = &vm->loop,
		.terminal = vm->has_terminal ? &vm->terminal : NULL,
		.files = &vm->files,
	};
	unsigned index = 0;
	int r;

	if (!ops)
		return log_ret(-EINVAL, "device type '%s' is not known",
			       device->type);
	if (vm->nvirtio == MACHINE_VIRTIO_MAX)
		return log_ret(-E2BIG,
			       "a guest has at most %u devices, its console "
			       "and random numbers among them: use fewer "
			       "disks, shares or networks",
			       MACHINE_VIRTIO_MAX);
	for (unsigned i = 0; i < vm->nvirtio; i++)
		index += vm->virtio[i]->ops == ops;
	r = virtio_new(ops, device, index, &host, &vm->virtio[vm->nvirtio]);
	if (r == 0)
		vm->nvirtio++;
	return r;
}

/* The budget of all shares, before the first is opened. */
static void build_budget(struct vm *vm)
{
	unsigned shares = 0;

	for (unsigned i = 0; i < vm->cfg->ndevices; i++)
		shares += strcmp(vm->cfg->device[i].type, "fs") == 0;
	if (shares > 0)
		fs_budget_init(&vm->files, vm->mem.bytes, shares);
}

static int build_virtio(struct vm *vm)
{
	char console_type[] = "console";
	const struct config_device console = {.type = console_type};
	int r = 0;

	build_budget(vm);
	if (vm->cfg->console == CONFIG_CONSOLE_AUTO ||
	    vm->cfg->console == CONFIG_CONSOLE_VIRTIO)
		r = open_virtio(vm, &console);
	for (unsigned i = 0; r == 0 && i < vm->cfg->ndevices; i++)
		r = open_virtio(vm, &vm->cfg->device[i]);
	return r;
}

/* Puts the opened devices behind their registers. */
static int attach_virtio(struct vm *vm)
{
	for (unsigned i = 0; i < vm->nvirtio; i++) {
		struct machine_virtio *slot = &vm->machine.virtio[i];
		int r;

		slot->base = MACHINE_VIRTIO_BASE + i * MACHINE_VIRTIO_STRIDE;
		slot->bytes = VIRTIO_MMIO_BYTES;
		slot->gsi = IRQ_VIRTIO_FIRST + i % IRQ_VIRTIO_LINES;
		vm->machine.nvirtio = i + 1;
		r = virtio_mmio_init(
			&vm->mmio[i], vm->virtio[i], vm->kvm.vm_fd, slot->base,
			slot->gsi,
			i < IRQ_VIRTIO_LINES
				? NULL
				: &vm->mmio[i - IRQ_VIRTIO_LINES].irq,
			vm->pages + i * VIRTIO_MMIO_BYTES,
			vm->kvm.has_readonly_mem);
		if (r == 0)
			r = add_platform(vm, BUS_MMIO, slot->base, slot->bytes,
					 &virtio_mmio_bus_ops, &vm->mmio[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

static int build_assist(struct vm *vm)
{
	enum config_assist wanted = vm->cfg->assist;
	int needed = wanted == CONFIG_ASSIST_ON;
	int r = regs_write_tables(&vm->mem, &vm->start);

	if (r == 0)
		r = regs_set(&vm->vcpu[0], &vm->start);
	if (r < 0)
		return r;
	if (wanted == CONFIG_ASSIST_AUTO)
		needed = assist_probe(&vm->vcpu[0], &vm->mem, MACHINE_SCRATCH);
	if (needed <= 0)
		return needed;
	vm->assist = assist_new(&vm->mem, vm->nvcpus);
	if (!vm->assist)
		return log_ret(-ENOMEM, "out of memory");
	for (unsigned i = 0; i < vm->nvcpus; i++)
		vm->vcpu[i].assist = vm->assist;
	log_debug("this host's KVM interprets guest kernel code: assists on");
	return 0;
}

/* Words that this host needs, but none that the kernel would give to init. */
static const char *assist_words(const struct vm *vm)
{
	const bool ia32 = image_takes(&vm->image, &vm->mem, "ia32_emulation");
	/* Linux 6.7 brought both into its list; it looked for nopti before. */
	const bool pti = ia32 ? image_takes(&vm->image, &vm->mem, "nopti")
			      : image_mentions(&vm->image, &vm->mem, "nopti");

	return assist_command_line(pti, ia32);
}

static int write_command_line(struct vm *vm)
{
	struct cmdline_facts facts = {
		.console = vm->cfg->console,
		.has_initrd = vm->machine.initrd_bytes > 0,
		.list_devices = vm->image.pvh,
		/* In the list of every kernel with CONFIG_PCI. */
		.has_pci = image_takes(&vm->image, &vm->mem, "pcie_port_pm="),
		.assist = vm->assist ? assist_words(vm) : NULL,
		.append = vm->cfg->append,
		.kernel = vm->cfg->kernel,
		.kernel_max = vm->image.cmdline_max,
	};
	const char *word = vm->assist ? assist_conflict(vm->cfg->append) : NULL;
	char *merged = NULL;
	int n;

	if (word)
		return log_ret(-EINVAL,
			       "--append: '%s' does not work on this host, "
			       "which has no hardware virtualization: leave it "
			       "out",
			       word);
	for (unsigned i = 0; i < vm->cfg->ndevices && !facts.has_disk; i++) {
		const struct config_device *device = &vm->cfg->device[i];

		facts.has_disk = strcmp(device->type, "blk") == 0;
		facts.disk_readonly = config_flag(device, "readonly");
	}
	n = vm->assist ? assist_merge(vm->cfg->append, &merged) : 0;
	if (n < 0)
		return n;
	if (merged)
		facts.append = merged;
	n = cmdline_build(&vm->machine, &facts, vm->command_line,
			  sizeof(vm->command_line));
	free(merged);
	if (n < 0)
		return n;
	log_debug("command line: %s", vm->command_line);
	vm->machine.command_line = vm->command_line;
	return mem_write(&vm->mem, MACHINE_CMDLINE, vm->command_line,
			 (size_t)n + 1);
}

/* The tree, for the kernel and for --dump-dtb. */
static int write_dtb(struct vm *vm)
{
	uint8_t *node = mem_at(&vm->mem, MACHINE_DTB, MACHINE_DTB_MAX);
	uint8_t *tree = node + sizeof(struct setup_data);
	int n = fdt_build(&vm->machine, tree,
			  MACHINE_DTB_MAX - sizeof(struct setup_data));
	const char *path = vm->cfg->dump_dtb;
	autofd int fd = -1;
	int r;

	if (n < 0)
		return log_ret(n, "device tree: %s", strerror(-n));
	bootparams_dtb_node(node, (uint32_t)n);
	if (!path)
		return 0;
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	r = fd < 0 ? -errno : util_write_all(fd, tree, (size_t)n);
	return r < 0 ? log_ret(r, "--dump-dtb '%s': %s", path, strerror(-r))
		     : 0;
}

/*
 * Only for a kernel that cannot get the tree (PVH), or does not read it, as its
 * user shows by listing the devices: one that reads both counts CPUs twice, or
 * warns of it.
 */
static int write_mptable(struct vm *vm)
{
	const char *append = vm->cfg->append;
	void *ebda = mem_at(&vm->mem, MACHINE_EBDA, MACHINE_EBDA_BYTES);

	if (!vm->image.pvh &&
	    !(append && strstr(append, "virtio_mmio.device=")))
		return 0;
	return mptable_build(&vm->machine, MACHINE_EBDA, ebda,
			     MACHINE_EBDA_BYTES);
}

static int write_tables(struct vm *vm)
{
	void *acpi = mem_at(&vm->mem, MACHINE_ACPI, MACHINE_ACPI_MAX);
	int r = acpi_build(&vm->machine, MACHINE_ACPI, acpi, MACHINE_ACPI_MAX);

	if (r > 0)
		r = write_mptable(vm);
	vm->rsdp_gpa = MACHINE_ACPI;
	return r < 0 ? log_ret(r, "firmware tables: %s", strerror(-r)) : 0;
}

static int build_firmware(struct vm *vm)
{
	void *page = mem_at(&vm->mem, vm->start.info, 4096);
	int r = write_command_line(vm);

	if (r >= 0)
		r = write_tables(vm);
	if (r < 0)
		return r;
	if (vm->image.pvh) {
		r = bootparams_pvh(&vm->machine, vm->start.info, vm->rsdp_gpa,
				   page, 4096);
	} else {
		r = write_dtb(vm);
		if (r == 0)
			r = bootparams_build(&vm->machine,
					     vm->image.setup_header,
					     vm->image.header_bytes,
					     MACHINE_DTB, vm->rsdp_gpa, page);
	}
	return r < 0 ? log_ret(r, "boot parameters: %s", strerror(-r)) : 0;
}

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

static int build_signals(struct vm *vm)
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

/*
 * Shaped by two facts: irqchip and vCPUs are created in the background from
 * start_vcpus() to wait_vcpus(), and whether the host interprets (which the
 * command line depends on) is known only when a vCPU has run.
 */
static const struct step {
	const char *what;
	int (*run)(struct vm *vm);
	int status; /* whose fault a failure is, unless its errno says */
} steps[] = {
	{"take signals", build_signals, VM_EXIT_HOST},
	{"open KVM", build_kvm, VM_EXIT_HOST},
	{"map guest memory", build_memory, VM_EXIT_HOST},
	{"start to create vCPUs", start_vcpus, VM_EXIT_HOST},
	{"load kernel", build_kernel, VM_EXIT_USAGE},
	{"load initrd", build_initrd, VM_EXIT_USAGE},
	{"open terminal", build_terminal, VM_EXIT_HOST},
	{"open virtio devices", build_virtio, VM_EXIT_USAGE},
	{"wait for vCPUs", wait_vcpus, VM_EXIT_HOST},
	{"add platform devices", build_platform, VM_EXIT_HOST},
	{"attach virtio devices", attach_virtio, VM_EXIT_HOST},
	{"probe the host", build_assist, VM_EXIT_HOST},
	{"write firmware tables", build_firmware, VM_EXIT_USAGE},
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

int vm_build(const struct config *cfg, struct vm **ret_vm)
{
	uint64_t start_ns = util_now_ns();
	struct vm *vm = calloc(1, sizeof(*vm));
	int r;

	if (!vm)
		return log_ret(VM_EXIT_HOST, "out of memory");
	vm->cfg = cfg;
	vm->born_ns = start_ns;
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
	for (unsigned i = 0; i < ARRAY_LEN(steps); i++) {
		uint64_t before_ns = util_now_ns();

		r = steps[i].run(vm);
		if (r < 0) {
			vm_free(vm);
			return exit_status(r, steps[i].status);
		}
		log_debug("%s: %llu us", steps[i].what,
			  (unsigned long long)(util_now_ns() - before_ns) /
				  1000);
	}
	bus_freeze(&vm->bus);
	*ret_vm = vm;
	return 0;
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

static int confine_thread(const struct virtio_ops *ops)
{
	return sandbox_enter_thread(ops->syscalls, ops->capabilities);
}

/*
 * A device with privileges has a thread of its own, and only that keeps them.
 */
static int enter_sandbox(struct vm *vm)
{
	const struct sandbox_rule *lists[2 * MACHINE_VIRTIO_MAX + 2];
	unsigned n = 0;

	for (unsigned i = 0; i < vm->nvirtio; i++) {
		const struct virtio_ops *ops = vm->virtio[i]->ops;
		int r = 0;

		lists[n++] = ops->capabilities ? NULL : ops->syscalls;
		lists[n++] = vm->virtio[i]->more_syscalls;
		if (ops->capabilities)
			r = virtio_start_thread(vm->virtio[i], confine_thread);
		if (r < 0)
			return r;
	}
	lists[n++] = vm->has_terminal ? terminal_syscalls : NULL;
	lists[n++] = vm->assist ? sandbox_assists : NULL;
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

int vm_run(struct vm *vm)
{
	int r = 0;

	if (vm->has_terminal)
		r = terminal_start(&vm->terminal);
	if (r == 0 && vm->cfg->sandbox)
		r = enter_sandbox(vm);
	util_drop_code();
	log_debug("first KVM_RUN after %llu us",
		  (unsigned long long)(util_now_ns() - vm->born_ns) / 1000);
	for (unsigned i = 0; r == 0 && i < vm->nvcpus; i++)
		r = vcpu_start_thread(&vm->vcpu[i]);
	if (r == 0)
		r = loop_run(&vm->loop);
	for (unsigned i = 0; i < vm->nvcpus; i++)
		vcpu_stop_thread(&vm->vcpu[i]);
	report(vm);
	return r < 0 ? VM_EXIT_HOST : end_status(vm);
}

void vm_free(struct vm *vm)
{
	if (!vm)
		return;
	(void)wait_vcpus(vm);
	for (unsigned i = 0; i < vm->nvcpus; i++)
		vcpu_done(&vm->vcpu[i]);
	free(vm->vcpu);
	for (unsigned i = 0; i < vm->nvirtio; i++) {
		if (i < vm->machine.nvirtio)
			virtio_mmio_done(&vm->mmio[i]);
		virtio_free(vm->virtio[i]);
	}
	if (vm->has_serial)
		serial_done(&vm->serial);
	if (vm->has_terminal)
		terminal_done(&vm->terminal);
	if (vm->assist)
		assist_free(vm->assist);
	kvm_done(&vm->kvm);
	if (vm->pages)
		munmap(vm->pages, vm->pages_bytes);
	mem_done(&vm->mem);
	if (vm->signals.fd >= 0) {
		loop_del(&vm->loop, &vm->signals);
		close(vm->signals.fd);
	}
	loop_done(&vm->loop);
	if (vm->signals_blocked)
		pthread_sigmask(SIG_SETMASK, &vm->signals_before, NULL);
	free(vm);
}
