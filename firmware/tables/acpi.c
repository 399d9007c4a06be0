/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hardware-reduced ACPI (ACPI 6.4, 4.1): no SCI, no fixed events, no power
 * management timer. The DSDT only names devices and where they are; nothing but
 * _S5 is not a device, and the one method says which device an event is of.
 */
#include "firmware/tables/acpi.h"

#include "firmware/machine.h"

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define OEM_ID       "BLKHD "
#define OEM_TABLE_ID "BULKHEAD"
#define CREATOR_ID   "BLKH"

struct header { /* 5.2.6 */
	char signature[4];
	uint32_t length;
	uint8_t revision, checksum;
	char oem_id[6], oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
} __attribute__((packed));

struct rsdp { /* 5.2.5.3 */
	char signature[8];
	uint8_t checksum; /* of the first 20 bytes */
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt;
	uint32_t length;
	uint64_t xsdt;
	uint8_t extended_checksum, reserved[3];
} __attribute__((packed));

struct xsdt {
	struct header header;
	uint64_t entry[2];
} __attribute__((packed));

struct address { /* 5.2.3.2, Generic Address Structure */
	uint8_t space, bits, bit_offset, access;
	uint64_t address;
} __attribute__((packed));

struct fadt { /* 5.2.9 */
	struct header header;
	uint32_t firmware_ctrl, dsdt;
	uint8_t reserved, profile;
	uint16_t sci;
	uint8_t fixed_hardware[61]; /* registers that this machine lacks */
	uint16_t boot_arch;
	uint8_t reserved2;
	uint32_t flags;
	struct address reset;
	uint8_t reset_value;
	uint16_t arm_boot_arch;
	uint8_t minor;
	uint64_t x_firmware_ctrl, x_dsdt;
	struct address x_fixed_hardware[8];
	struct address sleep_control, sleep_status;
	char hypervisor[8];
} __attribute__((packed));
_Static_assert(sizeof(struct fadt) == 276, "ACPI 6.4, table 5.9");
_Static_assert(offsetof(struct fadt, boot_arch) == 109, "table 5.9");

#define BOOT_NO_VGA (1u << 2)
#define BOOT_NO_MSI (1u << 3)
#define BOOT_NO_RTC (1u << 5)

#define FADT_WBINVD     (1u << 0)
#define FADT_NO_PWR_BTN (1u << 4)
#define FADT_NO_SLP_BTN (1u << 5)
#define FADT_RESET      (1u << 10)
#define FADT_HEADLESS   (1u << 12)
#define FADT_HW_REDUCED (1u << 20)
#define SPACE_SYSTEM_IO 1
#define ACCESS_BYTE     1

struct madt {
	struct header header;
	uint32_t lapic, flags;
} __attribute__((packed));

struct madt_lapic { /* 5.2.12.2 */
	uint8_t type, length, uid, apic_id;
	uint32_t flags;
} __attribute__((packed));

struct madt_ioapic { /* 5.2.12.3 */
	uint8_t type, length, id, reserved;
	uint32_t address, gsi_base;
} __attribute__((packed));

struct madt_nmi { /* 5.2.12.7 */
	uint8_t type, length, uid;
	uint16_t flags;
	uint8_t lint;
} __attribute__((packed));

/* Appends to a buffer; what does not fit is counted, not written. */
struct writer {
	uint8_t *buf;
	size_t bytes, used;
};

static void put(struct writer *w, const void *data, size_t len)
{
	if (w->used <= w->bytes && len <= w->bytes - w->used)
		memcpy(w->buf + w->used, data, len);
	w->used += len;
}

static void put8(struct writer *w, uint8_t value)
{
	put(w, &value, sizeof(value));
}

static void put16(struct writer *w, uint16_t value)
{
	value = htole16(value);
	put(w, &value, sizeof(value));
}

static void put32(struct writer *w, uint32_t value)
{
	value = htole32(value);
	put(w, &value, sizeof(value));
}

static bool fits(const struct writer *w)
{
	return w->used <= w->bytes;
}

/* The byte that makes the sum of all LEN bytes zero, its own place being 0. */
static uint8_t checksum(const uint8_t *data, size_t len)
{
	uint8_t sum = 0;

	while (len-- > 0)
		sum += *data++;
	return (uint8_t)-sum;
}

static struct header header(const char *signature, uint8_t revision)
{
	struct header h = {.revision = revision,
			   .oem_revision = htole32(1),
			   .creator_revision = htole32(1)};

	memcpy(h.signature, signature, sizeof(h.signature));
	memcpy(h.oem_id, OEM_ID, sizeof(h.oem_id));
	memcpy(h.oem_table_id, OEM_TABLE_ID, sizeof(h.oem_table_id));
	memcpy(h.creator_id, CREATOR_ID, sizeof(h.creator_id));
	return h;
}

