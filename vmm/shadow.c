/* SPDX-License-Identifier: Apache-2.0 */
/* Follows the page tables of user mode (SDM 3A 4.5). */
#include "vmm/shadow.h"

#include <errno.h>
#include <stdlib.h>

#define ENTRIES      512u
#define USER_ENTRIES 256u /* of the top level */
#define PAGE         UINT64_C(4096)
#define PTE_PRESENT  UINT64_C(0x01)
#define PTE_LARGE    UINT64_C(0x80)
#define PTE_ADDRESS  UINT64_C(0x000ffffffffff000)

/* A frame's byte: its level, and whether it is the top, or was unlinked. */
#define LEVEL  0x07
#define TOP    0x40
#define ORPHAN 0x80

/* A hostile guest may link tables in any way: an end to following them. */
#define SCAN_TABLES_MAX 20000u

int shadow_init(struct shadow *shadow, const struct mem *mem)
{
	shadow->mem = mem;
	shadow->level = calloc(mem->bytes / PAGE, sizeof(shadow->level[0]));
	return shadow->level ? 0 : -ENOMEM;
}

void shadow_done(struct shadow *shadow)
{
	free(shadow->level);
	shadow->level = NULL;
}

static _Atomic uint8_t *slot(const struct shadow *shadow, gpa_t gpa)
{
	uint64_t before = 0;

	for (unsigned i = 0; i < shadow->mem->nregions; i++) {
		const struct mem_region *region = &shadow->mem->region[i];

		if (gpa >= region->base && gpa - region->base < region->bytes)
			return &shadow->level[(before + gpa - region->base) /
					      PAGE];
		before += region->bytes;
	}
	return NULL;
}

static const uint64_t *table(const struct shadow *shadow, gpa_t gpa)
{
	return mem_at(shadow->mem, gpa & ~(PAGE - 1), PAGE);
}

uint64_t shadow_entry(const struct shadow *shadow, gpa_t gpa)
{
	const uint64_t *entry = mem_at(shadow->mem, gpa & ~UINT64_C(7), 8);

	return entry ? __atomic_load_n(entry, __ATOMIC_RELAXED) : 0;
}

static bool is_empty(const struct shadow *shadow, gpa_t gpa, unsigned entries)
{
	const uint64_t *t = table(shadow, gpa);

	for (unsigned i = 0; t && i < entries; i++) {
		if (__atomic_load_n(&t[i], __ATOMIC_RELAXED) & PTE_PRESENT)
			return false;
	}
	return true;
}

static bool links(uint64_t entry, unsigned level)
{
	return (entry & PTE_PRESENT) && level > 1 &&
	       !(level <= 3 && (entry & PTE_LARGE));
}

/* Marks the table at GPA and all below it that are not marked yet. */
static void follow(struct shadow *shadow, gpa_t gpa, unsigned level,
		   uint8_t top, unsigned *budget)
{
	_Atomic uint8_t *mark = slot(shadow, gpa);
	const uint64_t *t = table(shadow, gpa);
	uint8_t value = (uint8_t)(level | top);

	if (!mark || !t || *budget == 0 ||
	    atomic_load_explicit(mark, memory_order_relaxed) == value)
		return;
	(*budget)--;
	atomic_store(mark, value);
	atomic_fetch_add(&shadow->epoch, 1);
	for (unsigned i = 0; i < (top ? USER_ENTRIES : ENTRIES); i++) {
		uint64_t entry = __atomic_load_n(&t[i], __ATOMIC_RELAXED);

		if (links(entry, level))
			follow(shadow, entry & PTE_ADDRESS, level - 1, 0,
			       budget);
	}
}

void shadow_enter(struct shadow *shadow, uint64_t cr3, unsigned levels)
{
	unsigned budget = SCAN_TABLES_MAX;

	follow(shadow, cr3 & PTE_ADDRESS, levels, TOP, &budget);
}

bool shadow_holds(struct shadow *shadow, gpa_t gpa)
{
	_Atomic uint8_t *mark = slot(shadow, gpa);
	uint8_t value =
		mark ? atomic_load_explicit(mark, memory_order_relaxed) : 0;

	/* The top of an address space that has ended has nothing below it. */
	if ((value & TOP) && is_empty(shadow, gpa, USER_ENTRIES)) {
		atomic_store(mark, 0);
		value = 0;
	}
	return value != 0;
}

/* The table that OLD led to may have lost its last link. */
static void unlinked(struct shadow *shadow, uint64_t old)
{
	gpa_t gpa = old & PTE_ADDRESS;
	_Atomic uint8_t *mark = slot(shadow, gpa);
	uint8_t value = mark ? atomic_load(mark) : 0;

	if (value == 0 || (value & TOP))
		return;
	atomic_store(mark, is_empty(shadow, gpa, ENTRIES) ? 0 : value | ORPHAN);
}

static void look_again(struct shadow *shadow, gpa_t gpa, unsigned level)
{
	uint64_t entry = shadow_entry(shadow, gpa);
	unsigned budget = SCAN_TABLES_MAX;

	if (links(entry, level))
		follow(shadow, entry & PTE_ADDRESS, level - 1, 0, &budget);
}

void shadow_written(struct shadow *shadow, gpa_t gpa, uint64_t bytes,
		    uint64_t old)
{
	for (uint64_t off = 0; off < bytes; off += 8) {
		_Atomic uint8_t *mark = slot(shadow, gpa + off);
		uint8_t value = mark ? atomic_load(mark) : 0;
		unsigned level = value & LEVEL;

		if (value == 0)
			continue;
		if (off == 0 && links(old, level) &&
		    (!(shadow_entry(shadow, gpa) & PTE_PRESENT) ||
		     ((shadow_entry(shadow, gpa) ^ old) & PTE_ADDRESS)))
			unlinked(shadow, old);
		look_again(shadow, gpa + off, level);
		if ((value & ORPHAN) && is_empty(shadow, gpa + off, ENTRIES))
			atomic_store(mark, 0);
	}
}
