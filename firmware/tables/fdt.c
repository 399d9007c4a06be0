/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine as a flattened device tree, by libfdt's sequential writer.
 *
 * Linux on x86 takes the CPUs, the IOAPIC and the devices from it; RAM, the
 * command line and the initrd reach it by boot_params, and stand here because
 * the tree describes the whole machine (Devicetree spec 0.4, 3.2). A guest
 * spends time on every node and property, so there is no decoration: the local
 * APIC is at its architectural address, and COM1, whose ports a tree cannot
 * describe to x86, is found without it.
 */
#include "firmware/tables/fdt.h"

#include "firmware/machine.h"

#include <errno.h>
#include <libfdt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>

#define PHANDLE_IOAPIC 1
#define PHANDLE_PM     2

/* Second interrupt cell of the ce4100 IOAPIC binding: rising edge. */
#define SENSE_EDGE_RISING 3

/*
 * Carries the first error, so that a tree is written without a check after
 * every line.
 */
struct writer {
	void *fdt;
	int error;
};

static void note(struct writer *w, int error)
{
	if (!w->error)
		w->error = error;
}

static void begin(struct writer *w, const char *name)
{
	if (!w->error)
		note(w, fdt_begin_node(w->fdt, name));
}

/* A node NAME@ADDRESS. */
static void begin_at(struct writer *w, const char *name, uint64_t address)
{
	char text[48];

	snprintf(text, sizeof(text), "%s@%llx", name,
		 (unsigned long long)address);
	begin(w, text);
}

static void end(struct writer *w)
{
	if (!w->error)
		note(w, fdt_end_node(w->fdt));
}

static void text(struct writer *w, const char *name, const char *value)
{
	if (!w->error)
		note(w, fdt_property_string(w->fdt, name, value));
}

static void cell(struct writer *w, const char *name, uint32_t value)
{
	if (!w->error)
		note(w, fdt_property_u32(w->fdt, name, value));
}

static void flag(struct writer *w, const char *name)
{
	if (!w->error)
		note(w, fdt_property(w->fdt, name, NULL, 0));
}

static void address(struct writer *w, const char *name, uint64_t value)
{
	if (!w->error)
		note(w, fdt_property_u64(w->fdt, name, value));
}

/* "reg" below the root: two cells of address, two of size. */
static void reg(struct writer *w, const struct machine_range *range,
		unsigned count)
{
	fdt64_t pairs[4];

	for (unsigned i = 0; i < count && i < 2; i++) {
		pairs[2 * i] = cpu_to_fdt64(range[i].base);
		pairs[2 * i + 1] = cpu_to_fdt64(range[i].bytes);
	}
	if (!w->error)
		note(w, fdt_property(w->fdt, "reg", pairs,
				     (int)(count * 2 * sizeof(pairs[0]))));
}

static void write_chosen(struct writer *w, const struct machine *machine)
{
	begin(w, "chosen");
	text(w, "bootargs", machine->command_line);
	if (machine->initrd_bytes) {
		address(w, "linux,initrd-start", machine->initrd_gpa);
		address(w, "linux,initrd-end",
			machine->initrd_gpa + machine->initrd_bytes);
	}
	end(w);
}

static void write_memory(struct writer *w, const struct machine *machine)
{
	begin_at(w, "memory", machine->ram[0].base);
	text(w, "device_type", "memory");
	reg(w, machine->ram, machine->nram);
	end(w);
}

static void write_cpus(struct writer *w, const struct machine *machine)
{
	begin(w, "cpus");
	cell(w, "#address-cells", 1);
	cell(w, "#size-cells", 0);
	for (unsigned i = 0; i < machine->cpus; i++) {
		begin_at(w, "cpu", i);
		text(w, "device_type", "cpu");
		text(w, "compatible", "intel,x86");
		cell(w, "reg", i); /* the APIC id */
		end(w);
	}
	end(w);
}

