/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's devices: opened while vCPUs are made, put on the bus and behind
 * their registers after that, and ended together.
 */
#include "vmm/vm-parts.h"

#include "devices/virtio/fs-trees.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <string.h>

int vm_build_terminal(struct vm *vm)
{
	int r;

	if (vm->cfg->console == CONFIG_CONSOLE_NONE)
		return 0;
	r = terminal_init(&vm->terminal, &vm->loop, &vm->stop);
	vm->has_terminal = r == 0;
	vm->terminal.trace = vm->cfg->trace;
	return r;
}

static int add_platform(struct vm *vm, enum bus_space space, uint64_t base,
			uint64_t bytes, const struct bus_ops *ops, void *dev)
{
	int r = bus_add(&vm->bus, space, base, bytes, ops, dev);

	return r < 0 ? log_ret(r, "%s: no room on the bus", ops->name) : 0;
}

int vm_build_platform(struct vm *vm)
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
	if (r == 0)
		r = vmgenid_init(&vm->vmgenid, vm->kvm.vm_fd,
				 vm->pages + MACHINE_VIRTIO_MAX *
						     VIRTIO_MMIO_BYTES);
	if (r == 0)
		r = add_platform(vm, BUS_MMIO, MACHINE_VMGENID,
				 MACHINE_VIRTIO_STRIDE, &vmgenid_bus_ops,
				 &vm->vmgenid);
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
		.machine = vm->cfg,
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

static bool is_tree(const struct config_device *device)
{
	return strcmp(device->type, "tree") == 0;
}

static bool is_share(const struct config_device *device)
{
	return strcmp(device->type, "fs") == 0;
}

/* Trees that share one budget. */
static unsigned count_trees(const struct config *cfg)
{
	unsigned shares = 0;

	for (unsigned i = 0; i < cfg->ndevices; i++) {
		const struct config_device *device = &cfg->device[i];

		shares += is_tree(device) ||
			  (is_share(device) && config_text(device, "dir"));
		if (is_share(device) && config_text(device, "socket"))
			shares += (unsigned)config_number(device, "trees",
							  FS_TREES_DEFAULT);
	}
	return shares;
}

/* Before the first is opened. */
static void build_budget(struct vm *vm)
{
	const unsigned shares = count_trees(vm->cfg);

	if (shares > 0)
		fs_budget_init(&vm->files, vm->mem.bytes, shares);
}

int vm_build_virtio(struct vm *vm)
{
	char console_type[] = "console";
	const struct config_device console = {.type = console_type};
	int r = 0;

	build_budget(vm);
	if (vm->cfg->console == CONFIG_CONSOLE_AUTO ||
	    vm->cfg->console == CONFIG_CONSOLE_VIRTIO)
		r = open_virtio(vm, &console);
	for (unsigned i = 0; r == 0 && i < vm->cfg->ndevices; i++) {
		const struct config_device *device = &vm->cfg->device[i];

		/* A share opens its trees itself. */
		if (!is_tree(device))
			r = open_virtio(vm, device);
	}
	return r;
}

/* Puts the opened devices behind their registers. */
int vm_attach_virtio(struct vm *vm)
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

/* Its place among all devices, or -1. */
static int find_net(const struct vm *vm, unsigned number)
{
	for (unsigned i = 0; i < vm->nvirtio; i++) {
		if (vm->virtio[i]->ops->id == VIRTIO_ID_NET && number-- == 0)
			return (int)i;
	}
	return -1;
}

int vm_plug(struct vm *vm, unsigned number, const struct virtio_plug *plug)
{
	const int i = find_net(vm, number);
	int r;

	if (i < 0)
		return -ENOENT;
	r = virtio_mmio_add_doorbells(&vm->mmio[i], vm->kvm.vm_fd);
	return r < 0 ? r : virtio_plug(vm->virtio[i], plug);
}

int vm_unplug(struct vm *vm, unsigned number)
{
	const int i = find_net(vm, number);

	return i < 0 ? -ENOENT : virtio_unplug(vm->virtio[i]);
}

int vm_hide(struct vm *vm, unsigned number)
{
	const int i = find_net(vm, number);

	return i < 0 ? -ENOENT : virtio_hide(vm->virtio[i]);
}

void vm_show(struct vm *vm)
{
	for (unsigned i = 0; i < vm->nvirtio; i++)
		virtio_show(vm->virtio[i]);
}

/* ---- a machine that waited */

