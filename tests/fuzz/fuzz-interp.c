/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interpreter on any code, registers, page tables and RAM: no access
 * outside the guest's RAM, an end within the budget, and the same result
 * whether it runs in one go, with its caches, or an instruction at a time. And
 * with page tables of user mode anywhere: no write to them, and no effect of
 * finding out what would be written.
 *
 * Input: 8 control bytes, 16 registers and 16 page table entries of 8 bytes,
 * then the code and what follows it in memory.
 */
#include "tests/interp.h"

#include "vmm/pvm/ptables.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define BUDGET 3000

struct head {
	uint8_t control[8];
	uint64_t r[16], pte[16];
};

static void check(bool condition)
{
	if (!condition)
		abort();
}

static void set_up(struct iguest *g, const struct head *head,
		   const uint8_t *code, size_t n)
{
	/* Some inputs leave the page tables to the guest, too. */
	bool own_tables = head->control[0] & 1;
	uint64_t r[16];

	memset(g->ram, 0, IG_RAM + IG_PAGES * 4096);
	ig_map(g);
	for (unsigned i = 0; i < 16; i++) {
		uint64_t pte = head->pte[i];

		/* Small numbers: pages that may be mapped. */
		r[i] = head->r[i] >> 56 ? head->r[i]
					: IG_VA + (head->r[i] & 0xffff);
		if (pte && !own_tables)
			pte = (IG_RAM + (pte & 0xf000)) |
			      (pte & UINT64_C(0x8000000000000007));
		if (pte)
			*ig_pte(g, IG_VA + i * 4096) = pte;
	}
	ig_set(&g->regs, r);
	g->regs.rip = IG_VA + head->control[1] * 16u;
	g->regs.rflags =
		2 | (head->control[2] & 0xd5) | (head->control[3] & 0xeu) << 8;
	g->sregs.fs.base = r[14];
	g->sregs.gs.base = r[15];
	g->sregs.cr4 |= head->control[0] & 2 ? UINT64_C(0x200000) : 0;
	g->sregs.cr0 ^= head->control[0] & 4 ? UINT64_C(0x10000) : 0;
	if (own_tables && (head->control[0] & 8))
		g->sregs.cr3 = head->pte[0];
	memcpy(ig_at(g, g->regs.rip), code, min_u64(n, 0xe000));
}

/* A bound on RAM and time is all that can be said of most inputs. */
static void once(struct iguest *g)
{
	struct kvm_regs before = g->regs;
	uint64_t done = ig_run(g, BUDGET);

	check(done <= BUDGET);
	if (done == 0)
		check(memcmp(&before, &g->regs, sizeof(before)) == 0);
	check((g->regs.rflags & 0x20102) == 2); /* VM, TF */
}

/* The state on which running all at once and one at a time have to agree. */
static void twice(struct iguest *g, struct iguest *slow)
{
	uint64_t done = ig_run(g, BUDGET);

	check(done <= BUDGET);
	for (uint64_t i = 0; i < done; i++)
		check(ig_run(slow, 1) == 1);
	check(memcmp(&g->regs, &slow->regs, sizeof(g->regs)) == 0);
	check(memcmp(g->ram + IG_RAM, slow->ram + IG_RAM, IG_PAGES * 4096) ==
	      0);
}

/* The write that KVM would make to a page table, where that is known. */
static void write_held(struct iguest *g, struct ptables *ptables)
{
	struct interp_write held = *interp_held(g->in);
	uint64_t old;

	if (held.gpa == UINT64_MAX)
		return;
	check(mem_at(&g->mem, held.gpa, 1) != NULL);
	held.bytes += held.gpa & 7;
	held.gpa &= ~UINT64_C(7);
	old = ptables_entry(ptables, held.gpa);
	if (held.known) {
		ptables_writing(ptables, held.gpa, held.value);
		check(mem_write(&g->mem, held.gpa, &held.value, 8) == 0);
	}
	ptables_written(ptables, held.gpa, held.bytes, old);
}

/* COPY: room for one of the RAM. */
static void with_tables(struct iguest *g, struct ptables *ptables,
			uint8_t *copy, const struct head *head)
{
	struct kvm_regs before;

	memset(ptables->level, 0, IG_BYTES / 4096);
	ptables_enter(ptables, IG_RAM + (head->control[4] & 15) * 4096u,
		      head->control[4] & 0x10 ? 5 : 4);
	for (unsigned i = 0; i < 4; i++) {
		uint64_t done = ig_run(g, head->control[5] * 8);

		/* Up to 64 more, as one repeated. */
		check(done <= head->control[5] * 8 + 64u);
		before = g->regs;
		memcpy(copy, g->ram + IG_RAM, IG_PAGES * 4096);
		check(ig_run(g, 0) == 0);
		check(memcmp(&before, &g->regs, sizeof(before)) == 0);
		if (!(head->control[0] & 1))
			check(memcmp(copy, g->ram + IG_RAM, IG_PAGES * 4096) ==
			      0);
		write_held(g, ptables);
	}
}

static void init_with_tables(struct iguest *g, struct ptables *ptables)
{
	check(ig_init(g));
	interp_free(g->in);
	check(ptables_init(ptables, &g->mem) == 0);
	g->in = interp_new(&g->mem, ptables);
	check(g->in != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static struct iguest guest[2], tables; /* kept: large to make anew */
	static struct ptables ptables;
	static uint8_t copy[IG_PAGES * 4096];
	struct head head = {0};
	size_t n = min_u64(bytes, sizeof(head));

	for (unsigned i = 0; i < ARRAY_LEN(guest); i++) {
		if (!guest[i].in)
			check(ig_init(&guest[i]));
	}
	if (!tables.in)
		init_with_tables(&tables, &ptables);
	if (n > 0)
		memcpy(&head, data, n);
	if (head.control[0] & 0x10) {
		set_up(&tables, &head, data + n, bytes - n);
		with_tables(&tables, &ptables, copy, &head);
		return 0;
	}
	for (unsigned i = 0; i < ARRAY_LEN(guest); i++)
		set_up(&guest[i], &head, data + n, bytes - n);
	if (head.control[0] & 1)
		once(&guest[0]);
	else
		twice(&guest[0], &guest[1]);
	return 0;
}