/* Completes the table that begins at START and ends where W is. */
static void finish_table(struct writer *w, size_t start)
{
	const uint32_t length = htole32((uint32_t)(w->used - start));
	uint8_t *table;

	if (!fits(w))
		return;
	table = w->buf + start;
	memcpy(table + offsetof(struct header, length), &length,
	       sizeof(length));
	table[offsetof(struct header, checksum)] =
		checksum(table, w->used - start);
}

/* ---- AML (20.2) */

enum {
	AML_ZERO = 0x00,
	AML_NAME = 0x08,
	AML_BYTE = 0x0a,
	AML_DWORD = 0x0c,
	AML_STRING = 0x0d,
	AML_SCOPE = 0x10,
	AML_BUFFER = 0x11,
	AML_PACKAGE = 0x12,
	AML_METHOD = 0x14,
	AML_EXT = 0x5b,
	AML_NOTIFY = 0x86,
	AML_EXT_DEVICE = 0x82,
	AML_SERIALIZED = 1 << 3, /* of a method's flags */
};

/*
 * A term with a length (20.2.4): three bytes of it always, though fewer could
 * do, so that nothing moves when the length is known. Returns where it begins.
 */
static size_t aml_begin(struct writer *w)
{
	static const uint8_t room[3];
	const size_t start = w->used;

	put(w, room, sizeof(room));
	return start;
}

static void aml_end(struct writer *w, size_t start)
{
	const size_t len = w->used - start;

	if (!fits(w))
		return;
	w->buf[start] = (uint8_t)(2 << 6 | (len & 0xf));
	w->buf[start + 1] = (uint8_t)(len >> 4);
	w->buf[start + 2] = (uint8_t)(len >> 12);
}

static void aml_byte(struct writer *w, uint8_t value)
{
	put8(w, AML_BYTE);
	put8(w, value);
}

static void aml_dword(struct writer *w, uint32_t value)
{
	put8(w, AML_DWORD);
	put32(w, value);
}

/* Name (NAME, ...): the object follows. */
static void aml_name(struct writer *w, const char name[4])
{
	put8(w, AML_NAME);
	put(w, name, 4);
}

static void aml_string(struct writer *w, const char *text)
{
	put8(w, AML_STRING);
	put(w, text, strlen(text) + 1);
}

static size_t aml_device(struct writer *w, const char name[4])
{
	size_t start;

	put8(w, AML_EXT);
	put8(w, AML_EXT_DEVICE);
	start = aml_begin(w);
	put(w, name, 4);
	return start;
}

/* A resource template; its size is known only at its end. */
struct resources {
	size_t buffer, size_at, first;
};

static struct resources crs_begin(struct writer *w)
{
	struct resources crs;

	aml_name(w, "_CRS");
	put8(w, AML_BUFFER);
	crs.buffer = aml_begin(w);
	put8(w, AML_BYTE);
	crs.size_at = w->used;
	put8(w, 0);
	crs.first = w->used;
	return crs;
}

static void crs_end(struct writer *w, const struct resources *crs)
{
	put8(w, 0x79); /* end tag, 6.4.2.9; checksum 0: not checked */
	put8(w, 0);
	if (fits(w))
		w->buf[crs->size_at] = (uint8_t)(w->used - crs->first);
	aml_end(w, crs->buffer);
}

/* Memory32Fixed (ReadWrite, ...), 6.4.3.4. */
static void crs_memory(struct writer *w, uint64_t base, uint32_t bytes)
{
	put8(w, 0x86);
	put16(w, 9);
	put8(w, 1);
	put32(w, (uint32_t)base);
	put32(w, bytes);
}

/* Interrupt (ResourceConsumer, Edge, ActiveHigh), 6.4.3.6. */
static void crs_interrupt(struct writer *w, uint32_t gsi, bool shared)
{
	put8(w, 0x89);
	put16(w, 6);
	put8(w, shared ? 0x0b : 0x03);
	put8(w, 1);
	put32(w, gsi);
}

/* IO (Decode16, ...), 6.4.2.5. */
static void crs_ports(struct writer *w, uint16_t base, uint8_t count)
{
	put8(w, 0x47);
	put8(w, 1);
	put16(w, base);
	put16(w, base);
	put8(w, 1);
	put8(w, count);
}

/* IRQNoFlags: edge, active high, exclusive, 6.4.2.1. */
static void crs_irq(struct writer *w, unsigned irq)
{
	put8(w, 0x22);
	put16(w, (uint16_t)(1u << irq));
}

/* ---- the tables */

