/* SPDX-License-Identifier: Apache-2.0 */
/* A sorted array of ranges and a binary search: lock-free once frozen. */
#include "vmm/base/bus.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

static bool before(const struct bus_range *r, enum bus_space space,
		   uint64_t addr)
{
	return r->space != space ? r->space < space : r->base <= addr;
}

/* How many ranges start at or before ADDR: the last of them may hold it. */
static unsigned upper_bound(const struct bus *bus, enum bus_space space,
			    uint64_t addr)
{
	unsigned low = 0, high = bus->nranges;

	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (before(&bus->range[middle], space, addr))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int bus_add(struct bus *bus, enum bus_space space, uint64_t base, uint64_t len,
	    const struct bus_ops *ops, void *dev)
{
	unsigned at = upper_bound(bus, space, base);
	const struct bus_range *prev = at ? &bus->range[at - 1] : NULL;
	const struct bus_range *next =
		at < bus->nranges ? &bus->range[at] : NULL;

	assert(!bus->frozen && len > 0);
	if (bus->nranges == BUS_MAX_RANGES)
		return -ENOSPC;
	if (prev && prev->space == space && base - prev->base < prev->len)
		return -EEXIST;
	if (next && next->space == space && next->base - base < len)
		return -EEXIST;
	memmove(&bus->range[at + 1], &bus->range[at],
		(bus->nranges - at) * sizeof(bus->range[0]));
	bus->range[at] = (struct bus_range){space, base, len, ops, dev};
	bus->nranges++;
	return 0;
}

void bus_freeze(struct bus *bus)
{
	bus->frozen = true;
}

static const struct bus_range *find(const struct bus *bus, enum bus_space space,
				    uint64_t addr, unsigned len)
{
	unsigned at = upper_bound(bus, space, addr);
	const struct bus_range *r = at ? &bus->range[at - 1] : NULL;

	if (!r || r->space != space || addr - r->base >= r->len ||
	    len > r->len - (addr - r->base))
		return NULL;
	return r;
}

void bus_read(const struct bus *bus, enum bus_space space, uint64_t addr,
	      void *buf, unsigned len)
{
	const struct bus_range *r = find(bus, space, addr, len);

	memset(buf, 0xff, len);
	if (r && r->ops->read)
		r->ops->read(r->dev, addr - r->base, buf, len);
}

void bus_write(const struct bus *bus, enum bus_space space, uint64_t addr,
	       const void *buf, unsigned len)
{
	const struct bus_range *r = find(bus, space, addr, len);

	if (r && r->ops->write)
		r->ops->write(r->dev, addr - r->base, buf, len);
}
