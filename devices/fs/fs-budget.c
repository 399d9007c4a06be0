/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory and descriptors that all shares of one VM may have together,
 * whichever of them the guest asks.
 */
#include "devices/fs/fs-parts.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <sys/resource.h>

/* Descriptors that are kept for the rest of the monitor. */
#define OTHERS_LEAST 256
#define OTHERS_MOST  2048

/* Fewer files for each share are worth a word. */
#define FILES_LEAST 8

#define PATHS_MAX 8192 /* of one share; more would be memory, not speed */

static void divide(struct fs_purse *purse, uint64_t total, unsigned shares)
{
	*purse = (struct fs_purse){.each = total / 2 / shares};
	purse->left = total - purse->each * shares;
}

/* As many as the host allows, but for what others need. */
static uint64_t descriptors(void)
{
	struct rlimit limit = {.rlim_cur = 1024, .rlim_max = 1024};
	uint64_t others;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
	    limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
			(void)getrlimit(RLIMIT_NOFILE, &limit);
	}
	others = min_u64(limit.rlim_cur / 4, OTHERS_MOST);
	if (others < OTHERS_LEAST)
		others = min_u64(OTHERS_LEAST, limit.rlim_cur / 2);
	return limit.rlim_cur - others;
}

void fs_budget_init(struct fs_budget *budget, uint64_t ram_bytes,
		    unsigned shares)
{
	budget->all_files = descriptors();
	fs_budget_again(budget, ram_bytes, shares);
}

void fs_budget_again(struct fs_budget *budget, uint64_t ram_bytes,
		     unsigned shares)
{
	const uint64_t fds = budget->all_files;
	uint64_t paths = min_u64(fds / 4 / shares, PATHS_MAX);
	uint64_t files;

	if (paths < FS_PATHS_MIN)
		paths = FS_PATHS_MIN;
	budget->paths = (unsigned)paths;
	paths *= shares;
	files = fds > paths ? fds - paths : 0;
	if (files < FILES_LEAST * (uint64_t)shares)
		log_warn("%u shared directories: their guest can have only "
			 "%llu files open in all of them, as this process may "
			 "open few: raise its limit (ulimit -Hn), or share "
			 "fewer",
			 shares, (unsigned long long)files);
	divide(&budget->files, files, shares);
	divide(&budget->bytes, ram_bytes / 4, shares);
}

/* How much of AMOUNT a share takes from the part that is for all of them. */
static uint64_t above(const struct fs_purse_part *part, uint64_t amount)
{
	return amount > part->purse->each ? amount - part->purse->each : 0;
}

bool fs_take(struct fs_purse_part *part, uint64_t amount)
{
	struct fs_purse *purse = part->purse;
	const uint64_t used = part->used + amount;
	const uint64_t need = above(part, used) - above(part, part->used);
	uint64_t left;

	if (need > 0) {
		left = __atomic_load_n(&purse->left, __ATOMIC_RELAXED);
		do {
			if (left < need)
				return false;
		} while (!__atomic_compare_exchange_n(
			&purse->left, &left, left - need, true,
			__ATOMIC_RELAXED, __ATOMIC_RELAXED));
	}
	part->used = used;
	return true;
}

void fs_give(struct fs_purse_part *part, uint64_t amount)
{
	const uint64_t used = part->used - amount;
	const uint64_t back = above(part, part->used) - above(part, used);

	part->used = used;
	if (back > 0)
		__atomic_fetch_add(&part->purse->left, back, __ATOMIC_RELAXED);
}

void *fs_alloc(struct fs *fs, size_t bytes)
{
	void *memory = NULL;

	if (!fs_take(&fs->bytes, bytes + FS_ALLOC))
		return NULL;
	memory = calloc(1, bytes);
	if (!memory)
		fs_give(&fs->bytes, bytes + FS_ALLOC);
	return memory;
}

void fs_free(struct fs *fs, void *memory, size_t bytes)
{
	if (memory)
		fs_give(&fs->bytes, bytes + FS_ALLOC);
	free(memory);
}