static bool is_shared(const struct machine *machine, unsigned index)
{
	for (unsigned i = 0; i < machine->nvirtio; i++)
		if (i != index &&
		    machine->virtio[i].gsi == machine->virtio[index].gsi)
			return true;
	return false;
}

static void write_virtio(struct writer *w, const struct machine *machine,
			 unsigned index)
{
	const struct machine_virtio *virtio = &machine->virtio[index];
	struct resources crs;
	char name[8];
	size_t device;

	snprintf(name, sizeof(name), "VR%02u", index % 100);
	device = aml_device(w, name);
	aml_name(w, "_HID");
	aml_string(w, "LNRO0005");
	aml_name(w, "_UID");
	aml_byte(w, (uint8_t)index);
	crs = crs_begin(w);
	crs_memory(w, virtio->base, virtio->bytes);
	crs_interrupt(w, virtio->gsi, is_shared(machine, index));
	crs_end(w, &crs);
	aml_end(w, device);
}

static void write_serial(struct writer *w)
{
	const size_t device = aml_device(w, "COM1");
	struct resources crs;

	aml_name(w, "_HID");
	aml_dword(w, 0x0105d041); /* EisaId ("PNP0501"), 19.3.4 */
	aml_name(w, "_UID");
	aml_byte(w, 1);
	crs = crs_begin(w);
	crs_ports(w, MACHINE_PORT_SERIAL, 8);
	crs_irq(w, MACHINE_IRQ_SERIAL);
	crs_end(w, &crs);
	aml_end(w, device);
}

static void write_pvpanic(struct writer *w)
{
	const size_t device = aml_device(w, "PEVT");
	struct resources crs;

	aml_name(w, "_HID");
	aml_string(w, "QEMU0001");
	crs = crs_begin(w);
	crs_memory(w, MACHINE_PVPANIC, 1);
	crs_end(w, &crs);
	aml_end(w, device);
}

/* Where the number is: ADDR, its low and its high half. Any _HID will do. */
static void write_vmgenid(struct writer *w)
{
	const size_t device = aml_device(w, "VGEN");
	size_t package;

	aml_name(w, "_HID");
	aml_string(w, "BLKH0001");
	aml_name(w, "_CID");
	aml_string(w, "VM_Gen_Counter");
	aml_name(w, "_DDN");
	aml_string(w, "VM_Gen_Counter");
	aml_name(w, "ADDR");
	put8(w, AML_PACKAGE);
	package = aml_begin(w);
	put8(w, 2);
	aml_dword(w, (uint32_t)MACHINE_VMGENID);
	aml_dword(w, (uint32_t)(MACHINE_VMGENID >> 32));
	aml_end(w, package);
	aml_end(w, device);
}

/*
 * The Generic Event Device (5.6.9): its one interrupt is VGEN's, so that _EVT
 * need not look at its argument, the number of the line.
 */
static void write_events(struct writer *w)
{
	const size_t device = aml_device(w, "GED_");
	struct resources crs;
	size_t method;

	aml_name(w, "_HID");
	aml_string(w, "ACPI0013");
	crs = crs_begin(w);
	crs_interrupt(w, MACHINE_IRQ_VMGENID, false);
	crs_end(w, &crs);
	put8(w, AML_METHOD);
	method = aml_begin(w);
	put(w, "_EVT", 4);
	put8(w, 1 | AML_SERIALIZED);
	put8(w, AML_NOTIFY);
	put(w, "VGEN", 4);
	aml_byte(w, 0x80); /* the number has changed */
	aml_end(w, method);
	aml_end(w, device);
}

/* Name (_S5, Package (4) {SLP_TYP, 0, 0, 0}), 7.4.2.6 */
static void write_s5(struct writer *w)
{
	size_t package;

	aml_name(w, "_S5_");
	put8(w, AML_PACKAGE);
	package = aml_begin(w);
	put8(w, 4);
	aml_byte(w, MACHINE_S5);
	for (unsigned i = 0; i < 3; i++)
		put8(w, AML_ZERO);
	aml_end(w, package);
}

static size_t write_dsdt(struct writer *w, const struct machine *machine)
{
	const struct header h = header("DSDT", 2);
	const size_t start = w->used;
	size_t scope;

	put(w, &h, sizeof(h));
	write_s5(w);
	put8(w, AML_SCOPE);
	scope = aml_begin(w);
	put(w, "_SB_", 4);
	for (unsigned i = 0; i < machine->nvirtio; i++)
		write_virtio(w, machine, i);
	if (machine->serial)
		write_serial(w);
	write_pvpanic(w);
	write_vmgenid(w);
	write_events(w);
	aml_end(w, scope);
	finish_table(w, start);
	return start;
}

