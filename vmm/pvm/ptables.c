/* SPDX-License-Identifier: Apache-2.0 */
/* Follows the page tables of user mode (SDM 3A 4.5). */
#include "vmm/pvm/ptables.h"

#include "vmm/pvm/x86.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#define ENTRIES      512u
#define USER_ENTRIES 256u /* of the top level */
#define PAGE         UINT64_C(4096)

/*
 * One byte per frame: the page-table levels that it is known to serve as
 * (lowest bit: level 1), and three marks. It is a top-level table, of which
 * only user mode's half counts; it was searched to the end; it was unlinked
 * while it still had entries.
 */
#define TOP    0x20
#define READY  0x40
#define ORPHAN 0x80

/*
 * A hostile guest may link tables in any way: an end to following them. These
 * map 512 GiB.
 */
#define SCAN_TABLES_MAX (1u << 18)

int ptables_init(struct ptables *ptables, const struct mem *mem)
{
	ptables->mem = mem;
	ptables->writers = NULL;
	ptables->level = calloc(mem->bytes / PAGE, sizeof(ptables->level[0]));
	if (!ptables->level)
		return -ENOMEM;
	pthread_mutex_init(&ptables->lock, NULL);
	return 0;
}

void ptables_done(struct ptables *ptables)
{
	if (!ptables->level)
		return;
	pthread_mutex_destroy(&ptables->lock);
	free(ptables->level);
	ptables->level = NULL;
}

static _Atomic uint8_t *slot(const struct ptables *ptables, gpa_t gpa)
{
	uint64_t before = 0;

	for (unsigned i = 0; i < ptables->mem->nregions; i++) {
		const struct mem_region *region = &ptables->mem->region[i];

		if (gpa >= region->base && gpa - region->base < region->bytes)
			return &ptables->level[(before + gpa - region->base) /
					       PAGE];
		before += region->bytes;
	}
	return NULL;
}

static const uint64_t *table(const struct ptables *ptables, gpa_t gpa)
{
	return mem_at(ptables->mem, gpa & ~(PAGE - 1), PAGE);
}

uint64_t ptables_entry(const struct ptables *ptables, gpa_t gpa)
{
	const uint64_t *entry = mem_at(ptables->mem, gpa & ~UINT64_C(7), 8);

	return entry ? __atomic_load_n(entry, __ATOMIC_RELAXED) : 0;
}

static unsigned entries(uint8_t mark)
{
	return mark & TOP ? USER_ENTRIES : ENTRIES;
}

static bool is_empty(const struct ptables *ptables, gpa_t gpa, uint8_t mark)
{
	const uint64_t *t = table(ptables, gpa);

	for (unsigned i = 0; t && i < entries(mark); i++) {
		if (__atomic_load_n(&t[i], __ATOMIC_RELAXED) & PTE_P)
			return false;
	}
	return true;
}

static bool links(uint64_t entry, unsigned level)
{
	return (entry & PTE_P) && level > 1 &&
	       !(level <= 3 && (entry & PTE_PS));
}

/* ---- writers ------------------------------------------------------------- */

void ptables_join(struct ptables *ptables, struct ptables_writer *writer)
{
	atomic_init(&writer->seen, 0);
	writer->next = ptables->writers;
	ptables->writers = writer;
}

/*
 * Both sides store first and then look: either await_writers() finds the number
 * stored here, or this side finds the new epoch.
 */
unsigned ptables_begin(struct ptables *ptables, struct ptables_writer *writer)
{
	unsigned epoch = atomic_load(&ptables->epoch), before;

	do {
		before = epoch;
		atomic_store(&writer->seen, (uint64_t)epoch + 1);
		epoch = atomic_load(&ptables->epoch);
	} while (epoch != before);
	return epoch;
}

void ptables_seen(struct ptables_writer *writer, unsigned epoch)
{
	atomic_store_explicit(&writer->seen, (uint64_t)epoch + 1,
			      memory_order_release);
}

void ptables_end(struct ptables_writer *writer)
{
	atomic_store_explicit(&writer->seen, 0, memory_order_release);
}

/*
 * Waits until no writer uses an older epoch. Each writer looks at the epoch
 * before every instruction and waits for nobody, so the longest wait is for a
 * thread that the host does not run. The lock is held, so the epoch stays.
 */
static void await_writers(struct ptables *ptables)
{
	uint64_t now = (uint64_t)atomic_load(&ptables->epoch) + 1, seen;

	for (struct ptables_writer *w = ptables->writers; w; w = w->next) {
		while ((seen = atomic_load(&w->seen)) != 0 && seen != now)
			sched_yield();
	}
}

/* ---- following ----------------------------------------------------------- */

/* Counts down: tables that may still be looked at; up: those found. */
struct search {
	unsigned budget, found;
};

/*
 * Makes the table at GPA known, and all below it that are not yet. One that was
 * unlinked is looked at again: it has been found once more.
 */
static void follow(struct ptables *ptables, gpa_t gpa, unsigned level,
		   uint8_t top, struct search *search)
{
	_Atomic uint8_t *mark = slot(ptables, gpa);
	const uint64_t *t = table(ptables, gpa);
	uint8_t bits = (uint8_t)(1u << (level - 1) | top), value;

	if (!mark || !t || search->budget == 0)
		return;
	value = atomic_load_explicit(mark, memory_order_relaxed);
	if ((value & (bits | ORPHAN)) == bits)
		return;
	search->budget--;
	search->found++;
	atomic_store(mark, (uint8_t)((value | bits) & ~(READY | ORPHAN)));
	for (unsigned i = 0; i < entries(top); i++) {
		uint64_t entry = __atomic_load_n(&t[i], __ATOMIC_RELAXED);

		if (links(entry, level))
			follow(ptables, entry & PTE_ADDR, level - 1, 0, search);
	}
}

