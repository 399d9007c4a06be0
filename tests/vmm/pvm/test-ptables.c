/* SPDX-License-Identifier: Apache-2.0 */
/* Which frames are user mode's page tables: linked, unlinked, hostile. */
#include "vmm/pvm/ptables.h"

#include "vmm/base/util.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define TABLE    UINT64_C(0x07) /* present, writable, user */
#define LARGE    UINT64_C(0x80)
#define TOP_GPA  UINT64_C(0x100000)
#define NEXT_GPA UINT64_C(0x101000)
#define PMD_GPA  UINT64_C(0x102000)
#define PTE_GPA  UINT64_C(0x103000)
#define DATA_GPA UINT64_C(0x200000)
#define MORE_GPA UINT64_C(0x104000)

struct guest {
	struct mem mem;
	struct ptables ptables;
	struct ptables_writer writer;
	atomic_bool entered;
};

static void put(struct guest *g, gpa_t table, unsigned index, uint64_t value)
{
	assert_int_equal(mem_write(&g->mem, table + index * 8, &value, 8), 0);
}

/* As KVM does it: the write, then what follows from it. */
static void kvm_put(struct guest *g, gpa_t table, unsigned index,
		    uint64_t value)
{
	uint64_t old = ptables_entry(&g->ptables, table + index * 8);

	put(g, table, index, value);
	ptables_written(&g->ptables, table + index * 8, 8, old);
}

static int setup(void **state)
{
	const struct mem_options none = {0};
	struct guest *g = calloc(1, sizeof(*g));

	if (!g || mem_init(&g->mem, 32 * MIB, &none) < 0 ||
	    ptables_init(&g->ptables, &g->mem) < 0)
		return -1;
	put(g, TOP_GPA, 0, NEXT_GPA | TABLE);
	put(g, NEXT_GPA, 3, PMD_GPA | TABLE);
	put(g, PMD_GPA, 5, PTE_GPA | TABLE);
	put(g, PTE_GPA, 7, DATA_GPA | TABLE);
	*state = g;
	return 0;
}

static int teardown(void **state)
{
	struct guest *g = *state;

	ptables_done(&g->ptables);
	mem_done(&g->mem);
	free(g);
	return 0;
}

static void test_known_once_entered(void **state)
{
	struct guest *g = *state;
	unsigned epoch = g->ptables.epoch;

	assert_false(ptables_holds(&g->ptables, TOP_GPA));
	ptables_enter(&g->ptables, TOP_GPA | 0xfff, 4); /* low bits: PCID */
	assert_true(g->ptables.epoch != epoch);
	assert_true(ptables_holds(&g->ptables, TOP_GPA + 8));
	assert_true(ptables_holds(&g->ptables, NEXT_GPA));
	assert_true(ptables_holds(&g->ptables, PMD_GPA + 0xff8));
	assert_true(ptables_holds(&g->ptables, PTE_GPA));
	assert_false(ptables_holds(&g->ptables, DATA_GPA));
	assert_false(ptables_holds(&g->ptables, UINT64_MAX));
}

static void test_kernel_half_and_large_pages(void **state)
{
	struct guest *g = *state;

	put(g, TOP_GPA, 256, UINT64_C(0x300000) | TABLE);
	put(g, PMD_GPA, 6, UINT64_C(0x400000) | TABLE | LARGE);
	put(g, NEXT_GPA, 4, UINT64_C(0x500000) | TABLE | LARGE);
	ptables_enter(&g->ptables, TOP_GPA, 4);
	assert_false(ptables_holds(&g->ptables, UINT64_C(0x300000)));
	assert_false(ptables_holds(&g->ptables, UINT64_C(0x400000)));
	assert_false(ptables_holds(&g->ptables, UINT64_C(0x500000)));
}

static void test_linking(void **state)
{
	struct guest *g = *state;
	const gpa_t added = UINT64_C(0x104000);

	ptables_enter(&g->ptables, TOP_GPA, 4);
	kvm_put(g, PTE_GPA, 8, added | TABLE); /* a page, not a table */
	assert_false(ptables_holds(&g->ptables, added));
	kvm_put(g, PMD_GPA, 6, added | TABLE);
	assert_true(ptables_holds(&g->ptables, added));
}

static void test_unlinking(void **state)
{
	struct guest *g = *state;

	ptables_enter(&g->ptables, TOP_GPA, 4);
	kvm_put(g, PTE_GPA, 7, 0);
	assert_true(
		ptables_holds(&g->ptables, PTE_GPA)); /* empty, but linked */
	kvm_put(g, PMD_GPA, 5, 0);
	assert_false(ptables_holds(&g->ptables, PTE_GPA));
	/* With something in it KVM's shadow is not empty: kept until it is. */
	kvm_put(g, NEXT_GPA, 3, UINT64_C(0x105000) | TABLE);
	kvm_put(g, UINT64_C(0x105000), 1, PTE_GPA | TABLE);
	kvm_put(g, NEXT_GPA, 3, 0);
	assert_true(ptables_holds(&g->ptables, UINT64_C(0x105000)));
	kvm_put(g, UINT64_C(0x105000), 1, 0);
	assert_false(ptables_holds(&g->ptables, UINT64_C(0x105000)));
}