static bool is_vsock(const struct config_device *device)
{
	return strcmp(device->type, "vsock") == 0;
}

bool vm_adopts(const struct config_device *device, bool prepared)
{
	if (prepared)
		return is_vsock(device);
	return is_tree(device) || is_vsock(device) ||
	       (is_share(device) && config_text(device, "dir"));
}

static bool is_same_device(const struct config_device *a,
			   const struct config_device *b)
{
	if (strcmp(a->type, b->type) != 0 || a->nparams != b->nparams)
		return false;
	/* Its path is the container's own. */
	for (unsigned i = 0; !is_vsock(a) && i < a->nparams; i++) {
		const char *text = config_text(b, a->param[i].key);

		if (!text || strcmp(a->param[i].value, text) != 0)
			return false;
	}
	return true;
}

static bool has_same_devices(const struct config *a, const struct config *b)
{
	bool same = a->ndevices == b->ndevices;

	for (unsigned i = 0; same && i < a->ndevices; i++)
		same = is_same_device(&a->device[i], &b->device[i]);
	return same;
}

/* The place in CFG of the virtio device after that of place I; or none. */
static unsigned next_device(const struct config *cfg, unsigned i)
{
	while (i < cfg->ndevices && is_tree(&cfg->device[i]))
		i++;
	return i;
}

/* Whether CFG's devices are those that the machine has. */
static bool is_same_machine(const struct vm *vm, const struct config *cfg)
{
	unsigned at = 0;

	if (cfg->memory_bytes != vm->cfg->memory_bytes ||
	    cfg->cpus != vm->cfg->cpus || cfg->console != vm->cfg->console ||
	    !cfg->control != !vm->cfg->control ||
	    cfg->sandbox != vm->cfg->sandbox)
		return false;
	for (unsigned i = 0; i < vm->nvirtio; i++) {
		const struct virtio_ops *ops = vm->virtio[i]->ops;

		if (ops->id == VIRTIO_ID_CONSOLE)
			continue;
		at = next_device(cfg, at);
		if (at == cfg->ndevices ||
		    strcmp(cfg->device[at].type, ops->type.name) != 0)
			return false;
		at++;
	}
	return next_device(cfg, at) == cfg->ndevices;
}

/* Gives up what is behind all devices. */
static int give_up_behind(struct vm *vm, const struct config *cfg)
{
	const unsigned shares = count_trees(cfg);
	int r = 0;

	for (unsigned i = 0; r == 0 && i < vm->nvirtio; i++)
		r = virtio_adopt(vm->virtio[i], NULL);
	if (r == 0 && shares > 0)
		fs_budget_again(&vm->files, vm->mem.bytes, shares);
	return r;
}

int vm_adopt(struct vm *vm, const struct config *cfg, int *fds, bool prepared)
{
	unsigned at = 0;
	int r;

	if (!vm->cfg->adopts || !is_same_machine(vm, cfg) ||
	    (prepared && !has_same_devices(vm->cfg, cfg)))
		return log_ret(-EINVAL,
			       "a machine that waits: another one is wanted");
	r = prepared ? 0 : give_up_behind(vm, cfg);
	for (unsigned i = 0; r == 0 && i < vm->nvirtio; i++) {
		struct virtio_adoption adoption = {
			.machine = cfg,
			.fds = fds,
			.keeps = prepared,
		};

		if (vm->virtio[i]->ops->id == VIRTIO_ID_CONSOLE)
			continue;
		adoption.index = at = next_device(cfg, at);
		r = virtio_adopt(vm->virtio[i], &adoption);
		at++;
	}
	vm->cfg = cfg;
	return r;
}

void vm_pause_devices(struct vm *vm)
{
	for (unsigned i = 0; i < vm->nvirtio; i++)
		virtio_pause(vm->virtio[i]);
	if (vm->has_serial)
		serial_pause(&vm->serial);
}

void vm_resume_devices(struct vm *vm)
{
	if (vm->has_serial)
		serial_resume(&vm->serial);
	for (unsigned i = 0; i < vm->nvirtio; i++)
		virtio_resume(vm->virtio[i]);
}

void vm_done_devices(struct vm *vm)
{
	for (unsigned i = 0; i < vm->nvirtio; i++) {
		if (i < vm->machine.nvirtio)
			virtio_mmio_done(&vm->mmio[i]);
		virtio_free(vm->virtio[i]);
	}
	if (vm->has_serial)
		serial_done(&vm->serial);
	if (vm->has_terminal)
		terminal_done(&vm->terminal);
}
