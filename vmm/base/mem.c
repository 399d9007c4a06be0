/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest RAM as anonymous memory aligned to 2 MiB, so that the host can back it
 * with transparent huge pages: fewer nested page faults, and a kernel image is
 * copied in a few faults instead of thousands.
 */
#include "vmm/base/mem.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE (UINT64_C(2) * MIB)

/* Reserves more than needed and gives the unaligned ends back. */
static uint8_t *map_aligned(uint64_t bytes)
{
	const uint64_t span = bytes + HUGE_PAGE;
	uint8_t *raw = mmap(NULL, span, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t head;

	if (raw == MAP_FAILED)
		return NULL;
	head = align_up((uintptr_t)raw, HUGE_PAGE) - (uintptr_t)raw;
	if (head)
		munmap(raw, head);
	munmap(raw + head + bytes, span - head - bytes);
	return raw + head;
}

/* The file's pages are of 4 KiB: the host's are, in its cache. */
static int map_file(struct mem_region *region, const struct mem_options *opt,
		    uint64_t offset)
{
	region->host = map_aligned(region->bytes);
	if (!region->host ||
	    mmap(region->host, region->bytes, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, opt->file_fd,
		 (off_t)offset) == MAP_FAILED)
		return log_ret(-ENOMEM,
			       "cannot map %llu MiB of saved memory: %s",
			       (unsigned long long)(region->bytes / MIB),
			       strerror(errno));
	return 0;
}

static int map_anonymous(struct mem_region *region,
			 const struct mem_options *opt)
{
	if (opt->hugetlb) {
		if (region->bytes % HUGE_PAGE)
			return log_ret(-EINVAL,
				       "--hugetlb: the memory size has to be "
				       "a multiple of 2M");
		region->host =
			mmap(NULL, region->bytes, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
		if (region->host == MAP_FAILED) {
			region->host = NULL;
			return log_ret(
				-ENOMEM,
				"--hugetlb: %llu MiB of huge pages are not "
				"available: raise /proc/sys/vm/nr_hugepages",
				(unsigned long long)(region->bytes / MIB));
		}
	} else {
		region->host = map_aligned(region->bytes);
		if (!region->host)
			return log_ret(
				-ENOMEM,
				"cannot map %llu MiB of guest memory: "
				"%s: use a smaller --memory",
				(unsigned long long)(region->bytes / MIB),
				strerror(errno));
		if (opt->small_pages)
			return 0;
		/* A host without huge pages still works, only slower. */
		(void)madvise(region->host, region->bytes, MADV_HUGEPAGE);
		/*
		 * A guest uses a few pages of the lowest 2 MiB: our tables, a
		 * trampoline. For these the host would zero a whole huge page.
		 */
		if (region->base == 0)
			(void)madvise(region->host, HUGE_PAGE, MADV_NOHUGEPAGE);
	}
	return 0;
}

static void keep_private(uint8_t *host, uint64_t bytes)
{
	/* The guest's memory is not part of the monitor's core dump. */
	(void)madvise(host, bytes, MADV_DONTDUMP);
	/*
	 * Nor of processes that devices start: with two owners each page would
	 * fault again, and be copied, when the guest writes to it. See
	 * mem_inherit().
	 */
	(void)madvise(host, bytes, MADV_DONTFORK);
}

/* OFFSET: where the region begins in the file, if there is one. */
static int map_region(struct mem_region *region, const struct mem_options *opt,
		      uint64_t offset)
{
	const int r = opt->from_file ? map_file(region, opt, offset)
				     : map_anonymous(region, opt);

	if (r < 0)
		return r;
	keep_private(region->host, region->bytes);
	return 0;
}

int mem_prefault(const struct mem *mem)
{
	for (unsigned i = 0; i < mem->nregions; i++) {
		const struct mem_region *region = &mem->region[i];

		if (madvise(region->host, region->bytes, MADV_POPULATE_WRITE) <
		    0)
			return log_ret(
				-ENOMEM, "--prefault: %llu MiB: %s",
				(unsigned long long)(region->bytes / MIB),
				strerror(errno));
	}
	return 0;
}

int mem_init(struct mem *mem, uint64_t bytes, const struct mem_options *opt)
{
	uint64_t low = min_u64(bytes, MEM_LOW_END);
	int r = 0;

	*mem = (struct mem){0};
	if (bytes < MEM_MIN_BYTES || bytes > MEM_MAX_BYTES || bytes % 4096)
		return log_ret(-EINVAL,
			       "%llu bytes of memory: it has to be between 32M "
			       "and 1T, in whole pages of 4K",
			       (unsigned long long)bytes);
	mem->region[0] = (struct mem_region){.base = 0, .bytes = low};
	mem->region[1] = (struct mem_region){.base = MEM_HIGH_START,
					     .bytes = bytes - low};
	mem->nregions = bytes > low ? 2 : 1;
	mem->bytes = bytes;
	for (unsigned i = 0; r == 0 && i < mem->nregions; i++)
		r = map_region(&mem->region[i], opt, i == 0 ? 0 : low);
	if (r == 0 && opt->prefault)
		r = mem_prefault(mem);
	if (r < 0)
		mem_done(mem);
	return r;
}

void mem_done(struct mem *mem)
{
	for (unsigned i = 0; i < ARRAY_LEN(mem->region); i++) {
		if (mem->region[i].host)
			munmap(mem->region[i].host, mem->region[i].bytes);
	}
	*mem = (struct mem){0};
}

/*
 * The file is mapped elsewhere first, and moved when all of it is there: mmap()
 * by MAP_FIXED takes away what was there even where it fails.
 */
int mem_remap(const struct mem *mem, int file_fd)
{
	uint8_t *from[ARRAY_LEN(mem->region)] = {NULL};
	uint64_t offset = 0;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < mem->nregions; i++) {
		const uint64_t bytes = mem->region[i].bytes;

		from[i] = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_NORESERVE, file_fd,
			       (off_t)offset);
		if (from[i] == MAP_FAILED) {
			from[i] = NULL;
			r = -errno;
		} else
			keep_private(from[i], bytes);
		offset += bytes;
	}
	for (unsigned i = 0; i < mem->nregions; i++) {
		const struct mem_region *region = &mem->region[i];

		if (r == 0 && mremap(from[i], region->bytes, region->bytes,
				     MREMAP_MAYMOVE | MREMAP_FIXED,
				     region->host) != MAP_FAILED)
			continue;
		if (from[i])
			munmap(from[i], region->bytes);
		r = r < 0 ? r : -ENOTRECOVERABLE;
	}
	return r;
}

int mem_inherit(const struct mem *mem, bool inherit)
{
	const int advice = inherit ? MADV_DOFORK : MADV_DONTFORK;
	int r = 0;

	for (unsigned i = 0; i < mem->nregions; i++) {
		const struct mem_region *region = &mem->region[i];

		if (madvise(region->host, region->bytes, advice) < 0)
			r = -errno;
	}
	return r;
}

void *mem_at(const struct mem *mem, gpa_t gpa, uint64_t len)
{
	for (unsigned i = 0; i < mem->nregions; i++) {
		const struct mem_region *region = &mem->region[i];

		if (len > 0 && gpa >= region->base &&
		    range_fits(gpa - region->base, len, region->bytes))
			return region->host + (gpa - region->base);
	}
	return NULL;
}

int mem_read(const struct mem *mem, gpa_t gpa, void *buf, size_t len)
{
	const void *from = mem_at(mem, gpa, len);

	if (!from)
		return -EFAULT;
	memcpy(buf, from, len);
	return 0;
}

int mem_write(const struct mem *mem, gpa_t gpa, const void *buf, size_t len)
{
	void *to = mem_at(mem, gpa, len);

	if (!to)
		return -EFAULT;
	memcpy(to, buf, len);
	return 0;
}