/*
 * Looks through the tables from GPA on once more, now that nobody but KVM
 * writes to them: what follow() has read of them may have changed until then.
 * False when there were others, to which that does not apply yet.
 */
static bool complete(struct ptables *ptables, gpa_t gpa, unsigned level,
		     uint8_t top, struct search *search)
{
	_Atomic uint8_t *mark = slot(ptables, gpa);
	const uint64_t *t = table(ptables, gpa);
	unsigned before = search->found;
	bool all = true;

	if (!mark || !t || search->budget == 0)
		return true;
	if (atomic_load_explicit(mark, memory_order_relaxed) & READY)
		return true;
	search->budget--;
	for (unsigned i = 0; level > 1 && i < entries(top); i++) {
		uint64_t entry = __atomic_load_n(&t[i], __ATOMIC_RELAXED);

		if (!links(entry, level))
			continue;
		follow(ptables, entry & PTE_ADDR, level - 1, 0, search);
		all &= complete(ptables, entry & PTE_ADDR, level - 1, 0,
				search);
	}
	if (!all || search->found != before)
		return false;
	atomic_fetch_or(mark, READY);
	return true;
}

static void changed(struct ptables *ptables)
{
	atomic_fetch_add(&ptables->epoch, 1);
}

void ptables_enter(struct ptables *ptables, uint64_t cr3, unsigned levels)
{
	const uint8_t known = TOP | READY;
	struct search search = {.budget = SCAN_TABLES_MAX};
	gpa_t top = cr3 & PTE_ADDR;
	_Atomic uint8_t *mark = slot(ptables, top);

	if (!mark || (atomic_load(mark) & known) == known)
		return;
	pthread_mutex_lock(&ptables->lock);
	follow(ptables, top, levels, TOP, &search);
	do {
		changed(ptables);
		await_writers(ptables);
	} while (!complete(ptables, top, levels, TOP, &search));
	/* Out of budget or not: the next time would find no more. */
	atomic_fetch_or(mark, known);
	pthread_mutex_unlock(&ptables->lock);
}

bool ptables_holds(struct ptables *ptables, gpa_t gpa)
{
	_Atomic uint8_t *mark = slot(ptables, gpa);

	return mark && atomic_load_explicit(mark, memory_order_relaxed) != 0;
}

/* ENTRY of the table that MARK is about; what it leads to is known after. */
static void link_entry(struct ptables *ptables, uint8_t mark, uint64_t entry)
{
	struct search search = {.budget = SCAN_TABLES_MAX};

	for (unsigned level = 2; level <= 5; level++) {
		if ((mark >> (level - 1) & 1) && links(entry, level))
			follow(ptables, entry & PTE_ADDR, level - 1, 0,
			       &search);
	}
	if (search.found > 0)
		changed(ptables);
}

/* MARK's entry at GPA counts: it is not in kernel mode's half. */
static bool counts(uint8_t mark, gpa_t gpa)
{
	return (gpa & (PAGE - 1)) / 8 < entries(mark);
}

/* The table that OLD led to may have lost its last link. */
static void unlinked(struct ptables *ptables, uint64_t old)
{
	gpa_t gpa = old & PTE_ADDR;
	_Atomic uint8_t *mark = slot(ptables, gpa);
	uint8_t value = mark ? atomic_load(mark) : 0;

	if (value == 0 || (value & TOP))
		return;
	atomic_store(mark, is_empty(ptables, gpa, value) ? 0 : value | ORPHAN);
}

static bool links_any(uint8_t mark, uint64_t entry)
{
	for (unsigned level = 2; level <= 5; level++) {
		if ((mark >> (level - 1) & 1) && links(entry, level))
			return true;
	}
	return false;
}

void ptables_writing(struct ptables *ptables, gpa_t gpa, uint64_t value)
{
	_Atomic uint8_t *mark = slot(ptables, gpa);
	uint8_t bits;

	if (!mark)
		return;
	bits = atomic_load(mark);
	if (!counts(bits, gpa) || !links_any(bits, value))
		return;
	/*
	 * Waits for nobody: a table that is linked is new, empty or known, and
	 * a writer that still writes to it does so before this vCPU may go on.
	 */
	pthread_mutex_lock(&ptables->lock);
	link_entry(ptables, bits, value);
	pthread_mutex_unlock(&ptables->lock);
}

/* KVM has written to the table at GPA: forgets it if it is none any more. */
static void page_written(struct ptables *ptables, gpa_t gpa)
{
	_Atomic uint8_t *mark = slot(ptables, gpa);
	uint8_t value = mark ? atomic_load(mark) : 0;

	/* The top of an address space that has ended has nothing below it. */
	if ((value & (TOP | ORPHAN)) && is_empty(ptables, gpa, value))
		atomic_store(mark, 0);
}

void ptables_written(struct ptables *ptables, gpa_t gpa, uint64_t bytes,
		     uint64_t old)
{
	uint64_t end = gpa + bytes;

	pthread_mutex_lock(&ptables->lock);
	for (uint64_t at = gpa; at < end; at += 8) {
		_Atomic uint8_t *mark = slot(ptables, at);
		uint8_t value = mark ? atomic_load(mark) : 0;
		uint64_t entry;

		if (value != 0 && counts(value, at)) {
			entry = ptables_entry(ptables, at);
			if (at == gpa && links_any(value, old) &&
			    (!(entry & PTE_P) || ((entry ^ old) & PTE_ADDR)))
				unlinked(ptables, old);
			link_entry(ptables, value, entry);
		}
		if (at + 8 >= end || ((at + 8) & (PAGE - 1)) == 0)
			page_written(ptables, at);
	}
	pthread_mutex_unlock(&ptables->lock);
}
