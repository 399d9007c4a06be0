/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A table of the shared tree's objects by the numbers that the guest knows them
 * by: a number that the guest made up leads to nothing.
 */
#include "devices/fs/fs-parts.h"

#include <errno.h>
#include <stdlib.h>

#define FIRST_SLOTS 64

/*
 * A free slot holds the number of the next free one, as a pointer that is
 * odd: objects are not.
 */
static void *free_link(uint32_t next)
{
	return (void *)((uintptr_t)next << 1 | 1);
}

static bool is_free_link(const void *object)
{
	return (uintptr_t)object & 1;
}

static int grow(struct fs_table *table)
{
	const uint32_t count = table->count ? 2 * table->count : FIRST_SLOTS;
	const size_t more = (count - table->count) * sizeof(void *);
	void **slot;

	if (!fs_take(table->bytes, more))
		return -1;
	slot = reallocarray(table->slot, count, sizeof(void *));
	if (!slot) {
		fs_give(table->bytes, more);
		return -1;
	}
	/* Slot 0 is never used: it ends the list. */
	for (uint32_t i = count - 1; i >= table->count && i > 0; i--) {
		slot[i] = free_link(table->free);
		table->free = i;
	}
	slot[0] = free_link(0);
	table->slot = slot;
	table->count = count;
	return 0;
}

uint32_t fs_table_add(struct fs_table *table, void *object)
{
	const uint32_t i = table->free;

	if (!i)
		return grow(table) < 0 ? 0 : fs_table_add(table, object);
	table->free = (uint32_t)((uintptr_t)table->slot[i] >> 1);
	table->slot[i] = object;
	return i;
}

void fs_table_del(struct fs_table *table, uint32_t i)
{
	table->slot[i] = free_link(table->free);
	table->free = i;
}

int fs_table_place(struct fs_table *table, uint32_t i, void *object)
{
	if (i == 0 || i >= 1u << FS_ID_BITS)
		return -EINVAL;
	while (i >= table->count) {
		if (grow(table) < 0)
			return -ENOMEM;
	}
	if (!is_free_link(table->slot[i]))
		return -EINVAL;
	table->slot[i] = object;
	return 0;
}

void fs_table_relink(struct fs_table *table)
{
	table->free = 0;
	for (uint32_t i = table->count; i-- > 1;) {
		if (is_free_link(table->slot[i]))
			fs_table_del(table, i);
	}
}

void *fs_table_get(const struct fs_table *table, uint32_t i)
{
	void *object = i < table->count ? table->slot[i] : free_link(0);

	return is_free_link(object) ? NULL : object;
}

void fs_table_shrink(struct fs_table *table)
{
	const uint32_t before = table->count;
	void **slot;

	if (before <= FIRST_SLOTS)
		return;
	slot = reallocarray(table->slot, FIRST_SLOTS, sizeof(void *));
	if (slot)
		table->slot = slot;
	table->count = FIRST_SLOTS;
	fs_give(table->bytes, (before - FIRST_SLOTS) * sizeof(void *));
	fs_table_relink(table);
}

void fs_table_done(struct fs_table *table)
{
	if (table->slot)
		fs_give(table->bytes, table->count * sizeof(void *));
	free(table->slot);
	*table = (struct fs_table){0};
}
