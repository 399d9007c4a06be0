/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's start: kernel and initrd in its memory, the boot CPU's registers,
 * the command line, and the tables that describe the machine.
 */
#include "vmm/vm-parts.h"

#include "firmware/tables/acpi.h"
#include "firmware/tables/bootparams.h"
#include "firmware/tables/fdt.h"
#include "firmware/tables/mptable.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/config/cmdline.h"
#include "vmm/config/config.h"
#include "vmm/pvm/assist.h"

#include <asm/bootparam.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

int vm_build_kernel(struct vm *vm)
{
	const struct config *cfg = vm->cfg;
	autofd int fd = open(cfg->kernel, O_RDONLY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return log_ret(-errno, "kernel '%s': %s", cfg->kernel,
			       strerror(errno));
	r = kimage_load(&vm->image, fd, cfg->kernel, cfg->entry, &vm->mem);
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
static gpa_t initrd_limit(const struct kimage *image)
{
	const size_t at = offsetof(struct setup_header, initrd_addr_max);
	uint32_t limit = 0x7fffffff;

	if (image->header_bytes >= at + sizeof(limit))
		memcpy(&limit, image->setup_header + at, sizeof(limit));
	return limit;
}

int vm_build_initrd(struct vm *vm)
{
	const char *path = vm->cfg->initrd;
	autofd int fd = -1;

	if (!path)
		return 0;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return log_ret(-errno, "--initrd '%s': %s", path,
			       strerror(errno));
	return kimage_load_initrd(
		fd, path, &vm->mem, vm->image.end, initrd_limit(&vm->image),
		&vm->machine.initrd_gpa, &vm->machine.initrd_bytes);
}

int vm_build_assist(struct vm *vm)
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
	return needed <= 0 ? needed : vm_use_assist(vm);
}

int vm_use_assist(struct vm *vm)
{
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
	const bool ia32 = kimage_takes(&vm->image, &vm->mem, "ia32_emulation");
	/* Linux 6.7 brought both into its list; it looked for nopti before. */
	const bool pti = ia32 ? kimage_takes(&vm->image, &vm->mem, "nopti")
			      : kimage_mentions(&vm->image, &vm->mem, "nopti");

	return assist_command_line(pti, ia32);
}

static int write_command_line(struct vm *vm)
{
	struct cmdline_facts facts = {
		.console = vm->cfg->console,
		.has_initrd = vm->machine.initrd_bytes > 0 &&
			      !vm->cfg->initrd_mounts_root,
		.list_devices = vm->image.pvh,
		/* In the list of every kernel with CONFIG_PCI. */
		.has_pci = kimage_takes(&vm->image, &vm->mem, "pcie_port_pm="),
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

int vm_build_firmware(struct vm *vm)
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
