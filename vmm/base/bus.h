/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which device answers at a port or a guest-physical address. Filled while the
 * VM is built, frozen before the first KVM_RUN, so that vCPU threads look up
 * without a lock.
 */
#ifndef VMM_BASE_BUS_H
#define VMM_BASE_BUS_H

#include <stdbool.h>
#include <stdint.h>

#define BUS_MAX_RANGES 96

enum bus_space { BUS_PORT, BUS_MMIO };

/*
 * A device's handlers, on the thread of the vCPU that made the access. OFF is
 * relative to the range's start and OFF + LEN is within it; LEN is 1, 2, 4 or
 * 8. BUF is little-endian guest data. A handler locks what it needs, never
 * blocks on I/O, and never trusts what it is given.
 */
struct bus_ops {
	const char *name;
	void (*read)(void *dev, uint64_t off, void *buf, unsigned len);
	void (*write)(void *dev, uint64_t off, const void *buf, unsigned len);
};

struct bus_range {
	enum bus_space space;
	uint64_t base, len;
	const struct bus_ops *ops;
	void *dev; /* borrowed */
};

struct bus {
	struct bus_range range[BUS_MAX_RANGES]; /* sorted by space, base */
	unsigned nranges;
	bool frozen;
};

/* 0, -EEXIST (overlap), -ENOSPC. While the VM is built. */
int bus_add(struct bus *bus, enum bus_space space, uint64_t base, uint64_t len,
	    const struct bus_ops *ops, void *dev);
void bus_freeze(struct bus *bus);

/*
 * One access of the guest's. Where no device answers, or LEN crosses a range's
 * end, reads give all ones and writes vanish, as on a PC. Any vCPU thread.
 */
void bus_read(const struct bus *bus, enum bus_space space, uint64_t addr,
	      void *buf, unsigned len);
void bus_write(const struct bus *bus, enum bus_space space, uint64_t addr,
	       const void *buf, unsigned len);

#endif
