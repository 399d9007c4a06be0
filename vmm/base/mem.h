/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest RAM: where it lies, and the only code that turns a guest-physical
 * address into a pointer. Every such turn takes a length and is checked.
 */
#ifndef VMM_BASE_MEM_H
#define VMM_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t gpa_t;

/* RAM ends here below 4 GiB; the rest continues at 4 GiB. Devices between. */
#define MEM_LOW_END    UINT64_C(0xc0000000)
#define MEM_HIGH_START UINT64_C(0x100000000)
#define MEM_MIN_BYTES  (UINT64_C(32) << 20)
#define MEM_MAX_BYTES  (UINT64_C(1) << 40)

struct mem_region {
	gpa_t base;
	uint64_t bytes;
	uint8_t *host; /* owned mapping, 2 MiB aligned */
};

struct mem {
	struct mem_region region[2];
	unsigned nregions;
	uint64_t bytes; /* of RAM in all */
};

struct mem_options {
	bool hugetlb;     /* MAP_HUGETLB pages; otherwise transparent ones */
	bool small_pages; /* of 4 KiB, as a file's are; not transparent ones */
	bool prefault;    /* touch every page before the guest starts */
	/*
	 * A file, borrowed, whose first bytes are the RAM's, one region after
	 * the other: its pages come as they are touched, and changes stay in
	 * this process. Only if `from_file`.
	 */
	int file_fd;
	bool from_file;
};

/*
 * Maps BYTES (a multiple of 4 KiB within MEM_MIN_BYTES..MEM_MAX_BYTES) of RAM,
 * zeroed or from a file. 0, -EINVAL, -ENOMEM (logged). mem_done() accepts what
 * a failed or missing mem_init() left of a zeroed struct.
 */
int mem_init(struct mem *mem, uint64_t bytes, const struct mem_options *opt);
void mem_done(struct mem *mem);
/* Does later what `prefault` does. 0 or -ENOMEM (logged). */
int mem_prefault(const struct mem *mem);

/*
 * Has RAM mapped as mem_init() does with `from_file`, from FILE_FD, which has
 * what RAM has: at the same addresses, with the same bytes, so that nobody who
 * knows the one or the other notices; but nobody may touch it meanwhile. Not
 * with `hugetlb`. 0, or -errno, not logged: it is as it was. -ENOTRECOVERABLE:
 * some of it is lost.
 */
int mem_remap(const struct mem *mem, int file_fd);

/*
 * Whether a process that is forked from this one has the RAM, as a copy that is
 * made page by page when either writes; at first it has not. 0 or -errno.
 */
int mem_inherit(const struct mem *mem, bool inherit);

/*
 * LEN bytes at GPA as a host pointer, or NULL unless all of them lie in one
 * region. The guest may change the bytes at any time: copy before checking.
 * LEN 0 is answered NULL. Any thread.
 */
void *mem_at(const struct mem *mem, gpa_t gpa, uint64_t len);

/* Copies out of or into guest RAM. 0 or -EFAULT, nothing copied. Any thread. */
int mem_read(const struct mem *mem, gpa_t gpa, void *buf, size_t len);
int mem_write(const struct mem *mem, gpa_t gpa, const void *buf, size_t len);

#endif