static void write_ioapic(struct writer *w)
{
	static const struct machine_range range = {MACHINE_IOAPIC, 0x1000};

	begin_at(w, "interrupt-controller", range.base);
	text(w, "compatible", "intel,ce4100-ioapic");
	reg(w, &range, 1);
	flag(w, "interrupt-controller");
	cell(w, "#interrupt-cells", 2);
	cell(w, "phandle", PHANDLE_IOAPIC);
	end(w);
}

/* The device's one interrupt. */
static void edge(struct writer *w, uint32_t gsi)
{
	const fdt32_t line[2] = {
		cpu_to_fdt32(gsi),
		cpu_to_fdt32(SENSE_EDGE_RISING),
	};

	if (!w->error)
		note(w, fdt_property(w->fdt, "interrupts", line, sizeof(line)));
}

static void write_virtio(struct writer *w, const struct machine_virtio *virtio)
{
	const struct machine_range range = {virtio->base, virtio->bytes};

	begin_at(w, "virtio_mmio", range.base);
	text(w, "compatible", "virtio,mmio");
	reg(w, &range, 1);
	edge(w, virtio->gsi);
	end(w);
}

static void write_pvpanic(struct writer *w)
{
	static const struct machine_range range = {MACHINE_PVPANIC, 1};

	begin_at(w, "pvpanic", range.base);
	text(w, "compatible", "qemu,pvpanic-mmio");
	reg(w, &range, 1);
	end(w);
}

/* Devicetree binding rng/microsoft,vmgenid. */
static void write_vmgenid(struct writer *w)
{
	static const struct machine_range range = {MACHINE_VMGENID,
						   MACHINE_VMGENID_BYTES};

	begin_at(w, "vmgenid", range.base);
	text(w, "compatible", "microsoft,vmgenid");
	reg(w, &range, 1);
	edge(w, MACHINE_IRQ_VMGENID);
	end(w);
}

/* Power-off for a kernel without ACPI; reset is the i8042's. */
static void write_pm(struct writer *w)
{
	static const struct machine_range range = {MACHINE_PM_MMIO,
						   MACHINE_PM_MMIO_BYTES};

	begin_at(w, "syscon", range.base);
	text(w, "compatible", "syscon");
	reg(w, &range, 1);
	cell(w, "phandle", PHANDLE_PM);
	end(w);
	begin(w, "poweroff");
	text(w, "compatible", "syscon-poweroff");
	cell(w, "regmap", PHANDLE_PM);
	cell(w, "offset", MACHINE_PM_MMIO_POWEROFF);
	cell(w, "value", MACHINE_S5);
	end(w);
}

static void write_root(struct writer *w, const struct machine *machine)
{
	begin(w, "");
	/* Without it Linux 6.12 takes the tree for an empty one. */
	text(w, "compatible", "bulkhead,microvm");
	text(w, "model", "Bulkhead microVM");
	cell(w, "#address-cells", 2);
	cell(w, "#size-cells", 2);
	cell(w, "interrupt-parent", PHANDLE_IOAPIC);
	write_chosen(w, machine);
	write_memory(w, machine);
	write_cpus(w, machine);
	write_ioapic(w);
	for (unsigned i = 0; i < machine->nvirtio; i++)
		write_virtio(w, &machine->virtio[i]);
	write_pvpanic(w);
	write_vmgenid(w);
	write_pm(w);
	end(w);
}

static bool valid(const struct machine *machine)
{
	return machine->cpus > 0 && machine->command_line &&
	       machine->nram > 0 && machine->nram <= 2 &&
	       machine->nvirtio <= MACHINE_VIRTIO_MAX;
}

int fdt_build(const struct machine *machine, void *buf, size_t bytes)
{
	struct writer w = {.fdt = buf};

	if (!valid(machine) || bytes > INT_MAX)
		return -EINVAL;
	note(&w, fdt_create(buf, (int)bytes));
	if (!w.error)
		note(&w, fdt_finish_reservemap(buf));
	write_root(&w, machine);
	if (!w.error)
		note(&w, fdt_finish(buf));
	if (w.error == -FDT_ERR_NOSPACE)
		return -ENOSPC;
	return w.error ? -EINVAL : (int)fdt_totalsize(buf);
}