static void test_end_of_address_space(void **state)
{
	struct guest *g = *state;

	put(g, TOP_GPA, 300, UINT64_C(0x300000) | TABLE); /* the kernel's */
	ptables_enter(&g->ptables, TOP_GPA, 4);
	kvm_put(g, TOP_GPA, 0, 0);
	assert_false(ptables_holds(&g->ptables, TOP_GPA));
	/* Whatever a device puts there next, it is no table. */
	put(g, TOP_GPA, 1, MORE_GPA | TABLE);
	assert_false(ptables_holds(&g->ptables, TOP_GPA));
}

/* Another vCPU may see and use the link before this one is out of KVM. */
static void test_known_before_linked(void **state)
{
	struct guest *g = *state;

	put(g, MORE_GPA, 3, DATA_GPA | TABLE);
	ptables_writing(&g->ptables, PMD_GPA + 48, MORE_GPA | TABLE);
	assert_false(
		ptables_holds(&g->ptables, MORE_GPA)); /* no table's entry */
	ptables_enter(&g->ptables, TOP_GPA, 4);
	ptables_writing(&g->ptables, PTE_GPA + 48, MORE_GPA | TABLE);
	ptables_writing(&g->ptables, TOP_GPA + 2400, MORE_GPA | TABLE);
	ptables_writing(&g->ptables, PMD_GPA + 48, MORE_GPA | TABLE | LARGE);
	assert_false(ptables_holds(&g->ptables, MORE_GPA));
	ptables_writing(&g->ptables, PMD_GPA + 48, MORE_GPA | TABLE);
	assert_true(ptables_holds(&g->ptables, MORE_GPA));
	assert_false(ptables_holds(&g->ptables, DATA_GPA));
}

/* Moved with what is in it, as mremap() does. */
static void test_linked_again(void **state)
{
	struct guest *g = *state;

	ptables_enter(&g->ptables, TOP_GPA, 4);
	kvm_put(g, PMD_GPA, 5, 0);
	assert_true(ptables_holds(&g->ptables, PTE_GPA));
	kvm_put(g, PMD_GPA, 6, PTE_GPA | TABLE);
	kvm_put(g, PTE_GPA, 7, 0);
	assert_true(ptables_holds(&g->ptables, PTE_GPA));
	kvm_put(g, PMD_GPA, 6, 0);
	assert_false(ptables_holds(&g->ptables, PTE_GPA));
}

static void *enter(void *arg)
{
	struct guest *g = arg;

	ptables_enter(&g->ptables, TOP_GPA, 4);
	atomic_store(&g->entered, true);
	return NULL;
}

/* An interpreter within an instruction, by what it knew before. */
static void test_writer_has_to_see(void **state)
{
	struct guest *g = *state;
	pthread_t thread;
	unsigned epoch;

	ptables_join(&g->ptables, &g->writer);
	epoch = ptables_begin(&g->ptables, &g->writer);
	assert_false(ptables_holds(&g->ptables, PMD_GPA));
	assert_int_equal(pthread_create(&thread, NULL, enter, g), 0);
	while (g->ptables.epoch == epoch)
		sched_yield();
	put(g, PMD_GPA, 6, MORE_GPA | TABLE);
	for (int i = 0; i < 1000; i++) {
		assert_false(g->entered);
		sched_yield();
	}
	/* MORE_GPA is found after this, which needs another round. */
	ptables_seen(&g->writer, g->ptables.epoch);
	while (!ptables_holds(&g->ptables, MORE_GPA))
		sched_yield();
	ptables_end(&g->writer);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(g->entered);
	assert_true(ptables_holds(&g->ptables, PTE_GPA));
}

static void test_hostile_links(void **state)
{
	struct guest *g = *state;

	/* Every entry of every level leads to the same table, and beyond RAM.
	 */
	for (unsigned i = 0; i < 512; i++)
		put(g, TOP_GPA, i,
		    (i & 1 ? TOP_GPA : UINT64_MAX << 12) | TABLE);
	ptables_enter(&g->ptables, TOP_GPA, 5);
	ptables_enter(&g->ptables, UINT64_MAX, 4);
	ptables_written(&g->ptables, TOP_GPA, 8192, UINT64_MAX);
	ptables_written(&g->ptables, UINT64_MAX & ~UINT64_C(7), 8, 0);
	assert_true(ptables_entry(&g->ptables, UINT64_MAX) == 0);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_known_once_entered),
		CASE(test_kernel_half_and_large_pages),
		CASE(test_linking),
		CASE(test_unlinking),
		CASE(test_end_of_address_space),
		CASE(test_known_before_linked),
		CASE(test_linked_again),
		CASE(test_writer_has_to_see),
		CASE(test_hostile_links),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
