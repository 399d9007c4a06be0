/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Intel MultiProcessor Specification 1.4, chapter 4. All lines of the IOAPIC
 * are described as ISA interrupts of the same number, also those past 15: a
 * kernel routes no line that the table leaves out.
 */
#include "firmware/tables/mptable.h"

#include "firmware/machine.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define IOAPIC_PINS    24
#define PIN_CASCADE    2 /* the second 8259 hangs on it: never an interrupt */
#define APIC_VERSION   0x14
#define IOAPIC_VERSION 0x11

enum { ENTRY_CPU, ENTRY_BUS, ENTRY_IOAPIC, ENTRY_INTERRUPT, ENTRY_LOCAL };
enum { INT_VECTORED = 0, INT_NMI = 1, INT_EXTERNAL = 3 };

#define CPU_ENABLED      1
#define CPU_BOOT         2
#define CPU_HAS_FPU_APIC 0x201
#define EDGE_HIGH        0x5 /* polarity 01, trigger mode 01 */
#define ALL_CPUS         0xff

struct floating {
	char signature[4];
	uint32_t table;
	uint8_t paragraphs, revision, checksum, features[5];
};

struct table {
	char signature[4];
	uint16_t length;
	uint8_t revision, checksum;
	char oem[8], product[12];
	uint32_t oem_table;
	uint16_t oem_length, entries;
	uint32_t lapic;
	uint16_t extended_length;
	uint8_t extended_checksum, reserved;
};

struct cpu {
	uint8_t type, apic_id, version, flags;
	uint32_t signature, features, reserved[2];
};

struct bus {
	uint8_t type, id;
	char name[6];
};

struct ioapic {
	uint8_t type, id, version, flags;
	uint32_t address;
};

struct interrupt { /* of the IOAPIC, or of every local APIC */
	uint8_t type, kind;
	uint16_t flags;
	uint8_t bus, irq, apic_id, pin;
};

_Static_assert(sizeof(struct floating) == 16, "no padding");
_Static_assert(sizeof(struct table) == 44, "no padding");
_Static_assert(sizeof(struct cpu) == 20, "no padding");
_Static_assert(sizeof(struct bus) == 8, "no padding");
_Static_assert(sizeof(struct ioapic) == 8, "no padding");
_Static_assert(sizeof(struct interrupt) == 8, "no padding");

struct writer {
	uint8_t *at;
	uint16_t entries;
};

static void put(struct writer *w, const void *entry, size_t bytes)
{
	memcpy(w->at, entry, bytes);
	w->at += bytes;
	w->entries++;
}

static uint8_t checksum(const void *data, size_t bytes)
{
	const uint8_t *p = data;
	uint8_t sum = 0;

	while (bytes-- > 0)
		sum += *p++;
	return (uint8_t)-sum;
}

static void write_cpus(struct writer *w, unsigned cpus)
{
	for (unsigned i = 0; i < cpus; i++) {
		const struct cpu cpu = {
			.type = ENTRY_CPU,
			.apic_id = (uint8_t)i,
			.version = APIC_VERSION,
			.flags = CPU_ENABLED | (i == 0 ? CPU_BOOT : 0),
			.features = htole32(CPU_HAS_FPU_APIC),
		};

		put(w, &cpu, sizeof(cpu));
	}
}

static void write_interrupts(struct writer *w, uint8_t ioapic_id)
{
	const struct interrupt external = {
		.type = ENTRY_LOCAL, .kind = INT_EXTERNAL, .apic_id = 0};
	const struct interrupt nmi = {.type = ENTRY_LOCAL,
				      .kind = INT_NMI,
				      .apic_id = ALL_CPUS,
				      .pin = 1};

	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		const struct interrupt line = {
			.type = ENTRY_INTERRUPT,
			.kind = INT_VECTORED,
			.flags = htole16(EDGE_HIGH),
			.irq = (uint8_t)pin,
			.apic_id = ioapic_id,
			.pin = (uint8_t)pin,
		};

		if (pin != PIN_CASCADE)
			put(w, &line, sizeof(line));
	}
	put(w, &external, sizeof(external));
	put(w, &nmi, sizeof(nmi));
}

static size_t table_bytes(unsigned cpus)
{
	return sizeof(struct table) + cpus * sizeof(struct cpu) +
	       sizeof(struct bus) + sizeof(struct ioapic) +
	       (IOAPIC_PINS - 1 + 2) * sizeof(struct interrupt);
}

/* Closes a table whose W.entries entries stand behind it; the bytes used. */
static int finish(uint8_t *buf, uint64_t gpa, const struct writer *w)
{
	struct floating floating = {
		.signature = {'_', 'M', 'P', '_'},
		.table = htole32((uint32_t)(gpa + sizeof(floating))),
		.paragraphs = 1,
		.revision = 4,
	};
	struct table table = {
		.signature = {'P', 'C', 'M', 'P'},
		.revision = 4,
		.oem = {'B', 'U', 'L', 'K', 'H', 'E', 'A', 'D'},
		.product = "MICROVM     ",
		.entries = htole16(w->entries),
		.lapic = htole32((uint32_t)MACHINE_LAPIC),
	};
	uint8_t *first = buf + sizeof(floating);
	const size_t length = (size_t)(w->at - first);

	table.length = htole16((uint16_t)length);
	memcpy(first, &table, sizeof(table));
	table.checksum = checksum(first, length);
	memcpy(first, &table, sizeof(table));
	floating.checksum = checksum(&floating, sizeof(floating));
	memcpy(buf, &floating, sizeof(floating));
	return (int)(sizeof(floating) + length);
}

int mptable_build(const struct machine *machine, uint64_t gpa, void *buf,
		  size_t bytes)
{
	static const struct bus isa = {ENTRY_BUS, 0, "ISA   "};
	const struct ioapic ioapic = {
		.type = ENTRY_IOAPIC,
		.id = (uint8_t)machine->cpus,
		.version = IOAPIC_VERSION,
		.flags = 1, /* usable */
		.address = htole32((uint32_t)MACHINE_IOAPIC),
	};
	struct writer w = {0};

	if (sizeof(struct floating) + table_bytes(machine->cpus) > bytes)
		return -ENOSPC;
	w.at = (uint8_t *)buf + sizeof(struct floating) + sizeof(struct table);
	write_cpus(&w, machine->cpus);
	put(&w, &isa, sizeof(isa));
	put(&w, &ioapic, sizeof(ioapic));
	write_interrupts(&w, ioapic.id);
	return finish(buf, gpa, &w);
}