static struct address port(uint16_t number)
{
	return (struct address){
		.space = SPACE_SYSTEM_IO,
		.bits = 8,
		.access = ACCESS_BYTE,
		.address = htole64(number),
	};
}

/*
 * The 8042 is not announced: it is there to reset the machine, and a guest that
 * looks for a keyboard behind it only loses time.
 */
static size_t write_fadt(struct writer *w, uint64_t dsdt)
{
	const struct fadt fadt = {
		.header = header("FACP", 6),
		.dsdt = htole32((uint32_t)dsdt),
		.boot_arch = htole16(BOOT_NO_VGA | BOOT_NO_MSI | BOOT_NO_RTC),
		.flags = htole32(FADT_WBINVD | FADT_NO_PWR_BTN |
				 FADT_NO_SLP_BTN | FADT_RESET | FADT_HEADLESS |
				 FADT_HW_REDUCED),
		.reset = port(MACHINE_PM_RESET),
		.reset_value = MACHINE_RESET_VALUE,
		.minor = 4,
		.x_dsdt = htole64(dsdt),
		.sleep_control = port(MACHINE_PM_SLEEP_CTRL),
		.sleep_status = port(MACHINE_PM_SLEEP_STATUS),
		.hypervisor = {'B', 'U', 'L', 'K', 'H', 'E', 'A', 'D'},
	};
	const size_t start = w->used;

	put(w, &fadt, sizeof(fadt));
	finish_table(w, start);
	return start;
}

/*
 * No source overrides: every line of the IOAPIC is the GSI of its number, and
 * the few ISA interrupts there are keep the bus's edge and polarity.
 */
static size_t write_madt(struct writer *w, const struct machine *machine)
{
	const struct madt madt = {
		.header = header("APIC", 5),
		.lapic = htole32((uint32_t)MACHINE_LAPIC),
	};
	const struct madt_ioapic ioapic = {
		.type = 1,
		.length = sizeof(ioapic),
		.id = (uint8_t)machine->cpus,
		.address = htole32((uint32_t)MACHINE_IOAPIC),
	};
	const struct madt_nmi nmi = {
		.type = 4,
		.length = sizeof(nmi),
		.uid = 0xff, /* every processor */
		.lint = 1,
	};
	const size_t start = w->used;

	put(w, &madt, sizeof(madt));
	for (unsigned i = 0; i < machine->cpus; i++) {
		const struct madt_lapic lapic = {
			.type = 0,
			.length = sizeof(lapic),
			.uid = (uint8_t)i,
			.apic_id = (uint8_t)i,
			.flags = htole32(1), /* enabled */
		};

		put(w, &lapic, sizeof(lapic));
	}
	put(w, &ioapic, sizeof(ioapic));
	put(w, &nmi, sizeof(nmi));
	finish_table(w, start);
	return start;
}

static void align_to(struct writer *w, size_t power)
{
	while (w->used % power)
		put8(w, 0);
}

static size_t write_xsdt(struct writer *w, uint64_t fadt, uint64_t madt)
{
	const struct xsdt xsdt = {
		.header = header("XSDT", 1),
		.entry = {htole64(fadt), htole64(madt)},
	};
	const size_t start = w->used;

	put(w, &xsdt, sizeof(xsdt));
	finish_table(w, start);
	return start;
}

static void write_rsdp(uint8_t *buf, uint64_t xsdt)
{
	struct rsdp rsdp = {
		.signature = {'R', 'S', 'D', ' ', 'P', 'T', 'R', ' '},
		.revision = 2,
		.length = htole32(sizeof(rsdp)),
		.xsdt = htole64(xsdt),
	};

	memcpy(rsdp.oem_id, OEM_ID, sizeof(rsdp.oem_id));
	rsdp.checksum = checksum((const uint8_t *)&rsdp, 20);
	rsdp.extended_checksum = checksum((const uint8_t *)&rsdp, sizeof(rsdp));
	memcpy(buf, &rsdp, sizeof(rsdp));
}

int acpi_build(const struct machine *machine, uint64_t gpa, void *buf,
	       size_t bytes)
{
	struct writer w = {.buf = buf, .bytes = bytes};
	static const uint8_t room[sizeof(struct rsdp)];
	size_t dsdt, fadt, madt, xsdt;

	put(&w, room, sizeof(room));
	align_to(&w, 16);
	dsdt = write_dsdt(&w, machine);
	align_to(&w, 16);
	fadt = write_fadt(&w, gpa + dsdt);
	align_to(&w, 16);
	madt = write_madt(&w, machine);
	align_to(&w, 16);
	xsdt = write_xsdt(&w, gpa + fadt, gpa + madt);
	if (!fits(&w))
		return -ENOSPC;
	write_rsdp(buf, gpa + xsdt);
	return (int)w.used;
}
