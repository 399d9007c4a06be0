/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interpreter on any code, registers, page tables and RAM: no access
 * outside the guest's RAM, an end within the budget, and the same result
 * whether it runs in one go, with its caches, or an instruction at a time.
 *
 * Input: 8 control bytes, 16 registers and 16 page table entries of 8 bytes,
 * then the code and what follows it in memory.
 */
#include "tests/interp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define BUDGET 600

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

/* What all at once and one at a time have to agree on. */
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static struct iguest guest[2]; /* kept: large to make anew */
	struct head head = {0};
	size_t n = min_u64(bytes, sizeof(head));

	for (unsigned i = 0; i < ARRAY_LEN(guest); i++) {
		if (!guest[i].in)
			check(ig_init(&guest[i]));
	}
	if (n > 0)
		memcpy(&head, data, n);
	for (unsigned i = 0; i < ARRAY_LEN(guest); i++)
		set_up(&guest[i], &head, data + n, bytes - n);
	if (head.control[0] & 1)
		once(&guest[0]);
	else
		twice(&guest[0], &guest[1]);
	return 0;
}
